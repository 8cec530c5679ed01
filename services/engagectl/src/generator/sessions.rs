//! One user with one content: play, pause, play again, finish; or a click on what has no length.
//!
//! Invariant: pure. What is watched in a session adds up to no more than the content's length, and to nearly all of it
//! where the session ends with `finish`.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// Longest time that is spent on a text, in milliseconds.
const READING: i64 = 600_000;

/// A session under way.
#[derive(Clone, Debug)]
pub(super) struct Session {
    /// Index into the list of contents.
    pub(super) content: Option<usize>,
    /// A user, numbered from 1.
    pub(super) user: i64,
    /// The client device, the same to the end.
    pub(super) device: Option<&'static str>,
    /// What has not been watched yet, in milliseconds; `None`: there is no length.
    left: Option<i64>,
    next: Next,
}

/// What the user does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Play,
    Pause,
    Resume,
    Finish,
    Click,
}

/// One action of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) event_type: &'static str,
    /// Watched since the action before, in milliseconds.
    pub(super) duration_ms: i64,
    /// Nothing follows.
    pub(super) is_last: bool,
}

impl Session {
    /// A session that begins. `length_seconds` is the content's, where it has one.
    pub(super) fn begin(
        content: Option<usize>,
        length_seconds: Option<i32>,
        user: i64,
        device: Option<&'static str>,
    ) -> Self {
        let left = length_seconds
            .filter(|seconds| *seconds > 0)
            .map(|seconds| i64::from(seconds) * 1000);
        Self {
            content,
            user,
            device,
            next: if left.is_some() {
                Next::Play
            } else {
                Next::Click
            },
            left,
        }
    }

    /// What the user does, and what that leaves to be done.
    pub(super) fn step(&mut self, rng: &mut ChaCha8Rng) -> Step {
        let now = self.next;
        let duration_ms = self.watch(now, rng);
        let after = follow(now, self.left.is_some(), rng.random_range(0..100));
        self.next = after.unwrap_or(now);
        Step {
            event_type: match now {
                Next::Play | Next::Resume => "play",
                Next::Pause => "pause",
                Next::Finish => "finish",
                Next::Click => "click",
            },
            duration_ms,
            is_last: after.is_none(),
        }
    }

    fn watch(&mut self, now: Next, rng: &mut ChaCha8Rng) -> i64 {
        let Some(left) = &mut self.left else {
            return match now {
                Next::Finish => rng.random_range(1_000..READING),
                _ => 0,
            };
        };
        let percent = match now {
            Next::Play => rng.random_range(1..=30),
            Next::Finish => rng.random_range(96..=100),
            Next::Pause | Next::Resume => rng.random_range(1..=40),
            Next::Click => 0,
        };
        let watched = *left * percent / 100;
        *left -= watched;
        watched
    }
}

/// What follows, by a number below 100; `None`: the user is gone.
const fn follow(now: Next, has_length: bool, chance: u32) -> Option<Next> {
    match (now, chance) {
        (Next::Play, 0..45) => Some(Next::Pause),
        (Next::Play, 45..80) => Some(Next::Finish),
        (Next::Pause, 0..85) => Some(Next::Resume),
        (Next::Resume, 0..25) => Some(Next::Pause),
        (Next::Resume, 25..90) => Some(Next::Finish),
        // a text that was read to its end
        (Next::Click, 0..20) if !has_length => Some(Next::Finish),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;

    use super::*;

    fn whole(seed: u64, length: Option<i32>) -> Vec<Step> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut session = Session::begin(Some(0), length, 1, None);
        let mut steps = Vec::new();
        while steps.last().is_none_or(|step: &Step| !step.is_last) {
            steps.push(session.step(&mut rng));
        }
        steps
    }

    proptest! {
        #[test]
        fn nobody_watches_more_than_there_is_and_who_finishes_has_seen_nearly_all(
            seed in any::<u64>(), length in 1..100_000_i32,
        ) {
            let steps = whole(seed, Some(length));
            let watched: i64 = steps.iter().map(|step| step.duration_ms).sum();
            let all = i64::from(length) * 1000;
            prop_assert!(steps.iter().all(|step| step.duration_ms >= 0));
            prop_assert!(watched <= all, "{watched} of {all}");
            let finished = steps.last().is_some_and(|step| step.event_type == "finish");
            prop_assert!(!finished || watched * 100 >= all * 95, "{watched} of {all}");
            prop_assert!(finished == steps.iter().any(|step| step.event_type == "finish"));
        }

        #[test]
        fn a_session_begins_with_a_play_and_pauses_only_what_plays(seed in any::<u64>()) {
            let steps = whole(seed, Some(600));
            prop_assert_eq!(steps[0].event_type, "play");
            for pair in steps.windows(2) {
                let (before, after) = (pair[0].event_type, pair[1].event_type);
                prop_assert!(before != after, "{before} twice");
                prop_assert!(after != "pause" || before == "play");
                prop_assert!(after != "finish" || before == "play");
            }
        }
    }

    #[test]
    fn what_has_no_length_is_clicked_on_and_sometimes_read() {
        let all: Vec<Vec<Step>> = (0..200).map(|seed| whole(seed, None)).collect();
        assert!(all.iter().all(|steps| steps[0].event_type == "click"));
        assert!(all.iter().any(|steps| steps.len() == 2));
        assert!(all.iter().any(|steps| steps.len() == 1));
    }

    #[test]
    fn most_forms_of_a_session_occur() {
        let forms: std::collections::BTreeSet<Vec<&str>> = (0..500)
            .map(|seed| whole(seed, Some(300)))
            .map(|steps| steps.iter().map(|step| step.event_type).collect())
            .collect();
        for form in [
            &["play"][..],
            &["play", "finish"],
            &["play", "pause", "play", "finish"],
        ] {
            assert!(forms.contains(form), "{form:?}");
        }
    }
}
