use engagement_proto::v1;
use proptest::option::of;
use proptest::prelude::*;
use prost::Message as _;
use prost_types::Timestamp;

use super::*;
use crate::event::{Anomaly, EnrichmentStatus, Lane, Micros, Origin, Previous, Source};
use crate::testing::{Sample, sample};

const FORMATS: [Format; 2] = [Format::Protobuf, Format::Json];

fn time() -> impl Strategy<Value = Micros> {
    (-62_167_219_200_000_000i64..=253_402_300_799_999_999).prop_map(Micros)
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![3 => "[a-z0-9-]{0,40}", 1 => "\\PC{0,200}", 1 => "(?s).{0,20}"]
}

fn source() -> impl Strategy<Value = Source> {
    let lane = prop::sample::select(vec![Lane::Live, Lane::Backfill, Lane::Redrive]);
    let place = (lane, any::<u8>(), any::<i32>(), any::<i64>(), any::<i64>());
    (
        place,
        any::<u64>(),
        any::<u64>(),
        of(any::<i64>()),
        time(),
        any::<bool>(),
    )
        .prop_map(
            |(
                (lane, epoch, partition, offset, prev),
                commit_lsn,
                lsn,
                tx_id,
                committed_at,
                snapshot,
            )| Source {
                lane,
                epoch,
                partition,
                offset,
                prev,
                commit_lsn,
                lsn,
                tx_id,
                committed_at,
                snapshot,
            },
        )
}

fn previous() -> impl Strategy<Value = Previous> {
    (text(), time(), of(text()), text(), of(any::<i64>())).prop_map(
        |(event_id, event_ts, content_id, event_type, duration_ms)| Previous {
            event_id,
            event_ts,
            content_id,
            event_type,
            duration_ms,
        },
    )
}

prop_compose! {
    fn event()(
        (event_id, content_id, user_id, event_type, device, content_type) in
            ("\\PC{1,40}", of(text()), of(text()), text(), of(text()), of(text())),
        (event_ts, processed_at, publish_ts) in (time(), time(), of(time())),
        (duration_ms, length_seconds) in (of(any::<i64>()), of(any::<i64>())),
        (content_title, content_slug, raw_payload) in (of(text()), of(text()), of(text())),
        enrichment_status in prop::sample::select(vec![
            EnrichmentStatus::Ok, EnrichmentStatus::Missing, EnrichmentStatus::NoContent]),
        origin in prop::sample::select(vec![Origin::Stream, Origin::Snapshot, Origin::Backfill]),
        (revision, deleted, moved) in any::<(u64, bool, bool)>(),
        previous in of(previous()),
        anomalies in prop::sample::subsequence(Anomaly::ALL.to_vec(), 0..=5),
        source in source(),
    ) -> EnrichedEvent {
        EnrichedEvent {
            event_id, content_id, user_id, event_type, device, content_type, event_ts, processed_at, publish_ts,
            duration_ms, length_seconds, content_title, content_slug, raw_payload, enrichment_status, origin,
            revision, deleted, moved, previous, anomalies, source,
        }
    }
}

proptest! {
    #[test]
    fn every_event_reads_back_as_it_was(event in event()) {
        for format in FORMATS {
            prop_assert_eq!(&decode(&encode(&event, format), format).unwrap(), &event, "{:?}", format);
        }
    }

    #[test]
    fn the_hand_written_encoder_writes_what_the_generated_one_does(event in event()) {
        let bytes = encode(&event, Format::Protobuf);
        let message = v1::EnrichedEvent::decode(&*bytes).unwrap();
        prop_assert_eq!(message.engagement_seconds, event.engagement_seconds());
        prop_assert_eq!(message.engagement_ratio, event.engagement_ratio());
        prop_assert_eq!(message.engagement_percent, event.engagement_percent());
        prop_assert_eq!(message.encode_to_vec(), bytes);
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for format in FORMATS {
            let _ = decode(&bytes, format);
        }
    }

    #[test]
    fn no_damaged_event_panics(event in event(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        for format in FORMATS {
            let mut bytes = encode(&event, format);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = decode(&bytes, format);
            let _ = decode(&bytes[..at], format);
        }
    }
}

#[test]
fn content_types_name_their_format() {
    for format in FORMATS {
        assert_eq!(
            Format::from_content_type(format.content_type()),
            Some(format)
        );
    }
    assert_eq!(
        Format::from_content_type("Application/JSON; charset=utf-8"),
        Some(Format::Json)
    );
    assert_eq!(Format::from_content_type("text/plain"), None);
}

#[test]
fn the_largest_numbers_fit_the_one_byte_lengths() {
    let mut event = Sample::new().build();
    event.source = Source {
        lane: Lane::Redrive,
        epoch: u8::MAX,
        partition: -1,
        offset: -1,
        prev: -1,
        commit_lsn: u64::MAX,
        lsn: u64::MAX,
        tx_id: Some(-1),
        committed_at: Micros(i64::MIN),
        snapshot: true,
    };
    assert_eq!(
        decode(&encode(&event, Format::Protobuf), Format::Protobuf).unwrap(),
        event
    );
}

fn damaged(change: impl FnOnce(&mut v1::EnrichedEvent)) -> String {
    let mut message = v1::EnrichedEvent::decode(&*encode(&sample(), Format::Protobuf)).unwrap();
    change(&mut message);
    decode(&message.encode_to_vec(), Format::Protobuf)
        .unwrap_err()
        .to_string()
}

#[test]
fn a_missing_or_unknown_field_is_named() {
    assert!(damaged(|m| m.event_id.clear()).contains("field event_id is missing"));
    assert!(damaged(|m| m.event_ts = None).contains("field event_ts is missing"));
    assert!(damaged(|m| m.source = None).contains("field source is missing"));
    assert!(damaged(|m| m.origin = 99).contains("field origin"));
    assert!(damaged(|m| m.enrichment_status = 0).contains("field enrichment_status"));
    assert!(damaged(|m| m.raw_payload = Some(vec![0xff])).contains("field raw_payload"));
    assert!(
        damaged(|m| m.event_ts = Some(Timestamp {
            seconds: i64::MAX,
            nanos: 0
        }))
        .contains("field event_ts")
    );
    assert!(
        damaged(|m| m.event_ts = Some(Timestamp {
            seconds: 0,
            nanos: -1
        }))
        .contains("field event_ts")
    );
    let source = |epoch| v1::Source {
        epoch,
        ..Default::default()
    };
    assert!(damaged(|m| m.source = Some(source(0))).contains("field source.lane"));
    let json = String::from_utf8(encode(&sample(), Format::Json)).unwrap();
    let error = decode(
        json.replace("\"STREAM\"", "\"RIVER\"").as_bytes(),
        Format::Json,
    )
    .unwrap_err()
    .to_string();
    assert!(
        error.contains("field origin holds \"RIVER\", expected STREAM, SNAPSHOT or BACKFILL"),
        "{error}"
    );
}

#[test]
fn anomalies_of_a_newer_writer_are_dropped() {
    let mut message = v1::EnrichedEvent::decode(&*encode(&sample(), Format::Protobuf)).unwrap();
    message.anomalies = vec![99, v1::Anomaly::DurationNegative.into()];
    let event = decode(&message.encode_to_vec(), Format::Protobuf).unwrap();
    assert_eq!(event.anomalies, [Anomaly::DurationNegative]);
}
