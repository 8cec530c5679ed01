//! How much a partition reads of a backfill at once. Pure.
//!
//! Invariant: what could not be written is tried in ever smaller portions, and larger ones are tried again only after many were.

use stream::probe::Most;

/// A live batch that comes meanwhile waits for it. Each question and each insert costs the server more than its rows do, so that
/// few large portions are several times as fast as many small ones.
const MOST: Most = Most {
    records: 32768,
    bytes: 12 * 1024 * 1024,
};
/// Fewer than these are not tried.
const LEAST: Most = Most {
    records: 256,
    bytes: 128 * 1024,
};
/// So many portions in a row are written before twice as much is tried: one that fails costs several tries of the server.
const GOOD: u32 = 16;

/// The size of the next portion.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    most: Most,
    /// Portions of this size that were written in a row.
    good: u32,
}

impl Default for Size {
    fn default() -> Self {
        Self {
            most: MOST,
            good: 0,
        }
    }
}

impl Size {
    /// What is read at once.
    pub(super) const fn most(&self) -> Most {
        self.most
    }

    /// A portion of this size was written.
    pub(super) fn written(&mut self) {
        self.good += 1;
        if self.good < GOOD {
            return;
        }
        *self = Self {
            most: Most {
                records: (self.most.records * 2).min(MOST.records),
                bytes: (self.most.bytes * 2).min(MOST.bytes),
            },
            good: 0,
        };
    }

    /// A portion of this size was not: perhaps it is more than the server can do at once.
    pub(super) fn unwritten(&mut self) {
        *self = Self {
            most: Most {
                records: (self.most.records / 2).max(LEAST.records),
                bytes: (self.most.bytes / 2).max(LEAST.bytes),
            },
            good: 0,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_written_is_tried_in_ever_smaller_portions_down_to_a_bound() {
        let mut size = Size::default();
        size.unwritten();
        assert_eq!(
            (size.most().records, size.most().bytes),
            (MOST.records / 2, MOST.bytes / 2)
        );
        (0..30).for_each(|_| size.unwritten());
        assert_eq!(size.most(), LEAST);
    }

    /// A server that can do a quarter of the whole: what it cannot do is tried now and then, not every other time.
    #[test]
    fn where_a_portion_is_always_too_large_few_of_them_fail() {
        let (mut size, mut failed) = (Size::default(), 0);
        for _ in 0..170 {
            if size.most().records > MOST.records / 4 {
                failed += 1;
                size.unwritten();
            } else {
                size.written();
            }
        }
        assert!((3..=12).contains(&failed), "{failed}");
    }

    #[test]
    fn after_many_that_were_written_the_whole_is_read_again_step_by_step() {
        let mut size = Size::default();
        (0..3).for_each(|_| size.unwritten());
        (0..3 * GOOD - 1).for_each(|_| size.written());
        assert_eq!(size.most().records, MOST.records / 2);
        (0..2 * GOOD).for_each(|_| size.written());
        assert_eq!(size.most(), MOST);
    }
}
