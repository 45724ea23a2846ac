//! Closing: which waiters fail, and what still works afterwards.

use std::sync::Arc;

use stanchion::{Semaphore, TryAcquireError};

use crate::common::{Log, Task, assert_numbers, panic_of, ready, state};
use crate::{MANY, MAX, logged, shared};

#[test]
fn close_wakes_all_waiters_and_they_fail() {
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
fn close_wakes_once_and_in_order() {
    let semaphore = Semaphore::new(0);
    let log = Arc::new(Log::default());
    let queue: Vec<_> = (0..MANY).map(|index| logged(&semaphore, 1, &log, index)).collect();
    semaphore.close();
    assert_numbers(&log.take(), 0..MANY);
    semaphore.close();
    drop(queue);
    assert!(log.take().is_empty());
    assert_eq!(state(&semaphore), (0, 0));
}

#[test]
fn acquiring_after_close_fails_although_permits_are_free() {
    let semaphore = shared(3);
    let mut early = semaphore.acquire();
    semaphore.close();
    assert!(ready(&mut early).is_err(), "created before, first polled after");
    assert!(ready(&mut semaphore.acquire()).is_err());
    assert!(ready(&mut semaphore.acquire_many(0)).is_err());
    assert!(ready(&mut semaphore.clone().acquire_owned()).is_err());
    assert!(ready(&mut semaphore.clone().acquire_many_owned(3)).is_err());
    assert_eq!(state(&semaphore), (3, 0));
    semaphore.close();
    assert_eq!((semaphore.is_closed(), state(&semaphore)), (true, (3, 0)));
}

#[test]
fn a_waiter_granted_before_close_gets_its_permit() {
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
fn a_grant_from_before_close_is_returned_if_cancelled() {
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
fn a_revoked_waiter_may_be_dropped_without_a_poll() {
    let semaphore = Semaphore::new(0);
    let tasks: Vec<_> = (0..MANY).map(|_| Task::waiting(semaphore.acquire())).collect();
    semaphore.close();
    drop(tasks);
    assert_eq!(state(&semaphore), (0, 0));
}

#[test]
fn permits_are_returned_to_a_closed_semaphore() {
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
fn the_permits_of_a_closed_semaphore_can_be_adjusted() {
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
fn close_during_a_debt_revokes_waiters_and_keeps_the_debt() {
    let semaphore = Semaphore::new(0);
    semaphore.reduce_permits(2);
    let mut waiter = Task::waiting(semaphore.acquire());
    semaphore.close();
    assert!(waiter.ready().is_err());
    assert_eq!(semaphore.try_acquire().unwrap_err(), TryAcquireError::Closed);
    semaphore.add_permits(3);
    assert_eq!(state(&semaphore), (1, 0));
}
