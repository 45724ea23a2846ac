//! Ending tasks and workers on purpose: `cancel_all`, `force_submit`, `run_until`, `run_one`, weak handles.

use super::*;

use futures::future::{Either, select};

// `cancel_all`

#[test]
fn cancel_all_cancels_the_queued_and_the_parked_only() {
    let queue = bounded(2);
    let gates = [(); 6].map(|()| Gate::new());
    let running = queue.try_submit(9, gates[0].task(7)).unwrap();
    let mut worker = waiting_worker(&queue);
    let queued = [1, 2].map(|number| queue.try_submit(1, gates[number].task(0)).unwrap());
    let parked = [3, 4, 5].map(|number| parked(&queue, number as u32, gates[number].task(0)));
    let mut idle = Driven::new(queue.idle());
    assert!(idle.waits());
    assert_eq!(queue.cancel_all(), 5);
    assert_eq!((state(&queue), queue.waiting_submits()), ((0, 1), 0));
    assert!(gates[1..].iter().all(|gate| (gate.polls(), gate.drops()) == (0, 1)));
    queued.into_iter().for_each(|task| assert_cancelled(outcome(task)));
    for submit in parked {
        assert!(submit.is_woken());
        assert_cancelled(outcome(submit.output().unwrap()));
    }
    assert!(idle.waits());
    gates[0].open();
    assert!(worker.waits());
    idle.output();
    assert_eq!(outcome(running).unwrap(), 7);
}

#[test]
fn cancel_all_wakes_more_submits_than_a_batch_holds() {
    let queue = bounded(1);
    let queued = queue.try_submit(1, async {}).unwrap();
    let parked: Vec<_> = (0..100).map(|_| parked(&queue, 1, async {})).collect();
    assert_eq!(queue.cancel_all(), 101);
    assert_cancelled(outcome(queued));
    for submit in parked {
        assert!(submit.is_woken());
        assert_cancelled(outcome(submit.output().unwrap()));
    }
}

#[test]
fn cancel_all_of_an_empty_queue_is_zero_and_leaves_it_open() {
    let queue = unbounded();
    assert_eq!(queue.cancel_all(), 0);
    let task = queue.try_submit(1, async { 7 }).unwrap();
    assert!(worker(&queue).waits());
    assert_eq!((queue.cancel_all(), outcome(task).unwrap()), (0, 7));
}

#[test]
fn a_queued_task_that_holds_its_own_queue_is_not_leaked() {
    let queue = unbounded();
    let drops = Arc::new(AtomicUsize::new(0));
    let (held, token) = (queue.clone(), Token::new(&drops));
    let task = queue.try_submit(1, async move {
        let _ = (&held, &token);
        drop(held.submit(1, async {}).await);
    });
    let worker = worker(&queue);
    let weak = queue.downgrade();
    queue.close();
    drop(worker);
    assert_eq!(queue.cancel_all(), 1);
    drop(queue);
    assert_cancelled(outcome(task.unwrap()));
    assert_eq!(drops.load(Ordering::SeqCst), 1);
    assert!(weak.upgrade().is_none());
}

#[test]
fn cancel_all_of_detached_tasks_makes_a_closed_queue_idle() {
    let queue = unbounded();
    (0..3).for_each(|_| queue.try_submit(1, async {}).unwrap().detach());
    queue.close();
    let mut idle = Driven::new(queue.idle());
    assert!(idle.waits());
    assert_eq!(queue.cancel_all(), 3);
    idle.output();
}

#[test]
fn cancel_all_leaves_refused_tasks_to_their_submits() {
    let queue = bounded(1);
    let gate = Gate::new();
    queue.try_submit(1, async {}).unwrap().detach();
    let refused = parked(&queue, 1, gate.task(()));
    queue.close();
    assert_eq!((queue.cancel_all(), gate.drops()), (1, 0));
    let Err(Closed(refused)) = refused.output() else { panic!("it is closed") };
    assert_eq!(gate.drops(), 0);
    drop(refused);
}

#[test]
fn tasks_submitted_by_drops_during_cancel_all_stay_queued() {
    let queue = unbounded();
    let (drops, submits) = (Arc::new(AtomicUsize::new(0)), queue.clone());
    let counted = Token::new(&drops);
    let token = Token::on_drop(move || submits.try_submit(1, async move { drop(counted) }).unwrap().detach());
    queue.try_submit(1, async move { drop(token) }).unwrap().detach();
    assert_eq!(queue.cancel_all(), 1);
    assert_eq!((state(&queue), drops.load(Ordering::SeqCst)), ((1, 0), 0));
    assert_eq!(queue.cancel_all(), 1);
    assert_eq!(drops.load(Ordering::SeqCst), 1);
}

#[test]
fn panics_of_drops_do_not_keep_cancel_all_from_the_others() {
    does_not_abort!(|| {
        let queue = TaskQueue::<Urgency>::unbounded();
        let gate = Gate::new();
        let doomed = script(|_| Poll::<()>::Pending, || panic!("the task"));
        let doomed = queue.try_submit(Urgency::on_drop(3, || panic!("the priority")), doomed).unwrap();
        let other = queue.try_submit(Urgency::on_drop(2, || panic!("another")), gate.task(())).unwrap();
        let last = queue.try_submit(Urgency::of(1), gate.task(())).unwrap();
        assert_eq!(panic_of(|| queue.cancel_all()), "the priority");
        assert_eq!(text_of(outcome(doomed)), "the task");
        assert_cancelled(outcome(other));
        assert_cancelled(outcome(last));
        assert_eq!((gate.drops(), queue.cancel_all()), (2, 0));
    });
}

#[test]
fn workers_of_a_closed_queue_end_when_all_is_cancelled() {
    let queue = unbounded();
    let gate = Gate::new();
    queue.try_submit(2, gate.task(())).unwrap().detach();
    let mut busy = waiting_worker(&queue);
    queue.try_submit(1, pending::<()>()).unwrap().detach();
    queue.close();
    assert_eq!(queue.cancel_all(), 1);
    gate.open();
    assert!(busy.go().is_ready());
    worker(&queue).output();
}

// `force_submit`

#[test]
fn force_submit_cancels_the_newest_of_the_least_urgent() {
    let queue = bounded(3);
    let log = Arc::new(Log::default());
    let task = |number: usize| {
        let log = log.clone();
        async move { log.push(number) }
    };
    let older = queue.force_submit(1, task(1)).unwrap();
    let newer = queue.force_submit(1, task(2)).unwrap();
    let urgent = queue.force_submit(5, task(3)).unwrap();
    let forced = queue.force_submit(2, task(4)).unwrap();
    assert_eq!(state(&queue), (3, 0));
    assert_cancelled(outcome(newer));
    assert!(worker(&queue).waits());
    assert_numbers(&log.take(), [3, 4, 1]);
    assert!([older, urgent, forced].into_iter().all(|task| outcome(task).is_ok()));
}

#[test]
fn force_submit_may_cancel_its_own_task() {
    let queue = bounded(1);
    let gate = Gate::opened();
    let first = queue.try_submit(1, async { 7 }).unwrap();
    let mut late = queue.force_submit(1, gate.task(())).unwrap();
    assert_eq!((gate.polls(), gate.drops(), state(&queue)), (0, 1, (1, 0)));
    assert!(late.is_finished() && !late.set_priority(9));
    late.cancel();
    assert_cancelled(ready(&mut late));
    assert!(worker(&queue).waits());
    assert_eq!(outcome(first).unwrap(), 7);
    Driven::new(queue.idle()).output();
}

#[test]
fn force_submit_compares_no_parked_tasks() {
    let queue = bounded(1);
    let admitted = queue.try_submit(2, async {}).unwrap();
    let parked = parked(&queue, 1, async { 7 });
    let forced = queue.force_submit(3, async { 8 }).unwrap();
    assert_cancelled(outcome(admitted));
    assert_eq!(queue.waiting_submits(), 1);
    assert!(worker(&queue).waits());
    assert_eq!((outcome(forced).unwrap(), outcome(parked.output().unwrap()).unwrap()), (8, 7));
}

#[test]
fn panics_of_an_evicted_task_do_not_cost_the_new_handle() {
    does_not_abort!(|| {
        let queue = TaskQueue::<Urgency>::bounded(1);
        let doomed = script(|_| Poll::<()>::Pending, || panic!("the task"));
        let doomed = queue.try_submit(Urgency::on_drop(1, || panic!("the priority")), doomed).unwrap();
        let forced = queue.force_submit(Urgency::of(2), async { 7 }).unwrap();
        assert_eq!(text_of(outcome(doomed)), "the task");
        assert!(worker(&queue).waits());
        assert_eq!(outcome(forced).unwrap(), 7);
    });
}

// `run_until`

/// A shutdown that counts its polls, and is ready when the test says so.
fn shutdown(gate: &Arc<Gate>) -> impl Future<Output = ()> + Unpin + use<> {
    gate.task(())
}

fn worker_until(queue: &Queue, gate: &Arc<Gate>) -> Driven<RunUntil<impl Future<Output = ()> + Unpin + use<>>> {
    Driven::new(queue.clone().run_until(shutdown(gate)))
}

#[test]
fn a_worker_shut_down_finishes_its_task_and_takes_no_other() {
    let queue = unbounded();
    let (stop, gate) = (Gate::new(), Gate::new());
    let running = queue.try_submit(2, gate.task(7)).unwrap();
    let queued = queue.try_submit(1, async { 8 }).unwrap();
    let mut surplus = worker_until(&queue, &stop);
    assert!(surplus.waits());
    stop.open();
    assert!(surplus.waits());
    assert_eq!((stop.polls(), state(&queue)), (1, (1, 1)), "a worker that runs a task does not poll it");
    gate.open();
    surplus.output();
    assert_eq!((outcome(running).unwrap(), state(&queue), stop.polls()), (7, (1, 0), 2));
    assert!(worker(&queue).waits());
    assert_eq!(outcome(queued).unwrap(), 8);
}

#[test]
fn a_shutdown_is_polled_before_each_task() {
    let queue = unbounded();
    let stop = Gate::new();
    let opens = stop.clone();
    (0..3).for_each(|_| queue.try_submit(2, async {}).unwrap().detach());
    queue.try_submit(1, async move { opens.open() }).unwrap().detach();
    queue.try_submit(0, async {}).unwrap().detach();
    worker_until(&queue, &stop).output();
    assert_eq!((stop.polls(), state(&queue)), (5, (1, 0)));
}

#[test]
fn a_shutdown_passes_the_task_of_a_woken_worker_on() {
    let queue = unbounded();
    let stop = Gate::new();
    let mut first = worker_until(&queue, &stop);
    assert!(first.waits());
    let mut second = waiting_worker(&queue);
    let task = queue.try_submit(1, async { 7 }).unwrap();
    assert!(first.is_woken() && !second.is_woken());
    stop.open();
    first.output();
    assert!(second.is_woken() && second.waits());
    assert_eq!(outcome(task).unwrap(), 7);
    let idle_too = Gate::new();
    let mut third = worker_until(&queue, &idle_too);
    assert!(third.waits());
    idle_too.open();
    assert!(third.is_woken());
    third.output();
}

#[test]
fn a_shutdown_that_was_ready_is_not_polled_again() {
    let queue = unbounded();
    let stop = Gate::opened();
    let mut worker = queue.clone().run_until(shutdown(&stop));
    ready(&mut worker);
    assert!(!panic_of(|| poll(&mut worker)).is_empty());
    assert_eq!(stop.polls(), 1);
}

#[test]
fn a_worker_with_a_shutdown_ends_with_its_queue_too() {
    let queue = unbounded();
    let stop = Gate::new();
    let task = queue.try_submit(1, async { 7 }).unwrap();
    let mut ends = worker_until(&queue, &stop);
    assert!(ends.waits());
    queue.close();
    assert!(ends.is_woken());
    let weak = queue.downgrade();
    drop(queue);
    assert!(ends.go().is_ready());
    assert!(weak.upgrade().is_none(), "a worker that has ended keeps no queue");
    assert_eq!(outcome(task).unwrap(), 7);
}

#[test]
fn a_shutdown_that_panics_costs_no_task() {
    let queue = unbounded();
    let task = queue.try_submit(1, async { 7 }).unwrap();
    let mut doomed = queue.clone().run_until(script(|_| -> Poll<()> { panic!("shutdown") }, || {}));
    assert_eq!(panic_of(|| poll(&mut doomed)), "shutdown");
    drop(doomed);
    assert!(worker(&queue).waits());
    assert_eq!(outcome(task).unwrap(), 7);
}

#[test]
fn workers_are_retired_one_by_one_by_a_semaphore() {
    let queue = unbounded();
    let retirements = Arc::new(stanchion::Semaphore::new(0));
    let mut workers: Vec<_> = (0..3)
        .map(|_| {
            let retirement = retirements.clone().acquire_owned();
            let mut worker = Driven::new(Box::pin(queue.clone().run_until(async move {
                retirement.await.expect("it is not closed").forget();
            })));
            assert!(worker.waits());
            worker
        })
        .collect();
    retirements.add_permits(2);
    let ended = workers.iter_mut().filter_map(|worker| worker.go().is_ready().then_some(())).count();
    assert_eq!(ended, 2);
    let task = queue.try_submit(1, async { 7 }).unwrap();
    assert!(workers[2].waits());
    assert_eq!(outcome(task).unwrap(), 7);
}

// `run_one`

#[test]
fn run_one_runs_one_task_whatever_its_end() {
    let queue = unbounded();
    let finishes = queue.try_submit(4, async { 7 }).unwrap();
    let panics = queue.try_submit(3, async { panic!("oh") }).unwrap();
    let gate = Gate::new();
    let cancelled = queue.try_submit(2, gate.task(())).unwrap();
    let last = queue.try_submit(1, async { 8 }).unwrap();
    let mut one = queue.run_one();
    assert!(ready(&mut one));
    assert_eq!((outcome(finishes).unwrap(), state(&queue)), (7, (3, 0)), "it keeps nothing of a task that has ended");
    drop(one);
    assert!(ready(&mut queue.run_one()));
    assert_eq!(text_of::<()>(outcome(panics)), "oh");
    let mut one = Driven::new(queue.run_one());
    assert!(one.waits() && one.get().is_running());
    cancelled.cancel();
    assert!(one.output());
    assert_cancelled(outcome(cancelled));
    queue.close();
    assert!(ready(&mut queue.run_one()));
    assert_eq!(outcome(last).unwrap(), 8);
    let mut none = queue.run_one();
    assert!(!ready(&mut none));
    let weak = queue.downgrade();
    drop(queue);
    assert!(weak.upgrade().is_none(), "it keeps no queue that is closed and drained");
    assert!(!panic_of(|| poll(&mut none)).is_empty());
}

#[test]
fn run_one_has_no_effect_when_it_is_dropped_while_it_waits() {
    let queue = unbounded();
    drop(queue.run_one());
    let mut given_up = Driven::new(queue.run_one());
    assert!(given_up.waits() && !given_up.get().is_running());
    let mut worker = waiting_worker(&queue);
    let task = queue.try_submit(1, async { 7 }).unwrap();
    assert!(given_up.is_woken() && !worker.is_woken());
    drop(given_up);
    assert!(worker.is_woken() && worker.waits());
    assert_eq!(outcome(task).unwrap(), 7);
}

#[test]
fn run_one_cancels_its_task_when_it_is_dropped_in_mid_task() {
    let queue = unbounded();
    let gates = [Gate::new(), Gate::new()];
    let tasks = gates.each_ref().map(|gate| queue.try_submit(1, gate.task(())).unwrap());
    let mut one = Driven::new(queue.run_one());
    assert!(one.waits() && one.get().is_running());
    drop(one);
    assert_eq!((gates[0].drops(), gates[1].drops(), state(&queue)), (1, 0, (1, 0)));
    let [cancelled, queued] = tasks;
    assert_cancelled(outcome(cancelled));
    assert!(!queued.is_finished());
}

/// Awaits `future` in a task of `queue`, running other tasks meanwhile; as the guide shows it.
async fn helping<F: Future + Unpin>(queue: &Queue, mut future: F) -> F::Output {
    loop {
        match select(&mut future, queue.run_one()).await {
            Either::Left((output, helped)) => {
                if helped.is_running() {
                    helped.await;
                }
                return output;
            }
            Either::Right((true, _)) => {}
            Either::Right((false, _)) => return future.await,
        }
    }
}

#[test]
fn a_parent_that_helps_ends_on_the_only_worker() {
    let queue = unbounded();
    let inner = queue.downgrade();
    let parent = queue.try_submit(1, async move {
        let queue = inner.upgrade().unwrap();
        let children = [1, 2, 3].map(|number| {
            let inner = inner.clone();
            let child = async move {
                let queue = inner.upgrade().unwrap();
                let grandchild = queue
                    .submit(9, async move {
                        yield_now().await;
                        number
                    })
                    .await
                    .unwrap();
                helping(&queue, grandchild).await.unwrap() * 10
            };
            queue.try_submit(9, child).unwrap()
        });
        let mut sum = 0;
        for child in children {
            sum += helping(&queue, child).await.unwrap();
        }
        sum
    });
    assert!(worker(&queue).waits());
    assert_eq!(outcome(parent.unwrap()).unwrap(), 60);
}

#[test]
fn a_parent_that_helps_cancels_no_bystander() {
    let queue = unbounded();
    let (child_gate, gate) = (Gate::new(), Gate::new());
    let (inner, childs) = (queue.downgrade(), child_gate.clone());
    // Another worker runs the child, which ends while the parent runs the bystander.
    let child = queue.try_submit(9, childs.task(21)).unwrap();
    let mut other = waiting_worker(&queue);
    let mut parent = Driven::new(
        queue.try_submit(5, async move { helping(&inner.upgrade().unwrap(), child).await.unwrap() * 2 }).unwrap(),
    );
    let bystander = queue.try_submit(1, gate.task("done")).unwrap();
    let mut only = worker(&queue);
    assert!(only.waits() && parent.waits());
    assert_eq!((queue.running(), gate.polls()), (3, 1));
    child_gate.open();
    assert!(other.waits() && only.waits() && parent.waits());
    gate.open();
    assert!(only.waits());
    assert_eq!((outcome(bystander).unwrap(), parent.output().unwrap()), ("done", 42));
}

#[test]
fn a_task_that_helps_submits_to_its_own_full_queue() {
    let queue = bounded(1);
    let inner = queue.downgrade();
    let parent = queue.try_submit(9, async move {
        let queue = inner.upgrade().unwrap();
        let first = helping(&queue, queue.submit(1, async { 1 })).await.unwrap();
        let second = helping(&queue, queue.submit(1, async { 2 })).await.unwrap();
        helping(&queue, first).await.unwrap() + helping(&queue, second).await.unwrap()
    });
    assert!(worker(&queue).waits());
    assert_eq!(outcome(parent.unwrap()).unwrap(), 3);
}

// Weak handles

#[test]
fn a_weak_handle_finds_the_queue_while_handles_or_workers_live() {
    let queue = bounded(1);
    let weak = queue.downgrade().clone();
    assert!(weak.upgrade().unwrap().try_submit(1, async {}).is_ok());
    assert_eq!(state(&queue), (1, 0));
    let (run, until) = (queue.clone().run(), queue.clone().run_until(pending::<()>()));
    let (one, submit) = (queue.run_one(), queue.submit(1, async {}));
    drop(queue);
    assert!(weak.upgrade().is_some());
    drop((run, until, one));
    assert!(weak.upgrade().is_some(), "the submit keeps it");
    drop(submit);
    assert!(weak.upgrade().is_none());
}

#[test]
fn a_retry_with_a_weak_handle_does_not_keep_the_queue() {
    /// Fails twice, and submits itself again each time.
    fn attempt(queue: stanchion::WeakTaskQueue<u32>, tries: Arc<AtomicUsize>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            if tries.fetch_add(1, Ordering::SeqCst) < 2 {
                let again = attempt(queue.clone(), tries);
                if let Some(queue) = queue.upgrade() {
                    drop(queue.submit(1, again).await);
                }
            }
        })
    }
    let queue = unbounded();
    let tries = Arc::new(AtomicUsize::new(0));
    queue.try_submit(1, attempt(queue.downgrade(), tries.clone())).unwrap().detach();
    assert!(worker(&queue).waits());
    assert_eq!(tries.load(Ordering::SeqCst), 3);
    queue.try_submit(1, attempt(queue.downgrade(), Arc::default())).unwrap().detach();
    let weak = queue.downgrade();
    drop(queue);
    assert!(weak.upgrade().is_none());
}

#[test]
fn a_default_queue_is_never_full() {
    #[derive(Default)]
    struct App {
        jobs: stanchion::PriorityQueue<u8, String>,
        tasks: TaskQueue<u8>,
    }
    let App { jobs, tasks } = App::default();
    assert!(jobs.is_empty() && tasks.is_empty());
    assert_eq!((tasks.capacity(), Queue::bounded(7).capacity()), (None, Some(7)));
}
