//! A webhook target: an OPTIONS request without a body, which no receiver takes for an event.
//!
//! Invariant: nothing is posted, and credentials of a URL are not sent.

use std::error::Error;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, Method};

use super::Notes;
use crate::doctor::judge::webhook::{Answer, Reason, Target, judge};

/// As long as the forwarder waits for a connection, and a little for the answer.
const ASK: Duration = Duration::from_secs(10);

pub(in crate::doctor) async fn look(target: Target, notes: Notes) {
    let answer = ask(&target).await;
    notes.add(judge(&target, &answer));
}

async fn ask(target: &Target) -> Answer {
    let mut url = target.url.clone();
    // a URL with a host takes both
    let _ = url.set_username("");
    let _ = url.set_password(None);
    let client = Client::builder()
        .no_proxy()
        .redirect(Policy::none())
        .connect_timeout(ASK)
        .timeout(ASK)
        .build();
    let client = match client {
        Ok(client) => client,
        Err(error) => return Answer::Away(reason(&error)),
    };
    match client.request(Method::OPTIONS, url).send().await {
        Ok(response) => Answer::Status(response.status().as_u16()),
        Err(error) => Answer::Away(reason(&error)),
    }
}

/// The innermost cause: the outer ones repeat the address, which may hold a token.
fn reason(error: &reqwest::Error) -> Reason {
    let mut at: Option<&(dyn Error + 'static)> = error.source();
    let mut text = String::from("it cannot be asked");
    while let Some(cause) = at {
        let is_tls = cause.is::<rustls::Error>() || holds_tls(cause);
        text = cause.to_string();
        if is_tls {
            return Reason::Tls(text);
        }
        at = cause.source();
    }
    if error.is_timeout() {
        text = format!("no answer within {} s", ASK.as_secs());
    }
    Reason::Unreachable(text)
}

/// An error of input or output that is one of TLS.
fn holds_tls(cause: &(dyn Error + 'static)) -> bool {
    let inner = cause.downcast_ref::<std::io::Error>();
    let inner = inner.and_then(std::io::Error::get_ref);
    inner.is_some_and(<dyn Error + Send + Sync>::is::<rustls::Error>)
}
