//! Models of `TaskQueue`: what becomes of a task, and who learns of it, whoever cancels, drops or waits.

use loom::thread::{self, JoinHandle};
use stanchion::{Run, TaskError, TaskHandle, TaskQueue, TrySubmitError, blocking};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use crate::support::{Count, Data, Item, models, poll, poll_noop};

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
    2: submit_racing_worker,
    3: submit_racing_close,
    2: two_workers_two_tasks,
    3: last_queue_dropped_racing_cancel,
    2: last_queue_dropped_racing_submit,
    3: more_idlers_than_a_batch_holds,
];

type Tasks = TaskQueue<u8>;

/// What became of a task's future. Loom watches that it is over before anybody learns so.
#[derive(Default)]
struct Trace {
    polls: Data,
    drops: Data,
}

/// Belongs to a future, and goes with it.
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

    /// Whether the future was dropped, and once.
    fn is_dropped(&self) -> bool {
        self.drops.get() == 1
    }
}

fn spawn<R: 'static>(tasks: &Tasks, body: impl FnOnce(Tasks) -> R + 'static) -> JoinHandle<R> {
    let tasks = tasks.clone();
    thread::spawn(move || body(tasks))
}

/// Runs what there is, until the queue is closed and drained.
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

/// All is done, and the counts say so.
fn assert_idle(tasks: &Tasks) {
    assert_eq!((tasks.len(), tasks.running()), (0, 0));
    assert!(poll_noop(&mut tasks.idle()).is_ready());
}

/// Guards the second look at `stage`, after the waker was cloned, in the handle's `poll`, and the handle's wake in
/// `settle`; and that the result is visible to the handle.
fn result_reaches_the_handle() {
    let (tasks, trace) = (Tasks::unbounded(), Trace::new());
    let task = tasks.try_submit(1, trace.ready(7)).unwrap();
    tasks.close();
    let worker = spawn(&tasks, work);
    let waiter = thread::spawn(move || {
        assert_eq!(result(task), Some(7));
        assert!(trace.is_dropped(), "the future goes before its result is there");
    });
    worker.join().unwrap();
    waiter.join().unwrap();
    assert_idle(&tasks);
}

/// A handle that comes with a new waker while its task ends. Guards the exchange in `register`.
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

/// A result that nobody wants any more is dropped, on whichever side; its task runs all the same.
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

/// A result that nobody wants any more is gone when the queue is idle. Guards that `settle` looks at the stage, and leaves
/// the result there, under one lock.
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

/// A task is cancelled while it is queued, popped, polled or done: it ends once, as what happened says, and never runs
/// when it was taken out. Guards `remove` in `cancel`, and the look at `cancelled` before the first poll.
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

/// The lost wake-up: the task waits for ever, and so would its worker. Guards, in `may_run`, the look at `cancelled` under
/// the lock that takes in the waker; and in `cancel` the flag under the lock that takes it out, and the wake.
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

/// Guards the second look at `tasks` in the poll of `Idle`, and the grants in `settle`, after the result is there.
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

/// Guards the count of a task before it is pushed: otherwise it may be done before it was there, and who waits for an idle
/// queue meanwhile is not served.
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

/// Whoever takes the last task out of the counts, in whatever way, serves who waits for that.
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

/// What is accepted runs, what is refused is dropped, and the worker ends.
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

/// The queue goes, with the task in it, while that is cancelled: it is dropped once, and its handle learns of it.
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

/// Whoever drops the queue last cancels what is in it.
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

/// Four wait for the same moment and the batch holds two (under loom): the third sleeps, the fourth leaves meanwhile.
/// Guards the refill in `settle`.
fn more_idlers_than_a_batch_holds() {
    let (tasks, trace) = (Tasks::unbounded(), Trace::new());
    let task = tasks.try_submit(1, trace.ready(7)).unwrap();
    let mut idlers = [0, 1, 2, 3].map(|_| tasks.idle());
    let counts = [0, 1].map(|_| Count::new());
    for (idler, (_, waker)) in idlers.iter_mut().zip(&counts) {
        assert!(poll(idler, waker).is_pending());
    }
    let [_first, _second, mut third, mut fourth] = idlers;
    assert!(poll_noop(&mut third).is_pending() && poll_noop(&mut fourth).is_pending());
    let sleeper = thread::spawn(|| blocking::wait(third));
    let canceller = thread::spawn(|| drop(fourth));
    task.cancel();
    sleeper.join().unwrap();
    canceller.join().unwrap();
    assert_eq!(counts.map(|(count, _)| count.get()), [1, 1]);
    assert_idle(&tasks);
}
