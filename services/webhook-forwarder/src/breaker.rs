//! The circuit breaker of one endpoint. Pure: time is an argument.
//!
//! Invariant: while it is not closed at most one attempt (the probe) is under way.

use std::time::{Duration, Instant};

/// When it opens, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerSettings {
    /// Failures in a row that open it.
    pub failures: u32,
    /// How long it stays open the first time; doubled by each failed probe.
    pub open: Duration,
    /// Longest time it stays open.
    pub open_max: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant, rounds: u32 },
    HalfOpen { rounds: u32 },
}

/// Permission for one attempt; handed back with what the attempt showed.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Pass {
    round: u64,
}

/// Answer to "may I try?".
#[derive(Debug, PartialEq, Eq)]
pub enum Admission {
    /// Go.
    Go(Pass),
    /// Ask again then.
    At(Instant),
    /// Ask again when the probe that is under way has come back.
    AfterProbe,
}

/// What an attempt showed about the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It answers.
    Alive,
    /// It does not, or asks for time.
    Failing,
    /// The attempt was given up before it could tell.
    Unknown,
}

/// The state machine.
#[derive(Debug)]
pub struct Breaker {
    settings: BreakerSettings,
    state: State,
    /// Counts changes of state: the answer to a pass of an earlier state says nothing about this one.
    round: u64,
}

impl Breaker {
    /// A closed breaker.
    #[must_use]
    pub fn new(settings: BreakerSettings) -> Self {
        Self {
            settings,
            state: State::Closed { failures: 0 },
            round: 0,
        }
    }

    /// Asks for one attempt.
    pub fn admit(&mut self, now: Instant) -> Admission {
        match self.state {
            State::Closed { .. } => Admission::Go(Pass { round: self.round }),
            State::Open { until, .. } if now < until => Admission::At(until),
            State::Open { rounds, .. } => {
                self.enter(State::HalfOpen { rounds });
                Admission::Go(Pass { round: self.round })
            }
            State::HalfOpen { .. } => Admission::AfterProbe,
        }
    }

    /// Hands a pass back. Returns whether the state changed, that is whether waiters should ask again.
    #[expect(clippy::needless_pass_by_value, reason = "a pass is used once")]
    pub fn report(&mut self, pass: Pass, sign: Sign, now: Instant) -> bool {
        if pass.round != self.round {
            return false;
        }
        match (self.state, sign) {
            (State::Closed { .. }, Sign::Alive) => {
                self.state = State::Closed { failures: 0 };
                false
            }
            (State::Closed { failures }, Sign::Failing) => self.failed(failures + 1, now),
            (State::HalfOpen { .. }, Sign::Alive) => self.enter(State::Closed { failures: 0 }),
            (State::HalfOpen { rounds }, Sign::Failing) => self.open(rounds + 1, now),
            (State::HalfOpen { rounds }, Sign::Unknown) => {
                self.enter(State::Open { until: now, rounds })
            }
            (State::Closed { .. }, Sign::Unknown) | (State::Open { .. }, _) => false,
        }
    }

    /// 0 closed, 1 half-open, 2 open: the value of the metric.
    #[must_use]
    pub fn level(&self) -> u8 {
        match self.state {
            State::Closed { .. } => 0,
            State::HalfOpen { .. } => 1,
            State::Open { .. } => 2,
        }
    }

    fn failed(&mut self, failures: u32, now: Instant) -> bool {
        if failures >= self.settings.failures {
            return self.open(0, now);
        }
        self.state = State::Closed { failures };
        false
    }

    fn open(&mut self, rounds: u32, now: Instant) -> bool {
        let factor = 1_u32.checked_shl(rounds.min(16)).unwrap_or(u32::MAX);
        let time = self
            .settings
            .open
            .saturating_mul(factor)
            .min(self.settings.open_max);
        self.enter(State::Open {
            until: now + time,
            rounds,
        })
    }

    fn enter(&mut self, state: State) -> bool {
        self.state = state;
        self.round += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SETTINGS: BreakerSettings = BreakerSettings {
        failures: 3,
        open: Duration::from_secs(1),
        open_max: Duration::from_secs(5),
    };

    fn pass(breaker: &mut Breaker, now: Instant) -> Pass {
        match breaker.admit(now) {
            Admission::Go(pass) => pass,
            other => panic!("expected a pass, got {other:?}"),
        }
    }

    fn fail(breaker: &mut Breaker, now: Instant) {
        let pass = pass(breaker, now);
        breaker.report(pass, Sign::Failing, now);
    }

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::new(SETTINGS);
        for _ in 0..3 {
            fail(&mut breaker, now);
        }
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it_and_a_success_between_starts_the_count_anew() {
        let now = Instant::now();
        let mut breaker = Breaker::new(SETTINGS);
        fail(&mut breaker, now);
        fail(&mut breaker, now);
        let alive = pass(&mut breaker, now);
        breaker.report(alive, Sign::Alive, now);
        fail(&mut breaker, now);
        fail(&mut breaker, now);
        assert_eq!(breaker.level(), 0);
        fail(&mut breaker, now);
        assert_eq!(
            breaker.admit(now),
            Admission::At(now + Duration::from_secs(1))
        );
    }

    #[test]
    fn half_open_lets_one_probe_through_and_its_success_closes() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let later = now + Duration::from_secs(1);
        let probe = pass(&mut breaker, later);
        assert_eq!(breaker.admit(later), Admission::AfterProbe);
        assert!(breaker.report(probe, Sign::Alive, later));
        assert_eq!(breaker.level(), 0);
    }

    #[test]
    fn failed_probes_double_the_time_up_to_the_limit() {
        let mut now = Instant::now();
        let mut breaker = opened(now);
        for seconds in [1, 2, 4, 5, 5] {
            let until = now + Duration::from_secs(seconds);
            assert_eq!(breaker.admit(now), Admission::At(until));
            now = until;
            fail(&mut breaker, now);
        }
    }

    #[test]
    fn a_probe_given_up_frees_the_way_for_the_next_one() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let later = now + Duration::from_secs(1);
        let probe = pass(&mut breaker, later);
        assert!(breaker.report(probe, Sign::Unknown, later));
        let _next = pass(&mut breaker, later);
    }

    #[test]
    fn answers_to_attempts_of_an_earlier_state_change_nothing() {
        let now = Instant::now();
        let mut breaker = Breaker::new(SETTINGS);
        let slow = pass(&mut breaker, now);
        for _ in 0..3 {
            fail(&mut breaker, now);
        }
        assert!(!breaker.report(slow, Sign::Alive, now));
        assert_eq!(breaker.level(), 2);
    }

    proptest! {
        #[test]
        fn at_most_one_attempt_is_under_way_unless_closed(steps in prop::collection::vec((0_u8..4, 0_u64..3000), 1..200)) {
            let mut now = Instant::now();
            let mut breaker = Breaker::new(SETTINGS);
            let mut current: Vec<Pass> = Vec::new();
            for (step, millis) in steps {
                now += Duration::from_millis(millis);
                if step == 0 {
                    if let Admission::Go(pass) = breaker.admit(now) { current.push(pass); }
                } else if let Some(pass) = current.pop() {
                    let sign = [Sign::Alive, Sign::Failing, Sign::Unknown][usize::from(step - 1)];
                    breaker.report(pass, sign, now);
                }
                let round = breaker.round;
                let under_way = current.iter().filter(|p| p.round == round).count();
                match breaker.level() {
                    0 => {}
                    1 => prop_assert_eq!(under_way, 1),
                    _ => prop_assert_eq!(under_way, 0),
                }
            }
        }
    }
}
