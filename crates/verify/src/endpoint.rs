//! A webhook endpoint, as the forwarder is told of it and as its receiver can be asked.
//!
//! Invariant: nothing of it is guessed: what the forwarder's configuration says is said here again.

use engagement::event::Micros;
use engagement::profile::Profile;
use url::Url;

use crate::sources::KafkaSource;

/// A webhook endpoint that answers `GET /deliveries` as the demo receiver does, and how it is configured at the forwarder.
#[derive(Clone, Debug)]
pub struct ReceiverSource {
    /// The receiver, such as `http://127.0.0.1:5001`.
    pub url: Url,
    /// The endpoint's name, which its dead letters carry.
    pub endpoint: String,
    /// The endpoint's consumer group, `webhook-forwarder.<endpoint>`. What backfills bring is read in `<group>.backfill`.
    pub group: String,
    /// The endpoint's profile.
    pub profile: Profile,
    /// The body is the Standard Webhooks envelope.
    pub envelope: bool,
    /// The endpoint takes events of snapshots and backfills.
    pub historical: bool,
    /// `<db>.<table>` of the event uid.
    pub database_table: String,
    /// When the endpoint began, where that was in the middle of the log (`start = "latest"`): of what was written before, it may have
    /// anything or nothing.
    pub since: Option<Micros>,
}

impl ReceiverSource {
    /// An endpoint with the forwarder's defaults, but for `historical`.
    #[must_use]
    pub fn new(url: Url, endpoint: &str, historical: bool) -> Self {
        Self {
            url,
            endpoint: endpoint.into(),
            group: format!("webhook-forwarder.{endpoint}"),
            profile: Profile::Canonical,
            envelope: true,
            historical,
            database_table: "engage.engagement_events".into(),
            since: None,
        }
    }

    /// The group in which the endpoint reads what backfills bring; `None`: it does not.
    #[must_use]
    pub fn backfill_group(&self) -> Option<String> {
        self.historical.then(|| format!("{}.backfill", self.group))
    }

    /// What the endpoint reads: group and topic.
    pub(crate) fn groups(&self, kafka: &KafkaSource) -> Vec<(String, String)> {
        let live = (self.group.clone(), kafka.enriched_topic.clone());
        let past = self.backfill_group();
        let past = past.map(|group| (group, kafka.backfill_topic.clone()));
        [live].into_iter().chain(past).collect()
    }
}
