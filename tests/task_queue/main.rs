//! How a task queue behaves: which task runs when, and how every task ends, whatever tasks, wakers and drops do.

#![cfg(not(loom))]

#[path = "../common/mod.rs"]
mod common;

use std::any::Any;
use std::cell::Cell;
use std::cmp::Reverse;
use std::future::{Future, pending, poll_fn, ready as at_once};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex as StdMutex, OnceLock, Weak, mpsc};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use common::hostile::Hostile;
use common::{Counter, Log, Task, assert_numbers, panic_of, poll, poll_with, ready, survives, until, yield_now};
use futures::channel::oneshot;
use futures::future::BoxFuture;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use stanchion::{Idle, Run, TaskError, TaskHandle, TaskQueue, TrySubmitError, blocking};

type Queue = TaskQueue<u32>;
type Handle<R> = TaskHandle<u32, R>;
type Outcome<R> = Result<R, TaskError>;
type Submitted<R> = Result<Handle<R>, TrySubmitError>;

fn unbounded() -> Queue {
    watch();
    Queue::unbounded()
}

fn bounded(capacity: usize) -> Queue {
    watch();
    Queue::bounded(capacity)
}

/// Ends the process if the test of this thread does not end: a deadlock shall fail, not hang.
fn watch() {
    struct Watch(#[allow(dead_code)] mpsc::Sender<()>);
    thread_local! {
        static WATCH: Watch = {
            let (running, ended) = mpsc::channel();
            let name = format!("{:?}", thread::current().name());
            thread::spawn(move || {
                if ended.recv_timeout(Duration::from_secs(120)) == Err(mpsc::RecvTimeoutError::Timeout) {
                    eprintln!("{name} does not end");
                    std::process::abort();
                }
            });
            Watch(running)
        };
    }
    WATCH.with(|_| ());
}

/// A future that is polled as by an executor: at first, and then only if it was woken. So whoever forgets to wake it
/// fails the test.
struct Driven<F: Future> {
    task: Task<F>,
    seen: Option<usize>,
}

impl<F: Future + Unpin> Driven<F> {
    fn new(future: F) -> Self {
        Self { task: Task::new(future), seen: None }
    }

    /// Polls it for as long as it was woken since.
    #[track_caller]
    fn go(&mut self) -> Poll<F::Output> {
        for _ in 0..100_000 {
            if !self.is_woken() {
                return Poll::Pending;
            }
            if let Poll::Ready(output) = self.once() {
                return Poll::Ready(output);
            }
        }
        panic!("it is woken for ever");
    }

    /// Polls it once.
    fn once(&mut self) -> Poll<F::Output> {
        self.seen = Some(self.task.wakes());
        self.task.poll()
    }

    fn is_woken(&self) -> bool {
        self.seen != Some(self.task.wakes())
    }

    /// Whether it goes on waiting.
    #[track_caller]
    fn waits(&mut self) -> bool {
        self.go().is_pending()
    }

    #[track_caller]
    fn output(mut self) -> F::Output {
        match self.go() {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("not ready"),
        }
    }

    fn get(&mut self) -> &mut F {
        self.task.future_mut()
    }
}

type Worker = Driven<Pin<Box<Run>>>;

fn worker<P: Ord + Send + 'static>(queue: &TaskQueue<P>) -> Worker {
    Driven::new(Box::pin(queue.clone().run()))
}

/// A worker that waits for tasks already.
#[track_caller]
fn waiting_worker(queue: &Queue) -> Worker {
    let mut worker = worker(queue);
    assert!(worker.waits());
    worker
}

fn submit<F>(queue: &Queue, priority: u32, future: F) -> Driven<Pin<Box<impl Future<Output = Submitted<F::Output>>>>>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    Driven::new(Box::pin(queue.submit(priority, future)))
}

/// A submit that is parked, since the queue is full.
#[track_caller]
fn parked<F>(queue: &Queue, priority: u32, future: F) -> Driven<Pin<Box<impl Future<Output = Submitted<F::Output>>>>>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let mut submit = submit(queue, priority, future);
    assert!(submit.waits(), "there was room");
    submit
}

/// (queued, running)
fn state<P: Ord + Send + 'static>(queue: &TaskQueue<P>) -> (usize, usize) {
    let queued = queue.len();
    assert_eq!(queue.is_empty(), queued == 0);
    (queued, queue.running())
}

/// What a handle gives right now.
#[track_caller]
fn outcome<P, R>(mut handle: TaskHandle<P, R>) -> Outcome<R>
where
    TaskHandle<P, R>: Future<Output = Outcome<R>> + Unpin,
{
    ready(&mut handle)
}

#[track_caller]
fn assert_cancelled<R>(outcome: Outcome<R>) {
    match outcome {
        Err(TaskError::Cancelled) => {}
        Err(TaskError::Panicked(_)) => panic!("it panicked"),
        Ok(_) => panic!("it finished"),
    }
}

/// The text that a task panicked with.
#[track_caller]
fn text_of<R>(outcome: Outcome<R>) -> &'static str {
    match outcome {
        Err(TaskError::Panicked(panic)) => panic.into_payload().downcast_ref::<&'static str>().expect("a text"),
        Err(TaskError::Cancelled) => panic!("it was cancelled"),
        Ok(_) => panic!("it finished"),
    }
}

/// A future made of what it does when it is polled and when it is dropped.
struct Script<F, D: FnMut()> {
    on_poll: F,
    on_drop: D,
}

impl<F, D: FnMut()> Unpin for Script<F, D> {}

impl<R, F: FnMut(&mut Context<'_>) -> Poll<R>, D: FnMut()> Future for Script<F, D> {
    type Output = R;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<R> {
        (self.on_poll)(context)
    }
}

impl<F, D: FnMut()> Drop for Script<F, D> {
    fn drop(&mut self) {
        (self.on_drop)();
    }
}

fn script<R, F, D>(on_poll: F, on_drop: D) -> Script<F, D>
where
    F: FnMut(&mut Context<'_>) -> Poll<R>,
    D: FnMut(),
{
    Script { on_poll, on_drop }
}

/// What a test knows of a task, and decides for it: it finishes when the test says so.
#[derive(Default)]
struct Gate {
    polls: AtomicUsize,
    drops: AtomicUsize,
    open: AtomicBool,
    waker: StdMutex<Option<Waker>>,
}

impl Gate {
    fn new() -> Arc<Self> {
        Arc::default()
    }

    /// A task that finishes as soon as it runs.
    fn opened() -> Arc<Self> {
        let gate = Self::new();
        gate.open();
        gate
    }

    fn open(&self) {
        self.open.store(true, Ordering::SeqCst);
        let waker = self.waker.lock().unwrap().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn polls(&self) -> usize {
        self.polls.load(Ordering::SeqCst)
    }

    fn drops(&self) -> usize {
        self.drops.load(Ordering::SeqCst)
    }

    fn task<R: Send + 'static>(self: &Arc<Self>, output: R) -> impl Future<Output = R> + Send + Unpin + 'static {
        let (gate, of_drop) = (self.clone(), self.clone());
        let mut output = Some(output);
        script(
            move |context| {
                gate.polls.fetch_add(1, Ordering::SeqCst);
                if gate.open.load(Ordering::SeqCst) {
                    return Poll::Ready(output.take().expect("polled after it was ready"));
                }
                *gate.waker.lock().unwrap() = Some(context.waker().clone());
                Poll::Pending
            },
            move || {
                of_drop.drops.fetch_add(1, Ordering::SeqCst);
            },
        )
    }
}

/// Counts its drops, and does then what it is told.
struct Token(Arc<AtomicUsize>, Option<Box<dyn FnOnce() + Send>>);

impl Token {
    fn new(drops: &Arc<AtomicUsize>) -> Self {
        Self(drops.clone(), None)
    }

    fn on_drop(hook: impl FnOnce() + Send + 'static) -> Self {
        Self(Arc::default(), Some(Box::new(hook)))
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
        if let Some(hook) = self.1.take() {
            hook();
        }
    }
}

/// A priority whose comparison and whose drop do what a test wants. It is not `Sync`, and need not be.
struct Urgency {
    level: u32,
    on_compare: Option<Box<dyn Fn() + Send>>,
    on_drop: Option<Box<dyn FnOnce() + Send>>,
}

impl Urgency {
    fn of(level: u32) -> Self {
        Self { level, on_compare: None, on_drop: None }
    }

    fn on_drop(level: u32, hook: impl FnOnce() + Send + 'static) -> Self {
        Self { level, on_compare: None, on_drop: Some(Box::new(hook)) }
    }

    fn on_compare(level: u32, hook: impl Fn() + Send + 'static) -> Self {
        Self { level, on_compare: Some(Box::new(hook)), on_drop: None }
    }
}

impl Drop for Urgency {
    fn drop(&mut self) {
        if let Some(hook) = self.on_drop.take() {
            hook();
        }
    }
}

impl Ord for Urgency {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        for hook in [self, other].into_iter().filter_map(|urgency| urgency.on_compare.as_ref()) {
            hook();
        }
        self.level.cmp(&other.level)
    }
}

impl PartialOrd for Urgency {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Urgency {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Urgency {}

/// What must work whenever foreign code runs: every function, of the queue and of a handle.
fn call_everything(queue: &Queue) {
    let _ = (state(queue), queue.is_closed(), format!("{queue:?}"));
    let gate = Gate::new();
    if let Ok(handle) = queue.try_submit(0, gate.task(())) {
        handle.set_priority(1);
        let _ = (handle.is_finished(), format!("{handle:?}"));
        handle.cancel();
        assert!(handle.is_finished());
    }
    assert_eq!(gate.drops(), 1);
    let mut submit = Box::pin(queue.submit(0, at_once(())));
    let submitted = poll(&mut submit);
    drop(submit);
    if let Poll::Ready(Ok(handle)) = submitted {
        handle.cancel();
    }
    let mut idle = queue.idle();
    let _ = poll(&mut idle);
    drop(idle);
    drop(queue.clone());
    drop(queue.clone().run());
}

/// A hook that calls everything, once there is a queue, and counts how often.
#[derive(Clone, Default)]
struct Intruder {
    queue: Arc<OnceLock<Queue>>,
    calls: Arc<Counter>,
    busy: Arc<AtomicBool>,
}

impl Intruder {
    fn of(queue: &Queue) -> Self {
        let intruder = Self::default();
        intruder.queue.set(queue.clone()).unwrap();
        intruder
    }

    fn hook(&self) -> impl Fn() + Send + Sync + 'static {
        let Self { queue, calls, busy } = self.clone();
        move || {
            // What it calls may come back here.
            if !busy.swap(true, Ordering::SeqCst) {
                call_everything(queue.get().unwrap());
                std::task::Wake::wake(calls.clone());
                busy.store(false, Ordering::SeqCst);
            }
        }
    }

    fn calls(&self) -> usize {
        self.calls.count()
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Submitting and running
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn a_worker_runs_a_task_and_its_handle_gives_the_result() {
    let queue = unbounded();
    let mut handle = Driven::new(queue.try_submit(1, async { 7 }).unwrap());
    assert!(handle.waits());
    assert_eq!(state(&queue), (1, 0));
    let mut worker = worker(&queue);
    assert!(worker.waits());
    assert_eq!(state(&queue), (0, 0));
    assert_eq!(handle.output().unwrap(), 7);
}

#[test]
fn a_submit_with_room_is_ready_at_its_first_poll() {
    for queue in [unbounded(), bounded(1)] {
        let handle = submit(&queue, 1, async { 7 }).output().unwrap();
        assert_eq!(state(&queue), (1, 0));
        assert!(worker(&queue).waits());
        assert_eq!(outcome(handle).unwrap(), 7);
    }
}

#[test]
fn futures_that_were_never_polled_have_no_effect() {
    let queue = bounded(1);
    let gate = Gate::new();
    let submit = queue.submit(1, gate.task(()));
    let run = queue.clone().run();
    let idle = queue.idle();
    assert_eq!((state(&queue), gate.drops()), ((0, 0), 0));
    let handle = queue.try_submit(1, async { 7 }).unwrap();
    drop(submit);
    assert_eq!((state(&queue), gate.polls(), gate.drops()), ((1, 0), 0, 1));
    drop((run, idle));
    assert!(worker(&queue).waits());
    assert_eq!(outcome(handle).unwrap(), 7);
}

#[test]
fn a_task_is_not_polled_before_a_worker_comes_to_it() {
    let queue = unbounded();
    let gate = Gate::opened();
    let mut handle = queue.try_submit(1, gate.task(())).unwrap();
    assert!(poll(&mut handle).is_pending());
    assert_eq!((gate.polls(), gate.drops(), state(&queue)), (0, 0, (1, 0)));
}

#[test]
fn tasks_run_by_priority_and_equals_in_the_order_of_their_submits() {
    const TASKS: usize = 500;
    let mut random = StdRng::seed_from_u64(1);
    let queue = unbounded();
    let log = Arc::new(Log::default());
    let mut wanted = Vec::new();
    for number in 0..TASKS {
        let priority = random.random_range(0..7);
        let log = log.clone();
        let task = async move { log.push(number) };
        if random.random() {
            drop(queue.try_submit(priority, task).unwrap());
        } else {
            drop(submit(&queue, priority, task).output().unwrap());
        }
        wanted.push((Reverse(priority), number));
    }
    assert!(worker(&queue).waits());
    wanted.sort();
    assert_numbers(&log.take(), wanted.into_iter().map(|(_, number)| number));
}

#[test]
fn a_new_priority_moves_a_queued_task_behind_its_new_equals() {
    let queue = unbounded();
    let log = Arc::new(Log::default());
    let handles: Vec<_> = [5, 3, 5, 1, 5]
        .into_iter()
        .enumerate()
        .map(|(number, priority)| {
            let log = log.clone();
            queue.try_submit(priority, async move { log.push(number) }).unwrap()
        })
        .collect();
    assert!(handles[0].set_priority(5), "even if it is the old one");
    assert!(handles[3].set_priority(5));
    assert!(handles[2].set_priority(0));
    assert_eq!(state(&queue), (5, 0));
    assert!(worker(&queue).waits());
    assert_numbers(&log.take(), [4, 0, 3, 1, 2]);
}

#[test]
fn set_priority_is_for_queued_tasks_only() {
    let queue = unbounded();
    let (running, gone) = (Gate::new(), Gate::new());
    let running_handle = queue.try_submit(9, running.task(())).unwrap();
    let gone_handle = queue.try_submit(1, gone.task(())).unwrap();
    let mut worker = worker(&queue);
    assert!(worker.waits());
    assert_eq!(state(&queue), (1, 1));
    assert!(!running_handle.set_priority(1));
    gone_handle.cancel();
    assert!(!gone_handle.set_priority(1), "cancelled");
    running.open();
    assert!(worker.waits() && running_handle.is_finished());
    assert!(!running_handle.set_priority(1), "finished");
    let orphan = queue.try_submit(1, async {}).unwrap();
    drop((worker, queue));
    assert!(!orphan.set_priority(1), "its queue is gone");
}

#[test]
fn a_worker_takes_what_is_most_urgent_when_it_runs_not_when_it_is_woken() {
    let queue = unbounded();
    let log = Arc::new(Log::default());
    let mut worker = waiting_worker(&queue);
    for priority in [1, 2, 3] {
        let log = log.clone();
        drop(queue.try_submit(priority, async move { log.push(priority as usize) }).unwrap());
    }
    assert!(worker.is_woken());
    assert!(worker.waits());
    assert_eq!(log.take(), [3, 2, 1]);
}

#[test]
fn a_worker_runs_one_task_at_a_time_and_many_workers_as_many() {
    let queue = unbounded();
    let gates = [(); 5].map(|()| Gate::new());
    let handles = gates.each_ref().map(|gate| queue.try_submit(1, gate.task(())).unwrap());
    let mut workers = [(); 3].map(|()| worker(&queue));
    for (number, worker) in workers.iter_mut().enumerate() {
        assert!(worker.waits());
        assert_eq!(state(&queue), (4 - number, number + 1));
    }
    assert_eq!(gates.each_ref().map(|gate| gate.polls()), [1, 1, 1, 0, 0]);
    gates[1].open();
    assert!(workers.iter_mut().all(|worker| worker.waits()));
    assert_eq!(
        (state(&queue), handles.each_ref().map(TaskHandle::is_finished)),
        ((1, 3), [false, true, false, false, false])
    );
    assert_eq!(gates.each_ref().map(|gate| gate.polls()), [1, 2, 1, 1, 0], "only the woken one is polled");
    gates.iter().for_each(|gate| gate.open());
    assert!(workers.iter_mut().all(|worker| worker.waits()));
    assert_eq!((state(&queue), handles.iter().all(TaskHandle::is_finished)), ((0, 0), true));
}

#[test]
fn the_task_of_a_worker_that_was_moved_to_another_executor_is_woken_there() {
    let queue = unbounded();
    let gate = Gate::new();
    let handle = queue.try_submit(1, gate.task(7)).unwrap();
    let mut run = Box::pin(queue.clone().run());
    let (old, new) = (Arc::new(Counter::default()), Arc::new(Counter::default()));
    assert!(poll_with(&mut run, &Waker::from(old.clone())).is_pending());
    assert!(poll_with(&mut run, &Waker::from(new.clone())).is_pending());
    gate.open();
    assert_eq!((old.count(), new.count()), (0, 1));
    assert!(poll_with(&mut run, &Waker::from(new)).is_pending());
    assert_eq!(outcome(handle).unwrap(), 7);
}

#[test]
fn a_running_task_is_cancelled_through_the_latest_waker_of_its_worker() {
    let queue = unbounded();
    let handle = queue.try_submit(1, pending::<()>()).unwrap();
    let mut run = Box::pin(queue.clone().run());
    let (old, new) = (Arc::new(Counter::default()), Arc::new(Counter::default()));
    assert!(poll_with(&mut run, &Waker::from(old.clone())).is_pending());
    assert!(poll_with(&mut run, &Waker::from(new.clone())).is_pending());
    handle.cancel();
    assert_eq!((old.count(), new.count() > 0), (0, true));
    assert!(poll_with(&mut run, &Waker::from(new)).is_pending());
    assert_cancelled(outcome(handle));
}

#[test]
fn a_waiting_worker_is_woken_through_its_latest_waker() {
    let queue = unbounded();
    let mut run = Box::pin(queue.clone().run());
    let (old, new) = (Arc::new(Counter::default()), Arc::new(Counter::default()));
    assert!(poll_with(&mut run, &Waker::from(old.clone())).is_pending());
    assert!(poll_with(&mut run, &Waker::from(new.clone())).is_pending());
    let handle = queue.try_submit(1, async { 7 }).unwrap();
    assert_eq!((old.count(), new.count()), (0, 1));
    assert!(poll_with(&mut run, &Waker::from(new)).is_pending());
    assert_eq!(outcome(handle).unwrap(), 7);
}

#[test]
fn the_waker_of_a_task_that_is_over_disturbs_nobody() {
    let queue = unbounded();
    let kept = Arc::new(StdMutex::new(None));
    let keeper = kept.clone();
    let first = queue.try_submit(
        2,
        poll_fn(move |context| {
            *keeper.lock().unwrap() = Some(context.waker().clone());
            Poll::Ready(1)
        }),
    );
    let gate = Gate::new();
    let second = queue.try_submit(1, gate.task(2)).unwrap();
    let mut worker = worker(&queue);
    assert!(worker.waits());
    kept.lock().unwrap().take().unwrap().wake();
    assert!(worker.waits());
    assert_eq!((outcome(first.unwrap()).unwrap(), state(&queue)), (1, (0, 1)));
    gate.open();
    assert!(worker.waits());
    assert_eq!(outcome(second).unwrap(), 2);
}

#[test]
fn each_task_wakes_one_worker_the_one_that_waits_longest() {
    let queue = unbounded();
    let mut workers = [(); 3].map(|()| waiting_worker(&queue));
    let gates = [(); 3].map(|()| Gate::new());
    for (number, gate) in gates.iter().enumerate() {
        drop(queue.try_submit(1, gate.task(())).unwrap());
        let woken = workers.iter().take_while(|worker| worker.is_woken()).count();
        assert_eq!(woken, number + 1);
    }
    assert_eq!(workers.iter().filter(|worker| worker.is_woken()).count(), 3);
    assert!(workers.iter_mut().all(|worker| worker.waits()));
    assert_eq!(state(&queue), (0, 3));
}

#[test]
fn a_worker_lets_others_run_after_128_tasks() {
    const TASKS: usize = 300;
    let queue = unbounded();
    let ran = Arc::new(Counter::default());
    for _ in 0..TASKS {
        let ran = ran.clone();
        drop(queue.try_submit(1, async move { std::task::Wake::wake(ran) }).unwrap());
    }
    let mut worker = worker(&queue);
    let mut idle = Driven::new(queue.idle());
    assert!(idle.waits());
    for done in [128, 256] {
        assert!(worker.once().is_pending());
        assert_eq!((ran.count(), state(&queue), worker.is_woken()), (done, (TASKS - done, 0), true));
        assert!(idle.waits());
    }
    assert!(worker.once().is_pending());
    assert_eq!((ran.count(), state(&queue), worker.is_woken()), (TASKS, (0, 0), false));
    idle.output();
}

#[test]
fn a_worker_that_let_others_run_goes_on_though_it_is_the_only_one_and_the_queue_is_closed() {
    const TASKS: usize = 129;
    let queue = unbounded();
    let handles: Vec<_> = (0..TASKS).map(|number| queue.try_submit(1, async move { number }).unwrap()).collect();
    queue.close();
    worker(&queue).output();
    for (number, handle) in handles.into_iter().enumerate() {
        assert_eq!(outcome(handle).unwrap(), number);
    }
}

#[test]
fn a_worker_that_waits_for_a_task_or_in_one_counts_anew() {
    let queue = unbounded();
    let ran = Arc::new(Counter::default());
    let count = |priority: u32| {
        let ran = ran.clone();
        drop(queue.try_submit(priority, async move { std::task::Wake::wake(ran) }).unwrap());
    };
    (0..100).for_each(|_| count(3));
    let gate = Gate::new();
    drop(queue.try_submit(2, gate.task(())).unwrap());
    (0..100).for_each(|_| count(1));
    let mut worker = worker(&queue);
    assert!(worker.once().is_pending());
    assert_eq!((ran.count(), state(&queue)), (100, (100, 1)));
    gate.open();
    assert!(worker.once().is_pending());
    assert_eq!((ran.count(), state(&queue), worker.is_woken()), (200, (0, 0), false));
    (0..100).for_each(|_| count(1));
    assert!(worker.once().is_pending());
    assert_eq!((ran.count(), state(&queue), worker.is_woken()), (300, (0, 0), false));
}

#[test]
fn a_deadline_as_priority_starves_nobody_and_a_plain_one_may() {
    const TICKS: usize = 400;
    const PATIENCE: usize = 100;
    /// Runs a stream that keeps one worker busy, and a lazy task; returns the tick at which that ran.
    fn run<P: Ord + Send + 'static>(urgent: impl Fn(usize) -> P, lazy: P) -> Option<usize> {
        watch();
        let queue = TaskQueue::unbounded();
        let now = Arc::new(AtomicUsize::new(0));
        let lazy = {
            let now = now.clone();
            queue.try_submit(lazy, async move { now.load(Ordering::SeqCst) }).unwrap()
        };
        let mut worker = worker(&queue);
        for tick in 0..TICKS {
            now.store(tick, Ordering::SeqCst);
            // A task takes a tick: it ends in the poll after that in which it began. More come than can be run.
            for _ in 0..1 + usize::from(tick % 10 == 0) {
                drop(queue.try_submit(urgent(tick), yield_now()).unwrap());
            }
            assert!(worker.once().is_pending());
        }
        if lazy.is_finished() { Some(outcome(lazy).unwrap()) } else { None }
    }
    assert_eq!(run(|_| 1, 0), None);
    let ran = run(|tick| Reverse(tick + 5), Reverse(PATIENCE)).expect("it ran");
    // Those that come before it are the ones with an earlier or the same deadline: one of each tick, and one of ten more.
    let before = (PATIENCE - 5) * 11 / 10 + 2;
    assert!((PATIENCE - 10..=before).contains(&ran), "{ran}");
}

#[test]
fn a_queue_of_no_capacity_is_refused() {
    assert!(!panic_of(|| Queue::bounded(0)).is_empty());
}

#[test]
fn priorities_need_neither_clones_nor_sharing() {
    let queue = TaskQueue::<Urgency>::unbounded();
    let log = Arc::new(Log::default());
    for level in [1, 3, 2] {
        let log = log.clone();
        drop(queue.clone().try_submit(Urgency::of(level), async move { log.push(level as usize) }).unwrap());
    }
    assert!(worker(&queue).waits());
    assert_eq!(log.take(), [3, 2, 1]);
}

// ---------------------------------------------------------------------------------------------------------------------
// Handles
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn a_task_is_finished_when_its_handle_has_something_to_give() {
    let queue = unbounded();
    let gate = Gate::new();
    let finishes = queue.try_submit(4, gate.task(7)).unwrap();
    let panics = queue.try_submit(3, async { panic!("oh") }).unwrap();
    let cancelled = queue.try_submit(2, async {}).unwrap();
    let flags = || (finishes.is_finished(), panics.is_finished(), cancelled.is_finished());
    assert_eq!(flags(), (false, false, false));
    let mut worker = worker(&queue);
    assert!(worker.waits());
    assert_eq!(flags(), (false, false, false));
    cancelled.cancel();
    assert_eq!(flags(), (false, false, true));
    gate.open();
    assert_eq!(flags(), (false, false, true));
    assert!(worker.waits());
    assert_eq!(flags(), (true, true, true));
    assert_eq!(outcome(finishes).unwrap(), 7);
    assert_eq!(text_of::<()>(outcome(panics)), "oh");
    assert_cancelled(outcome(cancelled));
}

#[test]
fn a_handle_stays_finished_when_it_has_given_its_result() {
    let queue = unbounded();
    let mut handle = queue.try_submit(1, async { 7 }).unwrap();
    assert!(worker(&queue).waits());
    assert_eq!(ready(&mut handle).unwrap(), 7);
    assert!(handle.is_finished() && !handle.set_priority(2));
    handle.cancel();
    assert_eq!(state(&queue), (0, 0));
}

#[test]
fn polling_a_handle_after_it_was_ready_panics() {
    let queue = unbounded();
    let mut finished = queue.try_submit(1, async {}).unwrap();
    let mut cancelled = queue.try_submit(1, async {}).unwrap();
    cancelled.cancel();
    assert!(worker(&queue).waits());
    assert!(ready(&mut finished).is_ok() && ready(&mut cancelled).is_err());
    for handle in [&mut finished, &mut cancelled] {
        assert!(!panic_of(|| poll(handle)).is_empty());
        assert!(!panic_of(|| poll(handle)).is_empty());
    }
}

#[test]
fn a_handle_is_woken_once_through_its_latest_waker() {
    let queue = unbounded();
    let log = Arc::new(Log::default());
    let gate = Gate::new();
    let mut handles = [0, 1].map(|number| queue.try_submit(2 - number, gate.task(number)).unwrap());
    let mut worker = worker(&queue);
    for waker in [10, 20, 30] {
        for (number, handle) in handles.iter_mut().enumerate() {
            assert!(poll_with(handle, &log.waker(waker + number)).is_pending());
        }
        assert!(worker.waits());
    }
    assert_eq!(log.take(), []);
    gate.open();
    assert!(worker.waits());
    assert_eq!(log.take(), [30, 31]);
    drop(handles);
    assert_eq!(log.take(), []);
}

#[test]
fn polling_a_handle_again_with_the_same_waker_does_not_clone_it() {
    let queue = unbounded();
    let clones = Arc::new(Counter::default());
    let counter = clones.clone();
    let waker = Hostile::new().on_clone(move || std::task::Wake::wake(counter.clone())).waker();
    let mut handle = queue.try_submit(1, async {}).unwrap();
    assert!((0..3).all(|_| poll_with(&mut handle, &waker).is_pending()));
    assert_eq!(clones.count(), 1);
}

#[test]
fn dropping_a_handle_detaches_its_task() {
    let queue = unbounded();
    let (running, queued) = (Gate::new(), Gate::new());
    let running_handle = queue.try_submit(2, running.task(())).unwrap();
    let mut queued_handle = queue.try_submit(1, queued.task(())).unwrap();
    let waker = Arc::new(Counter::default());
    assert!(poll_with(&mut queued_handle, &Waker::from(waker.clone())).is_pending());
    let mut worker = worker(&queue);
    assert!(worker.waits());
    drop((running_handle, queued_handle));
    assert_eq!(Arc::strong_count(&waker), 1, "a dropped handle lets go of its waker");
    assert_eq!((state(&queue), running.drops(), queued.drops()), ((1, 1), 0, 0));
    running.open();
    assert!(worker.waits());
    assert_eq!((state(&queue), running.drops(), queued.polls()), ((0, 1), 1, 1));
    queued.open();
    assert!(worker.waits());
    assert_eq!((state(&queue), queued.drops(), waker.count()), ((0, 0), 1, 0));
}

#[test]
fn a_result_outlives_its_queue() {
    let queue = unbounded();
    let handle = queue.try_submit(1, async { String::from("seven") }).unwrap();
    assert!(worker(&queue).waits());
    drop(queue);
    handle.cancel();
    assert!(handle.is_finished());
    assert_eq!(outcome(handle).unwrap(), "seven");
}

#[test]
fn the_future_is_dropped_before_its_handle_is_settled() {
    let queue = unbounded();
    let seen = Arc::new(StdMutex::new(Vec::new()));
    let handle_of = |priority: u32, gate: &Arc<Gate>| {
        let mut handle = queue.try_submit(priority, gate.task(())).unwrap();
        let (gate, seen) = (gate.clone(), seen.clone());
        let waker = Hostile::new().on_wake(move || seen.lock().unwrap().push((priority, gate.drops()))).waker();
        assert!(poll_with(&mut handle, &waker).is_pending());
        handle
    };
    let (finishes, cancelled, queued) = (Gate::opened(), Gate::new(), Gate::new());
    let handles = [handle_of(3, &finishes), handle_of(2, &cancelled), handle_of(1, &queued)];
    let mut worker = worker(&queue);
    assert!(worker.waits());
    handles[1].cancel();
    handles[2].cancel();
    assert!(worker.waits());
    let mut seen = std::mem::take(&mut *seen.lock().unwrap());
    seen.sort();
    assert_eq!(seen, [(1, 1), (2, 1), (3, 1)]);
}

/// When, in the life of a task, its handle is dropped.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Leave {
    BeforeItRuns,
    WhileItRuns,
    WhenItIsOver,
    WithTheResult,
}

#[test]
fn a_future_and_its_result_are_dropped_once_in_every_order() {
    for leave in [Leave::BeforeItRuns, Leave::WhileItRuns, Leave::WhenItIsOver, Leave::WithTheResult] {
        for finishes in [true, false] {
            for queue_first in [true, false] {
                let queue = unbounded();
                let (gate, drops) = (Gate::new(), Arc::new(AtomicUsize::new(0)));
                let mut handle = Some(queue.try_submit(1, gate.task(Token::new(&drops))).unwrap());
                let mut worker = worker(&queue);
                let mut queue = Some(queue);
                if queue_first {
                    queue = None;
                }
                handle = handle.filter(|_| leave != Leave::BeforeItRuns);
                assert!(worker.waits());
                handle = handle.filter(|_| leave != Leave::WhileItRuns);
                assert_eq!((gate.drops(), drops.load(Ordering::SeqCst)), (0, 0), "{leave:?}");
                if finishes {
                    gate.open();
                    assert!(worker.waits());
                    let kept = usize::from(handle.is_some());
                    assert_eq!((gate.drops(), drops.load(Ordering::SeqCst)), (1, 1 - kept), "{leave:?}");
                }
                drop((worker, queue));
                assert_eq!(gate.drops(), 1, "{leave:?}");
                if let Some(handle) = handle {
                    assert_eq!(drops.load(Ordering::SeqCst), usize::from(!finishes), "{leave:?}");
                    if leave == Leave::WithTheResult {
                        assert_eq!(outcome(handle).is_ok(), finishes);
                    }
                }
                assert_eq!((gate.drops(), drops.load(Ordering::SeqCst)), (1, 1), "{leave:?}");
            }
        }
    }
}

#[test]
fn a_handle_that_is_dropped_while_its_task_ends_on_another_thread_drops_the_result_once() {
    const ROUNDS: usize = 1_000;
    let queue = unbounded();
    let workers = [(); 2].map(|()| queue.clone().run()).map(|run| thread::spawn(|| blocking::wait(run)));
    let (made, dropped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    for round in 0..ROUNDS {
        let (made, dropped) = (made.clone(), dropped.clone());
        let (begun, begins) = mpsc::channel();
        let handle = queue.try_submit(1, async move {
            let _ = begun.send(());
            made.fetch_add(1, Ordering::SeqCst);
            Token::new(&dropped)
        });
        if round % 3 > 0 {
            begins.recv().unwrap();
        }
        if round % 3 > 1 {
            thread::yield_now();
        }
        drop(handle.unwrap());
    }
    blocking::wait(queue.idle());
    queue.close();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    assert_eq!((made.load(Ordering::SeqCst), dropped.load(Ordering::SeqCst)), (ROUNDS, ROUNDS));
}

// ---------------------------------------------------------------------------------------------------------------------
// Cancelling
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn a_queued_task_is_dropped_within_its_cancel() {
    let queue = unbounded();
    let gates = [(); 3].map(|()| Gate::opened());
    let handles = gates.each_ref().map(|gate| queue.try_submit(1, gate.task(())).unwrap());
    let [first, second, third] = handles;
    let mut second = Driven::new(second);
    assert!(second.waits());
    second.get().cancel();
    assert_eq!((state(&queue), gates.each_ref().map(|gate| gate.drops())), ((2, 0), [0, 1, 0]));
    assert!(second.get().is_finished());
    assert_cancelled(second.output());
    assert!(worker(&queue).waits());
    assert_eq!(gates.map(|gate| (gate.polls(), gate.drops())), [(1, 1), (0, 1), (1, 1)]);
    assert!(outcome(first).is_ok() && outcome(third).is_ok());
}

#[test]
fn a_running_task_is_dropped_at_the_next_poll_of_its_worker_instead_of_being_polled() {
    let queue = unbounded();
    let (gate, next) = (Gate::new(), Gate::opened());
    let mut handle = Driven::new(queue.try_submit(2, gate.task(())).unwrap());
    let after = queue.try_submit(1, next.task(7)).unwrap();
    let mut worker = worker(&queue);
    assert!(worker.waits() && handle.waits());
    handle.get().cancel();
    assert!(worker.is_woken() && handle.waits() && !handle.get().is_finished());
    assert_eq!((state(&queue), gate.drops()), ((1, 1), 0));
    // It could finish now, and is not asked.
    gate.open();
    assert!(worker.waits());
    assert_eq!((state(&queue), gate.polls(), gate.drops()), ((0, 0), 1, 1));
    assert_cancelled(handle.output());
    assert_eq!(outcome(after).unwrap(), 7);
}

#[test]
fn cancelling_what_is_over_changes_nothing() {
    let queue = unbounded();
    let finished = queue.try_submit(1, async { 7 }).unwrap();
    let panicked = queue.try_submit(1, async { panic!("oh") }).unwrap();
    let cancelled = queue.try_submit(0, async {}).unwrap();
    cancelled.cancel();
    let mut worker = worker(&queue);
    assert!(worker.waits());
    finished.cancel();
    panicked.cancel();
    cancelled.cancel();
    assert!(!worker.is_woken(), "there is nothing to do for it");
    assert_eq!((outcome(finished).unwrap(), text_of::<()>(outcome(panicked))), (7, "oh"));
    assert_cancelled(outcome(cancelled));
    assert_eq!(state(&queue), (0, 0));
}

#[test]
fn cancelling_twice_is_cancelling_once() {
    let queue = unbounded();
    let (gate, next) = (Gate::new(), Gate::new());
    let handle = queue.try_submit(2, gate.task(())).unwrap();
    let after = queue.try_submit(1, next.task(())).unwrap();
    let mut worker = worker(&queue);
    assert!(worker.waits());
    handle.cancel();
    handle.cancel();
    assert!(worker.waits());
    handle.cancel();
    assert!(worker.waits());
    assert_eq!((state(&queue), gate.drops(), next.polls()), ((0, 1), 1, 1), "the next one is not meant");
    assert_cancelled(outcome(handle));
    assert!(!after.is_finished());
}

#[test]
fn the_handle_of_a_task_that_is_over_has_no_power_over_those_that_come_after_it() {
    let queue = unbounded();
    let mut worker = worker(&queue);
    let mut old = Vec::new();
    let log = Arc::new(Log::default());
    for round in 0..20 {
        let handle = queue.try_submit(1, async {}).unwrap();
        if round % 2 == 0 {
            assert!(worker.waits());
        } else {
            handle.cancel();
        }
        old.push(handle);
        let handles = [0, 1, 2].map(|number| {
            let log = log.clone();
            queue.try_submit(1, async move { log.push(number) }).unwrap()
        });
        for old in &old {
            assert!(!old.set_priority(round));
            old.cancel();
        }
        assert_eq!(state(&queue), (3, 0));
        assert!(worker.waits());
        assert_eq!(log.take(), [0, 1, 2]);
        assert!(handles.into_iter().all(|handle| outcome(handle).is_ok()));
    }
}

#[test]
fn a_cancelled_handle_that_is_dropped_still_cancels() {
    let queue = unbounded();
    let gate = Gate::new();
    let handle = queue.try_submit(1, gate.task(())).unwrap();
    let mut worker = worker(&queue);
    assert!(worker.waits());
    handle.cancel();
    drop(handle);
    assert!(worker.waits());
    assert_eq!((state(&queue), gate.polls(), gate.drops()), ((0, 0), 1, 1));
}

#[test]
fn a_task_that_was_taken_and_not_polled_yet_is_never_polled_when_it_is_cancelled() {
    // A pop admits a parked task, whose submit is woken: some time between the pop and the end of the worker's poll.
    let queue = bounded(1);
    let gate = Gate::new();
    let handle = Arc::new(queue.try_submit(2, gate.task(())).unwrap());
    let polls_then = Arc::new(StdMutex::new(None));
    let mut submit = Box::pin(queue.submit(1, async { 7 }));
    let waker = {
        let (handle, gate, polls_then) = (handle.clone(), gate.clone(), polls_then.clone());
        Hostile::new().on_wake(move || {
            *polls_then.lock().unwrap() = Some(gate.polls());
            handle.cancel();
        })
    };
    assert!(poll_with(&mut submit, &waker.waker()).is_pending());
    let mut worker = worker(&queue);
    assert!(worker.waits());
    assert_eq!(*polls_then.lock().unwrap(), Some(gate.polls()), "it was polled though it was cancelled");
    assert_eq!((gate.drops(), state(&queue)), (1, (0, 0)));
    let second = ready(&mut submit).unwrap();
    drop(submit);
    assert_eq!(outcome(second).unwrap(), 7);
    assert_cancelled(outcome(Arc::into_inner(handle).unwrap()));
}

#[test]
fn a_task_may_be_cancelled_while_it_is_polled_on_another_thread() {
    let queue = unbounded();
    let gate = Gate::new();
    let (inside, is_inside) = mpsc::channel();
    let cancelled = Arc::new(AtomicBool::new(false));
    let mut task = gate.task(());
    let flag = cancelled.clone();
    let handle = queue.try_submit(
        1,
        poll_fn(move |context| {
            inside.send(()).unwrap();
            until(|| flag.load(Ordering::SeqCst));
            Pin::new(&mut task).poll(context)
        }),
    );
    let handle = handle.unwrap();
    let thread = thread::spawn({
        let run = queue.clone().run();
        || blocking::wait(run)
    });
    is_inside.recv().unwrap();
    handle.cancel();
    cancelled.store(true, Ordering::SeqCst);
    assert_cancelled(blocking::wait(handle));
    assert_eq!((gate.polls(), gate.drops()), (1, 1));
    queue.close();
    thread.join().unwrap();
}

#[test]
fn a_task_that_finishes_in_the_poll_in_which_it_is_cancelled_has_finished() {
    let queue = unbounded();
    let own: Arc<OnceLock<Handle<u32>>> = Arc::default();
    let mine = own.clone();
    let handle = queue.try_submit(1, async move {
        mine.get().unwrap().cancel();
        7
    });
    own.set(handle.unwrap()).unwrap();
    let after = queue.try_submit(0, async { 8 }).unwrap();
    assert!(worker(&queue).waits());
    let handle = Arc::into_inner(own).unwrap().into_inner().unwrap();
    assert_eq!((outcome(handle).unwrap(), outcome(after).unwrap()), (7, 8));
}

#[test]
fn cancels_from_other_threads_settle_every_handle_once() {
    const ROUNDS: usize = 3_000;
    let queue = unbounded();
    let workers = [(); 2].map(|()| queue.clone().run()).map(|run| thread::spawn(|| blocking::wait(run)));
    let mut finished = 0;
    for round in 0..ROUNDS {
        let (polls, futures, results) =
            (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        // Some never end unless they are cancelled.
        let lasts = if round % 4 == 0 { usize::MAX } else { round % 4 };
        let task = {
            let (polls, futures, token) = (polls.clone(), futures.clone(), Token::new(&results));
            let mut token = Some(token);
            script(
                move |context: &mut Context<'_>| {
                    if polls.fetch_add(1, Ordering::SeqCst) < lasts {
                        context.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    Poll::Ready(token.take().unwrap())
                },
                move || {
                    futures.fetch_add(1, Ordering::SeqCst);
                },
            )
        };
        let handle = queue.try_submit(1, task).unwrap();
        let polls_then = thread::scope(|scope| {
            let cancel = || {
                for _ in 0..round % 23 * 20 {
                    std::hint::spin_loop();
                }
                handle.cancel();
                polls.load(Ordering::SeqCst)
            };
            let other = (round % 8 == 0).then(|| scope.spawn(cancel));
            cancel().min(other.map_or(usize::MAX, |other| other.join().unwrap()))
        });
        match blocking::wait(handle) {
            Ok(token) => {
                assert!(lasts < usize::MAX && results.load(Ordering::SeqCst) == 0);
                drop(token);
                finished += 1;
            }
            Err(TaskError::Cancelled) => {}
            Err(TaskError::Panicked(panic)) => resume_unwind(panic.into_payload()),
        }
        assert_eq!((futures.load(Ordering::SeqCst), results.load(Ordering::SeqCst)), (1, 1));
        // The worker may have looked right before the cancel.
        assert!(polls.load(Ordering::SeqCst) <= polls_then + 1, "polled after it was cancelled");
    }
    blocking::wait(queue.idle());
    assert_eq!(state(&queue), (0, 0));
    queue.close();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    assert!(finished <= ROUNDS * 3 / 4);
}

#[test]
fn workers_that_are_dropped_while_tasks_are_cancelled_on_other_threads_settle_every_handle() {
    const ROUNDS: usize = 300;
    let queue = unbounded();
    let mut random = StdRng::seed_from_u64(4);
    for _ in 0..ROUNDS {
        let drops = Arc::new(AtomicUsize::new(0));
        let handles = [(); 4].map(|()| {
            let token = Token::new(&drops);
            let task = async move {
                let _token = token;
                loop {
                    yield_now().await;
                }
            };
            queue.try_submit(random.random_range(0..3), task).unwrap()
        });
        let polls = [(); 2].map(|()| random.random_range(0..4));
        let order = {
            let mut order = [0, 1, 2, 3];
            order.shuffle(&mut random);
            order
        };
        thread::scope(|scope| {
            for polls in polls {
                let mut run = Box::pin(queue.clone().run());
                scope.spawn(move || {
                    for _ in 0..polls {
                        assert!(poll(&mut run).is_pending());
                    }
                });
            }
            for number in order {
                handles[number].cancel();
            }
        });
        // All workers are gone, so whatever they ran has been cancelled, and what they did not was before.
        blocking::wait(queue.idle());
        assert_eq!((state(&queue), drops.load(Ordering::SeqCst)), ((0, 0), 4));
        handles.into_iter().for_each(|handle| assert_cancelled(outcome(handle)));
    }
}

#[test]
fn a_queue_that_is_dropped_while_tasks_are_cancelled_on_other_threads_settles_every_handle() {
    const ROUNDS: usize = 300;
    for round in 0..ROUNDS {
        let queue = unbounded();
        let gates = [(); 6].map(|()| Gate::new());
        let handles = gates.each_ref().map(|gate| queue.try_submit(1, gate.task(())).unwrap());
        let idle = queue.idle();
        let mut run = Box::pin(queue.clone().run());
        if round % 2 == 0 {
            assert!(poll(&mut run).is_pending());
        }
        thread::scope(|scope| {
            scope.spawn(|| drop(run));
            scope.spawn(|| drop(queue));
            scope.spawn(|| blocking::wait(idle));
            scope.spawn(|| handles[..4].iter().for_each(TaskHandle::cancel));
            handles[2..].iter().rev().for_each(TaskHandle::cancel);
        });
        assert_eq!(gates.map(|gate| gate.drops()), [1; 6]);
        handles.into_iter().for_each(|handle| assert_cancelled(outcome(handle)));
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Workers
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn a_worker_ends_when_the_queue_is_closed_and_drained() {
    let queue = unbounded();
    let gate = Gate::new();
    let mut busy = worker(&queue);
    drop(queue.try_submit(1, gate.task(())).unwrap());
    assert!(busy.waits());
    let waiting = waiting_worker(&queue);
    let last = queue.try_submit(1, async { 7 }).unwrap();
    assert!(!queue.is_closed());
    queue.close();
    queue.close();
    assert!(queue.is_closed());
    assert!(busy.waits(), "it has a task");
    waiting.output();
    assert_eq!((outcome(last).unwrap(), state(&queue)), (7, (0, 1)));
    gate.open();
    busy.output();
    assert_eq!(state(&queue), (0, 0));
    worker(&queue).output();
}

#[test]
fn a_worker_does_not_end_while_a_task_of_a_closed_queue_may_still_come_to_it() {
    let queue = unbounded();
    let first = waiting_worker(&queue);
    let mut second = waiting_worker(&queue);
    let handle = queue.try_submit(1, async { 7 }).unwrap();
    assert!(first.is_woken());
    queue.close();
    assert!(second.waits(), "the first one has the right to the task");
    drop(first);
    second.output();
    assert_eq!(outcome(handle).unwrap(), 7);
}

#[test]
fn a_worker_ends_when_another_takes_the_last_task_of_a_closed_queue() {
    let queue = unbounded();
    let gate = Gate::new();
    let mut first = waiting_worker(&queue);
    let mut second = waiting_worker(&queue);
    drop(queue.try_submit(1, gate.task(())).unwrap());
    queue.close();
    assert!(second.waits() && first.waits());
    second.output();
    assert_eq!(state(&queue), (0, 1));
    gate.open();
    first.output();
}

#[test]
fn a_worker_ends_when_the_last_task_of_a_closed_queue_is_cancelled() {
    let queue = unbounded();
    let first = waiting_worker(&queue);
    let mut second = waiting_worker(&queue);
    let handle = queue.try_submit(1, async {}).unwrap();
    queue.close();
    assert!(second.waits());
    handle.cancel();
    second.output();
    first.output();
}

#[test]
fn the_tasks_of_a_closed_queue_can_still_be_cancelled_and_reordered() {
    let queue = unbounded();
    let log = Arc::new(Log::default());
    let handles = [0, 1, 2].map(|number| {
        let log = log.clone();
        queue.try_submit(1, async move { log.push(number) }).unwrap()
    });
    queue.close();
    handles[1].cancel();
    assert!(handles[2].set_priority(2));
    worker(&queue).output();
    assert_eq!(log.take(), [2, 0]);
}

#[test]
fn close_wakes_every_waiting_worker() {
    let queue = unbounded();
    let workers = [(); 20].map(|()| waiting_worker(&queue));
    queue.close();
    workers.into_iter().for_each(Driven::output);
}

#[test]
fn a_worker_that_is_dropped_while_it_waits_loses_no_task() {
    let queue = unbounded();
    let first = waiting_worker(&queue);
    let mut second = waiting_worker(&queue);
    drop(first);
    let handle = queue.try_submit(1, async { 7 }).unwrap();
    assert!(second.waits());
    assert_eq!(outcome(handle).unwrap(), 7);
}

#[test]
fn a_worker_that_is_dropped_when_a_task_has_come_for_it_loses_no_task() {
    let queue = unbounded();
    let mut workers = vec![waiting_worker(&queue), waiting_worker(&queue), waiting_worker(&queue)];
    let handle = queue.try_submit(1, async { 7 }).unwrap();
    while workers.len() > 1 {
        let woken = workers.iter().position(Driven::is_woken).expect("somebody is woken");
        drop(workers.remove(woken));
    }
    assert_eq!(state(&queue), (1, 0));
    assert!(workers[0].is_woken() && workers[0].waits());
    assert_eq!(outcome(handle).unwrap(), 7);
}

#[test]
fn a_task_outlasts_the_last_worker() {
    let queue = unbounded();
    let first = waiting_worker(&queue);
    let handle = queue.try_submit(1, async { 7 }).unwrap();
    drop(first);
    assert_eq!((state(&queue), handle.is_finished()), ((1, 0), false));
    assert!(worker(&queue).waits());
    assert_eq!(outcome(handle).unwrap(), 7);
}

#[test]
fn a_worker_for_which_a_cancelled_task_had_come_waits_on() {
    let queue = unbounded();
    let mut first = waiting_worker(&queue);
    let mut second = waiting_worker(&queue);
    queue.try_submit(1, async {}).unwrap().cancel();
    assert!(first.waits() && second.waits());
    let gates = [Gate::new(), Gate::new()];
    let handles = gates.each_ref().map(|gate| queue.try_submit(1, gate.task(())).unwrap());
    assert!(first.waits() && second.waits());
    assert_eq!((state(&queue), handles.len()), ((0, 2), 2));
}

#[test]
fn a_worker_that_is_dropped_in_mid_task_cancels_that_task_only() {
    let queue = unbounded();
    let (mine, other, queued) = (Gate::new(), Gate::new(), Gate::opened());
    let mut handle = Driven::new(queue.try_submit(3, mine.task(())).unwrap());
    let other_handle = queue.try_submit(2, other.task(8)).unwrap();
    let mut first = worker(&queue);
    let mut second = worker(&queue);
    assert!(first.waits() && second.waits() && handle.waits());
    let queued_handle = queue.try_submit(1, queued.task(7)).unwrap();
    drop(first);
    assert_eq!((state(&queue), mine.drops(), mine.polls()), ((1, 1), 1, 1));
    assert!(handle.get().is_finished());
    assert_cancelled(handle.output());
    other.open();
    assert!(second.waits());
    assert_eq!((outcome(other_handle).unwrap(), outcome(queued_handle).unwrap()), (8, 7));
}

#[test]
fn a_worker_dropped_between_a_cancel_and_its_poll_cancels_too() {
    let queue = unbounded();
    let gate = Gate::new();
    let handle = queue.try_submit(1, gate.task(())).unwrap();
    let mut worker = worker(&queue);
    assert!(worker.waits());
    handle.cancel();
    drop(worker);
    assert_eq!((state(&queue), gate.drops()), ((0, 0), 1));
    assert_cancelled(outcome(handle));
}

#[test]
fn a_worker_outlives_every_handle_to_its_queue() {
    let queue = unbounded();
    let handle = queue.try_submit(1, async { 7 }).unwrap();
    let mut worker = worker(&queue);
    drop(queue);
    assert!(!handle.is_finished(), "a worker keeps the queue");
    let _ = worker.go();
    assert_eq!(outcome(handle).unwrap(), 7);
}

#[test]
fn a_worker_may_be_a_task_of_its_own_queue() {
    let queue = unbounded();
    let inner = queue.try_submit(9, queue.clone().run()).unwrap();
    let mut outer = worker(&queue);
    assert!(outer.waits());
    let handle = queue.try_submit(1, async { 7 }).unwrap();
    assert!(outer.waits());
    assert_eq!((outcome(handle).unwrap(), state(&queue)), (7, (0, 1)));
    queue.close();
    outer.output();
    assert!(outcome(inner).is_ok());
}

#[test]
fn a_worker_may_serve_the_tasks_of_another_queue_as_one_task() {
    let (outer, inner) = (unbounded(), unbounded());
    let mut handles = [1, 2].map(|number| Driven::new(inner.try_submit(1, async move { number }).unwrap()));
    let nested = outer.try_submit(1, inner.clone().run()).unwrap();
    let mut worker = worker(&outer);
    assert!(handles.iter_mut().all(Driven::waits) && worker.waits());
    let last = inner.try_submit(1, async { 3 }).unwrap();
    assert!(worker.waits());
    assert_eq!(outcome(last).unwrap(), 3);
    inner.close();
    assert!(worker.waits());
    assert!(outcome(nested).is_ok());
    assert_eq!(handles.map(|handle| handle.output().unwrap()), [1, 2]);
}

#[test]
fn aborting_everything_in_any_order_settles_everything() {
    const TASKS: usize = 5;
    /// Two workers, the queue itself, a cancel of each task, a drop of each handle.
    const ACTIONS: usize = 3 + 2 * TASKS;
    let mut random = StdRng::seed_from_u64(2);
    for round in 0..2_000 {
        // Either the workers run after each action, or not any more.
        let lively = round % 2 == 0;
        let queue = unbounded();
        let gates = [(); TASKS].map(|()| Gate::new());
        let mut handles = gates.each_ref().map(|gate| Some(queue.try_submit(1, gate.task(())).unwrap()));
        let mut workers = [Some(worker(&queue)), Some(worker(&queue))];
        assert!(workers.iter_mut().flatten().all(Driven::waits));
        assert_eq!(state(&queue), (TASKS - 2, 2));
        let mut idle = Driven::new(queue.idle());
        let mut queue = Some(queue);
        let mut actions: Vec<usize> = (0..ACTIONS).collect();
        actions.shuffle(&mut random);
        for action in actions {
            match action {
                0 | 1 => drop(workers[action].take()),
                2 => drop(queue.take()),
                _ if action % 2 == 0 => drop(handles[action / 2 - 2].take()),
                _ => {
                    if let Some(handle) = &handles[action / 2 - 1] {
                        handle.cancel();
                    }
                }
            }
            if lively {
                assert!(workers.iter_mut().flatten().all(Driven::waits));
            }
            let over = gates.each_ref().map(|gate| gate.drops() == 1);
            for (handle, over) in handles.iter().zip(over) {
                assert!(handle.as_ref().is_none_or(|handle| handle.is_finished() == over));
            }
            if let Some(queue) = &queue {
                assert_eq!(queue.len() + queue.running(), over.iter().filter(|over| !*over).count());
            }
            if !over.iter().all(|over| *over) {
                assert!(idle.waits());
            }
        }
        assert_eq!(gates.map(|gate| gate.drops()), [1; TASKS]);
        idle.output();
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Panics
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn a_task_that_panics_fails_its_handle_and_counts_as_done() {
    let queue = unbounded();
    let drops = Arc::new(AtomicUsize::new(0));
    let token = Token::new(&drops);
    let mut handle = Driven::new(
        queue
            .try_submit(2, async move {
                let _token = token;
                yield_now().await;
                panic!("oh");
            })
            .unwrap(),
    );
    let after = queue.try_submit(1, async { 7 }).unwrap();
    let mut idle = Driven::new(queue.idle());
    let mut worker = worker(&queue);
    assert!(handle.waits() && idle.waits() && worker.waits());
    assert_eq!((state(&queue), drops.load(Ordering::SeqCst)), ((0, 0), 1));
    assert_eq!(text_of::<()>(handle.output()), "oh");
    assert_eq!(outcome(after).unwrap(), 7);
    idle.output();
}

/// What a task fails with that panics with `payload`.
fn failure_by(payload: Box<dyn Any + Send>) -> TaskError {
    let queue = unbounded();
    let handle = queue.try_submit(1, async { resume_unwind(payload) }).unwrap();
    assert!(worker(&queue).waits());
    outcome::<_, ()>(handle).unwrap_err()
}

#[test]
fn the_payload_of_a_panic_is_given_back_as_it_is() {
    let payload = |payload| match failure_by(payload) {
        TaskError::Panicked(panic) => panic.into_payload(),
        TaskError::Cancelled => panic!("it was cancelled"),
    };
    assert_eq!(payload(Box::new(41_u16)).downcast_ref(), Some(&41_u16));
    assert_eq!(payload(Box::new("literal")).downcast_ref(), Some(&"literal"));
    assert_eq!(payload(Box::new("text".to_owned())).downcast_ref(), Some(&"text".to_owned()));
}

#[test]
fn a_failed_task_shows_the_message_of_its_panic() {
    let payloads: [(Box<dyn Any + Send>, _); 3] =
        [(Box::new("no tenant"), Some("no tenant")), (Box::new("7".to_owned()), Some("7")), (Box::new(41_u16), None)];
    for (payload, wanted) in payloads {
        let failure = failure_by(payload);
        let (shown, debugged) = (failure.to_string(), format!("{failure:?}"));
        assert!(shown.contains("panicked") && debugged.contains("Panicked"), "{shown} {debugged}");
        let TaskError::Panicked(panic) = failure else { panic!("it was cancelled") };
        assert_eq!(panic.message(), wanted);
        assert!(wanted.is_none_or(|message| shown.contains(message) && debugged.contains(message)), "{debugged}");
    }
}

/// A task that waits and panics when it is dropped.
fn panics_when_dropped(text: &'static str) -> impl Future<Output = ()> + Send + 'static {
    script(|_| Poll::Pending, move || resume_unwind(Box::new(text)))
}

#[test]
fn a_queued_task_that_panics_when_it_is_cancelled_fails_its_handle() {
    let queue = unbounded();
    let handle = queue.try_submit(2, panics_when_dropped("dropped")).unwrap();
    let after = queue.try_submit(1, async { 7 }).unwrap();
    handle.cancel();
    assert_eq!(state(&queue), (1, 0));
    assert_eq!(text_of(outcome(handle)), "dropped");
    assert!(worker(&queue).waits());
    assert_eq!(outcome(after).unwrap(), 7);
}

#[test]
fn a_running_task_that_panics_when_it_is_cancelled_fails_its_handle() {
    let queue = unbounded();
    let handle = queue.try_submit(2, panics_when_dropped("dropped")).unwrap();
    let after = queue.try_submit(1, async { 7 }).unwrap();
    let mut idle = Driven::new(queue.idle());
    let mut worker = worker(&queue);
    assert!(worker.waits() && idle.waits());
    handle.cancel();
    assert!(worker.waits());
    assert_eq!((text_of(outcome(handle)), outcome(after).unwrap(), state(&queue)), ("dropped", 7, (0, 0)));
    idle.output();
}

#[test]
fn a_finished_task_that_panics_when_it_is_dropped_fails_its_handle() {
    let queue = unbounded();
    let drops = Arc::new(AtomicUsize::new(0));
    let mut token = Some(Token::new(&drops));
    let task = script(move |_| Poll::Ready(token.take().unwrap()), || resume_unwind(Box::new("dropped")));
    let handle = queue.try_submit(2, task).unwrap();
    let after = queue.try_submit(1, async { 7 }).unwrap();
    let mut worker = worker(&queue);
    assert!(worker.waits());
    assert_eq!(text_of(outcome(handle)), "dropped");
    assert_eq!((drops.load(Ordering::SeqCst), outcome(after).unwrap(), state(&queue)), (1, 7, (0, 0)));
}

#[test]
fn a_worker_that_is_dropped_with_a_task_that_panics_then_fails_its_handle() {
    let queue = unbounded();
    let handle = queue.try_submit(2, panics_when_dropped("dropped")).unwrap();
    let mut idle = Driven::new(queue.idle());
    let mut first = worker(&queue);
    assert!(first.waits() && idle.waits());
    drop(first);
    assert_eq!((text_of(outcome(handle)), state(&queue)), ("dropped", (0, 0)));
    idle.output();
}

#[test]
fn a_task_that_panics_when_polled_and_when_dropped_fails_its_handle() {
    survives("a_task_that_panics_when_polled_and_when_dropped_fails_its_handle", || {
        let queue = unbounded();
        let polled = |_: &mut Context<'_>| -> Poll<()> { resume_unwind(Box::new("polled")) };
        // Only one of the payloads can be handed on; the drop of the other one is foreign code, too.
        let dropped = || resume_unwind(Box::new(Token::on_drop(|| resume_unwind(Box::new("payload")))));
        let handle = queue.try_submit(2, script(polled, dropped)).unwrap();
        let after = queue.try_submit(1, async { 7 }).unwrap();
        assert!(worker(&queue).waits());
        assert_eq!(text_of(outcome(handle)), "polled");
        assert_eq!((outcome(after).unwrap(), state(&queue)), (7, (0, 0)));
    });
}

#[test]
fn a_finished_task_and_its_result_that_panic_when_dropped_end_nobody() {
    survives("a_finished_task_and_its_result_that_panic_when_dropped_end_nobody", || {
        for detached in [false, true] {
            let queue = unbounded();
            let mut token = Some(Token::on_drop(|| resume_unwind(Box::new("result"))));
            let task = script(move |_| Poll::Ready(token.take()), || resume_unwind(Box::new("future")));
            let handle = Some(queue.try_submit(2, task).unwrap()).filter(|_| !detached);
            let after = queue.try_submit(1, async { 7 }).unwrap();
            assert!(worker(&queue).waits());
            if let Some(handle) = handle {
                assert!(["future", "result"].contains(&text_of(outcome(handle))));
            }
            assert_eq!((outcome(after).unwrap(), state(&queue)), (7, (0, 0)));
        }
    });
}

#[test]
fn a_detached_result_that_panics_when_dropped_spares_the_worker() {
    survives("a_detached_result_that_panics_when_dropped_spares_the_worker", || {
        let queue = unbounded();
        drop(queue.try_submit(3, async { Token::on_drop(|| resume_unwind(Box::new("result"))) }).unwrap());
        let payload = || Token::on_drop(|| resume_unwind(Box::new("payload")));
        drop(queue.try_submit(2, async move { Token::on_drop(move || resume_unwind(Box::new(payload()))) }).unwrap());
        let after = queue.try_submit(1, async { 7 }).unwrap();
        let mut idle = Driven::new(queue.idle());
        let mut worker = worker(&queue);
        assert!(idle.waits() && worker.waits());
        assert_eq!((outcome(after).unwrap(), state(&queue)), (7, (0, 0)));
        idle.output();
    });
}

#[test]
fn a_result_that_panics_when_its_handle_is_dropped_panics_there() {
    let queue = unbounded();
    let handle = queue.try_submit(2, async { Token::on_drop(|| panic!("result")) }).unwrap();
    let mut worker = worker(&queue);
    assert!(worker.waits());
    assert_eq!(panic_of(|| drop(handle)), "result");
    let after = queue.try_submit(1, async { 7 }).unwrap();
    assert!(worker.waits());
    assert_eq!(outcome(after).unwrap(), 7);
}

#[test]
fn the_payload_of_a_detached_task_that_panics_when_dropped_spares_the_worker() {
    survives("the_payload_of_a_detached_task_that_panics_when_dropped_spares_the_worker", || {
        let queue = unbounded();
        let payload = || -> Box<Token> { Box::new(Token::on_drop(|| resume_unwind(Box::new("payload")))) };
        drop(queue.try_submit(4, async move { resume_unwind(payload()) }).unwrap());
        drop(queue.try_submit(3, script(|_| Poll::Ready(()), move || resume_unwind(payload()))).unwrap());
        let queued = queue.try_submit(0, script(|_| Poll::<()>::Pending, move || resume_unwind(payload()))).unwrap();
        queued.cancel();
        match outcome(queued) {
            // It belongs to the test now, and would panic here.
            Err(TaskError::Panicked(panic)) => std::mem::forget(panic),
            other => panic!("{other:?}"),
        }
        let after = queue.try_submit(1, async { 7 }).unwrap();
        assert!(worker(&queue).waits());
        assert_eq!((outcome(after).unwrap(), state(&queue)), (7, (0, 0)));
    });
}

#[test]
fn the_waker_of_a_handle_that_panics_when_woken_spares_the_worker() {
    let queue = unbounded();
    let mut finishes = queue.try_submit(4, async { 7 }).unwrap();
    let mut panics = queue.try_submit(3, async { resume_unwind(Box::new("task")) }).unwrap();
    let gate = Gate::new();
    let mut cancelled = queue.try_submit(2, gate.task(())).unwrap();
    let after = queue.try_submit(1, async { 8 }).unwrap();
    let waker = Hostile::new().on_wake(|| resume_unwind(Box::new("waker"))).waker();
    assert!(poll_with(&mut finishes, &waker).is_pending());
    assert!(poll_with(&mut panics, &waker).is_pending());
    assert!(poll_with(&mut cancelled, &waker).is_pending());
    let mut idle = Driven::new(queue.idle());
    let mut worker = worker(&queue);
    assert!(idle.waits() && worker.waits());
    assert_eq!(state(&queue), (1, 1));
    cancelled.cancel();
    assert!(worker.waits());
    assert_eq!((outcome(finishes).unwrap(), text_of::<()>(outcome(panics))), (7, "task"));
    assert_cancelled(outcome(cancelled));
    assert_eq!((outcome(after).unwrap(), state(&queue), gate.drops()), (8, (0, 0), 1));
    idle.output();
}

#[test]
fn the_waker_of_who_waits_for_the_end_that_panics_when_woken_spares_the_worker() {
    let queue = unbounded();
    let waker = Hostile::new().on_wake(|| resume_unwind(Box::new("waker"))).waker();
    let mut worker = worker(&queue);
    for result in [7, 8] {
        let task = queue.try_submit(1, async move { result }).unwrap();
        let (mut idle, mut other) = (queue.idle(), Driven::new(queue.idle()));
        assert!(poll_with(&mut idle, &waker).is_pending() && other.waits());
        assert!(worker.waits());
        assert_eq!((outcome(task).unwrap(), state(&queue)), (result, (0, 0)));
        other.output();
        ready(&mut idle);
    }
}

#[test]
fn the_waker_of_a_handle_that_panics_when_its_queued_task_is_cancelled_loses_nothing() {
    let queue = unbounded();
    let gate = Gate::new();
    let mut handle = queue.try_submit(2, gate.task(())).unwrap();
    let waker = Hostile::new().on_wake(|| resume_unwind(Box::new("waker"))).waker();
    assert!(poll_with(&mut handle, &waker).is_pending());
    let mut idle = Driven::new(queue.idle());
    assert!(idle.waits());
    let _ = catch_unwind(AssertUnwindSafe(|| handle.cancel()));
    assert_eq!((gate.drops(), state(&queue)), (1, (0, 0)));
    assert_cancelled(outcome(handle));
    idle.output();
}

#[test]
fn the_waker_of_a_handle_that_panics_when_a_worker_is_dropped_loses_nothing() {
    let queue = unbounded();
    let gate = Gate::new();
    let mut handle = queue.try_submit(2, gate.task(())).unwrap();
    let after = queue.try_submit(1, async { 7 }).unwrap();
    let waker = Hostile::new().on_wake(|| resume_unwind(Box::new("waker"))).waker();
    assert!(poll_with(&mut handle, &waker).is_pending());
    let mut first = worker(&queue);
    assert!(first.waits());
    let _ = catch_unwind(AssertUnwindSafe(|| drop(first)));
    assert_eq!((gate.drops(), state(&queue)), (1, (1, 0)));
    assert_cancelled(outcome(handle));
    assert!(worker(&queue).waits());
    assert_eq!(outcome(after).unwrap(), 7);
}

#[test]
fn the_waker_of_a_handle_that_panics_when_cloned_or_dropped_spares_the_task() {
    let queue = unbounded();
    let mut handle = queue.try_submit(1, async { 7 }).unwrap();
    let clone = Hostile::new().on_clone(|| panic!("cloned")).waker();
    assert_eq!(panic_of(|| poll_with(&mut handle, &clone)), "cloned");
    // It is dropped when it is replaced, with panics only while they are wanted.
    let armed = Arc::new(AtomicBool::new(false));
    let flag = armed.clone();
    let dropped = Hostile::new().on_drop(move || assert!(!flag.load(Ordering::SeqCst), "dropped")).waker();
    assert!(poll_with(&mut handle, &dropped).is_pending());
    armed.store(true, Ordering::SeqCst);
    let counter = Arc::new(Counter::default());
    let waker = Waker::from(counter.clone());
    let _ = catch_unwind(AssertUnwindSafe(|| poll_with(&mut handle, &waker)));
    armed.store(false, Ordering::SeqCst);
    assert!(poll_with(&mut handle, &waker).is_pending());
    assert!(worker(&queue).waits());
    assert_eq!((counter.count(), outcome(handle).unwrap()), (1, 7));
}

#[test]
fn the_waker_of_a_worker_that_panics_loses_no_task() {
    let queue = unbounded();
    let mut run = Box::pin(queue.clone().run());
    let waker = Hostile::new().on_wake(|| resume_unwind(Box::new("waker"))).waker();
    assert!(poll_with(&mut run, &waker).is_pending());
    let gate = Gate::opened();
    let _ = catch_unwind(AssertUnwindSafe(|| drop(queue.try_submit(1, gate.task(())))));
    assert_eq!(state(&queue), (1, 0));
    assert!(poll(&mut run).is_pending());
    assert_eq!((gate.polls(), gate.drops()), (1, 1));

    let gate = Gate::new();
    let handle = queue.try_submit(1, gate.task(())).unwrap();
    assert!(poll_with(&mut run, &waker).is_pending());
    let _ = catch_unwind(AssertUnwindSafe(|| handle.cancel()));
    assert!(poll(&mut run).is_pending());
    assert_cancelled(outcome(handle));
    assert_eq!((gate.polls(), gate.drops(), state(&queue)), (1, 1, (0, 0)));
}

#[test]
fn the_waker_of_a_worker_that_panics_when_cloned_loses_no_task() {
    for tasks in 0..3 {
        let queue = unbounded();
        let gates: Vec<_> = (0..tasks).map(|_| Gate::new()).collect();
        let handles: Vec<_> = gates.iter().map(|gate| queue.try_submit(1, gate.task(())).unwrap()).collect();
        let mut idle = Driven::new(queue.idle());
        assert_eq!(idle.waits(), tasks > 0);
        let mut run = Box::pin(queue.clone().run());
        let waker = Hostile::new().on_clone(|| resume_unwind(Box::new("cloned"))).waker();
        assert!(catch_unwind(AssertUnwindSafe(|| poll_with(&mut run, &waker))).is_err());
        drop(run);
        // The one that it ran, if any, is cancelled; the others are still there.
        let over = handles.iter().filter(|handle| handle.is_finished()).count();
        assert_eq!((over + queue.len(), queue.running()), (tasks, 0));
        assert!(over <= 1);
        gates.iter().for_each(|gate| gate.open());
        assert!(worker(&queue).waits());
        assert!(handles.iter().all(TaskHandle::is_finished));
        assert!(gates.iter().all(|gate| gate.drops() == 1));
        if tasks > 0 {
            idle.output();
        }
    }
}

#[test]
fn the_waker_of_a_worker_that_panics_when_dropped_loses_no_task() {
    let queue = unbounded();
    let gate = Gate::new();
    let handle = queue.try_submit(2, gate.task(7)).unwrap();
    let after = queue.try_submit(1, async { 8 }).unwrap();
    let armed = Arc::new(AtomicBool::new(false));
    let flag = armed.clone();
    let waker = Hostile::new().on_drop(move || {
        if flag.load(Ordering::SeqCst) {
            resume_unwind(Box::new("dropped"));
        }
    });
    let waker = waker.waker();
    let mut idle = Driven::new(queue.idle());
    let mut run = Box::pin(queue.clone().run());
    assert!(idle.waits() && poll_with(&mut run, &waker).is_pending());
    gate.open();
    armed.store(true, Ordering::SeqCst);
    let polled = catch_unwind(AssertUnwindSafe(|| poll_with(&mut run, &waker)));
    armed.store(false, Ordering::SeqCst);
    assert!(matches!(polled, Ok(Poll::Pending)), "the worker is no more");
    assert_eq!((outcome(handle).unwrap(), outcome(after).unwrap(), state(&queue)), (7, 8, (0, 0)));
    idle.output();
}

#[test]
fn a_priority_that_panics_when_dropped_spares_the_worker() {
    let queue = TaskQueue::<Urgency>::unbounded();
    let armed = Arc::new(AtomicBool::new(true));
    let flag = armed.clone();
    let urgency = Urgency::on_drop(3, move || {
        flag.store(false, Ordering::SeqCst);
        resume_unwind(Box::new("priority"));
    });
    let handle = queue.try_submit(urgency, async { 7 }).unwrap();
    let after = queue.try_submit(Urgency::of(1), async { 8 }).unwrap();
    let mut idle = Driven::new(queue.idle());
    let mut worker = worker(&queue);
    assert!(idle.waits() && worker.waits());
    assert!(!armed.load(Ordering::SeqCst), "the queue kept the priority of a task that is over");
    assert!(handle.is_finished());
    match outcome(handle) {
        Ok(result) => assert_eq!(result, 7),
        other => assert_eq!(text_of(other), "priority"),
    }
    assert_eq!((outcome(after).unwrap(), state(&queue)), (8, (0, 0)));
    idle.output();
}

#[test]
fn a_priority_that_panics_when_its_task_is_cancelled_loses_nothing() {
    let queue = TaskQueue::<Urgency>::unbounded();
    let gate = Gate::new();
    let urgency = Urgency::on_drop(3, || resume_unwind(Box::new("priority")));
    let mut handle = Driven::new(queue.try_submit(urgency, gate.task(())).unwrap());
    let after = queue.try_submit(Urgency::of(1), async { 8 }).unwrap();
    assert!(handle.waits());
    let _ = catch_unwind(AssertUnwindSafe(|| handle.get().cancel()));
    assert_eq!((gate.drops(), state(&queue), handle.get().is_finished()), (1, (1, 0), true));
    assert!(handle.output().is_err());
    assert!(worker(&queue).waits());
    assert_eq!(outcome(after).unwrap(), 8);
}

#[test]
fn a_priority_that_panics_when_it_is_replaced_or_refused_loses_nothing() {
    let panicking = |level| Urgency::on_drop(level, || panic!("priority"));
    let queue = TaskQueue::<Urgency>::bounded(2);
    let log = Arc::new(Log::default());
    let task = |number: usize| {
        let log = log.clone();
        async move { log.push(number) }
    };
    let handle = queue.try_submit(panicking(0), task(0)).unwrap();
    let other = queue.try_submit(Urgency::of(1), task(1)).unwrap();
    assert_eq!(panic_of(|| handle.set_priority(Urgency::of(2))), "priority");
    assert_eq!(panic_of(|| queue.try_submit(panicking(1), task(2)).is_ok()), "priority");
    assert_eq!(state(&queue), (2, 0));
    assert!(worker(&queue).waits());
    assert_numbers(&log.take(), [0, 1]);
    assert_eq!(panic_of(|| other.set_priority(panicking(1))), "priority");
    queue.close();
    assert_eq!(panic_of(|| queue.try_submit(panicking(1), task(3)).is_ok()), "priority");
    assert_eq!(state(&queue), (0, 0));
}

#[test]
fn a_comparison_that_panics_changes_nothing() {
    let queue = TaskQueue::<Urgency>::unbounded();
    let log = Arc::new(Log::default());
    let task = |number: usize| {
        let log = log.clone();
        async move { log.push(number) }
    };
    let first = queue.try_submit(Urgency::of(1), task(0)).unwrap();
    drop(queue.try_submit(Urgency::of(2), task(1)).unwrap());
    let gate = Gate::new();
    let refused = || Urgency::on_compare(3, || panic!("compared"));
    assert_eq!(panic_of(|| queue.try_submit(refused(), gate.task(())).is_ok()), "compared");
    assert_eq!((state(&queue), gate.drops()), ((2, 0), 1));
    assert_eq!(panic_of(|| first.set_priority(refused())), "compared");
    let gate = Gate::new();
    assert_eq!(panic_of(|| poll(&mut Box::pin(queue.submit(refused(), gate.task(())))).is_ready()), "compared");
    assert_eq!((state(&queue), gate.drops()), ((2, 0), 1));
    let mut idle = Driven::new(queue.idle());
    assert!(idle.waits() && worker(&queue).waits());
    assert_eq!(log.take(), [1, 0]);
    idle.output();
}

#[test]
fn a_comparison_that_panics_when_a_parked_task_is_admitted_loses_nothing() {
    let queue = TaskQueue::<Urgency>::bounded(1);
    let log = Arc::new(Log::default());
    let armed = Arc::new(AtomicBool::new(false));
    let urgency = |level| {
        let armed = armed.clone();
        Urgency::on_compare(level, move || {
            if armed.load(Ordering::SeqCst) {
                resume_unwind(Box::new("compared"));
            }
        })
    };
    let task = |number: usize| {
        let log = log.clone();
        async move { log.push(number) }
    };
    drop(queue.try_submit(urgency(5), task(5)).unwrap());
    let mut submits = [1, 2].map(|level| Box::pin(queue.submit(urgency(level), task(level as usize))));
    assert!(submits.iter_mut().all(|submit| poll(submit).is_pending()));
    let mut idle = Driven::new(queue.idle());
    let mut run = Box::pin(queue.clone().run());
    assert!(idle.waits());
    armed.store(true, Ordering::SeqCst);
    let _ = catch_unwind(AssertUnwindSafe(|| poll(&mut run)));
    armed.store(false, Ordering::SeqCst);
    drop(run);
    assert!(worker(&queue).waits());
    assert_eq!((log.take(), state(&queue)), (vec![5, 2, 1], (0, 0)));
    idle.output();
}

#[test]
fn queued_tasks_that_panic_when_the_queue_goes_fail_their_handles_and_spare_the_others() {
    survives("queued_tasks_that_panic_when_the_queue_goes_fail_their_handles_and_spare_the_others", || {
        let queue = unbounded();
        let gates = [Gate::new(), Gate::new()];
        let handles = [
            queue.try_submit(4, gates[0].task(())).unwrap(),
            queue.try_submit(3, panics_when_dropped("one")).unwrap(),
            queue.try_submit(2, panics_when_dropped("two")).unwrap(),
            queue.try_submit(1, gates[1].task(())).unwrap(),
        ];
        let mut idle = Driven::new(queue.idle());
        assert!(idle.waits());
        drop(queue);
        assert_eq!(gates.each_ref().map(|gate| gate.drops()), [1, 1]);
        let [first, one, two, last] = handles;
        assert_cancelled(outcome(first));
        assert_eq!((text_of(outcome(one)), text_of(outcome(two))), ("one", "two"));
        assert_cancelled(outcome(last));
        idle.output();
    });
}

#[test]
fn wakers_of_handles_that_panic_when_the_queue_goes_spare_the_others() {
    survives("wakers_of_handles_that_panic_when_the_queue_goes_spare_the_others", || {
        let queue = unbounded();
        let waker = Hostile::new().on_wake(|| resume_unwind(Box::new("waker"))).waker();
        let mut handles = [(); 4].map(|()| queue.try_submit(1, pending::<()>()).unwrap());
        let mut last = Driven::new(queue.try_submit(0, pending::<()>()).unwrap());
        assert!(handles.iter_mut().all(|handle| poll_with(handle, &waker).is_pending()) && last.waits());
        let mut idle = Driven::new(queue.idle());
        assert!(idle.waits());
        let _ = catch_unwind(AssertUnwindSafe(|| drop(queue)));
        handles.into_iter().for_each(|handle| assert_cancelled(outcome(handle)));
        assert_cancelled(last.output());
        idle.output();
    });
}

#[test]
fn everything_may_panic_while_the_thread_unwinds() {
    survives("everything_may_panic_while_the_thread_unwinds", || {
        let queue = unbounded();
        // The first one runs, the second one is cancelled, the third one goes with the queue.
        let handles =
            Arc::new([3, 2, 1].map(|priority| queue.try_submit(priority, panics_when_dropped("dropped")).unwrap()));
        let mut run = worker(&queue);
        assert!(run.waits());
        let cancelled = handles.clone();
        let message = panic_of(move || {
            let _at_the_end = Token::on_drop(move || {
                cancelled[1].cancel();
                drop(run);
                drop(queue);
            });
            panic!("the first");
        });
        assert_eq!(message, "the first");
        let handles = Arc::into_inner(handles).unwrap();
        handles.into_iter().for_each(|handle| assert_eq!(text_of(outcome(handle)), "dropped"));
    });
}

// ---------------------------------------------------------------------------------------------------------------------
// Idle
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn a_queue_with_nothing_to_do_is_idle_at_once() {
    let queue = unbounded();
    Driven::new(queue.idle()).output();
    let idle = queue.idle();
    drop(queue.try_submit(1, async {}).unwrap());
    let mut idle = Driven::new(idle);
    assert!(idle.waits(), "what counts is the first poll");
    let mut late = Driven::new(queue.idle());
    assert!(worker(&queue).waits());
    idle.output();
    assert!(!late.waits());
}

#[test]
fn idle_waits_for_the_queued_and_the_running() {
    let queue = unbounded();
    let gates = [Gate::new(), Gate::new()];
    gates.iter().for_each(|gate| drop(queue.try_submit(1, gate.task(())).unwrap()));
    let mut idle = Driven::new(queue.idle());
    let mut worker = worker(&queue);
    for gate in &gates {
        assert!(idle.waits() && worker.waits() && idle.waits());
        gate.open();
    }
    assert!(idle.waits() && worker.waits());
    idle.output();
}

#[test]
fn many_idles_end_together_and_dropped_ones_harm_nobody() {
    let queue = unbounded();
    let gate = Gate::new();
    drop(queue.try_submit(1, gate.task(())).unwrap());
    let mut idles: Vec<_> = (0..30).map(|_| Driven::new(queue.idle())).collect();
    assert!(idles.iter_mut().all(Driven::waits));
    let mut worker = worker(&queue);
    assert!(worker.waits());
    let mut number = 0;
    idles.retain(|_| {
        number += 1;
        number % 3 > 0
    });
    gate.open();
    assert!(worker.waits());
    // One that was woken and is dropped takes nothing with it.
    drop(idles.swap_remove(0));
    idles.into_iter().for_each(Driven::output);
    Driven::new(queue.idle()).output();
}

#[test]
fn a_dropped_idle_lets_go_of_its_waker() {
    let queue = unbounded();
    drop(queue.try_submit(1, async {}).unwrap());
    let counter = Arc::new(Counter::default());
    let mut idle = queue.idle();
    assert!(poll_with(&mut idle, &Waker::from(counter.clone())).is_pending());
    assert_eq!(Arc::strong_count(&counter), 2);
    drop(idle);
    assert_eq!(Arc::strong_count(&counter), 1);
    assert!(worker(&queue).waits());
    assert_eq!(counter.count(), 0);
}

#[test]
fn polling_an_idle_after_it_was_ready_panics() {
    let queue = unbounded();
    let mut at_once = queue.idle();
    ready(&mut at_once);
    drop(queue.try_submit(1, async {}).unwrap());
    let mut idle = queue.idle();
    assert!(poll(&mut idle).is_pending());
    assert!(worker(&queue).waits());
    ready(&mut idle);
    assert!(!panic_of(|| poll(&mut at_once)).is_empty());
    assert!(!panic_of(|| poll(&mut idle)).is_empty());
}

#[test]
fn a_moment_of_rest_counts_though_it_is_over() {
    let queue = unbounded();
    drop(queue.try_submit(1, async {}).unwrap());
    let mut idle = Driven::new(queue.idle());
    let mut run = worker(&queue);
    assert!(idle.waits() && run.waits());
    drop(queue.try_submit(1, pending::<()>()).unwrap());
    assert!(run.waits());
    assert_eq!(state(&queue), (0, 1));
    idle.output();
    assert!(Driven::new(queue.idle()).waits());
}

#[test]
fn idle_is_woken_through_its_latest_waker() {
    let queue = unbounded();
    drop(queue.try_submit(1, async {}).unwrap());
    let mut idle = queue.idle();
    let (old, new) = (Arc::new(Counter::default()), Arc::new(Counter::default()));
    assert!(poll_with(&mut idle, &Waker::from(old.clone())).is_pending());
    assert!(poll_with(&mut idle, &Waker::from(new.clone())).is_pending());
    assert!(worker(&queue).waits());
    assert_eq!((old.count(), new.count()), (0, 1));
    ready(&mut idle);
}

#[test]
fn all_is_settled_when_idle_says_so() {
    let queue = unbounded();
    let gates = [(); 3].map(|()| Gate::new());
    let handles = gates.each_ref().map(|gate| queue.try_submit(1, gate.task(())).unwrap());
    let mut worker = worker(&queue);
    assert!(worker.waits());
    handles[0].cancel();
    gates[1].open();
    let seen = Arc::new(StdMutex::new(Vec::new()));
    let waker = {
        let (seen, handles) = (seen.clone(), Arc::new(StdMutex::new(handles)));
        let handles = move || handles.lock().unwrap().each_ref().map(TaskHandle::is_finished);
        let (queue, gates) = (queue.clone(), gates.clone());
        Hostile::new().on_wake(move || {
            seen.lock().unwrap().push((handles(), gates.each_ref().map(|gate| gate.drops()), state(&queue)));
        })
    };
    let mut idle = queue.idle();
    assert!(poll_with(&mut idle, &waker.waker()).is_pending());
    assert!(worker.waits());
    assert_eq!(seen.lock().unwrap().len(), 0);
    gates[2].open();
    assert!(worker.waits());
    assert_eq!(*seen.lock().unwrap(), [([true; 3], [1; 3], (0, 0))]);
    ready(&mut idle);
}

#[test]
fn the_result_of_a_detached_task_is_dropped_before_idle_says_so() {
    let queue = unbounded();
    let (drops, gate) = (Arc::new(AtomicUsize::new(0)), Gate::opened());
    drop(queue.try_submit(1, gate.task(Token::new(&drops))).unwrap());
    let seen = Arc::new(StdMutex::new(Vec::new()));
    let (of_wake, counted) = (seen.clone(), drops.clone());
    let waker = Hostile::new().on_wake(move || of_wake.lock().unwrap().push(counted.load(Ordering::SeqCst))).waker();
    let mut idle = queue.idle();
    assert!(poll_with(&mut idle, &waker).is_pending());
    assert!(worker(&queue).waits());
    assert_eq!((seen.lock().unwrap().clone(), gate.drops()), (vec![1], 1));
    ready(&mut idle);
}

#[test]
fn idle_sees_no_rest_between_a_task_and_the_one_it_submits() {
    fn countdown(queue: Queue, left: usize) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            if left > 0 {
                let next = countdown(queue.clone(), left - 1);
                drop(queue.try_submit(1, next).unwrap());
                yield_now().await;
            }
        })
    }
    let queue = unbounded();
    drop(queue.try_submit(1, countdown(queue.clone(), 20)).unwrap());
    let mut idle = Driven::new(queue.idle());
    let mut worker = worker(&queue);
    let mut polls = 0;
    while idle.waits() {
        assert!(state(&queue) != (0, 0));
        assert!(worker.is_woken() || polls == 0);
        assert!(worker.once().is_pending());
        polls += 1;
    }
    assert_eq!((state(&queue), polls > 20), ((0, 0), true));
}

#[test]
fn idle_ends_whatever_took_the_last_task_away() {
    type End = fn(Queue, Worker, Handle<()>);
    let ends: [End; 5] = [
        |_, mut worker, handle| {
            handle.cancel();
            assert!(worker.waits());
        },
        |_, worker, _| drop(worker),
        |_, worker, handle| {
            handle.cancel();
            drop(worker);
        },
        |queue, worker, _| {
            drop(queue);
            drop(worker);
        },
        |queue, mut worker, handle| {
            queue.close();
            assert!(worker.waits());
            drop(handle);
            drop(worker);
        },
    ];
    for end in ends {
        let queue = unbounded();
        let handle = queue.try_submit(1, pending()).unwrap();
        let mut worker = worker(&queue);
        let mut idle = Driven::new(queue.idle());
        assert!(worker.waits() && idle.waits());
        end(queue, worker, handle);
        idle.output();
    }
    let queue = unbounded();
    let handle = queue.try_submit(1, pending::<()>()).unwrap();
    let mut idle = Driven::new(queue.idle());
    assert!(idle.waits());
    handle.cancel();
    idle.output();
}

#[test]
fn a_closed_queue_becomes_idle_when_it_is_drained() {
    let queue = unbounded();
    let gate = Gate::new();
    drop(queue.try_submit(1, gate.task(())).unwrap());
    let mut idle = Driven::new(queue.idle());
    assert!(idle.waits());
    queue.close();
    let mut worker = worker(&queue);
    assert!(idle.waits() && worker.waits() && idle.waits());
    gate.open();
    worker.output();
    idle.output();
    Driven::new(queue.idle()).output();
}

// ---------------------------------------------------------------------------------------------------------------------
// Bounded queues
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn a_full_queue_refuses_or_makes_wait() {
    let queue = bounded(2);
    let log = Arc::new(Log::default());
    let task = |number: usize| {
        let log = log.clone();
        async move { log.push(number) }
    };
    let first = queue.try_submit(1, task(0)).unwrap();
    let second = submit(&queue, 1, task(1)).output().unwrap();
    let gate = Gate::new();
    assert!(matches!(queue.try_submit(9, gate.task(())), Err(TrySubmitError::Full)));
    assert_eq!((gate.polls(), gate.drops(), state(&queue)), (0, 1, (2, 0)));
    let waits = parked(&queue, 1, task(2));
    let hurries = parked(&queue, 5, task(3));
    assert_eq!(state(&queue), (2, 0));
    let mut worker = worker(&queue);
    assert!(worker.waits());
    assert_eq!(log.take(), [3, 0, 1, 2], "the parked compete by their priority");
    let handles = [first, second, waits.output().unwrap(), hurries.output().unwrap()];
    assert!(handles.into_iter().all(|handle| outcome(handle).is_ok()));
    assert_eq!(state(&queue), (0, 0));
}

#[test]
fn running_tasks_take_no_room() {
    let queue = bounded(1);
    let mut worker = worker(&queue);
    drop(queue.try_submit(1, pending::<()>()).unwrap());
    assert!(worker.waits());
    assert!(queue.try_submit(1, pending::<()>()).is_ok());
    assert!(matches!(queue.try_submit(1, pending::<()>()), Err(TrySubmitError::Full)));
    assert_eq!(state(&queue), (1, 1));
}

#[test]
fn a_cancelled_task_makes_room() {
    let queue = bounded(1);
    let (gate, other) = (Gate::new(), Gate::new());
    let handle = queue.try_submit(1, gate.task(())).unwrap();
    let mut first = parked(&queue, 1, async { 7 });
    let second = parked(&queue, 2, other.task(8));
    handle.cancel();
    let second = second.output().unwrap();
    assert!(first.waits());
    assert_eq!((state(&queue), gate.drops()), ((1, 0), 1));
    second.cancel();
    assert_eq!(other.drops(), 1);
    let first = first.output().unwrap();
    assert!(worker(&queue).waits());
    assert_eq!(outcome(first).unwrap(), 7);
}

#[test]
fn a_parked_task_that_runs_at_once_gives_a_handle_to_what_runs_or_is_over() {
    let queue = bounded(1);
    let gate = Gate::new();
    let queued = queue.try_submit(1, async { 1 }).unwrap();
    let running = parked(&queue, 3, gate.task(3));
    let over = parked(&queue, 9, async { 9 });
    let mut worker = worker(&queue);
    assert!(worker.waits());
    let (running, over) = (running.output().unwrap(), over.output().unwrap());
    assert!(over.is_finished() && !running.is_finished() && !queued.is_finished());
    assert!(!running.set_priority(1) && !over.set_priority(1));
    assert_eq!(outcome(over).unwrap(), 9);
    running.cancel();
    assert!(worker.waits());
    assert_cancelled(outcome(running));
    assert_eq!((outcome(queued).unwrap(), state(&queue)), (1, (0, 0)));
}

#[test]
fn an_admitted_task_can_be_cancelled_and_moved_through_the_handle_of_its_submit() {
    let queue = bounded(2);
    let log = Arc::new(Log::default());
    let task = |number: usize| {
        let log = log.clone();
        async move { log.push(number) }
    };
    let first = queue.try_submit(9, task(0)).unwrap();
    let second = queue.try_submit(8, task(1)).unwrap();
    let third = parked(&queue, 1, task(2));
    let fourth = parked(&queue, 1, task(3));
    first.cancel();
    let third = third.output().unwrap();
    second.cancel();
    let fourth = fourth.output().unwrap();
    assert_eq!(state(&queue), (2, 0));
    assert!(fourth.set_priority(2));
    assert!(worker(&queue).waits());
    assert_eq!(log.take(), [3, 2]);
    assert!(outcome(third).is_ok() && outcome(fourth).is_ok());
}

#[test]
fn a_submit_that_is_dropped_while_it_is_parked_takes_its_task_out() {
    let queue = bounded(1);
    let (first, second, last) = (Gate::opened(), Gate::new(), Gate::opened());
    let handle = queue.try_submit(1, first.task(1)).unwrap();
    let leaves = parked(&queue, 9, second.task(()));
    let stays = parked(&queue, 2, last.task(2));
    let mut idle = Driven::new(queue.idle());
    assert!(idle.waits());
    drop(leaves);
    assert_eq!((second.drops(), state(&queue)), (1, (1, 0)));
    assert!(idle.waits() && worker(&queue).waits());
    assert_eq!((second.polls(), state(&queue)), (0, (0, 0)));
    idle.output();
    assert_eq!((outcome(handle).unwrap(), outcome(stays.output().unwrap()).unwrap()), (1, 2));
}

#[test]
fn a_submit_that_is_dropped_while_it_is_parked_may_be_the_last_that_idle_waits_for() {
    // The one before it is taken, and its worker stays in the middle of that: by the time it ends, nothing is parked.
    let queue = bounded(1);
    let (running, queued, parked_one) = (Gate::new(), Gate::new(), Gate::new());
    let mut worker = worker(&queue);
    drop(queue.try_submit(1, running.task(())).unwrap());
    assert!(worker.waits());
    let handle = queue.try_submit(1, queued.task(())).unwrap();
    let leaves = parked(&queue, 0, parked_one.task(()));
    let mut idle = Driven::new(queue.idle());
    assert!(idle.waits());
    running.open();
    queued.open();
    drop(leaves);
    assert!(idle.waits() && worker.waits());
    idle.output();
    assert_eq!((outcome(handle).is_ok(), parked_one.polls(), parked_one.drops()), (true, 0, 1));
}

#[test]
fn a_submit_that_is_dropped_when_its_task_was_admitted_leaves_it_there() {
    let queue = bounded(1);
    let gate = Gate::opened();
    let handle = queue.try_submit(1, async {}).unwrap();
    let submit = parked(&queue, 1, gate.task(()));
    handle.cancel();
    assert!(submit.is_woken());
    drop(submit);
    assert_eq!((state(&queue), gate.drops()), ((1, 0), 0));
    assert!(worker(&queue).waits());
    assert_eq!((gate.polls(), gate.drops(), state(&queue)), (1, 1, (0, 0)));
}

#[test]
fn a_submit_that_is_dropped_while_its_task_runs_detaches_it() {
    let queue = bounded(1);
    let gate = Gate::new();
    drop(queue.try_submit(1, async {}).unwrap());
    let submit = parked(&queue, 9, gate.task(()));
    let mut worker = worker(&queue);
    assert!(worker.waits());
    drop(submit);
    assert_eq!((state(&queue), gate.drops()), ((1, 1), 0));
    gate.open();
    assert!(worker.waits());
    assert_eq!((state(&queue), gate.polls(), gate.drops()), ((0, 0), 2, 1));
}

#[test]
fn many_that_are_parked_are_admitted_one_by_one_in_order_and_refused_together() {
    const PARKED: usize = 50;
    let queue = bounded(1);
    let mut admitted = queue.try_submit(1, async {}).unwrap();
    let mut submits: Vec<_> = (0..2 * PARKED).map(|_| parked(&queue, 1, async {})).collect();
    for _ in 0..PARKED {
        admitted.cancel();
        admitted = submits.remove(0).output().unwrap();
        assert!(submits.iter().all(|submit| !submit.is_woken()));
    }
    queue.close();
    for submit in submits {
        assert!(matches!(submit.output(), Err(TrySubmitError::Closed)));
    }
    assert_eq!((state(&queue), admitted.is_finished()), ((1, 0), false));
}

#[test]
fn a_submit_that_is_dropped_when_its_task_is_over_drops_the_result_once() {
    let queue = bounded(1);
    let (drops, gate) = (Arc::new(AtomicUsize::new(0)), Gate::opened());
    drop(queue.try_submit(1, async {}).unwrap());
    let submit = parked(&queue, 9, gate.task(Token::new(&drops)));
    assert!(worker(&queue).waits());
    drop(submit);
    assert_eq!((gate.polls(), gate.drops(), drops.load(Ordering::SeqCst)), (1, 1, 1));
}

#[test]
fn a_new_priority_competes_with_the_parked() {
    let queue = bounded(1);
    let log = Arc::new(Log::default());
    let task = |number: usize| {
        let log = log.clone();
        async move { log.push(number) }
    };
    let queued = queue.try_submit(9, task(0)).unwrap();
    let parked = parked(&queue, 5, task(1));
    assert!(queued.set_priority(1));
    assert!(!parked.is_woken(), "a new priority makes no room");
    assert_eq!(state(&queue), (1, 0));
    assert!(worker(&queue).waits());
    assert_eq!(log.take(), [1, 0]);
    assert!(outcome(parked.output().unwrap()).is_ok());
}

#[test]
fn a_submit_is_woken_through_its_latest_waker() {
    let queue = bounded(1);
    let handle = queue.try_submit(1, async {}).unwrap();
    let mut submit = Box::pin(queue.submit(1, async { 7 }));
    let (old, new) = (Arc::new(Counter::default()), Arc::new(Counter::default()));
    assert!(poll_with(&mut submit, &Waker::from(old.clone())).is_pending());
    assert!(poll_with(&mut submit, &Waker::from(new.clone())).is_pending());
    handle.cancel();
    assert_eq!((old.count(), new.count()), (0, 1));
    assert!(ready(&mut submit).is_ok());
}

#[test]
fn close_refuses_what_comes_and_what_is_parked() {
    let queue = bounded(1);
    let gates = [(); 3].map(|()| Gate::new());
    let queued = queue.try_submit(1, async { 7 }).unwrap();
    let refused = parked(&queue, 9, gates[0].task(()));
    let mut idle = Driven::new(queue.idle());
    assert!(idle.waits());
    queue.close();
    assert!(refused.is_woken());
    assert!(matches!(refused.output(), Err(TrySubmitError::Closed)));
    assert!(matches!(queue.try_submit(1, gates[1].task(())), Err(TrySubmitError::Closed)), "not full, closed");
    assert!(matches!(submit(&queue, 1, gates[2].task(())).output(), Err(TrySubmitError::Closed)));
    assert_eq!(gates.each_ref().map(|gate| (gate.polls(), gate.drops())), [(0, 1); 3]);
    assert_eq!(state(&queue), (1, 0));
    assert!(idle.waits());
    worker(&queue).output();
    idle.output();
    assert_eq!(outcome(queued).unwrap(), 7);
}

#[test]
fn a_refused_submit_counts_for_idle_until_it_is_polled_or_dropped() {
    for polled in [true, false] {
        let queue = bounded(1);
        let gate = Gate::new();
        drop(queue.try_submit(1, async {}).unwrap());
        let mut refused = parked(&queue, 9, gate.task(()));
        let mut idle = Driven::new(queue.idle());
        assert!(idle.waits());
        queue.close();
        worker(&queue).output();
        assert!(idle.waits());
        if polled {
            assert!(matches!(refused.go(), Poll::Ready(Err(TrySubmitError::Closed))));
        } else {
            drop(refused);
        }
        assert_eq!((gate.polls(), gate.drops()), (0, 1));
        idle.output();
    }
}

#[test]
fn a_task_admitted_before_the_close_runs() {
    let queue = bounded(1);
    let first = queue.try_submit(1, async {}).unwrap();
    let admitted = parked(&queue, 1, async { 7 });
    first.cancel();
    queue.close();
    let handle = admitted.output().unwrap();
    worker(&queue).output();
    assert_eq!(outcome(handle).unwrap(), 7);
}

#[test]
fn a_parked_task_that_panics_when_it_is_dropped_panics_where_it_is() {
    let queue = bounded(1);
    drop(queue.try_submit(1, async {}).unwrap());
    let leaves = parked(&queue, 1, panics_when_dropped("dropped"));
    let mut refused = parked(&queue, 1, panics_when_dropped("dropped"));
    let mut idle = Driven::new(queue.idle());
    assert!(idle.waits());
    let _ = catch_unwind(AssertUnwindSafe(|| drop(leaves)));
    assert_eq!(state(&queue), (1, 0));
    let _ = catch_unwind(AssertUnwindSafe(|| queue.close()));
    let _ = catch_unwind(AssertUnwindSafe(|| assert!(!refused.waits())));
    let _ = catch_unwind(AssertUnwindSafe(|| drop(refused)));
    worker(&queue).output();
    assert_eq!(state(&queue), (0, 0));
    idle.output();
}

// ---------------------------------------------------------------------------------------------------------------------
// The end of a queue
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn the_queued_are_cancelled_when_the_queue_and_its_workers_are_gone() {
    let queue = unbounded();
    let gates = [(); 3].map(|()| Gate::new());
    let handles = gates.each_ref().map(|gate| queue.try_submit(1, gate.task(())).unwrap());
    let mut handles = handles.map(Driven::new);
    assert!(handles.iter_mut().all(Driven::waits));
    let mut idle = Driven::new(queue.idle());
    assert!(idle.waits());
    let mut worker = worker(&queue);
    let clone = queue.clone();
    assert!(worker.waits());
    drop(queue);
    drop(worker);
    assert_eq!(gates.each_ref().map(|gate| gate.drops()), [1, 0, 0], "a clone is left");
    assert_eq!(state(&clone), (2, 0));
    assert!(idle.waits());
    drop(clone);
    assert_eq!(gates.each_ref().map(|gate| (gate.polls(), gate.drops())), [(1, 1), (0, 1), (0, 1)]);
    handles.into_iter().for_each(|handle| assert_cancelled(handle.output()));
    idle.output();
}

#[test]
fn a_worker_that_never_began_keeps_the_queue_while_it_is_there() {
    let queue = unbounded();
    let gate = Gate::new();
    let handle = queue.try_submit(1, gate.task(())).unwrap();
    let run = queue.run();
    assert_eq!((gate.drops(), handle.is_finished()), (0, false));
    drop(run);
    assert_eq!(gate.drops(), 1);
    assert_cancelled(outcome(handle));
}

#[test]
fn a_worker_that_has_ended_or_waits_lets_go_of_the_queue_when_it_is_dropped() {
    let queue = unbounded();
    let waiting = waiting_worker(&queue);
    let handle = queue.try_submit(1, pending::<()>()).unwrap();
    drop(queue);
    assert!(!handle.is_finished());
    drop(waiting);
    assert_cancelled(outcome(handle));
}

#[test]
fn handles_and_idles_do_not_keep_the_queue() {
    let gate = Gate::new();
    let queue = unbounded();
    let mut handle = Driven::new(queue.try_submit(1, gate.task(())).unwrap());
    let mut idles = [Driven::new(queue.idle()), Driven::new(queue.idle())];
    let unpolled = queue.idle();
    assert!(handle.waits() && idles.iter_mut().all(Driven::waits));
    drop(queue);
    assert_eq!(gate.drops(), 1);
    assert_cancelled(handle.output());
    idles.into_iter().for_each(Driven::output);
    Driven::new(unpolled).output();
}

#[test]
fn the_last_worker_takes_the_queued_with_it_when_it_is_dropped_in_mid_task() {
    let queue = unbounded();
    let (running, queued) = (Gate::new(), Gate::new());
    let handles = [&running, &queued].map(|gate| queue.try_submit(1, gate.task(())).unwrap());
    let mut worker = worker(&queue);
    let mut idle = Driven::new(queue.idle());
    assert!(worker.waits() && idle.waits());
    drop(queue);
    assert!(idle.waits());
    drop(worker);
    assert_eq!((running.drops(), queued.drops()), (1, 1));
    handles.into_iter().for_each(|handle| assert_cancelled(outcome(handle)));
    idle.output();
}

#[test]
fn a_task_may_hold_the_last_handle_to_its_queue() {
    let queue = unbounded();
    let queued = Gate::new();
    let keeper = queue.clone();
    let holds = queue.try_submit(2, async move {
        let _keeper = keeper;
        pending::<()>().await;
    });
    let queued_handle = queue.try_submit(1, queued.task(())).unwrap();
    let mut worker = worker(&queue);
    let mut idle = Driven::new(queue.idle());
    assert!(worker.waits() && idle.waits());
    drop(queue);
    drop(worker);
    assert_cancelled(outcome(holds.unwrap()));
    assert_eq!(queued.drops(), 1);
    assert_cancelled(outcome(queued_handle));
    idle.output();
}

#[test]
fn a_task_may_drop_the_last_handle_to_its_queue_and_its_worker_goes_on() {
    let queue = unbounded();
    let keeper = queue.clone();
    let first = queue.try_submit(2, async move { drop(keeper) }).unwrap();
    let second = queue.try_submit(1, async { 7 }).unwrap();
    let mut run = worker(&queue);
    drop(queue);
    let _ = run.go();
    assert_eq!((outcome(first).is_ok(), outcome(second).unwrap()), (true, 7));
}

#[test]
fn nothing_is_left_of_a_queue_and_its_tasks() {
    let left = Arc::new(AtomicUsize::new(0));
    let (tasks, results) = (Arc::new(()), Arc::new(()));
    let urgency = |level| {
        left.fetch_add(1, Ordering::SeqCst);
        let left = left.clone();
        Urgency::on_drop(level, move || {
            left.fetch_sub(1, Ordering::SeqCst);
        })
    };
    let queue = TaskQueue::<Urgency>::bounded(4);
    let task = |ends: bool| {
        let (tasks, results) = (tasks.clone(), results.clone());
        script(move |_| if ends { Poll::Ready(results.clone()) } else { Poll::Pending }, move || drop(tasks.clone()))
    };
    let handles = [(9, true), (8, false), (7, true), (6, true)]
        .map(|(level, ends)| queue.try_submit(urgency(level), task(ends)).unwrap());
    handles[2].cancel();
    assert!(handles[3].set_priority(urgency(1)));
    let mut worker = worker(&queue);
    assert!(worker.waits());
    for _ in 0..3 {
        drop(queue.try_submit(urgency(2), task(true)).unwrap());
    }
    assert!(queue.try_submit(urgency(3), task(true)).is_err());
    let mut parked = Box::pin(queue.submit(urgency(3), task(true)));
    assert!(poll(&mut parked).is_pending());
    assert!(Arc::strong_count(&tasks) > 1);
    drop(parked);
    drop((queue, worker));
    assert_eq!((left.load(Ordering::SeqCst), Arc::strong_count(&tasks)), (0, 1));
    assert_eq!(Arc::strong_count(&results), 2, "one result is still to be had");
    drop(handles);
    assert_eq!(Arc::strong_count(&results), 1);
}

// ---------------------------------------------------------------------------------------------------------------------
// Tasks that use their queue
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn a_task_may_submit_cancel_reorder_and_close() {
    let queue = unbounded();
    let log = Arc::new(Log::default());
    let note = |number: usize| {
        let log = log.clone();
        async move { log.push(number) }
    };
    let victim = Gate::new();
    let cancelled = Arc::new(queue.try_submit(3, victim.task(())).unwrap());
    let moved = Arc::new(queue.try_submit(1, note(1)).unwrap());
    let stays = queue.try_submit(2, note(2)).unwrap();
    let boss = queue.try_submit(9, {
        let (queue, cancelled, moved, urgent, lazy) =
            (queue.clone(), cancelled.clone(), moved.clone(), note(8), note(0));
        async move {
            cancelled.cancel();
            assert!(moved.set_priority(5));
            let handles = (queue.try_submit(7, urgent).unwrap(), queue.submit(0, lazy).await.unwrap());
            yield_now().await;
            queue.close();
            assert!(queue.try_submit(9, async {}).is_err());
            assert_eq!(state(&queue), (4, 1));
            handles
        }
    });
    worker(&queue).output();
    assert_eq!(log.take(), [8, 1, 2, 0]);
    let (urgent, lazy) = outcome(boss.unwrap()).unwrap();
    assert!(outcome(urgent).is_ok() && outcome(lazy).is_ok() && outcome(stays).is_ok() && moved.is_finished());
    assert_cancelled(outcome(Arc::into_inner(cancelled).unwrap()));
    assert_eq!(victim.drops(), 1);
}

#[test]
fn a_task_may_cancel_itself_and_wait_for_the_end() {
    let queue = unbounded();
    let own: Arc<OnceLock<Handle<()>>> = Arc::default();
    let (mine, gate) = (own.clone(), Gate::new());
    let mut waits = gate.task(());
    let handle = queue.try_submit(
        2,
        poll_fn(move |context| {
            mine.get().unwrap().cancel();
            assert!(!mine.get().unwrap().is_finished(), "it is being polled");
            Pin::new(&mut waits).poll(context)
        }),
    );
    own.set(handle.unwrap()).unwrap();
    let after = queue.try_submit(1, async { 7 }).unwrap();
    let mut idle = Driven::new(queue.idle());
    let mut worker = worker(&queue);
    assert!(idle.waits() && worker.waits());
    assert_eq!((gate.polls(), gate.drops(), state(&queue)), (1, 1, (0, 0)));
    assert!(own.get().unwrap().is_finished());
    assert_eq!(outcome(after).unwrap(), 7);
    assert_cancelled(outcome(Arc::into_inner(own).unwrap().into_inner().unwrap()));
    idle.output();
}

#[test]
fn a_task_may_cancel_one_that_another_worker_runs() {
    let queue = unbounded();
    let gate = Gate::new();
    let victim = Arc::new(queue.try_submit(9, gate.task(())).unwrap());
    let (mut first, mut second) = (worker(&queue), worker(&queue));
    assert!(first.waits());
    let killer = queue.try_submit(1, {
        let victim = victim.clone();
        async move { victim.cancel() }
    });
    assert!(second.waits() && first.is_woken() && first.waits());
    assert!(outcome(killer.unwrap()).is_ok());
    assert_eq!((gate.polls(), gate.drops(), state(&queue)), (1, 1, (0, 0)));
    assert_cancelled(outcome(Arc::into_inner(victim).unwrap()));
}

#[test]
fn a_task_may_wait_for_another_of_whatever_end() {
    let queue = unbounded();
    let gate = Gate::new();
    let finishes = queue.try_submit(1, gate.task(7)).unwrap();
    let panics = queue.try_submit(1, async { resume_unwind(Box::new("oh")) }).unwrap();
    let cancelled = queue.try_submit(0, async {}).unwrap();
    cancelled.cancel();
    let waits = queue.try_submit(9, async move {
        assert_cancelled(cancelled.await);
        assert_eq!(text_of::<()>(panics.await), "oh");
        finishes.await.unwrap()
    });
    let mut workers = [worker(&queue), worker(&queue)];
    assert!(workers.iter_mut().all(Driven::waits));
    gate.open();
    assert!(workers.iter_mut().rev().all(Driven::waits) && workers.iter_mut().all(Driven::waits));
    assert_eq!((outcome(waits.unwrap()).unwrap(), state(&queue)), (7, (0, 0)));
}

#[test]
fn a_task_that_waits_for_one_behind_it_is_freed_by_a_second_worker() {
    let queue = unbounded();
    let inner = queue.try_submit(1, async { 7 }).unwrap();
    let outer = queue.try_submit(2, inner).unwrap();
    let mut first = worker(&queue);
    assert!(first.waits());
    assert_eq!(state(&queue), (1, 1));
    let mut second = worker(&queue);
    assert!(second.waits() && first.is_woken() && first.waits());
    assert_eq!(outcome(outer).unwrap().unwrap(), 7);
}

#[test]
fn a_dropped_task_drops_the_handles_and_tasks_that_it_holds() {
    let queue = unbounded();
    let gate = Gate::opened();
    let inner = queue.try_submit(1, gate.task(())).unwrap();
    let outer = queue.try_submit(2, inner).unwrap();
    outer.cancel();
    assert_eq!((state(&queue), gate.drops()), ((1, 0), 0), "the inner one is detached, not cancelled");
    assert!(worker(&queue).waits());
    assert_eq!((gate.polls(), gate.drops()), (1, 1));
}

#[test]
fn a_task_may_close_the_queue_under_other_workers() {
    let queue = unbounded();
    let closer = queue.clone();
    let waiting = waiting_worker(&queue);
    let other = waiting_worker(&queue);
    drop(queue.try_submit(1, async move { closer.close() }).unwrap());
    let woken = [waiting.is_woken(), other.is_woken()];
    assert!(woken[0] != woken[1]);
    if woken[0] {
        waiting.output();
        other.output();
    } else {
        other.output();
        waiting.output();
    }
    assert!(queue.is_closed());
}

// ---------------------------------------------------------------------------------------------------------------------
// Wakers and drops that use the queue
// ---------------------------------------------------------------------------------------------------------------------

/// Runs a task of each end, with this hook where a test puts it, next to tasks that must not suffer.
fn ends(task: impl Fn() -> Handle<()>, queue: &Queue) {
    let after = queue.try_submit(1, async { 7 }).unwrap();
    let mut run = worker(queue);
    let (finishes, cancelled) = (task(), task());
    cancelled.cancel();
    let _ = run.go();
    finishes.cancel();
    let _ = run.go();
    let (third, fourth) = (task(), task());
    let _ = run.go();
    drop(run);
    drop(third);
    fourth.cancel();
    let mut run = worker(queue);
    let _ = run.go();
    drop(run);
    assert_eq!(outcome(after).unwrap(), 7);
    assert_eq!(state(queue), (0, 0));
    Driven::new(queue.idle()).output();
}

#[test]
fn the_drop_of_a_task_may_call_everything_wherever_it_happens() {
    for finishes in [true, false] {
        let queue = unbounded();
        let intruder = Intruder::of(&queue);
        let task = || {
            let ends = move |_: &mut Context<'_>| if finishes { Poll::Ready(()) } else { Poll::Pending };
            queue.try_submit(5, script(ends, intruder.hook())).unwrap()
        };
        ends(task, &queue);
        assert_eq!(intruder.calls(), 4);
    }
}

#[test]
fn the_drop_of_a_result_may_call_everything_wherever_it_happens() {
    let queue = unbounded();
    let intruder = Intruder::of(&queue);
    let token = || Token::on_drop(intruder.hook());
    drop(queue.try_submit(2, at_once(token())).unwrap());
    let taken = queue.try_submit(2, at_once(token())).unwrap();
    let left = queue.try_submit(2, at_once(token())).unwrap();
    let cancelled = queue.try_submit(1, at_once(token())).unwrap();
    cancelled.cancel();
    assert_eq!(intruder.calls(), 1);
    assert!(worker(&queue).waits());
    assert_eq!(intruder.calls(), 2);
    drop(outcome(taken));
    assert_eq!(intruder.calls(), 3);
    drop(left);
    assert_eq!((intruder.calls(), state(&queue)), (4, (0, 0)));
}

#[test]
fn the_waker_of_a_handle_may_call_everything_wherever_it_is_woken() {
    for finishes in [true, false] {
        let queue = unbounded();
        let intruder = Intruder::of(&queue);
        let task = || {
            let ends = move |_: &mut Context<'_>| if finishes { Poll::Ready(()) } else { Poll::Pending };
            let mut handle = queue.try_submit(5, script(ends, || ())).unwrap();
            assert!(poll_with(&mut handle, &Hostile::new().on_wake(intruder.hook()).waker()).is_pending());
            handle
        };
        ends(task, &queue);
        assert_eq!(intruder.calls(), 4);
    }
}

#[test]
fn the_waker_of_a_handle_may_call_everything_when_it_is_cloned_and_dropped() {
    let queue = unbounded();
    let intruder = Intruder::of(&queue);
    let waker = Hostile::new().on_clone(intruder.hook()).on_drop(intruder.hook()).waker();
    let mut handle = queue.try_submit(1, pending::<()>()).unwrap();
    assert!(poll_with(&mut handle, &waker).is_pending());
    assert_eq!(intruder.calls(), 1);
    assert!(poll(&mut handle).is_pending());
    assert_eq!(intruder.calls(), 2, "it was replaced");
    assert!(poll_with(&mut handle, &waker).is_pending());
    drop(handle);
    assert_eq!(intruder.calls(), 4, "its handle was dropped");
    assert_eq!(state(&queue), (1, 0));
}

#[test]
fn the_waker_of_a_handle_may_let_its_task_end_while_it_is_cloned() {
    let queue = unbounded();
    let mut handle = queue.try_submit(1, async { 7 }).unwrap();
    let (runner, wakes) = (StdMutex::new(worker(&queue)), Arc::new(Counter::default()));
    let counter = wakes.clone();
    let waker = Hostile::new()
        .on_clone(move || assert!(runner.lock().unwrap().waits()))
        .on_wake(move || std::task::Wake::wake(counter.clone()))
        .waker();
    let outcome_now = match poll_with(&mut handle, &waker) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => {
            assert_eq!(wakes.count(), 1, "it ended before the waker was kept, and nobody says so");
            ready(&mut handle)
        }
    };
    assert_eq!(outcome_now.unwrap(), 7);
}

#[test]
fn the_waker_of_a_worker_may_call_everything() {
    let queue = unbounded();
    let intruder = Intruder::of(&queue);
    let waker = Hostile::new().on_wake(intruder.hook()).on_clone(intruder.hook()).on_drop(intruder.hook()).waker();
    let mut run = Box::pin(queue.clone().run());
    assert!(poll_with(&mut run, &waker).is_pending());
    let gate = Gate::new();
    let before = intruder.calls();
    let handle = queue.try_submit(1, gate.task(())).unwrap();
    assert!(intruder.calls() > before);
    assert!(poll_with(&mut run, &waker).is_pending());
    assert_eq!(state(&queue), (0, 1));
    let before = intruder.calls();
    handle.cancel();
    assert!(intruder.calls() > before);
    assert!(poll_with(&mut run, &waker).is_pending());
    assert!(poll(&mut run).is_pending());
    assert!(poll_with(&mut run, &waker).is_pending());
    drop(run);
    assert_cancelled(outcome(handle));
    assert_eq!(state(&queue), (0, 0));
}

#[test]
fn the_waker_of_a_submit_may_call_everything() {
    let queue = bounded(1);
    let intruder = Intruder::of(&queue);
    let waker = || Hostile::new().on_wake(intruder.hook()).on_clone(intruder.hook()).on_drop(intruder.hook()).waker();
    let handle = queue.try_submit(1, async {}).unwrap();
    let [mut first, mut second, mut third] = [(); 3].map(|()| Box::pin(queue.submit(1, async {})));
    for submit in [&mut first, &mut second, &mut third] {
        assert!(poll_with(submit, &waker()).is_pending());
    }
    let before = intruder.calls();
    handle.cancel();
    assert!(intruder.calls() > before);
    let first = ready(&mut first).unwrap();
    drop(second);
    let before = intruder.calls();
    queue.close();
    assert!(intruder.calls() > before);
    assert!(ready(&mut third).is_err());
    worker(&queue).output();
    assert!(outcome(first).is_ok());
}

#[test]
fn the_drop_of_a_parked_task_may_call_everything() {
    let queue = bounded(1);
    let intruder = Intruder::of(&queue);
    drop(queue.try_submit(1, async {}).unwrap());
    let leaves = parked(&queue, 1, script(|_| Poll::<()>::Pending, intruder.hook()));
    let refused = parked(&queue, 1, script(|_| Poll::<()>::Pending, intruder.hook()));
    drop(leaves);
    assert_eq!(intruder.calls(), 1);
    assert!(queue.try_submit(1, script(|_| Poll::<()>::Pending, intruder.hook())).is_err());
    assert_eq!(intruder.calls(), 2);
    queue.close();
    assert!(refused.output().is_err());
    assert_eq!((intruder.calls(), state(&queue)), (3, (1, 0)));
}

#[test]
fn the_drop_of_a_priority_may_use_the_queue() {
    let queue = TaskQueue::<Urgency>::bounded(2);
    let calls = Arc::new(Counter::default());
    let urgency = |level: u32| {
        let (queue, calls) = (queue.clone(), calls.clone());
        Urgency::on_drop(level, move || {
            let _ = (state(&queue), queue.is_closed(), format!("{queue:?}"));
            if let Ok(handle) = queue.try_submit(Urgency::of(0), async {}) {
                handle.set_priority(Urgency::of(1));
                handle.cancel();
            }
            std::task::Wake::wake(calls.clone());
        })
    };
    let runs = queue.try_submit(urgency(5), async { 7 }).unwrap();
    let cancelled = queue.try_submit(urgency(4), async {}).unwrap();
    assert!(queue.try_submit(urgency(9), async {}).is_err());
    assert_eq!(calls.count(), 1, "refused");
    assert!(cancelled.set_priority(urgency(3)));
    assert_eq!(calls.count(), 2, "replaced");
    cancelled.cancel();
    assert_eq!(calls.count(), 3, "cancelled");
    assert!(!cancelled.set_priority(urgency(3)));
    assert_eq!(calls.count(), 4, "too late");
    assert!(worker(&queue).waits());
    assert_eq!((calls.count(), outcome(runs).unwrap()), (5, 7), "run");
    let left = queue.try_submit(urgency(1), async {}).unwrap();
    queue.close();
    assert!(queue.try_submit(urgency(1), async {}).is_err());
    assert_eq!(calls.count(), 6, "closed");
    worker(&queue).output();
    assert_eq!((calls.count(), outcome(left).is_ok()), (7, true));
}

#[test]
fn a_waker_may_drop_the_last_handle_to_the_queue_and_the_worker() {
    // The handle's waker, woken by a cancel, takes down all that is left.
    let queue = unbounded();
    let gate = Gate::new();
    let mut cancelled = queue.try_submit(2, async {}).unwrap();
    let queued = queue.try_submit(1, gate.task(())).unwrap();
    let mut idle = Driven::new(queue.idle());
    assert!(idle.waits());
    let last = StdMutex::new(Some((queue.clone().run(), queue)));
    let waker = Hostile::new().on_wake(move || drop(last.lock().unwrap().take())).waker();
    assert!(poll_with(&mut cancelled, &waker).is_pending());
    drop(waker);
    cancelled.cancel();
    assert_eq!(gate.drops(), 1);
    assert_cancelled(outcome(queued));
    assert_cancelled(outcome(cancelled));
    idle.output();
}

#[test]
fn the_drop_of_a_task_may_drop_the_last_handle_to_the_queue() {
    let queue = unbounded();
    let gate = Gate::new();
    let mut last = None;
    let keeper = Arc::new(StdMutex::new(None));
    let of_drop = keeper.clone();
    let task = script(|_| Poll::<()>::Pending, move || drop(of_drop.lock().unwrap().take()));
    let cancelled = queue.try_submit(2, task).unwrap();
    let queued = queue.try_submit(1, gate.task(())).unwrap();
    last.replace(queue);
    *keeper.lock().unwrap() = last;
    cancelled.cancel();
    assert_eq!(gate.drops(), 1);
    assert_cancelled(outcome(queued));
    assert_cancelled(outcome(cancelled));
}

#[test]
fn tasks_that_cancel_each_other_when_dropped_settle() {
    let queue = unbounded();
    let handles: Arc<StdMutex<Vec<Weak<Handle<()>>>>> = Arc::default();
    let kept: Vec<Arc<Handle<()>>> = (0..5)
        .map(|_| {
            let handles = handles.clone();
            let cancel_all = move || {
                let all = handles.lock().unwrap().clone();
                all.iter().filter_map(Weak::upgrade).for_each(|handle| handle.cancel());
            };
            Arc::new(queue.try_submit(1, script(|_| Poll::<()>::Pending, cancel_all)).unwrap())
        })
        .collect();
    *handles.lock().unwrap() = kept.iter().map(Arc::downgrade).collect();
    let mut worker = worker(&queue);
    assert!(worker.waits());
    kept[2].cancel();
    assert!(worker.waits());
    assert_eq!(state(&queue), (0, 0));
    kept.into_iter().for_each(|handle| assert_cancelled(outcome(Arc::into_inner(handle).unwrap())));
}

// ---------------------------------------------------------------------------------------------------------------------
// Executors
// ---------------------------------------------------------------------------------------------------------------------

/// Runs the body, and these workers until they end.
type Executor = fn(Vec<Run>, BoxFuture<'static, ()>);

const EXECUTORS: [(&str, Executor); 4] = [
    ("tokio with two workers", |workers, body| {
        on_tokio(tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap(), workers, body);
    }),
    ("tokio on the current thread", |workers, body| {
        on_tokio(tokio::runtime::Builder::new_current_thread().build().unwrap(), workers, body);
    }),
    ("smol", |workers, body| {
        let executor = smol::Executor::new();
        let workers: Vec<_> = workers.into_iter().map(|run| executor.spawn(run)).collect();
        smol::block_on(executor.run(async {
            executor.spawn(body).await;
            for worker in workers {
                worker.await;
            }
        }));
    }),
    ("threads", |workers, body| {
        let workers: Vec<_> = workers.into_iter().map(|run| thread::spawn(|| blocking::wait(run))).collect();
        blocking::wait(body);
        workers.into_iter().for_each(|worker| worker.join().unwrap());
    }),
];

fn on_tokio(runtime: tokio::runtime::Runtime, workers: Vec<Run>, body: BoxFuture<'static, ()>) {
    runtime.block_on(async {
        let workers: Vec<_> = workers.into_iter().map(tokio::spawn).collect();
        tokio::spawn(body).await.unwrap();
        for worker in workers {
            worker.await.unwrap();
        }
    });
}

/// A task that says when it runs, and ends when it is told.
async fn busy(begun: oneshot::Sender<()>, end: oneshot::Receiver<()>) {
    begun.send(()).unwrap();
    end.await.unwrap();
}

/// Occupies a worker; the returned sender frees it.
async fn occupy(queue: &Queue) -> (Handle<()>, oneshot::Sender<()>) {
    let ((begun, begins), (end, ends)) = (oneshot::channel(), oneshot::channel());
    let handle = queue.submit(u32::MAX, busy(begun, ends)).await.unwrap();
    begins.await.unwrap();
    (handle, end)
}

/// Tasks of every kind, on a queue with this many workers.
async fn every_kind(queue: Queue, workers: usize) {
    // Many that finish.
    let mut handles = Vec::new();
    for number in 0..60 {
        let task = async move {
            for _ in 0..number % 3 {
                yield_now().await;
            }
            number * 2
        };
        handles.push(queue.submit(number % 5, task).await.unwrap());
    }
    for (number, handle) in handles.into_iter().enumerate() {
        assert_eq!(handle.await.unwrap() as usize, number * 2);
    }

    // One that panics, one that is cancelled while it runs.
    let panics = queue.submit(1, async { resume_unwind(Box::new("oh")) }).await.unwrap();
    assert_eq!(text_of::<()>(panics.await), "oh");
    let (running, never) = occupy(&queue).await;
    running.cancel();
    assert_cancelled(running.await);
    assert!(never.is_canceled(), "its future is gone");

    // One that is cancelled while it is queued, and one that is detached there.
    let mut occupied = Vec::new();
    for _ in 0..workers {
        occupied.push(occupy(&queue).await);
    }
    let gate = Gate::opened();
    let queued = queue.submit(1, gate.task(())).await.unwrap();
    assert_eq!(state(&queue), (1, workers));
    queued.cancel();
    assert_eq!((state(&queue), gate.polls(), gate.drops()), ((0, workers), 0, 1));
    assert_cancelled(queued.await);
    let (done, is_done) = oneshot::channel();
    drop(queue.submit(1, async move { done.send(9).unwrap() }).await.unwrap());
    for (handle, end) in occupied {
        end.send(()).unwrap();
        handle.await.unwrap();
    }
    assert_eq!(is_done.await, Ok(9));

    // One that submits others and waits for them.
    let parent = queue.clone();
    let family = async move {
        let mut sum = 0;
        for number in 1..=10 {
            let child = parent.submit(number, async move { number }).await.unwrap();
            sum += child.await.unwrap();
        }
        sum
    };
    assert_eq!(queue.submit(9, family).await.unwrap().await.unwrap(), 55);

    // Rest, and the end.
    for number in 0..20 {
        drop(queue.submit(number, yield_now()).await.unwrap());
    }
    queue.idle().await;
    assert_eq!(state(&queue), (0, 0));
    queue.close();
    assert!(matches!(queue.submit(1, async {}).await, Err(TrySubmitError::Closed)));
}

#[test]
fn the_same_tasks_run_on_every_executor() {
    const WORKERS: usize = 3;
    for (name, executor) in EXECUTORS {
        for queue in [unbounded(), bounded(2), bounded(1)] {
            let workers = (0..WORKERS).map(|_| queue.clone().run()).collect();
            executor(workers, Box::pin(every_kind(queue.clone(), WORKERS)));
            assert_eq!((name, state(&queue)), (name, (0, 0)));
        }
    }
}

#[test]
fn the_order_of_running_is_the_same_on_every_executor() {
    const TASKS: usize = 100;
    for (name, executor) in EXECUTORS {
        let queue = unbounded();
        let log = Arc::new(Log::default());
        let body = {
            let (queue, log) = (queue.clone(), log.clone());
            async move {
                let (first, end) = occupy(&queue).await;
                let mut handles = Vec::new();
                for number in 0..TASKS {
                    let log = log.clone();
                    let task = async move {
                        yield_now().await;
                        log.push(number);
                    };
                    handles.push(queue.submit((number % 4) as u32, task).await.unwrap());
                }
                // Those of the lowest priority become the most urgent, the last one first.
                for (number, handle) in handles.iter().enumerate().filter(|(number, _)| number % 4 == 0) {
                    assert!(handle.set_priority(number as u32 + 10));
                }
                end.send(()).unwrap();
                first.await.unwrap();
                queue.idle().await;
                queue.close();
            }
        };
        executor(vec![queue.clone().run()], Box::pin(body));
        let mut wanted: Vec<_> = (0..TASKS).collect();
        wanted.sort_by_key(|number| match number % 4 {
            0 => (0, Reverse(*number)),
            level => (4 - level, Reverse(TASKS - number)),
        });
        assert_eq!((name, log.take()), (name, wanted));
    }
}

#[test]
fn an_aborted_worker_of_a_runtime_cancels_its_task_and_the_others_go_on() {
    let queue = unbounded();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let doomed = tokio::spawn(queue.clone().run());
        let (victim, _end) = occupy(&queue).await;
        let queued = queue.submit(1, async { 7 }).await.unwrap();
        doomed.abort();
        assert!(doomed.await.unwrap_err().is_cancelled());
        assert_cancelled(victim.await);
        let other = tokio::spawn(queue.clone().run());
        assert_eq!(queued.await.unwrap(), 7);
        queue.idle().await;
        queue.close();
        other.await.unwrap();
    });
}

#[test]
fn one_queue_serves_all_executors_at_once() {
    const TASKS: usize = 400;
    let queue = unbounded();
    let left = Arc::new(AtomicUsize::new(EXECUTORS.len()));
    let threads = EXECUTORS.map(|(_, executor)| {
        let (workers, queue, left) = (vec![queue.clone().run(), queue.clone().run()], queue.clone(), left.clone());
        let body = async move {
            for number in 0..TASKS {
                let task = async move {
                    yield_now().await;
                    number
                };
                let handle = queue.submit((number % 3) as u32, task).await.unwrap();
                assert_eq!(handle.await.unwrap(), number);
            }
            if left.fetch_sub(1, Ordering::SeqCst) == 1 {
                queue.close();
            }
        };
        thread::spawn(move || executor(workers, Box::pin(body)))
    });
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(state(&queue), (0, 0));
}

// ---------------------------------------------------------------------------------------------------------------------
// What it shows of itself, and what it is
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn everything_can_be_shown_whatever_it_holds() {
    struct Plain;
    let queue = TaskQueue::<Urgency>::unbounded();
    let handle = queue.try_submit(Urgency::of(1), async { Plain }).unwrap();
    let (run, idle) = (queue.clone().run(), queue.idle());
    assert!(format!("{queue:?}").contains("TaskQueue"));
    assert!(format!("{handle:?}").contains("TaskHandle"));
    assert!(format!("{run:?}").contains("Run") && format!("{idle:?}").contains("Idle"));
}

#[test]
fn a_task_may_show_everything_while_it_runs_and_while_it_is_dropped() {
    let queue = unbounded();
    let own: Arc<OnceLock<Handle<()>>> = Arc::default();
    let shown = Arc::new(Counter::default());
    let show = || {
        let (queue, own, shown) = (queue.clone(), own.clone(), shown.clone());
        move || {
            assert!(format!("{queue:?} {:?}", own.get()).contains("TaskHandle"));
            std::task::Wake::wake(shown.clone());
        }
    };
    let (while_polled, while_dropped) = (show(), show());
    let task = script(
        move |_| {
            while_polled();
            Poll::Ready(())
        },
        while_dropped,
    );
    own.set(queue.try_submit(1, task).unwrap()).unwrap();
    assert!(worker(&queue).waits());
    assert_eq!(shown.count(), 2);
}

#[test]
fn errors_say_what_happened() {
    fn text(error: &(dyn std::error::Error + 'static)) -> String {
        error.to_string()
    }
    let texts = [text(&TrySubmitError::Full), text(&TrySubmitError::Closed), text(&TaskError::Cancelled)];
    for (text, word) in texts.iter().zip(["full", "closed", "cancel"]) {
        assert!(text.contains(word), "{text}");
    }
    assert!(format!("{:?}", TaskError::Cancelled).contains("Cancelled"));
    assert!(format!("{:?} {:?}", TrySubmitError::Full, TrySubmitError::Closed).contains("Full Closed"));
}

#[test]
fn queues_handles_workers_and_idles_may_be_sent_and_shared() {
    fn sent<T: Send>(_: &T) {}
    fn shared<T: Send + Sync>(_: &T) {}
    fn spawned<T: Send + 'static>(_: &T) {}
    fn moved<T: Unpin>(_: &T) {}
    // A priority and a result that may be sent and not shared suffice.
    let queue = TaskQueue::<Urgency>::bounded(1);
    shared(&queue);
    spawned(&queue);
    let handle = queue.try_submit(Urgency::of(1), async { Cell::new(7) }).unwrap();
    spawned(&handle);
    moved(&handle);
    let plain = Queue::unbounded().try_submit(1, async { 7 }).unwrap();
    shared(&plain);
    let submit = queue.submit(Urgency::of(1), async { Cell::new(7) });
    sent(&submit);
    let (run, idle) = (queue.clone().run(), queue.idle());
    spawned(&run);
    moved(&run);
    spawned(&idle);
    moved(&idle);
    shared(&idle);
    fn named(_: Run, _: Idle) {}
    named(run, idle);
}

#[test]
fn a_task_need_not_be_shared_nor_moved() {
    let queue = unbounded();
    let handle = queue.try_submit(1, async {
        let cell = Cell::new(1);
        // It refers to a part of itself while it waits.
        let mut yields = pin!(yield_now());
        yields.as_mut().await;
        cell.set(cell.get() + 1);
        cell
    });
    assert!(worker(&queue).waits());
    assert_eq!(outcome(handle.unwrap()).unwrap().get(), 2);
}

#[test]
fn the_waker_of_a_worker_may_ask_the_handle_of_its_task() {
    let queue = unbounded();
    let (handle, asked) = (Arc::new(OnceLock::<Handle<()>>::new()), Arc::new(Counter::default()));
    let hook = || {
        let (handle, asked) = (handle.clone(), asked.clone());
        move || {
            if handle.get().is_some_and(|handle| !handle.is_finished()) {
                std::task::Wake::wake(asked.clone());
            }
        }
    };
    let waker = || Hostile::new().on_wake(hook()).on_clone(hook()).on_drop(hook()).waker();
    let mut run = Box::pin(queue.clone().run());
    assert!(handle.set(queue.try_submit(1, pending::<()>()).unwrap()).is_ok());
    let (first, second) = (waker(), waker());
    assert!(poll_with(&mut run, &first).is_pending());
    assert_eq!(asked.count(), 1, "it was cloned");
    assert!(poll_with(&mut run, &second).is_pending());
    assert_eq!(asked.count(), 3, "it was cloned, and took the place of the first");
    handle.get().unwrap().cancel();
    assert_eq!(asked.count(), 4, "it was woken");
    assert!(poll(&mut run).is_pending());
    assert!(handle.get().unwrap().is_finished());
}

#[test]
fn the_waker_of_a_handle_may_let_its_task_end_while_it_is_dropped() {
    for replaced in [true, false] {
        let queue = unbounded();
        let mut handle = queue.try_submit(1, async { 7 }).unwrap();
        let runner = StdMutex::new(worker(&queue));
        let waker = Hostile::new().on_drop(move || assert!(runner.lock().unwrap().waits())).waker();
        assert!(poll_with(&mut handle, &waker).is_pending());
        if replaced {
            let wakes = Arc::new(Counter::default());
            assert!(poll_with(&mut handle, &Waker::from(wakes.clone())).is_pending());
            assert_eq!((wakes.count(), outcome(handle).unwrap()), (1, 7));
        } else {
            drop(handle);
        }
        assert_eq!(state(&queue), (0, 0));
        Driven::new(queue.idle()).output();
    }
}

#[test]
fn the_waker_of_an_idle_may_call_everything() {
    let queue = unbounded();
    let intruder = Intruder::of(&queue);
    let waker = || Hostile::new().on_wake(intruder.hook()).on_clone(intruder.hook()).on_drop(intruder.hook()).waker();
    let task = queue.try_submit(1, pending::<()>()).unwrap();
    let last = Arc::new(StdMutex::new(None::<Idle>));
    let taken = last.clone();
    // More than are woken at once: the last one leaves with its waker.
    let first = Hostile::new().on_wake(move || ready(&mut taken.lock().unwrap().take().unwrap())).waker();
    let mut idles: Vec<_> = (0..20).map(|_| queue.idle()).collect();
    assert!(poll_with(&mut idles[0], &first).is_pending());
    for idle in &mut idles[1..] {
        assert!(poll_with(idle, &waker()).is_pending());
        assert!(poll_with(idle, &waker()).is_pending());
    }
    let before = intruder.calls();
    drop(idles.swap_remove(5));
    assert!(intruder.calls() > before, "it was dropped");
    *last.lock().unwrap() = idles.pop();
    let before = intruder.calls();
    task.cancel();
    assert!(intruder.calls() > before && last.lock().unwrap().is_none());
    idles.iter_mut().for_each(ready);
    assert_eq!(state(&queue), (0, 0));
}

#[test]
fn a_clone_in_vain_that_panics_when_dropped_does_not_cost_the_result() {
    let queue = unbounded();
    let mut handle = queue.try_submit(1, async { 7 }).unwrap();
    let runner = StdMutex::new(worker(&queue));
    let (armed, drops) = (Arc::new(AtomicBool::new(true)), Arc::new(Counter::default()));
    let counts = drops.clone();
    let waker = Hostile::new().on_clone(move || assert!(runner.lock().unwrap().waits())).on_drop(move || {
        std::task::Wake::wake(counts.clone());
        assert!(!armed.swap(false, Ordering::SeqCst), "the drop");
    });
    let waker = waker.waker();
    assert!(matches!(poll_with(&mut handle, &waker), Poll::Ready(Ok(7))));
    assert_eq!(drops.count(), 1);
}

#[test]
fn two_wakers_of_an_idle_that_panic_when_dropped_do_not_abort() {
    survives("two_wakers_of_an_idle_that_panic_when_dropped_do_not_abort", || {
        let queue = unbounded();
        let task = queue.try_submit(1, pending::<()>()).unwrap();
        let outcome = common::poll_with_two_wakers(|| queue.idle(), move || task.cancel());
        assert!(outcome.is_ok_and(|poll| poll.is_ready()));
    });
}

#[test]
fn wakers_that_panic_when_a_handle_and_an_idle_leave_in_an_unwinding_do_not_abort() {
    survives("wakers_that_panic_when_a_handle_and_an_idle_leave_in_an_unwinding_do_not_abort", || {
        let queue = unbounded();
        let drops = Arc::new(Counter::default());
        let message = panic_of(|| {
            let mut handle = queue.try_submit(1, pending::<()>()).unwrap();
            let mut idle = queue.idle();
            let waker = || {
                let drops = drops.clone();
                Hostile::new().on_drop(move || {
                    std::task::Wake::wake(drops.clone());
                    assert!(!thread::panicking(), "the drop");
                })
            };
            assert!(poll_with(&mut handle, &waker().waker()).is_pending());
            assert!(poll_with(&mut idle, &waker().waker()).is_pending());
            panic!("the first");
        });
        assert_eq!((message.as_str(), drops.count()), ("the first", 4), "two, and two that were clones of them");
    });
}

#[test]
fn a_waker_that_a_worker_has_no_use_for_and_that_panics_when_dropped_costs_no_task() {
    let queue = unbounded();
    let drops = Arc::new(Counter::default());
    let panics_when_dropped = || {
        let drops = drops.clone();
        Hostile::new().on_drop(move || {
            std::task::Wake::wake(drops.clone());
            assert!(drops.count() > 2, "the drop");
        })
    };
    // One that is replaced.
    let mut polls = 0..2;
    let body = poll_fn(move |_| if polls.next().is_some() { Poll::Pending } else { Poll::Ready(7) });
    let task = queue.try_submit(1, body).unwrap();
    let mut run = queue.clone().run();
    let replaced = panics_when_dropped().waker();
    assert!(poll_with(&mut run, &replaced).is_pending());
    assert!(poll(&mut run).is_pending());
    assert_eq!((drops.count(), task.is_finished()), (1, false));
    assert!(poll(&mut run).is_pending());
    assert_eq!(outcome(task).unwrap(), 7);
    // One that was cloned in vain, since the task was cancelled meanwhile.
    let task = Arc::new(OnceLock::new());
    assert!(task.set(queue.try_submit(1, pending::<()>()).unwrap()).is_ok());
    assert!(poll(&mut run).is_pending());
    let cancelled = task.clone();
    let waker = panics_when_dropped().on_clone(move || cancelled.get().unwrap().cancel()).waker();
    assert!(poll_with(&mut run, &waker).is_pending());
    assert!(task.get().unwrap().is_finished());
    assert_eq!((drops.count(), state(&queue)), (2, (0, 0)));
}
