//! The options of every command that the next command needs again.
//!
//! Invariant: what is repeated means the same in the same shell, and no secret is in it.

use std::ffi::OsStr;

use super::Cli;
use crate::config::Config;

impl Cli {
    /// `--config` and every `--set`, as they are typed again; without what the environment says anyway, and without secrets.
    pub(crate) fn repeated(&self) -> Option<String> {
        let variable = std::env::var_os("ENGAGE_CONFIG");
        let words: Vec<_> = self
            .file_again(variable.as_deref())
            .into_iter()
            .chain(self.settings_again())
            .collect();
        (!words.is_empty()).then(|| words.join(" "))
    }

    /// `variable`: the value of `ENGAGE_CONFIG`.
    fn file_again(&self, variable: Option<&OsStr>) -> Option<String> {
        let file = self.config.as_ref()?;
        let is_typed = variable != Some(file.as_os_str());
        is_typed.then(|| format!("--config {}", quoted(&file.to_string_lossy())))
    }

    /// What `config show` shows as it was typed is no secret, and no later option has replaced it.
    fn settings_again(&self) -> Vec<String> {
        if self.set.is_empty() {
            return Vec::new();
        }
        let loaded = Config::loader(self).load::<Config>();
        let entries = loaded.map(|loaded| loaded.entries).unwrap_or_default();
        let is_shown = |pair: &&String| {
            pair.split_once('=').is_some_and(|(key, value)| {
                let mut entries = entries.iter();
                entries
                    .any(|entry| entry.key == key.trim() && entry.value.as_deref() == Some(value))
            })
        };
        let shown = self.set.iter().filter(is_shown);
        shown
            .map(|pair| format!("--set {}", quoted(pair)))
            .collect()
    }
}

/// As one word for a shell.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_=/.:,@%+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn cli(words: &[&str]) -> Cli {
        Cli::parse_from([&["engagectl"], words, &["check"]].concat())
    }

    #[test]
    fn a_file_is_named_again_unless_the_environment_names_the_same_one() {
        let typed = cli(&["--config", "b.toml"]);
        let again = |variable: Option<&str>| typed.file_again(variable.map(OsStr::new));
        assert_eq!(again(None).unwrap(), "--config b.toml");
        assert_eq!(again(Some("a.toml")).unwrap(), "--config b.toml");
        assert_eq!(again(Some("b.toml")), None);
    }

    #[test]
    fn a_word_is_quoted_where_a_shell_would_take_it_apart() {
        for (word, expected) in [
            ("/etc/engage.toml", "/etc/engage.toml"),
            ("my file", "'my file'"),
            ("it's", r"'it'\''s'"),
            ("a$b", "'a$b'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(word), expected);
        }
    }

    #[test]
    fn settings_are_repeated_and_secrets_are_not() {
        let again = cli(&[
            "--set",
            "topics.cdc=my topic",
            "--set",
            "topics.enriched=old",
            "--set",
            "topics.enriched=new",
            "--set",
            "kafka.sasl_password=hush",
            "--set",
            "redis.url=redis://u:hush@cache:6379/",
            "--set",
            "clickhouse.url=http://u:hush@columns:8123/",
        ])
        .settings_again();
        assert_eq!(
            again,
            ["--set 'topics.cdc=my topic'", "--set topics.enriched=new"]
        );
        assert!(cli(&["--set", "topics.none=1"]).settings_again().is_empty());
    }
}
