//! Kafka: one principal for each service, `User:<service>`.
//!
//! Invariant: nobody has a right on the cluster, and only `engagectl` may create a topic. (Connect creates its own three.)

use std::fmt::Write as _;

use serde::Serialize;
use stream::dead_letter;

use crate::TopicSettings;

/// What one principal may do with one resource, or with all whose names begin so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// The user, as in `KAFKA_SASL_USERNAME`.
    pub user: String,
    /// Topic or group.
    pub resource: Resource,
    /// Its name, or the beginning of its name.
    pub name: String,
    /// Whether `name` is only the beginning.
    pub prefixed: bool,
    /// As `kafka-acls.sh` calls them. `Read` and `Write` imply `Describe`.
    pub operations: Vec<&'static str>,
}

/// What a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Resource {
    /// A topic.
    Topic,
    /// A consumer group.
    Group,
}

impl Resource {
    const fn name(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Group => "group",
        }
    }
}

/// The sinks, whose rights differ in their names only.
const SINKS: [&str; 3] = ["clickhouse-sink", "redis-aggregator", "webhook-forwarder"];

/// Those that a backfill reaches.
const BACKFILLED: [&str; 2] = ["clickhouse-sink", "webhook-forwarder"];

/// The worker's own topics, `group.id` and principal, as `docs/connect.md` names them.
const WORKER_TOPICS: &str = "connect-";
const WORKER_GROUP: &str = "engage-connect";
const CONNECT: &str = "connect";

/// All rules, service by service.
#[must_use]
pub fn rules(topics: &TopicSettings) -> Vec<Rule> {
    let mut rules = connect(topics);
    rules.extend(enricher(topics));
    for sink in SINKS {
        rules.push(topic(sink, &topics.enriched, &["Read"]));
        if BACKFILLED.contains(&sink) {
            rules.push(topic(sink, &topics.backfill, &["Read"]));
        }
        rules.push(topic(sink, &dead_letter::topic(sink), &["Write"]));
        rules.push(groups(sink, sink));
    }
    rules.extend(canary(topics));
    rules.extend(operator(topics));
    rules.extend(redrive(topics));
    rules.extend(rebuild(topics));
    rules.extend(erase(topics));
    rules
}

fn connect(topics: &TopicSettings) -> Vec<Rule> {
    let own = &["Read", "Write", "Create", "DescribeConfigs"];
    vec![
        Rule {
            prefixed: true,
            ..topic(CONNECT, WORKER_TOPICS, own)
        },
        Rule {
            prefixed: false,
            ..groups(CONNECT, WORKER_GROUP)
        },
        topic(CONNECT, &topics.cdc, &["Write"]),
        topic(CONNECT, &topics.content, &["Write"]),
        topic(CONNECT, "__debezium-heartbeat.cdc", &["Write"]),
    ]
}

fn enricher(topics: &TopicSettings) -> Vec<Rule> {
    let user = "enricher";
    vec![
        topic(user, &topics.cdc, &["Read"]),
        topic(user, &topics.content, &["Read"]),
        topic(user, &topics.enriched, &["Read", "Write"]),
        topic(user, &dead_letter::topic(user), &["Write"]),
        groups(user, user),
    ]
}

/// It looks at the ends of both logs and at the groups' commits, and is a member of none; to ask at all it needs a name of a group.
fn canary(topics: &TopicSettings) -> Vec<Rule> {
    let user = "canary";
    let mut rules = vec![
        topic(user, &topics.cdc, &["Read"]),
        topic(user, &topics.enriched, &["Read"]),
        topic(user, &topics.backfill, &["Describe"]),
    ];
    for prefix in ["engagectl-canary", "enricher"].into_iter().chain(SINKS) {
        rules.push(seen(user, prefix));
    }
    rules
}

/// `init` creates and describes, `verify` and `lineage show` read, `lineage adopt` commits for the groups, `backfill` writes.
fn operator(topics: &TopicSettings) -> Vec<Rule> {
    let user = "engagectl";
    let mut rules: Vec<Rule> = topics
        .specs()
        .iter()
        .map(|spec| topic(user, &spec.name, &["Read", "Create", "DescribeConfigs"]))
        .collect();
    for name in [&topics.backfill, &topics.backfill_runs] {
        rules.push(topic(user, name, &["Write"]));
    }
    for prefix in ["engage", "enricher"].into_iter().chain(SINKS) {
        rules.push(groups(user, prefix));
    }
    rules
}

/// Who carries out `dlq redrive` and `dlq purge`: a user of its own, because it writes what otherwise only services write.
fn redrive(topics: &TopicSettings) -> Vec<Rule> {
    let user = "engagectl-redrive";
    let mut rules = vec![
        topic(user, &topics.cdc, &["Read", "Write"]),
        topic(user, &topics.enriched, &["Read", "Write"]),
    ];
    for service in ["enricher"].into_iter().chain(SINKS) {
        rules.push(topic(
            user,
            &dead_letter::topic(service),
            &["Read", "Write", "Delete"],
        ));
        rules.push(groups(user, service));
    }
    rules.push(groups(user, "engage"));
    rules
}

/// Who carries out `rebuild`: it reads what the stores are made from, and begins the group of `clickhouse-sink` again.
fn rebuild(topics: &TopicSettings) -> Vec<Rule> {
    let user = "engagectl-rebuild";
    let mut rules: Vec<Rule> = [&topics.enriched, &topics.backfill, &topics.backfill_runs]
        .into_iter()
        .map(|name| topic(user, name, &["Read"]))
        .collect();
    rules.push(groups(user, "clickhouse-sink"));
    for prefix in ["redis-aggregator", "engagectl-"] {
        rules.push(seen(user, prefix));
    }
    rules
}

/// Who carries out `erase`: it looks where a person is, waits for the services, and writes to the topic of erasures only.
fn erase(topics: &TopicSettings) -> Vec<Rule> {
    let user = "engagectl-erase";
    let looked_at = ["Read", "DescribeConfigs"];
    let mut rules = vec![topic(
        user,
        &topics.erasures,
        &["Read", "Write", "DescribeConfigs"],
    )];
    for name in [&topics.cdc, &topics.enriched, &topics.backfill] {
        rules.push(topic(user, name, &looked_at));
    }
    for service in ["enricher"].into_iter().chain(SINKS) {
        rules.push(topic(user, &dead_letter::topic(service), &looked_at));
        rules.push(seen(user, service));
    }
    rules.push(seen(user, "engagectl-"));
    rules
}

fn topic(user: &str, name: &str, operations: &[&'static str]) -> Rule {
    Rule {
        user: user.into(),
        resource: Resource::Topic,
        name: name.into(),
        prefixed: false,
        operations: operations.to_vec(),
    }
}

/// The group of that name and those that begin with it: `webhook-forwarder.<endpoint>`, `enricher-contents`.
fn groups(user: &str, prefix: &str) -> Rule {
    Rule {
        user: user.into(),
        resource: Resource::Group,
        name: prefix.into(),
        prefixed: true,
        operations: vec!["Read"],
    }
}

/// The same groups, to ask about them or to connect in their name; no member of them, and no commit.
fn seen(user: &str, prefix: &str) -> Rule {
    Rule {
        operations: vec!["Describe"],
        ..groups(user, prefix)
    }
}

/// The rules as commands for Kafka's own tool.
#[must_use]
pub fn commands(topics: &TopicSettings) -> String {
    let mut text = String::new();
    for rule in rules(topics) {
        let operations: Vec<String> = rule
            .operations
            .iter()
            .map(|operation| format!("--operation {operation}"))
            .collect();
        let pattern = if rule.prefixed {
            " --resource-pattern-type prefixed"
        } else {
            ""
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "kafka-acls.sh --bootstrap-server $KAFKA --command-config $ADMIN --add --allow-principal User:{} {} --{} {}{pattern}",
            rule.user,
            operations.join(" "),
            rule.resource.name(),
            rule.name,
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Rule> {
        rules(&TopicSettings::default())
    }

    #[test]
    fn only_the_enricher_and_a_redrive_write_what_sinks_read_and_only_connect_and_a_redrive_what_it_reads()
     {
        let writers = |topic: &str| -> Vec<String> {
            let of_topic = all().into_iter().filter(|rule| rule.name == topic);
            let writing = of_topic.filter(|rule| rule.operations.contains(&"Write"));
            writing.map(|rule| rule.user).collect()
        };
        let redrive = "engagectl-redrive";
        assert_eq!(writers("engagement.enriched.v1"), ["enricher", redrive]);
        assert_eq!(writers("engagement.backfill.v1"), ["engagectl"]);
        assert_eq!(writers("engagement.erasures.v1"), ["engagectl-erase"]);
        assert_eq!(
            writers("cdc.public.engagement_events"),
            ["connect", redrive]
        );
        assert_eq!(
            writers("engagement.dlq.clickhouse-sink"),
            ["clickhouse-sink", redrive]
        );
        let other = all().into_iter().filter(|rule| rule.user != redrive);
        assert!(
            other
                .into_iter()
                .all(|rule| !rule.operations.contains(&"Delete"))
        );
    }

    #[test]
    fn no_sink_sees_the_changes_or_the_group_of_another() {
        for sink in SINKS {
            for rule in all().into_iter().filter(|rule| rule.user == sink) {
                assert!(!rule.name.starts_with("cdc."), "{rule:?}");
                if rule.resource == Resource::Group {
                    assert_eq!(rule.name, sink);
                }
            }
        }
    }

    #[test]
    fn the_canary_reads_and_is_a_member_of_no_group() {
        for rule in all().into_iter().filter(|rule| rule.user == "canary") {
            let allowed: &[&str] = match rule.resource {
                Resource::Topic => &["Read", "Describe"],
                Resource::Group => &["Describe"],
            };
            assert!(
                rule.operations.iter().all(|it| allowed.contains(it)),
                "{rule:?}"
            );
        }
    }

    #[test]
    fn who_rebuilds_writes_no_topic_and_moves_one_group_only() {
        let own = all()
            .into_iter()
            .filter(|rule| rule.user == "engagectl-rebuild");
        let moving = own.filter(|rule| match rule.resource {
            Resource::Topic => rule.operations != ["Read"],
            Resource::Group => rule.operations != ["Describe"],
        });
        let names: Vec<String> = moving.map(|rule| rule.name).collect();
        assert_eq!(names, ["clickhouse-sink"]);
    }

    #[test]
    fn who_erases_writes_no_topic_that_a_service_reads() {
        let own = all()
            .into_iter()
            .filter(|rule| rule.user == "engagectl-erase");
        for rule in own.filter(|rule| rule.name != "engagement.erasures.v1") {
            assert!(!rule.operations.contains(&"Write"), "{rule:?}");
        }
    }

    #[test]
    fn a_prefixed_rule_says_so_in_its_command() {
        let text = commands(&TopicSettings::default());
        let line = text.lines().find(|line| line.contains("--group enricher"));
        assert!(
            line.unwrap().ends_with("--resource-pattern-type prefixed"),
            "{text}"
        );
        assert!(!text.contains("--cluster"), "{text}");
    }
}
