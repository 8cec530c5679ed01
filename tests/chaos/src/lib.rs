//! Injects faults into a running pipeline under mixed load, drains it, and compares every sink with Postgres.
//!
//! Invariant: everything that chance decides follows from the seed; the verdict comes from the stores alone, never from
//! what the harness believes it has done.

pub mod arena;
pub mod faults;
pub mod fleet;
pub mod freshness;
pub mod ledger;
pub mod load;
pub mod measures;
pub mod proxy;
pub mod run;
mod run_dir;
pub mod schedule;
pub mod wait;

pub use arena::{Arena, ArenaOptions, Patience};
pub use fleet::{Fleet, ReplicaId};
pub use run_dir::RunDir;
