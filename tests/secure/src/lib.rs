//! The whole pipeline with TLS, passwords from files and least rights: what the tests of `tests/secure` share.
//!
//! Invariant: nothing here gives a service a right that `platform::access` does not list.
#![expect(clippy::unwrap_used, reason = "a test harness fails by panicking")]

mod authority;
mod leaks;
mod proxy;
mod secrets;
mod servers;
mod services;
mod world;

pub use authority::Authority;
pub use leaks::Evidence;
pub use secrets::Secrets;
pub use world::{Outcome, World};
