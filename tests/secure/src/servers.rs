//! What the secured servers are given: the users and rights of `platform::access`, and a few who lack something.

use devstack::{ClickHouseUser, KafkaRule, Login, Secured};
use platform::TopicSettings;
use platform::access::{clickhouse, kafka, redis};

use crate::authority::{Authority, SERVERS};
use crate::secrets::Secrets;

/// Everybody in Kafka. `stranger` may nothing, `half` may read the topic of the sinks but has no group.
pub(crate) const KAFKA: [&str; 10] = [
    "connect",
    "enricher",
    "clickhouse-sink",
    "redis-aggregator",
    "webhook-forwarder",
    "canary",
    "engagectl",
    "engagectl-erase",
    "stranger",
    "half",
];

/// Draws every password and says who may what.
pub(crate) fn secured(
    authority: &Authority,
    topics: &TopicSettings,
    secrets: &mut Secrets,
) -> Secured {
    let logins = |secrets: &mut Secrets| -> Vec<Login> {
        let login = |user: &&str| Login {
            user: (*user).to_owned(),
            password: secrets.draw(&format!("kafka-{user}")),
        };
        KAFKA.iter().map(login).collect()
    };
    let kafka_users = logins(secrets);
    let cdc = secrets.draw("postgres-engage_cdc");
    let worker = format!("kafka={}\npostgres={cdc}\n", kafka_users[0].password);
    Secured {
        ca: authority.ca.clone(),
        certificate: authority.certificate.clone(),
        key: authority.key.clone(),
        common_name: SERVERS.to_owned(),
        kafka_rules: kafka_rules(topics),
        kafka_users,
        connect_user: "connect".to_owned(),
        connect_secrets: secrets.keep("connect.properties", &worker),
        postgres_password: secrets.draw("postgres-postgres"),
        redis_users: redis_users(secrets),
        redis_probe: Login {
            user: redis::READER.to_owned(),
            password: secrets
                .value(&format!("redis-{}", redis::READER))
                .to_owned(),
        },
        clickhouse_password: secrets.draw("clickhouse-admin"),
        clickhouse_users: clickhouse_users(secrets),
    }
}

fn kafka_rules(topics: &TopicSettings) -> Vec<KafkaRule> {
    let listed = kafka::rules(topics).into_iter().map(|rule| KafkaRule {
        user: rule.user,
        resource: match rule.resource {
            kafka::Resource::Topic => "topic".to_owned(),
            kafka::Resource::Group => "group".to_owned(),
        },
        name: rule.name,
        prefixed: rule.prefixed,
        operations: rule
            .operations
            .iter()
            .map(|name| (*name).to_owned())
            .collect(),
    });
    let half =
        [topics.enriched.as_str(), "engagement.dlq.webhook-forwarder"].map(|topic| KafkaRule {
            user: "half".to_owned(),
            resource: "topic".to_owned(),
            name: topic.to_owned(),
            prefixed: false,
            operations: vec!["Read".to_owned(), "Write".to_owned()],
        });
    listed.chain(half).collect()
}

/// `half` may everything the aggregator may, but on other keys.
fn redis_users(secrets: &mut Secrets) -> Vec<String> {
    let mut lines = vec!["user default off".to_owned()];
    let [aggregator, operator, rebuild, eraser, reader] = redis::users("eng:");
    let other = aggregator.rules.replace("~eng:*", "~other:*");
    let all = [
        (aggregator.name, aggregator.rules),
        (operator.name, operator.rules),
        (rebuild.name, rebuild.rules),
        (eraser.name, eraser.rules),
        (reader.name, reader.rules),
        ("half", other),
    ];
    for (name, rules) in all {
        let secret = format!("redis-{name}");
        secrets.draw(&secret);
        lines.push(format!(
            "user {name} on #{} {rules}",
            secrets.sha256(&secret)
        ));
    }
    lines
}

/// `half` sees the table, and may not write it.
fn clickhouse_users(secrets: &mut Secrets) -> Vec<ClickHouseUser> {
    let mut users: Vec<(&str, Vec<String>)> = clickhouse::users("engagement")
        .into_iter()
        .map(|user| (user.name, user.grants))
        .collect();
    let half = users[0].1.iter().filter(|grant| !grant.contains("_fences"));
    let half: Vec<String> = half.cloned().collect();
    users.push(("half", half));
    let user = |(name, grants): (&str, Vec<String>)| {
        let secret = format!("clickhouse-{name}");
        secrets.draw(&secret);
        ClickHouseUser {
            name: name.to_owned(),
            password_sha256: secrets.sha256(&secret),
            grants,
        }
    };
    users.into_iter().map(user).collect()
}
