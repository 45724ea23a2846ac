//! Futures that run in order of priority, on workers that the user spawns where he likes.
//!
//! A task is a future in a box, wrapped so that it never panics and always reports: a `Work`. It waits in a
//! [`PriorityQueue`] and is popped by a worker, which drives it to its end. What becomes of it is in its `Outcome`,
//! which it shares with its handle.
//!
//! | a task is | its `Work` is | its outcome's `stage` | comes next |
//! |---|---|---|---|
//! | parked, queued | in the queue | pending | popped; cancelled: removed and dropped |
//! | running | with its worker | pending | ends, panics; cancelled: its worker is woken, and drops it |
//! | settled | gone, or about to go | settled | its handle takes the result |
//! | collected, detached | anywhere | taken | |
//!
//! **It is settled exactly once**: by the end of the future, its panic, or the drop of the `Work`, wherever that happens:
//! in `cancel`, in the worker's next poll, with a dropped worker, with the queue. Whoever drops a future before its end
//! thereby cancels it.
//!
//! **Cancelling.** `cancel` raises a flag, takes the task out of the queue if it is there, and otherwise wakes the
//! worker. The worker looks at the flag under the lock that also takes in its waker, before each poll of the future; so
//! either it sees the flag, or `cancel` sees its waker.
//!
//! **Idle.** `Activity` counts the tasks from the first poll of `submit` until they are settled and their futures gone.
//! Whoever takes the last one out serves all who wait for that moment, in the same step.
//!
//! **Foreign code**: a future's poll and drop run without a lock, and their panics go to the handle. What the drop of a
//! result, a priority or a waker panics with stays in the worker; the panic hook has seen it.

use std::any::Any;
use std::fmt;
use std::future::{Future, poll_fn};
use std::mem::forget;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker, ready};

use pin_project_lite::pin_project;

use crate::arena;
use crate::panic::{Panics, drop_quietly};
use crate::priority_queue::{Key, PriorityQueue, TryPushError};
use crate::sync::{Exclusive, Mutex};
use crate::wait_list::{TaskWaker, WaitList, WakeBatch};

/// Tasks that a worker ends within one poll before it lets others have the thread; as many steps as tokio's budget has.
const BUDGET: usize = 128;

/// Runs futures in order of priority, on as many workers as you spawn, wherever you spawn them.
///
/// This is a handle: clone it freely. [`run`](Self::run) makes a worker, which takes the most urgent task, drives it to
/// its end, and goes on with the next. Spawn one per task that shall run at the same time, on any executor, or on threads
/// with [`blocking::wait`](crate::blocking::wait). A task waits where it is not in anybody's way, and can be
/// [cancelled](TaskHandle::cancel) and [re-prioritised](TaskHandle::set_priority) there.
///
/// # Fairness
///
/// The greatest priority runs first, equals run in the order in which they were submitted. What runs is never interrupted
/// for something more urgent: keep tasks short, or a worker free. Whoever must not starve gets a deadline for a priority,
/// as with [`PriorityQueue`](crate::PriorityQueue#fairness). A worker gives way to its executor after every 128 tasks.
///
/// # Panics and drops
///
/// A task that panics fails its own handle and nothing else. A worker that is dropped cancels the task that it was
/// running. When the last handle to the queue and all its workers are gone, what is still queued is dropped, and its
/// handles resolve to [`TaskError::Cancelled`]. A queued task that holds a handle keeps the queue alive. A comparison of
/// priorities that panics does so in whoever compares, be it a worker.
///
/// # Shutting down
///
/// [`close`](Self::close), and the workers end when what was accepted is done. [`idle`](Self::idle) waits for the moment
/// when there is nothing to do, without closing.
///
/// # Memory ordering
///
/// What happened before a task was submitted happens before it runs, and what it did happens before its handle resolves
/// and before an [`Idle`] that waited for it does.
///
/// # Examples
///
/// ```
/// use stanchion::{TaskQueue, blocking};
///
/// let queue = TaskQueue::bounded(1_000);
/// let report = queue.try_submit(1, async { "report" }).unwrap();
/// let health = queue.try_submit(9, async { "healthy" }).unwrap();
/// queue.close();
///
/// let worker = std::thread::spawn(move || blocking::wait(queue.run()));
/// assert_eq!(blocking::wait(health).unwrap(), "healthy");
/// assert_eq!(blocking::wait(report).unwrap(), "report");
/// worker.join().unwrap();
/// ```
///
/// Two tasks at a time, on tokio:
///
/// ```
/// # use stanchion::TaskQueue;
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let queue = TaskQueue::unbounded();
/// for _ in 0..2 {
///     tokio::spawn(queue.clone().run());
/// }
/// let task = queue.submit(1, async { 6 * 7 }).await.unwrap();
/// assert_eq!(task.await.unwrap(), 42);
/// # });
/// ```
pub struct TaskQueue<P>(Arc<Shared<P>>);

struct Shared<P> {
    queue: PriorityQueue<P, Job>,
    activity: Arc<Activity>,
}

/// A task as the queue and the workers see it.
type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A worker: the future of [`TaskQueue::run`].
///
/// # Cancel safety
///
/// Dropping it cancels the task that it is running. One that it has not begun stays in the queue.
///
/// # Panics
///
/// When it is polled after it was ready.
#[must_use = "futures do nothing unless polled"]
pub struct Run(Pin<Box<dyn Future<Output = ()> + Send>>);

/// A future of [`TaskQueue::idle`].
///
/// # Cancel safety
///
/// Dropping it loses nothing.
///
/// # Panics
///
/// When it is polled after it was ready.
#[must_use = "futures do nothing unless polled"]
pub struct Idle {
    activity: Arc<Activity>,
    waiter: Option<arena::Key>,
    done: bool,
}

/// A future of the result of a task.
///
/// Dropping it detaches: the task runs all the same, and its result is dropped. A handle does not keep its queue alive.
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
#[must_use = "dropping a handle detaches its task"]
pub struct TaskHandle<P, R> {
    queue: Weak<Shared<P>>,
    key: Key,
    outcome: Arc<Mutex<Outcome<R>>>,
}

/// Why a task has no result.
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
/// use stanchion::{TaskError, TaskQueue, blocking};
///
/// let queue = TaskQueue::unbounded();
/// let task = queue.try_submit(1, async { panic!("no such tenant") }).unwrap();
/// queue.close();
/// blocking::wait(queue.run());
/// let Err(TaskError::Panicked(panic)) = blocking::wait(task) else { unreachable!() };
/// assert_eq!(panic.message(), Some("no such tenant"));
/// ```
pub struct Panic(Payload);

/// Told apart at once, since a message may be shared between threads, and other payloads may not.
enum Payload {
    Literal(&'static str),
    Formatted(String),
    Other(Exclusive<Box<dyn Any + Send>>),
}

/// Why a task was not accepted; it has been dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrySubmitError {
    /// The queue is full.
    Full,
    /// The queue is closed.
    Closed,
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
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        match &self.0 {
            Payload::Literal(literal) => Some(literal),
            Payload::Formatted(formatted) => Some(formatted),
            Payload::Other(_) => None,
        }
    }

    /// Returns the payload of the panic, for [`resume_unwind`](std::panic::resume_unwind).
    #[must_use]
    pub fn into_payload(self) -> Box<dyn Any + Send> {
        match self.0 {
            Payload::Literal(literal) => Box::new(literal),
            Payload::Formatted(formatted) => Box::new(formatted),
            Payload::Other(other) => other.into_inner(),
        }
    }
}

/// What a task and its handle share.
struct Outcome<R> {
    stage: Stage<R>,
    cancelled: bool,
    /// Of the worker that runs the task.
    worker: Option<Waker>,
    /// Of the handle.
    handle: Option<Waker>,
}

enum Stage<R> {
    Pending,
    Settled(Result<R, TaskError>),
    Taken,
}

/// How much there is to do.
struct Activity(Mutex<Counts>);

struct Counts {
    /// Submitted and not gone.
    tasks: usize,
    running: usize,
    /// Those who wait until there are no tasks.
    idlers: WaitList<(), ()>,
}

impl<P: Ord + Send + 'static> TaskQueue<P> {
    /// Creates a queue that is never full.
    ///
    /// # Examples
    ///
    /// ```
    /// let queue = stanchion::TaskQueue::<u8>::unbounded();
    /// assert!(queue.is_empty());
    /// ```
    #[must_use]
    pub fn unbounded() -> Self {
        Self::new(PriorityQueue::unbounded())
    }

    /// Creates a queue in which this many tasks can wait; whoever submits more waits as well.
    ///
    /// # Panics
    ///
    /// When `capacity` is 0.
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::{TaskQueue, TrySubmitError};
    ///
    /// let queue = TaskQueue::bounded(1);
    /// let first = queue.try_submit(1, async {}).unwrap();
    /// assert_eq!(queue.try_submit(9, async {}).unwrap_err(), TrySubmitError::Full);
    /// # drop(first);
    /// ```
    #[must_use]
    pub fn bounded(capacity: usize) -> Self {
        Self::new(PriorityQueue::bounded(capacity))
    }

    fn new(queue: PriorityQueue<P, Job>) -> Self {
        let counts = Counts { tasks: 0, running: 0, idlers: WaitList::new() };
        Self(Arc::new(Shared { queue, activity: Arc::new(Activity(Mutex::new(counts))) }))
    }

    /// Queues a task, waiting for room if need be; most urgent first, as [`PriorityQueue::push`] does.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before it is ready drops the task, unless a worker has it or it was admitted already.
    ///
    /// # Errors
    ///
    /// [`TrySubmitError::Closed`], and nothing else, when the queue is closed before the task is admitted.
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::{TaskQueue, blocking};
    ///
    /// let queue = TaskQueue::unbounded();
    /// let task = blocking::wait(queue.submit(1, async { 7 })).unwrap();
    /// queue.close();
    /// blocking::wait(queue.run());
    /// assert_eq!(blocking::wait(task).unwrap(), 7);
    /// ```
    pub async fn submit<F>(&self, priority: P, future: F) -> Result<TaskHandle<P, F::Output>, TrySubmitError>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let (job, outcome) = self.job(future);
        match self.0.queue.push(priority, job).await {
            Ok(key) => Ok(self.handle(key, outcome)),
            Err(_) => Err(TrySubmitError::Closed),
        }
    }

    /// Queues a task if there is room now.
    ///
    /// # Errors
    ///
    /// [`TrySubmitError`] when the queue is full or closed. The task has been dropped then.
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::{TaskQueue, TrySubmitError};
    ///
    /// let queue = TaskQueue::unbounded();
    /// queue.close();
    /// assert_eq!(queue.try_submit(1, async {}).unwrap_err(), TrySubmitError::Closed);
    /// ```
    pub fn try_submit<F>(&self, priority: P, future: F) -> Result<TaskHandle<P, F::Output>, TrySubmitError>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let (job, outcome) = self.job(future);
        match self.0.queue.try_push(priority, job) {
            Ok(key) => Ok(self.handle(key, outcome)),
            Err(TryPushError::Full(_)) => Err(TrySubmitError::Full),
            Err(TryPushError::Closed(_)) => Err(TrySubmitError::Closed),
        }
    }

    fn job<F>(&self, future: F) -> (Job, Arc<Mutex<Outcome<F::Output>>>)
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let outcome = Outcome { stage: Stage::Pending, cancelled: false, worker: None, handle: None };
        let outcome = Arc::new(Mutex::new(outcome));
        let activity = self.0.activity.clone();
        activity.0.lock().tasks += 1;
        let report = Report { outcome: outcome.clone(), activity, running: false };
        (Box::pin(Work { future: Some(future), report }), outcome)
    }

    fn handle<R>(&self, key: Key, outcome: Arc<Mutex<Outcome<R>>>) -> TaskHandle<P, R> {
        TaskHandle { queue: Arc::downgrade(&self.0), key, outcome }
    }

    /// Makes a worker, which ends when the queue is closed and drained.
    ///
    /// Tasks of one worker run one after another; spawn as many workers as shall run side by side. A worker alone does not
    /// keep a queue from being idle, and waits until the queue is closed: dropping all handles does not end it.
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::{TaskQueue, blocking};
    ///
    /// let queue = TaskQueue::unbounded();
    /// let worker = std::thread::spawn({
    ///     let queue = queue.clone();
    ///     || blocking::wait(queue.run())
    /// });
    /// let task = queue.try_submit(1, async { 7 }).unwrap();
    /// assert_eq!(blocking::wait(task).unwrap(), 7);
    /// queue.close();
    /// worker.join().unwrap();
    /// ```
    pub fn run(self) -> Run {
        Run(Box::pin(async move {
            let mut ended = 0;
            loop {
                let mut pop = self.0.queue.pop();
                let popped = poll_fn(|cx| anew_if_pending(&mut ended, Pin::new(&mut pop).poll(cx))).await;
                let Some((priority, mut job)) = popped else { break };
                poll_fn(|cx| anew_if_pending(&mut ended, job.as_mut().poll(cx))).await;
                drop_quietly([job]);
                drop_quietly([priority]);
                ended += 1;
                if ended == BUDGET {
                    yield_now().await;
                    ended = 0;
                }
            }
        }))
    }

    /// How many tasks are queued: admitted, and not begun.
    ///
    /// # Examples
    ///
    /// ```
    /// let queue = stanchion::TaskQueue::unbounded();
    /// let _task = queue.try_submit(1, async {}).unwrap();
    /// assert_eq!(queue.len(), 1);
    /// ```
    pub fn len(&self) -> usize {
        self.0.queue.len()
    }

    /// Whether no task is queued.
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(stanchion::TaskQueue::<u8>::unbounded().is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.0.queue.is_empty()
    }

    /// How many tasks have begun and not ended. One whose handle is ready may still be counted for a moment.
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::{TaskQueue, blocking};
    ///
    /// let queue = TaskQueue::unbounded();
    /// let inside = queue.clone();
    /// let task = queue.try_submit(1, async move { inside.running() }).unwrap();
    /// queue.close();
    /// blocking::wait(queue.run());
    /// assert_eq!(blocking::wait(task).unwrap(), 1);
    /// ```
    pub fn running(&self) -> usize {
        self.0.activity.0.lock().running
    }

    /// Waits for a moment in which no task is queued, running, or waiting to be admitted.
    ///
    /// It has come when all of them are settled and their futures dropped; new ones may be there by the time you look. A
    /// [`submit`](Self::submit) that `close` made fail counts until it is polled or dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::{TaskQueue, blocking};
    /// use std::sync::Arc;
    ///
    /// let queue = TaskQueue::unbounded();
    /// let mark = Arc::new(());
    /// let task = queue.try_submit(1, { let mark = mark.clone(); async move { drop(mark) } }).unwrap();
    /// let worker = std::thread::spawn({ let queue = queue.clone(); || blocking::wait(queue.run()) });
    /// blocking::wait(queue.idle());
    /// assert!(task.is_finished() && Arc::strong_count(&mark) == 1);
    /// # queue.close();
    /// # worker.join().unwrap();
    /// ```
    pub fn idle(&self) -> Idle {
        Idle { activity: self.0.activity.clone(), waiter: None, done: false }
    }

    /// Accepts no more tasks; those that were accepted run, and then the workers end.
    ///
    /// Those who wait in [`submit`](Self::submit) fail.
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::{TaskQueue, blocking};
    ///
    /// let queue = TaskQueue::unbounded();
    /// let task = queue.try_submit(1, async { "done" }).unwrap();
    /// queue.close();
    /// blocking::wait(queue.run());
    /// assert_eq!(blocking::wait(task).unwrap(), "done");
    /// ```
    pub fn close(&self) {
        self.0.queue.close();
    }

    /// Whether the queue was closed.
    ///
    /// # Examples
    ///
    /// ```
    /// let queue = stanchion::TaskQueue::<u8>::unbounded();
    /// queue.close();
    /// assert!(queue.is_closed());
    /// ```
    pub fn is_closed(&self) -> bool {
        self.0.queue.is_closed()
    }
}

impl<P> Clone for TaskQueue<P> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<P: Ord + Send + 'static, R> TaskHandle<P, R> {
    /// Cancels the task: a queued one is dropped now, a running one at once by its worker, instead of its next poll.
    ///
    /// The handle then resolves to [`TaskError::Cancelled`], unless the poll that is under way ends the task: one that has
    /// ended keeps its result.
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
        let worker = {
            let mut outcome = self.outcome.lock();
            outcome.cancelled = true;
            outcome.worker.take()
        };
        // If it is not there any more, a worker has it, and sees the flag before it polls it again.
        drop(self.queue.upgrade().and_then(|shared| shared.queue.remove(self.key)));
        if let Some(worker) = worker {
            worker.wake();
        }
    }

    /// Gives the task another priority, behind those that have it; `false` if it is not queued any more.
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
        self.queue.upgrade().is_some_and(|shared| shared.queue.set_priority(self.key, priority))
    }

    /// Whether the task has ended, in whatever way.
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::{TaskQueue, blocking};
    ///
    /// let queue = TaskQueue::unbounded();
    /// let task = queue.try_submit(1, async {}).unwrap();
    /// assert!(!task.is_finished());
    /// queue.close();
    /// blocking::wait(queue.run());
    /// assert!(task.is_finished());
    /// ```
    pub fn is_finished(&self) -> bool {
        !matches!(self.outcome.lock().stage, Stage::Pending)
    }
}

impl<P, R> Future for TaskHandle<P, R> {
    type Output = Result<R, TaskError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        TaskWaker::new(cx.waker()).poll_with(|waker| {
            let mut outcome = self.outcome.lock();
            match std::mem::replace(&mut outcome.stage, Stage::Taken) {
                Stage::Settled(result) => return Ok(Poll::Ready(result)),
                Stage::Taken => panic!("a future is not polled after it was ready"),
                Stage::Pending => outcome.stage = Stage::Pending,
            }
            waker.register(&mut outcome.handle)?;
            Ok(Poll::Pending)
        })
    }
}

impl<P, R> Drop for TaskHandle<P, R> {
    fn drop(&mut self) {
        // Nobody asks any more; what is there is dropped after the lock.
        let mut outcome = self.outcome.lock();
        let (stage, waker) = (std::mem::replace(&mut outcome.stage, Stage::Taken), outcome.handle.take());
        drop(outcome);
        let mut panics = Panics::of_drops([stage]);
        panics.catch(|| drop(waker));
        panics.resume();
    }
}

impl Future for Run {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

impl Future for Idle {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { activity, waiter, done } = self.get_mut();
        assert!(!*done, "a future is not polled after it was ready");
        let idle = TaskWaker::new(cx.waker()).poll_with(|waker| {
            let mut counts = activity.0.lock();
            let Some(key) = *waiter else {
                if counts.tasks == 0 {
                    return Ok(Poll::Ready(()));
                }
                *waiter = Some(counts.idlers.enqueue((), waker.take()?));
                return Ok(Poll::Pending);
            };
            Ok(counts.idlers.poll(key, waker)?.map(|_| *waiter = None))
        });
        *done = idle.is_ready();
        idle
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        if let Some(waiter) = self.waiter {
            let left = self.activity.0.lock().idlers.remove(waiter);
            Panics::of_drops(left).resume();
        }
    }
}

pin_project! {
    /// A task: a future that reports what becomes of the user's.
    struct Work<F: Future> {
        // `None` once it has ended.
        #[pin]
        future: Option<F>,
        report: Report<F::Output>,
    }

    impl<F: Future> PinnedDrop for Work<F> {
        fn drop(this: Pin<&mut Self>) {
            if this.future.is_some() {
                this.end(Err(TaskError::Cancelled));
            }
        }
    }
}

impl<F: Future> Future for Work<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.as_mut().project();
        let Some(future) = this.future.as_pin_mut() else { return Poll::Ready(()) };
        let result = if this.report.may_run(cx.waker()) {
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
    /// Drops the future and reports `result`, or the panic of that drop.
    fn end(self: Pin<&mut Self>, mut result: Result<F::Output, TaskError>) {
        let mut this = self.project();
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| this.future.set(None))) {
            if matches!(result, Err(TaskError::Panicked(_))) {
                forget(payload); // the first panic counts
            } else {
                let lost = std::mem::replace(&mut result, Err(TaskError::Panicked(Panic::new(payload))));
                drop_quietly([lost]);
            }
        }
        this.report.settle(result);
    }
}

/// Whom a task tells what becomes of it.
struct Report<R> {
    outcome: Arc<Mutex<Outcome<R>>>,
    activity: Arc<Activity>,
    running: bool,
}

impl<R> Report<R> {
    /// Whether the task may be polled; if it is cancelled from now on, `waker` is woken.
    fn may_run(&mut self, waker: &Waker) -> bool {
        let may_run = TaskWaker::new(waker).poll_with(|waker| {
            let mut outcome = self.outcome.lock();
            if !outcome.cancelled {
                waker.register(&mut outcome.worker)?;
            }
            Ok(!outcome.cancelled)
        });
        if may_run && !std::mem::replace(&mut self.running, true) {
            self.activity.0.lock().running += 1;
        }
        may_run
    }

    /// Publishes the result, takes the task out of the counts, and then wakes those who wait for either.
    fn settle(&self, result: Result<R, TaskError>) {
        let (detached, worker, handle) = {
            let mut outcome = self.outcome.lock();
            let detached = match outcome.stage {
                Stage::Taken => Some(result),
                _ => {
                    outcome.stage = Stage::Settled(result);
                    None
                }
            };
            (detached, outcome.worker.take(), outcome.handle.take())
        };
        drop_quietly(detached);
        let mut batch = WakeBatch::default();
        {
            let mut counts = self.activity.0.lock();
            counts.running -= usize::from(self.running);
            counts.tasks -= 1;
            if counts.tasks == 0 {
                while !counts.idlers.is_empty() {
                    counts.idlers.grant_front((), &mut batch);
                }
            }
        }
        // Nobody here can answer for a waker that panics.
        let mut panics = Panics::of_drops(worker);
        panics.catch(|| handle.into_iter().for_each(Waker::wake));
        panics.catch(|| batch.wake(|batch| self.activity.0.lock().idlers.take_wakers(batch)));
        panics.discard();
    }
}

/// Begins to count anew what a worker does within one poll if that poll is over.
fn anew_if_pending<R>(count: &mut usize, poll: Poll<R>) -> Poll<R> {
    if poll.is_pending() {
        *count = 0;
    }
    poll
}

/// Lets the executor run others.
async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl<P> fmt::Debug for TaskQueue<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskQueue").field("queue", &self.0.queue).finish_non_exhaustive()
    }
}

impl<P, R> fmt::Debug for TaskHandle<P, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskHandle").field("key", &self.key).finish_non_exhaustive()
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run").finish_non_exhaustive()
    }
}

impl fmt::Debug for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idle").field("waiting", &self.waiter.is_some()).finish_non_exhaustive()
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

impl fmt::Display for TrySubmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the queue is full",
            Self::Closed => "the queue is closed",
        })
    }
}

impl std::error::Error for TrySubmitError {}
