//! A spec as JSON text.

use super::problem::SerializeError;
use super::spec::Spec;

/// The document, indented, with a line feed at its end.
pub fn to_string(spec: &Spec) -> Result<String, SerializeError> {
    let text = serde_json::to_string_pretty(spec).map_err(|error| SerializeError(error.to_string()))?;
    Ok(escaped(&text) + "\n")
}

/// The text with those characters escaped that JSON allows in a string and YAML does not, or takes
/// for the end of a line: every reader of specs reads JSON as YAML 1.1.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        if matches!(
            letter,
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
        ) {
            escaped.push_str(&format!("\\u{:04x}", u32::from(letter)));
        } else {
            escaped.push(letter);
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_yaml_takes_for_something_else_is_escaped() {
        let spec = Spec { kind: "a\u{7f}\u{85}\u{2028}\u{fffe}é😀".into(), ..Spec::default() };
        let text = to_string(&spec).unwrap();
        assert!(text.contains("\"kind\": \"a\\u007f\\u0085\\u2028\\ufffeé😀\""), "{text}");
    }
}
