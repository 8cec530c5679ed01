//! Each rule is broken once, and the model must find what it prevents.

use models::{Failure, Fault, Kind, Rule, Scope, Violation, exhaust, search};

use crate::exhaustive::{adopted_world, world};

/// What goes wrong, by the shortest of the traces found.
fn without(rule: Rule, kind: Kind) -> Failure {
    let failure = search(rule, kind, 20_000);
    let failure = failure.unwrap_or_else(|| panic!("nothing goes wrong without {rule:?}"));
    eprintln!("without {rule:?}: {failure}");
    failure
}

fn doubles(rule: Rule, kind: Kind) {
    let failure = without(rule, kind);
    assert!(
        matches!(
            failure.violation,
            Violation::Doubled(_) | Violation::Chain(_)
        ),
        "{failure}"
    );
}

fn loses(rule: Rule, kind: Kind) {
    let failure = without(rule, kind);
    assert!(matches!(failure.violation, Violation::Lost(_)), "{failure}");
}

#[test]
fn an_enricher_that_trusts_the_committed_offset_doubles_or_loses() {
    let failure = without(Rule::ResumeFromTail, Kind::Redis);
    assert!(failure.trace.len() < 30, "{failure}");
}

#[test]
fn without_the_proof_of_the_resume_point_a_recreated_topic_loses_changes() {
    loses(Rule::ResumeProof, Kind::ClickHouse);
}

/// The change topic is made again and adopted: its first records have the offsets of what was read long ago.
#[test]
fn readers_that_do_not_compare_the_epoch_lose_what_comes_after_an_adoption() {
    for kind in [Kind::ClickHouse, Kind::Redis, Kind::Webhook] {
        let failure = without(Rule::Epoch, kind);
        assert!(matches!(failure.violation, Violation::Lost(_)), "{failure}");
    }
}

/// What a reader had done beyond the enricher's commit comes again; at other positions it would not be known.
#[test]
fn a_recreated_output_that_is_adopted_into_a_new_epoch_doubles_what_was_read_ahead_of_the_commit() {
    for kind in [Kind::ClickHouse, Kind::Redis] {
        let scope = Scope {
            broken: Some(Rule::SamePositions),
            ..adopted_world(kind)
        };
        let failure = exhaust(&scope).expect_err("it is doubled");
        eprintln!("without SamePositions: {failure}");
        assert!(
            matches!(failure.violation, Violation::Doubled(_)),
            "{failure}"
        );
    }
}

/// What the old change topic had is sent again into the new one.
#[test]
fn a_change_topic_that_is_adopted_without_the_mark_doubles_what_is_sent_again() {
    doubles(Rule::KeptMark, Kind::ClickHouse);
    doubles(Rule::KeptMark, Kind::Redis);
}

#[test]
fn without_the_set_at_the_mark_a_change_that_is_sent_again_is_doubled() {
    doubles(Rule::EqualSet, Kind::Redis);
}

#[test]
fn without_the_first_acknowledgement_alone_the_first_record_can_be_lost() {
    loses(Rule::FirstAlone, Kind::ClickHouse);
}

#[test]
fn a_dead_letter_of_the_enricher_that_is_late_can_be_lost() {
    loses(Rule::LetterFirst, Kind::Webhook);
}

#[test]
fn without_the_one_comparison_a_zombie_doubles() {
    doubles(Rule::LineageCheck, Kind::ClickHouse);
    doubles(Rule::LineageCheck, Kind::Redis);
}

#[test]
fn an_offset_that_moves_before_the_effect_loses_it() {
    loses(Rule::EffectFirst, Kind::ClickHouse);
    loses(Rule::EffectFirst, Kind::Webhook);
}

#[test]
fn a_doubtful_batch_that_is_sent_again_without_reading_back_is_doubled() {
    doubles(Rule::ReadBack, Kind::ClickHouse);
}

#[test]
fn reading_back_without_killing_the_insert_doubles() {
    doubles(Rule::KillFirst, Kind::ClickHouse);
}

#[test]
fn an_insert_that_writes_whoever_has_the_partition_doubles() {
    doubles(Rule::Fence, Kind::ClickHouse);
}

/// A member that stands still with its batch planned, while the partition moves: nothing but the fence tells it.
#[test]
fn without_the_fence_a_standstill_doubles() {
    let scope = Scope {
        transactions: &[1],
        faults: 1,
        allowed: &[Fault::Move],
        broken: Some(Rule::Fence),
        ..world(Kind::ClickHouse)
    };
    let failure = exhaust(&scope).expect_err("it is doubled");
    eprintln!("{failure}");
    assert_eq!(failure.violation, Violation::Doubled(0));
}

/// An answer that is lost, while the insert is still on its way.
#[test]
fn without_the_fence_a_late_insert_of_ones_own_doubles() {
    let scope = Scope {
        transactions: &[1],
        faults: 1,
        allowed: &[Fault::Answer],
        broken: Some(Rule::Fence),
        ..world(Kind::ClickHouse)
    };
    let failure = exhaust(&scope).expect_err("it is doubled");
    eprintln!("{failure}");
    assert_eq!(failure.violation, Violation::Doubled(0));
}

#[test]
fn an_offset_that_passes_a_refused_record_before_its_letter_loses_it() {
    loses(Rule::SinkLetterFirst, Kind::Webhook);
}

#[test]
fn a_script_that_adds_without_comparing_doubles() {
    doubles(Rule::CompareAndSet, Kind::Redis);
}

#[test]
fn a_commit_of_the_highest_instead_of_the_contiguous_offset_loses_or_stops() {
    let failure = without(Rule::Frontier, Kind::Webhook);
    assert!(
        matches!(
            failure.violation,
            Violation::Lost(_) | Violation::Stopped(_)
        ),
        "{failure}"
    );
}

/// A broker that loses an acknowledged record: the hole stops the readers, and without the check nothing does.
#[test]
fn without_the_check_for_holes_a_record_that_the_broker_lost_is_not_missed() {
    let cut = Scope {
        transactions: &[1, 1, 1],
        faults: 1,
        allowed: &[Fault::Truncate],
        ..world(Kind::Redis)
    };
    let kept = exhaust(&cut).unwrap_or_else(|failure| panic!("{failure}"));
    assert!(kept.states > 1000, "{kept:?}");
    let broken = Some(Rule::HoleCheck);
    let failure = exhaust(&Scope { broken, ..cut }).expect_err("the loss is not noticed");
    eprintln!("without HoleCheck: {failure}");
    assert!(matches!(failure.violation, Violation::Lost(_)), "{failure}");
}

/// The shortest trace there is, from the exhaustive search.
#[test]
fn the_exhaustive_search_finds_the_shortest_way_to_double_a_row() {
    let scope = Scope {
        transactions: &[1],
        broken: Some(Rule::KillFirst),
        ..world(Kind::ClickHouse)
    };
    let failure = exhaust(&scope).expect_err("it is doubled");
    eprintln!("{failure}");
    assert_eq!(failure.violation, Violation::Doubled(0));
    assert!(failure.trace.len() < 25, "{failure}");
}
