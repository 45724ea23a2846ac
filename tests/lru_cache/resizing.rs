//! Changes of the capacity, with entries and with loads in flight.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use stanchion::{Cause, LruCache};

use crate::common::{Check, Task, until};
use crate::{Cache, Report, fill, gate, keys, reporting};

/// The reports of these keys, with the values of `fill`, when they were evicted.
fn evicted(keys: impl IntoIterator<Item = u32>) -> Vec<Report> {
    keys.into_iter().map(|key| (key, 10 * key, Cause::Capacity)).collect()
}

#[test]
fn a_smaller_capacity_evicts_from_the_oldest_on() {
    for capacity in [0, 1, 2, 5, 9, 10, 11, 1_000, usize::MAX] {
        let (cache, reports) = reporting(10, |builder| builder);
        fill(&cache, 0..10);
        assert_eq!(cache.get(&0), Some(0));
        cache.set_capacity(capacity);
        let order = [0, 9, 8, 7, 6, 5, 4, 3, 2, 1];
        let (kept, rest) = order.split_at(capacity.min(10));
        assert_eq!((keys(&cache), cache.capacity()), (kept.to_vec(), capacity));
        assert_eq!(reports.take(), evicted(rest.iter().rev().copied()));
        assert_eq!(cache.stats().evictions, rest.len() as u64);
        assert!(rest.iter().all(|key| cache.get(key).is_none()) && kept.iter().all(|key| cache.get(key).is_some()));

        fill(&cache, 10..30);
        let room = capacity.min(30);
        assert_eq!(keys(&cache).len(), room);
        assert!(keys(&cache).into_iter().take(20).eq((10..30).rev().take(room)));
    }
}

#[test]
fn a_greater_capacity_evicts_nothing_and_admits_more() {
    let (cache, reports) = reporting(2, |builder| builder);
    fill(&cache, 0..4);
    assert_eq!(reports.take(), evicted(0..2));
    for capacity in [2, 3, 100, usize::MAX, usize::MAX] {
        cache.set_capacity(capacity);
        assert_eq!((keys(&cache), cache.capacity()), (vec![3, 2], capacity));
    }
    fill(&cache, 4..200);
    assert_eq!((keys(&cache).len(), reports.take()), (198, vec![]));
}

#[test]
fn the_capacity_may_change_again_and_again() {
    let (cache, reports) = reporting(0, |builder| builder);
    let (mut order, mut next, mut gone) = (Vec::new(), 0, 0);
    for round in 0..200_usize {
        let capacity = round * round % 23;
        cache.set_capacity(capacity);
        gone += order.len().saturating_sub(capacity);
        order.truncate(capacity);
        assert_eq!((keys(&cache), cache.capacity()), (order.clone(), capacity));
        for _ in 0..round % 5 {
            fill(&cache, [next]);
            order.insert(0, next);
            gone += usize::from(order.len() > capacity && capacity > 0);
            order.truncate(capacity);
            next += 1;
        }
        assert_eq!((keys(&cache), reports.take().len()), (order.clone(), std::mem::take(&mut gone)));
    }
}

#[test]
fn a_capacity_of_zero_stores_and_reports_nothing() {
    let (cache, reports) = reporting(3, |builder| builder);
    fill(&cache, 0..3);
    cache.set_capacity(0);
    assert_eq!(reports.take(), evicted(0..3));
    assert_eq!((cache.insert(0, 1), cache.insert(0, 2), cache.get_or_insert_with(&0, || 3)), (None, None, 3));
    assert_eq!((cache.pop_lru(), keys(&cache), reports.take()), (None, vec![], vec![]));
    cache.set_capacity(3);
    fill(&cache, 0..4);
    assert_eq!((keys(&cache), reports.take()), (vec![3, 2, 1], evicted([0])));
}

#[test]
fn a_loaded_value_is_stored_at_the_capacity_of_that_moment() {
    // From, to, and the keys in the end, of which 9 is loaded.
    let table: [(usize, usize, &[u32]); 7] = [
        (3, 0, &[]),
        (3, 1, &[9]),
        (3, 2, &[9, 2]),
        (3, 4, &[9, 2, 1, 0]),
        (3, usize::MAX, &[9, 2, 1, 0]),
        (0, 2, &[9]),
        (0, 0, &[]),
    ];
    for (from, to, rest) in table {
        let (cache, reports) = reporting(from, |builder| builder);
        fill(&cache, 0..3);
        let (loader, value) = gate();
        let mut leader = Task::waiting(Box::pin(cache.get_or_load(&9, || loader)));
        let mut follower = Task::waiting(Box::pin(cache.get_or_load(&9, || async { unreachable!() })));
        cache.set_capacity(to);
        cache.check();
        assert!(leader.is_pending() && follower.is_pending());
        value.send(90).unwrap();
        assert_eq!((leader.ready(), follower.ready()), (90, 90));
        assert_eq!((keys(&cache), cache.stats().loads), (rest.to_vec(), 1), "{from} to {to}");
        let gone = if from == 0 { 0 } else { 4 - rest.len() - usize::from(to == 0) };
        assert_eq!(reports.take(), evicted(0..gone as u32), "{from} to {to}");
    }
}

#[test]
fn concurrent_set_capacity_leaves_all_shards_with_one_capacity() {
    // With so many shards each call is always half done.
    let cache = LruCache::<u32, u32>::builder(1_000).shards(1_000).build();
    for _ in 0..10 {
        let (rounds, enough) = ([const { AtomicUsize::new(0) }; 2], AtomicBool::new(false));
        thread::scope(|scope| {
            for (capacity, rounds) in [0, usize::MAX].into_iter().zip(&rounds) {
                let (cache, enough) = (&cache, &enough);
                scope.spawn(move || {
                    while !enough.load(Ordering::Relaxed) {
                        cache.set_capacity(capacity);
                        rounds.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            until(|| rounds.iter().all(|rounds| rounds.load(Ordering::Relaxed) > 0));
            enough.store(true, Ordering::Relaxed);
        });
        fill(&cache, 0..3_000);
        assert_eq!(cache.len(), if cache.capacity() == 0 { 0 } else { 3_000 });
        cache.clear();
    }
}

#[test]
fn the_capacity_is_the_one_that_was_set() {
    for capacity in [0, 1, 7, usize::MAX] {
        for cache in
            [Cache::new(capacity), Cache::with_hasher(capacity, Default::default()), Cache::builder(capacity).build()]
        {
            assert_eq!((cache.capacity(), cache.len(), cache.weight(), cache.is_empty()), (capacity, 0, 0, true));
            fill(&cache, 0..9);
            assert_eq!(cache.len(), capacity.min(9));
        }
    }
}
