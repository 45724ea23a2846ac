//! Soaks: random operations on one primitive by tasks of every runtime and plain threads, with futures that are dropped
//! at random, and with loads, creations and tasks that fail or panic.
//!
//! A soak does a fixed number of operations. With `STANCHION_SOAK_SECONDS=<n>` each takes that many seconds instead, and
//! prints the number of its operations.

mod fixed_pool;
mod lru_cache;
mod mutex;
mod pool;
mod priority_queue;
mod semaphore;
mod task_queue;

use std::fmt::Debug;
use std::future::Future;
use std::io::{Write, stderr};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{ALL, after_a_change_of_waker, on_every_runtime};
use crate::common::watched;

/// The number of operations of a soak that has no time.
const OPERATIONS: usize = 200_000;

/// A part of a soak, on one instance of a primitive: its operations so far, and its end.
#[derive(Clone)]
struct Part {
    operations: Arc<AtomicUsize>,
    goal: usize,
    deadline: Option<Instant>,
}

impl Part {
    /// Begins one of `parts` of a soak, which together do so many operations.
    fn one_of(parts: u32, operations: usize) -> Self {
        let deadline = std::env::var("STANCHION_SOAK_SECONDS").ok().map(|seconds| {
            let seconds = seconds.parse().expect("STANCHION_SOAK_SECONDS is a whole number");
            Instant::now() + Duration::from_secs(seconds) / parts
        });
        Self { operations: Arc::default(), goal: operations / parts as usize, deadline }
    }

    /// Runs `work` with `shared` on every runtime, and prints the number of operations if the soak has a time.
    fn run<T, F>(&self, shared: &Arc<T>, work: impl Fn(usize, bool) -> F + Sync)
    where
        T: Debug + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        watched(&self.operations, shared, || on_every_runtime(work));
        assert!(self.operations() > 0);
        if self.deadline.is_some() {
            // libtest captures the output of `eprintln!`.
            let report = format!("{} operations: {shared:?}\n", self.operations());
            stderr().write_all(report.as_bytes()).unwrap();
        }
    }

    fn operations(&self) -> usize {
        read(&self.operations)
    }

    /// Returns true once this part has done its operations, or its time is up.
    fn is_over(&self) -> bool {
        self.is_over_after(self.operations(), self.goal)
    }

    fn is_over_after(&self, operations: usize, goal: usize) -> bool {
        self.deadline.map_or(operations >= goal, |deadline| Instant::now() >= deadline)
    }

    /// Counts the operations of one of so many tasks that share the goal equally, until the end.
    fn share_of(&self, tasks: usize) -> impl Iterator<Item = usize> + Send + use<> {
        let part = self.clone();
        (0..).take_while(move |&done| {
            let goes_on = !part.is_over_after(done, part.goal / tasks);
            part.operations.fetch_add(goes_on.into(), Ordering::Relaxed);
            goes_on
        })
    }
}

fn add_one(count: &AtomicUsize) {
    count.fetch_add(1, Ordering::Relaxed);
}

fn read(count: &AtomicUsize) -> usize {
    count.load(Ordering::Relaxed)
}

/// The error of an operation that fails at random.
#[derive(Debug)]
struct Failure;

/// The payload of an operation that panics at random.
struct OnPurpose;

fn panic_on_purpose() -> ! {
    // Without a report.
    resume_unwind(Box::new(OnPurpose))
}

/// Counts a panic on purpose, and passes on any other.
fn count_panic(outcome: thread::Result<()>, count: &AtomicUsize) {
    match outcome {
        Ok(()) => {}
        Err(payload) if payload.is::<OnPurpose>() => add_one(count),
        Err(payload) => resume_unwind(payload),
    }
}

/// Time that passes by a millisecond at each read.
struct Clock {
    start: Instant,
    reads: AtomicU64,
}

impl Clock {
    fn new() -> Arc<Self> {
        Arc::new(Self { start: Instant::now(), reads: AtomicU64::new(1) })
    }

    fn read(&self) -> Instant {
        self.start + Duration::from_millis(self.reads.fetch_add(1, Ordering::Relaxed))
    }
}
