//! Single-flight loading: callers of one key share one load, which the first of them leads and the others follow.

mod cancellation;
mod errors;
mod insertions;
mod panics;
mod reentrant;
mod sharing;
mod staleness;
mod threads;
mod types;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex as StdMutex};
use std::task::{Poll, Waker};

use stanchion::LruCache;

use crate::Cache;
use crate::common::{Check, Task, panic_of};

/// A name, and a change of the cache.
type Step = (&'static str, fn(&Cache));

/// The key of all callers.
const KEY: u32 = 7;

/// The end of a load, which a test chooses.
#[derive(Clone, Copy, Debug)]
enum End {
    Value(u32),
    Error(u32),
    Panic,
}

/// A loader that ends when a test says so.
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
    /// Calls the loader, and returns its future.
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

/// The errors of a caller's loader: none, or one of two types.
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

/// The result of a caller.
#[derive(Clone, Debug, PartialEq)]
enum Got {
    Value(u32),
    Red(Arc<Red>),
    Blue(Arc<Blue>),
}

impl Got {
    /// Returns true if it is the same result, not only an equal one.
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Got::Value(one), Got::Value(other)) => one == other,
            (Got::Red(one), Got::Red(other)) => Arc::ptr_eq(one, other),
            (Got::Blue(one), Got::Blue(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

/// A caller that loads [`KEY`].
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

    /// Polls once, which makes it the leader.
    #[track_caller]
    fn leading(cache: &'c Cache, fails: Fails) -> Self {
        let mut caller = Self::new(cache, fails);
        caller.takes_the_lead();
        caller
    }

    /// Polls once, which makes it a follower.
    #[track_caller]
    fn following(cache: &'c Cache, fails: Fails) -> Self {
        let mut caller = Self::new(cache, fails);
        caller.follows();
        caller
    }

    fn leads(&self) -> bool {
        self.load.has_begun()
    }

    fn wakes(&self) -> usize {
        self.task.wakes()
    }

    /// Polls, which begins its load and does not end it.
    #[track_caller]
    fn takes_the_lead(&mut self) {
        assert!(!self.leads());
        assert!(self.task.is_pending() && self.leads(), "it should lead");
    }

    /// Polls, which leaves it waiting for another caller's load.
    #[track_caller]
    fn follows(&mut self) {
        assert!(self.task.is_pending() && !self.leads(), "it should follow");
    }

    #[track_caller]
    fn got(&mut self) -> Got {
        self.task.ready()
    }

    /// The result of a follower that was woken, and has loaded nothing.
    #[track_caller]
    fn served(&mut self) -> Got {
        assert!(self.wakes() > 0, "it was not woken");
        let got = self.got();
        assert!(!self.leads(), "it has loaded");
        got
    }

    /// Ends its load, and returns its result.
    #[track_caller]
    fn ends(&mut self, end: End) -> Got {
        self.load.end(end);
        self.got()
    }

    /// Ends its load with a panic.
    #[track_caller]
    fn panics(mut self) {
        self.load.end(End::Panic);
        assert_eq!(panic_of(|| self.task.poll()), "the load panics");
    }
}

/// The ways in which a leader gives its load up without a result.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Abandon {
    /// It was granted the lead, and is dropped before its load has begun.
    Unbegun,
    /// It is dropped after so many polls of its load.
    Dropped(usize),
    PanicsAtCall,
    /// It panics after so many polls of its load.
    Panics(usize),
}

const ABANDONS: [Abandon; 7] = [
    Abandon::Unbegun,
    Abandon::Dropped(1),
    Abandon::Dropped(2),
    Abandon::Dropped(5),
    Abandon::PanicsAtCall,
    Abandon::Panics(0),
    Abandon::Panics(3),
];

impl Abandon {
    /// The number of loads that it begins.
    fn loads(self) -> u64 {
        u64::from(!matches!(self, Abandon::Unbegun))
    }

    /// Abandons the load of a caller that leads, or was granted the lead and has not begun.
    fn run(self, mut caller: Caller<'_>) {
        let polls = match self {
            Abandon::Unbegun => 0,
            Abandon::Dropped(polls) | Abandon::Panics(polls) => polls,
            Abandon::PanicsAtCall => {
                caller.load.0.lock().unwrap().panics_at_call = true;
                assert_eq!(panic_of(|| caller.task.poll()), "the call panics");
                return;
            }
        };
        for _ in 0..polls {
            assert!(caller.task.is_pending() && caller.leads());
        }
        if matches!(self, Abandon::Panics(_)) {
            caller.panics();
        }
    }
}

/// The ends of a load whose value is not stored.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stale {
    Value,
    Fails,
    Abandon(Abandon),
}

const STALE: [Stale; 4] =
    [Stale::Value, Stale::Fails, Stale::Abandon(Abandon::Dropped(1)), Stale::Abandon(Abandon::Panics(1))];

impl Stale {
    /// Ends the load of a leader, and returns the result of its followers, if they get one.
    fn ends(self, mut leader: Caller<'_>) -> Option<Got> {
        match self {
            Stale::Value => Some(leader.ends(End::Value(1))),
            Stale::Fails => Some(leader.ends(End::Error(1))),
            Stale::Abandon(way) => {
                way.run(leader);
                None
            }
        }
    }
}

/// Begins a load, which the first of these callers leads and the others follow.
#[track_caller]
fn begin_load<'c>(cache: &'c Cache, fails: impl IntoIterator<Item = Fails>) -> Vec<Caller<'c>> {
    let mut fails = fails.into_iter();
    let mut callers = vec![Caller::leading(cache, fails.next().expect("there is a leader"))];
    callers.extend(fails.map(|fails| Caller::following(cache, fails)));
    assert_in_flight(cache, 1);
    callers
}

/// Begins a load of `N` callers that never fail.
#[track_caller]
fn begin_infallible<'c, const N: usize>(cache: &'c Cache) -> [Caller<'c>; N] {
    begin_load(cache, [Fails::Never; N]).try_into().ok().expect("there are N callers")
}

#[track_caller]
fn assert_wakes<'a, 'c: 'a>(callers: impl IntoIterator<Item = &'a Caller<'c>>, wanted: &[usize]) {
    assert_eq!(callers.into_iter().map(Caller::wakes).collect::<Vec<_>>(), wanted);
}

/// Checks the invariants and the number of loads with members.
#[track_caller]
fn assert_in_flight<K, V, S>(cache: &LruCache<K, V, S>, wanted: usize) {
    cache.check();
    assert_eq!(cache.flights(), wanted, "loads in flight");
}

/// Hits, misses, loads, load failures, and insertions.
fn counts(cache: &Cache) -> [u64; 5] {
    let stats = cache.stats();
    [stats.hits, stats.misses, stats.loads, stats.load_failures, stats.insertions]
}

/// Asserts that the cache has this value of [`KEY`], and nothing else.
#[track_caller]
fn assert_stored(cache: &Cache, value: Option<u32>) {
    assert_eq!((cache.peek(&KEY), cache.len()), (value, usize::from(value.is_some())));
}
