//! Records as the enricher writes them: events are made, changed, deleted. The same seed gives the same.

use bytes::Bytes;
use engagement::event::{EnrichedEvent, Micros};
use engagement::testing::Sample;
use engagement::wire::{Format, encode};
use redis_aggregator::sums::Sums;
use stream::headers::{CONTENT_TYPE, ENGAGEMENT_SOURCE};
use stream::producer::ProducerOptions;
use stream::{OutRecord, Producer};

use super::World;
use crate::broker::settings;

const SECOND: i64 = 1_000_000;

/// What to write: so many records of so many contents a partition.
#[derive(Clone, Copy)]
pub(crate) struct Acts {
    seed: u64,
    records: usize,
    contents: u64,
}

pub(crate) const fn events(seed: u64, records: usize, contents: u64) -> Acts {
    Acts {
        seed,
        records,
        contents,
    }
}

impl World {
    /// Writes records: events are made, changed, deleted; old ones first, some dated ahead into the windows of now.
    pub(crate) async fn produce(&mut self, acts: Acts) {
        let (mut random, now) = (Random(acts.seed), service::clock::now());
        let first = !std::mem::replace(&mut self.written, true);
        for number in 0..acts.records {
            let is_old = first && number < acts.records / 2;
            let ago = if is_old { 2 * 86_400 } else { 240 } - i64::try_from(number % 200).unwrap();
            let commit = now - ago * SECOND;
            let content = random.below(acts.contents * self.partitions.unsigned_abs() as u64);
            let event = self.event(&mut random, content, commit, now);
            self.logs[event.source.partition as usize].push(event);
        }
        self.append().await;
    }

    fn event(&mut self, random: &mut Random, content: u64, commit: i64, now: i64) -> EnrichedEvent {
        let place = usize::try_from(content).unwrap() % self.logs.len();
        let (partition, offset) = (place as i32, self.logs[place].len() as i64);
        let at = Micros(random.time(commit, now));
        let kind = ["play", "pause", "finish", "click", "other"][random.below(5) as usize];
        let ms = (random.below(10) > 0).then(|| random.below(60_000) as i64);
        let fresh = |id: i64, content: &str| {
            let sample = Sample::new()
                .event_id(id)
                .content_id(content)
                .event_type(kind);
            sample
                .duration_ms(ms)
                .event_ts(at)
                .at_position(partition, offset)
        };
        let living = &mut self.living[place];
        let action = random.below(10);
        let old = (action > 6 && !living.is_empty())
            .then(|| living.swap_remove(random.below(living.len() as u64) as usize));
        self.next_id += 1;
        let mut event = match old {
            None => fresh(self.next_id, &format!("c{content}")).build(),
            Some(old) if action == 9 => deletion(old, partition, offset),
            Some(old) => {
                let content = old.content_id.clone().unwrap();
                fresh(old.event_id.parse().unwrap(), &content)
                    .replacing(&old)
                    .build()
            }
        };
        event.source.committed_at = Micros(commit);
        event.revision = u64::try_from(self.next_id).unwrap();
        if !event.deleted {
            living.push(event.clone());
        }
        event
    }

    async fn append(&self) {
        let producer = Producer::new(&settings(), ProducerOptions::default()).unwrap();
        let topic = self.topic();
        for (partition, log) in (0_i32..).zip(&self.logs) {
            let probe = stream::probe::Probe::new(&settings(), "it");
            let end = probe.watermarks(&topic, partition).await.unwrap().high;
            let new = log.iter().skip(usize::try_from(end).unwrap());
            for event in new {
                let record = record(event, &topic);
                producer.send_acked(&record).await.unwrap();
            }
        }
    }

    /// Rows that only a backfill has brought.
    pub(crate) async fn insert_by_backfill(&mut self, events: i64) {
        let at = service::clock::now() - 120 * SECOND;
        for n in 0..events {
            let (id, ms) = (1_000_000 + n, 100 + n);
            self.clickhouse(&format!(
                "INSERT INTO {}.events_enriched (event_id, content_id, event_ts, event_type, duration_ms, revision, origin, src_lane, \
                 src_partition, src_offset, src_row, enrichment_status) VALUES ({id}, 'c0', fromUnixTimestamp64Micro({at}, 'UTC'), 'play', \
                 {ms}, 1, 'BACKFILL', 'backfill', 0, {n}, 1, 'OK')",
                self.name
            ))
            .await;
            self.beside.push(("c0".into(), Sums::of("play", Some(ms))));
        }
    }
}

/// What says at a position that an event is no more.
fn deletion(old: EnrichedEvent, partition: i32, offset: i64) -> EnrichedEvent {
    let sample = Sample::new().at_position(partition, offset);
    let replaces = sample.replacing(&old).build();
    EnrichedEvent {
        source: replaces.source,
        previous: replaces.previous,
        deleted: true,
        ..old
    }
}

fn record(event: &EnrichedEvent, topic: &str) -> OutRecord {
    let headers = [
        (CONTENT_TYPE, Format::Protobuf.content_type().to_owned()),
        (ENGAGEMENT_SOURCE, event.source.position().to_string()),
    ];
    OutRecord {
        topic: topic.into(),
        partition: Some(event.source.partition),
        key: event.content_id.clone().map(Bytes::from),
        payload: Some(encode(event, Format::Protobuf).into()),
        headers: headers
            .map(|(name, text)| (name.to_owned(), Some(Bytes::from(text))))
            .to_vec(),
        timestamp_ms: Some(event.source.committed_at.millis()),
    }
}

/// A small generator; the same seed gives the same events.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound.max(1)
    }

    /// When an event happened, in microseconds: shortly before its commit, or a minute before `now`, or an hour after it.
    fn time(&mut self, commit: i64, now: i64) -> i64 {
        match self.below(50) {
            0 => now - 60 * SECOND,
            1 => now + 3_600 * SECOND,
            _ => commit - self.below(30) as i64 * SECOND,
        }
    }
}
