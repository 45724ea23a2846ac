//! What a cache tells of itself: why entries were removed, and how often it did what.

use std::ops::AddAssign;

/// The reason why an entry was removed that was not handed to the caller.
///
/// # Examples
///
/// ```
/// use stanchion::{Cause, LruCache};
/// use std::sync::atomic::{AtomicU32, Ordering};
///
/// static EVICTED: AtomicU32 = AtomicU32::new(0);
///
/// let count = |_, _, cause| {
///     if cause == Cause::Capacity {
///         EVICTED.fetch_add(1, Ordering::Relaxed);
///     }
/// };
/// let cache = LruCache::builder(2).on_evict(count).build();
/// (0..5).for_each(|key| drop(cache.insert(key, ())));
/// assert_eq!(EVICTED.load(Ordering::Relaxed), 3);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It was evicted: others needed its room, or it had become too heavy.
    Capacity,
    /// It had expired.
    Expired,
    /// It was removed by [`clear`](crate::LruCache::clear) or [`retain`](crate::LruCache::retain).
    Removed,
}

/// The counts of an [`LruCache`](crate::LruCache) since it was created.
///
/// # Examples
///
/// ```
/// # stanchion::blocking::wait(async {
/// let cache = stanchion::LruCache::<u32, &str>::new(100);
/// cache.get_or_load(&7, async || "seven").await; // a miss
/// cache.get(&7); // a hit
/// let stanchion::Stats { hits, misses, .. } = cache.stats();
/// assert_eq!(hits as f64 / (hits + misses) as f64, 0.5);
/// # });
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Calls of `get`, `update`, `get_or_…` and `try_get_or_…` that found a value.
    pub hits: u64,
    /// Calls of these that did not, whether they loaded one or waited for it.
    pub misses: u64,
    /// Entries that were stored under a key that had none.
    pub insertions: u64,
    /// Entries that were removed for [`Cause::Capacity`].
    pub evictions: u64,
    /// Entries that were removed for [`Cause::Expired`].
    pub expirations: u64,
    /// Loaders that were begun.
    pub loads: u64,
    /// Loaders that returned an error.
    pub load_failures: u64,
}

impl AddAssign for Stats {
    fn add_assign(&mut self, other: Self) {
        let Self { hits, misses, insertions, evictions, expirations, loads, load_failures } = self;
        *hits += other.hits;
        *misses += other.misses;
        *insertions += other.insertions;
        *evictions += other.evictions;
        *expirations += other.expirations;
        *loads += other.loads;
        *load_failures += other.load_failures;
    }
}
