//! What Ctrl-C and SIGTERM do.
//!
//! Invariant: no signal is swallowed: the first one ends the command, or is answered with what happens until it ends; the second one
//! ends it.

use std::future::Future;
use std::pin::pin;

use service::Failure;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::Outcome;
use crate::cli::{Cli, Command, DlqCommand, LineageCommand, RebuildCommand};

/// What the first signal does to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum First {
    /// It only reads, and ends at once.
    EndsIt,
    /// It looks at the signal itself, where it may stop.
    IsHeeded,
    /// It is told that what has begun is done to its end.
    IsAnswered,
}

impl Command {
    /// What the first signal does to it.
    pub(crate) const fn at_first_signal(&self) -> First {
        match self {
            Self::Init(_) | Self::Doctor(_) | Self::Gen(_) | Self::Tail(_) | Self::Lag(_) => {
                First::IsHeeded
            }
            Self::Top(_) | Self::Webhook(_) | Self::Canary(_) | Self::Demo(_) => First::IsHeeded,
            Self::Backfill(args) if !args.list => First::IsHeeded,
            Self::Dlq(DlqCommand::Redrive(_)) => First::IsHeeded,
            _ if self.reads_only() => First::EndsIt,
            _ => First::IsAnswered,
        }
    }

    /// Whether it changes nothing anywhere.
    const fn reads_only(&self) -> bool {
        match self {
            Self::Check(_) | Self::Doctor(_) | Self::Access(_) | Self::Verify(_) => true,
            Self::Trace(_) | Self::Tail(_) | Self::Lag(_) | Self::Top(_) | Self::Status => true,
            Self::Config(_) | Self::Completions(_) | Self::Healthcheck(_) => true,
            Self::Init(args) => args.dry_run,
            Self::Backfill(args) => args.list,
            Self::Lineage(LineageCommand::Show(_)) => true,
            Self::Lineage(LineageCommand::Adopt(args)) => !args.execute,
            Self::Dlq(DlqCommand::Redrive(args)) => !args.execute,
            Self::Dlq(DlqCommand::Purge(args)) => !args.execute,
            Self::Dlq(_) => true,
            Self::Rebuild(RebuildCommand::Redis(args)) => !args.execute,
            Self::Rebuild(RebuildCommand::Clickhouse(args)) => !args.execute,
            Self::Erase(args) => !args.execute,
            Self::Reset(args) => !args.execute,
            Self::Gen(_) | Self::Webhook(_) | Self::Canary(_) => false,
            Self::Demo(_) | Self::Up(_) | Self::Down => false,
        }
    }
}

/// Carries out a command line until it ends, or is interrupted twice.
///
/// # Errors
/// What was wrong, with the exit code; 75 where it was interrupted.
pub async fn run(cli: Cli) -> Result<Outcome, Failure> {
    let stop = CancellationToken::new();
    let (interrupt, terminate) = (
        listen(SignalKind::interrupt())?,
        listen(SignalKind::terminate())?,
    );
    tokio::select! {
        outcome = crate::run(cli, stop.clone()) => outcome,
        () = twice(interrupt, terminate, &stop) => Err(Failure::try_again("interrupted twice: ended at once")),
    }
}

fn listen(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|e| Failure::internal("cannot listen for signals").cause(e))
}

/// Cancels `stop` at the first signal and ends at the second.
async fn twice(mut interrupt: Signal, mut terminate: Signal, stop: &CancellationToken) {
    for _ in 0..2 {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        stop.cancel();
    }
}

/// Does the work of a command, and with the first signal what it is to do.
pub(crate) async fn obey(
    first: First,
    stop: &CancellationToken,
    work: impl Future<Output = Result<Outcome, Failure>>,
) -> Result<Outcome, Failure> {
    match first {
        First::IsHeeded => work.await,
        First::IsAnswered => to_its_end(stop, work).await,
        First::EndsIt => unless_interrupted(stop, work).await?,
    }
}

/// What only reads: it ends at the first signal.
///
/// # Errors
/// It was interrupted (75).
pub(crate) async fn unless_interrupted<T>(
    stop: &CancellationToken,
    work: impl Future<Output = T>,
) -> Result<T, Failure> {
    let done = stop.run_until_cancelled(work).await;
    done.ok_or_else(|| Failure::try_again("interrupted: nothing was changed"))
}

/// What writes and cannot stop half-way: whoever interrupts it is told so at once.
pub(crate) async fn to_its_end<T>(stop: &CancellationToken, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    tokio::select! {
        done = &mut work => return done,
        () = stop.cancelled() => {}
    }
    eprintln!("interrupted: what has begun is done to its end; interrupt again to end it at once");
    work.await
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use clap::Parser as _;

    use super::*;

    fn first(line: &str) -> First {
        let words = ["engagectl"].into_iter().chain(line.split(' '));
        Cli::try_parse_from(words)
            .unwrap()
            .command
            .at_first_signal()
    }

    #[test]
    fn what_only_reads_ends_at_once_and_what_writes_is_never_silent() {
        for line in [
            "check",
            "verify --within 10m",
            "trace 7",
            "status",
            "lineage show",
            "lineage adopt",
            "dlq ls",
            "dlq export",
            "dlq purge --service enricher --before -7d",
            "rebuild redis",
            "rebuild clickhouse --dry-run",
            "reset --group g --to-earliest",
            "erase --user 7",
            "backfill --list",
        ] {
            assert_eq!(first(line), First::EndsIt, "{line}");
        }
        for line in [
            "lineage adopt --execute",
            "dlq purge --service enricher --before -7d --execute",
            "rebuild redis --execute",
            "rebuild clickhouse --execute",
            "reset --group g --to-earliest --execute",
            "erase --user 7 --execute",
            "up",
            "down",
        ] {
            assert_eq!(first(line), First::IsAnswered, "{line}");
        }
        for line in ["init --yes", "backfill --start -2h", "gen", "tail enriched"] {
            assert_eq!(first(line), First::IsHeeded, "{line}");
        }
    }

    #[tokio::test]
    async fn work_that_only_reads_is_dropped_and_work_that_writes_is_not() {
        let stop = CancellationToken::new();
        stop.cancel();
        let ended = unless_interrupted(&stop, pending::<()>()).await;
        assert_eq!(ended.unwrap_err().exit().code(), 75);
        assert_eq!(to_its_end(&stop, ready(7)).await, 7);
    }
}
