//! Pops that wait for an item: reservations, wakers, and futures that are dropped, forgotten or moved.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use stanchion::{Closed, TryPopError};

use crate::common::hooks::Hooks;
use crate::common::{Check, Counter, Log, Task, assert_numbers, panic_of, poll, poll_with, ready};
use crate::ranked::{Alive, Ranked, id_of};
use crate::{MANY, Queue, counts, fill, full, logged_pop, pop_all};

#[test]
fn a_pop_waits_for_an_item_and_is_woken_once() {
    let queue = Queue::unbounded();
    let mut pop = Task::waiting(queue.pop());
    assert_eq!(counts(&queue), (0, 1, 0));
    queue.try_push(1, 1).unwrap();
    assert_eq!((pop.wakes(), counts(&queue)), (1, (1, 0, 0)));
    queue.try_push(1, 2).unwrap();
    assert_eq!(pop.wakes(), 1);
    assert_eq!(pop.ready(), Some((1, 1)));
    assert_eq!((pop.wakes(), counts(&queue)), (1, (1, 0, 0)));
}

#[test]
fn one_wake_per_item_and_none_for_nothing() {
    let queue = Queue::bounded(MANY);
    let log = Arc::new(Log::default());
    let mut waiters: Vec<_> = (0..MANY).map(|entry| logged_pop(&queue, &log, entry)).collect();
    assert_eq!(counts(&queue), (0, MANY, 0));
    for item in 0..MANY {
        match item % 3 {
            0 => drop(queue.try_push(1, 1).unwrap()),
            1 => drop(ready(&mut queue.push(2, 2)).unwrap()),
            _ => drop(queue.force_push(3, 3).unwrap()),
        }
        assert_numbers(&log.take(), [item]);
        assert_eq!(counts(&queue), (item + 1, MANY - item - 1, 0));
    }
    queue.set_priority(queue.force_push(9, 9).unwrap().0, 1);
    for pop in waiters.drain(..) {
        drop(pop);
        queue.check();
    }
    queue.drain();
    queue.close();
    assert!(log.take().is_empty(), "no waiter was left");
}

#[test]
fn a_woken_pop_takes_the_most_urgent_at_the_moment_it_runs() {
    let queue = Queue::unbounded();
    let mut pops = [0; 3].map(|_| Task::waiting(queue.pop()));
    let keys = fill(&queue, &[1, 5, 3]);
    assert_eq!(pops.each_ref().map(Task::wakes), [1, 1, 1]);
    queue.try_push(9, 9).unwrap();
    assert!(queue.set_priority(keys[0], 8));
    assert_eq!(counts(&queue), (4, 0, 0));
    // In the order of their polls, whenever they were enqueued.
    assert_eq!(pops[2].ready(), Some((9, 9)));
    assert_eq!(pops[0].ready(), Some((8, 0)));
    assert_eq!(pops[1].ready(), Some((5, 1)));
    assert_eq!((queue.try_pop(), counts(&queue)), (Ok((3, 2)), (0, 0, 0)));
}

#[test]
fn a_reserved_item_is_left_for_the_woken_pop() {
    let queue = Queue::bounded(2);
    let mut pop = Task::waiting(queue.pop());
    queue.try_push(1, 1).unwrap();
    assert_eq!(queue.try_pop(), Err(TryPopError::Empty));
    let mut late = Task::waiting(queue.pop());
    let mut into = Vec::new();
    let mut many = Task::waiting(queue.pop_many(&mut into, 9));
    assert_eq!((counts(&queue), late.wakes(), many.wakes()), ((1, 2, 0), 0, 0));
    assert_eq!(queue.try_pop(), Err(TryPopError::Empty));
    assert_eq!(pop.ready(), Some((1, 1)));
    assert_eq!(counts(&queue), (0, 2, 0));
    queue.try_push(1, 2).unwrap();
    queue.try_push(1, 3).unwrap();
    let mut third = Task::waiting(queue.pop());
    let parked = Task::waiting(queue.push(7, 4));
    assert_eq!(queue.try_pop(), Err(TryPopError::Empty), "reserved as soon as it has parked");
    assert_eq!((counts(&queue), late.wakes(), many.wakes(), third.wakes()), ((2, 0, 1), 1, 1, 1));
    assert_eq!(late.ready(), Some((7, 4)));
    assert_eq!((parked.wakes(), counts(&queue)), (1, (2, 0, 0)));
    assert_eq!(many.ready(), 1);
    assert_eq!(third.ready(), Some((1, 3)));
    drop(many);
    assert_eq!((into, counts(&queue)), (vec![(1, 2)], (0, 0, 0)));
}

#[test]
fn try_pop_takes_only_unreserved_items() {
    let queue = Queue::unbounded();
    let mut pops = [0; 2].map(|_| Task::waiting(queue.pop()));
    fill(&queue, &[1, 4, 2, 3]);
    assert_eq!(queue.try_pop(), Ok((4, 1)), "the most urgent, reserved or not");
    assert_eq!(queue.try_pop(), Ok((3, 3)));
    assert_eq!(queue.try_pop(), Err(TryPopError::Empty));
    assert_eq!(counts(&queue), (2, 0, 0));
    assert_eq!(pops.each_mut().map(|pop| pop.ready().unwrap()), [(2, 2), (1, 0)]);
}

#[test]
fn pops_are_served_in_the_order_of_their_first_polls() {
    let queue = Queue::unbounded();
    let log = Arc::new(Log::default());
    let mut random = StdRng::seed_from_u64(3);
    let mut pops: Vec<_> = (0..MANY).map(|_| queue.pop()).collect();
    let mut waiters: Vec<usize> = (0..MANY).collect();
    waiters.shuffle(&mut random);
    for &index in &waiters {
        assert!(poll_with(&mut pops[index], &log.waker(index)).is_pending());
    }
    for (index, pop) in pops.iter_mut().enumerate() {
        assert!(poll_with(pop, &log.waker(index)).is_pending());
    }
    for &index in &waiters {
        queue.try_push(random.random_range(0..9), 0).unwrap();
        assert_numbers(&log.take(), [index]);
    }
    assert_eq!(counts(&queue), (MANY, 0, 0));
    let mut popped: Vec<_> = pops.iter_mut().map(|pop| ready(pop).unwrap().0).collect();
    assert!(popped.is_sorted_by(|one, next| one >= next));
    popped.dedup();
    assert_eq!(popped.len(), 9);
}

#[test]
fn a_cancelled_pop_takes_no_wake() {
    for cancelled in 0..3 {
        let queue = Queue::unbounded();
        let log = Arc::new(Log::default());
        let mut waiters: Vec<_> = (0..3).map(|entry| logged_pop(&queue, &log, entry)).collect();
        drop(waiters.remove(cancelled));
        assert_eq!((counts(&queue), log.take()), ((0, 2, 0), vec![]));
        fill(&queue, &[1, 1]);
        assert_numbers(&log.take(), (0..3).filter(|&entry| entry != cancelled));
        assert!(waiters.iter_mut().all(|pop| ready(pop).is_some()));
        assert_eq!(counts(&queue), (0, 0, 0));
    }
}

#[test]
fn a_dropped_reservation_goes_to_the_longest_waiting_pop() {
    let queue = Queue::unbounded();
    let log = Arc::new(Log::default());
    let mut waiters: Vec<_> = (0..5).map(|entry| logged_pop(&queue, &log, entry)).collect();
    fill(&queue, &[1, 2]);
    assert_numbers(&log.take(), [0, 1]);
    // The newest reservation, and not the first waiter.
    drop(waiters.remove(1));
    assert_numbers(&log.take(), [2]);
    assert_eq!(counts(&queue), (2, 2, 0));
    drop(waiters.remove(0));
    assert_numbers(&log.take(), [3]);
    drop(waiters.pop());
    assert_eq!((counts(&queue), log.take()), ((2, 0, 0), vec![]));
    drop(waiters.remove(0));
    assert!(log.take().is_empty());
    assert_eq!(queue.try_pop(), Ok((2, 1)), "no pop has reserved it");
    assert_eq!(queue.try_pop(), Err(TryPopError::Empty), "this one is still reserved");
    assert_eq!(ready(&mut waiters[0]), Some((1, 0)));
    assert_eq!(counts(&queue), (0, 0, 0));
}

#[test]
fn a_future_may_be_dropped_after_any_number_of_polls() {
    for polls in 0..4 {
        for item_after in 0..5 {
            let queue = Queue::unbounded();
            let mut cancelled = Task::new(queue.pop());
            let mut taken = 0;
            for at in 0..polls {
                if at == item_after {
                    queue.try_push(1, 1).unwrap();
                }
                if cancelled.poll().is_ready() {
                    taken += 1;
                    break;
                }
            }
            if item_after >= polls {
                queue.try_push(1, 1).unwrap();
            }
            drop(cancelled);
            assert_eq!(counts(&queue), (1 - taken, 0, 0));
            assert_eq!(pop_all(&queue).len(), 1 - taken, "{polls} polls, an item after {item_after}");
        }
    }
}

#[test]
fn spurious_polls_enqueue_nothing_twice() {
    let queue = Queue::bounded(1);
    let clones = Arc::new(AtomicUsize::new(0));
    let counted = clones.clone();
    let waker = Hooks::new()
        .on_clone(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        })
        .waker();
    let mut pop = queue.pop();
    for _ in 0..10 {
        assert!(poll_with(&mut pop, &waker).is_pending());
        assert_eq!(counts(&queue), (0, 1, 0));
    }
    assert_eq!(clones.load(Ordering::Relaxed), 1, "the same waker is cloned once");
    let counters = [0; 3].map(|_| Arc::new(Counter::default()));
    for counter in &counters {
        assert!(poll_with(&mut pop, &counter.clone().into()).is_pending());
        assert_eq!(counts(&queue), (0, 1, 0));
    }
    queue.try_push(1, 1).unwrap();
    assert_eq!(counters.each_ref().map(|counter| counter.count()), [0, 0, 1], "through the latest waker only");
    assert_eq!(counters.each_ref().map(Arc::strong_count), [1, 1, 1]);

    let mut push = queue.push(2, 2);
    for counter in counters.iter().chain(&counters) {
        assert!(poll_with(&mut push, &counter.clone().into()).is_pending());
        assert_eq!(counts(&queue), (1, 0, 1));
    }
    assert_eq!(ready(&mut pop), Some((2, 2)), "once, though it was polled six times");
    assert_eq!(counters.each_ref().map(|counter| counter.count()), [0, 0, 2]);
    assert_eq!(counters.each_ref().map(Arc::strong_count), [1, 1, 1]);
    assert!(ready(&mut push).is_ok());
    assert_eq!((pop_all(&queue), counts(&queue)), (vec![(1, 1)], (0, 0, 0)));
}

#[test]
fn a_parked_push_is_cloned_once_for_the_same_waker() {
    let (queue, _) = full(&[1]);
    let clones = Arc::new(AtomicUsize::new(0));
    let counted = clones.clone();
    let waker = Hooks::new()
        .on_clone(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        })
        .waker();
    let mut push = queue.push(1, 1);
    for _ in 0..10 {
        assert!(poll_with(&mut push, &waker).is_pending());
    }
    assert_eq!((clones.load(Ordering::Relaxed), counts(&queue)), (1, (1, 0, 1)));
}

#[test]
fn a_future_ready_at_its_first_poll_clones_no_waker() {
    let queue = Queue::bounded(1);
    let waker = Hooks::new().on_clone(|| panic!("cloned")).waker();
    assert!(poll_with(&mut queue.push(1, 1), &waker).is_ready());
    assert_eq!(poll_with(&mut queue.pop(), &waker), Poll::Ready(Some((1, 1))));
    queue.try_push(2, 2).unwrap();
    assert_eq!(poll_with(&mut queue.pop_many(&mut Vec::new(), 3), &waker), Poll::Ready(1));
    assert_eq!(poll_with(&mut queue.pop_many(&mut Vec::new(), 0), &waker), Poll::Ready(0));
    queue.try_push(3, 3).unwrap();
    let mut parked = queue.push(4, 4);
    assert!(poll(&mut parked).is_pending());
    assert_eq!(poll_with(&mut queue.pop(), &waker), Poll::Ready(Some((4, 4))), "before a parked push");
    assert!(poll(&mut parked).is_ready());
    assert_eq!(queue.try_pop(), Ok((3, 3)));
    queue.close();
    assert!(poll_with(&mut queue.push(1, 1), &waker).is_ready());
    assert_eq!(poll_with(&mut queue.pop(), &waker), Poll::Ready(None));
    assert_eq!(poll_with(&mut queue.pop_many(&mut Vec::new(), 3), &waker), Poll::Ready(0));
}

#[test]
fn a_future_that_was_never_polled_has_no_effect() {
    let alive = Alive::default();
    let queue = Ranked::bounded(1);
    let mut into = Vec::new();
    let (push, pop, many) = (queue.push(alive.rank(1, 1), alive.item(1)), queue.pop(), queue.pop_many(&mut into, 5));
    assert_eq!((counts(&queue), alive.count()), ((0, 0, 0), 2));
    queue.try_push(alive.rank(1, 2), alive.item(2)).unwrap();
    drop((push, pop, many));
    assert_eq!((counts(&queue), alive.count(), into.len()), ((1, 0, 0), 2, 0));
    assert_eq!(id_of(queue.try_pop().unwrap()), 2);
}

#[test]
fn forgotten_futures_leak_their_waiter_and_nothing_else() {
    let queue = Queue::bounded(2);
    std::mem::forget(Task::waiting(queue.pop()));
    let mut pop = Task::waiting(queue.pop());
    fill(&queue, &[1, 2]);
    assert_eq!(pop.ready(), Some((2, 1)));
    assert_eq!(queue.try_pop(), Err(TryPopError::Empty), "the forgotten one has reserved it");
    queue.try_push(3, 3).unwrap();
    std::mem::forget(Task::waiting(queue.push(4, 4)));
    assert_eq!(counts(&queue), (2, 0, 1));
    assert_eq!(queue.try_pop(), Ok((4, 4)), "the item of a forgotten push is popped like any other");
    assert_eq!(queue.try_pop(), Ok((3, 3)));
    assert_eq!((queue.try_pop(), counts(&queue)), (Err(TryPopError::Empty), (1, 0, 0)));
    assert_eq!(queue.drain(), [(1, 0)]);
    assert_eq!(counts(&queue), (0, 1, 0), "it is enqueued again, for ever");
}

#[test]
fn polling_after_completion_panics_and_changes_nothing() {
    let queue = Queue::bounded(2);
    let mut into = Vec::new();
    let (mut push, mut pop) = (queue.push(1, 1), queue.pop());
    ready(&mut push).unwrap();
    assert_eq!(ready(&mut pop), Some((1, 1)));
    assert!(panic_of(|| poll(&mut push).is_ready()).contains("ready"));
    assert!(panic_of(|| poll(&mut pop).is_ready()).contains("ready"));
    for limit in [0, 3] {
        queue.drain();
        queue.try_push(2, 2).unwrap();
        let mut many = queue.pop_many(&mut into, limit);
        assert_eq!(ready(&mut many), limit.min(1));
        assert!(panic_of(|| poll(&mut many).is_ready()).contains("ready"));
    }
    let mut waited = Task::waiting(queue.pop());
    fill(&queue, &[1, 2]);
    let mut parked = Task::waiting(queue.push(3, 3));
    assert_eq!(waited.ready(), Some((3, 3)));
    assert!(parked.ready().is_ok());
    assert!(panic_of(|| waited.poll().is_ready()).contains("ready"));
    assert!(panic_of(|| parked.poll().is_ready()).contains("ready"));
    drop((push, pop, waited, parked));
    assert_eq!(counts(&queue), (2, 0, 0));
    queue.close();
    let mut refused = queue.push(1, 1);
    assert_eq!(ready(&mut refused), Err(Closed((1, 1))));
    assert!(panic_of(|| poll(&mut refused).is_ready()).contains("ready"));
    assert_eq!(counts(&queue), (2, 0, 0));
}

#[test]
fn a_future_may_move_between_polls_and_threads() {
    let queue = Queue::bounded(1);
    let mut pop = Box::new(queue.pop());
    assert!(poll(&mut *pop).is_pending());
    let mut pop = *pop;
    queue.try_push(1, 1).unwrap();
    let mut push = Box::new(queue.push(2, 2));
    assert!(poll(&mut *push).is_pending());
    let mut push = *push;
    std::thread::scope(|scope| {
        scope.spawn(|| assert_eq!(ready(&mut pop), Some((2, 2)))).join().unwrap();
        scope.spawn(|| assert!(ready(&mut push).is_ok())).join().unwrap();
    });
    assert_eq!(counts(&queue), (1, 0, 0));
}
