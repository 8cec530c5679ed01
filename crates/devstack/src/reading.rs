//! Reads a topic in a test, past the errors that are no answer.
//!
//! Invariant: a connection that broke is the client's to mend; only the deadline ends a wait for a record.

use std::time::{Duration, Instant};

use rdkafka::{
    consumer::{BaseConsumer, ConsumerContext},
    error::KafkaError,
    message::BorrowedMessage,
};

/// Wait for one answer; also how late the deadline is noticed.
const POLL: Duration = Duration::from_millis(100);

/// Why there is no record at the deadline.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoMessage {
    /// The client had nothing to tell.
    #[error("no record came in time, nor an error")]
    Silence,
    /// The last thing that the client told.
    #[error("no record came in time; the last error was: {0}")]
    Trouble(KafkaError),
}

/// The next record of a consumer that is assigned or subscribed; blocks up to `deadline`, and looks once if that has passed.
///
/// A broker that is restarted or slow tells every consumer of it an error, and the client then connects again by itself: what
/// is told meanwhile, and the ends of partitions, are passed over.
///
/// # Errors
/// No record came in time; it carries the last error that was told.
pub fn next_message<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    deadline: Instant,
) -> Result<BorrowedMessage<'_>, NoMessage> {
    let mut seen = NoMessage::Silence;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match consumer.poll(left.min(POLL)) {
            Some(Ok(message)) => return Ok(message),
            Some(Err(error)) => seen = NoMessage::Trouble(error),
            None => {}
        }
        if Instant::now() >= deadline {
            return Err(seen);
        }
    }
}
