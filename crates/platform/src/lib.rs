//! What Engage needs to exist around it: tables' settings, role and publication in Postgres, topics in
//! Kafka, the Debezium connector in Kafka Connect, table and views in ClickHouse.
//!
//! Everything is planned first and applied second: [`plan`] only reads, and [`Plan::apply`] runs exactly
//! the [`Change`]s that the plan shows. Both may be repeated at any time.
//!
//! Invariant: nothing is dropped, and nothing that exists is altered but to capture more or to hold more (replica identity, a
//! publication's tables and operations, the connector's configuration, columns that may be NULL); whatever else is wrong
//! becomes a [`Problem`] that names the remedy.

pub mod access;
mod clickhouse;
mod connector;
mod error;
mod facts;
mod keeper;
mod plan;
mod postgres;
mod recovery;
mod settings;
mod slot;
mod slot_state;
mod topics;

pub use clickhouse::{ClickHouseSettings, EventIdType, query as run_in_clickhouse};
pub use connector::trouble::Trouble;
pub use connector::worker::{ConnectorState, Worker, connector_state, worker};
pub use connector::{ConnectSettings, config as connector_config};
pub use error::PlatformError;
pub use facts::{Answered, DatabaseFacts, Heartbeat, ask_clickhouse, database_facts};
pub use keeper::{Keeper, Look};
pub use plan::{Change, Component, Plan, Problem, inspect, inspect_one, plan};
pub use postgres::{DatabaseSettings, PUBLICATION};
pub use recovery::{MARGIN, Recovery};
pub use settings::{Schema, Settings};
pub use slot::Loss;
pub use slot_state::{SlotState, WalStatus};
pub use topics::{TopicSettings, TopicSpec};
