//! A content's key in as little memory as its form allows.
//!
//! Invariant: two texts are the same [`Id`] if and only if they are equal.

use crate::integer;

/// UUIDs in lower case and canonical integers need no heap.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Id {
    Number(i64),
    Uuid([u8; 16]),
    Text(Box<str>),
}

impl Id {
    pub(super) fn of(text: &str) -> Self {
        if let Some(bytes) = uuid(text) {
            return Self::Uuid(bytes);
        }
        integer::canonical(text).map_or_else(|| Self::Text(text.into()), Self::Number)
    }

    pub(super) const fn heap_bytes(&self) -> usize {
        match self {
            Self::Number(_) | Self::Uuid(_) => 0,
            Self::Text(text) => text.len(),
        }
    }
}

/// The bytes of a hyphenated UUID in lower case.
fn uuid(text: &str) -> Option<[u8; 16]> {
    let text: &[u8; 36] = text.as_bytes().try_into().ok()?;
    let (mut bytes, mut at) = ([0; 16], 0);
    for byte in &mut bytes {
        if matches!(at, 8 | 13 | 18 | 23) {
            if text[at] != b'-' {
                return None;
            }
            at += 1;
        }
        *byte = (nibble(text[at])? << 4) | nibble(text[at + 1])?;
        at += 2;
    }
    Some(bytes)
}

const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_canonical_forms_are_shortened() {
        assert_eq!(Id::of("42"), Id::Number(42));
        assert_eq!(Id::of("-42"), Id::Number(-42));
        for text in [
            "042",
            "+42",
            "-0",
            "",
            "9223372036854775808",
            "5B6962DD-3F90-4C93-8F61-EABFA4A803E2",
        ] {
            assert_eq!(Id::of(text), Id::Text(text.into()), "{text}");
        }
        assert!(matches!(
            Id::of("5b6962dd-3f90-4c93-8f61-eabfa4a803e2"),
            Id::Uuid([0x5b, .., 0xe2])
        ));
    }

    proptest! {
        #[test]
        fn different_texts_are_different_ids(a in "[-+0-9a-fA-F]{0,4}", b in "[-+0-9a-fA-F]{0,4}") {
            prop_assert_eq!(Id::of(&a) == Id::of(&b), a == b);
        }

        #[test]
        fn different_uuids_are_different_ids(a in any::<u128>(), b in any::<u128>()) {
            let id = |n| Id::of(&uuid::Uuid::from_u128(n).to_string());
            prop_assert_eq!(id(a) == id(b), a == b);
            prop_assert!(matches!(id(a), Id::Uuid(bytes) if bytes == a.to_be_bytes()));
        }
    }
}
