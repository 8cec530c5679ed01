//! What `webhook-forwarder check` looks at, without sending anything.
//!
//! Invariant: no message is sent and no position is written.

use std::net::SocketAddr;

use service::{Exit, Finding};
use stream::contact;
use tokio::net::{TcpStream, lookup_host};

use crate::config::Config;
use crate::endpoint::Endpoint;
use crate::{endpoints, resolver};

/// Looks at the topics and at every endpoint.
pub(crate) async fn check(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    for problem in config.kafka.problems() {
        let cause = problem.to_string();
        findings.push(Finding::problem(
            "kafka settings",
            Exit::Usage,
            cause,
            "correct the setting named",
        ));
    }
    let judged = endpoints::judge(config);
    if findings.is_empty() {
        let first = judged.as_ref().ok().and_then(|endpoints| endpoints.first());
        let name = first.map_or("default", |endpoint| endpoint.name.as_str());
        findings.extend(kafka_findings(config, name).await);
    }
    match judged {
        Ok(endpoints) => {
            for endpoint in endpoints {
                findings.push(endpoint_finding(&endpoint).await);
            }
        }
        Err(problems) => findings.extend(problems.iter().map(|problem| {
            let what = format!("endpoint {}", problem.endpoint);
            let cause = format!("{}: {}", problem.key, problem.problem);
            Finding::problem(what, Exit::Usage, cause, "correct the key named")
        })),
    }
    findings
}

/// The topics, and the positions of one endpoint's group; the others have the same prefix.
async fn kafka_findings(config: &Config, endpoint: &str) -> Vec<Finding> {
    let input = &config.input;
    let topics = [
        input.enriched_topic.as_str(),
        input.dead_letter_topic.as_str(),
    ];
    let group = format!("{}.{endpoint}", input.group_id);
    contact::findings(&config.kafka, &topics, &group).await
}

async fn endpoint_finding(endpoint: &Endpoint) -> Finding {
    let what = format!("endpoint {}", endpoint.name);
    match reach(endpoint).await {
        Ok(address) => Finding::ok(what, format!("{} answers at {address}", endpoint.origin())),
        Err(cause) => Finding::problem(
            what,
            Exit::Unavailable,
            format!("{}: {cause}", endpoint.origin()),
            "check the url, the name's addresses and the way there; records wait in Kafka meanwhile",
        ),
    }
}

/// Resolves, judges every address, and opens one connection.
async fn reach(endpoint: &Endpoint) -> Result<SocketAddr, String> {
    let host = endpoint.url.host_str().unwrap_or_default();
    let name = host.trim_matches(['[', ']']);
    let port = endpoint.url.port_or_known_default().unwrap_or(443);
    let answer = lookup_host((name, port)).await.map_err(|e| e.to_string())?;
    let addresses: Vec<_> = answer.collect();
    resolver::judge(&endpoint.addresses, host, &addresses).map_err(|e| e.to_string())?;
    let connect = TcpStream::connect(addresses.as_slice());
    match tokio::time::timeout(endpoint.connect_timeout, connect).await {
        Ok(Ok(stream)) => stream.peer_addr().map_err(|e| e.to_string()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!(
            "no connection within {:?}",
            endpoint.connect_timeout
        )),
    }
}
