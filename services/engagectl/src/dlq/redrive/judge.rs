//! Whether a letter can go back, and where to. Pure.
//!
//! Invariant: what is sent will not be taken for a repeat by the one it is for, and has no effect on any other; what cannot
//! be sent so is refused, with what to do instead.

use std::collections::BTreeSet;

use engagement::envelope::{CdcRecord, Parser, TableSchema};
use stream::dead_letter::{Letter, Place};

use crate::config::Config;
use crate::dlq::summary::Summary;

/// What becomes of a letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::dlq) enum Verdict {
    /// It is sent to this topic, to the partition of its record.
    Send(String),
    /// It was sent before.
    Done,
    /// It is not sent.
    Refused(Refusal),
}

/// Why a letter is not sent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub(in crate::dlq) enum Refusal {
    #[error("it has been redriven {0} times and came back")]
    TooOften(u32),
    #[error(
        "it does not say where its record stood, so it was not written by a service of this version"
    )]
    NoOrigin,
    #[error("its record stood in topic {found}, the configuration names {expected}")]
    OtherTopic { found: String, expected: String },
    #[error("its record was written by a backfill")]
    Backfill,
    #[error("its record stood in another partition than the letter")]
    OtherPartition,
    #[error("the enricher would give it up again: {0}")]
    StillRejected(String),
    #[error("it does not say in which epoch it was given up, so its revision cannot be told")]
    NoEpoch,
    #[error(
        "redis-aggregator keeps no ids of events, so a record that comes beside the chain would be counted twice or not at all"
    )]
    Aggregates,
    #[error("it does not name its webhook endpoint")]
    NoEndpoint,
    #[error("nobody reads: no group of {0} has a position")]
    NoReader(String),
}

impl Refusal {
    /// What to do instead.
    pub(in crate::dlq) const fn remedy(&self) -> &'static str {
        match self {
            Self::TooOften(_) => {
                "look at it (engagectl dlq show), repair what refuses it, then raise --max-redrives"
            }
            Self::NoOrigin | Self::OtherPartition => {
                "write the row again in Postgres: any update of it makes a new change"
            }
            Self::OtherTopic { .. } => {
                "set KAFKA_CDC_TOPIC and KAFKA_ENRICHED_TOPIC as the service has them"
            }
            Self::Backfill => {
                "repair the cause and run that backfill again: engagectl backfill --list names it"
            }
            Self::StillRejected(_) => {
                "correct the row in Postgres, which makes a new change; or redrive after an enricher that can read it runs"
            }
            Self::NoEpoch => "write the row again in Postgres: any update of it makes a new change",
            Self::Aggregates => {
                "repair the cause; engagectl verify names what Redis lacks, docs/disaster-recovery.md how its totals are made anew"
            }
            Self::NoEndpoint => {
                "write the row again in Postgres: any update of it makes a new message"
            }
            Self::NoReader(_) => {
                "start it; if the endpoint has another name now, its letters cannot be sent"
            }
        }
    }
}

/// What is known beside the letters.
#[derive(Clone, Debug)]
pub(in crate::dlq) struct Facts {
    pub(in crate::dlq) cdc: String,
    pub(in crate::dlq) enriched: String,
    pub(in crate::dlq) backfill: String,
    /// Services and endpoints whose group has a position: they will read what is sent.
    pub(in crate::dlq) readers: BTreeSet<String>,
    pub(in crate::dlq) max_redrives: u32,
    /// Also what was sent before.
    pub(in crate::dlq) again: bool,
}

impl Facts {
    /// What becomes of a letter that was sent to `done` before, if anywhere.
    /// `still`: why the enricher would give it up again, if it would.
    pub(in crate::dlq) fn judge(
        &self,
        letter: &Summary,
        done: Option<&Place>,
        still: Option<&str>,
    ) -> Verdict {
        if done.is_some() && !self.again {
            return Verdict::Done;
        }
        match self.target(letter, still) {
            Ok(topic) => Verdict::Send(topic.to_owned()),
            Err(refusal) => Verdict::Refused(refusal),
        }
    }

    fn target(&self, letter: &Summary, still: Option<&str>) -> Result<&str, Refusal> {
        if letter.redrives >= self.max_redrives {
            return Err(Refusal::TooOften(letter.redrives));
        }
        let topic = match letter.service.as_str() {
            "enricher" => {
                letter.epoch.ok_or(Refusal::NoEpoch)?;
                &self.cdc
            }
            "redis-aggregator" => return Err(Refusal::Aggregates),
            "webhook-forwarder" if letter.endpoint.is_none() => return Err(Refusal::NoEndpoint),
            _ => &self.enriched,
        };
        let origin = letter.origin.as_ref().ok_or(Refusal::NoOrigin)?;
        if origin.topic == self.backfill {
            return Err(Refusal::Backfill);
        }
        if origin.topic != *topic {
            return Err(Refusal::OtherTopic {
                found: origin.topic.clone(),
                expected: topic.clone(),
            });
        }
        if origin.partition != letter.at.partition {
            return Err(Refusal::OtherPartition);
        }
        if let Some(kind) = still {
            return Err(Refusal::StillRejected(kind.to_owned()));
        }
        let consumer = letter.consumer();
        if !self.readers.contains(&consumer) {
            return Err(Refusal::NoReader(consumer));
        }
        Ok(topic)
    }
}

/// Why the enricher would give a letter up again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::dlq) struct StillRejected {
    /// The reason, as a letter has it.
    pub(in crate::dlq) kind: String,
    /// With the values that were found.
    pub(in crate::dlq) message: String,
}

/// Reads change records as the enricher of this version does.
#[derive(Clone, Debug)]
pub(in crate::dlq) struct Reader(Parser);

impl Reader {
    /// With the columns of the configuration.
    pub(in crate::dlq) fn of(config: &Config) -> Self {
        Self(Parser::new(TableSchema {
            event_key: config.database.schema.event_key().into(),
            content_id: config.database.schema.content_key().into(),
            ..TableSchema::default()
        }))
    }

    /// Why the enricher would give this letter up again, if it is one of the enricher's and it would.
    pub(in crate::dlq) fn still_rejected(&self, letter: &Letter) -> Option<StillRejected> {
        if letter.service != "enricher" {
            return None;
        }
        let input = engagement::envelope::Input {
            key: letter.record.key.as_deref(),
            payload: letter.record.payload.as_deref(),
            moved: false,
        };
        match self.0.event(input) {
            Ok(CdcRecord::Change(_)) => None,
            Ok(_) => Some(StillRejected {
                kind: "no_change".to_owned(),
                message: "it is no change of a row".to_owned(),
            }),
            Err(reject) => Some(StillRejected {
                kind: reject.kind.to_string(),
                message: reject.message,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dlq::list::tests::summary;
    use crate::dlq::testing::{LetterOf, letter};

    fn facts() -> Facts {
        let readers = ["enricher", "clickhouse-sink", "webhook-forwarder.crm"];
        Facts {
            cdc: "cdc".into(),
            enriched: "enriched".into(),
            backfill: "backfill".into(),
            readers: readers.map(str::to_owned).into(),
            max_redrives: 3,
            again: false,
        }
    }

    fn of_sink(service: &str, endpoint: Option<&str>) -> Summary {
        Summary {
            service: service.into(),
            endpoint: endpoint.map(str::to_owned),
            origin: "enriched/3/42".parse().ok(),
            epoch: None,
            ..summary(17, "refused")
        }
    }

    fn refused(letter: &Summary) -> Refusal {
        match facts().judge(letter, None, None) {
            Verdict::Refused(refusal) => refusal,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_letter_goes_back_to_what_its_service_reads() {
        let judge = |letter: &Summary| facts().judge(letter, None, None);
        assert_eq!(judge(&summary(17, "x")), Verdict::Send("cdc".into()));
        for (service, endpoint) in [
            ("clickhouse-sink", None),
            ("webhook-forwarder", Some("crm")),
        ] {
            let sent = judge(&of_sink(service, endpoint));
            assert_eq!(sent, Verdict::Send("enriched".into()), "{service}");
        }
    }

    #[test]
    fn what_was_sent_is_not_sent_again_unless_that_is_asked_for() {
        let (letter, place) = (summary(17, "x"), "cdc/3/500".parse::<Place>().unwrap());
        assert_eq!(facts().judge(&letter, Some(&place), None), Verdict::Done);
        let again = Facts {
            again: true,
            ..facts()
        };
        assert_eq!(
            again.judge(&letter, Some(&place), None),
            Verdict::Send("cdc".into())
        );
    }

    #[test]
    fn what_would_be_counted_twice_or_dropped_is_refused() {
        assert_eq!(
            refused(&of_sink("redis-aggregator", None)),
            Refusal::Aggregates
        );
        assert_eq!(
            refused(&of_sink("webhook-forwarder", None)),
            Refusal::NoEndpoint
        );
        let removed = refused(&of_sink("webhook-forwarder", Some("erp")));
        assert_eq!(removed, Refusal::NoReader("webhook-forwarder.erp".into()));
        let looping = Summary {
            redrives: 3,
            ..summary(17, "x")
        };
        assert_eq!(refused(&looping), Refusal::TooOften(3));
        let old = Summary {
            epoch: None,
            ..summary(17, "x")
        };
        assert_eq!(refused(&old), Refusal::NoEpoch);
        let elsewhere = Summary {
            origin: "another/3/42".parse().ok(),
            ..summary(17, "x")
        };
        assert!(matches!(refused(&elsewhere), Refusal::OtherTopic { .. }));
        let of_backfill = Summary {
            origin: "backfill/3/42".parse().ok(),
            ..of_sink("clickhouse-sink", None)
        };
        assert_eq!(refused(&of_backfill), Refusal::Backfill);
        let moved = Summary {
            origin: "cdc/4/42".parse().ok(),
            ..summary(17, "x")
        };
        assert_eq!(refused(&moved), Refusal::OtherPartition);
        let foreign = Summary {
            origin: None,
            ..summary(17, "x")
        };
        assert_eq!(refused(&foreign), Refusal::NoOrigin);
    }

    #[test]
    fn a_change_that_the_enricher_still_cannot_read_is_refused_with_its_words() {
        let reader = Reader::of(&Config::default());
        let still = reader.still_rejected(&letter(&LetterOf::default()));
        let kind = still.unwrap().kind;
        assert_eq!(kind, "malformed_json");
        assert_eq!(
            facts().judge(&summary(17, "x"), None, Some(&kind)),
            Verdict::Refused(Refusal::StillRejected(kind))
        );
        let good = letter(&LetterOf {
            payload: br#"{"op":"c","after":{"id":7,"content_id":"c1","event_type":"play","event_ts":"2026-01-08T14:21:52Z"},"source":{"lsn":5,"sequence":"[\"4\",\"5\"]","txId":1,"ts_ms":1767882112000}}"#,
            ..LetterOf::default()
        });
        assert_eq!(reader.still_rejected(&good), None);
        let of_sink = letter(&LetterOf {
            service: "clickhouse-sink",
            ..LetterOf::default()
        });
        assert_eq!(
            reader.still_rejected(&of_sink),
            None,
            "its records are no changes"
        );
    }
}
