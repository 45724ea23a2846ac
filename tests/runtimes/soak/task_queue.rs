use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex as StdMutex};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use stanchion::{TaskError, TaskHandle, TaskQueue, blocking};

use super::{ALL, OPERATIONS, Part, add_one, after_a_change_of_waker, panic_on_purpose, read};
use crate::common::{with_patience, yield_now};

/// The numbers of tasks that met each fate, and of their outputs.
#[derive(Debug, Default)]
struct Counts {
    submitted: AtomicUsize,
    finished: AtomicUsize,
    panicked: AtomicUsize,
    cancelled: AtomicUsize,
    outputs: AtomicUsize,
    outputs_dropped: AtomicUsize,
}

/// The end that is planned for a task, and then the one that it met.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Finish,
    Panic,
    /// The task waits until it is cancelled.
    Never,
}

/// A task of some steps. `ended` is `Never` if it was dropped before its end.
struct TestTask {
    counts: Arc<Counts>,
    queue: TaskQueue<u8>,
    steps: usize,
    end: End,
    reached: bool,
    ended: Arc<StdMutex<Option<End>>>,
}

/// The output of a task.
struct Output(Arc<Counts>);

impl Drop for Output {
    fn drop(&mut self) {
        add_one(&self.0.outputs_dropped);
    }
}

impl TestTask {
    fn new(queue: &TaskQueue<u8>, counts: &Arc<Counts>, steps: usize, end: End) -> Self {
        add_one(&counts.submitted);
        Self { counts: counts.clone(), queue: queue.clone(), steps, end, reached: false, ended: Arc::default() }
    }
}

impl Future for TestTask {
    type Output = Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Output> {
        assert!(!self.reached, "polled after its end");
        if self.steps > 0 {
            self.steps -= 1;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.end == End::Never {
            return Poll::Pending;
        }
        self.reached = true;
        if self.end == End::Panic {
            panic_on_purpose();
        }
        if self.counts.submitted.load(Ordering::Relaxed) % 5 == 0 {
            drop(self.queue.try_submit(3, Self::new(&self.queue, &self.counts, 1, End::Finish)));
        }
        add_one(&self.counts.outputs);
        Poll::Ready(Output(self.counts.clone()))
    }
}

impl Drop for TestTask {
    fn drop(&mut self) {
        let end = if self.reached { self.end } else { End::Never };
        let before = self.ended.lock().unwrap().replace(end);
        assert_eq!(before, None, "dropped twice");
        add_one(match end {
            End::Finish => &self.counts.finished,
            End::Panic => &self.counts.panicked,
            End::Never => &self.counts.cancelled,
        });
    }
}

/// The handles of tasks, and the ends that the tasks themselves report.
type Handles = Vec<(TaskHandle<u8, Output>, Arc<StdMutex<Option<End>>>)>;

/// Asserts that a handle reports the same end as the task itself.
fn assert_same_end(outcome: Result<Output, TaskError>, ended: &StdMutex<Option<End>>) {
    let reported = match outcome {
        Ok(_) => End::Finish,
        Err(TaskError::Panicked(_)) => End::Panic,
        Err(TaskError::Cancelled) => End::Never,
    };
    assert_eq!(*ended.lock().unwrap(), Some(reported));
}

/// Submits a random task, and does random operations on those submitted before.
async fn operate(
    queue: &TaskQueue<u8>,
    counts: &Arc<Counts>,
    handles: &mut Handles,
    random: &mut StdRng,
    may_block: bool,
) {
    let (priority, steps) = (random.random_range(0..6), random.random_range(0..4));
    let end = match random.random_range(0..10) {
        0 => End::Panic,
        // Only with a handle, which cancels it.
        1 => End::Never,
        _ => End::Finish,
    };
    let task = TestTask::new(queue, counts, steps, end);
    let ended = task.ended.clone();
    let submitted = match random.random_range(0..4) {
        0 => queue.try_submit(priority, task).map_err(drop),
        1 if end != End::Never => {
            let patience = random.random_range(0..4);
            match with_patience(Box::pin(queue.submit(priority, task)), patience).await {
                Some(submitted) => submitted.map_err(drop),
                None => return,
            }
        }
        2 if may_block => blocking::wait(queue.submit(priority, task)).map_err(drop),
        _ => queue.submit(priority, task).await.map_err(drop),
    };
    match submitted {
        Ok(handle) => handles.push((handle, ended)),
        Err(()) => assert_eq!(*ended.lock().unwrap(), Some(End::Never), "a refused task was dropped"),
    }
    while handles.len() > 4 {
        let (mut handle, ended) = handles.swap_remove(random.random_range(0..handles.len()));
        match random.random_range(0..6) {
            0 => {
                handle.cancel();
                handle.cancel();
            }
            1 => {
                let patience = random.random_range(0..6);
                match with_patience(&mut handle, patience).await {
                    Some(outcome) => {
                        assert_same_end(outcome, &ended);
                        continue;
                    }
                    None => handle.cancel(),
                }
            }
            2 => {
                handle.set_priority(priority);
                handle.cancel();
                drop(handle);
                continue;
            }
            3 => {
                handle.set_priority(priority);
                yield_now().await;
                handle.cancel();
            }
            // The task ends by itself, or is cancelled when the worker that runs it is dropped.
            4 => {
                drop(handle);
                continue;
            }
            _ => {}
        }
        assert!(!handle.is_finished() || ended.lock().unwrap().is_some());
        let outcome = after_a_change_of_waker(handle).await;
        assert_same_end(outcome, &ended);
    }
}

/// Runs tasks until the queue is closed, in workers that are dropped at any point of their work.
async fn work(queue: &TaskQueue<u8>, random: &mut StdRng, may_block: bool) {
    let mut ended = false;
    while !ended {
        let run = queue.clone().run();
        ended = if may_block {
            let patience = Duration::from_micros(random.random_range(0..2_000));
            blocking::wait_timeout(run, patience).is_ok()
        } else {
            with_patience(Box::pin(run), random.random_range(0..20)).await.is_some()
        };
        // The next task may have to come from a thread that does not run.
        thread::yield_now();
    }
}

#[test]
fn every_task_is_accounted_for() {
    for queue in [TaskQueue::bounded(1), TaskQueue::bounded(10), TaskQueue::unbounded()] {
        let queue = Arc::new(queue);
        let counts = Arc::new(Counts::default());
        let submitters = Arc::new(AtomicUsize::new(ALL / 2));
        let part = Part::one_of(3, OPERATIONS);
        part.run(&queue, |number, may_block| {
            let (queue, counts, submitters) = (TaskQueue::clone(&queue), counts.clone(), submitters.clone());
            let operations = part.share_of(ALL);
            async move {
                let mut random = StdRng::seed_from_u64(number as u64);
                if number % 2 == 0 {
                    return work(&queue, &mut random, may_block).await;
                }
                let mut handles = Handles::new();
                for _ in operations {
                    operate(&queue, &counts, &mut handles, &mut random, may_block).await;
                }
                for (handle, ended) in handles {
                    handle.cancel();
                    assert_same_end(handle.await, &ended);
                }
                if submitters.fetch_sub(1, Ordering::SeqCst) == 1 {
                    queue.idle().await;
                    assert_eq!((queue.len(), queue.running()), (0, 0));
                    queue.close();
                }
            }
        });
        let Counts { submitted, finished, panicked, cancelled, outputs, outputs_dropped } = &*counts;
        let ended = [finished, panicked, cancelled].map(read);
        assert_eq!(read(submitted), ended.iter().sum(), "{counts:?}");
        assert_eq!((read(outputs), read(outputs)), (read(finished), read(outputs_dropped)), "{counts:?}");
        assert!(ended.iter().all(|count| *count >= part.operations() / 100), "{counts:?}");
    }
}
