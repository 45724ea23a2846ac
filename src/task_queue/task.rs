//! A task, the outcome that it shares with its handle, and what may be done with both.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::mem::{forget, replace};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker, ready};

use pin_project_lite::pin_project;

use super::activity::{Activity, Counted};
use crate::panic::{Panics, drop_quietly};
use crate::priority_queue::{Key, PriorityQueue};
use crate::sync::{Exclusive, Mutex};
use crate::wait_list::TaskWaker;

/// A task as the queue and the workers see it. It is pinned when a worker has popped it, and may be taken apart before.
pub(super) type Task = Box<dyn Job>;

/// See [`Task`].
pub(super) trait Job: Future<Output = ()> + Send {
    /// Counts the task no longer, if it was counted.
    fn uncount(&mut self) -> Option<Counted>;

    fn as_any(&mut self) -> &mut dyn Any;
}

/// See [`Outcome`].
pub(super) type SharedOutcome<R> = Arc<Mutex<Outcome<R>>>;

/// The state that a task and its handle share.
pub(super) struct Outcome<R> {
    stage: Stage<R>,
    is_cancelled: bool,
    /// Of the worker that runs the task.
    worker: Option<Waker>,
    /// Of the handle.
    handle: Option<Waker>,
}

enum Stage<R> {
    Pending,
    /// Pending, and its handle is gone.
    Detached,
    Settled(Result<R, TaskError>),
    /// Settled, and the result was collected or dropped.
    Collected,
}

/// A handle to a task: a future of its result.
///
/// Dropping it [detaches](Self::detach) the task. A handle does not keep its queue alive.
///
/// # Cancel safety
///
/// Polling it by reference and giving up loses nothing.
///
/// # Errors
///
/// [`TaskError`] when the task was cancelled or panicked, also if it panicked while it was dropped.
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
/// let queue = stanchion::TaskQueue::unbounded();
/// tokio::spawn(queue.clone().run());
/// let task = queue.submit(1, async { "report" }).await?;
/// task.set_priority(9);
/// assert_eq!(task.await?, "report");
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping a handle detaches its task"]
pub struct TaskHandle<P, R> {
    queue: Weak<PriorityQueue<P, Task>>,
    key: Key,
    outcome: SharedOutcome<R>,
}

/// A handle that controls a task and has no result.
///
/// It is for others than the one that awaits the [`TaskHandle`], and outlives it. It does not keep the queue alive.
///
/// # Examples
///
/// ```
/// # stanchion::blocking::wait(async {
/// use stanchion::{TaskError, TaskQueue};
///
/// let queue = TaskQueue::unbounded();
/// let task = queue.submit(1, async {}).await.unwrap();
/// let control = task.control();
/// std::thread::spawn(move || control.cancel());
/// assert!(matches!(task.await, Err(TaskError::Cancelled)));
/// # });
/// ```
pub struct TaskControl<P> {
    queue: Weak<PriorityQueue<P, Task>>,
    key: Key,
    outcome: Arc<dyn Control>,
}

/// An outcome of whatever result.
trait Control: Send + Sync {
    fn cancel(&self) -> Option<Waker>;
    fn is_finished(&self) -> bool;
}

/// The error of a task without a result.
///
/// # Examples
///
/// ```
/// # stanchion::blocking::wait(async {
/// use stanchion::{TaskError, TaskQueue};
///
/// let queue = TaskQueue::unbounded();
/// let task = queue.submit(1, async { panic!("no such tenant") }).await.unwrap();
/// queue.run_one().await;
/// match task.await {
///     Ok(()) => unreachable!("it panics"),
///     Err(TaskError::Cancelled) => unreachable!("it was run"),
///     Err(TaskError::Panicked(panic)) => assert_eq!(panic.message(), Some("no such tenant")),
/// }
/// # });
/// ```
#[derive(Debug)]
pub enum TaskError {
    /// It was cancelled, or dropped with its worker or its queue.
    Cancelled,
    /// It panicked.
    Panicked(Panic),
}

/// The panic of a task.
///
/// # Examples
///
/// ```
/// # stanchion::blocking::wait(async {
/// use stanchion::{TaskError, TaskQueue};
///
/// let queue = TaskQueue::unbounded();
/// let task = queue.submit(1, async { panic!("no such tenant: {}", 7) }).await.unwrap();
/// queue.run_one().await;
/// let Err(TaskError::Panicked(panic)) = task.await else { unreachable!() };
/// assert_eq!(panic.message(), Some("no such tenant: 7"));
/// # });
/// ```
pub struct Panic(Payload);

/// Told apart at once, since a message may be shared between threads, and other payloads may not.
enum Payload {
    Literal(&'static str),
    Formatted(String),
    Other(Exclusive<Box<dyn Any + Send>>),
}

impl<P: Ord + Send + 'static, R> TaskHandle<P, R> {
    /// Cancels the task: a queued one is dropped now, a running one by its worker, instead of its next poll.
    ///
    /// The handle then resolves to [`TaskError::Cancelled`], unless the poll that is under way ends the task: one that
    /// has ended keeps its result.
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::{TaskError, TaskQueue, blocking};
    ///
    /// let queue = TaskQueue::unbounded();
    /// let task = queue.try_submit(1, async {}).unwrap();
    /// task.cancel();
    /// assert!(queue.is_empty());
    /// assert!(matches!(blocking::wait(task), Err(TaskError::Cancelled)));
    /// ```
    pub fn cancel(&self) {
        cancel(&self.queue, self.key, || self.outcome.lock().cancel());
    }

    /// Gives the task another priority, behind the tasks that have it; `false` if it is not queued any more.
    ///
    /// An equal priority changes nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::{TaskQueue, blocking};
    ///
    /// let queue = TaskQueue::unbounded();
    /// let task = queue.try_submit(1, async {}).unwrap();
    /// assert!(task.set_priority(2));
    /// task.cancel();
    /// assert!(!task.set_priority(3));
    /// ```
    pub fn set_priority(&self, priority: P) -> bool {
        set_priority(&self.queue, self.key, priority)
    }

    /// Returns `true` once the task has ended, in whatever way.
    ///
    /// # Examples
    ///
    /// ```
    /// # stanchion::blocking::wait(async {
    /// use stanchion::TaskQueue;
    ///
    /// let queue = TaskQueue::unbounded();
    /// let task = queue.submit(1, async {}).await.unwrap();
    /// assert!(!task.is_finished());
    /// queue.run_one().await;
    /// assert!(task.is_finished());
    /// # });
    /// ```
    pub fn is_finished(&self) -> bool {
        self.outcome.lock().is_finished()
    }

    /// Lets the task run without its handle; its result is dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::{TaskQueue, blocking};
    ///
    /// let queue = TaskQueue::unbounded();
    /// queue.try_submit(1, async {}).unwrap().detach();
    /// assert_eq!(queue.len(), 1);
    /// ```
    pub fn detach(self) {}

    /// Returns a handle that controls the task and has no result.
    ///
    /// # Examples
    ///
    /// ```
    /// # stanchion::blocking::wait(async {
    /// let queue = stanchion::TaskQueue::unbounded();
    /// let task = queue.submit(1, async { 7 }).await.unwrap();
    /// let control = task.control();
    /// queue.run_one().await;
    /// assert_eq!(task.await.unwrap(), 7); // consumes the handle
    /// assert!(control.is_finished());
    /// # });
    /// ```
    #[must_use]
    pub fn control(&self) -> TaskControl<P>
    where
        R: Send + 'static,
    {
        TaskControl { queue: self.queue.clone(), key: self.key, outcome: self.outcome.clone() }
    }
}

impl<P, R> TaskHandle<P, R> {
    pub(super) fn new(queue: Weak<PriorityQueue<P, Task>>, key: Key, outcome: SharedOutcome<R>) -> Self {
        Self { queue, key, outcome }
    }
}

impl<P, R> Future for TaskHandle<P, R> {
    type Output = Result<R, TaskError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = TaskWaker::new(cx.waker()).poll_with(|waker| {
            let mut outcome = self.outcome.lock();
            match replace(&mut outcome.stage, Stage::Collected) {
                Stage::Settled(result) => return Ok(Poll::Ready(Some(result))),
                // Its panic comes without the lock, since a panic hook is user code.
                Stage::Collected => return Ok(Poll::Ready(None)),
                pending => outcome.stage = pending,
            }
            waker.register(&mut outcome.handle)?;
            Ok(Poll::Pending)
        });
        polled.map(|result| result.expect("a future is not polled after it was ready"))
    }
}

impl<P, R> Drop for TaskHandle<P, R> {
    fn drop(&mut self) {
        // The result, if there is one, and the waker are dropped after the lock.
        let mut outcome = self.outcome.lock();
        let next = if outcome.is_finished() { Stage::Collected } else { Stage::Detached };
        let (stage, waker) = (replace(&mut outcome.stage, next), outcome.handle.take());
        drop(outcome);
        let mut panics = Panics::of_drops([stage]);
        panics.catch(|| drop(waker));
        panics.resume();
    }
}

impl<P: Ord + Send + 'static> TaskControl<P> {
    /// Cancels the task, as [`TaskHandle::cancel`] does.
    ///
    /// # Examples
    ///
    /// ```
    /// # stanchion::blocking::wait(async {
    /// let queue = stanchion::TaskQueue::unbounded();
    /// let task = queue.submit(1, async {}).await.unwrap();
    /// task.control().cancel();
    /// assert!(task.await.is_err());
    /// # });
    /// ```
    pub fn cancel(&self) {
        cancel(&self.queue, self.key, || self.outcome.cancel());
    }

    /// Gives the task another priority, as [`TaskHandle::set_priority`] does.
    ///
    /// # Examples
    ///
    /// ```
    /// let queue = stanchion::TaskQueue::unbounded();
    /// let control = queue.try_submit(1, async {}).unwrap().control();
    /// assert!(control.set_priority(2));
    /// control.cancel();
    /// assert!(!control.set_priority(3));
    /// ```
    pub fn set_priority(&self, priority: P) -> bool {
        set_priority(&self.queue, self.key, priority)
    }

    /// Returns `true` once the task has ended, in whatever way.
    ///
    /// # Examples
    ///
    /// ```
    /// let queue = stanchion::TaskQueue::unbounded();
    /// let control = queue.try_submit(1, async {}).unwrap().control();
    /// assert!(!control.is_finished());
    /// control.cancel();
    /// assert!(control.is_finished());
    /// ```
    pub fn is_finished(&self) -> bool {
        self.outcome.is_finished()
    }
}

impl<P> Clone for TaskControl<P> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), key: self.key, outcome: self.outcome.clone() }
    }
}

fn cancel<P: Ord>(queue: &Weak<PriorityQueue<P, Task>>, key: Key, raise_flag: impl FnOnce() -> Option<Waker>) {
    let worker = raise_flag();
    // If it is not there any more, a worker has it, and sees the flag before it polls it again.
    drop(queue.upgrade().and_then(|queue| queue.remove(key)));
    if let Some(worker) = worker {
        worker.wake();
    }
}

fn set_priority<P: Ord>(queue: &Weak<PriorityQueue<P, Task>>, key: Key, priority: P) -> bool {
    queue.upgrade().is_some_and(|queue| queue.set_priority(key, priority))
}

impl<R> Outcome<R> {
    /// Raises the flag, and returns the waker of the worker that must see it, if one runs the task.
    fn cancel(&mut self) -> Option<Waker> {
        self.is_cancelled = true;
        self.worker.take()
    }

    fn is_finished(&self) -> bool {
        matches!(self.stage, Stage::Settled(_) | Stage::Collected)
    }

    /// Stores the result for the handle, or returns it if there is no handle.
    fn settle(&mut self, result: Result<R, TaskError>) -> Option<Result<R, TaskError>> {
        match self.stage {
            Stage::Pending => self.stage = Stage::Settled(result),
            Stage::Detached => {
                self.stage = Stage::Collected;
                return Some(result);
            }
            Stage::Settled(_) | Stage::Collected => unreachable!("a task is settled once"),
        }
        None
    }
}

impl<R: Send> Control for Mutex<Outcome<R>> {
    fn cancel(&self) -> Option<Waker> {
        self.lock().cancel()
    }

    fn is_finished(&self) -> bool {
        self.lock().is_finished()
    }
}

/// Makes a task that is counted in `activity`.
pub(super) fn new<F>(future: F, activity: Arc<Activity>) -> (Task, SharedOutcome<F::Output>)
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let outcome = Outcome { stage: Stage::Pending, is_cancelled: false, worker: None, handle: None };
    let outcome = Arc::new(Mutex::new(outcome));
    let work = Work { future: Some(future), outcome: outcome.clone(), counted: Some(Counted::new(activity)) };
    (Box::new(work), outcome)
}

/// Takes the future out of a task that was refused and has not been polled.
pub(super) fn reclaim<F>(mut task: Task) -> F
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let work = task.as_any().downcast_mut::<Work<F>>().expect("a submit is given back its own task");
    work.future.take().expect("a task that was not polled has its future")
}

pin_project! {
    /// The future of the user, and what becomes of it.
    struct Work<F: Future> {
        // `None` once it has ended, or was given back.
        #[pin]
        future: Option<F>,
        outcome: SharedOutcome<F::Output>,
        // Goes with the task: by then that is settled, and its result dropped if there is no handle.
        counted: Option<Counted>,
    }

    impl<F: Future> PinnedDrop for Work<F> {
        fn drop(this: Pin<&mut Self>) {
            if this.future.is_some() {
                this.end(Err(TaskError::Cancelled));
            }
        }
    }
}

impl<F> Job for Work<F>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn uncount(&mut self) -> Option<Counted> {
        self.counted.take()
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

impl<F: Future> Future for Work<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.as_mut().project();
        let future = this.future.as_pin_mut().expect("a task is not polled after it ended");
        let result = if may_run(this.outcome, cx.waker()) {
            this.counted.as_mut().expect("a task that runs is counted").begin();
            match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
                Ok(poll) => Ok(ready!(poll)),
                Err(payload) => Err(TaskError::Panicked(Panic::new(payload))),
            }
        } else {
            Err(TaskError::Cancelled)
        };
        self.end(result);
        Poll::Ready(())
    }
}

impl<F: Future> Work<F> {
    /// Drops the future and settles the task with `result`, or with the panic of that drop.
    fn end(self: Pin<&mut Self>, mut result: Result<F::Output, TaskError>) {
        let mut this = self.project();
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| this.future.set(None))) {
            if matches!(result, Err(TaskError::Panicked(_))) {
                forget(payload); // the first panic counts
            } else {
                let lost = replace(&mut result, Err(TaskError::Panicked(Panic::new(payload))));
                drop_quietly([lost]);
            }
        }
        let mut outcome = this.outcome.lock();
        let unclaimed = outcome.settle(result);
        let (worker, handle) = (outcome.worker.take(), outcome.handle.take());
        drop(outcome);
        drop_quietly(unclaimed);
        // Neither the worker nor the one that cancels can answer for a waker that panics.
        let mut panics = Panics::of_drops(worker);
        panics.catch(|| handle.into_iter().for_each(Waker::wake));
        panics.discard();
    }
}

/// Returns `true` if the task may be polled; if it is cancelled from now on, `waker` is woken.
fn may_run<R>(outcome: &Mutex<Outcome<R>>, waker: &Waker) -> bool {
    TaskWaker::new(waker).poll_with(|waker| {
        let mut outcome = outcome.lock();
        if !outcome.is_cancelled {
            // Under the lock that showed no flag: a cancel that comes later finds the waker.
            waker.register(&mut outcome.worker)?;
        }
        Ok(!outcome.is_cancelled)
    })
}

impl Panic {
    fn new(payload: Box<dyn Any + Send>) -> Self {
        Self(match payload.downcast::<&'static str>() {
            Ok(literal) => Payload::Literal(*literal),
            Err(payload) => match payload.downcast::<String>() {
                Ok(formatted) => Payload::Formatted(*formatted),
                Err(other) => Payload::Other(Exclusive::new(other)),
            },
        })
    }

    /// Returns the message of the panic, or `None` if its payload is no text.
    ///
    /// # Examples
    ///
    /// ```
    /// # stanchion::blocking::wait(async {
    /// use stanchion::{TaskError, TaskQueue};
    ///
    /// let queue = TaskQueue::unbounded();
    /// let task = queue.submit(1, async { std::panic::panic_any(7) }).await.unwrap();
    /// queue.run_one().await;
    /// let Err(TaskError::Panicked(panic)) = task.await else { unreachable!() };
    /// assert_eq!(panic.message(), None);
    /// # });
    /// ```
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        match &self.0 {
            Payload::Literal(literal) => Some(literal),
            Payload::Formatted(formatted) => Some(formatted),
            Payload::Other(_) => None,
        }
    }

    /// Returns the payload of the panic, for [`resume_unwind`](std::panic::resume_unwind).
    ///
    /// # Examples
    ///
    /// ```
    /// # stanchion::blocking::wait(async {
    /// use stanchion::{TaskError, TaskQueue};
    ///
    /// let queue = TaskQueue::unbounded();
    /// let task = queue.submit(1, async { std::panic::panic_any(7) }).await.unwrap();
    /// queue.run_one().await;
    /// let Err(TaskError::Panicked(panic)) = task.await else { unreachable!() };
    /// assert_eq!(panic.into_payload().downcast_ref(), Some(&7));
    /// # });
    /// ```
    #[must_use]
    pub fn into_payload(self) -> Box<dyn Any + Send> {
        match self.0 {
            Payload::Literal(literal) => Box::new(literal),
            Payload::Formatted(formatted) => Box::new(formatted),
            Payload::Other(other) => other.into_inner(),
        }
    }
}

impl<P, R> fmt::Debug for TaskHandle<P, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskHandle").field("key", &self.key).finish_non_exhaustive()
    }
}

impl<P> fmt::Debug for TaskControl<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskControl").field("key", &self.key).finish_non_exhaustive()
    }
}

impl fmt::Debug for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.message() {
            Some(message) => f.debug_tuple("Panic").field(&message).finish(),
            None => f.debug_tuple("Panic").finish_non_exhaustive(),
        }
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled => f.write_str("the task was cancelled"),
            Self::Panicked(panic) => match panic.message() {
                Some(message) => write!(f, "the task panicked: {message}"),
                None => f.write_str("the task panicked"),
            },
        }
    }
}

impl std::error::Error for TaskError {}
