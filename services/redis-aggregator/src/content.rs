//! What a batch changes of one content, and how the script reads it.
//!
//! Invariant: of the changes of "the last event" only those remain that could still matter, in their order.

use bytes::Bytes;
use engagement::event::{EnrichedEvent, Micros};

use crate::msgpack::Writer;
use crate::sums::Sums;

/// The changes of one content.
#[derive(Debug, Default)]
pub(crate) struct Content {
    pub(crate) id: String,
    pub(crate) totals: Sums,
    pub(crate) info: Option<Info>,
    pub(crate) last: Vec<LastChange>,
    pub(crate) recent: Vec<(i64, Bytes)>,
    pub(crate) users: Vec<String>,
}

/// What is known of a content itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Info {
    length_seconds: i64,
    content_type: String,
    title: String,
}

/// A change of "the last event of this content".
#[derive(Debug)]
pub(crate) enum LastChange {
    /// Shown unless one of a later time is shown already.
    Show {
        at: Micros,
        offset: i64,
        event_id: String,
        json: Bytes,
        event_type: String,
        event_ts: String,
    },
    /// No longer shown, if it is.
    Forget { event_id: String },
}

impl Content {
    /// Of two events shown one after the other only the later one by time remains; see the order in [`shown_at`].
    pub(crate) fn show_last(&mut self, event: &EnrichedEvent, offset: i64, json: Bytes) {
        let at = shown_at(event);
        if let Some(LastChange::Show { at: before, .. }) = self.last.last() {
            if *before > at {
                return;
            }
            self.last.pop();
        }
        self.last.push(LastChange::Show {
            at,
            offset,
            event_id: event.event_id.clone(),
            json,
            event_type: event.event_type.clone(),
            event_ts: event.event_ts.to_string(),
        });
    }

    /// `[id, sums, info or false, [last ..], [[stream id, json] ..], [user ..]]`
    pub(crate) fn encode(&mut self, out: &mut Writer) {
        self.users.sort_unstable();
        self.users.dedup();
        out.array(6);
        out.bytes(self.id.as_bytes());
        encode_sums(out, self.totals);
        match &self.info {
            Some(info) => info.encode(out),
            None => out.none(),
        }
        out.array(self.last.len());
        self.last
            .iter()
            .for_each(|change| change.encode(out, &self.recent));
        out.array(self.recent.len());
        for (offset, json) in &self.recent {
            out.array(2);
            out.bytes(format!("{offset}-1").as_bytes());
            out.bytes(json);
        }
        out.array(self.users.len());
        self.users
            .iter()
            .for_each(|user| out.bytes(user.as_bytes()));
    }
}

impl LastChange {
    /// `[time, event id, json, type, time as text]`, or `[false, event id]`. The JSON of an event that is among the
    /// recent ones is its place there, counted from 1.
    fn encode(&self, out: &mut Writer, recent: &[(i64, Bytes)]) {
        match self {
            Self::Show {
                at,
                offset,
                event_id,
                json,
                event_type,
                event_ts,
            } => {
                out.array(5);
                out.int(at.0);
                out.bytes(event_id.as_bytes());
                match recent.iter().rposition(|(of, _)| of == offset) {
                    Some(place) => out.int(i64::try_from(place + 1).unwrap_or(i64::MAX)),
                    None => out.bytes(json),
                }
                out.bytes(event_type.as_bytes());
                out.bytes(event_ts.as_bytes());
            }
            Self::Forget { event_id } => {
                out.array(2);
                out.none();
                out.bytes(event_id.as_bytes());
            }
        }
    }
}

impl Info {
    /// Length in seconds (0: unknown), type and title.
    #[must_use]
    pub fn new(length_seconds: i64, content_type: String, title: String) -> Self {
        Self {
            length_seconds: length_seconds.clamp(0, i64::from(i32::MAX)),
            content_type,
            title,
        }
    }

    pub(crate) fn of(event: &EnrichedEvent) -> Self {
        Self::new(
            event.length_seconds.unwrap_or(0),
            event.content_type.clone().unwrap_or_default(),
            event.content_title.clone().unwrap_or_default(),
        )
    }

    pub(crate) fn encode(&self, out: &mut Writer) {
        out.array(3);
        out.int(self.length_seconds);
        out.bytes(self.content_type.as_bytes());
        out.bytes(self.title.as_bytes());
    }
}

/// Where an event stands among those of its content: its time, but not after its own commit, so that one dated into
/// the future does not hide all that follow. Of two at the same time the later record counts.
#[must_use]
pub fn shown_at(event: &EnrichedEvent) -> Micros {
    event.event_ts.min(event.source.committed_at)
}

/// In the stored order.
pub(crate) fn encode_sums(out: &mut Writer, sums: Sums) {
    let values = sums.to_array();
    out.array(values.len());
    values.iter().for_each(|value| out.int(*value));
}
