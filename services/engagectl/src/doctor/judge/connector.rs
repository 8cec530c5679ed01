//! The connector and its task.

use platform::ConnectorState;

use crate::doctor::report::Diagnosis;

pub(in crate::doctor) fn judge(name: &str, state: &ConnectorState) -> Diagnosis {
    let place = format!("connector {name}");
    if let Some(trouble) = &state.trouble {
        let fix = trouble.fix.unwrap_or("repair what it names");
        return Diagnosis::error(place, format!("has failed: {}", trouble.line()))
            .right("connector and task are RUNNING")
            .next(format!(
                "{fix}; then the enricher, or POST /connectors/{name}/restart?includeTasks=true&onlyFailed=true, starts it again"
            ));
    }
    if state.is_running() {
        return Diagnosis::ok(place, "connector and task are RUNNING");
    }
    let next = match state.connector.as_str() {
        "" => "engagectl init",
        "PAUSED" | "STOPPED" => {
            "PUT /connectors/{name}/resume, unless somebody repairs something just now"
        }
        _ => "look again in a moment; then at Connect's log",
    };
    Diagnosis::error(place, summary(state))
        .right("connector and task are RUNNING")
        .next(next.replace("{name}", name))
}

/// Its state in a few words.
pub(in crate::doctor) fn summary(state: &ConnectorState) -> String {
    match (state.connector.as_str(), state.tasks.as_slice()) {
        ("", _) => "Connect does not know it".to_owned(),
        (connector, []) => format!("is {connector} and has no task"),
        (connector, tasks) => format!("is {connector}, its task {}", tasks.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use platform::Trouble;

    use super::*;
    use crate::doctor::report::Severity;

    fn judged(connector: &str, tasks: &[&str], trace: Option<&str>) -> Diagnosis {
        let state = ConnectorState {
            connector: connector.into(),
            tasks: tasks.iter().map(|&task| task.to_owned()).collect(),
            trouble: trace.map(Trouble::of),
        };
        judge("engage-cdc", &state)
    }

    #[test]
    fn only_a_running_connector_with_a_running_task_is_well() {
        assert_eq!(judged("RUNNING", &["RUNNING"], None).severity, Severity::Ok);
        for (connector, tasks) in [
            ("RUNNING", &[][..]),
            ("RUNNING", &["UNASSIGNED"]),
            ("PAUSED", &["PAUSED"]),
            ("", &[]),
        ] {
            assert_eq!(judged(connector, tasks, None).severity, Severity::Error);
        }
        assert!(
            judged("PAUSED", &["PAUSED"], None)
                .next
                .contains("/connectors/engage-cdc/resume")
        );
        assert_eq!(judged("", &[], None).next, "engagectl init");
    }

    #[test]
    fn a_failure_shows_its_first_line_and_the_fix() {
        let trace = "a.B: stopped\n\tat x\nCaused by: y.Z: FATAL: password authentication failed for user \"engage_cdc\"";
        let found = judged("RUNNING", &["FAILED"], Some(trace));
        assert!(found.found.contains("a.B: stopped") && found.found.contains("password"));
        assert!(found.next.contains("ENGAGE_CDC_PASSWORD"), "{found:?}");
    }
}
