//! A reader of a topic outlasts its broker.

use std::time::{Duration, Instant};

use devstack::{NoMessage, Stack, next_message};
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
    error::RDKafkaErrorCode,
    producer::{BaseProducer, BaseRecord, Producer as _},
};

const PATIENCE: Duration = Duration::from_secs(120);
/// What a consumer is told when its connection breaks.
const GONE: RDKafkaErrorCode = RDKafkaErrorCode::BrokerTransportFailure;

async fn create(bootstrap: &str) {
    let mut config = ClientConfig::new();
    let config = config.set("bootstrap.servers", bootstrap);
    let admin: AdminClient<DefaultClientContext> = config.create().unwrap();
    let topic = NewTopic::new("read", 1, TopicReplication::Fixed(1));
    let created = admin.create_topics([&topic], &AdminOptions::new()).await;
    assert_eq!(created.unwrap(), [Ok("read".to_owned())]);
}

fn write(bootstrap: &str, payload: &str) {
    let mut config = ClientConfig::new();
    let config = config.set("bootstrap.servers", bootstrap);
    let producer: BaseProducer = config.create().unwrap();
    let record = BaseRecord::<(), _>::to("read").payload(payload);
    producer.send(record).unwrap();
    producer.flush(PATIENCE).unwrap();
}

fn reader(bootstrap: &str) -> BaseConsumer {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "reader")
        .set("enable.partition.eof", "true");
    let consumer: BaseConsumer = config.create().unwrap();
    let mut all = TopicPartitionList::new();
    all.add_partition_offset("read", 0, Offset::Beginning)
        .unwrap();
    consumer.assign(&all).unwrap();
    consumer
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_record_comes_past_the_end_of_a_partition_and_a_broker_that_was_killed() {
    let stack = Stack::builder().kafka().private().start().await.unwrap();
    let server = stack.kafka();
    create(&server.bootstrap).await;
    write(&server.bootstrap, "before");
    let consumer = reader(&server.bootstrap);
    let next = |within| {
        let found = next_message(&consumer, Instant::now() + within)?;
        Ok(String::from_utf8(found.payload().unwrap().to_vec()).unwrap())
    };
    assert_eq!(next(PATIENCE), Ok("before".to_owned()));

    server.kill9().await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    // the end of the partition is told first, then that the broker is gone
    let mut told = next(Duration::ZERO);
    while !matches!(&told, Err(NoMessage::Trouble(error)) if error.rdkafka_error_code() == Some(GONE))
    {
        assert!(Instant::now() < deadline, "{told:?}");
        told = next(Duration::from_millis(200));
    }
    server.start().await.unwrap();
    write(&server.bootstrap, "after");
    assert_eq!(next(PATIENCE), Ok("after".to_owned()));
}
