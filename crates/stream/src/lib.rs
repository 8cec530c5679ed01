#![doc = include_str!("../docs/architecture.md")]

pub mod backfill;
pub mod beside;
pub mod checkpoint;
pub mod contact;
pub mod dead_letter;
pub mod election;
mod error;
pub mod headers;
pub mod lanes;
pub mod ledger;
pub mod lineage;
pub mod metrics;
pub mod probe;
pub mod producer;
mod record;
pub mod redrive;
pub mod resume;
pub mod scan;
pub mod settings;
pub mod status;
mod sync;
pub mod tail;
pub mod trace;

pub use error::{LaneError, RunError, RunErrorKind};
pub use lanes::{Committed, Committer, LaneHandle, LanesOptions, Watermarks};
pub use producer::{OutRecord, Producer, ProducerLane, SendError};
pub use record::Record;
pub use settings::KafkaSettings;
pub use status::Status;
