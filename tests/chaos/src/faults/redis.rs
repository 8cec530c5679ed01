//! Redis: killed, torn append-only file, lost answers, failover, emptied, out of memory.
//!
//! Invariant: each fault heals what it broke before it returns.

use super::Class;

/// The classes of this module.
pub const CLASSES: &[Class] = &[];
