//! `engagectl trace`: one event's way from its commit into every sink.
//!
//! Invariant: it only reads, and joins no group; a store that does not answer is a note, not the end.

mod letters;
mod log;
mod show;
mod stores;
mod way;

use engagement::event::Micros;
use service::Failure;
use service::traces::SpanContext;
use stream::trace;

use crate::cli::{Output, TraceArgs};
use crate::config::Config;
use crate::jaeger::Jaeger;
use letters::Letter;
use log::{Found, Log};
use stores::{Received, Row};
use way::{Change, Step, Way};

/// Looks the event up everywhere and prints its way.
///
/// # Errors
/// The event is nowhere (64), or Kafka cannot be asked (69).
pub(crate) async fn run(config: &Config, args: &TraceArgs, output: Output) -> Result<(), Failure> {
    let way = look(config, args).await?;
    crate::cli::print(&match output {
        Output::Table => show::text(&way),
        Output::Json => format!("{}\n", show::json(&way)),
    });
    Ok(())
}

async fn look(config: &Config, args: &TraceArgs) -> Result<Way, Failure> {
    let mut notes = Vec::new();
    let in_postgres = stores::in_postgres(config, &args.event_id).await;
    let in_postgres = noted(in_postgres, &mut notes);
    let rows = stores::clickhouse_rows(config, &args.event_id).await;
    let rows = noted(rows, &mut notes);
    let (in_clickhouse, rows) = (rows.is_some(), rows.unwrap_or_default());
    let since = Micros(service::clock::now() - micros(args.since));
    let log = Log::open(config).await?;
    let found = log.find(&args.event_id, &rows, since).await?;
    let received = stores::received(args.receiver.as_ref(), &args.event_id).await;
    let received = noted(received, &mut notes).unwrap_or_default();
    let mut way = Way {
        event_id: args.event_id.clone(),
        in_postgres,
        changes: Vec::new(),
        notes,
    };
    let jaeger = Jaeger::at(config.jaeger.url.as_str());
    for found in found {
        let row = rows.iter().find(|row| row.is_of(&found.source));
        let receipts: Vec<_> = received.iter().filter(|one| one.is_of(&found)).collect();
        let sinks = Sinks {
            row,
            in_clickhouse,
            receipts: &receipts,
        };
        let mut change = change(config, &log, &found, &sinks).await?;
        spans(&jaeger, &mut change, &mut way.notes).await;
        way.changes.push(change);
    }
    if way.changes.is_empty()
        && let Some(place) = log.waiting(&args.event_id, since).await?
    {
        way.notes
            .push(format!("captured in {place}, and not enriched yet"));
        return Ok(way);
    }
    let event_key = config.database.schema.event_key();
    if way.changes.is_empty()
        && let Some(letter) = log.given_up(event_key, &args.event_id, since).await?
    {
        way.notes.push(given_up(&letter));
        return Ok(way);
    }
    known(way, args)
}

fn given_up(letter: &Letter) -> String {
    let Letter {
        service,
        kind,
        message,
        topic,
        partition,
        offset,
        ..
    } = letter;
    format!(
        "given up by {service}: {kind}, {message}; {topic}/{partition} offset {offset}, see engagectl dlq show {partition}:{offset} \
         --service {service}"
    )
}

/// What a store answered; why it did not is a note.
fn noted<T>(answer: Result<T, String>, notes: &mut Vec<String>) -> Option<T> {
    answer.map_err(|why| notes.push(why)).ok()
}

/// What the sinks said.
struct Sinks<'a> {
    row: Option<&'a Row>,
    in_clickhouse: bool,
    receipts: &'a [&'a Received],
}

/// An event that nobody knows is a mistake of whoever asks; one that is only in Postgres is on its way.
fn known(mut way: Way, args: &TraceArgs) -> Result<Way, Failure> {
    if !way.changes.is_empty() {
        return Ok(way);
    }
    let since = humantime::format_duration(args.since);
    if way.in_postgres == Some(true) {
        way.notes.push(format!(
            "it is committed, but neither in what Kafka wrote in the last {since} nor in ClickHouse; --since looks further back"
        ));
        return Ok(way);
    }
    let failure = Failure::usage(format!("no event {} is known", args.event_id));
    let failure = match way.notes.as_slice() {
        [] => failure,
        notes => failure.cause(notes.join("; ")),
    };
    Err(failure
        .remedy(format!(
            "it is not in engagement_events, not in ClickHouse, and not in what Kafka wrote in the last {since}; a deleted event may be \
             further back, see --since"
        ))
        .next(format!("engagectl trace {} --since 24h", args.event_id)))
}

async fn change(
    config: &Config,
    log: &Log,
    found: &Found,
    sinks: &Sinks<'_>,
) -> Result<Change, Failure> {
    let source = found.source;
    let incoming = found.context.clone();
    let sampled = incoming.as_ref().is_some_and(SpanContext::is_sampled);
    let id = incoming.map_or_else(
        || trace::trace_id(source.position(), source.committed_at),
        |context| context.trace_id(),
    );
    let steps = steps(config, log, found, sinks).await?;
    Ok(Change {
        operation: found.operation,
        committed_at: source.committed_at,
        lsn: source.lsn,
        tx_id: source.tx_id,
        source: source.position().to_string(),
        trace_id: id.to_string(),
        sampled,
        trace_url: None,
        steps: steps
            .into_iter()
            .map(|step| step.after(source.committed_at))
            .collect(),
        spans: Vec::new(),
    })
}

/// What became of it, from the log to the last sink.
async fn steps(
    config: &Config,
    log: &Log,
    found: &Found,
    sinks: &Sinks<'_>,
) -> Result<Vec<Step>, Failure> {
    let source = &found.source;
    let captured = log.captured(source).await?;
    let mut steps = vec![
        Step::captured(log.cdc(), source, captured),
        Step::enriched(log.enriched(), found),
        Step::clickhouse(sinks.row, sinks.in_clickhouse),
    ];
    let redis = stores::redis_position(config, source.partition).await;
    steps.push(match redis {
        Ok(position) => Step::redis(found.offset, position.as_ref()),
        Err(why) => Step::unknown("redis", why),
    });
    for (endpoint, committed) in log.webhooks(source.partition).await? {
        let step = Step::webhook(&endpoint, committed, found.offset, sinks.receipts);
        steps.push(step);
    }
    let letters = log.letters(found).await?;
    steps.extend(letters.iter().map(Step::letter));
    Ok(steps)
}

/// What Jaeger knows of it: also a trace that began later, because the event was late, tried again, or given up.
async fn spans(jaeger: &Jaeger, change: &mut Change, notes: &mut Vec<String>) {
    match jaeger.trace(&change.trace_id).await {
        Ok(Some(trace)) => {
            change.trace_url = Some(jaeger.page(&change.trace_id));
            change.spans = trace.spans;
        }
        Ok(None) if change.sampled => {
            notes.push(format!(
                "trace {} is not in Jaeger (any more)",
                change.trace_id
            ));
        }
        Ok(None) => {}
        Err(why) => {
            let note = format!("Jaeger cannot be asked: {why}");
            if !notes.contains(&note) {
                notes.push(note);
            }
        }
    }
}

fn micros(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX / 2)
}
