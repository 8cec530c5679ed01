//! Kafka: dead letters that name the person, the topic of erasures, where the services are, and what expires when.
//!
//! Invariant: nothing is written but records of erasures; no group is joined and nothing committed.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use engagement::event::Micros;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use service::Failure;
use stream::dead_letter;
use stream::headers::CONTENT_TYPE;
use stream::producer::ProducerOptions;
use stream::scan::Scanner;
use stream::{KafkaSettings, LaneError, OutRecord, Producer};

use super::journal::{Begun, Entry, Runs};
use super::passing::Ends;
use super::person::Person;
use super::search::Kept;
use crate::config::Config;
use crate::groups::{Group, Watched};
use crate::off_the_runtime;

/// The name under which this tool reads; no group that anybody is in.
const NAME: &str = "engagectl-erase";

/// The broker.
pub(super) struct Log {
    settings: KafkaSettings,
    cdc: String,
    pub(super) enriched: String,
    backfill: String,
    pub(super) erasures: String,
    watched: Watched,
}

impl Log {
    pub(super) fn new(config: &Config) -> Self {
        let topics = config.topics.clone();
        Self {
            settings: config.kafka.clone(),
            cdc: topics.cdc,
            enriched: topics.enriched,
            backfill: topics.backfill,
            erasures: topics.erasures,
            watched: Watched::of(config, NAME),
        }
    }

    /// The dead letters of all services that name the person.
    pub(super) async fn letters(
        &self,
        person: &Person,
    ) -> Result<Vec<dead_letter::Place>, Failure> {
        let person = person.clone();
        let names = move |letter: &dead_letter::Letter| person.is_in_record(&letter.record);
        crate::dlq::places(&self.settings, names).await
    }

    /// A run of this person that was killed.
    ///
    /// # Errors
    /// The topic of erasures is not there (78), or the broker does not answer (69).
    pub(super) async fn open_run(&self, person: &Person) -> Result<Option<Begun>, Failure> {
        let person = person.clone();
        let runs = self
            .scan(&self.erasures, move |scanner| {
                let (mut runs, spans) = (Runs::default(), scanner.spans()?);
                scanner.read(&spans, |record| {
                    let key = record.key.as_deref().unwrap_or_default();
                    let payload = record.payload.as_deref().unwrap_or_default();
                    runs.take(person.id(), key, payload);
                })?;
                Ok((!spans.is_empty()).then_some(runs))
            })
            .await?;
        runs.map(Runs::open).ok_or_else(|| {
            Failure::repair(format!("topic {} does not exist", self.erasures))
                .remedy("create it: readers of other stores are told there")
                .next("engagectl init")
        })
    }

    /// Writes one record of an erasure, and waits until the broker has it.
    pub(super) async fn note(&self, person: &Person, entry: &Entry) -> Result<(), Failure> {
        let producer = Producer::new(&self.settings, ProducerOptions::default())
            .map_err(|error| Failure::usage(error.to_string()).next("engagectl check"))?;
        let payload = serde_json::to_vec(entry)
            .map_err(|error| Failure::internal("a note cannot be written").cause(error))?;
        let json = Bytes::from_static(b"application/json");
        let record = OutRecord {
            topic: Arc::from(self.erasures.as_str()),
            partition: Some(0),
            key: Some(Bytes::from(person.id().to_owned())),
            payload: Some(Bytes::from(payload)),
            headers: vec![(CONTENT_TYPE.to_owned(), Some(json))],
            timestamp_ms: None,
        };
        let sent = producer.send_acked(&record).await;
        sent.map(drop).map_err(|error| {
            Failure::unavailable(format!(
                "the broker does not take a record of {}",
                self.erasures
            ))
            .cause(error.to_string())
            .remedy("grant its user what `engagectl access kafka` lists for engagectl-erase")
            .next("engagectl check")
        })
    }

    /// Where the change topic ends.
    pub(super) async fn ends_of_changes(&self) -> Result<Ends, Failure> {
        self.ends(&self.cdc).await
    }

    /// Where the enriched topic ends.
    pub(super) async fn ends_of_events(&self) -> Result<Ends, Failure> {
        self.ends(&self.enriched).await
    }

    /// Where the topic of backfills ends.
    pub(super) async fn ends_of_backfills(&self) -> Result<Ends, Failure> {
        self.ends(&self.backfill).await
    }

    /// What a group has committed of the topic of backfills.
    pub(super) async fn committed_of_backfills(
        &self,
        group: &str,
    ) -> Result<BTreeMap<i32, i64>, Failure> {
        self.scan_as(group, &self.backfill, |scanner| {
            let spans = scanner.spans()?;
            let partitions: Vec<i32> = spans.iter().map(|span| span.partition).collect();
            if partitions.is_empty() {
                return Ok(BTreeMap::new());
            }
            scanner.committed(&partitions)
        })
        .await
    }

    async fn ends(&self, topic: &str) -> Result<Ends, Failure> {
        let spans = self.scan(topic, Scanner::spans).await?;
        let below = spans.iter().map(|span| (span.partition, span.to));
        Ok(Ends {
            topic: topic.to_owned(),
            below: below.collect(),
        })
    }

    /// Where every group is.
    pub(super) async fn groups(&self) -> Result<Vec<Group>, Failure> {
        let watched = self.watched.clone();
        let look = off_the_runtime(move || watched.look()).await?;
        look.map_err(|error| unanswered(&error.to_string()))
    }

    /// Until when topics that hold the person keep what is in them now.
    pub(super) async fn kept(
        &self,
        letters: &[dead_letter::Place],
        now: Micros,
    ) -> Result<Vec<Kept>, Failure> {
        let mut topics = vec![&self.cdc, &self.enriched, &self.backfill, &self.erasures];
        topics.extend(letters.iter().map(|place| &place.topic));
        topics.sort();
        topics.dedup();
        let retention = self.retention(&topics).await?;
        let kept = topics.into_iter().filter_map(|topic| {
            let ms = retention.get(topic)?;
            Some(Kept::new(topic, now, *ms))
        });
        Ok(kept.collect())
    }

    /// `retention.ms` of the topics that there are.
    async fn retention(&self, topics: &[&String]) -> Result<BTreeMap<String, i64>, Failure> {
        let refused = |error: &dyn std::fmt::Display| {
            unanswered(&format!("reading the retention of topics: {error}"))
        };
        let admin: AdminClient<DefaultClientContext> = self
            .settings
            .admin_config()
            .create()
            .map_err(|error| refused(&error))?;
        let asked: Vec<ResourceSpecifier<'_>> = topics
            .iter()
            .map(|topic| ResourceSpecifier::Topic(topic))
            .collect();
        let answer = admin.describe_configs(&asked, &AdminOptions::new()).await;
        let answer = answer.map_err(|error| refused(&error))?;
        let mut found = BTreeMap::new();
        // a topic that is not there holds nobody
        for (topic, resource) in topics.iter().zip(answer) {
            let Ok(resource) = resource else { continue };
            let entries = resource.entries.into_iter();
            let ms = entries
                .filter(|entry| entry.name == "retention.ms")
                .find_map(|entry| entry.value?.parse().ok());
            found.extend(ms.map(|ms| ((*topic).clone(), ms)));
        }
        Ok(found)
    }

    async fn scan<T: Send + 'static>(
        &self,
        topic: &str,
        ask: impl FnOnce(&Scanner) -> Result<T, LaneError> + Send + 'static,
    ) -> Result<T, Failure> {
        self.scan_as(NAME, topic, ask).await
    }

    async fn scan_as<T: Send + 'static>(
        &self,
        group: &str,
        topic: &str,
        ask: impl FnOnce(&Scanner) -> Result<T, LaneError> + Send + 'static,
    ) -> Result<T, Failure> {
        let (settings, group, topic) = (self.settings.clone(), group.to_owned(), topic.to_owned());
        let asked = off_the_runtime(move || ask(&Scanner::open(&settings, &group, &topic)?));
        asked.await?.map_err(|error| unanswered(&error.to_string()))
    }
}

fn unanswered(cause: &str) -> Failure {
    Failure::unavailable("Kafka cannot be asked")
        .cause(cause.to_owned())
        .remedy("look whether KAFKA_BOOTSTRAP_SERVERS names the brokers, and what `engagectl access kafka` lists for engagectl-erase")
        .next("engagectl check")
}
