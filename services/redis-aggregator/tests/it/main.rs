//! The aggregator against a real Redis and a real Kafka: what Redis holds is compared with a recomputation from the events.

#![expect(
    clippy::unwrap_used,
    reason = "where the setting of a test cannot be made, the test has failed"
)]

mod cluster;
mod faults;
mod model;
mod scripts;
mod service_runs;
mod support;
mod support_kafka;
mod torn;
mod verdict;
