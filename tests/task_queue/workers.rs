//! Workers: how they begin, yield, end, and are dropped.

use super::*;

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
fn a_worker_of_a_closed_queue_waits_for_reserved_tasks() {
    let queue = unbounded();
    let first = waiting_worker(&queue);
    let mut second = waiting_worker(&queue);
    let handle = queue.try_submit(1, async { 7 }).unwrap();
    assert!(first.is_woken());
    queue.close();
    assert!(second.waits(), "the first one has reserved the task");
    drop(first);
    second.output();
    assert_eq!(outcome(handle).unwrap(), 7);
}

#[test]
fn a_worker_ends_when_another_takes_the_last_closed_task() {
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
fn a_worker_ends_when_the_last_closed_task_is_cancelled() {
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
fn tasks_of_a_closed_queue_can_be_cancelled_and_reordered() {
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
fn a_worker_dropped_with_a_reservation_loses_no_task() {
    let queue = unbounded();
    let mut workers = vec![waiting_worker(&queue), waiting_worker(&queue), waiting_worker(&queue)];
    let handle = queue.try_submit(1, async { 7 }).unwrap();
    while workers.len() > 1 {
        let woken = workers.iter().position(Driven::is_woken).expect("one is woken");
        drop(workers.remove(woken));
    }
    assert_eq!(state(&queue), (1, 0));
    assert!(workers[0].is_woken() && workers[0].waits());
    assert_eq!(outcome(handle).unwrap(), 7);
}

#[test]
fn a_queued_task_outlives_the_last_worker() {
    let queue = unbounded();
    let first = waiting_worker(&queue);
    let handle = queue.try_submit(1, async { 7 }).unwrap();
    drop(first);
    assert_eq!((state(&queue), handle.is_finished()), ((1, 0), false));
    assert!(worker(&queue).waits());
    assert_eq!(outcome(handle).unwrap(), 7);
}

#[test]
fn a_worker_waits_on_if_its_reserved_task_is_cancelled() {
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
        // In every other round the workers run after each action.
        let workers_run = round % 2 == 0;
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
            if workers_run {
                assert!(workers.iter_mut().flatten().all(Driven::waits));
            }
            let finished = gates.each_ref().map(|gate| gate.drops() == 1);
            for (handle, finished) in handles.iter().zip(finished) {
                assert!(handle.as_ref().is_none_or(|handle| handle.is_finished() == finished));
            }
            if let Some(queue) = &queue {
                assert_eq!(queue.len() + queue.running(), finished.iter().filter(|finished| !*finished).count());
            }
            if !finished.iter().all(|finished| *finished) {
                assert!(idle.waits());
            }
        }
        assert_eq!(gates.map(|gate| gate.drops()), [1; TASKS]);
        idle.output();
    }
}
