//! Secrets of the demo, which everybody can read in this project, in the configuration of something that is no demo.
//!
//! Invariant: only said, never refused: a pipeline that runs keeps running. On loopback they are as good as any.

use std::net::IpAddr;

use super::environment::secret_name;
use super::value::{Node, Path, Segment, Table};

/// Password of the demo's role and user `engage`.
pub const PASSWORD: &str = "engage";
/// Password of the demo's role that replicates.
pub const CDC_PASSWORD: &str = "engage_cdc";
/// What the demo's webhooks are signed with.
pub const WEBHOOK_SECRET: &str = "whsec_ZW5nYWdlLWRlbW8tc2VjcmV0LTAxMjM0NTY3ODk=";

/// One sentence for each that is used against another machine.
pub(super) fn warnings(table: &Table) -> Vec<String> {
    let mut found = Vec::new();
    walk(&Path::default(), table, &mut found);
    found
}

fn walk(path: &Path, table: &Table, found: &mut Vec<String>) {
    let hosts = hosts(table);
    let elsewhere = hosts.iter().find(|host| !is_this_machine(host));
    for (key, value) in table {
        let path = path.key(key.as_str());
        match &value.node {
            Node::Table(table) => walk(&path, table, found),
            Node::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    let path = path.then(Segment::Index(index));
                    match &item.node {
                        Node::Table(table) => walk(&path, table, found),
                        node => found.extend(leaf(&path, key, node, elsewhere)),
                    }
                }
            }
            node => found.extend(leaf(&path, key, node, elsewhere)),
        }
    }
}

/// A URL says itself where its password is used, another secret is used where its section points to.
fn leaf(path: &Path, key: &str, node: &Node, elsewhere: Option<&String>) -> Option<String> {
    let (Node::Text(text) | Node::String(text)) = node else {
        return None;
    };
    if let Ok(url) = url::Url::parse(text)
        && url.password().is_some_and(is_known)
    {
        let host = url.host_str().unwrap_or_default();
        return (!is_this_machine(host)).then(|| sentence(path, host));
    }
    let host = elsewhere?;
    let known = secret_name(key) && text.split_whitespace().any(is_known);
    known.then(|| sentence(path, host))
}

fn sentence(path: &Path, host: &str) -> String {
    format!(
        "{path} is a secret of the demo, which everybody can read, and {host} is not this machine; give it a secret of its own \
         (docs/security.md)"
    )
}

fn is_known(secret: &str) -> bool {
    [PASSWORD, CDC_PASSWORD, WEBHOOK_SECRET].contains(&secret)
}

/// The hosts that a section names.
fn hosts(table: &Table) -> Vec<String> {
    let text = |key: &str| match table.get(key).map(|value| &value.node) {
        Some(Node::Text(text) | Node::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let url = text("url").and_then(|text| url::Url::parse(text).ok());
    let of_url = url.and_then(|url| url.host_str().map(str::to_owned));
    let brokers = text("bootstrap_servers").unwrap_or_default().split(',');
    let brokers = brokers
        .map(|server| {
            server
                .trim()
                .rsplit_once(':')
                .map_or(server, |(host, _)| host)
        })
        .filter(|host| !host.trim().is_empty());
    of_url
        .into_iter()
        .chain(brokers.map(|host| host.trim().to_owned()))
        .collect()
}

fn is_this_machine(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::super::file;
    use super::*;

    fn said(toml: &str) -> Vec<String> {
        let path = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(path.path(), toml).unwrap();
        let mut problems = Vec::new();
        let table = file::read(path.path(), &mut problems);
        assert!(problems.is_empty(), "{problems:?}");
        warnings(&table)
    }

    #[test]
    fn on_this_machine_the_demo_is_left_alone() {
        let text = format!(
            "[database]\nurl = 'postgres://engage:{PASSWORD}@127.0.0.1/engage'\ncdc_password = '{CDC_PASSWORD}'\n\
             [clickhouse]\nurl = 'http://[::1]:8123'\nuser = 'engage'\npassword = '{PASSWORD}'\n\
             [kafka]\nbootstrap_servers = '127.0.0.1:9092,localhost:9093'\nsasl_password = '{PASSWORD}'\n\
             [[endpoint]]\nurl = 'http://localhost:5001/'\nsecrets = ['{WEBHOOK_SECRET}']\n"
        );
        assert_eq!(said(&text), [""; 0]);
    }

    #[test]
    fn a_secret_of_the_demo_against_another_machine_is_named_wherever_it_stands() {
        let text = format!(
            "[database]\nurl = 'postgres://engage:{PASSWORD}@db.example/engage'\ncdc_password = '{CDC_PASSWORD}'\n\
             [clickhouse]\nurl = 'https://ch.example:8443'\nuser = 'engage'\npassword = '{PASSWORD}'\n\
             [kafka]\nbootstrap_servers = '127.0.0.1:9092,k.example:9093'\nsasl_password = '{PASSWORD}'\n\
             [[endpoint]]\nurl = 'https://crm.example/'\nsecrets = ['whsec_own', '{WEBHOOK_SECRET}']\n"
        );
        let said = said(&text);
        let keys: Vec<&str> = said
            .iter()
            .filter_map(|text| text.split(' ').next())
            .collect();
        assert_eq!(
            keys,
            [
                "clickhouse.password",
                "database.cdc_password",
                "database.url",
                "endpoint[0].secrets[1]",
                "kafka.sasl_password"
            ]
        );
        assert!(
            said[0].contains("ch.example is not this machine"),
            "{said:?}"
        );
        assert!(
            said.iter().all(|text| !text.contains(WEBHOOK_SECRET)),
            "{said:?}"
        );
    }

    #[test]
    fn a_user_of_that_name_and_a_secret_of_ones_own_are_no_demo() {
        let text = "[clickhouse]\nurl = 'https://ch.example'\nuser = 'engage'\npassword = 'another one'\n\
                    [database]\nurl = 'postgres://engage:another@db.example/engage'\n";
        assert_eq!(said(text), [""; 0]);
    }
}
