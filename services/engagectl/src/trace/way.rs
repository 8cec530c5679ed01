//! The way of an event as data. Pure.
//!
//! Invariant: a step says `done` only where somebody has seen its effect, or a position that is behind it.

use engagement::event::{Micros, Source};
use serde::Serialize;
use stream::Committed;

use super::letters::Letter;
use super::log::{Endpoint, Found};
use super::stores::{Received, Row};
use crate::jaeger::Span;

/// Everything found about an event.
#[derive(Debug, Serialize)]
pub(super) struct Way {
    pub(super) event_id: String,
    /// Whether the row is there; `None`: Postgres could not be asked.
    pub(super) in_postgres: Option<bool>,
    /// What was committed about it, the oldest first.
    pub(super) changes: Vec<Change>,
    /// What could not be asked or found.
    pub(super) notes: Vec<String>,
}

/// One change: an insert, an update or a deletion.
#[derive(Debug, Serialize)]
pub(super) struct Change {
    pub(super) operation: &'static str,
    #[serde(serialize_with = "as_text")]
    pub(super) committed_at: Micros,
    pub(super) lsn: u64,
    pub(super) tx_id: Option<i64>,
    /// Lane, epoch, partition and offset of the change record.
    pub(super) source: String,
    pub(super) trace_id: String,
    /// Whether it was traced from its beginning.
    pub(super) sampled: bool,
    pub(super) trace_url: Option<String>,
    pub(super) steps: Vec<Step>,
    pub(super) spans: Vec<Span>,
}

/// How far a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    Done,
    Waiting,
    DeadLetter,
    Unknown,
}

/// One stage of the way.
#[derive(Debug, Serialize)]
pub(super) struct Step {
    pub(super) name: String,
    pub(super) state: State,
    #[serde(serialize_with = "as_optional_text")]
    pub(super) at: Option<Micros>,
    /// Milliseconds since the commit.
    pub(super) after_ms: Option<i64>,
    pub(super) detail: String,
}

impl Step {
    fn new(name: &str, state: State, at: Option<Micros>, detail: String) -> Self {
        Self {
            name: name.to_owned(),
            state,
            at,
            after_ms: None,
            detail,
        }
    }

    /// Nobody could be asked.
    pub(super) fn unknown(name: &str, why: String) -> Self {
        Self::new(name, State::Unknown, None, why)
    }

    /// With its distance from the commit.
    pub(super) fn after(mut self, committed_at: Micros) -> Self {
        self.after_ms = self.at.map(|at| (at.0 - committed_at.0).div_euclid(1000));
        self
    }

    /// In the change topic; `at`: when it was written, if the record is still there.
    pub(super) fn captured(topic: &str, source: &Source, at: Option<Micros>) -> Self {
        let Source {
            partition, offset, ..
        } = source;
        let place = format!("{topic}/{partition} offset {offset}");
        let detail = match at {
            Some(_) => place,
            None => format!("{place} (no longer retained)"),
        };
        Self::new("captured", State::Done, at, detail)
    }

    pub(super) fn enriched(topic: &str, found: &Found) -> Self {
        let partition = found.source.partition;
        let detail = match found.offset {
            Some(offset) => format!("{topic}/{partition} offset {offset}, {}", found.status),
            None => format!("{topic}/{partition} (no longer retained), {}", found.status),
        };
        Self::new("enriched", State::Done, Some(found.enriched_at), detail)
    }

    pub(super) fn clickhouse(row: Option<&Row>, asked: bool) -> Self {
        match row {
            Some(row) => {
                let detail = format!("in events_enriched, {} row(s)", row.rows);
                Self::new("clickhouse", State::Done, Some(row.ingested_at), detail)
            }
            None if asked => Self::new(
                "clickhouse",
                State::Waiting,
                None,
                "not in events_enriched".into(),
            ),
            None => Self::unknown("clickhouse", "could not be asked, see the note".into()),
        }
    }

    /// Redis keeps sums, not events: it is in them once the position is behind it.
    pub(super) fn redis(offset: Option<i64>, position: Option<&Committed>) -> Self {
        let Some(&Committed { offset: next, .. }) = position else {
            let detail = "nothing is stored for its partition".to_owned();
            return Self::new("redis", State::Waiting, None, detail);
        };
        let detail = format!("applied up to offset {}", next - 1);
        let done = offset.is_none_or(|offset| offset < next);
        let state = if done { State::Done } else { State::Waiting };
        Self::new("redis", state, None, detail)
    }

    pub(super) fn webhook(
        endpoint: &Endpoint,
        committed: Option<i64>,
        offset: Option<i64>,
        receipts: &[&Received],
    ) -> Self {
        let Endpoint { name, group } = endpoint;
        let name = format!("webhook {name}");
        if let Some(first) = receipts.iter().min_by_key(|one| one.at) {
            let repeats = match receipts.len() {
                1 => String::new(),
                count => format!(", {count} deliveries"),
            };
            let detail = format!("received, {}{repeats}", first.webhook_id);
            return Self::new(&name, State::Done, Some(first.at), detail);
        }
        let passed = committed.is_some_and(|next| offset.is_none_or(|offset| offset < next));
        let detail = match committed {
            Some(next) => format!("group {group} has settled everything below offset {next}"),
            None => format!("group {group} has no position"),
        };
        let state = if passed { State::Done } else { State::Waiting };
        Self::new(&name, state, None, detail)
    }

    pub(super) fn letter(letter: &Letter) -> Self {
        let detail = format!(
            "{}/{} offset {}: {} after {} attempt(s), {}",
            letter.topic,
            letter.partition,
            letter.offset,
            letter.kind,
            letter.attempts,
            letter.message
        );
        Self::new(&letter.service, State::DeadLetter, letter.at, detail)
    }
}

fn as_text<S: serde::Serializer>(at: &Micros, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(at)
}

#[expect(clippy::ref_option, reason = "the form that serde calls")]
fn as_optional_text<S: serde::Serializer>(
    at: &Option<Micros>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => serializer.collect_str(at),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(next: i64) -> Option<Committed> {
        Some(Committed {
            offset: next,
            metadata: String::new(),
        })
    }

    #[test]
    fn redis_has_an_event_once_its_position_is_behind_it() {
        let state =
            |offset, position: Option<Committed>| Step::redis(offset, position.as_ref()).state;
        assert_eq!(state(Some(7), at(7)), State::Waiting);
        assert_eq!(state(Some(7), at(8)), State::Done);
        assert_eq!(state(Some(7), None), State::Waiting);
        assert_eq!(state(None, at(1)), State::Done, "expired long ago");
    }

    #[test]
    fn a_receipt_says_more_than_a_position() {
        let receipt = Received {
            event_id: "1".into(),
            revision: None,
            webhook_id: "msg_1".into(),
            at: Micros(5_000),
        };
        let crm = Endpoint {
            name: "crm".into(),
            group: "webhook-forwarder.crm".into(),
        };
        let step = Step::webhook(&crm, Some(3), Some(7), &[&receipt]);
        assert_eq!(
            (step.state, step.name.as_str()),
            (State::Done, "webhook crm")
        );
        assert_eq!(step.after(Micros(2_000)).after_ms, Some(3));
        let waiting = Step::webhook(&crm, Some(7), Some(7), &[]);
        assert_eq!(waiting.state, State::Waiting);
    }
}
