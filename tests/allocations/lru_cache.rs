//! The cache.

use std::future::pending;
use std::hash::RandomState;
use std::ops::Range;
use std::pin::pin;
use std::time::Duration;

use allocation_counter::{AllocationInfo, measure};
use stanchion::LruCache;

use crate::common::{Clock, poll, ready, yield_now};
use crate::{HOUR, MILLION, SMALL, allocations};

type Cache = LruCache<u64, u64>;

/// The measured caches: plain, sharded, and with every option.
fn caches(capacity: usize) -> [Cache; 3] {
    let with_everything = Cache::builder(capacity).weigher(|_, _| 1).time_to_live(HOUR).on_evict(|_, _, _| ());
    [Cache::new(capacity), Cache::builder(capacity).shards(4).build(), with_everything.build()]
}

#[test]
fn a_cache_allocates_nothing_before_its_first_entry() {
    let info = measure(|| {
        let cache = Cache::new(usize::MAX);
        assert_eq!(
            (cache.get(&1), cache.peek(&1), cache.contains_key(&1), cache.remove(&1)),
            (None, None, false, None)
        );
        assert_eq!((cache.pop_lru(), cache.len(), cache.weight(), cache.capacity()), (None, 0, 0, usize::MAX));
        assert!(cache.is_empty() && cache.entries().is_empty() && cache.stats().misses == 1);
        cache.retain(|_, _| false);
        cache.set_capacity(1_000_000);
        cache.clear();
        drop(LruCache::<u64, u64, _>::with_hasher(usize::MAX, RandomState::new()));
        drop(Cache::builder(usize::MAX).build());
        drop(Cache::builder(usize::MAX).shards(1).hasher(RandomState::new()).time_to_live(HOUR).build());
        drop(cache.get_or_load(&1, pending));
    });
    assert_eq!(info.count_total, 0);
}

#[test]
fn a_hit_allocates_nothing() {
    for cache in caches(100) {
        (0..100).for_each(|key| _ = cache.insert(key, key));
        let mut keys = (0..100).filter(|key| cache.contains_key(key)).cycle();
        let mut key = || keys.next().unwrap();
        assert_eq!(allocations(|| assert!(cache.get(&key()).is_some())), 0, "get");
        assert_eq!(allocations(|| assert!(cache.peek(&key()).is_some() && cache.contains_key(&key()))), 0, "peek");
        let mut get_or_insert = || {
            cache.get_or_insert_with(&key(), || unreachable!());
            cache.try_get_or_insert_with(&key(), || Err(())).unwrap();
        };
        assert_eq!(allocations(&mut get_or_insert), 0, "get_or_insert_with");
        let load = || {
            ready(&mut pin!(cache.get_or_load(&key(), pending)));
            ready(&mut pin!(cache.try_get_or_load(&key(), || async { Err(()) }))).unwrap();
        };
        assert_eq!(allocations(load), 0, "get_or_load");
    }
}

#[test]
fn a_cache_that_is_full_allocates_nothing() {
    for capacity in [1, 10, 1_000] {
        for cache in caches(capacity) {
            let mut next = 0;
            let mut insert = || {
                next += 1;
                cache.insert(next, next)
            };
            // Long enough that its growth has no effect any more.
            (0..50 * capacity).for_each(|_| _ = insert());
            let churn = measure(|| (0..50 * capacity).for_each(|_| assert_eq!(insert(), None)));
            assert_eq!(churn.count_total, 0, "insert and evict, {capacity}");
            let present = cache.entries()[0].0;
            assert_eq!(allocations(|| assert!(cache.insert(present, 1).is_some())), 0, "replace, {capacity}");
            let remove_and_insert = || {
                assert!(cache.remove(&present).is_some());
                assert_eq!(cache.insert(present, 1), None);
            };
            assert_eq!(allocations(remove_and_insert), 0, "remove and insert, {capacity}");
        }
    }
}

/// Asserts that an entry takes few bytes beside key and value, in a cache that is filled and then churned.
#[track_caller]
fn takes_little(entries: u64, churns: u64, leave: impl FnOnce(&Cache)) {
    let cache = Cache::new(entries as usize);
    let insert = |keys: Range<u64>| keys.for_each(|key| _ = cache.insert(key, key));
    let per_entry = |info: &AllocationInfo| info.bytes_current as f64 / entries as f64 - size_of::<[u64; 2]>() as f64;
    let left = measure(|| {
        let churned = measure(|| {
            let fresh = measure(|| insert(0..entries));
            println!("{:.1} bytes beside key and value", per_entry(&fresh));
            assert!(per_entry(&fresh) > 8.0, "they are measured");
            assert!(per_entry(&fresh) <= 32.0, "{} bytes are too many", per_entry(&fresh));
            insert(entries..entries * (1 + churns));
        });
        println!("{:.1} after churning", per_entry(&churned));
        assert!(per_entry(&churned) <= 32.0, "{} bytes are too many after churning", per_entry(&churned));
        assert_eq!(cache.len(), entries as usize);
        leave(&cache);
        assert_eq!(cache.len(), 0);
    });
    assert!(left.bytes_current < SMALL, "{} bytes are kept", left.bytes_current);
}

/// As full as a million makes the table, and faster to fill.
const AS_A_MILLION: u64 = MILLION as u64 / 8;

#[test]
fn a_cache_of_a_million_takes_little_and_gives_it_back() {
    takes_little(if cfg!(debug_assertions) { AS_A_MILLION } else { MILLION as u64 }, 2, Cache::clear);
}

#[test]
fn a_cache_takes_little_however_long_it_is_churned() {
    // It depends on how full the table is, and small ones wear out sooner.
    for entries in [950, 1_100, 1_200, 1_300, 1_400, 4_000] {
        takes_little(entries, 200, Cache::clear);
    }
}

#[test]
fn a_cache_gives_back_the_memory_of_removed_entries() {
    let ways: [fn(&Cache); 4] = [
        |cache| (0..3 * AS_A_MILLION).for_each(|key| _ = cache.remove(&key)),
        |cache| while cache.pop_lru().is_some() {},
        |cache| cache.set_capacity(0),
        |cache| cache.retain(|_, _| false),
    ];
    ways.into_iter().for_each(|leave| takes_little(AS_A_MILLION, 0, leave));
}

#[test]
fn a_cache_gives_memory_back_though_a_few_entries_stay() {
    let ways: [fn(&Cache); 2] =
        [|cache| cache.set_capacity(100), |cache| cache.retain(|&key, _| key >= AS_A_MILLION - 100)];
    for leave in ways {
        let left = measure(|| {
            let cache = Cache::new(AS_A_MILLION as usize);
            (0..AS_A_MILLION).for_each(|key| _ = cache.insert(key, key));
            leave(&cache);
            assert_eq!(cache.len(), 100);
            std::mem::forget(cache);
        });
        // Room for a thousand is kept, each with key and value.
        assert!(left.bytes_current < 3 * SMALL, "{} bytes are kept", left.bytes_current);
    }
}

#[test]
fn a_small_or_half_full_cache_keeps_its_memory() {
    let small = Cache::new(1_000);
    let fill = || (0..1_000).for_each(|key| _ = small.insert(key, key));
    fill();
    small.retain(|&key, _| key < 10);
    assert_eq!((small.len(), measure(fill).count_total), (10, 0));
    while small.pop_lru().is_some() {}
    assert_eq!(measure(fill).count_total, 0);
    let large = Cache::new(10_000);
    (0..10_000).for_each(|key| _ = large.insert(key, key));
    large.retain(|&key, _| key < 5_000);
    assert_eq!(allocations(|| large.retain(|_, _| true)), 0);
}

#[test]
fn a_cache_gives_back_the_memory_of_expired_entries() {
    let (clock, second) = (Clock::new(), Duration::from_secs(1));
    let left = measure(|| {
        let builder = LruCache::<u64, u64>::builder(2 * AS_A_MILLION as usize).time_to_live(2 * second);
        let cache = builder.clock(clock.source()).build();
        (0..AS_A_MILLION).for_each(|key| _ = cache.insert(key, key));
        clock.advance(second);
        (0..100).for_each(|key| _ = cache.insert(AS_A_MILLION + key, key));
        clock.advance(second);
        cache.retain(|_, _| true);
        assert_eq!(cache.len(), 100);
        std::mem::forget(cache);
    });
    assert!(left.bytes_current < 3 * SMALL, "{} bytes are kept", left.bytes_current);
}

#[test]
fn waiting_for_a_load_allocates_nothing() {
    let cache = Cache::new(10);
    let mut leader = pin!(cache.get_or_load(&7, pending));
    assert!(poll(&mut leader).is_pending());
    let wait = || {
        let (mut one, mut other) = (pin!(cache.get_or_load(&7, pending)), pin!(cache.get_or_load(&7, pending)));
        assert!(poll(&mut one).is_pending() && poll(&mut other).is_pending());
    };
    assert_eq!(allocations(wait), 0, "a wait that is cancelled");
    // The followers of a load are a list of their own.
    let load = || {
        let mut leader = pin!(cache.get_or_load(&8, || async {
            yield_now().await;
            1
        }));
        let mut waiter = pin!(cache.get_or_load(&8, pending));
        assert!(poll(&mut leader).is_pending() && poll(&mut waiter).is_pending());
        assert_eq!([ready(&mut leader), ready(&mut waiter)], [1, 1]);
        cache.remove(&8);
    };
    assert_eq!(allocations(load), 100, "one for the followers");
}

#[test]
fn a_storm_of_loads_leaves_little() {
    for clears in [false, true] {
        let cache = &Cache::new(10);
        let storm = measure(|| {
            let load = |key| {
                let mut load = Box::pin(async move { cache.get_or_load(&key, pending).await });
                assert!(poll(&mut load).is_pending());
                load
            };
            let loads: Vec<_> = (0..100_000).map(load).collect();
            if clears {
                cache.clear();
            }
            drop(loads);
        });
        assert!(storm.bytes_max > 100 * SMALL as u64, "a storm of only {} bytes", storm.bytes_max);
        // Room for a thousand is kept, each of a few words.
        assert!(storm.bytes_current < 4 * SMALL, "{} of {} bytes are kept", storm.bytes_current, storm.bytes_max);
    }
}

#[test]
fn a_dropped_cache_gives_everything_back() {
    let info = measure(|| {
        for cache in caches(100) {
            (0..1_000).for_each(|key| _ = cache.insert(key, key));
            let mut load = Box::pin(cache.get_or_load(&5_000, pending));
            let mut waiter = Box::pin(cache.get_or_load(&5_000, pending));
            assert!(poll(&mut load).is_pending() && poll(&mut waiter).is_pending());
        }
    });
    assert_eq!((info.bytes_current, info.count_current), (0, 0));
}
