//! A TCP proxy that cuts answers to inserts after the server has given them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

pub(crate) struct Proxy {
    pub(crate) url: String,
    cuts: Arc<AtomicUsize>,
}

impl Proxy {
    /// Forwards to `url` (`http://host:port`).
    pub(crate) async fn start(url: &str) -> Self {
        let server: SocketAddr = url.trim_start_matches("http://").parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let cuts = Arc::new(AtomicUsize::new(0));
        let shared = Arc::clone(&cuts);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(forward(client, server, Arc::clone(&shared)));
            }
        });
        Self { url, cuts }
    }

    /// Cuts the answers to the next `count` inserts that carry rows.
    pub(crate) fn cut(&self, count: usize) {
        self.cuts.store(count, Ordering::SeqCst);
    }

    /// How many are still to be cut.
    pub(crate) fn left(&self) -> usize {
        self.cuts.load(Ordering::SeqCst)
    }
}

/// One connection: requests and answers take turns, so whatever the server says belongs to the last request.
async fn forward(mut client: TcpStream, server: SocketAddr, cuts: Arc<AtomicUsize>) {
    let Ok(mut server) = TcpStream::connect(server).await else {
        return;
    };
    let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
    let mut insert = false;
    loop {
        tokio::select! {
            read = client.read(&mut up) => match read {
                Ok(read) if read > 0 => {
                    let chunk = &up[..read];
                    if chunk.starts_with(b"POST ") {
                        insert = chunk.starts_with(b"POST /?query=INSERT") && !contains(chunk, b"content-length: 0\r\n");
                    }
                    if server.write_all(chunk).await.is_err() { return }
                }
                _ => return,
            },
            read = server.read(&mut down) => match read {
                Ok(read) if read > 0 => {
                    if insert && cuts.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
                        return;
                    }
                    if client.write_all(&down[..read]).await.is_err() { return }
                }
                _ => return,
            },
        }
    }
}

fn contains(chunk: &[u8], wanted: &[u8]) -> bool {
    chunk
        .windows(wanted.len())
        .any(|window| window.eq_ignore_ascii_case(wanted))
}
