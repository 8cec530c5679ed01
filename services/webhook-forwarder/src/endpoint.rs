//! One endpoint, judged and ready to use.
//!
//! Invariant: an [`Endpoint`] can only be made from a configuration without a problem; secrets,
//! header values and the path of the URL (which often holds a token) show in no error and no `Debug`.

use std::num::NonZeroU32;
use std::time::Duration;

use engagement::event::{EnrichedEvent, Operation};
use http::HeaderMap;
use url::Url;

use crate::address::AddressPolicy;
use crate::attempts::AttemptLimits;
use crate::breaker::BreakerSettings;
use crate::config::{EndpointConfig, Start};
use crate::judge::Judge;
use crate::message::MessageShape;
use crate::signature::SigningKey;

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
        let Some(url) = url.filter(|_| judge.problems.is_empty()) else {
            return Err(judge.problems);
        };
        Ok(Self {
            name: config.name.clone(),
            url,
            keys,
            headers,
            shape: shape(config, database_table),
            selection: selection(config),
            start: config.start,
            addresses,
            timeout: config.timeout,
            connect_timeout: config.connect_timeout,
            concurrency: config.concurrency,
            max_per_second: config.max_per_second,
            limits: limits(config),
            retry_after_max: config.retry.retry_after_max,
            breaker: breaker(config),
        })
    }
}

fn selection(config: &EndpointConfig) -> Selection {
    Selection {
        historical: config.historical,
        deletions: config.deletions,
        moved: config.moved,
    }
}

fn breaker(config: &EndpointConfig) -> BreakerSettings {
    BreakerSettings {
        failures: config.breaker.failures.get(),
        open: config.breaker.open,
        open_max: config.breaker.open_max,
    }
}

fn shape(config: &EndpointConfig, database_table: &str) -> MessageShape {
    let canonical = config.profile == engagement::profile::Profile::Canonical;
    MessageShape {
        order: config.order,
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

#[cfg(test)]
mod tests {
    use super::*;
    use engagement::event::Origin;
    use engagement::testing::Sample;
    use http::header::AUTHORIZATION;
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
