//! The text of a `.nspawn` file: what systemd-nspawn reads in it, what of an untrusted one may be copied,
//! and a block of ours at its end that comes and goes with every other byte staying.
//!
//! See systemd.nspawn(5). The reading is that of systemd's conf-parser.c, since a line that it and we read
//! differently is one that an image's maker could hide from us.

use crate::render::nspawn::settings_word;

/// How a block's first line begins.
const BEGIN: &str = "# BEGIN gpuspec";
/// The rest of it, for whoever opens the file.
const ADVICE: &str = ": made when the machine starts, removed when it stops; do not edit";
/// A block's last line.
const END: &str = "# END gpuspec";

/// One assignment of a settings file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The section that it stands in, without brackets.
    pub section: String,
    /// The key.
    pub key: String,
    /// The value, continued lines joined, blanks at its ends removed.
    pub value: String,
}

/// What a settings file assigns, in its order, as systemd-nspawn reads it.
///
/// Lines that are no UTF-8, or stand before any section, are none.
pub fn assignments(text: &[u8]) -> Vec<Assignment> {
    let mut section: Option<String> = None;
    let mut found = Vec::new();
    for line in logical_lines(text) {
        let Ok(line) = str::from_utf8(&line) else { continue };
        let line = line.trim_matches(BLANKS);
        if let Some(header) = line.strip_prefix('[') {
            section = header.strip_suffix(']').map(str::to_owned);
        } else if let (Some(section), Some((key, value))) = (&section, line.split_once('=')) {
            let (key, value) = (key.trim_matches(BLANKS), value.trim_matches(BLANKS));
            found.push(Assignment { section: section.clone(), key: key.into(), value: value.into() });
        }
    }
    found
}

/// What systemd counts as a blank, the ends of lines among it.
const BLANKS: [char; 4] = [' ', '\t', '\n', '\r'];

/// The lines with comments gone and continued ones joined.
fn logical_lines(text: &[u8]) -> Vec<Vec<u8>> {
    let (mut lines, mut continued) = (Vec::new(), None::<Vec<u8>>);
    for line in physical_lines(text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)) {
        let blanks = line.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        let line = line.get(blanks..).unwrap_or_default();
        // A comment between two parts of a continued line does not end it.
        if matches!(line.first(), Some(b'#' | b';')) {
            continue;
        }
        let mut whole = continued.take().unwrap_or_default();
        whole.extend_from_slice(line);
        if whole.iter().rev().take_while(|&&byte| byte == b'\\').count() % 2 == 1 {
            whole.pop();
            whole.push(b' ');
            continued = Some(whole);
        } else {
            lines.push(whole);
        }
    }
    lines.extend(continued);
    lines
}

/// The lines as read_line() of systemd tells them apart: ended by `\n`, `\r`, NUL, or different ones of these
/// in a row, of which NUL is the last.
fn physical_lines(text: &[u8]) -> Vec<&[u8]> {
    let is_end = |byte: &u8| matches!(byte, b'\n' | b'\r' | 0);
    let mut lines = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.iter().position(is_end).unwrap_or(rest.len()));
        lines.push(line);
        let length = match after {
            [b'\n', b'\r', 0, ..] | [b'\r', b'\n', 0, ..] => 3,
            [b'\n', b'\r', ..] | [b'\r', b'\n', ..] | [b'\n' | b'\r', 0, ..] => 2,
            _ => 1,
        };
        rest = after.get(length..).unwrap_or_default();
    }
    lines
}

/// The text with a block of these lines at its end, in place of an earlier one.
///
/// The block has its own section headers: systemd-nspawn reads a section that comes twice as one.
pub(super) fn with_block(text: &[u8], lines: &str) -> Vec<u8> {
    let mut text = without_block(text);
    if !text.is_empty() {
        text.push(b'\n');
    }
    // The empty line ends what a backslash at the text's end would continue with the section header.
    text.extend_from_slice(format!("{BEGIN}{ADVICE}\n\n{lines}{END}\n").as_bytes());
    text
}

/// The text without a block that [`with_block`] added, else the same bytes.
pub(super) fn without_block(text: &[u8]) -> Vec<u8> {
    let mut text = text.to_vec();
    while let Some((before, after)) = around_block(&text) {
        let mut before = before.to_vec();
        // The line feed came with the block, but for where somebody wrote on after it.
        if after.is_empty() || before.ends_with(b"\n\n") {
            before.pop();
        }
        text = [&before, after].concat();
    }
    text
}

/// Whether there is a block of ours.
pub(super) fn has_block(text: &[u8]) -> bool {
    around_block(text).is_some()
}

/// What is before and after the first whole block; the former ends with the line feed that came with it.
fn around_block(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (mut begin, mut at) = (None, 0);
    for line in text.split_inclusive(|&byte| byte == b'\n') {
        let words = line.trim_ascii_end();
        if words == END.as_bytes() {
            if let Some(begin) = begin {
                return text.get(..begin).zip(text.get(at + line.len()..));
            }
        } else if is_begin(words) {
            begin = Some(at);
        }
        at += line.len();
    }
    None
}

fn is_begin(line: &[u8]) -> bool {
    // Other releases may have other advice there.
    line.strip_prefix(BEGIN.as_bytes()).is_some_and(|rest| matches!(rest.first(), None | Some(b':')))
}

/// The words of a value that is a list, such as `Environment`'s: quotes taken away, backslashes left.
pub fn words(list: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for character in list.chars() {
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, ' ' | '\t' | '\n' | '\r') => words.extend(word.take()),
            (_, _) => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    words
}

/// Whether a value that may be a boolean says no (systemd.syntax(7)).
pub fn is_no(value: &str) -> bool {
    ["0", "no", "n", "false", "f", "off"].iter().any(|word| value.eq_ignore_ascii_case(word))
}

/// The keys that systemd-nspawn follows in a file beside the image too, which it does not trust.
const KEPT: [(&str, &[&str]); 2] = [
    (
        "Exec",
        &[
            "Boot",
            "ProcessTwo",
            "Parameters",
            "Environment",
            "User",
            "WorkingDirectory",
            "PivotRoot",
            "DropCapability",
            "KillSignal",
            "Personality",
            "NotifyReady",
            "SystemCallFilter",
            "Hostname",
            "NoNewPrivileges",
            "ResolvConf",
            "Timezone",
            "SuppressSync",
        ],
    ),
    ("Files", &["ReadOnly", "Volatile"]),
];

/// What of an untrusted file can stand in a trusted one and mean no more than it did: all that
/// systemd-nspawn would follow of it where it is.
pub(super) fn kept(untrusted: &[u8]) -> String {
    let mut text = String::new();
    let mut section = "";
    for (name, keys) in KEPT {
        for Assignment { key, value, .. } in
            assignments(untrusted).iter().filter(|found| found.section == name)
        {
            // Without the tilde it would allow system calls.
            let allows = key == "SystemCallFilter" && !value.starts_with('~');
            if !keys.contains(&key.as_str()) || allows {
                continue;
            }
            if section != name {
                text.push_str(&format!("[{name}]\n"));
                section = name;
            }
            // A backslash at the end must not continue the line; a blank after it is no part of the value.
            let guard = if value.ends_with('\\') { " " } else { "" };
            text.push_str(&format!("{key}={value}{guard}\n"));
        }
    }
    text
}

/// Whether systemd takes this for the name of a variable (env-util, env_name_is_valid): with any other, systemd-nspawn
/// does not start.
pub(super) fn is_variable_name(name: &str) -> bool {
    !name.starts_with(|first: char| first.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}

/// What a file sets, as `NAME=VALUE`, without names that systemd ignores. A name alone would be given
/// what systemd-nspawn has by that name, even if an untrusted user wrote the file.
pub fn environment(text: &[u8]) -> Vec<String> {
    let mut variables = Vec::new();
    for Assignment { section, key, value } in assignments(text) {
        match (section.as_str(), key.as_str()) {
            ("Exec", "Environment") if value.is_empty() => variables.clear(),
            ("Exec", "Environment") => {
                let is_set =
                    |word: &String| word.split_once('=').is_some_and(|(name, _)| is_variable_name(name));
                variables.extend(words(&value).into_iter().filter(is_set));
            }
            _ => {}
        }
    }
    variables
}

/// The words of its own kernel command line that a booted machine would get by this file.
///
/// That is the variable by which systemd is told one, else the arguments of its init, which count only
/// where the file says how to start, and which the variable would hide.
pub fn command_line(text: &[u8]) -> String {
    let (mut parameters, mut starts) = (Vec::new(), false);
    for Assignment { section, key, value } in assignments(text) {
        match (section.as_str(), key.as_str()) {
            ("Exec", "Parameters") if value.is_empty() => parameters.clear(),
            ("Exec", "Parameters") => parameters.extend(words(&value)),
            ("Exec", "Boot" | "ProcessTwo") => starts = true,
            _ => {}
        }
    }
    let parameters = if starts { parameters } else { Vec::new() };
    let variables = environment(text);
    let variable = variables.iter().rev().find_map(|one| one.strip_prefix("SYSTEMD_PROC_CMDLINE="));
    variable
        .map(str::to_owned)
        .unwrap_or_else(|| parameters.iter().map(|word| settings_word(word)).collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests;
