//! Spec text: YAML (and so JSON) in, as a tree with places; YAML out. The only place that knows the
//! YAML crate.

mod tabs;

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_yaml::granit_parser::{
    Event, Parser, ScalarStyle, ScanError, Span, StrInput, StructureStyle, Tag, options,
};

use super::place::{DocumentPath, Position};
use super::problem::{Problem, SerializeError, Violation};
use super::scalar::{self, Scalar};
use super::spec::Spec;
use super::tree::{Entry, Node, Value};
use tabs::Gaps;

/// Nodes of one document with all aliases followed; the largest honest specs have some thousands.
const MAX_NODES: usize = 200_000;
/// Nesting of one document; a spec's fields nest seven deep.
const MAX_DEPTH: usize = 64;
/// Bytes of text that anchors and aliases copy: with them a document is twice its largest size at most.
const MAX_COPIED: usize = super::read::MAX_BYTES;
/// What the tags `!!str`, `!!int` and so on stand for.
const CORE_TAGS: &str = "tag:yaml.org,2002:";

/// The document, in the specification's field order, with a line feed at its end.
///
/// Every string reads back the same under YAML 1.1 and 1.2: `on`, `010` and `0.5.0` come out quoted.
///
/// ```
/// use libgpuspec::cdi::{Spec, yaml};
///
/// let spec = Spec { version: "0.5.0".to_owned(), kind: "example.com/gpu".to_owned(), ..Spec::default() };
/// assert_eq!(yaml::to_string(&spec)?, "cdiVersion: \"0.5.0\"\nkind: example.com/gpu\ndevices: []\n");
/// # Ok::<(), libgpuspec::cdi::SerializeError>(())
/// ```
pub fn to_string(spec: &Spec) -> Result<String, SerializeError> {
    // Block scalars would change a string that ends in blank lines for some readers.
    let options = serde_yaml::ser_options! { prefer_block_scalars: false };
    serde_yaml::to_string_with_options(spec, options).map_err(|error| SerializeError(error.to_string()))
}

/// The first document in a text; what follows it is not looked at.
pub(crate) fn parse(text: &str) -> Result<Node<'_>, Violation> {
    check_characters(text)?;
    check_directives(text)?;
    let options = options! {
        emit_comments: false,
        emit_anchor_events: true,
        block_scalar_eof_without_line_feed: true,
        bom_inside_document_as_content: true,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let mut reader = Reader {
        text,
        events: Parser::new_from_str_with_options(text, options),
        anchors: BTreeMap::new(),
        gaps: Gaps::default(),
        nodes_left: MAX_NODES,
        bytes_left: MAX_COPIED,
        position: Position { line: 1, column: 1 },
        start: 0,
    };
    reader.document()
}

/// Refuses what the other readers refuse anywhere in a text: control characters and the like.
fn check_characters(text: &str) -> Result<(), Violation> {
    let printable = |letter: char| matches!(letter, '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{fffd}' | '\u{10000}'..);
    let Some((offset, letter)) = text.char_indices().find(|&(_, letter)| !printable(letter)) else {
        return Ok(());
    };
    Err(syntax(position_of(text, offset), format!("the character {letter:?} may not stand in YAML")))
}

fn position_of(text: &str, offset: usize) -> Position {
    let before = text.get(..offset).unwrap_or_default();
    let line = before.rsplit('\n').next().unwrap_or_default();
    Position { line: before.matches('\n').count() + 1, column: line.chars().count() + 1 }
}

/// Refuses directives that the other readers refuse: all but `%YAML 1.1` and `%TAG`.
fn check_directives(text: &str) -> Result<(), Violation> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let head = text.lines().take_while(|line| line.trim().is_empty() || line.starts_with(['#', '%']));
    for (index, line) in head.enumerate().filter(|(_, line)| line.starts_with('%')) {
        let mut words = line.split_whitespace();
        if !matches!((words.next(), words.next()), (Some("%YAML"), Some("1.1")) | (Some("%TAG"), _)) {
            let position = Position { line: index + 1, column: 1 };
            return Err(syntax(position, format!("no reader knows the directive {line:?}")));
        }
    }
    Ok(())
}

fn syntax(position: Position, reason: impl Into<String>) -> Violation {
    problem(position, Problem::Syntax(reason.into()))
}

fn problem(position: Position, problem: Problem) -> Violation {
    Violation { path: DocumentPath::default(), position: Some(position), problem }
}

struct Reader<'a> {
    text: &'a str,
    events: Parser<'a, StrInput<'a>>,
    /// What each anchor names, complete ones only: an alias inside its own anchor finds nothing.
    anchors: BTreeMap<usize, Node<'a>>,
    gaps: Gaps,
    nodes_left: usize,
    bytes_left: usize,
    position: Position,
    /// The byte at which the last event starts.
    start: usize,
}

type Read<T> = Result<T, Violation>;

impl<'a> Reader<'a> {
    fn document(&mut self) -> Read<Node<'a>> {
        loop {
            let event = self.next()?;
            if matches!(event, Event::StreamEnd | Event::DocumentEnd) {
                return Err(problem(self.position, Problem::NoSpec));
            }
            if !matches!(event, Event::StreamStart | Event::DocumentStart(..)) {
                let node = self.node(event, 0)?;
                return self.gaps.rest(self.text).map_or(Ok(node), |tab| Err(self.tab(tab)));
            }
        }
    }

    /// The next event; its place becomes the reader's.
    fn next(&mut self) -> Read<Event<'a>> {
        match self.events.next() {
            Some(Ok((Event::Anchor(_, name), span))) => {
                check_anchor(&name, place(&span))?;
                self.next()
            }
            Some(Ok((event, span))) => {
                self.position = place(&span);
                self.start = span.byte_range().map_or(self.start, |range| range.start);
                self.check_tabs(&event, &span)?;
                if matches!(event, Event::Scalar(_, ScalarStyle::DoubleQuoted, ..)) {
                    self.check_escapes(span.slice(self.text).unwrap_or_default())?;
                }
                Ok(event)
            }
            Some(Err(error)) => Err(scan_error(&error)),
            None => Ok(Event::StreamEnd),
        }
    }

    fn check_tabs(&mut self, event: &Event<'_>, span: &Span) -> Read<()> {
        let Some(range) = span.byte_range() else { return Ok(()) };
        self.gaps.pass(self.text, event, range, span.start.col()).map_or(Ok(()), |tab| Err(self.tab(tab)))
    }

    fn tab(&self, offset: usize) -> Violation {
        syntax(position_of(self.text, offset), "a tab where a line's indentation is wanted")
    }

    /// Refuses what JSON allows in a string and the other readers do not: `\/` and surrogates.
    fn check_escapes(&self, quoted: &str) -> Read<()> {
        let mut letters = quoted.chars();
        while let Some(letter) = letters.next() {
            if letter != '\\' {
                continue;
            }
            let rest = letters.as_str();
            if rest.starts_with('/') || is_surrogate(rest) {
                return Err(syntax(
                    self.position,
                    "an escape that JSON has and the other readers do not know",
                ));
            }
            letters.next();
        }
        Ok(())
    }

    fn node(&mut self, event: Event<'a>, depth: usize) -> Read<Node<'a>> {
        let position = self.position;
        self.spend(1)?;
        if depth > MAX_DEPTH {
            return Err(problem(position, Problem::TooMuch { what: "levels of nesting", limit: MAX_DEPTH }));
        }
        let (value, anchor) = if let Event::Scalar(text, style, anchor, tag) = event {
            (self.scalar(text, style, tag.as_deref())?, anchor)
        } else if let Event::SequenceStart(_, anchor, _) = event {
            (Value::List(self.list(depth)?), anchor)
        } else if let Event::MappingStart(style, anchor, _) = event {
            (Value::Map(self.map(style, depth)?), anchor)
        } else if let Event::Alias(anchor) = event {
            return self.alias(anchor);
        } else {
            return Err(syntax(position, "a value is missing"));
        };
        let node = Node { position, value };
        if anchor != 0 {
            let copy = self.copy(&node)?;
            self.anchors.insert(anchor, copy);
        }
        Ok(node)
    }

    fn copy(&mut self, node: &Node<'a>) -> Read<Node<'a>> {
        let (nodes, bytes) = node.weight();
        self.spend(nodes)?;
        let problem = Problem::TooMuch { what: "bytes of text that aliases repeat", limit: MAX_COPIED };
        let left = self.bytes_left.checked_sub(bytes);
        self.bytes_left = left.ok_or_else(|| self::problem(self.position, problem))?;
        Ok(node.clone())
    }

    fn spend(&mut self, nodes: usize) -> Read<()> {
        let too_much = || {
            let problem = Problem::TooMuch { what: "values (aliases followed)", limit: MAX_NODES };
            self::problem(self.position, problem)
        };
        self.nodes_left = self.nodes_left.checked_sub(nodes).ok_or_else(too_much)?;
        Ok(())
    }

    fn alias(&mut self, anchor: usize) -> Read<Node<'a>> {
        // Taken out for the time of the copy, which borrows the whole reader.
        let Some(node) = self.anchors.remove(&anchor) else {
            return Err(syntax(self.position, "an alias inside the very value that it names"));
        };
        let copy = self.copy(&node)?;
        self.anchors.insert(anchor, node);
        Ok(copy)
    }

    fn list(&mut self, depth: usize) -> Read<Vec<Node<'a>>> {
        let mut items = Vec::new();
        loop {
            let event = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                return Ok(items);
            }
            items.push(self.node(event, depth + 1)?);
        }
    }

    fn map(&mut self, style: StructureStyle, depth: usize) -> Read<Vec<Entry<'a>>> {
        let mut entries = Vec::new();
        loop {
            let before = self.gaps.end();
            let event = self.next()?;
            let is_merge = is_merge(&event);
            if matches!(event, Event::MappingEnd) {
                return Ok(entries);
            }
            let is_explicit = self.text.get(before..self.start).is_some_and(|gap| gap.contains('?'));
            let key = self.node(event, depth + 1)?;
            let end = self.gaps.end();
            let event = self.next()?;
            if style == StructureStyle::Flow && !is_explicit {
                self.check_colon(end)?;
            }
            let is_alias = matches!(event, Event::Alias(_));
            let value = self.node(event, depth + 1)?;
            if is_merge {
                entries.extend(self.merged(value, is_alias)?);
            } else {
                let position = key.position;
                entries.push(Entry { key: key_text(key)?, position, value });
            }
        }
    }

    /// Refuses a line end between a key that ends here and its colon: other readers take the key for a value.
    fn check_colon(&self, end: usize) -> Read<()> {
        let gap = self.text.get(end..self.start).unwrap_or_default();
        match gap.split_once(':') {
            Some((before, _)) if before.contains(['\n', '\r']) => Err(syntax(
                self.position,
                "a line end between a key and its colon, which other readers refuse",
            )),
            _ => Ok(()),
        }
    }

    /// The entries that a merge key brings: those of a mapping, or of each mapping in a list.
    fn merged(&self, value: Node<'a>, is_alias: bool) -> Read<Vec<Entry<'a>>> {
        let refused = || syntax(value.position, "a merge key wants a mapping or a list of mappings");
        let items = match value.value {
            Value::Map(entries) => return Ok(entries),
            Value::List(items) if !is_alias => items,
            Value::Null
            | Value::Bool(_)
            | Value::Int(_)
            | Value::Float(_)
            | Value::Text(_)
            | Value::List(_) => {
                return Err(refused());
            }
        };
        let mut merged = Vec::new();
        for item in items {
            let Value::Map(entries) = item.value else { return Err(refused()) };
            merged.extend(entries);
        }
        Ok(merged)
    }

    fn scalar(&self, text: Cow<'a, str>, style: ScalarStyle, tag: Option<&Tag>) -> Read<Value<'a>> {
        let suffix = match tag {
            None if style == ScalarStyle::Plain => return Ok(plain(text)),
            Some(tag) if tag.handle() == CORE_TAGS => tag.suffix(),
            // Quoted, or of a tag of someone's own, which every reader ignores.
            None | Some(_) => return Ok(Value::Text(text)),
        };
        if matches!(suffix, "str" | "timestamp" | "merge") {
            return Ok(Value::Text(text));
        }
        match (suffix, plain(text)) {
            #[allow(clippy::cast_precision_loss)] // as said by the tag
            ("float", Value::Int(value)) => Ok(Value::Float(value as f64)),
            ("int", value @ Value::Int(_)) | ("float", value @ Value::Float(_)) => Ok(value),
            ("bool", value @ Value::Bool(_)) | ("null", value @ Value::Null) => Ok(value),
            (_, value) => Err(syntax(self.position, format!("the tag !!{suffix} on {}", value.words()))),
        }
    }
}

/// Refuses the names of anchors that other readers refuse: all but ASCII letters and digits, `_` and `-`.
fn check_anchor(name: &str, position: Position) -> Read<()> {
    if name.chars().all(|letter| letter.is_ascii_alphanumeric() || "_-".contains(letter)) {
        return Ok(());
    }
    Err(syntax(position, format!("the anchor {name:?} has characters that other readers refuse")))
}

/// Whether an escape, without its backslash, is half of a UTF-16 pair.
fn is_surrogate(escape: &str) -> bool {
    let digits = escape.strip_prefix('u').and_then(|rest| rest.get(..4));
    let code = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
    code.is_some_and(|code| (0xd800..0xe000).contains(&code))
}

fn place(span: &Span) -> Position {
    Position { line: span.start.line(), column: span.start.col() + 1 }
}

fn scan_error(error: &ScanError) -> Violation {
    let mark = error.marker();
    syntax(Position { line: mark.line(), column: mark.col() + 1 }, error.info())
}

fn plain(text: Cow<'_, str>) -> Value<'_> {
    match scalar::read(&text) {
        Scalar::Null => Value::Null,
        Scalar::Bool(value) => Value::Bool(value),
        Scalar::Int(value) => Value::Int(value),
        Scalar::Float(value) => Value::Float(value),
        Scalar::Text => Value::Text(text),
    }
}

fn is_merge(event: &Event<'_>) -> bool {
    let Event::Scalar(text, style, _, tag) = event else { return false };
    let tagged = tag.as_ref().is_some_and(|tag| tag.suffix() == "merge");
    text == "<<" && (tagged || (tag.is_none() && *style == ScalarStyle::Plain))
}

/// The string that a key becomes.
fn key_text(key: Node<'_>) -> Read<Cow<'_, str>> {
    if let Value::Text(text) = key.value {
        return Ok(text);
    }
    let Some(text) = key.value.as_text() else {
        return Err(syntax(key.position, format!("{} as a key", key.value.words())));
    };
    // Keys alone spell these as YAML does.
    Ok(Cow::Owned(match &*text {
        "+Inf" => ".inf".to_owned(),
        "-Inf" => "-.inf".to_owned(),
        "NaN" => ".nan".to_owned(),
        other => other.to_owned(),
    }))
}

#[cfg(test)]
mod tests;
