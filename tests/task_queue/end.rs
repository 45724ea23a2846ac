//! The tasks of a queue that is dropped.

use super::*;

#[test]
fn queued_tasks_are_cancelled_with_queue_and_workers() {
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
fn a_worker_that_never_began_keeps_the_queue_until_its_drop() {
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
fn a_worker_that_ended_or_was_dropped_keeps_no_queue() {
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
fn the_last_worker_dropped_in_mid_task_drops_the_queue() {
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
fn a_task_may_drop_the_last_handle_and_its_worker_goes_on() {
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
    assert_eq!(Arc::strong_count(&results), 2, "one result is kept by its handle");
    drop(handles);
    assert_eq!(Arc::strong_count(&results), 1);
}
