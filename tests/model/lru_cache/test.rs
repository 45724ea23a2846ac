//! Operations on the cache and on its model, whose results must be the same.

use std::collections::BTreeMap;
use std::mem;
use std::panic::panic_any;
use std::sync::{Arc, Mutex};

use super::super::alarm::{Alarmed, Alarms, Woken, survive};
use super::calls::Task;
use super::model::{Entry, Model, Outcome};
use super::operations::{Op, capacity, weight};
use super::user_code::{Borrowed, Key, Shared, Value, lock, seen};
use super::{Cache, KEYS};

pub(super) struct Test<'a, I> {
    pub(super) cache: &'a Cache,
    pub(super) keys: &'a [Borrowed],
    pub(super) ops: I,
    pub(super) model: Model,
    /// The number of loads on the stack.
    pub(super) depth: usize,
    pub(super) tasks: Vec<Task<'a>>,
    /// By the caller's name.
    pub(super) alarms: BTreeMap<usize, Alarms>,
    pub(super) callers: usize,
    pub(super) inserted: usize,
    pub(super) log: Arc<Mutex<Woken>>,
    pub(super) environment: Shared,
}

/// Runs `f`, which a panic of user code may end.
pub(super) fn outcome<R>(f: impl FnOnce() -> R) -> Outcome<R> {
    survive(f).map_or(Outcome::Panic, Outcome::Ready)
}

impl<'a, I: Iterator<Item = Op>> Test<'a, I> {
    /// Runs the next operation. Returns false if there is none.
    pub(super) fn next_step(&mut self) -> bool {
        let Some(op) = self.ops.next() else { return false };
        self.step(&op);
        self.check();
        true
    }

    pub(super) fn key(&self, key: u8) -> (usize, &'a Borrowed) {
        let key = usize::from(key % KEYS);
        (key, &self.keys[key])
    }

    fn step(&mut self, op: &Op) {
        match *op {
            Op::Get { key } => self.get(key),
            Op::Peek { key } => self.peek(key),
            Op::Contains { key } => self.contains(key),
            Op::Insert { key, weight } => self.insert(key, weight),
            Op::Remove { key } => self.remove(key),
            Op::RemoveEntry { key } => self.remove_entry(key),
            Op::PopLru => assert_entry(outcome(|| self.cache.pop_lru()), self.model.pop_lru()),
            Op::Clear { sure } if sure % 2 == 0 => self.clear(),
            Op::Clear { .. } => {}
            Op::Retain { mask, panics } => self.retain(mask, panics_at(panics)),
            Op::RemoveIf { key, answer } => self.remove_if(key, answer),
            Op::Update { key, byte, panics } => self.update(key, byte, panics % 4 == 0),
            Op::ForEach { panics } => self.for_each(panics_at(panics)),
            Op::SetCapacity { to } => self.set_capacity(capacity(to)),
            Op::Entries => self.list(),
            Op::Advance { seconds } => {
                self.model.now += u64::from(seconds % 4);
                lock(&self.environment).seconds = self.model.now;
            }
            Op::Load { key, kind, waker, later } => self.load(key, kind, (later % 8 != 0).then_some(waker)),
            Op::LoadMany { key, kinds, waker } => kinds.into_iter().for_each(|kind| self.load(key, kind, Some(waker))),
            Op::Poll { which, waker } => self.poll_one(which, waker),
            Op::PollAll { waker } => (0..self.tasks.len()).rev().for_each(|at| self.poll(at, waker)),
            Op::Cancel { which } => self.cancel_one(which),
            Op::Finish { which, how } => self.finish_one(which, how),
            Op::FinishAll { how } => self.running().into_iter().for_each(|name| self.finish(name, how)),
            Op::Block { key, kind, how, inside } => self.block(key, kind, how.of(kind), inside),
            Op::Print => self.print(),
            Op::ClonePanics => self.step_with_panicking_clone(),
            Op::ReportPanics => {
                lock(&self.environment).next_report_panics = true;
                self.model.next_report_panics = true;
            }
        }
    }

    fn get(&mut self, key: u8) {
        let (key, borrowed) = self.key(key);
        let got = outcome(|| self.cache.get(borrowed).map(|value| value.id));
        assert_eq!(got, self.model.get(key), "get({key})");
    }

    fn peek(&mut self, key: u8) {
        let (key, borrowed) = self.key(key);
        let got = outcome(|| self.cache.peek(borrowed).map(|value| value.id));
        assert_eq!(got, self.model.peek(key), "peek({key})");
    }

    fn contains(&mut self, key: u8) {
        let (key, borrowed) = self.key(key);
        let got = outcome(|| self.cache.contains_key(borrowed));
        assert_eq!(got, self.model.contains(key), "contains_key({key})");
    }

    fn insert(&mut self, key: u8, byte: u8) {
        let (key, borrowed) = self.key(key);
        let value = Value::new(self.inserted, byte, &self.environment);
        let got = outcome(|| self.cache.insert(borrowed.to_owned(), value).map(|value| value.id));
        self.model.serial = lock(&self.environment).serial;
        assert_eq!(got, self.model.insert(key, self.inserted, byte), "insert({key})");
        self.inserted += 1;
    }

    fn remove(&mut self, key: u8) {
        let (key, borrowed) = self.key(key);
        let got = outcome(|| self.cache.remove(borrowed).map(|value| value.id));
        let expected = match self.model.remove(key) {
            Outcome::Ready(entry) => Outcome::Ready(entry.map(|entry| entry.value)),
            _ => Outcome::Panic,
        };
        assert_eq!(got, expected, "remove({key})");
    }

    fn remove_entry(&mut self, key: u8) {
        let (key, borrowed) = self.key(key);
        assert_entry(outcome(|| self.cache.remove_entry(borrowed)), self.model.remove(key));
    }

    fn clear(&mut self) {
        assert_eq!(outcome(|| self.cache.clear()), self.model.clear(), "clear");
        // The order of its reports is not specified.
        lock(&self.environment).reports.sort_unstable_by_key(|report| report.1);
        self.model.reports.sort_unstable_by_key(|report| report.1);
    }

    fn retain(&mut self, mask: u16, panics_at: Option<usize>) {
        let keep = |key: usize| mask >> key & 1 != 0;
        let mut visited = Vec::new();
        let got = outcome(|| {
            self.cache.retain(|key, value| {
                visited.push(seen(key, value));
                if panics_at == Some(visited.len()) {
                    panic_any(Alarmed);
                }
                keep(key.id().0)
            });
        });
        assert_eq!((visited, got), self.model.retain(keep, panics_at), "retain");
    }

    fn remove_if(&mut self, key: u8, answer: u8) {
        let (key, borrowed) = self.key(key);
        let answer = [Some(true), Some(true), Some(false), None][usize::from(answer % 4)];
        let got = outcome(|| {
            let removed = self.cache.remove_if(borrowed, |found, _| {
                assert_eq!(found.id().0, key);
                answer.unwrap_or_else(|| panic_any(Alarmed))
            });
            removed.map(|value| value.id)
        });
        assert_eq!(got, self.model.remove_if(key, answer), "remove_if({key})");
    }

    fn update(&mut self, key: u8, byte: u8, panics: bool) {
        let (key, borrowed) = self.key(key);
        let new = self.inserted;
        self.inserted += 1;
        let got = outcome(|| {
            self.cache.update(borrowed, |value| {
                value.weight = weight(byte);
                let old = mem::replace(&mut value.id, new);
                if panics { panic_any(Alarmed) } else { old }
            })
        });
        assert_eq!(got, self.model.update(key, new, byte, panics), "update({key})");
    }

    fn for_each(&mut self, panics_at: Option<usize>) {
        let mut visited = Vec::new();
        let got = outcome(|| {
            self.cache.for_each(|key, value| {
                visited.push(seen(key, value));
                if panics_at == Some(visited.len()) {
                    panic_any(Alarmed);
                }
            });
        });
        assert_eq!((visited, got), self.model.visit(panics_at), "for_each");
    }

    fn set_capacity(&mut self, to: usize) {
        assert_eq!(outcome(|| self.cache.set_capacity(to)), self.model.set_capacity(to), "set_capacity({to})");
    }

    fn list(&mut self) {
        let got = outcome(|| self.cache.entries().iter().map(|(key, value)| seen(key, value)).collect::<Vec<_>>());
        assert_eq!(got, self.model.list(), "entries");
    }

    fn print(&self) {
        let Model { capacity, shards, .. } = &self.model;
        let (len, weight, shards) = (self.model.entries().count(), self.model.weight(), shards.len());
        let expected =
            format!("LruCache {{ capacity: {capacity}, len: {len}, weight: {weight}, shards: {shards}, .. }}");
        assert_eq!(format!("{:?}", self.cache), expected);
    }

    /// Runs the next operation, in which the first clone of a value panics, if there is one.
    fn step_with_panicking_clone(&mut self) {
        lock(&self.environment).next_clone_panics = true;
        self.model.next_clone_panics = true;
        if let Some(op) = self.ops.next() {
            self.step(&op);
        }
        let unused = mem::take(&mut lock(&self.environment).next_clone_panics);
        assert_eq!(unused, mem::take(&mut self.model.next_clone_panics), "no value was cloned");
    }

    /// Cancels all futures.
    pub(super) fn end(mut self) {
        while !self.tasks.is_empty() {
            self.cancel(self.tasks.len() / 2);
            self.check();
        }
        assert!(self.model.loads.is_empty());
    }
}

/// The entry at which a closure panics, counted from 1.
fn panics_at(byte: u8) -> Option<usize> {
    Some(usize::from(byte)).filter(|at| (1..8).contains(at))
}

#[track_caller]
fn assert_entry(got: Outcome<Option<(Key, Value)>>, expected: Outcome<Option<Entry>>) {
    match (&got, expected) {
        (Outcome::Ready(None), Outcome::Ready(None)) | (Outcome::Panic, Outcome::Panic) => {}
        (Outcome::Ready(Some((key, value))), Outcome::Ready(Some(entry))) => {
            assert_eq!(seen(key, value), (entry.key, entry.serial, entry.value));
        }
        (_, expected) => panic!("the model expects {expected:?}"),
    }
}
