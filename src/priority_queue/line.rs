//! Items in the order of service: by priority, then by arrival.
//!
//! A line is one list through all its items, the most urgent first. Items of equal priority form a *run*; an index of the
//! runs, sorted by priority, says where each ends, which is where the next of its priority goes. So taking an item out,
//! wherever it stands, is unlinking it; only the tail of a run has an entry in the index to be looked after.
//!
//! | an item is | its `standing` is | its priority is |
//! |---|---|---|
//! | in a run, not its tail | `Follows` | its own |
//! | the tail of a run | `Tail`, with the chunk of the run's entry | in the entry, for the whole run |
//! | in no line | `Loose` | with whoever holds it |
//!
//! So priorities need not be cloned, and each item leaves with its own.
//!
//! **The index** is a B+ tree of height two whose root may grow: entries stand in *chunks* of bounded size, and the chunks
//! in `order`. Finding a place is one binary search over the chunks and one within a chunk. A tail knows its chunk, so it
//! reaches its entry without a comparison.
//!
//! **Comparisons are foreign code** and happen in [`find`](Line::find) alone, which changes nothing. The place that it finds
//! is good until the line changes.

use std::collections::VecDeque;

use crate::arena::{Arena, Key, List};

/// Runs per chunk; few under loom and fuzzing, so that they reach the second chunk.
const CHUNK: usize = if cfg!(any(loom, fuzzing)) { 4 } else { 256 };

/// Room for so many runs is kept, so that a fixed set of priorities never meets the allocator.
const KEEP: usize = CHUNK / 4;

pub(super) struct Item<P, T> {
    pub(super) value: T,
    /// When it came, or was given its priority: the order within a run.
    pub(super) arrival: u64,
    /// The waiter of its push, while it is parked.
    pub(super) push: Option<Key>,
    standing: Standing<P>,
}

enum Standing<P> {
    Follows(P),
    Tail { chunk: Key },
    Loose,
}

pub(super) struct Line<P> {
    list: List,
    chunks: Arena<VecDeque<Run<P>>>,
    /// The least urgent first. No chunk is empty, unless it is the only one.
    order: VecDeque<Key>,
}

struct Run<P> {
    priority: P,
    tail: Key,
}

/// Where a run is, or would be.
pub(super) struct Place {
    /// Its chunk's place in `order`.
    chunk: usize,
    /// Its place in the chunk.
    index: usize,
    exists: bool,
}

impl<P, T> Item<P, T> {
    /// An item that is in no line yet.
    #[inline(always)]
    pub(super) fn new(value: T, arrival: u64) -> Self {
        Self { value, arrival, push: None, standing: Standing::Loose }
    }
}

impl<P> Line<P> {
    pub(super) const fn new() -> Self {
        Self { list: List::new(), chunks: Arena::new(), order: VecDeque::new() }
    }

    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The most urgent item, and the oldest of those.
    #[inline(always)]
    pub(super) fn first<T>(&self, items: &Arena<Item<P, T>>) -> Option<Key> {
        items.front(&self.list)
    }

    /// The least urgent item, and the newest of those.
    pub(super) fn last<T>(&self, items: &Arena<Item<P, T>>) -> Option<Key> {
        items.back(&self.list)
    }

    /// The priority of `key`, which is in this line.
    pub(super) fn priority<'a, T>(&'a self, items: &'a Arena<Item<P, T>>, key: Key) -> &'a P {
        match &items.get(key).expect("an item stays until it is taken out").standing {
            Standing::Follows(priority) => priority,
            Standing::Tail { chunk } => {
                let runs = self.chunks.get(*chunk).expect("the chunks of tails exist");
                &runs[position(runs, key)].priority
            }
            Standing::Loose => unreachable!("it is in this line"),
        }
    }

    /// Whether `key` is the last one of its priority.
    pub(super) fn is_tail<T>(&self, items: &Arena<Item<P, T>>, key: Key) -> bool {
        items.get(key).is_some_and(|item| matches!(item.standing, Standing::Tail { .. }))
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
            if self.runs(middle)[0].priority <= *priority { chunk = middle } else { end = middle }
        }
        if end == 0 {
            return Place { chunk, index: 0, exists: false };
        }
        match self.runs(chunk).binary_search_by(|run| run.priority.cmp(priority)) {
            Ok(index) => Place { chunk, index, exists: true },
            Err(index) => Place { chunk, index, exists: false },
        }
    }

    /// The place of what is less urgent than everything in this line; or equal to the least urgent, if `equal`.
    pub(super) fn end(&self, equal: bool) -> Place {
        Place { chunk: 0, index: 0, exists: equal }
    }

    /// Puts a loose item into the line.
    #[inline(always)]
    pub(super) fn put<T>(&mut self, items: &mut Arena<Item<P, T>>, key: Key, place: Place, priority: P) {
        if !place.exists {
            return self.begin(items, key, place, priority);
        }
        let chunk = self.order[place.chunk];
        let run = &mut self.chunks.get_mut(chunk).expect("chunks in order exist")[place.index];
        let arrival = items.get(key).expect("it is loose").arrival;
        let tail = items.get_mut(run.tail).expect("tails exist");
        if tail.arrival < arrival {
            tail.standing = Standing::Follows(std::mem::replace(&mut run.priority, priority));
            items.link_after(&mut self.list, Some(run.tail), key);
            run.tail = key;
            items.get_mut(key).expect("it is loose").standing = Standing::Tail { chunk };
        } else {
            // It was parked while others were given its priority. They stand behind it.
            items.get_mut(key).expect("it is loose").standing = Standing::Follows(priority);
            let follows = |item: &Item<P, T>| matches!(item.standing, Standing::Follows(_));
            let mut next = run.tail;
            while let Some(before) = items.before(next) {
                let item = items.get(before).expect("it was just found");
                if !follows(item) || item.arrival < arrival {
                    break;
                }
                next = before;
            }
            let before = items.before(next);
            items.link_after(&mut self.list, before, key);
        }
    }

    /// Begins a run with a loose item.
    #[inline(never)]
    fn begin<T>(&mut self, items: &mut Arena<Item<P, T>>, key: Key, place: Place, priority: P) {
        let Place { chunk: mut at, mut index, .. } = place;
        if self.order.is_empty() {
            self.order.push_back(self.chunks.insert(VecDeque::new()));
        }
        if self.runs(at).len() == CHUNK {
            self.split(items, at);
            if index > CHUNK / 2 {
                (at, index) = (at + 1, index - CHUNK / 2);
            }
        }
        let chunk = self.order[at];
        let runs = self.chunks.get_mut(chunk).expect("chunks in order exist");
        runs.insert(index, Run { priority, tail: key });
        // Behind the run that is the next more urgent.
        let before = match runs.get(index + 1) {
            Some(run) => Some(run.tail),
            None if at + 1 < self.order.len() => Some(self.runs(at + 1)[0].tail),
            None => None,
        };
        items.link_after(&mut self.list, before, key);
        items.get_mut(key).expect("it is loose").standing = Standing::Tail { chunk };
    }

    /// Moves the more urgent half of a chunk into one of its own.
    fn split<T>(&mut self, items: &mut Arena<Item<P, T>>, at: usize) {
        let upper = self.chunks.get_mut(self.order[at]).expect("chunks in order exist").split_off(CHUNK / 2);
        let chunk = self.chunks.insert(upper);
        self.order.insert(at + 1, chunk);
        for run in self.runs(at + 1) {
            items.get_mut(run.tail).expect("tails exist").standing = Standing::Tail { chunk };
        }
    }

    /// Takes an item out of the line, and gives its priority. It is loose then.
    #[inline(always)]
    pub(super) fn take<T>(&mut self, items: &mut Arena<Item<P, T>>, key: Key) -> P {
        let item = items.get_mut(key).expect("an item stays until it is taken out");
        let priority = match std::mem::replace(&mut item.standing, Standing::Loose) {
            Standing::Follows(priority) => priority,
            Standing::Tail { chunk } => self.succeed(items, key, chunk),
            Standing::Loose => unreachable!("it is in this line"),
        };
        items.unlink(&mut self.list, key);
        priority
    }

    /// The tail of a run leaves. The one before it becomes the tail, or the run is over.
    #[inline(always)]
    fn succeed<T>(&mut self, items: &mut Arena<Item<P, T>>, key: Key, chunk: Key) -> P {
        let runs = self.chunks.get_mut(chunk).expect("the chunks of tails exist");
        let index = position(runs, key);
        if let Some(before) = items.before(key) {
            let heir = &mut items.get_mut(before).expect("it was just found").standing;
            if matches!(heir, Standing::Follows(_)) {
                if let Standing::Follows(priority) = std::mem::replace(heir, Standing::Tail { chunk }) {
                    runs[index].tail = before;
                    return std::mem::replace(&mut runs[index].priority, priority);
                }
            }
        }
        let run = runs.remove(index).expect("it was just found");
        give_back(runs);
        if runs.is_empty() && self.order.len() > 1 {
            self.chunks.remove(chunk, |_| None);
            let at = self.order.iter().rposition(|&other| other == chunk).expect("chunks that exist are in order");
            self.order.remove(at);
            give_back(&mut self.order);
        }
        run.priority
    }

    /// Gives an item of this line another priority, for which `place` was found; it goes behind its new equals.
    pub(super) fn reprioritise<T>(
        &mut self,
        items: &mut Arena<Item<P, T>>,
        key: Key,
        place: Place,
        priority: P,
        arrival: u64,
    ) -> P {
        // The place does not outlast the removal; the tail that it is behind does, or else the one before it.
        let mut behind = match place {
            Place { chunk, index, exists: true } => Some(self.runs(chunk)[index].tail),
            Place { chunk, index, exists: false } => {
                let above = self.runs(chunk).get(index).or_else(|| self.runs_after(chunk)?.front());
                above.map(|run| run.tail)
            }
        };
        let mut exists = place.exists;
        if behind == Some(key) {
            behind = items.before(key);
            exists &= behind.is_some_and(|before| !self.is_tail(items, before));
        }
        let former = self.take(items, key);
        items.get_mut(key).expect("it is loose").arrival = arrival;
        let place = match behind {
            Some(tail) => self.place_of(items, tail, exists),
            None => {
                let chunk = self.order.len() - 1;
                Place { chunk, index: self.runs(chunk).len(), exists: false }
            }
        };
        self.put(items, key, place, priority);
        former
    }

    /// The place of the run that ends with `tail`, or of a new one just less urgent.
    fn place_of<T>(&self, items: &Arena<Item<P, T>>, tail: Key, exists: bool) -> Place {
        let Some(Item { standing: Standing::Tail { chunk }, .. }) = items.get(tail) else {
            unreachable!("it is a tail")
        };
        let runs = self.chunks.get(*chunk).expect("the chunks of tails exist");
        let at = self.order.iter().rposition(|other| other == chunk).expect("chunks that exist are in order");
        Place { chunk: at, index: position(runs, tail), exists }
    }

    fn runs_after(&self, at: usize) -> Option<&VecDeque<Run<P>>> {
        (at + 1 < self.order.len()).then(|| self.runs(at + 1))
    }

    #[inline(always)]
    fn runs(&self, at: usize) -> &VecDeque<Run<P>> {
        self.chunks.get(self.order[at]).expect("chunks in order exist")
    }
}

/// Where the run is that ends with `tail`. Most leave at the urgent end, so that is searched first.
#[inline(always)]
fn position<P>(runs: &VecDeque<Run<P>>, tail: Key) -> usize {
    runs.iter().rposition(|run| run.tail == tail).expect("a tail's chunk has its run")
}

/// Gives memory back once three quarters of it lie idle.
#[inline(always)]
fn give_back<T>(deque: &mut VecDeque<T>) {
    if deque.capacity() > KEEP && deque.len() <= deque.capacity() / 4 {
        deque.shrink_to(KEEP.max(2 * deque.len()));
    }
}

#[cfg(any(test, fuzzing, loom, debug_assertions))]
impl<P> Line<P> {
    /// Checks every invariant that can be checked without comparing priorities, and returns the list of the items.
    pub(super) fn validate<T>(&self, items: &Arena<Item<P, T>>) -> &List {
        self.chunks.validate(&[]);
        assert_eq!(self.order.len(), self.chunks.len(), "a chunk is not in order");
        let mut runs = self.order.iter().rev().flat_map(|&chunk| {
            let runs = self.chunks.get(chunk).expect("chunks in order exist");
            assert!(runs.len() <= CHUNK, "a chunk is too large");
            assert!(!runs.is_empty() || self.order.len() == 1, "an empty chunk is kept");
            runs.iter().rev().map(move |run| (chunk, run.tail))
        });
        let (mut at, mut arrival) = (items.front(&self.list), 0);
        while let Some(key) = at {
            let item = items.get(key).expect("items in the list exist");
            assert!(item.arrival > arrival, "an item has overtaken one of its equals");
            arrival = item.arrival;
            match item.standing {
                Standing::Follows(_) => {}
                Standing::Tail { chunk } => {
                    assert_eq!(runs.next(), Some((chunk, key)), "a run is not where its tail says");
                    arrival = 0;
                }
                Standing::Loose => panic!("an item in a line thinks it is loose"),
            }
            at = items.after(key);
        }
        assert_eq!(runs.next(), None, "a run has no items");
        &self.list
    }
}
