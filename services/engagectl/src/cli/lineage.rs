//! The words of `engagectl lineage`.

use clap::{Args, Subcommand};

use super::examples;

/// Verbs of `lineage`.
#[derive(Debug, Subcommand)]
pub enum LineageCommand {
    /// Show both logs, the end of the chain and where each group stands; exit 78 where something is violated.
    Show(ShowArgs),
    /// Go on after a topic was recreated, retention overtook a group, or a table was emptied: print the plan, and with --execute write it.
    Adopt(AdoptArgs),
}

/// Options of `lineage show`.
#[derive(Debug, Args)]
#[command(after_help = examples::LINEAGE_SHOW)]
pub struct ShowArgs {
    /// The enriched topic; otherwise the configured one.
    #[arg(long)]
    pub topic: Option<String>,
    /// Only this partition.
    #[arg(long)]
    pub partition: Option<i32>,
    /// Read the retained log and follow its chain record by record.
    #[arg(long)]
    pub check: bool,
    /// With --check: from this offset on.
    #[arg(long, requires = "check")]
    pub from: Option<i64>,
    /// With --check: up to before this offset.
    #[arg(long, requires = "check")]
    pub to: Option<i64>,
}

/// Options of `lineage adopt`.
#[derive(Debug, Args)]
#[command(after_help = examples::ADOPT)]
pub struct AdoptArgs {
    /// Only this partition.
    #[arg(long)]
    pub partition: Option<i32>,
    /// The table in ClickHouse was emptied, made anew or restored, and its sink refuses it: `refill` begins at the start of the
    /// log again, and what the table holds already is not written twice; `as-is` goes on where the group stands.
    #[arg(long)]
    pub table: Option<Adopted>,
    /// Open a new epoch even where the enricher's position is proven: after the database was restored or replaced.
    #[arg(long)]
    pub new_epoch: bool,
    /// Write the plan; the groups in it must have no members.
    #[arg(long)]
    pub execute: bool,
    /// Print the plan and write nothing; this is the default.
    #[arg(long, conflicts_with = "execute")]
    pub dry_run: bool,
}

/// What becomes of a table that lacks what was written into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Adopted {
    /// What the log still holds is written again.
    Refill,
    /// It is as it should be.
    AsIs,
}
