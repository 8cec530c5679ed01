//! The words of `engagectl verify`.

use std::time::Duration;

use ::verify::{Options, ReceiverSource, Sink};
use clap::Args;
use engagement::event::Micros;
use engagement::profile::Profile;
use service::Failure;
use url::Url;

use crate::moment::Moment;

/// Events that happened in the last minute are left out by default: they may be on their way.
const ON_THEIR_WAY: i64 = 60_000_000;

/// Options of `verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
It reads only: one read-only transaction in Postgres, read-only queries in ClickHouse, reading commands in Redis, no
consumer group in Kafka. Memory does not grow with the number of events. Where ClickHouse has too few events, the report ends with the
backfill that brings them.

Exit codes: 0 every sink holds exactly what it should; 78 something is missing, surplus or changed and nothing is under
way any more; 75 the same while a sink is still behind: compare again later, or use --within; 69 a store cannot be
reached; 64 no event can be in the range asked for.

Examples:
  engagectl verify                                  all but the last minute, as it is now
  engagectl verify --within 60s                     everything, once it has settled
  engagectl verify --sinks clickhouse --from 2026-01-01 --to 2026-02-01
  engagectl verify --sinks webhook --receiver http://127.0.0.1:5001 --historical --within 60s
  engagectl verify -o json | jq '.sinks[].differences'")]
pub struct VerifyArgs {
    /// Only events that happened at or after this time: `2026-01-08T09:00:00Z`, `-2h`, `yesterday`.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub from: Option<Moment>,
    /// Only events that happened before this time, or `now` for no bound. Default: one minute ago, or no bound with
    /// --within. Redis and webhooks are compared at their own positions, without bounds.
    #[arg(long, value_name = "TIME", value_parser = until, allow_hyphen_values = true)]
    pub to: Option<Until>,
    /// What is compared, separated by commas: enriched, clickhouse, redis, webhook (with --receiver).
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "SINK",
        requires_if("webhook", "receiver")
    )]
    pub sinks: Vec<Sink>,
    /// How many differences of each sink are named.
    #[arg(long, default_value_t = 20)]
    pub limit: usize,
    /// Wait until every sink is equal, at most so long, and report what was seen last.
    #[arg(long, value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub within: Option<Duration>,
    /// The longest time for one statement in Postgres or query in ClickHouse.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "10m", value_name = "DURATION")]
    pub statement_timeout: Duration,
    /// A receiver that tells its deliveries, such as `engagectl webhook listen`.
    #[arg(long, value_name = "URL")]
    pub receiver: Option<Url>,
    /// The endpoint's name at the forwarder.
    #[arg(long, default_value = "demo", value_name = "NAME")]
    pub endpoint: String,
    /// The endpoint's profile.
    #[arg(long, default_value = "canonical", value_name = "PROFILE")]
    pub profile: Profile,
    /// The endpoint takes events of snapshots and backfills too (`historical = true`): each backfill is then compared apart.
    #[arg(long)]
    pub historical: bool,
    /// When the endpoint began, if that was in the middle of the log (`start = "latest"`): of what was written before, it
    /// may have anything or nothing.
    #[arg(
        long,
        value_name = "TIME",
        requires = "receiver",
        allow_hyphen_values = true
    )]
    pub since: Option<Moment>,
}

/// An upper bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// None.
    Now,
    /// This time.
    At(Moment),
}

fn until(text: &str) -> Result<Until, String> {
    if text == "now" {
        return Ok(Until::Now);
    }
    text.parse().map(Until::At)
}

impl VerifyArgs {
    /// What to compare, when it is `now`.
    ///
    /// # Errors
    /// No event can be in the range (64): nothing would be compared, and nothing is equal to nothing.
    pub(super) fn options(&self, now: i64) -> Result<Options, Failure> {
        let to = match (self.to, self.within) {
            (Some(Until::At(at)), _) => Some(at.micros(now)),
            (Some(Until::Now), _) | (None, Some(_)) => None,
            (None, None) => Some(Micros(now - ON_THEIR_WAY)),
        };
        let from = self.from.map(|from| from.micros(now));
        if let (Some(from), Some(to)) = (from, to) {
            self.refuse_empty(from, to)?;
        }
        let sinks = if self.sinks.is_empty() {
            Sink::ALL.into()
        } else {
            self.sinks.iter().copied().collect()
        };
        Ok(Options {
            from,
            to,
            limit: self.limit,
            sinks,
            progress: None,
        })
    }

    fn refuse_empty(&self, from: Micros, to: Micros) -> Result<(), Failure> {
        let upper = if self.to.is_some() {
            format!("--to, {to}")
        } else {
            format!("one minute ago, {to}, where the comparison ends by default")
        };
        let what = match from.cmp(&to) {
            std::cmp::Ordering::Less => return Ok(()),
            std::cmp::Ordering::Equal => format!("the range is empty: --from means {upper}, too"),
            std::cmp::Ordering::Greater => {
                format!("the range is reversed: --from means {from}, which is after {upper}")
            }
        };
        Err(Failure::usage(what).remedy(
            "give a --from before --to; `--to now` takes in the last minute, and --within 60s waits for what is on its way",
        ))
    }

    pub(super) fn receiver(&self, now: i64) -> Option<ReceiverSource> {
        let url = self.receiver.clone()?;
        Some(ReceiverSource {
            profile: self.profile,
            envelope: self.profile == Profile::Canonical,
            since: self.since.map(|since| since.micros(now)),
            ..ReceiverSource::new(url, &self.endpoint, self.historical)
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: VerifyArgs,
    }

    fn options(words: &[&str]) -> Options {
        let line = Line::try_parse_from([&["verify"], words].concat()).unwrap();
        line.args.options(100_000_000).unwrap()
    }

    #[test]
    fn what_is_on_its_way_is_left_out_unless_asked_for() {
        assert_eq!(options(&[]).to, Some(Micros(40_000_000)));
        assert_eq!(options(&["--to", "now"]).to, None);
        assert_eq!(options(&["--within", "5s"]).to, None);
        assert_eq!(
            options(&["--to", "1970-01-01T00:00:01Z"]).to,
            Some(Micros(1_000_000))
        );
        let past = options(&["--from", "-90s", "--to", "-10s"]);
        let bounds = (past.from, past.to);
        assert_eq!(bounds, (Some(Micros(10_000_000)), Some(Micros(90_000_000))));
    }

    #[test]
    fn a_range_that_holds_no_event_is_refused_in_words_that_say_what_would_be_right() {
        let refused = |words: &[&str]| {
            let line = Line::try_parse_from([&["verify"], words].concat()).unwrap();
            let failure = line.args.options(100_000_000).unwrap_err();
            assert_eq!(failure.exit().code(), 64);
            failure.render("engagectl")
        };
        let said = refused(&["--from", "-30s"]);
        for part in [
            "reversed: --from means 1970-01-01T00:01:10Z",
            "one minute ago",
            "--to now",
        ] {
            assert!(said.contains(part), "{part:?} is missing in\n{said}");
        }
        assert!(refused(&["--from", "-60s"]).contains("is empty"));
        assert!(refused(&["--from", "-1h", "--to", "-2h"]).contains("reversed"));
        assert_eq!(options(&["--from", "-30s", "--to", "now"]).to, None);
        assert_eq!(options(&["--from", "-30s", "--within", "5s"]).to, None);
    }

    #[test]
    fn a_word_that_is_no_sink_and_no_time_is_named_with_what_would_be_right() {
        let refused = |words: &[&str]| {
            let line = Line::try_parse_from([&["verify"], words].concat());
            line.unwrap_err().to_string()
        };
        assert!(refused(&["--sinks", "kafka"]).contains("enriched, clickhouse, redis, webhook"));
        assert!(refused(&["--to", "soon"]).contains("2026-01-08T09:00:00Z"));
    }

    #[test]
    fn deliveries_cannot_be_asked_for_without_a_receiver() {
        let words = ["verify", "--sinks", "redis,webhook"];
        let refused = Line::try_parse_from(words).unwrap_err().to_string();
        assert!(refused.contains("--receiver"), "{refused}");
        let url = ["--receiver", "http://127.0.0.1:5001"];
        let line = Line::try_parse_from([&words[..], &url].concat()).unwrap();
        assert_eq!(
            line.args.receiver(100_000_000).unwrap().group,
            "webhook-forwarder.demo"
        );
    }

    #[test]
    fn when_an_endpoint_began_is_said_of_an_endpoint() {
        let since = ["verify", "--since", "1970-01-01T00:00:01Z"];
        let refused = Line::try_parse_from(since).unwrap_err().to_string();
        assert!(refused.contains("--receiver"), "{refused}");
        let url = ["--receiver", "http://127.0.0.1:5001", "--historical"];
        let line = Line::try_parse_from([&since[..], &url].concat()).unwrap();
        let receiver = line.args.receiver(100_000_000).unwrap();
        assert_eq!(receiver.since, Some(Micros(1_000_000)));
        let group = receiver.backfill_group();
        assert_eq!(group.unwrap(), "webhook-forwarder.demo.backfill");
    }

    #[test]
    fn several_sinks_are_separated_by_commas() {
        let sinks: Vec<Sink> = options(&["--sinks", "redis,clickhouse"])
            .sinks
            .into_iter()
            .collect();
        assert_eq!(sinks, [Sink::Clickhouse, Sink::Redis]);
    }
}
