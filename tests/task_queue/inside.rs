//! Tasks that use their own queue.

use super::*;

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
fn a_task_may_wait_for_another_however_it_ends() {
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
fn a_second_worker_frees_a_task_that_awaits_one_behind_it() {
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
    assert_eq!((state(&queue), gate.drops()), ((1, 0), 0), "the inner task is detached, not cancelled");
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
