//! Runs `recycle` again and again in the same memory.
//!
//! The future of `recycle` borrows the object and the manager, and whoever polls it may leave it to somebody else or drop
//! it; so it must own both, in a box. That box would be an allocation per use. Instead it is kept with the object: the
//! future in it is replaced, not the box. A manager without a `recycle` of its own pays for none of this.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;

use super::object::Pooled;
use super::{Leaving, Manager, Pool};
use crate::panic::Guarded;

/// The memory in which an object is recycled, and what runs there.
pub(super) struct Recycling<M: Manager>(Pin<Box<dyn Recycle<M>>>);

/// An object after `recycle`, and what came of that.
pub(super) type Recycled<M> = (Box<Pooled<M>>, Result<(), <M as Manager>::Error>);

impl<M: Manager> Recycling<M> {
    /// Begins to recycle an object, with the memory that it brings along; otherwise as [`run`](Self::run).
    #[inline(always)]
    pub(super) fn begin(mut pooled: Box<Pooled<M>>, pool: &Pool<M>, cx: &mut Context<'_>) -> Result<Recycled<M>, Self> {
        let this = pooled.recycling.get_mut().take().unwrap_or_else(|| Self::new(Arc::clone(&pool.manager)));
        this.drive(Some(pooled), pool, cx)
    }

    fn new(manager: Arc<M>) -> Self {
        Self(Box::pin(Reused { recycle: recycle::<M>, manager: Some(manager), running: None }))
    }

    /// Runs it on, and gives it back as an `Err` if it is still pending. After a panic the object's slot is free.
    #[inline(always)]
    pub(super) fn run(self, pool: &Pool<M>, cx: &mut Context<'_>) -> Result<Recycled<M>, Self> {
        self.drive(None, pool, cx)
    }

    #[inline(always)]
    fn drive(self, begin: Option<Box<Pooled<M>>>, pool: &Pool<M>, cx: &mut Context<'_>) -> Result<Recycled<M>, Self> {
        let mut leaving = Leaving::in_use(pool, self);
        match leaving.what().0.as_mut().poll(begin, cx) {
            Poll::Ready((mut pooled, outcome)) => {
                *pooled.recycling.get_mut() = Some(leaving.stays());
                Ok((pooled, outcome))
            }
            Poll::Pending => Err(leaving.stays()),
        }
    }
}

/// Recycles an object here and now, if the future of `recycle` is so small that it has captured nothing, not even the
/// object. The provided one is, and is ready at once; one that is not is begun again, in a box.
#[inline(always)]
pub(super) fn recycle_at_once<M: Manager>(
    pooled: Box<Pooled<M>>,
    pool: &Pool<M>,
    cx: &mut Context<'_>,
) -> Result<Recycled<M>, Box<Pooled<M>>> {
    let mut leaving = Leaving::in_use(pool, pooled);
    let Pooled { object, metrics, .. } = &mut **leaving.what();
    let outcome = poll_if_small(|| pool.manager.recycle(object, metrics), cx);
    match outcome {
        Poll::Ready(outcome) => Ok((leaving.stays(), outcome)),
        Poll::Pending => Err(leaving.stays()),
    }
}

fn poll_if_small<F: Future>(begin: impl FnOnce() -> F, cx: &mut Context<'_>) -> Poll<F::Output> {
    if size_of::<F>() <= 1 { pin!(begin()).poll(cx) } else { Poll::Pending }
}

async fn recycle<M: Manager>(
    manager: Arc<M>,
    pooled: Box<Pooled<M>>,
) -> (Arc<M>, Box<Pooled<M>>, Result<(), M::Error>) {
    // It is dropped if `recycle` panics.
    let mut guarded = Guarded(Some(pooled));
    let Pooled { object, metrics, .. } = guarded.0.as_deref_mut().expect("it is there until it is recycled");
    let outcome = manager.recycle(object, metrics).await;
    (manager, guarded.0.take().expect("it is there until it is recycled"), outcome)
}

trait Recycle<M: Manager>: Send {
    /// Runs it on, or begins with an object.
    fn poll(self: Pin<&mut Self>, begin: Option<Box<Pooled<M>>>, cx: &mut Context<'_>) -> Poll<Recycled<M>>;
}

pin_project! {
    struct Reused<M, R, F> {
        recycle: R,
        // Here while nothing runs.
        manager: Option<Arc<M>>,
        // Stays when it is through, until it is replaced.
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
    fn poll(self: Pin<&mut Self>, begin: Option<Box<Pooled<M>>>, cx: &mut Context<'_>) -> Poll<Recycled<M>> {
        let mut this = self.project();
        if let Some(pooled) = begin {
            let manager = this.manager.take().expect("nothing runs before it is begun");
            this.running.set(Some((this.recycle)(manager, pooled)));
        }
        let running = this.running.as_mut().as_pin_mut().expect("it is not polled before it is begun");
        let (manager, pooled, outcome) = ready!(running.poll(cx));
        *this.manager = Some(manager);
        Poll::Ready((pooled, outcome))
    }
}
