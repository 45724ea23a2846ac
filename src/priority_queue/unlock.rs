//! The steps after a decision: unlock, drop what is left over, wake.

use super::core::{Core, Leftover, Removal};
use super::{PriorityQueue, Waiter};
use crate::panic::Panics;
use crate::sync::MutexGuard;
use crate::wait_list::WakeBatch;

impl<P, T> PriorityQueue<P, T> {
    /// Unlocks after an item was admitted, and serves the pops that wait for it.
    #[inline(always)]
    pub(super) fn serve(&self, core: MutexGuard<'_, Core<P, T>>) {
        if core.waiting_pops() > 0 {
            self.serve_pops(core);
        }
    }

    #[inline(never)]
    pub(super) fn serve_pops(&self, mut core: MutexGuard<'_, Core<P, T>>) {
        let mut batch = WakeBatch::default();
        core.settle(&mut batch);
        drop(core);
        self.wake(None, &mut batch).resume();
    }

    /// Removes an item as planned.
    #[inline(never)]
    pub(super) fn take(&self, mut core: MutexGuard<'_, Core<P, T>>, plan: Removal) -> (P, T) {
        let mut batch = WakeBatch::default();
        let taken = core.remove(plan, &mut batch);
        unlock(core);
        // A panic of another task's waker is discarded: it would cost the caller the item.
        self.wake(None, &mut batch).discard();
        taken
    }

    /// Drops the remains of a waiter, then wakes the waiters that were served: the last step, without the lock, since
    /// wakers may do anything. If some panic, the others are woken all the same.
    #[inline(always)]
    pub(super) fn wake(&self, left: Option<Leftover>, batch: &mut WakeBatch) -> Panics {
        let mut panics = Panics::of_drops(left);
        if !batch.is_empty() {
            panics.catch(|| batch.wake(|batch| self.core.lock().take_wakers(batch)));
        }
        panics
    }

    /// Closes the queue, and calls `refused` with each item that is parked, under the lock.
    pub(crate) fn close_each(&self, refused: impl FnMut(&mut T)) {
        let mut batch = WakeBatch::default();
        let mut core = self.core.lock();
        core.for_each_parked(refused);
        core.close(&mut batch);
        drop(core);
        self.wake(None, &mut batch).resume();
    }

    /// Removes all items, the parked ones too; their pushes resolve to stale keys.
    pub(crate) fn drain_all(&self) -> Vec<(P, T)> {
        let mut batch = WakeBatch::default();
        let mut core = self.core.lock();
        let removed = core.remove_all(&mut batch);
        unlock(core);
        // As in `take`.
        self.wake(None, &mut batch).discard();
        removed
    }

    /// Cancels a push that was parked, and returns its item unless that was admitted or popped.
    #[inline(never)]
    pub(super) fn cancel_push(&self, waiter: Waiter, item: u32) -> (Option<(P, T)>, Panics) {
        let mut batch = WakeBatch::default();
        let mut core = self.core.lock();
        let (offer, removed) = core.cancel_push(waiter, item, &mut batch);
        unlock(core);
        let mut panics = Panics::of_drops([removed]);
        panics.catch(|| self.wake(None, &mut batch).resume());
        (offer, panics)
    }

    /// Cancels a pop that waits or has a reservation.
    #[inline(never)]
    pub(super) fn cancel_pop(&self, waiter: Waiter) {
        let mut batch = WakeBatch::default();
        let mut core = self.core.lock();
        let left = core.leave(waiter);
        core.settle(&mut batch);
        drop(core);
        self.wake(left, &mut batch).resume();
    }
}

/// Unlocks after an item has left, and gives memory back if that left some unused.
#[inline(always)]
pub(super) fn unlock<P, T>(mut core: MutexGuard<'_, Core<P, T>>) {
    let surplus = core.take_surplus();
    drop(core);
    drop(surplus);
}
