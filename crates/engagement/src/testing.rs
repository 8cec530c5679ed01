//! Events for the tests of other crates: fixed values, no clock, change what the test is about.
//!
//! Invariant: the same calls give the same event.

use crate::event::{EnrichedEvent, EnrichmentStatus, Lane, Micros, Origin, Previous, Source};

/// When the sample events happened: 2026-01-08T14:21:52Z.
pub const EVENT_TS: Micros = Micros(1_767_882_112_000_000);

/// The sample event: a `play` of 7000 ms of a podcast of 300 s, at live position 0/0/42 after 41.
#[must_use]
pub fn sample() -> EnrichedEvent {
    Sample::new().build()
}

/// Builds variations of [`sample`]. All fields are public on the result too.
///
/// ```
/// use engagement::testing::Sample;
/// let event = Sample::new().at_position(3, 100).duration_ms(None).build();
/// assert_eq!((event.source.partition, event.source.offset, event.source.prev), (3, 100, 99));
/// ```
#[derive(Clone, Debug)]
pub struct Sample(EnrichedEvent);

impl Default for Sample {
    fn default() -> Self {
        Self::new()
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "ids as numbers or text, without ceremony at the call"
)]
impl Sample {
    /// The sample event.
    #[must_use]
    pub fn new() -> Self {
        Self(EnrichedEvent {
            event_id: "1001".into(),
            content_id: Some("5b6962dd-3f90-4c93-8f61-eabfa4a803e2".into()),
            user_id: Some("0f3e2a7c-9a1b-4f6e-8b1d-2c3d4e5f6a7b".into()),
            event_type: "play".into(),
            device: Some("ios".into()),
            content_type: Some("podcast".into()),
            event_ts: EVENT_TS,
            processed_at: Micros(EVENT_TS.0 + 250_000),
            publish_ts: Some(Micros(1_767_225_600_000_000)),
            duration_ms: Some(7_000),
            length_seconds: Some(300),
            content_title: Some("Rust in Production".into()),
            content_slug: Some("rust-in-production".into()),
            raw_payload: Some(r#"{"app":"7.2"}"#.into()),
            enrichment_status: EnrichmentStatus::Ok,
            origin: Origin::Stream,
            revision: 42_000,
            deleted: false,
            moved: false,
            previous: None,
            anomalies: Vec::new(),
            source: sample_source(),
        })
    }

    /// Sets the primary key.
    #[must_use]
    pub fn event_id(mut self, id: impl ToString) -> Self {
        self.0.event_id = id.to_string();
        self
    }

    /// Sets the content's key (status OK).
    #[must_use]
    pub fn content_id(mut self, id: impl ToString) -> Self {
        self.0.content_id = Some(id.to_string());
        self
    }

    /// No content: NULL key, no dimension, status `NO_CONTENT`.
    #[must_use]
    pub fn no_content(mut self) -> Self {
        self.0.content_id = None;
        self.without_dimension(EnrichmentStatus::NoContent)
    }

    /// A content that nobody knows: status `MISSING`.
    #[must_use]
    pub fn missing(self) -> Self {
        self.without_dimension(EnrichmentStatus::Missing)
    }

    fn without_dimension(mut self, status: EnrichmentStatus) -> Self {
        let event = &mut self.0;
        (event.content_type, event.content_title, event.content_slug) = (None, None, None);
        (event.length_seconds, event.publish_ts) = (None, None);
        event.enrichment_status = status;
        self
    }

    /// Sets the user's key.
    #[must_use]
    pub fn user_id(mut self, id: impl ToString) -> Self {
        self.0.user_id = Some(id.to_string());
        self
    }

    /// Sets the event type.
    #[must_use]
    pub fn event_type(mut self, event_type: &str) -> Self {
        self.0.event_type = event_type.into();
        self
    }

    /// Sets the event time; the processing time follows 250 ms later, the commit 100 ms later.
    #[must_use]
    pub fn event_ts(mut self, at: Micros) -> Self {
        self.0.event_ts = at;
        self.0.processed_at = Micros(at.0 + 250_000);
        self.0.source.committed_at = Micros(at.0 + 100_000);
        self
    }

    /// Sets the duration in milliseconds.
    #[must_use]
    pub fn duration_ms(mut self, ms: impl Into<Option<i64>>) -> Self {
        self.0.duration_ms = ms.into();
        self
    }

    /// Sets the length of the content in seconds.
    #[must_use]
    pub fn length_seconds(mut self, seconds: impl Into<Option<i64>>) -> Self {
        self.0.length_seconds = seconds.into();
        self
    }

    /// Sets partition and offset; `prev` becomes the offset before, the LSNs rise with the offset.
    #[must_use]
    pub fn at_position(mut self, partition: i32, offset: i64) -> Self {
        let lsn = 1000 * u64::try_from(offset).unwrap_or(0);
        self.0.revision = lsn;
        let source = &mut self.0.source;
        (source.partition, source.offset, source.prev) = (partition, offset, offset - 1);
        (source.commit_lsn, source.lsn) = (lsn.saturating_sub(500), lsn);
        self
    }

    /// Sets the epoch, in the position and in the revision.
    #[must_use]
    pub fn epoch(mut self, epoch: u8) -> Self {
        self.0.source.epoch = epoch;
        self.0.revision = (u64::from(epoch) << 56) | (self.0.revision & ((1 << 56) - 1));
        self
    }

    /// Sets the offset of the record before.
    #[must_use]
    pub fn prev(mut self, prev: i64) -> Self {
        self.0.source.prev = prev;
        self
    }

    /// Sets the lane.
    #[must_use]
    pub fn lane(mut self, lane: Lane) -> Self {
        self.0.source.lane = lane;
        self
    }

    /// Sets the origin (and the snapshot flag with it).
    #[must_use]
    pub fn origin(mut self, origin: Origin) -> Self {
        self.0.origin = origin;
        self.0.source.snapshot = origin == Origin::Snapshot;
        self
    }

    /// An update: `previous` is what the other event says.
    #[must_use]
    pub fn replacing(mut self, before: &EnrichedEvent) -> Self {
        self.0.previous = Some(previous_of(before));
        self
    }

    /// A deletion: `previous` is the event's own values.
    #[must_use]
    pub fn deleted(mut self) -> Self {
        self.0.deleted = true;
        self.0.previous = Some(previous_of(&self.0));
        self
    }

    /// Half of a move to another content.
    #[must_use]
    pub fn moved(mut self) -> Self {
        self.0.moved = true;
        self
    }

    /// The event.
    #[must_use]
    pub fn build(self) -> EnrichedEvent {
        self.0
    }
}

fn sample_source() -> Source {
    Source {
        lane: Lane::Live,
        epoch: 0,
        partition: 0,
        offset: 42,
        prev: 41,
        commit_lsn: 41_500,
        lsn: 42_000,
        tx_id: Some(777),
        committed_at: Micros(EVENT_TS.0 + 100_000),
        snapshot: false,
    }
}

fn previous_of(event: &EnrichedEvent) -> Previous {
    Previous {
        event_id: event.event_id.clone(),
        event_ts: event.event_ts,
        content_id: event.content_id.clone(),
        event_type: event.event_type.clone(),
        duration_ms: event.duration_ms,
    }
}
