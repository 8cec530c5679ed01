//! Who may talk to whom.

use std::collections::BTreeSet;
use std::net::IpAddr;

use deployment::{SERVICES, list, name, of_kind, rendered, text_of, texts};
use serde_json::Value;
use webhook_forwarder::address::{Cidr, Reach};

fn policy<'a>(documents: &'a [Value], wanted: &str) -> &'a Value {
    let found = of_kind(documents, "NetworkPolicy").find(|policy| name(policy) == wanted);
    found.unwrap_or_else(|| panic!("there is no policy {wanted}"))
}

#[test]
fn everything_is_denied_to_every_pod_of_ours_unless_a_policy_allows_it() {
    for (overlay, documents) in &rendered().overlays {
        let deny = policy(documents, "default-deny");
        assert_eq!(
            texts(&deny["spec"]["policyTypes"]),
            ["Ingress", "Egress"],
            "{overlay}"
        );
        assert!(
            deny["spec"]["ingress"].is_null() && deny["spec"]["egress"].is_null(),
            "{overlay}"
        );
        let selected = deny["spec"]["podSelector"]["matchLabels"]
            .as_object()
            .unwrap();
        for kind in ["Deployment", "Job"] {
            for workload in of_kind(documents, kind).filter(|w| name(w) != "receiver") {
                let labels = &workload["spec"]["template"]["metadata"]["labels"];
                assert!(
                    selected.iter().all(|(key, value)| labels[key] == *value),
                    "{overlay}/{}",
                    name(workload)
                );
            }
        }
        for service in SERVICES.iter().chain(&["init", "canary"]) {
            let own = policy(documents, service);
            assert_eq!(
                own["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/name"],
                *service
            );
        }
    }
}

#[test]
fn no_rule_is_open_to_everywhere_on_every_port() {
    for documents in rendered().overlays.values() {
        for policy in of_kind(documents, "NetworkPolicy") {
            for rule in list(&policy["spec"]["egress"]) {
                assert!(!list(&rule["ports"]).is_empty(), "{}: {rule}", name(policy));
                assert!(!list(&rule["to"]).is_empty(), "{}: {rule}", name(policy));
            }
        }
    }
}

#[test]
fn where_a_store_is_reached_in_plain_text_it_is_reached_by_tls_too() {
    // as docs/security.md writes them; Postgres speaks both on one port
    let both = [
        ("Kafka", 9092, 9093),
        ("ClickHouse", 8123, 8443),
        ("Redis", 6379, 6380),
    ];
    for (overlay, documents) in &rendered().overlays {
        let mut found = BTreeSet::new();
        for policy in of_kind(documents, "NetworkPolicy") {
            for rule in list(&policy["spec"]["egress"]) {
                let ports = list(&rule["ports"]).iter();
                let ports: BTreeSet<_> = ports.filter_map(|port| port["port"].as_u64()).collect();
                for (store, plain, tls) in both {
                    let at = format!("{overlay}/{}: {store}", name(policy));
                    assert_eq!(ports.contains(&plain), ports.contains(&tls), "{at}");
                    found.extend(ports.contains(&tls).then_some(store));
                }
            }
        }
        assert_eq!(found.len(), both.len(), "{overlay}: only {found:?}");
    }
}

/// Blocks of public addresses that the forwarder's policy opens: network and exceptions.
fn open(documents: &[Value]) -> Vec<(String, Vec<String>)> {
    let mut open = Vec::new();
    for rule in list(&policy(documents, "webhook-forwarder")["spec"]["egress"]) {
        for peer in list(&rule["to"]) {
            let block = &peer["ipBlock"];
            if block["except"].is_array() {
                let ports: Vec<_> = list(&rule["ports"])
                    .iter()
                    .map(|port| port["port"].as_u64())
                    .collect();
                assert_eq!(ports, [Some(443)], "receivers are reached by https only");
                open.push((text_of(&block["cidr"]).to_owned(), texts(&block["except"])));
            }
        }
    }
    assert_eq!(open.len(), 2, "IPv4 and IPv6");
    open
}

fn is_open(open: &[(String, Vec<String>)], address: IpAddr) -> bool {
    let within = |cidr: &str| cidr.parse::<Cidr>().unwrap().contains(address);
    open.iter()
        .any(|(cidr, except)| within(cidr) && !except.iter().any(|cidr| within(cidr)))
}

/// The first and last addresses of blocks, and their neighbours.
const EDGES: [&str; 78] = [
    "0.0.0.0",
    "0.255.255.255",
    "1.0.0.0",
    "9.255.255.255",
    "10.0.0.0",
    "10.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.64.0.0",
    "100.127.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "127.0.0.1",
    "128.0.0.0",
    "169.253.255.255",
    "169.254.0.0",
    "169.254.169.254",
    "169.255.0.0",
    "172.15.255.255",
    "172.16.0.0",
    "172.31.255.255",
    "172.32.0.0",
    "191.255.255.255",
    "192.0.0.0",
    "192.0.0.255",
    "192.0.1.0",
    "192.0.2.0",
    "192.0.2.255",
    "192.0.3.0",
    "192.88.98.255",
    "192.88.99.0",
    "192.88.99.255",
    "192.88.100.0",
    "192.167.255.255",
    "192.168.0.0",
    "192.168.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.18.0.0",
    "198.19.255.255",
    "198.20.0.0",
    "198.51.99.255",
    "198.51.100.0",
    "198.51.100.255",
    "198.51.101.0",
    "203.0.112.255",
    "203.0.113.0",
    "203.0.113.255",
    "203.0.114.0",
    "223.255.255.255",
    "224.0.0.0",
    "240.0.0.0",
    "255.255.255.255",
    "::",
    "::1",
    "64:ff9b::1",
    "1fff:ffff::1",
    "2000::1",
    "2001::1",
    "2001:1ff:ffff::1",
    "2001:200::1",
    "2001:db7:ffff::1",
    "2001:db8::1",
    "2001:db8:ffff::1",
    "2001:db9::1",
    "2001:ffff::1",
    "2002::1",
    "2002:ffff::1",
    "2003::1",
    "3ffe:ffff::1",
    "3fff::1",
    "3fff:fff::1",
    "3fff:1000::1",
    "4000::1",
    "fc00::1",
    "fdff::1",
    "fe80::1",
    "ff02::1",
];

#[test]
fn the_forwarder_reaches_exactly_the_addresses_that_its_own_guard_calls_public() {
    for (overlay, documents) in &rendered().overlays {
        let open = open(documents);
        for edge in EDGES {
            let address: IpAddr = edge.parse().unwrap();
            let public = Reach::of(address) == Reach::Public;
            assert_eq!(is_open(&open, address), public, "{overlay}: {edge}");
        }
    }
}

#[test]
fn only_the_forwarder_leaves_the_private_networks() {
    for (overlay, documents) in &rendered().overlays {
        let mut leaving = BTreeSet::new();
        for policy in of_kind(documents, "NetworkPolicy") {
            let rules = list(&policy["spec"]["egress"]).iter();
            let peers = rules.flat_map(|rule| list(&rule["to"]));
            for peer in peers.filter(|peer| peer["ipBlock"].is_object()) {
                let cidr: Cidr = text_of(&peer["ipBlock"]["cidr"]).parse().unwrap();
                if cidr.contains("1.1.1.1".parse().unwrap())
                    || cidr.contains("2606::1".parse().unwrap())
                {
                    leaving.insert(name(policy));
                }
            }
        }
        assert_eq!(leaving, BTreeSet::from(["webhook-forwarder"]), "{overlay}");
    }
}
