//! The order of names in a loader cache, which the loader's binary search depends on.

use std::cmp::Ordering;

/// How glibc compares two names: byte by byte, but runs of digits as numbers, and a digit after any
/// other byte. A cache runs from the greatest to the least name.
///
/// Two names can be equal here and differ in leading zeros. Numbers wrap around as glibc's `int`s do,
/// and bytes compare as `char`, whose sign is the processor's.
pub(super) fn compare(left: &[u8], right: &[u8]) -> Ordering {
    let (mut left, mut right) = (left, right);
    loop {
        match (left, right) {
            ([], []) => return Ordering::Equal,
            ([a, ..], [b, ..]) if a.is_ascii_digit() && b.is_ascii_digit() => {
                let (a, b) = (take_number(&mut left), take_number(&mut right));
                if a != b {
                    return a.wrapping_sub(b).cmp(&0);
                }
            }
            ([a, ..], _) if a.is_ascii_digit() => return Ordering::Greater,
            (_, [b, ..]) if b.is_ascii_digit() => return Ordering::Less,
            ([a, left_rest @ ..], [b, right_rest @ ..]) if a == b => (left, right) = (left_rest, right_rest),
            _ => return char_at_head(left).cmp(&char_at_head(right)),
        }
    }
}

/// The value of the digits at the head, which are dropped.
fn take_number(text: &mut &[u8]) -> i32 {
    let mut value = 0_i32;
    while let [digit @ b'0'..=b'9', rest @ ..] = text {
        value = value.wrapping_mul(10).wrapping_add(i32::from(digit - b'0'));
        *text = rest;
    }
    value
}

/// The first byte as C's `char`, 0 at the end as in C.
fn char_at_head(text: &[u8]) -> std::ffi::c_char {
    text.first().map_or(0, |byte| std::ffi::c_char::from_ne_bytes([*byte]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digit_runs_are_numbers() {
        let cases = [
            ("libx.so.9", "libx.so.10", Ordering::Less),
            ("libx.so.10", "libx.so.9", Ordering::Greater),
            ("libx.so.1", "libx.so.1", Ordering::Equal),
            ("libx.so.01", "libx.so.1", Ordering::Equal),
            ("libx.so", "libx.so.1", Ordering::Less),
            ("libx1.so", "libx.so", Ordering::Greater),
            ("lib1", "lib", Ordering::Greater),
            ("lib", "lib1", Ordering::Less),
            ("libX", "libx", Ordering::Less),
            ("", "", Ordering::Equal),
            ("libx.so.4294967297", "libx.so.1", Ordering::Equal),
            ("libx.so.2.1", "libx.so.2", Ordering::Greater),
        ];
        for (left, right, expected) in cases {
            assert_eq!(compare(left.as_bytes(), right.as_bytes()), expected, "{left} {right}");
        }
    }
}
