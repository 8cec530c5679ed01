//! Rows of Postgres: the statements that read them, and what becomes of a row. Pure.
//!
//! Invariant: every value in a statement is a literal made here; a row becomes the event that the enricher would make of it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use engagement::catalog::ContentRef;
use engagement::enrich::{Place, enrich};
use engagement::envelope::{EventChange, EventRow, Meta, Op};
use engagement::event::{EnrichedEvent, Micros};
use platform::Schema;

use super::copy::{Broken, Tuple, not_null};
use super::ledger::Cursor;
use super::range::Range;

/// Asks for the columns of a table: name, type.
pub(super) const COLUMNS: &str = "SELECT attname::text, format_type(atttypid, NULL) FROM pg_attribute \
     WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped";
/// The tables.
pub(super) const EVENTS: &str = "public.engagement_events";
pub(super) const CONTENT: &str = "public.content";

/// Names and types of a table's columns.
pub(super) type Columns = BTreeMap<String, String>;

/// The two tables as they are.
#[derive(Clone, Debug)]
pub(super) struct Tables {
    pub(super) schema: Schema,
    pub(super) events: Columns,
    pub(super) content: Columns,
}

/// Which rows.
#[derive(Clone, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) range: Range,
    pub(super) content_id: Option<&'a str>,
    pub(super) after: Option<&'a Cursor>,
}

impl Tables {
    /// What is missing of what a backfill needs, in words.
    pub(super) fn problem(&self) -> Option<String> {
        let needed = [
            (EVENTS, &self.events, self.schema.event_key()),
            (EVENTS, &self.events, "event_ts"),
            (EVENTS, &self.events, "content_id"),
            (CONTENT, &self.content, self.schema.content_key()),
        ];
        needed
            .into_iter()
            .find(|(_, columns, name)| !columns.contains_key(*name))
            .map(|(table, _, name)| {
                format!("table {table} has no column {name}, or is not visible to this role")
            })
    }

    /// Copies the rows with their contents out, in the order of (`event_ts`, key): the columns of [`Row::of`].
    pub(super) fn copy(&self, wanted: &Wanted<'_>) -> String {
        format!("COPY ({}) TO STDOUT (FORMAT binary)", self.select(wanted))
    }

    fn select(&self, wanted: &Wanted<'_>) -> String {
        let key = self.schema.event_key();
        let content_key = self.schema.content_key();
        let of = |columns: &Columns, table: &str, name: &str, cast: &str| match columns.get(name) {
            Some(_) => format!("{table}.{name}::{cast}"),
            None => format!("NULL::{cast}"),
        };
        let event = |name, cast| of(&self.events, "e", name, cast);
        let content = |name, cast| of(&self.content, "c", name, cast);
        format!(
            "SELECT e.{key}::text, e.content_id::text, {}, {}, {}, {}, {}, {}, c.{content_key} IS NOT NULL, {}, {}, {}, {}, {} \
             FROM {EVENTS} e LEFT JOIN {CONTENT} c ON c.{content_key} = e.content_id WHERE {} ORDER BY e.event_ts, e.{key}",
            event("user_id", "text"),
            event("event_type", "text"),
            micros("e.event_ts"),
            event("duration_ms", "bigint"),
            event("device", "text"),
            event("raw_payload", "text"),
            content("content_type", "text"),
            content("length_seconds", "bigint"),
            content("title", "text"),
            content("slug", "text"),
            match self.content.get("publish_ts") {
                Some(_) => micros("c.publish_ts"),
                None => "NULL::bigint".into(),
            },
            self.condition(wanted),
        )
    }

    /// How many rows, exactly.
    pub(super) fn count(&self, wanted: &Wanted<'_>) -> String {
        format!(
            "SELECT count(*) FROM {EVENTS} e WHERE {}",
            self.condition(wanted)
        )
    }

    /// The time of the first and of the last event, in microseconds.
    pub(super) fn extent(&self) -> String {
        format!(
            "SELECT {}, {} FROM {EVENTS} e",
            micros("min(e.event_ts)"),
            micros("max(e.event_ts)")
        )
    }

    /// How many rows and how wide, by Postgres' own estimate.
    pub(super) fn estimate(&self, wanted: &Wanted<'_>) -> String {
        format!(
            "EXPLAIN (FORMAT JSON) SELECT * FROM {EVENTS} e WHERE {}",
            self.condition(wanted)
        )
    }

    fn condition(&self, wanted: &Wanted<'_>) -> String {
        let Range { start, end } = wanted.range;
        let mut text = format!(
            "e.event_ts >= {} AND e.event_ts < {}",
            self.time(start),
            self.time(end)
        );
        if let Some(id) = wanted.content_id {
            text += &format!(
                " AND e.content_id = {}",
                typed(id, self.events.get("content_id"))
            );
        }
        if let Some(Cursor { at, id }) = wanted.after {
            let key = self.schema.event_key();
            text += &format!(
                " AND e.event_ts >= {0} AND (e.event_ts, e.{key}) > ({0}, {1})",
                self.time(*at),
                typed(id, self.events.get(key))
            );
        }
        text
    }

    /// A time of the type of `event_ts`, so that an index on it is used; a naive one counts as UTC.
    fn time(&self, at: Micros) -> String {
        let text = literal(&at.to_string());
        let kind = self.events.get("event_ts").map_or("", String::as_str);
        if kind.starts_with("timestamp without") {
            format!("({text}::timestamptz AT TIME ZONE 'UTC')")
        } else {
            format!("{text}::timestamptz")
        }
    }
}

/// Whole microseconds since 1970 of a column; the session's zone is UTC, so that a naive time counts as such.
fn micros(column: &str) -> String {
    format!("(extract(epoch FROM {column}::timestamptz) * 1000000)::bigint")
}

fn typed(text: &str, kind: Option<&String>) -> String {
    format!("{}::{}", literal(text), kind.map_or("text", String::as_str))
}

/// A string literal.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A row as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) event_id: String,
    pub(super) content_id: Option<String>,
    user_id: Option<String>,
    event_type: Option<String>,
    pub(super) event_ts: Micros,
    duration_ms: Option<i64>,
    device: Option<String>,
    raw_payload: Option<String>,
    content: Option<Content>,
}

/// What is known of its content now.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Content {
    content_type: Option<String>,
    length_seconds: Option<i64>,
    title: Option<String>,
    slug: Option<String>,
    publish_ts: Option<Micros>,
}

impl Row {
    /// The columns of [`Tables::copy`].
    pub(super) fn of(mut row: Tuple<'_>) -> Result<Self, Broken> {
        let event = Self {
            event_id: not_null(row.text()?)?,
            content_id: row.text()?,
            user_id: row.text()?,
            event_type: row.text()?,
            event_ts: not_null(row.micros()?)?,
            duration_ms: row.bigint()?,
            device: row.text()?,
            raw_payload: row.text()?,
            content: None,
        };
        let is_known = row.bool()?;
        let content = Content {
            content_type: row.text()?,
            length_seconds: row.bigint()?,
            title: row.text()?,
            slug: row.text()?,
            publish_ts: row.micros()?,
        };
        Ok(Self {
            content: is_known.then_some(content),
            ..event
        })
    }

    /// Where a range goes on after it.
    pub(super) fn cursor(&self) -> Cursor {
        Cursor {
            at: self.event_ts,
            id: self.event_id.clone(),
        }
    }

    /// Bytes it occupies, about.
    pub(super) fn weight(&self) -> usize {
        let texts = [
            &self.content_id,
            &self.user_id,
            &self.event_type,
            &self.device,
            &self.raw_payload,
        ];
        let texts: usize = texts.into_iter().flatten().map(String::len).sum();
        size_of::<Self>() + self.event_id.len() + texts
    }

    /// The event that the enricher would make of it. `lsn` becomes its revision; `now` stands for its commit time, which
    /// Postgres does not know any more.
    pub(super) fn enrich(self, place: Place, lsn: u64, now: Micros) -> EnrichedEvent {
        let content = self.content.as_ref().map(|content| ContentRef {
            content_type: content.content_type.as_deref(),
            length_seconds: content.length_seconds,
            title: content.title.as_deref(),
            slug: content.slug.as_deref(),
            publish_ts: content.publish_ts,
        });
        let text = |text: Option<String>| text.map(Cow::Owned);
        let row: EventRow<'_> = EventRow {
            event_id: Cow::Owned(self.event_id),
            content_id: text(self.content_id),
            user_id: text(self.user_id),
            event_type: text(self.event_type),
            event_ts: self.event_ts,
            duration_ms: self.duration_ms,
            device: text(self.device),
            raw_payload: text(self.raw_payload),
        };
        let meta = Meta {
            op: Op::Read,
            lsn,
            commit_lsn: None,
            has_sequence: false,
            tx_id: None,
            committed_at: None,
        };
        let change = EventChange {
            meta,
            row,
            before: None,
            moved: false,
        };
        enrich(change, content, place, now)
    }
}

#[cfg(test)]
mod tests {
    use engagement::enrich::revision;
    use engagement::event::{EnrichmentStatus, Lane, Origin, Position};

    use super::*;

    fn columns(list: &[(&str, &str)]) -> Columns {
        let owned = |(name, kind): &(&str, &str)| ((*name).to_owned(), (*kind).to_owned());
        list.iter().map(owned).collect()
    }

    fn tables(event_ts: &str) -> Tables {
        Tables {
            schema: Schema::Uuid,
            events: columns(&[
                ("id", "bigint"),
                ("content_id", "uuid"),
                ("event_ts", event_ts),
                ("event_type", "text"),
                ("duration_ms", "integer"),
            ]),
            content: columns(&[("id", "uuid"), ("title", "text")]),
        }
    }

    fn range() -> Range {
        Range {
            start: Micros(0),
            end: Micros(1_500_000),
        }
    }

    #[test]
    fn a_page_goes_on_behind_the_last_row_by_its_own_types() {
        let cursor = Cursor {
            at: Micros(1),
            id: "7".into(),
        };
        let wanted = Wanted {
            range: range(),
            content_id: Some("it's"),
            after: Some(&cursor),
        };
        let sql = tables("timestamp with time zone").select(&wanted);
        assert!(
            sql.ends_with(
                "WHERE e.event_ts >= '1970-01-01T00:00:00Z'::timestamptz AND e.event_ts < '1970-01-01T00:00:01.500Z'::timestamptz \
                 AND e.content_id = 'it''s'::uuid AND e.event_ts >= '1970-01-01T00:00:00.000001Z'::timestamptz \
                 AND (e.event_ts, e.id) > ('1970-01-01T00:00:00.000001Z'::timestamptz, '7'::bigint) ORDER BY e.event_ts, e.id"
            ),
            "{sql}"
        );
        assert!(
            sql.contains("NULL::text, e.event_type::text"),
            "the table has no user_id: {sql}"
        );
        assert!(
            sql.contains("LEFT JOIN public.content c ON c.id = e.content_id"),
            "{sql}"
        );
    }

    #[test]
    fn a_naive_time_is_compared_as_utc_in_its_own_type() {
        let wanted = Wanted {
            range: range(),
            content_id: None,
            after: None,
        };
        let sql = tables("timestamp without time zone").count(&wanted);
        assert!(
            sql.contains("e.event_ts >= ('1970-01-01T00:00:00Z'::timestamptz AT TIME ZONE 'UTC')"),
            "{sql}"
        );
    }

    #[test]
    fn a_table_without_its_key_is_named() {
        let mut tables = tables("timestamp with time zone");
        assert_eq!(tables.problem(), None);
        tables.events.remove("id");
        let problem = tables.problem().unwrap();
        assert!(
            problem.contains("public.engagement_events has no column id"),
            "{problem}"
        );
    }

    #[test]
    fn a_row_becomes_the_event_that_the_enricher_would_make_of_it() {
        let row = Row {
            event_id: "1".into(),
            content_id: Some("c".into()),
            user_id: None,
            event_type: Some("play".into()),
            event_ts: Micros(5),
            duration_ms: Some(7000),
            device: None,
            raw_payload: None,
            content: Some(Content {
                content_type: Some("podcast".into()),
                length_seconds: Some(300),
                title: Some("Title".into()),
                slug: None,
                publish_ts: None,
            }),
        };
        let position = Position {
            lane: Lane::Backfill,
            epoch: 1,
            partition: 3,
            offset: 42,
        };
        let place = Place {
            position,
            prev: 41,
            commit_lsn: 900,
            lsn: 100,
        };
        let event = row.clone().enrich(place, 100, Micros(77));
        assert_eq!(event.origin, Origin::Backfill);
        assert_eq!(event.source.position(), position);
        assert_eq!(event.revision, revision(1, 100));
        assert_eq!(
            (event.ratio_e4(), event.processed_at),
            (Some(233), Micros(77))
        );
        let unknown = Row {
            content: None,
            ..row
        };
        let event = unknown.enrich(place, 100, Micros(77));
        assert_eq!(event.enrichment_status, EnrichmentStatus::Missing);
    }
}
