//! Locking: one guard at a time, granted in order of first poll, and futures that are dropped.

use std::ops::DerefMut;
use std::sync::{Arc, Mutex as StdMutex};

use stanchion::{LockOwned, Mutex};

use crate::common::hooks::Hooks;
use crate::common::{Check, Log, Task, assert_numbers, panic_of, poll, poll_with, ready};
use crate::{is_free, shared};

#[test]
fn only_one_guard_exists_at_a_time() {
    let mutex = shared(1);
    let excludes_others = |mut guard: Box<dyn DerefMut<Target = i32> + '_>| {
        **guard += 1;
        assert!(mutex.try_lock().is_err() && mutex.clone().try_lock_owned().is_err());
        assert!(poll(&mut mutex.lock()).is_pending() && poll(&mut mutex.clone().lock_owned()).is_pending());
        drop(guard);
        assert!(is_free(&mutex));
    };
    excludes_others(Box::new(ready(&mut mutex.lock())));
    excludes_others(Box::new(ready(&mut mutex.clone().lock_owned())));
    excludes_others(Box::new(mutex.try_lock().unwrap()));
    excludes_others(Box::new(mutex.clone().try_lock_owned().unwrap()));
    assert_eq!(*mutex.try_lock().unwrap(), 5);
}

#[test]
fn a_mutex_can_be_made_in_a_static() {
    static MUTEX: Mutex<Vec<u8>> = Mutex::new(Vec::new());
    ready(&mut MUTEX.lock()).push(1);
    MUTEX.blocking_lock().push(2);
    assert_eq!(*MUTEX.try_lock().unwrap(), [1, 2]);
}

#[test]
fn the_lock_is_granted_in_order_of_first_poll() {
    const WAITERS: usize = 100;
    let mutex = Mutex::new(Vec::new());
    let log = Arc::new(Log::default());
    let mut guard = Some(mutex.try_lock().unwrap());
    let mut waiters: Vec<_> = (0..WAITERS).map(|_| Some(mutex.lock())).collect();
    // First polled in the opposite order of their creation.
    for (index, future) in waiters.iter_mut().enumerate().rev() {
        assert!(poll_with(future.as_mut().unwrap(), &log.waker(index)).is_pending());
    }
    for index in (0..WAITERS).rev() {
        assert_eq!(mutex.waiters(), index + 1);
        drop(guard.take());
        assert_numbers(&log.take(), [index]);
        assert!(waiters[..index].iter_mut().all(|future| poll(future.as_mut().unwrap()).is_pending()));
        for (index, future) in waiters[..index].iter_mut().enumerate() {
            assert!(poll_with(future.as_mut().unwrap(), &log.waker(index)).is_pending());
        }
        let mut next = ready(&mut waiters[index].take().unwrap());
        next.push(index);
        guard = Some(next);
    }
    drop((guard, waiters));
    mutex.check();
    assert_numbers(&mutex.into_inner(), (0..WAITERS).rev());
}

#[test]
fn try_lock_never_barges() {
    let mutex = shared(());
    let guard = mutex.try_lock().unwrap();
    let mut first = Task::waiting(mutex.lock());
    let mut second = Task::waiting(mutex.clone().lock_owned());
    drop(guard);
    // Granted, though not yet collected.
    assert!(mutex.try_lock().is_err() && mutex.clone().try_lock_owned().is_err());
    drop(first.ready());
    assert!(mutex.try_lock().is_err());
    drop(second.ready());
    assert!(is_free(&mutex));
}

#[test]
fn lock_never_barges() {
    let mutex = Mutex::new(());
    let guard = mutex.try_lock().unwrap();
    let mut waiting = Task::waiting(mutex.lock());
    drop(guard);
    let mut late = Task::waiting(mutex.lock());
    drop(waiting.ready());
    assert_eq!(late.wakes(), 1);
    drop(late.ready());
    assert!(is_free(&mutex));
}

#[test]
fn waiters_counts_futures_polled_and_not_yet_granted() {
    let mutex = Mutex::new(());
    let guard = mutex.try_lock().unwrap();
    let never_polled = mutex.lock();
    assert_eq!(mutex.waiters(), 0);
    let first = Task::waiting(mutex.lock());
    let second = Task::waiting(mutex.lock());
    assert_eq!(mutex.waiters(), 2);
    drop(guard);
    assert_eq!(mutex.waiters(), 1);
    drop(second);
    assert_eq!(mutex.waiters(), 0);
    drop((first, never_polled));
    assert!(is_free(&mutex));
}

#[test]
fn a_cancelled_waiter_is_skipped() {
    let mutex = Mutex::new(());
    let guard = mutex.try_lock().unwrap();
    let first = Task::waiting(mutex.lock());
    let mut second = Task::waiting(mutex.lock());
    drop(first);
    drop(guard);
    assert_eq!(second.wakes(), 1);
    drop(second.ready());
    assert!(is_free(&mutex));
}

#[test]
fn a_cancelled_grant_goes_to_the_next_waiter() {
    let mutex = shared(());
    let guard = mutex.try_lock().unwrap();
    let first = Task::waiting(mutex.clone().lock_owned());
    let second = Task::waiting(mutex.lock());
    let mut third = Task::waiting(mutex.lock());
    drop(guard);
    assert_eq!((first.wakes(), second.wakes(), third.wakes()), (1, 0, 0));
    drop(first);
    assert_eq!((second.wakes(), third.wakes()), (1, 0));
    mutex.check();
    drop(second);
    assert_eq!(third.wakes(), 1);
    drop(third.ready());
    assert!(is_free(&mutex));
}

#[test]
fn a_future_that_was_never_polled_has_no_effect() {
    let mutex = shared(());
    let futures = (mutex.lock(), mutex.clone().lock_owned());
    assert!(is_free(&mutex));
    drop(futures);
    assert!(is_free(&mutex));
    assert_eq!(Arc::strong_count(&mutex), 1);
}

#[test]
fn a_leaked_guard_keeps_the_mutex_locked() {
    let mut mutex = Mutex::new(7);
    std::mem::forget(mutex.try_lock().unwrap());
    assert!(mutex.try_lock().is_err());
    *mutex.get_mut() += 1;
    assert_eq!(mutex.into_inner(), 8);
}

#[test]
fn polling_after_completion_panics_and_locks_nothing() {
    let mutex = shared(());
    let mut borrowed = mutex.lock();
    drop(ready(&mut borrowed));
    assert!(panic_of(|| poll(&mut borrowed).is_ready()).contains("ready"));
    let mut owned = mutex.clone().lock_owned();
    drop(ready(&mut owned));
    assert!(panic_of(|| poll(&mut owned).is_ready()).contains("ready"));
    drop((borrowed, owned));
    assert!(is_free(&mutex));
}

#[test]
fn a_panic_while_locked_unlocks_without_poisoning() {
    fn panics_with<G>(lock: impl FnOnce() -> G) {
        let message = panic_of(|| {
            let _guard = lock();
            panic!("while locked");
        });
        assert_eq!(message, "while locked");
    }
    let mutex = shared(0);
    panics_with(|| {
        let mut guard = mutex.try_lock().unwrap();
        *guard += 1;
        guard
    });
    assert!(is_free(&mutex));
    panics_with(|| {
        let mut guard = mutex.clone().try_lock_owned().unwrap();
        *guard += 1;
        guard
    });
    assert!(is_free(&mutex));
    let mut waiter = None;
    panics_with(|| {
        let guard = mutex.try_lock().unwrap();
        waiter = Some(Task::waiting(mutex.lock()));
        guard
    });
    assert_eq!(*waiter.unwrap().ready(), 2, "granted to the waiter all the same");
    assert!(is_free(&mutex));
}

#[test]
fn wakers_may_use_the_mutex() {
    let mutex = shared(Vec::new());
    let guard = mutex.try_lock().unwrap();
    let slot: Arc<StdMutex<Option<LockOwned<Vec<&str>>>>> = Arc::default();
    let waker = {
        let (mutex, slot) = (mutex.clone(), slot.clone());
        Hooks::new().on_wake(move || {
            assert!(mutex.try_lock().is_err(), "the woken future has it");
            assert!(format!("{mutex:?}").contains("<locked>"));
            assert!(poll(&mut mutex.lock()).is_pending());
            let mut future = slot.lock().unwrap().take().unwrap();
            ready(&mut future).push("from the waker");
            mutex.try_lock().unwrap().push("and again");
            mutex.check();
        })
    };
    let mut future = mutex.clone().lock_owned();
    assert!(poll_with(&mut future, &waker.waker()).is_pending());
    *slot.lock().unwrap() = Some(future);
    drop(guard);
    assert_eq!(*mutex.try_lock().unwrap(), ["from the waker", "and again"]);
}

#[test]
fn a_wake_that_panics_leaves_its_waiter_granted() {
    let mutex = Mutex::new(());
    let guard = mutex.try_lock().unwrap();
    let mut first = mutex.lock();
    assert!(poll_with(&mut first, &Hooks::new().on_wake(|| panic!("the wake")).waker()).is_pending());
    let mut second = Task::waiting(mutex.lock());
    assert_eq!(panic_of(|| drop(guard)), "the wake");
    assert!(second.is_pending());
    drop(ready(&mut first));
    drop(second.ready());
    assert!(is_free(&mutex));
}
