//! `engagectl reset`: where a consumer group goes on.
//!
//! Invariant: nothing is written without `--execute`, nor while the group has members, nor for a group whose service does not go by
//! its offset; and what is written is what the service itself would have committed there.

mod args;
pub(crate) mod group;
pub(crate) mod plan;

use std::time::Duration;

use service::Failure;

pub use args::ResetArgs;

use crate::Outcome;
use crate::cli::Output;
use crate::config::Config;
use crate::groups::Watched;
pub(crate) use args::Target;
use group::Group;
use plan::{Kind, Plan};

/// Plans, prints, and with `--execute` writes.
///
/// # Errors
/// What is asked for cannot be (64), the broker does not answer (69), or the group is at work (75).
pub(crate) async fn run(
    config: &Config,
    args: &ResetArgs,
    output: Output,
) -> Result<Outcome, Failure> {
    let target = args.target()?;
    let kind = Kind::of(&args.group, &config.groups);
    let topic = args.topic.clone().unwrap_or_else(|| {
        let watched = Watched::of(config, "engagectl-reset");
        watched.topic_of(&args.group).clone()
    });
    let group = Group::new(&config.kafka, &args.group, &topic);
    let members = group.members().await?;
    if kind.goes_by_its_offset() && members.is_empty() && !args.create && !group.is_known().await? {
        return Err(unknown(&args.group, &topic));
    }
    let plan = Plan {
        members,
        partitions: moves(&group, args, target, &kind).await?,
        group: args.group.clone(),
        topic,
        kind,
    };
    if args.execute {
        plan.may_be_written()?;
        group.commit(&plan.changes()).await?;
    }
    crate::cli::print(&match output {
        Output::Table => plan.text(args.execute),
        Output::Json => format!("{:#}\n", plan.value(args.execute)),
    });
    Ok(Outcome(None))
}

/// More likely a name that is misspelt than a group that is to be.
fn unknown(group: &str, topic: &str) -> Failure {
    Failure::usage(format!("group {group} has neither a commit on {topic} nor a member"))
        .remedy("correct --group or --topic; --create gives a group that has lost its commits, or is new, its first ones")
        .next("engagectl lag")
}

/// How long the broker may take for one answer.
const ASK: Duration = Duration::from_secs(10);

async fn moves(
    group: &Group,
    args: &ResetArgs,
    target: Target,
    kind: &Kind,
) -> Result<Vec<plan::Move>, Failure> {
    let facts = group.facts(args.partition, target).await?;
    let mut moves = Vec::with_capacity(facts.len());
    for fact in facts {
        let before = match kind {
            Kind::Enricher | Kind::Aggregates => Vec::new(),
            _ => group.before(&fact).await?,
        };
        moves.push(plan::moved(fact, &before, kind)?);
    }
    Ok(moves)
}
