//! Workers: the loop that pops a task, drives it to its end, and goes on with the next.
//!
//! One step of the loop is a [`RunOne`]. Between two steps a worker asks its shutdown, if it has one, and yields to its
//! executor when it has run so many tasks within one poll.

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

/// A worker: the future of [`TaskQueue::run`](crate::TaskQueue::run).
///
/// # Cancel safety
///
/// Dropping it cancels the task that it is running. One that it has not begun stays in the queue.
///
/// # Panics
///
/// When it is polled after it was ready.
#[must_use = "futures do nothing unless polled"]
pub struct Run(RunUntil<Pending<()>>);

pin_project! {
    /// A worker with a shutdown: the future of [`TaskQueue::run_until`](crate::TaskQueue::run_until).
    ///
    /// # Cancel safety
    ///
    /// Dropping it cancels the task that it is running. One that it has not begun stays in the queue.
    ///
    /// # Panics
    ///
    /// When the shutdown does, and when it is polled after it was ready.
    #[must_use = "futures do nothing unless polled"]
    pub struct RunUntil<S> {
        // `None` once it has ended: it keeps the queue no longer.
        steps: Option<Box<dyn Steps + Send>>,
        #[pin]
        shutdown: S,
    }
}

/// A future that runs one task: that of [`TaskQueue::run_one`](crate::TaskQueue::run_one).
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
#[must_use = "futures do nothing unless polled"]
pub struct RunOne<P>(Step<P>);

enum Step<P> {
    Waiting(PopOwned<P, Task>),
    Running(Pin<Task>),
    Ended,
}

/// What a worker is but for its shutdown, whatever the priorities.
trait Steps {
    /// Runs tasks until the queue is closed and drained, or `is_over` says so, which is asked before each task.
    fn poll(&mut self, cx: &mut Context<'_>, is_over: &mut dyn FnMut(&mut Context<'_>) -> bool) -> Poll<()>;
}

struct Worker<P> {
    queue: Arc<PriorityQueue<P, Task>>,
    step: RunOne<P>,
}

impl<P: Ord + Send + 'static> Steps for Worker<P> {
    fn poll(&mut self, cx: &mut Context<'_>, is_over: &mut dyn FnMut(&mut Context<'_>) -> bool) -> Poll<()> {
        for _ in 0..BUDGET {
            if !self.step.is_running() && is_over(cx) {
                return Poll::Ready(());
            }
            if !ready!(Pin::new(&mut self.step).poll(cx)) {
                return Poll::Ready(());
            }
            self.step = RunOne::new(self.queue.clone());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
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
        let step = RunOne::new(queue.clone());
        Self { steps: Some(Box::new(Worker { queue, step })), shutdown }
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
        Self(Step::Waiting(queue.pop_owned()))
    }

    /// Returns `true` while its task runs: dropping it then would cancel that task.
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self.0, Step::Running(_))
    }
}

impl<P: Ord + Send + 'static> Future for RunOne<P> {
    type Output = bool;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<bool> {
        let Self(step) = self.get_mut();
        if let Step::Waiting(pop) = step {
            let Some((priority, task)) = ready!(Pin::new(pop).poll(cx)) else {
                *step = Step::Ended;
                return Poll::Ready(false);
            };
            *step = Step::Running(Box::into_pin(task));
            drop_quietly([priority]);
        }
        let Step::Running(task) = step else { panic!("a future is not polled after it was ready") };
        ready!(task.as_mut().poll(cx));
        *step = Step::Ended;
        Poll::Ready(true)
    }
}

// The task is in a box, and nothing else is pinned.
impl<P> Unpin for RunOne<P> {}

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
