//! The semaphore and the mutex.

use std::sync::Arc;
use std::task::{Poll, Waker};

use allocation_counter::{AllocationInfo, measure};
use stanchion::{Acquire, Mutex, MutexGuard, OwnedMutexGuard, Semaphore, blocking};

use crate::common::{Counter, poll, poll_with, ready};
use crate::{MILLION, SMALL, allocations};

#[test]
fn an_idle_semaphore_allocates_nothing() {
    let info = measure(|| {
        let semaphore = Semaphore::new(3);
        drop(ready(&mut semaphore.acquire_many(2)));
        drop(semaphore.try_acquire());
        semaphore.add_permits(1);
        drop(semaphore.try_acquire_many(9));
        assert!(poll(&mut Semaphore::new(1).acquire()).is_ready());
        assert_eq!((semaphore.available_permits(), semaphore.waiters(), semaphore.is_closed()), (4, 0, false));
        assert!(Mutex::new(1).try_lock().is_ok());
    });
    assert_eq!(info.count_total, 0);
}

#[test]
fn acquiring_and_releasing_free_permits_allocates_nothing() {
    let semaphore = Arc::new(Semaphore::new(5));
    assert_eq!(allocations(|| drop(ready(&mut semaphore.acquire()).unwrap())), 0);
    assert_eq!(allocations(|| drop(ready(&mut semaphore.acquire_many(3)).unwrap())), 0);
    assert_eq!(allocations(|| drop(ready(&mut semaphore.clone().acquire_owned()).unwrap())), 0);
    assert_eq!(allocations(|| drop(semaphore.try_acquire().unwrap())), 0);
    assert_eq!(allocations(|| drop(semaphore.clone().try_acquire_many_owned(2).unwrap())), 0);
    let mutex = Mutex::new(1);
    assert_eq!(allocations(|| drop(mutex.blocking_lock())), 0);
    assert_eq!(allocations(|| drop(blocking::wait(semaphore.acquire()).unwrap())), 100, "the waker of the thread");
    let split_and_merge = || {
        let mut permit = semaphore.try_acquire_many(4).unwrap();
        let part = permit.split(2).unwrap();
        permit.merge(part);
    };
    assert_eq!(allocations(split_and_merge), 0);
    let add_and_take_away = || {
        semaphore.add_permits(3);
        assert_eq!(semaphore.forget_permits(1), 1);
        semaphore.reduce_permits(2);
    };
    assert_eq!(allocations(add_and_take_away), 0);
}

#[test]
fn locking_and_unlocking_a_free_mutex_allocates_nothing() {
    let mutex = Arc::new(Mutex::new((1, 2)));
    assert_eq!(allocations(|| drop(ready(&mut mutex.lock()))), 0);
    assert_eq!(allocations(|| drop(ready(&mut mutex.clone().lock_owned()))), 0);
    assert_eq!(allocations(|| drop(mutex.try_lock().unwrap())), 0);
    assert_eq!(allocations(|| drop(mutex.blocking_lock())), 0);
    assert_eq!(allocations(|| drop(MutexGuard::map(mutex.try_lock().unwrap(), |pair| &mut pair.0))), 0);
    let map_owned = || drop(OwnedMutexGuard::map(mutex.clone().try_lock_owned().unwrap(), |pair| &mut pair.1));
    assert_eq!(allocations(map_owned), 0);
}

#[test]
fn a_wait_allocates_nothing() {
    let semaphore = Arc::new(Semaphore::new(1));
    let wait = || {
        let permit = semaphore.try_acquire().unwrap();
        let mut waiting = semaphore.acquire();
        assert!(poll(&mut waiting).is_pending());
        drop(permit);
        drop(ready(&mut waiting).unwrap());
    };
    assert_eq!(allocations(wait), 0);
    let wait_owned = || {
        let permit = semaphore.clone().try_acquire_owned().unwrap();
        let mut waiting = semaphore.clone().acquire_owned();
        assert!(poll(&mut waiting).is_pending());
        drop(permit);
        drop(ready(&mut waiting).unwrap());
    };
    assert_eq!(allocations(wait_owned), 0);
    let mutex = Mutex::new(());
    let lock = || {
        let guard = mutex.try_lock().unwrap();
        let mut waiting = mutex.lock();
        assert!(poll(&mut waiting).is_pending());
        drop(guard);
        drop(ready(&mut waiting));
    };
    assert_eq!(allocations(lock), 0);
}

#[test]
fn a_cancelled_wait_allocates_nothing() {
    let semaphore = Semaphore::new(0);
    assert_eq!(allocations(|| assert!(poll(&mut semaphore.acquire()).is_pending())), 0);
    let granted_and_cancelled = || {
        let mut waiting = semaphore.acquire();
        assert!(poll(&mut waiting).is_pending());
        semaphore.add_permits(1);
        drop(waiting);
        assert_eq!(semaphore.forget_permits(1), 1);
    };
    assert_eq!(allocations(granted_and_cancelled), 0);
}

#[test]
fn a_change_of_waker_allocates_nothing() {
    let semaphore = Semaphore::new(0);
    let wakers: [Waker; 2] = [Arc::new(Counter::default()).into(), Arc::new(Counter::default()).into()];
    let mut waiting = semaphore.acquire();
    let change = || wakers.iter().for_each(|waker| assert!(poll_with(&mut waiting, waker).is_pending()));
    assert_eq!(allocations(change), 0);
}

#[test]
fn rounds_of_many_waiters_allocate_nothing() {
    for count in [2, 64, 200, 1_000] {
        let semaphore = Semaphore::new(0);
        let counter = Arc::new(Counter::default());
        let waker = Waker::from(counter.clone());
        let mut waiters: Vec<Acquire<'_>> = Vec::with_capacity(count);
        let round = || {
            waiters.extend((0..count).map(|_| semaphore.acquire()));
            assert!(waiters.iter_mut().all(|waiting| poll_with(waiting, &waker).is_pending()));
            semaphore.add_permits(count);
            for mut waiting in waiters.drain(..) {
                ready(&mut waiting).unwrap().forget();
            }
        };
        assert_eq!(allocations(round), 0);
        assert_eq!(counter.count(), 101 * count);
    }
}

#[test]
fn a_chain_of_hand_overs_allocates_nothing() {
    let semaphore = Semaphore::new(1);
    let mut waiters: Vec<Acquire<'_>> = Vec::with_capacity(64);
    let chain = || {
        let mut permit = Some(semaphore.try_acquire().unwrap());
        waiters.extend((0..64).map(|_| semaphore.acquire()));
        assert!(waiters.iter_mut().all(|waiting| poll(waiting).is_pending()));
        for mut waiting in waiters.drain(..) {
            drop(permit.take());
            permit = Some(ready(&mut waiting).unwrap());
        }
    };
    assert_eq!(allocations(chain), 0);
}

#[test]
fn a_close_with_waiters_allocates_nothing() {
    let semaphores: Vec<Semaphore> = (0..10).map(|_| Semaphore::new(0)).collect();
    let mut waiting: Vec<Vec<Acquire<'_>>> = Vec::new();
    for semaphore in &semaphores {
        waiting.push((0..64).map(|_| semaphore.acquire()).collect());
        assert!(waiting.last_mut().unwrap().iter_mut().all(|waiting| poll(waiting).is_pending()));
    }
    let info = measure(|| {
        for (semaphore, waiters) in semaphores.iter().zip(&mut waiting) {
            semaphore.close();
            assert!(waiters.iter_mut().all(|waiting| matches!(poll(waiting), Poll::Ready(Err(_)))));
        }
    });
    assert_eq!(info.count_total, 0);
}

/// Enqueues a million waiters, lets `end` end their waits, and checks the memory that is kept.
#[track_caller]
fn storm(end: impl for<'a> FnOnce(&'a Semaphore, Vec<Acquire<'a>>)) {
    let semaphore = Semaphore::new(0);
    let mut at_its_height = 0;
    let info: AllocationInfo = measure(|| {
        let mut waiters: Vec<Acquire<'_>> = (0..MILLION).map(|_| semaphore.acquire()).collect();
        let height = measure(|| assert!(waiters.iter_mut().all(|waiting| poll(waiting).is_pending())));
        at_its_height = height.bytes_current;
        assert_eq!(semaphore.waiters(), MILLION);
        end(&semaphore, waiters);
        assert_eq!(semaphore.waiters(), 0);
    });
    assert!(at_its_height > 100 * SMALL, "a storm of only {at_its_height} bytes");
    assert!(info.bytes_current < SMALL, "{} of {at_its_height} bytes are kept", info.bytes_current);
    assert!(info.bytes_current >= 0);
    drop(semaphore);
}

#[test]
fn a_granted_storm_leaves_little() {
    storm(|semaphore, waiters| {
        semaphore.add_permits(MILLION);
        for mut waiting in waiters {
            ready(&mut waiting).unwrap().forget();
        }
    });
}

#[test]
fn a_storm_granted_one_by_one_leaves_little() {
    storm(|semaphore, waiters| {
        for mut waiting in waiters {
            semaphore.add_permits(1);
            ready(&mut waiting).unwrap().forget();
        }
    });
}

#[test]
fn a_cancelled_storm_leaves_little() {
    storm(|_, waiters| drop(waiters));
    storm(|_, waiters| waiters.into_iter().rev().for_each(drop));
    // Every other one first.
    storm(|_, waiters| {
        let (odd, even): (Vec<_>, Vec<_>) = waiters.into_iter().enumerate().partition(|(index, _)| index % 2 == 1);
        drop((even, odd));
    });
}

#[test]
fn a_revoked_storm_leaves_little() {
    storm(|semaphore, waiters| {
        semaphore.close();
        drop(waiters);
    });
}

#[test]
fn a_storm_leaves_little_once_its_last_waiter_ends() {
    const SURVIVORS: usize = 10;
    // The waiters that stay are the first, the last, or spread over the whole queue.
    for stays in
        [|index| index < SURVIVORS, |index| index >= MILLION - SURVIVORS, |index| index % (MILLION / SURVIVORS) == 7]
    {
        let semaphore = Semaphore::new(0);
        let info = measure(|| {
            let mut storm: Vec<Option<Acquire<'_>>> = (0..MILLION).map(|_| Some(semaphore.acquire())).collect();
            assert!(storm.iter_mut().flatten().all(|waiting| poll(waiting).is_pending()));
            let leaving = storm.iter_mut().enumerate().filter(|(index, _)| !stays(*index));
            leaving.for_each(|(_, waiting)| *waiting = None);
            let survivors: Vec<Acquire<'_>> = storm.into_iter().flatten().collect();
            assert_eq!((survivors.len(), semaphore.waiters()), (SURVIVORS, SURVIVORS));
            semaphore.add_permits(SURVIVORS);
            survivors.into_iter().for_each(|mut waiting| ready(&mut waiting).unwrap().forget());
        });
        assert!(info.bytes_current < SMALL, "{} bytes are kept", info.bytes_current);
    }
}

#[test]
fn a_dropped_semaphore_gives_everything_back() {
    let info = measure(|| {
        let semaphore = Semaphore::new(0);
        let mut waiters: Vec<Acquire<'_>> = (0..1_000).map(|_| semaphore.acquire()).collect();
        let waker = Waker::from(Arc::new(Counter::default()));
        assert!(waiters.iter_mut().all(|waiting| poll_with(waiting, &waker).is_pending()));
        semaphore.add_permits(500);
        drop(waiters.drain(400..600));
    });
    assert_eq!((info.bytes_current, info.count_current), (0, 0));
}
