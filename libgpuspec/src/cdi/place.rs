//! Where in a spec document something stands: the path of fields and indices, the line and column.

use std::fmt;

/// A place in the text, both counted from 1; columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "line {}, column {}", self.line, self.column)
    }
}

/// One step down into a document.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// The value of this field.
    Field(String),
    /// The list entry of this index, counted from 0.
    Index(usize),
}

/// A path inside a document, printed as `devices[2].containerEdits.mounts[0].hostPath`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocumentPath(pub Vec<Step>);

impl fmt::Display for DocumentPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(formatter, "[{index}]")?,
                Step::Field(name) => {
                    let dot = if position == 0 { "" } else { "." };
                    if is_plain(name) {
                        write!(formatter, "{dot}{name}")?;
                    } else {
                        write!(formatter, "{dot}{name:?}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphanumeric() || "_-".contains(letter))
}

/// A path that lives on the stack of the walk that is at it; costs nothing until it is wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At<'a>(Option<(&'a At<'a>, Here<'a>)>);

#[derive(Debug, Clone, Copy)]
enum Here<'a> {
    Field(&'a str),
    Index(usize),
}

impl<'a> At<'a> {
    /// The document itself.
    pub(crate) const TOP: At<'static> = At(None);

    /// The field of this name below here.
    pub(crate) fn field(&'a self, name: &'a str) -> At<'a> {
        At(Some((self, Here::Field(name))))
    }

    /// The list entry of this index below here.
    pub(crate) fn index(&'a self, index: usize) -> At<'a> {
        At(Some((self, Here::Index(index))))
    }

    /// The path as a value of its own.
    pub(crate) fn path(&self) -> DocumentPath {
        let mut steps = Vec::new();
        let mut at = self;
        while let At(Some((above, here))) = at {
            steps.push(match here {
                Here::Field(name) => Step::Field((*name).to_owned()),
                Here::Index(index) => Step::Index(*index),
            });
            at = above;
        }
        steps.reverse();
        DocumentPath(steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_as_in_the_document() {
        let top = At::TOP;
        let devices = top.field("devices");
        let device = devices.index(2);
        let odd = device.field("a.b \n");
        assert_eq!(device.field("name").path().to_string(), "devices[2].name");
        assert_eq!(odd.path().to_string(), r#"devices[2]."a.b \n""#);
        assert_eq!(top.path().to_string(), "");
    }
}
