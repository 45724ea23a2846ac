//! Reservations that are revoked because items are removed, drained or withdrawn.

use std::sync::Arc;

use stanchion::{Closed, TryPopError};

use crate::common::{Log, Task, assert_numbers, poll_with, ready};
use crate::{Queue, counts, fill, logged_pop};

#[test]
fn a_pop_waits_again_if_its_item_is_removed() {
    for drain in [false, true] {
        let queue = Queue::unbounded();
        let mut pop = Task::waiting(queue.pop());
        let key = queue.try_push(1, 1).unwrap();
        assert_eq!((pop.wakes(), counts(&queue)), (1, (1, 0, 0)));
        if drain {
            assert_eq!(queue.drain(), [(1, 1)]);
        } else {
            assert_eq!(queue.remove(key), Some((1, 1)));
        }
        assert_eq!(counts(&queue), (0, 1, 0));
        assert!(pop.is_pending());
        assert_eq!(counts(&queue), (0, 1, 0));
        queue.try_push(2, 2).unwrap();
        assert_eq!((pop.wakes(), counts(&queue)), (2, (1, 0, 0)));
        assert_eq!(pop.ready(), Some((2, 2)));
    }
}

#[test]
fn a_pop_served_twice_before_it_runs_needs_one_wake() {
    let queue = Queue::unbounded();
    let mut pop = Task::waiting(queue.pop());
    let mut next = Task::waiting(queue.pop());
    let key = queue.try_push(1, 1).unwrap();
    queue.remove(key).unwrap();
    queue.try_push(2, 2).unwrap();
    assert_eq!((pop.wakes(), next.wakes(), counts(&queue)), (1, 0, (1, 1, 0)));
    assert_eq!(pop.ready(), Some((2, 2)));
    assert!(next.is_pending());
}

#[test]
fn the_newest_reservation_is_revoked_to_the_front() {
    for polled in [false, true] {
        let queue = Queue::unbounded();
        let log = Arc::new(Log::default());
        let mut waiters: Vec<_> = (0..4).map(|entry| logged_pop(&queue, &log, entry)).collect();
        let keys = fill(&queue, &[9, 1, 5]);
        assert_numbers(&log.take(), [0, 1, 2]);
        // Whichever item is removed.
        queue.remove(keys[0]).unwrap();
        assert_eq!(counts(&queue), (2, 2, 0));
        queue.remove(keys[1]).unwrap();
        assert_eq!(counts(&queue), (1, 3, 0));
        if polled {
            for index in [2, 1] {
                assert!(poll_with(&mut waiters[index], &log.waker(index)).is_pending());
            }
        }
        assert_eq!(queue.try_pop(), Err(TryPopError::Empty));
        fill(&queue, &[7, 7]);
        assert_numbers(&log.take(), if polled { vec![1, 2] } else { vec![] });
        assert!(poll_with(&mut waiters[3], &log.waker(3)).is_pending());
        assert_eq!(counts(&queue), (3, 1, 0));
        queue.try_push(1, 8).unwrap();
        assert_numbers(&log.take(), [3]);
        let popped: Vec<_> = waiters.iter_mut().map(|pop| ready(pop).unwrap().0).collect();
        assert_eq!(popped, [7, 7, 5, 1]);
    }
}

#[test]
fn after_a_drain_the_pops_are_in_their_old_order() {
    let queue = Queue::unbounded();
    let log = Arc::new(Log::default());
    let mut waiters: Vec<_> = (0..6).map(|entry| logged_pop(&queue, &log, entry)).collect();
    fill(&queue, &[1, 3, 2, 4]);
    assert_numbers(&log.take(), 0..4);
    assert_eq!(queue.drain(), [(4, 3), (3, 1), (2, 2), (1, 0)]);
    assert_eq!(counts(&queue), (0, 6, 0));
    for (index, pop) in waiters.iter_mut().enumerate().rev() {
        assert!(poll_with(pop, &log.waker(index)).is_pending());
    }
    for entry in 0..6 {
        queue.try_push(1, 1).unwrap();
        assert_numbers(&log.take(), [entry]);
    }
    assert!(waiters.iter_mut().all(|pop| ready(pop).is_some()));
}

#[test]
fn a_pop_that_waits_again_may_be_cancelled() {
    for polled in [false, true] {
        let queue = Queue::unbounded();
        let mut cancelled = Task::waiting(queue.pop());
        let mut next = Task::waiting(queue.pop());
        let key = queue.try_push(1, 1).unwrap();
        queue.remove(key).unwrap();
        assert!(!polled || cancelled.is_pending());
        drop(cancelled);
        assert_eq!((next.wakes(), counts(&queue)), (0, (0, 1, 0)));
        queue.try_push(2, 2).unwrap();
        assert_eq!((next.wakes(), next.ready()), (1, Some((2, 2))));
    }
}

#[test]
fn a_pop_many_waits_again_if_its_item_is_removed() {
    let queue = Queue::unbounded();
    let mut into = Vec::new();
    let mut many = Task::waiting(queue.pop_many(&mut into, 2));
    let key = queue.try_push(1, 1).unwrap();
    queue.remove(key).unwrap();
    assert!(many.is_pending());
    fill(&queue, &[3, 4, 5]);
    assert_eq!((many.wakes(), many.ready()), (2, 2));
    drop(many);
    assert_eq!((into, counts(&queue)), (vec![(5, 2), (4, 1)], (1, 0, 0)));
}

#[test]
fn a_removal_that_leaves_enough_revokes_no_reservation() {
    let queue = Queue::unbounded();
    let mut pops = [0; 2].map(|_| Task::waiting(queue.pop()));
    let keys = fill(&queue, &[1, 2, 3]);
    queue.remove(keys[1]).unwrap();
    assert_eq!(counts(&queue), (2, 0, 0));
    assert_eq!(queue.try_pop(), Err(TryPopError::Empty));
    assert_eq!(pops.each_mut().map(|pop| pop.ready().unwrap()), [(3, 2), (1, 0)]);
}

#[test]
fn a_parked_item_makes_up_for_a_removed_one() {
    let queue = Queue::bounded(2);
    let mut pops = [0; 3].map(|_| Task::waiting(queue.pop()));
    let keys = fill(&queue, &[5, 6]);
    let mut parked = [(1, 2), (3, 3)].map(|(priority, item)| Task::waiting(queue.push(priority, item)));
    assert_eq!((counts(&queue), pops[2].wakes()), ((2, 0, 2), 1), "a parked item may be popped");
    assert_eq!(queue.remove(keys[1]), Some((6, 1)));
    assert_eq!(counts(&queue), (2, 0, 1), "the reservations hold");
    assert_eq!(parked.each_ref().map(Task::wakes), [0, 1]);
    let key = parked[1].ready().unwrap();
    assert!(queue.set_priority(key, 4));
    // The drain leaves room for one more than there is.
    assert_eq!(queue.drain(), [(5, 0), (4, 3)]);
    assert_eq!((counts(&queue), parked[0].wakes()), ((1, 2, 0), 1));
    assert_eq!(pops.each_ref().map(Task::wakes), [1, 1, 1]);
    assert!(pops[1].is_pending() && pops[2].is_pending());
    assert_eq!(pops[0].ready(), Some((1, 2)));
    assert!(parked[0].ready().is_ok());
    queue.try_push(7, 7).unwrap();
    assert_eq!(pops.each_ref().map(Task::wakes), [1, 2, 1]);
}

#[test]
fn two_pops_are_served_beside_one_admitted_and_one_parked() {
    let queue = Queue::bounded(1);
    let mut first = Task::waiting(queue.pop());
    queue.try_push(1, 0).unwrap();
    let mut push = Task::waiting(queue.push(2, 1));
    let mut second = Task::new(queue.pop());
    assert_eq!(second.ready(), Some((2, 1)), "an item is there that no pop has reserved");
    assert_eq!((first.ready(), counts(&queue)), (Some((1, 0)), (0, 0, 0)));
    assert!(push.ready().is_ok());
}

#[test]
fn a_push_that_gives_up_takes_the_newest_reservation() {
    let queue = Queue::bounded(1);
    let mut pops = [0; 2].map(|_| Task::waiting(queue.pop()));
    queue.try_push(1, 0).unwrap();
    let push = Task::waiting(queue.push(2, 1));
    assert_eq!((counts(&queue), pops[1].wakes()), ((1, 0, 1), 1));
    drop(push);
    assert_eq!(counts(&queue), (1, 1, 0));
    assert!(pops[1].is_pending());
    assert_eq!(queue.try_pop(), Err(TryPopError::Empty), "the older reservation stands");
    assert_eq!(pops[0].ready(), Some((1, 0)));
    queue.try_push(3, 3).unwrap();
    assert_eq!((pops[1].wakes(), pops[1].ready()), (2, Some((3, 3))));
}

#[test]
fn closing_takes_reservations_for_parked_items_back() {
    let queue = Queue::bounded(1);
    let mut pops = [0; 3].map(|_| Task::waiting(queue.pop()));
    queue.try_push(1, 0).unwrap();
    let mut push = Task::waiting(queue.push(2, 1));
    queue.close();
    assert_eq!(counts(&queue), (1, 2, 0));
    assert!(pops[1].is_pending() && pops[2].is_pending());
    assert_eq!(push.ready(), Err(Closed((2, 1))));
    assert_eq!(pops[0].ready(), Some((1, 0)));
    assert_eq!(pops.each_mut().map(|pop| pop.wakes()), [1, 2, 1]);
    assert_eq!([pops[1].ready(), pops[2].ready()], [None, None]);
}
