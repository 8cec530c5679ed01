//! What is known of the rows that other owners of a partition have written. Pure.
//!
//! Invariant: a batch is written without asking the table only if nobody else can have written a part of it.

use std::collections::HashMap;
use std::time::Instant;

use engagement::event::Lane;

use crate::plan::Entry;

/// What is known about other owners' rows.
#[derive(Clone, Debug)]
pub enum Owner {
    /// Nothing yet; an insert of theirs may begin until then.
    Unknown(Option<Instant>),
    /// They got so far in each lane and epoch.
    Reached(HashMap<(Lane, u8), i64>),
}

impl Owner {
    /// Until when an insert of another owner may still begin, where that is not known to have passed.
    #[must_use]
    pub fn may_begin_until(&self) -> Option<Instant> {
        if let Self::Unknown(until) = self {
            *until
        } else {
            None
        }
    }

    /// Whether the table must be asked before these entries are written.
    #[must_use]
    pub fn may_have_written(&self, entries: &[Entry]) -> bool {
        let Self::Reached(highest) = self else {
            return true;
        };
        entries.iter().any(|entry| {
            let reached = highest.get(&(entry.position.lane, entry.position.epoch));
            entry.by_id || reached.is_some_and(|reached| entry.position.offset <= *reached)
        })
    }
}
