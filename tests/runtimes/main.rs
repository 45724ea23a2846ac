//! One of each primitive under tokio (both kinds), async-executor, futures' executor and plain threads at the same time.

#![cfg(not(loom))]

#[path = "../common/mod.rs"]
mod common;

mod lru_cache;
mod mutex;
mod priority_queue;
mod semaphore;
mod soak;
mod task_queue;

use std::future::Future;
use std::task::Poll;
use std::thread;

use common::poll;
use futures::executor::LocalPool;
use futures::task::LocalSpawnExt;
use stanchion::blocking;

/// Tasks on each runtime, and plain threads.
const TASKS: usize = 8;
const THREADS: usize = 4;

/// All tasks and threads.
const ALL: usize = 4 * TASKS + THREADS;

/// Runs `work` on every runtime at once, each with a number of its own, and with `true` if it may block its thread.
fn on_every_runtime<F>(work: impl Fn(usize, bool) -> F + Sync)
where
    F: Future<Output = ()> + Send + 'static,
{
    let work = &work;
    let tasks = |runtime: usize| (0..TASKS).map(move |task| work(runtime * TASKS + task, false));
    let tokio = |mut builder: tokio::runtime::Builder, runtime| {
        builder.worker_threads(2).build().unwrap().block_on(async {
            let handles: Vec<_> = tasks(runtime).map(tokio::spawn).collect();
            for handle in handles {
                handle.await.unwrap();
            }
        });
    };
    thread::scope(|scope| {
        scope.spawn(|| tokio(tokio::runtime::Builder::new_multi_thread(), 0));
        scope.spawn(|| tokio(tokio::runtime::Builder::new_current_thread(), 1));
        scope.spawn(|| {
            let executor = async_executor::Executor::new();
            let tasks: Vec<_> = tasks(2).map(|task| executor.spawn(task)).collect();
            futures::executor::block_on(executor.run(async {
                for task in tasks {
                    task.await;
                }
            }));
        });
        scope.spawn(|| {
            let mut executor = LocalPool::new();
            tasks(3).for_each(|task| executor.spawner().spawn_local(task).unwrap());
            executor.run();
        });
        for number in 4 * TASKS..ALL {
            scope.spawn(move || blocking::wait(work(number, true)));
        }
    });
}

/// Polls once with a waker that does nothing, and then with that of the task.
async fn after_a_change_of_waker<F: Future + Unpin>(mut future: F) -> F::Output {
    match poll(&mut future) {
        Poll::Ready(output) => output,
        Poll::Pending => future.await,
    }
}
