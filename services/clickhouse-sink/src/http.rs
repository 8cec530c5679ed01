//! One request to ClickHouse's HTTP interface, and whether its answer is a clean success.
//!
//! Requests go through `reqwest` with bodies encoded here, not through the `clickhouse` crate: its inserts are streamed
//! without a length and cannot be `INSERT .. SELECT .. FROM input(..)`, on which the fence of an insert rests, and
//! one client for reads and writes is one set of timeouts, headers and errors.
//! Invariant: a body is sent whole with its `Content-Length`, so a cut connection can never insert half of it.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_LENGTH, HeaderMap};
use reqwest::{Client, RequestBuilder, Response};
use secrecy::{ExposeSecret as _, SecretString};
use service::TlsError;
use url::Url;

use crate::config::ClickHouse;
use crate::error::ServerError;

/// Connections to one server.
#[derive(Clone, Debug)]
pub struct Http {
    client: Client,
    url: Url,
    user: String,
    password: Option<SecretString>,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// A file of `[clickhouse.tls]`.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// No TLS provider.
    #[error("no HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}

/// A clean answer.
#[derive(Debug)]
pub struct Answer {
    /// Its body.
    pub body: Bytes,
    /// `written_rows` of `X-ClickHouse-Summary`.
    pub written_rows: Option<u64>,
}

impl Http {
    /// Nothing is opened yet.
    ///
    /// # Errors
    /// A file of `[clickhouse.tls]` cannot be used, or there is no TLS provider.
    pub fn new(config: &ClickHouse) -> Result<Self, HttpError> {
        let client = Client::builder()
            .no_proxy()
            .tcp_nodelay(true)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(3))
            .timeout(config.request_timeout)
            .pool_idle_timeout(Duration::from_secs(8));
        let client = config.tls.http("clickhouse", client)?.build()?;
        Ok(Self {
            client,
            url: config.url.clone(),
            user: config.user.clone(),
            password: config.password.clone(),
        })
    }

    /// Scheme, host and port, for messages.
    #[must_use]
    pub fn address(&self) -> String {
        let port = self.url.port_or_known_default().unwrap_or_default();
        format!(
            "{}://{}:{port}",
            self.url.scheme(),
            self.url.host_str().unwrap_or_default()
        )
    }

    /// Sends a statement without data.
    ///
    /// # Errors
    /// Anything but a clean success.
    pub async fn ask(&self, sql: String) -> Result<Answer, ServerError> {
        let settings = [
            ("wait_end_of_query", "1"),
            ("use_query_cache", "0"),
            ("max_query_size", &crate::sql::LARGEST.to_string()),
        ];
        self.send(self.request(&settings).body(sql)).await
    }

    /// Sends a statement whose data is the body.
    ///
    /// # Errors
    /// Anything but a clean success; what became of the data is then unknown.
    pub async fn put(
        &self,
        query: &[(&str, &str)],
        headers: HeaderMap,
        data: Bytes,
    ) -> Result<Answer, ServerError> {
        // An empty body would go without a length, which the server refuses.
        let request = self
            .request(query)
            .headers(headers)
            .header(CONTENT_LENGTH, data.len());
        self.send(request.body(data)).await
    }

    fn request(&self, query: &[(&str, &str)]) -> RequestBuilder {
        let mut url = self.url.clone();
        url.query_pairs_mut().extend_pairs(query);
        let request = self
            .client
            .post(url)
            .header("X-ClickHouse-User", &self.user);
        match &self.password {
            Some(password) => request.header("X-ClickHouse-Key", password.expose_secret()),
            None => request,
        }
    }

    async fn send(&self, request: RequestBuilder) -> Result<Answer, ServerError> {
        let response = request
            .send()
            .await
            .map_err(|error| self.transport(&error))?;
        let status = response.status();
        let code = response
            .headers()
            .get("X-ClickHouse-Exception-Code")
            .map(|code| code.to_str().unwrap_or_default().parse());
        let written_rows = written_rows(&response);
        let body = response
            .bytes()
            .await
            .map_err(|error| self.transport(&error))?;
        match code {
            Some(code) => Err(ServerError::Exception {
                code: code.unwrap_or(0),
                message: message(&body),
            }),
            None if !status.is_success() => Err(ServerError::Status {
                status: status.as_u16(),
                message: message(&body),
            }),
            None => Ok(Answer { body, written_rows }),
        }
    }

    fn transport(&self, error: &reqwest::Error) -> ServerError {
        let mut cause = if error.is_timeout() {
            "timed out".to_owned()
        } else {
            String::new()
        };
        let mut source = std::error::Error::source(error);
        while let Some(at) = source {
            cause = at.to_string();
            source = at.source();
        }
        ServerError::Transport {
            address: self.address(),
            cause,
        }
    }
}

fn written_rows(response: &Response) -> Option<u64> {
    let summary = response
        .headers()
        .get("X-ClickHouse-Summary")?
        .to_str()
        .ok()?;
    let summary: serde_json::Value = serde_json::from_str(summary).ok()?;
    summary.get("written_rows")?.as_str()?.parse().ok()
}

/// The text of an exception without the data that may stand before it, cut.
fn message(body: &[u8]) -> String {
    let tail = &body[body.len().saturating_sub(16 * 1024)..];
    let text = String::from_utf8_lossy(tail);
    let from = text.find("Code: ").unwrap_or(0);
    let text: String = text[from..].chars().take(500).collect();
    text.trim().replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_an_exception_is_cut_and_cleaned_of_data() {
        let mut body = vec![0xff; 100_000];
        body.extend_from_slice(b"Code: 60. DB::Exception: no\nsuch table");
        assert_eq!(message(&body), "Code: 60. DB::Exception: no such table");
        assert_eq!(message(&[b'x'; 2000]).len(), 500);
        assert_eq!(message(b"bad gateway\n"), "bad gateway");
    }

    #[test]
    fn the_address_has_neither_user_nor_path() {
        let config = ClickHouse {
            url: Url::parse("http://ch.example.com/?x=1").unwrap(),
            ..ClickHouse::default()
        };
        assert_eq!(
            Http::new(&config).unwrap().address(),
            "http://ch.example.com:80"
        );
    }
}
