use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::event::Micros;

const CONTENT: &str = "5b6962dd-3f90-4c93-8f61-eabfa4a803e2";
const KEY: &str = r#"{"content_id":"5b6962dd-3f90-4c93-8f61-eabfa4a803e2"}"#;
const CREATE: &str = include_str!("../../tests/fixtures/event_create.json");
const UPDATE: &str = include_str!("../../tests/fixtures/event_update.json");
const UPDATE_TOAST: &str = include_str!("../../tests/fixtures/event_update_toast.json");
const DELETE: &str = include_str!("../../tests/fixtures/event_delete.json");
const FLAT: &str = include_str!("../../tests/fixtures/event_create_flattened.json");
const CONTENT_CREATE: &str = include_str!("../../tests/fixtures/content_create.json");
const AT: Micros = Micros(1_767_882_112_123_456);

type Parsed<'a> = Result<CdcRecord<EventChange<'a>>, Reject>;

fn parse_with<'a>(schema: TableSchema, key: &'a str, payload: &'a str) -> Parsed<'a> {
    let input = Input {
        key: Some(key.as_bytes()),
        payload: Some(payload.as_bytes()),
        moved: false,
    };
    Parser::new(schema).event(input)
}

fn parse(payload: &str) -> Parsed<'_> {
    parse_with(TableSchema::default(), KEY, payload)
}

fn change(payload: &str) -> EventChange<'_> {
    match parse(payload) {
        Ok(CdcRecord::Change(change)) => change,
        other => panic!("expected a change, found {other:?}"),
    }
}

fn reject(payload: &str) -> Reject {
    match parse(payload) {
        Err(reject) => reject,
        Ok(other) => panic!("expected a rejection, found {other:?}"),
    }
}

/// The insert with one column's JSON replaced.
fn with(column: &str, json: &str) -> String {
    let mut record: serde_json::Value = serde_json::from_str(CREATE).unwrap();
    record["after"][column] = serde_json::from_str(json).unwrap();
    record.to_string()
}

fn content(payload: &str) -> ContentChange<'_> {
    let input = Input {
        payload: Some(payload.as_bytes()),
        ..Input::default()
    };
    match Parser::default().content(input) {
        Ok(CdcRecord::Change(change)) => change,
        other => panic!("expected a change, found {other:?}"),
    }
}

#[test]
fn an_insert_is_read_completely() {
    let change = change(CREATE);
    let meta = Meta {
        op: Op::Create,
        lsn: 24_023_128,
        commit_lsn: Some(24_023_119),
        has_sequence: true,
        tx_id: Some(771),
        committed_at: Some(Micros(1_767_882_112_345_678)),
    };
    let row = EventRow {
        event_id: "1001".into(),
        content_id: Some(CONTENT.into()),
        user_id: Some("0f3e2a7c-9a1b-4f6e-8b1d-2c3d4e5f6a7b".into()),
        event_type: Some("play".into()),
        event_ts: AT,
        duration_ms: Some(7000),
        device: Some("ios".into()),
        raw_payload: Some(r#"{"app": "7.2"}"#.into()),
    };
    assert_eq!(
        change,
        EventChange {
            meta,
            row,
            before: None,
            moved: false
        }
    );
}

#[test]
fn an_update_carries_both_images() {
    let change = change(UPDATE);
    assert_eq!(
        (change.meta.op, change.row.duration_ms),
        (Op::Update, Some(9000))
    );
    assert_eq!(change.before.unwrap().duration_ms, Some(7000));
}

#[test]
fn a_deletion_is_read_from_its_before_image() {
    let change = change(DELETE);
    assert_eq!(
        (change.meta.op, &*change.row.event_id),
        (Op::Delete, "1001")
    );
    assert_eq!(change.before, Some(Box::new(change.row)));
}

#[test]
fn a_deletion_without_the_old_row_names_the_replica_identity() {
    let reject = reject(include_str!(
        "../../tests/fixtures/event_delete_default_identity.json"
    ));
    assert_eq!(reject.kind, RejectKind::MissingField);
    assert!(reject.message.contains("REPLICA IDENTITY FULL"), "{reject}");
}

#[test]
fn snapshot_rows_are_reads_whatever_the_snapshot_flag_says() {
    for payload in [
        include_str!("../../tests/fixtures/event_read.json"),
        include_str!("../../tests/fixtures/event_read_incremental.json"),
    ] {
        assert!(change(payload).meta.is_snapshot());
        for flag in [
            r#""true""#,
            r#""first_in_data_collection""#,
            r#""last""#,
            "true",
            "null",
        ] {
            let payload = payload
                .replace(r#""first""#, flag)
                .replace(r#""incremental""#, flag);
            assert!(change(&payload).meta.is_snapshot(), "{flag}");
        }
    }
    assert_eq!(
        change(include_str!("../../tests/fixtures/event_read.json"))
            .meta
            .commit_lsn,
        None
    );
}

#[test]
fn the_envelope_with_its_schema_is_the_same_change() {
    let wrapped = include_str!("../../tests/fixtures/event_create_with_schema.json");
    assert_eq!(change(wrapped), change(CREATE));
}

#[test]
fn the_flattened_form_is_the_same_change() {
    let mut expected = change(CREATE);
    expected.meta.committed_at = Some(Micros::from_millis(1_767_882_112_345));
    assert_eq!(change(FLAT), expected);
    let wrapped = include_str!("../../tests/fixtures/event_create_flattened_with_schema.json");
    assert_eq!(change(wrapped), expected);
    let prefixed = FLAT
        .replace("__lsn", "__source_lsn")
        .replace("__txId", "__source_txId");
    assert_eq!(change(&prefixed), expected);
}

#[test]
fn a_flattened_deletion_is_a_deletion() {
    let change = change(include_str!(
        "../../tests/fixtures/event_delete_flattened.json"
    ));
    assert_eq!(
        (change.meta.op, change.row.duration_ms),
        (Op::Delete, Some(7000))
    );
}

#[test]
fn a_flattened_record_without_an_lsn_names_the_setting() {
    let reject = reject(&FLAT.replace("__lsn", "__other"));
    assert_eq!(reject.kind, RejectKind::MissingField);
    assert!(reject.message.contains("add.fields=op,lsn"), "{reject}");
}

#[test]
fn extra_columns_named_like_envelope_fields_do_not_confuse_the_flattened_form() {
    let extra = r#""op":"x","payload":{"op":"c"},"source":"web","before":1,"after":[2],"schema":null,"__op""#;
    assert_eq!(change(&FLAT.replacen(r#""__op""#, extra, 1)), change(FLAT));
}

#[test]
fn extra_columns_are_ignored() {
    let payload = CREATE.replace(r#""device""#, r#""session":{"a":[1,{"b":null}]},"device""#);
    assert_eq!(change(&payload), change(CREATE));
}

#[test]
fn the_bigint_schema_needs_only_its_key_names() {
    let schema = TableSchema {
        event_key: "event_id".into(),
        content_id: "content_id".into(),
        ..TableSchema::default()
    };
    let payload = include_str!("../../tests/fixtures/event_create_bigint.json");
    let Ok(CdcRecord::Change(change)) = parse_with(schema, r#"{"content_id":42}"#, payload) else {
        panic!("expected a change");
    };
    // above 2^53
    assert_eq!(change.row.event_id, "9007199254740993");
    assert_eq!(
        (
            change.row.content_id.as_deref(),
            change.row.user_id.as_deref()
        ),
        (Some("42"), Some("7"))
    );
    assert_eq!(change.row.event_ts, AT);
}

#[rstest]
#[case("9223372036854775807")]
#[case("-9223372036854775808")]
#[case("18446744073709551615")]
fn keys_keep_every_digit(#[case] id: &str) {
    assert_eq!(change(&with("id", id)).row.event_id, id);
}

#[rstest]
#[case(r#""2026-01-08T14:21:52.123456Z""#, AT.0)]
#[case(r#""2026-01-08T16:21:52.123456+02:00""#, AT.0)]
#[case(r#""2026-01-08T14:21:52.123456""#, AT.0)]
#[case(r#""2026-01-08 14:21:52.123456""#, AT.0)]
#[case("1767882112123", AT.0 - 456)]
#[case("1767882112123456", AT.0)]
#[case("1767882112123456000", AT.0)]
fn every_time_mode_is_the_same_instant(#[case] json: &str, #[case] micros: i64) {
    assert_eq!(change(&with("event_ts", json)).row.event_ts, Micros(micros));
}

#[test]
fn a_configured_unit_beats_the_guess() {
    let payload = with("event_ts", "1000000");
    for (time_unit, micros) in [
        (TimeUnit::Millis, 1_000_000_000),
        (TimeUnit::Micros, 1_000_000),
        (TimeUnit::Nanos, 1_000),
    ] {
        let schema = TableSchema {
            time_unit,
            ..TableSchema::default()
        };
        let Ok(CdcRecord::Change(change)) = parse_with(schema, KEY, &payload) else {
            panic!("expected a change")
        };
        assert_eq!(change.row.event_ts, Micros(micros), "{time_unit:?}");
    }
}

#[rstest]
#[case("7000", Some(7000))]
#[case(r#""7000""#, Some(7000))]
#[case(r#""7000.00""#, Some(7000))]
#[case("7000.0", Some(7000))]
#[case("-5", Some(-5))]
#[case("0", Some(0))]
#[case("null", None)]
fn durations_come_as_numbers_and_as_numeric_text(
    #[case] json: &str,
    #[case] expected: Option<i64>,
) {
    assert_eq!(change(&with("duration_ms", json)).row.duration_ms, expected);
}

#[test]
fn an_unchanged_value_comes_from_the_before_image() {
    assert_eq!(
        change(UPDATE_TOAST).row.raw_payload.as_deref(),
        Some(r#"{"long": "value"}"#)
    );
    let neither = UPDATE_TOAST.replace(r#"{\"long\": \"value\"}"#, "__debezium_unavailable_value");
    let change = change(&neither);
    assert_eq!(
        (change.row.raw_payload, change.before.unwrap().raw_payload),
        (None, None)
    );
}

#[test]
fn any_event_type_passes() {
    assert_eq!(
        change(&with("event_type", r#""ünknown \"x\"""#))
            .row
            .event_type
            .unwrap(),
        "ünknown \"x\""
    );
    assert_eq!(change(&with("event_type", "null")).row.event_type, None);
}

#[test]
fn null_values_and_empty_payloads_are_tombstones() {
    let parser = Parser::default();
    for payload in [
        None,
        Some(&b""[..]),
        Some(b"null"),
        Some(br#"{"schema":null,"payload":null}"#),
    ] {
        assert_eq!(
            parser.event(Input {
                payload,
                ..Input::default()
            }),
            Ok(CdcRecord::Tombstone)
        );
        assert_eq!(
            parser.content(Input {
                payload,
                ..Input::default()
            }),
            Ok(CdcRecord::Tombstone)
        );
    }
}

#[test]
fn messages_and_truncations_are_told_apart_from_rows() {
    let message = include_str!("../../tests/fixtures/message.json");
    assert_eq!(parse(message), Ok(CdcRecord::Message("engage".into())));
    assert_eq!(
        parse(include_str!("../../tests/fixtures/truncate.json")),
        Ok(CdcRecord::Truncate)
    );
}

#[test]
fn the_headers_of_a_key_change_are_known() {
    assert!(is_move_header("__debezium.newkey") && is_move_header("__debezium.oldkey"));
    assert!(!is_move_header("traceparent"));
    let input = Input {
        key: Some(KEY.as_bytes()),
        payload: Some(DELETE.as_bytes()),
        moved: true,
    };
    assert!(
        matches!(Parser::default().event(input), Ok(CdcRecord::Change(change)) if change.moved)
    );
}

#[rstest]
#[case(KEY)]
#[case(r#"{ "content_id" : "5b6962dd-3f90-4c93-8f61-eabfa4a803e2" }"#)]
#[case(r#"{"schema":{"type":"struct"},"payload":{"content_id":"5b6962dd-3f90-4c93-8f61-eabfa4a803e2"}}"#)]
#[case(r#""5b6962dd-3f90-4c93-8f61-eabfa4a803e2""#)]
#[case("5b6962dd-3f90-4c93-8f61-eabfa4a803e2")]
#[case(r#"{"content_id":"5b6962dd-3f90-4c93-8f61-eabfa4a803e2","region":"eu"}"#)]
fn every_spelling_of_the_key_is_accepted(#[case] key: &str) {
    assert!(
        parse_with(TableSchema::default(), key, CREATE).is_ok(),
        "{key}"
    );
}

#[rstest]
#[case(r#"{"id":1001}"#)]
#[case(r#"{"content_id":null}"#)]
#[case(r#"{"content_id":"7c0a1f8e-2b4d-4e6f-9a1c-3d5e7f901234"}"#)]
#[case("1001")]
#[case("")]
#[case("{")]
#[case(r#"{"payload":{"payload":{"content_id":"5b6962dd-3f90-4c93-8f61-eabfa4a803e2"}}}"#)]
fn a_key_without_the_content_names_the_setting(#[case] key: &str) {
    let reject = parse_with(TableSchema::default(), key, CREATE).unwrap_err();
    assert_eq!(reject.kind, RejectKind::WrongKey, "{key}");
    assert!(
        reject
            .message
            .contains("message.key.columns=<schema>.<table>:content_id"),
        "{reject}"
    );
}

#[test]
fn no_content_goes_with_a_key_of_null() {
    let payload = with("content_id", "null");
    for key in [
        r#"{"content_id":null}"#,
        "",
        "null",
        r#"{"schema":{},"payload":{"content_id":null}}"#,
    ] {
        assert!(
            parse_with(TableSchema::default(), key, &payload).is_ok(),
            "{key}"
        );
    }
    let reject = parse_with(TableSchema::default(), KEY, &payload).unwrap_err();
    assert_eq!(reject.kind, RejectKind::WrongKey);
}

#[rstest]
#[case("not json", RejectKind::MalformedJson, "no JSON")]
#[case("[1]", RejectKind::MalformedJson, "an array")]
#[case("42", RejectKind::MalformedJson, "a number")]
#[case(r#"{"op":"c""#, RejectKind::MalformedJson, "no JSON")]
#[case(r#"{"op":"c"} trailing"#, RejectKind::MalformedJson, "no JSON")]
#[case("{}", RejectKind::MissingField, "op is missing")]
#[case(r#"{"op":7}"#, RejectKind::WrongType, "op is the number 7")]
#[case(r#"{"op":"x"}"#, RejectKind::UnknownOperation, "c r u d t m")]
#[case(
    r#"{"op":"c","source":{"lsn":1}}"#,
    RejectKind::MissingField,
    "after is missing"
)]
#[case(
    r#"{"op":"c","after":{}}"#,
    RejectKind::MissingField,
    "source.lsn is missing"
)]
#[case(
    r#"{"op":"c","after":{},"source":{"lsn":"x"}}"#,
    RejectKind::WrongType,
    "source.lsn"
)]
#[case(
    r#"{"op":"c","after":{},"source":{"lsn":-1}}"#,
    RejectKind::WrongType,
    "source.lsn"
)]
#[case(
    r#"{"op":"c","after":{},"source":{"lsn":1,"sequence":"7"}}"#,
    RejectKind::WrongType,
    "source.sequence"
)]
#[case(
    r#"{"op":"d","source":{"lsn":1}}"#,
    RejectKind::MissingField,
    "REPLICA IDENTITY FULL"
)]
fn a_broken_record_says_what_is_wrong(
    #[case] payload: &str,
    #[case] kind: RejectKind,
    #[case] part: &str,
) {
    let reject = reject(payload);
    assert_eq!(reject.kind, kind, "{reject}");
    assert!(reject.message.contains(part), "{reject}");
}

#[rstest]
#[case("id", "null", RejectKind::MissingPrimaryKey)]
#[case("id", r#""""#, RejectKind::MissingPrimaryKey)]
#[case("id", "1.5", RejectKind::WrongType)]
#[case("id", "1e40", RejectKind::WrongType)]
#[case("content_id", "{}", RejectKind::WrongType)]
#[case("event_ts", "null", RejectKind::MissingField)]
#[case("event_ts", r#""yesterday""#, RejectKind::WrongType)]
#[case("event_ts", "true", RejectKind::WrongType)]
#[case("event_ts", "-1", RejectKind::AbsurdTimestamp)]
#[case("event_ts", "9223372036854775807", RejectKind::WrongType)]
#[case("event_ts", r#""1969-12-31T23:59:59Z""#, RejectKind::AbsurdTimestamp)]
#[case("event_ts", r#""2300-01-01T00:00:00Z""#, RejectKind::AbsurdTimestamp)]
#[case("event_ts", r#""9999-12-31T23:59:59Z""#, RejectKind::AbsurdTimestamp)]
#[case("duration_ms", r#""G1g=""#, RejectKind::WrongType)]
#[case("duration_ms", "7000.5", RejectKind::WrongType)]
#[case("duration_ms", "9223372036854775808", RejectKind::WrongType)]
#[case("device", "5", RejectKind::WrongType)]
#[case("event_type", "[]", RejectKind::WrongType)]
#[case("raw_payload", r#"{"a":1}"#, RejectKind::WrongType)]
fn a_broken_column_is_named(#[case] column: &str, #[case] json: &str, #[case] kind: RejectKind) {
    // nanoseconds reach to 2262 only, so the largest number is a time
    if (column, json) == ("event_ts", "9223372036854775807") {
        assert!(parse(&with(column, json)).is_ok());
        return;
    }
    let reject = reject(&with(column, json));
    assert_eq!(reject.kind, kind, "{reject}");
    assert!(reject.message.contains(column), "{reject}");
}

#[test]
fn bytes_that_are_no_text_are_rejected() {
    let input = Input {
        payload: Some(b"{\"op\":\"\xff\"}"),
        ..Input::default()
    };
    assert_eq!(
        Parser::default().event(input).unwrap_err().kind,
        RejectKind::MalformedJson
    );
}

#[test]
fn an_unreadable_before_image_of_an_update_is_none() {
    let payload = UPDATE.replacen(r#""event_ts":"2026"#, r#""event_ts":"1926"#, 1);
    assert_eq!(change(&payload).before, None);
}

#[test]
fn a_content_is_read_completely() {
    let change = content(CONTENT_CREATE);
    assert_eq!((&*change.id, change.length_seconds), (CONTENT, Some(300)));
    assert_eq!(
        change.title,
        Toast::Value(Some("Rust in Production".into()))
    );
    assert_eq!(change.slug, Toast::Value(Some("rust-in-production".into())));
    assert_eq!(change.content_type, Toast::Value(Some("podcast".into())));
    assert_eq!(change.publish_ts, Some(Micros(1_767_225_600_000_000)));
    assert_eq!(change.meta.lsn, 24_023_128);
}

#[test]
fn an_unchanged_title_is_no_title() {
    let toast = include_str!("../../tests/fixtures/content_update_toast.json");
    assert_eq!(content(toast).title, Toast::Unchanged);
    let update = include_str!("../../tests/fixtures/content_update.json");
    let update = update.replace("Rust in Production, longer", "__debezium_unavailable_value");
    assert_eq!(
        content(&update).title,
        Toast::Value(Some("Rust in Production".into()))
    );
}

#[test]
fn a_tombstone_is_about_the_content_of_its_key() {
    let parser = Parser::default();
    assert_eq!(parser.content_key(Some(br#"{"id":42}"#)).unwrap(), "42");
    assert_eq!(parser.content_key(Some(b"abc")).unwrap(), "abc");
    assert_eq!(
        parser
            .content_key(Some(br#"{"slug":"x"}"#))
            .unwrap_err()
            .kind,
        RejectKind::WrongKey
    );
    assert_eq!(
        parser.content_key(None).unwrap_err().kind,
        RejectKind::WrongKey
    );
}

#[test]
fn a_deeply_nested_value_is_rejected_not_followed() {
    let payload = format!(
        r#"{{"op":"c","after":{{"x":{}1{}}}}}"#,
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let _ = parse(&payload);
    let payload = format!(
        "{}1{}",
        r#"{"payload":"#.repeat(100_000),
        "}".repeat(100_000)
    );
    let _ = parse(&payload);
}

/// A valid record with some bytes cut, doubled, swapped or replaced.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let base = prop::sample::select(vec![CREATE, UPDATE, DELETE, FLAT, CONTENT_CREATE]);
    let edits = prop::collection::vec((any::<prop::sample::Index>(), 0..4u8, any::<u8>()), 1..6);
    (base, edits).prop_map(|(base, edits)| {
        let mut bytes = base.as_bytes().to_vec();
        for (at, kind, byte) in edits {
            let at = at
                .index(bytes.len().max(1))
                .min(bytes.len().saturating_sub(1));
            match kind {
                0 => bytes.truncate(at.max(1)),
                1 => bytes.insert(at, byte),
                2 => bytes[at] = byte,
                _ => drop(bytes.remove(at)),
            }
            if bytes.is_empty() {
                bytes.push(byte);
            }
        }
        bytes
    })
}

fn survives(key: &[u8], payload: &[u8]) {
    let input = Input {
        key: Some(key),
        payload: Some(payload),
        moved: false,
    };
    for parser in [
        Parser::default(),
        Parser::new(TableSchema {
            event_key: "op".into(),
            ..TableSchema::default()
        }),
    ] {
        let _ = (
            parser.event(input),
            parser.content(input),
            parser.content_key(Some(key)),
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_bytes_panic(key in prop::collection::vec(any::<u8>(), 0..60), payload in prop::collection::vec(any::<u8>(), 0..400)) {
        survives(&key, &payload);
    }

    #[test]
    fn no_mutation_of_a_valid_record_panics(payload in mutated()) {
        survives(KEY.as_bytes(), &payload);
        survives(&payload, CREATE.as_bytes());
    }

    #[test]
    fn every_text_survives_json_escapes(text in "\\PC*") {
        let json = serde_json::to_string(&text).unwrap();
        let payload = with("device", &json);
        prop_assert_eq!(change(&payload).row.device.unwrap(), text);
    }

    #[test]
    fn every_duration_survives(ms in any::<i64>()) {
        prop_assert_eq!(change(&with("duration_ms", &ms.to_string())).row.duration_ms, Some(ms));
    }
}
