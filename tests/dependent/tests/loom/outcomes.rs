//! Calls that observe a primitive while another thread changes it once: loom has to explore each with its outcome before
//! the change and after it.

use super::both_outcomes;
use stanchion::{Fixed, LruCache, Mutex, Pool, PriorityQueue, Semaphore, TaskQueue, TryAcquireError};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

fn poll<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// The future, enqueued.
fn enqueued<F: Future + Unpin>(mut future: F) -> F {
    assert!(poll(&mut future).is_pending());
    future
}

/// Tests of one change: what is shared, what the other thread starts with, the change, and the calls that observe it.
macro_rules! outcomes {
    ($($change_name:ident: $new:expr, $start:expr, $change:expr => { $($observer:ident: $observe:expr,)* })*) => {$(
        mod $change_name {
            use super::*;
            $(
                #[cfg_attr(not(loom), ignore = "a model, for --cfg loom")]
                #[test]
                fn $observer() {
                    both_outcomes($new, $start, $change, $observe);
                }
            )*
        }
    )*};
}

outcomes! {
    a_return: || Semaphore::new(1), |semaphore| semaphore.clone().try_acquire_owned().unwrap(), drop => {
        available_permits: |semaphore| semaphore.available_permits() == 1,
        try_acquire: |semaphore| semaphore.try_acquire().is_ok(),
        acquire: |semaphore| poll(semaphore.acquire()).is_ready(),
        forget_permits: |semaphore| semaphore.forget_permits(1) == 1,
    }
    an_acquisition: || Semaphore::new(1), Arc::clone, |semaphore| semaphore.try_acquire().unwrap().forget() => {
        available_permits: |semaphore| semaphore.available_permits() == 0,
    }
    an_acquisition_and_return: || Semaphore::new(1), Arc::clone, |semaphore| drop(semaphore.try_acquire()) => {
        available_permits: |semaphore| semaphore.available_permits() == 0,
        try_acquire: |semaphore| semaphore.try_acquire().is_err(),
        acquire: |semaphore| poll(semaphore.acquire()).is_pending(),
        forget_permits: |semaphore| semaphore.forget_permits(1) == 0,
    }
    an_addition: || Semaphore::new(0), Arc::clone, |semaphore| semaphore.add_permits(1) => {
        available_permits: |semaphore| semaphore.available_permits() == 1,
        try_acquire: |semaphore| semaphore.try_acquire().is_ok(),
        acquire: |semaphore| poll(semaphore.acquire()).is_ready(),
        forget_permits: |semaphore| semaphore.forget_permits(1) == 1,
    }
    a_removal: || Semaphore::new(1), Arc::clone, |semaphore| _ = semaphore.forget_permits(1) => {
        available_permits: |semaphore| semaphore.available_permits() == 0,
        try_acquire: |semaphore| semaphore.try_acquire().is_err(),
    }
    a_reduction: || Semaphore::new(1), Arc::clone, |semaphore| semaphore.reduce_permits(1) => {
        available_permits: |semaphore| semaphore.available_permits() == 0,
        try_acquire: |semaphore| semaphore.try_acquire().is_err(),
    }
    a_debt: || Semaphore::new(0), Arc::clone, |semaphore| semaphore.reduce_permits(1) => {
        permits_owed: |semaphore| semaphore.permits_owed() == 1,
    }
    a_payment: || owing(1), Arc::clone, |semaphore| semaphore.add_permits(1) => {
        permits_owed: |semaphore| semaphore.permits_owed() == 0,
    }
    a_close: || Semaphore::new(0), Arc::clone, |semaphore| semaphore.close() => {
        is_closed: |semaphore| semaphore.is_closed(),
        try_acquire: |semaphore| semaphore.try_acquire().unwrap_err() == TryAcquireError::Closed,
        acquire: |semaphore| poll(semaphore.acquire()).is_ready(),
    }
    a_wait: || Semaphore::new(0), |semaphore| semaphore.clone().acquire_owned(), |future| drop(enqueued(future)) => {
        waiters: |semaphore| semaphore.waiters() == 1,
        try_acquire_of_zero: |semaphore| semaphore.try_acquire_many(0).is_err(),
    }
    a_grant: || Semaphore::new(0), |semaphore| (enqueued(semaphore.clone().acquire_owned()), semaphore.clone()),
    |(_granted, semaphore)| semaphore.add_permits(1) => {
        waiters: |semaphore| semaphore.waiters() == 0,
    }
    a_cancellation: || Semaphore::new(1), |semaphore| enqueued(semaphore.clone().acquire_many_owned(2)), drop => {
        waiters: |semaphore| semaphore.waiters() == 0,
        try_acquire: |semaphore| semaphore.try_acquire().is_ok(),
    }
    an_unlock: || Mutex::new(0), |mutex| mutex.clone().try_lock_owned().unwrap(), drop => {
        try_lock: |mutex| mutex.try_lock().is_ok(),
        lock: |mutex| poll(mutex.lock()).is_ready(),
        debug: |mutex| !format!("{mutex:?}").contains("<locked>"),
    }
    a_lock: || Mutex::new(0), Arc::clone, |mutex| drop(mutex.try_lock()) => {
        try_lock: |mutex| mutex.try_lock().is_err(),
        lock: |mutex| poll(mutex.lock()).is_pending(),
        debug: |mutex| format!("{mutex:?}").contains("<locked>"),
    }
    a_push: PriorityQueue::<u8, u8>::unbounded, Arc::clone, |queue| _ = queue.try_push(1, 2) => {
        len: |queue| queue.len() == 1,
        is_empty: |queue| !queue.is_empty(),
        try_pop: |queue| queue.try_pop().is_ok(),
        pop: |queue| poll(queue.pop()).is_ready(),
    }
    a_pop: full, Arc::clone, |queue| _ = queue.try_pop() => {
        len: |queue| queue.len() == 1,
        try_push: |queue| queue.try_push(1, 2).is_ok(),
        try_pop: |queue| queue.try_pop().unwrap() == (1, 2),
    }
    a_close_of_a_queue: PriorityQueue::<u8, u8>::unbounded, Arc::clone, |queue| queue.close() => {
        is_closed: |queue| queue.is_closed(),
        try_push: |queue| queue.try_push(1, 2).is_err(),
    }
    a_submit: TaskQueue::<u8>::unbounded, |tasks| TaskQueue::clone(tasks), |tasks| drop(tasks.try_submit(1, async {})) => {
        len: |tasks| tasks.len() == 1,
    }
    a_close_of_a_task_queue: TaskQueue::<u8>::unbounded, |tasks| TaskQueue::clone(tasks), |tasks| tasks.close() => {
        is_closed: |tasks| tasks.is_closed(),
        try_submit: |tasks| tasks.try_submit(1, async {}).is_err(),
    }
    a_returned_object: || Pool::from_objects([1]), |pool: &Arc<Pool<Fixed<i32>>>| pool.clone().try_get_owned().unwrap(), drop => {
        try_get: |pool| pool.try_get().is_some(),
        status: |pool| pool.status().idle == 1,
    }
    a_close_of_a_pool: || Pool::from_objects([1]), Arc::clone, |pool: Arc<Pool<Fixed<i32>>>| pool.close() => {
        is_closed: |pool| pool.is_closed(),
        try_get: |pool| pool.try_get().is_none(),
    }
    an_insertion: || LruCache::<u8, u8>::new(2), Arc::clone, |cache| _ = cache.insert(1, 2) => {
        get: |cache| cache.get(&1).is_some(),
        contains_key: |cache| cache.contains_key(&1),
        len: |cache| cache.len() == 1,
    }
}

/// A semaphore without permits, and with a debt.
fn owing(permits: usize) -> Semaphore {
    let semaphore = Semaphore::new(0);
    semaphore.reduce_permits(permits);
    semaphore
}

/// A queue of two items, and no more.
fn full() -> PriorityQueue<u8, u8> {
    let queue = PriorityQueue::bounded(2);
    queue.try_push(1, 1).unwrap();
    queue.try_push(1, 2).unwrap();
    queue
}
