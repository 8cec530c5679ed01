//! Which partitions are to be made, by what Redis holds of each, and to which partition a content belongs. Pure.
//!
//! Invariant: a state that a lane has made is dropped only where that was asked for.

use std::collections::HashMap;

use redis_aggregator::rebuild::{Place, Standing};
use service::Failure;

use super::sums::Row;

/// What Redis holds.
#[derive(Debug)]
pub(super) struct Places {
    /// By partition.
    pub(super) all: Vec<Place>,
    /// The server, without credentials.
    pub(super) address: String,
}

impl Places {
    /// The partitions that are to be made.
    ///
    /// # Errors
    /// Redis holds a state, and it was not said that it may go (78).
    pub(super) fn to_make(&self, replace: bool) -> Result<Vec<usize>, Failure> {
        let of = |wanted: fn(&Standing) -> bool| -> Vec<usize> {
            let standings = self.all.iter().map(Place::standing).enumerate();
            let wanted = standings.filter(|(_, standing)| wanted(standing));
            wanted.map(|(partition, _)| partition).collect()
        };
        if replace {
            return Ok((0..self.all.len()).collect());
        }
        let counted = of(|standing| matches!(standing, Standing::Counted(_)));
        let damaged = of(|standing| *standing == Standing::Damaged);
        if !counted.is_empty() {
            return Err(self.holds(&counted, "the state that redis-aggregator has made"));
        }
        if !damaged.is_empty() {
            return Err(self.holds(&damaged, "something that is no state of ours"));
        }
        Ok(of(|standing| {
            matches!(standing, Standing::Empty | Standing::Begun)
        }))
    }

    fn holds(&self, partitions: &[usize], what: &str) -> Failure {
        let named: Vec<String> = partitions.iter().map(ToString::to_string).collect();
        Failure::repair(format!(
            "redis at {} holds {what}, of partitions {} of {}",
            self.address,
            named.join(", "),
            self.all.len()
        ))
        .remedy("nothing is lost there; to drop it and make everything anew from ClickHouse, add --replace")
        .next("engagectl rebuild redis --replace")
    }
}

/// What a partition holds, in a word.
pub(super) fn word(standing: &Standing) -> &'static str {
    match standing {
        Standing::Empty => "empty",
        Standing::Begun => "half made",
        Standing::Rebuilt(_) => "made",
        Standing::Counted(_) => "in use",
        Standing::Damaged => "damaged",
    }
}

/// The rows of each partition.
///
/// # Errors
/// A content stands in two partitions, or in one that the topic does not have (78).
pub(super) fn by_partition(rows: Vec<Row>, partitions: usize) -> Result<Vec<Vec<Row>>, Failure> {
    let mut known: HashMap<String, i32> = HashMap::new();
    for row in rows.iter().filter(|row| row.is_alive) {
        let before = known.insert(row.content.clone(), row.partition);
        if before.is_some_and(|before| before != row.partition) {
            let both = format!("{} and {}", before.unwrap_or_default(), row.partition);
            return Err(repartitioned(&row.content, &both, partitions));
        }
    }
    let mut all: Vec<Vec<Row>> = Vec::new();
    all.resize_with(partitions, Vec::new);
    for row in rows {
        let partition = known.get(&row.content).copied().unwrap_or(row.partition);
        let place = usize::try_from(partition).ok();
        match place.and_then(|place| all.get_mut(place)) {
            Some(rows) => rows.push(row),
            None => {
                return Err(repartitioned(
                    &row.content,
                    &partition.to_string(),
                    partitions,
                ));
            }
        }
    }
    Ok(all)
}

fn repartitioned(content: &str, found: &str, partitions: usize) -> Failure {
    Failure::repair(format!(
        "ClickHouse holds rows of content {content} of partition {found}, and the enriched topic has {partitions} partitions: \
         their number was changed"
    ))
    .remedy("sums are kept by partition: make the table anew from a topic with the present number of partitions first")
    .next("engagectl rebuild clickhouse")
}

#[cfg(test)]
mod tests {
    use redis_aggregator::sums::Sums;

    use super::super::sums::Kind;
    use super::*;

    fn places(all: &[(&str, bool)]) -> Places {
        Places {
            all: all
                .iter()
                .map(|(at, rebuilt)| Place::new(at, *rebuilt))
                .collect(),
            address: "r:6379".into(),
        }
    }

    #[test]
    fn an_empty_redis_and_one_that_is_half_made_are_made_and_what_is_made_stays() {
        let empty = places(&[("", false), ("", false)]);
        assert_eq!(empty.to_make(false).unwrap(), [0, 1]);
        let half = places(&[
            ("live/0/0/4@5", true),
            ("rebuilding:7:3", true),
            ("", false),
        ]);
        assert_eq!(half.to_make(false).unwrap(), [1, 2]);
        assert_eq!(half.to_make(true).unwrap(), [0, 1, 2]);
        let made = places(&[("live/0/0/4@5", true)]);
        assert!(made.to_make(false).unwrap().is_empty());
    }

    #[test]
    fn a_state_that_a_lane_has_made_and_a_damaged_one_are_dropped_only_when_asked_for() {
        for held in [("live/0/1/4@5", false), ("*", false)] {
            let places = places(&[("", false), held]);
            let refused = places.to_make(false).unwrap_err();
            assert_eq!(refused.exit().code(), 78);
            assert!(refused.what().contains("partitions 1 of 2"));
            assert_eq!(
                refused.next_command(),
                Some("engagectl rebuild redis --replace")
            );
            assert_eq!(places.to_make(true).unwrap(), [0, 1]);
        }
    }

    fn row(content: &str, partition: i32, is_alive: bool) -> Row {
        Row {
            partition,
            is_alive,
            content: content.into(),
            bucket: None,
            kind: Kind::Stream,
            sums: Sums::default(),
            info: None,
            touched: Vec::new(),
        }
    }

    #[test]
    fn a_deletion_of_another_partition_follows_its_content() {
        let rows = vec![row("a", 1, true), row("a", 0, false), row("b", 0, false)];
        let all = by_partition(rows, 2).unwrap();
        assert_eq!((all[0].len(), all[1].len()), (1, 2));
    }

    #[test]
    fn a_content_of_two_partitions_and_a_partition_that_is_not_there_are_refused() {
        for rows in [
            vec![row("a", 0, true), row("a", 1, true)],
            vec![row("a", 4, true)],
        ] {
            let refused = by_partition(rows, 2).unwrap_err();
            assert!(refused.what().contains("their number was changed"));
        }
    }
}
