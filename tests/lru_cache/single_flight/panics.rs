//! User code that panics when a load ends, and the drops at that time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use stanchion::LruCache;

use super::{
    Caller, End, Fails, Got, KEY, Load, Red, assert_in_flight, assert_stored, assert_wakes, begin_infallible,
    begin_load, counts,
};
use crate::Cache;
use crate::common::hooks::Hooks;
use crate::common::{Check, Counted, Gauge, Task, panic_of, poll, poll_with, ready, yield_now};

/// A value whose clones are counted, and one of whose clones may panic.
struct Fragile {
    fuse: Arc<AtomicUsize>,
    counted: Arc<Gauge>,
    _count: Counted,
}

impl Fragile {
    /// The clone that counts `fuse` down to zero panics.
    fn new(fuse: &Arc<AtomicUsize>, counted: &Arc<Gauge>) -> Self {
        Self { fuse: fuse.clone(), counted: counted.clone(), _count: counted.count() }
    }
}

impl Clone for Fragile {
    fn clone(&self) -> Self {
        assert!(self.fuse.fetch_sub(1, Ordering::SeqCst) != 1, "the clone panics");
        Self::new(&self.fuse, &self.counted)
    }
}

#[test]
fn a_clone_that_panics_costs_one_caller_at_most() {
    for followers in [0, 1, 3] {
        let mut clones = 0;
        // The first clone panics, then the second, and at last none.
        loop {
            let (fuse, counted) = (Arc::new(AtomicUsize::new(clones + 1)), Arc::new(Gauge::default()));
            let cache = LruCache::<u32, Fragile>::new(10);
            let mut callers: Vec<_> = (0..=followers)
                .map(|_| {
                    // Pending once, so that the others follow.
                    let load = async {
                        yield_now().await;
                        Fragile::new(&fuse, &counted)
                    };
                    Task::new(Box::pin(cache.get_or_load(&KEY, || load)))
                })
                .collect();
            assert!(callers.iter_mut().all(Task::is_pending));
            let mut panics = 0;
            for (number, caller) in callers.iter_mut().enumerate() {
                assert!(number == 0 || caller.wakes() > 0, "it was not woken");
                let outcome = catch_unwind(AssertUnwindSafe(|| (0..2).any(|_| caller.poll().is_ready())));
                panics += usize::from(outcome.is_err());
                assert!(outcome.unwrap_or(true), "it has its value, or panics");
                cache.check();
            }
            drop(callers);
            assert_in_flight(&cache, 0);
            assert!(counted.read().0 <= 1, "only the cache has one");
            drop(cache);
            assert_eq!(counted.read().0, 0);
            if panics == 0 {
                break;
            }
            assert_eq!(panics, 1);
            clones += 1;
        }
        assert!(clones > followers, "each follower clones it, and the leader does");
    }
}

#[test]
fn a_follower_with_an_error_does_not_clone_a_later_value() {
    let (fuse, counted) = (Arc::new(AtomicUsize::new(usize::MAX)), Arc::new(Gauge::default()));
    let cache = LruCache::<u32, Fragile>::new(10);
    let [fails, succeeds] = [Load::default(), Load::default()];
    let mut leader = Box::pin(
        cache.try_get_or_load(&KEY, || async { fails.begin().await.map_err(Red).map(|_| unreachable!("it fails")) }),
    );
    assert!(poll(&mut leader).is_pending());
    let mut failed = Box::pin(cache.try_get_or_load(&KEY, || async { Err(Red(9)) }));
    let mut next = Box::pin(
        cache.try_get_or_load(&KEY, || async { succeeds.begin().await.map(|_| Fragile::new(&fuse, &counted)) }),
    );
    assert!(poll(&mut failed).is_pending() && poll(&mut next).is_pending());
    fails.end(End::Error(1));
    assert_eq!(ready(&mut leader).err(), Some(Arc::new(Red(1))));
    assert!(poll(&mut next).is_pending());
    let mut follower = Box::pin(cache.get_or_load(&KEY, || async { unreachable!("another caller loads") }));
    assert!(poll(&mut follower).is_pending());
    succeeds.end(End::Value(5));
    assert!(ready(&mut next).is_ok());
    fuse.store(1, Ordering::SeqCst);
    assert_eq!(ready(&mut failed).err(), Some(Arc::new(Red(1))));
    assert_eq!(panic_of(|| ready(&mut follower)), "the clone panics");
    drop(follower);
    assert_in_flight(&cache, 0);
}

/// A value whose drop asserts that the cache is not locked: its `Debug` omits `len` then.
#[derive(Clone)]
struct Curious(&'static LruCache<u32, Curious>);

impl Drop for Curious {
    fn drop(&mut self) {
        assert!(format!("{:?}", self.0).contains("len"), "dropped under the lock");
    }
}

#[test]
fn nothing_of_a_load_is_dropped_under_the_lock() {
    for capacity in [0, 1] {
        let cache: &'static LruCache<u32, Curious> = Box::leak(Box::new(LruCache::new(capacity)));
        for ways in 0..3 {
            let load = Load::default();
            let mut leader =
                Box::pin(cache.try_get_or_load(&KEY, || async { load.begin().await.map(|_| Curious(cache)) }));
            assert!(poll(&mut leader).is_pending());
            let mut followers = [(); 2].map(|()| Box::pin(cache.get_or_load(&KEY, || async { unreachable!() })));
            assert!(followers.iter_mut().all(|follower| poll(follower).is_pending()));
            match ways {
                0 => {}
                1 => drop(cache.remove(&KEY)),
                _ => drop(cache.insert(KEY, Curious(cache))),
            }
            load.end(End::Value(5));
            assert!(ready(&mut leader).is_ok());
            let [mut one, other] = followers;
            drop(ready(&mut one));
            drop((one, other));
            assert_in_flight(cache, 0);
            cache.clear();
        }
    }
}

#[test]
fn a_leader_whose_callback_panics_passes_the_lead_on() {
    let panics = Arc::new(AtomicBool::new(false));
    let hook = |armed: &Arc<AtomicBool>| {
        let armed = armed.clone();
        move || assert!(!armed.swap(false, Ordering::SeqCst), "the hook panics")
    };
    let (on_weigh, on_clock) = (hook(&panics), hook(&panics));
    let weighed = Cache::builder(10).weigher(move |_, _| {
        on_weigh();
        1
    });
    let timed = Cache::builder(10).time_to_live(Duration::MAX).clock(move || {
        on_clock();
        Instant::now()
    });
    for cache in [weighed.build(), timed.build()] {
        let [leader, mut granted, mut other] = begin_infallible(&cache);
        panics.store(true, Ordering::SeqCst);
        leader.load.end(End::Value(5));
        let mut leader = leader;
        assert_eq!(panic_of(|| leader.task.poll()), "the hook panics");
        assert_in_flight(&cache, 1);
        assert_wakes([&granted, &other], &[1, 0]);
        granted.takes_the_lead();
        assert_eq!(granted.ends(End::Value(6)), Got::Value(6));
        assert_eq!(other.served(), Got::Value(6));
        assert_in_flight(&cache, 0);
        assert_stored(&cache, Some(6));
        assert_eq!(counts(&cache), [0, 3, 2, 0, 1]);
    }
}

#[test]
fn followers_are_woken_though_one_waker_panics() {
    let panicking = || Hooks::new().on_wake(|| panic!("the waker panics")).waker();
    let cache = Cache::new(10);
    type Ending = (&'static str, fn(&Cache, Caller<'_>));
    const ENDINGS: [Ending; 3] = [
        ("a value", |_, mut leader| assert_eq!(leader.ends(End::Value(5)), Got::Value(5))),
        ("an error", |_, mut leader| assert_eq!(leader.ends(End::Error(5)), Got::Red(Arc::new(Red(5))))),
        ("an insert", |cache, leader| {
            assert_eq!(cache.insert(KEY, 5), None);
            drop(leader);
        }),
    ];
    for (name, ending) in ENDINGS {
        let mut callers = begin_load(&cache, [Fails::Red; 4]);
        for follower in [1, 2] {
            assert!(poll_with(callers[follower].task.future_mut(), &panicking()).is_pending());
        }
        let leader = callers.remove(0);
        ending(&cache, leader);
        assert_eq!(callers[2].wakes(), 1, "{name}");
        let got: Vec<_> = callers.iter_mut().map(Caller::got).collect();
        assert!(got.iter().all(|other| other.is(&got[0])), "{name}");
        assert_in_flight(&cache, 0);
        cache.clear();
    }
    // A drop has no result to return, and passes the panic on.
    let [leader, mut granted, other] = begin_infallible(&cache);
    assert!(poll_with(granted.task.future_mut(), &panicking()).is_pending());
    assert_eq!(panic_of(|| drop(leader)), "the waker panics");
    granted.takes_the_lead();
    drop(granted);
    assert_eq!(other.wakes(), 1);
    drop(other);
    assert_in_flight(&cache, 0);
}

#[test]
fn a_published_value_is_dropped_with_the_last_follower() {
    let (fuse, counted) = (Arc::new(AtomicUsize::new(usize::MAX)), Arc::new(Gauge::default()));
    let cache = LruCache::<u32, Fragile>::new(0);
    let load = Load::default();
    let loaded = || async { load.begin().await.map(|_| Fragile::new(&fuse, &counted)) };
    let mut leader = Box::pin(cache.try_get_or_load(&KEY, loaded));
    assert!(poll(&mut leader).is_pending());
    let mut followers =
        [(); 3].map(|()| Some(Task::waiting(Box::pin(cache.get_or_load(&KEY, || async { unreachable!() })))));
    load.end(End::Value(5));
    drop(ready(&mut leader));
    drop(followers[0].as_mut().unwrap().ready());
    for follower in &mut followers {
        assert_eq!(counted.read().0, 1);
        *follower = None;
    }
    assert_eq!(counted.read().0, 0);
    assert_in_flight(&cache, 0);
}
