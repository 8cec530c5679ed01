//! The pure path of one event: parse Debezium's envelope (about 690 B), look the content up, enrich, write Protobuf.
//!
//! `cargo bench -p benches --bench transform`; the goal is at most 2 us per event.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use engagement::catalog::{Catalog, Lookup};
use engagement::enrich::{Place, enrich};
use engagement::envelope::{CdcRecord, Input, Parser};
use engagement::event::{Lane, Micros, Position};
use engagement::wire::{self, Format};

const CONTENTS: u64 = 10_000;
const EVENTS: u64 = 1_024;

fn content_id(n: u64) -> String {
    format!("5b6962dd-3f90-4c93-8f61-{n:012x}")
}

fn catalog(parser: &Parser) -> Catalog {
    let mut catalog = Catalog::new();
    for n in 0..CONTENTS {
        let id = content_id(n);
        let payload = format!(
            r#"{{"before":null,"after":{{"id":"{id}","slug":"episode-{n}-of-the-show","title":"Episode {n} of the show","content_type":"podcast","length_seconds":1800,"publish_ts":"2026-01-01T00:00:00.000000Z"}},"source":{{"ts_ms":1767882112000,"snapshot":"true","sequence":"[null,\"24023119\"]","txId":700,"lsn":24023119}},"op":"r","ts_ms":1767882112100}}"#
        );
        let input = Input {
            payload: Some(payload.as_bytes()),
            ..Input::default()
        };
        if let Ok(CdcRecord::Change(change)) = parser.content(input) {
            catalog.apply(&change);
        }
    }
    assert_eq!(catalog.len() as u64, CONTENTS);
    catalog
}

/// Key and value of an insert as Debezium 3.7 writes it.
fn record(n: u64) -> (Vec<u8>, Vec<u8>) {
    let content = content_id(n * 7 % CONTENTS);
    let value = format!(
        r#"{{"before":null,"after":{{"id":{id},"content_id":"{content}","user_id":"0f3e2a7c-9a1b-4f6e-8b1d-{n:012x}","event_type":"play","event_ts":"2026-01-08T14:21:52.123456Z","duration_ms":{ms},"device":"ios","raw_payload":"{{\"app\": \"7.2\"}}"}},"source":{{"version":"3.7.0.Final","connector":"postgresql","name":"cdc","ts_ms":1767882112345,"snapshot":"false","db":"engage","sequence":"[\"{before}\",\"{lsn}\"]","ts_us":1767882112345678,"ts_ns":1767882112345678000,"schema":"public","table":"engagement_events","txId":{tx},"lsn":{lsn},"xmin":null}},"transaction":null,"op":"c","ts_ms":1767882112400,"ts_us":1767882112400123,"ts_ns":1767882112400123456}}"#,
        id = 1_000_000 + n,
        ms = 1_000 + n * 13 % 2_000_000,
        before = 24_023_119 + n * 100,
        lsn = 24_023_128 + n * 100,
        tx = 700 + n,
    );
    (
        format!(r#"{{"content_id":"{content}"}}"#).into_bytes(),
        value.into_bytes(),
    )
}

fn transform(parser: &Parser, catalog: &Catalog, key: &[u8], value: &[u8], offset: i64) -> Vec<u8> {
    let input = Input {
        key: Some(key),
        payload: Some(value),
        moved: false,
    };
    let Ok(CdcRecord::Change(change)) = parser.event(input) else {
        unreachable!("the records of this benchmark are well formed");
    };
    let content = change.row.content_id.as_deref().map(|id| catalog.get(id));
    let content = match content {
        Some(Lookup::Found(content)) => Some(content),
        _ => None,
    };
    let place = Place {
        position: Position {
            lane: Lane::Live,
            epoch: 0,
            partition: 3,
            offset,
        },
        prev: offset - 1,
        commit_lsn: change.meta.commit_lsn.unwrap_or(0),
        lsn: change.meta.lsn,
    };
    wire::encode(
        &enrich(change, content, place, Micros(1_767_882_112_500_000)),
        Format::Protobuf,
    )
}

fn whole(c: &mut Criterion) {
    let parser = Parser::default();
    let catalog = catalog(&parser);
    let records: Vec<_> = (0..EVENTS).map(record).collect();
    let mean: usize = records.iter().map(|(_, value)| value.len()).sum::<usize>() / records.len();
    let bytes = transform(&parser, &catalog, &records[0].0, &records[0].1, 0).len();
    let mut group = c.benchmark_group("transform");
    group.throughput(Throughput::Elements(EVENTS));
    group.bench_function(
        format!("parse_{mean}B_join_enrich_protobuf_{bytes}B"),
        |b| {
            b.iter(|| {
                for (offset, (key, value)) in (0..).zip(&records) {
                    black_box(transform(
                        &parser,
                        &catalog,
                        black_box(key),
                        black_box(value),
                        offset,
                    ));
                }
            });
        },
    );
    group.bench_function("parse_only", |b| {
        b.iter(|| {
            for (key, value) in &records {
                let input = Input {
                    key: Some(key),
                    payload: Some(black_box(value)),
                    moved: false,
                };
                let _ = black_box(parser.event(input));
            }
        });
    });
    group.finish();
}

fn codecs(c: &mut Criterion) {
    let event = engagement::testing::sample();
    let mut group = c.benchmark_group("wire");
    for format in [Format::Protobuf, Format::Json] {
        let bytes = wire::encode(&event, format);
        group.bench_function(format!("encode_{format:?}"), |b| {
            b.iter(|| wire::encode(black_box(&event), format));
        });
        group.bench_function(format!("decode_{format:?}"), |b| {
            b.iter(|| wire::decode(black_box(&bytes), format));
        });
    }
    group.finish();
}

criterion_group!(benches, whole, codecs);
criterion_main!(benches);
