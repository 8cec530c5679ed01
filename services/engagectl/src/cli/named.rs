//! What errors and documents tell people to run is there: every `engagectl <verb> --option` that a text of this
//! project names is looked up in the definition of the command line.
//!
//! Invariant: a word after the tool's name is a verb; prose puts the bare name into backticks.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory};

use super::Cli;

const TOOL: &str = "engagectl";

#[test]
fn every_command_that_an_error_or_a_document_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut texts = Vec::new();
    collect(&root, &mut texts);
    let (mut named, mut wrong) = (0, Vec::new());
    for path in texts {
        // What is no UTF-8 is no text.
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        let found = commands(&text);
        named += found.len();
        let complaints = found.iter().filter_map(|words| complaint(words));
        wrong.extend(complaints.map(|what| format!("{}: {what}", path.display())));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(named > 50, "only {named} commands were found");
}

#[test]
fn a_verb_or_an_option_that_is_not_there_is_found_also_across_a_line_break() {
    let wrong = [
        "next: TOOL rebuild kafka",
        "run `TOOL lineage repair`, then",
        "\"see `TOOL \\\n    rewind`\"",
        "/// by `TOOL\n    /// backfill --upto x`",
        "TOOL --config engage.toml dlq list",
        "TOOL lineage adopt --force",
    ];
    for text in wrong {
        let found = commands(&text.replace("TOOL", TOOL));
        assert_eq!(found.len(), 1, "{text}");
        assert!(complaint(&found[0]).is_some(), "{text}");
    }
    let right = [
        "`TOOL lineage adopt --execute` goes on",
        "TOOL --config engage.toml -o json verify --within 60s",
        "TOOL gen --rate 500/s\nTOOL check",
        "`TOOL lineage ..`, `TOOL`'s own, # --- TOOL ---",
        "kafka-acls.sh --allow-principal User:TOOL --operation Read\nuser TOOL on ~eng:*",
    ];
    for text in right {
        let found = commands(&text.replace("TOOL", TOOL));
        let complaints: Vec<_> = found.iter().filter_map(|words| complaint(words)).collect();
        assert!(complaints.is_empty(), "{text}: {complaints:?}");
    }
}

/// The texts of the checkout; not what a build or a run has left there.
fn collect(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let made = ["target", ".git", ".devstack"].contains(&&*name);
        if path.is_dir() && !path.is_symlink() && !made {
            collect(&path, into);
        } else if is_text(&name) {
            into.push(path);
        }
    }
}

fn is_text(name: &str) -> bool {
    let ending = name.rsplit('.').next().unwrap_or_default();
    ["rs", "md", "toml", "sql", "sh", "yml", "yaml", "json"].contains(&ending)
        || ["Makefile", ".env.example"].contains(&name)
}

/// What follows the tool's name wherever something does, up to the end of the quotation or sentence.
fn commands(text: &str) -> Vec<Vec<String>> {
    let text = joined(text);
    let places = text.match_indices(TOOL);
    // a package of cargo, a user of Kafka or Redis
    let others = ["-p ", "User:", "user "];
    let tools = places.filter(|(at, _)| !others.iter().any(|other| text[..*at].ends_with(other)));
    let rests = tools.map(|(at, name)| &text[at + name.len()..]);
    rests
        .filter(|rest| rest.starts_with(' '))
        .map(words)
        .filter(|words| words.first().is_some_and(|word| is_verb_or_option(word)))
        .collect()
}

fn is_verb_or_option(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_lowercase() || c == '-')
}

/// Lines as one, without what marks them as comments or continues a literal.
fn joined(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let line = line.trim().trim_end_matches('\\').trim_end();
        line.trim_start_matches(['/', '!', '#', '*']).trim_start()
    });
    lines.collect::<Vec<_>>().join(" ")
}

fn words(rest: &str) -> Vec<String> {
    let mut words = Vec::new();
    for word in rest.split_whitespace() {
        let part = |c: char| c.is_alphanumeric() || "-_=/.:".contains(c);
        let end = word.find(|c| !part(c)).unwrap_or(word.len());
        let whole = word[..end].trim_end_matches(['.', ':']);
        if whole.is_empty() || whole.trim_matches('-').is_empty() {
            break;
        }
        words.push(whole.to_owned());
        if whole.len() < word.len() {
            break;
        }
    }
    words
}

/// The first word that the command line does not know.
fn complaint(words: &[String]) -> Option<String> {
    let mut command = Cli::command();
    command.build();
    let (mut at, mut words) = (&command, words.iter());
    while let Some(word) = words.next() {
        if word.starts_with('-') {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            let Some(takes_value) = option(at, name) else {
                return Some(format!("{} has no {name}", at.get_name()));
            };
            if takes_value && value.is_empty() {
                words.next();
            }
        } else if at.has_subcommands() {
            let Some(verb) = at.find_subcommand(word) else {
                return Some(format!("{} has no {word}", at.get_name()));
            };
            at = verb;
        } else {
            break;
        }
    }
    None
}

/// Whether this option is followed by a value; `None`: there is no such option.
fn option(command: &Command, name: &str) -> Option<bool> {
    let is_it = |arg: &&clap::Arg| match name.strip_prefix("--") {
        Some(long) => arg.get_long() == Some(long),
        None => arg.get_short() == name.chars().nth(1),
    };
    let found = command.get_arguments().find(is_it)?;
    Some(found.get_action().takes_values())
}
