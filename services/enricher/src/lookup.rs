//! Contents that the catalog lacks, asked for in Postgres: one question per key at a time, many keys per question.
//!
//! Invariant: an answer of [`Answer::Absent`] came from Postgres and is at most [`TTL`] old; that Postgres cannot be
//! asked is never remembered as an answer.

pub mod budget;
pub mod postgres;
pub mod sql;

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use engagement::catalog::Content;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

/// How long an answer is used without asking again.
pub const TTL: Duration = Duration::from_secs(30);
/// After a failed question, how long the next ones fail without being asked.
const PAUSE: Duration = Duration::from_millis(200);
/// Answers kept at most.
const CAPACITY: usize = 50_000;

/// What is known about one content.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The row as Postgres holds it now.
    Found(Arc<Content>),
    /// Postgres has no such row; final.
    Absent,
    /// Postgres cannot be asked.
    Unavailable,
}

/// Where contents are asked for.
pub trait ContentSource: Send + Sync + 'static {
    /// The rows of these keys that exist, by key.
    fn fetch(
        &self,
        keys: &[String],
    ) -> impl Future<Output = Result<HashMap<String, Content>, Unavailable>> + Send;
}

/// Why contents could not be asked for, in one line.
#[derive(Debug, Clone, thiserror::Error)]
#[error("contents cannot be looked up in Postgres: {0}")]
pub struct Unavailable(pub String);

type Answers = Arc<HashMap<String, Answer>>;

enum Slot {
    Known { answer: Answer, until: Instant },
    Asking(watch::Receiver<Option<Answers>>),
}

struct Slots {
    by_key: HashMap<String, Slot>,
    paused_until: Option<Instant>,
}

struct Shared<S> {
    source: S,
    slots: Mutex<Slots>,
    questions: Semaphore,
    timeout: Duration,
}

/// The lookup of one process; clones share answers and questions.
pub struct Lookup<S> {
    shared: Arc<Shared<S>>,
}

impl<S> Clone for Lookup<S> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<S: ContentSource> Lookup<S> {
    /// At most `questions` run at the same time, each for at most `timeout`.
    pub fn new(source: S, questions: usize, timeout: Duration) -> Self {
        let slots = Mutex::new(Slots {
            by_key: HashMap::new(),
            paused_until: None,
        });
        Self {
            shared: Arc::new(Shared {
                source,
                slots,
                questions: Semaphore::new(questions),
                timeout,
            }),
        }
    }

    /// What is known about each of `keys`; asks for what is not, together with whoever else is asking.
    pub async fn ask(&self, keys: &[String]) -> HashMap<String, Answer> {
        let (mut answers, waiting) = self.sort(keys);
        for (key, mut receiver) in waiting {
            let told = receiver.wait_for(Option::is_some).await;
            let answer = told
                .ok()
                .and_then(|batch| batch.as_ref()?.get(&key).cloned());
            answers.insert(key, answer.unwrap_or(Answer::Unavailable));
        }
        answers
    }

    /// Splits `keys` into those that are known and those that are being asked for; starts the question for the rest.
    #[expect(
        clippy::type_complexity,
        reason = "two parts of one answer, taken apart at once by the only caller"
    )]
    fn sort(
        &self,
        keys: &[String],
    ) -> (
        HashMap<String, Answer>,
        Vec<(String, watch::Receiver<Option<Answers>>)>,
    ) {
        let now = Instant::now();
        let (sender, receiver) = watch::channel(None);
        let (mut known, mut waiting, mut unasked) = (HashMap::new(), Vec::new(), Vec::new());
        let mut slots = self.shared.slots();
        let paused = slots.paused_until.is_some_and(|until| now < until);
        for key in keys {
            match slots.by_key.get(key) {
                Some(Slot::Known { answer, until }) if now < *until => {
                    known.insert(key.clone(), answer.clone());
                }
                Some(Slot::Asking(asking)) => waiting.push((key.clone(), asking.clone())),
                _ if paused => {
                    known.insert(key.clone(), Answer::Unavailable);
                }
                _ => {
                    slots
                        .by_key
                        .insert(key.clone(), Slot::Asking(receiver.clone()));
                    unasked.push(key.clone());
                    waiting.push((key.clone(), receiver.clone()));
                }
            }
        }
        drop(slots);
        if !unasked.is_empty() {
            // Detached on purpose: others may wait for the answer even if this caller goes away.
            tokio::spawn(question(Arc::clone(&self.shared), unasked, sender));
        }
        (known, waiting)
    }
}

impl<S> Shared<S> {
    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks once for all of `keys` and tells everyone who waits.
async fn question<S: ContentSource>(
    shared: Arc<Shared<S>>,
    keys: Vec<String>,
    tell: watch::Sender<Option<Answers>>,
) {
    let fetched = match shared.questions.acquire().await {
        Ok(_permit) => match tokio::time::timeout(shared.timeout, shared.source.fetch(&keys)).await
        {
            Ok(fetched) => fetched,
            Err(_) => Err(Unavailable(format!(
                "no answer within {:?}",
                shared.timeout
            ))),
        },
        Err(_) => Err(Unavailable("the lookup is closed".into())),
    };
    let answers = Arc::new(answers(keys, fetched));
    shared.slots().learn(&answers, Instant::now());
    tell.send_replace(Some(answers));
}

fn answers(
    keys: Vec<String>,
    fetched: Result<HashMap<String, Content>, Unavailable>,
) -> HashMap<String, Answer> {
    match fetched {
        Ok(mut rows) => {
            let answer = |key: String| match rows.remove(&key) {
                Some(content) => (key, Answer::Found(Arc::new(content))),
                None => (key, Answer::Absent),
            };
            keys.into_iter().map(answer).collect()
        }
        Err(error) => {
            tracing::warn!(keys = keys.len(), %error, "lookup failed");
            keys.into_iter()
                .map(|key| (key, Answer::Unavailable))
                .collect()
        }
    }
}

impl Slots {
    fn learn(&mut self, answers: &HashMap<String, Answer>, now: Instant) {
        self.paused_until = None;
        for (key, answer) in answers {
            if *answer == Answer::Unavailable {
                self.by_key.remove(key);
                self.paused_until = Some(now + PAUSE);
            } else {
                self.by_key.insert(
                    key.clone(),
                    Slot::Known {
                        answer: answer.clone(),
                        until: now + TTL,
                    },
                );
            }
        }
        if self.by_key.len() > CAPACITY {
            self.by_key
                .retain(|_, slot| matches!(slot, Slot::Known { until, .. } if now < *until));
        }
        if self.by_key.len() > CAPACITY {
            self.by_key
                .retain(|_, slot| matches!(slot, Slot::Asking(_)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use super::*;

    /// Postgres as far as the lookup knows it: rows, an outage on demand, a count of questions.
    #[derive(Default)]
    struct Fake {
        known: Vec<String>,
        down: AtomicBool,
        questions: AtomicUsize,
    }

    impl ContentSource for Arc<Fake> {
        async fn fetch(&self, keys: &[String]) -> Result<HashMap<String, Content>, Unavailable> {
            self.questions.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            if self.down.load(Ordering::SeqCst) {
                return Err(Unavailable("down".into()));
            }
            let rows = keys.iter().filter(|key| self.known.contains(key));
            Ok(rows.map(|key| (key.clone(), Content::default())).collect())
        }
    }

    fn lookup(known: &[&str]) -> (Arc<Fake>, Lookup<Arc<Fake>>) {
        let known = known.iter().map(|key| (*key).to_owned()).collect();
        let fake = Arc::new(Fake {
            known,
            ..Fake::default()
        });
        (
            Arc::clone(&fake),
            Lookup::new(Arc::clone(&fake), 2, Duration::from_secs(2)),
        )
    }

    async fn ask_one(lookup: &Lookup<Arc<Fake>>, key: &str) -> Answer {
        lookup.ask(&[key.to_owned()]).await.remove(key).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn many_who_ask_for_the_same_content_cost_one_question() {
        let (fake, lookup) = lookup(&["a"]);
        let asked = futures_util::future::join_all((0..50).map(|_| ask_one(&lookup, "a"))).await;
        assert!(
            asked
                .iter()
                .all(|answer| matches!(answer, Answer::Found(_)))
        );
        assert_eq!(fake.questions.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn absent_is_remembered_for_half_a_minute_and_then_asked_again() {
        let (fake, lookup) = lookup(&[]);
        assert_eq!(ask_one(&lookup, "a").await, Answer::Absent);
        tokio::time::advance(TTL - Duration::from_secs(1)).await;
        assert_eq!(ask_one(&lookup, "a").await, Answer::Absent);
        assert_eq!(fake.questions.load(Ordering::SeqCst), 1);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(ask_one(&lookup, "a").await, Answer::Absent);
        assert_eq!(fake.questions.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_not_remembered_as_an_answer() {
        let (fake, lookup) = lookup(&["a"]);
        fake.down.store(true, Ordering::SeqCst);
        assert_eq!(ask_one(&lookup, "a").await, Answer::Unavailable);
        assert_eq!(ask_one(&lookup, "a").await, Answer::Unavailable);
        assert_eq!(
            fake.questions.load(Ordering::SeqCst),
            1,
            "the second one fails without a question"
        );
        fake.down.store(false, Ordering::SeqCst);
        tokio::time::advance(PAUSE).await;
        assert!(matches!(ask_one(&lookup, "a").await, Answer::Found(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn one_question_carries_many_keys_and_tells_them_apart() {
        let (fake, lookup) = lookup(&["a", "c"]);
        let keys = ["a", "b", "c"].map(str::to_owned);
        let answers = lookup.ask(&keys).await;
        assert!(matches!(answers["a"], Answer::Found(_)));
        assert_eq!(answers["b"], Answer::Absent);
        assert!(matches!(answers["c"], Answer::Found(_)));
        assert_eq!(fake.questions.load(Ordering::SeqCst), 1);
    }
}
