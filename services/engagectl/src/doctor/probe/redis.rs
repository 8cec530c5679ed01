//! Redis: one question, `INFO`.

use super::Notes;
use crate::check;
use crate::doctor::report::Diagnosis;
use crate::doctor::{Asked, judge};

pub(in crate::doctor) async fn look(asked: Asked, notes: Notes) {
    match check::info(&asked.config.redis).await {
        Ok(info) => notes.add(judge::redis::judge(&info)),
        Err(finding) => notes.add([Diagnosis::from(finding)]),
    }
}
