//! Words and paths in the syntaxes of systemd: `.nspawn` files, nspawn's arguments, unit files.

use camino::Utf8Path;

/// Why a text cannot be written where it belongs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?}: {why}")]
pub struct Unwritable {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub why: &'static str,
}

/// A word of a list in a settings file, quoted where it has to be.
pub(crate) fn settings_word(word: &str) -> String {
    // At a line's end a backslash would continue it.
    let plain = |character: char| !matches!(character, ' ' | '\t' | '"' | '\'' | '\\');
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    match (word.contains('"'), word.contains('\'')) {
        (false, _) => format!("\"{word}\""),
        (true, false) => format!("'{word}'"),
        // Quoted parts side by side are one word.
        (true, true) => word
            .split_inclusive('"')
            .map(|part| match part.strip_suffix('"') {
                Some(before) => format!("\"{before}\"'\"'"),
                None => format!("\"{part}\""),
            })
            .collect(),
    }
}

/// The text, if it can be part of one line.
pub(super) fn line_safe(text: &str) -> Result<&str, Unwritable> {
    if text.contains(|character: char| character.is_control() && character != '\t') {
        return Err(Unwritable { text: text.to_owned(), why: "has a control character in it" });
    }
    Ok(text)
}

/// A path as part of a mount's description, where a colon separates.
pub(crate) fn mount_path(path: &Utf8Path) -> Result<String, Unwritable> {
    let text = path.as_str();
    let refuse = |why| Err(Unwritable { text: text.to_owned(), why });
    if !text.starts_with('/') {
        return refuse("not an absolute path");
    }
    if text.contains(char::is_control) {
        return refuse("has a control character in it");
    }
    // It would be stripped off a line's end.
    if text.ends_with(' ') {
        return refuse("ends with a blank");
    }
    Ok(text.replace('\\', "\\\\").replace(':', "\\:"))
}

/// A word of a rule in a unit file (systemd.syntax(7)): quotes, specifiers and backslashes mean themselves.
pub(super) fn unit_word(word: &str) -> Result<String, Unwritable> {
    let escaped = line_safe(word)?.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
    let plain = |character: char| !matches!(character, ' ' | '\t' | '\'' | '"' | '\\' | ';');
    Ok(if !word.is_empty() && word.chars().all(plain) { escaped } else { format!("\"{escaped}\"") })
}

/// A word of a command in a unit file (systemd.service(5)): variables mean themselves too.
pub(super) fn command_word(word: &str) -> Result<String, Unwritable> {
    Ok(unit_word(word)?.replace('$', "$$"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_are_quoted_where_they_must_be() {
        let cases = [
            ("plain", "A=b", "A=b"),
            ("empty", "", "\"\""),
            ("a blank", "A=b c", "\"A=b c\""),
            ("a quote", "A=\"b\"", "'A=\"b\"'"),
            ("an apostrophe", "it's", "\"it's\""),
            ("both", "a\"b'c", "\"a\"'\"'\"b'c\""),
            ("a backslash at the end", "A=b\\", "\"A=b\\\""),
        ];
        for (name, word, expected) in cases {
            assert_eq!(settings_word(word), expected, "{name}");
        }
    }

    #[test]
    fn a_unit_files_words_mean_themselves() {
        let cases = [
            ("plain", "--device=v.com/c=a", "--device=v.com/c=a"),
            ("a blank", "--spec-dir=/a b", "\"--spec-dir=/a b\""),
            ("specifier and variable", "/%i/$X", "/%%i/$$X"),
            ("quotes", "a\"b'c", "\"a\\\"b'c\""),
            ("backslash", "a\\x20b", "\"a\\\\x20b\""),
            ("the separator of commands", ";", "\";\""),
            ("empty", "", "\"\""),
        ];
        for (name, word, expected) in cases {
            assert_eq!(command_word(word).as_deref(), Ok(expected), "{name}");
        }
        assert_eq!(unit_word("/dev/$x%").as_deref(), Ok("/dev/$x%%"));
        assert!(unit_word("a\nDeviceAllow=/dev/sda rwm").is_err());
    }

    #[test]
    fn paths_of_mounts_have_their_colons_escaped() {
        assert_eq!(mount_path("/dev/a:b\\c".into()).as_deref(), Ok("/dev/a\\:b\\\\c"));
        for bad in ["dev/x", "/dev/x\n[Exec]", "/dev/x ", ""] {
            assert!(mount_path(bad.into()).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_quoted_word_is_read_as_the_same_word(words in proptest::collection::vec("[ -~\t]{0,12}", 0..5)) {
            let list = words.iter().map(|word| settings_word(word)).collect::<Vec<_>>().join(" ");
            prop_assert_eq!(crate::nspawn::settings_file::words(&list), words);
        }
    }
}
