//! `engagectl trace` against a real Postgres whose key is of a type that the id does not look like.

use devstack::Needs;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::support::{Topics, texts, unique, with_topics};

async fn sql(url: &str, text: String) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let done = sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut connection);
    done.await.unwrap();
}

/// A database with one event.
async fn database(kind: &str, id: &str) -> String {
    let stack = devstack::shared_for_tests(Needs::none().postgres());
    let admin = &stack.postgres().admin_url;
    let name = unique("trace").replace('-', "_");
    sql(admin, format!("CREATE DATABASE {name}")).await;
    let mut url = url::Url::parse(admin).unwrap();
    url.set_path(&name);
    let rows = format!(
        "CREATE TABLE engagement_events (id {kind} PRIMARY KEY); INSERT INTO engagement_events VALUES ('{id}')"
    );
    sql(url.as_str(), rows).await;
    url.into()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_is_found_in_a_column_of_text_whatever_it_looks_like_and_is_no_id_of_another_type() {
    const UUID: &str = "018d5f1e-0000-7000-8000-000000000001";
    let topics = Topics::new(1).await;
    let trace = |url: &str, id: &str| {
        let mut command = with_topics(&topics);
        let output = command
            .env("DATABASE_URL", url)
            .args(["trace", id])
            .output();
        let output = output.unwrap();
        let (out, err) = texts(&output);
        (output.status.code(), out + &err)
    };
    for (kind, id) in [
        ("text", "1001"),
        ("varchar(40)", UUID),
        ("text", "evt_1"),
        ("bigint", "1001"),
        ("uuid", UUID),
    ] {
        let (code, said) = trace(&database(kind, id).await, id);
        assert_eq!(code, Some(0), "{kind} {id}: {said}");
        assert!(said.contains("it is committed"), "{kind} {id}: {said}");
    }
    let (code, said) = trace(&database("uuid", UUID).await, "1001");
    assert_eq!(code, Some(64), "{said}");
    assert!(said.contains("`1001` is no id"), "{said}");
}
