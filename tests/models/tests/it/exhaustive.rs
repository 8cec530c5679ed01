//! Small worlds in which every state is visited.

use std::time::Instant;

use models::{Fault, Kind, Scope, Space, exhaust};

pub(crate) fn world(kind: Kind) -> Scope {
    Scope {
        kind,
        transactions: &[2],
        unreadable: None,
        refused: None,
        faults: 2,
        allowed: &[Fault::Crash, Fault::Move, Fault::Resend, Fault::Answer],
        broken: None,
    }
}

/// Two changes, of which one may be in the enricher's commit, and a topic that is made again. (The topic of a Redis whose
/// copy has nothing is not: so the copying counts as one of the faults.)
pub(crate) fn adopted_world(kind: Kind) -> Scope {
    Scope {
        transactions: &[1, 1],
        faults: 2,
        allowed: &[Fault::Recreate, Fault::Store],
        ..world(kind)
    }
}

/// A world that has become trivial would prove nothing: it must be at least this large.
fn visit(scope: &Scope, states: usize) -> Space {
    let begun = Instant::now();
    let space = exhaust(scope).unwrap_or_else(|failure| panic!("{failure}"));
    eprintln!("{:?}: {space:?} in {:?}", scope.kind, begun.elapsed());
    assert!(
        space.states >= states,
        "{space:?}: fewer than {states} states"
    );
    assert!(space.ends > 5 && space.depth > 20, "{space:?}");
    space
}

#[test]
fn one_change_and_two_faults_before_clickhouse_leave_nothing_lost_or_doubled() {
    let scope = Scope {
        transactions: &[1],
        ..world(Kind::ClickHouse)
    };
    visit(&scope, 20_000);
}

#[test]
fn a_row_that_clickhouse_refuses_ends_in_the_dead_letters_and_the_other_in_the_table() {
    let scope = Scope {
        refused: Some(0),
        faults: 1,
        ..world(Kind::ClickHouse)
    };
    visit(&scope, 30_000);
}

#[test]
fn one_change_and_two_faults_before_redis_leave_nothing_lost_or_counted_twice() {
    let scope = Scope {
        transactions: &[1],
        ..world(Kind::Redis)
    };
    visit(&scope, 10_000);
}

#[test]
fn one_change_and_two_faults_before_a_webhook_leave_nothing_undelivered() {
    let scope = Scope {
        transactions: &[1],
        ..world(Kind::Webhook)
    };
    visit(&scope, 5_000);
}

#[test]
fn a_topic_that_is_made_again_and_adopted_leaves_nothing_doubled_and_loses_only_what_was_named() {
    visit(&adopted_world(Kind::Redis), 1_000);
    visit(&adopted_world(Kind::Webhook), 1_000);
    visit(&adopted_world(Kind::ClickHouse), 1_000);
}
