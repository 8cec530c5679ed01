//! Planning and creating against the real servers.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use devstack::{Needs, Stack};
use platform::{ClickHouseSettings, Component, ConnectSettings, PlatformError, Settings};
use secrecy::SecretString;

fn stack() -> &'static Stack {
    devstack::shared_for_tests(Needs::none().postgres().kafka().connect().clickhouse())
}

fn settings(stack: &Stack) -> Settings {
    let mut settings = Settings::default();
    settings.kafka.bootstrap_servers = stack.kafka().bootstrap.clone();
    settings.topics.partitions = 4;
    settings.database.url = SecretString::from(stack.postgres().admin_url.clone());
    settings.database.cdc_password = Some(SecretString::from("it's secret"));
    settings.connect = Some(ConnectSettings {
        url: stack.connect().url.parse().unwrap(),
        ..Default::default()
    });
    settings.clickhouse = Some(ClickHouseSettings {
        url: stack.clickhouse().url.parse().unwrap(),
        user: stack.clickhouse().user.clone(),
        password: Some(SecretString::from(stack.clickhouse().password.clone())),
        ..Default::default()
    });
    settings
}

#[tokio::test]
async fn a_plan_is_applied_once_and_then_empty_and_a_wrong_partition_count_is_a_problem() {
    let settings = settings(stack());
    let first = platform::plan(&settings).await.unwrap();
    assert!(first.problems.is_empty(), "{:?}", first.problems);
    assert!(first.changes.len() > 15, "{:#?}", first.changes);
    first.apply(&settings, |_| {}).await.unwrap();

    let second = platform::plan(&settings).await.unwrap();
    assert!(second.changes.is_empty(), "{:#?}", second.changes);
    assert_eq!(
        second.present.len(),
        first.changes.len() + first.present.len()
    );

    let mut other = settings;
    other.topics.partitions = 8;
    let third = platform::plan(&other).await.unwrap();
    let problem = third
        .problems
        .iter()
        .find(|p| p.what.contains("engagement.enriched.v1"))
        .expect("a problem");
    assert!(
        problem.what.contains("has 4 partitions, 8 are configured"),
        "{}",
        problem.what
    );
}

#[tokio::test]
async fn an_unreachable_server_is_named_with_its_setting() {
    let mut settings = settings(stack());
    settings.database.url = SecretString::from("postgres://engage@127.0.0.1:1/engage");
    let (component, outcome) = platform::inspect(&settings).await.remove(0);
    assert_eq!(component, Component::Postgres);
    let error = outcome.unwrap_err();
    assert!(
        matches!(
            error,
            PlatformError::Unreachable {
                setting: "DATABASE_URL",
                ..
            }
        ),
        "{error}"
    );
    assert!(
        !error.to_string().contains("postgres://"),
        "no credentials in errors: {error}"
    );
}
