//! Insertions during a load, and values that reach the followers without being stored.

use std::time::Duration;

use stanchion::LruCache;

use super::{
    Caller, End, Fails, Got, KEY, STALE, Stale, Step, assert_in_flight, assert_stored, assert_wakes, begin_infallible,
    begin_load, counts,
};
use crate::Cache;
use crate::common::Clock;

/// Caches, each with 100 if it stores that value: its weight may exceed the capacity.
fn caches() -> [(Cache, Option<u32>); 3] {
    let weighed = Cache::builder(10).weigher(|_, value| u64::from(*value)).build();
    [(Cache::new(10), Some(100)), (weighed, None), (Cache::new(0), None)]
}

#[test]
fn an_insert_during_a_load_serves_the_followers_and_stays() {
    for stale in STALE {
        for (cache, stored) in caches() {
            let mut callers = begin_load(&cache, [Fails::Red, Fails::Never, Fails::Blue, Fails::Red]);
            let leader = callers.remove(0);
            assert_eq!(cache.insert(KEY, 100), None);
            assert_in_flight(&cache, 1);
            assert_wakes(&callers, &[1, 1, 1]);
            assert_stored(&cache, stored);
            // The load is published: a later caller has no part in it.
            let mut newcomer = Caller::new(&cache, Fails::Never);
            match stored {
                Some(value) => assert_eq!(newcomer.got(), Got::Value(value)),
                None => newcomer.takes_the_lead(),
            }
            assert_eq!(callers[0].served(), Got::Value(100));
            stale.ends(leader);
            assert_stored(&cache, stored);
            assert_eq!([callers[1].served(), callers[2].served()], [Got::Value(100), Got::Value(100)]);
            assert_in_flight(&cache, usize::from(stored.is_none()));
            assert_eq!(newcomer.wakes(), 0);
            drop(newcomer);
            assert_in_flight(&cache, 0);
            assert_stored(&cache, stored);
            let stored = u64::from(stored.is_some());
            let failures = u64::from(stale == Stale::Fails);
            assert_eq!(counts(&cache), [stored, 5 - stored, 2 - stored, failures, stored], "{stale:?}");
        }
    }
}

#[test]
fn an_insert_serves_a_leaderless_load() {
    for is_cancelled in [false, true] {
        for (cache, stored) in caches() {
            let [leader, granted, mut other] = begin_infallible(&cache);
            let mut granted = Some(granted);
            drop(leader);
            assert_eq!(cache.insert(KEY, 100), None);
            assert_eq!(other.wakes(), 1);
            assert_in_flight(&cache, 1);
            if is_cancelled {
                granted = None;
            }
            assert!(granted.is_none_or(|mut granted| granted.served() == Got::Value(100)), "it need not load");
            assert_eq!((other.wakes(), other.served()), (1, Got::Value(100)));
            assert_in_flight(&cache, 0);
            assert_stored(&cache, stored);
            assert_eq!(cache.stats().loads, 1);
        }
    }
}

#[test]
fn followers_get_the_first_insert_and_no_later_one() {
    let cache = Cache::new(10);
    let [mut leader, mut follower, mut other] = begin_infallible(&cache);
    cache.insert(KEY, 1);
    assert_eq!(cache.insert(KEY, 2), Some(1));
    assert_eq!(follower.served(), Got::Value(1));
    cache.remove(&KEY);
    let next = Caller::leading(&cache, Fails::Never);
    assert_in_flight(&cache, 2);
    assert_eq!(other.served(), Got::Value(1));
    assert_eq!(leader.ends(End::Value(3)), Got::Value(3));
    assert_stored(&cache, None);
    assert_in_flight(&cache, 1);
    drop(next);
    assert_in_flight(&cache, 0);
}

#[test]
fn a_value_that_is_not_stored_reaches_all_followers() {
    for (cache, stored) in caches() {
        let [mut leader, mut follower] = begin_infallible(&cache);
        assert_eq!(leader.ends(End::Value(100)), Got::Value(100));
        assert_stored(&cache, stored);
        // The load is published all the same.
        let mut newcomer = Caller::new(&cache, Fails::Never);
        match stored {
            Some(value) => assert_eq!(newcomer.got(), Got::Value(value)),
            None => newcomer.takes_the_lead(),
        }
        assert_eq!(follower.served(), Got::Value(100));
        drop(newcomer);
        assert_in_flight(&cache, 0);
        let stored = u64::from(stored.is_some());
        assert_eq!(counts(&cache), [stored, 3 - stored, 2 - stored, 0, stored]);
    }
}

#[test]
fn a_value_reaches_the_followers_after_its_entry_is_removed() {
    const LATER: [Step; 8] = [
        ("remove", |cache| assert_eq!(cache.remove(&KEY), Some(5))),
        ("remove_entry", |cache| assert_eq!(cache.remove_entry(&KEY), Some((KEY, 5)))),
        ("clear", LruCache::clear),
        ("retain", |cache| cache.retain(|_, _| false)),
        ("pop_lru", |cache| assert_eq!(cache.pop_lru(), Some((KEY, 5)))),
        ("set_capacity", |cache| cache.set_capacity(0)),
        ("insert", |cache| assert_eq!(cache.insert(KEY, 6), Some(5))),
        ("eviction", |cache| assert_eq!(cache.insert(8, 6), None)),
    ];
    for (name, step) in LATER {
        let cache = Cache::new(1);
        let [mut leader, mut one, mut other] = begin_infallible(&cache);
        assert_eq!(leader.ends(End::Value(5)), Got::Value(5));
        assert_eq!(one.served(), Got::Value(5));
        step(&cache);
        assert_ne!(cache.peek(&KEY), Some(5), "{name}");
        let mut newcomer = Caller::new(&cache, Fails::Never);
        if name != "insert" {
            newcomer.takes_the_lead();
            assert_in_flight(&cache, 2);
        }
        assert_eq!(other.served(), Got::Value(5), "{name}");
        drop(newcomer);
        assert_in_flight(&cache, 0);
    }
}

#[test]
fn a_time_to_live_begins_when_the_load_ends() {
    const HOUR: Duration = Duration::from_secs(3_600);
    let clock = Clock::new();
    let cache = Cache::builder(10).time_to_live(HOUR).clock(clock.source()).build();
    cache.insert(KEY, 1);
    clock.advance(HOUR);
    // The expired entry is a miss, and its time does not count for the loaded one.
    let [mut leader, mut follower] = begin_infallible(&cache);
    clock.advance(HOUR / 2);
    assert_eq!(leader.ends(End::Value(5)), Got::Value(5));
    clock.advance(HOUR - Duration::from_nanos(1));
    assert!(cache.contains_key(&KEY));
    clock.advance(Duration::from_nanos(1));
    assert!(!cache.contains_key(&KEY));
    assert_eq!(follower.served(), Got::Value(5), "it waited before");
    assert_eq!((counts(&cache), cache.stats().expirations), ([0, 2, 1, 0, 2], 2));
    assert_in_flight(&cache, 0);
}

#[test]
fn a_load_outlives_clear() {
    let cache = Cache::new(10);
    cache.insert(1, 1);
    let mut leader = Caller::leading(&cache, Fails::Never);
    for _ in 0..3 {
        cache.clear();
        assert_in_flight(&cache, 1);
    }
    assert!(leader.task.is_pending());
    assert_eq!(leader.ends(End::Value(5)), Got::Value(5));
    assert_in_flight(&cache, 0);
    assert!(cache.is_empty());
}
