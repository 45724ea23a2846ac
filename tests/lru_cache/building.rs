//! Builders, and the `Debug` output of builders and caches.

use std::cell::Cell;
use std::fmt;
use std::hash::RandomState;
use std::rc::Rc;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use stanchion::{Cause, LruCache, LruCacheBuilder, Stats};

use crate::common::{Check, Clock};
use crate::{Builder, Cache, Reports, fill, keys};

const MINUTE: Duration = Duration::from_secs(60);

/// All orders of these.
fn orders(of: &[usize]) -> Vec<Vec<usize>> {
    if of.is_empty() {
        return vec![vec![]];
    }
    let with_first = |&first: &usize| {
        let rest: Vec<_> = of.iter().copied().filter(|&other| other != first).collect();
        orders(&rest).into_iter().map(move |rest| [vec![first], rest].concat())
    };
    of.iter().flat_map(with_first).collect()
}

#[test]
fn settings_may_come_in_any_order() {
    for order in orders(&[0, 1, 2, 3, 4, 5]) {
        let (clock, reports) = (Clock::new(), Reports::new());
        let mut builder: Builder = LruCache::builder(12);
        for setting in &order {
            builder = match setting {
                0 => builder.shards(2),
                1 => builder.hasher(RandomState::new()),
                2 => builder.weigher(|_, &value| u64::from(value)),
                3 => builder.time_to_live(MINUTE),
                4 => builder.on_evict(reports.listener()),
                _ => builder.clock(clock.source()),
            };
        }
        let cache = builder.build();
        assert!(format!("{cache:?}").contains("shards: 2"), "{order:?}");
        assert_eq!((cache.insert(1, 7), cache.len(), cache.insert(1, 6), cache.weight()), (None, 0, None, 6));
        clock.advance(MINUTE);
        assert_eq!((cache.get(&1), reports.take()), (None, vec![(1, 6, Cause::Expired)]), "{order:?}");
    }
}

#[test]
fn the_last_of_two_settings_counts() {
    let (early, late) = (Reports::new(), Reports::new());
    let clock = Clock::new();
    let builder: Builder = LruCache::builder(10).shards(5).weigher(|_, _| 100).time_to_live(Duration::ZERO);
    let builder = builder.clock(|| panic!("not this one")).on_evict(early.listener());
    let builder = builder.shards(1).weigher(|_, _| 5).time_to_live(MINUTE).clock(clock.source());
    let cache = builder.on_evict(late.listener()).build();
    fill(&cache, 1..=3);
    assert_eq!((keys(&cache), cache.weight()), (vec![3, 2], 10));
    assert_eq!((early.take(), late.take()), (vec![], vec![(1, 10, Cause::Capacity)]));
}

#[test]
fn the_hasher_may_be_of_any_type_wherever_it_is_set() {
    #[derive(Clone, Default)]
    struct Mine(RandomState);
    impl std::hash::BuildHasher for Mine {
        type Hasher = std::hash::DefaultHasher;
        fn build_hasher(&self) -> Self::Hasher {
            self.0.build_hasher()
        }
    }

    let clock = Clock::new();
    let caches: [LruCache<u32, u32, Mine>; 4] = [
        LruCache::with_hasher(2, Mine::default()),
        LruCache::builder(2).hasher(Mine::default()).time_to_live(MINUTE).clock(clock.source()).build(),
        LruCache::<u32, u32>::builder(2).weigher(|_, _| 1).on_evict(|_, _, _| {}).hasher(Mine::default()).build(),
        LruCache::builder(2).hasher(RandomState::new()).shards(1).hasher(Mine::default()).build(),
    ];
    for cache in caches {
        for key in 0..3 {
            assert_eq!(cache.insert(key, key), None);
        }
        assert_eq!(keys(&cache), [2, 1]);
    }
}

#[test]
fn types_need_no_traits_that_are_not_used() {
    /// Neither hashed, compared, cloned nor shown.
    struct Nothing;
    drop((LruCache::<Nothing, Nothing>::new(3), LruCache::<Nothing, Nothing>::builder(3).shards(2).build()));
    let cache = LruCache::<Nothing, Nothing, Nothing>::with_hasher(3, Nothing);
    assert_eq!((cache.len(), cache.weight(), cache.capacity(), cache.is_empty()), (0, 0, 3, true));
    assert_eq!(cache.stats(), Stats::default());
    assert!(!format!("{cache:?} {:?}", LruCache::<Nothing, Nothing>::builder(3)).contains("Nothing"));

    // Values that cannot be cloned cannot come in, but nothing else speaks against them.
    let cache = LruCache::<u32, Nothing>::new(3);
    assert!(cache.remove(&1).is_none() && cache.remove_entry(&1).is_none() && cache.pop_lru().is_none());
    assert!(!cache.contains_key(&1));
    cache.retain(|_, _| true);
    cache.set_capacity(4);
    cache.clear();
    cache.check();

    // Keys and values that stay on their thread, and borrow.
    let (text, cache) = (String::from("text"), LruCache::new(3));
    let value = Rc::new(Cell::new(1));
    cache.insert(&text[..2], value.clone());
    cache.get("te").unwrap().set(2);
    assert_eq!((value.get(), Rc::strong_count(&value)), (2, 2));
}

#[test]
fn debug_shows_sizes_and_no_contents() {
    /// Cannot be shown.
    #[derive(Clone, PartialEq, Eq, Hash)]
    struct Secret(u32);
    impl fmt::Debug for Secret {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            panic!("it was shown")
        }
    }

    let builder = LruCache::builder(10).shards(2).weigher(|_, _| 2);
    let cache = builder.build();
    assert_eq!(format!("{cache:?}"), "LruCache { capacity: 10, len: 0, weight: 0, shards: 2, .. }");
    cache.insert(Secret(1), Secret(2));
    assert_eq!(format!("{cache:?}"), "LruCache { capacity: 10, len: 1, weight: 2, shards: 2, .. }");
    cache.set_capacity(3);
    assert!(format!("{cache:#?}").starts_with("LruCache {\n    capacity: 3,\n    len: "), "{cache:#?}");
}

#[test]
fn a_builder_shows_what_was_set() {
    let builder: Builder = LruCache::builder(10);
    let shown = format!("{builder:?}");
    assert!(shown.starts_with("LruCacheBuilder {") && shown.contains("capacity: 10"), "{shown}");
    let builder = builder.shards(3).time_to_live(MINUTE).weigher(|_, _| 1).on_evict(|_, _, _| {});
    let shown = format!("{:?}", builder.clock(std::time::Instant::now));
    assert!(shown.contains("shards: 3") && shown.contains("60s"), "{shown}");
}

/// Shows its cache whenever it is cloned, which happens under the lock.
struct Showing(Arc<Shown>);

#[derive(Default)]
struct Shown {
    cache: OnceLock<Weak<LruCache<u32, Showing>>>,
    texts: Reports<String>,
}

impl Clone for Showing {
    fn clone(&self) -> Self {
        let cache = self.0.cache.get().and_then(Weak::upgrade).expect("the cache is in use");
        self.0.texts.push(format!("{cache:?}"));
        Self(self.0.clone())
    }
}

#[test]
fn debug_omits_sizes_while_the_cache_is_locked() {
    for (shards, key) in [(1, 1), (4, 1), (4, 2), (4, 3)] {
        let shown = Arc::new(Shown::default());
        let cache = Arc::new(LruCache::builder(80).shards(shards).build());
        shown.cache.set(Arc::downgrade(&cache)).unwrap();
        for other in 1..4 {
            cache.insert(other, Showing(shown.clone()));
        }
        assert_eq!(shown.texts.take(), Vec::<String>::new(), "nothing was cloned");
        type Act = fn(&LruCache<u32, Showing>, u32);
        let acts: [Act; 4] = [
            |cache, key| drop(cache.get(&key)),
            |cache, key| drop(cache.peek(&key)),
            |cache, key| drop(cache.get_or_insert_with(&key, || unreachable!())),
            |cache, _| drop(cache.entries()),
        ];
        for act in acts {
            act(&cache, key);
            let texts = shown.texts.take();
            assert!(!texts.is_empty());
            for text in texts {
                assert!(text.starts_with("LruCache { ") && text.contains(&format!("shards: {shards}")), "{text}");
                assert!(!text.contains("len: 3"), "it is locked: {text}");
            }
        }
        assert!(format!("{cache:?}").contains("len: 3"), "{cache:?}");
    }
}

#[test]
fn a_new_cache_is_empty() {
    for cache in [Cache::new(3), Cache::with_hasher(3, RandomState::new()), LruCacheBuilder::build(Cache::builder(3))] {
        assert_eq!((keys(&cache), cache.stats(), cache.weight()), (vec![], Stats::default(), 0));
    }
}
