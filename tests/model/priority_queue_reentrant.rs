//! The priority queue and foreign code that uses it: wakers as they are cloned, woken or dropped, and items and priorities
//! as they are dropped, push, pop, poll, cancel, remove, close, or panic; and comparisons panic too.
//!
//! What a sequence comes to is checked by what must hold whatever happened: nobody waits beside what is there for him,
//! nobody waits without having been woken since, and every item is somewhere. Were foreign code run under the lock, it
//! would notice.

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
use super::hostile::Hostile;

/// Enough for several batches of wakers.
const CROWD: usize = 40;

/// Held at once, at most.
const HEAP: usize = 60;

/// Keys that are remembered, of items that may be gone.
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
    /// Several at once, so that what comes next serves more than fit into one batch.
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
    /// The comparison after so many panics, if the next step gets there.
    Fail {
        after: u8,
    },
}

/// A priority and an item, and what their drops do.
#[derive(Clone, Copy, Debug, Arbitrary)]
struct New {
    level: u8,
    priority: Action,
    item: Action,
}

/// What a waker does.
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
    Leave(u8),
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
        if game_is_on() {
            world(|world| world.living -= 1);
        }
        self.dropped.perform_in_drop();
    }
}

type Queue = PriorityQueue<Grade, Item>;

/// What a future resolves to: the key of what has gone in, and what has come out.
type Outcome = (Option<Key>, Vec<(Grade, Item)>);

type Payload = Box<dyn Any + Send>;

struct Waiter {
    /// Holds the queue, too.
    future: Pin<Box<dyn Future<Output = Outcome>>>,
    panic: Rc<Cell<Option<Payload>>>,
}

/// What is known of a waiter while it waits.
struct Record {
    is_push: bool,
    /// Its waker at the last poll; 0 before the first one.
    waker: usize,
    /// Woken since that poll.
    woken: bool,
    /// `None` once it is through, or while it is being polled.
    waiter: Option<Waiter>,
}

struct World {
    /// `None` in the end.
    queue: Option<Arc<Queue>>,
    /// By name.
    records: Vec<Record>,
    keys: Vec<Key>,
    /// How many items there are.
    living: usize,
    /// How many wakers were made.
    alarms: usize,
    /// Broken promises, for when a panic would be swallowed.
    faults: Vec<&'static str>,
}

impl World {
    /// The waiters that are not through, nor being polled.
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
    /// Where foreign code finds the game. Borrowed for a moment at a time, and never while anything of the queue's runs.
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
    static FAILS_AFTER: Cell<Option<u8>> = const { Cell::new(None) };
    static COMPARISON_FAILED: Cell<bool> = const { Cell::new(false) };
}

fn world<R>(look: impl FnOnce(&mut World) -> R) -> R {
    WORLD.with_borrow_mut(|world| look(world.as_mut().expect("a game is on")))
}

fn game_is_on() -> bool {
    WORLD.try_with(|world| world.borrow().is_some()).unwrap_or(false)
}

/// Plays the sequence that `data` stands for.
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
    // What a failed game has left behind is not to be dropped by this one.
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
        survive(|| Action::Leave(0).perform());
        settled();
    }
    // What is left in the queue finds the game over as it is dropped, but for the one panic that there may be.
    drop(world(|world| world.queue.take()));
    let queue = Arc::into_inner(queue).expect("everything that waited has let go");
    survive(|| drop(queue));
    let World { living, .. } = WORLD.take().expect("the game is still on");
    assert_eq!(living, 0, "items outlive the queue");
}

/// Between operations nothing is left to be done.
fn settled() {
    check();
    world(|world| {
        let queue = world.queue.as_ref().expect("the game is on");
        let polled = world.records.iter().filter(|record| record.waiter.is_some() && record.waker != 0);
        let (pushes, pops): (Vec<_>, Vec<_>) = polled.partition(|record| record.is_push);
        let fresh = world.records.iter().filter(|record| record.waiter.is_some() && record.waker == 0);
        let fresh = fresh.filter(|record| record.is_push).count();
        let asleep = |records: &[&Record]| records.iter().filter(|record| !record.woken).count();
        let (len, parked, waiting) = (queue.len(), queue.waiting_pushes(), queue.waiting_pops());
        let reserved = pops.len().checked_sub(waiting).expect("a pop waits that is gone");

        assert!(asleep(&pops) <= waiting, "a pop sleeps though its turn has come");
        assert!(asleep(&pushes) <= parked && parked <= pushes.len(), "a push sleeps though it is through");
        if queue.is_closed() {
            let held = world.living.checked_sub(len + fresh).expect("items are lost");
            assert!(held <= pushes.len(), "items are kept for nobody");
            assert!(len == 0 || reserved <= len, "a pop has a reservation for nothing");
        } else {
            assert_eq!(world.living, len + parked + fresh, "items are lost, or kept for nobody");
            assert!(reserved <= len + parked, "a pop has a reservation for nothing");
        }
        assert!(waiting == 0 || reserved == len + parked, "a pop waits beside an item that is there for it");
    });
}

/// At any moment: nothing is in between.
fn check() {
    let queue = world(|world| {
        assert_eq!(world.faults, [""; 0]);
        world.queue.clone().expect("the game is on")
    });
    {
        let fails_after = FAILS_AFTER.take();
        queue.validate();
        FAILS_AFTER.set(fails_after);
    }
    let len = queue.len();
    assert_eq!(queue.is_empty(), len == 0);
    assert!(queue.waiting_pushes() == 0 || Some(len) == queue.capacity(), "a push is parked beside a free place");
    if queue.is_closed() {
        assert_eq!(queue.waiting_pushes(), 0, "a push is parked in a closed queue");
        assert!(len > 0 || queue.waiting_pops() == 0, "a pop waits for what will never come");
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
    /// As foreign code, at a moment that the queue has chosen.
    fn perform_in_drop(self) {
        // During a panic another one would end the process; and what the others do could lead to one.
        if game_is_on() && notice() && !panicking() {
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
            Self::Leave(which) => {
                if let Some(name) = pick(which) {
                    drop(world(|world| world.records[name].waiter.take()));
                }
            }
            Self::Remove(which) => {
                if let Some(key) = pick_key(which) {
                    drop(unless_incomparable(|| queue.remove(key)));
                    assert!(queue.remove(key).is_none(), "a dead key answers");
                }
            }
            Self::SetPriority(which, level) => set_priority(which, level, Self::Nothing),
            // Rarely, since not much is left afterwards.
            Self::Drain(sure) if sure % 4 == 0 => drop(unless_incomparable(|| queue.drain())),
            Self::Close(sure) if sure % 16 == 0 => queue.close(),
            Self::Drain(_) | Self::Close(_) => {}
            Self::Panic if panicking() => {}
            Self::Panic => panic_any(Alarmed),
        }
        check();
    }
}

/// Runs what has items in hand: panics of wakers must not get in its way.
fn unless_incomparable<R>(take: impl FnOnce() -> R) -> R {
    COMPARISON_FAILED.set(false);
    catch_unwind(AssertUnwindSafe(take)).unwrap_or_else(|payload| {
        assert!(COMPARISON_FAILED.get(), "what was taken out is lost");
        resume_unwind(payload)
    })
}

/// Whether foreign code may go on: not where it would hang.
fn notice() -> bool {
    let locked = world(|world| world.queue.as_ref().is_some_and(|queue| format!("{queue:?}").contains("..")));
    if locked {
        world(|world| world.faults.push("foreign code runs under the lock"));
    }
    !locked
}

fn queue() -> Arc<Queue> {
    world(|world| world.queue.clone()).expect("the game is on")
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

/// Keeps a panic from reaching the block around, which could not be dropped in peace then.
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
    Hostile::new()
        .on_clone(at(actions.cloned))
        .on_wake(move || {
            if !game_is_on() {
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
        // It has not lost anything, nor kept anybody from being served; whether it goes on is nobody's business.
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
    // The waker goes last: all is in its place again when it acts.
}

/// Some waiter that is not through.
fn pick(which: u8) -> Option<usize> {
    world(|world| {
        let here = world.here();
        (!here.is_empty()).then(|| here[usize::from(which) % here.len()])
    })
}

/// Some key that somebody has learnt.
fn pick_key(which: u8) -> Option<Key> {
    world(|world| (!world.keys.is_empty()).then(|| world.keys[usize::from(which) % world.keys.len()]))
}
