//! Redis: one question, `INFO`.

use super::Notes;
use crate::check;
use crate::config::RedisSettings;
use crate::doctor::judge;
use crate::doctor::report::Diagnosis;

pub(in crate::doctor) async fn look(settings: RedisSettings, notes: Notes) {
    match check::info(&settings).await {
        Ok(info) => notes.add(judge::redis::judge(&info)),
        Err(finding) => notes.add([Diagnosis::from(finding)]),
    }
}
