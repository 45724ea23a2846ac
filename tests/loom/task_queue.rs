//! Models of `TaskQueue`: how a task ends and how its handle and idle waits are woken, while others cancel, drop or wait.

pub(crate) mod shutdown;

use loom::thread::{self, JoinHandle};
use stanchion::{Run, TaskError, TaskHandle, TaskQueue, TrySubmitError, blocking};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use crate::support::{Count, Data, Item, models, observe, poll, poll_noop};

models![
    2: result_reaches_the_handle,
    2: handle_repolled_racing_settle,
    2: handle_dropped_racing_settle,
    2: handle_dropped_racing_idle,
    2: cancel_racing_worker,
    2: cancel_wakes_the_worker,
    2: cancel_racing_completion,
    2: two_cancels,
    2: worker_dropped_racing_cancel,
    2: worker_dropped_racing_submit,
    2: idle_racing_last_completion,
    3: idle_racing_submit,
    2: idle_racing_cancel,
    2: idle_survives_a_late_notification,
    2: submit_racing_worker,
    3: submit_racing_close,
    2: two_workers_two_tasks,
    3: last_queue_dropped_racing_cancel,
    2: last_queue_dropped_racing_submit,
    3: idles_end_together_and_one_is_dropped,
    2: observers_racing_worker,
    2: observers_racing_close,
    2: submit_given_up_racing_admission,
    2: submit_given_up_racing_close,
    2: close_racing_idle,
    3: control_dropped_last,
];

type Tasks = TaskQueue<u8>;

/// The polls and drops of the future of a task. Loom checks that they happen before they are observed.
#[derive(Default)]
struct Trace {
    polls: Data,
    drops: Data,
}

/// A part of a future, which counts its drop.
struct Held(Arc<Trace>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.drops.increment();
    }
}

impl Trace {
    fn new() -> Arc<Self> {
        Arc::default()
    }

    /// A future that is ready at once.
    fn ready(self: &Arc<Self>, number: u8) -> impl Future<Output = Item> + Send + use<> {
        let held = Held(self.clone());
        poll_fn(move |_| {
            held.0.polls.increment();
            Poll::Ready(Item::new(number))
        })
    }

    /// A future that is never ready.
    fn pending(self: &Arc<Self>) -> impl Future<Output = Item> + Send + use<> {
        let held = Held(self.clone());
        poll_fn(move |_| {
            held.0.polls.increment();
            Poll::Pending
        })
    }

    fn was_polled(&self) -> bool {
        self.polls.get() > 0
    }

    /// Returns true if the future was dropped, and once.
    fn is_dropped(&self) -> bool {
        self.drops.get() == 1
    }
}

fn spawn<R: 'static>(tasks: &Tasks, body: impl FnOnce(Tasks) -> R + 'static) -> JoinHandle<R> {
    let tasks = tasks.clone();
    thread::spawn(move || body(tasks))
}

/// Runs tasks until the queue is closed and drained.
fn work(tasks: Tasks) {
    blocking::wait(tasks.run());
}

/// A worker that has been polled once.
fn begun(tasks: &Tasks) -> Run {
    let mut worker = tasks.clone().run();
    assert!(poll_noop(&mut worker).is_pending());
    worker
}

/// The result of a task, or `None` if it was cancelled.
fn result(task: TaskHandle<u8, Item>) -> Option<u8> {
    match blocking::wait(task) {
        Ok(item) => Some(item.get()),
        Err(TaskError::Cancelled) => None,
        Err(TaskError::Panicked(_)) => panic!("nothing here panics"),
    }
}

/// Asserts that no task is queued or running.
fn assert_idle(tasks: &Tasks) {
    assert_eq!((tasks.len(), tasks.running()), (0, 0));
    assert!(poll_noop(&mut tasks.idle()).is_ready());
}

/// Guards the second check of `stage`, after the waker was cloned, in the handle's `poll`, and the handle's wake in
/// `settle`; and that the result is visible to the handle.
fn result_reaches_the_handle() {
    let (tasks, trace) = (Tasks::unbounded(), Trace::new());
    let task = tasks.try_submit(1, trace.ready(7)).unwrap();
    tasks.close();
    let worker = spawn(&tasks, work);
    let waiter = thread::spawn(move || {
        assert_eq!(result(task), Some(7));
        assert!(trace.is_dropped(), "the future is dropped before its result is stored");
    });
    worker.join().unwrap();
    waiter.join().unwrap();
    assert_idle(&tasks);
}

/// A handle is polled with a new waker while its task ends. Guards the exchange in `register`.
fn handle_repolled_racing_settle() {
    let (tasks, trace) = (Tasks::unbounded(), Trace::new());
    let mut task = tasks.try_submit(1, trace.ready(7)).unwrap();
    assert!(poll_noop(&mut task).is_pending());
    let mut worker = tasks.clone().run();
    let worker = thread::spawn(move || poll_noop(&mut worker).is_pending());
    let waiter = thread::spawn(move || {
        let (count, waker) = Count::new();
        match poll(&mut task, &waker) {
            Poll::Ready(outcome) => assert_eq!((outcome.unwrap().get(), count.get()), (7, 0)),
            Poll::Pending => assert_eq!(result(task), Some(7)),
        }
    });
    assert!(worker.join().unwrap());
    waiter.join().unwrap();
    assert_idle(&tasks);
}

/// The result of a dropped handle is dropped, by the worker or the handle; the task runs.
fn handle_dropped_racing_settle() {
    let (tasks, trace) = (Tasks::unbounded(), Trace::new());
    let task = tasks.try_submit(1, trace.ready(7)).unwrap();
    tasks.close();
    let worker = spawn(&tasks, work);
    let owner = thread::spawn(move || {
        let mut task = task;
        if let Poll::Ready(outcome) = poll_noop(&mut task) {
            assert_eq!(outcome.unwrap().get(), 7);
        }
    });
    worker.join().unwrap();
    owner.join().unwrap();
    assert!(trace.was_polled() && trace.is_dropped());
    assert_idle(&tasks);
}

/// The result of a dropped handle is dropped when the queue is idle. Guards that `settle` checks the stage and stores the
/// result under one lock.
fn handle_dropped_racing_idle() {
    let (tasks, trace) = (Tasks::unbounded(), Trace::new());
    let result = Held(trace.clone());
    let task = tasks.try_submit(1, async { result }).unwrap();
    let worker = spawn(&tasks, |tasks| drop(begun(&tasks)));
    let owner = spawn(&tasks, move |tasks| {
        drop(task);
        blocking::wait(tasks.idle());
        assert!(trace.is_dropped());
    });
    worker.join().unwrap();
    owner.join().unwrap();
    assert_idle(&tasks);
}

/// A task is cancelled while it is queued, popped, polled or done: it ends once, in agreement with its
/// trace, and never runs after it was removed. Guards `remove` in `cancel`, and the check of `cancelled` before the first poll.
fn cancel_racing_worker() {
    let (tasks, trace) = (Tasks::unbounded(), Trace::new());
    let task = tasks.try_submit(1, trace.ready(7)).unwrap();
    tasks.close();
    let worker = spawn(&tasks, work);
    let canceller = thread::spawn(move || {
        task.cancel();
        assert_eq!(result(task), trace.was_polled().then_some(7));
        assert!(trace.is_dropped());
    });
    worker.join().unwrap();
    canceller.join().unwrap();
    assert_idle(&tasks);
}

/// The lost wake-up: the task waits for ever, and so would its worker. Guards, in `may_run`, the check of
/// `cancelled` under the lock that stores the waker; and in `cancel` the flag under the lock that takes it, and the wake.
fn cancel_wakes_the_worker() {
    let (tasks, trace) = (Tasks::unbounded(), Trace::new());
    let task = tasks.try_submit(1, trace.pending()).unwrap();
    tasks.close();
    let worker = spawn(&tasks, work);
    let canceller = thread::spawn(move || {
        task.cancel();
        assert_eq!(result(task), None);
        assert!(trace.is_dropped());
    });
    worker.join().unwrap();
    canceller.join().unwrap();
    assert_idle(&tasks);
}

/// A task that has begun ends in its second poll, or is cancelled before it.
fn cancel_racing_completion() {
    let (tasks, trace) = (Tasks::unbounded(), Trace::new());
    let (mut yielded, ready) = (false, trace.ready(7));
    let task = tasks.try_submit(1, async move {
        poll_fn(|_| if std::mem::replace(&mut yielded, true) { Poll::Ready(()) } else { Poll::Pending }).await;
        ready.await
    });
    let task = task.unwrap();
    tasks.close();
    let mut worker = begun(&tasks);
    assert_eq!(tasks.running(), 1);
    let worker = thread::spawn(move || assert!(poll_noop(&mut worker).is_ready()));
    let canceller = thread::spawn(move || {
        task.cancel();
        assert_eq!(result(task), trace.was_polled().then_some(7));
        assert!(trace.is_dropped());
    });
    worker.join().unwrap();
    canceller.join().unwrap();
    assert_idle(&tasks);
}

/// Cancelled twice while the worker drops it, it ends once.
fn two_cancels() {
    let (tasks, trace) = (Tasks::unbounded(), Trace::new());
    let task = Arc::new(tasks.try_submit(1, trace.ready(7)).unwrap());
    let cancellers = [0, 1].map(|_| {
        let task = task.clone();
        thread::spawn(move || task.cancel())
    });
    cancellers.into_iter().for_each(|canceller| canceller.join().unwrap());
    assert!(task.is_finished() && trace.is_dropped() && !trace.was_polled());
    assert_eq!(result(Arc::into_inner(task).unwrap()), None);
    assert_idle(&tasks);
}

/// A worker is dropped in the middle of a task that is being cancelled. Guards `settle` in the drop of `Work`.
fn worker_dropped_racing_cancel() {
    let (tasks, trace) = (Tasks::unbounded(), Trace::new());
    let task = tasks.try_submit(1, trace.pending()).unwrap();
    let worker = begun(&tasks);
    let dropper = thread::spawn(|| drop(worker));
    let canceller = thread::spawn(move || {
        task.cancel();
        assert_eq!(result(task), None);
        assert!(trace.is_dropped());
    });
    dropper.join().unwrap();
    canceller.join().unwrap();
    assert_idle(&tasks);
}

/// A waiting worker is dropped while a task wakes it: another one is woken for it. Guards the drop of `Popping`.
fn worker_dropped_racing_submit() {
    let (tasks, trace) = (Tasks::unbounded(), Trace::new());
    let (first, mut second) = (begun(&tasks), tasks.clone().run());
    let (count, waker) = Count::new();
    assert!(poll(&mut second, &waker).is_pending());
    let dropper = thread::spawn(|| drop(first));
    let submitter = spawn(&tasks, move |tasks| {
        let task = tasks.try_submit(1, trace.ready(7)).unwrap();
        assert_eq!(tasks.len(), 1);
        task
    });
    dropper.join().unwrap();
    let task = submitter.join().unwrap();
    assert_eq!(count.get(), 1);
    assert!(poll_noop(&mut second).is_pending());
    assert_eq!(result(task), Some(7));
    assert_idle(&tasks);
}

/// Guards the second check of `tasks` in the poll of `Idle`, and the grants in `settle`, after the result is there.
fn idle_racing_last_completion() {
    let (tasks, trace) = (Tasks::unbounded(), Trace::new());
    let task = tasks.try_submit(1, trace.ready(7)).unwrap();
    tasks.close();
    let worker = spawn(&tasks, work);
    let waiter = spawn(&tasks, move |tasks| {
        blocking::wait(tasks.idle());
        assert!(task.is_finished() && trace.is_dropped());
        assert_eq!(tasks.running(), 0);
    });
    worker.join().unwrap();
    waiter.join().unwrap();
    assert_idle(&tasks);
}

/// Guards that a task is counted before it is pushed: otherwise it may end before it is counted, and an idle wait is not
/// woken.
fn idle_racing_submit() {
    let (tasks, trace) = (Tasks::unbounded(), Trace::new());
    let mut worker = begun(&tasks);
    let worker = thread::spawn(move || {
        assert!(poll_noop(&mut worker).is_pending());
        worker
    });
    let submitter = spawn(&tasks, move |tasks| {
        let task = tasks.try_submit(1, trace.ready(7)).unwrap();
        let done = poll_noop(&mut tasks.idle()).is_ready();
        assert!(!done || task.is_finished() && trace.is_dropped());
        task
    });
    let bystander = spawn(&tasks, |tasks| {
        let ((count, waker), mut idle) = (Count::new(), tasks.idle());
        let waits = poll(&mut idle, &waker).is_pending();
        waits.then_some((count, idle))
    });
    let (mut worker, task, waiting) = (worker.join().unwrap(), submitter.join().unwrap(), bystander.join().unwrap());
    assert!(poll_noop(&mut worker).is_pending());
    assert_eq!(result(task), Some(7));
    if let Some((count, mut idle)) = waiting {
        assert_eq!((count.get(), poll_noop(&mut idle)), (1, Poll::Ready(())));
    }
    assert_idle(&tasks);
}

/// The end of the last task wakes the idle waits, however it ends.
fn idle_racing_cancel() {
    let (tasks, trace) = (Tasks::unbounded(), Trace::new());
    let task = tasks.try_submit(1, trace.ready(7)).unwrap();
    let canceller = thread::spawn(move || task.cancel());
    let waiter = spawn(&tasks, move |tasks| {
        blocking::wait(tasks.idle());
        assert!(trace.is_dropped() && !trace.was_polled());
    });
    canceller.join().unwrap();
    waiter.join().unwrap();
    assert_idle(&tasks);
}

/// A notification comes late, when an idle wait is for a later task. Guards the second listener.
fn idle_survives_a_late_notification() {
    let tasks = Tasks::unbounded();
    let first = tasks.try_submit(1, Trace::new().ready(1)).unwrap();
    let mut before = tasks.idle();
    assert!(poll_noop(&mut before).is_pending());
    let canceller = thread::spawn(move || first.cancel());
    let second = tasks.try_submit(1, Trace::new().ready(2)).unwrap();
    let (mut idle, (count, waker)) = (tasks.idle(), Count::new());
    assert!(poll(&mut idle, &waker).is_pending());
    canceller.join().unwrap();
    observe("notified late", count.get() > 0);
    assert!(poll(&mut idle, &waker).is_pending());
    let late = count.get();
    second.cancel();
    assert_eq!(count.get(), late + 1);
    assert!(poll_noop(&mut idle).is_ready() && poll_noop(&mut before).is_ready());
}

/// A task that waits to be admitted is admitted or run, and its submit completes.
fn submit_racing_worker() {
    let (tasks, trace) = (Tasks::bounded(1), Trace::new());
    let first = tasks.try_submit(1, trace.ready(1)).unwrap();
    let mut worker = tasks.clone().run();
    let worker = thread::spawn(move || {
        assert!(poll_noop(&mut worker).is_pending());
        worker
    });
    let submitter = spawn(&tasks, |tasks| {
        let trace = Trace::new();
        blocking::wait(tasks.submit(2, trace.ready(2))).unwrap()
    });
    let (worker, second) = (worker.join().unwrap(), submitter.join().unwrap());
    tasks.close();
    blocking::wait(worker);
    assert_eq!([result(first), result(second)], [Some(1), Some(2)]);
    assert_idle(&tasks);
}

/// An accepted task runs, a refused one is dropped, and the worker ends.
fn submit_racing_close() {
    let (tasks, trace) = (Tasks::unbounded(), Trace::new());
    let worker = spawn(&tasks, work);
    let closer = spawn(&tasks, |tasks| tasks.close());
    let submitter = spawn(&tasks, move |tasks| match tasks.try_submit(1, trace.ready(7)) {
        Ok(task) => Some(task),
        Err(refusal) => {
            assert!(matches!(refusal, TrySubmitError::Closed(_)));
            drop(refusal);
            assert!(trace.is_dropped() && !trace.was_polled());
            None
        }
    });
    worker.join().unwrap();
    closer.join().unwrap();
    if let Some(task) = submitter.join().unwrap() {
        assert_eq!(result(task), Some(7));
    }
    assert_idle(&tasks);
}

/// Each of two tasks is run once, by either worker.
fn two_workers_two_tasks() {
    let (tasks, traces) = (Tasks::unbounded(), [Trace::new(), Trace::new()]);
    let [first, second] = [0, 1].map(|n| tasks.try_submit(n, traces[usize::from(n)].ready(n)).unwrap());
    tasks.close();
    let workers = [0, 1].map(|_| spawn(&tasks, work));
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    assert_eq!([result(first), result(second)], [Some(0), Some(1)]);
    assert!(traces.iter().all(|trace| trace.polls.get() == 1 && trace.is_dropped()));
    assert_idle(&tasks);
}

/// The queue is dropped, with the task in it, while that is cancelled: it is dropped once, and its handle is woken.
fn last_queue_dropped_racing_cancel() {
    let (tasks, trace) = (Tasks::unbounded(), Trace::new());
    let task = tasks.try_submit(1, trace.ready(7)).unwrap();
    let mut idle = tasks.idle();
    assert!(poll_noop(&mut idle).is_pending());
    let dropper = thread::spawn(|| drop(tasks));
    let canceller = thread::spawn(move || {
        task.cancel();
        assert_eq!(result(task), None);
        assert!(trace.is_dropped() && !trace.was_polled());
    });
    let waiter = thread::spawn(|| blocking::wait(idle));
    dropper.join().unwrap();
    canceller.join().unwrap();
    waiter.join().unwrap();
}

/// The drop of the last handle to the queue cancels its tasks.
fn last_queue_dropped_racing_submit() {
    let (tasks, trace) = (Tasks::unbounded(), Trace::new());
    let submitter = spawn(&tasks, move |tasks| {
        let task = tasks.try_submit(1, trace.ready(7)).unwrap();
        drop(tasks);
        assert_eq!(result(task), None);
        assert!(trace.is_dropped());
    });
    let dropper = thread::spawn(|| drop(tasks));
    submitter.join().unwrap();
    dropper.join().unwrap();
}

/// Guards that all listeners are notified, while one of them is dropped.
fn idles_end_together_and_one_is_dropped() {
    let (tasks, trace) = (Tasks::unbounded(), Trace::new());
    let task = tasks.try_submit(1, trace.ready(7)).unwrap();
    let mut idles = [0, 1, 2].map(|_| tasks.idle());
    let (count, waker) = Count::new();
    assert!(poll(&mut idles[0], &waker).is_pending());
    let [_first, mut second, mut third] = idles;
    assert!(poll_noop(&mut second).is_pending() && poll_noop(&mut third).is_pending());
    let waiter = thread::spawn(|| blocking::wait(second));
    let dropper = thread::spawn(|| drop(third));
    task.cancel();
    waiter.join().unwrap();
    dropper.join().unwrap();
    assert_eq!(count.get(), 1);
    assert_idle(&tasks);
}

/// Each observing call sees the queue before and after the steps of a worker.
fn observers_racing_worker() {
    let (tasks, trace) = (Tasks::unbounded(), Trace::new());
    let task = tasks.try_submit(1, trace.ready(7)).unwrap();
    let control = task.control();
    let worker = spawn(&tasks, |tasks| drop(begun(&tasks)));
    observe("len", matches!(tasks.len(), 0));
    observe("running", tasks.running() == 1);
    if observe("is_finished", task.is_finished()) {
        assert!(trace.is_dropped() && control.is_finished());
    }
    worker.join().unwrap();
    assert_eq!(result(task), Some(7));
    assert_idle(&tasks);
}

/// The same with a close. Guards that it removes refused tasks from the counts.
fn observers_racing_close() {
    let (tasks, trace) = (Tasks::bounded(1), Trace::new());
    let first = tasks.try_submit(1, trace.ready(1)).unwrap();
    let mut second = tasks.submit(2, Trace::new().ready(2));
    assert!(poll_noop(&mut second).is_pending());
    let closer = spawn(&tasks, |tasks| tasks.close());
    observe("waiting_submits", tasks.waiting_submits() == 0);
    if observe("is_closed", tasks.is_closed()) {
        assert_eq!(tasks.waiting_submits(), 0);
    }
    closer.join().unwrap();
    first.cancel();
    assert_idle(&tasks);
    assert!(second.into_inner().is_some());
    assert_idle(&tasks);
}

/// A submit is given up while its task is admitted: the task is returned, or stays in the queue.
fn submit_given_up_racing_admission() {
    let (tasks, trace) = (Tasks::bounded(1), Trace::new());
    let first = tasks.try_submit(1, Trace::new().ready(1)).unwrap();
    let mut second = tasks.submit(2, trace.ready(2));
    assert!(poll_noop(&mut second).is_pending());
    let canceller = thread::spawn(move || first.cancel());
    let back = second.into_inner();
    canceller.join().unwrap();
    let admitted = observe("admitted", back.is_none());
    assert_eq!((tasks.len(), trace.is_dropped()), (usize::from(admitted), false));
    drop(back);
    tasks.close();
    work(tasks.clone());
    assert_eq!((trace.was_polled(), trace.is_dropped()), (admitted, true));
    assert_idle(&tasks);
}

/// A submit is given up while it is revoked: the task is returned, and leaves the counts once.
fn submit_given_up_racing_close() {
    let (tasks, trace) = (Tasks::bounded(1), Trace::new());
    let first = tasks.try_submit(1, Trace::new().ready(1)).unwrap();
    let mut second = tasks.submit(2, trace.ready(2));
    assert!(poll_noop(&mut second).is_pending());
    let closer = spawn(&tasks, |tasks| tasks.close());
    let back = second.into_inner();
    observe("closed before", tasks.is_closed());
    closer.join().unwrap();
    assert!(back.is_some() && !trace.is_dropped());
    first.cancel();
    assert_idle(&tasks);
}

/// The last counted task is refused by a close and not polled again. Guards the notification of `close`.
fn close_racing_idle() {
    let tasks = Tasks::bounded(1);
    let first = tasks.try_submit(2, Trace::new().ready(1)).unwrap();
    let mut second = tasks.submit(1, Trace::new().ready(2));
    assert!(poll_noop(&mut second).is_pending());
    let closer = spawn(&tasks, move |tasks| {
        // Nothing is admitted in between, since it is closed.
        tasks.close();
        first.cancel();
    });
    let waiter = spawn(&tasks, |tasks| blocking::wait(tasks.idle()));
    closer.join().unwrap();
    waiter.join().unwrap();
    assert!(second.into_inner().is_some());
}

/// A handle is dropped while its task ends and is cancelled through its control, which is dropped last.
fn control_dropped_last() {
    let (tasks, trace) = (Tasks::unbounded(), Trace::new());
    let task = tasks.try_submit(1, trace.ready(7)).unwrap();
    let control = task.control();
    let worker = spawn(&tasks, |tasks| drop(begun(&tasks)));
    let dropper = thread::spawn(|| drop(task));
    control.cancel();
    worker.join().unwrap();
    dropper.join().unwrap();
    observe("run before it was cancelled", trace.was_polled());
    assert!(control.is_finished() && trace.is_dropped());
    assert_idle(&tasks);
}
