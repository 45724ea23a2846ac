//! The limits of permits and of the debt: misuse panics before anything changes.

use std::sync::Arc;

use stanchion::{Semaphore, TryAcquireError};

use crate::common::{Task, does_not_abort, panic_of, ready, state};
use crate::{MAX, shared};

#[test]
fn the_limit_is_that_of_tokio() {
    assert_eq!(MAX, usize::MAX >> 3);
}

#[test]
fn the_maximum_can_be_acquired() {
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
fn new_panics_above_the_maximum() {
    assert!(panic_of(|| Semaphore::new(MAX + 1)).contains("MAX_PERMITS"));
    assert!(panic_of(|| Semaphore::new(usize::MAX)).contains("MAX_PERMITS"));
}

#[test]
fn acquiring_above_the_maximum_panics_at_the_call() {
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
        // Used at once, before any other call could have repaired the state.
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
fn a_failed_addition_leaves_the_queue_as_it_was() {
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
fn permits_for_waiters_may_be_added_beyond_the_maximum() {
    let semaphore = Semaphore::new(10);
    let mut head = Task::waiting(semaphore.acquire_many(MAX));
    semaphore.add_permits(MAX);
    assert_eq!(state(&semaphore), (10, 0));
    head.ready().unwrap().forget();

    let semaphore = Semaphore::new(10);
    let mut queue = [11, 20].map(|n| Task::waiting(semaphore.acquire_many(n)));
    semaphore.add_permits(MAX + 21);
    assert_eq!(state(&semaphore), (MAX, 0));
    queue.iter_mut().for_each(|task| task.ready().unwrap().forget());
}

#[test]
fn permits_for_a_debt_may_be_added_beyond_the_maximum() {
    let semaphore = Semaphore::new(0);
    semaphore.reduce_permits(5);
    assert!(panic_of(|| semaphore.add_permits(MAX + 6)).contains("MAX_PERMITS"));
    semaphore.add_permits(4);
    assert_eq!(state(&semaphore), (0, 0), "the failed addition paid nothing");
    semaphore.add_permits(MAX + 1);
    assert_eq!(state(&semaphore), (MAX, 0));
}

#[test]
fn returning_to_a_full_semaphore_panics_and_loses_the_permit() {
    let semaphore = Semaphore::new(1);
    let permit = semaphore.try_acquire().unwrap();
    semaphore.add_permits(MAX);
    assert!(panic_of(|| drop(permit)).contains("MAX_PERMITS"));
    assert_eq!(semaphore.available_permits(), MAX);
    assert!(semaphore.try_acquire_many(MAX).is_ok());
    assert_eq!(state(&semaphore), (MAX, 0));
}

#[test]
fn returning_to_a_full_semaphore_in_an_unwinding_never_aborts() {
    does_not_abort!(|| {
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
fn a_debt_beyond_the_maximum_panics_and_changes_nothing() {
    let semaphore = Semaphore::new(3);
    semaphore.reduce_permits(usize::MAX);
    assert_eq!(state(&semaphore), (0, 0));
    semaphore.reduce_permits(3);
    assert!(panic_of(|| semaphore.reduce_permits(1)).contains("owes"));
    assert!(panic_of(|| semaphore.reduce_permits(usize::MAX)).contains("owes"));
    semaphore.add_permits(2);
    semaphore.reduce_permits(2);
    assert!(panic_of(|| semaphore.reduce_permits(1)).contains("owes"), "the debt is unchanged");
    let mut waiter = Task::waiting(semaphore.acquire());
    semaphore.add_permits(usize::MAX);
    assert!(waiter.is_pending());
    semaphore.add_permits(1);
    assert!(waiter.ready().is_ok());
    assert_eq!(state(&semaphore), (1, 0));
}
