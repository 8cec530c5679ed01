//! What `--help` of each command ends with.
//!
//! Invariant: every command has an example of itself.

pub(super) const INIT: &str = "\
Examples:
  engagectl init                                    the plan, then a question
  engagectl init --dry-run                          the plan only
  engagectl --config engage.toml init --yes --skip clickhouse";

pub(super) const CHECK: &str = "\
Exit codes: 0 all is well; otherwise that of the gravest problem: 64 the configuration, 78 something must be repaired first,
69 a dependency cannot be reached.

Examples:
  engagectl check
  engagectl -o json check --skip connect | jq '.[] | select(.ok | not)'";

pub(crate) const DOCTOR: &str = "\
Everything that `engagectl check` looks at, and how the pipeline does now: slot, heartbeat, connector, topics, groups against
retention, dead letters, stores, webhook targets, clocks, versions. Reads only. Every server has --deadline to answer; one that is away
is an error and hides nothing else.

With --watch it goes on looking at slot and connector, prints a line for each change, and ends with 78 once changes are lost, with
the plan that brings them again.

Exit codes: 0 no error; otherwise that of the gravest: 64 the configuration, 78 something must be repaired, 69 a server cannot be reached.

Examples:
  engagectl doctor
  engagectl doctor --endpoints /etc/engage/webhook-forwarder.toml
  engagectl -o json doctor | jq '.findings[] | select(.severity == \"error\")'
  engagectl doctor --watch --every 10s --retained 50%";

pub(super) const ACCESS: &str = "\
Examples:
  engagectl access postgres | psql \"$OWNER_URL\"
  engagectl -o json access kafka";

pub(super) const GEN: &str = "\
Users play, pause, play again and finish; what they watch adds up to no more than the content's length. At the end it says what
rate was achieved and, if that is less than wanted, why.

Examples:
  engagectl gen --rate 500/s --duration 60s
  engagectl gen --burst 100000 --rate 500000/min --seed 7 --hot-key 0.3 --update-ratio 0.05 --delete-ratio 0.01
  engagectl -o json gen --rate 100/s --duration 30s --poison-ratio 0.01 --content-churn 0.001 | jq .achieved_per_second";

pub(super) const TRACE: &str = "\
Spans are shown where Jaeger (JAEGER_URL) has the trace; everything else comes from Postgres, Kafka and the sinks.

Examples:
  engagectl trace 1001 --receiver http://127.0.0.1:5001
  engagectl -o json trace 1001 | jq '.changes[].steps'";

pub(super) const LISTEN: &str = "\
Examples:
  engagectl webhook listen --secret-file /run/secrets/webhook
  engagectl webhook listen --addr 127.0.0.1:5001 --record deliveries.jsonl";

pub(super) const LINEAGE_SHOW: &str = "\
Examples:
  engagectl lineage show
  engagectl lineage show --partition 3 --check --from 120000";

pub(super) const ADOPT: &str = "\
Examples:
  engagectl lineage adopt                           the plan only
  engagectl lineage adopt --partition 3 --execute
  engagectl lineage adopt --table refill --execute";

pub(super) const CANARY: &str = "\
Examples:
  engagectl canary
  engagectl canary --every 10s --within 30s --receiver http://127.0.0.1:5001";

pub(super) const DEMO: &str = "\
Examples:
  engagectl demo                                    until q or Ctrl-C
  engagectl demo --duration 60s --rate 500/s --tracing";

pub(super) const UP: &str = "\
Examples:
  engagectl up
  engagectl up --rate 100/s --tracing";

pub(super) const DOWN: &str = "\
Example:
  engagectl down";

pub(super) const STATUS: &str = "\
Everything is the servers, the services and the webhook receiver. The generator of `up --rate` is shown while it runs, and not counted: it
may have been stopped.

Exit codes: 0 everything runs and is ready; 69 something does not, or is not.

Examples:
  engagectl status
  engagectl -o json status | jq .enricher";

#[cfg(test)]
mod tests {
    use clap::{Command, CommandFactory};

    use super::super::Cli;

    /// Commands that do something, each with its whole name.
    fn leaves(command: &Command, path: &str, into: &mut Vec<(String, String)>) {
        let inner: Vec<_> = command
            .get_subcommands()
            .filter(|one| one.get_name() != "help")
            .collect();
        if inner.is_empty() {
            let ending = command.get_after_help().map(ToString::to_string);
            into.push((path.to_owned(), ending.unwrap_or_default()));
        }
        for one in inner {
            leaves(one, &format!("{path} {}", one.get_name()), into);
        }
    }

    fn without_options(line: &str) -> String {
        let mut words = Vec::new();
        let mut rest = line.split_whitespace();
        while let Some(word) = rest.next() {
            match word {
                "-o" | "--config" | "--set" => drop(rest.next()),
                word => words.push(word),
            }
        }
        words.join(" ")
    }

    #[test]
    fn the_help_of_every_command_ends_with_an_example_of_itself() {
        let mut all = Vec::new();
        leaves(&Cli::command(), "engagectl", &mut all);
        assert!(all.len() > 15, "{all:?}");
        for (path, ending) in all {
            let after = ending.split_once("Example").map(|(_, after)| after);
            let after = after.unwrap_or_else(|| panic!("--help of `{path}` has no example"));
            let found = after
                .lines()
                .any(|line| without_options(line).starts_with(&path));
            assert!(found, "no example of `{path}` in\n{ending}");
            let last = ending.lines().last().unwrap_or_default();
            assert!(
                last.starts_with("  "),
                "--help of `{path}` ends with {last:?}, which is no example"
            );
        }
    }
}
