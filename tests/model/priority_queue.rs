//! The priority queue and its model, step by step; and an `Ord` that panics, which must change nothing.
//!
//! The model is one list of items, each with its priority, its arrival and whether it is parked, beside the pops that wait
//! and those that have a reservation. Each operation finds what it wants by looking through all of them. The model is told
//! after the fact, since nobody can know beforehand whether an operation makes the comparison that panics.

use std::cell::Cell;
use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use arbitrary::{Arbitrary, Unstructured};
use stanchion::{Closed, Key, Pop, PriorityQueue, Push, TryPopError, TryPushError};

use super::alarm::{Alarmed, Alarms, Woken, allow_expected_panics, must_panic};

/// Held at once, at most, where many come at a time.
const HEAP: usize = 600;

/// Levels, where there are many: enough for several chunks of them.
const MANY: u16 = 1024;

/// Dead keys that are remembered. Few, so that the next victim is likely to meet a slot that lives again.
const DEAD: usize = 16;

const THROUGH: &str = "not polled after it was ready";

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
    Leave { which: u8 },
    IntoInner { which: u8 },
    Retain { sure: u8, step: u8, rest: u8, panics: u8 },
    ForgetWaiter { which: u8, sure: u8 },
    Remove { which: u8 },
    SetPriority { which: u8, level: Level },
    DisturbTheDead { which: u8, level: Level },
    Overtake { level: Level, count: u8, which: u8 },
    Drain { sure: u8, level: Level, count: u8 },
    Close { sure: u8 },
    Fill { count: u8, level: Level, stride: u8 },
    Crowd { count: u8, level: Level, stride: u8 },
    Empty { count: u8 },
    Thin { stays: u8 },
}

/// How urgent something is.
#[derive(Clone, Copy, Debug, Arbitrary)]
struct Level(u16);

impl Level {
    fn stride(self, stride: u8, n: u8) -> Self {
        Self(self.0.wrapping_add(u16::from(stride) * u16::from(n)))
    }
}

/// A priority that knows whose it is, which its order ignores.
#[derive(Clone, Copy, Debug)]
struct Rank {
    level: u16,
    id: u64,
}

/// What happens when priorities are compared.
#[derive(Clone, Copy)]
enum Comparing {
    Allowed,
    Forbidden,
    /// Goes well so many times, and then panics.
    Fails(u8),
}

thread_local! {
    static COMPARING: Cell<Comparing> = const { Cell::new(Comparing::Allowed) };
}

impl Ord for Rank {
    fn cmp(&self, other: &Self) -> Ordering {
        match COMPARING.get() {
            Comparing::Allowed => {}
            Comparing::Forbidden => panic!("priorities are compared where nothing takes its place"),
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

/// Runs what may compare priorities, or may not. `None`: a comparison has panicked.
fn compare<R>(comparing: Comparing, f: impl FnOnce() -> R) -> Option<R> {
    COMPARING.set(comparing);
    let outcome = catch_unwind(AssertUnwindSafe(f));
    COMPARING.set(Comparing::Allowed);
    match outcome {
        Ok(result) => Some(result),
        Err(payload) if payload.is::<Alarmed>() => None,
        Err(payload) => resume_unwind(payload),
    }
}

/// An item. It counts how many there are.
#[derive(Debug)]
struct Token {
    id: u64,
    living: Rc<Cell<usize>>,
}

impl Token {
    fn new(id: u64, living: &Rc<Cell<usize>>) -> Self {
        living.set(living.get() + 1);
        Self { id, living: living.clone() }
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.living.set(self.living.get() - 1);
    }
}

type Queue = PriorityQueue<Rank, Token>;

/// What names a pair: the level and the identity of its priority, and its item.
type Pair = (u16, u64, u64);

fn pair((rank, token): &(Rank, Token)) -> Pair {
    (rank.level, rank.id, token.id)
}

/// What the queue holds, in the model.
struct Entry {
    pair: Pair,
    arrival: u64,
    /// The push that waits for its admission.
    parked: Option<usize>,
    /// Once the push has been told.
    key: Option<Key>,
}

impl Entry {
    /// The smallest one leaves first.
    fn place(&self) -> (Reverse<u16>, u64) {
        (Reverse(self.pair.0), self.arrival)
    }
}

/// Where a push or a pop stands. The number says which of its wakers is to be woken.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    New,
    /// A pop in the line, with no waker if it was woken, lost its reservation, and was not polled since.
    Waiting(Option<usize>),
    Reserved,
    /// A pop of a queue that is closed and drained.
    Over,
    Parked(usize),
    /// A push whose item was admitted, or left the queue without that.
    Done(u64),
    /// A push that gets this back.
    Refused(Pair),
    Gone,
}

/// What a priority queue is.
struct Model {
    capacity: Option<usize>,
    closed: bool,
    entries: Vec<Entry>,
    /// Pops in the line, the longest waiting first.
    waiting: VecDeque<usize>,
    /// Pops that will find something, the newest reservation last.
    reserved: Vec<usize>,
    /// By name, which is the place in here.
    stages: Vec<Stage>,
    woken: Woken,
    arrivals: u64,
}

impl Model {
    fn parked(&self) -> usize {
        if self.capacity.is_none() {
            return 0;
        }
        self.entries.iter().filter(|entry| entry.parked.is_some()).count()
    }

    fn len(&self) -> usize {
        self.entries.len() - self.parked()
    }

    fn is_full(&self) -> bool {
        self.capacity.is_some_and(|capacity| self.len() >= capacity)
    }

    fn first(&self) -> Option<&Entry> {
        self.entries.iter().min_by_key(|entry| entry.place())
    }

    fn by_key(&self, key: Key) -> Option<usize> {
        self.entries.iter().position(|entry| entry.key == Some(key))
    }

    fn wake(&mut self, name: usize, waker: usize) {
        self.woken.push((name, waker));
    }

    fn arrive(&mut self) -> u64 {
        self.arrivals += 1;
        self.arrivals
    }

    fn insert(&mut self, pair: Pair, parked: Option<usize>) {
        let arrival = self.arrive();
        self.entries.push(Entry { pair, arrival, parked, key: None });
        self.settle();
    }

    /// The push of an item that is parked is through.
    fn complete(&mut self, at: usize) {
        if let Some(push) = self.entries[at].parked.take() {
            let done = Stage::Done(self.entries[at].pair.2);
            if let Stage::Parked(waker) = mem::replace(&mut self.stages[push], done) {
                self.wake(push, waker);
            }
        }
    }

    /// Brings everything into line with what the queue holds now.
    fn settle(&mut self) {
        while !self.is_full() {
            let parked = (0..self.entries.len()).filter(|&at| self.entries[at].parked.is_some());
            let Some(at) = parked.min_by_key(|&at| self.entries[at].place()) else { break };
            self.complete(at);
        }
        while self.reserved.len() > self.entries.len() {
            let newest = self.reserved.pop().expect("there are some");
            self.stages[newest] = Stage::Waiting(None);
            self.waiting.push_front(newest);
        }
        let over = self.closed && self.len() == 0;
        while over || self.reserved.len() < self.entries.len() {
            let Some(next) = self.waiting.pop_front() else { break };
            let stage = if over { Stage::Over } else { Stage::Reserved };
            if !over {
                self.reserved.push(next);
            }
            if let Stage::Waiting(Some(waker)) = mem::replace(&mut self.stages[next], stage) {
                self.wake(next, waker);
            }
        }
    }

    fn take_at(&mut self, at: usize) -> Entry {
        self.complete(at);
        let entry = self.entries.remove(at);
        self.settle();
        entry
    }

    fn take_first(&mut self) -> Pair {
        let at = (0..self.entries.len()).min_by_key(|&at| self.entries[at].place()).expect("there is something");
        self.take_at(at).pair
    }

    fn try_push(&mut self, pair: Pair) -> Result<(), TryPushError<Pair>> {
        if self.closed {
            return Err(TryPushError::Closed(pair));
        }
        if self.is_full() {
            return Err(TryPushError::Full(pair));
        }
        self.insert(pair, None);
        Ok(())
    }

    /// `Some`: who left for it.
    fn force_push(&mut self, pair: Pair) -> Result<Option<Pair>, Pair> {
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

    fn try_pop(&mut self) -> Result<Pair, TryPopError> {
        if self.entries.len() > self.reserved.len() {
            Ok(self.take_first())
        } else if self.closed && self.len() == 0 {
            Err(TryPopError::Closed)
        } else {
            Err(TryPopError::Empty)
        }
    }

    /// What a push resolves to: the item that has gone in, or what comes back.
    fn poll_push(&mut self, name: usize, pair: Pair, waker: usize) -> Poll<Result<u64, Pair>> {
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
            Stage::Refused(pair) => (Stage::Gone, Poll::Ready(Err(pair))),
            stage => unreachable!("no push is {stage:?}"),
        };
        self.stages[name] = stage;
        outcome
    }

    /// What a pop of at most `limit` items resolves to.
    fn poll_pop(&mut self, name: usize, limit: usize, waker: usize) -> Poll<Vec<Pair>> {
        let first = match self.stages[name] {
            Stage::New if limit == 0 => Err(TryPopError::Closed),
            Stage::New => self.try_pop(),
            Stage::Waiting(_) => Err(TryPopError::Empty),
            Stage::Reserved => {
                self.reserved.retain(|&reserved| reserved != name);
                Ok(self.take_first())
            }
            Stage::Over => Err(TryPopError::Closed),
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

    fn leave(&mut self, name: usize) {
        match mem::replace(&mut self.stages[name], Stage::Gone) {
            Stage::Waiting(_) => self.waiting.retain(|&waiting| waiting != name),
            Stage::Reserved => self.reserved.retain(|&reserved| reserved != name),
            Stage::Parked(_) => self.entries.retain(|entry| entry.parked != Some(name)),
            _ => {}
        }
        self.settle();
    }

    /// The admitted, in the order of service.
    fn admitted(&self) -> Vec<&Entry> {
        let mut admitted: Vec<_> = self.entries.iter().filter(|entry| entry.parked.is_none()).collect();
        admitted.sort_by_key(|entry| entry.place());
        admitted
    }

    /// Removes the admitted that are not to be kept.
    fn retain(&mut self, keep: impl Fn(u64) -> bool) -> Vec<Entry> {
        let (kept, mut removed) = mem::take(&mut self.entries)
            .into_iter()
            .partition::<Vec<_>, _>(|entry| entry.parked.is_some() || keep(entry.pair.2));
        self.entries = kept;
        self.settle();
        removed.sort_by_key(Entry::place);
        removed
    }

    fn close(&mut self) {
        self.closed = true;
        for entry in mem::take(&mut self.entries) {
            let Some(push) = entry.parked else {
                self.entries.push(entry);
                continue;
            };
            if let Stage::Parked(waker) = mem::replace(&mut self.stages[push], Stage::Refused(entry.pair)) {
                self.wake(push, waker);
            }
        }
        self.settle();
    }
}

type Many<'a> = Pin<Box<dyn Future<Output = (usize, Vec<(Rank, Token)>)> + 'a>>;

enum Waiting<'a> {
    Push(Push<'a, Rank, Token>, Pair),
    Pop(Pop<'a, Rank, Token>),
    /// With its limit, and a place for the news that a comparison has panicked.
    PopMany(Many<'a>, usize, Rc<Cell<bool>>),
}

struct Waiter<'a> {
    name: usize,
    future: Waiting<'a>,
}

struct Game<'a> {
    queue: &'a Queue,
    model: Model,
    /// How many levels there are. Where there are many, many items come at a time.
    levels: u16,
    /// Which comparison of this step panics.
    failing: Option<u8>,
    waiters: Vec<Waiter<'a>>,
    /// By name, until it is through: its wakers, and whether it is a push.
    alarms: BTreeMap<usize, (Alarms, bool)>,
    log: Arc<Mutex<Woken>>,
    dead: VecDeque<Key>,
    living: Rc<Cell<usize>>,
    ids: u64,
}

/// Plays the sequence that `data` stands for.
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
    let mut game = Game {
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
        dead: VecDeque::new(),
        living: Rc::clone(&living),
        ids: 0,
    };
    game.check();
    while !data.is_empty() {
        let Ok((op, failing)) = data.arbitrary::<(Op, u8)>() else { break };
        game.failing = (failing < 80).then_some(failing / 4);
        game.step(&op);
        game.check();
    }
    game.end();
    drop(queue);
    assert_eq!(living.get(), 0, "items outlive the queue");
}

impl<'a> Game<'a> {
    fn step(&mut self, op: &Op) {
        let queue = self.queue;
        match *op {
            Op::Push { level, waker, later } => self.join_push(level, (later % 4 != 0).then_some(waker)),
            Op::Pop { waker, later } => {
                self.join(|_| (Waiting::Pop(queue.pop()), (later % 4 != 0).then_some(waker)));
            }
            Op::PopMany { limit, waker, later } => {
                let limit = if limit == 255 { usize::MAX } else { usize::from(limit % 6) };
                self.join(|game| {
                    let panicked = Rc::default();
                    let old = game.pair(Level(0)).1;
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
            Op::Leave { which } => {
                if let Some(at) = pick(which, &self.waiters) {
                    self.leave(at);
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
            Op::DisturbTheDead { which, level } => {
                let Some(&key) = self.dead.get(usize::from(which) % self.dead.len().max(1)) else { return };
                assert!(queue.priority(key).is_none(), "a dead key finds a priority");
                self.remove(key);
                self.set_priority(key, level);
            }
            // If the queue is full, others of its priority are admitted before this one is, which may be at once or later.
            Op::Overtake { level, count, which } => {
                self.join_push(level, Some(false));
                (0..count % 4).for_each(|_| self.force_push(level));
                if let Some(key) = self.pick_key(which).filter(|_| which % 2 == 0) {
                    self.remove(key);
                }
            }
            // Rarely, since not much is left afterwards: equals that were parked, with luck, and more of them.
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
                self.many(count, |game, n| game.try_push(level.stride(stride, n)));
            }
            Op::Crowd { count, level, stride } => {
                self.many(count / 4, |game, n| game.join_push(level.stride(stride, n), Some(false)));
            }
            Op::Empty { count } => self.many(count / 2, |game, _| game.try_pop()),
            Op::Thin { stays } => {
                let keys: Vec<_> = self.model.entries.iter().filter_map(|entry| entry.key).collect();
                let stays = 1 + usize::from(stays % 32);
                for (_, key) in keys.into_iter().enumerate().filter(|(n, _)| n % stays != stays - 1) {
                    self.remove(key);
                }
            }
        }
    }

    /// Does something many times, where that is the game.
    fn many(&mut self, count: u8, mut what: impl FnMut(&mut Self, u8)) {
        if self.levels == MANY {
            (0..count).for_each(|n| what(self, n));
        }
    }

    /// Whether, and how, priorities may be compared in what comes next.
    fn comparing(&mut self, allowed: bool) -> Comparing {
        match self.failing.take() {
            _ if !allowed => Comparing::Forbidden,
            Some(after) => Comparing::Fails(after),
            None => Comparing::Allowed,
        }
    }

    /// While pushes are parked the order among them matters to who takes something out.
    fn comparing_to_take(&mut self) -> Comparing {
        let allowed = self.model.parked() > 0;
        self.comparing(allowed)
    }

    fn rank(&mut self, level: Level) -> Rank {
        self.ids += 1;
        Rank { level: level.0 % self.levels, id: self.ids }
    }

    /// A new pair, in name and in fact.
    fn pair(&mut self, level: Level) -> (Pair, (Rank, Token)) {
        let rank = self.rank(level);
        let new = (rank, Token::new(self.ids, &self.living));
        (pair(&new), new)
    }

    fn pick_key(&self, which: u8) -> Option<Key> {
        let keys: Vec<_> = self.model.entries.iter().filter_map(|entry| entry.key).collect();
        pick(which, &keys).map(|at| keys[at])
    }

    /// Somebody learns the key of an item.
    fn learn(&mut self, key: Key, item: u64) {
        assert!(self.model.by_key(key).is_none() && !self.dead.contains(&key), "two items have one key");
        match self.model.entries.iter_mut().rfind(|entry| entry.pair.2 == item) {
            Some(entry) => entry.key = Some(key),
            None => self.bury(Some(key)),
        }
    }

    fn bury(&mut self, key: Option<Key>) {
        self.dead.extend(key);
        while self.dead.len() > DEAD {
            self.dead.pop_front();
        }
    }

    /// What was taken out, and what it should be. Its key, if it is known, is dead now.
    fn taken(&mut self, got: &(Rank, Token), expected: Pair, key: Option<Key>) {
        assert_eq!(pair(got), expected, "what was taken out");
        self.bury(key);
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
                assert_eq!(pair(&got), expected, "what comes back");
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
                let dead = before.into_iter().find(|&(pair, _)| pair == expected).and_then(|(_, key)| key);
                self.taken(&got, expected, dead);
                self.learn(key, new.2);
            }
            (Err(Closed(got)), Err(expected)) => assert_eq!(pair(&got), expected, "what comes back"),
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
        assert_eq!(got.map(|rank| (rank.level, rank.id)), expected, "the most urgent");
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
        assert!(got.iter().map(pair).eq(expected.iter().map(|entry| entry.pair)), "what was drained");
        expected.iter().for_each(|entry| self.bury(entry.key));
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
        expected.iter().for_each(|entry| self.bury(entry.key));
    }

    /// Gives up a push and takes its item back, if it is a push.
    fn give_push_up(&mut self, at: usize) {
        if !matches!(self.waiters[at].future, Waiting::Push(..)) {
            return;
        }
        let Waiter { name, future: Waiting::Push(push, new) } = self.waiters.remove(at) else { return };
        let got = compare(Comparing::Forbidden, || push.into_inner()).expect("nothing is compared");
        let expected = match self.model.stages[name] {
            Stage::New | Stage::Parked(_) => Some(new),
            Stage::Refused(pair) => Some(pair),
            _ => None,
        };
        assert_eq!(got.as_ref().map(pair), expected, "the item of a push that gives up");
        self.model.leave(name);
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
        self.join(|game| {
            let (pair, (rank, token)) = game.pair(level);
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
                must_panic(THROUGH, || Pin::new(future).poll(cx));
                self.leave(at);
            }
            Waiting::Pop(future) if stage == Stage::Gone => {
                must_panic(THROUGH, || Pin::new(future).poll(cx));
                self.leave(at);
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
                let through = got.is_ready();
                self.popped(got, name, limit, waker);
                if through {
                    self.leave(at);
                }
            }
        }
    }

    fn popped(&mut self, got: Poll<Vec<(Rank, Token)>>, name: usize, limit: usize, waker: bool) {
        let keys: Vec<_> = self.model.entries.iter().map(|entry| (entry.pair, entry.key)).collect();
        let expected = self.model.poll_pop(name, limit, waker.into());
        assert_eq!(got.map(|got| got.iter().map(pair).collect::<Vec<_>>()), expected, "what was popped");
        if let Poll::Ready(popped) = expected {
            for (_, key) in keys.into_iter().filter(|(pair, _)| popped.contains(pair)) {
                self.bury(key);
            }
        }
    }

    fn leave(&mut self, at: usize) {
        let Waiter { name, future } = self.waiters.remove(at);
        compare(Comparing::Forbidden, || drop(future));
        self.model.leave(name);
    }

    /// It keeps its place for ever. One that holds something itself would leak that, which a fuzzer dislikes.
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
        assert!(keys, "a visit brings the key of its item");
        let woken = mem::take(&mut *self.log.lock().expect("nothing panics under this lock"));
        let expected = mem::take(&mut self.model.woken);
        let is_push = |name: usize| self.alarms.get(&name).is_some_and(|&(_, is_push)| is_push);
        assert_eq!(sorted(woken, is_push), sorted(expected, is_push), "who was woken");
        self.alarms.retain(|&name, (alarms, _)| {
            let stage = self.model.stages[name];
            let held = [0, 1].map(|waker| match stage {
                Stage::Waiting(held) => usize::from(held == Some(waker)),
                Stage::Parked(held) => usize::from(held == waker),
                _ => 0,
            });
            assert_eq!(alarms.clones(), held, "a waker is kept while somebody waits, and no longer");
            stage != Stage::Gone
        });
        let refused = self.model.stages.iter().filter(|stage| matches!(stage, Stage::Refused(_))).count();
        let kept = self.waiters.iter().filter(|waiter| match waiter.future {
            Waiting::Push(..) => self.model.stages[waiter.name] == Stage::New,
            Waiting::Pop(_) => false,
            Waiting::PopMany(..) => true,
        });
        let expected = self.model.entries.len() + refused + kept.count();
        assert_eq!(self.living.get(), expected, "items were lost or kept");
    }

    /// Everybody goes home.
    fn end(mut self) {
        while !self.waiters.is_empty() {
            self.leave(self.waiters.len() / 2);
            self.check();
        }
    }
}

/// A pop of many that survives the panic of a comparison, and says that there was one. It is ready all the same if it had
/// taken something by then.
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
        must_panic(THROUGH, || Pin::new(&mut future).poll(&mut Context::from_waker(Waker::noop())));
        drop(future);
        (count, into)
    })
}

/// Who was woken: the pushes, for whom no order is promised, and the pops in the order of the line.
fn sorted(woken: Woken, is_push: impl Fn(usize) -> bool) -> (Woken, Woken) {
    let (mut pushes, pops) = woken.into_iter().partition::<Woken, _>(|&(name, _)| is_push(name));
    pushes.sort_unstable();
    (pushes, pops)
}

fn pick<T>(which: u8, among: &[T]) -> Option<usize> {
    (!among.is_empty()).then(|| usize::from(which) % among.len())
}
