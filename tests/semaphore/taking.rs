//! Acquiring and returning permits: at once when they are free, never ahead of a waiter.

use std::sync::Arc;

use stanchion::{Semaphore, TryAcquireError};

use crate::common::hooks::Hooks;
use crate::common::{Task, poll_with, ready, state};
use crate::{refuses, shared};

#[test]
fn a_free_permit_is_acquired_at_once_and_returned_on_drop() {
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
fn many_permits_are_acquired_and_returned_together() {
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
fn a_permit_may_come_from_the_semaphore_of_another_permit() {
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
fn try_acquire_takes_free_permits_or_says_why_not() {
    let semaphore = shared(3);
    let two = semaphore.try_acquire_many(2).unwrap();
    refuses(&semaphore, 2, TryAcquireError::NoPermits);
    let one = semaphore.clone().try_acquire_owned().unwrap();
    refuses(&semaphore, 1, TryAcquireError::NoPermits);
    drop((two, one));
    let all = semaphore.clone().try_acquire_many_owned(3).unwrap();
    assert_eq!((all.num_permits(), state(&semaphore)), (3, (0, 0)));
    drop(all);
    semaphore.close();
    for n in [1, 2, 9] {
        refuses(&semaphore, n, TryAcquireError::Closed);
    }
    assert_eq!(state(&semaphore), (3, 0));
}

#[test]
fn try_acquire_never_barges() {
    let semaphore = shared(3);
    let mut head = Task::waiting(semaphore.acquire_many(5));
    assert_eq!(state(&semaphore), (3, 1));
    for n in [1, 2, 3] {
        refuses(&semaphore, n, TryAcquireError::NoPermits);
    }
    assert_eq!(state(&semaphore), (3, 1));
    semaphore.add_permits(2);
    assert_eq!(head.ready().unwrap().num_permits(), 5);
}

#[test]
fn acquire_never_barges() {
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
fn a_free_permit_is_acquired_without_cloning_the_waker() {
    let semaphore = Semaphore::new(1);
    let waker = Hooks::new().on_clone(|| panic!("cloned")).waker();
    assert!(poll_with(&mut semaphore.acquire(), &waker).is_ready());
}

#[test]
fn forgotten_permits_are_not_returned() {
    let semaphore = shared(5);
    semaphore.try_acquire_many(2).unwrap().forget();
    assert_eq!(state(&semaphore), (3, 0));
    semaphore.clone().try_acquire_many_owned(3).unwrap().forget();
    assert_eq!(state(&semaphore), (0, 0));
    assert_eq!(Arc::strong_count(&semaphore), 1, "a forgotten owned permit releases its handle to the semaphore");
}

#[test]
fn zero_permits_are_granted_at_once_without_waiters() {
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
fn zero_permits_are_granted_in_order_and_take_nothing() {
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
fn zero_permits_are_granted_when_the_head_is_cancelled() {
    let semaphore = Semaphore::new(0);
    let head = Task::waiting(semaphore.acquire());
    let mut nothing = Task::waiting(semaphore.acquire_many(0));
    drop(head);
    assert_eq!(nothing.wakes(), 1);
    assert!(nothing.ready().is_ok());
}

#[test]
fn try_acquire_of_zero_fails_if_closed_or_queued() {
    let semaphore = shared(2);
    let head = Task::waiting(semaphore.acquire_many(3));
    refuses(&semaphore, 0, TryAcquireError::NoPermits);
    drop(head);
    semaphore.reduce_permits(3);
    assert!(semaphore.try_acquire_many(0).is_ok(), "a debt is no waiter");
    assert!(ready(&mut semaphore.acquire_many(0)).is_ok());
    semaphore.close();
    refuses(&semaphore, 0, TryAcquireError::Closed);
    assert!(ready(&mut semaphore.acquire_many(0)).is_err());
}
