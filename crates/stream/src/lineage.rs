//! The rules that make the log its own proof: duplicates, holes, and where to continue. Pure.
//!
//! Invariant: whatever the log does not prove is refused by name, never guessed.

mod duplicates;
mod reader;
mod refusal;
mod resume;

pub use crate::checkpoint::{Checkpoint, Database, Mark, Stored};
pub use duplicates::{
    COMMIT_TIME_TOLERANCE, Change, Contradiction, Duplicates, Identity, Recognition, WINDOW,
};
pub use reader::{Reader, Verdict};
pub use refusal::Refusal;
pub use resume::{
    EnricherResume, Proof, ReaderResume, enricher_resume, reader_proof, reader_resume, same_log,
};
