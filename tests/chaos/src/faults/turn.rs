//! One fault at a time on each server and on each link: two on the same one would heal each other's faults. The same holds
//! for who is a member of a group.
//!
//! Invariant: whoever stops, freezes or moves a server, or spoils a link, holds its turn until it is well again; a server's
//! turn is taken before a link's, and several servers' in the order of [`Kind::ALL`].

use devstack::Kind;
use tokio::sync::{Mutex, MutexGuard};

use crate::proxy::Pair;

static SERVERS: [Mutex<()>; Kind::ALL.len()] = [const { Mutex::const_new(()) }; Kind::ALL.len()];
static LINKS: [Mutex<()>; 10] = [const { Mutex::const_new(()) }; 10];

static MEMBERS: Mutex<()> = Mutex::const_new(());

/// Waits for the turn at who is a member of a group: two that hold services back would release each other's. Taken before
/// that of a server.
pub(crate) async fn over_members() -> MutexGuard<'static, ()> {
    MEMBERS.lock().await
}

/// Waits for the turn at this server.
pub(crate) async fn at(kind: Kind) -> MutexGuard<'static, ()> {
    let index = Kind::ALL.iter().position(|known| *known == kind);
    SERVERS[index.unwrap_or_default()].lock().await
}

/// Waits for the turn on the link of this pair.
pub(crate) async fn on(pair: Pair) -> MutexGuard<'static, ()> {
    let index = Pair::ALL.iter().position(|known| *known == pair);
    LINKS[index.unwrap_or_default()].lock().await
}
