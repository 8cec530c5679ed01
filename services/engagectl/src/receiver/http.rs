//! The routes.
//!
//! Invariant: every body is bounded, and an answer outside of 2xx took nothing.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, MatchedPath, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post, put};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use stream::backfill::RUN;

use super::faults::Faults;
use super::message::{self, Item};
use super::{Shared, span, verify};

/// Largest body, a batch.
const BODY_BYTES: usize = 16 << 20;
/// Most events that `/events` shows at once.
const MOST_EVENTS: usize = 10_000;

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/webhook", post(receive))
        .route("/events", get(last_events).post(receive))
        .route("/batch", post(receive))
        .route("/stats", get(stats))
        .route("/deliveries", get(deliveries))
        .route("/deliveries/{slot}", get(deliveries_of_slot))
        .route("/health", get(health))
        .route(
            "/faults",
            put(set_faults).get(show_faults).delete(end_faults),
        )
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .with_state(shared)
}

/// One event or an array of them.
enum Body<'a> {
    Many(Vec<&'a RawValue>),
    One(&'a RawValue),
}

async fn receive(
    State(shared): State<Arc<Shared>>,
    route: MatchedPath,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let began = service::clock::now();
    let response = judge(&shared, &headers, &body).await;
    let status = response.status();
    span::received(&headers, route.as_str(), began, status);
    response
}

async fn judge(shared: &Shared, headers: &HeaderMap, body: &[u8]) -> Response {
    shared.book().counts().requests += 1;
    let faults = *shared.faults();
    if !faults.delay().is_zero() {
        tokio::time::sleep(faults.delay()).await;
    }
    if let Some(status) = faults.failure(service::backoff::random()) {
        shared.book().counts().faults_injected += 1;
        return answer(status, json!({"error": "failed on purpose, see /faults"}));
    }
    let now = service::clock::now();
    if !shared.keys.is_empty()
        && let Err(refusal) = verify::verify(&shared.keys, headers, body, now / 1_000_000)
    {
        shared.book().counts().signature_failures += 1;
        return answer(
            StatusCode::UNAUTHORIZED,
            json!({"error": refusal.to_string()}),
        );
    }
    take(shared, headers, body, now)
}

fn take(shared: &Shared, headers: &HeaderMap, body: &[u8], now: i64) -> Response {
    match parse(body) {
        Some(Body::One(raw)) => take_one(shared, headers, raw, now),
        Some(Body::Many(raws)) => take_many(shared, headers, &raws, now),
        None => {
            shared.book().counts().malformed += 1;
            let error = "the body is no JSON object or array";
            answer(StatusCode::BAD_REQUEST, json!({"error": error}))
        }
    }
}

fn parse(body: &[u8]) -> Option<Body<'_>> {
    let raw: &RawValue = serde_json::from_slice(body).ok()?;
    match raw.get().as_bytes().first() {
        Some(b'[') => serde_json::from_str(raw.get()).ok().map(Body::Many),
        Some(b'{') => Some(Body::One(raw)),
        _ => None,
    }
}

fn take_one(shared: &Shared, headers: &HeaderMap, raw: &RawValue, now: i64) -> Response {
    let Some(item) = item(raw, headers) else {
        shared.book().counts().malformed += 1;
        let error =
            "the body names no event: expected `event_id` or `id`, at the top or under `data`";
        return answer(StatusCode::UNPROCESSABLE_ENTITY, json!({"error": error}));
    };
    let sent_id = headers.get("webhook-id").and_then(|id| id.to_str().ok());
    let id = sent_id.map_or_else(|| item.message_id(), str::to_owned);
    if let Err(error) = shared.record(&id, &item, raw) {
        let error = format!("the delivery cannot be recorded: {error}");
        return answer(StatusCode::INSUFFICIENT_STORAGE, json!({"error": error}));
    }
    shared.book().take(&id, &item, raw, now);
    answer(StatusCode::OK, json!({"accepted": 1}))
}

/// Takes the events of a batch; 207 with one status per item when some are refused.
fn take_many(shared: &Shared, headers: &HeaderMap, raws: &[&RawValue], now: i64) -> Response {
    let mut results = Vec::with_capacity(raws.len());
    for raw in raws {
        results.push(take_item(shared, headers, raw, now));
    }
    let accepted = results.iter().filter(|status| **status == 200).count();
    if accepted == results.len() {
        return answer(StatusCode::OK, json!({"accepted": accepted}));
    }
    let items: Vec<_> = results.iter().map(|s| json!({"status": s})).collect();
    answer(
        StatusCode::MULTI_STATUS,
        json!({"accepted": accepted, "items": items}),
    )
}

fn take_item(shared: &Shared, headers: &HeaderMap, raw: &RawValue, now: i64) -> u16 {
    let Some(item) = item(raw, headers) else {
        shared.book().counts().malformed += 1;
        return 422;
    };
    if shared.record(&item.message_id(), &item, raw).is_err() {
        return 507;
    }
    shared.book().take(&item.message_id(), &item, raw, now);
    200
}

fn item(raw: &RawValue, headers: &HeaderMap) -> Option<Item> {
    let value: Value = serde_json::from_str(raw.get()).ok()?;
    let run = headers.get(RUN).and_then(|run| run.to_str().ok());
    Some(Item {
        run: run.and_then(|run| run.parse().ok()),
        ..message::read(&value)?
    })
}

fn answer(status: StatusCode, body: Value) -> Response {
    (status, Json(body)).into_response()
}

#[derive(Deserialize)]
struct Limit {
    limit: Option<usize>,
}

async fn last_events(State(shared): State<Arc<Shared>>, Query(query): Query<Limit>) -> Response {
    let limit = query.limit.unwrap_or(100).min(MOST_EVENTS);
    let events = shared.book().last(limit);
    Json(events).into_response()
}

async fn stats(State(shared): State<Arc<Shared>>) -> Response {
    let stats = shared.book().stats(service::clock::now());
    Json(stats).into_response()
}

#[derive(Deserialize)]
struct OfRun {
    run: Option<i64>,
}

/// Sums over all messages, or over those of one backfill, for `engagectl verify`.
async fn deliveries(State(shared): State<Arc<Shared>>, Query(of): Query<OfRun>) -> Response {
    let book = shared.book();
    let summary = match of.run {
        None => book.summary(),
        Some(run) => book.summary_of(run),
    };
    drop(book);
    Json(summary).into_response()
}

#[derive(Deserialize)]
struct Part {
    #[serde(default)]
    after: u64,
    limit: Option<usize>,
}

/// The messages of one slot, page by page.
async fn deliveries_of_slot(
    State(shared): State<Arc<Shared>>,
    Path(slot): Path<usize>,
    Query(part): Query<Part>,
) -> Response {
    let limit = part.limit.unwrap_or(1000).min(MOST_EVENTS);
    let page = shared.book().page(slot, part.after, limit);
    Json(page).into_response()
}

async fn health() -> Response {
    Json(json!({"status": "ok"})).into_response()
}

async fn page() -> Response {
    let headers = [(header::CACHE_CONTROL, "no-store")];
    (headers, Html(include_str!("page.html"))).into_response()
}

async fn show_faults(State(shared): State<Arc<Shared>>) -> Response {
    let faults = *shared.faults();
    Json(faults).into_response()
}

async fn set_faults(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let refused = |error: String| answer(StatusCode::UNPROCESSABLE_ENTITY, json!({"error": error}));
    match serde_json::from_slice::<Faults>(&body) {
        Err(error) => refused(error.to_string()),
        Ok(faults) => match faults.problem() {
            Some(problem) => refused(problem.to_owned()),
            None => {
                *shared.faults() = faults;
                Json(faults).into_response()
            }
        },
    }
}

async fn end_faults(State(shared): State<Arc<Shared>>) -> Response {
    *shared.faults() = Faults::default();
    StatusCode::NO_CONTENT.into_response()
}
