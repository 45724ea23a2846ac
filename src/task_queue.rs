//! A queue of futures that workers run by priority.
//!
//! A task is the user's future in a box, wrapped so that it never panics and always reports: a [`Work`](task::Work). It
//! waits in a [`PriorityQueue`] and is popped by a worker, which drives it to its end. Its result is in its
//! [`Outcome`](task::Outcome), which it shares with its handle.
//!
//! | a task is | its `Work` is | its stage is | comes next |
//! |---|---|---|---|
//! | parked | in the queue | pending | queued or popped; cancelled; refused by `close`: its future is given back |
//! | queued | in the queue | pending | popped; cancelled or evicted: taken out and dropped |
//! | running | with its worker | pending | ends or panics; cancelled: its worker is woken, and drops it |
//! | detached | any of these | detached | the same, but its result is dropped |
//! | settled | dropped | settled | its handle collects the result |
//! | collected | dropped | collected | |
//!
//! **A task is settled exactly once**: by the end of its future, its panic, or the drop of the `Work`, wherever that
//! happens: in `cancel`, in the worker's next poll, with a dropped worker, with the queue. So dropping a future before
//! its end is what cancels it.
//!
//! **Cancelling.** `cancel` raises a flag, takes the task out of the queue if it is there, and otherwise wakes the
//! worker. The worker looks at the flag under the lock that also takes in its waker, before each poll of the future; so
//! either it sees the flag, or `cancel` sees its waker.
//!
//! **Idle.** [`Activity`] counts a task from the moment before it is pushed until it is settled and its future dropped,
//! or until `close` refuses it. The one that takes the count to zero notifies every `idle()`, after it has unlocked.
//!
//! **User code**: a future's poll and drop run without a lock, and their panics go to the handle. Panics from dropping
//! a result, a priority or a waker are discarded in the worker; the panic hook has seen them.

mod activity;
mod submit;
mod task;
mod worker;

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Weak};

use self::activity::Activity;
use self::task::{SharedOutcome, Task};
use crate::panic::{Panics, drop_quietly};
use crate::priority_queue::{Closed, Key, PriorityQueue, TryPushError};

pub use self::activity::Idle;
pub use self::submit::{Refused, Submit, TrySubmitError};
pub use self::task::{Panic, TaskControl, TaskError, TaskHandle};
pub use self::worker::{Run, RunOne, RunUntil};

/// A queue of futures that run by priority, on workers that you spawn.
///
/// This is a handle: clone it freely. [`run`](Self::run) makes a worker, which takes the most urgent task, drives it to
/// its end, and goes on with the next. Spawn as many as tasks may run at the same time, on any executor, or on
/// threads with [`blocking::wait`](crate::blocking::wait). A task that waits can be [cancelled](TaskHandle::cancel) and
/// [re-prioritised](TaskHandle::set_priority), one that runs can be cancelled.
///
/// There are [recipes](#recipes) for retries, tasks that await tasks, limits by class, deadlines, and scaling.
///
/// # Fairness
///
/// The greatest priority runs first; equals run in the order in which they were submitted. A running task is never
/// interrupted for a more urgent one: keep tasks short, or a worker free. With deadlines for priorities no task
/// starves, as with [`PriorityQueue`](crate::PriorityQueue#fairness). A worker yields to its executor after every 128
/// tasks.
///
/// # Panics and drops
///
/// A task that panics fails its own handle and nothing else. A worker that is dropped cancels the task that it was
/// running. When the last handle to the queue and all its workers are gone, the tasks still queued are dropped, and
/// their handles resolve to [`TaskError::Cancelled`]. A queued task that holds a handle to its own queue keeps it alive
/// until it runs or is cancelled: let it hold a [`WeakTaskQueue`], or end with [`cancel_all`](Self::cancel_all). A
/// comparison of priorities that panics does so in its caller, which may be a worker.
///
/// # Shutting down
///
/// *Gracefully*: [`close`](Self::close); the workers end when the accepted tasks are done. *At once*: `close`, drop the
/// workers, [`cancel_all`](Self::cancel_all); then everything is settled. With a time limit, the one and then the
/// other:
///
/// ```
/// use stanchion::{TaskError, TaskQueue};
/// use std::time::Duration;
/// use tokio::time::{sleep, timeout};
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let queue = TaskQueue::unbounded();
/// let mut workers = tokio::task::JoinSet::new();
/// workers.spawn(queue.clone().run());
/// let quick = queue.submit(2, async { "done" }).await.unwrap();
/// let slow = queue.submit(1, sleep(Duration::from_secs(3600))).await.unwrap();
/// let never_begun = queue.submit(0, async {}).await.unwrap();
///
/// queue.close();
/// if timeout(Duration::from_millis(10), queue.idle()).await.is_err() {
///     workers.shutdown().await; // cancels what runs
///     queue.cancel_all(); // and what is queued
/// }
/// assert_eq!(quick.await.unwrap(), "done");
/// assert!(matches!(slow.await, Err(TaskError::Cancelled)));
/// assert!(matches!(never_begun.await, Err(TaskError::Cancelled)));
/// # });
/// ```
///
/// A running task is dropped at its next `.await`: one that blocks its thread delays this. A worker on a plain thread
/// cannot be dropped from outside; cancel its task by the [handle](TaskHandle::cancel) or a [`TaskControl`].
///
/// # Memory ordering
///
/// Everything that happened before a task was submitted happens before it runs, and what it did happens before its
/// handle resolves and before an [`Idle`] that waited for it does. `len`, `running`, `waiting_submits`, `is_closed` and
/// `is_finished` take the lock that the changes they observe were made under, and so see what happened before those.
///
/// # Examples
///
/// Two tasks at a time, on tokio:
///
/// ```
/// use stanchion::TaskQueue;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let queue = TaskQueue::bounded(1_000);
/// for _ in 0..2 {
///     tokio::spawn(queue.clone().run());
/// }
/// let report = queue.submit(1, async { "report" }).await?;
/// let health = queue.submit(9, async { "healthy" }).await?;
/// assert_eq!(health.await?, "healthy");
/// assert_eq!(report.await?, "report");
/// # Ok(())
/// # }
/// ```
///
#[doc = include_str!("task_queue/recipes.md")]
pub struct TaskQueue<P> {
    queue: Arc<PriorityQueue<P, Task>>,
    activity: Arc<Activity>,
}

/// A handle to a [`TaskQueue`] that does not keep it alive.
///
/// A task that submits to its own queue, to retry for instance, holds one of these: a queued task with a strong handle
/// would keep the queue, and thereby itself.
///
/// # Examples
///
/// ```
/// use stanchion::TaskQueue;
///
/// let queue = TaskQueue::<u8>::unbounded();
/// let weak = queue.downgrade();
/// assert!(weak.upgrade().is_some());
/// drop(queue);
/// assert!(weak.upgrade().is_none());
/// ```
pub struct WeakTaskQueue<P> {
    queue: Weak<PriorityQueue<P, Task>>,
    activity: Arc<Activity>,
}

impl<P: Ord + Send + 'static> TaskQueue<P> {
    /// Creates a queue that is never full.
    ///
    /// # Examples
    ///
    /// ```
    /// let queue = stanchion::TaskQueue::<u8>::unbounded();
    /// assert_eq!(queue.capacity(), None);
    /// ```
    #[must_use]
    pub fn unbounded() -> Self {
        Self::new(PriorityQueue::unbounded())
    }

    /// Creates a queue that holds up to `capacity` tasks that wait to run; further submits wait for room.
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
    /// queue.try_submit(1, async {}).unwrap().detach();
    /// assert!(matches!(queue.try_submit(9, async {}), Err(TrySubmitError::Full(_))));
    /// ```
    #[must_use]
    pub fn bounded(capacity: usize) -> Self {
        Self::new(PriorityQueue::bounded(capacity))
    }

    fn new(queue: PriorityQueue<P, Task>) -> Self {
        Self { queue: Arc::new(queue), activity: Arc::default() }
    }

    /// Submits a task, waiting for room if there is none.
    ///
    /// The task competes from the first poll on: if it is the most urgent of all, it is run even while this waits.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the task, unless that was admitted or begun. To keep it, poll the future by reference
    /// and call [`Submit::into_inner`].
    ///
    /// # Errors
    ///
    /// [`Closed`], with priority and future, when the queue is closed before the task is admitted.
    ///
    /// # Deadlocks
    ///
    /// A task that waits here for room in its own queue may occupy the only worker that could make some:
    /// [help](TaskQueue#recipes) meanwhile.
    ///
    /// # Examples
    ///
    /// ```
    /// # stanchion::blocking::wait(async {
    /// use stanchion::TaskQueue;
    ///
    /// let queue = TaskQueue::unbounded();
    /// let task = queue.submit(1, async { 7 }).await.unwrap();
    /// queue.close();
    /// queue.run().await;
    /// assert_eq!(task.await.unwrap(), 7);
    /// # });
    /// ```
    pub fn submit<F>(&self, priority: P, future: F) -> Submit<P, F>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        Submit::new(self.clone(), priority, future)
    }

    /// Submits a task if there is room now.
    ///
    /// # Errors
    ///
    /// [`TrySubmitError`], with priority and future, when the queue is full or closed.
    ///
    /// # Examples
    ///
    /// Run at once what the queue has no room for:
    ///
    /// ```
    /// # stanchion::blocking::wait(async {
    /// use stanchion::TaskQueue;
    ///
    /// let queue = TaskQueue::bounded(1);
    /// queue.try_submit(1, async {}).unwrap().detach();
    /// let (priority, future) = queue.try_submit(2, async { 7 }).unwrap_err().into_inner().into_inner();
    /// assert_eq!((priority, future.await), (2, 7));
    /// # });
    /// ```
    #[expect(clippy::type_complexity)] // plain to read, and a name for it would only have to be looked up
    pub fn try_submit<F>(
        &self,
        priority: P,
        future: F,
    ) -> Result<TaskHandle<P, F::Output>, TrySubmitError<Refused<P, F>>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let (task, outcome) = task::new(future, self.activity.clone());
        match self.queue.try_push(priority, task) {
            Ok(key) => Ok(self.handle(key, outcome)),
            Err(TryPushError::Full(refused)) => Err(TrySubmitError::Full(Refused::new(refused))),
            Err(TryPushError::Closed(refused)) => Err(TrySubmitError::Closed(Refused::new(refused))),
        }
    }

    /// Submits a task without waiting; a full queue cancels its least urgent task for it, the newest among equals.
    ///
    /// That may be this one: its handle resolves to [`TaskError::Cancelled`] then. Tasks of waiting submits are not
    /// compared and stay where they are.
    ///
    /// # Errors
    ///
    /// [`Closed`], with priority and future, when the queue is closed.
    ///
    /// # Examples
    ///
    /// ```
    /// # stanchion::blocking::wait(async {
    /// use stanchion::{TaskError, TaskQueue};
    ///
    /// let queue = TaskQueue::bounded(1);
    /// let free = queue.force_submit(1, async { "free" }).unwrap();
    /// let paying = queue.force_submit(2, async { "paying" }).unwrap();
    /// assert!(matches!(free.await, Err(TaskError::Cancelled)));
    /// # queue.close();
    /// # queue.run().await;
    /// assert_eq!(paying.await.unwrap(), "paying");
    /// # });
    /// ```
    #[expect(clippy::type_complexity)] // plain to read, and a name for it would only have to be looked up
    pub fn force_submit<F>(&self, priority: P, future: F) -> Result<TaskHandle<P, F::Output>, Closed<Refused<P, F>>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let (task, outcome) = task::new(future, self.activity.clone());
        match self.queue.force_push(priority, task) {
            Ok((key, evicted)) => {
                drop_quietly(evicted);
                Ok(self.handle(key, outcome))
            }
            Err(Closed(refused)) => Err(Closed(Refused::new(refused))),
        }
    }

    fn handle<R>(&self, key: Key, outcome: SharedOutcome<R>) -> TaskHandle<P, R> {
        TaskHandle::new(Arc::downgrade(&self.queue), key, outcome)
    }

    /// Creates a worker, which runs tasks until the queue is closed and drained.
    ///
    /// A worker runs one task after another; spawn as many as are to run side by side. A worker that waits does not
    /// keep a queue from being idle. It keeps the queue alive and waits until it is closed: dropping all handles does
    /// not end it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the worker cancels the task that it is running. One that it has not begun stays in the queue.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let queue = stanchion::TaskQueue::unbounded();
    /// let worker = tokio::spawn(queue.clone().run());
    /// let task = queue.submit(1, async { 7 }).await?;
    /// assert_eq!(task.await?, 7);
    /// queue.close();
    /// worker.await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// On a thread:
    ///
    /// ```
    /// use stanchion::{TaskQueue, blocking};
    ///
    /// let queue = TaskQueue::unbounded();
    /// let task = queue.try_submit(1, async { 7 }).unwrap();
    /// let worker = std::thread::spawn({ let queue = queue.clone(); || blocking::wait(queue.run()) });
    /// assert_eq!(blocking::wait(task).unwrap(), 7);
    /// queue.close();
    /// worker.join().unwrap();
    /// ```
    pub fn run(self) -> Run {
        Run::new(self.queue)
    }

    /// Creates a worker that takes no further task once `shutdown` is ready, and finishes the one that it is running.
    ///
    /// `shutdown` is polled before each task and while the worker waits for one, and not again once it was ready. The
    /// worker ends when the queue is closed and drained, too.
    ///
    /// # Cancel safety
    ///
    /// As with [`run`](Self::run).
    ///
    /// # Panics
    ///
    /// The worker panics when `shutdown` does.
    ///
    /// # Examples
    ///
    /// Scaling down by one worker:
    ///
    /// ```
    /// # stanchion::blocking::wait(async {
    /// use futures::channel::oneshot;
    /// use futures::future::join;
    /// use stanchion::TaskQueue;
    ///
    /// let queue = TaskQueue::unbounded();
    /// let (retire, retired) = oneshot::channel::<()>();
    /// let worker = queue.clone().run_until(retired);
    /// let running = queue.submit(2, async move { drop(retire) }).await.unwrap();
    /// queue.submit(1, async {}).await.unwrap().detach();
    ///
    /// let (_, running) = join(worker, running).await;
    /// assert!(running.is_ok());
    /// assert_eq!(queue.len(), 1); // for the other workers
    /// # });
    /// ```
    pub fn run_until<S: Future>(self, shutdown: S) -> RunUntil<S> {
        RunUntil::new(self.queue, shutdown)
    }

    /// Waits for a task and runs it to its end; `false` once the queue is closed and drained.
    ///
    /// A task that awaits another one of its own queue helps with this, so that they get done even if there is no other
    /// worker: a [recipe](TaskQueue#recipes) shows how, without cancelling a bystander.
    ///
    /// # Cancel safety
    ///
    /// Dropped while it waits, it has no effect. Dropped while its task [runs](RunOne::is_running), it cancels that
    /// task.
    ///
    /// # Examples
    ///
    /// ```
    /// # stanchion::blocking::wait(async {
    /// use stanchion::TaskQueue;
    ///
    /// let queue = TaskQueue::unbounded();
    /// let task = queue.submit(1, async { 7 }).await.unwrap();
    /// assert!(queue.run_one().await);
    /// assert_eq!(task.await.unwrap(), 7);
    /// queue.close();
    /// assert!(!queue.run_one().await);
    /// # });
    /// ```
    pub fn run_one(&self) -> RunOne<P> {
        RunOne::new(self.queue.clone())
    }

    /// Cancels all queued tasks and those of waiting submits, and returns their number.
    ///
    /// Their futures are dropped during the call; submits that wait resolve to handles that resolve to
    /// [`TaskError::Cancelled`]. Running tasks go on. It takes time in proportion to the number of tasks.
    ///
    /// # Examples
    ///
    /// ```
    /// # stanchion::blocking::wait(async {
    /// use stanchion::{TaskError, TaskQueue};
    ///
    /// let queue = TaskQueue::unbounded();
    /// let task = queue.submit(1, async {}).await.unwrap();
    /// assert_eq!(queue.cancel_all(), 1);
    /// assert!(matches!(task.await, Err(TaskError::Cancelled)));
    /// # });
    /// ```
    pub fn cancel_all(&self) -> usize {
        let cancelled = self.queue.drain_all();
        let count = cancelled.len();
        Panics::of_drops(cancelled).resume_or(count)
    }

    /// Closes the queue: it accepts no more tasks, those accepted run, and then the workers end.
    ///
    /// Submits that wait fail and give their tasks back. It takes time in proportion to their number.
    ///
    /// # Examples
    ///
    /// ```
    /// # stanchion::blocking::wait(async {
    /// use stanchion::TaskQueue;
    ///
    /// let queue = TaskQueue::unbounded();
    /// let task = queue.submit(1, async { "done" }).await.unwrap();
    /// queue.close();
    /// queue.run().await;
    /// assert_eq!(task.await.unwrap(), "done");
    /// # });
    /// ```
    pub fn close(&self) {
        // Refused tasks count for `idle` no longer, even if their submits are never polled again. They leave the counts
        // after the lock, since that may notify.
        let mut refused = Vec::new();
        self.queue.close_each(|task| refused.extend(task.uncount()));
    }
}

impl<P> TaskQueue<P> {
    /// Returns a handle that does not keep the queue alive.
    ///
    /// # Examples
    ///
    /// ```
    /// let queue = stanchion::TaskQueue::<u8>::unbounded();
    /// let weak = queue.downgrade();
    /// drop(queue);
    /// assert!(weak.upgrade().is_none());
    /// ```
    #[must_use]
    pub fn downgrade(&self) -> WeakTaskQueue<P> {
        WeakTaskQueue { queue: Arc::downgrade(&self.queue), activity: self.activity.clone() }
    }

    /// Waits until no task is queued, running, or waiting to be admitted.
    ///
    /// At that moment all of them are settled and their futures dropped; there may be new ones when this returns. A
    /// submit that `close` refused counts no longer.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    ///
    /// # Deadlocks
    ///
    /// All futures that wait here are woken under the lock of one [`event_listener::Event`]. A waker that, while it is
    /// woken or dropped, polls or drops an [`Idle`] of the same queue, or settles the last task of that queue, waits
    /// for itself. The wakers of the usual executors and of [`blocking`](crate::blocking) do neither. A panic of a
    /// waker is discarded there, and the others are woken.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let queue = stanchion::TaskQueue::unbounded();
    /// tokio::spawn(queue.clone().run());
    /// let tasks = [queue.submit(1, async {}).await?, queue.submit(2, async {}).await?];
    /// queue.idle().await;
    /// assert!(tasks.iter().all(|task| task.is_finished()));
    /// # Ok(())
    /// # }
    /// ```
    pub fn idle(&self) -> Idle {
        Idle::new(self.activity.clone())
    }

    /// Returns the number of queued tasks: admitted, and not begun.
    ///
    /// # Examples
    ///
    /// ```
    /// let queue = stanchion::TaskQueue::unbounded();
    /// queue.try_submit(1, async {}).unwrap().detach();
    /// assert_eq!(queue.len(), 1);
    /// ```
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Returns `true` if no task is queued.
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(stanchion::TaskQueue::<u8>::unbounded().is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Returns the number of tasks that can be queued at a time, or `None` if there is no limit.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(stanchion::TaskQueue::<u8>::bounded(7).capacity(), Some(7));
    /// ```
    pub fn capacity(&self) -> Option<usize> {
        self.queue.capacity()
    }

    /// Returns the number of tasks that have begun and not ended.
    ///
    /// A task may be counted for a moment after its handle is ready.
    ///
    /// # Examples
    ///
    /// ```
    /// # stanchion::blocking::wait(async {
    /// use stanchion::TaskQueue;
    ///
    /// let queue = TaskQueue::unbounded();
    /// let inside = queue.downgrade();
    /// let task = queue.submit(1, async move { inside.upgrade().map(|queue| queue.running()) }).await.unwrap();
    /// queue.run_one().await;
    /// assert_eq!(task.await.unwrap(), Some(1));
    /// # });
    /// ```
    pub fn running(&self) -> usize {
        self.activity.running()
    }

    /// Returns the number of submits that wait for room.
    ///
    /// # Examples
    ///
    /// ```
    /// # stanchion::blocking::wait(async {
    /// let queue = stanchion::TaskQueue::bounded(1);
    /// queue.try_submit(1, async {}).unwrap().detach();
    /// let mut submit = queue.submit(1, async {});
    /// assert!(futures::poll!(&mut submit).is_pending());
    /// assert_eq!(queue.waiting_submits(), 1);
    /// # });
    /// ```
    pub fn waiting_submits(&self) -> usize {
        self.queue.waiting_pushes()
    }

    /// Returns `true` once the queue was closed.
    ///
    /// # Examples
    ///
    /// ```
    /// let queue = stanchion::TaskQueue::<u8>::unbounded();
    /// queue.close();
    /// assert!(queue.is_closed());
    /// ```
    pub fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }
}

impl<P: Ord + Send + 'static> Default for TaskQueue<P> {
    /// Creates a queue that is never full.
    fn default() -> Self {
        Self::unbounded()
    }
}

impl<P> Clone for TaskQueue<P> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), activity: self.activity.clone() }
    }
}

impl<P> WeakTaskQueue<P> {
    /// Returns a handle to the queue, or `None` if the last one and all workers are gone.
    ///
    /// # Examples
    ///
    /// ```
    /// let queue = stanchion::TaskQueue::<u8>::bounded(7);
    /// let same = queue.downgrade().upgrade().unwrap();
    /// assert_eq!(same.capacity(), Some(7));
    /// ```
    #[must_use]
    pub fn upgrade(&self) -> Option<TaskQueue<P>> {
        Some(TaskQueue { queue: self.queue.upgrade()?, activity: self.activity.clone() })
    }
}

impl<P> Clone for WeakTaskQueue<P> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), activity: self.activity.clone() }
    }
}

impl<P> fmt::Debug for TaskQueue<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskQueue").field("queue", &self.queue).finish_non_exhaustive()
    }
}

impl<P> fmt::Debug for WeakTaskQueue<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakTaskQueue").finish_non_exhaustive()
    }
}
