//! The wait for a moment without tasks.

use super::*;

#[test]
fn a_queue_with_nothing_to_do_is_idle_at_once() {
    let queue = unbounded();
    Driven::new(queue.idle()).output();
    let idle = queue.idle();
    drop(queue.try_submit(1, async {}).unwrap());
    let mut idle = Driven::new(idle);
    assert!(idle.waits(), "the first poll counts");
    let mut late = Driven::new(queue.idle());
    assert!(worker(&queue).waits());
    idle.output();
    assert!(!late.waits());
}

#[test]
fn idle_waits_for_the_queued_and_the_running() {
    let queue = unbounded();
    let gates = [Gate::new(), Gate::new()];
    gates.iter().for_each(|gate| drop(queue.try_submit(1, gate.task(())).unwrap()));
    let mut idle = Driven::new(queue.idle());
    let mut worker = worker(&queue);
    for gate in &gates {
        assert!(idle.waits() && worker.waits() && idle.waits());
        gate.open();
    }
    assert!(idle.waits() && worker.waits());
    idle.output();
}

#[test]
fn many_idles_end_together_and_dropped_ones_cost_nothing() {
    let queue = unbounded();
    let gate = Gate::new();
    drop(queue.try_submit(1, gate.task(())).unwrap());
    let mut idles: Vec<_> = (0..30).map(|_| Driven::new(queue.idle())).collect();
    assert!(idles.iter_mut().all(Driven::waits));
    let mut worker = worker(&queue);
    assert!(worker.waits());
    let mut number = 0;
    idles.retain(|_| {
        number += 1;
        number % 3 > 0
    });
    gate.open();
    assert!(worker.waits());
    // One that was woken and is dropped takes no wake from the others.
    drop(idles.swap_remove(0));
    idles.into_iter().for_each(Driven::output);
    Driven::new(queue.idle()).output();
}

#[test]
fn a_dropped_idle_drops_its_waker() {
    let queue = unbounded();
    drop(queue.try_submit(1, async {}).unwrap());
    let counter = Arc::new(Counter::default());
    let mut idle = queue.idle();
    assert!(poll_with(&mut idle, &Waker::from(counter.clone())).is_pending());
    assert_eq!(Arc::strong_count(&counter), 2);
    drop(idle);
    assert_eq!(Arc::strong_count(&counter), 1);
    assert!(worker(&queue).waits());
    assert_eq!(counter.count(), 0);
}

#[test]
fn polling_an_idle_after_it_was_ready_panics() {
    let queue = unbounded();
    let mut at_once = queue.idle();
    ready(&mut at_once);
    drop(queue.try_submit(1, async {}).unwrap());
    let mut idle = queue.idle();
    assert!(poll(&mut idle).is_pending());
    assert!(worker(&queue).waits());
    ready(&mut idle);
    assert!(!panic_of(|| poll(&mut at_once)).is_empty());
    assert!(!panic_of(|| poll(&mut idle)).is_empty());
}

#[test]
fn an_idle_moment_counts_after_it_has_passed() {
    let queue = unbounded();
    drop(queue.try_submit(1, async {}).unwrap());
    let mut idle = Driven::new(queue.idle());
    let mut run = worker(&queue);
    assert!(idle.waits() && run.waits());
    drop(queue.try_submit(1, pending::<()>()).unwrap());
    assert!(run.waits());
    assert_eq!(state(&queue), (0, 1));
    idle.output();
    assert!(Driven::new(queue.idle()).waits());
}

#[test]
fn idle_is_woken_through_its_latest_waker() {
    let queue = unbounded();
    drop(queue.try_submit(1, async {}).unwrap());
    let mut idle = queue.idle();
    let (old, new) = (Arc::new(Counter::default()), Arc::new(Counter::default()));
    assert!(poll_with(&mut idle, &Waker::from(old.clone())).is_pending());
    assert!(poll_with(&mut idle, &Waker::from(new.clone())).is_pending());
    assert!(worker(&queue).waits());
    assert_eq!((old.count(), new.count()), (0, 1));
    ready(&mut idle);
}

#[test]
fn every_task_has_settled_when_idle_is_ready() {
    let queue = unbounded();
    let gates = [(); 3].map(|()| Gate::new());
    let handles = gates.each_ref().map(|gate| queue.try_submit(1, gate.task(())).unwrap());
    let mut worker = worker(&queue);
    assert!(worker.waits());
    handles[0].cancel();
    gates[1].open();
    let seen = Arc::new(StdMutex::new(Vec::new()));
    let waker = {
        let (seen, handles) = (seen.clone(), Arc::new(StdMutex::new(handles)));
        let handles = move || handles.lock().unwrap().each_ref().map(TaskHandle::is_finished);
        let (queue, gates) = (queue.clone(), gates.clone());
        Hooks::new().on_wake(move || {
            seen.lock().unwrap().push((handles(), gates.each_ref().map(|gate| gate.drops()), state(&queue)));
        })
    };
    let mut idle = queue.idle();
    assert!(poll_with(&mut idle, &waker.waker()).is_pending());
    assert!(worker.waits());
    assert_eq!(seen.lock().unwrap().len(), 0);
    gates[2].open();
    assert!(worker.waits());
    assert_eq!(*seen.lock().unwrap(), [([true; 3], [1; 3], (0, 0))]);
    ready(&mut idle);
}

#[test]
fn a_detached_result_is_dropped_before_idle_is_ready() {
    let queue = unbounded();
    let (drops, gate) = (Arc::new(AtomicUsize::new(0)), Gate::opened());
    drop(queue.try_submit(1, gate.task(Token::new(&drops))).unwrap());
    let seen = Arc::new(StdMutex::new(Vec::new()));
    let (of_wake, counted) = (seen.clone(), drops.clone());
    let waker = Hooks::new().on_wake(move || of_wake.lock().unwrap().push(counted.load(Ordering::SeqCst))).waker();
    let mut idle = queue.idle();
    assert!(poll_with(&mut idle, &waker).is_pending());
    assert!(worker(&queue).waits());
    assert_eq!((seen.lock().unwrap().clone(), gate.drops()), (vec![1], 1));
    ready(&mut idle);
}

#[test]
fn idle_waits_for_a_task_that_a_task_submits() {
    fn countdown(queue: Queue, left: usize) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            if left > 0 {
                let next = countdown(queue.clone(), left - 1);
                drop(queue.try_submit(1, next).unwrap());
                yield_now().await;
            }
        })
    }
    let queue = unbounded();
    drop(queue.try_submit(1, countdown(queue.clone(), 20)).unwrap());
    let mut idle = Driven::new(queue.idle());
    let mut worker = worker(&queue);
    let mut polls = 0;
    while idle.waits() {
        assert!(state(&queue) != (0, 0));
        assert!(worker.is_woken() || polls == 0);
        assert!(worker.once().is_pending());
        polls += 1;
    }
    assert_eq!((state(&queue), polls > 20), ((0, 0), true));
}

#[test]
fn idle_ends_however_the_last_task_ends() {
    type End = fn(Queue, Worker, Handle<()>);
    let ends: [End; 5] = [
        |_, mut worker, handle| {
            handle.cancel();
            assert!(worker.waits());
        },
        |_, worker, _| drop(worker),
        |_, worker, handle| {
            handle.cancel();
            drop(worker);
        },
        |queue, worker, _| {
            drop(queue);
            drop(worker);
        },
        |queue, mut worker, handle| {
            queue.close();
            assert!(worker.waits());
            drop(handle);
            drop(worker);
        },
    ];
    for end in ends {
        let queue = unbounded();
        let handle = queue.try_submit(1, pending()).unwrap();
        let mut worker = worker(&queue);
        let mut idle = Driven::new(queue.idle());
        assert!(worker.waits() && idle.waits());
        end(queue, worker, handle);
        idle.output();
    }
    let queue = unbounded();
    let handle = queue.try_submit(1, pending::<()>()).unwrap();
    let mut idle = Driven::new(queue.idle());
    assert!(idle.waits());
    handle.cancel();
    idle.output();
}

#[test]
fn a_closed_queue_becomes_idle_when_it_is_drained() {
    let queue = unbounded();
    let gate = Gate::new();
    drop(queue.try_submit(1, gate.task(())).unwrap());
    let mut idle = Driven::new(queue.idle());
    assert!(idle.waits());
    queue.close();
    let mut worker = worker(&queue);
    assert!(idle.waits() && worker.waits() && idle.waits());
    gate.open();
    worker.output();
    idle.output();
    Driven::new(queue.idle()).output();
}
