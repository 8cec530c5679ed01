//! The contents that events refer to, and how they change. Pure.
//!
//! Invariant: the same seed gives the same contents, and a change of one keeps its key and its slug.

use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

const KINDS: [(&str, &str); 3] = [
    ("podcast", "Episode"),
    ("video", "Clip"),
    ("newsletter", "Issue"),
];

/// One row of `content`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentRow {
    /// Random bits that become the key (UUID, or a positive integer in the all-BIGINT schema).
    pub key: u128,
    /// Unique, for example `podcast-0007`.
    pub slug: String,
    /// A readable title.
    pub title: String,
    /// `podcast`, `newsletter` or `video`.
    pub content_type: &'static str,
    /// Seconds; newsletters have none.
    pub length_seconds: Option<i32>,
}

impl ContentRow {
    /// The content at a place of the list.
    pub(super) fn at(seed: u64, index: usize, rng: &mut ChaCha8Rng) -> Self {
        let (content_type, word) = KINDS[index % KINDS.len()];
        let key = (u128::from(rng.next_u64()) << 64) | u128::from(rng.next_u64());
        Self {
            key,
            slug: format!("{content_type}-{seed}-{index:04}"),
            title: format!("{word} {}", index + 1),
            content_type,
            length_seconds: length(content_type, rng),
        }
    }

    /// The same with a new title and, where it has one, a new length.
    pub(super) fn changed(&self, edition: u64, rng: &mut ChaCha8Rng) -> Self {
        let name = self.title.split(" (").next().unwrap_or_default();
        Self {
            title: format!("{name} (edition {edition})"),
            length_seconds: length(self.content_type, rng),
            ..self.clone()
        }
    }
}

fn length(content_type: &str, rng: &mut ChaCha8Rng) -> Option<i32> {
    let length = rng.random_range(30..5_400);
    (content_type != "newsletter").then_some(length)
}

/// The contents that a seed stands for.
#[must_use]
pub fn contents(seed: u64, count: usize) -> Vec<ContentRow> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..count)
        .map(|index| ContentRow::at(seed, index, &mut rng))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_list_begins_like_a_shorter_one() {
        assert_eq!(contents(3, 50)[..10], contents(3, 10));
        assert_ne!(contents(3, 10), contents(4, 10));
    }

    #[test]
    fn a_change_keeps_what_events_refer_to() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let before = &contents(1, 1)[0];
        let once = before.changed(1, &mut rng);
        let twice = once.changed(2, &mut rng);
        assert_eq!((once.key, &once.slug), (before.key, &before.slug));
        assert_eq!(twice.title, "Episode 1 (edition 2)");
        assert!(twice.length_seconds.is_some());
    }
}
