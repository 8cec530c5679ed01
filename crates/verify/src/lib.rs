#![doc = include_str!("../docs/architecture.md")]

mod aggregates;
mod analytics;
mod cell;
mod chain;
mod change;
mod clickhouse;
pub mod delivery;
mod error;
mod fold;
mod implied;
mod late;
mod letters;
mod log;
mod msgpack;
mod naming;
mod postgres;
mod reader_keys;
mod redis_state;
mod report;
mod rows;
mod run;
mod settle;
mod slots;
mod sources;
mod sums;
mod tally;
mod topic;
mod webhook;
mod wire;

pub use error::Error;
pub use report::{DeadLetterReport, Difference, Kind, Report, SinkReport};
pub use run::run;
pub use settle::{settle, settle_with};
pub use sources::{
    KafkaSource, OnProgress, Options, PostgresSource, ReceiverSource, RedisSource, Sink, Sources,
};
