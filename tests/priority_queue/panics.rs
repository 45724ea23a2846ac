//! Items, priorities and wakers that panic.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex as StdMutex};
use std::task::{Poll, Waker};

use stanchion::{Closed, PriorityQueue, TryPopError};

use crate::common::hooks::Hooks;
use crate::common::{Check, Counter, Log, Task, assert_numbers, does_not_abort, panic_of, poll, poll_with, ready};
use crate::ranked::{Alive, Ranked, id_of, with_panic_at};
use crate::user_code::{Hooked, HookedQueue, WAKES, put};
use crate::{Queue, counts, fill, logged_pop, pop_all};

fn panics_when_cloned() -> Waker {
    Hooks::new().on_clone(|| panic!("the clone")).waker()
}

fn panics_when_woken(message: &'static str) -> Waker {
    Hooks::new().on_wake(move || panic!("{message}")).waker()
}

/// A waker that panics in its drop, but only in the drop that `armed` waits for.
pub(crate) fn panics_when_dropped(armed: &Arc<AtomicUsize>) -> Hooks {
    let armed = armed.clone();
    Hooks::new().on_drop(move || assert_eq!(armed.swap(0, Ordering::Relaxed), 0, "the drop"))
}

#[test]
fn a_waker_that_panics_when_cloned_loses_nothing() {
    for waits_already in [false, true] {
        for again in [false, true] {
            let alive = Alive::default();
            let queue = Ranked::bounded(1);
            let mut pop = Task::new(queue.pop());
            assert!(!waits_already || pop.is_pending());
            assert_eq!(panic_of(|| poll_with(pop.future_mut(), &panics_when_cloned())), "the clone");
            assert_eq!(counts(&queue), (0, usize::from(waits_already), 0), "it stays enqueued if it was");
            if again {
                assert!(pop.is_pending());
            }
            let waits = waits_already || again;
            queue.try_push(alive.rank(1, 1), alive.item(1)).unwrap();
            assert_eq!(pop.wakes(), usize::from(waits), "through the waker it had");
            drop(pop);
            assert_eq!((queue.try_pop().map(id_of), counts(&queue)), (Ok(1), (0, 0, 0)));

            queue.try_push(alive.rank(1, 1), alive.item(1)).unwrap();
            let mut push = Task::new(queue.push(alive.rank(2, 2), alive.item(2)));
            assert!(!waits_already || push.is_pending());
            assert_eq!(panic_of(|| poll_with(push.future_mut(), &panics_when_cloned()).is_ready()), "the clone");
            assert_eq!(counts(&queue), (1, 0, usize::from(waits_already)));
            if again {
                assert!(push.is_pending());
            }
            assert_eq!(queue.try_pop().map(id_of), Ok(if waits { 2 } else { 1 }));
            assert_eq!(push.wakes(), usize::from(waits));
            drop(push);
            assert_eq!(alive.count(), if waits { 2 } else { 0 });
            queue.check();
        }
    }
}

#[test]
fn a_waker_that_panics_when_woken_leaves_its_waiter_served() {
    let queue = Queue::bounded(1);
    let mut pop = queue.pop();
    assert!(poll_with(&mut pop, &panics_when_woken("the wake")).is_pending());
    assert_eq!(panic_of(|| queue.try_push(1, 1)), "the wake");
    assert_eq!((queue.try_pop(), counts(&queue)), (Err(TryPopError::Empty), (1, 0, 0)));
    assert_eq!(ready(&mut pop), Some((1, 1)));

    let key = queue.try_push(1, 1).unwrap();
    let mut push = queue.push(2, 2);
    assert!(poll_with(&mut push, &panics_when_woken("the wake")).is_pending());
    assert_eq!(queue.remove(key), Some((1, 1)), "a removed item is not lost to the panic of a waker");
    assert_eq!(counts(&queue), (1, 0, 0));
    assert_eq!(queue.remove(ready(&mut push).unwrap()), Some((2, 2)));
}

#[test]
fn wherever_a_waker_panics_the_queue_goes_on() {
    does_not_abort!(|| {
        for (name, hands_out, site) in WAKES {
            let queue = Arc::new(HookedQueue::bounded(1));
            let outcome = catch_unwind(AssertUnwindSafe(|| site(&queue, &panics_when_woken("the wake"))));
            assert_eq!(outcome.is_ok(), hands_out, "{name}");
            let (_, pops, pushes) = counts(&queue);
            assert_eq!((pops, pushes), (0, 0), "{name}: no waiter is left");
            drop(queue.drain());
            if !queue.is_closed() {
                let mut pop = Task::waiting(queue.pop());
                put(&queue, 1);
                assert_eq!(pop.wakes(), 1, "{name}");
                assert!(pop.ready().is_some());
            }
            assert_eq!(counts(&queue), (0, 0, 0));
        }
    });
}

#[test]
fn all_are_woken_though_some_wakers_panic() {
    let ways: [fn(&Queue); 3] = [
        Queue::close,
        |queue| drop(queue.drain()),
        |queue| {
            let _ = poll(&mut queue.pop_many(&mut Vec::new(), 10)).is_ready();
        },
    ];
    for panicking in [vec![0], vec![2], vec![3], vec![4], vec![2, 7], vec![0, 1, 2, 3, 4], (0..10).collect()] {
        for (way, act) in ways.iter().enumerate() {
            let queue = Queue::bounded(10);
            fill(&queue, &[5; 10]);
            let log = Arc::new(Log::default());
            let mut waiters: Vec<_> = (0..10).map(|item| queue.push(1, item)).collect();
            for (index, push) in waiters.iter_mut().enumerate() {
                let panics = panicking.contains(&index);
                let waker = if panics { log.panicking_waker(index) } else { log.waker(index) };
                assert!(poll_with(push, &waker).is_pending());
            }
            let outcome = catch_unwind(AssertUnwindSafe(|| act(&queue)));
            assert_eq!(outcome.is_ok(), way > 0, "popped items are not lost to a panic");
            if let Err(payload) = outcome {
                assert_eq!(*payload.downcast::<String>().unwrap(), format!("waker {}", panicking[0]));
            }
            let mut woken = log.take();
            woken.sort_unstable();
            assert_numbers(&woken, 0..10);
            assert_eq!(counts(&queue), (10, 0, 0));
            for push in &mut waiters {
                assert_eq!(ready(push).is_ok(), way > 0);
            }
        }
    }
}

#[test]
fn all_pops_of_a_drained_queue_end_though_a_waker_panics() {
    let queue = Queue::unbounded();
    let mut reserved = Task::waiting(queue.pop());
    let log = Arc::new(Log::default());
    let mut bad = queue.pop();
    assert!(poll_with(&mut bad, &panics_when_woken("the wake")).is_pending());
    let mut waiters: Vec<_> = (0..8).map(|entry| logged_pop(&queue, &log, entry)).collect();
    queue.try_push(1, 1).unwrap();
    queue.close();
    assert_eq!(reserved.ready(), Some((1, 1)));
    assert_numbers(&log.take(), 0..8);
    assert!(waiters.iter_mut().all(|pop| ready(pop).is_none()));
    assert_eq!(ready(&mut bad), None);
}

#[test]
fn a_waker_that_panics_during_an_unwinding_does_not_abort() {
    does_not_abort!(|| {
        let queue = Queue::unbounded();
        let mut next = queue.pop();
        let message = panic_of(|| {
            let _reserved = Task::waiting(queue.pop());
            queue.try_push(1, 1).unwrap();
            assert!(poll_with(&mut next, &panics_when_woken("the wake")).is_pending());
            panic!("the first");
        });
        assert_eq!((message.as_str(), ready(&mut next)), ("the first", Some((1, 1))));
        assert_eq!(counts(&queue), (0, 0, 0));
    });
}

#[test]
fn a_waker_dropped_in_an_unwinding_may_panic() {
    does_not_abort!(|| {
        for pop in [false, true] {
            let queue = Queue::bounded(1);
            let armed = Arc::new(AtomicUsize::new(0));
            let waker = panics_when_dropped(&armed).waker();
            let message = panic_of(|| {
                let (mut popping, mut pushing) = (queue.pop(), queue.push(2, 2));
                if pop {
                    assert!(poll_with(&mut popping, &waker).is_pending());
                } else {
                    queue.try_push(1, 1).unwrap();
                    assert!(poll_with(&mut pushing, &waker).is_pending());
                }
                armed.store(1, Ordering::Relaxed);
                panic!("the first");
            });
            assert_eq!(message, "the first");
            assert_eq!(counts(&queue), (usize::from(!pop), 0, 0));
        }
    });
}

#[test]
fn a_replaced_waker_that_panics_when_dropped_loses_nothing() {
    let queue = Queue::bounded(1);
    let armed = Arc::new(AtomicUsize::new(0));
    let old = panics_when_dropped(&armed).waker();
    let mut pop = Task::new(queue.pop());
    assert!(poll_with(pop.future_mut(), &old).is_pending());
    armed.store(1, Ordering::Relaxed);
    assert!(pop.poll().is_pending(), "the panic is discarded");
    assert_eq!((counts(&queue), armed.load(Ordering::Relaxed)), ((0, 1, 0), 0));
    queue.try_push(1, 1).unwrap();
    assert_eq!(pop.wakes(), 1, "the new waker was stored");

    let mut push = Task::new(queue.push(2, 2));
    assert!(poll_with(push.future_mut(), &old).is_pending());
    armed.store(1, Ordering::Relaxed);
    assert!(push.poll().is_pending());
    assert_eq!(counts(&queue), (1, 0, 1));
    assert_eq!((pop.ready(), push.wakes()), (Some((2, 2)), 1));
    assert!(push.ready().is_ok());
}

#[test]
fn a_cancelled_waiter_may_have_a_waker_that_panics_when_dropped() {
    let alive = Alive::default();
    let queue = Ranked::bounded(1);
    let armed = Arc::new(AtomicUsize::new(0));
    let waker = panics_when_dropped(&armed).waker();
    let mut cancelled = queue.pop();
    assert!(poll_with(&mut cancelled, &waker).is_pending());
    let mut next = Task::waiting(queue.pop());
    armed.store(1, Ordering::Relaxed);
    assert!(panic_of(|| drop(cancelled)).contains("the drop"));
    assert_eq!(counts(&queue), (0, 1, 0));
    queue.try_push(alive.rank(1, 1), alive.item(1)).unwrap();
    let mut cancelled = queue.push(alive.rank(2, 2), alive.item(2));
    assert!(poll_with(&mut cancelled, &waker).is_pending());
    armed.store(1, Ordering::Relaxed);
    assert!(panic_of(|| drop(cancelled)).contains("the drop"));
    assert_eq!((counts(&queue), alive.count()), ((1, 0, 0), 2), "its item is dropped all the same");
    assert_eq!(next.ready().map(id_of), Some(1));
}

/// The waker that is not needed any more panics when it is dropped; the item must not be lost with it.
#[test]
fn a_waker_that_panics_when_dropped_by_a_pop_costs_no_item() {
    does_not_abort!(|| {
        for waits_already in [false, true] {
            let queue: &'static Queue = Box::leak(Box::new(Queue::bounded(1)));
            let armed = Arc::new(AtomicUsize::new(0));
            // Cloning it serves, so the clone is not needed; dropping the clone panics.
            let serves = || {
                panics_when_dropped(&armed)
                    .on_clone(|| {
                        queue.try_push(1, 1).unwrap();
                    })
                    .waker()
            };
            let waker = serves();
            let mut pop = Task::new(queue.pop());
            assert!(!waits_already || pop.is_pending());
            armed.store(1, Ordering::Relaxed);
            assert_eq!(poll_with(pop.future_mut(), &waker), Poll::Ready(Some((1, 1))));
            assert_eq!((armed.load(Ordering::Relaxed), counts(queue)), (0, (0, 0, 0)), "a clone was dropped");

            let mut into = Vec::new();
            let mut many = Task::new(queue.pop_many(&mut into, 3));
            assert!(!waits_already || many.is_pending());
            armed.store(1, Ordering::Relaxed);
            assert_eq!(poll_with(many.future_mut(), &waker), Poll::Ready(1));
            drop(many);
            assert_eq!((into, counts(queue)), (vec![(1, 1)], (0, 0, 0)));

            queue.try_push(3, 3).unwrap();
            let makes_room = panics_when_dropped(&armed).on_clone(|| assert!(queue.try_pop().is_ok())).waker();
            let mut push = Task::new(queue.push(2, 2));
            assert!(!waits_already || push.is_pending());
            armed.store(1, Ordering::Relaxed);
            let _ = catch_unwind(AssertUnwindSafe(|| poll_with(push.future_mut(), &makes_room).is_ready()));
            drop(push);
            assert_eq!((pop_all(queue), counts(queue)), (vec![(2, 2)], (0, 0, 0)), "it was admitted");
        }
    });
}

#[test]
fn a_waker_that_panics_when_dropped_by_a_push_costs_no_wake() {
    let queue: &'static Queue = Box::leak(Box::new(Queue::bounded(1)));
    queue.try_push(5, 5).unwrap();
    let counter = Arc::new(Counter::default());
    let pop = Arc::new(StdMutex::new(queue.pop()));
    let armed = Arc::new(AtomicUsize::new(0));
    // While it is cloned, an item is popped and a pop is enqueued.
    let waker = {
        let (counter, pop) = (counter.clone(), pop.clone());
        panics_when_dropped(&armed).on_clone(move || {
            assert!(queue.try_pop().is_ok());
            assert!(poll_with(&mut *pop.lock().unwrap(), &counter.clone().into()).is_pending());
        })
    };
    let waker = waker.waker();
    let mut push = queue.push(1, 1);
    armed.store(1, Ordering::Relaxed);
    let _ = catch_unwind(AssertUnwindSafe(|| poll_with(&mut push, &waker).is_ready()));
    assert_eq!((armed.load(Ordering::Relaxed), counter.count(), counts(queue)), (0, 1, (1, 0, 0)));
    assert_eq!(ready(&mut *pop.lock().unwrap()), Some((1, 1)));
}

#[test]
fn items_and_priorities_may_panic_when_they_are_dropped() {
    /// Arms one of the two.
    fn bomb(priority: bool, runs: &Arc<AtomicUsize>) -> (Hooked, Hooked) {
        let quiet = runs.clone();
        let quiet = Hooked::new(2, move || {
            quiet.fetch_add(1, Ordering::Relaxed);
        });
        let loud = runs.clone();
        let loud = Hooked::new(2, move || {
            loud.fetch_add(1, Ordering::Relaxed);
            panic!("the drop");
        });
        if priority { (loud, quiet) } else { (quiet, loud) }
    }

    for priority in [false, true] {
        let runs = Arc::new(AtomicUsize::new(0));
        let queue = HookedQueue::bounded(1);
        let key = put(&queue, 3);
        let mut others = [1, 1].map(|level| Task::new(queue.push(Hooked::plain(level), Hooked::plain(level))));
        assert!(others[0].is_pending());
        let (rank, item) = bomb(priority, &runs);
        let mut push = queue.push(rank, item);
        assert!(poll(&mut push).is_pending() && others[1].is_pending());
        assert_eq!(panic_of(|| drop(push)), "the drop");
        assert_eq!((runs.swap(0, Ordering::Relaxed), counts(&queue)), (2, (1, 0, 2)));

        let (rank, item) = bomb(priority, &runs);
        let mut push = queue.push(rank, item);
        assert!(poll(&mut push).is_pending());
        // Not parked, but revoked.
        queue.close();
        assert_eq!(panic_of(|| drop(push)), "the drop");
        assert_eq!((runs.swap(0, Ordering::Relaxed), counts(&queue)), (2, (1, 0, 0)));
        assert!(others.iter_mut().all(|push| push.wakes() == 1 && push.ready().is_err()));

        let (rank, _) = bomb(true, &runs);
        assert!(queue.set_priority(key, rank));
        runs.store(0, Ordering::Relaxed);
        assert_eq!(panic_of(|| queue.set_priority(key, Hooked::plain(7))), "the drop");
        assert_eq!((runs.swap(0, Ordering::Relaxed), counts(&queue)), (1, (1, 0, 0)));
        let (rank, item) = queue.remove(key).expect("it has its new priority");
        assert_eq!((rank.level, item.level), (7, 3));
        let (rank, _) = bomb(true, &runs);
        assert_eq!(panic_of(|| queue.set_priority(key, rank)), "the drop");
        assert_eq!(counts(&queue), (0, 0, 0));

        // The others are dropped with the queue all the same.
        runs.store(0, Ordering::Relaxed);
        let queue = HookedQueue::unbounded();
        for at in 0..9 {
            let quiet = runs.clone();
            let quiet = Hooked::new(at, move || {
                quiet.fetch_add(1, Ordering::Relaxed);
            });
            queue.try_push(quiet, Hooked::plain(at)).ok().unwrap();
            if at == 4 {
                let (rank, item) = bomb(priority, &runs);
                queue.try_push(rank, item).ok().unwrap();
            }
        }
        assert_eq!(panic_of(|| drop(queue)), "the drop");
        assert_eq!(runs.load(Ordering::Relaxed), 11);
    }
}

#[test]
fn a_parked_item_that_panics_during_an_unwinding_does_not_abort() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("the item");
        }
    }
    let queue = PriorityQueue::bounded(1);
    queue.try_push(1, None).unwrap();
    let message = panic_of(|| {
        let mut push = queue.push(1, Some(Bomb));
        assert!(poll(&mut push).is_pending());
        panic!("the first");
    });
    assert_eq!((message.as_str(), queue.len(), queue.waiting_pushes()), ("the first", 1, 0));
}

#[test]
fn a_closure_that_panics_and_then_in_its_drop_does_not_abort() {
    does_not_abort!(|| {
        let queue = Queue::unbounded();
        fill(&queue, &[1, 2, 3]);
        // The closures own it whole.
        let capture = || [Hooked::new(2, || panic!("the drop"))];
        let captured = capture();
        let visit = move |_, _: &u32, _: &u32| panic!("the visit of {}", captured.len());
        assert_eq!(panic_of(|| queue.for_each(visit)), "the visit of 1");
        let captured = capture();
        let keep = move |_: &u32, _: &u32| panic!("the question of {}", captured.len());
        assert_eq!(panic_of(|| queue.retain(keep)), "the question of 1");
        assert_eq!(counts(&queue), (3, 0, 0));
        let captured = capture();
        let keep = move |&priority: &u32, _: &u32| captured.iter().all(|captured| priority != captured.level);
        assert_eq!(panic_of(|| queue.retain(keep)), "the drop");
        assert_eq!((counts(&queue), pop_all(&queue)), ((2, 0, 0), vec![(3, 2), (1, 0)]));
    });
}

#[test]
fn a_priority_whose_comparison_and_drop_panic_does_not_abort() {
    does_not_abort!(|| {
        let queue = HookedQueue::unbounded();
        let key = put(&queue, 3);
        let set = || queue.set_priority(key, Hooked::new(7, || panic!("the drop")));
        assert!(with_panic_at(0, set).is_none(), "the first panic is resumed");
        assert_eq!(counts(&queue), (1, 0, 0));
        assert!(queue.remove(key).is_some_and(|(priority, _)| priority.level == 3));
    });
}

#[test]
fn a_waker_that_closes_in_its_clone_and_panics_costs_no_item() {
    let queue = Arc::new(PriorityQueue::bounded(1));
    queue.try_push(1, "in").unwrap();
    let inside = queue.clone();
    let waker = Hooks::new().on_clone(move || inside.close()).on_drop(|| assert!(std::thread::panicking(), "the drop"));
    let waker = waker.waker();
    let outcome = poll_with(&mut queue.push(2, "out"), &waker);
    std::mem::forget(waker);
    assert_eq!(outcome, Poll::Ready(Err(Closed((2, "out")))));
}

/// Comparisons and drops of wakers panic as soon as it is set.
static PANICS: AtomicBool = AtomicBool::new(false);

#[derive(Debug, PartialEq, Eq)]
struct Touchy(u32);

impl PartialOrd for Touchy {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Touchy {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        assert!(!PANICS.load(Ordering::SeqCst), "the comparison");
        self.0.cmp(&other.0)
    }
}

#[test]
fn a_panicking_comparison_and_a_panicking_clone_do_not_abort() {
    does_not_abort!(|| {
        let panics_after = |act: Box<dyn Fn() + Send + Sync>| {
            let waker = Hooks::new().on_clone(move || {
                act();
                PANICS.store(true, Ordering::SeqCst);
            });
            waker.on_drop(|| assert!(!PANICS.load(Ordering::SeqCst), "the drop")).waker()
        };
        // A push that finds room when it has brought its waker.
        let queue = Arc::new(PriorityQueue::<Touchy, ()>::bounded(2));
        for priority in [1, 2] {
            queue.try_push(Touchy(priority), ()).unwrap();
        }
        let of_clone = queue.clone();
        let waker = panics_after(Box::new(move || drop(of_clone.try_pop())));
        let mut push = queue.push(Touchy(3), ());
        assert_eq!(panic_of(|| poll_with(&mut push, &waker).is_ready()), "the comparison");
        PANICS.store(false, Ordering::SeqCst);
        assert!(ready(&mut push).is_ok() && queue.len() == 2);

        // A pop that finds an item, and one that is parked.
        let queue: &PriorityQueue<Touchy, ()> = Box::leak(Box::new(PriorityQueue::bounded(1)));
        let parked = StdMutex::new(None);
        let waker = panics_after(Box::new(move || {
            queue.try_push(Touchy(1), ()).unwrap();
            let mut push = queue.push(Touchy(2), ());
            assert!(poll(&mut push).is_pending());
            *parked.lock().unwrap() = Some(push);
        }));
        let mut pop = queue.pop();
        assert_eq!(panic_of(|| poll_with(&mut pop, &waker).is_ready()), "the comparison");
        PANICS.store(false, Ordering::SeqCst);
        assert!(ready(&mut pop).is_some_and(|(priority, ())| priority.0 == 2));
    });
}

#[test]
fn a_push_admitted_at_its_second_look_passes_on_a_wake_panic() {
    let queue: &PriorityQueue<u32, ()> = Box::leak(Box::new(PriorityQueue::bounded(1)));
    let (mut first, mut second) = (queue.pop(), queue.pop());
    assert!(poll(&mut first).is_pending());
    assert!(poll_with(&mut second, &Hooks::new().on_wake(|| panic!("the wake")).waker()).is_pending());
    queue.try_push(1, ()).unwrap();
    // The first one makes room while the push brings its waker.
    let first = StdMutex::new(Some(first));
    let waker = Hooks::new().on_clone(move || _ = first.lock().unwrap().take().map(|mut first| ready(&mut first)));
    let mut push = queue.push(2, ());
    assert_eq!(panic_of(|| poll_with(&mut push, &waker.waker()).is_ready()), "the wake");
    assert_eq!(ready(&mut second), Some((2, ())));
}
