//! What is known of one partition, read once: both logs, the end of the chain, and where each group stands.
//!
//! Invariant: every fact is read before anything is judged, and nothing is written.

use engagement::envelope::CdcRecord;
use engagement::event::{EnrichedEvent, Position};
use service::Failure;
use stream::resume::source_position;
use stream::tail::{self, WANTED, WANTED_MORE};
use stream::{Committed, Record, Watermarks};

use super::aggregates::Aggregates;
use super::broker::Broker;
use super::judge::{self, Standing};
use super::scan::{self, Ahead};

/// One partition of both topics.
pub(super) struct Partition {
    /// Its number.
    pub(super) number: i32,
    /// The change topic's log.
    pub(super) cdc: Watermarks,
    /// The enriched topic's log.
    pub(super) enriched: Watermarks,
    /// The event with the highest position at the end of the enriched log.
    pub(super) tail: Option<EnrichedEvent>,
    /// Why the end of the enriched log cannot be read.
    pub(super) unreadable: Option<String>,
    /// The enricher, then the readers by name, then the aggregates.
    pub(super) groups: Vec<Group>,
}

/// One group's position in a partition.
pub(super) struct Group {
    /// Its name.
    pub(super) name: String,
    /// What it does with the log.
    pub(super) role: Role,
    /// Where it says it is.
    pub(super) committed: Option<Committed>,
    /// Whether the logs agree.
    pub(super) standing: Standing,
}

/// What a group does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    /// Reads the change topic, writes the enriched one.
    Enricher,
    /// Reads the enriched topic; its commit is its position.
    Reader,
    /// Reads the enriched topic; its position stands in Redis.
    Aggregates,
}

impl Partition {
    /// Asks for everything.
    pub(super) async fn read(
        broker: &Broker,
        aggregates: Option<&Aggregates>,
        number: i32,
    ) -> Result<Self, Failure> {
        let cdc = broker.ends(&broker.cdc, number).await?;
        let enriched = broker.ends(&broker.enriched, number).await?;
        let committed = broker.enricher.get(&number).cloned();
        let (tail, unreadable) = match read_tail(broker, number, committed.as_ref()).await? {
            Ok(tail) => (tail, None),
            Err(reason) => (None, Some(reason)),
        };
        let mut partition = Self {
            number,
            cdc,
            enriched,
            tail,
            unreadable,
            groups: Vec::new(),
        };
        if !broker.groups.enricher.is_empty() {
            let enricher = partition.enricher(broker, committed).await?;
            partition.groups.push(enricher);
        }
        for (name, commits) in &broker.readers {
            let committed = commits.get(&number).cloned();
            let reader = partition.reader(broker, name, Role::Reader, committed);
            partition.groups.push(reader.await?);
        }
        if let Some(aggregates) = aggregates {
            let stored = aggregates.position(number).await?;
            let name = broker.groups.redis.clone();
            let reader = partition.reader(broker, &name, Role::Aggregates, stored);
            partition.groups.push(reader.await?);
        }
        Ok(partition)
    }

    async fn enricher(
        &self,
        broker: &Broker,
        committed: Option<Committed>,
    ) -> Result<Group, Failure> {
        let resume = judge::enricher(self, committed.as_ref());
        let origin = match (&resume, &self.tail) {
            (Ok(resume), Some(_)) => self.origin(broker, resume.proof).await?,
            _ => None,
        };
        Ok(Group {
            name: broker.groups.enricher.clone(),
            role: Role::Enricher,
            standing: judge::proven(resume, origin),
            committed,
        })
    }

    /// What stands where the tail was made from, if it is something else.
    async fn origin(
        &self,
        broker: &Broker,
        proof: stream::lineage::Proof,
    ) -> Result<Option<(Position, String)>, Failure> {
        let (stream::lineage::Proof::SameEvent(offset), Some(tail)) = (proof, &self.tail) else {
            return Ok(None);
        };
        let found = broker.range(&broker.cdc, self.number, offset, offset + 1);
        let found = found.await?.pop();
        let parsed = found
            .as_ref()
            .map(|record| broker.parser.event(input(record)));
        let other = match parsed {
            Some(Ok(CdcRecord::Change(change))) if tail::is_made_from(tail, &change) => {
                return Ok(None);
            }
            Some(Ok(CdcRecord::Change(change))) => format!(
                "event {} of transaction {:?}",
                change.row.event_id, change.meta.tx_id
            ),
            Some(_) => "no change of an event".to_owned(),
            None => "nothing".to_owned(),
        };
        Ok(Some((tail.source.position(), other)))
    }

    async fn reader(
        &self,
        broker: &Broker,
        name: &str,
        role: Role,
        committed: Option<Committed>,
    ) -> Result<Group, Failure> {
        let log = self.enriched;
        let mut standing = judge::reader(log, committed.as_ref());
        if let Standing::Unproven { next, expected } = standing {
            let before = broker.before(&broker.enriched, self.number, next, log.low);
            let found = before.await?.as_ref().map(source_position);
            standing = judge::reader_proven(next, expected, found);
        }
        if let (Standing::Agrees { next }, Some(commit)) = (&standing, &committed) {
            let next = *next;
            let ahead = scan::ahead(broker, self.number, next, commit).await?;
            if let Ahead::Hole {
                offset,
                missing,
                reason,
            } = ahead
            {
                standing = Standing::Hole {
                    offset,
                    missing,
                    reason,
                };
            }
        }
        Ok(Group {
            name: name.to_owned(),
            role,
            committed,
            standing,
        })
    }
}

/// As the enricher does it: the last thousand records, and more where these do not reach what was committed.
async fn read_tail(
    broker: &Broker,
    number: i32,
    committed: Option<&Committed>,
) -> Result<Result<Option<EnrichedEvent>, String>, Failure> {
    let mut end = broker.end(number, WANTED).await?;
    let reached = committed.and_then(|commit| judge::checkpoint(commit)?.position);
    if end.falls_short(reached) {
        end = broker.end(number, WANTED_MORE).await?;
    }
    let highest = end.highest().map(Option::<&EnrichedEvent>::cloned);
    Ok(highest.map_err(|error| error.to_string()))
}

/// A change record's bytes as the parser takes them.
pub(super) fn input(record: &Record) -> engagement::envelope::Input<'_> {
    let is_move = |(name, _): &(String, _)| engagement::envelope::is_move_header(name);
    engagement::envelope::Input {
        key: record.key.as_deref(),
        payload: record.payload.as_deref(),
        moved: record.headers.iter().any(is_move),
    }
}
