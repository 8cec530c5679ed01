//! Who may do what: the least that each service needs in Kafka, Postgres, Redis and ClickHouse.
//!
//! Invariant: this is the one list. `engagectl access` prints it, `docs/security.md` shows what it prints, and the secured
//! end-to-end test gives its servers exactly this and nothing more.

pub mod clickhouse;
pub mod kafka;
pub mod postgres;
pub mod redis;

#[cfg(test)]
mod tests {
    use crate::Settings;

    /// What the document shows between the fences that follow this heading.
    fn shown(heading: &str) -> String {
        let text = include_str!("../../../docs/security.md");
        let (_, after) = text.split_once(heading).expect("the heading is there");
        let (_, block) = after.split_once("```").expect("a block follows it");
        let (_, block) = block.split_once('\n').expect("the block has lines");
        let (block, _) = block.split_once("```").expect("the block ends");
        block.to_owned()
    }

    #[test]
    fn the_document_shows_what_the_tool_prints() {
        let settings = Settings::default();
        let printed = [
            ("### Kafka", super::kafka::commands(&settings.topics)),
            ("### Postgres", super::postgres::statements()),
            ("### Redis", super::redis::lines("eng:")),
            (
                "### ClickHouse",
                super::clickhouse::statements("engagement"),
            ),
        ];
        for (heading, text) in printed {
            assert_eq!(shown(heading), text, "{heading}");
        }
    }
}
