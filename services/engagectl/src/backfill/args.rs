//! The words of `engagectl backfill`.

use std::time::Duration;

use clap::Args;
use stream::backfill::Addressee;

use crate::generator::Rate;
use crate::moment::Moment;

/// Options of `backfill`.
#[derive(Debug, Args)]
#[command(after_help = "\
Times: 2026-01-08T09:00:00 (UTC, or with +02:00), 2026-01-08, -2h, -1d12h, today, yesterday, now.

It reads Postgres in one snapshot, joins contents as they are now, and writes to a topic of its own. Sinks apply a record after
everything live that its row may have come from, and only if they lack it: a backfill may be run again, half, or over rows that arrive live.
The live stream goes first. Ctrl-C and crashes lose nothing: go on with --resume.

A row's content is that of now, also where it had another title when the event came: Postgres does not know old ones, so there is no
--as-of-lsn.

Exit codes: 0 ClickHouse holds what Postgres holds in that time; 78 it does not, or rows for webhooks are too large for a record and
were left out; 75 stopped, or something is still under way: resume; 69 a server cannot be reached, or does not take what is written; 64
what is asked for cannot be.

Examples:
  engagectl backfill --start 2026-01-08T09:00:00 --end 2026-01-08T12:00:00 --dry-run
  engagectl backfill --start -2h --rate 5000/s
  engagectl backfill --start yesterday --end today --sinks clickhouse,webhook --yes
  engagectl backfill --resume 1767882112123
  engagectl backfill --list")]
pub struct BackfillArgs {
    /// Only events that happened at or after this time.
    #[arg(
        long,
        value_name = "TIME",
        allow_hyphen_values = true,
        required_unless_present_any = ["resume", "list"]
    )]
    pub start: Option<Moment>,
    /// Only events that happened before this time.
    #[arg(
        long,
        value_name = "TIME",
        allow_hyphen_values = true,
        default_value = "now"
    )]
    pub end: Moment,
    /// Only events of this content.
    #[arg(long, value_name = "ID")]
    pub content_id: Option<String>,
    /// Who it is for, separated by commas: clickhouse, webhook (endpoints with `historical = true`).
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "SINK",
        default_value = "clickhouse"
    )]
    pub sinks: Vec<Addressee>,
    /// Most rows a second, for example `5000/s`; without it as fast as the live stream allows.
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub rate: Option<Rate>,
    /// How far the live stream may be behind before it goes first; it goes on at half of that.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, default_value = "2s")]
    pub behind: Duration,
    /// Only show the plan.
    #[arg(long, conflicts_with = "yes")]
    pub dry_run: bool,
    /// Begin without asking.
    #[arg(short, long)]
    pub yes: bool,
    /// Go on with this run.
    #[arg(
        long,
        value_name = "RUN",
        conflicts_with_all = ["start", "end", "content_id", "sinks", "list"]
    )]
    pub resume: Option<i64>,
    /// Show all runs and how far they have come.
    #[arg(long, conflicts_with_all = ["start", "content_id", "dry_run", "yes"])]
    pub list: bool,
}

fn rate(text: &str) -> Result<Rate, String> {
    let rate: Rate = text.parse()?;
    if rate.per_second() > 0.0 {
        return Ok(rate);
    }
    Err(format!(
        "{text} would never end; leave --rate out to be as fast as the live stream allows, or --dry-run to write nothing"
    ))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: BackfillArgs,
    }

    fn parse(words: &[&str]) -> Result<BackfillArgs, String> {
        let line = Line::try_parse_from([&["backfill"], words].concat());
        line.map(|line| line.args)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn times_that_begin_with_a_minus_are_no_options() {
        let args = parse(&["--start", "-2h", "--end", "-5m", "--dry-run"]).unwrap();
        let ago = |minutes: u64| Moment::Ago(Duration::from_secs(60 * minutes));
        assert_eq!((args.start, args.end), (Some(ago(120)), ago(5)));
        assert_eq!(args.sinks, [Addressee::Clickhouse]);
    }

    #[test]
    fn what_does_not_go_together_or_is_missing_is_refused() {
        assert!(parse(&[]).unwrap_err().contains("--start"));
        for more in [["--start", "-2h"], ["--end", "-1h"], ["--sinks", "webhook"]] {
            let error = parse(&[&["--resume", "7"][..], &more].concat()).unwrap_err();
            assert!(error.contains("--resume"), "{more:?}: {error}");
        }
        let error = parse(&["--start", "-2h", "--sinks", "redis"]).unwrap_err();
        assert!(error.contains("none of clickhouse, webhook"), "{error}");
        let error = parse(&["--start", "-2h", "--rate", "0/s"]).unwrap_err();
        assert!(error.contains("would never end"), "{error}");
        assert!(parse(&["--list"]).unwrap().list);
        assert_eq!(parse(&["--resume", "7"]).unwrap().resume, Some(7));
    }
}
