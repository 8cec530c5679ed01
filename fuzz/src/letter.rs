//! The headers of dead letters: lines of an input are a record's headers, `name=value`, or `name` for a null value.
//!
//! Invariant: what the record had stays, byte for byte and in its order, and what is added can be read.

use bytes::Bytes;
use engagement::event::Micros;
use stream::Record;
use stream::dead_letter::{self, Entry, Reject, connect, letter_headers};
use stream::headers::{Headers, last_text};

const NOW: Micros = Micros(1_800_000_000_000_000);

pub(crate) fn run(data: &[u8]) {
    let headers: Headers = data.split(|byte| *byte == b'\n').map(header).collect();
    let record = Record {
        topic: "engagement.enriched.v1".into(),
        partition: 3,
        offset: 42,
        timestamp_ms: Some(1),
        key: None,
        payload: Some(Bytes::copy_from_slice(data)),
        headers,
    };
    let message = String::from_utf8_lossy(data);
    let reject = Reject::new("malformed", "decode", "fuzz::letter", message);
    let letter = letter_headers("enricher", &record, &reject, NOW);
    keeps(&record.headers, &letter);
    says(&letter);
    reads_back(&Record {
        headers: letter.clone(),
        ..record.clone()
    });
    // a letter that comes again replaces what the first one said, and counts nothing twice
    let again = Record {
        headers: letter.clone(),
        ..record
    };
    assert_eq!(letter_headers("enricher", &again, &reject, NOW), letter);
}

/// What a letter says is had back, and what the record had is kept apart from it.
fn reads_back(letter: &Record) {
    let Entry::Letter(read) = Entry::of(letter.clone()) else {
        unreachable!("a record with a value is no mark");
    };
    let origin = read.origin.as_ref();
    assert_eq!(
        origin.map(|place| (place.partition, place.offset)),
        Some((3, 42))
    );
    let kept = read.original_headers();
    assert!(
        kept.iter()
            .all(|(name, _)| !name.starts_with("engage.dlq."))
    );
}

fn header(line: &[u8]) -> (String, Option<Bytes>) {
    let equals = line.iter().position(|byte| *byte == b'=');
    let name = &line[..equals.unwrap_or(line.len())];
    let value = equals.map(|at| Bytes::copy_from_slice(&line[at + 1..]));
    (String::from_utf8_lossy(name).into_owned(), value)
}

/// What the record had and the letter does not say itself is there, in its order.
fn keeps(original: &Headers, letter: &Headers) {
    let ours =
        |name: &str| name.starts_with("__connect.errors.") || name.starts_with("engage.dlq.");
    let of = |headers: &Headers| -> Headers {
        let kept = headers.iter().filter(|(name, _)| !ours(name));
        kept.cloned().collect()
    };
    assert_eq!(of(letter), of(original));
}

fn says(letter: &Headers) {
    assert_eq!(last_text(letter, connect::OFFSET), Some("42"));
    assert_eq!(last_text(letter, connect::PARTITION), Some("3"));
    assert_eq!(
        last_text(letter, dead_letter::ERROR_KIND),
        Some("malformed")
    );
    let message = last_text(letter, connect::EXCEPTION_MESSAGE).map(|text| text.chars().count());
    assert!(message.is_some_and(|length| length <= 2000));
    assert!(last_text(letter, dead_letter::REDRIVE_COUNT).is_some());
}
