//! The real process, killed in the middle of a stream.

use std::ops::RangeInclusive;
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

fn produce(world: &World, ids: RangeInclusive<i64>) {
    let changes = World::inserts(ids);
    for partition in 0..2 {
        world
            .broker
            .produce(&world.config.input.cdc_topic, partition, &changes);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_nine_in_the_middle_of_a_stream_loses_and_repeats_nothing() {
    const PART: i64 = 10_000;
    let world = World::new(2).await;
    world.publish_content();
    let (mut written, mut reached, mut kills) = (0, 0, 0);
    while kills < 4 {
        // always more than it can have done when it is killed; where it was quicker, the kill does not count
        produce(&world, written + 1..=written + PART);
        written += PART;
        let process = Process::start(&world);
        until_end(&world, 0, reached).await;
        process.kill9();
        reached = world.broker.end(&world.config.output.topic, 0);
        kills += i32::from(reached < written);
    }
    let process = Process::start(&world);
    for partition in 0..2 {
        let topic = &world.config.output.topic;
        until_end(&world, partition, written - 1).await;
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
            ids == (1..=written).collect::<Vec<_>>(),
            "partition {partition}: {} events",
            ids.len()
        );
    }
    process.kill9();
}
