//! Behaviour of a semaphore: which waiters get permits and when, whatever their futures and wakers do.

#![cfg(not(loom))]

#[path = "../common/mod.rs"]
mod common;

mod cancelling;
mod closing;
mod debt;
mod limits;
mod panics;
mod queueing;
mod showing;
mod splitting;
mod taking;
mod user_code;
mod wakes;

use std::sync::{Arc, Mutex as StdMutex};
use std::task::Waker;

use common::{Check, Log, is_locked_inside, poll, poll_with};
use stanchion::{Acquire, AcquireOwned, Semaphore, TryAcquireError};

const MAX: usize = Semaphore::MAX_PERMITS;

/// More waiters than any batch of wakers holds.
const MANY: usize = 100;

/// Futures that wakers can get at.
type Slots = Arc<StdMutex<Vec<Option<AcquireOwned>>>>;

fn shared(permits: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(permits))
}

/// A waiting future for `n` permits, with a waker that writes `entry` into `log`.
#[track_caller]
fn logged<'a>(semaphore: &'a Semaphore, n: usize, log: &Arc<Log>, entry: usize) -> Acquire<'a> {
    waiting(semaphore.acquire_many(n), &log.waker(entry))
}

/// The future, after a first poll with this waker that must leave it waiting.
#[track_caller]
fn waiting<F: Future + Unpin>(mut future: F, waker: &Waker) -> F {
    assert!(poll_with(&mut future, waker).is_pending(), "ready at the first poll");
    future
}

/// Enqueues one more waiter with this waker, its future in the next slot.
#[track_caller]
fn enqueue(semaphore: &Arc<Semaphore>, slots: &Slots, waker: &Waker) {
    let future = waiting(semaphore.clone().acquire_owned(), waker);
    slots.lock().unwrap().push(Some(future));
}

/// Takes the future out of a slot.
fn take(slots: &Slots, index: usize) -> AcquireOwned {
    slots.lock().unwrap()[index].take().unwrap()
}

/// Asserts that `n` permits are refused, by each form of `try_acquire`, for this reason.
#[track_caller]
fn refuses(semaphore: &Arc<Semaphore>, n: usize, reason: TryAcquireError) {
    assert_eq!(semaphore.try_acquire_many(n).unwrap_err(), reason);
    assert_eq!(semaphore.clone().try_acquire_many_owned(n).unwrap_err(), reason);
    if n == 1 {
        assert_eq!(semaphore.try_acquire().unwrap_err(), reason);
        assert_eq!(semaphore.clone().try_acquire_owned().unwrap_err(), reason);
    }
}

/// Calls every function, as user code may wherever it runs: the internal lock is free then.
fn call_everything(semaphore: &Arc<Semaphore>) {
    assert!(!is_locked_inside(semaphore), "user code runs under the lock");
    let _ = (semaphore.available_permits(), semaphore.permits_owed(), semaphore.waiters(), semaphore.is_closed());
    drop(semaphore.try_acquire());
    semaphore.add_permits(0);
    semaphore.reduce_permits(0);
    assert_eq!(semaphore.forget_permits(0), 0);
    let mut future = semaphore.clone().acquire_owned();
    let _ = poll(&mut future);
    drop(future);
    semaphore.check();
}
