//! ClickHouse: killed during an insert, down, slow, resets, lost and false answers.
//!
//! Invariant: each fault heals what it broke before it returns.

use super::Class;

/// The classes of this module.
pub const CLASSES: &[Class] = &[];
