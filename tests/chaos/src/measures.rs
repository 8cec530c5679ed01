//! What is measured while faults happen: recovery times, and which faults were alone.
//!
//! Invariant: a recovery counts only where no other fault was under way at any moment of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Shared by all faults of an arena.
#[derive(Debug, Default)]
pub struct Measures {
    begun: AtomicU64,
    ended: AtomicU64,
    poison: AtomicU64,
    recoveries: Mutex<Vec<Duration>>,
    faults: Mutex<BTreeMap<String, u64>>,
}

/// The moment at which a fault looked whether it is alone.
#[derive(Clone, Copy, Debug)]
pub struct Alone {
    begun: u64,
    alone: bool,
}

impl Measures {
    /// A fault begins.
    pub fn begin(&self) {
        self.begun.fetch_add(1, Ordering::SeqCst);
    }

    /// A fault has healed, or failed.
    pub fn end(&self) {
        self.ended.fetch_add(1, Ordering::SeqCst);
    }

    /// A record that nobody can read was acknowledged by the enriched topic.
    pub fn poisoned(&self) {
        self.poison.fetch_add(1, Ordering::SeqCst);
    }

    /// How many such records there are.
    #[must_use]
    pub fn poison(&self) -> u64 {
        self.poison.load(Ordering::SeqCst)
    }

    /// So many faults of a class were injected.
    pub fn count(&self, class: &str) {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        *faults.entry(class.to_owned()).or_default() += 1;
    }

    /// Faults injected so far, by class.
    #[must_use]
    pub fn faults(&self) -> BTreeMap<String, u64> {
        self.faults
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// To be asked by a fault that is counted as begun already.
    #[must_use]
    pub fn now(&self) -> Alone {
        let begun = self.begun.load(Ordering::SeqCst);
        let under_way = begun.saturating_sub(self.ended.load(Ordering::SeqCst));
        Alone {
            begun,
            alone: under_way <= 1,
        }
    }

    /// Whether no other fault was under way since.
    #[must_use]
    pub fn still_alone(&self, since: Alone) -> bool {
        since.alone && self.begun.load(Ordering::SeqCst) == since.begun
    }

    /// A service worked again so long after its kill -9.
    pub fn recovered(&self, after: Duration) {
        self.recoveries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(after);
    }

    /// How many recoveries there were, their median and their 95th percentile.
    #[must_use]
    pub fn recovery(&self) -> (usize, Duration, Duration) {
        let mut all = self
            .recoveries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        all.sort_unstable();
        let at = |percent: usize| {
            let rank = (all.len() * percent).div_ceil(100).max(1) - 1;
            all.get(rank).copied().unwrap_or_default()
        };
        (all.len(), at(50), at(95))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_measured_values() {
        let measures = Measures::default();
        (1..=100).for_each(|ms| measures.recovered(Duration::from_millis(ms)));
        let (count, p50, p95) = measures.recovery();
        assert_eq!((count, p50.as_millis(), p95.as_millis()), (100, 50, 95));
    }

    #[test]
    fn a_fault_that_began_meanwhile_or_before_is_company() {
        let measures = Measures::default();
        measures.begin();
        let alone = measures.now();
        assert!(measures.still_alone(alone));
        measures.begin();
        assert!(!measures.still_alone(alone));
        measures.end();
        assert!(!measures.still_alone(alone), "it was there in between");
        let later = measures.now();
        assert!(measures.still_alone(later));
    }
}
