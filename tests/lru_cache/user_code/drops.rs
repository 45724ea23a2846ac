//! Drops, clones and closures that panic one at a time.

use std::cell::Cell;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::thread;

use stanchion::LruCache;

use crate::common::{Check, does_not_abort, panic_of, poll, yield_now};

/// A key whose drop counts, and looks whether the cache is locked: its `Debug` omits `len` then.
struct DropProbe {
    cache: Weak<LruCache<DropProbe, PanicsWhenCloned>>,
    drops: Arc<AtomicUsize>,
    drops_under_the_lock: Arc<AtomicUsize>,
}

impl Clone for DropProbe {
    fn clone(&self) -> Self {
        let Self { cache, drops, drops_under_the_lock } = self;
        Self { cache: cache.clone(), drops: drops.clone(), drops_under_the_lock: drops_under_the_lock.clone() }
    }
}

impl PartialEq for DropProbe {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for DropProbe {}

impl Hash for DropProbe {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl Drop for DropProbe {
    fn drop(&mut self) {
        if let Some(cache) = self.cache.upgrade() {
            let locked = !format!("{cache:?}").contains("len");
            self.drops_under_the_lock.fetch_add(usize::from(locked), Ordering::SeqCst);
            self.drops.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// A value whose clone panics.
struct PanicsWhenCloned;

impl Clone for PanicsWhenCloned {
    fn clone(&self) -> Self {
        panic!("the value is not cloned");
    }
}

#[test]
fn half_a_clone_of_an_entry_is_not_dropped_under_the_lock() {
    let cache = Arc::new(LruCache::new(3));
    let (drops, under_the_lock) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let key =
        DropProbe { cache: Arc::downgrade(&cache), drops: drops.clone(), drops_under_the_lock: under_the_lock.clone() };
    cache.insert(key, PanicsWhenCloned);
    assert_eq!(panic_of(|| cache.entries()), "the value is not cloned");
    assert_eq!((drops.load(Ordering::SeqCst), under_the_lock.load(Ordering::SeqCst)), (1, 0));
    assert_eq!(cache.len(), 1);
    cache.check();
}

/// A capture of a loader whose drop panics.
struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        if !thread::panicking() {
            panic!("the drop of the loader");
        }
    }
}

#[test]
fn an_unused_loader_whose_drop_panics_loses_no_value() {
    let cache = LruCache::<u32, Arc<()>>::new(3);
    let value = Arc::new(());
    cache.insert(1, value.clone());
    let message = "the drop of the loader";
    let loader_with = |unused: PanicsWhenDropped| {
        move || -> Arc<()> {
            let _unused = unused;
            unreachable!("it is stored")
        }
    };
    assert_eq!(panic_of(|| cache.get_or_insert_with(&1, loader_with(PanicsWhenDropped))), message);
    assert_eq!(Arc::strong_count(&value), 2, "a hit");
    let load = |unused| {
        let load = loader_with(unused);
        cache.get_or_load(&1, move || std::future::ready(load()))
    };
    assert_eq!(panic_of(|| poll(&mut Box::pin(load(PanicsWhenDropped)))), message);
    assert_eq!(Arc::strong_count(&value), 2, "an asynchronous hit");

    cache.clear();
    let mut leader = Box::pin(cache.get_or_load(&1, || async {
        yield_now().await;
        value.clone()
    }));
    assert!(poll(&mut leader).is_pending());
    let mut follower = Box::pin(load(PanicsWhenDropped));
    assert!(poll(&mut follower).is_pending());
    assert!(poll(&mut leader).is_ready());
    assert_eq!(panic_of(|| poll(&mut follower)), message);
    drop((follower, leader));
    assert_eq!(Arc::strong_count(&value), 2, "a value that another caller has loaded");
    assert_eq!(cache.flights(), 0);
    cache.check();
}

#[test]
fn retain_resumes_the_first_of_its_panics() {
    struct Bomb(bool);
    impl Drop for Bomb {
        fn drop(&mut self) {
            assert!(!self.0, "the drop");
        }
    }
    let cache = LruCache::builder(2).shards(2).build();
    let mut keys = 0..;
    while cache.len() < 2 {
        cache.insert(keys.next().unwrap(), Arc::new(Bomb(false)));
    }
    let in_first_shard = cache.entries()[0].0;
    cache.insert(in_first_shard, Arc::new(Bomb(true)));
    let message = panic_of(|| {
        cache.retain(|&key, _| {
            assert_eq!(key, in_first_shard, "the predicate");
            false
        });
    });
    assert!(message.contains("the drop"), "{message}");
    assert_eq!(cache.len(), 1, "the other shard has its entry still");
}

#[test]
fn a_listener_that_panics_during_unwinding_loses_no_value() {
    struct Inserts<'a>(&'a LruCache<u32, &'static str>, &'a Cell<Option<&'static str>>);
    impl Drop for Inserts<'_> {
        fn drop(&mut self) {
            self.1.set(self.0.insert(3, "heavy"));
        }
    }
    does_not_abort!(|| {
        let builder = LruCache::builder(10).weigher(|_, &value| if value == "heavy" { 8 } else { 4 });
        let cache = builder.on_evict(|_, _, _| panic!("the listener")).build();
        cache.insert(2, "evicted");
        cache.insert(3, "old");
        let replaced = Cell::new(None);
        let message = panic_of(|| {
            let _inserts = Inserts(&cache, &replaced);
            panic!("the first");
        });
        assert_eq!(message, "the first");
        assert_eq!(replaced.get(), Some("old"));
    });
}
