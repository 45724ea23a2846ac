//! Levels in order of priority: a sorted sequence, searched by priority, changed anywhere.
//!
//! A level is a FIFO of items that have the same priority. The priorities stand side by side in *chunks* of bounded
//! size, and the chunks in their order in `order`: a B+ tree of height two whose root may grow. Finding a place is one
//! binary search over the chunks and one within a chunk; the most and the least urgent level are at the ends.
//!
//! **Identity.** A level has a [`Key`] that lasts as long as it does, and knows its chunk. So whoever holds the key
//! reaches the level and its priority without a comparison, whatever has been inserted before it since.
//!
//! **One priority per level is enough.** It need not be cloned: the level *borrows* it from one of its items, and gives
//! it back, or another in exchange, when that item leaves.
//!
//! **Comparisons are foreign code** and happen in [`find`](Levels::find) alone, which changes nothing. The place that it
//! finds is good until the next change.

use std::collections::VecDeque;

use crate::arena::{Arena, Key, List};

/// Priorities per chunk; few under loom and fuzzing, so that they reach the second chunk.
const CHUNK: usize = if cfg!(any(loom, fuzzing)) { 4 } else { 256 };

/// Room for so many priorities is kept, so that a fixed set of them never meets the allocator.
const KEEP: usize = CHUNK / 4;

/// The levels of one queue, least urgent first.
#[derive(Debug)]
pub(super) struct Levels<P> {
    levels: Arena<Level>,
    chunks: Arena<VecDeque<Rank<P>>>,
    /// None is empty, unless it is the only one.
    order: VecDeque<Key>,
}

#[derive(Debug)]
struct Level {
    items: List,
    chunk: Key,
}

#[derive(Debug)]
struct Rank<P> {
    priority: P,
    level: Key,
}

/// Where a priority stands, or would stand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Its chunk's place in `order`.
    chunk: usize,
    /// Its place in the chunk.
    index: usize,
    /// The level, if it exists.
    level: Option<Key>,
}

impl Place {
    /// Below all levels, or in `level` if there is one.
    pub(super) fn bottom(level: Option<Key>) -> Self {
        Self { chunk: 0, index: 0, level }
    }
}

impl<P> Levels<P> {
    pub(super) const fn new() -> Self {
        Self { levels: Arena::new(), chunks: Arena::new(), order: VecDeque::new() }
    }

    /// The most urgent level.
    #[inline(always)]
    pub(super) fn top(&self) -> Option<(&P, Key)> {
        let rank = self.chunks.get(*self.order.back()?)?.back()?;
        Some((&rank.priority, rank.level))
    }

    /// The least urgent level.
    pub(super) fn bottom(&self) -> Option<(&P, Key)> {
        let rank = self.chunks.get(*self.order.front()?)?.front()?;
        Some((&rank.priority, rank.level))
    }

    /// The items of `level`.
    #[inline(always)]
    pub(super) fn items(&self, level: Key) -> &List {
        &self.levels.get(level).expect("a level stays while it has items").items
    }

    #[inline(always)]
    pub(super) fn items_mut(&mut self, level: Key) -> &mut List {
        &mut self.levels.get_mut(level).expect("a level stays while it has items").items
    }

    /// Finds the place of `priority`, by comparing it with others: the only thing here that may panic.
    #[inline(always)]
    pub(super) fn find(&self, priority: &P) -> Place
    where
        P: Ord,
    {
        // The first chunk takes whatever is less urgent than everything else.
        let (mut chunk, mut end) = (0, self.order.len());
        while end > chunk + 1 {
            let middle = chunk + (end - chunk) / 2;
            if self.chunk(middle)[0].priority <= *priority { chunk = middle } else { end = middle }
        }
        if self.order.is_empty() {
            return Place { chunk: 0, index: 0, level: None };
        }
        let ranks = self.chunk(chunk);
        match ranks.binary_search_by(|rank| rank.priority.cmp(priority)) {
            Ok(index) => Place { chunk, index, level: Some(ranks[index].level) },
            Err(index) => Place { chunk, index, level: None },
        }
    }

    #[inline(always)]
    fn chunk(&self, at: usize) -> &VecDeque<Rank<P>> {
        self.chunks.get(self.order[at]).expect("chunks in order exist")
    }

    /// The level at `place`, which is made from `priority` if it does not exist; if it does, `priority` stays.
    #[inline(always)]
    pub(super) fn open(&mut self, place: Place, priority: &mut Option<P>) -> Key {
        match place.level {
            Some(level) => level,
            None => self.make(place, priority.take().expect("the first item of a level brings its priority")),
        }
    }

    fn make(&mut self, Place { chunk: mut at, mut index, .. }: Place, priority: P) -> Key {
        if self.order.is_empty() {
            self.order.push_back(self.chunks.insert(VecDeque::new()));
        }
        if self.chunk(at).len() == CHUNK {
            let upper = self.chunks.get_mut(self.order[at]).expect("chunks in order exist").split_off(CHUNK / 2);
            let moved = self.chunks.insert(upper);
            self.order.insert(at + 1, moved);
            for rank in self.chunks.get(moved).into_iter().flatten() {
                self.levels.get_mut(rank.level).expect("levels in chunks exist").chunk = moved;
            }
            if index > CHUNK / 2 {
                (at, index) = (at + 1, index - CHUNK / 2);
            }
        }
        let chunk = self.order[at];
        let level = self.levels.insert(Level { items: List::new(), chunk });
        self.chunks.get_mut(chunk).expect("chunks in order exist").insert(index, Rank { priority, level });
        level
    }

    /// Gives the level another priority, equal to its own, for the one that it has.
    #[inline(always)]
    pub(super) fn exchange(&mut self, level: Key, priority: P) -> P {
        let (_, ranks, index) = self.locate(level);
        std::mem::replace(&mut ranks[index].priority, priority)
    }

    /// Removes a level that has become empty, and gives its priority back.
    #[inline(always)]
    pub(super) fn close(&mut self, level: Key) -> P {
        let (chunk, ranks, index) = self.locate(level);
        let rank = ranks.remove(index).expect("it is there");
        give_back(ranks);
        if ranks.is_empty() && self.order.len() > 1 {
            self.chunks.remove(chunk, |_| None);
            let at = self.order.iter().rposition(|&other| other == chunk).expect("chunks that exist are in order");
            self.order.remove(at);
            give_back(&mut self.order);
        }
        self.levels.remove(level, |_| None);
        rank.priority
    }

    /// The chunk that holds the priority of `level`, and where. Most leave at the urgent end, so that is searched first.
    #[inline(always)]
    fn locate(&mut self, level: Key) -> (Key, &mut VecDeque<Rank<P>>, usize) {
        let chunk = self.levels.get(level).expect("a level stays while it has items").chunk;
        let ranks = self.chunks.get_mut(chunk).expect("chunks of levels exist");
        let index = ranks.iter().rposition(|rank| rank.level == level).expect("a level's chunk holds its priority");
        (chunk, ranks, index)
    }
}

/// Gives memory back once three quarters of it lie idle.
#[inline(always)]
fn give_back<T>(deque: &mut VecDeque<T>) {
    if deque.capacity() > KEEP && deque.len() <= deque.capacity() / 4 {
        deque.shrink_to(KEEP.max(2 * deque.len()));
    }
}

#[cfg(any(test, fuzzing, loom, debug_assertions))]
impl<P> Levels<P> {
    /// Checks every invariant that can be checked without comparing priorities, and returns the lists of items, least
    /// urgent first.
    pub(super) fn validate(&self) -> Vec<&List> {
        self.levels.validate(&[]);
        self.chunks.validate(&[]);
        let mut lists = Vec::new();
        for &key in &self.order {
            let ranks = self.chunks.get(key).expect("chunks in order exist");
            assert!(ranks.len() <= CHUNK, "a chunk is too large");
            assert!(!ranks.is_empty() || self.order.len() == 1, "an empty chunk is kept");
            for rank in ranks {
                let level = self.levels.get(rank.level).expect("levels in chunks exist");
                assert_eq!(level.chunk, key, "a level does not know its chunk");
                assert!(!level.items.is_empty(), "an empty level is kept");
                lists.push(&level.items);
            }
        }
        assert_eq!(lists.len(), self.levels.len(), "a level is in no chunk");
        assert_eq!(self.order.len(), self.chunks.len(), "a chunk is not in order");
        lists
    }
}
