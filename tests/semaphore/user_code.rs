//! Wakers, formatters and panic hooks that use the semaphore from wherever they run.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex as StdMutex, mpsc};
use std::task::Poll;

use stanchion::{Acquire, Semaphore, SemaphorePermit, TryAcquireError};

use crate::common::hooks::Hooks;
use crate::common::{Counter, Task, does_not_abort, is_locked_inside, panic_of, poll, poll_with, ready, state};
use crate::{MANY, MAX, Slots, call_everything, enqueue, refuses, shared, take, waiting};

/// A hook that calls everything, and the number of its runs.
fn caller(semaphore: &Arc<Semaphore>) -> (impl Fn() + Clone + Send + Sync + 'static, Arc<AtomicUsize>) {
    let (semaphore, runs) = (semaphore.clone(), Arc::new(AtomicUsize::new(0)));
    let counter = runs.clone();
    let hook = move || {
        call_everything(&semaphore);
        counter.fetch_add(1, Ordering::Relaxed);
    };
    (hook, runs)
}

/// Enqueues one waiter with a waker that calls everything, and asserts that `wake` wakes it once.
#[track_caller]
fn wakes_a_caller(semaphore: Arc<Semaphore>, wake: impl FnOnce(&Arc<Semaphore>)) {
    let (hook, wakes) = caller(&semaphore);
    let future = waiting(semaphore.clone().acquire_owned(), &Hooks::new().on_wake(hook).waker());
    wake(&semaphore);
    assert_eq!((wakes.load(Ordering::Relaxed), semaphore.waiters()), (1, 0));
    drop(future);
    assert_eq!(semaphore.waiters(), 0);
}

#[test]
fn a_waker_may_call_everything_when_permits_are_added() {
    wakes_a_caller(shared(0), |semaphore| semaphore.add_permits(2));
    wakes_a_caller(shared(0), |semaphore| {
        semaphore.add_permits(1);
        refuses(semaphore, 1, TryAcquireError::NoPermits);
    });
}

#[test]
fn a_waker_may_call_everything_when_the_semaphore_is_closed() {
    wakes_a_caller(shared(0), |semaphore| semaphore.close());
}

#[test]
fn a_waker_may_call_everything_when_a_permit_is_returned() {
    let semaphore = shared(1);
    let permit = semaphore.try_acquire().unwrap();
    wakes_a_caller(semaphore.clone(), |_| drop(permit));
    assert_eq!(state(&semaphore), (1, 0));
}

#[test]
fn a_waker_may_call_everything_when_the_head_is_cancelled() {
    let semaphore = shared(1);
    let head = Task::waiting(semaphore.acquire_many(2));
    wakes_a_caller(semaphore.clone(), |_| drop(head));
    assert_eq!(state(&semaphore), (1, 0));
}

#[test]
fn a_waker_may_collect_or_drop_the_future_that_it_wakes() {
    for collect in [true, false] {
        let semaphore = shared(0);
        let slots = Slots::default();
        for _ in 0..MANY {
            let (owner, futures) = (semaphore.clone(), slots.clone());
            let waker = Hooks::new().on_wake(move || {
                let mut future = take(&futures, 0);
                futures.lock().unwrap().remove(0);
                if collect {
                    drop(ready(&mut future).unwrap());
                }
                drop(future);
                call_everything(&owner);
            });
            enqueue(&semaphore, &slots, &waker.waker());
        }
        // Each wakes the next from within its own wake.
        semaphore.add_permits(1);
        assert!(slots.lock().unwrap().is_empty());
        assert_eq!(state(&semaphore), (1, 0));
        assert_eq!(Arc::strong_count(&semaphore), 1);
    }
}

#[test]
fn a_waker_may_enqueue_another_waiter() {
    let semaphore = shared(0);
    let slots = Slots::default();
    let waker = {
        let (semaphore, slots) = (semaphore.clone(), slots.clone());
        Hooks::new().on_wake(move || enqueue(&semaphore, &slots, std::task::Waker::noop()))
    };
    let mut first = waiting(semaphore.acquire(), &waker.waker());
    let mut second = Task::waiting(semaphore.acquire());
    semaphore.add_permits(1);
    assert_eq!(state(&semaphore), (0, 2));
    semaphore.add_permits(1);
    assert_eq!((second.wakes(), state(&semaphore)), (1, (0, 1)), "the waiter that was queued before it comes first");
    ready(&mut first).unwrap().forget();
    second.ready().unwrap().forget();
    semaphore.add_permits(1);
    assert!(ready(&mut take(&slots, 0)).is_ok());
}

#[test]
fn a_replaced_waker_may_call_everything_when_it_is_dropped() {
    let semaphore = shared(0);
    let (hook, drops) = caller(&semaphore);
    let old = Hooks::new().on_drop(hook).waker();
    let mut task = Task::new(semaphore.acquire());
    assert!(poll_with(task.future_mut(), &old).is_pending());
    drop(old);
    assert_eq!(drops.load(Ordering::Relaxed), 1);
    assert!(task.is_pending());
    assert_eq!(drops.load(Ordering::Relaxed), 2, "the clone in the queue was replaced and dropped");
    assert_eq!(state(&semaphore), (0, 1));
    semaphore.add_permits(1);
    assert_eq!(task.wakes(), 1);
    assert!(task.ready().is_ok());
}

#[test]
fn a_replaced_waker_may_grant_its_own_waiter_when_dropped() {
    let semaphore = shared(0);
    let owner = semaphore.clone();
    let armed = Arc::new(AtomicUsize::new(0));
    let trigger = armed.clone();
    let old = Hooks::new().on_drop(move || owner.add_permits(trigger.swap(0, Ordering::Relaxed))).waker();
    let mut task = Task::new(semaphore.acquire());
    assert!(poll_with(task.future_mut(), &old).is_pending());
    armed.store(1, Ordering::Relaxed);
    // Both pending and ready are right, but pending only with a wake.
    let ready_at_once = task.poll().is_ready();
    assert!(ready_at_once || task.wakes() == 1);
    drop(old);
    drop(task);
    assert_eq!(state(&semaphore), (1, 0));
}

#[test]
fn a_cancelled_waker_may_call_everything_when_it_is_dropped() {
    let semaphore = shared(0);
    let (hook, drops) = caller(&semaphore);
    let waker = Hooks::new().on_drop(hook).waker();
    drop(waiting(semaphore.acquire(), &waker));
    assert_eq!((drops.load(Ordering::Relaxed), state(&semaphore)), (1, (0, 0)));
}

#[test]
fn a_waker_may_call_everything_when_it_is_cloned() {
    let semaphore = shared(0);
    let (hook, clones) = caller(&semaphore);
    let waker = || Hooks::new().on_clone(hook.clone()).waker();
    let mut future = waiting(semaphore.acquire(), &waker());
    assert!(poll_with(&mut future, &waker()).is_pending());
    assert_eq!((clones.load(Ordering::Relaxed), state(&semaphore)), (2, (0, 1)));
    semaphore.add_permits(1);
    assert!(ready(&mut future).is_ok());
}

#[test]
fn a_waker_may_grant_its_own_waiter_while_it_is_cloned() {
    fn acquired<'a>(future: &mut Acquire<'a>, semaphore: &Arc<Semaphore>) -> SemaphorePermit<'a> {
        let semaphore = semaphore.clone();
        let waker = Hooks::new().on_clone(move || semaphore.add_permits(1)).waker();
        match poll_with(future, &waker) {
            Poll::Ready(outcome) => outcome.unwrap(),
            Poll::Pending => panic!("granted before the waker was registered"),
        }
    }
    let semaphore = shared(0);
    let permit = acquired(&mut semaphore.acquire(), &semaphore);
    let mut task = Task::waiting(semaphore.acquire());
    let permit_again = acquired(task.future_mut(), &semaphore);
    assert_eq!((task.wakes(), state(&semaphore)), (1, (0, 0)));
    drop((permit, permit_again));
    assert_eq!(state(&semaphore), (2, 0));
}

#[test]
fn a_waker_may_close_while_it_is_cloned() {
    for queued in [false, true] {
        let semaphore = shared(0);
        let owner = semaphore.clone();
        let waker = Hooks::new().on_clone(move || owner.close()).waker();
        let mut future = semaphore.acquire();
        assert!(!queued || poll(&mut future).is_pending());
        assert!(matches!(poll_with(&mut future, &waker), Poll::Ready(Err(_))));
        assert_eq!(state(&semaphore), (0, 0));
    }
}

#[test]
fn a_needless_waker_is_dropped_without_the_lock() {
    let semaphore = shared(0);
    let (giver, observer) = (semaphore.clone(), semaphore.clone());
    let drops = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let counts = drops.clone();
    let waker = Hooks::new().on_clone(move || giver.add_permits(1)).on_drop(move || {
        counts[usize::from(is_locked_inside(&observer))].fetch_add(1, Ordering::Relaxed);
    });
    assert!(poll_with(&mut semaphore.acquire(), &waker.waker()).is_ready());
    assert_eq!(drops.each_ref().map(|count| count.load(Ordering::Relaxed)), [2, 0], "the clone and its original");
}

/// A waiter beyond the first batch is granted while its new waker is being cloned. The clone is not needed after all,
/// and neither it nor the old waker may be dropped under the lock.
#[test]
fn needless_wakers_of_a_granted_waiter_are_dropped_unlocked() {
    const WAITERS: usize = 6;
    let semaphore = shared(0);
    let (start, started) = mpsc::channel();
    let (is_waking, wait_for_the_wake) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let may_go_on = StdMutex::new(may_go_on);
    // The first waker holds `add_permits` up, when all are granted and the last two not yet woken.
    let first = Hooks::new().on_wake(move || {
        is_waking.send(()).unwrap();
        may_go_on.lock().unwrap().recv().unwrap();
    });
    let drops = Arc::new(AtomicUsize::new(0));
    let counted = |on_clone: Box<dyn Fn() + Send + Sync>| {
        let (semaphore, drops) = (semaphore.clone(), drops.clone());
        let waker = Hooks::new().on_clone(on_clone).on_drop(move || {
            assert!(!is_locked_inside(&semaphore), "dropped under the lock");
            drops.fetch_add(1, Ordering::Relaxed);
        });
        waker.waker()
    };
    let (first, old) = (first.waker(), counted(Box::new(|| ())));
    let waker = |index| if index == 0 { &first } else { &old };
    let mut futures: Vec<_> = (0..WAITERS).map(|index| waiting(semaphore.acquire(), waker(index))).collect();
    let wait_for_the_wake = StdMutex::new(wait_for_the_wake);
    let new = counted(Box::new(move || {
        start.send(()).unwrap();
        wait_for_the_wake.lock().unwrap().recv().unwrap();
    }));
    std::thread::scope(|scope| {
        let semaphore = &semaphore;
        scope.spawn(move || {
            started.recv().unwrap();
            semaphore.add_permits(WAITERS);
        });
        let outcome = catch_unwind(AssertUnwindSafe(|| poll_with(&mut futures[WAITERS - 1], &new).is_ready()));
        go_on.send(()).unwrap();
        assert!(outcome.expect("user code runs without the lock"), "it was granted while the waker was cloned");
    });
    assert_eq!(drops.load(Ordering::Relaxed), 2, "the old waker and the new one");
    drop(futures);
    assert_eq!(state(&semaphore), (WAITERS, 0));
}

/// Waking drops every handle to the semaphore but the one that `end` consumes.
fn drops_all_other_handles<H>(start: impl Fn(&Arc<Semaphore>) -> H, end: impl Fn(H)) {
    for waiters in [1, 3, MANY] {
        let semaphore = shared(MANY);
        let weak = Arc::downgrade(&semaphore);
        let handle = start(&semaphore);
        let slots = Slots::default();
        for _ in 0..waiters {
            let futures = slots.clone();
            let waker = Hooks::new().on_wake(move || {
                let all = std::mem::take(&mut *futures.lock().unwrap());
                drop(all);
            });
            enqueue(&semaphore, &slots, &waker.waker());
        }
        drop(semaphore);
        end(handle);
        assert!(slots.lock().unwrap().is_empty());
        assert!(weak.upgrade().is_none(), "nothing keeps the semaphore");
    }
}

#[test]
fn a_returned_permit_may_turn_out_to_be_the_last_handle() {
    drops_all_other_handles(|semaphore| semaphore.clone().try_acquire_many_owned(MANY).unwrap(), drop);
}

#[test]
fn a_cancelled_future_may_turn_out_to_be_the_last_handle() {
    drops_all_other_handles(|semaphore| Task::waiting(semaphore.clone().acquire_many_owned(MANY + 1)), drop);
}

#[test]
fn a_dropped_semaphore_drops_the_wakers_of_leaked_futures() {
    let counter = Arc::new(Counter::default());
    let semaphore = Semaphore::new(0);
    std::mem::forget(waiting(semaphore.acquire(), &counter.clone().into()));
    assert_eq!(Arc::strong_count(&counter), 2);
    drop(semaphore);
    assert_eq!((Arc::strong_count(&counter), counter.count()), (1, 0));
}

#[test]
fn a_waker_may_format_everything() {
    let semaphore = shared(0);
    let shown = Arc::new(StdMutex::new(String::new()));
    let slots = Slots::default();
    let waker = {
        let (semaphore, shown, slots) = (semaphore.clone(), shown.clone(), slots.clone());
        Hooks::new().on_wake(move || *shown.lock().unwrap() = format!("{semaphore:?} {slots:?}")).waker()
    };
    (0..2).for_each(|_| enqueue(&semaphore, &slots, &waker));
    semaphore.add_permits(1);
    let shown = shown.lock().unwrap().clone();
    assert!(shown.contains("waiters: 1") && shown.contains("AcquireOwned"), "{shown}");
}

#[test]
fn a_formatter_may_use_the_semaphore_that_it_shows() {
    struct Observer<'a>(&'a Semaphore, usize);
    impl std::fmt::Write for Observer<'_> {
        fn write_str(&mut self, _: &str) -> std::fmt::Result {
            self.1 += self.0.waiters();
            Ok(())
        }
    }
    let semaphore = Semaphore::new(0);
    let _task = Task::waiting(semaphore.acquire());
    let mut observer = Observer(&semaphore, 0);
    std::fmt::Write::write_fmt(&mut observer, format_args!("{semaphore:?}")).unwrap();
    assert!(observer.1 > 0);
}

#[test]
fn a_panic_hook_may_call_everything() {
    does_not_abort!(|| {
        let full = shared(MAX);
        let owing = shared(0);
        owing.reduce_permits(usize::MAX);
        let (call_full, calls) = caller(&full);
        let (call_owing, _) = caller(&owing);
        std::panic::set_hook(Box::new(move |_| {
            call_full();
            call_owing();
        }));
        assert!(panic_of(|| full.add_permits(1)).contains("MAX_PERMITS"));
        assert!(panic_of(|| owing.reduce_permits(1)).contains("usize::MAX"));
        drop(std::panic::take_hook());
        assert_eq!(calls.load(Ordering::Relaxed), 2);
    });
}
