//! `engagectl backfill` where the lane topic is not what the run was planned for, or does not take what is written: a real broker that
//! refuses, a real database, and the real sink at the end.

mod world;

use world::{World, grow, only_takes};

/// Read in pages of 2000 rows, the first of them at once.
const ROWS: i64 = 6000;
const SLOWLY: [&str; 5] = ["--yes", "--rate", "500/s", "--behind", "5m"];

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
    let (lane, enriched) = (world.topic("lane"), world.topic("enriched"));

    // the lane alone: records would go to other partitions than the live ones
    grow(&lane, 4).await;
    let id = run.to_string();
    let resume = ["backfill", "--yes", "--resume", &id];
    let again = world.words(&["--yes"]);
    for words in [resume.as_slice(), again.as_slice()] {
        let (code, said) = world.tool().refused(words);
        assert_eq!(code, 78, "{words:?}: {said}");
        let found = format!("topic {lane} has 4 partitions, {enriched} has 3");
        assert!(said.contains(&found), "{words:?}: {said}");
        assert!(said.contains("engagectl init"), "{words:?}: {said}");
    }

    // all of them: the live events go elsewhere too, but the run was planned before that
    grow(&enriched, 4).await;
    grow(&world.topic("cdc"), 4).await;
    let (code, said) = world.tool().refused(&resume);
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
    let mut after = world.written_down().await;
    assert_eq!(after.lane.pop(), Some(0), "the partition that was added");
    assert_eq!(after, before, "a refusal writes nothing");

    let sink = world.sink();
    let said = world.tool().run(&again);
    let told = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.status.success(), "{told}");
    world.table_is_whole(ROWS).await;
    assert!(
        before.records() > 0,
        "what the first run had written was there: {before:?}"
    );
    sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_topic_that_takes_nothing_ends_the_run_in_words_and_the_same_run_completes_it_once_it_takes_records_again()
 {
    let world = World::start("full", 3, ROWS).await;
    let (lane, runs) = (world.topic("lane"), world.topic("runs"));

    // a plan that is not noted is no run, and nobody is told to resume it
    only_takes(&runs, "max.message.bytes", "100").await;
    let (code, said) = world.tool().refused(&world.words(&["--yes"]));
    does_not_take(&runs, code, &said);
    assert!(!said.contains("--resume"), "{said}");
    assert_eq!(world.written_down().await.records(), 0);
    assert_eq!(world.runs().as_array().map(Vec::len), Some(0));
    only_takes(&runs, "max.message.bytes", "1048588").await;

    // half-way nothing is taken any more
    let running = world.begin(&SLOWLY);
    world.lane_holds_something().await;
    only_takes(&lane, "max.message.bytes", "100").await;
    let (code, said) = running.ended();
    does_not_take(&lane, code, &said);
    let run = world.only_run();
    let next = format!("engagectl backfill --resume {run}");
    assert!(said.contains(&next), "{said}");
    let before = world.written_down().await;
    let half = before.records();
    assert!(0 < half && half < ROWS, "{before:?}");

    // nor to whoever resumes it too early
    let id = run.to_string();
    let resume = ["backfill", "--yes", "--resume", &id];
    let (code, said) = world.tool().refused(&resume);
    does_not_take(&lane, code, &said);
    assert!(said.contains(&next), "{said}");
    assert_eq!(world.written_down().await.lane, before.lane);

    only_takes(&lane, "max.message.bytes", "1048588").await;
    let sink = world.sink();
    let done = world.tool().run(&resume);
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{said}");
    let times = world.times_written(run).await;
    let whole = usize::try_from(ROWS).unwrap();
    assert_eq!(times.len(), whole, "{said}");
    let twice: Vec<_> = times.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "written twice: {twice:?}\n{said}");
    world.table_is_whole(ROWS).await;
    sink.stop().await;
}

/// The end of a run whose records are refused.
fn does_not_take(topic: &str, code: i32, said: &str) {
    assert_eq!(code, 69, "{said}");
    let what = format!("the broker does not take what is written to {topic}");
    for part in [what.as_str(), "Message size too large", "max.message.bytes"] {
        assert!(said.contains(part), "{part:?} is missing: {said}");
    }
}
