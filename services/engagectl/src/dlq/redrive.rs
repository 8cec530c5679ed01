//! `engagectl dlq redrive`: the plan, and what is sent.
//!
//! Invariant: the plan that is printed is the one that is carried out, and without `--execute` nothing is written anywhere.

mod copies;
mod earlier;
mod judge;
mod presence;
mod progress;
mod readers;
mod send;
mod sent;
mod settle;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use engagement::event::Micros;
use serde_json::{Value, json};
use service::{Exit, Failure};
use tokio_util::sync::CancellationToken;

pub(super) use judge::{Facts, Reader, Refusal, Verdict};
pub(super) use progress::Progress;

use super::args::RedriveArgs;
use super::filter::Filter;
use super::topics::{Found, Keep, Summary, find};
use crate::Outcome;
use crate::cli::Output;
use crate::config::Config;
use send::Sender;
use sent::Sent;

/// Letters of one partition that are sent, in their order, and where to.
#[derive(Debug)]
pub(super) struct Work<'a> {
    /// Dead-letter topic and partition.
    partition: (&'a str, i32),
    target: &'a str,
    letters: Vec<&'a Summary>,
}

/// What is to be done with all letters found.
#[derive(Debug, Default)]
struct Plan<'a> {
    work: Vec<Work<'a>>,
    to_send: u64,
    done: u64,
    /// By consumer and refusal: how many, and one of them.
    refused: BTreeMap<(String, Refusal), (u64, &'a Summary)>,
    /// Letters of the enricher are among those sent.
    to_enricher: bool,
}

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
    let keep = match args.again {
        true => Keep::All,
        false => Keep::Unsent,
    };
    let found = find(&config.kafka, &filter, keep, Reader::of(config)).await?;
    let facts = Facts {
        cdc: config.topics.cdc.clone(),
        enriched: config.topics.enriched.clone(),
        backfill: config.topics.backfill.clone(),
        readers: readers::with_a_position(config).await?,
        max_redrives: args.max_redrives,
        again: args.again,
    };
    let verdicts: Vec<Verdict> = verdicts(&found, &facts);
    let plan = plan(&found, &verdicts);
    if !args.execute {
        crate::cli::print(&match output {
            Output::Table => text(&plan, found.more, None),
            Output::Json => format!("{:#}\n", value(&plan, found.more, None)),
        });
        return Ok(Outcome(None));
    }
    let (begun, sender) = (
        service::clock::now(),
        Sender::open(config, args, plan.to_send, stop.clone())?,
    );
    let mut sent = sender.send(&plan.work, &found).await?;
    let settled = settle::settle(config, &sent, Micros(begun), args.wait, &stop);
    sent.settled = settled.await?;
    crate::cli::print(&match output {
        Output::Table => text(&plan, found.more, Some(&sent)),
        Output::Json => format!("{:#}\n", value(&plan, found.more, Some(&sent))),
    });
    Ok(Outcome(exit(&plan, &sent, found.more)))
}

fn exit(plan: &Plan<'_>, sent: &Sent, more: u64) -> Option<Exit> {
    let settled = sent.sent + sent.found + sent.failed.len() as u64;
    if settled < plan.to_send || more > 0 {
        return Some(Exit::TryAgain);
    }
    let is_good = sent.failed.is_empty() && sent.settled.is_good();
    (!is_good).then_some(Exit::Repair)
}

fn verdicts(found: &Found, facts: &Facts) -> Vec<Verdict> {
    let letters = found.letters.iter();
    letters
        .map(|letter| facts.judge(letter, found.sent_to(letter)))
        .collect()
}

/// Letters stand by topic and partition, so each partition's are together.
fn plan<'a>(found: &'a Found, verdicts: &'a [Verdict]) -> Plan<'a> {
    let mut plan = Plan {
        done: found.done,
        ..Plan::default()
    };
    for (letter, verdict) in found.letters.iter().zip(verdicts) {
        match verdict {
            Verdict::Done(_) => plan.done += 1,
            Verdict::Refused(refusal) => {
                let group = (letter.consumer(), refusal.clone());
                plan.refused.entry(group).or_insert((0, letter)).0 += 1;
            }
            Verdict::Send(target) => {
                plan.to_send += 1;
                plan.to_enricher |= letter.service == "enricher";
                let partition = (letter.at.topic.as_str(), letter.at.partition);
                match plan.work.last_mut() {
                    Some(work) if work.partition == partition => work.letters.push(letter),
                    _ => plan.work.push(Work {
                        partition,
                        target,
                        letters: vec![letter],
                    }),
                }
            }
        }
    }
    plan
}

/// How many letters go where.
fn targets<'a>(plan: &Plan<'a>) -> BTreeMap<(String, &'a str), u64> {
    let mut targets = BTreeMap::new();
    for work in &plan.work {
        for letter in &work.letters {
            *targets.entry((letter.consumer(), work.target)).or_insert(0) += 1;
        }
    }
    targets
}

const NOT_IN_REDIS: &str = "Redis leaves redriven events out: it keeps no ids, and would count them twice if they were ever sent twice";

fn text(plan: &Plan<'_>, more: u64, sent: Option<&Sent>) -> String {
    let mut text = String::new();
    for ((consumer, target), count) in targets(plan) {
        let _ = writeln!(text, "{count:>7}  {consumer:<24} to {target}");
    }
    for ((consumer, refusal), (count, sample)) in &plan.refused {
        let _ = writeln!(
            text,
            "{count:>7}  {consumer:<24} stay: {refusal}\n         such as {}\n         {}",
            sample.at,
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
    if more > 0 {
        let _ = writeln!(
            text,
            "{more:>7}  more were not looked at: run it again after these, or narrow it (--since, --until, --reason, --origin)"
        );
    }
    if plan.to_enricher {
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

fn value(plan: &Plan<'_>, more: u64, sent: Option<&Sent>) -> Value {
    let targets: Vec<Value> = targets(plan)
        .into_iter()
        .map(|((consumer, target), count)| json!({ "service": consumer, "topic": target, "letters": count }))
        .collect();
    let refused: Vec<Value> = plan
        .refused
        .iter()
        .map(|((consumer, refusal), (count, sample))| {
            json!({
                "service": consumer, "letters": count, "why": refusal.to_string(), "remedy": refusal.remedy(),
                "sample": sample.at.to_string(),
            })
        })
        .collect();
    json!({
        "to_send": plan.to_send,
        "targets": targets,
        "refused": refused,
        "redriven_before": plan.done,
        "not_looked_at": more,
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
    use crate::dlq::list::tests::summary;

    fn found() -> Found {
        let mut other = summary(4, "refused");
        other.at.partition = 4;
        other.origin = "cdc/4/9".parse().ok();
        let mut redis = summary(5, "duration");
        redis.service = "redis-aggregator".into();
        Found {
            letters: vec![summary(1, "a"), summary(2, "a"), other, redis],
            ..Found::default()
        }
    }

    fn facts() -> Facts {
        Facts {
            cdc: "cdc".into(),
            enriched: "enriched".into(),
            backfill: "backfill".into(),
            readers: ["enricher".to_owned()].into(),
            max_redrives: 3,
            again: false,
        }
    }

    #[test]
    fn the_plan_groups_what_goes_by_partition_and_what_stays_by_reason() {
        let found = found();
        let verdicts = verdicts(&found, &facts());
        let plan = plan(&found, &verdicts);
        let work: Vec<_> = plan
            .work
            .iter()
            .map(|work| (work.partition.1, work.letters.len()))
            .collect();
        assert_eq!(work, [(3, 2), (4, 1)]);
        let text = text(&plan, 0, None);
        assert!(
            text.contains("3  enricher                 to cdc"),
            "{text}"
        );
        assert!(text.contains("1  redis-aggregator         stay: redis-aggregator keeps no ids"));
        assert!(text.contains("--execute sends 3 letters"));
        assert!(text.contains(NOT_IN_REDIS));
        let value = value(&plan, 0, None);
        assert_eq!(
            (&value["to_send"], &value["executed"]),
            (&json!(3), &json!(false))
        );
        assert_eq!(value["refused"][0]["letters"], 1);
    }

    #[test]
    fn a_run_that_was_stopped_says_try_again_and_one_with_a_failure_repair() {
        let found = found();
        let verdicts = verdicts(&found, &facts());
        let plan = plan(&found, &verdicts);
        let sent = |sent, failed: &[&str]| Sent {
            sent,
            found: 0,
            failed: failed
                .iter()
                .map(|text| (summary(1, "a").at, (*text).to_owned()))
                .collect(),
            ..Sent::default()
        };
        assert_eq!(exit(&plan, &sent(3, &[]), 0), None);
        assert_eq!(exit(&plan, &sent(2, &[]), 0), Some(Exit::TryAgain));
        assert_eq!(exit(&plan, &sent(2, &["too large"]), 0), Some(Exit::Repair));
        assert_eq!(exit(&plan, &sent(3, &[]), 7), Some(Exit::TryAgain));
        let mut dropped = sent(3, &[]);
        dropped.settled.dropped = 1;
        assert_eq!(exit(&plan, &dropped, 0), Some(Exit::Repair));
    }
}
