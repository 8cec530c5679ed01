//! The plan: what is there, what is missing, what is wrong.

use std::fmt;
use std::time::Duration;

use url::Url;

use crate::{PlatformError, Settings, TopicSpec, clickhouse, connector, postgres, topics};

/// Longest time for one server: many questions, of a busy machine.
const ANSWER: Duration = Duration::from_secs(90);

/// One of the four servers that are set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// The source database.
    Postgres,
    /// The broker.
    Kafka,
    /// Kafka Connect, which runs Debezium.
    Connect,
    /// The analytics store.
    ClickHouse,
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Postgres => "postgres",
            Self::Kafka => "kafka",
            Self::Connect => "connect",
            Self::ClickHouse => "clickhouse",
        })
    }
}

/// One thing that is missing, with what creates it.
#[derive(Clone, Debug)]
pub struct Change {
    /// Where it will be created.
    pub component: Component,
    /// What it is, for example `topic engagement.enriched.v1 (16 partitions)`.
    pub what: String,
    pub(crate) action: Action,
}

#[derive(Clone, Debug)]
pub(crate) enum Action {
    Postgres(String),
    Topic(TopicSpec),
    Connector(serde_json::Value),
    ClickHouse(String),
}

/// Something that exists and is not as it must be; a person decides what becomes of it.
#[derive(Clone, Debug)]
pub struct Problem {
    /// Where it was found.
    pub component: Component,
    /// What was found and what would be right.
    pub what: String,
    /// The command or setting that repairs it.
    pub remedy: String,
}

/// The outcome of [`plan`].
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// What is missing, in the order in which it is created.
    pub changes: Vec<Change>,
    /// What is already as it should be.
    pub present: Vec<(Component, String)>,
    /// What is there and wrong. A plan with problems is not applied.
    pub problems: Vec<Problem>,
}

impl Plan {
    pub(crate) fn have(&mut self, component: Component, what: impl Into<String>) {
        self.present.push((component, what.into()));
    }

    pub(crate) fn problem(
        &mut self,
        component: Component,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.problems.push(Problem {
            component,
            what: what.into(),
            remedy: remedy.into(),
        });
    }

    pub(crate) fn change(&mut self, component: Component, what: impl Into<String>, action: Action) {
        self.changes.push(Change {
            component,
            what: what.into(),
            action,
        });
    }

    /// Creates everything the plan names, in its order, and waits until the connector runs and the topics are known.
    /// `progress` is called before each change.
    ///
    /// # Errors
    /// The first step that a server refuses; the steps before it stay done, and a new plan shows the rest.
    pub async fn apply(
        &self,
        settings: &Settings,
        mut progress: impl FnMut(&Change),
    ) -> Result<(), PlatformError> {
        let mut created = Vec::new();
        for change in &self.changes {
            progress(change);
            match &change.action {
                Action::Postgres(sql) => {
                    postgres::execute(&settings.database, &change.what, sql).await?;
                }
                Action::Topic(spec) => {
                    topics::create(&settings.kafka, spec).await?;
                    created.push(spec);
                }
                Action::Connector(config) => connector::register(settings, config).await?,
                Action::ClickHouse(sql) => clickhouse::execute(settings, &change.what, sql).await?,
            }
        }
        topics::until_known(&settings.kafka, &created).await
    }
}

/// Reads every component that has settings, side by side; shown in the order in which they are set up. Changes nothing.
pub async fn inspect(settings: &Settings) -> Vec<(Component, Result<Plan, PlatformError>)> {
    let of = |component| Box::pin(inspect_one(settings, component));
    let (postgres, kafka, clickhouse, connect) = tokio::join!(
        of(Component::Postgres),
        of(Component::Kafka),
        of(Component::ClickHouse),
        of(Component::Connect),
    );
    let all = [
        (Component::Postgres, postgres),
        (Component::Kafka, kafka),
        (Component::ClickHouse, clickhouse),
        (Component::Connect, connect),
    ];
    all.into_iter()
        .filter_map(|(component, found)| Some((component, found?)))
        .collect()
}

/// Reads one component; `None` where it has no settings. A server that does not answer in time is unreachable.
pub async fn inspect_one(
    settings: &Settings,
    component: Component,
) -> Option<Result<Plan, PlatformError>> {
    let asked = async {
        Some(match component {
            Component::Postgres => postgres::plan(&settings.database).await,
            Component::Kafka => topics::plan(settings).await,
            Component::ClickHouse => clickhouse::plan(settings.clickhouse.as_ref()?).await,
            Component::Connect => connector::plan(settings, settings.connect.as_ref()?).await,
        })
    };
    let answered = tokio::time::timeout(ANSWER, Box::pin(asked)).await;
    answered.unwrap_or_else(|_| Some(Err(silent(settings, component))))
}

fn silent(settings: &Settings, component: Component) -> PlatformError {
    let (address, setting) = match component {
        Component::Postgres => (settings.database.address(), "DATABASE_URL"),
        Component::Kafka => (
            settings.kafka.bootstrap_servers.clone(),
            "KAFKA_BOOTSTRAP_SERVERS",
        ),
        Component::ClickHouse => {
            let clickhouse = settings.clickhouse.as_ref();
            (origin(clickhouse.map(|it| &it.url)), "CLICKHOUSE_URL")
        }
        Component::Connect => {
            let connect = settings.connect.as_ref();
            (origin(connect.map(|it| &it.url)), "CONNECT_URL")
        }
    };
    PlatformError::Unreachable {
        component,
        address,
        cause: format!("no answer within {} s", ANSWER.as_secs()),
        setting,
    }
}

/// Scheme, host and port.
fn origin(url: Option<&Url>) -> String {
    url.map_or_else(String::new, |url| url.origin().ascii_serialization())
}

/// One plan over all components.
///
/// # Errors
/// [`PlatformError::Unreachable`] for the first component that cannot be asked.
pub async fn plan(settings: &Settings) -> Result<Plan, PlatformError> {
    let mut whole = Plan::default();
    for (_, part) in inspect(settings).await {
        let part = part?;
        whole.changes.extend(part.changes);
        whole.present.extend(part.present);
        whole.problems.extend(part.problems);
    }
    Ok(whole)
}
