//! The unit of comparison: all events of one content in one minute, summed.
//!
//! Invariant: the sums are a group (every event added can be taken away again), and Postgres, ClickHouse and this
//! module compute the same hash of a row.

use std::fmt;
use std::ops::{AddAssign, SubAssign};

use engagement::event::Micros;
use md5::{Digest as _, Md5};

/// Length of a bucket of event time, microseconds.
pub(crate) const MINUTE: i64 = 60_000_000;

/// A minute of event time (since 1970) and a content.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Cell {
    pub(crate) minute: i64,
    /// `None`: the column is NULL. Sorts first.
    pub(crate) content: Option<String>,
}

impl Cell {
    pub(crate) fn of(at: Micros, content: Option<&str>) -> Self {
        Self {
            minute: at.0.div_euclid(MINUTE),
            content: content.map(str::to_owned),
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minute = Micros(self.minute.saturating_mul(MINUTE));
        match &self.content {
            Some(content) => write!(f, "minute {minute}, content {content}"),
            None => write!(f, "minute {minute}, without content"),
        }
    }
}

/// Sums over the events of a cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Digest {
    /// Events.
    pub(crate) events: i64,
    /// Events with a duration.
    pub(crate) timed: i64,
    /// Milliseconds.
    pub(crate) ms: i128,
    /// Exclusive or of [`row_hash`].
    pub(crate) hash: u64,
}

impl Digest {
    /// One event.
    pub(crate) fn of(id: &str, event_type: &str, duration_ms: Option<i64>) -> Self {
        Self {
            events: 1,
            timed: i64::from(duration_ms.is_some()),
            ms: i128::from(duration_ms.unwrap_or(0)),
            hash: row_hash(id, event_type, duration_ms),
        }
    }

    pub(crate) fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

impl AddAssign for Digest {
    fn add_assign(&mut self, other: Self) {
        self.events += other.events;
        self.timed += other.timed;
        self.ms += other.ms;
        self.hash ^= other.hash;
    }
}

impl SubAssign for Digest {
    fn sub_assign(&mut self, other: Self) {
        self.events -= other.events;
        self.timed -= other.timed;
        self.ms -= other.ms;
        self.hash ^= other.hash;
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} events, {} ms", self.events, self.ms)
    }
}

/// The first eight bytes of the MD5 of `<id>|<event_type>|<duration_ms>`, NULL as nothing.
pub(crate) fn row_hash(id: &str, event_type: &str, duration_ms: Option<i64>) -> u64 {
    let mut md5 = Md5::new();
    md5.update(id);
    md5.update("|");
    md5.update(event_type);
    md5.update("|");
    if let Some(ms) = duration_ms {
        md5.update(ms.to_string());
    }
    first_eight(&md5.finalize())
}

/// Big-endian, as the hexadecimal text reads.
pub(crate) fn first_eight(bytes: &[u8]) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&bytes[..8]);
    u64::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_a_row_is_md5_of_its_text() {
        // printf '7|play|' | md5sum
        assert_eq!(row_hash("7", "play", None), 0x1f8bdfc6f3d38a7d);
        assert_ne!(row_hash("7", "play", None), row_hash("7", "play", Some(0)));
    }

    #[test]
    fn times_before_1970_lie_in_the_minute_before() {
        assert_eq!(Cell::of(Micros(-1), None).minute, -1);
        assert_eq!(Cell::of(Micros(MINUTE), None).minute, 1);
    }

    #[test]
    fn what_was_added_can_be_taken_away() {
        let mut sum = Digest::of("1", "play", Some(5));
        sum += Digest::of("2", "", None);
        sum -= Digest::of("1", "play", Some(5));
        sum -= Digest::of("2", "", None);
        assert!(sum.is_zero());
    }
}
