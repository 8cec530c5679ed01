//! Sends every enriched event to systems that are not ours.
//!
//! Each endpoint is a consumer of its own, so the log is its queue: a dead endpoint is a paused
//! consumer with lag, and no other endpoint notices.
//!
//! A record goes through [`intake`] (duplicate? wanted? readable?), waits in [`schedule`] for its
//! turn among the records of its content, passes the [`gate`] (slots, rate, breaker), is posted by
//! [`client`], and what that came to is classified by [`outcome`] and judged by [`attempts`]:
//! delivered, again later, or to the dead letters. [`lane`] is the loop around these pure parts.
//!
//! Invariant: an endpoint gets every record at least once, in order per content, and every repeat
//! has the same id and the same body.

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
pub mod intake;
mod judge;
pub mod lane;
pub mod message;
pub mod metrics;
pub mod outcome;
pub mod position;
pub mod rejection;
pub mod request;
pub mod resolver;
pub mod retry_after;
pub mod runtime;
pub mod schedule;
pub mod signature;

pub use app::WebhookForwarder;

/// Name of the service: in topics, groups, metrics and logs.
pub const NAME: &str = "webhook-forwarder";
