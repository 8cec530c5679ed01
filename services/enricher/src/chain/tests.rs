//! The chain against records made by hand, and against a model of Postgres, Debezium, Kafka and crashes.

use std::sync::Arc;

use bytes::Bytes;
use engagement::event::{EnrichedEvent, Source};
use proptest::prelude::*;
use proptest::sample::Index;
use stream::Watermarks;
use stream::lineage::{Proof, Reader, Verdict as Read, enricher_resume};

use super::*;
use crate::replay::{Ask, Replay};

const CONTENT: &str = "5b6962dd-3f90-4c93-8f61-eabfa4a803e2";

/// One change in the log of Postgres.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    op: char,
    id: i64,
    /// `sequence[0]`; `None` in the first transaction after a snapshot.
    commit_lsn: Option<u64>,
    lsn: u64,
    tx: i64,
}

fn record(offset: i64, row: &Row) -> Record {
    let Row {
        op,
        id,
        commit_lsn,
        lsn,
        tx,
    } = row;
    let image = format!(
        r#"{{"id":{id},"content_id":"{CONTENT}","event_type":"play","event_ts":"2026-01-08T14:21:52Z"}}"#
    );
    let (before, after) = match op {
        'd' => (image.as_str(), "null"),
        'u' => (image.as_str(), image.as_str()),
        _ => ("null", image.as_str()),
    };
    let first = commit_lsn.map_or("null".to_owned(), |lsn| format!(r#"\"{lsn}\""#));
    let at = 1_767_882_112_000 + tx;
    let snapshot = *op == 'r';
    let value = format!(
        r#"{{"before":{before},"after":{after},"op":"{op}","ts_ms":{at},"source":{{"ts_ms":{at},"snapshot":"{snapshot}","sequence":"[{first},\"{lsn}\"]","txId":{tx},"lsn":{lsn}}}}}"#
    );
    raw(
        offset,
        Some(format!(r#"{{"content_id":"{CONTENT}"}}"#)),
        Some(value),
    )
}

fn raw(offset: i64, key: Option<String>, value: Option<String>) -> Record {
    Record {
        topic: Arc::from("cdc.public.engagement_events"),
        partition: 3,
        offset,
        timestamp_ms: None,
        key: key.map(Bytes::from),
        payload: value.map(Bytes::from),
        headers: Vec::new(),
    }
}

fn insert(id: i64, tx: i64) -> Row {
    let lsn = u64::try_from(tx).unwrap() * 100;
    Row {
        op: 'c',
        id,
        commit_lsn: Some(lsn - 50),
        lsn,
        tx,
    }
}

fn start() -> Chain {
    Chain::resume(
        3,
        &EnricherResume {
            next: 0,
            epoch: 0,
            prev: -1,
            mark: None,
            proof: Proof::None,
        },
    )
}

fn judge(chain: &mut Chain, record: &Record) -> &'static str {
    match chain.judge(&Parser::default(), record) {
        Verdict::Emit(_) => "emit",
        Verdict::Redrive(..) => "redrive",
        Verdict::Skip(skip) => skip.name(),
        Verdict::Duplicate => "duplicate",
        Verdict::Reject(reject) => reject.kind.name(),
        Verdict::Stop(Halt::Truncate) => "stop: truncate",
        Verdict::Stop(Halt::WrongKey(_)) => "stop: wrong key",
        Verdict::Stop(Halt::Contradiction(_)) => "stop: contradiction",
    }
}

/// The copy of a letter, as a redrive sends it.
fn redriven(offset: i64, epoch: &'static str, mut record: Record) -> Record {
    use stream::dead_letter::{EPOCH, LETTER, REDRIVEN_AT};
    let texts = [
        (LETTER, "engagement.dlq.enricher/3/0"),
        (REDRIVEN_AT, "2026-01-09T00:00:00Z"),
        (EPOCH, epoch),
    ];
    let headers = texts.map(|(name, text)| (name.to_owned(), Some(Bytes::from(text))));
    record.headers.extend(headers);
    Record { offset, ..record }
}

#[test]
fn a_letter_that_was_sent_back_passes_the_mark_and_moves_nothing() {
    let mut chain = start();
    assert_eq!(judge(&mut chain, &record(0, &insert(1, 1))), "emit");
    chain.emitted(0);
    assert_eq!(judge(&mut chain, &record(1, &insert(3, 3))), "emit");
    chain.emitted(1);
    let before = (chain.mark(), chain.progress(chain.mark()));
    for (offset, tx) in [(2, 2), (3, 9)] {
        let copy = redriven(offset, "0", record(0, &insert(tx, tx)));
        assert_eq!(judge(&mut chain, &copy), "redrive", "transaction {tx}");
        let place = chain.redrive_place(offset, chain.mark());
        assert_eq!(
            (place.position.lane, place.position.offset, place.prev),
            (Lane::Redrive, offset, 1)
        );
    }
    assert_eq!((chain.mark(), chain.progress(chain.mark())), before);
    assert_eq!(judge(&mut chain, &record(4, &insert(4, 4))), "emit");
    assert_eq!(
        judge(&mut chain, &record(5, &insert(2, 2))),
        "duplicate",
        "by Debezium"
    );
}

#[test]
fn a_letter_that_was_sent_back_never_stops_the_lane_and_belongs_to_an_epoch_that_was() {
    let mut chain = start();
    let truncate = raw(0, None, Some(r#"{"op":"t","source":{"lsn":5}}"#.into()));
    assert_eq!(judge(&mut chain, &truncate), "stop: truncate");
    let key = || Some(format!(r#"{{"content_id":"{CONTENT}"}}"#));
    let elsewhere = raw(
        0,
        Some(r#"{"content_id":"another"}"#.into()),
        record(0, &insert(1, 1))
            .payload
            .map(|value| String::from_utf8(value.to_vec()).unwrap()),
    );
    assert_eq!(judge(&mut chain, &elsewhere), "stop: wrong key");
    for (copy, expected) in [
        (redriven(1, "0", truncate), "unknown_operation"),
        (redriven(2, "0", elsewhere), "wrong_type"),
        (
            redriven(3, "0", raw(0, key(), Some("{".into()))),
            "malformed_json",
        ),
        (redriven(4, "1", record(0, &insert(1, 1))), "wrong_type"),
        (redriven(5, "x", record(0, &insert(1, 1))), "wrong_type"),
        (redriven(6, "0", raw(0, key(), None)), "tombstone"),
    ] {
        assert_eq!(judge(&mut chain, &copy), expected, "offset {}", copy.offset);
    }
}

#[test]
fn what_the_output_holds_of_redriven_letters_is_not_written_again() {
    let mut chain = start();
    chain.redriven([(0, 7), (1, 8)]);
    let copy = |offset| redriven(offset, "0", record(0, &insert(1, 1)));
    assert_eq!(judge(&mut chain, &copy(7)), "redriven");
    assert_eq!(judge(&mut chain, &copy(8)), "redrive", "of another epoch");
}

#[test]
fn a_letter_that_was_sent_back_does_not_end_the_way_back_to_the_mark() {
    let mut chain = start();
    assert_eq!(judge(&mut chain, &record(0, &insert(9, 9))), "emit");
    let copy = redriven(1, "0", record(0, &insert(1, 1)));
    assert_eq!(chain.replay(&Parser::default(), &copy), Replayed::Other);
    let resent = record(2, &insert(1, 1));
    assert_eq!(
        chain.replay(&Parser::default(), &resent),
        Replayed::BelowMark
    );
}

#[test]
fn every_kind_of_record_gets_its_own_answer() {
    let mut chain = start();
    let key = || Some(format!(r#"{{"content_id":"{CONTENT}"}}"#));
    assert_eq!(judge(&mut chain, &record(0, &insert(1, 1))), "emit");
    assert_eq!(
        judge(
            &mut chain,
            &record(
                1,
                &Row {
                    op: 'u',
                    ..insert(1, 2)
                }
            )
        ),
        "emit"
    );
    assert_eq!(
        judge(
            &mut chain,
            &record(
                2,
                &Row {
                    op: 'd',
                    ..insert(1, 3)
                }
            )
        ),
        "emit"
    );
    assert_eq!(judge(&mut chain, &raw(3, key(), None)), "tombstone");
    assert_eq!(judge(&mut chain, &record(4, &insert(1, 1))), "duplicate");
    assert_eq!(
        judge(&mut chain, &raw(5, key(), Some("{".into()))),
        "malformed_json"
    );
    assert_eq!(
        judge(
            &mut chain,
            &record(
                6,
                &Row {
                    op: 'z',
                    ..insert(2, 4)
                }
            )
        ),
        "unknown_operation"
    );
    assert_eq!(
        judge(
            &mut chain,
            &record(
                7,
                &Row {
                    op: 't',
                    ..insert(2, 4)
                }
            )
        ),
        "stop: truncate"
    );
}

#[test]
fn a_change_whose_record_has_expired_is_known_again_from_the_output() {
    let (mut before, change) = (start(), record(0, &insert(1, 1)));
    let Verdict::Emit(emitted) = before.judge(&Parser::default(), &change) else {
        panic!("a new change is emitted")
    };
    let place = before.place(0, before.mark());
    let event = engagement::enrich::enrich(emitted, None, place, Default::default());
    let mut after = Chain::resume(
        3,
        &EnricherResume {
            next: 1,
            epoch: 0,
            prev: 0,
            mark: before.mark(),
            proof: Proof::None,
        },
    );
    assert_eq!(judge(&mut after.clone(), &record(1, &insert(1, 1))), "emit");
    after.produced(&event);
    assert_eq!(judge(&mut after, &record(1, &insert(1, 1))), "duplicate");
}

#[test]
fn a_key_without_the_content_stops_the_lane_and_names_the_setting() {
    let mut wrong = record(0, &insert(1, 1));
    wrong.key = Some(Bytes::from_static(br#"{"id":1}"#));
    let verdict = start().judge(&Parser::default(), &wrong);
    let Verdict::Stop(halt) = verdict else {
        panic!("{verdict:?}")
    };
    assert!(
        halt.reason().contains("message.key.columns"),
        "{}",
        halt.reason()
    );
    assert!(
        halt.remedy("3/0").contains("message.key.columns"),
        "{}",
        halt.remedy("3/0")
    );
}

#[test]
fn the_repair_of_a_truncate_names_the_record_to_skip() {
    assert!(
        Halt::Truncate
            .remedy("3/4711")
            .contains("\"3/4711\" to lineage.skip")
    );
}

#[test]
fn what_was_refused_or_dropped_leaves_no_gap_in_the_chain() {
    let (mut chain, parser) = (start(), Parser::default());
    let mut places = Vec::new();
    let records = [
        record(4, &insert(1, 1)),
        raw(5, None, Some("{".into())),
        record(6, &insert(1, 1)),
        record(9, &insert(2, 2)),
    ];
    for record in &records {
        if let Verdict::Emit(_) = chain.judge(&parser, record) {
            places.push(chain.place(record.offset, chain.mark()));
            chain.emitted(record.offset);
        }
    }
    let chained: Vec<_> = places
        .iter()
        .map(|place| (place.position.offset, place.prev, place.lsn))
        .collect();
    assert_eq!(chained, [(4, -1, 100), (9, 4, 200)]);
}

#[test]
fn snapshot_records_repeat_the_mark_and_the_first_transaction_after_them_is_recognised() {
    let mut chain = start();
    assert_eq!(
        judge(
            &mut chain,
            &record(
                0,
                &Row {
                    op: 'r',
                    ..insert(1, 1)
                }
            )
        ),
        "emit"
    );
    assert_eq!(chain.mark(), None);
    let first = Row {
        commit_lsn: None,
        ..insert(2, 2)
    };
    assert_eq!(judge(&mut chain, &record(1, &first)), "emit");
    assert_eq!(judge(&mut chain, &record(2, &first)), "duplicate");
    assert_eq!(judge(&mut chain, &record(3, &insert(3, 3))), "emit");
    let mark = chain.mark();
    assert_eq!(
        judge(
            &mut chain,
            &record(
                4,
                &Row {
                    op: 'r',
                    ..insert(1, 1)
                }
            )
        ),
        "emit"
    );
    assert_eq!(chain.mark(), mark);
    let resumed = EnricherResume {
        next: 5,
        epoch: 0,
        prev: 4,
        mark,
        proof: Proof::None,
    };
    let mut chain = Chain::resume(3, &resumed);
    assert_eq!(
        judge(&mut chain, &record(5, &first)),
        "duplicate",
        "without its sequence, after a restart"
    );
}

#[test]
fn the_commit_metadata_say_epoch_position_mark_and_database() {
    let mut chain = start();
    assert_eq!(chain.checkpoint(chain.progress(None), None).position, None);
    judge(&mut chain, &record(7, &insert(1, 1)));
    chain.emitted(7);
    let database = Some(Database {
        system: 9,
        timeline: 1,
    });
    let checkpoint = chain.checkpoint(chain.progress(chain.mark()), database);
    assert_eq!(
        checkpoint
            .position
            .map(|position| position.to_string())
            .as_deref(),
        Some("live/0/3/7")
    );
    assert_eq!(checkpoint.mark.map(Mark::pair), Some((50, 100)));
    assert_eq!(checkpoint.database, database);
}

/// What the enricher wrote for one record: enough of it to check the chain.
#[derive(Clone, Debug)]
struct Out {
    source: Source,
    row: Row,
}

/// Reads back as `resume` does.
fn restore(chain: &mut Chain, mut replay: Replay, model: &Model) {
    let span = |from, to| usize::try_from(from).unwrap()..usize::try_from(to).unwrap();
    while let Some(ask) = replay.ask() {
        match ask {
            Ask::Events { from, to } => {
                let events = &model.output[span(from, to)];
                replay.told_events(events.iter().map(|out| &out.source));
            }
            Ask::Changes { from, to } => {
                assert!(to - from <= 4096, "{from}..{to} at once");
                let seen: Vec<_> = span(from, to)
                    .map(|at| chain.replay(&Parser::default(), &model.record(at)))
                    .collect();
                replay.told_changes(chain, &seen);
            }
        }
    }
}

/// The enricher over a partition, with a broker that may lose what was not acknowledged.
struct Model {
    topic: Vec<Option<Row>>,
    output: Vec<Out>,
}

impl Model {
    fn tail(&self) -> Option<Source> {
        self.output
            .iter()
            .map(|out| out.source)
            .max_by_key(|source| source.offset)
    }

    fn record(&self, offset: usize) -> Record {
        let at = i64::try_from(offset).unwrap();
        match &self.topic[offset] {
            Some(row) => record(at, row),
            None => raw(at, None, Some("poison".into())),
        }
    }

    /// Opens the partition as `resume` does.
    fn open(&self) -> (Chain, usize) {
        let high = i64::try_from(self.topic.len()).unwrap();
        let written = i64::try_from(self.output.len()).unwrap();
        let (input, output) = (
            Watermarks { low: 0, high },
            Watermarks {
                low: 0,
                high: written,
            },
        );
        let resume = enricher_resume(input, output, self.tail().as_ref(), None).unwrap();
        let mut chain = Chain::resume(3, &resume);
        let tail = self.tail().map(|source| EnrichedEvent {
            source,
            ..engagement::testing::Sample::new().build()
        });
        let mut replay = Replay::new(&resume, tail.as_ref(), input, output);
        replay.step = 2;
        restore(&mut chain, replay, self);
        let next = usize::try_from(resume.next).unwrap();
        (chain, next)
    }

    /// Runs until `count` records were judged or the end, then crashes: only `kept` of what was sent arrives; `None`: all.
    fn run(&mut self, count: usize, kept: Option<Index>) -> Result<(), TestCaseError> {
        let (mut chain, next) = self.open();
        let (parser, mut sent) = (Parser::default(), Vec::new());
        for offset in (next..self.topic.len()).take(count) {
            let record = self.record(offset);
            match chain.judge(&parser, &record) {
                Verdict::Emit(change) => {
                    let place = chain.place(record.offset, chain.mark());
                    let source = engagement::enrich::enrich(
                        change,
                        None,
                        place,
                        engagement::event::Micros(0),
                    )
                    .source;
                    chain.emitted(record.offset);
                    sent.push(Out {
                        source,
                        row: self.topic[offset].clone().unwrap(),
                    });
                }
                Verdict::Duplicate | Verdict::Reject(_) => {}
                other => return Err(TestCaseError::fail(format!("{offset}: {other:?}"))),
            }
        }
        if let Some(kept) = kept {
            sent.truncate(kept.index(sent.len() + 1));
        }
        self.output.extend(sent);
        Ok(())
    }

    /// An old instance wakes up and appends a run that starts at or below the end, without a gap.
    fn zombie(&mut self, from: Index, count: usize) {
        if self.output.is_empty() {
            return;
        }
        let from = from.index(self.output.len());
        let run: Vec<_> = self.output[from..].iter().take(count).cloned().collect();
        self.output.extend(run);
    }
}

/// Snapshot rows first, then transactions as Postgres commits them: rows of one COPY share LSNs, and long transactions
/// have rows that are older than the commit before.
fn log(snapshot: u8, transactions: &[(u8, u8, u8)]) -> Vec<Row> {
    let (mut lsn, mut last_commit, mut id, mut rows) = (1000_u64, None, 0, Vec::new());
    for _ in 0..snapshot {
        id += 1;
        rows.push(Row {
            op: 'r',
            id,
            commit_lsn: None,
            lsn,
            tx: 0,
        });
    }
    for (at, (count, per_lsn, early)) in transactions.iter().enumerate() {
        let tx = i64::try_from(at).unwrap() + 1;
        // rows of a transaction that was open while the one before committed have lower LSNs than that commit
        let mut own = lsn
            .saturating_sub(u64::from(*early) * 2)
            .max(1001 + u64::try_from(at).unwrap());
        for row in 0..*count {
            if row % per_lsn.max(&1) == 0 {
                own += 3;
            }
            id += 1;
            rows.push(Row {
                op: 'c',
                id,
                commit_lsn: last_commit,
                lsn: own,
                tx,
            });
        }
        lsn = lsn.max(own) + 10;
        last_commit = Some(lsn);
        lsn += 10;
    }
    rows
}

/// What Debezium writes: the log in order, with crashes after which it goes back and sends again, and poison in between.
fn topic(log: &[Row], crashes: &[(Index, Index)], poison: &[Index]) -> Vec<Option<Row>> {
    let first = log
        .iter()
        .position(|row| row.op != 'r')
        .unwrap_or(log.len());
    let (mut topic, mut at) = (Vec::new(), 0);
    for (until, back) in crashes {
        let until = at + until.index(log.len() - at + 1);
        topic.extend(log[at..until].iter().cloned().map(Some));
        // a snapshot that was interrupted starts anew, which is another story: here only the stream goes back
        at = if until <= first {
            until
        } else {
            first + back.index(until - first + 1)
        };
    }
    topic.extend(log[at..].iter().cloned().map(Some));
    for at in poison {
        topic.insert(at.index(topic.len() + 1), None);
    }
    topic
}

/// Ids of rows that later snapshots read.
const LATER: i64 = 100_000;

/// Snapshots taken while the stream goes on, as runs of so many rows; how many rows in all.
fn read_again(topic: &mut Vec<Option<Row>>, runs: &[(Index, i64)]) -> usize {
    let before = topic.len();
    for (at, rows) in runs {
        let at = at.index(topic.len() + 1);
        for id in LATER..LATER + rows {
            topic.insert(at, Some(snapshot_row(id)));
        }
    }
    topic.len() - before
}

fn snapshot_row(id: i64) -> Row {
    Row {
        op: 'r',
        commit_lsn: None,
        ..insert(id, 1)
    }
}

#[test]
fn a_first_transaction_of_any_size_that_is_sent_again_is_dropped_also_after_a_restart() {
    // pages of 40 rows share an LSN; all of it comes before the first commit that Debezium could name
    let first = |id: i64| Row {
        commit_lsn: None,
        lsn: 5000 + u64::try_from(id / 40).unwrap(),
        ..insert(id, 7)
    };
    let rows: Vec<_> = (0..9000).map(first).collect();
    let mut model = Model {
        topic: vec![Some(snapshot_row(LATER))],
        output: Vec::new(),
    };
    model.topic.extend(rows[..8765].iter().cloned().map(Some));
    model.run(usize::MAX, None).unwrap();
    model.topic.extend(rows.iter().cloned().map(Some));
    model.run(5000, None).unwrap();
    model.run(usize::MAX, None).unwrap();
    let ids: Vec<_> = model.output.iter().map(|out| out.row.id).collect();
    assert_eq!(
        ids,
        std::iter::once(LATER).chain(0..9000).collect::<Vec<_>>()
    );
}

#[test]
fn a_first_transaction_after_a_later_snapshot_is_new_and_known_again() {
    let first = |id: i64, lsn: u64| Row {
        commit_lsn: None,
        lsn,
        ..insert(id, 9)
    };
    let mut chain = start();
    assert_eq!(judge(&mut chain, &record(0, &insert(1, 1))), "emit");
    assert_eq!(judge(&mut chain, &record(1, &snapshot_row(1))), "emit");
    for (offset, id, lsn) in [(2, 10, 900), (3, 11, 900), (4, 12, 950)] {
        assert_eq!(judge(&mut chain, &record(offset, &first(id, lsn))), "emit");
    }
    for (offset, id, lsn) in [(5, 10, 900), (6, 11, 900), (7, 12, 950)] {
        let verdict = judge(&mut chain, &record(offset, &first(id, lsn)));
        assert_eq!(verdict, "duplicate", "event {id}");
    }
    assert_eq!(judge(&mut chain, &record(8, &insert(2, 12))), "emit");
    let verdict = judge(&mut chain, &record(9, &first(12, 950)));
    assert_eq!(verdict, "duplicate", "behind the next transaction");
}

#[test]
fn the_changes_at_the_mark_are_known_again_however_much_was_read_or_sent_again_since() {
    const ROWS: i64 = 201_000;
    let copy = |id| Row { id, ..insert(9, 9) };
    let mut topic: Vec<_> = (1..=8).map(|tx| insert(tx, tx)).collect();
    topic.extend([copy(20), copy(21), copy(22)]);
    // sent again, but not as far as the mark; then a snapshot
    topic.extend((1..=8).map(|tx| insert(tx, tx)));
    topic.extend((0..ROWS).map(|id| snapshot_row(LATER + id)));
    let mut model = Model {
        topic: topic.into_iter().map(Some).collect(),
        output: Vec::new(),
    };
    model.run(usize::MAX, None).unwrap();
    let written = model.output.len();
    model
        .topic
        .extend([copy(20), copy(21), copy(22), copy(23)].map(Some));
    model.run(usize::MAX, None).unwrap();
    let ids: Vec<_> = model.output[written..]
        .iter()
        .map(|out| out.row.id)
        .collect();
    assert_eq!(ids, [23]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn every_change_is_in_the_output_once_whatever_crashes(
        snapshot in 0_u8..6,
        transactions in proptest::collection::vec((1_u8..9, 1_u8..5, 0_u8..8), 1..10),
        crashes in proptest::collection::vec((any::<Index>(), any::<Index>()), 0..5),
        poison in proptest::collection::vec(any::<Index>(), 0..4),
        again in proptest::collection::vec((any::<Index>(), 1_i64..9), 0..3),
        runs in proptest::collection::vec((1_usize..20, any::<Index>(), any::<Index>(), 0_usize..6), 0..12),
    ) {
        let log = log(snapshot, &transactions);
        let mut model = Model { topic: topic(&log, &crashes, &poison), output: Vec::new() };
        let snapshots = read_again(&mut model.topic, &again);
        for (count, kept, from, length) in runs {
            model.run(count, Some(kept))?;
            model.zombie(from, length);
        }
        model.run(usize::MAX, None)?;
        let (mut reader, mut read) = (Reader::default(), Vec::new());
        for out in &model.output {
            match reader.check(&out.source) {
                Read::Apply => read.push(out.row.clone()),
                Read::Duplicate => {}
                other => prop_assert!(false, "{other:?} at {:?}", out.source),
            }
        }
        let (later, read): (Vec<_>, Vec<_>) = read.into_iter().partition(|row| row.id >= LATER);
        prop_assert_eq!(later.len(), snapshots);
        prop_assert_eq!(read, log);
    }
}
