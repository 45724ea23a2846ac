//! Callers that share one load, and keys that have loads of their own.

use std::future::Ready;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use stanchion::{LruCache, blocking};

use super::{
    Blue, Caller, End, Fails, Got, KEY, Load, Red, assert_in_flight, assert_stored, begin_infallible, begin_load,
    counts,
};
use crate::Cache;
use crate::common::hooks::Hooks;
use crate::common::{Log, Task, poll, poll_with, ready, until};

#[test]
fn a_thousand_callers_share_one_load() {
    let cache = Cache::new(10);
    let mut callers = begin_load(&cache, [Fails::Never; 1_000]);
    assert_eq!(counts(&cache), [0, 1_000, 1, 0, 0]);
    assert_stored(&cache, None);
    assert_eq!((cache.get(&KEY), cache.contains_key(&KEY)), (None, false), "it is not stored yet");
    assert!(callers.iter().all(|caller| caller.wakes() == 0));
    assert_eq!(callers[0].ends(End::Value(5)), Got::Value(5));
    assert!(callers.iter().skip(1).all(|caller| caller.wakes() == 1), "each is woken once");
    assert_stored(&cache, Some(5));
    assert_in_flight(&cache, 1);
    // They may run in any order.
    callers.rotate_left(400);
    for caller in callers.iter_mut().filter(|caller| !caller.leads()) {
        assert_in_flight(&cache, 1);
        assert_eq!(caller.served(), Got::Value(5));
    }
    assert_in_flight(&cache, 0);
    assert_eq!(counts(&cache), [0, 1_001, 1, 0, 1]);
    let mut late = Caller::new(&cache, Fails::Red);
    assert_eq!((late.got(), late.leads()), (Got::Value(5), false));
    assert_eq!(counts(&cache), [1, 1_001, 1, 0, 1]);
}

#[test]
fn threads_share_one_initialiser() {
    const THREADS: usize = 100;
    let cache = Cache::new(10);
    let calls = AtomicUsize::new(0);
    let initialiser = || {
        calls.fetch_add(1, Ordering::SeqCst);
        until(|| cache.stats().misses == THREADS as u64);
        5
    };
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (cache, initialiser) = (&cache, &initialiser);
            scope.spawn(move || match number % 4 {
                0 => assert_eq!(cache.get_or_insert_with(&KEY, initialiser), 5),
                1 => assert_eq!(cache.try_get_or_insert_with(&KEY, || Ok::<_, Red>(initialiser())), Ok(5)),
                2 => assert_eq!(blocking::wait(cache.get_or_load(&KEY, || async { initialiser() })), 5),
                _ => {
                    let load = cache.try_get_or_load(&KEY, || async { Ok::<_, Blue>(initialiser()) });
                    assert_eq!(blocking::wait(load), Ok(5));
                }
            });
        }
    });
    assert_in_flight(&cache, 0);
    assert_eq!((calls.into_inner(), counts(&cache)), (1, [0, THREADS as u64, 1, 0, 1]));
}

#[test]
fn each_key_has_a_load_of_its_own() {
    let cache = Cache::new(10);
    let [leader, mut follower] = begin_infallible(&cache);
    let load = Load::default();
    let mut other = Box::pin(cache.try_get_or_load(&1, || load.begin()));
    assert!(poll(&mut other).is_pending() && load.has_begun());
    assert_in_flight(&cache, 2);
    load.end(End::Value(10));
    assert_eq!(ready(&mut other), Ok(10));
    assert_in_flight(&cache, 1);
    follower.follows();
    drop((leader, follower));
    assert_in_flight(&cache, 0);
    assert_eq!(cache.entries(), [(1, 10)]);
}

/// A hasher that gives all keys the same hash.
#[derive(Clone, Default)]
struct Same;

impl Hasher for Same {
    fn write(&mut self, _: &[u8]) {}

    fn finish(&self) -> u64 {
        7
    }
}

#[test]
fn keys_of_the_same_hash_have_loads_of_their_own() {
    const KEYS: usize = 4;
    for first in 0..KEYS {
        let cache = LruCache::<usize, u32, _>::with_hasher(10, BuildHasherDefault::<Same>::default());
        let loads = [(); KEYS].map(|()| Load::default());
        let call = |key: usize| {
            let (cache, load) = (&cache, &loads[key]);
            Task::waiting(Box::pin(async move { cache.try_get_or_load(&key, || load.begin()).await.unwrap() }))
        };
        let mut callers: Vec<_> = (0..KEYS).map(|key| [call(key), call(key)]).collect();
        assert_in_flight(&cache, KEYS);
        assert!(loads.iter().all(Load::has_begun));
        for ended in 0..KEYS {
            let key = (first + ended) % KEYS;
            loads[key].end(End::Value(key as u32));
            assert_eq!(callers[key].each_mut().map(Task::ready), [key as u32; 2]);
            assert_in_flight(&cache, KEYS - ended - 1);
        }
    }
}

#[test]
fn a_load_that_is_not_polled_does_nothing() {
    let cache = Cache::new(10);
    drop(cache.get_or_load(&KEY, || -> Ready<u32> { unreachable!("it is not polled") }));
    let unpolled = cache.try_get_or_load(&KEY, || -> Ready<Result<u32, Red>> { unreachable!("it is not polled") });
    assert_in_flight(&cache, 0);
    assert_eq!(counts(&cache), [0; 5]);
    drop(unpolled);
    assert_in_flight(&cache, 0);
    assert_eq!(counts(&cache), [0; 5]);
}

#[test]
fn a_follower_is_woken_by_the_waker_of_its_last_poll() {
    let cache = Cache::new(10);
    let [mut leader, mut follower, mut steady] = begin_infallible(&cache);
    let log = Arc::new(Log::default());
    let dropped = Arc::new(AtomicUsize::new(0));
    let count = dropped.clone();
    let first = Hooks::new().on_drop(move || _ = count.fetch_add(1, Ordering::SeqCst)).waker();
    assert!(poll_with(follower.task.future_mut(), &first).is_pending());
    drop(first);
    let held = dropped.load(Ordering::SeqCst);
    for entry in [1, 2, 3] {
        assert!(poll_with(follower.task.future_mut(), &log.waker(entry)).is_pending());
    }
    assert_eq!(dropped.load(Ordering::SeqCst), held + 1, "a replaced waker is dropped");
    steady.follows();
    assert_eq!(leader.ends(End::Value(5)), Got::Value(5));
    assert_eq!((log.take(), follower.wakes(), steady.wakes()), (vec![3], 0, 1));
    assert_eq!([follower.got(), steady.got()], [Got::Value(5), Got::Value(5)]);
    assert_in_flight(&cache, 0);
}

#[test]
fn a_cancelled_follower_takes_nothing_from_the_others() {
    let cache = Cache::new(10);
    for before in [true, false] {
        let [mut leader, one, mut other, last] = begin_infallible(&cache);
        let (mut one, mut last) = (Some(one), Some(last));
        if before {
            (one, last) = (None, None);
        }
        assert_in_flight(&cache, 1);
        assert_eq!(leader.ends(End::Value(5)), Got::Value(5));
        assert_in_flight(&cache, 1);
        drop((one, last));
        assert_eq!((other.wakes(), other.served()), (1, Got::Value(5)));
        assert_in_flight(&cache, 0);
        assert_eq!(cache.remove(&KEY), Some(5));
    }
}
