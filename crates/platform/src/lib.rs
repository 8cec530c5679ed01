//! What Engage needs to exist around it: tables' settings, role and publication in Postgres, topics in
//! Kafka, the Debezium connector in Kafka Connect, table and views in ClickHouse.
//!
//! Everything is planned first and applied second: [`plan`] only reads, and [`Plan::apply`] runs exactly
//! the [`Change`]s that the plan shows. Both may be repeated at any time.
//!
//! Invariant: nothing that exists is altered or dropped; what exists and is wrong becomes a [`Problem`]
//! that names the remedy.

pub mod access;
mod clickhouse;
mod connector;
mod error;
mod keeper;
mod plan;
mod postgres;
mod settings;
mod slot;
mod slot_state;
mod topics;

pub use clickhouse::{ClickHouseSettings, EventIdType, query as ask_clickhouse};
pub use connector::{ConnectSettings, config as connector_config};
pub use error::PlatformError;
pub use keeper::{Keeper, Look};
pub use plan::{Change, Component, Plan, Problem, inspect, plan};
pub use postgres::{DatabaseSettings, PUBLICATION};
pub use settings::{Schema, Settings};
pub use slot_state::{SlotState, WalStatus};
pub use topics::{TopicSettings, TopicSpec};
