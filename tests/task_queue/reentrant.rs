//! Wakers and drops that use the queue.

use super::*;

/// Runs a task to each of its ends, with the hook that `task` gives it, beside other tasks that must run normally.
fn ends(task: impl Fn() -> Handle<()>, queue: &Queue) {
    let after = queue.try_submit(1, async { 7 }).unwrap();
    let mut run = worker(queue);
    let (finishes, cancelled) = (task(), task());
    cancelled.cancel();
    let _ = run.go();
    finishes.cancel();
    let _ = run.go();
    let (third, fourth) = (task(), task());
    let _ = run.go();
    drop(run);
    drop(third);
    fourth.cancel();
    let mut run = worker(queue);
    let _ = run.go();
    drop(run);
    assert_eq!(outcome(after).unwrap(), 7);
    assert_eq!(state(queue), (0, 0));
    Driven::new(queue.idle()).output();
}

#[test]
fn the_drop_of_a_task_may_call_everything_wherever_it_happens() {
    for finishes in [true, false] {
        let queue = unbounded();
        let hooked = Hooked::of(&queue);
        let task = || {
            let ends = move |_: &mut Context<'_>| if finishes { Poll::Ready(()) } else { Poll::Pending };
            queue.try_submit(5, script(ends, hooked.hook())).unwrap()
        };
        ends(task, &queue);
        assert_eq!(hooked.calls(), 4);
    }
}

#[test]
fn the_drop_of_a_result_may_call_everything_wherever_it_happens() {
    let queue = unbounded();
    let hooked = Hooked::of(&queue);
    let token = || Token::on_drop(hooked.hook());
    drop(queue.try_submit(2, at_once(token())).unwrap());
    let taken = queue.try_submit(2, at_once(token())).unwrap();
    let left = queue.try_submit(2, at_once(token())).unwrap();
    let cancelled = queue.try_submit(1, at_once(token())).unwrap();
    cancelled.cancel();
    assert_eq!(hooked.calls(), 1);
    assert!(worker(&queue).waits());
    assert_eq!(hooked.calls(), 2);
    drop(outcome(taken));
    assert_eq!(hooked.calls(), 3);
    drop(left);
    assert_eq!((hooked.calls(), state(&queue)), (4, (0, 0)));
}

#[test]
fn the_waker_of_a_handle_may_call_everything_when_woken() {
    for finishes in [true, false] {
        let queue = unbounded();
        let hooked = Hooked::of(&queue);
        let task = || {
            let ends = move |_: &mut Context<'_>| if finishes { Poll::Ready(()) } else { Poll::Pending };
            let mut handle = queue.try_submit(5, script(ends, || ())).unwrap();
            assert!(poll_with(&mut handle, &Hooks::new().on_wake(hooked.hook()).waker()).is_pending());
            handle
        };
        ends(task, &queue);
        assert_eq!(hooked.calls(), 4);
    }
}

#[test]
fn the_waker_of_a_handle_may_collect_the_outcome() {
    let queue = unbounded();
    let handle = Arc::new(StdMutex::new(Some(queue.try_submit(5, async { 7 }).unwrap())));
    let collected = Arc::new(AtomicUsize::new(0));
    let (taken, result) = (handle.clone(), collected.clone());
    let waker = Hooks::new().on_wake(move || {
        let handle = taken.lock().unwrap().take().expect("it is woken once");
        result.store(outcome(handle).unwrap(), Ordering::Relaxed);
    });
    assert!(poll_with(handle.lock().unwrap().as_mut().unwrap(), &waker.waker()).is_pending());
    assert!(worker(&queue).waits());
    assert_eq!(collected.load(Ordering::Relaxed), 7);
}

#[test]
fn the_waker_of_a_handle_may_call_everything_when_cloned() {
    let queue = unbounded();
    let hooked = Hooked::of(&queue);
    let waker = Hooks::new().on_clone(hooked.hook()).on_drop(hooked.hook()).waker();
    let mut handle = queue.try_submit(1, pending::<()>()).unwrap();
    assert!(poll_with(&mut handle, &waker).is_pending());
    assert_eq!(hooked.calls(), 1);
    assert!(poll(&mut handle).is_pending());
    assert_eq!(hooked.calls(), 2, "it was replaced");
    assert!(poll_with(&mut handle, &waker).is_pending());
    drop(handle);
    assert_eq!(hooked.calls(), 4, "its handle was dropped");
    assert_eq!(state(&queue), (1, 0));
}

#[test]
fn the_task_may_end_while_the_waker_of_its_handle_is_cloned() {
    let queue = unbounded();
    let mut handle = queue.try_submit(1, async { 7 }).unwrap();
    let (runner, wakes) = (StdMutex::new(worker(&queue)), Arc::new(Counter::default()));
    let counter = wakes.clone();
    let waker = Hooks::new()
        .on_clone(move || assert!(runner.lock().unwrap().waits()))
        .on_wake(move || std::task::Wake::wake(counter.clone()))
        .waker();
    let outcome_now = match poll_with(&mut handle, &waker) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => {
            assert_eq!(wakes.count(), 1, "the task ended before the waker was stored, and does not wake it");
            ready(&mut handle)
        }
    };
    assert_eq!(outcome_now.unwrap(), 7);
}

#[test]
fn the_waker_of_a_worker_may_call_everything() {
    let queue = unbounded();
    let hooked = Hooked::of(&queue);
    let waker = Hooks::new().on_wake(hooked.hook()).on_clone(hooked.hook()).on_drop(hooked.hook()).waker();
    let mut run = Box::pin(queue.clone().run());
    assert!(poll_with(&mut run, &waker).is_pending());
    let gate = Gate::new();
    let before = hooked.calls();
    let handle = queue.try_submit(1, gate.task(())).unwrap();
    assert!(hooked.calls() > before);
    assert!(poll_with(&mut run, &waker).is_pending());
    assert_eq!(state(&queue), (0, 1));
    let before = hooked.calls();
    handle.cancel();
    assert!(hooked.calls() > before);
    assert!(poll_with(&mut run, &waker).is_pending());
    assert!(poll(&mut run).is_pending());
    assert!(poll_with(&mut run, &waker).is_pending());
    drop(run);
    assert_cancelled(outcome(handle));
    assert_eq!(state(&queue), (0, 0));
}

#[test]
fn the_waker_of_a_submit_may_call_everything() {
    let queue = bounded(1);
    let hooked = Hooked::of(&queue);
    let waker = || Hooks::new().on_wake(hooked.hook()).on_clone(hooked.hook()).on_drop(hooked.hook()).waker();
    let handle = queue.try_submit(1, async {}).unwrap();
    let [mut first, mut second, mut third] = [(); 3].map(|()| Box::pin(queue.submit(1, async {})));
    for submit in [&mut first, &mut second, &mut third] {
        assert!(poll_with(submit, &waker()).is_pending());
    }
    let before = hooked.calls();
    handle.cancel();
    assert!(hooked.calls() > before);
    let first = ready(&mut first).unwrap();
    drop(second);
    let before = hooked.calls();
    queue.close();
    assert!(hooked.calls() > before);
    assert!(ready(&mut third).is_err());
    worker(&queue).output();
    assert!(outcome(first).is_ok());
}

#[test]
fn the_drop_of_a_parked_task_may_call_everything() {
    let queue = bounded(1);
    let hooked = Hooked::of(&queue);
    drop(queue.try_submit(1, async {}).unwrap());
    let leaves = parked(&queue, 1, script(|_| Poll::<()>::Pending, hooked.hook()));
    let refused = parked(&queue, 1, script(|_| Poll::<()>::Pending, hooked.hook()));
    drop(leaves);
    assert_eq!(hooked.calls(), 1);
    assert!(queue.try_submit(1, script(|_| Poll::<()>::Pending, hooked.hook())).is_err());
    assert_eq!(hooked.calls(), 2);
    queue.close();
    assert!(refused.output().is_err());
    assert_eq!((hooked.calls(), state(&queue)), (3, (1, 0)));
}

#[test]
fn the_drop_of_a_priority_may_use_the_queue() {
    let queue = TaskQueue::<Urgency>::bounded(2);
    let calls = Arc::new(Counter::default());
    let urgency = |level: u32| {
        let (queue, calls) = (queue.clone(), calls.clone());
        Urgency::on_drop(level, move || {
            let _ = (state(&queue), queue.is_closed(), format!("{queue:?}"));
            if let Ok(handle) = queue.try_submit(Urgency::of(0), async {}) {
                handle.set_priority(Urgency::of(1));
                handle.cancel();
            }
            std::task::Wake::wake(calls.clone());
        })
    };
    let runs = queue.try_submit(urgency(5), async { 7 }).unwrap();
    let cancelled = queue.try_submit(urgency(4), async {}).unwrap();
    assert!(queue.try_submit(urgency(9), async {}).is_err());
    assert_eq!(calls.count(), 1, "refused");
    assert!(cancelled.set_priority(urgency(3)));
    assert_eq!(calls.count(), 2, "replaced");
    cancelled.cancel();
    assert_eq!(calls.count(), 3, "cancelled");
    assert!(!cancelled.set_priority(urgency(3)));
    assert_eq!(calls.count(), 4, "too late");
    assert!(worker(&queue).waits());
    assert_eq!((calls.count(), outcome(runs).unwrap()), (5, 7), "run");
    let left = queue.try_submit(urgency(1), async {}).unwrap();
    queue.close();
    assert!(queue.try_submit(urgency(1), async {}).is_err());
    assert_eq!(calls.count(), 6, "closed");
    worker(&queue).output();
    assert_eq!((calls.count(), outcome(left).is_ok()), (7, true));
}

#[test]
fn a_waker_may_drop_the_last_handle_to_the_queue_and_the_worker() {
    // The waker of the handle, woken by a cancel, drops the queue and the worker.
    let queue = unbounded();
    let gate = Gate::new();
    let mut cancelled = queue.try_submit(2, async {}).unwrap();
    let queued = queue.try_submit(1, gate.task(())).unwrap();
    let mut idle = Driven::new(queue.idle());
    assert!(idle.waits());
    let last = StdMutex::new(Some((queue.clone().run(), queue)));
    let waker = Hooks::new().on_wake(move || drop(last.lock().unwrap().take())).waker();
    assert!(poll_with(&mut cancelled, &waker).is_pending());
    drop(waker);
    cancelled.cancel();
    assert_eq!(gate.drops(), 1);
    assert_cancelled(outcome(queued));
    assert_cancelled(outcome(cancelled));
    idle.output();
}

#[test]
fn the_drop_of_a_task_may_drop_the_last_handle_to_the_queue() {
    let queue = unbounded();
    let gate = Gate::new();
    let mut last = None;
    let keeper = Arc::new(StdMutex::new(None));
    let of_drop = keeper.clone();
    let task = script(|_| Poll::<()>::Pending, move || drop(of_drop.lock().unwrap().take()));
    let cancelled = queue.try_submit(2, task).unwrap();
    let queued = queue.try_submit(1, gate.task(())).unwrap();
    last.replace(queue);
    *keeper.lock().unwrap() = last;
    cancelled.cancel();
    assert_eq!(gate.drops(), 1);
    assert_cancelled(outcome(queued));
    assert_cancelled(outcome(cancelled));
}

#[test]
fn tasks_that_cancel_each_other_when_dropped_settle() {
    let queue = unbounded();
    let handles: Arc<StdMutex<Vec<Weak<Handle<()>>>>> = Arc::default();
    let kept: Vec<Arc<Handle<()>>> = (0..5)
        .map(|_| {
            let handles = handles.clone();
            let cancel_all = move || {
                let all = handles.lock().unwrap().clone();
                all.iter().filter_map(Weak::upgrade).for_each(|handle| handle.cancel());
            };
            Arc::new(queue.try_submit(1, script(|_| Poll::<()>::Pending, cancel_all)).unwrap())
        })
        .collect();
    *handles.lock().unwrap() = kept.iter().map(Arc::downgrade).collect();
    let mut worker = worker(&queue);
    assert!(worker.waits());
    kept[2].cancel();
    assert!(worker.waits());
    assert_eq!(state(&queue), (0, 0));
    kept.into_iter().for_each(|handle| assert_cancelled(outcome(Arc::into_inner(handle).unwrap())));
}

#[test]
fn the_waker_of_a_worker_may_ask_the_handle_of_its_task() {
    let queue = unbounded();
    let (handle, asked) = (Arc::new(OnceLock::<Handle<()>>::new()), Arc::new(Counter::default()));
    let hook = || {
        let (handle, asked) = (handle.clone(), asked.clone());
        move || {
            if handle.get().is_some_and(|handle| !handle.is_finished()) {
                std::task::Wake::wake(asked.clone());
            }
        }
    };
    let waker = || Hooks::new().on_wake(hook()).on_clone(hook()).on_drop(hook()).waker();
    let mut run = Box::pin(queue.clone().run());
    assert!(handle.set(queue.try_submit(1, pending::<()>()).unwrap()).is_ok());
    let (first, second) = (waker(), waker());
    assert!(poll_with(&mut run, &first).is_pending());
    assert_eq!(asked.count(), 1, "it was cloned");
    assert!(poll_with(&mut run, &second).is_pending());
    assert_eq!(asked.count(), 3, "it was cloned, and replaced the first");
    handle.get().unwrap().cancel();
    assert_eq!(asked.count(), 4, "it was woken");
    assert!(poll(&mut run).is_pending());
    assert!(handle.get().unwrap().is_finished());
}

#[test]
fn the_task_may_end_while_the_waker_of_its_handle_is_dropped() {
    for replaced in [true, false] {
        let queue = unbounded();
        let mut handle = queue.try_submit(1, async { 7 }).unwrap();
        let runner = StdMutex::new(worker(&queue));
        let waker = Hooks::new().on_drop(move || assert!(runner.lock().unwrap().waits())).waker();
        assert!(poll_with(&mut handle, &waker).is_pending());
        if replaced {
            let wakes = Arc::new(Counter::default());
            assert!(poll_with(&mut handle, &Waker::from(wakes.clone())).is_pending());
            assert_eq!((wakes.count(), outcome(handle).unwrap()), (1, 7));
        } else {
            drop(handle);
        }
        assert_eq!(state(&queue), (0, 0));
        Driven::new(queue.idle()).output();
    }
}

#[test]
fn the_waker_of_an_idle_may_call_everything() {
    let queue = unbounded();
    let task = queue.try_submit(1, pending::<()>()).unwrap();
    let woken = Arc::new(Counter::default());
    let (inner, counts) = (queue.clone(), woken.clone());
    let waker = Hooks::new().on_wake(move || {
        inner.try_submit(1, async {}).unwrap().detach();
        assert!(!inner.is_closed() && inner.running() == 0);
        std::task::Wake::wake(counts.clone());
    });
    let waker = waker.waker();
    let mut idles = [(); 3].map(|()| queue.idle());
    assert!(idles.iter_mut().all(|idle| poll_with(idle, &waker).is_pending()));
    task.cancel();
    assert_eq!((woken.count(), state(&queue)), (3, (3, 0)));
    idles.iter_mut().for_each(ready);
}

#[test]
fn an_unused_clone_that_panics_when_dropped_costs_no_result() {
    let queue = unbounded();
    let mut handle = queue.try_submit(1, async { 7 }).unwrap();
    let runner = StdMutex::new(worker(&queue));
    let (armed, drops) = (Arc::new(AtomicBool::new(true)), Arc::new(Counter::default()));
    let counts = drops.clone();
    let waker = Hooks::new().on_clone(move || assert!(runner.lock().unwrap().waits())).on_drop(move || {
        std::task::Wake::wake(counts.clone());
        assert!(!armed.swap(false, Ordering::SeqCst), "the drop");
    });
    let waker = waker.waker();
    assert!(matches!(poll_with(&mut handle, &waker), Poll::Ready(Ok(7))));
    assert_eq!(drops.count(), 1);
}

#[test]
fn wakers_that_panic_when_dropped_in_an_unwinding_do_not_abort() {
    does_not_abort!(|| {
        let queue = unbounded();
        let drops = Arc::new(Counter::default());
        let message = panic_of(|| {
            let mut handle = queue.try_submit(1, pending::<()>()).unwrap();
            let mut idle = queue.idle();
            let waker = || {
                let drops = drops.clone();
                Hooks::new().on_drop(move || {
                    std::task::Wake::wake(drops.clone());
                    assert!(!thread::panicking(), "the drop");
                })
            };
            assert!(poll_with(&mut handle, &waker().waker()).is_pending());
            assert!(poll_with(&mut idle, &waker().waker()).is_pending());
            panic!("the first");
        });
        assert_eq!((message.as_str(), drops.count()), ("the first", 4), "two, and a clone of each");
    });
}

#[test]
fn an_unused_worker_waker_that_panics_costs_no_task() {
    let queue = unbounded();
    let drops = Arc::new(Counter::default());
    let panics_when_dropped = || {
        let drops = drops.clone();
        Hooks::new().on_drop(move || {
            std::task::Wake::wake(drops.clone());
            assert!(drops.count() > 2, "the drop");
        })
    };
    // A waker that is replaced.
    let mut polls = 0..2;
    let body = poll_fn(move |_| if polls.next().is_some() { Poll::Pending } else { Poll::Ready(7) });
    let task = queue.try_submit(1, body).unwrap();
    let mut run = queue.clone().run();
    let replaced = panics_when_dropped().waker();
    assert!(poll_with(&mut run, &replaced).is_pending());
    assert!(poll(&mut run).is_pending());
    assert_eq!((drops.count(), task.is_finished()), (1, false));
    assert!(poll(&mut run).is_pending());
    assert_eq!(outcome(task).unwrap(), 7);
    // A waker that was cloned and is not needed, since the task was cancelled meanwhile.
    let task = Arc::new(OnceLock::new());
    assert!(task.set(queue.try_submit(1, pending::<()>()).unwrap()).is_ok());
    assert!(poll(&mut run).is_pending());
    let cancelled = task.clone();
    let waker = panics_when_dropped().on_clone(move || cancelled.get().unwrap().cancel()).waker();
    assert!(poll_with(&mut run, &waker).is_pending());
    assert!(task.get().unwrap().is_finished());
    assert_eq!((drops.count(), state(&queue)), (2, (0, 0)));
}
