//! Configuration of a service: the input as a TOML file, as `--set` pairs, and as environment.
//!
//! Invariant: it is accepted, or refused in words that name the place.

use std::io::Write as _;

use service::config::{EnvKey, Loader};

pub(crate) fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let file = file(data);
    for (keys, load) in [
        (clickhouse_sink::config::ENV, clickhouse as fn(&Loader)),
        (webhook_forwarder::config::ENV, webhook as fn(&Loader)),
    ] {
        load(&Loader::new(keys).set(lines.iter().cloned()));
        load(&Loader::new(keys).environment(environment(keys, &lines)));
        if let Some(file) = &file {
            load(&Loader::new(keys).file(Some(file.path())));
        }
    }
}

fn clickhouse(loader: &Loader) {
    refused_in_words::<clickhouse_sink::config::Config>(loader);
}

fn webhook(loader: &Loader) {
    refused_in_words::<webhook_forwarder::config::Config>(loader);
}

fn refused_in_words<C: serde::de::DeserializeOwned>(loader: &Loader) {
    if let Err(error) = loader.load_service::<C>() {
        assert!(!error.to_string().is_empty());
    }
}

/// Line n is the value of the n-th name.
fn environment(keys: &[EnvKey], lines: &[String]) -> Vec<(String, String)> {
    let names = keys.iter().map(|key| key.name.to_owned());
    names.zip(lines.iter().cloned()).collect()
}

fn file(data: &[u8]) -> Option<tempfile::NamedTempFile> {
    let mut file = tempfile::Builder::new().suffix(".toml").tempfile().ok()?;
    file.write_all(data).ok()?;
    Some(file)
}
