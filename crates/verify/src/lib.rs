//! Compares what Postgres holds with what every sink holds: equal, missing, surplus.
//!
//! Invariant: it only reads, and what it keeps in memory does not grow with the number of events.
