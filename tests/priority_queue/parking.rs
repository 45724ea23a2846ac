//! Pushes that are parked until the queue has room.

use std::sync::Arc;

use stanchion::{Key, TryPushError};

use crate::common::{Log, Task, assert_numbers, panic_of, poll, ready};
use crate::ranked::{Alive, Ranked, id_of};
use crate::{MANY, Queue, counts, fill, full, items, logged_push, pop_all};

#[test]
fn a_queue_of_capacity_none_cannot_be_made() {
    assert!(panic_of(|| Queue::bounded(0)).contains("room"));
    assert_eq!(Queue::bounded(1).capacity(), Some(1));
    assert_eq!(Queue::unbounded().capacity(), None);
}

#[test]
fn a_full_queue_refuses_or_lets_wait() {
    let (queue, _) = full(&[1, 2]);
    assert_eq!(queue.try_push(9, 9), Err(TryPushError::Full((9, 9))));
    let mut push = Task::waiting(queue.push(0, 5));
    assert_eq!(counts(&queue), (2, 0, 1));
    assert_eq!(queue.try_push(9, 9), Err(TryPushError::Full((9, 9))));
    assert_eq!(queue.try_pop(), Ok((2, 1)));
    assert_eq!((push.wakes(), counts(&queue)), (1, (2, 0, 0)), "its room was taken at once");
    assert_eq!(queue.try_push(9, 9), Err(TryPushError::Full((9, 9))));
    let key = push.ready().unwrap();
    assert_eq!((push.wakes(), queue.remove(key)), (1, Some((0, 5))));
    queue.try_push(9, 9).unwrap();
    assert_eq!(counts(&queue), (2, 0, 0));
}

#[test]
fn an_unbounded_queue_is_never_full() {
    let queue = Queue::unbounded();
    for item in 0..5_000 {
        assert!(poll(&mut queue.push(item % 7, item)).is_ready());
    }
    assert_eq!(counts(&queue), (5_000, 0, 0));
    assert!(matches!(queue.force_push(0, 0), Ok((_, None))));
}

#[test]
fn every_way_out_admits_the_most_urgent_then_oldest_parked() {
    type Way = (&'static str, fn(&Queue, &[Key]));
    let ways: [Way; 5] = [
        ("try_pop", |queue, _| assert_eq!(queue.try_pop(), Ok((9, 0)))),
        ("pop", |queue, _| assert_eq!(ready(&mut queue.pop()), Some((9, 0)))),
        ("pop_many", |queue, _| assert_eq!(ready(&mut queue.pop_many(&mut Vec::new(), 1)), 1)),
        ("remove the first", |queue, keys| assert_eq!(queue.remove(keys[0]), Some((9, 0)))),
        ("remove the last", |queue, keys| assert_eq!(queue.remove(keys[1]), Some((8, 1)))),
    ];
    for (way, leave) in ways {
        let (queue, keys) = full(&[9, 8]);
        let log = Arc::new(Log::default());
        let parks = [(3, 2), (5, 3), (5, 4), (1, 5), (5, 6)];
        let mut waiters: Vec<_> = parks.iter().map(|&(p, item)| logged_push(&queue, &log, p, item)).collect();
        assert_eq!(counts(&queue), (2, 0, 5));
        leave(&queue, &keys);
        assert_eq!(counts(&queue), (2, 0, 4), "{way}");
        assert_numbers(&log.take(), [3]);
        let key = ready(&mut waiters[1]).unwrap();
        assert_eq!(queue.remove(key), Some((5, 3)), "{way}");
        assert_numbers(&log.take(), [4]);
        // By priority, until no push is left.
        for item in [6, 2, 5] {
            assert!(queue.try_pop().is_ok());
            assert_numbers(&log.take(), [item]);
        }
        assert_eq!(counts(&queue), (2, 0, 0));
        assert_eq!(items(pop_all(&queue)), [2, 5]);
        assert!(log.take().is_empty());
        drop(waiters);
    }
}

#[test]
fn a_pop_takes_an_urgent_parked_item_and_its_key_is_stale() {
    type Way = fn(&Queue) -> (u32, u32);
    let ways: [Way; 3] = [
        |queue| queue.try_pop().unwrap(),
        |queue| ready(&mut queue.pop()).unwrap(),
        |queue| {
            let mut into = Vec::new();
            assert_eq!(ready(&mut queue.pop_many(&mut into, 1)), 1);
            into[0]
        },
    ];
    for pop in ways {
        let (queue, keys) = full(&[5, 4]);
        let mut same = Task::waiting(queue.push(5, 2));
        let mut urgent = Task::waiting(queue.push(6, 3));
        let mut lesser = Task::waiting(queue.push(1, 4));
        assert_eq!(pop(&queue), (6, 3));
        assert_eq!(counts(&queue), (2, 0, 2), "no push is admitted instead");
        assert_eq!([same.wakes(), urgent.wakes(), lesser.wakes()], [0, 1, 0]);
        let stale = urgent.ready().unwrap();
        assert_eq!((queue.remove(stale), queue.set_priority(stale, 9)), (None, false));
        assert!(!keys.contains(&stale));
        assert_eq!(pop(&queue), (5, 0), "the older of two equals, one of them parked");
        assert_eq!(([same.wakes(), lesser.wakes()], counts(&queue)), ([1, 0], (2, 0, 1)));
        assert_eq!(pop(&queue), (5, 2));
        assert_eq!(([same.wakes(), lesser.wakes()], counts(&queue)), ([1, 1], (2, 0, 0)));
        // Admitted first and popped before it was polled: stale as well.
        let stale = same.ready().unwrap();
        assert_eq!((queue.remove(stale), queue.set_priority(stale, 9)), (None, false));
        assert_eq!(queue.remove(lesser.ready().unwrap()), Some((1, 4)));
        assert_eq!(pop(&queue), (4, 1));
    }
}

#[test]
fn a_parked_item_goes_before_a_newer_admitted_equal() {
    // By `force_push`, which does not wait for room behind the parked pushes, but arrives after them.
    let (queue, _) = full(&[5, 1]);
    let mut parked = Task::waiting(queue.push(3, 2));
    let (_, victim) = queue.force_push(3, 3).unwrap();
    assert_eq!((victim, counts(&queue)), (Some((1, 1)), (2, 0, 1)));
    assert_eq!(queue.try_pop(), Ok((5, 0)));
    assert!(parked.ready().is_ok());
    assert_eq!(items(pop_all(&queue)), [2, 3]);
    // By a new priority, which is a new arrival.
    let (queue, keys) = full(&[1]);
    let mut parked = Task::waiting(queue.push(3, 2));
    assert!(queue.set_priority(keys[0], 3));
    assert_eq!((parked.wakes(), counts(&queue)), (0, (1, 0, 1)));
    assert_eq!((queue.try_pop(), parked.wakes()), (Ok((3, 2)), 1));
    assert_eq!(counts(&queue), (1, 0, 0));
    assert!(queue.remove(parked.ready().unwrap()).is_none());
    assert_eq!(queue.try_pop(), Ok((3, 0)));
}

#[test]
fn the_age_of_an_admitted_parked_item_is_that_of_its_arrival() {
    let (queue, keys) = full(&[9, 1]);
    let mut parked = Task::waiting(queue.push(3, 2));
    let (_, victim) = queue.force_push(3, 3).unwrap();
    assert_eq!(victim, Some((1, 1)));
    queue.remove(keys[0]).unwrap();
    let key = parked.ready().unwrap();
    assert_eq!(counts(&queue), (2, 0, 0));
    // The newest of the least urgent is evicted: that of `force_push`, though it was admitted earlier.
    assert_eq!(queue.force_push(4, 4).unwrap().1, Some((3, 3)));
    assert_eq!(queue.remove(key), Some((3, 2)));
}

#[test]
fn a_new_priority_admits_and_parks_no_push() {
    let (queue, keys) = full(&[5, 4]);
    let mut parked = Task::waiting(queue.push(3, 2));
    for priority in [0, 9, 3] {
        assert!(queue.set_priority(keys[0], priority));
        assert!(!queue.set_priority(queue.force_push(0, 7).unwrap().0, 9), "a stale one");
        assert_eq!((parked.wakes(), counts(&queue)), (0, (2, 0, 1)));
    }
    assert!(parked.is_pending());
    assert_eq!(items(pop_all(&queue)), [1, 2, 0]);
}

#[test]
fn a_parked_push_that_is_dropped_takes_its_item_out() {
    let alive = Alive::default();
    let queue = Ranked::bounded(1);
    queue.try_push(alive.rank(1, 0), alive.item(0)).unwrap();
    let mut waiters: Vec<_> = (1..=4).map(|id| Task::waiting(queue.push(alive.rank(5, id), alive.item(id)))).collect();
    assert_eq!((counts(&queue), alive.count()), ((1, 0, 4), 10));
    drop(waiters.remove(1));
    assert_eq!((counts(&queue), alive.count()), ((1, 0, 3), 8));
    drop(waiters.remove(0));
    drop(waiters.pop());
    assert_eq!((counts(&queue), alive.count()), ((1, 0, 1), 4));
    assert_eq!(waiters[0].wakes(), 0);
    assert_eq!(id_of(queue.try_pop().unwrap()), 3);
    assert_eq!(waiters[0].wakes(), 1);
    drop(waiters);
    assert_eq!(id_of(queue.try_pop().unwrap()), 0);
    assert_eq!((counts(&queue), alive.count()), ((0, 0, 0), 0));
}

#[test]
fn a_push_that_is_dropped_after_it_was_admitted_leaves_its_item() {
    let (queue, keys) = full(&[1]);
    let push = Task::waiting(queue.push(2, 2));
    queue.remove(keys[0]).unwrap();
    assert_eq!((push.wakes(), counts(&queue)), (1, (1, 0, 0)));
    drop(push);
    assert_eq!((counts(&queue), pop_all(&queue)), ((1, 0, 0), vec![(2, 2)]));
    // And one that is ready and kept has no effect any more.
    let mut push = queue.push(3, 3);
    ready(&mut push).unwrap();
    drop(push);
    assert_eq!(pop_all(&queue), [(3, 3)]);
    // Nor has a push that is dropped after its item was popped directly.
    queue.try_push(1, 1).unwrap();
    let push = Task::waiting(queue.push(2, 2));
    assert_eq!(queue.try_pop(), Ok((2, 2)));
    drop(push);
    assert_eq!((counts(&queue), pop_all(&queue)), ((1, 0, 0), vec![(1, 1)]));
}

#[test]
fn a_drain_admits_as_many_as_fit() {
    let queue = Queue::bounded(MANY);
    let log = Arc::new(Log::default());
    fill(&queue, &[7; MANY]);
    let mut waiters: Vec<_> = (0..MANY as u32 + 7).map(|item| logged_push(&queue, &log, item, item)).collect();
    assert_eq!(counts(&queue), (MANY, 0, MANY + 7));
    let drained = queue.drain();
    assert_eq!((drained.len(), counts(&queue)), (MANY, (MANY, 0, 7)));
    assert_eq!(items(drained), (0..MANY as u32).collect::<Vec<_>>(), "parked pushes are not drained");
    let mut woken = log.take();
    woken.sort_unstable();
    assert_numbers(&woken, 7..MANY + 7);
    assert_eq!(items(queue.drain()), (7..MANY as u32 + 7).rev().collect::<Vec<_>>());
    assert_eq!(counts(&queue), (7, 0, 0));
    assert_eq!(log.take().len(), 7);
    assert_eq!(items(queue.drain()), (0..7).rev().collect::<Vec<_>>());
    assert!(waiters.iter_mut().all(|push| ready(push).is_ok_and(|stale| queue.remove(stale).is_none())));
    assert_eq!((counts(&queue), log.take().len()), ((0, 0, 0), 0));
}
