//! Every statement this sink sends, as text.
//!
//! Invariant: no value of an event is ever pasted into SQL except its id, as a literal of the column's type.

use std::fmt::Write as _;

use engagement::event::{Lane, Micros};
use stream::checkpoint::Stored;

use crate::batch::Span;
use crate::fence::Fence;
use crate::row::{COLUMNS, EventIdType};

/// The table, and the names by which its inserts are known to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its database.
    pub database: String,
    /// Its name.
    pub name: String,
}

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

    /// What the `query_id` of every insert of one partition of Kafka begins with: sink, table, lane, partition.
    #[must_use]
    pub fn query_prefix(&self, partition: i32) -> String {
        format!(
            "clickhouse-sink/{}.{}/{LANE}/{partition}/",
            self.database, self.name
        )
    }

    /// The highest fences of partitions: `partition`, `generation`, `owner`; none of one that nobody has taken.
    #[must_use]
    pub fn highest_fences(&self, partitions: &[i32]) -> String {
        format!(
            "SELECT partition, max(holder) FROM {} WHERE lane = {} AND partition IN ({}) GROUP BY partition FORMAT RowBinary",
            self.fences(),
            literal(LANE),
            listed(partitions),
        )
    }

    /// Takes fences; they count, also over a crash of the server, once this is answered.
    #[must_use]
    pub fn take_fences(&self, fences: &[(i32, Fence)]) -> String {
        let lane = literal(LANE);
        let row = |(partition, fence): &(i32, Fence)| {
            format!(
                "({lane}, {partition}, ({}, {}))",
                fence.generation, fence.owner
            )
        };
        format!(
            "INSERT INTO {} (lane, partition, holder) SETTINGS async_insert = 0, wait_for_async_insert = 1, insert_deduplicate = 0 \
             VALUES {}",
            self.fences(),
            listed(fences.iter().map(row)),
        )
    }

    fn holder(&self, partition: i32, what: &str) -> String {
        format!(
            "{what} FROM {} WHERE lane = {} AND partition = {partition}",
            self.fences(),
            literal(LANE),
        )
    }

    /// Writes the rows of the request's body if the fence is the highest one of its partition when the insert begins, and the
    /// table still holds `stored`.
    ///
    /// The first subquery is a constant of the query, evaluated after the query was entered into `system.processes`: an insert
    /// that is not to be seen there once a higher fence was taken will never write.
    #[must_use]
    pub fn insert(
        &self,
        id_type: EventIdType,
        partition: i32,
        fence: Fence,
        stored: Option<&Stored>,
    ) -> String {
        let Fence { generation, owner } = fence;
        let names = COLUMNS.map(|(name, _)| name).join(", ");
        let structure = COLUMNS
            .map(|(name, sent_as)| format!("{name} {}", typed(sent_as, id_type)))
            .join(", ");
        let still = stored.map(|stored| format!(" AND (SELECT {}) > 0", self.like(stored)));
        format!(
            "INSERT INTO {} ({names}) SELECT {names} FROM input({}) \
             WHERE (SELECT {}) = ({generation}, {owner}){} FORMAT RowBinary",
            self.quoted(),
            literal(&structure),
            self.holder(partition, "max(holder)"),
            still.unwrap_or_default(),
        )
    }

    /// How many rows there are in a witness' place. A merge may have put another revision of the event there, from another
    /// position, so that is not asked for; `event_ts` is the beginning of the sort key, and the lookup is a short one.
    fn like(&self, stored: &Stored) -> String {
        format!(
            "count() FROM {} WHERE event_ts = {} AND src_partition = {}",
            self.quoted(),
            time(stored.event_ts),
            stored.position.partition,
        )
    }

    /// In which places of witnesses there are rows: `event_ts`, `src_partition`. See [`Self::like`].
    #[must_use]
    pub fn hold(&self, stored: &[Stored]) -> String {
        let times = stored.iter().map(|stored| time(stored.event_ts));
        let place =
            |stored: &Stored| format!("({}, {})", time(stored.event_ts), stored.position.partition);
        format!(
            "SELECT DISTINCT event_ts, src_partition FROM {} WHERE event_ts IN ({}) AND (event_ts, src_partition) IN ({}) \
             FORMAT RowBinary",
            self.quoted(),
            listed(times),
            listed(stored.iter().map(place)),
        )
    }

    /// How many rows there are, and the oldest month among them.
    #[must_use]
    pub fn oldest(&self) -> String {
        format!(
            "SELECT count(), toYYYYMM(min(event_ts)) FROM {} FORMAT RowBinary",
            self.quoted()
        )
    }

    /// The rows whose positions and times lie in a range: `src_offset`, `src_row`.
    #[must_use]
    pub fn read_back(&self, span: &Span) -> String {
        let Span {
            lane,
            epoch,
            partition,
            from,
            to,
            since,
            until,
        } = span;
        format!(
            "SELECT src_offset, src_row FROM {} WHERE src_partition = {partition} AND src_offset BETWEEN {from} AND {to} \
             AND event_ts BETWEEN {} AND {} AND src_lane = {} AND src_epoch = {epoch} FORMAT RowBinary",
            self.quoted(),
            time(*since),
            time(*until),
            literal(lane.name()),
        )
    }

    /// How far partitions were written by changes that were committed at or above an LSN each (0: by all): `src_partition`,
    /// `src_lane`, `src_epoch`, `max(src_offset)`, `max(src_commit_lsn)`. The index of commits leaves out all parts of the table that
    /// are older than every one of them.
    #[must_use]
    pub fn reached(&self, since: &[(i32, u64)]) -> String {
        let one = |(partition, lsn): &(i32, u64)| {
            format!("(src_partition = {partition} AND src_commit_lsn >= {lsn})")
        };
        let (oldest, each) = (
            since.iter().map(|(_, lsn)| *lsn).min().unwrap_or(0),
            since.iter().map(one).collect::<Vec<_>>(),
        );
        format!(
            "SELECT src_partition, CAST(src_lane, 'String'), src_epoch, max(src_offset), max(src_commit_lsn) FROM {} \
             WHERE src_commit_lsn >= {oldest} AND ({}) GROUP BY src_partition, src_lane, src_epoch FORMAT RowBinary",
            self.quoted(),
            each.join(" OR "),
        )
    }

    /// Per sort key of these events its row with the highest revision: `event_id`, `content_id`, `event_ts`, then
    /// `user_id`, `event_type`, `device`, `duration_ms`, then month, revision, `deleted` and whether its content was missing.
    #[must_use]
    pub fn events(&self, ids: &[String]) -> String {
        format!(
            "SELECT event_id, content_id, event_ts, user_id, CAST(event_type, 'String'), CAST(device, 'Nullable(String)'), duration_ms, \
             toYYYYMM(event_ts), revision, deleted, enrichment_status = 'MISSING' FROM {} WHERE event_id IN ({}) \
             ORDER BY revision DESC, deleted DESC LIMIT 1 BY event_id, content_id, event_ts FORMAT RowBinary",
            self.quoted(),
            ids.join(", "),
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

/// Ends every query of ours whose id begins with one of these, and waits until it has ended.
#[must_use]
pub fn kill(prefixes: &[String]) -> String {
    format!("KILL QUERY WHERE {} SYNC", begins_with(prefixes))
}

/// How many queries whose id begins with one of these are running.
#[must_use]
pub fn running(prefixes: &[String]) -> String {
    format!(
        "SELECT count() FROM system.processes WHERE {} FORMAT RowBinary",
        begins_with(prefixes)
    )
}

fn begins_with(prefixes: &[String]) -> String {
    let one = |prefix: &String| format!("startsWith(query_id, {})", literal(prefix));
    prefixes.iter().map(one).collect::<Vec<_>>().join(" OR ")
}

fn listed<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    items.join(", ")
}

/// Which of the settings of an insert this server knows.
#[must_use]
pub fn known_settings() -> String {
    let names: Vec<String> = INSERT_SETTINGS
        .iter()
        .map(|(name, _)| literal(name))
        .collect();
    format!(
        "SELECT name FROM system.settings WHERE name IN ({}) FORMAT RowBinary",
        names.join(", ")
    )
}

/// Rows and bytes above any batch, so that one insert is one block and one part.
const ONE_BLOCK: &str = "1000000000";

/// Settings of an insert. Those that a server does not know are left out: they came with later versions.
/// (`fsync_after_insert` and `fsync_part_directory` are settings of the table, not of a query.)
pub const INSERT_SETTINGS: [(&str, &str); 18] = [
    ("async_insert", "0"),
    ("wait_end_of_query", "1"),
    ("insert_deduplicate", "0"),
    ("deduplicate_insert", "disable"),
    ("deduplicate_insert_select", "disable"),
    ("max_insert_block_size", ONE_BLOCK),
    ("max_insert_block_size_bytes", "0"),
    ("min_insert_block_size_rows", ONE_BLOCK),
    ("min_insert_block_size_bytes", ONE_BLOCK),
    ("input_format_max_block_size_bytes", "0"),
    ("max_block_size", ONE_BLOCK),
    ("max_insert_threads", "1"),
    ("max_threads", "1"),
    ("input_format_parallel_parsing", "0"),
    ("optimize_on_insert", "0"),
    ("max_execution_time", "60"),
    ("timeout_overflow_mode", "throw"),
    ("use_query_cache", "0"),
];

fn typed(sent_as: &'static str, id_type: EventIdType) -> &'static str {
    if sent_as.is_empty() {
        id_type.name()
    } else {
        sent_as
    }
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

    fn table() -> Table {
        Table {
            database: "engagement".into(),
            name: "events_enriched".into(),
        }
    }

    fn span() -> Span {
        Span {
            lane: Lane::Live,
            epoch: 2,
            partition: 7,
            from: 10,
            to: 90,
            since: Micros(5),
            until: Micros(6),
        }
    }

    #[test]
    fn the_insert_selects_from_its_body_under_its_fence() {
        let fence = Fence {
            generation: 5,
            owner: 17,
        };
        let sql = table().insert(EventIdType::Uuid, 7, fence, None);
        assert!(
            sql.starts_with(
                "INSERT INTO `engagement`.`events_enriched` (event_id, content_id, event_ts, "
            ),
            "{sql}"
        );
        assert!(sql.contains("FROM input('event_id UUID, content_id Nullable(String), event_ts DateTime64(6, \\'UTC\\'), "), "{sql}");
        assert!(
            sql.ends_with(
                " WHERE (SELECT max(holder) FROM `engagement`.`events_enriched_fences` WHERE lane = 'live' AND partition = 7) \
                 = (5, 17) FORMAT RowBinary"
            ),
            "{sql}"
        );
        let fences = [(7, fence), (8, fence.next(1))];
        assert!(
            table()
                .take_fences(&fences)
                .ends_with(" VALUES ('live', 7, (5, 17)), ('live', 8, (6, 1))")
        );
        assert_eq!(
            table().highest_fences(&[7, 8]),
            "SELECT partition, max(holder) FROM `engagement`.`events_enriched_fences` \
             WHERE lane = 'live' AND partition IN (7, 8) GROUP BY partition FORMAT RowBinary"
        );
    }

    #[test]
    fn with_a_witness_the_insert_writes_only_into_the_table_that_holds_it() {
        let stored = Stored {
            position: "live/2/7/90".parse().unwrap(),
            event_ts: Micros(5),
        };
        let sql = table().insert(EventIdType::Uuid, 7, Fence::default(), Some(&stored));
        assert!(
            sql.ends_with(
                " = (0, 0) AND (SELECT count() FROM `engagement`.`events_enriched` \
                 WHERE event_ts = fromUnixTimestamp64Micro(toInt64(5), 'UTC') AND src_partition = 7) > 0 FORMAT RowBinary"
            ),
            "{sql}"
        );
        assert_eq!(
            has_expired("toDateTime(event_ts) + toIntervalDay(1)", Micros(-1)),
            "SELECT toUInt8((toDateTime(event_ts) + toIntervalDay(1)) <= now()) \
             FROM (SELECT fromUnixTimestamp64Micro(toInt64(-1), 'UTC') AS event_ts) FORMAT RowBinary"
        );
    }

    #[test]
    fn the_read_back_names_lane_epoch_partition_and_range() {
        assert_eq!(
            table().read_back(&span()),
            "SELECT src_offset, src_row FROM `engagement`.`events_enriched` WHERE src_partition = 7 AND src_offset BETWEEN 10 AND 90 \
             AND event_ts BETWEEN fromUnixTimestamp64Micro(toInt64(5), 'UTC') AND fromUnixTimestamp64Micro(toInt64(6), 'UTC') \
             AND src_lane = 'live' AND src_epoch = 2 FORMAT RowBinary"
        );
    }

    #[test]
    fn how_far_a_partition_was_written_is_asked_from_a_commit_on() {
        assert_eq!(
            table().reached(&[(7, 99), (8, 90)]),
            "SELECT src_partition, CAST(src_lane, 'String'), src_epoch, max(src_offset), max(src_commit_lsn) \
             FROM `engagement`.`events_enriched` WHERE src_commit_lsn >= 90 \
             AND ((src_partition = 7 AND src_commit_lsn >= 99) OR (src_partition = 8 AND src_commit_lsn >= 90)) \
             GROUP BY src_partition, src_lane, src_epoch FORMAT RowBinary"
        );
    }

    #[test]
    fn only_queries_of_this_sink_table_lane_and_partition_are_killed() {
        let prefixes = [1, 2].map(|partition| table().query_prefix(partition));
        assert_eq!(
            kill(&prefixes),
            "KILL QUERY WHERE startsWith(query_id, 'clickhouse-sink/engagement.events_enriched/live/1/') \
             OR startsWith(query_id, 'clickhouse-sink/engagement.events_enriched/live/2/') SYNC"
        );
        assert!(!table().query_prefix(10).starts_with(&prefixes[0]));
        assert!(running(&prefixes).contains("FROM system.processes WHERE startsWith(query_id, "));
    }

    #[test]
    fn events_are_asked_for_by_literals_of_their_type() {
        let sql = table().events(&["1".into(), "2".into()]);
        assert!(sql.contains("WHERE event_id IN (1, 2) ORDER BY revision DESC, deleted DESC LIMIT 1 BY event_id, content_id, event_ts"), "{sql}");
    }

    #[test]
    fn quotes_do_not_end_a_literal() {
        assert_eq!(literal(r"a'b\c"), r"'a\'b\\c'");
        assert_eq!(identifier("a`b"), r"`a\`b`");
    }

    #[test]
    fn an_insert_is_synchronous_one_block_and_not_deduplicated() {
        for expected in [
            ("async_insert", "0"),
            ("wait_end_of_query", "1"),
            ("insert_deduplicate", "0"),
            ("max_insert_threads", "1"),
        ] {
            assert!(INSERT_SETTINGS.contains(&expected), "{expected:?}");
        }
    }
}
