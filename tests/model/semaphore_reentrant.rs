//! The semaphore and wakers that use it: woken or dropped, they acquire, release, poll, cancel, close, or panic.
//!
//! An operation has decided everything before the first waker runs. So the model still goes first, and each wake must be
//! one that it expects. Whenever user code runs, the semaphore must be in the state of the model. If a waker is woken or
//! dropped under the lock, this hangs.

use std::cell::RefCell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use arbitrary::{Arbitrary, Unstructured};
use stanchion::{AcquireOwned, OwnedSemaphorePermit, Semaphore};

use super::alarm::{Alarmed, Woken, allow_expected_panics, survive};
use super::semaphore::{Model, Size};

/// Enough for several batches of wakers.
const MAX_WAITERS: usize = 40;

#[derive(Debug, Arbitrary)]
enum Op {
    Enqueue {
        need: Size,
        alarm: Actions,
    },
    /// Several at once, so that a later grant wakes more than fit into one batch.
    EnqueueMany {
        size: Size,
        alarm: Actions,
    },
    Repoll {
        which: u8,
        alarm: Actions,
    },
    Act(Action),
}

/// The actions of a waker.
#[derive(Clone, Copy, Debug, Default, Arbitrary)]
struct Actions {
    woken: Action,
    dropped: Action,
}

#[derive(Clone, Copy, Debug, Default, Arbitrary)]
enum Action {
    #[default]
    Nothing,
    Try(Size),
    Poll(u8),
    PollAll,
    Cancel(u8),
    Release(u8),
    ForgetPermit(u8),
    Add(Size),
    ForgetFree(Size),
    Reduce(Size),
    Close(u8),
    Panic,
}

struct World {
    semaphore: Arc<Semaphore>,
    model: Model,
    /// By name. `None` once it has completed, and while it is being polled.
    waiters: Vec<Option<AcquireOwned>>,
    permits: Vec<OwnedSemaphorePermit>,
    /// Waiters that have collected their permits, with their need, and are dropping their waker before they return them.
    collecting: Vec<(usize, usize)>,
    /// Wakes of a waiter that was polled or dropped before it was woken: they may still reach it, or not.
    excused: Woken,
    /// The number of wakers so far.
    alarms: usize,
    /// Failed assertions, kept for where a panic would be caught.
    faults: Vec<String>,
}

impl World {
    /// The waiters that have not completed and are not being polled.
    fn here(&self) -> Vec<usize> {
        (0..self.waiters.len()).filter(|&name| self.waiters[name].is_some()).collect()
    }

    /// A waiter is polled or dropped, so that its wake is no longer certain.
    fn excuse(&mut self, name: usize) {
        let (excused, owed) =
            std::mem::take(&mut self.model.woken).into_iter().partition(|&(waiter, _)| waiter == name);
        self.model.woken = owed;
        self.excused.extend::<Woken>(excused);
    }

    /// Ends the collecting of a waiter, and returns its need.
    fn end_collecting(&mut self, name: usize) -> Option<usize> {
        let at = self.collecting.iter().position(|&(waiter, _)| waiter == name)?;
        Some(self.collecting.swap_remove(at).1)
    }
}

thread_local! {
    /// The state that wakers share. Borrowed for a moment at a time, and never during a call of the semaphore.
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

fn world<R>(look: impl FnOnce(&mut World) -> R) -> R {
    WORLD.with_borrow_mut(|world| look(world.as_mut().expect("a model test is running")))
}

fn is_running() -> bool {
    WORLD.try_with(|world| world.borrow().is_some()).unwrap_or(false)
}

struct Alarm {
    waiter: usize,
    number: usize,
    actions: Actions,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        if !is_running() {
            return;
        }
        world(|world| {
            let this = (self.waiter, self.number);
            let owed = [&mut world.model.woken, &mut world.excused]
                .into_iter()
                .find_map(|owed| owed.iter().position(|&owed| owed == this).map(|at| owed.swap_remove(at)));
            if owed.is_none() {
                world.faults.push(format!("waiter {} is woken without need", self.waiter));
            }
        });
        self.actions.woken.perform();
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        // During a panic another one would end the process.
        if !is_running() || std::thread::panicking() {
            return;
        }
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| self.actions.dropped.perform())) {
            // A poll discards such a panic: a failed assertion is kept.
            if !payload.is::<Alarmed>() {
                world(|world| world.faults.push(format!("the drop of a waker of waiter {} failed", self.waiter)));
            }
            resume_unwind(payload);
        }
    }
}

/// Runs the sequence of operations that `data` encodes.
pub(crate) fn run(data: &[u8]) {
    allow_expected_panics();
    let mut data = Unstructured::new(data);
    let free = data.arbitrary::<Size>().map_or(1, Size::small);
    let new = World {
        semaphore: Arc::new(Semaphore::new(free)),
        model: Model::new(free),
        waiters: Vec::new(),
        permits: Vec::new(),
        collecting: Vec::new(),
        excused: Vec::new(),
        alarms: 0,
        faults: Vec::new(),
    };
    // The state of a failed run is dropped outside of the borrow.
    drop(WORLD.replace(None));
    WORLD.set(Some(new));
    while !data.is_empty() {
        let Ok(op) = data.arbitrary::<Op>() else { break };
        survive(|| op.perform());
        settled();
    }
    while let Some(last) = world(|world| {
        let waiting = world.waiters.iter().any(Option::is_some);
        let last = if waiting { Some(Action::Cancel(0)) } else { Some(Action::Release(0)) };
        last.filter(|_| waiting || !world.permits.is_empty())
    }) {
        survive(|| last.perform());
        settled();
    }
    let World { semaphore, .. } = WORLD.take().expect("the model test is still running");
    assert_eq!(Arc::strong_count(&semaphore), 1, "every owned handle is dropped");
}

/// Checks the state between operations: no wake is missing.
fn settled() {
    check();
    world(|world| {
        assert_eq!(world.model.woken, [], "not woken");
        world.excused.clear();
    });
}

/// Checks the state at any moment: it is never between two states.
fn check() {
    world(|world| {
        assert_eq!(world.faults, [""; 0]);
        let held = world.permits.iter().map(OwnedSemaphorePermit::num_permits);
        let collecting = world.collecting.iter().map(|&(_, need)| need);
        world.model.check(&world.semaphore, held.chain(collecting));
    });
}

impl Op {
    fn perform(self) {
        match self {
            Self::Enqueue { need, alarm } => enqueue(need.small(), alarm),
            Self::EnqueueMany { size, alarm } => (0..size.small()).for_each(|_| enqueue(1, alarm)),
            Self::Repoll { which, alarm } => {
                if let Some(name) = pick(which) {
                    poll(name, alarm);
                }
            }
            Self::Act(action) => action.perform(),
        }
    }
}

impl Action {
    fn perform(self) {
        let semaphore = world(|world| world.semaphore.clone());
        match self {
            Self::Nothing => {}
            Self::Try(n) => {
                let expected = world(|world| world.model.take(n.small()));
                let permit = semaphore.try_acquire_many_owned(n.small());
                assert_eq!(permit.as_ref().map(|_| ()).map_err(|&error| error), expected, "try_acquire_many_owned");
                world(|world| world.permits.extend(permit));
            }
            Self::Poll(which) => {
                if let Some(name) = pick(which) {
                    poll(name, Actions::default());
                }
            }
            Self::PollAll => {
                for name in world(|world| world.here()) {
                    // It may have completed by now.
                    if world(|world| world.waiters[name].is_some()) {
                        poll(name, Actions::default());
                    }
                }
            }
            Self::Cancel(which) => {
                if let Some(name) = pick(which) {
                    let future = world(|world| {
                        world.excuse(name);
                        world.model.cancel(name).expect("few are free");
                        world.waiters[name].take()
                    });
                    drop(future);
                }
            }
            Self::Release(which) => drop(take_permit(which, |model, n| model.give_back(n).expect("few are free"))),
            Self::ForgetPermit(which) => {
                if let Some(permit) = take_permit(which, Model::forget_permit) {
                    permit.forget();
                }
            }
            Self::Add(n) => {
                world(|world| world.model.add(n.small()).expect("few are free"));
                semaphore.add_permits(n.small());
            }
            Self::ForgetFree(n) => {
                let expected = world(|world| world.model.forget_free(n.small()));
                assert_eq!(semaphore.forget_permits(n.small()), expected);
            }
            Self::Reduce(n) => {
                world(|world| world.model.reduce(n.small()).expect("little is owed"));
                semaphore.reduce_permits(n.small());
            }
            // Rarely, since not much happens afterwards.
            Self::Close(sure) if sure % 16 == 0 => {
                world(|world| world.model.close());
                semaphore.close();
            }
            Self::Close(_) => {}
            Self::Panic if std::thread::panicking() => {}
            Self::Panic => panic_any(Alarmed),
        }
        check();
    }
}

fn enqueue(need: usize, actions: Actions) {
    let name = world(|world| {
        let name = (world.waiters.iter().flatten().count() < MAX_WAITERS).then(|| world.model.add_waiter(need));
        let future = world.semaphore.clone().acquire_many_owned(need);
        world.waiters.extend(name.map(|_| Some(future)));
        name
    });
    if let Some(name) = name {
        poll(name, actions);
    }
}

fn poll(name: usize, actions: Actions) {
    let (future, number, expected) = world(|world| {
        world.alarms += 1;
        world.excuse(name);
        let expected = world.model.poll(name, world.alarms).expect("a waiter that is here has not completed");
        if expected == Poll::Ready(Ok(())) {
            world.collecting.push((name, world.model.need(name)));
        }
        (world.waiters[name].take(), world.alarms, expected)
    });
    let mut future = future.expect("the waiter was picked from those that are here");
    let waker = Waker::from(Arc::new(Alarm { waiter: name, number, actions }));
    match (Pin::new(&mut future).poll(&mut Context::from_waker(&waker)), expected) {
        (Poll::Ready(Ok(permit)), Poll::Ready(Ok(()))) => world(|world| {
            world.end_collecting(name);
            world.permits.push(permit);
        }),
        (Poll::Ready(Err(_)), Poll::Ready(Err(()))) => {}
        (Poll::Pending, Poll::Pending) => world(|world| world.waiters[name] = Some(future)),
        (got, expected) => panic!("a poll gave {got:?} instead of {expected:?}"),
    }
    // The waker is dropped last: the state is complete again when it acts.
}

/// A waiter that has not completed.
fn pick(which: u8) -> Option<usize> {
    world(|world| {
        let here = world.here();
        (!here.is_empty()).then(|| here[usize::from(which) % here.len()])
    })
}

/// Takes a permit, and applies `tell` to the model.
fn take_permit(which: u8, tell: impl FnOnce(&mut Model, usize)) -> Option<OwnedSemaphorePermit> {
    world(|world| {
        let at = (!world.permits.is_empty()).then(|| usize::from(which) % world.permits.len())?;
        let permit = world.permits.swap_remove(at);
        tell(&mut world.model, permit.num_permits());
        Some(permit)
    })
}
