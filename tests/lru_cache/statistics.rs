//! Statistics: which calls are counted, and as what.

use std::sync::Arc;
use std::time::Duration;

use stanchion::{Cause, LruCache, Stats};

use crate::common::{Check, Clock, Task, panic_of};
use crate::{Cache, LOADS, fill, gate, ignore, loaded};

const MINUTE: Duration = Duration::from_secs(60);
const NONE: Stats =
    Stats { hits: 0, misses: 0, insertions: 0, evictions: 0, expirations: 0, loads: 0, load_failures: 0 };

/// A copy of a type that is `Copy`, made by `Clone`.
fn copied<T: Copy>(of: &T) -> T {
    Clone::clone(of)
}

#[test]
fn everything_begins_at_zero_and_is_plain_data() {
    let stats = Cache::new(3).stats();
    assert_eq!((stats, Stats::default()), (NONE, NONE));
    let other = Stats { hits: 1, ..stats };
    assert!(other != stats && copied(&other) == other);
    let shown = "Stats { hits: 1, misses: 0, insertions: 0, evictions: 0, expirations: 0, loads: 0, load_failures: 0 }";
    assert_eq!(format!("{other:?}"), shown);
}

#[test]
fn causes_are_plain_data() {
    let cause = Cause::Capacity;
    assert_eq!((copied(&cause), cause), (Cause::Capacity, Cause::Capacity));
    assert_ne!(cause, Cause::Expired);
    assert_eq!(format!("{cause:?} {:?}", Cause::Expired), "Capacity Expired");
}

/// A call on a cache of 3, 2 and 1, of which 1 is the oldest, and the counts that it adds.
type Act = (&'static str, fn(&Cache, &Clock), Stats);

#[test]
fn each_call_counts_its_outcome() {
    let table: [Act; 36] = [
        ("get", |cache, _| ignore(cache.get(&1)), Stats { hits: 1, ..NONE }),
        ("get of an absent key", |cache, _| ignore(cache.get(&9)), Stats { misses: 1, ..NONE }),
        ("peek", |cache, _| ignore((cache.peek(&1), cache.peek(&9))), NONE),
        ("contains_key", |cache, _| ignore((cache.contains_key(&1), cache.contains_key(&9))), NONE),
        ("entries", |cache, _| drop(cache.entries()), NONE),
        ("insert", |cache, _| fill(cache, [4]), Stats { insertions: 1, evictions: 1, ..NONE }),
        ("three inserts", |cache, _| fill(cache, 4..7), Stats { insertions: 3, evictions: 3, ..NONE }),
        ("replacement", |cache, _| ignore(cache.insert(1, 11)), NONE),
        ("too heavy", |cache, _| ignore(cache.insert(4, 1_000)), NONE),
        ("too heavy a replacement", |cache, _| ignore(cache.insert(1, 1_000)), NONE),
        ("remove", |cache, _| ignore((cache.remove(&1), cache.remove(&9))), NONE),
        ("remove_entry", |cache, _| ignore((cache.remove_entry(&1), cache.remove_entry(&9))), NONE),
        ("pop_lru", |cache, _| ignore(cache.pop_lru()), NONE),
        ("retain", |cache, _| cache.retain(|&key, _| key == 2), NONE),
        ("clear", |cache, _| cache.clear(), NONE),
        ("set_capacity", |cache, _| cache.set_capacity(1), Stats { evictions: 2, ..NONE }),
        ("set_capacity to zero", |cache, _| cache.set_capacity(0), Stats { evictions: 3, ..NONE }),
        (
            "not stored",
            |cache, _| {
                cache.set_capacity(0);
                fill(cache, [4]);
            },
            Stats { evictions: 3, ..NONE },
        ),
        (
            "loaded and not stored",
            |cache, _| {
                cache.set_capacity(0);
                assert_eq!(LOADS.map(|(_, load)| load(cache, 4, &|| 40)), [40; 4]);
            },
            Stats { evictions: 3, misses: 4, loads: 4, ..NONE },
        ),
        ("loads that hit", |cache, _| ignore(LOADS.map(|(_, load)| load(cache, 1, &|| 40))), Stats { hits: 4, ..NONE }),
        (
            "loads that hit after a load",
            |cache, _| ignore(LOADS.map(|(_, load)| load(cache, 4, &|| 40))),
            Stats { misses: 1, loads: 1, insertions: 1, evictions: 1, hits: 3, ..NONE },
        ),
        (
            "loads of too heavy a value",
            |cache, _| ignore(LOADS.map(|(_, load)| load(cache, 4, &|| 1_000))),
            Stats { misses: 4, loads: 4, ..NONE },
        ),
        (
            "an error",
            |cache, _| assert_eq!(cache.try_get_or_insert_with(&4, || Err("no")), Err(Arc::new("no"))),
            Stats { misses: 1, loads: 1, load_failures: 1, ..NONE },
        ),
        (
            "an async error",
            |cache, _| assert_eq!(loaded(cache.try_get_or_load(&4, || async { Err("no") })), Err(Arc::new("no"))),
            Stats { misses: 1, loads: 1, load_failures: 1, ..NONE },
        ),
        (
            "a panic",
            |cache, _| drop(panic_of(|| cache.get_or_insert_with(&4, || panic!("no")))),
            Stats { misses: 1, loads: 1, ..NONE },
        ),
        ("a load that is never polled", |cache, _| drop(cache.get_or_load(&4, || async { 40 })), NONE),
        (
            "a load that is dropped",
            |cache, _| drop(Task::waiting(Box::pin(cache.get_or_load(&4, std::future::pending)))),
            Stats { misses: 1, loads: 1, ..NONE },
        ),
        (
            "followers of a load",
            |cache, _| {
                let (loader, value) = gate();
                let mut leader = Task::waiting(Box::pin(cache.get_or_load(&4, || loader)));
                let mut followers = [(); 3].map(|()| Task::waiting(Box::pin(cache.get_or_load(&4, || async { 41 }))));
                value.send(40).unwrap();
                assert_eq!(leader.ready(), 40);
                followers.iter_mut().for_each(|follower| assert_eq!(follower.ready(), 40));
            },
            Stats { misses: 4, loads: 1, insertions: 1, evictions: 1, ..NONE },
        ),
        (
            "a follower that is dropped",
            |cache, _| {
                let _leader = Task::waiting(Box::pin(cache.get_or_load(&4, std::future::pending)));
                drop(Task::waiting(Box::pin(cache.get_or_load(&4, || async { 41 }))));
            },
            Stats { misses: 2, loads: 1, ..NONE },
        ),
        (
            "a follower that takes over",
            |cache, _| {
                let leader = Task::waiting(Box::pin(cache.get_or_load(&4, std::future::pending)));
                let mut follower = Task::waiting(Box::pin(cache.get_or_load(&4, || async { 41 })));
                drop(leader);
                assert_eq!(follower.ready(), 41);
            },
            Stats { misses: 2, loads: 2, insertions: 1, evictions: 1, ..NONE },
        ),
        (
            "a load that an insert supersedes",
            |cache, _| {
                let (loader, value) = gate();
                let mut leader = Task::waiting(Box::pin(cache.get_or_load(&4, || loader)));
                let mut follower = Task::waiting(Box::pin(cache.get_or_load(&4, || async { 41 })));
                fill(cache, [4]);
                value.send(42).unwrap();
                assert_eq!((follower.ready(), leader.ready()), (40, 42));
            },
            Stats { misses: 2, loads: 1, insertions: 1, evictions: 1, ..NONE },
        ),
        (
            "a load whose key is removed meanwhile",
            |cache, _| {
                let (loader, value) = gate();
                let mut leader = Task::waiting(Box::pin(cache.get_or_load(&4, || loader)));
                assert_eq!(cache.remove(&4), None);
                value.send(42).unwrap();
                assert_eq!(leader.ready(), 42);
            },
            Stats { misses: 1, loads: 1, ..NONE },
        ),
        (
            "get of an expired entry",
            |cache, clock| {
                clock.advance(MINUTE);
                ignore((cache.get(&1), cache.get(&1)));
            },
            Stats { misses: 2, expirations: 1, ..NONE },
        ),
        (
            "peek at an expired entry",
            |cache, clock| {
                clock.advance(MINUTE);
                ignore((cache.peek(&1), cache.contains_key(&1), cache.contains_key(&2)));
            },
            Stats { expirations: 2, ..NONE },
        ),
        (
            "insert over an expired entry",
            |cache, clock| {
                clock.advance(MINUTE);
                fill(cache, [1]);
            },
            Stats { insertions: 1, expirations: 1, ..NONE },
        ),
        (
            "load of an expired entry",
            |cache, clock| {
                clock.advance(MINUTE);
                assert_eq!(LOADS.map(|(_, load)| load(cache, 1, &|| 11)), [11; 4]);
            },
            Stats { misses: 1, loads: 1, hits: 3, insertions: 1, expirations: 1, ..NONE },
        ),
    ];
    for shards in [1, 3] {
        for (name, act, added) in table {
            let clock = Clock::new();
            // Three shards have more than enough room.
            let capacity = if shards == 1 { 3 } else { 300 };
            let builder = LruCache::builder(capacity).shards(shards).time_to_live(MINUTE).clock(clock.source());
            let weigher = move |_: &u32, &value: &u32| if value == 1_000 { capacity as u64 + 1 } else { 1 };
            let cache = builder.weigher(weigher).build();
            fill(&cache, 1..=3);
            let before = cache.stats();
            assert_eq!(before, Stats { insertions: 3, ..NONE });
            act(&cache, &clock);
            cache.check();
            let mut wanted = Stats { insertions: before.insertions + added.insertions, ..added };
            if shards > 1 && cache.capacity() == capacity {
                wanted.evictions = 0;
            }
            if cache.capacity() != 1 || shards == 1 {
                assert_eq!(cache.stats(), wanted, "{name}, {shards} shards");
            }
        }
    }
}

#[test]
fn counts_are_never_reset() {
    let cache = Cache::new(2);
    fill(&cache, 0..5);
    ignore((cache.get(&4), cache.get(&0)));
    let stats = Stats { hits: 1, misses: 1, insertions: 5, evictions: 3, ..NONE };
    assert_eq!(cache.stats(), stats);
    cache.clear();
    cache.set_capacity(100);
    assert_eq!(cache.stats(), stats);
    fill(&cache, [1]);
    assert_eq!(cache.stats(), Stats { insertions: 6, ..stats });
}

#[test]
fn shards_are_summed() {
    let cache: Cache = LruCache::builder(64).shards(8).build();
    fill(&cache, 0..1_000);
    let there = (0..1_000).filter(|key| cache.get(key).is_some()).count() as u64;
    let stats = cache.stats();
    assert_eq!(stats, Stats { hits: 64, misses: 936, insertions: 1_000, evictions: 936, ..NONE });
    assert_eq!(there, 64);
}

#[test]
fn a_load_that_a_panic_of_a_report_prevents_is_not_counted() {
    let clock = Clock::new();
    let cache = LruCache::<u32, u32>::builder(3)
        .time_to_live(MINUTE)
        .clock(clock.source())
        .on_evict(|_, _, _| panic!("the listener panics"))
        .build();
    cache.insert(1, 10);
    clock.advance(MINUTE);
    assert_eq!(panic_of(|| cache.get_or_insert_with(&1, || unreachable!())), "the listener panics");
    assert_eq!(cache.stats(), Stats { insertions: 1, expirations: 1, ..NONE });
    assert_eq!(cache.get_or_insert_with(&1, || 11), 11);
    assert_eq!(cache.stats(), Stats { insertions: 2, expirations: 1, misses: 1, loads: 1, ..NONE });
    cache.check();
}
