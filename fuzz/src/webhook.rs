//! What an endpoint's owner writes and what a receiver answers: lines are secret, URL, block, address, `Retry-After`.
//!
//! Invariant: an accepted URL is one that the address guard lets pass, and a signature is a header value.

use std::net::IpAddr;
use std::time::Duration;

use webhook_forwarder::address::{AddressPolicy, Cidr};
use webhook_forwarder::config::EndpointConfig;
use webhook_forwarder::endpoint::Endpoint;
use webhook_forwarder::retry_after;
use webhook_forwarder::signature::{SigningKey, signature_header};

pub(crate) fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.lines();
    let mut line = || lines.next().unwrap_or_default();
    let (secret, url, block, address, wait) = (line(), line(), line(), line(), line());
    signs(secret, data);
    endpoint(url, secret);
    guards(block, address);
    let hour = Duration::from_secs(3600);
    if let Some(wait) = retry_after::parse(wait, 1_800_000_000_000_000, hour) {
        assert!(wait <= hour);
    }
}

fn signs(secret: &str, body: &[u8]) {
    if let Ok(key) = SigningKey::parse(secret) {
        let header = signature_header(&[key.clone(), key], "id", 1, body).unwrap_or_default();
        let parts: Vec<&str> = header.split(' ').collect();
        assert!(parts.len() == 2 && parts[0] == parts[1] && parts[0].starts_with("v1,"));
        assert!(header.is_ascii());
    }
}

fn endpoint(url: &str, secret: &str) {
    let config = EndpointConfig {
        name: "crm".into(),
        url: url::Url::parse(url).ok(),
        secrets: vec![secret.into()],
        ..EndpointConfig::default()
    };
    match Endpoint::judge(&config, "endpoint 1", "engage.events") {
        Ok(endpoint) => {
            assert_eq!(endpoint.url.scheme(), "https");
            let host = endpoint.url.host_str().unwrap_or_default();
            let literal = host.trim_matches(['[', ']']).parse::<IpAddr>();
            if let Ok(address) = literal {
                let guard = AddressPolicy::default();
                assert!(guard.check(host, address).is_ok(), "{host} passed");
            }
        }
        Err(problems) => assert!(!problems.is_empty()),
    }
}

fn guards(block: &str, address: &str) {
    let Ok(address) = address.parse::<IpAddr>() else {
        return;
    };
    let guard = AddressPolicy::default();
    let mapped = match address {
        IpAddr::V4(v4) => IpAddr::V6(v4.to_ipv6_mapped()),
        v6 @ IpAddr::V6(_) => v6.to_canonical(),
    };
    assert_eq!(
        guard.check("h", address).is_ok(),
        guard.check("h", mapped).is_ok(),
        "{address} and {mapped} are one address"
    );
    if let Ok(block) = block.parse::<Cidr>() {
        assert_eq!(block.contains(address), block.contains(mapped));
        let printed = String::from(block);
        assert_eq!(printed.parse(), Ok(block));
    }
}
