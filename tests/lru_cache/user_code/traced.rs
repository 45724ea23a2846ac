//! Keys, values, errors, callbacks, loaders and wakers that record their calls, and panic or re-enter the cache at the call
//! that a test chooses. The records belong to the thread.

use std::borrow::Borrow;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher};
use std::ops::Add;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use stanchion::{Cause, LruCache};

use crate::common::hooks::Hooks;
use crate::common::poll_with;

pub(crate) type Cache = LruCache<Key, Value, Seed>;

/// A call of user code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Call {
    HashKey,
    BorrowKey,
    Compare,
    OwnKey,
    CloneKey,
    CloneValue,
    Predicate,
    Weigh,
    /// After an update.
    WeighAgain,
    ExpireAfter,
    Clock,
    Report,
    BeginLoad,
    PollLoad,
    DropLoad,
    DropKey,
    DropValue,
    DropError,
    CloneWaker,
    Wake,
    DropWaker,
}

use Call::*;

impl Call {
    /// Returns true if it may run under the lock, and must not use the cache.
    pub(crate) fn is_inside(self) -> bool {
        [BorrowKey, Compare, CloneKey, CloneValue, Predicate, WeighAgain].contains(&self)
    }

    pub(crate) fn is_drop(self) -> bool {
        [DropLoad, DropKey, DropValue, DropError, DropWaker].contains(&self)
    }

    /// Returns true if it runs before anything has changed, except that a load may have begun.
    pub(crate) fn is_before(self) -> bool {
        self < Report || self == CloneWaker
    }

    pub(crate) fn is_of_waker(self) -> bool {
        [CloneWaker, Wake, DropWaker].contains(&self)
    }

    pub(crate) fn is_of_load(self) -> bool {
        [BeginLoad, PollLoad].contains(&self)
    }
}

/// The behaviour of user code while it is watched.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Plan {
    /// It neither panics nor re-enters.
    Normal,
    /// The call with this number panics.
    PanicAt(usize),
    /// The first of these panics.
    PanicFirst(&'static [Call]),
    /// The call with this number panics, and each drop after it.
    PanicFrom(usize),
    /// All of these panic.
    PanicEach(&'static [Call]),
    /// All of these panic, and the operation runs while its thread unwinds.
    Unwind(&'static [Call]),
    /// Calls outside the lock run this, and the others format the cache.
    Reenter(fn(&Cache)),
    /// The operation does not run.
    Skip,
}

/// The payload of a call's panic: its number.
#[derive(Debug, PartialEq)]
pub(crate) struct Panicked(pub(crate) usize);

/// The numbers of keys, values, errors and loaders that exist.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Existing {
    pub(crate) keys: isize,
    pub(crate) values: isize,
    pub(crate) errors: isize,
    pub(crate) loads: isize,
}

impl Add for Existing {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            keys: self.keys + other.keys,
            values: self.values + other.values,
            errors: self.errors + other.errors,
            loads: self.loads + other.loads,
        }
    }
}

const KEY: Existing = Existing { keys: 1, values: 0, errors: 0, loads: 0 };
pub(crate) const VALUE: Existing = Existing { keys: 0, values: 1, errors: 0, loads: 0 };
pub(crate) const ERROR: Existing = Existing { keys: 0, values: 0, errors: 1, loads: 0 };
const LOAD: Existing = Existing { keys: 0, values: 0, errors: 0, loads: 1 };

type Meanwhile = (Call, fn(&Cache));

thread_local! {
    static PLAN: Cell<Plan> = const { Cell::new(Plan::Normal) };
    static WATCHED: Cell<bool> = const { Cell::new(false) };
    static TRACE: RefCell<Vec<Call>> = const { RefCell::new(Vec::new()) };
    static CACHE: RefCell<Option<Arc<Cache>>> = const { RefCell::new(None) };
    static EXISTING: Cell<Existing> = const { Cell::new(Existing { keys: 0, values: 0, errors: 0, loads: 0 }) };
    static MEANWHILE: Cell<Option<Meanwhile>> = const { Cell::new(None) };
    static IS_UPDATED: Cell<bool> = const { Cell::new(false) };
    static COLLIDES: Cell<bool> = const { Cell::new(false) };
    static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    static REPORTS: RefCell<Vec<(u32, u32, Cause)>> = const { RefCell::new(Vec::new()) };
    static EVICTED: RefCell<Vec<(Key, Value)>> = const { RefCell::new(Vec::new()) };
}

/// Records a call of user code, and panics or re-enters if the plan says so.
pub(crate) fn called(call: Call) {
    if !WATCHED.get() {
        return;
    }
    let number = TRACE.with_borrow_mut(|trace| {
        trace.push(call);
        trace.len() - 1
    });
    if let Some((_, act)) = MEANWHILE.get().filter(|&(when, _)| when == call) {
        MEANWHILE.set(None);
        quietly(|| act(&watched_cache()));
    }
    let panics = match PLAN.get() {
        Plan::PanicAt(at) => number == at,
        Plan::PanicFirst(calls) => {
            calls.contains(&call) && TRACE.with_borrow(|trace| !trace[..number].iter().any(|call| calls.contains(call)))
        }
        Plan::PanicFrom(at) => number == at || number > at && call.is_drop(),
        Plan::PanicEach(calls) | Plan::Unwind(calls) => calls.contains(&call),
        Plan::Reenter(act) => {
            let act = if call.is_inside() { |cache: &Cache| drop(format!("{cache:?}")) } else { act };
            quietly(|| act(&watched_cache()));
            false
        }
        Plan::Normal | Plan::Skip => false,
    };
    if panics {
        // Not `panic!`: it needs no report.
        resume_unwind(Box::new(Panicked(number)));
    }
}

fn watched_cache() -> Arc<Cache> {
    CACHE.with_borrow(Clone::clone).expect("a cache is watched")
}

/// Runs `act` at the beginning of the next call of this kind.
pub(crate) fn meanwhile(call: Call, act: fn(&Cache)) {
    MEANWHILE.set(Some((call, act)));
}

/// Runs `body` without recording its calls.
pub(crate) fn quietly<R>(body: impl FnOnce() -> R) -> R {
    struct Back(bool);
    impl Drop for Back {
        fn drop(&mut self) {
            WATCHED.set(self.0);
        }
    }
    let _back = Back(WATCHED.replace(false));
    body()
}

/// Runs `body` while user code follows `plan`, which may use `cache`; returns its calls, too.
pub(crate) fn watched<R>(plan: Plan, cache: &Arc<Cache>, body: impl FnOnce() -> R) -> (R, Vec<Call>) {
    TRACE.take();
    PLAN.set(plan);
    CACHE.set(Some(cache.clone()));
    WATCHED.set(true);
    let outcome = body();
    WATCHED.set(false);
    drop(CACHE.take());
    MEANWHILE.set(None);
    (outcome, TRACE.take())
}

/// The closure of an update, which gives the value this weight.
pub(crate) fn update(value: &mut Value, weight: u64) {
    called(Predicate);
    IS_UPDATED.set(true);
    value.weight = weight;
}

/// Resets all records.
pub(crate) fn reset() {
    drop(EVICTED.take());
    REPORTS.take();
    IS_UPDATED.set(false);
    EXISTING.set(Existing::default());
}

pub(crate) fn existing() -> Existing {
    drop(EVICTED.take());
    EXISTING.get()
}

fn add(created: Existing) {
    EXISTING.set(EXISTING.get() + created);
}

fn subtract(Existing { keys, values, errors, loads }: Existing) {
    add(Existing { keys: -keys, values: -values, errors: -errors, loads: -loads });
}

pub(crate) fn set_now(now: Duration) {
    NOW.set(now);
}

/// The reports of the listener since the last call.
pub(crate) fn reports() -> Vec<(u32, u32, Cause)> {
    REPORTS.take()
}

// ---------------------------------------------------------------------------------------------------------------------
// Keys, values and errors
// ---------------------------------------------------------------------------------------------------------------------

/// The borrowed form of a key.
#[derive(Debug)]
pub(crate) struct Probe(pub(crate) u32);

#[derive(Debug)]
pub(crate) struct Key(Probe);

#[derive(Debug)]
pub(crate) struct Value {
    pub(crate) id: u32,
    pub(crate) weight: u64,
}

pub(crate) struct Failure(u32);

impl Key {
    pub(crate) fn new(id: u32) -> Self {
        add(KEY);
        Self(Probe(id))
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.0
    }
}

impl Value {
    pub(crate) fn new(id: u32, weight: u64) -> Self {
        add(VALUE);
        Self { id, weight }
    }
}

impl Failure {
    fn new(id: u32) -> Self {
        add(ERROR);
        Self(id)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Failure {}", self.0)
    }
}

impl Hash for Probe {
    fn hash<H: Hasher>(&self, state: &mut H) {
        called(HashKey);
        if !COLLIDES.get() {
            self.0.hash(state);
        }
    }
}

impl PartialEq for Probe {
    fn eq(&self, other: &Self) -> bool {
        called(Compare);
        self.0 == other.0
    }
}

impl Eq for Probe {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Key {}

impl Borrow<Probe> for Key {
    fn borrow(&self) -> &Probe {
        called(BorrowKey);
        &self.0
    }
}

impl ToOwned for Probe {
    type Owned = Key;

    fn to_owned(&self) -> Key {
        called(OwnKey);
        Key::new(self.0)
    }
}

impl Clone for Key {
    fn clone(&self) -> Self {
        called(CloneKey);
        Self::new(self.id())
    }
}

impl Clone for Value {
    fn clone(&self) -> Self {
        called(CloneValue);
        Self::new(self.id, self.weight)
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        subtract(KEY);
        called(DropKey);
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        subtract(VALUE);
        called(DropValue);
    }
}

impl Drop for Failure {
    fn drop(&mut self) {
        subtract(ERROR);
        called(DropError);
    }
}

/// A hasher without a random seed, so that all caches make the same calls.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seed;

impl BuildHasher for Seed {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        called(HashKey);
        DefaultHasher::new()
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Callbacks and loaders
// ---------------------------------------------------------------------------------------------------------------------

/// The settings of a cache.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    pub(crate) expires: bool,
    pub(crate) weigher: bool,
    pub(crate) listener: bool,
    pub(crate) shards: usize,
    /// All keys have the same hash.
    pub(crate) collides: bool,
}

impl Config {
    pub(crate) const FULL: Self = Self { expires: true, weigher: true, listener: true, shards: 1, collides: false };

    pub(crate) const FEW: [Self; 4] = [
        Self { expires: false, weigher: false, listener: false, ..Self::FULL },
        Self { listener: false, ..Self::FULL },
        Self::FULL,
        Self { shards: 3, ..Self::FULL },
    ];

    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let plain = (0..16).map(|bits| {
            let [expires, weigher, listener, sharded] = [1, 2, 4, 8].map(|bit| bits & bit > 0);
            Self { expires, weigher, listener, shards: if sharded { 3 } else { 1 }, collides: false }
        });
        plain.chain([Self { collides: true, ..Self::FULL }])
    }

    fn build(self) -> Cache {
        COLLIDES.set(self.collides);
        let capacity = self.entries() as usize * if self.weigher { 2 } else { 1 };
        let mut builder = LruCache::<Key, Value>::builder(capacity).shards(self.shards).hasher(Seed);
        if self.expires {
            let base = Instant::now();
            builder = builder.time_to_live(Duration::from_secs(10)).clock(move || {
                called(Clock);
                base + NOW.get()
            });
            builder = builder.expire_after(|_: &Key, _: &Value| {
                called(ExpireAfter);
                Some(Duration::from_secs(10))
            });
        }
        if self.weigher {
            builder = builder.weigher(|_: &Key, value: &Value| {
                called(if IS_UPDATED.take() { WeighAgain } else { Weigh });
                value.weight
            });
        }
        if self.listener {
            builder = builder.on_evict(|key: Key, value: Value, cause| {
                REPORTS.with_borrow_mut(|reports| reports.push((key.id(), value.id, cause)));
                // Kept, so that a listener that panics does not drop a value that panics, too.
                EVICTED.with_borrow_mut(|evicted| evicted.push((key, value)));
                called(Report);
            });
        }
        builder.build()
    }

    fn entries(self) -> u32 {
        3 * self.shards as u32
    }

    pub(crate) fn empty(self) -> Arc<Cache> {
        Arc::new(self.build())
    }

    /// A full cache of values of weight 2. The least recently used, with key 1, has expired if entries expire.
    pub(crate) fn filled(self) -> Arc<Cache> {
        let cache = self.empty();
        for id in 1..=self.entries() {
            set_now(Duration::from_secs(u64::from(id > 1)));
            drop(cache.insert(Key::new(id), Value::new(id, 2)));
        }
        set_now(Duration::from_secs(10));
        cache
    }
}

/// The course of a load.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) value: u32,
    pub(crate) weight: u64,
    pub(crate) fails: bool,
    /// It loads by a function that cannot fail.
    pub(crate) infallible: bool,
    /// It may end.
    pub(crate) open: Rc<Cell<bool>>,
}

impl Script {
    pub(crate) fn new(value: u32) -> Self {
        Self { value, weight: 2, fails: false, infallible: false, open: Rc::new(Cell::new(true)) }
    }

    pub(crate) fn weighing(self, weight: u64) -> Self {
        Self { weight, ..self }
    }

    pub(crate) fn failing(self) -> Self {
        Self { fails: true, ..self }
    }

    pub(crate) fn infallible(self) -> Self {
        Self { infallible: true, ..self }
    }

    pub(crate) fn held(self) -> Self {
        self.open.set(false);
        self
    }

    fn end(&self) -> Result<Value, Failure> {
        if self.fails { Err(Failure::new(self.value)) } else { Ok(Value::new(self.value, self.weight)) }
    }

    /// Loads on this thread.
    pub(crate) fn run(self, cache: &Cache, key: u32, inside: impl FnOnce()) -> Result<Value, Arc<Failure>> {
        let token = Token::new();
        let infallible = self.infallible;
        let loader = move || {
            token.guard(|| {
                called(BeginLoad);
                quietly(inside);
                called(PollLoad);
            });
            drop(token);
            self.end()
        };
        if infallible {
            return Ok(cache.get_or_insert_with(&Probe(key), || loader().expect("it cannot fail")));
        }
        cache.try_get_or_insert_with(&Probe(key), loader)
    }

    fn into_load(self, cache: &Cache, key: u32) -> Load<'_> {
        let token = Token::new();
        let infallible = self.infallible;
        let loader = move || {
            token.guard(|| called(BeginLoad));
            Loading { script: self, _token: token }
        };
        Box::pin(async move {
            if infallible {
                let loader = || Unfailing(loader());
                return Ok(cache.get_or_load(&Probe(key), loader).await);
            }
            cache.try_get_or_load(&Probe(key), loader).await
        })
    }
}

/// A capture of a loader.
struct Token {
    /// Its drop is not recorded: it runs while the loader's own code unwinds.
    is_quiet: Cell<bool>,
}

impl Token {
    fn new() -> Self {
        add(LOAD);
        Self { is_quiet: Cell::new(false) }
    }

    fn guard(&self, body: impl FnOnce()) {
        self.is_quiet.set(true);
        body();
        self.is_quiet.set(false);
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        subtract(LOAD);
        if !self.is_quiet.get() {
            called(DropLoad);
        }
    }
}

/// The future of a loader.
struct Loading {
    script: Script,
    _token: Token,
}

/// The same for a load that cannot fail.
struct Unfailing(Loading);

impl Future for Unfailing {
    type Output = Value;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Value> {
        Pin::new(&mut self.0).poll(cx).map(|outcome| outcome.expect("it cannot fail"))
    }
}

impl Future for Loading {
    type Output = Result<Value, Failure>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        called(PollLoad);
        if self.script.open.get() { Poll::Ready(self.script.end()) } else { Poll::Pending }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Callers
// ---------------------------------------------------------------------------------------------------------------------

type Load<'c> = Pin<Box<dyn Future<Output = Result<Value, Arc<Failure>>> + 'c>>;

/// A load that a test polls, with a waker that records its calls.
pub(crate) struct Caller<'c> {
    load: Option<Load<'c>>,
    open: Rc<Cell<bool>>,
    waker: Waker,
    wakes: Arc<AtomicUsize>,
}

impl fmt::Debug for Caller<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller").finish_non_exhaustive()
    }
}

impl<'c> Caller<'c> {
    pub(crate) fn new(cache: &'c Cache, key: u32, script: Script) -> Self {
        let (waker, wakes) = waker();
        Self { open: script.open.clone(), load: Some(script.into_load(cache, key)), waker, wakes }
    }

    pub(crate) fn poll(&mut self) -> Poll<Result<Value, Arc<Failure>>> {
        poll_with(self.load.as_mut().expect("it is not cancelled"), &self.waker)
    }

    /// Drops the load only.
    pub(crate) fn cancel(&mut self) {
        drop(self.load.take());
    }

    #[track_caller]
    pub(crate) fn following(mut self) -> Self {
        assert!(self.poll().is_pending(), "it should wait");
        self
    }

    /// Lets its loader end.
    pub(crate) fn open(&self) {
        self.open.set(true);
    }

    /// Moves it to another task: only the cache still has the old waker.
    pub(crate) fn replace_waker(&mut self) {
        (self.waker, self.wakes) = waker();
    }

    pub(crate) fn wakes(&self) -> usize {
        self.wakes.load(Ordering::Relaxed)
    }
}

fn waker() -> (Waker, Arc<AtomicUsize>) {
    let wakes = Arc::new(AtomicUsize::new(0));
    let count = wakes.clone();
    let waker = Hooks::new().on_clone(|| called(CloneWaker)).on_drop(|| called(DropWaker)).on_wake(move || {
        count.fetch_add(1, Ordering::Relaxed);
        called(Wake);
    });
    (waker.waker(), wakes)
}
