//! What a backfill refuses, and what it says then.

use e2e::World;
use serde_json::Value;

use crate::backfill::{engagectl, ran, runs};

/// What cannot be is refused in words, before anything is written.
pub(crate) async fn is_refused_where_it_cannot_be(world: &World) {
    for (words, code, said) in [
        (&["--start", "now", "--end", "-2h"][..], 64, "reversed"),
        (&["--start", "-2h", "--end", "-3h"], 64, "reversed"),
        (&["--start", "today", "--end", "today"], 64, "empty"),
        (&["--start", "soon"], 64, "2026-01-08T09:00:00"),
        (&["--resume", "1"], 64, "there is no run 1"),
        (
            &["--start", "-2h", "--sinks", "redis"],
            64,
            "clickhouse, webhook",
        ),
        (&["--start", "-2h"], 64, "--yes"),
    ] {
        let mut command = engagectl(world);
        command.arg("backfill").args(words);
        let (found, text) = ran(command).await;
        assert_eq!(found, code, "{words:?}: {text}");
        assert!(text.contains(said), "{words:?}: {text}");
    }
    let mut command = engagectl(world);
    command.args(["-o", "json", "backfill", "--start", "-2h", "--dry-run"]);
    let (code, text) = ran(command).await;
    assert_eq!(code, 0, "{text}");
    let plan: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(plan["sinks"], serde_json::json!(["clickhouse"]));
    let run = plan["run"].as_i64().unwrap();
    let listed = runs(world).await;
    assert!(
        listed.iter().all(|one| one["run"].as_i64() != Some(run)),
        "{listed:?}"
    );
}
