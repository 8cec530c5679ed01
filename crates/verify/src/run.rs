//! One comparison of everything, in the order in which the stores have to be read.
//!
//! Invariant: what a sink holds is read before what it should hold, so that a moving pipeline shows as "behind" and not as
//! surplus; Postgres comes last and its transaction is short.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::StreamExt;
use tokio::time::Instant;

use crate::deliveries::Deliveries;
use crate::fold::Into;
use crate::letters::Letters;
use crate::log::Log;
use crate::postgres::Source;
use crate::redis_state::Held;
use crate::slots::Slots;
use crate::topic::Reading;
use crate::{
    Error, Options, Report, Sink, SinkReport, Sources, aggregates, analytics, clickhouse, log,
    topic,
};

/// Compares every sink with Postgres, once, as things are now.
///
/// # Errors
/// A store that cannot be read. A difference is no error: it is in the report.
pub async fn run(sources: &Sources, options: &Options) -> Result<Report, Error> {
    let begun = Instant::now();
    let mut run = Run::begin(sources, options).await?;
    run.read_topic().await?;
    let mut postgres = Source::open(&sources.postgres).await?;
    let compared = run.compare(&mut postgres).await;
    postgres.close().await;
    compared?;
    run.compare_deliveries().await?;
    run.report.sinks.sort_by_key(|sink| sink.sink);
    run.report.elapsed = begun.elapsed();
    Ok(run.report)
}

struct Run<'a> {
    sources: &'a Sources,
    options: &'a Options,
    letters: Letters,
    without: Vec<String>,
    log: Log,
    held: Vec<Held>,
    deliveries: Option<Deliveries<'a>>,
    reading: Option<Reading>,
    topic_begun: Instant,
    report: Report,
}

impl<'a> Run<'a> {
    /// Reads what the sinks and the dead letters hold, and fixes the offsets of the topic.
    async fn begin(sources: &'a Sources, options: &'a Options) -> Result<Self, Error> {
        options.say("reading dead letters");
        let key = sources.postgres.schema.event_key();
        let endpoint = sources.receiver.as_ref().map(|one| one.endpoint.as_str());
        let letters = Letters::read(&sources.kafka, key, endpoint).await?;
        let log = Log::open(&sources.kafka).await?;
        let held = match &sources.redis {
            Some(redis) if options.sinks.contains(&Sink::Redis) => {
                options.say("reading Redis");
                aggregates::read(redis, &log).await?
            }
            _ => Vec::new(),
        };
        // Redis was read after the ends were fixed; what it has done since then is read as well.
        let log = if held.is_empty() {
            log
        } else {
            Log::open(&sources.kafka).await?
        };
        let report = Report {
            dead_letters: letters.report.clone(),
            ..Report::default()
        };
        Ok(Self {
            sources,
            options,
            without: letters.events.iter().cloned().collect(),
            letters,
            log,
            held,
            deliveries: None,
            reading: None,
            topic_begun: Instant::now(),
            report,
        })
    }

    fn wants(&self, sink: Sink) -> bool {
        self.options.sinks.contains(&sink)
    }

    /// Reads the topic for everything that is compared with it.
    async fn read_topic(&mut self) -> Result<(), Error> {
        self.topic_begun = Instant::now();
        let implied = match &self.sources.receiver {
            Some(source) if self.wants(Sink::Webhook) => {
                let undelivered = std::mem::take(&mut self.letters.undelivered);
                let begun = Deliveries::begin(&self.sources.kafka, source, undelivered);
                let (deliveries, implied) = begun.await?;
                self.deliveries = Some(deliveries);
                Some(implied)
            }
            _ => None,
        };
        if implied.is_none() && self.held.is_empty() && !self.wants(Sink::Enriched) {
            return Ok(());
        }
        // The ends come after what the sinks hold: all of that was made from records before them.
        self.log = Log::open(&self.sources.kafka).await?;
        let without: HashSet<String> = self.without.iter().cloned().collect();
        let recounts = aggregates::recounts(&self.held);
        let mut reading = Reading::new(self.options, without, &self.log, recounts, implied);
        reading.fold.given_up = Arc::new(std::mem::take(&mut self.letters.given_up.live));
        let mut reading = reading.read(&self.log, self.options).await?;
        if let (Some(deliveries), Some(implied)) = (&mut self.deliveries, reading.implied.take()) {
            let implied = deliveries.read_backfills(implied, self.options);
            reading.implied = Some(implied.await?);
        }
        self.reading = Some(reading);
        Ok(())
    }

    /// Everything that Postgres is needed for.
    async fn compare(&mut self, postgres: &mut Source) -> Result<(), Error> {
        let mut slots = self.take_slots();
        let store = self
            .sources
            .clickhouse
            .as_ref()
            .filter(|_| self.wants(Sink::Clickhouse));
        if let Some(settings) = store {
            let store = clickhouse::Store::new(settings, self.sources.postgres.statement_timeout)?;
            let (log, without) = (&self.log, &self.without);
            let found =
                analytics::compare(postgres, &store, self.options, without, log, slots.as_mut())
                    .await?;
            self.report.events = found.compared;
            self.push(found).await?;
        } else if let Some(slots) = &mut slots {
            self.report.events = self.expect(postgres, slots).await?;
        }
        if let (Some(reading), Some(slots)) = (&mut self.reading, slots) {
            reading.fold.into = Into::Slots(slots);
        }
        if self.wants(Sink::Enriched) {
            self.compare_topic(postgres).await?;
        }
        self.compare_aggregates(postgres).await
    }

    fn take_slots(&mut self) -> Option<Slots> {
        let reading = self
            .reading
            .as_mut()
            .filter(|_| self.options.sinks.contains(&Sink::Enriched))?;
        let empty = Into::Rows(crate::fold::Focus::default());
        match std::mem::replace(&mut reading.fold.into, empty) {
            Into::Slots(slots) => Some(slots),
            Into::Rows(_) => None,
        }
    }

    /// Takes Postgres from the sums of the topic, where ClickHouse is not compared.
    async fn expect(&self, postgres: &mut Source, slots: &mut Slots) -> Result<u64, Error> {
        self.options.say("summing in Postgres");
        let mut rows = postgres.cells(self.options, &self.without);
        let mut events = 0;
        while let Some((cell, digest)) = rows.next().await.transpose()? {
            events += digest.events.unsigned_abs();
            if self.log.covers(&cell) {
                slots.expect(&cell, digest);
            }
        }
        Ok(events)
    }

    async fn compare_topic(&mut self, postgres: &mut Source) -> Result<(), Error> {
        let Some(reading) = self.reading.take() else {
            return Ok(());
        };
        let mut report = topic::report(&reading, &self.log, self.options);
        let reading = if report.is_equal() {
            reading
        } else {
            let (log, options) = (&self.log, self.options);
            topic::name(reading, log, postgres, options, &self.without, &mut report).await?
        };
        self.reading = Some(reading);
        report.elapsed = self.topic_begun.elapsed();
        self.push(report).await
    }

    async fn compare_aggregates(&mut self, postgres: &mut Source) -> Result<(), Error> {
        let (Some(redis), Some(reading)) = (&self.sources.redis, &self.reading) else {
            return Ok(());
        };
        if !self.wants(Sink::Redis) {
            return Ok(());
        }
        let (held, recounts) = (&self.held, &reading.recounts);
        let found =
            aggregates::compare(redis, held, recounts, &self.log, postgres, self.options).await?;
        self.report.sinks.push(found);
        Ok(())
    }

    async fn compare_deliveries(&mut self) -> Result<(), Error> {
        let (Some(deliveries), Some(mut reading)) = (self.deliveries.take(), self.reading.take())
        else {
            return Ok(());
        };
        let Some(implied) = reading.implied.take() else {
            return Ok(());
        };
        let is_cut = self.log.is_truncated();
        let compared = deliveries.compare((reading, implied), is_cut, self.options);
        let found = compared.await?;
        self.push(found).await
    }

    /// Adds how far the sink's group is behind.
    async fn push(&mut self, mut found: SinkReport) -> Result<(), Error> {
        let kafka = &self.sources.kafka;
        let reads = |group: &str, topic: &str| (group.to_owned(), topic.to_owned());
        let groups = match found.sink {
            Sink::Enriched => vec![reads(&kafka.enricher_group, &kafka.cdc_topic)],
            Sink::Clickhouse => vec![reads(&kafka.clickhouse_group, &kafka.enriched_topic)],
            Sink::Webhook => self
                .sources
                .receiver
                .iter()
                .flat_map(|one| one.groups(kafka))
                .collect(),
            Sink::Redis => Vec::new(),
        };
        for (group, topic) in groups {
            found.behind += log::progress(kafka, &group, &topic).await?.1;
        }
        if self.letters.is_full {
            found
                .notes
                .push("more dead letters than can be told apart".into());
        }
        self.report.sinks.push(found);
        Ok(())
    }
}
