//! User code that uses the cache from wherever it runs.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use stanchion::LruCache;

use super::traced::{Cache, Caller, Config, Key, Plan, Probe, Script, Value};
use super::{each, outcome};
use crate::common::{Check, ends};

/// Calls everything, as user code may when it runs outside the lock.
fn use_everything(cache: &Cache) {
    let _ = (cache.len(), cache.is_empty(), cache.weight(), cache.capacity(), cache.stats(), format!("{cache:?}"));
    cache.check();
    for id in [1, 2, 50, 70] {
        let probe = Probe(id);
        drop((cache.get(&probe), cache.peek(&probe)));
        let _ = cache.contains_key(&probe);
        let mut caller = Caller::new(cache, id, Script::new(400));
        drop(caller.poll());
    }
    drop(cache.insert(Key::new(60), Value::new(600, 2)));
    drop(cache.insert(Key::new(50), Value::new(500, 2)));
    drop((cache.remove(&Probe(60)), cache.remove_entry(&Probe(50)), cache.pop_lru()));
    drop(Script::new(400).run(cache, 71, || {}));
    cache.retain(|key, _| key.id() != 2);
    drop(cache.entries());
    let capacity = cache.capacity();
    cache.set_capacity(1);
    cache.set_capacity(capacity);
    cache.clear();
    cache.check();
}

/// Calls of user code between two steps of an operation.
const ACTS: [fn(&Cache); 7] = [
    // Only takes each lock.
    |cache| {
        let _ = (cache.capacity(), cache.stats());
    },
    use_everything,
    Cache::clear,
    |cache| cache.set_capacity(0),
    |cache| [1, 2, 50].into_iter().for_each(|id| drop(cache.remove(&Probe(id)))),
    |cache| [1, 2, 50].into_iter().for_each(|id| drop(cache.insert(Key::new(id), Value::new(500, 2)))),
    // More than the capacity.
    |cache| (0..40).for_each(|id| drop(cache.insert(Key::new(id), Value::new(500, 2)))),
];

#[test]
fn user_code_outside_the_lock_may_use_the_cache() {
    for act in ACTS {
        ends(move || {
            each(Config::FEW, |operation, key, config| {
                let got = outcome(operation, key, config, Plan::Reenter(act));
                assert!(got.result.is_ok());
            });
        });
    }
}

/// A value that owns caches, or uses another cache when it is dropped.
#[derive(Clone)]
enum Owner {
    Nothing,
    Owns { _owned: [Arc<OwnerCache>; 2] },
    Uses(Weak<OwnerCache>, Arc<AtomicUsize>),
}

type OwnerCache = LruCache<u32, Owner>;

impl Drop for Owner {
    fn drop(&mut self) {
        let Self::Uses(cache, drops) = self else { return };
        drops.fetch_add(1, Ordering::Relaxed);
        if let Some(cache) = cache.upgrade() {
            drop(cache.insert(7, Self::Nothing));
            drop((cache.get(&1), cache.remove(&7), cache.pop_lru()));
            cache.check();
        }
    }
}

#[test]
fn a_value_may_own_another_cache_or_its_own_cache() {
    let ways: [fn(&OwnerCache); 6] = [
        OwnerCache::clear,
        |cache| drop(cache.remove(&1)),
        |cache| drop(cache.insert(1, Owner::Nothing)),
        |cache| cache.set_capacity(0),
        |cache| cache.retain(|_, _| false),
        |cache| (2..9).for_each(|key| drop(cache.insert(key, Owner::Nothing))),
    ];
    for way in ways {
        ends(move || {
            let (cache, neighbour) = (Arc::new(OwnerCache::new(4)), Arc::new(OwnerCache::new(4)));
            let weak = [&cache, &neighbour].map(Arc::downgrade);
            let drops = Arc::new(AtomicUsize::new(0));
            for key in 0..4 {
                drop(neighbour.insert(key, Owner::Uses(weak[0].clone(), drops.clone())));
            }
            drop(cache.insert(1, Owner::Owns { _owned: [neighbour, cache.clone()] }));
            way(&cache);
            cache.check();
            assert!(weak[1].upgrade().is_none(), "it is dropped with the value");
            assert_eq!(drops.load(Ordering::Relaxed), 4);
            drop(cache);
            assert!(weak[0].upgrade().is_none(), "nothing else refers to it");
        });
    }
}
