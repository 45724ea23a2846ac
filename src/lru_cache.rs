//! The public API of the cache: a shared LRU cache with single-flight loading.
//!
//! **A shard** is one lock around entries in the order of their use ([`shard`]) and the loads that are in flight
//! ([`flight`]). A key belongs to one shard, chosen by its hash, which is taken before the lock. With one shard, the
//! default, the order is that of the whole cache.
//!
//! **A call** asks the user's hasher, weigher and clock; locks the shard, compares keys, clones the value; from there
//! on runs no user code, changes what is to be changed, and unlocks; then reports, drops and wakes ([`deferred`]). So a
//! panic before the change leaves everything as it was, and one after it finds everything done. `update` alone changes
//! a value by user code under the lock, and weighs it there.
//!
//! **Lock order**: the capacity, which is locked only to change or read it, then one shard at a time.
//!
//! **Ordering.** What a value brings along is published by the shard's lock: storing it happens before the lookup that
//! finds it, and a load before the return of every caller that is given what it loaded.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::iter::once;
use std::mem::{forget, needs_drop};
use std::panic::{RefUnwindSafe, UnwindSafe};

use crate::panic::{Guarded, Panics};
use crate::sync;

mod builder;
mod columns;
mod deferred;
mod flight;
mod load;
mod pair;
mod shard;
mod stats;
mod whole;

pub use builder::LruCacheBuilder;
pub use stats::{Cause, Stats};

use builder::Settings;
use columns::{Terms, Tick};
use deferred::Deferred;
use flight::Flights;
use pair::Pair;
use shard::{Part, Shard};

/// A cache of limited capacity, which evicts the least recently used entries and loads each key once.
///
/// [`get`](Self::get) and [`insert`](Self::insert) work as they do on a map, through a shared reference. Values that
/// are costly to look up are loaded by [`get_or_load`](Self::get_or_load): the first caller that misses loads the
/// value, and callers that ask for the same key meanwhile wait for that one load.
///
/// Values are cloned out, under a lock: keep an [`Arc`](std::sync::Arc) if a clone is not cheap. `Eq` and `Borrow` of
/// keys, `Clone`, and the closures of [`retain`](Self::retain), [`for_each`](Self::for_each), [`update`](Self::update)
/// and [`remove_if`](Self::remove_if) run under that lock and must not use the cache. Hashers, loaders, listeners and
/// all drops run without it, and may; so do weighers, except for `update`.
///
/// # Order
///
/// A use is a `get` or an `update` that finds the key, an insertion or replacement, and a load that stores a value or
/// finds one. The order is exact, whatever the number of threads; with several [shards](LruCacheBuilder::shards) it is
/// exact within each.
///
/// # Capacity
///
/// It is counted in entries, or in their weights if there is a [weigher](LruCacheBuilder::weigher), and is never
/// exceeded, not even for a moment. With several shards each has its share.
///
/// Memory is allocated as entries are inserted, by doubling but not beyond the capacity: such an insertion takes time
/// in proportion to the entries of its shard. It is kept for later entries, until the shard is empty;
/// [`clear`](Self::clear), [`retain`](Self::retain) and a lower [capacity](Self::set_capacity) give back what is not
/// needed for those that stay. An empty shard keeps room for a thousand entries, unless it was cleared. An entry takes,
/// beside key and value, 16 bytes for links and hash, 8 to 16 bytes in the table, and 8 bytes more for each of these
/// that the cache has: a weigher; a [time to live](LruCacheBuilder::time_to_live) or
/// [`expire_after`](LruCacheBuilder::expire_after); a [time to idle](LruCacheBuilder::time_to_idle).
///
/// # Fairness
///
/// All callers that wait for a load are served at once. If the loading future is dropped or panics, the caller that has
/// waited longest loads next; but if the key was removed before that, all waiting callers start again, and whichever is
/// polled first loads. Where calls have a timeout, see [`get_or_load`](Self::get_or_load).
///
/// # Memory ordering
///
/// Everything that happened before a value was inserted, or returned by a loader, happens before any lookup or load
/// that gives it.
///
/// # Panics
///
/// A panic of user code reaches the caller; that of a waker that is woken, only out of the drop of a load. A panic
/// before the cache is changed (in hashing, comparing, weighing, cloning, loading) leaves it as it was, except in
/// [`update`](Self::update). After a panic in a listener or a drop the change has been made, and what the call would
/// have returned is lost.
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
/// cache.insert("plums", 7); // evicts the pears
/// assert_eq!(cache.entries(), [("plums", 7), ("apples", 3)]);
/// ```
///
#[doc = include_str!("lru_cache/recipes.md")]
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

/// The data under one lock.
struct State<K, V> {
    shard: Shard<K, V>,
    flights: Flights<K, V>,
}

type Locked<K, V> = sync::Mutex<State<K, V>>;

/// The shard of a key, and the hash of the key there.
type Place<'c, K, V> = (&'c Locked<K, V>, u32);

impl<K, V> LruCache<K, V> {
    /// Creates a cache for up to `capacity` entries. With 0 it stores nothing.
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

    /// Returns a builder for a cache that is more than [`new`](Self::new) makes.
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
    ///     .on_evict(|path, _, cause| println!("{path} was removed: {cause:?}"))
    ///     .build();
    /// pages.insert("/".to_owned(), vec![0; 1000]);
    /// assert_eq!(pages.weight(), 1001);
    /// ```
    pub fn builder(capacity: usize) -> LruCacheBuilder<K, V> {
        LruCacheBuilder::new(capacity, RandomState::new())
    }
}

impl<K, V, S> LruCache<K, V, S> {
    /// Creates a cache for up to `capacity` entries, with keys hashed by `hasher`.
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
}

impl<K, V, S> LruCache<K, V, S>
where
    K: Hash + Eq,
    S: BuildHasher,
{
    /// Returns the value of a key, which becomes the most recently used one.
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
        if self.settings.has_clock() { self.get_timed(key) } else { self.get_at(key, None) }
    }

    /// Returns the value of a key. This counts neither as a use nor as a hit or miss.
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

    /// Returns `true` if the key has an entry. This counts neither as a use nor as a hit or miss.
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
    /// Callers that wait for the key to be loaded are given this value, and what is being loaded will not be stored. An
    /// entry that is heavier than the capacity (of its shard) is dropped, and the value that it would have replaced is
    /// removed and returned.
    ///
    /// Takes time in proportion to the entries that are evicted; see also [Capacity](LruCache#capacity).
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
        let place = self.locate(pair.key());
        // What needs no callback and no clock is shorter.
        if self.settings.is_plain() { self.store(place, pair, Terms::PLAIN) } else { self.store_on_terms(place, pair) }
    }

    /// Changes the value of a key in place, and returns what `change` returns; `None` if the key is absent.
    ///
    /// It is atomic: `change` runs under the lock, and must not use the cache. This is a use of the entry, and a hit or
    /// a miss. The entry does not live longer for it, except that its [time to idle](LruCacheBuilder::time_to_idle)
    /// begins again. It is weighed again, also under the lock: others are evicted if it has become heavier, or only
    /// itself if it is too heavy for its shard. A load in flight is not touched.
    ///
    /// Takes time in proportion to the entries that are evicted.
    ///
    /// # Panics
    ///
    /// When `change` or the weigher does. What `change` did to the value stays; the entry keeps its weight, its place
    /// in the order, and its expiry.
    ///
    /// # Examples
    ///
    /// ```
    /// let requests = stanchion::LruCache::new(1000);
    /// requests.insert("127.0.0.1", 1);
    /// let count = requests.update("127.0.0.1", |count| {
    ///     *count += 1;
    ///     *count
    /// });
    /// assert_eq!(count, Some(2));
    /// ```
    pub fn update<Q, R>(&self, key: &Q, change: impl FnOnce(&mut V) -> R) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let mut change = Guarded(Some(change));
        let mut output = Guarded(None);
        let now = self.settings.now();
        let (locked, hash) = self.locate(key);
        let mut deferred = Deferred::new();
        {
            let mut state = locked.lock();
            let shard = &mut state.shard;
            let found = shard.find(hash, key);
            if let Some(live) = shard.live(found, now, &mut deferred.removed) {
                let change = change.0.take().expect("the closure is called once");
                output.0 = Some(change(shard.value_mut(live)));
                let (key, value) = shard.entry(live);
                let weight = self.settings.weigh(key, value);
                // No user code from here on.
                shard.stats.hits += 1;
                shard.touch(live, self.settings.idle_expires_at(now));
                if let Some(weight) = weight {
                    shard.set_newest_weight(weight, now, &mut deferred.removed);
                }
            } else {
                shard.stats.misses += 1;
            }
        }
        self.finish(deferred, locked, output.0.take())
    }

    /// Removes a key, and returns its value. The result of a load in flight will not be stored.
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
        Some(Panics::of_drops([key]).resume_or(value))
    }

    /// Removes a key if `condition` returns true for its entry, and returns its value.
    ///
    /// It is atomic: `condition` runs under the lock, and must not use the cache. If it returns false, this
    /// counts neither as a use nor as a hit or miss. A load in flight is not touched.
    ///
    /// # Examples
    ///
    /// A token that the server has refused is removed only if it is still the one that was used. So of all callers that
    /// meet it one fetches another, and none removes what that one has fetched:
    ///
    /// ```
    /// use stanchion::LruCache;
    /// use std::sync::Arc;
    ///
    /// let tokens = LruCache::<&str, Arc<str>>::new(10);
    /// tokens.insert("server", "old".into());
    /// let refused = tokens.get("server").unwrap();
    /// tokens.insert("server", "new".into()); // by another caller, which was faster
    /// assert_eq!(tokens.remove_if("server", |_, token| Arc::ptr_eq(token, &refused)), None);
    /// assert_eq!(tokens.get("server").as_deref(), Some("new"));
    /// ```
    pub fn remove_if<Q>(&self, key: &Q, condition: impl FnOnce(&K, &V) -> bool) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let mut condition = Guarded(Some(condition));
        let now = self.settings.now();
        let (locked, hash) = self.locate(key);
        let mut deferred = Deferred::new();
        let removed = {
            let shard = &mut locked.lock().shard;
            let found = shard.find(hash, key);
            let live = found.filter(|&found| !shard.is_expired(found, now));
            let is_met = live.is_some_and(|live| {
                let (key, value) = shard.entry(live);
                condition.0.take().is_some_and(|condition| condition(key, value))
            });
            // No user code from here on.
            match live {
                Some(live) if is_met => Some(shard.remove(live, &mut deferred.removed)),
                Some(_) => None,
                None => {
                    shard.live(found, now, &mut deferred.removed);
                    None
                }
            }
        };
        let value = removed.map(|(key, value)| {
            deferred.removed.push(Part::Key(key));
            value
        });
        self.finish(deferred, locked, value)
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
        let now = self.settings.now();
        let (locked, hash) = self.locate(key);
        let mut deferred = Deferred::new();
        let entry = {
            let mut state = locked.lock();
            let State { shard, flights } = &mut *state;
            let load = flights.find(hash, key);
            let found = shard.find(hash, key);
            // No user code from here on.
            let found = shard.live(found, now, &mut deferred.removed);
            deferred.removed.extend(load.and_then(|load| flights.invalidate(load)).map(Part::Key));
            found.map(|found| shard.remove(found, &mut deferred.removed))
        };
        self.finish(deferred, locked, entry.map(Pair::new)).map(Pair::into_inner)
    }

    #[inline(never)]
    fn store_on_terms(&self, place: Place<'_, K, V>, pair: Pair<K, V>) -> Option<V>
    where
        V: Clone,
    {
        let terms = self.settings.terms(self.settings.appraise(pair.key(), pair.value()));
        self.store(place, pair, terms)
    }

    #[inline(always)]
    fn store(&self, (locked, hash): Place<'_, K, V>, pair: Pair<K, V>, terms: Terms) -> Option<V>
    where
        V: Clone,
    {
        let mut deferred = Deferred::new();
        let replaced = {
            let mut state = locked.lock();
            let State { shard, flights } = &mut *state;
            let load = flights.find(hash, pair.key());
            let found = shard.find(hash, pair.key());
            let for_followers = load.filter(|&load| flights.is_awaited(load)).map(|_| pair.value().clone());
            // No user code from here on.
            if let Some(load) = load {
                flights.supersede(load, for_followers, &mut deferred);
            }
            let found = shard.live(found, terms.now, &mut deferred.removed);
            shard.insert(found, hash, pair.into_inner(), terms, &mut deferred.removed)
        };
        self.finish(deferred, locked, replaced)
    }

    #[inline(never)]
    fn get_timed<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        V: Clone,
    {
        self.get_at(key, self.settings.now())
    }

    #[inline(always)]
    fn get_at<Q>(&self, key: &Q, now: Option<Tick>) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        V: Clone,
    {
        let idle_expires_at = self.settings.idle_expires_at(now);
        let (locked, hash) = self.locate(key);
        let mut state = locked.lock();
        let shard = &mut state.shard;
        let found = shard.find(hash, key);
        if let Some(live) = found.filter(|&found| !shard.is_expired(found, now)) {
            let value = shard.get(live, idle_expires_at);
            shard.stats.hits += 1;
            return Some(value);
        }
        shard.stats.misses += 1;
        if found.is_some() {
            self.expire(found, now, locked, state);
        }
        None
    }

    fn inspect<Q, R>(&self, key: &Q, look: impl FnOnce(&V) -> R) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let now = self.settings.now();
        let (locked, hash) = self.locate(key);
        let state = locked.lock();
        let found = state.shard.find(hash, key);
        if let Some(live) = found.filter(|&found| !state.shard.is_expired(found, now)) {
            return Some(look(state.shard.entry(live).1));
        }
        if found.is_some() {
            self.expire(found, now, locked, state);
        }
        None
    }

    #[inline(always)]
    fn locate<Q: Hash + ?Sized>(&self, key: &Q) -> Place<'_, K, V> {
        // Folded once more, so that no bits of a weak hash decide alone: shard and place in it are from different ones.
        let product = u128::from(self.hasher.hash_one(key)) * 0x9E37_79B9_7F4A_7C15;
        let hash = (product >> 64) as u64 ^ product as u64;
        let shard = match self.others.len() {
            0 => &self.first,
            others => match (((hash >> 32) * (others as u64 + 1)) >> 32) as usize {
                0 => &self.first,
                number => &self.others[number - 1],
            },
        };
        (&shard.0, hash as u32)
    }
}

impl<K, V, S> LruCache<K, V, S> {
    fn shards(&self) -> impl Iterator<Item = &Locked<K, V>> {
        once(&self.first).chain(&self.others).map(|shard| &shard.0)
    }

    /// Removes an entry that was found expired, and unlocks.
    #[cold]
    fn expire(
        &self,
        found: Option<u32>,
        now: Option<Tick>,
        locked: &Locked<K, V>,
        mut state: sync::MutexGuard<'_, State<K, V>>,
    ) {
        let mut deferred = Deferred::new();
        state.shard.live(found, now, &mut deferred.removed);
        drop(state);
        self.finish(deferred, locked, ());
    }

    /// Does what was put off until the shard was unlocked, and gives back what the caller has in hand.
    #[inline(always)]
    fn finish<R>(&self, deferred: Deferred<K, V>, locked: &Locked<K, V>, output: R) -> R {
        let is_unnoticed = self.settings.listener.is_none() && !needs_drop::<(K, V)>();
        if deferred.of_load.is_none() && (is_unnoticed || deferred.removed.is_empty()) {
            // Nothing is left to drop but room for parts, which is shorter when it is said.
            forget(deferred.of_load);
            return output;
        }
        let mut panics = Panics::default();
        deferred.run(&self.settings, locked, &mut panics);
        panics.resume_or(output)
    }
}

/// Each shard's share of the capacity: together all of it.
fn share(capacity: usize, shards: usize, number: usize) -> usize {
    capacity / shards + usize::from(number < capacity % shards)
}

impl<K, V, S> fmt::Debug for LruCache<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("LruCache");
        // Copied out before anything is written: the writer is user code.
        let capacity = self.capacity.try_lock().map(|capacity| *capacity);
        let sizes = self.shards().map(|shard| shard.try_lock().map(|state| (state.shard.len(), state.shard.weight())));
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

impl<K, V, S: Unpin> Unpin for LruCache<K, V, S> {}

// A panic of user code leaves every invariant intact.
impl<K, V, S> UnwindSafe for LruCache<K, V, S> {}
impl<K, V, S> RefUnwindSafe for LruCache<K, V, S> {}

impl<K, V, S> LruCache<K, V, S> {
    /// Checks every invariant, for tests.
    ///
    /// # Panics
    ///
    /// When one does not hold.
    #[doc(hidden)]
    pub fn validate(&self) {
        for shard in self.shards() {
            let state = shard.lock();
            state.shard.validate();
            state.flights.validate();
        }
    }

    /// The number of loads in flight, or with members that have not left yet.
    #[doc(hidden)]
    pub fn flights(&self) -> usize {
        self.shards().map(|shard| shard.lock().flights.len()).sum()
    }
}
