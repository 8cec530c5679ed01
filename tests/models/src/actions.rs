//! Everything that can happen next, one step at a time.
//!
//! Invariant: without faults every action brings the pipeline forward, so that a run without them ends.

use crate::{clickhouse, redis};

/// One step. Numbers name the member of the group, the request, or the offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Debezium writes the next change.
    Captured,
    /// Debezium has crashed and goes on from this many changes before.
    Resent(usize),
    /// Retention takes the oldest change record.
    ChangeExpired,
    /// Retention takes the oldest enriched record.
    EnrichedExpired,
    /// The change topic is deleted and made again.
    ChangesRecreated,
    /// The enriched topic is deleted and made again.
    EnrichedRecreated,
    /// The broker has lost the newest enriched record, although it had acknowledged it.
    EnrichedTruncated,
    /// An enricher reads the end of its output and the commit.
    Looks(usize),
    /// It decides, proves, and starts.
    Opens(usize),
    /// It judges the next change record.
    Judges(usize),
    /// The broker appends its next record in flight.
    Appended(usize),
    /// The broker loses the first request of its producer and takes the second.
    FirstLost(usize),
    /// The broker's answer arrives.
    Acknowledged(usize),
    /// It commits its frontier.
    Commits(usize),
    /// A dead letter goes out that should have been acknowledged before.
    LateLetter(usize),
    /// It dies.
    Crashes(usize),
    /// It notices that the partition is not its own any more.
    Notices(usize),
    /// The operator adopts what has happened to the topics, and starts what had stopped.
    Adopts,
    /// The partition moves to the other enricher.
    Moves,
    /// A request of a dead enricher arrives.
    WireAppends(usize),
    /// It never does.
    WireVanishes(usize),
    /// The enricher's commit is set back to an earlier one.
    CommitRewound,
    /// It is deleted.
    CommitDeleted,
    /// It is set to the end of the topic, without metadata.
    CommitReset,
    /// Something of the sink.
    Sink(SinkAction),
}

/// One step of the sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SinkAction {
    /// A member opens the partition.
    Opens(usize),
    /// It takes the next record.
    Takes(usize),
    /// It closes its batch, or does the next step with it.
    Steps(usize),
    /// The receiver gets the record of this offset.
    Posts(usize, i64),
    /// Its answer arrives.
    Settles(usize, i64),
    /// It commits.
    Commits(usize),
    /// A dead letter goes out that should have been acknowledged before.
    LateLetter(usize),
    /// It dies.
    Crashes(usize),
    /// It notices that the partition is not its own any more.
    Notices(usize),
    /// The partition moves to the other member. One that writes into ClickHouse stands still meanwhile.
    Moves,
    /// A member that stood still goes on.
    Wakes(usize),
    /// The commit is set back to an earlier one.
    CommitRewound,
    /// The commit is deleted.
    CommitDeleted,
    /// The commit is set to the end of the topic, without metadata.
    CommitReset,
    /// At the ClickHouse server.
    ClickHouse(clickhouse::Server),
    /// At the Redis server.
    Redis(redis::Server),
}

/// A class of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// A process dies.
    Crash,
    /// The partition moves while the old owner goes on, or stands still.
    Move,
    /// Debezium sends again.
    Resend,
    /// An answer is lost or late.
    Answer,
    /// The group's offsets are changed.
    Offsets,
    /// Retention.
    Retention,
    /// A topic is made again.
    Recreate,
    /// The store loses something.
    Store,
    /// The broker loses an acknowledged record; beyond what the pipeline can repair, so not among [`Fault::ALL`].
    Truncate,
}

impl Fault {
    /// All classes that the pipeline survives.
    pub const ALL: &'static [Self] = &[
        Self::Crash,
        Self::Move,
        Self::Resend,
        Self::Answer,
        Self::Offsets,
        Self::Retention,
        Self::Recreate,
        Self::Store,
    ];
}

impl Action {
    /// The class of a fault; `None` for progress.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        Some(match self {
            Self::Crashes(_) => Fault::Crash,
            Self::Moves => Fault::Move,
            Self::Resent(_) => Fault::Resend,
            Self::FirstLost(_) => Fault::Answer,
            Self::CommitRewound | Self::CommitDeleted | Self::CommitReset => Fault::Offsets,
            Self::ChangeExpired | Self::EnrichedExpired => Fault::Retention,
            Self::ChangesRecreated | Self::EnrichedRecreated => Fault::Recreate,
            Self::EnrichedTruncated => Fault::Truncate,
            Self::Sink(action) => return action.fault(),
            _ => return None,
        })
    }
}

impl SinkAction {
    fn fault(self) -> Option<Fault> {
        Some(match self {
            Self::Crashes(_) => Fault::Crash,
            Self::Moves => Fault::Move,
            Self::CommitRewound | Self::CommitDeleted | Self::CommitReset => Fault::Offsets,
            Self::ClickHouse(clickhouse::Server::AnswerLost(_))
            | Self::Redis(redis::Server::AnswerLost(_)) => Fault::Answer,
            Self::Redis(
                redis::Server::Copied | redis::Server::FailedOver | redis::Server::Flushed,
            ) => Fault::Store,
            _ => return None,
        })
    }
}
