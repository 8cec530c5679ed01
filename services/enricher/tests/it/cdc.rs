//! Change records as Debezium 3.7 writes them, made by hand.

use serde_json::{Value, json};

/// One change of one row, ready to be produced.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
}

/// Where in the log a change stands: the two numbers of `source.sequence`, and its transaction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    pub commit_lsn: u64,
    pub lsn: u64,
    pub tx: i64,
    pub committed_ms: i64,
}

/// 2026-01-08T14:21:52Z
pub(crate) const NOON_MS: i64 = 1_767_882_112_000;

/// The n-th transaction of a log in which every transaction writes one row.
pub(crate) fn at(n: u64) -> At {
    let tx = i64::try_from(n).unwrap();
    At {
        commit_lsn: n * 1000,
        lsn: n * 1000 + 500,
        tx,
        committed_ms: NOON_MS + tx,
    }
}

pub(crate) fn event_row(id: i64, content: Option<&str>) -> Value {
    json!({
        "id": id, "content_id": content, "user_id": "0f3e2a7c-9a1b-4f6e-8b1d-2c3d4e5f6a7b", "event_type": "play",
        "event_ts": "2026-01-08T14:21:52.000000Z", "duration_ms": 7000, "device": "ios", "raw_payload": "{\"app\": \"7.2\"}"
    })
}

pub(crate) fn content_row(id: &str, title: &str, length: Option<i64>) -> Value {
    json!({
        "id": id, "slug": title.to_lowercase().replace(' ', "-"), "title": title, "content_type": "podcast",
        "length_seconds": length, "publish_ts": "2026-01-01T00:00:00Z"
    })
}

fn envelope(op: &str, table: &str, before: &Value, after: &Value, at: At) -> Vec<u8> {
    let snapshot = if op == "r" { "true" } else { "false" };
    let source = json!({
        "version": "3.7.0.Final", "connector": "postgresql", "name": "cdc", "ts_ms": at.committed_ms,
        "snapshot": snapshot, "db": "engage", "sequence": format!("[\"{}\",\"{}\"]", at.commit_lsn, at.lsn),
        "ts_us": at.committed_ms * 1000, "ts_ns": at.committed_ms * 1_000_000, "schema": "public", "table": table,
        "txId": at.tx, "lsn": at.lsn, "xmin": null, "origin": null, "origin_lsn": null
    });
    let ts = at.committed_ms + 3;
    let value = json!({
        "before": before, "after": after, "source": source, "transaction": null, "op": op,
        "ts_ms": ts, "ts_us": ts * 1000, "ts_ns": ts * 1_000_000
    });
    serde_json::to_vec(&value).unwrap()
}

/// A change of `engagement_events`; `row` is what it is about.
pub(crate) fn event(op: &str, before: Option<&Value>, after: Option<&Value>, at: At) -> Change {
    let row = after.or(before).unwrap();
    let key = json!({"content_id": row["content_id"]});
    let [before, after] = [before, after].map(|row| row.cloned().unwrap_or(Value::Null));
    Change {
        key: Some(serde_json::to_vec(&key).unwrap()),
        value: Some(envelope(op, "engagement_events", &before, &after, at)),
    }
}

/// An INSERT of an event.
pub(crate) fn insert(row: &Value, at: At) -> Change {
    event("c", None, Some(row), at)
}

/// A change of `content`.
pub(crate) fn content(op: &str, before: Option<&Value>, after: Option<&Value>, at: At) -> Change {
    let row = after.or(before).unwrap();
    let key = json!({"id": row["id"]});
    let [before, after] = [before, after].map(|row| row.cloned().unwrap_or(Value::Null));
    Change {
        key: Some(serde_json::to_vec(&key).unwrap()),
        value: Some(envelope(op, "content", &before, &after, at)),
    }
}

/// A TRUNCATE of `engagement_events`.
pub(crate) fn truncate(at: At) -> Change {
    Change {
        key: None,
        value: Some(envelope(
            "t",
            "engagement_events",
            &Value::Null,
            &Value::Null,
            at,
        )),
    }
}
