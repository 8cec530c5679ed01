//! `engagectl config show`: every setting, its value, and where it comes from.
//!
//! Invariant: no secret is shown, whoever set it.

use clap::Subcommand;
use serde_json::json;
use service::Failure;
use service::config::{fill_defaults, render};

use crate::cli::{Cli, Output};
use crate::config::Config;

const NOTES: &str = "\
One line for each setting: key, value, and origin: `default` (with the variable that would set it), file and line, an
environment variable, a file that such a variable names, or `--set`. Secrets are shown as asterisks. Nobody is asked; the
services have the same command, for what they read.

Examples:
  engagectl --config engage.toml config show
  engagectl --set kafka.bootstrap_servers=10.0.0.7:9092 config show | grep kafka
  engagectl -o json config show | jq '.[] | select(.origin != \"default\")'";

/// Verbs of `config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Show every setting with its value and where it comes from; secrets are hidden.
    #[command(after_help = NOTES)]
    Show,
}

/// What is printed.
///
/// # Errors
/// All that is wrong with the configuration at once (64).
pub(crate) fn text(cli: &Cli, command: &ConfigCommand) -> Result<String, Failure> {
    let ConfigCommand::Show = command;
    let loaded = Config::loader(cli)
        .load::<Config>()
        .map_err(|error| error.into_failure("engagectl"))?;
    for warning in loaded.warnings {
        eprintln!("warning: {warning}");
    }
    let mut entries = loaded.entries;
    let defaults = serde_json::to_value(Config::default());
    fill_defaults(&mut entries, &defaults.unwrap_or_default());
    Ok(match cli.output {
        Output::Table => render(&entries),
        Output::Json => format!("{:#}\n", json!(entries)),
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn shown(words: &[&str]) -> String {
        let cli = Cli::parse_from([&["engagectl"], words, &["config", "show"]].concat());
        text(&cli, &ConfigCommand::Show).unwrap()
    }

    #[test]
    fn every_origin_is_named_and_no_secret_shown() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("engage.toml");
        std::fs::write(&file, "[database]\nurl = 'postgres://u:hush@db/x'\ncdc_password = 'hush'\n\n[topics]\ncdc = 'a'\n").unwrap();
        let file = file.to_str().unwrap();
        let text = shown(&[
            "--config",
            file,
            "--set",
            "topics.enriched=b",
            "--set",
            "kafka.sasl_password=hush",
        ]);
        let line = |key: &str| {
            let found = text.lines().find(|line| line.starts_with(key));
            found
                .unwrap_or_else(|| panic!("no {key} in\n{text}"))
                .to_owned()
        };
        assert!(
            line("topics.cdc ").ends_with(&format!("{file}:6")),
            "{text}"
        );
        assert!(
            line("topics.enriched ").contains(" b ") && line("topics.enriched ").ends_with("--set")
        );
        assert!(
            line("canary.every ").contains("5s")
                && line("canary.every ").contains("default (CANARY_EVERY)")
        );
        assert!(line("topics.partitions ").contains("16"));
        assert!(line("database.url ").contains("postgres://u:********@db/x"));
        assert!(!text.contains("hush"), "{text}");
    }

    #[test]
    fn the_json_form_has_an_object_for_every_setting() {
        let value: serde_json::Value = serde_json::from_str(&shown(&["-o", "json"])).unwrap();
        let known = service::config::known_keys::<Config>();
        let keys: Vec<_> = value
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["key"].as_str().unwrap().to_owned())
            .collect();
        for key in known {
            assert!(keys.iter().any(|found| found.starts_with(&key)), "{key}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let cli = Cli::parse_from(["engagectl", "--set", "topics.partitons=3", "config", "show"]);
        let failure = text(&cli, &ConfigCommand::Show).unwrap_err();
        assert_eq!(failure.exit().code(), 64);
        let said = failure.render("engagectl");
        assert!(
            said.contains("topics.partitons") && said.contains("did you mean"),
            "{said}"
        );
    }
}
