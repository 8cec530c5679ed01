//! What the metadata of a committed offset says, so that the offset can be proven on resume.
//!
//! Invariant: printing and parsing are inverse; a text of another version is an error, never a guess.

use std::fmt;
use std::str::FromStr;

use engagement::event::{Micros, Position};

/// The highest (`sequence[0]`, `lsn`) pair of the change stream seen so far, with that transaction's commit time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Mark {
    /// `source.sequence[0]`: commit LSN of the transaction before.
    pub commit_lsn: u64,
    /// LSN of the change.
    pub lsn: u64,
    /// When its transaction was committed.
    pub committed_at: Micros,
}

impl Mark {
    /// The two numbers that are compared.
    #[must_use]
    pub const fn pair(self) -> (u64, u64) {
        (self.commit_lsn, self.lsn)
    }
}

/// The database that wrote the change stream.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Database {
    /// `system_identifier` of `pg_control_system()`.
    pub system: u64,
    /// `timeline_id` of `pg_control_checkpoint()`.
    pub timeline: u32,
}

/// A row that the sink's store holds: what tells a store that still is the same from one that was emptied.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Stored {
    /// Source position of the record that it was written from.
    pub position: Position,
    /// Its `event_ts`: retention of the store goes by it.
    pub event_ts: Micros,
}

/// The state at a committed offset. Every field speaks of the records *before* that offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Checkpoint {
    /// Epoch of the chain; a commit with a higher one than the output has opens a new epoch.
    pub epoch: u8,
    /// Highest source position done: applied by a reader, produced by the enricher. `None`: nothing yet.
    pub position: Option<Position>,
    /// Source position of the record right before the offset; `None` where there is none or it carries none.
    pub before: Option<Position>,
    /// The mark.
    pub mark: Option<Mark>,
    /// The database the mark belongs to, when known.
    pub database: Option<Database>,
    /// A position that is missing in the log, and known to be: the record that follows it is no hole.
    pub hole: Option<Position>,
    /// A row that was in the store when this was committed; of readers whose position stands apart from their store.
    pub stored: Option<Stored>,
}

const VERSION: &str = "engage1";

impl fmt::Display for Checkpoint {
    /// `engage1 epoch=0 position=live/0/3/42 before=live/0/3/42 mark=16b3748:16b3750@1767882112123456`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{VERSION} epoch={}", self.epoch)?;
        if let Some(position) = self.position {
            write!(f, " position={position}")?;
        }
        if let Some(before) = self.before {
            write!(f, " before={before}")?;
        }
        if let Some(Mark {
            commit_lsn,
            lsn,
            committed_at,
        }) = self.mark
        {
            write!(f, " mark={commit_lsn:x}:{lsn:x}@{}", committed_at.0)?;
        }
        if let Some(Database { system, timeline }) = self.database {
            write!(f, " database={system}/{timeline}")?;
        }
        if let Some(hole) = self.hole {
            write!(f, " hole={hole}")?;
        }
        if let Some(Stored { position, event_ts }) = self.stored {
            write!(f, " stored={position}@{}", event_ts.0)?;
        }
        Ok(())
    }
}

/// A text that is no checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("commit metadata {text:?} is not a checkpoint of version {VERSION}: {what}")]
pub struct CheckpointError {
    text: String,
    what: &'static str,
}

impl FromStr for Checkpoint {
    type Err = CheckpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = |what| CheckpointError {
            text: text.chars().take(200).collect(),
            what,
        };
        let mut words = text.split(' ');
        if words.next() != Some(VERSION) {
            return Err(bad("another version or none"));
        }
        let mut checkpoint = Self::default();
        for word in words {
            let (key, value) = word
                .split_once('=')
                .ok_or_else(|| bad("a word without ="))?;
            checkpoint
                .set(key, value)
                .ok_or_else(|| bad("an unknown key or a value that does not parse"))?;
        }
        Ok(checkpoint)
    }
}

impl Checkpoint {
    fn set(&mut self, key: &str, value: &str) -> Option<()> {
        match key {
            "epoch" => self.epoch = value.parse().ok()?,
            "position" => self.position = Some(value.parse().ok()?),
            "before" => self.before = Some(value.parse().ok()?),
            "mark" => self.mark = Some(mark(value)?),
            "hole" => self.hole = Some(value.parse().ok()?),
            "stored" => {
                let (position, event_ts) = value.split_once('@')?;
                self.stored = Some(Stored {
                    position: position.parse().ok()?,
                    event_ts: Micros(event_ts.parse().ok()?),
                });
            }
            "database" => {
                let (system, timeline) = value.split_once('/')?;
                self.database = Some(Database {
                    system: system.parse().ok()?,
                    timeline: timeline.parse().ok()?,
                });
            }
            _ => return None,
        }
        Some(())
    }
}

fn mark(text: &str) -> Option<Mark> {
    let (pair, at) = text.split_once('@')?;
    let (commit_lsn, lsn) = pair.split_once(':')?;
    Some(Mark {
        commit_lsn: u64::from_str_radix(commit_lsn, 16).ok()?,
        lsn: u64::from_str_radix(lsn, 16).ok()?,
        committed_at: Micros(at.parse().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use engagement::event::Lane;
    use proptest::option::of;
    use proptest::prelude::*;

    fn position() -> impl Strategy<Value = Position> {
        (0..3u8, any::<u8>(), 0..1000i32, 0..i64::MAX).prop_map(
            |(lane, epoch, partition, offset)| Position {
                lane: [Lane::Live, Lane::Backfill, Lane::Redrive][usize::from(lane)],
                epoch,
                partition,
                offset,
            },
        )
    }

    prop_compose! {
        fn checkpoint()(
            epoch in any::<u8>(), position in of(position()), before in of(position()),
            mark in of((any::<u64>(), any::<u64>(), any::<i64>())), database in of((any::<u64>(), any::<u32>())),
            hole in of(position()), stored in of((position(), any::<i64>())),
        ) -> Checkpoint {
            Checkpoint {
                epoch, position, before, hole,
                mark: mark.map(|(commit_lsn, lsn, at)| Mark { commit_lsn, lsn, committed_at: Micros(at) }),
                database: database.map(|(system, timeline)| Database { system, timeline }),
                stored: stored.map(|(position, at)| Stored { position, event_ts: Micros(at) }),
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_back(checkpoint in checkpoint()) {
            let text = checkpoint.to_string();
            prop_assert!(text.len() < 400, "{}", text);
            prop_assert_eq!(text.parse(), Ok(checkpoint));
        }

        #[test]
        fn no_text_panics(text in "(engage1 )?\\PC*") {
            let _ = text.parse::<Checkpoint>();
        }
    }

    #[test]
    fn metadata_of_others_is_refused_not_guessed() {
        for text in [
            "",
            "engage2 epoch=0",
            "{}",
            "engage1 epoch=256",
            "engage1 future=1",
            "engage1 mark=1:2",
            "engage1  epoch=1",
        ] {
            assert!(text.parse::<Checkpoint>().is_err(), "{text}");
        }
    }
}
