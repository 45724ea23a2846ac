//! Slots in one `Vec`, linked by index into lists.
//!
//! Waiters, items and entries live here. A value sits in a slot; a slot is in at most one [`List`]; a list is a head, a
//! tail and a length, and the links are in the slots. So push, unlink and move are O(1), allocate only when the `Vec`
//! grows, and need no pointer: a wrong key is a `None`, a panic or at worst a corrupt list, never a dangling reference.
//!
//! **Keys.** A [`Key`] is an index and a stamp. Each insertion draws the next stamp, so a key that outlives its value
//! finds nothing until the same index meets the same stamp again, 2^32 - 1 insertions later at the earliest. Keys are
//! internal to the crate, and none is kept beyond its value's removal.
//!
//! **Vacant slots form a stack.** A removed value's slot is the first to be reused, while its cache line is still warm,
//! and neither insertion nor removal touches another vacant slot.
//!
//! **Memory.** The `Vec` never shrinks while it holds values. Once it is empty and has more than [`KEEP`] slots, its
//! owner can take the whole allocation out with [`take_surplus`](Arena::take_surplus), and free it without its lock. A
//! smaller one stays, so that a population of up to that size comes and goes without an allocation.

use std::num::{NonZeroU32, NonZeroU64};

/// No index: the end of a list.
const NIL: u32 = u32::MAX;

/// The most values that an arena holds; few in the crate's own tests, so that they reach it.
pub(crate) const LIMIT: usize = if cfg!(all(test, not(loom))) { 5_000 } else { NIL as usize };

/// The most slots that an empty arena keeps: 64 KiB of waiters. Few in models, fuzzers and the crate's own tests, so
/// that they get beyond it.
pub(crate) const KEEP: usize = if cfg!(any(loom, fuzzing, test)) { 4 } else { 1024 };

/// Names a value in an [`Arena`] as long as that value is in it.
///
/// The stamp is the low half, the index the high one: a single word, which is passed in a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key(NonZeroU64);

/// A doubly linked list through the slots of one [`Arena`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct List {
    head: u32,
    tail: u32,
    len: u32,
}

/// Values of `T` with a stable key each, linked into any number of [`List`]s.
#[derive(Debug)]
pub(crate) struct Arena<T> {
    slots: Vec<Slot<T>>,
    /// The top of the stack of vacant slots, which are linked by `next`.
    vacant: u32,
    /// The number of occupied slots.
    len: u32,
    last_stamp: NonZeroU32,
}

/// The allocation of an arena that has become empty, to be freed without a lock.
#[derive(Debug)]
pub(crate) struct Surplus<T> {
    _slots: Vec<Slot<T>>,
}

#[derive(Debug)]
struct Slot<T> {
    prev: u32,
    next: u32,
    entry: Entry<T>,
}

#[derive(Debug)]
enum Entry<T> {
    Vacant,
    Occupied { stamp: NonZeroU32, value: T },
}

impl Key {
    #[inline]
    pub(crate) fn new(index: u32, stamp: NonZeroU32) -> Self {
        Self(NonZeroU64::from(stamp) | u64::from(index) << 32)
    }

    #[inline]
    pub(crate) fn index(self) -> u32 {
        (self.0.get() >> 32) as u32
    }

    #[inline]
    fn stamp(self) -> u32 {
        self.0.get() as u32
    }
}

impl List {
    pub(crate) const fn new() -> Self {
        Self { head: NIL, tail: NIL, len: 0 }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len as usize
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl<T> Arena<T> {
    pub(crate) const fn new() -> Self {
        Self { slots: Vec::new(), vacant: NIL, len: 0, last_stamp: NonZeroU32::MAX }
    }

    /// Puts `value` into a slot that is in no list.
    ///
    /// # Panics
    ///
    /// When 2^32 - 1 slots are occupied. Nothing has changed then.
    #[inline]
    pub(crate) fn insert(&mut self, value: T) -> Key {
        let stamp = self.next_stamp();
        let slot = Slot { prev: NIL, next: NIL, entry: Entry::Occupied { stamp, value } };
        Key::new(self.occupy(slot), stamp)
    }

    fn next_stamp(&mut self) -> NonZeroU32 {
        self.last_stamp = self.last_stamp.checked_add(1).unwrap_or(NonZeroU32::MIN);
        self.last_stamp
    }

    /// Puts `slot` in the place of the topmost vacant one, or at the end.
    #[inline]
    fn occupy(&mut self, slot: Slot<T>) -> u32 {
        let mut index = self.vacant;
        match self.slots.get_mut(index as usize) {
            Some(vacant) => {
                self.vacant = vacant.next;
                *vacant = slot;
            }
            None => {
                assert!(self.slots.len() < LIMIT, "an arena holds at most 2^32 - 1 values");
                index = self.slots.len() as u32;
                self.slots.push(slot);
            }
        }
        self.len += 1;
        index
    }

    /// Puts `value` into a slot at the end of `list`.
    ///
    /// # Panics
    ///
    /// As [`insert`](Self::insert) does.
    #[inline]
    pub(crate) fn push_back(&mut self, list: &mut List, value: T) -> Key {
        let stamp = self.next_stamp();
        let index = self.occupy(Slot { prev: list.tail, next: NIL, entry: Entry::Occupied { stamp, value } });
        match self.slots.get_mut(list.tail as usize) {
            Some(before) => before.next = index,
            None => list.head = index,
        }
        list.tail = index;
        list.len += 1;
        Key::new(index, stamp)
    }

    /// Returns the head of `list`.
    #[inline]
    pub(crate) fn front_mut(&mut self, list: &List) -> Option<(Key, &mut T)> {
        match self.slots.get_mut(list.head as usize)?.entry {
            Entry::Occupied { stamp, ref mut value } => Some((Key::new(list.head, stamp), value)),
            Entry::Vacant => None,
        }
    }

    /// Takes the head out of `list`. The value keeps its slot, which is in no list then.
    #[inline]
    pub(crate) fn pop_front(&mut self, list: &mut List) -> Option<(Key, &mut T)> {
        let index = list.head;
        if index == NIL {
            return None;
        }
        detach(&mut self.slots, list, index);
        match &mut self.slots[index as usize].entry {
            Entry::Occupied { stamp, value } => Some((Key::new(index, *stamp), value)),
            Entry::Vacant => None,
        }
    }

    /// Takes the slot of `key` out of `list`, which it is in.
    #[inline]
    pub(crate) fn unlink(&mut self, list: &mut List, key: Key) {
        debug_assert!(self.get(key).is_some());
        detach(&mut self.slots, list, key.index());
    }

    /// Puts the slot of `key`, which is in no list, behind that of `before`, which is in `list`; at the front without
    /// one.
    pub(crate) fn link_after(&mut self, list: &mut List, before: Option<Key>, key: Key) {
        debug_assert!(self.get(key).is_some() && before.is_none_or(|before| self.get(before).is_some()));
        attach_after(&mut self.slots, list, before.map_or(NIL, Key::index), key.index());
    }

    /// Puts the slot of `key`, which is in no list, at the end of `list`.
    pub(crate) fn link_back(&mut self, list: &mut List, key: Key) {
        debug_assert!(self.get(key).is_some());
        attach_after(&mut self.slots, list, list.tail, key.index());
    }

    /// Returns the key of the head of `list`.
    #[inline]
    pub(crate) fn front(&self, list: &List) -> Option<Key> {
        self.key_at(list.head)
    }

    /// Returns the key of the tail of `list`.
    #[inline]
    pub(crate) fn back(&self, list: &List) -> Option<Key> {
        self.key_at(list.tail)
    }

    /// Returns the value at the tail of `list`.
    #[inline]
    pub(crate) fn tail(&self, list: &List) -> Option<&T> {
        match &self.slots.get(list.tail as usize)?.entry {
            Entry::Occupied { value, .. } => Some(value),
            Entry::Vacant => None,
        }
    }

    /// Returns the stamp of the value in slot `index`.
    #[inline]
    pub(crate) fn stamp_at(&self, index: u32) -> Option<NonZeroU32> {
        match &self.slots.get(index as usize)?.entry {
            Entry::Occupied { stamp, .. } => Some(*stamp),
            Entry::Vacant => None,
        }
    }

    #[inline]
    fn key_at(&self, index: u32) -> Option<Key> {
        self.stamp_at(index).map(|stamp| Key::new(index, stamp))
    }

    /// Takes the value of `key` out of its slot, and the slot out of the list that `list_of` knows it to be in.
    #[inline]
    pub(crate) fn remove<'l>(&mut self, key: Key, list_of: impl FnOnce(&T) -> Option<&'l mut List>) -> Option<T> {
        if let Some(list) = list_of(self.get(key)?) {
            detach(&mut self.slots, list, key.index());
        }
        let slot = &mut self.slots[key.index() as usize];
        let entry = std::mem::replace(&mut slot.entry, Entry::Vacant);
        (slot.prev, slot.next) = (NIL, self.vacant);
        self.vacant = key.index();
        self.len -= 1;
        match entry {
            Entry::Occupied { value, .. } => Some(value),
            Entry::Vacant => None,
        }
    }

    /// Takes the allocation out if no value is left in it and it is larger than an empty arena keeps.
    #[inline]
    pub(crate) fn take_surplus(&mut self) -> Option<Box<Surplus<T>>> {
        if self.len > 0 || self.slots.len() <= KEEP {
            return None;
        }
        self.vacant = NIL;
        Some(Box::new(Surplus { _slots: std::mem::take(&mut self.slots) }))
    }

    #[inline]
    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        match &self.slots.get(key.index() as usize)?.entry {
            Entry::Occupied { stamp, value } if stamp.get() == key.stamp() => Some(value),
            _ => None,
        }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        match &mut self.slots.get_mut(key.index() as usize)?.entry {
            Entry::Occupied { stamp, value } if stamp.get() == key.stamp() => Some(value),
            _ => None,
        }
    }

    /// Moves everything in `from` to the end of `to`, in order, at once.
    pub(crate) fn append(&mut self, to: &mut List, from: &mut List) {
        let from = std::mem::replace(from, List::new());
        if to.is_empty() {
            *to = from;
        } else if !from.is_empty() {
            self.slots[to.tail as usize].next = from.head;
            self.slots[from.head as usize].prev = to.tail;
            to.tail = from.tail;
            to.len += from.len;
        }
    }

    /// Returns the values in `list`, from its head.
    #[inline]
    pub(crate) fn iter<'a>(&'a self, list: &List) -> impl Iterator<Item = &'a T> {
        self.entries(list).map(|(_, value)| value)
    }

    /// Returns the values in `list` and their keys, from its head.
    #[inline]
    pub(crate) fn entries<'a>(&'a self, list: &List) -> impl Iterator<Item = (Key, &'a T)> {
        self.walk(list.head, |slot| slot.next)
    }

    /// Returns the values in `list` and their keys, from its tail.
    pub(crate) fn entries_back<'a>(&'a self, list: &List) -> impl Iterator<Item = (Key, &'a T)> {
        self.walk(list.tail, |slot| slot.prev)
    }

    #[inline]
    fn walk(&self, mut at: u32, step: impl Fn(&Slot<T>) -> u32) -> impl Iterator<Item = (Key, &T)> {
        std::iter::from_fn(move || {
            let index = at;
            let slot = self.slots.get(index as usize)?;
            at = step(slot);
            match &slot.entry {
                Entry::Occupied { stamp, value } => Some((Key::new(index, *stamp), value)),
                Entry::Vacant => None,
            }
        })
    }

    /// Consumes the arena and returns its values, in no order.
    pub(crate) fn into_values(self) -> impl Iterator<Item = T> {
        self.slots.into_iter().filter_map(|slot| match slot.entry {
            Entry::Occupied { value, .. } => Some(value),
            Entry::Vacant => None,
        })
    }
}

/// Puts slot `index` behind slot `prev`, or at the front.
#[inline]
fn attach_after<T>(slots: &mut [Slot<T>], list: &mut List, prev: u32, index: u32) {
    let next = match slots.get_mut(prev as usize) {
        Some(before) => std::mem::replace(&mut before.next, index),
        None => std::mem::replace(&mut list.head, index),
    };
    match slots.get_mut(next as usize) {
        Some(after) => after.prev = index,
        None => list.tail = index,
    }
    (slots[index as usize].prev, slots[index as usize].next) = (prev, next);
    list.len += 1;
}

#[inline]
fn detach<T>(slots: &mut [Slot<T>], list: &mut List, index: u32) {
    let slot = &mut slots[index as usize];
    let (prev, next) = (slot.prev, slot.next);
    (slot.prev, slot.next) = (NIL, NIL);
    match slots.get_mut(prev as usize) {
        Some(before) => before.next = next,
        None => list.head = next,
    }
    match slots.get_mut(next as usize) {
        Some(after) => after.prev = prev,
        None => list.tail = prev,
    }
    list.len -= 1;
}

impl<T> Arena<T> {
    /// Returns the number of values in the arena, in a list or not.
    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    /// Returns all values, in no order.
    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|slot| match &slot.entry {
            Entry::Occupied { value, .. } => Some(value),
            Entry::Vacant => None,
        })
    }

    /// Checks every invariant, `lists` being all the lists of this arena.
    ///
    /// # Panics
    ///
    /// When one does not hold.
    pub(crate) fn validate(&self, lists: &[&List]) {
        let mut seen = vec![false; self.slots.len()];
        for list in lists {
            let (mut prev, mut at, mut len) = (NIL, list.head, 0);
            while at != NIL {
                let slot = &self.slots[at as usize];
                assert!(!std::mem::replace(&mut seen[at as usize], true), "slot {at} is in two places");
                assert_eq!(slot.prev, prev, "slot {at} links back to its predecessor");
                assert!(matches!(slot.entry, Entry::Occupied { .. }), "vacant slot {at} is in a list");
                (prev, at, len) = (at, slot.next, len + 1);
            }
            assert_eq!(list.tail, prev, "a list ends at its tail");
            assert_eq!(list.len, len, "a list counts its slots");
        }
        let (mut at, mut vacant) = (self.vacant, 0);
        while at != NIL {
            assert!(!std::mem::replace(&mut seen[at as usize], true), "slot {at} is in two places");
            assert!(
                matches!(self.slots[at as usize].entry, Entry::Vacant),
                "occupied slot {at} is on the vacant stack"
            );
            (at, vacant) = (self.slots[at as usize].next, vacant + 1);
        }
        assert_eq!(self.slots.len(), self.len() + vacant, "each slot is occupied or on the vacant stack");
        for (index, slot) in self.slots.iter().enumerate().filter(|&(index, _)| !seen[index]) {
            assert!(matches!(slot.entry, Entry::Occupied { .. }), "vacant slot {index} is on the stack");
            assert_eq!((slot.prev, slot.next), (NIL, NIL), "slot {index} is in no list and has no links");
        }
    }
}
