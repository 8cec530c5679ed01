//! A topic is recreated, or retention overtakes the enricher: refused by name, adopted by one command, exact after it.

use compliance::{Instance, Pipeline};

async fn refuses(mut instance: Instance) {
    let end = instance.ended().await;
    assert!(end.ends_with(": 78"), "{end}\n{}", instance.tail());
    let log = instance.tail();
    assert!(log.contains("engagectl lineage adopt"), "{log}");
}

async fn adopted(pipeline: &Pipeline, words: &[&str]) {
    let (shown, text) = pipeline.lineage(&["show"]).await;
    assert!(shown == 78 && text.contains("VIOLATION"), "{shown}: {text}");
    let (planned, text) = pipeline.lineage(&["adopt"]).await;
    assert!(
        planned == 0 && text.contains("nothing was written"),
        "{planned}: {text}"
    );
    assert!(
        words.iter().all(|word| text.contains(word)),
        "{words:?}: {text}"
    );
    let (done, text) = adopted_once_nobody_is_in_the_group(pipeline).await;
    assert_eq!(done, 0, "{text}");
    let (again, text) = pipeline.lineage(&["adopt", "--execute"]).await;
    assert!(
        again == 0 && text.contains("nothing to adopt"),
        "{again}: {text}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recreated_topic_and_an_overtaken_position_are_refused_then_adopted_and_every_sink_is_exact()
 {
    let mut pipeline = Pipeline::new("adoption").await;
    let mut sinks = pipeline.start_sinks();
    let mut enricher = pipeline.start_enricher();
    let written = pipeline.insert(10).await;
    pipeline.expect(written);
    pipeline.every_sink_holds_all_once().await;
    let (shown, text) = pipeline.lineage(&["show", "--check"]).await;
    assert!(
        shown == 0 && text.contains("no violation"),
        "{shown}: {text}"
    );

    // while the enricher runs, nothing is adopted
    let (refused, text) = pipeline
        .lineage(&["adopt", "--new-epoch", "--execute"])
        .await;
    assert!(
        refused == 75 && text.contains("has members"),
        "{refused}: {text}"
    );
    enricher.terminate().await;

    // the change topic; the sinks go on running
    pipeline.log.recreate_topic(&pipeline.cdc).await;
    let written = pipeline.insert(12).await;
    pipeline.expect(written);
    refuses(pipeline.start_enricher()).await;
    adopted(&pipeline, &["recreated", "epoch=1"]).await;
    let mut enricher = pipeline.start_enricher();
    pipeline.every_sink_holds_all_once().await;
    for sink in &sinks {
        sink.is_ready().await;
    }

    // retention takes what the enricher has not read
    enricher.terminate().await;
    let lost = pipeline.insert(3).await;
    pipeline.expect(lost.into_iter().filter(|(partition, _)| *partition == 1));
    pipeline.expire(0).await;
    let written = pipeline.insert(4).await;
    pipeline.expect(written);
    let overtaken = pipeline.start_enricher();
    overtaken
        .is_red(&["retention", "engagectl lineage adopt"])
        .await;
    drop(overtaken);
    let (waited, text) = adopted_once_nobody_is_in_the_group(&pipeline).await;
    assert_eq!(waited, 0, "{text}");
    let mut enricher = pipeline.start_enricher();
    pipeline.every_sink_holds_all_once().await;

    // the enriched topic, with all that reads it
    enricher.terminate().await;
    for sink in &mut sinks {
        sink.terminate().await;
    }
    pipeline
        .log
        .recreate_topic(&pipeline.log.enriched.clone())
        .await;
    let written = pipeline.insert(5).await;
    pipeline.expect(written);
    refuses(pipeline.start_enricher()).await;
    // the broker forgets what groups had committed on a deleted topic; Redis does not forget its own position
    refuses(pipeline.start_sink("redis-aggregator")).await;
    adopted(&pipeline, &["the topic is new", "redis-aggregator"]).await;
    let _sinks = pipeline.start_sinks();
    let _enricher = pipeline.start_enricher();
    pipeline.every_sink_holds_all_once().await;
    let (shown, text) = pipeline.lineage(&["show", "--check", "-o", "json"]).await;
    assert!(
        shown == 0 && text.contains("\"violated\": false"),
        "{shown}: {text}"
    );
}

/// A member that was killed is in its group until its session ends, and one that left may be counted a moment longer.
async fn adopted_once_nobody_is_in_the_group(pipeline: &Pipeline) -> (i32, String) {
    compliance::eventually("adopted", async || {
        match pipeline.lineage(&["adopt", "--execute"]).await {
            (75, text) => Err(text),
            answer => Ok(answer),
        }
    })
    .await
}
