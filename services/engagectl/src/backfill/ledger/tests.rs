mod model;

use engagement::event::Micros;
use proptest::prelude::*;
use stream::backfill::Addressee;

use super::*;
use model::{Life, Log, process};

pub(super) fn spec(ranges: u32) -> Spec {
    let range = Range {
        start: Micros(0),
        end: Micros(i64::from(ranges) * 1000),
    };
    Spec {
        run: 7,
        database: Database {
            system: "18446744073709551615".into(),
            timeline: 1,
            name: "engage".into(),
        },
        topic: "engagement.backfill.v1".into(),
        partitions: 4,
        range,
        content_id: None,
        sinks: vec![Addressee::Clickhouse],
        revision_lsn: 99,
        horizon: 5,
        ranges: range.split(ranges),
        rows: 10,
    }
}

fn json(entry: &Entry) -> Vec<u8> {
    serde_json::to_vec(entry).unwrap()
}

#[test]
fn records_read_back_and_a_later_one_replaces_an_earlier_one() {
    let mut runs = Runs::default();
    let plan = json(&Entry::Plan(spec(2)));
    runs.apply(&plan_key(7), Some(&plan)).unwrap();
    let mut run = runs.get(7).unwrap().clone();
    assert_eq!(run.spec, spec(2));
    assert_eq!(run.work().len(), 2);

    let begun = run.begin(1, &[3, 0, 0, 9]);
    let page = Page {
        range: 1,
        rows: 5,
        last: Some(Cursor {
            at: Micros(1500),
            id: "42".into(),
        }),
        is_last: false,
    };
    let after = run.advance(&page, Some(vec![4, 0, 1, 9]));
    for note in [begun, after] {
        runs.apply(&note_key(7, 1), Some(&json(&Entry::Note(note))))
            .unwrap();
    }
    assert_eq!(runs.get(7), Some(&run));
    assert_eq!(run.work()[1].after.as_ref().unwrap().id, "42");
    assert_eq!(
        (run.rows(), run.search_from(0), run.search_from(2)),
        (5, Some(4), Some(1))
    );

    let end = Finished {
        rows: 5000,
        seconds: 2.0,
        written: 4000,
    };
    runs.apply(&end_key(7), Some(&json(&Entry::End(end))))
        .unwrap();
    assert_eq!(runs.speed(), Some(2000.0));
    runs.apply(&plan_key(7), None).unwrap();
    assert!(runs.get(7).is_none());
}

#[test]
fn a_topic_that_ends_before_what_was_noted_is_another_one() {
    let mut run = Run::new(spec(2));
    assert_eq!(run.is_beyond(&[0, 0, 0, 0]), None);
    run.begin(0, &[3, 0, 0, 9]);
    assert_eq!(run.is_beyond(&[3, 0, 0, 9]), None);
    assert_eq!(run.is_beyond(&[4, 1, 1, 9]), None);
    assert_eq!(run.is_beyond(&[3, 0, 0, 8]), Some(3));
    assert_eq!(run.is_beyond(&[0, 0, 0, 0]), Some(0));
}

#[test]
fn runs_at_one_place_of_the_log_have_revisions_of_their_own() {
    let mut runs = Runs::default();
    let mut taken = Vec::new();
    for run in 0..7 {
        let revision_lsn = runs.free_revision(1000);
        taken.push(revision_lsn);
        let plan = Entry::Plan(Spec {
            run,
            revision_lsn,
            ..spec(1)
        });
        runs.apply(&plan_key(run), Some(&json(&plan))).unwrap();
    }
    assert_eq!(taken, [999, 998, 997, 996, 995, 994, 993]);
    assert_eq!(runs.free_revision(1000), 993, "more than that is no place");
    assert_eq!(runs.free_revision(1008), 1007);
}

#[test]
fn rows_that_are_left_out_stay_noted_and_are_not_written_where_there_are_none() {
    let mut run = Run::new(spec(1));
    run.begin(0, &[]);
    run.leave_out(0, 2);
    let page = Page {
        range: 0,
        rows: 5,
        last: None,
        is_last: false,
    };
    run.advance(&page, Some(vec![]));
    run.leave_out(0, 1);
    let note = run.advance(&page, Some(vec![]));
    assert_eq!((note.rows, note.left_out), (10, 3));
    assert_eq!((run.rows(), run.left_out()), (10, 3));
    let text = String::from_utf8(json(&Entry::Note(note.clone()))).unwrap();
    assert_eq!(
        serde_json::from_str::<Entry>(&text).unwrap(),
        Entry::Note(note)
    );
    let none = String::from_utf8(json(&Entry::Note(Note::default()))).unwrap();
    assert!(!none.contains("left_out"), "{none}");
}

#[test]
fn a_record_of_somebody_else_is_named_and_changes_nothing() {
    let mut runs = Runs::default();
    for (key, payload) in [
        ("x", &b"{}"[..]),
        ("7", b"{}"),
        ("7", b"\xff"),
        ("8", &json(&Entry::Plan(spec(1)))),
        ("7/0", &json(&Entry::Note(Note::default()))),
        ("7/end", &json(&Entry::Note(Note::default()))),
    ] {
        let error = runs.apply(key, Some(payload)).unwrap_err().to_string();
        assert!(error.contains(key), "{error}");
    }
    assert_eq!(runs, Runs::default());
}

proptest! {
    /// However often the process dies, and between whatever two steps, every row is in the topic exactly once at the end.
    #[test]
    fn a_run_that_is_killed_anywhere_and_resumed_writes_every_row_once(
        sizes in proptest::collection::vec(0usize..12, 1..5),
        lives in proptest::collection::vec((0usize..25, 1usize..4), 0..8),
    ) {
        let mut next = 0;
        let rows: Vec<Vec<i64>> = sizes
            .iter()
            .map(|size| {
                let from = next;
                next += i64::try_from(*size).unwrap();
                (from..next).collect()
            })
            .collect();
        let mut log = Log::default();
        for (steps, noted) in lives {
            let _ = process(&mut log, &rows, &mut Life(steps), noted);
        }
        let last = process(&mut log, &rows, &mut Life(usize::MAX), 2);
        prop_assert!(last.is_some());
        let mut written: Vec<i64> = log.lane.iter().flatten().map(|(_, id)| id.parse().unwrap()).collect();
        written.sort_unstable();
        prop_assert_eq!(written, (0..next).collect::<Vec<_>>());
        let mut runs = Runs::default();
        for (key, payload) in &log.runs {
            runs.apply(key, Some(payload)).unwrap();
        }
        let run = runs.get(7).unwrap();
        prop_assert!(run.is_written());
        prop_assert_eq!(run.rows(), u64::try_from(next).unwrap());
    }

    #[test]
    fn no_record_panics(key in "[0-9]{0,3}/?[a-z0-9]{0,4}", payload in proptest::collection::vec(any::<u8>(), 0..40)) {
        let _ = Runs::default().apply(&key, Some(&payload));
    }
}
