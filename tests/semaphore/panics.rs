//! Wakers that panic when they are cloned, woken or dropped: nothing is lost, all others are woken, nothing aborts.

use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex as StdMutex};
use std::task::Waker;

use stanchion::{AcquireOwned, Mutex, Semaphore, SemaphorePermit};

use crate::common::hooks::Hooks;
use crate::common::{
    Log, Task, assert_numbers, does_not_abort, panic_of, poll, poll_with, poll_with_two_wakers, ready, state,
};
use crate::{MAX, logged, shared, waiting};

fn panics_when_cloned() -> Waker {
    Hooks::new().on_clone(|| panic!("the clone")).waker()
}

fn panics_when_woken() -> Waker {
    Hooks::new().on_wake(|| panic!("the wake")).waker()
}

/// A waker that panics when it is woken, with a payload that panics when it is dropped.
fn panics_twice_when_woken() -> Waker {
    Hooks::new().on_wake(|| panic_any(PanicsWhenDropped)).waker()
}

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("the payload");
    }
}

/// Panics in the next drop of a waker after `arm`.
#[derive(Clone, Default)]
struct PanickingDrop(Arc<AtomicBool>);

impl PanickingDrop {
    fn arm(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_armed(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn waker(&self) -> Waker {
        self.waker_with(Hooks::new())
    }

    fn waker_with(&self, hooks: Hooks) -> Waker {
        let armed = self.0.clone();
        hooks.on_drop(move || assert!(!armed.swap(false, Ordering::Relaxed), "the drop")).waker()
    }

    /// Runs a poll with such a drop in it, and asserts that its panic is discarded.
    #[track_caller]
    fn discarded<R>(&self, poll: impl FnOnce() -> R) -> R {
        self.arm();
        let output = poll();
        assert!(!self.is_armed(), "the waker was dropped");
        output
    }

    /// Asserts that `action` panics because of such a drop.
    #[track_caller]
    fn strikes<R>(&self, action: impl FnOnce() -> R) {
        self.arm();
        assert!(panic_of(action).contains("the drop"));
    }
}

/// Asserts that the first panic of `action` goes on through those that its unwinding causes.
#[track_caller]
fn unwinds(action: impl FnOnce()) {
    assert_eq!(panic_of(action), "the first");
}

// ---------------------------------------------------------------------------------------------------------------------
// Clones
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn a_clone_that_panics_at_the_first_poll_loses_nothing() {
    let semaphore = shared(1);
    let permit = semaphore.try_acquire().unwrap();
    let mut dropped = semaphore.acquire();
    let mut retried = Task::new(semaphore.clone().acquire_owned());
    assert_eq!(panic_of(|| poll_with(&mut dropped, &panics_when_cloned()).is_ready()), "the clone");
    assert_eq!(panic_of(|| poll_with(retried.future_mut(), &panics_when_cloned()).is_ready()), "the clone");
    assert_eq!(state(&semaphore), (0, 0));
    drop(dropped);
    assert!(retried.is_pending());
    assert_eq!(state(&semaphore), (0, 1));
    drop(permit);
    assert_eq!(retried.wakes(), 1);
    assert!(retried.ready().is_ok());
    assert_eq!(state(&semaphore), (1, 0));
}

#[test]
fn a_clone_that_panics_at_a_later_poll_loses_nothing() {
    for then_dropped in [false, true] {
        let semaphore = Semaphore::new(0);
        let mut task = Task::waiting(semaphore.acquire());
        let mut next = Task::waiting(semaphore.acquire());
        assert_eq!(panic_of(|| poll_with(task.future_mut(), &panics_when_cloned()).is_ready()), "the clone");
        assert_eq!(state(&semaphore), (0, 2), "it keeps its place");
        if then_dropped {
            drop(task);
            assert_eq!(state(&semaphore), (0, 1));
            semaphore.add_permits(1);
        } else {
            semaphore.add_permits(1);
            assert_eq!((task.wakes(), next.wakes()), (1, 0), "through the waker it had");
            assert!(task.ready().is_ok());
        }
        assert!(next.ready().is_ok());
        assert_eq!(state(&semaphore), (1, 0));
    }
}

#[test]
fn a_clone_that_grants_and_panics_loses_nothing() {
    let semaphore = shared(0);
    let owner = semaphore.clone();
    let waker = Hooks::new().on_clone(move || {
        owner.add_permits(1);
        panic!("the clone");
    });
    let waker = waker.waker();
    let mut task = Task::waiting(semaphore.acquire());
    let mut next = Task::waiting(semaphore.acquire());
    assert_eq!(panic_of(|| poll_with(task.future_mut(), &waker).is_ready()), "the clone");
    assert_eq!((task.wakes(), state(&semaphore)), (1, (0, 1)));
    drop(task);
    assert_eq!(next.wakes(), 1);
    assert!(next.ready().is_ok());
    assert_eq!(state(&semaphore), (1, 0));
}

// ---------------------------------------------------------------------------------------------------------------------
// Wakes
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn a_wake_that_panics_leaves_its_waiter_granted() {
    let semaphore = Semaphore::new(1);
    let permit = semaphore.try_acquire().unwrap();
    let mut future = waiting(semaphore.acquire(), &panics_when_woken());
    assert_eq!(panic_of(|| drop(permit)), "the wake");
    assert_eq!(state(&semaphore), (0, 0));
    drop(ready(&mut future).unwrap());
    assert_eq!(state(&semaphore), (1, 0));
}

#[test]
fn all_are_woken_although_wakes_panic_and_the_first_resumes() {
    for panicking in [vec![0], vec![2], vec![3], vec![4], vec![2, 7], vec![0, 1, 2, 3, 4], (0..10).collect()] {
        for closing in [false, true] {
            let semaphore = Semaphore::new(0);
            let log = Arc::new(Log::default());
            let waker = |index| {
                if panicking.contains(&index) { log.panicking_waker(index) } else { log.waker(index) }
            };
            let futures: Vec<_> = (0..10).map(|index| waiting(semaphore.acquire(), &waker(index))).collect();
            let message = panic_of(|| if closing { semaphore.close() } else { semaphore.add_permits(10) });
            assert_eq!(message, format!("waker {}", panicking[0]));
            assert_numbers(&log.take(), 0..10);
            assert_eq!(state(&semaphore), (0, 0));
            for mut future in futures {
                assert_eq!(ready(&mut future).map(SemaphorePermit::forget).is_ok(), !closing);
            }
            assert_eq!(state(&semaphore), (0, 0));
        }
    }
}

#[test]
fn all_are_woken_although_a_wake_panics_in_a_cancellation() {
    let semaphore = Semaphore::new(9);
    let log = Arc::new(Log::default());
    let head = Task::waiting(semaphore.acquire_many(10));
    let bad = waiting(semaphore.acquire(), &panics_when_woken());
    let good: Vec<_> = (0..8).map(|index| logged(&semaphore, 1, &log, index)).collect();
    assert_eq!(panic_of(|| drop(head)), "the wake");
    assert_numbers(&log.take(), 0..8);
    drop((bad, good));
    assert_eq!(state(&semaphore), (9, 0));
}

#[test]
fn all_are_woken_although_a_payload_panics_when_dropped() {
    let semaphore = Semaphore::new(0);
    let bad = [(); 2].map(|()| waiting(semaphore.acquire(), &panics_twice_when_woken()));
    let mut good: Vec<_> = (0..18).map(|_| Task::waiting(semaphore.acquire())).collect();
    let payload = catch_unwind(AssertUnwindSafe(|| semaphore.add_permits(20))).unwrap_err();
    assert!(payload.is::<PanicsWhenDropped>());
    std::mem::forget(payload);
    assert!(good.iter().all(|task| task.wakes() == 1));
    for task in &mut good {
        task.ready().unwrap().forget();
    }
    drop(bad);
    assert_eq!(state(&semaphore), (2, 0));
}

#[test]
fn wakes_that_panic_in_an_unwinding_do_not_abort() {
    does_not_abort!(|| {
        for waiters in [1, 10] {
            let semaphore = Semaphore::new(waiters);
            let permit = semaphore.try_acquire_many(waiters).unwrap();
            let futures = (0..waiters).map(|_| waiting(semaphore.acquire(), &panics_when_woken()));
            let futures: Vec<_> = futures.collect();
            unwinds(|| {
                let _permit = permit;
                panic!("the first");
            });
            for mut future in futures {
                ready(&mut future).unwrap().forget();
            }
            assert_eq!(state(&semaphore), (0, 0));
        }
    });
}

#[test]
fn a_wake_that_panics_in_an_unwinding_cancellation_is_no_abort() {
    does_not_abort!(|| {
        let semaphore = Semaphore::new(1);
        let head = Task::waiting(semaphore.acquire_many(2));
        let mut next = waiting(semaphore.acquire(), &panics_when_woken());
        unwinds(|| {
            let _head = head;
            panic!("the first");
        });
        drop(ready(&mut next).unwrap());
        assert_eq!(state(&semaphore), (1, 0));
    });
}

#[test]
fn a_payload_that_panics_in_an_unwinding_does_not_abort() {
    does_not_abort!(|| {
        let semaphore = Semaphore::new(1);
        let permit = semaphore.try_acquire().unwrap();
        let mut future = waiting(semaphore.acquire(), &panics_twice_when_woken());
        unwinds(|| {
            let _permit = permit;
            panic!("the first");
        });
        assert!(ready(&mut future).is_ok());
    });
}

// ---------------------------------------------------------------------------------------------------------------------
// Drops
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn a_replaced_waker_that_panics_when_dropped_loses_nothing() {
    let semaphore = Semaphore::new(0);
    let drops = PanickingDrop::default();
    let old = drops.waker();
    let mut task = Task::new(semaphore.acquire());
    assert!(poll_with(task.future_mut(), &old).is_pending());
    assert!(drops.discarded(|| task.poll()).is_pending());
    drop(old);
    assert_eq!(state(&semaphore), (0, 1));
    semaphore.add_permits(1);
    assert_eq!(task.wakes(), 1, "the new waker was registered");
    drop(task.ready().unwrap());
    assert_eq!(state(&semaphore), (1, 0));
}

#[test]
fn a_cancelled_waker_that_panics_when_dropped_loses_nothing() {
    let semaphore = Semaphore::new(1);
    let drops = PanickingDrop::default();
    let waker = drops.waker();
    let head = waiting(semaphore.acquire_many(2), &waker);
    let mut next = Task::waiting(semaphore.acquire());
    drops.strikes(|| drop(head));
    assert_eq!(next.wakes(), 1);
    drop(next.ready().unwrap());
    assert_eq!(state(&semaphore), (1, 0));
}

/// Cloning the waker grants, so the clone is not needed; dropping the clone panics. The grant survives a first poll that
/// need not wait, and, of a future that is `queued` before, the poll that collects it.
fn drop_that_panics_at_the_last_poll(queued: bool) {
    let semaphore = shared(0);
    let drops = PanickingDrop::default();
    let owner = semaphore.clone();
    let waker = drops.waker_with(Hooks::new().on_clone(move || owner.add_permits(1)));
    let mut future = semaphore.acquire();
    assert!(!queued || poll(&mut future).is_pending());
    let permit = drops.discarded(|| poll_with(&mut future, &waker));
    assert!(permit.is_ready());
    assert_eq!(state(&semaphore), (0, 0));
    drop(permit);
    assert_eq!(state(&semaphore), (1, 0));
}

#[test]
fn a_drop_that_panics_at_the_first_poll_loses_no_permit() {
    drop_that_panics_at_the_last_poll(false);
}

#[test]
fn a_drop_that_panics_at_the_collecting_poll_loses_no_permit() {
    does_not_abort!(|| drop_that_panics_at_the_last_poll(true));
}

#[test]
fn two_drops_that_panic_at_the_collecting_poll_do_not_abort() {
    does_not_abort!(|| {
        let semaphore = shared(0);
        let giver = semaphore.clone();
        let outcome = poll_with_two_wakers(|| semaphore.clone().acquire_owned(), move || giver.add_permits(21));
        drop(outcome.unwrap());
        assert_eq!(state(&semaphore), (21, 0), "no permit is lost");
    });
}

#[test]
fn a_drop_and_a_wake_that_panic_in_a_cancellation_do_not_abort() {
    does_not_abort!(|| {
        let semaphore = Semaphore::new(1);
        let drops = PanickingDrop::default();
        let waker = drops.waker();
        let head = waiting(semaphore.acquire_many(2), &waker);
        let mut next = waiting(semaphore.acquire(), &panics_when_woken());
        drops.strikes(|| drop(head));
        drop(ready(&mut next).unwrap());
        assert_eq!(state(&semaphore), (1, 0));
    });
}

#[test]
fn a_drop_that_panics_in_an_unwinding_does_not_abort() {
    does_not_abort!(|| {
        let semaphore = Semaphore::new(0);
        let drops = PanickingDrop::default();
        let waker = drops.waker();
        unwinds(|| {
            let _future = waiting(semaphore.acquire(), &waker);
            drops.arm();
            panic!("the first");
        });
        assert_eq!(state(&semaphore), (0, 0));
    });
}

#[test]
fn a_drop_that_panics_as_its_grant_does_not_fit_does_not_abort() {
    does_not_abort!(|| {
        let semaphore = shared(0);
        let drops = PanickingDrop::default();
        let last = Arc::new(StdMutex::new(None::<AcquireOwned>));
        let (full, cancelled, armed) = (semaphore.clone(), last.clone(), drops.clone());
        // More waiters than one batch holds: the last one is cancelled with its waker in the queue.
        let first = Hooks::new().on_wake(move || {
            full.add_permits(MAX);
            armed.arm();
            let future = cancelled.lock().unwrap().take();
            assert!(panic_of(|| drop(future)).contains("MAX_PERMITS"));
            assert!(!armed.is_armed(), "its waker was dropped");
        });
        let wakers = [&[first.waker()][..], &vec![Waker::noop().clone(); 18], &[drops.waker()]].concat();
        let futures = wakers.iter().map(|waker| waiting(semaphore.clone().acquire_owned(), waker));
        let mut futures: Vec<_> = futures.collect();
        *last.lock().unwrap() = futures.pop();
        semaphore.add_permits(20);
        assert!(last.lock().unwrap().is_none());
        semaphore.forget_permits(19);
        futures.iter_mut().for_each(|future| drop(ready(future).unwrap()));
        assert_eq!(state(&semaphore), (MAX, 0));
    });
}

#[test]
fn a_drop_of_a_waker_and_of_the_last_handle_do_not_abort() {
    does_not_abort!(|| {
        struct Panics;
        impl Drop for Panics {
            fn drop(&mut self) {
                panic!("the value");
            }
        }
        let mutex = Arc::new(Mutex::new(Panics));
        std::mem::forget(mutex.try_lock());
        let drops = PanickingDrop::default();
        let waker = drops.waker();
        // The future has the last handle.
        let lock = waiting(mutex.lock_owned(), &waker);
        drops.strikes(|| drop(lock));
    });
}

#[test]
fn wakers_of_forgotten_futures_that_panic_do_not_abort() {
    does_not_abort!(|| {
        let semaphore = Semaphore::new(0);
        for _ in 0..2 {
            let waker = Hooks::new().on_drop(|| panic!("the drop")).waker();
            std::mem::forget(waiting(semaphore.acquire(), &waker));
            std::mem::forget(waker);
        }
        assert_eq!(panic_of(|| drop(semaphore)), "the drop");
    });
}
