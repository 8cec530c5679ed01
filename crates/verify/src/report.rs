//! What a comparison found.
//!
//! Invariant: counts are complete; only the differences named one by one are limited.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::lacking::Lacking;
use crate::share::{RunReport, Share};
use crate::sources::Sink;

/// The result of one comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Rows that Postgres holds, within the bounds.
    pub events: u64,
    /// One entry for each sink that was compared.
    pub sinks: Vec<SinkReport>,
    /// What the dead-letter topics explain.
    pub dead_letters: DeadLetterReport,
    /// How long it took.
    #[serde(with = "millis", rename = "elapsed_ms")]
    pub elapsed: Duration,
}

/// What was found at one sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkReport {
    /// Which.
    pub sink: Sink,
    /// Events (for webhooks: messages) that were compared.
    pub compared: u64,
    /// Cells (a minute and a content; for Redis: sums of a content; for webhooks: groups of messages) that agree.
    pub equal: u64,
    /// Cells in which the sink has fewer events.
    pub missing: u64,
    /// Cells in which the sink has more events.
    pub surplus: u64,
    /// Cells with as many events that are not the same.
    pub changed: u64,
    /// Broken rules: a hole in the log, a row held twice, a repeat with another body.
    pub violations: u64,
    /// The first differences, by name.
    pub differences: Vec<Difference>,
    /// What a reader should know: coverage, repeats, what was left out.
    pub notes: Vec<String>,
    /// Records that the sink has not done yet; with some, differences may be no more than that.
    pub behind: u64,
    /// When the events of the cells with fewer events happened; for ClickHouse, which a backfill can bring them to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lacking: Option<Lacking>,
    /// Of the counts above, what is not of a backfill; for webhooks, where there are any in [`Self::runs`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<Share>,
    /// Of the counts above, what is of each backfill, the oldest run first; for webhooks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<RunReport>,
    /// How long it took.
    #[serde(with = "millis", rename = "elapsed_ms")]
    pub elapsed: Duration,
}

/// One difference, by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Difference {
    /// What is wrong.
    pub kind: Kind,
    /// The event, message or content.
    pub id: String,
    /// Where, and what was expected and found.
    pub what: String,
}

/// What is wrong with an event, message or content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The sink lacks it.
    Missing,
    /// The sink alone has it.
    Surplus,
    /// Both have it, with other values.
    Changed,
    /// A rule is broken.
    Violation,
}

/// What the dead-letter topics explain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterReport {
    /// Records in each topic that has any.
    pub topics: Vec<(String, u64)>,
    /// Events that were left out of a comparison because one of their records is there.
    pub events: Vec<String>,
    /// Letters whose bytes name no event.
    pub unreadable: u64,
}

impl SinkReport {
    pub(crate) fn new(sink: Sink) -> Self {
        Self {
            sink,
            compared: 0,
            equal: 0,
            missing: 0,
            surplus: 0,
            changed: 0,
            violations: 0,
            differences: Vec::new(),
            notes: Vec::new(),
            behind: 0,
            lacking: None,
            live: None,
            runs: Vec::new(),
            elapsed: Duration::ZERO,
        }
    }

    /// Nothing differs and no rule is broken.
    #[must_use]
    pub const fn is_equal(&self) -> bool {
        self.missing == 0 && self.surplus == 0 && self.changed == 0 && self.violations == 0
    }

    fn names(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.differences.is_empty() {
            writeln!(f, "{}:", self.sink)?;
        }
        for Difference { kind, id, what } in &self.differences {
            writeln!(f, "  {:<9} {id}  {what}", kind.to_string())?;
        }
        Ok(())
    }

    pub(crate) fn violation(
        &mut self,
        limit: usize,
        id: impl Into<String>,
        what: impl Into<String>,
    ) {
        self.violations += 1;
        self.name(limit, Kind::Violation, id, what);
    }

    /// Names a difference, up to the limit.
    pub(crate) fn name(
        &mut self,
        limit: usize,
        kind: Kind,
        id: impl Into<String>,
        what: impl Into<String>,
    ) {
        if self.differences.len() < limit {
            self.differences.push(Difference {
                kind,
                id: id.into(),
                what: what.into(),
            });
        }
    }
}

impl Report {
    /// Every sink holds exactly what it should.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        self.sinks.iter().all(SinkReport::is_equal)
    }

    /// A sink differs and has not done everything yet: compare again later.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.sinks.iter().any(|sink| sink.behind > 0)
    }

    /// What was found at a sink, if it was compared.
    #[must_use]
    pub fn sink(&self, sink: Sink) -> Option<&SinkReport> {
        self.sinks.iter().find(|found| found.sink == sink)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "missing",
            Self::Surplus => "surplus",
            Self::Changed => "changed",
            Self::Violation => "violation",
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counted = |sink| self.sink(sink).is_some();
        if counted(Sink::Clickhouse) || counted(Sink::Enriched) {
            writeln!(f, "Postgres holds {} events", self.events)?;
        }
        writeln!(
            f,
            "  {:<11} {:>10} {:>9} {:>8} {:>8} {:>8} {:>10} {:>7} {:>8}",
            "",
            "events",
            "cells ok",
            "missing",
            "surplus",
            "changed",
            "violations",
            "behind",
            "seconds"
        )?;
        for sink in &self.sinks {
            write!(f, "{sink}")?;
        }
        for sink in &self.sinks {
            sink.names(f)?;
        }
        for sink in &self.sinks {
            for note in &sink.notes {
                writeln!(f, "note, {}: {note}", sink.sink)?;
            }
        }
        write!(f, "{}", self.dead_letters)?;
        let verdict = if self.is_equal() {
            "equal"
        } else {
            "NOT EQUAL"
        };
        writeln!(f, "{verdict} ({:.1} s)", self.elapsed.as_secs_f64())
    }
}

impl fmt::Display for SinkReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "  {:<11} {:>10} {:>9} {:>8} {:>8} {:>8} {:>10} {:>7} {:>8.1}",
            self.sink.name(),
            self.compared,
            self.equal,
            self.missing,
            self.surplus,
            self.changed,
            self.violations,
            self.behind,
            self.elapsed.as_secs_f64()
        )?;
        if let Some(live) = &self.live {
            writeln!(f, "    live                 {live}")?;
        }
        for run in &self.runs {
            writeln!(f, "    {run}")?;
        }
        Ok(())
    }
}

impl fmt::Display for DeadLetterReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (topic, records) in &self.topics {
            writeln!(f, "dead letters: {records} in {topic}")?;
        }
        if !self.events.is_empty() {
            writeln!(f, "  not compared for that: {}", self.events.join(", "))?;
        }
        if self.unreadable > 0 {
            writeln!(f, "  {} of them name no event", self.unreadable)?;
        }
        Ok(())
    }
}

mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(value.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_millis)
    }
}
