//! Postgres against ClickHouse.

use verify::{Kind, Options, Sink};

use crate::world::{INTEGERS, Keys, TEXTS, UUIDS, World, names};

#[tokio::test]
async fn equal_tables_are_equal_whatever_the_type_of_their_keys() {
    for keys in [&UUIDS, &INTEGERS, &TEXTS] {
        let world = World::new("equal", keys).await.with_clickhouse(keys).await;
        let report = world.compare(Sink::Clickhouse).await;
        let found = report.sink(Sink::Clickhouse).unwrap();
        assert!(report.is_equal(), "{report}");
        assert_eq!((report.events, found.compared, found.equal), (40, 40, 15));
    }
}

#[tokio::test]
async fn a_row_deleted_by_a_mutation_is_missing_by_name() {
    for keys in [&UUIDS, &TEXTS] {
        let world = World::new("deleted", keys)
            .await
            .with_clickhouse(keys)
            .await;
        let id = (keys.ids)(17);
        world
            .clickhouse(&format!(
                "ALTER TABLE {{table}} DELETE WHERE event_id = '{id}' SETTINGS mutations_sync = 2"
            ))
            .await;
        let found = world.found(Sink::Clickhouse).await;
        assert_eq!((found.missing, found.surplus, found.changed), (1, 0, 0));
        assert_eq!(names(&found), [(Kind::Missing, id)]);
        let lacking = found.lacking.unwrap();
        assert_eq!(lacking.to.0 - lacking.from.0, 60_000_000, "its minute");
    }
}

#[tokio::test]
async fn a_changed_duration_type_or_null_is_named_with_both_values() {
    let world = World::new("changed", &UUIDS)
        .await
        .with_clickhouse(&UUIDS)
        .await;
    for change in [
        "duration_ms = 5 WHERE event_id = 4",
        "event_type = 'seek' WHERE event_id = 8",
        "duration_ms = NULL WHERE event_id = 12",
    ] {
        world
            .clickhouse(&format!(
                "ALTER TABLE {{table}} UPDATE {change} SETTINGS mutations_sync = 2"
            ))
            .await;
    }
    let found = world.found(Sink::Clickhouse).await;
    assert_eq!(found.changed, 3, "{found}");
    let mut ids: Vec<_> = names(&found);
    ids.sort();
    let expected = ["12", "4", "8"].map(|id| (Kind::Changed, id.to_owned()));
    assert_eq!(ids, expected);
    let of_4 = found.differences.iter().find(|d| d.id == "4").unwrap();
    assert!(
        of_4.what.contains("400 ms") && of_4.what.contains("5 ms"),
        "{}",
        of_4.what
    );
}

#[tokio::test]
async fn a_surplus_row_is_named_and_one_in_postgres_alone_is_missing() {
    let world = World::new("surplus", &INTEGERS)
        .await
        .with_clickhouse(&INTEGERS)
        .await;
    world
        .postgres("DELETE FROM {table} WHERE event_id = 21")
        .await;
    world
        .postgres("INSERT INTO {table} VALUES (7777, NULL, 'play', '2030-01-01T00:00:00Z', NULL)")
        .await;
    let found = world.found(Sink::Clickhouse).await;
    let names = names(&found);
    assert_eq!(names.len(), 2, "{found}");
    assert!(
        names.contains(&(Kind::Surplus, "21".into()))
            && names.contains(&(Kind::Missing, "7777".into()))
    );
}

#[tokio::test]
async fn a_row_held_twice_is_a_violation_although_the_view_hides_it() {
    let world = World::new("twice", &UUIDS)
        .await
        .with_clickhouse(&UUIDS)
        .await;
    world.clickhouse("SYSTEM STOP MERGES {table}").await;
    world
        .clickhouse("INSERT INTO {table} SELECT * FROM {table} WHERE event_id = 9")
        .await;
    let found = world.found(Sink::Clickhouse).await;
    assert_eq!(
        (
            found.violations,
            found.missing + found.surplus + found.changed
        ),
        (1, 0),
        "{found}"
    );
    assert_eq!(names(&found), [(Kind::Violation, "9".into())]);
}

#[tokio::test]
async fn bounds_leave_out_what_lies_outside_of_them_on_both_sides() {
    let world = World::new("bounds", &UUIDS)
        .await
        .with_clickhouse(&UUIDS)
        .await;
    world
        .postgres("INSERT INTO {table} VALUES (7777, NULL, 'play', '2030-01-01T00:00:00Z', NULL)")
        .await;
    let bounded = |from: Option<&str>, to: Option<&str>| Options {
        from: from.map(|at| at.parse().unwrap()),
        to: to.map(|at| at.parse().unwrap()),
        sinks: [Sink::Clickhouse].into(),
        ..Options::default()
    };
    let before = verify::run(&world.sources, &bounded(None, Some("2029-01-01T00:00:00Z")))
        .await
        .unwrap();
    assert!(before.is_equal() && before.events == 40, "{before}");
    let behind = verify::run(&world.sources, &bounded(Some("2029-01-01T00:00:00Z"), None))
        .await
        .unwrap();
    assert!(!behind.is_equal() && behind.events == 1, "{behind}");
    // To the microsecond: the events of the first minute lie at exactly this time.
    let exact = verify::run(
        &world.sources,
        &bounded(None, Some("2026-01-08T14:21:52.000001Z")),
    )
    .await
    .unwrap();
    assert!(exact.is_equal() && exact.events == 14, "{exact}");
}

#[tokio::test]
async fn no_more_is_named_than_was_asked_for_and_everything_is_counted() {
    let keys: &Keys = &UUIDS;
    let world = World::new("limit", keys).await.with_clickhouse(keys).await;
    world.clickhouse("TRUNCATE TABLE {table}").await;
    let options = Options {
        limit: 3,
        sinks: [Sink::Clickhouse].into(),
        ..Options::default()
    };
    let report = verify::run(&world.sources, &options).await.unwrap();
    let found = report.sink(Sink::Clickhouse).unwrap();
    assert_eq!((found.missing, found.differences.len()), (15, 3));
    assert!(report.to_string().contains("NOT EQUAL"), "{report}");
}

#[tokio::test]
async fn a_store_that_is_away_or_refuses_is_named_with_its_setting() {
    let mut world = World::new("away", &UUIDS)
        .await
        .with_clickhouse(&UUIDS)
        .await;
    let table = std::mem::replace(
        &mut world.sources.postgres.table,
        "public.no_such_table".into(),
    );
    let error = verify::run(&world.sources, &Options::default())
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("public.no_such_table"), "{error}");
    world.sources.postgres.table = table;
    let clickhouse = world.sources.clickhouse.as_mut().unwrap();
    clickhouse.url = "http://127.0.0.1:1".parse().unwrap();
    let error = verify::run(&world.sources, &Options::default())
        .await
        .unwrap_err();
    assert!(
        error.is_unreachable() && error.to_string().contains("CLICKHOUSE_URL"),
        "{error}"
    );
}
