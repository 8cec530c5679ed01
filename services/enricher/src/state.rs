//! Everything that the lanes share, complete from the start.
//!
//! Invariant: whoever holds a [`Shared`] may use every part of it; nothing in it is filled in later.

use std::collections::HashSet;
use std::sync::Arc;

use engagement::envelope::Parser;
use engagement::wire::Format;
use stream::Producer;
use stream::dead_letter::DeadLetters;
use stream::lineage::Database;
use stream::producer::ProducerOptions;
use tokio::sync::{Semaphore, watch};

use crate::config::{self, Config};
use crate::contents::Contents;
use crate::error;
use crate::lookup::Lookup;
use crate::lookup::postgres::{CONNECTIONS, PostgresContents};
use crate::metrics::Meters;

/// Partitions that look for their resume point at the same time: each holds some MiB of records of both topics until it is
/// proven, and the broker is asked one question after the other anyway.
const OPENING: usize = 2;

/// What the lanes share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) parser: Parser,
    pub(crate) format: Format,
    /// Records of the change topic to pass over, as (partition, offset).
    pub(crate) skip: HashSet<(i32, i64)>,
    pub(crate) contents: Arc<Contents>,
    pub(crate) lookup: Lookup<PostgresContents>,
    pub(crate) producer: Producer,
    pub(crate) dead_letters: DeadLetters,
    /// The source database, as far as it is known.
    pub(crate) database: watch::Receiver<Option<Database>>,
    pub(crate) meters: Meters,
    /// Held while a partition looks for its resume point.
    pub(crate) opening: Semaphore,
}

impl Shared {
    pub(crate) fn new(
        config: Config,
        contents: Arc<Contents>,
        postgres: PostgresContents,
        database: watch::Receiver<Option<Database>>,
    ) -> Result<Self, service::Failure> {
        let (kafka, output) = (&config.kafka, &config.output);
        let options = ProducerOptions {
            max_bytes: Some(output.max_record_bytes),
            ..ProducerOptions::default()
        };
        let producer = Producer::new(kafka, options).map_err(error::settings)?;
        let dead_letters = DeadLetters::with_topic(kafka, "enricher", &output.dead_letter_topic)
            .map_err(error::settings)?;
        let questions = usize::try_from(CONNECTIONS).unwrap_or(1);
        Ok(Self {
            parser: Parser::new(config.schema.clone()),
            format: output.format.into(),
            skip: config
                .lineage
                .skip
                .iter()
                .filter_map(|text| config::skipped(text))
                .collect(),
            contents,
            lookup: Lookup::new(postgres, questions, config.database.content_wait),
            producer,
            dead_letters,
            database,
            meters: Meters::new(),
            opening: Semaphore::new(OPENING),
            config,
        })
    }
}
