//! Postgres: a role for each who reads. The role that replicates, which also writes the heartbeat, is created by
//! `engagectl init`; the application keeps its own.
//!
//! Invariant: no role of ours is superuser or owns a table, and whoever reads writes nothing.

/// Reads contents that the content topic did not bring, and looks at the slot.
pub const ENRICHER: &str = "engage_enricher";
/// Reads what `engagectl verify` compares.
pub const READER: &str = "engage_reader";

/// Statements for a superuser, once the tables are there; passwords are set beside them (`\password`), not in them.
#[must_use]
pub fn statements() -> String {
    format!(
        "CREATE ROLE {ENRICHER} LOGIN;\n\
         CREATE ROLE {READER} LOGIN;\n\
         GRANT USAGE ON SCHEMA public TO {ENRICHER}, {READER};\n\
         GRANT SELECT ON public.content TO {ENRICHER};\n\
         GRANT SELECT ON public.content, public.engagement_events TO {READER};\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_ever_written_by_who_reads() {
        let text = statements();
        let writing = ["INSERT", "UPDATE", "DELETE", "ALL ", "SUPERUSER", "OWNER"];
        assert!(!writing.iter().any(|word| text.contains(word)), "{text}");
    }
}
