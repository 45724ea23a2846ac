//! Values that are published, racing callers that join and changes of the cache.

use stanchion::blocking;
use std::sync::atomic::Ordering::Relaxed;

use super::watched::When::{Later, Now};
use super::watched::{A, Watched, begun, finish, join, spawn, watched};
use crate::support::observe;

/// A caller that joins while the value is published gets it, and a later one hits. Guards `end` in `publish`, and that
/// `join` looks again once it has a key or a waker.
pub(super) fn publish_racing_joiner() {
    let watched = watched(2);
    let leader = finish(begun(watched.load(A, Later, 1)));
    let joiner = finish(watched.load(A, Now, 2));
    assert_eq!(join([leader, joiner]), [1, 1]);
    watched.assert_ended(1..=1);
}

/// A value that is inserted during a load stays. Guards `supersede` in `store`, and that both run under one lock.
pub(super) fn publish_racing_insert() {
    let watched = watched(2);
    let leader = spawn(&watched, |watched| watched.block(A, 1));
    let inserter = spawn(&watched, |watched| watched.insert(A, 9));
    let (got, replaced) = (leader.join().unwrap(), inserter.join().unwrap());
    assert!(got == 1 || replaced.is_none() && got == 9);
    assert_eq!(watched.peek(A), Some(9));
    watched.assert_ended(0..=1);
}

/// The follower gets the first of both values, the leader always its own. Guards `unregister` in `supersede`, and the
/// check of the registration in `publish`.
pub(super) fn publish_racing_insert_and_follower() {
    let watched = watched(2);
    let leader = begun(watched.load(A, Later, 1));
    let follower = begun(watched.load(A, Now, 2));
    let inserter = spawn(&watched, |watched| watched.insert(A, 9));
    let [led, got] = join([leader, follower].map(finish));
    assert_eq!((led, got), (1, inserter.join().unwrap().unwrap_or(9)));
    assert_eq!(watched.peek(A), Some(9));
    watched.assert_ended(1..=1);
}

/// The follower gets the first value, and the second stays. Guards the check of the stage in `end`.
pub(super) fn two_inserts_racing_follower() {
    let watched = watched(2);
    let leader = begun(watched.load(A, Later, 1));
    let follower = begun(watched.load(A, Now, 2));
    let inserters = [8, 9].map(|number| spawn(&watched, move |watched| watched.insert(A, number)));
    let got = finish(follower).join().unwrap();
    let (first, last) = match join(inserters) {
        [None, Some(8)] => (8, 9),
        [Some(9), None] => (9, 8),
        _ => panic!("one replaces the other"),
    };
    assert_eq!(got, first);
    assert_eq!(blocking::wait(leader), 1);
    assert_eq!(watched.peek(A), Some(last));
    watched.assert_ended(1..=1);
}

/// A value that is inserted after the removal is not for the follower from before it, and the value of the load is not for
/// later callers. Guards that a follower takes the value that its load was published with, not that of the entry.
pub(super) fn insert_and_remove_racing_follower() {
    let watched = watched(2);
    let leader = begun(watched.load(A, Later, 1));
    let follower = begun(watched.load(A, Now, 2));
    let inserter = spawn(&watched, |watched| {
        assert_eq!(watched.insert(A, 9), None);
        assert_eq!(blocking::wait(leader), 1);
    });
    let remover = spawn(&watched, |watched| watched.remove(A));
    let got = finish(follower).join().unwrap();
    inserter.join().unwrap();
    match remover.join().unwrap() {
        Some(9) => assert_eq!((got, watched.peek(A)), (9, None)),
        None => assert_eq!((got, watched.peek(A)), (1, Some(9))),
        Some(_) => panic!("nothing else was stored"),
    }
    watched.assert_ended(1..=1);
}

/// A change in place finds the published value, or nothing, and affects neither the load nor its follower.
pub(super) fn publish_racing_update() {
    let watched = watched(2);
    let leader = begun(watched.load(A, Later, 1));
    let follower = begun(watched.load(A, Now, 2));
    let updater = spawn(&watched, |watched| watched.add(A, 4));
    assert_eq!(join([leader, follower].map(finish)), [1, 1]);
    let found = observe("update finds the published value", updater.join().unwrap() == Some(1));
    assert_eq!(watched.peek(A), Some(if found { 5 } else { 1 }));
    watched.assert_ended(1..=1);
}

/// A removal on a condition that finds nothing does not keep the value from being stored. The follower gets it either way.
pub(super) fn publish_racing_remove_if() {
    let watched = watched(2);
    let leader = begun(watched.load(A, Later, 1));
    let follower = begun(watched.load(A, Now, 2));
    let remover = spawn(&watched, |watched| watched.remove_if(A, 1));
    assert_eq!(join([leader, follower].map(finish)), [1, 1]);
    let found = observe("remove_if finds the published value", remover.join().unwrap() == Some(1));
    assert_eq!(watched.peek(A), if found { None } else { Some(1) });
    watched.assert_ended(1..=1);
}

/// A removal that makes room does not affect the load: its follower gets the value even if the entry is removed. Guards
/// `for_followers` in `publish`.
fn publish_racing_room(make_room: fn(&Watched) -> bool) {
    let watched = watched(2);
    let leader = begun(watched.load(A, Later, 1));
    let follower = begun(watched.load(A, Now, 2));
    let other = spawn(&watched, move |watched| make_room(watched));
    assert_eq!(join([leader, follower].map(finish)), [1, 1]);
    let gone = other.join().unwrap();
    assert_eq!(watched.peek(A), if gone { None } else { Some(1) });
    watched.assert_ended(1..=1);
}

pub(super) fn publish_racing_pop_lru() {
    publish_racing_room(|watched| {
        let popped = observe("pop_lru finds the published value", watched.cache.pop_lru().is_some());
        watched.seen.removed.fetch_add(popped.into(), Relaxed);
        popped
    });
}

pub(super) fn publish_racing_set_capacity() {
    publish_racing_room(|watched| {
        watched.cache.set_capacity(0);
        true
    });
}

/// A value that does not fit reaches the followers.
pub(super) fn loads_that_are_not_stored() {
    let watched = watched(0);
    let [one, other] = join([1, 2].map(|number| finish(watched.load(A, Now, number))));
    let loads = if one == other { 1 } else { 2 };
    assert_eq!((one, other, watched.cache.len()), if loads == 1 { (one, one, 0) } else { (1, 2, 0) });
    watched.assert_ended(loads..=loads);
}

/// Loom watches the content of a value: it is written before it is read. Guards the lock of the shard.
pub(super) fn hit_sees_what_its_loader_wrote() {
    let watched = watched(2);
    let loader = spawn(&watched, |watched| watched.block(A, 1));
    let getter = spawn(&watched, |watched| (watched.get(A), watched.peek(A)));
    assert_eq!(loader.join().unwrap(), 1);
    let (got, peeked) = getter.join().unwrap();
    assert!([None, Some(1)].contains(&got) && [got, Some(1)].contains(&peeked));
    watched.assert_ended(1..=1);
}
