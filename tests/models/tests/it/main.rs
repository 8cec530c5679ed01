//! The models at work: random schedules, exhausted small worlds, and what they find once a rule is broken.

mod broken;
mod exhaustive;
mod schedules;
