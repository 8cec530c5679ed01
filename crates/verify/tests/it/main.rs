//! Every difference is seen and named, on the real servers.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod analytics;
mod backfilled;
mod deliveries;
mod receiver;
mod redis_sums;
mod stores;
mod topic;
mod world;
