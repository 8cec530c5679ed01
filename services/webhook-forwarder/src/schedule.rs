//! The order of deliveries inside one partition. Pure: time is an argument.
//!
//! Invariant: of one content at most one record is handed out at a time, in the order they came;
//! while it waits for a retry, the later ones of the same content wait behind it and others go on.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

/// What keeps order among itself: the content, or the event where there is no content.
pub type OrderKey = Arc<str>;

/// Records held back and handed out, by content.
#[derive(Debug)]
pub struct Schedule<T> {
    queues: HashMap<OrderKey, Queue<T>>,
    ready: VecDeque<OrderKey>,
    waiting: BTreeSet<(Instant, OrderKey)>,
    held: usize,
}

#[derive(Debug)]
struct Queue<T> {
    /// Not handed out; the first one is next.
    items: VecDeque<T>,
}

impl<T> Default for Schedule<T> {
    fn default() -> Self {
        Self {
            queues: HashMap::new(),
            ready: VecDeque::new(),
            waiting: BTreeSet::new(),
            held: 0,
        }
    }
}

impl<T> Schedule<T> {
    /// Adds a record behind those of its key.
    pub fn push(&mut self, key: OrderKey, item: T) {
        self.held += 1;
        if let Some(queue) = self.queues.get_mut(&key) {
            queue.items.push_back(item);
            return;
        }
        let items = VecDeque::from([item]);
        self.queues.insert(Arc::clone(&key), Queue { items });
        self.ready.push_back(key);
    }

    /// Hands out the next record that may go. It is given back with [`Self::done`] or [`Self::retry`].
    pub fn next(&mut self, now: Instant) -> Option<(OrderKey, T)> {
        while let Some((at, key)) = self.waiting.first() {
            if *at > now {
                break;
            }
            self.ready.push_back(Arc::clone(key));
            self.waiting.pop_first();
        }
        let key = self.ready.pop_front()?;
        let item = self.queues.get_mut(&key)?.items.pop_front()?;
        Some((key, item))
    }

    /// The record of `key` that was handed out is finished; the next one of the key may go.
    pub fn done(&mut self, key: &OrderKey) {
        self.held -= 1;
        match self.queues.get(key) {
            Some(queue) if !queue.items.is_empty() => self.ready.push_back(Arc::clone(key)),
            _ => {
                self.queues.remove(key);
            }
        }
    }

    /// The record of `key` that was handed out comes again, not before `at`.
    pub fn retry(&mut self, key: &OrderKey, item: T, at: Instant) {
        if let Some(queue) = self.queues.get_mut(key) {
            queue.items.push_front(item);
            self.waiting.insert((at, Arc::clone(key)));
        }
    }

    /// When the next record waiting for a retry may go.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.waiting.first().map(|(at, _)| *at)
    }

    /// Records held, those handed out included.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn key(name: &str) -> OrderKey {
        name.into()
    }

    #[test]
    fn a_content_waits_for_its_own_record_and_not_for_others() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        for (name, item) in [("a", 1), ("a", 2), ("b", 3)] {
            schedule.push(key(name), item);
        }
        assert_eq!(schedule.next(now), Some((key("a"), 1)));
        assert_eq!(schedule.next(now), Some((key("b"), 3)));
        assert_eq!(schedule.next(now), None);
        schedule.done(&key("a"));
        assert_eq!(schedule.next(now), Some((key("a"), 2)));
    }

    #[test]
    fn later_records_of_a_content_stay_behind_the_one_that_is_retried() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut schedule = Schedule::default();
        schedule.push(key("a"), 1);
        schedule.next(now);
        schedule.push(key("a"), 2);
        schedule.retry(&key("a"), 1, later);
        schedule.push(key("b"), 3);
        assert_eq!(schedule.next(now), Some((key("b"), 3)));
        assert_eq!(schedule.next(now), None);
        assert_eq!(schedule.next_due(), Some(later));
        assert_eq!(schedule.next(later), Some((key("a"), 1)));
        assert_eq!(schedule.next(later), None);
        schedule.done(&key("a"));
        assert_eq!(schedule.next(later), Some((key("a"), 2)));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(u8),
        Next,
        Done(usize),
        Retry(usize, u64),
        Wait(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0_u8..4).prop_map(Step::Push),
            3 => Just(Step::Next),
            2 => any::<usize>().prop_map(Step::Done),
            1 => (any::<usize>(), 0_u64..50).prop_map(|(i, ms)| Step::Retry(i, ms)),
            1 => (0_u64..50).prop_map(Step::Wait),
        ]
    }

    proptest! {
        #[test]
        fn each_content_is_finished_in_order_one_at_a_time_and_nothing_is_lost(steps in prop::collection::vec(step(), 0..300)) {
            let mut now = Instant::now();
            let mut schedule = Schedule::default();
            let mut out: Vec<(OrderKey, usize)> = Vec::new();
            let mut pushed = 0_usize;
            let mut finished: HashMap<OrderKey, Vec<usize>> = HashMap::new();
            let mut count = 0;
            let mut finish = |key: OrderKey, item| finished.entry(key).or_default().push(item);
            for step in steps {
                match step {
                    Step::Push(name) => { schedule.push(key(&name.to_string()), pushed); pushed += 1; }
                    Step::Next => if let Some((key, item)) = schedule.next(now) {
                        prop_assert!(out.iter().all(|(other, _)| *other != key));
                        out.push((key, item));
                    },
                    Step::Done(i) if !out.is_empty() => {
                        let (key, item) = out.swap_remove(i % out.len());
                        schedule.done(&key);
                        finish(key, item);
                        count += 1;
                    }
                    Step::Retry(i, ms) if !out.is_empty() => {
                        let (key, item) = out.swap_remove(i % out.len());
                        schedule.retry(&key, item, now + Duration::from_millis(ms));
                    }
                    Step::Wait(ms) => now += Duration::from_millis(ms),
                    Step::Done(_) | Step::Retry(..) => {}
                }
                prop_assert_eq!(schedule.held(), pushed - count);
            }
            now += Duration::from_secs(1);
            loop {
                while let Some((key, item)) = schedule.next(now) { out.push((key, item)); }
                let Some((key, item)) = out.pop() else { break };
                schedule.done(&key);
                finish(key, item);
            }
            prop_assert_eq!(schedule.held(), 0);
            prop_assert!(schedule.queues.is_empty() && schedule.waiting.is_empty());
            prop_assert_eq!(finished.values().map(Vec::len).sum::<usize>(), pushed);
            prop_assert!(finished.values().all(|items| items.is_sorted()));
        }
    }
}
