//! Whether a server answers, asked in its own protocol.
//!
//! Invariant: an open port is not enough; each probe needs an answer that only a usable server gives.

use std::{future::Future, time::Duration};

use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer},
};
use sqlx::{Connection, PgConnection};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::Secured;

/// One attempt may take this long.
const ATTEMPT: Duration = Duration::from_secs(2);
/// What is asked once, of a server that answers already: only one that hangs takes longer, however busy the machine is.
const ONCE: Duration = Duration::from_secs(60);

/// The question put to a server.
#[derive(Clone, Debug)]
pub(crate) enum Probe {
    /// `SELECT 1` over this URL.
    Sql(String),
    /// A metadata answer of this broker that lists a broker.
    Metadata(u16),
    /// The same over TLS, by certificate.
    SecureMetadata(u16, Secured),
    /// `GET` of this path answers 200.
    Http(u16, &'static str),
    /// `PING` answers `PONG`.
    Ping(u16),
    /// The same over TLS, by password.
    SecurePing(u16, Secured),
}

impl Probe {
    /// In words, for an error.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Sql(url) => format!("SELECT 1 on {}", without_login(url)),
            Self::Metadata(port) | Self::SecureMetadata(port, _) => {
                format!("a metadata answer on 127.0.0.1:{port}")
            }
            Self::Http(port, path) => format!("GET http://127.0.0.1:{port}{path}"),
            Self::Ping(port) | Self::SecurePing(port, _) => format!("PING on 127.0.0.1:{port}"),
        }
    }

    /// One attempt; the error is what was answered instead.
    pub(crate) async fn once(&self) -> Result<(), String> {
        match self {
            Self::Sql(url) => in_time(Box::pin(sql(url))).await,
            Self::Metadata(port) => metadata(*port, None).await,
            Self::SecureMetadata(port, secured) => metadata(*port, Some(secured.clone())).await,
            Self::Http(port, path) => in_time(http(*port, path)).await,
            Self::Ping(port) => in_time(ping(*port)).await,
            Self::SecurePing(port, secured) => in_time(secure_ping(*port, secured)).await,
        }
    }
}

async fn in_time(attempt: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    within(ATTEMPT, attempt).await
}

async fn within(
    limit: Duration,
    attempt: impl Future<Output = Result<(), String>>,
) -> Result<(), String> {
    timeout(limit, attempt)
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {} s", limit.as_secs())))
}

async fn sql(url: &str) -> Result<(), String> {
    let mut connection = PgConnection::connect(url)
        .await
        .map_err(|e| e.to_string())?;
    sqlx::query("SELECT 1")
        .execute(&mut connection)
        .await
        .map_err(|e| e.to_string())?;
    connection.close().await.map_err(|e| e.to_string())
}

fn without_login(url: &str) -> &str {
    url.rsplit('@').next().unwrap_or_default()
}

async fn metadata(port: u16, secured: Option<Secured>) -> Result<(), String> {
    in_time(async { connect(port).await.map(drop) }).await?;
    tokio::task::spawn_blocking(move || brokers(port, secured.as_ref()))
        .await
        .map_err(|e| e.to_string())?
}

fn brokers(port: u16, secured: Option<&Secured>) -> Result<(), String> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", format!("127.0.0.1:{port}"))
        .set("reconnect.backoff.ms", "20")
        .set("reconnect.backoff.max.ms", "100");
    if let Some(secured) = secured {
        config
            .set("security.protocol", "ssl")
            .set("ssl.ca.location", secured.ca.to_string_lossy())
            .set(
                "ssl.certificate.location",
                secured.certificate.to_string_lossy(),
            )
            .set("ssl.key.location", secured.key.to_string_lossy());
    }
    let consumer: BaseConsumer = config.create().map_err(|e| e.to_string())?;
    let metadata = consumer
        .fetch_metadata(None, ATTEMPT)
        .map_err(|e| e.to_string())?;
    match metadata.brokers() {
        [] => Err("the answer lists no broker yet".to_owned()),
        _ => Ok(()),
    }
}

async fn http(port: u16, path: &str) -> Result<(), String> {
    let request = format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    answered_ok(&exchange(port, request.as_bytes(), usize::MAX).await?)
}

/// `POST` of a body with these headers; the error is the answer, if it is not 200.
pub(crate) async fn post(port: u16, headers: &[(&str, &str)], body: &str) -> Result<(), String> {
    let length = body.len();
    let headers: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let request = format!(
        "POST / HTTP/1.0\r\nHost: 127.0.0.1\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    );
    within(ONCE, async {
        answered_ok(&exchange(port, request.as_bytes(), usize::MAX).await?)
    })
    .await
}

fn answered_ok(answer: &str) -> Result<(), String> {
    match answer.lines().next() {
        Some(status) if status.contains(" 200 ") => Ok(()),
        Some(_) => Err(answer.trim().chars().take(500).collect()),
        None => Err("an empty answer".to_owned()),
    }
}

async fn ping(port: u16) -> Result<(), String> {
    let answer = exchange(port, b"PING\r\n", 7).await?;
    match answer.trim_end() {
        "+PONG" => Ok(()),
        other => Err(other.to_owned()),
    }
}

/// By Redis' own client, which takes the password from its environment.
async fn secure_ping(port: u16, secured: &Secured) -> Result<(), String> {
    let login = &secured.redis_probe;
    let output = tokio::process::Command::new("redis-cli")
        .args([
            "-h",
            "127.0.0.1",
            "-p",
            &port.to_string(),
            "--tls",
            "--cacert",
        ])
        .arg(&secured.ca)
        .args(["--no-auth-warning", "--user", &login.user, "PING"])
        .env("REDISCLI_AUTH", &login.password)
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|e| format!("redis-cli: {e}"))?;
    let answer = String::from_utf8_lossy(&output.stdout);
    match answer.trim() {
        "PONG" => Ok(()),
        other => Err(format!(
            "{other} {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}

async fn connect(port: u16) -> Result<TcpStream, String> {
    TcpStream::connect(("127.0.0.1", port))
        .await
        .map_err(|e| e.to_string())
}

/// Sends, and reads to the end of the stream or to `enough` bytes.
async fn exchange(port: u16, request: &[u8], enough: usize) -> Result<String, String> {
    let mut stream = connect(port).await?;
    stream.write_all(request).await.map_err(|e| e.to_string())?;
    let mut answer = Vec::new();
    while answer.len() < enough {
        match stream
            .read_buf(&mut answer)
            .await
            .map_err(|e| e.to_string())?
        {
            0 => break,
            _ => continue,
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
