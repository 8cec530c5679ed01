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
}

/// Key and body in one number; swapping the bodies of two messages changes the sum (finaliser of splitmix64).
#[must_use]
pub fn mixed(key: u64, body: u64) -> u64 {
    let mut x = key ^ body.rotate_left(32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The answer of `GET /deliveries`.
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
}

/// The answer of `GET /deliveries/{slot}?after=<key>&limit=<n>`: key and body of each message, by key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page(pub Vec<(u64, u64)>);

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
}
