//! What a run came to: the rate reached against the one wanted, and why it fell behind. Pure.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::pace::Rate;

/// Below this share of the wanted rate a run has fallen behind.
const ENOUGH: f64 = 0.98;

/// What was counted and measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rows of the burst, and the time that it took.
    pub burst: (u64, Duration),
    /// Rows after it, and the time from then to the end.
    pub paced: (u64, Duration),
    /// Rows corrected.
    pub updated: u64,
    /// Rows deleted.
    pub deleted: u64,
    /// Contents changed or added.
    pub contents: u64,
    /// Rows among all that the enricher gives up.
    pub poison: u64,
    /// Statements: batches written.
    pub batches: u64,
    /// Time spent waiting for Postgres.
    pub waiting: Duration,
}

/// Rows a second; 0 where there was no time.
fn per_second((rows, time): (u64, Duration)) -> f64 {
    let seconds = time.as_secs_f64();
    if seconds <= 0.0 {
        return 0.0;
    }
    rows as f64 / seconds
}

/// Where a run that fell behind has spent its time; `None`: it did not.
#[must_use]
pub fn why_behind(counts: &Counts, wanted: Rate) -> Option<String> {
    let reached = per_second(counts.paced);
    if wanted.per_second() <= 0.0 || reached >= wanted.per_second() * ENOUGH {
        return None;
    }
    let whole = (counts.burst.1 + counts.paced.1).as_secs_f64();
    let waiting = counts.waiting.as_secs_f64();
    let share = 100.0 * waiting / whole.max(f64::MIN_POSITIVE);
    let each = 1000.0 * waiting / (counts.batches.max(1) as f64);
    Some(if share >= 60.0 {
        format!("Postgres took {share:.0} % of the time, {each:.1} ms for a batch")
    } else if whole < 1.0 {
        "the run was too short for its rate to settle".to_owned()
    } else {
        format!("this machine was busy: Postgres took only {share:.0} % of the time")
    })
}

/// For people.
#[must_use]
pub fn text(counts: &Counts, wanted: Rate) -> String {
    let mut text = String::new();
    // writing to a String cannot fail
    if counts.burst.0 > 0 {
        let (rows, time) = counts.burst;
        let rate = per_second(counts.burst);
        let _ = writeln!(
            text,
            "burst      {rows} rows in {:.1} s, {rate:.0} rows/s",
            time.as_secs_f64()
        );
    }
    let (rows, time) = counts.paced;
    let _ = writeln!(text, "wanted     {:.1} rows/s", wanted.per_second());
    let _ = writeln!(
        text,
        "achieved   {:.1} rows/s: {rows} rows in {:.1} s",
        per_second(counts.paced),
        time.as_secs_f64()
    );
    let _ = writeln!(
        text,
        "changes    {} updated, {} deleted, {} contents changed or added; {} rows that are to be dead-lettered",
        counts.updated, counts.deleted, counts.contents, counts.poison
    );
    if let Some(why) = why_behind(counts, wanted) {
        let _ = writeln!(text, "behind     {why}");
    }
    text
}

/// For programs.
#[must_use]
pub fn value(counts: &Counts, wanted: Rate) -> Value {
    json!({
        "wanted_per_second": wanted.per_second(),
        "achieved_per_second": per_second(counts.paced),
        "rows": counts.burst.0 + counts.paced.0,
        "seconds": counts.paced.1.as_secs_f64(),
        "burst": {
            "rows": counts.burst.0,
            "seconds": counts.burst.1.as_secs_f64(),
            "per_second": per_second(counts.burst),
        },
        "updated": counts.updated,
        "deleted": counts.deleted,
        "contents_changed": counts.contents,
        "poison": counts.poison,
        "behind": why_behind(counts, wanted),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn counts(rows: u64, waiting: f64) -> Counts {
        Counts {
            burst: (1000, SECOND),
            paced: (rows, SECOND * 9),
            batches: 100,
            waiting: Duration::from_secs_f64(waiting),
            ..Counts::default()
        }
    }

    #[test]
    fn who_keeps_up_is_not_behind() {
        let wanted: Rate = "100/s".parse().unwrap();
        assert_eq!(why_behind(&counts(890, 9.0), wanted), None);
        assert_eq!(why_behind(&counts(0, 9.0), "0".parse().unwrap()), None);
        assert!(!text(&counts(900, 9.0), wanted).contains("behind"));
        assert!(value(&counts(900, 9.0), wanted)["behind"].is_null());
    }

    #[test]
    fn who_falls_behind_says_whose_fault_it_is() {
        let wanted: Rate = "30000/min".parse().unwrap();
        let slow = text(&counts(900, 9.0), wanted);
        assert!(
            slow.contains("wanted     500.0 rows/s") && slow.contains("achieved   100.0 rows/s"),
            "{slow}"
        );
        assert!(
            slow.contains("Postgres took 90 % of the time, 90.0 ms for a batch"),
            "{slow}"
        );
        let busy = why_behind(&counts(900, 1.0), wanted).unwrap();
        assert!(busy.contains("this machine was busy"), "{busy}");
    }

    #[test]
    fn the_burst_is_reported_beside_the_rate() {
        let wanted: Rate = "100/s".parse().unwrap();
        assert!(text(&counts(900, 1.0), wanted).contains("1000 rows in 1.0 s, 1000 rows/s"));
        let value = value(&counts(900, 1.0), wanted);
        assert_eq!(value["rows"], 1900);
        assert_eq!(value["achieved_per_second"], 100.0);
    }
}
