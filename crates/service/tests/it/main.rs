//! The skeleton as a real process: `examples/sample.rs`, started, signalled, asked and read.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as the tests do")]

mod configuration;
mod lifecycle;
mod observability;
mod process;
