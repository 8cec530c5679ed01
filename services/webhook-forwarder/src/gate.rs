//! The way to one endpoint, shared by all of its partitions: slots, rate, breaker, pauses.
//!
//! Invariant: an attempt is made only while a [`Slot`] is held; a slot that is dropped without an
//! outcome frees what it held, so that a cancelled probe never blocks the endpoint.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use governor::{DefaultDirectRateLimiter, Quota};
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use crate::breaker::{Admission, Breaker, Pass, Sign};
use crate::endpoint::Endpoint;
use crate::metrics;
use crate::outcome::{Outcome, Verdict};

/// Everything that decides when the next attempt may be made.
pub struct Gate {
    name: String,
    slots: Semaphore,
    limiter: Option<DefaultDirectRateLimiter>,
    state: Mutex<State>,
    changed: Notify,
    deliveries: AtomicU64,
}

struct State {
    breaker: Breaker,
    hold_until: Option<Instant>,
    disabled: bool,
    /// What the last failed attempt came to, for people.
    failure: String,
    /// Attempts that have not come back.
    under_way: u32,
    /// Since when attempts have been under way and none was answered.
    unanswered: Option<Instant>,
}

/// An endpoint that has answered nothing for so long stands still, whatever its timeout allows it.
const UNANSWERED: Duration = Duration::from_secs(7);

enum Wait {
    Until(Instant),
    ForChange,
}

/// Permission for one attempt.
#[must_use]
pub struct Slot<'a> {
    gate: &'a Gate,
    pass: Option<Pass>,
    _permit: Option<SemaphorePermit<'a>>,
}

impl Gate {
    /// The gate of an endpoint, open.
    #[must_use]
    pub fn new(endpoint: &Endpoint) -> Self {
        let slots = usize::try_from(endpoint.concurrency.get()).unwrap_or(1);
        let limiter = endpoint.max_per_second.map(|rate| {
            DefaultDirectRateLimiter::direct(
                Quota::per_second(rate).allow_burst(rate.min(endpoint.concurrency)),
            )
        });
        metrics::begin(&endpoint.name);
        Self {
            name: endpoint.name.clone(),
            slots: Semaphore::new(slots),
            limiter,
            state: Mutex::new(State {
                breaker: Breaker::new(endpoint.breaker),
                hold_until: None,
                disabled: false,
                failure: String::new(),
                under_way: 0,
                unanswered: None,
            }),
            changed: Notify::new(),
            deliveries: AtomicU64::new(0),
        }
    }

    /// Waits for permission to make one attempt: for ever, while the endpoint is disabled. Safe to
    /// drop at any time.
    pub async fn enter(&self) -> Slot<'_> {
        let permit = self.slots.acquire().await.ok();
        if let Some(limiter) = &self.limiter {
            limiter.until_ready().await;
        }
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match self.admit(Instant::now()) {
                Ok(pass) => {
                    return Slot {
                        gate: self,
                        pass: Some(pass),
                        _permit: permit,
                    };
                }
                Err(Wait::ForChange) => changed.await,
                Err(Wait::Until(at)) => {
                    tokio::select! {
                        () = changed => {}
                        () = tokio::time::sleep_until(at.into()) => {}
                    }
                }
            }
        }
    }

    /// Deliveries so far.
    #[must_use]
    pub fn deliveries(&self) -> u64 {
        self.deliveries.load(Ordering::Relaxed)
    }

    /// Whether the receiver switched itself off (410).
    #[must_use]
    pub fn is_disabled(&self) -> bool {
        self.lock().disabled
    }

    /// Why nothing gets through, if nothing does.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let state = self.lock();
        match (state.disabled, state.breaker.level()) {
            (true, _) => Some(
                "answered 410: disabled until it is removed or the process restarts".to_owned(),
            ),
            (false, 0) => state.standstill(Instant::now()),
            (false, _) => Some(format!(
                "breaker open, records wait in Kafka: {}",
                state.failure
            )),
        }
    }

    /// 0 closed, 1 half-open, 2 open.
    #[must_use]
    pub fn breaker_level(&self) -> u8 {
        self.lock().breaker.level()
    }

    fn admit(&self, now: Instant) -> Result<Pass, Wait> {
        let mut state = self.lock();
        if state.disabled {
            return Err(Wait::ForChange);
        }
        if let Some(at) = state.hold_until.filter(|at| *at > now) {
            return Err(Wait::Until(at));
        }
        let before = state.breaker.level();
        let admission = state.breaker.admit(now);
        self.note(before, &state);
        match admission {
            Admission::Go(pass) => {
                state.begun(now);
                Ok(pass)
            }
            Admission::At(at) => Err(Wait::Until(at)),
            Admission::AfterProbe => Err(Wait::ForChange),
        }
    }

    fn report(&self, pass: Pass, sign: Sign, outcome: Option<&Outcome>, detail: &str) {
        let now = Instant::now();
        let mut state = self.lock();
        state.ended(now, sign, outcome);
        if let Some(failed) = outcome.filter(|_| sign == Sign::Failing) {
            state.failure = match detail {
                "" => failed.to_string(),
                detail => format!("{failed}: {detail}"),
            };
        }
        if let Some(wait) = outcome.and_then(Outcome::retry_after) {
            let until = now + wait;
            state.hold_until = Some(state.hold_until.map_or(until, |at| at.max(until)));
        }
        if outcome == Some(&Outcome::Gone) && !state.disabled {
            state.disabled = true;
            metrics::breaker_level(&self.name, metrics::DISABLED);
            tracing::error!(
                endpoint = self.name,
                "endpoint answered 410: disabled, its position is kept; remove it from the configuration, or restart to try again"
            );
        }
        let before = state.breaker.level();
        let changed = state.breaker.report(pass, sign, now);
        self.note(before, &state);
        drop(state);
        if changed {
            self.changed.notify_waiters();
        }
    }

    /// Metric and log of a change of the breaker.
    fn note(&self, before: u8, state: &State) {
        let level = state.breaker.level();
        if level == before || state.disabled {
            return;
        }
        metrics::breaker_level(&self.name, level);
        match level {
            0 => tracing::info!(endpoint = self.name, "breaker closed, the endpoint answers"),
            1 => tracing::debug!(endpoint = self.name, "breaker half-open, one probe"),
            _ => tracing::warn!(
                endpoint = self.name,
                failure = state.failure,
                "breaker open, the endpoint gets a rest"
            ),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn begun(&mut self, now: Instant) {
        self.under_way += 1;
        self.unanswered.get_or_insert(now);
    }

    /// A timeout is no answer; whatever else comes back is one, also a refusal.
    fn ended(&mut self, now: Instant, sign: Sign, outcome: Option<&Outcome>) {
        self.under_way = self.under_way.saturating_sub(1);
        let is_answer = sign != Sign::Unknown && outcome != Some(&Outcome::TimedOut);
        if is_answer {
            self.unanswered = (self.under_way > 0).then_some(now);
        } else if sign == Sign::Unknown && self.under_way == 0 {
            self.unanswered = None;
        }
    }

    fn standstill(&self, now: Instant) -> Option<String> {
        let silent = now.duration_since(self.unanswered?);
        (silent >= UNANSWERED).then(|| {
            format!(
                "no attempt was answered for {} s, {} under way",
                silent.as_secs(),
                self.under_way
            )
        })
    }
}

impl Slot<'_> {
    /// Ends the attempt with what it came to; `detail` is for people.
    pub fn settle(mut self, outcome: &Outcome, detail: &str) {
        let sign = match outcome.verdict() {
            Verdict::Delivered => {
                self.gate.deliveries.fetch_add(1, Ordering::Relaxed);
                Sign::Alive
            }
            Verdict::Permanent | Verdict::Disabled => Sign::Alive,
            Verdict::Transient => Sign::Failing,
        };
        if let Some(pass) = self.pass.take() {
            self.gate.report(pass, sign, Some(outcome), detail);
        }
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        if let Some(pass) = self.pass.take() {
            self.gate.report(pass, Sign::Unknown, None, "");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::EndpointConfig;
    use std::num::NonZeroU32;

    const DOWN: Outcome = Outcome::ServerError {
        status: 500,
        retry_after: None,
    };

    const BREAKER: crate::breaker::BreakerSettings = crate::breaker::BreakerSettings {
        failures: 2,
        open: Duration::from_millis(20),
        open_max: Duration::from_secs(1),
    };

    fn gate(change: impl FnOnce(&mut Endpoint)) -> Gate {
        let config = EndpointConfig {
            name: "crm".into(),
            url: Some("https://crm.example.com/".parse().unwrap()),
            ..EndpointConfig::default()
        };
        let mut endpoint = Endpoint::judge(&config, "", "e.t").unwrap();
        endpoint.breaker.failures = 2;
        endpoint.breaker.open = Duration::from_millis(20);
        change(&mut endpoint);
        Gate::new(&endpoint)
    }

    async fn waits(gate: &Gate) -> bool {
        let short = Duration::from_millis(5);
        tokio::time::timeout(short, gate.enter()).await.is_err()
    }

    #[tokio::test]
    async fn no_more_attempts_than_slots_are_under_way() {
        let gate = gate(|e| e.concurrency = NonZeroU32::MIN);
        let slot = gate.enter().await;
        assert!(waits(&gate).await);
        slot.settle(&Outcome::Delivered, "");
        drop(gate.enter().await);
        assert_eq!(gate.deliveries(), 1);
    }

    #[tokio::test]
    async fn a_dead_endpoint_gets_one_probe_and_its_success_lets_everybody_in() {
        let gate = gate(|_| {});
        for _ in 0..2 {
            gate.enter().await.settle(&DOWN, "");
        }
        assert_eq!(gate.breaker_level(), 2);
        let probe = gate.enter().await;
        assert_eq!(gate.breaker_level(), 1);
        let (waiting, ()) = tokio::join!(gate.enter(), async {
            tokio::task::yield_now().await;
            probe.settle(&Outcome::Delivered, "");
        });
        assert_eq!(gate.breaker_level(), 0);
        drop(waiting);
    }

    #[tokio::test]
    async fn a_probe_that_is_dropped_does_not_block_the_endpoint() {
        let gate = gate(|_| {});
        for _ in 0..2 {
            gate.enter().await.settle(&DOWN, "");
        }
        drop(gate.enter().await);
        gate.enter().await.settle(&Outcome::Delivered, "");
        assert_eq!(gate.breaker_level(), 0);
    }

    #[test]
    fn an_endpoint_that_answers_nothing_is_in_trouble_until_it_does_and_an_idle_one_is_not() {
        let begin = Instant::now();
        let after = |seconds| begin + Duration::from_secs(seconds);
        let mut state = State {
            breaker: Breaker::new(BREAKER),
            hold_until: None,
            disabled: false,
            failure: String::new(),
            under_way: 0,
            unanswered: None,
        };
        assert_eq!(state.standstill(after(100)), None, "nothing to do");
        state.begun(begin);
        assert_eq!(state.standstill(after(6)), None);
        assert!(state.standstill(after(7)).is_some());
        state.ended(after(10), Sign::Failing, Some(&Outcome::TimedOut));
        assert!(state.standstill(after(11)).is_some(), "a timeout is none");
        state.begun(after(12));
        state.ended(after(13), Sign::Failing, Some(&DOWN));
        assert_eq!(state.standstill(after(100)), None, "the breaker judges it");
        state.begun(after(14));
        state.ended(after(15), Sign::Unknown, None);
        assert_eq!(state.standstill(after(100)), None, "given up");
    }

    #[tokio::test]
    async fn retry_after_holds_everybody_for_that_long() {
        let gate = gate(|_| {});
        let asked = Duration::from_millis(60);
        let begin = Instant::now();
        gate.enter().await.settle(
            &Outcome::Throttled {
                status: 429,
                retry_after: Some(asked),
            },
            "",
        );
        drop(gate.enter().await);
        assert!(begin.elapsed() >= asked);
    }

    #[tokio::test]
    async fn a_410_lets_nobody_in_again() {
        let gate = gate(|_| {});
        gate.enter().await.settle(&Outcome::Gone, "");
        assert!(gate.is_disabled());
        assert!(waits(&gate).await);
    }

    #[tokio::test]
    async fn the_rate_is_kept() {
        let gate = gate(|e| {
            e.max_per_second = NonZeroU32::new(100);
            e.concurrency = NonZeroU32::MIN;
        });
        let begin = Instant::now();
        for _ in 0..6 {
            gate.enter().await.settle(&Outcome::Delivered, "");
        }
        assert!(begin.elapsed() >= Duration::from_millis(48));
    }
}
