//! Models of the ways to end tasks and workers on purpose.

use std::sync::Arc;
use std::task::Poll;

use loom::thread;
use stanchion::{Semaphore, blocking};

use super::{Tasks, Trace, assert_idle, result, spawn, work};
use crate::support::{Count, models, observe, poll, poll_noop};

models![
    3: run_until_racing_submit_and_shutdown,
    2: shutdown_passes_a_reservation_on,
    2: cancel_all_racing_worker,
    2: cancel_all_racing_parked_submit,
    3: cancel_all_racing_submit_and_idle,
    2: force_submit_racing_cancel,
    2: force_submit_evicting_a_cancelled_task,
];

/// A task that is submitted while its worker is shut down runs, or waits for another worker.
fn run_until_racing_submit_and_shutdown() {
    let (tasks, trace) = (Tasks::unbounded(), Trace::new());
    let stop = Arc::new(Semaphore::new(0));
    let stopped = stop.clone().acquire_owned();
    let worker = spawn(&tasks, |tasks| blocking::wait(tasks.run_until(stopped)));
    let stopper = thread::spawn(move || stop.add_permits(1));
    let task = tasks.try_submit(1, trace.ready(7)).unwrap();
    stopper.join().unwrap();
    worker.join().unwrap();
    let ran = observe("run before the shutdown", task.is_finished());
    assert_eq!(tasks.len(), usize::from(!ran));
    tasks.close();
    work(tasks.clone());
    assert_eq!(result(task), Some(7));
    assert_idle(&tasks);
}

/// A worker is shut down while a task is reserved for it: another one is woken for that. Guards the drop of the pop.
fn shutdown_passes_a_reservation_on() {
    let (tasks, trace) = (Tasks::unbounded(), Trace::new());
    let stop = Arc::new(Semaphore::new(0));
    let mut first = tasks.clone().run_until(stop.clone().acquire_owned());
    assert!(poll_noop(&mut first).is_pending());
    let (mut second, (count, waker)) = (tasks.clone().run(), Count::new());
    assert!(poll(&mut second, &waker).is_pending());
    stop.add_permits(1);
    let worker = spawn(&tasks, move |tasks| {
        observe("submitted before", tasks.len() == 1);
        assert!(poll_noop(&mut first).is_ready());
    });
    let submitter = spawn(&tasks, move |tasks| tasks.try_submit(1, trace.ready(7)).unwrap());
    worker.join().unwrap();
    let task = submitter.join().unwrap();
    assert_eq!(count.get(), 1);
    assert!(poll_noop(&mut second).is_pending());
    assert_eq!(result(task), Some(7));
    assert_idle(&tasks);
}

/// A task is either cancelled with all the others or run by a worker.
fn cancel_all_racing_worker() {
    let (tasks, trace) = (Tasks::unbounded(), Trace::new());
    let task = tasks.try_submit(1, trace.ready(7)).unwrap();
    tasks.close();
    let worker = spawn(&tasks, work);
    let canceller = spawn(&tasks, |tasks| tasks.cancel_all());
    worker.join().unwrap();
    let cancelled = observe("cancelled", canceller.join().unwrap() == 1);
    assert_eq!((result(task).is_none(), trace.was_polled()), (cancelled, !cancelled));
    assert!(trace.is_dropped());
    assert_idle(&tasks);
}

/// A submit that parks while all tasks are cancelled is cancelled as well, or finds room. Guards that it is woken.
fn cancel_all_racing_parked_submit() {
    let (tasks, trace) = (Tasks::bounded(1), Trace::new());
    let first = tasks.try_submit(1, trace.ready(1)).unwrap();
    let submitter = spawn(&tasks, |tasks| {
        let trace = Trace::new();
        (blocking::wait(tasks.submit(2, trace.ready(2))).unwrap(), trace)
    });
    let both = observe("both are cancelled", tasks.cancel_all() == 2);
    let (second, trace) = submitter.join().unwrap();
    assert_eq!((second.is_finished(), trace.is_dropped(), tasks.len()), (both, both, usize::from(!both)));
    second.cancel();
    assert_eq!([result(first), result(second)], [None, None]);
    assert_idle(&tasks);
}

/// An idle wait ends when all tasks are cancelled, and each is counted.
fn cancel_all_racing_submit_and_idle() {
    let (tasks, trace) = (Tasks::unbounded(), Trace::new());
    let first = tasks.try_submit(1, trace.ready(1)).unwrap();
    let submitter = spawn(&tasks, |tasks| tasks.try_submit(2, Trace::new().ready(2)).unwrap());
    let waiter = spawn(&tasks, move |tasks| {
        let (count, waker) = Count::new();
        let mut idle = tasks.idle();
        let ended = poll(&mut idle, &waker).is_ready();
        assert!(!ended || trace.is_dropped());
        (count, idle, ended)
    });
    let both = observe("both are cancelled", tasks.cancel_all() == 2);
    let second = submitter.join().unwrap();
    let (count, mut idle, ended) = waiter.join().unwrap();
    assert_eq!(second.is_finished(), both);
    second.cancel();
    if !observe("idle at once", ended) {
        assert_eq!((count.get(), poll_noop(&mut idle)), (1, Poll::Ready(())));
    }
    assert_eq!([result(first), result(second)], [None, None]);
    assert_idle(&tasks);
}

/// A task takes the room of one that is cancelled, or is itself the least urgent and is cancelled.
fn force_submit_racing_cancel() {
    let (tasks, trace) = (Tasks::bounded(1), Trace::new());
    let urgent = tasks.try_submit(2, trace.ready(2)).unwrap();
    let canceller = thread::spawn(move || {
        urgent.cancel();
        result(urgent)
    });
    let forced = tasks.force_submit(1, Trace::new().ready(1)).unwrap();
    let evicted = observe("evicted", forced.is_finished());
    assert_eq!(canceller.join().unwrap(), None);
    assert!(trace.is_dropped() && !trace.was_polled());
    assert_eq!(tasks.len(), usize::from(!evicted));
    forced.cancel();
    assert_eq!(result(forced), None);
    assert_idle(&tasks);
}

/// A task that is cancelled and evicted at the same time is dropped once, and its handle is woken.
fn force_submit_evicting_a_cancelled_task() {
    let (tasks, trace) = (Tasks::bounded(1), Trace::new());
    let least = tasks.try_submit(1, trace.ready(1)).unwrap();
    let canceller = thread::spawn(move || {
        least.cancel();
        assert_eq!(result(least), None);
        assert!(trace.is_dropped() && !trace.was_polled());
    });
    let forced = tasks.force_submit(2, Trace::new().ready(2)).unwrap();
    canceller.join().unwrap();
    assert_eq!((tasks.len(), forced.is_finished()), (1, false));
    tasks.close();
    work(tasks.clone());
    assert_eq!(result(forced), Some(2));
    assert_idle(&tasks);
}
