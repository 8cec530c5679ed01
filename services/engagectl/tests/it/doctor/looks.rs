//! Every command that only looks, against a whole stack: on a terminal it says what it says in a pipe, and its JSON can be read.

use serde_json::{Deserializer, Value};

use super::World;
use crate::support::texts;
use crate::terminal::Terminal;

const LOOKS: [&[&str]; 26] = [
    &["check"],
    &["doctor"],
    &["init", "--dry-run"],
    &["access", "kafka"],
    &["access", "postgres"],
    &["access", "redis"],
    &["access", "clickhouse"],
    &["config", "show"],
    &["backfill", "--list"],
    &["backfill", "--start", "-2h", "--dry-run"],
    &["dlq", "ls"],
    &["dlq", "stats"],
    &["dlq", "show", "3:17"],
    &["dlq", "export"],
    &["dlq", "redrive"],
    &["dlq", "purge", "--service", "enricher", "--before", "-7d"],
    &["erase", "--user", "7"],
    &["lag"],
    &["lineage", "show"],
    &["lineage", "adopt"],
    &[
        "reset",
        "--group",
        "clickhouse-sink",
        "--to-earliest",
        "--create",
    ],
    &["rebuild", "redis"],
    &["rebuild", "clickhouse"],
    &["tail", "enriched", "--no-follow"],
    &["trace", "1"],
    &["verify", "--sinks", "clickhouse"],
];

/// Nothing here changes anything.
pub(super) fn are_the_same_on_a_terminal_and_in_a_pipe(world: &World) {
    for words in LOOKS {
        let output = world.tool(words).output().unwrap();
        let (out, err) = texts(&output);
        assert!(
            !out.contains('\x1b') && !err.contains('\x1b'),
            "{words:?} colours a pipe: {out}{err}"
        );
        let mut terminal = Terminal::start(&mut world.tool(words));
        let status = terminal.ended();
        let seen = plain(&terminal.seen);
        assert_eq!(
            status.code(),
            output.status.code(),
            "{words:?}: {seen}\n{out}{err}"
        );
        assert_ne!(status.code(), None, "{words:?}: {seen}");
        for line in plain(&out).lines().filter(|line| !line.trim().is_empty()) {
            assert!(
                seen.contains(line.trim_end()),
                "{words:?}: {line:?} is not on the terminal:\n{seen}"
            );
        }
        let json = world
            .tool(&[&["-o", "json"], words].concat())
            .output()
            .unwrap();
        let (out, err) = texts(&json);
        assert_eq!(
            json.status.code(),
            output.status.code(),
            "{words:?}: {out}{err}"
        );
        // what is refused has nothing to say but why
        if json.status.success() {
            for value in Deserializer::from_str(&out).into_iter::<Value>() {
                value.unwrap_or_else(|error| panic!("{words:?}: {error}: {out}"));
            }
        }
    }
}

/// Without colours, and with one figure for all of a number and one unit for all sizes, which may be others a moment later.
fn plain(text: &str) -> String {
    let (mut plain, mut signs) = (
        String::new(),
        text.replace("\r\n", "\n")
            .chars()
            .collect::<Vec<_>>()
            .into_iter(),
    );
    while let Some(sign) = signs.next() {
        if sign == '\x1b' {
            let _ = signs.by_ref().find(char::is_ascii_alphabetic);
        } else if !(sign.is_ascii_digit() && plain.ends_with('0')) {
            plain.push(if sign.is_ascii_digit() { '0' } else { sign });
        }
    }
    let units = ["0.0 KiB", "0.0 MiB", "0.0 GiB"];
    units
        .iter()
        .fold(plain, |plain, unit| plain.replace(unit, "0 B"))
}
