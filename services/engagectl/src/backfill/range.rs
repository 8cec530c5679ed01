//! The range of time of a backfill. Pure.
//!
//! Invariant: a range that comes out is neither empty nor reversed, and begins before now.

use std::fmt;

use engagement::event::Micros;
use serde::{Deserialize, Serialize};

/// Events that happened at or after `start` and before `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Range {
    /// The first moment of it.
    pub(super) start: Micros,
    /// The first moment after it.
    pub(super) end: Micros,
}

/// Two times that are no range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum RangeError {
    /// Nothing lies between them.
    #[error("the range is empty: --start and --end both mean {0}")]
    Empty(Micros),
    /// The later one comes first.
    #[error("the range is reversed: --start means {start}, which is after --end, {end}")]
    Reversed {
        /// As given.
        start: Micros,
        /// As given.
        end: Micros,
    },
    /// Nothing can have happened in it.
    #[error("the range lies in the future: --start means {start}, and it is {now} now")]
    Future {
        /// As given.
        start: Micros,
        /// At the time of asking.
        now: Micros,
    },
}

impl Range {
    /// The range between two moments.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn new(start: Micros, end: Micros, now: Micros) -> Result<Self, RangeError> {
        match start.cmp(&end) {
            std::cmp::Ordering::Less if start >= now => Err(RangeError::Future { start, now }),
            std::cmp::Ordering::Less => Ok(Self { start, end }),
            std::cmp::Ordering::Equal => Err(RangeError::Empty(start)),
            std::cmp::Ordering::Greater => Err(RangeError::Reversed { start, end }),
        }
    }

    /// At most `parts` ranges of about the same length that together are this one, in order.
    #[must_use]
    pub(super) fn split(self, parts: u32) -> Vec<Self> {
        let length = i128::from(self.end.0) - i128::from(self.start.0);
        let parts = i128::from(parts.max(1)).min(length);
        let cut = |part: i128| {
            let at = i128::from(self.start.0) + length * part / parts;
            // between two times of 64 bits
            Micros(i64::try_from(at).unwrap_or(self.end.0))
        };
        (0..parts)
            .map(|part| Self {
                start: cut(part),
                end: cut(part + 1),
            })
            .collect()
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} .. {}", self.start, self.end)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::moment::Moment;

    /// 2026-01-08T14:21:52Z
    const NOW: Micros = Micros(1_767_882_112_000_000);

    #[test]
    fn a_range_is_refused_in_words_that_say_which_way_it_is_wrong() {
        let day = |text: &str| text.parse::<Moment>().unwrap().micros(NOW.0);
        let range = |start, end| Range::new(day(start), day(end), NOW).map_err(|e| e.to_string());
        assert!(range("-2h", "now").is_ok());
        assert!(range("today", "2026-02-01").is_ok(), "rows may lie ahead");
        assert!(
            range("today", "yesterday")
                .unwrap_err()
                .contains("reversed")
        );
        assert!(range("today", "today").unwrap_err().contains("empty"));
        assert!(
            range("2026-02-01", "2026-03-01")
                .unwrap_err()
                .contains("future")
        );
    }

    proptest! {
        #[test]
        fn parts_are_the_whole_without_gap_or_overlap(start in any::<i32>(), length in 1..i64::MAX / 4, parts in 0u32..200) {
            let start = i64::from(start);
            let range = Range { start: Micros(start), end: Micros(start + length) };
            let split = range.split(parts);
            prop_assert!(!split.is_empty() && split.len() <= parts.max(1) as usize);
            prop_assert_eq!(split[0].start, range.start);
            prop_assert_eq!(split[split.len() - 1].end, range.end);
            prop_assert!(split.windows(2).all(|two| two[0].end == two[1].start));
            prop_assert!(split.iter().all(|part| part.start < part.end));
        }
    }
}
