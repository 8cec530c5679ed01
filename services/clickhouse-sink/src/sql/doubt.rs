//! What a lane in doubt asks and takes, each for several partitions at once.

use super::{LANE, Table, listed, literal, time};
use crate::batch::Span;
use crate::fence::Fence;

impl Table {
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

    /// The rows whose positions and times lie in one of these ranges: the number of the range, `src_offset`, `src_row`. Each range is
    /// a query of its own, which leaves out what is not of its times.
    #[must_use]
    pub fn read_back(&self, spans: &[Span]) -> String {
        let spans = spans.iter().enumerate();
        let each: Vec<String> = spans.map(|(at, span)| self.rows_of(at, span)).collect();
        format!("{} FORMAT RowBinary", each.join(" UNION ALL "))
    }

    fn rows_of(&self, at: usize, span: &Span) -> String {
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
            "SELECT toUInt64({at}), src_offset, src_row FROM {} WHERE src_partition = {partition} AND src_offset BETWEEN {from} AND {to} \
             AND event_ts BETWEEN {} AND {} AND src_lane = {} AND src_epoch = {epoch}",
            self.quoted(),
            time(*since),
            time(*until),
            literal(lane.name()),
        )
    }

    /// How far partitions were written by changes that were committed at or above an LSN each (0: by all): `src_partition`,
    /// `src_lane`, `src_epoch`, `max(src_offset)`, `max(src_commit_lsn)`. Each partition is a query of its own: the index of commits
    /// leaves out all parts of the table that are older than what it asks for.
    #[must_use]
    pub fn reached(&self, since: &[(i32, u64)]) -> String {
        let one = |(partition, lsn): &(i32, u64)| {
            format!(
                "SELECT src_partition, CAST(src_lane, 'String'), src_epoch, max(src_offset), max(src_commit_lsn) FROM {} \
                 WHERE src_commit_lsn >= {lsn} AND src_partition = {partition} GROUP BY src_partition, src_lane, src_epoch",
                self.quoted(),
            )
        };
        let each: Vec<String> = since.iter().map(one).collect();
        format!("{} FORMAT RowBinary", each.join(" UNION ALL "))
    }
}

#[cfg(test)]
mod tests {
    use engagement::event::{Lane, Micros};

    use super::*;
    use crate::sql::tests::table;

    fn span(partition: i32) -> Span {
        Span {
            lane: Lane::Live,
            epoch: 2,
            partition,
            from: 10,
            to: 90,
            since: Micros(5),
            until: Micros(6),
        }
    }

    #[test]
    fn fences_of_several_partitions_are_asked_for_and_taken_at_once() {
        let fence = Fence {
            generation: 5,
            owner: 17,
        };
        let fences = [(7, fence), (8, fence.next(1))];
        let taken = table().take_fences(&fences);
        assert!(
            taken.ends_with(" VALUES ('live', 7, (5, 17)), ('live', 8, (6, 1))"),
            "{taken}"
        );
        assert_eq!(
            table().highest_fences(&[7, 8]),
            "SELECT partition, max(holder) FROM `engagement`.`events_enriched_fences` \
             WHERE lane = 'live' AND partition IN (7, 8) GROUP BY partition FORMAT RowBinary"
        );
    }

    #[test]
    fn the_read_back_names_lane_epoch_partition_and_range_of_each() {
        let one = |at: usize, partition: i32| {
            format!(
                "SELECT toUInt64({at}), src_offset, src_row FROM `engagement`.`events_enriched` \
                 WHERE src_partition = {partition} AND src_offset BETWEEN 10 AND 90 \
                 AND event_ts BETWEEN fromUnixTimestamp64Micro(toInt64(5), 'UTC') AND fromUnixTimestamp64Micro(toInt64(6), 'UTC') \
                 AND src_lane = 'live' AND src_epoch = 2"
            )
        };
        assert_eq!(
            table().read_back(&[span(7), span(8)]),
            format!("{} UNION ALL {} FORMAT RowBinary", one(0, 7), one(1, 8))
        );
    }

    #[test]
    fn how_far_a_partition_was_written_is_asked_from_its_own_commit_on() {
        let one = |partition: i32, lsn: u64| {
            format!(
                "SELECT src_partition, CAST(src_lane, 'String'), src_epoch, max(src_offset), max(src_commit_lsn) \
                 FROM `engagement`.`events_enriched` WHERE src_commit_lsn >= {lsn} AND src_partition = {partition} \
                 GROUP BY src_partition, src_lane, src_epoch"
            )
        };
        assert_eq!(
            table().reached(&[(7, 99), (8, 0)]),
            format!("{} UNION ALL {} FORMAT RowBinary", one(7, 99), one(8, 0))
        );
    }
}
