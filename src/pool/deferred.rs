//! Deferred work: everything that a change of the state leaves for the time without the lock.

use std::mem::take;

use super::core::{Grant, State};
use super::job::Job;
use super::object::Pooled;
use super::{Manager, Pool};
use crate::panic::Panics;
use crate::sync::{Event, EventListener};
use crate::wait_list::{Removed, WakeBatch};

/// Drops and wakes that follow a change.
pub(super) struct Deferred<M: Manager> {
    /// To be dropped; their slots are counted until then.
    pub(super) garbage: Vec<Garbage<M>>,
    /// Waiters that were removed, with their wakers. A getter is known under two keys at most.
    pub(super) removed: [Option<Removed<u64, Grant<M>>>; 2],
    pub(super) batch: WakeBatch,
    /// The maintenance has something to do.
    pub(super) is_short: bool,
    /// The pool is closed and empty.
    pub(super) is_drained: bool,
}

/// An object or job that the pool gives up.
pub(super) enum Garbage<M: Manager> {
    Object(Box<Pooled<M>>),
    Job(Box<Job<M>>),
}

impl<M: Manager> Default for Deferred<M> {
    #[inline]
    fn default() -> Self {
        Self {
            garbage: Vec::new(),
            removed: [None, None],
            batch: WakeBatch::default(),
            is_short: false,
            is_drained: false,
        }
    }
}

impl<M: Manager> Deferred<M> {
    /// Keeps a removed waiter until the lock is released.
    pub(super) fn keep(&mut self, removed: Removed<u64, Grant<M>>) {
        let [first, second] = &mut self.removed;
        *(if first.is_none() { first } else { second }) = Some(removed);
    }

    /// Drops, frees slots, wakes. To be called without the lock, as the last step. No panic of user code skips any of
    /// it.
    #[inline]
    pub(super) fn run(mut self, pool: &Pool<M>) -> Panics {
        let mut panics = Panics::default();
        if self.removed[0].is_some() {
            panics = Panics::of_drops(self.removed.iter_mut().filter_map(Option::take));
        }
        if !self.garbage.is_empty() {
            self.drop_garbage(pool, &mut panics);
        }
        if !self.batch.is_empty() {
            panics.catch(|| self.batch.wake(|batch| pool.state.lock().take_wakers(batch)));
        }
        if self.is_short {
            pool.upkeep.notify();
        }
        if self.is_drained {
            pool.drained.notify();
        }
        panics
    }

    #[inline(never)]
    fn drop_garbage(&mut self, pool: &Pool<M>, panics: &mut Panics) {
        let is_creation = |garbage: &Garbage<M>| matches!(garbage, Garbage::Job(job) if job.is_creation());
        let total = self.garbage.len();
        let creating = self.garbage.iter().filter(|garbage| is_creation(garbage)).count();
        for garbage in take(&mut self.garbage) {
            panics.catch(|| match garbage {
                Garbage::Object(pooled) => drop(pooled),
                Garbage::Job(job) => drop(job),
            });
        }
        let mut guard = pool.state.lock();
        let state: &mut State<M> = &mut guard;
        state.free_doomed(total - creating, creating);
        state.settle(&pool.settings, self);
    }
}

/// An [`Event`] without listeners in most pools.
#[derive(Default)]
pub(super) struct Signal(Event);

impl Signal {
    pub(super) fn listen(&self) -> EventListener {
        self.0.listen()
    }

    /// Notifies all listeners. Their wakers do not panic: they are [`quiet`](crate::panic::quiet). To be called without
    /// the lock of the pool.
    #[inline(never)]
    pub(super) fn notify(&self) {
        self.0.notify_all();
    }
}

/// The maintenance of a dropped pool ends.
impl Drop for Signal {
    fn drop(&mut self) {
        self.notify();
    }
}
