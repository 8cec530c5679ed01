//! What operators do to a pipeline that is well: a rolling restart, more replicas, fewer replicas. Nothing may be lost or
//! doubled, and what comes in must keep coming out.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod backfill;
mod rolling;
mod scale;
mod world;
