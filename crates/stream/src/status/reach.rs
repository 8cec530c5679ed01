//! Whether this client still reaches its consumer group.
//!
//! A client can lose the cluster for good while the cluster is well: librdkafka 2.12 drops every broker that a metadata
//! answer does not list, and a broker that has just stood still may answer with an empty list. Then nobody is left to ask.
//!
//! Invariant: pure, and given up only where another client was answered all the time in which this one was not; an
//! outage of the cluster is waited for, however long it is.

use std::fmt;
use std::time::{Duration, Instant};

use rdkafka::statistics::Statistics;

/// Shorter losses are part of every rebalance and reconnection.
const GRACE: Duration = Duration::from_secs(10);
/// A client that looks for brokers or a coordinator tries every of its addresses within a few seconds.
const SEARCH: Duration = Duration::from_secs(10);
/// A request to join may wait for the slowest member: `max.poll.interval.ms`, and a little.
const JOIN: Duration = Duration::from_secs(75);

/// What the client has not got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    Broker,
    Coordinator,
    Membership,
}

impl Missing {
    const fn patience(self) -> Duration {
        match self {
            Self::Broker | Self::Coordinator => SEARCH,
            Self::Membership => JOIN,
        }
    }

    /// The first of the three that is missing.
    fn of(statistics: &Statistics) -> Option<Self> {
        let brokers = &statistics.brokers;
        // others in the list are the client's own: its thread for itself, and the place of the coordinator
        let connected = brokers.values().any(|broker| {
            matches!(broker.source.as_str(), "learned" | "configured") && broker.state == "UP"
        });
        if !connected {
            return Some(Self::Broker);
        }
        let group = statistics.cgrp.as_ref();
        if group.is_none_or(|group| group.state != "up") {
            return Some(Self::Coordinator);
        }
        group
            .is_some_and(|group| group.join_state != "steady")
            .then_some(Self::Membership)
    }
}

/// For how long, and what was seen last.
#[derive(Clone, Debug)]
pub(crate) struct Loss {
    pub(crate) missing: Missing,
    since: Instant,
    /// Since when another client is answered.
    answered: Option<Instant>,
    seen: String,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.missing {
            Missing::Broker => "no broker",
            Missing::Coordinator => "no coordinator of the group",
            Missing::Membership => "not a member of the group",
        };
        write!(f, "{what} for {} s", self.since.elapsed().as_secs())?;
        match self.seen.as_str() {
            "" => Ok(()),
            seen => write!(f, " ({seen})"),
        }
    }
}

/// From what the client reports of itself, and from what another one was told.
#[derive(Debug, Default)]
pub(crate) struct Reach {
    loss: Option<Loss>,
}

impl Reach {
    pub(crate) fn loss(&self) -> Option<&Loss> {
        self.loss.as_ref()
    }

    /// A loss too long to be a part of a rebalance.
    pub(crate) fn is_out(&self, now: Instant) -> bool {
        let long = |loss: &Loss| now.duration_since(loss.since) >= GRACE;
        self.loss.as_ref().is_some_and(long)
    }

    /// The group has given partitions to this client.
    pub(crate) fn joined(&mut self) {
        self.loss = None;
    }

    /// The client says that no broker is left.
    pub(crate) fn cut_off(&mut self, now: Instant) {
        self.lose(now, Missing::Broker, String::new());
    }

    pub(crate) fn observe(&mut self, now: Instant, statistics: &Statistics) {
        match Missing::of(statistics) {
            Some(missing) => self.lose(now, missing, seen(statistics)),
            None => self.loss = None,
        }
    }

    /// Another client has asked for the same group.
    pub(crate) fn other_asked(&mut self, now: Instant, answered: bool) {
        if let Some(loss) = &mut self.loss {
            loss.answered = answered.then(|| loss.answered.unwrap_or(now));
        }
    }

    /// The loss that only a new client ends.
    pub(crate) fn given_up(&self, now: Instant) -> Option<&Loss> {
        self.loss.as_ref().filter(|loss| {
            loss.answered
                .is_some_and(|since| now.duration_since(since) >= loss.missing.patience())
        })
    }

    fn lose(&mut self, now: Instant, missing: Missing, seen: String) {
        let loss = self.loss.get_or_insert_with(|| Loss {
            missing,
            since: now,
            answered: None,
            seen: String::new(),
        });
        if loss.missing != missing {
            // a step back or forth: its own patience begins
            (loss.missing, loss.answered) = (missing, None);
        }
        loss.seen = seen;
    }
}

/// What a reader of the log needs to understand a loss: brokers by name, and the state of the membership.
fn seen(statistics: &Statistics) -> String {
    let brokers = statistics
        .brokers
        .values()
        .filter(|broker| matches!(broker.source.as_str(), "learned" | "configured" | "logical"));
    let mut parts: Vec<String> = brokers
        .map(|broker| format!("{} {}", broker.name, broker.state))
        .collect();
    if let Some(group) = &statistics.cgrp {
        parts.push(format!(
            "coordinator {}, membership {}",
            group.state, group.join_state
        ));
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use rdkafka::statistics::{Broker, ConsumerGroup};

    use super::*;

    fn at(begin: Instant, seconds: u64) -> Instant {
        begin + Duration::from_secs(seconds)
    }

    fn reported(brokers: &[(&str, &str)], state: &str, join_state: &str) -> Statistics {
        let broker = |(source, state): &(&str, &str)| {
            let broker = Broker {
                source: (*source).to_owned(),
                state: (*state).to_owned(),
                ..Broker::default()
            };
            ((*source).to_owned(), broker)
        };
        Statistics {
            brokers: brokers.iter().map(broker).collect(),
            cgrp: Some(ConsumerGroup {
                state: state.to_owned(),
                join_state: join_state.to_owned(),
                ..ConsumerGroup::default()
            }),
            ..Statistics::default()
        }
    }

    fn steady() -> Statistics {
        reported(&[("learned", "UP")], "up", "steady")
    }

    #[test]
    fn what_is_missing_is_the_first_thing_needed() {
        let own = [("internal", "UP"), ("logical", "UP"), ("learned", "DOWN")];
        let cases = [
            (reported(&own, "up", "steady"), Some(Missing::Broker)),
            (
                reported(&[("configured", "UP")], "query-coord", "steady"),
                Some(Missing::Coordinator),
            ),
            (
                reported(&[("learned", "UP")], "up", "wait-join"),
                Some(Missing::Membership),
            ),
            (steady(), None),
        ];
        for (statistics, missing) in cases {
            assert_eq!(Missing::of(&statistics), missing, "{statistics:?}");
        }
    }

    #[test]
    fn an_outage_that_every_client_sees_is_waited_for() {
        let (begin, mut reach) = (Instant::now(), Reach::default());
        reach.cut_off(begin);
        for seconds in (0..100_000).step_by(5) {
            reach.observe(at(begin, seconds), &reported(&[], "query-coord", "init"));
            reach.other_asked(at(begin, seconds), false);
            assert!(reach.given_up(at(begin, seconds)).is_none());
        }
        assert!(reach.is_out(at(begin, 10)));
        reach.observe(at(begin, 100_000), &steady());
        assert!(reach.loss().is_none());
    }

    #[test]
    fn a_client_that_alone_finds_nobody_is_given_up_after_its_patience() {
        for (statistics, patience) in [
            (reported(&[], "query-coord", "init"), SEARCH),
            (
                reported(&[("configured", "UP")], "wait-coord", "init"),
                SEARCH,
            ),
            (reported(&[("learned", "UP")], "up", "wait-join"), JOIN),
        ] {
            let (begin, mut reach) = (Instant::now(), Reach::default());
            reach.observe(begin, &statistics);
            reach.other_asked(at(begin, 30), true);
            reach.other_asked(at(begin, 35), true);
            let last = at(begin, 30) + patience;
            assert!(reach.given_up(last - Duration::from_secs(1)).is_none());
            assert!(reach.given_up(last).is_some());
        }
    }

    #[test]
    fn patience_begins_anew_when_the_others_were_cut_off_too_and_when_the_client_gets_further() {
        let (begin, mut reach) = (Instant::now(), Reach::default());
        reach.cut_off(begin);
        reach.other_asked(begin, true);
        reach.other_asked(at(begin, 15), false);
        reach.other_asked(at(begin, 18), true);
        assert!(reach.given_up(at(begin, 27)).is_none());
        assert!(reach.given_up(at(begin, 28)).is_some());
        let further = reported(&[("learned", "UP")], "up", "wait-join");
        reach.observe(at(begin, 30), &further);
        assert!(reach.given_up(at(begin, 60)).is_none());
        reach.joined();
        assert!(reach.loss().is_none());
    }
}
