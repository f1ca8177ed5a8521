//! A document between text and spec: values with their places, nothing yet judged.

use std::borrow::Cow;

use super::place::{DocumentPath, Position, Step};
use super::scalar;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node<'a> {
    pub(crate) position: Position,
    pub(crate) value: Value<'a>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value<'a> {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(Cow<'a, str>),
    List(Vec<Node<'a>>),
    Map(Vec<Entry<'a>>),
}

/// One key of a mapping, as the string that every key becomes, and its value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry<'a> {
    pub(crate) key: Cow<'a, str>,
    pub(crate) position: Position,
    pub(crate) value: Node<'a>,
}

impl<'a> Value<'a> {
    /// The string that a scalar is where one is wanted; `None` for null, lists and mappings.
    pub(crate) fn as_text(&self) -> Option<Cow<'_, str>> {
        match self {
            Value::Bool(value) => Some(Cow::Borrowed(if *value { "true" } else { "false" })),
            Value::Int(value) => Some(Cow::Owned(value.to_string())),
            Value::Float(value) => Some(Cow::Owned(scalar::spell(*value))),
            Value::Text(text) => Some(Cow::Borrowed(text)),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        }
    }

    /// A few words on what this is, for messages.
    pub(crate) fn words(&self) -> String {
        match self {
            Value::Null => "null".to_owned(),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
            Value::Text(text) if text.chars().count() > 40 => "a long string".to_owned(),
            Value::Text(text) => format!("the string {text:?}"),
            Value::Bool(value) => format!("the truth value {value}"),
            Value::Int(value) => format!("the number {value}"),
            Value::Float(value) => format!("the number {value}"),
        }
    }
}

impl Node<'_> {
    /// How many nodes this is, itself and all below, and how many bytes of text they hold.
    pub(crate) fn weight(&self) -> (usize, usize) {
        let add = |one: (usize, usize), other: (usize, usize)| (one.0 + other.0, one.1 + other.1);
        match &self.value {
            Value::List(items) => items.iter().map(Node::weight).fold((1, 0), add),
            Value::Map(entries) => {
                let weight = |entry: &Entry<'_>| add((1, entry.key.len()), entry.value.weight());
                entries.iter().map(weight).fold((1, 0), add)
            }
            Value::Text(text) => (1, text.len()),
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => (1, 0),
        }
    }

    /// Where a path leads, or the deepest place on the way to it that is there.
    pub(crate) fn locate(&self, path: &DocumentPath) -> Position {
        let mut node = self;
        for step in &path.0 {
            let below = match (step, &node.value) {
                (Step::Index(index), Value::List(items)) => items.get(*index),
                (Step::Field(name), Value::Map(entries)) => {
                    entries.iter().find(|entry| same_key(&entry.key, name)).map(|entry| &entry.value)
                }
                _ => None,
            };
            match below {
                Some(below) => node = below,
                None => break,
            }
        }
        node.position
    }
}

/// Whether a key names this field: ASCII case does not count, nor do the two letters that fold to
/// ASCII ones.
pub(crate) fn same_key(key: &str, field: &str) -> bool {
    let fold = |letter: char| match letter {
        'ſ' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    };
    key == field || key.chars().map(fold).eq(field.chars().map(fold))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_match_as_in_the_go_library() {
        for key in ["hostPath", "HOSTPATH", "hostpath", "hoſtPath"] {
            assert!(same_key(key, "hostPath"), "{key}");
        }
        assert!(same_key("\u{212a}ind", "kind"));
        for key in ["hostpath ", "host_path", "hostPat", "hostPathh"] {
            assert!(!same_key(key, "hostPath"), "{key}");
        }
    }
}
