//! Priorities that can be told apart when they are equal, and counted, and that panic when a test wants it.

use std::cell::Cell;
use std::cmp::Ordering as Order;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use stanchion::PriorityQueue;

thread_local! {
    /// How many comparisons there were.
    pub(crate) static COMPARISONS: Cell<usize> = const { Cell::new(0) };
    /// How many there may still be before one panics.
    pub(crate) static FUSE: Cell<Option<usize>> = const { Cell::new(None) };
}

/// What a comparison panics with.
pub(crate) struct Blown;

pub(crate) fn compared() {
    COMPARISONS.set(COMPARISONS.get() + 1);
    match FUSE.get() {
        // Not `panic!`: this is no accident, and needs no report.
        Some(0) => {
            FUSE.set(None);
            resume_unwind(Box::new(Blown));
        }
        fuse => FUSE.set(fuse.map(|left| left - 1)),
    }
}

/// Runs `action`, whose `k`-th comparison panics, counted from 0; `None` if that one did.
pub(crate) fn with_fuse<R>(k: usize, action: impl FnOnce() -> R) -> Option<R> {
    FUSE.set(Some(k));
    let outcome = catch_unwind(AssertUnwindSafe(action));
    FUSE.set(None);
    match outcome {
        Ok(outcome) => Some(outcome),
        Err(payload) if payload.is::<Blown>() => None,
        Err(payload) => resume_unwind(payload),
    }
}

/// How many comparisons `action` makes.
pub(crate) fn comparisons<R>(action: impl FnOnce() -> R) -> usize {
    let before = COMPARISONS.get();
    drop(action());
    COMPARISONS.get() - before
}

/// A priority of which many are equal and no two the same.
#[derive(Debug)]
pub(crate) struct Rank {
    pub(crate) level: u32,
    pub(crate) id: u32,
    _alive: Arc<()>,
}

impl PartialEq for Rank {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Rank {}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<Order> {
        Some(self.cmp(other))
    }
}

impl Ord for Rank {
    fn cmp(&self, other: &Self) -> Order {
        compared();
        self.level.cmp(&other.level)
    }
}

#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) id: u32,
    _alive: Arc<()>,
}

pub(crate) type Ranked = PriorityQueue<Rank, Item>;

/// The number of a pair, both halves of which must have it.
#[track_caller]
pub(crate) fn id_of((rank, item): (Rank, Item)) -> u32 {
    assert_eq!(rank.id, item.id, "the item of another priority");
    item.id
}

/// Knows how many of its ranks and items there are.
#[derive(Default)]
pub(crate) struct Ledger(Arc<()>);

impl Ledger {
    pub(crate) fn rank(&self, level: u32, id: u32) -> Rank {
        Rank { level, id, _alive: self.0.clone() }
    }

    pub(crate) fn item(&self, id: u32) -> Item {
        Item { id, _alive: self.0.clone() }
    }

    pub(crate) fn alive(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }
}
