//! One load for all who ask for a key at the same time: who leads, who waits, and what each of them gets.

use std::borrow::Borrow;
use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::{Future, Ready, poll_fn};
use std::hash::{BuildHasherDefault, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex as StdMutex, mpsc};
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use stanchion::{LruCache, blocking};

use crate::Cache;
use crate::common::hostile::Hostile;
use crate::common::{Check, Clock, Counted, Gauge, Log, Task, panic_of, poll, poll_with, ready, until, yield_now};

/// What everybody asks for.
const KEY: u32 = 7;

/// What a loader comes to, when a test says so.
#[derive(Clone, Copy, Debug)]
enum End {
    Value(u32),
    Error(u32),
    Panic,
}

/// A loader in the hands of a test.
#[derive(Clone, Default)]
struct Load(Arc<StdMutex<Loading>>);

#[derive(Default)]
struct Loading {
    has_begun: bool,
    panics_at_call: bool,
    end: Option<End>,
    waker: Option<Waker>,
}

impl Load {
    /// The loader: its call, and its future.
    fn begin(&self) -> impl Future<Output = Result<u32, u32>> + Send + use<> {
        let mut loading = self.0.lock().unwrap();
        assert!(!std::mem::replace(&mut loading.has_begun, true), "a loader is called once");
        let panics = loading.panics_at_call;
        drop(loading);
        assert!(!panics, "the call panics");
        let loading = self.0.clone();
        poll_fn(move |context| {
            let mut loading = loading.lock().unwrap();
            loading.waker = Some(context.waker().clone());
            let end = loading.end;
            drop(loading);
            match end {
                None => Poll::Pending,
                Some(End::Value(value)) => Poll::Ready(Ok(value)),
                Some(End::Error(error)) => Poll::Ready(Err(error)),
                Some(End::Panic) => panic!("the load panics"),
            }
        })
    }

    fn has_begun(&self) -> bool {
        self.0.lock().unwrap().has_begun
    }

    fn end(&self, end: End) {
        let waker = {
            let mut loading = self.0.lock().unwrap();
            loading.end = Some(end);
            loading.waker.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }
}

/// How a caller's loader may fail: not at all, or in one of two colours.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fails {
    Never,
    Red,
    Blue,
}

#[derive(Debug, PartialEq)]
struct Red(u32);

#[derive(Debug, PartialEq)]
struct Blue(u32);

/// What a caller got.
#[derive(Clone, Debug, PartialEq)]
enum Got {
    Value(u32),
    Red(Arc<Red>),
    Blue(Arc<Blue>),
}

impl Got {
    /// Whether it is the very same, not only equal.
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Got::Value(one), Got::Value(other)) => one == other,
            (Got::Red(one), Got::Red(other)) => Arc::ptr_eq(one, other),
            (Got::Blue(one), Got::Blue(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

/// Somebody who asks for [`KEY`].
struct Caller<'c> {
    task: Task<Pin<Box<dyn Future<Output = Got> + Send + 'c>>>,
    load: Load,
}

impl<'c> Caller<'c> {
    /// Polls nothing yet.
    fn new(cache: &'c Cache, fails: Fails) -> Self {
        let load = Load::default();
        let loader = load.clone();
        let future: Pin<Box<dyn Future<Output = Got> + Send + 'c>> = match fails {
            Fails::Never => Box::pin(async move {
                let begin = || {
                    let load = loader.begin();
                    async { load.await.expect("it never fails") }
                };
                Got::Value(cache.get_or_load(&KEY, begin).await)
            }),
            Fails::Red => Box::pin(async move {
                let begin = || {
                    let load = loader.begin();
                    async { load.await.map_err(Red) }
                };
                cache.try_get_or_load(&KEY, begin).await.map_or_else(Got::Red, Got::Value)
            }),
            Fails::Blue => Box::pin(async move {
                let begin = || {
                    let load = loader.begin();
                    async { load.await.map_err(Blue) }
                };
                cache.try_get_or_load(&KEY, begin).await.map_or_else(Got::Blue, Got::Value)
            }),
        };
        Self { task: Task::new(future), load }
    }

    /// Polls once: it leads.
    #[track_caller]
    fn leading(cache: &'c Cache, fails: Fails) -> Self {
        let mut caller = Self::new(cache, fails);
        caller.takes_the_lead();
        caller
    }

    /// Polls once: it waits for another's load.
    #[track_caller]
    fn waiting(cache: &'c Cache, fails: Fails) -> Self {
        let mut caller = Self::new(cache, fails);
        caller.waits();
        caller
    }

    fn leads(&self) -> bool {
        self.load.has_begun()
    }

    fn wakes(&self) -> usize {
        self.task.wakes()
    }

    /// Polls, with which its load begins and does not end.
    #[track_caller]
    fn takes_the_lead(&mut self) {
        assert!(!self.leads());
        assert!(self.task.is_pending() && self.leads(), "it should load");
    }

    /// Polls, and it waits for another's load.
    #[track_caller]
    fn waits(&mut self) {
        assert!(self.task.is_pending() && !self.leads(), "it should wait");
    }

    #[track_caller]
    fn got(&mut self) -> Got {
        self.task.ready()
    }

    /// The value of a caller that was woken, and has loaded nothing.
    #[track_caller]
    fn served(&mut self) -> Got {
        assert!(self.wakes() > 0, "nobody told it");
        let got = self.got();
        assert!(!self.leads(), "it loaded");
        got
    }

    /// Ends its load, with which it ends.
    #[track_caller]
    fn ends(&mut self, end: End) -> Got {
        self.load.end(end);
        self.got()
    }

    /// Ends its load, with which it panics.
    #[track_caller]
    fn panics(mut self) {
        self.load.end(End::Panic);
        assert_eq!(panic_of(|| self.task.poll()), "the load panics");
    }
}

/// Leads with the first of these, and has the rest wait.
#[track_caller]
fn line<'c>(cache: &'c Cache, fails: impl IntoIterator<Item = Fails>) -> Vec<Caller<'c>> {
    let mut fails = fails.into_iter();
    let mut callers = vec![Caller::leading(cache, fails.next().expect("somebody leads"))];
    callers.extend(fails.map(|fails| Caller::waiting(cache, fails)));
    in_flight(cache, 1);
    callers
}

/// A line of so many that never fail.
#[track_caller]
fn line_of<'c, const N: usize>(cache: &'c Cache) -> [Caller<'c>; N] {
    line(cache, [Fails::Never; N]).try_into().ok().expect("so many")
}

#[track_caller]
fn assert_wakes<'a, 'c: 'a>(callers: impl IntoIterator<Item = &'a Caller<'c>>, wanted: &[usize]) {
    assert_eq!(callers.into_iter().map(Caller::wakes).collect::<Vec<_>>(), wanted);
}

/// Checks the invariants, and how many flights there are, in builds that can.
#[track_caller]
fn in_flight<K, V, S>(cache: &LruCache<K, V, S>, wanted: usize) {
    cache.check();
    assert_eq!(cache.flights(), wanted, "flights");
    let _ = wanted;
}

/// Hits, misses, loads, load failures, and insertions.
fn counts(cache: &Cache) -> [u64; 5] {
    let stats = cache.stats();
    [stats.hits, stats.misses, stats.loads, stats.load_failures, stats.insertions]
}

/// Asserts that this is what is kept under [`KEY`], and nothing else.
#[track_caller]
fn kept(cache: &Cache, value: Option<u32>) {
    assert_eq!((cache.peek(&KEY), cache.len()), (value, usize::from(value.is_some())));
}

// ---------------------------------------------------------------------------------------------------------------------
// One load
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn a_thousand_askers_share_one_load() {
    let cache = Cache::new(10);
    let mut callers = line(&cache, [Fails::Never; 1_000]);
    assert_eq!(counts(&cache), [0, 1_000, 1, 0, 0]);
    kept(&cache, None);
    assert_eq!((cache.get(&KEY), cache.contains_key(&KEY)), (None, false), "it is not there yet");
    assert!(callers.iter().all(|caller| caller.wakes() == 0));
    assert_eq!(callers[0].ends(End::Value(5)), Got::Value(5));
    assert!(callers.iter().skip(1).all(|caller| caller.wakes() == 1), "each is woken once");
    kept(&cache, Some(5));
    in_flight(&cache, 1);
    // In whatever order they run.
    callers.rotate_left(400);
    for caller in callers.iter_mut().filter(|caller| !caller.leads()) {
        in_flight(&cache, 1);
        assert_eq!(caller.served(), Got::Value(5));
    }
    in_flight(&cache, 0);
    assert_eq!(counts(&cache), [0, 1_001, 1, 0, 1]);
    let mut late = Caller::new(&cache, Fails::Red);
    assert_eq!((late.got(), late.leads()), (Got::Value(5), false));
    assert_eq!(counts(&cache), [1, 1_001, 1, 0, 1]);
}

#[test]
fn threads_share_one_initialiser() {
    const THREADS: usize = 100;
    let cache = Cache::new(10);
    let calls = AtomicUsize::new(0);
    let initialiser = || {
        calls.fetch_add(1, Ordering::SeqCst);
        until(|| cache.stats().misses == THREADS as u64);
        5
    };
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (cache, initialiser) = (&cache, &initialiser);
            scope.spawn(move || match number % 4 {
                0 => assert_eq!(cache.get_or_insert_with(&KEY, initialiser), 5),
                1 => assert_eq!(cache.try_get_or_insert_with(&KEY, || Ok::<_, Red>(initialiser())), Ok(5)),
                2 => assert_eq!(blocking::wait(cache.get_or_load(&KEY, || async { initialiser() })), 5),
                _ => {
                    let load = cache.try_get_or_load(&KEY, || async { Ok::<_, Blue>(initialiser()) });
                    assert_eq!(blocking::wait(load), Ok(5));
                }
            });
        }
    });
    in_flight(&cache, 0);
    assert_eq!((calls.into_inner(), counts(&cache)), (1, [0, THREADS as u64, 1, 0, 1]));
}

#[test]
fn each_key_has_a_load_of_its_own() {
    let cache = Cache::new(10);
    let [ours, mut waiting] = line_of(&cache);
    let load = Load::default();
    let mut other = Box::pin(cache.try_get_or_load(&1, || load.begin()));
    assert!(poll(&mut other).is_pending() && load.has_begun());
    in_flight(&cache, 2);
    load.end(End::Value(10));
    assert_eq!(ready(&mut other), Ok(10));
    in_flight(&cache, 1);
    waiting.waits();
    drop((ours, waiting));
    in_flight(&cache, 0);
    assert_eq!(cache.entries(), [(1, 10)]);
}

/// Finds the same hash for every key.
#[derive(Clone, Default)]
struct Same;

impl Hasher for Same {
    fn write(&mut self, _: &[u8]) {}

    fn finish(&self) -> u64 {
        7
    }
}

#[test]
fn keys_of_the_same_hash_have_loads_of_their_own() {
    const KEYS: usize = 4;
    for first in 0..KEYS {
        let cache = LruCache::<usize, u32, _>::with_hasher(10, BuildHasherDefault::<Same>::default());
        let loads = [(); KEYS].map(|()| Load::default());
        let ask = |key: usize| {
            let (cache, load) = (&cache, &loads[key]);
            Task::waiting(Box::pin(async move { cache.try_get_or_load(&key, || load.begin()).await.unwrap() }))
        };
        let mut lines: Vec<_> = (0..KEYS).map(|key| [ask(key), ask(key)]).collect();
        in_flight(&cache, KEYS);
        assert!(loads.iter().all(Load::has_begun));
        for ended in 0..KEYS {
            let key = (first + ended) % KEYS;
            loads[key].end(End::Value(key as u32));
            assert_eq!([lines[key][0].ready(), lines[key][1].ready()], [key as u32; 2]);
            in_flight(&cache, KEYS - ended - 1);
        }
    }
}

#[test]
fn a_load_that_is_not_polled_does_nothing() {
    let cache = Cache::new(10);
    let call = || -> Ready<u32> { panic!("nobody asked for it") };
    drop(cache.get_or_load(&KEY, call));
    let unpolled = cache.try_get_or_load(&KEY, || -> Ready<Result<u32, Red>> { panic!("nobody asked for it") });
    in_flight(&cache, 0);
    assert_eq!(counts(&cache), [0; 5]);
    drop(unpolled);
    in_flight(&cache, 0);
    assert_eq!(counts(&cache), [0; 5]);
}

#[test]
fn a_waiter_is_woken_by_the_waker_of_its_last_poll() {
    let cache = Cache::new(10);
    let [mut leader, mut waiter, mut steady] = line_of(&cache);
    let log = Arc::new(Log::default());
    let dropped = Arc::new(AtomicUsize::new(0));
    let count = dropped.clone();
    let hostile = Hostile::new().on_drop(move || _ = count.fetch_add(1, Ordering::SeqCst)).waker();
    assert!(poll_with(waiter.task.future_mut(), &hostile).is_pending());
    drop(hostile);
    let held = dropped.load(Ordering::SeqCst);
    for entry in [1, 2, 3] {
        assert!(poll_with(waiter.task.future_mut(), &log.waker(entry)).is_pending());
    }
    assert_eq!(dropped.load(Ordering::SeqCst), held + 1, "what is replaced is dropped");
    steady.waits();
    assert_eq!(leader.ends(End::Value(5)), Got::Value(5));
    assert_eq!((log.take(), waiter.wakes(), steady.wakes()), (vec![3], 0, 1));
    assert_eq!([waiter.got(), steady.got()], [Got::Value(5), Got::Value(5)]);
    in_flight(&cache, 0);
}

#[test]
fn a_waiter_who_leaves_is_woken_for_nothing() {
    let cache = Cache::new(10);
    for before in [true, false] {
        let [mut leader, one, mut other, last] = line_of(&cache);
        let (mut one, mut last) = (Some(one), Some(last));
        if before {
            (one, last) = (None, None);
        }
        in_flight(&cache, 1);
        assert_eq!(leader.ends(End::Value(5)), Got::Value(5));
        in_flight(&cache, 1);
        drop((one, last));
        assert_eq!((other.wakes(), other.served()), (1, Got::Value(5)));
        in_flight(&cache, 0);
        assert_eq!(cache.remove(&KEY), Some(5));
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Leaders who leave
// ---------------------------------------------------------------------------------------------------------------------

/// How a leader may leave without having come to anything.
#[derive(Clone, Copy, Debug)]
enum Leaves {
    /// Chosen, it goes before it has begun.
    Unbegun,
    /// It is dropped after so many polls of its load.
    Dropped(usize),
    PanicsAtCall,
    /// It panics after so many polls of its load.
    Panics(usize),
}

const WAYS_TO_LEAVE: [Leaves; 7] = [
    Leaves::Unbegun,
    Leaves::Dropped(1),
    Leaves::Dropped(2),
    Leaves::Dropped(5),
    Leaves::PanicsAtCall,
    Leaves::Panics(0),
    Leaves::Panics(3),
];

impl Leaves {
    /// How many loads it has begun.
    fn loads(self) -> u64 {
        u64::from(!matches!(self, Leaves::Unbegun))
    }

    /// Has somebody go who leads, or is to lead, and has not begun.
    fn go(self, mut caller: Caller<'_>) {
        let polls = match self {
            Leaves::Unbegun => 0,
            Leaves::Dropped(polls) | Leaves::Panics(polls) => polls,
            Leaves::PanicsAtCall => {
                caller.load.0.lock().unwrap().panics_at_call = true;
                assert_eq!(panic_of(|| caller.task.poll()), "the call panics");
                return;
            }
        };
        for _ in 0..polls {
            assert!(caller.task.is_pending() && caller.leads());
        }
        if matches!(self, Leaves::Panics(_)) {
            caller.panics();
        }
    }
}

#[test]
fn the_longest_waiting_takes_over_from_whoever_leaves() {
    for way in WAYS_TO_LEAVE {
        let cache = Cache::new(10);
        let mut callers: Vec<_> = (0..5).map(|_| Caller::new(&cache, Fails::Never)).collect();
        callers[0].takes_the_lead();
        callers.iter_mut().skip(1).for_each(Caller::waits);
        drop(callers.remove(0));
        for left in (1..=3).rev() {
            in_flight(&cache, 1);
            assert_wakes(&callers, &[&[1], &*vec![0; left]].concat());
            // Only who was chosen may begin.
            callers.iter_mut().skip(1).for_each(Caller::waits);
            let loads = cache.stats().loads;
            way.go(callers.remove(0));
            assert_eq!(cache.stats().loads, loads + way.loads(), "{way:?}");
        }
        assert_wakes(&callers, &[1]);
        callers[0].takes_the_lead();
        assert_eq!(callers[0].ends(End::Value(9)), Got::Value(9), "{way:?}");
        in_flight(&cache, 0);
        kept(&cache, Some(9));
        assert_eq!(counts(&cache), [0, 5, 2 + 3 * way.loads(), 0, 1], "{way:?}");
    }
}

#[test]
fn a_flight_that_everybody_left_is_gone() {
    for way in WAYS_TO_LEAVE {
        for waiters in 0..3 {
            let cache = Cache::new(10);
            let mut callers: Vec<_> = (0..=waiters).map(|_| Caller::new(&cache, Fails::Red)).collect();
            let first = callers.remove(0);
            if waiters == 0 {
                way.go(first);
            } else {
                let mut first = first;
                first.takes_the_lead();
                callers.iter_mut().for_each(Caller::waits);
                drop(first);
                callers.into_iter().for_each(|caller| way.go(caller));
            }
            in_flight(&cache, 0);
            kept(&cache, None);
            let mut next = Caller::leading(&cache, Fails::Never);
            assert_eq!(next.ends(End::Value(9)), Got::Value(9));
            in_flight(&cache, 0);
        }
    }
}

#[test]
fn callers_may_leave_in_any_order() {
    const ORDERS: [[usize; 4]; 8] = [
        [0, 1, 2, 3],
        [3, 2, 1, 0],
        [1, 0, 2, 3],
        [2, 0, 1, 3],
        [0, 2, 1, 3],
        [0, 3, 2, 1],
        [1, 2, 3, 0],
        [3, 0, 1, 2],
    ];
    for begins in [false, true] {
        for order in ORDERS {
            let cache = Cache::new(10);
            let mut callers: Vec<_> = line(&cache, [Fails::Never; 4]).into_iter().map(Some).collect();
            for leaving in order {
                in_flight(&cache, 1);
                callers[leaving] = None;
                // The first who is left leads, or has been told to.
                let mut left =
                    callers.iter_mut().enumerate().filter_map(|(place, caller)| Some((place, caller.as_mut()?)));
                if let Some((place, first)) = left.next() {
                    assert_eq!(first.wakes(), usize::from(place > 0), "{order:?}");
                    if begins && place > 0 && !first.leads() {
                        first.takes_the_lead();
                    }
                }
                left.for_each(|(_, caller)| {
                    assert_eq!(caller.wakes(), 0, "{order:?}");
                    caller.waits();
                });
            }
            in_flight(&cache, 0);
        }
    }
}

#[test]
fn a_newcomer_to_a_leaderless_flight_waits_behind_the_others() {
    let cache = Cache::new(10);
    let [leader, mut chosen, other] = line_of(&cache);
    drop(leader);
    let mut newcomer = Caller::waiting(&cache, Fails::Never);
    in_flight(&cache, 1);
    chosen.takes_the_lead();
    drop(chosen);
    assert_wakes([&other, &newcomer], &[1, 0]);
    drop(other);
    assert_wakes([&newcomer], &[1]);
    newcomer.takes_the_lead();
    let mut last = Caller::waiting(&cache, Fails::Never);
    assert_eq!(newcomer.ends(End::Value(3)), Got::Value(3));
    assert_eq!(last.served(), Got::Value(3));
    in_flight(&cache, 0);
    assert_eq!(counts(&cache), [0, 5, 3, 0, 1]);
}

#[test]
fn there_is_no_limit_to_takeovers() {
    let cache = Cache::new(10);
    let mut callers = line(&cache, [Fails::Never; 500]);
    for _ in 1..500 {
        drop(callers.remove(0));
        callers[0].takes_the_lead();
    }
    assert_eq!(callers[0].ends(End::Value(5)), Got::Value(5));
    assert_eq!(counts(&cache), [0, 500, 500, 0, 1]);
    in_flight(&cache, 0);
}

#[test]
fn a_leader_that_is_forgotten_is_got_past() {
    let cache = Cache::new(10);
    let [leader, mut waiter] = line_of(&cache);
    std::mem::forget(leader);
    waiter.waits();
    assert_eq!(cache.insert(KEY, 3), None);
    assert_eq!(waiter.served(), Got::Value(3));
    cache.clear();
    std::mem::forget(Caller::leading(&cache, Fails::Never));
    let stuck = Caller::waiting(&cache, Fails::Never);
    cache.remove(&KEY);
    let mut next = Caller::leading(&cache, Fails::Never);
    assert_eq!(next.ends(End::Value(4)), Got::Value(4));
    kept(&cache, Some(4));
    assert_eq!(stuck.wakes(), 0);
    in_flight(&cache, 2);
}

// ---------------------------------------------------------------------------------------------------------------------
// Failures
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn a_failure_goes_to_everybody_who_waits_and_is_not_kept() {
    let cache = Cache::new(10);
    let mut callers = line(&cache, [Fails::Red; 5]);
    drop(callers.remove(2));
    let failure = callers[0].ends(End::Error(3));
    assert_eq!(failure, Got::Red(Arc::new(Red(3))));
    assert_wakes(callers.iter().skip(1), &[1, 1, 1]);
    in_flight(&cache, 1);
    // Who comes before they have run has no part in it.
    let mut newcomer = Caller::leading(&cache, Fails::Red);
    in_flight(&cache, 2);
    drop(callers.pop());
    for caller in callers.iter_mut().skip(1) {
        assert!(caller.served().is(&failure), "it is the same");
    }
    in_flight(&cache, 1);
    assert!(!newcomer.ends(End::Error(3)).is(&failure));
    in_flight(&cache, 0);
    kept(&cache, None);
    assert_eq!(counts(&cache), [0, 6, 2, 2, 0]);
    drop((callers, newcomer));
    let Got::Red(failure) = failure else { unreachable!() };
    assert_eq!(Arc::into_inner(failure), Some(Red(3)), "nobody keeps it");
}

#[test]
fn who_cannot_take_a_failure_loads_in_turn() {
    use Fails::{Blue as B, Never, Red as R};
    let cache = Cache::new(10);
    let mut callers = line(&cache, [R, B, Never, R, B, R, Never]);
    let red = callers[0].ends(End::Error(1));
    assert_wakes(&callers[1..], &[1, 0, 1, 0, 1, 0]);
    in_flight(&cache, 1);
    for other in [2, 4, 6] {
        callers[other].waits();
    }
    assert!(callers[3].served().is(&red));
    callers[1].takes_the_lead();
    let mut newcomer = Caller::waiting(&cache, R);
    let blue = callers[1].ends(End::Error(2));
    assert_eq!(blue, Got::Blue(Arc::new(Blue(2))));
    assert_wakes([&callers[2], &callers[4], &callers[6], &newcomer], &[1, 1, 0, 0]);
    callers[2].takes_the_lead();
    assert_eq!(callers[2].ends(End::Value(3)), Got::Value(3));
    kept(&cache, Some(3));
    assert_wakes([&callers[6], &newcomer], &[1, 1]);
    assert_eq!([callers[6].served(), newcomer.served()], [Got::Value(3), Got::Value(3)]);
    // The failures that they were told of are theirs, whatever came later.
    in_flight(&cache, 1);
    assert!(callers[4].served().is(&blue));
    in_flight(&cache, 1);
    assert!(callers[5].served().is(&red));
    in_flight(&cache, 0);
    assert_eq!(counts(&cache), [0, 8, 3, 2, 1]);
}

#[test]
fn who_has_been_told_of_a_failure_is_not_chosen() {
    let cache = Cache::new(10);
    let mut callers = line(&cache, [Fails::Red, Fails::Red, Fails::Blue, Fails::Red, Fails::Never]);
    let red = callers[0].ends(End::Error(1));
    assert_wakes(&callers[1..], &[1, 1, 1, 0]);
    drop(callers.remove(2));
    assert_wakes(&callers[1..], &[1, 1, 1]);
    drop(callers.pop());
    in_flight(&cache, 1);
    // Nobody is left who could lead.
    let mut newcomer = Caller::leading(&cache, Fails::Never);
    in_flight(&cache, 2);
    for told in &mut callers[1..] {
        assert!(told.served().is(&red));
    }
    in_flight(&cache, 1);
    assert_eq!(newcomer.ends(End::Value(4)), Got::Value(4));
    in_flight(&cache, 0);
    assert_eq!(counts(&cache), [0, 6, 2, 1, 1]);
}

#[test]
fn who_leads_after_a_failure_may_leave_too() {
    let cache = Cache::new(10);
    let mut callers = line(&cache, [Fails::Red, Fails::Blue, Fails::Red, Fails::Never, Fails::Blue]);
    let red = callers[0].ends(End::Error(1));
    callers[1].takes_the_lead();
    callers.remove(1).panics();
    assert_wakes(&callers[1..], &[1, 1, 0]);
    let mut next = callers.remove(2);
    next.takes_the_lead();
    drop(next);
    assert_wakes(&callers[1..], &[1, 1]);
    callers[2].takes_the_lead();
    assert_eq!(callers[2].ends(End::Value(6)), Got::Value(6));
    assert!(callers[1].served().is(&red));
    in_flight(&cache, 0);
    assert_eq!(counts(&cache), [0, 5, 4, 1, 1]);
}

#[test]
fn a_failure_is_the_same_one_for_threads() {
    const THREADS: usize = 8;
    let cache = Cache::new(10);
    let ask = || {
        let fails = || {
            until(|| cache.stats().misses == THREADS as u64);
            Err(Red(1))
        };
        cache.try_get_or_insert_with(&KEY, fails).expect_err("it fails")
    };
    let failures: Vec<Arc<Red>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(failures.iter().all(|failure| Arc::ptr_eq(failure, &failures[0])));
    assert_eq!(Arc::strong_count(&failures[0]), THREADS);
    in_flight(&cache, 0);
    assert_eq!(counts(&cache), [0, THREADS as u64, 1, 1, 0]);
}

#[test]
fn threads_that_cannot_take_a_failure_load_one_after_the_other() {
    let cache = Cache::new(10);
    let mut leader = Caller::leading(&cache, Fails::Red);
    let inside = AtomicUsize::new(0);
    let load = || {
        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "one at a time");
        thread::yield_now();
        inside.fetch_sub(1, Ordering::SeqCst);
    };
    thread::scope(|scope| {
        let blue = scope.spawn(|| {
            cache.try_get_or_insert_with(&KEY, || {
                load();
                Err(Blue(2))
            })
        });
        until(|| cache.stats().misses == 2);
        let red = scope.spawn(|| cache.try_get_or_insert_with(&KEY, || Err(Red(3))));
        until(|| cache.stats().misses == 3);
        let value = scope.spawn(|| {
            cache.get_or_insert_with(&KEY, || {
                load();
                4
            })
        });
        until(|| cache.stats().misses == 4);
        assert_eq!(leader.ends(End::Error(1)), Got::Red(Arc::new(Red(1))));
        assert_eq!(red.join().unwrap(), Err(Arc::new(Red(1))));
        assert_eq!(blue.join().unwrap(), Err(Arc::new(Blue(2))));
        assert_eq!(value.join().unwrap(), 4);
    });
    in_flight(&cache, 0);
    assert_eq!(counts(&cache), [0, 4, 3, 2, 1]);
}

// ---------------------------------------------------------------------------------------------------------------------
// What happens to the cache during a load
// ---------------------------------------------------------------------------------------------------------------------

type Step = (&'static str, fn(&Cache));

/// What makes a load stale.
const INVALIDATIONS: [Step; 4] = [
    ("remove", |cache| assert_eq!(cache.remove(&KEY), None)),
    ("remove_entry", |cache| assert_eq!(cache.remove_entry(&KEY), None)),
    ("clear", LruCache::clear),
    ("retain", |cache| cache.retain(|_, _| true)),
];

/// What has nothing to do with one.
const OTHERS: [Step; 11] = [
    ("remove_if", |cache| assert_eq!(cache.remove_if(&KEY, |_, _| true), None)),
    ("update", |cache| assert_eq!(cache.update(&KEY, |value| *value += 1), None)),
    ("for_each", |cache| cache.for_each(|_, _| unreachable!("it is empty"))),
    ("pop_lru", |cache| assert_eq!(cache.pop_lru(), None)),
    ("set_capacity", |cache| {
        cache.set_capacity(0);
        cache.set_capacity(1);
    }),
    ("an eviction", |cache| {
        (100..120).for_each(|key| _ = cache.insert(key, 1));
        (100..120).for_each(|key| _ = cache.remove(&key));
    }),
    ("get", |cache| assert_eq!((cache.get(&KEY), cache.peek(&KEY), cache.contains_key(&KEY)), (None, None, false))),
    ("entries", |cache| assert_eq!(cache.entries(), [])),
    ("another key's insert", |cache| {
        cache.insert(8, 8);
        cache.remove(&8);
    }),
    ("another key's remove", |cache| assert_eq!((cache.remove(&8), cache.remove_entry(&9)), (None, None))),
    ("another key's load", |cache| {
        assert_eq!(cache.get_or_insert_with(&8, || 8), 8);
        cache.remove(&8);
    }),
];

#[test]
fn what_others_do_to_the_cache_during_a_load_does_not_matter() {
    for (name, step) in OTHERS {
        let cache = Cache::new(10);
        let [mut leader, mut waiter] = line_of(&cache);
        step(&cache);
        in_flight(&cache, 1);
        let mut newcomer = Caller::waiting(&cache, Fails::Never);
        assert_wakes([&waiter, &newcomer], &[0, 0]);
        assert_eq!(leader.ends(End::Value(5)), Got::Value(5), "{name}");
        kept(&cache, Some(5));
        assert_eq!([waiter.served(), newcomer.served()], [Got::Value(5), Got::Value(5)], "{name}");
        in_flight(&cache, 0);
    }
}

#[test]
fn nothing_but_an_insert_matters_before_a_load_has_begun() {
    for (name, step) in OTHERS.into_iter().chain(INVALIDATIONS) {
        let cache = Cache::new(10);
        let [leader, mut chosen, mut other] = line_of(&cache);
        drop(leader);
        step(&cache);
        in_flight(&cache, 1);
        let mut newcomer = Caller::waiting(&cache, Fails::Never);
        assert_wakes([&chosen, &other, &newcomer], &[1, 0, 0]);
        chosen.takes_the_lead();
        assert_eq!(chosen.ends(End::Value(5)), Got::Value(5), "{name}");
        kept(&cache, Some(5));
        assert_eq!([other.served(), newcomer.served()], [Got::Value(5), Got::Value(5)], "{name}");
        in_flight(&cache, 0);
    }
}

/// What becomes of the leader of a stale load.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stale {
    Value,
    Fails,
    Leaves(Leaves),
}

impl PartialEq for Leaves {
    fn eq(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

const STALE: [Stale; 4] =
    [Stale::Value, Stale::Fails, Stale::Leaves(Leaves::Dropped(1)), Stale::Leaves(Leaves::Panics(1))];

impl Stale {
    /// Ends a leader; what its waiters get, if they get anything.
    fn ends(self, mut leader: Caller<'_>) -> Option<Got> {
        match self {
            Stale::Value => Some(leader.ends(End::Value(1))),
            Stale::Fails => Some(leader.ends(End::Error(1))),
            Stale::Leaves(way) => {
                way.go(leader);
                None
            }
        }
    }
}

#[test]
fn what_was_invalidated_during_its_load_is_not_stored_and_disturbs_no_later_load() {
    for (name, invalidate) in INVALIDATIONS {
        for stale in STALE {
            for first in [true, false] {
                let context = format!("{name}, {stale:?}, the stale one ends first: {first}");
                let cache = Cache::new(10);
                let mut early = line(&cache, [Fails::Red; 3]);
                invalidate(&cache);
                let mut late = line_again(&cache);
                in_flight(&cache, 2);
                assert_wakes(&early[1..], &[0, 0]);
                let leader = early.remove(0);
                let mut got = None;
                if first {
                    got = stale.ends(leader);
                    kept(&cache, None);
                    assert_wakes(&early, &[1, 1]);
                    if got.is_none() {
                        // They start afresh, and find the later load.
                        early.iter_mut().for_each(Caller::waits);
                        in_flight(&cache, 1);
                    }
                    assert_eq!(late[0].ends(End::Value(2)), Got::Value(2), "{context}");
                } else {
                    assert_eq!(late[0].ends(End::Value(2)), Got::Value(2), "{context}");
                    assert_wakes(&early, &[0, 0]);
                    got = stale.ends(leader).or(got);
                    assert_wakes(&early, &[1, 1]);
                }
                kept(&cache, Some(2));
                assert_eq!(late[1].served(), Got::Value(2), "{context}");
                for caller in &mut early {
                    let answer = caller.served();
                    assert!(got.as_ref().map_or(answer == Got::Value(2), |got| answer.is(got)), "{context}");
                }
                in_flight(&cache, 0);
                kept(&cache, Some(2));
                let failures = u64::from(stale == Stale::Fails);
                assert_eq!(counts(&cache), [0, 5, 2, failures, 1], "{context}: each is one miss");
            }
        }
    }
}

/// A second line, beside another flight.
#[track_caller]
fn line_again(cache: &Cache) -> [Caller<'_>; 2] {
    [Caller::leading(cache, Fails::Never), Caller::waiting(cache, Fails::Never)]
}

#[test]
fn an_invalidated_load_alone_stores_nothing_and_leaves_nothing() {
    for (name, invalidate) in INVALIDATIONS {
        for stale in STALE {
            let cache = Cache::new(10);
            let leader = Caller::leading(&cache, Fails::Red);
            invalidate(&cache);
            in_flight(&cache, 1);
            stale.ends(leader);
            in_flight(&cache, 0);
            kept(&cache, None);
            assert_eq!(cache.stats().insertions, 0, "{name}, {stale:?}");
        }
    }
}

#[test]
fn the_waiters_of_an_invalidated_load_start_afresh_without_it() {
    for (_, invalidate) in INVALIDATIONS {
        // One of them leads, and the others wait for it.
        for order in [[0, 1, 2], [2, 0, 1], [1, 2, 0]] {
            let cache = Cache::new(10);
            let [leader, one, two, three] = line_of(&cache);
            let mut waiters = [one, two, three];
            invalidate(&cache);
            drop(leader);
            assert_wakes(&waiters, &[1, 1, 1]);
            waiters[order[0]].takes_the_lead();
            waiters[order[1]].waits();
            waiters[order[2]].waits();
            in_flight(&cache, 1);
            // In the order in which they came now.
            let [first, second, third] = order;
            drop(std::mem::replace(&mut waiters[first], Caller::new(&cache, Fails::Never)));
            assert_eq!([waiters[second].wakes(), waiters[third].wakes()], [2, 1]);
            waiters[second].takes_the_lead();
            assert_eq!(waiters[second].ends(End::Value(8)), Got::Value(8));
            assert_eq!(waiters[third].served(), Got::Value(8));
            in_flight(&cache, 0);
            kept(&cache, Some(8));
            assert_eq!(counts(&cache), [0, 4, 3, 0, 1]);
        }
    }
}

#[test]
fn who_starts_afresh_and_finds_a_value_has_not_hit() {
    let cache = Cache::new(10);
    let [leader, mut waiter, gone] = line_of(&cache);
    cache.remove(&KEY);
    assert_eq!(cache.insert(KEY, 6), None);
    assert_wakes([&waiter, &gone], &[0, 0]);
    drop(leader);
    drop(gone);
    assert_eq!(waiter.served(), Got::Value(6));
    in_flight(&cache, 0);
    assert_eq!(counts(&cache), [0, 3, 1, 0, 1]);
}

#[test]
fn who_cannot_take_the_failure_of_an_invalidated_load_starts_afresh() {
    let cache = Cache::new(10);
    let mut callers = line(&cache, [Fails::Red, Fails::Blue, Fails::Red, Fails::Never]);
    cache.remove(&KEY);
    let red = callers[0].ends(End::Error(1));
    assert_wakes(&callers[1..], &[1, 1, 1]);
    callers[3].takes_the_lead();
    callers[1].waits();
    in_flight(&cache, 2);
    assert!(callers[2].served().is(&red));
    in_flight(&cache, 1);
    assert_eq!(callers[3].ends(End::Value(2)), Got::Value(2));
    assert_eq!(callers[1].served(), Got::Value(2));
    in_flight(&cache, 0);
    assert_eq!(counts(&cache), [0, 4, 2, 1, 1]);
}

#[test]
fn a_load_may_be_invalidated_again_and_again() {
    let cache = Cache::new(10);
    let mut lines: Vec<_> = (0..5)
        .map(|_| {
            let line = line_again(&cache);
            cache.remove(&KEY);
            line
        })
        .collect();
    in_flight(&cache, 5);
    lines.swap(0, 3);
    for (number, line) in lines.iter_mut().enumerate() {
        let value = Got::Value(number as u32);
        assert_eq!(line[0].ends(End::Value(number as u32)), value);
        assert_eq!(line[1].served(), value);
        in_flight(&cache, 4 - number);
        kept(&cache, None);
    }
}

#[test]
fn a_waiter_of_an_invalidated_load_gets_its_value_whatever_was_inserted() {
    let cache = Cache::new(10);
    let [mut leader, mut waiter] = line_of(&cache);
    cache.clear();
    cache.insert(KEY, 9);
    assert_eq!(Caller::new(&cache, Fails::Never).got(), Got::Value(9));
    assert_eq!(leader.ends(End::Value(5)), Got::Value(5));
    assert_eq!(waiter.served(), Got::Value(5));
    kept(&cache, Some(9));
    in_flight(&cache, 0);
}

// ---------------------------------------------------------------------------------------------------------------------
// Insertions during a load
// ---------------------------------------------------------------------------------------------------------------------

/// A cache, and whether it keeps the value 100.
fn caches() -> [(Cache, Option<u32>); 3] {
    let weighed = Cache::builder(10).weigher(|_, value| u64::from(*value)).build();
    [(Cache::new(10), Some(100)), (weighed, None), (Cache::new(0), None)]
}

#[test]
fn an_insertion_during_a_load_serves_the_waiters_and_stays() {
    for stale in STALE {
        for (cache, remains) in caches() {
            let mut callers = line(&cache, [Fails::Red, Fails::Never, Fails::Blue, Fails::Red]);
            let leader = callers.remove(0);
            assert_eq!(cache.insert(KEY, 100), None);
            in_flight(&cache, 1);
            assert_wakes(&callers, &[1, 1, 1]);
            kept(&cache, remains);
            // It has passed; who comes now has nothing to do with it.
            let mut newcomer = Caller::new(&cache, Fails::Never);
            match remains {
                Some(value) => assert_eq!(newcomer.got(), Got::Value(value)),
                None => newcomer.takes_the_lead(),
            }
            assert_eq!(callers[0].served(), Got::Value(100));
            stale.ends(leader);
            kept(&cache, remains);
            assert_eq!([callers[1].served(), callers[2].served()], [Got::Value(100), Got::Value(100)]);
            in_flight(&cache, usize::from(remains.is_none()));
            assert_eq!(newcomer.wakes(), 0);
            drop(newcomer);
            in_flight(&cache, 0);
            kept(&cache, remains);
            let stored = u64::from(remains.is_some());
            let failures = u64::from(stale == Stale::Fails);
            assert_eq!(counts(&cache), [stored, 5 - stored, 2 - stored, failures, stored], "{stale:?}");
        }
    }
}

#[test]
fn an_insertion_serves_a_flight_without_a_leader() {
    for chosen_leaves in [false, true] {
        for (cache, remains) in caches() {
            let [leader, chosen, mut other] = line_of(&cache);
            let mut chosen = Some(chosen);
            drop(leader);
            assert_eq!(cache.insert(KEY, 100), None);
            assert_eq!(other.wakes(), 1);
            in_flight(&cache, 1);
            if chosen_leaves {
                chosen = None;
            }
            assert!(chosen.is_none_or(|mut chosen| chosen.served() == Got::Value(100)), "it need not load");
            assert_eq!((other.wakes(), other.served()), (1, Got::Value(100)));
            in_flight(&cache, 0);
            kept(&cache, remains);
            assert_eq!(cache.stats().loads, 1);
        }
    }
}

#[test]
fn the_waiters_of_an_insertion_get_it_whatever_comes_after_it() {
    let cache = Cache::new(10);
    let [mut leader, mut waiter, mut other] = line_of(&cache);
    cache.insert(KEY, 1);
    assert_eq!(cache.insert(KEY, 2), Some(1));
    assert_eq!(waiter.served(), Got::Value(1));
    cache.remove(&KEY);
    let next = Caller::leading(&cache, Fails::Never);
    in_flight(&cache, 2);
    assert_eq!(other.served(), Got::Value(1));
    assert_eq!(leader.ends(End::Value(3)), Got::Value(3));
    kept(&cache, None);
    in_flight(&cache, 1);
    drop(next);
    in_flight(&cache, 0);
}

#[test]
fn a_value_that_is_not_stored_reaches_all_who_wait() {
    for (cache, remains) in caches() {
        let [mut leader, mut waiter] = line_of(&cache);
        assert_eq!(leader.ends(End::Value(100)), Got::Value(100));
        kept(&cache, remains);
        // The flight has come to its end all the same.
        let mut newcomer = Caller::new(&cache, Fails::Never);
        match remains {
            Some(value) => assert_eq!(newcomer.got(), Got::Value(value)),
            None => newcomer.takes_the_lead(),
        }
        assert_eq!(waiter.served(), Got::Value(100));
        drop(newcomer);
        in_flight(&cache, 0);
        let stored = u64::from(remains.is_some());
        assert_eq!(counts(&cache), [stored, 3 - stored, 2 - stored, 0, stored]);
    }
}

#[test]
fn a_value_reaches_the_waiters_though_its_entry_is_gone() {
    const LATER: [Step; 8] = [
        ("remove", |cache| assert_eq!(cache.remove(&KEY), Some(5))),
        ("remove_entry", |cache| assert_eq!(cache.remove_entry(&KEY), Some((KEY, 5)))),
        ("clear", LruCache::clear),
        ("retain", |cache| cache.retain(|_, _| false)),
        ("pop_lru", |cache| assert_eq!(cache.pop_lru(), Some((KEY, 5)))),
        ("set_capacity", |cache| cache.set_capacity(0)),
        ("insert", |cache| assert_eq!(cache.insert(KEY, 6), Some(5))),
        ("eviction", |cache| assert_eq!(cache.insert(8, 6), None)),
    ];
    for (name, step) in LATER {
        let cache = Cache::new(1);
        let [mut leader, mut one, mut other] = line_of(&cache);
        assert_eq!(leader.ends(End::Value(5)), Got::Value(5));
        assert_eq!(one.served(), Got::Value(5));
        step(&cache);
        assert_ne!(cache.peek(&KEY), Some(5), "{name}");
        let mut newcomer = Caller::new(&cache, Fails::Never);
        if name != "insert" {
            newcomer.takes_the_lead();
            in_flight(&cache, 2);
        }
        assert_eq!(other.served(), Got::Value(5), "{name}");
        drop(newcomer);
        in_flight(&cache, 0);
    }
}

#[test]
fn a_life_begins_when_its_load_ends() {
    const HOUR: Duration = Duration::from_secs(3_600);
    let clock = Clock::new();
    let cache = Cache::builder(10).time_to_live(HOUR).clock(clock.source()).build();
    cache.insert(KEY, 1);
    clock.advance(HOUR);
    // What has expired is looked for and not found, and has no more to do with it.
    let [mut leader, mut waiter] = line_of(&cache);
    clock.advance(HOUR / 2);
    assert_eq!(leader.ends(End::Value(5)), Got::Value(5));
    clock.advance(HOUR - Duration::from_nanos(1));
    assert!(cache.contains_key(&KEY));
    clock.advance(Duration::from_nanos(1));
    assert!(!cache.contains_key(&KEY));
    assert_eq!(waiter.served(), Got::Value(5), "it waited before");
    assert_eq!((counts(&cache), cache.stats().expirations), ([0, 2, 1, 0, 2], 2));
    in_flight(&cache, 0);
}

#[test]
fn a_load_outlives_the_clearing_of_its_cache() {
    let cache = Cache::new(10);
    cache.insert(1, 1);
    let mut leader = Caller::leading(&cache, Fails::Never);
    for _ in 0..3 {
        cache.clear();
        in_flight(&cache, 1);
    }
    assert!(leader.task.is_pending());
    assert_eq!(leader.ends(End::Value(5)), Got::Value(5));
    in_flight(&cache, 0);
    assert!(cache.is_empty());
}

// ---------------------------------------------------------------------------------------------------------------------
// Loaders that use the cache
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn a_loader_may_load_other_keys() {
    fn sum(cache: &Cache, key: u32) -> u32 {
        cache.get_or_insert_with(&key, || if key == 0 { 0 } else { key + sum(cache, key - 1) })
    }
    fn later(cache: &Cache, key: u32) -> Pin<Box<dyn Future<Output = u32> + '_>> {
        let load = move || async move { if key == 0 { 0 } else { key + later(cache, key - 1).await } };
        Box::pin(async move { cache.get_or_load(&key, load).await })
    }
    for shards in [1, 4] {
        let cache = Cache::builder(100).shards(shards).build();
        assert_eq!(sum(&cache, 20), 210);
        in_flight(&cache, 0);
        assert_eq!((cache.len(), counts(&cache)), (21, [0, 21, 21, 0, 21]));
        cache.clear();
        assert_eq!(blocking::wait(later(&cache, 20)), 210);
        in_flight(&cache, 0);
        assert_eq!((cache.len(), counts(&cache)), (21, [0, 42, 42, 0, 42]));
    }
}

const OWN_KEY: &str = "its own key";

#[test]
fn a_loader_that_needs_its_own_key_panics() {
    for shards in [1, 16] {
        let cache = Cache::builder(16).shards(shards).build();
        let ask = || cache.get_or_insert_with(&KEY, || 1);
        let try_ask = || cache.try_get_or_insert_with(&KEY, || Err(Red(1))).unwrap_or(0);
        let asks: [&dyn Fn() -> u32; 4] = [
            &ask,
            &try_ask,
            // By way of another key, and of a thread's own executor.
            &|| cache.get_or_insert_with(&8, ask),
            &|| blocking::wait(cache.get_or_load(&8, || async { try_ask() })),
        ];
        for ask in asks {
            let said = panic_of(|| cache.get_or_insert_with(&KEY, ask));
            assert!(said.contains(OWN_KEY), "{said}");
            let said = panic_of(|| cache.try_get_or_insert_with(&KEY, || Ok::<_, Red>(ask())));
            assert!(said.contains(OWN_KEY), "{said}");
            in_flight(&cache, 0);
            assert!(cache.is_empty());
            // It is no more than a panic: the load can go on.
            let outcome = cache.get_or_insert_with(&KEY, || {
                assert!(panic_of(ask).contains(OWN_KEY));
                in_flight(&cache, 1);
                3
            });
            assert_eq!((outcome, cache.remove(&KEY)), (3, Some(3)));
            in_flight(&cache, 0);
        }
    }
}

#[test]
fn a_thread_that_took_over_may_not_need_its_own_key_either() {
    let cache = Cache::new(10);
    let leader = Caller::leading(&cache, Fails::Never);
    thread::scope(|scope| {
        let thread =
            scope.spawn(|| panic_of(|| cache.get_or_insert_with(&KEY, || cache.get_or_insert_with(&KEY, || 1))));
        until(|| cache.stats().misses == 2);
        drop(leader);
        let said = thread.join().unwrap();
        assert!(said.contains(OWN_KEY), "{said}");
    });
    in_flight(&cache, 0);
    kept(&cache, None);
}

#[test]
fn a_thread_waits_for_the_task_that_took_over_from_it() {
    let cache = Cache::new(10);
    let mut task = Caller::new(&cache, Fails::Never);
    let said = panic_of(|| {
        cache.get_or_insert_with(&KEY, || {
            task.waits();
            panic!("it leaves");
        })
    });
    assert_eq!((said.as_str(), task.wakes()), ("it leaves", 1));
    task.takes_the_lead();
    thread::scope(|scope| {
        scope.spawn(|| {
            until(|| cache.stats().misses == 3);
            assert_eq!(task.ends(End::Value(5)), Got::Value(5));
        });
        assert_eq!(cache.get_or_insert_with(&KEY, || unreachable!("it is another's load")), 5);
    });
    in_flight(&cache, 0);
}

#[test]
fn a_loader_may_poll_who_waits_for_it() {
    let cache = Cache::new(10);
    let mut task = Caller::new(&cache, Fails::Never);
    assert_eq!(
        cache.get_or_insert_with(&KEY, || {
            task.waits();
            5
        }),
        5
    );
    assert_eq!(task.served(), Got::Value(5));
    in_flight(&cache, 0);
}

#[test]
fn a_loader_may_change_its_own_key() {
    /// With what remains.
    type Change = (&'static str, fn(&Cache), Option<u32>);
    const CHANGES: [Change; 5] = [
        ("insert", |cache| assert_eq!(cache.insert(KEY, 1), None), Some(1)),
        ("remove", |cache| assert_eq!(cache.remove(&KEY), None), None),
        ("clear", LruCache::clear, None),
        (
            "insert and remove",
            |cache| {
                cache.insert(KEY, 1);
                assert_eq!(cache.remove(&KEY), Some(1));
            },
            None,
        ),
        (
            "remove and insert",
            |cache| {
                cache.remove(&KEY);
                assert_eq!(cache.insert(KEY, 1), None);
            },
            Some(1),
        ),
    ];
    for (name, change, remains) in CHANGES {
        for is_async in [false, true] {
            let cache = Cache::new(10);
            let load = || {
                change(&cache);
                in_flight(&cache, 1);
                5
            };
            let got = if is_async {
                ready(&mut pin!(cache.get_or_load(&KEY, || async { load() })))
            } else {
                cache.get_or_insert_with(&KEY, load)
            };
            assert_eq!(got, 5, "{name}");
            in_flight(&cache, 0);
            kept(&cache, remains);
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Threads and tasks
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn threads_and_tasks_stand_in_one_line() {
    let cache = Cache::new(10);
    let leader = Caller::leading(&cache, Fails::Never);
    let waiting = AtomicUsize::new(1);
    let joined = |number: usize| {
        until(|| cache.stats().misses == number as u64);
        waiting.store(number, Ordering::SeqCst);
    };
    thread::scope(|scope| {
        let (begin, begun) = mpsc::channel::<()>();
        let first = scope.spawn(|| {
            cache.get_or_insert_with(&KEY, || {
                drop(begin);
                until(|| waiting.load(Ordering::SeqCst) == 5);
                4
            })
        });
        joined(2);
        let mut task = Caller::waiting(&cache, Fails::Blue);
        joined(3);
        let second = scope.spawn(|| cache.try_get_or_insert_with(&KEY, || -> Result<u32, Red> { unreachable!() }));
        joined(4);
        drop(leader);
        // The thread that came first runs its own loader.
        assert_eq!(begun.recv(), Err(mpsc::RecvError));
        task.waits();
        let mut late = Caller::waiting(&cache, Fails::Never);
        joined(5);
        assert_eq!((first.join().unwrap(), second.join().unwrap()), (4, Ok(4)));
        assert_eq!([task.served(), late.served()], [Got::Value(4), Got::Value(4)]);
    });
    in_flight(&cache, 0);
    assert_eq!(counts(&cache), [0, 5, 2, 0, 1]);
}

#[test]
fn a_task_takes_over_from_a_thread() {
    let cache = Cache::new(10);
    let (leave, left) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let cache = &cache;
        let thread = scope.spawn(move || {
            panic_of(|| {
                cache.get_or_insert_with(&KEY, || {
                    left.recv().unwrap();
                    panic!("it leaves");
                })
            })
        });
        until(|| cache.stats().loads == 1);
        let mut task = Caller::waiting(cache, Fails::Red);
        leave.send(()).unwrap();
        assert_eq!(thread.join().unwrap(), "it leaves");
        assert_eq!(task.wakes(), 1);
        task.takes_the_lead();
        assert_eq!(task.ends(End::Value(5)), Got::Value(5));
    });
    in_flight(&cache, 0);
    assert_eq!(counts(&cache), [0, 2, 2, 0, 1]);
}

#[test]
fn a_failure_of_a_thread_reaches_the_tasks() {
    let cache = Cache::new(10);
    let (fail, failed) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            cache.try_get_or_insert_with(&KEY, move || {
                failed.recv().unwrap();
                Err(Red(1))
            })
        });
        until(|| cache.stats().loads == 1);
        let [mut same, mut other] = [Fails::Red, Fails::Blue].map(|fails| Caller::waiting(&cache, fails));
        fail.send(()).unwrap();
        let failure = thread.join().unwrap().expect_err("it fails");
        assert!(same.served().is(&Got::Red(failure)));
        assert_eq!(other.wakes(), 1);
        other.takes_the_lead();
        assert_eq!(other.ends(End::Value(5)), Got::Value(5));
    });
    in_flight(&cache, 0);
}

#[test]
fn an_insertion_serves_threads() {
    let cache = Cache::new(10);
    let leader = Caller::leading(&cache, Fails::Never);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| cache.get_or_insert_with(&KEY, || unreachable!("nobody else loads"))))
            .collect();
        until(|| cache.stats().misses == 4);
        cache.insert(KEY, 9);
        threads.into_iter().for_each(|thread| assert_eq!(thread.join().unwrap(), 9));
    });
    drop(leader);
    in_flight(&cache, 0);
}

#[test]
fn threads_start_afresh() {
    let cache = Cache::new(10);
    let leader = Caller::leading(&cache, Fails::Never);
    let calls = AtomicUsize::new(0);
    thread::scope(|scope| {
        let ask = || {
            cache.get_or_insert_with(&KEY, || {
                calls.fetch_add(1, Ordering::SeqCst);
                9
            })
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        until(|| cache.stats().misses == 5);
        cache.remove(&KEY);
        drop(leader);
        threads.into_iter().for_each(|thread| assert_eq!(thread.join().unwrap(), 9));
    });
    in_flight(&cache, 0);
    assert_eq!((calls.into_inner(), counts(&cache)), (1, [0, 5, 2, 0, 1]));
}

// ---------------------------------------------------------------------------------------------------------------------
// Keys, values and loaders of all sorts
// ---------------------------------------------------------------------------------------------------------------------

/// A key to look for, and one that is made of it.
#[derive(PartialEq, Eq, Hash)]
struct Lookup(u32);
#[derive(PartialEq, Eq, Hash)]
struct Made(Lookup);

thread_local! {
    static MADE: Cell<usize> = const { Cell::new(0) };
    /// What happens when the next key is made.
    static MEANWHILE: RefCell<Option<Box<dyn FnOnce()>>> = const { RefCell::new(None) };
}

impl ToOwned for Lookup {
    type Owned = Made;

    fn to_owned(&self) -> Made {
        MADE.set(MADE.get() + 1);
        MEANWHILE.take().into_iter().for_each(|action| action());
        Made(Lookup(self.0))
    }
}

impl Borrow<Lookup> for Made {
    fn borrow(&self) -> &Lookup {
        &self.0
    }
}

#[test]
fn only_who_leads_makes_a_key() {
    let cache = LruCache::<Made, u32>::new(10);
    let key = Lookup(KEY);
    let load = Load::default();
    let mut leader = Box::pin(cache.try_get_or_load(&key, || load.begin()));
    assert!(poll(&mut leader).is_pending());
    assert_eq!(MADE.get(), 1);
    let mut waiters = [(); 3].map(|()| Box::pin(cache.get_or_load(&key, || async { unreachable!() })));
    assert!(waiters.iter_mut().all(|waiter| poll(waiter).is_pending()));
    load.end(End::Value(5));
    assert_eq!(ready(&mut leader), Ok(5));
    waiters.iter_mut().for_each(|waiter| assert_eq!(ready(waiter), 5));
    assert_eq!(MADE.get(), 1, "who waits needs none");
    assert_eq!((cache.get(&key), cache.get_or_insert_with(&key, || unreachable!())), (Some(5), 5));
    assert_eq!(cache.try_get_or_insert_with(&key, || Err(Red(1))), Ok(5));
    assert_eq!(ready(&mut pin!(cache.get_or_load(&key, || async { unreachable!() }))), 5);
    assert_eq!(ready(&mut pin!(cache.try_get_or_load(&key, || async { Err(Red(1)) }))), Ok(5));
    assert_eq!(MADE.get(), 1, "a hit needs none");
    drop((leader, waiters));
    in_flight(&cache, 0);
}

#[test]
fn what_happens_while_a_key_is_made_is_noticed() {
    let cache = Rc::new(LruCache::<Made, u32>::new(10));
    let meanwhile = |action: fn(&LruCache<Made, u32>)| {
        let cache = cache.clone();
        MEANWHILE.set(Some(Box::new(move || action(&cache))));
    };
    let stats = || {
        let stats = cache.stats();
        (stats.hits, stats.misses, stats.loads)
    };
    // It comes to be there.
    meanwhile(|cache| _ = cache.insert(Made(Lookup(KEY)), 1));
    assert_eq!(cache.get_or_insert_with(&Lookup(KEY), || unreachable!("it is there now")), 1);
    assert_eq!(stats(), (1, 0, 0), "it has neither loaded nor waited");
    in_flight(&cache, 0);
    cache.clear();
    // Somebody else begins to load it.
    thread_local!(static OTHER: RefCell<Option<Pin<Box<dyn Future<Output = u32>>>>> = const { RefCell::new(None) });
    let load = Load::default();
    let (shared, loader) = (cache.clone(), load.clone());
    let mut other: Pin<Box<dyn Future<Output = _>>> =
        Box::pin(async move { shared.try_get_or_load(&Lookup(KEY), || loader.begin()).await.unwrap_or(0) });
    MEANWHILE.set(Some(Box::new(move || {
        assert!(poll(&mut other).is_pending());
        OTHER.set(Some(other));
    })));
    let mut waiter =
        Task::waiting(Box::pin(cache.get_or_load(&Lookup(KEY), || async { unreachable!("another loads") })));
    assert_eq!(stats(), (1, 2, 1));
    in_flight(&cache, 1);
    load.end(End::Value(5));
    assert_eq!(ready(&mut OTHER.take().unwrap()), 5);
    assert_eq!((waiter.wakes(), waiter.ready()), (1, 5));
    in_flight(&cache, 0);
    assert_eq!((cache.len(), cache.peek(&Lookup(KEY))), (1, Some(5)));
}

#[test]
fn loaders_on_one_thread_may_keep_to_it() {
    let cache = Cache::new(10);
    let count = Rc::new(Cell::new(0));
    let load = || {
        let count = count.clone();
        async move {
            count.set(count.get() + 1);
            count.get()
        }
    };
    assert_eq!(ready(&mut pin!(cache.get_or_load(&KEY, load))), 1);
    let infallible = || async { Ok::<_, Infallible>(load().await) };
    assert_eq!(ready(&mut pin!(cache.try_get_or_load(&8, infallible))), Ok(2));
    assert_eq!(cache.get_or_insert_with(&9, || count.get() + 1), 3);
}

#[test]
fn a_load_may_go_from_thread_to_thread() {
    fn send<T: Send>(future: T) -> T {
        future
    }
    let cache = LruCache::<u32, Cell<u32>>::new(10);
    let load = Load::default();
    let loader = load.clone();
    let mut leader = Box::pin(send(cache.try_get_or_load(&KEY, || async { loader.begin().await.map(Cell::new) })));
    let mut waiter = Box::pin(send(cache.get_or_load(&KEY, || async { unreachable!("another loads") })));
    assert!(poll(&mut leader).is_pending());
    thread::scope(|scope| {
        let waiter = scope.spawn(move || {
            assert!(poll(&mut waiter).is_pending());
            waiter
        });
        let mut waiter = waiter.join().unwrap();
        scope.spawn(move || {
            load.end(End::Value(5));
            assert_eq!(ready(&mut leader), Ok(Cell::new(5)));
        });
        assert_eq!(blocking::wait(&mut waiter), Cell::new(5));
    });
    in_flight(&cache, 0);
}

#[test]
fn values_that_may_not_be_shared_are_handed_out_in_copies() {
    const THREADS: u32 = 4;
    let cache = LruCache::<u32, Cell<u32>>::new(10);
    thread::scope(|scope| {
        for number in 0..THREADS {
            let cache = &cache;
            scope.spawn(move || {
                for key in 0..10 {
                    let value = match number % 2 {
                        0 => cache.get_or_insert_with(&key, || Cell::new(key)),
                        _ => blocking::wait(cache.get_or_load(&key, || async { Cell::new(key) })),
                    };
                    assert_eq!(value.replace(99), key);
                    assert_eq!(cache.get(&key).map(|value| value.replace(98)), Some(key));
                }
            });
        }
    });
    in_flight(&cache, 0);
}

// ---------------------------------------------------------------------------------------------------------------------
// What panics when a load ends
// ---------------------------------------------------------------------------------------------------------------------

/// A value whose clones are counted and can be told to panic.
struct Fragile {
    fuse: Arc<AtomicUsize>,
    counted: Arc<Gauge>,
    _count: Counted,
}

impl Fragile {
    /// The clone that burns the `fuse` down to nothing panics.
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
fn a_value_that_panics_when_it_is_cloned_costs_one_caller_at_most() {
    for waiters in [0, 1, 3] {
        let mut clones = 0;
        // The first clone that is made panics, then the second, and at last none.
        loop {
            let (fuse, counted) = (Arc::new(AtomicUsize::new(clones + 1)), Arc::new(Gauge::default()));
            let cache = LruCache::<u32, Fragile>::new(10);
            let mut callers: Vec<_> = (0..=waiters)
                .map(|_| {
                    // Pending once, so that the others can come.
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
                assert!(number == 0 || caller.wakes() > 0, "nobody told it");
                let outcome = catch_unwind(AssertUnwindSafe(|| (0..2).any(|_| caller.poll().is_ready())));
                panics += usize::from(outcome.is_err());
                assert!(outcome.unwrap_or(true), "it has its value, or panics");
                cache.check();
            }
            drop(callers);
            in_flight(&cache, 0);
            assert!(counted.read().0 <= 1, "only the cache keeps one");
            drop(cache);
            assert_eq!(counted.read().0, 0);
            if panics == 0 {
                break;
            }
            assert_eq!(panics, 1);
            clones += 1;
        }
        assert!(clones > waiters, "each waiter clones it, and the leader does");
    }
}

#[test]
fn who_was_told_of_a_failure_does_not_clone_the_value_that_came_later() {
    let (fuse, counted) = (Arc::new(AtomicUsize::new(usize::MAX)), Arc::new(Gauge::default()));
    let cache = LruCache::<u32, Fragile>::new(10);
    let [fails, succeeds] = [Load::default(), Load::default()];
    let mut leader = Box::pin(
        cache.try_get_or_load(&KEY, || async { fails.begin().await.map_err(Red).map(|_| unreachable!("it fails")) }),
    );
    assert!(poll(&mut leader).is_pending());
    let mut told = Box::pin(cache.try_get_or_load(&KEY, || async { Err(Red(9)) }));
    let mut next = Box::pin(
        cache.try_get_or_load(&KEY, || async { succeeds.begin().await.map(|_| Fragile::new(&fuse, &counted)) }),
    );
    assert!(poll(&mut told).is_pending() && poll(&mut next).is_pending());
    fails.end(End::Error(1));
    assert_eq!(ready(&mut leader).err(), Some(Arc::new(Red(1))));
    assert!(poll(&mut next).is_pending());
    let mut waiter = Box::pin(cache.get_or_load(&KEY, || async { unreachable!("another loads") }));
    assert!(poll(&mut waiter).is_pending());
    succeeds.end(End::Value(5));
    assert!(ready(&mut next).is_ok());
    fuse.store(1, Ordering::SeqCst);
    assert_eq!(ready(&mut told).err(), Some(Arc::new(Red(1))));
    assert_eq!(panic_of(|| ready(&mut waiter)), "the clone panics");
    drop(waiter);
    in_flight(&cache, 0);
}

/// A value that asks, when it is dropped, whether the cache is locked: it shows less of itself then.
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
            let mut waiters = [(); 2].map(|()| Box::pin(cache.get_or_load(&KEY, || async { unreachable!() })));
            assert!(waiters.iter_mut().all(|waiter| poll(waiter).is_pending()));
            match ways {
                0 => {}
                1 => drop(cache.remove(&KEY)),
                _ => drop(cache.insert(KEY, Curious(cache))),
            }
            load.end(End::Value(5));
            assert!(ready(&mut leader).is_ok());
            let [mut one, other] = waiters;
            drop(ready(&mut one));
            drop((one, other));
            in_flight(cache, 0);
            cache.clear();
        }
    }
}

#[test]
fn a_leader_that_panics_when_it_stores_hands_over_the_lead() {
    let panics = Arc::new(AtomicBool::new(false));
    let hook = |armed: &Arc<AtomicBool>| {
        let armed = armed.clone();
        move || assert!(!armed.swap(false, Ordering::SeqCst), "the hook panics")
    };
    let (weigh, tell) = (hook(&panics), hook(&panics));
    let weighed = Cache::builder(10).weigher(move |_, _| {
        weigh();
        1
    });
    let timed = Cache::builder(10).time_to_live(Duration::MAX).clock(move || {
        tell();
        Instant::now()
    });
    for cache in [weighed.build(), timed.build()] {
        let [leader, mut chosen, mut other] = line_of(&cache);
        panics.store(true, Ordering::SeqCst);
        leader.load.end(End::Value(5));
        let mut leader = leader;
        assert_eq!(panic_of(|| leader.task.poll()), "the hook panics");
        in_flight(&cache, 1);
        assert_wakes([&chosen, &other], &[1, 0]);
        chosen.takes_the_lead();
        assert_eq!(chosen.ends(End::Value(6)), Got::Value(6));
        assert_eq!(other.served(), Got::Value(6));
        in_flight(&cache, 0);
        kept(&cache, Some(6));
        assert_eq!(counts(&cache), [0, 3, 2, 0, 1]);
    }
}

#[test]
fn the_others_are_woken_though_one_waker_panics() {
    let panicking = || Hostile::new().on_wake(|| panic!("the waker panics")).waker();
    let cache = Cache::new(10);
    type Ending = (&'static str, fn(&Cache, Caller<'_>));
    const ENDINGS: [Ending; 3] = [
        ("a value", |_, mut leader| assert_eq!(leader.ends(End::Value(5)), Got::Value(5))),
        ("a failure", |_, mut leader| assert_eq!(leader.ends(End::Error(5)), Got::Red(Arc::new(Red(5))))),
        ("an insertion", |cache, leader| {
            assert_eq!(cache.insert(KEY, 5), None);
            drop(leader);
        }),
    ];
    for (name, ending) in ENDINGS {
        let mut callers = line(&cache, [Fails::Red; 4]);
        for hostile in [1, 2] {
            assert!(poll_with(callers[hostile].task.future_mut(), &panicking()).is_pending());
        }
        let leader = callers.remove(0);
        ending(&cache, leader);
        assert_eq!(callers[2].wakes(), 1, "{name}");
        let got: Vec<_> = callers.iter_mut().map(Caller::got).collect();
        assert!(got.iter().all(|other| other.is(&got[0])), "{name}");
        in_flight(&cache, 0);
        cache.clear();
    }
    // A drop has nothing in hand, and says so.
    let [leader, mut chosen, other] = line_of(&cache);
    assert!(poll_with(chosen.task.future_mut(), &panicking()).is_pending());
    assert_eq!(panic_of(|| drop(leader)), "the waker panics");
    chosen.takes_the_lead();
    drop(chosen);
    assert_eq!(other.wakes(), 1);
    drop(other);
    in_flight(&cache, 0);
}

#[test]
fn a_value_on_its_way_is_dropped_with_the_last_who_leaves() {
    let (fuse, counted) = (Arc::new(AtomicUsize::new(usize::MAX)), Arc::new(Gauge::default()));
    let cache = LruCache::<u32, Fragile>::new(0);
    let load = Load::default();
    let loaded = || async { load.begin().await.map(|_| Fragile::new(&fuse, &counted)) };
    let mut leader = Box::pin(cache.try_get_or_load(&KEY, loaded));
    assert!(poll(&mut leader).is_pending());
    let mut waiters =
        [(); 3].map(|()| Some(Task::waiting(Box::pin(cache.get_or_load(&KEY, || async { unreachable!() })))));
    load.end(End::Value(5));
    drop(ready(&mut leader));
    drop(waiters[0].as_mut().unwrap().ready());
    for waiter in &mut waiters {
        assert_eq!(counted.read().0, 1);
        *waiter = None;
    }
    assert_eq!(counted.read().0, 0);
    in_flight(&cache, 0);
}
