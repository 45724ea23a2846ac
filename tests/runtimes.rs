//! One of each primitive under tokio (both kinds), async-executor, futures' executor and plain threads at the same time; and
//! soaks with random cancellation, of `STANCHION_SOAK` operations.

#![cfg(not(loom))]

mod common;

use std::cell::Cell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex as StdMutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use common::{Check, Counted, Gauge, assert_numbers, poll, state, until, watched, with_patience, within, yield_now};
use futures::executor::LocalPool;
use futures::stream::FuturesUnordered;
use futures::task::LocalSpawnExt;
use futures::{FutureExt, StreamExt};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use stanchion::{
    Cause, Closed, Fixed, GetError, Key, LruCache, LruCacheBuilder, Manager, Metrics, Mutex, MutexGuard, Object, Order,
    OwnedMutexGuard, OwnedObject, Pool, PoolBuilder, PriorityQueue, Semaphore, TaskError, TaskHandle, TaskQueue,
    TryPopError, TryPushError, blocking,
};

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
    let tasks = |runtime: usize| (0..TASKS).map(move |task| runtime * TASKS + task);
    thread::scope(|scope| {
        for mut runtime in [tokio::runtime::Builder::new_multi_thread(), tokio::runtime::Builder::new_current_thread()]
            .into_iter()
            .zip(0..)
        {
            let work = &work;
            scope.spawn(move || {
                let executor = runtime.0.worker_threads(2).build().unwrap();
                executor.block_on(async {
                    let handles: Vec<_> = tasks(runtime.1).map(|number| tokio::spawn(work(number, false))).collect();
                    for handle in handles {
                        handle.await.unwrap();
                    }
                });
            });
        }
        scope.spawn(|| {
            let executor = async_executor::Executor::new();
            let tasks: Vec<_> = tasks(2).map(|number| executor.spawn(work(number, false))).collect();
            futures::executor::block_on(executor.run(async {
                for task in tasks {
                    task.await;
                }
            }));
        });
        scope.spawn(|| {
            let mut executor = LocalPool::new();
            for number in tasks(3) {
                executor.spawner().spawn_local(work(number, false)).unwrap();
            }
            executor.run();
        });
        for number in 4 * TASKS..ALL {
            let work = &work;
            scope.spawn(move || blocking::wait(work(number, true)));
        }
    });
}

/// The number of operations of a soak.
fn operations() -> usize {
    match std::env::var("STANCHION_SOAK") {
        Ok(number) => number.parse().expect("STANCHION_SOAK is a number of operations"),
        Err(_) => 200_000,
    }
}

/// Polls once with a waker that does nothing, and then with that of the task.
async fn after_a_change_of_waker<F: Future + Unpin>(mut future: F) -> F::Output {
    match poll(&mut future) {
        Poll::Ready(output) => output,
        Poll::Pending => future.await,
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Together
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn every_runtime_shares_one_semaphore_and_one_mutex() {
    const PERMITS: usize = 5;
    const ROUNDS: usize = 200;
    let shared = Arc::new((Semaphore::new(PERMITS), Mutex::new(0)));
    let inside = Arc::new(AtomicUsize::new(0));
    let progress = Arc::new(AtomicUsize::new(0));
    watched(&progress, &shared, || {
        on_every_runtime(|number, _| {
            let (shared, inside, progress) = (shared.clone(), inside.clone(), progress.clone());
            async move {
                for round in 0..ROUNDS {
                    let need = (number + round) % 3 + 1;
                    let permit = shared.0.acquire_many(need).await.unwrap();
                    let together = inside.fetch_add(need, Ordering::SeqCst) + need;
                    assert!(together <= PERMITS, "{together} were admitted");
                    yield_now().await;
                    let mut count = shared.1.lock().await;
                    let before = *count;
                    yield_now().await;
                    *count = before + 1;
                    drop(count);
                    inside.fetch_sub(need, Ordering::SeqCst);
                    drop(permit);
                    progress.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    });
    assert_eq!(state(&shared.0), (PERMITS, 0));
    shared.1.check();
    assert_eq!(*shared.1.try_lock().unwrap(), ALL * ROUNDS);
}

#[test]
fn the_order_of_service_spans_all_runtimes() {
    const PLACES: usize = 25;
    let semaphore = Arc::new(Semaphore::new(0));
    let order = Arc::new(StdMutex::new(Vec::new()));
    let many = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let one = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (stop, stopped) = futures::channel::oneshot::channel::<()>();
    thread::scope(|scope| {
        let handle = one.handle().clone();
        scope.spawn(move || one.block_on(stopped).unwrap());
        for place in 0..PLACES {
            let (semaphore_of_waiter, order) = (semaphore.clone(), order.clone());
            let served = async move {
                let permit = semaphore_of_waiter.acquire().await.unwrap();
                order.lock().unwrap().push(place);
                drop(permit);
            };
            match place % 5 {
                0 => drop(many.spawn(served)),
                1 => drop(handle.spawn(served)),
                2 => drop(scope.spawn(|| {
                    let executor = async_executor::Executor::new();
                    futures::executor::block_on(executor.run(executor.spawn(served)));
                })),
                3 => drop(scope.spawn(|| futures::executor::block_on(served))),
                _ => drop(scope.spawn(|| blocking::wait(served))),
            }
            until(|| semaphore.waiters() == place + 1);
        }
        semaphore.add_permits(1);
        until(|| semaphore.available_permits() == 1);
        stop.send(()).unwrap();
    });
    assert_numbers(&order.lock().unwrap(), 0..PLACES);
    assert_eq!(state(&semaphore), (1, 0));
}

#[test]
fn a_close_reaches_every_runtime() {
    let semaphore = Arc::new(Semaphore::new(0));
    let refused = Arc::new(AtomicUsize::new(0));
    let progress = Arc::new(AtomicUsize::new(0));
    watched(&progress, &semaphore, || {
        thread::scope(|scope| {
            scope.spawn(|| {
                until(|| semaphore.waiters() == ALL);
                semaphore.close();
            });
            on_every_runtime(|_, _| {
                let (semaphore, refused) = (semaphore.clone(), refused.clone());
                async move {
                    assert!(semaphore.acquire().await.is_err());
                    refused.fetch_add(1, Ordering::SeqCst);
                }
            });
        });
    });
    assert_eq!((refused.load(Ordering::SeqCst), state(&semaphore)), (ALL, (0, 0)));
}

#[test]
fn tasks_that_are_aborted_lose_nothing() {
    const PERMITS: usize = 3;
    let semaphore = Arc::new(Semaphore::new(PERMITS));
    let mutex = Arc::new(Mutex::new(()));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let mut random = StdRng::seed_from_u64(3);
        for _ in 0..100 {
            let tasks: Vec<_> = (0..20)
                .map(|number| {
                    let (semaphore, mutex) = (semaphore.clone(), mutex.clone());
                    tokio::spawn(async move {
                        let _permit = semaphore.acquire_many(number % PERMITS + 1).await.unwrap();
                        tokio::task::yield_now().await;
                        let _guard = mutex.lock().await;
                        tokio::task::yield_now().await;
                    })
                })
                .collect();
            for task in &tasks {
                if random.random_bool(0.2) {
                    tokio::task::yield_now().await;
                }
                if random.random_bool(0.7) {
                    task.abort();
                }
            }
            for task in tasks {
                assert!(task.await.map_or_else(|error| error.is_cancelled(), |()| true));
            }
            assert_eq!(state(&semaphore), (PERMITS, 0));
            mutex.check();
            assert!(mutex.try_lock().is_ok());
        }
    });
}

#[test]
fn tokios_timeout_and_select_lose_nothing() {
    let semaphore = Arc::new(Semaphore::new(2));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    runtime.block_on(async {
        let tasks: Vec<_> = (0..16)
            .map(|number| {
                let semaphore = semaphore.clone();
                tokio::spawn(async move {
                    let mut random = StdRng::seed_from_u64(number);
                    for _ in 0..50 {
                        let patience = Duration::from_micros(random.random_range(0..200));
                        if let Ok(permit) = tokio::time::timeout(patience, semaphore.acquire()).await {
                            let _permit = permit.unwrap();
                            tokio::task::yield_now().await;
                        }
                        let _either = tokio::select! {
                            permit = semaphore.acquire_many(2) => permit.unwrap(),
                            permit = semaphore.acquire() => permit.unwrap(),
                        };
                        tokio::task::yield_now().await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    assert_eq!(state(&semaphore), (2, 0));
}

/// Uses up the budget of the tokio task that calls this, without yielding.
async fn exhaust_the_budget() {
    while tokio::task::coop::has_budget_remaining() {
        tokio::task::consume_budget().await;
    }
}

/// Why the pages advise `consume_budget` and not `cooperative`: the latter does not poll the future that it wraps.
#[test]
fn a_lock_keeps_its_place_without_budget_unless_cooperative() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let task = async {
        let mutex = Mutex::new(());
        let guard = mutex.lock().await;
        exhaust_the_budget().await;
        let mut unplaced = Box::pin(tokio::task::coop::cooperative(mutex.lock()));
        assert!(poll(&mut unplaced).is_pending());
        assert_eq!(mutex.waiters(), 0, "it would be enqueued behind the next");
        let mut advised = Box::pin(async {
            drop(mutex.lock().await);
            tokio::task::consume_budget().await;
        });
        assert!(poll(&mut advised).is_pending());
        assert_eq!(mutex.waiters(), 1);
        drop(guard);
        advised.await;
        drop(unplaced.await);
    };
    runtime.block_on(runtime.spawn(task)).unwrap();
}

#[test]
fn a_task_that_consumes_its_budget_after_each_lock_yields() {
    async fn rounds_until(flag: &AtomicUsize, mutex: &Mutex<()>, consume: bool) -> usize {
        let mut rounds = 0;
        while flag.load(Ordering::Relaxed) == 0 && rounds < 1_000 {
            drop(mutex.lock().await);
            if consume {
                tokio::task::consume_budget().await;
            }
            rounds += 1;
        }
        rounds
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for consume in [false, true] {
        let flag = Arc::new(AtomicUsize::new(0));
        let raised = flag.clone();
        let task = async move {
            let other = tokio::spawn(async move { raised.store(1, Ordering::Relaxed) });
            let rounds = rounds_until(&flag, &Mutex::new(()), consume).await;
            other.await.unwrap();
            rounds
        };
        let rounds = runtime.block_on(runtime.spawn(task)).unwrap();
        assert_eq!(rounds < 1_000, consume, "{rounds} rounds before the other task ran");
    }
}

#[test]
fn many_acquires_in_one_task_are_granted_in_order() {
    const ACQUIRES: usize = 200;
    let semaphore = Semaphore::new(1);
    let order = blocking::wait(async {
        let mut acquires: FuturesUnordered<_> = (0..ACQUIRES)
            .map(|_| {
                let mut acquire = semaphore.acquire();
                // They enqueue in this order; `FuturesUnordered` polls them in any order.
                (poll(&mut acquire), acquire)
            })
            .enumerate()
            .map(|(place, (first, acquire))| async move {
                let permit = match first {
                    Poll::Ready(permit) => permit,
                    Poll::Pending => acquire.await,
                };
                yield_now().await;
                drop(permit.unwrap());
                place
            })
            .collect();
        let mut order = Vec::new();
        while let Some(place) = acquires.next().await {
            order.push(place);
        }
        order
    });
    assert_numbers(&order, 0..ACQUIRES);
    assert_eq!(state(&semaphore), (1, 0));
}

#[test]
fn every_runtime_shares_one_priority_queue() {
    const ROUNDS: usize = 200;
    for queue in [PriorityQueue::unbounded(), PriorityQueue::bounded(3)] {
        let queue = Arc::new(queue);
        let sum = Arc::new(AtomicUsize::new(0));
        let progress = Arc::new(AtomicUsize::new(0));
        watched(&progress, &queue, || {
            on_every_runtime(|number, _| {
                let (queue, sum, progress) = (queue.clone(), sum.clone(), progress.clone());
                async move {
                    for round in 0..ROUNDS {
                        // On each runtime as many push as pop.
                        if number % 2 == 0 {
                            queue.push(round % 3, number * ROUNDS + round).await.unwrap();
                        } else {
                            let (_, item) = queue.pop().await.unwrap();
                            sum.fetch_add(item, Ordering::SeqCst);
                        }
                        progress.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        });
        let pushed = (0..ALL).step_by(2).flat_map(|number| number * ROUNDS..(number + 1) * ROUNDS);
        assert_eq!(sum.load(Ordering::SeqCst), pushed.sum());
        assert_eq!((queue.len(), queue.waiting_pops(), queue.waiting_pushes()), (0, 0, 0));
    }
}

#[test]
fn every_runtime_shares_one_task_queue() {
    const ROUNDS: usize = 100;
    for queue in [TaskQueue::unbounded(), TaskQueue::bounded(2)] {
        let queue = Arc::new(queue);
        let progress = Arc::new(AtomicUsize::new(0));
        let left = Arc::new(AtomicUsize::new(ALL / 2));
        watched(&progress, &queue, || {
            on_every_runtime(|number, _| {
                let (queue, progress, left) = (queue.clone(), progress.clone(), left.clone());
                async move {
                    if number % 2 == 0 {
                        return TaskQueue::clone(&queue).run().await;
                    }
                    for round in 0..ROUNDS {
                        let task = async move {
                            yield_now().await;
                            round * number
                        };
                        let handle = queue.submit(round % 3, task).await.unwrap();
                        assert_eq!(handle.await.unwrap(), round * number);
                        progress.fetch_add(1, Ordering::Relaxed);
                    }
                    if left.fetch_sub(1, Ordering::SeqCst) == 1 {
                        queue.close();
                    }
                }
            });
        });
        assert_eq!((queue.len(), queue.running(), progress.load(Ordering::Relaxed)), (0, 0, ALL / 2 * ROUNDS));
    }
}

#[test]
fn a_thousand_tasks_make_one_query() {
    const ASKERS: u64 = 1_000;
    let cache = Arc::new(LruCache::<String, u32>::new(10));
    let queries = Arc::new(AtomicUsize::new(0));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let ask = || {
            let (cache, queries) = (cache.clone(), queries.clone());
            async move {
                let query = || async {
                    queries.fetch_add(1, Ordering::SeqCst);
                    while cache.stats().misses < ASKERS {
                        tokio::task::yield_now().await;
                    }
                    5
                };
                cache.get_or_load("answer", query).await
            }
        };
        let tasks: Vec<_> = (0..ASKERS).map(|_| tokio::spawn(ask())).collect();
        for task in tasks {
            assert_eq!(task.await.unwrap(), 5);
        }
    });
    cache.check();
    let stats = cache.stats();
    assert_eq!((read(&queries), stats.loads, stats.misses, stats.hits), (1, 1, ASKERS, 0));
}

#[test]
fn every_runtime_shares_one_cache() {
    const ROUNDS: usize = 100;
    let cache = Arc::new(LruCache::builder(ROUNDS).shards(2).build());
    let loads = Arc::new(AtomicUsize::new(0));
    let progress = Arc::new(AtomicUsize::new(0));
    watched(&progress, &cache, || {
        on_every_runtime(|number, may_block| {
            let (cache, loads, progress) = (cache.clone(), loads.clone(), progress.clone());
            async move {
                for round in 0..ROUNDS {
                    let value = if may_block && number % 2 == 0 {
                        cache.get_or_insert_with(&(round / 2), || loads.fetch_add(1, Ordering::SeqCst))
                    } else {
                        let load = || async {
                            yield_now().await;
                            loads.fetch_add(1, Ordering::SeqCst)
                        };
                        cache.get_or_load(&(round / 2), load).await
                    };
                    assert!(value < ROUNDS / 2, "each is loaded once");
                    progress.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    });
    cache.check();
    assert_eq!((read(&loads), cache.stats().loads), (ROUNDS / 2, ROUNDS as u64 / 2));
}

// ---------------------------------------------------------------------------------------------------------------------
// Soaks
// ---------------------------------------------------------------------------------------------------------------------

/// A random operation on a semaphore of some permits, none of which is lost or left over.
async fn disturb(semaphore: &Arc<Semaphore>, permits: usize, random: &mut StdRng, may_block: bool) {
    let need = random.random_range(0..=permits);
    match random.random_range(0..12) {
        0..=2 => {
            let permit = semaphore.acquire_many(need).await.unwrap();
            for _ in 0..random.random_range(0..3) {
                yield_now().await;
            }
            assert_eq!(permit.num_permits(), need);
        }
        3 | 4 => {
            let patience = random.random_range(0..4);
            if let Some(permit) = with_patience(semaphore.acquire_many(need), patience).await {
                let _permit = permit.unwrap();
                yield_now().await;
            }
        }
        5 => {
            let patience = random.random_range(0..4);
            if let Some(permit) = with_patience(semaphore.clone().acquire_many_owned(need), patience).await {
                let mut permit = permit.unwrap();
                let part = permit.split(need / 2).unwrap();
                drop(permit);
                yield_now().await;
                assert_eq!(part.num_permits(), need / 2);
            }
        }
        6 => {
            let mut permit = after_a_change_of_waker(semaphore.acquire_many(need)).await.unwrap();
            let part = permit.split(need / 2).unwrap();
            yield_now().await;
            permit.merge(part);
        }
        7 => {
            if let Ok(permit) = semaphore.try_acquire_many(need) {
                yield_now().await;
                permit.forget();
                semaphore.add_permits(need);
            }
        }
        8 => {
            let taken = semaphore.forget_permits(need);
            yield_now().await;
            semaphore.add_permits(taken);
        }
        9 => {
            semaphore.reduce_permits(need);
            yield_now().await;
            semaphore.add_permits(need);
        }
        10 => {
            semaphore.add_permits(need);
            yield_now().await;
            semaphore.reduce_permits(need);
        }
        _ if may_block => {
            let patience = Duration::from_micros(random.random_range(0..100));
            drop(blocking::wait_timeout(semaphore.acquire_many(need), patience));
        }
        _ => {
            // The first of two; the other is dropped at any stage.
            let (one, two) = (semaphore.acquire_many(need), semaphore.clone().acquire_owned());
            match futures::future::select(one, two).await {
                futures::future::Either::Left((permit, _)) => drop(permit.unwrap()),
                futures::future::Either::Right((permit, _)) => drop(permit.unwrap()),
            }
        }
    }
}

#[test]
fn a_soak_of_a_semaphore_accounts_for_every_permit() {
    for permits in [1, 5, 40] {
        let semaphore = Arc::new(Semaphore::new(permits));
        let progress = Arc::new(AtomicUsize::new(0));
        let operations = operations() / 3 / ALL;
        watched(&progress, &semaphore, || {
            on_every_runtime(|number, may_block| {
                let (semaphore, progress) = (semaphore.clone(), progress.clone());
                async move {
                    let mut random = StdRng::seed_from_u64(number as u64);
                    for _ in 0..operations {
                        disturb(&semaphore, permits, &mut random, may_block).await;
                        progress.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        });
        assert_eq!(progress.load(Ordering::Relaxed), ALL * operations);
        assert_eq!((semaphore.available_permits(), semaphore.waiters()), (permits, 0));
        assert_eq!(Arc::strong_count(&semaphore), 1, "another handle is left");
        assert_eq!(semaphore.try_acquire_many(permits).unwrap().num_permits(), permits);
        semaphore.add_permits(1);
        assert_eq!(state(&semaphore), (permits + 1, 0), "nothing is owed");
    }
}

/// Adds one to the first of the pair in a random way, and returns true if it did.
async fn count(mutex: &Arc<Mutex<(usize, String)>>, random: &mut StdRng, may_block: bool) -> bool {
    match random.random_range(0..7) {
        0 => {
            let mut pair = mutex.lock().await;
            let before = pair.0;
            yield_now().await;
            pair.0 = before + 1;
        }
        1 => {
            let patience = random.random_range(0..4);
            let Some(mut pair) = with_patience(mutex.lock(), patience).await else { return false };
            pair.0 += 1;
        }
        2 => {
            let patience = random.random_range(0..4);
            let Some(pair) = with_patience(mutex.clone().lock_owned(), patience).await else { return false };
            let mut first = OwnedMutexGuard::map(pair, |pair| &mut pair.0);
            let before = *first;
            yield_now().await;
            *first = before + 1;
        }
        3 => {
            let mut first = MutexGuard::map(after_a_change_of_waker(mutex.lock()).await, |pair| &mut pair.0);
            *first += 1;
        }
        4 => {
            let Ok(mut pair) = mutex.try_lock() else { return false };
            pair.0 += 1;
        }
        5 if may_block => mutex.blocking_lock().0 += 1,
        6 if may_block => {
            let patience = Duration::from_micros(random.random_range(0..100));
            let Ok(mut pair) = blocking::wait_timeout(mutex.lock(), patience) else { return false };
            pair.0 += 1;
        }
        _ => {
            match futures::future::select(mutex.lock(), mutex.lock()).await {
                futures::future::Either::Left((mut pair, _)) | futures::future::Either::Right((mut pair, _)) => {
                    pair.0 += 1;
                }
            };
        }
    }
    true
}

#[test]
fn a_soak_of_a_mutex_counts_exactly() {
    let mutex = Arc::new(Mutex::new((0, String::new())));
    let (progress, counted) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let operations = operations() / ALL;
    watched(&progress, &mutex, || {
        on_every_runtime(|number, may_block| {
            let (mutex, progress, counted) = (mutex.clone(), progress.clone(), counted.clone());
            async move {
                let mut random = StdRng::seed_from_u64(number as u64);
                for _ in 0..operations {
                    let done = count(&mutex, &mut random, may_block).await;
                    counted.fetch_add(usize::from(done), Ordering::Relaxed);
                    progress.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    });
    mutex.check();
    assert_eq!((mutex.waiters(), Arc::strong_count(&mutex)), (0, 1));
    let (total, _) = Arc::into_inner(mutex).unwrap().into_inner();
    assert_eq!(total, counted.load(Ordering::Relaxed));
    assert!(total > ALL * operations / 4, "most of them count");
}

/// What became of the items of a priority queue.
#[derive(Debug, Default)]
struct Inventory {
    made: AtomicUsize,
    dropped: AtomicUsize,
    /// Left the queue by `pop`, `remove`, `drain`, a `force_push`; came back from a push that failed.
    popped: AtomicUsize,
    removed: AtomicUsize,
    drained: AtomicUsize,
    displaced: AtomicUsize,
    returned: AtomicUsize,
    /// Dropped with a push that was given up. Not every such push does that: its item may be in the queue by then.
    withdrawn: AtomicUsize,
    given_up: AtomicUsize,
}

fn add_one(count: &AtomicUsize) {
    count.fetch_add(1, Ordering::Relaxed);
}

fn read(count: &AtomicUsize) -> usize {
    count.load(Ordering::Relaxed)
}

impl Inventory {
    fn item(self: &Arc<Self>) -> Item {
        add_one(&self.made);
        Item { inventory: self.clone(), in_hand: false }
    }
}

struct Item {
    inventory: Arc<Inventory>,
    in_hand: bool,
}

impl Item {
    /// Drops it, as one of those that `count` is about.
    fn count(mut self, count: impl FnOnce(&Inventory) -> &AtomicUsize) {
        self.in_hand = true;
        add_one(count(&self.inventory));
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        add_one(&self.inventory.dropped);
        if !self.in_hand {
            add_one(&self.inventory.withdrawn);
        }
    }
}

type Items = PriorityQueue<u8, Item>;

/// A random operation on a priority queue. Those that must not wait keep the others from waiting for ever.
async fn shuffle_items(
    queue: &Items,
    inventory: &Arc<Inventory>,
    keys: &mut Vec<Key>,
    random: &mut StdRng,
    may_wait: bool,
    may_block: bool,
) {
    let priority = random.random_range(0..6);
    let patience = (!may_wait || random.random_bool(0.4)).then(|| random.random_range(0..6));
    let pushed = |keys: &mut Vec<Key>, outcome: Result<Key, Closed<(u8, Item)>>| match outcome {
        Ok(key) => keys.push(key),
        Err(Closed((_, item))) => item.count(|inventory| &inventory.returned),
    };
    match random.random_range(0..16) {
        0..=4 => match within(queue.push(priority, inventory.item()), patience).await {
            Some(outcome) => pushed(keys, outcome),
            None => add_one(&inventory.given_up),
        },
        5 => match queue.try_push(priority, inventory.item()) {
            Ok(key) => keys.push(key),
            Err(TryPushError::Full((_, item)) | TryPushError::Closed((_, item))) => {
                item.count(|inventory| &inventory.returned);
            }
        },
        6 => match queue.force_push(priority, inventory.item()) {
            Ok((key, displaced)) => {
                keys.push(key);
                if let Some((_, item)) = displaced {
                    item.count(|inventory| &inventory.displaced);
                }
            }
            Err(Closed((_, item))) => item.count(|inventory| &inventory.returned),
        },
        7..=9 => {
            if let Some(Some((_, item))) = within(queue.pop(), patience).await {
                item.count(|inventory| &inventory.popped);
            }
        }
        10 => match queue.try_pop() {
            Ok((_, item)) => item.count(|inventory| &inventory.popped),
            Err(TryPopError::Empty | TryPopError::Closed) => {}
        },
        11 => {
            let (limit, mut items) = (random.random_range(0..4), Vec::new());
            let count = within(queue.pop_many(&mut items, limit), patience).await;
            assert_eq!(count.unwrap_or(0), items.len());
            assert!(items.len() <= limit);
            items.into_iter().for_each(|(_, item)| item.count(|inventory| &inventory.popped));
        }
        12 => {
            let key = (!keys.is_empty()).then(|| keys.swap_remove(random.random_range(0..keys.len())));
            if let Some((_, item)) = key.and_then(|key| queue.remove(key)) {
                item.count(|inventory| &inventory.removed);
            }
        }
        13 => {
            for &key in keys.iter().rev().take(3) {
                queue.set_priority(key, priority);
            }
            let _ = queue.peek_priority();
        }
        14 if random.random_bool(0.1) => {
            for (_, item) in queue.drain() {
                item.count(|inventory| &inventory.drained);
            }
        }
        _ if may_block => {
            let patience = Duration::from_micros(random.random_range(0..100));
            if let Ok(Some((_, item))) = blocking::wait_timeout(queue.pop(), patience) {
                item.count(|inventory| &inventory.popped);
            }
            match blocking::wait_timeout(queue.push(priority, inventory.item()), patience) {
                Ok(outcome) => pushed(keys, outcome),
                Err(_) => add_one(&inventory.given_up),
            }
        }
        _ => {
            // The first of two; the other is dropped at any stage.
            let either = within(futures::future::select(queue.pop(), queue.pop()), patience);
            if let Some(either) = either.await {
                if let Some((_, item)) = either.factor_first().0 {
                    item.count(|inventory| &inventory.popped);
                }
            }
        }
    }
    keys.truncate(20);
    yield_now().await;
}

#[test]
fn a_soak_of_a_priority_queue_accounts_for_every_item() {
    for queue in [PriorityQueue::bounded(1), PriorityQueue::bounded(20), PriorityQueue::unbounded()] {
        let queue = Arc::new(queue);
        let inventory = Arc::new(Inventory::default());
        let progress = Arc::new(AtomicUsize::new(0));
        let operations = operations() / 3;
        watched(&progress, &queue, || {
            on_every_runtime(|number, may_block| {
                let (queue, inventory, progress) = (queue.clone(), inventory.clone(), progress.clone());
                async move {
                    let mut random = StdRng::seed_from_u64(number as u64);
                    let mut keys = Vec::new();
                    let may_wait = number % 4 > 0;
                    while !queue.is_closed() {
                        shuffle_items(&queue, &inventory, &mut keys, &mut random, may_wait, may_block).await;
                        if !may_wait {
                            // What they wait for may be on a thread that does not run.
                            thread::yield_now();
                        } else if progress.fetch_add(1, Ordering::Relaxed) == operations {
                            // In the midst of everything.
                            queue.close();
                        }
                    }
                    while let Some((_, item)) = queue.pop().await {
                        item.count(|inventory| &inventory.popped);
                    }
                }
            });
        });
        queue.validate();
        assert_eq!((queue.len(), queue.waiting_pops(), queue.waiting_pushes()), (0, 0, 0));
        let Inventory { made, dropped, popped, removed, drained, displaced, returned, withdrawn, given_up } =
            &*inventory;
        let left = [popped, removed, drained, displaced, returned, withdrawn].map(read);
        assert_eq!((read(made), read(made)), (left.iter().sum(), read(dropped)), "{inventory:?}");
        assert!(read(withdrawn) <= read(given_up), "{inventory:?}");
        // It was about something.
        assert!(read(popped) >= operations / 50, "{inventory:?}");
        let kinds = [removed, drained, displaced, returned].map(read);
        // Nothing leaves or comes back where there is always room.
        let kinds = &kinds[..if queue.capacity().is_some() { 4 } else { 2 }];
        assert!(kinds.iter().all(|count| *count >= operations / 10_000), "{inventory:?}");
    }
}

/// What became of the tasks of a task queue, and of their results.
#[derive(Debug, Default)]
struct Ledger {
    submitted: AtomicUsize,
    finished: AtomicUsize,
    panicked: AtomicUsize,
    cancelled: AtomicUsize,
    results: AtomicUsize,
    results_dropped: AtomicUsize,
}

/// How a task means to end, and then how it did.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Finish,
    Panic,
    /// It waits for ever, which is how it is cancelled.
    Never,
}

/// A task of some steps. A `Never` in `ended` stands for a task that was dropped before its end.
struct Errand {
    ledger: Arc<Ledger>,
    queue: TaskQueue<u8>,
    steps: usize,
    end: End,
    reached: bool,
    ended: Arc<StdMutex<Option<End>>>,
}

/// A result.
struct Receipt(Arc<Ledger>);

impl Drop for Receipt {
    fn drop(&mut self) {
        add_one(&self.0.results_dropped);
    }
}

impl Errand {
    fn new(queue: &TaskQueue<u8>, ledger: &Arc<Ledger>, steps: usize, end: End) -> Self {
        add_one(&ledger.submitted);
        Self { ledger: ledger.clone(), queue: queue.clone(), steps, end, reached: false, ended: Arc::default() }
    }
}

impl Future for Errand {
    type Output = Receipt;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Receipt> {
        assert!(!self.reached, "polled after its end");
        if self.steps > 0 {
            self.steps -= 1;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.end == End::Never {
            return Poll::Pending;
        }
        self.reached = true;
        if self.end == End::Panic {
            // Without a report.
            resume_unwind(Box::new("an errand"));
        }
        if self.ledger.submitted.load(Ordering::Relaxed) % 5 == 0 {
            drop(self.queue.try_submit(3, Self::new(&self.queue, &self.ledger, 1, End::Finish)));
        }
        add_one(&self.ledger.results);
        Poll::Ready(Receipt(self.ledger.clone()))
    }
}

impl Drop for Errand {
    fn drop(&mut self) {
        let end = if self.reached { self.end } else { End::Never };
        let before = self.ended.lock().unwrap().replace(end);
        assert_eq!(before, None, "dropped twice");
        add_one(match end {
            End::Finish => &self.ledger.finished,
            End::Panic => &self.ledger.panicked,
            End::Never => &self.ledger.cancelled,
        });
    }
}

/// A handle, and what its task says of its end.
type Errands = Vec<(TaskHandle<u8, Receipt>, Arc<StdMutex<Option<End>>>)>;

/// Whether the handle says of a task what the task itself said.
fn agree(outcome: Result<Receipt, TaskError>, ended: &StdMutex<Option<End>>) {
    let told = match outcome {
        Ok(_) => End::Finish,
        Err(TaskError::Panicked(_)) => End::Panic,
        Err(TaskError::Cancelled) => End::Never,
    };
    assert_eq!(*ended.lock().unwrap(), Some(told));
}

/// Submits a random task, and does random things to those submitted before.
async fn send_errands(
    queue: &TaskQueue<u8>,
    ledger: &Arc<Ledger>,
    errands: &mut Errands,
    random: &mut StdRng,
    may_block: bool,
) {
    let (priority, steps) = (random.random_range(0..6), random.random_range(0..4));
    let end = match random.random_range(0..10) {
        0 => End::Panic,
        // Another handle must be left to cancel it.
        1 => End::Never,
        _ => End::Finish,
    };
    let errand = Errand::new(queue, ledger, steps, end);
    let ended = errand.ended.clone();
    let submitted = match random.random_range(0..4) {
        0 => queue.try_submit(priority, errand).map_err(drop),
        1 if end != End::Never => {
            let patience = random.random_range(0..4);
            match with_patience(Box::pin(queue.submit(priority, errand)), patience).await {
                Some(submitted) => submitted.map_err(drop),
                None => return,
            }
        }
        2 if may_block => blocking::wait(queue.submit(priority, errand)).map_err(drop),
        _ => queue.submit(priority, errand).await.map_err(drop),
    };
    match submitted {
        Ok(handle) => errands.push((handle, ended)),
        Err(()) => assert_eq!(*ended.lock().unwrap(), Some(End::Never), "a refused task was dropped"),
    }
    while errands.len() > 4 {
        let (mut handle, ended) = errands.swap_remove(random.random_range(0..errands.len()));
        match random.random_range(0..6) {
            0 => {
                handle.cancel();
                handle.cancel();
            }
            1 => {
                let patience = random.random_range(0..6);
                match with_patience(&mut handle, patience).await {
                    Some(outcome) => {
                        agree(outcome, &ended);
                        continue;
                    }
                    None => handle.cancel(),
                }
            }
            2 => {
                handle.set_priority(priority);
                handle.cancel();
                drop(handle);
                continue;
            }
            3 => {
                handle.set_priority(priority);
                yield_now().await;
                handle.cancel();
            }
            // It has an end of its own, or is cancelled when the worker that runs it is dropped.
            4 => {
                drop(handle);
                continue;
            }
            _ => {}
        }
        assert!(!handle.is_finished() || ended.lock().unwrap().is_some());
        let outcome = after_a_change_of_waker(handle).await;
        agree(outcome, &ended);
    }
}

#[test]
fn a_soak_of_a_task_queue_accounts_for_every_task() {
    for queue in [TaskQueue::bounded(1), TaskQueue::bounded(10), TaskQueue::unbounded()] {
        let queue = Arc::new(queue);
        let ledger = Arc::new(Ledger::default());
        let progress = Arc::new(AtomicUsize::new(0));
        let left = Arc::new(AtomicUsize::new(ALL / 2));
        let operations = operations() / 3 / ALL;
        watched(&progress, &queue, || {
            on_every_runtime(|number, may_block| {
                let (queue, ledger, progress, left) = (queue.clone(), ledger.clone(), progress.clone(), left.clone());
                async move {
                    let mut random = StdRng::seed_from_u64(number as u64);
                    let queue = TaskQueue::clone(&queue);
                    if number % 2 == 0 {
                        // A worker is dropped in the middle of whatever it does, and another one comes.
                        let mut ended = false;
                        while !ended {
                            let run = queue.clone().run();
                            ended = if may_block {
                                let patience = Duration::from_micros(random.random_range(0..2_000));
                                blocking::wait_timeout(run, patience).is_ok()
                            } else {
                                with_patience(Box::pin(run), random.random_range(0..20)).await.is_some()
                            };
                            // What it would run may have to come from a thread that does not.
                            thread::yield_now();
                        }
                        return;
                    }
                    let mut errands = Errands::new();
                    for _ in 0..operations {
                        send_errands(&queue, &ledger, &mut errands, &mut random, may_block).await;
                        progress.fetch_add(1, Ordering::Relaxed);
                    }
                    for (handle, ended) in errands {
                        handle.cancel();
                        agree(handle.await, &ended);
                    }
                    if left.fetch_sub(1, Ordering::SeqCst) == 1 {
                        queue.idle().await;
                        assert_eq!((queue.len(), queue.running()), (0, 0));
                        queue.close();
                    }
                }
            });
        });
        let Ledger { submitted, finished, panicked, cancelled, results, results_dropped } = &*ledger;
        let ended = [finished, panicked, cancelled].map(read);
        assert_eq!(read(submitted), ended.iter().sum(), "{ledger:?}");
        assert_eq!((read(results), read(results)), (read(finished), read(results_dropped)), "{ledger:?}");
        assert!(ended.iter().all(|count| *count >= operations / 4), "{ledger:?}");
    }
}

/// One random way to add one to a number of a pool; whether it was done.
async fn count_in_pool(pool: &Arc<Pool<Fixed<usize>>>, random: &mut StdRng, may_block: bool) -> bool {
    let patience = random.random_bool(0.5).then(|| random.random_range(0..4));
    match random.random_range(0..7) {
        0 => {
            let Some(number) = within(pool.get(), patience).await else { return false };
            let mut number = number.unwrap();
            let before = *number;
            yield_now().await;
            *number = before + 1;
        }
        1 => {
            let Some(number) = within(pool.clone().get_owned(), patience).await else { return false };
            *number.unwrap() += 1;
        }
        2 => *after_a_change_of_waker(pool.get()).await.unwrap() += 1,
        3 => {
            let Some(mut number) = pool.try_get() else { return false };
            *number += 1;
        }
        4 => {
            let Some(number) = within(pool.get(), patience).await else { return false };
            let mut number = Object::detach(number.unwrap());
            yield_now().await;
            number += 1;
            pool.add(number).expect("its place was left free");
        }
        5 if may_block => {
            let patience = Duration::from_micros(random.random_range(0..100));
            let Ok(number) = blocking::wait_timeout(pool.get(), patience) else { return false };
            *number.unwrap() += 1;
        }
        _ => {
            let either = within(futures::future::select(pool.get(), pool.get()), patience).await;
            let Some(either) = either else { return false };
            *either.factor_first().0.unwrap() += 1;
        }
    }
    true
}

#[test]
fn a_soak_of_a_fixed_pool_counts_exactly() {
    for size in [1, 5, 30] {
        let pool = Arc::new(Pool::from_objects(vec![0; size]));
        let (progress, counted) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let operations = operations() / 3 / ALL;
        watched(&progress, &pool, || {
            on_every_runtime(|number, may_block| {
                let (pool, progress, counted) = (pool.clone(), progress.clone(), counted.clone());
                async move {
                    let mut random = StdRng::seed_from_u64(number as u64);
                    for _ in 0..operations {
                        let done = count_in_pool(&pool, &mut random, may_block).await;
                        counted.fetch_add(usize::from(done), Ordering::Relaxed);
                        progress.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        });
        let status = pool.status();
        assert_eq!((status.idle, status.size, status.waiting), (size, size, 0), "{status:?}");
        assert_eq!(Arc::strong_count(&pool), 1, "another handle is left");
        let numbers = pool.retain(|_, _| false);
        assert_eq!((numbers.len(), numbers.iter().sum::<usize>()), (size, read(&counted)));
        assert!(read(&counted) > ALL * operations / 4, "most of them count");
    }
}

/// Makes what a pool keeps. Whatever it does takes its time, and at random it fails or panics.
struct Factory {
    alive: Arc<Gauge>,
    random: StdMutex<StdRng>,
}

/// A created object; or one that was added, and is not counted.
#[derive(Default)]
struct Product {
    /// A creation is counted from its first poll. What leaves the pool alive is not counted any more.
    counted: Cell<Option<Counted>>,
    is_out: bool,
    uses: u64,
}

#[derive(Debug)]
struct Spoiled;

/// The payload of a panic.
struct OnPurpose;

fn panic_on_purpose() -> ! {
    // Without a report.
    resume_unwind(Box::new(OnPurpose))
}

impl Factory {
    async fn turn_out(&self) -> Result<(), Spoiled> {
        let (steps, fate) = {
            let mut random = self.random.lock().unwrap();
            (random.random_range(0..4), random.random_range(0..16))
        };
        for _ in 0..steps {
            yield_now().await;
        }
        match fate {
            0 => Err(Spoiled),
            1 => panic_on_purpose(),
            _ => Ok(()),
        }
    }
}

impl Manager for Factory {
    type Object = Product;
    type Error = Spoiled;

    async fn create(&self) -> Result<Product, Spoiled> {
        let counted = self.alive.count();
        self.turn_out().await?;
        Ok(Product { counted: Cell::new(Some(counted)), is_out: false, uses: 0 })
    }

    async fn recycle(&self, product: &mut Product, metrics: &Metrics) -> Result<(), Spoiled> {
        assert_eq!((product.is_out, product.uses), (false, metrics.uses));
        self.turn_out().await
    }

    fn is_broken(&self, product: &mut Product) -> bool {
        assert!(std::mem::take(&mut product.is_out), "it is asked once for each use");
        let fate = self.random.lock().unwrap().random_range(0..16);
        match fate {
            0 => true,
            1 => panic_on_purpose(),
            _ => false,
        }
    }
}

impl Product {
    fn take(&mut self, metrics: Metrics) {
        self.uses += 1;
        assert_eq!((self.is_out, self.uses), (false, metrics.uses));
        self.is_out = true;
    }
}

/// The outcomes of all gets.
#[derive(Debug, Default)]
struct Service {
    largest: usize,
    served: AtomicUsize,
    failed: AtomicUsize,
    refused: AtomicUsize,
    given_up: AtomicUsize,
    panicked: AtomicUsize,
}

/// Each look at it takes a millisecond.
struct Clock {
    start: Instant,
    looks: AtomicU64,
}

impl Clock {
    fn read(&self) -> Instant {
        self.start + Duration::from_millis(self.looks.fetch_add(1, Ordering::Relaxed))
    }

    /// It panics now and then.
    fn of_the_pool(self: &Arc<Self>) -> impl Fn() -> Instant + Send + Sync + 'static {
        let clock = self.clone();
        move || {
            let now = clock.read();
            if now.duration_since(clock.start).as_millis() % 256 == 0 { panic_on_purpose() } else { now }
        }
    }
}

impl Service {
    fn of<T>(&self, outcome: Option<Result<T, GetError<Spoiled>>>) -> Option<T> {
        let (count, object) = match outcome {
            Some(Ok(object)) => (&self.served, Some(object)),
            Some(Err(GetError::Create(Spoiled))) => (&self.failed, None),
            Some(Err(GetError::TooManyWaiting)) => (&self.refused, None),
            Some(Err(GetError::Closed)) => return None,
            None => (&self.given_up, None),
        };
        add_one(count);
        object
    }
}

fn taken<'a>(mut object: Object<'a, Factory>) -> Object<'a, Factory> {
    let metrics = Object::metrics(&object);
    object.take(metrics);
    object
}

fn taken_owned(mut object: OwnedObject<Factory>) -> OwnedObject<Factory> {
    let metrics = OwnedObject::metrics(&object);
    object.take(metrics);
    object
}

/// A random operation on a pool. Those that must not wait keep the others from waiting for ever.
async fn use_pool(
    pool: &Arc<Pool<Factory>>,
    service: &Service,
    clock: &Clock,
    kept: &mut Option<OwnedObject<Factory>>,
    random: &mut StdRng,
    may_wait: bool,
    may_block: bool,
) {
    if random.random_bool(0.5) {
        drop(kept.take());
    }
    let largest = service.largest;
    // No task waits for an object that it holds itself.
    let may_wait = may_wait && kept.is_none();
    let patience = (!may_wait || random.random_bool(0.4)).then(|| random.random_range(0..8));
    match random.random_range(0..24) {
        0..=3 => {
            if let Some(object) = service.of(within(pool.get(), patience).await) {
                let _object = taken(object);
                for _ in 0..random.random_range(0..3) {
                    yield_now().await;
                }
            }
        }
        4 | 5 => *kept = service.of(within(pool.clone().get_owned(), patience).await).map(taken_owned),
        6 if may_wait => drop(service.of(Some(after_a_change_of_waker(pool.get()).await)).map(taken)),
        7 => drop(pool.try_get().map(taken)),
        8 => *kept = pool.clone().try_get_owned().map(taken_owned),
        9 => {
            // The first of two; the other is dropped at any stage.
            let either = within(futures::future::select(pool.get(), pool.get()), patience).await;
            drop(service.of(either.map(|either| either.factor_first().0)).map(taken));
        }
        10 => service.of(within(pool.get(), patience).await).map(taken).into_iter().for_each(Object::discard),
        11 => {
            if let Some(object) = service.of(within(pool.get(), patience).await) {
                drop(object.counted.take());
                let mut product = Object::detach(taken(object));
                yield_now().await;
                (product.is_out, product.uses) = (false, 0);
                drop(pool.add(product));
            }
        }
        12 => drop(pool.add(Product::default())),
        13 if random.random_bool(0.1) => pool.clear(),
        14 if random.random_bool(0.3) => {
            let mut left = 0;
            let gone = pool.retain(|product, metrics| {
                assert_eq!((product.is_out, product.uses), (false, metrics.uses));
                let keep = metrics.uses % 3 > 0;
                if !keep {
                    drop(product.counted.take());
                    left += 1;
                }
                keep
            });
            assert_eq!(gone.len(), left);
        }
        15 if random.random_bool(0.3) => drop(pool.retain(|_, _| panic_on_purpose())),
        16 => {
            let now = clock.read();
            assert!(pool.maintain(now).is_none_or(|next| next > now));
        }
        17 | 18 => {
            if let Some(Err(Spoiled)) = within(Box::pin(pool.replenish()), patience.or(Some(20))).await {
                add_one(&service.failed);
            }
        }
        19 if !may_wait => {
            pool.resize(if random.random_bool(0.5) { largest } else { random.random_range(0..=largest) })
        }
        20 => {
            let status = pool.status();
            assert_eq!(status.size, status.idle + status.in_use + status.creating, "{status:?}");
            assert!(status.size <= largest && status.max_size <= largest, "{status:?}");
            pool.check();
        }
        21 => assert!(within(pool.closed(), Some(2)).await.is_none() || pool.is_closed()),
        22 if may_block => {
            let patience = Duration::from_micros(random.random_range(0..100));
            drop(service.of(blocking::wait_timeout(pool.get(), patience).ok()).map(taken));
        }
        _ => drop(kept.take()),
    }
    yield_now().await;
}

/// Something without a lifetime; what is worn out quickly; and what is rarely recycled.
fn pools(factory: impl Fn() -> Factory, clock: &Arc<Clock>) -> [(usize, PoolBuilder<Factory>); 3] {
    let [worn_out, idle_for_long, idle_for_short] = [20_000, 2_000, 500].map(Duration::from_millis);
    let worn = Pool::builder(factory()).max_size(5).min_idle(2).max_waiting(28).order(Order::Fifo);
    let rarely = Pool::builder(factory()).max_size(20).min_idle(8).idle_timeout(idle_for_long);
    [
        (1, Pool::builder(factory()).max_size(1)),
        (5, worn.max_lifetime(worn_out).idle_timeout(idle_for_long).clock(clock.of_the_pool())),
        (20, rarely.recycle_after(idle_for_short).clock(clock.of_the_pool())),
    ]
}

#[test]
fn a_soak_of_a_pool_accounts_for_every_object_and_slot() {
    let alive = Arc::new(Gauge::default());
    let factory = || Factory { alive: alive.clone(), random: StdMutex::new(StdRng::seed_from_u64(1)) };
    let clock = Arc::new(Clock { start: Instant::now(), looks: AtomicU64::new(1) });
    for (largest, builder) in pools(factory, &clock) {
        let pool = Arc::new(builder.build());
        let service = Arc::new(Service { largest, ..Service::default() });
        let progress = Arc::new(AtomicUsize::new(0));
        // Most operations give up before they are served.
        let goal = operations() / 60;
        watched(&progress, &pool, || {
            on_every_runtime(|number, may_block| {
                let (pool, service, clock, progress) = (pool.clone(), service.clone(), clock.clone(), progress.clone());
                async move {
                    let mut random = StdRng::seed_from_u64(number as u64);
                    let mut kept = None;
                    let may_wait = number % 6 > 0;
                    while !pool.is_closed() {
                        let used = use_pool(&pool, &service, &clock, &mut kept, &mut random, may_wait, may_block);
                        expect_panics(AssertUnwindSafe(used).catch_unwind().await, &service.panicked);
                        if !may_wait {
                            // What they wait for may be on a thread that does not run.
                            thread::yield_now();
                        }
                        progress.store(read(&service.served), Ordering::Relaxed);
                        if read(&service.served) >= goal {
                            // In the midst of everything.
                            pool.close();
                        }
                    }
                    expect_panics(catch_unwind(AssertUnwindSafe(|| drop(kept))), &service.panicked);
                    pool.closed().await;
                }
            });
        });
        pool.check();
        let status = pool.status();
        assert_eq!((status.size, status.waiting, Arc::strong_count(&pool)), (0, 0, 1), "{status:?}");
        let (now, most, made) = alive.read();
        assert_eq!(now, 0, "each of {made} is dropped");
        assert!(most <= largest, "{most} at a time");
        // It was about something.
        let kinds = [&service.failed, &service.given_up, &service.panicked].map(read);
        assert!(kinds.iter().all(|count| *count >= goal / 200), "{service:?}");
        assert_eq!(read(&service.refused) > 0, largest == 5, "{service:?}");
    }
}

fn expect_panics(outcome: thread::Result<()>, count: &AtomicUsize) {
    match outcome {
        Ok(()) => {}
        Err(payload) if payload.is::<OnPurpose>() => add_one(count),
        Err(payload) => resume_unwind(payload),
    }
}

/// The outcomes of all lookups and loads.
#[derive(Debug, Default)]
struct Lookups {
    asked: AtomicUsize,
    given_up: AtomicUsize,
    panicked: AtomicUsize,
    loaded: AtomicUsize,
    failed: AtomicUsize,
    abandoned: AtomicUsize,
    values: Arc<Gauge>,
}

/// A load that has begun, and is abandoned unless it comes to something.
struct Begun<'l>(&'l Lookups, bool);

/// A key, and one that is counted.
type Entry = Arc<(u8, Counted)>;

impl Lookups {
    fn entry(&self, key: u8) -> Entry {
        Arc::new((key, self.values.count()))
    }

    /// Counts one lookup, unless it is never polled.
    fn ask<'a, F: Future + Send + 'a>(&'a self, look_up: F) -> Pin<Box<dyn Future<Output = F::Output> + Send + 'a>> {
        Box::pin(async {
            add_one(&self.asked);
            look_up.await
        })
    }
}

impl Begun<'_> {
    /// How it ends, at random.
    fn end(mut self, key: u8, fate: u8) -> Result<Entry, Spoiled> {
        let (count, outcome) = match fate {
            0 => (&self.0.failed, Err(Spoiled)),
            1 => panic_on_purpose(),
            _ => (&self.0.loaded, Ok(self.0.entry(key))),
        };
        add_one(count);
        self.1 = true;
        outcome
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if !self.1 {
            add_one(&self.0.abandoned);
        }
    }
}

/// A random operation on a cache of a capacity.
async fn use_cache(
    cache: &LruCache<u8, Entry>,
    capacity: usize,
    lookups: &Lookups,
    random: &mut StdRng,
    may_block: bool,
) {
    let key = random.random_range(0..48_u8).min(random.random_range(0..48));
    let (steps, fate) = (random.random_range(0..5), random.random_range(0..10));
    let begin = |fate| {
        let begun = Begun(lookups, false);
        async move {
            for _ in 0..steps {
                yield_now().await;
            }
            begun.end(key, fate)
        }
    };
    let attempt = || begin(fate);
    // Some have errors of another type, and some cannot fail, and panic instead.
    let attempt_otherwise = || async { begin(fate).await.map_err(|Spoiled| ()) };
    let load = || async { begin(fate.max(1)).await.unwrap_or_else(|Spoiled| unreachable!("it panics")) };
    let patience = random.random_bool(0.4).then(|| random.random_range(0..8));
    let found = match random.random_range(0..32) {
        0..=4 => within(lookups.ask(cache.get_or_load(&key, load)), patience).await,
        5..=10 => within(lookups.ask(cache.try_get_or_load(&key, attempt)), patience).await.and_then(Result::ok),
        11..=13 => {
            within(lookups.ask(cache.try_get_or_load(&key, attempt_otherwise)), patience).await.and_then(Result::ok)
        }
        14 => Some(after_a_change_of_waker(lookups.ask(cache.get_or_load(&key, load))).await),
        15 | 16 => lookups.ask(async { cache.get(&key) }).await,
        17 => {
            // The first of two, which may be the one that waits; the other is dropped wherever it stands.
            let [one, other] = [load, load].map(|load| lookups.ask(cache.get_or_load(&key, load)));
            within(futures::future::select(one, other), Some(20)).await.map(|either| either.factor_first().0)
        }
        18 if may_block => {
            let look_up = || cache.get_or_insert_with(&key, || blocking::wait(load()));
            Some(lookups.ask(async { look_up() }).await)
        }
        19 if may_block => {
            let look_up = || cache.try_get_or_insert_with(&key, || blocking::wait(attempt()));
            lookups.ask(async { look_up() }).await.ok()
        }
        20 | 21 => cache.insert(key, lookups.entry(key)),
        22 | 23 => cache.remove(&key),
        24 => cache.remove_entry(&key).map(|(held, entry)| {
            assert_eq!(held, key);
            entry
        }),
        25 => cache.peek(&key),
        26 if random.random_bool(0.2) => {
            cache.clear();
            None
        }
        27 if random.random_bool(0.2) => {
            cache.retain(|key, entry| {
                assert_eq!(*key, entry.0);
                key % 3 > 0
            });
            None
        }
        28 => {
            assert!(cache.pop_lru().is_none_or(|(key, entry)| key == entry.0));
            None
        }
        29 => {
            cache.set_capacity(random.random_range(0..=capacity));
            None
        }
        _ => {
            cache.validate();
            None
        }
    };
    assert!(cache.len() <= capacity, "{cache:?}");
    match found {
        Some(entry) => assert_eq!(entry.0, key),
        None => add_one(&lookups.given_up),
    }
}

#[test]
fn a_soak_of_a_cache_accounts_for_every_load_and_value() {
    let clock = Arc::new(Clock { start: Instant::now(), looks: AtomicU64::new(1) });
    let timed = |builder: LruCacheBuilder<u8, Entry>| {
        let clock = clock.clone();
        builder.time_to_live(Duration::from_millis(500)).clock(move || clock.read())
    };
    let weighed = LruCache::builder(40).shards(4).weigher(|key: &u8, _: &Entry| 1 + u64::from(*key) % 12);
    for (capacity, builder) in [(3, LruCache::builder(3)), (20, timed(LruCache::builder(20))), (40, weighed)] {
        let reported = Arc::new(AtomicUsize::new(0));
        let listener = reported.clone();
        let cache = builder.on_evict(move |key, entry: Entry, cause| {
            assert_eq!(key, entry.0);
            if cause != Cause::Removed {
                add_one(&listener);
            }
        });
        let cache = Arc::new(cache.build());
        let lookups = Arc::new(Lookups::default());
        let progress = Arc::new(AtomicUsize::new(0));
        let operations = operations() / 3 / ALL;
        watched(&progress, &cache, || {
            on_every_runtime(|number, may_block| {
                let (cache, lookups, progress) = (cache.clone(), lookups.clone(), progress.clone());
                async move {
                    let mut random = StdRng::seed_from_u64(number as u64);
                    for _ in 0..operations {
                        let used = use_cache(&cache, capacity, &lookups, &mut random, may_block);
                        expect_panics(AssertUnwindSafe(used).catch_unwind().await, &lookups.panicked);
                        progress.fetch_add(1, Ordering::Relaxed);
                        yield_now().await;
                    }
                }
            });
        });
        cache.check();
        assert_eq!(cache.flights(), 0);
        let stats = cache.stats();
        let Lookups { asked, loaded, failed, abandoned, values, .. } = &*lookups;
        assert_eq!((stats.hits + stats.misses) as usize, read(asked), "{lookups:?}");
        let ends = [loaded, failed, abandoned].map(read);
        assert_eq!((stats.loads as usize, stats.load_failures as usize), (ends.iter().sum(), ends[1]), "{lookups:?}");
        assert_eq!((stats.evictions + stats.expirations) as usize, read(&reported));
        assert_eq!(values.read().0, cache.len(), "a value is kept elsewhere");
        assert_eq!(Arc::strong_count(&cache), 1, "another handle is left");
        drop(cache);
        assert_eq!(values.read().0, 0, "a value is not dropped");
        // It was about something.
        let enough = ALL * operations / 100;
        assert!(ends.iter().all(|count| *count > enough), "{lookups:?}");
        let counted = [stats.hits, stats.misses, stats.insertions, stats.evictions];
        assert!(counted.iter().all(|count| *count as usize > enough), "{stats:?}");
        assert!(read(&lookups.panicked) > enough / 10, "{lookups:?}");
    }
}
