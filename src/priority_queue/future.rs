//! The futures of the priority queue. Borrowed and owned ones are the same, but for their handle to the queue.

use std::fmt;
use std::future::Future;
use std::mem::replace;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::core::Refusal;
use super::unlock::unlock;
use super::{Closed, Key, PriorityQueue, Waiter};
use crate::panic::Panics;
use crate::wait_list::{NeedsClone, TaskWaker, WakeBatch};

/// Future returned by [`PriorityQueue::push`].
///
/// # Cancel safety
///
/// Dropping it drops an item that was not admitted yet; an admitted one stays in the queue. Nothing happens before the
/// first poll.
///
/// # Panics
///
/// When it is polled after it was ready.
///
/// # Examples
///
/// ```
/// # stanchion::blocking::wait(async {
/// let queue = stanchion::PriorityQueue::bounded(1);
/// queue.push(1, "in").await?;
/// let mut push = queue.push(1, "next");
/// assert!(futures::poll!(&mut push).is_pending()); // has its place in the queue
/// assert_eq!(queue.pop().await, Some((1, "in"))); // makes room
/// push.await?;
/// assert_eq!(queue.len(), 1);
/// # Ok::<(), stanchion::Closed<(i32, &str)>>(())
/// # }).unwrap();
/// ```
#[must_use = "futures do nothing unless polled"]
pub struct Push<'a, P, T>(pub(super) Pushing<&'a PriorityQueue<P, T>, P, T>);

/// Future returned by [`PriorityQueue::push_owned`]: a [`Push`] that owns a handle to the queue.
///
/// # Examples
///
/// ```
/// # stanchion::blocking::wait(async {
/// use stanchion::{PriorityQueue, PushOwned};
/// use std::sync::Arc;
///
/// struct Sending(PushOwned<u8, &'static str>);
///
/// let queue = Arc::new(PriorityQueue::unbounded());
/// let sending = Sending(queue.clone().push_owned(1, "job"));
/// sending.0.await.unwrap();
/// assert_eq!(queue.pop().await, Some((1, "job")));
/// # });
/// ```
#[must_use = "futures do nothing unless polled"]
pub struct PushOwned<P, T>(pub(super) Pushing<Arc<PriorityQueue<P, T>>, P, T>);

/// Future returned by [`PriorityQueue::pop`].
///
/// # Cancel safety
///
/// Dropping it takes no item and gives its place up; a reservation goes to the next waiting pop. Forgetting it, or
/// keeping it without polling it, may hold an item back.
///
/// # Panics
///
/// When it is polled after it was ready.
///
/// # Examples
///
/// ```
/// # stanchion::blocking::wait(async {
/// let queue = stanchion::PriorityQueue::unbounded();
/// let mut pop = queue.pop();
/// assert!(futures::poll!(&mut pop).is_pending()); // has its place in the queue
/// queue.push(1, "job").await?;
/// assert!(queue.try_pop().is_err()); // reserved
/// assert_eq!(pop.await, Some((1, "job")));
/// # Ok::<(), stanchion::Closed<(i32, &str)>>(())
/// # }).unwrap();
/// ```
#[must_use = "futures do nothing unless polled"]
pub struct Pop<'a, P, T>(pub(super) Popping<&'a PriorityQueue<P, T>, P, T>);

/// Future returned by [`PriorityQueue::pop_owned`]: a [`Pop`] that owns a handle to the queue.
///
/// # Examples
///
/// A struct that is a stream of items:
///
/// ```
/// # async fn example() {
/// use futures::{Stream, StreamExt};
/// use stanchion::{PopOwned, PriorityQueue};
/// use std::pin::Pin;
/// use std::sync::Arc;
/// use std::task::{Context, Poll, ready};
///
/// struct Items {
///     queue: Arc<PriorityQueue<u8, &'static str>>,
///     pop: PopOwned<u8, &'static str>,
/// }
///
/// impl Stream for Items {
///     type Item = (u8, &'static str);
///
///     fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
///         let item = ready!(Pin::new(&mut self.pop).poll(cx));
///         self.pop = self.queue.clone().pop_owned();
///         Poll::Ready(item)
///     }
/// }
///
/// let queue = Arc::new(PriorityQueue::unbounded());
/// let mut items = Items { pop: queue.clone().pop_owned(), queue: queue.clone() };
/// queue.try_push(1, "a").unwrap();
/// assert_eq!(items.next().await, Some((1, "a")));
/// # }
/// # stanchion::blocking::wait(example());
/// ```
#[must_use = "futures do nothing unless polled"]
pub struct PopOwned<P, T>(pub(super) Popping<Arc<PriorityQueue<P, T>>, P, T>);

/// Future returned by [`PriorityQueue::pop_many`].
///
/// # Cancel safety
///
/// As that of [`Pop`]: until it is ready the `Vec` is unchanged.
///
/// # Panics
///
/// When it is polled after it was ready.
///
/// # Examples
///
/// ```
/// # stanchion::blocking::wait(async {
/// let queue = stanchion::PriorityQueue::unbounded();
/// queue.push(1, "a").await?;
/// queue.push(2, "b").await?;
/// let mut batch = Vec::with_capacity(100);
/// assert_eq!(queue.pop_many(&mut batch, 100).await, 2); // does not wait for more
/// assert_eq!(batch, [(2, "b"), (1, "a")]);
/// # Ok::<(), stanchion::Closed<(i32, &str)>>(())
/// # }).unwrap();
/// ```
#[must_use = "futures do nothing unless polled"]
pub struct PopMany<'a, P, T> {
    pub(super) popping: Popping<&'a PriorityQueue<P, T>, P, T>,
    pub(super) into: &'a mut Vec<(P, T)>,
    pub(super) limit: usize,
}

pub(super) struct Pushing<Q: Deref<Target = PriorityQueue<P, T>>, P, T> {
    queue: Q,
    state: PushState<P, T>,
}

enum PushState<P, T> {
    Offered(P, T),
    /// The waiter and the item, which may have been served or refused since the last poll.
    Parked(Waiter, u32),
    Done,
}

pub(super) struct Popping<Q: Deref<Target = PriorityQueue<P, T>>, P, T> {
    queue: Q,
    state: PopState,
}

#[derive(Clone, Copy)]
enum PopState {
    New,
    /// Waits, or has a reservation.
    Waiting(Waiter),
    Done,
}

type Pushed<P, T> = Result<Key, Closed<(P, T)>>;

impl<Q: Deref<Target = PriorityQueue<P, T>>, P, T> Pushing<Q, P, T> {
    pub(super) fn new(queue: Q, priority: P, item: T) -> Self {
        Self { queue, state: PushState::Offered(priority, item) }
    }

    #[inline(always)]
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Pushed<P, T>>
    where
        P: Ord,
    {
        let Self { queue, state } = self;
        if let PushState::Offered(priority, _) = state {
            let mut core = queue.core.lock();
            match core.find_room(priority) {
                Ok(vacancy) => {
                    let key = core.admit(vacancy, state.take_offer());
                    queue.serve(core);
                    return Poll::Ready(Ok(key));
                }
                Err(Refusal::Closed) => return Poll::Ready(Err(Closed(state.take_offer()))),
                Err(Refusal::Full) => {}
            }
        }
        self.wait(cx)
    }

    #[inline(never)]
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Pushed<P, T>>
    where
        P: Ord,
    {
        let mut batch = WakeBatch::default();
        let waker = match self.state {
            PushState::Offered(..) => TaskWaker::cloned(cx.waker()),
            PushState::Parked(..) => TaskWaker::new(cx.waker()),
            PushState::Done => panic!("a future is not polled after it was ready"),
        };
        let outcome = waker.poll_with(|waker| self.attempt(waker, &mut batch));
        let panics = self.queue.wake(None, &mut batch);
        if let Poll::Ready(Err(_)) = outcome {
            // A panic of another task's waker would cost the caller the item.
            panics.discard();
        } else {
            panics.resume();
        }
        outcome
    }

    fn attempt(&mut self, waker: &mut TaskWaker<'_>, batch: &mut WakeBatch) -> Result<Poll<Pushed<P, T>>, NeedsClone>
    where
        P: Ord,
    {
        let Self { queue, state } = self;
        let mut core = queue.core.lock();
        match state {
            PushState::Offered(priority, _) => match core.find_room(priority) {
                Ok(vacancy) => {
                    let key = core.admit(vacancy, state.take_offer());
                    core.settle(batch);
                    Ok(Poll::Ready(Ok(key)))
                }
                Err(Refusal::Closed) => Ok(Poll::Ready(Err(Closed(state.take_offer())))),
                Err(Refusal::Full) => {
                    let vacancy = core.find_parking(priority);
                    let waker = waker.take()?;
                    let (waiter, item) = core.park(vacancy, state.take_offer(), waker, batch);
                    *state = PushState::Parked(waiter, item);
                    Ok(Poll::Pending)
                }
            },
            &mut PushState::Parked(waiter, item) => {
                let Poll::Ready((removed, refused)) = core.poll_push(waiter, item, waker)? else {
                    return Ok(Poll::Pending);
                };
                *state = PushState::Done;
                unlock(core);
                Ok(Poll::Ready(match refused {
                    Some(offer) => Err(Closed(offer)),
                    None => Ok(removed.grant.expect("a push that was not refused is granted its key")),
                }))
            }
            PushState::Done => unreachable!("checked before"),
        }
    }

    /// Cancels the push, and returns its item unless that was admitted or popped.
    fn cancel(&mut self) -> (Option<(P, T)>, Panics) {
        match replace(&mut self.state, PushState::Done) {
            PushState::Offered(priority, item) => (Some((priority, item)), Panics::default()),
            PushState::Parked(waiter, item) => self.queue.cancel_push(waiter, item),
            PushState::Done => (None, Panics::default()),
        }
    }

    fn into_inner(mut self) -> Option<(P, T)> {
        let (offer, panics) = self.cancel();
        // A panic of another task's waker would cost the caller the item.
        panics.discard();
        offer
    }
}

impl<P, T> PushState<P, T> {
    #[inline(always)]
    fn take_offer(&mut self) -> (P, T) {
        match replace(self, Self::Done) {
            Self::Offered(priority, item) => (priority, item),
            _ => unreachable!("an offer is there until it is taken"),
        }
    }
}

impl<Q: Deref<Target = PriorityQueue<P, T>>, P, T> Drop for Pushing<Q, P, T> {
    #[inline]
    fn drop(&mut self) {
        if let PushState::Parked(..) = self.state {
            let (offer, mut panics) = self.cancel();
            panics.catch(|| drop(offer));
            panics.resume();
        }
    }
}

impl<Q: Deref<Target = PriorityQueue<P, T>>, P, T> Popping<Q, P, T> {
    pub(super) fn new(queue: Q) -> Self {
        Self { queue, state: PopState::New }
    }

    /// Pops at least one item and at most `limit`, and returns their number; 0 once the queue is closed and drained.
    #[inline(always)]
    fn poll(&mut self, cx: &mut Context<'_>, limit: usize, mut sink: impl FnMut((P, T))) -> Poll<usize>
    where
        P: Ord,
    {
        let (mut taken, mut is_done, mut is_entitled) = (0, limit == 0, true);
        if let PopState::New = self.state {
            let mut core = self.queue.core.lock();
            while taken < limit {
                let Some(popped) = core.pop_alone() else { break };
                sink(popped);
                taken += 1;
            }
            is_done |= core.is_drained();
            is_entitled = core.has_unreserved();
            unlock(core);
            if taken > 0 || is_done {
                self.state = PopState::Done;
                return Poll::Ready(taken);
            }
        }
        self.wait(cx, is_entitled, limit, sink)
    }

    #[inline(never)]
    fn wait(
        &mut self,
        cx: &mut Context<'_>,
        is_entitled: bool,
        limit: usize,
        mut sink: impl FnMut((P, T)),
    ) -> Poll<usize>
    where
        P: Ord,
    {
        assert!(!matches!(self.state, PopState::Done), "a future is not polled after it was ready");
        let mut batch = WakeBatch::default();
        let mut panics = Panics::default();
        let waker = if is_entitled { TaskWaker::new(cx.waker()) } else { TaskWaker::cloned(cx.waker()) };
        let taken = waker.poll_with(|waker| self.attempt(waker, limit, &mut sink, &mut batch, &mut panics));
        if taken.is_ready() {
            self.state = PopState::Done;
        }
        // A panic of another task's waker would cost the caller the items.
        self.queue.wake(None, &mut batch).discard();
        panics.resume();
        taken
    }

    fn attempt(
        &mut self,
        waker: &mut TaskWaker<'_>,
        limit: usize,
        sink: &mut impl FnMut((P, T)),
        batch: &mut WakeBatch,
        panics: &mut Panics,
    ) -> Result<Poll<usize>, NeedsClone>
    where
        P: Ord,
    {
        let mut waiter = if let PopState::Waiting(waiter) = self.state { Some(waiter) } else { None };
        let mut core = self.queue.core.lock();
        if !core.is_entitled(waiter) {
            let polled = core.wait(&mut waiter, waker)?;
            drop(core);
            self.state = waiter.map_or(PopState::New, PopState::Waiting);
            return Ok(polled.map(|_left| 0));
        }
        let plan = core.plan_pop();
        let mut left = waiter.and_then(|waiter| core.leave(waiter));
        waker.discard(left.as_mut().and_then(|(removed, _)| removed.waker.take()));
        sink(core.remove(plan, batch));
        let mut taken = 1;
        while taken < limit && core.has_unreserved() {
            // Caught, since other waiters are to be woken for what has been taken already.
            let mut plan = None;
            panics.catch(|| plan = Some(core.plan_pop()));
            let Some(plan) = plan else { break };
            sink(core.remove(plan, batch));
            taken += 1;
        }
        unlock(core);
        Ok(Poll::Ready(taken))
    }
}

impl<Q: Deref<Target = PriorityQueue<P, T>>, P, T> Drop for Popping<Q, P, T> {
    #[inline]
    fn drop(&mut self) {
        if let PopState::Waiting(waiter) = self.state {
            self.queue.cancel_pop(waiter);
        }
    }
}

impl<P, T> PopOwned<P, T> {
    /// Waits for another item after it was ready, without another count of the `Arc`. For the workers of the task
    /// queue.
    pub(crate) fn restart(&mut self) {
        debug_assert!(matches!(self.0.state, PopState::Done), "only a pop that was ready is restarted");
        self.0.state = PopState::New;
    }
}

// Priorities and items are moved out of the futures that hold them, never pinned.
impl<Q: Deref<Target = PriorityQueue<P, T>>, P, T> Unpin for Pushing<Q, P, T> {}
impl<Q: Deref<Target = PriorityQueue<P, T>>, P, T> Unpin for Popping<Q, P, T> {}

/// The public faces of the two kinds of handle.
macro_rules! futures {
    ($Push:ident, $Pop:ident $(, $lifetime:lifetime)?) => {
        impl<$($lifetime,)? P, T> $Push<$($lifetime,)? P, T> {
            /// Cancels the push and returns its item; `None` if that was admitted or popped, or given back already.
            ///
            /// Also after `close`, as long as the push was not polled to its end.
            ///
            /// # Examples
            ///
            /// ```
            /// use stanchion::{PriorityQueue, blocking};
            /// use std::sync::Arc;
            /// use std::time::Duration;
            ///
            /// let queue = Arc::new(PriorityQueue::bounded(1));
            /// queue.try_push(1, "in").unwrap();
            /// let mut push = queue.clone().push_owned(1, "order");
            /// let timed_out = blocking::wait_timeout(&mut push, Duration::from_millis(1));
            /// assert!(timed_out.is_err());
            /// assert_eq!(push.into_inner(), Some((1, "order")));
            /// ```
            pub fn into_inner(self) -> Option<(P, T)> {
                self.0.into_inner()
            }
        }

        impl<$($lifetime,)? P: Ord, T> Future for $Push<$($lifetime,)? P, T> {
            type Output = Result<Key, Closed<(P, T)>>;

            #[inline]
            fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
                self.0.poll(cx)
            }
        }

        impl<$($lifetime,)? P: Ord, T> Future for $Pop<$($lifetime,)? P, T> {
            type Output = Option<(P, T)>;

            #[inline]
            fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
                let mut popped = None;
                self.0.poll(cx, 1, |item| popped = Some(item)).map(|_| popped)
            }
        }

        impl<$($lifetime,)? P, T> fmt::Debug for $Push<$($lifetime,)? P, T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let is_waiting = matches!(self.0.state, PushState::Parked(..));
                f.debug_struct(stringify!($Push)).field("waiting", &is_waiting).finish_non_exhaustive()
            }
        }

        impl<$($lifetime,)? P, T> fmt::Debug for $Pop<$($lifetime,)? P, T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let is_waiting = matches!(self.0.state, PopState::Waiting(_));
                f.debug_struct(stringify!($Pop)).field("waiting", &is_waiting).finish_non_exhaustive()
            }
        }
    };
}

futures!(Push, Pop, 'a);
futures!(PushOwned, PopOwned);

impl<P: Ord, T> Future for PopMany<'_, P, T> {
    type Output = usize;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<usize> {
        let Self { popping, into, limit } = self.get_mut();
        popping.poll(cx, *limit, |item| into.push(item))
    }
}

impl<P, T> fmt::Debug for PopMany<'_, P, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_waiting = matches!(self.popping.state, PopState::Waiting(_));
        f.debug_struct("PopMany").field("limit", &self.limit).field("waiting", &is_waiting).finish_non_exhaustive()
    }
}
