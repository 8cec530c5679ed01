//! Inserts of several partitions as one statement.
//!
//! An insert costs the server about the same whatever it holds, and each is a part that it has to merge. So those that are there at
//! the same time go together, each row under the claim of its own partition.
//! Invariant: one statement holds rows of one month, so that it is one part; whoever gets anything but a success does not know what
//! became of its rows.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot};

use super::Insert;
use super::statement::Statement;
use crate::error::ServerError;

/// How long the first one waits: lanes whose batches leave at the same time have theirs ready within this.
const COMPANY: Duration = Duration::from_millis(10);
/// Bytes that go together; an insert that is larger goes alone.
const ROOM: usize = 2 * 1024 * 1024;
/// Partitions that go together: the statement travels in the address of the request, for which proxies have 8 KiB.
const PARTITIONS: usize = 16;

/// An insert without a clean success.
#[derive(Debug)]
pub struct Refused {
    /// What the server says.
    pub error: ServerError,
    /// It says so of several inserts, of which another one may be the cause.
    pub shared: bool,
}

/// Where lanes bring their inserts.
#[derive(Debug)]
pub(super) struct Group(mpsc::UnboundedSender<Waiting>);

#[derive(Debug)]
struct Waiting {
    insert: Insert,
    answer: oneshot::Sender<Result<(), Refused>>,
}

impl Group {
    /// Sends so many statements at a time, until the last handle is dropped. Must be called inside a tokio runtime.
    pub(super) fn start(statement: Arc<Statement>, at_a_time: usize) -> Self {
        let (sender, waiting) = mpsc::unbounded_channel();
        tokio::spawn(send_all(waiting, statement, at_a_time));
        Self(sender)
    }

    /// Dropping it takes the insert back, if it is not on its way yet.
    pub(super) async fn insert(&self, insert: Insert) -> Result<(), Refused> {
        let (answer, answered) = oneshot::channel();
        let gone = || {
            Err(Refused {
                error: ServerError::lost(),
                shared: false,
            })
        };
        if self.0.send(Waiting { insert, answer }).is_err() {
            return gone();
        }
        answered.await.unwrap_or_else(|_| gone())
    }
}

async fn send_all(
    mut waiting: mpsc::UnboundedReceiver<Waiting>,
    statement: Arc<Statement>,
    at_a_time: usize,
) {
    let (mut queue, places) = (VecDeque::new(), Arc::new(Semaphore::new(at_a_time)));
    loop {
        if queue.is_empty() {
            let Some(first) = waiting.recv().await else {
                return;
            };
            queue.push_back(first);
        }
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        // those that were left behind by the last statement have waited
        if queue.len() == 1 {
            tokio::time::sleep(COMPANY).await;
        }
        while let Ok(next) = waiting.try_recv() {
            queue.push_back(next);
        }
        // a lane that has ended meanwhile writes nothing
        queue.retain(|one| !one.answer.is_closed());
        let together = take_some(&mut queue);
        if !together.is_empty() {
            let statement = Arc::clone(&statement);
            tokio::spawn(async move {
                send(together, &statement).await;
                drop(place);
            });
        }
    }
}

/// The first that waits, and those that can go with it; the others keep their order.
fn take_some(queue: &mut VecDeque<Waiting>) -> Vec<Waiting> {
    let mut together: Vec<Waiting> = queue.pop_front().into_iter().collect();
    let mut left = VecDeque::with_capacity(queue.len());
    while let Some(next) = queue.pop_front() {
        if fits(&together, &next.insert) {
            together.push(next);
        } else {
            left.push_back(next);
        }
    }
    *queue = left;
    together
}

fn fits(together: &[Waiting], next: &Insert) -> bool {
    let bytes: usize = together.iter().map(|one| one.insert.data.len()).sum();
    together.len() < PARTITIONS
        && bytes + next.data.len() <= ROOM
        && !next.alone
        && together
            .first()
            .is_some_and(|first| !first.insert.alone && first.insert.month == next.month)
}

async fn send(together: Vec<Waiting>, statement: &Statement) {
    let (inserts, answers): (Vec<Insert>, Vec<_>) = together
        .into_iter()
        .map(|one| (one.insert, one.answer))
        .unzip();
    let shared = inserts.len() > 1;
    let answered = statement.send(inserts).await;
    for answer in answers {
        let refused = |error| Refused { error, shared };
        // a lane that has ended meanwhile needs no answer
        let _ = answer.send(answered.clone().map_err(refused));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::Claim;

    fn waiting(partition: i32, month: u32, bytes: usize) -> Waiting {
        let claim = Claim {
            partition,
            ..Claim::default()
        };
        let mut insert = Insert::new(claim, month);
        insert.add_row(|data| data.resize(bytes, 0));
        Waiting {
            insert,
            answer: oneshot::channel().0,
        }
    }

    fn partitions(of: &[Waiting]) -> Vec<i32> {
        of.iter().map(|one| one.insert.claim.partition).collect()
    }

    fn rounds(mut queue: VecDeque<Waiting>) -> Vec<Vec<i32>> {
        let mut rounds = Vec::new();
        while !queue.is_empty() {
            rounds.push(partitions(&take_some(&mut queue)));
        }
        rounds
    }

    #[test]
    fn what_waits_at_the_same_time_goes_together_by_month() {
        let months = [(1, 202_611), (2, 202_611), (3, 202_610), (4, 202_611)];
        let queue = months.map(|(partition, month)| waiting(partition, month, 9));
        assert_eq!(rounds(queue.into()), [vec![1, 2, 4], vec![3]]);
        assert!(take_some(&mut VecDeque::new()).is_empty());
    }

    #[test]
    fn a_large_one_goes_alone_and_so_does_one_that_asks_for_it() {
        let mut alone = waiting(3, 1, 9);
        alone.insert.alone = true;
        let queue = [
            waiting(1, 1, ROOM + 1),
            waiting(2, 1, 9),
            alone,
            waiting(4, 1, 9),
        ];
        assert_eq!(rounds(queue.into()), [vec![1], vec![2, 4], vec![3]]);
    }

    #[test]
    fn together_they_are_no_more_than_a_request_can_name_and_one_large_batch_holds() {
        let many: VecDeque<_> = (0..40).map(|partition| waiting(partition, 1, 9)).collect();
        let sizes: Vec<usize> = rounds(many).iter().map(Vec::len).collect();
        assert_eq!(sizes, [PARTITIONS, PARTITIONS, 8]);
        let halves = (0..3).map(|partition| waiting(partition, 1, ROOM / 2 - 9));
        assert_eq!(rounds(halves.collect()), [vec![0, 1], vec![2]]);
    }
}
