//! Random operations on the orders of a priority queue, compared with a model: two lists of items, the most urgent
//! first.
//!
//! The operations are decoded from bytes, three for each: the first chooses it, the others its arguments. The orders are
//! private to the crate, so their source is compiled into this test, with few levels in a leaf: the trees are high.

#[allow(dead_code)]
#[path = "../../src/priority_queue/items.rs"]
mod items;
#[allow(dead_code)]
#[path = "../../src/priority_queue/order.rs"]
mod source;

use items::Items;
use source::{Anchor, Order, Spot};

/// That of the real queue is private, too, and is not looked at here.
type Waiter = ();

/// The most priorities.
const LEVELS: u32 = 1_000;

/// The most items, in either order.
const CROWD: usize = 300;

#[derive(Clone, Copy, Debug, PartialEq)]
struct Item {
    priority: u32,
    arrival: u64,
    index: u32,
}

#[derive(Default)]
struct Model(Vec<Item>);

impl Model {
    fn insert(&mut self, item: Item) {
        let place = self.0.partition_point(|other| {
            other.priority > item.priority || other.priority == item.priority && other.arrival < item.arrival
        });
        self.0.insert(place, item);
    }

    /// The newest arrival, or 0.
    fn newest(&self) -> u64 {
        self.0.iter().map(|item| item.arrival).max().unwrap_or(0)
    }

    /// Asserts that the order has the same items.
    fn check(&self, order: &Order<u32>, items: &Items<u32, u64>) {
        order.validate(items);
        assert_eq!(order.len(), self.0.len());
        let found = order.iter(items).map(|(index, &priority, _)| (index, priority, *items.value(index)));
        assert!(found.eq(self.0.iter().map(|item| (item.index, item.priority, item.arrival))), "the same order");
        assert_eq!(order.first().map(|(&priority, index)| (priority, index)), self.0.first().map(named));
        assert_eq!(order.last().map(|(&priority, index)| (priority, index)), self.0.last().map(named));
    }
}

fn named(item: &Item) -> (u32, u32) {
    (item.priority, item.index)
}

/// A queue's two orders, and their models.
struct Test {
    items: Items<u32, u64>,
    admitted: (Order<u32>, Model),
    parked: (Order<u32>, Model),
    arrivals: u64,
}

/// Runs the operations that `data` encodes.
///
/// # Panics
///
/// When an order does anything else than its model.
pub(crate) fn run(data: &[u8]) {
    let mut test = Test {
        items: Items::new(),
        admitted: (Order::new(), Model::default()),
        parked: (Order::new(), Model::default()),
        arrivals: 0,
    };
    for step in data.chunks_exact(3) {
        test.step(step[0], step[1].into(), step[2].into());
        test.check();
    }
    while let Some(&item) = test.admitted.1.0.get(test.admitted.1.0.len() / 2) {
        test.remove(item);
        test.check();
    }
}

impl Test {
    fn step(&mut self, op: u8, a: u32, b: u32) {
        let priority = (a << 8 | b) % LEVELS;
        match op % 16 {
            0..=2 => self.insert(priority),
            3 => self.insert(a % 8),
            4 => (0..b).for_each(|step| self.insert((a + 7 * step) % LEVELS)),
            5 => (0..b).for_each(|step| self.insert((a + LEVELS - 3 * step) % LEVELS)),
            6 => self.park(priority % 300),
            7 => (0..b / 8).for_each(|step| self.park((a + 5 * step) % 300)),
            8 => self.admit(a),
            9 => (0..b).for_each(|_| self.admit(a)),
            10 => self.remove_at(a << 8 | b),
            11 => (0..b / 2).for_each(|_| self.pop()),
            12 => (0..b / 2).for_each(|_| self.remove_at(u32::MAX)),
            13 => (0..b).for_each(|step| self.remove_at(step * (1 + a))),
            _ => self.relocate(a, priority),
        }
    }

    fn arrive(&mut self) -> u64 {
        self.arrivals += 1;
        self.arrivals
    }

    /// Finds the spot for an admitted item that arrives now.
    fn find(&self, priority: u32) -> Spot {
        self.admitted.0.find(&self.items, &priority, self.parked.1.newest())
    }

    fn insert(&mut self, priority: u32) {
        if self.admitted.1.0.len() < CROWD {
            let (spot, index, arrival) = (self.find(priority), self.items.vacancy(), self.arrive());
            self.admitted.0.insert(&mut self.items, index, (0, arrival), spot, (priority, arrival));
            self.admitted.1.insert(Item { priority, arrival, index });
        }
    }

    fn park(&mut self, priority: u32) {
        if self.parked.1.0.len() == CROWD {
            return;
        }
        let spot = self.parked.0.find(&self.items, &priority, 0);
        let (index, arrival) = (self.items.vacancy(), self.arrive());
        self.parked.0.insert(&mut self.items, index, (0, arrival), spot, (priority, arrival));
        self.parked.1.insert(Item { priority, arrival, index });
    }

    /// Admits the most urgent of the parked, at once or after the order has changed.
    fn admit(&mut self, a: u32) {
        let Some(&item) = self.parked.1.0.first() else { return };
        let mut spot = self.admitted.0.find_older(&self.items, &item.priority, item.arrival);
        if a % 2 == 1 {
            let anchor = self.admitted.0.anchor(spot);
            if anchor != Anchor::Top {
                self.insert(LEVELS + self.arrivals as u32); // More urgent than all.
            }
            spot = self.admitted.0.spot(&self.items, anchor);
        }
        let priority = self.parked.0.release(&mut self.items, item.index);
        assert_eq!(priority, item.priority);
        self.admitted.0.adopt(&mut self.items, item.index, spot, priority);
        self.parked.1.0.remove(0);
        self.admitted.1.insert(item);
    }

    fn pop(&mut self) {
        let first = self.admitted.1.0.first().copied();
        let popped = self.admitted.0.pop_first(&mut self.items);
        assert_eq!(popped, first.map(|item| (item.priority, item.arrival)));
        self.admitted.1.0.drain(..usize::from(first.is_some()));
        drop(self.items.take_surplus());
    }

    fn remove_at(&mut self, place: u32) {
        let all = &self.admitted.1.0;
        let last = all.len().wrapping_sub(1);
        let place = if place == u32::MAX { last } else { place as usize % all.len().max(1) };
        if let Some(&item) = all.get(place) {
            self.remove(item);
        }
    }

    fn remove(&mut self, item: Item) {
        assert_eq!(*self.admitted.0.priority(&self.items, item.index), item.priority);
        let removed = self.admitted.0.remove(&mut self.items, item.index);
        assert_eq!(removed, (item.priority, item.arrival));
        self.admitted.1.0.retain(|other| *other != item);
        drop(self.items.take_surplus());
    }

    fn relocate(&mut self, a: u32, priority: u32) {
        let all = &self.admitted.1.0;
        let Some(&item) = all.get(a as usize % all.len().max(1)) else { return };
        let (spot, arrival) = (self.find(priority), self.arrive());
        let slot = self.items.slot_mut(item.index);
        (slot.arrival, slot.value) = (arrival, Some(arrival));
        assert_eq!(self.admitted.0.relocate(&mut self.items, item.index, spot, priority), item.priority);
        self.admitted.1.0.retain(|other| *other != item);
        self.admitted.1.insert(Item { priority, arrival, ..item });
    }

    fn check(&self) {
        self.admitted.1.check(&self.admitted.0, &self.items);
        self.parked.1.check(&self.parked.0, &self.items);
        assert_eq!(self.items.validate(), self.admitted.1.0.len() + self.parked.1.0.len());
    }
}
