//! Consumer groups: whether anybody is in them, and whether retention comes closer than they do; dead letters.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::doctor::report::{Diagnosis, span};

/// Records that wait for so long, with nobody to read them, are an outage.
const UNATTENDED: Duration = Duration::from_secs(60);
/// A backlog that retention takes within a day needs somebody today.
const SOON: Duration = Duration::from_secs(24 * 3600);

/// What is known of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::doctor) struct Standing {
    pub(in crate::doctor) name: String,
    pub(in crate::doctor) topic: String,
    pub(in crate::doctor) members: usize,
    /// Records that it has not done.
    pub(in crate::doctor) lag: i64,
    /// It has a commit in some partition.
    pub(in crate::doctor) has_begun: bool,
    /// Partitions whose log begins behind its commit.
    pub(in crate::doctor) overtaken: Vec<i32>,
    /// Partition and age of the oldest record that it has not done, by the time that retention goes by.
    pub(in crate::doctor) oldest: Option<(i32, Duration)>,
}

/// `retention` of the topic; `None`: records stay.
pub(in crate::doctor) fn judge(group: &Standing, retention: Option<Duration>) -> Vec<Diagnosis> {
    let mut all: Vec<Diagnosis> = Vec::new();
    all.extend(overtaken(group));
    all.extend(retention.and_then(|retention| overtakes(group, retention)));
    all.extend(members(group));
    if all.is_empty() {
        let found = format!("{} members, {} records before it", group.members, group.lag);
        all.push(Diagnosis::ok(place(group), found));
    }
    all
}

fn place(group: &Standing) -> String {
    format!("group {}", group.name)
}

fn overtaken(group: &Standing) -> Option<Diagnosis> {
    (!group.overtaken.is_empty()).then(|| {
        Diagnosis::error(
            place(group),
            format!(
                "retention has overtaken it in partitions {:?} of {}: records that it had not read are gone",
                group.overtaken, group.topic
            ),
        )
        .right("a log that is kept longer than the longest outage")
        .next("engagectl lineage show; then `engagectl lineage adopt`, and `engagectl verify` says what is missing")
    })
}

fn overtakes(group: &Standing, retention: Duration) -> Option<Diagnosis> {
    let (partition, age) = group.oldest?;
    let left = retention.saturating_sub(age);
    if left > SOON.min(retention / 4) {
        return None;
    }
    let when = match left.as_secs() {
        0 => "now".to_owned(),
        seconds => format!("in {}", span(seconds)),
    };
    let found = format!(
        "retention overtakes group {} {when}: its oldest record, of partition {partition} of {}, is {} old, {} are kept",
        group.name,
        group.topic,
        span(age.as_secs()),
        span(retention.as_secs())
    );
    Some(
        Diagnosis::error(place(group), found)
            .right("retention.ms above the age of every backlog")
            .next(format!(
                "kafka-configs.sh --alter --topic {} --add-config retention.ms=1209600000, then let it catch up: engagectl lag",
                group.topic
            )),
    )
}

fn members(group: &Standing) -> Option<Diagnosis> {
    if group.members > 0 {
        return None;
    }
    let right = "at least one process of its service runs";
    if !group.has_begun {
        let found = "nobody is in it, and nobody has ever been";
        return Some(
            Diagnosis::warning(place(group), found)
                .right(right)
                .next("start its service, or leave its name out (section [groups])"),
        );
    }
    let waits = group.oldest.map_or(Duration::ZERO, |(_, age)| age);
    let (found, next) = (
        "nobody is in it",
        "start its service; the end of its log says why it ended",
    );
    Some(if group.lag > 0 && waits > UNATTENDED {
        Diagnosis::error(
            place(group),
            format!(
                "{found}, and {} records wait, since {}",
                group.lag,
                span(waits.as_secs())
            ),
        )
        .right(right)
        .next(next)
    } else {
        Diagnosis::warning(place(group), found)
            .right(right)
            .next(next)
    })
}

/// Letters that nobody has sent back.
pub(in crate::doctor) fn letters(open: &BTreeMap<String, u64>) -> Vec<Diagnosis> {
    if open.is_empty() {
        return vec![Diagnosis::ok("dead letters", "none is open")];
    }
    let one = |(service, count): (&String, &u64)| {
        Diagnosis::warning(
            format!("dead letters of {service}"),
            format!("{count} are open"),
        )
        .right("each was sent back, or looked at and purged")
        .next(format!(
            "engagectl dlq stats --service {service}; then `engagectl dlq redrive --service {service}`"
        ))
    };
    open.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::Severity;

    const WEEK: Duration = Duration::from_secs(7 * 86_400);
    const HOUR: u64 = 3600;

    fn standing(members: usize, lag: i64, hours: u64) -> Standing {
        Standing {
            name: "clickhouse-sink".into(),
            topic: "enriched".into(),
            members,
            lag,
            has_begun: true,
            overtaken: Vec::new(),
            oldest: (lag > 0).then(|| (3, Duration::from_secs(hours * HOUR))),
        }
    }

    fn judged(group: &Standing) -> Vec<(Severity, String)> {
        let all = judge(group, Some(WEEK)).into_iter();
        all.map(|one| (one.severity, one.found)).collect()
    }

    #[test]
    fn a_group_with_members_and_a_young_backlog_is_well() {
        let all = judged(&standing(2, 500, 1));
        assert_eq!(all[0].0, Severity::Ok, "{all:?}");
    }

    #[test]
    fn a_backlog_near_the_end_of_retention_says_in_how_many_hours() {
        let all = judged(&standing(2, 500, 7 * 24 - 5));
        assert_eq!(all[0].0, Severity::Error);
        assert!(
            all[0]
                .1
                .contains("retention overtakes group clickhouse-sink in 5 h"),
            "{all:?}"
        );
        let past = judged(&standing(2, 500, 8 * 24));
        assert!(past[0].1.contains("clickhouse-sink now"), "{past:?}");
        let forever = judge(&standing(2, 500, 8 * 24), None);
        assert_eq!(forever[0].severity, Severity::Ok);
    }

    #[test]
    fn a_short_retention_is_judged_by_a_quarter_of_itself() {
        let group = standing(1, 5, 1);
        let within = |hours: u64| judge(&group, Some(Duration::from_secs(hours * HOUR)));
        assert_eq!(within(2)[0].severity, Severity::Ok);
        assert_eq!(within(1)[0].severity, Severity::Error);
    }

    #[test]
    fn what_retention_has_taken_already_is_an_error() {
        let mut group = standing(1, 5, 1);
        group.overtaken = vec![3];
        let all = judged(&group);
        assert!(all[0].1.contains("has overtaken"), "{all:?}");
    }

    #[test]
    fn nobody_in_a_group_is_an_error_where_records_wait() {
        assert_eq!(judged(&standing(0, 5, 1))[0].0, Severity::Error);
        assert_eq!(judged(&standing(0, 0, 0))[0].0, Severity::Warning);
        let mut never = standing(0, 5, 1);
        never.has_begun = false;
        assert_eq!(judged(&never)[0].0, Severity::Warning);
    }

    #[test]
    fn open_letters_are_counted_by_service() {
        let open = [("webhook-forwarder.crm".to_owned(), 7)].into();
        let all = letters(&open);
        assert!(all[0].found.contains("7 are open"));
        assert!(
            all[0]
                .next
                .contains("dlq redrive --service webhook-forwarder.crm")
        );
        assert_eq!(letters(&BTreeMap::new())[0].severity, Severity::Ok);
    }
}
