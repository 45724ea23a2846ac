//! Loads whose key is invalidated before they end.

use loom::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use loom::thread;
use stanchion::blocking;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::watched::When::{Later, Never, Now};
use super::watched::{A, Load, Watched, begun, finish, join, numbers, spawn, watched};
use crate::support::observe;

/// A load from before the invalidation serves its followers and no later caller. Guards `invalidate` in `remove_entry`,
/// `clear` and `retain`, and that both run under one lock.
fn publish_racing(invalidate: fn(&Watched)) {
    let watched = watched(2);
    let leader = begun(watched.load(A, Later, 1));
    let follower = begun(watched.load(A, Now, 2));
    let other = spawn(&watched, move |watched| {
        invalidate(watched);
        assert_eq!(watched.get(A), None);
        blocking::wait(watched.load(A, Now, 3))
    });
    let [led, got] = join([leader, follower].map(finish));
    assert_eq!([led, got, other.join().unwrap()], [1, 1, 3]);
    assert_eq!(watched.peek(A), Some(3));
    watched.assert_ended(2..=2);
}

pub(super) fn publish_racing_remove() {
    publish_racing(|watched| {
        let removed = watched.remove(A);
        assert!(observe("remove finds the published value", removed == Some(1)) || removed.is_none());
    });
}

pub(super) fn publish_racing_clear() {
    publish_racing(Watched::clear);
}

pub(super) fn publish_racing_retain() {
    publish_racing(|watched| _ = observe("retain finds the published value", watched.retain_nothing()));
}

/// A row is updated and its key invalidated by `retain` while a load reads the row: no stale value stays, and none is found
/// later. Guards `invalidate_all` in `retain`.
pub(super) fn update_of_a_row_and_retain_racing_load() {
    let watched = watched(2);
    let row = loom::sync::Arc::new(AtomicUsize::new(1));
    let read = row.clone();
    let loader = finish(watched.load_with(A, move || async move { read.load(Relaxed) as u8 }));
    let updater = spawn(&watched, move |watched| {
        row.store(2, Relaxed);
        watched.retain_nothing();
        watched.get(A)
    });
    let is_new = observe("the load reads the new row", loader.join().unwrap() == 2);
    let found = updater.join().unwrap();
    assert!(found.is_none_or(|found| found == 2), "stale");
    let stored = watched.peek(A);
    assert!(stored.is_none_or(|stored| stored == 2 && is_new), "stale");
    observe("the value stays", stored.is_some());
    watched.assert_ended(1..=1);
}

/// Two loads of one key: the first was invalidated, and its end does not affect the second. Guards that `unregister` and
/// `abandon` check the registration.
fn load_beside_its_successor(leader: fn(&Arc<Watched>) -> Load<()>, end: fn(Load<()>), waits: RangeInclusive<u8>) {
    let watched = watched(2);
    let leader = begun(leader(&watched));
    let follower = begun(watched.load(A, Now, 2));
    assert_eq!(watched.remove(A), None);
    let successor = begun(watched.load(A, Later, 3));
    let joined = begun(watched.load(A, Now, 4));
    let leader = thread::spawn(move || end(leader));
    let [led, got] = join([successor, follower].map(finish));
    leader.join().unwrap();
    assert_eq!(led, 3);
    assert!(waits.contains(&got));
    assert_eq!((blocking::wait(joined), watched.peek(A)), (3, Some(3)));
    watched.assert_ended(2..=2);
}

pub(super) fn finished_load_beside_its_successor() {
    let leader = |watched: &Arc<Watched>| {
        let load = watched.load(A, Later, 1);
        Box::pin(async { assert_eq!(load.await, 1) }) as Load<()>
    };
    load_beside_its_successor(leader, blocking::wait, 1..=1);
}

pub(super) fn dropped_load_beside_its_successor() {
    let leader = |watched: &Arc<Watched>| {
        let load = watched.load(A, Never, 1);
        Box::pin(async { assert_eq!(load.await, 1) }) as Load<()>
    };
    load_beside_its_successor(leader, drop, 3..=3);
}

pub(super) fn failed_load_beside_its_successor() {
    let leader = |watched: &Arc<Watched>| {
        let load = watched.try_load::<'a'>(A, Later, Err(1));
        Box::pin(async { assert_eq!(numbers(&load.await), Err(1)) }) as Load<()>
    };
    load_beside_its_successor(leader, blocking::wait, 3..=3);
}
