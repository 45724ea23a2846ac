//! `LruCache` beside quick_cache and moka (sync and future), beside lru, schnellru and hashlink behind a mutex, and beside
//! cached's sharded LRU.
//!
//! Values are numbers, so that cloning them costs nothing. By default keys are numbers too, all caches
//! hash them with rustc-hash, and a cache that always has shards has as many as it likes, stanchion one. cached
//! has a hasher that cannot be changed: it takes part where each has its own, and beside shards.

mod common;
#[path = "lru_cache/contenders.rs"]
mod contenders;

use std::cell::LazyCell;
use std::future::ready;
use std::hash::RandomState;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use common::figures::{self, Figure};
use common::gate::{now, two_workers};
use common::threads::{COUNTS, contend, side_by_side};
use common::{Dice, Group, compare, testing};
use contenders::{
    Cache, Cached, Hashlink, Load, LoadAsync, Lru, LruTokio, Moka, MokaFuture, QuickCache, Schnellru, Sharded,
    Stanchion,
};
use criterion::{Criterion, SamplingMode, Throughput};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand_distr::{Distribution, Zipf};
use tokio::runtime::{Builder, Runtime};
use tokio::task::yield_now;

/// The work, for all caches that let the hasher be chosen.
macro_rules! compare_all {
    ($criterion:expr, $name:expr, $($work:tt)+) => {
        compare!(
            $criterion,
            $name,
            [Stanchion<1>, QuickCache, Moka, MokaFuture, Lru, LruTokio, Schnellru, Hashlink],
            $($work)+
        )
    };
}

/// The work, for all caches with their own hashers.
macro_rules! compare_own {
    ($criterion:expr, $name:expr, $($work:tt)+) => {
        compare!(
            $criterion,
            $name,
            [
                Stanchion<1, u64, RandomState>,
                QuickCache<0, u64, quick_cache::DefaultHashBuilder>,
                Moka<u64, RandomState>,
                MokaFuture<u64, RandomState>,
                Lru<u64, lru::DefaultHasher>,
                LruTokio<u64, lru::DefaultHasher>,
                Schnellru<u64, schnellru::RandomState>,
                Hashlink<u64, hashlink::DefaultHashBuilder>,
                Cached<0>,
            ],
            $($work)+
        )
    };
}

/// The work, for caches of 16 shards.
macro_rules! compare_sharded {
    ($criterion:expr, $name:expr, $($work:tt)+) => {
        compare!($criterion, $name, [Stanchion<16>, QuickCache<16>, Sharded<Schnellru>, Cached<16>], $($work)+)
    };
}

fn main() {
    let criterion = &mut common::criterion();
    free(criterion);
    load(criterion);
    size(criterion);
    threads(criterion);
    threads_that_hit(criterion);
    hits();
    criterion.final_summary();
}

/// One thread, and a cache that fits into the processor's.
fn free(criterion: &mut Criterion) {
    const ENTRIES: usize = 10_000;

    compare_all!(criterion, "lru_cache/free/hit", |group, C| hit::<C>(group, ENTRIES));
    compare_all!(criterion, "lru_cache/free/hit, always the same", |group, C| hit_one::<C>(group, ENTRIES));
    compare_all!(criterion, "lru_cache/free/miss", |group, C| miss::<C>(group, ENTRIES));
    compare_all!(criterion, "lru_cache/free/insert + evict", |group, C| insert::<C>(group, ENTRIES));
    compare_all!(criterion, "lru_cache/free/replace", |group, C| replace::<C>(group, ENTRIES));
    compare_sharded!(criterion, "lru_cache/free/hit, 16 shards", |group, C| hit::<C>(group, ENTRIES));
    compare_sharded!(criterion, "lru_cache/free/insert + evict, 16 shards", |group, C| insert::<C>(group, ENTRIES));
    compare_own!(criterion, "lru_cache/free/hit, own hasher", |group, C| hit::<C>(group, ENTRIES));
    compare_own!(criterion, "lru_cache/free/insert + evict, own hasher", |group, C| insert::<C>(group, ENTRIES));
}

/// An absent key is loaded, once for all callers.
fn load(criterion: &mut Criterion) {
    const ENTRIES: usize = 10_000;

    compare!(criterion, "lru_cache/load/hit", [Stanchion<1>, QuickCache, Moka], |group, C| load_hit::<C>(group, ENTRIES));
    compare!(criterion, "lru_cache/load/hit, async", [Stanchion<1>, QuickCache, MokaFuture], |group, C| {
        load_hit_async::<C>(group, ENTRIES)
    });
    compare!(criterion, "lru_cache/load/miss", [Stanchion<1>, QuickCache, Moka], |group, C| load_miss::<C>(group, ENTRIES));
    compare!(criterion, "lru_cache/load/miss, async", [Stanchion<1>, QuickCache, MokaFuture], |group, C| {
        load_miss_async::<C>(group, ENTRIES)
    });
    let schedulers = [("current thread", Builder::new_current_thread()), ("two workers", two_workers())];
    for (scheduler, mut builder) in schedulers {
        let runtime = builder.build().expect("the runtime starts");
        let name = format!("lru_cache/load/1,000 askers, {scheduler}");
        compare!(criterion, name, [Stanchion<1>, QuickCache, MokaFuture], |group, C| stampede::<C>(group, &runtime));
    }
}

/// One thread, and caches of any size.
fn size(criterion: &mut Criterion) {
    let small = [("1,000", 1_000), ("10,000", 10_000), ("100,000", 100_000)];
    for (count, entries) in small.into_iter().chain([("1,000,000", 1_000_000), ("10,000,000", 10_000_000)]) {
        let (hit_name, insert_name) =
            (format!("lru_cache/size/hit, {count}"), format!("lru_cache/size/insert + evict, {count}"));
        let entries = if testing() { 1_000 } else { entries };
        if count == "10,000,000" {
            // For the others it would take too long to fill.
            compare!(criterion, hit_name, [Stanchion<1>, QuickCache, Lru], |group, C| hit::<C>(group, entries));
            compare!(criterion, insert_name, [Stanchion<1>, QuickCache, Lru], |group, C| insert::<C>(group, entries));
        } else {
            compare!(criterion, hit_name, [Stanchion<1>, QuickCache, Moka, Lru, Schnellru, Hashlink], |group, C| {
                hit::<C>(group, entries)
            });
            compare!(criterion, insert_name, [Stanchion<1>, QuickCache, Moka, Lru, Schnellru, Hashlink], |group, C| {
                insert::<C>(group, entries)
            });
        }
    }
}

/// Threads that ask for popular keys more often, and insert what is not there.
fn threads(criterion: &mut Criterion) {
    let (keys, capacity, requests) = if testing() { (1_000, 100, 1_000) } else { (1_000_000, 100_000, 1 << 20) };
    let traces = LazyCell::new(|| -> Vec<Vec<u64>> {
        (0..4).map(|thread| zipf(keys, thread).take(requests).collect()).collect()
    });
    for (count, threads) in [("1 thread", 1), ("2 threads", 2), ("4 threads", 4)] {
        compare!(
            criterion,
            format!("lru_cache/threads/zipf, {count}"),
            [Stanchion<16>, QuickCache<16>, Moka, MokaFuture, Lru, LruTokio, Sharded<Schnellru>, Hashlink, Cached<16>],
            |group, C| mixed::<C>(group, &traces, threads, capacity)
        );
    }
    let spelled = LazyCell::new(|| -> Vec<Vec<String>> {
        vec![zipf(keys, 0).take(requests).map(|key| format!("key {key}")).collect()]
    });
    compare!(
        criterion,
        "lru_cache/threads/zipf, strings, 1 thread",
        [
            Stanchion<16, String>,
            QuickCache<16, String>,
            Moka<String>,
            Lru<String>,
            Sharded<Schnellru<String>>,
        ],
        |group, C| mixed::<C>(group, &spelled, 1, capacity)
    );
}

/// Threads that ask for popular keys more often, and find them all, in a cache that fits into the processor's.
fn threads_that_hit(criterion: &mut Criterion) {
    const ENTRIES: usize = 10_000;

    let most = COUNTS.into_iter().map(|(_, threads)| threads).max().expect("there are some");
    let traces: Vec<Vec<u64>> = (0..most).map(|thread| zipf(ENTRIES, thread as u64).take(1 << 13).collect()).collect();
    for (count, threads) in COUNTS {
        let name = format!("lru_cache/threads/zipf hits, 1 shard, {count}");
        compare!(criterion, name, [Stanchion<1>, QuickCache<1>, Lru], |group, C| {
            hit_together::<C>(group, ENTRIES, &traces[..threads])
        });
        let name = format!("lru_cache/threads/zipf hits, 16 shards, {count}");
        compare!(criterion, name, [Stanchion<16>, QuickCache<16>, Sharded<Schnellru>], |group, C| {
            hit_together::<C>(group, ENTRIES, &traces[..threads])
        });
    }
}

/// The requests that miss, and the time of one. What is missed is inserted.
fn hits() {
    let (keys, requests) = if testing() { (1_000, 2_000) } else { (1_000_000, 2_000_000) };
    let (small, large) = (keys / 100, keys / 10);

    let popular = &LazyCell::new(|| zipf(keys, 0).take(requests).collect());
    tell_hits("lru_cache/hits/zipf, room for 1 %", popular, small);
    tell_hits("lru_cache/hits/zipf, room for 10 %", popular, large);

    // Now and then a scan reads all keys of a table, which no other request reads.
    let table = || (0..10 * small).map(|row| key(keys + row));
    let scans =
        &LazyCell::new(|| popular.chunks(20 * small).flat_map(|part| part.iter().copied().chain(table())).collect());
    tell_hits("lru_cache/hits/zipf and scans, room for 1 %", scans, small);

    // A little more than there is room for, over and over.
    let round = || (0..small * 11 / 10).map(key);
    let rounds = &LazyCell::new(|| round().cycle().take(requests).collect());
    tell_hits("lru_cache/hits/loop, room for 10 of 11", rounds, small);
}

fn tell_hits(name: &str, trace: &LazyCell<Vec<u64>, impl FnOnce() -> Vec<u64>>, capacity: usize) {
    figures::tell(name, "stanchion", || hit_ratio::<Stanchion<1>>(trace, capacity));
    figures::tell(name, "stanchion, 16 shards", || hit_ratio::<Stanchion<16>>(trace, capacity));
    figures::tell(name, <Lru>::NAME, || hit_ratio::<Lru>(trace, capacity));
    figures::tell(name, <QuickCache>::NAME, || hit_ratio::<QuickCache>(trace, capacity));
    figures::tell(name, <Moka>::NAME, || hit_ratio::<Moka>(trace, capacity));
}

/// Measures `step`, with what `make` makes when it is known that this is to be measured.
fn measure<C: Cache, T, R>(group: &mut Group<'_>, make: impl Fn() -> T, mut step: impl FnMut(&mut T) -> R) {
    let mut made = None;
    group.bench_function(C::NAME, |bencher| {
        let made = made.get_or_insert_with(&make);
        bencher.iter(|| step(made));
    });
}

/// Each time another of the entries, at random.
fn hit<C: Cache<Key = u64>>(group: &mut Group<'_>, entries: usize) {
    let make = || (holding::<C>(entries), Keys::among(0, entries));
    measure::<C, _, _>(group, make, |(cache, keys)| cache.get(&keys.next()));
}

fn hit_one<C: Cache<Key = u64>>(group: &mut Group<'_>, entries: usize) {
    measure::<C, _, _>(group, || holding::<C>(entries), |cache| cache.get(&black_box(key(entries / 2))));
}

/// Each time another key that is not there.
fn miss<C: Cache<Key = u64>>(group: &mut Group<'_>, entries: usize) {
    let make = || (holding::<C>(entries), Keys::among(entries, entries));
    measure::<C, _, _>(group, make, |(cache, keys)| cache.get(&keys.next()));
}

/// Each time a key that was never there, so that another is evicted.
fn insert<C: Cache<Key = u64>>(group: &mut Group<'_>, capacity: usize) {
    measure::<C, _, _>(
        group,
        || (full::<C>(capacity), capacity),
        |(cache, next)| {
            *next += 1;
            cache.insert(key(*next), 1);
        },
    );
}

/// Each time another value for one of the entries, at random.
fn replace<C: Cache<Key = u64>>(group: &mut Group<'_>, entries: usize) {
    let make = || (holding::<C>(entries), Keys::among(0, entries));
    measure::<C, _, _>(group, make, |(cache, keys)| cache.insert(keys.next(), 1));
}

fn load_hit<C: Load<Key = u64>>(group: &mut Group<'_>, entries: usize) {
    let make = || (holding::<C>(entries), Keys::among(0, entries));
    measure::<C, _, _>(group, make, |(cache, keys)| cache.get_or_load(&keys.next(), || unreachable!("it is there")));
}

fn load_hit_async<C: LoadAsync<Key = u64>>(group: &mut Group<'_>, entries: usize) {
    let make = || (holding::<C>(entries), Keys::among(0, entries));
    measure::<C, _, _>(group, make, |(cache, keys)| {
        now(cache.get_or_load(&keys.next(), || async { unreachable!("it is there") }))
    });
}

/// Each time a key that was never there, which is loaded at once, so that another is evicted.
fn load_miss<C: Load<Key = u64>>(group: &mut Group<'_>, capacity: usize) {
    measure::<C, _, _>(
        group,
        || (full::<C>(capacity), capacity),
        |(cache, next)| {
            *next += 1;
            cache.get_or_load(&key(*next), || 1)
        },
    );
}

fn load_miss_async<C: LoadAsync<Key = u64>>(group: &mut Group<'_>, capacity: usize) {
    measure::<C, _, _>(
        group,
        || (full::<C>(capacity), capacity),
        |(cache, next)| {
            *next += 1;
            now(cache.get_or_load(&key(*next), || ready(1)))
        },
    );
}

/// So many tasks ask for one key that is not there. The load ends when all have asked; it should be the only one.
fn stampede<C: LoadAsync<Key = u64>>(group: &mut Group<'_>, runtime: &Runtime) {
    const ASKERS: usize = 1_000;

    let cache = Arc::new(C::new(10_000));
    let mut next = 0;
    group.throughput(Throughput::Elements(ASKERS as u64)).sampling_mode(SamplingMode::Flat);
    group.bench_function(C::NAME, |bencher| {
        bencher.iter_custom(|times| {
            let start = Instant::now();
            for _ in 0..times {
                next += 1;
                let loads = runtime.block_on(stampede_once(&cache, key(next), ASKERS));
                assert_eq!(loads, 1, "{} loads one key several times at once", C::NAME);
            }
            start.elapsed()
        });
    });
}

/// How many loads there were.
async fn stampede_once<C: LoadAsync<Key = u64>>(cache: &Arc<C>, key: u64, askers: usize) -> usize {
    let counts = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
    let ask = || {
        let (cache, counts) = (Arc::clone(cache), Arc::clone(&counts));
        async move {
            let (asked, loads) = &*counts;
            asked.fetch_add(1, Relaxed);
            let load = || async {
                loads.fetch_add(1, Relaxed);
                while asked.load(Relaxed) < askers {
                    yield_now().await;
                }
                1
            };
            cache.get_or_load(&key, load).await
        }
    };
    let tasks: Vec<_> = (0..askers).map(|_| tokio::spawn(ask())).collect();
    for task in tasks {
        task.await.expect("a task panicked");
    }
    counts.1.load(Relaxed)
}

/// The first threads follow their traces side by side, each request by each of them one operation.
fn mixed<C: Cache>(group: &mut Group<'_>, traces: &[Vec<C::Key>], threads: usize, capacity: usize) {
    group.throughput(Throughput::Elements(threads as u64)).sampling_mode(SamplingMode::Flat);
    let (mut made, mut done) = (None, 0);
    group.bench_function(C::NAME, |bencher| {
        let cache = made.get_or_insert_with(|| {
            let cache = C::new(capacity);
            traces[0].iter().for_each(|key| _ = request(&cache, key));
            cache
        });
        bencher.iter_custom(|requests| {
            let time = side_by_side(threads, |thread| {
                let trace = &traces[thread];
                let keys = trace.iter().cycle().skip(done % trace.len()).take(requests as usize);
                keys.for_each(|key| _ = request(cache, key));
            });
            done += requests as usize;
            time
        });
    });
}

/// A thread for each trace, all on one cache that holds everything.
fn hit_together<C: Cache<Key = u64>>(group: &mut Group<'_>, entries: usize, traces: &[Vec<u64>]) {
    let cache = holding::<C>(entries);
    contend(group, C::NAME, traces.len(), |thread, times| {
        for key in traces[thread].iter().cycle().take(times as usize) {
            black_box(cache.get(key));
        }
    });
}

fn hit_ratio<C: Cache<Key = u64>>(trace: &[u64], capacity: usize) -> Vec<Figure> {
    let cache = C::new(capacity);
    let start = Instant::now();
    let hits = trace.iter().filter(|key| request(&cache, key).is_some()).count();
    let time = start.elapsed();
    vec![
        ("% misses", 100.0 * (trace.len() - hits) as f64 / trace.len() as f64),
        ("ns per request", time.as_nanos() as f64 / trace.len() as f64),
    ]
}

/// What is not there is inserted.
fn request<C: Cache>(cache: &C, key: &C::Key) -> Option<u64> {
    let value = black_box(cache.get(key));
    if value.is_none() {
        cache.insert(key.clone(), 1);
    }
    value
}

/// A cache with the first so many keys. There is room for some more, since shards do not fill evenly.
fn holding<C: Cache<Key = u64>>(entries: usize) -> C {
    let cache = C::new(entries / 4 * 5);
    (0..entries).for_each(|number| cache.insert(key(number), 1));
    assert!((0..entries).step_by(97).all(|number| cache.get(&key(number)).is_some()), "{} lost some", C::NAME);
    cache
}

/// A cache with the first so many keys, and no room for more.
fn full<C: Cache<Key = u64>>(capacity: usize) -> C {
    let cache = C::new(capacity);
    (0..capacity).for_each(|number| cache.insert(key(number), 1));
    cache
}

/// Different for each number, and in no order: the last steps of SplitMix64.
fn key(number: usize) -> u64 {
    let key = number as u64;
    let key = (key ^ (key >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let key = (key ^ (key >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    key ^ (key >> 31)
}

/// Keys in a random order, written down beforehand, over and over.
struct Keys {
    keys: Vec<u64>,
    next: usize,
}

impl Keys {
    /// Of so many from the `first` on.
    fn among(first: usize, count: usize) -> Self {
        let mut dice = Dice::new();
        // Enough to come by nearly all of them.
        let keys = (0..4 * count.min(2_500_000)).map(|_| key(first + dice.below(count))).collect();
        Self { keys, next: 0 }
    }

    fn next(&mut self) -> u64 {
        let key = self.keys[self.next];
        self.next += 1;
        if self.next == self.keys.len() {
            self.next = 0;
        }
        key
    }
}

/// The more popular the fewer: how often a key is asked for is nearly inverse to its rank.
fn zipf(keys: usize, seed: u64) -> impl Iterator<Item = u64> {
    let ranks = Zipf::new(keys as f64, 0.99).expect("there are keys");
    ranks.sample_iter(StdRng::seed_from_u64(seed)).map(|rank| key(rank as usize - 1))
}
