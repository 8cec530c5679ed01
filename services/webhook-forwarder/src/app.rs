//! The process: one consumer per endpoint, none of which can touch another.
//!
//! Invariant: an endpoint that ends, for whatever reason, ends alone; the process ends when it is
//! told to or when no endpoint is left.

use std::sync::Arc;

use service::metrics::Metric;
use service::{App, Condition, Context, Failure, Finding};
use stream::dead_letter::DeadLetters;
use stream::settings::InboxLimits;

use stream::{KafkaSettings, LanesOptions, RunError, Status, lanes};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, ENV, Input};
use crate::endpoint::Endpoint;
use crate::enrol::{EnrolError, Enrolment, enrol};
use crate::historical::Historical;
use crate::runtime::Runtime;
use crate::{check, endpoints, lane};

/// What librdkafka holds per partition: a request per record needs no deep queue.
const INBOX: InboxLimits = InboxLimits {
    records: 200,
    kib: 128,
    fetch_kib: 128,
};

/// The service.
pub struct WebhookForwarder;

impl App for WebhookForwarder {
    const NAME: &str = crate::NAME;
    const ABOUT: &str =
        "Sends enriched events to webhook endpoints, in order per content, at least once";
    const ADMIN_PORT: u16 = 9104;
    const ENV: &'static [service::config::EnvKey] = ENV;
    const METRICS: &'static [&'static [Metric]] = &[
        stream::metrics::READER,
        stream::metrics::PRODUCER,
        crate::metrics::OWN,
    ];
    type Config = Config;

    async fn run(config: Config, ctx: Context) -> Result<(), Failure> {
        let endpoints = judged(&config)?;
        let topic = &config.input.dead_letter_topic;
        let dead_letters = DeadLetters::with_topic(&config.kafka, crate::NAME, topic)
            .map_err(|error| failure(RunError::Settings(error), "the dead letters"))?;
        let source = (config.kafka.clone(), config.input.clone());
        let mut running = JoinSet::new();
        for endpoint in endpoints {
            let name = endpoint.name.clone();
            let condition = ctx.health.condition(format!("endpoint {name}"));
            let started = condition.clone();
            let work = host(
                endpoint,
                source.clone(),
                dead_letters.clone(),
                ctx.clone(),
                started,
            );
            running.spawn(async move {
                let outcome = tokio::spawn(work)
                    .await
                    .unwrap_or_else(|panic| Err(panicked(&panic)));
                ended(&name, &condition, &outcome);
                outcome
            });
        }
        supervise(running).await
    }

    async fn check(config: &Config) -> Vec<Finding> {
        check::check(config).await
    }
}

/// The endpoints, or all problems in one failure.
fn judged(config: &Config) -> Result<Vec<Endpoint>, Failure> {
    endpoints::judge(config).map_err(|problems| {
        let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
        Failure::usage("the endpoints are not usable")
            .cause(lines.join("\n"))
            .remedy("correct what is named above")
            .next(format!("{} check", crate::NAME))
    })
}

/// Waits for all endpoints; the gravest failure is the process's, if nothing is left to do.
async fn supervise(mut running: JoinSet<Result<(), Failure>>) -> Result<(), Failure> {
    let mut worst: Option<Failure> = None;
    while let Some(joined) = running.join_next().await {
        let outcome = joined.unwrap_or_else(|panic| Err(panicked(&panic)));
        if let Err(failure) = outcome
            && worst
                .as_ref()
                .is_none_or(|worst| worst.exit() < failure.exit())
        {
            worst = Some(failure);
        }
    }
    worst.map_or(Ok(()), Err)
}

fn panicked(panic: &JoinError) -> Failure {
    Failure::internal("an endpoint's task panicked").cause(panic.to_string())
}

fn ended(name: &str, condition: &Condition, outcome: &Result<(), Failure>) {
    let Err(failure) = outcome else { return };
    let causes = failure.causes().join(": ");
    condition.not_ready(format!("{}: {causes}", failure.what()));
    tracing::error!(
        endpoint = name,
        error = failure.what(),
        cause = causes,
        remedy = failure.remedy_text(),
        "endpoint ended, the others go on"
    );
}

/// One endpoint from its first position to its end.
async fn host(
    endpoint: Endpoint,
    (kafka, input): (KafkaSettings, Input),
    dead_letters: DeadLetters,
    ctx: Context,
    started: Condition,
) -> Result<(), Failure> {
    let stop = ctx.lifecycle.soft();
    let place = format!("endpoint {}", endpoint.name);
    let options = lanes_of(&endpoint, kafka, &input);
    let enrolment = Enrolment {
        settings: options.settings.clone(),
        group: options.group.clone(),
        topic: options.topic.clone(),
        start: endpoint.start,
        patience: options.startup,
    };
    let runtime = runtime(endpoint, options.group.clone(), dead_letters)?;
    let past = Historical::of(&runtime, &options, input.backfill_topic);
    let status = Arc::new(Status::default());
    let over = CancellationToken::new();
    watch(&ctx, &runtime, &status, over.clone());
    let _over = over.drop_guard();
    enrol(enrolment, &stop)
        .await
        .map_err(|error| not_enrolled(error, &place))?;
    started.ready();
    let beside = stop.child_token();
    let live = async {
        let work = move |handle| lane::run(Arc::clone(&runtime), handle);
        let ended = lanes::run(options, stop, status, work).await;
        beside.cancel();
        ended
    };
    let (ended, ()) = tokio::join!(live, historical(past, &ctx, beside.clone()));
    ended.map_err(|error| failure(error, &place))
}

/// Delivers what is historical, where that is wanted.
async fn historical(past: Option<Historical>, ctx: &Context, stop: CancellationToken) {
    if let Some(past) = past {
        past.run(ctx, stop).await;
    }
}

/// How the group of an endpoint reads.
fn lanes_of(endpoint: &Endpoint, kafka: KafkaSettings, input: &Input) -> LanesOptions {
    let group = format!("{}.{}", input.group_id, endpoint.name);
    let mut options = LanesOptions::new(kafka, &group, &input.enriched_topic, service::clock::now);
    options.inbox = INBOX;
    options.drain = options.drain.max(endpoint.timeout + lane::DRAIN_MARGIN);
    options
}

fn runtime(
    endpoint: Endpoint,
    group: String,
    dead_letters: DeadLetters,
) -> Result<Arc<Runtime>, Failure> {
    tracing::info!(
        endpoint = endpoint.name,
        group,
        origin = endpoint.origin(),
        secrets = endpoint.keys.len(),
        profile = %endpoint.shape.profile,
        "endpoint starts"
    );
    if endpoint.keys.is_empty() {
        tracing::warn!(
            endpoint = endpoint.name,
            "no secret is configured: messages are not signed"
        );
    }
    let name = endpoint.name.clone();
    let runtime = Runtime::new(endpoint, group, dead_letters).map_err(|error| {
        Failure::usage(format!("endpoint {name}: the HTTP client cannot be built"))
            .cause(error)
            .remedy("install the system's root certificates (package ca-certificates)")
    })?;
    Ok(Arc::new(runtime))
}

/// What `/readyz` and `/livez` say about an endpoint. One that has ended is not stuck: a restart of
/// the process, which `/livez` asks for, would only disturb the others.
fn watch(ctx: &Context, runtime: &Arc<Runtime>, status: &Arc<Status>, over: CancellationToken) {
    let name = &runtime.endpoint.name;
    let (ready, live) = (Arc::clone(status), Arc::clone(status));
    ctx.health
        .readiness(format!("endpoint {name}: kafka"), move || ready.readiness());
    ctx.health
        .liveness(format!("endpoint {name}: kafka"), move || {
            if over.is_cancelled() {
                Ok(())
            } else {
                live.liveness()
            }
        });
    let runtime = Arc::clone(runtime);
    ctx.health
        .readiness(format!("endpoint {name}: receiver"), move || {
            runtime.gate.trouble().map_or(Ok(()), Err)
        });
}

fn not_enrolled(error: EnrolError, place: &str) -> Failure {
    match error {
        EnrolError::Broker(error) => failure(error, place),
        lost @ EnrolError::Lost { .. } => {
            Failure::repair(format!("{place} has lost its positions"))
                .cause(lost)
                .remedy("set start = \"latest\" or \"earliest\" to begin anew")
        }
    }
}

fn failure(error: RunError, place: &str) -> Failure {
    let remedy = error.remedy().into_owned();
    Failure::new(error.kind().into(), format!("{place} cannot go on"))
        .cause(error)
        .remedy(remedy)
}
