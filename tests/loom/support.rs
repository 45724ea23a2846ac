//! Runs each model in a process of its own; helpers of the models.

use libtest_mimic::{Arguments, Failed, Trial};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use std::collections::BTreeMap;
use std::env;
use std::future::Future;
use std::pin::Pin;
use std::process::Command;
use std::task::{Context, Poll, Wake, Waker};

/// A name, the number of threads that contend, and the code that each interleaving runs.
#[derive(Clone, Copy)]
pub(crate) struct Model {
    pub(crate) name: &'static str,
    /// `None` for a table of small models, which `body` explores one after the other.
    pub(crate) threads: Option<usize>,
    pub(crate) body: fn(),
}

/// Lists functions as models: `models![2: hand_off, 3: close_racing_acquire]`.
macro_rules! models {
    ($($threads:literal: $name:ident),* $(,)?) => {
        pub(crate) const MODELS: &[crate::support::Model] = &[$(
            crate::support::Model { name: stringify!($name), threads: Some($threads), body: $name },
        )*];
    };
}
pub(crate) use models;

/// Lists functions that explore tables of models: `tables![semaphore, mutex]`.
macro_rules! tables {
    ($($name:ident),* $(,)?) => {
        pub(crate) const MODELS: &[crate::support::Model] = &[$(
            crate::support::Model { name: stringify!($name), threads: None, body: $name },
        )*];
    };
}
pub(crate) use tables;

/// The environment variable with the name of the one model that a child process runs.
const CHILD: &str = "STANCHION_MODEL";

pub(crate) fn main(models: &[Model]) {
    if let Ok(name) = env::var(CHILD) {
        let model = models.iter().find(|model| model.name == name).expect("a model of this name");
        return explore(model);
    }
    let trials = models.iter().map(|&Model { name, .. }| Trial::test(name, move || in_child(name))).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn in_child(name: &str) -> Result<(), Failed> {
    let output = Command::new(env::current_exe()?).env(CHILD, name).output()?;
    print!("{}", String::from_utf8_lossy(&output.stdout));
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into()) }
}

fn explore(&Model { name, threads, body }: &Model) {
    let Some(threads) = threads else { return body() };
    // Counted outside loom's world.
    static ITERATIONS: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let mut builder = loom::model::Builder::new();
    builder.max_branches = 10_000;
    (builder.max_duration, builder.max_permutations) = (None, None); // Cut off, it would pass.
    if builder.preemption_bound.is_none() {
        builder.preemption_bound = [None, None, None, Some(3), Some(2)][threads];
    }
    builder.check(move || {
        ITERATIONS.fetch_add(1, Ordering::Relaxed);
        body();
    });
    let iterations = ITERATIONS.load(Ordering::Relaxed);
    println!("{name}: {iterations} interleavings of {threads} threads");
    let outcomes = OUTCOMES.lock().unwrap();
    for (call, [before, after]) in outcomes.iter() {
        println!("{name}: {call}: false in {before} interleavings, true in {after}");
        assert!(*before > 0 && *after > 0, "{name} shows only one outcome of {call}: {before} false, {after} true");
    }
    let contends = iterations >= 10 || !outcomes.is_empty();
    assert!(contends, "{name} explored only {iterations} interleavings: its threads do not contend");
}

/// Counts of the outcomes of the observed calls, over all interleavings of this process's model.
static OUTCOMES: std::sync::Mutex<BTreeMap<&str, [usize; 2]>> = std::sync::Mutex::new(BTreeMap::new());

/// Notes the outcome of a call that races with a change by another thread, and returns it.
///
/// The model fails unless both outcomes are seen in some interleaving.
#[allow(dead_code)] // Until the models use it.
pub(crate) fn observe(call: &'static str, outcome: bool) -> bool {
    OUTCOMES.lock().unwrap().entry(call).or_default()[usize::from(outcome)] += 1;
    outcome
}

/// Polls once.
pub(crate) fn poll<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(waker))
}

/// Polls once with a waker that does nothing.
pub(crate) fn poll_noop<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll(future, Waker::noop())
}

/// Counts its wakes.
pub(crate) struct Count(AtomicUsize);

impl Count {
    pub(crate) fn new() -> (std::sync::Arc<Self>, Waker) {
        let count = std::sync::Arc::new(Self(AtomicUsize::new(0)));
        (count.clone(), Waker::from(count))
    }

    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for Count {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A plain variable that loom watches: concurrent access fails the model.
pub(crate) struct Data(loom::cell::UnsafeCell<usize>);

#[expect(unsafe_code)]
// SAFETY: the primitive under test excludes concurrent access; loom fails the model otherwise.
unsafe impl Sync for Data {}

impl Default for Data {
    fn default() -> Self {
        Self(loom::cell::UnsafeCell::new(0))
    }
}

impl Data {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    pub(crate) fn increment(&self) {
        #[expect(unsafe_code)]
        // SAFETY: as above.
        self.0.with_mut(|value| unsafe { *value += 1 });
    }

    pub(crate) fn get(&self) -> usize {
        #[expect(unsafe_code)]
        // SAFETY: as above.
        self.0.with(|value| unsafe { *value })
    }
}

/// A number that loom watches: it is written before it is read, and dropped in the end.
pub(crate) struct Item {
    number: Data,
    _alive: loom::alloc::Track<()>,
}

impl Item {
    pub(crate) fn new(number: u8) -> Self {
        Self { number: Data(loom::cell::UnsafeCell::new(number.into())), _alive: loom::alloc::Track::new(()) }
    }

    pub(crate) fn get(&self) -> u8 {
        self.number.get().try_into().expect("it was made from one")
    }
}
