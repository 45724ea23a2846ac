//! The mutex and its model, step by step: each guard finds the value that the one before it wrote.

use std::collections::VecDeque;
use std::future::Future;
use std::mem;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex as Log};
use std::task::{Context, Poll};

use arbitrary::{Arbitrary, Unstructured};
use stanchion::{Lock, LockOwned, MappedMutexGuard, Mutex, MutexGuard, OwnedMappedMutexGuard, OwnedMutexGuard};

use super::alarm::{Alarms, Woken, allow_expected_panics, must_panic};

/// The most waiters at once.
const MAX_WAITERS: usize = 40;

const CELLS: usize = 8;

type Value = [u64; CELLS];

#[derive(Debug, Arbitrary)]
enum Op {
    New { owned: bool },
    Enqueue { owned: bool, waker: bool },
    Poll { which: u8, waker: bool },
    PollAll { waker: bool },
    Cancel { which: u8 },
    ForgetWaiter { which: u8, sure: u8 },
    Try { owned: bool },
    Block { owned: bool },
    Unlock,
    ForgetGuard { sure: u8 },
    Write { cell: u8 },
    Map { from: u8, to: u8 },
    TryMap { from: u8, to: u8, found: bool },
    MapPanics { attempt: bool },
    Print,
}

/// The stage of a waiter. The number says which of its wakers is registered.
#[derive(Clone, Copy, PartialEq)]
enum Stage {
    New,
    Queued(usize),
    Granted,
    Done,
}

/// A mutex in plain data.
#[derive(Default)]
struct Model {
    locked: bool,
    queue: VecDeque<usize>,
    /// The stage of each waiter by its name, an index.
    waiters: Vec<Stage>,
    woken: Woken,
    value: Value,
}

impl Model {
    fn try_lock(&mut self) -> bool {
        !mem::replace(&mut self.locked, true)
    }

    fn unlock(&mut self) {
        match self.queue.pop_front() {
            None => self.locked = false,
            Some(waiter) => {
                if let Stage::Queued(waker) = mem::replace(&mut self.waiters[waiter], Stage::Granted) {
                    self.woken.push((waiter, waker));
                }
            }
        }
    }

    /// Returns true if it is ready. `None`: a panic, since this future has completed.
    fn poll(&mut self, waiter: usize, waker: usize) -> Option<bool> {
        let ready = match self.waiters[waiter] {
            Stage::New => {
                let ready = self.try_lock();
                if !ready {
                    self.queue.push_back(waiter);
                }
                ready
            }
            Stage::Queued(_) => false,
            Stage::Granted => true,
            Stage::Done => return None,
        };
        self.waiters[waiter] = if ready { Stage::Done } else { Stage::Queued(waker) };
        Some(ready)
    }

    fn cancel(&mut self, waiter: usize) {
        match mem::replace(&mut self.waiters[waiter], Stage::Done) {
            Stage::Queued(_) => self.queue.retain(|&queued| queued != waiter),
            Stage::Granted => self.unlock(),
            Stage::New | Stage::Done => {}
        }
    }
}

/// A future, borrowed or owned.
enum Locking<'a> {
    Borrowed(Lock<'a, Value>),
    Owned(LockOwned<Value>),
}

impl<'a> Locking<'a> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Guard<'a>> {
        match self {
            Self::Borrowed(future) => Pin::new(future).poll(cx).map(Guard::Borrowed),
            Self::Owned(future) => Pin::new(future).poll(cx).map(Guard::Owned),
        }
    }
}

/// The output of such a future, and the guards of parts that it can be mapped to.
enum Guard<'a> {
    Borrowed(MutexGuard<'a, Value>),
    Owned(OwnedMutexGuard<Value>),
    Part(MappedMutexGuard<'a, [u64]>),
    OwnedPart(OwnedMappedMutexGuard<Value, [u64]>),
}

impl Guard<'_> {
    fn cells(&mut self) -> &mut [u64] {
        match self {
            Self::Borrowed(guard) => &mut guard[..],
            Self::Owned(guard) => &mut guard[..],
            Self::Part(guard) => guard,
            Self::OwnedPart(guard) => guard,
        }
    }

    fn map(self, part: impl FnOnce(&mut [u64]) -> &mut [u64]) -> Self {
        match self {
            Self::Borrowed(guard) => Self::Part(MutexGuard::map(guard, |value| part(value))),
            Self::Owned(guard) => Self::OwnedPart(OwnedMutexGuard::map(guard, |value| part(value))),
            Self::Part(guard) => Self::Part(MappedMutexGuard::map(guard, part)),
            Self::OwnedPart(guard) => Self::OwnedPart(OwnedMappedMutexGuard::map(guard, part)),
        }
    }

    fn try_map(self, part: impl FnOnce(&mut [u64]) -> Option<&mut [u64]>) -> Result<Self, Self> {
        match self {
            Self::Borrowed(guard) => {
                MutexGuard::try_map(guard, |value| part(value)).map(Self::Part).map_err(Self::Borrowed)
            }
            Self::Owned(guard) => {
                OwnedMutexGuard::try_map(guard, |value| part(value)).map(Self::OwnedPart).map_err(Self::Owned)
            }
            Self::Part(guard) => MappedMutexGuard::try_map(guard, part).map(Self::Part).map_err(Self::Part),
            Self::OwnedPart(guard) => {
                OwnedMappedMutexGuard::try_map(guard, part).map(Self::OwnedPart).map_err(Self::OwnedPart)
            }
        }
    }

    fn leads_to(&self, mutex: &Arc<Mutex<Value>>) -> bool {
        match self {
            Self::Borrowed(guard) => std::ptr::eq(MutexGuard::mutex(guard), &**mutex),
            Self::Owned(guard) => Arc::ptr_eq(OwnedMutexGuard::mutex(guard), mutex),
            Self::Part(_) | Self::OwnedPart(_) => true,
        }
    }

    fn is_owned(&self) -> bool {
        matches!(self, Self::Owned(_) | Self::OwnedPart(_))
    }
}

struct Waiter<'a> {
    name: usize,
    future: Locking<'a>,
}

struct Run<'a> {
    mutex: &'a Arc<Mutex<Value>>,
    model: Model,
    waiters: Vec<Waiter<'a>>,
    /// The one guard, and the range of cells that it gives access to.
    guard: Option<(Guard<'a>, Range<usize>)>,
    /// By the waiter's name.
    alarms: Vec<Alarms>,
    log: Arc<Log<Woken>>,
    writes: u64,
}

/// Runs the sequence of operations that `data` encodes.
pub(crate) fn run(data: &[u8]) {
    allow_expected_panics();
    let mut data = Unstructured::new(data);
    let mut mutex = Arc::new(Mutex::new(Value::default()));
    let mut run = Run {
        mutex: &mutex,
        model: Model::default(),
        waiters: Vec::new(),
        guard: None,
        alarms: Vec::new(),
        log: Arc::default(),
        writes: 0,
    };
    run.check();
    while !data.is_empty() {
        let Ok(op) = data.arbitrary() else { break };
        run.step(&op);
        run.check();
    }
    let mut value = run.end();
    let mutex = Arc::get_mut(&mut mutex).expect("every owned handle is dropped");
    assert_eq!(mutex.get_mut(), &mut value);
    assert_eq!(mem::take(mutex).into_inner(), value);
}

impl<'a> Run<'a> {
    fn step(&mut self, op: &Op) {
        match *op {
            Op::New { owned } => drop(self.new_waiter(owned)),
            Op::Enqueue { owned, waker } => {
                if let Some(at) = self.new_waiter(owned) {
                    self.poll(at, waker);
                }
            }
            Op::Poll { which, waker } => {
                if let Some(at) = self.pick(which) {
                    self.poll(at, waker);
                }
            }
            Op::PollAll { waker } => (0..self.waiters.len()).rev().for_each(|at| self.poll(at, waker)),
            Op::Cancel { which } => {
                if let Some(at) = self.pick(which) {
                    self.cancel(at);
                }
            }
            // Rarely, since the mutex stays locked once this waiter is granted. An owned one keeps the mutex for ever, as
            // it must; a fuzzer reports that as a leak.
            Op::ForgetWaiter { which, sure } => {
                if let Some(at) = self.pick(which).filter(|&at| sure % 8 == 0 && !self.waiters[at].is_owned()) {
                    mem::forget(self.waiters.remove(at));
                }
            }
            Op::Try { owned } => {
                let free = self.model.try_lock();
                let guard = match owned {
                    true => self.mutex.clone().try_lock_owned().map(Guard::Owned),
                    false => self.mutex.try_lock().map(Guard::Borrowed),
                };
                assert_eq!(guard.is_ok(), free, "try_lock");
                if let Ok(guard) = guard {
                    self.enter(guard);
                }
            }
            Op::Block { owned } => {
                if self.model.try_lock() {
                    self.enter(match owned {
                        true => Guard::Owned(self.mutex.clone().blocking_lock_owned()),
                        false => Guard::Borrowed(self.mutex.blocking_lock()),
                    });
                }
            }
            Op::Unlock => self.unlock(),
            // As rarely, for the same reasons.
            Op::ForgetGuard { sure } => {
                mem::forget(self.guard.take_if(|(guard, _)| sure % 16 == 0 && !guard.is_owned()));
            }
            Op::Write { cell } => {
                if let Some((guard, range)) = self.guard.as_mut().filter(|(_, range)| !range.is_empty()) {
                    let cell = usize::from(cell) % range.len();
                    self.writes += 1;
                    self.model.value[range.start + cell] = self.writes;
                    guard.cells()[cell] = self.writes;
                }
            }
            Op::Map { from, to } => {
                if let Some((guard, range)) = self.guard.take() {
                    let part = part_of(&range, from, to);
                    let guard = guard.map(|cells| &mut cells[part.clone()]);
                    self.guard = Some((guard, range.start + part.start..range.start + part.end));
                }
            }
            Op::TryMap { from, to, found } => {
                if let Some((guard, range)) = self.guard.take() {
                    let part = part_of(&range, from, to);
                    self.guard = match guard.try_map(|cells| found.then_some(&mut cells[part.clone()])) {
                        Ok(_) if !found => panic!("there was nothing to map to"),
                        Ok(guard) => Some((guard, range.start + part.start..range.start + part.end)),
                        Err(_) if found => panic!("there was something to map to"),
                        Err(guard) => Some((guard, range)),
                    };
                }
            }
            Op::MapPanics { attempt } => {
                if let Some((guard, _)) = self.guard.take() {
                    self.model.unlock();
                    must_panic("half way", || match attempt {
                        true => drop(guard.try_map(|_| panic!("half way"))),
                        false => drop(guard.map(|_| panic!("half way"))),
                    });
                }
            }
            Op::Print => {
                let text = format!("{:?}", self.mutex);
                let value = if self.model.locked { "<locked>".into() } else { format!("{:?}", self.model.value) };
                assert_eq!(text, format!("Mutex {{ data: {value} }}"));
            }
        }
    }

    fn pick(&self, which: u8) -> Option<usize> {
        (!self.waiters.is_empty()).then(|| usize::from(which) % self.waiters.len())
    }

    fn new_waiter(&mut self, owned: bool) -> Option<usize> {
        if self.waiters.len() == MAX_WAITERS {
            return None;
        }
        let name = self.model.waiters.len();
        self.model.waiters.push(Stage::New);
        self.alarms.push(Alarms::new(name, &self.log));
        let future = match owned {
            true => Locking::Owned(self.mutex.clone().lock_owned()),
            false => Locking::Borrowed(self.mutex.lock()),
        };
        self.waiters.push(Waiter { name, future });
        Some(self.waiters.len() - 1)
    }

    fn poll(&mut self, at: usize, waker: bool) {
        let Waiter { name, future } = &mut self.waiters[at];
        let expected = self.model.poll(*name, waker.into());
        let waker = self.alarms[*name].waker(waker.into());
        let mut cx = Context::from_waker(&waker);
        let Some(ready) = expected else {
            must_panic("not polled after it was ready", || future.poll(&mut cx));
            return self.cancel(at);
        };
        let outcome = future.poll(&mut cx);
        assert_eq!(outcome.is_ready(), ready, "a poll is ready");
        if let Poll::Ready(guard) = outcome {
            self.enter(guard);
        }
    }

    fn cancel(&mut self, at: usize) {
        let waiter = self.waiters.remove(at);
        self.model.cancel(waiter.name);
        drop(waiter);
    }

    /// Keeps a new guard, which must be the only one, and must find the value as the last guard left it.
    fn enter(&mut self, mut guard: Guard<'a>) {
        assert!(self.guard.is_none(), "two hold the lock");
        assert!(guard.leads_to(self.mutex));
        assert_eq!(guard.cells(), self.model.value);
        self.guard = Some((guard, 0..CELLS));
    }

    fn unlock(&mut self) {
        if let Some((mut guard, range)) = self.guard.take() {
            assert_eq!(guard.cells(), &self.model.value[range]);
            self.model.unlock();
        }
    }

    fn check(&mut self) {
        self.mutex.validate();
        assert_eq!(self.mutex.waiters(), self.model.queue.len(), "waiters");
        let woken = mem::take(&mut *self.log.lock().expect("nothing panics under this lock"));
        assert_eq!(woken, mem::take(&mut self.model.woken), "woken, in order");
        for (alarms, stage) in self.alarms.iter().zip(&self.model.waiters) {
            let held = [0, 1].map(|waker| usize::from(*stage == Stage::Queued(waker)));
            assert_eq!(alarms.clones(), held, "a waker is kept while its waiter is queued, and no longer");
        }
    }

    /// Drops all futures and the guard, and returns the value that must be left.
    fn end(mut self) -> Value {
        while !self.waiters.is_empty() {
            self.cancel(self.waiters.len() / 2);
            self.check();
        }
        self.unlock();
        self.check();
        self.model.value
    }
}

impl Waiter<'_> {
    fn is_owned(&self) -> bool {
        matches!(self.future, Locking::Owned(_))
    }
}

/// Some part of a range, as indices into it.
fn part_of(range: &Range<usize>, from: u8, to: u8) -> Range<usize> {
    let [a, b] = [from, to].map(|end| usize::from(end) % (range.len() + 1));
    a.min(b)..a.max(b)
}
