//! Items in the order of service: by priority, then by arrival.
//!
//! Items of equal priority form a *run*: a ring through the arena, from its tail round to its head, the oldest. An index of
//! the runs, sorted by priority, has the tail of each, behind which the next of its priority goes. So an item that is
//! not a tail can be taken out, wherever it stands, by those beside it alone.
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
use std::mem::replace;

use crate::arena::{Arena, Key};

/// Runs per chunk; few under loom and fuzzing, so that they reach the second chunk.
const CHUNK: usize = if cfg!(any(loom, fuzzing)) { 4 } else { 128 };

/// Room for so many runs is kept, so that a fixed set of priorities never meets the allocator.
const KEEP: usize = CHUNK;

pub(super) struct Item<P, T> {
    pub(super) value: T,
    /// When it came, or was given its priority: the order within a run.
    pub(super) arrival: u64,
    /// What its public key names it by.
    pub(super) id: u64,
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
    len: usize,
    chunks: Arena<Vec<Run<P>>>,
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
    pub(super) fn new(value: T, arrival: u64, id: u64) -> Self {
        Self { value, arrival, id, push: None, standing: Standing::Loose }
    }
}

impl<P> Line<P> {
    pub(super) const fn new() -> Self {
        Self { len: 0, chunks: Arena::new(), order: VecDeque::new() }
    }

    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The most urgent item, and the oldest of those, with its priority.
    pub(super) fn first<'a, T>(&'a self, items: &'a Arena<Item<P, T>>) -> Option<(&'a P, Key)> {
        let run = self.chunks.get(*self.order.back()?)?.last()?;
        let head = items.after(run.tail);
        match &items.get(head)?.standing {
            Standing::Follows(priority) => Some((priority, head)),
            _ => Some((&run.priority, head)),
        }
    }

    /// The least urgent item, and the newest of those, with its priority.
    pub(super) fn last(&self) -> Option<(&P, Key)> {
        let run = self.chunks.get(*self.order.front()?)?.first()?;
        Some((&run.priority, run.tail))
    }

    /// The priority of an item of this line.
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
            if self.runs(middle)[0].priority.cmp(priority).is_le() { chunk = middle } else { end = middle }
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
    pub(super) fn end(equal: bool) -> Place {
        Place { chunk: 0, index: 0, exists: equal }
    }

    /// Puts a loose item into the line.
    #[inline(always)]
    pub(super) fn put<T>(&mut self, items: &mut Arena<Item<P, T>>, key: Key, arrival: u64, place: Place, priority: P) {
        self.len += 1;
        if !place.exists {
            return self.begin(items, key, place, priority);
        }
        let chunk = self.order[place.chunk];
        let run = &mut self.chunks.get_mut(chunk).expect("chunks in order exist")[place.index];
        let tail = items.get_mut(run.tail).expect("tails exist");
        if tail.arrival < arrival {
            tail.standing = Standing::Follows(replace(&mut run.priority, priority));
            items.join(Some(run.tail), key);
            run.tail = key;
            items.get_mut(key).expect("it is loose").standing = Standing::Tail { chunk };
        } else {
            // It was parked while others were given its priority, or forced in with it: they stand behind it. Looked for
            // from both ends at once, since either side may be long.
            let newer = |key| items.get(key).is_some_and(|item| item.arrival > arrival);
            let (mut from_head, mut from_tail) = (items.after(run.tail), run.tail);
            let before = loop {
                if newer(from_head) {
                    break items.before(from_head);
                }
                from_tail = items.before(from_tail);
                if !newer(from_tail) {
                    break from_tail;
                }
                from_head = items.after(from_head);
            };
            items.join(Some(before), key);
            items.get_mut(key).expect("it is loose").standing = Standing::Follows(priority);
        }
    }

    /// Begins a run with a loose item.
    fn begin<T>(&mut self, items: &mut Arena<Item<P, T>>, key: Key, place: Place, priority: P) {
        let Place { chunk: mut at, mut index, .. } = place;
        if self.order.is_empty() {
            self.order.push_back(self.chunks.insert(Vec::new()));
        }
        if self.runs(at).len() == CHUNK {
            self.split(items, at);
            if index > CHUNK / 2 {
                (at, index) = (at + 1, index - CHUNK / 2);
            }
        }
        let chunk = self.order[at];
        self.chunks.get_mut(chunk).expect("chunks in order exist").insert(index, Run { priority, tail: key });
        items.join(None, key);
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

    /// Takes the first item out of the line; it is loose then.
    #[inline(always)]
    pub(super) fn take_first<T>(&mut self, items: &mut Arena<Item<P, T>>) -> Option<(P, Key)> {
        let tail = self.chunks.get(*self.order.back()?)?.last()?.tail;
        let head = items.after(tail);
        Some((self.take(items, head), head))
    }

    /// Takes an item out of the line, and gives its priority. It is loose then.
    #[inline(always)]
    pub(super) fn take<T>(&mut self, items: &mut Arena<Item<P, T>>, key: Key) -> P {
        self.len -= 1;
        let item = items.get_mut(key).expect("an item stays until it is taken out");
        let priority = match replace(&mut item.standing, Standing::Loose) {
            Standing::Follows(priority) => priority,
            Standing::Tail { chunk } => self.succeed(items, key, chunk),
            Standing::Loose => unreachable!("it is in this line"),
        };
        items.part(key);
        priority
    }

    /// The tail of a run leaves. The one before it becomes the tail, or the run is over.
    #[inline(always)]
    fn succeed<T>(&mut self, items: &mut Arena<Item<P, T>>, key: Key, chunk: Key) -> P {
        let runs = self.chunks.get_mut(chunk).expect("the chunks of tails exist");
        let index = position(runs, key);
        let before = items.before(key);
        let heir = &mut items.get_mut(before).expect("it was just found").standing;
        match replace(heir, Standing::Tail { chunk }) {
            Standing::Follows(priority) => {
                runs[index].tail = before;
                replace(&mut runs[index].priority, priority)
            }
            // It was alone.
            _ => {
                *heir = Standing::Loose;
                let run = runs.remove(index);
                let keep = if self.order.len() == 1 { KEEP } else { 0 };
                if runs.capacity() > keep && runs.len() <= runs.capacity() / 4 {
                    runs.shrink_to(keep.max(2 * runs.len()));
                }
                if runs.is_empty() && self.order.len() > 1 {
                    self.close(chunk);
                }
                run.priority
            }
        }
    }

    /// Removes an empty chunk.
    #[inline(never)]
    fn close(&mut self, chunk: Key) {
        self.chunks.remove(chunk, |_| None);
        let at = self.order.iter().rposition(|&other| other == chunk).expect("chunks that exist are in order");
        self.order.remove(at);
        if self.order.capacity() > KEEP && self.order.len() <= self.order.capacity() / 4 {
            self.order.shrink_to(KEEP.max(2 * self.order.len()));
        }
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
        let Place { chunk, index, exists } = place;
        // The run that was found, or the next more urgent one: that outlasts the removal, where the place does not.
        let (chunk, index) = if index < self.runs(chunk).len() { (chunk, index) } else { (chunk + 1, 0) };
        let above = match self.order.get(chunk) {
            Some(&chunk) => self.chunks.get_mut(chunk).and_then(|runs| runs.get_mut(index)),
            None => None,
        };
        items.get_mut(key).expect("an item stays until it is taken out").arrival = arrival;
        let tail = match above {
            Some(run) if run.tail != key => Some(run.tail),
            // Unless the item is alone in it: then nobody is between its former place and its new one.
            Some(run) if items.before(key) == key => return replace(&mut run.priority, priority),
            Some(_) => Some(items.before(key)),
            None => None,
        };
        let former = self.take(items, key);
        let place = match tail {
            Some(tail) => self.place_of(items, tail, chunk, exists),
            None => Place { chunk: self.order.len() - 1, index: self.runs(self.order.len() - 1).len(), exists },
        };
        self.put(items, key, arrival, place, priority);
        former
    }

    /// The place of the run that ends with `tail`, or of a new one just less urgent. Its chunk was at `at` before another
    /// item was taken out.
    fn place_of<T>(&self, items: &Arena<Item<P, T>>, tail: Key, at: usize, exists: bool) -> Place {
        let Some(Item { standing: Standing::Tail { chunk }, .. }) = items.get(tail) else {
            unreachable!("it is a tail")
        };
        let at = if self.order.get(at) == Some(chunk) { at } else { at - 1 };
        Place { chunk: at, index: position(self.runs(at), tail), exists }
    }

    #[inline(always)]
    fn runs(&self, at: usize) -> &[Run<P>] {
        self.chunks.get(self.order[at]).expect("chunks in order exist")
    }
}

/// Where the run is that ends with `tail`. Most leave at the urgent end, so that is searched first.
#[inline(always)]
fn position<P>(runs: &[Run<P>], tail: Key) -> usize {
    runs.iter().rposition(|run| run.tail == tail).expect("a tail's chunk has its run")
}

#[cfg(any(test, fuzzing, loom, debug_assertions))]
impl<P: Ord> Line<P> {
    /// Checks every invariant, and returns the tails of the runs.
    pub(super) fn validate<T>(&self, items: &Arena<Item<P, T>>) -> Vec<Key> {
        self.chunks.validate(&[]);
        assert_eq!(self.order.len(), self.chunks.len(), "a chunk is not in order");
        let (mut tails, mut len) = (Vec::new(), 0);
        for &chunk in &self.order {
            let runs = self.chunks.get(chunk).expect("chunks in order exist");
            assert!(runs.len() <= CHUNK, "a chunk is too large");
            assert!(!runs.is_empty() || self.order.len() == 1, "an empty chunk is kept");
            for &Run { tail, .. } in runs {
                let (mut at, mut arrival) = (tail, 0);
                loop {
                    at = items.after(at);
                    let item = items.get(at).expect("items in rings exist");
                    assert!(item.arrival > arrival, "an item has overtaken one of its equals");
                    (arrival, len) = (item.arrival, len + 1);
                    match item.standing {
                        Standing::Follows(_) => assert!(at != tail, "a tail does not know that it is one"),
                        Standing::Tail { chunk: its } => assert!(at == tail && its == chunk, "a tail is elsewhere"),
                        Standing::Loose => panic!("an item in a line thinks it is loose"),
                    }
                    if at == tail {
                        break;
                    }
                }
                tails.push(tail);
            }
        }
        assert_eq!(len, self.len, "the count of the items is wrong");
        let runs = self.order.iter().flat_map(|&chunk| self.chunks.get(chunk).expect("it was just found"));
        assert!(runs.map(|run| &run.priority).is_sorted_by(|a, b| a.cmp(b).is_lt()), "runs are out of order");
        tails
    }
}
