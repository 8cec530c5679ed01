//! The words of `engagectl erase`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

/// What becomes of the rows in Postgres.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum InPostgres {
    /// The rows stay, without `user_id`, `device` and `raw_payload`; every count stays as it is.
    Null,
    /// The rows go, and with them what they count for.
    Delete,
    /// The rows stay as they are, with the person; the receipt says how many.
    Keep,
}

impl InPostgres {
    /// As it is typed, and as it stands in a receipt.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Delete => "delete",
            Self::Keep => "keep",
        }
    }
}

/// Options of `erase`.
#[derive(Debug, Args)]
#[command(after_help = "\
Without --execute it only looks, and says what it found where. With it: Postgres as asked for; then it waits until the services have
passed what was changed there; then ClickHouse, the keys of Redis, and a record for readers of your own on engagement.erasures.v1;
then it searches everywhere again, and signs a receipt. A run that was killed goes on when the command is given again, and one that
is through finds nothing. What Kafka still holds goes with its retention: the receipt says when.
Exit codes: 0 nothing is left (or nothing was asked to go); 75 not through yet: run it again; 78 the receipt is not what was signed.

Examples:
  engagectl erase --user 6f9619ff-8b86-d011-b42d-00c04fc964ff                        what is there
  engagectl erase --user 6f9619ff-8b86-d011-b42d-00c04fc964ff --postgres null --execute --receipt erased.json
  engagectl erase --verify erased.json --public-key erase.pub")]
pub struct EraseArgs {
    /// The user, as `engagement_events.user_id` has it.
    #[arg(long, value_name = "ID", required_unless_present = "verify")]
    pub user: Option<String>,
    /// What becomes of the rows in Postgres. Without it the application must have seen to them before: rows that are left would
    /// bring the person back.
    #[arg(long, value_enum, value_name = "WHAT")]
    pub postgres: Option<InPostgres>,
    /// Erase; without it, only what is found is printed.
    #[arg(long, conflicts_with = "verify")]
    pub execute: bool,
    /// Print what is found and change nothing; this is the default.
    #[arg(long, conflicts_with = "execute")]
    pub dry_run: bool,
    /// How long to wait for the services to pass what was changed in Postgres.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "2m", value_name = "DURATION")]
    pub within: Duration,
    /// Write the signed receipt into this file, which must not be there yet; without it, it is printed.
    #[arg(long, value_name = "FILE")]
    pub receipt: Option<PathBuf>,
    /// Check the signature of this receipt; with --user and the private key, also whether it is about that user.
    #[arg(long, value_name = "RECEIPT", conflicts_with_all = ["postgres", "receipt"])]
    pub verify: Option<PathBuf>,
    /// The public key in PEM to check it with; without it, that of the private key (ERASE_KEY_FILE).
    #[arg(long, value_name = "FILE", requires = "verify")]
    pub public_key: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: EraseArgs,
    }

    fn parse(words: &[&str]) -> Result<EraseArgs, String> {
        let line = Line::try_parse_from([&["erase"], words].concat());
        line.map(|line| line.args)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_is_erased_unless_it_is_asked_for() {
        let args = parse(&["--user", "7"]).unwrap();
        assert!(!args.execute && args.postgres.is_none());
        assert!(parse(&["--user", "7", "--dry-run"]).is_ok());
        assert!(parse(&["--user", "7", "--dry-run", "--execute"]).is_err());
        assert!(parse(&[]).is_err());
    }

    #[test]
    fn a_receipt_is_checked_without_erasing() {
        assert!(parse(&["--verify", "r.json"]).is_ok());
        assert!(parse(&["--verify", "r.json", "--public-key", "k", "--user", "7"]).is_ok());
        for more in [
            &["--execute"][..],
            &["--postgres", "null"],
            &["--receipt", "x"],
        ] {
            assert!(parse(&[&["--verify", "r.json"], more].concat()).is_err());
        }
        assert!(parse(&["--user", "7", "--public-key", "k"]).is_err());
    }
}
