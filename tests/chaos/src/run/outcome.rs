//! What came out of a run.
//!
//! Invariant: good means that no fault found a broken promise, no service stopped without a reason, and every sink equals
//! Postgres.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use verify::{Report, SinkReport};

use super::RunOptions;
use crate::Arena;
use crate::faults::outage::Drain;

/// The outcome of one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// When it ended, UTC.
    pub at: String,
    /// The seed of all chance.
    pub seed: u64,
    /// How long faults were injected.
    pub minutes: f64,
    /// Rows a second.
    pub rate: f64,
    /// The services that ran.
    pub services: Vec<String>,
    /// Replicas of each service.
    pub replicas: usize,
    /// Faults injected, by class.
    pub faults: BTreeMap<String, u64>,
    /// How long the sinks took to hold everything after the last fault, in seconds.
    pub drained_s: f64,
    /// Kills of a service after which it was measured how long it took to work again, and no other fault disturbed that.
    pub recoveries: usize,
    /// Their median, in milliseconds.
    pub recovery_p50_ms: u128,
    /// Their 95th percentile, in milliseconds.
    pub recovery_p95_ms: u128,
    /// How each sink came back from a long outage, where there was one.
    pub drains: Vec<Drain>,
    /// Largest resident memory of a process of each service, in MiB.
    pub peak_mib: BTreeMap<String, u64>,
    /// Records put into the enriched topic that nobody can read: each must be in the dead letters of the sinks.
    pub poison: u64,
    /// What must not have happened.
    pub failures: Vec<String>,
    /// The comparison of every sink with Postgres.
    pub report: Report,
    /// The command that repeats this run.
    pub again: String,
}

impl Outcome {
    /// Nothing was lost, nothing doubled, nothing changed, and every promise was kept.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.failures.is_empty() && self.violations() == 0
    }

    /// Differences and broken rules of all sinks.
    #[must_use]
    pub fn violations(&self) -> u64 {
        let of = |sink: &SinkReport| sink.missing + sink.surplus + sink.changed + sink.violations;
        self.report.sinks.iter().map(of).sum()
    }

    /// All faults.
    #[must_use]
    pub fn injected(&self) -> u64 {
        self.faults.values().sum()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "seed {}: {} faults of {} classes in {:.1} min; {} events; drained in {:.0} s",
            self.seed,
            self.injected(),
            self.faults.len(),
            self.minutes,
            self.report.events,
            self.drained_s
        )?;
        for (class, count) in &self.faults {
            writeln!(f, "  {count:>5} {class}")?;
        }
        writeln!(
            f,
            "recovery after kill -9: p50 {} ms, p95 {} ms of {}",
            self.recovery_p50_ms, self.recovery_p95_ms, self.recoveries
        )?;
        for drain in &self.drains {
            writeln!(f, "  {drain}")?;
        }
        for (service, mib) in &self.peak_mib {
            writeln!(f, "  peak memory of {service}: {mib} MiB")?;
        }
        writeln!(
            f,
            "{} unreadable records put into the enriched topic",
            self.poison
        )?;
        writeln!(f, "{}", self.report)?;
        for failure in &self.failures {
            writeln!(f, "FAILED {failure}")?;
        }
        if self.is_good() {
            write!(f, "every sink equals Postgres")
        } else {
            write!(f, "NOT GOOD; again: {}", self.again)
        }
    }
}

pub(super) fn collect(
    options: &RunOptions,
    arena: &Arena,
    injected_for: Duration,
    drained: Duration,
    drains: Vec<Drain>,
    report: Report,
    failures: Vec<String>,
) -> Outcome {
    let (recoveries, p50, p95) = arena.measures.recovery();
    let peak = arena.fleet.peak_kib();
    Outcome {
        at: super::utc("%Y-%m-%d %H:%M"),
        seed: options.seed,
        minutes: injected_for.as_secs_f64() / 60.0,
        rate: options.rate,
        services: options.services.iter().map(ToString::to_string).collect(),
        replicas: options.replicas,
        faults: arena.measures.faults(),
        drained_s: drained.as_secs_f64(),
        recoveries,
        recovery_p50_ms: p50.as_millis(),
        recovery_p95_ms: p95.as_millis(),
        peak_mib: peak
            .into_iter()
            .map(|(service, kib)| (service.to_owned(), kib / 1024))
            .collect(),
        drains,
        poison: arena.measures.poison(),
        failures,
        report,
        again: options.again.clone(),
    }
}
