use rstest::rstest;

use super::*;
use crate::envelope::{CdcRecord, Input, Parser};

const CREATE: &str = include_str!("../../tests/fixtures/event_create.json");
const READ: &str = include_str!("../../tests/fixtures/event_read.json");
const UPDATE: &str = include_str!("../../tests/fixtures/event_update.json");
const DELETE: &str = include_str!("../../tests/fixtures/event_delete.json");
const AT: Micros = Micros(1_767_882_112_123_456);
const NOW: Micros = Micros(AT.0 + 500_000);

const CONTENT: ContentRef<'_> = ContentRef {
    content_type: Some("podcast"),
    length_seconds: Some(300),
    title: Some("Rust in Production"),
    slug: Some("rust-in-production"),
    publish_ts: Some(Micros(1_767_225_600_000_000)),
};

fn change(payload: &str) -> EventChange<'_> {
    let key = br#"{"content_id":"5b6962dd-3f90-4c93-8f61-eabfa4a803e2"}"#;
    let input = Input {
        key: Some(key),
        payload: Some(payload.as_bytes()),
        moved: false,
    };
    match Parser::default().event(input) {
        Ok(CdcRecord::Change(change)) => change,
        other => panic!("expected a change, found {other:?}"),
    }
}

const fn place(lane: Lane, epoch: u8) -> Place {
    let position = Position {
        lane,
        epoch,
        partition: 3,
        offset: 42,
    };
    Place {
        position,
        prev: 40,
        commit_lsn: 24_023_119,
        lsn: 24_023_128,
    }
}

fn enriched(payload: &str) -> EnrichedEvent {
    enrich(change(payload), Some(CONTENT), place(Lane::Live, 0), NOW)
}

#[test]
fn an_insert_becomes_an_event_with_its_content() {
    let event = enriched(CREATE);
    let expected = EnrichedEvent {
        event_id: "1001".into(),
        content_id: Some("5b6962dd-3f90-4c93-8f61-eabfa4a803e2".into()),
        user_id: Some("0f3e2a7c-9a1b-4f6e-8b1d-2c3d4e5f6a7b".into()),
        event_type: "play".into(),
        device: Some("ios".into()),
        content_type: Some("podcast".into()),
        event_ts: AT,
        processed_at: NOW,
        publish_ts: Some(Micros(1_767_225_600_000_000)),
        duration_ms: Some(7000),
        length_seconds: Some(300),
        content_title: Some("Rust in Production".into()),
        content_slug: Some("rust-in-production".into()),
        raw_payload: Some(r#"{"app": "7.2"}"#.into()),
        enrichment_status: EnrichmentStatus::Ok,
        origin: Origin::Stream,
        revision: 24_023_128,
        deleted: false,
        moved: false,
        previous: None,
        anomalies: vec![],
        source: Source {
            lane: Lane::Live,
            epoch: 0,
            partition: 3,
            offset: 42,
            prev: 40,
            commit_lsn: 24_023_119,
            lsn: 24_023_128,
            tx_id: Some(771),
            committed_at: Micros(1_767_882_112_345_678),
            snapshot: false,
        },
    };
    assert_eq!(event, expected);
    assert_eq!(
        (event.engagement_seconds(), event.ratio_e4()),
        (Some(7.0), Some(233))
    );
}

#[test]
fn an_unknown_content_leaves_the_derived_fields_empty() {
    let event = enrich(change(CREATE), None, place(Lane::Live, 0), NOW);
    assert_eq!(event.enrichment_status, EnrichmentStatus::Missing);
    assert_eq!(
        (
            event.ratio_e4(),
            event.length_seconds,
            event.content_title.as_deref()
        ),
        (None, None, None)
    );
    assert_eq!(event.duration_ms, Some(7000));
}

#[test]
fn an_event_without_content_takes_nothing_from_one() {
    let mut change = change(CREATE);
    change.row.content_id = None;
    let event = enrich(change, Some(CONTENT), place(Lane::Live, 0), NOW);
    assert_eq!(event.enrichment_status, EnrichmentStatus::NoContent);
    assert_eq!((event.content_type, event.length_seconds), (None, None));
}

#[test]
fn an_update_carries_what_it_replaces() {
    let event = enriched(UPDATE);
    assert_eq!(
        (event.duration_ms, event.deleted, event.revision),
        (Some(9000), false, 24_030_000)
    );
    let previous = event.previous.unwrap();
    assert_eq!(
        (previous.event_type.as_str(), previous.duration_ms),
        ("play", Some(7000))
    );
    assert_eq!(previous.event_ts, AT);
}

#[test]
fn a_deletion_carries_the_row_it_removes() {
    let event = enriched(DELETE);
    assert!(event.deleted);
    assert_eq!(
        event.previous.as_ref().unwrap().duration_ms,
        event.duration_ms
    );
    assert_eq!(event.content_type.as_deref(), Some("podcast"));
}

#[test]
fn a_snapshot_row_repeats_the_mark_and_keeps_its_own_revision() {
    let at = Place {
        commit_lsn: 5,
        lsn: 9,
        ..place(Lane::Live, 0)
    };
    let event = enrich(change(READ), Some(CONTENT), at, NOW);
    assert_eq!(
        (event.origin, event.source.snapshot),
        (Origin::Snapshot, true)
    );
    assert_eq!(
        (event.source.commit_lsn, event.source.lsn, event.revision),
        (5, 9, 24_023_128)
    );
}

#[test]
fn the_lane_of_a_backfill_is_its_origin() {
    let event = enrich(change(READ), Some(CONTENT), place(Lane::Backfill, 0), NOW);
    assert_eq!(
        (event.origin, event.source.lane),
        (Origin::Backfill, Lane::Backfill)
    );
    let event = enrich(change(CREATE), Some(CONTENT), place(Lane::Redrive, 0), NOW);
    assert_eq!(
        (event.origin, event.source.lane),
        (Origin::Stream, Lane::Redrive)
    );
}

#[test]
fn a_higher_epoch_is_a_higher_revision_whatever_the_lsn() {
    let event = enrich(change(CREATE), Some(CONTENT), place(Lane::Live, 1), NOW);
    assert_eq!(event.revision, (1 << 56) | 24_023_128);
    assert!(revision(1, 0) > revision(0, u64::MAX));
}

#[test]
fn a_record_without_a_commit_time_takes_the_processing_time() {
    let mut change = change(CREATE);
    change.meta = Meta {
        committed_at: None,
        ..change.meta
    };
    assert_eq!(
        enrich(change, None, place(Lane::Live, 0), NOW)
            .source
            .committed_at,
        NOW
    );
}

#[rstest]
#[case::nothing(Some(7000), 0, Some("play"), &[])]
#[case::all_of_it(Some(300_000), 0, Some("play"), &[])]
#[case::negative(Some(-1), 0, Some("play"), &[Anomaly::DurationNegative])]
#[case::rewatched(Some(300_001), 0, Some("play"), &[Anomaly::Over100Percent])]
#[case::clock_skew(None, FUTURE.0, Some("play"), &[])]
#[case::future(None, FUTURE.0 + 1, Some("play"), &[Anomaly::EventTsFuture])]
#[case::old(None, -ANCIENT.0, Some("play"), &[])]
#[case::ancient(None, -ANCIENT.0 - 1, Some("play"), &[Anomaly::EventTsAncient])]
#[case::new_type(None, 0, Some("share"), &[Anomaly::UnknownEventType])]
#[case::no_type(Some(i64::MAX), 0, None, &[Anomaly::Over100Percent, Anomaly::UnknownEventType])]
fn what_is_odd_is_named(
    #[case] duration_ms: Option<i64>,
    #[case] ahead: i64,
    #[case] event_type: Option<&str>,
    #[case] expected: &[Anomaly],
) {
    let mut change = change(CREATE);
    change.row.duration_ms = duration_ms;
    change.row.event_ts = Micros(NOW.0 + ahead);
    change.row.event_type = event_type.map(Into::into);
    let event = enrich(change, Some(CONTENT), place(Lane::Live, 0), NOW);
    assert_eq!(event.anomalies, expected);
    assert_eq!(event.event_type, event_type.unwrap_or_default());
}
