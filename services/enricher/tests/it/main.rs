//! The enricher against a real broker and a real Postgres; the change records are made by hand.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod broker;
mod cdc;
mod crash;
mod join;
mod outage;
mod process;
mod redrive;
mod refusal;
mod resume;
mod speed;
mod world;
