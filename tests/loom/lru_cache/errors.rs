//! Loads that fail.

use stanchion::blocking;
use std::sync::Arc;

use super::watched::When::{Later, Now};
use super::watched::{A, Outcome, begun, cancel, finish, join, numbers, remove_and_load, spawn, watched};

/// Returns true if it is the same error, not only an equal one.
fn is_shared<const TYPE: char>(one: &Outcome<TYPE>, other: &Outcome<TYPE>) -> bool {
    matches!((one, other), (Err(one), Err(other)) if Arc::ptr_eq(one, other))
}

/// One error goes to all followers, and nothing is stored. Guards `grant_each` in `fail`, and its wakes.
pub(super) fn error_shared_by_two_followers() {
    let watched = watched(2);
    let ends = [(Later, Err(1)), (Now, Ok(2)), (Now, Ok(3))];
    let [led, one, other] = join(ends.map(|(when, end)| begun(watched.try_load::<'a'>(A, when, end))).map(finish));
    assert_eq!(numbers(&led), Err(1));
    assert!(is_shared(&led, &one) && is_shared(&led, &other));
    assert_eq!(watched.get(A), None);
    watched.assert_ended(1..=1);
}

/// A follower gets the error, and a later caller loads. Guards `abandon` in `fail`: without followers the load ends.
pub(super) fn leader_fails_racing_joiner() {
    let watched = watched(2);
    let leader = finish(begun(watched.try_load::<'a'>(A, Later, Err(1))));
    let joiner = spawn(&watched, |watched| watched.try_block::<'a'>(A, Ok(2)));
    let [led, got] = join([leader, joiner]);
    assert_eq!(numbers(&led), Err(1));
    let loads = if is_shared(&led, &got) { 1 } else { 2 };
    assert!(loads == 1 || numbers(&got) == Ok(2));
    watched.assert_ended(loads..=loads);
}

/// A caller of another error type loads in any case. Guards the check of the type in `fail`.
pub(super) fn leader_fails_racing_joiner_of_another_type() {
    let watched = watched(2);
    let leader = finish(begun(watched.try_load::<'a'>(A, Later, Err(1))));
    let joiner = finish(watched.load(A, Now, 2));
    assert_eq!(numbers(&leader.join().unwrap()), Err(1));
    assert_eq!(joiner.join().unwrap(), 2);
    watched.assert_ended(2..=2);
}

/// Followers of the same type get the error; of the others one takes over, and the rest follow it. Guards `abandon` after
/// `grant_each`, and the followers that `grant_each` leaves queued.
pub(super) fn error_of_another_type_is_taken_over() {
    let watched = watched(2);
    let leader = begun(watched.try_load::<'a'>(A, Later, Err(1)));
    let next = begun(watched.load(A, Now, 2));
    let alike = begun(watched.try_load::<'a'>(A, Now, Ok(3)));
    let last = begun(watched.try_load::<'b'>(A, Now, Ok(4)));
    let next = finish(next);
    let [led, alike] = join([leader, alike].map(finish));
    assert_eq!(numbers(&led), Err(1));
    assert!(is_shared(&led, &alike));
    assert_eq!(next.join().unwrap(), 2);
    assert_eq!(numbers(&blocking::wait(last)), Ok(2));
    watched.assert_ended(2..=2);
}

/// The follower that would take over is dropped. Guards `abandon` after `grant_each`, and in `cancel`.
pub(super) fn next_after_error_dropped() {
    let watched = watched(2);
    let leader = begun(watched.try_load::<'a'>(A, Later, Err(1)));
    let [next, last] = [2, 3].map(|number| begun(watched.load(A, Now, number)));
    let leader = finish(leader);
    let next = cancel(next);
    let last = finish(last);
    next.join().unwrap();
    assert_eq!(numbers(&leader.join().unwrap()), Err(1));
    assert_eq!(last.join().unwrap(), 3);
    watched.assert_ended(2..=2);
}

/// The follower that takes over fails, too: its error goes to followers of its type. Guards the order that `grant_each`
/// leaves.
pub(super) fn taking_over_fails_in_turn() {
    let watched = watched(2);
    let leader = begun(watched.try_load::<'a'>(A, Later, Err(1)));
    let next = begun(watched.try_load::<'b'>(A, Now, Err(2)));
    let alike = begun(watched.try_load::<'b'>(A, Now, Ok(3)));
    let last = begun(watched.load(A, Now, 4));
    let leader = finish(leader);
    let [led, alike] = join([next, alike].map(finish));
    assert_eq!((numbers(&leader.join().unwrap()), numbers(&led)), (Err(1), Err(2)));
    assert!(is_shared(&led, &alike));
    assert_eq!(blocking::wait(last), 4);
    watched.assert_ended(3..=3);
}

/// A follower that cannot take the error takes over, or starts over; a load from before the removal serves no later
/// caller. Guards `end` in `abandon`.
pub(super) fn leader_fails_racing_remove() {
    let watched = watched(2);
    let leader = begun(watched.try_load::<'a'>(A, Later, Err(1)));
    let follower = begun(watched.load(A, Now, 2));
    let leader = finish(leader);
    let follower = finish(follower);
    spawn(&watched, remove_and_load).join().unwrap();
    assert_eq!(numbers(&leader.join().unwrap()), Err(1));
    assert!([2, 3].contains(&follower.join().unwrap()));
    watched.assert_ended(2..=3);
}

/// An error that is not collected is dropped.
pub(super) fn leader_fails_racing_follower_dropped() {
    let watched = watched(2);
    let leader = begun(watched.try_load::<'a'>(A, Later, Err(1)));
    let follower = cancel(begun(watched.try_load::<'a'>(A, Now, Ok(2))));
    let leader = spawn(&watched, |watched| {
        assert_eq!(numbers(&blocking::wait(leader)), Err(1));
        assert_eq!(watched.get(A), None);
    });
    join([leader, follower]);
    watched.assert_ended(1..=1);
}
