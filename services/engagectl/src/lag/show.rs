//! Standings as text. Pure.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::measure::{Owner, Part, Progress, Standing};

/// For a person.
pub(super) fn text(standings: &[Standing], partitions: bool) -> String {
    let width = |of: fn(&Standing) -> &str| {
        let widths = standings.iter().map(|one| of(one).len());
        widths.max().unwrap_or(0)
    };
    let groups = width(|one| &one.group).max(5);
    let topics = width(|one| &one.topic).max(5);
    let mut text = format!(
        "{:<groups$}  {:<topics$}  {:>10}  {:>9}  {:>9}  {:>9}  MEMBERS\n",
        "GROUP", "TOPIC", "LAG", "BEHIND", "RATE", "ETA"
    );
    for one in standings {
        let (numbers, members) = (numbers(&one.whole), members(one));
        let _ = writeln!(
            text,
            "{:<groups$}  {:<topics$}  {numbers}  {members}",
            one.group, one.topic
        );
        for part in one.partitions.iter().filter(|_| partitions) {
            let (place, commit, owner) = cells(part);
            let numbers = self::numbers(&part.progress);
            let _ = writeln!(
                text,
                "{place:<groups$}  {commit:<topics$}  {numbers}  {owner}"
            );
        }
    }
    text
}

fn members(one: &Standing) -> String {
    match (one.members, one.owned, one.partitions.len()) {
        (0, ..) => "none".to_owned(),
        (members, 0, _) => members.to_string(),
        (members, owned, all) => format!("{members}, with {owned} of {all} partitions"),
    }
}

/// Partition, commit and owner.
fn cells(part: &Part) -> (String, String, String) {
    let committed = part.committed.map(|offset| offset.to_string());
    let committed = committed.unwrap_or_else(|| "none".to_owned());
    let owner = part.owner.as_ref().map(|owner| {
        let Owner {
            member,
            client,
            host,
        } = owner;
        format!("{member} ({client}, {host})")
    });
    (
        format!("  {:>3}", part.partition),
        format!("commit {committed} of {}", part.end),
        owner.unwrap_or_else(|| "nobody".to_owned()),
    )
}

fn numbers(progress: &Progress) -> String {
    let rate = progress
        .rate
        .map_or_else(|| "-".to_owned(), |rate| format!("{rate:.0}/s"));
    let eta = match (progress.eta_seconds, progress.stuck) {
        (Some(seconds), _) => duration(seconds),
        (None, true) => "never".to_owned(),
        (None, false) => "-".to_owned(),
    };
    let behind = progress
        .behind_seconds
        .map_or_else(|| "-".to_owned(), duration);
    format!("{:>10}  {behind:>9}  {rate:>9}  {eta:>9}", progress.lag)
}

/// In the unit that reads best.
fn duration(seconds: f64) -> String {
    match seconds {
        s if s <= 0.0 => "0 s".to_owned(),
        s if s < 1.0 => format!("{:.0} ms", s * 1000.0),
        s if s < 120.0 => format!("{s:.1} s"),
        s => {
            // whole minutes are exact enough
            let whole =
                Duration::try_from_secs_f64(s).map_or(u64::MAX, |duration| duration.as_secs());
            match whole / 60 {
                minutes if minutes < 120 => format!("{minutes} min"),
                minutes if minutes < 72 * 60 => format!("{} h", minutes / 60),
                minutes => format!("{} d", minutes / 1440),
            }
        }
    }
}

/// For a program; one line where it is one of many.
pub(super) fn json(standings: &[Standing], exceeded: &[String], at: &str) -> Value {
    json!({ "at": at, "groups": standings, "exceeded": exceeded })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing() -> Standing {
        let progress = Progress {
            lag: 1200,
            behind_seconds: Some(7.25),
            rate: Some(31.4),
            eta_seconds: None,
            stuck: true,
        };
        Standing {
            group: "clickhouse-sink".into(),
            topic: "engagement.enriched.v1".into(),
            members: 1,
            owned: 1,
            whole: progress.clone(),
            partitions: vec![Part {
                partition: 3,
                committed: None,
                end: 1200,
                progress,
                owner: Some(Owner {
                    member: "engage-8f".into(),
                    client: "engage".into(),
                    host: "10.0.0.7".into(),
                }),
            }],
        }
    }

    #[test]
    fn a_group_is_a_line_and_its_partitions_are_below_it_when_asked_for() {
        let short = text(&[standing()], false);
        assert_eq!(short.lines().count(), 2);
        for part in [
            "clickhouse-sink",
            "1200",
            "7.2 s",
            "31/s",
            "never",
            "1, with 1 of 1 partitions",
        ] {
            assert!(short.contains(part), "{part:?} is missing in\n{short}");
        }
        let long = text(&[standing()], true);
        assert!(
            long.contains("commit none of 1200") && long.contains("engage-8f (engage, 10.0.0.7)"),
            "{long}"
        );
    }

    #[test]
    fn the_numbers_stand_below_their_headings() {
        let text = text(&[standing()], true);
        let mut lines = text.lines();
        let end = |line: &str, what: &str| line.find(what).map(|at| at + what.len());
        let (head, row, part) = (
            lines.next().unwrap(),
            lines.next().unwrap(),
            lines.next().unwrap(),
        );
        for (name, value) in [("LAG", "1200  "), ("BEHIND", "7.2 s  "), ("ETA", "never  ")] {
            let at = end(head, name).unwrap() + 2;
            assert_eq!(end(row, value), Some(at), "{name}\n{text}");
            assert!(part[..at].ends_with(value), "{name}\n{text}");
        }
    }

    #[test]
    fn times_are_shown_in_the_unit_that_reads_best() {
        let all = [0.0, 0.25, 7.0, 119.0, 600.0, 10_000.0, 1e6, 1e300].map(duration);
        assert_eq!(
            all[..7],
            ["0 s", "250 ms", "7.0 s", "119.0 s", "10 min", "2 h", "11 d"]
        );
        assert!(all[7].ends_with(" d"));
    }

    #[test]
    fn the_json_form_has_every_number() {
        let value = json(&[standing()], &["x".into()], "2026-01-01T00:00:00Z");
        assert_eq!(value["groups"][0]["lag"], 1200);
        assert_eq!(
            value["groups"][0]["partitions"][0]["owner"]["host"],
            "10.0.0.7"
        );
        assert_eq!(value["groups"][0]["partitions"][0]["stuck"], true);
        assert_eq!(value["exceeded"][0], "x");
    }
}
