//! Everything an endpoint has, built once and shared by its partitions.
//!
//! Invariant: nothing in it is optional or filled in later.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use engagement::event::Micros;
use metrics::{Counter, Histogram};
use stream::dead_letter::{DeadLetters, Reject, RejectBudget};
use stream::{LaneError, Record};

use crate::client::Poster;
use crate::endpoint::Endpoint;
use crate::gate::Gate;
use crate::outcome::Outcome;
use crate::rejection;
use crate::traced::Sender;

/// Records over which the share of dead letters is judged: above half of them the endpoint, or the partition, stops.
const JUDGED_RECORDS: usize = 100;

/// Shares of dead letters: by topic, because what a backfill brings says nothing about the stream, and the other way round. Records
/// that are no events are judged by partition (`Some`), because they say nothing about the endpoint.
type Budgets = BTreeMap<(Arc<str>, Option<i32>), RejectBudget>;

/// One endpoint at work.
pub struct Runtime {
    /// Its configuration.
    pub endpoint: Endpoint,
    /// Its consumer group.
    pub group: String,
    /// The way to it.
    pub gate: Gate,
    /// Its HTTP client.
    pub poster: Poster,
    /// Commit in Postgres to 2xx.
    pub freshness: Histogram,
    /// Duration of each attempt.
    pub attempt_seconds: Histogram,
    /// Attempts that delivered.
    pub delivered: Counter,
    /// Attempts and dead letters under way at once, per partition.
    pub most_under_way: usize,
    dead_letters: DeadLetters,
    budgets: Mutex<Budgets>,
}

impl Runtime {
    /// Builds it.
    ///
    /// # Errors
    /// The HTTP client cannot be built.
    pub fn new(
        endpoint: Endpoint,
        group: String,
        dead_letters: DeadLetters,
    ) -> Result<Self, reqwest::Error> {
        Ok(Self {
            gate: Gate::new(&endpoint),
            poster: Poster::new(&endpoint)?,
            freshness: service::metrics::freshness(crate::NAME),
            attempt_seconds: crate::metrics::attempt_seconds(&endpoint.name),
            delivered: crate::metrics::attempts(&endpoint.name, Outcome::Delivered.label()),
            most_under_way: usize::try_from(endpoint.concurrency.get()).unwrap_or(usize::MAX),
            budgets: Mutex::default(),
            endpoint,
            group,
            dead_letters,
        })
    }

    /// Writes a dead letter and waits until the broker has it.
    ///
    /// # Errors
    /// See [`DeadLetters::send`].
    pub async fn dead_letter(&self, record: &Record, reject: &Reject) -> Result<(), LaneError> {
        let record = rejection::addressed(record, &self.endpoint.name);
        let now = Micros(service::clock::now());
        self.dead_letters.send(&record, reject, now).await
    }

    /// Who delivers, for traces.
    #[must_use]
    pub fn sender(&self) -> Sender<'_> {
        Sender {
            group: &self.group,
            endpoint: &self.endpoint.name,
            host: self.endpoint.url.host_str().unwrap_or_default(),
        }
    }

    /// Notes the delivery of a record.
    pub fn taken(&self, record: &Record) {
        // a delivery cannot use a budget up
        for partition in [None, Some(record.partition)] {
            let _ = self.budget(record, partition, |budget| budget.note(false));
        }
    }

    /// Notes a dead letter.
    ///
    /// # Errors
    /// `Stop`, when most records become dead letters: the endpoint's configuration is wrong, or the partition's writer is, not
    /// its records.
    pub fn spend(&self, record: &Record, reject: &Reject) -> Result<(), LaneError> {
        let is_no_event = reject.stage == rejection::DECODE;
        let partition = is_no_event.then_some(record.partition);
        self.budget(record, partition, |budget| budget.spend(record, reject))
    }

    fn budget<T>(
        &self,
        record: &Record,
        partition: Option<i32>,
        change: impl FnOnce(&mut RejectBudget) -> T,
    ) -> T {
        let mut budgets = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        let budget = budgets.entry((Arc::clone(&record.topic), partition));
        change(budget.or_insert_with(|| RejectBudget::new(JUDGED_RECORDS)))
    }
}
