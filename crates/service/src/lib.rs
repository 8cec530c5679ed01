#![doc = include_str!("../docs/architecture.md")]

mod admin;
mod allocator;
mod app;
pub mod backoff;
mod cli;
pub mod clock;
pub mod config;
mod exposition;
mod failure;
pub mod finding;
pub mod health;
pub mod healthcheck;
mod lifecycle;
pub mod metrics;
mod panics;
mod process;
mod run;
pub mod telemetry;
pub mod tls;
pub mod traces;

pub use app::{App, Context};
pub use backoff::Backoff;
pub use failure::{Exit, Failure};
pub use finding::Finding;
pub use health::{Condition, Health};
pub use lifecycle::Lifecycle;
pub use process::{main, serve};
pub use tls::{TlsError, TlsFiles};

/// The version of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit of this build, given by whoever builds it in `GIT_SHA`.
pub const GIT_SHA: &str = match option_env!("GIT_SHA") {
    Some(sha) => sha,
    None => "unknown",
};
