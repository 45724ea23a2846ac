//! Waiting on a thread without a runtime: for any future, with or without a deadline, in one queue with tasks.

#![cfg(not(loom))]

mod common;

use std::cell::Cell;
use std::future::{Future, pending, poll_fn, ready};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex as StdMutex, mpsc};
use std::task::{Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use common::{Check, Counter, Task, assert_numbers, ends, panic_of, poll, state, until};
use stanchion::blocking::{self, Elapsed};
use stanchion::{Mutex, Semaphore};

/// A future that is ready at its `n`-th poll and wakes itself at each poll before.
fn ready_at(n: usize, polls: &Cell<usize>) -> impl Future<Output = usize> {
    poll_fn(move |context| {
        polls.set(polls.get() + 1);
        if polls.get() >= n {
            return Poll::Ready(polls.get());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
}

/// Notes that it is dropped.
struct Witness<'a>(&'a Cell<bool>);

impl Drop for Witness<'_> {
    fn drop(&mut self) {
        self.0.set(true);
    }
}

#[test]
fn a_ready_future_is_not_waited_for() {
    assert_eq!(blocking::wait(ready(1)), 1);
    assert_eq!(blocking::wait_timeout(ready(2), Duration::MAX), Ok(2));
    assert_eq!(blocking::wait_until(ready(3), Instant::now()), Ok(3));
    assert_eq!(blocking::wait(async { [ready(4).await, ready(5).await] }), [4, 5]);
}

#[test]
fn a_future_may_borrow_and_need_not_move_between_threads() {
    let number = std::rc::Rc::new(Cell::new(1));
    blocking::wait(async {
        number.set(number.get() + 1);
    });
    assert_eq!(number.get(), 2);
}

#[test]
fn a_future_that_wakes_itself_is_polled_again() {
    for polls in 1..10 {
        assert_eq!(blocking::wait(ready_at(polls, &Cell::new(0))), polls);
        assert_eq!(blocking::wait_timeout(ready_at(polls, &Cell::new(0)), Duration::MAX), Ok(polls));
    }
}

#[test]
fn another_thread_wakes() {
    let semaphore = Semaphore::new(0);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| blocking::wait(semaphore.acquire()).unwrap().forget());
        until(|| semaphore.waiters() == 1);
        semaphore.add_permits(1);
        waiting.join().unwrap();
    });
    assert_eq!(state(&semaphore), (0, 0));
}

#[test]
fn another_thread_wakes_many_times() {
    let semaphores = [Semaphore::new(0), Semaphore::new(0)];
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..1_000 {
                blocking::wait(semaphores[0].acquire()).unwrap().forget();
                semaphores[1].add_permits(1);
            }
        });
        for _ in 0..1_000 {
            semaphores[0].add_permits(1);
            blocking::wait(semaphores[1].acquire()).unwrap().forget();
        }
    });
    assert_eq!(semaphores.each_ref().map(state), [(0, 0), (0, 0)]);
}

#[test]
fn close_ends_the_wait_of_a_thread() {
    let semaphore = Semaphore::new(0);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| blocking::wait(semaphore.acquire()).is_err());
        until(|| semaphore.waiters() == 1);
        semaphore.close();
        assert!(waiting.join().unwrap());
    });
}

#[test]
fn a_timeout_of_zero_polls_nevertheless() {
    let semaphore = Semaphore::new(1);
    assert!(blocking::wait_timeout(semaphore.acquire(), Duration::ZERO).unwrap().is_ok());
    assert!(blocking::wait_until(semaphore.acquire(), Instant::now()).unwrap().is_ok());
    assert_eq!(state(&semaphore), (1, 0));
    let polls = Cell::new(0);
    let counted = poll_fn(|_| {
        polls.set(polls.get() + 1);
        Poll::<()>::Pending
    });
    assert_eq!(blocking::wait_timeout(counted, Duration::ZERO), Err(Elapsed));
    assert!(polls.get() >= 1);
}

#[test]
fn a_thread_that_was_woken_once_sleeps_again() {
    let polls = Cell::new(0);
    let woken_once = poll_fn(|cx| {
        polls.set(polls.get() + 1);
        if polls.get() == 1 {
            cx.waker().wake_by_ref();
        }
        Poll::<()>::Pending
    });
    assert_eq!(blocking::wait_timeout(woken_once, Duration::from_millis(20)), Err(Elapsed));
    // At once, for the wake, and at the deadline; a condition variable may wake by itself now and then.
    assert!(polls.get() < 20, "polled {} times", polls.get());
}

#[test]
fn a_deadline_that_has_passed_polls_nevertheless() {
    let past = Instant::now();
    until(|| Instant::now() > past);
    assert_eq!(blocking::wait_until(ready(1), past), Ok(1));
    assert_eq!(blocking::wait_until(pending::<()>(), past), Err(Elapsed));
}

#[test]
fn a_wait_for_nothing_elapses() {
    let semaphore = Semaphore::new(0);
    let began = Instant::now();
    let short = Duration::from_millis(5);
    assert_eq!(blocking::wait_timeout(semaphore.acquire(), short).unwrap_err(), Elapsed);
    assert!(began.elapsed() >= short, "not before its time");
    let deadline = Instant::now() + short;
    assert_eq!(blocking::wait_until(semaphore.acquire(), deadline).unwrap_err(), Elapsed);
    assert!(Instant::now() >= deadline, "not before its time");
    assert_eq!(state(&semaphore), (0, 0));
}

#[test]
fn a_thread_sleeps_until_its_deadline_without_polling() {
    let polls = Cell::new(0);
    let never = poll_fn(|_| {
        polls.set(polls.get() + 1);
        Poll::<()>::Pending
    });
    assert_eq!(blocking::wait_timeout(never, Duration::from_millis(5)).unwrap_err(), Elapsed);
    assert!(polls.get() <= 2, "at once, and after the deadline: not {} times", polls.get());
}

#[test]
fn a_future_may_keep_the_waker_of_its_first_poll() {
    for timeout in [None, Some(Duration::MAX)] {
        let (first, is_ready) = (Arc::new(StdMutex::new(None::<Waker>)), Arc::new(AtomicBool::new(false)));
        let (kept, ready) = (first.clone(), is_ready.clone());
        let future = poll_fn(move |context| {
            if ready.load(Ordering::SeqCst) {
                return Poll::Ready(());
            }
            kept.lock().unwrap().get_or_insert_with(|| context.waker().clone());
            Poll::Pending
        });
        let waits = move || match timeout {
            None => blocking::wait(future),
            Some(timeout) => blocking::wait_timeout(future, timeout).unwrap(),
        };
        thread::scope(|scope| {
            scope.spawn(|| {
                until(|| first.lock().unwrap().is_some());
                is_ready.store(true, Ordering::SeqCst);
                first.lock().unwrap().take().unwrap().wake();
            });
            ends(waits);
        });
    }
}

#[test]
fn a_huge_timeout_waits() {
    let huge =
        [Duration::MAX, Duration::from_secs(u64::MAX), Duration::from_secs(u64::MAX / 2), Duration::from_secs(1 << 40)];
    for timeout in huge {
        let semaphore = Semaphore::new(0);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| blocking::wait_timeout(semaphore.acquire(), timeout).map(|got| got.is_ok()));
            until(|| semaphore.waiters() == 1);
            // Time to return early, in case it does.
            for _ in 0..100 {
                thread::yield_now();
                assert!(!waiting.is_finished() && semaphore.waiters() == 1);
            }
            semaphore.add_permits(1);
            assert_eq!(waiting.join().unwrap(), Ok(true));
        });
    }
}

#[test]
fn a_wait_that_ends_in_time_returns_the_output() {
    let semaphore = Semaphore::new(0);
    thread::scope(|scope| {
        let deadline = Instant::now() + Duration::from_secs(3_600);
        let first = scope.spawn(|| blocking::wait_timeout(semaphore.acquire(), Duration::from_secs(3_600)).is_ok());
        let second = scope.spawn({
            let semaphore = &semaphore;
            move || blocking::wait_until(semaphore.acquire(), deadline).is_ok()
        });
        until(|| semaphore.waiters() == 2);
        semaphore.add_permits(2);
        assert!(first.join().unwrap() && second.join().unwrap());
    });
}

#[test]
fn a_future_that_elapses_is_dropped_before_the_return() {
    let dropped = Cell::new(false);
    let witness = Witness(&dropped);
    let future = async {
        let _witness = witness;
        pending::<()>().await;
    };
    assert_eq!(blocking::wait_timeout(future, Duration::ZERO), Err(Elapsed));
    assert!(dropped.get());
}

#[test]
fn an_acquire_that_elapses_is_cancelled() {
    let semaphore = Semaphore::new(3);
    thread::scope(|scope| {
        assert!(blocking::wait_timeout(semaphore.acquire_many(5), Duration::ZERO).is_err());
        assert_eq!(state(&semaphore), (3, 0));
        let head = Task::waiting(semaphore.acquire_many(4));
        let next = scope.spawn(|| blocking::wait(semaphore.acquire_many(2)).is_ok());
        until(|| semaphore.waiters() == 2);
        assert!(blocking::wait_timeout(semaphore.acquire(), Duration::ZERO).is_err());
        assert_eq!(state(&semaphore), (3, 2));
        drop(head);
        assert!(next.join().unwrap());
    });
    assert_eq!(state(&semaphore), (3, 0));
}

#[test]
fn a_granted_acquire_that_elapses_passes_the_grant_on() {
    let semaphore = Semaphore::new(0);
    let mut next = Task::new(semaphore.acquire());
    {
        let mut acquire = semaphore.acquire();
        // Granted, but its thread is not woken: the deadline has passed when it polls again.
        let unaware = poll_fn(|_| {
            if semaphore.waiters() == 0 {
                assert!(poll(&mut acquire).is_pending() && next.is_pending());
                semaphore.add_permits(1);
            }
            Poll::<()>::Pending
        });
        assert_eq!(blocking::wait_timeout(unaware, Duration::ZERO), Err(Elapsed));
        assert_eq!(next.wakes(), 0);
    }
    assert_eq!(next.wakes(), 1);
    drop(next.ready().unwrap());
    assert_eq!(state(&semaphore), (1, 0));
}

/// The same by a race: whichever is first, no permit is lost.
#[test]
fn a_timeout_that_races_with_a_grant_loses_no_permit() {
    let semaphore = Semaphore::new(0);
    thread::scope(|scope| {
        for round in 0..300 {
            let waiting =
                scope.spawn(|| match blocking::wait_timeout(semaphore.acquire(), Duration::from_micros(50)) {
                    Ok(permit) => permit.unwrap().forget(),
                    Err(Elapsed) => until(|| semaphore.forget_permits(1) == 1),
                });
            for _ in 0..round {
                thread::yield_now();
            }
            semaphore.add_permits(1);
            waiting.join().unwrap();
            assert_eq!(state(&semaphore), (0, 0));
        }
    });
}

/// A future that keeps waking itself must not keep its thread from the deadline.
#[test]
fn a_future_that_always_wakes_itself_elapses_nevertheless() {
    const ENOUGH: usize = 1_000_000;
    let polls = Cell::new(0);
    assert_eq!(blocking::wait_timeout(ready_at(ENOUGH, &polls), Duration::ZERO), Err(Elapsed));
    assert!(polls.get() >= 1 && polls.get() < ENOUGH);
}

#[test]
fn parking_and_unparking_in_the_future_do_no_harm() {
    let polls = Cell::new(0);
    let outcome = blocking::wait(poll_fn(|context| {
        polls.set(polls.get() + 1);
        context.waker().wake_by_ref();
        // Consumes an unpark that may be meant for the wait.
        thread::park_timeout(Duration::ZERO);
        if polls.get() == 10 { Poll::Ready("through") } else { Poll::Pending }
    }));
    assert_eq!(outcome, "through");
}

#[test]
fn unparking_the_thread_from_elsewhere_does_not_end_its_wait() {
    let semaphore = Semaphore::new(0);
    let polls = AtomicUsize::new(0);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            thread::current().unpark();
            let mut acquire = pin!(semaphore.acquire());
            blocking::wait(poll_fn(|context| {
                polls.fetch_add(1, Ordering::SeqCst);
                acquire.as_mut().poll(context)
            }))
            .unwrap()
            .forget();
        });
        until(|| semaphore.waiters() == 1);
        for _ in 0..100 {
            waiting.thread().unpark();
            thread::yield_now();
        }
        assert_eq!(semaphore.waiters(), 1);
        assert!(!waiting.is_finished());
        assert!(polls.load(Ordering::SeqCst) <= 2, "polled without having been woken");
        semaphore.add_permits(1);
        waiting.join().unwrap();
    });
}

#[test]
fn a_wait_within_a_wait() {
    let (inner, outer) = (Semaphore::new(0), Semaphore::new(0));
    thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            blocking::wait(async {
                let first = blocking::wait(async { blocking::wait(inner.acquire()).unwrap().num_permits() });
                outer.acquire().await.unwrap().forget();
                first + blocking::wait(inner.acquire_many(2)).unwrap().num_permits()
            })
        });
        until(|| inner.waiters() == 1);
        inner.add_permits(1);
        until(|| outer.waiters() == 1);
        inner.add_permits(1);
        outer.add_permits(1);
        assert_eq!(waiting.join().unwrap(), 3);
    });
    assert_eq!((state(&inner), state(&outer)), ((2, 0), (0, 0)));
}

#[test]
fn a_wake_that_comes_during_a_wait_within_the_wait_is_not_lost() {
    let (inner, outer) = (Semaphore::new(0), Semaphore::new(0));
    thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let mut acquire = pin!(outer.acquire());
            let mut polls = 0;
            blocking::wait(poll_fn(|context| {
                polls += 1;
                let poll = acquire.as_mut().poll(context);
                match polls {
                    1 => context.waker().wake_by_ref(),
                    // While this waits for its own, the outer one is granted.
                    2 => blocking::wait(inner.acquire()).unwrap().forget(),
                    _ => {}
                }
                poll
            }))
            .unwrap()
            .forget();
        });
        until(|| outer.waiters() == 1 && inner.waiters() == 1);
        outer.add_permits(1);
        until(|| outer.waiters() == 0);
        for _ in 0..100 {
            thread::yield_now();
        }
        assert_eq!(inner.waiters(), 1, "the wake of the outer wait ended the inner one");
        inner.add_permits(1);
        waiting.join().unwrap();
    });
    assert_eq!((state(&inner), state(&outer)), ((0, 0), (0, 0)));
}

#[test]
fn a_waker_may_be_kept_and_used_after_the_wait() {
    let (sender, receiver) = mpsc::channel::<Waker>();
    for _ in 0..2 {
        let polls = Cell::new(0);
        let sender = sender.clone();
        blocking::wait(poll_fn(move |context| {
            sender.send(context.waker().clone()).unwrap();
            polls.set(polls.get() + 1);
            context.waker().wake_by_ref();
            if polls.get() == 3 { Poll::Ready(()) } else { Poll::Pending }
        }));
    }
    let wakers: Vec<Waker> = receiver.try_iter().collect();
    assert_eq!(wakers.len(), 6);
    thread::spawn(move || wakers.into_iter().for_each(Waker::wake)).join().unwrap();
    assert_eq!(blocking::wait_timeout(pending::<()>(), Duration::ZERO), Err(Elapsed), "an old wake ends no new wait");
}

#[test]
fn a_future_that_panics_panics_here_and_is_dropped() {
    let dropped = Cell::new(false);
    let witness = Witness(&dropped);
    let message = panic_of(|| {
        blocking::wait(async {
            let _witness = witness;
            poll_fn(|context| {
                context.waker().wake_by_ref();
                panic!("in the future");
                #[allow(unreachable_code)]
                Poll::<()>::Pending
            })
            .await;
        });
    });
    assert_eq!((message.as_str(), dropped.get()), ("in the future", true));
    assert_eq!(blocking::wait(ready(1)), 1);
}

#[test]
fn threads_and_tasks_are_granted_in_one_order() {
    let semaphore = Arc::new(Semaphore::new(0));
    let order = Arc::new(Mutex::new(Vec::new()));
    thread::scope(|scope| {
        let mut tasks = Vec::new();
        for place in 0..9 {
            let (semaphore_of_waiter, order) = (semaphore.clone(), order.clone());
            if place % 3 == 0 {
                tasks.push(Task::waiting(Box::pin(async move {
                    let permit = semaphore_of_waiter.acquire_many(place % 2 + 1).await.unwrap();
                    order.lock().await.push(place);
                    drop(permit);
                })));
            } else {
                scope.spawn(move || {
                    let permit = if place % 3 == 1 {
                        blocking::wait(semaphore_of_waiter.acquire_many_owned(place % 2 + 1)).unwrap()
                    } else {
                        let timeout = Duration::from_secs(3_600);
                        blocking::wait_timeout(semaphore_of_waiter.acquire_many_owned(2), timeout).unwrap().unwrap()
                    };
                    order.blocking_lock().push(place);
                    drop(permit);
                });
            }
            until(|| semaphore.waiters() == place + 1);
        }
        // Never enough for two at once.
        semaphore.add_permits(2);
        for task in &mut tasks {
            until(|| task.wakes() == 1);
            task.ready();
        }
    });
    assert_eq!(state(&semaphore), (2, 0));
    order.check();
    assert_numbers(&order.try_lock().unwrap(), 0..9);
}

#[test]
fn elapsed_is_an_error() {
    let error: Box<dyn std::error::Error + Send + Sync> = Box::new(Elapsed);
    assert!(error.to_string().contains("time") && error.source().is_none());
    assert_eq!(format!("{:?}", Elapsed), "Elapsed");
    let copy = Elapsed;
    assert_eq!(Elapsed, copy);
}

#[test]
fn a_thread_holds_its_waker_no_longer_than_it_waits() {
    struct Kept(#[allow(dead_code)] Arc<Counter>);
    impl Wake for Kept {
        fn wake(self: Arc<Self>) {}
    }
    let semaphore = Semaphore::new(0);
    let mut other = semaphore.acquire();
    let counter = Arc::new(Counter::default());
    assert!(common::poll_with(&mut other, &Waker::from(Arc::new(Kept(counter.clone())))).is_pending());
    assert!(blocking::wait_timeout(&mut other, Duration::ZERO).is_err());
    assert_eq!(Arc::strong_count(&counter), 1, "replaced when it was polled by the thread");
    semaphore.add_permits(1);
    assert!(blocking::wait(other).is_ok());
}

#[test]
fn a_thread_woken_as_its_deadline_passes_polls_once_more() {
    // Ready at the second poll: the first is at once, and then the thread sleeps.
    let ready_in_time = |timeout| {
        let mut polls = 0;
        let second = poll_fn(|_| {
            polls += 1;
            if polls == 2 { Poll::Ready(()) } else { Poll::Pending }
        });
        blocking::wait_timeout(second, timeout).is_ok()
    };
    assert!((0..10).any(|attempt| ready_in_time(Duration::from_millis(10 << attempt))));
}
