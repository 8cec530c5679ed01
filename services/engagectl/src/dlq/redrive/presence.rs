//! That a run is at work in one partition of letters: told to others, and asked of them.
//!
//! A run marks its beginning there, with the end of the partition that it writes to; then each copy that the broker has; then its
//! end. Invariant: a run that others may have taken for dead tells its beginning again before it sends more, and one that finds
//! another's beginning behind its own gives way.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use service::Failure;
use stream::dead_letter::{Entry, RedriveMark};
use stream::probe::Probe;
use stream::{Producer, SendError};

use crate::kafka::unanswered;

/// A run that has written nothing for so long may have been taken for dead meanwhile, though not if it was only slow.
const QUIET: Duration = Duration::from_secs(8);

/// Writes the marks of one run.
#[derive(Clone)]
pub(super) struct Marks {
    pub(super) producer: Producer,
    pub(super) run: String,
}

impl Marks {
    /// Writes one, and answers where it stands.
    pub(super) async fn write(
        &self,
        topic: &Arc<str>,
        partition: i32,
        mark: &RedriveMark,
    ) -> Result<i64, Failure> {
        let record = mark.record(topic, partition);
        let sent = self.producer.send_acked(&record).await;
        sent.map(|(_, offset)| offset)
            .map_err(|error| unsent(&error))
    }

    /// Nobody has to look any more for what this run, or one before, has sent.
    pub(super) async fn end(
        &self,
        topic: &Arc<str>,
        partition: i32,
        run: &str,
    ) -> Result<(), Failure> {
        let run = run.to_owned();
        let end = RedriveMark::End { run };
        self.write(topic, partition, &end).await.map(drop)
    }
}

/// This run in one partition.
pub(super) struct Presence {
    marks: Marks,
    probe: Probe,
    topic: Arc<str>,
    partition: i32,
    /// Where the partition that it writes to ended.
    target_end: i64,
    /// Not later than what others see of it: the time of its last mark, or of its beginning.
    seen: Instant,
    /// Below this offset no other run has begun since it planned.
    looked: i64,
}

impl Presence {
    /// Tells that this run begins, which was planned when the letters ended at `planned`.
    ///
    /// # Errors
    /// Another one has begun since (75), or the broker is away (69).
    pub(super) async fn begin(
        (marks, probe): (&Marks, &Probe),
        (topic, partition): (&Arc<str>, i32),
        target_end: i64,
        planned: Option<i64>,
    ) -> Result<Self, Failure> {
        let mut presence = Self {
            marks: marks.clone(),
            probe: probe.clone(),
            topic: Arc::clone(topic),
            partition,
            target_end,
            seen: Instant::now(),
            looked: 0,
        };
        let at = presence.tell().await?;
        presence.looked = planned.unwrap_or(at);
        presence.alone(at).await?;
        presence.looked = at + 1;
        Ok(presence)
    }

    /// Before each letter that is sent.
    ///
    /// # Errors
    /// Another one has begun (75), or the broker is away (69).
    pub(super) async fn keep(&mut self) -> Result<(), Failure> {
        // it stood still, and may have been taken for dead
        if self.seen.elapsed() >= QUIET {
            self.tell().await?;
        }
        // whoever has taken it for dead, by whatever clock, has begun behind it
        self.alone(i64::MAX).await
    }

    /// Writes marks together.
    pub(super) async fn mark(&mut self, marks: &[RedriveMark]) -> Result<(), Failure> {
        let seen = Instant::now();
        let marking = marks
            .iter()
            .map(|mark| self.marks.write(&self.topic, self.partition, mark));
        for marked in join_all(marking).await {
            marked?;
        }
        // one that was silent for long may have been taken for dead: it has to begin again
        if self.seen.elapsed() < QUIET {
            self.seen = seen;
        }
        Ok(())
    }

    /// Tells that this run has ended: all that it sent is marked.
    pub(super) async fn end(self) -> Result<(), Failure> {
        let run = &self.marks.run;
        self.marks.end(&self.topic, self.partition, run).await
    }

    /// Tells that this run is at work; answers where that stands.
    async fn tell(&mut self) -> Result<i64, Failure> {
        let begin = RedriveMark::Begin {
            run: self.marks.run.clone(),
            target_end: self.target_end,
        };
        self.seen = Instant::now();
        self.marks.write(&self.topic, self.partition, &begin).await
    }

    /// Another run may have begun below `to` since the last look: then this one ends.
    async fn alone(&mut self, to: i64) -> Result<(), Failure> {
        let between = self
            .probe
            .read_range(&self.topic, self.partition, self.looked, to);
        let between = between.await.map_err(unanswered)?;
        if let Some(last) = between.last() {
            self.looked = last.offset + 1;
        }
        let own = &self.marks.run;
        let begins = between.into_iter().any(|record| {
            matches!(Entry::of(record), Entry::Mark(Some(RedriveMark::Begin { run, .. })) if run != *own)
        });
        if !begins {
            return Ok(());
        }
        self.marks.end(&self.topic, self.partition, own).await?;
        Err(busy(&self.topic))
    }
}

/// Another run is at work.
pub(super) fn busy(topic: &str) -> Failure {
    Failure::try_again(format!(
        "another redrive of {topic} is at work, or was killed a moment ago"
    ))
    .remedy("wait for its end; one that was killed is continued once it has been silent for 12 s")
    .next("engagectl dlq redrive --execute")
}

/// The broker has not taken a copy or a mark.
pub(super) fn unsent(error: &SendError) -> Failure {
    let remedy = match error {
        SendError::Refused { .. } => {
            "grant the user of this tool what docs/dead-letters.md names, or create the topic"
        }
        _ => "bring the broker back; what was sent is marked, and is not sent again",
    };
    Failure::unavailable("Kafka does not take what is sent")
        .cause(error.to_string())
        .remedy(remedy)
        .next("engagectl dlq redrive --execute")
}
