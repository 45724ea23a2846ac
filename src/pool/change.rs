//! How the state changes: decided under the lock, with deferred work after it; and how an object is returned.

use std::task::{Context, Waker};
use std::time::Instant;

use super::core::State;
use super::deferred::Deferred;
use super::object::Pooled;
use super::turn::{Given, Turn};
use super::{Manager, Pool};
use crate::panic::Panics;
use crate::sync::MutexGuard;
use crate::wait_list::WakeBatch;

impl<M: Manager> Pool<M> {
    /// Takes the next idle object for a getter that is polled for the first time, and draws its ticket.
    #[inline(always)]
    pub(super) fn take_idle(&self, now: Option<Instant>) -> (u64, Option<Given<M>>) {
        let (ticket, given, is_short) = {
            let mut state = self.state.lock();
            state.stats.gets += 1;
            let given = state.take_idle(&self.settings, now);
            (state.stats.gets, given, self.settings.min_idle > 0 && state.is_short(&self.settings))
        };
        if is_short {
            self.upkeep.notify();
        }
        (ticket, given)
    }

    pub(super) fn try_take(&self) -> Option<Box<Pooled<M>>> {
        let turn = Turn::new(self, self.now(), 0, true); // It is never queued.
        turn.try_take(&mut Context::from_waker(Waker::noop()))
    }

    /// Takes back an object that is returned.
    #[inline(always)]
    pub(super) fn take_back(&self, pooled: Box<Pooled<M>>) {
        if std::thread::panicking() {
            // A second panic that got out of here would abort.
            let mut panics = Panics::default();
            panics.catch(|| self.keep_or_discard(pooled));
            panics.discard();
        } else {
            self.keep_or_discard(pooled);
        }
    }

    #[inline(always)]
    pub(super) fn keep_or_discard(&self, pooled: Box<Pooled<M>>) {
        let mut examined = Examined { pool: self, pooled: Some(pooled) };
        let pooled = examined.pooled();
        if self.manager.is_broken(&mut pooled.object) {
            return;
        }
        pooled.idle_since = self.now();
        if pooled.idle_since.is_some_and(|now| self.settings.has_expired(pooled, now)) {
            return self.expire(examined.disarm());
        }
        let mut pooled = examined.disarm();
        pooled.is_new = false; // It may go to the next getter without having been idle.
        let mut state = self.state.lock();
        if !state.keeps(pooled.generation) {
            return self.give_up(state, pooled);
        }
        if !state.is_awaited() {
            return state.put_idle(pooled);
        }
        let mut batch = WakeBatch::default();
        state.grant_object(pooled, &mut batch);
        drop(state);
        batch.wake(|batch| self.state.lock().take_wakers(batch));
    }

    /// Drops an object that is returned and not kept.
    #[inline(never)]
    pub(super) fn give_up(&self, mut state: MutexGuard<'_, State<M>>, pooled: Box<Pooled<M>>) {
        let mut deferred = Deferred::default();
        state.deliver(pooled, &mut deferred);
        drop(state);
        deferred.run(self).resume();
    }

    /// Drops an object that is of no use, and then frees its slot.
    #[inline(never)]
    pub(super) fn discard(&self, pooled: Box<Pooled<M>>) {
        self.drop_and_free(pooled, |state| state.stats.discarded += 1);
    }

    #[inline(never)]
    pub(super) fn expire(&self, pooled: Box<Pooled<M>>) {
        self.drop_and_free(pooled, |state| state.stats.expired += 1);
    }

    pub(super) fn drop_and_free(&self, pooled: Box<Pooled<M>>, count: impl FnOnce(&mut State<M>)) {
        let mut panics = Panics::of_drops([pooled]);
        let free = |state: &mut State<M>, _: &mut Deferred<M>| {
            state.in_use -= 1;
            count(state);
        };
        panics.catch(|| self.change(free));
        panics.resume();
    }

    /// Changes the state, grants slots and pending work, and runs the deferred work. Panics with user code of that.
    pub(super) fn change<R>(&self, change: impl FnOnce(&mut State<M>, &mut Deferred<M>) -> R) -> R {
        let (result, panics) = self.change_and_catch(change);
        panics.resume();
        result
    }

    /// As [`change`](Self::change), for a caller with an object or error that must not be lost.
    pub(super) fn change_quietly<R>(&self, change: impl FnOnce(&mut State<M>, &mut Deferred<M>) -> R) -> R {
        let (result, panics) = self.change_and_catch(change);
        panics.discard();
        result
    }

    pub(super) fn change_and_catch<R>(&self, change: impl FnOnce(&mut State<M>, &mut Deferred<M>) -> R) -> (R, Panics) {
        let mut deferred = Deferred::default();
        let result = {
            let mut state = self.state.lock();
            let result = change(&mut state, &mut deferred);
            state.settle(&self.settings, &mut deferred);
            result
        };
        (result, deferred.run(self))
    }

    #[inline(always)]
    pub(super) fn now(&self) -> Option<Instant> {
        self.settings.clock.as_ref().map(|now| now())
    }
}

/// An object that user code examines: discarded if that panics.
struct Examined<'a, M: Manager> {
    pool: &'a Pool<M>,
    pooled: Option<Box<Pooled<M>>>,
}

impl<M: Manager> Examined<'_, M> {
    #[inline(always)]
    fn pooled(&mut self) -> &mut Pooled<M> {
        self.pooled.as_mut().expect("an examined object is there until it is disarmed")
    }

    #[inline(always)]
    fn disarm(mut self) -> Box<Pooled<M>> {
        self.pooled.take().expect("an examined object is there until it is disarmed")
    }
}

impl<M: Manager> Drop for Examined<'_, M> {
    #[inline]
    fn drop(&mut self) {
        if let Some(pooled) = self.pooled.take() {
            self.pool.discard(pooled);
        }
    }
}
