//! Priorities that panic when they are compared: at every comparison of everything that is done to a queue.

use std::cell::Cell;
use std::cmp::{Ordering, Reverse};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Poll;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use stanchion::{Key, Pop, PriorityQueue, Push, TryPushError};

use crate::common::{Check, Counter, Task, poll, poll_with, ready};
use crate::ranked::{Alive, Item, Rank, Ranked, comparisons, id_of, with_panic_at};
use crate::{counts, pop_all};

/// The state of a queue before an action.
#[derive(Clone, Copy, Debug)]
struct Shape {
    capacity: Option<usize>,
    /// Pops that have come before the items.
    pops: usize,
    admitted: usize,
    parked: usize,
    levels: u32,
}

/// A waiting pop, and how often it was woken since it last went to wait.
struct Waiter<'q> {
    pop: Pop<'q, Rank, Item>,
    counter: Arc<Counter>,
}

impl<'q> Waiter<'q> {
    fn new(pop: Pop<'q, Rank, Item>) -> Self {
        let mut waiter = Self { pop, counter: Arc::default() };
        waiter.wait();
        waiter
    }

    /// Goes to wait, perhaps again.
    fn wait(&mut self) {
        self.counter = Arc::default();
        assert!(poll_with(&mut self.pop, &self.counter.clone().into()).is_pending());
    }

    fn wakes(&self) -> usize {
        self.counter.count()
    }
}

/// A queue in the middle of its work, and what must be in it.
struct Scene<'q> {
    queue: &'q Ranked,
    alive: &'q Alive,
    stale: Key,
    /// The items of the queue, in the order of arrival: the level, the id, and the key if it is admitted.
    items: Vec<(u32, u32, Option<Key>)>,
    capacity: usize,
    parked: Vec<(u32, Task<Push<'q, Rank, Item>>)>,
    /// The newest reservation last.
    reserved: Vec<Waiter<'q>>,
    waiting: Vec<Waiter<'q>>,
    next: u32,
    popped: Vec<(u32, Key)>,
}

impl<'q> Scene<'q> {
    fn new(queue: &'q Ranked, alive: &'q Alive, shape: Shape, random: &mut StdRng) -> Self {
        let stale = queue.try_push(alive.rank(0, 0), alive.item(0)).unwrap();
        drop(queue.remove(stale));
        let mut waiting: Vec<_> = (0..shape.pops).map(|_| Waiter::new(queue.pop())).collect();
        let mut items = Vec::new();
        let mut parked = Vec::new();
        for id in 0..(shape.admitted + shape.parked) as u32 {
            let level = random.random_range(0..shape.levels);
            let (rank, item) = (alive.rank(level, id), alive.item(id));
            if items.len() < shape.admitted {
                items.push((level, id, Some(queue.try_push(rank, item).unwrap())));
            } else {
                items.push((level, id, None));
                parked.push((id, Task::waiting(queue.push(rank, item))));
            }
        }
        let others = waiting.split_off(shape.pops.min(items.len()));
        let capacity = shape.capacity.unwrap_or(usize::MAX);
        let next = items.len() as u32;
        let popped = Vec::new();
        Self { queue, alive, stale, items, capacity, parked, reserved: waiting, waiting: others, next, popped }
    }

    /// The index of the most urgent, then oldest, of the items that `choose` accepts.
    fn most_urgent(&self, choose: impl Fn(&Option<Key>) -> bool) -> Option<usize> {
        let places = (0..self.items.len()).filter(|&at| choose(&self.items[at].2));
        places.min_by_key(|&at| Reverse(self.items[at].0))
    }

    fn admitted(&self) -> usize {
        self.items.iter().filter(|entry| entry.2.is_some()).count()
    }

    /// The key of a parked push that has been served.
    fn key_of_served(&mut self, id: u32) -> Key {
        let at = self.parked.iter().position(|(parked, _)| *parked == id).unwrap();
        let (_, mut push) = self.parked.remove(at);
        assert_eq!(push.wakes(), 1);
        push.ready().unwrap()
    }

    /// Room has been made, perhaps.
    fn admit(&mut self) {
        while self.admitted() < self.capacity {
            let Some(at) = self.most_urgent(Option::is_none) else { return };
            let key = self.key_of_served(self.items[at].1);
            self.items[at].2 = Some(key);
        }
    }

    /// The id of the most urgent item, which is popped.
    fn pop(&mut self) -> u32 {
        let at = self.most_urgent(|_| true).unwrap();
        self.take(at)
    }

    fn take(&mut self, at: usize) -> u32 {
        let (_, id, key) = self.items.remove(at);
        match key {
            Some(key) => self.popped.push((id, key)),
            None => {
                let key = self.key_of_served(id);
                self.popped.push((id, key));
            }
        }
        self.admit();
        id
    }

    /// The reservations follow the number of items, parked ones included.
    fn reserve(&mut self) {
        while self.items.len() > self.reserved.len() && !self.waiting.is_empty() {
            let waiter = self.waiting.remove(0);
            assert_eq!(waiter.wakes(), 1);
            self.reserved.push(waiter);
        }
        while self.items.len() < self.reserved.len() {
            let mut waiter = self.reserved.pop().unwrap();
            waiter.wait();
            self.waiting.insert(0, waiter);
        }
    }

    fn arrive(&mut self, level: u32, key: Key) {
        self.items.push((level, self.next, Some(key)));
        self.next += 1;
        self.reserve();
    }

    /// One of the admitted.
    fn some_admitted(&self, random: &mut StdRng) -> Option<usize> {
        let admitted: Vec<_> = (0..self.items.len()).filter(|&at| self.items[at].2.is_some()).collect();
        admitted.choose(random).copied()
    }

    /// Asserts that the counts of the queue agree with the items.
    fn check(&self) {
        assert_eq!(counts(self.queue), (self.admitted(), self.waiting.len(), self.parked.len()));
        assert!(self.parked.iter().all(|(_, push)| push.wakes() == 0));
        assert!(self.waiting.iter().all(|pop| pop.wakes() == 0));
        assert_eq!(self.alive.count(), 2 * self.items.len());
    }

    /// Takes everything out, in the order in which it should come.
    fn empty(mut self) {
        while !self.items.is_empty() {
            let id = if self.reserved.is_empty() || self.next % 2 == 0 && self.items.len() > self.reserved.len() {
                id_of(self.queue.try_pop().unwrap())
            } else {
                id_of(ready(&mut self.reserved.remove(0).pop).unwrap())
            };
            self.next += 1;
            assert_eq!(id, self.pop());
            self.reserve();
            self.check();
        }
        for (_, key) in &self.popped {
            assert!(self.queue.remove(*key).is_none());
        }
        assert!(self.reserved.is_empty() && self.parked.is_empty());
        assert_eq!(self.alive.count(), 0);
    }
}

/// An action on a scene, in which comparison `panics_at` panics. Returns true if there was no such comparison.
type Action = fn(&mut Scene<'_>, usize, &mut StdRng) -> bool;

const ACTIONS: [(&str, Action); 13] = [
    ("try_push", |scene, panics_at, random| {
        let level = random.random_range(0..7);
        let (rank, item) = (scene.alive.rank(level, scene.next), scene.alive.item(scene.next));
        let Some(outcome) = with_panic_at(panics_at, || scene.queue.try_push(rank, item)) else { return false };
        match outcome {
            Ok(key) => scene.arrive(level, key),
            Err(TryPushError::Full(pair)) => {
                assert_eq!((id_of(pair), scene.admitted()), (scene.next, scene.capacity));
            }
            Err(TryPushError::Closed(_)) => panic!("it is open"),
        }
        true
    }),
    ("push", |scene, panics_at, random| {
        let level = random.random_range(0..7);
        let mut push = Task::new(scene.queue.push(scene.alive.rank(level, scene.next), scene.alive.item(scene.next)));
        let Some(outcome) = with_panic_at(panics_at, || push.poll()) else {
            assert_eq!(push.wakes(), 0);
            return false;
        };
        match outcome {
            Poll::Ready(key) => scene.arrive(level, key.unwrap()),
            Poll::Pending => {
                assert_eq!(scene.admitted(), scene.capacity);
                scene.items.push((level, scene.next, None));
                scene.parked.push((scene.next, push));
                scene.next += 1;
                scene.reserve();
            }
        }
        true
    }),
    ("force_push", |scene, panics_at, random| {
        let level = random.random_range(0..7);
        let (rank, item) = (scene.alive.rank(level, scene.next), scene.alive.item(scene.next));
        let full = scene.admitted() == scene.capacity;
        let Some(outcome) = with_panic_at(panics_at, || scene.queue.force_push(rank, item)) else { return false };
        let (key, victim) = outcome.unwrap();
        assert_eq!(victim.is_some(), full);
        if let Some(victim) = victim {
            scene.items.push((level, scene.next, Some(key)));
            scene.next += 1;
            let places = (0..scene.items.len()).filter(|&at| scene.items[at].2.is_some());
            let least = places.min_by_key(|&at| (scene.items[at].0, Reverse(at))).unwrap();
            let (_, id, key) = scene.items.remove(least);
            assert_eq!(id_of(victim), id);
            scene.popped.push((id, key.unwrap()));
        } else {
            scene.arrive(level, key);
        }
        true
    }),
    ("set_priority", |scene, panics_at, random| {
        let Some(at) = scene.some_admitted(random) else { return true };
        let (_, id, key) = scene.items[at];
        let level = random.random_range(0..7);
        let rank = scene.alive.rank(level, id);
        let Some(done) = with_panic_at(panics_at, || scene.queue.set_priority(key.unwrap(), rank)) else {
            return false;
        };
        assert!(done);
        if scene.items[at].0 != level {
            scene.items.remove(at);
            scene.items.push((level, id, key));
        }
        true
    }),
    ("set_priority by a stale key", |scene, panics_at, random| {
        let rank = scene.alive.rank(random.random_range(0..7), 99);
        assert_eq!(
            with_panic_at(panics_at, || scene.queue.set_priority(scene.stale, rank)),
            Some(false),
            "there is no place"
        );
        true
    }),
    ("try_pop", |scene, panics_at, _| {
        let Some(outcome) = with_panic_at(panics_at, || scene.queue.try_pop()) else { return false };
        assert_eq!(outcome.is_ok(), scene.items.len() > scene.reserved.len());
        if let Ok(pair) = outcome {
            assert_eq!(id_of(pair), scene.pop());
        }
        true
    }),
    ("pop", |scene, panics_at, _| {
        let mut pop = Task::new(scene.queue.pop());
        let Some(outcome) = with_panic_at(panics_at, || pop.poll()) else {
            assert_eq!(counts(scene.queue), (scene.admitted(), scene.waiting.len(), scene.parked.len()));
            // It may be polled again, or dropped.
            assert_eq!(id_of(pop.ready().unwrap()), scene.pop());
            return false;
        };
        match outcome {
            Poll::Ready(pair) => assert_eq!(id_of(pair.unwrap()), scene.pop()),
            Poll::Pending => {
                assert_eq!(scene.items.len(), scene.reserved.len());
                drop(pop);
                scene.waiting.push(Waiter::new(scene.queue.pop()));
            }
        }
        true
    }),
    ("pop with a reservation", |scene, panics_at, random| {
        if scene.reserved.is_empty() {
            return true;
        }
        let at = random.random_range(0..scene.reserved.len());
        let Some(pair) = with_panic_at(panics_at, || ready(&mut scene.reserved[at].pop)) else { return false };
        drop(scene.reserved.remove(at));
        assert_eq!(id_of(pair.unwrap()), scene.pop());
        scene.reserve();
        true
    }),
    ("pop_many", |scene, panics_at, random| {
        let limit = random.random_range(1..9);
        let mut into = Vec::new();
        let mut many = Task::new(scene.queue.pop_many(&mut into, limit));
        let outcome = with_panic_at(panics_at, || many.poll());
        drop(many);
        let taken: Vec<u32> = into.into_iter().map(id_of).collect();
        // Those that were taken before the panic are the caller's.
        for &id in &taken {
            assert_eq!(id, scene.pop());
        }
        match outcome {
            Some(Poll::Ready(count)) => assert_eq!(count, taken.len()),
            Some(Poll::Pending) => assert_eq!((taken.len(), scene.items.len()), (0, scene.reserved.len())),
            None => assert!(taken.len() < limit),
        }
        outcome.is_some()
    }),
    ("remove", |scene, panics_at, random| {
        let Some(at) = scene.some_admitted(random) else { return true };
        let (_, id, key) = scene.items[at];
        let Some(removed) = with_panic_at(panics_at, || scene.queue.remove(key.unwrap())) else { return false };
        assert_eq!(id_of(removed.unwrap()), id);
        scene.take(at);
        scene.reserve();
        true
    }),
    ("drain", |scene, panics_at, _| {
        let Some(drained) = with_panic_at(panics_at, || scene.queue.drain()) else { return false };
        let mut order = Vec::new();
        while let Some(at) = scene.most_urgent(Option::is_some) {
            let (_, id, key) = scene.items.remove(at);
            scene.popped.push((id, key.unwrap()));
            order.push(id);
        }
        scene.admit();
        scene.reserve();
        assert_eq!(drained.into_iter().map(id_of).collect::<Vec<_>>(), order);
        true
    }),
    ("the drop of a parked push", |scene, panics_at, random| {
        if scene.parked.is_empty() {
            return true;
        }
        let (id, push) = scene.parked.swap_remove(random.random_range(0..scene.parked.len()));
        assert!(with_panic_at(panics_at, || drop(push)).is_some(), "nothing is compared in a drop");
        scene.items.retain(|entry| entry.1 != id);
        scene.reserve();
        true
    }),
    ("the drop of a pop", |scene, panics_at, random| {
        let all = scene.reserved.len() + scene.waiting.len();
        if all == 0 {
            return true;
        }
        let at = random.random_range(0..all);
        let reserved = scene.reserved.len();
        let pop = if at < reserved { scene.reserved.remove(at) } else { scene.waiting.remove(at - reserved) };
        assert!(with_panic_at(panics_at, || drop(pop)).is_some(), "nothing is compared in a drop");
        scene.reserve();
        true
    }),
];

/// The shapes in which a comparison may find a queue.
fn shapes() -> Vec<Shape> {
    let mut shapes = Vec::new();
    for levels in [1, 3, 7] {
        for pops in [0, 2, 7] {
            for (capacity, admitted, parked) in
                [(None, 5, 0), (None, 0, 0), (None, 20, 0), (Some(5), 4, 0), (Some(5), 5, 0), (Some(5), 5, 1)]
            {
                shapes.push(Shape { capacity, pops, admitted, parked, levels });
            }
            for parked in [2, 6] {
                shapes.push(Shape { capacity: Some(1), pops, admitted: 1, parked, levels });
                shapes.push(Shape { capacity: Some(4), pops, admitted: 4, parked, levels });
            }
        }
    }
    shapes
}

#[test]
fn a_comparison_that_panics_changes_nothing() {
    for (name, action) in ACTIONS {
        let mut panics = 0;
        for shape in shapes() {
            for seed in 0..2 {
                for panics_at in 0.. {
                    assert!(panics_at < 200, "{name}: too many comparisons");
                    let mut random = StdRng::seed_from_u64(seed);
                    let alive = Alive::default();
                    let queue = shape.capacity.map_or(Ranked::unbounded(), Ranked::bounded);
                    let mut scene = Scene::new(&queue, &alive, shape, &mut random);
                    scene.check();
                    let done = action(&mut scene, panics_at, &mut random);
                    scene.check();
                    scene.empty();
                    if done {
                        break;
                    }
                    panics += 1;
                }
            }
        }
        let takes_a_place = ["try_push", "push", "force_push", "set_priority"].contains(&name);
        assert!(!takes_a_place || panics > 100, "{name}: {panics} panics show nothing");
    }
}

#[test]
fn whatever_is_done_in_whatever_order_is_what_the_model_says() {
    for seed in 0..150 {
        let mut random = StdRng::seed_from_u64(seed);
        let shape = *shapes().choose(&mut random).unwrap();
        let alive = Alive::default();
        let queue = shape.capacity.map_or(Ranked::unbounded(), Ranked::bounded);
        let mut scene = Scene::new(&queue, &alive, shape, &mut random);
        for _ in 0..60 {
            let (_, action) = ACTIONS.choose(&mut random).unwrap();
            let panics_at = if random.random_bool(0.8) { usize::MAX } else { random.random_range(0..5) };
            action(&mut scene, panics_at, &mut random);
            scene.check();
        }
        scene.empty();
    }
}

#[test]
fn a_push_may_be_polled_again_after_a_comparison_panicked() {
    for again in [false, true] {
        for room in [false, true] {
            for panics_at in 0.. {
                let alive = Alive::default();
                let queue = Ranked::bounded(3);
                for id in 0..3 - u32::from(room) {
                    queue.try_push(alive.rank(id, id), alive.item(id)).unwrap();
                }
                let parked = (!room).then(|| Task::waiting(queue.push(alive.rank(1, 7), alive.item(7))));
                let before = counts(&queue);
                let mut push = queue.push(alive.rank(2, 8), alive.item(8));
                let outcome = with_panic_at(panics_at, || poll(&mut push).is_ready());
                assert_eq!(outcome.unwrap_or(room), room);
                if outcome.is_none() {
                    assert_eq!(counts(&queue), before);
                    if again {
                        assert_eq!(poll(&mut push).is_ready(), room);
                        assert_ne!(counts(&queue), before);
                    } else {
                        drop(push);
                        assert_eq!(counts(&queue), before);
                    }
                    drop(queue.drain());
                    drop(parked);
                    queue.check();
                } else {
                    assert!(panics_at > 0, "nothing was compared");
                    break;
                }
            }
        }
    }
}

#[test]
fn a_comparison_that_panics_in_a_pop_many_loses_nothing() {
    for panics_at in 0..100 {
        for again in [false, true] {
            let alive = Alive::default();
            let queue = Ranked::bounded(2);
            let mut into = Vec::new();
            let mut many = Task::waiting(queue.pop_many(&mut into, 9));
            for id in [1, 4] {
                queue.try_push(alive.rank(id, id), alive.item(id)).unwrap();
            }
            let parked = [2, 3, 5].map(|id| Task::waiting(queue.push(alive.rank(id, id), alive.item(id))));
            let blown = with_panic_at(panics_at, || many.poll().is_ready()).is_none();
            queue.check();
            if blown && again {
                // It continues, or is ready with the items that it had taken.
                let _ = catch_unwind(AssertUnwindSafe(|| many.poll().is_ready()));
            }
            drop(many);
            assert_eq!((alive.count(), queue.waiting_pops()), (10, 0));
            let order: Vec<_> = into.into_iter().chain(pop_all(&queue)).map(id_of).collect();
            assert_eq!(order, [5, 4, 3, 2, 1]);
            assert_eq!(counts(&queue), (0, 0, 0));
            drop(parked);
        }
    }
}

#[test]
fn nothing_is_compared_where_no_item_takes_its_place() {
    let alive = Alive::default();
    let queue = Ranked::bounded(20);
    let mut keys: Vec<_> = (0..20).map(|id| queue.try_push(alive.rank(id % 4, id), alive.item(id)).unwrap()).collect();
    let mut parked: Vec<_> =
        (20..30).map(|id| Task::waiting(queue.push(alive.rank(id % 7, id), alive.item(id)))).collect();
    assert_eq!(comparisons(|| drop(parked.remove(3))), 0, "a parked push is dropped");
    assert_eq!(comparisons(|| parked.drain(..).for_each(drop)), 0);
    assert_eq!(comparisons(|| queue.try_push(alive.rank(1, 99), alive.item(99))), 0, "it is full");
    assert!(comparisons(|| queue.set_priority(keys[0], alive.rank(1, 98))) > 0, "the count works");
    // With no push parked, no item is looked for, and no push is admitted.
    assert_eq!(comparisons(|| queue.try_pop()), 0);
    assert_eq!(comparisons(|| ready(&mut queue.pop())), 0);
    assert_eq!(comparisons(|| ready(&mut queue.pop_many(&mut Vec::new(), 5))), 0);
    assert_eq!(comparisons(|| keys.drain(..).filter_map(|key| queue.remove(key)).take(5).count()), 0);
    let mut pops: Vec<_> = (0..queue.len()).map(|_| queue.pop()).collect();
    assert_eq!(comparisons(|| pops.iter_mut().take(2).for_each(|pop| drop(ready(pop)))), 0);
    assert_eq!(comparisons(|| queue.drain()), 0);
    let reserved = Task::waiting(queue.pop());
    queue.try_push(alive.rank(1, 40), alive.item(40)).unwrap();
    assert_eq!(comparisons(|| drop(reserved)), 0, "a reserved pop is dropped");
    assert_eq!(comparisons(|| (queue.close(), queue.try_push(alive.rank(1, 1), alive.item(1)).is_ok())), 0);
    drop((parked, pops));
    assert_eq!(comparisons(|| drop(queue)), 0);
}

thread_local! {
    /// The next comparison finds its first priority the less urgent one, whatever they are.
    static LIES: Cell<bool> = const { Cell::new(false) };
}

#[derive(Debug, PartialEq, Eq)]
struct Fickle(u32);

impl Ord for Fickle {
    fn cmp(&self, other: &Self) -> Ordering {
        if LIES.take() { Ordering::Less } else { self.0.cmp(&other.0) }
    }
}

impl PartialOrd for Fickle {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[test]
fn a_priority_found_unequal_to_itself_loses_no_item() {
    for levels in [1, 2, 3] {
        for level in 0..levels {
            let queue = PriorityQueue::unbounded();
            let keys: Vec<_> = (0..levels).map(|level| queue.try_push(Fickle(level), level).unwrap()).collect();
            LIES.set(true);
            assert!(queue.set_priority(keys[level as usize], Fickle(level)));
            queue.check();
            let popped: Vec<_> = std::iter::from_fn(|| queue.try_pop().ok()).map(|(_, item)| item).collect();
            assert_eq!(popped, (0..levels).rev().collect::<Vec<_>>());
        }
    }
}
