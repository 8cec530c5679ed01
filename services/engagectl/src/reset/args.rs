//! The words of `engagectl reset`.

use clap::Args;
use engagement::event::Micros;
use service::Failure;

use crate::moment::Moment;

/// Options of `reset`.
#[derive(Debug, Args)]
#[command(after_help = "\
What it means, by group: clickhouse-sink reads again from there and writes only rows that the table lacks; a webhook endpoint gets
everything from there again, under the same ids; the enricher and redis-aggregator do not go by the offset, and are refused.

Example:
  engagectl reset --group clickhouse-sink --to-earliest                               what would change
  engagectl reset --group webhook-forwarder.crm --to-datetime -2h --execute           deliver the last two hours again
  engagectl reset --group my-reader --topic engagement.enriched.v1 --partition 3 --to-offset 1000 --execute")]
pub struct ResetArgs {
    /// The consumer group.
    #[arg(long)]
    pub group: String,
    /// The first record written at or after this time: `2026-01-08T09:00:00Z`, `-2h`, `yesterday`.
    #[arg(
        long,
        value_name = "TIME",
        allow_hyphen_values = true,
        group = "target"
    )]
    pub to_datetime: Option<Moment>,
    /// This offset; needs --partition.
    #[arg(
        long,
        value_name = "OFFSET",
        group = "target",
        requires = "partition",
        value_parser = clap::value_parser!(i64).range(0..)
    )]
    pub to_offset: Option<i64>,
    /// The oldest record that is there.
    #[arg(long, group = "target")]
    pub to_earliest: bool,
    /// Behind the newest record.
    #[arg(long, group = "target")]
    pub to_latest: bool,
    /// Its topic; by default the enriched topic, for the enricher the change topic, and for the second group of a webhook endpoint
    /// (`webhook-forwarder.crm.backfill`) the topic of backfills.
    #[arg(long)]
    pub topic: Option<String>,
    /// Only this partition.
    #[arg(long)]
    pub partition: Option<i32>,
    /// Also a group that has no commit: one that has lost them, or a new one.
    #[arg(long)]
    pub create: bool,
    /// Write; without it, only the plan is printed. The group must have no members.
    #[arg(long)]
    pub execute: bool,
    /// Print the plan and write nothing; this is the default.
    #[arg(long, conflicts_with = "execute")]
    pub dry_run: bool,
}

/// Where to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// The first record written at or after this time.
    Time(Micros),
    /// This offset.
    Offset(i64),
    /// The oldest record.
    Earliest,
    /// Behind the newest.
    Latest,
}

impl ResetArgs {
    pub(super) fn target(&self) -> Result<Target, Failure> {
        let now = service::clock::now();
        let time = self.to_datetime.map(|at| Target::Time(at.micros(now)));
        let offset = self.to_offset.map(Target::Offset);
        let flag = |given: bool, target| given.then_some(target);
        time.or(offset)
            .or(flag(self.to_earliest, Target::Earliest))
            .or(flag(self.to_latest, Target::Latest))
            .ok_or_else(|| {
                Failure::usage("it is not said where to")
                    .remedy("give one of --to-datetime, --to-offset, --to-earliest, --to-latest")
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
        args: ResetArgs,
    }

    fn parse(words: &[&str]) -> Result<ResetArgs, String> {
        let line = Line::try_parse_from([&["reset", "--group", "g"], words].concat());
        line.map(|line| line.args).map_err(|e| e.to_string())
    }

    #[test]
    fn exactly_one_target_is_taken_and_nothing_is_written_by_default() {
        let args = parse(&["--to-earliest"]).unwrap();
        assert_eq!(args.target().unwrap(), Target::Earliest);
        assert!(!args.execute);
        assert_eq!(parse(&[]).unwrap().target().unwrap_err().exit().code(), 64);
        assert!(parse(&["--to-earliest", "--to-latest"]).is_err());
        let at = parse(&["--to-datetime", "2026-01-08T09:00:00"]).unwrap();
        assert!(matches!(at.target().unwrap(), Target::Time(_)));
    }

    #[test]
    fn an_offset_is_of_one_partition() {
        assert!(
            parse(&["--to-offset", "7"])
                .unwrap_err()
                .contains("--partition")
        );
        let args = parse(&["--to-offset", "7", "--partition", "3"]).unwrap();
        assert_eq!(args.target().unwrap(), Target::Offset(7));
    }
}
