//! It works, and no secret is to be seen anywhere.

use secure::World;

#[tokio::test]
async fn every_sink_is_equal_and_no_secret_is_in_any_log_metric_configuration_or_argument() {
    let world = World::shared().await;
    world.canary(sees_everything).await;
    let writer = [("DATABASE_URL_FILE", file(world, "url-engage"))];
    let written = world
        .engagectl(&["gen", "--rate", "300/s", "--duration", "5s"], &writer)
        .await;
    assert_eq!(written.code, 0, "{}", written.said);

    let [.., receiver] = world.places.addresses();
    let arguments = [
        "-o",
        "json",
        "verify",
        "--within",
        "120s",
        "--receiver",
        &receiver,
    ];
    let compared = world.engagectl(&arguments, &[]).await;
    assert_eq!(compared.code, 0, "{}", compared.said);
    let json = &compared.said[compared.said.find('{').unwrap()..];
    let mut values = serde_json::Deserializer::from_str(json).into_iter::<serde_json::Value>();
    let report = values.next().unwrap().unwrap();
    assert_eq!(report["equal"], true, "{report}");
    assert!(report["events"].as_u64().unwrap() > 1000, "{report}");
    let sinks = report["sinks"].as_array().unwrap();
    assert_eq!(sinks.len(), 4, "{report}");
    for sink in sinks {
        assert!(sink["compared"].as_u64().unwrap() > 100, "{sink}");
    }

    let mut evidence = world.evidence().await;
    evidence.add("gen", written.said);
    evidence.add("verify", compared.said);
    let looked = world.engagectl(&["check"], &[]).await;
    assert_eq!(looked.code, 0, "{}", looked.said);
    evidence.add("check", looked.said);
    assert!(evidence.bytes() > 50_000, "only {} bytes", evidence.bytes());
    assert_eq!(evidence.leaks(world.places.secrets()), "");

    // it can fail: the same look finds what is there
    evidence.add("planted", world.places.secrets().value("kafka-enricher"));
    assert!(
        evidence
            .leaks(world.places.secrets())
            .contains("kafka-enricher in planted")
    );
}

/// The canary has seen its rows in both stores, and the members of a group.
fn sees_everything(metrics: &str) -> bool {
    let positive = |(name, label): (&str, &str)| {
        let of_name = metrics.lines().filter(|line| line.starts_with(name));
        let mut series = of_name.filter(|line| line.contains(label));
        series.any(|line| !line.ends_with(" 0"))
    };
    [
        ("engage_canary_seconds_count{", "sink=\"clickhouse\""),
        ("engage_canary_seconds_count{", "sink=\"redis\""),
        ("engage_group_members{", "group=\"clickhouse-sink\""),
    ]
    .into_iter()
    .all(positive)
}

fn file(world: &World, secret: &str) -> String {
    world.places.secrets().file(secret).display().to_string()
}
