//! Notices that this client, and not the cluster, has lost its group.
//!
//! Invariant: nothing is asked while the group is reached, and the poll thread never waits for an answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::TopicPartitionList;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tracing::{debug, warn};

use super::group::Group;
use crate::error::RunError;
use crate::probe::{SideConsumer, SideContext};

/// Pause between two questions.
const EVERY: Duration = Duration::from_secs(5);
/// How long an answer may take.
const ASK: Duration = Duration::from_secs(5);

#[derive(Default)]
pub(super) struct Watch {
    asking: Option<JoinHandle<()>>,
    asked: Option<Instant>,
}

impl Watch {
    /// Asks as another client while this one is out of reach.
    pub(super) fn turn(&mut self, runtime: &Handle, group: &Arc<Group>) -> Result<(), RunError> {
        if let Some(loss) = group.status.given_up() {
            return Err(RunError::OutOfReach {
                group: group.options.group.clone(),
                servers: group.options.settings.bootstrap_servers.clone(),
                loss: loss.to_string(),
            });
        }
        let is_early = self.asked.is_some_and(|asked| asked.elapsed() < EVERY);
        let is_asking = self.asking.as_ref().is_some_and(|task| !task.is_finished());
        if is_early || is_asking || !group.status.is_out_of_reach() {
            return Ok(());
        }
        self.asked = Some(Instant::now());
        let group = Arc::clone(group);
        self.asking = Some(runtime.spawn_blocking(move || ask(&group)));
        Ok(())
    }
}

fn ask(group: &Group) {
    let answer = committed(group);
    match &answer {
        Ok(()) => {
            let state = group.status.readiness().err().unwrap_or_default();
            warn!(group = %group.options.group, state, "this client is out of reach of its group, another one is not");
        }
        Err(error) => {
            debug!(group = %group.options.group, %error, "the group is out of reach of every client");
        }
    }
    group.status.other_asked(answer.is_ok());
}

/// A committed offset takes a broker and the group's coordinator, as this client's own work does.
fn committed(group: &Group) -> KafkaResult<()> {
    let config = group.options.settings.probe_config(&group.options.group);
    let other: SideConsumer = config.create_with_context(SideContext)?;
    let mut list = TopicPartitionList::new();
    list.add_partition(&group.topic, 0);
    for element in other.committed_offsets(list, ASK)?.elements() {
        element.error()?;
    }
    Ok(())
}
