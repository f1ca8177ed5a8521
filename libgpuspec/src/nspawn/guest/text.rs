//! The two texts of a machine that are read: os-release(5) and group(5).

use std::collections::BTreeMap;

use camino::Utf8Path;

use crate::Root;
use crate::error::Result;

const RELEASES: [&str; 2] = ["/etc/os-release", "/usr/lib/os-release"];
const GROUPS: &str = "/etc/group";
/// Larger than any such file; a directory service's groups are not in it.
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

/// The groups by name, the first of a name counting.
pub(in crate::nspawn) fn groups(root: &Root) -> Result<BTreeMap<String, u32>> {
    Ok(root.read_text(Utf8Path::new(GROUPS), MAX_TEXT)?.map(|text| groups_in(&text)).unwrap_or_default())
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

fn groups_in(text: &str) -> BTreeMap<String, u32> {
    let mut groups = BTreeMap::new();
    for line in text.lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(_), Some(Ok(number))) =
            (fields.next(), fields.next(), fields.next().map(str::parse))
        {
            groups.entry(name.to_owned()).or_insert(number);
        }
    }
    groups
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

    #[test]
    fn groups_are_read_and_odd_lines_passed_over() {
        let text = "root:x:0:\nrender:x:105:a,b\nrender:x:7:\nvideo:x:44\nodd\nx:y:z:\nbig:x:4294967296:\n";
        let expected =
            BTreeMap::from([("root".to_owned(), 0), ("render".to_owned(), 105), ("video".to_owned(), 44)]);
        assert_eq!(groups_in(text), expected);
    }
}
