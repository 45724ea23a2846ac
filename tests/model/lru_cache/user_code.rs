//! Keys, values, errors and loaders that are counted, and that panic when an operation says so.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::hash::{Hash, Hasher};
use std::mem;
use std::panic::panic_any;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use stanchion::Cause;

use super::super::alarm::Alarmed;
use super::operations::{Ending, own_ttl, weight};

/// A report of the listener: the key, its serial number, the value and the cause.
pub(super) type Report = (usize, u64, usize, Cause);

/// The state of a loader.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) ending: Option<Ending>,
    pub(super) waker: Option<Waker>,
    /// It has begun, and neither ended nor was dropped.
    pub(super) is_running: bool,
}

/// The state that callbacks, loaders and the test share.
pub(super) struct Environment {
    /// By caller.
    pub(super) jobs: BTreeMap<usize, Job>,
    /// The callers whose loaders were begun.
    pub(super) calls: Vec<usize>,
    pub(super) reports: Vec<Report>,
    /// Of the last key.
    pub(super) serial: u64,
    pub(super) alive: [usize; 3],
    pub(super) start: Instant,
    pub(super) seconds: u64,
    pub(super) clock_reads: usize,
    /// The next clone of a value panics.
    pub(super) next_clone_panics: bool,
    /// The next report panics.
    pub(super) next_report_panics: bool,
}

pub(super) type Shared = Arc<Mutex<Environment>>;

impl Environment {
    pub(super) fn new() -> Shared {
        Arc::new(Mutex::new(Self {
            jobs: BTreeMap::new(),
            calls: Vec::new(),
            reports: Vec::new(),
            serial: 0,
            alive: [0; 3],
            start: Instant::now(),
            seconds: 0,
            clock_reads: 0,
            next_clone_panics: false,
            next_report_panics: false,
        }))
    }
}

pub(super) fn lock(environment: &Shared) -> MutexGuard<'_, Environment> {
    // A test that fails drops its keys and values, which lock this.
    environment.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The fields of [`Environment::alive`].
#[derive(Clone, Copy)]
pub(super) enum What {
    Key,
    Value,
    Error,
}

/// A part of a key, value or error that counts it.
pub(super) struct Alive(What, Shared);

impl Alive {
    pub(super) fn new(what: What, environment: &Shared) -> Self {
        lock(environment).alive[what as usize] += 1;
        Self(what, environment.clone())
    }
}

impl Clone for Alive {
    fn clone(&self) -> Self {
        Self::new(self.0, &self.1)
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        lock(&self.1).alive[self.0 as usize] -= 1;
    }
}

/// The borrowed form of a key.
pub(super) struct Borrowed {
    pub(super) key: u8,
    pub(super) environment: Shared,
}

impl Hash for Borrowed {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

impl PartialEq for Borrowed {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Borrowed {}

impl ToOwned for Borrowed {
    type Owned = Key;

    fn to_owned(&self) -> Key {
        let mut environment = lock(&self.environment);
        environment.serial += 1;
        let serial = environment.serial;
        drop(environment);
        let borrowed = Self { key: self.key, environment: self.environment.clone() };
        Key { borrowed, serial, alive: Alive::new(What::Key, &self.environment) }
    }
}

pub(super) struct Key {
    borrowed: Borrowed,
    serial: u64,
    alive: Alive,
}

impl Key {
    pub(super) fn id(&self) -> (usize, u64) {
        (self.borrowed.key.into(), self.serial)
    }
}

impl Clone for Key {
    fn clone(&self) -> Self {
        let borrowed = Borrowed { key: self.borrowed.key, environment: self.borrowed.environment.clone() };
        Self { borrowed, serial: self.serial, alive: self.alive.clone() }
    }
}

impl Borrow<Borrowed> for Key {
    fn borrow(&self) -> &Borrowed {
        &self.borrowed
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.borrowed.hash(state);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.borrowed == other.borrowed
    }
}

impl Eq for Key {}

pub(super) struct Value {
    pub(super) id: usize,
    pub(super) weight: Option<u64>,
    pub(super) ttl: Option<u64>,
    alive: Alive,
}

impl Value {
    pub(super) fn new(id: usize, byte: u8, environment: &Shared) -> Self {
        Self { id, weight: weight(byte), ttl: own_ttl(byte), alive: Alive::new(What::Value, environment) }
    }
}

impl Clone for Value {
    fn clone(&self) -> Self {
        if mem::take(&mut lock(&self.alive.1).next_clone_panics) {
            panic_any(Alarmed);
        }
        Self { id: self.id, weight: self.weight, ttl: self.ttl, alive: self.alive.clone() }
    }
}

/// The error of this caller's loader.
pub(super) struct Failed {
    caller: usize,
    _alive: Alive,
}

pub(super) struct A(Failed);

pub(super) struct B(Failed);

/// An error type of loaders.
pub(super) trait Failure: Sized + Send + Sync + 'static {
    fn new(failed: Failed) -> Self;
    fn caller(&self) -> usize;
}

impl Failure for Infallible {
    fn new(_: Failed) -> Self {
        unreachable!("it never fails")
    }

    fn caller(&self) -> usize {
        match *self {}
    }
}

impl Failure for A {
    fn new(failed: Failed) -> Self {
        Self(failed)
    }

    fn caller(&self) -> usize {
        self.0.caller
    }
}

impl Failure for B {
    fn new(failed: Failed) -> Self {
        Self(failed)
    }

    fn caller(&self) -> usize {
        self.0.caller
    }
}

/// The output of a caller: the number of the value, or of the caller whose loader has failed.
pub(super) type Output = Result<usize, usize>;

pub(super) fn output<E: Failure>(got: Result<Value, Arc<E>>) -> Output {
    got.map(|value| value.id).map_err(|error| error.caller())
}

pub(super) fn end<E: Failure>(caller: usize, how: Ending, environment: &Shared) -> Result<Value, E> {
    match how {
        Ending::Good(weight) => Ok(Value::new(caller, weight, environment)),
        Ending::Failure => Err(E::new(Failed { caller, _alive: Alive::new(What::Error, environment) })),
        Ending::Panic => panic_any(Alarmed),
    }
}

/// The future of a loader.
pub(super) struct Loader {
    caller: usize,
    environment: Shared,
}

impl Loader {
    /// Called when the loader begins.
    pub(super) fn begin(caller: usize, environment: Shared) -> Self {
        let mut locked = lock(&environment);
        locked.calls.push(caller);
        let job = locked.jobs.get_mut(&caller).expect("the caller has a job");
        assert!(!mem::replace(&mut job.is_running, true), "it has begun before");
        drop(locked);
        Self { caller, environment }
    }

    pub(super) async fn result<E: Failure>(self) -> Result<Value, E> {
        let (caller, environment) = (self.caller, self.environment.clone());
        let how = self.await;
        end(caller, how, &environment)
    }
}

impl Future for Loader {
    type Output = Ending;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ending> {
        let mut environment = lock(&self.environment);
        let job = environment.jobs.get_mut(&self.caller).expect("the caller has a job");
        match job.ending {
            Some(how) => Poll::Ready(how),
            None => {
                job.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        let mut environment = lock(&self.environment);
        let job = environment.jobs.get_mut(&self.caller).expect("the caller has a job");
        (job.is_running, job.waker) = (false, None);
    }
}

/// An entry as it is observed: its key, that key's serial number, and its value.
pub(super) type Seen = (usize, u64, usize);

pub(super) fn seen(key: &Key, value: &Value) -> Seen {
    let (id, serial) = key.id();
    (id, serial, value.id)
}
