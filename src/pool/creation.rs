//! The right to create an object, and what has come of it so far.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::object::Pooled;
use super::{Leaving, Manager, Pool};
use crate::sync::Exclusive;

type Creating<M> = dyn Future<Output = Result<<M as Manager>::Object, <M as Manager>::Error>> + Send;

/// One slot, counted as `creating`. Whoever holds it polls it, or hands it on.
pub(super) struct Creation<M: Manager> {
    /// The generation that the object will belong to.
    pub(super) generation: u64,
    begun: Option<Exclusive<Pin<Box<Creating<M>>>>>,
    /// It was begun by another, and not polled since.
    adopted: bool,
}

impl<M: Manager> Creation<M> {
    pub(super) fn new(generation: u64) -> Self {
        Self { generation, begun: None, adopted: false }
    }

    pub(super) fn has_begun(&self) -> bool {
        self.begun.is_some()
    }

    /// A right that was not used yet is as good as a new one.
    pub(super) fn renewed(self, generation: u64) -> Self {
        if self.has_begun() { self } else { Self { generation, ..self } }
    }

    pub(super) fn adopted(self) -> Self {
        Self { adopted: self.has_begun(), ..self }
    }

    /// Runs it on, and gives it back as an `Err` if it is still pending.
    ///
    /// When it has ended, well or not, its slot is still counted as creating; after a panic it is free.
    pub(super) fn run(self, pool: &Pool<M>, cx: &mut Context<'_>) -> Result<Result<Box<Pooled<M>>, M::Error>, Self> {
        let mut leaving = Leaving::creating(pool, self);
        let Poll::Ready(outcome) = leaving.what().poll(&pool.manager, cx) else { return Err(leaving.stays()) };
        let generation = leaving.what().generation;
        leaving.what().begun = None;
        let outcome = outcome.map(|object| Box::new(Pooled::new(object, generation, pool.now())));
        leaving.stays();
        Ok(outcome)
    }

    /// A failure that nobody looked at when it happened may be an old one: then the creation is begun afresh, instead of
    /// letting the one who adopted it pay for it.
    fn poll(&mut self, manager: &Arc<M>, cx: &mut Context<'_>) -> Poll<Result<M::Object, M::Error>> {
        let adopted = std::mem::take(&mut self.adopted);
        let outcome = self.create(manager, cx);
        if adopted && matches!(outcome, Poll::Ready(Err(_))) {
            self.begun = None;
            return self.create(manager, cx);
        }
        outcome
    }

    fn create(&mut self, manager: &Arc<M>, cx: &mut Context<'_>) -> Poll<Result<M::Object, M::Error>> {
        let begun = self.begun.get_or_insert_with(|| {
            let manager = Arc::clone(manager);
            Exclusive::new(Box::pin(async move { manager.create().await }))
        });
        begun.get_mut().as_mut().poll(cx)
    }
}
