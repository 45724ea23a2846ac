//! What is allocated: nothing to acquire, wait or lock in the steady state, and little is kept after a storm.
//!
//! The counts are per thread, so neither other tests nor the harness disturb them.

#![cfg(not(loom))]

mod common;

use std::sync::Arc;
use std::task::{Poll, Waker};

use allocation_counter::{AllocationInfo, measure};
use common::{Counter, poll, poll_with, ready};
use stanchion::{Acquire, Mutex, MutexGuard, OwnedMutexGuard, Semaphore, blocking};

/// A storm.
const MILLION: usize = 1_000_000;

/// What may be left of a storm that has passed.
const SMALL: i64 = 64 * 1024;

/// How many allocations `action` makes; the first round of it may make some, the next hundred count.
fn allocations(mut action: impl FnMut()) -> u64 {
    action();
    measure(|| (0..100).for_each(|_| action())).count_total
}

#[test]
fn the_measure_sees_allocations() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1)))), 100);
    let mut kept = Vec::new();
    assert_eq!(measure(|| kept = std::hint::black_box(vec![0_u8; 1000])).bytes_current, 1000);
}

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
fn acquiring_and_releasing_what_is_free_allocates_nothing() {
    let semaphore = Arc::new(Semaphore::new(5));
    assert_eq!(allocations(|| drop(ready(&mut semaphore.acquire()).unwrap())), 0);
    assert_eq!(allocations(|| drop(ready(&mut semaphore.acquire_many(3)).unwrap())), 0);
    assert_eq!(allocations(|| drop(ready(&mut semaphore.clone().acquire_owned()).unwrap())), 0);
    assert_eq!(allocations(|| drop(semaphore.try_acquire().unwrap())), 0);
    assert_eq!(allocations(|| drop(semaphore.clone().try_acquire_many_owned(2).unwrap())), 0);
    assert_eq!(allocations(|| drop(blocking::wait(semaphore.acquire()).unwrap())), 0);
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
fn locking_and_unlocking_what_is_free_allocates_nothing() {
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
fn a_wait_that_is_given_up_allocates_nothing() {
    let semaphore = Semaphore::new(0);
    assert_eq!(allocations(|| assert!(poll(&mut semaphore.acquire()).is_pending())), 0);
    let granted_and_given_up = || {
        let mut waiting = semaphore.acquire();
        assert!(poll(&mut waiting).is_pending());
        semaphore.add_permits(1);
        drop(waiting);
        assert_eq!(semaphore.forget_permits(1), 1);
    };
    assert_eq!(allocations(granted_and_given_up), 0);
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
    for waiters in [2, 64, 200, 1_000] {
        let semaphore = Semaphore::new(0);
        let counter = Arc::new(Counter::default());
        let waker = Waker::from(counter.clone());
        let mut line: Vec<Acquire<'_>> = Vec::with_capacity(waiters);
        let round = || {
            line.extend((0..waiters).map(|_| semaphore.acquire()));
            assert!(line.iter_mut().all(|waiting| poll_with(waiting, &waker).is_pending()));
            semaphore.add_permits(waiters);
            for mut waiting in line.drain(..) {
                ready(&mut waiting).unwrap().forget();
            }
        };
        assert_eq!(allocations(round), 0);
        assert_eq!(counter.count(), 101 * waiters);
    }
}

#[test]
fn a_chain_of_hand_overs_allocates_nothing() {
    let semaphore = Semaphore::new(1);
    let mut line: Vec<Acquire<'_>> = Vec::with_capacity(64);
    let chain = || {
        let mut permit = Some(semaphore.try_acquire().unwrap());
        line.extend((0..64).map(|_| semaphore.acquire()));
        assert!(line.iter_mut().all(|waiting| poll(waiting).is_pending()));
        for mut waiting in line.drain(..) {
            drop(permit.take());
            permit = Some(ready(&mut waiting).unwrap());
        }
    };
    assert_eq!(allocations(chain), 0);
}

#[test]
fn a_close_with_waiters_allocates_nothing() {
    let semaphores: Vec<Semaphore> = (0..10).map(|_| Semaphore::new(0)).collect();
    let mut lines: Vec<Vec<Acquire<'_>>> = Vec::new();
    for semaphore in &semaphores {
        lines.push((0..64).map(|_| semaphore.acquire()).collect());
        assert!(lines.last_mut().unwrap().iter_mut().all(|waiting| poll(waiting).is_pending()));
    }
    let info = measure(|| {
        for (semaphore, line) in semaphores.iter().zip(&mut lines) {
            semaphore.close();
            assert!(line.iter_mut().all(|waiting| matches!(poll(waiting), Poll::Ready(Err(_)))));
        }
    });
    assert_eq!(info.count_total, 0);
}

/// Lets a million wait, lets `pass` deal with them, and checks what is kept when they have gone.
#[track_caller]
fn storm(pass: impl for<'a> FnOnce(&'a Semaphore, Vec<Acquire<'a>>)) {
    let semaphore = Semaphore::new(0);
    let mut at_its_height = 0;
    let info: AllocationInfo = measure(|| {
        let mut line: Vec<Acquire<'_>> = (0..MILLION).map(|_| semaphore.acquire()).collect();
        let height = measure(|| assert!(line.iter_mut().all(|waiting| poll(waiting).is_pending())));
        at_its_height = height.bytes_current;
        assert_eq!(semaphore.waiters(), MILLION);
        pass(&semaphore, line);
        assert_eq!(semaphore.waiters(), 0);
    });
    assert!(at_its_height > 100 * SMALL, "a storm of {at_its_height} bytes is none");
    assert!(info.bytes_current < SMALL, "{} of {at_its_height} bytes are kept", info.bytes_current);
    assert!(info.bytes_current >= 0);
    drop(semaphore);
}

#[test]
fn a_storm_that_was_served_leaves_little() {
    storm(|semaphore, line| {
        semaphore.add_permits(MILLION);
        for mut waiting in line {
            ready(&mut waiting).unwrap().forget();
        }
    });
}

#[test]
fn a_storm_that_was_served_one_by_one_leaves_little() {
    storm(|semaphore, line| {
        for mut waiting in line {
            semaphore.add_permits(1);
            ready(&mut waiting).unwrap().forget();
        }
    });
}

#[test]
fn a_storm_that_was_given_up_leaves_little() {
    storm(|_, line| drop(line));
    storm(|_, line| line.into_iter().rev().for_each(drop));
    // Every other one first.
    storm(|_, line| {
        let (odd, even): (Vec<_>, Vec<_>) = line.into_iter().enumerate().partition(|(index, _)| index % 2 == 1);
        drop((even, odd));
    });
}

#[test]
fn a_storm_that_was_turned_away_leaves_little() {
    storm(|semaphore, line| {
        semaphore.close();
        drop(line);
    });
}

#[test]
fn a_storm_with_survivors_who_keep_coming_back_leaves_little() {
    const SURVIVORS: usize = 10;
    const ROUNDS: usize = if cfg!(debug_assertions) { MILLION } else { 3 * MILLION };
    // Those who stay are the first, the last, or spread over the whole line.
    for stays in
        [|index| index < SURVIVORS, |index| index >= MILLION - SURVIVORS, |index| index % (MILLION / SURVIVORS) == 7]
    {
        let semaphore = Semaphore::new(0);
        let info = measure(|| {
            let mut line: Vec<Option<Acquire<'_>>> = (0..MILLION).map(|_| Some(semaphore.acquire())).collect();
            assert!(line.iter_mut().flatten().all(|waiting| poll(waiting).is_pending()));
            let leaving = line.iter_mut().enumerate().filter(|(index, _)| !stays(*index));
            leaving.for_each(|(_, waiting)| *waiting = None);
            let mut survivors: Vec<Acquire<'_>> = line.into_iter().flatten().collect();
            assert_eq!((survivors.len(), semaphore.waiters()), (SURVIVORS, SURVIVORS));
            for round in 0..ROUNDS {
                // The longest waiting is served, and queues up again.
                semaphore.add_permits(1);
                let waiting = &mut survivors[round % SURVIVORS];
                ready(waiting).unwrap().forget();
                *waiting = semaphore.acquire();
                assert!(poll(waiting).is_pending());
            }
            assert_eq!(semaphore.waiters(), SURVIVORS);
            std::mem::forget(survivors);
        });
        assert!(info.bytes_current < SMALL, "{} bytes are kept for {SURVIVORS}", info.bytes_current);
    }
}

#[test]
fn a_dropped_semaphore_gives_everything_back() {
    let info = measure(|| {
        let semaphore = Semaphore::new(0);
        let mut line: Vec<Acquire<'_>> = (0..1_000).map(|_| semaphore.acquire()).collect();
        let waker = Waker::from(Arc::new(Counter::default()));
        assert!(line.iter_mut().all(|waiting| poll_with(waiting, &waker).is_pending()));
        semaphore.add_permits(500);
        drop(line.drain(400..600));
    });
    assert_eq!((info.bytes_current, info.count_current), (0, 0));
}
