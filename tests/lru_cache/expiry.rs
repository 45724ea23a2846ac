//! Expiry: times to live, idle times, and calls that find expired entries.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex as StdMutex};
use std::time::{Duration, Instant};

use stanchion::{Cause, LruCache, LruCacheBuilder, Stats};

use crate::common::{Check, Clock, Task};
use crate::{Builder, Cache, LOADS, Report, Reports, fill, gate, ignore, keys, loaded, reporting};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const INSTANT: Duration = Duration::from_nanos(1);

/// A cache with this time to live, its reports, and its clock.
fn expiring(capacity: usize, ttl: Duration, set: impl FnOnce(Builder) -> Builder) -> (Cache, Reports, Clock) {
    let clock = Clock::new();
    let (cache, reports) = reporting(capacity, |builder| set(builder.time_to_live(ttl).clock(clock.source())));
    (cache, reports, clock)
}

/// The reports of these keys, with the values of `fill`, when they have expired.
fn expired(keys: impl IntoIterator<Item = u32>) -> Vec<Report> {
    keys.into_iter().map(|key| (key, 10 * key, Cause::Expired)).collect()
}

/// A call for a key that misses.
type Act = (&'static str, fn(&Cache, u32));

/// The calls that look the key up.
const LOOKUPS: [Act; 14] = [
    ("get", |cache, key| assert_eq!(cache.get(&key), None)),
    ("peek", |cache, key| assert_eq!(cache.peek(&key), None)),
    ("contains_key", |cache, key| assert!(!cache.contains_key(&key))),
    ("insert", |cache, key| assert_eq!(cache.insert(key, 7), None)),
    ("remove", |cache, key| assert_eq!(cache.remove(&key), None)),
    ("remove_entry", |cache, key| assert_eq!(cache.remove_entry(&key), None)),
    ("get_or_insert_with", |cache, key| assert_eq!((LOADS[0].1)(cache, key, &|| 7), 7)),
    ("get_or_load", |cache, key| assert_eq!((LOADS[2].1)(cache, key, &|| 7), 7)),
    ("a load that fails", |cache, key| {
        assert_eq!(cache.try_get_or_insert_with(&key, || Err(key)), Err(Arc::new(key)));
    }),
    ("remove_if", |cache, key| assert_eq!(cache.remove_if(&key, |_, _| unreachable!("it has expired")), None)),
    ("update", |cache, key| assert_eq!(cache.update(&key, |_| unreachable!("it has expired")), None::<()>)),
    ("clear", |cache, _| cache.clear()),
    ("retain", |cache, key| {
        cache.retain(|&asked, _| {
            assert!(asked != key, "it has expired");
            true
        });
    }),
    ("pop_lru", |cache, key| assert!(cache.pop_lru().is_none_or(|(popped, _)| popped != key))),
];

/// Calls that do not.
const UNRELATED: [Act; 8] = [
    ("len and others", |cache, _| {
        let seen = format!("{cache:?} {:?}", cache.stats());
        assert!(!seen.is_empty() && cache.len() as u64 == cache.weight() && cache.capacity() == 3);
    }),
    ("get of another", |cache, key| assert_eq!(cache.get(&(key + 100)), None)),
    ("insert of another", |cache, key| assert_eq!(cache.insert(key + 100, 1), None)),
    ("remove of another", |cache, key| assert_eq!(cache.remove(&(key + 100)), None)),
    ("set_capacity", |cache, _| cache.set_capacity(2)),
    ("a load that is never polled", |cache, key| drop(cache.get_or_load(&key, || async { 7 }))),
    ("entries", |cache, key| assert!(!cache.entries().iter().any(|entry| entry.0 == key))),
    ("for_each", |cache, key| cache.for_each(|&other, _| assert_ne!(other, key))),
];

// ---------------------------------------------------------------------------------------------------------------------
// The clock
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn no_clock_is_read_if_nothing_expires() {
    let (cache, reports) = reporting(3, |builder| builder.clock(|| panic!("nothing expires")));
    for (_, act) in LOOKUPS.into_iter().chain(UNRELATED) {
        act(&cache, 1);
        cache.set_capacity(3);
        cache.clear();
        fill(&cache, 2..=6);
        assert_eq!((cache.get(&6), cache.insert(6, 60), LOADS[0].1(&cache, 6, &|| 9)), (Some(60), Some(60), 60));
    }
    assert!(reports.take().iter().all(|&(.., cause)| cause != Cause::Expired));
    assert_eq!(cache.stats().expirations, 0);
}

#[test]
fn each_call_reads_the_clock_at_most_once() {
    type Op = (u32, fn(&Cache));
    // A load looks the key up, again with an owned key and after an expired entry, and stores.
    let table: [Op; 17] = [
        (1, |cache| ignore(cache.get(&1))),
        (1, |cache| ignore(cache.peek(&1))),
        (1, |cache| ignore(cache.contains_key(&1))),
        (1, |cache| ignore(cache.insert(1, 11))),
        (1, |cache| ignore(cache.insert(2, 20))),
        (1, |cache| ignore(cache.remove(&1))),
        (1, |cache| ignore(cache.remove_entry(&1))),
        (1, |cache| ignore(cache.pop_lru())),
        (1, |cache| drop(cache.entries())),
        (1, |cache| cache.retain(|_, _| true)),
        (1, |cache| cache.for_each(|_, _| {})),
        (1, |cache| ignore(cache.remove_if(&1, |_, _| true))),
        (1, |cache| ignore(cache.update(&1, |value| *value += 1))),
        (1, |cache| cache.set_capacity(2)),
        (0, |cache| drop((cache.len(), cache.weight(), cache.stats(), cache.capacity(), format!("{cache:?}")))),
        (4, |cache| ignore(cache.get_or_insert_with(&1, || 11))),
        (4, |cache| ignore(loaded(cache.get_or_load(&1, || async { 11 })))),
    ];
    for (number, (most, act)) in table.into_iter().enumerate() {
        for shards in [1, 2] {
            // Absent; not expired; expired.
            for age in [None, Some(MINUTE - INSTANT), Some(MINUTE)] {
                let (cache, _, clock) = expiring(3, MINUTE, |builder| builder.shards(shards));
                if let Some(age) = age {
                    fill(&cache, [1]);
                    clock.advance(age);
                }
                let before = clock.reads();
                act(&cache);
                let reads = clock.reads() - before;
                assert!(reads <= most as usize, "row {number} read it {reads} times");
            }
        }
    }
}

#[test]
fn a_clock_may_go_backwards() {
    let (now, noon) = (Arc::new(AtomicU64::new(10_000)), Instant::now());
    let source = {
        let now = now.clone();
        move || noon + Duration::from_secs(now.load(Ordering::Relaxed))
    };
    let (cache, reports) = reporting(3, |builder| builder.time_to_live(MINUTE).clock(source));
    fill(&cache, [1]);
    for back in [1, 59, 60, 61, 5_000] {
        now.fetch_sub(back, Ordering::Relaxed);
        assert_eq!((cache.get(&1), cache.peek(&1), keys(&cache)), (Some(10), Some(10), vec![1]), "as young as can be");
    }
    fill(&cache, [2]);
    now.store(9_999, Ordering::Relaxed);
    assert_eq!((cache.get(&1), cache.get(&2), reports.take()), (Some(10), None, expired([2])));
}

// ---------------------------------------------------------------------------------------------------------------------
// Times to live
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn an_entry_expires_exactly_at_its_time_to_live() {
    let (cache, reports, clock) = expiring(3, MINUTE, |builder| builder);
    fill(&cache, [1]);
    clock.advance(MINUTE - INSTANT);
    assert_eq!((cache.get(&1), cache.peek(&1), cache.contains_key(&1)), (Some(10), Some(10), true), "almost");
    assert_eq!((keys(&cache), reports.take()), (vec![1], vec![]));
    clock.advance(INSTANT);
    assert_eq!((cache.get(&1), reports.take()), (None, expired([1])));
}

#[test]
fn a_use_does_not_prolong_a_time_to_live() {
    let (cache, _, clock) = expiring(3, MINUTE, |builder| builder);
    fill(&cache, [1]);
    for _ in 0..59 {
        clock.advance(SECOND);
        assert_eq!((cache.get(&1), LOADS[0].1(&cache, 1, &|| 9), LOADS[2].1(&cache, 1, &|| 9)), (Some(10), 10, 10));
        cache.retain(|_, _| true);
        assert_eq!(keys(&cache), [1]);
    }
    clock.advance(SECOND);
    assert_eq!(cache.get(&1), None);
}

#[test]
fn a_new_value_has_a_new_time_to_live() {
    let (cache, reports, clock) = expiring(3, MINUTE, |builder| builder);
    fill(&cache, [1]);
    clock.advance(MINUTE / 2);
    assert_eq!(cache.insert(1, 11), Some(10));
    clock.advance(MINUTE - INSTANT);
    assert_eq!(cache.get(&1), Some(11));
    clock.advance(INSTANT);
    assert_eq!((cache.insert(1, 12), reports.take()), (None, vec![(1, 11, Cause::Expired)]));
    clock.advance(MINUTE - INSTANT);
    assert_eq!((cache.get(&1), cache.remove(&1)), (Some(12), Some(12)));
    fill(&cache, [1]);
    clock.advance(MINUTE - INSTANT);
    assert_eq!((cache.get(&1), reports.take()), (Some(10), vec![]), "the expiry of the entry before does not count");
}

#[test]
fn a_time_to_live_begins_when_the_value_is_stored() {
    for (name, load) in LOADS {
        let (cache, reports, clock) = expiring(3, MINUTE, |builder| builder);
        let value = || {
            clock.advance(2 * MINUTE);
            10
        };
        assert_eq!(load(&cache, 1, &value), 10, "{name}");
        clock.advance(MINUTE - INSTANT);
        assert_eq!(cache.get(&1), Some(10), "{name}");
        clock.advance(INSTANT);
        assert_eq!((cache.get(&1), reports.take()), (None, expired([1])), "{name}");
    }
    let (cache, _, clock) = expiring(3, MINUTE, |builder| builder);
    let (loader, value) = gate();
    let mut leader = Task::waiting(Box::pin(cache.get_or_load(&1, || loader)));
    clock.advance(2 * MINUTE);
    value.send(10).unwrap();
    assert_eq!(leader.ready(), 10);
    clock.advance(MINUTE - INSTANT);
    assert_eq!(cache.get(&1), Some(10));
}

#[test]
fn followers_get_the_value_of_a_load_even_if_it_has_expired() {
    for ttl in [Duration::ZERO, MINUTE] {
        let (cache, _, clock) = expiring(3, ttl, |builder| builder);
        let (loader, value) = gate();
        let mut leader = Task::waiting(Box::pin(cache.get_or_load(&1, || loader)));
        let mut follower = Task::waiting(Box::pin(cache.get_or_load(&1, || async { unreachable!() })));
        value.send(10).unwrap();
        assert_eq!(leader.ready(), 10);
        clock.advance(ttl);
        assert_eq!((cache.get(&1), follower.ready()), (None, 10));
    }
}

#[test]
fn with_a_time_to_live_of_zero_nothing_is_stored() {
    let (cache, reports, _) = expiring(3, Duration::ZERO, |builder| builder);
    for (name, act) in LOOKUPS {
        cache.clear();
        fill(&cache, [1]);
        assert_eq!(cache.len(), 0, "{name}");
        act(&cache, 1);
        cache.check();
        assert_eq!((cache.len(), reports.take()), (0, vec![]), "{name}");
    }
    let Stats { insertions, evictions, expirations, .. } = cache.stats();
    assert_eq!((insertions, evictions, expirations), (0, 0, 0), "nothing was ever stored");
}

#[test]
fn a_time_to_live_beyond_the_clock_never_ends() {
    // The latest instant, within a second or so.
    let mut late = Instant::now();
    for bit in (0..64).rev() {
        late = late.checked_add(Duration::from_secs(1 << bit)).unwrap_or(late);
    }
    for (start, ttl) in [
        (Instant::now(), Duration::MAX),
        (Instant::now(), Duration::from_secs(u64::MAX)),
        (late, 2 * SECOND),
        (late, Duration::MAX),
    ] {
        let now = Arc::new(StdMutex::new(start));
        let source = {
            let now = now.clone();
            move || *now.lock().unwrap()
        };
        let (cache, reports) = reporting(2, |builder| builder.time_to_live(ttl).clock(source));
        fill(&cache, 0..3);
        assert_eq!((cache.insert(2, 21), cache.get_or_insert_with(&3, || 30)), (Some(20), 30));
        *now.lock().unwrap() = late;
        assert_eq!((cache.entries(), cache.get(&2)), (vec![(3, 30), (2, 21)], Some(21)), "{ttl:?}");
        cache.retain(|_, _| true);
        assert_eq!(cache.pop_lru(), Some((3, 30)));
        assert!(reports.take().iter().all(|&(.., cause)| cause == Cause::Capacity));
    }
}

#[test]
fn very_short_and_very_long_times_to_live_are_exact() {
    for ttl in [INSTANT, Duration::from_micros(1), 1_000 * MINUTE, 1_000_000 * MINUTE] {
        let (cache, reports, clock) = expiring(2, ttl, |builder| builder);
        for _ in 0..3 {
            fill(&cache, [1]);
            clock.advance(ttl - INSTANT);
            assert_eq!(cache.get(&1), Some(10), "{ttl:?}");
            clock.advance(INSTANT);
            assert_eq!((cache.get(&1), reports.take()), (None, expired([1])), "{ttl:?}");
        }
    }
}

#[test]
fn the_clock_defaults_to_that_of_the_system() {
    let builder: Builder = LruCache::builder(3).time_to_live(INSTANT);
    let cache = builder.build();
    cache.insert(1, 10);
    std::thread::sleep(1_000 * INSTANT);
    assert_eq!((cache.get(&1), cache.stats().expirations), (None, 1));
    let builder: Builder = LruCache::builder(3).time_to_live(1_000_000 * MINUTE);
    let cache = builder.build();
    cache.insert(1, 10);
    assert_eq!((cache.get(&1), cache.stats().expirations), (Some(10), 0));
}

// ---------------------------------------------------------------------------------------------------------------------
// Idle entries, and times to live of single entries
// ---------------------------------------------------------------------------------------------------------------------

/// Calls for key 1, and whether they are uses.
const USES: [(bool, Act); 10] = [
    (true, ("get", |cache, key| ignore(cache.get(&key)))),
    (true, ("insert", |cache, key| ignore(cache.insert(key, 10)))),
    (true, ("update", |cache, key| cache.update(&key, |_| ()).unwrap())),
    (true, ("get_or_insert_with", |cache, key| ignore(cache.get_or_insert_with(&key, || unreachable!())))),
    (true, ("get_or_load", |cache, key| ignore(loaded(cache.get_or_load(&key, || async { unreachable!() }))))),
    (false, ("peek", |cache, key| ignore(cache.peek(&key)))),
    (false, ("contains_key", |cache, key| ignore(cache.contains_key(&key)))),
    (false, ("remove_if", |cache, key| ignore(cache.remove_if(&key, |_, _| false)))),
    (false, ("for_each", |cache, _| cache.for_each(|_, _| {}))),
    (false, ("retain", |cache, _| cache.retain(|_, _| true))),
];

#[test]
fn an_idle_entry_expires_unless_it_is_used() {
    for (is_use, (name, act)) in USES {
        let clock = Clock::new();
        let (cache, reports) = reporting(3, |builder| builder.time_to_idle(MINUTE).clock(clock.source()));
        fill(&cache, [1]);
        clock.advance(MINUTE - INSTANT);
        act(&cache, 1);
        clock.advance(INSTANT);
        assert_eq!(cache.contains_key(&1), is_use, "{name}");
        clock.advance(MINUTE - INSTANT);
        assert_eq!((cache.get(&1), reports.take()), (None, expired([1])), "{name}");
    }
}

#[test]
fn the_earliest_of_all_limits_counts() {
    // The value is the entry's own limit in seconds; 0 is none.
    for (own, to_live, to_idle) in [(30, 40, 50), (50, 40, 30), (40, 30, 50), (0, 30, 50), (0, 50, 30)] {
        let clock = Clock::new();
        let (cache, reports) = reporting(3, |builder| {
            let own = |_: &u32, &value: &u32| Some(value * SECOND).filter(|ttl| !ttl.is_zero());
            let builder = builder.expire_after(own).time_to_live(to_live * SECOND);
            builder.time_to_idle(to_idle * SECOND).clock(clock.source())
        });
        cache.insert(1, own);
        clock.advance(30 * SECOND - INSTANT);
        assert!(cache.contains_key(&1));
        clock.advance(INSTANT);
        assert_eq!((cache.get(&1), reports.take()), (None, vec![(1, own, Cause::Expired)]));
    }
}

#[test]
fn expire_after_is_called_when_a_value_is_stored() {
    let clock = Clock::new();
    let (cache, _) =
        reporting(3, |builder| builder.expire_after(|_, &value| Some(value * SECOND)).clock(clock.source()));
    cache.insert(1, 10);
    assert_eq!(cache.get_or_insert_with(&2, || 20), 20);
    cache.update(&1, |value| *value = 100).unwrap(); // not asked again
    clock.advance(10 * SECOND);
    assert_eq!((cache.get(&1), cache.get(&2)), (None, Some(20)));
    cache.insert(2, 5);
    clock.advance(5 * SECOND);
    assert_eq!(cache.get(&2), None, "a new value has a new time to live");
}

#[test]
fn a_value_that_expires_at_once_is_returned_and_not_stored() {
    let (cache, reports) = reporting(3, |builder| builder.expire_after(|_, &value| Some(value * MINUTE)));
    for (_, load) in LOADS {
        assert_eq!(load(&cache, 1, &|| 0), 0);
        assert_eq!(cache.insert(1, 0), None);
    }
    cache.insert(1, 7);
    assert_eq!((cache.insert(1, 0), cache.len(), reports.take()), (Some(7), 0, vec![]), "the old value is returned");
    assert_eq!((cache.stats().loads, cache.stats().insertions, cache.stats().expirations), (4, 1, 0));
}

// ---------------------------------------------------------------------------------------------------------------------
// Expired entries
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn an_expired_entry_is_a_miss_and_reported_once() {
    for (name, act) in LOOKUPS {
        // The same call when the key was never there.
        let (empty, ..) = expiring(3, MINUTE, |builder| builder);
        act(&empty, 1);

        let (cache, reports, clock) = expiring(3, MINUTE, |builder| builder);
        fill(&cache, [1]);
        clock.advance(MINUTE);
        let before = cache.stats();
        assert_eq!((cache.len(), cache.weight(), cache.is_empty()), (1, 1, false), "it was not looked up yet");
        act(&cache, 1);
        cache.check();
        assert_eq!(reports.take(), expired([1]), "{name}");
        let Stats { insertions, expirations, .. } = empty.stats();
        let stats = Stats { insertions: insertions + before.insertions, expirations: expirations + 1, ..empty.stats() };
        assert_eq!((cache.stats(), cache.len(), cache.weight()), (stats, empty.len(), empty.weight()), "{name}");
        assert_eq!(keys(&cache), keys(&empty), "{name}");
        act(&cache, 2);
        assert_eq!(reports.take(), [], "{name}: it is reported once");
    }
}

#[test]
fn calls_that_do_not_look_an_expired_entry_up_keep_it() {
    for (name, act) in UNRELATED {
        let (cache, reports, clock) = expiring(3, MINUTE, |builder| builder);
        fill(&cache, [1]);
        clock.advance(MINUTE);
        act(&cache, 1);
        cache.check();
        assert_eq!((reports.take(), cache.stats().expirations), (vec![], 0), "{name}");
        assert_eq!((cache.get(&1), reports.take()), (None, expired([1])), "{name}");
    }
}

#[test]
fn an_expired_entry_that_makes_room_is_reported_as_expired() {
    let (cache, reports, clock) =
        expiring(4, MINUTE, |builder| builder.weigher(|_, &value| u64::from(value % 10).max(1)));
    fill(&cache, [1]);
    clock.advance(SECOND);
    fill(&cache, [2, 3]);
    clock.advance(SECOND);
    fill(&cache, [4]);
    clock.advance(MINUTE - SECOND - INSTANT);
    // The first has expired, and the others not yet.
    assert_eq!(cache.insert(5, 53), None);
    assert_eq!(reports.take(), [(1, 10, Cause::Expired), (2, 20, Cause::Capacity), (3, 30, Cause::Capacity)]);
    let stats = cache.stats();
    assert_eq!((stats.evictions, stats.expirations), (2, 1));

    clock.advance(SECOND + INSTANT);
    cache.set_capacity(3);
    assert_eq!((reports.take(), keys(&cache)), (expired([4]), vec![5]));
    cache.set_capacity(2);
    assert_eq!((reports.take(), cache.stats().evictions), (vec![(5, 53, Cause::Capacity)], 3));
}

#[test]
fn the_oldest_is_evicted_even_if_another_entry_has_expired() {
    let (cache, reports, clock) = expiring(2, MINUTE, |builder| builder);
    fill(&cache, [1]);
    clock.advance(SECOND);
    fill(&cache, [2]);
    assert_eq!(cache.get(&1), Some(10));
    clock.advance(MINUTE - SECOND);
    fill(&cache, [3]);
    assert_eq!(reports.take(), [(2, 20, Cause::Capacity)]);
    assert_eq!((cache.len(), cache.pop_lru()), (2, Some((3, 30))));
    assert_eq!(reports.take(), expired([1]), "the least recently used, which has expired");
}

#[test]
fn pop_lru_skips_expired_entries_only() {
    let (cache, reports, clock) = expiring(6, MINUTE, |builder| builder);
    fill(&cache, [1, 2, 3]);
    clock.advance(SECOND);
    fill(&cache, [4, 5]);
    assert_eq!(cache.get(&3), Some(30));
    clock.advance(MINUTE - SECOND);
    // From the oldest: 1 and 2, which have expired, 4 and 5, and 3, which has expired.
    assert_eq!((cache.pop_lru(), reports.take()), (Some((4, 40)), expired([1, 2])));
    assert_eq!((cache.pop_lru(), reports.take()), (Some((5, 50)), vec![]));
    assert_eq!((cache.pop_lru(), reports.take()), (None, expired([3])));
    assert_eq!((cache.len(), cache.stats().expirations, cache.stats().evictions), (0, 3, 0));
}

#[test]
fn retain_removes_all_that_have_expired() {
    for shards in [1, 2] {
        let (cache, reports, clock) = expiring(60, MINUTE, |builder| builder.shards(shards));
        fill(&cache, [1, 2, 3]);
        clock.advance(SECOND);
        fill(&cache, [4, 5]);
        assert_eq!(cache.get(&1), Some(10));
        clock.advance(MINUTE - SECOND);
        let mut asked = Vec::new();
        cache.retain(|&key, _| {
            asked.push(key);
            key != 4
        });
        let mut removed = reports.take();
        if shards > 1 {
            asked.sort_unstable_by_key(|&key| [5, 4].iter().position(|&other| other == key));
            removed.sort_unstable_by_key(|removed| [1, 4, 3, 2].iter().position(|&other| other == removed.0));
        }
        // From the most to the least recently used.
        let expected = [expired([1]), vec![(4, 40, Cause::Removed)], expired([3, 2])].concat();
        assert_eq!((asked, removed), (vec![5, 4], expected), "{shards} shards");
        assert_eq!((cache.contains_key(&4), cache.len()), (false, 1));
        assert_eq!((cache.stats().expirations, cache.stats().evictions), (3, 0));
    }
}

#[test]
fn too_heavy_a_value_still_removes_the_expired_one() {
    let (cache, reports, clock) = expiring(9, MINUTE, |builder| builder.weigher(|_, &value| value.into()));
    assert_eq!((cache.insert(1, 4), cache.insert(2, 5)), (None, None));
    clock.advance(MINUTE);
    assert_eq!((cache.insert(1, 10), cache.len(), cache.weight()), (None, 1, 5));
    assert_eq!(reports.take(), [(1, 4, Cause::Expired)]);
    let stats = cache.stats();
    assert_eq!((stats.insertions, stats.expirations, stats.evictions), (2, 1, 0));
}

#[test]
fn an_expired_value_is_removed_before_others_are_evicted() {
    let (cache, reports, clock) = expiring(9, MINUTE, |builder| builder.weigher(|_, &value| value.into()));
    assert_eq!(cache.insert(1, 4), None);
    clock.advance(SECOND);
    assert_eq!((cache.insert(2, 2), cache.insert(3, 3)), (None, None));
    clock.advance(MINUTE - SECOND);
    assert_eq!((cache.insert(1, 5), cache.entries()), (None, vec![(1, 5), (3, 3)]));
    assert_eq!(reports.take(), [(1, 4, Cause::Expired), (2, 2, Cause::Capacity)]);
}

#[test]
fn expiry_is_exact_while_slots_are_reused() {
    let (cache, reports, clock) = expiring(1_000, MINUTE, |builder| builder);
    let mut stored = HashMap::new();
    for second in 0..1_000_u32 {
        // Insertions, replacements and removals at different paces.
        let key = second * 7 % 97;
        let was = stored.insert(key, second).is_some();
        assert_eq!(cache.insert(key, key).is_some(), was);
        let key = second * second % 89;
        assert_eq!(cache.remove(&key).is_some(), stored.remove(&key).is_some());
        clock.advance(SECOND);
        let due: Vec<_> =
            stored.iter().filter(|(_, stored)| second + 1 - **stored >= 60).map(|(&key, _)| key).collect();
        for key in due {
            stored.remove(&key);
            assert_eq!((cache.peek(&key), reports.take()), (None, vec![(key, key, Cause::Expired)]));
        }
        let key = second % 97;
        assert_eq!(cache.get(&key).is_some(), stored.contains_key(&key));
    }
    assert_eq!((keys(&cache).len(), reports.take()), (stored.len(), vec![]));
}

#[test]
fn a_time_to_live_works_with_shards_and_types_without_default() {
    let clock = Clock::new();
    let builder: LruCacheBuilder<String, Vec<u8>> = LruCache::builder(1_000).shards(8);
    let cache = builder.time_to_live(MINUTE).clock(clock.source()).build();
    for key in 0..50 {
        cache.insert(key.to_string(), vec![key]);
    }
    clock.advance(MINUTE / 2);
    for key in 50..70 {
        cache.insert(key.to_string(), vec![key]);
    }
    clock.advance(MINUTE / 2);
    assert_eq!((cache.len(), cache.get("7"), cache.get("55")), (70, None, Some(vec![55])));
    assert_eq!((cache.entries().len(), cache.len(), cache.stats().expirations), (20, 69, 1));
    cache.retain(|_, _| true);
    assert_eq!((cache.entries().len(), cache.len(), cache.stats().expirations), (20, 20, 50));
}
