//! Permits that are split and merged.

use std::sync::Arc;

use stanchion::Semaphore;

use crate::common::{Task, panic_of, state};
use crate::{MAX, shared};

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
    assert_eq!(Arc::strong_count(&semaphore), 2, "a merged permit releases its handle to the semaphore");
    drop(borrowed);
    assert_eq!(state(&semaphore), (3, 0));
    drop(owned);
    assert_eq!(state(&semaphore), (6, 0));
}

#[test]
fn merging_permits_of_two_semaphores_panics_and_loses_nothing() {
    let (one, other) = (shared(3), shared(3));
    let mut borrowed = one.try_acquire_many(1).unwrap();
    let other_permit = other.try_acquire_many(2).unwrap();
    assert!(panic_of(|| borrowed.merge(other_permit)).contains("same semaphore"));
    assert_eq!((borrowed.num_permits(), state(&one), state(&other)), (1, (2, 0), (3, 0)));

    let mut owned = one.clone().try_acquire_many_owned(2).unwrap();
    let other_permit = other.clone().try_acquire_many_owned(3).unwrap();
    assert!(panic_of(|| owned.merge(other_permit)).contains("same semaphore"));
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
fn returning_a_merged_permit_grants_all_that_fit() {
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
