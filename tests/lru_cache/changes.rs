//! Conditional removal, changes in place, and visits.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use futures::channel::oneshot;
use stanchion::{Cause, LruCache, Stats};

use crate::common::{Check, panic_of, poll, ready};
use crate::{Cache, fill, keys, reporting};

const THREADS: usize = 8;

#[test]
fn remove_if_removes_only_what_meets_the_condition() {
    let (cache, reports) = reporting(3, |builder| builder);
    fill(&cache, 1..=3);
    assert_eq!(cache.remove_if(&1, |&key, &value| (key, value) == (1, 11)), None);
    assert_eq!(keys(&cache), [3, 2, 1], "this is no use");
    assert_eq!(cache.remove_if(&1, |&key, &value| (key, value) == (1, 10)), Some(10));
    assert_eq!(keys(&cache), [3, 2]);
    assert_eq!(cache.remove_if(&9, |_, _| unreachable!("it is absent")), None);
    assert_eq!(reports.take(), [], "it is handed to the caller, or stays");
    assert_eq!(cache.stats(), Stats { insertions: 3, ..Stats::default() }, "nothing else is counted");
}

#[test]
fn remove_if_is_for_keys_that_cannot_be_cloned() {
    #[derive(PartialEq, Eq, Hash)]
    struct Key(u8);
    let cache = LruCache::new(3);
    cache.insert(Key(1), 1);
    assert_eq!((cache.get(&Key(1)), cache.remove_if(&Key(1), |key, _| key.0 == 1)), (Some(1), Some(1)));
}

#[test]
fn callers_that_find_a_bad_value_replace_it_once() {
    let cache = LruCache::<u32, Arc<u32>>::new(4);
    let fetched = AtomicU32::new(0);
    cache.insert(1, Arc::new(0));
    let all_have_it = Barrier::new(THREADS);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let refused = cache.get(&1).unwrap();
                all_have_it.wait();
                cache.remove_if(&1, |_, token| Arc::ptr_eq(token, &refused));
                let fetch = || Arc::new(fetched.fetch_add(1, Ordering::SeqCst) + 1);
                assert_eq!(*cache.get_or_insert_with(&1, fetch), 1);
            });
        }
    });
    assert_eq!(fetched.into_inner(), 1);
}

#[test]
fn remove_if_does_not_touch_a_load_in_flight() {
    let cache = Cache::new(4);
    let (value, loaded) = oneshot::channel();
    let mut load = Box::pin(cache.get_or_load(&1, || async { loaded.await.unwrap() }));
    assert!(poll(&mut load).is_pending());
    assert_eq!(cache.remove_if(&1, |_, _| true), None);
    value.send(7).unwrap();
    assert_eq!((ready(&mut load), cache.get(&1)), (7, Some(7)));
}

#[test]
fn update_changes_the_value_in_place_and_is_a_use() {
    let cache = Cache::new(3);
    fill(&cache, 1..=3);
    assert_eq!(cache.update(&1, |value| std::mem::replace(value, 11)), Some(10));
    assert_eq!(cache.update(&9, |_| unreachable!("it is absent")), None::<()>);
    assert_eq!((cache.entries(), cache.stats().hits, cache.stats().misses), (vec![(1, 11), (3, 30), (2, 20)], 1, 1));
}

#[test]
fn threads_update_a_counter_atomically() {
    const EACH: u32 = 1_000;
    let cache = Cache::new(2);
    cache.insert(1, 0);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| (0..EACH).for_each(|_| cache.update(&1, |count| *count += 1).unwrap()));
        }
    });
    assert_eq!(cache.get(&1), Some(EACH * THREADS as u32));
}

#[test]
fn an_updated_entry_is_weighed_again() {
    let (cache, reports) = reporting(10, |builder| builder.weigher(|_, &value| u64::from(value)));
    for (key, value) in [(1, 2), (2, 3), (3, 4)] {
        cache.insert(key, value);
    }
    cache.update(&2, |value| *value = 1).unwrap();
    assert_eq!((cache.weight(), reports.take()), (7, vec![]), "lighter");
    cache.update(&2, |value| *value = 5).unwrap();
    assert_eq!((cache.weight(), reports.take()), (9, vec![(1, 2, Cause::Capacity)]), "the oldest makes room");
    cache.update(&3, |value| *value = 11).unwrap();
    assert_eq!((cache.weight(), reports.take()), (5, vec![(3, 11, Cause::Capacity)]), "too heavy, and nothing else");
    cache.update(&2, |value| *value = 10).unwrap();
    assert_eq!((cache.entries(), cache.weight(), reports.take()), (vec![(2, 10)], 10, vec![]), "as heavy as can be");
    assert_eq!(cache.stats().evictions, 2);
    cache.check();
}

#[test]
fn an_update_that_panics_leaves_the_entry_where_it_was() {
    let (cache, reports) = reporting(20, |builder| builder.weigher(|_, &value| u64::from(value % 100)));
    fill(&cache, [1]);
    cache.insert(2, 5);
    let message = panic_of(|| {
        cache.update(&1, |value| {
            *value = 109;
            panic!("half way");
        })
    });
    assert_eq!(message, "half way");
    assert_eq!((cache.entries(), cache.weight()), (vec![(2, 5), (1, 109)], 15), "the weight is that of before");
    assert_eq!((cache.stats().hits, reports.take()), (0, vec![]));
    cache.check();
}

#[test]
fn update_does_not_touch_a_load_in_flight() {
    let cache = Cache::new(4);
    let (value, loaded) = oneshot::channel();
    let mut load = Box::pin(cache.get_or_load(&1, || async { loaded.await.unwrap() }));
    assert!(poll(&mut load).is_pending());
    assert_eq!(cache.update(&1, |value| *value += 1), None);
    value.send(7).unwrap();
    assert_eq!((ready(&mut load), cache.get(&1)), (7, Some(7)));
}

#[test]
fn for_each_visits_from_the_most_to_the_least_recent() {
    let cache = Cache::new(3);
    fill(&cache, 1..=3);
    cache.get(&1);
    let mut seen = Vec::new();
    cache.for_each(|&key, &value| seen.push((key, value)));
    assert_eq!(seen, [(1, 10), (3, 30), (2, 20)]);
    assert_eq!(keys(&cache), [1, 3, 2], "this is no use");
    assert_eq!(cache.stats().hits, 1, "nothing is counted");
}

#[test]
fn a_load_that_is_invalidated_by_prefix_is_not_stored() {
    let cache = LruCache::<String, &str>::new(4);
    cache.insert("user:1:mail".to_owned(), "old");
    cache.insert("user:2:mail".to_owned(), "stays");
    let (row, read) = oneshot::channel();
    let mut load = Box::pin(cache.get_or_load("user:1:name", || async { read.await.unwrap() }));
    assert!(poll(&mut load).is_pending());
    row.send("old").unwrap(); // read before the update
    cache.retain(|key, _| !key.starts_with("user:1:")); // after it
    let mut later = Box::pin(cache.get_or_load("user:1:name", || async { "new" }));
    assert_eq!(ready(&mut later), "new");
    assert_eq!(ready(&mut load), "old", "asked for before the update");
    assert_eq!(
        ["user:1:name", "user:1:mail", "user:2:mail"].map(|key| cache.get(key)),
        [Some("new"), None, Some("stays")]
    );
}
