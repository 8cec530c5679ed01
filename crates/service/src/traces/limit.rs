//! So many a second, without a lock. Pure: time is an argument.
//!
//! Invariant: within one second at most [`A_SECOND`] are allowed, but for threads that meet at its very beginning.

use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

/// Allowed in one second.
const A_SECOND: u32 = 10;

#[derive(Debug, Default)]
pub(super) struct Limit {
    second: AtomicI64,
    used: AtomicU32,
}

impl Limit {
    /// Whether there is room for one more; `now` in microseconds since 1970.
    pub(super) fn allows(&self, now: i64) -> bool {
        let second = now.div_euclid(1_000_000);
        if self.second.swap(second, Ordering::Relaxed) != second {
            self.used.store(0, Ordering::Relaxed);
        }
        // looked at first, so that it cannot overflow however long the second is
        self.used.load(Ordering::Relaxed) < A_SECOND
            && self.used.fetch_add(1, Ordering::Relaxed) < A_SECOND
    }
}
