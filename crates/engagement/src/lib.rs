//! The domain, pure: change records in, enriched events out.
//!
//! Bytes and values only; no clock, no client, no async. Whatever is needed from outside (the time, a position,
//! a looked-up content) is an argument. Invariant: no input, however broken, makes a function here panic.

pub mod catalog;
pub mod enrich;
pub mod envelope;
pub mod event;
mod integer;
mod position;
pub mod profile;
pub mod rounding;
pub mod testing;
mod time;
pub mod wire;
