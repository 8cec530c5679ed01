//! When the events happened of which a sink has too few.
//!
//! Invariant: every cell with fewer events lies in it, and nothing outside the bounds of the comparison does.

use engagement::event::Micros;
use serde::{Deserialize, Serialize};

use crate::cell::MINUTE;
use crate::sources::Options;

/// Whole minutes, except where the bounds of the comparison cut them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lacking {
    /// The first of them happened at or after this time.
    pub from: Micros,
    /// The last one happened before this time.
    pub to: Micros,
}

impl Lacking {
    /// What was lacking until now, if anything was, and this minute (since 1970).
    pub(crate) fn with(lacking: Option<Self>, minute: i64) -> Self {
        let from = Micros(minute.saturating_mul(MINUTE));
        let to = Micros(minute.saturating_add(1).saturating_mul(MINUTE));
        lacking.map_or(Self { from, to }, |lacking| Self {
            from: lacking.from.min(from),
            to: lacking.to.max(to),
        })
    }

    /// Without what was not compared.
    pub(crate) fn within(self, options: &Options) -> Self {
        Self {
            from: options.from.map_or(self.from, |from| self.from.max(from)),
            to: options.to.map_or(self.to, |to| self.to.min(to)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_are_taken_together_and_cut_at_the_bounds_of_the_comparison() {
        let lacking = Lacking::with(Some(Lacking::with(None, 5)), 2);
        let (two, six) = (Micros(2 * MINUTE), Micros(6 * MINUTE));
        assert_eq!((lacking.from, lacking.to), (two, six));
        assert_eq!(lacking.within(&Options::default()), lacking);
        let bounds = Options {
            from: Some(Micros(two.0 + 1)),
            to: Some(Micros(six.0 - 1)),
            ..Options::default()
        };
        let cut = lacking.within(&bounds);
        assert_eq!((cut.from.0, cut.to.0), (two.0 + 1, six.0 - 1));
    }
}
