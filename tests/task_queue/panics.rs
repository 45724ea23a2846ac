//! Panics of tasks, results, priorities and wakers.

use super::*;

#[test]
fn a_task_that_panics_fails_its_handle_and_counts_as_done() {
    let queue = unbounded();
    let drops = Arc::new(AtomicUsize::new(0));
    let token = Token::new(&drops);
    let mut handle = Driven::new(
        queue
            .try_submit(2, async move {
                let _token = token;
                yield_now().await;
                panic!("oh");
            })
            .unwrap(),
    );
    let after = queue.try_submit(1, async { 7 }).unwrap();
    let mut idle = Driven::new(queue.idle());
    let mut worker = worker(&queue);
    assert!(handle.waits() && idle.waits() && worker.waits());
    assert_eq!((state(&queue), drops.load(Ordering::SeqCst)), ((0, 0), 1));
    assert_eq!(text_of::<()>(handle.output()), "oh");
    assert_eq!(outcome(after).unwrap(), 7);
    idle.output();
}

/// The error of a task that panics with `payload`.
fn failure_by(payload: Box<dyn Any + Send>) -> TaskError {
    let queue = unbounded();
    let handle = queue.try_submit(1, async { resume_unwind(payload) }).unwrap();
    assert!(worker(&queue).waits());
    outcome::<_, ()>(handle).unwrap_err()
}

#[test]
fn the_payload_of_a_panic_is_given_back_as_it_is() {
    let payload = |payload| match failure_by(payload) {
        TaskError::Panicked(panic) => panic.into_payload(),
        TaskError::Cancelled => panic!("it was cancelled"),
    };
    assert_eq!(payload(Box::new(41_u16)).downcast_ref(), Some(&41_u16));
    assert_eq!(payload(Box::new("literal")).downcast_ref(), Some(&"literal"));
    assert_eq!(payload(Box::new("text".to_owned())).downcast_ref(), Some(&"text".to_owned()));
}

#[test]
fn a_failed_task_shows_the_message_of_its_panic() {
    let payloads: [(Box<dyn Any + Send>, _); 3] =
        [(Box::new("no tenant"), Some("no tenant")), (Box::new("7".to_owned()), Some("7")), (Box::new(41_u16), None)];
    for (payload, wanted) in payloads {
        let failure = failure_by(payload);
        let (shown, debugged) = (failure.to_string(), format!("{failure:?}"));
        assert!(shown.contains("panicked") && debugged.contains("Panicked"), "{shown} {debugged}");
        let TaskError::Panicked(panic) = failure else { panic!("it was cancelled") };
        assert_eq!(panic.message(), wanted);
        assert!(wanted.is_none_or(|message| shown.contains(message) && debugged.contains(message)), "{debugged}");
    }
}

#[test]
fn a_queued_task_that_panics_in_its_drop_fails_its_handle() {
    let queue = unbounded();
    let handle = queue.try_submit(2, panics_when_dropped("dropped")).unwrap();
    let after = queue.try_submit(1, async { 7 }).unwrap();
    handle.cancel();
    assert_eq!(state(&queue), (1, 0));
    assert_eq!(text_of(outcome(handle)), "dropped");
    assert!(worker(&queue).waits());
    assert_eq!(outcome(after).unwrap(), 7);
}

#[test]
fn a_running_task_that_panics_in_its_drop_fails_its_handle() {
    let queue = unbounded();
    let handle = queue.try_submit(2, panics_when_dropped("dropped")).unwrap();
    let after = queue.try_submit(1, async { 7 }).unwrap();
    let mut idle = Driven::new(queue.idle());
    let mut worker = worker(&queue);
    assert!(worker.waits() && idle.waits());
    handle.cancel();
    assert!(worker.waits());
    assert_eq!((text_of(outcome(handle)), outcome(after).unwrap(), state(&queue)), ("dropped", 7, (0, 0)));
    idle.output();
}

#[test]
fn a_finished_task_that_panics_in_its_drop_fails_its_handle() {
    let queue = unbounded();
    let drops = Arc::new(AtomicUsize::new(0));
    let mut token = Some(Token::new(&drops));
    let task = script(move |_| Poll::Ready(token.take().unwrap()), || resume_unwind(Box::new("dropped")));
    let handle = queue.try_submit(2, task).unwrap();
    let after = queue.try_submit(1, async { 7 }).unwrap();
    let mut worker = worker(&queue);
    assert!(worker.waits());
    assert_eq!(text_of(outcome(handle)), "dropped");
    assert_eq!((drops.load(Ordering::SeqCst), outcome(after).unwrap(), state(&queue)), (1, 7, (0, 0)));
}

#[test]
fn a_task_that_panics_as_its_worker_is_dropped_fails_its_handle() {
    let queue = unbounded();
    let handle = queue.try_submit(2, panics_when_dropped("dropped")).unwrap();
    let mut idle = Driven::new(queue.idle());
    let mut first = worker(&queue);
    assert!(first.waits() && idle.waits());
    drop(first);
    assert_eq!((text_of(outcome(handle)), state(&queue)), ("dropped", (0, 0)));
    idle.output();
}

#[test]
fn a_task_that_panics_twice_fails_its_handle_once() {
    does_not_abort!(|| {
        let queue = unbounded();
        let polled = |_: &mut Context<'_>| -> Poll<()> { resume_unwind(Box::new("polled")) };
        // One of the payloads is returned; the drop of the other one would be user code, too.
        let dropped = || resume_unwind(Box::new(Token::on_drop(|| resume_unwind(Box::new("payload")))));
        let handle = queue.try_submit(2, script(polled, dropped)).unwrap();
        let after = queue.try_submit(1, async { 7 }).unwrap();
        assert!(worker(&queue).waits());
        assert_eq!(text_of(outcome(handle)), "polled");
        assert_eq!((outcome(after).unwrap(), state(&queue)), (7, (0, 0)));
    });
}

#[test]
fn a_task_and_its_result_that_panic_when_dropped_end_no_worker() {
    does_not_abort!(|| {
        for detached in [false, true] {
            let queue = unbounded();
            let mut token = Some(Token::on_drop(|| resume_unwind(Box::new("result"))));
            let task = script(move |_| Poll::Ready(token.take()), || resume_unwind(Box::new("future")));
            let handle = Some(queue.try_submit(2, task).unwrap()).filter(|_| !detached);
            let after = queue.try_submit(1, async { 7 }).unwrap();
            assert!(worker(&queue).waits());
            if let Some(handle) = handle {
                assert!(["future", "result"].contains(&text_of(outcome(handle))));
            }
            assert_eq!((outcome(after).unwrap(), state(&queue)), (7, (0, 0)));
        }
    });
}

#[test]
fn a_detached_result_that_panics_when_dropped_spares_the_worker() {
    does_not_abort!(|| {
        let queue = unbounded();
        drop(queue.try_submit(3, async { Token::on_drop(|| resume_unwind(Box::new("result"))) }).unwrap());
        let payload = || Token::on_drop(|| resume_unwind(Box::new("payload")));
        drop(queue.try_submit(2, async move { Token::on_drop(move || resume_unwind(Box::new(payload()))) }).unwrap());
        let after = queue.try_submit(1, async { 7 }).unwrap();
        let mut idle = Driven::new(queue.idle());
        let mut worker = worker(&queue);
        assert!(idle.waits() && worker.waits());
        assert_eq!((outcome(after).unwrap(), state(&queue)), (7, (0, 0)));
        idle.output();
    });
}

#[test]
fn a_panicking_result_of_a_dropped_submit_spares_the_worker() {
    let queue = bounded(1);
    drop(queue.try_submit(3, async {}).unwrap());
    let gate = Gate::new();
    let submit = parked(&queue, 2, gate.task(Token::on_drop(|| resume_unwind(Box::new("result")))));
    let mut worker = worker(&queue);
    // The task is admitted and begun, and its submit has not been polled since: no handle is ever made.
    assert!(worker.waits());
    drop(submit);
    gate.open();
    let after = queue.try_submit(1, async { 7 }).unwrap();
    assert!(worker.waits());
    assert_eq!((gate.drops(), outcome(after).unwrap(), state(&queue)), (1, 7, (0, 0)));
}

#[test]
fn a_result_that_panics_when_its_handle_is_dropped_panics_there() {
    let queue = unbounded();
    let handle = queue.try_submit(2, async { Token::on_drop(|| panic!("result")) }).unwrap();
    let mut worker = worker(&queue);
    assert!(worker.waits());
    assert_eq!(panic_of(|| drop(handle)), "result");
    let after = queue.try_submit(1, async { 7 }).unwrap();
    assert!(worker.waits());
    assert_eq!(outcome(after).unwrap(), 7);
}

#[test]
fn a_payload_that_panics_when_dropped_spares_the_worker() {
    does_not_abort!(|| {
        let queue = unbounded();
        let payload = || -> Box<Token> { Box::new(Token::on_drop(|| resume_unwind(Box::new("payload")))) };
        drop(queue.try_submit(4, async move { resume_unwind(payload()) }).unwrap());
        drop(queue.try_submit(3, script(|_| Poll::Ready(()), move || resume_unwind(payload()))).unwrap());
        let queued = queue.try_submit(0, script(|_| Poll::<()>::Pending, move || resume_unwind(payload()))).unwrap();
        queued.cancel();
        match outcome(queued) {
            // The test owns it now, and its drop would panic here.
            Err(TaskError::Panicked(panic)) => std::mem::forget(panic),
            other => panic!("{other:?}"),
        }
        let after = queue.try_submit(1, async { 7 }).unwrap();
        assert!(worker(&queue).waits());
        assert_eq!((outcome(after).unwrap(), state(&queue)), (7, (0, 0)));
    });
}

#[test]
fn a_handle_waker_that_panics_when_woken_spares_the_worker() {
    let queue = unbounded();
    let mut finishes = queue.try_submit(4, async { 7 }).unwrap();
    let mut panics = queue.try_submit(3, async { resume_unwind(Box::new("task")) }).unwrap();
    let gate = Gate::new();
    let mut cancelled = queue.try_submit(2, gate.task(())).unwrap();
    let after = queue.try_submit(1, async { 8 }).unwrap();
    let waker = Hooks::new().on_wake(|| resume_unwind(Box::new(Bomb))).waker();
    assert!(poll_with(&mut finishes, &waker).is_pending());
    assert!(poll_with(&mut panics, &waker).is_pending());
    assert!(poll_with(&mut cancelled, &waker).is_pending());
    let mut idle = Driven::new(queue.idle());
    let mut worker = worker(&queue);
    assert!(idle.waits() && worker.waits());
    assert_eq!(state(&queue), (1, 1));
    cancelled.cancel();
    assert!(worker.waits());
    assert_eq!((outcome(finishes).unwrap(), text_of::<()>(outcome(panics))), (7, "task"));
    assert_cancelled(outcome(cancelled));
    assert_eq!((outcome(after).unwrap(), state(&queue), gate.drops()), (8, (0, 0), 1));
    idle.output();
}

#[test]
fn an_idle_waker_that_panics_when_woken_spares_the_worker() {
    let queue = unbounded();
    let waker = Hooks::new().on_wake(|| resume_unwind(Box::new("waker"))).waker();
    let mut worker = worker(&queue);
    for result in [7, 8] {
        let task = queue.try_submit(1, async move { result }).unwrap();
        let (mut idle, mut other) = (queue.idle(), Driven::new(queue.idle()));
        assert!(poll_with(&mut idle, &waker).is_pending() && other.waits());
        assert!(worker.waits());
        assert_eq!((outcome(task).unwrap(), state(&queue)), (result, (0, 0)));
        other.output();
        ready(&mut idle);
    }
}

#[test]
fn a_waker_of_an_idle_that_panics_costs_no_other_its_wake() {
    does_not_abort!(|| {
        let queue = unbounded();
        for _ in 0..2 {
            let task = queue.try_submit(1, async {}).unwrap();
            let hook = || resume_unwind(Box::new(Bomb));
            let panics = [(); 2].map(|()| Hooks::new().on_wake(hook).on_drop(hook).waker());
            let mut idle = queue.idle();
            let mut replaced = queue.idle();
            assert!(poll_with(&mut idle, &panics[0]).is_pending());
            assert!(poll_with(&mut replaced, &panics[1]).is_pending());
            assert!(poll_with(&mut replaced, &panics[0]).is_pending());
            panics.into_iter().for_each(std::mem::forget);
            let mut other = Driven::new(queue.idle());
            assert!(other.waits());
            task.cancel();
            assert!(other.is_woken());
            other.output();
            ready(&mut idle);
            ready(&mut replaced);
        }
    });
}

#[test]
fn a_handle_waker_that_panics_in_a_cancel_loses_nothing() {
    let queue = unbounded();
    let gate = Gate::new();
    let mut handle = queue.try_submit(2, gate.task(())).unwrap();
    let waker = Hooks::new().on_wake(|| resume_unwind(Box::new("waker"))).waker();
    assert!(poll_with(&mut handle, &waker).is_pending());
    let mut idle = Driven::new(queue.idle());
    assert!(idle.waits());
    let _ = catch_unwind(AssertUnwindSafe(|| handle.cancel()));
    assert_eq!((gate.drops(), state(&queue)), (1, (0, 0)));
    assert_cancelled(outcome(handle));
    idle.output();
}

#[test]
fn a_handle_waker_that_panics_in_a_worker_drop_loses_nothing() {
    let queue = unbounded();
    let gate = Gate::new();
    let mut handle = queue.try_submit(2, gate.task(())).unwrap();
    let after = queue.try_submit(1, async { 7 }).unwrap();
    let waker = Hooks::new().on_wake(|| resume_unwind(Box::new("waker"))).waker();
    assert!(poll_with(&mut handle, &waker).is_pending());
    let mut first = worker(&queue);
    assert!(first.waits());
    let _ = catch_unwind(AssertUnwindSafe(|| drop(first)));
    assert_eq!((gate.drops(), state(&queue)), (1, (1, 0)));
    assert_cancelled(outcome(handle));
    assert!(worker(&queue).waits());
    assert_eq!(outcome(after).unwrap(), 7);
}

#[test]
fn a_handle_waker_that_panics_when_cloned_spares_the_task() {
    let queue = unbounded();
    let mut handle = queue.try_submit(1, async { 7 }).unwrap();
    let clone = Hooks::new().on_clone(|| panic!("cloned")).waker();
    assert_eq!(panic_of(|| poll_with(&mut handle, &clone)), "cloned");
    // It is dropped when it is replaced, and panics only while the flag is set.
    let armed = Arc::new(AtomicBool::new(false));
    let flag = armed.clone();
    let dropped = Hooks::new().on_drop(move || assert!(!flag.load(Ordering::SeqCst), "dropped")).waker();
    assert!(poll_with(&mut handle, &dropped).is_pending());
    armed.store(true, Ordering::SeqCst);
    let counter = Arc::new(Counter::default());
    let waker = Waker::from(counter.clone());
    let _ = catch_unwind(AssertUnwindSafe(|| poll_with(&mut handle, &waker)));
    armed.store(false, Ordering::SeqCst);
    assert!(poll_with(&mut handle, &waker).is_pending());
    assert!(worker(&queue).waits());
    assert_eq!((counter.count(), outcome(handle).unwrap()), (1, 7));
}

#[test]
fn the_waker_of_a_worker_that_panics_loses_no_task() {
    let queue = unbounded();
    let mut run = Box::pin(queue.clone().run());
    let waker = Hooks::new().on_wake(|| resume_unwind(Box::new("waker"))).waker();
    assert!(poll_with(&mut run, &waker).is_pending());
    let gate = Gate::opened();
    let _ = catch_unwind(AssertUnwindSafe(|| drop(queue.try_submit(1, gate.task(())))));
    assert_eq!(state(&queue), (1, 0));
    assert!(poll(&mut run).is_pending());
    assert_eq!((gate.polls(), gate.drops()), (1, 1));

    let gate = Gate::new();
    let handle = queue.try_submit(1, gate.task(())).unwrap();
    assert!(poll_with(&mut run, &waker).is_pending());
    let _ = catch_unwind(AssertUnwindSafe(|| handle.cancel()));
    assert!(poll(&mut run).is_pending());
    assert_cancelled(outcome(handle));
    assert_eq!((gate.polls(), gate.drops(), state(&queue)), (1, 1, (0, 0)));
}

#[test]
fn the_waker_of_a_worker_that_panics_when_cloned_loses_no_task() {
    for tasks in 0..3 {
        let queue = unbounded();
        let gates: Vec<_> = (0..tasks).map(|_| Gate::new()).collect();
        let handles: Vec<_> = gates.iter().map(|gate| queue.try_submit(1, gate.task(())).unwrap()).collect();
        let mut idle = Driven::new(queue.idle());
        assert_eq!(idle.waits(), tasks > 0);
        let mut run = Box::pin(queue.clone().run());
        let waker = Hooks::new().on_clone(|| resume_unwind(Box::new("cloned"))).waker();
        assert!(catch_unwind(AssertUnwindSafe(|| poll_with(&mut run, &waker))).is_err());
        drop(run);
        // The task that it ran, if any, is cancelled; the others are still queued.
        let finished = handles.iter().filter(|handle| handle.is_finished()).count();
        assert_eq!((finished + queue.len(), queue.running()), (tasks, 0));
        assert!(finished <= 1);
        gates.iter().for_each(|gate| gate.open());
        assert!(worker(&queue).waits());
        assert!(handles.iter().all(TaskHandle::is_finished));
        assert!(gates.iter().all(|gate| gate.drops() == 1));
        if tasks > 0 {
            idle.output();
        }
    }
}

#[test]
fn the_waker_of_a_worker_that_panics_when_dropped_loses_no_task() {
    let queue = unbounded();
    let gate = Gate::new();
    let handle = queue.try_submit(2, gate.task(7)).unwrap();
    let after = queue.try_submit(1, async { 8 }).unwrap();
    let armed = Arc::new(AtomicBool::new(false));
    let flag = armed.clone();
    let waker = Hooks::new().on_drop(move || {
        if flag.load(Ordering::SeqCst) {
            resume_unwind(Box::new("dropped"));
        }
    });
    let waker = waker.waker();
    let mut idle = Driven::new(queue.idle());
    let mut run = Box::pin(queue.clone().run());
    assert!(idle.waits() && poll_with(&mut run, &waker).is_pending());
    gate.open();
    armed.store(true, Ordering::SeqCst);
    let polled = catch_unwind(AssertUnwindSafe(|| poll_with(&mut run, &waker)));
    armed.store(false, Ordering::SeqCst);
    assert!(matches!(polled, Ok(Poll::Pending)), "the worker was dropped");
    assert_eq!((outcome(handle).unwrap(), outcome(after).unwrap(), state(&queue)), (7, 8, (0, 0)));
    idle.output();
}

#[test]
fn a_priority_that_panics_when_dropped_spares_the_worker() {
    let queue = TaskQueue::<Urgency>::unbounded();
    let armed = Arc::new(AtomicBool::new(true));
    let flag = armed.clone();
    let urgency = Urgency::on_drop(3, move || {
        flag.store(false, Ordering::SeqCst);
        resume_unwind(Box::new("priority"));
    });
    let handle = queue.try_submit(urgency, async { 7 }).unwrap();
    let after = queue.try_submit(Urgency::of(1), async { 8 }).unwrap();
    let mut idle = Driven::new(queue.idle());
    let mut worker = worker(&queue);
    assert!(idle.waits() && worker.waits());
    assert!(!armed.load(Ordering::SeqCst), "the queue kept the priority of a finished task");
    assert!(handle.is_finished());
    match outcome(handle) {
        Ok(result) => assert_eq!(result, 7),
        other => assert_eq!(text_of(other), "priority"),
    }
    assert_eq!((outcome(after).unwrap(), state(&queue)), (8, (0, 0)));
    idle.output();
}

#[test]
fn a_priority_that_panics_in_a_cancel_loses_nothing() {
    let queue = TaskQueue::<Urgency>::unbounded();
    let gate = Gate::new();
    let urgency = Urgency::on_drop(3, || resume_unwind(Box::new("priority")));
    let mut handle = Driven::new(queue.try_submit(urgency, gate.task(())).unwrap());
    let after = queue.try_submit(Urgency::of(1), async { 8 }).unwrap();
    assert!(handle.waits());
    let _ = catch_unwind(AssertUnwindSafe(|| handle.get().cancel()));
    assert_eq!((gate.drops(), state(&queue), handle.get().is_finished()), (1, (1, 0), true));
    assert!(handle.output().is_err());
    assert!(worker(&queue).waits());
    assert_eq!(outcome(after).unwrap(), 8);
}

#[test]
fn a_priority_that_panics_when_replaced_loses_nothing() {
    let panicking = |level| Urgency::on_drop(level, || panic!("priority"));
    let queue = TaskQueue::<Urgency>::bounded(2);
    let log = Arc::new(Log::default());
    let task = |number: usize| {
        let log = log.clone();
        async move { log.push(number) }
    };
    let handle = queue.try_submit(panicking(0), task(0)).unwrap();
    let other = queue.try_submit(Urgency::of(1), task(1)).unwrap();
    assert_eq!(panic_of(|| handle.set_priority(Urgency::of(2))), "priority");
    assert_eq!(panic_of(|| queue.try_submit(panicking(1), task(2)).is_ok()), "priority");
    assert_eq!(state(&queue), (2, 0));
    assert!(worker(&queue).waits());
    assert_numbers(&log.take(), [0, 1]);
    assert_eq!(panic_of(|| other.set_priority(panicking(1))), "priority");
    queue.close();
    assert_eq!(panic_of(|| queue.try_submit(panicking(1), task(3)).is_ok()), "priority");
    assert_eq!(state(&queue), (0, 0));
}

#[test]
fn a_comparison_that_panics_changes_nothing() {
    let queue = TaskQueue::<Urgency>::unbounded();
    let log = Arc::new(Log::default());
    let task = |number: usize| {
        let log = log.clone();
        async move { log.push(number) }
    };
    let first = queue.try_submit(Urgency::of(1), task(0)).unwrap();
    drop(queue.try_submit(Urgency::of(2), task(1)).unwrap());
    let gate = Gate::new();
    let refused = || Urgency::on_compare(3, || panic!("compared"));
    assert_eq!(panic_of(|| queue.try_submit(refused(), gate.task(())).is_ok()), "compared");
    assert_eq!((state(&queue), gate.drops()), ((2, 0), 1));
    assert_eq!(panic_of(|| first.set_priority(refused())), "compared");
    let gate = Gate::new();
    assert_eq!(panic_of(|| poll(&mut Box::pin(queue.submit(refused(), gate.task(())))).is_ready()), "compared");
    assert_eq!((state(&queue), gate.drops()), ((2, 0), 1));
    let mut idle = Driven::new(queue.idle());
    assert!(idle.waits() && worker(&queue).waits());
    assert_eq!(log.take(), [1, 0]);
    idle.output();
}

#[test]
fn a_comparison_that_panics_in_an_admission_loses_nothing() {
    let queue = TaskQueue::<Urgency>::bounded(1);
    let log = Arc::new(Log::default());
    let armed = Arc::new(AtomicBool::new(false));
    let urgency = |level| {
        let armed = armed.clone();
        Urgency::on_compare(level, move || {
            if armed.load(Ordering::SeqCst) {
                resume_unwind(Box::new("compared"));
            }
        })
    };
    let task = |number: usize| {
        let log = log.clone();
        async move { log.push(number) }
    };
    drop(queue.try_submit(urgency(5), task(5)).unwrap());
    let mut submits = [1, 2].map(|level| Box::pin(queue.submit(urgency(level), task(level as usize))));
    assert!(submits.iter_mut().all(|submit| poll(submit).is_pending()));
    let mut idle = Driven::new(queue.idle());
    let mut run = Box::pin(queue.clone().run());
    assert!(idle.waits());
    armed.store(true, Ordering::SeqCst);
    let _ = catch_unwind(AssertUnwindSafe(|| poll(&mut run)));
    armed.store(false, Ordering::SeqCst);
    drop(run);
    assert!(worker(&queue).waits());
    assert_eq!((log.take(), state(&queue)), (vec![5, 2, 1], (0, 0)));
    idle.output();
}

#[test]
fn tasks_that_panic_as_the_queue_drops_spare_the_others() {
    does_not_abort!(|| {
        let queue = unbounded();
        let gates = [Gate::new(), Gate::new()];
        let handles = [
            queue.try_submit(4, gates[0].task(())).unwrap(),
            queue.try_submit(3, panics_when_dropped("one")).unwrap(),
            queue.try_submit(2, panics_when_dropped("two")).unwrap(),
            queue.try_submit(1, gates[1].task(())).unwrap(),
        ];
        let mut idle = Driven::new(queue.idle());
        assert!(idle.waits());
        drop(queue);
        assert_eq!(gates.each_ref().map(|gate| gate.drops()), [1, 1]);
        let [first, one, two, last] = handles;
        assert_cancelled(outcome(first));
        assert_eq!((text_of(outcome(one)), text_of(outcome(two))), ("one", "two"));
        assert_cancelled(outcome(last));
        idle.output();
    });
}

#[test]
fn handle_wakers_that_panic_as_the_queue_drops_spare_the_others() {
    does_not_abort!(|| {
        let queue = unbounded();
        let waker = Hooks::new().on_wake(|| resume_unwind(Box::new("waker"))).waker();
        let mut handles = [(); 4].map(|()| queue.try_submit(1, pending::<()>()).unwrap());
        let mut last = Driven::new(queue.try_submit(0, pending::<()>()).unwrap());
        assert!(handles.iter_mut().all(|handle| poll_with(handle, &waker).is_pending()) && last.waits());
        let mut idle = Driven::new(queue.idle());
        assert!(idle.waits());
        let _ = catch_unwind(AssertUnwindSafe(|| drop(queue)));
        handles.into_iter().for_each(|handle| assert_cancelled(outcome(handle)));
        assert_cancelled(last.output());
        idle.output();
    });
}

#[test]
fn everything_may_panic_while_the_thread_unwinds() {
    does_not_abort!(|| {
        let queue = unbounded();
        // The first task runs, the second one is cancelled, the third one is dropped with the queue.
        let handles =
            Arc::new([3, 2, 1].map(|priority| queue.try_submit(priority, panics_when_dropped("dropped")).unwrap()));
        let mut run = worker(&queue);
        assert!(run.waits());
        let cancelled = handles.clone();
        let message = panic_of(move || {
            let _at_the_end = Token::on_drop(move || {
                cancelled[1].cancel();
                drop(run);
                drop(queue);
            });
            panic!("the first");
        });
        assert_eq!(message, "the first");
        let handles = Arc::into_inner(handles).unwrap();
        handles.into_iter().for_each(|handle| assert_eq!(text_of(outcome(handle)), "dropped"));
    });
}
