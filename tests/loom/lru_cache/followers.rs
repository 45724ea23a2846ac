//! Followers that are dropped or polled again, and more of them than a batch has wakers.

use loom::thread;
use stanchion::blocking;
use std::sync::Arc;

use super::watched::When::{Later, Now};
use super::watched::{A, Load, Outcome, Watched, begun, cancel, finish, join, numbers, spawn, watched};
use crate::support::{Count, poll};

/// A value that is not collected is dropped with its load. Guards `leave`.
pub(super) fn follower_dropped_racing_publish() {
    let watched = watched(2);
    let leader = begun(watched.load(A, Later, 1));
    let follower = cancel(begun(watched.load(A, Now, 2)));
    let leader = spawn(&watched, |watched| {
        assert_eq!(blocking::wait(leader), 1);
        assert_eq!(watched.get(A), Some(1));
    });
    join([leader, follower]);
    watched.assert_ended(1..=1);
}

/// The same beside another follower.
pub(super) fn follower_dropped_racing_publish_and_follower() {
    let watched = watched(2);
    let leader = begun(watched.load(A, Later, 1));
    let [cancelled, staying] = [2, 3].map(|number| begun(watched.load(A, Now, number)));
    let cancelled = cancel(cancelled);
    assert_eq!(join([leader, staying].map(finish)), [1, 1]);
    cancelled.join().unwrap();
    watched.assert_ended(1..=1);
}

/// A follower that is polled with a new waker at the same time.
fn repolled_follower_racing(end: fn(Load), gets: u8, loads: usize) {
    let watched = watched(2);
    let leader = begun(watched.load(A, Later, 1));
    let mut follower = watched.load(A, Now, 2);
    let (_, first) = Count::new();
    assert!(poll(&mut follower, &first).is_pending());
    let leader = thread::spawn(move || end(leader));
    // The wait has a waker of its own; if the first one were kept, the wait would not end.
    assert_eq!(finish(follower).join().unwrap(), gets);
    leader.join().unwrap();
    watched.assert_ended(loads..=loads);
}

pub(super) fn repolled_follower_racing_publish() {
    repolled_follower_racing(|leader| assert_eq!(blocking::wait(leader), 1), 1, 1);
}

pub(super) fn repolled_follower_racing_leader_dropped() {
    repolled_follower_racing(drop, 2, 2);
}

/// Four followers, and a batch of two wakers (under loom): the third waits in a thread, the fourth is dropped meanwhile.
/// Guards the refill in `Deferred::run`, and the batch in `end` and `fail`.
fn more_than_a_batch_holds<const TYPE: char>(
    leader: Result<u8, u8>,
    end: fn(&Arc<Watched>, Load<Outcome<TYPE>>),
    gets: Result<u8, u8>,
    loads: usize,
) {
    let watched = watched(2);
    let leader = begun(watched.try_load::<TYPE>(A, Later, leader));
    let [mut first, mut second, third, fourth] =
        [2, 3, 4, 5].map(|number| watched.try_load::<TYPE>(A, Now, Ok(number)));
    let counts = [0, 1].map(|_| Count::new());
    assert!(poll(&mut first, &counts[0].1).is_pending() && poll(&mut second, &counts[1].1).is_pending());
    let [third, fourth] = [third, fourth].map(begun);
    let third = finish(third);
    let fourth = cancel(fourth);
    let leader = spawn(&watched, move |watched| end(watched, leader));
    join([fourth, leader]);
    let outcomes = [third.join().unwrap(), blocking::wait(first), blocking::wait(second)];
    assert_eq!(outcomes.each_ref().map(numbers), [gets; 3]);
    assert_eq!(counts.map(|(count, _)| count.get()), [1, 1]);
    watched.assert_ended(loads..=loads);
}

pub(super) fn publish_wakes_more_than_a_batch_holds() {
    more_than_a_batch_holds::<'a'>(Ok(1), |_, leader| drop(blocking::wait(leader)), Ok(1), 1);
}

pub(super) fn error_wakes_more_than_a_batch_holds() {
    more_than_a_batch_holds::<'a'>(Err(1), |_, leader| drop(blocking::wait(leader)), Err(1), 1);
}

pub(super) fn insert_wakes_more_than_a_batch_holds() {
    let end = |watched: &Arc<Watched>, leader| {
        assert_eq!(watched.insert(A, 9), None);
        drop(leader);
    };
    more_than_a_batch_holds::<'a'>(Ok(1), end, Ok(9), 1);
}

pub(super) fn starting_over_wakes_more_than_a_batch_holds() {
    let end = |watched: &Arc<Watched>, leader| {
        assert_eq!(watched.remove(A), None);
        drop(leader);
    };
    // The third is the first to run.
    more_than_a_batch_holds::<'a'>(Ok(1), end, Ok(4), 2);
}
