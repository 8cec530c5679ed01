//! The link to ClickHouse, request by request.
//!
//! Invariant: requests and answers take turns on a connection, and both are forwarded byte for byte; only an insert with
//! rows is ever spoiled, and each spoil is used for one insert.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::link::{Cut, Shared};
use super::shape::Direction;

/// What is done to one insert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoil {
    /// This status is answered; the server never sees the insert.
    Status(u16),
    /// The connection is reset after this many sixteenths of the body.
    ResetAt(u8),
    /// The server runs the insert and answers, but the answer is lost and the connection reset.
    LoseAnswer,
    /// "200 OK", with an exception in the body.
    Exception {
        /// The server runs the insert all the same.
        ran: bool,
        /// `X-ClickHouse-Exception-Code` is there: the server still could add to the head. Otherwise only the body tells.
        in_head: bool,
    },
}

/// The spoils that wait for an insert.
#[derive(Debug, Default)]
pub(super) struct Spoils(Mutex<VecDeque<Spoil>>);

impl Spoils {
    pub(super) fn push(&self, spoil: Spoil) {
        self.waiting().push_back(spoil);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting().is_empty()
    }

    pub(super) fn clear(&self) {
        self.waiting().clear();
    }

    fn next(&self) -> Option<Spoil> {
        self.waiting().pop_front()
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Spoil>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Head and body as they came.
#[derive(Debug, PartialEq, Eq)]
struct Message {
    head: Vec<u8>,
    body: Vec<u8>,
}

impl Message {
    /// Whether it inserts rows. The sink sends the statement in the URL and the rows in the body.
    fn is_insert(&self) -> bool {
        let line = self.head.split(|byte| *byte == b'\r').next();
        line.is_some_and(|line| line.starts_with(b"POST ") && contains(line, b"INSERT"))
            && !self.body.is_empty()
    }

    fn header(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(&self.head)
            .ok()?
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    }
}

type Halves = (OwnedReadHalf, OwnedWriteHalf);

/// Carries one connection to its end.
pub(super) async fn carry(
    shared: &Shared,
    client: &mut Halves,
    server: &mut Halves,
) -> Result<(), Cut> {
    let mut from_client = BufReader::new(&mut client.0);
    let mut from_server = BufReader::new(&mut server.0);
    while let Some(request) = read(&mut from_client, false).await? {
        let spoil = request.is_insert().then(|| shared.spoils.next()).flatten();
        let answer = match spoil {
            Some(Spoil::Status(status)) => plain_answer(status, "", "spoiled on the way"),
            Some(Spoil::ResetAt(sixteenths)) => {
                let cut = request.body.len() * usize::from(sixteenths) / 16;
                pour(shared, &mut server.1, &request.head, &request.body[..cut]).await?;
                // What was poured is to arrive before the reset.
                let _ = server.1.flush().await;
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                return Err(Cut::Reset);
            }
            Some(Spoil::Exception {
                ran: false,
                in_head,
            }) => exception(in_head),
            kept => {
                pour(shared, &mut server.1, &request.head, &request.body).await?;
                let Some(answer) = read(&mut from_server, true).await? else {
                    return Err(Cut::Close);
                };
                match kept {
                    Some(Spoil::LoseAnswer) => return Err(Cut::Reset),
                    Some(Spoil::Exception { in_head, .. }) => exception(in_head),
                    _ => answer,
                }
            }
        };
        tokio::time::sleep(shared.shape.conduct().down.delay).await;
        let whole = [answer.head, answer.body].concat();
        shared
            .shape
            .pour(Direction::Down, &mut client.1, &whole)
            .await?;
    }
    Err(Cut::Close)
}

async fn pour(
    shared: &Shared,
    to: &mut OwnedWriteHalf,
    head: &[u8],
    body: &[u8],
) -> Result<(), Cut> {
    tokio::time::sleep(shared.shape.conduct().up.delay).await;
    let whole = [head, body].concat();
    shared.shape.pour(Direction::Up, to, &whole).await
}

/// The next message, or `None` where the connection ends between two.
async fn read(
    from: &mut BufReader<&mut OwnedReadHalf>,
    is_answer: bool,
) -> Result<Option<Message>, Cut> {
    let mut message = Message {
        head: Vec::new(),
        body: Vec::new(),
    };
    while !message.head.ends_with(b"\r\n\r\n") {
        let read = from.read_until(b'\n', &mut message.head).await;
        match (read, message.head.is_empty()) {
            (Ok(0), true) => return Ok(None),
            (Ok(0), false) | (Err(_), _) => return Err(Cut::Reset),
            _ => {}
        }
    }
    let chunked = message
        .header("transfer-encoding")
        .is_some_and(|encoding| encoding.eq_ignore_ascii_case("chunked"));
    let length = message
        .header("content-length")
        .and_then(|length| length.parse().ok());
    match (chunked, length) {
        (true, _) => read_chunks(from, &mut message.body).await?,
        (false, Some(length)) => read_exactly(from, &mut message.body, length).await?,
        // An answer without a length goes to the end of the connection.
        (false, None) if is_answer => {
            let read = from.read_to_end(&mut message.body).await;
            read.map_err(|_| Cut::Reset)?;
        }
        (false, None) => {}
    }
    Ok(Some(message))
}

async fn read_chunks(
    from: &mut BufReader<&mut OwnedReadHalf>,
    body: &mut Vec<u8>,
) -> Result<(), Cut> {
    loop {
        let begin = body.len();
        let read = from.read_until(b'\n', body).await.map_err(|_| Cut::Reset)?;
        let line = String::from_utf8_lossy(&body[begin..]).into_owned();
        let digits = line.split([';', '\r', '\n']).next().unwrap_or_default();
        let size = usize::from_str_radix(digits.trim(), 16);
        let (Ok(size), true) = (size, read > 0) else {
            return Err(Cut::Reset);
        };
        // The data, or the end of the (empty) trailers.
        read_exactly(from, body, size + 2).await?;
        if size == 0 {
            return Ok(());
        }
    }
}

async fn read_exactly(
    from: &mut BufReader<&mut OwnedReadHalf>,
    body: &mut Vec<u8>,
    count: usize,
) -> Result<(), Cut> {
    let begin = body.len();
    body.resize(begin + count, 0);
    let read = from.read_exact(&mut body[begin..]).await;
    read.map(drop).map_err(|_| Cut::Reset)
}

/// As the server words it when memory runs out in the middle of a query whose answer has begun.
fn exception(in_head: bool) -> Message {
    let text = "Code: 241. DB::Exception: (total) memory limit exceeded: would use 4.01 GiB. (MEMORY_LIMIT_EXCEEDED)";
    if in_head {
        return plain_answer(200, "X-ClickHouse-Exception-Code: 241\r\n", text);
    }
    let tag = "spoiledanswertag";
    let framed = format!(
        "__exception__\r\n{tag}\r\n{text}\n{} {tag}\r\n__exception__\r\n",
        text.len() + 1
    );
    plain_answer(
        200,
        &format!("X-ClickHouse-Exception-Tag: {tag}\r\n"),
        &framed,
    )
}

fn plain_answer(status: u16, headers: &str, text: &str) -> Message {
    let reason = if status == 200 { "OK" } else { "Spoiled" };
    let length = text.len();
    let head = format!("HTTP/1.1 {status} {reason}\r\n{headers}Content-Length: {length}\r\n\r\n");
    Message {
        head: head.into_bytes(),
        body: text.as_bytes().to_vec(),
    }
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::proxy::Link;

    const INSERT: &[u8] =
        b"POST /?query=INSERT+INTO+t HTTP/1.1\r\nContent-Length: 16\r\n\r\n0123456789abcdef";
    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nyes\r\n0\r\n\r\n";

    /// A server that answers every whole request of 16 body bytes, and counts the bytes that reached it.
    async fn linked() -> (Link, TcpStream, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let link = Link::http("test").await.unwrap();
        link.lead_to(listener.local_addr().unwrap());
        let seen = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let count = Arc::clone(&count);
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.into_split();
                    let mut bytes = [0; 4096];
                    let mut here = 0;
                    while let Ok(got @ 1..) = read.read(&mut bytes).await {
                        count.fetch_add(got, Ordering::SeqCst);
                        here += got;
                        if here >= INSERT.len() {
                            here = 0;
                            let _ = write.write_all(OK).await;
                        }
                    }
                });
            }
        });
        let client = TcpStream::connect(("127.0.0.1", link.port()))
            .await
            .unwrap();
        (link, client, seen)
    }

    async fn ask(client: &mut TcpStream) -> std::io::Result<String> {
        client.write_all(INSERT).await?;
        let (mut read, _) = client.split();
        let mut reader = [0; 4096];
        let got = read.read(&mut reader).await?;
        Ok(String::from_utf8_lossy(&reader[..got]).into_owned())
    }

    #[tokio::test]
    async fn an_unspoiled_insert_and_its_answer_pass_unchanged() {
        let (_link, mut client, seen) = linked().await;
        for _ in 0..3 {
            assert_eq!(ask(&mut client).await.unwrap().as_bytes(), OK);
        }
        assert_eq!(seen.load(Ordering::SeqCst), 3 * INSERT.len());
    }

    #[tokio::test]
    async fn a_status_and_an_exception_never_reach_the_server_and_keep_the_connection() {
        let (link, mut client, seen) = linked().await;
        link.spoil(Spoil::Status(503));
        link.spoil(Spoil::Exception {
            ran: false,
            in_head: true,
        });
        assert!(ask(&mut client).await.unwrap().starts_with("HTTP/1.1 503 "));
        let answer = ask(&mut client).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("Code: 241."));
        assert_eq!(seen.load(Ordering::SeqCst), 0);
        assert_eq!(ask(&mut client).await.unwrap().as_bytes(), OK);
    }

    #[tokio::test]
    async fn a_reset_in_the_body_lets_exactly_its_sixteenths_pass() {
        for sixteenths in 0..16 {
            let (link, mut client, seen) = linked().await;
            link.spoil(Spoil::ResetAt(sixteenths));
            assert!(ask(&mut client).await.is_err());
            let head = INSERT.len() - 16;
            assert_eq!(seen.load(Ordering::SeqCst), head + usize::from(sixteenths));
        }
    }

    #[tokio::test]
    async fn a_lost_answer_was_given() {
        let (link, mut client, seen) = linked().await;
        link.spoil(Spoil::LoseAnswer);
        assert!(ask(&mut client).await.is_err());
        assert_eq!(seen.load(Ordering::SeqCst), INSERT.len());
    }
}
