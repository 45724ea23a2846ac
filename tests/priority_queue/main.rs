//! How a priority queue behaves: who gets which item and when, whatever priorities, items, futures and wakers do.

#![cfg(not(loom))]

#[path = "../common/mod.rs"]
mod common;
mod comparisons;
mod foreign_code;
mod giving_up;
mod levels;
mod ranked;
mod retaining;

use std::cmp::{Ordering as Order, Reverse};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use common::hostile::Hostile;
use common::{Check, Counter, Log, Task, assert_numbers, ends, panic_of, poll, poll_with, ready};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use ranked::{Ledger, Ranked, comparisons, id_of};
use stanchion::{Closed, Key, Pop, PriorityQueue, Push, TryPopError, TryPushError, blocking};

/// More waiters than any batch of wakers takes at once.
const MANY: usize = 100;

type Queue = PriorityQueue<u32, u32>;

impl<P: Ord, T> Check for PriorityQueue<P, T> {
    fn check(&self) {
        self.validate();
    }
}

/// Checks the invariants and returns (admitted, waiting pops, parked pushes).
fn counts<P: Ord, T>(queue: &PriorityQueue<P, T>) -> (usize, usize, usize) {
    queue.check();
    let (len, pops, pushes) = (queue.len(), queue.waiting_pops(), queue.waiting_pushes());
    assert_eq!(queue.is_empty(), len == 0);
    assert!(queue.capacity().is_none_or(|capacity| if pushes > 0 { len == capacity } else { len <= capacity }));
    (len, pops, pushes)
}

/// A full queue with these priorities; the items are 0, 1, 2 and so on.
fn full(priorities: &[u32]) -> (Queue, Vec<Key>) {
    let queue = Queue::bounded(priorities.len());
    let keys = fill(&queue, priorities);
    (queue, keys)
}

fn fill(queue: &Queue, priorities: &[u32]) -> Vec<Key> {
    let items = priorities.iter().zip(0..);
    items.map(|(&priority, item)| queue.try_push(priority, item).expect("there is room")).collect()
}

/// Everything that nobody else has a claim to, in the order in which it is popped.
fn pop_all<P: Ord, T>(queue: &PriorityQueue<P, T>) -> Vec<(P, T)> {
    std::iter::from_fn(|| queue.try_pop().ok()).inspect(|_| queue.check()).collect()
}

fn items(pairs: impl IntoIterator<Item = (u32, u32)>) -> Vec<u32> {
    pairs.into_iter().map(|(_, item)| item).collect()
}

/// A waiting pop whose waker writes `entry` into `log`.
#[track_caller]
fn logged_pop<'q>(queue: &'q Queue, log: &Arc<Log>, entry: usize) -> Pop<'q, u32, u32> {
    let mut pop = queue.pop();
    assert!(poll_with(&mut pop, &log.waker(entry)).is_pending());
    pop
}

/// A parked push whose waker writes `item` into `log`.
#[track_caller]
fn logged_push<'q>(queue: &'q Queue, log: &Arc<Log>, priority: u32, item: u32) -> Push<'q, u32, u32> {
    let mut push = queue.push(priority, item);
    assert!(poll_with(&mut push, &log.waker(item as usize)).is_pending());
    push
}

// ---------------------------------------------------------------------------------------------------------------------
// Order
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn the_greater_priority_leaves_first_and_the_older_of_equals() {
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
fn all_ways_in_are_one_line() {
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
fn all_ways_out_take_the_most_urgent() {
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
    let ledger = Ledger::default();
    let queue = Ranked::bounded(3);
    let push = |level, id| queue.try_push(ledger.rank(level, id), ledger.item(id)).unwrap();
    let keys = [push(1, 0), push(1, 1), push(1, 2)];
    let mut parked = [3, 4].map(|id| Task::waiting(queue.push(ledger.rank(1, id), ledger.item(id))));
    // Whose priority stands for the level is nobody's business: the first one goes, and comes back.
    assert_eq!(id_of(queue.remove(keys[0]).unwrap()), 0);
    let (key, victim) = queue.force_push(ledger.rank(2, 5), ledger.item(5)).unwrap();
    assert_eq!(id_of(victim.unwrap()), 3);
    let (_, itself) = queue.force_push(ledger.rank(1, 6), ledger.item(6)).unwrap();
    assert_eq!(id_of(itself.unwrap()), 6);
    assert!(queue.set_priority(key, ledger.rank(1, 7)));
    let order: Vec<_> = pop_all(&queue).into_iter().map(|(rank, item)| (rank.id, item.id)).collect();
    assert_eq!(order, [(1, 1), (2, 2), (4, 4), (7, 5)], "it has the priority that it was given, not an equal one");
    assert!(parked.iter_mut().all(|push| push.ready().is_ok()));
    assert_eq!(ledger.alive(), 0);
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
    assert_eq!(peek(), Some('b'), "the other went behind it");
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
    // What is reserved is shown too: the one who reserved it will pop it.
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
    assert!(queue.set_priority(keys[2], 5), "there and back is behind who came meanwhile");
    assert_eq!(pop_all(&queue), [(9, 3), (5, 0), (5, 6), (5, 2), (3, 4), (3, 1), (0, 5)]);
}

#[test]
fn an_item_whose_neighbours_have_left_finds_its_new_place() {
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

/// Two urgent ones arrive for each that leaves, for ever. With deadlines an item waits until its own, and no longer: the
/// number of pops before it is the number of those whose deadline is not after its own.
#[test]
fn a_deadline_starves_nobody_where_a_fixed_priority_does() {
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
        let (Reverse(deadline), patient) = queue.try_pop().unwrap();
        assert!(deadline <= DEADLINE || before == u64::MAX, "a later deadline went before it");
        if patient {
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
            assert!(inside.iter().all(|&other| other >= deadline), "somebody with an earlier deadline is left behind");
            inside.swap_remove(inside.iter().position(|&other| other == deadline).unwrap());
        }
    }
    queue.check();
    assert_eq!(queue.len(), inside.len());
}

// ---------------------------------------------------------------------------------------------------------------------
// Keys
// ---------------------------------------------------------------------------------------------------------------------

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

/// What a key of another queue finds in this one.
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
    let foreign = [theirs.try_push(1, 0).unwrap(), Queue::try_push(&Queue::unbounded(), 1, 1).unwrap()];
    let other = Queue::unbounded();
    let foreign = foreign.into_iter().chain(fill(&other, &[1; 4])).collect::<Vec<_>>();
    let check = || foreign.iter().for_each(|&key| assert_finds_nothing(&ours, key));
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
    let ledger = Ledger::default();
    let queue = Ranked::unbounded();
    let key = queue.try_push(ledger.rank(1, 1), ledger.item(1)).unwrap();
    assert!(queue.set_priority(key, ledger.rank(2, 2)));
    assert_eq!(ledger.alive(), 2, "the old priority is dropped");
    drop(queue.try_pop());
    assert!(!queue.set_priority(key, ledger.rank(2, 3)));
    assert_eq!(ledger.alive(), 0);
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

// ---------------------------------------------------------------------------------------------------------------------
// Waiting for an item
// ---------------------------------------------------------------------------------------------------------------------

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
    let mut line: Vec<_> = (0..MANY).map(|entry| logged_pop(&queue, &log, entry)).collect();
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
    for pop in line.drain(..) {
        drop(pop);
        queue.check();
    }
    queue.drain();
    queue.close();
    assert!(log.take().is_empty(), "nobody waited any more");
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
    // Whoever runs first, whenever it queued.
    assert_eq!(pops[2].ready(), Some((9, 9)));
    assert_eq!(pops[0].ready(), Some((8, 0)));
    assert_eq!(pops[1].ready(), Some((5, 1)));
    assert_eq!((queue.try_pop(), counts(&queue)), (Ok((3, 2)), (0, 0, 0)));
}

#[test]
fn a_woken_pop_is_not_robbed() {
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
fn try_pop_takes_only_what_is_left_over() {
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
fn the_line_of_pops_is_in_the_order_of_first_polls() {
    let queue = Queue::unbounded();
    let log = Arc::new(Log::default());
    let mut random = StdRng::seed_from_u64(3);
    let mut pops: Vec<_> = (0..MANY).map(|_| queue.pop()).collect();
    let mut line: Vec<usize> = (0..MANY).collect();
    line.shuffle(&mut random);
    for &index in &line {
        assert!(poll_with(&mut pops[index], &log.waker(index)).is_pending());
    }
    for (index, pop) in pops.iter_mut().enumerate() {
        assert!(poll_with(pop, &log.waker(index)).is_pending());
    }
    for &index in &line {
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
fn a_waiting_pop_that_is_dropped_leaves_and_takes_no_wake_along() {
    for leaver in 0..3 {
        let queue = Queue::unbounded();
        let log = Arc::new(Log::default());
        let mut line: Vec<_> = (0..3).map(|entry| logged_pop(&queue, &log, entry)).collect();
        drop(line.remove(leaver));
        assert_eq!((counts(&queue), log.take()), ((0, 2, 0), vec![]));
        fill(&queue, &[1, 1]);
        assert_numbers(&log.take(), (0..3).filter(|&entry| entry != leaver));
        assert!(line.iter_mut().all(|pop| ready(pop).is_some()));
        assert_eq!(counts(&queue), (0, 0, 0));
    }
}

#[test]
fn a_dropped_reservation_goes_to_the_longest_waiting_pop() {
    let queue = Queue::unbounded();
    let log = Arc::new(Log::default());
    let mut line: Vec<_> = (0..5).map(|entry| logged_pop(&queue, &log, entry)).collect();
    fill(&queue, &[1, 2]);
    assert_numbers(&log.take(), [0, 1]);
    // Not the head of the reserved, and not the head of the line.
    drop(line.remove(1));
    assert_numbers(&log.take(), [2]);
    assert_eq!(counts(&queue), (2, 2, 0));
    drop(line.remove(0));
    assert_numbers(&log.take(), [3]);
    drop(line.pop());
    assert_eq!((counts(&queue), log.take()), ((2, 0, 0), vec![]));
    drop(line.remove(0));
    assert!(log.take().is_empty());
    assert_eq!(queue.try_pop(), Ok((2, 1)), "nobody waits for it");
    assert_eq!(queue.try_pop(), Err(TryPopError::Empty), "this one is still reserved");
    assert_eq!(ready(&mut line[0]), Some((1, 0)));
    assert_eq!(counts(&queue), (0, 0, 0));
}

#[test]
fn a_future_may_be_dropped_after_any_number_of_polls() {
    for polls in 0..4 {
        for item_after in 0..5 {
            let queue = Queue::unbounded();
            let mut leaver = Task::new(queue.pop());
            let mut taken = 0;
            for at in 0..polls {
                if at == item_after {
                    queue.try_push(1, 1).unwrap();
                }
                if leaver.poll().is_ready() {
                    taken += 1;
                    break;
                }
            }
            if item_after >= polls {
                queue.try_push(1, 1).unwrap();
            }
            drop(leaver);
            assert_eq!(counts(&queue), (1 - taken, 0, 0));
            assert_eq!(pop_all(&queue).len(), 1 - taken, "{polls} polls, an item after {item_after}");
        }
    }
}

#[test]
fn spurious_polls_leave_nothing_behind() {
    let queue = Queue::bounded(1);
    let clones = Arc::new(AtomicUsize::new(0));
    let counted = clones.clone();
    let waker = Hostile::new()
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
    let waker = Hostile::new()
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
    let waker = Hostile::new().on_clone(|| panic!("cloned")).waker();
    assert!(poll_with(&mut queue.push(1, 1), &waker).is_ready());
    assert_eq!(poll_with(&mut queue.pop(), &waker), Poll::Ready(Some((1, 1))));
    queue.try_push(2, 2).unwrap();
    assert_eq!(poll_with(&mut queue.pop_many(&mut Vec::new(), 3), &waker), Poll::Ready(1));
    assert_eq!(poll_with(&mut queue.pop_many(&mut Vec::new(), 0), &waker), Poll::Ready(0));
    queue.try_push(3, 3).unwrap();
    let mut parked = queue.push(4, 4);
    assert!(poll(&mut parked).is_pending());
    assert_eq!(poll_with(&mut queue.pop(), &waker), Poll::Ready(Some((4, 4))), "past somebody who waits to push");
    assert!(poll(&mut parked).is_ready());
    assert_eq!(queue.try_pop(), Ok((3, 3)));
    queue.close();
    assert!(poll_with(&mut queue.push(1, 1), &waker).is_ready());
    assert_eq!(poll_with(&mut queue.pop(), &waker), Poll::Ready(None));
    assert_eq!(poll_with(&mut queue.pop_many(&mut Vec::new(), 3), &waker), Poll::Ready(0));
}

#[test]
fn a_future_that_was_never_polled_has_no_effect() {
    let ledger = Ledger::default();
    let queue = Ranked::bounded(1);
    let mut into = Vec::new();
    let (push, pop, many) = (queue.push(ledger.rank(1, 1), ledger.item(1)), queue.pop(), queue.pop_many(&mut into, 5));
    assert_eq!((counts(&queue), ledger.alive()), ((0, 0, 0), 2));
    queue.try_push(ledger.rank(1, 2), ledger.item(2)).unwrap();
    drop((push, pop, many));
    assert_eq!((counts(&queue), ledger.alive(), into.len()), ((1, 0, 0), 2, 0));
    assert_eq!(id_of(queue.try_pop().unwrap()), 2);
}

#[test]
fn forgotten_futures_leak_their_place_and_nothing_else() {
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
    assert_eq!(counts(&queue), (0, 1, 0), "it is back in the line, for ever");
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

// ---------------------------------------------------------------------------------------------------------------------
// Fewer items than were reserved
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn a_pop_whose_item_is_removed_waits_again() {
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
fn the_newest_reserved_goes_back_to_the_front_of_the_line() {
    for polled in [false, true] {
        let queue = Queue::unbounded();
        let log = Arc::new(Log::default());
        let mut line: Vec<_> = (0..4).map(|entry| logged_pop(&queue, &log, entry)).collect();
        let keys = fill(&queue, &[9, 1, 5]);
        assert_numbers(&log.take(), [0, 1, 2]);
        // Whichever item is removed.
        queue.remove(keys[0]).unwrap();
        assert_eq!(counts(&queue), (2, 2, 0));
        queue.remove(keys[1]).unwrap();
        assert_eq!(counts(&queue), (1, 3, 0));
        if polled {
            for index in [2, 1] {
                assert!(poll_with(&mut line[index], &log.waker(index)).is_pending());
            }
        }
        assert_eq!(queue.try_pop(), Err(TryPopError::Empty));
        fill(&queue, &[7, 7]);
        assert_numbers(&log.take(), if polled { vec![1, 2] } else { vec![] });
        assert!(poll_with(&mut line[3], &log.waker(3)).is_pending());
        assert_eq!(counts(&queue), (3, 1, 0));
        queue.try_push(1, 8).unwrap();
        assert_numbers(&log.take(), [3]);
        let popped: Vec<_> = line.iter_mut().map(|pop| ready(pop).unwrap().0).collect();
        assert_eq!(popped, [7, 7, 5, 1]);
    }
}

#[test]
fn after_a_drain_the_line_is_in_its_old_order() {
    let queue = Queue::unbounded();
    let log = Arc::new(Log::default());
    let mut line: Vec<_> = (0..6).map(|entry| logged_pop(&queue, &log, entry)).collect();
    fill(&queue, &[1, 3, 2, 4]);
    assert_numbers(&log.take(), 0..4);
    assert_eq!(queue.drain(), [(4, 3), (3, 1), (2, 2), (1, 0)]);
    assert_eq!(counts(&queue), (0, 6, 0));
    for (index, pop) in line.iter_mut().enumerate().rev() {
        assert!(poll_with(pop, &log.waker(index)).is_pending());
    }
    for entry in 0..6 {
        queue.try_push(1, 1).unwrap();
        assert_numbers(&log.take(), [entry]);
    }
    assert!(line.iter_mut().all(|pop| ready(pop).is_some()));
}

#[test]
fn a_pop_that_waits_again_may_leave() {
    for polled in [false, true] {
        let queue = Queue::unbounded();
        let mut leaver = Task::waiting(queue.pop());
        let mut next = Task::waiting(queue.pop());
        let key = queue.try_push(1, 1).unwrap();
        queue.remove(key).unwrap();
        assert!(!polled || leaver.is_pending());
        drop(leaver);
        assert_eq!((next.wakes(), counts(&queue)), (0, (0, 1, 0)));
        queue.try_push(2, 2).unwrap();
        assert_eq!((next.wakes(), next.ready()), (1, Some((2, 2))));
    }
}

#[test]
fn a_pop_many_whose_item_is_removed_waits_again() {
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
fn a_removal_that_leaves_enough_takes_nobodys_reservation() {
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
    assert_eq!((counts(&queue), pops[2].wakes()), ((2, 0, 2), 1), "a parked item is there to be popped");
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

// ---------------------------------------------------------------------------------------------------------------------
// Waiting for room
// ---------------------------------------------------------------------------------------------------------------------

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
    assert_eq!((push.wakes(), counts(&queue)), (1, (2, 0, 0)), "its place was taken at once");
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
        let mut line: Vec<_> = parks.iter().map(|&(p, item)| logged_push(&queue, &log, p, item)).collect();
        assert_eq!(counts(&queue), (2, 0, 5));
        leave(&queue, &keys);
        assert_eq!(counts(&queue), (2, 0, 4), "{way}");
        assert_numbers(&log.take(), [3]);
        let key = ready(&mut line[1]).unwrap();
        assert_eq!(queue.remove(key), Some((5, 3)), "{way}");
        assert_numbers(&log.take(), [4]);
        // By priority, until nobody is left.
        for item in [6, 2, 5] {
            assert!(queue.try_pop().is_ok());
            assert_numbers(&log.take(), [item]);
        }
        assert_eq!(counts(&queue), (2, 0, 0));
        assert_eq!(items(pop_all(&queue)), [2, 5]);
        assert!(log.take().is_empty());
        drop(line);
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
        assert_eq!(counts(&queue), (2, 0, 2), "nobody is admitted in its stead");
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
    // By `force_push`, which overtakes those who wait for room, but not in the order of arrival.
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
    // The newest of the least urgent leaves: the one that came by force, though it was admitted earlier.
    assert_eq!(queue.force_push(4, 4).unwrap().1, Some((3, 3)));
    assert_eq!(queue.remove(key), Some((3, 2)));
}

#[test]
fn a_new_priority_admits_and_parks_nobody() {
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
    let ledger = Ledger::default();
    let queue = Ranked::bounded(1);
    queue.try_push(ledger.rank(1, 0), ledger.item(0)).unwrap();
    let mut line: Vec<_> = (1..=4).map(|id| Task::waiting(queue.push(ledger.rank(5, id), ledger.item(id)))).collect();
    assert_eq!((counts(&queue), ledger.alive()), ((1, 0, 4), 10));
    drop(line.remove(1));
    assert_eq!((counts(&queue), ledger.alive()), ((1, 0, 3), 8));
    drop(line.remove(0));
    drop(line.pop());
    assert_eq!((counts(&queue), ledger.alive()), ((1, 0, 1), 4));
    assert_eq!(line[0].wakes(), 0);
    assert_eq!(id_of(queue.try_pop().unwrap()), 3);
    assert_eq!(line[0].wakes(), 1);
    drop(line);
    assert_eq!(id_of(queue.try_pop().unwrap()), 0);
    assert_eq!((counts(&queue), ledger.alive()), ((0, 0, 0), 0));
}

#[test]
fn a_push_that_is_dropped_after_it_was_admitted_leaves_its_item() {
    let (queue, keys) = full(&[1]);
    let push = Task::waiting(queue.push(2, 2));
    queue.remove(keys[0]).unwrap();
    assert_eq!((push.wakes(), counts(&queue)), (1, (1, 0, 0)));
    drop(push);
    assert_eq!((counts(&queue), pop_all(&queue)), ((1, 0, 0), vec![(2, 2)]));
    // And one that is ready and kept has no say any more.
    let mut push = queue.push(3, 3);
    ready(&mut push).unwrap();
    drop(push);
    assert_eq!(pop_all(&queue), [(3, 3)]);
    // Nor one whose item was popped directly.
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
    let mut line: Vec<_> = (0..MANY as u32 + 7).map(|item| logged_push(&queue, &log, item, item)).collect();
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
    assert!(line.iter_mut().all(|push| ready(push).is_ok_and(|stale| queue.remove(stale).is_none())));
    assert_eq!((counts(&queue), log.take().len()), ((0, 0, 0), 0));
}

// ---------------------------------------------------------------------------------------------------------------------
// Pushing by force
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn force_push_into_a_full_queue_makes_the_least_urgent_leave() {
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
fn force_push_does_not_touch_those_who_are_parked() {
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
fn force_push_with_room_makes_nobody_leave_and_serves_who_waits() {
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
    // Full, and all of it reserved: an exchange, which wakes nobody.
    assert_eq!(queue.force_push(8, 8).unwrap().1, Some((2, 2)));
    assert_eq!((pop.wakes(), late.wakes(), counts(&queue)), (1, 1, (2, 0, 0)));
    let waiting = Task::waiting(queue.pop());
    assert_eq!(queue.force_push(1, 7).unwrap().1, Some((1, 7)));
    assert_eq!((waiting.wakes(), counts(&queue)), (0, (2, 1, 0)));
    assert_eq!((late.ready(), pop.ready()), (Some((9, 9)), Some((8, 8))));
}

// ---------------------------------------------------------------------------------------------------------------------
// Popping many
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn pop_many_takes_what_is_there_up_to_the_limit() {
    let queue = Queue::unbounded();
    fill(&queue, &[1, 3, 2, 3]);
    let mut into = Vec::new();
    assert_eq!(ready(&mut queue.pop_many(&mut into, 0)), 0);
    assert_eq!((into.len(), counts(&queue)), (0, (4, 0, 0)));
    assert_eq!(ready(&mut queue.pop_many(&mut into, 3)), 3);
    assert_eq!((items(std::mem::take(&mut into)), counts(&queue)), (vec![1, 3, 2], (1, 0, 0)));
    assert_eq!(ready(&mut queue.pop_many(&mut into, usize::MAX)), 1);
    assert_eq!((into, counts(&queue)), (vec![(1, 0)], (0, 0, 0)));
}

#[test]
fn pop_many_with_limit_none_never_waits() {
    let queue = Queue::unbounded();
    let mut into = Vec::new();
    assert_eq!(ready(&mut queue.pop_many(&mut into, 0)), 0);
    assert_eq!(counts(&queue), (0, 0, 0));
    let mut pop = Task::waiting(queue.pop());
    assert_eq!(ready(&mut queue.pop_many(&mut into, 0)), 0);
    queue.try_push(1, 1).unwrap();
    assert_eq!(ready(&mut queue.pop_many(&mut into, 0)), 0);
    assert_eq!((pop.ready(), into.len()), (Some((1, 1)), 0));
}

#[test]
fn pop_many_waits_like_one_pop_and_takes_what_came_meanwhile() {
    let queue = Queue::unbounded();
    let (mut one, mut two) = (Vec::new(), Vec::new());
    let mut before = Task::waiting(queue.pop());
    let mut many = Task::waiting(queue.pop_many(&mut one, 3));
    let mut after = Task::waiting(queue.pop_many(&mut two, 9));
    assert_eq!(counts(&queue), (0, 3, 0));
    queue.try_push(1, 0).unwrap();
    assert_eq!((before.wakes(), many.wakes(), after.wakes()), (1, 0, 0));
    queue.try_push(2, 1).unwrap();
    assert_eq!((before.wakes(), many.wakes(), after.wakes()), (1, 1, 0));
    // Its own, and nothing that is others'.
    assert_eq!((many.ready(), counts(&queue)), (1, (1, 1, 0)));
    fill(&queue, &[3, 4, 5, 6]);
    assert_eq!((before.wakes(), many.wakes(), after.wakes()), (1, 1, 1));
    assert_eq!((after.ready(), counts(&queue)), (4, (1, 0, 0)), "one is for the first");
    assert_eq!(before.ready(), Some((1, 0)));
    drop((many, after));
    assert_eq!((items(one), items(two)), (vec![1], vec![3, 2, 1, 0]));
}

#[test]
fn pop_many_leaves_what_is_reserved() {
    let queue = Queue::unbounded();
    let mut pops = [0; 2].map(|_| Task::waiting(queue.pop()));
    fill(&queue, &[1, 2, 3, 4, 5]);
    let mut into = Vec::new();
    assert_eq!(ready(&mut queue.pop_many(&mut into, 9)), 3);
    assert_eq!((items(into), counts(&queue)), (vec![4, 3, 2], (2, 0, 0)));
    assert_eq!(pops.each_mut().map(|pop| pop.ready().unwrap()), [(2, 1), (1, 0)]);
}

#[test]
fn pop_many_admits_the_parked_as_it_goes() {
    for limit in [1, 2, 3, 4, 5, 6, 9] {
        let (queue, _) = full(&[5, 1]);
        let log = Arc::new(Log::default());
        let mut line: Vec<_> =
            [(3, 2), (9, 3), (1, 4), (7, 5)].iter().map(|&(p, item)| logged_push(&queue, &log, p, item)).collect();
        let mut into = Vec::new();
        let taken = limit.min(6);
        assert_eq!(ready(&mut queue.pop_many(&mut into, limit)), taken);
        let order = [3, 5, 0, 2, 1, 4];
        assert_eq!(items(into), order[..taken]);
        let left = 6 - taken;
        assert_eq!(counts(&queue), (left.min(2), 0, left.saturating_sub(2)));
        let mut woken = log.take();
        woken.sort_unstable();
        let done = |item: usize| {
            let rest = &order[taken..];
            let admitted = rest.iter().filter(|&&other| other < 2).count();
            let parked: Vec<_> = rest.iter().filter(|&&other| other >= 2).collect();
            parked.iter().position(|&&other| other as usize == item).is_none_or(|at| at < 2 - admitted)
        };
        assert_numbers(&woken, (2..6).filter(|&item| done(item)));
        assert_eq!(items(pop_all(&queue)), order[taken..]);
        assert!(line.iter_mut().all(|push| ready(push).is_ok()));
    }
}

#[test]
fn a_reserved_pop_many_takes_its_own_and_the_parked() {
    let queue = Queue::bounded(2);
    let mut pop = Task::waiting(queue.pop());
    let mut into = Vec::new();
    let mut many = Task::waiting(queue.pop_many(&mut into, 9));
    fill(&queue, &[1, 2]);
    let mut parked = [3, 4].map(|item| Task::waiting(queue.push(item, item)));
    assert_eq!(many.ready(), 3);
    drop(many);
    assert_eq!((items(into), counts(&queue)), (vec![4, 3, 1], (1, 0, 0)));
    assert!(parked.iter_mut().all(|push| push.wakes() == 1 && push.ready().is_ok()));
    assert_eq!(pop.ready(), Some((1, 0)));
}

#[test]
fn a_dropped_pop_many_passes_its_reservation_on() {
    let queue = Queue::unbounded();
    let mut into = Vec::new();
    let many = Task::waiting(queue.pop_many(&mut into, 9));
    let mut pop = Task::waiting(queue.pop());
    queue.try_push(1, 1).unwrap();
    assert_eq!((many.wakes(), pop.wakes()), (1, 0));
    drop(many);
    assert_eq!((pop.wakes(), into.len(), counts(&queue)), (1, 0, (1, 0, 0)));
    assert_eq!(pop.ready(), Some((1, 1)));
}

// ---------------------------------------------------------------------------------------------------------------------
// Closing
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn close_refuses_what_comes_and_gives_out_what_is_there() {
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
    let ledger = Ledger::default();
    let queue = Ranked::bounded(1);
    queue.try_push(ledger.rank(1, 0), ledger.item(0)).unwrap();
    let mut line: Vec<_> =
        (1..=MANY as u32).map(|id| Task::waiting(queue.push(ledger.rank(id % 3, id), ledger.item(id)))).collect();
    queue.close();
    assert_eq!(counts(&queue), (1, 0, 0));
    assert!(line.iter().all(|push| push.wakes() == 1));
    // Some are not polled any more, and keep nothing.
    drop(line.split_off(50));
    queue.check();
    for (id, mut push) in (1..).zip(line) {
        let Err(Closed((rank, item))) = push.ready() else { panic!("it was turned away") };
        assert_eq!((rank.id, item.id), (id, id));
    }
    assert_eq!(ledger.alive(), 2);
    assert_eq!(pop_all(&queue).into_iter().map(id_of).collect::<Vec<_>>(), [0]);
    assert_eq!((queue.try_pop().err(), ledger.alive()), (Some(TryPopError::Closed), 0));
}

/// Whether they have been polled or not.
#[test]
fn what_was_turned_away_is_not_in_the_queue_any_more() {
    let ledger = Ledger::default();
    let queue = PriorityQueue::<u32, _>::bounded(2);
    let keys = [1, 3].map(|id| queue.try_push(id, ledger.item(id)).unwrap());
    let mut line: Vec<_> = (4..=9).map(|id| Task::waiting(queue.push(id, ledger.item(id)))).collect();
    line.extend((0..3).map(|id| Task::waiting(queue.push(id, ledger.item(id)))));
    queue.close();
    assert_eq!((counts(&queue), queue.peek_priority()), ((2, 0, 0), Some(3)));
    drop(line.pop());
    assert_eq!(queue.try_pop().map(|(level, _)| level), Ok(3));
    assert_eq!((counts(&queue), queue.peek_priority()), ((1, 0, 0), Some(1)));
    assert!(queue.set_priority(keys[0], 7), "among those that were turned away");
    assert_eq!(queue.remove(keys[0]).map(|(level, _)| level), Some(7));
    assert_eq!((counts(&queue), queue.peek_priority()), ((0, 0, 0), None));
    assert_eq!(queue.try_pop().err(), Some(TryPopError::Closed));
    assert!(queue.drain().is_empty() && ready(&mut queue.pop()).is_none());
    assert_eq!(ready(&mut queue.pop_many(&mut Vec::new(), 5)), 0);
    for (push, id) in line.iter_mut().zip([4, 5, 6, 7, 8, 9, 0, 1]) {
        let Err(Closed((level, item))) = push.ready() else { panic!("it was turned away") };
        assert_eq!((level, item.id), (id, id));
        queue.check();
    }
    assert_eq!(ledger.alive(), 0);
}

#[test]
fn what_was_turned_away_and_never_fetched_goes_with_the_queue() {
    let ledger = Ledger::default();
    let queue = Ranked::bounded(1);
    queue.try_push(ledger.rank(1, 0), ledger.item(0)).unwrap();
    std::mem::forget(Task::waiting(queue.push(ledger.rank(1, 1), ledger.item(1))));
    queue.close();
    assert_eq!((counts(&queue), pop_all(&queue).into_iter().map(id_of).collect::<Vec<_>>()), ((1, 0, 0), vec![0]));
    assert_eq!(queue.try_pop().err(), Some(TryPopError::Closed));
    assert_eq!(ledger.alive(), 2);
    drop(queue);
    assert_eq!(ledger.alive(), 0);
}

#[test]
fn close_turns_nobody_away_who_was_served_before() {
    let queue = Queue::bounded(2);
    let keys = fill(&queue, &[5, 1]);
    let mut admitted = Task::waiting(queue.push(4, 2));
    let mut popped = Task::waiting(queue.push(9, 3));
    let mut turned_away = Task::waiting(queue.push(0, 4));
    assert_eq!(queue.try_pop(), Ok((9, 3)));
    assert_eq!(queue.remove(keys[0]), Some((5, 0)));
    queue.close();
    assert_eq!([admitted.wakes(), popped.wakes(), turned_away.wakes()], [1, 1, 1]);
    let key = admitted.ready().expect("admitted before the close");
    assert_eq!(queue.remove(key), Some((4, 2)));
    let stale = popped.ready().expect("its item was popped before the close");
    assert_eq!(queue.remove(stale), None);
    assert_eq!(turned_away.ready(), Err(Closed((0, 4))));
    assert_eq!((pop_all(&queue), counts(&queue)), (vec![(1, 1)], (0, 0, 0)));
}

#[test]
fn close_wakes_all_who_wait_for_an_item_that_will_not_come() {
    let queue = Queue::unbounded();
    let log = Arc::new(Log::default());
    let mut line: Vec<_> = (0..MANY).map(|entry| logged_pop(&queue, &log, entry)).collect();
    let mut into = Vec::new();
    let mut many = Task::waiting(queue.pop_many(&mut into, 9));
    queue.close();
    assert_eq!((counts(&queue), many.wakes()), ((0, 0, 0), 1));
    assert_numbers(&log.take(), 0..MANY);
    drop(line.split_off(50));
    assert!(line.iter_mut().all(|pop| ready(pop).is_none()));
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

/// The ways for the last item, reserved by one, to leave a closed queue where others wait on.
#[test]
fn who_waits_on_a_closed_queue_learns_when_it_is_drained() {
    for way in ["pop", "remove", "drain"] {
        let queue = Queue::unbounded();
        let mut reserved = Task::waiting(queue.pop());
        let log = Arc::new(Log::default());
        let mut line: Vec<_> = (0..MANY).map(|entry| logged_pop(&queue, &log, entry)).collect();
        let key = queue.try_push(1, 1).unwrap();
        queue.close();
        assert_eq!((counts(&queue), log.take()), ((1, MANY, 0), vec![]), "nothing has been decided for them");
        let mut late = Task::waiting(queue.pop());
        let mut into = Vec::new();
        let mut many = Task::waiting(queue.pop_many(&mut into, 2));
        assert!(poll_with(&mut line[7], &log.waker(7)).is_pending());
        match way {
            "pop" => assert_eq!(reserved.ready(), Some((1, 1))),
            "remove" => assert_eq!(queue.remove(key), Some((1, 1))),
            _ => assert_eq!(queue.drain(), [(1, 1)]),
        }
        assert_eq!((counts(&queue), late.wakes(), many.wakes()), ((0, 0, 0), 1, 1), "{way}");
        assert_numbers(&log.take(), 0..MANY);
        if way != "pop" {
            assert_eq!((reserved.wakes(), reserved.ready()), (1, None), "it was woken, and finds nothing");
        }
        assert!(line.iter_mut().all(|pop| ready(pop).is_none()));
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
fn one_that_waits_on_a_closed_queue_may_leave() {
    let queue = Queue::unbounded();
    let mut reserved = Task::waiting(queue.pop());
    let leaver = Task::waiting(queue.pop());
    queue.try_push(1, 1).unwrap();
    queue.close();
    drop(leaver);
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

// ---------------------------------------------------------------------------------------------------------------------
// Many levels
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn thousands_of_priorities_in_any_order_come_out_sorted() {
    const LEVELS: u32 = 5_000;
    let mut random = StdRng::seed_from_u64(4);
    for order in 0..3 {
        let mut levels: Vec<u32> = (0..LEVELS).collect();
        match order {
            0 => {}
            1 => levels.reverse(),
            _ => levels.shuffle(&mut random),
        }
        let queue = Queue::unbounded();
        let mut keys: Vec<_> = levels.iter().map(|&level| (level, queue.try_push(level, level).unwrap())).collect();
        queue.check();
        // Some leave from anywhere, and some go to anywhere, also to where somebody is already.
        keys.shuffle(&mut random);
        for (level, key) in keys.drain(..LEVELS as usize / 4) {
            assert_eq!(queue.remove(key), Some((level, level)));
        }
        queue.check();
        let mut left: Vec<_> = keys.iter().map(|&(level, _)| (Reverse(level), 0, level)).collect();
        for (at, (level, key)) in (1..).zip(keys.drain(..LEVELS as usize / 4)) {
            let place = left.iter().position(|entry| entry.2 == level).unwrap();
            let new = random.random_range(0..LEVELS);
            assert!(queue.set_priority(key, new));
            left[place] = (Reverse(new), at, level);
        }
        queue.check();
        left.sort();
        let (now, later) = left.split_at(left.len() / 2);
        let pairs = |entries: &[(Reverse<u32>, i32, u32)]| -> Vec<(u32, u32)> {
            entries.iter().map(|&(Reverse(priority), _, item)| (priority, item)).collect()
        };
        let popped: Vec<_> = now.iter().map(|_| queue.try_pop().unwrap()).collect();
        assert_eq!(popped, pairs(now));
        queue.check();
        assert_eq!(queue.drain(), pairs(later));
        assert_eq!(counts(&queue), (0, 0, 0));
    }
}

#[test]
fn thousands_of_parked_pushes_come_in_sorted() {
    const PARKED: u32 = 2_000;
    let mut random = StdRng::seed_from_u64(5);
    let queue = Queue::bounded(3);
    fill(&queue, &[0; 3]);
    let mut levels: Vec<u32> = (1..=PARKED).collect();
    levels.shuffle(&mut random);
    let mut line: Vec<_> = levels.iter().map(|&level| Some(Task::waiting(queue.push(1 + level / 3, level)))).collect();
    assert_eq!(counts(&queue), (3, 0, PARKED as usize));
    let mut left: Vec<_> = levels.iter().zip(0..).map(|(&level, at)| (Reverse(1 + level / 3), at, level)).collect();
    // Every third one goes.
    left.retain(|entry| entry.1 % 3 != 0);
    for push in line.iter_mut().step_by(3) {
        *push = None;
    }
    queue.check();
    left.sort_unstable();
    for (count, (Reverse(priority), at, item)) in left.into_iter().enumerate() {
        assert_eq!(queue.try_pop(), Ok((priority, item)));
        assert!(line[at].take().unwrap().ready().is_ok());
        if count % 100 == 0 {
            queue.check();
        }
    }
    assert_eq!(items(pop_all(&queue)), [0, 1, 2]);
}

#[test]
fn a_level_may_come_between_any_two_others() {
    // Levels stand side by side in blocks, which are divided when they are full: as many as fill some.
    for levels in [64, 128, 256] {
        for at in 0..=levels {
            let queue = Queue::unbounded();
            (0..levels).for_each(|level| assert!(queue.try_push(2 * level + 1, 0).is_ok()));
            for item in 0..3 {
                queue.try_push(2 * at, item).unwrap();
            }
            queue.check();
            let popped = queue.drain();
            assert!(popped.is_sorted_by_key(|&(level, item)| (Reverse(level), item)), "{at} of {levels}");
            assert_eq!(popped.len(), levels as usize + 3);
        }
    }
}

/// Each level gets an item that is older than the one that it has.
#[test]
fn an_admitted_item_finds_its_equals_among_many_levels() {
    const LEVELS: u32 = 600;
    let queue = Queue::bounded(LEVELS as usize);
    let keys: Vec<_> = (0..LEVELS).map(|level| queue.try_push(level, 2).unwrap()).collect();
    let parked: Vec<_> = (0..LEVELS).map(|level| Task::waiting(queue.push(level, 1))).collect();
    for (key, level) in keys.into_iter().zip(0..) {
        assert!(queue.set_priority(key, LEVELS) && queue.set_priority(key, level), "a new arrival");
    }
    let wanted: Vec<_> = (0..LEVELS).rev().flat_map(|level| [(level, 1), (level, 2)]).collect();
    let popped: Vec<_> = wanted.iter().map(|_| queue.try_pop().unwrap()).collect();
    assert_eq!((popped, counts(&queue)), (wanted, (0, 0, 0)));
    drop(parked);
}

/// The work for one item grows with the number of levels, and slowly.
#[test]
fn comparisons_grow_with_the_logarithm_of_the_levels() {
    let ledger = Ledger::default();
    let queue = Ranked::unbounded();
    for id in 0..4_000 {
        queue.try_push(ledger.rank(id % 1_000, id), ledger.item(id)).unwrap();
    }
    let mut most = 0;
    for level in (0..1_000).step_by(37) {
        let mut key = None;
        most = most.max(comparisons(|| {
            key = queue.try_push(ledger.rank(level, 9_999), ledger.item(9_999)).ok();
        }));
        most = most.max(comparisons(|| queue.set_priority(key.unwrap(), ledger.rank(level / 2, 9_999))));
    }
    assert!(most <= 60, "{most} comparisons for a thousand levels");
    assert!(most >= 1);
}

// ---------------------------------------------------------------------------------------------------------------------
// Threads
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn nothing_is_lost_between_threads_that_push_pop_and_give_up() {
    ends(|| {
        const ITEMS: u32 = 1_500;
        let queue = Queue::bounded(4);
        let (accepted, given_up, mut popped) = std::thread::scope(|scope| {
            let queue = &queue;
            let pushers = [0, 1].map(|pusher| {
                scope.spawn(move || {
                    let mut random = StdRng::seed_from_u64(u64::from(pusher));
                    let (mut accepted, mut given_up) = (Vec::new(), Vec::new());
                    for item in pusher * ITEMS..(pusher + 1) * ITEMS {
                        let mut push = queue.push(random.random_range(0..5), item);
                        let patient = random.random_bool(0.7);
                        match poll(&mut push) {
                            Poll::Pending if patient => blocking::wait(push).map(|_| accepted.push(item)).unwrap(),
                            Poll::Pending => given_up.push(item),
                            Poll::Ready(outcome) => outcome.map(|_| accepted.push(item)).unwrap(),
                        }
                    }
                    (accepted, given_up)
                })
            });
            let poppers = [0, 1].map(|popper| {
                scope.spawn(move || {
                    let mut random = StdRng::seed_from_u64(10 + popper);
                    let mut popped = Vec::new();
                    loop {
                        let mut pop = queue.pop();
                        match random.random_range(0..3) {
                            0 => popped.extend(match poll(&mut pop) {
                                Poll::Ready(pair) => pair,
                                Poll::Pending => None,
                            }),
                            1 if blocking::wait(queue.pop_many(&mut popped, 3)) == 0 => return popped,
                            2 => match blocking::wait(pop) {
                                Some(pair) => popped.push(pair),
                                None => return popped,
                            },
                            _ => {}
                        }
                    }
                })
            });
            let (mut accepted, mut given_up) = (HashSet::new(), HashSet::new());
            for thread in pushers {
                let (yes, perhaps) = thread.join().unwrap();
                accepted.extend(yes);
                given_up.extend(perhaps);
            }
            queue.close();
            (
                accepted,
                given_up,
                poppers.into_iter().flat_map(|thread| items(thread.join().unwrap())).collect::<Vec<_>>(),
            )
        });
        popped.sort_unstable();
        assert!(popped.is_sorted_by(|one, next| one < next), "something came twice");
        let popped: HashSet<u32> = popped.into_iter().collect();
        assert!(popped.is_superset(&accepted), "something was lost");
        assert!(popped.iter().all(|item| accepted.contains(item) || given_up.contains(item)));
        assert_eq!((accepted.len() + given_up.len(), counts(&queue)), (2 * ITEMS as usize, (0, 0, 0)));
    });
}

// ---------------------------------------------------------------------------------------------------------------------
// What it shows of itself
// ---------------------------------------------------------------------------------------------------------------------

/// Shows nothing, and cannot be compared but as a priority.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Opaque;

#[test]
fn debug_needs_nothing_of_priorities_and_items() {
    let queue = PriorityQueue::<Opaque, Opaque>::bounded(7);
    queue.try_push(Opaque, Opaque).ok().unwrap();
    let shown = format!("{queue:?}");
    assert!(shown.starts_with("PriorityQueue") && shown.contains('1') && shown.contains('7'), "{shown}");
    queue.close();
    assert_ne!(format!("{queue:?}"), shown, "it tells that it is closed");
    assert!(format!("{:?}", queue.push(Opaque, Opaque)).starts_with("Push"));
    assert!(format!("{:?}", queue.pop()).starts_with("Pop"));
    assert!(format!("{:?}", queue.pop_many(&mut Vec::new(), 1)).starts_with("PopMany"));
}

#[test]
fn errors_say_what_happened_whatever_the_item() {
    fn says<E: std::error::Error + std::fmt::Debug>(error: E) -> String {
        assert!(error.source().is_none());
        assert!(!format!("{error:?}").is_empty());
        error.to_string()
    }
    let queue = PriorityQueue::<Opaque, Opaque>::bounded(1);
    assert!(says(queue.try_pop().err().unwrap()).contains("empty"));
    queue.try_push(Opaque, Opaque).ok().unwrap();
    assert!(says(queue.try_push(Opaque, Opaque).err().unwrap()).contains("full"));
    queue.close();
    drop(queue.drain());
    assert!(says(queue.try_push(Opaque, Opaque).err().unwrap()).contains("closed"));
    assert!(says(queue.force_push(Opaque, Opaque).err().unwrap()).contains("closed"));
    assert!(says(ready(&mut queue.push(Opaque, Opaque)).err().unwrap()).contains("closed"));
    assert!(says(queue.try_pop().err().unwrap()).contains("closed"));
    assert!(format!("{:?}", queue.try_pop().err().unwrap()).contains("Closed"));
}

/// What a queue is shown to is foreign code: it finds the lock free.
#[test]
fn a_queue_may_be_used_by_what_it_is_shown_to() {
    struct Looks<'a>(&'a PriorityQueue<u8, u8>, usize);
    impl std::fmt::Write for Looks<'_> {
        fn write_str(&mut self, _: &str) -> std::fmt::Result {
            self.1 += self.0.len();
            Ok(())
        }
    }
    let queue = PriorityQueue::unbounded();
    queue.try_push(1, 1).unwrap();
    let mut looks = Looks(&queue, 0);
    std::fmt::Write::write_fmt(&mut looks, format_args!("{queue:?}")).unwrap();
    assert!(looks.1 > 0);
}
