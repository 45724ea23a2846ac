//! The right to create an object, and what has come of it so far.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use super::object::Pooled;
use super::{Leaving, Manager, Pool};

type Creating<M> = dyn Future<Output = Result<<M as Manager>::Object, <M as Manager>::Error>> + Send;

/// One slot, counted as `creating`. Whoever holds it polls it, or hands it on.
pub(super) struct Creation<M: Manager> {
    /// The generation that the object will belong to, once it is begun.
    pub(super) generation: u64,
    begun: Option<Pin<Box<Creating<M>>>>,
    /// It was begun by another, and not polled since.
    adopted: bool,
    /// When it was first seen to rest in the pool, if there is a limit to that.
    pub(super) rests_since: Option<Instant>,
}

/// What a creation has come to.
pub(super) enum Progress<M: Manager> {
    Pending(Creation<M>),
    Created(Box<Pooled<M>>),
    /// Created while nobody looked, for all that is known a long time ago.
    Found(Box<Pooled<M>>),
    Failed(M::Error),
}

impl<M: Manager> Creation<M> {
    pub(super) fn new() -> Self {
        Self { generation: 0, begun: None, adopted: false, rests_since: None }
    }

    pub(super) fn has_begun(&self) -> bool {
        self.begun.is_some()
    }

    pub(super) fn adopted(self) -> Self {
        Self { adopted: self.has_begun(), rests_since: None, ..self }
    }

    /// Runs it on. When it has ended, well or not, its slot is still counted as creating; after a panic it is free.
    pub(super) fn run(self, pool: &Pool<M>, cx: &mut Context<'_>) -> Progress<M> {
        let mut leaving = Leaving::creating(pool, self);
        let Poll::Ready(outcome) = leaving.what().poll(pool, cx) else { return Progress::Pending(leaving.stays()) };
        let Self { generation, adopted, .. } = *leaving.what();
        leaving.what().begun = None;
        let outcome = outcome.map(|object| pool.boxed(object, generation));
        leaving.stays();
        match outcome {
            Ok(mut pooled) if adopted => {
                pooled.idle_since = None; // nobody knows
                Progress::Found(pooled)
            }
            Ok(pooled) => Progress::Created(pooled),
            Err(error) => Progress::Failed(error),
        }
    }

    /// A failure that nobody looked at when it happened may be an old one: then the creation is begun afresh, instead of
    /// letting the one who adopted it pay for it.
    fn poll(&mut self, pool: &Pool<M>, cx: &mut Context<'_>) -> Poll<Result<M::Object, M::Error>> {
        let outcome = self.create(pool, cx);
        if self.adopted && matches!(outcome, Poll::Ready(Err(_))) {
            *self = Self::new();
            return self.create(pool, cx);
        }
        self.adopted &= outcome.is_ready();
        outcome
    }

    fn create(&mut self, pool: &Pool<M>, cx: &mut Context<'_>) -> Poll<Result<M::Object, M::Error>> {
        if self.begun.is_none() {
            // Only now: the pool may have been cleared since this right was given.
            self.generation = pool.state.lock().generation;
        }
        let begun = self.begun.get_or_insert_with(|| {
            let manager = Arc::clone(&pool.manager);
            Box::pin(async move { manager.create().await })
        });
        begun.as_mut().poll(cx)
    }
}
