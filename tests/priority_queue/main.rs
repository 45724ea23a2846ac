//! Behaviour of a priority queue: which pop gets which item and when, whatever priorities, items, futures and wakers do.

#![cfg(not(loom))]

mod closing;
#[path = "../common/mod.rs"]
mod common;
mod comparisons;
mod forcing;
mod giving_up;
mod keys;
mod levels;
mod order;
mod panics;
mod parking;
mod pop_many;
mod ranked;
mod retaining;
mod revoking;
mod showing;
mod threads;
mod user_code;
mod waiting;

use std::sync::Arc;

use common::{Check, Log, poll_with};
use stanchion::{Key, Pop, PriorityQueue, Push};

/// More waiters than any batch of wakers takes at once.
const MANY: usize = 100;

type Queue = PriorityQueue<u32, u32>;

impl<P: Ord, T> Check for PriorityQueue<P, T> {
    fn check(&self) {
        self.validate();
    }
}

/// Checks the invariants and returns (admitted, waiting pops, parked pushes).
fn counts<P: Ord, T>(queue: &PriorityQueue<P, T>) -> (usize, usize, usize) {
    queue.check();
    let (len, pops, pushes) = (queue.len(), queue.waiting_pops(), queue.waiting_pushes());
    assert_eq!(queue.is_empty(), len == 0);
    assert!(queue.capacity().is_none_or(|capacity| if pushes > 0 { len == capacity } else { len <= capacity }));
    (len, pops, pushes)
}

/// A full queue with these priorities; the items are 0, 1, 2 and so on.
fn full(priorities: &[u32]) -> (Queue, Vec<Key>) {
    let queue = Queue::bounded(priorities.len());
    let keys = fill(&queue, priorities);
    (queue, keys)
}

fn fill(queue: &Queue, priorities: &[u32]) -> Vec<Key> {
    let items = priorities.iter().zip(0..);
    items.map(|(&priority, item)| queue.try_push(priority, item).expect("there is room")).collect()
}

/// Pops all items that are not reserved.
fn pop_all<P: Ord, T>(queue: &PriorityQueue<P, T>) -> Vec<(P, T)> {
    std::iter::from_fn(|| queue.try_pop().ok()).inspect(|_| queue.check()).collect()
}

fn items(pairs: impl IntoIterator<Item = (u32, u32)>) -> Vec<u32> {
    pairs.into_iter().map(|(_, item)| item).collect()
}

/// A waiting pop with a waker that writes `entry` into `log`.
#[track_caller]
fn logged_pop<'q>(queue: &'q Queue, log: &Arc<Log>, entry: usize) -> Pop<'q, u32, u32> {
    let mut pop = queue.pop();
    assert!(poll_with(&mut pop, &log.waker(entry)).is_pending());
    pop
}

/// A parked push with a waker that writes `item` into `log`.
#[track_caller]
fn logged_push<'q>(queue: &'q Queue, log: &Arc<Log>, priority: u32, item: u32) -> Push<'q, u32, u32> {
    let mut push = queue.push(priority, item);
    assert!(poll_with(&mut push, &log.waker(item as usize)).is_pending());
    push
}
