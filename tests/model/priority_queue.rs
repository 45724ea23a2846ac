//! The priority queue and its model, step by step; and an `Ord` that panics, which must change nothing.
//!
//! The model is a list of items, each with its priority, its arrival and a flag for the parked ones, beside the pops that
//! wait and those that have a reservation. Each operation searches the whole list. The model follows the queue, since only
//! the outcome of an operation shows if it made the comparison that panics.

mod model;
mod rank;

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use arbitrary::{Arbitrary, Unstructured};
use stanchion::{Closed, Key, Pop, PriorityQueue, Push, TryPushError};

use self::model::{Model, Stage};
use self::rank::{Comparing, Pair, Rank, Token, compare, pair};
use super::alarm::{Alarmed, Alarms, Woken, allow_expected_panics, must_panic};

/// The most items at once.
const HEAP: usize = 600;

/// The number of levels in runs with many: enough for several leaves of the tree.
const MANY: u16 = 1024;

/// The number of stale keys that are kept. Few, so that their slots are likely to be used again.
const STALE: usize = 16;

const POLLED_AGAIN: &str = "not polled after it was ready";

#[derive(Debug, Arbitrary)]
enum Op {
    Push { level: Level, waker: bool, later: u8 },
    Pop { waker: bool, later: u8 },
    PopMany { limit: u8, waker: bool, later: u8 },
    TryPush { level: Level },
    ForcePush { level: Level },
    TryPop,
    Peek,
    Poll { which: u8, waker: bool },
    PollAll { waker: bool },
    Cancel { which: u8 },
    IntoInner { which: u8 },
    Retain { sure: u8, step: u8, rest: u8, panics: u8 },
    ForgetWaiter { which: u8, sure: u8 },
    Remove { which: u8 },
    SetPriority { which: u8, level: Level },
    UseStaleKey { which: u8, level: Level },
    PushBesideEquals { level: Level, count: u8, which: u8 },
    Drain { sure: u8, level: Level, count: u8 },
    Close { sure: u8 },
    Fill { count: u8, level: Level, stride: u8 },
    Crowd { count: u8, level: Level, stride: u8 },
    Empty { count: u8 },
    Thin { stays: u8 },
}

/// A level of priority.
#[derive(Clone, Copy, Debug, Arbitrary)]
struct Level(u16);

impl Level {
    fn stride(self, stride: u8, n: u8) -> Self {
        Self(self.0.wrapping_add(u16::from(stride) * u16::from(n)))
    }
}

type Queue = PriorityQueue<Rank, Token>;

type Many<'a> = Pin<Box<dyn Future<Output = (usize, Vec<(Rank, Token)>)> + 'a>>;

enum Waiting<'a> {
    Push(Push<'a, Rank, Token>, Pair),
    Pop(Pop<'a, Rank, Token>),
    /// With its limit, and a flag that is set when a comparison panics.
    PopMany(Many<'a>, usize, Rc<Cell<bool>>),
}

struct Waiter<'a> {
    name: usize,
    future: Waiting<'a>,
}

struct Run<'a> {
    queue: &'a Queue,
    model: Model,
    /// The number of levels. With [`MANY`], operations push many items at a time.
    levels: u16,
    /// The comparison of this step that panics.
    failing: Option<u8>,
    waiters: Vec<Waiter<'a>>,
    /// By name, until it is ready or cancelled: its wakers, and true for a push.
    alarms: BTreeMap<usize, (Alarms, bool)>,
    log: Arc<Mutex<Woken>>,
    stale: VecDeque<Key>,
    living: Rc<Cell<usize>>,
    ids: u64,
}

/// Runs the operations that `data` encodes.
pub(crate) fn run(data: &[u8]) {
    allow_expected_panics();
    let mut data = Unstructured::new(data);
    let (room, spread) = data.arbitrary::<(u8, u8)>().unwrap_or((0, 0));
    let levels = [2, 4, 16, MANY][usize::from(spread % 4)];
    let capacity = match usize::from(room % 8) {
        0..2 => None,
        room if levels < MANY => Some(room - 1),
        room => Some((room - 1) * 20),
    };
    if room == 255 {
        return must_panic("a queue without room", || Queue::bounded(0));
    }
    let queue = capacity.map_or_else(Queue::unbounded, Queue::bounded);
    let living = Rc::default();
    let mut run = Run {
        queue: &queue,
        model: Model {
            capacity,
            closed: false,
            entries: Vec::new(),
            waiting: VecDeque::new(),
            reserved: Vec::new(),
            stages: Vec::new(),
            woken: Vec::new(),
            arrivals: 0,
        },
        levels,
        failing: None,
        waiters: Vec::new(),
        alarms: BTreeMap::new(),
        log: Arc::default(),
        stale: VecDeque::new(),
        living: Rc::clone(&living),
        ids: 0,
    };
    run.check();
    while !data.is_empty() {
        let Ok((op, failing)) = data.arbitrary::<(Op, u8)>() else { break };
        run.failing = (failing < 80).then_some(failing / 4);
        run.step(&op);
        run.check();
    }
    run.end();
    drop(queue);
    assert_eq!(living.get(), 0, "items outlive the queue");
}

impl<'a> Run<'a> {
    fn step(&mut self, op: &Op) {
        let queue = self.queue;
        match *op {
            Op::Push { level, waker, later } => self.join_push(level, (later % 4 != 0).then_some(waker)),
            Op::Pop { waker, later } => {
                self.join(|_| (Waiting::Pop(queue.pop()), (later % 4 != 0).then_some(waker)));
            }
            Op::PopMany { limit, waker, later } => {
                let limit = if limit == 255 { usize::MAX } else { usize::from(limit % 6) };
                self.join(|run| {
                    let panicked = Rc::default();
                    let old = run.pair(Level(0)).1;
                    let future = pop_many(queue, old, limit, Rc::clone(&panicked));
                    (Waiting::PopMany(future, limit, panicked), (later % 4 != 0).then_some(waker))
                });
            }
            Op::TryPush { level } => self.try_push(level),
            Op::ForcePush { level } => self.force_push(level),
            Op::TryPop => self.try_pop(),
            Op::Peek => self.peek(),
            Op::Poll { which, waker } => {
                if let Some(at) = pick(which, &self.waiters) {
                    self.poll(at, waker);
                }
            }
            Op::PollAll { waker } => (0..self.waiters.len()).rev().for_each(|at| self.poll(at, waker)),
            Op::Cancel { which } => {
                if let Some(at) = pick(which, &self.waiters) {
                    self.cancel(at);
                }
            }
            Op::IntoInner { which } => {
                if let Some(at) = pick(which, &self.waiters) {
                    self.give_push_up(at);
                }
            }
            // The closure panics at a random item, or more often at none.
            Op::Retain { sure, step, rest, panics } if sure % 4 == 0 => {
                let step = u64::from(step % 4 + 1);
                self.retain(|item| item % step == u64::from(rest) % step, (panics < 64).then_some(panics / 4));
            }
            Op::Retain { .. } => {}
            Op::ForgetWaiter { which, sure } => {
                if let Some(at) = pick(which, &self.waiters).filter(|_| sure % 8 == 0) {
                    self.forget(at);
                }
            }
            Op::Remove { which } => {
                if let Some(key) = self.pick_key(which) {
                    self.remove(key);
                }
            }
            Op::SetPriority { which, level } => {
                if let Some(key) = self.pick_key(which) {
                    self.set_priority(key, level);
                }
            }
            Op::UseStaleKey { which, level } => {
                let Some(&key) = self.stale.get(usize::from(which) % self.stale.len().max(1)) else { return };
                assert!(queue.priority(key).is_none(), "a stale key finds a priority");
                self.remove(key);
                self.set_priority(key, level);
            }
            // If the queue is full, others of this priority are admitted before the push is, which may be at once or later.
            Op::PushBesideEquals { level, count, which } => {
                self.join_push(level, Some(false));
                (0..count % 4).for_each(|_| self.force_push(level));
                if let Some(key) = self.pick_key(which).filter(|_| which % 2 == 0) {
                    self.remove(key);
                }
            }
            // Rarely, since few items are left afterwards: perhaps equals that were parked, and more of them.
            Op::Drain { sure, level, count } if sure % 4 == 0 => {
                (0..count % 4).for_each(|_| self.join_push(level, Some(false)));
                self.drain();
                (0..count / 4 % 4).for_each(|_| self.try_push(level));
            }
            Op::Close { sure } if sure % 16 == 0 => {
                compare(Comparing::Forbidden, || queue.close());
                self.model.close();
            }
            Op::Drain { .. } | Op::Close { .. } => {}
            Op::Fill { count, level, stride } => {
                self.many(count, |run, n| run.try_push(level.stride(stride, n)));
            }
            Op::Crowd { count, level, stride } => {
                self.many(count / 4, |run, n| run.join_push(level.stride(stride, n), Some(false)));
            }
            Op::Empty { count } => self.many(count / 2, |run, _| run.try_pop()),
            Op::Thin { stays } => {
                let keys: Vec<_> = self.model.entries.iter().filter_map(|entry| entry.key).collect();
                let stays = 1 + usize::from(stays % 32);
                for (_, key) in keys.into_iter().enumerate().filter(|(n, _)| n % stays != stays - 1) {
                    self.remove(key);
                }
            }
        }
    }

    /// Repeats an operation, in runs with many levels.
    fn many(&mut self, count: u8, mut what: impl FnMut(&mut Self, u8)) {
        if self.levels == MANY {
            (0..count).for_each(|n| what(self, n));
        }
    }

    /// Returns how priorities may be compared in the next call.
    fn comparing(&mut self, allowed: bool) -> Comparing {
        match self.failing.take() {
            _ if !allowed => Comparing::Forbidden,
            Some(after) => Comparing::Fails(after),
            None => Comparing::Allowed,
        }
    }

    /// Comparisons of calls that take items out: these compare parked items, if there are any.
    fn comparing_to_take(&mut self) -> Comparing {
        let allowed = self.model.parked() > 0;
        self.comparing(allowed)
    }

    fn rank(&mut self, level: Level) -> Rank {
        self.ids += 1;
        Rank { level: level.0 % self.levels, id: self.ids }
    }

    /// Makes a priority and an item, and their names.
    fn pair(&mut self, level: Level) -> (Pair, (Rank, Token)) {
        let rank = self.rank(level);
        let new = (rank, Token::new(self.ids, &self.living));
        (pair(&new), new)
    }

    fn pick_key(&self, which: u8) -> Option<Key> {
        let keys: Vec<_> = self.model.entries.iter().filter_map(|entry| entry.key).collect();
        pick(which, &keys).map(|at| keys[at])
    }

    /// Records the key of an item, or a stale one.
    fn learn(&mut self, key: Key, item: u64) {
        assert!(self.model.by_key(key).is_none() && !self.stale.contains(&key), "two items have one key");
        match self.model.entries.iter_mut().rfind(|entry| entry.pair.2 == item) {
            Some(entry) => entry.key = Some(key),
            None => self.forget_key(Some(key)),
        }
    }

    fn forget_key(&mut self, key: Option<Key>) {
        self.stale.extend(key);
        while self.stale.len() > STALE {
            self.stale.pop_front();
        }
    }

    /// Checks a pair that was taken out. Its key, if it is known, is stale now.
    fn taken(&mut self, got: &(Rank, Token), expected: Pair, key: Option<Key>) {
        assert_eq!(pair(got), expected, "the pair that was taken out");
        self.forget_key(key);
    }

    fn key_of_first(&self) -> Option<Key> {
        self.model.first().and_then(|first| first.key)
    }

    fn try_push(&mut self, level: Level) {
        if self.model.entries.len() >= HEAP {
            return;
        }
        let (expected, (rank, token)) = self.pair(level);
        let comparing = self.comparing(!self.model.closed && !self.model.is_full());
        let Some(got) = compare(comparing, || self.queue.try_push(rank, token)) else { return };
        match (got, self.model.try_push(expected)) {
            (Ok(key), Ok(())) => self.learn(key, expected.2),
            (Err(TryPushError::Full(got)), Err(TryPushError::Full(expected)))
            | (Err(TryPushError::Closed(got)), Err(TryPushError::Closed(expected))) => {
                assert_eq!(pair(&got), expected, "the pair that is returned");
            }
            (got, expected) => panic!("try_push gave {got:?} instead of {expected:?}"),
        }
    }

    fn force_push(&mut self, level: Level) {
        let (new, (rank, token)) = self.pair(level);
        let comparing = self.comparing(!self.model.closed);
        let Some(got) = compare(comparing, || self.queue.force_push(rank, token)) else { return };
        let before: Vec<_> = self.model.entries.iter().map(|entry| (entry.pair, entry.key)).collect();
        match (got, self.model.force_push(new)) {
            (Ok((key, None)), Ok(None)) => self.learn(key, new.2),
            (Ok((key, Some(got))), Ok(Some(expected))) => {
                let stale = before.into_iter().find(|&(pair, _)| pair == expected).and_then(|(_, key)| key);
                self.taken(&got, expected, stale);
                self.learn(key, new.2);
            }
            (Err(Closed(got)), Err(expected)) => assert_eq!(pair(&got), expected, "the pair that is returned"),
            (got, expected) => panic!("force_push gave {got:?} instead of {expected:?}"),
        }
    }

    fn try_pop(&mut self) {
        let comparing = self.comparing_to_take();
        let Some(got) = compare(comparing, || self.queue.try_pop()) else { return };
        let key = self.key_of_first();
        match (got, self.model.try_pop()) {
            (Ok(got), Ok(expected)) => self.taken(&got, expected, key),
            (Err(got), Err(expected)) if got == expected => {}
            (got, expected) => panic!("try_pop gave {got:?} instead of {expected:?}"),
        }
    }

    fn peek(&mut self) {
        let comparing = self.comparing_to_take();
        let Some(got) = compare(comparing, || self.queue.peek_priority()) else { return };
        let expected = self.model.first().map(|first| (first.pair.0, first.pair.1));
        assert_eq!(got.map(|rank| (rank.level, rank.id)), expected, "the most urgent priority");
    }

    fn remove(&mut self, key: Key) {
        let at = self.model.by_key(key);
        let comparing = if at.is_some() { self.comparing_to_take() } else { Comparing::Forbidden };
        let Some(got) = compare(comparing, || self.queue.remove(key)) else { return };
        match (got, at.map(|at| self.model.take_at(at).pair)) {
            (Some(got), Some(expected)) => self.taken(&got, expected, Some(key)),
            (None, None) => {}
            (got, expected) => panic!("remove gave {got:?} instead of {expected:?}"),
        }
    }

    fn set_priority(&mut self, key: Key, level: Level) {
        let at = self.model.by_key(key);
        let held = compare(Comparing::Forbidden, || self.queue.priority(key)).expect("nothing is compared");
        let expected = at.map(|at| self.model.entries[at].pair);
        assert_eq!(held.map(|rank| (rank.level, rank.id)), expected.map(|(level, id, _)| (level, id)), "the priority");
        let rank = self.rank(level);
        let comparing = self.comparing(at.is_some());
        let Some(done) = compare(comparing, || self.queue.set_priority(key, rank)) else { return };
        assert_eq!(done, at.is_some(), "the key of an item");
        if let Some(at) = at.filter(|&at| self.model.entries[at].pair.0 != rank.level) {
            let arrival = self.model.arrive();
            let entry = &mut self.model.entries[at];
            (entry.pair.0, entry.pair.1, entry.arrival) = (rank.level, rank.id, arrival);
        }
    }

    fn drain(&mut self) {
        let comparing = self.comparing_to_take();
        let Some(got) = compare(comparing, || self.queue.drain()) else { return };
        let expected = self.model.retain(|_| false);
        assert!(got.iter().map(pair).eq(expected.iter().map(|entry| entry.pair)), "the drained items");
        expected.iter().for_each(|entry| self.forget_key(entry.key));
    }

    /// Keeps some items, unless the closure panics at one of them.
    fn retain(&mut self, keep: impl Fn(u64) -> bool, panics: Option<u8>) {
        let comparing = self.comparing_to_take();
        let mut visits = 0;
        let got = compare(comparing, || {
            self.queue.retain(|rank, token| {
                assert!(rank.id > 0);
                if panics.map(usize::from) == Some(visits) {
                    panic_any(Alarmed);
                }
                visits += 1;
                keep(token.id)
            })
        });
        let Some(got) = got else { return };
        let expected = self.model.retain(keep);
        assert!(got.iter().map(pair).eq(expected.iter().map(|entry| entry.pair)), "the removed items");
        expected.iter().for_each(|entry| self.forget_key(entry.key));
    }

    /// Takes the item of a push back, if the waiter is a push.
    fn give_push_up(&mut self, at: usize) {
        if !matches!(self.waiters[at].future, Waiting::Push(..)) {
            return;
        }
        let Waiter { name, future: Waiting::Push(push, new) } = self.waiters.remove(at) else { return };
        let got = compare(Comparing::Forbidden, || push.into_inner()).expect("nothing is compared");
        let expected = match self.model.stages[name] {
            Stage::New | Stage::Parked(_) => Some(new),
            Stage::Revoked(pair) => Some(pair),
            _ => None,
        };
        assert_eq!(got.as_ref().map(pair), expected, "the item of a push that gives up");
        self.model.cancel(name);
    }

    /// A new future, to be polled at once with this waker, or later.
    fn join(&mut self, make: impl FnOnce(&mut Self) -> (Waiting<'a>, Option<bool>)) {
        let crowd = if self.levels == MANY { 200 } else { 40 };
        if self.waiters.len() == crowd {
            return;
        }
        let (future, waker) = make(self);
        let name = self.model.stages.len();
        self.model.stages.push(Stage::New);
        let is_push = matches!(future, Waiting::Push(..));
        self.alarms.insert(name, (Alarms::new(name, &self.log), is_push));
        self.waiters.push(Waiter { name, future });
        if let Some(waker) = waker {
            self.poll(self.waiters.len() - 1, waker);
        }
    }

    fn join_push(&mut self, level: Level, waker: Option<bool>) {
        if self.model.entries.len() >= HEAP {
            return;
        }
        let queue = self.queue;
        self.join(|run| {
            let (pair, (rank, token)) = run.pair(level);
            (Waiting::Push(queue.push(rank, token), pair), waker)
        });
    }

    fn poll(&mut self, at: usize, waker: bool) {
        let name = self.waiters[at].name;
        let stage = self.model.stages[name];
        let alarm = self.alarms.get(&name).map(|(alarms, _)| alarms.waker(waker.into()));
        let cx = &mut Context::from_waker(alarm.as_ref().unwrap_or(Waker::noop()));
        let is_push = matches!(self.waiters[at].future, Waiting::Push(..));
        let comparing = match stage {
            Stage::New if is_push => self.comparing(!self.model.closed),
            Stage::New | Stage::Reserved => self.comparing_to_take(),
            _ => Comparing::Forbidden,
        };
        match &mut self.waiters[at].future {
            Waiting::Push(future, _) if stage == Stage::Gone => {
                must_panic(POLLED_AGAIN, || Pin::new(future).poll(cx));
                self.cancel(at);
            }
            Waiting::Pop(future) if stage == Stage::Gone => {
                must_panic(POLLED_AGAIN, || Pin::new(future).poll(cx));
                self.cancel(at);
            }
            Waiting::Push(future, new) => {
                let new = *new;
                let Some(got) = compare(comparing, || Pin::new(future).poll(cx)) else { return };
                match (got, self.model.poll_push(name, new, waker.into())) {
                    (Poll::Ready(Ok(key)), Poll::Ready(Ok(item))) => self.learn(key, item),
                    (Poll::Ready(Err(Closed(got))), Poll::Ready(Err(expected))) => assert_eq!(pair(&got), expected),
                    (Poll::Pending, Poll::Pending) => {}
                    (got, expected) => panic!("a push gave {got:?} instead of {expected:?}"),
                }
            }
            Waiting::Pop(future) => {
                let Some(got) = compare(comparing, || Pin::new(future).poll(cx)) else { return };
                self.popped(got.map(Vec::from_iter), name, 1, waker);
            }
            Waiting::PopMany(future, limit, panicked) => {
                let mut limit = *limit;
                let got = compare(comparing, || future.as_mut().poll(cx)).expect("its panics are caught");
                match &got {
                    Poll::Pending if panicked.get() => return panicked.set(false),
                    Poll::Ready((count, _)) if panicked.get() => limit = *count,
                    _ => {}
                }
                let got = got.map(|(count, mut into)| {
                    into.remove(0);
                    assert_eq!(count, into.len(), "as many as it says");
                    into
                });
                let is_ready = got.is_ready();
                self.popped(got, name, limit, waker);
                if is_ready {
                    self.cancel(at);
                }
            }
        }
    }

    fn popped(&mut self, got: Poll<Vec<(Rank, Token)>>, name: usize, limit: usize, waker: bool) {
        let keys: Vec<_> = self.model.entries.iter().map(|entry| (entry.pair, entry.key)).collect();
        let expected = self.model.poll_pop(name, limit, waker.into());
        assert_eq!(got.map(|got| got.iter().map(pair).collect::<Vec<_>>()), expected, "the popped items");
        if let Poll::Ready(popped) = expected {
            for (_, key) in keys.into_iter().filter(|(pair, _)| popped.contains(pair)) {
                self.forget_key(key);
            }
        }
    }

    fn cancel(&mut self, at: usize) {
        let Waiter { name, future } = self.waiters.remove(at);
        compare(Comparing::Forbidden, || drop(future));
        self.model.cancel(name);
    }

    /// Leaks a future, which stays enqueued. Futures that own memory are excepted: a fuzzer reports leaks.
    fn forget(&mut self, at: usize) {
        match &self.waiters[at] {
            Waiter { name, future: Waiting::Push(..) } if self.model.stages[*name] == Stage::New => {}
            Waiter { future: Waiting::PopMany(..), .. } => {}
            _ => mem::forget(self.waiters.remove(at)),
        }
    }

    fn check(&mut self) {
        self.queue.validate();
        let len = self.model.len();
        assert_eq!(self.queue.len(), len, "len");
        assert_eq!(self.queue.is_empty(), len == 0, "is_empty");
        assert_eq!(self.queue.capacity(), self.model.capacity, "capacity");
        assert_eq!(self.queue.waiting_pops(), self.model.waiting.len(), "waiting pops");
        assert_eq!(self.queue.waiting_pushes(), self.model.parked(), "waiting pushes");
        assert_eq!(self.queue.is_closed(), self.model.closed, "closed");
        self.failing = None;
        self.peek();
        let mut visited = Vec::new();
        self.queue.for_each(|key, rank, token| visited.push((key, (rank.level, rank.id, token.id))));
        let admitted = self.model.admitted();
        assert!(
            visited.iter().map(|visit| visit.1).eq(admitted.iter().map(|entry| entry.pair)),
            "the order of service"
        );
        let keys = visited.iter().zip(admitted).all(|((key, _), entry)| entry.key.is_none_or(|known| known == *key));
        assert!(keys, "a visit has the key of its item");
        let woken = mem::take(&mut *self.log.lock().expect("nothing panics under this lock"));
        let expected = mem::take(&mut self.model.woken);
        let is_push = |name: usize| self.alarms.get(&name).is_some_and(|&(_, is_push)| is_push);
        assert_eq!(sorted(woken, is_push), sorted(expected, is_push), "the woken waiters");
        self.alarms.retain(|&name, (alarms, _)| {
            let stage = self.model.stages[name];
            let held = [0, 1].map(|waker| match stage {
                Stage::Waiting(held) => usize::from(held == Some(waker)),
                Stage::Parked(held) => usize::from(held == waker),
                _ => 0,
            });
            assert_eq!(alarms.clones(), held, "a waker is kept while its waiter waits, and no longer");
            stage != Stage::Gone
        });
        let revoked = self.model.stages.iter().filter(|stage| matches!(stage, Stage::Revoked(_))).count();
        let kept = self.waiters.iter().filter(|waiter| match waiter.future {
            Waiting::Push(..) => self.model.stages[waiter.name] == Stage::New,
            Waiting::Pop(_) => false,
            Waiting::PopMany(..) => true,
        });
        let expected = self.model.entries.len() + revoked + kept.count();
        assert_eq!(self.living.get(), expected, "items were lost or kept");
    }

    /// Drops all futures.
    fn end(mut self) {
        while !self.waiters.is_empty() {
            self.cancel(self.waiters.len() / 2);
            self.check();
        }
    }
}

/// A `pop_many` that survives the panic of a comparison, and sets the flag then. It is ready if it had taken items by
/// then.
fn pop_many(queue: &Queue, old: (Rank, Token), limit: usize, panicked: Rc<Cell<bool>>) -> Many<'_> {
    Box::pin(async move {
        let mut into = vec![old];
        let mut future = queue.pop_many(&mut into, limit);
        let held = || queue.len() + queue.waiting_pushes();
        let poll = |cx: &mut Context<'_>| {
            let before = held();
            match catch_unwind(AssertUnwindSafe(|| Pin::new(&mut future).poll(cx))) {
                Ok(poll) => poll,
                Err(payload) if payload.is::<Alarmed>() => {
                    panicked.set(true);
                    if held() < before { Poll::Ready(before - held()) } else { Poll::Pending }
                }
                Err(payload) => resume_unwind(payload),
            }
        };
        let count = poll_fn(poll).await;
        must_panic(POLLED_AGAIN, || Pin::new(&mut future).poll(&mut Context::from_waker(Waker::noop())));
        drop(future);
        (count, into)
    })
}

/// The woken waiters: pushes, which are woken in any order, and pops in their order.
fn sorted(woken: Woken, is_push: impl Fn(usize) -> bool) -> (Woken, Woken) {
    let (mut pushes, pops) = woken.into_iter().partition::<Woken, _>(|&(name, _)| is_push(name));
    pushes.sort_unstable();
    (pushes, pops)
}

fn pick<T>(which: u8, among: &[T]) -> Option<usize> {
    (!among.is_empty()).then(|| usize::from(which) % among.len())
}
