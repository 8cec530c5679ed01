//! What a record of the backfill lane says to its readers, in the header [`BACKFILL`]. Pure.
//!
//! Invariant: printing and parsing are inverse; a text of another version is an error, never a guess.

use std::fmt;
use std::str::FromStr;

use crate::headers::last_text;
use crate::record::Record;

/// The header of every record of the backfill lane.
pub const BACKFILL: &str = "engage-backfill";
/// The header of a webhook that a backfill has caused: its run, as in [`Ticket::run`]. Deliveries of the live stream have none.
pub const RUN: &str = "engage-backfill-run";

/// A sink that a backfill can be for.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Addressee {
    /// The table of events.
    Clickhouse,
    /// Endpoints that take historical events.
    Webhook,
}

impl Addressee {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Clickhouse, Self::Webhook];

    /// `clickhouse`, `webhook`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Clickhouse => "clickhouse",
            Self::Webhook => "webhook",
        }
    }
}

impl fmt::Display for Addressee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Addressee {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|one| one.name() == text);
        found.ok_or_else(|| format!("{text:?} is none of clickhouse, webhook"))
    }
}

/// Where a record of a backfill comes from, when it may be applied, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The run: milliseconds since 1970 at its beginning.
    pub run: i64,
    /// The range of the run.
    pub range: u32,
    /// It may be applied once the reader has done everything below this offset of the same partition of the live topic.
    pub after: i64,
    /// Where the write-ahead log was after the row had been read.
    pub lsn: u64,
    /// Who it is for.
    pub sinks: Vec<Addressee>,
}

impl Ticket {
    /// The ticket of a record; `None`: it has none that can be read.
    #[must_use]
    pub fn of(record: &Record) -> Option<Self> {
        last_text(&record.headers, BACKFILL)?.parse().ok()
    }

    /// Whether it is for this sink.
    #[must_use]
    pub fn is_for(&self, sink: Addressee) -> bool {
        self.sinks.contains(&sink)
    }

    /// Whether a reader that has done everything below `done` has passed what the row may have come from. `end` is where
    /// the live partition ends, asked for *after* the record was read: one that ends below [`Self::after`] is another log,
    /// and what this one waits for will never come.
    #[must_use]
    pub const fn is_due(&self, done: i64, end: i64) -> bool {
        done >= self.after || end < self.after
    }
}

impl fmt::Display for Ticket {
    /// `run=1767882112123 range=3 after=4711 lsn=16b3748 for=clickhouse,webhook`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            run,
            range,
            after,
            lsn,
            sinks,
        } = self;
        let sinks: Vec<&str> = sinks.iter().map(|sink| sink.name()).collect();
        write!(
            f,
            "run={run} range={range} after={after} lsn={lsn:x} for={}",
            sinks.join(",")
        )
    }
}

/// A text that is no ticket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no header of a backfill, such as run=1767882112123 range=3 after=4711 lsn=16b3748 for=clickhouse"
)]
pub struct TicketError(String);

impl FromStr for Ticket {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        read(text).ok_or_else(|| TicketError(text.chars().take(200).collect()))
    }
}

fn read(text: &str) -> Option<Ticket> {
    let mut words = text.split(' ');
    let mut word = |key: &str| words.next()?.strip_prefix(key)?.strip_prefix('=');
    let ticket = Ticket {
        run: word("run")?.parse().ok()?,
        range: word("range")?.parse().ok()?,
        after: word("after")?.parse().ok()?,
        lsn: u64::from_str_radix(word("lsn")?, 16).ok()?,
        sinks: names(word("for")?)?,
    };
    words.next().is_none().then_some(ticket)
}

fn names(text: &str) -> Option<Vec<Addressee>> {
    text.split(',').map(|name| name.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn ticket()(
            run in any::<i64>(), range in any::<u32>(), after in any::<i64>(), lsn in any::<u64>(),
            sinks in proptest::sample::subsequence(Addressee::ALL.to_vec(), 1..=2),
        ) -> Ticket {
            Ticket { run, range, after, lsn, sinks }
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_back(ticket in ticket()) {
            prop_assert_eq!(ticket.to_string().parse(), Ok(ticket));
        }

        #[test]
        fn no_text_panics(text in "(run=1 range=)?\\PC*") {
            let _ = text.parse::<Ticket>();
        }
    }

    fn after(after: i64) -> Ticket {
        Ticket {
            run: 1,
            range: 0,
            after,
            lsn: 0,
            sinks: vec![Addressee::Clickhouse],
        }
    }

    #[test]
    fn a_record_waits_until_everything_below_its_offset_is_done() {
        assert!(!after(10).is_due(9, 10));
        assert!(after(10).is_due(10, 10));
        assert!(
            after(0).is_due(0, 0),
            "an empty partition has nothing to wait for"
        );
    }

    #[test]
    fn a_log_that_ends_below_the_offset_is_another_one_and_is_not_waited_for() {
        assert!(after(10).is_due(3, 5));
        assert!(!after(10).is_due(3, 12));
    }

    #[test]
    fn a_header_of_another_version_is_refused_not_guessed() {
        for text in [
            "",
            "run=1",
            "run=1 range=0 after=0 lsn=0 for=",
            "run=1 range=0 after=0 lsn=0 for=kafka",
            "run=1 range=0 after=0 lsn=0 for=webhook more=1",
            "range=0 run=1 after=0 lsn=0 for=webhook",
        ] {
            assert!(text.parse::<Ticket>().is_err(), "{text}");
        }
    }
}
