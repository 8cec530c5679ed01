//! `engagectl backfill` where the lane topic is not what the run was planned for, or does not take what is written: a real broker that
//! refuses, a real database, and the real sink at the end.

mod world;

use world::{World, Written, grow, limit};

/// Read in pages of 2000 rows, the first of them at once.
const ROWS: i64 = 6000;
const SLOWLY: [&str; 5] = ["--yes", "--rate", "500/s", "--behind", "5m"];
const LARGEST: &str = "max.message.bytes";
/// Less than the smallest batch has.
const NOTHING: &str = "100";
const AS_BEFORE: &str = "1048588";

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_lane_got_other_partitions_is_refused_in_words_and_a_new_one_over_the_same_range_completes_it()
 {
    let world = World::start("grown", 3, ROWS).await;
    let running = world.begin(&SLOWLY);
    world.lane_holds_something().await;
    running.interrupt();
    let (code, said) = running.ended();
    assert_eq!(code, 75, "{said}");
    let run = world.only_run();
    let before = world.written_down().await;
    assert!(before.records() > 0, "{before:?}");

    // the lane alone: records would go to other partitions than the live ones
    grow(&world.topic("lane"), 4).await;
    let id = run.to_string();
    let resume = ["backfill", "--yes", "--resume", &id];
    let anew = world.words(&["--yes"]);
    differs_from_the_live_topic(&world, &resume);
    differs_from_the_live_topic(&world, &anew);

    // all of them: live events go elsewhere now, too, and the run was planned before that
    grow(&world.topic("enriched"), 4).await;
    grow(&world.topic("cdc"), 4).await;
    was_planned_for_others(&world, run, &resume);
    let Written { mut lane, runs } = world.written_down().await;
    assert_eq!(lane.pop(), Some(0), "the partition that was added");
    assert_eq!(Written { lane, runs }, before, "a refusal writes nothing");

    let sink = world.sink();
    world.ends_well(&anew);
    world.table_is_whole(ROWS).await;
    sink.stop().await;
}

fn differs_from_the_live_topic(world: &World, words: &[&str]) {
    let (lane, enriched) = (world.topic("lane"), world.topic("enriched"));
    let (code, said) = world.tool().refused(words);
    assert_eq!(code, 78, "{words:?}: {said}");
    let found = format!("topic {lane} has 4 partitions, {enriched} has 3");
    assert!(said.contains(&found), "{words:?}: {said}");
    assert!(said.contains("engagectl init"), "{words:?}: {said}");
}

fn was_planned_for_others(world: &World, run: i64, resume: &[&str]) {
    let lane = world.topic("lane");
    let (code, said) = world.tool().refused(resume);
    assert_eq!(code, 78, "{said}");
    let found =
        format!("run {run} cannot go on: topic {lane} has 4 partitions, it was planned for 3");
    for part in [
        found.as_str(),
        "start a new run over the same range: what is there is not written twice",
        "engagectl backfill --list",
    ] {
        assert!(said.contains(part), "{part:?} is missing: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_topic_that_takes_nothing_ends_the_run_in_words_and_the_same_run_completes_it_once_it_takes_records_again()
 {
    let world = World::start("full", 3, ROWS).await;
    let lane = world.topic("lane");
    let running = world.begin(&SLOWLY);
    world.lane_holds_something().await;
    limit(&lane, LARGEST, NOTHING).await;
    let run = world.only_run();
    let next = format!("engagectl backfill --resume {run}");
    let (code, said) = running.ended();
    is_not_taken(&lane, code, &said);
    assert!(said.contains(&next), "{said}");
    let half = world.written_down().await;
    assert!((1..ROWS).contains(&half.records()), "{half:?}");

    // whoever resumes it too early is told the same
    let id = run.to_string();
    let resume = ["backfill", "--yes", "--resume", &id];
    let (code, said) = world.tool().refused(&resume);
    is_not_taken(&lane, code, &said);
    assert!(said.contains(&next), "{said}");
    assert_eq!(world.written_down().await.lane, half.lane);

    limit(&lane, LARGEST, AS_BEFORE).await;
    let sink = world.sink();
    let said = world.ends_well(&resume);
    let times = world.times_written(run).await;
    assert_eq!(times.len(), usize::try_from(ROWS).unwrap(), "{said}");
    let twice: Vec<_> = times.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "written twice: {twice:?}\n{said}");
    world.table_is_whole(ROWS).await;
    sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_the_topic_of_runs_does_not_take_is_no_run_and_nobody_is_told_to_resume_it() {
    let world = World::start("unplanned", 2, 10).await;
    let runs = world.topic("runs");
    limit(&runs, LARGEST, NOTHING).await;
    let words = world.words(&["--yes"]);
    let (code, said) = world.tool().refused(&words);
    is_not_taken(&runs, code, &said);
    assert!(!said.contains("--resume"), "{said}");
    assert_eq!(world.written_down().await.records(), 0);
    assert_eq!(world.runs().as_array().map(Vec::len), Some(0));

    limit(&runs, LARGEST, AS_BEFORE).await;
    let sink = world.sink();
    world.ends_well(&words);
    world.table_is_whole(10).await;
    sink.stop().await;
}

/// The end of a run whose records are refused.
fn is_not_taken(topic: &str, code: i32, said: &str) {
    assert_eq!(code, 69, "{said}");
    let what = format!("the broker does not take what is written to {topic}");
    for part in [what.as_str(), "Message size too large", LARGEST] {
        assert!(said.contains(part), "{part:?} is missing: {said}");
    }
}
