//! Letters for the tests of this module, made as the services make them.

use bytes::Bytes;
use engagement::event::Micros;
use stream::Record;
use stream::dead_letter::{ENDPOINT, EPOCH, Entry, Letter, REDRIVE_COUNT, Reject, letter_headers};

/// When the letters failed: 2026-01-08T14:21:52Z.
pub(super) const FAILED: Micros = Micros(1_767_882_112_000_000);

/// What a letter is of.
pub(super) struct LetterOf {
    pub(super) service: &'static str,
    pub(super) endpoint: Option<&'static str>,
    pub(super) topic: &'static str,
    pub(super) payload: &'static [u8],
    pub(super) epoch: Option<&'static str>,
    pub(super) redrives: &'static str,
}

impl Default for LetterOf {
    fn default() -> Self {
        Self {
            service: "enricher",
            endpoint: None,
            topic: "cdc",
            payload: b"{\"op\":",
            epoch: Some("0"),
            redrives: "0",
        }
    }
}

/// The letter at partition 3, offset 17 of a record at partition 3, offset 42.
pub(super) fn letter(of: &LetterOf) -> Letter {
    let header = |name: &str, value: &'static str| {
        (name.to_owned(), Some(Bytes::from_static(value.as_bytes())))
    };
    let mut headers = vec![header("x", "y"), header(REDRIVE_COUNT, of.redrives)];
    headers.extend(of.epoch.map(|epoch| header(EPOCH, epoch)));
    headers.extend(of.endpoint.map(|name| header(ENDPOINT, name)));
    let record = Record {
        topic: of.topic.into(),
        partition: 3,
        offset: 42,
        timestamp_ms: Some(5),
        key: Some(Bytes::from_static(b"{\"content_id\":\"c1\"}")),
        payload: Some(Bytes::from_static(of.payload)),
        headers,
    };
    let reject = Reject::new(
        "malformed_json",
        "decode",
        "engagement::envelope",
        "it ends",
    );
    let letter = Record {
        topic: format!("engagement.dlq.{}", of.service).into(),
        offset: 17,
        headers: letter_headers(of.service, &record, &reject, FAILED),
        ..record
    };
    match Entry::of(letter) {
        Entry::Letter(letter) => *letter,
        Entry::Mark(mark) => panic!("{mark:?}"),
    }
}
