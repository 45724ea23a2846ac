//! One semaphore, and one mutex, used from several runtimes and plain threads.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex as StdMutex};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use stanchion::{Mutex, Semaphore, blocking};

use crate::common::{Check, assert_numbers, poll, state, until, watched, yield_now};
use crate::{ALL, on_every_runtime};

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
    const WAITERS: usize = 25;
    let semaphore = Arc::new(Semaphore::new(0));
    let order = Arc::new(StdMutex::new(Vec::new()));
    let many = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let one = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (stop, stopped) = futures::channel::oneshot::channel::<()>();
    thread::scope(|scope| {
        let handle = one.handle().clone();
        scope.spawn(move || one.block_on(stopped).unwrap());
        for waiter in 0..WAITERS {
            let (semaphore_of_waiter, order) = (semaphore.clone(), order.clone());
            let served = async move {
                let permit = semaphore_of_waiter.acquire().await.unwrap();
                order.lock().unwrap().push(waiter);
                drop(permit);
            };
            match waiter % 5 {
                0 => drop(many.spawn(served)),
                1 => drop(handle.spawn(served)),
                2 => drop(scope.spawn(|| {
                    let executor = async_executor::Executor::new();
                    futures::executor::block_on(executor.run(executor.spawn(served)));
                })),
                3 => drop(scope.spawn(|| futures::executor::block_on(served))),
                _ => drop(scope.spawn(|| blocking::wait(served))),
            }
            until(|| semaphore.waiters() == waiter + 1);
        }
        semaphore.add_permits(1);
        until(|| semaphore.available_permits() == 1);
        stop.send(()).unwrap();
    });
    assert_numbers(&order.lock().unwrap(), 0..WAITERS);
    assert_eq!(state(&semaphore), (1, 0));
}

#[test]
fn a_close_reaches_every_runtime() {
    let semaphore = Arc::new(Semaphore::new(0));
    let failures = Arc::new(AtomicUsize::new(0));
    let progress = Arc::new(AtomicUsize::new(0));
    watched(&progress, &semaphore, || {
        thread::scope(|scope| {
            scope.spawn(|| {
                until(|| semaphore.waiters() == ALL);
                semaphore.close();
            });
            on_every_runtime(|_, _| {
                let (semaphore, failures) = (semaphore.clone(), failures.clone());
                async move {
                    assert!(semaphore.acquire().await.is_err());
                    failures.fetch_add(1, Ordering::SeqCst);
                }
            });
        });
    });
    assert_eq!((failures.load(Ordering::SeqCst), state(&semaphore)), (ALL, (0, 0)));
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
            .map(|(number, (first, acquire))| async move {
                let permit = match first {
                    Poll::Ready(permit) => permit,
                    Poll::Pending => acquire.await,
                };
                yield_now().await;
                drop(permit.unwrap());
                number
            })
            .collect();
        let mut order = Vec::new();
        while let Some(number) = acquires.next().await {
            order.push(number);
        }
        order
    });
    assert_numbers(&order, 0..ACQUIRES);
    assert_eq!(state(&semaphore), (1, 0));
}
