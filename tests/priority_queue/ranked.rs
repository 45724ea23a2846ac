//! Priorities that are counted, differ even if they are equal, and panic in a chosen comparison.

use std::cell::Cell;
use std::cmp::Ordering as Order;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use stanchion::PriorityQueue;

thread_local! {
    /// The number of comparisons.
    pub(crate) static COMPARISONS: Cell<usize> = const { Cell::new(0) };
    /// The number of comparisons before the one that panics.
    pub(crate) static PANICS_AT: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The payload of a comparison that panics.
pub(crate) struct ComparisonPanic;

pub(crate) fn compared() {
    COMPARISONS.set(COMPARISONS.get() + 1);
    match PANICS_AT.get() {
        // Not `panic!`: this is no accident, and needs no report.
        Some(0) => {
            PANICS_AT.set(None);
            resume_unwind(Box::new(ComparisonPanic));
        }
        panics_at => PANICS_AT.set(panics_at.map(|left| left - 1)),
    }
}

/// Runs `action` so that comparison `k` of it panics, counted from 0. Returns `None` if there was such a comparison.
pub(crate) fn with_panic_at<R>(k: usize, action: impl FnOnce() -> R) -> Option<R> {
    PANICS_AT.set(Some(k));
    let outcome = catch_unwind(AssertUnwindSafe(action));
    PANICS_AT.set(None);
    match outcome {
        Ok(outcome) => Some(outcome),
        Err(payload) if payload.is::<ComparisonPanic>() => None,
        Err(payload) => resume_unwind(payload),
    }
}

/// Counts the comparisons of `action`.
pub(crate) fn comparisons<R>(action: impl FnOnce() -> R) -> usize {
    let before = COMPARISONS.get();
    drop(action());
    COMPARISONS.get() - before
}

/// A priority with an identity, which its order ignores.
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

/// Counts the ranks and items that it made and that are not dropped.
#[derive(Default)]
pub(crate) struct Alive(Arc<()>);

impl Alive {
    pub(crate) fn rank(&self, level: u32, id: u32) -> Rank {
        Rank { level, id, _alive: self.0.clone() }
    }

    pub(crate) fn item(&self, id: u32) -> Item {
        Item { id, _alive: self.0.clone() }
    }

    pub(crate) fn count(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }
}
