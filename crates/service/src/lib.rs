#![doc = include_str!("../docs/architecture.md")]

mod app;
pub mod backoff;
pub mod clock;
pub mod config;
mod failure;
pub mod finding;
pub mod health;
mod lifecycle;
pub mod metrics;
mod process;

pub use app::{App, Context};
pub use backoff::Backoff;
pub use failure::{Exit, Failure};
pub use finding::Finding;
pub use health::{Condition, Health};
pub use lifecycle::Lifecycle;
pub use process::main;
