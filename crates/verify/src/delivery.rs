//! What a receiver of webhooks tells about its deliveries, so that they can be compared: the same numbers on both sides.
//!
//! Invariant: a delivery is 16 bytes, the hashes of its `webhook-id` and of its body; a summary is a fixed number of slots.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Slots of a summary.
pub const SLOTS: usize = 4096;

/// The number that stands for a `webhook-id`: of `msg_` and hexadecimal digits their first sixteen, so that it can be found
/// again; of any other the first eight bytes of its SHA-256.
#[must_use]
pub fn key_of(webhook_id: &str) -> u64 {
    let digits = webhook_id
        .strip_prefix("msg_")
        .and_then(|hex| hex.get(..16));
    let readable = digits.and_then(|hex| u64::from_str_radix(hex, 16).ok());
    readable.unwrap_or_else(|| hash_of(webhook_id.as_bytes()))
}

/// The number that stands for a body: the first eight bytes of its SHA-256.
#[must_use]
pub fn hash_of(body: &[u8]) -> u64 {
    crate::cell::first_eight(&Sha256::digest(body))
}

/// The slot of a message.
#[must_use]
pub fn slot_of(key: u64) -> usize {
    usize::try_from(key % SLOTS as u64).unwrap_or(0)
}

/// One slot: how many messages, and the exclusive or of [`mixed`] over them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot(pub u64, pub u64);

impl Slot {
    /// Takes one message in.
    pub fn add(&mut self, key: u64, body: u64) {
        self.0 += 1;
        self.1 ^= mixed(key, body);
    }

    /// The messages of both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0), self.1 ^ other.1)
    }

    /// The messages without those of the other, which must be among them.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0), self.1 ^ other.1)
    }
}

/// Key and body in one number; swapping the bodies of two messages changes the sum (finaliser of splitmix64).
#[must_use]
pub fn mixed(key: u64, body: u64) -> u64 {
    let mut x = key ^ body.rotate_left(32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The answer of `GET /deliveries`; with `?run=<run>` of what that backfill has brought alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// [`SLOTS`] of them.
    pub slots: Vec<Slot>,
    /// Deliveries of a message that was there already; allowed.
    pub repeats: u64,
    /// Those among them with another body than the first; never allowed.
    pub changed: u64,
    /// The first `webhook-id`s of those.
    pub changed_ids: Vec<String>,
    /// More came than are kept: nothing can be said about completeness.
    pub full: bool,
    /// What of it came with the header of a backfill. `None`: of a receiver that does not look at the header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs: Option<Vec<RunSum>>,
}

/// What a receiver got of one backfill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSum {
    /// The run, as the header says.
    pub run: i64,
    /// Messages, each once.
    pub messages: u64,
    /// Deliveries of a message that was there already, with the same body; allowed.
    pub repeats: u64,
}

/// The answer of `GET /deliveries/{slot}?after=<key>&limit=<n>`: each message, by key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page(pub Vec<Delivered>);

/// One message of a page: `[key, body]`, or `[key, body, run]` of one that a backfill has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Delivered {
    /// Of a backfill.
    Past(u64, u64, i64),
    /// Of the live stream, or of a receiver that does not tell.
    Live(u64, u64),
}

impl Delivered {
    /// A message of this run, if any.
    #[must_use]
    pub const fn new(key: u64, body: u64, run: Option<i64>) -> Self {
        match run {
            Some(run) => Self::Past(key, body, run),
            None => Self::Live(key, body),
        }
    }

    /// See [`key_of`].
    #[must_use]
    pub const fn key(self) -> u64 {
        match self {
            Self::Past(key, ..) | Self::Live(key, _) => key,
        }
    }

    /// See [`hash_of`].
    #[must_use]
    pub const fn body(self) -> u64 {
        match self {
            Self::Past(_, body, _) | Self::Live(_, body) => body,
        }
    }

    /// The backfill that has brought it.
    #[must_use]
    pub const fn run(self) -> Option<i64> {
        match self {
            Self::Past(.., run) => Some(run),
            Self::Live(..) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_a_message_can_be_found_in_its_id() {
        assert_eq!(key_of("msg_00000000000000ff0123"), 255);
        assert_ne!(key_of("evt_1"), key_of("evt_2"));
        assert_ne!(key_of("msg_x"), 0);
    }

    #[test]
    fn bodies_that_change_places_do_not_cancel() {
        let sum = |pairs: [(u64, u64); 2]| {
            let mut slot = Slot::default();
            pairs.iter().for_each(|(key, body)| slot.add(*key, *body));
            slot
        };
        assert_ne!(sum([(1, 10), (2, 20)]), sum([(1, 20), (2, 10)]));
        assert_eq!(sum([(1, 10), (2, 20)]), sum([(2, 20), (1, 10)]));
    }

    #[test]
    fn what_was_put_together_comes_apart_again() {
        let one = |key, body| {
            let mut slot = Slot::default();
            slot.add(key, body);
            slot
        };
        let both = one(1, 10).with(one(2, 20));
        assert_eq!(both.without(one(2, 20)), one(1, 10));
        assert_ne!(both.without(one(2, 21)), one(1, 10));
    }

    #[test]
    fn a_message_of_a_backfill_names_it_and_a_pair_is_one_of_the_live_stream() {
        let text = format!("[[1,{}],[3,4,1767882112123]]", u64::MAX);
        let page: Page = serde_json::from_str(&text).unwrap();
        let expected = [
            Delivered::Live(1, u64::MAX),
            Delivered::Past(3, 4, 1_767_882_112_123),
        ];
        assert_eq!(page.0, expected);
        assert_eq!(serde_json::to_string(&page).unwrap(), text);
    }

    #[test]
    fn a_summary_without_runs_is_that_of_a_receiver_that_does_not_tell_them() {
        let text = r#"{"slots":[[1,2]],"repeats":0,"changed":0,"changed_ids":[],"full":false}"#;
        let summary: Summary = serde_json::from_str(text).unwrap();
        assert_eq!(summary.runs, None);
        assert_eq!(serde_json::to_string(&summary).unwrap(), text);
    }
}
