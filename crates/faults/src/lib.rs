//! Named places in the services where a test makes the process die, stall or fail.
//!
//! Invariant: without the feature `inject` (release builds) every call compiles to nothing.
