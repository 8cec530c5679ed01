//! Sends every enriched event to endpoints that are not ours.
pub mod address;
pub mod attempts;
pub mod breaker;
pub mod config;
pub mod endpoint;
pub mod gate;
pub mod message;
pub mod metrics;
pub mod outcome;
pub mod resolver;
pub mod retry_after;
pub mod schedule;
pub mod signature;
