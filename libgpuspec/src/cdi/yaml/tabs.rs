//! Tabs between the values of a document: refused where the other readers refuse them.

use std::ops::Range;

use serde_yaml::granit_parser::{Event, ScalarStyle, StructureStyle};

/// What lies between the events of a document, looked at as they pass.
#[derive(Default)]
pub(super) struct Gaps {
    /// Where the last event ended.
    end: usize,
    /// The last event's text if it was a plain scalar, which takes blank lines after it for its own.
    plain: Option<Range<usize>>,
    /// The collections around: the column of those that are told by it.
    open: Vec<Open>,
}

enum Open {
    Flow,
    Block(usize),
}

impl Gaps {
    /// The place of a tab before the end of this event that stands where a line's indentation is wanted.
    pub(super) fn pass(
        &mut self,
        text: &str,
        event: &Event<'_>,
        range: Range<usize>,
        column: usize,
    ) -> Option<usize> {
        let tab = self.tab(text, range.start);
        self.enter_or_leave(text, event, range.start, column);
        let is_plain = matches!(event, Event::Scalar(_, ScalarStyle::Plain, ..)) && !range.is_empty();
        if is_plain {
            self.plain = Some(range.clone());
        } else if range.end > self.end {
            self.plain = None;
        }
        self.end = self.end.max(range.end);
        tab
    }

    /// Where the last event ended.
    pub(super) fn end(&self) -> usize {
        self.end
    }

    fn enter_or_leave(&mut self, text: &str, event: &Event<'_>, start: usize, column: usize) {
        if matches!(event, Event::SequenceEnd | Event::MappingEnd) {
            self.open.pop();
        } else if let Event::SequenceStart(style, ..) | Event::MappingStart(style, ..) = event {
            // A list no deeper than its key starts behind its first dash, and adds no indentation.
            let gap = text.get(self.end..start).unwrap_or_default();
            let same = matches!(event, Event::SequenceStart(..)) && gap.trim_end().ends_with('-');
            self.open.push(match style {
                StructureStyle::Flow => Open::Flow,
                StructureStyle::Block => Open::Block(if same { 0 } else { column }),
            });
        }
    }

    /// The same for what lies behind the last value, up to what others would take for the next one.
    pub(super) fn rest(&self, text: &str) -> Option<usize> {
        let mut next = self.end;
        for line in text.get(self.end..)?.split_inclusive(['\n', '\r']) {
            let content = line.trim_start();
            next += line.len() - content.len();
            if !content.is_empty() && !content.starts_with('#') {
                break;
            }
            next += content.len();
        }
        self.tab(text, next)
    }

    fn tab(&self, text: &str, until: usize) -> Option<usize> {
        let from = self.plain.as_ref().map_or(self.end, |plain| plain.start);
        let blank = self.plain.as_ref().map_or(0, |plain| end_of_blanks(text, plain.end));
        let mut start = from;
        for line in text.get(from..until)?.split_inclusive(['\n', '\r']) {
            let blanks = line.trim_start_matches([' ', '\u{feff}']);
            let tab = start + line.len() - blanks.len();
            let begins_a_line =
                text.get(..start).is_some_and(|it| it.is_empty() || it.ends_with(['\n', '\r']));
            if begins_a_line && blanks.starts_with('\t') && !self.allows(blank, tab, tab - start) {
                return Some(tab);
            }
            start += line.len();
        }
        None
    }

    /// Whether a tab may be the first in its line but for some spaces; `blank` is where the blanks behind the last
    /// plain scalar end.
    fn allows(&self, blank: usize, tab: usize, spaces: usize) -> bool {
        if self.plain.is_some() && tab <= blank {
            let column = |open: &Open| if let Open::Block(column) = open { Some(*column) } else { None };
            return !self.open.iter().filter_map(column).any(|column| spaces <= column);
        }
        matches!(self.open.last(), Some(Open::Flow))
    }
}

/// Where the white space from `start` on ends.
fn end_of_blanks(text: &str, start: usize) -> usize {
    let rest = text.get(start..).unwrap_or_default();
    start + rest.len() - rest.trim_start().len()
}
