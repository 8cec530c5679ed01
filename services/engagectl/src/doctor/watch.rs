//! `engagectl doctor --watch`: the guardian of the slot. Looks again and again, prints what changes, and ends with 78 and a plan
//! once changes are lost.
//!
//! Invariant: it starts nothing and changes nothing; whoever does not answer leaves what was known of it as it was.

mod state;

use std::time::Duration;

use engagement::event::Micros;
use platform::{ConnectSettings, Keeper, PlatformError, Recovery};
use serde_json::json;
use service::{Exit, Failure};
use tokio_util::sync::CancellationToken;

use self::state::{Change, Seen, Watcher};
use super::args::DoctorArgs;
use super::captured::captured;
use crate::Outcome;
use crate::cli::Output;
use crate::config::Config;

/// A server that has not answered after this time does not answer.
const ANSWER: Duration = Duration::from_secs(10);

/// Watches until Ctrl-C, or until changes are lost.
pub(super) async fn run(
    config: &Config,
    args: &DoctorArgs,
    output: Output,
    stop: CancellationToken,
) -> Result<Outcome, Failure> {
    let connect = &config.connect;
    let keeper = Keeper::new(connect.clone(), config.database.clone());
    let mut watcher = Watcher::new(&connect.name, &connect.slot, args.retained);
    loop {
        let looking = stop.run_until_cancelled(Box::pin(look(&keeper, connect)));
        let Some(seen) = looking.await else {
            return Ok(Outcome(None));
        };
        let at = Micros(service::clock::now()).to_string();
        for change in watcher.changes(&seen) {
            crate::cli::print(&line(&at, &change, output));
        }
        if let Some(what) = watcher.lost(&seen) {
            let known = seen.loss.as_ref().and_then(|loss| loss.captured);
            let until = captured(config).await.max(known);
            let recovery = Recovery::new(connect, until, args.margin);
            crate::cli::print(&plan(&at, &what, &recovery, output));
            return Ok(Outcome(Some(Exit::Repair)));
        }
        let pause = tokio::time::sleep(args.every);
        if stop.run_until_cancelled(pause).await.is_none() {
            return Ok(Outcome(None));
        }
    }
}

async fn look(keeper: &Keeper, connect: &ConnectSettings) -> Seen {
    let (slot, connector) = tokio::join!(
        in_time(keeper.slot()),
        in_time(platform::connector_state(connect))
    );
    let loss = match (&slot, &connector) {
        (Ok(_), Ok(_)) => in_time(keeper.loss()).await.ok().flatten(),
        _ => None,
    };
    Seen {
        slot,
        connector,
        loss,
    }
}

/// The answer, or why there is none, in words.
async fn in_time<T>(asked: impl Future<Output = Result<T, PlatformError>>) -> Result<T, String> {
    match tokio::time::timeout(ANSWER, asked).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", ANSWER.as_secs())),
    }
}

fn line(at: &str, change: &Change, output: Output) -> String {
    let Change {
        severity,
        subject,
        was,
        is,
        next,
    } = change;
    if output == Output::Json {
        let value = json!({
            "at": at, "severity": severity.name(), "where": subject, "was": was, "is": is, "next": next,
        });
        return format!("{value}\n");
    }
    let was = was.as_ref().map(|was| format!(" (before: {was})"));
    let next = match next.as_str() {
        "" => String::new(),
        next => format!("; next: {next}"),
    };
    let text = format!(
        "{at}  {:<7}  {subject}: {is}{}{next}",
        severity.name(),
        was.unwrap_or_default()
    );
    format!("{}\n", text.replace('\n', " "))
}

fn plan(at: &str, what: &str, recovery: &Recovery, output: Output) -> String {
    if output == Output::Json {
        let value = json!({
            "at": at, "severity": "error", "where": "slot", "is": what,
            "plan": {
                "captured": recovery.captured,
                "backfill": recovery.backfill(),
                "steps": recovery.steps(),
            },
        });
        return format!("{value}\n");
    }
    format!("{at}  error    {what}\n{recovery}\n")
}

#[cfg(test)]
mod tests {
    use platform::MARGIN;
    use serde_json::Value;

    use super::*;
    use crate::doctor::report::Severity;

    fn change() -> Change {
        Change {
            severity: Severity::Warning,
            subject: "slot engage_cdc".into(),
            was: Some("reserved".into()),
            is: "extended".into(),
            next: "look".into(),
        }
    }

    #[test]
    fn a_change_is_one_line_in_both_forms() {
        let text = line("T", &change(), Output::Table);
        assert_eq!(
            text,
            "T  warning  slot engage_cdc: extended (before: reserved); next: look\n"
        );
        let json = line("T", &change(), Output::Json);
        assert_eq!(json.lines().count(), 1);
        let value: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["was"], "reserved");
    }

    #[test]
    fn the_plan_names_the_command_that_brings_the_rows_again() {
        let at = Some(Micros(1_767_882_112_000_000));
        let recovery = Recovery::new(&ConnectSettings::default(), at, MARGIN);
        let command = "engagectl backfill --start 2026-01-08T13:21:52Z --end now";
        let text = plan("T", "slot engage_cdc is lost", &recovery, Output::Table);
        assert!(text.contains(command), "{text}");
        let json = plan("T", "slot engage_cdc is lost", &recovery, Output::Json);
        let value: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["plan"]["backfill"], command);
        assert_eq!(value["plan"]["captured"], "2026-01-08T14:21:52Z");
    }
}
