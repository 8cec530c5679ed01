//! A question to a person, on a pseudo-terminal.

use std::time::{Duration, Instant};

use devstack::{Needs, shared_for_tests};
use rustix::process::{Signal, kill_process};

use crate::support::{tool, unique};
use crate::terminal::Terminal;

/// Far less than any answer of a server is waited for.
const AT_ONCE: Duration = Duration::from_secs(20);

/// A plan to which somebody has to agree: topics of names that nobody has used.
fn asked() -> Terminal {
    let stack = shared_for_tests(Needs::none().postgres().kafka());
    let mut command = tool();
    command
        .env("KAFKA_BOOTSTRAP_SERVERS", &stack.kafka().bootstrap)
        .env("DATABASE_URL", &stack.postgres().admin_url)
        .env("KAFKA_ENRICHED_TOPIC", unique("asked"))
        .args(["init", "--skip", "connect,clickhouse"]);
    let mut terminal = Terminal::start(&mut command);
    terminal.until("changes? [y/N]");
    terminal
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_at_a_question_is_a_no_and_ends_at_once() {
    let mut terminal = asked();
    let begun = Instant::now();
    kill_process(terminal.pid(), Signal::INT).unwrap();
    let status = terminal.ended();
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    assert_eq!(status.code(), Some(75), "{}", terminal.seen);
    assert!(
        terminal.seen.contains("nothing was written"),
        "{}",
        terminal.seen
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_not_a_yes_is_a_no() {
    let mut terminal = asked();
    terminal.type_in("maybe\n");
    assert_eq!(terminal.ended().code(), Some(0), "{}", terminal.seen);
    assert!(!terminal.seen.contains("created"), "{}", terminal.seen);
}
