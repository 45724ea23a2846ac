//! How a semaphore behaves: who gets permits and when, whatever waiters and their wakers do.

#![cfg(not(loom))]

#[path = "../common/mod.rs"]
mod common;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex as StdMutex, mpsc};
use std::task::{Poll, Waker};

use common::hostile::Hostile;
use common::{Check, Counter, Log, Task, assert_numbers, is_locked_inside, panic_of, poll, poll_with, ready, state};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use stanchion::{AcquireOwned, OwnedSemaphorePermit, Semaphore, SemaphorePermit, TryAcquireError};

const MAX: usize = Semaphore::MAX_PERMITS;

/// More waiters than any batch of wakers takes at once.
const MANY: usize = 100;

/// Futures that wakers can get at.
type Slots = Arc<StdMutex<Vec<Option<AcquireOwned>>>>;

fn shared(permits: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(permits))
}

/// A waiting future for `n` permits whose waker writes `entry` into `log`.
#[track_caller]
fn logged<'a>(semaphore: &'a Semaphore, n: usize, log: &Arc<Log>, entry: usize) -> stanchion::Acquire<'a> {
    let mut future = semaphore.acquire_many(n);
    assert!(poll_with(&mut future, &log.waker(entry)).is_pending());
    future
}

/// What must hold whenever foreign code runs: the lock is free, and every function can be called.
fn call_everything(semaphore: &Arc<Semaphore>) {
    assert!(!is_locked_inside(semaphore), "foreign code runs under the lock");
    let _ = (semaphore.available_permits(), semaphore.waiters(), semaphore.is_closed());
    drop(semaphore.try_acquire());
    semaphore.add_permits(0);
    semaphore.reduce_permits(0);
    assert_eq!(semaphore.forget_permits(0), 0);
    let mut future = semaphore.clone().acquire_owned();
    let _ = poll(&mut future);
    drop(future);
    semaphore.check();
}

// ---------------------------------------------------------------------------------------------------------------------
// Taking and returning
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn a_permit_is_taken_at_once_when_one_is_free_and_returned_when_dropped() {
    let semaphore = Semaphore::new(2);
    let first = ready(&mut semaphore.acquire()).unwrap();
    assert_eq!(state(&semaphore), (1, 0));
    let second = ready(&mut semaphore.acquire()).unwrap();
    assert_eq!(state(&semaphore), (0, 0));
    drop(first);
    assert_eq!(state(&semaphore), (1, 0));
    drop(second);
    assert_eq!(state(&semaphore), (2, 0));
}

#[test]
fn many_permits_are_taken_together_and_returned_together() {
    let semaphore = shared(5);
    let borrowed = ready(&mut semaphore.acquire_many(2)).unwrap();
    let owned = ready(&mut semaphore.clone().acquire_many_owned(3)).unwrap();
    assert_eq!((borrowed.num_permits(), owned.num_permits()), (2, 3));
    assert_eq!(state(&semaphore), (0, 0));
    drop(owned);
    assert_eq!(state(&semaphore), (3, 0));
    drop(borrowed);
    assert_eq!(state(&semaphore), (5, 0));
}

#[test]
fn a_semaphore_can_be_made_in_a_static() {
    static SEMAPHORE: Semaphore = Semaphore::new(1);
    let permit = ready(&mut SEMAPHORE.acquire()).unwrap();
    assert_eq!(SEMAPHORE.try_acquire().unwrap_err(), TryAcquireError::NoPermits);
    drop(permit);
    assert_eq!(state(&SEMAPHORE), (1, 0));
}

#[test]
fn a_permit_knows_its_semaphore() {
    let semaphore = shared(3);
    let borrowed = semaphore.try_acquire().unwrap();
    assert!(std::ptr::eq(borrowed.semaphore(), &*semaphore));
    let owned = semaphore.clone().try_acquire_owned().unwrap();
    assert!(Arc::ptr_eq(owned.semaphore(), &semaphore));
}

#[test]
fn a_permit_outlives_the_borrow_of_another_permit_that_led_to_its_semaphore() {
    let semaphore = Semaphore::new(2);
    let second = {
        let first = semaphore.try_acquire().unwrap();
        first.semaphore().try_acquire().unwrap()
    };
    assert_eq!(semaphore.available_permits(), 1);
    drop(second);
    assert_eq!(state(&semaphore), (2, 0));
}

#[test]
fn try_acquire_takes_what_is_free_and_says_why_it_cannot() {
    let semaphore = shared(3);
    let two = semaphore.try_acquire_many(2).unwrap();
    assert_eq!(semaphore.try_acquire_many(2).unwrap_err(), TryAcquireError::NoPermits);
    assert_eq!(semaphore.clone().try_acquire_many_owned(2).unwrap_err(), TryAcquireError::NoPermits);
    let one = semaphore.clone().try_acquire_owned().unwrap();
    assert_eq!(semaphore.try_acquire().unwrap_err(), TryAcquireError::NoPermits);
    assert_eq!(semaphore.clone().try_acquire_owned().unwrap_err(), TryAcquireError::NoPermits);
    drop((two, one));
    let all = semaphore.clone().try_acquire_many_owned(3).unwrap();
    assert_eq!((all.num_permits(), state(&semaphore)), (3, (0, 0)));
    drop(all);
    semaphore.close();
    assert_eq!(semaphore.try_acquire().unwrap_err(), TryAcquireError::Closed);
    assert_eq!(semaphore.try_acquire_many(9).unwrap_err(), TryAcquireError::Closed);
    assert_eq!(semaphore.clone().try_acquire_owned().unwrap_err(), TryAcquireError::Closed);
    assert_eq!(semaphore.clone().try_acquire_many_owned(2).unwrap_err(), TryAcquireError::Closed);
    assert_eq!(state(&semaphore), (3, 0));
}

#[test]
fn try_acquire_never_barges_though_permits_are_free() {
    let semaphore = shared(3);
    let mut head = Task::waiting(semaphore.acquire_many(5));
    assert_eq!(state(&semaphore), (3, 1));
    assert_eq!(semaphore.try_acquire().unwrap_err(), TryAcquireError::NoPermits);
    assert_eq!(semaphore.try_acquire_many(3).unwrap_err(), TryAcquireError::NoPermits);
    assert_eq!(semaphore.clone().try_acquire_owned().unwrap_err(), TryAcquireError::NoPermits);
    assert_eq!(semaphore.clone().try_acquire_many_owned(2).unwrap_err(), TryAcquireError::NoPermits);
    assert_eq!(state(&semaphore), (3, 1));
    semaphore.add_permits(2);
    assert_eq!(head.ready().unwrap().num_permits(), 5);
}

#[test]
fn acquire_never_barges_though_permits_are_free() {
    let semaphore = Semaphore::new(3);
    let mut head = Task::waiting(semaphore.acquire_many(5));
    let mut small = Task::waiting(semaphore.acquire());
    assert_eq!(state(&semaphore), (3, 2));
    semaphore.add_permits(1);
    assert!(head.is_pending() && small.is_pending());
    semaphore.add_permits(1);
    let permit = head.ready().unwrap();
    assert!(small.is_pending());
    drop(permit);
    assert!(small.ready().is_ok());
}

#[test]
fn a_free_permit_is_taken_without_cloning_the_waker() {
    let semaphore = Semaphore::new(1);
    let waker = Hostile::new().on_clone(|| panic!("cloned")).waker();
    assert!(poll_with(&mut semaphore.acquire(), &waker).is_ready());
}

#[test]
fn forget_keeps_permits_from_coming_back() {
    let semaphore = shared(5);
    semaphore.try_acquire_many(2).unwrap().forget();
    assert_eq!(state(&semaphore), (3, 0));
    semaphore.clone().try_acquire_many_owned(3).unwrap().forget();
    assert_eq!(state(&semaphore), (0, 0));
    assert_eq!(Arc::strong_count(&semaphore), 1, "a forgotten owned permit still lets go of the semaphore");
}

#[test]
fn a_split_permit_returns_its_parts_one_by_one() {
    let semaphore = shared(10);
    let mut borrowed = semaphore.try_acquire_many(5).unwrap();
    let mut owned = semaphore.clone().try_acquire_many_owned(5).unwrap();
    let two = borrowed.split(2).unwrap();
    let four = owned.split(4).unwrap();
    assert_eq!([borrowed.num_permits(), two.num_permits(), owned.num_permits(), four.num_permits()], [3, 2, 1, 4]);
    drop(two);
    assert_eq!(state(&semaphore), (2, 0));
    drop(owned);
    assert_eq!(state(&semaphore), (3, 0));
    drop(four);
    assert_eq!(state(&semaphore), (7, 0));
    drop(borrowed);
    assert_eq!(state(&semaphore), (10, 0));
}

#[test]
fn splitting_off_none_or_all_or_too_many() {
    let semaphore = shared(3);
    let mut borrowed = semaphore.try_acquire_many(1).unwrap();
    let mut owned = semaphore.clone().try_acquire_many_owned(2).unwrap();
    assert!(borrowed.split(2).is_none() && owned.split(3).is_none() && owned.split(usize::MAX).is_none());
    assert_eq!((borrowed.num_permits(), owned.num_permits()), (1, 2));
    let nothing = (borrowed.split(0).unwrap(), owned.split(0).unwrap());
    assert_eq!((nothing.0.num_permits(), nothing.1.num_permits()), (0, 0));
    drop(nothing);
    assert_eq!(state(&semaphore), (0, 0));
    let all = owned.split(2).unwrap();
    assert_eq!((owned.num_permits(), all.num_permits()), (0, 2));
    drop(owned);
    assert_eq!(state(&semaphore), (0, 0));
    drop((all, borrowed));
    assert_eq!(state(&semaphore), (3, 0));
}

#[test]
fn merged_permits_return_together() {
    let semaphore = shared(6);
    let mut borrowed = semaphore.try_acquire().unwrap();
    borrowed.merge(semaphore.try_acquire_many(2).unwrap());
    let mut owned = semaphore.clone().try_acquire_owned().unwrap();
    owned.merge(semaphore.clone().try_acquire_many_owned(2).unwrap());
    assert_eq!((borrowed.num_permits(), owned.num_permits(), state(&semaphore)), (3, 3, (0, 0)));
    assert_eq!(Arc::strong_count(&semaphore), 2, "a merged permit lets go of the semaphore");
    drop(borrowed);
    assert_eq!(state(&semaphore), (3, 0));
    drop(owned);
    assert_eq!(state(&semaphore), (6, 0));
}

#[test]
fn merging_a_permit_of_another_semaphore_panics_and_loses_nothing() {
    let (one, other) = (shared(3), shared(3));
    let mut borrowed = one.try_acquire_many(1).unwrap();
    let stranger = other.try_acquire_many(2).unwrap();
    assert!(panic_of(|| borrowed.merge(stranger)).contains("same semaphore"));
    assert_eq!((borrowed.num_permits(), state(&one), state(&other)), (1, (2, 0), (3, 0)));

    let mut owned = one.clone().try_acquire_many_owned(2).unwrap();
    let stranger = other.clone().try_acquire_many_owned(3).unwrap();
    assert!(panic_of(|| owned.merge(stranger)).contains("same semaphore"));
    assert_eq!((owned.num_permits(), state(&one), state(&other)), (2, (0, 0), (3, 0)));
    drop((borrowed, owned));
    assert_eq!((state(&one), state(&other)), ((3, 0), (3, 0)));
}

#[test]
fn merging_beyond_the_maximum_panics_and_loses_nothing() {
    let semaphore = Semaphore::new(MAX);
    let mut all = semaphore.try_acquire_many(MAX).unwrap();
    semaphore.add_permits(7);
    let more = semaphore.try_acquire_many(7).unwrap();
    assert!(panic_of(|| all.merge(more)).contains("MAX_PERMITS"));
    assert_eq!((all.num_permits(), state(&semaphore)), (MAX, (7, 0)));
    all.forget();
    assert_eq!(state(&semaphore), (7, 0));
}

#[test]
fn returning_a_merged_permit_serves_those_it_suffices_for() {
    let semaphore = Semaphore::new(4);
    let mut permit = semaphore.try_acquire_many(2).unwrap();
    let other = semaphore.try_acquire_many(2).unwrap();
    let mut head = Task::waiting(semaphore.acquire_many(3));
    let mut next = Task::waiting(semaphore.acquire());
    permit.merge(other);
    drop(permit);
    assert_eq!((head.wakes(), next.wakes()), (1, 1));
    assert_eq!((head.ready().unwrap().num_permits(), next.ready().unwrap().num_permits()), (3, 1));
}

// ---------------------------------------------------------------------------------------------------------------------
// Waiting in line
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn the_order_of_service_is_the_order_of_the_first_polls() {
    const WAITERS: usize = 1_000;
    let mut random = StdRng::seed_from_u64(1);
    let semaphore = Semaphore::new(0);
    let log = Arc::new(Log::default());
    let needs: Vec<usize> = (0..WAITERS).map(|_| random.random_range(1..=9)).collect();
    // Made in one order, polled in another, and polled again in yet another, which must not matter.
    let mut futures: Vec<_> = needs.iter().map(|&need| Some(semaphore.acquire_many(need))).collect();
    let mut line: Vec<usize> = (0..WAITERS).collect();
    line.shuffle(&mut random);
    for &index in &line {
        assert!(poll_with(futures[index].as_mut().unwrap(), &log.waker(index)).is_pending());
    }
    for (index, future) in futures.iter_mut().flatten().enumerate() {
        assert!(poll_with(future, &log.waker(index)).is_pending());
    }
    assert_eq!(state(&semaphore), (0, WAITERS));

    let (mut free, mut line) = (0, &line[..]);
    while !line.is_empty() {
        let n = random.random_range(1..40);
        semaphore.add_permits(n);
        free += n;
        let mut served = 0;
        while let Some(&head) = line.get(served).filter(|&&head| needs[head] <= free) {
            free -= needs[head];
            served += 1;
        }
        assert_eq!(log.take(), &line[..served]);
        // Collected in the opposite order, and kept.
        for &index in line[..served].iter().rev() {
            let permit = ready(&mut futures[index].take().unwrap()).unwrap();
            assert_eq!(permit.num_permits(), needs[index]);
            permit.forget();
        }
        line = &line[served..];
        assert_eq!((semaphore.available_permits(), semaphore.waiters()), (free, line.len()));
    }
    assert_eq!(state(&semaphore), (free, 0));
}

#[test]
fn a_granted_waiter_keeps_its_permit_until_it_is_polled() {
    let semaphore = Semaphore::new(1);
    let permit = semaphore.try_acquire().unwrap();
    let mut waiter = Task::waiting(semaphore.acquire());
    drop(permit);
    assert_eq!((waiter.wakes(), state(&semaphore)), (1, (0, 0)));
    assert_eq!(semaphore.try_acquire().unwrap_err(), TryAcquireError::NoPermits);
    let mut late = Task::waiting(semaphore.acquire());
    drop(waiter.ready());
    assert!(late.ready().is_ok());
}

#[test]
fn two_permits_released_go_to_two_waiters() {
    let semaphore = Semaphore::new(2);
    let (one, two) = (semaphore.try_acquire().unwrap(), semaphore.try_acquire().unwrap());
    let mut first = Task::waiting(semaphore.acquire());
    let mut second = Task::waiting(semaphore.acquire());
    drop(one);
    assert_eq!((first.wakes(), second.wakes(), state(&semaphore)), (1, 0, (0, 1)));
    drop(two);
    assert_eq!((first.wakes(), second.wakes(), state(&semaphore)), (1, 1, (0, 0)));
    let permits = (first.ready().unwrap(), second.ready().unwrap());
    assert_eq!(state(&semaphore), (0, 0));
    drop(permits);
    assert_eq!(state(&semaphore), (2, 0));
}

#[test]
fn one_return_of_two_permits_serves_two_waiters() {
    let semaphore = Semaphore::new(2);
    let both = semaphore.try_acquire_many(2).unwrap();
    let mut first = Task::waiting(semaphore.acquire());
    let mut second = Task::waiting(semaphore.acquire());
    let mut third = Task::waiting(semaphore.acquire());
    drop(both);
    assert_eq!((first.wakes(), second.wakes(), third.wakes(), state(&semaphore)), (1, 1, 0, (0, 1)));
    let permits = (first.ready().unwrap(), second.ready().unwrap());
    assert!(third.is_pending());
    drop(permits.1);
    assert!(third.ready().is_ok());
}

#[test]
fn a_large_request_gathers_nothing_before_it_fits() {
    let semaphore = Semaphore::new(0);
    let head = Task::waiting(semaphore.acquire_many(3));
    semaphore.add_permits(1);
    assert_eq!((head.wakes(), state(&semaphore)), (0, (1, 1)));
    semaphore.add_permits(1);
    assert_eq!((head.wakes(), state(&semaphore)), (0, (2, 1)));
    drop(head);
    assert_eq!(state(&semaphore), (2, 0));
    assert!(semaphore.try_acquire_many(2).is_ok(), "a request that leaves half-way gives nothing less than everything");
}

#[test]
fn waiters_counts_those_polled_and_not_yet_granted() {
    let semaphore = Semaphore::new(1);
    assert_eq!(semaphore.waiters(), 0);
    let permit = semaphore.try_acquire().unwrap();
    let futures = [semaphore.acquire(), semaphore.acquire(), semaphore.acquire()];
    assert_eq!(semaphore.waiters(), 0, "a future that was never polled does not wait");
    let mut tasks = futures.map(Task::new);
    for (index, task) in tasks.iter_mut().enumerate() {
        assert!(task.is_pending());
        assert!(task.is_pending(), "polled twice is still one waiter");
        assert_eq!(state(&semaphore), (0, index + 1));
    }
    drop(permit);
    assert_eq!(state(&semaphore), (0, 2), "a granted one waits no more, claimed or not");
    drop(tasks);
    assert_eq!(state(&semaphore), (1, 0));
}

#[test]
fn a_waiter_is_woken_through_its_latest_waker_only() {
    let semaphore = Semaphore::new(0);
    let (old, new) = (Arc::new(Counter::default()), Arc::new(Counter::default()));
    let mut future = semaphore.acquire();
    assert!(poll_with(&mut future, &old.clone().into()).is_pending());
    assert!(poll_with(&mut future, &new.clone().into()).is_pending());
    assert_eq!(Arc::strong_count(&old), 1, "the replaced waker is dropped");
    semaphore.add_permits(1);
    assert_eq!((old.count(), new.count()), (0, 1));
    assert_eq!(Arc::strong_count(&new), 1);
    assert!(ready(&mut future).is_ok());
}

#[test]
fn polling_again_with_the_same_waker_neither_clones_it_nor_loses_the_place() {
    let semaphore = Semaphore::new(0);
    let clones = Arc::new(AtomicUsize::new(0));
    let counted = clones.clone();
    let waker = Hostile::new().on_clone(move || assert!(counted.fetch_add(1, Ordering::Relaxed) < 9)).waker();
    let mut first = semaphore.acquire();
    let mut second = Task::new(semaphore.acquire());
    assert!(poll_with(&mut first, &waker).is_pending() && second.is_pending());
    for _ in 0..10 {
        assert!(poll_with(&mut first, &waker).is_pending());
    }
    assert_eq!(clones.load(Ordering::Relaxed), 1);
    semaphore.add_permits(1);
    assert!(second.is_pending() && ready(&mut first).is_ok());
}

#[test]
fn a_future_that_was_never_polled_has_no_effect() {
    let semaphore = shared(1);
    let (borrowed, owned) = (semaphore.acquire(), semaphore.clone().acquire_many_owned(9));
    assert_eq!(state(&semaphore), (1, 0));
    let permit = semaphore.try_acquire().unwrap();
    let mut waiter = Task::waiting(semaphore.acquire());
    drop(permit);
    drop((borrowed, owned));
    assert_eq!((waiter.wakes(), state(&semaphore)), (1, (0, 0)));
    drop(waiter.ready());
    assert_eq!((state(&semaphore), Arc::strong_count(&semaphore)), ((1, 0), 1));
}

#[test]
fn a_forgotten_future_leaks_its_place_and_those_before_it_are_served() {
    let semaphore = Semaphore::new(0);
    let mut before = Task::waiting(semaphore.acquire());
    let forgotten = Task::waiting(semaphore.acquire_many(2));
    let mut after = Task::waiting(semaphore.acquire());
    std::mem::forget(forgotten);
    semaphore.add_permits(1);
    assert!(before.ready().is_ok());
    assert_eq!(state(&semaphore), (1, 2));
    assert!(after.is_pending());
    // The forgotten one gets what it asked for, and never gives it back.
    semaphore.add_permits(1);
    assert_eq!(state(&semaphore), (0, 1));
    semaphore.add_permits(1);
    assert!(after.ready().is_ok());
    assert_eq!(state(&semaphore), (1, 0));
}

#[test]
fn a_forgotten_owned_future_keeps_the_semaphore_and_nothing_else() {
    let semaphore = shared(0);
    std::mem::forget(Task::waiting(semaphore.clone().acquire_owned()));
    semaphore.close();
    assert_eq!((state(&semaphore), Arc::strong_count(&semaphore)), ((0, 0), 2));
    semaphore.add_permits(1);
    assert_eq!(state(&semaphore), (1, 0));
}

#[test]
fn polling_after_completion_panics_and_changes_nothing() {
    let semaphore = shared(2);
    let mut borrowed = semaphore.acquire();
    let mut owned = semaphore.clone().acquire_owned();
    let permits = (ready(&mut borrowed).unwrap(), ready(&mut owned).unwrap());
    assert!(panic_of(|| poll(&mut borrowed).is_ready()).contains("ready"));
    assert!(panic_of(|| poll(&mut owned).is_ready()).contains("ready"));
    let mut waited = Task::waiting(semaphore.acquire());
    semaphore.add_permits(1);
    drop(waited.ready());
    assert!(panic_of(|| waited.poll().is_ready()).contains("ready"));
    drop((borrowed, owned, waited));
    assert_eq!(state(&semaphore), (1, 0));
    drop(permits);
    assert_eq!(state(&semaphore), (3, 0));
    semaphore.close();
    let mut refused = semaphore.acquire();
    assert!(ready(&mut refused).is_err());
    assert!(panic_of(|| poll(&mut refused).is_ready()).contains("ready"));
}

#[test]
fn a_future_may_move_between_polls() {
    let semaphore = shared(0);
    let mut boxed = Box::new(semaphore.clone().acquire_owned());
    assert!(poll(&mut *boxed).is_pending());
    let mut moved = *boxed;
    let mut next = Task::waiting(semaphore.acquire());
    semaphore.add_permits(1);
    let mut again = std::thread::spawn(move || ready(&mut moved)).join().unwrap().unwrap();
    assert!(next.is_pending());
    assert_eq!(again.split(1).unwrap().num_permits(), 1);
    assert!(next.ready().is_ok());
}

// ---------------------------------------------------------------------------------------------------------------------
// Leaving the line
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn a_queued_waiter_that_is_dropped_is_skipped() {
    for leaver in 0..3 {
        let semaphore = Semaphore::new(0);
        let log = Arc::new(Log::default());
        let mut line: Vec<_> = (0..3).map(|index| logged(&semaphore, 1, &log, index)).collect();
        drop(line.remove(leaver));
        assert_eq!(state(&semaphore), (0, 2));
        semaphore.add_permits(1);
        semaphore.add_permits(1);
        assert_numbers(&log.take(), (0..3).filter(|&index| index != leaver));
        let permits = line.iter_mut().map(|future| ready(future).unwrap()).collect::<Vec<_>>();
        assert_eq!(state(&semaphore), (0, 0));
        drop(permits);
        assert_eq!(state(&semaphore), (2, 0));
    }
}

#[test]
fn a_granted_waiter_that_is_dropped_passes_its_permit_on() {
    let semaphore = Semaphore::new(0);
    let log = Arc::new(Log::default());
    let mut line: VecDeque<_> = (0..4).map(|index| logged(&semaphore, 1, &log, index)).collect();
    semaphore.add_permits(1);
    // From hand to hand, in order.
    for index in 0..4 {
        assert_numbers(&log.take(), [index]);
        drop(line.pop_front());
        assert_eq!(semaphore.waiters(), line.len().saturating_sub(1));
    }
    assert_eq!(state(&semaphore), (1, 0));
}

#[test]
fn a_large_grant_that_is_dropped_serves_as_many_as_it_suffices_for() {
    let semaphore = Semaphore::new(0);
    let log = Arc::new(Log::default());
    let large = logged(&semaphore, 5, &log, 0);
    let small: Vec<_> = (1..=3).map(|index| logged(&semaphore, 2, &log, index)).collect();
    semaphore.add_permits(5);
    assert_numbers(&log.take(), [0]);
    drop(large);
    assert_numbers(&log.take(), [1, 2]);
    assert_eq!(state(&semaphore), (1, 1));
    drop(small);
    assert_eq!(state(&semaphore), (5, 0));
}

#[test]
fn a_head_that_leaves_lets_the_next_have_what_was_too_little_for_it() {
    let semaphore = Semaphore::new(3);
    let head = Task::waiting(semaphore.acquire_many(5));
    let mut next = Task::waiting(semaphore.acquire_many(2));
    let mut third = Task::waiting(semaphore.acquire_many(2));
    drop(head);
    assert_eq!((next.wakes(), third.wakes(), state(&semaphore)), (1, 0, (1, 1)));
    assert_eq!(next.ready().unwrap().num_permits(), 2);
    assert_eq!(third.ready().unwrap().num_permits(), 2);
    assert_eq!(state(&semaphore), (3, 0));
}

#[test]
fn a_head_that_leaves_alone_frees_the_fast_path() {
    let semaphore = Semaphore::new(3);
    drop(Task::waiting(semaphore.acquire_many(5)));
    let permit = semaphore.try_acquire_many(3).unwrap();
    assert_eq!(state(&semaphore), (0, 0));
    drop(permit);
}

#[test]
fn one_that_leaves_from_the_middle_serves_nobody() {
    let semaphore = Semaphore::new(3);
    let head = Task::waiting(semaphore.acquire_many(5));
    let middle = Task::waiting(semaphore.acquire_many(9));
    let last = Task::waiting(semaphore.acquire());
    drop(middle);
    assert_eq!((head.wakes(), last.wakes(), state(&semaphore)), (0, 0, (3, 2)));
    drop(head);
    assert_eq!((last.wakes(), state(&semaphore)), (1, (2, 0)));
}

#[test]
fn a_future_may_be_dropped_after_any_number_of_polls() {
    for polls in 0..4 {
        for granted_after in 0..5 {
            let semaphore = Semaphore::new(0);
            let mut leaver = Task::new(semaphore.acquire_many(2));
            for at in 0..polls {
                if at == granted_after {
                    semaphore.add_permits(2);
                }
                if leaver.poll().is_ready() {
                    break;
                }
            }
            if granted_after >= polls {
                semaphore.add_permits(2);
            }
            drop(leaver);
            assert_eq!(state(&semaphore), (2, 0), "{polls} polls, granted after {granted_after}");
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Requests for nothing
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn a_request_for_no_permits_is_granted_at_once_when_nobody_waits() {
    let semaphore = shared(0);
    let permit = ready(&mut semaphore.acquire_many(0)).unwrap();
    assert_eq!((permit.num_permits(), state(&semaphore)), (0, (0, 0)));
    drop(permit);
    assert_eq!(semaphore.try_acquire_many(0).unwrap().num_permits(), 0);
    assert_eq!(semaphore.clone().try_acquire_many_owned(0).unwrap().num_permits(), 0);
    assert_eq!(ready(&mut semaphore.clone().acquire_many_owned(0)).unwrap().num_permits(), 0);
    assert_eq!(state(&semaphore), (0, 0));
}

#[test]
fn a_request_for_no_permits_waits_its_turn_and_takes_nothing() {
    let semaphore = Semaphore::new(1);
    let mut head = Task::waiting(semaphore.acquire_many(2));
    let mut nothing = Task::waiting(semaphore.acquire_many(0));
    let mut last = Task::waiting(semaphore.acquire_many(1));
    assert_eq!(state(&semaphore), (1, 3));
    semaphore.add_permits(1);
    assert_eq!((head.wakes(), nothing.wakes(), last.wakes()), (1, 1, 0), "nothing is left, and that is enough");
    assert_eq!(state(&semaphore), (0, 1));
    assert_eq!(nothing.ready().unwrap().num_permits(), 0);
    drop(head.ready());
    assert_eq!(last.ready().unwrap().num_permits(), 1);
    assert_eq!(state(&semaphore), (2, 0));
}

#[test]
fn a_request_for_no_permits_is_served_when_the_head_leaves() {
    let semaphore = Semaphore::new(0);
    let head = Task::waiting(semaphore.acquire());
    let mut nothing = Task::waiting(semaphore.acquire_many(0));
    drop(head);
    assert_eq!(nothing.wakes(), 1);
    assert!(nothing.ready().is_ok());
}

#[test]
fn try_acquire_many_of_none_fails_only_when_closed_or_somebody_waits() {
    let semaphore = shared(2);
    let head = Task::waiting(semaphore.acquire_many(3));
    assert_eq!(semaphore.try_acquire_many(0).unwrap_err(), TryAcquireError::NoPermits);
    assert_eq!(semaphore.clone().try_acquire_many_owned(0).unwrap_err(), TryAcquireError::NoPermits);
    drop(head);
    semaphore.reduce_permits(3);
    assert!(semaphore.try_acquire_many(0).is_ok(), "owed permits are nobody waiting");
    assert!(ready(&mut semaphore.acquire_many(0)).is_ok());
    semaphore.close();
    assert_eq!(semaphore.try_acquire_many(0).unwrap_err(), TryAcquireError::Closed);
    assert!(ready(&mut semaphore.acquire_many(0)).is_err());
}

// ---------------------------------------------------------------------------------------------------------------------
// Adding, forgetting, reducing
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn added_permits_serve_the_waiting_and_the_rest_is_free() {
    let semaphore = Semaphore::new(0);
    let mut tasks = [2, 1].map(|n| Task::waiting(semaphore.acquire_many(n)));
    semaphore.add_permits(0);
    assert_eq!(state(&semaphore), (0, 2));
    semaphore.add_permits(5);
    assert_eq!(state(&semaphore), (2, 0));
    let permits = tasks.each_mut().map(|task| task.ready().unwrap());
    drop(permits);
    assert_eq!(state(&semaphore), (5, 0));
}

#[test]
fn forget_permits_takes_at_most_what_is_free() {
    let semaphore = Semaphore::new(5);
    assert_eq!(semaphore.forget_permits(0), 0);
    assert_eq!((semaphore.forget_permits(2), state(&semaphore)), (2, (3, 0)));
    assert_eq!((semaphore.forget_permits(9), state(&semaphore)), (3, (0, 0)));
    assert_eq!((semaphore.forget_permits(usize::MAX), state(&semaphore)), (0, (0, 0)));
    semaphore.add_permits(1);
    assert_eq!(state(&semaphore), (1, 0), "what was forgotten is not owed");
}

#[test]
fn forget_permits_takes_what_is_free_while_a_larger_request_waits() {
    let semaphore = Semaphore::new(3);
    let mut head = Task::waiting(semaphore.acquire_many(5));
    assert_eq!((semaphore.forget_permits(1), state(&semaphore)), (1, (2, 1)));
    assert_eq!((semaphore.forget_permits(5), state(&semaphore)), (2, (0, 1)));
    semaphore.add_permits(4);
    assert!(head.is_pending());
    semaphore.add_permits(1);
    assert_eq!(head.ready().unwrap().num_permits(), 5);
    assert_eq!(state(&semaphore), (5, 0));
}

#[test]
fn reduce_permits_takes_the_free_ones_now_and_the_rest_as_they_come_back() {
    let semaphore = Semaphore::new(5);
    let (two, three) = (semaphore.try_acquire_many(2).unwrap(), semaphore.try_acquire_many(2).unwrap());
    semaphore.reduce_permits(4);
    assert_eq!(state(&semaphore), (0, 0));
    assert_eq!((two.num_permits(), three.num_permits()), (2, 2), "nothing is revoked");
    drop(two);
    assert_eq!(state(&semaphore), (0, 0));
    drop(three);
    assert_eq!(state(&semaphore), (1, 0));
    drop(semaphore.try_acquire());
    assert_eq!(state(&semaphore), (1, 0));
}

#[test]
fn reducing_by_what_is_free_owes_nothing() {
    let semaphore = Semaphore::new(5);
    semaphore.reduce_permits(0);
    assert_eq!(state(&semaphore), (5, 0));
    semaphore.reduce_permits(5);
    assert_eq!(state(&semaphore), (0, 0));
    semaphore.add_permits(1);
    assert_eq!(state(&semaphore), (1, 0));
}

#[test]
fn what_is_owed_is_paid_by_added_permits() {
    let semaphore = Semaphore::new(0);
    semaphore.reduce_permits(3);
    semaphore.add_permits(2);
    assert_eq!(state(&semaphore), (0, 0));
    assert_eq!(semaphore.try_acquire().unwrap_err(), TryAcquireError::NoPermits);
    semaphore.add_permits(2);
    assert_eq!(state(&semaphore), (1, 0));
    assert!(semaphore.try_acquire().is_ok());
}

#[test]
fn what_is_owed_is_paid_before_any_waiter() {
    let semaphore = Semaphore::new(1);
    let permit = semaphore.try_acquire().unwrap();
    let mut waiter = Task::waiting(semaphore.acquire());
    semaphore.reduce_permits(2);
    drop(permit);
    assert_eq!((waiter.wakes(), state(&semaphore)), (0, (0, 1)));
    semaphore.add_permits(1);
    assert_eq!((waiter.wakes(), state(&semaphore)), (0, (0, 1)));
    semaphore.add_permits(1);
    assert_eq!((waiter.wakes(), state(&semaphore)), (1, (0, 0)));
    drop(waiter.ready());
    assert_eq!(state(&semaphore), (1, 0));
}

#[test]
fn one_who_comes_while_permits_are_owed_waits_for_those_after() {
    let semaphore = Semaphore::new(0);
    semaphore.reduce_permits(1);
    let mut waiter = Task::waiting(semaphore.acquire());
    semaphore.add_permits(1);
    assert!(waiter.is_pending());
    semaphore.add_permits(1);
    assert!(waiter.ready().is_ok());
}

#[test]
fn a_return_pays_what_is_owed_and_serves_with_the_rest() {
    let semaphore = Semaphore::new(5);
    let five = semaphore.try_acquire_many(5).unwrap();
    let mut tasks = [1, 1, 1].map(|n| Task::waiting(semaphore.acquire_many(n)));
    semaphore.reduce_permits(3);
    drop(five);
    assert_eq!((tasks.each_ref().map(Task::wakes), state(&semaphore)), ([1, 1, 0], (0, 1)));
    drop(tasks[0].ready());
    assert!(tasks[2].ready().is_ok());
}

#[test]
fn a_granted_waiter_that_is_dropped_pays_what_is_owed() {
    let semaphore = Semaphore::new(0);
    let granted = Task::waiting(semaphore.acquire_many(2));
    let mut next = Task::waiting(semaphore.acquire());
    semaphore.add_permits(2);
    semaphore.reduce_permits(1);
    drop(granted);
    assert_eq!((next.wakes(), state(&semaphore)), (1, (0, 0)));
    drop(next.ready());
    assert_eq!(state(&semaphore), (1, 0));
}

#[test]
fn reducing_takes_free_permits_from_before_the_head_of_the_queue() {
    let semaphore = Semaphore::new(3);
    let mut head = Task::waiting(semaphore.acquire_many(5));
    semaphore.reduce_permits(2);
    assert_eq!(state(&semaphore), (1, 1));
    semaphore.reduce_permits(2);
    assert_eq!(state(&semaphore), (0, 1));
    semaphore.add_permits(5);
    assert_eq!((head.wakes(), state(&semaphore)), (0, (4, 1)));
    semaphore.add_permits(1);
    assert_eq!(head.ready().unwrap().num_permits(), 5);
    assert_eq!(state(&semaphore), (5, 0));
}

#[test]
fn parts_of_a_permit_pay_one_by_one_and_forgotten_ones_never() {
    let semaphore = Semaphore::new(4);
    let mut permit = semaphore.try_acquire_many(4).unwrap();
    semaphore.reduce_permits(2);
    permit.split(1).unwrap().forget();
    drop(permit.split(1));
    assert_eq!((state(&semaphore), semaphore.forget_permits(1)), ((0, 0), 0));
    drop(permit);
    assert_eq!(state(&semaphore), (1, 0));
}

#[test]
fn random_reductions_are_exact() {
    let mut random = StdRng::seed_from_u64(2);
    for _ in 0..200 {
        let semaphore = Semaphore::new(20);
        let (mut total, mut held) = (20, Vec::new());
        for _ in 0..50 {
            match random.random_range(0..4) {
                0 => held.extend(semaphore.try_acquire_many(random.random_range(0..6)).ok()),
                1 if !held.is_empty() => drop(held.swap_remove(random.random_range(0..held.len()))),
                2 => {
                    let n = random.random_range(0..5);
                    semaphore.reduce_permits(n);
                    total -= n as isize;
                }
                _ => {
                    let n = random.random_range(0..5);
                    semaphore.add_permits(n);
                    total += n as isize;
                }
            }
            semaphore.check();
            let out: usize = held.iter().map(SemaphorePermit::num_permits).sum();
            let free = total - out as isize;
            assert_eq!(semaphore.available_permits(), free.max(0) as usize);
        }
        held.clear();
        semaphore.add_permits(total.min(0).unsigned_abs());
        assert_eq!(state(&semaphore), (total.max(0) as usize, 0));
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Limits
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn the_maximum_can_be_held_and_asked_for() {
    let semaphore = shared(MAX);
    assert_eq!(state(&semaphore), (MAX, 0));
    let all = ready(&mut semaphore.acquire_many(MAX)).unwrap();
    assert_eq!(state(&semaphore), (0, 0));
    let mut waiter = Task::waiting(semaphore.clone().acquire_many_owned(MAX));
    drop(all);
    assert_eq!(state(&semaphore), (0, 0));
    assert_eq!(waiter.ready().unwrap().num_permits(), MAX);
    assert_eq!(state(&semaphore), (MAX, 0));
}

#[test]
fn more_than_the_maximum_cannot_be_made() {
    assert!(panic_of(|| Semaphore::new(MAX + 1)).contains("MAX_PERMITS"));
    assert!(panic_of(|| Semaphore::new(usize::MAX)).contains("MAX_PERMITS"));
}

#[test]
fn asking_for_more_than_the_maximum_panics_at_the_call() {
    let semaphore = shared(2);
    for n in [MAX + 1, usize::MAX] {
        assert!(panic_of(|| drop(semaphore.acquire_many(n))).contains("MAX_PERMITS"));
        assert!(panic_of(|| drop(semaphore.clone().acquire_many_owned(n))).contains("MAX_PERMITS"));
        assert!(panic_of(|| drop(semaphore.try_acquire_many(n))).contains("MAX_PERMITS"));
        assert!(panic_of(|| drop(semaphore.clone().try_acquire_many_owned(n))).contains("MAX_PERMITS"));
    }
    semaphore.close();
    assert!(panic_of(|| drop(semaphore.try_acquire_many(MAX + 1))).contains("MAX_PERMITS"), "closed or not");
    assert_eq!((state(&semaphore), Arc::strong_count(&semaphore)), ((2, 0), 1));
}

#[test]
fn adding_beyond_the_maximum_panics_and_changes_nothing() {
    for n in [1, MAX, usize::MAX] {
        let semaphore = Semaphore::new(MAX);
        assert!(panic_of(|| semaphore.add_permits(n)).contains("MAX_PERMITS"));
        // Used at once, before anything has had occasion to repair the state.
        assert_eq!((semaphore.available_permits(), semaphore.waiters(), semaphore.is_closed()), (MAX, 0, false));
        drop(semaphore.try_acquire().unwrap());
        assert!(panic_of(|| semaphore.add_permits(n)).contains("MAX_PERMITS"));
        let mut permit = ready(&mut semaphore.acquire_many(MAX)).unwrap();
        let mut waiter = Task::waiting(semaphore.acquire());
        drop(permit.split(1));
        assert!(waiter.ready().is_ok());
        drop(permit);
        assert_eq!(state(&semaphore), (MAX, 0));
    }
}

#[test]
fn a_failed_addition_leaves_the_waiting_in_line() {
    let semaphore = Semaphore::new(10);
    let mut head = Task::waiting(semaphore.acquire_many(11));
    let mut next = Task::waiting(semaphore.acquire_many(1));
    assert!(panic_of(|| semaphore.add_permits(MAX + 3)).contains("MAX_PERMITS"));
    assert_eq!((semaphore.available_permits(), semaphore.waiters()), (10, 2));
    assert_eq!((head.wakes(), next.wakes(), state(&semaphore)), (0, 0, (10, 2)));
    assert_eq!(semaphore.try_acquire().unwrap_err(), TryAcquireError::NoPermits);
    semaphore.add_permits(1);
    assert_eq!((head.wakes(), next.wakes(), state(&semaphore)), (1, 0, (0, 1)));
    drop(head.ready());
    assert!(next.ready().is_ok());
}

#[test]
fn adding_what_the_waiting_absorb_is_allowed_beyond_the_maximum() {
    let semaphore = Semaphore::new(10);
    let mut head = Task::waiting(semaphore.acquire_many(MAX));
    semaphore.add_permits(MAX);
    assert_eq!(state(&semaphore), (10, 0));
    head.ready().unwrap().forget();

    let semaphore = Semaphore::new(10);
    let mut line = [11, 20].map(|n| Task::waiting(semaphore.acquire_many(n)));
    semaphore.add_permits(MAX + 21);
    assert_eq!(state(&semaphore), (MAX, 0));
    line.iter_mut().for_each(|task| task.ready().unwrap().forget());
}

#[test]
fn adding_what_is_owed_is_allowed_beyond_the_maximum() {
    let semaphore = Semaphore::new(0);
    semaphore.reduce_permits(5);
    assert!(panic_of(|| semaphore.add_permits(MAX + 6)).contains("MAX_PERMITS"));
    semaphore.add_permits(4);
    assert_eq!(state(&semaphore), (0, 0), "the failed addition paid nothing");
    semaphore.add_permits(MAX + 1);
    assert_eq!(state(&semaphore), (MAX, 0));
}

#[test]
fn a_permit_that_comes_back_to_a_full_semaphore_panics_and_is_lost() {
    let semaphore = Semaphore::new(1);
    let permit = semaphore.try_acquire().unwrap();
    semaphore.add_permits(MAX);
    assert!(panic_of(|| drop(permit)).contains("MAX_PERMITS"));
    assert_eq!(semaphore.available_permits(), MAX);
    assert!(semaphore.try_acquire_many(MAX).is_ok());
    assert_eq!(state(&semaphore), (MAX, 0));
}

#[test]
fn a_permit_that_comes_back_to_a_full_semaphore_while_the_thread_unwinds_does_not_abort() {
    let name = "a_permit_that_comes_back_to_a_full_semaphore_while_the_thread_unwinds_does_not_abort";
    common::survives(name, || {
        let semaphore = Semaphore::new(1);
        let message = panic_of(|| {
            let _permit = semaphore.try_acquire().unwrap();
            semaphore.add_permits(MAX);
            panic!("the first");
        });
        assert_eq!((message.as_str(), state(&semaphore)), ("the first", (MAX, 0)));
    });
}

#[test]
fn owing_beyond_the_maximum_panics_and_changes_nothing() {
    let semaphore = Semaphore::new(3);
    semaphore.reduce_permits(usize::MAX);
    assert_eq!(state(&semaphore), (0, 0));
    semaphore.reduce_permits(3);
    assert!(panic_of(|| semaphore.reduce_permits(1)).contains("owes"));
    assert!(panic_of(|| semaphore.reduce_permits(usize::MAX)).contains("owes"));
    semaphore.add_permits(2);
    semaphore.reduce_permits(2);
    assert!(panic_of(|| semaphore.reduce_permits(1)).contains("owes"), "the debt is what it was");
    let mut waiter = Task::waiting(semaphore.acquire());
    semaphore.add_permits(usize::MAX);
    assert!(waiter.is_pending());
    semaphore.add_permits(1);
    assert!(waiter.ready().is_ok());
    assert_eq!(state(&semaphore), (1, 0));
}

// ---------------------------------------------------------------------------------------------------------------------
// Closing
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn close_wakes_all_who_wait_and_they_fail() {
    let semaphore = Semaphore::new(1);
    let mut tasks: Vec<_> = (0..MANY).map(|index| Task::waiting(semaphore.acquire_many(index + 2))).collect();
    assert_eq!(state(&semaphore), (1, MANY));
    assert!(!semaphore.is_closed());
    semaphore.close();
    assert!(semaphore.is_closed());
    assert_eq!(state(&semaphore), (1, 0));
    for task in &mut tasks {
        assert_eq!(task.wakes(), 1);
        assert!(task.ready().is_err());
    }
    assert_eq!(state(&semaphore), (1, 0));
}

#[test]
fn close_wakes_in_order() {
    let semaphore = Semaphore::new(0);
    let log = Arc::new(Log::default());
    let line: Vec<_> = (0..MANY).map(|index| logged(&semaphore, 1, &log, index)).collect();
    semaphore.close();
    assert_numbers(&log.take(), 0..MANY);
    semaphore.close();
    drop(line);
    assert!(log.take().is_empty());
    assert_eq!(state(&semaphore), (0, 0));
}

#[test]
fn whoever_comes_after_the_close_fails_at_once_though_permits_are_free() {
    let semaphore = shared(3);
    let mut early = semaphore.acquire();
    semaphore.close();
    assert!(ready(&mut early).is_err(), "made before, first polled after");
    assert!(ready(&mut semaphore.acquire()).is_err());
    assert!(ready(&mut semaphore.acquire_many(0)).is_err());
    assert!(ready(&mut semaphore.clone().acquire_owned()).is_err());
    assert!(ready(&mut semaphore.clone().acquire_many_owned(3)).is_err());
    assert_eq!(state(&semaphore), (3, 0));
    semaphore.close();
    assert_eq!((semaphore.is_closed(), state(&semaphore)), (true, (3, 0)));
}

#[test]
fn a_waiter_granted_before_the_close_gets_its_permit() {
    let semaphore = Semaphore::new(0);
    let mut granted = Task::waiting(semaphore.acquire_many(2));
    let mut waiting = Task::waiting(semaphore.acquire());
    semaphore.add_permits(2);
    semaphore.close();
    assert_eq!((granted.wakes(), waiting.wakes()), (1, 1));
    assert!(waiting.ready().is_err());
    assert_eq!(granted.ready().unwrap().num_permits(), 2);
    assert_eq!(state(&semaphore), (2, 0));
}

#[test]
fn a_waiter_granted_before_the_close_and_dropped_returns_its_permit_to_nobody() {
    let semaphore = Semaphore::new(0);
    let granted = Task::waiting(semaphore.acquire_many(2));
    let mut waiting = Task::waiting(semaphore.acquire());
    semaphore.add_permits(2);
    semaphore.close();
    drop(granted);
    assert_eq!(state(&semaphore), (2, 0));
    assert!(waiting.ready().is_err());
    assert_eq!(semaphore.try_acquire().unwrap_err(), TryAcquireError::Closed);
}

#[test]
fn one_turned_away_may_be_dropped_without_a_poll() {
    let semaphore = Semaphore::new(0);
    let tasks: Vec<_> = (0..MANY).map(|_| Task::waiting(semaphore.acquire())).collect();
    semaphore.close();
    drop(tasks);
    assert_eq!(state(&semaphore), (0, 0));
}

#[test]
fn permits_come_back_to_a_closed_semaphore() {
    let semaphore = shared(3);
    let mut borrowed = semaphore.try_acquire_many(2).unwrap();
    let owned = semaphore.clone().try_acquire_owned().unwrap();
    semaphore.close();
    drop(borrowed.split(1));
    assert_eq!(state(&semaphore), (1, 0));
    drop(owned);
    assert_eq!(state(&semaphore), (2, 0));
    borrowed.forget();
    assert_eq!((state(&semaphore), semaphore.is_closed()), ((2, 0), true));
}

#[test]
fn a_closed_semaphore_can_be_added_to_forgotten_from_and_reduced() {
    let semaphore = Semaphore::new(2);
    let permit = semaphore.try_acquire().unwrap();
    semaphore.close();
    semaphore.add_permits(4);
    assert_eq!(state(&semaphore), (5, 0));
    assert_eq!((semaphore.forget_permits(2), state(&semaphore)), (2, (3, 0)));
    semaphore.reduce_permits(4);
    assert_eq!(state(&semaphore), (0, 0));
    drop(permit);
    assert_eq!(state(&semaphore), (0, 0), "it paid");
    semaphore.add_permits(1);
    assert_eq!(state(&semaphore), (1, 0));
    assert!(panic_of(|| semaphore.add_permits(MAX)).contains("MAX_PERMITS"));
    assert!(panic_of(|| (0..2).for_each(|_| semaphore.reduce_permits(usize::MAX))).contains("owes"));
    assert_eq!((semaphore.is_closed(), semaphore.available_permits()), (true, 0));
    assert_eq!(semaphore.try_acquire().unwrap_err(), TryAcquireError::Closed);
    assert!(ready(&mut semaphore.acquire()).is_err());
}

#[test]
fn close_with_permits_owed_turns_away_and_keeps_the_debt() {
    let semaphore = Semaphore::new(0);
    semaphore.reduce_permits(2);
    let mut waiter = Task::waiting(semaphore.acquire());
    semaphore.close();
    assert!(waiter.ready().is_err());
    assert_eq!(semaphore.try_acquire().unwrap_err(), TryAcquireError::Closed);
    semaphore.add_permits(3);
    assert_eq!(state(&semaphore), (1, 0));
}

// ---------------------------------------------------------------------------------------------------------------------
// More waiters than a batch of wakers holds
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn any_number_of_waiters_is_woken_once_each_and_in_order() {
    for waiters in [1, 2, 3, 4, 5, 7, 8, 9, 12, 13, MANY] {
        let semaphore = Semaphore::new(0);
        let log = Arc::new(Log::default());
        let mut line: Vec<_> = (0..waiters).map(|index| logged(&semaphore, 1, &log, index)).collect();
        semaphore.add_permits(waiters);
        assert_numbers(&log.take(), 0..waiters);
        assert_eq!(state(&semaphore), (0, 0));
        let permits: Vec<_> = line.iter_mut().map(|future| ready(future).unwrap()).collect();
        drop(permits);
        assert!(log.take().is_empty());
        assert_eq!(state(&semaphore), (waiters, 0));
    }
}

#[test]
fn one_permit_of_many_serves_many_when_returned() {
    let semaphore = Semaphore::new(MANY);
    let permit = semaphore.try_acquire_many(MANY).unwrap();
    let log = Arc::new(Log::default());
    let line: Vec<_> = (0..MANY + 1).map(|index| logged(&semaphore, 1, &log, index)).collect();
    drop(permit);
    assert_numbers(&log.take(), 0..MANY);
    drop(line);
    assert_eq!(state(&semaphore), (MANY, 0));
}

#[test]
fn a_head_that_leaves_may_serve_many() {
    let semaphore = Semaphore::new(MANY);
    let log = Arc::new(Log::default());
    let head = logged(&semaphore, MANY + 1, &log, 0);
    let line: Vec<_> = (1..=MANY + 1).map(|index| logged(&semaphore, 1, &log, index)).collect();
    drop(head);
    assert_numbers(&log.take(), 1..=MANY);
    drop(line);
    assert_eq!(state(&semaphore), (MANY, 0));
}

/// Makes `waiters` wait, of whom the first does `act` with the rest when it is woken, and adds that many permits.
///
/// Returns what is left, and who was woken. The waiters are granted all at once, but not woken all at once.
fn at_the_first_wake(
    waiters: usize,
    extra: usize,
    act: impl Fn(&Arc<Semaphore>, &Slots) + Send + Sync + 'static,
) -> (Arc<Semaphore>, Slots, Vec<usize>) {
    let semaphore = shared(0);
    let slots = Slots::default();
    let log = Arc::new(Log::default());
    let (semaphore_of_first, slots_of_first, log_of_first) = (semaphore.clone(), slots.clone(), log.clone());
    let first = Hostile::new().on_wake(move || {
        log_of_first.push(0);
        assert_eq!(state(&semaphore_of_first), (0, extra));
        act(&semaphore_of_first, &slots_of_first);
        semaphore_of_first.check();
    });
    let first = first.waker();
    for index in 0..waiters + extra {
        let mut future = semaphore.clone().acquire_owned();
        let waker = if index == 0 { first.clone() } else { log.waker(index) };
        assert!(poll_with(&mut future, &waker).is_pending());
        slots.lock().unwrap().push(Some(future));
    }
    semaphore.add_permits(waiters);
    let woken = log.take();
    (semaphore, slots, woken)
}

fn take(slots: &Slots, index: usize) -> AcquireOwned {
    slots.lock().unwrap()[index].take().unwrap()
}

#[test]
fn a_granted_waiter_that_is_polled_before_it_is_woken_gets_its_permit() {
    let (semaphore, slots, woken) = at_the_first_wake(10, 1, |_, slots| {
        for index in [9, 4, 5] {
            ready(&mut take(slots, index)).unwrap().forget();
        }
    });
    assert_numbers(&woken, [0, 1, 2, 3, 6, 7, 8]);
    assert_eq!(state(&semaphore), (0, 1));
    for index in [0, 1, 2, 3, 6, 7, 8] {
        ready(&mut take(&slots, index)).unwrap().forget();
    }
    assert!(poll(&mut take(&slots, 10)).is_pending());
    assert_eq!(state(&semaphore), (0, 0));
}

#[test]
fn a_granted_waiter_that_is_dropped_before_it_is_woken_passes_its_permit_on() {
    let (semaphore, slots, woken) = at_the_first_wake(10, 3, |semaphore, slots| {
        drop(take(slots, 9));
        assert_eq!(state(semaphore), (0, 2));
        drop(take(slots, 5));
        assert_eq!(state(semaphore), (0, 1));
        drop(take(slots, 1));
        assert_eq!(state(semaphore), (0, 0));
    });
    // The second's waker was in the first batch already; the other two are never woken, and their heirs are.
    let mut sorted = woken;
    sorted.sort_unstable();
    assert_numbers(&sorted, [0, 1, 2, 3, 4, 6, 7, 8, 10, 11, 12]);
    for index in [0, 2, 3, 4, 6, 7, 8, 10, 11, 12] {
        ready(&mut take(&slots, index)).unwrap().forget();
    }
    assert_eq!(state(&semaphore), (0, 0));
}

#[test]
fn a_granted_waiter_that_is_polled_with_another_waker_before_it_is_woken_gets_its_permit() {
    let (semaphore, _slots, woken) = at_the_first_wake(6, 0, |semaphore, slots| {
        let semaphore = semaphore.clone();
        let waker = Hostile::new().on_clone(|| panic!("there is no need")).on_drop(move || call_everything(&semaphore));
        let mut future = take(slots, 5);
        assert!(poll_with(&mut future, &waker.waker()).is_ready());
    });
    assert_numbers(&woken, 0..5);
    assert_eq!(semaphore.available_permits(), 1);
}

#[test]
fn everybody_else_may_leave_while_the_first_is_woken() {
    let (semaphore, _slots, woken) = at_the_first_wake(MANY, MANY, |_, slots| {
        for index in (0..2 * MANY).rev() {
            drop(take(slots, index));
        }
    });
    assert_eq!(woken.iter().filter(|&&index| index < MANY).count(), 4, "only those whose wakers were on their way");
    assert_eq!(state(&semaphore), (MANY, 0));
}

#[test]
fn more_permits_may_be_added_while_the_first_is_woken() {
    let (semaphore, slots, mut woken) = at_the_first_wake(10, 10, |semaphore, _| semaphore.add_permits(10));
    woken.sort_unstable();
    assert_numbers(&woken, 0..20);
    for index in 0..20 {
        ready(&mut take(&slots, index)).unwrap().forget();
    }
    assert_eq!(state(&semaphore), (0, 0));
}

#[test]
fn the_semaphore_may_be_closed_while_the_first_is_woken() {
    let (semaphore, slots, mut woken) = at_the_first_wake(10, 10, |semaphore, _| semaphore.close());
    woken.sort_unstable();
    assert_numbers(&woken, 0..20);
    for index in 0..20 {
        let outcome = ready(&mut take(&slots, index)).map(OwnedSemaphorePermit::forget);
        assert_eq!(outcome.is_ok(), index < 10, "granted before the close, or not");
    }
    assert_eq!(state(&semaphore), (0, 0));
}

#[test]
fn one_turned_away_may_be_polled_or_dropped_before_it_is_woken() {
    let semaphore = shared(0);
    let slots = Slots::default();
    let log = Arc::new(Log::default());
    let waker = {
        let (semaphore, slots) = (semaphore.clone(), slots.clone());
        Hostile::new().on_wake(move || {
            assert!(ready(&mut take(&slots, 7)).is_err());
            drop(take(&slots, 8));
            drop(take(&slots, 1));
            call_everything(&semaphore);
            semaphore.close();
        })
    };
    let waker = waker.waker();
    for index in 0..10 {
        let mut future = semaphore.clone().acquire_owned();
        assert!(poll_with(&mut future, &if index == 0 { waker.clone() } else { log.waker(index) }).is_pending());
        slots.lock().unwrap().push(Some(future));
    }
    semaphore.close();
    let mut woken = log.take();
    woken.sort_unstable();
    assert_numbers(&woken, [1, 2, 3, 4, 5, 6, 9]);
    assert_eq!(state(&semaphore), (0, 0));
}

// ---------------------------------------------------------------------------------------------------------------------
// Wakers that re-enter
// ---------------------------------------------------------------------------------------------------------------------

/// Makes one wait whose waker calls everything, for `end` to end its wait; returns how often it was woken.
fn wakes_of_one_who_calls_everything(permits: usize, need: usize, end: impl FnOnce(&Arc<Semaphore>)) -> usize {
    let semaphore = shared(permits);
    let wakes = Arc::new(AtomicUsize::new(0));
    let waker = {
        let (semaphore, wakes) = (semaphore.clone(), wakes.clone());
        Hostile::new().on_wake(move || {
            call_everything(&semaphore);
            wakes.fetch_add(1, Ordering::Relaxed);
        })
    };
    let mut future = semaphore.clone().acquire_many_owned(need);
    assert!(poll_with(&mut future, &waker.waker()).is_pending());
    end(&semaphore);
    semaphore.check();
    drop(future);
    assert_eq!(semaphore.waiters(), 0);
    wakes.load(Ordering::Relaxed)
}

#[test]
fn a_waker_may_call_everything_from_wherever_it_is_woken() {
    assert_eq!(wakes_of_one_who_calls_everything(0, 1, |semaphore| semaphore.add_permits(2)), 1);
    assert_eq!(wakes_of_one_who_calls_everything(0, 1, |semaphore| semaphore.close()), 1);
    let by_return = |semaphore: &Arc<Semaphore>| {
        semaphore.add_permits(1);
        let permit = semaphore.try_acquire();
        assert!(permit.is_err(), "the waiter has it");
    };
    assert_eq!(wakes_of_one_who_calls_everything(0, 1, by_return), 1);
}

#[test]
fn a_waker_may_call_everything_when_a_permit_comes_back() {
    let semaphore = shared(1);
    let permit = semaphore.try_acquire().unwrap();
    let owner = semaphore.clone();
    let waker = Hostile::new().on_wake(move || call_everything(&owner)).waker();
    let mut future = semaphore.acquire();
    assert!(poll_with(&mut future, &waker).is_pending());
    drop(permit);
    assert!(ready(&mut future).is_ok());
    assert_eq!(state(&semaphore), (1, 0));
}

#[test]
fn a_waker_may_call_everything_when_the_one_before_it_leaves() {
    let semaphore = shared(1);
    let head = Task::waiting(semaphore.acquire_many(2));
    let owner = semaphore.clone();
    let waker = Hostile::new().on_wake(move || call_everything(&owner)).waker();
    let mut future = semaphore.acquire();
    assert!(poll_with(&mut future, &waker).is_pending());
    drop(head);
    assert!(ready(&mut future).is_ok());
    assert_eq!(state(&semaphore), (1, 0));
}

#[test]
fn a_waker_may_collect_or_drop_the_very_future_that_it_wakes() {
    for collect in [true, false] {
        let semaphore = shared(0);
        let slots = Slots::default();
        for _ in 0..MANY {
            let slots_of_waker = slots.clone();
            let owner = semaphore.clone();
            let waker = Hostile::new().on_wake(move || {
                let mut future = take(&slots_of_waker, 0);
                slots_of_waker.lock().unwrap().remove(0);
                if collect {
                    drop(ready(&mut future).unwrap());
                }
                drop(future);
                owner.check();
            });
            let mut future = semaphore.clone().acquire_owned();
            assert!(poll_with(&mut future, &waker.waker()).is_pending());
            slots.lock().unwrap().push(Some(future));
        }
        // Each wakes the next from within its own wake.
        semaphore.add_permits(1);
        assert!(slots.lock().unwrap().is_empty());
        assert_eq!(state(&semaphore), (1, 0));
        assert_eq!(Arc::strong_count(&semaphore), 1);
    }
}

#[test]
fn a_waker_may_queue_up_again() {
    let semaphore = shared(0);
    let again: Slots = Arc::default();
    let waker = {
        let (semaphore, again) = (semaphore.clone(), again.clone());
        Hostile::new().on_wake(move || {
            let mut future = semaphore.clone().acquire_owned();
            assert!(poll(&mut future).is_pending());
            again.lock().unwrap().push(Some(future));
        })
    };
    let mut first = semaphore.acquire();
    assert!(poll_with(&mut first, &waker.waker()).is_pending());
    let mut second = Task::waiting(semaphore.acquire());
    semaphore.add_permits(1);
    assert_eq!(state(&semaphore), (0, 2));
    semaphore.add_permits(1);
    assert_eq!((second.wakes(), state(&semaphore)), (1, (0, 1)), "those who waited already are before it");
    ready(&mut first).unwrap().forget();
    second.ready().unwrap().forget();
    semaphore.add_permits(1);
    assert!(ready(&mut take(&again, 0)).is_ok());
}

#[test]
fn a_replaced_waker_may_call_everything_when_it_is_dropped() {
    let semaphore = shared(0);
    let drops = Arc::new(AtomicUsize::new(0));
    let old = {
        let (semaphore, drops) = (semaphore.clone(), drops.clone());
        Hostile::new().on_drop(move || {
            call_everything(&semaphore);
            drops.fetch_add(1, Ordering::Relaxed);
        })
    };
    let mut task = Task::new(semaphore.acquire());
    let old = old.waker();
    assert!(poll_with(task.future_mut(), &old).is_pending());
    drop(old);
    assert_eq!(drops.load(Ordering::Relaxed), 1);
    assert!(task.is_pending());
    assert_eq!(drops.load(Ordering::Relaxed), 2, "the one that the queue held was replaced and dropped");
    assert_eq!(state(&semaphore), (0, 1));
    semaphore.add_permits(1);
    assert_eq!(task.wakes(), 1);
    assert!(task.ready().is_ok());
}

#[test]
fn a_replaced_waker_may_grant_the_very_waiter_it_was_replaced_in() {
    let semaphore = shared(0);
    let owner = semaphore.clone();
    let armed = Arc::new(AtomicUsize::new(0));
    let trigger = armed.clone();
    let old = Hostile::new().on_drop(move || owner.add_permits(trigger.swap(0, Ordering::Relaxed))).waker();
    let mut task = Task::new(semaphore.acquire());
    assert!(poll_with(task.future_mut(), &old).is_pending());
    armed.store(1, Ordering::Relaxed);
    // Pending or ready are both right; but not pending without a wake.
    let ready_at_once = task.poll().is_ready();
    assert!(ready_at_once || task.wakes() == 1);
    drop(old);
    drop(task);
    assert_eq!(state(&semaphore), (1, 0));
}

#[test]
fn the_waker_of_one_who_leaves_may_call_everything_when_it_is_dropped() {
    let semaphore = shared(0);
    let drops = Arc::new(AtomicUsize::new(0));
    let waker = {
        let (semaphore, drops) = (semaphore.clone(), drops.clone());
        Hostile::new().on_drop(move || {
            call_everything(&semaphore);
            drops.fetch_add(1, Ordering::Relaxed);
        })
    };
    let waker = waker.waker();
    let mut future = semaphore.acquire();
    assert!(poll_with(&mut future, &waker).is_pending());
    drop(future);
    assert_eq!((drops.load(Ordering::Relaxed), state(&semaphore)), (1, (0, 0)));
}

#[test]
fn a_waker_may_call_everything_when_it_is_cloned() {
    let semaphore = shared(0);
    let clones = Arc::new(AtomicUsize::new(0));
    let make = || {
        let (semaphore, clones) = (semaphore.clone(), clones.clone());
        let waker = Hostile::new().on_clone(move || {
            call_everything(&semaphore);
            clones.fetch_add(1, Ordering::Relaxed);
        });
        waker.waker()
    };
    let mut future = semaphore.acquire();
    assert!(poll_with(&mut future, &make()).is_pending());
    assert!(poll_with(&mut future, &make()).is_pending());
    assert_eq!((clones.load(Ordering::Relaxed), state(&semaphore)), (2, (0, 1)));
    semaphore.add_permits(1);
    assert!(ready(&mut future).is_ok());
}

#[test]
fn a_waker_may_grant_what_is_waited_for_while_it_is_cloned() {
    let semaphore = shared(0);
    let grant = || {
        let semaphore = semaphore.clone();
        Hostile::new().on_clone(move || semaphore.add_permits(1)).waker()
    };
    let permit = match poll_with(&mut semaphore.acquire(), &grant()) {
        Poll::Ready(outcome) => outcome.unwrap(),
        Poll::Pending => panic!("the permit was there before the queue was joined"),
    };
    let mut task = Task::waiting(semaphore.acquire());
    let permit_again = match poll_with(task.future_mut(), &grant()) {
        Poll::Ready(outcome) => outcome.unwrap(),
        Poll::Pending => panic!("the grant was there before the waker was stored"),
    };
    assert_eq!((task.wakes(), state(&semaphore)), (1, (0, 0)));
    drop((permit, permit_again));
    assert_eq!(state(&semaphore), (2, 0));
}

#[test]
fn a_waker_may_close_while_it_is_cloned() {
    for waiting_already in [false, true] {
        let semaphore = shared(0);
        let owner = semaphore.clone();
        let waker = Hostile::new().on_clone(move || owner.close()).waker();
        let mut future = semaphore.acquire();
        assert!(!waiting_already || poll(&mut future).is_pending());
        assert!(matches!(poll_with(&mut future, &waker), Poll::Ready(Err(_))));
        assert_eq!(state(&semaphore), (0, 0));
    }
}

/// One is granted beyond the first batch while its new waker is being cloned: the clone is not needed after all, and
/// what is dropped then, old or new, must not be dropped under the lock.
#[test]
fn a_spare_waker_is_not_dropped_under_the_lock() {
    const WAITERS: usize = 6;
    let semaphore = shared(0);
    let (start, started) = mpsc::channel();
    let (in_the_wake, wait_for_the_wake) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let may_go_on = StdMutex::new(may_go_on);
    // The first waker holds up the one who adds, when all are granted and the last two not yet woken.
    let first = Hostile::new().on_wake(move || {
        in_the_wake.send(()).unwrap();
        may_go_on.lock().unwrap().recv().unwrap();
    });
    let first = first.waker();
    let mut line: Vec<_> = (0..WAITERS).map(|_| semaphore.acquire()).collect();
    let drops = Arc::new(AtomicUsize::new(0));
    let spare = |on_clone: Box<dyn Fn() + Send + Sync>| {
        let (semaphore, drops) = (semaphore.clone(), drops.clone());
        let waker = Hostile::new().on_clone(on_clone).on_drop(move || {
            assert!(!is_locked_inside(&semaphore), "dropped under the lock");
            drops.fetch_add(1, Ordering::Relaxed);
        });
        waker.waker()
    };
    let old = spare(Box::new(|| ()));
    for (index, future) in line.iter_mut().enumerate() {
        assert!(poll_with(future, if index == 0 { &first } else { &old }).is_pending());
    }
    let wait_for_the_wake = StdMutex::new(wait_for_the_wake);
    let new = spare(Box::new(move || {
        start.send(()).unwrap();
        wait_for_the_wake.lock().unwrap().recv().unwrap();
    }));
    std::thread::scope(|scope| {
        let semaphore = &semaphore;
        scope.spawn(move || {
            started.recv().unwrap();
            semaphore.add_permits(WAITERS);
        });
        let outcome = catch_unwind(AssertUnwindSafe(|| poll_with(&mut line[WAITERS - 1], &new).is_ready()));
        go_on.send(()).unwrap();
        assert!(outcome.expect("foreign code ran under the lock"), "it was granted while the waker was cloned");
    });
    assert_eq!(drops.load(Ordering::Relaxed), 2, "the old waker and the new one");
    drop(line);
    assert_eq!(state(&semaphore), (WAITERS, 0));
}

#[test]
fn waking_may_drop_the_last_handle_but_that_of_the_permit() {
    for waiters in [1, 3, MANY] {
        let semaphore = shared(MANY);
        let weak = Arc::downgrade(&semaphore);
        let permit = semaphore.clone().try_acquire_many_owned(MANY).unwrap();
        let slots = Slots::default();
        for _ in 0..waiters {
            let slots_of_waker = slots.clone();
            let waker = Hostile::new().on_wake(move || {
                let all = std::mem::take(&mut *slots_of_waker.lock().unwrap());
                drop(all);
            });
            let mut future = semaphore.clone().acquire_owned();
            assert!(poll_with(&mut future, &waker.waker()).is_pending());
            slots.lock().unwrap().push(Some(future));
        }
        drop(semaphore);
        drop(permit);
        assert!(slots.lock().unwrap().is_empty());
        assert!(weak.upgrade().is_none(), "nothing keeps the semaphore");
    }
}

#[test]
fn waking_may_drop_the_last_handle_but_that_of_the_future_that_leaves() {
    for waiters in [1, 3, MANY] {
        let semaphore = shared(MANY);
        let weak = Arc::downgrade(&semaphore);
        let head = Task::waiting(semaphore.clone().acquire_many_owned(MANY + 1));
        let slots = Slots::default();
        for _ in 0..waiters {
            let slots_of_waker = slots.clone();
            let waker = Hostile::new().on_wake(move || {
                let all = std::mem::take(&mut *slots_of_waker.lock().unwrap());
                drop(all);
            });
            let mut future = semaphore.clone().acquire_owned();
            assert!(poll_with(&mut future, &waker.waker()).is_pending());
            slots.lock().unwrap().push(Some(future));
        }
        drop(semaphore);
        drop(head);
        assert!(slots.lock().unwrap().is_empty());
        assert!(weak.upgrade().is_none(), "nothing keeps the semaphore");
    }
}

#[test]
fn a_dropped_semaphore_drops_the_wakers_of_those_forgotten() {
    let counter = Arc::new(Counter::default());
    let semaphore = Semaphore::new(0);
    let mut future = semaphore.acquire();
    assert!(poll_with(&mut future, &counter.clone().into()).is_pending());
    std::mem::forget(future);
    assert_eq!(Arc::strong_count(&counter), 2);
    drop(semaphore);
    assert_eq!((Arc::strong_count(&counter), counter.count()), (1, 0));
}

// ---------------------------------------------------------------------------------------------------------------------
// Wakers that panic
// ---------------------------------------------------------------------------------------------------------------------

fn panics_when_cloned() -> Waker {
    Hostile::new().on_clone(|| panic!("the clone")).waker()
}

fn panics_when_woken(message: &'static str) -> Waker {
    Hostile::new().on_wake(move || panic!("{message}")).waker()
}

#[test]
fn a_waker_that_panics_when_cloned_at_the_first_poll_loses_nothing() {
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
fn a_waker_that_panics_when_cloned_at_a_later_poll_loses_nothing() {
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
fn a_waker_that_grants_and_panics_when_cloned_loses_nothing() {
    let semaphore = shared(0);
    let owner = semaphore.clone();
    let waker = Hostile::new().on_clone(move || {
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

#[test]
fn a_single_waker_that_panics_leaves_its_waiter_granted() {
    let semaphore = Semaphore::new(1);
    let permit = semaphore.try_acquire().unwrap();
    let mut future = semaphore.acquire();
    assert!(poll_with(&mut future, &panics_when_woken("the wake")).is_pending());
    assert_eq!(panic_of(|| drop(permit)), "the wake");
    assert_eq!(state(&semaphore), (0, 0));
    drop(ready(&mut future).unwrap());
    assert_eq!(state(&semaphore), (1, 0));
}

#[test]
fn the_others_are_woken_though_some_wakers_panic_and_the_first_panic_goes_on() {
    for panicking in [vec![0], vec![2], vec![3], vec![4], vec![2, 7], vec![0, 1, 2, 3, 4], (0..10).collect()] {
        for closing in [false, true] {
            let semaphore = Semaphore::new(0);
            let log = Arc::new(Log::default());
            let mut line: Vec<_> = (0..10).map(|_| semaphore.acquire()).collect();
            for (index, future) in line.iter_mut().enumerate() {
                let panics = panicking.contains(&index);
                let waker = if panics { log.panicking_waker(index) } else { log.waker(index) };
                assert!(poll_with(future, &waker).is_pending());
            }
            let message = panic_of(|| if closing { semaphore.close() } else { semaphore.add_permits(10) });
            assert_eq!(message, format!("waker {}", panicking[0]));
            assert_numbers(&log.take(), 0..10);
            assert_eq!(state(&semaphore), (0, 0));
            for mut future in line {
                assert_eq!(ready(&mut future).map(SemaphorePermit::forget).is_ok(), !closing);
            }
            assert_eq!(state(&semaphore), (0, 0));
        }
    }
}

#[test]
fn the_others_are_woken_though_a_waker_panics_when_a_future_leaves() {
    let semaphore = Semaphore::new(9);
    let log = Arc::new(Log::default());
    let head = Task::waiting(semaphore.acquire_many(10));
    let mut bad = semaphore.acquire();
    assert!(poll_with(&mut bad, &panics_when_woken("the wake")).is_pending());
    let line: Vec<_> = (0..8).map(|index| logged(&semaphore, 1, &log, index)).collect();
    assert_eq!(panic_of(|| drop(head)), "the wake");
    assert_numbers(&log.take(), 0..8);
    drop((bad, line));
    assert_eq!(state(&semaphore), (9, 0));
}

/// Returns permits while unwinding, to `waiters` whose wakers all panic.
fn return_while_unwinding(waiters: usize) {
    let semaphore = Semaphore::new(waiters);
    let mut line: Vec<_> = (0..waiters).map(|_| semaphore.acquire()).collect();
    let message = panic_of(|| {
        let _permit = semaphore.try_acquire_many(waiters).unwrap();
        for future in &mut line {
            assert!(poll_with(future, &panics_when_woken("the wake")).is_pending());
        }
        panic!("the first");
    });
    assert_eq!(message, "the first");
    for future in &mut line {
        ready(future).unwrap().forget();
    }
    assert_eq!(state(&semaphore), (0, 0));
}

#[test]
fn one_waker_that_panics_while_the_thread_unwinds_does_not_abort() {
    common::survives("one_waker_that_panics_while_the_thread_unwinds_does_not_abort", || return_while_unwinding(1));
}

#[test]
fn many_wakers_that_panic_while_the_thread_unwinds_do_not_abort() {
    common::survives("many_wakers_that_panic_while_the_thread_unwinds_do_not_abort", || return_while_unwinding(10));
}

#[test]
fn a_waker_that_panics_while_a_future_leaves_in_an_unwinding_does_not_abort() {
    common::survives("a_waker_that_panics_while_a_future_leaves_in_an_unwinding_does_not_abort", || {
        let semaphore = Semaphore::new(1);
        let mut next = semaphore.acquire();
        let message = panic_of(|| {
            let _head = Task::waiting(semaphore.acquire_many(2));
            assert!(poll_with(&mut next, &panics_when_woken("the wake")).is_pending());
            panic!("the first");
        });
        assert_eq!(message, "the first");
        drop(ready(&mut next).unwrap());
        assert_eq!(state(&semaphore), (1, 0));
    });
}

#[test]
fn a_replaced_waker_that_panics_when_dropped_loses_nothing() {
    let semaphore = Semaphore::new(0);
    let armed = Arc::new(AtomicUsize::new(0));
    let trigger = armed.clone();
    let old = Hostile::new().on_drop(move || assert_eq!(trigger.swap(0, Ordering::Relaxed), 0, "the drop")).waker();
    let mut task = Task::new(semaphore.acquire());
    assert!(poll_with(task.future_mut(), &old).is_pending());
    armed.store(1, Ordering::Relaxed);
    assert!(panic_of(|| task.poll().is_ready()).contains("the drop"));
    drop(old);
    assert_eq!(state(&semaphore), (0, 1));
    semaphore.add_permits(1);
    assert_eq!(task.wakes(), 1, "the new waker was stored");
    drop(task.ready().unwrap());
    assert_eq!(state(&semaphore), (1, 0));
}

#[test]
fn the_waker_of_one_who_leaves_that_panics_when_dropped_loses_nothing() {
    let semaphore = Semaphore::new(1);
    let armed = Arc::new(AtomicUsize::new(0));
    let trigger = armed.clone();
    let waker = Hostile::new().on_drop(move || assert_eq!(trigger.swap(0, Ordering::Relaxed), 0, "the drop")).waker();
    let mut head = semaphore.acquire_many(2);
    assert!(poll_with(&mut head, &waker).is_pending());
    let mut next = Task::waiting(semaphore.acquire());
    armed.store(1, Ordering::Relaxed);
    assert!(panic_of(|| drop(head)).contains("the drop"));
    assert_eq!(next.wakes(), 1);
    drop(next.ready().unwrap());
    assert_eq!(state(&semaphore), (1, 0));
}

/// A grant that is collected by a poll must survive that poll: the waker that is not needed any more panics when it is
/// dropped, and the permit must not be lost with it, nor the process.
#[test]
fn a_waker_that_panics_when_dropped_at_the_collecting_poll_loses_no_permit() {
    common::survives("a_waker_that_panics_when_dropped_at_the_collecting_poll_loses_no_permit", || {
        let semaphore = shared(0);
        let armed = Arc::new(AtomicUsize::new(0));
        let (trigger, owner) = (armed.clone(), semaphore.clone());
        // Cloning it grants, so the clone is not needed; dropping the clone panics.
        let waker = Hostile::new().on_clone(move || owner.add_permits(1));
        let waker = waker.on_drop(move || assert_eq!(trigger.swap(0, Ordering::Relaxed), 0, "the drop")).waker();
        let mut task = Task::waiting(semaphore.acquire());
        armed.store(1, Ordering::Relaxed);
        assert!(panic_of(|| poll_with(task.future_mut(), &waker).is_ready()).contains("the drop"));
        drop(task);
        assert_eq!(state(&semaphore), (1, 0));
    });
}

/// As above, at the first poll.
#[test]
fn a_waker_that_panics_when_dropped_at_a_first_poll_that_succeeds_loses_no_permit() {
    let semaphore = shared(0);
    let armed = Arc::new(AtomicUsize::new(0));
    let (trigger, owner) = (armed.clone(), semaphore.clone());
    let waker = Hostile::new().on_clone(move || owner.add_permits(1));
    let waker = waker.on_drop(move || assert_eq!(trigger.swap(0, Ordering::Relaxed), 0, "the drop")).waker();
    let mut future = semaphore.acquire();
    armed.store(1, Ordering::Relaxed);
    assert!(panic_of(|| poll_with(&mut future, &waker).is_ready()).contains("the drop"));
    drop(future);
    assert_eq!(state(&semaphore), (1, 0));
}

// ---------------------------------------------------------------------------------------------------------------------
// What it shows of itself
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn debug_shows_the_state_of_a_semaphore() {
    let semaphore = Semaphore::new(3);
    assert_eq!(format!("{semaphore:?}"), "Semaphore { available_permits: 3, closed: false, waiters: 0 }");
    let task = Task::waiting(semaphore.acquire_many(4));
    assert_eq!(format!("{semaphore:?}"), "Semaphore { available_permits: 3, closed: false, waiters: 1 }");
    semaphore.close();
    assert_eq!(format!("{semaphore:?}"), "Semaphore { available_permits: 3, closed: true, waiters: 0 }");
    drop(task);
}

#[test]
fn debug_names_futures_and_permits() {
    let semaphore = shared(5);
    assert!(format!("{:?}", semaphore.acquire_many(3)).starts_with("Acquire"));
    assert!(format!("{:?}", semaphore.clone().acquire_owned()).starts_with("AcquireOwned"));
    let borrowed = format!("{:?}", semaphore.try_acquire_many(2).unwrap());
    assert!(borrowed.starts_with("SemaphorePermit") && borrowed.contains('2'), "{borrowed}");
    let owned = format!("{:?}", semaphore.try_acquire_many_owned(4).unwrap());
    assert!(owned.starts_with("OwnedSemaphorePermit") && owned.contains('4'), "{owned}");
}

#[test]
fn everything_can_be_shown_from_within_a_waker() {
    let semaphore = shared(0);
    let shown = Arc::new(StdMutex::new(String::new()));
    let slots = Slots::default();
    let waker = {
        let (semaphore, shown, slots) = (semaphore.clone(), shown.clone(), slots.clone());
        let waker = Hostile::new().on_wake(move || {
            *shown.lock().unwrap() = format!("{semaphore:?} {slots:?}");
        });
        waker.waker()
    };
    for _ in 0..2 {
        let mut future = semaphore.clone().acquire_owned();
        assert!(poll_with(&mut future, &waker).is_pending());
        slots.lock().unwrap().push(Some(future));
    }
    semaphore.add_permits(1);
    let shown = shown.lock().unwrap().clone();
    assert!(shown.contains("waiters: 1") && shown.contains("AcquireOwned"), "{shown}");
}

#[test]
fn errors_say_what_happened() {
    fn is_error<E: std::error::Error + Clone + Copy + PartialEq + Eq + Send + Sync + 'static>(error: E) -> String {
        assert!(error.source().is_none());
        assert_eq!(error, Clone::clone(&error));
        error.to_string()
    }
    let semaphore = Semaphore::new(0);
    assert_ne!(TryAcquireError::Closed, TryAcquireError::NoPermits);
    assert!(is_error(semaphore.try_acquire().unwrap_err()).contains("permits"));
    semaphore.close();
    assert!(is_error(semaphore.try_acquire().unwrap_err()).contains("closed"));
    let error = ready(&mut semaphore.acquire()).unwrap_err();
    assert!(is_error(error).contains("closed"));
    assert!(format!("{error:?}").contains("AcquireError"));
}

#[test]
fn the_others_are_woken_though_the_payload_of_a_panic_panics_when_it_is_dropped() {
    /// What a waker panics with.
    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("the payload");
        }
    }

    let semaphore = Semaphore::new(0);
    let bad = Hostile::new().on_wake(|| std::panic::panic_any(Bomb)).waker();
    let mut hostile = [semaphore.acquire(), semaphore.acquire()];
    for acquire in &mut hostile {
        assert!(poll_with(acquire, &bad).is_pending());
    }
    let mut good: Vec<_> = (0..18).map(|_| Task::waiting(semaphore.acquire())).collect();
    let payload = catch_unwind(AssertUnwindSafe(|| semaphore.add_permits(20))).unwrap_err();
    assert!(payload.is::<Bomb>());
    std::mem::forget(payload);
    assert!(good.iter().all(|task| task.wakes() == 1));
    for task in &mut good {
        task.ready().unwrap().forget();
    }
    drop(hostile);
    assert_eq!(state(&semaphore), (2, 0));
}

/// A waker that panics in its drop, but only in the drop that `armed` waits for.
fn panics_when_dropped(armed: &Arc<AtomicUsize>) -> Waker {
    let armed = armed.clone();
    Hostile::new().on_drop(move || assert_eq!(armed.swap(0, Ordering::Relaxed), 0, "the drop")).waker()
}

#[test]
fn a_waker_that_panics_when_a_leaver_drops_it_and_one_that_panics_when_woken_do_not_abort() {
    common::survives("a_waker_that_panics_when_a_leaver_drops_it_and_one_that_panics_when_woken_do_not_abort", || {
        let semaphore = Semaphore::new(1);
        let armed = Arc::new(AtomicUsize::new(0));
        let dropped = panics_when_dropped(&armed);
        let mut head = semaphore.acquire_many(2);
        let mut next = semaphore.acquire();
        assert!(poll_with(&mut head, &dropped).is_pending());
        assert!(poll_with(&mut next, &panics_when_woken("the wake")).is_pending());
        armed.store(1, Ordering::Relaxed);
        assert!(panic_of(|| drop(head)).contains("the drop"));
        drop(ready(&mut next).unwrap());
        assert_eq!(state(&semaphore), (1, 0));
    });
}

#[test]
fn a_waker_that_panics_when_a_leaver_drops_it_in_an_unwinding_does_not_abort() {
    common::survives("a_waker_that_panics_when_a_leaver_drops_it_in_an_unwinding_does_not_abort", || {
        let semaphore = Semaphore::new(0);
        let armed = Arc::new(AtomicUsize::new(0));
        let dropped = panics_when_dropped(&armed);
        let message = panic_of(|| {
            let mut acquire = semaphore.acquire();
            assert!(poll_with(&mut acquire, &dropped).is_pending());
            armed.store(1, Ordering::Relaxed);
            panic!("the first");
        });
        assert_eq!(message, "the first");
        assert_eq!(state(&semaphore), (0, 0));
    });
}

/// What a semaphore is shown to is foreign code: it finds the lock free.
#[test]
fn a_semaphore_may_be_used_by_what_it_is_shown_to() {
    struct Looks<'a>(&'a Semaphore, usize);
    impl std::fmt::Write for Looks<'_> {
        fn write_str(&mut self, _: &str) -> std::fmt::Result {
            self.1 += self.0.waiters();
            Ok(())
        }
    }
    let semaphore = Semaphore::new(0);
    let mut waits = Box::pin(semaphore.acquire());
    assert!(common::poll(&mut waits).is_pending());
    let mut looks = Looks(&semaphore, 0);
    std::fmt::Write::write_fmt(&mut looks, format_args!("{semaphore:?}")).unwrap();
    assert!(looks.1 > 0);
}

#[test]
fn the_waker_of_an_acquire_that_need_not_wait_after_all_is_dropped_without_the_lock() {
    let semaphore = Arc::new(Semaphore::new(0));
    let (giver, looker) = (semaphore.clone(), semaphore.clone());
    let drops = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let counts = drops.clone();
    let waker = Hostile::new().on_clone(move || giver.add_permits(1)).on_drop(move || {
        counts[usize::from(is_locked_inside(&looker))].fetch_add(1, Ordering::Relaxed);
    });
    assert!(poll_with(&mut semaphore.acquire(), &waker.waker()).is_ready());
    assert_eq!(drops.each_ref().map(|count| count.load(Ordering::Relaxed)), [2, 0], "the clone and its original");
}

#[test]
fn two_wakers_that_panic_when_dropped_at_the_collecting_poll_do_not_abort() {
    common::survives("two_wakers_that_panic_when_dropped_at_the_collecting_poll_do_not_abort", || {
        let semaphore = shared(0);
        let giver = semaphore.clone();
        let outcome = common::poll_with_two_wakers(|| semaphore.clone().acquire_owned(), move || giver.add_permits(21));
        assert!(outcome.is_err());
        assert_eq!(state(&semaphore), (21, 0), "no permit is lost");
    });
}

#[test]
fn a_permit_that_does_not_fit_and_a_waker_that_panics_when_its_holder_leaves_do_not_abort() {
    common::survives("a_permit_that_does_not_fit_and_a_waker_that_panics_when_its_holder_leaves_do_not_abort", || {
        let semaphore = shared(0);
        let armed = Arc::new(AtomicUsize::new(0));
        let last = Arc::new(StdMutex::new(None::<AcquireOwned>));
        let (filled, taken, arms) = (semaphore.clone(), last.clone(), armed.clone());
        // More than are woken at once: the last one leaves with its waker.
        let first = Hostile::new().on_wake(move || {
            filled.add_permits(MAX);
            arms.store(1, Ordering::Relaxed);
            let leaves = taken.lock().unwrap().take();
            assert!(panic_of(|| drop(leaves)).contains("MAX_PERMITS"));
            assert_eq!(arms.load(Ordering::Relaxed), 0, "its waker was dropped");
        });
        let mut futures: Vec<_> = (0..20).map(|_| semaphore.clone().acquire_owned()).collect();
        assert!(poll_with(&mut futures[0], &first.waker()).is_pending());
        assert!(futures[1..19].iter_mut().all(|future| poll(future).is_pending()));
        assert!(poll_with(&mut futures[19], &panics_when_dropped(&armed)).is_pending());
        *last.lock().unwrap() = futures.pop();
        semaphore.add_permits(20);
        assert!(last.lock().unwrap().is_none());
        semaphore.forget_permits(19);
        futures.iter_mut().for_each(|future| drop(ready(future).unwrap()));
        assert_eq!(state(&semaphore), (MAX, 0));
    });
}

/// A panic hook is foreign code.
#[test]
fn a_panic_hook_may_call_everything() {
    common::survives("a_panic_hook_may_call_everything", || {
        let full = shared(MAX);
        let owing = shared(0);
        owing.reduce_permits(usize::MAX);
        let calls = Arc::new(AtomicUsize::new(0));
        let (semaphores, counts) = ([full.clone(), owing.clone()], calls.clone());
        std::panic::set_hook(Box::new(move |_| {
            semaphores.iter().for_each(call_everything);
            counts.fetch_add(1, Ordering::Relaxed);
        }));
        assert!(panic_of(|| full.add_permits(1)).contains("MAX_PERMITS"));
        assert!(panic_of(|| owing.reduce_permits(1)).contains("usize::MAX"));
        drop(std::panic::take_hook());
        assert_eq!(calls.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn a_payload_that_panics_when_dropped_does_not_abort_an_unwinding() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("the payload");
        }
    }
    common::survives("a_payload_that_panics_when_dropped_does_not_abort_an_unwinding", || {
        let semaphore = Semaphore::new(1);
        let permit = semaphore.try_acquire().unwrap();
        let mut waits = semaphore.acquire();
        let waker = Hostile::new().on_wake(|| std::panic::panic_any(Bomb)).waker();
        assert!(poll_with(&mut waits, &waker).is_pending());
        let message = panic_of(|| {
            let _permit = permit;
            panic!("the first");
        });
        assert_eq!(message, "the first");
        assert!(ready(&mut waits).is_ok());
    });
}
