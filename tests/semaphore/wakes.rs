//! More waiters than one batch of wakers holds, and what may happen while the first of them is woken.

use std::sync::Arc;

use stanchion::{OwnedSemaphorePermit, Semaphore};

use crate::common::hooks::Hooks;
use crate::common::{Check, Log, assert_numbers, poll, poll_with, ready, state};
use crate::{MANY, Slots, call_everything, enqueue, logged, shared, take};

#[test]
fn any_number_of_waiters_is_woken_once_each_and_in_order() {
    for waiters in [1, 2, 3, 4, 5, 7, 8, 9, 12, 13, MANY] {
        let semaphore = Semaphore::new(0);
        let log = Arc::new(Log::default());
        let mut queue: Vec<_> = (0..waiters).map(|index| logged(&semaphore, 1, &log, index)).collect();
        semaphore.add_permits(waiters);
        assert_numbers(&log.take(), 0..waiters);
        assert_eq!(state(&semaphore), (0, 0));
        let permits: Vec<_> = queue.iter_mut().map(|future| ready(future).unwrap()).collect();
        drop(permits);
        assert!(log.take().is_empty());
        assert_eq!(state(&semaphore), (waiters, 0));
    }
}

#[test]
fn returning_one_large_permit_wakes_many() {
    let semaphore = Semaphore::new(MANY);
    let permit = semaphore.try_acquire_many(MANY).unwrap();
    let log = Arc::new(Log::default());
    let queue: Vec<_> = (0..MANY + 1).map(|index| logged(&semaphore, 1, &log, index)).collect();
    drop(permit);
    assert_numbers(&log.take(), 0..MANY);
    drop(queue);
    assert_eq!(state(&semaphore), (MANY, 0));
}

#[test]
fn a_cancelled_head_may_wake_many() {
    let semaphore = Semaphore::new(MANY);
    let log = Arc::new(Log::default());
    let head = logged(&semaphore, MANY + 1, &log, 0);
    let queue: Vec<_> = (1..=MANY + 1).map(|index| logged(&semaphore, 1, &log, index)).collect();
    drop(head);
    assert_numbers(&log.take(), 1..=MANY);
    drop(queue);
    assert_eq!(state(&semaphore), (MANY, 0));
}

/// Enqueues `granted + queued` waiters, the first of which calls `act` when it is woken, and adds `granted` permits.
///
/// All of them are granted at once, but not woken at once. Returns the futures that `act` did not take, and the woken
/// waiters in order.
fn at_the_first_wake(
    granted: usize,
    queued: usize,
    act: impl Fn(&Arc<Semaphore>, &Slots) + Send + Sync + 'static,
) -> (Arc<Semaphore>, Slots, Vec<usize>) {
    let (semaphore, slots, log) = (shared(0), Slots::default(), Arc::new(Log::default()));
    let (owner, futures, first) = (semaphore.clone(), slots.clone(), log.clone());
    let first = Hooks::new().on_wake(move || {
        first.push(0);
        assert_eq!(state(&owner), (0, queued));
        act(&owner, &futures);
        owner.check();
    });
    enqueue(&semaphore, &slots, &first.waker());
    (1..granted + queued).for_each(|index| enqueue(&semaphore, &slots, &log.waker(index)));
    semaphore.add_permits(granted);
    let woken = log.take();
    (semaphore, slots, woken)
}

#[test]
fn a_granted_waiter_may_collect_before_it_is_woken() {
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
fn a_grant_may_be_cancelled_before_its_waiter_is_woken() {
    let (semaphore, slots, woken) = at_the_first_wake(10, 3, |semaphore, slots| {
        drop(take(slots, 9));
        assert_eq!(state(semaphore), (0, 2));
        drop(take(slots, 5));
        assert_eq!(state(semaphore), (0, 1));
        drop(take(slots, 1));
        assert_eq!(state(semaphore), (0, 0));
    });
    // The waker of waiter 1 was in the first batch already. The other two are never woken, but the next waiters are.
    let mut sorted = woken;
    sorted.sort_unstable();
    assert_numbers(&sorted, [0, 1, 2, 3, 4, 6, 7, 8, 10, 11, 12]);
    for index in [0, 2, 3, 4, 6, 7, 8, 10, 11, 12] {
        ready(&mut take(&slots, index)).unwrap().forget();
    }
    assert_eq!(state(&semaphore), (0, 0));
}

#[test]
fn a_granted_waiter_may_collect_with_another_waker() {
    let (semaphore, _slots, woken) = at_the_first_wake(6, 0, |semaphore, slots| {
        let semaphore = semaphore.clone();
        let waker = Hooks::new().on_clone(|| panic!("a needless clone")).on_drop(move || call_everything(&semaphore));
        let mut future = take(slots, 5);
        assert!(poll_with(&mut future, &waker.waker()).is_ready());
    });
    assert_numbers(&woken, 0..5);
    assert_eq!(semaphore.available_permits(), 1);
}

#[test]
fn all_others_may_be_cancelled_while_the_first_is_woken() {
    let (semaphore, _slots, woken) = at_the_first_wake(MANY, MANY, |_, slots| {
        for index in (0..2 * MANY).rev() {
            drop(take(slots, index));
        }
    });
    assert_eq!(woken.iter().filter(|&&index| index < MANY).count(), 4, "only those in the first batch of wakers");
    assert_eq!(state(&semaphore), (MANY, 0));
}

#[test]
fn permits_may_be_added_while_the_first_is_woken() {
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
fn a_revoked_waiter_may_be_polled_or_dropped_before_its_wake() {
    let semaphore = shared(0);
    let slots = Slots::default();
    let log = Arc::new(Log::default());
    let waker = {
        let (semaphore, slots) = (semaphore.clone(), slots.clone());
        Hooks::new().on_wake(move || {
            assert!(ready(&mut take(&slots, 7)).is_err());
            drop(take(&slots, 8));
            drop(take(&slots, 1));
            call_everything(&semaphore);
            semaphore.close();
        })
    };
    enqueue(&semaphore, &slots, &waker.waker());
    (1..10).for_each(|index| enqueue(&semaphore, &slots, &log.waker(index)));
    semaphore.close();
    let mut woken = log.take();
    woken.sort_unstable();
    assert_numbers(&woken, [1, 2, 3, 4, 5, 6, 9]);
    assert_eq!(state(&semaphore), (0, 0));
}
