//! The tool as a process: against a real broker, on a pseudo-terminal and in a pipe.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod backfill;
mod broker;
mod doctor;
mod erase;
mod generate;
mod interrupt;
mod lag;
mod letters;
mod offline;
mod question;
mod rebuild;
mod reset;
mod screen;
mod support;
mod tail;
mod terminal;
mod trace;
