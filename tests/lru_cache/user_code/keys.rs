//! Keys whose hashes and equality are inconsistent.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::hash::{Hash, Hasher};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use stanchion::LruCache;

use super::Context;
use crate::common::{Check, ends, poll, yield_now};

/// How all keys hash and compare.
#[derive(Clone, Copy, Debug)]
enum Behaviour {
    /// Consistently; with another salt each key is another one, as if it had changed in the cache.
    Salt(u32),
    AllEqual,
    NoneEqual,
    SameHash,
    /// At random.
    Random,
}

thread_local! {
    static BEHAVIOUR: Cell<Behaviour> = const { Cell::new(Behaviour::Salt(0)) };
    static RANDOM: RefCell<StdRng> = RefCell::new(StdRng::seed_from_u64(0));
}

fn random(sides: u32) -> u32 {
    RANDOM.with_borrow_mut(|rng| rng.random_range(0..sides))
}

#[derive(Clone, Debug)]
struct Inconsistent {
    id: u32,
    _alive: Arc<()>,
}

impl Inconsistent {
    fn new(id: u32, alive: &Arc<()>) -> Self {
        Self { id, _alive: alive.clone() }
    }
}

impl Hash for Inconsistent {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u32(match BEHAVIOUR.get() {
            Behaviour::Salt(salt) => self.id ^ salt,
            Behaviour::AllEqual | Behaviour::NoneEqual => self.id,
            Behaviour::SameHash => 0,
            Behaviour::Random => random(3),
        });
    }
}

impl PartialEq for Inconsistent {
    fn eq(&self, other: &Self) -> bool {
        match BEHAVIOUR.get() {
            Behaviour::Salt(_) | Behaviour::SameHash => self.id == other.id,
            Behaviour::AllEqual => true,
            Behaviour::NoneEqual => false,
            Behaviour::Random => random(2) == 0,
        }
    }
}

impl Eq for Inconsistent {}

type InconsistentCache = LruCache<Inconsistent, Inconsistent>;

type Load<'c> = Pin<Box<dyn Future<Output = Inconsistent> + 'c>>;

/// Runs a random operation, which may begin, poll and drop loads.
fn operate<'c>(cache: &'c InconsistentCache, alive: &Arc<()>, loads: &mut Vec<Load<'c>>) {
    let key = Inconsistent::new(random(6), alive);
    match random(16) {
        0..=2 => drop(cache.insert(key, Inconsistent::new(random(4), alive))),
        3 => drop(cache.get(&key)),
        4 => drop((cache.peek(&key), cache.contains_key(&key))),
        5 => drop(cache.remove(&key)),
        6 => drop(cache.remove_entry(&key)),
        7 => drop(cache.pop_lru()),
        8 => cache.retain(|_, _| random(3) > 0),
        9 => cache.set_capacity(random(6) as usize),
        // Otherwise it may wait for a load that only this thread polls.
        10 if loads.is_empty() => drop(cache.get_or_insert_with(&key, || Inconsistent::new(random(4), alive))),
        11 => drop(cache.entries()),
        12 if random(8) == 0 => cache.clear(),
        12..=13 => {
            let waits = random(3);
            let alive = alive.clone();
            let loader = async move || {
                for _ in 0..waits {
                    yield_now().await;
                }
                Inconsistent::new(random(4), &alive)
            };
            loads.push(Box::pin(async move { cache.get_or_load(&key, loader).await }));
        }
        _ if loads.is_empty() => {}
        14 => drop(loads.swap_remove(random(loads.len() as u32) as usize)),
        _ => loads.retain_mut(|load| poll(load).is_pending()),
    }
}

#[test]
fn inconsistent_keys_corrupt_and_leak_nothing() {
    ends(|| {
        for seed in 0..400 {
            RANDOM.set(StdRng::seed_from_u64(seed));
            let _context = Context(format!("seed {seed}"));
            let alive = Arc::new(());
            let mut builder = LruCache::builder(random(6) as usize).shards(1 + (seed % 2) as usize * 2);
            if seed % 3 == 0 {
                // Weights and time are inconsistent, too.
                let base = Instant::now();
                builder = builder.weigher(|_: &Inconsistent, _: &Inconsistent| u64::from(random(4)));
                let clock = move || base + Duration::from_secs(random(10).into());
                builder = builder.time_to_live(Duration::from_secs(5)).clock(clock).on_evict(|_, _, _| {});
            }
            let cache: InconsistentCache = builder.build();
            let mut loads = Vec::new();
            for _ in 0..300 {
                if random(10) == 0 {
                    BEHAVIOUR.set(match random(6) {
                        0 => Behaviour::AllEqual,
                        1 => Behaviour::NoneEqual,
                        2 => Behaviour::SameHash,
                        3 => Behaviour::Random,
                        _ => Behaviour::Salt(random(4)),
                    });
                }
                operate(&cache, &alive, &mut loads);
                cache.check();
                assert!(seed % 3 == 0 || cache.len() <= cache.capacity());
                assert!(cache.weight() <= cache.capacity() as u64);
                assert!(!loads.is_empty() || Arc::strong_count(&alive) == 1 + 2 * cache.len(), "something leaks");
            }
            drop(loads);
            assert_eq!(cache.flights(), 0);
            assert_eq!(Arc::strong_count(&alive), 1 + 2 * cache.len());
            if seed % 4 < 2 {
                cache.set_capacity(0)
            } else {
                cache.clear()
            }
            assert_eq!((cache.len(), cache.weight(), Arc::strong_count(&alive)), (0, 0, 1));
            // Consistent keys work as before.
            BEHAVIOUR.set(Behaviour::Salt(0));
            cache.set_capacity(100);
            let consistent = |id| Inconsistent::new(id, &alive);
            if seed % 3 > 0 {
                (0..9).for_each(|id| drop(cache.insert(consistent(id), consistent(id))));
                assert!((0..9).all(|id| cache.get(&consistent(id)).is_some_and(|value| value.id == id)));
            }
            cache.check();
        }
    });
}

#[test]
fn keys_that_always_or_never_equal_make_one_or_many_entries() {
    for (behaviour, len) in [(Behaviour::AllEqual, 1), (Behaviour::NoneEqual, 5)] {
        let cache = InconsistentCache::new(5);
        let alive = Arc::new(());
        BEHAVIOUR.set(behaviour);
        for id in 0..20 {
            drop(cache.insert(Inconsistent::new(7, &alive), Inconsistent::new(id, &alive)));
            cache.check();
        }
        assert_eq!((cache.len(), Arc::strong_count(&alive)), (len, 1 + 2 * len));
        let values = cache.entries().into_iter().map(|(_, value)| value.id).collect::<Vec<_>>();
        assert_eq!(values, (0..20).rev().take(len).collect::<Vec<_>>());
        let key = Inconsistent::new(7, &alive);
        assert_eq!(cache.get(&key).map(|value| value.id), if len == 1 { Some(19) } else { None });
        assert_eq!(cache.remove(&key).is_some(), len == 1);
        while cache.pop_lru().is_some() {}
        assert_eq!((cache.len(), Arc::strong_count(&alive)), (0, 2));
        cache.check();
    }
}
