//! What must be recognised, named and refused instead of being guessed around; each on a small world of its own.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod log;
mod slot;
