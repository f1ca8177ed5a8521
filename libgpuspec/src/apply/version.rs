//! Version numbers as file names and notes have them.

/// The numbers of a text, in order: `libcuda.so.575.57.08` has 575, 57, 8.
pub(super) fn numbers(text: &str) -> Vec<u64> {
    text.split(|character: char| !character.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}
