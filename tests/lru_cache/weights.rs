//! Weights: how much a cache may weigh, and which entries are evicted when it would weigh more.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use stanchion::{Cause, LruCache, LruCacheBuilder};

use crate::Reports;
use crate::common::{Check, Task};
use crate::{fill, gate, keys, loaded, reporting};

/// Each value is its weight.
type Weighed = LruCache<u32, u64>;

/// A cache with these entries, from the least to the most recent, and its reports.
fn weighed(capacity: usize, entries: &[(u32, u64)]) -> (Weighed, Reports<(u32, u64, Cause)>) {
    let reports = Reports::new();
    let builder: LruCacheBuilder<u32, u64> = LruCache::builder(capacity);
    let cache = builder.weigher(|_, &weight| weight).on_evict(reports.listener()).build();
    for &(key, weight) in entries {
        assert_eq!(cache.insert(key, weight), None);
        cache.check();
    }
    assert_eq!((reports.take(), cache.len()), (vec![], entries.len()), "they fit");
    (cache, reports)
}

/// The entries that were evicted.
fn evicted(reports: &Reports<(u32, u64, Cause)>) -> Vec<(u32, u64)> {
    let reports = reports.take();
    assert!(reports.iter().all(|&(.., cause)| cause == Cause::Capacity));
    reports.into_iter().map(|(key, weight, _)| (key, weight)).collect()
}

#[test]
fn without_a_weigher_each_entry_weighs_one() {
    let cache = LruCache::new(3);
    for key in 0..5 {
        cache.insert(key, 1_000);
        cache.check();
        assert_eq!(cache.weight(), cache.len() as u64);
    }
    assert_eq!((cache.weight(), cache.pop_lru(), cache.weight()), (3, Some((2, 1_000)), 2));
}

#[test]
fn the_oldest_are_evicted_until_the_new_value_fits() {
    const MOST: u64 = usize::MAX as u64;
    type Entries = &'static [(u32, u64)];
    type Case = (usize, Entries, (u32, u64), Option<u64>, Entries, Entries);
    // The capacity; the entries; a new value; the old value of its key; the evicted entries, in order; the others.
    let table: [Case; 24] = [
        (10, &[], (1, 10), None, &[], &[(1, 10)]),
        (10, &[(1, 5)], (2, 5), None, &[], &[(2, 5), (1, 5)]),
        (10, &[(1, 5)], (2, 6), None, &[(1, 5)], &[(2, 6)]),
        (10, &[(1, 1), (2, 2), (3, 3), (4, 4)], (5, 3), None, &[(1, 1), (2, 2)], &[(5, 3), (4, 4), (3, 3)]),
        (10, &[(1, 1), (2, 2), (3, 3), (4, 4)], (5, 4), None, &[(1, 1), (2, 2), (3, 3)], &[(5, 4), (4, 4)]),
        (10, &[(1, 9), (2, 1)], (3, 1), None, &[(1, 9)], &[(3, 1), (2, 1)]),
        (10, &[(1, 1), (2, 9)], (3, 10), None, &[(1, 1), (2, 9)], &[(3, 10)]),
        // Weightless entries are evicted in their turn.
        (10, &[(1, 0), (2, 0), (3, 5), (4, 5)], (5, 1), None, &[(1, 0), (2, 0), (3, 5)], &[(5, 1), (4, 5)]),
        (10, &[(1, 10), (2, 0)], (3, 1), None, &[(1, 10)], &[(3, 1), (2, 0)]),
        (10, &[(1, 10)], (2, 0), None, &[], &[(2, 0), (1, 10)]),
        (1, &[(1, 0), (2, 0), (3, 0), (4, 1)], (5, 0), None, &[], &[(5, 0), (4, 1), (3, 0), (2, 0), (1, 0)]),
        // The old value makes room for the new one first.
        (10, &[(1, 4), (2, 6)], (1, 4), Some(4), &[], &[(1, 4), (2, 6)]),
        (10, &[(1, 4), (2, 3), (3, 3)], (1, 1), Some(4), &[], &[(1, 1), (3, 3), (2, 3)]),
        (10, &[(1, 4), (2, 3), (3, 3)], (1, 5), Some(4), &[(2, 3)], &[(1, 5), (3, 3)]),
        (10, &[(1, 4), (2, 3), (3, 3)], (1, 9), Some(4), &[(2, 3), (3, 3)], &[(1, 9)]),
        (10, &[(1, 4), (2, 3), (3, 3)], (3, 4), Some(3), &[(1, 4)], &[(3, 4), (2, 3)]),
        (10, &[(1, 4), (2, 3), (3, 3)], (2, 10), Some(3), &[(1, 4), (3, 3)], &[(2, 10)]),
        (10, &[(1, 4), (2, 6)], (2, 0), Some(6), &[], &[(2, 0), (1, 4)]),
        // The greatest weights.
        (usize::MAX, &[], (1, MOST), None, &[], &[(1, MOST)]),
        (usize::MAX, &[(1, MOST)], (2, 0), None, &[], &[(2, 0), (1, MOST)]),
        (usize::MAX, &[(1, MOST - 1)], (2, 1), None, &[], &[(2, 1), (1, MOST - 1)]),
        (usize::MAX, &[(1, MOST - 1), (2, 1)], (3, 1), None, &[(1, MOST - 1)], &[(3, 1), (2, 1)]),
        (usize::MAX, &[(1, 7), (2, 9)], (3, MOST), None, &[(1, 7), (2, 9)], &[(3, MOST)]),
        (usize::MAX, &[(1, 7), (2, MOST - 7)], (1, MOST), Some(7), &[(2, MOST - 7)], &[(1, MOST)]),
    ];
    for (capacity, entries, (key, weight), replaced, leaving, rest) in table {
        let case = format!("{entries:?} and then {:?}", (key, weight));
        let (cache, reports) = weighed(capacity, entries);
        assert_eq!(cache.insert(key, weight), replaced, "{case}");
        cache.check();
        assert_eq!((evicted(&reports), cache.entries()), (leaving.to_vec(), rest.to_vec()), "{case}");
        assert_eq!(cache.weight(), rest.iter().map(|(_, weight)| weight).sum::<u64>(), "{case}");
        assert_eq!(cache.stats().evictions, leaving.len() as u64, "{case}");

        // A load of a key that is not there does the same.
        if replaced.is_none() {
            let (cache, reports) = weighed(capacity, entries);
            assert_eq!(loaded(cache.get_or_load(&key, || async { weight })), weight, "{case}");
            cache.check();
            assert_eq!((evicted(&reports), cache.entries()), (leaving.to_vec(), rest.to_vec()), "{case}");
        }
    }
}

#[test]
fn too_heavy_a_value_evicts_nothing() {
    for (capacity, weight) in [(0, 0), (0, 1), (0, u64::MAX), (9, 10), (9, u64::MAX), (usize::MAX - 1, u64::MAX)] {
        let some = [(1, 0), (2, 4), (3, 5)];
        let entries = if capacity == 0 { &some[..0] } else { &some };
        let (cache, reports) = weighed(capacity, entries);
        let order = cache.entries();
        assert_eq!((cache.insert(7, weight), cache.get(&7)), (None, None));
        for load in 0..2 {
            assert_eq!(cache.get_or_insert_with(&7, || weight), weight);
            assert_eq!(loaded(cache.get_or_load(&7, || async { weight })), weight);
            assert_eq!(cache.stats().loads, 2 * load + 2, "it was not stored");
        }
        cache.check();
        assert_eq!((cache.entries(), reports.take()), (order, vec![]));
        assert_eq!((cache.stats().insertions, cache.stats().evictions), (entries.len() as u64, 0));
    }
}

#[test]
fn too_heavy_a_value_still_removes_the_old_value_of_its_key() {
    for key in 1..4_u32 {
        let entries = [(1, 0), (2, 4), (3, 5)];
        let (cache, reports) = weighed(9, &entries);
        let old = entries[key as usize - 1];
        assert_eq!((cache.insert(key, 10), cache.get(&key)), (Some(old.1), None));
        let rest: Vec<_> = entries.into_iter().rev().filter(|&entry| entry != old).collect();
        assert_eq!((cache.entries(), cache.weight(), reports.take()), (rest, 9 - old.1, vec![]));
        assert_eq!((cache.insert(key, 10), cache.stats().insertions, cache.stats().evictions), (None, 3, 0));
        cache.check();
    }
}

#[test]
fn at_capacity_zero_not_even_weightless_values_are_stored() {
    let (cache, reports) = weighed(5, &[(1, 0), (2, 5), (3, 0)]);
    cache.set_capacity(0);
    cache.check();
    assert_eq!((evicted(&reports), cache.len()), (vec![(1, 0), (2, 5), (3, 0)], 0));
    assert_eq!((cache.insert(4, 0), cache.get(&4)), (None, None));
}

#[test]
fn a_smaller_capacity_evicts_until_the_rest_fits() {
    // Each capacity, and how many of these entries remain.
    let entries = [(1, 3), (2, 0), (3, 4), (4, 0), (5, 1), (6, 0)];
    let rest = [(8, 6), (7, 5), (5, 5), (4, 3), (2, 3), (1, 3)];
    for (capacity, rest) in rest {
        let (cache, reports) = weighed(8, &entries);
        cache.set_capacity(capacity);
        cache.check();
        let (leaving, staying) = entries.split_at(6 - rest);
        assert_eq!(evicted(&reports), leaving, "{capacity}");
        assert!(cache.entries().iter().eq(staying.iter().rev()), "{capacity}");
        assert_eq!((cache.insert(7, capacity as u64 + 1), cache.insert(8, capacity as u64)), (None, None));
        assert_eq!((cache.peek(&7), cache.peek(&8)), (None, Some(capacity as u64)));
    }
}

#[test]
fn each_value_is_weighed_once() {
    // Each value weighs more than the one that was weighed before.
    let (next, asked) = (Arc::new(AtomicU64::new(1)), Reports::new());
    let weigher = {
        let (next, asked) = (next.clone(), asked.clone());
        move |&key: &u32, &value: &u32| {
            asked.push((key, value));
            next.fetch_add(1, Ordering::Relaxed)
        }
    };
    let (cache, reports) = reporting(12, |builder| builder.weigher(weigher));
    fill(&cache, 1..=3);
    assert_eq!((asked.take(), cache.weight()), (vec![(1, 10), (2, 20), (3, 30)], 1 + 2 + 3));
    assert_eq!((cache.insert(1, 11), cache.weight()), (Some(10), 4 + 2 + 3));
    assert_eq!((asked.take(), keys(&cache)), (vec![(1, 11)], vec![1, 3, 2]));

    assert_eq!((cache.get(&3), cache.peek(&2), cache.contains_key(&1)), (Some(30), Some(20), true));
    assert_eq!(cache.get_or_insert_with(&3, || unreachable!()), 30);
    cache.retain(|_, _| true);
    cache.set_capacity(11);
    assert_eq!((cache.entries().len(), cache.weight()), (3, 9));
    assert_eq!((cache.remove(&2), cache.weight()), (Some(20), 7));
    assert_eq!((cache.pop_lru(), cache.weight()), (Some((1, 11)), 3));
    assert_eq!((asked.take(), reports.take()), (vec![], vec![]));

    assert_eq!((cache.get_or_insert_with(&4, || 40), cache.weight()), (40, 3 + 5));
    assert_eq!(cache.try_get_or_insert_with(&5, || Err("no")), Err(Arc::new("no")));
    let (loader, value) = gate();
    let mut leader = Task::waiting(Box::pin(cache.get_or_load(&5, || loader)));
    let mut follower = Task::waiting(Box::pin(cache.get_or_load(&5, || async { unreachable!() })));
    assert_eq!(asked.take(), [(4, 40)]);
    value.send(50).unwrap();
    assert_eq!((leader.ready(), follower.ready(), cache.weight()), (50, 50, 5 + 6));
    assert_eq!((asked.take(), reports.take()), (vec![(5, 50)], vec![(3, 30, Cause::Capacity)]));

    next.store(100, Ordering::Relaxed);
    assert_eq!((cache.insert(6, 60), cache.insert(5, 51)), (None, Some(50)));
    assert_eq!((asked.take(), keys(&cache), cache.weight()), (vec![(6, 60), (5, 51)], vec![4], 5));
    cache.clear();
    assert_eq!((asked.take(), cache.weight()), (vec![], 0));
}

#[test]
fn removing_an_entry_subtracts_its_weight() {
    type Taking = (fn(&Weighed), u64);
    let table: [Taking; 6] = [
        (|cache| assert_eq!(cache.remove(&2), Some(4)), 9),
        (|cache| assert_eq!(cache.remove_entry(&3), Some((3, 8))), 5),
        (|cache| assert_eq!(cache.pop_lru(), Some((1, 1))), 12),
        (|cache| cache.retain(|_, &weight| weight == 4), 4),
        (|cache| cache.set_capacity(8), 8),
        (|cache| cache.clear(), 0),
    ];
    for (take, rest) in table {
        let (cache, _) = weighed(13, &[(1, 1), (2, 4), (3, 8)]);
        take(&cache);
        cache.check();
        assert_eq!(cache.weight(), rest);
        assert_eq!(cache.entries().iter().map(|&(_, weight)| weight).sum::<u64>(), rest);
    }
}

#[test]
fn each_shard_holds_its_share_of_the_weight() {
    // Eleven, eleven and ten, or nearly all there is.
    for (capacity, share) in [(32, 11), (usize::MAX, (usize::MAX / 3) as u64)] {
        let reports = Reports::new();
        let builder: LruCacheBuilder<u32, u64> = LruCache::builder(capacity).shards(3);
        let cache = builder.weigher(|_, &weight| weight).on_evict(reports.listener()).build();
        for key in 0..100 {
            assert_eq!(cache.insert(key, share + 1), None);
            assert_eq!((cache.len(), reports.take()), (0, vec![]), "too heavy for each of them");
        }
        for key in 0..100 {
            assert_eq!(cache.insert(key, share / 2), None);
            cache.check();
        }
        assert_eq!((cache.len(), cache.weight(), reports.take().len()), (6, share / 2 * 6, 94));
        cache.set_capacity(3);
        cache.check();
        assert_eq!((cache.len(), cache.weight(), evicted(&reports).len()), (0, 0, 6));
    }
}

#[test]
fn weights_are_exact_while_slots_are_reused() {
    let (cache, _) = weighed(usize::MAX, &[]);
    let mut weights = HashMap::new();
    for step in 0..1_000_u64 {
        // Insertions, replacements and removals at different paces.
        let (key, weight) = ((step * 7 % 97) as u32, step % 10);
        assert_eq!(cache.insert(key, weight), weights.insert(key, weight));
        let key = (step * step % 89) as u32;
        assert_eq!(cache.remove(&key), weights.remove(&key));
        cache.check();
        assert_eq!(cache.weight(), weights.values().sum::<u64>());
    }
}
