//! What earlier runs have written down in one partition. Pure.
//!
//! Invariant: a run that did not end by itself may have sent more than it marked, and what it sent stands at or above the
//! offset that its beginning names.

use std::collections::BTreeMap;

use stream::Record;
use stream::dead_letter::{Place, RedriveMark, is_mark};

/// A run that writes something at least so often (the slowest rate is one letter in five seconds) is alive.
const SILENT_MS: i64 = 12_000;

/// A run without an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::dlq) struct Open {
    /// Its id.
    pub(in crate::dlq) run: String,
    /// Where the partition ended that it wrote to.
    pub(in crate::dlq) target_end: i64,
    /// When it began and when it wrote last, milliseconds since 1970.
    pub(in crate::dlq) begun_ms: i64,
    pub(in crate::dlq) last_ms: i64,
}

impl Open {
    /// Whether it may still be at work.
    pub(in crate::dlq) const fn is_alive(&self, now_ms: i64) -> bool {
        // a time that is far ahead is that of another clock, and says nothing
        now_ms.saturating_sub(self.last_ms).saturating_abs() < SILENT_MS
    }
}

/// The marks of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::dlq) struct Progress {
    /// Letters that were sent, and where to.
    pub(in crate::dlq) done: BTreeMap<i64, Place>,
    /// The runs that have not ended by themselves, in the order of their beginnings: one of them may be at work, and the others were
    /// killed. One that begins while another is at work says so and ends, which ends no other.
    pub(in crate::dlq) open: Vec<Open>,
}

impl Progress {
    /// A record that may be a mark.
    pub(in crate::dlq) fn note(&mut self, record: &Record) {
        if is_mark(record) {
            self.take(RedriveMark::of(record), record.timestamp_ms.unwrap_or(0));
        }
    }

    /// The next mark, written at this time; `None`: one that this version does not know.
    pub(in crate::dlq) fn take(&mut self, mark: Option<RedriveMark>, at_ms: i64) {
        match mark {
            Some(RedriveMark::Begin { run, target_end }) => self.open.push(Open {
                run,
                target_end,
                begun_ms: at_ms,
                last_ms: at_ms,
            }),
            Some(RedriveMark::Done {
                run,
                letter,
                sent_to,
            }) => {
                for open in self.open.iter_mut().filter(|open| open.run == run) {
                    open.last_ms = open.last_ms.max(at_ms);
                }
                self.done.insert(letter, sent_to);
            }
            Some(RedriveMark::End { run }) => self.open.retain(|open| open.run != run),
            None => {}
        }
    }

    /// Whether some run may still be at work.
    pub(in crate::dlq) fn is_at_work(&self, now_ms: i64) -> bool {
        self.open.iter().any(|open| open.is_alive(now_ms))
    }

    /// From where on the copies stand that runs without an end may have left unmarked; `None`: every run has ended.
    pub(in crate::dlq) fn search_from(&self) -> Option<i64> {
        self.open.iter().map(|open| open.target_end).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(run: &str, target_end: i64) -> Option<RedriveMark> {
        let run = run.to_owned();
        Some(RedriveMark::Begin { run, target_end })
    }

    fn done(run: &str, letter: i64) -> Option<RedriveMark> {
        Some(RedriveMark::Done {
            run: run.to_owned(),
            letter,
            sent_to: "cdc/3/500".parse().unwrap(),
        })
    }

    fn end(run: &str) -> Option<RedriveMark> {
        Some(RedriveMark::End {
            run: run.to_owned(),
        })
    }

    #[test]
    fn a_run_that_ended_leaves_nothing_but_what_it_sent() {
        let mut progress = Progress::default();
        for (mark, at) in [(begin("a", 7), 0), (done("a", 1), 10), (end("a"), 20)] {
            progress.take(mark, at);
        }
        assert_eq!(progress.open, []);
        assert_eq!(progress.done.keys().collect::<Vec<_>>(), [&1]);
    }

    #[test]
    fn a_run_without_an_end_is_open_and_alive_for_as_long_as_it_may_pause() {
        let mut progress = Progress::default();
        progress.take(begin("a", 7), 0);
        progress.take(done("a", 1), 5_000);
        assert_eq!(progress.search_from(), Some(7));
        assert_eq!(progress.open[0].last_ms, 5_000);
        assert!(progress.is_at_work(16_999) && !progress.is_at_work(17_000));
        assert!(!progress.is_at_work(-3_600_000), "by a clock far ahead");
    }

    #[test]
    fn the_end_of_another_run_ends_nothing_and_unknown_marks_change_nothing() {
        let mut progress = Progress::default();
        progress.take(begin("b", 9), 0);
        let before = progress.clone();
        progress.take(end("a"), 10);
        progress.take(None, 20);
        assert_eq!(progress, before);
    }

    /// Two that began at the same moment: the second has seen the first, and has given up.
    #[test]
    fn a_run_that_gave_way_to_another_does_not_hide_it() {
        let mut progress = Progress::default();
        for (mark, at) in [
            (begin("a", 7), 0),
            (begin("b", 9), 1),
            (end("b"), 2),
            (done("a", 1), 5_000),
        ] {
            progress.take(mark, at);
        }
        assert!(progress.is_at_work(16_999), "a is at work still");
        assert_eq!(progress.search_from(), Some(7), "a was killed later");
        progress.take(end("a"), 20_000);
        assert_eq!(progress.search_from(), None);
    }

    #[test]
    fn copies_are_looked_for_from_the_first_of_several_runs_that_were_killed() {
        let mut progress = Progress::default();
        progress.take(begin("a", 7), 0);
        progress.take(begin("b", 9), 60_000);
        assert_eq!(progress.search_from(), Some(7));
    }
}
