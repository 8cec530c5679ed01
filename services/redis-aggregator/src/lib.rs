#![doc = include_str!("../docs/architecture.md")]

pub mod batch;
pub mod board;
pub mod chain;
pub mod config;
pub mod connection;
pub mod content;
pub mod decode;
pub mod emitted;
pub mod error;
pub mod history;
pub mod metrics;
pub mod msgpack;
pub mod position;
pub mod publish;
pub mod reader_keys;
pub mod rebuild;
pub mod republish;
pub mod resume;
pub mod script;
mod service_app;
pub mod sink;
pub mod spans;
pub mod store;
pub mod sums;
pub mod weights;
pub mod window;
pub mod write;

pub use service_app::{RedisAggregator, serve};
