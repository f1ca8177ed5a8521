//! Text for people, one line at a time: what an attacker named cannot forge a line, drive a terminal or flood a log.

use std::fmt::Write as _;

/// Most bytes of one line; a path has at most 4,096 (path_resolution(7)).
const MAX_LINE: usize = 4 << 10;

/// The text as one printable line of at most 4 KiB.
///
/// Control characters, line and paragraph separators and characters that change the direction of text are escaped.
/// A text that is cut ends in the number of bytes that are missing.
///
/// ```
/// use libgpuspec::line::one_line;
///
/// assert_eq!(one_line("libx\nwrote /etc/cdi/x.yaml"), "libx\\nwrote /etc/cdi/x.yaml");
/// ```
pub fn one_line(text: &str) -> String {
    let mut line = String::new();
    for (offset, character) in text.char_indices() {
        let before = line.len();
        match is_hidden(character) {
            true => line.extend(character.escape_default()),
            false => line.push(character),
        }
        if line.len() > MAX_LINE {
            line.truncate(before);
            let _ = write!(line, "… ({} more bytes)", text.len() - offset);
            break;
        }
    }
    line
}

/// The first `most` of some lines, and how many are left over.
pub fn first<T>(lines: &[T], most: usize) -> (&[T], usize) {
    lines.split_at_checked(most).map_or((lines, 0), |(first, rest)| (first, rest.len()))
}

/// Whether a terminal or a reader would not show a character as itself.
fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n6_control_and_direction_characters_are_escaped() {
        let cases = [
            ("a\nb\rc\td", "a\\nb\\rc\\td"),
            ("\u{1b}[31mred", "\\u{1b}[31mred"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("a\u{2028}b\u{2029}", "a\\u{2028}b\\u{2029}"),
            ("\u{202e}gpj.exe\u{2066}", "\\u{202e}gpj.exe\\u{2066}"),
            ("größe „x“ 日本", "größe „x“ 日本"),
        ];
        for (text, expected) in cases {
            assert_eq!(one_line(text), expected);
        }
    }

    #[test]
    fn n5_a_long_line_is_cut_and_its_loss_counted() {
        for unit in ["x", "é", "\n", "\u{202e}"] {
            let text = unit.repeat(10 << 20);
            let line = one_line(&text);
            assert!(line.len() < MAX_LINE + 40, "{}", line.len());
            assert!(line.ends_with(" more bytes)"), "{line}");
        }
        assert_eq!(one_line(&"x".repeat(MAX_LINE)).len(), MAX_LINE);
    }

    #[test]
    fn n5_lines_left_over_are_counted() {
        assert_eq!(first(&[1, 2, 3], 2), (&[1, 2][..], 1));
        assert_eq!(first(&[1, 2], 2), (&[1, 2][..], 0));
        assert_eq!(first(&[1], 2), (&[1][..], 0));
    }
}
