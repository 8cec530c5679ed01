//! Waiting longer after each failure, with jitter so that replicas do not knock in step.
//! Invariant: the delay never exceeds the cap and never falls below half of its step; randomness is an argument.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// Exponential backoff: step `n` is `first * 2^n`, at most `cap`; the delay lies in `[step / 2, step]`.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    attempts: u32,
}

impl Backoff {
    /// A backoff that starts at `first` and never waits longer than `cap`.
    #[must_use]
    pub const fn new(first: Duration, cap: Duration) -> Self {
        Self {
            first,
            cap,
            attempts: 0,
        }
    }

    /// Forgets the failures: something succeeded.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }

    /// How many delays were given since the last success.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The next delay; `random` is any evenly distributed number.
    pub fn next_delay(&mut self, random: u64) -> Duration {
        let step = self
            .first
            .saturating_mul(1_u32.checked_shl(self.attempts).unwrap_or(u32::MAX))
            .min(self.cap);
        self.attempts = self.attempts.saturating_add(1).min(31);
        let half = u64::try_from(step.as_micros() / 2).unwrap_or(u64::MAX / 2);
        step - Duration::from_micros(random % (half + 1))
    }

    /// Waits the next delay. `false` when `stop` was cancelled meanwhile.
    pub async fn wait(&mut self, stop: &CancellationToken) -> bool {
        let delay = self.next_delay(random());
        stop.run_until_cancelled(tokio::time::sleep(delay))
            .await
            .is_some()
    }
}

impl Default for Backoff {
    /// 100 ms to 10 s, for a dependency that went away.
    fn default() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(10))
    }
}

/// An evenly distributed number for [`Backoff::next_delay`]; not for secrets.
#[must_use]
pub fn random() -> u64 {
    // RandomState's keys are random per process and differ per instance.
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn delays_double_up_to_the_cap_and_start_again_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(350));
        let delays: Vec<_> = (0..4).map(|_| backoff.next_delay(0).as_millis()).collect();
        assert_eq!(delays, [100, 200, 350, 350]);
        backoff.reset();
        assert_eq!(backoff.next_delay(0).as_millis(), 100);
    }

    proptest! {
        #[test]
        fn the_delay_stays_between_half_the_step_and_the_cap(random: u64, failures in 0_u32..100) {
            let mut backoff = Backoff::default();
            for _ in 0..failures { backoff.next_delay(random); }
            let delay = backoff.next_delay(random);
            prop_assert!(delay <= Duration::from_secs(10));
            prop_assert!(delay >= Duration::from_millis(50));
        }
    }

    #[tokio::test]
    async fn waiting_ends_at_once_when_the_service_stops() {
        let stop = CancellationToken::new();
        stop.cancel();
        assert!(
            !Backoff::new(Duration::from_secs(3600), Duration::from_secs(3600))
                .wait(&stop)
                .await
        );
    }
}
