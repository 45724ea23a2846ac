//! `TaskQueue` beside `tokio::spawn`, which starts its tasks in no order that one could choose: what is slower than that
//! is the price of having one. Both run on the same tokio runtime; a task queue has as many workers there as the runtime
//! has threads.

mod common;

use std::future::{Future, ready};
use std::time::{Duration, Instant};

use common::gate::two_workers;
use common::{Dice, Group, compare};
use criterion::{SamplingMode, Throughput};
use stanchion::TaskQueue;
use tokio::runtime::{Builder, Runtime};

fn main() {
    let criterion = &mut common::criterion();

    let schedulers = [("current thread", 1, Builder::new_current_thread()), ("two workers", 2, two_workers())];
    for (scheduler, workers, mut builder) in schedulers {
        let runtime = &builder.build().expect("the runtime starts");
        for (yields, yielding) in [("ready at once", false), ("yields once", true)] {
            for (kind, tasks) in [("round_trip", 1), ("burst", 16), ("burst", 100), ("burst", 1_000)] {
                let count = match tasks {
                    1 => "",
                    16 => ", 16 tasks",
                    100 => ", 100 tasks",
                    _ => ", 1,000 tasks",
                };
                let burst = Burst { tasks, yielding };
                compare!(
                    criterion,
                    format!("task_queue/{kind}/{scheduler}, {yields}{count}"),
                    [Stanchion, Tokio],
                    |group, S| round_trips::<S>(group, runtime, workers, burst)
                );
            }
        }
    }

    criterion.final_summary();
}

/// So many tasks are handed in, then each is awaited.
#[derive(Clone, Copy)]
struct Burst {
    tasks: usize,
    /// Whether a task yields to others before it ends.
    yielding: bool,
}

/// Somewhere to hand tasks to.
trait Spawner: Send + Sync + 'static {
    const NAME: &'static str;

    /// Called on the runtime.
    fn start(workers: usize) -> Self;
    /// Hands the task in; then there is a handle, which yields what the task does.
    fn submit<F>(&self, priority: u64, task: F) -> impl Future<Output = impl Future<Output = u64> + Send> + Send
    where
        F: Future<Output = u64> + Send + 'static;
    fn stop(self) -> impl Future<Output = ()> + Send;
}

/// The caller is a task on the runtime too.
fn round_trips<S: Spawner>(group: &mut Group<'_>, runtime: &Runtime, workers: usize, burst: Burst) {
    group.throughput(Throughput::Elements(burst.tasks as u64)).sampling_mode(SamplingMode::Flat);
    group.bench_function(S::NAME, |bencher| {
        bencher.iter_custom(|rounds| {
            runtime.block_on(async {
                let caller = tokio::spawn(async move {
                    let spawner = S::start(workers);
                    let time = call(&spawner, burst, rounds).await;
                    spawner.stop().await;
                    time
                });
                caller.await.expect("the caller panicked")
            })
        });
    });
}

async fn call<S: Spawner>(spawner: &S, burst: Burst, rounds: u64) -> Duration {
    let mut dice = Dice::new();
    let mut handles = Vec::with_capacity(burst.tasks);
    let start = Instant::now();
    for _ in 0..rounds {
        for answer in 0..burst.tasks as u64 {
            let priority = u64::from(dice.roll() >> 28);
            handles.push(spawner.submit(priority, task(burst.yielding, answer)).await);
        }
        for (answer, handle) in handles.drain(..).enumerate() {
            assert_eq!(handle.await, answer as u64);
        }
    }
    start.elapsed()
}

async fn task(yielding: bool, answer: u64) -> u64 {
    if yielding {
        tokio::task::yield_now().await;
    }
    answer
}

struct Stanchion {
    queue: TaskQueue<u64>,
    workers: Vec<tokio::task::JoinHandle<()>>,
}

impl Spawner for Stanchion {
    const NAME: &'static str = "stanchion";

    fn start(workers: usize) -> Self {
        let queue = TaskQueue::unbounded();
        let workers = (0..workers).map(|_| tokio::spawn(queue.clone().run())).collect();
        Self { queue, workers }
    }

    async fn submit<F>(&self, priority: u64, task: F) -> impl Future<Output = u64> + Send
    where
        F: Future<Output = u64> + Send + 'static,
    {
        let handle = self.queue.submit(priority, task).await.expect("it is open");
        async { handle.await.expect("it runs to its end") }
    }

    async fn stop(self) {
        self.queue.close();
        for worker in self.workers {
            worker.await.expect("no worker panics");
        }
    }
}

struct Tokio;

impl Spawner for Tokio {
    const NAME: &'static str = "tokio spawn";

    fn start(_: usize) -> Self {
        Self
    }

    fn submit<F>(&self, _: u64, task: F) -> impl Future<Output = impl Future<Output = u64> + Send> + Send
    where
        F: Future<Output = u64> + Send + 'static,
    {
        let handle = tokio::spawn(task);
        ready(async { handle.await.expect("it runs to its end") })
    }

    async fn stop(self) {}
}
