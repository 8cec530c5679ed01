//! The names of all fault points.
//!
//! Invariant: a name is `<service>.<step>.<before|after>`; those of `stream` count for every service that uses it.

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// Declares each point once: its variant, its name, and whether the step can answer an error there.
macro_rules! points {
    ($($variant:ident = $name:literal $($fails:ident)?: $about:literal;)*) => {
        /// A place in a service.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Point {
            $(#[doc = $about] $variant,)*
        }

        impl Point {
            /// Every point.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Its name, for example `enricher.tail.before`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// Whether the step has an error to answer here (action `fail`).
            #[must_use]
            pub const fn can_fail(self) -> bool {
                match self { $(Self::$variant => points!(@fails $($fails)?)),* }
            }
        }
    };
    (@fails fails) => { true };
    (@fails) => { false };
}

points! {
    EnricherTailBefore = "enricher.tail.before" fails: "The tail of the own output is about to be read.";
    EnricherTailAfter = "enricher.tail.after": "The tail was read.";
    EnricherLookupBefore = "enricher.lookup.before" fails: "Postgres is about to be asked for a content.";
    EnricherLookupAfter = "enricher.lookup.after": "Postgres has answered.";
    StreamCommitBefore = "stream.commit.before" fails: "An offset is about to be committed.";
    StreamCommitAfter = "stream.commit.after": "A commit was sent.";
}

impl Point {
    /// The service that it lies in, or `stream` for one that several services pass.
    #[must_use]
    pub fn service(self) -> &'static str {
        self.name().split('.').next().unwrap_or_default()
    }

    /// Whether a process of this service passes it.
    #[must_use]
    pub fn is_passed_by(self, service: &str) -> bool {
        self.service() == "stream" || self.service() == service
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Point {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL
            .iter()
            .copied()
            .find(|point| point.name() == text)
            .ok_or_else(|| Error::Point(text.to_owned(), nearest(text)))
    }
}

/// The name that shares the longest beginning.
fn nearest(text: &str) -> &'static str {
    let common = |name: &str| {
        name.bytes()
            .zip(text.bytes())
            .take_while(|(a, b)| a == b)
            .count()
    };
    Point::ALL
        .iter()
        .map(|point| point.name())
        .max_by_key(|name| (common(name), std::cmp::Reverse(name.len())))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_name_is_unique_has_three_parts_and_is_read_back() {
        let names: BTreeSet<&str> = Point::ALL.iter().map(|point| point.name()).collect();
        assert_eq!(names.len(), Point::ALL.len());
        for point in Point::ALL {
            assert_eq!(point.name().parse(), Ok(*point));
            let parts: Vec<&str> = point.name().split('.').collect();
            assert!(matches!(parts[..], [_, _, "before" | "after"]), "{point}");
        }
    }

    #[test]
    fn a_point_of_stream_is_passed_by_every_service_and_another_by_its_own_only() {
        assert!(Point::StreamCommitBefore.is_passed_by("enricher"));
        assert!(Point::EnricherTailBefore.is_passed_by("enricher"));
        assert!(!Point::EnricherTailBefore.is_passed_by("clickhouse-sink"));
    }
}
