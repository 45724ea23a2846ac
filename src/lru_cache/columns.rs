//! What entries have beside key and value, if it was asked for: a column for each property, by the index of the slot.
//!
//! To add a column: its index and [`COLUMNS`], a field of [`Asked`] and of [`Terms`] with its place in their arrays.

use std::mem;

/// A point in time, in nanoseconds.
pub(super) type Tick = u64;

/// The expiry of an entry that never expires.
pub(super) const NEVER: Tick = Tick::MAX;

const COLUMNS: usize = 3;
const WEIGHT: usize = 0;
const EXPIRES_AT: usize = 1;
const IDLE_EXPIRES_AT: usize = 2;

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

/// The columns, each as long as there are slots, or `None` if it was not asked for.
pub(super) struct Columns {
    columns: [Option<Vec<u64>>; COLUMNS],
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
        let columns = asked.columns().map(|is_asked| is_asked.then(Vec::new));
        columns.iter().any(Option::is_some).then_some(Self { columns, weight: 0 })
    }

    #[inline(always)]
    pub(super) fn has_weights(&self) -> bool {
        self.columns[WEIGHT].is_some()
    }

    /// The sum of the weights, if there are any.
    #[inline(always)]
    pub(super) fn weight(&self) -> Option<u64> {
        self.has_weights().then_some(self.weight)
    }

    pub(super) fn is_expired(&self, at: usize, now: Tick) -> bool {
        [EXPIRES_AT, IDLE_EXPIRES_AT].iter().any(|&expiry| self.get(expiry, at).is_some_and(|tick| tick <= now))
    }

    pub(super) fn weight_of(&self, at: usize) -> u64 {
        self.get(WEIGHT, at).unwrap_or(1)
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
        self.columns[WEIGHT].iter_mut().for_each(|weights| weights[at] = weight);
    }

    pub(super) fn set_idle_expires_at(&mut self, at: usize, tick: Tick) {
        self.columns[IDLE_EXPIRES_AT].iter_mut().for_each(|column| column[at] = tick);
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
        let columns = self.columns.each_ref().map(|column| column.as_ref().map(|_| Vec::new()));
        mem::replace(self, Self { columns, weight: 0 })
    }

    fn get(&self, column: usize, at: usize) -> Option<u64> {
        self.columns[column].as_ref().map(|column| column[at])
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Vec<u64>> {
        self.columns.iter_mut().flatten()
    }

    fn each(&mut self, terms: &Terms) -> impl Iterator<Item = (&mut Vec<u64>, u64)> {
        self.columns.iter_mut().zip(terms.columns()).filter_map(|(column, term)| Some((column.as_mut()?, term)))
    }

    /// Checks every invariant, for so many entries.
    pub(super) fn validate(&self, len: usize) {
        let mut columns = self.columns.iter().flatten();
        assert!(columns.all(|column| column.len() == len), "columns are as long as there are slots");
        let weights = (0..len).map(|at| self.weight_of(at));
        let sum = weights.fold(0_u64, |sum, weight| sum.checked_add(weight).expect("weights add up"));
        assert_eq!(sum, self.weight, "the weight is that of the entries");
    }

    /// The bytes that the columns take.
    #[cfg(any(test, fuzzing))]
    #[allow(dead_code)] // Used where this file is compiled into a model test.
    pub(super) fn bytes(&self) -> usize {
        self.columns.iter().flatten().map(|column| column.capacity() * size_of::<u64>()).sum()
    }
}
