//! The forwarder against a real broker and real HTTP servers.

mod attempts;
mod delivery;
mod isolation;
mod letters;
mod restarts;
mod start;
#[cfg(test)]
mod support;
