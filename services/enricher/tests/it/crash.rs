//! The real process, killed in the middle of a stream.

use std::time::{Duration, Instant};

use stream::lineage::{Reader, Verdict};

use crate::broker::decode;
use crate::process::Process;
use crate::world::{PATIENCE, World};

async fn until_end(world: &World, partition: i32, above: i64) -> i64 {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let end = world.broker.end(&world.config.output.topic, partition);
        if end > above {
            return end;
        }
        assert!(
            Instant::now() < deadline,
            "the output ends at {end}, more than {above} is awaited"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_nine_in_the_middle_of_a_stream_loses_and_repeats_nothing() {
    const EACH: i64 = 40_000;
    let world = World::new(2).await;
    world.publish_content();
    let changes = World::inserts(1..=EACH);
    for partition in 0..2 {
        world
            .broker
            .produce(&world.config.input.cdc_topic, partition, &changes);
    }
    let mut reached = 0;
    for _ in 0..4 {
        let process = Process::start(&world);
        reached = until_end(&world, 0, reached).await;
        process.kill9();
    }
    assert!(reached < EACH, "the stream was over before the last kill");
    let process = Process::start(&world);
    for partition in 0..2 {
        let topic = &world.config.output.topic;
        until_end(&world, partition, EACH - 1).await;
        let (mut reader, mut ids) = (Reader::default(), Vec::new());
        for message in world.broker.read(topic, partition) {
            let event = decode(&message);
            match reader.check(&event.source) {
                Verdict::Apply => ids.push(event.event_id.parse::<i64>().unwrap()),
                Verdict::Duplicate => {}
                other => panic!("{other:?} at {:?}", event.source),
            }
        }
        assert!(
            ids == (1..=EACH).collect::<Vec<_>>(),
            "partition {partition}: {} events",
            ids.len()
        );
    }
    process.kill9();
}
