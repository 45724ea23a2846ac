//! Keys: each finds its item until that is popped, and nothing afterwards.

use std::collections::HashSet;

use stanchion::{Closed, Key, PriorityQueue};

use crate::common::{Check, Task, ready};
use crate::ranked::{Alive, Ranked};
use crate::{MANY, Queue, counts, fill, full};

#[test]
fn every_way_in_gives_a_key_that_finds_the_item() {
    let queue = Queue::bounded(4);
    let keys = [
        queue.try_push(1, 0).unwrap(),
        ready(&mut queue.push(1, 1)).unwrap(),
        queue.force_push(1, 2).unwrap().0,
        queue.force_push(0, 3).unwrap().0,
    ];
    let mut parked = Task::waiting(queue.push(1, 4));
    let (by_force, victim) = queue.force_push(1, 5).unwrap();
    assert_eq!(victim, Some((0, 3)));
    assert_eq!(queue.remove(keys[3]), None, "its key died with it");
    assert_eq!(queue.remove(keys[1]), Some((1, 1)));
    let admitted = parked.ready().unwrap();
    assert_eq!(counts(&queue), (4, 0, 0));
    for (key, item) in [(by_force, 5), (keys[0], 0), (admitted, 4), (keys[2], 2)] {
        assert!(queue.set_priority(key, 7));
        assert_eq!(queue.remove(key), Some((7, item)));
        assert_eq!((queue.remove(key), queue.set_priority(key, 8)), (None, false));
        queue.check();
    }
    assert_eq!(counts(&queue), (0, 0, 0));
}

#[test]
fn a_key_outlives_its_item_and_finds_nothing() {
    let ways: [fn(&Queue, Key); 6] = [
        |queue, _| {
            queue.try_pop().unwrap();
        },
        |queue, _| {
            ready(&mut queue.pop()).unwrap();
        },
        |queue, _| assert_eq!(ready(&mut queue.pop_many(&mut Vec::new(), 3)), 1),
        |queue, key| assert!(queue.remove(key).is_some()),
        |queue, _| assert_eq!(queue.drain().len(), 1),
        |queue, _| assert!(queue.force_push(9, 9).unwrap().1.is_some()),
    ];
    for (way, leave) in ways.iter().enumerate() {
        let queue = Queue::bounded(1);
        let stale = queue.try_push(1, 1).unwrap();
        leave(&queue, stale);
        queue.drain();
        for item in 0..5 {
            assert_eq!((queue.remove(stale), queue.set_priority(stale, 4)), (None, false), "way {way}");
            let key = queue.try_push(2, item).unwrap();
            assert_ne!(key, stale);
            assert_eq!((queue.remove(stale), queue.set_priority(stale, 4)), (None, false), "way {way}");
            assert_eq!(counts(&queue), (1, 0, 0));
            assert_eq!(queue.remove(key), Some((2, item)));
        }
    }
}

/// Asserts that a key of another queue finds nothing in this one.
fn assert_finds_nothing(queue: &Queue, key: Key) {
    let before = counts(queue);
    assert_eq!((queue.remove(key), queue.set_priority(key, 9), queue.priority(key)), (None, false, None));
    assert_eq!(counts(queue), before);
}

/// Both queues have gone through the same, so slots and numbers are the same.
#[test]
fn a_key_of_another_queue_finds_nothing() {
    let [(ours, _), (theirs, _)] = [0; 2].map(|_| full(&[5]));
    assert_eq!(theirs.drain(), [(5, 0)]);
    let others = [theirs.try_push(1, 0).unwrap(), Queue::try_push(&Queue::unbounded(), 1, 1).unwrap()];
    let other = Queue::unbounded();
    let others = others.into_iter().chain(fill(&other, &[1; 4])).collect::<Vec<_>>();
    let check = || others.iter().for_each(|&key| assert_finds_nothing(&ours, key));
    check();
    let mut parked = [1, 2].map(|item| Task::waiting(ours.push(3, item)));
    check();
    assert_eq!(ours.try_pop(), Ok((5, 0)));
    let admitted = parked[0].ready().unwrap();
    check();
    ours.close();
    check();
    assert_eq!(parked[1].ready(), Err(Closed((3, 2))));
    assert_eq!((ours.priority(admitted), ours.remove(admitted)), (Some(3), Some((3, 1))));
    check();
    assert_eq!(counts(&ours), (0, 0, 0));
}

#[test]
fn keys_of_two_queues_differ() {
    let queues = [(); 100].map(|()| Queue::unbounded());
    let keys: HashSet<Key> = queues.iter().map(|queue| queue.try_push(1, 1).unwrap()).collect();
    assert_eq!(keys.len(), 100);
}

#[test]
fn the_priority_of_an_item_is_shown() {
    let queue = PriorityQueue::bounded(3);
    let push = |priority: &str| queue.try_push(priority.to_owned(), ()).unwrap();
    let keys = [push("b"), push("b"), push("a")];
    assert_eq!(queue.peek_priority().as_deref(), Some("b"));
    assert!(queue.set_priority(keys[0], "c".to_owned()));
    assert_eq!(keys.map(|key| queue.priority(key).unwrap()), ["c", "b", "a"]);
    let mut parked = Task::waiting(queue.push("b".to_owned(), ()));
    queue.remove(keys[2]).unwrap();
    assert_eq!(queue.priority(keys[2]), None);
    assert_eq!(queue.priority(parked.ready().unwrap()).as_deref(), Some("b"));
}

#[test]
fn a_queue_is_unbounded_by_default() {
    assert_eq!(Queue::default().capacity(), None);
}

#[test]
fn the_priority_for_a_stale_key_is_dropped() {
    let alive = Alive::default();
    let queue = Ranked::unbounded();
    let key = queue.try_push(alive.rank(1, 1), alive.item(1)).unwrap();
    assert!(queue.set_priority(key, alive.rank(2, 2)));
    assert_eq!(alive.count(), 2, "the old priority is dropped");
    drop(queue.try_pop());
    assert!(!queue.set_priority(key, alive.rank(2, 3)));
    assert_eq!(alive.count(), 0);
}

#[test]
fn keys_are_plain_values() {
    fn plain<K: Copy + Eq + std::hash::Hash + std::fmt::Debug + Send + Sync + 'static>(_: K) {}
    let queue = Queue::unbounded();
    let keys = fill(&queue, &[1; MANY]);
    plain(keys[0]);
    let all: HashSet<Key> = keys.iter().copied().collect();
    assert_eq!(all.len(), MANY);
    assert!(all.contains(&keys[7]) && format!("{:?}", keys[7]).contains("Key"));
}
