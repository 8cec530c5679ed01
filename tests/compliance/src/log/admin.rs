//! Topics and groups around a log.
//!
//! Invariant: what was asked for is known to the broker when a function returns.

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use stream::Committed;
use stream::election::once_elected;

use super::{ANSWER, Log, PARTITIONS};

impl Log {
    /// What a group has committed on a topic, by partition.
    ///
    /// # Panics
    /// Where the broker does not answer.
    pub async fn committed(&self, group: &str, topic: &str) -> Vec<Option<Committed>> {
        let (config, topic) = (self.settings.probe_config(group), topic.to_owned());
        let asked = tokio::task::spawn_blocking(move || {
            let consumer: BaseConsumer = config.create().unwrap();
            let mut list = TopicPartitionList::new();
            for partition in 0..PARTITIONS {
                list.add_partition(&topic, partition);
            }
            let ask = || consumer.committed_offsets(list.clone(), ANSWER);
            let found = once_elected(ANSWER, ask).unwrap();
            let of =
                |element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| match element
                    .offset()
                {
                    Offset::Offset(offset) => Some(Committed {
                        offset,
                        metadata: element.metadata().to_owned(),
                    }),
                    _ => None,
                };
            found.elements().iter().map(of).collect()
        });
        asked.await.unwrap()
    }

    /// Deletes a group with all its positions.
    ///
    /// # Panics
    /// Where the broker refuses.
    pub async fn delete_group(&self, group: &str) {
        // a member that has just left may still be counted
        crate::wait::eventually("the group is deleted", async || {
            let options = AdminOptions::new();
            let deleted = self.admin().delete_groups(&[group], &options).await;
            match deleted.unwrap().remove(0) {
                Err((_, RDKafkaErrorCode::NonEmptyGroup)) => Err("it has members".to_owned()),
                other => {
                    other.unwrap();
                    Ok(())
                }
            }
        })
        .await;
    }

    /// From now on the dead-letter topic takes no larger record.
    ///
    /// # Panics
    /// Where the broker refuses.
    pub async fn limit_letters(&self, bytes: u32) {
        let limit = bytes.to_string();
        let topic = ResourceSpecifier::Topic(&self.letters);
        let change = AlterConfig::new(topic).set("max.message.bytes", &limit);
        let altered = self
            .admin()
            .alter_configs([&change], &AdminOptions::new())
            .await;
        altered.unwrap().into_iter().for_each(|one| {
            one.unwrap();
        });
        crate::wait::eventually("the limit is in force", async || {
            let options = AdminOptions::new();
            let described = self.admin().describe_configs([&topic], &options).await;
            let found = described.unwrap().remove(0).unwrap();
            let found = found.get("max.message.bytes").and_then(|e| e.value.clone());
            (found.as_ref() == Some(&limit))
                .then_some(())
                .ok_or_else(|| format!("{found:?}"))
        })
        .await;
    }

    /// Creates a topic.
    ///
    /// # Panics
    /// Where the broker refuses.
    pub async fn create_topic(&self, topic: &str, partitions: i32) {
        let spec = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        let created = self
            .admin()
            .create_topics([&spec], &AdminOptions::new())
            .await;
        created.unwrap().into_iter().for_each(|one| {
            one.unwrap();
        });
        self.until_partitions(topic, usize::try_from(partitions).unwrap())
            .await;
    }

    /// Deletes a topic and makes an empty one of the same name.
    ///
    /// # Panics
    /// Where the broker refuses.
    pub async fn recreate_topic(&self, topic: &str) {
        let deleted = self
            .admin()
            .delete_topics(&[topic], &AdminOptions::new())
            .await;
        deleted.unwrap().into_iter().for_each(|one| {
            one.unwrap();
        });
        self.until_partitions(topic, 0).await;
        self.create_topic(topic, PARTITIONS).await;
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.settings.admin_config().create().unwrap()
    }

    async fn until_partitions(&self, topic: &str, wanted: usize) {
        crate::wait::eventually("the topic is known", async || {
            let admin = self.admin();
            let metadata = admin.inner().fetch_metadata(Some(topic), ANSWER);
            let found = metadata.unwrap().topics()[0].partitions().len();
            (found == wanted)
                .then_some(())
                .ok_or_else(|| format!("{found} of {wanted} partitions"))
        })
        .await;
    }
}
