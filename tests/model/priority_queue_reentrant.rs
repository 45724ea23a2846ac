//! The priority queue and user code that uses it: wakers as they are cloned, woken or dropped, and items and priorities
//! as they are dropped, push, pop, poll, cancel, remove, close, or panic; and comparisons panic too.
//!
//! There is no model. After each step the invariants must hold: no waiter waits beside an item or room that is free for
//! it, or was granted without a wake, and no item is lost. User code that runs under the lock notices that.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::cmp::Ordering;
use std::future::{Future, poll_fn};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread::panicking;

use arbitrary::{Arbitrary, Unstructured};
use stanchion::{Closed, Key, PriorityQueue};

use super::alarm::{Alarmed, allow_expected_panics, survive};
use super::hooks::Hooks;

/// Enough for several batches of wakers.
const CROWD: usize = 40;

/// The most items at once.
const HEAP: usize = 60;

/// The number of keys that are kept, of items that may be gone.
const KEYS: usize = 16;

#[derive(Debug, Arbitrary)]
enum Op {
    Push {
        new: New,
        alarm: Actions,
        later: u8,
    },
    Pop {
        limit: u8,
        alarm: Actions,
        later: u8,
    },
    /// Several at once, so that the next operation serves more waiters than one batch holds.
    Crowd {
        count: u8,
        push: Option<New>,
        alarm: Actions,
    },
    Repoll {
        which: u8,
        alarm: Actions,
    },
    TryPush(New),
    ForcePush(New),
    SetPriority {
        which: u8,
        level: u8,
        dropped: Action,
    },
    Act(Action),
    /// In the next step, the comparison after so many others panics.
    Fail {
        after: u8,
    },
}

/// A priority and an item, and the actions of their drops.
#[derive(Clone, Copy, Debug, Arbitrary)]
struct New {
    level: u8,
    priority: Action,
    item: Action,
}

/// The actions of a waker.
#[derive(Clone, Copy, Debug, Default, Arbitrary)]
struct Actions {
    cloned: Action,
    woken: Action,
    dropped: Action,
}

#[derive(Clone, Copy, Debug, Default, Arbitrary)]
enum Action {
    #[default]
    Nothing,
    Push(u8),
    Pop(u8),
    TryPush(u8),
    ForcePush(u8),
    TryPop,
    Poll(u8),
    PollAll,
    Cancel(u8),
    Remove(u8),
    SetPriority(u8, u8),
    Drain(u8),
    Close(u8),
    Panic,
}

impl New {
    fn plain(level: u8) -> Self {
        Self { level, priority: Action::Nothing, item: Action::Nothing }
    }

    fn make(self) -> (Grade, Item) {
        world(|world| world.living += 1);
        (Grade { level: self.level % 8, dropped: self.priority }, Item { dropped: self.item })
    }
}

/// A priority.
struct Grade {
    level: u8,
    dropped: Action,
}

impl Ord for Grade {
    fn cmp(&self, other: &Self) -> Ordering {
        match FAILS_AFTER.get() {
            Some(0) if !panicking() => {
                FAILS_AFTER.set(None);
                COMPARISON_FAILED.set(true);
                panic_any(Alarmed);
            }
            after => FAILS_AFTER.set(after.map(|after| after.saturating_sub(1))),
        }
        self.level.cmp(&other.level)
    }
}

impl PartialOrd for Grade {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Eq for Grade {}

impl PartialEq for Grade {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Drop for Grade {
    fn drop(&mut self) {
        self.dropped.perform_in_drop();
    }
}

struct Item {
    dropped: Action,
}

impl Drop for Item {
    fn drop(&mut self) {
        if is_running() {
            world(|world| world.living -= 1);
        }
        self.dropped.perform_in_drop();
    }
}

type Queue = PriorityQueue<Grade, Item>;

/// The output of a future: the key of the item that it pushed, and the items that it popped.
type Outcome = (Option<Key>, Vec<(Grade, Item)>);

type Payload = Box<dyn Any + Send>;

struct Waiter {
    /// Holds the queue, too.
    future: Pin<Box<dyn Future<Output = Outcome>>>,
    panic: Rc<Cell<Option<Payload>>>,
}

/// The state of a waiter.
struct Record {
    is_push: bool,
    /// Its waker at the last poll; 0 before the first one.
    waker: usize,
    /// Woken since that poll.
    woken: bool,
    /// `None` once it is ready or cancelled, and while it is polled.
    waiter: Option<Waiter>,
}

struct World {
    /// `None` in the end.
    queue: Option<Arc<Queue>>,
    /// By name.
    records: Vec<Record>,
    keys: Vec<Key>,
    /// The number of items.
    living: usize,
    /// The number of wakers that were made.
    alarms: usize,
    /// Faults that were found where a panic would be discarded.
    faults: Vec<&'static str>,
}

impl World {
    /// The waiters that are neither ready, nor cancelled, nor being polled.
    fn here(&self) -> Vec<usize> {
        (0..self.records.len()).filter(|&name| self.records[name].waiter.is_some()).collect()
    }

    fn learn(&mut self, key: Key) {
        if self.keys.len() == KEYS {
            self.keys.remove(0);
        }
        self.keys.push(key);
    }
}

thread_local! {
    /// The state that user code finds. It is never borrowed while a function of the queue runs.
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
    static FAILS_AFTER: Cell<Option<u8>> = const { Cell::new(None) };
    static COMPARISON_FAILED: Cell<bool> = const { Cell::new(false) };
}

fn world<R>(access: impl FnOnce(&mut World) -> R) -> R {
    WORLD.with_borrow_mut(|world| access(world.as_mut().expect("a test is running")))
}

fn is_running() -> bool {
    WORLD.try_with(|world| world.borrow().is_some()).unwrap_or(false)
}

/// Runs the operations that `data` encodes.
pub(crate) fn run(data: &[u8]) {
    allow_expected_panics();
    let mut data = Unstructured::new(data);
    let room = usize::from(data.arbitrary::<u8>().unwrap_or(0) % 8);
    let queue = Arc::new(if room < 2 { Queue::unbounded() } else { Queue::bounded(room - 1) });
    let new = World {
        queue: Some(Arc::clone(&queue)),
        records: Vec::new(),
        keys: Vec::new(),
        living: 0,
        alarms: 0,
        faults: Vec::new(),
    };
    // The remains of a failed test are not dropped by this one.
    mem::forget(WORLD.replace(Some(new)));
    FAILS_AFTER.set(None);
    while !data.is_empty() {
        let Ok(op) = data.arbitrary::<Op>() else { break };
        if let Op::Fail { after } = op {
            FAILS_AFTER.set(Some(after % 16));
            continue;
        }
        survive(|| op.perform());
        FAILS_AFTER.set(None);
        settled();
    }
    while world(|world| !world.here().is_empty()) {
        survive(|| Action::Cancel(0).perform());
        settled();
    }
    // The remaining items find no queue when they are dropped, so that they do nothing, or panic.
    drop(world(|world| world.queue.take()));
    let queue = Arc::into_inner(queue).expect("no future is left");
    survive(|| drop(queue));
    let World { living, .. } = WORLD.take().expect("a test is running");
    assert_eq!(living, 0, "items outlive the queue");
}

/// Between operations every grant was made and every wake was done.
fn settled() {
    check();
    world(|world| {
        let queue = world.queue.as_ref().expect("a test is running");
        let polled = world.records.iter().filter(|record| record.waiter.is_some() && record.waker != 0);
        let (pushes, pops): (Vec<_>, Vec<_>) = polled.partition(|record| record.is_push);
        let fresh = world.records.iter().filter(|record| record.waiter.is_some() && record.waker == 0);
        let fresh = fresh.filter(|record| record.is_push).count();
        let asleep = |records: &[&Record]| records.iter().filter(|record| !record.woken).count();
        let (len, parked, waiting) = (queue.len(), queue.waiting_pushes(), queue.waiting_pops());
        let reserved = pops.len().checked_sub(waiting).expect("a waiting pop that was dropped");

        assert!(asleep(&pops) <= waiting, "a pop was granted without a wake");
        assert!(asleep(&pushes) <= parked && parked <= pushes.len(), "a push was granted without a wake");
        if queue.is_closed() {
            let held = world.living.checked_sub(len + fresh).expect("items are lost");
            assert!(held <= pushes.len(), "dropped items are kept");
            assert!(len == 0 || reserved <= len, "a pop has a reservation for nothing");
        } else {
            assert_eq!(world.living, len + parked + fresh, "items are lost, or dropped ones are kept");
            assert!(reserved <= len + parked, "a pop has a reservation for nothing");
        }
        assert!(waiting == 0 || reserved == len + parked, "a pop waits beside an unreserved item");
    });
}

/// Invariants that hold at any moment.
fn check() {
    let queue = world(|world| {
        assert_eq!(world.faults, [""; 0]);
        world.queue.clone().expect("a test is running")
    });
    {
        let fails_after = FAILS_AFTER.take();
        queue.validate();
        FAILS_AFTER.set(fails_after);
    }
    let len = queue.len();
    assert_eq!(queue.is_empty(), len == 0);
    assert!(queue.waiting_pushes() == 0 || Some(len) == queue.capacity(), "a push is parked though there is room");
    if queue.is_closed() {
        assert_eq!(queue.waiting_pushes(), 0, "a push is parked in a closed queue");
        assert!(len > 0 || queue.waiting_pops() == 0, "a pop waits on a drained queue");
    }
}

impl Op {
    fn perform(self) {
        match self {
            Self::Push { new, alarm, later } => push(new, (later % 4 != 0).then_some(alarm)),
            Self::Pop { limit, alarm, later } => pop(limit, (later % 4 != 0).then_some(alarm)),
            Self::Crowd { count, push: new, alarm } => (0..count % 8).for_each(|n| match new {
                Some(new) => push(New { level: new.level.wrapping_add(n), ..new }, Some(alarm)),
                None => pop(1, Some(alarm)),
            }),
            Self::Repoll { which, alarm } => {
                if let Some(name) = pick(which) {
                    poll(name, alarm);
                }
            }
            Self::TryPush(new) => try_push(new),
            Self::ForcePush(new) => force_push(new),
            Self::SetPriority { which, level, dropped } => set_priority(which, level, dropped),
            Self::Act(action) => action.perform(),
            Self::Fail { .. } => {}
        }
    }
}

impl Action {
    /// Performs it in a drop that the queue runs.
    fn perform_in_drop(self) {
        // During a panic another one would end the process, and any action may lead to one.
        if is_running() && notice() && !panicking() {
            self.perform();
        }
    }

    fn perform(self) {
        let Some(queue) = world(|world| world.queue.clone()) else {
            return if let Self::Panic = self {
                panic_any(Alarmed)
            };
        };
        match self {
            Self::Nothing => {}
            Self::Push(level) => push(New::plain(level), Some(Actions::default())),
            Self::Pop(limit) => pop(limit, Some(Actions::default())),
            Self::TryPush(level) => try_push(New::plain(level)),
            Self::ForcePush(level) => force_push(New::plain(level)),
            Self::TryPop => drop(unless_incomparable(|| queue.try_pop())),
            Self::Poll(which) => {
                if let Some(name) = pick(which) {
                    poll(name, Actions::default());
                }
            }
            Self::PollAll => world(|world| world.here()).into_iter().for_each(|name| poll(name, Actions::default())),
            Self::Cancel(which) => {
                if let Some(name) = pick(which) {
                    drop(world(|world| world.records[name].waiter.take()));
                }
            }
            Self::Remove(which) => {
                if let Some(key) = pick_key(which) {
                    drop(unless_incomparable(|| queue.remove(key)));
                    assert!(queue.remove(key).is_none(), "a stale key finds an item");
                }
            }
            Self::SetPriority(which, level) => set_priority(which, level, Self::Nothing),
            // Rarely, since few items are left afterwards.
            Self::Drain(sure) if sure % 4 == 0 => drop(unless_incomparable(|| queue.drain())),
            Self::Close(sure) if sure % 16 == 0 => queue.close(),
            Self::Drain(_) | Self::Close(_) => {}
            Self::Panic if panicking() => {}
            Self::Panic => panic_any(Alarmed),
        }
        check();
    }
}

/// Takes items out, which only the panic of a comparison may prevent: those of wakers are discarded.
fn unless_incomparable<R>(take: impl FnOnce() -> R) -> R {
    COMPARISON_FAILED.set(false);
    catch_unwind(AssertUnwindSafe(take)).unwrap_or_else(|payload| {
        assert!(COMPARISON_FAILED.get(), "the items are lost");
        resume_unwind(payload)
    })
}

/// Returns true if user code may call the queue, and records a fault if it runs under the lock.
fn notice() -> bool {
    let locked = world(|world| world.queue.as_ref().is_some_and(|queue| format!("{queue:?}").contains("..")));
    if locked {
        world(|world| world.faults.push("user code runs under the lock"));
    }
    !locked
}

fn queue() -> Arc<Queue> {
    world(|world| world.queue.clone()).expect("a test is running")
}

fn try_push(new: New) {
    let queue = queue();
    if queue.len() < HEAP {
        let (grade, item) = new.make();
        if let Ok(key) = queue.try_push(grade, item) {
            world(|world| world.learn(key));
        }
    }
}

fn force_push(new: New) {
    let queue = queue();
    if queue.len() < HEAP {
        let (grade, item) = new.make();
        if let Ok((key, _victim)) = queue.force_push(grade, item) {
            world(|world| world.learn(key));
        }
    }
}

fn set_priority(which: u8, level: u8, dropped: Action) {
    if let Some(key) = pick_key(which) {
        queue().set_priority(key, Grade { level: level % 8, dropped });
    }
}

fn push(new: New, alarm: Option<Actions>) {
    let queue = queue();
    if queue.len() < HEAP {
        join(true, alarm, |panic| {
            let (grade, item) = new.make();
            Box::pin(async move {
                match guarded(queue.push(grade, item), panic).await {
                    Ok(key) => (Some(key), Vec::new()),
                    Err(Closed(pair)) => (None, vec![pair]),
                }
            })
        });
    }
}

fn pop(limit: u8, alarm: Option<Actions>) {
    let queue = queue();
    join(false, alarm, |panic| {
        Box::pin(async move {
            if limit % 2 == 0 {
                return (None, Vec::from_iter(guarded(queue.pop(), panic).await));
            }
            let mut into = Vec::new();
            let count = guarded(queue.pop_many(&mut into, 1 + usize::from(limit % 8)), panic).await;
            assert_eq!(count, into.len());
            (None, into)
        })
    });
}

/// Keeps a panic from the `async` block around, so that this stays usable.
async fn guarded<F: Future + Unpin>(mut future: F, panic: Rc<Cell<Option<Payload>>>) -> F::Output {
    poll_fn(|cx| {
        catch_unwind(AssertUnwindSafe(|| Pin::new(&mut future).poll(cx))).unwrap_or_else(|payload| {
            panic.set(Some(payload));
            Poll::Pending
        })
    })
    .await
}

fn join(
    is_push: bool,
    alarm: Option<Actions>,
    make: impl FnOnce(Rc<Cell<Option<Payload>>>) -> Pin<Box<dyn Future<Output = Outcome>>>,
) {
    if world(|world| world.here().len() >= CROWD) {
        return;
    }
    let panic = Rc::default();
    let waiter = Waiter { future: make(Rc::clone(&panic)), panic };
    let name = world(|world| {
        world.records.push(Record { is_push, waker: 0, woken: false, waiter: Some(waiter) });
        world.records.len() - 1
    });
    if let Some(alarm) = alarm {
        poll(name, alarm);
    }
}

/// A waker of the waiter with this name.
fn alarm(name: usize, actions: Actions) -> Waker {
    let number = world(|world| {
        world.alarms += 1;
        (world.records[name].waker, world.records[name].woken) = (world.alarms, false);
        world.alarms
    });
    let at = |action: Action| {
        move || {
            if notice() {
                action.perform();
            }
        }
    };
    let (woken, dropped) = (at(actions.woken), actions.dropped);
    Hooks::new()
        .on_clone(at(actions.cloned))
        .on_wake(move || {
            if !is_running() {
                return;
            }
            world(|world| world.records[name].woken |= world.records[name].waker == number);
            woken();
        })
        .on_drop(move || dropped.perform_in_drop())
        .waker()
}

fn poll(name: usize, actions: Actions) {
    let Some(mut waiter) = world(|world| world.records[name].waiter.take()) else { return };
    let waker = alarm(name, actions);
    let polled = waiter.future.as_mut().poll(&mut Context::from_waker(&waker));
    if let Some(payload) = waiter.panic.take() {
        // The panic has cost no item and no wake. The future is dropped.
        drop(waiter);
        resume_unwind(payload);
    }
    match polled {
        Poll::Pending => world(|world| world.records[name].waiter = Some(waiter)),
        Poll::Ready((key, out)) => {
            world(|world| key.map(|key| world.learn(key)));
            drop(out);
        }
    }
    // The waker is dropped last, when the state is complete.
}

/// A waiter that is neither ready nor cancelled.
fn pick(which: u8) -> Option<usize> {
    world(|world| {
        let here = world.here();
        (!here.is_empty()).then(|| here[usize::from(which) % here.len()])
    })
}

/// A key that was returned.
fn pick_key(which: u8) -> Option<Key> {
    world(|world| (!world.keys.is_empty()).then(|| world.keys[usize::from(which) % world.keys.len()]))
}
