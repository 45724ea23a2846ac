//! The items of a queue, each in a slot with a stable index.
//!
//! Slots stand in *segments* of bounded size, so that the memory of a storm is given back a segment at a time while its
//! items leave, never at once. Headers are excepted, those of the segments and of the nodes of an
//! [order](super::order): at most 64 bytes each, they are freed together, under the lock, when the storm is over. The
//! vacant slots of a segment are a stack, and so are the segments that have vacant slots: an item takes the slot that
//! was vacated last. The segment that was emptied last keeps its memory, so that a steady population never meets the
//! allocator.
//!
//! The links of a slot belong to its [level](super::order), or to the stack while it is vacant.

use std::mem::{replace, take};

use super::Waiter;

/// No slot, or no segment.
pub(super) const NIL: u32 = u32::MAX;

/// The most slots; few in the crate's own tests, so that they reach it.
const LIMIT: u32 = if cfg!(all(test, not(loom))) { 5_000 } else { NIL };

/// No segment is larger, unless a single slot is.
const SEGMENT_BYTES: usize = 32 * 1024;

pub(super) struct Items<P, T> {
    segments: Vec<Segment<P, T>>,
    /// The first segment with room; the others follow by `next`.
    roomy: u32,
    /// The segment that was emptied last, if it is still empty.
    spare: u32,
    /// The number of segments that hold items.
    busy: u32,
    /// The memory of a segment, to be dropped after unlocking.
    surplus: Vec<Slot<P, T>>,
}

struct Segment<P, T> {
    slots: Vec<Slot<P, T>>,
    /// The first vacant slot; the others follow by `next`.
    vacant: u32,
    /// The number of items.
    len: u32,
    next: u32,
}

pub(super) struct Slot<P, T> {
    /// Names the item in its public key.
    pub(super) id: u64,
    /// The number of its first poll, or of its last change of priority: the order among equals.
    pub(super) arrival: u64,
    /// The item before it in its level. Meaningless at the head.
    pub(super) prev: u32,
    /// The item after it in its level.
    pub(super) next: u32,
    pub(super) place: Place<P>,
    /// The waiter of its push, while it is parked.
    pub(super) push: Option<Waiter>,
    /// `None` in a vacant slot.
    pub(super) value: Option<T>,
}

/// Where an item stands in its level.
pub(super) enum Place<P> {
    /// At the head: its priority is in the level, which is in this leaf.
    Head { leaf: u32 },
    /// Behind the head, with a priority of its own. The leaf is that of the level if this is its tail.
    Behind { leaf: u32, priority: P },
    /// In no level.
    Loose,
}

impl<P, T> Items<P, T> {
    /// A segment has two to the power of this many slots. Few in models, fuzzers and unit tests, so that they fill some.
    const BITS: u32 = {
        let fit = SEGMENT_BYTES / size_of::<Slot<P, T>>();
        if cfg!(any(loom, fuzzing, test)) {
            2
        } else if fit == 0 {
            0
        } else {
            fit.ilog2()
        }
    };

    const SLOTS: u32 = 1 << Self::BITS;

    pub(super) const fn new() -> Self {
        Self { segments: Vec::new(), roomy: NIL, spare: NIL, busy: 0, surplus: Vec::new() }
    }

    /// The segment of an index, and the slot within it.
    #[inline(always)]
    fn split(index: u32) -> (usize, usize) {
        ((index >> Self::BITS) as usize, (index & (Self::SLOTS - 1)) as usize)
    }

    #[inline(always)]
    pub(super) fn slot(&self, index: u32) -> &Slot<P, T> {
        let (segment, slot) = Self::split(index);
        &self.segments[segment].slots[slot]
    }

    #[inline(always)]
    pub(super) fn slot_mut(&mut self, index: u32) -> &mut Slot<P, T> {
        let (segment, slot) = Self::split(index);
        &mut self.segments[segment].slots[slot]
    }

    /// The value of an item.
    pub(super) fn value(&self, index: u32) -> &T {
        self.slot(index).value.as_ref().expect("the slot of an item is not vacant")
    }

    /// Returns `true` if the item at `index` is there and has this id.
    pub(super) fn has(&self, index: u32, id: u64) -> bool {
        let (segment, slot) = Self::split(index);
        let slot = self.segments.get(segment).and_then(|segment| segment.slots.get(slot));
        slot.is_some_and(|slot| slot.id == id && slot.value.is_some())
    }

    /// Returns the index of the slot that is to be filled next.
    ///
    /// # Panics
    ///
    /// When all slots are taken, of as many whole segments as fit below 2^32. Nothing has changed then.
    #[inline(always)]
    pub(super) fn vacancy(&mut self) -> u32 {
        match self.segments.get(self.roomy as usize) {
            Some(segment) if segment.vacant != NIL => self.roomy << Self::BITS | segment.vacant,
            _ => self.grow(),
        }
    }

    /// Adds a vacant slot to the first segment with room, or to a new one.
    #[inline(never)]
    fn grow(&mut self) -> u32 {
        if self.roomy == NIL {
            let count = self.segments.len() as u32;
            assert!(count < LIMIT >> Self::BITS, "a queue holds at most about 2^32 items");
            self.segments.push(Segment { slots: Vec::new(), vacant: NIL, len: 0, next: NIL });
            self.roomy = count;
        }
        let segment = &mut self.segments[self.roomy as usize];
        if self.busy > 0 && segment.slots.capacity() == 0 {
            // Others are full, so this one is likely to be filled, too.
            segment.slots.reserve_exact(Self::SLOTS as usize);
        }
        segment.vacant = segment.slots.len() as u32;
        let vacant = Slot { id: 0, arrival: 0, prev: NIL, next: NIL, place: Place::Loose, push: None, value: None };
        segment.slots.push(vacant);
        self.roomy << Self::BITS | segment.vacant
    }

    /// Fills the slot that [`vacancy`](Self::vacancy) named.
    #[inline(always)]
    pub(super) fn fill(&mut self, index: u32, filled: Slot<P, T>) {
        let (at, slot) = Self::split(index);
        let segment = &mut self.segments[at];
        let slot = &mut segment.slots[slot];
        segment.vacant = slot.next;
        *slot = filled;
        segment.len += 1;
        if segment.len == 1 {
            self.busy += 1;
            if self.spare == at as u32 {
                self.spare = NIL;
            }
        }
        if segment.len == Self::SLOTS {
            self.roomy = segment.next;
        }
    }

    /// Vacates the slot of an item. Returns its place, its links and its value.
    #[inline(always)]
    pub(super) fn vacate(&mut self, index: u32) -> (Place<P>, u32, u32, T) {
        let (at, within) = Self::split(index);
        let segment = &mut self.segments[at];
        let slot = &mut segment.slots[within];
        let value = slot.value.take().expect("the slot of an item is not vacant");
        let place = replace(&mut slot.place, Place::Loose);
        let (prev, next) = (slot.prev, slot.next);
        slot.next = replace(&mut segment.vacant, within as u32);
        segment.len -= 1;
        if segment.len == Self::SLOTS - 1 {
            segment.next = replace(&mut self.roomy, at as u32);
        }
        if segment.len == 0 {
            self.busy -= 1;
            if self.segments.len() > 1 || size_of::<Slot<P, T>>() > SEGMENT_BYTES {
                self.release(at as u32);
            }
        }
        (place, prev, next, value)
    }

    /// A segment was emptied: gives the memory of the one back that was emptied before it, and all but one if there are
    /// no items any more.
    #[inline(never)]
    fn release(&mut self, at: u32) {
        if let Some(former) = self.segments.get_mut(replace(&mut self.spare, at) as usize) {
            (self.surplus, former.vacant) = (take(&mut former.slots), NIL);
        }
        if self.busy == 0 {
            // No index is in use, so the segments may be numbered afresh.
            let mut last = self.segments.swap_remove(at as usize);
            if size_of::<Slot<P, T>>() > SEGMENT_BYTES {
                (self.surplus, last.vacant) = (take(&mut last.slots), NIL);
            }
            last.next = NIL;
            self.segments = vec![last];
            (self.roomy, self.spare) = (0, 0);
        }
    }

    /// Returns memory to be dropped after unlocking, if there is some.
    #[inline(always)]
    pub(super) fn take_surplus(&mut self) -> Option<Vec<Slot<P, T>>> {
        if self.surplus.capacity() == 0 { None } else { Some(take(&mut self.surplus)) }
    }
}

impl<P, T> Items<P, T> {
    /// Checks every invariant of the slots, and returns the number of items.
    pub(super) fn validate(&self) -> usize {
        let mut roomy = vec![false; self.segments.len()];
        let mut at = self.roomy;
        while let Some(segment) = self.segments.get(at as usize) {
            assert!(!replace(&mut roomy[at as usize], true), "a segment is twice among those with room");
            at = segment.next;
        }
        for (at, segment) in self.segments.iter().enumerate() {
            let items = segment.slots.iter().filter(|slot| slot.value.is_some()).count();
            assert_eq!(items, segment.len as usize, "a segment counts its items");
            assert_eq!(roomy[at], segment.len < Self::SLOTS, "the segments with room are linked");
            assert!(items > 0 || segment.slots.capacity() == 0 || self.spare == at as u32 || self.segments.len() == 1);
            let (mut vacant, mut next) = (0, segment.vacant);
            while let Some(slot) = segment.slots.get(next as usize) {
                assert!(slot.value.is_none(), "a vacant slot is not taken");
                (vacant, next) = (vacant + 1, slot.next);
            }
            assert_eq!(vacant + items, segment.slots.len(), "a slot is vacant or taken");
        }
        assert_eq!(self.segments.iter().filter(|segment| segment.len > 0).count(), self.busy as usize);
        self.segments.iter().map(|segment| segment.len as usize).sum()
    }
}
