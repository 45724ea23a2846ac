use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use stanchion::{Closed, Key, PriorityQueue, TryPopError, TryPushError, blocking};

use super::{OPERATIONS, Part, add_one, read};
use crate::common::{within, yield_now};

/// The numbers of items that met each fate.
#[derive(Debug, Default)]
struct Counts {
    made: AtomicUsize,
    dropped: AtomicUsize,
    popped: AtomicUsize,
    removed: AtomicUsize,
    drained: AtomicUsize,
    /// Displaced by a `force_push`.
    displaced: AtomicUsize,
    /// Returned by a push that failed.
    returned: AtomicUsize,
    /// Dropped with a push that was cancelled.
    withdrawn: AtomicUsize,
    /// Pushes that were cancelled. If its item was admitted by then, a push does not drop it.
    cancelled: AtomicUsize,
}

impl Counts {
    fn item(self: &Arc<Self>) -> Item {
        add_one(&self.made);
        Item { counts: self.clone(), is_counted: false }
    }
}

/// An item that is `withdrawn` if it is dropped without being counted as something else.
struct Item {
    counts: Arc<Counts>,
    is_counted: bool,
}

impl Item {
    /// Drops the item and counts it.
    fn count(mut self, count: impl FnOnce(&Counts) -> &AtomicUsize) {
        self.is_counted = true;
        add_one(count(&self.counts));
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        add_one(&self.counts.dropped);
        if !self.is_counted {
            add_one(&self.counts.withdrawn);
        }
    }
}

type Items = PriorityQueue<u8, Item>;

/// A random operation on a priority queue. Tasks that must not wait keep the others from waiting for ever.
async fn operate(
    queue: &Items,
    counts: &Arc<Counts>,
    keys: &mut Vec<Key>,
    random: &mut StdRng,
    may_wait: bool,
    may_block: bool,
) {
    let priority = random.random_range(0..6);
    let patience = (!may_wait || random.random_bool(0.4)).then(|| random.random_range(0..6));
    let pushed = |keys: &mut Vec<Key>, outcome: Result<Key, Closed<(u8, Item)>>| match outcome {
        Ok(key) => keys.push(key),
        Err(Closed((_, item))) => item.count(|counts| &counts.returned),
    };
    match random.random_range(0..16) {
        0..=4 => match within(queue.push(priority, counts.item()), patience).await {
            Some(outcome) => pushed(keys, outcome),
            None => add_one(&counts.cancelled),
        },
        5 => match queue.try_push(priority, counts.item()) {
            Ok(key) => keys.push(key),
            Err(TryPushError::Full((_, item)) | TryPushError::Closed((_, item))) => {
                item.count(|counts| &counts.returned);
            }
        },
        6 => match queue.force_push(priority, counts.item()) {
            Ok((key, displaced)) => {
                keys.push(key);
                if let Some((_, item)) = displaced {
                    item.count(|counts| &counts.displaced);
                }
            }
            Err(Closed((_, item))) => item.count(|counts| &counts.returned),
        },
        7..=9 => {
            if let Some(Some((_, item))) = within(queue.pop(), patience).await {
                item.count(|counts| &counts.popped);
            }
        }
        10 => match queue.try_pop() {
            Ok((_, item)) => item.count(|counts| &counts.popped),
            Err(TryPopError::Empty | TryPopError::Closed) => {}
        },
        11 => {
            let (limit, mut items) = (random.random_range(0..4), Vec::new());
            let count = within(queue.pop_many(&mut items, limit), patience).await;
            assert_eq!(count.unwrap_or(0), items.len());
            assert!(items.len() <= limit);
            items.into_iter().for_each(|(_, item)| item.count(|counts| &counts.popped));
        }
        12 => {
            let key = (!keys.is_empty()).then(|| keys.swap_remove(random.random_range(0..keys.len())));
            if let Some((_, item)) = key.and_then(|key| queue.remove(key)) {
                item.count(|counts| &counts.removed);
            }
        }
        13 => {
            for &key in keys.iter().rev().take(3) {
                queue.set_priority(key, priority);
            }
            let _ = queue.peek_priority();
        }
        14 if random.random_bool(0.1) => {
            for (_, item) in queue.drain() {
                item.count(|counts| &counts.drained);
            }
        }
        _ if may_block => {
            let patience = Duration::from_micros(random.random_range(0..100));
            if let Ok(Some((_, item))) = blocking::wait_timeout(queue.pop(), patience) {
                item.count(|counts| &counts.popped);
            }
            match blocking::wait_timeout(queue.push(priority, counts.item()), patience) {
                Ok(outcome) => pushed(keys, outcome),
                Err(_) => add_one(&counts.cancelled),
            }
        }
        _ => {
            // The first of two; the other is dropped at any stage.
            let either = within(futures::future::select(queue.pop(), queue.pop()), patience);
            if let Some(either) = either.await {
                if let Some((_, item)) = either.factor_first().0 {
                    item.count(|counts| &counts.popped);
                }
            }
        }
    }
    keys.truncate(20);
    yield_now().await;
}

#[test]
fn every_item_is_accounted_for() {
    for queue in [PriorityQueue::bounded(1), PriorityQueue::bounded(20), PriorityQueue::unbounded()] {
        let queue = Arc::new(queue);
        let counts = Arc::new(Counts::default());
        let part = Part::one_of(3, OPERATIONS);
        part.run(&queue, |number, may_block| {
            let (queue, counts, part) = (queue.clone(), counts.clone(), part.clone());
            async move {
                let mut random = StdRng::seed_from_u64(number as u64);
                let mut keys = Vec::new();
                let may_wait = number % 4 > 0;
                while !queue.is_closed() {
                    operate(&queue, &counts, &mut keys, &mut random, may_wait, may_block).await;
                    if may_wait {
                        add_one(&part.operations);
                    } else {
                        // The operation that the others wait for may be on a thread that does not run.
                        thread::yield_now();
                    }
                    if part.is_over() {
                        // While other operations are running.
                        queue.close();
                    }
                }
                while let Some((_, item)) = queue.pop().await {
                    item.count(|counts| &counts.popped);
                }
            }
        });
        queue.validate();
        assert_eq!((queue.len(), queue.waiting_pops(), queue.waiting_pushes()), (0, 0, 0));
        let Counts { made, dropped, popped, removed, drained, displaced, returned, withdrawn, cancelled } = &*counts;
        let fates = [popped, removed, drained, displaced, returned, withdrawn].map(read);
        assert_eq!((read(made), read(made)), (fates.iter().sum(), read(dropped)), "{counts:?}");
        assert!(read(withdrawn) <= read(cancelled), "{counts:?}");
        // Each fate is met often enough.
        assert!(read(popped) >= part.operations() / 50, "{counts:?}");
        let rare = [removed, drained, displaced, returned].map(read);
        // A queue that always has room displaces and returns nothing.
        let rare = &rare[..if queue.capacity().is_some() { 4 } else { 2 }];
        assert!(rare.iter().all(|count| *count >= part.operations() / 10_000), "{counts:?}");
    }
}
