//! Every cache behind one trait, so that a work is written once. The calls are made the way each crate means them
//! to be made; none of them is through a table.

use std::array;
use std::convert::Infallible;
use std::future::Future;
use std::hash::{BuildHasher, Hash};

use rustc_hash::FxBuildHasher;
use stanchion::LruCache;

use crate::common::gate::now;

/// A contender. Values are numbers.
pub(crate) trait Cache: Send + Sync + 'static {
    const NAME: &'static str;
    type Key: Key;

    fn new(capacity: usize) -> Self;
    fn get(&self, key: &Self::Key) -> Option<u64>;
    fn insert(&self, key: Self::Key, value: u64);
}

/// One that calls a function to load an absent key, once for all callers.
pub(crate) trait Load: Cache {
    fn get_or_load(&self, key: &Self::Key, load: impl FnOnce() -> u64) -> u64;
}

/// The same with a future.
pub(crate) trait LoadAsync: Cache {
    fn get_or_load<F: Future<Output = u64> + Send>(
        &self,
        key: &Self::Key,
        load: impl FnOnce() -> F + Send,
    ) -> impl Future<Output = u64> + Send;
}

/// A cache for one thread, which becomes a contender behind a mutex.
pub(crate) trait Local: Send + 'static {
    const NAME: &'static str;
    type Key: Key;

    fn new(capacity: usize) -> Self;
    fn get(&mut self, key: &Self::Key) -> Option<u64>;
    fn insert(&mut self, key: Self::Key, value: u64);
}

pub(crate) trait Key: Hash + Eq + Clone + Send + Sync + 'static {}
impl<K: Hash + Eq + Clone + Send + Sync + 'static> Key for K {}

pub(crate) trait Hasher: BuildHasher + Default + Send + Sync + 'static {}
impl<S: BuildHasher + Default + Send + Sync + 'static> Hasher for S {}

/// In so many shards.
pub(crate) struct Stanchion<const SHARDS: usize, K = u64, S = FxBuildHasher>(LruCache<K, u64, S>);

impl<const SHARDS: usize, K: Key, S: Hasher> Cache for Stanchion<SHARDS, K, S> {
    const NAME: &'static str = "stanchion";
    type Key = K;

    fn new(capacity: usize) -> Self {
        Self(LruCache::builder(capacity).shards(SHARDS).hasher(S::default()).build())
    }

    fn get(&self, key: &K) -> Option<u64> {
        self.0.get(key)
    }

    fn insert(&self, key: K, value: u64) {
        self.0.insert(key, value);
    }
}

impl<const SHARDS: usize, K: Key, S: Hasher> Load for Stanchion<SHARDS, K, S> {
    fn get_or_load(&self, key: &K, load: impl FnOnce() -> u64) -> u64 {
        self.0.get_or_insert_with(key, load)
    }
}

impl<const SHARDS: usize, K: Key, S: Hasher> LoadAsync for Stanchion<SHARDS, K, S> {
    fn get_or_load<F: Future<Output = u64> + Send>(
        &self,
        key: &K,
        load: impl FnOnce() -> F + Send,
    ) -> impl Future<Output = u64> + Send {
        self.0.get_or_load(key, load)
    }
}

/// In so many shards, or as many as it wants.
pub(crate) struct QuickCache<const SHARDS: usize = 0, K = u64, S = FxBuildHasher>(
    quick_cache::sync::Cache<K, u64, quick_cache::UnitWeighter, S>,
);

impl<const SHARDS: usize, K: Key, S: Hasher + Clone> Cache for QuickCache<SHARDS, K, S> {
    const NAME: &'static str = "quick_cache";
    type Key = K;

    fn new(capacity: usize) -> Self {
        let mut options = quick_cache::OptionsBuilder::new();
        options.estimated_items_capacity(capacity).weight_capacity(capacity as u64);
        if SHARDS > 0 {
            options.shards(SHARDS);
        }
        let options = options.build().expect("both capacities are set");
        Self(quick_cache::sync::Cache::with_options(
            options,
            quick_cache::UnitWeighter,
            S::default(),
            quick_cache::sync::DefaultLifecycle::default(),
        ))
    }

    fn get(&self, key: &K) -> Option<u64> {
        self.0.get(key)
    }

    fn insert(&self, key: K, value: u64) {
        self.0.insert(key, value);
    }
}

impl<const SHARDS: usize, K: Key, S: Hasher + Clone> Load for QuickCache<SHARDS, K, S> {
    fn get_or_load(&self, key: &K, load: impl FnOnce() -> u64) -> u64 {
        let Ok(value) = self.0.get_or_insert_with(key, || Ok::<_, Infallible>(load()));
        value
    }
}

impl<const SHARDS: usize, K: Key, S: Hasher + Clone> LoadAsync for QuickCache<SHARDS, K, S> {
    async fn get_or_load<F: Future<Output = u64> + Send>(&self, key: &K, load: impl FnOnce() -> F + Send) -> u64 {
        let Ok(value) = self.0.get_or_insert_async(key, async { Ok::<_, Infallible>(load().await) }).await;
        value
    }
}

pub(crate) type Moka<K = u64, S = FxBuildHasher> = moka::sync::Cache<K, u64, S>;

impl<K: Key, S: Hasher + Clone> Cache for Moka<K, S> {
    const NAME: &'static str = "moka";
    type Key = K;

    fn new(capacity: usize) -> Self {
        moka::sync::CacheBuilder::new(capacity as u64).build_with_hasher(S::default())
    }

    fn get(&self, key: &K) -> Option<u64> {
        self.get(key)
    }

    fn insert(&self, key: K, value: u64) {
        self.insert(key, value);
    }
}

impl<K: Key, S: Hasher + Clone> Load for Moka<K, S> {
    fn get_or_load(&self, key: &K, load: impl FnOnce() -> u64) -> u64 {
        self.get_with_by_ref(key, load)
    }
}

pub(crate) type MokaFuture<K = u64, S = FxBuildHasher> = moka::future::Cache<K, u64, S>;

impl<K: Key, S: Hasher + Clone> Cache for MokaFuture<K, S> {
    const NAME: &'static str = "moka future";
    type Key = K;

    fn new(capacity: usize) -> Self {
        moka::future::CacheBuilder::new(capacity as u64).build_with_hasher(S::default())
    }

    fn get(&self, key: &K) -> Option<u64> {
        now(self.get(key))
    }

    fn insert(&self, key: K, value: u64) {
        now(self.insert(key, value));
    }
}

impl<K: Key, S: Hasher + Clone> LoadAsync for MokaFuture<K, S> {
    async fn get_or_load<F: Future<Output = u64> + Send>(&self, key: &K, load: impl FnOnce() -> F + Send) -> u64 {
        self.get_with_by_ref(key, async { load().await }).await
    }
}

/// In so many shards, or as many as it wants. Its hasher is its own.
pub(crate) struct Cached<const SHARDS: usize>(cached::ShardedLruCache<u64, u64>);

impl<const SHARDS: usize> Cache for Cached<SHARDS> {
    const NAME: &'static str = "cached";
    type Key = u64;

    fn new(capacity: usize) -> Self {
        let builder = cached::ShardedLruCache::builder().max_size(capacity);
        let builder = if SHARDS > 0 { builder.shards(SHARDS) } else { builder };
        Self(builder.build().expect("there is room"))
    }

    fn get(&self, key: &u64) -> Option<u64> {
        self.0.get(key)
    }

    fn insert(&self, key: u64, value: u64) {
        self.0.set(key, value);
    }
}

pub(crate) type Lru<K = u64, S = FxBuildHasher> = parking_lot::Mutex<lru::LruCache<K, u64, S>>;
pub(crate) type Schnellru<K = u64, S = FxBuildHasher> =
    parking_lot::Mutex<schnellru::LruMap<K, u64, schnellru::ByLength, S>>;
pub(crate) type Hashlink<K = u64, S = FxBuildHasher> = parking_lot::Mutex<hashlink::LruCache<K, u64, S>>;

impl<C: Local> Cache for parking_lot::Mutex<C> {
    const NAME: &'static str = C::NAME;
    type Key = C::Key;

    fn new(capacity: usize) -> Self {
        Self::new(C::new(capacity))
    }

    fn get(&self, key: &C::Key) -> Option<u64> {
        self.lock().get(key)
    }

    fn insert(&self, key: C::Key, value: u64) {
        self.lock().insert(key, value);
    }
}

/// As many as one would write by hand, each with a cache line of its own.
pub(crate) struct Sharded<C>([Shard<C>; 16]);

#[repr(align(128))]
struct Shard<C>(C);

impl<C: Cache> Sharded<C> {
    fn shard(&self, key: &C::Key) -> &C {
        // Tables use the highest and the lowest bits.
        &self.0[(FxBuildHasher.hash_one(key) >> 32) as usize % 16].0
    }
}

impl<C: Cache> Cache for Sharded<C> {
    const NAME: &'static str = C::NAME;
    type Key = C::Key;

    fn new(capacity: usize) -> Self {
        Self(array::from_fn(|_| Shard(C::new(capacity.div_ceil(16)))))
    }

    fn get(&self, key: &C::Key) -> Option<u64> {
        self.shard(key).get(key)
    }

    fn insert(&self, key: C::Key, value: u64) {
        self.shard(&key).insert(key, value);
    }
}

pub(crate) type LruTokio<K = u64, S = FxBuildHasher> = tokio::sync::Mutex<lru::LruCache<K, u64, S>>;

impl<K: Key, S: Hasher> Cache for LruTokio<K, S> {
    const NAME: &'static str = "lru + tokio";
    type Key = K;

    fn new(capacity: usize) -> Self {
        Self::new(Local::new(capacity))
    }

    fn get(&self, key: &K) -> Option<u64> {
        Local::get(&mut *now(self.lock()), key)
    }

    fn insert(&self, key: K, value: u64) {
        Local::insert(&mut *now(self.lock()), key, value);
    }
}

impl<K: Key, S: Hasher> Local for lru::LruCache<K, u64, S> {
    const NAME: &'static str = "lru + parking_lot";
    type Key = K;

    fn new(capacity: usize) -> Self {
        Self::with_hasher(capacity.try_into().expect("not zero"), S::default())
    }

    fn get(&mut self, key: &K) -> Option<u64> {
        self.get(key).copied()
    }

    fn insert(&mut self, key: K, value: u64) {
        self.put(key, value);
    }
}

impl<K: Key, S: Hasher> Local for schnellru::LruMap<K, u64, schnellru::ByLength, S> {
    const NAME: &'static str = "schnellru + parking_lot";
    type Key = K;

    fn new(capacity: usize) -> Self {
        Self::with_hasher(schnellru::ByLength::new(capacity as u32), S::default())
    }

    fn get(&mut self, key: &K) -> Option<u64> {
        self.get(key).copied()
    }

    fn insert(&mut self, key: K, value: u64) {
        self.insert(key, value);
    }
}

impl<K: Key, S: Hasher> Local for hashlink::LruCache<K, u64, S> {
    const NAME: &'static str = "hashlink + parking_lot";
    type Key = K;

    fn new(capacity: usize) -> Self {
        Self::with_hasher(capacity, S::default())
    }

    fn get(&mut self, key: &K) -> Option<u64> {
        self.get(key).copied()
    }

    fn insert(&mut self, key: K, value: u64) {
        self.insert(key, value);
    }
}
