use std::borrow::Cow;

use proptest::prelude::*;

use super::*;
use crate::envelope::Meta;

const ID: &str = "5b6962dd-3f90-4c93-8f61-eabfa4a803e2";

fn change(op: Op, commit_lsn: impl Into<Option<u64>>, lsn: u64, title: &str) -> ContentChange<'_> {
    ContentChange {
        meta: Meta {
            op,
            lsn,
            commit_lsn: commit_lsn.into(),
            has_sequence: true,
            tx_id: None,
            committed_at: None,
        },
        id: ID.into(),
        slug: Toast::Value(Some("slug".into())),
        title: Toast::Value(Some(title.into())),
        content_type: Toast::Value(Some("podcast".into())),
        length_seconds: Some(300),
        publish_ts: Some(Micros(5)),
    }
}

fn without_title(commit_lsn: u64, lsn: u64) -> ContentChange<'static> {
    ContentChange {
        title: Toast::Unchanged,
        length_seconds: Some(600),
        ..change(Op::Update, commit_lsn, lsn, "")
    }
}

fn title(catalog: &Catalog) -> Option<&str> {
    match catalog.get(ID) {
        Lookup::Found(content) => content.title,
        _ => None,
    }
}

fn catalog_of(changes: &[ContentChange<'_>]) -> Catalog {
    let mut catalog = Catalog::new();
    for change in changes {
        catalog.apply(change);
    }
    catalog
}

#[test]
fn a_content_comes_out_as_it_went_in() {
    let catalog = catalog_of(&[change(Op::Create, 1, 2, "a title")]);
    let expected = ContentRef {
        content_type: Some("podcast"),
        length_seconds: Some(300),
        title: Some("a title"),
        slug: Some("slug"),
        publish_ts: Some(Micros(5)),
    };
    assert_eq!(catalog.get(ID), Lookup::Found(expected));
    assert_eq!(catalog.get("other"), Lookup::Unknown);
    assert_eq!(catalog.len(), 1);
}

#[test]
fn null_and_empty_are_told_apart() {
    let mut row = change(Op::Create, 1, 2, "");
    row.slug = Toast::Value(None);
    row.content_type = Toast::Value(None);
    (row.length_seconds, row.publish_ts) = (None, None);
    let catalog = catalog_of(&[row]);
    let expected = ContentRef {
        title: Some(""),
        ..ContentRef::default()
    };
    assert_eq!(catalog.get(ID), Lookup::Found(expected));
}

#[test]
fn a_re_sent_older_change_never_overwrites() {
    let mut catalog = catalog_of(&[
        change(Op::Create, 10, 20, "first"),
        change(Op::Update, 30, 40, "second"),
    ]);
    assert!(!catalog.apply(&change(Op::Create, 10, 20, "first")));
    assert!(!catalog.apply(&change(Op::Update, 30, 39, "between")));
    assert_eq!(title(&catalog), Some("second"));
    assert!(catalog.apply(&change(Op::Update, 30, 40, "second")));
    assert!(catalog.apply(&change(Op::Update, 41, 35, "interleaved")));
    assert_eq!(title(&catalog), Some("interleaved"));
}

#[test]
fn a_deletion_is_not_undone_by_what_came_before_it() {
    let mut catalog = catalog_of(&[
        change(Op::Create, 10, 20, "first"),
        change(Op::Delete, 30, 40, ""),
    ]);
    assert_eq!((catalog.get(ID), catalog.len()), (Lookup::Unknown, 0));
    assert!(!catalog.apply(&change(Op::Update, 10, 25, "re-sent")));
    assert_eq!(catalog.get(ID), Lookup::Unknown);
    assert!(catalog.apply(&change(Op::Create, 50, 60, "again")));
    assert_eq!((title(&catalog), catalog.len()), (Some("again"), 1));
}

#[test]
fn a_deletion_of_what_was_never_seen_leaves_its_mark() {
    let mut catalog = catalog_of(&[change(Op::Delete, 30, 40, "")]);
    assert!(!catalog.apply(&change(Op::Create, 10, 20, "re-sent")));
    assert_eq!(catalog.len(), 0);
}

#[test]
fn a_snapshot_row_is_the_truth_of_its_moment() {
    let mut catalog = catalog_of(&[change(Op::Update, 30, 40, "before the restore")]);
    assert!(catalog.apply(&change(Op::Read, None, 7, "restored")));
    assert_eq!(title(&catalog), Some("restored"));
    // the first transaction after a snapshot has no sequence[0], and may have begun before it
    assert!(catalog.apply(&change(Op::Update, None, 6, "first transaction")));
    assert_eq!(title(&catalog), Some("first transaction"));
    assert!(catalog.apply(&change(Op::Update, 8, 9, "second transaction")));
    assert!(!catalog.apply(&change(Op::Update, 5, 9, "re-sent")));
    assert!(!catalog.apply(&change(Op::Update, None, 6, "first transaction")));
    assert_eq!(title(&catalog), Some("second transaction"));
}

#[test]
fn a_change_without_a_pair_does_not_lower_the_mark() {
    let mut catalog = catalog_of(&[change(Op::Update, 30, 40, "known")]);
    assert!(catalog.apply(&change(Op::Update, None, 35, "after a new slot")));
    assert!(!catalog.apply(&change(Op::Update, 30, 39, "older")));
    assert_eq!(title(&catalog), Some("after a new slot"));
}

#[test]
fn an_unchanged_title_stays() {
    let catalog = catalog_of(&[change(Op::Create, 1, 2, "a title"), without_title(3, 4)]);
    let Lookup::Found(content) = catalog.get(ID) else {
        panic!("expected the content")
    };
    assert_eq!(
        (content.title, content.length_seconds),
        (Some("a title"), Some(600))
    );
}

#[test]
fn an_unchanged_title_without_a_predecessor_is_looked_up() {
    let mut catalog = catalog_of(&[without_title(3, 4)]);
    assert_eq!(catalog.get(ID), Lookup::Incomplete);
    let found = Content {
        title: Some("found".into()),
        length_seconds: Some(1),
        ..Content::default()
    };
    catalog.resolve(ID, &found);
    let Lookup::Found(content) = catalog.get(ID) else {
        panic!("expected the content")
    };
    // only what was unknown is filled in
    assert_eq!((content.title, content.slug), (Some("found"), Some("slug")));
    assert_eq!(
        (content.length_seconds, content.content_type),
        (Some(600), Some("podcast"))
    );
    assert!(!catalog.apply(&change(Op::Update, 3, 3, "older")));
}

#[test]
fn a_lookup_never_beats_the_topic() {
    let found = Content {
        title: Some("found".into()),
        ..Content::default()
    };
    let mut catalog = Catalog::new();
    catalog.resolve(ID, &found);
    assert_eq!(title(&catalog), Some("found"));
    catalog.apply(&change(Op::Create, 1, 2, "from the topic"));
    catalog.resolve(ID, &found);
    assert_eq!(title(&catalog), Some("from the topic"));
    catalog.apply(&change(Op::Delete, 3, 4, ""));
    catalog.resolve(ID, &found);
    assert_eq!((catalog.get(ID), catalog.len()), (Lookup::Unknown, 0));
}

#[test]
fn a_tombstone_removes_and_keeps_the_mark() {
    let mut catalog = catalog_of(&[change(Op::Create, 10, 20, "first")]);
    catalog.remove(ID);
    catalog.remove("never seen");
    assert_eq!((catalog.get(ID), catalog.len()), (Lookup::Unknown, 0));
    assert!(!catalog.apply(&change(Op::Update, 10, 19, "older")));
}

#[test]
fn a_content_takes_about_150_bytes() {
    let mut catalog = Catalog::new();
    for n in 0..100_000_u64 {
        let mut row = change(Op::Create, 1, n, "Episode 12345 of the show");
        row.id = Cow::Owned(uuid::Uuid::from_u128(u128::from(n) << 64 | 7).to_string());
        row.slug = Toast::Value(Some(Cow::Owned(format!("episode-{n}"))));
        catalog.apply(&row);
    }
    let each = catalog.heap_bytes() / catalog.len();
    assert!((60..180).contains(&each), "{each} bytes per content");
}

#[test]
fn more_types_than_fit_are_none_not_another() {
    let mut catalog = Catalog::new();
    for n in 0..70_000 {
        let mut row = change(Op::Create, 1, 2, "t");
        row.id = Cow::Owned(n.to_string());
        row.content_type = Toast::Value(Some(Cow::Owned(format!("type-{n}"))));
        // the list of types is searched, so only its ends are interesting
        if !(1_000..65_500).contains(&n) {
            catalog.apply(&row);
        }
    }
    let Lookup::Found(content) = catalog.get("7") else {
        panic!("expected the content")
    };
    assert_eq!(content.content_type, Some("type-7"));
}

proptest! {
    /// Any interleaving of re-sends ends with the newest row.
    #[test]
    fn re_sends_do_not_change_the_outcome(
        titles in prop::collection::vec("[a-z]{0,6}", 1..12),
        re_sends in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let changes: Vec<_> = titles.iter().zip(1_u64..).map(|(title, n)| change(Op::Update, n * 10, n * 10 + 5, title)).collect();
        let mut catalog = catalog_of(&changes);
        for index in re_sends {
            catalog.apply(&changes[index.index(changes.len())]);
            prop_assert_eq!(title(&catalog), titles.last().map(String::as_str));
        }
        prop_assert_eq!(catalog.len(), 1);
    }
}
