//! The forwarder against a real broker and real HTTP servers.

mod attempts;
mod delivery;
mod isolation;
mod letters;
#[cfg(test)]
mod redrive;
mod restarts;
mod start;
#[cfg(test)]
mod support;
