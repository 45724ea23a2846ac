//! Futures that are dropped: queued, granted, or never polled.

use std::collections::VecDeque;
use std::sync::Arc;

use stanchion::Semaphore;

use crate::common::{Log, Task, assert_numbers, ready, state};
use crate::logged;

#[test]
fn a_cancelled_waiter_is_skipped() {
    for cancelled in 0..3 {
        let semaphore = Semaphore::new(0);
        let log = Arc::new(Log::default());
        let mut queue: Vec<_> = (0..3).map(|index| logged(&semaphore, 1, &log, index)).collect();
        drop(queue.remove(cancelled));
        assert_eq!(state(&semaphore), (0, 2));
        semaphore.add_permits(1);
        semaphore.add_permits(1);
        assert_numbers(&log.take(), (0..3).filter(|&index| index != cancelled));
        let permits = queue.iter_mut().map(|future| ready(future).unwrap()).collect::<Vec<_>>();
        assert_eq!(state(&semaphore), (0, 0));
        drop(permits);
        assert_eq!(state(&semaphore), (2, 0));
    }
}

#[test]
fn a_cancelled_grant_goes_to_the_next_waiter() {
    let semaphore = Semaphore::new(0);
    let log = Arc::new(Log::default());
    let mut queue: VecDeque<_> = (0..4).map(|index| logged(&semaphore, 1, &log, index)).collect();
    semaphore.add_permits(1);
    // Each cancelled grant goes to the next waiter.
    for index in 0..4 {
        assert_numbers(&log.take(), [index]);
        drop(queue.pop_front());
        assert_eq!(semaphore.waiters(), queue.len().saturating_sub(1));
    }
    assert_eq!(state(&semaphore), (1, 0));
}

#[test]
fn a_cancelled_large_grant_goes_to_all_that_fit() {
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
fn a_cancelled_head_leaves_the_free_permits_to_the_next() {
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
fn a_cancelled_sole_waiter_frees_the_fast_path() {
    let semaphore = Semaphore::new(3);
    drop(Task::waiting(semaphore.acquire_many(5)));
    let permit = semaphore.try_acquire_many(3).unwrap();
    assert_eq!(state(&semaphore), (0, 0));
    drop(permit);
}

#[test]
fn a_waiter_cancelled_in_the_middle_grants_nothing() {
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
            let mut cancelled = Task::new(semaphore.acquire_many(2));
            for at in 0..polls {
                if at == granted_after {
                    semaphore.add_permits(2);
                }
                if cancelled.poll().is_ready() {
                    break;
                }
            }
            if granted_after >= polls {
                semaphore.add_permits(2);
            }
            drop(cancelled);
            assert_eq!(state(&semaphore), (2, 0), "{polls} polls, granted after {granted_after}");
        }
    }
}
