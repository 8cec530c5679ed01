//! `engagectl check`: every dependency is asked, and every problem is shown at once.

use std::time::Duration;

use platform::{Component, Plan, PlatformError, Settings};
use service::{Exit, Finding};

use crate::Outcome;
use crate::cli::print;
use crate::cli::{CheckArgs, Output};
use crate::config::{Config, RedisSettings};

/// How long Redis may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// Asks Postgres, Kafka, ClickHouse, Connect and Redis, and shows what they say. Changes nothing.
pub(crate) async fn run(config: &Config, args: &CheckArgs, output: Output) -> Outcome {
    let skip: Vec<_> = args.skip.iter().copied().map(Into::into).collect();
    let mut findings = platform_findings(&config.platform(&skip)).await;
    findings.push(redis_finding(&config.redis).await);
    print(&match output {
        Output::Table => service::finding::render(&findings),
        Output::Json => format!("{:#}\n", service::finding::render_json(&findings)),
    });
    Outcome(service::finding::exit(&findings))
}

async fn platform_findings(settings: &Settings) -> Vec<Finding> {
    let inspected = platform::inspect(settings).await;
    let findings = inspected.into_iter();
    findings
        .flat_map(|(component, inspected)| judged(component, inspected))
        .collect()
}

/// What is said of one component.
pub(crate) fn judged(component: Component, inspected: Result<Plan, PlatformError>) -> Vec<Finding> {
    let plan = match inspected {
        Err(error) => return vec![unreachable(&component.to_string(), &error)],
        Ok(plan) => plan,
    };
    let mut findings = vec![Finding::ok(
        component.to_string(),
        format!("{} present", plan.present.len()),
    )];
    for change in plan.changes {
        findings.push(Finding::problem(
            change.what,
            Exit::Repair,
            format!("missing in {component}"),
            "engagectl init",
        ));
    }
    for problem in plan.problems {
        findings.push(Finding::problem(
            component.to_string(),
            Exit::Repair,
            problem.what,
            problem.remedy,
        ));
    }
    findings
}

pub(crate) fn unreachable(what: &str, error: &PlatformError) -> Finding {
    let (exit, remedy) = match error {
        PlatformError::Unreachable { setting, .. } => {
            (Exit::Unavailable, format!("start it, or correct {setting}"))
        }
        PlatformError::Tls(_) => (Exit::Usage, "correct the setting named".to_owned()),
        PlatformError::Setting { setting, .. } => (Exit::Usage, format!("correct {setting}")),
        PlatformError::Refused { .. } => (Exit::Repair, "repair what the answer names".to_owned()),
    };
    Finding::problem(what, exit, error.to_string(), remedy)
}

async fn redis_finding(settings: &RedisSettings) -> Finding {
    match info(settings).await {
        Err(finding) => finding,
        Ok(facts) => policy_finding(&facts),
    }
}

/// What Redis says of itself, or why it does not.
pub(crate) async fn info(settings: &RedisSettings) -> Result<Info, Finding> {
    let client = settings.client().map_err(|error| {
        Finding::problem(
            "redis",
            Exit::Usage,
            error.to_string(),
            "correct the setting named",
        )
    })?;
    ask(&client).await.map_err(|error| {
        Finding::problem(
            "redis",
            Exit::Unavailable,
            format!("{}: {error}", settings.address()),
            "start it, or correct user and password in REDIS_URL; with rediss:// also REDIS_SSL_CA_LOCATION; \
             `engagectl access redis` lists what this user needs",
        )
    })
}

/// A store that evicts forgets what it has counted.
pub(crate) fn policy_finding(info: &Info) -> Finding {
    match info.get("maxmemory_policy").unwrap_or("noeviction") {
        "noeviction" => Finding::ok("redis", "answers, maxmemory-policy noeviction"),
        policy => Finding::problem(
            "redis",
            Exit::Repair,
            format!("maxmemory-policy is {policy}: state could be evicted"),
            "redis-cli CONFIG SET maxmemory-policy noeviction, and the same in its configuration file",
        ),
    }
}

/// An answer to `INFO`, and this machine's clock around it (microseconds since 1970).
#[derive(Clone, Debug, Default)]
pub(crate) struct Info {
    pub(crate) text: String,
    pub(crate) before: i64,
    pub(crate) after: i64,
}

impl Info {
    /// The value of a field.
    pub(crate) fn get(&self, field: &str) -> Option<&str> {
        let mut lines = self.text.lines();
        let value = lines.find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
        Some(value.trim())
    }
}

/// `INFO` needs less of a right than `CONFIG GET` or `TIME`.
async fn ask(client: &redis::Client) -> redis::RedisResult<Info> {
    // the client's own half second is short for a busy machine
    let patient = redis::AsyncConnectionConfig::new()
        .set_connection_timeout(Some(ANSWER))
        .set_response_timeout(Some(ANSWER));
    let mut connection = client
        .get_multiplexed_async_connection_with_config(&patient)
        .await?;
    let before = service::clock::now();
    let text = redis::cmd("INFO").query_async(&mut connection).await?;
    Ok(Info {
        text,
        before,
        after: service::clock::now(),
    })
}
