//! The entries of one shard, in the order of their use and found by key. No lock and no waiting: plain data.
//!
//! **Slots.** Entries are in one `Vec` without gaps: what is removed is replaced by the last one. So an index is good
//! until the next removal, and memory is as dense as it can be. A slot has the key, the value, the hash of the key and
//! the links of the order, all of an entry in one cache line if key and value are small.
//!
//! **Order.** A ring through the slots: from `newest` each links to the next older one, and the oldest to the newest.
//! The oldest entry becomes the newest by moving `newest` alone, which is what a full shard does with every new entry.
//!
//! **Table.** It has the index of the first slot of each bucket; slots of one bucket are chained. The slot keeps the
//! hash, so that the table can grow and let go of an entry without asking a key for it again. There are at least two
//! buckets for an entry: a chain is seldom longer than one slot, and a lookup reads two cache lines, of which it needs
//! the second anyway. A removal leaves no tombstone, as it would in a table of open addressing. If the hash
//! or equality of a key changes, the key is not found any more; nothing else depends on it.
//!
//! **Columns** stand beside the slots, by the same index: weights if there is a weigher, expiries if entries have a
//! lifetime or an idle time. A column that was not asked for does not exist; an entry without a weight weighs 1.
//!
//! **User code.** Keys are compared in [`find`](Shard::find), values cloned in [`get`](Shard::get), predicates and
//! visitors called in [`retain`](Shard::retain) and [`for_each`](Shard::for_each): each before anything is changed.
//! What is removed goes out in a [`Removed`], to be reported or dropped without the lock.

use std::borrow::Borrow;
use std::mem;

use super::columns::{Asked, Columns, Terms, Tick};
use super::{Cause, Stats};

/// Entries of a shard at most; few in tests, so that they reach it.
pub(super) const LIMIT: usize = if cfg!(all(test, not(loom))) { 5_000 } else { u32::MAX as usize };

/// Slots that an empty shard keeps, so that a few entries that come and go never meet the allocator. Few under loom and
/// fuzzing, so that they reach what lies beyond.
pub(super) const KEEP: usize = if cfg!(any(loom, fuzzing)) { 4 } else { 1024 };

/// No slot: the end of a chain.
const NIL: u32 = u32::MAX;

/// Entries up to a capacity; beyond it the least recently used is evicted.
pub(super) struct Shard<K, V> {
    slots: Vec<Slot<K, V>>,
    /// The slot of the most recently used entry; 0 if there is none.
    newest: u32,
    /// The first slot of each bucket, or [`NIL`]. Their number is a power of two, or 0.
    buckets: Vec<u32>,
    /// Only if some column was asked for.
    columns: Option<Columns>,
    capacity: usize,
    pub(super) stats: Stats,
}

struct Slot<K, V> {
    newer: u32,
    older: u32,
    /// The next one in its bucket, or [`NIL`].
    chained: u32,
    hash: u32,
    key: K,
    value: V,
}

/// What was removed from a shard, to be reported and dropped without the lock, in this order. The second part
/// allocates.
pub(super) struct Removed<K, V> {
    first: Option<Part<K, V>>,
    others: Vec<Part<K, V>>,
}

/// One thing that was removed, or not stored.
pub(super) enum Part<K, V> {
    /// An entry, and the cause that is to be reported, if any.
    Entry(K, V, Option<Cause>),
    Key(K),
    Value(V),
    Memory(Memory<K, V>),
}

/// The memory of a shard that has become empty.
pub(super) struct Memory<K, V> {
    _freed: Box<Allocations<K, V>>,
}

type Allocations<K, V> = (Vec<Slot<K, V>>, Vec<u32>, Option<Columns>);

impl<K, V> Shard<K, V> {
    pub(super) fn new(capacity: usize, asked: Asked) -> Self {
        Self {
            slots: Vec::new(),
            newest: 0,
            buckets: Vec::new(),
            columns: Columns::new(asked),
            capacity,
            stats: Stats::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn weight(&self) -> u64 {
        self.columns.as_ref().and_then(|columns| columns.weight()).unwrap_or(self.slots.len() as u64)
    }

    /// The index of a key's entry, which may have expired.
    #[inline(always)]
    pub(super) fn find<Q>(&self, hash: u32, key: &Q) -> Option<u32>
    where
        Q: Eq + ?Sized,
        K: Borrow<Q>,
    {
        let mut at = *self.buckets.get(bucket(&self.buckets, hash))?;
        loop {
            // There is none at the end of the chain.
            let slot = self.slots.get(at as usize)?;
            if slot.hash == hash && slot.key.borrow() == key {
                return Some(at);
            }
            at = slot.chained;
        }
    }

    #[inline(always)]
    pub(super) fn is_expired(&self, at: u32, now: Option<Tick>) -> bool {
        now.is_some_and(|now| self.columns.as_ref().is_some_and(|columns| columns.is_expired(at as usize, now)))
    }

    /// What was found, unless it has expired: then it is removed.
    #[inline(always)]
    pub(super) fn live(&mut self, found: Option<u32>, now: Option<Tick>, removed: &mut Removed<K, V>) -> Option<u32> {
        let found = found?;
        if self.is_expired(found, now) {
            self.evict(found, now, removed);
            return None;
        }
        Some(found)
    }

    #[inline(always)]
    pub(super) fn entry(&self, found: u32) -> (&K, &V) {
        let slot = &self.slots[found as usize];
        (&slot.key, &slot.value)
    }

    pub(super) fn value_mut(&mut self, found: u32) -> &mut V {
        &mut self.slots[found as usize].value
    }

    /// The value of a live entry, which is used by this.
    #[inline(always)]
    pub(super) fn get(&mut self, found: u32, idle_expires_at: Option<Tick>) -> V
    where
        V: Clone,
    {
        let value = self.entry(found).1.clone();
        self.touch(found, idle_expires_at);
        value
    }

    /// Makes an entry the most recently used one, which expires then unless it is used again.
    #[inline(always)]
    pub(super) fn touch(&mut self, at: u32, idle_expires_at: Option<Tick>) {
        self.move_to_front(at);
        if let Some((columns, idle_expires_at)) = self.columns.as_mut().zip(idle_expires_at) {
            columns.set_idle_expires_at(at as usize, idle_expires_at);
        }
    }

    /// Stores an entry, in place of `found` if its key was found, as the most recently used, and evicts what is too
    /// much.
    ///
    /// One that is too heavy or would expire at once is refused: nothing of its key stays. Returns the value that was
    /// there. Takes time in proportion to the entries if the table or the slots must grow.
    #[inline(always)]
    pub(super) fn insert(
        &mut self,
        found: Option<u32>,
        hash: u32,
        (key, value): (K, V),
        terms: Terms,
        removed: &mut Removed<K, V>,
    ) -> Option<V> {
        if !self.admits(&terms) {
            removed.push(Part::Entry(key, value, None));
            let (key, value) = self.remove(found?, removed);
            removed.push(Part::Key(key));
            return Some(value);
        }
        if let Some(found) = found {
            let old = mem::replace(&mut self.slots[found as usize].value, value);
            self.move_to_front(found);
            if self.columns.is_some() {
                self.set_newest_terms(&terms, removed);
            }
            removed.push(Part::Key(key));
            return Some(old);
        }
        self.stats.insertions += 1;
        match self.make_room(terms.weight, terms.now, removed) {
            Some(oldest) => self.replace(oldest, hash, key, value, &terms, removed),
            None => self.push(hash, key, value, &terms),
        }
        None
    }

    /// Removes an entry, and leaves its index to the last one. The last of all takes the memory of a crowd with it.
    pub(super) fn remove(&mut self, at: u32, removed: &mut Removed<K, V>) -> (K, V) {
        self.unindex(at);
        self.unlink(at);
        if let Some(columns) = &mut self.columns {
            columns.swap_remove(at as usize);
        }
        let slot = self.slots.swap_remove(at as usize);
        let moved_from = self.slots.len() as u32;
        if moved_from != at {
            self.follow_move(moved_from, at);
        }
        if self.slots.is_empty() && self.slots.capacity() > KEEP {
            let columns = self.columns.as_mut().map(Columns::take);
            let memory = (mem::take(&mut self.slots), mem::take(&mut self.buckets), columns);
            removed.push(Part::Memory(Memory { _freed: Box::new(memory) }));
        }
        (slot.key, slot.value)
    }

    /// Removes the least recently used live entry.
    pub(super) fn pop(&mut self, now: Option<Tick>, removed: &mut Removed<K, V>) -> Option<(K, V)> {
        loop {
            let oldest = self.oldest()?;
            if !self.is_expired(oldest, now) {
                return Some(self.remove(oldest, removed));
            }
            self.evict(oldest, now, removed);
        }
    }

    /// Removes what has expired, and what `keep` does not keep.
    pub(super) fn retain(
        &mut self,
        keep: &mut impl FnMut(&K, &V) -> bool,
        now: Option<Tick>,
        removed: &mut Removed<K, V>,
    ) {
        // Asked about all before anything is removed: it may panic.
        let leaves = |&at: &u32| {
            let (key, value) = self.entry(at);
            self.is_expired(at, now) || !keep(key, value)
        };
        let mut leaving: Vec<(usize, u32)> = self.order().filter(leaves).enumerate().collect();
        // From the last slot on, so that none of them is moved before it is removed; reported in their order.
        leaving.sort_unstable_by_key(|&(_, at)| std::cmp::Reverse(at));
        let mut parts: Vec<_> = leaving.iter().map(|_| None).collect();
        for (rank, at) in leaving {
            let cause = self.count_removal(at, now, Cause::Removed);
            let (key, value) = self.remove(at, removed);
            parts[rank] = Some(Part::Entry(key, value, Some(cause)));
        }
        parts.into_iter().flatten().for_each(|part| removed.push(part));
        self.compact();
    }

    /// Calls `visit` with each live entry, the most recently used first.
    pub(super) fn for_each(&self, now: Option<Tick>, mut visit: impl FnMut(&K, &V)) {
        for at in self.order().filter(|&at| !self.is_expired(at, now)) {
            let (key, value) = self.entry(at);
            visit(key, value);
        }
    }

    /// Removes everything at once, with the memory it was in.
    pub(super) fn clear(&mut self, now: Option<Tick>) -> impl Iterator<Item = (K, V, Cause)> + use<K, V> {
        let slots = mem::take(&mut self.slots);
        self.buckets = Vec::new();
        self.newest = 0;
        let columns = self.columns.as_mut().map(|columns| columns.take());
        let is_expired =
            move |at| now.is_some_and(|now| columns.as_ref().is_some_and(|columns| columns.is_expired(at, now)));
        self.stats.expirations += (0..slots.len()).filter(|&at| is_expired(at)).count() as u64;
        slots.into_iter().enumerate().map(move |(at, slot)| {
            let cause = if is_expired(at) { Cause::Expired } else { Cause::Removed };
            (slot.key, slot.value, cause)
        })
    }

    /// Evicts what is too much then, and gives back memory that is not needed.
    pub(super) fn set_capacity(&mut self, capacity: usize, now: Option<Tick>, removed: &mut Removed<K, V>) {
        let is_lowered = capacity < self.capacity;
        self.capacity = capacity;
        self.evict_down_to(capacity as u64, now, removed);
        // Without room not even what weighs nothing stays.
        while let Some(oldest) = self.oldest().filter(|_| capacity == 0) {
            self.evict(oldest, now, removed);
        }
        if is_lowered {
            self.compact();
        }
    }

    /// Weighs the most recently used entry again: it is evicted itself if it is too heavy now, and others are if they
    /// leave it no room.
    pub(super) fn set_newest_weight(&mut self, weight: u64, now: Option<Tick>, removed: &mut Removed<K, V>) {
        if weight > self.capacity as u64 {
            return self.evict(self.newest, now, removed);
        }
        self.evict_beside_newest(weight, now, removed);
        if let Some(columns) = &mut self.columns {
            columns.set_weight(self.newest as usize, weight);
        }
    }

    /// Stores the most recently used entry on other terms.
    #[inline(never)]
    fn set_newest_terms(&mut self, terms: &Terms, removed: &mut Removed<K, V>) {
        self.evict_beside_newest(terms.weight, terms.now, removed);
        if let Some(columns) = &mut self.columns {
            columns.set(self.newest as usize, terms);
        }
    }

    /// Makes room for this weight of the most recently used entry, which weighs nothing until it is set.
    fn evict_beside_newest(&mut self, weight: u64, now: Option<Tick>, removed: &mut Removed<K, V>) {
        if let Some(columns) = self.columns.as_mut().filter(|columns| columns.has_weights()) {
            columns.set_weight(self.newest as usize, 0);
            self.evict_down_to(self.capacity as u64 - weight, now, removed);
        }
    }

    #[inline(always)]
    fn admits(&self, terms: &Terms) -> bool {
        // At least 1, so that without capacity not even an entry of weight 0 is stored.
        terms.weight.max(1) <= self.capacity as u64
            && terms.now.is_none_or(|now| terms.expires_at.min(terms.idle_expires_at) > now)
    }

    /// Evicts until an entry of this weight fits in, but for the last one that has to go: its slot is to be reused.
    #[inline(always)]
    fn make_room(&mut self, weight: u64, now: Option<Tick>, removed: &mut Removed<K, V>) -> Option<u32> {
        if self.columns.is_none() {
            return self.oldest().filter(|_| self.slots.len() >= self.capacity.min(LIMIT));
        }
        let room = self.capacity as u64 - weight;
        while self.weight() > room || self.slots.len() == LIMIT {
            let oldest = self.oldest().expect("a full shard has entries");
            if self.weight() - self.weight_of(oldest) <= room {
                return Some(oldest);
            }
            self.evict(oldest, now, removed);
        }
        None
    }

    /// Puts a new entry into the slot of the oldest, which is evicted.
    #[inline(always)]
    fn replace(&mut self, oldest: u32, hash: u32, key: K, value: V, terms: &Terms, removed: &mut Removed<K, V>) {
        let cause = self.count_removal(oldest, terms.now, Cause::Capacity);
        self.unindex(oldest);
        let slot = &mut self.slots[oldest as usize];
        slot.hash = hash;
        let (key, value) = (mem::replace(&mut slot.key, key), mem::replace(&mut slot.value, value));
        removed.push(Part::Entry(key, value, Some(cause)));
        // It stands where the newest belongs: between the oldest that is left and the newest that was.
        self.newest = oldest;
        self.index(oldest);
        if let Some(columns) = &mut self.columns {
            columns.set(oldest as usize, terms);
        }
    }

    /// Puts a new entry into a slot of its own.
    #[inline(never)]
    fn push(&mut self, hash: u32, key: K, value: V, terms: &Terms) {
        let len = self.slots.len();
        if len == self.slots.capacity() {
            // By doubling, but not beyond what can be needed.
            let is_weighed = self.columns.as_ref().is_some_and(|columns| columns.has_weights());
            let most = if is_weighed { LIMIT } else { self.capacity.min(LIMIT) };
            let more = len.max(4).min(most - len);
            self.slots.reserve_exact(more);
            self.columns.iter_mut().for_each(|columns| columns.reserve_exact(more));
        }
        let at = len as u32;
        self.slots.push(Slot { newer: at, older: at, chained: NIL, hash, key, value });
        self.link_front(at);
        self.index(at);
        if let Some(columns) = &mut self.columns {
            columns.push(terms);
        }
    }

    /// Removes an entry that is evicted, or has expired.
    #[inline(never)]
    fn evict(&mut self, at: u32, now: Option<Tick>, removed: &mut Removed<K, V>) {
        let cause = self.count_removal(at, now, Cause::Capacity);
        let (key, value) = self.remove(at, removed);
        removed.push(Part::Entry(key, value, Some(cause)));
    }

    fn evict_down_to(&mut self, weight: u64, now: Option<Tick>, removed: &mut Removed<K, V>) {
        while self.weight() > weight {
            let oldest = self.oldest().expect("what weighs something is there");
            self.evict(oldest, now, removed);
        }
    }

    /// Counts an entry that is about to be removed, and returns why it is.
    #[inline(always)]
    fn count_removal(&mut self, at: u32, now: Option<Tick>, otherwise: Cause) -> Cause {
        let cause = if self.is_expired(at, now) { Cause::Expired } else { otherwise };
        match cause {
            Cause::Capacity => self.stats.evictions += 1,
            Cause::Expired => self.stats.expirations += 1,
            Cause::Removed => {}
        }
        cause
    }

    #[inline(always)]
    fn weight_of(&self, at: u32) -> u64 {
        self.columns.as_ref().map_or(1, |columns| columns.weight_of(at as usize))
    }

    /// Gives back memory if most of it lies idle.
    fn compact(&mut self) {
        let len = self.slots.len();
        if self.slots.capacity() > KEEP && len <= self.slots.capacity() / 4 {
            self.slots.shrink_to(2 * len);
            self.rebuild_table();
            if let Some(columns) = &mut self.columns {
                columns.shrink_to(2 * len);
            }
        }
    }
}

/// The order: a ring through the slots.
impl<K, V> Shard<K, V> {
    #[inline(always)]
    fn oldest(&self) -> Option<u32> {
        self.slots.get(self.newest as usize).map(|newest| newest.newer)
    }

    /// All indices, that of the most recently used entry first.
    fn order(&self) -> impl Iterator<Item = u32> {
        let first = Some(self.newest).filter(|_| !self.slots.is_empty());
        std::iter::successors(first, |&at| Some(self.slots[at as usize].older).filter(|&older| older != self.newest))
    }

    #[inline(always)]
    fn move_to_front(&mut self, at: u32) {
        let newest = self.newest;
        if at == newest {
            return;
        }
        self.newest = at;
        let slots = self.slots.as_mut_slice();
        let oldest = slots[newest as usize].newer;
        // The oldest stands where the newest belongs: in front of the one that was.
        if at != oldest {
            let slot = &mut slots[at as usize];
            let (newer, older) = (mem::replace(&mut slot.newer, oldest), mem::replace(&mut slot.older, newest));
            slots[newer as usize].older = older;
            slots[older as usize].newer = newer;
            slots[newest as usize].newer = at;
            slots[oldest as usize].older = at;
        }
    }

    /// Takes a slot out of the ring.
    #[inline(always)]
    fn unlink(&mut self, at: u32) {
        let Slot { newer, older, .. } = self.slots[at as usize];
        self.slots[newer as usize].older = older;
        self.slots[older as usize].newer = newer;
        if self.newest == at {
            self.newest = older;
        }
    }

    /// Puts a slot that is not in the ring, or in one of its own, in front of the newest.
    #[inline(always)]
    fn link_front(&mut self, at: u32) {
        let newest = self.newest;
        let oldest = mem::replace(&mut self.slots[newest as usize].newer, at);
        self.slots[oldest as usize].older = at;
        let slot = &mut self.slots[at as usize];
        (slot.newer, slot.older) = (oldest, newest);
        self.newest = at;
    }
}

/// The table.
impl<K, V> Shard<K, V> {
    /// Puts a slot into the table that is not there.
    #[inline(always)]
    fn index(&mut self, at: u32) {
        if self.slots.len() > self.buckets.len() / 2 {
            return self.rebuild_table();
        }
        let slot = &mut self.slots[at as usize];
        let bucket = bucket(&self.buckets, slot.hash);
        slot.chained = mem::replace(&mut self.buckets[bucket], at);
    }

    /// Makes a table of all slots.
    #[cold]
    fn rebuild_table(&mut self) {
        self.buckets = vec![NIL; (2 * self.slots.len()).next_power_of_two()];
        for (slot, at) in self.slots.iter_mut().zip(0..) {
            let bucket = bucket(&self.buckets, slot.hash);
            slot.chained = mem::replace(&mut self.buckets[bucket], at);
        }
    }

    /// Takes a slot out of the table.
    #[inline(always)]
    fn unindex(&mut self, at: u32) {
        let Slot { hash, chained, .. } = self.slots[at as usize];
        self.rechain(hash, at, chained);
    }

    /// Makes what leads to slot `from` in the chain of this hash lead to `to`.
    #[inline(always)]
    fn rechain(&mut self, hash: u32, from: u32, to: u32) {
        let bucket = bucket(&self.buckets, hash);
        let first = &mut self.buckets[bucket];
        if *first == from {
            *first = to;
            return;
        }
        let mut before = *first as usize;
        while self.slots[before].chained != from {
            before = self.slots[before].chained as usize;
        }
        self.slots[before].chained = to;
    }

    /// The slot at index `from` has moved to `to`: leads its neighbours and the table there.
    fn follow_move(&mut self, from: u32, to: u32) {
        let Slot { newer, older, hash, .. } = self.slots[to as usize];
        self.rechain(hash, from, to);
        if self.newest == from {
            self.newest = to;
        }
        // The only one left is its own neighbour.
        let (newer, older) = if newer == from { (to, to) } else { (newer, older) };
        self.slots[newer as usize].older = to;
        self.slots[older as usize].newer = to;
    }
}

/// The bucket of a hash; without buckets it is beyond them.
#[inline(always)]
fn bucket(buckets: &[u32], hash: u32) -> usize {
    hash as usize & buckets.len().wrapping_sub(1)
}

impl<K, V> Removed<K, V> {
    #[inline(always)]
    pub(super) const fn new() -> Self {
        Self { first: None, others: Vec::new() }
    }

    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    #[inline(always)]
    pub(super) fn push(&mut self, part: Part<K, V>) {
        if !mem::needs_drop::<(K, V)>() && !matches!(part, Part::Entry(.., Some(_)) | Part::Memory(_)) {
            return; // There is nothing to do with it.
        }
        if self.first.is_none() {
            self.first = Some(part);
        } else {
            self.others.push(part);
        }
    }

    pub(super) fn extend(&mut self, parts: impl IntoIterator<Item = Part<K, V>>) {
        parts.into_iter().for_each(|part| self.push(part));
    }
}

impl<K, V> IntoIterator for Removed<K, V> {
    type Item = Part<K, V>;
    type IntoIter = std::iter::Chain<std::option::IntoIter<Self::Item>, std::vec::IntoIter<Self::Item>>;

    fn into_iter(self) -> Self::IntoIter {
        self.first.into_iter().chain(self.others)
    }
}

impl<K, V> Shard<K, V> {
    /// Checks every invariant.
    ///
    /// # Panics
    ///
    /// When one does not hold.
    pub(super) fn validate(&self) {
        let len = self.slots.len();
        assert!((self.newest as usize) < len.max(1), "the newest entry is there");
        let mut seen = vec![false; len];
        for at in self.order() {
            assert!(!mem::replace(&mut seen[at as usize], true), "slot {at} is in the ring twice");
            let slot = &self.slots[at as usize];
            assert_eq!(self.slots[slot.older as usize].newer, at, "slot {at} is linked both ways");
            let mut chain = self.chain(self.buckets[bucket(&self.buckets, slot.hash)]);
            assert!(chain.any(|chained| chained == at), "slot {at} is in the bucket of its hash");
        }
        assert!(seen.into_iter().all(|seen| seen), "every slot is in the ring");
        let chained: usize = self.buckets.iter().map(|&first| self.chain(first).count()).sum();
        assert_eq!(chained, len, "slots and table are one-to-one");
        assert!(self.buckets.len() >= 2 * len, "chains are short");
        self.columns.iter().for_each(|columns| columns.validate(len));
        assert!(self.weight() <= self.capacity as u64, "no more is stored than there is room for");
        assert!(self.capacity > 0 || len == 0, "nothing is stored where there is no room");
    }

    /// The slots and buckets that there is memory for.
    #[cfg(any(test, fuzzing))]
    #[allow(dead_code)] // Used where this file is compiled into a model test.
    pub(super) fn memory(&self) -> (usize, usize) {
        (self.slots.capacity(), self.buckets.capacity())
    }

    /// The bytes that all entries take.
    #[cfg(any(test, fuzzing))]
    #[allow(dead_code)] // Used where this file is compiled into a model test.
    pub(super) fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot<K, V>>()
            + self.buckets.capacity() * size_of::<u32>()
            + self.columns.as_ref().map_or(0, |columns| columns.bytes())
    }

    /// The slots of a bucket, from this one on.
    fn chain(&self, first: u32) -> impl Iterator<Item = u32> {
        let at = |index: u32| Some(index).filter(|&index| index != NIL);
        // Longer than all slots together no chain is.
        std::iter::successors(at(first), move |&index| at(self.slots[index as usize].chained))
            .take(self.slots.len() + 1)
    }
}
