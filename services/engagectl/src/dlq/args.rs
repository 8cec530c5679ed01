//! The words of `engagectl dlq`.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::filter::{Origin, Wanted};
use crate::generator::Rate;
use crate::moment::Moment;

/// Verbs of `dlq`.
#[derive(Debug, Subcommand)]
pub enum DlqCommand {
    /// List letters, one line each, the newest last.
    Ls(LsArgs),
    /// Count letters by service and reason, with the first, the last and a sample.
    Stats(StatsArgs),
    /// Show whole letters, with their bytes.
    Show(ShowArgs),
    /// Write letters to standard output, one JSON object a line, bytes in base64.
    Export(ExportArgs),
    /// Send letters back to what gave them up, and to nothing else: print the plan, and with --execute send.
    Redrive(RedriveArgs),
    /// Delete the oldest letters: print what goes, and with --execute delete.
    Purge(PurgeArgs),
}

/// Which letters.
#[derive(Clone, Debug, Default, Args)]
pub struct FilterArgs {
    /// Only of this service, or of one webhook endpoint (`webhook-forwarder.crm`); may be repeated.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub service: Vec<String>,
    /// Only with this reason, as `dlq stats` shows it; may be repeated.
    #[arg(long, value_name = "REASON", value_delimiter = ',')]
    pub reason: Vec<String>,
    /// Only what failed at or after this time: `2026-01-08T09:00:00Z`, `-2h`, `yesterday`.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub since: Option<Moment>,
    /// Only what failed before this time.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub until: Option<Moment>,
    /// Only records of this content.
    #[arg(long, value_name = "ID")]
    pub content: Option<String>,
    /// Only records that stood there: `TOPIC`, `TOPIC/PARTITION` or `TOPIC/PARTITION/OFFSET`.
    #[arg(long, value_name = "PLACE")]
    pub origin: Option<Origin>,
}

/// Options of `dlq ls`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  engagectl dlq ls --service webhook-forwarder.crm --since -2h
  engagectl dlq ls --reason malformed_json -o json | jq '.letters[].origin'")]
pub struct LsArgs {
    #[command(flatten)]
    pub(super) filter: FilterArgs,
    /// How many are shown, the newest; at most 100000.
    #[arg(long, default_value_t = 100, value_parser = limit)]
    pub limit: usize,
}

/// Options of `dlq stats`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  engagectl dlq stats --since yesterday")]
pub struct StatsArgs {
    #[command(flatten)]
    pub(super) filter: FilterArgs,
}

/// Options of `dlq show`.
#[derive(Debug, Args)]
#[command(after_help = "\
The bytes are shown as text where they are UTF-8, otherwise in hex. They may hold personal data.

Example:
  engagectl dlq show 3:17 --service enricher                     the letter at partition 3, offset 17
  engagectl dlq show cdc.public.engagement_events/3/42           the letters of that record, of whatever service")]
pub struct ShowArgs {
    /// Partition and offset of the letter (`3:17`), or topic, partition and offset of the letter or of its record
    /// (`cdc.public.engagement_events/3/42`).
    #[arg(value_name = "PLACE")]
    pub place: Wanted,
    /// Only of this service.
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
}

/// Options of `dlq export`.
#[derive(Debug, Args)]
#[command(after_help = "\
Keys, values and headers are in base64 and may hold personal data. Marks of earlier redrives are left out.

Example:
  engagectl dlq export --service enricher > letters.jsonl")]
pub struct ExportArgs {
    #[command(flatten)]
    pub(super) filter: FilterArgs,
}

/// Options of `dlq redrive`.
#[derive(Debug, Args)]
#[command(after_help = "\
A letter of the enricher goes back to its partition of the change topic, and what becomes of it to every sink but Redis, which
keeps no ids. A letter of clickhouse-sink or of a webhook endpoint goes to that one reader only. A letter that was sent is marked
and not sent again; Ctrl-C or a kill leaves a run that the same command continues.

Exit codes: 0 all was sent, or nothing was to be; 75 stopped before the end, run it again; 78 a letter could not be sent, was
given up again, or was dropped.

Example:
  engagectl dlq redrive --service webhook-forwarder.crm --since -1d              what would be sent
  engagectl dlq redrive --service webhook-forwarder.crm --since -1d --execute    send it")]
pub struct RedriveArgs {
    #[command(flatten)]
    pub(super) filter: FilterArgs,
    /// Send; without it, only the plan is printed.
    #[arg(long)]
    pub execute: bool,
    /// Print the plan and send nothing; this is the default.
    #[arg(long, conflicts_with = "execute")]
    pub dry_run: bool,
    /// Letters a second, for example `10/s` or `60/min`; at least 12/min.
    #[arg(long, default_value = "100/s", value_parser = rate)]
    pub rate: Rate,
    /// A letter that was redriven so often is left alone: it comes back.
    #[arg(long, default_value_t = 3)]
    pub max_redrives: u32,
    /// Also what was sent before.
    #[arg(long)]
    pub again: bool,
    /// How long to wait for those that the letters are for to read them, and then to say what became of them.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "30s", value_name = "DURATION")]
    pub wait: Duration,
}

/// Options of `dlq purge`.
#[derive(Debug, Args)]
#[command(after_help = "\
Kafka deletes from the beginning of a partition, so whatever is older goes with it; the plan counts it.

Example:
  engagectl dlq purge --service enricher --before -7d
  engagectl dlq purge --service enricher --to-offset 3:100 --execute    offsets below 100 of partition 3")]
pub struct PurgeArgs {
    /// Of this service.
    #[arg(long, value_name = "NAME", required = true)]
    pub service: String,
    /// What failed before this time, up to the first letter that did not.
    #[arg(
        long,
        value_name = "TIME",
        allow_hyphen_values = true,
        required_unless_present = "to_offset"
    )]
    pub before: Option<Moment>,
    /// What stands below this offset (`PARTITION:OFFSET`); may be repeated.
    #[arg(long, value_name = "PLACE", conflicts_with = "before")]
    pub to_offset: Vec<Wanted>,
    /// Delete; without it, only the plan is printed.
    #[arg(long)]
    pub execute: bool,
    /// Print the plan and delete nothing; this is the default.
    #[arg(long, conflicts_with = "execute")]
    pub dry_run: bool,
}

/// What is shown is kept in memory meanwhile.
fn limit(text: &str) -> Result<usize, String> {
    const MOST: usize = 100_000;
    let read = text.parse().ok().filter(|limit| *limit <= MOST);
    read.ok_or_else(|| {
        format!("{text:?} is no number up to {MOST}; `engagectl dlq export` writes all letters")
    })
}

/// A run that writes nothing for long looks like one that has died.
fn rate(text: &str) -> Result<Rate, String> {
    const LEAST: f64 = 0.2;
    let rate: Rate = text.parse()?;
    if rate.per_second() < LEAST {
        return Err(format!("{text} is too slow: at least 12/min"));
    }
    Ok(rate)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(subcommand)]
        command: DlqCommand,
    }

    fn parse(words: &[&str]) -> Result<DlqCommand, String> {
        let line = Line::try_parse_from([&["dlq"], words].concat());
        line.map(|line| line.command).map_err(|e| e.to_string())
    }

    #[test]
    fn nothing_is_sent_or_deleted_unless_it_is_asked_for() {
        let DlqCommand::Redrive(redrive) = parse(&["redrive"]).unwrap() else {
            panic!("redrive")
        };
        assert!(!redrive.execute);
        let DlqCommand::Purge(purge) =
            parse(&["purge", "--service", "enricher", "--before", "-7d"]).unwrap()
        else {
            panic!("purge")
        };
        assert!(!purge.execute);
        assert!(parse(&["redrive", "--dry-run", "--execute"]).is_err());
    }

    #[test]
    fn a_purge_names_service_and_bound() {
        assert!(parse(&["purge", "--before", "-7d"]).is_err());
        assert!(parse(&["purge", "--service", "enricher"]).is_err());
        let both = [
            "purge",
            "--service",
            "enricher",
            "--before",
            "-7d",
            "--to-offset",
            "3:1",
        ];
        assert!(parse(&both).is_err());
    }

    #[test]
    fn a_rate_that_looks_like_a_dead_run_is_refused() {
        assert!(
            parse(&["redrive", "--rate", "1/min"])
                .unwrap_err()
                .contains("12/min")
        );
        assert!(parse(&["redrive", "--rate", "12/min"]).is_ok());
    }
}
