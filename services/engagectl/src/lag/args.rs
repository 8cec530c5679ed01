//! The words of `engagectl lag`.

use std::time::Duration;

use clap::Args;

const NOTES: &str = "\
Groups are looked at from outside, by their commits and the ends of the logs: also one that no process is in. Seconds
behind are since the commit in Postgres of the first event that the group has not done. Where a group is behind, it is
looked at again after --every, which gives its rate and when it will have caught up: `never` as long as the lag does not
fall. The aggregates' own position stands in Redis; what is shown is their commit, which follows it.

Exit codes: 0; 1 where --max-lag or --max-behind is exceeded, with --watch at the first look that shows it; 69
where Kafka does not answer.

Examples:
  engagectl lag
  engagectl lag --watch --partitions --group clickhouse-sink
  engagectl lag --max-behind 30s || echo 'the pipeline is late'
  engagectl -o json lag | jq '.groups[] | {group, lag, behind_seconds}'";

/// Options of `lag`.
#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub struct LagArgs {
    /// Only this group; may be repeated. One that is not of this pipeline is taken to read the enriched topic.
    #[arg(long, value_name = "GROUP")]
    pub group: Vec<String>,
    /// One line for each partition, with who has it.
    #[arg(long)]
    pub partitions: bool,
    /// Look again and again, until Ctrl-C.
    #[arg(long)]
    pub watch: bool,
    /// Pause between two looks.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "3s", value_name = "DURATION")]
    pub every: Duration,
    /// End with 1 where a group has more records before it than this, in all its partitions together.
    #[arg(long, value_name = "RECORDS")]
    pub max_lag: Option<i64>,
    /// End with 1 where a group is further behind than this in any partition.
    #[arg(long, value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub max_behind: Option<Duration>,
}
