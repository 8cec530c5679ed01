//! What a worker of Connect says at a bad moment, and what the keeper of the connector makes of it.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use platform::{ConnectSettings, DatabaseSettings, Keeper, Look};
use secrecy::SecretString;
use sqlx::{Connection as _, PgConnection};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::stack;

type Answer = Pin<Box<dyn Future<Output = (u16, String)> + Send>>;
type Answering = Arc<dyn Fn(String) -> Answer + Send + Sync>;

/// A worker that says what it is told to say.
struct Worker {
    url: String,
    /// The requests so far: method and path.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Worker {
    async fn start(answering: Answering) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&answering), Arc::clone(&noted)));
            }
        });
        Self { url, asked }
    }

    fn was_asked_to(&self, what: &str) -> bool {
        let asked = self.asked.lock().unwrap();
        asked.iter().any(|request| request.contains(what))
    }

    fn keeper(&self, slot: &str) -> Keeper {
        let connect = ConnectSettings {
            url: self.url.parse().unwrap(),
            slot: slot.to_owned(),
            ..ConnectSettings::default()
        };
        let url = SecretString::from(stack().postgres().admin_url.clone());
        let database = DatabaseSettings {
            url,
            ..DatabaseSettings::default()
        };
        Keeper::new(connect, database)
    }
}

async fn serve(mut stream: TcpStream, answering: Answering, noted: Arc<Mutex<Vec<String>>>) {
    let (mut request, mut piece) = (Vec::new(), [0; 4096]);
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut piece).await {
            Ok(length @ 1..) => request.extend_from_slice(&piece[..length]),
            _ => return,
        }
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let line = request.lines().next().unwrap_or_default().to_owned();
    noted.lock().unwrap().push(line.clone());
    let (status, body) = answering(line).await;
    let answer = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    // who has asked may have gone
    let _ = stream.write_all(answer.as_bytes()).await;
}

async fn postgres() -> PgConnection {
    let url = &stack().postgres().admin_url;
    PgConnection::connect(url).await.unwrap()
}

async fn number(connection: &mut PgConnection, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(connection).await.unwrap()
}

const CONFIRMED: &str = "SELECT (confirmed_flush_lsn - '0/0'::pg_lsn)::bigint FROM pg_replication_slots WHERE slot_name = 'it_confirms'";

#[tokio::test(flavor = "multi_thread")]
async fn a_connector_that_delivers_and_confirms_between_two_questions_has_lost_nothing() {
    let mut connection = postgres().await;
    sqlx::raw_sql("SELECT pg_create_logical_replication_slot('it_confirms', 'pgoutput')")
        .execute(&mut connection)
        .await
        .unwrap();
    // the worker tells what is delivered now; then the connector goes on: it delivers more, and confirms it
    let worker = Worker::start(Arc::new(|_| {
        Box::pin(async {
            let mut connection = postgres().await;
            let lsn = number(&mut connection, CONFIRMED).await;
            for sql in [
                "SELECT pg_logical_emit_message(true, 'it', 'more')",
                "SELECT pg_replication_slot_advance('it_confirms', pg_current_wal_lsn())",
            ] {
                sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
            }
            assert!(number(&mut connection, CONFIRMED).await > lsn);
            let told = format!(r#"{{"offsets":[{{"offset":{{"lsn":{lsn},"ts_usec":1}}}}]}}"#);
            (200, told)
        })
    }))
    .await;
    let keeper = worker.keeper("it_confirms");
    for _ in 0..3 {
        assert_eq!(keeper.loss().await.unwrap(), None);
    }
    sqlx::raw_sql("SELECT pg_drop_replication_slot('it_confirms')")
        .execute(&mut connection)
        .await
        .unwrap();
    // and one that is gone is a loss still
    let told = r#"{"offsets":[{"offset":{"lsn":16,"ts_usec":1}}]}"#;
    let worker = Worker::start(Arc::new(move |_| {
        Box::pin(async move { (200, told.to_owned()) })
    }))
    .await;
    let loss = worker.keeper("it_confirms").loss().await.unwrap();
    assert!(loss.unwrap().what.contains("is gone"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_cannot_tell_what_is_delivered_does_not_say_that_nothing_is() {
    for status in [500, 503, 409] {
        let worker = Worker::start(Arc::new(move |line: String| {
            Box::pin(async move {
                if line.contains("/status") {
                    let failed = r#"{"connector":{"state":"RUNNING"},"tasks":[{"state":"FAILED","trace":"java.lang.Exception: x"}]}"#;
                    return (200, failed.to_owned());
                }
                if line.contains("/offsets") {
                    return (status, r#"{"message":"Request timed out"}"#.to_owned());
                }
                (204, String::new())
            })
        }))
        .await;
        // its slot is gone: to start it again would hide that
        let look = worker.keeper("it_nowhere").look(Instant::now()).await;
        assert!(look.is_err(), "{status}: {look:?}");
        assert!(!worker.was_asked_to("restart"), "{status}");
    }
    let unknown = Worker::start(Arc::new(|_| Box::pin(async { (404, String::new()) }))).await;
    let look = unknown.keeper("it_nowhere").look(Instant::now()).await;
    assert_eq!(look.unwrap(), Look::Well, "there is no such connector");
}
