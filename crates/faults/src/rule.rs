//! Rules that a test breaks, to see that the chaos run finds what they prevent.
//!
//! Invariant: none is broken unless the environment names it, and in a release build none can be.

use std::str::FromStr;

use crate::Error;

/// A rule of the services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// What was sent again is dropped; broken: the enricher and every reader of its output take it for new.
    LineageCheck,
    /// The offset moves after the effect; broken: clickhouse-sink commits a batch before it is written.
    EffectFirst,
    /// The enricher resumes from the tail of its output; broken: from the committed offset.
    ResumeFromTail,
    /// A commit that decides where a reader goes on must carry its checkpoint, and the record before it must be the one
    /// that it names; broken: neither is asked for.
    ResumeProof,
}

impl Rule {
    /// Every rule.
    pub const ALL: [Self; 4] = [
        Self::LineageCheck,
        Self::EffectFirst,
        Self::ResumeFromTail,
        Self::ResumeProof,
    ];

    /// Its name, for example `effect-first`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::LineageCheck => "lineage-check",
            Self::EffectFirst => "effect-first",
            Self::ResumeFromTail => "resume-from-tail",
            Self::ResumeProof => "resume-proof",
        }
    }
}

impl FromStr for Rule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let named = Self::ALL.into_iter().find(|rule| rule.name() == text);
        named.ok_or_else(|| Error::Rule(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_read_by_its_name_and_another_name_is_refused_with_all_there_are() {
        for rule in Rule::ALL {
            assert_eq!(rule.name().parse(), Ok(rule));
        }
        let error = "effect-last".parse::<Rule>().unwrap_err().to_string();
        assert!(error.contains("effect-first, resume-from-tail"), "{error}");
    }
}
