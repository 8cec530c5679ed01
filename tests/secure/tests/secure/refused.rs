//! What is wrong with a password, an authority, a right: named, with the setting, the remedy and the exit code.

use secure::{Evidence, Outcome, World};

/// One mistake.
struct Case {
    /// Program and arguments.
    run: &'static [&'static str],
    /// What is set wrongly.
    variables: Vec<(&'static str, String)>,
    /// How it must end.
    code: i32,
    /// What it must say.
    says: &'static [&'static str],
}

const CHECK_FORWARDER: &[&str] = &["webhook-forwarder", "check"];
const CHECK_ENRICHER: &[&str] = &["enricher", "check"];
const CHECK_REDIS: &[&str] = &["redis-aggregator", "check"];
const CHECK_CLICKHOUSE: &[&str] = &["clickhouse-sink", "check"];

#[tokio::test]
async fn a_wrong_password_is_named_by_its_setting() {
    let world = World::shared().await;
    let wrong = || secret(world, "wrong");
    let url = |store: String, user: &str| {
        let login = format!("://{user}:{}@", world.places.secrets().value("wrong"));
        store.replacen("://", &login, 1)
    };
    let [postgres, redis, ..] = world.places.addresses();
    let kafka = &["refused the credentials", "KAFKA_SASL_PASSWORD"];
    all(
        world,
        vec![
            case(
                CHECK_ENRICHER,
                [("KAFKA_SASL_PASSWORD_FILE", wrong())],
                78,
                kafka,
            ),
            case(
                &["enricher"],
                [("KAFKA_SASL_PASSWORD_FILE", wrong())],
                78,
                kafka,
            ),
            case(
                &["redis-aggregator"],
                [("KAFKA_SASL_PASSWORD_FILE", wrong())],
                78,
                kafka,
            ),
            case(
                CHECK_ENRICHER,
                [
                    ("DATABASE_URL_FILE", String::new()),
                    ("DATABASE_URL", url(postgres, "engage_enricher")),
                ],
                69,
                &["password authentication failed", "DATABASE_URL"],
            ),
            case(
                &["redis-aggregator"],
                [
                    ("REDIS_URL_FILE", String::new()),
                    ("REDIS_URL", url(redis, "redis-aggregator")),
                ],
                78,
                &["refuses the credentials", "REDIS_URL"],
            ),
            case(
                &["clickhouse-sink"],
                [("CLICKHOUSE_PASSWORD_FILE", wrong())],
                78,
                &["code 516", "CLICKHOUSE_PASSWORD"],
            ),
            case(
                &["engagectl", "check"],
                [("KAFKA_SASL_PASSWORD_FILE", wrong())],
                69,
                &["refused the credentials", "KAFKA_SASL_"],
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_server_whose_authority_is_not_trusted_is_named_by_the_setting_of_its_file() {
    let world = World::shared().await;
    let other = || world.other.ca.display().to_string();
    let postgres = world.postgres_url("engage_enricher");
    let own = world.places.ca().display().to_string();
    all(
        world,
        vec![
            case(
                CHECK_ENRICHER,
                [("KAFKA_SSL_CA_LOCATION", other())],
                69,
                &["certificate verify failed", "KAFKA_SSL_CA_LOCATION"],
            ),
            case(
                CHECK_ENRICHER,
                [
                    ("DATABASE_URL_FILE", String::new()),
                    ("DATABASE_URL", postgres.replace(&own, &other())),
                ],
                69,
                &["certificate", "sslrootcert in DATABASE_URL"],
            ),
            case(
                CHECK_REDIS,
                [("REDIS_SSL_CA_LOCATION", other())],
                69,
                &["certificate", "REDIS_SSL_CA_LOCATION"],
            ),
            case(
                CHECK_CLICKHOUSE,
                [("CLICKHOUSE_SSL_CA_LOCATION", other())],
                69,
                &["certificate", "CLICKHOUSE_SSL_CA_LOCATION"],
            ),
            case(
                CHECK_REDIS,
                [("REDIS_SSL_CA_LOCATION", "/nowhere/ca.crt".to_owned())],
                64,
                &["REDIS_SSL_CA_LOCATION", "/nowhere/ca.crt"],
            ),
            case(
                &["clickhouse-sink"],
                [("CLICKHOUSE_SSL_CA_LOCATION", "/nowhere/ca.crt".to_owned())],
                64,
                &["CLICKHOUSE_SSL_CA_LOCATION", "/nowhere/ca.crt"],
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_missing_right_is_named_with_the_command_that_lists_it() {
    let world = World::shared().await;
    let kafka = |user: &str| {
        [
            ("KAFKA_SASL_USERNAME", user.to_owned()),
            (
                "KAFKA_SASL_PASSWORD_FILE",
                secret(world, &format!("kafka-{user}")),
            ),
        ]
    };
    all(
        world,
        vec![
            case(
                CHECK_ENRICHER,
                kafka("stranger"),
                78,
                &[
                    "denies access to topic cdc.public.engagement_events",
                    "engagectl access kafka",
                ],
            ),
            case(
                &["enricher"],
                kafka("stranger"),
                78,
                &["denies access to topic", "engagectl access kafka"],
            ),
            case(
                CHECK_FORWARDER,
                kafka("half"),
                78,
                &[
                    "denies access to group webhook-forwarder.demo",
                    "engagectl access kafka",
                ],
            ),
            // what may not be seen is not taken for nothing
            case(
                &["engagectl", "dlq", "ls"],
                kafka("stranger"),
                69,
                &["topic engagement.dlq.", "engagectl access kafka"],
            ),
            case(
                CHECK_ENRICHER,
                [("DATABASE_URL_FILE", secret(world, "url-nobody"))],
                78,
                &["public.content", "engagectl access postgres"],
            ),
            case(
                &["redis-aggregator"],
                [("REDIS_URL_FILE", secret(world, "url-redis-half"))],
                78,
                &[
                    "refuses the credentials or the command",
                    "engagectl access redis",
                ],
            ),
            case(
                &["clickhouse-sink"],
                [
                    ("CLICKHOUSE_USER", "half".to_owned()),
                    ("CLICKHOUSE_PASSWORD_FILE", secret(world, "clickhouse-half")),
                ],
                78,
                &["code 497", "engagectl access clickhouse"],
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_secret_of_the_demo_on_another_machine_is_warned_about_and_not_shown() {
    let world = World::shared().await;
    let demo = service::config::demo::PASSWORD;
    let url = format!("postgres://engage:{demo}@db.example/media");
    let variables = [("DATABASE_URL_FILE", String::new()), ("DATABASE_URL", url)];
    let said = world.run("enricher", &["config", "show"], &variables).await;
    assert_eq!(said.code, 0, "{}", said.said);
    assert!(
        said.said
            .contains("warning: database.url is a secret of the demo"),
        "{}",
        said.said
    );
    assert!(!said.said.contains(&format!(":{demo}@")), "{}", said.said);
}

fn case<const N: usize>(
    run: &'static [&'static str],
    variables: [(&'static str, String); N],
    code: i32,
    says: &'static [&'static str],
) -> Case {
    Case {
        run,
        variables: variables.into(),
        code,
        says,
    }
}

fn secret(world: &World, name: &str) -> String {
    world.places.secrets().file(name).display().to_string()
}

/// Runs them all, and tells every difference at once.
async fn all(world: &World, cases: Vec<Case>) {
    let (mut wrong, mut evidence) = (Vec::new(), Evidence::default());
    for case in cases {
        let ended = world
            .run(case.run[0], &case.run[1..], &case.variables)
            .await;
        wrong.extend(difference(&case, &ended));
        evidence.add(format!("{:?}", case.run), ended.said);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(evidence.leaks(world.places.secrets()), "");
}

fn difference(case: &Case, ended: &Outcome) -> Option<String> {
    let unsaid: Vec<_> = case
        .says
        .iter()
        .filter(|text| !ended.said.contains(**text))
        .collect();
    let names: Vec<_> = case.variables.iter().map(|(name, _)| name).collect();
    let differs = ended.code != case.code || !unsaid.is_empty();
    differs.then(|| {
        format!(
            "{:?} with another {names:?}: exit {} (not {}), does not say {unsaid:?}:\n{}",
            case.run, ended.code, case.code, ended.said
        )
    })
}
