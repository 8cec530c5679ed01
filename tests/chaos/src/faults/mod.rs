//! Every class of fault, in one table.
//!
//! Invariant: a fault that returned has healed: whatever it broke works again or is being started again. One that finds
//! that a promise was broken (a stop that did not come, a partition that did not move) returns an error.

pub mod clickhouse;
pub mod clock;
pub mod connect;
pub mod disk;
mod group;
pub mod kafka;
pub mod network;
pub mod offsets;
pub mod outage;
pub mod points;
pub mod postgres;
pub mod process;
pub mod redis;
pub mod refusal;
pub mod storm;
pub mod times;
mod trigger;
pub(crate) mod turn;

use futures_util::future::BoxFuture;
use rand_chacha::ChaCha8Rng;

use crate::Arena;

/// Injects one fault, waits until it has healed, and says what was done. Chance only from the generator given.
pub type Inject =
    for<'a> fn(&'a Arena, &'a mut ChaCha8Rng) -> BoxFuture<'a, anyhow::Result<String>>;

/// May other faults happen at the same time?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Company {
    /// Any others may.
    Any,
    /// The schedule first lets the others end: this one stops services for a reason and checks that reason.
    None,
}

/// A class of faults.
#[derive(Clone, Copy, Debug)]
pub struct Class {
    /// For example `process.kill`: the part before the dot is the module.
    pub name: &'static str,
    /// What it does, in a few words, for the report.
    pub about: &'static str,
    /// Whether others may happen at the same time.
    pub company: Company,
    /// How often it is drawn in a long run, relative to the others; 0: only when every class has its turn.
    pub weight: u32,
    /// Does it.
    pub inject: Inject,
}

/// All classes, by module. A module adds its own to its `CLASSES`:
/// `Class { name: "kafka.kill", .., inject: |arena, rng| Box::pin(kill(arena, rng)) }`.
pub const CLASSES: &[&[Class]] = &[
    process::CLASSES,
    points::CLASSES,
    storm::CLASSES,
    times::CLASSES,
    kafka::CLASSES,
    connect::CLASSES,
    clickhouse::CLASSES,
    redis::CLASSES,
    postgres::CLASSES,
    offsets::CLASSES,
    clock::CLASSES,
    disk::CLASSES,
    network::CLASSES,
];

/// What the group of a service has done and what there is, in offsets over all partitions.
///
/// # Errors
/// The broker does not answer.
pub async fn progress(arena: &Arena, service: &str) -> anyhow::Result<(i64, i64)> {
    group::Group::of(service).progress(arena).await
}

/// All classes in the order of the table.
pub fn all() -> impl Iterator<Item = &'static Class> {
    CLASSES.iter().copied().flatten()
}

/// The class of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Class> {
    all().find(|class| class.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_class_has_a_name_of_its_own() {
        let names: BTreeSet<&str> = all().map(|class| class.name).collect();
        assert_eq!(names.len(), all().count());
    }
}
