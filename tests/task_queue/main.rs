//! Behaviour of a task queue: which task runs when, and how every task ends, whatever tasks, wakers and drops do.

#![cfg(not(loom))]

#[path = "../common/mod.rs"]
mod common;

mod bounded;
mod cancelling;
mod control;
mod end;
mod executors;
mod giving_back;
mod handles;
mod idle;
mod inside;
mod panics;
mod reentrant;
mod running;
mod shutdown;
mod traits;
mod workers;

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

use common::hooks::Hooks;
use common::{Counter, Log, Task, assert_numbers, does_not_abort, panic_of, poll, poll_with, ready, until, yield_now};
use futures::channel::oneshot;
use futures::future::BoxFuture;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use stanchion::{
    Closed, Idle, Run, RunUntil, Submit, TaskControl, TaskError, TaskHandle, TaskQueue, TrySubmitError, blocking,
};

type Queue = TaskQueue<u32>;
type Handle<R> = TaskHandle<u32, R>;
type Outcome<R> = Result<R, TaskError>;

fn unbounded() -> Queue {
    watch();
    Queue::unbounded()
}

fn bounded(capacity: usize) -> Queue {
    watch();
    Queue::bounded(capacity)
}

/// Ends the process if the test of this thread does not end: a deadlock fails instead of hanging.
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

/// A future that is polled as by an executor: at first, and then only if it was woken. So a missing wake fails the
/// test.
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

    /// Polls it while it is woken, and returns true if it still waits.
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

fn submit<F>(queue: &Queue, priority: u32, future: F) -> Driven<Submit<u32, F>>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    Driven::new(queue.submit(priority, future))
}

/// A submit that is parked, since the queue is full.
#[track_caller]
fn parked<F>(queue: &Queue, priority: u32, future: F) -> Driven<Submit<u32, F>>
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

/// The outcome of a handle that is ready.
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

/// The message of the panic of a task.
#[track_caller]
fn text_of<R>(outcome: Outcome<R>) -> &'static str {
    match outcome {
        Err(TaskError::Panicked(panic)) => panic.into_payload().downcast_ref::<&'static str>().expect("a text"),
        Err(TaskError::Cancelled) => panic!("it was cancelled"),
        Ok(_) => panic!("it finished"),
    }
}

/// A future that is made of a function for its polls and one for its drop.
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

/// Controls a task: counts its polls and drops, and lets it finish.
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

    fn task<R: Send + 'static>(self: &Arc<Self>, output: R) -> impl Future<Output = R> + Send + Unpin + use<R> {
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

/// Counts its drops, and runs a hook at each.
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

/// The payload of a panic that panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a payload was dropped");
    }
}

/// A priority with hooks for its comparison and its drop. It is not `Sync`, which priorities need not be.
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

/// Calls every function of a queue and of a handle, as user code may wherever it runs.
fn call_everything(queue: &Queue) {
    let _ = (state(queue), queue.is_closed(), format!("{queue:?}"));
    let gate = Gate::new();
    if let Ok(handle) = queue.try_submit(0, gate.task(())) {
        let control = handle.control();
        let _ = (handle.set_priority(1), control.set_priority(2));
        let _ = (handle.is_finished(), format!("{handle:?}"));
        handle.cancel();
        control.cancel();
        assert!(handle.is_finished() && control.is_finished());
    }
    assert_eq!(gate.drops(), 1);
    let mut submit = queue.submit(0, at_once(()));
    match poll(&mut submit) {
        Poll::Ready(Ok(handle)) => handle.cancel(),
        Poll::Ready(Err(_)) => {}
        Poll::Pending => drop(submit.into_inner()),
    }
    let mut idle = queue.idle();
    let _ = poll(&mut idle);
    drop(idle);
    drop(queue.clone());
    drop(queue.clone().run());
    drop((queue.run_one(), queue.downgrade().upgrade(), queue.waiting_submits()));
}

/// Makes hooks that call everything once there is a queue, and counts their runs.
#[derive(Clone, Default)]
struct Hooked {
    queue: Arc<OnceLock<Queue>>,
    calls: Arc<Counter>,
    busy: Arc<AtomicBool>,
}

impl Hooked {
    fn of(queue: &Queue) -> Self {
        let hooked = Self::default();
        hooked.queue.set(queue.clone()).unwrap();
        hooked
    }

    fn hook(&self) -> impl Fn() + Send + Sync + 'static {
        let Self { queue, calls, busy } = self.clone();
        move || {
            // The hook may run again within its calls.
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

/// A task that waits and panics when it is dropped.
fn panics_when_dropped(text: &'static str) -> impl Future<Output = ()> + Send + 'static {
    script(|_| Poll::Pending, move || resume_unwind(Box::new(text)))
}
