//! The words of `engagectl rebuild`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Verbs of `rebuild`.
#[derive(Debug, Subcommand)]
pub enum RebuildCommand {
    /// Make the aggregates in Redis anew, from ClickHouse and the enriched topic: print the plan, and with --execute write it.
    Redis(RebuildRedisArgs),
    /// Fill the table in ClickHouse again, from the enriched topic or from Postgres: print the plan, and with --execute begin.
    Clickhouse(RebuildClickhouseArgs),
}

/// Options of `rebuild redis`.
#[derive(Debug, Args)]
#[command(after_help = "\
Totals come from ClickHouse, at what its sink has committed in each partition; the sink and the live stream may go on meanwhile. Each
partition is written with a position some minutes before that, and redis-aggregator reads on from there: windows, last events and
leaderboards are recomputed by itself, from the topic. Killed half-way, run it again: what is made stays, what is not is begun anew.

Exit codes: 0 planned, or made, or nothing to do; 75 redis-aggregator is at work: stop it; 78 something must be repaired first, by the
command named, or a state is there that only --replace drops; 69 a server cannot be reached.

Examples:
  engagectl rebuild redis                                             the plan
  engagectl rebuild redis --execute                                   then start redis-aggregator, and: engagectl verify
  engagectl rebuild redis --aggregator aggregator.toml --execute      with the file that redis-aggregator has
  engagectl -o json rebuild redis | jq .partitions")]
pub struct RebuildRedisArgs {
    /// The configuration file of redis-aggregator, where it has one: windows, names of keys, prefix.
    #[arg(long, value_name = "FILE")]
    pub aggregator: Option<PathBuf>,
    /// Also drop a state that redis-aggregator has made, and make every partition anew.
    #[arg(long)]
    pub replace: bool,
    /// Write; without it, only the plan is printed. No redis-aggregator may run.
    #[arg(long)]
    pub execute: bool,
    /// Print the plan and write nothing; this is the default.
    #[arg(long, conflicts_with = "execute")]
    pub dry_run: bool,
}

/// Options of `rebuild clickhouse`.
#[derive(Debug, Args)]
#[command(after_help = "\
For a table that was emptied, made anew, or restored from an older copy. Where the enriched topic reaches back to its beginning,
clickhouse-sink reads it again; rows that the table has are not written twice. Where it does not, the sink reads what is left, and the
rest comes from Postgres, by the command that the plan ends with.

Exit codes: 0 planned, or begun; 75 clickhouse-sink is at work: stop it; 78 something must be repaired first, or the
table was not lost and there is nothing to rebuild; 69 a server cannot be reached.

Examples:
  engagectl rebuild clickhouse                                        the plan: from where, why, and what it costs
  engagectl rebuild clickhouse --execute                              then start clickhouse-sink, and what the plan says
  engagectl -o json rebuild clickhouse | jq -r .backfill")]
pub struct RebuildClickhouseArgs {
    /// Write; without it, only the plan is printed. No clickhouse-sink may run.
    #[arg(long)]
    pub execute: bool,
    /// Print the plan and write nothing; this is the default.
    #[arg(long, conflicts_with = "execute")]
    pub dry_run: bool,
}
