//! Futures that own their queue, and two calls for the task queue, on top of the borrowed ones.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::{Closed, Key, Pop, Popping, PriorityQueue, Push};
use crate::arena;
use crate::panic::drop_quietly;
use crate::wait_list::WakeBatch;

pub(crate) struct PushOwned<P, T> {
    queue: Arc<PriorityQueue<P, T>>,
    offer: Option<(P, T)>,
    parked: Option<(arena::Key, arena::Key)>,
}

pub(crate) struct PopOwned<P, T> {
    queue: Arc<PriorityQueue<P, T>>,
    waiter: Option<arena::Key>,
    done: bool,
}

impl<P, T> PriorityQueue<P, T> {
    pub(crate) fn push_owned(self: Arc<Self>, priority: P, item: T) -> PushOwned<P, T> {
        PushOwned { queue: self, offer: Some((priority, item)), parked: None }
    }

    pub(crate) fn pop_owned(self: Arc<Self>) -> PopOwned<P, T> {
        PopOwned { queue: self, waiter: None, done: false }
    }

    /// Closes the queue, and calls `refused` with each item that is parked, under the lock.
    pub(crate) fn close_each(&self, mut refused: impl FnMut(&mut T)) {
        let mut batch = WakeBatch::default();
        {
            let mut state = self.state.lock();
            let parked: Vec<_> = state.pushes.needs().copied().collect();
            for key in parked {
                refused(&mut state.items.get_mut(key).expect("a parked item is there").value);
            }
            state.close(&mut batch);
        }
        self.wake(None, &mut batch).resume();
    }

    /// Takes out all items, the parked ones too, whose pushes resolve to stale keys.
    pub(crate) fn drain_all(&self) -> Vec<(P, T)> {
        let mut batch = WakeBatch::default();
        let mut drained = Vec::new();
        {
            let mut state = self.state.lock();
            while !state.admitted.is_empty() {
                drained.append(&mut state.drain(self.capacity, &mut batch));
            }
        }
        self.wake(None, &mut batch).discard();
        drained
    }
}

impl<P, T> PushOwned<P, T> {
    pub(crate) fn into_inner(mut self) -> Option<(P, T)> {
        if let Some((waiter, item)) = self.parked.take() {
            let mut batch = WakeBatch::default();
            let mut state = self.queue.state.lock();
            let left = state.pushes.remove(waiter);
            let parked = left.as_ref().is_some_and(|left| left.grant.is_none());
            self.offer = parked.then(|| state.extract(item));
            // A pop may have a reservation for it.
            state.settle(&mut batch);
            drop(state);
            drop_quietly(left);
            self.queue.wake(None, &mut batch).discard();
        }
        self.offer.take()
    }
}

impl<P: Ord, T> Future for PushOwned<P, T> {
    type Output = Result<Key, Closed<(P, T)>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let mut push = Push { queue: &this.queue, offer: this.offer.take(), parked: this.parked.take() };
        let polled = Pin::new(&mut push).poll(cx);
        (this.offer, this.parked) = (push.offer.take(), push.parked.take());
        polled
    }
}

impl<P, T> Drop for PushOwned<P, T> {
    fn drop(&mut self) {
        drop(Push { queue: &self.queue, offer: self.offer.take(), parked: self.parked.take() });
    }
}

impl<P: Ord, T> Future for PopOwned<P, T> {
    type Output = Option<(P, T)>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let mut pop = Pop(Popping { queue: &this.queue, waiter: this.waiter.take(), done: this.done });
        let polled = Pin::new(&mut pop).poll(cx);
        (this.waiter, this.done) = (pop.0.waiter.take(), pop.0.done);
        polled
    }
}

impl<P, T> Drop for PopOwned<P, T> {
    fn drop(&mut self) {
        drop(Popping { queue: &self.queue, waiter: self.waiter.take(), done: self.done });
    }
}

impl<P, T> Unpin for PushOwned<P, T> {}
impl<P, T> Unpin for PopOwned<P, T> {}
