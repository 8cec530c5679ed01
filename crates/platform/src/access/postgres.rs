//! Postgres: a role for each who reads. The role that replicates, which also writes the heartbeat, is created by
//! `engagectl init`; the application keeps its own.
//!
//! Invariant: no role of ours is superuser or owns a table, whoever reads writes nothing; of those that write, one adds rows only,
//! and one takes persons out of them.

/// Reads contents that the content topic did not bring, and looks at the slot.
pub const ENRICHER: &str = "engage_enricher";
/// Reads what `engagectl verify` compares.
pub const READER: &str = "engage_reader";
/// Writes the rows of `engagectl canary`, and sees of all rows nothing but key and time.
pub const CANARY: &str = "engage_canary";

/// Takes a person out of the rows (`engagectl erase`), and sees of them nothing but whose they are.
pub const ERASER: &str = "engage_erase";

/// Statements for a superuser, once the tables are there; passwords are set beside them (`\password`), not in them.
#[must_use]
pub fn statements() -> String {
    format!(
        "CREATE ROLE {ENRICHER} LOGIN;\n\
         CREATE ROLE {READER} LOGIN;\n\
         CREATE ROLE {CANARY} LOGIN;\n\
         CREATE ROLE {ERASER} LOGIN;\n\
         GRANT USAGE ON SCHEMA public TO {ENRICHER}, {READER}, {CANARY}, {ERASER};\n\
         GRANT SELECT ON public.content TO {ENRICHER};\n\
         GRANT SELECT ON public.content, public.engagement_events TO {READER};\n\
         GRANT INSERT ON public.content TO {CANARY};\n\
         GRANT INSERT, SELECT (id, event_ts) ON public.engagement_events TO {CANARY};\n\
         GRANT USAGE ON SEQUENCE public.engagement_events_id_seq TO {CANARY};\n\
         GRANT DELETE, SELECT (user_id), UPDATE (user_id, device, raw_payload) ON public.engagement_events TO {ERASER};\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_ever_written_by_who_reads() {
        let text = statements();
        let writing = ["INSERT", "UPDATE", "DELETE", "ALL ", "SUPERUSER", "OWNER"];
        let reads = |line: &&str| !line.contains(CANARY) && !line.contains(ERASER);
        for line in text.lines().filter(reads) {
            assert!(!writing.iter().any(|word| line.contains(word)), "{line}");
        }
    }

    #[test]
    fn who_erases_sees_whose_rows_they_are_and_cannot_add_any() {
        let text = statements();
        let more = ["INSERT", "TRUNCATE", "ALL ", "SELECT ON", "UPDATE ON"];
        let own =
            |line: &&str| line.starts_with("GRANT") && line.ends_with(&format!("TO {ERASER};"));
        let own: Vec<&str> = text.lines().filter(own).collect();
        assert!(!own.is_empty());
        for line in own {
            assert!(!more.iter().any(|word| line.contains(word)), "{line}");
        }
    }

    #[test]
    fn the_canary_adds_rows_and_neither_changes_nor_reads_them() {
        let text = statements();
        let more = ["UPDATE", "DELETE", "TRUNCATE", "ALL ", "SELECT ON"];
        for line in text.lines().filter(|line| line.contains(CANARY)) {
            assert!(!more.iter().any(|word| line.contains(word)), "{line}");
        }
    }
}
