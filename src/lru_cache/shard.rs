//! Entries in the order of their use, found by key: a list through an arena, and a table of indices. No lock, no
//! waiting.
//!
//! **One of each.** An entry is a slot of the arena, which is in the list `order` (the most recently used first), and
//! one index in the table. The slot's stamp is the hash of its key, or half of it, which suffices: so the table can
//! grow and let go of an entry without asking a key for its hash again, and a probe compares hashes before it compares
//! keys. A key that changes its hash or its equals is not found any more, and that is all.
//!
//! **Columns** stand beside the arena, by the index of the slot: weights if somebody weighs, ends if entries have one.
//! Otherwise they are empty, an entry weighs 1, and never ends.
//!
//! **Foreign code.** Keys are compared in [`find`](Shard::find), values cloned in [`get`](Shard::get) and
//! [`copies`](Shard::copies), a predicate asked in [`retain`](Shard::retain): each before anything is changed. What
//! leaves goes out in a [`Gone`], to be dropped by the caller without its lock.

use std::borrow::Borrow;
use std::num::NonZeroU32;
use std::time::Instant;

use hashbrown::HashTable;

use super::{Cause, Stats};
use crate::arena::{Arena, Key, List};
use crate::panic::Guarded;

/// Room that is kept when entries have left, as in the arena.
const KEEP: usize = if cfg!(any(loom, fuzzing)) { 4 } else { 1024 };

/// Entries up to a capacity; beyond it the least recently used leaves.
pub(super) struct Shard<K, V> {
    entries: Arena<(K, V)>,
    /// The most recently used first.
    order: List,
    table: HashTable<u32>,
    weights: Vec<u64>,
    ends: Vec<Option<Instant>>,
    /// Of all entries together; never above `capacity`.
    weight: u64,
    capacity: usize,
    pub(super) stats: Stats,
}

/// The terms on which an entry is stored.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    /// `None` if nobody weighs.
    pub(super) weight: Option<u64>,
    /// `None` if nothing ends.
    pub(super) now: Option<Instant>,
    pub(super) end: Option<Instant>,
}

/// What has left a shard, to be reported or dropped without the lock, in this order. The second piece allocates.
pub(super) struct Gone<K, V> {
    first: Option<Piece<K, V>>,
    others: Vec<Piece<K, V>>,
}

/// One thing that has left.
pub(super) enum Piece<K, V> {
    /// An entry, and why it left if it was not asked to.
    Entry(K, V, Option<Cause>),
    Key(K),
    Value(V),
}

impl<K, V> Shard<K, V> {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            entries: Arena::new(),
            order: List::new(),
            table: HashTable::new(),
            weights: Vec::new(),
            ends: Vec::new(),
            weight: 0,
            capacity,
            stats: Stats::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn weight(&self) -> u64 {
        self.weight
    }

    /// The entry of a key, which may be over.
    #[inline(always)]
    pub(super) fn find<Q>(&self, hash: NonZeroU32, key: &Q) -> Option<Key>
    where
        Q: Eq + ?Sized,
        K: Borrow<Q>,
    {
        let of_key = |&index: &u32| {
            let entry = self.entries.get(Key::new(index, hash));
            entry.is_some_and(|(held, _)| held.borrow() == key)
        };
        self.table.find(spread(hash), of_key).map(|&index| Key::new(index, hash))
    }

    /// What was found, unless it is over: then it is taken out.
    #[inline(always)]
    pub(super) fn live(&mut self, found: Option<Key>, now: Option<Instant>, gone: &mut Gone<K, V>) -> Option<Key> {
        let found = found?;
        if self.is_over(found, now) {
            self.evict(found, now, gone);
            self.close_ranks();
            return None;
        }
        Some(found)
    }

    /// The value of a live entry, which becomes the most recently used.
    #[inline(always)]
    pub(super) fn get(&mut self, found: Key) -> V
    where
        V: Clone,
    {
        let value = self.peek(found).clone();
        self.entries.move_to_front(&mut self.order, found);
        value
    }

    #[inline(always)]
    pub(super) fn peek(&self, found: Key) -> &V {
        &self.entries.get(found).expect("who is found is there").1
    }

    /// Stores an entry, in place of `found` if its key was found, as the most recently used, and makes room for it.
    ///
    /// One that is too heavy is refused: nothing of its key stays.
    #[inline(always)]
    pub(super) fn insert(
        &mut self,
        found: Option<Key>,
        hash: NonZeroU32,
        (key, value): (K, V),
        terms: Terms,
        gone: &mut Gone<K, V>,
    ) -> Option<V> {
        let weight = terms.weight.unwrap_or(1);
        let Some(room) = self.room_beside(weight) else {
            gone.push(Piece::Entry(key, value, None));
            let (key, value) = self.remove(found?);
            gone.push(Piece::Key(key));
            return Some(value);
        };
        if let Some(found) = found {
            // It stands behind all that may have to leave, and does not weigh until they have.
            self.entries.move_to_front(&mut self.order, found);
            self.weight -= self.weight_of(found);
            self.evict_down_to(room, terms.now, gone);
            self.agree(found, weight, terms);
            gone.push(Piece::Key(key));
            return Some(std::mem::replace(&mut self.entries.get_mut(found)?.1, value));
        }
        if self.table.len() == self.table.capacity() {
            self.rebuild_table();
        }
        let new = self.make_room(room, hash, (key, value), terms, gone);
        let hash_of = |&index: &u32| spread(hash_at(&self.entries, index));
        self.table.insert_unique(spread(hash), new.index(), hash_of);
        self.agree(new, weight, terms);
        self.stats.insertions += 1;
        None
    }

    /// Puts an entry at the front of the order, in a slot of its own or in that of the last one that has to leave for
    /// it.
    #[inline(always)]
    fn make_room(&mut self, room: u64, hash: NonZeroU32, entry: (K, V), terms: Terms, gone: &mut Gone<K, V>) -> Key {
        while self.weight > room || self.entries.is_full() {
            let oldest = self.entries.back(&self.order).expect("who weighs is there");
            // Vacant slots are used first: entries drift down in the arena, so that what a crowd has left can be cut
            // off.
            if self.weight - self.weight_of(oldest) > room || self.entries.has_vacancy() {
                self.evict(oldest, terms.now, gone);
                continue;
            }
            let cause = self.leaves(oldest, terms.now);
            let (new, (key, value)) = self.entries.replace(oldest, hash, entry).expect("who is the oldest is there");
            self.entries.move_to_front(&mut self.order, new);
            gone.push(Piece::Entry(key, value, Some(cause)));
            return new;
        }
        if terms.weight.is_none() {
            self.entries.reserve_within(self.capacity);
        }
        let new = self.entries.insert_stamped(hash, entry);
        self.entries.link_front(&mut self.order, new);
        new
    }

    /// Makes room in the table. Left to itself it would double for nothing but what removals leave in it, as soon as it
    /// is half full; like this it grows when it is seven tenths full of entries.
    #[cold]
    fn rebuild_table(&mut self) {
        let len = self.order.len();
        let hash_of = |&index: &u32| spread(hash_at(&self.entries, index));
        self.table.clear();
        self.table.reserve(len + len / 4 + 1, hash_of);
        for (at, _) in self.entries.entries(&self.order) {
            self.table.insert_unique(hash_of(&at.index()), at.index(), hash_of);
        }
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, found: Key) -> (K, V) {
        self.forget(found);
        let entry = self.take(found);
        self.close_ranks();
        entry
    }

    /// Takes the least recently used live entry out.
    pub(super) fn pop(&mut self, now: Option<Instant>, gone: &mut Gone<K, V>) -> Option<(K, V)> {
        loop {
            let oldest = self.entries.back(&self.order)?;
            if !self.is_over(oldest, now) {
                return Some(self.remove(oldest));
            }
            self.evict(oldest, now, gone);
        }
    }

    /// Takes out what is over, and what `keep` does not keep.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&K, &V) -> bool, now: Option<Instant>, gone: &mut Gone<K, V>) {
        let entries = self.entries.entries(&self.order);
        let leaving = entries.filter(|(at, (key, value))| self.is_over(*at, now) || !keep(key, value));
        let leaving: Vec<Key> = leaving.map(|(at, _)| at).collect();
        for at in leaving {
            if self.is_over(at, now) {
                self.evict(at, now, gone);
            } else {
                self.forget(at);
                let (key, value) = self.take(at);
                gone.push(Piece::Entry(key, value, None));
            }
        }
        self.close_ranks();
    }

    /// Copies of the live entries, the most recently used first, behind those in `copies`. What is over is taken out.
    pub(super) fn copies(
        &mut self,
        copies: &mut (Vec<Guarded<K>>, Vec<Guarded<V>>),
        now: Option<Instant>,
        gone: &mut Gone<K, V>,
    ) where
        K: Clone,
        V: Clone,
    {
        for (at, (key, value)) in self.entries.entries(&self.order) {
            if !self.is_over(at, now) {
                // One after the other into the caller's hands: half a copy would be dropped in here, if the other half
                // panics.
                copies.0.push(Guarded(Some(key.clone())));
                copies.1.push(Guarded(Some(value.clone())));
            }
        }
        if now.is_some() {
            self.retain(|_, _| true, now, gone);
        }
    }

    /// Takes all out at once, with the memory they were in.
    pub(super) fn clear(&mut self) -> impl Iterator<Item = (K, V)> + use<K, V> {
        let empty = Self { stats: self.stats, ..Self::new(self.capacity) };
        std::mem::replace(self, empty).entries.into_values()
    }

    pub(super) fn set_capacity(&mut self, capacity: usize, now: Option<Instant>, gone: &mut Gone<K, V>) {
        self.capacity = capacity;
        self.evict_down_to(capacity as u64, now, gone);
        // Without room not even what weighs nothing stays.
        while let Some(oldest) = self.entries.back(&self.order).filter(|_| capacity == 0) {
            self.evict(oldest, now, gone);
        }
        self.close_ranks();
    }

    /// What the others may weigh beside one entry; `None` if it does not fit at all.
    #[inline(always)]
    fn room_beside(&self, weight: u64) -> Option<u64> {
        if self.capacity == 0 { None } else { (self.capacity as u64).checked_sub(weight) }
    }

    #[inline(always)]
    fn evict_down_to(&mut self, weight: u64, now: Option<Instant>, gone: &mut Gone<K, V>) {
        while self.weight > weight {
            let oldest = self.entries.back(&self.order).expect("who weighs is there");
            self.evict(oldest, now, gone);
        }
    }

    /// Sends an entry away.
    fn evict(&mut self, at: Key, now: Option<Instant>, gone: &mut Gone<K, V>) {
        let cause = self.leaves(at, now);
        let (key, value) = self.take(at);
        gone.push(Piece::Entry(key, value, Some(cause)));
    }

    /// Notes that an entry leaves, and why.
    #[inline(always)]
    fn leaves(&mut self, at: Key, now: Option<Instant>) -> Cause {
        self.forget(at);
        if self.is_over(at, now) {
            self.stats.expirations += 1;
            Cause::Expired
        } else {
            self.stats.evictions += 1;
            Cause::Capacity
        }
    }

    /// Lets nobody find an entry any more, whose weight does not count from now on.
    #[inline(always)]
    fn forget(&mut self, at: Key) {
        let hash = hash_at(&self.entries, at.index());
        let in_table = self.table.find_entry(spread(hash), |&index| index == at.index());
        in_table.expect("each entry is in the table").remove();
        self.weight -= self.weight_of(at);
    }

    /// Takes what is forgotten out of its slot, and lets the memory follow: columns are as long as the arena has slots,
    /// and the table gives back what lies idle.
    fn take(&mut self, at: Key) -> (K, V) {
        let entry = self.entries.remove(at, |_| Some(&mut self.order)).expect("who leaves is there");
        let slots = self.entries.slots();
        cut(&mut self.weights, slots);
        cut(&mut self.ends, slots);
        trim(&mut self.table, |&index| spread(hash_at(&self.entries, index)));
        entry
    }

    /// Lets go of the memory of a crowd that has left, though a few have stayed, who may be anywhere. Those whom the caller
    /// has found have other keys then.
    #[inline(always)]
    fn close_ranks(&mut self) {
        if self.entries.slots() > KEEP && self.len() <= self.entries.slots() / 8 {
            self.move_together();
        }
    }

    #[cold]
    fn move_together(&mut self) {
        let mut crowd = std::mem::replace(self, Self { stats: self.stats, ..Self::new(self.capacity) });
        while let Some(oldest) = crowd.entries.back(&crowd.order) {
            let hash = hash_at(&crowd.entries, oldest.index());
            let entry = crowd.entries.remove(oldest, |_| Some(&mut crowd.order)).expect("who is the oldest is there");
            let new = self.entries.insert_stamped(hash, entry);
            self.entries.link_front(&mut self.order, new);
            let was_at = oldest.index() as usize;
            crowd.weights.get(was_at).into_iter().for_each(|&weight| note(&mut self.weights, new, weight));
            crowd.ends.get(was_at).into_iter().for_each(|&end| note(&mut self.ends, new, end));
        }
        self.weight = crowd.weight;
        self.rebuild_table();
    }

    #[inline(always)]
    pub(super) fn is_over(&self, at: Key, now: Option<Instant>) -> bool {
        now.is_some_and(|now| self.ends.get(at.index() as usize).is_some_and(|end| end.is_some_and(|end| end <= now)))
    }

    #[inline(always)]
    fn weight_of(&self, at: Key) -> u64 {
        self.weights.get(at.index() as usize).copied().unwrap_or(1)
    }

    /// Notes the terms of an entry that did not weigh so far.
    #[inline(always)]
    fn agree(&mut self, at: Key, weight: u64, terms: Terms) {
        self.weight += weight;
        if terms.weight.is_some() {
            note(&mut self.weights, at, weight);
        }
        if terms.now.is_some() {
            note(&mut self.ends, at, terms.end);
        }
    }
}

/// Gives back what lies idle of a table.
pub(super) fn trim<T>(table: &mut HashTable<T>, hash_of: impl Fn(&T) -> u64) {
    if table.num_buckets() > 2 * KEEP && table.len() <= table.num_buckets() / 8 {
        table.shrink_to(KEEP.max(2 * table.len()), hash_of);
    }
}

/// A hash as a table wants it: it finds the place by the low bits and tells neighbours apart by the highest.
#[inline(always)]
pub(super) fn spread(hash: NonZeroU32) -> u64 {
    u64::from(hash.get()) << 32 | u64::from(hash.get())
}

#[inline(always)]
fn hash_at<T>(entries: &Arena<T>, index: u32) -> NonZeroU32 {
    entries.stamp_at(index).expect("the table knows entries only")
}

#[inline(always)]
fn note<T: Clone + Default>(column: &mut Vec<T>, at: Key, term: T) {
    let index = at.index() as usize;
    if index >= column.len() {
        column.resize(index + 1, T::default());
    }
    column[index] = term;
}

fn cut<T>(column: &mut Vec<T>, slots: usize) {
    if column.len() > slots {
        column.truncate(slots);
        if column.capacity() > KEEP && slots <= column.capacity() / 4 {
            column.shrink_to(KEEP.max(2 * slots));
        }
    }
}

impl<K, V> Gone<K, V> {
    #[inline(always)]
    pub(super) const fn new() -> Self {
        Self { first: None, others: Vec::new() }
    }

    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    #[inline(always)]
    pub(super) fn push(&mut self, piece: Piece<K, V>) {
        if self.first.is_none() {
            self.first = Some(piece);
        } else {
            self.others.push(piece);
        }
    }

    pub(super) fn extend(&mut self, pieces: impl IntoIterator<Item = Piece<K, V>>) {
        pieces.into_iter().for_each(|piece| self.push(piece));
    }
}

impl<K, V> IntoIterator for Gone<K, V> {
    type Item = Piece<K, V>;
    type IntoIter = std::iter::Chain<std::option::IntoIter<Self::Item>, std::vec::IntoIter<Self::Item>>;

    fn into_iter(self) -> Self::IntoIter {
        self.first.into_iter().chain(self.others)
    }
}

#[cfg(any(test, fuzzing, loom, debug_assertions))]
impl<K, V> Shard<K, V> {
    /// Checks every invariant.
    ///
    /// # Panics
    ///
    /// When one does not hold.
    pub(super) fn validate(&self) {
        self.entries.validate(&[&self.order]);
        assert_eq!(self.entries.len(), self.order.len(), "every entry has its place in the order");
        assert_eq!(self.table.len(), self.order.len(), "list and table are one-to-one");
        let mut weight = 0_u64;
        for (at, _) in self.entries.entries(&self.order) {
            let mut of_hash = self.table.iter_hash(spread(hash_at(&self.entries, at.index())));
            assert!(of_hash.any(|&index| index == at.index()), "an entry is in the table under its hash");
            weight = weight.checked_add(self.weight_of(at)).expect("weights add up");
        }
        assert_eq!(weight, self.weight, "the weight is that of the entries");
        assert!(weight <= self.capacity as u64, "there is more than there is room for");
        assert!(self.capacity > 0 || self.order.is_empty(), "nothing is stored where there is no room");
        assert!(self.weights.len() <= self.entries.slots(), "no weight is kept for nobody");
        assert!(self.ends.len() <= self.entries.slots(), "no end is kept for nobody");
        assert!(self.weights.is_empty() || self.weights.len() == self.entries.slots(), "everybody is weighed");
        for (len, capacity) in [(self.weights.len(), self.weights.capacity()), (self.ends.len(), self.ends.capacity())]
        {
            assert!(capacity <= KEEP || len > capacity / 4, "memory is kept for nobody");
        }
        let idle = self.table.num_buckets() > 2 * KEEP && self.table.len() <= self.table.num_buckets() / 8;
        assert!(!idle, "memory is kept for nobody");
    }
}

#[cfg(any(fuzzing, all(test, not(loom))))]
pub mod sequence;
