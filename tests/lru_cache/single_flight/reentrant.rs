//! Loaders that use the cache which they load for.

use std::future::Future;
use std::pin::{Pin, pin};
use std::thread;

use stanchion::{LruCache, blocking};

use super::{Caller, End, Fails, Got, KEY, Red, assert_in_flight, assert_stored, counts};
use crate::Cache;
use crate::common::{panic_of, ready, until};

#[test]
fn a_loader_may_load_other_keys() {
    fn sum(cache: &Cache, key: u32) -> u32 {
        cache.get_or_insert_with(&key, || if key == 0 { 0 } else { key + sum(cache, key - 1) })
    }
    fn later(cache: &Cache, key: u32) -> Pin<Box<dyn Future<Output = u32> + '_>> {
        let load = move || async move { if key == 0 { 0 } else { key + later(cache, key - 1).await } };
        Box::pin(async move { cache.get_or_load(&key, load).await })
    }
    for shards in [1, 4] {
        let cache = Cache::builder(100).shards(shards).build();
        assert_eq!(sum(&cache, 20), 210);
        assert_in_flight(&cache, 0);
        assert_eq!((cache.len(), counts(&cache)), (21, [0, 21, 21, 0, 21]));
        cache.clear();
        assert_eq!(blocking::wait(later(&cache, 20)), 210);
        assert_in_flight(&cache, 0);
        assert_eq!((cache.len(), counts(&cache)), (21, [0, 42, 42, 0, 42]));
    }
}

const OWN_KEY: &str = "its own key";

#[test]
fn a_loader_that_needs_its_own_key_panics() {
    for shards in [1, 16] {
        let cache = Cache::builder(16).shards(shards).build();
        let call = || cache.get_or_insert_with(&KEY, || 1);
        let try_call = || cache.try_get_or_insert_with(&KEY, || Err(Red(1))).unwrap_or(0);
        let calls: [&dyn Fn() -> u32; 4] = [
            &call,
            &try_call,
            // Through a load of another key, and through the thread's own executor.
            &|| cache.get_or_insert_with(&8, call),
            &|| blocking::wait(cache.get_or_load(&8, || async { try_call() })),
        ];
        for call in calls {
            let message = panic_of(|| cache.get_or_insert_with(&KEY, call));
            assert!(message.contains(OWN_KEY), "{message}");
            let message = panic_of(|| cache.try_get_or_insert_with(&KEY, || Ok::<_, Red>(call())));
            assert!(message.contains(OWN_KEY), "{message}");
            assert_in_flight(&cache, 0);
            assert!(cache.is_empty());
            // It is no more than a panic: the load can go on.
            let outcome = cache.get_or_insert_with(&KEY, || {
                assert!(panic_of(call).contains(OWN_KEY));
                assert_in_flight(&cache, 1);
                3
            });
            assert_eq!((outcome, cache.remove(&KEY)), (3, Some(3)));
            assert_in_flight(&cache, 0);
        }
    }
}

#[test]
fn a_thread_that_took_over_may_not_need_its_own_key_either() {
    let cache = Cache::new(10);
    let leader = Caller::leading(&cache, Fails::Never);
    thread::scope(|scope| {
        let thread =
            scope.spawn(|| panic_of(|| cache.get_or_insert_with(&KEY, || cache.get_or_insert_with(&KEY, || 1))));
        until(|| cache.stats().misses == 2);
        drop(leader);
        let message = thread.join().unwrap();
        assert!(message.contains(OWN_KEY), "{message}");
    });
    assert_in_flight(&cache, 0);
    assert_stored(&cache, None);
}

#[test]
fn a_thread_waits_for_the_task_that_took_over_from_it() {
    let cache = Cache::new(10);
    let mut task = Caller::new(&cache, Fails::Never);
    let message = panic_of(|| {
        cache.get_or_insert_with(&KEY, || {
            task.follows();
            panic!("the load panics");
        })
    });
    assert_eq!((message.as_str(), task.wakes()), ("the load panics", 1));
    task.takes_the_lead();
    thread::scope(|scope| {
        scope.spawn(|| {
            until(|| cache.stats().misses == 3);
            assert_eq!(task.ends(End::Value(5)), Got::Value(5));
        });
        assert_eq!(cache.get_or_insert_with(&KEY, || unreachable!("another caller loads")), 5);
    });
    assert_in_flight(&cache, 0);
}

#[test]
fn a_loader_may_poll_its_follower() {
    let cache = Cache::new(10);
    let mut task = Caller::new(&cache, Fails::Never);
    assert_eq!(
        cache.get_or_insert_with(&KEY, || {
            task.follows();
            5
        }),
        5
    );
    assert_eq!(task.served(), Got::Value(5));
    assert_in_flight(&cache, 0);
}

#[test]
fn a_loader_may_change_its_own_key() {
    /// With the value that is stored in the end.
    type Change = (&'static str, fn(&Cache), Option<u32>);
    const CHANGES: [Change; 5] = [
        ("insert", |cache| assert_eq!(cache.insert(KEY, 1), None), Some(1)),
        ("remove", |cache| assert_eq!(cache.remove(&KEY), None), None),
        ("clear", LruCache::clear, None),
        (
            "insert and remove",
            |cache| {
                cache.insert(KEY, 1);
                assert_eq!(cache.remove(&KEY), Some(1));
            },
            None,
        ),
        (
            "remove and insert",
            |cache| {
                cache.remove(&KEY);
                assert_eq!(cache.insert(KEY, 1), None);
            },
            Some(1),
        ),
    ];
    for (name, change, stored) in CHANGES {
        for is_async in [false, true] {
            let cache = Cache::new(10);
            let load = || {
                change(&cache);
                assert_in_flight(&cache, 1);
                5
            };
            let got = if is_async {
                ready(&mut pin!(cache.get_or_load(&KEY, || async { load() })))
            } else {
                cache.get_or_insert_with(&KEY, load)
            };
            assert_eq!(got, 5, "{name}");
            assert_in_flight(&cache, 0);
            assert_stored(&cache, stored);
        }
    }
}
