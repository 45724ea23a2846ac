//! Listeners and drops that use the cache.

use loom::thread;
use stanchion::{Cause, LruCache};
use std::future::pending;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};

use super::watched::{A, B, C, Hasher, Load, begun, cancel, join, listening, spawn};
use crate::support::Item;

/// An evicted entry is reported when nothing is locked. Guards `finish` after the unlock.
pub(super) fn listeners_use_the_cache() {
    let (watched, reports) = listening(LruCache::<u8, _>::builder(1).hasher(Hasher::default()), Cause::Capacity);
    let inserter = spawn(&watched, |watched| assert_eq!(watched.insert(B, B), None));
    let loader = spawn(&watched, |watched| assert_eq!(watched.block(C, C), C));
    join([inserter, loader]);
    assert_eq!((reports.load(Relaxed), watched.cache.stats().evictions), (2, 2));
    watched.assert_ended(1..=1);
}

/// A value that uses its cache when it is dropped.
#[derive(Clone)]
struct UsesCache(Weak<LruCache<u8, UsesCache, Hasher>>, Arc<Item>);

impl UsesCache {
    fn about(cache: &Arc<LruCache<u8, UsesCache, Hasher>>) -> Self {
        Self(Arc::downgrade(cache), Arc::new(Item::new(0)))
    }
}

impl Drop for UsesCache {
    fn drop(&mut self) {
        if let Some(cache) = self.0.upgrade() {
            assert!(!cache.contains_key(&9));
        }
        assert_eq!(self.1.get(), 0);
    }
}

/// An entry that is evicted, cleared or not stored is dropped when nothing is locked. Guards the same.
pub(super) fn drops_use_the_cache() {
    let cache = Arc::new(LruCache::with_hasher(1, Hasher::default()));
    drop(cache.insert(A, UsesCache::about(&cache)));
    let inserter = thread::spawn({
        let cache = cache.clone();
        move || drop(cache.insert(B, UsesCache::about(&cache)))
    });
    let clearer = thread::spawn({
        let cache = cache.clone();
        move || {
            cache.clear();
            drop(cache.get_or_insert_with(&C, || UsesCache::about(&cache)));
        }
    });
    join([inserter, clearer]);
    cache.validate();
    assert_eq!((cache.len(), cache.flights()), (1, 0));
}

/// So is the value of a load that is not collected, with the last member. Guards `finish` after the unlock in the drops of
/// `Leader` and `Follower`, and the value that `leave` defers.
pub(super) fn drops_of_a_load_use_the_cache() {
    let cache = Arc::new(LruCache::with_hasher(0, Hasher::default()));
    let [leader, follower] = [(); 2].map(|()| {
        let cache = cache.clone();
        begun(Box::pin(async move { drop(cache.get_or_load(&A, pending).await) }) as Load<()>)
    });
    let inserter = thread::spawn({
        let cache = cache.clone();
        move || {
            assert!(cache.insert(A, UsesCache::about(&cache)).is_none());
            drop(leader);
            drop(cache.get_or_insert_with(&A, || UsesCache::about(&cache)));
        }
    });
    let follower = cancel(follower);
    join([inserter, follower]);
    cache.validate();
    assert_eq!((cache.len(), cache.flights()), (0, 0));
}
