//! User code of a cache that panics, re-enters the cache, or is inconsistent: keys, values, errors, callbacks, loaders and
//! wakers.

mod drops;
mod keys;
mod operations;
mod panics;
mod reentrant;
mod traced;

use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread;

use stanchion::{Cause, Stats};

use crate::common::Check;
use operations::{OPERATIONS, Operation, Setup};
use traced::{Call, Config, Existing, Panicked, Plan, existing, reports, reset};

/// Prints its text if the thread panics.
struct Context(String);

impl Drop for Context {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.0);
        }
    }
}

/// Runs `body` for each operation with each of its keys.
fn each(configs: impl IntoIterator<Item = Config>, mut body: impl FnMut(Operation, u32, Config)) {
    for config in configs {
        for operation in OPERATIONS {
            for &key in operation.keys(config) {
                let context = Context(format!("{} {key}, {config:?}", operation.name));
                // In case it aborts.
                println!("{}", context.0);
                body(operation, key, config);
            }
        }
    }
}

/// All that can be observed of a cache and its callers after an operation.
#[derive(Clone, Debug, PartialEq)]
struct State {
    stats: Stats,
    counts: (usize, u64, usize),
    entries: Vec<(u32, u32)>,
    /// Once all expired entries are removed.
    last_stats: Stats,
    reports: Vec<(u32, u32, Cause)>,
    got: Vec<String>,
}

impl State {
    /// The same state if all expired entries had been removed before.
    fn after_expiry(&self) -> Self {
        let counts = (self.entries.len(), 0, self.counts.2);
        Self { stats: self.last_stats, counts, ..self.clone() }
    }
}

/// The result of an operation.
struct Outcome {
    /// The returned value, or the number of the call whose panic reached the caller.
    result: Result<String, usize>,
    trace: Vec<Call>,
    state: State,
}

/// Runs the operation by this plan, and asserts that the invariants hold and that nothing leaks.
fn outcome(operation: Operation, key: u32, config: Config, plan: Plan) -> Outcome {
    reset();
    let setup = Setup::new(config.filled(), plan);
    (operation.run)(&setup, key);
    let Setup { cache, done, got, .. } = setup;
    let done = done.into_inner().expect("each operation calls `Setup::act`");
    let result = done.outcome.map_err(|payload| match payload.downcast::<Panicked>() {
        Ok(panicked) => panicked.0,
        Err(payload) => resume_unwind(payload),
    });
    cache.check();
    assert_eq!(cache.flights(), 0, "a load has no members and is still there");
    let (stats, len) = (cache.stats(), cache.len() as isize);
    let stored = Existing { keys: len, values: len, ..Existing::default() };
    let leaked = match result {
        // A compiler that drops an argument after it has made the output (rust-lang/rust#47949) leaks the output.
        Err(n) if done.trace.get(n) == Some(&Call::DropLoad) => {
            let leaks = [Existing::default(), traced::VALUE, traced::ERROR];
            leaks.into_iter().find(|&leaked| existing() == stored + leaked)
        }
        _ => Some(Existing::default()).filter(|_| existing() == stored),
    };
    let leaked = leaked.unwrap_or_else(|| panic!("{:?} exist, and in the cache only {stored:?}", existing()));
    let counts = (cache.len(), cache.weight(), cache.capacity());
    assert!(if config.weigher { counts.1 <= counts.2 as u64 } else { counts.0 <= counts.2 }, "{counts:?}");
    let entries = cache.entries().iter().map(|(key, value)| (key.id(), value.id)).collect();
    cache.retain(|_, _| true);
    let last_stats = cache.stats();
    let cache = Arc::into_inner(cache).expect("the test has the last reference");
    drop(cache);
    assert_eq!(existing(), leaked, "nothing outlives the cache");
    let state = State { stats, counts, entries, last_stats, reports: reports(), got: got.into_inner() };
    Outcome { result, trace: done.trace, state }
}
