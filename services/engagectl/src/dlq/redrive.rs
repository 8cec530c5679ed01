//! `engagectl dlq redrive`: the plan, and what is sent.
//!
//! Invariant: the plan that is printed is the one that is carried out, and without `--execute` nothing is written anywhere.

mod copies;
mod earlier;
mod judge;
mod plan;
mod presence;
mod progress;
mod readers;
mod send;
mod sent;
mod settle;

use std::fmt::Write as _;

use engagement::event::Micros;
use serde_json::{Value, json};
use service::{Exit, Failure};
use stream::dead_letter::Letter;
use tokio_util::sync::CancellationToken;

pub(super) use progress::Progress;

use super::args::RedriveArgs;
use super::filter::Filter;
use super::topics::{Known, Marks, fold};
use crate::Outcome;
use crate::cli::Output;
use crate::config::Config;
use judge::{Facts, Reader};
use plan::{MOST, Plan, Refused};
use send::Sender;
use sent::Sent;

/// Plans, prints, and with `--execute` sends.
///
/// # Errors
/// See [`super::run`].
pub(super) async fn run(
    config: &Config,
    args: &RedriveArgs,
    output: Output,
    stop: CancellationToken,
) -> Result<Outcome, Failure> {
    let filter = Filter::of(&args.filter, service::clock::now())?;
    let facts = Facts {
        cdc: config.topics.cdc.clone(),
        enriched: config.topics.enriched.clone(),
        backfill: config.topics.backfill.clone(),
        readers: readers::with_a_position(config).await?,
        max_redrives: args.max_redrives,
        again: args.again,
    };
    let reader = Reader::of(config);
    let take = move |plan: &mut Plan, known: &Known, letter: Letter| {
        let done = known.sent_to(&letter.at);
        plan.take(&facts, &reader, letter, done);
    };
    let planned = fold(&config.kafka, &filter, Marks::First, Plan::default(), take);
    let (plan, known) = planned.await?;
    if !args.execute {
        print(&plan, None, output);
        return Ok(Outcome(None));
    }
    if args.again && plan.more > 0 {
        return Err(Failure::usage(format!(
            "{} letters pass, and --again, which does not remember what it has sent, sends {MOST} at most",
            plan.to_send + plan.more
        ))
        .remedy("narrow it: --since, --until, --reason, --origin"));
    }
    let (begun, sender) = (
        service::clock::now(),
        Sender::open(config, args, plan.to_send, stop.clone())?,
    );
    let mut sent = sender.send(plan.work(), &known).await?;
    let settled = settle::settle(config, &sent, Micros(begun), args.wait, &stop);
    sent.settled = settled.await?;
    print(&plan, Some(&sent), output);
    Ok(Outcome(exit(&plan, &sent)))
}

fn print(plan: &Plan, sent: Option<&Sent>, output: Output) {
    crate::cli::print(&match output {
        Output::Table => text(plan, sent),
        Output::Json => format!("{:#}\n", value(plan, sent)),
    });
}

fn exit(plan: &Plan, sent: &Sent) -> Option<Exit> {
    let settled = sent.sent + sent.found + sent.failed.len() as u64;
    if settled < plan.to_send || plan.more > 0 {
        return Some(Exit::TryAgain);
    }
    let is_good = sent.failed.is_empty() && sent.settled.is_good();
    (!is_good).then_some(Exit::Repair)
}

const NOT_IN_REDIS: &str = "Redis leaves redriven events out: it keeps no ids, and would count them twice if they were ever sent twice";

fn text(plan: &Plan, sent: Option<&Sent>) -> String {
    let mut text = String::new();
    let targets = plan.targets();
    for ((consumer, target), count) in &targets {
        let _ = writeln!(text, "{count:>7}  {consumer:<24} to {target}");
    }
    for ((consumer, refusal), Refused { letters, sample }) in &plan.refused {
        let (at, message) = sample;
        let message = message.as_deref().map_or_else(String::new, |message| {
            format!(": {}", super::list::one_line(message))
        });
        let _ = writeln!(
            text,
            "{letters:>7}  {consumer:<24} stay: {refusal}\n         such as {at}{message}\n         {}",
            refusal.remedy()
        );
    }
    if plan.done > 0 {
        let _ = writeln!(
            text,
            "{:>7}  were redriven before (--again sends them again)",
            plan.done
        );
    }
    if plan.more > 0 {
        let _ = writeln!(
            text,
            "{:>7}  more would be sent: run it again after these, or narrow it (--since, --until, --reason, --origin)",
            plan.more
        );
    }
    if targets.keys().any(|(consumer, _)| consumer == "enricher") {
        let _ = writeln!(text, "{NOT_IN_REDIS}");
    }
    let _ = match sent {
        None if plan.to_send == 0 => writeln!(text, "nothing to send"),
        None => writeln!(
            text,
            "nothing was sent; --execute sends {} letters",
            plan.to_send
        ),
        Some(sent) => writeln!(text, "{}", sent.text(plan.to_send)),
    };
    text
}

fn value(plan: &Plan, sent: Option<&Sent>) -> Value {
    let targets: Vec<Value> = plan
        .targets()
        .into_iter()
        .map(|((consumer, target), count)| json!({ "service": consumer, "topic": target, "letters": count }))
        .collect();
    let refused: Vec<Value> = plan
        .refused
        .iter()
        .map(|((consumer, refusal), Refused { letters, sample })| {
            let (at, message) = sample;
            json!({
                "service": consumer, "letters": letters, "why": refusal.to_string(), "remedy": refusal.remedy(),
                "sample": at.to_string(), "message": message,
            })
        })
        .collect();
    json!({
        "to_send": plan.to_send,
        "targets": targets,
        "refused": refused,
        "redriven_before": plan.done,
        "more": plan.more,
        "executed": sent.is_some(),
        "sent": sent.map(|sent| sent.sent),
        "found_sent": sent.map(|sent| sent.found),
        "failed": sent.map(Sent::failures),
        "became": sent.map(|sent| sent.settled.value()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dlq::testing::{LetterOf, letter};

    const CHANGE: &[u8] = br#"{"op":"c","after":{"id":7,"content_id":"c1","event_type":"play","event_ts":"2026-01-08T14:21:52Z"},"source":{"lsn":5,"sequence":"[\"4\",\"5\"]","txId":1,"ts_ms":1767882112000}}"#;

    /// Two letters of partition 3, one of partition 4, one of Redis, and two that would be given up again for two values.
    fn planned() -> Plan {
        let facts = Facts {
            cdc: "cdc".into(),
            enriched: "enriched".into(),
            backfill: "backfill".into(),
            readers: ["enricher".to_owned()].into(),
            max_redrives: 3,
            again: false,
        };
        let reader = Reader::of(&Config::default());
        let of = |service, payload, partition, offset| {
            let mut letter = letter(&LetterOf {
                service,
                payload,
                ..LetterOf::default()
            });
            letter.at.partition = partition;
            letter.at.offset = offset;
            letter.origin = format!("cdc/{partition}/9").parse().ok();
            letter
        };
        let mut plan = Plan::default();
        for letter in [
            of("enricher", CHANGE, 3, 1),
            of("enricher", CHANGE, 4, 7),
            of("enricher", CHANGE, 3, 2),
            of("redis-aggregator", CHANGE, 3, 5),
            of("enricher", b"{\"op\":", 3, 3),
            of("enricher", b"{\"op\":\"c\",", 3, 4),
        ] {
            plan.take(&facts, &reader, letter, None);
        }
        plan
    }

    #[test]
    fn the_plan_groups_what_goes_by_partition_and_what_stays_by_reason() {
        let plan = planned();
        let work: Vec<_> = plan
            .work()
            .map(|work| (work.partition.1, work.letters.len()))
            .collect();
        assert_eq!(work, [(3, 2), (4, 1)]);
        let text = text(&plan, None);
        for part in [
            "3  enricher                 to cdc",
            "1  redis-aggregator         stay: redis-aggregator keeps no ids",
            "2  enricher                 stay: the enricher would give it up again: malformed_json\n",
            "such as engagement.dlq.enricher/3/3: ",
            "--execute sends 3 letters",
            NOT_IN_REDIS,
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let value = value(&plan, None);
        assert_eq!(
            (&value["to_send"], &value["executed"]),
            (&json!(3), &json!(false))
        );
        assert_eq!(value["refused"][0]["letters"], 2);
    }

    #[test]
    fn a_run_that_was_stopped_says_try_again_and_one_with_a_failure_repair() {
        let plan = planned();
        let sent = |sent, failed: &[&str]| Sent {
            sent,
            found: 0,
            failed: failed
                .iter()
                .map(|text| ("dlq/3/1".parse().unwrap(), (*text).to_owned()))
                .collect(),
            ..Sent::default()
        };
        assert_eq!(exit(&plan, &sent(3, &[])), None);
        assert_eq!(exit(&plan, &sent(2, &[])), Some(Exit::TryAgain));
        assert_eq!(exit(&plan, &sent(2, &["too large"])), Some(Exit::Repair));
        let mut dropped = sent(3, &[]);
        dropped.settled.dropped = 1;
        assert_eq!(exit(&plan, &dropped), Some(Exit::Repair));
        let mut more = planned();
        more.more = 7;
        assert_eq!(exit(&more, &sent(3, &[])), Some(Exit::TryAgain));
    }
}
