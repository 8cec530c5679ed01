//! The wire types of `proto/engagement/v1`, generated and checked in.
//!
//! Invariant: nothing here is written by hand; a test regenerates the code and compares.

/// Package `engagement.v1`.
pub mod v1 {
    include!("generated/engagement.v1.rs");
}
