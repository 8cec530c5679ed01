//! One question to the server for all lanes that have the same one.
//!
//! A process that starts has a lane in doubt for each of its partitions, and a question costs the server about the same whatever it
//! asks. So the first lane waits a moment for others and asks for all, and those that come meanwhile ask together when it is done.
//! Invariant: an answer is that of a question that was sent after it was asked for.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot::{self, error::TryRecvError};

use crate::error::ServerError;

type Answered<A> = Result<A, ServerError>;
type Waiting<Q, A> = (Q, oneshot::Sender<Answered<A>>);

/// How long the first one waits, unless told otherwise: lanes that were answered together go on within this.
const COMPANY: Duration = Duration::from_millis(5);

/// Those who wait to ask the same.
pub struct Together<Q, A> {
    company: Duration,
    waiting: Mutex<Vec<Waiting<Q, A>>>,
    asking: tokio::sync::Mutex<()>,
}

impl<Q, A> Default for Together<Q, A> {
    fn default() -> Self {
        Self::with_company(COMPANY)
    }
}

impl<Q, A> Together<Q, A> {
    /// The first one waits so long for others.
    #[must_use]
    pub fn with_company(company: Duration) -> Self {
        Self {
            company,
            waiting: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
        }
    }
}

impl<Q, A> fmt::Debug for Together<Q, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Together").finish_non_exhaustive()
    }
}

impl<Q: Clone, A> Together<Q, A> {
    /// Asks with others. `ask_all` answers questions in their order, in one go; whoever's turn it is runs it for all that wait. Safe
    /// to drop at any time: who was asked for with it asks again.
    ///
    /// # Errors
    /// Those of `ask_all`, which all of them get.
    pub async fn ask<F>(&self, question: Q, ask_all: impl Fn(Vec<Q>) -> F) -> Result<A, ServerError>
    where
        F: Future<Output = Result<Vec<A>, ServerError>>,
    {
        loop {
            let (sender, mut answer) = oneshot::channel();
            self.queue().push((question.clone(), sender));
            let turn = tokio::select! {
                biased;
                answered = &mut answer => match answered {
                    Ok(answered) => return answered,
                    Err(_) => continue,
                },
                turn = self.asking.lock() => turn,
            };
            match answer.try_recv() {
                Ok(answered) => return answered,
                Err(TryRecvError::Closed) => continue,
                Err(TryRecvError::Empty) => {}
            }
            tokio::time::sleep(self.company).await;
            let (questions, waiting): (Vec<Q>, Vec<_>) = self.all_that_wait().into_iter().unzip();
            give(waiting, ask_all(questions).await);
            drop(turn);
            return answer.try_recv().unwrap_or_else(|_| Err(too_few()));
        }
    }

    fn all_that_wait(&self) -> Vec<Waiting<Q, A>> {
        let mut waiting = std::mem::take(&mut *self.queue());
        waiting.retain(|(_, one)| !one.is_closed());
        waiting
    }

    fn queue(&self) -> MutexGuard<'_, Vec<Waiting<Q, A>>> {
        // nothing panics while it is held
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever does not wait any more needs no answer.
fn give<A>(waiting: Vec<oneshot::Sender<Answered<A>>>, answered: Result<Vec<A>, ServerError>) {
    match answered {
        Ok(answers) => {
            for (one, answer) in waiting.into_iter().zip(answers) {
                let _ = one.send(Ok(answer));
            }
        }
        Err(error) => {
            for one in waiting {
                let _ = one.send(Err(error.clone()));
            }
        }
    }
}

fn too_few() -> ServerError {
    ServerError::Answer {
        query: "several lanes at once",
        what: "fewer answers than questions".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::{Notify, mpsc};

    use super::*;

    /// Answers each question with ten times itself, tells what was asked, and waits before each answer until it is let go on.
    struct Server {
        asked: mpsc::UnboundedSender<Vec<u32>>,
        go_on: Notify,
    }

    impl Server {
        fn new() -> (Arc<Self>, mpsc::UnboundedReceiver<Vec<u32>>) {
            let (asked, told) = mpsc::unbounded_channel();
            let go_on = Notify::new();
            (Arc::new(Self { asked, go_on }), told)
        }

        async fn answer(&self, questions: Vec<u32>) -> Result<Vec<u32>, ServerError> {
            self.asked.send(questions.clone()).unwrap();
            self.go_on.notified().await;
            match questions.contains(&0) {
                true => Err(too_few()),
                false => Ok(questions.iter().map(|question| question * 10).collect()),
            }
        }
    }

    type Asking = tokio::task::JoinHandle<Result<u32, ServerError>>;

    fn lane(together: &Arc<Together<u32, u32>>, server: &Arc<Server>, question: u32) -> Asking {
        let (together, server) = (Arc::clone(together), Arc::clone(server));
        tokio::spawn(async move { together.ask(question, |all| server.answer(all)).await })
    }

    /// Until all of them wait: on one thread, each runs until it does.
    async fn settled() {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_come_while_one_asks_ask_together() {
        let (together, (server, mut told)) = (Arc::default(), Server::new());
        let first = lane(&together, &server, 1);
        assert_eq!(told.recv().await, Some(vec![1]));
        let others: Vec<Asking> = (2..=4).map(|n| lane(&together, &server, n)).collect();
        settled().await;
        server.go_on.notify_one();
        assert_eq!(first.await.unwrap().unwrap(), 10);
        assert_eq!(told.recv().await, Some(vec![2, 3, 4]));
        server.go_on.notify_one();
        for (n, other) in (2..=4).zip(others) {
            assert_eq!(other.await.unwrap().unwrap(), n * 10);
        }
        assert!(told.try_recv().is_err(), "two questions for four");
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_is_everybodys_and_the_next_question_is_asked_anew() {
        let (together, (server, mut told)) = (Arc::default(), Server::new());
        let first = lane(&together, &server, 1);
        assert_eq!(told.recv().await, Some(vec![1]));
        let (bad, other) = (lane(&together, &server, 0), lane(&together, &server, 2));
        settled().await;
        server.go_on.notify_one();
        first.await.unwrap().unwrap();
        server.go_on.notify_one();
        assert!(bad.await.unwrap().is_err());
        assert!(other.await.unwrap().is_err());
        assert_eq!(told.recv().await, Some(vec![0, 2]));
        let again = lane(&together, &server, 2);
        server.go_on.notify_one();
        assert_eq!(again.await.unwrap().unwrap(), 20);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_was_asked_for_by_one_that_was_dropped_asks_again() {
        let (together, (server, mut told)) = (Arc::default(), Server::new());
        let first = lane(&together, &server, 1);
        assert_eq!(told.recv().await, Some(vec![1]));
        let asking = lane(&together, &server, 2);
        let other = lane(&together, &server, 3);
        settled().await;
        server.go_on.notify_one();
        first.await.unwrap().unwrap();
        assert_eq!(told.recv().await, Some(vec![2, 3]));
        asking.abort();
        assert!(asking.await.unwrap_err().is_cancelled());
        assert_eq!(
            told.recv().await,
            Some(vec![3]),
            "and not for the one that is gone"
        );
        server.go_on.notify_one();
        assert_eq!(other.await.unwrap().unwrap(), 30);
    }
}
