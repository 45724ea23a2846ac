//! Models of `Mutex`. Loom tracks its data cell.

use loom::alloc::Track;
use loom::thread;
use stanchion::{MappedMutexGuard, Mutex, MutexGuard, blocking};
use std::sync::Arc;

use crate::support::{models, poll_noop};

models![
    2: mutual_exclusion_of_two,
    3: mutual_exclusion_of_three,
    2: hand_off,
    2: try_lock_excludes,
    3: lock_cancelled_while_handed_over,
    2: owned_guards_exclude_and_free,
    2: mapped_guard_unlocks_once,
];

fn exclusion(threads: usize) {
    let mutex = Arc::new(Mutex::new(Track::new(0)));
    let work = {
        let mutex = mutex.clone();
        move || *mutex.blocking_lock().get_mut() += 1
    };
    let others: Vec<_> = (1..threads).map(|_| thread::spawn(work.clone())).collect();
    work();
    others.into_iter().for_each(|other| other.join().unwrap());
    mutex.validate();
    assert_eq!(*mutex.try_lock().unwrap().get_ref(), threads);
}

/// Guards `Acquire` in `take_sole` and `Release` in `release_sole`, over the tracked cell.
fn mutual_exclusion_of_two() {
    exclusion(2);
}

/// As above with a waiter in the queue.
fn mutual_exclusion_of_three() {
    exclusion(3);
}

/// The lock goes to the waiter, which sees the writes of the holder. Guards the failure path of `release_sole`.
fn hand_off() {
    let mutex = Arc::new(Mutex::new(0));
    let mut guard = mutex.try_lock().unwrap();
    let waiter = thread::spawn({
        let mutex = mutex.clone();
        move || *mutex.blocking_lock() += 1
    });
    *guard += 1;
    drop(guard);
    waiter.join().unwrap();
    mutex.validate();
    assert_eq!(*mutex.try_lock().unwrap(), 2);
}

/// Neither of two threads that try sees the other's unfinished work.
fn try_lock_excludes() {
    let mutex = Arc::new(Mutex::new(0));
    let work = {
        let mutex = mutex.clone();
        move || mutex.try_lock().map_or(0, |mut value| (*value += 1, 1).1)
    };
    let other = thread::spawn(work.clone());
    let done = work() + other.join().unwrap();
    assert!(done >= 1);
    assert_eq!(*mutex.try_lock().unwrap(), done);
}

/// A lock future dropped while the lock is handed to it, with another waiter behind it.
fn lock_cancelled_while_handed_over() {
    let mutex = Arc::new(Mutex::new(0));
    let mut first = mutex.clone().lock_owned();
    let mut second = mutex.clone().lock_owned();
    let guard = mutex.clone().try_lock_owned().unwrap();
    assert!(poll_noop(&mut first).is_pending() && poll_noop(&mut second).is_pending());
    let holder = thread::spawn(move || drop(guard));
    let canceller = thread::spawn(move || drop(first));
    *blocking::wait(second) += 1;
    holder.join().unwrap();
    canceller.join().unwrap();
    mutex.validate();
    assert_eq!(*mutex.try_lock().unwrap(), 1);
}

/// Owned guards exclude each other, and the value is dropped with the last of them: loom's `Track` sees a leak.
fn owned_guards_exclude_and_free() {
    let mutex = Arc::new(Mutex::new(Track::new(0)));
    let other = thread::spawn({
        let mutex = mutex.clone();
        move || *mutex.blocking_lock_owned().get_mut() += 1
    });
    *mutex.blocking_lock_owned().get_mut() += 1;
    other.join().unwrap();
}

/// The right moves from guard to mapped guard, and is given back once.
fn mapped_guard_unlocks_once() {
    let mutex = Arc::new(Mutex::new((0, 0)));
    let work = {
        let mutex = mutex.clone();
        move || {
            let guard = MutexGuard::map(mutex.blocking_lock(), |pair| &mut pair.1);
            let mut guard = MappedMutexGuard::try_map(guard, |second| (*second >= 0).then_some(second)).unwrap();
            *guard += 1;
        }
    };
    let other = thread::spawn(work.clone());
    work();
    other.join().unwrap();
    mutex.validate();
    assert_eq!(*mutex.try_lock().unwrap(), (0, 2));
}
