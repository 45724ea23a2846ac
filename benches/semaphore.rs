//! `Semaphore` beside those of tokio, async-lock, futures-intrusive (fair) and mea. The works that a mutex does too are in
//! `common/gate.rs`; many permits in one request, storms of waiters and threads are added here.

mod common;

use std::future::Future;
use std::hint::black_box;
use std::mem;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use common::gate::{
    Crowd, Gate, Owned, cancel, claim, counting_waker, crowd, each_crowd, free, free_owned, free_try, gate, hand_off,
    owned, two_workers, wait,
};
use common::threads::{COUNTS, enough_for_all};
use common::{Group, compare, testing};
use criterion::{SamplingMode, Throughput};

use async_lock::Semaphore as AsyncLock;
use futures_intrusive::sync::{Semaphore as Intrusive, SharedSemaphore as SharedIntrusive};
use mea::semaphore::Semaphore as Mea;
use stanchion::Semaphore as Stanchion;
use tokio::sync::Semaphore as Tokio;

/// The work, put to every semaphore.
macro_rules! compare_all {
    ($criterion:expr, $name:expr, $($work:tt)+) => {
        compare!($criterion, $name, [Stanchion, Tokio, AsyncLock, Intrusive, Mea], $($work)+)
    };
}

fn main() {
    let criterion = &mut common::criterion();

    compare_all!(criterion, "semaphore/free/acquire", |group, G| free::<G>(group));
    compare!(criterion, "semaphore/free/acquire_many(3)", [Stanchion, Tokio, Intrusive, Mea], |group, G| {
        free_many::<G>(group)
    });
    compare_all!(criterion, "semaphore/free/acquire_owned", |group, G| free_owned::<G>(group));
    compare_all!(criterion, "semaphore/free/try_acquire", |group, G| free_try::<G>(group));

    let noop = Waker::noop();
    compare_all!(criterion, "semaphore/queue/hand-off", |group, G| hand_off::<G>(group, noop));
    compare_all!(criterion, "semaphore/queue/wait + cancel", |group, G| cancel::<G>(group, noop));
    let counting = &counting_waker();
    compare_all!(criterion, "semaphore/queue/hand-off, counted waker", |group, G| hand_off::<G>(group, counting));
    compare_all!(criterion, "semaphore/queue/wait + cancel, counted waker", |group, G| cancel::<G>(group, counting));

    each_crowd(criterion, "semaphore", |criterion, name, runtime, size| {
        compare_all!(criterion, name, |group, G| crowd::<G>(group, runtime, few(size), size));
    });

    let runtime = two_workers().build().expect("the runtime starts");
    for (count, permits, tasks) in [
        ("4 permits, 64 tasks", 4, 64),
        ("10 permits, 1,000 tasks", 10, 1_000),
        ("100 permits, 1,000 tasks", 100, 1_000),
    ] {
        let name = format!("semaphore/runtime/two workers, held across a yield, {count}");
        let size = Crowd { tasks, across_a_yield: true };
        compare_all!(criterion, name, |group, G| crowd::<G>(group, &runtime, permits, size));
    }

    let crowds = [("10", 10), ("100", 100), ("1,000", 1_000)];
    let storms = [("10,000", 10_000), ("100,000", 100_000), ("1,000,000", 1_000_000)];
    for (count, waiters) in crowds.into_iter().chain(storms) {
        let waiters = if testing() { waiters.min(1_000) } else { waiters };
        compare_all!(criterion, format!("semaphore/storm/{count} waiters"), |group, G| storm::<G>(group, waiters));
    }

    for (count, threads) in COUNTS {
        let name = format!("semaphore/threads/as many permits, {count}");
        compare!(criterion, name, [Stanchion, Tokio, AsyncLock], |group, G| enough_for_all::<G>(group, threads));
    }

    criterion.final_summary();
}

/// So few permits that tasks must wait: one for every fourth task. A task that does not yield with its permit holds it
/// only while it runs, so that two workers never need more than one more.
fn few(crowd: Crowd) -> usize {
    if crowd.across_a_yield { crowd.tasks.div_ceil(4) } else { 1 }
}

/// A semaphore that gives several permits to one request.
trait Many: Gate {
    fn acquire_many(&self, permits: usize) -> impl Future<Output = impl Sized>;
}

/// A semaphore that takes more permits.
trait Grow: Gate {
    fn add_permits(&self, permits: usize);
}

/// Like `free`, three permits at a time.
fn free_many<G: Many>(group: &mut Group<'_>) {
    let gate = black_box(G::new(3));
    let cx = &mut Context::from_waker(Waker::noop());
    group.bench_function(G::NAME, |bencher| bencher.iter(|| drop(claim(pin!(gate.acquire_many(3)), cx))));
}

/// So many waiters enqueue, are granted all at once, and collect one after the other.
fn storm<G: Grow>(group: &mut Group<'_>, waiters: usize) {
    group.throughput(Throughput::Elements(waiters as u64)).sampling_mode(SamplingMode::Flat).sample_size(10);
    group.bench_function(G::NAME, |bencher| {
        bencher.iter_custom(|storms| (0..storms).map(|_| one_storm::<G>(waiters)).sum());
    });
}

/// The futures are made and dropped outside the measured time, each in a box of its own, as tasks hold them.
fn one_storm<G: Grow>(waiters: usize) -> Duration {
    let gate = black_box(G::new(0));
    let cx = &mut Context::from_waker(Waker::noop());
    let mut futures: Vec<_> = (0..waiters).map(|_| Box::pin(gate.acquire())).collect();

    let start = Instant::now();
    for future in &mut futures {
        wait(future.as_mut(), cx);
    }
    gate.add_permits(waiters);
    for future in &mut futures {
        // Forgotten, so that releasing is not measured along with waiting.
        mem::forget(claim(future.as_mut(), cx));
    }
    start.elapsed()
}

gate!(Stanchion as "stanchion": new |n| Self::new(n), acquire |s| s.acquire(), try |s| s.try_acquire().ok());
gate!(Tokio as "tokio": new |n| Self::new(n), acquire |s| s.acquire(), try |s| s.try_acquire().ok());
gate!(AsyncLock as "async-lock": new |n| Self::new(n), acquire |s| s.acquire(), try |s| s.try_acquire());
gate!(
    Intrusive as "futures-intrusive":
    new |n| Self::new(true, n), acquire |s| s.acquire(1), try |s| s.try_acquire(1)
);
gate!(Mea as "mea": new |n| Self::new(n), acquire |s| s.acquire(1), try |s| s.try_acquire(1));

owned!(Stanchion: Arc<Self>, new |n| Arc::new(Self::new(n)), acquire |s| Arc::clone(s).acquire_owned());
owned!(Tokio: Arc<Self>, new |n| Arc::new(Self::new(n)), acquire |s| Arc::clone(s).acquire_owned());
owned!(AsyncLock: Arc<Self>, new |n| Arc::new(Self::new(n)), acquire |s| s.acquire_arc());
owned!(Intrusive: SharedIntrusive, new |n| SharedIntrusive::new(true, n), acquire |s| s.acquire(1));
owned!(Mea: Arc<Self>, new |n| Arc::new(Self::new(n)), acquire |s| Arc::clone(s).acquire_owned(1));

impl Many for Stanchion {
    fn acquire_many(&self, permits: usize) -> impl Future<Output = impl Sized> {
        self.acquire_many(permits)
    }
}

impl Many for Tokio {
    fn acquire_many(&self, permits: usize) -> impl Future<Output = impl Sized> {
        self.acquire_many(permits as u32)
    }
}

impl Many for Intrusive {
    fn acquire_many(&self, permits: usize) -> impl Future<Output = impl Sized> {
        self.acquire(permits)
    }
}

impl Many for Mea {
    fn acquire_many(&self, permits: usize) -> impl Future<Output = impl Sized> {
        self.acquire(permits)
    }
}

impl Grow for Stanchion {
    fn add_permits(&self, permits: usize) {
        self.add_permits(permits);
    }
}

impl Grow for Tokio {
    fn add_permits(&self, permits: usize) {
        self.add_permits(permits);
    }
}

impl Grow for AsyncLock {
    fn add_permits(&self, permits: usize) {
        self.add_permits(permits);
    }
}

impl Grow for Intrusive {
    fn add_permits(&self, permits: usize) {
        self.release(permits);
    }
}

impl Grow for Mea {
    fn add_permits(&self, permits: usize) {
        self.release(permits);
    }
}
