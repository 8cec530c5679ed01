//! What a record takes away and what it adds. Pure.
//!
//! Invariant: summed over all records of an event, in any partition, only its newest image is left.

use engagement::event::{EnrichedEvent, Micros, Previous};

use crate::cell::{Cell, Digest};
use crate::rows::NamedRow;

/// An image of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Image<'a> {
    pub(crate) id: &'a str,
    pub(crate) at: Micros,
    pub(crate) content: Option<&'a str>,
    pub(crate) event_type: &'a str,
    pub(crate) duration_ms: Option<i64>,
}

impl Image<'_> {
    pub(crate) fn cell(&self) -> Cell {
        Cell::of(self.at, self.content)
    }

    pub(crate) fn digest(&self) -> Digest {
        Digest::of(self.id, self.event_type, self.duration_ms)
    }

    pub(crate) fn row(&self) -> NamedRow {
        NamedRow {
            cell: self.cell(),
            id: self.id.to_owned(),
            event_type: self.event_type.to_owned(),
            duration_ms: self.duration_ms,
        }
    }
}

/// The image that goes, and the image that comes. Of a move to another content the deletion takes the old image away, and
/// the other half takes nothing, even if it names what it replaces.
pub(crate) fn images(event: &EnrichedEvent) -> (Option<Image<'_>>, Option<Image<'_>>) {
    let own = after(event);
    match (&event.previous, event.deleted) {
        (Some(previous), true) => (Some(before(previous)), None),
        (None, true) => (Some(own), None),
        (Some(previous), false) if !event.moved => (Some(before(previous)), Some(own)),
        (_, false) => (None, Some(own)),
    }
}

/// The image that a record leaves if it is not a deletion.
pub(crate) fn after(event: &EnrichedEvent) -> Image<'_> {
    Image {
        id: &event.event_id,
        at: event.event_ts,
        content: event.content_id.as_deref(),
        event_type: &event.event_type,
        duration_ms: event.duration_ms,
    }
}

fn before(previous: &Previous) -> Image<'_> {
    Image {
        id: &previous.event_id,
        at: previous.event_ts,
        content: previous.content_id.as_deref(),
        event_type: &previous.event_type,
        duration_ms: previous.duration_ms,
    }
}
