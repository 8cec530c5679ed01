//! The statement that writes rows, and the names by which the server knows it.

use stream::checkpoint::Stored;

use super::{LANE, Table, listed, literal, time};
use crate::fence::Fence;
use crate::row::{COLUMNS, EventIdType};

/// By what right the rows of a partition are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// Partition of the enriched topic.
    pub partition: i32,
    /// Its fence, as taken.
    pub fence: Fence,
    /// A row that the table must hold.
    pub stored: Option<Stored>,
}

/// Sent before the columns of each row: by which claim it is written. It is stored nowhere.
const CLAIMED_BY: &str = "claimed_by";

impl Table {
    /// What the `query_id` of every insert into this table begins with: sink, table, lane.
    fn query_prefix(&self) -> String {
        format!("clickhouse-sink/{}.{}/{LANE}/", self.database, self.name)
    }

    /// The `query_id` of an insert into these partitions, which are named in it; `name` is used once.
    #[must_use]
    pub fn query_id(&self, partitions: impl Iterator<Item = i32>, name: &str) -> String {
        let partitions: String = partitions
            .map(|partition| format!("{partition}/"))
            .collect();
        format!("{}{partitions}{name}", self.query_prefix())
    }

    /// Whether a query is an insert into a partition of this table.
    #[must_use]
    pub fn is_of(&self, query_id: &str, partition: i32) -> bool {
        let Some(names) = query_id.strip_prefix(&self.query_prefix()) else {
            return false;
        };
        let partitions = names.rsplit('/').skip(1);
        partitions
            .filter_map(|name| name.parse::<i32>().ok())
            .any(|named| named == partition)
    }

    fn is_of_any(&self, partitions: &[i32]) -> String {
        let prefix = self.query_prefix();
        // counted from 1, so this is its last byte, the slash before the first partition
        let from = prefix.len();
        let one = |partition: &i32| format!("position(query_id, '/{partition}/', {from}) > 0");
        let any: Vec<String> = partitions.iter().map(one).collect();
        format!(
            "startsWith(query_id, {}) AND ({})",
            literal(&prefix),
            any.join(" OR ")
        )
    }

    /// Ends every insert into these partitions, and waits until it has ended.
    #[must_use]
    pub fn kill(&self, partitions: &[i32]) -> String {
        format!("KILL QUERY WHERE {} SYNC", self.is_of_any(partitions))
    }

    /// The ids of the inserts into these partitions that run.
    #[must_use]
    pub fn running(&self, partitions: &[i32]) -> String {
        format!(
            "SELECT query_id FROM system.processes WHERE {} FORMAT RowBinary",
            self.is_of_any(partitions)
        )
    }

    /// Writes those rows of the request's body whose claim holds when the insert begins: its fence is the highest one of its
    /// partition, and the table still has the row that it names.
    ///
    /// The subqueries are constants of the query, evaluated after the query was entered into `system.processes`: an insert
    /// that is not to be seen there once a higher fence was taken will write nothing of that partition.
    #[must_use]
    pub fn insert(&self, id_type: EventIdType, claims: &[Claim]) -> String {
        let names = COLUMNS.map(|(name, _)| name).join(", ");
        let structure = COLUMNS
            .map(|(name, sent_as)| format!("{name} {}", typed(sent_as, id_type)))
            .join(", ");
        format!(
            "INSERT INTO {} ({names}) SELECT {names} FROM input({}) WHERE has(({}), {CLAIMED_BY}){} FORMAT RowBinary",
            self.quoted(),
            literal(&format!("{CLAIMED_BY} Int32, {structure}")),
            self.held(claims),
            self.still(claims),
        )
    }

    /// The partitions whose fence is the one claimed.
    fn held(&self, claims: &[Claim]) -> String {
        let claim = |claim: &Claim| {
            let Fence { generation, owner } = claim.fence;
            format!("({}, {generation}, {owner})", claim.partition)
        };
        format!(
            "SELECT groupArray(partition) FROM (SELECT partition, max(holder) AS highest FROM {} \
             WHERE lane = {} AND partition IN ({}) GROUP BY partition) \
             WHERE (partition, highest.1, highest.2) IN ({})",
            self.fences(),
            literal(LANE),
            listed(claims.iter().map(|claim| claim.partition)),
            listed(claims.iter().map(claim)),
        )
    }

    /// That the table has the rows which are claimed to be there. A merge may have put another revision of an event there, from
    /// another position, so that is not asked for; `event_ts` is the beginning of the sort key, and the lookup is a short one.
    fn still(&self, claims: &[Claim]) -> String {
        let stored: Vec<Stored> = claims.iter().filter_map(|claim| claim.stored).collect();
        if stored.is_empty() {
            return String::new();
        }
        let there = format!(
            "has((SELECT groupUniqArray(src_partition) FROM {} WHERE {}), {CLAIMED_BY})",
            self.quoted(),
            at_any(&stored)
        );
        let without = claims.iter().filter(|claim| claim.stored.is_none());
        let without: Vec<i32> = without.map(|claim| claim.partition).collect();
        if without.is_empty() {
            return format!(" AND {there}");
        }
        format!(" AND ({CLAIMED_BY} IN ({}) OR {there})", listed(without))
    }

    /// In which places of witnesses there are rows: `event_ts`, `src_partition`.
    #[must_use]
    pub fn hold(&self, stored: &[Stored]) -> String {
        format!(
            "SELECT DISTINCT event_ts, src_partition FROM {} WHERE {} FORMAT RowBinary",
            self.quoted(),
            at_any(stored),
        )
    }
}

/// A condition: the row stands where one of these has stood.
fn at_any(stored: &[Stored]) -> String {
    let times = stored.iter().map(|stored| time(stored.event_ts));
    let place =
        |stored: &Stored| format!("({}, {})", time(stored.event_ts), stored.position.partition);
    format!(
        "event_ts IN ({}) AND (event_ts, src_partition) IN ({})",
        listed(times),
        listed(stored.iter().map(place)),
    )
}

/// Which of the settings of an insert this server knows.
#[must_use]
pub fn known_settings() -> String {
    let names = INSERT_SETTINGS.iter().map(|(name, _)| literal(name));
    format!(
        "SELECT name FROM system.settings WHERE name IN ({}) FORMAT RowBinary",
        listed(names)
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

#[cfg(test)]
mod tests {
    use engagement::event::Micros;

    use super::*;
    use crate::sql::tests::table;

    const FENCE: Fence = Fence {
        generation: 5,
        owner: 17,
    };

    fn claim(partition: i32, stored: Option<Stored>) -> Claim {
        Claim {
            partition,
            fence: FENCE,
            stored,
        }
    }

    fn stored() -> Option<Stored> {
        Some(Stored {
            position: "live/2/7/90".parse().unwrap(),
            event_ts: Micros(5),
        })
    }

    fn condition(claims: &[Claim]) -> String {
        let sql = table().insert(EventIdType::Uuid, claims);
        let (_, condition) = sql.split_once(") WHERE ").unwrap();
        condition.to_owned()
    }

    #[test]
    fn the_insert_selects_from_its_body_what_stands_under_the_highest_fences() {
        let claims = [claim(7, None), claim(8, None)];
        let sql = table().insert(EventIdType::Uuid, &claims);
        let begins = "INSERT INTO `engagement`.`events_enriched` (event_id, content_id, event_ts, ";
        assert!(sql.starts_with(begins), "{sql}");
        let body = "FROM input('claimed_by Int32, event_id UUID, content_id Nullable(String), event_ts DateTime64(6, \\'UTC\\'), ";
        assert!(sql.contains(body), "{sql}");
        assert_eq!(
            condition(&claims),
            "has((SELECT groupArray(partition) FROM (SELECT partition, max(holder) AS highest FROM `engagement`.`events_enriched_fences` \
             WHERE lane = 'live' AND partition IN (7, 8) GROUP BY partition) \
             WHERE (partition, highest.1, highest.2) IN ((7, 5, 17), (8, 5, 17))), claimed_by) FORMAT RowBinary"
        );
    }

    #[test]
    fn with_a_witness_rows_are_written_only_into_the_table_that_holds_it() {
        let there = "has((SELECT groupUniqArray(src_partition) FROM `engagement`.`events_enriched` \
                     WHERE event_ts IN (fromUnixTimestamp64Micro(toInt64(5), 'UTC')) \
                     AND (event_ts, src_partition) IN ((fromUnixTimestamp64Micro(toInt64(5), 'UTC'), 7))), claimed_by)";
        let one = condition(&[claim(7, stored())]);
        assert!(
            one.ends_with(&format!(", claimed_by) AND {there} FORMAT RowBinary")),
            "{one}"
        );
        let two = condition(&[claim(7, stored()), claim(8, None)]);
        let either = format!(" AND (claimed_by IN (8) OR {there}) FORMAT RowBinary");
        assert!(two.ends_with(&either), "{two}");
    }

    #[test]
    fn the_largest_statement_fits_the_address_that_proxies_take() {
        let claims: Vec<Claim> = (0..16)
            .map(|partition| Claim {
                partition: 1000 + partition,
                fence: Fence {
                    generation: 100_000,
                    owner: u64::MAX,
                },
                stored: Some(Stored {
                    position: "live/2/1000/9000000000".parse().unwrap(),
                    event_ts: Micros(1_790_000_000_000_000),
                }),
            })
            .collect();
        let sql = table().insert(EventIdType::String, &claims);
        let mut url = url::Url::parse("http://clickhouse.example.com:8123/").unwrap();
        url.query_pairs_mut()
            .append_pair("query", &sql)
            .extend_pairs(INSERT_SETTINGS);
        assert!(
            url.as_str().len() < 8 * 1024 - 512,
            "{}",
            url.as_str().len()
        );
    }

    #[test]
    fn only_inserts_of_this_sink_table_lane_and_partition_are_killed() {
        let begins = "startsWith(query_id, 'clickhouse-sink/engagement.events_enriched/live/')";
        assert_eq!(
            table().kill(&[1, 2]),
            format!(
                "KILL QUERY WHERE {begins} AND (position(query_id, '/1/', 48) > 0 OR position(query_id, '/2/', 48) > 0) SYNC"
            )
        );
        let running = table().running(&[1]);
        assert!(
            running.contains(&format!("FROM system.processes WHERE {begins} AND (")),
            "{running}"
        );
        let query_id = table().query_id([10, 2].into_iter(), "00ff-7");
        assert_eq!(
            query_id,
            "clickhouse-sink/engagement.events_enriched/live/10/2/00ff-7"
        );
        assert_eq!(&query_id[47..51], "/10/");
        for (partition, is_of) in [(10, true), (2, true), (1, false), (0, false), (7, false)] {
            assert_eq!(table().is_of(&query_id, partition), is_of, "{partition}");
        }
        let other = table().query_id([3].into_iter(), "5");
        assert!(!table().is_of(&other, 5), "a name is no partition");
        assert!(!table().is_of("clickhouse-sink/another.table/live/3/5", 3));
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
