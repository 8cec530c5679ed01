//! The whole pipeline through real processes: Postgres, Debezium, Kafka, the services, every sink.
//!
//! One pipeline serves all tests of the documented schema; each test uses contents of its own, so that they
//! may run at the same time.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod changes;
mod derived;
mod erasure;
mod offsets;
mod poison;
mod restart;
mod snapshot;
