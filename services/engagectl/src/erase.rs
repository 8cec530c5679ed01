//! `engagectl erase`: a person out of every store, with a signed receipt of it.
//!
//! Every step looks for the person anew and removes what it finds, so a run that was killed between any two statements goes on by
//! being started again, and one that is through finds nothing. What was there at first is noted on the topic of erasures before
//! anything is removed, so that the receipt of a run that goes on says it.

mod analytics;
mod args;
mod cache;
mod database;
mod journal;
mod key;
mod log;
mod passing;
mod person;
mod proof;
mod receipt;
mod search;
mod settings;
mod signature;
mod stores;
mod view;

use std::io::Write as _;
use std::path::Path;

use engagement::event::Micros;
use serde_json::Value;
use service::{Failure, clock};
use tokio::time::Instant;

pub use args::{EraseArgs, InPostgres};
pub use settings::EraseSettings;

use crate::cli::Output;
use crate::cli::print;
use crate::config::Config;
use database::Database;
use journal::{Begun, Entry, Erased};
use key::PrivateKey;
use log::Log;
use person::Person;
use receipt::Outcome;
use search::Found;
use stores::Stores;

/// Looks, and with `--execute` erases; or checks a receipt.
///
/// # Errors
/// What was asked for cannot be (64), a store does not answer (69), it is not through yet (75), or a receipt is none (78).
pub(crate) async fn run(config: &Config, args: &EraseArgs, output: Output) -> Result<(), Failure> {
    if let Some(path) = &args.verify {
        print(&proof::check(config, args, path, output)?);
        return Ok(());
    }
    match (&args.user, args.execute) {
        (None, _) => Err(Failure::usage("--user is missing")),
        (Some(user), false) => look(config, user, output).await,
        (Some(user), true) => carry_out(config, args, user, output).await,
    }
}

/// What was asked to become of the rows in Postgres where there were none.
const NOTHING: &str = "none";

async fn look(config: &Config, user: &str, output: Output) -> Result<(), Failure> {
    let mut database = Database::open(&config.database).await?;
    let person = database.person(user).await?;
    let mut stores = Stores::open(config, database, Log::new(config), &new_run()).await?;
    print(&view::plan(&stores.search(&person).await?, output));
    Ok(())
}

async fn carry_out(
    config: &Config,
    args: &EraseArgs,
    user: &str,
    output: Output,
) -> Result<(), Failure> {
    let key = ready(config, args)?;
    let mut database = Database::open(&config.database).await?;
    let person = database.person(user).await?;
    let log = Log::new(config);
    let open = log.open_run(&person).await?;
    let run = open.as_ref().map_or_else(new_run, |open| open.run.clone());
    let mut stores = Stores::open(config, database, log, &run).await?;
    let found = stores.search(&person).await?;
    let what = decided(args.postgres, &found)?;
    stores.database.allows(what)?;
    let begun = begin(&stores.log, &person, (run, open), &found).await?;
    let deadline = Instant::now() + args.within;
    let after = stores.erase(&person, what, deadline).await?;
    let ended = Micros(clock::now());
    let outcome = Outcome {
        kept: stores.log.kept(&after.letters, ended).await?,
        begun: Micros(begun.at_us),
        ended,
        // rows that came meanwhile were not asked to stay
        postgres: args.postgres.map_or(NOTHING, InPostgres::name),
        before: found.since(&begun.found),
        after,
        topic: stores.log.erasures.clone(),
        run: begun.run,
    };
    let receipt = conclude(&stores.log, &person, &outcome, &key).await?;
    hand_over(&outcome, &receipt, args.receipt.as_deref(), output)
}

/// It is also the salt of the hashes that statements name.
fn new_run() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// The key, if everything is there that a receipt needs at the end.
fn ready(config: &Config, args: &EraseArgs) -> Result<PrivateKey, Failure> {
    if let Some(path) = args.receipt.as_deref().filter(|path| path.exists()) {
        return Err(
            Failure::usage(format!("{} is there already", path.display()))
                .remedy("let --receipt name a file that is not"),
        );
    }
    proof::private_key(config)
}

/// What becomes of the rows in Postgres.
fn decided(asked: Option<InPostgres>, found: &Found) -> Result<InPostgres, Failure> {
    match (asked, found.total_of("postgres")) {
        (Some(what), _) => Ok(what),
        (None, 0) => Ok(InPostgres::Keep),
        (None, rows) => Err(Failure::usage(format!(
            "{rows} rows of engagement_events have this user, and would bring them back"
        ))
        .remedy(
            "let the application erase them first, or give --postgres null, which keeps every count, or --postgres delete; \
             --postgres keep leaves them all the same",
        )),
    }
}

/// Notes what was found before anything is removed, unless a run that was killed has done so.
async fn begin(
    log: &Log,
    person: &Person,
    (run, open): (String, Option<Begun>),
    found: &Found,
) -> Result<Begun, Failure> {
    if let Some(open) = open {
        eprintln!("run {run}, begun at {}, goes on", Micros(open.at_us));
        return Ok(open);
    }
    eprintln!("run {run}");
    let begun = Begun {
        run,
        user_id: person.id().to_owned(),
        at_us: clock::now(),
        found: found.noted(),
    };
    log.note(person, &Entry::Begun(begun.clone())).await?;
    Ok(begun)
}

/// Signs, and tells readers of other stores.
async fn conclude(
    log: &Log,
    person: &Person,
    outcome: &Outcome,
    key: &PrivateKey,
) -> Result<Value, Failure> {
    if !outcome.is_complete() {
        eprint!("{}", view::summary(outcome));
        return Err(
            Failure::try_again("something writes this user again while they are erased")
                .remedy("stop it (the application, a backfill), then give the same command again"),
        );
    }
    let receipt = signature::signed(&outcome.said(&key.hash(person)), key);
    let ends = log.ends_of_events().await?;
    let below = ends
        .below
        .iter()
        .map(|(partition, end)| (partition.to_string(), *end));
    let erased = Entry::Erased(Erased {
        run: outcome.run.clone(),
        user_id: person.id().to_owned(),
        at: outcome.ended.to_string(),
        enriched: ends.topic,
        below: below.collect(),
        receipt: receipt.clone(),
    });
    log.note(person, &erased).await?;
    eprintln!("readers of other stores are told on {}", log.erasures);
    Ok(receipt)
}

/// The receipt into its file, or to standard output.
fn hand_over(
    outcome: &Outcome,
    receipt: &Value,
    file: Option<&Path>,
    output: Output,
) -> Result<(), Failure> {
    let text = format!("{receipt:#}\n");
    let Some(path) = file else {
        eprint!("{}", view::summary(outcome));
        print(&text);
        return Ok(());
    };
    let written = std::fs::File::create_new(path).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    if let Err(error) = written {
        // it is not made twice
        print(&text);
        return Err(Failure::usage(format!(
            "the receipt cannot be written to {}; it is on standard output, and on {}",
            path.display(),
            outcome.topic
        ))
        .cause(error));
    }
    match output {
        Output::Table => print(&view::summary(outcome)),
        Output::Json => print(&text),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::search::Place;
    use super::*;

    fn found(rows: u64) -> Found {
        Found {
            places: vec![Place {
                store: "postgres",
                name: "engagement_events".into(),
                count: rows,
            }],
            letters: Vec::new(),
        }
    }

    #[test]
    fn rows_in_postgres_need_a_word_about_them() {
        assert_eq!(decided(None, &found(0)).unwrap(), InPostgres::Keep);
        let refused = decided(None, &found(3)).unwrap_err();
        assert_eq!(refused.exit().code(), 64);
        assert!(refused.what().contains("3 rows"));
        for what in [InPostgres::Null, InPostgres::Delete, InPostgres::Keep] {
            assert_eq!(decided(Some(what), &found(3)).unwrap(), what);
        }
    }
}
