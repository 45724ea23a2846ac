//! The way of a getter to its object.
//!
//! | a getter | is queued | drives |
//! |---|---|---|
//! | `New` | no | nothing: it was not polled yet, or panicked |
//! | `Waiting` | in `Waiting` | nothing |
//! | `Driving` | in `Adopting` | work that it has taken up |
//! | | in `Creating` | a creation of its own, and perhaps work that it has taken up |
//! | | no | the recycling of an object that it was given, and perhaps more |
//!
//! A getter that is served by an idle object at once, or waits and then collects one, takes a short cut. Any other poll
//! is a [`Turn`]: collect a grant, claim work, drive it, until one job has an object to hand out or there is nothing
//! left to do but wait. A job that ends first serves the getter; the others are left to the pool.

use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use super::core::{Fitness, Grant, Queue, Queued};
use super::job::{End, begin_recycling};
use super::object::{Object, OwnedObject, Pooled};
use super::turn::{Given, Hand, Served, Turn};
use super::{Manager, Pool};
use crate::arena::Key;
use crate::panic::Panics;
use crate::wait_list::{Removed, TaskWaker};

/// Future returned by [`Pool::get`].
///
/// # Cancel safety
///
/// Dropping it gives up its place among the waiting getters. An object that it was granted goes to the next getter.
/// Work that it drives, a creation or a recycling, stays pending in the pool, and the next getter takes it up; no
/// healthy object is destroyed. Forgetting it, or keeping it without polling it, may hold an object back.
///
/// # Panics
///
/// When it is polled after it was ready. A panic of the manager or of the drop of a discarded object comes out of the
/// poll; the getter has given up its place then, and may be polled again. So does a panic of the clock, after which it
/// has kept its place.
///
/// # Examples
///
/// ```
/// # stanchion::blocking::wait(async {
/// let pool = stanchion::Pool::from_objects([7]);
/// let lent = pool.get().await?;
/// let mut get = pool.get();
/// assert!(futures::poll!(&mut get).is_pending()); // has its place in the queue
/// drop(lent);
/// assert_eq!(*get.await?, 7);
/// # Ok::<(), stanchion::GetError<std::convert::Infallible>>(())
/// # }).unwrap();
/// ```
#[must_use = "futures do nothing unless polled"]
pub struct Get<'a, M: Manager>(Getting<&'a Pool<M>, M>);

/// Future returned by [`Pool::get_owned`].
///
/// # Cancel safety
///
/// As with [`Get`].
///
/// # Panics
///
/// As with [`Get`].
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = std::sync::Arc::new(stanchion::Pool::from_objects([7]));
/// let task = tokio::spawn(pool.get_owned()); // keeps the pool alive
/// assert_eq!(*task.await??, 7);
/// # Ok(())
/// # }
/// ```
#[must_use = "futures do nothing unless polled"]
pub struct GetOwned<M: Manager>(Getting<Arc<Pool<M>>, M>);

/// The error of a `get`.
///
/// # Examples
///
/// ```
/// use stanchion::{GetError, Manager, Pool};
///
/// struct Refuses;
///
/// impl Manager for Refuses {
///     type Object = ();
///     type Error = std::io::Error;
///
///     async fn create(&self) -> std::io::Result<()> {
///         Err(std::io::ErrorKind::ConnectionRefused.into())
///     }
/// }
///
/// # stanchion::blocking::wait(async {
/// let pool = Pool::builder(Refuses).build();
/// assert!(matches!(pool.get().await, Err(GetError::Create(_))));
/// pool.close();
/// assert!(matches!(pool.get().await, Err(GetError::Closed)));
/// # });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GetError<E> {
    /// The pool is closed.
    Closed,
    /// As many getters as the pool allows wait already.
    TooManyWaiting,
    /// No object could be created.
    Create(E),
}

/// The body of both futures.
struct Getting<H: Deref<Target = Pool<M>>, M: Manager> {
    /// `None` once it was ready.
    pool: Option<H>,
    getter: Getter<M>,
}

/// A getter between two polls.
pub(super) enum Getter<M: Manager> {
    New,
    Waiting(Key),
    Driving { ticket: u64, queued: Option<Queued>, hand: Hand<M> },
}

impl<H: Deref<Target = Pool<M>>, M: Manager> Getting<H, M> {
    fn new(pool: H) -> Self {
        Self { pool: Some(pool), getter: Getter::New }
    }

    #[inline(always)]
    fn poll<O>(
        &mut self,
        cx: &mut Context<'_>,
        hand_out: impl FnOnce(H, Box<Pooled<M>>) -> O,
    ) -> Poll<Result<O, GetError<M::Error>>> {
        let pool: &Pool<M> = self.pool.as_ref().expect("a future is not polled after it was ready");
        let served = ready!(self.getter.poll(pool, cx));
        let pool = self.pool.take().expect("the pool was there");
        Poll::Ready(served.map(|pooled| hand_out(pool, pooled)))
    }
}

impl<H: Deref<Target = Pool<M>>, M: Manager> Drop for Getting<H, M> {
    #[inline]
    fn drop(&mut self) {
        if let (Some(pool), false) = (&self.pool, matches!(self.getter, Getter::New)) {
            self.getter.abandon(pool);
        }
    }
}

impl<M: Manager> Getter<M> {
    #[inline(always)]
    fn poll(&mut self, pool: &Pool<M>, cx: &mut Context<'_>) -> Poll<Served<M>> {
        let now = pool.now();
        match self {
            Self::New => {
                let (ticket, given) = pool.take_idle(now);
                let Some((mut pooled, fitness)) = given else { return self.begin(pool, now, ticket, None, cx) };
                if pool.settings.hands_out(&mut pooled, fitness, now) {
                    return Poll::Ready(Ok(pooled));
                }
                self.begin(pool, now, ticket, Some((pooled, fitness)), cx)
            }
            Self::Waiting(key) => {
                let (mut removed, fitness) = ready!(poll_waiting(pool, *key, now, cx));
                *self = Self::New;
                match removed.grant.take() {
                    None => Poll::Ready(Err(GetError::Closed)),
                    Some(Grant::Object(mut pooled)) => {
                        if pool.settings.hands_out(&mut pooled, fitness, now) {
                            return Poll::Ready(Ok(pooled));
                        }
                        self.recycle(pool, now, (removed.need, false), (pooled, fitness), cx)
                    }
                    Some(grant) => {
                        let mut turn = Turn::new(pool, now, removed.need, false);
                        turn.accept(grant);
                        turn.run(self, None, cx)
                    }
                }
            }
            Self::Driving { .. } => Turn::resume(pool, now, self).run(self, None, cx),
        }
    }

    /// There was no idle object to hand out as it is.
    #[inline(never)]
    fn begin(
        &mut self,
        pool: &Pool<M>,
        now: Option<Instant>,
        ticket: u64,
        idle: Option<Given<M>>,
        cx: &mut Context<'_>,
    ) -> Poll<Served<M>> {
        if let Some(idle) = idle {
            return self.recycle(pool, now, (ticket, true), idle, cx);
        }
        let key = TaskWaker::cloned(cx.waker()).poll_with(|waker| {
            let mut state = pool.state.lock();
            if !state.must_wait(&pool.settings) {
                return Ok(None);
            }
            state.stats.waits += 1;
            Ok(Some(state.enqueue(Queue::Waiting, ticket, Some(waker.take()?))))
        });
        let Some(key) = key else { return Turn::new(pool, now, ticket, true).run(self, None, cx) };
        *self = Self::Waiting(key);
        Poll::Pending
    }

    /// Has an object that is to be recycled. Most often that is done at once, without a [`Turn`].
    fn recycle(
        &mut self,
        pool: &Pool<M>,
        now: Option<Instant>,
        (ticket, is_first): (u64, bool),
        (pooled, fitness): Given<M>,
        cx: &mut Context<'_>,
    ) -> Poll<Served<M>> {
        let turn = || Turn::new(pool, now, ticket, is_first);
        if fitness != Fitness::Unchecked {
            return turn().run(self, Some((pooled, fitness)), cx);
        }
        match begin_recycling(pooled, pool, now, cx) {
            Ok(End::Recycled(mut pooled)) => {
                pooled.metrics.recycled = now;
                Poll::Ready(Ok(pooled))
            }
            recycling => {
                let mut turn = turn();
                turn.follow(recycling)?;
                turn.run(self, None, cx)
            }
        }
    }

    #[inline(never)]
    fn abandon(&mut self, pool: &Pool<M>) {
        if let Self::Waiting(key) = *self {
            let mut state = pool.state.lock();
            let queue = state.queue(Queue::Waiting);
            if !queue.is_granted(key) {
                // No other getter can use what this one leaves.
                let removed = queue.remove(key);
                state.stats.abandoned += 1;
                drop(state);
                return Panics::of_drops(removed).resume();
            }
        }
        Turn::resume(pool, None, self).leave(|state| state.stats.abandoned += 1).resume();
    }
}

/// Collects what a waiting getter was granted. An object is judged.
#[inline(always)]
fn poll_waiting<M: Manager>(
    pool: &Pool<M>,
    key: Key,
    now: Option<Instant>,
    cx: &mut Context<'_>,
) -> Poll<(Removed<u64, Grant<M>>, Fitness)> {
    TaskWaker::new(cx.waker()).poll_with(|waker| {
        let mut state = pool.state.lock();
        Ok(state.queue(Queue::Waiting).poll(key, waker)?.map(|removed| {
            let fitness = match &removed.grant {
                Some(Grant::Object(pooled)) => state.judge(pooled, &pool.settings, now),
                _ => Fitness::Unchecked,
            };
            (removed, fitness)
        }))
    })
}

impl<'a, M: Manager> Get<'a, M> {
    #[inline]
    pub(super) fn new(pool: &'a Pool<M>) -> Self {
        Self(Getting::new(pool))
    }
}

impl<M: Manager> GetOwned<M> {
    #[inline]
    pub(super) fn new(pool: Arc<Pool<M>>) -> Self {
        Self(Getting::new(pool))
    }
}

impl<'a, M: Manager> Future for Get<'a, M> {
    type Output = Result<Object<'a, M>, GetError<M::Error>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.get_mut().0.poll(cx, Object::new)
    }
}

impl<M: Manager> Future for GetOwned<M> {
    type Output = Result<OwnedObject<M>, GetError<M::Error>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.get_mut().0.poll(cx, OwnedObject::new)
    }
}

impl<H: Deref<Target = Pool<M>>, M: Manager> Getting<H, M> {
    fn debug(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let queue = match &self.getter {
            Getter::New => None,
            Getter::Waiting(_) => Some(Queue::Waiting),
            Getter::Driving { queued, .. } => queued.map(|queued| queued.queue),
        };
        f.debug_struct(name).field("queue", &queue).finish_non_exhaustive()
    }
}

impl<M: Manager> fmt::Debug for Get<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.debug("Get", f)
    }
}

impl<M: Manager> fmt::Debug for GetOwned<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.debug("GetOwned", f)
    }
}

impl<E: fmt::Display> fmt::Display for GetError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the pool is closed"),
            Self::TooManyWaiting => f.write_str("too many getters wait for the pool already"),
            Self::Create(error) => write!(f, "the pool could not create an object: {error}"),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for GetError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Create(error) => Some(error),
            Self::Closed | Self::TooManyWaiting => None,
        }
    }
}
