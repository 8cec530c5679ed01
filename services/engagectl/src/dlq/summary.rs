//! What is kept of a letter: all but its bytes. Pure.

use engagement::event::Micros;
use stream::dead_letter::{self, Letter, Place};

use super::filter::{content_of, keys};

/// Characters of a message that are kept.
const SHOWN: usize = 200;

/// What a list, a plan or a count needs to know of a letter.
#[derive(Clone, Debug)]
pub(super) struct Summary {
    pub(super) at: Place,
    pub(super) service: String,
    pub(super) endpoint: Option<String>,
    pub(super) origin: Option<Place>,
    pub(super) reason: String,
    pub(super) message: String,
    pub(super) failed_at: Micros,
    pub(super) attempts: Option<u32>,
    pub(super) redrives: u32,
    pub(super) epoch: Option<u8>,
    pub(super) content: Option<String>,
    /// Bytes of key and value.
    pub(super) bytes: usize,
}

impl Summary {
    /// Of a letter, whose bytes go.
    pub(super) fn of(letter: Letter) -> Self {
        let size = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, bytes::Bytes::len);
        Self {
            content: content_of(&keys(), &letter),
            failed_at: letter.failed_at(),
            bytes: size(&letter.record.key) + size(&letter.record.payload),
            message: shortened(&letter.message),
            at: letter.at,
            service: letter.service,
            endpoint: letter.endpoint,
            origin: letter.origin,
            reason: letter.kind,
            attempts: letter.attempts,
            redrives: letter.redrives,
            epoch: letter.epoch,
        }
    }

    /// `service`, or `service.endpoint`.
    pub(super) fn consumer(&self) -> String {
        dead_letter::consumer(&self.service, self.endpoint.as_deref())
    }
}

/// Messages quote records, which may be long.
pub(super) fn shortened(message: &str) -> String {
    message.chars().take(SHOWN).collect()
}
