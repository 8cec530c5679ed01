#![doc = include_str!("../../../docs/models.md")]

mod actions;
mod adopt;
mod choices;
mod clickhouse;
mod enricher;
mod explore;
mod group;
mod happen;
mod log;
mod redis;
mod rules;
mod sink;
mod truth;
mod webhook;
mod world;

pub use actions::{Action, Fault, SinkAction};
pub use clickhouse::Server as AtClickHouse;
pub use explore::{Failure, Scope, Space, Sum, exhaust, random, schedules, search};
pub use redis::Server as AtRedis;
pub use rules::Rule;
pub use sink::Kind;
pub use world::Violation;
