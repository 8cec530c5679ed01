//! How long the follower waits, and when a client that is not answered is given up. Pure.
//!
//! Invariant: each client of an outage is kept at least as long as the one before; once one was answered, the count begins anew.

use std::time::{Duration, Instant};

use service::Backoff;

/// No client is kept longer than this without an answer, unless the first is.
const MOST: Duration = Duration::from_secs(300);

/// How long the follower waits for the broker.
#[derive(Clone, Copy, Debug)]
pub struct Waits {
    /// For the answer to one question.
    pub ask: Duration,
    /// For any answer, before the client is replaced for the first time in an outage: one was seen that found no way back to a
    /// broker which answered every other client of the same process. The next one is kept twice as long, and so on up to five
    /// minutes.
    pub lost: Duration,
}

impl Default for Waits {
    fn default() -> Self {
        Self {
            ask: Duration::from_secs(10),
            lost: Duration::from_secs(30),
        }
    }
}

/// How long clients are kept during an outage.
#[derive(Clone, Debug)]
pub(super) struct Patience {
    steps: Backoff,
    /// As long as the present client is kept.
    kept: Duration,
    /// An answer, or the present client, was last there.
    since: Instant,
    replaced: u32,
}

impl Patience {
    /// The first client of an outage is kept for `first`, the next one twice as long.
    pub(super) fn new(first: Duration, now: Instant) -> Self {
        let mut steps = Backoff::new(first, MOST.max(first));
        Self {
            kept: steps.next_delay(0),
            steps,
            since: now,
            replaced: 0,
        }
    }

    /// The client was answered.
    pub(super) fn answered(&mut self, now: Instant) {
        self.since = now;
        if self.replaced > 0 {
            self.replaced = 0;
            self.steps.reset();
            self.kept = self.steps.next_delay(0);
        }
    }

    /// Whether the client is to be replaced now, and how long it was kept; the next one is then there.
    pub(super) fn given_up(&mut self, now: Instant) -> Option<Duration> {
        let kept = now.saturating_duration_since(self.since);
        if kept < self.kept {
            return None;
        }
        self.since = now;
        self.replaced = self.replaced.saturating_add(1);
        self.kept = self.steps.next_delay(0);
        Some(kept)
    }

    /// How many clients were given up in this outage.
    pub(super) fn replaced(&self) -> u32 {
        self.replaced
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_secs(30);
    const SECOND: Duration = Duration::from_secs(1);

    /// After how many seconds without an answer clients are given up, asked each second.
    fn outage(patience: &mut Patience, begun: Instant, seconds: u32) -> Vec<u64> {
        let given_up = (1..=seconds).filter_map(|n| patience.given_up(begun + n * SECOND));
        given_up.map(|kept| kept.as_secs()).collect()
    }

    #[test]
    fn each_client_of_an_outage_is_kept_twice_as_long_as_the_one_before_up_to_five_minutes() {
        let begun = Instant::now();
        let mut patience = Patience::new(FIRST, begun);
        let kept = outage(&mut patience, begun, 1100);
        assert_eq!(kept, [30, 60, 120, 240, 300, 300]);
        assert_eq!(patience.replaced(), 6);
    }

    #[test]
    fn an_answer_ends_the_outage_and_the_next_one_begins_with_the_first_wait() {
        let begun = Instant::now();
        let mut patience = Patience::new(FIRST, begun);
        assert_eq!(outage(&mut patience, begun, 100), [30, 60]);
        let again = begun + 5000 * SECOND;
        patience.answered(again);
        assert_eq!(patience.replaced(), 0);
        assert_eq!(outage(&mut patience, again, 100), [30, 60]);
    }

    #[test]
    fn a_client_that_is_answered_is_never_given_up() {
        let begun = Instant::now();
        let mut patience = Patience::new(FIRST, begun);
        for n in 1..10_000 {
            patience.answered(begun + n * SECOND);
            assert_eq!(patience.given_up(begun + (n + 29) * SECOND), None);
        }
    }

    #[test]
    fn a_first_wait_that_is_longer_than_the_longest_is_kept() {
        let begun = Instant::now();
        let mut patience = Patience::new(2 * MOST, begun);
        assert_eq!(outage(&mut patience, begun, 1300), [600, 600]);
    }
}
