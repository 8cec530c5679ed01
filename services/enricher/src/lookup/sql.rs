//! The SQL that asks Postgres for contents, as text.
//!
//! Invariant: identifiers are quoted here and nowhere else; values are always parameters; a column the table
//! lacks is answered with NULL instead of an error.

use std::collections::BTreeMap;

/// The columns of a table and their types, as `pg_attribute` tells them.
pub type Columns = BTreeMap<String, String>;

/// Asks for the columns of the table named by `$1`: name, type. A table that does not exist has none.
pub const COLUMNS: &str = "SELECT attname::text, format_type(atttypid, NULL) FROM pg_attribute \
     WHERE attrelid = to_regclass($1) AND has_any_column_privilege(attrelid, 'SELECT') AND attnum > 0 AND NOT attisdropped";

/// Asks which database this is: system identifier as text (it is a 64-bit unsigned number), timeline.
/// Both functions are open to every role.
pub const IDENTITY: &str = "SELECT (SELECT system_identifier::text FROM pg_control_system()), \
     (SELECT timeline_id::bigint FROM pg_control_checkpoint())";

/// The type of a key column, as far as a list of keys must be cast to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyType {
    /// `uuid`.
    Uuid,
    /// `smallint`, `integer`, `bigint`.
    Integer,
    /// Everything else is compared as text.
    Text,
}

impl KeyType {
    /// The type that `pg_attribute` names.
    #[must_use]
    pub fn of(name: &str) -> Self {
        match name {
            "uuid" => Self::Uuid,
            "bigint" | "integer" | "smallint" => Self::Integer,
            _ => Self::Text,
        }
    }

    /// Whether Postgres could cast `key`; one that it cannot would fail the whole question.
    #[must_use]
    pub fn accepts(self, key: &str) -> bool {
        match self {
            Self::Uuid => is_uuid(key),
            Self::Integer => key.parse::<i64>().is_ok(),
            Self::Text => !key.contains('\0'),
        }
    }

    const fn cast(self) -> &'static str {
        match self {
            Self::Uuid => "uuid[]",
            Self::Integer => "bigint[]",
            Self::Text => "text[]",
        }
    }
}

fn is_uuid(key: &str) -> bool {
    key.len() == 36
        && key.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// The question for a list of keys (`$1`, text): key, title, slug, type, length in seconds, publication in microseconds.
///
/// The key column keeps its own type, so that its index is used. A naive timestamp counts as UTC.
#[must_use]
pub fn contents(table: &str, key: &str, columns: &Columns) -> String {
    let text = |column: &str| present(columns, column, "::text");
    let cast = KeyType::of(columns.get(key).map_or("", String::as_str)).cast();
    let publish = match columns.get("publish_ts") {
        Some(_) => "(extract(epoch FROM \"publish_ts\") * 1000000)::bigint".to_owned(),
        None => "NULL::bigint".to_owned(),
    };
    format!(
        "SELECT {key}::text, {}, {}, {}, {}, {publish} FROM {} WHERE {key} = ANY($1::text[]::{cast})",
        text("title"),
        text("slug"),
        text("content_type"),
        present(columns, "length_seconds", "::bigint"),
        table_name(table),
        key = quoted(key),
    )
}

fn present(columns: &Columns, column: &str, cast: &str) -> String {
    match columns.get(column) {
        Some(_) => format!("{}{cast}", quoted(column)),
        None => format!("NULL{cast}"),
    }
}

/// `public.content` as `"public"."content"`.
#[must_use]
pub fn table_name(table: &str) -> String {
    table.split('.').map(quoted).collect::<Vec<_>>().join(".")
}

fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(list: &[(&str, &str)]) -> Columns {
        list.iter()
            .map(|(name, kind)| ((*name).to_owned(), (*kind).to_owned()))
            .collect()
    }

    #[test]
    fn the_uuid_schema_is_asked_by_its_own_key_type() {
        let all = columns(&[
            ("id", "uuid"),
            ("slug", "text"),
            ("title", "text"),
            ("content_type", "text"),
            ("length_seconds", "integer"),
            ("publish_ts", "timestamp with time zone"),
        ]);
        assert_eq!(
            contents("public.content", "id", &all),
            "SELECT \"id\"::text, \"title\"::text, \"slug\"::text, \"content_type\"::text, \"length_seconds\"::bigint, \
             (extract(epoch FROM \"publish_ts\") * 1000000)::bigint FROM \"public\".\"content\" \
             WHERE \"id\" = ANY($1::text[]::uuid[])"
        );
    }

    #[test]
    fn a_column_the_table_lacks_is_null() {
        let few = columns(&[
            ("content_id", "bigint"),
            ("content_type", "text"),
            ("length_seconds", "integer"),
        ]);
        let sql = contents("content", "content_id", &few);
        assert!(
            sql.contains("NULL::text, NULL::text, \"content_type\"::text"),
            "{sql}"
        );
        assert!(sql.contains("NULL::bigint FROM \"content\""), "{sql}");
        assert!(
            sql.ends_with("\"content_id\" = ANY($1::text[]::bigint[])"),
            "{sql}"
        );
    }

    #[test]
    fn a_quote_in_a_name_stays_inside_the_name() {
        assert_eq!(table_name("pub\"lic.t"), "\"pub\"\"lic\".\"t\"");
    }

    #[test]
    fn keys_that_cannot_be_cast_are_told_apart() {
        assert!(KeyType::Uuid.accepts("5b6962dd-3f90-4c93-8f61-eabfa4a803e2"));
        assert!(!KeyType::Uuid.accepts("5b6962dd3f904c938f61eabfa4a803e2xxxx"));
        assert!(KeyType::Integer.accepts("-7"));
        assert!(!KeyType::Integer.accepts("7.0"));
        assert!(!KeyType::Text.accepts("a\0b"));
    }
}
