//! Changes of the cache during a load: some make it stale, and its followers get its value or start over.

use stanchion::LruCache;

use super::{
    Caller, End, Fails, Got, KEY, STALE, Stale, Step, assert_in_flight, assert_stored, assert_wakes, begin_infallible,
    begin_load, counts,
};
use crate::Cache;

/// The calls that make a load stale.
const INVALIDATIONS: [Step; 4] = [
    ("remove", |cache| assert_eq!(cache.remove(&KEY), None)),
    ("remove_entry", |cache| assert_eq!(cache.remove_entry(&KEY), None)),
    ("clear", LruCache::clear),
    ("retain", |cache| cache.retain(|_, _| true)),
];

/// Calls that do not.
const UNRELATED: [Step; 11] = [
    ("remove_if", |cache| assert_eq!(cache.remove_if(&KEY, |_, _| true), None)),
    ("update", |cache| assert_eq!(cache.update(&KEY, |value| *value += 1), None)),
    ("for_each", |cache| cache.for_each(|_, _| unreachable!("it is empty"))),
    ("pop_lru", |cache| assert_eq!(cache.pop_lru(), None)),
    ("set_capacity", |cache| {
        cache.set_capacity(0);
        cache.set_capacity(1);
    }),
    ("an eviction", |cache| {
        (100..120).for_each(|key| _ = cache.insert(key, 1));
        (100..120).for_each(|key| _ = cache.remove(&key));
    }),
    ("get", |cache| assert_eq!((cache.get(&KEY), cache.peek(&KEY), cache.contains_key(&KEY)), (None, None, false))),
    ("entries", |cache| assert_eq!(cache.entries(), [])),
    ("another key's insert", |cache| {
        cache.insert(8, 8);
        cache.remove(&8);
    }),
    ("another key's remove", |cache| assert_eq!((cache.remove(&8), cache.remove_entry(&9)), (None, None))),
    ("another key's load", |cache| {
        assert_eq!(cache.get_or_insert_with(&8, || 8), 8);
        cache.remove(&8);
    }),
];

#[test]
fn unrelated_calls_do_not_affect_a_load() {
    for (name, step) in UNRELATED {
        let cache = Cache::new(10);
        let [mut leader, mut follower] = begin_infallible(&cache);
        step(&cache);
        assert_in_flight(&cache, 1);
        let mut newcomer = Caller::following(&cache, Fails::Never);
        assert_wakes([&follower, &newcomer], &[0, 0]);
        assert_eq!(leader.ends(End::Value(5)), Got::Value(5), "{name}");
        assert_stored(&cache, Some(5));
        assert_eq!([follower.served(), newcomer.served()], [Got::Value(5), Got::Value(5)], "{name}");
        assert_in_flight(&cache, 0);
    }
}

#[test]
fn only_an_insert_affects_a_leaderless_load() {
    for (name, step) in UNRELATED.into_iter().chain(INVALIDATIONS) {
        let cache = Cache::new(10);
        let [leader, mut granted, mut other] = begin_infallible(&cache);
        drop(leader);
        step(&cache);
        assert_in_flight(&cache, 1);
        let mut newcomer = Caller::following(&cache, Fails::Never);
        assert_wakes([&granted, &other, &newcomer], &[1, 0, 0]);
        granted.takes_the_lead();
        assert_eq!(granted.ends(End::Value(5)), Got::Value(5), "{name}");
        assert_stored(&cache, Some(5));
        assert_eq!([other.served(), newcomer.served()], [Got::Value(5), Got::Value(5)], "{name}");
        assert_in_flight(&cache, 0);
    }
}

#[test]
fn a_stale_load_is_not_stored_and_disturbs_no_later_load() {
    for (name, invalidate) in INVALIDATIONS {
        for stale in STALE {
            for first in [true, false] {
                let context = format!("{name}, {stale:?}, the stale one ends first: {first}");
                let cache = Cache::new(10);
                let mut early = begin_load(&cache, [Fails::Red; 3]);
                invalidate(&cache);
                let mut late = begin_again(&cache);
                assert_in_flight(&cache, 2);
                assert_wakes(&early[1..], &[0, 0]);
                let leader = early.remove(0);
                let got;
                if first {
                    got = stale.ends(leader);
                    assert_stored(&cache, None);
                    assert_wakes(&early, &[1, 1]);
                    if got.is_none() {
                        // They start over, and find the later load.
                        early.iter_mut().for_each(Caller::follows);
                        assert_in_flight(&cache, 1);
                    }
                    assert_eq!(late[0].ends(End::Value(2)), Got::Value(2), "{context}");
                } else {
                    assert_eq!(late[0].ends(End::Value(2)), Got::Value(2), "{context}");
                    assert_wakes(&early, &[0, 0]);
                    got = stale.ends(leader);
                    assert_wakes(&early, &[1, 1]);
                }
                assert_stored(&cache, Some(2));
                assert_eq!(late[1].served(), Got::Value(2), "{context}");
                for caller in &mut early {
                    assert!(caller.served().is(got.as_ref().unwrap_or(&Got::Value(2))), "{context}");
                }
                assert_in_flight(&cache, 0);
                assert_stored(&cache, Some(2));
                let failures = u64::from(stale == Stale::Fails);
                assert_eq!(counts(&cache), [0, 5, 2, failures, 1], "{context}: each is one miss");
            }
        }
    }
}

/// Begins another load, with one follower.
#[track_caller]
fn begin_again(cache: &Cache) -> [Caller<'_>; 2] {
    [Caller::leading(cache, Fails::Never), Caller::following(cache, Fails::Never)]
}

#[test]
fn a_stale_load_without_followers_leaves_nothing() {
    for (name, invalidate) in INVALIDATIONS {
        for stale in STALE {
            let cache = Cache::new(10);
            let leader = Caller::leading(&cache, Fails::Red);
            invalidate(&cache);
            assert_in_flight(&cache, 1);
            stale.ends(leader);
            assert_in_flight(&cache, 0);
            assert_stored(&cache, None);
            assert_eq!(cache.stats().insertions, 0, "{name}, {stale:?}");
        }
    }
}

#[test]
fn followers_of_an_abandoned_stale_load_start_over() {
    for (_, invalidate) in INVALIDATIONS {
        // One of them leads, and the others wait for it.
        for order in [[0, 1, 2], [2, 0, 1], [1, 2, 0]] {
            let cache = Cache::new(10);
            let [leader, one, two, three] = begin_infallible(&cache);
            let mut followers = [one, two, three];
            invalidate(&cache);
            drop(leader);
            assert_wakes(&followers, &[1, 1, 1]);
            followers[order[0]].takes_the_lead();
            followers[order[1]].follows();
            followers[order[2]].follows();
            assert_in_flight(&cache, 1);
            // They are queued in the order in which they started over.
            let [first, second, third] = order;
            drop(std::mem::replace(&mut followers[first], Caller::new(&cache, Fails::Never)));
            assert_eq!([followers[second].wakes(), followers[third].wakes()], [2, 1]);
            followers[second].takes_the_lead();
            assert_eq!(followers[second].ends(End::Value(8)), Got::Value(8));
            assert_eq!(followers[third].served(), Got::Value(8));
            assert_in_flight(&cache, 0);
            assert_stored(&cache, Some(8));
            assert_eq!(counts(&cache), [0, 4, 3, 0, 1]);
        }
    }
}

#[test]
fn a_follower_that_starts_over_counts_no_hit() {
    let cache = Cache::new(10);
    let [leader, mut follower, cancelled] = begin_infallible(&cache);
    cache.remove(&KEY);
    assert_eq!(cache.insert(KEY, 6), None);
    assert_wakes([&follower, &cancelled], &[0, 0]);
    drop(leader);
    drop(cancelled);
    assert_eq!(follower.served(), Got::Value(6));
    assert_in_flight(&cache, 0);
    assert_eq!(counts(&cache), [0, 3, 1, 0, 1]);
}

#[test]
fn followers_of_another_type_start_over_after_a_stale_error() {
    let cache = Cache::new(10);
    let mut callers = begin_load(&cache, [Fails::Red, Fails::Blue, Fails::Red, Fails::Never]);
    cache.remove(&KEY);
    let red = callers[0].ends(End::Error(1));
    assert_wakes(&callers[1..], &[1, 1, 1]);
    callers[3].takes_the_lead();
    callers[1].follows();
    assert_in_flight(&cache, 2);
    assert!(callers[2].served().is(&red));
    assert_in_flight(&cache, 1);
    assert_eq!(callers[3].ends(End::Value(2)), Got::Value(2));
    assert_eq!(callers[1].served(), Got::Value(2));
    assert_in_flight(&cache, 0);
    assert_eq!(counts(&cache), [0, 4, 2, 1, 1]);
}

#[test]
fn a_key_may_be_invalidated_again_and_again() {
    let cache = Cache::new(10);
    let mut loads: Vec<_> = (0..5)
        .map(|_| {
            let load = begin_again(&cache);
            cache.remove(&KEY);
            load
        })
        .collect();
    assert_in_flight(&cache, 5);
    loads.swap(0, 3);
    for (number, [leader, follower]) in loads.iter_mut().enumerate() {
        let value = Got::Value(number as u32);
        assert_eq!(leader.ends(End::Value(number as u32)), value);
        assert_eq!(follower.served(), value);
        assert_in_flight(&cache, 4 - number);
        assert_stored(&cache, None);
    }
}

#[test]
fn followers_of_a_stale_load_get_its_value_despite_an_insert() {
    let cache = Cache::new(10);
    let [mut leader, mut follower] = begin_infallible(&cache);
    cache.clear();
    cache.insert(KEY, 9);
    assert_eq!(Caller::new(&cache, Fails::Never).got(), Got::Value(9));
    assert_eq!(leader.ends(End::Value(5)), Got::Value(5));
    assert_eq!(follower.served(), Got::Value(5));
    assert_stored(&cache, Some(9));
    assert_in_flight(&cache, 0);
}
