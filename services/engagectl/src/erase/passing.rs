//! Whether the services have passed what was changed in Postgres. Pure.
//!
//! Invariant: a group that has neither members nor commits is not there, and nobody waits for it.

use std::collections::BTreeMap;

use crate::groups::Group;

/// Where a topic ended, by partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) topic: String,
    pub(super) below: BTreeMap<i32, i64>,
}

/// The groups of that topic, by these names, that have not come so far, each with the records that it lacks.
pub(super) fn behind(groups: &[Group], names: &[&str], ends: &Ends) -> Vec<(String, i64)> {
    let of_topic = |group: &&Group| group.topic == ends.topic && names.contains(&&*group.name);
    let lacking = groups.iter().filter(of_topic).filter_map(|group| {
        let places = group.partitions.values();
        let absent = group.members.is_empty() && places.clone().all(|p| p.committed.is_none());
        let lacks = ends.below.iter().map(|(partition, end)| {
            let place = group.partitions.get(partition);
            place.map_or(0, |place| (end - place.next()).max(0))
        });
        let lacks: i64 = lacks.sum();
        (!absent && lacks > 0).then(|| (group.name.clone(), lacks))
    });
    lacking.collect()
}

/// The records below these ends that a group has not committed; a partition without a commit is nobody's.
pub(super) fn unread(ends: &Ends, committed: &BTreeMap<i32, i64>) -> i64 {
    let lacks = ends.below.iter().filter_map(|(partition, end)| {
        let at = committed.get(partition)?;
        Some((end - at).max(0))
    });
    lacks.sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::groups::Place;

    fn group(name: &str, commits: &[Option<i64>]) -> Group {
        let place = |committed: &Option<i64>| Place {
            committed: *committed,
            start: 0,
            end: 100,
        };
        Group {
            name: name.into(),
            topic: "t".into(),
            members: Vec::new(),
            partitions: (0..).zip(commits.iter().map(place)).collect(),
        }
    }

    fn ends(below: &[i64]) -> Ends {
        Ends {
            topic: "t".into(),
            below: (0..).zip(below.iter().copied()).collect(),
        }
    }

    #[test]
    fn who_lacks_records_is_named_and_only_of_those_asked_about() {
        let groups = [
            group("a", &[Some(10), Some(4)]),
            group("b", &[Some(0), Some(0)]),
        ];
        assert_eq!(behind(&groups, &["a"], &ends(&[10, 5])), [("a".into(), 1)]);
        assert_eq!(behind(&groups, &["a"], &ends(&[10, 4])), []);
        assert_eq!(
            behind(&groups, &["a", "b"], &ends(&[10, 4])),
            [("b".into(), 14)]
        );
        let other = Ends {
            topic: "u".into(),
            ..ends(&[50, 50])
        };
        assert_eq!(behind(&groups, &["a"], &other), []);
    }

    #[test]
    fn nobody_waits_for_a_group_that_is_not_there_and_everybody_for_one_that_has_read_only_part() {
        assert_eq!(
            behind(&[group("a", &[None, None])], &["a"], &ends(&[5, 5])),
            []
        );
        let part = group("a", &[Some(5), None]);
        assert_eq!(behind(&[part], &["a"], &ends(&[5, 5])), [("a".into(), 5)]);
    }

    #[test]
    fn what_nobody_reads_is_not_unread() {
        let committed = [(0, 4), (1, 9)].into();
        assert_eq!(unread(&ends(&[5, 5, 5]), &committed), 1);
        assert_eq!(unread(&ends(&[5, 5]), &BTreeMap::new()), 0);
    }

    proptest! {
        #[test]
        fn nobody_is_behind_once_every_commit_has_reached_its_end(
            pairs in prop::collection::vec((0..50_i64, 0..50_i64), 1..6),
        ) {
            let commits: Vec<Option<i64>> = pairs.iter().map(|(commit, _)| Some(*commit)).collect();
            let below: Vec<i64> = pairs.iter().map(|(_, end)| *end).collect();
            let expected = pairs.iter().any(|(commit, end)| commit < end);
            let found = behind(&[group("a", &commits)], &["a"], &ends(&below));
            prop_assert_eq!(!found.is_empty(), expected);
        }
    }
}
