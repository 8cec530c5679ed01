//! An append-only file that ends anywhere within the last two batches, as a machine that lost power leaves it.
//!
//! Redis 7.0 drops the torn end at its start, goes on appending, and at the start after that may count twice. The
//! aggregator has the file written afresh before its first write to a server that was started anew.
//! A sample of the cut points is tried; `ENGAGE_TORN=all` tries every byte.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use engagement::event::EnrichedEvent;
use redis_aggregator::config::Config;
use redis_aggregator::write::Written;
use tempfile::TempDir;

use crate::scripts::{NOW, change, writer};
use crate::support::*;

/// Events of one batch.
const BATCH: usize = 2;
const BATCHES: usize = 8;

/// `redis-server` without the gate (`redis-check-aof --fix`) that devstack puts before it.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    async fn start(data: &Path) -> Self {
        let port = devstack::free_port().unwrap().to_string();
        let child = Command::new("redis-server")
            .args(["--port", &port, "--bind", "127.0.0.1", "--save", ""])
            .args(["--appendonly", "yes", "--appendfsync", "no", "--dir"])
            .arg(data)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self {
            child,
            url: format!("redis://127.0.0.1:{port}/"),
        };
        let deadline = Instant::now() + PATIENCE;
        while !server.answers().await {
            assert!(Instant::now() < deadline, "redis-server does not answer");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        server
    }

    async fn answers(&self) -> bool {
        let client = redis::Client::open(self.url.as_str()).unwrap();
        let options = unhurried();
        let connected = client.get_multiplexed_async_connection_with_config(&options);
        let Ok(mut connection) = connected.await else {
            return false;
        };
        let pong: redis::RedisResult<String> =
            redis::cmd("PING").query_async(&mut connection).await;
        pong.is_ok()
    }

    fn kill9(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The data of a server that has applied every batch, and how long its file was before the last two.
struct Recorded {
    data: TempDir,
    name: String,
    log: Vec<EnrichedEvent>,
    cuts: std::ops::Range<u64>,
}

impl Recorded {
    async fn make() -> Self {
        let (data, name) = (tempfile::tempdir().unwrap(), unique("torn"));
        let log = random_log(21, 0, BATCH * (BATCHES + 2), NOW);
        let server = Server::start(data.path()).await;
        let config = patient(&name, &server.url);
        let mut lengths = Vec::new();
        let mut writer = writer(&config).await;
        let file = increments(data.path());
        for batch in log[..BATCH * BATCHES].chunks(BATCH) {
            lengths.push(fs::metadata(&file).unwrap().len());
            let change = change(&config, &writer, batch, NOW);
            assert_eq!(writer.apply(&change).await.unwrap(), Written::Done);
        }
        let end = fs::metadata(&file).unwrap().len();
        server.kill9();
        Self {
            data,
            name,
            log,
            cuts: lengths[BATCHES - 2]..end + 1,
        }
    }

    /// The data as it is when only the first `length` bytes of the file had reached the disk.
    fn cut_at(&self, length: u64) -> TempDir {
        let copy = tempfile::tempdir().unwrap();
        fs::create_dir(copy.path().join("appendonlydir")).unwrap();
        for entry in fs::read_dir(self.data.path().join("appendonlydir")).unwrap() {
            let from = entry.unwrap().path();
            let to: PathBuf = copy
                .path()
                .join("appendonlydir")
                .join(from.file_name().unwrap());
            fs::copy(from, to).unwrap();
        }
        let file = fs::OpenOptions::new()
            .write(true)
            .open(increments(copy.path()));
        file.unwrap().set_len(length).unwrap();
        copy
    }

    /// Starts on the torn file, goes on where Redis says, dies, starts again, goes on: what then is not as a
    /// recomputation has it.
    async fn differs_after(&self, cut: u64) -> Result<(), String> {
        let data = self.cut_at(cut);
        for until in [self.log.len() - BATCH, self.log.len()] {
            let server = Server::start(data.path()).await;
            let config = patient(&self.name, &server.url);
            self.go_on(&config, until).await;
            let mut connection = connect(&server.url).await;
            let found = compare(&config, &mut connection, &[self.log[..until].to_vec()]).await;
            server.kill9();
            found.map_err(|differences| format!("cut at {cut}, {until} events: {differences}"))?;
        }
        Ok(())
    }

    /// From the position in Redis, as the service does.
    async fn go_on(&self, config: &Config, until: usize) {
        let mut writer = writer(config).await;
        let from = usize::try_from(writer.state().applied.enriched + 1).unwrap();
        for batch in self.log[from..until].chunks(BATCH) {
            let change = change(config, &writer, batch, NOW);
            assert_eq!(writer.apply(&change).await.unwrap(), Written::Done);
        }
    }

    /// Cut points spread evenly; all of them if so many are wanted.
    fn sample(&self, wanted: u64) -> Vec<u64> {
        let count = self.cuts.end - self.cuts.start;
        let step = (count / wanted).max(1);
        self.cuts
            .clone()
            .step_by(usize::try_from(step).unwrap())
            .collect()
    }
}

/// The file that grows: each rewrite begins another one.
fn increments(data: &Path) -> PathBuf {
    let files = fs::read_dir(data.join("appendonlydir")).unwrap();
    let paths = files.map(|file| file.unwrap().path());
    paths
        .filter(|path| path.to_string_lossy().ends_with(".incr.aof"))
        .max_by_key(|path| fs::metadata(path).unwrap().modified().unwrap())
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_torn_at_any_byte_of_the_last_two_batches_never_counts_twice() {
    let recorded = Recorded::make().await;
    let all = std::env::var("ENGAGE_TORN").is_ok_and(|value| value == "all");
    let cuts = recorded.sample(if all { u64::MAX } else { 24 });
    let begun = Instant::now();
    for (tried, cut) in cuts.iter().enumerate() {
        if let Err(difference) = recorded.differs_after(*cut).await {
            panic!("{difference}");
        }
        if tried % 500 == 499 {
            println!(
                "{} of {} cut points, {:?}",
                tried + 1,
                cuts.len(),
                begun.elapsed()
            );
        }
    }
    println!(
        "{} cut points of {} bytes, {:?}",
        cuts.len(),
        recorded.cuts.end - recorded.cuts.start,
        begun.elapsed()
    );
}

/// A slow machine is no fault here.
fn patient(name: &str, url: &str) -> Config {
    let mut config = config(name, url);
    config.redis.response_timeout = PATIENCE;
    config
}

/// Counters as they are usually kept, by increments, in one script.
const COUNT: &str =
    "for i = 1, 8 do redis.call('HINCRBY', 'counters', i, 1) end return redis.call('INCR', 'n')";

/// Counts up to `until` and returns what the first counter says.
async fn count(server: &Server, until: i64) -> i64 {
    let mut connection = connect(&server.url).await;
    let done: Option<i64> = query(&mut connection, &["GET", "n"]).await;
    for _ in done.unwrap_or(0)..until {
        let _: i64 = query(&mut connection, &["EVAL", COUNT, "0"]).await;
    }
    query(&mut connection, &["HGET", "counters", "1"]).await
}

/// The test of the test: on a Redis with the defect, the same cuts and starts make plain counters count twice.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_cuts_make_plain_counters_count_twice_where_redis_has_the_defect() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path()).await;
    count(&server, 3).await;
    let begin = fs::metadata(increments(data.path())).unwrap().len();
    count(&server, 4).await;
    let end = fs::metadata(increments(data.path())).unwrap().len();
    server.kill9();
    let recorded = Recorded {
        data,
        name: String::new(),
        log: Vec::new(),
        cuts: begin..end,
    };
    let (cuts, mut differing) = (recorded.sample(10), 0);
    for cut in &cuts {
        let data = recorded.cut_at(*cut);
        for until in [4, 5] {
            let server = Server::start(data.path()).await;
            differing += i32::from(count(&server, until).await != until);
            server.kill9();
        }
    }
    let version = Command::new("redis-server")
        .arg("--version")
        .output()
        .unwrap();
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    println!("{differing} of {} cut points differ: {version}", cuts.len());
    if version.contains("v=7.0.") {
        assert!(differing > 0, "no cut point shows what the rewrite is for");
    }
}
