use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use futures::FutureExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use stanchion::{Cause, LruCache, LruCacheBuilder, blocking};

use super::{
    ALL, Clock, Failure, OPERATIONS, Part, add_one, after_a_change_of_waker, count_panic, panic_on_purpose, read,
};
use crate::common::{Check, Counted, Gauge, within, yield_now};

/// The numbers of lookups, and of loads, by outcome.
#[derive(Debug, Default)]
struct Counts {
    lookups: AtomicUsize,
    /// Operations without a value: lookups that were cancelled, failed or missed, removals of nothing.
    without_value: AtomicUsize,
    panicked: AtomicUsize,
    loaded: AtomicUsize,
    failed: AtomicUsize,
    abandoned: AtomicUsize,
    values: Arc<Gauge>,
}

/// A load, and whether it has ended. It is abandoned if it is dropped before.
struct Load<'l>(&'l Counts, bool);

/// A value: its key, and its count.
type Entry = Arc<(u8, Counted)>;

impl Counts {
    fn entry(&self, key: u8) -> Entry {
        Arc::new((key, self.values.count()))
    }

    /// Counts a lookup at its first poll.
    fn count<'a, F: Future + Send + 'a>(&'a self, look_up: F) -> Pin<Box<dyn Future<Output = F::Output> + Send + 'a>> {
        Box::pin(async {
            add_one(&self.lookups);
            look_up.await
        })
    }
}

impl Load<'_> {
    /// Fails if `fate` is 0, panics if it is 1, and otherwise returns a value.
    fn end(mut self, key: u8, fate: u8) -> Result<Entry, Failure> {
        let (count, outcome) = match fate {
            0 => (&self.0.failed, Err(Failure)),
            1 => panic_on_purpose(),
            _ => (&self.0.loaded, Ok(self.0.entry(key))),
        };
        add_one(count);
        self.1 = true;
        outcome
    }
}

impl Drop for Load<'_> {
    fn drop(&mut self) {
        if !self.1 {
            add_one(&self.0.abandoned);
        }
    }
}

/// A random operation on a cache. It sets no capacity above `capacity`.
async fn operate(cache: &LruCache<u8, Entry>, capacity: usize, counts: &Counts, random: &mut StdRng, may_block: bool) {
    let key = random.random_range(0..48_u8).min(random.random_range(0..48));
    let (steps, fate) = (random.random_range(0..5), random.random_range(0..10));
    let begin = |fate| {
        let begun = Load(counts, false);
        async move {
            for _ in 0..steps {
                yield_now().await;
            }
            begun.end(key, fate)
        }
    };
    let attempt = || begin(fate);
    // One has an error of another type, and one panics where the others fail.
    let attempt_otherwise = || async { begin(fate).await.map_err(|Failure| ()) };
    let load = || async { begin(fate.max(1)).await.unwrap_or_else(|Failure| unreachable!("a load that cannot fail")) };
    let patience = random.random_bool(0.4).then(|| random.random_range(0..8));
    let found = match random.random_range(0..32) {
        0..=4 => within(counts.count(cache.get_or_load(&key, load)), patience).await,
        5..=10 => within(counts.count(cache.try_get_or_load(&key, attempt)), patience).await.and_then(Result::ok),
        11..=13 => {
            within(counts.count(cache.try_get_or_load(&key, attempt_otherwise)), patience).await.and_then(Result::ok)
        }
        14 => Some(after_a_change_of_waker(counts.count(cache.get_or_load(&key, load))).await),
        15 | 16 => counts.count(async { cache.get(&key) }).await,
        17 => {
            // The first of two; the other is dropped at any stage, as a leader or as a follower.
            let [one, other] = [load, load].map(|load| counts.count(cache.get_or_load(&key, load)));
            within(futures::future::select(one, other), Some(20)).await.map(|either| either.factor_first().0)
        }
        18 if may_block => {
            let look_up = || cache.get_or_insert_with(&key, || blocking::wait(load()));
            Some(counts.count(async { look_up() }).await)
        }
        19 if may_block => {
            let look_up = || cache.try_get_or_insert_with(&key, || blocking::wait(attempt()));
            counts.count(async { look_up() }).await.ok()
        }
        20 | 21 => cache.insert(key, counts.entry(key)),
        22 | 23 => cache.remove(&key),
        24 => cache.remove_entry(&key).map(|(held, entry)| {
            assert_eq!(held, key);
            entry
        }),
        25 => cache.peek(&key),
        26 if random.random_bool(0.2) => {
            cache.clear();
            None
        }
        27 if random.random_bool(0.2) => {
            cache.retain(|key, entry| {
                assert_eq!(*key, entry.0);
                key % 3 > 0
            });
            None
        }
        28 => {
            assert!(cache.pop_lru().is_none_or(|(key, entry)| key == entry.0));
            None
        }
        29 => {
            cache.set_capacity(random.random_range(0..=capacity));
            None
        }
        _ => {
            cache.validate();
            None
        }
    };
    assert!(cache.len() <= capacity, "{cache:?}");
    match found {
        Some(entry) => assert_eq!(entry.0, key),
        None => add_one(&counts.without_value),
    }
}

/// Returns caches of one shard, with a time to live, and with weights; and their capacities.
fn caches() -> [(usize, LruCacheBuilder<u8, Entry>); 3] {
    let clock = Clock::new();
    let timed = LruCache::builder(20).time_to_live(Duration::from_millis(500)).clock(move || clock.read());
    let weighed = LruCache::builder(40).shards(4).weigher(|key: &u8, _: &Entry| 1 + u64::from(*key) % 12);
    [(3, LruCache::builder(3)), (20, timed), (40, weighed)]
}

#[test]
fn every_load_and_value_is_accounted_for() {
    for (capacity, builder) in caches() {
        let reported = Arc::new(AtomicUsize::new(0));
        let listener = reported.clone();
        let cache = builder.on_evict(move |key, entry: Entry, cause| {
            assert_eq!(key, entry.0);
            if cause != Cause::Removed {
                add_one(&listener);
            }
        });
        let cache = Arc::new(cache.build());
        let counts = Arc::new(Counts::default());
        let part = Part::one_of(3, OPERATIONS);
        part.run(&cache, |number, may_block| {
            let (cache, counts, operations) = (cache.clone(), counts.clone(), part.share_of(ALL));
            async move {
                let mut random = StdRng::seed_from_u64(number as u64);
                for _ in operations {
                    let operation = operate(&cache, capacity, &counts, &mut random, may_block);
                    count_panic(AssertUnwindSafe(operation).catch_unwind().await, &counts.panicked);
                    yield_now().await;
                }
            }
        });
        cache.check();
        assert_eq!(cache.flights(), 0);
        let stats = cache.stats();
        let Counts { lookups, loaded, failed, abandoned, values, .. } = &*counts;
        assert_eq!((stats.hits + stats.misses) as usize, read(lookups), "{counts:?}");
        let ends = [loaded, failed, abandoned].map(read);
        assert_eq!((stats.loads as usize, stats.load_failures as usize), (ends.iter().sum(), ends[1]), "{counts:?}");
        assert_eq!((stats.evictions + stats.expirations) as usize, read(&reported));
        assert_eq!(values.read().0, cache.len(), "a value is kept elsewhere");
        assert_eq!(Arc::strong_count(&cache), 1, "another handle is left");
        drop(cache);
        assert_eq!(values.read().0, 0, "a value is not dropped");
        // Each outcome is frequent enough.
        let enough = part.operations() / 100;
        assert!(ends.iter().all(|count| *count > enough), "{counts:?}");
        let counted = [stats.hits, stats.misses, stats.insertions, stats.evictions];
        assert!(counted.iter().all(|count| *count as usize > enough), "{stats:?}");
        assert!(read(&counts.panicked) > enough / 10, "{counts:?}");
    }
}
