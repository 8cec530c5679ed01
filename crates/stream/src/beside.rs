//! A topic that the owner of a partition reads beside its own: the same partition of it, for as long as it owns the other.
//!
//! There is no second membership, so no second owner: whoever has partition p of the group's topic has partition p of this
//! one, and commits for it in the same group. What is asked for in the background is only where the topic ends.
//! Invariant: a question that fails changes nothing; the group's own topic never waits for this one.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::error::LaneError;
use crate::scan::Scanner;
use crate::settings::KafkaSettings;

/// Pause between two questions about the ends.
const EVERY: Duration = Duration::from_secs(2);

/// Where the topic ends, partition by partition; cheap to clone.
#[derive(Clone)]
pub struct Beside {
    topic: Arc<str>,
    ends: watch::Receiver<Vec<i64>>,
}

impl Beside {
    /// Looks at the ends from now on, until `stop`. A topic that is not there yet is looked for again.
    #[must_use]
    pub fn watch(
        settings: &KafkaSettings,
        group: &str,
        topic: &str,
        stop: CancellationToken,
    ) -> Self {
        let (sender, ends) = watch::channel(Vec::new());
        let watcher = Watcher {
            settings: settings.clone(),
            group: group.to_owned(),
            topic: topic.into(),
            scanner: None,
            complained: None,
        };
        let topic = Arc::clone(&watcher.topic);
        tokio::spawn(watcher.run(sender, stop));
        Self { topic, ends }
    }

    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// Where a partition ended when it was last asked for; 0 before, and where there is none.
    #[must_use]
    pub fn end(&self, partition: i32) -> i64 {
        let at = usize::try_from(partition).unwrap_or(usize::MAX);
        self.ends.borrow().get(at).copied().unwrap_or(0)
    }

    /// Whether there was no such topic when it was last asked for, or it was not asked for yet: a place in it counts no more.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.ends.borrow().is_empty()
    }

    /// Waits until the topic ends elsewhere; for ever once nobody looks any more. Safe to cancel.
    pub async fn changed(&mut self) {
        if self.ends.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

struct Watcher {
    settings: KafkaSettings,
    group: String,
    topic: Arc<str>,
    scanner: Option<Scanner>,
    /// What was said last about why nothing is known.
    complained: Option<String>,
}

impl Watcher {
    async fn run(mut self, sender: watch::Sender<Vec<i64>>, stop: CancellationToken) {
        loop {
            let asked = tokio::task::spawn_blocking(move || {
                let ends = self.look();
                (self, ends)
            });
            let Ok((watcher, ends)) = asked.await else {
                return;
            };
            self = watcher;
            match ends {
                Ok(ends) => {
                    self.is_there(&ends);
                    sender.send_if_modified(|known| {
                        let is_new = *known != ends;
                        *known = ends;
                        is_new
                    });
                }
                Err(error) => {
                    self.scanner = None;
                    self.complain(error.to_string());
                }
            }
            let pause = tokio::time::sleep(EVERY);
            if stop.run_until_cancelled(pause).await.is_none() {
                return;
            }
        }
    }

    /// The end of each partition, in their order; blocking.
    fn look(&mut self) -> Result<Vec<i64>, LaneError> {
        let scanner = match self.scanner.take() {
            Some(scanner) => scanner,
            None => Scanner::open(&self.settings, &self.group, &self.topic)?,
        };
        let spans = scanner.spans()?;
        self.scanner = Some(scanner);
        Ok(spans.iter().map(|span| span.to).collect())
    }

    fn is_there(&mut self, ends: &[i64]) {
        if ends.is_empty() {
            self.complain("there is no such topic; `engagectl init` creates it".into());
        } else if self.complained.take().is_some() {
            info!(topic = %self.topic, "the topic is read beside the live one");
        }
    }

    /// Says a thing once.
    fn complain(&mut self, why: String) {
        if self.complained.as_ref() != Some(&why) {
            warn!(topic = %self.topic, why, "nothing is read of this topic");
            self.complained = Some(why);
        }
    }
}
