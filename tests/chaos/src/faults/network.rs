//! Traffic between each pair is delayed, cut, halved.
//!
//! Invariant: each fault heals what it broke before it returns.

use super::Class;

/// The classes of this module.
pub const CLASSES: &[Class] = &[];
