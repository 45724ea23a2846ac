//! A cache that forgets the least recently used, and asks once for what everybody wants.
//!
//! **A shard** is one lock around entries in the order of their use ([`shard`]) and the loads that are under way
//! ([`flight`]). A key belongs to one shard, chosen by its hash, which is taken before the lock. With one shard, as
//! made unless more are asked for, the order is that of the whole cache.
//!
//! **What an operation does**: it asks the user's hasher, weigher and clock; locks the shard, compares keys, clones the
//! value; from there on runs no foreign code, changes what is to be changed, and unlocks; then reports and drops
//! what has left, and wakes. So a panic before the change leaves all as it was, and one after it finds all done.
//!
//! **Lock order**: the capacity, which is taken only to change or read it, then one shard at a time.
//!
//! **Ordering.** What a value brings along is published by the shard's lock: its store happens before the lookup that
//! finds it, and a load before the return of everybody who is given what it loaded.

use std::borrow::Borrow;
use std::convert::Infallible;
use std::fmt;
use std::future::{Future, ready};
use std::hash::{BuildHasher, Hash, RandomState};
use std::iter::once;
use std::mem::needs_drop;
use std::num::NonZeroU32;
use std::ops::AddAssign;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::arena::Key;
use crate::blocking;
use crate::panic::{Guarded, Panics};
use crate::sync;
use crate::wait_list::WakeBatch;

mod flight;
mod shard;

use flight::{Flights, Needs, Unfailing, wake};
use shard::{Gone, Piece, Shard, Terms};

/// Remembers up to a capacity, and forgets what was not used for the longest time.
///
/// [`get`](Self::get) and [`insert`](Self::insert) work as they do on a map, through a shared reference. What is costly
/// to look up is best asked for by [`get_or_load`](Self::get_or_load): the first to miss loads it, and everybody else
/// who wants it meanwhile waits for that one load.
///
/// Values are cloned out, under a lock: keep an [`Arc`] if a clone is not cheap. `Eq` and `Borrow` of keys, `Clone`, and the
/// predicate of [`retain`](Self::retain) run under that lock and must not use the cache. Hashers, weighers, loaders,
/// listeners and all drops run without it, and may.
///
/// # Order
///
/// Used means: found by `get`, inserted, replaced, loaded, or found instead of being loaded. The order is exact,
/// whatever the number of threads; with several [shards](LruCacheBuilder::shards) it is exact within each.
///
/// # Capacity
///
/// It is counted in entries, or in what they weigh if there is a [weigher](LruCacheBuilder::weigher), and is never
/// exceeded, not even for a moment. With several shards each has its share. Memory is taken as entries come, and given
/// back as they leave, but for room for some thousand; [`clear`](Self::clear) gives all back. A full cache that counts
/// entries takes, beside key and value, 16 bytes for an entry and up to 15 for its place in the table. Weights take 8
/// more, and ends 16. These grow by doubling, and so do the entries where a weigher leaves their number open: up to as
/// much again lies in reserve.
///
/// # Fairness
///
/// All who wait for a load are served at once. If a load is given up, the next one to load is who has waited longest; if
/// the key was removed or cleared meanwhile, they all ask anew, and the first to run loads.
///
/// # Memory ordering
///
/// What happened before a value was inserted, or returned by a loader, happens before any lookup or load that gives it.
///
/// # Panics
///
/// A panic of foreign code reaches the caller; that of a waker that is woken, only out of the drop of a load. What ran
/// before the cache was changed (hashing, comparing, weighing, cloning, loading) leaves it as it was; after that (a
/// listener, a drop) the change has been made, and what the call would have returned is lost.
///
/// # Examples
///
/// ```
/// use stanchion::LruCache;
///
/// let cache = LruCache::new(2);
/// cache.insert("apples", 3);
/// cache.insert("pears", 5);
/// assert_eq!(cache.get("apples"), Some(3));
/// cache.insert("plums", 7); // the pears were not used for the longest time
/// assert_eq!(cache.entries(), [("plums", 7), ("apples", 3)]);
/// ```
pub struct LruCache<K, V, S = RandomState> {
    /// Apart from the others, so that a cache of one shard needs no allocation.
    first: Padded<Locked<K, V>>,
    others: Box<[Padded<Locked<K, V>>]>,
    hasher: S,
    settings: Settings<K, V>,
    /// Of all shards together; locked while it is being distributed.
    capacity: sync::Mutex<usize>,
}

/// On cache lines of its own, so that shards don't disturb each other: pairs of lines are fetched together.
#[repr(align(128))]
struct Padded<T>(T);

/// What one lock guards.
struct Section<K, V> {
    shard: Shard<K, V>,
    flights: Flights<K, V>,
}

/// What does not change while the cache lives.
struct Settings<K, V> {
    weigher: Option<Box<Weigher<K, V>>>,
    time_to_live: Option<Duration>,
    /// `None` unless something ends.
    clock: Option<Box<Clock>>,
    listener: Option<Box<Listener<K, V>>>,
}

type Locked<K, V> = sync::Mutex<Section<K, V>>;
/// The shard of a key, and the hash of the key there.
type Place<'c, K, V> = (&'c Locked<K, V>, NonZeroU32);
type Guard<'c, K, V> = sync::MutexGuard<'c, Section<K, V>>;
type Weigher<K, V> = dyn Fn(&K, &V) -> u64 + Send + Sync;
type Clock = dyn Fn() -> Instant + Send + Sync;
type Listener<K, V> = dyn Fn(K, V, Cause) + Send + Sync;

/// Sets up an [`LruCache`].
#[must_use = "a builder does nothing until it is built"]
pub struct LruCacheBuilder<K, V, S = RandomState> {
    capacity: usize,
    shards: usize,
    hasher: S,
    settings: Settings<K, V>,
}

/// Why an entry left without being asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Others needed its room.
    Capacity,
    /// Its time to live was over.
    Expired,
}

/// What an [`LruCache`] has counted since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Calls of `get`, `get_or_…` and `try_get_or_…` that found a value.
    pub hits: u64,
    /// Calls of these that did not, whether they loaded one or waited for it.
    pub misses: u64,
    /// Entries that were stored and were not there before.
    pub insertions: u64,
    /// Entries that left for [`Cause::Capacity`].
    pub evictions: u64,
    /// Entries that left for [`Cause::Expired`].
    pub expirations: u64,
    /// Loaders that were begun.
    pub loads: u64,
    /// Loaders that returned an error.
    pub load_failures: u64,
}

impl<K, V, S> LruCacheBuilder<K, V, S> {
    fn new(capacity: usize, hasher: S) -> Self {
        let settings = Settings { weigher: None, time_to_live: None, clock: None, listener: None };
        Self { capacity, shards: 1, hasher, settings }
    }

    /// Into how many shards the cache is divided, each with a lock of its own; 1 unless said otherwise.
    ///
    /// More of them let more threads in at a time. Each has its share of the capacity, to the last entry, and an order
    /// of its own; what weighs more than one share is not stored. There are never more shards than the capacity that the
    /// cache is built with, but always one.
    ///
    /// # Panics
    ///
    /// When it is 0.
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::LruCache;
    ///
    /// let cache = LruCache::<u32, u32>::builder(1_000).shards(16).build();
    /// (0..1_000_000).for_each(|key| drop(cache.insert(key, key)));
    /// assert_eq!(cache.len(), 1_000);
    /// ```
    pub fn shards(mut self, shards: usize) -> Self {
        assert!(shards > 0, "a cache without shards has no place for anything");
        self.shards = shards;
        self
    }

    /// What hashes the keys; [`RandomState`] unless said otherwise, which resists keys that are chosen to collide.
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::LruCache;
    ///
    /// let cache = LruCache::builder(10).hasher(rustc_hash::FxBuildHasher).build();
    /// cache.insert(1, "one");
    /// assert_eq!(cache.get(&1), Some("one"));
    /// ```
    pub fn hasher<T>(self, hasher: T) -> LruCacheBuilder<K, V, T> {
        let Self { capacity, shards, settings, hasher: _ } = self;
        LruCacheBuilder { capacity, shards, hasher, settings }
    }

    /// What an entry weighs; the capacity is in that unit then.
    ///
    /// It is asked once, before the entry is stored. What weighs 0 takes no room: there may be any number of it, up to
    /// 2<sup>32</sup> - 1 entries in a shard.
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::LruCache;
    ///
    /// let cache = LruCache::<u32, String>::builder(10).weigher(|_, text| text.len() as u64).build();
    /// cache.insert(1, "six by".to_owned());
    /// cache.insert(2, "seven".to_owned()); // eleven together
    /// assert_eq!((cache.len(), cache.weight()), (1, 5));
    /// ```
    pub fn weigher(mut self, weigh: impl Fn(&K, &V) -> u64 + Send + Sync + 'static) -> Self {
        self.settings.weigher = Some(Box::new(weigh));
        self
    }

    /// How long an entry lives after it was stored; for ever unless said otherwise.
    ///
    /// Nothing happens at the end of that time: one that is over is counted by `len` and `weight` until some call
    /// meets it, which treats it as if it were not there; [`retain`](LruCache::retain) meets all. With zero nothing is
    /// found again.
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::LruCache;
    /// use std::time::Duration;
    ///
    /// let cache = LruCache::builder(10).time_to_live(Duration::ZERO).build();
    /// cache.insert(1, "gone at once");
    /// assert_eq!(cache.get(&1), None);
    /// ```
    pub fn time_to_live(mut self, longest: Duration) -> Self {
        self.settings.time_to_live = Some(longest);
        self
    }

    /// Who is told what left without being asked to, and why. It runs in the call that made it leave, without a lock.
    ///
    /// What is replaced, removed, cleared or popped is not reported, nor what is too heavy to be stored.
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::{Cause, LruCache};
    /// use std::sync::mpsc;
    ///
    /// let (sender, left) = mpsc::channel();
    /// let cache = LruCache::builder(1).on_evict(move |key, value, cause| _ = sender.send((key, value, cause))).build();
    /// cache.insert(1, "one");
    /// cache.insert(2, "two");
    /// assert_eq!(left.try_recv(), Ok((1, "one", Cause::Capacity)));
    /// ```
    pub fn on_evict(mut self, tell: impl Fn(K, V, Cause) + Send + Sync + 'static) -> Self {
        self.settings.listener = Some(Box::new(tell));
        self
    }

    /// Where the time comes from, for tests that let it pass; [`Instant::now`] unless said otherwise.
    ///
    /// It is read only if there is a time to live.
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::LruCache;
    /// use std::sync::atomic::{AtomicU64, Ordering};
    /// use std::time::{Duration, Instant};
    ///
    /// static SECONDS: AtomicU64 = AtomicU64::new(0);
    ///
    /// let start = Instant::now();
    /// let clock = move || start + Duration::from_secs(SECONDS.load(Ordering::Relaxed));
    /// let cache = LruCache::builder(10).time_to_live(Duration::from_secs(60)).clock(clock).build();
    /// cache.insert(1, "one");
    /// assert_eq!(cache.get(&1), Some("one"));
    /// SECONDS.store(60, Ordering::Relaxed);
    /// assert_eq!(cache.get(&1), None);
    /// ```
    pub fn clock(mut self, now: impl Fn() -> Instant + Send + Sync + 'static) -> Self {
        self.settings.clock = Some(Box::new(now));
        self
    }

    /// Makes the cache, empty.
    pub fn build(self) -> LruCache<K, V, S> {
        let Self { capacity, shards, hasher, mut settings } = self;
        settings.clock = settings.time_to_live.and(settings.clock.or_else(|| Some(Box::new(Instant::now))));
        let shards = shards.min(capacity).max(1);
        let section = |place| {
            let shard = Shard::new(share(capacity, shards, place));
            Padded(sync::Mutex::new(Section { shard, flights: Flights::new() }))
        };
        LruCache {
            first: section(0),
            others: (1..shards).map(section).collect(),
            hasher,
            settings,
            capacity: sync::Mutex::new(capacity),
        }
    }
}

impl<K, V> LruCache<K, V> {
    /// Makes a cache for up to `capacity` entries. With 0 it stores nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = stanchion::LruCache::new(1_000_000);
    /// cache.insert(1, "one");
    /// assert_eq!(cache.len(), 1);
    /// ```
    pub fn new(capacity: usize) -> Self {
        Self::builder(capacity).build()
    }

    /// Starts to build a cache for up to `capacity` entries, or weight.
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::LruCache;
    /// use std::time::Duration;
    ///
    /// let pages = LruCache::<String, Vec<u8>>::builder(64 << 20)
    ///     .weigher(|path, page| (path.len() + page.len()) as u64)
    ///     .time_to_live(Duration::from_secs(60))
    ///     .shards(16)
    ///     .on_evict(|path, _, cause| println!("{path} left: {cause:?}"))
    ///     .build();
    /// pages.insert("/".to_owned(), vec![0; 1000]);
    /// assert_eq!(pages.weight(), 1001);
    /// ```
    pub fn builder(capacity: usize) -> LruCacheBuilder<K, V> {
        LruCacheBuilder::new(capacity, RandomState::new())
    }
}

impl<K, V, S> LruCache<K, V, S> {
    /// Makes a cache for up to `capacity` entries, whose keys are hashed by `hasher`.
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::LruCache;
    ///
    /// let cache = LruCache::with_hasher(10, rustc_hash::FxBuildHasher);
    /// cache.insert("key", 1);
    /// assert_eq!(cache.get("key"), Some(1));
    /// ```
    pub fn with_hasher(capacity: usize, hasher: S) -> Self {
        LruCacheBuilder::new(capacity, hasher).build()
    }

    /// Takes the least recently used entry out. With several shards, from the first that has one.
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
        let now = self.now();
        self.sections().find_map(|section| {
            let mut gone = Gone::new();
            let popped = section.lock().shard.pop(now, &mut gone);
            self.settle(gone, popped.map(Pair::new)).map(Pair::into_inner)
        })
    }

    /// Takes everything out, and drops it. Nothing is stored of what is being loaded.
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
        let mut panics = Panics::default();
        for section in self.sections() {
            let mut gone = Gone::new();
            let entries = {
                let mut section = section.lock();
                section.flights.invalidate_all(&mut gone);
                section.shard.clear()
            };
            self.bury(gone, &mut panics);
            for (key, value) in entries {
                panics.catch(|| drop(key));
                panics.catch(|| drop(value));
            }
        }
        panics.resume();
    }

    /// Keeps only what `keep` says, which is asked about each shard's entries from the most to the least recently used.
    ///
    /// What is being loaded is not asked about, and is stored. What is over its time leaves without being asked about. If
    /// `keep` panics, nothing has left the shard whose turn it was, nor those that come after it.
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
        let now = self.now();
        let mut panics = Panics::default();
        for section in self.sections() {
            let mut gone = Gone::new();
            // Caught, since a drop may have panicked before.
            let is_asked = panics.catch(|| {
                let keep = keep.0.as_mut().expect("it is taken by nothing but its drop");
                section.lock().shard.retain(keep, now, &mut gone);
            });
            self.bury(gone, &mut panics);
            if !is_asked {
                break;
            }
        }
        panics.resume();
    }

    /// Changes how much may be remembered; the least recently used leave if that is less.
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
        let now = self.now();
        let shards = 1 + self.others.len();
        let mut gone = Gone::new();
        {
            // Held all the while: of two changes one comes after the other in every shard, and nobody reads a capacity
            // that some shard exceeds.
            let mut whole = self.capacity.lock();
            *whole = capacity;
            for (place, section) in self.sections().enumerate() {
                section.lock().shard.set_capacity(share(capacity, shards, place), now, &mut gone);
            }
        }
        self.settle(gone, ());
    }

    /// How many entries there are, those included that are over and were not met since.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = stanchion::LruCache::new(10);
    /// cache.insert("key", 1);
    /// assert_eq!(cache.len(), 1);
    /// ```
    pub fn len(&self) -> usize {
        self.sections().map(|section| section.lock().shard.len()).sum()
    }

    /// Whether there are none.
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(stanchion::LruCache::<u32, u32>::new(10).is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the entries weigh together: how many they are, unless there is a [weigher](LruCacheBuilder::weigher).
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = stanchion::LruCache::new(10);
    /// cache.insert("key", 1);
    /// assert_eq!(cache.weight(), 1);
    /// ```
    pub fn weight(&self) -> u64 {
        self.sections().map(|section| section.lock().shard.weight()).sum()
    }

    /// How many entries there may be, or what they may weigh.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(stanchion::LruCache::<u32, u32>::new(10).capacity(), 10);
    /// ```
    pub fn capacity(&self) -> usize {
        *self.capacity.lock()
    }

    /// Copies of the entries, from the most to the least recently used, shard by shard. They are not used by this.
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
        let now = self.now();
        let mut copies = (Vec::new(), Vec::new());
        for section in self.sections() {
            let mut gone = Gone::new();
            section.lock().shard.copies(&mut copies, now, &mut gone);
            copies = self.settle(gone, copies);
        }
        copies.0.into_iter().zip(copies.1).map(|(key, value)| Pair { key, value }.into_inner()).collect()
    }

    /// What was counted so far, over all shards.
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
        self.sections().for_each(|section| sum += section.lock().shard.stats);
        sum
    }
}

impl<K, V, S> LruCache<K, V, S>
where
    K: Hash + Eq,
    S: BuildHasher,
{
    /// The value of a key, which becomes the most recently used.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = stanchion::LruCache::new(2);
    /// cache.insert("key".to_owned(), 1);
    /// assert_eq!(cache.get("key"), Some(1));
    /// assert_eq!(cache.get("other"), None);
    /// ```
    #[inline]
    pub fn get<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        V: Clone,
    {
        // Without a clock this is shorter.
        if self.settings.clock.is_none() { self.get_at(key, None) } else { self.get_timed(key) }
    }

    /// The value of a key, which is not used by this: neither does it become the most recent, nor is it counted.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = stanchion::LruCache::new(2);
    /// cache.insert("old", 1);
    /// cache.insert("new", 2);
    /// assert_eq!(cache.peek("old"), Some(1));
    /// assert_eq!(cache.pop_lru(), Some(("old", 1))); // still the least recently used
    /// ```
    pub fn peek<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        V: Clone,
    {
        self.inspect(key, V::clone)
    }

    /// Whether a key is there, which is not used by this.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = stanchion::LruCache::new(2);
    /// cache.insert("key", 1);
    /// assert!(cache.contains_key("key"));
    /// ```
    pub fn contains_key<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.inspect(key, |_| ()).is_some()
    }

    /// Stores a value, and returns the one that it replaces. The key that is there stays.
    ///
    /// Who waits for the key to be loaded is given this value, and what is loaded will not be stored. An entry that is
    /// heavier than the capacity (of its shard) is dropped, and what it would have replaced is removed and returned.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = stanchion::LruCache::new(2);
    /// assert_eq!(cache.insert("key", 1), None);
    /// assert_eq!(cache.insert("key", 2), Some(1));
    /// ```
    pub fn insert(&self, key: K, value: V) -> Option<V>
    where
        V: Clone,
    {
        let pair = Pair::new((key, value));
        let (section, hash) = self.locate(pair.key());
        let weight = self.settings.weigher.as_ref().map(|weigh| weigh(pair.key(), pair.value()));
        let terms = self.terms(weight);
        let for_waiters;
        let mut overtaken = None;
        let mut gone = Gone::new();
        let replaced = {
            let mut section = section.lock();
            let Section { shard, flights } = &mut *section;
            let flight = flights.find(hash, pair.key());
            let found = shard.find(hash, pair.key());
            for_waiters = flight.filter(|&flight| flights.is_awaited(flight)).map(|_| pair.value().clone());
            // No foreign code from here on.
            if let Some(flight) = flight {
                let (key, batch) = flights.overtake(flight, for_waiters);
                gone.extend(key.map(Piece::Key));
                overtaken = Some((flight, batch));
            }
            let found = shard.live(found, terms.now, &mut gone);
            shard.insert(found, hash, pair.into_inner(), terms, &mut gone)
        };
        match overtaken {
            None => self.settle(gone, replaced),
            Some((flight, batch)) => self.settle_and_wake(gone, section, flight, batch, replaced),
        }
    }

    /// Takes a key out, and returns its value. Nothing is stored of what is being loaded for it.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = stanchion::LruCache::new(2);
    /// cache.insert("key", 1);
    /// assert_eq!(cache.remove("key"), Some(1));
    /// assert_eq!(cache.remove("key"), None);
    /// ```
    pub fn remove<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let (key, value) = self.remove_entry(key)?;
        let mut panics = Panics::default();
        panics.catch(|| drop(key));
        Some(panics.resume_or(value))
    }

    /// [Removes](Self::remove) a key, and returns it together with its value.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = stanchion::LruCache::new(2);
    /// cache.insert("key".to_owned(), 1);
    /// assert_eq!(cache.remove_entry("key"), Some(("key".to_owned(), 1)));
    /// ```
    pub fn remove_entry<Q>(&self, key: &Q) -> Option<(K, V)>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let now = self.now();
        let (section, hash) = self.locate(key);
        let mut gone = Gone::new();
        let entry = {
            let mut section = section.lock();
            let Section { shard, flights } = &mut *section;
            let flight = flights.find(hash, key);
            let found = shard.find(hash, key);
            // No foreign code from here on.
            let found = shard.live(found, now, &mut gone);
            gone.extend(flight.and_then(|flight| flights.invalidate(flight)).map(Piece::Key));
            found.map(|found| shard.remove(found))
        };
        self.settle(gone, entry.map(Pair::new)).map(Pair::into_inner)
    }

    /// The value of a key, which is made and stored if it is not there. Threads that want it meanwhile wait for it.
    ///
    /// It is [`get_or_load`](Self::get_or_load) for threads; both wait for each other. Do not call it on a thread that
    /// an async runtime runs its tasks on, unless nobody loads asynchronously.
    ///
    /// # Panics
    ///
    /// When `make` does; another one of those who wait makes the value then. When `make` asks for the key that it is
    /// called for by this method or its fallible form.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = stanchion::LruCache::<String, usize>::new(100);
    /// assert_eq!(cache.get_or_insert_with("six", || 6), 6);
    /// assert_eq!(cache.get_or_insert_with("six", || unreachable!()), 6);
    /// ```
    pub fn get_or_insert_with<Q>(&self, key: &Q, make: impl FnOnce() -> V) -> V
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
        V: Clone,
    {
        unfailing(self.try_get_or_insert_with(key, || Ok(make())))
    }

    /// The value of a key, which is made and stored if it is not there and `make` succeeds.
    ///
    /// # Errors
    ///
    /// That of `make`, or of somebody else's that was waited for, if it is of the same type. It is not remembered.
    ///
    /// # Panics
    ///
    /// As [`get_or_insert_with`](Self::get_or_insert_with) does.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = stanchion::LruCache::<String, u16>::new(100);
    /// let number = |text: &str| cache.try_get_or_insert_with(text, || text.parse::<u16>());
    /// assert_eq!(number("80").unwrap(), 80);
    /// assert!(number("eighty").is_err());
    /// ```
    pub fn try_get_or_insert_with<Q, E>(&self, key: &Q, make: impl FnOnce() -> Result<V, E>) -> Result<V, Arc<E>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
        V: Clone,
        E: Send + Sync + 'static,
    {
        let make = Guarded(Some(make));
        let place = self.locate(key);
        match self.look(place, key) {
            Ok(value) => Ok(Panics::of_drops([make]).resume_or(value)),
            Err(needs) => {
                let thread = sync::current_thread().id();
                blocking::wait(self.load(place, key, make, |make| ready(make()), needs, Some(thread)))
            }
        }
    }

    /// The value of a key, which is loaded and stored if it is not there. Everybody who wants it meanwhile waits for
    /// that one load.
    ///
    /// The future that `load` makes is driven by the caller who was first, as part of this future. Inserting the key
    /// meanwhile gives those who wait that value instead; [removing](Self::remove) or [clearing](Self::clear) it lets
    /// those who ask later load anew. In both cases what this load yields is returned, and not stored. A value that is
    /// too heavy is not stored either.
    ///
    /// A loader may load other keys. One that waits for its own, or for one that waits for its own, waits for ever.
    ///
    /// # Cancel safety
    ///
    /// If this future is dropped while it loads, the longest waiting caller loads in its place, from the beginning and with
    /// its own `load` (see [Fairness](LruCache#fairness)). If it is not polled any more, those who wait go on waiting.
    ///
    /// So callers that are less patient than a load takes never fill the cache: each gives its load up, and the next one
    /// begins again. Where calls have a timeout, spawn the load and put the timeout on the handle, as here with tokio; then
    /// the load goes on, and a later caller finds its value:
    ///
    /// ```
    /// # use stanchion::LruCache;
    /// # use std::{sync::Arc, time::Duration};
    /// # use tokio::time::{error::Elapsed, sleep, timeout};
    /// # async fn query(id: u32) -> String { sleep(Duration::from_millis(50)).await; format!("product {id}") }
    /// async fn product(cache: &Arc<LruCache<u32, String>>, id: u32) -> Result<String, Elapsed> {
    ///     if let Some(name) = cache.get(&id) {
    ///         return Ok(name);
    ///     }
    ///     let cache = cache.clone();
    ///     let load = tokio::spawn(async move { cache.get_or_load(&id, || query(id)).await });
    ///     Ok(timeout(Duration::from_millis(20), load).await?.expect("the query does not panic"))
    /// }
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let cache = Arc::new(LruCache::new(100));
    /// while product(&cache, 7).await.is_err() {} // some time out
    /// assert_eq!(cache.stats().loads, 1);
    /// # });
    /// ```
    ///
    /// # Panics
    ///
    /// When `load` does; the longest waiting caller loads in its place.
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::{LruCache, blocking};
    ///
    /// async fn query(id: u32) -> String {
    ///     format!("product {id}")
    /// }
    ///
    /// let cache = LruCache::<u32, String>::new(100);
    /// let name = blocking::wait(cache.get_or_load(&7, || query(7)));
    /// assert_eq!(name, "product 7");
    /// assert_eq!(cache.stats().loads, 1);
    /// ```
    pub async fn get_or_load<Q, F, Fut>(&self, key: &Q, load: F) -> V
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
        V: Clone,
        F: FnOnce() -> Fut,
        Fut: Future<Output = V>,
    {
        unfailing(self.try_get_or_load(key, || Unfailing::new(load())).await)
    }

    /// The value of a key, which is loaded and stored if it is not there and `load` succeeds.
    ///
    /// All that [`get_or_load`](Self::get_or_load) says is true of this, too.
    ///
    /// # Cancel safety
    ///
    /// As that of [`get_or_load`](Self::get_or_load).
    ///
    /// # Errors
    ///
    /// That of the load, which goes to everybody who waits for it and expects errors of the same type. Of the others one
    /// loads in its place, and the rest wait for that. It is not remembered.
    ///
    /// # Panics
    ///
    /// When `load` does; the longest waiting caller loads in its place.
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::{LruCache, blocking};
    ///
    /// let cache = LruCache::<String, u16>::new(100);
    /// let parsed = blocking::wait(cache.try_get_or_load("eighty", || async { "eighty".parse::<u16>() }));
    /// assert!(parsed.is_err());
    /// assert!(cache.is_empty());
    /// ```
    pub async fn try_get_or_load<Q, F, Fut, E>(&self, key: &Q, load: F) -> Result<V, Arc<E>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
        V: Clone,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<V, E>>,
        E: Send + Sync + 'static,
    {
        let load = Guarded(Some(load));
        let place = self.locate(key);
        match self.look(place, key) {
            Ok(value) => Ok(Panics::of_drops([load]).resume_or(value)),
            Err(needs) => self.load(place, key, load, |load| load(), needs, None).await,
        }
    }

    #[inline(never)]
    fn get_timed<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        V: Clone,
    {
        self.get_at(key, self.now())
    }

    #[inline(always)]
    fn get_at<Q>(&self, key: &Q, now: Option<Instant>) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        V: Clone,
    {
        let (section, hash) = self.locate(key);
        let mut section = section.lock();
        let shard = &mut section.shard;
        let found = shard.find(hash, key);
        if let Some(live) = found.filter(|&found| !shard.is_over(found, now)) {
            let value = shard.get(live);
            shard.stats.hits += 1;
            return Some(value);
        }
        shard.stats.misses += 1;
        self.unlock_without(found, now, section);
        None
    }

    /// A first look, before there is anything to wait with: the value, or what is needed to get it.
    #[inline(always)]
    fn look<Q>(&self, (section, hash): Place<'_, K, V>, key: &Q) -> Result<V, Needs>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
        V: Clone,
    {
        let now = self.now();
        let mut section = section.lock();
        let Section { shard, flights } = &mut *section;
        if let Some(live) = shard.find(hash, key).filter(|&found| !shard.is_over(found, now)) {
            let value = shard.get(live);
            shard.stats.hits += 1;
            return Ok(value);
        }
        Err(if flights.find(hash, key).is_some() { Needs::Waker } else { Needs::Key })
    }

    fn inspect<Q, R>(&self, key: &Q, look: impl FnOnce(&V) -> R) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let now = self.now();
        let (section, hash) = self.locate(key);
        let section = section.lock();
        let found = section.shard.find(hash, key);
        if let Some(live) = found.filter(|&found| !section.shard.is_over(found, now)) {
            return Some(look(section.shard.peek(live)));
        }
        self.unlock_without(found, now, section);
        None
    }

    #[inline(always)]
    fn locate<Q: Hash + ?Sized>(&self, key: &Q) -> Place<'_, K, V> {
        // Folded once more, so that no bits of a weak hash decide alone: shard and place in it are from different ones.
        let product = u128::from(self.hasher.hash_one(key)) * 0x9E37_79B9_7F4A_7C15;
        let hash = (product >> 64) as u64 ^ product as u64;
        let in_shard = NonZeroU32::new(hash as u32).unwrap_or(NonZeroU32::MIN);
        let section = match self.others.len() {
            0 => &self.first,
            others => match (((hash >> 32) * (others as u64 + 1)) >> 32) as usize {
                0 => &self.first,
                place => &self.others[place - 1],
            },
        };
        (&section.0, in_shard)
    }
}

impl<K, V, S> LruCache<K, V, S> {
    fn sections(&self) -> impl Iterator<Item = &Locked<K, V>> {
        once(&self.first).chain(&self.others).map(|section| &section.0)
    }

    #[inline(always)]
    fn now(&self) -> Option<Instant> {
        self.settings.clock.as_ref().map(|now| now())
    }

    /// The weight of a value with a key that is made for this: that of the flight is behind the lock.
    fn weigh(&self, key: impl FnOnce() -> K, value: &V) -> Option<u64> {
        let weigh = self.settings.weigher.as_ref()?;
        let key = Guarded(Some(key()));
        Some(weigh(key.0.as_ref().expect("it is taken by nothing but its drop"), value))
    }

    #[inline(always)]
    fn terms(&self, weight: Option<u64>) -> Terms {
        let now = self.now();
        // What lives longer than the clock can tell does not end.
        let end = now.zip(self.settings.time_to_live).and_then(|(now, longest)| now.checked_add(longest));
        Terms { weight, now, end }
    }

    /// Unlocks a shard, and takes an entry out of it that is over, if one was found.
    #[inline(always)]
    fn unlock_without(&self, found: Option<Key>, now: Option<Instant>, section: Guard<'_, K, V>) {
        if found.is_some() {
            self.unlock_without_expired(found, now, section);
        }
    }

    #[cold]
    fn unlock_without_expired(&self, found: Option<Key>, now: Option<Instant>, mut section: Guard<'_, K, V>) {
        let mut gone = Gone::new();
        section.shard.live(found, now, &mut gone);
        drop(section);
        self.settle(gone, ());
    }

    /// Reports and drops what has left, and gives back what the caller has in hand.
    #[inline(always)]
    fn settle<R>(&self, gone: Gone<K, V>, in_hand: R) -> R {
        let unnoticed = self.settings.listener.is_none() && !needs_drop::<(K, V)>();
        if unnoticed || gone.is_empty() { in_hand } else { self.settle_noticed(gone).resume_or(in_hand) }
    }

    #[inline(never)]
    fn settle_noticed(&self, gone: Gone<K, V>) -> Panics {
        let mut panics = Panics::default();
        self.bury(gone, &mut panics);
        panics
    }

    /// [Settles](Self::settle), and wakes then. What a waker panics with is its own affair: there is something in hand.
    fn settle_and_wake<R>(
        &self,
        gone: Gone<K, V>,
        section: &Locked<K, V>,
        flight: Key,
        batch: WakeBatch,
        in_hand: R,
    ) -> R {
        let panics = self.settle_noticed(gone);
        let mut of_wakers = Panics::default();
        wake(section, flight, batch, &mut of_wakers);
        of_wakers.discard();
        panics.resume_or(in_hand)
    }

    /// Reports and drops what has left, each piece for itself: a panic of one neither keeps the others nor meets
    /// theirs.
    fn bury(&self, gone: Gone<K, V>, panics: &mut Panics) {
        for piece in gone {
            match (piece, &self.settings.listener) {
                (Piece::Entry(key, value, Some(cause)), Some(tell)) => {
                    panics.catch(|| tell(key, value, cause));
                }
                (Piece::Entry(key, value, _), _) => {
                    panics.catch(|| drop(key));
                    panics.catch(|| drop(value));
                }
                (Piece::Key(key), _) => {
                    panics.catch(|| drop(key));
                }
                (Piece::Value(value), _) => {
                    panics.catch(|| drop(value));
                }
            }
        }
    }
}

/// A key and a value in hand while user code runs: if that panics and they panic when they are dropped, nothing aborts.
struct Pair<K, V> {
    key: Guarded<K>,
    value: Guarded<V>,
}

impl<K, V> Pair<K, V> {
    fn new((key, value): (K, V)) -> Self {
        Self { key: Guarded(Some(key)), value: Guarded(Some(value)) }
    }

    fn key(&self) -> &K {
        self.key.0.as_ref().expect("a pair has its key until it is taken apart")
    }

    fn value(&self) -> &V {
        self.value.0.as_ref().expect("a pair has its value until it is taken apart")
    }

    fn into_inner(mut self) -> (K, V) {
        self.key.0.take().zip(self.value.0.take()).expect("a pair is taken apart once")
    }
}

/// Each shard's share of the capacity: together all of it.
fn share(capacity: usize, shards: usize, place: usize) -> usize {
    capacity / shards + usize::from(place < capacity % shards)
}

fn unfailing<V>(result: Result<V, Arc<Infallible>>) -> V {
    result.unwrap_or_else(|never| match *never {})
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

impl<K, V, S> fmt::Debug for LruCache<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("LruCache");
        // Copied out before anything is written: the writer is foreign code.
        let capacity = self.capacity.try_lock().map(|capacity| *capacity);
        let sizes = self.sections().map(|section| section.try_lock().map(|it| (it.shard.len(), it.shard.weight())));
        let sizes = sizes.collect::<Option<Vec<_>>>();
        if let Some(capacity) = capacity {
            out.field("capacity", &capacity);
        }
        if let Some(sizes) = sizes {
            out.field("len", &sizes.iter().map(|(len, _)| len).sum::<usize>());
            out.field("weight", &sizes.iter().map(|(_, weight)| weight).sum::<u64>());
        }
        out.field("shards", &(1 + self.others.len())).finish_non_exhaustive()
    }
}

impl<K, V, S> fmt::Debug for LruCacheBuilder<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LruCacheBuilder")
            .field("capacity", &self.capacity)
            .field("shards", &self.shards)
            .field("time_to_live", &self.settings.time_to_live)
            .finish_non_exhaustive()
    }
}

impl<K, V, S: Unpin> Unpin for LruCache<K, V, S> {}

// A panic of foreign code leaves every invariant intact.
impl<K, V, S> UnwindSafe for LruCache<K, V, S> {}
impl<K, V, S> RefUnwindSafe for LruCache<K, V, S> {}

#[cfg(any(test, fuzzing, loom, debug_assertions))]
impl<K, V, S> LruCache<K, V, S> {
    /// Checks every invariant.
    ///
    /// # Panics
    ///
    /// When one does not hold.
    #[doc(hidden)]
    pub fn validate(&self) {
        for section in self.sections() {
            let section = section.lock();
            section.shard.validate();
            section.flights.validate();
        }
    }

    /// How many loads are under way, or not forgotten yet.
    #[doc(hidden)]
    pub fn flights(&self) -> usize {
        self.sections().map(|section| section.lock().flights.len()).sum()
    }
}

#[cfg(any(fuzzing, all(test, not(loom))))]
#[doc(hidden)]
pub use shard::sequence as shard_sequence;
