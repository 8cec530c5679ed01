//! To which partition a content's events go: where Debezium puts its key. Pure.
//!
//! Invariant: nothing is written before the last records of the change topic were seen to follow the same rule, key and partition both.

use engagement::envelope::{CdcRecord, Input, Parser};
use platform::Schema;
use stream::Record;

/// Key bytes as Debezium writes them (`schemas.enable=false`).
#[must_use]
pub(super) fn key(content_id: Option<&str>, schema: Schema) -> Vec<u8> {
    let id = match (content_id, schema) {
        (None, _) => "null".to_owned(),
        (Some(id), Schema::Bigint) => id.to_owned(),
        // a text, escaped as JSON has it
        (Some(id), Schema::Uuid) => serde_json::Value::from(id).to_string(),
    };
    format!("{{\"content_id\":{id}}}").into_bytes()
}

/// The partition of a key, as Java's clients choose it.
#[must_use]
pub(super) fn partition(key: &[u8], partitions: i32) -> i32 {
    let positive = murmur2(key) & 0x7fff_ffff;
    let count = partitions.max(1).unsigned_abs();
    i32::try_from(positive % count).unwrap_or(0)
}

/// Kafka's variant of MurmurHash2 (`org.apache.kafka.common.utils.Utils.murmur2`).
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let mut hash = 0x9747_b28c ^ length;
    let mut words = data.chunks_exact(4);
    for word in words.by_ref() {
        let mut k = word
            .iter()
            .rev()
            .fold(0, |k, byte| (k << 8) | u32::from(*byte));
        k = k.wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        hash ^= rest
            .iter()
            .rev()
            .fold(0, |k, byte| (k << 8) | u32::from(*byte));
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// What in a change of a row does not follow the rule. `None`: it does, or the record is none that the enricher would take.
#[must_use]
pub(super) fn contradiction(
    record: &Record,
    parser: &Parser,
    partitions: i32,
    schema: Schema,
) -> Option<String> {
    let input = Input {
        key: record.key.as_deref(),
        payload: record.payload.as_deref(),
        moved: false,
    };
    let Ok(CdcRecord::Change(change)) = parser.event(input) else {
        return None;
    };
    let (found, id) = (record.key.as_deref()?, change.row.content_id.as_deref());
    let shown = String::from_utf8_lossy(found);
    if key(id, schema) != found {
        return Some(format!("its key is written in another way: {shown}"));
    }
    let expected = partition(found, partitions);
    (expected != record.partition).then(|| {
        format!("key {shown} would belong to partition {expected}: another partitioner is at work")
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn the_hash_is_that_of_kafkas_own_tests() {
        for (text, expected) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(text.as_bytes()).cast_signed(), expected, "{text}");
        }
    }

    const ID: &str = "5b6962dd-3f90-4c93-8f61-eabfa4a803e2";

    #[test]
    fn keys_are_written_as_debezium_writes_them() {
        let text = |id, schema| String::from_utf8(key(id, schema)).unwrap();
        assert_eq!(
            text(Some(ID), Schema::Uuid),
            format!("{{\"content_id\":\"{ID}\"}}")
        );
        assert_eq!(text(Some("42"), Schema::Bigint), r#"{"content_id":42}"#);
        assert_eq!(text(None, Schema::Uuid), r#"{"content_id":null}"#);
    }

    fn record(key: &str, payload: &str, partition: i32) -> Record {
        Record {
            topic: "cdc".into(),
            partition,
            offset: 0,
            timestamp_ms: None,
            key: Some(Bytes::from(key.to_owned())),
            payload: Some(Bytes::from(payload.to_owned())),
            headers: Vec::new(),
        }
    }

    #[test]
    fn a_change_that_follows_another_rule_is_found_and_a_foreign_record_is_no_evidence() {
        let change = format!(
            r#"{{"op":"c","after":{{"id":1,"content_id":"{ID}","event_type":"play","event_ts":"2026-01-08T14:21:52Z"}},"source":{{"lsn":1}}}}"#
        );
        let key = format!("{{\"content_id\":\"{ID}\"}}");
        let own = partition(key.as_bytes(), 16);
        let parser = Parser::default();
        let judge = |key: &str, payload: &str, at| {
            contradiction(&record(key, payload, at), &parser, 16, Schema::Uuid)
        };
        assert_eq!(judge(&key, &change, own), None);
        let elsewhere = (own + 1) % 16;
        assert!(
            judge(&key, &change, elsewhere)
                .unwrap()
                .contains("partitioner")
        );
        assert!(
            judge(ID, &change, own).unwrap().contains("another way"),
            "a bare id"
        );
        assert_eq!(judge("whatever", "rubbish", elsewhere), None);
    }
}
