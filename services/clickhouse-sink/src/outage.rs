//! What `/readyz` says about ClickHouse: which partitions wait for it, and why.
//!
//! Invariant: ready only while no partition waits.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use service::Condition;

/// The partitions that wait.
#[derive(Clone, Debug)]
pub struct Outage {
    condition: Condition,
    waiting: Arc<Mutex<BTreeMap<i32, String>>>,
}

impl Outage {
    /// Nothing waits; `condition` is set from here on.
    #[must_use]
    pub fn new(condition: Condition) -> Self {
        condition.ready();
        Self {
            condition,
            waiting: Arc::default(),
        }
    }

    /// This partition waits.
    pub fn begins(&self, partition: i32, reason: String) {
        self.change(|waiting| drop(waiting.insert(partition, reason)));
    }

    /// This partition waits no more.
    pub fn ends(&self, partition: i32) {
        self.change(|waiting| drop(waiting.remove(&partition)));
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<i32, String>)) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut waiting);
        match waiting.first_key_value() {
            None => self.condition.ready(),
            Some((_, reason)) => self.condition.not_ready(format!(
                "{} partitions wait for ClickHouse: {reason}",
                waiting.len()
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use service::Health;

    use super::*;

    #[test]
    fn ready_means_that_no_partition_waits() {
        let health = Health::default();
        let outage = Outage::new(health.condition("clickhouse"));
        outage.begins(3, "connection refused".into());
        outage.begins(5, "timed out".into());
        outage.ends(3);
        let reason = health.ready().conditions[0].reason.clone();
        assert_eq!(
            reason.as_deref(),
            Some("1 partitions wait for ClickHouse: timed out")
        );
        outage.ends(5);
        assert!(health.ready().ok);
    }
}
