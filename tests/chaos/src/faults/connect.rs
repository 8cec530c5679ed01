//! Connect and Debezium: killed in the middle of large transactions, offsets rolled back.
//!
//! Invariant: each fault heals what it broke before it returns.

use super::Class;

/// The classes of this module.
pub const CLASSES: &[Class] = &[];
