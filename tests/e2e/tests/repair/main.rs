//! What an operator does after an accident: rows from Postgres again, a store made anew. Each test breaks a pipeline of its own
//! and repairs it under a live stream; one at a time, because each has a machine's worth of servers.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod backfill;
mod endings;
mod rebuild;
mod refusals;
mod webhooks;
