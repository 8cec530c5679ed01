//! The skeleton as a real process: `examples/sample.rs`, started, signalled, asked and read.

mod configuration;
mod lifecycle;
mod observability;
mod process;
