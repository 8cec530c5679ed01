//! Writes enriched events into ClickHouse, each exactly once.
//!
//! A lane per partition decodes and judges ([`decode`], [`intake`]), gathers ([`batch`]), plans ([`plan`]), delivers ([`delivery`], the state
//! machine; [`deliver`], its hands; [`mod@write`], the I/O) and only then commits ([`sink`]).
//! Invariant: effect first, offset second; after anything but a clean success the table is asked before it is written.

pub mod app;
pub mod batch;
pub mod config;
pub mod decode;
pub mod deliver;
pub mod delivery;
pub mod error;
pub mod http;
pub mod intake;
pub mod metrics;
pub mod outage;
pub mod owner;
pub mod plan;
pub mod pulse;
pub mod row;
pub mod schema;
pub mod server;
pub mod sink;
pub mod sql;
pub mod wire;
pub mod write;
