//! The sender of one partition, with the ledger of what was acknowledged.
//!
//! Invariant: a lane sends in order; its first record, and every suspect one, is acknowledged alone before the next is sent.

use std::sync::{Arc, Mutex};

use faults::Point;
use tokio::sync::Notify;

use super::generation::{Full, Generation};
use super::state::Ack;
use super::{OutRecord, Producer, SendError};
use crate::ledger::{Frontier, Ledger};
use crate::sync::locked;

/// Sends for one source partition; `T` travels with each record and comes back with the frontier (a checkpoint, say).
pub struct ProducerLane<T> {
    producer: Producer,
    generation: Arc<Generation>,
    topic: Arc<str>,
    partition: i32,
    acks: Arc<Acks<T>>,
    /// The record sent last must be acknowledged before the next one.
    alone: bool,
    first: bool,
    reported: i64,
}

struct Acks<T> {
    ledger: Mutex<Ledger<T>>,
    changed: Notify,
}

impl<T: Send> Ack for Acks<T> {
    fn acked(&self, token: i64, _partition: i32, _offset: i64) {
        // not open: acknowledged twice, which changes nothing
        let _ = locked(&self.ledger).complete(token);
        self.changed.notify_one();
    }

    fn failed(&self, _token: i64) {
        self.changed.notify_one();
    }
}

impl<T: Clone + Send + 'static> ProducerLane<T> {
    pub(super) fn new(
        producer: Producer,
        generation: Arc<Generation>,
        topic: Arc<str>,
        partition: i32,
    ) -> Self {
        let acks = Arc::new(Acks {
            ledger: Mutex::default(),
            changed: Notify::new(),
        });
        Self {
            producer,
            generation,
            topic,
            partition,
            acks,
            alone: false,
            first: true,
            reported: i64::MIN,
        }
    }

    /// Sends the record made from the source record at `offset`. Waits for room; for the first record, and while looking
    /// for a record that the broker refuses, also for the acknowledgement. Topic and partition are the lane's.
    ///
    /// # Errors
    /// [`SendError::TooLarge`]: nothing was sent, `skip` the offset once it is dead-lettered. Otherwise end the lane.
    pub async fn send(
        &mut self,
        mut record: OutRecord,
        offset: i64,
        value: T,
    ) -> Result<(), SendError> {
        record.topic = Arc::clone(&self.topic);
        record.partition = Some(self.partition);
        self.producer.check_size(&record)?;
        if self.alone {
            self.drained().await?;
        }
        self.room().await?;
        faults::reach(Point::StreamSendBefore).await;
        if faults::fails(Point::StreamSendBefore) {
            self.generation.give_up("fault");
        }
        loop {
            match self.try_send(&record, offset, value.clone()) {
                Ok(()) => break,
                Err(Full::QueueFull) => self.generation.room().await,
                Err(Full::Failed(error)) => return Err(error),
            }
        }
        faults::reach(Point::StreamSendAfter).await;
        self.alone = self.first || self.is_suspect(offset);
        self.first = false;
        if self.alone {
            self.drained().await
        } else {
            Ok(())
        }
    }

    /// A source record that needs no output (dead-lettered, duplicate, tombstone).
    ///
    /// # Errors
    /// Offsets must rise.
    pub fn skip(&mut self, offset: i64, value: T) -> Result<(), SendError> {
        locked(&self.acks.ledger).skip(offset, value)?;
        self.acks.changed.notify_one();
        Ok(())
    }

    /// Everything below `next` is acknowledged or skipped; `None` until the first is.
    #[must_use]
    pub fn frontier(&self) -> Option<Frontier<T>> {
        locked(&self.acks.ledger).frontier().cloned()
    }

    /// Waits until the frontier has moved beyond the one answered last. Safe to cancel.
    ///
    /// # Errors
    /// The producer was given up.
    pub async fn advanced(&mut self) -> Result<Frontier<T>, SendError> {
        loop {
            if let Some(frontier) = self
                .frontier()
                .filter(|frontier| frontier.next > self.reported)
            {
                self.reported = frontier.next;
                return Ok(frontier);
            }
            self.change().await?;
        }
    }

    /// Waits until everything sent is acknowledged. Safe to cancel.
    ///
    /// # Errors
    /// The producer was given up.
    pub async fn drained(&mut self) -> Result<(), SendError> {
        while locked(&self.acks.ledger).open() > 0 {
            self.change().await?;
        }
        self.alone = false;
        Ok(())
    }

    /// Records sent and not acknowledged.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        locked(&self.acks.ledger).open()
    }

    /// The broker refused the record of this offset twice, alone, in the same way: what it said. Such a record is
    /// dead-lettered, not sent again.
    #[must_use]
    pub fn refused(&self, offset: i64) -> Option<String> {
        let suspect = self.producer.suspect(&self.topic, self.partition)?;
        (suspect.proven && suspect.offset == offset)
            .then(|| format!("refused twice: {}", suspect.code()))
    }

    fn is_suspect(&self, offset: i64) -> bool {
        self.producer
            .suspect(&self.topic, self.partition)
            .is_some_and(|suspect| offset <= suspect.until)
    }

    async fn room(&mut self) -> Result<(), SendError> {
        let window = self.producer.shared.options.window;
        while locked(&self.acks.ledger).open() >= window {
            self.change().await?;
        }
        Ok(())
    }

    /// No await between the two steps: a record is in the ledger if and only if librdkafka has it.
    fn try_send(&self, record: &OutRecord, offset: i64, value: T) -> Result<(), Full> {
        let opened = locked(&self.acks.ledger).record(offset, value);
        opened.map_err(|error| Full::Failed(error.into()))?;
        let to: Arc<dyn Ack> = Arc::clone(&self.acks) as _;
        let sent = self.generation.try_enqueue(record, &to, offset);
        if sent.is_err() {
            locked(&self.acks.ledger).retract(offset);
        }
        sent
    }

    async fn change(&self) -> Result<(), SendError> {
        tokio::select! {
            biased;
            () = self.generation.voided() => Err(self.generation.void_error(&self.topic, Some(self.partition))),
            () = self.acks.changed.notified() => Ok(()),
        }
    }
}
