//! docs/engagectl.md, made from the definition of the command line.
//!
//! Invariant: nothing about a command is written by hand here; what stands in the document is what `--help` says.

use std::fmt::Write as _;

use clap::{Arg, Command, CommandFactory as _};

use crate::cli::Cli;

const HEAD: &str = "\
# engagectl

Generated from the definition of the command line by `cargo run -p engagectl --example reference`; a test compares. The same
is told by `--help` of each command.

Results go to standard output, progress and errors to standard error. `-o json` gives every result as JSON; only what `demo`, `up`,
`down`, `completions` and `webhook listen` say has one form. On a terminal there are bars and screens, in a pipe plain lines; `NO_COLOR`
switches colors off. An error says what was wrong and where, what would be right, and the command to run next; with `-o json` it is an
object with `error`, `causes`, `remedy`, `next` and `exit`, in one line, the last on standard error.

Ctrl-C or SIGTERM ends a command that only reads at once (75). One that follows or writes ends where it can go on, or says that what has
begun is done to its end. A second signal ends every command at once (75).

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | a question was answered with no: a maximum of `lag` is exceeded, what `healthcheck` asks is not well |
| 64 | bad usage or configuration |
| 69 | a dependency cannot be reached |
| 70 | a defect of the tool |
| 75 | not yet: try again |
| 78 | somebody must repair something first |
";

/// The whole document.
#[must_use]
pub fn render() -> String {
    let mut root = Cli::command();
    root.build();
    let mut commands = Vec::new();
    leaves(&root, "engagectl", &mut commands);
    let mut text = HEAD.to_owned();
    text += "\n## Commands\n\n| command | what it does |\n|---|---|\n";
    for (path, command) in &commands {
        let _ = writeln!(
            text,
            "| [`{path}`](#{}) | {} |",
            anchor(path),
            cell(&about(command))
        );
    }
    text += "\n## Options of every command\n\n";
    text += &table(root.get_arguments().filter(|arg| arg.is_global_set()));
    for (path, command) in &commands {
        section(&mut text, path, command);
    }
    text
}

/// Commands that do something, each with its whole name.
fn leaves<'a>(command: &'a Command, path: &str, into: &mut Vec<(String, &'a Command)>) {
    let inner = command
        .get_subcommands()
        .filter(|one| one.get_name() != "help");
    let inner: Vec<_> = inner.collect();
    if inner.is_empty() {
        into.push((path.to_owned(), command));
    }
    for one in inner {
        leaves(one, &format!("{path} {}", one.get_name()), into);
    }
}

fn section(text: &mut String, path: &str, command: &Command) {
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ").trim();
    let _ = write!(
        text,
        "\n## {path}\n\n{}\n\n```text\n{usage}\n```\n",
        about(command)
    );
    let own =
        |arg: &&Arg| !arg.is_global_set() && !["help", "version"].contains(&arg.get_id().as_str());
    let options = table(command.get_arguments().filter(own));
    if !options.is_empty() {
        let _ = write!(text, "\n{options}");
    }
    if let Some(ending) = command.get_after_help() {
        let _ = write!(text, "\n```text\n{}\n```\n", ending.to_string().trim_end());
    }
}

fn about(command: &Command) -> String {
    let about = command.get_long_about().or_else(|| command.get_about());
    let about = about.map(ToString::to_string).unwrap_or_default();
    let about = about.trim().trim_end_matches('.').to_owned();
    if about.is_empty() { about } else { about + "." }
}

/// Empty without arguments.
fn table<'a>(arguments: impl Iterator<Item = &'a Arg>) -> String {
    let rows: String = arguments
        .filter(|arg| !arg.is_hide_set())
        .map(row)
        .collect();
    if rows.is_empty() {
        return rows;
    }
    format!("| option | meaning |\n|---|---|\n{rows}")
}

fn row(arg: &Arg) -> String {
    let help = arg.get_long_help().or_else(|| arg.get_help());
    let mut meaning = help.map(ToString::to_string).unwrap_or_default();
    if !meaning.is_empty() && !meaning.ends_with('.') {
        meaning.push('.');
    }
    let named = |value: &clap::builder::PossibleValue| {
        let help = value
            .get_help()
            .map(|help| format!(": {help}"))
            .unwrap_or_default();
        format!("`{}`{}", value.get_name(), help.trim_end_matches('.'))
    };
    let values: Vec<_> = arg.get_possible_values().iter().map(named).collect();
    if arg.get_action().takes_values() && !values.is_empty() {
        let _ = write!(meaning, " One of {}.", values.join("; "));
    }
    let defaults: Vec<_> = arg
        .get_default_values()
        .iter()
        .map(|value| value.to_string_lossy())
        .collect();
    if arg.get_action().takes_values() && !defaults.is_empty() {
        let _ = write!(meaning, " Default: `{}`.", defaults.join(","));
    }
    if let Some(variable) = arg.get_env() {
        let _ = write!(meaning, " Environment: `{}`.", variable.to_string_lossy());
    }
    format!("| `{}` | {} |\n", name(arg), cell(&meaning))
}

/// As it is typed: `-o, --output <OUTPUT>`, `<STREAM>`.
fn name(arg: &Arg) -> String {
    let value = || {
        let names = arg.get_value_names().unwrap_or_default();
        let first = names.first().map(ToString::to_string);
        first.unwrap_or_else(|| arg.get_id().as_str().to_uppercase())
    };
    let short = arg.get_short().map(|short| format!("-{short}"));
    let long = arg.get_long().map(|long| format!("--{long}"));
    let flags: Vec<_> = short.into_iter().chain(long).collect();
    match (flags.is_empty(), arg.get_action().takes_values()) {
        (true, _) => format!("<{}>", value()),
        (false, true) => format!("{} <{}>", flags.join(", "), value()),
        (false, false) => flags.join(", "),
    }
}

/// A cell of a table is one line, and a bar would end it.
fn cell(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    words.join(" ").replace('|', "\\|")
}

/// As the usual renderers make it of a heading.
fn anchor(heading: &str) -> String {
    heading.replace(' ', "-")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_document_of_the_commands_is_current() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/engagectl.md");
        let written = std::fs::read_to_string(path).unwrap();
        assert!(
            written == render(),
            "docs/engagectl.md is old: cargo run -p engagectl --example reference"
        );
    }

    #[test]
    fn every_command_has_a_section_with_options_and_example() {
        let text = render();
        for part in [
            "## engagectl tail\n",
            "| `--where <CONDITION>` |",
            "| `<STREAM>` | Which records. One of `enriched`: ",
            "## engagectl lineage adopt\n",
            "| `-o, --output <OUTPUT>` | How results are printed. One of `table`: For people; `json`: For programs. Default: `table`. |",
            "Environment: `ENGAGE_CONFIG`.",
            "engagectl tail [OPTIONS] <STREAM>",
            "[`engagectl config show`](#engagectl-config-show)",
        ] {
            assert!(text.contains(part), "{part:?} is missing in\n{text}");
        }
        assert_eq!(
            text.matches("Example").count(),
            text.matches("\n## engagectl ").count()
        );
    }

    #[test]
    fn a_bar_does_not_end_a_cell() {
        assert_eq!(cell("a | b\n c"), "a \\| b c");
    }
}
