//! The semaphore and its model, step by step.

use std::collections::VecDeque;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use arbitrary::{Arbitrary, Unstructured};
use stanchion::{
    Acquire, AcquireError, AcquireOwned, OwnedSemaphorePermit, Semaphore, SemaphorePermit, TryAcquireError,
};

use super::alarm::{Alarms, Woken, allow_expected_panics, must_panic};

const MAX: usize = Semaphore::MAX_PERMITS;

/// The most waiters at once: enough for several batches of wakers.
const MAX_WAITERS: usize = 40;

const TOO_MANY_ASKED: &str = "permits can be acquired at once";
const TOO_MANY_FREE: &str = "free permits";
const TOO_MANY_HELD: &str = "a permit holds at most";
const TOO_MANY_OWED: &str = "a semaphore owes at most";

#[derive(Debug, Arbitrary)]
enum Op {
    New { need: Size, owned: bool },
    Enqueue { need: Size, owned: bool, waker: bool },
    Poll { which: u8, waker: bool },
    PollAll { waker: bool },
    Cancel { which: u8 },
    ForgetWaiter { which: u8 },
    Try { need: Size, owned: bool },
    Release { which: u8 },
    ForgetPermit { which: u8 },
    Split { which: u8, size: Size },
    Merge { which: u8, other: u8 },
    MergeOther { which: u8 },
    Add { size: Size },
    ForgetFree { size: Size },
    Reduce { size: Size },
    Close { sure: u8 },
}

/// A number of permits: mostly small; where large ones are allowed, sometimes just below and above the limits.
#[derive(Clone, Copy, Debug, Arbitrary)]
pub(crate) struct Size(u8);

impl Size {
    pub(crate) fn small(self) -> usize {
        usize::from(self.0 % 8)
    }

    fn get(self, large: bool) -> usize {
        match self.0 {
            200..220 if large => MAX - usize::from(self.0 - 200) % 4,
            220..235 if large => MAX / 2 + usize::from(self.0 - 220) % 4,
            235..245 if large => MAX + 1 + usize::from(self.0 - 235) % 4,
            245.. if large => usize::MAX - usize::from(self.0 - 245) % 4,
            _ => self.small(),
        }
    }
}

/// The error of an operation that would exceed a limit, and changes nothing.
#[derive(Debug)]
pub(crate) struct Overflow;

/// The stage of a waiter. The number says which of its wakers is registered.
#[derive(Clone, Copy, PartialEq)]
enum Stage {
    New,
    Queued(usize),
    Granted,
    Revoked,
    Done,
}

/// A semaphore in plain data.
#[derive(Default)]
pub(crate) struct Model {
    pub(crate) free: usize,
    debt: usize,
    pub(crate) closed: bool,
    pub(crate) queue: VecDeque<usize>,
    /// The need and the stage of each waiter by its name, an index.
    waiters: Vec<(usize, Stage)>,
    /// The waiters that must have been woken, in order.
    pub(crate) woken: Woken,
    /// All permits, free or not. Computed from additions and removals alone, and from no other field.
    total: i128,
}

impl Model {
    pub(crate) fn new(free: usize) -> Self {
        Self { free, total: free as i128, ..Self::default() }
    }

    pub(crate) fn add_waiter(&mut self, need: usize) -> usize {
        self.waiters.push((need, Stage::New));
        self.waiters.len() - 1
    }

    pub(crate) fn take(&mut self, n: usize) -> Result<(), TryAcquireError> {
        if self.closed {
            Err(TryAcquireError::Closed)
        } else if n > self.free || !self.queue.is_empty() {
            Err(TryAcquireError::NoPermits)
        } else {
            self.free -= n;
            Ok(())
        }
    }

    pub(crate) fn need(&self, waiter: usize) -> usize {
        self.waiters[waiter].0
    }

    /// `None`: a panic, since this future has completed.
    pub(crate) fn poll(&mut self, waiter: usize, waker: usize) -> Option<Poll<Result<(), ()>>> {
        let (need, stage) = self.waiters[waiter];
        let outcome = match stage {
            Stage::New => match self.take(need) {
                Ok(()) => Poll::Ready(Ok(())),
                Err(TryAcquireError::Closed) => Poll::Ready(Err(())),
                Err(TryAcquireError::NoPermits) => {
                    self.queue.push_back(waiter);
                    Poll::Pending
                }
            },
            Stage::Queued(_) => Poll::Pending,
            Stage::Granted => Poll::Ready(Ok(())),
            Stage::Revoked => Poll::Ready(Err(())),
            Stage::Done => return None,
        };
        self.waiters[waiter].1 = if outcome.is_pending() { Stage::Queued(waker) } else { Stage::Done };
        Some(outcome)
    }

    pub(crate) fn cancel(&mut self, waiter: usize) -> Result<(), Overflow> {
        let (need, stage) = mem::replace(&mut self.waiters[waiter], (0, Stage::Done));
        match stage {
            Stage::Queued(_) => {
                self.queue.retain(|&queued| queued != waiter);
                self.give(0)
            }
            Stage::Granted => self.give_back(need),
            _ => Ok(()),
        }
    }

    /// Returns permits. Without room for them they are lost.
    pub(crate) fn give_back(&mut self, n: usize) -> Result<(), Overflow> {
        self.give(n).inspect_err(|Overflow| self.total -= n as i128)
    }

    pub(crate) fn add(&mut self, n: usize) -> Result<(), Overflow> {
        self.give(n)?;
        self.total += n as i128;
        Ok(())
    }

    fn give(&mut self, n: usize) -> Result<(), Overflow> {
        let paid = n.min(self.debt);
        // The sum before any waiter is granted must not overflow, either.
        let mut free = self.free.checked_add(n - paid).ok_or(Overflow)?;
        let needs = self.queue.iter().map(|&waiter| self.waiters[waiter].0);
        let served = needs.map_while(|need| free.checked_sub(need).map(|rest| free = rest)).count();
        if free > MAX {
            return Err(Overflow);
        }
        self.free = free;
        self.debt -= paid;
        for waiter in self.queue.drain(..served) {
            if let Stage::Queued(waker) = mem::replace(&mut self.waiters[waiter].1, Stage::Granted) {
                self.woken.push((waiter, waker));
            }
        }
        Ok(())
    }

    pub(crate) fn forget_permit(&mut self, n: usize) {
        self.total -= n as i128;
    }

    pub(crate) fn forget_free(&mut self, n: usize) -> usize {
        let taken = n.min(self.free);
        self.free -= taken;
        self.total -= taken as i128;
        taken
    }

    pub(crate) fn reduce(&mut self, n: usize) -> Result<(), Overflow> {
        let taken = n.min(self.free);
        self.debt = self.debt.checked_add(n - taken).ok_or(Overflow)?;
        self.free -= taken;
        self.total -= n as i128;
        Ok(())
    }

    pub(crate) fn close(&mut self) {
        self.closed = true;
        for waiter in self.queue.drain(..) {
            if let Stage::Queued(waker) = mem::replace(&mut self.waiters[waiter].1, Stage::Revoked) {
                self.woken.push((waiter, waker));
            }
        }
    }

    /// Asserts that the real semaphore is in this state; `held` are the sizes of its permits.
    pub(crate) fn check(&self, semaphore: &Semaphore, held: impl Iterator<Item = usize>) {
        semaphore.validate();
        assert_eq!(semaphore.available_permits(), self.free, "free permits");
        assert_eq!(semaphore.permits_owed(), self.debt, "permits owed");
        assert_eq!(semaphore.waiters(), self.queue.len(), "waiters");
        assert_eq!(semaphore.is_closed(), self.closed, "closed");
        let granted = self.waiters.iter().filter(|(_, stage)| *stage == Stage::Granted).map(|&(need, _)| need);
        let out: i128 = granted.chain(held).map(|n| n as i128).sum();
        assert_eq!(self.free as i128 + out - self.debt as i128, self.total, "permits were lost or made");
    }
}

/// A future, borrowed or owned.
enum Acquiring<'a> {
    Borrowed(Acquire<'a>),
    Owned(AcquireOwned),
}

/// The output of such a future.
enum Permit<'a> {
    Borrowed(SemaphorePermit<'a>),
    Owned(OwnedSemaphorePermit),
}

impl<'a> Acquiring<'a> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Permit<'a>, AcquireError>> {
        match self {
            Self::Borrowed(future) => Pin::new(future).poll(cx).map_ok(Permit::Borrowed),
            Self::Owned(future) => Pin::new(future).poll(cx).map_ok(Permit::Owned),
        }
    }
}

impl Permit<'_> {
    fn size(&self) -> usize {
        match self {
            Self::Borrowed(permit) => permit.num_permits(),
            Self::Owned(permit) => permit.num_permits(),
        }
    }

    fn split(&mut self, n: usize) -> Option<Self> {
        match self {
            Self::Borrowed(permit) => permit.split(n).map(Self::Borrowed),
            Self::Owned(permit) => permit.split(n).map(Self::Owned),
        }
    }

    /// Only permits of a kind can be merged.
    fn merge(&mut self, other: Self) {
        match (self, other) {
            (Self::Borrowed(permit), Self::Borrowed(other)) => permit.merge(other),
            (Self::Owned(permit), Self::Owned(other)) => permit.merge(other),
            _ => unreachable!("permits of different kinds"),
        }
    }

    fn forget(self) {
        match self {
            Self::Borrowed(permit) => permit.forget(),
            Self::Owned(permit) => permit.forget(),
        }
    }
}

struct Waiter<'a> {
    name: usize,
    future: Acquiring<'a>,
}

struct Run<'a> {
    large: bool,
    semaphore: &'a Arc<Semaphore>,
    /// A second semaphore, to which other permits belong.
    other: &'a Arc<Semaphore>,
    model: Model,
    waiters: Vec<Waiter<'a>>,
    permits: Vec<Permit<'a>>,
    /// By the waiter's name.
    alarms: Vec<Alarms>,
    log: Arc<Mutex<Woken>>,
}

/// Runs the sequence of operations that `data` encodes.
pub(crate) fn run(data: &[u8]) {
    allow_expected_panics();
    let mut data = Unstructured::new(data);
    let (large, size) = data.arbitrary::<(bool, Size)>().unwrap_or((false, Size(1)));
    let free = size.get(large);
    if free > MAX {
        return must_panic("a semaphore holds at most", || Semaphore::new(free));
    }
    let (semaphore, other) = (Arc::new(Semaphore::new(free)), Arc::new(Semaphore::new(1)));
    let mut run = Run {
        large,
        semaphore: &semaphore,
        other: &other,
        model: Model::new(free),
        waiters: Vec::new(),
        permits: Vec::new(),
        alarms: Vec::new(),
        log: Arc::default(),
    };
    run.check();
    while !data.is_empty() {
        let Ok(op) = data.arbitrary() else { break };
        run.step(&op);
        run.check();
    }
    run.end();
}

impl<'a> Run<'a> {
    fn step(&mut self, op: &Op) {
        match *op {
            Op::New { need, owned } => drop(self.new_waiter(need, owned)),
            Op::Enqueue { need, owned, waker } => {
                if let Some(at) = self.new_waiter(need, owned) {
                    self.poll(at, waker);
                }
            }
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
            Op::ForgetWaiter { which } => {
                // An owned one keeps the semaphore for ever, as it must; a fuzzer reports that as a leak.
                if let Some(at) = pick(which, &self.waiters).filter(|&at| !self.waiters[at].is_owned()) {
                    mem::forget(self.waiters.remove(at));
                }
            }
            Op::Try { need, owned } => self.try_acquire(need.get(self.large), owned),
            Op::Release { which } => {
                if let Some(at) = pick(which, &self.permits) {
                    self.release(at);
                }
            }
            Op::ForgetPermit { which } => {
                if let Some(at) = pick(which, &self.permits) {
                    let permit = self.permits.remove(at);
                    self.model.forget_permit(permit.size());
                    permit.forget();
                }
            }
            Op::Split { which, size } => {
                if let Some(at) = pick(which, &self.permits) {
                    self.split(at, size.get(self.large));
                }
            }
            Op::Merge { which, other } => {
                if let Some(other) = pick(other, &self.permits) {
                    let other = self.permits.remove(other);
                    self.merge(which, other);
                }
            }
            Op::MergeOther { which } => self.merge_other(which),
            Op::Add { size } => {
                let n = size.get(self.large);
                match self.model.add(n) {
                    Ok(()) => self.semaphore.add_permits(n),
                    Err(Overflow) => must_panic(TOO_MANY_FREE, || self.semaphore.add_permits(n)),
                }
            }
            Op::ForgetFree { size } => {
                let n = size.get(self.large);
                assert_eq!(self.semaphore.forget_permits(n), self.model.forget_free(n));
            }
            Op::Reduce { size } => {
                let n = size.get(self.large);
                match self.model.reduce(n) {
                    Ok(()) => self.semaphore.reduce_permits(n),
                    Err(Overflow) => must_panic(TOO_MANY_OWED, || self.semaphore.reduce_permits(n)),
                }
            }
            // Rarely, since not much happens afterwards.
            Op::Close { sure } if sure % 8 == 0 => {
                self.model.close();
                self.semaphore.close();
            }
            Op::Close { .. } => {}
        }
    }

    fn new_waiter(&mut self, need: Size, owned: bool) -> Option<usize> {
        let (semaphore, n) = (self.semaphore, need.get(self.large));
        let make = || match owned {
            true => Acquiring::Owned(semaphore.clone().acquire_many_owned(n)),
            false => Acquiring::Borrowed(semaphore.acquire_many(n)),
        };
        if n > MAX {
            must_panic(TOO_MANY_ASKED, make);
            return None;
        }
        if self.waiters.len() == MAX_WAITERS {
            return None;
        }
        let name = self.model.add_waiter(n);
        self.alarms.push(Alarms::new(name, &self.log));
        self.waiters.push(Waiter { name, future: make() });
        Some(self.waiters.len() - 1)
    }

    fn poll(&mut self, at: usize, waker: bool) {
        let Waiter { name, future } = &mut self.waiters[at];
        let expected = self.model.poll(*name, waker.into());
        let waker = self.alarms[*name].waker(waker.into());
        let mut cx = Context::from_waker(&waker);
        let Some(expected) = expected else {
            must_panic("not polled after it was ready", || future.poll(&mut cx));
            return self.cancel(at);
        };
        match (future.poll(&mut cx), expected) {
            (Poll::Ready(Ok(permit)), Poll::Ready(Ok(()))) => self.permits.push(permit),
            (Poll::Ready(Err(_)), Poll::Ready(Err(()))) | (Poll::Pending, Poll::Pending) => {}
            (got, expected) => panic!("a poll gave {:?} instead of {expected:?}", got.map_ok(|permit| permit.size())),
        }
    }

    fn cancel(&mut self, at: usize) {
        let waiter = self.waiters.remove(at);
        match self.model.cancel(waiter.name) {
            Ok(()) => drop(waiter),
            Err(Overflow) => must_panic(TOO_MANY_FREE, || drop(waiter)),
        }
    }

    fn try_acquire(&mut self, n: usize, owned: bool) {
        let semaphore = self.semaphore;
        let attempt = || match owned {
            true => semaphore.clone().try_acquire_many_owned(n).map(Permit::Owned),
            false => semaphore.try_acquire_many(n).map(Permit::Borrowed),
        };
        if n > MAX {
            return must_panic(TOO_MANY_ASKED, attempt);
        }
        let permit = attempt();
        assert_eq!(permit.as_ref().map(|_| ()).map_err(|&error| error), self.model.take(n), "try_acquire_many({n})");
        self.permits.extend(permit);
    }

    fn release(&mut self, at: usize) {
        let permit = self.permits.remove(at);
        match self.model.give_back(permit.size()) {
            Ok(()) => drop(permit),
            Err(Overflow) => must_panic(TOO_MANY_FREE, || drop(permit)),
        }
    }

    fn split(&mut self, at: usize, n: usize) {
        let size = self.permits[at].size();
        let part = self.permits[at].split(n);
        assert_eq!(part.as_ref().map(Permit::size), (n <= size).then_some(n));
        assert_eq!(self.permits[at].size(), if n <= size { size - n } else { size });
        self.permits.extend(part);
    }

    fn merge(&mut self, which: u8, other: Permit<'a>) {
        let Some(at) = pick(which, &self.permits) else { return self.permits.push(other) };
        let permit = &mut self.permits[at];
        let (size, more) = (permit.size(), other.size());
        if mem::discriminant(permit) != mem::discriminant(&other) {
            self.permits.push(other);
        } else if more <= MAX - size {
            permit.merge(other);
            assert_eq!(permit.size(), size + more);
        } else {
            // The other permit is returned as the panic unwinds, or is lost without room for it: a second panic would abort.
            let _ = self.model.give_back(more);
            must_panic(TOO_MANY_HELD, || permit.merge(other));
            assert_eq!(permit.size(), size);
        }
    }

    fn merge_other(&mut self, which: u8) {
        let Some(at) = pick(which, &self.permits) else { return };
        let permit = &mut self.permits[at];
        let size = permit.size();
        let other = match permit {
            Permit::Borrowed(_) => {
                Permit::Borrowed(self.other.try_acquire().expect("its permit is free between steps"))
            }
            Permit::Owned(_) => {
                Permit::Owned(self.other.clone().try_acquire_owned().expect("its permit is free between steps"))
            }
        };
        must_panic("of the same semaphore", || permit.merge(other));
        assert_eq!((permit.size(), self.other.available_permits()), (size, 1));
    }

    fn check(&mut self) {
        self.model.check(self.semaphore, self.permits.iter().map(Permit::size));
        let woken = mem::take(&mut *self.log.lock().expect("nothing panics under this lock"));
        assert_eq!(woken, mem::take(&mut self.model.woken), "woken, in order");
        for (alarms, (_, stage)) in self.alarms.iter().zip(&self.model.waiters) {
            let held = [0, 1].map(|waker| usize::from(*stage == Stage::Queued(waker)));
            assert_eq!(alarms.clones(), held, "a waker is kept while its waiter is queued, and no longer");
        }
    }

    /// Drops all futures and permits.
    fn end(mut self) {
        while !self.waiters.is_empty() {
            self.cancel(self.waiters.len() / 2);
            self.check();
        }
        while !self.permits.is_empty() {
            self.release(self.permits.len() / 2);
            self.check();
        }
        assert_eq!(Arc::strong_count(self.semaphore), 1, "every owned handle is dropped");
    }
}

impl Waiter<'_> {
    fn is_owned(&self) -> bool {
        matches!(self.future, Acquiring::Owned(_))
    }
}

fn pick<T>(which: u8, among: &[T]) -> Option<usize> {
    (!among.is_empty()).then(|| usize::from(which) % among.len())
}
