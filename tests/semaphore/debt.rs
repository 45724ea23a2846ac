//! Permits that are added, forgotten and reduced, and the debt that a reduction may leave.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use stanchion::{Semaphore, SemaphorePermit, TryAcquireError};

use crate::common::{Check, Task, state};

#[test]
fn added_permits_are_granted_and_the_rest_is_free() {
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
fn forget_permits_takes_at_most_the_free_ones() {
    let semaphore = Semaphore::new(5);
    assert_eq!(semaphore.forget_permits(0), 0);
    assert_eq!((semaphore.forget_permits(2), state(&semaphore)), (2, (3, 0)));
    assert_eq!((semaphore.forget_permits(9), state(&semaphore)), (3, (0, 0)));
    assert_eq!((semaphore.forget_permits(usize::MAX), state(&semaphore)), (0, (0, 0)));
    semaphore.add_permits(1);
    assert_eq!(state(&semaphore), (1, 0), "what was forgotten is not owed");
}

#[test]
fn forget_permits_takes_free_ones_before_a_large_request() {
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
fn reduce_permits_takes_free_ones_now_and_the_rest_later() {
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
fn permits_owed_counts_the_debt_until_it_is_paid() {
    let semaphore = Semaphore::new(3);
    assert_eq!(semaphore.permits_owed(), 0);
    let mut permit = semaphore.try_acquire_many(2).unwrap();
    semaphore.reduce_permits(1);
    assert_eq!((semaphore.permits_owed(), state(&semaphore)), (0, (0, 0)), "a free one was taken");
    let waiter = Task::waiting(semaphore.acquire());
    semaphore.reduce_permits(3);
    assert_eq!((semaphore.permits_owed(), state(&semaphore)), (3, (0, 1)));
    drop(permit.split(1));
    assert_eq!(semaphore.permits_owed(), 2);
    permit.forget();
    assert_eq!((semaphore.permits_owed(), semaphore.forget_permits(1)), (2, 0), "forgotten permits pay nothing");
    semaphore.close();
    semaphore.add_permits(1);
    assert_eq!(semaphore.permits_owed(), 1, "closed or not");
    semaphore.add_permits(2);
    assert_eq!((semaphore.permits_owed(), state(&semaphore)), (0, (1, 0)));
    drop(waiter);
}

#[test]
fn reducing_by_the_free_permits_owes_nothing() {
    let semaphore = Semaphore::new(5);
    semaphore.reduce_permits(0);
    assert_eq!(state(&semaphore), (5, 0));
    semaphore.reduce_permits(5);
    assert_eq!(state(&semaphore), (0, 0));
    semaphore.add_permits(1);
    assert_eq!(state(&semaphore), (1, 0));
}

#[test]
fn added_permits_pay_the_debt() {
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
fn the_debt_is_paid_before_any_waiter_is_granted() {
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
fn a_waiter_enqueued_during_a_debt_waits_until_it_is_paid() {
    let semaphore = Semaphore::new(0);
    semaphore.reduce_permits(1);
    let mut waiter = Task::waiting(semaphore.acquire());
    semaphore.add_permits(1);
    assert!(waiter.is_pending());
    semaphore.add_permits(1);
    assert!(waiter.ready().is_ok());
}

#[test]
fn a_return_pays_the_debt_and_grants_the_rest() {
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
fn a_cancelled_grant_pays_the_debt() {
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
fn reducing_takes_free_permits_before_a_large_request() {
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
            assert_eq!(semaphore.permits_owed(), free.min(0).unsigned_abs());
        }
        held.clear();
        semaphore.add_permits(total.min(0).unsigned_abs());
        assert_eq!(state(&semaphore), (total.max(0) as usize, 0));
    }
}
