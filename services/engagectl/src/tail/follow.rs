//! Reads a topic on a thread of its own, from some offset on, and hands the records over.
//!
//! Invariant: partitions are assigned, not subscribed to, and nothing is committed; whoever takes the records may go away
//! at any time, which ends the thread.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use engagement::event::Micros;
use stream::scan::{Heard, Scanner, Span};
use stream::{KafkaSettings, LaneError, Record};
use tokio::sync::mpsc::Sender;

/// A name to connect with; it is no group that anybody is in.
const NAME: &str = "engagectl-tail";

/// Where reading begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// What is written from now on.
    End,
    /// What is retained.
    Beginning,
    /// What was written at or after this time.
    At(Micros),
}

/// What to read.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) settings: KafkaSettings,
    pub(super) topic: String,
    pub(super) start: Start,
    /// End where the topic ends now.
    pub(super) to_the_end: bool,
}

/// What is handed over: records, and at last perhaps why there are no more.
pub(super) type Handed = Result<Record, LaneError>;

impl Source {
    /// Blocks until the end, or until nobody takes any more. `false`: there is no such topic.
    pub(super) fn read(&self, to: &Sender<Handed>) -> bool {
        match self.hand(to) {
            Ok(found) => found,
            Err(error) => {
                // Nobody is there to be told any more.
                let _ = to.blocking_send(Err(error));
                true
            }
        }
    }

    fn hand(&self, to: &Sender<Handed>) -> Result<bool, LaneError> {
        let scanner = Scanner::open(&self.settings, NAME, &self.topic)?;
        let all = scanner.spans()?;
        if all.is_empty() {
            return Ok(false);
        }
        let spans = self.spans(&scanner, all)?;
        let mut open = Open::of(&spans);
        if self.to_the_end && open.is_done() {
            return Ok(true);
        }
        scanner.follow(&spans, |heard| {
            let wanted = open.hear(&heard) || !self.to_the_end;
            let taken = match heard {
                Heard::Record(record) if wanted => to.blocking_send(Ok(record)).is_ok(),
                Heard::Record(_) | Heard::End(_) | Heard::Silence => !to.is_closed(),
            };
            match taken && !(self.to_the_end && open.is_done()) {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        })?;
        Ok(true)
    }

    fn spans(&self, scanner: &Scanner, all: Vec<Span>) -> Result<Vec<Span>, LaneError> {
        match self.start {
            Start::Beginning => Ok(all),
            Start::At(at) => scanner.since(&all, at.millis()),
            Start::End => Ok(all
                .into_iter()
                .map(|span| Span {
                    from: span.to,
                    ..span
                })
                .collect()),
        }
    }
}

/// What is still to be read up to the ends that were there at the beginning.
#[derive(Debug)]
struct Open(BTreeMap<i32, i64>);

impl Open {
    fn of(spans: &[Span]) -> Self {
        let open = spans.iter().filter(|span| span.from < span.to);
        Self(open.map(|span| (span.partition, span.to)).collect())
    }

    fn is_done(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a record belongs to it. Offsets have gaps: the last one need not be there.
    fn hear(&mut self, heard: &Heard) -> bool {
        let (partition, next) = match heard {
            Heard::Silence => return false,
            Heard::End(partition) => (*partition, i64::MAX),
            Heard::Record(record) => (record.partition, record.offset + 1),
        };
        let Some(to) = self.0.get(&partition).copied() else {
            return false;
        };
        if next >= to {
            self.0.remove(&partition);
        }
        next <= to
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(partition: i32, offset: i64) -> Heard {
        Heard::Record(Record {
            topic: "t".into(),
            partition,
            offset,
            timestamp_ms: None,
            key: None,
            payload: None,
            headers: Vec::new(),
        })
    }

    fn open() -> Open {
        let span = |partition, from, to| Span {
            partition,
            from,
            to,
        };
        Open::of(&[span(0, 5, 7), span(1, 3, 3), span(2, 0, 10)])
    }

    #[test]
    fn reading_to_the_end_takes_what_was_there_and_not_what_came_later() {
        let mut open = open();
        assert!(open.hear(&record(0, 5)) && open.hear(&record(0, 6)));
        assert!(!open.hear(&record(0, 7)) && !open.hear(&record(1, 3)));
        assert!(!open.is_done());
        assert!(open.hear(&record(2, 9)) && open.is_done());
    }

    #[test]
    fn a_partition_whose_last_offsets_hold_no_record_ends_too() {
        let mut open = open();
        open.hear(&Heard::End(2));
        assert!(!open.hear(&record(2, 9)), "it had ended");
        assert!(!open.hear(&record(0, 8)), "the last one was not there");
        assert!(open.is_done());
    }
}
