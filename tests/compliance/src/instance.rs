//! One process of a service: started, asked, frozen, killed.
//!
//! Invariant: it is handled from outside only, by signals and its admin port.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use devstack::{Launch, Process};

use crate::wait::eventually;
use crate::world::{World, free_address};

/// A running service.
#[derive(Debug)]
pub struct Instance {
    process: Process,
    admin: SocketAddr,
    log: PathBuf,
    client: reqwest::Client,
}

impl Instance {
    /// Starts a service; `name` is that of this process.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn start(
        world: &World,
        service: &str,
        name: &str,
        configure: impl FnOnce(Launch) -> Launch,
    ) -> Self {
        let (admin, log) = (free_address(), world.file(&format!("{name}.log")));
        let launch = Launch::new(name, devstack::program_beside_test(service), &log)
            .env("KAFKA_BOOTSTRAP_SERVERS", world.kafka())
            .env("ADMIN_ADDR", admin.to_string())
            .env("LOG_FORMAT", "pretty")
            .env("NO_COLOR", "1");
        let process = world.stack().supervisor().spawn(&configure(launch));
        Self {
            process: process.unwrap_or_else(|error| panic!("{error}")),
            admin,
            log,
            client: reqwest::Client::builder()
                .no_proxy()
                .timeout(Duration::from_secs(2))
                .build()
                .unwrap(),
        }
    }

    /// `kill -9`.
    ///
    /// # Panics
    /// Where it stays.
    pub fn kill(&mut self) {
        self.process.kill9().unwrap();
    }

    /// SIGSTOP.
    pub fn freeze(&self) {
        self.process.pause();
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.process.resume();
    }

    /// SIGTERM, and its end in good order.
    ///
    /// # Panics
    /// Where it does not end, or not with 0.
    pub async fn terminate(&mut self) {
        self.process.terminate();
        let end = self.ended().await;
        assert!(end.ends_with(": 0"), "ended with {end}\n{}", self.tail());
    }

    /// Waits until the process has ended by itself; answers how.
    ///
    /// # Panics
    /// Where it still runs at the deadline.
    pub async fn ended(&mut self) -> String {
        let log = self.log.clone();
        eventually("the end of the process", async || {
            self.process
                .ended()
                .ok_or_else(|| format!("it runs\n{}", end_of(&log)))
        })
        .await
    }

    /// Status and text of an admin page; `None` while nobody answers.
    pub async fn page(&self, path: &str) -> Option<(u16, String)> {
        let url = format!("http://{}{path}", self.admin);
        let response = self.client.get(url).send().await.ok()?;
        let status = response.status().as_u16();
        Some((status, response.text().await.ok()?))
    }

    /// Waits until `/readyz` is green.
    ///
    /// # Panics
    /// Where it does not become so, with what it says.
    pub async fn is_ready(&self) {
        eventually("ready", async || match self.page("/readyz").await {
            Some((200, _)) => Ok(()),
            other => Err(format!("{other:?}\n{}", self.tail())),
        })
        .await;
    }

    /// Waits until `/readyz` is red and says all of these words; answers the whole text.
    ///
    /// # Panics
    /// Where it does not, with what it says.
    pub async fn is_red(&self, words: &[&str]) -> String {
        eventually("not ready", async || match self.page("/readyz").await {
            Some((503, text)) if words.iter().all(|word| text.contains(word)) => Ok(text),
            other => Err(format!("{words:?} wanted, {other:?}\n{}", self.tail())),
        })
        .await
    }

    /// The sum of a metric's samples whose line has all of `labels`; `None` where there is no such sample.
    ///
    /// # Panics
    /// Where the admin port does not answer.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let asked = eventually("/metrics answers", async || {
            self.page("/metrics").await.ok_or_else(|| self.tail())
        });
        let (_, text) = asked.await;
        let of_name = text.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with([' ', '{']))
                && labels.iter().all(|label| line.contains(label))
        });
        of_name
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .reduce(|sum, value| sum + value)
    }

    /// The end of its log.
    #[must_use]
    pub fn tail(&self) -> String {
        end_of(&self.log)
    }
}

/// The last lines of a log.
pub(crate) fn end_of(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(25)..].join("\n")
}

impl Drop for Instance {
    fn drop(&mut self) {
        // a frozen process of a failed check must not stay
        let _ = self.process.kill9();
    }
}
