//! `engagectl init`: shows what is missing, asks, creates it.

use std::fmt::Write as _;

use platform::{Plan, PlatformError};
use service::Failure;
use tokio_util::sync::CancellationToken;

use crate::cli::{InitArgs, Output, print};
use crate::config::Config;
use crate::confirm;
use crate::interrupt;

/// Plans, shows the plan on standard output, and applies it where that is wanted.
///
/// # Errors
/// Unreachable servers (69), problems that a person must solve (78), a refused step (70), and a plan that
/// would have to be confirmed where nobody can be asked (64).
pub(crate) async fn run(
    config: &Config,
    args: &InitArgs,
    output: Output,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    let skip: Vec<_> = args.skip.iter().copied().map(Into::into).collect();
    let settings = config.platform(&skip);
    let planned = interrupt::unless_interrupted(stop, platform::plan(&settings)).await?;
    let plan = planned.map_err(failure)?;
    print(&render(&plan, output));
    if !plan.problems.is_empty() {
        return Err(Failure::repair(format!(
            "{} problems must be solved first",
            plan.problems.len()
        ))
        .remedy("solve what the plan lists under `problem`")
        .next("engagectl init"));
    }
    if plan.changes.is_empty() || args.dry_run {
        return Ok(());
    }
    if !args.yes && !confirmed(plan.changes.len(), stop).await? {
        return Ok(());
    }
    let total = plan.changes.len();
    let mut step = 0;
    let applied = plan.apply(&settings, |change| {
        step += 1;
        eprintln!("[{step}/{total}] {}: {}", change.component, change.what);
    });
    let applied = interrupt::to_its_end(stop, applied).await;
    applied.map_err(failure)?;
    eprintln!("done: {total} created");
    Ok(())
}

/// Turns a platform error into the process's failure: unreachable is 69, everything else 70.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that `map_err` wants"
)]
pub(crate) fn failure(error: PlatformError) -> Failure {
    let remedy = match &error {
        PlatformError::Unreachable { setting, .. } => {
            format!("start that server, or correct {setting}")
        }
        PlatformError::Refused { .. } => {
            "repair what the server's answer names; what was created before stays".into()
        }
        PlatformError::Tls(_) => {
            return Failure::usage(error.to_string()).remedy("correct the setting named");
        }
        PlatformError::Setting { setting, .. } => {
            return Failure::usage(error.to_string()).remedy(format!("correct {setting}"));
        }
    };
    let failure = if error.is_unreachable() {
        Failure::unavailable(error.to_string())
    } else {
        Failure::internal(error.to_string())
    };
    failure.remedy(remedy).next("engagectl check")
}

fn render(plan: &Plan, output: Output) -> String {
    match output {
        Output::Json => render_json(plan),
        Output::Table => render_text(plan),
    }
}

fn render_text(plan: &Plan) -> String {
    let mut text = String::new();
    for (component, what) in &plan.present {
        let _ = writeln!(text, "  ok       {component:<10} {what}");
    }
    for change in &plan.changes {
        let _ = writeln!(text, "  create   {:<10} {}", change.component, change.what);
    }
    for problem in &plan.problems {
        let _ = writeln!(
            text,
            "  problem  {:<10} {}\n           remedy: {}",
            problem.component, problem.what, problem.remedy
        );
    }
    let (present, missing, wrong) = (plan.present.len(), plan.changes.len(), plan.problems.len());
    let _ = writeln!(
        text,
        "{present} present, {missing} to create, {wrong} problems"
    );
    text
}

fn render_json(plan: &Plan) -> String {
    let item = |component: &dyn ToString, what: &str| serde_json::json!({"component": component.to_string(), "what": what});
    let value = serde_json::json!({
        "present": plan.present.iter().map(|(c, what)| item(c, what)).collect::<Vec<_>>(),
        "create": plan.changes.iter().map(|c| item(&c.component, &c.what)).collect::<Vec<_>>(),
        "problems": plan.problems.iter().map(|p| serde_json::json!({
            "component": p.component.to_string(), "what": p.what, "remedy": p.remedy,
        })).collect::<Vec<_>>(),
    });
    format!("{value:#}\n")
}

async fn confirmed(count: usize, stop: &CancellationToken) -> Result<bool, Failure> {
    if !confirm::can_ask() {
        return Err(Failure::usage(format!(
            "{count} changes are planned, and there is no terminal to ask on"
        ))
        .remedy("read the plan above, then confirm it by option")
        .next("engagectl init --yes"));
    }
    confirm::confirmed(&format!("apply {count} changes?"), stop).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_plan_says_that_nothing_is_to_be_created() {
        assert!(render_text(&Plan::default()).contains("0 to create"));
    }

    #[test]
    fn the_json_form_has_all_three_lists() {
        let value: serde_json::Value =
            serde_json::from_str(&render_json(&Plan::default())).unwrap();
        assert!(
            value["present"].is_array()
                && value["create"].is_array()
                && value["problems"].is_array()
        );
    }

    #[test]
    fn an_unreachable_server_is_exit_69() {
        let error = PlatformError::Unreachable {
            component: platform::Component::Kafka,
            address: "127.0.0.1:1".into(),
            cause: "refused".into(),
            setting: "KAFKA_BOOTSTRAP_SERVERS",
        };
        assert_eq!(failure(error).exit().code(), 69);
    }
}
