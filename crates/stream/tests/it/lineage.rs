//! A small enricher: its lanes are killed at any moment, its output stays one chain.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use engagement::event::{Lane, Micros, Source};
use stream::checkpoint::Checkpoint;
use stream::headers::ENGAGEMENT_SOURCE;
use stream::lineage::{Proof, Reader, Verdict, enricher_resume};
use stream::probe::Probe;
use stream::producer::ProducerOptions;
use stream::resume::{refused, source_position};
use stream::{LaneError, LaneHandle, OutRecord, Producer, Record};

use crate::support::{Member, eventually, fill, options, read, settings, topic, unique};

pub(crate) fn enriched(topic: &str, partition: i32, offset: i64, prev: i64) -> OutRecord {
    let position = format!("live/0/{partition}/{offset}");
    OutRecord {
        topic: topic.into(),
        partition: Some(partition),
        key: None,
        payload: Some(Bytes::from(prev.to_string())),
        headers: vec![(ENGAGEMENT_SOURCE.into(), Some(Bytes::from(position)))],
        timestamp_ms: None,
    }
}

pub(crate) fn source_of(record: &Record) -> Source {
    let position = source_position(record).unwrap();
    Source {
        lane: Lane::Live,
        epoch: position.epoch,
        partition: position.partition,
        offset: position.offset,
        prev: crate::support::number(record),
        commit_lsn: 1,
        lsn: 1,
        tx_id: None,
        committed_at: Micros(0),
        snapshot: false,
    }
}

pub(crate) async fn fill_enriched(topic: &str, partition: i32, range: std::ops::Range<i64>) {
    let producer = Producer::new(&settings(), ProducerOptions::default()).unwrap();
    let mut lane = producer.lane::<()>(topic, partition).await.unwrap();
    for offset in range {
        lane.send(enriched(topic, partition, offset, offset - 1), offset, ())
            .await
            .unwrap();
    }
    lane.drained().await.unwrap();
}

/// Copies input to output as the enricher does: resume from the tail of its own output, prove it, send, commit the frontier.
async fn copy(
    mut lane: LaneHandle,
    producer: Producer,
    output: String,
    fail_after: u32,
) -> Result<(), LaneError> {
    let partition = lane.partition();
    let tail = lane.tail(&output, partition, 50, Vec::new()).await?;
    let last = tail
        .records
        .iter()
        .map(source_of)
        .max_by_key(|source| source.offset);
    let input = lane.watermarks().await?;
    let resume = enricher_resume(input, tail.log, last.as_ref(), lane.committed())
        .map_err(|r| refused(&lane, &r))?;
    if let Proof::SameEvent(offset) = resume.proof {
        assert!(
            lane.read_one(lane.topic(), partition, offset)
                .await?
                .is_some()
        );
    }
    let mut out = producer.lane::<Checkpoint>(&output, partition).await?;
    lane.start(resume.next).await?;
    let (mut prev, mut left) = (resume.prev, fail_after);
    loop {
        tokio::select! {
            record = lane.recv() => {
                let Some(record) = record else { break };
                let made = enriched(&output, partition, record.offset, prev);
                let position = format!("live/0/{partition}/{}", record.offset).parse().unwrap();
                let checkpoint = Checkpoint { position: Some(position), ..Checkpoint::default() };
                out.send(made, record.offset, checkpoint).await?;
                prev = record.offset;
                left -= 1;
                if left == 0 {
                    return Err(LaneError::retry("killed with records in flight"));
                }
            }
            frontier = out.advanced() => {
                let frontier = frontier?;
                lane.commit(frontier.next, frontier.value.to_string());
            }
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enricher_that_dies_again_and_again_leaves_one_chain_without_hole() {
    let (input, output, group) = (
        topic("cdc", 2).await,
        topic("enriched", 2).await,
        unique("g"),
    );
    for partition in 0..2 {
        fill(&input, partition, 0..2000);
    }
    let producer = Producer::new(&settings(), ProducerOptions::default()).unwrap();
    let (target, attempts) = (output.clone(), Arc::new(AtomicU32::new(0)));
    let mut options = options(settings(), &group, &input);
    options.retry_min = std::time::Duration::from_millis(5);
    options.retry_max = std::time::Duration::from_millis(5);
    let member = Member::start(options, move |lane| {
        let attempt = attempts.fetch_add(1, Ordering::SeqCst);
        let fail_after = if attempt < 16 {
            100 + attempt * 13
        } else {
            u32::MAX
        };
        copy(lane, producer.clone(), target.clone(), fail_after)
    });
    let probe = Probe::new(&settings(), &group);
    for partition in 0..2 {
        eventually("the whole input is in the output", async || {
            let tail = probe.tail(&output, partition, 1, Vec::new()).await;
            let tail = tail.map_err(|error| error.to_string())?;
            match tail.records.last().and_then(source_position) {
                Some(position) if position.offset == 1999 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }
    member.stop().await;
    for partition in 0..2 {
        let (mut reader, mut applied) = (Reader::new(), Vec::new());
        for record in read(&probe, &output, partition, 0..i64::MAX).await {
            match reader.check(&source_of(&record)) {
                Verdict::Apply => applied.push(reader.last().unwrap().offset),
                Verdict::Duplicate => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(applied, (0..2000).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_input_recreated_behind_the_enricher_is_refused_and_nothing_is_produced() {
    let (input, output, group) = (
        topic("cdc-new", 1).await,
        topic("enriched-old", 1).await,
        unique("g"),
    );
    fill_enriched(&output, 0, 0..100).await;
    fill(&input, 0, 0..10);
    let producer = Producer::new(&settings(), ProducerOptions::default()).unwrap();
    let target = output.clone();
    let member = Member::start(options(settings(), &group, &input), move |lane| {
        copy(lane, producer.clone(), target.clone(), u32::MAX)
    });
    let error = member.outcome().await.unwrap_err().to_string();
    assert!(
        error.contains("position 100 is beyond the end of the log at 10"),
        "{error}"
    );
    let probe = Probe::new(&settings(), &group);
    assert_eq!(probe.watermarks(&output, 0).await.unwrap().high, 100);
}
