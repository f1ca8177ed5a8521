//! Bytes to a valid spec, or to everything that is wrong with them.

use super::decode::decode;
use super::place::{DocumentPath, Position};
use super::problem::{Problem, Violation};
use super::spec::Spec;
use super::tree::{Node, Value, same_key};
use super::validate::validate_beyond;
use super::version::Version;
use super::yaml;

/// Most bytes of one spec; a thousand times the largest seen.
pub const MAX_BYTES: usize = 4 << 20;

/// Reads and validates a spec, YAML or JSON; the extension of its file never matters.
///
/// All violations of the text are returned at once, in document order; a syntax error is the only one.
/// After 100 mistakes the last one says that there are more.
///
/// ```
/// let text = b"cdiVersion: '0.5.0'\nkind: example.com/gpu\ndevices: [{name: all, containerEdits: {envs: []}}]";
/// let violations = libgpuspec::cdi::read(text).unwrap_err();
/// let text = violations[0].to_string();
/// assert!(text.starts_with("line 3, column 40: devices[0].containerEdits.envs: unknown field"), "{text}");
/// ```
pub fn read(bytes: &[u8]) -> Result<Spec, Vec<Violation>> {
    let tree = parse(bytes).map_err(|violation| vec![violation])?;
    judge(&tree)
}

fn judge(tree: &Node<'_>) -> Result<Spec, Vec<Violation>> {
    let (spec, mistakes) = decode(tree);
    if mistakes.is_full() {
        return Err(mistakes.into_vec());
    }
    let mut found = mistakes.into_vec();
    let broken = validate_beyond(&spec, &found);
    let located = broken.into_iter().map(|rule| Violation { position: place(tree, &rule), ..rule });
    found.extend(located);
    if found.is_empty() {
        return Ok(spec);
    }
    found.sort_by_key(|violation| violation.position.map_or((1, None), |position| (0, Some(position))));
    Err(found)
}

/// Where a rule is broken; the remark that there are more mistakes stands nowhere, and comes last.
fn place(tree: &Node<'_>, violation: &Violation) -> Option<Position> {
    (!matches!(violation.problem, Problem::TooMany(_))).then(|| tree.locate(&violation.path))
}

/// The same, whatever version the spec declares: for finding out which one it needs.
pub fn read_any_version(bytes: &[u8]) -> Result<Spec, Vec<Violation>> {
    let mut tree = parse(bytes).map_err(|violation| vec![violation])?;
    let mut declared = String::new();
    if let Value::Map(entries) = &mut tree.value {
        for entry in entries.iter_mut().filter(|entry| same_key(&entry.key, "cdiVersion")) {
            declared = entry.value.value.as_text().unwrap_or_default().into_owned();
            entry.value.value = Value::Text(Version::V1_1_0.as_str().into());
        }
    }
    let spec = judge(&tree)?;
    Ok(Spec { version: declared, ..spec })
}

fn parse(bytes: &[u8]) -> Result<Node<'_>, Violation> {
    if bytes.len() > MAX_BYTES {
        return Err(whole(Problem::TooMuch { what: "bytes", limit: MAX_BYTES }));
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|error| whole(Problem::Syntax(format!("byte {} is no UTF-8 text", error.valid_up_to()))))?;
    let tree = yaml::parse(text)?;
    if tree.value == Value::Null { Err(whole(Problem::NoSpec)) } else { Ok(tree) }
}

fn whole(problem: Problem) -> Violation {
    Violation { path: DocumentPath::default(), position: None, problem }
}

#[cfg(test)]
mod tests;
