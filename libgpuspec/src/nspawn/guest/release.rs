//! What a machine calls itself: os-release(5).

use camino::Utf8Path;

use crate::Root;
use crate::error::Result;

const RELEASES: [&str; 2] = ["/etc/os-release", "/usr/lib/os-release"];
/// Larger than any such file.
const MAX_TEXT: u64 = 1 << 20;
const LONGEST_NAME: usize = 100;

/// What the system calls itself.
pub(super) fn name(root: &Root) -> Result<Option<String>> {
    for path in RELEASES {
        if let Some(text) = root.read_text(Utf8Path::new(path), MAX_TEXT)? {
            return Ok(name_in(&text));
        }
    }
    Ok(None)
}

fn name_in(text: &str) -> Option<String> {
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
        let value = line.trim().trim_matches(['"', '\'']);
        // It is shown on terminals, and whoever made the tree wrote it.
        let plain: String =
            value.chars().filter(|character| !character.is_control()).take(LONGEST_NAME).collect();
        (!plain.is_empty()).then_some(plain)
    };
    value("PRETTY_NAME").or_else(|| value("NAME")).or_else(|| value("ID"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_has_a_name_that_no_terminal_obeys() {
        let cases = [
            ("NAME=Fedora\nPRETTY_NAME=\"Fedora Linux 42\"\nID=fedora\n", Some("Fedora Linux 42")),
            ("ID=arch\n", Some("arch")),
            ("PRETTY_NAME=\"\"\nNAME='Void'\n", Some("Void")),
            ("PRETTY_NAME=\"a\u{1b}[31mb\u{7}\"\n", Some("a[31mb")),
            ("", None),
            ("XPRETTY_NAME=x\n", None),
        ];
        for (text, expected) in cases {
            assert_eq!(name_in(text).as_deref(), expected, "{text:?}");
        }
        assert_eq!(name_in(&format!("ID={}\n", "x".repeat(1000))).unwrap().len(), LONGEST_NAME);
    }
}
