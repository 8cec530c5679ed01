//! `engagectl check`: every dependency is asked, and every problem is shown at once.

use std::time::Duration;

use platform::{Component, PlatformError, Settings};
use service::{Exit, Finding};

use crate::config::{Config, RedisSettings};

/// How long Redis may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// Asks Postgres, Kafka, ClickHouse, Connect and Redis. Changes nothing.
pub(crate) async fn run(config: &Config, skip: &[Component]) -> Vec<Finding> {
    let mut findings = platform_findings(&config.platform(skip)).await;
    findings.push(redis_finding(&config.redis).await);
    findings
}

async fn platform_findings(settings: &Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (component, inspected) in platform::inspect(settings).await {
        let plan = match inspected {
            Err(error) => {
                findings.push(unreachable(&component.to_string(), &error));
                continue;
            }
            Ok(plan) => plan,
        };
        findings.push(Finding::ok(
            component.to_string(),
            format!("{} present", plan.present.len()),
        ));
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
    }
    findings
}

fn unreachable(what: &str, error: &PlatformError) -> Finding {
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
    let client = match settings.client() {
        Ok(client) => client,
        Err(error) => {
            return Finding::problem(
                "redis",
                Exit::Usage,
                error.to_string(),
                "correct the setting named",
            );
        }
    };
    match eviction_policy(&client).await {
        Err(error) => Finding::problem(
            "redis",
            Exit::Unavailable,
            format!("{}: {error}", settings.address()),
            "start it, or correct user and password in REDIS_URL; with rediss:// also REDIS_SSL_CA_LOCATION; \
             `engagectl access redis` lists what this user needs",
        ),
        Ok(policy) if policy == "noeviction" => {
            Finding::ok("redis", "answers, maxmemory-policy noeviction")
        }
        Ok(policy) => Finding::problem(
            "redis",
            Exit::Repair,
            format!("maxmemory-policy is {policy}: state could be evicted"),
            "redis-cli CONFIG SET maxmemory-policy noeviction",
        ),
    }
}

/// From `INFO`, which needs less of a right than `CONFIG GET`.
async fn eviction_policy(client: &redis::Client) -> redis::RedisResult<String> {
    // the client's own half second is short for a busy machine
    let patient = redis::AsyncConnectionConfig::new()
        .set_connection_timeout(Some(ANSWER))
        .set_response_timeout(Some(ANSWER));
    let mut connection = client
        .get_multiplexed_async_connection_with_config(&patient)
        .await?;
    let info: String = redis::cmd("INFO")
        .arg("memory")
        .query_async(&mut connection)
        .await?;
    let policy = info
        .lines()
        .find_map(|line| line.strip_prefix("maxmemory_policy:"));
    Ok(policy.unwrap_or("noeviction").trim().to_owned())
}
