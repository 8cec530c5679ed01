//! Our encoding of a row against the engine's own decoding of it, for events of which nearly every field is drawn.
//!
//! Two questions for each event: does the engine give back the very bytes that were sent, and does its view say what
//! the output profile says, which is computed from the event and never saw the row.

use clickhouse_sink::row::{EventIdType, Row};
use engagement::event::{Anomaly, EnrichedEvent, EnrichmentStatus, Micros};
use engagement::testing::EVENT_TS;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::bench::event;
use crate::table::{assert_views, insert, select_all, writer};

/// Texts that parsers, encodings and comparisons stumble over.
const TEXTS: [&str; 8] = [
    "",
    "play",
    "\u{0}",
    "'; DROP",
    "\\N",
    "\u{1f600}\u{202e}",
    "NULL",
    "a\tb\nc\r\"",
];
/// Microseconds.
const YEAR: i64 = 365 * 86_400_000_000;
/// What a `DateTime64(6)` holds: 1900 to 2299.
const TIMES: std::ops::Range<i64> = -2_208_988_800_000_000..10_413_792_000_000_000;

fn text(random: &mut ChaCha8Rng) -> String {
    let repeats = if random.random_bool(0.1) { 300 } else { 1 };
    TEXTS.choose(random).unwrap().repeat(repeats)
}

fn maybe_text(random: &mut ChaCha8Rng) -> Option<String> {
    random.random_bool(0.6).then(|| text(random))
}

fn number(random: &mut ChaCha8Rng, most: i64) -> Option<i64> {
    match random.random_range(0..6) {
        0 => None,
        1 => Some(0),
        2 => Some(most),
        3 => Some(-most),
        _ => Some(random.random_range(-most..most)),
    }
}

fn drawn(offset: i64, random: &mut ChaCha8Rng) -> EnrichedEvent {
    let mut event = event(0, offset).build();
    event.event_ts = match random.random_range(0..8) {
        0 => Micros(random.random_range(TIMES)),
        _ => Micros(EVENT_TS.0 + random.random_range(-YEAR..YEAR)),
    };
    event.publish_ts = random
        .random_bool(0.7)
        .then(|| Micros(random.random_range(TIMES)));
    event.duration_ms = number(random, 1_000_000_000_000);
    event.length_seconds = number(random, 1_000_000);
    event.event_type = text(random);
    event.user_id = maybe_text(random);
    event.content_id = maybe_text(random);
    event.device = maybe_text(random);
    event.content_type = maybe_text(random);
    event.content_title = maybe_text(random);
    event.content_slug = maybe_text(random);
    event.raw_payload = maybe_text(random);
    event.revision = random.random();
    let statuses = [
        EnrichmentStatus::Ok,
        EnrichmentStatus::NoContent,
        EnrichmentStatus::Missing,
    ];
    event.enrichment_status = *statuses.choose(random).unwrap();
    event.anomalies = Anomaly::ALL.to_vec();
    event.anomalies.shuffle(random);
    event
        .anomalies
        .truncate(random.random_range(0..=Anomaly::ALL.len()));
    event
}

/// Events that have a row, by time: a statement writes into few parts of the table then.
fn storable(count: i64) -> Vec<EnrichedEvent> {
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let drawn = (0..count).map(|offset| drawn(offset, &mut random));
    let mut events: Vec<_> = drawn
        .filter(|event| Row::of(event, EventIdType::Int64).is_ok())
        .collect();
    events.sort_by_key(|event| event.event_ts);
    events
}

#[tokio::test]
async fn two_thousand_drawn_events_are_read_as_they_were_sent_and_shown_as_they_are() {
    let (database, writer) = writer("drawn").await;
    let mut events = storable(2_000);
    assert!(events.len() > 1_500, "{} can be stored", events.len());
    for batch in events.chunks(50) {
        insert(&writer, batch).await;
    }
    events.sort_by_key(|event| event.source.offset);
    let rows = events
        .iter()
        .map(|event| Row::of(event, EventIdType::Int64).unwrap());
    let sent: Vec<u8> = rows.flat_map(|row| row.bytes().to_vec()).collect();
    let read = database.bytes(&select_all(&database)).await.unwrap();
    assert!(
        read == sent,
        "{} bytes read, {} sent",
        read.len(),
        sent.len()
    );
    assert_views(&database, &events).await;
}
