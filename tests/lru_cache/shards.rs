//! Several shards: how the capacity is divided, and that each keeps its own order; and how keys are hashed.

use std::borrow::Borrow;
use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash, Hasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stanchion::{Cause, LruCache};

use crate::common::{Check, panic_of};
use crate::{Report, Reports, ignore, keys, loaded};

/// The same in every run.
type Fixed = BuildHasherDefault<DefaultHasher>;
type Sharded = LruCache<u32, u32, Fixed>;

fn sharded(capacity: usize, shards: usize) -> (Sharded, Reports) {
    let reports = Reports::<Report>::new();
    let builder = LruCache::builder(capacity).shards(shards).hasher(Fixed::default());
    (builder.on_evict(reports.listener()).build(), reports)
}

fn fill(cache: &Sharded, keys: impl IntoIterator<Item = u32>) {
    for key in keys {
        assert_eq!(cache.insert(key, 10 * key), None);
    }
    cache.check();
}

/// The keys of each shard that has some, from its most recent on, if greater keys are more recent.
fn groups(cache: &Sharded) -> Vec<Vec<u32>> {
    keys(cache).chunk_by(|newer, older| newer > older).map(<[u32]>::to_vec).collect()
}

// ---------------------------------------------------------------------------------------------------------------------
// Shares of the capacity
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn zero_shards_panic() {
    let message = panic_of(|| LruCache::<u32, u32>::builder(3).shards(0));
    assert!(message.contains("shard"), "{message}");
}

#[test]
fn the_capacity_is_divided_without_rounding() {
    for shards in 1..=12 {
        for capacity in [shards, shards + 1, 2 * shards - 1, 2 * shards, 7 * shards + shards / 2, 100] {
            let (cache, reports) = sharded(capacity, shards);
            fill(&cache, 0..600);
            assert_eq!((cache.len(), cache.capacity(), reports.take().len()), (capacity, capacity, 600 - capacity));
            let share = |shard| capacity / shards + usize::from(shard < capacity % shards);
            let whole = keys(&cache);
            let mut start = 0;
            for shard in 0..shards {
                let end = start + share(shard);
                assert!(whole[start..end].is_sorted_by(|newer, older| newer > older), "shard {shard} of {shards}");
                start = end;
            }
        }
    }
}

#[test]
fn more_shards_than_capacity_are_as_many_as_there_is_capacity() {
    for (capacity, shards, really) in [(3, 16, 3), (1, 2, 1), (0, 5, 1), (5, usize::MAX, 5), (4, 4, 4)] {
        let (cache, _) = sharded(capacity, shards);
        assert!(format!("{cache:?}").contains(&format!("shards: {really}")), "{cache:?}");
        for key in 0..200 {
            assert_eq!((cache.insert(key, key), cache.peek(&key)), (None, (capacity > 0).then_some(key)), "{really}");
            assert!(cache.len() <= capacity);
        }
        assert_eq!((cache.len(), cache.capacity()), (capacity, capacity));
        // One shard has an exact order.
        if really == 1 {
            cache.set_capacity(9);
            fill(&cache, 200..250);
            assert!(keys(&cache).into_iter().eq((241..250).rev()));
        }
    }
}

#[test]
fn a_capacity_below_the_shard_count_leaves_shards_empty() {
    let (cache, reports) = sharded(80, 8);
    fill(&cache, 0..1_000);
    let before = keys(&cache);
    cache.set_capacity(3);
    assert_eq!(keys(&cache), [before[0], before[10], before[20]], "the most recent of the first three");
    assert_eq!((reports.take().len(), cache.stats().evictions, cache.capacity()), (997, 997, 3));
    let mut refused = 0;
    for key in 1_000..2_000 {
        assert_eq!(cache.insert(key, key), None);
        refused += usize::from(!cache.contains_key(&key));
        assert_eq!(cache.len(), 3);
    }
    assert!((500..750).contains(&refused), "five in eight, or so: {refused}");
    assert_eq!(reports.take().len(), 1_000 - refused, "a value that is not stored is not reported");
    assert_eq!(cache.stats().insertions, 2_000 - refused as u64);
    cache.set_capacity(80);
    fill(&cache, 2_000..3_000);
    assert_eq!((cache.len(), reports.take().len()), (80, 923));
}

#[test]
fn set_capacity_divides_as_the_builder_does() {
    for capacity in [0, 1, 3, 4, 5, 17, 400] {
        let (cache, reports) = sharded(40, 4);
        fill(&cache, 0..1_000);
        let before = keys(&cache);
        reports.take();
        cache.set_capacity(capacity);
        let share = |shard| (capacity / 4 + usize::from(shard < capacity % 4)).min(10);
        let rest = (0..4).flat_map(|shard| before[10 * shard..][..share(shard)].to_vec());
        assert_eq!(keys(&cache), rest.collect::<Vec<_>>());
        let gone = (0..4).flat_map(|shard| before[10 * shard + share(shard)..10 * shard + 10].iter().rev());
        assert_eq!(reports.take(), gone.map(|&key| (key, 10 * key, Cause::Capacity)).collect::<Vec<_>>());
        let (other, _) = sharded(capacity.max(4), 4);
        if capacity >= 4 {
            fill(&other, 0..1_000);
            fill(&cache, 1_000..3_000);
            fill(&other, 1_000..3_000);
            assert_eq!(keys(&cache), keys(&other));
        }
    }
}

#[test]
fn a_great_capacity_does_not_overflow() {
    for shards in [1, 2, 3, 1_000] {
        let (cache, _) = sharded(usize::MAX, shards);
        fill(&cache, 0..100);
        assert_eq!((cache.len(), cache.capacity()), (100, usize::MAX));
        cache.set_capacity(usize::MAX - 1);
        cache.set_capacity(usize::MAX);
        assert_eq!((cache.len(), cache.capacity()), (100, usize::MAX));
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// The order of each shard
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn each_shard_keeps_the_exact_order_of_its_own() {
    let (cache, reports) = sharded(400, 4);
    fill(&cache, 0..200);
    let mut groups = groups(&cache);
    assert_eq!((groups.len(), reports.take()), (4, vec![]), "nothing is evicted");
    // Each use moves its key to the front of its own shard.
    for key in (0..200).map(|n| n * 73 % 200) {
        assert_eq!(cache.get(&key), Some(10 * key));
        let group = groups.iter_mut().find(|group| group.contains(&key)).unwrap();
        group.retain(|&other| other != key);
        group.insert(0, key);
        assert_eq!(keys(&cache), groups.concat());
    }
    // The oldest of the new key's shard is evicted.
    cache.set_capacity(40);
    groups.iter_mut().for_each(|group| group.truncate(10));
    assert_eq!(keys(&cache), groups.concat());
    reports.take();
    for key in 200..400 {
        fill(&cache, [key]);
        let [(gone, ..)] = reports.take()[..] else { panic!("one eviction for each insertion") };
        let group = groups.iter_mut().find(|group| group.last() == Some(&gone)).expect("the oldest of its shard");
        group.pop();
        group.insert(0, key);
        assert_eq!(keys(&cache), groups.concat());
    }
    // Then to the end, shard by shard.
    for group in groups {
        for key in group.into_iter().rev() {
            assert_eq!(cache.pop_lru(), Some((key, 10 * key)));
        }
    }
    assert_eq!((cache.pop_lru(), cache.len()), (None, 0));
}

#[test]
fn retain_and_clear_cover_all_shards() {
    let (cache, reports) = sharded(400, 4);
    fill(&cache, 0..200);
    let before = keys(&cache);
    let mut asked = Vec::new();
    cache.retain(|&key, &value| {
        asked.push(key);
        assert_eq!(value, 10 * key);
        key % 2 == 0
    });
    assert_eq!(asked, before);
    assert!(keys(&cache).into_iter().eq(before.into_iter().filter(|key| key % 2 == 0)));
    assert_eq!((cache.len(), cache.weight()), (100, 100));
    let removed = reports.take();
    assert!(removed.iter().map(|removed| removed.0).eq(asked.into_iter().filter(|key| key % 2 == 1)));
    cache.clear();
    assert_eq!((keys(&cache), cache.weight(), cache.is_empty()), (vec![], 0, true));
    let cleared = reports.take();
    assert!(removed.iter().chain(&cleared).all(|removed| removed.2 == Cause::Removed));
    let mut cleared: Vec<_> = cleared.iter().map(|removed| removed.0).collect();
    cleared.sort_unstable();
    assert!(cleared.into_iter().eq((0..200).filter(|key| key % 2 == 0)));
    fill(&cache, 0..200);
    assert_eq!(cache.len(), 200);
}

// ---------------------------------------------------------------------------------------------------------------------
// Hashes
// ---------------------------------------------------------------------------------------------------------------------

/// Checks keys with an owned and a borrowed form.
fn alike<K, Q>(owned: fn(u32) -> K)
where
    K: Borrow<Q> + Hash + Eq + Clone + fmt::Debug,
    Q: ?Sized + Hash + Eq + ToOwned<Owned = K> + fmt::Debug,
{
    let cache = LruCache::builder(1_000).shards(16).build();
    for n in 0..100 {
        let key = owned(n);
        let borrowed: &Q = key.borrow();
        // It is inserted in one form and found in the other, and the other way round.
        match n % 3 {
            0 => assert_eq!(cache.insert(key.clone(), n), None),
            1 => assert_eq!(cache.get_or_insert_with(borrowed, || n), n),
            _ => assert_eq!(loaded(cache.get_or_load(borrowed, || async { n })), n),
        }
        assert_eq!((cache.get(borrowed), cache.peek(borrowed), cache.contains_key(borrowed)), (Some(n), Some(n), true));
        assert_eq!((cache.get::<K>(&key), cache.insert(key.clone(), n)), (Some(n), Some(n)));
        assert_eq!(cache.get_or_insert_with(borrowed, || unreachable!()), n);
        assert_eq!(cache.len(), n as usize + 1, "{key:?} is there once");
    }
    for n in 0..100 {
        let key = owned(n);
        let borrowed: &Q = key.borrow();
        match n % 2 {
            0 => assert_eq!(cache.remove(borrowed), Some(n)),
            _ => assert_eq!(cache.remove_entry(borrowed), Some((key.clone(), n))),
        }
        assert_eq!((cache.get::<K>(&key), cache.get(borrowed)), (None, None));
    }
    assert_eq!(cache.len(), 0);
    cache.check();
}

#[test]
fn borrowed_and_owned_keys_are_the_same_key() {
    alike::<String, str>(|n| format!("key {n}"));
    alike::<Vec<u8>, [u8]>(|n| n.to_string().into_bytes());
    alike::<Vec<String>, [String]>(|n| {
        vec![n.to_string(); n as usize % 3].into_iter().chain([n.to_string()]).collect()
    });
    alike::<PathBuf, Path>(|n| Path::new("some").join(format!("{n}/where")));
    alike::<u32, u32>(|n| n);
    alike::<(u32, String), (u32, String)>(|n| (n, n.to_string()));
}

#[test]
fn keys_without_to_owned_are_looked_up_by_their_borrowed_form() {
    let cache: LruCache<Arc<str>, u32> = LruCache::builder(1_000).shards(4).build();
    for n in 0..50 {
        cache.insert(n.to_string().into(), n);
    }
    for n in 0..50 {
        let text = n.to_string();
        assert_eq!((cache.get(text.as_str()), cache.contains_key(text.as_str())), (Some(n), true));
        assert_eq!((cache.peek(text.as_str()), cache.remove(text.as_str())), (Some(n), Some(n)));
    }
}

/// Hashes a `u64` by a function, badly.
#[derive(Clone, Copy)]
struct Bad(fn(u64) -> u64);

struct BadHasher(fn(u64) -> u64, u64);

impl BuildHasher for Bad {
    type Hasher = BadHasher;

    fn build_hasher(&self) -> BadHasher {
        BadHasher(self.0, 0)
    }
}

impl Hasher for BadHasher {
    fn write(&mut self, _: &[u8]) {
        unimplemented!("the keys are numbers")
    }

    fn write_u64(&mut self, number: u64) {
        self.1 = (self.0)(number);
    }

    fn finish(&self) -> u64 {
        self.1
    }
}

const BAD: [(&str, Bad); 7] = [
    ("all zeros", Bad(|_| 0)),
    ("all ones", Bad(|_| u64::MAX)),
    ("the number itself", Bad(|number| number)),
    ("the high bits only", Bad(|number| number << 48)),
    ("the highest bits only", Bad(|number| number << 57)),
    ("the middle bits only", Bad(|number| number << 28)),
    ("one bit", Bad(|number| number % 2)),
];

#[test]
fn a_bad_hasher_costs_time_and_nothing_else() {
    for (name, hasher) in BAD {
        let cache = LruCache::with_hasher(100, hasher);
        for key in 0..400_u64 {
            assert_eq!((cache.insert(key, key), cache.get(&key)), (None, Some(key)), "{name}");
            if key % 3 == 0 && key > 50 {
                assert_eq!(cache.get(&(key - 50)), Some(key - 50), "{name}");
            }
        }
        cache.check();
        let order: Vec<_> = cache.entries().into_iter().map(|(key, _)| key).collect();
        let mut naive: Vec<u64> = Vec::new();
        for key in 0..400 {
            naive.push(key);
            if key % 3 == 0 && key > 50 {
                naive.retain(|&other| other != key - 50);
                naive.push(key - 50);
            }
            naive = naive.split_off(naive.len().saturating_sub(100));
        }
        assert!(order.iter().eq(naive.iter().rev()), "{name}");
        for key in order.iter().step_by(2) {
            assert_eq!(cache.remove(key), Some(*key), "{name}");
        }
        cache.check();
        assert!(
            (0..400).all(|key| cache.contains_key(&key) == order.iter().skip(1).step_by(2).any(|&other| other == key))
        );
    }
}

#[test]
fn a_bad_hasher_with_shards_keeps_each_in_its_bounds() {
    for (name, hasher) in BAD {
        let cache = LruCache::builder(64).shards(16).hasher(hasher).build();
        for key in 0..1_000_u64 {
            assert_eq!((cache.insert(key, key), cache.get(&key)), (None, Some(key)), "{name}");
            assert!((1..=64).contains(&cache.len()), "{name}");
            if key % 100 == 0 {
                cache.check();
            }
        }
        let entries: HashMap<_, _> = cache.entries().into_iter().collect();
        assert_eq!(entries.len(), cache.len(), "{name}: no key twice");
        assert!(entries.iter().all(|(key, value)| key == value), "{name}");
        assert_eq!((0..1_000).filter(|key| cache.contains_key(key)).count(), entries.len(), "{name}");
    }
}

#[test]
fn keys_of_one_hash_share_a_shard() {
    let cache = LruCache::builder(8).shards(4).hasher(BAD[0].1).build();
    for key in 0..10_u64 {
        cache.insert(key, key);
    }
    assert_eq!((cache.entries(), cache.len()), (vec![(9, 9), (8, 8)], 2), "its share is two");
    assert_eq!((cache.pop_lru(), cache.pop_lru(), cache.pop_lru()), (Some((8, 8)), Some((9, 9)), None));
}

#[test]
fn the_hasher_is_the_one_that_was_given() {
    /// Records the hashes that it makes.
    struct Recording(Reports<u64>);
    struct Telling(Reports<u64>, u64);
    impl BuildHasher for Recording {
        type Hasher = Telling;
        fn build_hasher(&self) -> Telling {
            Telling(self.0.clone(), 0)
        }
    }
    impl Hasher for Telling {
        fn write(&mut self, _: &[u8]) {
            unimplemented!("the keys are numbers")
        }
        fn write_u64(&mut self, number: u64) {
            self.1 = number;
        }
        fn finish(&self) -> u64 {
            self.0.push(self.1);
            self.1
        }
    }

    let told = Reports::new();
    for cache in [
        LruCache::with_hasher(30, Recording(told.clone())),
        LruCache::builder(30).hasher(Recording(told.clone())).shards(3).build(),
    ] {
        for key in 0..20_u64 {
            cache.insert(key, 10 * key);
        }
        ignore((cache.get(&3), cache.peek(&4), cache.contains_key(&5), cache.remove(&6), cache.remove_entry(&7)));
        assert_eq!(cache.get_or_insert_with(&8, || unreachable!()), 80);
        let hashed: Vec<_> = (0..20).chain(3..9).collect();
        assert_eq!(told.take(), hashed, "each call hashes its key once");
        // Nothing is hashed again when it is removed, or when the table shrinks or grows.
        drop((cache.pop_lru(), cache.entries(), cache.len()));
        cache.set_capacity(6);
        cache.retain(|key, _| key % 2 == 0);
        cache.clear();
        assert_eq!(told.take(), []);
    }
}

#[test]
fn keys_spread_over_the_shards() {
    fn kept<S: BuildHasher>(hasher: S) -> usize {
        let cache = LruCache::builder(1_600).shards(16).hasher(hasher).build();
        for key in 0..1_600_u64 {
            cache.insert(key, key);
        }
        cache.len()
    }
    let kept = [kept(RandomState::new()), kept(Fixed::default()), kept(BAD[2].1)];
    assert!(kept.iter().all(|&kept| kept > 1_400), "so many of 1,600 found room: {kept:?}");
}

/// Takes a number as its own hash.
#[derive(Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are u64");
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

thread_local! {
    static COMPARISONS: Cell<usize> = const { Cell::new(0) };
}

#[derive(Eq)]
struct Compared(u64);

impl Hash for Compared {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
    }
}

impl PartialEq for Compared {
    fn eq(&self, other: &Self) -> bool {
        COMPARISONS.set(COMPARISONS.get() + 1);
        self.0 == other.0
    }
}

#[test]
fn keys_that_differ_in_a_few_bits_of_a_weak_hash_are_spread() {
    for shift in [0, 16, 32, 48] {
        let builder = LruCache::builder(8_000).shards(8).hasher(BuildHasherDefault::<Identity>::default());
        let cache = builder.build();
        (0..4_000_u64).for_each(|key| _ = cache.insert(Compared(key << shift), ()));
        assert!(cache.len() > 3_500, "{} of 4,000 at bit {shift} are kept", cache.len());
        COMPARISONS.set(0);
        (0..4_000_u64).for_each(|key| _ = cache.get(&Compared(key << shift)));
        assert!(COMPARISONS.get() < 5_000, "{} comparisons at bit {shift}", COMPARISONS.get());
    }
}
