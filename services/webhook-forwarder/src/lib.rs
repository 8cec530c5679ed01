#![doc = include_str!("../docs/architecture.md")]

pub mod address;
pub mod app;
pub mod attempts;
pub mod breaker;
mod check;
pub mod client;
pub mod config;
pub mod delivery;
pub mod endpoint;
pub mod endpoints;
pub mod enrol;
pub mod gate;
pub mod historical;
pub mod intake;
mod judge;
pub mod lane;
pub mod message;
pub mod metrics;
pub mod outcome;
mod pending;
pub mod position;
pub mod rejection;
pub mod request;
pub mod resolver;
pub mod retry_after;
pub mod runtime;
pub mod schedule;
pub mod signature;
pub mod traced;

pub use app::WebhookForwarder;

/// Name of the service: in topics, groups, metrics and logs.
pub const NAME: &str = "webhook-forwarder";
