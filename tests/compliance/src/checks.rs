//! What every sink must do.
//!
//! Invariant: a check knows nothing of any sink; it writes to the log, disturbs from outside, and compares the store.

mod disturbed;

use devstack::Launch;

use crate::bench::Bench;
use crate::collector::Collector;
use crate::instance::Instance;
use crate::log::Log;
use crate::wait::eventually;

pub use disturbed::*;

/// A run appended by an old instance, and a record sent twice, change nothing and are counted.
pub async fn duplicates_are_dropped(mut bench: Bench) {
    bench.write(8).await;
    let instance = bench.start();
    bench.holds_all_once().await;
    let again: Vec<_> = (3..8)
        .chain(5..8)
        .map(|offset| Log::event(0, 0, offset))
        .collect();
    bench.log.write(&again).await;
    bench.write(4).await;
    bench.holds_all_once().await;
    bench.is_committed().await;
    bench.holds_all_once().await;
    let dropped = instance
        .metric("engage_duplicates_dropped_total", &[])
        .await;
    let opened_again = instance.metric("engage_lane_retries_total", &[]).await;
    match opened_again {
        None | Some(0.0) => assert_eq!(dropped, Some(8.0), "{}", instance.tail()),
        // a lane that waited for its store has read some records twice
        Some(_) => assert!(dropped >= Some(8.0), "{dropped:?}\n{}", instance.tail()),
    }
    let violations = instance
        .metric("engage_lineage_violations_total", &[])
        .await;
    assert_eq!(violations, Some(0.0));
}

/// A new epoch is no hole and not "seen already"; what an old instance then appends to the old one is dropped.
pub async fn a_new_epoch_is_followed(mut bench: Bench) {
    bench.write(6).await;
    let instance = bench.start();
    bench.holds_all_once().await;
    bench.log.begin_epoch();
    bench.write(3).await;
    bench
        .log
        .write(&[Log::event(0, 0, 6), Log::event(0, 0, 7)])
        .await;
    bench.write(2).await;
    bench.holds_all_once().await;
    bench.is_committed().await;
    bench.holds_all_once().await;
    instance.is_ready().await;
}

/// What cannot be read goes to the dead letters with its bytes; everything around it is delivered.
pub async fn poison_is_isolated(mut bench: Bench) {
    bench.write(5).await;
    let instance = bench.start();
    bench.holds_all_once().await;
    let position = bench.log.take_position(0);
    bench
        .log
        .write_raw(0, b"\xff\xffbroken", Some(&position))
        .await;
    bench.log.write_raw(1, b"not ours", None).await;
    bench.write(5).await;
    bench.holds_all_once().await;
    bench.is_committed().await;
    let mut letters: Vec<_> = bench
        .log
        .dead_letters()
        .await
        .iter()
        .filter_map(|letter| letter.payload.clone())
        .collect();
    letters.sort();
    assert_eq!(
        letters,
        [&b"not ours"[..], b"\xff\xffbroken"],
        "{}",
        instance.tail()
    );
    let counted = instance
        .metric("engage_dead_letters_total", &[bench.sink.service()])
        .await;
    assert_eq!(counted, Some(2.0));
    instance.is_ready().await;
    restart_right_behind_poison(bench, instance).await;
}

/// The record before a commit is then one that names no position, or one that could not be read.
async fn restart_right_behind_poison(mut bench: Bench, mut instance: Instance) {
    let position = bench.log.take_position(0);
    bench
        .log
        .write_raw(0, b"\xffbroken again", Some(&position))
        .await;
    bench.log.write_raw(1, b"not ours again", None).await;
    bench.is_committed().await;
    instance.terminate().await;
    bench.write(5).await;
    let instance = bench.start();
    bench.holds_all_once().await;
    instance.is_ready().await;
    assert_eq!(bench.log.dead_letters().await.len(), 4);
}

/// A dead letter that the broker does not take stops its lane; it is written once the broker takes it.
pub async fn a_refused_dead_letter_is_not_passed_over(mut bench: Bench) {
    bench.write(5).await;
    let mut instance = bench.start();
    bench.holds_all_once().await;
    bench.log.limit_letters(150).await;
    let position = bench.log.take_position(0);
    bench
        .log
        .write_raw(0, b"\xff\xffbroken", Some(&position))
        .await;
    let behind = bench.log.append(0, 5).await;
    let beside = bench.log.append(1, 5).await;
    bench.expect(behind.into_iter().chain(beside));
    instance.is_red(&["max.message.bytes"]).await;
    let committed = bench
        .log
        .committed(&bench.group(), &bench.log.enriched)
        .await;
    let passed = committed[0].as_ref().map_or(0, |commit| commit.offset);
    assert!(passed <= 5, "offset 5 is not done, {passed} is committed");
    instance.terminate().await;
    bench.log.limit_letters(1_000_000).await;
    let _instance = bench.start();
    bench.holds_all_once().await;
    bench.is_committed().await;
    let letters = bench.log.dead_letters().await;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].payload.as_deref(), Some(&b"\xff\xffbroken"[..]));
}

/// The metrics of the contract are there, lineage violations from the start as 0, and a trace goes on.
pub async fn telemetry_is_there(mut bench: Bench) {
    let collector = Collector::start().await;
    let endpoint = format!("http://{}", collector.address);
    let traced = |launch: Launch| {
        launch
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)
            .env("OTEL_TRACES_SAMPLER", "parentbased_always_off")
            .env("OTEL_BSP_SCHEDULE_DELAY", "200")
    };
    let instance = bench.start_with(traced);
    instance.is_ready().await;
    let violations = instance
        .metric("engage_lineage_violations_total", &[])
        .await;
    assert_eq!(violations, Some(0.0), "exported from the start");
    bench.write(5).await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let content = bench.log.append_traced(0, trace).await;
    bench.expect([content]);
    bench.holds_all_once().await;
    bench.is_committed().await;
    eventually("the trace goes on", async || {
        collector
            .knows(trace)
            .then_some(())
            .ok_or_else(|| instance.tail())
    })
    .await;
    let service = bench.sink.service();
    let topic = format!("topic=\"{}\"", bench.log.enriched);
    let wanted: [(&str, &[&str]); 7] = [
        ("engage_events_consumed_total", &[&topic]),
        ("processed_events_total", &[&topic]),
        ("engage_freshness_seconds_count", &[service]),
        ("processing_latency_seconds_count", &[service]),
        ("engage_behind_seconds", &[&topic]),
        ("engage_consumer_lag", &[&topic]),
        ("engage_build_info", &["version", "git_sha"]),
    ];
    for (name, labels) in wanted {
        let found = instance.metric(name, labels).await;
        assert!(found.is_some(), "{service} has no {name} with {labels:?}");
    }
    for name in bench.sink.metrics() {
        assert!(
            instance.metric(name, &[]).await.is_some(),
            "{service} has no {name}"
        );
    }
}

/// A hole stops its lane, is counted and named with the command; the other lane goes on; adopting it goes on behind it.
pub async fn a_hole_stops_its_lane_and_names_the_command(mut bench: Bench) {
    bench.write(5).await;
    let mut instance = bench.start();
    bench.holds_all_once().await;
    bench.is_committed().await;
    bench.log.tear(0);
    let behind = bench.log.append(0, 3).await;
    let beside = bench.log.append(1, 3).await;
    bench.expect(beside);
    instance.is_red(&["engagectl lineage show"]).await;
    bench.holds_all_once().await;
    let counted = instance
        .metric("engage_lineage_violations_total", &[])
        .await;
    assert_eq!(counted, Some(1.0));
    instance.terminate().await;
    let (shown, text) = bench.lineage(&["show"]).await;
    assert!(
        shown == 78 && text.contains("records are missing"),
        "{shown}: {text}"
    );
    // a member that has just left may still be counted
    let (adopted, text) = eventually("adopted", async || {
        match bench.lineage(&["adopt", "--execute"]).await {
            (75, text) => Err(text),
            answer => Ok(answer),
        }
    })
    .await;
    assert_eq!(adopted, 0, "{text}");
    bench.expect(behind);
    let instance = bench.start();
    bench.holds_all_once().await;
    instance.is_ready().await;
}
