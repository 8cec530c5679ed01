//! Counts arrivals and carries out what is armed.
//!
//! Invariant: each armed entry acts once, at exactly its arrival, whatever thread arrives.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};

use crate::{Action, Armed, Error, Point, Rule, parse};

static PLAN: OnceLock<Vec<Entry>> = OnceLock::new();
static BROKEN: OnceLock<Rule> = OnceLock::new();

struct Entry {
    armed: Armed,
    arrivals: AtomicU64,
}

impl Entry {
    const fn new(armed: Armed) -> Self {
        Self {
            armed,
            arrivals: AtomicU64::new(0),
        }
    }

    /// Counts an arrival; whether it is the one that was asked for.
    fn arrives(&self) -> bool {
        self.arrivals.fetch_add(1, Ordering::Relaxed) + 1 == self.armed.arrival
    }
}

pub(crate) fn arm(text: &str) -> Result<(), Error> {
    let entries = parse(text)?.into_iter().map(Entry::new);
    // Armed once; a second call keeps the first plan.
    let _ = PLAN.set(entries.collect());
    Ok(())
}

/// Nothing is broken by an empty name.
pub(crate) fn break_rule(name: &str) -> Result<(), Error> {
    if !name.is_empty() {
        let rule = name.parse()?;
        eprintln!("broken on purpose: {name}");
        let _ = BROKEN.set(rule);
    }
    Ok(())
}

pub(crate) fn is_broken(rule: Rule) -> bool {
    BROKEN.get() == Some(&rule)
}

/// Dies or freezes here; answers how long to wait.
pub(crate) fn arrive(point: Point) -> Option<Duration> {
    // All are counted before any acts: one that pauses must not hide an arrival from the others.
    let due: Vec<&Entry> = due(point, |action| action != Action::Fail).collect();
    for entry in due {
        eprintln!("fault point {point}: {:?}", entry.armed.action);
        match entry.armed.action {
            Action::Kill => signal(Signal::KILL),
            Action::Stop => signal(Signal::STOP),
            Action::Pause(pause) => return Some(pause),
            Action::Fail => {}
        }
    }
    None
}

pub(crate) fn fails(point: Point) -> bool {
    let failing = due(point, |action| action == Action::Fail).count() > 0;
    if failing {
        eprintln!("fault point {point}: fails");
    }
    failing
}

fn due(point: Point, wanted: fn(Action) -> bool) -> impl Iterator<Item = &'static Entry> {
    PLAN.get()
        .map_or(&[][..], Vec::as_slice)
        .iter()
        .filter(move |entry| entry.armed.point == point && wanted(entry.armed.action))
        .filter(|entry| entry.arrives())
}

/// A process may always signal itself.
fn signal(signal: Signal) {
    let _ = kill_process(getpid(), signal);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_armed_step_fails_at_its_arrival_and_only_then() {
        arm("enricher.lookup.before=fail@2").unwrap();
        let answers: Vec<bool> = (0..4).map(|_| fails(Point::EnricherLookupBefore)).collect();
        assert_eq!(answers, [false, true, false, false]);
        assert_eq!(arrive(Point::EnricherLookupBefore), None);
    }

    #[test]
    fn an_entry_that_pauses_does_not_hide_the_arrival_from_the_next() {
        let entries =
            parse("stream.tail.before=pause:1ms@1,stream.tail.before=pause:2ms@2").unwrap();
        let plan: Vec<Entry> = entries.into_iter().map(Entry::new).collect();
        let pauses: Vec<Option<Duration>> = (0..3)
            .map(|_| {
                let due: Vec<&Entry> = plan.iter().filter(|entry| entry.arrives()).collect();
                due.first().and_then(|entry| match entry.armed.action {
                    Action::Pause(pause) => Some(pause),
                    _ => None,
                })
            })
            .collect();
        let ms = |n| Some(Duration::from_millis(n));
        assert_eq!(pauses, [ms(1), ms(2), None]);
    }
}
