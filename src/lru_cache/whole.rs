//! The calls that are about the whole cache, shard by shard.

use super::deferred::{Deferred, release};
use super::pair::Pair;
use super::shard::Part;
use super::{LruCache, Stats, share};
use crate::panic::{Guarded, Panics};

impl<K, V, S> LruCache<K, V, S> {
    /// Removes the least recently used entry and returns it. With several shards, from the first that has one.
    ///
    /// Takes time in proportion to the expired entries that it meets.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = stanchion::LruCache::new(10);
    /// cache.insert("old", 1);
    /// cache.insert("new", 2);
    /// assert_eq!(cache.pop_lru(), Some(("old", 1)));
    /// ```
    pub fn pop_lru(&self) -> Option<(K, V)> {
        let now = self.settings.now();
        self.shards().find_map(|shard| {
            let mut deferred = Deferred::new();
            let popped = shard.lock().shard.pop(now, &mut deferred.removed);
            self.finish(deferred, shard, popped.map(Pair::new)).map(Pair::into_inner)
        })
    }

    /// Removes everything. The results of loads in flight will not be stored.
    ///
    /// Takes time in proportion to the entries. The [listener](crate::LruCacheBuilder::on_evict) gets them in no order.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = stanchion::LruCache::new(10);
    /// cache.insert("key", 1);
    /// cache.clear();
    /// assert!(cache.is_empty());
    /// ```
    pub fn clear(&self) {
        let now = self.settings.now();
        let mut panics = Panics::default();
        for shard in self.shards() {
            let mut deferred = Deferred::new();
            let entries = {
                let mut state = shard.lock();
                state.flights.invalidate_all(&mut deferred.removed);
                state.shard.clear(now)
            };
            deferred.run(&self.settings, shard, &mut panics);
            for (key, value, cause) in entries {
                release(Part::Entry(key, value, Some(cause)), &self.settings, &mut panics);
            }
        }
        panics.resume();
    }

    /// Keeps only the entries for which `keep` returns true. It is asked about each shard's entries from the most to
    /// the least recently used.
    ///
    /// Values being loaded are not asked about, and will not be stored: they may be stale. Entries that have expired
    /// are removed without being asked about. If `keep` panics, nothing is removed from the current shard, nor from
    /// those that come after it. Takes time in proportion to the entries, under the lock.
    ///
    /// # Panics
    ///
    /// When `keep` does.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = stanchion::LruCache::new(10);
    /// (1..=4).for_each(|key| drop(cache.insert(key, ())));
    /// cache.retain(|key, _| key % 2 == 0);
    /// assert_eq!(cache.entries(), [(4, ()), (2, ())]);
    /// ```
    pub fn retain(&self, keep: impl FnMut(&K, &V) -> bool) {
        let mut keep = Guarded(Some(keep));
        let now = self.settings.now();
        let mut panics = Panics::default();
        for shard in self.shards() {
            let mut deferred = Deferred::new();
            // Caught, since a drop may have panicked before.
            let is_done = panics.catch(|| {
                let keep = keep.0.as_mut().expect("the predicate is in hand until the end");
                let mut state = shard.lock();
                state.shard.retain(keep, now, &mut deferred.removed);
                state.flights.invalidate_all(&mut deferred.removed);
            });
            deferred.run(&self.settings, shard, &mut panics);
            if !is_done {
                break;
            }
        }
        panics.resume();
    }

    /// Calls `visit` with each entry, from the most to the least recently used, shard by shard. This does not count as
    /// a use.
    ///
    /// It runs under the lock, and takes time in proportion to the entries. Entries that have expired are skipped.
    ///
    /// # Panics
    ///
    /// When `visit` does.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = stanchion::LruCache::new(10);
    /// cache.insert("a", 1);
    /// cache.insert("b", 2);
    /// let mut sum = 0;
    /// cache.for_each(|_, value| sum += value);
    /// assert_eq!(sum, 3);
    /// ```
    pub fn for_each(&self, visit: impl FnMut(&K, &V)) {
        let mut visit = Guarded(Some(visit));
        let now = self.settings.now();
        let visit = visit.0.as_mut().expect("the visitor is in hand until the end");
        self.shards().for_each(|shard| shard.lock().shard.for_each(now, &mut *visit));
    }

    /// Changes the capacity, and evicts the least recently used entries if it is less than their weight.
    ///
    /// Takes time in proportion to the entries that are evicted, and to all entries of a shard if memory is given back.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = stanchion::LruCache::new(10);
    /// (1..=4).for_each(|key| drop(cache.insert(key, ())));
    /// cache.set_capacity(1);
    /// assert_eq!(cache.entries(), [(4, ())]);
    /// ```
    pub fn set_capacity(&self, capacity: usize) {
        let now = self.settings.now();
        let shards = 1 + self.others.len();
        let mut deferred = Deferred::new();
        {
            // Held all the while: of two changes one comes after the other in every shard, and no capacity is read that
            // some shard exceeds.
            let mut whole = self.capacity.lock();
            *whole = capacity;
            for (number, shard) in self.shards().enumerate() {
                shard.lock().shard.set_capacity(share(capacity, shards, number), now, &mut deferred.removed);
            }
        }
        self.finish(deferred, &self.first.0, ());
    }

    /// Returns the number of entries, including those that have expired and were not met by a call since.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = stanchion::LruCache::new(10);
    /// cache.insert("key", 1);
    /// assert_eq!(cache.len(), 1);
    /// ```
    pub fn len(&self) -> usize {
        self.shards().map(|shard| shard.lock().shard.len()).sum()
    }

    /// Returns `true` if there are no entries.
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(stanchion::LruCache::<u32, u32>::new(10).is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the sum of the entries' weights: their number, if there is no
    /// [weigher](crate::LruCacheBuilder::weigher).
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = stanchion::LruCache::new(10);
    /// cache.insert("key", 1);
    /// assert_eq!(cache.weight(), 1);
    /// ```
    pub fn weight(&self) -> u64 {
        self.shards().map(|shard| shard.lock().shard.weight()).sum()
    }

    /// Returns the capacity: the largest number of entries, or the largest weight.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(stanchion::LruCache::<u32, u32>::new(10).capacity(), 10);
    /// ```
    pub fn capacity(&self) -> usize {
        *self.capacity.lock()
    }

    /// Returns copies of the entries, from the most to the least recently used, shard by shard. This does not count as
    /// a use.
    ///
    /// Entries that have expired are skipped. Takes time in proportion to the entries, under the lock.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = stanchion::LruCache::new(10);
    /// cache.insert('a', 1);
    /// cache.insert('b', 2);
    /// assert_eq!(cache.entries(), [('b', 2), ('a', 1)]);
    /// ```
    pub fn entries(&self) -> Vec<(K, V)>
    where
        K: Clone,
        V: Clone,
    {
        // Apart from each other, since half a copy would be dropped under the lock if the other half panics.
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        self.for_each(|key, value| {
            keys.push(Guarded(Some(key.clone())));
            values.push(Guarded(Some(value.clone())));
        });
        keys.into_iter().zip(values).map(|(key, value)| Pair { key, value }.into_inner()).collect()
    }

    /// Returns what was counted so far, over all shards.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = stanchion::LruCache::new(10);
    /// cache.get_or_insert_with("answer", || 42);
    /// cache.get("answer");
    /// let stats = cache.stats();
    /// assert_eq!((stats.hits, stats.misses, stats.loads), (1, 1, 1));
    /// ```
    pub fn stats(&self) -> Stats {
        let mut sum = Stats::default();
        self.shards().for_each(|shard| sum += shard.lock().shard.stats);
        sum
    }
}
