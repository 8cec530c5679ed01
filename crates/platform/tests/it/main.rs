//! Planning and creating against the real servers.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod answers;
mod capture;
mod keeper;
mod long;
mod moved;

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
    // the slot counts from the connector's first delivery on, which may come before this plan or after it
    let present = second.present.iter();
    let made = present.filter(|(_, what)| !what.starts_with("slot "));
    assert_eq!(made.count(), first.changes.len() + first.present.len());

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

#[tokio::test]
async fn a_topic_made_by_hand_that_promises_less_is_a_problem_with_its_command() {
    use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
    use rdkafka::client::DefaultClientContext;
    let mut settings = settings(stack());
    settings.topics.enriched = "made-by-hand".into();
    let admin: AdminClient<DefaultClientContext> = settings.kafka.admin_config().create().unwrap();
    let topic = NewTopic::new("made-by-hand", 4, TopicReplication::Fixed(1))
        .set("retention.ms", "3600000")
        .set("max.message.bytes", "1000000");
    let created = admin.create_topics([&topic], &AdminOptions::new()).await;
    created.unwrap().into_iter().for_each(|one| {
        one.unwrap();
    });
    // a topic that was just made is known a moment later
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let plan = loop {
        let plan = platform::plan(&settings).await.unwrap();
        let is_known = plan
            .changes
            .iter()
            .all(|c| !c.what.contains("made-by-hand"));
        assert!(
            is_known || std::time::Instant::now() < deadline,
            "{:?}",
            plan.changes
        );
        if is_known {
            break plan;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    let of_topic: Vec<_> = plan
        .problems
        .iter()
        .filter(|problem| problem.what.contains("made-by-hand"))
        .collect();
    assert_eq!(of_topic.len(), 2, "{:?}", plan.problems);
    let retention = of_topic
        .iter()
        .find(|p| p.what.contains("retention.ms"))
        .unwrap();
    assert!(retention.what.contains("3600000"), "{}", retention.what);
    assert!(
        retention
            .remedy
            .contains("--add-config retention.ms=604800000"),
        "{}",
        retention.remedy
    );
}
