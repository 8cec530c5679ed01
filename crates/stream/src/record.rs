//! A consumed record, owned.
//!
//! Invariant: key, payload, headers and timestamp are the bytes the broker holds; absent stays absent, empty stays empty.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use rdkafka::Message;
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, Headers as _};

use crate::headers::Headers;

/// Stands for a header name that is not UTF-8; its value is not readable through this client.
const INVALID_NAME: &str = "\u{fffd}";

/// One record of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Topic it was read from.
    pub topic: Arc<str>,
    /// Partition it was read from.
    pub partition: i32,
    /// Its offset in that partition.
    pub offset: i64,
    /// Timestamp in milliseconds since 1970 UTC; `None` where the broker has none.
    pub timestamp_ms: Option<i64>,
    /// Key bytes; `None` is a null key.
    pub key: Option<Bytes>,
    /// Value bytes; `None` is a tombstone.
    pub payload: Option<Bytes>,
    /// Headers in their order; a name may repeat.
    pub headers: Headers,
}

impl Record {
    /// Value of the last header of that name, as a reader of Kafka's `lastHeader` sees it.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        crate::headers::last(&self.headers, name)
    }

    /// Bytes of key, value and headers together.
    #[must_use]
    pub fn size(&self) -> usize {
        let body =
            self.key.as_ref().map_or(0, Bytes::len) + self.payload.as_ref().map_or(0, Bytes::len);
        body + crate::headers::size(&self.headers)
    }

    pub(crate) fn of(topic: &Arc<str>, message: &BorrowedMessage<'_>) -> Self {
        Self {
            topic: Arc::clone(topic),
            partition: message.partition(),
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis(),
            key: message.key().map(Bytes::copy_from_slice),
            payload: message.payload().map(Bytes::copy_from_slice),
            headers: headers_of(message),
        }
    }
}

fn headers_of(message: &BorrowedMessage<'_>) -> Headers {
    let Some(headers) = message.headers() else {
        return Vec::new();
    };
    (0..headers.count())
        .map(|index| header_of(headers, index))
        .collect()
}

/// Kafka's header names are bytes; the client panics on one that is not UTF-8. Such a name becomes [`INVALID_NAME`].
fn header_of(headers: &BorrowedHeaders, index: usize) -> (String, Option<Bytes>) {
    let read = || {
        let header = headers.get(index);
        (
            header.key.to_owned(),
            header.value.map(Bytes::copy_from_slice),
        )
    };
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| (INVALID_NAME.to_owned(), None))
}
