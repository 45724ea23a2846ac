//! Waiting for permits: order, wakes, and futures that are polled again, moved or leaked.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use stanchion::{Semaphore, TryAcquireError};

use crate::common::hooks::Hooks;
use crate::common::{Counter, Log, Task, panic_of, poll, poll_with, ready, state};
use crate::shared;

#[test]
fn permits_are_granted_in_order_of_first_poll() {
    const WAITERS: usize = 1_000;
    let mut random = StdRng::seed_from_u64(1);
    let semaphore = Semaphore::new(0);
    let log = Arc::new(Log::default());
    let needs: Vec<usize> = (0..WAITERS).map(|_| random.random_range(1..=9)).collect();
    // Created in one order, polled in another, and polled again in a third, which must not matter.
    let mut futures: Vec<_> = needs.iter().map(|&need| Some(semaphore.acquire_many(need))).collect();
    let mut order: Vec<usize> = (0..WAITERS).collect();
    order.shuffle(&mut random);
    for &index in &order {
        assert!(poll_with(futures[index].as_mut().unwrap(), &log.waker(index)).is_pending());
    }
    for (index, future) in futures.iter_mut().flatten().enumerate() {
        assert!(poll_with(future, &log.waker(index)).is_pending());
    }
    assert_eq!(state(&semaphore), (0, WAITERS));

    let (mut free, mut order) = (0, &order[..]);
    while !order.is_empty() {
        let n = random.random_range(1..40);
        semaphore.add_permits(n);
        free += n;
        let mut served = 0;
        while let Some(&head) = order.get(served).filter(|&&head| needs[head] <= free) {
            free -= needs[head];
            served += 1;
        }
        assert_eq!(log.take(), &order[..served]);
        // Collected in the opposite order, and kept.
        for &index in order[..served].iter().rev() {
            let permit = ready(&mut futures[index].take().unwrap()).unwrap();
            assert_eq!(permit.num_permits(), needs[index]);
            permit.forget();
        }
        order = &order[served..];
        assert_eq!((semaphore.available_permits(), semaphore.waiters()), (free, order.len()));
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
fn two_returned_permits_are_granted_to_two_waiters() {
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
fn one_return_of_two_permits_grants_two_waiters() {
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
fn a_large_request_holds_nothing_before_it_fits() {
    let semaphore = Semaphore::new(0);
    let head = Task::waiting(semaphore.acquire_many(3));
    semaphore.add_permits(1);
    assert_eq!((head.wakes(), state(&semaphore)), (0, (1, 1)));
    semaphore.add_permits(1);
    assert_eq!((head.wakes(), state(&semaphore)), (0, (2, 1)));
    drop(head);
    assert_eq!(state(&semaphore), (2, 0));
    assert!(semaphore.try_acquire_many(2).is_ok(), "a cancelled request has taken nothing");
}

#[test]
fn waiters_counts_futures_polled_and_not_yet_granted() {
    let semaphore = Semaphore::new(1);
    assert_eq!(semaphore.waiters(), 0);
    let permit = semaphore.try_acquire().unwrap();
    let futures = [semaphore.acquire(), semaphore.acquire(), semaphore.acquire()];
    assert_eq!(semaphore.waiters(), 0, "a future that was never polled is no waiter");
    let mut tasks = futures.map(Task::new);
    for (index, task) in tasks.iter_mut().enumerate() {
        assert!(task.is_pending());
        assert!(task.is_pending(), "polled twice is still one waiter");
        assert_eq!(state(&semaphore), (0, index + 1));
    }
    drop(permit);
    assert_eq!(state(&semaphore), (0, 2), "a granted waiter is no longer counted, collected or not");
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
fn a_second_poll_keeps_the_place_and_clones_no_waker() {
    let semaphore = Semaphore::new(0);
    let clones = Arc::new(AtomicUsize::new(0));
    let counted = clones.clone();
    let waker = Hooks::new().on_clone(move || assert!(counted.fetch_add(1, Ordering::Relaxed) < 9)).waker();
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
fn a_leaked_future_keeps_its_place_and_what_it_is_granted() {
    let semaphore = Semaphore::new(0);
    let mut before = Task::waiting(semaphore.acquire());
    let forgotten = Task::waiting(semaphore.acquire_many(2));
    let mut after = Task::waiting(semaphore.acquire());
    std::mem::forget(forgotten);
    semaphore.add_permits(1);
    assert!(before.ready().is_ok());
    assert_eq!(state(&semaphore), (1, 2));
    assert!(after.is_pending());
    // The leaked future is granted its permits, and never returns them.
    semaphore.add_permits(1);
    assert_eq!(state(&semaphore), (0, 1));
    semaphore.add_permits(1);
    assert!(after.ready().is_ok());
    assert_eq!(state(&semaphore), (1, 0));
}

#[test]
fn a_leaked_owned_future_leaks_only_the_semaphore() {
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
