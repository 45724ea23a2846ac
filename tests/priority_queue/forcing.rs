//! `force_push`: it evicts the least urgent item of a full queue.

use crate::common::Task;
use crate::{Queue, counts, full, items, pop_all};

#[test]
fn force_push_evicts_the_least_urgent_item_of_a_full_queue() {
    let (queue, keys) = full(&[4, 2, 9, 2]);
    let (key, victim) = queue.force_push(3, 4).unwrap();
    assert_eq!((victim, counts(&queue)), (Some((2, 3)), (4, 0, 0)), "the newest of the least urgent");
    assert!(queue.remove(keys[3]).is_none());
    let (stale, victim) = queue.force_push(2, 5).unwrap();
    assert_eq!((victim, counts(&queue)), (Some((2, 5)), (4, 0, 0)), "among equals it is the newest itself");
    assert_eq!((queue.remove(stale), queue.set_priority(stale, 9)), (None, false));
    let (_, victim) = queue.force_push(0, 6).unwrap();
    assert_eq!(victim, Some((0, 6)));
    assert!(queue.set_priority(key, 2), "now it is the newest of the least urgent");
    assert_eq!(queue.force_push(9, 7).unwrap().1, Some((2, 4)));
    assert_eq!(items(pop_all(&queue)), [2, 7, 0, 1]);
}

#[test]
fn force_push_leaves_parked_pushes_alone() {
    let (queue, _) = full(&[5]);
    let mut lesser = Task::waiting(queue.push(1, 1));
    let mut greater = Task::waiting(queue.push(8, 2));
    assert_eq!(queue.force_push(4, 3).unwrap().1, Some((4, 3)), "less urgent than all that is admitted");
    assert_eq!(queue.force_push(6, 4).unwrap().1, Some((5, 0)));
    assert_eq!((counts(&queue), lesser.wakes(), greater.wakes()), ((1, 0, 2), 0, 0));
    assert!(lesser.is_pending() && greater.is_pending());
    assert_eq!(items(pop_all(&queue)), [2, 4, 1]);
}

#[test]
fn force_push_with_room_evicts_nothing_and_serves_a_waiter() {
    let queue = Queue::bounded(2);
    let mut pop = Task::waiting(queue.pop());
    let (key, victim) = queue.force_push(1, 1).unwrap();
    assert_eq!((victim, pop.wakes(), counts(&queue)), (None, 1, (1, 0, 0)));
    assert!(queue.set_priority(key, 3));
    assert_eq!(queue.force_push(2, 2).unwrap().1, None);
    let mut late = Task::waiting({
        assert_eq!(queue.try_pop(), Ok((3, 1)));
        queue.pop()
    });
    assert_eq!(queue.force_push(9, 9).unwrap().1, None);
    // Full, and all of it reserved: an exchange, which wakes no waiter.
    assert_eq!(queue.force_push(8, 8).unwrap().1, Some((2, 2)));
    assert_eq!((pop.wakes(), late.wakes(), counts(&queue)), (1, 1, (2, 0, 0)));
    let waiting = Task::waiting(queue.pop());
    assert_eq!(queue.force_push(1, 7).unwrap().1, Some((1, 7)));
    assert_eq!((waiting.wakes(), counts(&queue)), (0, (2, 1, 0)));
    assert_eq!((late.ready(), pop.ready()), (Some((9, 9)), Some((8, 8))));
}
