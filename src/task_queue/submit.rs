//! Submits that wait, and tasks that come back.
//!
//! A submit boxes, counts and pushes its task at its first poll. It is ready with a handle when the task is admitted or
//! popped, and with the task when the queue refuses it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use super::TaskQueue;
use super::task::{self, SharedOutcome, Task, TaskHandle};
use crate::priority_queue::{Closed, PriorityQueue, PushOwned};
use crate::sync::Exclusive;

/// Future returned by [`TaskQueue::submit`].
///
/// It keeps the queue alive.
///
/// # Cancel safety
///
/// Dropping it drops the task, unless that was admitted or begun. [`into_inner`](Self::into_inner) gives it back
/// instead.
///
/// # Panics
///
/// When it is polled after it was ready.
///
/// # Examples
///
/// ```
/// # stanchion::blocking::wait(async {
/// let queue = stanchion::TaskQueue::bounded(1);
/// queue.submit(1, async {}).await.unwrap().detach();
/// let mut submit = queue.submit(1, async { 7 });
/// assert!(futures::poll!(&mut submit).is_pending()); // has its place in the queue
/// queue.run_one().await; // makes room
/// let task = submit.await.unwrap();
/// queue.run_one().await;
/// assert_eq!(task.await.unwrap(), 7);
/// # });
/// ```
#[must_use = "futures do nothing unless polled"]
pub struct Submit<P, F: Future> {
    /// `None` from its first poll on.
    offer: Option<(TaskQueue<P>, P, F)>,
    /// `Some` from its first poll until it is ready.
    pushed: Option<Pushed<P, F::Output>>,
}

struct Pushed<P, R> {
    push: PushOwned<P, Task>,
    queue: Weak<PriorityQueue<P, Task>>,
    outcome: SharedOutcome<R>,
}

/// A task that was not accepted: its priority and its future.
///
/// It may be shared between threads even if the future may not, so that `?` works on the errors that carry it.
///
/// # Examples
///
/// ```
/// # stanchion::blocking::wait(async {
/// use stanchion::{Closed, TaskQueue};
///
/// let queue = TaskQueue::unbounded();
/// queue.close();
/// let Err(Closed(refused)) = queue.submit(1, async { 7 }).await else { unreachable!() };
/// let (priority, future) = refused.into_inner();
/// assert_eq!((priority, future.await), (1, 7));
/// # });
/// ```
pub struct Refused<P, F>(Exclusive<(P, F)>);

/// The error of [`TaskQueue::try_submit`], with the task.
///
/// # Examples
///
/// ```
/// use stanchion::{TaskQueue, TrySubmitError};
///
/// let queue = TaskQueue::bounded(1);
/// queue.try_submit(1, async {}).unwrap().detach();
/// assert!(matches!(queue.try_submit(2, async {}), Err(TrySubmitError::Full(_))));
/// queue.close();
/// assert!(matches!(queue.try_submit(2, async {}), Err(TrySubmitError::Closed(_))));
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum TrySubmitError<T> {
    /// The queue is full.
    Full(T),
    /// The queue is closed.
    Closed(T),
}

impl<P, F> Submit<P, F>
where
    P: Ord + Send + 'static,
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    pub(super) fn new(queue: TaskQueue<P>, priority: P, future: F) -> Self {
        Self { offer: Some((queue, priority, future)), pushed: None }
    }

    /// Gives the submit up and returns priority and future; `None` once the task was admitted or begun.
    ///
    /// # Examples
    ///
    /// Waiting for room for a limited time, and keeping the task:
    ///
    /// ```
    /// use stanchion::TaskQueue;
    /// use std::time::Duration;
    /// use tokio::time::timeout;
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let queue = TaskQueue::bounded(1);
    /// queue.try_submit(1, async {}).unwrap().detach();
    ///
    /// let mut submit = queue.submit(1, async { 7 });
    /// if timeout(Duration::from_millis(1), &mut submit).await.is_err() {
    ///     let (_, future) = submit.into_inner().expect("it was not admitted");
    ///     assert_eq!(future.await, 7);
    /// }
    /// # });
    /// ```
    #[must_use = "the task is dropped with the value returned"]
    pub fn into_inner(self) -> Option<(P, F)> {
        let Self { offer, pushed } = self;
        match (offer, pushed) {
            (Some((_, priority, future)), _) => Some((priority, future)),
            (None, Some(Pushed { push, .. })) => {
                push.into_inner().map(|(priority, task)| (priority, task::reclaim(task)))
            }
            (None, None) => None,
        }
    }
}

impl<P, F> Future for Submit<P, F>
where
    P: Ord + Send + 'static,
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    type Output = Result<TaskHandle<P, F::Output>, Closed<Refused<P, F>>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { offer, pushed } = self.get_mut();
        if let Some((queue, priority, future)) = offer.take() {
            let TaskQueue { queue, activity } = queue;
            let (task, outcome) = task::new(future, activity);
            let weak = Arc::downgrade(&queue);
            *pushed = Some(Pushed { push: queue.push_owned(priority, task), queue: weak, outcome });
        }
        let Pushed { push, .. } = pushed.as_mut().expect("a future is not polled after it was ready");
        let result = ready!(Pin::new(push).poll(cx));
        let Pushed { queue, outcome, .. } = pushed.take().expect("it was pushed");
        Poll::Ready(match result {
            Ok(key) => Ok(TaskHandle::new(queue, key, outcome)),
            Err(Closed(refused)) => Err(Closed(Refused::new(refused))),
        })
    }
}

// Priority and future are moved into the task, and never pinned before.
impl<P, F: Future> Unpin for Submit<P, F> {}

impl<P, F> Refused<P, F> {
    /// Takes the future out of a task that is its own.
    pub(super) fn new((priority, task): (P, Task)) -> Self
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        Self(Exclusive::new((priority, task::reclaim(task))))
    }

    /// Returns priority and future.
    ///
    /// # Examples
    ///
    /// ```
    /// let queue = stanchion::TaskQueue::unbounded();
    /// queue.close();
    /// let refused = queue.force_submit(1, async {}).unwrap_err().0;
    /// assert_eq!(refused.into_inner().0, 1);
    /// ```
    #[must_use]
    pub fn into_inner(self) -> (P, F) {
        self.0.into_inner()
    }
}

impl<T> TrySubmitError<T> {
    /// Returns the task.
    ///
    /// # Examples
    ///
    /// ```
    /// let queue = stanchion::TaskQueue::unbounded();
    /// queue.close();
    /// let refused = queue.try_submit(1, async {}).unwrap_err().into_inner();
    /// assert_eq!(refused.into_inner().0, 1);
    /// ```
    #[must_use]
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(task) | Self::Closed(task) => task,
        }
    }
}

impl<P, F: Future> fmt::Debug for Submit<P, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Submit").field("waiting", &self.pushed.is_some()).finish_non_exhaustive()
    }
}

impl<P, F> fmt::Debug for Refused<P, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refused").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for TrySubmitError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Full(_) => "Full",
            Self::Closed(_) => "Closed",
        };
        f.debug_tuple(name).finish_non_exhaustive()
    }
}

impl<T> fmt::Display for TrySubmitError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "the queue is full",
            Self::Closed(_) => "the queue is closed",
        })
    }
}

impl<T> std::error::Error for TrySubmitError<T> {}
