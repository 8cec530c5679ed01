//! What a server says about itself and the table before anything is written.
//!
//! Invariant: asking changes nothing.

use std::collections::HashSet;

use crate::error::{Reaction, ServerError};
use crate::http::{Answer, Http};
use crate::row::EventIdType;
use crate::schema::{self, Column, SchemaError};
use crate::sql::{self, Table};
use crate::wire::Reader;

/// Why the table cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TableError {
    /// The server does not answer cleanly.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The table is not as it must be.
    #[error(transparent)]
    Schema(#[from] SchemaError),
}

impl TableError {
    /// What to do about it.
    #[must_use]
    pub fn reaction(&self) -> Reaction {
        match self {
            Self::Server(error) => error.reaction(),
            Self::Schema(SchemaError::NoTable { .. }) => Reaction::Missing,
            Self::Schema(_) => Reaction::Stop,
        }
    }

    /// What would be right, and the next command to run.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::Server(error) => error.remedy(),
            Self::Schema(error) => error.remedy(),
        }
    }

    /// Label `kind` of `engage_sink_errors_total`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Server(error) => error.kind(),
            Self::Schema(_) => "configuration",
        }
    }
}

/// What was found out about server and table.
#[derive(Clone, Debug)]
pub struct Found {
    /// The type of `event_id`.
    pub id_type: EventIdType,
    /// Whether an answered insert is on the disk.
    pub synced: bool,
}

/// Looks at the table, and at the one of its fences.
///
/// # Errors
/// It is missing, or not as it must be, or the server does not answer cleanly.
pub async fn inspect(http: &Http, table: &Table) -> Result<Found, TableError> {
    let name = format!("{}.{}", table.database, table.name);
    // asked at once, and judged in this order: without a table, nothing else is worth a word
    let (columns, engine, fences) = tokio::join!(
        http.ask(table.columns()),
        http.ask(table.engine()),
        http.ask(table.highest_fences(&[0])),
    );
    let id_type = schema::check(&name, &read_columns(&columns?)?)?;
    let engine = Reader::new("the engine", &engine?.body).text()?;
    schema::check_engine(&name, &engine)?;
    fences?;
    Ok(Found {
        id_type,
        synced: schema::is_synced(&engine),
    })
}

fn read_columns(answer: &Answer) -> Result<Vec<Column>, ServerError> {
    let mut reader = Reader::new("the columns", &answer.body);
    let mut columns = Vec::new();
    while !reader.is_empty() {
        columns.push(Column {
            name: reader.text()?,
            type_name: reader.text()?,
            default_kind: reader.text()?,
        });
    }
    Ok(columns)
}

/// The settings of an insert that this server knows.
///
/// # Errors
/// The server does not answer cleanly.
pub async fn known_settings(http: &Http) -> Result<Vec<(&'static str, &'static str)>, ServerError> {
    let answer = http.ask(sql::known_settings()).await?;
    let mut reader = Reader::new("the settings", &answer.body);
    // Settings of the HTTP interface are in no table.
    let mut known = HashSet::from(["wait_end_of_query".to_owned()]);
    while !reader.is_empty() {
        known.insert(reader.text()?);
    }
    Ok(sql::INSERT_SETTINGS
        .into_iter()
        .filter(|(name, _)| known.contains(*name))
        .collect())
}
