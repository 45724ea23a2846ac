//! Threads that block, exclude each other, and panic with the lock.

use std::panic::{AssertUnwindSafe, catch_unwind};

use stanchion::blocking;

use crate::common::{Task, assert_numbers, until};
use crate::{is_free, shared};

#[test]
fn threads_and_tasks_wait_in_one_queue() {
    let mutex = shared(Vec::new());
    let guard = mutex.try_lock().unwrap();
    std::thread::scope(|scope| {
        let mut tasks = Vec::new();
        for place in 0..12 {
            let mutex_of_thread = mutex.clone();
            match place % 4 {
                0 => drop(scope.spawn(move || mutex_of_thread.blocking_lock().push(place))),
                1 => drop(scope.spawn(move || mutex_of_thread.blocking_lock_owned().push(place))),
                2 => drop(scope.spawn(move || blocking::wait(mutex_of_thread.lock()).push(place))),
                _ => {
                    let mutex = mutex.clone();
                    tasks.push(Task::waiting(Box::pin(async move { mutex.lock().await.push(place) })));
                }
            }
            // The next waiter is started when this one is queued.
            until(|| mutex.waiters() == place + 1);
        }
        drop(guard);
        for task in &mut tasks {
            until(|| task.wakes() == 1);
            task.ready();
        }
    });
    assert!(is_free(&mutex));
    assert_numbers(&mutex.try_lock().unwrap(), 0..12);
}

#[test]
fn threads_exclude_each_other() {
    const ROUNDS: usize = 2_000;
    let mutex = shared((0_usize, 0_usize));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    let mut pair = mutex.blocking_lock();
                    assert_eq!(pair.0, pair.1);
                    pair.0 += 1;
                    std::hint::black_box(&mut *pair);
                    pair.1 += 1;
                }
            });
        }
    });
    assert!(is_free(&mutex));
    assert_eq!(*mutex.try_lock().unwrap(), (4 * ROUNDS, 4 * ROUNDS));
}

#[test]
fn a_thread_that_panics_with_the_lock_grants_it_to_the_next() {
    let mutex = shared(0);
    let guard = mutex.try_lock().unwrap();
    std::thread::scope(|scope| {
        let panicking = scope.spawn(|| {
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                *mutex.blocking_lock() += 1;
                let _guard = mutex.blocking_lock();
                panic!("with the lock");
            }));
            assert!(outcome.is_err());
        });
        until(|| mutex.waiters() == 1);
        let next = scope.spawn(|| *mutex.blocking_lock() += 1);
        until(|| mutex.waiters() == 2);
        drop(guard);
        panicking.join().unwrap();
        next.join().unwrap();
    });
    assert!(is_free(&mutex));
    assert_eq!(*mutex.try_lock().unwrap(), 2);
}
