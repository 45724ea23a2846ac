//! The order in which items are popped: by priority, then by arrival.

use std::cmp::{Ordering as Order, Reverse};
use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use stanchion::{PriorityQueue, TryPopError};

use crate::common::{Check, Task, poll, ready};
use crate::ranked::{Alive, Ranked, id_of};
use crate::{Queue, counts, fill, items, pop_all};

#[test]
fn the_greater_priority_is_popped_first_and_the_older_of_equals() {
    let queue = Queue::unbounded();
    fill(&queue, &[2, 7, 2, 9, 7, 2, 0]);
    assert_eq!(counts(&queue), (7, 0, 0));
    assert_eq!(pop_all(&queue), [(9, 3), (7, 1), (7, 4), (2, 0), (2, 2), (2, 5), (0, 6)]);
    assert_eq!(counts(&queue), (0, 0, 0));
}

#[test]
fn reverse_turns_the_order_round() {
    let queue = PriorityQueue::unbounded();
    for (priority, item) in [(3, 'a'), (1, 'b'), (2, 'c'), (1, 'd')] {
        queue.try_push(Reverse(priority), item).unwrap();
    }
    let order: String = pop_all(&queue).into_iter().map(|(_, item)| item).collect();
    assert_eq!(order, "bdca");
}

#[test]
fn a_queue_can_be_made_in_a_static() {
    static QUEUE: PriorityQueue<u8, &str> = PriorityQueue::bounded(1);
    static UNBOUNDED: PriorityQueue<u8, &str> = PriorityQueue::unbounded();
    for queue in [&QUEUE, &UNBOUNDED] {
        ready(&mut queue.push(1, "one")).unwrap();
        assert_eq!(counts(queue), (1, 0, 0));
        assert_eq!(ready(&mut queue.pop()), Some((1, "one")));
        assert_eq!(queue.try_pop(), Err(TryPopError::Empty));
    }
    assert_eq!((QUEUE.capacity(), UNBOUNDED.capacity()), (Some(1), None));
}

#[test]
fn all_pushing_methods_share_one_order() {
    let queue = Queue::bounded(9);
    queue.try_push(1, 0).unwrap();
    ready(&mut queue.push(1, 1)).unwrap();
    assert!(matches!(queue.force_push(1, 2), Ok((_, None))));
    queue.try_push(1, 3).unwrap();
    queue.try_push(2, 4).unwrap();
    ready(&mut queue.push(0, 5)).unwrap();
    assert_eq!(items(pop_all(&queue)), [4, 0, 1, 2, 3, 5]);
}

#[test]
fn all_popping_methods_take_the_most_urgent() {
    let queue = Queue::unbounded();
    let keys = fill(&queue, &[1, 8, 3, 6, 5, 4, 7, 2]);
    assert_eq!(ready(&mut queue.pop()), Some((8, 1)));
    assert_eq!(queue.try_pop(), Ok((7, 6)));
    let mut many = vec![(0, 99)];
    assert_eq!(ready(&mut queue.pop_many(&mut many, 2)), 2);
    assert_eq!(many, [(0, 99), (6, 3), (5, 4)], "appended");
    assert_eq!(queue.remove(keys[2]), Some((3, 2)));
    assert_eq!(counts(&queue), (3, 0, 0));
    assert_eq!(queue.drain(), [(4, 5), (2, 7), (1, 0)]);
    assert_eq!((counts(&queue), queue.drain()), ((0, 0, 0), vec![]));
}

#[test]
fn a_push_arrives_when_it_is_first_polled() {
    let queue = Queue::bounded(2);
    let (mut early, mut late) = (queue.push(1, 0), queue.push(1, 1));
    let (mut parked_early, mut parked_late) = (queue.push(1, 2), queue.push(1, 3));
    assert_eq!(counts(&queue), (0, 0, 0));
    ready(&mut late).unwrap();
    ready(&mut early).unwrap();
    assert!(poll(&mut parked_late).is_pending() && poll(&mut parked_early).is_pending());
    assert!(poll(&mut parked_late).is_pending(), "polling again is no new arrival");
    assert_eq!(items(pop_all(&queue)), [1, 0, 3, 2]);
}

#[test]
fn equal_priorities_keep_their_item() {
    let alive = Alive::default();
    let queue = Ranked::bounded(3);
    let push = |level, id| queue.try_push(alive.rank(level, id), alive.item(id)).unwrap();
    let keys = [push(1, 0), push(1, 1), push(1, 2)];
    let mut parked = [3, 4].map(|id| Task::waiting(queue.push(alive.rank(1, id), alive.item(id))));
    // The level has the priority of its head, which is not seen from outside.
    assert_eq!(id_of(queue.remove(keys[0]).unwrap()), 0);
    let (key, victim) = queue.force_push(alive.rank(2, 5), alive.item(5)).unwrap();
    assert_eq!(id_of(victim.unwrap()), 3);
    let (_, itself) = queue.force_push(alive.rank(1, 6), alive.item(6)).unwrap();
    assert_eq!(id_of(itself.unwrap()), 6);
    assert!(queue.set_priority(key, alive.rank(1, 7)));
    let order: Vec<_> = pop_all(&queue).into_iter().map(|(rank, item)| (rank.id, item.id)).collect();
    assert_eq!(order, [(1, 1), (2, 2), (4, 4), (7, 5)], "it has the priority that it was given, not an equal one");
    assert!(parked.iter_mut().all(|push| push.ready().is_ok()));
    assert_eq!(alive.count(), 0);
}

#[test]
fn peek_shows_the_priority_of_what_a_pop_would_take() {
    /// Equal ones can be told apart.
    #[derive(Clone, Copy, Debug)]
    struct Tagged(u32, char);
    impl PartialEq for Tagged {
        fn eq(&self, other: &Self) -> bool {
            self.0 == other.0
        }
    }
    impl Eq for Tagged {}
    impl PartialOrd for Tagged {
        fn partial_cmp(&self, other: &Self) -> Option<Order> {
            Some(self.cmp(other))
        }
    }
    impl Ord for Tagged {
        fn cmp(&self, other: &Self) -> Order {
            self.0.cmp(&other.0)
        }
    }

    let queue = PriorityQueue::bounded(2);
    let peek = || queue.peek_priority().map(|tagged: Tagged| tagged.1);
    assert_eq!(peek(), None);
    let a = queue.try_push(Tagged(1, 'a'), ()).unwrap();
    assert_eq!(peek(), Some('a'));
    queue.try_push(Tagged(1, 'b'), ()).unwrap();
    assert_eq!(peek(), Some('a'));
    assert!(queue.set_priority(a, Tagged(1, 'x')));
    assert_eq!(peek(), Some('a'), "an equal one changes nothing");
    assert!(queue.set_priority(a, Tagged(0, 'x')) && queue.set_priority(a, Tagged(1, 'c')));
    assert_eq!(peek(), Some('b'), "the other is newer now");
    let parked = Task::waiting(queue.push(Tagged(1, 'd'), ()));
    assert_eq!(peek(), Some('b'));
    let mut urgent = Task::waiting(queue.push(Tagged(2, 'e'), ()));
    assert_eq!(peek(), Some('e'), "parked ones count");
    assert_eq!(counts(&queue), (2, 0, 2));
    for tag in ['e', 'b', 'c', 'd'] {
        assert_eq!(peek(), Some(tag));
        assert_eq!(queue.try_pop().unwrap().0.1, tag);
    }
    assert_eq!((peek(), counts(&queue)), (None, (0, 0, 0)));
    assert!(urgent.ready().is_ok());
    drop(parked);
    // A reserved item is shown, too.
    let pop = Task::waiting(queue.pop());
    queue.try_push(Tagged(9, 'z'), ()).unwrap();
    queue.close();
    assert_eq!(peek(), Some('z'));
    drop(pop);
}

#[test]
fn an_item_with_another_priority_goes_behind_its_new_equals() {
    let queue = Queue::unbounded();
    let keys = fill(&queue, &[5, 5, 5, 3, 3, 9]);
    assert!(queue.set_priority(keys[0], 5), "its own changes nothing");
    queue.check();
    assert!(queue.set_priority(keys[1], 3));
    queue.check();
    assert!(queue.set_priority(keys[3], 9));
    queue.check();
    assert!(queue.set_priority(keys[5], 0));
    assert_eq!(counts(&queue), (6, 0, 0));
    queue.try_push(5, 6).unwrap();
    assert!(queue.set_priority(keys[2], 7));
    assert!(queue.set_priority(keys[2], 5), "a new arrival, behind the items that arrived meanwhile");
    assert_eq!(pop_all(&queue), [(9, 3), (5, 0), (5, 6), (5, 2), (3, 4), (3, 1), (0, 5)]);
}

#[test]
fn an_item_without_neighbours_finds_its_new_place() {
    // Priorities enough that the index of them is in several parts, the first of which holds no more than this item.
    for new in [300, 301] {
        let queue = Queue::unbounded();
        let keys: Vec<_> = (0..200).map(|level| queue.try_push(2 * level, level).unwrap()).collect();
        keys[1..100].iter().for_each(|&key| assert!(queue.remove(key).is_some()));
        assert!(queue.set_priority(keys[0], new));
        queue.check();
        let popped = items(pop_all(&queue));
        let wanted: Vec<u32> =
            (151..200).rev().chain(if new == 300 { [150, 0] } else { [0, 150] }).chain((100..150).rev()).collect();
        assert_eq!(popped, wanted, "to {new}");
    }
}

#[test]
fn the_order_is_that_of_a_sorted_list_whatever_the_mixture() {
    let mut random = StdRng::seed_from_u64(1);
    for round in 0..30 {
        let levels = [1, 2, 5, 50][round % 4];
        let queue = Queue::unbounded();
        // The model: (priority, arrival) -> item.
        let mut model = BTreeMap::new();
        let mut keys = Vec::new();
        let mut clock = 0_u32;
        for _ in 0..300 {
            clock += 1;
            let priority = random.random_range(0..levels);
            match random.random_range(0..10) {
                0..=3 => {
                    let key = match random.random_range(0..3) {
                        0 => queue.try_push(priority, clock).unwrap(),
                        1 => ready(&mut queue.push(priority, clock)).unwrap(),
                        _ => queue.force_push(priority, clock).unwrap().0,
                    };
                    model.insert((Reverse(priority), clock), clock);
                    keys.push((key, clock));
                }
                4..=5 => {
                    let wanted = model.pop_first().map(|((Reverse(priority), _), item)| (priority, item));
                    assert_eq!(queue.try_pop().ok(), wanted);
                }
                6..=7 if !keys.is_empty() => {
                    let (key, item) = keys[random.random_range(0..keys.len())];
                    let place = model.iter().find(|(_, held)| **held == item).map(|(&place, _)| place);
                    assert_eq!(queue.set_priority(key, priority), place.is_some());
                    if let Some(place) = place.filter(|place| place.0.0 != priority) {
                        model.remove(&place);
                        model.insert((Reverse(priority), clock), item);
                    }
                }
                _ if !keys.is_empty() => {
                    let (key, item) = keys.swap_remove(random.random_range(0..keys.len()));
                    let place = model.iter().find(|(_, held)| **held == item).map(|(&place, _)| place);
                    let removed = place.map(|place| (place.0.0, model.remove(&place).unwrap()));
                    assert_eq!(queue.remove(key), removed);
                }
                _ => {}
            }
            assert_eq!(counts(&queue), (model.len(), 0, 0));
            assert_eq!(queue.peek_priority(), model.keys().next().map(|place| place.0.0));
        }
        let rest: Vec<_> = model.iter().map(|(place, &item)| (place.0.0, item)).collect();
        assert_eq!(if round % 2 == 0 { queue.drain() } else { pop_all(&queue) }, rest);
    }
}

/// Two urgent items arrive for each that is popped. With deadlines, an item waits for those alone that have no later
/// deadline.
#[test]
fn a_deadline_starves_no_item_and_a_fixed_priority_does() {
    const DEADLINE: u64 = 500;
    const BACKLOG: u64 = 100;
    const TICKS: u64 = 10 * DEADLINE;
    let queue = PriorityQueue::<Reverse<u64>, bool>::unbounded();
    for deadline in 0..BACKLOG {
        queue.try_push(Reverse(deadline), false).unwrap();
    }
    queue.try_push(Reverse(DEADLINE), true).unwrap();
    let mut before = 0;
    for now in 0..TICKS {
        for _ in 0..2 {
            queue.try_push(Reverse(now), false).unwrap();
        }
        let (Reverse(deadline), is_patient) = queue.try_pop().unwrap();
        assert!(deadline <= DEADLINE || before == u64::MAX, "a later deadline went before it");
        if is_patient {
            let all_before = BACKLOG + 2 * DEADLINE;
            assert_eq!(before, all_before, "only those with an earlier deadline, and all of them");
            before = u64::MAX;
        }
        before = before.saturating_add(1);
    }
    assert_eq!(before, u64::MAX, "it was popped");

    let queue = PriorityQueue::<u64, bool>::unbounded();
    queue.try_push(1, true).unwrap();
    for _ in 0..TICKS {
        for _ in 0..2 {
            queue.try_push(2, false).unwrap();
        }
        assert!(!queue.try_pop().unwrap().1, "the same with fixed priorities");
    }
}

#[test]
fn no_item_is_overtaken_by_one_with_a_later_deadline() {
    let mut random = StdRng::seed_from_u64(2);
    let queue = PriorityQueue::<Reverse<u64>, ()>::unbounded();
    let mut inside: Vec<u64> = Vec::new();
    for now in 0..2_000 {
        for _ in 0..random.random_range(0..4) {
            let deadline = now + random.random_range(0..50);
            queue.try_push(Reverse(deadline), ()).unwrap();
            inside.push(deadline);
        }
        if let Ok((Reverse(deadline), ())) = queue.try_pop() {
            assert!(inside.iter().all(|&other| other >= deadline), "an item with an earlier deadline is in the queue");
            inside.swap_remove(inside.iter().position(|&other| other == deadline).unwrap());
        }
    }
    queue.check();
    assert_eq!(queue.len(), inside.len());
}
