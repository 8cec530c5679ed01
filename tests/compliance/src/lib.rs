//! What every sink must do, asked of each by the same code.
//!
//! A check is a function of a [`Bench`]: one sink as a process of its own, before its store (reached through a
//! [`Gate`]) and behind topics of its own. A further sink is one file in [`sinks`] and one line in [`sinks::ALL`].
//!
//! Invariant: each event of a check has a content of its own, so that "how often is it there" is one number per event
//! in every store.
#![expect(clippy::unwrap_used, reason = "a test harness fails by panicking")]

mod bench;
pub mod checks;
mod collector;
mod gate;
mod instance;
mod log;
mod pipeline;
pub mod sinks;
mod wait;
mod world;

pub use bench::{Bench, of_every_sink};
pub use collector::Collector;
pub use gate::Gate;
pub use instance::Instance;
pub use log::Log;
pub use pipeline::Pipeline;
pub use wait::eventually;
pub use world::World;
