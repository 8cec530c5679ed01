//! A question to a person, on a pseudo-terminal.

use std::time::{Duration, Instant};

use devstack::Stack;
use rustix::process::{Signal, kill_process};

use crate::support::tool;
use crate::terminal::Terminal;

/// Far less than any answer of a server is waited for.
const AT_ONCE: Duration = Duration::from_secs(20);

/// A plan to which somebody has to agree.
fn asked(stack: &Stack) -> Terminal {
    let mut command = tool();
    command
        .env("KAFKA_BOOTSTRAP_SERVERS", &stack.kafka().bootstrap)
        .env("DATABASE_URL", &stack.postgres().admin_url)
        .args(["init", "--skip", "connect", "--skip", "clickhouse"]);
    let mut terminal = Terminal::start(&mut command);
    terminal.until("changes? [y/N]");
    terminal
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_not_a_yes_is_a_no_and_ctrl_c_ends_at_once() {
    let stack = Stack::builder().postgres().kafka().private();
    let stack = stack.start().await.unwrap();
    let mut terminal = asked(&stack);
    terminal.type_in("maybe\n");
    assert_eq!(terminal.ended().code(), Some(0), "{}", terminal.seen);

    // there is all of it to do still
    let mut terminal = asked(&stack);
    let begun = Instant::now();
    kill_process(terminal.pid(), Signal::INT).unwrap();
    let status = terminal.ended();
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    assert_eq!(status.code(), Some(75), "{}", terminal.seen);
    let seen = &terminal.seen;
    assert!(seen.contains("nothing was written"), "{seen}");
    stack.shutdown().await;
}
