//! The ledger of runs: `docs/chaos-ledger.jsonl`, one line a run, and `docs/chaos-ledger.md`, the same to read.
//!
//! Invariant: lines are only appended; the table is always made from all lines.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use engagectl::pipeline::SERVICES;
use serde::{Deserialize, Serialize};

use crate::faults::outage::Drain;
use crate::run::Outcome;

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// When it ended, UTC.
    pub at: String,
    /// The seed of all chance.
    pub seed: u64,
    /// The services that ran; empty in entries from before this was noted, when all did.
    #[serde(default)]
    pub services: Vec<String>,
    /// How long faults were injected.
    pub minutes: f64,
    /// Faults injected, by class.
    pub faults: BTreeMap<String, u64>,
    /// Events compared.
    pub events: u64,
    /// Differences and broken promises.
    pub violations: u64,
    /// From kill -9 to the first new effect, in milliseconds: median.
    pub recovery_p50_ms: u128,
    /// The same, 95th percentile.
    pub recovery_p95_ms: u128,
    /// Largest resident memory of a process of each service, in MiB.
    pub peak_mib: BTreeMap<String, u64>,
    /// How each sink came back from a long outage, where there was one.
    pub drains: Vec<Drain>,
}

impl Entry {
    /// The line of a run.
    #[must_use]
    pub fn of(outcome: &Outcome) -> Self {
        let failures = u64::try_from(outcome.failures.len()).unwrap_or(u64::MAX);
        Self {
            at: outcome.at.clone(),
            seed: outcome.seed,
            services: outcome.services.clone(),
            minutes: (outcome.minutes * 10.0).round() / 10.0,
            faults: outcome.faults.clone(),
            events: outcome.report.events,
            violations: failures + outcome.violations(),
            recovery_p50_ms: outcome.recovery_p50_ms,
            recovery_p95_ms: outcome.recovery_p95_ms,
            peak_mib: outcome.peak_mib.clone(),
            drains: outcome.drains.clone(),
        }
    }

    /// Which services ran, in a word where all did.
    fn ran(&self) -> String {
        let all = self.services.is_empty() || self.services.len() == SERVICES.len();
        if all {
            "all".to_owned()
        } else {
            self.services.join(", ")
        }
    }

    fn injected(&self) -> u64 {
        self.faults.values().sum()
    }
}

/// Appends a run and writes the table anew.
///
/// # Errors
/// A file of the directory cannot be read or written.
pub fn append(docs: &Path, entry: &Entry) -> anyhow::Result<()> {
    let path = docs.join("chaos-ledger.jsonl");
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    writeln!(file, "{}", serde_json::to_string(entry)?)?;
    drop(file);
    let text = std::fs::read_to_string(&path)?;
    let entries: Vec<Entry> = text
        .lines()
        .enumerate()
        .map(|(number, line)| {
            serde_json::from_str(line)
                .with_context(|| format!("{} line {}", path.display(), number + 1))
        })
        .collect::<anyhow::Result<_>>()?;
    std::fs::write(docs.join("chaos-ledger.md"), render(&entries))?;
    Ok(())
}

/// The table. Pure.
#[must_use]
pub fn render(entries: &[Entry]) -> String {
    let mut text = String::from(
        "# Chaos ledger\n\nEvery run of `make chaos`, appended by the run itself (made from `chaos-ledger.jsonl`). \
         A violation is an event that is missing, surplus or changed in any sink, or a promise that a fault found broken.\n\n",
    );
    let sum = |of: fn(&Entry) -> u64| entries.iter().map(of).sum::<u64>();
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "**{} runs, {} faults, {} events verified, {} violations.**\n",
        entries.len(),
        sum(Entry::injected),
        sum(|entry| entry.events),
        sum(|entry| entry.violations)
    );
    text.push_str(
        "| UTC | seed | min | services | faults | events | violations | recovery p50 / p95 | peak MiB |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for entry in entries {
        let peaks: Vec<String> = entry
            .peak_mib
            .iter()
            .map(|(service, mib)| format!("{service} {mib}"))
            .collect();
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} / {} ms | {} |",
            entry.at,
            entry.seed,
            entry.minutes,
            entry.ran(),
            entry.injected(),
            entry.events,
            entry.violations,
            entry.recovery_p50_ms,
            entry.recovery_p95_ms,
            peaks.join(", ")
        );
    }
    let drains: Vec<&Drain> = entries.iter().flat_map(|entry| &entry.drains).collect();
    if !drains.is_empty() {
        text.push_str("\n## Backlogs after an outage of what the sinks write to\n\n");
    }
    for drain in drains {
        let _ = writeln!(text, "* {drain}");
    }
    text.push_str("\n## Faults by class\n\n| class | injected |\n|---|---|\n");
    let mut classes = BTreeMap::<&str, u64>::new();
    for (class, count) in entries.iter().flat_map(|entry| &entry.faults) {
        *classes.entry(class).or_default() += count;
    }
    for (class, count) in classes {
        let _ = writeln!(text, "| {class} | {count} |");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(seed: u64) -> Entry {
        Entry {
            at: "2026-01-02 03:04".into(),
            seed,
            services: Vec::new(),
            minutes: 60.0,
            faults: BTreeMap::from([("process.kill".into(), 7), ("kafka.kill".into(), 2)]),
            events: 1000,
            violations: 0,
            recovery_p50_ms: 900,
            recovery_p95_ms: 1900,
            peak_mib: BTreeMap::from([("enricher".into(), 41)]),
            drains: vec![Drain {
                service: "redis-aggregator".into(),
                outage_s: 300.0,
                backlog: 120_000,
                steady: 400.0,
                seconds: 24.0,
                rate: 5400.0,
            }],
        }
    }

    #[test]
    fn runs_are_appended_and_summed() {
        let docs = tempfile::tempdir().unwrap();
        append(docs.path(), &entry(1)).unwrap();
        append(docs.path(), &entry(2)).unwrap();
        let table = std::fs::read_to_string(docs.path().join("chaos-ledger.md")).unwrap();
        assert!(table.contains("**2 runs, 18 faults, 2000 events verified, 0 violations.**"));
        assert!(table.contains(
            "| 2026-01-02 03:04 | 2 | 60 | all | 9 | 1000 | 0 | 900 / 1900 ms | enricher 41 |"
        ));
        assert!(table.contains("| process.kill | 14 |"));
        assert!(table.contains(
            "* redis-aggregator: 120000 records after 300 s drained in 24.0 s at 5400/s, 13.5 x the steady 400/s"
        ));
    }
}
