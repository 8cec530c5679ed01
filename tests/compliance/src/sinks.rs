//! The sinks under test, one file each.
//!
//! Invariant: what a sink holds is read from its store itself, never asked of the sink.

mod clickhouse;
mod redis;
mod webhook;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use devstack::Launch;
use futures_util::future::BoxFuture;

use crate::World;

/// A sink, its store, and how the two are told of each other.
pub trait SinkUnderTest: Send + Sync {
    /// The service's name: that of its binary, and its label in metrics.
    fn service(&self) -> &'static str;
    /// Where its store listens.
    fn store(&self) -> SocketAddr;
    /// Adds what this service needs beside the broker, with its store at `store`.
    fn configure(&self, launch: Launch, names: &Names, store: SocketAddr) -> Launch;
    /// How often the event of each content is there. One that the store must not hold twice counts twice.
    fn holds(&self) -> BoxFuture<'_, BTreeMap<String, u64>>;
    /// The fault point right before its write.
    fn write_point(&self) -> &'static str;
    /// Metrics of the contract that this kind of sink has beside those that all have; a part of the line each.
    fn metrics(&self) -> &'static [&'static str];
    /// Settings with which `engagectl lineage` finds this sink's position.
    fn lineage_arguments(&self, _: &Names) -> Vec<String> {
        vec!["groups.redis=".to_owned()]
    }
    /// The consumer group that follows from the configured one.
    fn group(&self, configured: &str) -> String {
        configured.to_owned()
    }
}

/// What is configured in the same way for all.
#[derive(Clone, Debug)]
pub struct Names {
    /// Unique to the check.
    pub name: String,
    /// The enriched topic.
    pub enriched: String,
    /// The dead letters.
    pub letters: String,
}

/// Makes the store ready for a check of this name.
pub type Make = fn(&'static World, String) -> BoxFuture<'static, Box<dyn SinkUnderTest>>;

/// Every sink.
pub const ALL: [(&str, Make); 3] = [
    ("clickhouse-sink", clickhouse::make),
    ("redis-aggregator", redis::make),
    ("webhook-forwarder", webhook::make),
];
