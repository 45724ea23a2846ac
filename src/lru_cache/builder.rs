//! Setting up a cache: its builder, and the settings that do not change while it lives.

use std::fmt;
use std::hash::RandomState;
use std::time::{Duration, Instant};

use super::columns::{Asked, NEVER, Terms, Tick};
use super::shard::Shard;
use super::{Cause, Flights, LruCache, Padded, State, share};
use crate::sync;

pub(super) struct Settings<K, V> {
    weigher: Option<Box<Weigher<K, V>>>,
    expire_after: Option<Box<ExpireAfter<K, V>>>,
    time_to_live: Option<Duration>,
    time_to_idle: Option<Duration>,
    /// `None` if nothing expires: then no clock is read.
    clock: Option<Clock>,
    pub(super) listener: Option<Box<Listener<K, V>>>,
}

struct Clock {
    now: Box<dyn Fn() -> Instant + Send + Sync>,
    built: Instant,
}

type Weigher<K, V> = dyn Fn(&K, &V) -> u64 + Send + Sync;
type ExpireAfter<K, V> = dyn Fn(&K, &V) -> Option<Duration> + Send + Sync;
type Listener<K, V> = dyn Fn(K, V, Cause) + Send + Sync;

/// The answers of the callbacks that are asked about an entry before it is stored.
#[derive(Clone, Copy)]
pub(super) struct Appraisal {
    weight: u64,
    time_to_live: Option<Duration>,
}

impl Appraisal {
    /// That of an entry which no callback is asked about.
    pub(super) const DEFAULT: Self = Self { weight: 1, time_to_live: None };
}

impl Clock {
    fn ticks(&self) -> Tick {
        let now = (self.now)();
        let ticks = match now.checked_duration_since(self.built) {
            Some(later) => BUILT.saturating_add(ticks(later)),
            None => BUILT.saturating_sub(ticks(self.built - now)),
        };
        ticks.min(NEVER - 1)
    }
}

impl<K, V> Settings<K, V> {
    #[inline(always)]
    pub(super) fn has_clock(&self) -> bool {
        self.clock.is_some()
    }

    /// `None` if nothing expires.
    #[inline(always)]
    pub(super) fn now(&self) -> Option<Tick> {
        self.clock.as_ref().map(Clock::ticks)
    }

    /// When an entry that is used now expires if it is not used again, if there is such a limit.
    #[inline(always)]
    pub(super) fn idle_expires_at(&self, now: Option<Tick>) -> Option<Tick> {
        now.zip(self.time_to_idle).map(|(now, longest)| now.saturating_add(ticks(longest)))
    }

    /// Returns true if there is a callback to ask about entries.
    #[inline(always)]
    pub(super) fn has_appraisers(&self) -> bool {
        self.weigher.is_some() || self.expire_after.is_some()
    }

    /// Returns true if entries are neither weighed nor expire.
    #[inline(always)]
    pub(super) fn is_plain(&self) -> bool {
        self.weigher.is_none() && self.clock.is_none()
    }

    /// Asks the callbacks about an entry.
    #[inline(always)]
    pub(super) fn appraise(&self, key: &K, value: &V) -> Appraisal {
        let weight = self.weigher.as_ref().map_or(1, |weigh| weigh(key, value));
        let time_to_live = self.expire_after.as_ref().and_then(|expire_after| expire_after(key, value));
        Appraisal { weight, time_to_live }
    }

    /// The weight of an entry that has changed; `None` if entries are not weighed.
    pub(super) fn weigh(&self, key: &K, value: &V) -> Option<u64> {
        self.weigher.as_ref().map(|weigh| weigh(key, value))
    }

    /// The terms on which an entry is stored now.
    #[inline(always)]
    pub(super) fn terms(&self, Appraisal { weight, time_to_live }: Appraisal) -> Terms {
        let now = self.now();
        let longest = time_to_live.into_iter().chain(self.time_to_live).min();
        let expires_at = now.zip(longest).map_or(NEVER, |(now, longest)| now.saturating_add(ticks(longest)));
        Terms { weight, expires_at, idle_expires_at: self.idle_expires_at(now).unwrap_or(NEVER), now }
    }

    fn asked(&self) -> Asked {
        Asked {
            weight: self.weigher.is_some(),
            expires_at: self.time_to_live.is_some() || self.expire_after.is_some(),
            idle_expires_at: self.time_to_idle.is_some(),
        }
    }
}

/// When a cache is built: half way between the tick before all others and that which is never reached, 292 years each.
const BUILT: Tick = 1 << 63;

fn ticks(duration: Duration) -> Tick {
    Tick::try_from(duration.as_nanos()).unwrap_or(NEVER)
}

/// A builder of an [`LruCache`], returned by [`LruCache::builder`].
///
/// # Examples
///
/// ```
/// use stanchion::LruCache;
/// use std::time::Duration;
///
/// # stanchion::blocking::wait(async {
/// let pages = LruCache::<String, String>::builder(64 << 20)
///     .weigher(|path, page| (path.len() + page.len()) as u64)
///     .time_to_live(Duration::from_secs(60))
///     .shards(16)
///     .build();
/// assert_eq!(pages.get_or_load("/", async || "<h1>".to_owned()).await, "<h1>");
/// assert_eq!(pages.weight(), 5);
/// # });
/// ```
#[must_use = "a builder does nothing until it is built"]
pub struct LruCacheBuilder<K, V, S = RandomState> {
    capacity: usize,
    shards: usize,
    hasher: S,
    now: Option<Box<dyn Fn() -> Instant + Send + Sync>>,
    settings: Settings<K, V>,
}

impl<K, V, S> LruCacheBuilder<K, V, S> {
    pub(super) fn new(capacity: usize, hasher: S) -> Self {
        let settings = Settings {
            weigher: None,
            expire_after: None,
            time_to_live: None,
            time_to_idle: None,
            clock: None,
            listener: None,
        };
        Self { capacity, shards: 1, hasher, now: None, settings }
    }

    /// Sets the number of shards, each with a lock of its own; defaults to 1.
    ///
    /// More of them let more threads in at a time. Each has its share of the capacity, to the last entry, and an order
    /// of its own; an entry heavier than that share is not stored. There are never more shards than the capacity that
    /// the cache is built with, but always one.
    ///
    /// # Panics
    ///
    /// When `shards` is 0.
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
        assert!(shards > 0, "a cache has at least one shard");
        self.shards = shards;
        self
    }

    /// Sets the hasher of the keys; defaults to [`RandomState`], which resists keys that are chosen to collide.
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
        let Self { capacity, shards, now, settings, hasher: _ } = self;
        LruCacheBuilder { capacity, shards, hasher, now, settings }
    }

    /// Sets the function that weighs entries; the capacity is in its unit then. Defaults to none: each entry weighs 1.
    ///
    /// It is called once, without a lock, before an entry is stored, and again, under the shard's lock, after
    /// [`update`](LruCache::update) has changed a value. An entry of weight 0 takes no room: there may be any number of
    /// these, up to 2<sup>32</sup> - 1 entries in a shard.
    ///
    /// The capacity is a `usize`: on 32-bit targets weights sum to at most 4 GiB.
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

    /// Sets the time for which an entry lives after it was stored; defaults to no limit.
    ///
    /// Nothing happens at the end of that time: an expired entry is counted by `len` and `weight` until a call meets
    /// it, which treats it as absent. A call meets its own key's entry and the entries that it evicts;
    /// [`retain`](LruCache::retain) and [`clear`](LruCache::clear) meet all. With zero nothing is stored.
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::LruCache;
    /// use std::time::Duration;
    ///
    /// let cache = LruCache::builder(10).time_to_live(Duration::from_millis(5)).build();
    /// cache.insert(1, "soon gone");
    /// std::thread::sleep(Duration::from_millis(10));
    /// assert_eq!(cache.get(&1), None);
    /// ```
    pub fn time_to_live(mut self, longest: Duration) -> Self {
        self.settings.time_to_live = Some(longest);
        self
    }

    /// Sets the time for which an entry lives after its last [use](LruCache#order); defaults to no limit.
    ///
    /// It expires as it does by [`time_to_live`](Self::time_to_live), at the earliest end of all limits that are set.
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
    /// let sessions = LruCache::builder(10).time_to_idle(Duration::from_secs(60)).clock(clock).build();
    /// sessions.insert("token", "user");
    /// SECONDS.store(50, Ordering::Relaxed);
    /// assert_eq!(sessions.get("token"), Some("user")); // a use
    /// SECONDS.store(100, Ordering::Relaxed);
    /// assert_eq!(sessions.peek("token"), Some("user")); // none
    /// SECONDS.store(110, Ordering::Relaxed);
    /// assert_eq!(sessions.get("token"), None);
    /// ```
    pub fn time_to_idle(mut self, longest: Duration) -> Self {
        self.settings.time_to_idle = Some(longest);
        self
    }

    /// Sets the function that gives each entry a time to live of its own; defaults to none.
    ///
    /// It is called once, without a lock, before an entry is stored. `None` is no limit, and the earliest of all limits
    /// that are set counts. An entry with a time to live of zero is not stored: a loaded value goes to the callers that
    /// asked for it, an inserted one is dropped, and the old value of its key is removed.
    ///
    /// # Examples
    ///
    /// Answers of a name server, which say how long they are good for:
    ///
    /// ```
    /// use stanchion::LruCache;
    /// use std::net::IpAddr;
    /// use std::time::Duration;
    ///
    /// #[derive(Clone)]
    /// struct Answer {
    ///     addresses: Vec<IpAddr>,
    ///     time_to_live: Duration,
    /// }
    ///
    /// let answers = LruCache::<String, Answer>::builder(10_000)
    ///     .expire_after(|_, answer| Some(answer.time_to_live))
    ///     .build();
    /// let resolve = |host: &str, seconds| {
    ///     let answer = Answer { addresses: vec![[127, 0, 0, 1].into()], time_to_live: Duration::from_secs(seconds) };
    ///     answers.get_or_insert_with(host, || answer).addresses
    /// };
    /// resolve("localhost", 3600);
    /// resolve("changes.all.the.time", 0);
    /// assert!(answers.contains_key("localhost"));
    /// assert!(!answers.contains_key("changes.all.the.time"));
    /// ```
    pub fn expire_after(mut self, expire_after: impl Fn(&K, &V) -> Option<Duration> + Send + Sync + 'static) -> Self {
        self.settings.expire_after = Some(Box::new(expire_after));
        self
    }

    /// Sets the listener that is called with each entry that is removed and not returned to the caller, and with the
    /// [`Cause`]; defaults to none.
    ///
    /// It runs without a lock, in the call that removes the entry. It is not called for what is returned to the caller
    /// (replaced and removed values, the entry from [`pop_lru`](LruCache::pop_lru)), for what was never stored (too
    /// heavy, with a time to live of zero, loaded for a key that was removed meanwhile), nor for the entries of a cache
    /// that is dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::{Cause, LruCache};
    /// use std::sync::mpsc;
    ///
    /// let (sender, removed) = mpsc::channel();
    /// let cache = LruCache::builder(1)
    ///     .on_evict(move |key, value, cause| _ = sender.send((key, value, cause)))
    ///     .build();
    /// cache.insert(1, "one");
    /// cache.insert(2, "two");
    /// assert_eq!(removed.try_recv(), Ok((1, "one", Cause::Capacity)));
    /// cache.clear();
    /// assert_eq!(removed.try_recv(), Ok((2, "two", Cause::Removed)));
    /// ```
    pub fn on_evict(mut self, report: impl Fn(K, V, Cause) + Send + Sync + 'static) -> Self {
        self.settings.listener = Some(Box::new(report));
        self
    }

    /// Sets the source of time, for tests that let it pass; defaults to [`Instant::now`].
    ///
    /// It is read only if entries can expire: once when the cache is built, and then by the calls that look up, store,
    /// remove or visit entries, and by [`set_capacity`](LruCache::set_capacity).
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
        self.now = Some(Box::new(now));
        self
    }

    /// Creates the cache, empty.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = stanchion::LruCache::<u32, String>::builder(1_000).build();
    /// assert_eq!((cache.capacity(), cache.len()), (1_000, 0));
    /// ```
    pub fn build(self) -> LruCache<K, V, S> {
        let Self { capacity, shards, hasher, now, mut settings } = self;
        let asked = settings.asked();
        if asked.expires_at || asked.idle_expires_at {
            let now = now.unwrap_or_else(|| Box::new(Instant::now));
            settings.clock = Some(Clock { built: now(), now });
        }
        let shards = shards.min(capacity).max(1);
        let shard = |number| {
            let shard = Shard::new(share(capacity, shards, number), asked);
            Padded(sync::Mutex::new(State { shard, flights: Flights::new() }))
        };
        LruCache {
            first: shard(0),
            others: (1..shards).map(shard).collect(),
            hasher,
            settings,
            capacity: sync::Mutex::new(capacity),
        }
    }
}

impl<K, V, S> fmt::Debug for LruCacheBuilder<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LruCacheBuilder")
            .field("capacity", &self.capacity)
            .field("shards", &self.shards)
            .field("time_to_live", &self.settings.time_to_live)
            .field("time_to_idle", &self.settings.time_to_idle)
            .finish_non_exhaustive()
    }
}
