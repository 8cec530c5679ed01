//! Letters as JSON lines on standard output.
//!
//! Invariant: one letter is one line, and its bytes can be had back exactly.

use std::io::{ErrorKind, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};
use service::Failure;
use stream::KafkaSettings;
use stream::dead_letter::Letter;

use super::filter::Filter;
use super::topics::{Known, Marks, fold};

/// What became of the lines.
#[derive(Debug, Default)]
struct Written {
    letters: u64,
    failed: Option<std::io::Error>,
}

/// Writes all that pass, and says on standard error how many.
///
/// # Errors
/// The broker does not answer (69), or standard output takes no more (70).
pub(super) async fn run(kafka: &KafkaSettings, filter: &Filter) -> Result<(), Failure> {
    let mut out = std::io::BufWriter::new(std::io::stdout());
    let write = move |written: &mut Written, _: &Known, letter: Letter| {
        if written.failed.is_some() {
            return;
        }
        match writeln!(out, "{}", line(&letter)).and_then(|()| out.flush()) {
            Ok(()) => written.letters += 1,
            Err(error) => written.failed = Some(error),
        }
    };
    let folded = fold(kafka, filter, Marks::Along, Written::default(), write);
    let (written, _) = folded.await?;
    match written.failed {
        // the reader has had enough (`| head`)
        Some(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        Some(error) => Err(Failure::internal("standard output takes no more").cause(error)),
        None => {
            eprintln!("{} letters", written.letters);
            Ok(())
        }
    }
}

fn line(letter: &Letter) -> Value {
    let base64 = |bytes: Option<&Bytes>| bytes.map(|bytes| STANDARD.encode(bytes));
    let headers: Vec<Value> = letter
        .original_headers()
        .iter()
        .map(|(name, value)| json!([name, base64(value.as_ref())]))
        .collect();
    json!({
        "at": letter.at.to_string(),
        "service": letter.service,
        "endpoint": letter.endpoint,
        "reason": letter.kind,
        "stage": letter.stage,
        "class": letter.class,
        "message": letter.message,
        "failed_at": letter.failed_at().to_string(),
        "attempts": letter.attempts,
        "redrives": letter.redrives,
        "epoch": letter.epoch,
        "origin": letter.origin.as_ref().map(ToString::to_string),
        "timestamp_ms": letter.record.timestamp_ms,
        "key_base64": base64(letter.record.key.as_ref()),
        "value_base64": base64(letter.record.payload.as_ref()),
        "headers_base64": headers,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dlq::testing::{LetterOf, letter};

    #[test]
    fn a_line_gives_the_bytes_back() {
        let letter = letter(&LetterOf {
            payload: b"\x00\xff\n",
            ..LetterOf::default()
        });
        let text = line(&letter).to_string();
        assert!(!text.contains('\n'));
        let read: Value = serde_json::from_str(&text).unwrap();
        let bytes = |value: &Value| STANDARD.decode(value.as_str().unwrap()).unwrap();
        assert_eq!(bytes(&read["value_base64"]), b"\x00\xff\n");
        assert_eq!(bytes(&read["key_base64"]), &letter.record.key.unwrap()[..]);
        assert_eq!(read["headers_base64"][0][0], "x");
        assert_eq!(bytes(&read["headers_base64"][0][1]), b"y");
    }
}
