//! Against the real servers.

mod demo;
mod lifetime;
mod missing;
mod reexec;
mod servers;
mod shared;
mod support;
