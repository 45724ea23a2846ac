//! Priorities with an identity, comparisons that may panic, and items that are counted.

use std::cell::Cell;
use std::cmp::Ordering;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};
use std::rc::Rc;

use super::super::alarm::Alarmed;

/// A priority with an identity, which its order ignores.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rank {
    pub(super) level: u16,
    pub(super) id: u64,
}

/// The behaviour of comparisons.
#[derive(Clone, Copy)]
pub(super) enum Comparing {
    Allowed,
    Forbidden,
    /// Panics after so many comparisons.
    Fails(u8),
}

thread_local! {
    static COMPARING: Cell<Comparing> = const { Cell::new(Comparing::Allowed) };
}

impl Ord for Rank {
    fn cmp(&self, other: &Self) -> Ordering {
        match COMPARING.get() {
            Comparing::Allowed => {}
            Comparing::Forbidden => panic!("priorities are compared where no item is placed"),
            Comparing::Fails(0) => panic_any(Alarmed),
            Comparing::Fails(after) => COMPARING.set(Comparing::Fails(after - 1)),
        }
        self.level.cmp(&other.level)
    }
}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Eq for Rank {}

impl PartialEq for Rank {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

/// Runs `f`, in which comparisons behave like this. Returns `None` if one of them panicked.
pub(super) fn compare<R>(comparing: Comparing, f: impl FnOnce() -> R) -> Option<R> {
    COMPARING.set(comparing);
    let outcome = catch_unwind(AssertUnwindSafe(f));
    COMPARING.set(Comparing::Allowed);
    match outcome {
        Ok(result) => Some(result),
        Err(payload) if payload.is::<Alarmed>() => None,
        Err(payload) => resume_unwind(payload),
    }
}

/// An item, which is counted.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) id: u64,
    pub(super) living: Rc<Cell<usize>>,
}

impl Token {
    pub(super) fn new(id: u64, living: &Rc<Cell<usize>>) -> Self {
        living.set(living.get() + 1);
        Self { id, living: living.clone() }
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.living.set(self.living.get() - 1);
    }
}

/// The names of a pair: the level and the identity of its priority, and its item.
pub(super) type Pair = (u16, u64, u64);

pub(super) fn pair((rank, token): &(Rank, Token)) -> Pair {
    (rank.level, rank.id, token.id)
}
