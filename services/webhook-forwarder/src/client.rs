//! One HTTP attempt.
//!
//! Invariant: whatever the other side does, an attempt ends within the endpoint's timeout with
//! exactly one outcome, and at most [`BODY_BYTES`] of its answer are read.

use faults::Point;
use http::header::RETRY_AFTER;
use reqwest::redirect::Policy;
use reqwest::{Client, Response};
use stream::headers::Headers;

use crate::endpoint::Endpoint;
use crate::message::Message;
use crate::outcome::Outcome;
use crate::resolver::{GuardedResolver, refusal};
use crate::{request, retry_after};

/// Most bytes of an answer that are read; the rest is cut off with its connection.
const BODY_BYTES: usize = 64 * 1024;
/// Most characters of an answer that reach a log or a dead letter.
const EXCERPT_CHARS: usize = 300;
/// Names us to the receiver.
const USER_AGENT: &str = concat!("engage-webhook-forwarder/", env!("CARGO_PKG_VERSION"));

/// What an attempt came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its class.
    pub outcome: Outcome,
    /// The status of the response, if there was one.
    pub status: Option<u16>,
    /// When it began, microseconds since 1970.
    pub began: i64,
    /// Time of the answer, microseconds since 1970.
    pub at: i64,
    /// For a person: the start of the body, or the error.
    pub detail: String,
}

impl Answer {
    /// What of the detail may be logged and shown: why there was no answer. What a receiver says may repeat the event, and is kept
    /// in the dead letter only.
    #[must_use]
    pub fn shown(&self) -> &str {
        match self.outcome {
            Outcome::TimedOut | Outcome::Unreachable | Outcome::RefusedAddress => &self.detail,
            _ => "",
        }
    }
}

/// The HTTP client of one endpoint.
#[derive(Clone, Debug)]
pub struct Poster {
    http: Client,
}

impl Poster {
    /// Builds the client: guarded resolver, no redirects, no proxy, no plain HTTP unless allowed.
    ///
    /// # Errors
    /// The TLS roots of this machine cannot be loaded.
    pub fn new(endpoint: &Endpoint) -> Result<Self, reqwest::Error> {
        let connections = usize::try_from(endpoint.concurrency.get()).unwrap_or(usize::MAX);
        let http = Client::builder()
            .user_agent(USER_AGENT)
            .redirect(Policy::none())
            .no_proxy()
            .https_only(endpoint.url.scheme() == "https")
            .dns_resolver(GuardedResolver::new(endpoint.addresses.clone()))
            .connect_timeout(endpoint.connect_timeout)
            .timeout(endpoint.timeout)
            .pool_max_idle_per_host(connections)
            .tcp_nodelay(true)
            .build()?;
        Ok(Self { http })
    }

    /// Posts a message once.
    pub async fn post(&self, endpoint: &Endpoint, message: &Message, trace: &Headers) -> Answer {
        let began = service::clock::now();
        let headers = request::headers(endpoint, message, began, trace);
        let request = self.http.post(endpoint.url.clone()).headers(headers);
        faults::reach(Point::WebhookForwarderAttemptBefore).await;
        if faults::fails(Point::WebhookForwarderAttemptBefore) {
            return lost(began);
        }
        let sent = request.body(message.body.clone()).send().await;
        faults::reach(Point::WebhookForwarderAttemptAfter).await;
        if faults::fails(Point::WebhookForwarderAttemptAfter) {
            return lost(began);
        }
        match sent {
            Ok(response) => answered(endpoint, response, began).await,
            Err(error) => Answer {
                outcome: failed(&error),
                status: None,
                began,
                at: service::clock::now(),
                detail: describe(&error.without_url()),
            },
        }
    }
}

/// At a fault point: the message may or may not have arrived.
fn lost(began: i64) -> Answer {
    Answer {
        outcome: Outcome::Unreachable,
        status: None,
        began,
        at: service::clock::now(),
        detail: "connection lost".to_owned(),
    }
}

async fn answered(endpoint: &Endpoint, response: Response, began: i64) -> Answer {
    let at = service::clock::now();
    let asked = response.headers().get(RETRY_AFTER);
    let asked = asked
        .and_then(|value| value.to_str().ok())
        .and_then(|value| retry_after::parse(value, at, endpoint.retry_after_max));
    let status = response.status().as_u16();
    let outcome = Outcome::of_status(status, asked);
    // read in any case: a connection with an unread body cannot be used again
    let detail = excerpt(&read(response).await);
    Answer {
        outcome,
        status: Some(status),
        began,
        at,
        detail,
    }
}

/// The body, as far as it comes within limits; a broken one changes nothing about the status.
async fn read(mut response: Response) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() < BODY_BYTES
        && let Ok(Some(chunk)) = response.chunk().await
    {
        let room = BODY_BYTES - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
    }
    body
}

fn failed(error: &reqwest::Error) -> Outcome {
    if refusal(error).is_some() {
        Outcome::RefusedAddress
    } else if error.is_timeout() {
        Outcome::TimedOut
    } else {
        Outcome::Unreachable
    }
}

/// The error with its causes, outermost first.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text.chars().take(EXCERPT_CHARS).collect()
}

/// Printable start of a body.
fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(4 * EXCERPT_CHARS)]);
    let printable = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    printable.take(EXCERPT_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_receiver_says_is_not_shown() {
        let answer = |outcome| Answer {
            outcome,
            status: None,
            began: 0,
            at: 0,
            detail: "user 7 is unknown".into(),
        };
        assert_eq!(answer(Outcome::Rejected { status: 422 }).shown(), "");
        assert_eq!(answer(Outcome::TimedOut).shown(), "user 7 is unknown");
    }

    #[test]
    fn an_excerpt_is_short_and_holds_no_control_characters() {
        let body = "line\nline\u{1b}[31m".repeat(200);
        let text = excerpt(body.as_bytes());
        assert_eq!(text.chars().count(), EXCERPT_CHARS);
        assert!(text.chars().all(|c| !c.is_control()));
        assert_eq!(excerpt(b"\xff\xfe"), "\u{fffd}\u{fffd}");
    }
}
