//! Runs `recycle` again and again in the same memory.
//!
//! The future of `recycle` borrows the object and the manager, and whoever polls it may leave it to somebody else or drop
//! it; so it must own both, in a box. That box would be an allocation per use. Instead it is kept with the object: the
//! future in it is replaced, not the box.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;

use super::object::Pooled;
use super::{Leaving, Manager, Pool};
use crate::sync::Exclusive;

/// The memory in which the objects of one slot are recycled, and what runs there.
pub(super) struct Recycling<M: Manager>(Exclusive<Pin<Box<dyn Recycle<M>>>>);

/// An object after `recycle`, and what came of that.
pub(super) type Recycled<M> = (Box<Pooled<M>>, Result<(), <M as Manager>::Error>);

impl<M: Manager> Recycling<M> {
    /// Begins to recycle an object, with the memory that it brings along.
    pub(super) fn begin(mut pooled: Box<Pooled<M>>, manager: &Arc<M>) -> Self {
        let mut this = pooled.recycling.take().unwrap_or_else(|| Self::new(Arc::clone(manager)));
        this.0.get_mut().as_mut().begin(pooled);
        this
    }

    fn new(manager: Arc<M>) -> Self {
        Self(Exclusive::new(Box::pin(Reused { recycle: recycle::<M>, manager: Some(manager), running: None })))
    }

    /// Runs it on; it stays where it is as long as it is pending. After a panic the object's slot is free.
    #[inline]
    pub(super) fn run(place: &mut Option<Self>, pool: &Pool<M>, cx: &mut Context<'_>) -> Poll<Recycled<M>> {
        // Declared before what it is to outlive.
        let leaving = Leaving { pool, in_use: 1, creating: 0 };
        let mut this = place.take().expect("there is something to be run");
        let outcome = match this.0.get_mut().as_mut().poll(cx) {
            Poll::Pending => {
                *place = Some(this);
                Poll::Pending
            }
            Poll::Ready((mut pooled, outcome)) => {
                pooled.recycling = Some(this);
                Poll::Ready((pooled, outcome))
            }
        };
        leaving.stays();
        outcome
    }
}

async fn recycle<M: Manager>(
    manager: Arc<M>,
    mut pooled: Box<Pooled<M>>,
) -> (Arc<M>, Box<Pooled<M>>, Result<(), M::Error>) {
    let Pooled { object, metrics, .. } = &mut *pooled;
    let outcome = manager.recycle(object, metrics).await;
    (manager, pooled, outcome)
}

trait Recycle<M: Manager>: Send {
    fn begin(self: Pin<&mut Self>, pooled: Box<Pooled<M>>);
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Recycled<M>>;
}

pin_project! {
    struct Reused<M, R, F> {
        recycle: R,
        // Here while nothing runs.
        manager: Option<Arc<M>>,
        #[pin]
        running: Option<F>,
    }
}

impl<M, R, F> Recycle<M> for Reused<M, R, F>
where
    M: Manager,
    R: Fn(Arc<M>, Box<Pooled<M>>) -> F + Send,
    F: Future<Output = (Arc<M>, Box<Pooled<M>>, Result<(), M::Error>)> + Send,
{
    #[inline]
    fn begin(self: Pin<&mut Self>, pooled: Box<Pooled<M>>) {
        let mut this = self.project();
        let manager = this.manager.take().expect("nothing runs before it is begun");
        this.running.set(Some((this.recycle)(manager, pooled)));
    }

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Recycled<M>> {
        let mut this = self.project();
        let running = this.running.as_mut().as_pin_mut().expect("it is not polled before it is begun");
        let (manager, pooled, outcome) = ready!(running.poll(cx));
        this.running.set(None);
        *this.manager = Some(manager);
        Poll::Ready((pooled, outcome))
    }
}
