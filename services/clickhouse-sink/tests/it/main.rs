//! The sink as a process between a real Kafka and a real ClickHouse.
//!
//! Invariant: every test has topics, a group and a database of its own.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod backfill;
mod bench;
mod clickhouse;
mod differential;
mod doubt;
mod emptied;
mod exactness;
mod healthy;
mod late;
mod log;
mod memory;
mod proxy;
mod read_back;
mod redrive;
mod refusal;
mod sink;
mod table;
mod together;
