//! Writes enriched events into ClickHouse, each exactly once.
//!
//! A lane per partition decodes and judges ([`decode`], [`intake`]), gathers ([`batch`], at the [`pace`] of all), plans ([`plan`]), delivers ([`delivery`], the state
//! machine; [`deliver`], its hands; [`mod@write`] and [`read_back`], the I/O) and only then commits ([`sink`]). A [`fence`] keeps others out;
//! a [`witness`] tells that the table still is the one that was written into. A [`backfill`] is written by the same lanes, between live batches.
//! Invariant: effect first, offset second; after anything but a clean success the table is asked before it is written.

pub mod answers;
pub mod app;
pub mod backfill;
pub mod batch;
pub mod cells;
pub mod config;
pub mod decode;
pub mod deliver;
pub mod delivery;
pub mod error;
pub mod fence;
pub mod http;
pub mod intake;
pub mod memory;
pub mod metrics;
pub mod outage;
pub mod owner;
pub mod pace;
pub mod plan;
pub mod read_back;
pub mod row;
pub mod schema;
pub mod server;
pub mod sink;
pub mod sql;
pub mod together;
pub mod wire;
pub mod witness;
pub mod write;
