//! Whether bytes name a person. Pure.
//!
//! Invariant: an id that is long enough to be nobody else's is found wherever it stands; a short one, such as a number, only as
//! the value of a field `user_id`.

use engagement::wire::{self, Format};
use serde_json::Value;
use sha2::{Digest, Sha256};
use stream::Record;

/// From so many bytes on an id does not occur by chance.
const UNMISTAKABLE: usize = 16;
/// The field.
const FIELD: &str = "user_id";

/// A user id in the canonical text of its column: UUIDs in lower case, numbers in decimal.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Person(String);

impl Person {
    pub(super) fn new(canonical: impl Into<String>) -> Self {
        Self(canonical.into())
    }

    pub(super) fn id(&self) -> &str {
        &self.0
    }

    /// Of the id and a salt, in lower-case hex: what a statement names instead of the id, which would stay in the server's logs.
    pub(super) fn hash(&self, salt: &str) -> String {
        hex(&Sha256::digest(format!("{salt}{}", self.0)))
    }

    /// Whether a text names the person.
    pub(super) fn is_in(&self, bytes: &[u8]) -> bool {
        self.stands_in(bytes)
            || serde_json::from_slice::<Value>(bytes).is_ok_and(|value| self.is_in_value(&value))
    }

    /// Whether a record of any of the topics does, in whatever form.
    pub(super) fn is_in_record(&self, record: &Record) -> bool {
        let payload = record.payload.as_deref().unwrap_or_default();
        let key = record.key.as_deref().unwrap_or_default();
        let headers = record.headers.iter();
        let in_headers = headers
            .filter_map(|(_, value)| value.as_deref())
            .any(|value| self.stands_in(value));
        let in_event = || {
            let event = wire::decode(payload, Format::Protobuf);
            event.is_ok_and(|event| event.user_id.as_deref() == Some(&self.0))
        };
        self.is_in(payload) || self.stands_in(key) || in_headers || in_event()
    }

    fn stands_in(&self, bytes: &[u8]) -> bool {
        let id = self.0.as_bytes();
        id.len() >= UNMISTAKABLE && bytes.windows(id.len()).any(|window| window == id)
    }

    fn is_in_value(&self, value: &Value) -> bool {
        match value {
            Value::Object(fields) => fields.iter().any(|(name, value)| {
                (name == FIELD && self.is_value(value)) || self.is_in_value(value)
            }),
            Value::Array(values) => values.iter().any(|value| self.is_in_value(value)),
            _ => false,
        }
    }

    fn is_value(&self, value: &Value) -> bool {
        match value {
            Value::String(text) => *text == self.0,
            Value::Number(number) => number.to_string() == self.0,
            _ => false,
        }
    }
}

/// Lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use engagement::testing::sample;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const LONG: &str = "6f9619ff-8b86-d011-b42d-00c04fc964ff";

    fn tree(leaf: Value) -> impl Strategy<Value = Value> {
        let inner = prop_oneof![
            Just(leaf),
            any::<i32>().prop_map(|n| json!({ "device": n })),
            "[a-z]{0,8}".prop_map(|text| json!(text)),
        ];
        inner.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                prop::collection::hash_map("[a-z]{1,6}", inner, 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    fn has(value: &Value, leaf: &Value) -> bool {
        value == leaf
            || match value {
                Value::Array(values) => values.iter().any(|value| has(value, leaf)),
                Value::Object(fields) => fields.values().any(|value| has(value, leaf)),
                _ => false,
            }
    }

    proptest! {
        #[test]
        fn a_number_is_found_at_any_depth_and_only_as_a_user(value in tree(json!({ "user_id": 42 }))) {
            let expected = has(&value, &json!({ "user_id": 42 }));
            let found = Person::new("42").is_in(value.to_string().as_bytes());
            prop_assert_eq!(found, expected, "{}", value);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), id in "[0-9a-f-]{1,40}") {
            let _ = Person::new(id).is_in(&bytes);
        }
    }

    #[test]
    fn a_number_that_is_something_else_is_not_the_user() {
        let person = Person::new("42");
        for text in [
            r#"{"user_id":421,"id":42,"duration_ms":42}"#,
            r#"{"user_id":null,"content_id":"42"}"#,
            "42",
            "",
        ] {
            assert!(!person.is_in(text.as_bytes()), "{text}");
        }
        assert!(person.is_in(br#"{"before":null,"after":{"user_id":"42"}}"#));
    }

    #[test]
    fn a_long_id_is_found_in_what_is_no_json_too() {
        let person = Person::new(LONG);
        assert!(person.is_in(format!("{{\"op\":\"c\",\"after\":{{\"x\":\"{LONG}").as_bytes()));
        assert!(!person.is_in(LONG.replace("6f", "7f").as_bytes()));
    }

    #[test]
    fn an_enriched_event_is_read_in_either_form() {
        let mut event = sample();
        event.user_id = Some("42".into());
        for format in [Format::Protobuf, Format::Json] {
            let record = Record {
                topic: "t".into(),
                partition: 0,
                offset: 0,
                timestamp_ms: None,
                key: None,
                payload: Some(wire::encode(&event, format).into()),
                headers: Vec::new(),
            };
            assert!(Person::new("42").is_in_record(&record), "{format:?}");
            assert!(!Person::new("43").is_in_record(&record), "{format:?}");
        }
    }

    #[test]
    fn the_hash_is_that_of_salt_and_id() {
        let hash = Person::new("42").hash("run");
        assert_eq!(hash.len(), 64);
        assert_ne!(hash, Person::new("42").hash("other"));
        assert_eq!(hash, hex(&Sha256::digest("run42")));
    }
}
