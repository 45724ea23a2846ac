//! Tasks that are refused, or given up by their submit, are returned.

use super::*;

/// Asserts that a task came back as it was: it was neither polled nor dropped, and runs elsewhere.
#[track_caller]
fn assert_intact<F: Future<Output = u32>>((priority, future): (u32, F), gate: &Gate) {
    assert_eq!((priority, gate.polls(), gate.drops()), (7, 0, 0));
    gate.open();
    assert_eq!(blocking::wait(future), 42);
    assert_eq!((gate.polls(), gate.drops()), (1, 1));
}

#[test]
fn a_refused_task_can_be_submitted_again() {
    let queue = bounded(1);
    let first = queue.try_submit(1, async {}).unwrap();
    let gate = Gate::opened();
    let Err(TrySubmitError::Full(refused)) = queue.try_submit(7, gate.task(42)) else { panic!("it is full") };
    let (priority, future) = refused.into_inner();
    assert_eq!(gate.drops(), 0);
    first.cancel();
    let again = queue.try_submit(priority, future).unwrap();
    assert!(worker(&queue).waits());
    assert_eq!((outcome(again).unwrap(), gate.polls(), gate.drops()), (42, 1, 1));
}

#[test]
fn a_closed_queue_gives_tasks_back_from_every_way_to_submit() {
    let queue = bounded(1);
    let gates = [(); 4].map(|()| Gate::new());
    queue.try_submit(9, async {}).unwrap().detach();
    let parked = parked(&queue, 7, gates[0].task(42));
    queue.close();
    let Err(Closed(refused)) = parked.output() else { panic!("it is closed") };
    assert_intact(refused.into_inner(), &gates[0]);
    let Err(Closed(refused)) = submit(&queue, 7, gates[1].task(42)).output() else { panic!("it is closed") };
    assert_intact(refused.into_inner(), &gates[1]);
    let refused = queue.try_submit(7, gates[2].task(42)).unwrap_err();
    assert!(matches!(refused, TrySubmitError::Closed(_)));
    assert_intact(refused.into_inner().into_inner(), &gates[2]);
    let Err(Closed(refused)) = queue.force_submit(7, gates[3].task(42)) else { panic!("it is closed") };
    assert_intact(refused.into_inner(), &gates[3]);
}

#[test]
fn a_submit_that_was_not_polled_gives_its_task_back() {
    let queue = bounded(1);
    let gate = Gate::new();
    assert_intact(queue.submit(7, gate.task(42)).into_inner().unwrap(), &gate);
    assert_eq!(state(&queue), (0, 0));
}

#[test]
fn a_parked_submit_gives_its_task_back() {
    let queue = bounded(1);
    let gate = Gate::new();
    let first = queue.try_submit(1, async {}).unwrap();
    let mut given_up = queue.submit(7, gate.task(42));
    assert!(poll(&mut given_up).is_pending());
    let next = parked(&queue, 1, async { 8 });
    assert_eq!(queue.waiting_submits(), 2);
    let back = given_up.into_inner().unwrap();
    assert_eq!((queue.waiting_submits(), state(&queue)), (1, (1, 0)));
    first.cancel();
    assert!(worker(&queue).waits());
    assert_eq!(outcome(next.output().unwrap()).unwrap(), 8);
    Driven::new(queue.idle()).output();
    assert_intact(back, &gate);
}

#[test]
fn a_submit_refused_by_close_gives_its_task_back_unpolled() {
    let queue = bounded(1);
    let gate = Gate::new();
    queue.try_submit(1, async {}).unwrap().detach();
    let mut refused = queue.submit(7, gate.task(42));
    assert!(poll(&mut refused).is_pending());
    queue.close();
    assert_intact(refused.into_inner().unwrap(), &gate);
}

#[test]
fn an_admitted_submit_gives_nothing_back_and_its_task_runs() {
    let queue = bounded(1);
    let gate = Gate::opened();
    let first = queue.try_submit(1, async {}).unwrap();
    let mut admitted = queue.submit(7, gate.task(42));
    assert!(poll(&mut admitted).is_pending());
    first.cancel();
    assert!(admitted.into_inner().is_none());
    assert_eq!(state(&queue), (1, 0));
    assert!(worker(&queue).waits());
    assert_eq!((gate.polls(), gate.drops()), (1, 1));
    let mut ended = queue.submit(1, async {});
    ready(&mut ended).unwrap().detach();
    assert!(ended.into_inner().is_none());
}

#[test]
fn a_refused_task_may_refer_to_itself_when_it_is_run_later() {
    let queue = unbounded();
    queue.close();
    let task = async {
        let mut yields = pin!(yield_now());
        yields.as_mut().await;
        7
    };
    let (_, future) = queue.try_submit(1, task).unwrap_err().into_inner().into_inner();
    assert_eq!(blocking::wait(future), 7);
}

#[test]
fn tasks_refused_by_close_do_not_keep_idle_waiting() {
    let queue = bounded(1);
    let gate = Gate::new();
    queue.try_submit(1, async {}).unwrap().detach();
    let refused = [(); 2].map(|()| parked(&queue, 9, gate.task(())));
    let mut idle = Driven::new(queue.idle());
    assert!(idle.waits());
    queue.close();
    assert!(idle.waits(), "one task is queued");
    worker(&queue).output();
    idle.output();
    assert_eq!((gate.polls(), gate.drops()), (0, 0));
    let [polled, dropped] = refused;
    assert!(matches!(polled.output(), Err(Closed(_))));
    drop(dropped);
    assert_eq!((gate.polls(), gate.drops()), (0, 2));
    Driven::new(queue.idle()).output();
}

#[test]
fn close_ends_an_idle_that_waited_for_refused_tasks_only() {
    let queue = bounded(1);
    let running = Gate::new();
    queue.try_submit(1, running.task(())).unwrap().detach();
    let mut worker = waiting_worker_in(&queue);
    let queued = queue.try_submit(1, async {}).unwrap();
    let refused = parked(&queue, 1, async {});
    running.open();
    queue.close();
    queued.cancel();
    let mut idle = Driven::new(queue.idle());
    assert!(idle.waits());
    assert!(worker.go().is_ready());
    idle.output();
    drop(refused);
}

/// A worker that is in the middle of a task.
#[track_caller]
fn waiting_worker_in(queue: &Queue) -> Worker {
    let worker = waiting_worker(queue);
    assert_eq!(queue.running(), 1);
    worker
}

#[test]
fn a_refused_task_counts_for_idle_no_longer() {
    let queue = bounded(1);
    let first = queue.try_submit(1, async {}).unwrap();
    let refused = queue.try_submit(1, async {}).unwrap_err();
    first.cancel();
    Driven::new(queue.idle()).output();
    drop(refused);
    Driven::new(queue.idle()).output();
}
