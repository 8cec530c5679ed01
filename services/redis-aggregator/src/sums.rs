//! What one event adds to a content, and what takes it away again.
//!
//! Invariant: sums are integers, and the sums of a `previous` image are the exact inverse of what the event it
//! replaces had added.

use engagement::event::{EnrichedEvent, Micros, Previous};

/// Number of integers in [`Sums`].
pub const FIELDS: usize = 7;

/// The longest duration that is summed, in milliseconds: 2^36, about two years. Redis orders and Lua computes with
/// doubles, which are exact up to 2^53: with this bound 131,072 such events of one content still sum exactly.
pub const MAX_DURATION_MS: i64 = 1 << 36;

/// Integer sums over events of one content.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Sums {
    /// Events.
    pub events: i64,
    /// Milliseconds of those with a duration.
    pub ms: i64,
    /// Events with a duration.
    pub timed: i64,
    /// Events of type `play`.
    pub play: i64,
    /// Events of type `pause`.
    pub pause: i64,
    /// Events of type `finish`.
    pub finish: i64,
    /// Events of type `click`.
    pub click: i64,
}

impl Sums {
    /// The sums of one event.
    #[must_use]
    pub fn of(event_type: &str, duration_ms: Option<i64>) -> Self {
        let mut sums = Self {
            events: 1,
            ms: duration_ms.unwrap_or(0),
            timed: i64::from(duration_ms.is_some()),
            ..Self::default()
        };
        match event_type {
            "play" => sums.play = 1,
            "pause" => sums.pause = 1,
            "finish" => sums.finish = 1,
            "click" => sums.click = 1,
            _ => {}
        }
        sums
    }

    /// In the order in which they are stored.
    #[must_use]
    pub const fn to_array(self) -> [i64; FIELDS] {
        [
            self.events,
            self.ms,
            self.timed,
            self.play,
            self.pause,
            self.finish,
            self.click,
        ]
    }

    /// From the stored order.
    #[must_use]
    pub const fn from_array(
        [events, ms, timed, play, pause, finish, click]: [i64; FIELDS],
    ) -> Self {
        Self {
            events,
            ms,
            timed,
            play,
            pause,
            finish,
            click,
        }
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self == Self::default()
    }
}

impl std::ops::AddAssign for Sums {
    fn add_assign(&mut self, other: Self) {
        let (a, b) = (self.to_array(), other.to_array());
        *self = Self::from_array(std::array::from_fn(|i| a[i].saturating_add(b[i])));
    }
}

impl std::ops::Neg for Sums {
    type Output = Self;

    fn neg(self) -> Self {
        Self::from_array(self.to_array().map(i64::saturating_neg))
    }
}

/// A change of the sums of one content at one event time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Contribution<'a> {
    /// The content whose sums change.
    pub content_id: &'a str,
    /// When the counted event happened.
    pub event_ts: Micros,
    /// The change; negative when it takes something away.
    pub sums: Sums,
}

/// The changes one record makes: what it replaces, taken away, then what it adds. An event without content
/// changes nothing.
///
/// A move to another content (rule 10) comes as two records: the deletion takes the event from the old content,
/// the new image adds it to the new one and takes nothing away, even if it names what it replaces.
#[must_use]
pub fn contributions(event: &EnrichedEvent) -> [Option<Contribution<'_>>; 2] {
    let removed = match (&event.previous, event.deleted) {
        (Some(previous), true) => removal(previous),
        (Some(previous), false) if !event.moved => removal(previous),
        (None, true) => addition(event).map(|added| Contribution {
            sums: -added.sums,
            ..added
        }),
        _ => None,
    };
    let added = if event.deleted { None } else { addition(event) };
    [removed, added]
}

/// Whether the duration can be summed exactly.
#[must_use]
pub fn is_summable(duration_ms: Option<i64>) -> bool {
    duration_ms.is_none_or(|ms| (-MAX_DURATION_MS..=MAX_DURATION_MS).contains(&ms))
}

fn addition(event: &EnrichedEvent) -> Option<Contribution<'_>> {
    contribution(
        event.content_id.as_deref(),
        event.event_ts,
        &event.event_type,
        event.duration_ms,
    )
}

fn removal(previous: &Previous) -> Option<Contribution<'_>> {
    let added = contribution(
        previous.content_id.as_deref(),
        previous.event_ts,
        &previous.event_type,
        previous.duration_ms,
    )?;
    Some(Contribution {
        sums: -added.sums,
        ..added
    })
}

/// `None` for what was never counted: no content, or a duration beyond the bound (it went to the dead letters).
fn contribution<'a>(
    content_id: Option<&'a str>,
    event_ts: Micros,
    event_type: &str,
    duration_ms: Option<i64>,
) -> Option<Contribution<'a>> {
    let content_id = content_id.filter(|_| is_summable(duration_ms))?;
    Some(Contribution {
        content_id,
        event_ts,
        sums: Sums::of(event_type, duration_ms),
    })
}

#[cfg(test)]
mod tests {
    use engagement::testing::{Sample, sample};
    use proptest::prelude::*;

    use super::*;

    fn total(events: &[EnrichedEvent]) -> Sums {
        let mut sums = Sums::default();
        for event in events {
            for contribution in contributions(event).into_iter().flatten() {
                sums += contribution.sums;
            }
        }
        sums
    }

    #[test]
    fn an_event_adds_itself_to_its_content() {
        let event = sample();
        let [removed, added] = contributions(&event);
        assert_eq!(removed, None);
        let sums = Sums {
            events: 1,
            ms: 7_000,
            timed: 1,
            play: 1,
            ..Sums::default()
        };
        assert_eq!(added.unwrap().sums, sums);
    }

    #[test]
    fn an_event_without_content_changes_nothing() {
        assert_eq!(
            contributions(&Sample::new().no_content().build()),
            [None, None]
        );
    }

    #[test]
    fn a_deletion_without_a_before_image_takes_away_its_own_values() {
        let mut gone = Sample::new().deleted().build();
        gone.previous = None;
        assert!(total(&[sample(), gone]).is_zero());
    }

    #[test]
    fn a_move_takes_from_the_old_content_and_adds_to_the_new_one_once() {
        let before = Sample::new().content_id("a").build();
        let gone = Sample::new().content_id("a").moved().deleted().build();
        let mut came = Sample::new().content_id("b").moved().build();
        came.previous = gone.previous.clone();
        assert_eq!(total(&[before, gone, came.clone()]), total(&[came.clone()]));
        assert_eq!(
            contributions(&came)[1].as_ref().map(|c| c.content_id),
            Some("b")
        );
    }

    #[test]
    fn a_duration_that_was_never_counted_is_not_taken_away() {
        let absurd = Sample::new().duration_ms(i64::MAX).build();
        let repaired = Sample::new().duration_ms(1).replacing(&absurd).build();
        assert_eq!(total(&[repaired]).events, 1);
    }

    proptest! {
        #[test]
        fn an_update_leaves_only_the_new_image(
            old in proptest::option::of(-MAX_DURATION_MS..MAX_DURATION_MS),
            new in proptest::option::of(-MAX_DURATION_MS..MAX_DURATION_MS),
            kinds in ("play|pause|finish|click|other", "play|pause|finish|click|"),
        ) {
            let before = Sample::new().duration_ms(old).event_type(&kinds.0).build();
            let after = Sample::new().duration_ms(new).event_type(&kinds.1).replacing(&before).build();
            let mut alone = after.clone();
            alone.previous = None;
            prop_assert_eq!(total(&[before, after]), total(&[alone]));
        }

        #[test]
        fn a_deletion_leaves_nothing(ms in proptest::option::of(-MAX_DURATION_MS..MAX_DURATION_MS), kind in "play|pause|x") {
            let event = Sample::new().duration_ms(ms).event_type(&kind).build();
            let gone = Sample::new().duration_ms(ms).event_type(&kind).deleted().build();
            prop_assert!(total(&[event, gone]).is_zero());
        }
    }
}
