//! `engagectl top`: what all services say of themselves, on a screen that is drawn anew every second.
//!
//! Invariant: it reads `/metrics` and `/readyz` and nothing else; a service that does not answer holds up no other.

mod args;
mod page;
mod state;
mod text;
mod view;

use std::time::{Duration, Instant};

use engagement::event::Micros;
use reqwest::Client;
use service::Failure;
use tokio_util::sync::CancellationToken;

use args::Admin;
pub use args::TopArgs;
use state::{Look, Metrics, Readiness, Shown};

use crate::cli::Output;
use crate::pipeline::SERVICES;
use crate::screen::Screen;

/// Longest time for a service to answer.
const ANSWER: Duration = Duration::from_secs(2);
/// Pause between two looks at the keyboard.
const KEYS: Duration = Duration::from_millis(50);
/// The documented ports of [`SERVICES`].
const PORTS: [u16; 4] = [9101, 9102, 9103, 9104];

/// Shows until a key, Ctrl-C or the last look.
///
/// # Errors
/// The HTTP client cannot be made (70).
pub(crate) async fn run(
    args: &TopArgs,
    output: Output,
    stop: CancellationToken,
) -> Result<(), Failure> {
    let looking = Looking::new(args)?;
    let mut show = Show::open(output);
    let mut before: Vec<Look> = Vec::new();
    let mut looks = 0;
    loop {
        let Some(now) = stop.run_until_cancelled(looking.look()).await else {
            return Ok(());
        };
        let all: Vec<Shown> = now
            .iter()
            .map(|look| Shown::of(look, before.iter().find(|one| one.name == look.name)))
            .collect();
        before = now;
        looks += 1;
        let last = args.count.is_some_and(|count| looks >= count.get());
        if !show.show(&all) || last || show.wait(args.every, &stop).await {
            return Ok(());
        }
    }
}

/// Where it is shown.
enum Show {
    /// A full screen that is redrawn.
    Screen(Screen),
    /// Lines on standard output.
    Lines(Output),
}

impl Show {
    fn open(output: Output) -> Self {
        let screen = (output == Output::Table).then(Screen::open).flatten();
        match screen {
            Some(screen) => Self::Screen(screen),
            None => Self::Lines(output),
        }
    }

    /// `false`: nobody reads it any more.
    fn show(&mut self, all: &[Shown]) -> bool {
        let at = Micros(service::clock::now() / 1_000_000 * 1_000_000).to_string();
        match self {
            Self::Screen(screen) => {
                screen.draw(|frame| view::draw(frame, all, &at));
                true
            }
            Self::Lines(Output::Json) => written(&format!("{}\n", text::json(all, &at))),
            Self::Lines(Output::Table) => written(&text::lines(all, &at)),
        }
    }

    /// Until the next look; `true`: it is to end.
    async fn wait(&self, every: Duration, stop: &CancellationToken) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < every {
            if matches!(self, Self::Screen(..)) && Screen::quit_requested() {
                return true;
            }
            let pause = every.saturating_sub(begun.elapsed()).min(KEYS);
            if stop
                .run_until_cancelled(tokio::time::sleep(pause))
                .await
                .is_none()
            {
                return true;
            }
        }
        false
    }
}

fn written(text: &str) -> bool {
    use std::io::Write as _;
    std::io::stdout().write_all(text.as_bytes()).is_ok()
}

/// What looking takes.
struct Looking {
    client: Client,
    admins: Vec<Admin>,
    begun: Instant,
}

impl Looking {
    fn new(args: &TopArgs) -> Result<Self, Failure> {
        let client = Client::builder().no_proxy().timeout(ANSWER).build();
        let client =
            client.map_err(|error| Failure::internal("cannot make an HTTP client").cause(error))?;
        let admins = match args.admin.is_empty() {
            true => documented(),
            false => args.admin.clone(),
        };
        Ok(Self {
            client,
            admins,
            begun: Instant::now(),
        })
    }

    /// All services at once.
    async fn look(&self) -> Vec<Look> {
        let looks = self.admins.iter().map(|admin| self.look_at(admin));
        futures_util::future::join_all(looks).await
    }

    async fn look_at(&self, admin: &Admin) -> Look {
        let (ready, metrics) = tokio::join!(self.ready(admin), self.metrics(admin));
        Look {
            name: admin.name.clone(),
            at: self.begun.elapsed(),
            ready,
            metrics,
        }
    }

    async fn ready(&self, admin: &Admin) -> Readiness {
        let response = match self.get(admin, "/readyz").await {
            Ok(response) => response,
            Err(error) => return Readiness::Away(vec![why(&error, &admin.url)]),
        };
        let status = response.status();
        if status.is_success() {
            return Readiness::Ready;
        }
        let report = response.json().await.unwrap_or_default();
        match state::reasons(&report) {
            reasons if reasons.is_empty() => {
                Readiness::NotReady(vec![format!("/readyz answers {status}")])
            }
            reasons => Readiness::NotReady(reasons),
        }
    }

    async fn metrics(&self, admin: &Admin) -> Option<Metrics> {
        let response = self.get(admin, "/metrics").await.ok()?;
        let text = response.error_for_status().ok()?.text().await.ok()?;
        Some(Metrics::parse(&text))
    }

    async fn get(&self, admin: &Admin, path: &str) -> reqwest::Result<reqwest::Response> {
        let base = admin.url.as_str().trim_end_matches('/');
        self.client.get(format!("{base}{path}")).send().await
    }
}

fn documented() -> Vec<Admin> {
    let admin = |(name, port): (&str, u16)| Admin {
        name: name.to_owned(),
        url: format!("http://127.0.0.1:{port}")
            .parse()
            .expect("a literal with a number is a URL"),
    };
    SERVICES.into_iter().zip(PORTS).map(admin).collect()
}

fn why(error: &reqwest::Error, url: &url::Url) -> String {
    let what = match (error.is_timeout(), error.is_connect()) {
        (true, _) => "does not answer within 2 s",
        (false, true) => "cannot be connected to",
        (false, false) => "gives no answer that is one",
    };
    format!(
        "{}:{} {what}",
        url.host_str().unwrap_or_default(),
        url.port_or_known_default().unwrap_or(0)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_addresses_those_of_a_pipeline_on_this_machine_are_looked_at() {
        let found: Vec<String> = documented()
            .iter()
            .map(|one| format!("{} {}", one.name, one.url))
            .collect();
        assert_eq!(found[0], "enricher http://127.0.0.1:9101/");
        assert_eq!(found[3], "webhook-forwarder http://127.0.0.1:9104/");
    }
}
