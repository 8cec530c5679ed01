//! Where an endpoint begins.

use webhook_forwarder::config::Start;

use crate::delivery::events;
use crate::support::{Forwarder, Receiver, Topics, config, endpoint, eventually};

#[tokio::test]
async fn latest_is_committed_at_once_so_that_a_restart_misses_nothing() {
    let topics = Topics::new("start-latest", 3).await;
    let receiver = Receiver::start().await;
    let all = events(0, 20, 2);
    topics.write(&all[..10]).await;
    topics.write(&events(1, 4, 1)).await;
    let mut latest = endpoint("crm", &receiver.url());
    latest.start = Start::Latest;
    let forwarder = Forwarder::start(config(&topics, vec![latest.clone()]));
    let group = "start-latest.enriched.crm";
    eventually("positions on all partitions", async || {
        let committed = topics.committed(group);
        if committed == [Some(10), Some(4), Some(0)] {
            Ok(())
        } else {
            Err(format!("{committed:?}"))
        }
    })
    .await;
    forwarder.stop().await;
    topics.write(&all[10..]).await;
    topics.write(&events(2, 3, 1)).await;
    let forwarder = Forwarder::start(config(&topics, vec![latest]));
    receiver.wait_for_events(13).await;
    forwarder.stop().await;
    let mut delivered: Vec<i64> = receiver
        .delivered()
        .iter()
        .map(|id| id.parse().unwrap())
        .collect();
    delivered.sort_unstable();
    let expected: Vec<i64> = (10..20).chain(2_000_000..2_000_003).collect();
    assert_eq!(
        delivered, expected,
        "what came before the first start is not sent, what came while it was away is"
    );
}

#[tokio::test]
async fn a_copy_of_an_earlier_record_after_a_latest_start_is_known_as_a_copy() {
    let topics = Topics::new("start-copies", 1).await;
    let receiver = Receiver::start().await;
    let all = events(0, 7, 2);
    topics.write(&all[..5]).await;
    let mut latest = endpoint("crm", &receiver.url());
    latest.start = Start::Latest;
    let forwarder = Forwarder::start(config(&topics, vec![latest]));
    forwarder.wait_until_ready().await;
    // a late producer repeats 3, then the chain goes on after 4
    topics.write(&all[3..4]).await;
    topics.write(&all[5..]).await;
    receiver.wait_for_events(2).await;
    forwarder.stop().await;
    assert_eq!(receiver.delivered(), ["5", "6"]);
}

#[tokio::test]
async fn a_known_endpoint_without_a_position_on_a_partition_stops_there_instead_of_skipping() {
    let topics = Topics::new("start-known", 2).await;
    let receiver = Receiver::start().await;
    topics.write(&events(0, 5, 1)).await;
    topics.write(&events(1, 5, 1)).await;
    topics.commit("start-known.enriched.crm", 0, 2, "engage1 epoch=0");
    let forwarder = Forwarder::start(config(&topics, vec![endpoint("crm", &receiver.url())]));
    receiver.wait_for_events(3).await;
    let complaint = forwarder.wait_for_complaint("has no position").await;
    let group = "start-known.enriched.crm";
    let command = format!("--delete --group {group}");
    assert!(complaint.contains(&command), "{complaint}");
    forwarder.stop().await;
    assert_eq!(receiver.delivered(), ["2", "3", "4"]);
    assert_eq!(topics.committed(group), [Some(5), None]);

    // what the remedy says
    topics.delete_group(group).await;
    let mut anew = endpoint("crm", &receiver.url());
    anew.start = Start::Earliest;
    let forwarder = Forwarder::start(config(&topics, vec![anew]));
    receiver.wait_for_events(10).await;
    forwarder.stop().await;
    assert_eq!(topics.committed(group), [Some(5), Some(5)]);
}

#[tokio::test]
async fn a_missing_topic_ends_the_process_with_the_command_that_creates_it() {
    let topics = Topics::new("start-missing", 1).await;
    let receiver = Receiver::start().await;
    let mut config = config(&topics, vec![endpoint("crm", &receiver.url())]);
    config.input.enriched_topic = "start-missing.not-there".into();
    let failure = Forwarder::start(config).failure().await;
    assert_eq!(failure.exit().code(), 78);
    assert!(
        failure.remedy_text().unwrap().contains("engagectl init"),
        "{failure:?}"
    );
}

#[tokio::test]
async fn a_configuration_without_a_usable_endpoint_is_refused_with_all_problems() {
    let topics = Topics::new("start-refused", 1).await;
    let mut private = endpoint("one", "http://127.0.0.1:1/");
    private.allow_private = false;
    let mut plain = endpoint("two", "http://crm.example.com/");
    plain.allow_insecure = false;
    let failure = Forwarder::start(config(&topics, vec![private, plain]))
        .failure()
        .await;
    assert_eq!(failure.exit().code(), 64);
    let text = failure.causes().join("\n");
    assert!(
        text.contains("allow_private") && text.contains("allow_insecure"),
        "{text}"
    );
}
