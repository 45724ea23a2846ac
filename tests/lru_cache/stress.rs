//! Many threads at once: the capacity is never exceeded, no lookup finds a stale value, and nothing leaks.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex as StdMutex};
use std::thread;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use stanchion::{Cause, LruCache, LruCacheBuilder, Stats, blocking};

use crate::common::{Check, Counted, Gauge, watched, with_patience, yield_now};

const THREADS: u64 = 4;
const KEYS: u32 = 40;

/// In entries, or in weight.
const CAPACITY: usize = 16;

const OPERATIONS: usize = 200_000;

/// A key or value whose clones are counted.
#[derive(Debug)]
struct Tracked<T> {
    inner: T,
    gauge: Arc<Gauge>,
    _counted: Counted,
}

impl<T> Tracked<T> {
    fn new(inner: T, gauge: &Arc<Gauge>) -> Self {
        Self { inner, gauge: gauge.clone(), _counted: gauge.count() }
    }
}

impl<T: Clone> Clone for Tracked<T> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), &self.gauge)
    }
}

impl<T: PartialEq> PartialEq for Tracked<T> {
    fn eq(&self, other: &Self) -> bool {
        self.inner == other.inner
    }
}

impl<T: Eq> Eq for Tracked<T> {}

impl<T: std::hash::Hash> std::hash::Hash for Tracked<T> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

type Key = Tracked<u32>;

/// Of which key, and which version of it.
type Value = Tracked<(u32, u64)>;
type Cache = LruCache<Key, Value>;

/// The source of the values, with the oldest version that the cache may have.
struct Source {
    /// The versions as a loader finds them; locked while one is changed and given to the cache.
    written: Vec<StdMutex<()>>,
    versions: Vec<AtomicU64>,
    /// The versions that the cache was given: no later lookup finds an older one.
    given: Vec<AtomicU64>,
    keys: Arc<Gauge>,
    values: Arc<Gauge>,
    loads: AtomicUsize,
    failures: AtomicUsize,
}

/// A load failed, in one of two ways.
#[derive(Debug)]
struct Failure<const KIND: u8>;

struct OnPurpose;

impl Source {
    fn new() -> Self {
        Self {
            written: (0..KEYS).map(|_| StdMutex::default()).collect(),
            versions: (0..KEYS).map(|_| AtomicU64::default()).collect(),
            given: (0..KEYS).map(|_| AtomicU64::default()).collect(),
            keys: Arc::default(),
            values: Arc::default(),
            loads: AtomicUsize::new(0),
            failures: AtomicUsize::new(0),
        }
    }

    fn key(&self, key: u32) -> Key {
        Key::new(key, &self.keys)
    }

    fn value(&self, key: u32, version: u64) -> Value {
        Value::new((key, version), &self.values)
    }

    /// A loader's work, or the first part of it.
    fn look_up(&self, key: u32) -> Value {
        self.loads.fetch_add(1, Ordering::SeqCst);
        self.value(key, self.versions[key as usize].load(Ordering::SeqCst))
    }

    /// The rest of it, which may fail or panic.
    fn end<const KIND: u8>(&self, value: Value, ending: u8) -> Result<Value, Failure<KIND>> {
        match ending {
            0 => {
                self.failures.fetch_add(1, Ordering::SeqCst);
                Err(Failure)
            }
            1 => resume_unwind(Box::new(OnPurpose)),
            _ => Ok(value),
        }
    }

    /// Changes a key and gives the change to the cache, in one of several ways.
    fn change(&self, cache: &Cache, key: u32, way: u8) {
        let place = key as usize;
        let _guard = self.written[place].lock().unwrap();
        let version = self.versions[place].fetch_add(1, Ordering::SeqCst) + 1;
        let replaced = match way {
            0 => cache.insert(self.key(key), self.value(key, version)),
            1 => cache.remove(&self.key(key)),
            2 => cache.remove_entry(&self.key(key)).map(|(held, value)| {
                assert_eq!(held.inner, key);
                value
            }),
            _ => {
                cache.clear();
                None
            }
        };
        assert!(
            replaced.is_none_or(|replaced| replaced.inner.0 == key && replaced.inner.1 <= version),
            "it was newer than new"
        );
        self.given[place].store(version, Ordering::SeqCst);
    }

    /// Looks a key up, and checks its version.
    fn ask(&self, key: u32, look_up: impl FnOnce(&Key) -> Option<Value>) {
        let oldest = self.given[key as usize].load(Ordering::SeqCst);
        let found = catch_unwind(AssertUnwindSafe(|| look_up(&self.key(key))));
        match found {
            Ok(Some(value)) => {
                let (of, version) = value.inner;
                assert!(of == key && version >= oldest, "{of} for {key}, and {version} where {oldest} was given");
            }
            Ok(None) => {}
            Err(payload) if payload.is::<OnPurpose>() => {}
            Err(payload) => resume_unwind(payload),
        }
    }
}

/// One random operation.
fn operate(cache: &Cache, source: &Source, random: &mut StdRng) {
    // The low ones are asked for more often.
    let key = random.random_range(0..KEYS).min(random.random_range(0..KEYS));
    let (ending, steps) = (random.random_range(0..12), random.random_range(0..4));
    let load = |key: &Key| {
        let value = source.look_up(key.inner);
        async move {
            for _ in 0..steps {
                yield_now().await;
            }
            value
        }
    };
    match random.random_range(0..44) {
        0..=5 => source.ask(key, |key| cache.get(key)),
        6 => source.ask(key, |key| cache.peek(key)),
        7 => drop(cache.contains_key(&source.key(key))),
        8..=11 => source.ask(key, |key| Some(cache.get_or_insert_with(key, || source.look_up(key.inner)))),
        12..=15 => source.ask(key, |key| {
            cache.try_get_or_insert_with(key, || source.end::<0>(source.look_up(key.inner), ending)).ok()
        }),
        16..=19 => source.ask(key, |key| Some(blocking::wait(cache.get_or_load(key, || load(key))))),
        20..=23 => source.ask(key, |key| {
            let load = || async { source.end::<1>(load(key).await, ending) };
            blocking::wait(cache.try_get_or_load(key, load)).ok()
        }),
        // It is cancelled after some polls, as leader or as follower.
        24..=28 => source.ask(key, |key| {
            let load = Box::pin(cache.get_or_load(key, || load(key)));
            blocking::wait(with_patience(load, random.random_range(0..6)))
        }),
        29..=31 => source.change(cache, key, 0),
        32 => source.change(cache, key, 1),
        33 => source.change(cache, key, 2),
        34 if random.random_bool(0.1) => source.change(cache, key, 3),
        35 => drop(cache.pop_lru()),
        36 if random.random_bool(0.2) => cache.retain(|key, value| {
            assert_eq!(key.inner, value.inner.0);
            value.inner.1 % 3 > 0
        }),
        37 => {
            let entries = cache.entries();
            assert!(entries.iter().all(|(key, value)| key.inner == value.inner.0));
        }
        // Not `check`: the capacity may change meanwhile.
        38 => cache.validate(),
        39 => drop(cache.remove_if(&source.key(key), |held, value| {
            assert_eq!(held.inner, value.inner.0);
            value.inner.1 % 2 > 0
        })),
        40 => source.ask(key, |key| cache.update(key, |value| value.clone())),
        41 if random.random_bool(0.2) => cache.for_each(|key, value| assert_eq!(key.inner, value.inner.0)),
        _ => drop(format!("{cache:?}")),
    }
}

/// Has many threads use a cache with these settings; the first of them also changes the capacity, if `resizes`.
fn stress(set: impl FnOnce(LruCacheBuilder<Key, Value>) -> LruCacheBuilder<Key, Value>, resizes: bool) -> Stats {
    let source = Source::new();
    let [evicted, expired, removed] = [0; 3].map(|_| Arc::new(AtomicU64::new(0)));
    let counts = (evicted.clone(), expired.clone(), removed.clone());
    let cache = set(Cache::builder(CAPACITY)).on_evict(move |key, value, cause| {
        assert_eq!(key.inner, value.inner.0);
        let count = match cause {
            Cause::Capacity => &counts.0,
            Cause::Expired => &counts.1,
            Cause::Removed => &counts.2,
        };
        count.fetch_add(1, Ordering::SeqCst);
    });
    let cache = Arc::new(cache.build());
    let progress = Arc::new(AtomicUsize::new(0));
    let fits = |capacity| {
        let (len, weight) = (cache.len(), cache.weight());
        assert!(len <= capacity && weight <= capacity as u64, "{len} entries of {weight}, and room for {capacity}");
    };
    watched(&progress, &cache, || {
        thread::scope(|scope| {
            for number in 0..THREADS {
                let (cache, source, progress, fits) = (&cache, &source, &progress, &fits);
                scope.spawn(move || {
                    let mut random = StdRng::seed_from_u64(number);
                    let mut largest = CAPACITY;
                    for _ in 0..OPERATIONS / 4 / THREADS as usize {
                        operate(cache, source, &mut random);
                        if number == 0 && resizes && random.random_bool(0.1) {
                            largest = random.random_range(0..=CAPACITY);
                            cache.set_capacity(largest);
                            assert_eq!(cache.capacity(), largest, "only this thread changes it");
                        }
                        // The other threads know its greatest value only.
                        fits(largest);
                        progress.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
    });
    cache.check();
    assert_eq!(cache.flights(), 0);
    // Keys and values exist in the cache only.
    assert_eq!([source.keys.read().0, source.values.read().0], [cache.len(); 2]);
    let stats = cache.stats();
    assert_eq!(
        [stats.loads, stats.load_failures],
        [&source.loads, &source.failures].map(|n| n.load(Ordering::SeqCst) as u64)
    );
    assert_eq!([stats.evictions, stats.expirations], [evicted, expired].map(|n| n.load(Ordering::SeqCst)));
    assert!(removed.load(Ordering::SeqCst) > 0);
    // All kinds of outcomes were seen.
    let enough = OPERATIONS as u64 / 4 / 1_000;
    let counted = [stats.hits, stats.misses, stats.insertions, stats.evictions, stats.loads, stats.load_failures];
    assert!(counted.iter().all(|count| *count > enough), "{stats:?}");
    drop(Arc::into_inner(cache).expect("it is shared no more"));
    assert_eq!([source.keys.read().0, source.values.read().0], [0; 2]);
    stats
}

#[test]
fn threads_stress_a_cache_of_one_shard() {
    stress(|builder| builder, false);
}

#[test]
fn threads_stress_a_cache_of_several_shards() {
    stress(|builder| builder.shards(4), false);
}

#[test]
fn threads_stress_a_cache_that_is_resized() {
    for shards in [1, 4] {
        stress(|builder| builder.shards(shards), true);
    }
}

#[test]
fn threads_stress_a_cache_of_weights() {
    let weigh = |key: &Key, value: &Value| 1 + u64::from(key.inner % 5) + value.inner.1 % 2;
    // Of several shards some weigh more than there is room for.
    for shards in [1, 4] {
        stress(|builder| builder.shards(shards).weigher(weigh), shards == 4);
    }
}

#[test]
fn threads_stress_a_cache_of_expiring_entries() {
    // The clock advances by a millisecond at each read.
    let (start, looks) = (Instant::now(), AtomicU64::new(0));
    let clock = move || start + Duration::from_millis(looks.fetch_add(1, Ordering::Relaxed));
    let stats = stress(|builder| builder.shards(2).time_to_live(Duration::from_millis(40)).clock(clock), false);
    assert!(stats.expirations > 0, "{stats:?}");
}
