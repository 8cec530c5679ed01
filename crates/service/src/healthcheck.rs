//! `healthcheck`: asks this service's own `/readyz` or `/livez`, for containers without curl.
//! Invariant: it answers within its deadline, whatever the service does.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// The whole question and answer.
const DEADLINE: Duration = Duration::from_secs(2);
/// No report is longer; a server that never stops sending is not ours.
const LONGEST: usize = 1 << 20;

/// What the service said.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// It answered 200.
    pub ok: bool,
    /// For a person: the conditions that do not hold, or why there is no answer.
    pub text: String,
}

/// Asks `path` on `addr`; an unspecified address means this machine. Blocks.
#[must_use]
pub fn ask(addr: SocketAddr, path: &str) -> Answer {
    let addr = SocketAddr::new(reachable(addr.ip()), addr.port());
    match get(addr, path) {
        Ok(response) => interpret(&response),
        Err(error) => Answer {
            ok: false,
            text: format!(
                "no answer from http://{addr}{path} within {} s: {error}",
                DEADLINE.as_secs()
            ),
        },
    }
}

fn reachable(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

fn get(addr: SocketAddr, path: &str) -> std::io::Result<String> {
    let end = Instant::now() + DEADLINE;
    let left = || {
        end.checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())
            .ok_or(std::io::ErrorKind::TimedOut)
    };
    let mut stream = TcpStream::connect_timeout(&addr, left()?)?;
    stream.set_write_timeout(Some(left()?))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n"
    )?;
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    while bytes.len() < LONGEST {
        stream.set_read_timeout(Some(left()?))?;
        match stream.read(&mut part)? {
            0 => break,
            read => bytes.extend_from_slice(&part[..read]),
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn interpret(response: &str) -> Answer {
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or((response, ""));
    let status = head.split(' ').nth(1).unwrap_or_default();
    let ok = status == "200";
    let report: serde_json::Value = serde_json::from_str(body.trim()).unwrap_or_default();
    let bad = report["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|condition| condition["ok"] == false);
    let reasons: Vec<_> = bad
        .map(|condition| {
            format!(
                "{}: {}",
                condition["name"].as_str().unwrap_or("?"),
                condition["reason"].as_str().unwrap_or("?")
            )
        })
        .collect();
    let text = match (ok, reasons.is_empty()) {
        (true, _) => "ok".into(),
        (false, false) => reasons.join("\n"),
        (false, true) => format!(
            "unexpected answer: {}",
            head.lines().next().unwrap_or("nothing")
        ),
    };
    Answer { ok, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_200_is_ok_and_the_reasons_are_told() {
        assert!(interpret("HTTP/1.1 200 OK\r\n\r\n{\"ok\":true}").ok);
        let body = r#"{"ok":false,"conditions":[{"name":"a","ok":true},{"name":"kafka","ok":false,"reason":"no broker"}]}"#;
        let answer = interpret(&format!("HTTP/1.1 503 Service Unavailable\r\n\r\n{body}"));
        assert_eq!(
            answer,
            Answer {
                ok: false,
                text: "kafka: no broker".into()
            }
        );
        assert!(!interpret("SSH-2.0-OpenSSH_9.2\r\n").ok);
        assert!(!interpret("").ok);
    }

    #[test]
    fn an_unspecified_address_means_this_machine() {
        assert_eq!(
            reachable("0.0.0.0".parse().unwrap()).to_string(),
            "127.0.0.1"
        );
        assert_eq!(reachable("::".parse().unwrap()).to_string(), "::1");
        assert_eq!(
            reachable("10.1.2.3".parse().unwrap()).to_string(),
            "10.1.2.3"
        );
    }
}
