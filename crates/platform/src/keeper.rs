//! Starts again what Connect has given up. Debezium retries for ever while nobody answers (`errors.max.retries`), but a
//! connection that is cut during its start, between two of its questions, fails the task for good.
//!
//! Invariant: only a connector whose slot can still deliver everything is started again. One that would go on behind a
//! gap stays as it is, and the gap is named.

use std::time::{Duration, Instant};

use crate::connector::worker::{Status, ask, restart_failed};
use crate::slot_state::{self, SlotState};
use crate::{ConnectSettings, DatabaseSettings, Loss, PlatformError, slot};

/// The longest pause between two attempts; the first comes at once, the second after a second.
const LONGEST: Duration = Duration::from_secs(60);

/// Watches one connector.
#[derive(Debug)]
pub struct Keeper {
    connect: ConnectSettings,
    database: DatabaseSettings,
    attempts: Attempts,
}

/// What a look at the connector has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// Nothing has failed.
    Well,
    /// It had failed, and was started again.
    Restarted {
        /// What it had failed with.
        trouble: String,
    },
    /// It has failed; the next attempt is not due yet.
    Waiting,
    /// It has failed, and starting it would hide a loss.
    Lost {
        /// What is lost.
        what: String,
        /// What a person does about it, with the command that brings again what was committed meanwhile.
        remedy: String,
    },
}

impl Keeper {
    /// Watches this connector, whose slot is in that database; any role may look at the slot.
    #[must_use]
    pub fn new(connect: ConnectSettings, database: DatabaseSettings) -> Self {
        Self {
            connect,
            database,
            attempts: Attempts::default(),
        }
    }

    /// Looks once, and acts where an attempt is due.
    ///
    /// # Errors
    /// Connect or Postgres does not answer, or refuses: nothing was started.
    pub async fn look(&mut self, now: Instant) -> Result<Look, PlatformError> {
        let status: Status = ask(&self.connect, "status").await?;
        if !status.has_failed() {
            self.attempts.well(now);
            return Ok(Look::Well);
        }
        if !self.attempts.is_due(now) {
            return Ok(Look::Waiting);
        }
        if let Some(lost) = self.lost().await? {
            return Ok(lost);
        }
        self.attempts.made(now);
        restart_failed(&self.connect).await?;
        let trouble = status.trouble();
        Ok(Look::Restarted { trouble })
    }

    /// Whether the connector and all its tasks run.
    ///
    /// # Errors
    /// Connect does not answer.
    pub async fn is_running(&self) -> Result<bool, PlatformError> {
        let status: Status = ask(&self.connect, "status").await?;
        Ok(status.is_running())
    }

    /// The slot, as it is now.
    ///
    /// # Errors
    /// Postgres does not answer.
    pub async fn slot(&self) -> Result<SlotState, PlatformError> {
        let mut connection = self.database.connect().await?;
        slot_state::look(&mut connection, &self.connect.slot).await
    }

    /// The names of the connector and its slot.
    #[must_use]
    pub fn names(&self) -> (&str, &str) {
        (&self.connect.name, &self.connect.slot)
    }

    /// What is lost, if anything is: changes after the last one delivered that the slot does not hold. Reads only.
    ///
    /// # Errors
    /// Connect or Postgres does not answer.
    pub async fn loss(&self) -> Result<Option<Loss>, PlatformError> {
        let (delivered, found) = slot::both(&self.connect, &self.database).await?;
        Ok(slot::loss(&self.connect, delivered, found.as_ref()))
    }

    async fn lost(&self) -> Result<Option<Look>, PlatformError> {
        let loss = self.loss().await?;
        Ok(loss.map(|loss| Look::Lost {
            remedy: loss.recovery(&self.connect).to_string(),
            what: loss.what,
        }))
    }
}

/// When to try: each pause is twice the last, until all has been well for the longest of them.
#[derive(Debug, Default)]
struct Attempts {
    made: u32,
    last: Option<Instant>,
}

impl Attempts {
    fn pause(&self) -> Duration {
        let doubled = Duration::from_secs(1) * 2_u32.pow(self.made.saturating_sub(1).min(6));
        doubled.min(LONGEST)
    }

    fn is_due(&self, now: Instant) -> bool {
        self.last
            .is_none_or(|last| now.duration_since(last) >= self.pause())
    }

    fn made(&mut self, now: Instant) {
        self.made = self.made.saturating_add(1);
        self.last = Some(now);
    }

    fn well(&mut self, now: Instant) {
        if self
            .last
            .is_some_and(|last| now.duration_since(last) >= LONGEST)
        {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_made_at_once_then_ever_later_and_soon_again_after_a_minute_without_failure() {
        let (mut attempts, mut now) = (Attempts::default(), Instant::now());
        let mut pauses = Vec::new();
        for _ in 0..9 {
            let begun = now;
            while !attempts.is_due(now) {
                now += Duration::from_secs(1);
            }
            pauses.push((now - begun).as_secs());
            attempts.made(now);
        }
        assert_eq!(pauses, [0, 1, 2, 4, 8, 16, 32, 60, 60]);
        attempts.well(now + Duration::from_secs(59));
        assert!(!attempts.is_due(now + Duration::from_secs(59)));
        attempts.well(now + LONGEST);
        assert!(attempts.is_due(now + LONGEST));
        assert_eq!(attempts.made, 0);
    }
}
