//! What `webhook-forwarder check` looks at, without sending anything.
//!
//! Invariant: no message is sent and no position is written.

use std::net::SocketAddr;

use service::{Exit, Finding};
use stream::LaneError;
use stream::probe::Probe;
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
    if findings.is_empty() {
        for topic in [
            &config.input.enriched_topic,
            &config.input.dead_letter_topic,
        ] {
            findings.push(topic_finding(config, topic).await);
        }
    }
    match endpoints::judge(config) {
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

async fn topic_finding(config: &Config, topic: &str) -> Finding {
    let what = format!("topic {topic}");
    let probe = Probe::new(&config.kafka, &config.input.group_id);
    match probe.watermarks(topic, 0).await {
        Ok(log) => Finding::ok(
            what,
            format!("partition 0 holds offsets {} to {}", log.low, log.high),
        ),
        Err(LaneError::Retry { reason } | LaneError::Stop { reason, .. }) => Finding::problem(
            what,
            Exit::Unavailable,
            reason,
            "check KAFKA_BOOTSTRAP_SERVERS; create missing topics with `engagectl init`",
        ),
    }
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
