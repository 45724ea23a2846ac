//! The exact order of use: which calls are uses, and which entry is evicted first.

use std::cell::RefCell;
use std::hash::{Hash, Hasher};
use std::rc::Rc;
use std::sync::Arc;

use stanchion::{Cause, LruCache};

use crate::common::{Check, Task, panic_of, poll, ready};
use crate::{Cache, LOADS, fill, gate, ignore, keys, loaded, reporting};

/// A call for a key.
type Act = (&'static str, fn(&Cache, u32));

/// The calls that make an entry the most recent.
const USES: [Act; 6] = [
    ("get", |cache, key| assert_eq!(cache.get(&key), Some(10 * key))),
    ("insert", |cache, key| assert_eq!(cache.insert(key, 10 * key), Some(10 * key))),
    ("get_or_insert_with", |cache, key| assert_eq!((LOADS[0].1)(cache, key, &|| unreachable!()), 10 * key)),
    ("try_get_or_insert_with", |cache, key| assert_eq!((LOADS[1].1)(cache, key, &|| unreachable!()), 10 * key)),
    ("get_or_load", |cache, key| assert_eq!((LOADS[2].1)(cache, key, &|| unreachable!()), 10 * key)),
    ("try_get_or_load", |cache, key| assert_eq!((LOADS[3].1)(cache, key, &|| unreachable!()), 10 * key)),
];

/// Calls that do not.
const LOOKS: [Act; 13] = [
    ("peek", |cache, key| assert_eq!(cache.peek(&key), Some(10 * key))),
    ("contains_key", |cache, key| assert!(cache.contains_key(&key))),
    ("entries", |cache, key| assert!(cache.entries().contains(&(key, 10 * key)))),
    ("retain", |cache, _| cache.retain(|&key, &value| value == 10 * key)),
    ("len and others", |cache, _| {
        assert_eq!((cache.len(), cache.weight(), cache.capacity(), cache.is_empty()), (5, 5, 5, false));
        assert!(format!("{cache:?} {:?}", cache.stats()).contains("LruCache"));
    }),
    ("set_capacity", |cache, key| {
        cache.set_capacity(5 + key as usize);
        cache.set_capacity(5);
    }),
    ("get of another", |cache, key| assert_eq!(cache.get(&(key + 100)), None)),
    ("remove of another", |cache, key| assert_eq!(cache.remove(&(key + 100)), None)),
    ("remove_entry of another", |cache, key| assert_eq!(cache.remove_entry(&(key + 100)), None)),
    ("a load that fails", |cache, key| {
        assert_eq!(cache.try_get_or_insert_with(&(key + 100), || Err(key)), Err(Arc::new(key)));
    }),
    ("a load that panics", |cache, key| {
        assert_eq!(panic_of(|| cache.get_or_insert_with(&(key + 100), || panic!("not today"))), "not today");
    }),
    ("a load that is dropped", |cache, key| {
        drop(Task::waiting(Box::pin(cache.get_or_load(&(key + 100), std::future::pending))));
    }),
    ("a load that is never polled", |cache, key| drop(cache.get_or_load(&key, || async { 7 }))),
];

fn five() -> Cache {
    let cache = Cache::new(5);
    fill(&cache, 0..5);
    cache
}

/// The order after a use of `key`.
fn moved_to_front(mut order: Vec<u32>, key: u32) -> Vec<u32> {
    order.retain(|&other| other != key);
    order.insert(0, key);
    order
}

#[test]
fn a_use_moves_an_entry_to_the_front() {
    for (name, used) in USES {
        for key in 0..5 {
            let cache = five();
            used(&cache, key);
            assert_eq!(keys(&cache), moved_to_front(vec![4, 3, 2, 1, 0], key), "{name} of {key}");
            used(&cache, key);
            assert_eq!(keys(&cache), moved_to_front(vec![4, 3, 2, 1, 0], key), "{name} of {key}, twice");
        }
    }
}

#[test]
fn calls_that_only_look_keep_the_order() {
    for (name, looked) in LOOKS {
        for key in 0..5 {
            let cache = five();
            looked(&cache, key);
            assert_eq!(keys(&cache), [4, 3, 2, 1, 0], "{name} for {key}");
        }
    }
}

#[test]
fn a_new_entry_is_the_most_recent_and_evicts_the_oldest() {
    for (name, load) in LOADS {
        let cache = five();
        assert_eq!(load(&cache, 5, &|| 50), 50, "{name}");
        assert_eq!(keys(&cache), [5, 4, 3, 2, 1], "{name}");
    }
    let cache = five();
    fill(&cache, [5]);
    assert_eq!(keys(&cache), [5, 4, 3, 2, 1]);
}

#[test]
fn a_load_uses_its_entry_only_when_the_value_is_stored() {
    let cache = Cache::new(5);
    fill(&cache, 0..3);
    let (loader, value) = gate();
    let mut leader = Task::waiting(Box::pin(cache.get_or_load(&3, || loader)));
    let mut follower = Task::waiting(Box::pin(cache.get_or_load(&3, || async { unreachable!() })));
    fill(&cache, [4]);
    value.send(30).unwrap();
    assert_eq!((leader.ready(), keys(&cache)), (30, vec![3, 4, 2, 1, 0]));
    cache.get(&1);
    assert_eq!((follower.ready(), keys(&cache)), (30, vec![1, 3, 4, 2, 0]));
}

#[test]
fn entries_are_evicted_in_the_order_of_their_last_use() {
    let (cache, reports) = reporting(100, |builder| builder);
    fill(&cache, 0..100);
    // A permutation: 37 and 101 have no common divisor.
    let uses: Vec<u32> = (1..=100).map(|n| n * 37 % 101 - 1).collect();
    for (index, &key) in uses.iter().enumerate() {
        (USES[index % USES.len()].1)(&cache, key);
    }
    assert!(keys(&cache).iter().eq(uses.iter().rev()));
    assert_eq!(reports.take(), []);
    fill(&cache, 100..200);
    assert_eq!(reports.take(), uses.iter().map(|&key| (key, 10 * key, Cause::Capacity)).collect::<Vec<_>>());
    assert!(keys(&cache).into_iter().eq((100..200).rev()));
}

#[test]
fn pop_lru_takes_the_oldest_until_the_cache_is_empty() {
    let cache = five();
    assert_eq!(cache.pop_lru(), Some((0, 0)));
    cache.get(&1);
    assert_eq!(cache.pop_lru(), Some((2, 20)));
    assert_eq!(keys(&cache), [1, 4, 3]);
    fill(&cache, [0]);
    let popped: Vec<_> = std::iter::from_fn(|| {
        cache.check();
        cache.pop_lru()
    })
    .collect();
    assert_eq!(popped, [(3, 30), (4, 40), (1, 10), (0, 0)]);
    assert_eq!((keys(&cache), cache.pop_lru()), (vec![], None));
    fill(&cache, [7, 8]);
    assert_eq!(keys(&cache), [8, 7]);
}

#[test]
fn entries_are_copies_from_the_most_to_the_least_recent() {
    let cache = five();
    cache.get(&2);
    let entries = cache.entries();
    assert_eq!(entries, [(2, 20), (4, 40), (3, 30), (1, 10), (0, 0)]);
    assert_eq!((cache.entries(), Cache::new(5).entries(), Cache::new(0).entries()), (entries, vec![], vec![]));
}

#[test]
fn removal_anywhere_leaves_the_others_in_their_order() {
    for removed in 0..5_u32 {
        let cache = five();
        let value = 10 * removed;
        match removed % 2 {
            0 => assert_eq!(cache.remove(&removed), Some(value)),
            _ => assert_eq!(cache.remove_entry(&removed), Some((removed, value))),
        }
        let mut rest = vec![4, 3, 2, 1, 0];
        rest.retain(|&key| key != removed);
        assert_eq!(keys(&cache), rest);
        assert_eq!((cache.get(&removed), cache.peek(&removed), cache.contains_key(&removed)), (None, None, false));
        assert_eq!((cache.remove(&removed), cache.remove_entry(&removed)), (None, None));
        fill(&cache, [removed]);
        rest.insert(0, removed);
        assert_eq!(keys(&cache), rest, "it is a new entry");
        fill(&cache, [9]);
        rest.pop();
        rest.insert(0, 9);
        assert_eq!(keys(&cache), rest);
    }
}

#[test]
fn retain_visits_from_the_most_recent_and_keeps_the_order() {
    // Every subset of five.
    for kept in 0..32_u32 {
        let cache = five();
        cache.get(&2);
        let mut asked = Vec::new();
        cache.retain(|&key, &value| {
            asked.push((key, value));
            kept >> key & 1 == 1
        });
        assert_eq!(asked, [(2, 20), (4, 40), (3, 30), (1, 10), (0, 0)]);
        let wanted: Vec<_> = [2, 4, 3, 1, 0].into_iter().filter(|key| kept >> key & 1 == 1).collect();
        assert_eq!(keys(&cache), wanted);
        assert!((0..5).all(|key| cache.contains_key(&key) == wanted.contains(&key)));
        fill(&cache, 10..15);
        assert_eq!(keys(&cache), [14, 13, 12, 11, 10]);
    }
}

#[test]
fn clear_leaves_a_cache_as_good_as_new() {
    let cache = five();
    for _ in 0..3 {
        cache.clear();
        assert_eq!((keys(&cache), cache.get(&2), cache.pop_lru(), cache.weight()), (vec![], None, None, 0));
        assert_eq!(cache.capacity(), 5);
        fill(&cache, 0..7);
        assert_eq!(keys(&cache), [6, 5, 4, 3, 2]);
    }
}

#[test]
fn the_smallest_capacities_hold_what_they_say() {
    let (cache, reports) = reporting(0, |builder| builder);
    fill(&cache, 0..3);
    for (name, load) in LOADS {
        assert_eq!((load(&cache, 1, &|| 7), load(&cache, 1, &|| 8)), (7, 8), "{name}");
    }
    assert_eq!((keys(&cache), cache.get(&1), reports.take()), (vec![], None, vec![]));

    let (cache, reports) = reporting(1, |builder| builder);
    fill(&cache, 0..3);
    assert_eq!((keys(&cache), cache.get(&2), cache.insert(2, 21)), (vec![2], Some(20), Some(20)));
    assert_eq!(reports.take(), [(0, 0, Cause::Capacity), (1, 10, Cause::Capacity)]);
    assert_eq!((cache.pop_lru(), cache.pop_lru()), (Some((2, 21)), None));

    let cache = Cache::new(2);
    fill(&cache, 0..2);
    for key in [0, 1, 1, 0, 0, 1] {
        assert_eq!((cache.get(&key), keys(&cache)), (Some(10 * key), vec![key, 1 - key]));
    }
}

#[test]
fn a_cache_that_is_emptied_and_filled_again_keeps_its_order() {
    let cache = Cache::new(7);
    for round in 0..1_000_u32 {
        fill(&cache, round * 10..round * 10 + round % 10);
        match round % 7 {
            0 => drop(cache.pop_lru()),
            1 => drop(cache.remove(&(round * 10))),
            2 => cache.retain(|key, _| key % 3 > 0),
            _ => {}
        }
        let keys = keys(&cache);
        assert!(keys.is_sorted_by(|newer, older| newer > older), "{keys:?}");
    }
    assert_eq!(keys(&cache).len(), 7);
}

#[test]
fn the_order_is_exact_at_any_size() {
    let cache = Cache::new(20_000);
    for key in 0..30_000 {
        cache.insert(key, 10 * key);
    }
    for key in (10_000..30_000).step_by(3) {
        assert!(cache.get(&key).is_some());
    }
    for key in (10_001..30_000).step_by(3) {
        assert!(cache.remove(&key).is_some());
    }
    let used = (10_000..30_000).step_by(3).rev();
    let rest = (10_002..30_000).step_by(3).rev();
    assert!(keys(&cache).into_iter().eq(used.chain(rest)));
}

#[test]
fn entries_are_found_after_many_others_were_removed() {
    // At each of these lengths memory has been given back.
    const LEFT: [u32; 5] = [5_000, 1_000, 300, 5, 0];
    for way in ["remove", "pop_lru", "retain", "set_capacity"] {
        let cache = Cache::builder(10_000).weigher(|_, &value| u64::from(value > 0)).build();
        fill(&cache, 1..10_001);
        for rest in LEFT {
            let first = 10_001 - rest;
            match way {
                "remove" => (1..first).for_each(|key| ignore(cache.remove(&key))),
                "pop_lru" => (rest as usize..cache.len()).for_each(|_| ignore(cache.pop_lru())),
                "retain" => cache.retain(|&key, _| key >= first),
                _ => cache.set_capacity(rest as usize),
            }
            assert!(keys(&cache).into_iter().eq((first..10_001).rev()), "{way} {rest}");
            assert!((first..10_001).all(|key| cache.peek(&key) == Some(10 * key)), "{way} {rest}");
        }
        cache.set_capacity(10_000);
        fill(&cache, 1..3_000);
        assert!((1..3_000).all(|key| cache.contains_key(&key)), "{way}");
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Replacement
// ---------------------------------------------------------------------------------------------------------------------

/// A key with a name that equality ignores.
#[derive(Clone, Debug)]
struct Named(u32, &'static str);

impl PartialEq for Named {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Named {}

impl Hash for Named {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

#[test]
fn the_first_key_stays_with_its_entry_and_the_last_value() {
    let cache = LruCache::new(3);
    assert_eq!(cache.insert(Named(1, "first"), 'a'), None);
    assert_eq!(cache.insert(Named(1, "second"), 'b'), Some('a'));
    assert_eq!(cache.insert(Named(1, "third"), 'c'), Some('b'));
    assert_eq!(cache.get_or_insert_with(&Named(1, "fourth"), || 'd'), 'c');
    assert_eq!((cache.len(), cache.get(&Named(1, "fifth"))), (1, Some('c')));
    assert_eq!((cache.entries()[0].0.1, cache.remove_entry(&Named(1, "")).unwrap().0.1), ("first", "first"));
    assert_eq!(cache.insert(Named(1, "sixth"), 'e'), None);
    assert_eq!(cache.pop_lru().unwrap().0.1, "sixth", "the next one is a new entry");
}

#[test]
fn a_key_that_is_not_kept_is_dropped() {
    /// Equal to all others.
    #[derive(Clone, Debug)]
    struct Any {
        _mark: Arc<()>,
    }
    impl PartialEq for Any {
        fn eq(&self, _: &Self) -> bool {
            true
        }
    }
    impl Eq for Any {}
    impl Hash for Any {
        fn hash<H: Hasher>(&self, _: &mut H) {}
    }

    let [first, second, looked] = [(); 3].map(|()| Arc::new(()));
    let counts = || [&first, &second, &looked].map(|key| Arc::strong_count(key) - 1);
    let any = |mark: &Arc<()>| Any { _mark: mark.clone() };
    let cache = LruCache::new(3);
    cache.insert(any(&first), 1);
    cache.insert(any(&second), 2);
    assert_eq!(counts(), [1, 0, 0]);
    assert_eq!(cache.get_or_insert_with(&any(&looked), || 3), 2);
    assert_eq!(counts(), [1, 0, 0]);
    assert_eq!(cache.remove(&any(&looked)), Some(2));
    assert_eq!(counts(), [0, 0, 0]);
    assert_eq!(cache.get_or_insert_with(&any(&looked), || 3), 3);
    assert_eq!(counts(), [0, 0, 1]);
    cache.clear();
    assert_eq!(counts(), [0, 0, 0]);
    cache.set_capacity(0);
    cache.insert(any(&first), 1);
    assert_eq!(counts(), [0, 0, 0], "not stored");
    cache.set_capacity(1);
    cache.insert(any(&first), 1);
    drop(cache);
    assert_eq!(counts(), [0, 0, 0], "dropped with the cache");
}

#[test]
fn a_load_that_was_never_polled_did_nothing() {
    let cache = Cache::new(3);
    let mut load = Box::pin(cache.get_or_load(&1, || async { 1 }));
    assert_eq!((keys(&cache), cache.stats()), (vec![], stanchion::Stats::default()));
    assert_eq!(cache.insert(1, 2), None);
    assert_eq!((ready(&mut load), loaded(cache.get_or_load(&1, || async { 3 }))), (2, 2));
    let mut load = Box::pin(cache.get_or_load(&2, || async { 1 }));
    assert!(poll(&mut load).is_ready());
}

#[test]
fn a_load_uses_a_value_that_came_while_its_key_was_made() {
    thread_local! {
        /// Runs when a key is cloned the next time.
        static MEANWHILE: RefCell<Option<Box<dyn FnOnce()>>> = const { RefCell::new(None) };
    }
    #[derive(Debug, PartialEq, Eq, Hash)]
    struct Key(u32);
    impl Clone for Key {
        fn clone(&self) -> Self {
            if let Some(happens) = MEANWHILE.take() {
                happens();
            }
            Self(self.0)
        }
    }

    let cache = Rc::new(LruCache::new(5));
    for blocking in [true, false] {
        cache.clear();
        let (inside, before) = (cache.clone(), cache.stats());
        MEANWHILE.set(Some(Box::new(move || (1..4).for_each(|key| ignore(inside.insert(Key(key), 10 * key))))));
        let value = match blocking {
            true => cache.get_or_insert_with(&Key(1), || unreachable!()),
            false => loaded(cache.get_or_load(&Key(1), || async { unreachable!() })),
        };
        assert_eq!((value, cache.entries().iter().map(|(key, _)| key.0).collect()), (10, vec![1, 3, 2]));
        let stats = cache.stats();
        assert_eq!((stats.hits - before.hits, stats.misses, stats.loads), (1, 0, 0));
    }
}
