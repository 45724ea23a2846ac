//! Waiting for the end of a pool.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::{Manager, Pool};
use crate::panic::quiet;
use crate::sync::EventListener;

/// Future returned by [`Pool::closed`].
///
/// # Cancel safety
///
/// Dropping it has no effect on the pool.
///
/// # Deadlocks
///
/// Its waker is woken and dropped under a lock that only these futures share: the waker must not poll or drop another
/// one of the same pool. A panic of that waker is discarded.
///
/// # Panics
///
/// When it is polled after it was ready.
///
/// # Examples
///
/// ```
/// # stanchion::blocking::wait(async {
/// let pool = stanchion::Pool::from_objects([7]);
/// let lent = pool.get().await.unwrap();
/// pool.close();
/// let mut closed = pool.closed();
/// assert!(futures::poll!(&mut closed).is_pending()); // one object is in use
/// drop(lent);
/// closed.await;
/// assert_eq!(pool.status().size, 0);
/// # });
/// ```
#[must_use = "futures do nothing unless polled"]
pub struct PoolClosed<'a, M: Manager> {
    /// `None` once it was ready.
    pool: Option<&'a Pool<M>>,
    listener: Option<EventListener>,
}

impl<'a, M: Manager> PoolClosed<'a, M> {
    pub(super) fn new(pool: &'a Pool<M>) -> Self {
        Self { pool: Some(pool), listener: None }
    }
}

impl<M: Manager> Future for PoolClosed<'_, M> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let pool = self.pool.expect("a future is not polled after it was ready");
        while !pool.state.lock().is_drained() {
            let is_new = self.listener.is_none();
            let listener = self.listener.get_or_insert_with(|| pool.drained.listen());
            // A new one looks once more, so that it misses nothing.
            if !is_new {
                ready!(Pin::new(listener).poll(&mut Context::from_waker(&quiet(cx.waker()))));
                self.listener = None;
            }
        }
        (self.pool, self.listener) = (None, None);
        Poll::Ready(())
    }
}

impl<M: Manager> fmt::Debug for PoolClosed<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolClosed").field("waiting", &self.listener.is_some()).finish_non_exhaustive()
    }
}
