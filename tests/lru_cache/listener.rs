//! The listener: its reports, their causes and times, and calls of the cache by the listener.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use stanchion::{Cause, LruCache, LruCacheBuilder};

use crate::common::{Check, Clock, Task};
use crate::{Builder, Cache, LOADS, Report, Reports, fill, ignore, keys, loaded, reporting};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn entries_are_reported_once_unless_they_are_returned() {
    type Act = (&'static str, fn(&Cache, &Clock), &'static [Report]);
    // A call on a cache of 3, 2 and 1, of which 1 is the oldest, and its reports.
    let table: [Act; 26] = [
        ("get", |cache, _| ignore((cache.get(&1), cache.get(&9))), &[]),
        ("peek", |cache, _| ignore((cache.peek(&1), cache.peek(&9))), &[]),
        ("insert", |cache, _| ignore(cache.insert(4, 40)), &[(1, 10, Cause::Capacity)]),
        ("inserts", |cache, _| fill(cache, 4..6), &[(1, 10, Cause::Capacity), (2, 20, Cause::Capacity)]),
        ("insert of another value", |cache, _| assert_eq!(cache.insert(1, 11), Some(10)), &[]),
        ("insert of too heavy a value", |cache, _| assert_eq!(cache.insert(1, 1_000), Some(10)), &[]),
        ("insert of a new key with too heavy a value", |cache, _| assert_eq!(cache.insert(9, 1_000), None), &[]),
        ("a load", |cache, _| ignore(LOADS[0].1(cache, 4, &|| 40)), &[(1, 10, Cause::Capacity)]),
        ("an async load", |cache, _| ignore(LOADS[2].1(cache, 4, &|| 40)), &[(1, 10, Cause::Capacity)]),
        ("a load that hits", |cache, _| ignore(LOADS[2].1(cache, 1, &|| 40)), &[]),
        ("a load of too heavy a value", |cache, _| ignore(LOADS[2].1(cache, 4, &|| 1_000)), &[]),
        ("a load that fails", |cache, _| drop(cache.try_get_or_insert_with(&4, || Err::<u32, _>("no"))), &[]),
        (
            "a load that is dropped",
            |cache, _| drop(Task::waiting(Box::pin(cache.get_or_load(&4, std::future::pending)))),
            &[],
        ),
        ("remove", |cache, _| ignore(cache.remove(&1)), &[]),
        ("remove_entry", |cache, _| ignore(cache.remove_entry(&1)), &[]),
        ("pop_lru", |cache, _| ignore(cache.pop_lru()), &[]),
        ("remove_if", |cache, _| assert_eq!(cache.remove_if(&1, |_, &value| value == 10), Some(10)), &[]),
        ("update", |cache, _| assert_eq!(cache.update(&1, |value| *value += 1), Some(())), &[]),
        (
            "update to too heavy a value",
            |cache, _| cache.update(&1, |value| *value = 1_000).unwrap(),
            &[(1, 1_000, Cause::Capacity)],
        ),
        ("retain", |cache, _| cache.retain(|&key, _| key == 2), &[(3, 30, Cause::Removed), (1, 10, Cause::Removed)]),
        (
            "clear",
            |cache, _| cache.clear(),
            &[(1, 10, Cause::Removed), (2, 20, Cause::Removed), (3, 30, Cause::Removed)],
        ),
        (
            "time and clear",
            |cache, clock| {
                clock.advance(MINUTE);
                cache.clear();
            },
            &[(1, 10, Cause::Expired), (2, 20, Cause::Expired), (3, 30, Cause::Expired)],
        ),
        ("set_capacity", |cache, _| cache.set_capacity(1), &[(1, 10, Cause::Capacity), (2, 20, Cause::Capacity)]),
        ("time", |_, clock| clock.advance(MINUTE), &[]),
        (
            "time and a get",
            |cache, clock| {
                clock.advance(MINUTE);
                cache.get(&2);
            },
            &[(2, 20, Cause::Expired)],
        ),
        (
            "time and an insert",
            |cache, clock| {
                clock.advance(MINUTE);
                fill(cache, [4]);
            },
            &[(1, 10, Cause::Expired)],
        ),
    ];
    for (name, act, wanted) in table {
        let clock = Clock::new();
        let (cache, reports) = reporting(3, |builder| {
            let builder = builder.weigher(|_, &value| 1 + u64::from(value / 1_000) * 10);
            builder.time_to_live(MINUTE).clock(clock.source())
        });
        fill(&cache, 1..=3);
        act(&cache, &clock);
        cache.check();
        let mut reported = reports.take();
        if name.ends_with("clear") {
            reported.sort_unstable_by_key(|report| report.0);
        }
        assert_eq!(reported, wanted, "{name}");
        let count = |cause| wanted.iter().filter(|report| report.2 == cause).count() as u64;
        let stats = cache.stats();
        assert_eq!((stats.evictions, stats.expirations), (count(Cause::Capacity), count(Cause::Expired)), "{name}");
        drop(cache);
        assert_eq!(reports.take(), [], "{name}: entries of a dropped cache are not reported");
    }
}

#[test]
fn the_listener_gets_the_key_and_the_value_themselves() {
    /// Cannot be cloned.
    #[derive(Debug, PartialEq, Eq, Hash)]
    struct Key(u32);
    /// Counts its clones.
    #[derive(Debug)]
    struct Value(Arc<AtomicUsize>);
    impl Clone for Value {
        fn clone(&self) -> Self {
            self.0.fetch_add(1, Ordering::Relaxed);
            Self(self.0.clone())
        }
    }

    let (reports, clones) = (Reports::new(), Arc::new(AtomicUsize::new(0)));
    let cache = LruCache::builder(1).on_evict(reports.listener()).build();
    for key in 0..3 {
        assert!(cache.insert(Key(key), Value(clones.clone())).is_none());
    }
    cache.set_capacity(0);
    let reports = reports.take();
    assert_eq!(reports.iter().map(|(key, ..)| key.0).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(clones.load(Ordering::Relaxed), 0);
    drop(reports);
    assert_eq!(Arc::strong_count(&clones), 1, "they were not cloned");
}

#[test]
fn a_cache_without_a_listener_drops_evicted_entries() {
    let alive = Arc::new(());
    let cache = LruCache::new(2);
    for key in 0..10 {
        cache.insert(key, alive.clone());
        assert!(Arc::strong_count(&alive) <= 3);
    }
    cache.set_capacity(1);
    assert_eq!(Arc::strong_count(&alive), 2);
}

/// A cache whose listener can use it.
fn reentrant(
    capacity: usize,
    set: impl FnOnce(Builder) -> Builder,
    listener: impl Fn(&Cache, Report) + Send + Sync + 'static,
) -> Arc<Cache> {
    let place: Arc<OnceLock<Weak<Cache>>> = Arc::default();
    let inside = place.clone();
    let listener = move |key, value, cause| {
        let cache = inside.get().and_then(Weak::upgrade).expect("the cache is in use");
        listener(&cache, (key, value, cause));
    };
    let cache = Arc::new(set(LruCache::builder(capacity)).on_evict(listener).build());
    place.set(Arc::downgrade(&cache)).unwrap();
    cache
}

#[test]
fn the_listener_finds_the_cache_as_it_is_after_the_call() {
    let seen = Reports::new();
    let log = seen.clone();
    let cache = reentrant(3, |builder| builder, move |cache, (key, ..)| log.push((key, keys(cache))));
    fill(&cache, 1..=4);
    assert_eq!(seen.take(), [(1, vec![4, 3, 2])]);
    assert_eq!(loaded(cache.get_or_load(&5, || async { 50 })), 50);
    assert_eq!(seen.take(), [(2, vec![5, 4, 3])]);
    cache.set_capacity(1);
    assert_eq!(seen.take(), [(3, vec![5]), (4, vec![5])]);
}

#[test]
fn the_listener_may_call_everything() {
    type Act = (&'static str, fn(&Cache), &'static [u32]);
    // A call of the listener when 4 evicts 1, and the keys in the end.
    let table: [Act; 14] = [
        ("get", |cache| assert_eq!(cache.get(&2), Some(20)), &[2, 4, 3]),
        ("insert", |cache| assert_eq!(cache.insert(9, 90), None), &[9, 4, 3]),
        ("replace", |cache| assert_eq!(cache.insert(3, 31), Some(30)), &[3, 4, 2]),
        ("remove", |cache| assert_eq!(cache.remove(&4), Some(40)), &[3, 2]),
        ("pop_lru", |cache| assert_eq!(cache.pop_lru(), Some((2, 20))), &[4, 3]),
        ("clear", |cache| cache.clear(), &[]),
        ("retain", |cache| cache.retain(|&key, _| key == 3), &[3]),
        ("shrink", |cache| cache.set_capacity(1), &[4]),
        ("grow", |cache| cache.set_capacity(4), &[4, 3, 2]),
        ("entries", |cache| assert_eq!(cache.entries().len(), 3), &[4, 3, 2]),
        ("load", |cache| assert_eq!(cache.get_or_insert_with(&9, || 90), 90), &[9, 4, 3]),
        ("async load", |cache| assert_eq!(loaded(cache.get_or_load(&9, || async { 90 })), 90), &[9, 4, 3]),
        ("load of the evicted key", |cache| assert_eq!(cache.get_or_insert_with(&1, || 11), 11), &[1, 4, 3]),
        ("look", |cache| assert!(cache.stats().evictions == 1 && format!("{cache:?}").contains("len: 3")), &[4, 3, 2]),
    ];
    for (name, act, rest) in table {
        let cache = reentrant(
            3,
            |builder| builder,
            move |cache, (key, ..)| {
                if key == 1 {
                    act(cache);
                }
            },
        );
        fill(&cache, 1..=4);
        assert_eq!(keys(&cache), rest, "{name}");
    }
}

#[test]
fn a_listener_may_insert_the_entries_that_it_is_given() {
    let rounds = Arc::new(AtomicUsize::new(0));
    let count = rounds.clone();
    let cache = reentrant(
        3,
        |builder| builder,
        move |cache, (key, value, cause)| {
            assert_eq!(cause, Cause::Capacity);
            if count.fetch_add(1, Ordering::Relaxed) < 20 {
                assert_eq!(cache.insert(key, value), None);
            }
            assert_eq!(cache.len(), 3);
        },
    );
    fill(&cache, 1..=4);
    // 1 is evicted and evicts 2 when it is inserted again, and so on, 21 times.
    assert_eq!((rounds.load(Ordering::Relaxed), keys(&cache)), (21, vec![4, 3, 2]));
}

#[test]
fn the_capacity_may_be_set_by_a_listener_while_it_is_being_set() {
    for shards in [1, 3] {
        let cache = reentrant(
            30,
            |builder| builder.shards(shards),
            |cache, _| {
                let capacity = cache.capacity();
                cache.set_capacity(if capacity > 3 { capacity / 2 } else { 7 });
            },
        );
        fill(&cache, 0..200);
        cache.set_capacity(5);
        cache.check();
        let capacity = cache.capacity();
        for key in 0..200 {
            cache.insert(key, key);
        }
        cache.check();
        assert!(capacity < 30 && cache.len() <= cache.capacity());
    }
}

#[test]
fn evicted_entries_may_go_to_a_second_cache() {
    let second: Arc<Cache> = Arc::new(LruCache::new(100));
    let behind = second.clone();
    let builder: Builder = LruCacheBuilder::on_evict(LruCache::builder(10), move |key, value, _| {
        behind.insert(key, value);
    });
    let first = builder.build();
    fill(&first, 0..50);
    assert!(keys(&second).into_iter().eq((0..40).rev()));
    assert!((0..50).all(|key| first.contains_key(&key) != second.contains_key(&key)));
}

#[test]
fn each_shard_reports_its_own_evictions() {
    let (cache, reports) = reporting(40, |builder| builder.shards(4));
    fill(&cache, 0..200);
    let (early, rest) = (reports.take(), keys(&cache));
    assert_eq!((early.len(), rest.len(), cache.stats().evictions), (160, 40, 160));
    cache.set_capacity(8);
    let late = reports.take();
    assert_eq!((late.len(), cache.len()), (32, 8));
    let mut all: Vec<_> = early.into_iter().chain(late).map(|(key, ..)| key).chain(keys(&cache)).collect();
    all.sort_unstable();
    assert!(all.into_iter().eq(0..200), "each key once");
}
