//! One of each primitive under tokio (both kinds), smol, futures' executor and plain threads at the same time; and soaks
//! with random cancellation, whose length `STANCHION_SOAK=<operations>` sets.

#![cfg(not(loom))]

mod common;

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Mutex as StdMutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use common::{Check, assert_numbers, poll, state, until};
use futures::StreamExt;
use futures::executor::LocalPool;
use futures::stream::FuturesUnordered;
use futures::task::LocalSpawnExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use stanchion::{
    Closed, Key, Mutex, MutexGuard, OwnedMutexGuard, PriorityQueue, Semaphore, TaskError, TaskHandle, TaskQueue,
    TryPopError, TryPushError, TrySubmitError, blocking,
};

/// Tasks on each runtime, and plain threads.
const TASKS: usize = 8;
const THREADS: usize = 4;

/// All who take part.
const EVERYBODY: usize = 4 * TASKS + THREADS;

/// Runs `work` on every runtime at once, each with a number of its own and word whether it may block its thread.
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
            let executor = smol::Executor::new();
            let tasks: Vec<_> = tasks(2).map(|number| executor.spawn(work(number, false))).collect();
            smol::block_on(executor.run(async {
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
        for number in 4 * TASKS..EVERYBODY {
            let work = &work;
            scope.spawn(move || blocking::wait(work(number, true)));
        }
    });
}

/// Runs `body`, and aborts with a word about `shared` if nothing has moved for a long time: a lost wake-up is silent.
fn watched<T: std::fmt::Debug + Send + Sync + 'static>(
    progress: &Arc<AtomicUsize>,
    shared: &Arc<T>,
    body: impl FnOnce(),
) {
    let (done, is_done) = mpsc::channel::<()>();
    let (progress, shared) = (progress.clone(), shared.clone());
    let watch = thread::spawn(move || {
        let mut before = usize::MAX;
        while is_done.recv_timeout(Duration::from_secs(60)) == Err(mpsc::RecvTimeoutError::Timeout) {
            let now = progress.load(Ordering::Relaxed);
            if now == before {
                eprintln!("nothing has moved for a minute, after {now} operations: {shared:?}");
                std::process::abort();
            }
            before = now;
        }
    });
    let outcome = catch_unwind(AssertUnwindSafe(body));
    drop(done);
    watch.join().unwrap();
    outcome.unwrap_or_else(|payload| resume_unwind(payload));
}

/// How many operations a soak makes.
fn operations() -> usize {
    match std::env::var("STANCHION_SOAK") {
        Ok(number) => number.parse().expect("STANCHION_SOAK is a number of operations"),
        Err(_) => 200_000,
    }
}

/// Lets the others run, on whatever executor.
async fn yield_now() {
    let mut yielded = false;
    poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Polls at most `polls` times, letting the others run in between, and then gives up.
async fn with_patience<F: Future + Unpin>(mut future: F, polls: usize) -> Option<F::Output> {
    for _ in 0..polls {
        let outcome = poll_fn(|context| Poll::Ready(Pin::new(&mut future).poll(context))).await;
        if let Poll::Ready(output) = outcome {
            return Some(output);
        }
        yield_now().await;
    }
    None
}

/// As long as it takes, or at most so many polls.
async fn within<F: Future + Unpin>(future: F, polls: Option<usize>) -> Option<F::Output> {
    match polls {
        Some(polls) => with_patience(future, polls).await,
        None => Some(future.await),
    }
}

/// Polls once with a waker that wakes nobody, and then as everybody does.
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
    assert_eq!(*shared.1.try_lock().unwrap(), EVERYBODY * ROUNDS);
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
                2 => smol::spawn(served).detach(),
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
                until(|| semaphore.waiters() == EVERYBODY);
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
    assert_eq!((refused.load(Ordering::SeqCst), state(&semaphore)), (EVERYBODY, (0, 0)));
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

#[test]
fn many_acquires_in_one_task_are_served_in_order() {
    const ACQUIRES: usize = 200;
    let semaphore = Semaphore::new(1);
    let order = blocking::wait(async {
        let mut acquires: FuturesUnordered<_> = (0..ACQUIRES)
            .map(|_| {
                let mut acquire = semaphore.acquire();
                // They queue up in this order; `FuturesUnordered` polls them in whichever it likes.
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
        let pushed = (0..EVERYBODY).step_by(2).flat_map(|number| number * ROUNDS..(number + 1) * ROUNDS);
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
        let left = Arc::new(AtomicUsize::new(EVERYBODY / 2));
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
        assert_eq!((queue.len(), queue.running(), progress.load(Ordering::Relaxed)), (0, 0, EVERYBODY / 2 * ROUNDS));
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Soaks
// ---------------------------------------------------------------------------------------------------------------------

/// One random thing that one can do with a semaphore of some permits, of which none is lost or left over.
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
            // The first of two, the other is dropped wherever it stands.
            let (one, two) = (semaphore.acquire_many(need), semaphore.clone().acquire_owned());
            match futures::future::select(one, two).await {
                futures::future::Either::Left((permit, _)) => drop(permit.unwrap()),
                futures::future::Either::Right((permit, _)) => drop(permit.unwrap()),
            }
        }
    }
}

#[test]
fn a_soak_with_random_cancellation_ends_with_every_permit_accounted_for() {
    for permits in [1, 5, 40] {
        let semaphore = Arc::new(Semaphore::new(permits));
        let progress = Arc::new(AtomicUsize::new(0));
        let operations = operations() / 3 / EVERYBODY;
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
        assert_eq!(progress.load(Ordering::Relaxed), EVERYBODY * operations);
        assert_eq!((semaphore.available_permits(), semaphore.waiters()), (permits, 0));
        assert_eq!(Arc::strong_count(&semaphore), 1, "somebody still holds on to it");
        assert_eq!(semaphore.try_acquire_many(permits).unwrap().num_permits(), permits);
        semaphore.add_permits(1);
        assert_eq!(state(&semaphore), (permits + 1, 0), "nothing is owed");
    }
}

/// One random way to add one to the first of the pair; whether it was done.
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
    let operations = operations() / EVERYBODY;
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
    assert!(total > EVERYBODY * operations / 4, "most of them count");
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

/// One random thing that one can do with a priority queue. Those who must not wait keep the others from waiting for ever.
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
            // The first of two, the other is dropped wherever it stands.
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
fn a_soak_of_a_priority_queue_ends_with_every_item_accounted_for() {
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
        #[cfg(debug_assertions)]
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
        // Somebody has to stay who cancels it.
        1 => End::Never,
        _ => End::Finish,
    };
    let errand = Errand::new(queue, ledger, steps, end);
    let ended = errand.ended.clone();
    let submitted = match random.random_range(0..4) {
        0 => queue.try_submit(priority, errand),
        1 if end != End::Never => {
            let patience = random.random_range(0..4);
            match with_patience(Box::pin(queue.submit(priority, errand)), patience).await {
                Some(submitted) => submitted,
                None => return,
            }
        }
        2 if may_block => blocking::wait(queue.submit(priority, errand)),
        _ => queue.submit(priority, errand).await,
    };
    match submitted {
        Ok(handle) => errands.push((handle, ended)),
        Err(TrySubmitError::Full) => assert_eq!(*ended.lock().unwrap(), Some(End::Never)),
        Err(TrySubmitError::Closed) => panic!("nobody has closed it"),
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
fn a_soak_of_a_task_queue_ends_with_every_task_accounted_for() {
    for queue in [TaskQueue::bounded(1), TaskQueue::bounded(10), TaskQueue::unbounded()] {
        let queue = Arc::new(queue);
        let ledger = Arc::new(Ledger::default());
        let progress = Arc::new(AtomicUsize::new(0));
        let left = Arc::new(AtomicUsize::new(EVERYBODY / 2));
        let operations = operations() / 3 / EVERYBODY;
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
