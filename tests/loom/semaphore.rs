//! Models of `Semaphore`, and through it of the wait list and the blocking wait.

use loom::thread;
use stanchion::{Semaphore, TryAcquireError, blocking};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::support::{Count, Data, models, poll, poll_noop};

models![
    2: release_racing_enqueue,
    2: exclusion_of_two,
    3: exclusion_of_three,
    2: exclusion_by_try,
    3: freeze_and_thaw_carry_a_release,
    2: repoll_racing_grant,
    3: cancel_while_queued,
    3: cancel_racing_grant,
    3: two_releases_two_waiters,
    4: two_releasers_two_waiters,
    3: head_of_line_cancel,
    3: close_racing_acquire_and_release,
    3: close_racing_grant,
    2: close_racing_enqueue,
    2: close_publishes,
    3: reduce_racing_release,
    3: debt_comes_before_waiters,
    3: forget_racing_acquire,
    3: try_acquire_never_barges,
    2: try_acquire_is_not_fooled_by_a_freeze,
    3: more_served_than_a_batch_holds,
    2: owned_permit_returned_elsewhere,
    2: blocking_threads_take_turns,
    2: timeouts_end_at_once_or_never,
];

/// The lost wake-up. Guards the freeze in `locked` (`fetch_or(FROZEN)` before the permits are read): without it the
/// release takes the fast path between the decision and the enqueue, and the waiter waits for ever.
fn release_racing_enqueue() {
    let semaphore = Arc::new(Semaphore::new(1));
    let permit = semaphore.clone().try_acquire_owned().unwrap();
    let waiter = thread::spawn({
        let semaphore = semaphore.clone();
        move || drop(blocking::wait(semaphore.acquire()).unwrap())
    });
    drop(permit);
    waiter.join().unwrap();
    semaphore.validate();
    assert_eq!((semaphore.available_permits(), semaphore.waiters()), (1, 0));
}

fn exclusion(threads: usize) {
    let semaphore = Arc::new(Semaphore::new(1));
    let data = Data::new();
    let work = {
        let (semaphore, data) = (semaphore.clone(), data.clone());
        move || {
            let permit = blocking::wait(semaphore.acquire()).unwrap();
            data.increment();
            drop(permit);
        }
    };
    let others: Vec<_> = (1..threads).map(|_| thread::spawn(work.clone())).collect();
    work();
    others.into_iter().for_each(|other| other.join().unwrap());
    semaphore.validate();
    assert_eq!((data.get(), semaphore.available_permits()), (threads, 1));
}

/// Guards `Release` in `release` and `Acquire` in `take_fast`: one holder's writes are seen by the next.
fn exclusion_of_two() {
    exclusion(2);
}

/// As above, when permits travel through the queue.
fn exclusion_of_three() {
    exclusion(3);
}

/// Guards the orderings of the fast paths where no lock helps: there are no waiters.
fn exclusion_by_try() {
    let semaphore = Arc::new(Semaphore::new(1));
    let data = Data::new();
    let work = {
        let (semaphore, data) = (semaphore.clone(), data.clone());
        move || {
            if let Ok(permit) = semaphore.try_acquire() {
                data.increment();
                drop(permit);
            }
        }
    };
    let other = thread::spawn(work.clone());
    work();
    other.join().unwrap();
    assert_eq!(semaphore.available_permits(), 1);
}

/// A permit that was returned on the fast path, then moved under the lock by an unrelated call, then taken on the
/// fast path. Guards `Acquire` in the freeze and `Release` in the thaw.
fn freeze_and_thaw_carry_a_release() {
    let semaphore = Arc::new(Semaphore::new(1));
    let data = Data::new();
    let permit = semaphore.clone().try_acquire_owned().unwrap();
    let releaser = thread::spawn({
        let data = data.clone();
        move || {
            data.increment();
            drop(permit);
        }
    });
    let bystander = thread::spawn({
        let semaphore = semaphore.clone();
        move || assert_eq!(semaphore.forget_permits(0), 0)
    });
    if let Ok(permit) = semaphore.try_acquire() {
        data.increment();
        drop(permit);
    }
    releaser.join().unwrap();
    bystander.join().unwrap();
    assert_eq!(semaphore.available_permits(), 1);
}

/// A waiter is polled with a new waker while it is being granted. Guards the second attempt after the clone in
/// `TaskWaker::poll_with`, and the exchange of the waker in `TaskWaker::register`.
fn repoll_racing_grant() {
    let semaphore = Arc::new(Semaphore::new(0));
    let releaser = thread::spawn({
        let semaphore = semaphore.clone();
        move || semaphore.add_permits(1)
    });
    let mut acquire = semaphore.acquire();
    let (_, first) = Count::new();
    if poll(&mut acquire, &first).is_pending() {
        // The wait registers wakers of its own; if the first one were kept, it would never end.
        drop(blocking::wait(acquire).unwrap());
    }
    releaser.join().unwrap();
    semaphore.validate();
    assert_eq!(semaphore.available_permits(), 1);
}

/// A waiter cancels while a permit is released and another waits behind it. Guards `WaitList::remove` and the freeze in
/// `cancel`.
fn cancel_while_queued() {
    let semaphore = Arc::new(Semaphore::new(1));
    let permit = semaphore.clone().try_acquire_owned().unwrap();
    let canceller = thread::spawn({
        let semaphore = semaphore.clone();
        move || {
            let mut acquire = semaphore.acquire();
            let _ = poll_noop(&mut acquire);
        }
    });
    let waiter = thread::spawn({
        let semaphore = semaphore.clone();
        move || drop(blocking::wait(semaphore.acquire()).unwrap())
    });
    drop(permit);
    canceller.join().unwrap();
    waiter.join().unwrap();
    semaphore.validate();
    assert_eq!((semaphore.available_permits(), semaphore.waiters()), (1, 0));
}

/// The head cancels while it is granted, with another waiter behind it. Guards `give` in `cancel`: without it the permit is
/// lost and the second waiter waits for ever.
fn cancel_racing_grant() {
    let semaphore = Arc::new(Semaphore::new(0));
    let mut first = semaphore.clone().acquire_owned();
    let mut second = semaphore.clone().acquire_owned();
    assert!(poll_noop(&mut first).is_pending() && poll_noop(&mut second).is_pending());
    let releaser = thread::spawn({
        let semaphore = semaphore.clone();
        move || semaphore.add_permits(1)
    });
    let canceller = thread::spawn(move || drop(first));
    drop(blocking::wait(second).unwrap());
    releaser.join().unwrap();
    canceller.join().unwrap();
    semaphore.validate();
    assert_eq!((semaphore.available_permits(), semaphore.waiters()), (1, 0));
}

/// Each of two releases serves one of two waiters. Guards `grant_while` and the waking after the unlock.
fn two_releases_two_waiters() {
    let semaphore = Arc::new(Semaphore::new(0));
    let waiters = [0, 1].map(|_| {
        let semaphore = semaphore.clone();
        thread::spawn(move || blocking::wait(semaphore.acquire()).unwrap().forget())
    });
    semaphore.add_permits(1);
    semaphore.add_permits(1);
    waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
    semaphore.validate();
    assert_eq!((semaphore.available_permits(), semaphore.waiters()), (0, 0));
}

/// The same with the releases on two threads.
fn two_releasers_two_waiters() {
    let semaphore = Arc::new(Semaphore::new(0));
    let mut first = semaphore.clone().acquire_owned();
    assert!(poll_noop(&mut first).is_pending());
    let releasers = [0, 1].map(|_| {
        let semaphore = semaphore.clone();
        thread::spawn(move || semaphore.add_permits(1))
    });
    let second = thread::spawn({
        let semaphore = semaphore.clone();
        move || blocking::wait(semaphore.acquire()).unwrap().forget()
    });
    blocking::wait(first).unwrap().forget();
    second.join().unwrap();
    releasers.into_iter().for_each(|releaser| releaser.join().unwrap());
    semaphore.validate();
    assert_eq!((semaphore.available_permits(), semaphore.waiters()), (0, 0));
}

/// The head needs five with three free and cancels; the next needs two. Guards `serve` in `cancel`: without it the second
/// waits although it fits.
fn head_of_line_cancel() {
    let semaphore = Arc::new(Semaphore::new(2));
    let mut head = semaphore.clone().acquire_many_owned(5);
    assert!(poll_noop(&mut head).is_pending());
    let canceller = thread::spawn(move || drop(head));
    let releaser = thread::spawn({
        let semaphore = semaphore.clone();
        move || semaphore.add_permits(1)
    });
    drop(blocking::wait(semaphore.acquire_many(2)).unwrap());
    canceller.join().unwrap();
    releaser.join().unwrap();
    semaphore.validate();
    assert_eq!((semaphore.available_permits(), semaphore.waiters()), (3, 0));
}

/// A granted waiter gets its permit, another one an error, and nothing is lost. Guards the check of `closed` in `take` and
/// the splice in `WaitList::close`.
fn close_racing_acquire_and_release() {
    let semaphore = Arc::new(Semaphore::new(1));
    let permit = semaphore.clone().try_acquire_owned().unwrap();
    let waiter = thread::spawn({
        let semaphore = semaphore.clone();
        move || blocking::wait(semaphore.acquire()).map(drop).is_ok()
    });
    let closer = thread::spawn({
        let semaphore = semaphore.clone();
        move || semaphore.close()
    });
    drop(permit);
    let _ = waiter.join().unwrap();
    closer.join().unwrap();
    semaphore.validate();
    assert!(semaphore.is_closed());
    assert_eq!((semaphore.available_permits(), semaphore.waiters()), (1, 0));
    assert_eq!(semaphore.try_acquire().err(), Some(TryAcquireError::Closed));
}

/// A queued waiter is granted or closed, never both, never neither, and woken once.
fn close_racing_grant() {
    let semaphore = Arc::new(Semaphore::new(0));
    let mut acquire = semaphore.clone().acquire_owned();
    let (count, waker) = Count::new();
    assert!(poll(&mut acquire, &waker).is_pending());
    let closer = thread::spawn({
        let semaphore = semaphore.clone();
        move || semaphore.close()
    });
    let releaser = thread::spawn({
        let semaphore = semaphore.clone();
        move || semaphore.add_permits(1)
    });
    closer.join().unwrap();
    releaser.join().unwrap();
    assert_eq!(count.get(), 1);
    let permits = match poll_noop(&mut acquire) {
        Poll::Ready(Ok(permit)) => permit.num_permits(),
        Poll::Ready(Err(_)) => semaphore.available_permits(),
        Poll::Pending => panic!("woken without need"),
    };
    assert_eq!(permits, 1);
    semaphore.validate();
}

/// A waiter in the queue is woken by the close, a later one does not wait. Guards the splice in `WaitList::close`: nothing
/// else would wake the waiter.
fn close_racing_enqueue() {
    let semaphore = Arc::new(Semaphore::new(0));
    let waiter = thread::spawn({
        let semaphore = semaphore.clone();
        move || blocking::wait(semaphore.acquire()).is_err()
    });
    semaphore.close();
    assert!(waiter.join().unwrap());
    semaphore.validate();
}

/// A call that observes the close observes what preceded it. Guards `Acquire` in `is_closed` and in `try_take_slow`.
fn close_publishes() {
    let semaphore = Arc::new(Semaphore::new(0));
    let data = Data::new();
    let observer = thread::spawn({
        let (semaphore, data) = (semaphore.clone(), data.clone());
        move || {
            if semaphore.try_acquire().err() == Some(TryAcquireError::Closed) {
                assert_eq!(data.get(), 1);
            }
            if semaphore.is_closed() {
                assert_eq!(data.get(), 1);
            }
        }
    });
    data.increment();
    semaphore.close();
    observer.join().unwrap();
}

/// A reduction takes away each permit exactly once, free now or returned later.
fn reduce_racing_release() {
    let semaphore = Arc::new(Semaphore::new(2));
    let permit = semaphore.clone().try_acquire_owned().unwrap();
    let reducers = [0, 1].map(|_| {
        let semaphore = semaphore.clone();
        thread::spawn(move || semaphore.reduce_permits(1))
    });
    drop(permit);
    reducers.into_iter().for_each(|reducer| reducer.join().unwrap());
    semaphore.validate();
    assert_eq!(semaphore.available_permits(), 0);
    semaphore.add_permits(1);
    assert_eq!(semaphore.available_permits(), 1, "the debt is paid");
}

/// A debt is paid before a waiter is served. Guards `paid` in `give`.
fn debt_comes_before_waiters() {
    let semaphore = Arc::new(Semaphore::new(0));
    semaphore.reduce_permits(1);
    let waiter = thread::spawn({
        let semaphore = semaphore.clone();
        move || blocking::wait(semaphore.acquire()).unwrap().forget()
    });
    let releaser = thread::spawn({
        let semaphore = semaphore.clone();
        move || semaphore.add_permits(1)
    });
    semaphore.add_permits(1);
    waiter.join().unwrap();
    releaser.join().unwrap();
    semaphore.validate();
    assert_eq!((semaphore.available_permits(), semaphore.waiters()), (0, 0));
}

/// A free permit is forgotten or acquired, not both.
fn forget_racing_acquire() {
    let semaphore = Arc::new(Semaphore::new(1));
    let forgetter = thread::spawn({
        let semaphore = semaphore.clone();
        move || semaphore.forget_permits(1)
    });
    let taker = thread::spawn({
        let semaphore = semaphore.clone();
        move || semaphore.try_acquire().map_or(0, |permit| (permit.num_permits(), permit.forget()).0)
    });
    let taken = semaphore.try_acquire().map_or(0, |permit| (permit.num_permits(), permit.forget()).0);
    assert_eq!(taken + forgetter.join().unwrap() + taker.join().unwrap(), 1);
    semaphore.validate();
    assert_eq!(semaphore.available_permits(), 0);
}

/// While a future waits, free and returned permits are for it. Guards the check for waiters in `take` and the demand of the
/// fast path that `FROZEN` be clear.
fn try_acquire_never_barges() {
    let semaphore = Arc::new(Semaphore::new(2));
    let permit = semaphore.clone().try_acquire_owned().unwrap();
    let mut first = semaphore.clone().acquire_many_owned(2);
    assert!(poll_noop(&mut first).is_pending());
    let releaser = thread::spawn(move || drop(permit));
    let barger = thread::spawn({
        let semaphore = semaphore.clone();
        move || assert_eq!(semaphore.try_acquire().err(), Some(TryAcquireError::NoPermits))
    });
    blocking::wait(first).unwrap().forget();
    releaser.join().unwrap();
    barger.join().unwrap();
    semaphore.validate();
}

/// A frozen word is no reason to fail: the permit is free. Guards the locking in `try_take_slow`.
fn try_acquire_is_not_fooled_by_a_freeze() {
    let semaphore = Arc::new(Semaphore::new(2));
    let bystander = thread::spawn({
        let semaphore = semaphore.clone();
        move || assert_eq!(semaphore.forget_permits(1), 1)
    });
    assert!(semaphore.try_acquire().is_ok());
    bystander.join().unwrap();
    assert_eq!(semaphore.available_permits(), 1);
}

/// Four are granted at once and the batch holds two (under loom): the third waits meanwhile, the fourth is cancelled.
/// Guards the refill in `wake`, without which the third waits for ever, and the list that `remove` chooses.
fn more_served_than_a_batch_holds() {
    let semaphore = Arc::new(Semaphore::new(0));
    let mut waiters = [0, 1, 2, 3].map(|_| semaphore.clone().acquire_owned());
    let counts = [0, 1, 2, 3].map(|_| Count::new());
    for (waiter, (_, waker)) in waiters.iter_mut().zip(&counts) {
        assert!(poll(waiter, waker).is_pending());
    }
    let [first, second, third, fourth] = waiters;
    let waiter = thread::spawn(move || blocking::wait(third).unwrap().forget());
    let canceller = thread::spawn(move || drop(fourth));
    semaphore.add_permits(4);
    waiter.join().unwrap();
    canceller.join().unwrap();
    assert_eq!([counts[0].0.get(), counts[1].0.get()], [1, 1]);
    drop((first, second));
    semaphore.validate();
    assert_eq!((semaphore.available_permits(), semaphore.waiters()), (3, 0));
}

/// A permit may be dropped by another thread, which may hold the last handle.
fn owned_permit_returned_elsewhere() {
    let semaphore = Arc::new(Semaphore::new(1));
    let permit = semaphore.clone().try_acquire_owned().unwrap();
    let other = thread::spawn(move || drop(permit));
    let permit = blocking::wait(semaphore.acquire_owned()).unwrap();
    assert_eq!(permit.num_permits(), 1);
    other.join().unwrap();
}

/// Guards the flag of the parker: set under its lock, checked before sleeping.
fn blocking_threads_take_turns() {
    let semaphore = Arc::new(Semaphore::new(1));
    let work = {
        let semaphore = semaphore.clone();
        move || {
            drop(blocking::wait(semaphore.acquire()).unwrap());
        }
    };
    let other = thread::spawn(work.clone());
    work();
    other.join().unwrap();
    semaphore.validate();
    assert_eq!(semaphore.available_permits(), 1);
}

/// Guards `deadline_after` and `deadline_at` in `sync`: if a clock were read, loom would meet other interleavings than it
/// recorded, and say so. A wait that ends at once polls once, and its waiter cancels.
fn timeouts_end_at_once_or_never() {
    let semaphore = Arc::new(Semaphore::new(0));
    let releaser = thread::spawn({
        let semaphore = semaphore.clone();
        move || semaphore.add_permits(1)
    });
    let at_once = blocking::wait_timeout(semaphore.acquire(), Duration::ZERO);
    let passed = blocking::wait_until(semaphore.acquire(), Instant::now());
    let granted = usize::from(at_once.is_ok()) + usize::from(passed.is_ok());
    drop((at_once, passed));
    let never = blocking::wait_timeout(semaphore.acquire(), Duration::from_nanos(1));
    never.expect("it does not elapse").expect("it is not closed").forget();
    releaser.join().unwrap();
    semaphore.validate();
    assert!(granted <= 1, "there is one permit");
    assert_eq!((semaphore.available_permits(), semaphore.waiters()), (0, 0));
}
