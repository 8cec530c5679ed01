//! The users of the component strimzi against the one list of rights: what `engagectl access kafka` prints.

use std::collections::{BTreeMap, BTreeSet};

use deployment::{list, name, of_kind, rendered, text_of, texts};
use platform::TopicSettings;
use platform::access::kafka::{self, Resource};
use serde_json::Value;

/// Users that only Kubernetes has, beside the list: the Job, for which no topic is left to create, and the autoscaler.
const BESIDE: [&str; 2] = ["init", "keda"];

/// Operations by resource: its type, its pattern, its name.
type Rights = BTreeMap<[String; 3], BTreeSet<String>>;

fn listed() -> BTreeMap<String, Rights> {
    let mut users: BTreeMap<String, Rights> = BTreeMap::new();
    for rule in kafka::rules(&TopicSettings::default()) {
        let kind = match rule.resource {
            Resource::Topic => "topic",
            Resource::Group => "group",
        };
        let pattern = if rule.prefixed { "prefix" } else { "literal" };
        let resource = [kind.to_owned(), pattern.to_owned(), rule.name];
        let rights = users.entry(rule.user).or_default();
        // Kafka implies it, the list leaves it out, the manifest says it
        let operations = rule.operations.into_iter().chain(["Describe"]);
        let known = rights.entry(resource).or_default();
        known.extend(operations.map(str::to_owned));
    }
    users
}

fn users() -> BTreeMap<&'static str, &'static Value> {
    let users = of_kind(&rendered().overlays["prod"], "KafkaUser");
    users.map(|user| (name(user), user)).collect()
}

/// What a user of Strimzi is given.
fn given(user: &Value) -> Rights {
    let authorization = &user["spec"]["authorization"];
    assert_eq!(authorization["type"], "simple", "{}", name(user));
    let mut rights = Rights::new();
    for acl in list(&authorization["acls"]) {
        let keys = acl.as_object().unwrap().keys().map(String::as_str);
        assert_eq!(
            keys.collect::<BTreeSet<_>>(),
            BTreeSet::from(["operations", "resource"]),
            "{}: neither denied nor for one host only",
            name(user)
        );
        let resource = &acl["resource"];
        let resource =
            ["type", "patternType", "name"].map(|key| text_of(&resource[key]).to_owned());
        let known = rights.entry(resource).or_default();
        known.extend(texts(&acl["operations"]));
    }
    rights
}

#[test]
fn every_principal_of_the_list_has_its_user_with_the_same_rights_and_a_password_of_the_operator() {
    let users = users();
    for (principal, rights) in listed() {
        let user = users.get(principal.as_str());
        let user = user.unwrap_or_else(|| panic!("there is no KafkaUser {principal}"));
        assert_eq!(given(user), rights, "{principal}");
        assert_eq!(
            user["spec"]["authentication"]["type"], "scram-sha-512",
            "{principal}"
        );
        let kafka = of_kind(&rendered().overlays["prod"], "Kafka");
        let clusters: Vec<&str> = kafka.map(name).collect();
        let of = text_of(&user["metadata"]["labels"]["strimzi.io/cluster"]);
        assert_eq!(clusters, [of], "{principal}");
    }
}

#[test]
fn there_is_no_user_beside_the_list_but_those_of_kubernetes_which_write_nothing() {
    let users = users();
    let listed = listed();
    let beside: Vec<&str> = users
        .keys()
        .copied()
        .filter(|name| !listed.contains_key(*name))
        .collect();
    assert_eq!(beside, BESIDE);
    for name in BESIDE {
        for (resource, operations) in given(users[name]) {
            let looking = ["Read", "Describe", "DescribeConfigs"];
            let more = operations
                .iter()
                .find(|one| !looking.contains(&one.as_str()));
            assert_eq!(more, None, "{name}: {resource:?}");
        }
    }
}
