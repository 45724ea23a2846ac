//! Closing: waiters end, the items that were admitted are popped.

use std::sync::Arc;

use stanchion::{Closed, PriorityQueue, TryPopError, TryPushError, blocking};

use crate::common::{Check, Log, Task, assert_numbers, ends, poll_with, ready};
use crate::ranked::{Alive, Ranked, id_of};
use crate::{MANY, Queue, counts, fill, logged_pop, pop_all};

#[test]
fn close_refuses_new_items_and_keeps_the_admitted_ones() {
    let queue = Queue::bounded(3);
    let mut made_before = queue.push(1, 1);
    let keys = fill(&queue, &[1, 2, 3]);
    assert!(!queue.is_closed());
    for _ in 0..2 {
        queue.close();
        assert!(queue.is_closed());
        assert_eq!(counts(&queue), (3, 0, 0));
        assert_eq!(queue.try_push(7, 8), Err(TryPushError::Closed((7, 8))), "closed comes before full");
        assert_eq!(queue.force_push(7, 8), Err(Closed((7, 8))));
        assert_eq!(ready(&mut queue.push(7, 8)), Err(Closed((7, 8))));
    }
    assert_eq!(ready(&mut made_before), Err(Closed((1, 1))));
    assert!(queue.set_priority(keys[0], 9));
    assert_eq!(ready(&mut queue.pop()), Some((9, 0)));
    assert_eq!(queue.try_push(7, 8), Err(TryPushError::Closed((7, 8))), "with room as well");
    assert_eq!(queue.remove(keys[1]), Some((2, 1)));
    let mut into = Vec::new();
    assert_eq!(ready(&mut queue.pop_many(&mut into, 9)), 1);
    assert_eq!(counts(&queue), (0, 0, 0));
    assert_eq!(queue.try_pop(), Err(TryPopError::Closed));
    assert_eq!(ready(&mut queue.pop()), None);
    assert_eq!(ready(&mut queue.pop_many(&mut into, 9)), 0);
    assert_eq!((into, queue.drain()), (vec![(3, 2)], vec![]));
}

#[test]
fn close_gives_parked_pushes_their_item_back() {
    let alive = Alive::default();
    let queue = Ranked::bounded(1);
    queue.try_push(alive.rank(1, 0), alive.item(0)).unwrap();
    let mut waiters: Vec<_> =
        (1..=MANY as u32).map(|id| Task::waiting(queue.push(alive.rank(id % 3, id), alive.item(id)))).collect();
    queue.close();
    assert_eq!(counts(&queue), (1, 0, 0));
    assert!(waiters.iter().all(|push| push.wakes() == 1));
    // Some are dropped without another poll, and keep nothing.
    drop(waiters.split_off(50));
    queue.check();
    for (id, mut push) in (1..).zip(waiters) {
        let Err(Closed((rank, item))) = push.ready() else { panic!("it was revoked") };
        assert_eq!((rank.id, item.id), (id, id));
    }
    assert_eq!(alive.count(), 2);
    assert_eq!(pop_all(&queue).into_iter().map(id_of).collect::<Vec<_>>(), [0]);
    assert_eq!((queue.try_pop().err(), alive.count()), (Some(TryPopError::Closed), 0));
}

#[test]
fn revoked_items_are_not_in_the_queue() {
    let alive = Alive::default();
    let queue = PriorityQueue::<u32, _>::bounded(2);
    let keys = [1, 3].map(|id| queue.try_push(id, alive.item(id)).unwrap());
    let mut waiters: Vec<_> = (4..=9).map(|id| Task::waiting(queue.push(id, alive.item(id)))).collect();
    waiters.extend((0..3).map(|id| Task::waiting(queue.push(id, alive.item(id)))));
    queue.close();
    assert_eq!((counts(&queue), queue.peek_priority()), ((2, 0, 0), Some(3)));
    drop(waiters.pop());
    assert_eq!(queue.try_pop().map(|(level, _)| level), Ok(3));
    assert_eq!((counts(&queue), queue.peek_priority()), ((1, 0, 0), Some(1)));
    assert!(queue.set_priority(keys[0], 7), "among the revoked pushes");
    assert_eq!(queue.remove(keys[0]).map(|(level, _)| level), Some(7));
    assert_eq!((counts(&queue), queue.peek_priority()), ((0, 0, 0), None));
    assert_eq!(queue.try_pop().err(), Some(TryPopError::Closed));
    assert!(queue.drain().is_empty() && ready(&mut queue.pop()).is_none());
    assert_eq!(ready(&mut queue.pop_many(&mut Vec::new(), 5)), 0);
    for (push, id) in waiters.iter_mut().zip([4, 5, 6, 7, 8, 9, 0, 1]) {
        let Err(Closed((level, item))) = push.ready() else { panic!("it was revoked") };
        assert_eq!((level, item.id), (id, id));
        queue.check();
    }
    assert_eq!(alive.count(), 0);
}

#[test]
fn revoked_items_of_forgotten_pushes_are_dropped_with_the_queue() {
    let alive = Alive::default();
    let queue = Ranked::bounded(1);
    queue.try_push(alive.rank(1, 0), alive.item(0)).unwrap();
    std::mem::forget(Task::waiting(queue.push(alive.rank(1, 1), alive.item(1))));
    queue.close();
    assert_eq!((counts(&queue), pop_all(&queue).into_iter().map(id_of).collect::<Vec<_>>()), ((1, 0, 0), vec![0]));
    assert_eq!(queue.try_pop().err(), Some(TryPopError::Closed));
    assert_eq!(alive.count(), 2);
    drop(queue);
    assert_eq!(alive.count(), 0);
}

#[test]
fn close_revokes_no_push_that_was_admitted_or_popped() {
    let queue = Queue::bounded(2);
    let keys = fill(&queue, &[5, 1]);
    let mut admitted = Task::waiting(queue.push(4, 2));
    let mut popped = Task::waiting(queue.push(9, 3));
    let mut revoked = Task::waiting(queue.push(0, 4));
    assert_eq!(queue.try_pop(), Ok((9, 3)));
    assert_eq!(queue.remove(keys[0]), Some((5, 0)));
    queue.close();
    assert_eq!([admitted.wakes(), popped.wakes(), revoked.wakes()], [1, 1, 1]);
    let key = admitted.ready().expect("admitted before the close");
    assert_eq!(queue.remove(key), Some((4, 2)));
    let stale = popped.ready().expect("its item was popped before the close");
    assert_eq!(queue.remove(stale), None);
    assert_eq!(revoked.ready(), Err(Closed((0, 4))));
    assert_eq!((pop_all(&queue), counts(&queue)), (vec![(1, 1)], (0, 0, 0)));
}

#[test]
fn close_wakes_all_pops_of_an_empty_queue() {
    let queue = Queue::unbounded();
    let log = Arc::new(Log::default());
    let mut waiters: Vec<_> = (0..MANY).map(|entry| logged_pop(&queue, &log, entry)).collect();
    let mut into = Vec::new();
    let mut many = Task::waiting(queue.pop_many(&mut into, 9));
    queue.close();
    assert_eq!((counts(&queue), many.wakes()), ((0, 0, 0), 1));
    assert_numbers(&log.take(), 0..MANY);
    drop(waiters.split_off(50));
    assert!(waiters.iter_mut().all(|pop| ready(pop).is_none()));
    assert_eq!(many.ready(), 0);
    queue.close();
    assert!(log.take().is_empty());
}

#[test]
fn a_reserved_item_is_popped_after_the_close() {
    let queue = Queue::unbounded();
    let mut reserved = Task::waiting(queue.pop());
    queue.try_push(1, 1).unwrap();
    queue.close();
    assert_eq!((reserved.wakes(), counts(&queue)), (1, (1, 0, 0)));
    assert_eq!(queue.try_pop(), Err(TryPopError::Empty), "not drained yet, and not for this one");
    assert_eq!(reserved.ready(), Some((1, 1)));
    assert_eq!(queue.try_pop(), Err(TryPopError::Closed));
}

/// The last item of a closed queue is reserved by one pop, and is popped, removed or drained while others wait.
#[test]
fn waiters_of_a_closed_queue_are_woken_when_it_is_drained() {
    for way in ["pop", "remove", "drain"] {
        let queue = Queue::unbounded();
        let mut reserved = Task::waiting(queue.pop());
        let log = Arc::new(Log::default());
        let mut waiters: Vec<_> = (0..MANY).map(|entry| logged_pop(&queue, &log, entry)).collect();
        let key = queue.try_push(1, 1).unwrap();
        queue.close();
        assert_eq!((counts(&queue), log.take()), ((1, MANY, 0), vec![]), "the item may still be theirs");
        let mut late = Task::waiting(queue.pop());
        let mut into = Vec::new();
        let mut many = Task::waiting(queue.pop_many(&mut into, 2));
        assert!(poll_with(&mut waiters[7], &log.waker(7)).is_pending());
        match way {
            "pop" => assert_eq!(reserved.ready(), Some((1, 1))),
            "remove" => assert_eq!(queue.remove(key), Some((1, 1))),
            _ => assert_eq!(queue.drain(), [(1, 1)]),
        }
        assert_eq!((counts(&queue), late.wakes(), many.wakes()), ((0, 0, 0), 1, 1), "{way}");
        assert_numbers(&log.take(), 0..MANY);
        if way != "pop" {
            assert_eq!((reserved.wakes(), reserved.ready()), (1, None), "it was woken, and there is no item");
        }
        assert!(waiters.iter_mut().all(|pop| ready(pop).is_none()));
        assert_eq!((late.ready(), many.ready()), (None, 0));
    }
}

#[test]
fn a_reserved_pop_that_is_dropped_after_the_close_passes_on() {
    let queue = Queue::unbounded();
    let first = Task::waiting(queue.pop());
    let mut second = Task::waiting(queue.pop());
    let mut third = Task::waiting(queue.pop());
    queue.try_push(1, 1).unwrap();
    queue.close();
    assert_eq!((second.wakes(), third.wakes(), counts(&queue)), (0, 0, (1, 2, 0)));
    drop(first);
    assert_eq!((second.wakes(), third.wakes(), counts(&queue)), (1, 0, (1, 1, 0)));
    assert!(third.is_pending());
    assert_eq!((second.ready(), third.wakes()), (Some((1, 1)), 1));
    assert_eq!(third.ready(), None);
}

#[test]
fn a_waiting_pop_of_a_closed_queue_may_be_cancelled() {
    let queue = Queue::unbounded();
    let mut reserved = Task::waiting(queue.pop());
    let cancelled = Task::waiting(queue.pop());
    queue.try_push(1, 1).unwrap();
    queue.close();
    drop(cancelled);
    assert_eq!(counts(&queue), (1, 0, 0));
    drop(Task::waiting(queue.pop()));
    assert_eq!((counts(&queue), reserved.ready()), ((1, 0, 0), Some((1, 1))));
}

#[test]
fn a_cancelled_reservation_of_a_closed_queue_is_for_a_later_pop() {
    let queue = Queue::unbounded();
    let reserved = Task::waiting(queue.pop());
    queue.try_push(1, 1).unwrap();
    queue.close();
    drop(reserved);
    assert_eq!(counts(&queue), (1, 0, 0));
    assert_eq!(ready(&mut queue.pop()), Some((1, 1)));
    assert_eq!(ready(&mut queue.pop()), None);
}

#[test]
fn a_removal_after_close_revokes_the_newest_reservation() {
    let queue = Queue::unbounded();
    let mut pops = [0; 2].map(|_| Task::waiting(queue.pop()));
    let keys = fill(&queue, &[1, 2]);
    queue.close();
    queue.remove(keys[0]).unwrap();
    assert_eq!(counts(&queue), (1, 1, 0));
    assert!(pops[1].is_pending());
    assert_eq!(pops[1].wakes(), 1);
    assert_eq!((pops[0].ready(), pops[1].wakes()), (Some((2, 1)), 2));
    assert_eq!(pops[1].ready(), None);
}

#[test]
fn exactly_the_items_accepted_before_close_are_popped() {
    ends(|| {
        for round in 0..60_usize {
            let queue = Queue::bounded(3);
            let (mut accepted, mut popped) = std::thread::scope(|scope| {
                let queue = &queue;
                let push = |item| match item % 3 {
                    0 => loop {
                        match queue.try_push(item % 5, item) {
                            Ok(_) => break true,
                            Err(TryPushError::Full(_)) => std::thread::yield_now(),
                            Err(TryPushError::Closed(_)) => break false,
                        }
                    },
                    _ => blocking::wait(queue.push(item % 5, item)).is_ok(),
                };
                let pushers = [0, 1_000_000]
                    .map(|first| scope.spawn(move || (first..).take_while(|&item| push(item)).collect::<Vec<_>>()));
                let poppers = [0; 2].map(|_| {
                    scope.spawn(move || {
                        let mut popped = Vec::new();
                        while let Some((_, item)) = blocking::wait(queue.pop()) {
                            popped.push(item);
                            if popped.len() == round {
                                queue.close();
                            }
                        }
                        popped
                    })
                });
                if round == 0 {
                    queue.close();
                }
                let accepted: Vec<u32> = pushers.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
                (accepted, poppers.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>())
            });
            accepted.sort_unstable();
            popped.sort_unstable();
            assert_eq!((accepted, counts(&queue)), (popped, (0, 0, 0)));
        }
    });
}
