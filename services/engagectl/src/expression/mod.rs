//! Conditions over the fields of a record, as `--where` takes them: `engagement_percent > 50 and event_type = play`. Pure.
//!
//! Invariant: whatever text comes in gives a condition or an error that names the place; whatever record comes in gives
//! yes or no. A field that has no value satisfies `= null` and nothing else.

mod compare;
mod parse;
mod words;

use std::str::FromStr;

use serde_json::Value;

use parse::SyntaxError;

/// A condition.
#[derive(Clone, Debug, PartialEq)]
pub struct Expression(Node);

#[derive(Clone, Debug, PartialEq)]
enum Node {
    All(Vec<Node>),
    Any(Vec<Node>),
    Not(Box<Node>),
    Is(Comparison),
}

/// `field operator literal`.
#[derive(Clone, Debug, PartialEq)]
struct Comparison {
    /// The field's name, and those of fields in it, as in `source.offset`.
    field: Vec<String>,
    operator: Operator,
    literal: Literal,
}

/// How a field is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    Unequal,
    Less,
    AtMost,
    Greater,
    AtLeast,
    /// The text holds the other one, whatever the case of letters.
    Contains,
}

/// What a field is compared with.
#[derive(Clone, Debug, PartialEq)]
enum Literal {
    Null,
    Boolean(bool),
    /// A number, as it was written: integers are compared exactly.
    Number(String),
    Text(String),
}

impl Expression {
    /// Whether it holds for a record, which is an object.
    #[must_use]
    pub fn holds(&self, record: &Value) -> bool {
        self.0.holds(record)
    }

    /// The fields that it names, as in `source.offset`.
    #[must_use]
    pub fn fields(&self) -> Vec<String> {
        let mut names = Vec::new();
        self.0.fields(&mut names);
        names
    }
}

impl FromStr for Expression {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        parse::expression(text).map(Self)
    }
}

impl Node {
    fn holds(&self, record: &Value) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.holds(record)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(record)),
            Self::Not(part) => !part.holds(record),
            Self::Is(comparison) => comparison.holds(record),
        }
    }

    fn fields(&self, names: &mut Vec<String>) {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|part| part.fields(names)),
            Self::Not(part) => part.fields(names),
            Self::Is(comparison) => names.push(comparison.field.join(".")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn holds(text: &str) -> bool {
        let record = json!({
            "event_id": "1001", "event_type": "play", "duration_ms": 7000, "engagement_percent": 50.5,
            "device": null, "deleted": false, "event_ts": "2026-01-08T14:21:52Z", "content_title": "Rust für alle",
            "anomalies": ["OVER_100_PERCENT"], "source": {"offset": 9_007_199_254_740_993_i64, "lane": "LIVE"},
        });
        let parsed: Expression = text
            .parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"));
        parsed.holds(&record)
    }

    #[test]
    fn numbers_texts_and_booleans_are_compared_as_what_they_are() {
        for text in [
            "engagement_percent > 50",
            "duration_ms<=7000",
            "duration_ms = 7000.0",
            "duration_ms >= '6999'",
            "event_id > 200",
            "event_id = '1001'",
            "event_type = play",
            "event_type != \"pause\"",
            "deleted = false",
            "source.lane == LIVE",
            "anomalies = OVER_100_PERCENT",
        ] {
            assert!(holds(text), "{text}");
        }
        for text in [
            "engagement_percent > 50.5",
            "engagement_percent > abc",
            "event_type = Play",
            "deleted != false",
            "anomalies = OVER",
        ] {
            assert!(!holds(text), "{text}");
        }
    }

    #[test]
    fn integers_beyond_the_doubles_are_told_apart() {
        assert!(holds("source.offset = 9007199254740993"));
        assert!(!holds("source.offset = 9007199254740992"));
    }

    #[test]
    fn times_are_compared_as_times_whatever_their_zone() {
        assert!(holds("event_ts = 2026-01-08T15:21:52+01:00"));
        assert!(holds("event_ts < '2026-01-08 14:21:52.5'"));
        assert!(holds("event_ts >= 2026-01-08"));
    }

    #[test]
    fn contains_looks_into_texts_numbers_and_lists_without_regard_to_case() {
        for text in [
            "content_title ~ FÜR",
            "event_id ~ 00",
            "anomalies ~ over_100",
        ] {
            assert!(holds(text), "{text}");
        }
        assert!(!holds("content_title ~ python"));
    }

    #[test]
    fn a_field_without_a_value_satisfies_only_that_it_has_none() {
        assert!(holds("device = null") && holds("nothing.at.all = null"));
        for text in [
            "device != null",
            "device = phone",
            "device != phone",
            "device ~ ''",
            "device < 1",
        ] {
            assert!(!holds(text), "{text}");
        }
        assert!(holds("event_type != null"));
    }

    #[test]
    fn and_binds_closer_than_or_and_brackets_closer_than_both() {
        assert!(holds(
            "event_type = play or deleted = true and duration_ms = 0"
        ));
        assert!(!holds(
            "(event_type = play or deleted = true) and duration_ms = 0"
        ));
        assert!(holds(
            "not event_type = pause AND not (deleted = true OR device = tv)"
        ));
    }

    #[test]
    fn the_fields_are_known() {
        let parsed: Expression = "a.b = 1 or not (c ~ x and a.b < 3)".parse().unwrap();
        assert_eq!(parsed.fields(), ["a.b", "c", "a.b"]);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,80}") {
            let _ = text.parse::<Expression>();
        }

        #[test]
        fn no_combination_of_its_own_words_makes_the_parser_panic(
            words in proptest::collection::vec(
                proptest::sample::select(vec!["a", "and", "or", "not", "(", ")", "=", "<=", "~", "1", "'x'", "null", "-"]),
                0..40,
            )
        ) {
            if let Ok(parsed) = words.join(" ").parse::<Expression>() {
                let _ = parsed.holds(&json!({"a": 1}));
            }
        }

        #[test]
        fn an_integer_is_less_than_a_greater_one(a in any::<i64>(), b in any::<i64>()) {
            let parsed: Expression = format!("x < {b}").parse().unwrap();
            prop_assert_eq!(parsed.holds(&json!({"x": a})), a < b);
        }
    }
}
