//! What an event of each type counts in the score `weighted`.
//!
//! Invariant: the script gets integers; three decimals count, and no rounding happens after them.

use serde::Deserialize;

/// Points per event type; three decimals count.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Weights {
    /// Points of a `play`.
    pub play: f64,
    /// Points of a `pause`.
    pub pause: f64,
    /// Points of a `finish`.
    pub finish: f64,
    /// Points of a `click`.
    pub click: f64,
    /// Points of any other type.
    pub other: f64,
}

impl Default for Weights {
    fn default() -> Self {
        Self {
            play: 1.0,
            pause: 0.5,
            finish: 3.0,
            click: 0.3,
            other: 0.0,
        }
    }
}

impl Weights {
    /// In thousandths, in the order of the stored sums, other types last.
    #[must_use]
    pub fn milli(&self) -> [i64; 5] {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "checked to lie between 0 and 1000"
        )]
        let milli = |points: f64| (points * 1000.0).round() as i64;
        [self.play, self.pause, self.finish, self.click, self.other].map(milli)
    }
}
