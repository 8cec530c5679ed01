//! The words of `engagectl tail`.

use std::num::NonZeroU64;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use engagement::event::Micros;

use crate::expression::Expression;
use crate::moment::Moment;

const NOTES: &str = "\
It reads beside every consumer group: it joins none and commits nothing. Both forms of enriched events are read, Protobuf
and JSON. With -o json every record is one line with one object: its fields, and under `record` where it stands.

--where compares fields with values (= != < <= > >=, ~ for contains) and joins that by `and`, `or`, `not` and brackets.
A field without a value satisfies only `= null`. Fields: of enriched events those of the canonical form (`source.offset`
for a field in a field), of changes `op`, `committed_at` and the columns of the table, of dead letters `service`, `reason`,
`stage`, `attempts`, `failed_at`, `message`, `endpoint`, `redrive_count`, `origin.topic`, `origin.partition`,
`origin.offset`; of all `key`, `record.partition`, `record.offset`, `record.timestamp`, and `unreadable`, which says why a
record cannot be read.

Examples:
  engagectl tail enriched --where 'engagement_percent > 50'
  engagectl tail cdc --since 10m --content-id 7b0d3e51-4f0c-4c39-9a43-0c1f6e0a8c11
  engagectl tail dlq --no-follow --where 'service = clickhouse-sink and reason = unstorable'
  engagectl tail enriched --since 1h --no-follow -o json | jq .event_type";

/// Options of `tail`.
#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub struct TailArgs {
    /// Which records.
    #[arg(value_enum)]
    pub stream: Stream,
    /// Only records for which this holds, such as `engagement_percent > 50 and event_type = play`.
    #[arg(long = "where", value_name = "CONDITION")]
    pub condition: Option<Expression>,
    /// From when on: a time ago (`10m`, `-2h`) or a time (`2026-01-08T09:00:00Z`, `yesterday`; without a zone: UTC). Default: from now on, or with
    /// --no-follow everything that is retained. Dead letters are taken by when they failed.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub since: Option<Since>,
    /// Only records of this content.
    #[arg(long, value_name = "ID")]
    pub content_id: Option<String>,
    /// End after so many records.
    #[arg(long, value_name = "RECORDS")]
    pub limit: Option<NonZeroU64>,
    /// End where the topic ends now.
    #[arg(long)]
    pub no_follow: bool,
    /// Also show `raw_payload`, and what a dead letter holds; both may hold personal data.
    #[arg(long)]
    pub payload: bool,
    /// Another topic with records of this kind, in place of the configured one.
    #[arg(long, value_name = "TOPIC")]
    pub topic: Option<String>,
    /// With dlq: only the letters of this service; may be repeated.
    #[arg(long, value_name = "SERVICE", value_parser = crate::pipeline::SERVICES)]
    pub service: Vec<String>,
}

/// What can be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Stream {
    /// Enriched events, as the sinks read them.
    Enriched,
    /// Changes of `engagement_events`, as Debezium writes them.
    Cdc,
    /// Dead letters of every service.
    Dlq,
}

/// When to begin; a time ago may be without its minus, as `journalctl` and others have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Since(Moment);

impl Since {
    /// The moment, seen from `now`.
    #[must_use]
    pub fn moment(self, now: Micros) -> Micros {
        self.0.micros(now.0)
    }
}

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let ago = humantime::parse_duration(text.trim());
        let moment = ago.map_or_else(|_| text.parse(), |ago| Ok(Moment::Ago(ago)));
        moment.map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_one_that_was_or_how_long_it_is_ago() {
        let now = Micros(10_000_000_000);
        let moment = |text: &str| text.parse::<Since>().unwrap().moment(now);
        assert_eq!(moment("10m"), Micros(now.0 - 600_000_000));
        assert_eq!(moment("-1h 1s"), Micros(now.0 - 3_601_000_000));
        assert_eq!(moment("1970-01-01T00:00:01Z"), Micros(1_000_000));
        assert_eq!(moment("1970-01-01T01:00:00+01:00"), Micros(0));
        assert_eq!(moment("today"), Micros(0));
    }

    #[test]
    fn what_is_no_time_is_told_what_one_looks_like() {
        for wrong in ["10", "", "soon", "2026-13-01T00:00:00Z"] {
            let said = wrong.parse::<Since>().unwrap_err();
            assert!(
                said.contains("-2h") && said.contains("2026-01-08T09:00:00"),
                "{said}"
            );
        }
    }
}
