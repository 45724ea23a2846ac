//! The algorithm of the queue on plain data, under its lock.
//!
//! **Items** stand in one of two [orders](super::order): the *admitted*, at most as many as the capacity, and the
//! *parked*, which wait for room with their pushes. A pop takes the most urgent of both.
//!
//! | an item is | its push is | it is in | next |
//! |---|---|---|---|
//! | admitted | complete | `admitted` | popped, removed, evicted, drained |
//! | parked | waiting | `parked` | admitted or popped (the push completes); taken back by its push |
//! | refused by `close` | failed | `parked` | taken back by its push |
//!
//! **Reservations.** A waiting pop is not granted an item but the right to one: a *reservation*. When it runs it takes
//! the item that is the most urgent then. As reservations are for no item in particular, a pop without one is entitled
//! to an item only while there are more items than reservations, parked ones included; and if items are taken away from
//! under the reservations, the newest are revoked.
//!
//! **Settling.** Every call that changes the number of items ends with [`settle`](Core::settle), unless no pop can be
//! affected: more items than reservations serve the longest waiting pops, fewer revoke the newest reservations. Room is
//! given to the most urgent parked item at once.
//!
//! Invariants, whenever the lock is free: reservations <= items; admitted items <= capacity; if a pop waits, every item
//! is reserved; if a push waits, the queue is full; once the queue is closed no push waits, and no pop once it is
//! empty, too.
//!
//! **Comparisons are user code.** They are made before anything is changed: the methods of the first `impl` block
//! return what was found out, those of the second change the state and cannot fail. So a panic of `Ord` leaves
//! everything as it was. A future that is dropped compares nothing.

use std::cmp::Ordering;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::task::{Poll, Waker};

use super::items::{Items, Slot};
use super::order::{Anchor, Order, Spot};
use super::{Key, PriorityQueue, Waiter};
use crate::arena::{self, Arena, List};
use crate::wait_list::{NeedsClone, Removed, TaskWaker, WaitList, WakeBatch};

pub(super) struct Core<P, T> {
    pub(super) capacity: usize,
    items: Items<P, T>,
    admitted: Order<P>,
    /// Once the queue is closed, the items in here belong to the pushes that have failed.
    parked: Order<P>,
    /// The arrivals so far: of items, and of items at a new priority.
    arrivals: u64,
    /// An item's id is the number of its first arrival, counted on from here. Drawn at the first arrival.
    first_id: u64,
    /// The arrival of the item that was parked last.
    parked_last: u64,
    /// Each needs an item, and is granted its entry in `reservations`.
    pops: WaitList<(), arena::Key>,
    /// The waiters in `pops` that have a reservation, the oldest first.
    reservations: Arena<Waiter>,
    reserved: List,
    /// Each needs room for its item, and is granted the item's key once that is admitted or popped.
    pushes: WaitList<(), Key>,
    closed: bool,
}

/// A slot and a spot for an item, found by comparisons. Valid until the state changes.
pub(super) struct Vacancy {
    slot: u32,
    spot: Spot,
}

/// The changes that the removal of an item makes. Valid until the state changes.
pub(super) struct Removal {
    item: u32,
    /// The parked item that is admitted for it, and its spot among the admitted.
    next: Option<(u32, Spot)>,
}

/// The reason why an item is not admitted.
pub(super) enum Refusal {
    Full,
    Closed,
}

/// A waiter that has left, and memory. To be dropped after unlocking.
pub(super) type Leftover = (Removed<(), arena::Key>, Option<Box<arena::Surplus<Waiter>>>);

/// The methods that compare priorities.
impl<P: Ord, T> Core<P, T> {
    /// Finds room for an item.
    #[inline(always)]
    pub(super) fn find_room(&mut self, priority: &P) -> Result<Vacancy, Refusal> {
        if self.closed {
            return Err(Refusal::Closed);
        }
        if self.admitted.len() == self.capacity {
            return Err(Refusal::Full);
        }
        Ok(self.find_vacancy(priority))
    }

    /// Finds a slot and a spot among the admitted, whether there is room or not.
    #[inline(always)]
    fn find_vacancy(&mut self, priority: &P) -> Vacancy {
        let spot = self.find_spot(priority);
        Vacancy { slot: self.items.vacancy(), spot }
    }

    /// Finds the spot among the admitted for an item that arrives now.
    #[inline(always)]
    fn find_spot(&self, priority: &P) -> Spot {
        let since = if self.pushes.is_empty() { 0 } else { self.parked_last };
        self.admitted.find(&self.items, priority, since)
    }

    /// Finds a slot and a spot among the parked.
    pub(super) fn find_parking(&mut self, priority: &P) -> Vacancy {
        let spot = self.parked.find(&self.items, priority, 0);
        Vacancy { slot: self.items.vacancy(), spot }
    }

    /// Finds the item that must leave a full queue for one of this priority; `None` if that is the new one itself.
    pub(super) fn find_victim(&mut self, priority: &P) -> Option<(Vacancy, u32)> {
        let (least, victim) = self.admitted.last().expect("a full queue is not empty");
        if priority.cmp(least).is_le() {
            return None;
        }
        Some((self.find_vacancy(priority), victim))
    }

    /// Plans to remove the most urgent item. There must be one.
    #[inline(always)]
    pub(super) fn plan_pop(&self) -> Removal {
        let (_, item) = self.most_urgent().expect("a pop is entitled to an item");
        self.plan_removal(item)
    }

    /// Plans to remove an item, and to admit a parked one for it.
    #[inline(always)]
    pub(super) fn plan_removal(&self, item: u32) -> Removal {
        let is_parked = self.items.slot(item).push.is_some();
        let next = self.first_parked().filter(|_| !is_parked);
        Removal { item, next: next.map(|(priority, parked)| (parked, self.find_admission(priority, parked))) }
    }

    fn find_admission(&self, priority: &P, parked: u32) -> Spot {
        self.admitted.find_older(&self.items, priority, self.items.slot(parked).arrival)
    }

    /// Returns the most urgent item of all; among equals, the one that arrived first.
    pub(super) fn most_urgent(&self) -> Option<(&P, u32)> {
        let (admitted, parked) = (self.admitted.first(), self.first_parked());
        let (Some(admitted), Some(parked)) = (admitted, parked) else { return admitted.or(parked) };
        let parked_is_first = match parked.0.cmp(admitted.0) {
            Ordering::Greater => true,
            Ordering::Equal => self.items.slot(parked.1).arrival < self.items.slot(admitted.1).arrival,
            Ordering::Less => false,
        };
        Some(if parked_is_first { parked } else { admitted })
    }

    /// Sets the priority of an admitted item. Leaves the former one to be dropped, or the new one if they are equal.
    pub(super) fn set_priority(&mut self, item: u32, priority: &mut Option<P>) {
        debug_assert!(self.items.slot(item).push.is_none(), "the key of a parked item is not known yet");
        let Some(new) = priority.as_ref() else { return };
        if self.admitted.priority(&self.items, item).cmp(new).is_eq() {
            return;
        }
        let spot = self.find_spot(new);
        let (_, arrival) = self.arrive();
        self.items.slot_mut(item).arrival = arrival;
        *priority = priority.take().map(|new| self.admitted.relocate(&mut self.items, item, spot, new));
    }

    /// Removes the admitted items that are not to be kept, and admits as many parked ones. Most urgent first.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&P, &T) -> bool, batch: &mut WakeBatch) -> Vec<(P, T)> {
        let admitted = self.admitted.iter(&self.items);
        let removed = admitted.filter(|&(item, priority, _)| !keep(priority, self.items.value(item)));
        let removed: Vec<u32> = removed.map(|(item, ..)| item).collect();
        let admissions = self.plan_admissions(self.capacity - (self.admitted.len() - removed.len()));

        // First, so that no anchor is removed before it has served.
        for (item, anchor) in admissions {
            let spot = self.admitted.spot(&self.items, anchor);
            self.admit_parked(item, spot, batch);
        }
        let removed = removed.into_iter().map(|item| self.admitted.remove(&mut self.items, item)).collect();
        self.settle(batch);
        removed
    }

    /// Finds places among the admitted for so many of the parked.
    ///
    /// They are to be admitted in this order. One that has the same place as the one before it goes behind that, which
    /// is more urgent or equal and older.
    fn plan_admissions(&self, room: usize) -> Vec<(u32, Anchor)> {
        let mut admissions = Vec::new();
        if self.closed {
            return admissions;
        }
        let mut before = None;
        for (item, priority, head) in self.parked.iter(&self.items).take(room) {
            let found = self.admitted.anchor(self.find_admission(priority, item));
            let anchor = match before {
                Some((same, level, begun)) if same == found => {
                    if level == head {
                        Anchor::In(begun)
                    } else {
                        Anchor::Below(begun)
                    }
                }
                _ => found,
            };
            let begun = if let Anchor::In(begun) = anchor { begun } else { item };
            before = Some((found, head, begun));
            admissions.push((item, anchor));
        }
        admissions
    }
}

/// The methods that run no user code and cannot fail.
impl<P, T> Core<P, T> {
    pub(super) const fn new(capacity: usize) -> Self {
        Self {
            capacity,
            items: Items::new(),
            admitted: Order::new(),
            parked: Order::new(),
            arrivals: 0,
            first_id: 0,
            parked_last: 0,
            pops: WaitList::new(),
            reservations: Arena::new(),
            reserved: List::new(),
            pushes: WaitList::new(),
            closed: false,
        }
    }

    /// Returns the number of admitted items.
    pub(super) fn len(&self) -> usize {
        self.admitted.len()
    }

    pub(super) fn waiting_pops(&self) -> usize {
        self.pops.len()
    }

    /// Returns the number of parked items, without those that `close` refused.
    pub(super) fn waiting_pushes(&self) -> usize {
        self.pushes.len()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Returns `true` once no pop will get an item any more.
    pub(super) fn is_drained(&self) -> bool {
        self.closed && self.admitted.len() == 0
    }

    /// Returns the number of items that pops may take.
    #[inline(always)]
    fn available(&self) -> usize {
        self.admitted.len() + self.pushes.len()
    }

    /// Returns `true` if a pop without a reservation is entitled to an item.
    #[inline(always)]
    pub(super) fn has_unreserved(&self) -> bool {
        self.available() > self.reserved.len()
    }

    /// Returns `true` if a pop, a waiting one or a new one, is entitled to an item.
    pub(super) fn is_entitled(&self, waiter: Option<Waiter>) -> bool {
        match waiter {
            Some(waiter) => self.pops.is_granted(waiter),
            None => self.has_unreserved(),
        }
    }

    #[inline(always)]
    fn first_parked(&self) -> Option<(&P, u32)> {
        if self.pushes.is_empty() { None } else { self.parked.first() }
    }

    /// Counts an arrival. Returns the id of an item that arrives now, and the number of the arrival.
    #[inline(always)]
    fn arrive(&mut self) -> (u64, u64) {
        if self.arrivals == 0 {
            self.first_id = random();
        }
        self.arrivals += 1;
        (self.first_id.wrapping_add(self.arrivals), self.arrivals)
    }

    fn key(&self, item: u32) -> Key {
        Key { index: item, id: self.items.slot(item).id }
    }

    /// Returns the admitted item that a key names.
    pub(super) fn resolve(&self, key: Key) -> Option<u32> {
        self.items.has(key.index, key.id).then_some(key.index)
    }

    /// Returns the priority of an admitted item.
    pub(super) fn priority(&self, item: u32) -> &P {
        self.admitted.priority(&self.items, item)
    }

    /// Returns the admitted items, most urgent first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Key, &P, &T)> {
        self.admitted.iter(&self.items).map(|(item, priority, _)| (self.key(item), priority, self.items.value(item)))
    }

    /// Admits an item. If a pop waits, the caller settles.
    #[inline(always)]
    pub(super) fn admit(&mut self, Vacancy { slot, spot }: Vacancy, offer: (P, T)) -> Key {
        let (id, arrival) = self.arrive();
        self.admitted.insert(&mut self.items, slot, (id, arrival), spot, offer);
        Key { index: slot, id }
    }

    /// Admits an item in exchange for another one.
    pub(super) fn replace(&mut self, vacancy: Vacancy, victim: u32, offer: (P, T)) -> (Key, (P, T)) {
        let key = self.admit(vacancy, offer);
        (key, self.admitted.remove(&mut self.items, victim))
    }

    /// Returns a key that names no item, and never will.
    pub(super) fn stale_key(&mut self) -> Key {
        Key { index: 0, id: self.arrive().0 }
    }

    /// Parks an item, and enqueues its push. Returns the waiter and the item.
    pub(super) fn park(
        &mut self,
        Vacancy { slot, spot }: Vacancy,
        offer: (P, T),
        waker: Waker,
        batch: &mut WakeBatch,
    ) -> (Waiter, u32) {
        // First, since it panics at the limit of waiters.
        let waiter = self.pushes.enqueue((), waker);
        let (id, arrival) = self.arrive();
        self.parked_last = arrival;
        self.parked.insert(&mut self.items, slot, (id, arrival), spot, offer);
        self.items.slot_mut(slot).push = Some(waiter);
        // A waiting pop is entitled to it.
        self.settle(batch);
        (waiter, slot)
    }

    /// Polls a push that was parked. Once it is ready, its removed waiter has its key; if `close` refused it, its item
    /// is returned.
    #[expect(clippy::type_complexity, reason = "each layer has its own reader")]
    pub(super) fn poll_push(
        &mut self,
        waiter: Waiter,
        item: u32,
        waker: &mut TaskWaker<'_>,
    ) -> Result<Poll<(Removed<(), Key>, Option<(P, T)>)>, NeedsClone> {
        let polled = self.pushes.poll(waiter, waker)?;
        Ok(polled.map(|removed| {
            let refused = removed.grant.is_none().then(|| self.parked.remove(&mut self.items, item));
            (removed, refused)
        }))
    }

    /// Cancels a push that was parked. Returns its item unless that was admitted or popped.
    pub(super) fn cancel_push(
        &mut self,
        waiter: Waiter,
        item: u32,
        batch: &mut WakeBatch,
    ) -> (Option<(P, T)>, Removed<(), Key>) {
        let removed = self.pushes.remove(waiter).expect("a push that was parked has a waiter until it collects");
        let offer = removed.grant.is_none().then(|| self.parked.remove(&mut self.items, item));
        // A pop may have a reservation for the item.
        self.settle(batch);
        (offer, removed)
    }

    /// Pops the most urgent item if nothing else has to be done: no item is parked, and no pop waits if one is
    /// unreserved.
    #[inline(always)]
    pub(super) fn pop_alone(&mut self) -> Option<(P, T)> {
        if !self.has_unreserved() || !self.pushes.is_empty() {
            return None;
        }
        self.admitted.pop_first(&mut self.items)
    }

    /// Removes an item as planned.
    #[inline(always)]
    pub(super) fn remove(&mut self, Removal { item, next }: Removal, batch: &mut WakeBatch) -> (P, T) {
        if let Some((parked, spot)) = next {
            self.admit_parked(parked, spot, batch);
        }
        let removed = match self.items.slot(item).push {
            Some(push) => {
                self.pushes.grant(push, self.key(item), batch);
                self.parked.remove(&mut self.items, item)
            }
            None => self.admitted.remove(&mut self.items, item),
        };
        self.settle(batch);
        removed
    }

    /// Admits a parked item, and completes its push.
    fn admit_parked(&mut self, item: u32, spot: Spot, batch: &mut WakeBatch) {
        let priority = self.parked.release(&mut self.items, item);
        self.admitted.adopt(&mut self.items, item, spot, priority);
        let push = self.items.slot_mut(item).push.take();
        self.pushes.grant(push.expect("a parked item has a push"), self.key(item), batch);
    }

    /// Removes all items, the parked ones too, and completes their pushes. The admitted first, most urgent first.
    pub(super) fn remove_all(&mut self, batch: &mut WakeBatch) -> Vec<(P, T)> {
        let mut removed = Vec::with_capacity(self.available());
        while let Some((_, first)) = self.admitted.first().or_else(|| self.first_parked()) {
            removed.push(self.remove(Removal { item: first, next: None }, batch));
        }
        removed
    }

    /// Calls `visit` with each parked item, in no order.
    pub(super) fn for_each_parked(&mut self, mut visit: impl FnMut(&mut T)) {
        let mut parked = Vec::with_capacity(self.pushes.len());
        if !self.closed {
            parked.extend(self.parked.iter(&self.items).map(|(item, ..)| item));
        }
        for item in parked {
            visit(self.items.slot_mut(item).value.as_mut().expect("the slot of an item is not vacant"));
        }
    }

    pub(super) fn close(&mut self, batch: &mut WakeBatch) {
        self.closed = true;
        self.pushes.close();
        self.settle(batch);
        self.pushes.take_wakers(batch);
    }

    /// Brings the reservations in line with the number of items.
    #[inline(always)]
    pub(super) fn settle(&mut self, batch: &mut WakeBatch) {
        while self.reserved.len() < self.available() {
            let Some(waiter) = self.pops.front_key() else { break };
            let reservation = self.reservations.push_back(&mut self.reserved, waiter);
            self.pops.grant(waiter, reservation, batch);
        }
        while self.reserved.len() > self.available() {
            let newest = self.reservations.back(&self.reserved).expect("there are reservations");
            let waiter = self.reservations.remove(newest, |_| Some(&mut self.reserved)).expect("it was just found");
            self.pops.revoke(waiter);
        }
        if self.is_drained() {
            self.pops.close();
            self.pops.take_wakers(batch);
        }
    }

    /// Enqueues a pop that is not entitled to an item, or polls a waiting one. Ready, with the remains of its waiter,
    /// once the queue is closed and drained.
    pub(super) fn wait(
        &mut self,
        waiter: &mut Option<Waiter>,
        waker: &mut TaskWaker<'_>,
    ) -> Result<Poll<Option<Removed<(), arena::Key>>>, NeedsClone> {
        match *waiter {
            None if self.is_drained() => Ok(Poll::Ready(None)),
            None => {
                *waiter = Some(self.pops.enqueue((), waker.take()?));
                Ok(Poll::Pending)
            }
            Some(queued) => Ok(self.pops.poll(queued, waker)?.map(Some)),
        }
    }

    /// Removes a pop that collects or is cancelled, with its reservation if it has one.
    pub(super) fn leave(&mut self, waiter: Waiter) -> Option<Leftover> {
        let removed = self.pops.remove(waiter)?;
        if let Some(reservation) = removed.grant {
            self.reservations.remove(reservation, |_| Some(&mut self.reserved));
        }
        Some((removed, self.reservations.take_surplus()))
    }

    pub(super) fn take_wakers(&mut self, batch: &mut WakeBatch) {
        self.pops.take_wakers(batch);
        self.pushes.take_wakers(batch);
    }

    /// Returns memory to be dropped after unlocking, if there is some.
    #[inline(always)]
    pub(super) fn take_surplus(&mut self) -> Option<Vec<Slot<P, T>>> {
        self.items.take_surplus()
    }
}

/// Returns a number that no other queue is likely to draw.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

impl<P: Ord, T> Core<P, T> {
    /// Checks every invariant of the state.
    pub(super) fn validate(&self) {
        let Self { items, admitted, parked, pops, pushes, reserved, .. } = self;
        admitted.validate(items);
        parked.validate(items);
        self.reservations.validate(&[reserved]);
        pops.validate();
        pushes.validate();
        assert_eq!(items.validate(), admitted.len() + parked.len(), "an item is in one order");
        assert!(reserved.len() <= self.available(), "a reservation is for an item");
        assert!(admitted.len() <= self.capacity, "the capacity is not exceeded");
        assert!(pops.is_empty() || !self.has_unreserved(), "no pop waits beside an item for it");
        assert!(pushes.is_empty() || admitted.len() == self.capacity, "no push waits beside room");
        assert!(!self.closed || pushes.is_empty(), "no push waits on a closed queue");
        assert!(!self.is_drained() || pops.is_empty(), "no pop waits on a drained queue");
        assert!(self.closed || pushes.len() == parked.len(), "a parked item has a push");
        for (order, has_push) in [(admitted, false), (parked, true)] {
            let mut pushes = order.iter(items).map(|(item, ..)| items.slot(item).push);
            assert!(pushes.all(|push| push.is_some() == has_push), "the parked have a push, and they alone");
        }
    }
}

impl<P: Ord, T> PriorityQueue<P, T> {
    /// Checks every invariant of the state; for tests, and not part of the public interface.
    ///
    /// # Panics
    ///
    /// When one does not hold.
    #[doc(hidden)]
    pub fn validate(&self) {
        self.core.lock().validate();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::{Core, Key};

    fn push(core: &mut Core<u8, u64>, item: u64) -> Key {
        let vacancy = core.find_room(&1).ok().unwrap();
        core.admit(vacancy, (1, item))
    }

    #[test]
    fn ids_go_on_beyond_the_end_of_their_range() {
        let mut core = Core::new(usize::MAX);
        let stale = push(&mut core, 0);
        assert_eq!(core.pop_alone(), Some((1, 0)));
        // Four more, and they are at zero.
        core.first_id = u64::MAX - 5;
        for item in 1..9 {
            let key = push(&mut core, item);
            assert_eq!((key.index, key.id), (stale.index, (u64::MAX - 4).wrapping_add(item)));
            assert_eq!((core.resolve(stale), core.resolve(key)), (None, Some(key.index)));
            assert_eq!(core.pop_alone(), Some((1, item)));
            assert_eq!(core.resolve(key), None);
        }
    }

    #[test]
    fn a_push_without_a_slot_panics_and_changes_nothing() {
        let mut core = Core::new(usize::MAX);
        let pushes = (0..).take_while(|&item| catch_unwind(AssertUnwindSafe(|| push(&mut core, item))).is_ok());
        let len = pushes.count();
        assert_eq!(len, 5_000);
        core.validate();
        assert_eq!((core.len(), core.pop_alone()), (len, Some((1, 0))));
        push(&mut core, 0);
        core.validate();
    }
}
