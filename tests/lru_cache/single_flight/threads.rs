//! Threads and tasks that load together.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use super::{Caller, End, Fails, Got, KEY, Red, assert_in_flight, counts};
use crate::Cache;
use crate::common::{panic_of, until};

#[test]
fn threads_and_tasks_share_one_queue() {
    let cache = Cache::new(10);
    let leader = Caller::leading(&cache, Fails::Never);
    let waiting = AtomicUsize::new(1);
    let joined = |number: usize| {
        until(|| cache.stats().misses == number as u64);
        waiting.store(number, Ordering::SeqCst);
    };
    thread::scope(|scope| {
        let (begin, begun) = mpsc::channel::<()>();
        let first = scope.spawn(|| {
            cache.get_or_insert_with(&KEY, || {
                drop(begin);
                until(|| waiting.load(Ordering::SeqCst) == 5);
                4
            })
        });
        joined(2);
        let mut task = Caller::following(&cache, Fails::Blue);
        joined(3);
        let second = scope.spawn(|| cache.try_get_or_insert_with(&KEY, || -> Result<u32, Red> { unreachable!() }));
        joined(4);
        drop(leader);
        // The thread that came first runs its own loader.
        assert_eq!(begun.recv(), Err(mpsc::RecvError));
        task.follows();
        let mut late = Caller::following(&cache, Fails::Never);
        joined(5);
        assert_eq!((first.join().unwrap(), second.join().unwrap()), (4, Ok(4)));
        assert_eq!([task.served(), late.served()], [Got::Value(4), Got::Value(4)]);
    });
    assert_in_flight(&cache, 0);
    assert_eq!(counts(&cache), [0, 5, 2, 0, 1]);
}

#[test]
fn a_task_takes_over_from_a_thread() {
    let cache = Cache::new(10);
    let (fail, failed) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let cache = &cache;
        let thread = scope.spawn(move || {
            panic_of(|| {
                cache.get_or_insert_with(&KEY, || {
                    failed.recv().unwrap();
                    panic!("the load panics");
                })
            })
        });
        until(|| cache.stats().loads == 1);
        let mut task = Caller::following(cache, Fails::Red);
        fail.send(()).unwrap();
        assert_eq!(thread.join().unwrap(), "the load panics");
        assert_eq!(task.wakes(), 1);
        task.takes_the_lead();
        assert_eq!(task.ends(End::Value(5)), Got::Value(5));
    });
    assert_in_flight(&cache, 0);
    assert_eq!(counts(&cache), [0, 2, 2, 0, 1]);
}

#[test]
fn an_error_of_a_thread_reaches_the_tasks() {
    let cache = Cache::new(10);
    let (fail, failed) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            cache.try_get_or_insert_with(&KEY, move || {
                failed.recv().unwrap();
                Err(Red(1))
            })
        });
        until(|| cache.stats().loads == 1);
        let [mut same, mut other] = [Fails::Red, Fails::Blue].map(|fails| Caller::following(&cache, fails));
        fail.send(()).unwrap();
        let error = thread.join().unwrap().expect_err("it fails");
        assert!(same.served().is(&Got::Red(error)));
        assert_eq!(other.wakes(), 1);
        other.takes_the_lead();
        assert_eq!(other.ends(End::Value(5)), Got::Value(5));
    });
    assert_in_flight(&cache, 0);
}

#[test]
fn an_insert_serves_threads() {
    let cache = Cache::new(10);
    let leader = Caller::leading(&cache, Fails::Never);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| cache.get_or_insert_with(&KEY, || unreachable!("the leader loads"))))
            .collect();
        until(|| cache.stats().misses == 4);
        cache.insert(KEY, 9);
        threads.into_iter().for_each(|thread| assert_eq!(thread.join().unwrap(), 9));
    });
    drop(leader);
    assert_in_flight(&cache, 0);
}

#[test]
fn threads_start_over_after_a_stale_load() {
    let cache = Cache::new(10);
    let leader = Caller::leading(&cache, Fails::Never);
    let calls = AtomicUsize::new(0);
    thread::scope(|scope| {
        let call = || {
            cache.get_or_insert_with(&KEY, || {
                calls.fetch_add(1, Ordering::SeqCst);
                9
            })
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(call)).collect();
        until(|| cache.stats().misses == 5);
        cache.remove(&KEY);
        drop(leader);
        threads.into_iter().for_each(|thread| assert_eq!(thread.join().unwrap(), 9));
    });
    assert_in_flight(&cache, 0);
    assert_eq!((calls.into_inner(), counts(&cache)), (1, [0, 5, 2, 0, 1]));
}
