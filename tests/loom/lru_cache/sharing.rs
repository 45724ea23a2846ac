//! Loads side by side, shared by threads and tasks, and within each other.

use stanchion::{LruCache, blocking};
use std::sync::Arc;

use super::watched::When::{Later, Never, Now};
use super::watched::{A, B, Hasher, Watched, around, begun, cancel, finish, join, spawn, watched};

/// Two keys have loads of their own. Guards the index.
fn two_keys(watched: Arc<Watched>, keys: [u8; 2]) {
    let one = spawn(&watched, move |watched| {
        assert_ne!(watched.get(keys[1]), Some(1));
        watched.block(keys[0], 1)
    });
    let other = spawn(&watched, move |watched| {
        assert_ne!(watched.get(keys[0]), Some(2));
        blocking::wait(watched.load(keys[1], Later, 2))
    });
    assert_eq!(join([one, other]), [1, 2]);
    assert_eq!(keys.map(|key| watched.get(key)), [Some(1), Some(2)]);
    watched.assert_ended(2..=2);
}

pub(super) fn two_keys_in_one_shard() {
    two_keys(watched(2), [A, B]);
}

pub(super) fn two_keys_in_two_shards() {
    let cache = LruCache::<u8, _>::builder(2).hasher(Hasher::default()).shards(2).build();
    two_keys(around(cache), [A, B]);
}

/// The first caller loads for both. Guards the wakes of `end`.
pub(super) fn sync_and_async_in_one_load() {
    let watched = watched(2);
    let one = spawn(&watched, |watched| watched.block(A, 1));
    let other = finish(watched.load(A, Later, 2));
    let [one, other] = join([one, other]);
    assert_eq!(one, other);
    watched.assert_ended(1..=1);
}

/// They are two threads, so that none of them loads its own key. Guards the comparison with `leading_thread`.
pub(super) fn two_threads_block_on_one_load() {
    let watched = watched(2);
    let [one, other] = join([1, 2].map(|number| spawn(&watched, move |watched| watched.block(A, number))));
    assert_eq!(one, other);
    watched.assert_ended(1..=1);
}

pub(super) fn four_callers_one_load() {
    let watched = watched(2);
    let [one, two] = [1, 2].map(|number| spawn(&watched, move |watched| watched.block(A, number)));
    let [three, four] = [3, 4].map(|number| finish(watched.load(A, Now, number)));
    let numbers = join([one, two, three, four]);
    assert!(numbers.windows(2).all(|pair| pair[0] == pair[1]));
    watched.assert_ended(1..=1);
}

/// The first follower loads for both, be it a thread or a task. Guards the stage that `poll` sets.
pub(super) fn sync_and_async_followers_take_over() {
    let watched = watched(2);
    let leader = cancel(begun(watched.load(A, Never, 1)));
    let one = spawn(&watched, |watched| watched.block(A, 2));
    let other = finish(watched.load(A, Now, 3));
    leader.join().unwrap();
    let [one, other] = join([one, other]);
    assert_eq!(one, other);
    watched.assert_ended(2..=2);
}

/// A load of another key within a load, beside a load of that key.
pub(super) fn sync_load_within_a_load() {
    let watched = watched(2);
    let outer = spawn(&watched, |watched| watched.block_with(A, || watched.block(B, 1)));
    let inner = spawn(&watched, |watched| watched.block(B, 2));
    let [outer, inner] = join([outer, inner]);
    assert_eq!(outer, inner);
    watched.assert_ended(2..=2);
}

pub(super) fn async_load_within_a_load() {
    let watched = watched(2);
    let inner = watched.load(B, Later, 1);
    let outer = watched.load_with(A, || inner);
    let [outer, inner] = join([outer, watched.load(B, Later, 2)].map(finish));
    assert_eq!(outer, inner);
    watched.assert_ended(2..=2);
}
