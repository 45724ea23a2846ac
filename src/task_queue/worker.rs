//! Workers: the loop that pops a task, drives it to its end, and goes on with the next.
//!
//! A [`RunOne`] goes through it once. Before each task a worker asks its shutdown, if it has one, and after so many
//! tasks within one poll it yields to its executor.

use std::fmt;
use std::future::{Future, Pending, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;

use super::task::Task;
use crate::panic::drop_quietly;
use crate::priority_queue::{PopOwned, PriorityQueue};

/// Tasks that a worker ends within one poll before it yields to its executor: as many steps as tokio's budget has.
const BUDGET: usize = 128;

/// Future returned by [`TaskQueue::run`](crate::TaskQueue::run): a worker.
///
/// # Cancel safety
///
/// Dropping it cancels the task that it is running. One that it has not begun stays in the queue.
///
/// # Panics
///
/// When it is polled after it was ready.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use stanchion::{Run, TaskQueue};
///
/// let queue = TaskQueue::unbounded();
/// let worker: Run = queue.clone().run(); // one type for all priorities
/// let worker = tokio::spawn(worker);
/// assert_eq!(queue.submit(1, async { 7 }).await?.await?, 7);
/// queue.close();
/// worker.await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "futures do nothing unless polled"]
pub struct Run(RunUntil<Pending<()>>);

pin_project! {
    /// Future returned by [`TaskQueue::run_until`](crate::TaskQueue::run_until): a worker with a shutdown.
    ///
    /// # Cancel safety
    ///
    /// Dropping it cancels the task that it is running. One that it has not begun stays in the queue.
    ///
    /// # Panics
    ///
    /// When the shutdown does, and when it is polled after it was ready.
    ///
    /// # Examples
    ///
    /// ```
    /// # stanchion::blocking::wait(async {
    /// let queue = stanchion::TaskQueue::unbounded();
    /// let task = queue.submit(1, async {}).await.unwrap();
    /// let shutdown = std::future::ready(());
    /// queue.run_until(shutdown).await; // takes no task
    /// assert!(task.await.is_err()); // the last handle to the queue has gone
    /// # });
    /// ```
    #[must_use = "futures do nothing unless polled"]
    pub struct RunUntil<S> {
        // `None` once it has ended.
        steps: Option<Box<dyn Steps + Send>>,
        #[pin]
        shutdown: S,
    }
}

/// Future returned by [`TaskQueue::run_one`](crate::TaskQueue::run_one): a worker for one task.
///
/// It keeps the queue alive.
///
/// # Cancel safety
///
/// Dropped while it waits, it has no effect. Dropped while its task [runs](Self::is_running), it cancels that task.
///
/// # Panics
///
/// When it is polled after it was ready.
///
/// # Examples
///
/// ```
/// # stanchion::blocking::wait(async {
/// let queue = stanchion::TaskQueue::unbounded();
/// let mut one = queue.run_one();
/// assert!(futures::poll!(&mut one).is_pending()); // waits for a task
/// let task = queue.submit(1, async { 7 }).await.unwrap();
/// assert!(one.await);
/// assert_eq!(task.await.unwrap(), 7);
/// # });
/// ```
#[must_use = "futures do nothing unless polled"]
pub struct RunOne<P>(Option<Worker<P>>);

/// The loop of a worker, between two polls. It is dropped at its end: a worker that has ended keeps no queue alive.
struct Worker<P> {
    pop: PopOwned<P, Task>,
    /// The task that runs.
    task: Option<Pin<Task>>,
}

/// A worker with priorities of any type.
trait Steps {
    /// Runs tasks until the queue is closed and drained, or `is_over` says so, which is asked before each task.
    fn poll(&mut self, cx: &mut Context<'_>, is_over: &mut dyn FnMut(&mut Context<'_>) -> bool) -> Poll<()>;
}

impl<P: Ord + Send + 'static> Steps for Worker<P> {
    fn poll(&mut self, cx: &mut Context<'_>, is_over: &mut dyn FnMut(&mut Context<'_>) -> bool) -> Poll<()> {
        for _ in 0..BUDGET {
            if self.task.is_none() && is_over(cx) {
                return Poll::Ready(());
            }
            if !ready!(self.poll_one(cx)) {
                return Poll::Ready(());
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<P: Ord> Worker<P> {
    fn new(queue: Arc<PriorityQueue<P, Task>>) -> Self {
        Self { pop: queue.pop_owned(), task: None }
    }

    /// Waits for a task and runs it to its end. `false` once the queue is closed and drained.
    fn poll_one(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if self.task.is_none() {
            let Some((priority, task)) = ready!(Pin::new(&mut self.pop).poll(cx)) else { return Poll::Ready(false) };
            self.pop.restart();
            self.task = Some(Box::into_pin(task));
            drop_quietly([priority]);
        }
        ready!(self.task.as_mut().expect("a task was popped").as_mut().poll(cx));
        // Its result is dropped with it if its submit was dropped before that made the handle.
        drop_quietly(self.task.take());
        Poll::Ready(true)
    }
}

impl Run {
    pub(super) fn new<P: Ord + Send + 'static>(queue: Arc<PriorityQueue<P, Task>>) -> Self {
        Self(RunUntil::new(queue, pending()))
    }
}

impl Future for Run {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx)
    }
}

impl<S> RunUntil<S> {
    pub(super) fn new<P: Ord + Send + 'static>(queue: Arc<PriorityQueue<P, Task>>, shutdown: S) -> Self {
        Self { steps: Some(Box::new(Worker::new(queue))), shutdown }
    }
}

impl<S: Future> Future for RunUntil<S> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let steps = this.steps.as_mut().expect("a future is not polled after it was ready");
        ready!(steps.poll(cx, &mut |cx| this.shutdown.as_mut().poll(cx).is_ready()));
        // A reservation that it held goes to the next worker.
        *this.steps = None;
        Poll::Ready(())
    }
}

impl<P> RunOne<P> {
    pub(super) fn new(queue: Arc<PriorityQueue<P, Task>>) -> Self
    where
        P: Ord,
    {
        Self(Some(Worker::new(queue)))
    }

    /// Returns `true` while its task runs: dropping it then would cancel that task.
    ///
    /// # Examples
    ///
    /// ```
    /// # stanchion::blocking::wait(async {
    /// let queue = stanchion::TaskQueue::unbounded();
    /// queue.submit(1, std::future::pending::<()>()).await.unwrap().detach();
    /// let mut one = queue.run_one();
    /// assert!(!one.is_running());
    /// assert!(futures::poll!(&mut one).is_pending());
    /// assert!(one.is_running());
    /// # });
    /// ```
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.0.as_ref().is_some_and(|worker| worker.task.is_some())
    }
}

impl<P: Ord + Send + 'static> Future for RunOne<P> {
    type Output = bool;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<bool> {
        let worker = self.0.as_mut().expect("a future is not polled after it was ready");
        let ran = ready!(worker.poll_one(cx));
        self.0 = None;
        Poll::Ready(ran)
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run").finish_non_exhaustive()
    }
}

impl<S> fmt::Debug for RunUntil<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunUntil").finish_non_exhaustive()
    }
}

impl<P> fmt::Debug for RunOne<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunOne").field("running", &self.is_running()).finish_non_exhaustive()
    }
}
