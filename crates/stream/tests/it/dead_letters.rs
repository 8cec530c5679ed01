//! The original bytes, whatever they are.

use bytes::Bytes;
use engagement::event::Micros;
use stream::dead_letter::{DeadLetters, Reject};
use stream::probe::Probe;
use stream::{LaneError, OutRecord, Producer};

use crate::support::{read, settings, text, topic};

#[tokio::test(flavor = "multi_thread")]
async fn key_value_headers_and_timestamp_are_the_originals_byte_for_byte() {
    let (source, letters) = (topic("poison", 4).await, topic("dlq", 4).await);
    let producer =
        Producer::new(&settings(), stream::producer::ProducerOptions::default()).unwrap();
    let payloads = [
        Some(Bytes::from_static(b"\xff\x00{not json")),
        Some(Bytes::new()),
        None,
    ];
    let keys = [Some(Bytes::from_static(b"\x00k")), None, Some(Bytes::new())];
    for (payload, key) in payloads.iter().zip(&keys) {
        let record = OutRecord {
            topic: source.as_str().into(),
            partition: Some(2),
            key: key.clone(),
            payload: payload.clone(),
            headers: vec![
                ("a".into(), Some(Bytes::from_static(b"\xfe\xff"))),
                ("null".into(), None),
                ("empty".into(), Some(Bytes::new())),
                ("a".into(), text("again")),
            ],
            timestamp_ms: Some(1_700_000_000_123),
        };
        producer.send_acked(&record).await.unwrap();
    }
    let probe = Probe::new(&settings(), "g");
    let dead = DeadLetters::with_topic(&settings(), "enricher", &letters).unwrap();
    let originals = read(&probe, &source, 2, 0..3).await;
    assert_eq!(originals.len(), 3);
    for original in &originals {
        let reject = Reject::new("malformed", "decode", "engagement::envelope", "not JSON");
        dead.send(original, &reject, Micros(0)).await.unwrap();
    }
    let found = read(&probe, &letters, 2, 0..3).await;
    for (original, letter) in originals.iter().zip(&found) {
        assert_eq!(
            (&letter.key, &letter.payload),
            (&original.key, &original.payload)
        );
        assert_eq!(letter.timestamp_ms, original.timestamp_ms);
        assert_eq!(
            letter.headers[..original.headers.len()],
            original.headers[..]
        );
        assert_eq!(
            letter.header("__connect.errors.offset"),
            Some(original.offset.to_string().as_bytes())
        );
        assert_eq!(
            letter.header("__connect.errors.exception.message"),
            Some(&b"not JSON"[..])
        );
    }
    assert_eq!(found.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_topic_with_fewer_partitions_stops_the_lane() {
    let (source, letters) = (topic("wide", 4).await, topic("narrow", 1).await);
    let producer =
        Producer::new(&settings(), stream::producer::ProducerOptions::default()).unwrap();
    let record = OutRecord {
        topic: source.as_str().into(),
        partition: Some(3),
        key: None,
        payload: None,
        headers: Vec::new(),
        timestamp_ms: None,
    };
    producer.send_acked(&record).await.unwrap();
    let original = Probe::new(&settings(), "g")
        .read_one(&source, 3, 0)
        .await
        .unwrap()
        .unwrap();
    let dead = DeadLetters::with_topic(&settings(), "enricher", &letters).unwrap();
    let outcome = dead
        .send(
            &original,
            &Reject::new("malformed", "decode", "x", "y"),
            Micros(0),
        )
        .await;
    assert!(
        matches!(&outcome, Err(LaneError::Stop { reason, .. }) if reason.contains(&letters)),
        "{outcome:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_that_the_broker_refuses_for_its_size_stops_the_lane_and_not_those_sent_with_it() {
    let source = topic("large", 1).await;
    let letters = crate::support::unique("small-dlq");
    crate::support::create(&letters, 1, &[("max.message.bytes", "4096")]).await;
    let producer =
        Producer::new(&settings(), stream::producer::ProducerOptions::default()).unwrap();
    // incompressible, so that no codec makes it fit
    let mut state = 1u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state.to_be_bytes()[0]
    })
    .take(16_384)
    .collect();
    for payload in [noise, b"small".to_vec()] {
        let record = OutRecord {
            topic: source.as_str().into(),
            partition: Some(0),
            key: None,
            payload: Some(Bytes::from(payload)),
            headers: Vec::new(),
            timestamp_ms: None,
        };
        producer.send_acked(&record).await.unwrap();
    }
    let probe = Probe::new(&settings(), "g");
    let originals = read(&probe, &source, 0, 0..2).await;
    let dead = DeadLetters::with_topic(&settings(), "enricher", &letters).unwrap();
    let reject = Reject::new("malformed", "decode", "x", "y");
    let both = futures_util::future::join(
        dead.send(&originals[0], &reject, Micros(0)),
        dead.send(&originals[1], &reject, Micros(0)),
    );
    let deadline = crate::support::WAIT;
    let (large, small) = tokio::time::timeout(deadline, both)
        .await
        .expect("neither is tried for ever");
    assert!(
        matches!(&large, Err(LaneError::Stop { reason, remedy })
            if reason.contains(&letters) && remedy.contains("max.message.bytes")),
        "{large:?}"
    );
    assert_eq!(small, Ok(()));
    assert_eq!(read(&probe, &letters, 0, 0..9).await.len(), 1);
}
