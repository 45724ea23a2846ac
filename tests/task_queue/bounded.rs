//! Full queues: submits that wait, are refused, or are given up.

use super::*;

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
    assert!(matches!(queue.try_submit(9, gate.task(())), Err(TrySubmitError::Full(_))));
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
    assert!(matches!(queue.try_submit(1, pending::<()>()), Err(TrySubmitError::Full(_))));
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
fn a_parked_task_may_run_before_its_submit_is_ready() {
    let queue = bounded(1);
    let gate = Gate::new();
    let queued = queue.try_submit(1, async { 1 }).unwrap();
    let running = parked(&queue, 3, gate.task(3));
    let finished = parked(&queue, 9, async { 9 });
    let mut worker = worker(&queue);
    assert!(worker.waits());
    let (running, finished) = (running.output().unwrap(), finished.output().unwrap());
    assert!(finished.is_finished() && !running.is_finished() && !queued.is_finished());
    assert!(!running.set_priority(1) && !finished.set_priority(1));
    assert_eq!(outcome(finished).unwrap(), 9);
    running.cancel();
    assert!(worker.waits());
    assert_cancelled(outcome(running));
    assert_eq!((outcome(queued).unwrap(), state(&queue)), (1, (0, 0)));
}

#[test]
fn handles_of_submits_cancel_and_move_admitted_tasks() {
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
fn a_submit_dropped_while_parked_takes_its_task_out() {
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
fn idle_may_wait_for_a_parked_submit_to_be_dropped() {
    // A worker stays in the task before it. Once that ends, no submit is parked.
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
fn a_submit_dropped_after_admission_leaves_its_task_queued() {
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
fn parked_tasks_are_admitted_in_order_and_refused_together() {
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
        assert!(matches!(submit.output(), Err(Closed(_))));
    }
    assert_eq!((state(&queue), admitted.is_finished()), ((1, 0), false));
}

#[test]
fn a_submit_dropped_after_its_task_drops_the_result_once() {
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
fn close_refuses_new_and_parked_tasks() {
    let queue = bounded(1);
    let gates = [(); 3].map(|()| Gate::new());
    let queued = queue.try_submit(1, async { 7 }).unwrap();
    let refused = parked(&queue, 9, gates[0].task(()));
    let mut idle = Driven::new(queue.idle());
    assert!(idle.waits());
    queue.close();
    assert!(refused.is_woken());
    assert!(matches!(refused.output(), Err(Closed(_))));
    assert!(
        matches!(queue.try_submit(1, gates[1].task(())), Err(TrySubmitError::Closed(_))),
        "closed comes before full"
    );
    assert!(matches!(submit(&queue, 1, gates[2].task(())).output(), Err(Closed(_))));
    assert_eq!(gates.each_ref().map(|gate| (gate.polls(), gate.drops())), [(0, 1); 3]);
    assert_eq!(state(&queue), (1, 0));
    assert!(idle.waits());
    worker(&queue).output();
    idle.output();
    assert_eq!(outcome(queued).unwrap(), 7);
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
fn a_parked_task_that_panics_in_its_drop_panics_in_place() {
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
