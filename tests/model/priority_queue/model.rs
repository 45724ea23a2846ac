//! The model of a priority queue: a list of items, beside the pops that wait and those that have a reservation.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::mem;
use std::task::Poll;

use stanchion::{Key, TryPopError, TryPushError};

use super::super::alarm::Woken;
use super::rank::Pair;

/// An item of the model.
pub(super) struct Entry {
    pub(super) pair: Pair,
    pub(super) arrival: u64,
    /// The push that waits for its admission.
    pub(super) parked: Option<usize>,
    /// Once the push has returned it.
    pub(super) key: Option<Key>,
}

impl Entry {
    /// The smallest one is popped first.
    pub(super) fn place(&self) -> (Reverse<u16>, u64) {
        (Reverse(self.pair.0), self.arrival)
    }
}

/// The state of a push or a pop. The number is that of its registered waker.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Stage {
    New,
    /// A pop that is enqueued; without a waker if its reservation was revoked and it was not polled since.
    Waiting(Option<usize>),
    Reserved,
    /// A pop of a queue that is closed and drained.
    Ended,
    Parked(usize),
    /// A push: its item was admitted, or popped directly.
    Done(u64),
    /// A push that returns this.
    Revoked(Pair),
    Gone,
}

/// A priority queue in plain data.
pub(super) struct Model {
    pub(super) capacity: Option<usize>,
    pub(super) closed: bool,
    pub(super) entries: Vec<Entry>,
    /// Pops that are enqueued, the longest waiting first.
    pub(super) waiting: VecDeque<usize>,
    /// Pops that have a reservation, the newest last.
    pub(super) reserved: Vec<usize>,
    /// By name, which is the index.
    pub(super) stages: Vec<Stage>,
    pub(super) woken: Woken,
    pub(super) arrivals: u64,
}

impl Model {
    pub(super) fn parked(&self) -> usize {
        if self.capacity.is_none() {
            return 0;
        }
        self.entries.iter().filter(|entry| entry.parked.is_some()).count()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len() - self.parked()
    }

    pub(super) fn is_full(&self) -> bool {
        self.capacity.is_some_and(|capacity| self.len() >= capacity)
    }

    pub(super) fn first(&self) -> Option<&Entry> {
        self.entries.iter().min_by_key(|entry| entry.place())
    }

    pub(super) fn by_key(&self, key: Key) -> Option<usize> {
        self.entries.iter().position(|entry| entry.key == Some(key))
    }

    pub(super) fn wake(&mut self, name: usize, waker: usize) {
        self.woken.push((name, waker));
    }

    pub(super) fn arrive(&mut self) -> u64 {
        self.arrivals += 1;
        self.arrivals
    }

    pub(super) fn insert(&mut self, pair: Pair, parked: Option<usize>) {
        let arrival = self.arrive();
        self.entries.push(Entry { pair, arrival, parked, key: None });
        self.settle();
    }

    /// Grants the push of a parked item.
    pub(super) fn complete(&mut self, at: usize) {
        if let Some(push) = self.entries[at].parked.take() {
            let done = Stage::Done(self.entries[at].pair.2);
            if let Stage::Parked(waker) = mem::replace(&mut self.stages[push], done) {
                self.wake(push, waker);
            }
        }
    }

    /// Admits, reserves and revokes until all agrees with the items.
    pub(super) fn settle(&mut self) {
        while !self.is_full() {
            let parked = (0..self.entries.len()).filter(|&at| self.entries[at].parked.is_some());
            let Some(at) = parked.min_by_key(|&at| self.entries[at].place()) else { break };
            self.complete(at);
        }
        while self.reserved.len() > self.entries.len() {
            let newest = self.reserved.pop().expect("a reservation without an item");
            self.stages[newest] = Stage::Waiting(None);
            self.waiting.push_front(newest);
        }
        let is_over = self.closed && self.len() == 0;
        while is_over || self.reserved.len() < self.entries.len() {
            let Some(next) = self.waiting.pop_front() else { break };
            let stage = if is_over { Stage::Ended } else { Stage::Reserved };
            if !is_over {
                self.reserved.push(next);
            }
            if let Stage::Waiting(Some(waker)) = mem::replace(&mut self.stages[next], stage) {
                self.wake(next, waker);
            }
        }
    }

    pub(super) fn take_at(&mut self, at: usize) -> Entry {
        self.complete(at);
        let entry = self.entries.remove(at);
        self.settle();
        entry
    }

    pub(super) fn take_first(&mut self) -> Pair {
        let at = (0..self.entries.len()).min_by_key(|&at| self.entries[at].place()).expect("the queue has an item");
        self.take_at(at).pair
    }

    pub(super) fn try_push(&mut self, pair: Pair) -> Result<(), TryPushError<Pair>> {
        if self.closed {
            return Err(TryPushError::Closed(pair));
        }
        if self.is_full() {
            return Err(TryPushError::Full(pair));
        }
        self.insert(pair, None);
        Ok(())
    }

    /// Returns the pair that was evicted.
    pub(super) fn force_push(&mut self, pair: Pair) -> Result<Option<Pair>, Pair> {
        if self.closed {
            return Err(pair);
        }
        if !self.is_full() {
            self.insert(pair, None);
            return Ok(None);
        }
        let arrival = self.arrive();
        self.entries.push(Entry { pair, arrival, parked: None, key: None });
        let admitted = (0..self.entries.len()).filter(|&at| self.entries[at].parked.is_none());
        let victim = admitted.max_by_key(|&at| self.entries[at].place()).expect("it is full");
        Ok(Some(self.take_at(victim).pair))
    }

    pub(super) fn try_pop(&mut self) -> Result<Pair, TryPopError> {
        if self.entries.len() > self.reserved.len() {
            Ok(self.take_first())
        } else if self.closed && self.len() == 0 {
            Err(TryPopError::Closed)
        } else {
            Err(TryPopError::Empty)
        }
    }

    /// Returns the output of a push: the item that was pushed, or the pair that is returned.
    pub(super) fn poll_push(&mut self, name: usize, pair: Pair, waker: usize) -> Poll<Result<u64, Pair>> {
        let (stage, outcome) = match self.stages[name] {
            Stage::New => match self.try_push(pair) {
                Ok(()) => (Stage::Gone, Poll::Ready(Ok(pair.2))),
                Err(TryPushError::Closed(pair)) => (Stage::Gone, Poll::Ready(Err(pair))),
                Err(TryPushError::Full(pair)) => {
                    self.insert(pair, Some(name));
                    (Stage::Parked(waker), Poll::Pending)
                }
            },
            Stage::Parked(_) => (Stage::Parked(waker), Poll::Pending),
            Stage::Done(item) => (Stage::Gone, Poll::Ready(Ok(item))),
            Stage::Revoked(pair) => (Stage::Gone, Poll::Ready(Err(pair))),
            stage => unreachable!("no push is {stage:?}"),
        };
        self.stages[name] = stage;
        outcome
    }

    /// Returns the output of a pop of at most `limit` items.
    pub(super) fn poll_pop(&mut self, name: usize, limit: usize, waker: usize) -> Poll<Vec<Pair>> {
        let first = match self.stages[name] {
            Stage::New if limit == 0 => Err(TryPopError::Closed),
            Stage::New => self.try_pop(),
            Stage::Waiting(_) => Err(TryPopError::Empty),
            Stage::Reserved => {
                self.reserved.retain(|&reserved| reserved != name);
                Ok(self.take_first())
            }
            Stage::Ended => Err(TryPopError::Closed),
            stage => unreachable!("no pop is {stage:?}"),
        };
        if first == Err(TryPopError::Empty) {
            if self.stages[name] == Stage::New {
                self.waiting.push_back(name);
            }
            self.stages[name] = Stage::Waiting(Some(waker));
            return Poll::Pending;
        }
        self.stages[name] = Stage::Gone;
        let mut popped = Vec::from_iter(first);
        while !popped.is_empty() && popped.len() < limit {
            let Ok(more) = self.try_pop() else { break };
            popped.push(more);
        }
        Poll::Ready(popped)
    }

    pub(super) fn cancel(&mut self, name: usize) {
        match mem::replace(&mut self.stages[name], Stage::Gone) {
            Stage::Waiting(_) => self.waiting.retain(|&waiting| waiting != name),
            Stage::Reserved => self.reserved.retain(|&reserved| reserved != name),
            Stage::Parked(_) => self.entries.retain(|entry| entry.parked != Some(name)),
            _ => {}
        }
        self.settle();
    }

    /// The admitted, in the order of service.
    pub(super) fn admitted(&self) -> Vec<&Entry> {
        let mut admitted: Vec<_> = self.entries.iter().filter(|entry| entry.parked.is_none()).collect();
        admitted.sort_by_key(|entry| entry.place());
        admitted
    }

    /// Removes the admitted that are not to be kept.
    pub(super) fn retain(&mut self, keep: impl Fn(u64) -> bool) -> Vec<Entry> {
        let (kept, mut removed) = mem::take(&mut self.entries)
            .into_iter()
            .partition::<Vec<_>, _>(|entry| entry.parked.is_some() || keep(entry.pair.2));
        self.entries = kept;
        self.settle();
        removed.sort_by_key(Entry::place);
        removed
    }

    pub(super) fn close(&mut self) {
        self.closed = true;
        for entry in mem::take(&mut self.entries) {
            let Some(push) = entry.parked else {
                self.entries.push(entry);
                continue;
            };
            if let Stage::Parked(waker) = mem::replace(&mut self.stages[push], Stage::Revoked(entry.pair)) {
                self.wake(push, waker);
            }
        }
        self.settle();
    }
}
