//! One endpoint, judged and ready to use.
//!
//! Invariant: an [`Endpoint`] can only be made from a configuration without a problem; secrets,
//! header values and the path of the URL (which often holds a token) show in no error and no `Debug`.

use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use engagement::event::{EnrichedEvent, Operation};
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use url::{Host, Url};

use crate::address::AddressPolicy;
use crate::attempts::AttemptLimits;
use crate::breaker::BreakerSettings;
use crate::config::{EndpointConfig, Start};
use crate::message::MessageShape;
use crate::signature::SigningKey;

/// Headers that are ours or the protocol's.
const RESERVED: [&str; 11] = [
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "traceparent",
    "tracestate",
    "content-type",
    "content-length",
    "transfer-encoding",
    "connection",
    "host",
    "user-agent",
];

/// What is wrong with an endpoint's configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("endpoint `{endpoint}`, {key}: {problem}")]
pub struct EndpointProblem {
    /// Name of the endpoint, or its number where it has none.
    pub endpoint: String,
    /// The key.
    pub key: &'static str,
    /// What is wrong and what would be right.
    pub problem: String,
}

/// Which events an endpoint wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Those of snapshots and backfills too.
    pub historical: bool,
    /// Deletions.
    pub deletions: bool,
    /// Deletions that are half of a move.
    pub moved: bool,
}

impl Selection {
    /// Whether this event is sent.
    #[must_use]
    pub fn wants(&self, event: &EnrichedEvent) -> bool {
        let deletion = event.operation() == Operation::Deleted;
        let wanted_deletion = if event.moved {
            self.moved
        } else {
            self.deletions
        };
        (self.historical || !event.is_historical()) && (!deletion || wanted_deletion)
    }
}

/// One endpoint, complete.
#[derive(Clone)]
pub struct Endpoint {
    /// Its name.
    pub name: String,
    /// Where to.
    pub url: Url,
    /// What signs; the first key is the current one.
    pub keys: Vec<SigningKey>,
    /// Static headers, the bearer token among them.
    pub headers: HeaderMap,
    /// How messages look.
    pub shape: MessageShape,
    /// Which events are sent.
    pub selection: Selection,
    /// Where a group without any position begins.
    pub start: Start,
    /// What may be connected to.
    pub addresses: AddressPolicy,
    /// Longest time for one attempt.
    pub timeout: Duration,
    /// Longest time to connect.
    pub connect_timeout: Duration,
    /// Requests under way at once.
    pub concurrency: NonZeroU32,
    /// Most attempts per second.
    pub max_per_second: Option<NonZeroU32>,
    /// When and how often a record is tried again.
    pub limits: AttemptLimits,
    /// Cap of `Retry-After`.
    pub retry_after_max: Duration,
    /// When the endpoint is given a rest.
    pub breaker: BreakerSettings,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint")
            .field("name", &self.name)
            .field("origin", &self.origin())
            .field("keys", &self.keys.len())
            .finish_non_exhaustive()
    }
}

impl Endpoint {
    /// Scheme, host and port: what of the URL may be logged.
    #[must_use]
    pub fn origin(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    /// Judges one endpoint. `place` names it where it has no name, `database_table` is
    /// `<db>.<table>` of the event uid.
    ///
    /// # Errors
    /// All problems of this endpoint.
    pub fn judge(
        config: &EndpointConfig,
        place: &str,
        database_table: &str,
    ) -> Result<Self, Vec<EndpointProblem>> {
        let mut judge = Judge::new(config, place);
        judge.name(&config.name);
        judge.times(config);
        let addresses = AddressPolicy {
            allow_private: config.allow_private,
            allow: config.allow_addresses.clone(),
        };
        let url = judge.url(config, &addresses);
        let keys = judge.keys(config);
        let headers = judge.headers(config);
        match url {
            Some(url) if judge.problems.is_empty() => Ok(Self {
                name: config.name.clone(),
                url,
                keys,
                headers,
                shape: shape(config, database_table),
                selection: Selection {
                    historical: config.historical,
                    deletions: config.deletions,
                    moved: config.moved,
                },
                start: config.start,
                addresses,
                timeout: config.timeout,
                connect_timeout: config.connect_timeout,
                concurrency: config.concurrency,
                max_per_second: config.max_per_second,
                limits: limits(config),
                retry_after_max: config.retry.retry_after_max,
                breaker: BreakerSettings {
                    failures: config.breaker.failures.get(),
                    open: config.breaker.open,
                    open_max: config.breaker.open_max,
                },
            }),
            _ => Err(judge.problems),
        }
    }
}

fn shape(config: &EndpointConfig, database_table: &str) -> MessageShape {
    let canonical = config.profile == engagement::profile::Profile::Canonical;
    MessageShape {
        profile: config.profile,
        envelope: config.envelope.unwrap_or(canonical),
        render: engagement::profile::RenderOptions {
            raw_payload: config.raw_payload,
            database_table: database_table.to_owned(),
        },
    }
}

fn limits(config: &EndpointConfig) -> AttemptLimits {
    AttemptLimits {
        first_wait: config.retry.first_wait,
        longest_wait: config.retry.longest_wait,
        transient: config.retry.transient_failures.get(),
        permanent: config.retry.permanent_failures.get(),
    }
}

/// Collects problems.
struct Judge {
    endpoint: String,
    problems: Vec<EndpointProblem>,
}

impl Judge {
    fn new(config: &EndpointConfig, place: &str) -> Self {
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

    fn name(&mut self, name: &str) {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.len() > 64 || !name.chars().all(fits) {
            self.problem(
                "name",
                "expected 1 to 64 lower-case letters, digits or `-`, for example `name = \"crm\"`",
            );
        }
    }

    fn times(&mut self, config: &EndpointConfig) {
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

    fn url(&mut self, config: &EndpointConfig, addresses: &AddressPolicy) -> Option<Url> {
        let Some(url) = config.url.clone() else {
            self.problem(
                "url",
                "is missing; expected for example `url = \"https://crm.example.com/hooks\"`",
            );
            return None;
        };
        match url.scheme() {
            "https" => {}
            "http" if config.allow_insecure => {}
            "http" => self.problem(
                "url",
                "is http://, which anybody on the way can read; use https:// or set `allow_insecure = true`",
            ),
            other => self.problem("url", format!("has scheme `{other}`; expected https")),
        }
        if !url.username().is_empty() || url.password().is_some() {
            self.problem(
                "url",
                "holds credentials; use `bearer_token` or `headers` instead",
            );
        }
        let literal = match url.host() {
            Some(Host::Ipv4(ip)) => Some(ip.into()),
            Some(Host::Ipv6(ip)) => Some(ip.into()),
            Some(Host::Domain(_)) => None,
            None => {
                self.problem("url", "has no host");
                None
            }
        };
        let host = url.host_str().unwrap_or_default();
        if let Some(Err(refused)) = literal.map(|ip| addresses.check(host, ip)) {
            self.problem("url", refused.to_string());
        }
        Some(url)
    }

    fn keys(&mut self, config: &EndpointConfig) -> Vec<SigningKey> {
        let mut keys = Vec::new();
        for secret in config.secrets.iter().chain(&config.secret) {
            keys.extend(self.key("secrets", secret.expose_secret()));
        }
        if let Some(text) = self.file("secrets_file", config.secrets_file.as_deref()) {
            for line in text
                .expose_secret()
                .lines()
                .filter(|l| !l.trim().is_empty())
            {
                keys.extend(self.key("secrets_file", line));
            }
        }
        keys
    }

    fn key(&mut self, key: &'static str, text: &str) -> Option<SigningKey> {
        SigningKey::parse(text)
            .map_err(|error| self.problem(key, error.to_string()))
            .ok()
    }

    fn headers(&mut self, config: &EndpointConfig) -> HeaderMap {
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

#[cfg(test)]
mod tests {
    use super::*;
    use engagement::event::Origin;
    use engagement::testing::Sample;
    use rstest::rstest;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn config(url: &str) -> EndpointConfig {
        EndpointConfig {
            name: "crm".into(),
            url: Some(url.parse().unwrap()),
            secrets: vec![SECRET.into()],
            ..EndpointConfig::default()
        }
    }

    fn problems(config: &EndpointConfig) -> Vec<(&'static str, String)> {
        match Endpoint::judge(config, "number 1", "engage.engagement_events") {
            Ok(_) => Vec::new(),
            Err(problems) => problems.into_iter().map(|p| (p.key, p.problem)).collect(),
        }
    }

    #[test]
    fn a_plain_endpoint_needs_name_and_url_only() {
        let endpoint = Endpoint::judge(&config("https://crm.example.com/hooks/token"), "", "e.t");
        let endpoint = endpoint.unwrap();
        assert!(endpoint.shape.envelope);
        assert_eq!(endpoint.origin(), "https://crm.example.com");
        assert!(!format!("{endpoint:?}").contains("token"));
    }

    #[rstest]
    #[case("http://crm.example.com/", "allow_insecure")]
    #[case("ftp://crm.example.com/", "scheme `ftp`")]
    #[case("https://user:pass@crm.example.com/", "bearer_token")]
    #[case("https://127.0.0.1/", "allow_private")]
    #[case("https://0x7f.1/", "allow_private")]
    #[case("https://2130706433/", "allow_private")]
    #[case("https://[::ffff:10.0.0.1]/", "allow_private")]
    #[case("https://169.254.169.254/latest", "allow_addresses")]
    #[case("https://[64:ff9b::a9fe:a9fe]/", "allow_addresses")]
    fn urls_that_must_not_be_are_refused_with_what_would_open_them(
        #[case] url: &str,
        #[case] hint: &str,
    ) {
        let problems = problems(&config(url));
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(
            problems[0].0 == "url" && problems[0].1.contains(hint),
            "{problems:?}"
        );
    }

    #[test]
    fn all_problems_are_named_at_once_and_no_secret_shows() {
        let broken = EndpointConfig {
            name: "My CRM".into(),
            secrets: vec!["whsec_c2hvcnQ=".into(), SECRET.into()],
            headers: [("webhook-id", "x"), ("no header", "x"), ("x-key", "a\nb")]
                .map(|(name, value)| (name.into(), value.into()))
                .into(),
            timeout: Duration::ZERO,
            ..EndpointConfig::default()
        };
        let problems = problems(&broken);
        let keys: Vec<_> = problems.iter().map(|(key, _)| *key).collect();
        assert_eq!(
            keys,
            [
                "name", "timeout", "url", "secrets", "headers", "headers", "headers"
            ]
        );
        assert!(!format!("{problems:?}").contains("c2hvcnQ"));
    }

    #[test]
    fn header_values_are_marked_sensitive() {
        let mut config = config("https://crm.example.com/");
        config.bearer_token = Some("s3cr3t".into());
        let endpoint = Endpoint::judge(&config, "", "e.t").unwrap();
        assert_eq!(endpoint.headers[AUTHORIZATION], "Bearer s3cr3t");
        assert!(!format!("{:?}", endpoint.headers).contains("s3cr3t"));
    }

    #[test]
    fn historical_events_deletions_and_moves_are_sent_as_configured() {
        let default = Selection {
            historical: false,
            deletions: true,
            moved: false,
        };
        let moved_away = Sample::new().deleted().moved().build();
        assert!(default.wants(&Sample::new().build()));
        assert!(default.wants(&Sample::new().moved().build()));
        assert!(default.wants(&Sample::new().deleted().build()));
        assert!(!default.wants(&moved_away));
        let snapshot = Sample::new().origin(Origin::Snapshot).build();
        assert!(!default.wants(&snapshot));
        let all = Selection {
            historical: true,
            deletions: false,
            moved: true,
        };
        assert!(all.wants(&snapshot) && all.wants(&moved_away));
        assert!(!all.wants(&Sample::new().deleted().build()));
    }
}
