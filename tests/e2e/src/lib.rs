//! What the end-to-end tests share: a running pipeline, writers into Postgres, readers of every sink.
//!
//! Invariant: every reader waits for its condition with a deadline and says what it last saw.
#![expect(clippy::unwrap_used, reason = "a test harness fails by panicking")]

mod collector;
mod readers;
mod traced;
mod world;
mod writers;

pub use readers::DeadLetter;
pub use traced::Traced;
pub use world::{CONTENT_BEFORE, ROWS_BEFORE, World};
pub use writers::{Content, Event};
