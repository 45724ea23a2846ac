//! Insertions racing changes of the capacity and hits.

use stanchion::LruCache;

use super::watched::{A, B, C, Hasher, filled, join, spawn};

/// There are never more entries than the capacity. Guards the eviction under the lock.
pub(super) fn set_capacity_racing_insert() {
    let watched = filled(LruCache::with_hasher(2, Hasher::default()), A..=B);
    let shrinker = spawn(&watched, |watched| {
        watched.cache.set_capacity(1);
        assert_eq!(watched.cache.capacity(), 1);
        assert!(watched.cache.len() <= 1);
    });
    let inserter = spawn(&watched, |watched| assert_eq!(watched.insert(C, 3), None));
    join([shrinker, inserter]);
    assert_eq!([A, B, C].map(|key| watched.peek(key)), [None, None, Some(3)]);
    watched.assert_ended(0..=0);
}

/// A caller that counts the entries and then reads the capacity never counts more than that. Guards the lock around the
/// capacity: it is read once all shards have their shares.
pub(super) fn growing_racing_insert() {
    let cache = LruCache::<u8, _>::builder(2).hasher(Hasher::default()).shards(2).build();
    let watched = filled(cache, A..=B);
    let grower = spawn(&watched, |watched| watched.cache.set_capacity(4));
    let inserter = spawn(&watched, |watched| {
        watched.insert(C, 3);
        let len = watched.cache.len();
        assert!(len <= watched.cache.capacity());
    });
    join([grower, inserter]);
    assert_eq!(watched.cache.capacity(), 4);
    watched.assert_ended(0..=0);
}

/// All shards have the capacity that was set last. Guards the same lock.
pub(super) fn two_set_capacities_over_two_shards() {
    let cache = LruCache::<u8, _>::builder(2).hasher(Hasher::default()).shards(2).build();
    let watched = filled(cache, A..=B);
    join([1, 4].map(|capacity| spawn(&watched, move |watched| watched.cache.set_capacity(capacity))));
    let capacity = watched.cache.capacity();
    assert!([1, 4].contains(&capacity));
    watched.cache.validate();
    // Enough for both shards.
    (10..20).for_each(|key| assert_eq!(watched.insert(key, key), None));
    assert_eq!(watched.cache.len(), capacity);
    watched.assert_ended(0..=0);
}

/// The entry that is used before the insertion stays, and the other one is evicted. Guards the move to the front in `get`.
pub(super) fn insert_evicting_racing_get() {
    let watched = filled(LruCache::with_hasher(2, Hasher::default()), A..=B);
    let getter = spawn(&watched, |watched| {
        let got = watched.get(A);
        assert_eq!(watched.cache.len(), 2);
        got
    });
    let inserter = spawn(&watched, |watched| assert_eq!(watched.insert(C, 3), None));
    inserter.join().unwrap();
    let stays = match getter.join().unwrap() {
        Some(1) => A,
        None => B,
        Some(_) => panic!("another key's"),
    };
    assert_eq!([A, B, C].map(|key| watched.peek(key).is_some()), [stays == A, stays == B, true]);
    watched.assert_ended(0..=0);
}
