//! What is deployed against what the code says: names, ports, environment, topics, metrics, addresses.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod canary;
mod compose;
mod docker;
mod drills;
mod environment;
mod evaluate;
mod kafka;
mod network;
mod pods;
mod rights;
mod scaling;
