//! Integers as text.
//!
//! Invariant: printing the number gives the text back.

/// The number of a canonical decimal text: no leading zero, no plus sign, no negative zero, in 64 bits.
pub(crate) fn canonical(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text).as_bytes();
    let plain = text == "0" || matches!(digits, [b'1'..=b'9', ..]);
    if plain { text.parse().ok() } else { None }
}
