//! Keys from the configuration and from files, and the check of a receipt.

use std::path::Path;

use secrecy::ExposeSecret as _;
use serde_json::Value;
use service::Failure;

use super::args::EraseArgs;
use super::key::{KeyError, PrivateKey, PublicKey};
use super::person::Person;
use super::signature::{ReceiptError, verified};
use crate::cli::Output;
use crate::config::Config;

const NO_KEY: &str = "make one with `openssl genpkey -algorithm ed25519 -out erase.pem`, keep it, and name it by ERASE_KEY_FILE";

/// The key that signs.
///
/// # Errors
/// There is none, or it is none (64).
pub(super) fn private_key(config: &Config) -> Result<PrivateKey, Failure> {
    let Some(text) = &config.erase.key else {
        return Err(Failure::usage("there is no key that signs the receipt").remedy(NO_KEY));
    };
    let key = PrivateKey::from_pem(text.expose_secret());
    key.map_err(|error| unusable("erase.key", error))
}

fn unusable(what: &str, error: KeyError) -> Failure {
    Failure::usage(format!("{what} cannot be used"))
        .cause(error)
        .remedy(NO_KEY)
}

/// What a receipt says, if it is what was signed.
///
/// # Errors
/// A file cannot be read or is no receipt (64); it is not what was signed, or is about another user (78).
pub(super) fn check(
    config: &Config,
    args: &EraseArgs,
    path: &Path,
    output: Output,
) -> Result<String, Failure> {
    let public = match &args.public_key {
        Some(path) => PublicKey::from_pem(&read(path)?)
            .map_err(|error| unusable(&path.display().to_string(), error))?,
        None if config.erase.key.is_none() => {
            return Err(Failure::usage("there is no key to check the receipt with").remedy(
                "name the public key of whoever has signed it: --public-key erase.pub; with the private one, ERASE_KEY_FILE does",
            ));
        }
        None => private_key(config)?.public(),
    };
    let said = verified(&read(path)?, &public).map_err(|error| wrong(path, error))?;
    if let Some(user) = &args.user {
        let hash = private_key(config)?.hash(&Person::new(canonical(user)));
        if said["user_hmac_sha256"] != Value::String(hash) {
            return Err(wrong(path, ReceiptError::User));
        }
    }
    Ok(match output {
        Output::Table => text(&said),
        Output::Json => format!("{said:#}\n"),
    })
}

/// Ids of the type UUID are in lower case; all others are as they are.
fn canonical(user: &str) -> String {
    uuid::Uuid::parse_str(user).map_or_else(|_| user.to_owned(), |id| id.to_string())
}

fn wrong(path: &Path, error: ReceiptError) -> Failure {
    let what = format!("{} does not prove anything", path.display());
    match error {
        ReceiptError::Form(_) => Failure::usage(what)
            .cause(error)
            .remedy("give the file that `engagectl erase --execute --receipt` has written"),
        ReceiptError::Key(_) => Failure::repair(what)
            .cause(error)
            .remedy("check it with the public key of whoever has signed it"),
        ReceiptError::Signature | ReceiptError::User => Failure::repair(what)
            .cause(error)
            .remedy("get the original, or erase again: what is gone stays gone"),
    }
}

fn text(said: &Value) -> String {
    let word = |name: &str| said[name].as_str().unwrap_or("unknown").to_owned();
    let mut text = format!(
        "signed: run {}, begun at {}, ended at {}\n",
        word("run"),
        word("begun_at"),
        word("ended_at")
    );
    for store in said["stores"].as_array().map_or(&[][..], Vec::as_slice) {
        text += &format!(
            "{:<10}  {:<34} {:>8} found, {} left\n",
            store["store"].as_str().unwrap_or_default(),
            store["place"].as_str().unwrap_or_default(),
            store["found"].to_string(),
            store["left"]
        );
    }
    text
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| {
        Failure::usage(format!("cannot read {}", path.display()))
            .cause(error)
            .remedy("name a file that can be read")
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use secrecy::SecretString;

    use super::*;
    use crate::cli::{Cli, Command};
    use crate::erase::key::tests::private_pem;
    use crate::erase::receipt::tests::outcome;
    use crate::erase::signature::signed;

    fn config(byte: u8) -> Config {
        let mut config = Config::default();
        config.erase.key = Some(SecretString::from(private_pem(&[byte; 32])));
        config
    }

    fn checked(config: &Config, words: &[&str], path: &Path) -> Result<String, Failure> {
        let path_text = path.to_str().unwrap();
        let line = [&["engagectl", "erase", "--verify", path_text], words].concat();
        let Command::Erase(args) = Cli::parse_from(line).command else {
            panic!("erase")
        };
        check(config, &args, path, Output::Table)
    }

    #[test]
    fn a_receipt_is_checked_for_its_key_its_text_and_its_user() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("receipt.json");
        let user = "6F9619FF-8B86-D011-B42D-00C04FC964FF";
        let key = private_key(&config(1)).unwrap();
        let hash = key.hash(&Person::new(user.to_lowercase()));
        let receipt = signed(&outcome(0).said(&hash), &key).to_string();
        std::fs::write(&path, &receipt).unwrap();

        let text = checked(&config(1), &["--user", user], &path).unwrap();
        assert!(
            text.contains("run r1") && text.contains("30 found, 0 left"),
            "{text}"
        );
        let codes = |config: &Config, words: &[&str]| {
            checked(config, words, &path).map_err(|error| error.exit().code())
        };
        assert_eq!(codes(&config(1), &["--user", "7"]).unwrap_err(), 78);
        assert_eq!(codes(&config(2), &[]).unwrap_err(), 78);
        assert_eq!(codes(&Config::default(), &[]).unwrap_err(), 64);

        std::fs::write(&path, receipt.replace("\"found\":30", "\"found\":31")).unwrap();
        assert_eq!(codes(&config(1), &[]).unwrap_err(), 78);
        std::fs::write(&path, "no receipt").unwrap();
        assert_eq!(codes(&config(1), &[]).unwrap_err(), 64);
    }
}
