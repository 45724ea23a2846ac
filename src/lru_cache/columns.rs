//! What entries have beside key and value, if it was asked for: weights, and when they expire. Columns by the index of the
//! slot.

use std::mem;

/// A point in time, in nanoseconds.
pub(super) type Tick = u64;

/// The end of what does not end.
pub(super) const NEVER: Tick = Tick::MAX;

/// What entries may have beside key and value.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    pub(super) weights: bool,
    pub(super) ends: bool,
    pub(super) idle_ends: bool,
}

/// By the index of the slot; each has as many elements as there are slots, if it was asked for.
pub(super) struct Columns {
    weights: Option<Vec<u64>>,
    ends: Option<Vec<Tick>>,
    idle_ends: Option<Vec<Tick>>,
    /// The sum of the weights: never above the capacity.
    weight: u64,
}

/// The terms on which an entry is stored.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    pub(super) weight: u64,
    /// When it expires, and when it does if it is not used: [`NEVER`] if there is no such limit.
    pub(super) end: Tick,
    pub(super) idle_end: Tick,
    /// `None` if nothing expires.
    pub(super) now: Option<Tick>,
}

impl Terms {
    /// Those of an entry in a cache that neither weighs entries nor lets them expire.
    pub(super) const PLAIN: Self = Self { weight: 1, end: NEVER, idle_end: NEVER, now: None };
}

impl Columns {
    /// `None` if none is asked for.
    pub(super) fn new(Asked { weights, ends, idle_ends }: Asked) -> Option<Self> {
        let column = |is_asked: bool| is_asked.then(Vec::new);
        let columns = Self { weights: column(weights), ends: column(ends), idle_ends: column(idle_ends), weight: 0 };
        (weights || ends || idle_ends).then_some(columns)
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
        [&self.ends, &self.idle_ends].into_iter().flatten().any(|ends| ends[at] <= now)
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

    pub(super) fn set_idle_end(&mut self, at: usize, idle_end: Tick) {
        self.idle_ends.iter_mut().for_each(|idle_ends| idle_ends[at] = idle_end);
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

    /// What is there, leaving columns without elements.
    pub(super) fn take(&mut self) -> Self {
        let empty = |column: &Option<Vec<u64>>| column.as_ref().map(|_| Vec::new());
        let (weights, ends, idle_ends) = (empty(&self.weights), empty(&self.ends), empty(&self.idle_ends));
        mem::replace(self, Self { weights, ends, idle_ends, weight: 0 })
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Vec<u64>> {
        [&mut self.weights, &mut self.ends, &mut self.idle_ends].into_iter().flatten()
    }

    fn each(&mut self, terms: &Terms) -> impl Iterator<Item = (&mut Vec<u64>, u64)> {
        let columns = [&mut self.weights, &mut self.ends, &mut self.idle_ends];
        let terms = [terms.weight, terms.end, terms.idle_end];
        columns.into_iter().zip(terms).filter_map(|(column, term)| Some((column.as_mut()?, term)))
    }

    /// Checks every invariant, for so many entries.
    pub(super) fn validate(&self, len: usize) {
        let mut columns = [&self.weights, &self.ends, &self.idle_ends].into_iter().flatten();
        assert!(columns.all(|column| column.len() == len), "columns are as long as there are slots");
        let weights = (0..len).map(|at| self.weight_of(at));
        let sum = weights.fold(0_u64, |sum, weight| sum.checked_add(weight).expect("weights add up"));
        assert_eq!(sum, self.weight, "the weight is that of the entries");
    }

    /// The bytes that the columns take.
    #[cfg(any(test, fuzzing))]
    #[allow(dead_code)] // Used where this file is compiled into a model test.
    pub(super) fn bytes(&self) -> usize {
        let columns = [&self.weights, &self.ends, &self.idle_ends].into_iter().flatten();
        columns.map(|column| column.capacity() * size_of::<u64>()).sum()
    }
}
