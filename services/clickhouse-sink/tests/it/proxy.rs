//! A TCP proxy that cuts answers to inserts after the server has given them, holds an insert back on its way, lets nothing through, or
//! adds a setting to what it lets through.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

const WAIT: Duration = Duration::from_secs(30);

pub(crate) struct Proxy {
    pub(crate) url: String,
    state: Arc<State>,
}

struct State {
    server: SocketAddr,
    cuts: AtomicUsize,
    shut: AtomicBool,
    late: watch::Sender<Late>,
    /// `name=value`
    setting: Mutex<Option<&'static str>>,
}

/// Where the one insert is that is held back.
#[derive(Clone, Debug, Default, PartialEq)]
enum Late {
    #[default]
    NotWanted,
    Wanted,
    /// Complete, here, whatever becomes of its sender.
    Held,
    LetGo,
    /// What the server said to it.
    Answered(String),
}

impl Proxy {
    /// Forwards to `url` (`http://host:port`).
    pub(crate) async fn start(url: &str) -> Self {
        let server: SocketAddr = url.trim_start_matches("http://").parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(State {
            server,
            cuts: AtomicUsize::new(0),
            shut: AtomicBool::new(false),
            late: watch::Sender::default(),
            setting: Mutex::default(),
        });
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(forward(client, Arc::clone(&shared)));
            }
        });
        Self { url, state }
    }

    /// Cuts the answers to the next `count` inserts that carry rows.
    pub(crate) fn cut(&self, count: usize) {
        self.state.cuts.store(count, Ordering::SeqCst);
    }

    /// How many are still to be cut.
    pub(crate) fn left(&self) -> usize {
        self.state.cuts.load(Ordering::SeqCst)
    }

    /// Lets nothing through, or everything again.
    pub(crate) fn shut(&self, shut: bool) {
        self.state.shut.store(shut, Ordering::SeqCst);
    }

    /// Adds this setting (`name=value`) to every request.
    pub(crate) fn set(&self, setting: &'static str) {
        *self.state.setting.lock().unwrap() = Some(setting);
    }

    /// Holds the next insert that carries rows back; whoever sends it hears nothing.
    pub(crate) fn hold_one(&self) {
        self.state.late.send_replace(Late::Wanted);
    }

    /// Waits until the insert is complete and held back.
    pub(crate) async fn holds(&self) {
        self.reach(|late| *late == Late::Held).await;
    }

    /// Lets it go on, and gives the server's answer.
    pub(crate) async fn let_go(&self) -> String {
        self.state.late.send_replace(Late::LetGo);
        match self.reach(|late| matches!(late, Late::Answered(_))).await {
            Late::Answered(answer) => answer,
            other => panic!("{other:?}"),
        }
    }

    async fn reach(&self, wanted: impl FnMut(&Late) -> bool) -> Late {
        let mut late = self.state.late.subscribe();
        let reached = tokio::time::timeout(WAIT, late.wait_for(wanted)).await;
        let seen = reached.map(|reached| reached.unwrap().clone());
        seen.unwrap_or_else(|_| panic!("after {WAIT:?} still {:?}", self.state.late.borrow()))
    }
}

impl State {
    /// A chunk, with the setting where a request begins in it.
    fn with_setting<'a>(&self, chunk: &'a [u8]) -> Cow<'a, [u8]> {
        let begins = chunk.strip_prefix(b"POST /?");
        match begins.zip(*self.setting.lock().unwrap()) {
            None => Cow::Borrowed(chunk),
            Some((rest, setting)) => {
                Cow::Owned([format!("POST /?{setting}&").as_bytes(), rest].concat())
            }
        }
    }
}

/// One connection: requests and answers take turns, so whatever the server says belongs to the last request.
async fn forward(mut client: TcpStream, state: Arc<State>) {
    let Ok(mut server) = TcpStream::connect(state.server).await else {
        return;
    };
    let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
    let mut insert = false;
    loop {
        tokio::select! {
            read = client.read(&mut up) => match read {
                Ok(read) if read > 0 && !state.shut.load(Ordering::SeqCst) => {
                    let chunk = &up[..read];
                    if chunk.starts_with(b"POST ") {
                        insert = chunk.starts_with(b"POST /?query=INSERT") && !contains(chunk, b"content-length: 0\r\n");
                    }
                    if insert && state.late.send_if_modified(|late| std::mem::take(late) == Late::Wanted) {
                        return hold_back(client, server, chunk.to_vec(), &state).await;
                    }
                    if server.write_all(&state.with_setting(chunk)).await.is_err() { return }
                }
                _ => return,
            },
            read = server.read(&mut down) => match read {
                Ok(read) if read > 0 => {
                    if insert && state.cuts.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
                        return;
                    }
                    if client.write_all(&down[..read]).await.is_err() { return }
                }
                _ => return,
            },
        }
    }
}

/// Takes the rest of a request, and sends it on when it is let go.
async fn hold_back(
    mut client: TcpStream,
    mut server: TcpStream,
    mut request: Vec<u8>,
    state: &State,
) {
    while !is_complete(&request) {
        let read = client.read_buf(&mut request).await.unwrap();
        assert!(read > 0, "the insert is cut");
    }
    state.late.send_replace(Late::Held);
    let mut late = state.late.subscribe();
    late.wait_for(|late| *late == Late::LetGo).await.unwrap();
    server.write_all(&request).await.unwrap();
    let mut answer = Vec::new();
    while !contains(&answer, b"\r\n\r\n") {
        let read = server.read_buf(&mut answer).await.unwrap();
        assert!(read > 0, "the server gives no answer");
    }
    let _ = client.write_all(&answer).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    state.late.send_replace(Late::Answered(answer));
}

/// A request whose head names its length.
fn is_complete(request: &[u8]) -> bool {
    let Some(head) = request.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
        return false;
    };
    let text = String::from_utf8_lossy(&request[..head]).to_lowercase();
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.expect("an insert has a length").parse().unwrap();
    request.len() >= head + 4 + length
}

fn contains(chunk: &[u8], wanted: &[u8]) -> bool {
    chunk
        .windows(wanted.len())
        .any(|window| window.eq_ignore_ascii_case(wanted))
}
