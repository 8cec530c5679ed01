//! A record as fields: what is shown, and what conditions are about. Pure.
//!
//! Invariant: a record that cannot be read is shown as such, with why; personal data only when asked for.

use engagement::profile::{Profile, RenderOptions};
use engagement::wire::{self, Format};
use serde_json::{Map, Value, json};
use stream::Record;
use stream::dead_letter::{
    ATTEMPTS, ENDPOINT, ERROR_KIND, FIRST_FAILED_AT, REDRIVE_COUNT, connect,
};
use stream::headers::{CONTENT_TYPE, last_text};

use super::args::Stream;
use engagement::event::Micros;

/// Fields that every enriched event has; those that begin with these and a point are in them.
pub(super) const ENRICHED: &[&str] = &[
    "event_id",
    "content_id",
    "user_id",
    "event_type",
    "device",
    "content_type",
    "event_ts",
    "processed_at",
    "publish_ts",
    "duration_ms",
    "length_seconds",
    "engagement_seconds",
    "engagement_ratio",
    "engagement_percent",
    "content_title",
    "content_slug",
    "raw_payload",
    "enrichment_status",
    "origin",
    "revision",
    "deleted",
    "moved",
    "previous",
    "anomalies",
    "source",
    "key",
    "record",
    UNREADABLE,
];
/// Fields that every dead letter has.
pub(super) const LETTER: &[&str] = &[
    "service",
    "reason",
    "stage",
    "attempts",
    "failed_at",
    "message",
    "endpoint",
    "redrive_count",
    "origin",
    "value",
    "key",
    "record",
];

/// Why a record cannot be read stands here.
pub(super) const UNREADABLE: &str = "unreadable";

/// A record of a stream as an object.
pub(super) fn of(record: &Record, stream: Stream, payload: bool) -> Value {
    let mut fields = match read(record, stream, payload) {
        Ok(fields) => fields,
        Err(why) => Map::from_iter([(UNREADABLE.to_owned(), why.into())]),
    };
    fields.insert("key".into(), key_text(record).into());
    fields.insert("record".into(), place(record));
    Value::Object(fields)
}

fn read(record: &Record, stream: Stream, payload: bool) -> Result<Map<String, Value>, String> {
    match stream {
        Stream::Enriched => enriched(record, payload),
        Stream::Cdc => change(record, payload),
        Stream::Dlq => Ok(letter(record, payload)),
    }
}

/// The content that a record is about.
pub(super) fn content_of(fields: &Value) -> Option<&str> {
    let named = fields.get("content_id").and_then(Value::as_str);
    named.or_else(|| fields.get("key").and_then(Value::as_str))
}

fn place(record: &Record) -> Value {
    json!({
        "topic": &*record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp_ms.map(Micros::from_millis),
    })
}

fn enriched(record: &Record, payload: bool) -> Result<Map<String, Value>, String> {
    let bytes = record
        .payload
        .as_deref()
        .ok_or("a null value, expected an enriched event")?;
    let event = wire::decode(bytes, format(record, bytes)?).map_err(|error| error.to_string())?;
    let options = RenderOptions {
        raw_payload: payload,
        ..RenderOptions::default()
    };
    object(Profile::Canonical.value(&event, &options))
}

/// By its header; without one, by its first sign.
fn format(record: &Record, bytes: &[u8]) -> Result<Format, String> {
    match last_text(&record.headers, CONTENT_TYPE) {
        Some(name) => Format::from_content_type(name)
            .ok_or_else(|| format!("content type {name:?} is not known")),
        None if bytes.first() == Some(&b'{') => Ok(Format::Json),
        None => Ok(Format::Protobuf),
    }
}

/// The row after the change, or before a deletion, in each of the three forms that Debezium can be told to write.
fn change(record: &Record, payload: bool) -> Result<Map<String, Value>, String> {
    let Some(bytes) = record.payload.as_deref() else {
        return Ok(Map::from_iter([("op".to_owned(), "tombstone".into())]));
    };
    let value: Value =
        serde_json::from_slice(bytes).map_err(|error| format!("no JSON: {error}"))?;
    let mut body = object(value)?;
    if body.contains_key("schema") && body.get("payload").is_some_and(Value::is_object) {
        body = object(body.remove("payload").unwrap_or_default())?;
    }
    let op = body.get("op").and_then(Value::as_str).map(str::to_owned);
    let mut fields = match &op {
        None => body,
        Some(_) => envelope(body),
    };
    if !payload {
        fields.remove("raw_payload");
    }
    let op = op.or_else(|| Some(fields.get("__op")?.as_str()?.to_owned()));
    fields.insert(
        "op".into(),
        op.map_or(Value::Null, |letter| operation(&letter).into()),
    );
    Ok(fields)
}

fn envelope(mut body: Map<String, Value>) -> Map<String, Value> {
    let source = body.remove("source").unwrap_or_default();
    let image = ["after", "before"]
        .into_iter()
        .find_map(|name| match body.remove(name) {
            Some(Value::Object(image)) => Some(image),
            _ => None,
        });
    let mut fields = image.unwrap_or_default();
    let millis = source.get("ts_ms").and_then(Value::as_i64);
    let micros = source.get("ts_us").and_then(Value::as_i64).map(Micros);
    fields.insert(
        "committed_at".into(),
        json!(micros.or(millis.map(Micros::from_millis))),
    );
    for name in ["lsn", "txId", "snapshot"] {
        let value = source.get(name).cloned().unwrap_or_default();
        fields.insert(name.to_ascii_lowercase(), value);
    }
    fields
}

fn operation(letter: &str) -> String {
    match letter {
        "c" => "create",
        "r" => "snapshot",
        "u" => "update",
        "d" => "delete",
        "t" => "truncate",
        "m" => "message",
        other => other,
    }
    .to_owned()
}

fn letter(record: &Record, payload: bool) -> Map<String, Value> {
    let text = |name: &str| last_text(&record.headers, name).map(str::to_owned);
    let number = |name: &str| text(name).and_then(|text| text.parse::<i64>().ok());
    let service = record
        .topic
        .strip_prefix("engagement.dlq.")
        .map(str::to_owned);
    let fields = json!({
        "service": text(connect::CONNECTOR_NAME).or(service),
        "reason": text(ERROR_KIND),
        "stage": text(connect::STAGE),
        "attempts": number(ATTEMPTS),
        "failed_at": text(FIRST_FAILED_AT),
        "message": text(connect::EXCEPTION_MESSAGE),
        "endpoint": text(ENDPOINT),
        "redrive_count": number(REDRIVE_COUNT).unwrap_or(0),
        "origin": {
            "topic": text(connect::TOPIC),
            "partition": number(connect::PARTITION),
            "offset": number(connect::OFFSET),
        },
    });
    let mut fields = object(fields).unwrap_or_default();
    if payload {
        let value = record.payload.as_deref().map(readable);
        fields.insert("value".into(), value.unwrap_or_default());
    }
    fields
}

/// JSON as it is, an enriched event in Protobuf as its fields, other text as text, other bytes by their number.
fn readable(bytes: &[u8]) -> Value {
    if let Ok(value) = serde_json::from_slice(bytes) {
        return value;
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        return text.into();
    }
    match wire::decode(bytes, Format::Protobuf) {
        Ok(event) => Profile::Canonical.value(&event, &RenderOptions::complete()),
        Err(_) => format!("{} bytes that are no text", bytes.len()).into(),
    }
}

/// The id in a key: plain, or as Debezium writes it (`{"content_id":"7"}`, also below `payload`).
fn key_text(record: &Record) -> Option<String> {
    let text = std::str::from_utf8(record.key.as_deref()?).ok()?;
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(fields)) => id_in(&fields),
        Ok(Value::String(id)) => Some(id),
        Ok(_) | Err(_) => Some(text.to_owned()),
    }
}

fn id_in(fields: &Map<String, Value>) -> Option<String> {
    let inner = fields.get("payload").and_then(Value::as_object);
    match inner.unwrap_or(fields).values().next()? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn object(value: Value) -> Result<Map<String, Value>, String> {
    match value {
        Value::Object(fields) => Ok(fields),
        _ => Err("no object".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use engagement::testing::Sample;

    use super::*;

    fn record(key: &str, payload: Option<Vec<u8>>, headers: &[(&str, &str)]) -> Record {
        let header = |(name, value): &(&str, &str)| {
            ((*name).to_owned(), Some(Bytes::from((*value).to_owned())))
        };
        Record {
            topic: "engagement.dlq.clickhouse-sink".into(),
            partition: 3,
            offset: 9,
            timestamp_ms: Some(5),
            key: Some(Bytes::from(key.to_owned())),
            payload: payload.map(Bytes::from),
            headers: headers.iter().map(header).collect(),
        }
    }

    #[test]
    fn both_forms_of_an_enriched_event_give_the_same_fields_with_and_without_a_header() {
        let event = Sample::new().event_id(1001).at_position(3, 42).build();
        let read = |form: Format, header: bool| {
            let headers = [(CONTENT_TYPE, form.content_type())];
            let headers = if header { &headers[..] } else { &[] };
            of(
                &record("c", Some(wire::encode(&event, form)), headers),
                Stream::Enriched,
                false,
            )
        };
        let fields = read(Format::Protobuf, true);
        assert_eq!(fields["event_id"], "1001");
        assert_eq!(
            fields["record"],
            json!({"topic": "engagement.dlq.clickhouse-sink", "partition": 3, "offset": 9,
            "timestamp": "1970-01-01T00:00:00.005Z"})
        );
        for (form, header) in [
            (Format::Protobuf, false),
            (Format::Json, true),
            (Format::Json, false),
        ] {
            assert_eq!(read(form, header), fields, "{form:?} {header}");
        }
    }

    #[test]
    fn the_list_of_fields_is_that_of_the_canonical_form() {
        let event = Sample::new().replacing(&Sample::new().build()).build();
        let value = Profile::Canonical.value(&event, &RenderOptions::complete());
        let mut known: Vec<&str> = ENRICHED.to_vec();
        known.retain(|name| !["key", "record", "raw_payload", UNREADABLE].contains(name));
        let mut found: Vec<&str> = value
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        found.retain(|name| *name != "raw_payload");
        known.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, known);
        let of_letter = of(&record("c", Some(b"{}".to_vec()), &[]), Stream::Dlq, true);
        for name in of_letter.as_object().unwrap().keys() {
            assert!(LETTER.contains(&name.as_str()), "{name}");
        }
    }

    #[test]
    fn the_payload_is_there_only_when_asked_for() {
        let mut event = Sample::new().build();
        event.raw_payload = Some("{\"ip\":\"10.0.0.1\"}".into());
        let record = record("c", Some(wire::encode(&event, Format::Protobuf)), &[]);
        assert!(
            of(&record, Stream::Enriched, false)
                .get("raw_payload")
                .is_none()
        );
        assert_eq!(
            of(&record, Stream::Enriched, true)["raw_payload"],
            "{\"ip\":\"10.0.0.1\"}"
        );
        let row = br#"{"id":1,"raw_payload":"{}","__op":"c"}"#.to_vec();
        let change = self::record("c", Some(row), &[]);
        assert!(of(&change, Stream::Cdc, false).get("raw_payload").is_none());
    }

    #[test]
    fn a_change_is_read_in_each_of_its_forms() {
        let plain = r#"{"before":null,"after":{"id":7,"content_id":"c"},"op":"c","source":{"ts_ms":1000,"lsn":9,"txId":4}}"#;
        let with_schema = format!(r#"{{"schema":{{}},"payload":{plain}}}"#);
        for text in [plain, &with_schema] {
            let fields = of(
                &record(r#"{"content_id":"c"}"#, Some(text.into()), &[]),
                Stream::Cdc,
                false,
            );
            assert_eq!(
                (&fields["id"], &fields["op"]),
                (&json!(7), &json!("create"))
            );
            assert_eq!(fields["committed_at"], "1970-01-01T00:00:01Z");
            assert_eq!(
                (content_of(&fields), &fields["txid"]),
                (Some("c"), &json!(4))
            );
        }
        let deleted = r#"{"before":{"id":7},"after":null,"op":"d","source":{"ts_us":1}}"#;
        let fields = of(&record("c", Some(deleted.into()), &[]), Stream::Cdc, false);
        assert_eq!(
            (&fields["id"], &fields["op"]),
            (&json!(7), &json!("delete"))
        );
        let flat = r#"{"id":7,"__op":"u"}"#;
        let fields = of(&record("c", Some(flat.into()), &[]), Stream::Cdc, false);
        assert_eq!(
            (&fields["id"], &fields["op"]),
            (&json!(7), &json!("update"))
        );
        assert_eq!(
            of(&record("c", None, &[]), Stream::Cdc, false)["op"],
            "tombstone"
        );
    }

    #[test]
    fn what_cannot_be_read_is_shown_with_why() {
        for stream in [Stream::Enriched, Stream::Cdc] {
            let fields = of(&record("c", Some(b"\xff\xff".to_vec()), &[]), stream, false);
            assert!(fields[UNREADABLE].is_string(), "{fields}");
            assert_eq!(fields["record"]["offset"], 9);
        }
        let other = record("c", Some(b"{}".to_vec()), &[(CONTENT_TYPE, "text/plain")]);
        assert!(
            of(&other, Stream::Enriched, false)[UNREADABLE]
                .as_str()
                .unwrap()
                .contains("text/plain")
        );
    }

    #[test]
    fn the_key_is_the_id_in_it() {
        let key = |text: &str| key_text(&record(text, None, &[]));
        for text in [
            "c1",
            "\"c1\"",
            r#"{"content_id":"c1"}"#,
            r#"{"schema":{},"payload":{"content_id":"c1"}}"#,
        ] {
            assert_eq!(key(text).as_deref(), Some("c1"), "{text}");
        }
        assert_eq!(key("17").as_deref(), Some("17"));
        assert_eq!(key(r#"{"content_id":null}"#), None);
    }

    #[test]
    fn a_letter_says_who_gave_up_what_and_why() {
        let headers = [
            (connect::TOPIC, "engagement.enriched.v1"),
            (connect::PARTITION, "3"),
            (connect::OFFSET, "42"),
            (ERROR_KIND, "unstorable"),
            (ATTEMPTS, "2"),
        ];
        let fields = of(
            &record("c", Some(vec![0xff, 0xfe]), &headers),
            Stream::Dlq,
            true,
        );
        assert_eq!(fields["service"], "clickhouse-sink");
        assert_eq!(
            (&fields["reason"], &fields["attempts"]),
            (&json!("unstorable"), &json!(2))
        );
        assert_eq!(fields["origin"]["offset"], 42);
        assert_eq!(fields["value"], "2 bytes that are no text");
    }
}
