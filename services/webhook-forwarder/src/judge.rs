//! Judges the configuration of one endpoint.
//!
//! Invariant: all problems are found, not only the first, and none of them shows a secret.

use std::path::Path;

use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use url::{Host, Url};

use crate::address::AddressPolicy;
use crate::config::EndpointConfig;
use crate::endpoint::EndpointProblem;
use crate::signature::SigningKey;

/// Headers that are ours or the protocol's.
const RESERVED: [&str; 12] = [
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    stream::backfill::RUN,
    "traceparent",
    "tracestate",
    "content-type",
    "content-length",
    "transfer-encoding",
    "connection",
    "host",
    "user-agent",
];

/// Collects problems.
pub(crate) struct Judge {
    endpoint: String,
    pub(crate) problems: Vec<EndpointProblem>,
}

impl Judge {
    pub(crate) fn new(config: &EndpointConfig, place: &str) -> Self {
        let endpoint = if config.name.is_empty() {
            place.to_owned()
        } else {
            config.name.clone()
        };
        Self {
            endpoint,
            problems: Vec::new(),
        }
    }

    fn problem(&mut self, key: &'static str, problem: impl Into<String>) {
        self.problems.push(EndpointProblem {
            endpoint: self.endpoint.clone(),
            key,
            problem: problem.into(),
        });
    }

    pub(crate) fn name(&mut self, name: &str) {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.len() > 64 || !name.chars().all(fits) {
            self.problem(
                "name",
                "expected 1 to 64 lower-case letters, digits or `-`, for example `name = \"crm\"`",
            );
        }
    }

    pub(crate) fn times(&mut self, config: &EndpointConfig) {
        for (key, time) in [
            ("timeout", config.timeout),
            ("connect_timeout", config.connect_timeout),
            ("retry.first_wait", config.retry.first_wait),
            ("breaker.open", config.breaker.open),
        ] {
            if time.is_zero() {
                self.problem(key, "is zero; expected for example `10s`");
            }
        }
    }

    pub(crate) fn url(
        &mut self,
        config: &EndpointConfig,
        addresses: &AddressPolicy,
    ) -> Option<Url> {
        let Some(url) = config.url.clone() else {
            self.problem(
                "url",
                "is missing; expected for example `url = \"https://crm.example.com/hooks\"`",
            );
            return None;
        };
        self.scheme(&url, config.allow_insecure);
        if !url.username().is_empty() || url.password().is_some() {
            self.problem(
                "url",
                "holds credentials; use `bearer_token` or `headers` instead",
            );
        }
        let literal = match url.host() {
            Some(Host::Ipv4(ip)) => Some(ip.into()),
            Some(Host::Ipv6(ip)) => Some(ip.into()),
            Some(Host::Domain(_)) | None => None,
        };
        let host = url.host_str().unwrap_or_default();
        if let Some(Err(refused)) = literal.map(|ip| addresses.check(host, ip)) {
            self.problem("url", refused.to_string());
        }
        Some(url)
    }

    /// Both schemes accepted here always come with a host.
    fn scheme(&mut self, url: &Url, allow_insecure: bool) {
        match url.scheme() {
            "https" => {}
            "http" if allow_insecure => {}
            "http" => self.problem(
                "url",
                "is http://, which anybody on the way can read; use https:// or set `allow_insecure = true`",
            ),
            other => self.problem("url", format!("has scheme `{other}`; expected https")),
        }
    }

    pub(crate) fn keys(&mut self, config: &EndpointConfig) -> Vec<SigningKey> {
        let mut keys = Vec::new();
        for secret in config.secrets.iter().chain(&config.secret) {
            keys.extend(self.some_keys("secrets", secret));
        }
        if let Some(text) = self.file("secrets_file", config.secrets_file.as_deref()) {
            keys.extend(self.some_keys("secrets_file", &text));
        }
        keys
    }

    /// The keys of a text, one or several separated by white space; none at all is a mistake.
    fn some_keys(&mut self, key: &'static str, text: &SecretString) -> Vec<SigningKey> {
        let words = text.expose_secret().split_ascii_whitespace();
        let words: Vec<_> = words.collect();
        if words.is_empty() {
            self.problem(
                key,
                "holds no secret; leave it out to send without signatures",
            );
        }
        let parsed = words.into_iter().filter_map(|word| self.key(key, word));
        parsed.collect()
    }

    fn key(&mut self, key: &'static str, text: &str) -> Option<SigningKey> {
        SigningKey::parse(text)
            .map_err(|error| self.problem(key, error.to_string()))
            .ok()
    }

    pub(crate) fn headers(&mut self, config: &EndpointConfig) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in &config.headers {
            match name.parse::<HeaderName>() {
                Ok(parsed) if !RESERVED.contains(&parsed.as_str()) => {
                    self.header("headers", &mut headers, parsed, value.expose_secret());
                }
                Ok(parsed) => {
                    self.problem("headers", format!("`{parsed}` is set by the forwarder"));
                }
                Err(_) => self.problem("headers", format!("`{name}` is no header name")),
            }
        }
        let file = self.file("bearer_token_file", config.bearer_token_file.as_deref());
        if let Some(token) = config.bearer_token.clone().or(file) {
            let value = format!("Bearer {}", token.expose_secret().trim());
            self.header("bearer_token", &mut headers, AUTHORIZATION, &value);
        }
        headers
    }

    fn header(
        &mut self,
        key: &'static str,
        headers: &mut HeaderMap,
        name: HeaderName,
        value: &str,
    ) {
        match HeaderValue::from_str(value) {
            Ok(mut value) => {
                value.set_sensitive(true);
                headers.insert(name, value);
            }
            Err(_) => self.problem(
                key,
                format!("the value of `{name}` holds characters that no header can"),
            ),
        }
    }

    fn file(&mut self, key: &'static str, path: Option<&Path>) -> Option<SecretString> {
        let path = path?;
        std::fs::read_to_string(path)
            .map(SecretString::from)
            .map_err(|e| {
                self.problem(key, format!("{} cannot be read: {e}", path.display()));
            })
            .ok()
    }
}
