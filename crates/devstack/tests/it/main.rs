//! Against the real servers.

mod servers;
mod shared;
