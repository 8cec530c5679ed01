//! The Kafka layer against a real broker.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod beside;
mod consuming;
mod dead_letters;
mod election;
mod lineage;
mod memory;
mod outage;
mod preflight;
mod probe;
mod producing;
mod pulse;
mod rebalance;
mod recreated;
mod support;
