//! Whatever is broken by hand in what a receiver has of backfills is found, and counted where it belongs.

mod world;

use std::collections::BTreeMap;

use proptest::prelude::*;

use self::world::{FIRST, SECOND, World, message};
use super::*;
use crate::delivery::Delivered;
use crate::report::Kind;

fn counts(share: &Share) -> [u64; 5] {
    let Share {
        expected,
        delivered,
        missing,
        surplus,
        changed,
    } = *share;
    [expected, delivered, missing, surplus, changed]
}

#[test]
fn a_run_made_twice_is_equal_and_each_run_is_counted_apart_from_the_live_stream() {
    let found = World::new(20).compare();
    assert!(found.is_equal(), "{found} {:?}", found.differences);
    assert_eq!((found.compared, &found.notes[..]), (60, &[][..]));
    assert_eq!(counts(&found.live.unwrap()), [20, 20, 0, 0, 0]);
    let runs: Vec<_> = found.runs.iter().map(|run| (run.run, run.state)).collect();
    assert_eq!(runs, [FIRST, SECOND].map(|run| (run, RunState::Finished)));
    for run in &found.runs {
        assert_eq!(counts(&run.share), [20, 20, 0, 0, 0]);
        assert_eq!((run.rows, run.records, run.repeats), (20, 20, Some(0)));
    }
}

#[test]
fn a_lost_delivery_of_a_run_is_missing_by_event_and_run() {
    let mut world = World::new(20);
    let lost = world.of(SECOND)[7];
    world.delivered.remove(lost);
    let found = world.compare();
    assert_eq!((found.missing, found.surplus), (1, 0));
    assert_eq!(counts(&found.runs[0].share), [20, 20, 0, 0, 0]);
    assert_eq!(counts(&found.runs[1].share), [20, 19, 1, 0, 0]);
    let named = &found.differences[0];
    assert_eq!(named.kind, Kind::Missing);
    assert_eq!(named.what, format!("created of event 7, backfill {SECOND}"));
}

#[test]
fn a_delivery_of_a_run_made_twice_is_a_repeat_under_its_id_and_surplus_under_another() {
    let mut world = World::new(20);
    world.repeats.insert(FIRST, 1);
    let found = world.compare();
    assert!(found.is_equal(), "a repeat is allowed");
    let repeats = found.runs.iter().map(|run| run.repeats.unwrap());
    assert_eq!(repeats.collect::<Vec<_>>(), [1, 0]);
    assert!(
        found.to_string().contains("20 delivered, 1 repeated"),
        "{found}"
    );

    let of = world.delivered[world.of(FIRST)[3]];
    world
        .delivered
        .push(Delivered::new(77, of.body(), Some(FIRST)));
    let found = world.compare();
    assert_eq!((found.missing, found.surplus), (0, 1));
    assert_eq!(counts(&found.runs[0].share), [20, 20, 0, 1, 0]);
    let named = &found.differences[0];
    assert_eq!(
        (named.kind, named.id.as_str()),
        (Kind::Surplus, "msg_000000000000004d..")
    );
    assert!(named.what.contains(&FIRST.to_string()), "{}", named.what);
}

#[test]
fn another_body_is_changed_in_its_run_and_a_lost_live_delivery_in_the_live_stream() {
    let mut world = World::new(20);
    let (live, past) = (4, world.of(FIRST)[5]);
    let key = world.delivered[past].key();
    world.delivered[past] = Delivered::new(key, 1, Some(FIRST));
    world.delivered.remove(live);
    let found = world.compare();
    assert_eq!((found.missing, found.changed), (1, 1));
    assert_eq!(counts(&found.live.unwrap()), [20, 19, 1, 0, 0]);
    assert_eq!(counts(&found.runs[0].share), [20, 20, 0, 0, 1]);
}

#[test]
fn a_run_for_other_sinks_owes_nothing_and_what_names_it_is_surplus() {
    let mut world = World::new(5);
    world.run(7, 5, "clickhouse");
    world.done.1 += 5;
    let found = world.compare();
    assert!(found.is_equal() && found.runs.len() == 2, "{found}");
    world.delivered.push(Delivered::new(99, 1, Some(7)));
    let found = world.compare();
    assert_eq!(
        (found.surplus, counts(&found.runs[0].share)),
        (1, [0, 0, 0, 1, 0])
    );
}

#[test]
fn a_run_that_is_not_complete_is_named_and_what_is_not_written_or_not_read_is_not_missing() {
    let mut world = World::new(10);
    let plan = r#"{"kind":"plan","sinks":["webhook"],"ranges":[{},{}],"rows":100}"#;
    world.run(7, 4, "webhook");
    world.runs.apply("7", None);
    for (key, text) in [
        ("7", plan),
        ("7/0", r#"{"kind":"note","rows":4,"done":true}"#),
        ("7/1", r#"{"kind":"note","rows":0,"done":false}"#),
    ] {
        world.runs.apply(key, Some(text.as_bytes()));
    }
    // three of the four are read, and of these one came with a commit that was lost
    world.done.1 += 3;
    world.deliver();
    let under_way = world.past.last().unwrap();
    world.delivered.push(message(under_way, Some(7)));
    let found = world.compare();
    assert!(found.is_equal(), "{found} {:?}", found.differences);
    let run = &found.runs[0];
    assert_eq!((run.run, run.state, run.under_way), (7, RunState::Open, 1));
    assert_eq!(
        (run.planned, run.rows, counts(&run.share)),
        (100, 4, [3, 3, 0, 0, 0])
    );
    let note = &found.notes[0];
    assert!(note.contains("4 of about 100 rows"), "{note}");
    assert!(note.contains("engagectl backfill --resume 7"), "{note}");
}

#[test]
fn what_was_read_of_an_open_run_and_not_delivered_is_missing_all_the_same() {
    let mut world = World::new(10);
    world.runs.apply(&SECOND.to_string(), None);
    let plan = r#"{"kind":"plan","sinks":["webhook"],"ranges":[{}],"rows":100}"#;
    world.runs.apply(&SECOND.to_string(), Some(plan.as_bytes()));
    let lost = world.of(SECOND)[0];
    world.delivered.remove(lost);
    assert_eq!(world.compare().missing, 1);
}

#[test]
fn a_message_in_the_dead_letters_is_not_missing_and_is_counted() {
    let mut world = World::new(10);
    let lost = world.of(FIRST)[2];
    world.given_up.insert((0, 2));
    let found = world.compare();
    assert!(found.is_equal(), "a redrive may have brought it");
    world.delivered.remove(lost);
    let found = world.compare();
    assert!(found.is_equal(), "{found}");
    let run = &found.runs[0];
    assert_eq!((run.given_up, counts(&run.share)), (1, [9, 9, 0, 0, 0]));
}

#[test]
fn what_was_written_before_an_endpoint_began_may_be_there_or_not() {
    let mut world = World::new(10);
    world.began = 14;
    for lost in [world.of(SECOND)[2], world.of(FIRST)[9]] {
        world.delivered.remove(lost);
    }
    let found = world.compare();
    assert!(found.is_equal(), "{found} {:?}", found.differences);
    let before: Vec<_> = found
        .runs
        .iter()
        .map(|run| (run.before, run.share.expected))
        .collect();
    assert_eq!(before, [(10, 0), (4, 6)]);
    let lost = world.of(SECOND)[8];
    world.delivered.remove(lost);
    assert_eq!(world.compare().missing, 1);
}

#[test]
fn rows_that_a_run_has_noted_and_the_topic_lacks_are_a_violation_unless_they_were_too_large() {
    let mut world = World::new(10);
    let note = r#"{"kind":"note","rows":11,"done":true}"#;
    world
        .runs
        .apply(&format!("{FIRST}/0"), Some(note.as_bytes()));
    let found = world.compare();
    assert_eq!((found.violations, found.missing), (1, 0));
    let named = &found.differences[0];
    assert_eq!(named.id, format!("backfill {FIRST}"));
    assert!(
        named.what.contains("lacks 1 of the 11 rows"),
        "{}",
        named.what
    );
    let note = r#"{"kind":"note","rows":11,"done":true,"left_out":1}"#;
    world
        .runs
        .apply(&format!("{FIRST}/0"), Some(note.as_bytes()));
    assert!(world.compare().is_equal());
}

#[test]
fn a_run_whose_records_have_expired_is_named_and_its_deliveries_are_no_surplus() {
    let mut world = World::new(10);
    world.past.drain(..4);
    world.is_truncated = true;
    let found = world.compare();
    assert!(found.is_equal(), "{found} {:?}", found.differences);
    let compared: Vec<bool> = found.runs.iter().map(|run| run.compared).collect();
    assert_eq!((compared, found.compared), (vec![false, true], 20));
    // the other run is compared as before
    let lost = world.of(SECOND)[0];
    world.delivered.remove(lost);
    let found = world.compare();
    assert_eq!((found.missing, found.surplus), (1, 0));
    assert_eq!(found.runs[1].share.missing, 1);
}

#[test]
fn a_receiver_that_does_not_tell_runs_is_compared_all_the_same() {
    let mut world = World::new(10);
    world.tells = false;
    let unlabelled = |message: &Delivered| Delivered::Live(message.key(), message.body());
    world.delivered = world.delivered.iter().map(unlabelled).collect();
    let found = world.compare();
    assert!(found.is_equal(), "{found}");
    assert_eq!((found.runs.len(), found.runs[0].repeats), (2, None));
    world.delivered.pop();
    assert_eq!(world.compare().runs[1].share.missing, 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is taken away or added, it is found, as often as it was done and where.
    #[test]
    fn what_is_lost_and_what_is_too_many_is_counted_exactly(
        lost in proptest::collection::btree_set(0usize..90, 0..30),
        added in proptest::collection::btree_map(1u64..1_000_000, 0usize..3, 0..10),
    ) {
        let mut world = World::new(30);
        let runs = [None, Some(FIRST), Some(SECOND)];
        let mut expected = BTreeMap::from(runs.map(|run| (run, (0, 0))));
        for index in lost.iter().rev() {
            let gone = world.delivered.remove(*index);
            expected.get_mut(&gone.run()).unwrap().0 += 1;
        }
        for (key, of) in added {
            world.delivered.push(Delivered::new(key, 1, runs[of]));
            expected.get_mut(&runs[of]).unwrap().1 += 1;
        }
        let found = world.compare();
        let mut counted = BTreeMap::from([(None, found.live.unwrap())]);
        counted.extend(found.runs.iter().map(|run| (Some(run.run), run.share)));
        for (run, (missing, surplus)) in expected {
            let share = counted[&run];
            prop_assert_eq!((share.missing, share.surplus), (missing, surplus), "{:?}", run);
            prop_assert_eq!(share.delivered, 30 - missing);
        }
    }
}
