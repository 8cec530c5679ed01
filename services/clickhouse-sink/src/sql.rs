//! Every statement this sink sends, as text: of the table here, of writing in [`insert`], of a lane in doubt in [`doubt`].
//!
//! Invariant: no value of an event is ever pasted into SQL except its id, as a literal of the column's type.

mod doubt;
mod insert;

use std::fmt::Write as _;

use engagement::event::{Lane, Micros};

use crate::row::EventIdType;

pub use insert::{Claim, INSERT_SETTINGS, known_settings};

/// The table, and the names by which its inserts are known to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its database.
    pub database: String,
    /// Its name.
    pub name: String,
}

/// Bytes of the largest statement, which is sent as `max_query_size`.
pub const LARGEST: usize = 4 * 1024 * 1024;

/// The lane of Kafka whose partitions are fenced; the other lanes travel in the same topic, in the same partitions.
const LANE: &str = Lane::Live.name();

impl Table {
    fn quoted(&self) -> String {
        format!("{}.{}", identifier(&self.database), identifier(&self.name))
    }

    /// The table of fences beside it.
    fn fences(&self) -> String {
        let name = format!("{}_fences", self.name);
        format!("{}.{}", identifier(&self.database), identifier(&name))
    }

    /// How many rows there are, and the oldest month among them.
    #[must_use]
    pub fn oldest(&self) -> String {
        format!(
            "SELECT count(), toYYYYMM(min(event_ts)) FROM {} FORMAT RowBinary",
            self.quoted()
        )
    }

    /// Per sort key of these events its row with the highest revision: `event_id`, `content_id`, `event_ts`, then
    /// `user_id`, `event_type`, `device`, `duration_ms`, then month, revision, `deleted` and whether its content was missing.
    /// The ids are one literal that the server turns into an array: thousands of literals cost it three times as much.
    #[must_use]
    pub fn events(&self, ids: &[String], id_type: EventIdType) -> String {
        format!(
            "SELECT event_id, content_id, event_ts, user_id, CAST(event_type, 'String'), CAST(device, 'Nullable(String)'), duration_ms, \
             toYYYYMM(event_ts), revision, deleted, enrichment_status = 'MISSING' FROM {} WHERE event_id IN CAST({}, 'Array({})') \
             ORDER BY revision DESC, deleted DESC LIMIT 1 BY event_id, content_id, event_ts FORMAT RowBinary",
            self.quoted(),
            literal(&format!("[{}]", ids.join(","))),
            id_type.name(),
        )
    }

    /// Name, type and kind of default of each column.
    #[must_use]
    pub fn columns(&self) -> String {
        format!(
            "SELECT name, type, default_kind FROM system.columns WHERE database = {} AND table = {} FORMAT RowBinary",
            literal(&self.database),
            literal(&self.name),
        )
    }

    /// The engine with its settings.
    #[must_use]
    pub fn engine(&self) -> String {
        format!(
            "SELECT engine_full FROM system.tables WHERE database = {} AND name = {} FORMAT RowBinary",
            literal(&self.database),
            literal(&self.name),
        )
    }
}

/// Whether a row of this time is one that a rule of a table's TTL deletes now.
#[must_use]
pub fn has_expired(ttl: &str, event_ts: Micros) -> String {
    format!(
        "SELECT toUInt8(({ttl}) <= now()) FROM (SELECT {} AS event_ts) FORMAT RowBinary",
        time(event_ts)
    )
}

fn time(at: Micros) -> String {
    format!("fromUnixTimestamp64Micro(toInt64({}), 'UTC')", at.0)
}

fn listed<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    items.join(", ")
}

/// A string literal.
#[must_use]
pub fn literal(text: &str) -> String {
    quoted(text, '\'')
}

fn identifier(text: &str) -> String {
    quoted(text, '`')
}

fn quoted(text: &str, quote: char) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            c if c == quote => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\{c}");
            }
            '\0' => out.push_str("\\0"),
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn table() -> Table {
        Table {
            database: "engagement".into(),
            name: "events_enriched".into(),
        }
    }

    #[test]
    fn events_are_asked_for_by_an_array_of_their_type() {
        let sql = table().events(&["1".into(), "2".into()], EventIdType::Int64);
        assert!(sql.contains("WHERE event_id IN CAST('[1,2]', 'Array(Int64)') ORDER BY revision DESC, deleted DESC LIMIT 1 BY event_id, content_id, event_ts"), "{sql}");
    }

    #[test]
    fn an_id_in_the_array_is_quoted_as_in_a_statement_and_then_as_a_part_of_the_literal() {
        let sql = table().events(&[literal("it's")], EventIdType::String);
        let array = r"IN CAST('[\'it\\\'s\']', 'Array(String)')";
        assert!(sql.contains(array), "{sql}");
    }

    #[test]
    fn quotes_do_not_end_a_literal() {
        assert_eq!(literal(r"a'b\c"), r"'a\'b\\c'");
        assert_eq!(identifier("a`b"), r"`a\`b`");
    }
}
