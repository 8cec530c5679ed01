//! What must be there before the first record: broker, topics, partition counts, the content table.
//!
//! Invariant: every problem is found in one pass and named with its repair; Postgres is only a warning, it is needed
//! for misses alone.

use std::time::{Duration, Instant};

use service::{Exit, Failure, Finding};
use stream::{RunError, RunErrorKind, contact};
use tokio_util::sync::CancellationToken;

use crate::config::{self, Config};
use crate::lookup::postgres::PostgresContents;

/// How long one question to the broker may take.
const ASK: Duration = Duration::from_secs(3);
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(250);
/// How long the first contact may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// A broker that has just started may not know its topics yet.
const GRACE: Duration = Duration::from_secs(3);

/// A topic and how many partitions it has; 0: there is none.
type Counts = [(String, usize); 4];

/// Waits for the broker, then judges the topics.
///
/// # Errors
/// The first problem, as the end of the process.
pub(crate) async fn topics(config: &Config, stop: &CancellationToken) -> Result<(), Failure> {
    let begun = Instant::now();
    loop {
        let problem = match counts(config).await {
            Ok(counts) => match problems(&counts).into_iter().next() {
                None => return Ok(()),
                Some(problem) if begun.elapsed() >= GRACE => return Err(problem.failure()),
                Some(problem) => problem,
            },
            Err(error) if error.kind() != RunErrorKind::Unavailable => {
                return Err(not_answered(config, &error).failure());
            }
            Err(error) => not_answered(config, &error),
        };
        if begun.elapsed() >= PATIENCE {
            return Err(problem.failure());
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

/// Everything that `check` looks at.
pub(crate) async fn findings(config: &Config) -> Vec<Finding> {
    let mut findings: Vec<Finding> = config::problems(config)
        .into_iter()
        .map(|(cause, remedy)| Finding::problem("configuration", Exit::Usage, cause, remedy))
        .collect();
    match counts(config).await {
        Err(error) => findings.push(not_answered(config, &error).finding()),
        Ok(counts) => {
            findings.push(Finding::ok(
                "kafka",
                config.kafka.bootstrap_servers.as_str(),
            ));
            let problems = problems(&counts);
            let good = counts.iter().filter(|(topic, _)| {
                !problems
                    .iter()
                    .any(|problem| problem.what.contains(topic.as_str()))
            });
            findings.extend(good.map(|(topic, count)| {
                Finding::ok(format!("topic {topic}"), format!("{count} partitions"))
            }));
            findings.extend(problems.into_iter().map(Problem::finding));
        }
    }
    findings.push(postgres(config).await);
    findings
}

struct Problem {
    exit: Exit,
    what: String,
    cause: String,
    remedy: String,
}

impl Problem {
    fn failure(self) -> Failure {
        let Self {
            exit,
            what,
            cause,
            remedy,
        } = self;
        // what a person has to repair is either a topic, or named in the remedy
        let next = if exit == Exit::Repair && what.starts_with("topic ") {
            "engagectl init"
        } else {
            "enricher check"
        };
        Failure::new(exit, format!("{what}: {cause}"))
            .remedy(remedy)
            .next(next)
    }

    fn finding(self) -> Finding {
        Finding::problem(self.what, self.exit, self.cause, self.remedy)
    }
}

/// The broker does not answer, or refuses: credentials, or one of the topics.
fn not_answered(config: &Config, error: &RunError) -> Problem {
    Problem {
        exit: error.kind().into(),
        what: format!("kafka at {}", config.kafka.bootstrap_servers),
        cause: error.to_string(),
        remedy: error.remedy().into_owned(),
    }
}

fn problems(counts: &Counts) -> Vec<Problem> {
    let repair = |topic: &str, cause: String, remedy: String| Problem {
        exit: Exit::Repair,
        what: format!("topic {topic}"),
        cause,
        remedy,
    };
    let missing = counts.iter().filter(|(_, count)| *count == 0);
    let mut problems: Vec<Problem> = missing
        .map(|(topic, _)| {
            repair(
                topic,
                "does not exist".into(),
                "create it with: engagectl init".into(),
            )
        })
        .collect();
    let [(cdc, wanted), _, (enriched, found), (letters, room)] = counts;
    if *wanted > 0 && *found > 0 && found != wanted {
        problems.push(repair(
            enriched,
            format!("has {found} partitions, {cdc} has {wanted}; partition p is copied to partition p"),
            format!("recreate {enriched} with {wanted} partitions while it is empty, or configure KAFKA_ENRICHED_TOPIC"),
        ));
    }
    if *room > 0 && room < wanted {
        problems.push(repair(
            letters,
            format!("has {room} partitions, {cdc} has {wanted}; dead letters keep their partition"),
            format!("add partitions to {letters} up to {wanted}"),
        ));
    }
    problems
}

async fn counts(config: &Config) -> Result<Counts, RunError> {
    let Config { input, output, .. } = config;
    let topics = [
        input.cdc_topic.as_str(),
        input.content_topic.as_str(),
        output.topic.as_str(),
        output.dead_letter_topic.as_str(),
    ];
    let counted = contact::partitions(&config.kafka, &input.group_id, &topics, ASK).await?;
    let mut counted = counted.into_iter();
    Ok(topics.map(|topic| (topic.to_owned(), counted.next().unwrap_or_default())))
}

async fn postgres(config: &Config) -> Finding {
    let (database, schema) = (&config.database, &config.schema);
    let table = &database.content_table;
    let opened = PostgresContents::new(
        database.url.as_ref(),
        table,
        &schema.content_id,
        database.content_wait,
    );
    let postgres = match opened {
        Ok(postgres) => postgres,
        Err(error) => {
            return Finding::problem(
                "postgres",
                Exit::Usage,
                error.to_string(),
                "write DATABASE_URL as postgres://user:password@host:5432/database",
            );
        }
    };
    match postgres.columns().await {
        Err(error) => Finding::problem(
            "postgres",
            Exit::Unavailable,
            postgres.refusal().await.unwrap_or(error.to_string()),
            "check host, user, password, sslmode and sslrootcert in DATABASE_URL; without it unknown contents stay missing",
        ),
        Ok(columns) if columns.contains_key(&schema.content_id) => {
            Finding::ok("postgres", format!("table {table}"))
        }
        Ok(_) => Finding::problem(
            "postgres",
            Exit::Repair,
            format!(
                "table {table} does not exist, has no column {}, or is not visible to this role",
                schema.content_id
            ),
            "set CONTENT_TABLE and CONTENT_KEY, or grant SELECT on it as `engagectl access postgres` lists it",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(numbers: [usize; 4]) -> Counts {
        let names = ["cdc", "content", "enriched", "letters"];
        std::array::from_fn(|at| (names[at].to_owned(), numbers[at]))
    }

    fn causes(numbers: [usize; 4]) -> Vec<String> {
        problems(&counts(numbers))
            .into_iter()
            .map(|problem| format!("{} {}", problem.what, problem.cause))
            .collect()
    }

    #[test]
    fn every_missing_topic_is_named_at_once() {
        assert_eq!(
            causes([0, 1, 0, 16]),
            ["topic cdc does not exist", "topic enriched does not exist"]
        );
    }

    #[test]
    fn the_output_needs_as_many_partitions_as_the_input_and_the_content_topic_does_not() {
        assert!(causes([16, 1, 16, 16]).is_empty());
        assert!(
            causes([16, 16, 15, 16])[0].starts_with("topic enriched has 15 partitions, cdc has 16")
        );
        assert!(causes([16, 16, 16, 1])[0].starts_with("topic letters has 1 partitions"));
    }
}
