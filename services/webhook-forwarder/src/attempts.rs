//! What follows a failed attempt: when to try a record again, and when to give it up.
//!
//! Invariant: an endpoint that is down never costs a record. A transient failure counts against a
//! record only if some other record was delivered since its attempt before; a permanent one always.

use std::time::Duration;

use service::Backoff;

use crate::outcome::{Outcome, Verdict};

/// How often and how fast a record is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptLimits {
    /// Wait before the second attempt; doubled by each further one.
    pub first_wait: Duration,
    /// Longest wait between two attempts.
    pub longest_wait: Duration,
    /// Transient failures, while the endpoint is well, after which a record is given up.
    pub transient: u32,
    /// Permanent failures (most 4xx, 3xx) after which a record is given up.
    pub permanent: u32,
}

/// The attempts of one record so far.
#[derive(Clone, Debug)]
pub struct Attempts {
    backoff: Backoff,
    made: u32,
    transient: u32,
    permanent: u32,
    /// Deliveries of the endpoint when the attempt before failed.
    deliveries_seen: Option<u64>,
}

/// What to do with a record after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It is delivered.
    Finished,
    /// Try again, not earlier than after this time.
    Retry(Duration),
    /// Hold it; the endpoint is disabled.
    Hold,
    /// Dead-letter it.
    GiveUp,
}

impl Attempts {
    /// None made yet.
    #[must_use]
    pub fn new(limits: &AttemptLimits) -> Self {
        Self {
            backoff: Backoff::new(limits.first_wait, limits.longest_wait),
            made: 0,
            transient: 0,
            permanent: 0,
            deliveries_seen: None,
        }
    }

    /// Attempts made.
    #[must_use]
    pub fn made(&self) -> u32 {
        self.made
    }

    /// Notes an attempt and decides. `deliveries` counts those of the whole endpoint so far;
    /// `random` is any evenly distributed number, for the jitter.
    pub fn record(
        &mut self,
        outcome: &Outcome,
        deliveries: u64,
        limits: &AttemptLimits,
        random: u64,
    ) -> Next {
        self.made = self.made.saturating_add(1);
        match outcome.verdict() {
            Verdict::Delivered => return Next::Finished,
            Verdict::Disabled => return Next::Hold,
            Verdict::Permanent => self.permanent += 1,
            Verdict::Transient => self.count_transient(deliveries),
        }
        self.deliveries_seen = Some(deliveries);
        if self.permanent >= limits.permanent || self.transient >= limits.transient {
            return Next::GiveUp;
        }
        Next::Retry(self.backoff.next_delay(random))
    }

    fn count_transient(&mut self, deliveries: u64) {
        if self.deliveries_seen.is_some_and(|seen| deliveries > seen) {
            self.transient += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: AttemptLimits = AttemptLimits {
        first_wait: Duration::from_millis(100),
        longest_wait: Duration::from_secs(1),
        transient: 3,
        permanent: 2,
    };
    const DOWN: Outcome = Outcome::ServerError {
        status: 500,
        retry_after: None,
    };
    const BAD: Outcome = Outcome::Rejected { status: 422 };

    #[test]
    fn a_record_is_never_given_up_while_nothing_else_is_delivered() {
        let mut attempts = Attempts::new(&LIMITS);
        for _ in 0..1000 {
            let next = attempts.record(&DOWN, 7, &LIMITS, 0);
            assert!(matches!(next, Next::Retry(_)));
        }
    }

    #[test]
    fn a_record_that_fails_while_others_are_delivered_is_given_up() {
        let mut attempts = Attempts::new(&LIMITS);
        // the first failure proves nothing: the deliveries before it may be older than the outage
        assert!(matches!(
            attempts.record(&DOWN, 7, &LIMITS, 0),
            Next::Retry(_)
        ));
        assert!(matches!(
            attempts.record(&DOWN, 8, &LIMITS, 0),
            Next::Retry(_)
        ));
        assert!(matches!(
            attempts.record(&DOWN, 8, &LIMITS, 0),
            Next::Retry(_)
        ));
        assert!(matches!(
            attempts.record(&DOWN, 9, &LIMITS, 0),
            Next::Retry(_)
        ));
        assert_eq!(attempts.record(&DOWN, 10, &LIMITS, 0), Next::GiveUp);
        assert_eq!(attempts.made(), 5);
    }

    #[test]
    fn a_permanent_failure_counts_always() {
        let mut attempts = Attempts::new(&LIMITS);
        assert!(matches!(
            attempts.record(&BAD, 0, &LIMITS, 0),
            Next::Retry(_)
        ));
        assert_eq!(attempts.record(&BAD, 0, &LIMITS, 0), Next::GiveUp);
    }

    #[test]
    fn a_410_holds_the_record() {
        assert_eq!(
            Attempts::new(&LIMITS).record(&Outcome::Gone, 0, &LIMITS, 0),
            Next::Hold
        );
    }

    proptest! {
        #[test]
        fn waits_grow_within_half_a_step_and_the_limit(random: u64, failures in 1_u32..200) {
            let mut attempts = Attempts::new(&LIMITS);
            let mut last = Next::Finished;
            for _ in 0..failures { last = attempts.record(&DOWN, 0, &LIMITS, random); }
            let step = Duration::from_millis(100 * (1 << failures.min(6).saturating_sub(1))).min(LIMITS.longest_wait);
            let Next::Retry(wait) = last else { panic!("{last:?}") };
            prop_assert!(wait >= step / 2 && wait <= step, "{wait:?} of {step:?}");
        }
    }
}
