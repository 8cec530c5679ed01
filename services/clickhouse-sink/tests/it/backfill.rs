//! A backfill beside the live lane: after what it may have come from, once, by id.

use engagement::event::{EnrichedEvent, Lane, Origin};
use engagement::testing::Sample;
use stream::backfill::{Addressee, Ticket};

use crate::bench::{Bench, event, events, totals};
use crate::log::Log;
use crate::proxy::Proxy;
use crate::sink::Setup;

struct World {
    bench: Bench,
    lane: Log,
    setup: Setup,
}

async fn world(name: &str) -> World {
    let bench = Bench::new(name, 1).await;
    let lane = Log::create(&bench.log.bootstrap, &format!("{name}.lane"), 1).await;
    let setup = bench.setup.clone().env("KAFKA_BACKFILL_TOPIC", &lane.topic);
    World { bench, lane, setup }
}

/// The row of an event as a backfill has read it: its revision lies between what was before and what came after.
fn read(offset: i64, sample: Sample, revision: u64) -> EnrichedEvent {
    let sample = sample.at_position(0, offset).lane(Lane::Backfill);
    let mut event = sample.origin(Origin::Backfill).build();
    event.revision = revision;
    event.source.commit_lsn = revision + 1;
    event
}

impl World {
    fn bring(&self, events: &[EnrichedEvent], after: i64, sinks: &[Addressee]) {
        let ticket = Ticket {
            run: 7,
            range: 0,
            after,
            lsn: 1,
            sinks: sinks.to_vec(),
        };
        self.lane
            .append_with(events, &[(stream::backfill::BACKFILL, &ticket.to_string())]);
    }

    async fn lane_is_at(&self, sink: &mut crate::sink::Sink, next: i64) {
        let at = || async {
            let found = self.lane.committed(&self.bench.group, 0);
            format!("{:?}", found.map(|(offset, _)| offset))
        };
        sink.until(&format!("Some({next})"), at).await;
    }
}

const CLICKHOUSE: &[Addressee] = &[Addressee::Clickhouse];
/// Above every revision of the live events of these tests.
const LATER: u64 = 1_000_000_000;

#[tokio::test]
async fn a_backfill_brings_what_is_missing_and_nothing_that_is_there_before_or_after_a_restart() {
    let world = world("bf_once").await;
    world.bench.log.append(&events(0, 0, 300));
    let all: Vec<EnrichedEvent> = (0..500).map(|n| read(n, event(0, n), LATER)).collect();
    world.bring(&all, 300, CLICKHOUSE);
    let mut sink = world.setup.start();
    sink.until(&totals(500), || world.bench.database.totals())
        .await;
    world.lane_is_at(&mut sink, 500).await;
    sink.kill9();
    // the same once more, by another run, and what is only for others
    world.bring(&all, 300, CLICKHOUSE);
    world.bring(
        &[read(1000, event(0, 900), LATER)],
        0,
        &[Addressee::Webhook],
    );
    let mut sink = world.setup.start();
    world.lane_is_at(&mut sink, 1001).await;
    assert_eq!(world.bench.database.totals().await, totals(500));
    sink.stop().await;
}

#[tokio::test]
async fn a_record_waits_for_the_live_ones_that_its_row_may_have_come_from() {
    let world = world("bf_waits").await;
    world.bench.log.append(&events(0, 0, 10));
    world.bring(
        &[read(0, event(0, 5), LATER), read(1, event(0, 70), LATER)],
        10,
        CLICKHOUSE,
    );
    let mut sink = world.setup.start();
    sink.until(&totals(11), || world.bench.database.totals())
        .await;
    world.lane_is_at(&mut sink, 2).await;
    sink.stop().await;
    // stopped, both wait; the live ones come first whatever is written first
    world.bring(
        &[read(2, event(0, 12), LATER), read(3, event(0, 80), LATER)],
        20,
        CLICKHOUSE,
    );
    world.bench.log.append(&events(0, 10, 10));
    let mut sink = world.setup.start();
    sink.until(&totals(22), || world.bench.database.totals())
        .await;
    world.lane_is_at(&mut sink, 4).await;
    sink.stop().await;
    let twelve = format!(
        "SELECT src_lane FROM {} WHERE event_id = 12",
        world.bench.database.table()
    );
    assert_eq!(world.bench.database.run(&twelve).await, "live");
}

#[tokio::test]
async fn a_live_record_that_comes_again_is_not_written_beside_the_row_of_a_backfill() {
    let world = world("bf_again").await;
    world.bench.log.append(&events(0, 0, 100));
    let mut sink = world.setup.start();
    sink.until(&totals(100), || world.bench.database.totals())
        .await;
    sink.stop().await;
    let table = world.bench.database.table();
    let lost = format!("DELETE FROM {table} WHERE event_id BETWEEN 20 AND 39");
    world.bench.database.run(&lost).await;
    let all: Vec<EnrichedEvent> = (0..100).map(|n| read(n, event(0, n), LATER)).collect();
    world.bring(&all, 100, CLICKHOUSE);
    let mut sink = world.setup.start();
    sink.until(&totals(100), || world.bench.database.totals())
        .await;
    world.lane_is_at(&mut sink, 100).await;
    sink.stop().await;
    // the group goes back to the beginning of the live log
    world
        .bench
        .log
        .commit(&world.bench.group, 0, 0, "engage1 epoch=0");
    let mut sink = world.setup.start();
    world.bench.committed_by(&mut sink, 100).await;
    assert_eq!(world.bench.database.totals().await, totals(100));
    sink.stop().await;
}

#[tokio::test]
async fn a_deletion_after_the_read_is_not_undone_and_a_stale_row_is_repaired() {
    let world = world("bf_stale").await;
    let [gone, kept] = [event(0, 0).build(), event(0, 1).duration_ms(1).build()];
    let deleted = event(0, 2).event_id(&gone.event_id).deleted().build();
    world
        .bench
        .log
        .append(&[gone.clone(), kept, deleted.clone()]);
    let before = deleted.revision - 1;
    let read_before = read(0, Sample::new().event_id(&gone.event_id), before);
    let right = read(1, event(0, 1).duration_ms(7_000), before);
    world.bring(&[read_before, right], 3, CLICKHOUSE);
    let mut sink = world.setup.start();
    world.lane_is_at(&mut sink, 2).await;
    sink.stop().await;
    assert_eq!(world.bench.database.visible().await, totals(1));
}

#[tokio::test]
async fn rows_of_a_backfill_that_the_server_refuses_stop_the_backfill_and_never_the_live_lane() {
    let world = world("bf_refused").await;
    let database = &world.bench.database;
    database
        .run("ALTER TABLE bf_refused.events_enriched ADD CONSTRAINT short CHECK duration_ms != 666")
        .await;
    let refused = |n: i64| read(n, event(0, 1000 + n).duration_ms(666), LATER);
    let all: Vec<EnrichedEvent> = (0..300).map(refused).collect();
    world.bring(&all, 0, CLICKHOUSE);
    let mut sink = world.setup.start();
    let letters = || async { world.bench.log.letters().len().to_string() };
    let is_flood = |count: &str| count.parse::<usize>().unwrap() >= 100;
    sink.until_it("a flood of letters", is_flood, letters).await;
    // it goes on, also with a row that is refused alone
    let mut live = events(0, 0, 201);
    live[100].duration_ms = Some(666);
    world.bench.log.append(&live);
    sink.until(&totals(200), || database.totals()).await;
    world.bench.committed_by(&mut sink, 201).await;
    sink.until_readyz(|ready| ready.contains("backfill of partition 0 stopped"))
        .await;
    assert!(world.bench.log.letters().len() < 150);
    sink.stop().await;
}

#[tokio::test]
async fn a_topic_of_backfills_that_was_made_anew_is_read_from_its_beginning_however_long_it_is() {
    let world = world("bf_anew").await;
    let all = |from: i64, count: i64| -> Vec<EnrichedEvent> {
        (0..count)
            .map(|n| read(n, event(0, from + n), LATER))
            .collect()
    };
    world.bring(&all(0, 100), 0, CLICKHOUSE);
    let mut sink = world.setup.start();
    sink.until(&totals(100), || world.bench.database.totals())
        .await;
    world.lane_is_at(&mut sink, 100).await;
    world.lane.delete().await;
    let said = || async { sink_says_gone(&world).to_string() };
    sink.until("true", said).await;
    let anew = Log::create(&world.lane.bootstrap, "bf_anew.lane", 1).await;
    let ticket = Ticket {
        run: 8,
        range: 0,
        after: 0,
        lsn: 1,
        sinks: CLICKHOUSE.to_vec(),
    };
    let header = (stream::backfill::BACKFILL, &*ticket.to_string());
    anew.append_with(&all(1000, 150), &[header]);
    sink.until(&totals(250), || world.bench.database.totals())
        .await;
    sink.stop().await;
}

fn sink_says_gone(world: &World) -> bool {
    world.setup.tail().contains("there is no such topic")
}

#[tokio::test]
async fn rubbish_in_the_topic_of_backfills_goes_to_the_dead_letters_and_the_live_lane_goes_on() {
    let world = world("bf_rubbish").await;
    world.lane.raw(0, Some(b"rubbish"), None);
    world.lane.append(&[read(1, event(0, 1), LATER)]);
    world.lane.flush();
    world.bring(&[read(2, event(0, 2), LATER)], 0, CLICKHOUSE);
    let mut sink = world.setup.start();
    sink.until(&totals(1), || world.bench.database.totals())
        .await;
    world.lane_is_at(&mut sink, 3).await;
    world.bench.log.append(&events(0, 0, 1));
    sink.until(&totals(2), || world.bench.database.totals())
        .await;
    let letters = world.bench.log.letters();
    assert_eq!(letters.len(), 2);
    assert!(letters.iter().all(|letter| letter.kind == "malformed"));
    assert!(
        letters[1].message.contains("engage-backfill"),
        "{}",
        letters[1].message
    );
    sink.stop().await;
}

/// The server says that it has no memory for so many rows at once (241). A live record that comes meanwhile is written between two
/// tries: a portion is given up after a few.
#[tokio::test]
async fn a_portion_that_is_too_much_for_the_server_is_written_in_smaller_ones_and_keeps_no_live_record_for_long()
 {
    const ROWS: i64 = 30_000;
    let world = world("bf_memory").await;
    let database = &world.bench.database;
    let proxy = Proxy::start(&database.url).await;
    proxy.set("max_memory_usage=30000000");
    let setup = world.setup.clone().env("CLICKHOUSE_URL", &proxy.url);
    let mut sink = setup.start();
    world.bench.log.append(&events(0, 0, 1));
    sink.until(&totals(1), || database.totals()).await;
    let all: Vec<EnrichedEvent> = (0..ROWS)
        .map(|n| read(n, event(0, n + 100), LATER))
        .collect();
    world.bring(&all, 1, CLICKHOUSE);
    let given_up = |log: &str| log.contains("the backfill's records are read again");
    sink.until_it("a portion is given up", given_up, || async { setup.tail() })
        .await;
    world.bench.log.append(&events(0, 1, 1));
    let live = format!(
        "SELECT count() FROM {} WHERE src_lane = 'live'",
        database.table()
    );
    sink.until("2", || database.run(&live)).await;
    world.lane_is_at(&mut sink, ROWS).await;
    assert_eq!(database.totals().await, totals(ROWS + 2));
    sink.stop().await;
}
