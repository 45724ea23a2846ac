//! What entries have beside key and value, if it was asked for: a column for each property, by the index of the slot.
//!
//! To add a column: a field of [`Asked`], of [`Terms`] and of [`Columns`], each with its place in an array.

use std::mem;

/// A point in time, in nanoseconds.
pub(super) type Tick = u64;

/// The expiry of an entry that never expires.
pub(super) const NEVER: Tick = Tick::MAX;

const COLUMNS: usize = 3;

type Column = Option<Vec<u64>>;

/// The columns that a cache has.
#[derive(Clone, Copy, Default)]
pub(super) struct Asked {
    pub(super) weight: bool,
    pub(super) expires_at: bool,
    pub(super) idle_expires_at: bool,
}

/// The terms on which an entry is stored.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    pub(super) weight: u64,
    /// [`NEVER`] if there is no such limit.
    pub(super) expires_at: Tick,
    /// The same, if the entry is not used again.
    pub(super) idle_expires_at: Tick,
    /// `None` if nothing expires.
    pub(super) now: Option<Tick>,
}

/// The columns, each as long as there are slots, or `None` if it was not asked for. Fields and not an array, which
/// would cost an insertion without columns 23 of 270 instructions.
pub(super) struct Columns {
    weights: Column,
    expires_at: Column,
    idle_expires_at: Column,
    /// The sum of the weights: never above the capacity.
    weight: u64,
}

impl Asked {
    fn columns(self) -> [bool; COLUMNS] {
        [self.weight, self.expires_at, self.idle_expires_at]
    }
}

impl Terms {
    /// Those of an entry in a cache that neither weighs entries nor lets them expire.
    pub(super) const PLAIN: Self = Self { weight: 1, expires_at: NEVER, idle_expires_at: NEVER, now: None };

    fn columns(&self) -> [u64; COLUMNS] {
        [self.weight, self.expires_at, self.idle_expires_at]
    }
}

impl Columns {
    /// `None` if no column is asked for.
    pub(super) fn new(asked: Asked) -> Option<Self> {
        let [weights, expires_at, idle_expires_at] = asked.columns().map(|is_asked| is_asked.then(Vec::new));
        asked.columns().contains(&true).then_some(Self { weights, expires_at, idle_expires_at, weight: 0 })
    }

    #[inline(always)]
    pub(super) fn has_weights(&self) -> bool {
        self.weights.is_some()
    }

    /// The sum of the weights, if there are any.
    #[inline(always)]
    pub(super) fn weight(&self) -> Option<u64> {
        self.has_weights().then_some(self.weight)
    }

    pub(super) fn is_expired(&self, at: usize, now: Tick) -> bool {
        [&self.expires_at, &self.idle_expires_at].into_iter().flatten().any(|column| column[at] <= now)
    }

    pub(super) fn weight_of(&self, at: usize) -> u64 {
        self.weights.as_ref().map_or(1, |weights| weights[at])
    }

    pub(super) fn push(&mut self, terms: &Terms) {
        self.weight += terms.weight;
        self.each(terms).for_each(|(column, term)| column.push(term));
    }

    pub(super) fn set(&mut self, at: usize, terms: &Terms) {
        self.weight = self.weight - self.weight_of(at) + terms.weight;
        self.each(terms).for_each(|(column, term)| column[at] = term);
    }

    pub(super) fn set_weight(&mut self, at: usize, weight: u64) {
        self.weight = self.weight - self.weight_of(at) + weight;
        self.weights.iter_mut().for_each(|weights| weights[at] = weight);
    }

    pub(super) fn set_idle_expires_at(&mut self, at: usize, tick: Tick) {
        self.idle_expires_at.iter_mut().for_each(|column| column[at] = tick);
    }

    pub(super) fn swap_remove(&mut self, at: usize) {
        self.weight -= self.weight_of(at);
        self.all().for_each(|column| _ = column.swap_remove(at));
    }

    pub(super) fn reserve_exact(&mut self, more: usize) {
        self.all().for_each(|column| column.reserve_exact(more));
    }

    pub(super) fn shrink_to(&mut self, len: usize) {
        self.all().for_each(|column| column.shrink_to(len));
    }

    /// Takes all elements out.
    pub(super) fn take(&mut self) -> Self {
        let [weights, expires_at, idle_expires_at] = self.columns().map(|column| column.as_ref().map(|_| Vec::new()));
        mem::replace(self, Self { weights, expires_at, idle_expires_at, weight: 0 })
    }

    fn columns(&self) -> [&Column; COLUMNS] {
        [&self.weights, &self.expires_at, &self.idle_expires_at]
    }

    fn columns_mut(&mut self) -> [&mut Column; COLUMNS] {
        [&mut self.weights, &mut self.expires_at, &mut self.idle_expires_at]
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Vec<u64>> {
        self.columns_mut().into_iter().flatten()
    }

    fn each(&mut self, terms: &Terms) -> impl Iterator<Item = (&mut Vec<u64>, u64)> {
        self.columns_mut().into_iter().zip(terms.columns()).filter_map(|(column, term)| Some((column.as_mut()?, term)))
    }

    /// Checks every invariant, for so many entries.
    pub(super) fn validate(&self, len: usize) {
        let mut columns = self.columns().into_iter().flatten();
        assert!(columns.all(|column| column.len() == len), "columns are as long as there are slots");
        let weights = (0..len).map(|at| self.weight_of(at));
        let sum = weights.fold(0_u64, |sum, weight| sum.checked_add(weight).expect("weights add up"));
        assert_eq!(sum, self.weight, "the weight is that of the entries");
    }

    /// The bytes that the columns take.
    #[cfg(any(test, fuzzing))]
    #[allow(dead_code)] // Used where this file is compiled into a model test.
    pub(super) fn bytes(&self) -> usize {
        self.columns().into_iter().flatten().map(|column| column.capacity() * size_of::<u64>()).sum()
    }
}
