//! The corpus, and mutations of it with a fixed seed.
#![expect(clippy::unwrap_used, reason = "helpers of a test")]

use std::fs;
use std::path::PathBuf;

use fuzz::{TARGETS, Target, target};
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Mutations of each target; more by `FUZZ_MUTATIONS`.
const MUTATIONS: usize = 2_000;
/// Bytes that mean something to one of the parsers.
const TOKENS: [&[u8]; 28] = [
    b"null",
    b"{}",
    b"[]",
    b"\"",
    b"\\u0000",
    b"-1",
    b"0",
    b"9223372036854775808",
    b"1e400",
    b"true",
    b"__debezium_unavailable_value",
    b"\"op\":\"d\"",
    b"\"before\":",
    b"\"sequence\":\"[null,\\\"1\\\"]\"",
    b"live/0/3/42",
    b"redrive/255/0/9223372036854775807",
    b"engage1 epoch=0",
    b" mark=1:2@3",
    b"~",
    b"@",
    b"whsec_",
    b"https://",
    b"::ffff:10.0.0.1",
    b"/32",
    b"\xff\xfe",
    b"\n",
    b"=",
    b"snapshot/1",
];

fn corpus(target: Target) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target.name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 3, "{folder:?} has too few inputs");
    files
        .into_iter()
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect()
}

fn mutate(input: &mut Vec<u8>, other: &[u8], random: &mut ChaCha8Rng) {
    for _ in 0..random.random_range(1..6) {
        let at = random.random_range(0..=input.len());
        let to = random.random_range(at..=input.len().min(at + 16));
        match random.random_range(0..6) {
            0 => drop(input.drain(at..to)),
            1 => {
                let token = TOKENS.choose(random).unwrap();
                input.splice(at..to, token.iter().copied());
            }
            2 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << random.random_range(0..8);
                }
            }
            3 => {
                let copy = input[at..to].to_vec();
                input.splice(at..at, copy);
            }
            4 => input.insert(at, random.random()),
            _ => {
                let from = random.random_range(0..=other.len());
                let until = random.random_range(from..=other.len().min(from + 64));
                input.splice(at..to, other[from..until].iter().copied());
            }
        }
    }
}

/// A configuration is read six times, once from a file.
fn mutations(target: Target) -> usize {
    if target.name == "config" {
        MUTATIONS / 20
    } else {
        MUTATIONS
    }
}

fn try_out(name: &str) {
    let target = target(name).unwrap();
    let corpus = corpus(target);
    for (path, input) in &corpus {
        eprintln!("{}", path.display());
        (target.run)(input);
    }
    let count =
        std::env::var("FUZZ_MUTATIONS").map_or(mutations(target), |text| text.parse().unwrap());
    let mut random = ChaCha8Rng::seed_from_u64(4);
    for number in 0..count {
        let (_, first) = corpus.choose(&mut random).unwrap();
        let (_, other) = corpus.choose(&mut random).unwrap();
        let mut input = first.clone();
        mutate(&mut input, other, &mut random);
        let run = std::panic::catch_unwind(|| (target.run)(&input));
        assert!(
            run.is_ok(),
            "{name}: mutation {number} fails: {:?}",
            String::from_utf8_lossy(&input)
        );
    }
}

#[test]
fn change_records_of_any_bytes_are_read_or_refused() {
    try_out("envelope");
}

#[test]
fn dead_letters_keep_the_headers_of_any_record() {
    try_out("letter");
}

#[test]
fn positions_that_parse_are_printed_so_that_they_parse() {
    try_out("lineage");
}

#[test]
fn events_that_can_be_read_survive_everything_made_of_them() {
    try_out("wire");
}

#[test]
fn configurations_of_any_bytes_are_taken_or_refused_in_words() {
    try_out("config");
}

#[test]
fn secrets_urls_and_addresses_of_any_bytes_are_judged() {
    try_out("webhook");
}

#[test]
fn every_target_has_a_corpus() {
    for target in TARGETS {
        assert!(!corpus(target).is_empty(), "{target:?}");
    }
}
