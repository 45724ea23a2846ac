//! Tasks that are cancelled, wherever they are.

use super::*;

#[test]
fn a_queued_task_is_dropped_within_its_cancel() {
    let queue = unbounded();
    let gates = [(); 3].map(|()| Gate::opened());
    let handles = gates.each_ref().map(|gate| queue.try_submit(1, gate.task(())).unwrap());
    let [first, second, third] = handles;
    let mut second = Driven::new(second);
    assert!(second.waits());
    second.get().cancel();
    assert_eq!((state(&queue), gates.each_ref().map(|gate| gate.drops())), ((2, 0), [0, 1, 0]));
    assert!(second.get().is_finished());
    assert_cancelled(second.output());
    assert!(worker(&queue).waits());
    assert_eq!(gates.map(|gate| (gate.polls(), gate.drops())), [(1, 1), (0, 1), (1, 1)]);
    assert!(outcome(first).is_ok() && outcome(third).is_ok());
}

#[test]
fn a_cancelled_running_task_is_dropped_instead_of_polled() {
    let queue = unbounded();
    let (gate, next) = (Gate::new(), Gate::opened());
    let mut handle = Driven::new(queue.try_submit(2, gate.task(())).unwrap());
    let after = queue.try_submit(1, next.task(7)).unwrap();
    let mut worker = worker(&queue);
    assert!(worker.waits() && handle.waits());
    handle.get().cancel();
    assert!(worker.is_woken() && handle.waits() && !handle.get().is_finished());
    assert_eq!((state(&queue), gate.drops()), ((1, 1), 0));
    // It could finish now, but is not polled.
    gate.open();
    assert!(worker.waits());
    assert_eq!((state(&queue), gate.polls(), gate.drops()), ((0, 0), 1, 1));
    assert_cancelled(handle.output());
    assert_eq!(outcome(after).unwrap(), 7);
}

#[test]
fn cancelling_a_finished_task_changes_nothing() {
    let queue = unbounded();
    let finished = queue.try_submit(1, async { 7 }).unwrap();
    let panicked = queue.try_submit(1, async { panic!("oh") }).unwrap();
    let cancelled = queue.try_submit(0, async {}).unwrap();
    cancelled.cancel();
    let mut worker = worker(&queue);
    assert!(worker.waits());
    finished.cancel();
    panicked.cancel();
    cancelled.cancel();
    assert!(!worker.is_woken(), "there is nothing to do for it");
    assert_eq!((outcome(finished).unwrap(), text_of::<()>(outcome(panicked))), (7, "oh"));
    assert_cancelled(outcome(cancelled));
    assert_eq!(state(&queue), (0, 0));
}

#[test]
fn cancelling_twice_is_cancelling_once() {
    let queue = unbounded();
    let (gate, next) = (Gate::new(), Gate::new());
    let handle = queue.try_submit(2, gate.task(())).unwrap();
    let after = queue.try_submit(1, next.task(())).unwrap();
    let mut worker = worker(&queue);
    assert!(worker.waits());
    handle.cancel();
    handle.cancel();
    assert!(worker.waits());
    handle.cancel();
    assert!(worker.waits());
    assert_eq!((state(&queue), gate.drops(), next.polls()), ((0, 1), 1, 1), "the next task is not cancelled");
    assert_cancelled(outcome(handle));
    assert!(!after.is_finished());
}

#[test]
fn a_stale_handle_never_touches_another_task() {
    let queue = unbounded();
    let mut worker = worker(&queue);
    let mut old = Vec::new();
    let log = Arc::new(Log::default());
    for round in 0..20 {
        let handle = queue.try_submit(1, async {}).unwrap();
        if round % 2 == 0 {
            assert!(worker.waits());
        } else {
            handle.cancel();
        }
        old.push(handle);
        let handles = [0, 1, 2].map(|number| {
            let log = log.clone();
            queue.try_submit(1, async move { log.push(number) }).unwrap()
        });
        for old in &old {
            assert!(!old.set_priority(round) && !old.control().set_priority(round));
            old.cancel();
            old.control().cancel();
        }
        assert_eq!(state(&queue), (3, 0));
        assert!(worker.waits());
        assert_eq!(log.take(), [0, 1, 2]);
        assert!(handles.into_iter().all(|handle| outcome(handle).is_ok()));
    }
}

#[test]
fn a_cancelled_handle_that_is_dropped_still_cancels() {
    let queue = unbounded();
    let gate = Gate::new();
    let handle = queue.try_submit(1, gate.task(())).unwrap();
    let mut worker = worker(&queue);
    assert!(worker.waits());
    handle.cancel();
    drop(handle);
    assert!(worker.waits());
    assert_eq!((state(&queue), gate.polls(), gate.drops()), ((0, 0), 1, 1));
}

#[test]
fn a_popped_task_that_is_cancelled_is_never_polled() {
    // A pop admits a parked task and wakes its submit, between the pop and the end of the poll of the worker.
    let queue = bounded(1);
    let gate = Gate::new();
    let handle = Arc::new(queue.try_submit(2, gate.task(())).unwrap());
    let polls_then = Arc::new(StdMutex::new(None));
    let mut submit = Box::pin(queue.submit(1, async { 7 }));
    let waker = {
        let (handle, gate, polls_then) = (handle.clone(), gate.clone(), polls_then.clone());
        Hooks::new().on_wake(move || {
            *polls_then.lock().unwrap() = Some(gate.polls());
            handle.cancel();
        })
    };
    assert!(poll_with(&mut submit, &waker.waker()).is_pending());
    let mut worker = worker(&queue);
    assert!(worker.waits());
    assert_eq!(*polls_then.lock().unwrap(), Some(gate.polls()), "it was polled though it was cancelled");
    assert_eq!((gate.drops(), state(&queue)), (1, (0, 0)));
    let second = ready(&mut submit).unwrap();
    drop(submit);
    assert_eq!(outcome(second).unwrap(), 7);
    assert_cancelled(outcome(Arc::into_inner(handle).unwrap()));
}

#[test]
fn a_task_may_be_cancelled_while_it_is_polled_on_another_thread() {
    let queue = unbounded();
    let gate = Gate::new();
    let (inside, is_inside) = mpsc::channel();
    let cancelled = Arc::new(AtomicBool::new(false));
    let mut task = gate.task(());
    let flag = cancelled.clone();
    let handle = queue.try_submit(
        1,
        poll_fn(move |context| {
            inside.send(()).unwrap();
            until(|| flag.load(Ordering::SeqCst));
            Pin::new(&mut task).poll(context)
        }),
    );
    let handle = handle.unwrap();
    let thread = thread::spawn({
        let run = queue.clone().run();
        || blocking::wait(run)
    });
    is_inside.recv().unwrap();
    handle.cancel();
    cancelled.store(true, Ordering::SeqCst);
    assert_cancelled(blocking::wait(handle));
    assert_eq!((gate.polls(), gate.drops()), (1, 1));
    queue.close();
    thread.join().unwrap();
}

#[test]
fn a_task_that_ends_in_the_poll_of_its_cancel_has_finished() {
    let queue = unbounded();
    let own: Arc<OnceLock<Handle<u32>>> = Arc::default();
    let mine = own.clone();
    let handle = queue.try_submit(1, async move {
        mine.get().unwrap().cancel();
        7
    });
    own.set(handle.unwrap()).unwrap();
    let after = queue.try_submit(0, async { 8 }).unwrap();
    assert!(worker(&queue).waits());
    let handle = Arc::into_inner(own).unwrap().into_inner().unwrap();
    assert_eq!((outcome(handle).unwrap(), outcome(after).unwrap()), (7, 8));
}

#[test]
fn cancels_from_other_threads_settle_every_handle_once() {
    const ROUNDS: usize = 3_000;
    let queue = unbounded();
    let workers = [(); 2].map(|()| queue.clone().run()).map(|run| thread::spawn(|| blocking::wait(run)));
    let mut finished = 0;
    for round in 0..ROUNDS {
        let (polls, futures, results) =
            (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        // Some end only by being cancelled.
        let lasts = if round % 4 == 0 { usize::MAX } else { round % 4 };
        let task = {
            let (polls, futures, token) = (polls.clone(), futures.clone(), Token::new(&results));
            let mut token = Some(token);
            script(
                move |context: &mut Context<'_>| {
                    if polls.fetch_add(1, Ordering::SeqCst) < lasts {
                        context.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    Poll::Ready(token.take().unwrap())
                },
                move || {
                    futures.fetch_add(1, Ordering::SeqCst);
                },
            )
        };
        let handle = queue.try_submit(1, task).unwrap();
        let polls_then = thread::scope(|scope| {
            let cancel = || {
                for _ in 0..round % 23 * 20 {
                    std::hint::spin_loop();
                }
                handle.cancel();
                polls.load(Ordering::SeqCst)
            };
            let other = (round % 8 == 0).then(|| scope.spawn(cancel));
            cancel().min(other.map_or(usize::MAX, |other| other.join().unwrap()))
        });
        match blocking::wait(handle) {
            Ok(token) => {
                assert!(lasts < usize::MAX && results.load(Ordering::SeqCst) == 0);
                drop(token);
                finished += 1;
            }
            Err(TaskError::Cancelled) => {}
            Err(TaskError::Panicked(panic)) => resume_unwind(panic.into_payload()),
        }
        assert_eq!((futures.load(Ordering::SeqCst), results.load(Ordering::SeqCst)), (1, 1));
        // The worker may have looked right before the cancel.
        assert!(polls.load(Ordering::SeqCst) <= polls_then + 1, "polled after it was cancelled");
    }
    blocking::wait(queue.idle());
    assert_eq!(state(&queue), (0, 0));
    queue.close();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    assert!(finished <= ROUNDS * 3 / 4);
}

#[test]
fn workers_dropped_amid_cancels_settle_every_handle() {
    const ROUNDS: usize = 300;
    let queue = unbounded();
    let mut random = StdRng::seed_from_u64(4);
    for _ in 0..ROUNDS {
        let drops = Arc::new(AtomicUsize::new(0));
        let handles = [(); 4].map(|()| {
            let token = Token::new(&drops);
            let task = async move {
                let _token = token;
                loop {
                    yield_now().await;
                }
            };
            queue.try_submit(random.random_range(0..3), task).unwrap()
        });
        let polls = [(); 2].map(|()| random.random_range(0..4));
        let order = {
            let mut order = [0, 1, 2, 3];
            order.shuffle(&mut random);
            order
        };
        thread::scope(|scope| {
            for polls in polls {
                let mut run = Box::pin(queue.clone().run());
                scope.spawn(move || {
                    for _ in 0..polls {
                        assert!(poll(&mut run).is_pending());
                    }
                });
            }
            for number in order {
                handles[number].cancel();
            }
        });
        // All workers are dropped, with the tasks that they ran; all other tasks were cancelled before.
        blocking::wait(queue.idle());
        assert_eq!((state(&queue), drops.load(Ordering::SeqCst)), ((0, 0), 4));
        handles.into_iter().for_each(|handle| assert_cancelled(outcome(handle)));
    }
}

#[test]
fn a_queue_dropped_amid_cancels_settles_every_handle() {
    const ROUNDS: usize = 300;
    for round in 0..ROUNDS {
        let queue = unbounded();
        let gates = [(); 6].map(|()| Gate::new());
        let handles = gates.each_ref().map(|gate| queue.try_submit(1, gate.task(())).unwrap());
        let idle = queue.idle();
        let mut run = Box::pin(queue.clone().run());
        if round % 2 == 0 {
            assert!(poll(&mut run).is_pending());
        }
        thread::scope(|scope| {
            scope.spawn(|| drop(run));
            scope.spawn(|| drop(queue));
            scope.spawn(|| blocking::wait(idle));
            scope.spawn(|| handles[..4].iter().for_each(TaskHandle::cancel));
            handles[2..].iter().rev().for_each(TaskHandle::cancel);
        });
        assert_eq!(gates.map(|gate| gate.drops()), [1; 6]);
        handles.into_iter().for_each(|handle| assert_cancelled(outcome(handle)));
    }
}
