//! The groups of a system, this host or a guest: group(5).

use std::collections::BTreeMap;

use camino::Utf8Path;

use crate::Root;
use crate::error::Result;

const GROUPS: &str = "/etc/group";
/// Larger than any such file; a directory service's groups are not in it.
const MAX_TEXT: u64 = 1 << 20;

/// What chown(2) takes for "leave it as it is": no group has it.
const NO_GROUP: u32 = u32::MAX;

/// Their numbers by name, the first of a name counting.
pub(super) fn read(root: &Root) -> Result<BTreeMap<String, u32>> {
    Ok(root.read_text(Utf8Path::new(GROUPS), MAX_TEXT)?.map(|text| parse(&text)).unwrap_or_default())
}

fn parse(text: &str) -> BTreeMap<String, u32> {
    let mut groups = BTreeMap::new();
    for line in text.lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(_), Some(Ok(number))) =
            (fields.next(), fields.next(), fields.next().map(str::parse))
            && number != NO_GROUP
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
    fn groups_are_read_and_odd_lines_passed_over() {
        let text = "root:x:0:\nrender:x:105:a,b\nrender:x:7:\nvideo:x:44\nodd\nx:y:z:\nbig:x:4294967296:\nnone:x:4294967295:\n";
        let expected =
            BTreeMap::from([("root".to_owned(), 0), ("render".to_owned(), 105), ("video".to_owned(), 44)]);
        assert_eq!(parse(text), expected);
    }
}
