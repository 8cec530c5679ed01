//! Against the real servers.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod demo;
mod lifetime;
mod missing;
mod reading;
mod reexec;
mod servers;
mod shared;
mod support;
