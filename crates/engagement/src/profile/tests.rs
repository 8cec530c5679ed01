//! One golden file per profile; `UPDATE_GOLDEN=1 cargo test -p engagement` rewrites them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use rstest::rstest;

use super::*;
use crate::event::{Anomaly, Lane, Micros, Origin};
use crate::testing::Sample;

const EVENT_TS: Micros = crate::testing::EVENT_TS;

/// The rows that the shapes differ on; named, because the golden files are read by people.
fn cases() -> Vec<(&'static str, EnrichedEvent)> {
    let before = Sample::new().duration_ms(4_000).event_type("pause").build();
    let mut null_type = Sample::new().event_type("").build();
    null_type.anomalies = vec![Anomaly::UnknownEventType];
    let mut snapshot = Sample::new().origin(Origin::Snapshot).build();
    snapshot.source.tx_id = None;
    let mut over = Sample::new().duration_ms(450_000).build();
    over.anomalies = vec![Anomaly::Over100Percent];
    vec![
        ("7000 ms of 300 s", Sample::new().build()),
        (
            "900000 ms of 1800 s",
            Sample::new()
                .duration_ms(900_000)
                .length_seconds(1_800)
                .build(),
        ),
        (
            "1000 ms of 8 s",
            Sample::new().duration_ms(1_000).length_seconds(8).build(),
        ),
        ("0 ms", Sample::new().duration_ms(0).build()),
        ("over 100 %", over),
        ("duration null", Sample::new().duration_ms(None).build()),
        ("length null", Sample::new().length_seconds(None).build()),
        ("length 0", Sample::new().length_seconds(0).build()),
        ("content null", Sample::new().no_content().build()),
        ("content unknown", Sample::new().missing().build()),
        ("event type null", null_type),
        (
            "fractions of a second",
            Sample::new()
                .event_ts(Micros(EVENT_TS.0 + 123_456))
                .duration_ms(1_234)
                .build(),
        ),
        (
            "integer keys",
            Sample::new()
                .event_id(9_007_199_254_740_993_i64)
                .content_id(42)
                .user_id(7)
                .build(),
        ),
        (
            "keys like integers",
            Sample::new()
                .event_id("007")
                .content_id("-0")
                .user_id("+1")
                .build(),
        ),
        (
            "escapes",
            Sample::new().event_type("a\"b\\c\n\u{1F600}").build(),
        ),
        ("update", Sample::new().replacing(&before).build()),
        ("deletion", Sample::new().deleted().build()),
        ("moved, old half", Sample::new().deleted().moved().build()),
        ("moved, new half", Sample::new().moved().build()),
        ("snapshot", snapshot),
        (
            "backfill, epoch 1",
            Sample::new()
                .lane(Lane::Backfill)
                .origin(Origin::Backfill)
                .epoch(1)
                .build(),
        ),
    ]
}

fn render(profile: Profile, event: &EnrichedEvent, options: &RenderOptions) -> String {
    String::from_utf8(profile.render(event, options)).unwrap()
}

fn golden(profile: Profile) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{profile}.txt"))
}

#[test]
fn every_profile_is_its_golden_file() {
    for profile in Profile::ALL {
        let mut rendered = String::new();
        for (name, event) in cases() {
            let _ = writeln!(
                rendered,
                "# {name}\n{}",
                render(profile, &event, &RenderOptions::default())
            );
        }
        let complete = render(profile, &Sample::new().build(), &RenderOptions::complete());
        let _ = writeln!(rendered, "# with the payload\n{complete}");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(golden(profile), &rendered).unwrap();
        }
        let expected = std::fs::read_to_string(golden(profile)).unwrap_or_default();
        for (have, want) in rendered.lines().zip(expected.lines()) {
            assert_eq!(
                have, want,
                "{profile}: UPDATE_GOLDEN=1 cargo test -p engagement rewrites the file"
            );
        }
        assert_eq!(
            rendered.lines().count(),
            expected.lines().count(),
            "{profile}"
        );
    }
}

#[rstest]
#[case(7_000, 300, "0.0233", "0.02", "2.33")]
#[case(900_000, 1_800, "0.5", "0.5", "50.0")]
#[case(1_000, 8, "0.125", "0.13", "12.5")]
#[case(0, 300, "0.0", "0.0", "0.0")]
#[case(450_000, 300, "1.5", "1.5", "150.0")]
#[case(16_845, 300, "0.0562", "0.06", "5.62")]
#[case(-7_000, 300, "-0.0233", "-0.02", "-2.33")]
fn the_figures_of_the_contract(
    #[case] ms: i64,
    #[case] seconds: i64,
    #[case] ratio4: &str,
    #[case] ratio2: &str,
    #[case] percent: &str,
) {
    let event = Sample::new()
        .duration_ms(ms)
        .length_seconds(seconds)
        .build();
    for (profile, field, figure) in [
        (Profile::Ratio4, "engagement_pct", ratio4),
        (Profile::Ratio2, "engagement_pct", ratio2),
        (Profile::Percent2, "engagement_pct", percent),
        (Profile::Percentage, "engagement_percentage", percent),
        (Profile::PercentageNested, "engagement_percentage", percent),
        (Profile::Canonical, "engagement_ratio", ratio4),
        (Profile::Canonical, "engagement_percent", percent),
    ] {
        let rendered = render(profile, &event, &RenderOptions::default());
        let found = rendered.split_once(&format!("\"{field}\":")).unwrap().1;
        let found = found.split([',', '}']).next().unwrap();
        assert_eq!(found, figure, "{profile} {field}");
    }
}

#[test]
fn the_payload_leaves_only_when_asked_for() {
    let event = Sample::new().build();
    for profile in Profile::ALL {
        assert!(
            !render(profile, &event, &RenderOptions::default()).contains("raw_payload"),
            "{profile}"
        );
    }
    for profile in [Profile::Canonical, Profile::Percent2, Profile::Cloudevents] {
        let value = render(profile, &event, &RenderOptions::complete());
        assert!(
            value.contains(r#""raw_payload":"{\"app\":\"7.2\"}""#),
            "{value}"
        );
    }
}

#[test]
fn two_revisions_of_an_event_are_two_cloud_events() {
    let id = |event: &EnrichedEvent| {
        Profile::Cloudevents.value(event, &RenderOptions::default())["id"].clone()
    };
    let first = Sample::new().build();
    let mut second = Sample::new().replacing(&first).build();
    second.revision += 1;
    assert_ne!(id(&first), id(&second));
    assert_ne!(id(&first), id(&Sample::new().deleted().build()));
    assert_eq!(id(&first), id(&Sample::new().build()));
}

#[test]
fn names_read_back() {
    for profile in Profile::ALL {
        assert_eq!(profile.to_string().parse(), Ok(profile));
        let json = serde_json::to_string(&profile).unwrap();
        assert_eq!(serde_json::from_str::<Profile>(&json).unwrap(), profile);
    }
    let error = "ratio3".parse::<Profile>().unwrap_err().to_string();
    assert!(
        error.contains("ratio3") && error.contains("percentage-nested"),
        "{error}"
    );
}
