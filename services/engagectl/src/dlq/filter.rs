//! Which letters are meant. Pure.
//!
//! Invariant: a letter passes only if it is known to: what it does not say, it does not pass.

use std::borrow::Cow;
use std::str::FromStr;

use engagement::envelope::{Parser, TableSchema};
use engagement::event::Micros;
use service::Failure;
use stream::dead_letter::{Letter, Place};

use super::args::FilterArgs;
use crate::pipeline::SERVICES;

/// A topic, a partition of it, or one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: Option<i32>,
    /// The offset.
    pub offset: Option<i64>,
}

impl Origin {
    fn is(&self, place: &Place) -> bool {
        self.topic == place.topic
            && self
                .partition
                .is_none_or(|number| number == place.partition)
            && self.offset.is_none_or(|offset| offset == place.offset)
    }
}

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || {
            format!(
                "{text:?} is not TOPIC, TOPIC/PARTITION or TOPIC/PARTITION/OFFSET, such as engagement.enriched.v1/3"
            )
        };
        let mut parts = text.split('/');
        let topic = parts.next().filter(|topic| !topic.is_empty());
        let origin = Self {
            topic: topic.ok_or_else(wrong)?.to_owned(),
            partition: natural(parts.next()).map_err(|()| wrong())?,
            offset: natural(parts.next()).map_err(|()| wrong())?,
        };
        match parts.next() {
            None => Ok(origin),
            Some(_) => Err(wrong()),
        }
    }
}

fn natural<T: FromStr + PartialOrd + Default>(text: Option<&str>) -> Result<Option<T>, ()> {
    let read = |text: &str| text.parse::<T>().ok().filter(|n| *n >= T::default());
    text.map(|text| read(text).ok_or(())).transpose()
}

/// A place as it is asked for: `3:17`, or `topic/3/17`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Partition and offset in a dead-letter topic.
    Short(i32, i64),
    /// A letter or a record that was given up.
    Whole(Place),
}

impl Wanted {
    /// Whether this is the letter, or its record.
    #[must_use]
    pub fn is(&self, letter: &Letter) -> bool {
        match self {
            Self::Short(partition, offset) => {
                (letter.at.partition, letter.at.offset) == (*partition, *offset)
            }
            Self::Whole(place) => letter.at == *place || letter.origin.as_ref() == Some(place),
        }
    }
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(place) = text.parse() {
            return Ok(Self::Whole(place));
        }
        let read = || {
            let (partition, offset) = text.split_once(':')?;
            let partition = natural(Some(partition)).ok()??;
            Some(Self::Short(partition, natural(Some(offset)).ok()??))
        };
        read().ok_or_else(|| {
            format!(
                "{text:?} is neither PARTITION:OFFSET, such as 3:17, nor TOPIC/PARTITION/OFFSET"
            )
        })
    }
}

/// What is wanted of all letters.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    services: Vec<String>,
    reasons: Vec<String>,
    since: Option<Micros>,
    until: Option<Micros>,
    content: Option<String>,
    origin: Option<Origin>,
    keys: Parser,
}

impl Filter {
    /// Judges the arguments.
    ///
    /// # Errors
    /// An unknown service, or a range without anything in it (64).
    pub(super) fn of(args: &FilterArgs, now: i64) -> Result<Self, Failure> {
        for name in &args.service {
            known(name)?;
        }
        let since = args.since.map(|moment| moment.micros(now));
        let until = args.until.map(|moment| moment.micros(now));
        if let (Some(since), Some(until)) = (since, until)
            && since >= until
        {
            return Err(
                Failure::usage(format!("nothing lies between {since} and {until}"))
                    .remedy("let --since be before --until"),
            );
        }
        Ok(Self {
            services: args.service.clone(),
            reasons: args.reason.clone(),
            since,
            until,
            content: args.content.clone(),
            origin: args.origin.clone(),
            keys: keys(),
        })
    }

    /// The services whose topics are read.
    pub(super) fn services(&self) -> Vec<&'static str> {
        let wanted = |service: &&str| {
            self.services.is_empty() || self.services.iter().any(|name| of(name) == *service)
        };
        SERVICES.into_iter().filter(wanted).collect()
    }

    pub(super) fn passes(&self, letter: &Letter) -> bool {
        let is_named = |name: &String| *name == letter.service || *name == letter.consumer();
        let at = letter.failed_at();
        (self.services.is_empty() || self.services.iter().any(is_named))
            && (self.reasons.is_empty() || self.reasons.contains(&letter.kind))
            && self.since.is_none_or(|since| at >= since)
            && self.until.is_none_or(|until| at < until)
            && self.content.as_ref().is_none_or(|wanted| {
                content_of(&self.keys, letter).is_some_and(|found| found == *wanted)
            })
            && self
                .origin
                .as_ref()
                .is_none_or(|wanted| letter.origin.as_ref().is_some_and(|place| wanted.is(place)))
    }
}

/// The service that a name is of.
fn of(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

/// The service of that name, or of an endpoint of it.
pub(super) fn known(name: &str) -> Result<&'static str, Failure> {
    let found = SERVICES.into_iter().find(|service| *service == of(name));
    found.ok_or_else(|| {
        Failure::usage(format!("no service {name} writes dead letters")).remedy(format!(
            "one of {}, or webhook-forwarder.<endpoint>",
            SERVICES.join(", ")
        ))
    })
}

/// Keys of both topics carry the content's id.
pub(super) fn keys() -> Parser {
    Parser::new(TableSchema {
        content_id: "content_id".into(),
        ..TableSchema::default()
    })
}

/// The content that a letter's key names.
pub(super) fn content_of(keys: &Parser, letter: &Letter) -> Option<String> {
    let key = letter.record.key.as_deref()?;
    keys.content_key(Some(key)).ok().map(Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dlq::testing::{LetterOf, letter};

    fn filter(adjust: impl FnOnce(&mut FilterArgs)) -> Filter {
        let mut args = FilterArgs::default();
        adjust(&mut args);
        Filter::of(&args, 0).unwrap()
    }

    #[test]
    fn a_service_is_all_its_endpoints_and_an_endpoint_is_one() {
        let crm = letter(&LetterOf {
            service: "webhook-forwarder",
            endpoint: Some("crm"),
            ..LetterOf::default()
        });
        for (name, passes) in [
            ("webhook-forwarder", true),
            ("webhook-forwarder.crm", true),
            ("webhook-forwarder.erp", false),
            ("enricher", false),
        ] {
            let filter = filter(|args| args.service = vec![name.to_owned()]);
            assert_eq!(filter.passes(&crm), passes, "{name}");
            assert_eq!(filter.services().len(), 1);
        }
    }

    #[test]
    fn time_reason_content_and_origin_narrow() {
        let one = letter(&LetterOf::default());
        assert!(filter(|_| ()).passes(&one));
        assert!(
            filter(|args| args.since = Some("2026-01-08T14:00:00Z".parse().unwrap())).passes(&one)
        );
        assert!(
            !filter(|args| args.until = Some("2026-01-08T14:00:00Z".parse().unwrap())).passes(&one)
        );
        assert!(!filter(|args| args.reason = vec!["other".into()]).passes(&one));
        assert!(filter(|args| args.content = Some("c1".into())).passes(&one));
        assert!(!filter(|args| args.content = Some("c2".into())).passes(&one));
        for (origin, passes) in [
            ("cdc", true),
            ("cdc/3", true),
            ("cdc/3/42", true),
            ("cdc/3/43", false),
        ] {
            let filter = filter(|args| args.origin = Some(origin.parse().unwrap()));
            assert_eq!(filter.passes(&one), passes, "{origin}");
        }
    }

    #[test]
    fn a_service_that_is_none_and_a_range_with_nothing_in_it_are_refused() {
        let refused = |args: &FilterArgs| Filter::of(args, 0).unwrap_err();
        let unknown = FilterArgs {
            service: vec!["enrichr".into()],
            ..FilterArgs::default()
        };
        assert!(
            refused(&unknown)
                .remedy_text()
                .unwrap()
                .contains("enricher")
        );
        let reversed = FilterArgs {
            since: Some("2026-01-02".parse().unwrap()),
            until: Some("2026-01-01".parse().unwrap()),
            ..FilterArgs::default()
        };
        assert_eq!(refused(&reversed).exit().code(), 64);
    }

    #[test]
    fn a_place_is_short_or_whole_and_means_the_letter_or_its_record() {
        let one = letter(&LetterOf::default());
        for place in ["3:17", "engagement.dlq.enricher/3/17", "cdc/3/42"] {
            assert!(place.parse::<Wanted>().unwrap().is(&one), "{place}");
        }
        for place in ["3:18", "cdc/3/17"] {
            assert!(!place.parse::<Wanted>().unwrap().is(&one), "{place}");
        }
        for text in ["", "3", "3:", "-1:2", "a:b", "cdc/3"] {
            assert!(text.parse::<Wanted>().is_err(), "{text}");
        }
        for text in ["", "t/x", "t/1/2/3", "t/-1"] {
            assert!(text.parse::<Origin>().is_err(), "{text}");
        }
    }
}
