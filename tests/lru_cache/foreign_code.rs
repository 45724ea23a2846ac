//! Keys, values, errors, callbacks, loaders and wakers that panic, re-enter the cache, or do not know who they are.

mod deeds;
mod world;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::future::Future;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use stanchion::{Cause, LruCache, Stats};

use crate::common::{self, Check, ends, poll, yield_now};
use deeds::{DEEDS, Deed, Stage};
use world::Call::*;
use world::{
    Alive, Blown, Cache, Call, Caller, Config, Key, Plan, Probe, Script, Value, alive, reports, reset, watched,
};

// ---------------------------------------------------------------------------------------------------------------------
// Panicking, at each call of each deed
// ---------------------------------------------------------------------------------------------------------------------

/// What can be seen of a cache, and of all that happened to it.
#[derive(Clone, Debug, PartialEq)]
struct State {
    stats: Stats,
    counts: (usize, u64, usize),
    entries: Vec<(u32, u32)>,
    /// After all that had expired was met.
    last_stats: Stats,
    reports: Vec<(u32, u32, Cause)>,
    got: Vec<String>,
}

impl State {
    /// As if all that had expired had been met before.
    fn met(&self) -> Self {
        let counts = (self.entries.len(), 0, self.counts.2);
        Self { stats: self.last_stats, counts, ..self.clone() }
    }
}

struct Outcome {
    /// What the deed returned, or the number of the call whose panic came out of it.
    result: Result<String, usize>,
    trace: Vec<Call>,
    state: State,
}

/// Does the deed according to plan, and asserts that the cache is whole, and that nothing is left anywhere else.
fn outcome(deed: Deed, key: u32, config: Config, plan: Plan) -> Outcome {
    reset();
    let stage = Stage::new(config.filled(), plan);
    (deed.run)(&stage, key);
    let Stage { cache, acted, got, .. } = stage;
    let acted = acted.into_inner().expect("something was done");
    let result = acted.outcome.map_err(|payload| match payload.downcast::<Blown>() {
        Ok(blown) => blown.0,
        Err(payload) => resume_unwind(payload),
    });
    cache.check();
    assert_eq!(cache.flights(), 0, "a flight is left behind");
    let (stats, len) = (cache.stats(), cache.len() as isize);
    let kept = Alive { keys: len, values: len, ..Alive::default() };
    let leaked = match result {
        // A compiler that drops an argument after it has made the output (rust-lang/rust#47949) leaks the output.
        Err(n) if acted.trace.get(n) == Some(&DropLoad) => {
            [Alive::default(), world::VALUE, world::ERROR].into_iter().find(|&leaked| alive() == kept + leaked)
        }
        _ => Some(Alive::default()).filter(|_| alive() == kept),
    };
    let leaked = leaked.unwrap_or_else(|| panic!("{:?} are alive, and in the cache only {kept:?}", alive()));
    let counts = (cache.len(), cache.weight(), cache.capacity());
    assert!(if config.weigher { counts.1 <= counts.2 as u64 } else { counts.0 <= counts.2 }, "{counts:?}");
    let entries = cache.entries().iter().map(|(key, value)| (key.id(), value.id)).collect();
    cache.retain(|_, _| true);
    let last_stats = cache.stats();
    let cache = Arc::into_inner(cache).expect("nobody else keeps it");
    drop(cache);
    assert_eq!(alive(), leaked, "nothing outlives the cache");
    let state = State { stats, counts, entries, last_stats, reports: reports(), got: got.into_inner() };
    Outcome { result, trace: acted.trace, state }
}

/// The same deed, undisturbed; not done; and ended by a panic when the loader is called, or when it goes on.
struct References {
    normal: Outcome,
    skipped: State,
    called: State,
    polled: State,
}

impl References {
    fn new(deed: Deed, key: u32, config: Config) -> Self {
        let state = |plan| outcome(deed, key, config, plan).state;
        let normal = outcome(deed, key, config, Plan::Obey);
        assert!(normal.result.is_ok());
        let (called, polled) = (state(Plan::PanicFirst(&[BeginLoad])), state(Plan::PanicFirst(&[PollLoad])));
        Self { normal, skipped: state(Plan::Skip), called, polled }
    }

    /// Asserts that `got` is what must be left when the first call to panic was number `n` of `trace`.
    fn check(&self, got: &State, trace: &[Call], n: usize) {
        let Self { normal, skipped, called, polled } = self;
        let is_begun = trace[..=n].iter().any(|call| call.is_of_load());
        let to_begin = !is_begun && normal.trace[n..].iter().any(|call| call.is_of_load());
        let before = if trace[..=n].contains(&PollLoad) {
            polled
        } else if is_begun {
            called
        } else {
            skipped
        };
        match trace[n] {
            // Nothing has changed, except that a load was begun, or found something that had expired.
            HashKey | BorrowKey | Compare | OwnKey | CloneKey | CloneValue | Predicate | Weigh | WeighAgain
            | ExpireAfter | Clock | BeginLoad | PollLoad | CloneWaker => {
                assert!(got == before || to_begin && got.met() == skipped.met(), "{got:?} and not {before:?}");
            }
            // The key that was made for the weigher and the like.
            DropKey if is_begun && n > 0 && [Weigh, ExpireAfter].contains(&trace[n - 1]) => assert_eq!(got, before),
            // Whether this is before or after the load is stored is not said.
            DropLoad if is_begun => assert!([before, &normal.state].contains(&got), "{got:?}"),
            // What was in the way of a load is gone; and it was not begun, or given up at once.
            Report | DropKey | DropValue if to_begin => {
                assert!(got.met() == skipped.met() || got == called, "{got:?}");
            }
            // If it is the waker that is replaced, whoever leaves for its panic was not there.
            DropWaker => assert!([skipped, &normal.state].contains(&got), "{got:?}"),
            DropLoad | Report | DropKey | DropValue | DropError | Wake => assert_eq!(*got, normal.state),
        }
    }
}

/// Says what was done when it goes wrong.
struct Context(String);

impl Drop for Context {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.0);
        }
    }
}

fn each(configs: impl IntoIterator<Item = Config>, mut body: impl FnMut(Deed, u32, Config)) {
    for config in configs {
        for deed in DEEDS {
            for &key in deed.keys(config) {
                let context = Context(format!("{} {key}, {config:?}", deed.name));
                // In case it aborts.
                println!("{}", context.0);
                body(deed, key, config);
            }
        }
    }
}

#[test]
fn wherever_foreign_code_panics_all_is_as_before_or_as_after() {
    common::survives("foreign_code::wherever_foreign_code_panics_all_is_as_before_or_as_after", || {
        let mut seen = BTreeSet::new();
        each(Config::all(), |deed, key, config| {
            let references = References::new(deed, key, config);
            let calls = &references.normal.trace;
            for (n, &call) in calls.iter().enumerate() {
                seen.insert(call);
                let _context = Context(format!("{call:?}, which is call {n} of {calls:?}"));
                let got = outcome(deed, key, config, Plan::PanicAt(n));
                assert_eq!(got.trace[..=n], calls[..=n], "it does the same every time");
                match call {
                    Wake if !deed.drops => assert_eq!(got.result, references.normal.result, "it has something in hand"),
                    DropWaker => assert!([Err(n), references.normal.result.clone()].contains(&got.result)),
                    _ => assert_eq!(got.result, Err(n), "the panic reaches the caller"),
                }
                if deed.races && call.is_before() && !calls[..=n].iter().any(|call| call.is_of_load()) {
                    let asked = |state: &State| state.stats.hits + state.stats.misses;
                    assert_eq!(asked(&got.state), asked(&references.skipped), "it was not counted");
                }
                if deed.is_whole(config, call) {
                    references.check(&got.state, calls, n);
                }
            }
        });
        assert_eq!(seen.len(), DropWaker as usize + 1, "only these were ever called: {seen:?}");
    });
}

/// What may all panic in one deed. The first panic goes on, and keeps nothing else from running.
const TOGETHER: [&[Call]; 10] = [
    &[DropKey],
    &[DropValue],
    &[DropKey, DropValue],
    &[Report, DropKey],
    &[Report, DropValue],
    &[Wake, DropValue],
    &[Wake, DropWaker],
    &[BeginLoad, PollLoad, DropKey, Wake, DropWaker],
    &[CloneValue, DropError, Wake],
    &[DropKey, DropValue, DropError, Report, Wake, DropWaker],
];

#[test]
fn what_panics_more_than_once_does_not_abort_and_the_first_panic_goes_on() {
    common::survives("foreign_code::what_panics_more_than_once_does_not_abort_and_the_first_panic_goes_on", || {
        let mut most = 0;
        each(Config::all(), |deed, key, config| {
            let references = References::new(deed, key, config);
            for calls in TOGETHER {
                let count = references.normal.trace.iter().filter(|call| calls.contains(call)).count();
                if count == 0 {
                    continue;
                }
                most = most.max(count);
                let _context = Context(format!("{calls:?} panic among {:?}", references.normal.trace));
                let got = outcome(deed, key, config, Plan::PanicEach(calls));
                let panics = |call: &Call| calls.contains(call);
                let first = got.trace.iter().position(panics).expect("the same up to there");
                let loud = got.trace.iter().position(|call| panics(call) && (deed.drops || !call.is_of_waker()));
                match got.result {
                    Ok(result) => {
                        assert_eq!(Ok(&result), references.normal.result.as_ref());
                        assert!(loud.is_none(), "the panic reaches the caller");
                    }
                    Err(n) => assert!(loud == Some(n) || n == first && got.trace[n] == DropWaker, "call {n}"),
                }
                let decisive = loud.unwrap_or(first);
                if deed.is_whole(config, got.trace[decisive]) {
                    references.check(&got.state, &got.trace, decisive);
                }
            }
        });
        assert!(most > 5, "{most}");
    });
}

#[test]
fn drops_that_panic_in_the_unwinding_of_a_panic_do_not_abort() {
    common::survives("foreign_code::drops_that_panic_in_the_unwinding_of_a_panic_do_not_abort", || {
        let (mut deepest, mut together) = (0, BTreeSet::new());
        each(Config::all(), |deed, key, config| {
            let references = References::new(deed, key, config);
            let calls = &references.normal.trace;
            for (n, &call) in calls.iter().enumerate() {
                let _context = Context(format!("{call:?}, which is call {n} of {calls:?}"));
                let got = outcome(deed, key, config, Plan::PanicFrom(n));
                let dropped: Vec<_> = got.trace[n + 1..].iter().copied().filter(|call| call.is_drop()).collect();
                deepest = deepest.max(dropped.len());
                together.extend(dropped.into_iter().map(|dropped| (call, dropped)));
                match got.result {
                    Err(first) if !call.is_of_waker() => assert_eq!(first, n, "the first panic goes on"),
                    Err(first) => assert!(first >= n, "what panicked comes out"),
                    Ok(_) => assert!(call.is_of_waker(), "the panic reaches the caller"),
                }
                // A drop that panics after the change may hide that a call before it did, but no change is half done.
                if deed.is_whole(config, call) && !call.is_of_waker() {
                    references.check(&got.state, &got.trace, n);
                }
            }
        });
        assert!(deepest > 5, "{deepest}");
        for pair in [(Compare, DropKey), (Compare, DropValue), (CloneValue, DropValue), (OwnKey, DropLoad)] {
            assert!(together.contains(&pair), "{pair:?} never met");
        }
    });
}

/// A load that is dropped while its thread panics.
#[test]
fn the_drop_of_a_load_in_an_unwinding_does_not_abort() {
    common::survives("foreign_code::the_drop_of_a_load_in_an_unwinding_does_not_abort", || {
        for config in Config::all() {
            for deed in DEEDS.iter().filter(|deed| deed.drops) {
                for &key in deed.keys(config) {
                    let _context = Context(format!("{} {key}, {config:?}", deed.name));
                    let normal = outcome(*deed, key, config, Plan::Obey);
                    let got =
                        outcome(*deed, key, config, Plan::Unwind(&[DropKey, DropValue, DropError, Wake, DropWaker]));
                    assert_eq!(got.state, normal.state);
                    assert_eq!(got.result, Err(usize::MAX), "the first panic is the one that goes on");
                }
            }
        }
    });
}

#[test]
fn a_cache_drops_all_that_it_keeps_though_one_panics() {
    for config in Config::all() {
        reset();
        let calls = 2 * config.filled().len();
        for n in 0..calls {
            let cache = config.filled();
            reports();
            // Another cache, since this one is gone by then.
            let (outcome, trace) = watched(Plan::PanicAt(n), &Config::FULL.empty(), || {
                catch_unwind(AssertUnwindSafe(|| drop(Arc::into_inner(cache))))
            });
            assert_eq!(outcome.unwrap_err().downcast_ref(), Some(&Blown(n)));
            assert_eq!((trace.len(), alive()), (calls, Alive::default()));
            assert_eq!(reports(), [], "it is not for want of room");
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Re-entering
// ---------------------------------------------------------------------------------------------------------------------

/// What may happen whenever foreign code runs outside the lock: anything.
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

/// What foreign code may do that the cache must be ready for.
const ACTS: [fn(&Cache); 7] = [
    // Nothing, but for asking for every lock.
    |cache| {
        let _ = (cache.capacity(), cache.stats());
    },
    use_everything,
    Cache::clear,
    |cache| cache.set_capacity(0),
    |cache| [1, 2, 50].into_iter().for_each(|id| drop(cache.remove(&Probe(id)))),
    |cache| [1, 2, 50].into_iter().for_each(|id| drop(cache.insert(Key::new(id), Value::new(500, 2)))),
    // More than there is room for.
    |cache| (0..40).for_each(|id| drop(cache.insert(Key::new(id), Value::new(500, 2)))),
];

#[test]
fn whatever_runs_outside_the_lock_may_use_the_cache() {
    for act in ACTS {
        ends(move || {
            each(Config::FEW, |deed, key, config| {
                let got = outcome(deed, key, config, Plan::Reenter(act));
                assert!(got.result.is_ok());
            });
        });
    }
}

/// A value that keeps caches alive, or uses another when it is dropped.
#[derive(Clone)]
enum Keeper {
    Nothing,
    Keeps { _kept: [Arc<Keepers>; 2] },
    Tells(Weak<Keepers>, Arc<AtomicUsize>),
}

type Keepers = LruCache<u32, Keeper>;

impl Drop for Keeper {
    fn drop(&mut self) {
        let Self::Tells(cache, drops) = self else { return };
        drops.fetch_add(1, Ordering::Relaxed);
        if let Some(cache) = cache.upgrade() {
            drop(cache.insert(7, Self::Nothing));
            drop((cache.get(&1), cache.remove(&7), cache.pop_lru()));
            cache.check();
        }
    }
}

#[test]
fn a_value_may_be_the_last_to_keep_another_cache_or_one_of_two_that_keep_its_own() {
    let ways: [fn(&Keepers); 6] = [
        Keepers::clear,
        |cache| drop(cache.remove(&1)),
        |cache| drop(cache.insert(1, Keeper::Nothing)),
        |cache| cache.set_capacity(0),
        |cache| cache.retain(|_, _| false),
        |cache| (2..9).for_each(|key| drop(cache.insert(key, Keeper::Nothing))),
    ];
    for way in ways {
        ends(move || {
            let (cache, neighbour) = (Arc::new(Keepers::new(4)), Arc::new(Keepers::new(4)));
            let weak = [&cache, &neighbour].map(Arc::downgrade);
            let drops = Arc::new(AtomicUsize::new(0));
            for key in 0..4 {
                drop(neighbour.insert(key, Keeper::Tells(weak[0].clone(), drops.clone())));
            }
            drop(cache.insert(1, Keeper::Keeps { _kept: [neighbour, cache.clone()] }));
            way(&cache);
            cache.check();
            assert!(weak[1].upgrade().is_none(), "it went with the value");
            assert_eq!(drops.load(Ordering::Relaxed), 4);
            drop(cache);
            assert!(weak[0].upgrade().is_none(), "nothing else keeps it");
        });
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Keys that do not know who they are
// ---------------------------------------------------------------------------------------------------------------------

/// How all keys hash and compare.
#[derive(Clone, Copy, Debug)]
enum Mood {
    /// As this says: another one is another key, as if each had changed while it was in the cache.
    Salt(u32),
    AllEqual,
    NoneEqual,
    SameHash,
    /// As it comes.
    Random,
}

thread_local! {
    static MOOD: Cell<Mood> = const { Cell::new(Mood::Salt(0)) };
    static DICE: RefCell<StdRng> = RefCell::new(StdRng::seed_from_u64(0));
}

fn roll(sides: u32) -> u32 {
    DICE.with_borrow_mut(|dice| dice.random_range(0..sides))
}

#[derive(Clone, Debug)]
struct Fickle {
    id: u32,
    _alive: Arc<()>,
}

impl Fickle {
    fn new(id: u32, alive: &Arc<()>) -> Self {
        Self { id, _alive: alive.clone() }
    }
}

impl Hash for Fickle {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u32(match MOOD.get() {
            Mood::Salt(salt) => self.id ^ salt,
            Mood::AllEqual | Mood::NoneEqual => self.id,
            Mood::SameHash => 0,
            Mood::Random => roll(3),
        });
    }
}

impl PartialEq for Fickle {
    fn eq(&self, other: &Self) -> bool {
        match MOOD.get() {
            Mood::Salt(_) | Mood::SameHash => self.id == other.id,
            Mood::AllEqual => true,
            Mood::NoneEqual => false,
            Mood::Random => roll(2) == 0,
        }
    }
}

impl Eq for Fickle {}

type Fickles = LruCache<Fickle, Fickle>;

/// Does anything, and begins and goes on with loads.
fn mess<'c>(cache: &'c Fickles, alive: &Arc<()>, loads: &mut Vec<Pin<Box<dyn Future<Output = Fickle> + 'c>>>) {
    let key = Fickle::new(roll(6), alive);
    match roll(16) {
        0..=2 => drop(cache.insert(key, Fickle::new(roll(4), alive))),
        3 => drop(cache.get(&key)),
        4 => drop((cache.peek(&key), cache.contains_key(&key))),
        5 => drop(cache.remove(&key)),
        6 => drop(cache.remove_entry(&key)),
        7 => drop(cache.pop_lru()),
        8 => cache.retain(|_, _| roll(3) > 0),
        9 => cache.set_capacity(roll(6) as usize),
        // It would wait for one that waits for the test.
        10 if loads.is_empty() => drop(cache.get_or_insert_with(&key, || Fickle::new(roll(4), alive))),
        11 => drop(cache.entries()),
        12 if roll(8) == 0 => cache.clear(),
        12..=13 => {
            let waits = roll(3);
            let alive = alive.clone();
            let loader = async move || {
                for _ in 0..waits {
                    yield_now().await;
                }
                Fickle::new(roll(4), &alive)
            };
            loads.push(Box::pin(async move { cache.get_or_load(&key, loader).await }));
        }
        _ if loads.is_empty() => {}
        14 => drop(loads.swap_remove(roll(loads.len() as u32) as usize)),
        _ => loads.retain_mut(|load| poll(load).is_pending()),
    }
}

#[test]
fn keys_that_change_their_hash_or_equality_corrupt_nothing_and_leave_nothing_behind() {
    ends(|| {
        for seed in 0..400 {
            DICE.set(StdRng::seed_from_u64(seed));
            let _context = Context(format!("seed {seed}"));
            let alive = Arc::new(());
            let mut builder = LruCache::builder(roll(6) as usize).shards(1 + (seed % 2) as usize * 2);
            if seed % 3 == 0 {
                // Nor do they know what they weigh, or what time it is.
                let base = Instant::now();
                builder = builder.weigher(|_: &Fickle, _: &Fickle| u64::from(roll(4)));
                let clock = move || base + Duration::from_secs(roll(10).into());
                builder = builder.time_to_live(Duration::from_secs(5)).clock(clock).on_evict(|_, _, _| {});
            }
            let cache: Fickles = builder.build();
            let mut loads = Vec::new();
            for _ in 0..300 {
                if roll(10) == 0 {
                    MOOD.set(match roll(6) {
                        0 => Mood::AllEqual,
                        1 => Mood::NoneEqual,
                        2 => Mood::SameHash,
                        3 => Mood::Random,
                        _ => Mood::Salt(roll(4)),
                    });
                }
                mess(&cache, &alive, &mut loads);
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
            // It serves honest keys as ever.
            MOOD.set(Mood::Salt(0));
            cache.set_capacity(100);
            let honest = |id| Fickle::new(id, &alive);
            if seed % 3 > 0 {
                (0..9).for_each(|id| drop(cache.insert(honest(id), honest(id))));
                assert!((0..9).all(|id| cache.get(&honest(id)).is_some_and(|value| value.id == id)));
            }
            cache.check();
        }
    });
}

#[test]
fn keys_that_all_equal_or_none_does_are_as_many_entries_as_they_say() {
    for (mood, len) in [(Mood::AllEqual, 1), (Mood::NoneEqual, 5)] {
        let cache = Fickles::new(5);
        let alive = Arc::new(());
        MOOD.set(mood);
        for id in 0..20 {
            drop(cache.insert(Fickle::new(7, &alive), Fickle::new(id, &alive)));
            cache.check();
        }
        assert_eq!((cache.len(), Arc::strong_count(&alive)), (len, 1 + 2 * len));
        let values = cache.entries().into_iter().map(|(_, value)| value.id).collect::<Vec<_>>();
        assert_eq!(values, (0..20).rev().take(len).collect::<Vec<_>>());
        let key = Fickle::new(7, &alive);
        assert_eq!(cache.get(&key).map(|value| value.id), if len == 1 { Some(19) } else { None });
        assert_eq!(cache.remove(&key).is_some(), len == 1);
        while cache.pop_lru().is_some() {}
        assert_eq!((cache.len(), Arc::strong_count(&alive)), (0, 2));
        cache.check();
    }
}

/// A key whose copies look, when they are dropped, whether the cache is locked: it shows less of itself then.
struct Curious {
    cache: Weak<LruCache<Curious, Touchy>>,
    drops: Arc<AtomicUsize>,
    drops_under_the_lock: Arc<AtomicUsize>,
}

impl Clone for Curious {
    fn clone(&self) -> Self {
        let Self { cache, drops, drops_under_the_lock } = self;
        Self { cache: cache.clone(), drops: drops.clone(), drops_under_the_lock: drops_under_the_lock.clone() }
    }
}

impl PartialEq for Curious {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Curious {}

impl Hash for Curious {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl Drop for Curious {
    fn drop(&mut self) {
        if let Some(cache) = self.cache.upgrade() {
            let locked = !format!("{cache:?}").contains("len");
            self.drops_under_the_lock.fetch_add(usize::from(locked), Ordering::SeqCst);
            self.drops.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// A value that cannot be copied.
struct Touchy;

impl Clone for Touchy {
    fn clone(&self) -> Self {
        panic!("the value is not copied");
    }
}

#[test]
fn half_a_copy_of_an_entry_is_not_dropped_under_the_lock() {
    let cache = Arc::new(LruCache::new(3));
    let (drops, under_the_lock) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let key =
        Curious { cache: Arc::downgrade(&cache), drops: drops.clone(), drops_under_the_lock: under_the_lock.clone() };
    cache.insert(key, Touchy);
    assert_eq!(common::panic_of(|| cache.entries()), "the value is not copied");
    assert_eq!((drops.load(Ordering::SeqCst), under_the_lock.load(Ordering::SeqCst)), (1, 0));
    assert_eq!(cache.len(), 1);
    cache.check();
}

/// What a loader brings along, and does not let go of.
struct Clinging;

impl Drop for Clinging {
    fn drop(&mut self) {
        if !thread::panicking() {
            panic!("the loader is not dropped");
        }
    }
}

#[test]
fn a_loader_that_is_not_needed_and_panics_when_dropped_costs_no_value() {
    let cache = LruCache::<u32, Arc<()>>::new(3);
    let value = Arc::new(());
    cache.insert(1, value.clone());
    let message = "the loader is not dropped";
    let unneeded = |clinging: Clinging| {
        move || -> Arc<()> {
            let _clinging = clinging;
            unreachable!("it is there")
        }
    };
    assert_eq!(common::panic_of(|| cache.get_or_insert_with(&1, unneeded(Clinging))), message);
    assert_eq!(Arc::strong_count(&value), 2, "a hit");
    let load = |clinging| {
        let load = unneeded(clinging);
        cache.get_or_load(&1, move || std::future::ready(load()))
    };
    assert_eq!(common::panic_of(|| poll(&mut Box::pin(load(Clinging)))), message);
    assert_eq!(Arc::strong_count(&value), 2, "an asynchronous hit");

    cache.clear();
    let mut leader = Box::pin(cache.get_or_load(&1, || async {
        yield_now().await;
        value.clone()
    }));
    assert!(poll(&mut leader).is_pending());
    let mut waiter = Box::pin(load(Clinging));
    assert!(poll(&mut waiter).is_pending());
    assert!(poll(&mut leader).is_ready());
    assert_eq!(common::panic_of(|| poll(&mut waiter)), message);
    drop((waiter, leader));
    assert_eq!(Arc::strong_count(&value), 2, "what somebody else has loaded");
    assert_eq!(cache.flights(), 0);
    cache.check();
}

#[test]
fn a_predicate_that_panics_after_a_drop_did_ends_retain_with_the_first_panic() {
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
    let message = common::panic_of(|| {
        cache.retain(|&key, _| {
            assert_eq!(key, in_first_shard, "the predicate");
            false
        });
    });
    assert!(message.contains("the drop"), "{message}");
    assert_eq!(cache.len(), 1, "nothing left the other shard");
}

#[test]
fn a_listener_that_panics_in_an_unwinding_costs_no_value() {
    struct Inserts<'a>(&'a LruCache<u32, &'static str>, &'a Cell<Option<&'static str>>);
    impl Drop for Inserts<'_> {
        fn drop(&mut self) {
            self.1.set(self.0.insert(3, "heavy"));
        }
    }
    common::survives("foreign_code::a_listener_that_panics_in_an_unwinding_costs_no_value", || {
        let builder = LruCache::builder(10).weigher(|_, &value| if value == "heavy" { 8 } else { 4 });
        let cache = builder.on_evict(|_, _, _| panic!("the listener")).build();
        cache.insert(2, "evicted");
        cache.insert(3, "old");
        let replaced = Cell::new(None);
        let message = common::panic_of(|| {
            let _inserts = Inserts(&cache, &replaced);
            panic!("the first");
        });
        assert_eq!(message, "the first");
        assert_eq!(replaced.get(), Some("old"));
    });
}
