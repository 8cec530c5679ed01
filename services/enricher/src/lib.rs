//! Joins the change stream of events with the content table and writes one enriched event per change.
//!
//! Partition p of the change topic is copied to partition p of the output, in order. There is no state but Kafka's:
//! where to continue is read from the tail of the output ([`resume`]), what is a re-send is decided by the [`chain`],
//! the contents are a table in memory fed by the compacted content topic ([`contents`]), and what that lacks is asked
//! for in Postgres ([`lookup`]).
//!
//! Invariant: every change is in the output exactly once by position, or in the dead letters with its original bytes.

mod capture;
pub mod chain;
pub mod config;
pub mod contents;
mod emit;
mod error;
pub mod follower;
mod identity;
mod join;
mod lane;
pub mod lookup;
pub mod metrics;
pub mod replay;
mod resume;
mod run;
mod spans;
mod startup;
mod state;
mod work;

pub use run::Enricher;
