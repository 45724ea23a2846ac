//! The order in which tasks run, and how they are submitted.

use super::*;

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
fn a_task_is_not_polled_before_a_worker_runs_it() {
    let queue = unbounded();
    let gate = Gate::opened();
    let mut handle = queue.try_submit(1, gate.task(())).unwrap();
    assert!(poll(&mut handle).is_pending());
    assert_eq!((gate.polls(), gate.drops(), state(&queue)), (0, 0, (1, 0)));
}

#[test]
fn tasks_run_by_priority_and_equals_in_submission_order() {
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
    assert!(handles[0].set_priority(5), "an equal priority changes nothing");
    assert!(handles[3].set_priority(5));
    assert!(handles[2].set_priority(0));
    assert_eq!(state(&queue), (5, 0));
    assert!(worker(&queue).waits());
    assert_numbers(&log.take(), [0, 4, 3, 1, 2]);
}

#[test]
fn set_priority_is_for_queued_tasks_only() {
    let queue = unbounded();
    let (running, dropped) = (Gate::new(), Gate::new());
    let running_handle = queue.try_submit(9, running.task(())).unwrap();
    let dropped_handle = queue.try_submit(1, dropped.task(())).unwrap();
    let mut worker = worker(&queue);
    assert!(worker.waits());
    assert_eq!(state(&queue), (1, 1));
    assert!(!running_handle.set_priority(1));
    dropped_handle.cancel();
    assert!(!dropped_handle.set_priority(1), "cancelled");
    running.open();
    assert!(worker.waits() && running_handle.is_finished());
    assert!(!running_handle.set_priority(1), "finished");
    let orphan = queue.try_submit(1, async {}).unwrap();
    drop((worker, queue));
    assert!(!orphan.set_priority(1), "its queue was dropped");
}

#[test]
fn a_worker_takes_the_task_most_urgent_when_it_is_polled() {
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
fn a_task_is_woken_where_its_worker_was_moved_to() {
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
fn a_cancel_wakes_the_latest_waker_of_the_worker() {
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
fn the_waker_of_a_finished_task_wakes_no_worker() {
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
fn a_worker_that_yielded_goes_on_though_the_queue_is_closed() {
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
fn a_worker_that_waits_counts_from_zero_again() {
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
fn a_deadline_as_priority_starves_no_task_and_a_level_may() {
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
            // A task takes a tick: it ends at its second poll. More tasks are submitted than can run.
            for _ in 0..1 + usize::from(tick % 10 == 0) {
                drop(queue.try_submit(urgent(tick), yield_now()).unwrap());
            }
            assert!(worker.once().is_pending());
        }
        if lazy.is_finished() { Some(outcome(lazy).unwrap()) } else { None }
    }
    assert_eq!(run(|_| 1, 0), None);
    let ran = run(|tick| Reverse(tick + 5), Reverse(PATIENCE)).expect("it ran");
    // The tasks before it are those with an earlier or the same deadline: one of each tick, and one of ten more.
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
