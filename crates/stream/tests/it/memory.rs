//! What sixteen lanes that take nothing cost.

use stream::LaneHandle;

use crate::support::{Member, eventually, options, settings, topic, unique};

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_full_inboxes_stay_within_their_budget() {
    let (topic, group) = (topic("memory", 16).await, unique("g"));
    let filled = topic.clone();
    tokio::task::spawn_blocking(move || {
        (0..16).for_each(|partition| fill_large(&filled, partition));
    })
    .await
    .unwrap();
    let member = Member::start(
        options(settings(), &group, &topic),
        |mut lane: LaneHandle| async move {
            lane.start(0).await?;
            lane.stopping().cancelled().await;
            Ok(())
        },
    );
    let held = eventually("all inboxes are full", async || {
        let held: Vec<_> = member
            .status
            .lanes()
            .iter()
            .filter_map(|lane| lane.held)
            .collect();
        if held.len() == 16 && held.iter().all(|held| *held > 0) {
            Ok(held)
        } else {
            Err(format!("{held:?}"))
        }
    })
    .await;
    // 512 KiB, and one more fetch of 64 KiB or of a whole batch (256 KiB): 1,100 records of 700 bytes
    assert!(held.iter().all(|held| *held < 1300), "{held:?}");
    member.stop().await;
}

fn fill_large(topic: &str, partition: i32) {
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
    let producer: BaseProducer = settings().producer_config().create().unwrap();
    let payloads = crate::support::random(4000 * 700);
    for payload in payloads.chunks(700) {
        while producer
            .send(
                BaseRecord::<(), _>::to(topic)
                    .partition(partition)
                    .payload(payload),
            )
            .is_err()
        {
            producer.poll(std::time::Duration::from_millis(10));
        }
    }
    producer.flush(crate::support::WAIT).unwrap();
}
