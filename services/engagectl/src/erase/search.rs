//! Where a person is found, and how often. Pure.
//!
//! Invariant: a place that was looked at is listed, also with a count of 0.

use engagement::event::Micros;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stream::dead_letter;

/// A part of a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Place {
    /// `postgres`, `clickhouse` or `redis`.
    pub(super) store: &'static str,
    /// A table, or what keys are called.
    pub(super) name: String,
    /// Rows, keys, or entries of streams.
    pub(super) count: u64,
}

/// One look at everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) places: Vec<Place>,
    /// Dead letters that name the person; they stay until they expire or are purged.
    pub(super) letters: Vec<dead_letter::Place>,
}

/// The counts of a look, as they are noted: by store and name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Noted(Vec<(String, String, u64)>);

/// A topic that holds records of the person until they expire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) topic: String,
    /// When the last of them is old enough to go; `None`: never, by the topic's settings.
    pub(super) gone_by: Option<Micros>,
}

impl Kept {
    /// What is written until `now` goes after the topic's retention (milliseconds, -1: never).
    pub(super) fn new(topic: &str, now: Micros, retention_ms: i64) -> Self {
        let gone_by = (retention_ms >= 0)
            .then(|| Micros(now.0.saturating_add(retention_ms.saturating_mul(1000))));
        Self {
            topic: topic.to_owned(),
            gone_by,
        }
    }

    pub(super) fn value(&self) -> Value {
        json!({ "topic": self.topic, "gone_by": self.gone_by.map(|at| at.to_string()) })
    }
}

impl Found {
    /// How often a place of this name has the person.
    pub(super) fn count(&self, place: &Place) -> u64 {
        let same = |other: &&Place| (other.store, &other.name) == (place.store, &place.name);
        self.places.iter().find(same).map_or(0, |other| other.count)
    }

    /// Everything in the stores together.
    pub(super) fn total(&self) -> u64 {
        self.places.iter().map(|place| place.count).sum()
    }

    /// What is left in one store.
    pub(super) fn total_of(&self, store: &str) -> u64 {
        let of_store = self.places.iter().filter(|place| place.store == store);
        of_store.map(|place| place.count).sum()
    }

    /// The places of both, with the counts of this one.
    pub(super) fn union(&self, other: &Self) -> Vec<Place> {
        let mut places = self.places.clone();
        for place in &other.places {
            let known = |known: &Place| (known.store, &known.name) == (place.store, &place.name);
            if !places.iter().any(known) {
                places.push(Place {
                    count: 0,
                    ..place.clone()
                });
            }
        }
        places
    }

    pub(super) fn noted(&self) -> Noted {
        let note = |place: &Place| (place.store.to_owned(), place.name.clone(), place.count);
        Noted(self.places.iter().map(note).collect())
    }

    /// What was there before a run that was killed had begun: it has removed some of it since.
    #[must_use]
    pub(super) fn since(mut self, noted: &Noted) -> Self {
        for place in &mut self.places {
            let same = noted
                .0
                .iter()
                .find(|(store, name, _)| (store.as_str(), name) == (place.store, &place.name));
            place.count = place.count.max(same.map_or(0, |(_, _, count)| *count));
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(counts: &[u64]) -> Found {
        let place = |(n, count): (usize, &u64)| Place {
            store: ["postgres", "clickhouse", "redis"][n % 3],
            name: format!("place {n}"),
            count: *count,
        };
        Found {
            places: counts.iter().enumerate().map(place).collect(),
            letters: Vec::new(),
        }
    }

    proptest! {
        #[test]
        fn a_run_that_goes_on_reports_what_the_first_one_found(
            pairs in prop::collection::vec((0..1000_u64, 0..1000_u64), 1..6),
        ) {
            let first: Vec<u64> = pairs.iter().map(|(first, _)| *first).collect();
            let left: Vec<u64> = pairs.iter().map(|(first, left)| *left.min(first)).collect();
            let text = serde_json::to_string(&found(&first).noted()).unwrap();
            let noted: Noted = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(found(&left).since(&noted), found(&first));
        }
    }

    #[test]
    fn what_came_since_counts_too_and_what_is_not_looked_at_any_more_does_not() {
        let later = found(&[5, 9]).since(&found(&[7, 3, 4]).noted());
        assert_eq!(later, found(&[7, 9]));
        assert_eq!((later.total(), later.total_of("clickhouse")), (16, 9));
    }

    #[test]
    fn a_place_that_was_found_later_is_listed_with_nothing_before() {
        let all = found(&[1]).union(&found(&[0, 0]));
        assert_eq!(all, found(&[1, 0]).places);
    }

    #[test]
    fn retention_says_when_and_minus_one_is_never() {
        let kept = |ms| Kept::new("t", Micros(1_000_000), ms).gone_by;
        assert_eq!(kept(2_000), Some(Micros(3_000_000)));
        assert_eq!(kept(-1), None);
        assert_eq!(kept(i64::MAX), Some(Micros(i64::MAX)));
        assert!(Kept::new("t", Micros(0), -1).value()["gone_by"].is_null());
    }
}
