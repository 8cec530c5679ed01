//! Rows that may repeat (snapshots taken after the stream began, backfills, redriven letters): the newest revision of each
//! counts. Pure.
//!
//! Invariant: at most [`MOST`] events are followed so; beyond them the set says that it is full, and nothing is concluded.

use std::collections::{HashMap, HashSet};

use engagement::event::{EnrichedEvent, Micros};
use md5::{Digest as _, Md5};

use crate::cell::first_eight;
use crate::change::after;
use crate::rows::NamedRow;

/// About 250 bytes each.
const MOST: usize = 200_000;

/// The events that are followed by id.
#[derive(Debug, Default)]
pub(crate) struct Late {
    ids: HashSet<u64>,
    newest: HashMap<u64, (u64, Option<(Micros, NamedRow)>)>,
    pub(crate) is_full: bool,
}

impl Late {
    /// This event shall be followed by id.
    pub(crate) fn watch(&mut self, id: &str) {
        if self.ids.len() >= MOST {
            self.is_full = true;
        } else {
            self.ids.insert(hash(id));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(crate) fn has(&self, id: &str) -> bool {
        !self.ids.is_empty() && self.ids.contains(&hash(id))
    }

    /// Follows one record of a watched event, whatever the order.
    pub(crate) fn follow(&mut self, event: &EnrichedEvent) {
        if event.moved && event.deleted {
            return;
        }
        let key = hash(&event.event_id);
        let known = self.newest.get(&key).map(|(revision, _)| *revision);
        if known.is_none_or(|known| event.revision >= known) {
            let row = (!event.deleted).then(|| (event.event_ts, after(event).row()));
            self.newest.insert(key, (event.revision, row));
        }
    }

    /// The rows that exist by what was followed, with their exact times; following begins anew.
    pub(crate) fn rows(&mut self) -> impl Iterator<Item = (Micros, NamedRow)> + use<> {
        std::mem::take(&mut self.newest)
            .into_values()
            .filter_map(|(_, row)| row)
    }
}

fn hash(id: &str) -> u64 {
    first_eight(&Md5::digest(id))
}
