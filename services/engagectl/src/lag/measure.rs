//! From two looks at a group to what is shown of it: lag, age, rate, and when it will have caught up. Pure.

use std::time::Duration;

use serde::Serialize;

use crate::groups::{Group, Member, Place};

/// One look at a group.
#[derive(Clone, Debug)]
pub(super) struct Look {
    pub(super) group: Group,
    /// When, since some beginning.
    pub(super) at: Duration,
    /// How old the first event is that it has not done, by partition; absent where nothing is known of it.
    pub(super) ages: Vec<(i32, Duration)>,
}

/// What is shown of a group.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Standing {
    pub(super) group: String,
    pub(super) topic: String,
    pub(super) members: usize,
    /// Partitions that a member has.
    pub(super) owned: usize,
    #[serde(flatten)]
    pub(super) whole: Progress,
    pub(super) partitions: Vec<Part>,
}

/// What is shown of a partition.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Part {
    pub(super) partition: i32,
    pub(super) committed: Option<i64>,
    pub(super) end: i64,
    #[serde(flatten)]
    pub(super) progress: Progress,
    pub(super) owner: Option<Owner>,
}

/// Who has a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Owner {
    pub(super) member: String,
    pub(super) client: String,
    pub(super) host: String,
}

/// How far behind, and whether that changes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Progress {
    /// Records that are not done.
    pub(super) lag: i64,
    /// Age of the first of them; absent where it cannot be told.
    pub(super) behind_seconds: Option<f64>,
    /// Records done a second, between two looks.
    pub(super) rate: Option<f64>,
    /// When nothing will be left, if it goes on like this; absent with one look, and where the lag does not fall.
    pub(super) eta_seconds: Option<f64>,
    /// The lag was looked at twice and does not fall.
    pub(super) stuck: bool,
}

/// Counts that rates are made of.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    done: i64,
    lag: i64,
}

impl From<&Place> for Count {
    fn from(place: &Place) -> Self {
        Self {
            done: place.next(),
            lag: place.lag(),
        }
    }
}

impl Look {
    fn total(&self) -> Count {
        let counts = self.group.partitions.values().map(Count::from);
        counts.fold(Count::default(), |sum, one| Count {
            done: sum.done + one.done,
            lag: sum.lag + one.lag,
        })
    }

    fn part(&self, partition: i32, place: &Place, before: Option<&Self>, seconds: f64) -> Part {
        let before = before.and_then(|look| look.group.partitions.get(&partition));
        let age = self.ages.iter().find(|(of, _)| *of == partition);
        let behind = match place.lag() {
            0 => Some(0.0),
            _ => age.map(|(_, age)| age.as_secs_f64()),
        };
        Part {
            partition,
            committed: place.committed,
            end: place.end,
            progress: progress(place.into(), before.map(Count::from), seconds, behind),
            owner: self.group.owner(partition).map(Owner::of),
        }
    }
}

impl Standing {
    /// By the last look, and the one before it.
    pub(super) fn of(now: &Look, before: Option<&Look>) -> Self {
        let group = &now.group;
        let seconds = before.map_or(0.0, |before| now.at.saturating_sub(before.at).as_secs_f64());
        let places = group.partitions.iter();
        let parts: Vec<Part> = places
            .map(|(partition, place)| now.part(*partition, place, before, seconds))
            .collect();
        let behind = parts
            .iter()
            .filter_map(|part| part.progress.behind_seconds)
            .reduce(f64::max);
        Self {
            group: group.name.clone(),
            topic: group.topic.clone(),
            members: group.members.len(),
            owned: parts.iter().filter(|part| part.owner.is_some()).count(),
            whole: progress(now.total(), before.map(Look::total), seconds, behind),
            partitions: parts,
        }
    }

    /// What of it is above a maximum, in words.
    pub(super) fn exceeds(&self, lag: Option<i64>, behind: Option<Duration>) -> Vec<String> {
        let mut found = Vec::new();
        if let Some(max) = lag.filter(|max| self.whole.lag > *max) {
            found.push(format!(
                "{} has {} records before it, more than --max-lag {max}",
                self.group, self.whole.lag
            ));
        }
        let seconds = self.whole.behind_seconds.unwrap_or(0.0);
        if let Some(max) = behind.filter(|max| seconds > max.as_secs_f64()) {
            let max = humantime::format_duration(max);
            found.push(format!(
                "{} is {seconds:.1} s behind, more than --max-behind {max}",
                self.group
            ));
        }
        found
    }
}

impl Owner {
    fn of(member: &Member) -> Self {
        Self {
            member: member.id.clone(),
            client: member.client.clone(),
            host: member.host.clone(),
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "for display; offsets beyond 2^53 do not occur"
)]
fn progress(now: Count, before: Option<Count>, seconds: f64, behind: Option<f64>) -> Progress {
    let before = before.filter(|_| seconds > 0.0);
    let falls = before.map(|before| (before.lag - now.lag) as f64 / seconds);
    Progress {
        lag: now.lag,
        behind_seconds: behind,
        rate: before.map(|before| ((now.done - before.done) as f64 / seconds).max(0.0)),
        eta_seconds: match (now.lag, falls) {
            (0, _) => Some(0.0),
            (lag, Some(falls)) if falls > 0.0 => Some(lag as f64 / falls),
            _ => None,
        },
        stuck: now.lag > 0 && falls.is_some_and(|falls| falls <= 0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(at: u64, places: &[(i64, i64)]) -> Look {
        let place = |(committed, end): &(i64, i64)| Place {
            committed: Some(*committed),
            start: 0,
            end: *end,
        };
        Look {
            group: Group {
                name: "g".into(),
                topic: "t".into(),
                members: Vec::new(),
                partitions: (0..).zip(places.iter().map(place)).collect(),
            },
            at: Duration::from_secs(at),
            ages: vec![(0, Duration::from_secs(7)), (1, Duration::from_secs(40))],
        }
    }

    #[test]
    fn a_falling_lag_gives_rate_and_time_to_the_end() {
        let (before, now) = (
            look(10, &[(100, 1100), (0, 0)]),
            look(20, &[(400, 1200), (0, 0)]),
        );
        let standing = Standing::of(&now, Some(&before));
        let whole = standing.whole;
        assert_eq!((whole.lag, whole.rate), (800, Some(30.0)));
        // 1000 to 800 in 10 s: 20 a second
        assert_eq!((whole.eta_seconds, whole.stuck), (Some(40.0), false));
        assert_eq!(whole.behind_seconds, Some(7.0));
        assert_eq!(standing.partitions[1].progress.behind_seconds, Some(0.0));
    }

    #[test]
    fn a_lag_that_does_not_fall_has_no_end() {
        let (before, now) = (look(0, &[(100, 1100)]), look(10, &[(200, 1300)]));
        let whole = Standing::of(&now, Some(&before)).whole;
        assert_eq!(
            (whole.rate, whole.eta_seconds, whole.stuck),
            (Some(10.0), None, true)
        );
    }

    #[test]
    fn one_look_gives_neither_rate_nor_time() {
        let whole = Standing::of(&look(0, &[(1, 2)]), None).whole;
        assert_eq!(
            (whole.lag, whole.rate, whole.eta_seconds, whole.stuck),
            (1, None, None, false)
        );
        let done = Standing::of(&look(0, &[(2, 2)]), None).whole;
        assert_eq!(
            (done.eta_seconds, done.behind_seconds),
            (Some(0.0), Some(0.0))
        );
    }

    #[test]
    fn a_commit_that_was_set_back_is_no_negative_rate() {
        let (before, now) = (look(0, &[(100, 100)]), look(10, &[(0, 100)]));
        let whole = Standing::of(&now, Some(&before)).whole;
        assert_eq!((whole.rate, whole.stuck), (Some(0.0), true));
    }

    #[test]
    fn a_group_is_as_far_behind_as_its_last_partition_and_its_lags_add_up() {
        let standing = Standing::of(&look(0, &[(0, 10), (0, 20)]), None);
        assert_eq!(
            (standing.whole.lag, standing.whole.behind_seconds),
            (30, Some(40.0))
        );
        let exceeded = standing.exceeds(Some(29), Some(Duration::from_secs(39)));
        assert_eq!(exceeded.len(), 2, "{exceeded:?}");
        assert!(exceeded[0].contains("30 records") && exceeded[1].contains("40.0 s behind"));
        assert!(
            standing
                .exceeds(Some(30), Some(Duration::from_secs(40)))
                .is_empty()
        );
        assert!(standing.exceeds(None, None).is_empty());
    }
}
