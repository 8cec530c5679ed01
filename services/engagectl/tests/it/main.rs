//! The tool as a process: against a real broker, on a pseudo-terminal and in a pipe.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod lag;
mod offline;
mod screen;
mod support;
mod tail;
mod terminal;
