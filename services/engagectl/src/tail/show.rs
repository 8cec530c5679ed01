//! Records as lines. Pure.
//!
//! Invariant: one record is one line, and nothing that a record holds reaches the terminal as a control sequence.

use std::fmt::Write as _;

use serde_json::Value;

use super::args::Stream;
use super::fields::UNREADABLE;

/// A column: its heading, the field, and how wide it is.
type Column = (&'static str, &'static str, usize);

const ENRICHED: &[Column] = &[
    ("EVENT_TS", "event_ts", 27),
    ("EVENT", "event_id", 12),
    ("TYPE", "event_type", 8),
    ("CONTENT", "content_id", 36),
    ("SECONDS", "engagement_seconds", 9),
    ("PERCENT", "engagement_percent", 8),
    ("STATUS", "enrichment_status", 10),
    ("TITLE", "content_title", 0),
];
const CDC: &[Column] = &[
    ("COMMITTED", "committed_at", 27),
    ("OP", "op", 9),
    ("ID", "id", 12),
    ("TYPE", "event_type", 8),
    ("CONTENT", "content_id", 36),
    ("DURATION_MS", "duration_ms", 11),
    ("EVENT_TS", "event_ts", 0),
];
const DLQ: &[Column] = &[
    ("FAILED", "failed_at", 27),
    ("SERVICE", "service", 17),
    ("REASON", "reason", 16),
    ("STAGE", "stage", 8),
    ("TRIES", "attempts", 5),
    ("KEY", "key", 36),
    ("MESSAGE", "message", 0),
];
/// Longest text in a column without a width.
const LONGEST: usize = 120;

fn columns(stream: Stream) -> &'static [Column] {
    match stream {
        Stream::Enriched => ENRICHED,
        Stream::Cdc => CDC,
        Stream::Dlq => DLQ,
    }
}

/// The headings.
pub(super) fn heading(stream: Stream) -> String {
    let mut line = format!("{:<14}", "PLACE");
    for &(name, _, width) in columns(stream) {
        let _ = write!(line, "  {name:<width$}");
    }
    line.trim_end().to_owned() + "\n"
}

/// A record for a person.
pub(super) fn row(stream: Stream, fields: &Value) -> String {
    let record = &fields["record"];
    let place = format!("{}/{}", record["partition"], record["offset"]);
    let mut line = format!("{place:<14}");
    if let Some(why) = fields[UNREADABLE].as_str() {
        let _ = write!(line, "  cannot be read: {}", printable(why));
        return line + "\n";
    }
    for &(_, field, width) in columns(stream) {
        let text = text(value(fields, field));
        let _ = write!(line, "  {text:<width$}");
    }
    line.trim_end().to_owned() + "\n"
}

/// A record for a program.
pub(super) fn json(fields: &Value) -> String {
    format!("{fields}\n")
}

/// The second schema calls the key of an event `event_id`.
fn value<'a>(fields: &'a Value, field: &str) -> &'a Value {
    match (field, &fields[field]) {
        ("id", Value::Null) => &fields["event_id"],
        (_, found) => found,
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => printable(text),
        other => printable(&other.to_string()),
    }
}

/// Without control characters, and not endless.
fn printable(text: &str) -> String {
    let shown = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut line: String = text.chars().take(LONGEST).map(shown).collect();
    if text.chars().nth(LONGEST).is_some() {
        line += "..";
    }
    line
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_stands_below_its_heading() {
        let fields = json!({"record": {"partition": 3, "offset": 42}, "event_ts": "2026-01-08T14:21:52Z", "event_id": "1001",
            "event_type": "play", "engagement_percent": 2.33, "content_title": "Rust"});
        let (heading, row) = (heading(Stream::Enriched), row(Stream::Enriched, &fields));
        for (name, text) in [
            ("PLACE", "3/42"),
            ("EVENT ", "1001"),
            ("PERCENT", "2.33"),
            ("TITLE", "Rust"),
            ("SECONDS", "-"),
        ] {
            let at = heading.find(name).unwrap();
            assert!(row[at..].starts_with(text), "{name}\n{heading}{row}");
        }
    }

    #[test]
    fn what_a_record_holds_cannot_move_the_cursor() {
        let fields = json!({"record": {"partition": 0, "offset": 1}, "message": "a\u{1b}[2J\nb", "key": "\u{9b}1m"});
        let row = row(Stream::Dlq, &fields);
        assert_eq!(row.lines().count(), 1);
        assert!(!row.trim_end().chars().any(char::is_control), "{row:?}");
    }

    #[test]
    fn a_long_text_is_cut() {
        assert_eq!(printable(&"x".repeat(500)).len(), LONGEST + 2);
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let fields = json!({"record": {"partition": 0, "offset": 1}, "unreadable": "no JSON"});
        assert_eq!(
            row(Stream::Cdc, &fields),
            "0/1             cannot be read: no JSON\n"
        );
    }

    #[test]
    fn a_json_record_is_one_line() {
        assert_eq!(json(&json!({"a": "x\ny"})), "{\"a\":\"x\\ny\"}\n");
    }

    #[test]
    fn an_event_of_the_second_schema_has_its_key_too() {
        let fields =
            json!({"record": {"partition": 0, "offset": 1}, "event_id": 77, "op": "create"});
        assert!(row(Stream::Cdc, &fields).contains(" 77 "));
    }
}
