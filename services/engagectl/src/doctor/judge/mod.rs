//! From facts to diagnoses: no client, no clock. Pure.

pub(super) mod clock;
pub(super) mod connector;
pub(super) mod group;
pub(super) mod log;
pub(super) mod redis;
pub(super) mod slot;
pub(super) mod version;
pub(super) mod webhook;
