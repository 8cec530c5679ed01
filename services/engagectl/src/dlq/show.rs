//! Whole letters, with the bytes of their records.
//!
//! Invariant: bytes are shown as they are: as text where they are UTF-8, otherwise in hex.

use std::fmt::Write as _;

use bytes::Bytes;
use serde_json::{Value, json};
use service::Failure;
use stream::dead_letter::Letter;

use super::args::{FilterArgs, ShowArgs};
use super::filter::Filter;
use super::list;
use super::topics::{Known, Marks, fold};
use crate::cli::Output;
use crate::config::Config;

/// A record has one letter of each service or endpoint, and one more for each redrive.
const MOST: usize = 100;

/// Prints every letter that is at the place, or whose record was.
///
/// # Errors
/// There is none (64), or the broker does not answer (69).
pub(super) async fn run(config: &Config, args: &ShowArgs, output: Output) -> Result<(), Failure> {
    let filter = FilterArgs {
        service: args.service.iter().cloned().collect(),
        ..FilterArgs::default()
    };
    let filter = Filter::of(&filter, service::clock::now())?;
    let place = args.place.clone();
    let keep = move |found: &mut Vec<Letter>, _: &Known, letter: Letter| {
        if place.is(&letter) && found.len() < MOST {
            found.push(letter);
        }
    };
    let folded = fold(&config.kafka, &filter, Marks::Along, Vec::new(), keep);
    let (found, _) = folded.await?;
    if found.is_empty() {
        return Err(
            Failure::usage("no letter is there, and none is of a record that was")
                .remedy("letters are kept for 14 days; this lists those that are there")
                .next("engagectl dlq ls"),
        );
    }
    crate::cli::print(&match output {
        Output::Table => found.iter().map(text).collect::<Vec<_>>().join("\n"),
        Output::Json => {
            let letters: Vec<Value> = found.iter().map(value).collect();
            format!("{:#}\n", json!(letters))
        }
    });
    Ok(())
}

fn text(letter: &Letter) -> String {
    let or_unknown = |text: Option<String>| text.unwrap_or_else(|| "unknown".to_owned());
    let origin = letter.origin.as_ref().map(ToString::to_string);
    let mut text = format!("letter         {}\n", letter.at);
    let rows = [
        ("given up by", letter.consumer()),
        ("record", or_unknown(origin)),
        ("reason", letter.kind.clone()),
        ("message", list::one_line(&letter.message)),
        ("step", format!("{} in {}", letter.stage, letter.class)),
        ("failed", letter.failed_at().to_string()),
        (
            "attempts",
            or_unknown(letter.attempts.map(|count| count.to_string())),
        ),
        ("redriven", format!("{} times", letter.redrives)),
    ];
    for (name, value) in rows {
        let _ = writeln!(text, "{name:<14} {value}");
    }
    for (name, value) in letter.original_headers() {
        let _ = writeln!(text, "header         {name}: {}", shown(value.as_ref()));
    }
    let _ = writeln!(text, "key            {}", shown(letter.record.key.as_ref()));
    let _ = writeln!(
        text,
        "value          {}",
        shown(letter.record.payload.as_ref())
    );
    text
}

/// As text, unless a terminal could take it for more than that.
fn shown(bytes: Option<&Bytes>) -> String {
    let Some(bytes) = bytes else {
        return "null".to_owned();
    };
    let is_plain = |text: &&str| {
        !text
            .chars()
            .any(|c| c.is_control() && c != '\n' && c != '\t')
    };
    match std::str::from_utf8(bytes).ok().filter(is_plain) {
        Some(text) => text.to_owned(),
        None => format!("0x{}", hex(bytes)),
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn value(letter: &Letter) -> Value {
    let headers: Vec<Value> = letter
        .original_headers()
        .iter()
        .map(|(name, value)| json!({ "name": name, "value": in_json(value.as_ref()) }))
        .collect();
    json!({
        "at": letter.at.to_string(), "service": letter.service, "endpoint": letter.endpoint,
        "origin": letter.origin.as_ref().map(ToString::to_string),
        "reason": letter.kind, "stage": letter.stage, "class": letter.class, "message": letter.message,
        "failed_at": letter.failed_at().to_string(), "attempts": letter.attempts,
        "redrives": letter.redrives, "redriven_at": letter.redriven_at.map(|at| at.to_string()), "epoch": letter.epoch,
        "headers": headers, "key": in_json(letter.record.key.as_ref()), "value": in_json(letter.record.payload.as_ref()),
    })
}

fn in_json(bytes: Option<&Bytes>) -> Value {
    match bytes.map(|bytes| (std::str::from_utf8(bytes), bytes)) {
        None => Value::Null,
        Some((Ok(text), _)) => json!({ "utf8": text }),
        Some((Err(_), bytes)) => json!({ "hex": hex(bytes) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dlq::testing::{LetterOf, letter};

    #[test]
    fn bytes_are_text_where_they_are_text_and_hex_otherwise() {
        let readable = letter(&LetterOf::default());
        assert!(
            text(&readable).contains("value          {\"op\":\n"),
            "{}",
            text(&readable)
        );
        assert_eq!(value(&readable)["value"]["utf8"], "{\"op\":");
        let binary = letter(&LetterOf {
            payload: b"\x00\xff",
            ..LetterOf::default()
        });
        assert!(text(&binary).contains("value          0x00ff\n"));
        assert_eq!(value(&binary)["value"]["hex"], "00ff");
    }

    #[test]
    fn a_text_that_would_steer_the_terminal_is_shown_in_hex() {
        let nasty = letter(&LetterOf {
            payload: b"\x1b[2J",
            ..LetterOf::default()
        });
        assert!(text(&nasty).contains("0x1b5b324a"));
    }

    #[test]
    fn what_the_record_said_and_what_the_letter_says_are_kept_apart() {
        let value = value(&letter(&LetterOf::default()));
        assert_eq!(
            value["headers"],
            json!([{ "name": "x", "value": { "utf8": "y" } }])
        );
        assert_eq!(value["origin"], "cdc/3/42");
        assert_eq!(value["reason"], "malformed_json");
    }
}
