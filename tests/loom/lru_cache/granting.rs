//! Followers that were granted the lead.

use super::watched::When::{Never, Now};
use super::watched::{A, Watched, begun, cancel, finish, join, leaderless, spawn, watched};

/// A later caller does not lead before the follower that was granted the lead. Guards `follow` of a leaderless load.
pub(super) fn granted_racing_newcomer() {
    let watched = watched(2);
    let [granted] = leaderless(&watched);
    assert_eq!(join([granted, watched.load(A, Now, 3)].map(finish)), [2, 2]);
    watched.assert_ended(2..=2);
}

/// The follower that was granted the lead is dropped, and a caller that joins meanwhile loads. Guards `abandon` in
/// `cancel`.
pub(super) fn granted_dropped_racing_newcomer() {
    let watched = watched(2);
    let [granted] = leaderless(&watched);
    let granted = cancel(granted);
    let newcomer = finish(watched.load(A, Now, 3));
    granted.join().unwrap();
    assert_eq!(newcomer.join().unwrap(), 3);
    watched.assert_ended(2..=2);
}

/// The same with another follower, which is before the newcomer. Guards the check of the grant in `cancel`.
pub(super) fn granted_dropped_racing_next_and_newcomer() {
    let watched = watched(2);
    let [granted, next] = leaderless(&watched);
    let granted = cancel(granted);
    let others = [next, watched.load(A, Now, 4)].map(finish);
    granted.join().unwrap();
    assert_eq!(join(others), [3, 3]);
    watched.assert_ended(2..=2);
}

/// The same while it is granted the lead. Guards that `cancel` removes the follower before the lead is passed on.
pub(super) fn leader_and_granted_dropped_racing_next() {
    let watched = watched(2);
    let leader = begun(watched.load(A, Never, 1));
    let [first, second] = [2, 3].map(|number| begun(watched.load(A, Now, number)));
    let cancelled = [leader, first].map(cancel);
    let next = finish(second);
    join(cancelled);
    assert_eq!(next.join().unwrap(), 3);
    watched.assert_ended(2..=2);
}

/// The longest waiting follower takes over, and the other gets its value. Guards `grant_front` in `abandon`, and the stage
/// that `poll` sets.
pub(super) fn leader_dropped_racing_both_followers() {
    let watched = watched(2);
    let leader = begun(watched.load(A, Never, 1));
    let followers = [2, 3].map(|number| begun(watched.load(A, Now, number)));
    let leader = cancel(leader);
    let followers = followers.map(finish);
    leader.join().unwrap();
    assert_eq!(join(followers), [2, 2]);
    watched.assert_ended(2..=2);
}

/// The follower that was granted the lead takes a value that is inserted before it runs, and returns its own value once it
/// loads. The next follower gets the value that comes first. Guards the check of the stage in `poll`.
pub(super) fn granted_racing_insert() {
    let watched = watched(2);
    let [granted, next] = leaderless(&watched);
    let inserter = spawn(&watched, |watched| {
        let before = watched.begun();
        (before, watched.insert(A, 9))
    });
    let [led, got] = join([granted, next].map(finish));
    match inserter.join().unwrap() {
        (_, Some(2)) => assert_eq!((led, got), (2, 2)),
        (1, None) => assert!([(9, 9), (2, 9)].contains(&(led, got))),
        (2, None) => assert_eq!((led, got), (2, 9)),
        _ => panic!("nothing else was stored"),
    }
    assert_eq!(watched.peek(A), Some(9));
    watched.assert_ended(1..=2);
}

/// The same when it is dropped. Guards `Leaderless` in `is_awaited` and in `end`.
pub(super) fn granted_dropped_racing_insert() {
    let watched = watched(2);
    let [granted, next] = leaderless(&watched);
    let granted = cancel(granted);
    let inserter = spawn(&watched, |watched| watched.insert(A, 9));
    let next = finish(next);
    granted.join().unwrap();
    let (replaced, got) = (inserter.join().unwrap(), next.join().unwrap());
    assert!(got == 3 || replaced.is_none() && got == 9);
    assert_eq!(watched.peek(A), Some(9));
    watched.assert_ended(1..=2);
}

/// The same without another follower: the load is removed with its value. Guards `leave`.
pub(super) fn last_granted_dropped_racing_insert() {
    let watched = watched(2);
    let [granted] = leaderless(&watched);
    let granted = cancel(granted);
    let inserter = spawn(&watched, |watched| {
        assert_eq!(watched.insert(A, 9), None);
        assert_eq!(watched.get(A), Some(9));
    });
    join([granted, inserter]);
    watched.assert_ended(1..=1);
}

/// A value that does not fit serves the follower all the same. Guards `Leaderless` in `is_awaited`.
pub(super) fn granted_racing_insert_that_is_not_stored() {
    let watched = watched(0);
    let [granted] = leaderless(&watched);
    let inserter = spawn(&watched, |watched| {
        assert_eq!(watched.insert(A, 9), None);
        watched.cache.stats().loads == 1
    });
    let got = finish(granted).join().unwrap();
    assert_eq!(got, if inserter.join().unwrap() { 9 } else { 2 });
    watched.assert_ended(1..=2);
}

/// A load that begins after the key was invalidated is not stale, one that began before is. Guards the check of the stage
/// in `invalidate`.
fn granted_racing(invalidate: fn(&Watched)) {
    let watched = watched(2);
    let [granted, next] = leaderless(&watched);
    let other = spawn(&watched, move |watched| {
        let before = watched.begun();
        invalidate(watched);
        let is_later = watched.cache.stats().loads == 1;
        assert!(before == 1 || watched.get(A).is_none(), "stale");
        is_later
    });
    assert_eq!(join([granted, next].map(finish)), [2, 2]);
    assert!(!other.join().unwrap() || watched.peek(A) == Some(2), "it was to be stored");
    watched.assert_ended(2..=2);
}

pub(super) fn granted_racing_remove() {
    granted_racing(|watched| assert!([None, Some(2)].contains(&watched.remove(A))));
}

pub(super) fn granted_racing_clear() {
    granted_racing(Watched::clear);
}
