//! A gate gives a number of permits and queues further requests: a semaphore, a mutex or a pool. Most of their works need
//! no more. Here are those works, and the few lines that make a peer's type a [`Gate`].
//!
//! Futures and permits keep the type that their crate gave them (a `Result` stays a `Result`), so no contender pays for
//! an adapter.

use std::future::Future;
use std::hint::black_box;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, Throughput};
use tokio::runtime::{Builder, Runtime};

use super::Group;

/// A contender. The permit that comes out of `acquire` is returned when it is dropped.
pub(crate) trait Gate: Send + Sync + 'static {
    /// The crate, as the report names it.
    const NAME: &'static str;

    /// A gate for `permits` at once; for a mutex that is always 1.
    fn new(permits: usize) -> Self;
    fn acquire(&self) -> impl Future<Output = impl Send> + Send;
    fn try_acquire(&self) -> Option<impl Sized>;
}

/// A gate with permits that own a share of it instead of borrowing it.
pub(crate) trait Owned: Gate {
    type Shared;

    fn shared(permits: usize) -> Self::Shared;
    /// Takes the one more share that the permit will own, and acquires.
    fn acquire_owned(shared: &Self::Shared) -> impl Future<Output = impl Sized>;
}

/// `gate!(Type as "crate": new |permits| .., acquire |gate| .., try |gate| ..);`
macro_rules! gate {
    (
        $Type:ty as $name:literal:
        new |$permits:pat_param| $new:expr,
        acquire |$gate:ident| $acquire:expr,
        try |$try_gate:ident| $try_acquire:expr $(,)?
    ) => {
        impl Gate for $Type {
            const NAME: &'static str = $name;

            fn new($permits: usize) -> Self {
                $new
            }

            fn acquire(&self) -> impl Future<Output = impl Send> + Send {
                let $gate = self;
                $acquire
            }

            fn try_acquire(&self) -> Option<impl Sized> {
                let $try_gate = self;
                $try_acquire
            }
        }
    };
}
pub(crate) use gate;

/// `owned!(Type: Shared, new |permits| .., acquire |shared| ..);`
macro_rules! owned {
    (
        $Type:ty: $Shared:ty,
        new |$permits:pat_param| $new:expr,
        acquire |$shared:ident| $acquire:expr $(,)?
    ) => {
        impl Owned for $Type {
            type Shared = $Shared;

            fn shared($permits: usize) -> Self::Shared {
                $new
            }

            fn acquire_owned($shared: &Self::Shared) -> impl Future<Output = impl Sized> {
                $acquire
            }
        }
    };
}
pub(crate) use owned;

/// Without contention: acquires with the one poll that it takes, and releases.
pub(crate) fn free<G: Gate>(group: &mut Group<'_>) {
    let gate = black_box(G::new(1));
    let cx = &mut Context::from_waker(Waker::noop());
    group.bench_function(G::NAME, |bencher| bencher.iter(|| drop(claim(pin!(gate.acquire()), cx))));
}

/// The same without a future.
pub(crate) fn free_try<G: Gate>(group: &mut Group<'_>) {
    let gate = black_box(G::new(1));
    group.bench_function(G::NAME, |bencher| bencher.iter(|| drop(gate.try_acquire().expect("the permit is free"))));
}

/// The same with a permit that owns a share of the gate; making and dropping that share is part of it.
pub(crate) fn free_owned<G: Owned>(group: &mut Group<'_>) {
    let shared = black_box(G::shared(1));
    let cx = &mut Context::from_waker(Waker::noop());
    group.bench_function(G::NAME, |bencher| bencher.iter(|| drop(claim(pin!(G::acquire_owned(&shared)), cx))));
}

/// Two take turns: while one holds the permit the other enqueues; the first releases and the second collects. So each
/// iteration is one wait, one grant and one collection.
pub(crate) fn hand_off<G: Gate>(group: &mut Group<'_>, waker: &Waker) {
    let gate = black_box(G::new(1));
    let cx = &mut Context::from_waker(waker);
    group.bench_function(G::NAME, |bencher| {
        let mut held = Some(claim(pin!(gate.acquire()), cx));
        bencher.iter(|| {
            let mut next = pin!(gate.acquire());
            wait(next.as_mut(), cx);
            held = None;
            held = Some(claim(next, cx));
        });
        drop(held);
    });
}

/// The permit is held throughout; a waiter enqueues and cancels.
pub(crate) fn cancel<G: Gate>(group: &mut Group<'_>, waker: &Waker) {
    let gate = black_box(G::new(1));
    let cx = &mut Context::from_waker(waker);
    group.bench_function(G::NAME, |bencher| {
        let held = claim(pin!(gate.acquire()), cx);
        bencher.iter(|| wait(pin!(gate.acquire()), cx));
        drop(held);
    });
}

/// Polls a future that has to wait.
pub(crate) fn wait<F: Future>(future: Pin<&mut F>, cx: &mut Context<'_>) {
    assert!(future.poll(cx).is_pending(), "there was nothing to wait for");
}

/// Polls a future that can be served.
pub(crate) fn claim<F: Future>(future: Pin<&mut F>, cx: &mut Context<'_>) -> F::Output {
    match future.poll(cx) {
        Poll::Ready(permit) => permit,
        Poll::Pending => panic!("a free permit was not given"),
    }
}

/// Nearly always done at its first poll; among threads it may have to wait for another thread's lock.
pub(crate) fn now<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => futures::executor::block_on(future),
    }
}

/// A waker with a reference count, like those of real executors: a clone, a drop and a wake cost something.
pub(crate) fn counting_waker() -> Waker {
    struct Counting(AtomicUsize);

    impl Wake for Counting {
        fn wake(self: Arc<Self>) {
            self.wake_by_ref();
        }

        fn wake_by_ref(self: &Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    Waker::from(Arc::new(Counting(AtomicUsize::new(0))))
}

/// Tasks on a real runtime that all want through one gate, over and over.
#[derive(Clone, Copy)]
pub(crate) struct Crowd {
    pub(crate) tasks: usize,
    /// A task yields to the others while it holds its permit; otherwise it releases at once and never yields.
    pub(crate) across_a_yield: bool,
}

/// Puts `measure` to crowds of up to 1,000 tasks on tokio's two schedulers; `name` is the group's.
pub(crate) fn each_crowd(
    criterion: &mut Criterion,
    primitive: &str,
    measure: impl Fn(&mut Criterion, String, &Runtime, Crowd),
) {
    let schedulers = [("current thread", Builder::new_current_thread()), ("two workers", two_workers())];
    for (scheduler, mut builder) in schedulers {
        let runtime = builder.build().expect("the runtime starts");
        for (yields, across_a_yield) in [("held across a yield", true), ("no yield", false)] {
            // One alone that does not even yield is what `free` measures.
            let alone = across_a_yield.then_some(("1 task", 1));
            let crowds = [("2 tasks", 2), ("16 tasks", 16), ("64 tasks", 64), ("1,000 tasks", 1_000)];
            for (count, tasks) in alone.into_iter().chain(crowds) {
                let name = format!("{primitive}/runtime/{scheduler}, {yields}, {count}");
                measure(criterion, name, &runtime, Crowd { tasks, across_a_yield });
            }
        }
    }
}

pub(crate) fn two_workers() -> Builder {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(2);
    builder
}

/// Each iteration is one acquire + release by every task. The tasks are spawned once per sample and repeat it, so that
/// spawning is spread over all of it; the measured time of every contender includes it.
pub(crate) fn crowd<G: Gate>(group: &mut Group<'_>, runtime: &Runtime, permits: usize, crowd: Crowd) {
    group.throughput(Throughput::Elements(crowd.tasks as u64)).sampling_mode(SamplingMode::Flat);
    group.bench_function(G::NAME, |bencher| {
        bencher.iter_custom(|rounds| runtime.block_on(pass_through(Arc::new(G::new(permits)), crowd, rounds)));
    });
}

async fn pass_through<G: Gate>(gate: Arc<G>, crowd: Crowd, rounds: u64) -> Duration {
    let start = Instant::now();
    let tasks: Vec<_> = (0..crowd.tasks)
        .map(|_| {
            let gate = Arc::clone(&gate);
            tokio::spawn(async move {
                for _ in 0..rounds {
                    let permit = gate.acquire().await;
                    if crowd.across_a_yield {
                        tokio::task::yield_now().await;
                    }
                    drop(permit);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("a task panicked");
    }
    start.elapsed()
}
