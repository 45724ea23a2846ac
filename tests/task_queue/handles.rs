//! The output of a handle.

use super::*;

#[test]
fn a_task_is_finished_when_its_handle_has_its_outcome() {
    let queue = unbounded();
    let gate = Gate::new();
    let finishes = queue.try_submit(4, gate.task(7)).unwrap();
    let panics = queue.try_submit(3, async { panic!("oh") }).unwrap();
    let cancelled = queue.try_submit(2, async {}).unwrap();
    let flags = || (finishes.is_finished(), panics.is_finished(), cancelled.is_finished());
    assert_eq!(flags(), (false, false, false));
    let mut worker = worker(&queue);
    assert!(worker.waits());
    assert_eq!(flags(), (false, false, false));
    cancelled.cancel();
    assert_eq!(flags(), (false, false, true));
    gate.open();
    assert_eq!(flags(), (false, false, true));
    assert!(worker.waits());
    assert_eq!(flags(), (true, true, true));
    assert_eq!(outcome(finishes).unwrap(), 7);
    assert_eq!(text_of::<()>(outcome(panics)), "oh");
    assert_cancelled(outcome(cancelled));
}

#[test]
fn a_handle_stays_finished_when_it_has_given_its_result() {
    let queue = unbounded();
    let mut handle = queue.try_submit(1, async { 7 }).unwrap();
    assert!(worker(&queue).waits());
    assert_eq!(ready(&mut handle).unwrap(), 7);
    assert!(handle.is_finished() && !handle.set_priority(2));
    handle.cancel();
    assert_eq!(state(&queue), (0, 0));
}

#[test]
fn polling_a_handle_after_it_was_ready_panics() {
    let queue = unbounded();
    let mut finished = queue.try_submit(1, async {}).unwrap();
    let mut cancelled = queue.try_submit(1, async {}).unwrap();
    cancelled.cancel();
    assert!(worker(&queue).waits());
    assert!(ready(&mut finished).is_ok() && ready(&mut cancelled).is_err());
    for handle in [&mut finished, &mut cancelled] {
        assert!(!panic_of(|| poll(handle)).is_empty());
        assert!(!panic_of(|| poll(handle)).is_empty());
    }
}

#[test]
fn a_handle_is_woken_once_through_its_latest_waker() {
    let queue = unbounded();
    let log = Arc::new(Log::default());
    let gate = Gate::new();
    let mut handles = [0, 1].map(|number| queue.try_submit(2 - number, gate.task(number)).unwrap());
    let mut worker = worker(&queue);
    for waker in [10, 20, 30] {
        for (number, handle) in handles.iter_mut().enumerate() {
            assert!(poll_with(handle, &log.waker(waker + number)).is_pending());
        }
        assert!(worker.waits());
    }
    assert!(log.take().is_empty());
    gate.open();
    assert!(worker.waits());
    assert_eq!(log.take(), [30, 31]);
    drop(handles);
    assert!(log.take().is_empty());
}

#[test]
fn polling_a_handle_again_with_the_same_waker_does_not_clone_it() {
    let queue = unbounded();
    let clones = Arc::new(Counter::default());
    let counter = clones.clone();
    let waker = Hooks::new().on_clone(move || std::task::Wake::wake(counter.clone())).waker();
    let mut handle = queue.try_submit(1, async {}).unwrap();
    assert!((0..3).all(|_| poll_with(&mut handle, &waker).is_pending()));
    assert_eq!(clones.count(), 1);
}

#[test]
fn dropping_a_handle_detaches_its_task() {
    let queue = unbounded();
    let (running, queued) = (Gate::new(), Gate::new());
    let running_handle = queue.try_submit(2, running.task(())).unwrap();
    let mut queued_handle = queue.try_submit(1, queued.task(())).unwrap();
    let waker = Arc::new(Counter::default());
    assert!(poll_with(&mut queued_handle, &Waker::from(waker.clone())).is_pending());
    let mut worker = worker(&queue);
    assert!(worker.waits());
    drop((running_handle, queued_handle));
    assert_eq!(Arc::strong_count(&waker), 1, "a dropped handle drops its waker");
    assert_eq!((state(&queue), running.drops(), queued.drops()), ((1, 1), 0, 0));
    running.open();
    assert!(worker.waits());
    assert_eq!((state(&queue), running.drops(), queued.polls()), ((0, 1), 1, 1));
    queued.open();
    assert!(worker.waits());
    assert_eq!((state(&queue), queued.drops(), waker.count()), ((0, 0), 1, 0));
}

#[test]
fn a_result_outlives_its_queue() {
    let queue = unbounded();
    let handle = queue.try_submit(1, async { String::from("seven") }).unwrap();
    assert!(worker(&queue).waits());
    drop(queue);
    handle.cancel();
    assert!(handle.is_finished());
    assert_eq!(outcome(handle).unwrap(), "seven");
}

#[test]
fn the_future_is_dropped_before_its_handle_is_settled() {
    let queue = unbounded();
    let seen = Arc::new(StdMutex::new(Vec::new()));
    let handle_of = |priority: u32, gate: &Arc<Gate>| {
        let mut handle = queue.try_submit(priority, gate.task(())).unwrap();
        let (gate, seen) = (gate.clone(), seen.clone());
        let waker = Hooks::new().on_wake(move || seen.lock().unwrap().push((priority, gate.drops()))).waker();
        assert!(poll_with(&mut handle, &waker).is_pending());
        handle
    };
    let (finishes, cancelled, queued) = (Gate::opened(), Gate::new(), Gate::new());
    let handles = [handle_of(3, &finishes), handle_of(2, &cancelled), handle_of(1, &queued)];
    let mut worker = worker(&queue);
    assert!(worker.waits());
    handles[1].cancel();
    handles[2].cancel();
    assert!(worker.waits());
    let mut seen = std::mem::take(&mut *seen.lock().unwrap());
    seen.sort();
    assert_eq!(seen, [(1, 1), (2, 1), (3, 1)]);
}

/// The moment at which the handle of a task is dropped.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Leave {
    BeforeItRuns,
    WhileItRuns,
    WhenItIsOver,
    WithTheResult,
}

#[test]
fn a_future_and_its_result_are_dropped_once_in_every_order() {
    for leave in [Leave::BeforeItRuns, Leave::WhileItRuns, Leave::WhenItIsOver, Leave::WithTheResult] {
        for finishes in [true, false] {
            for queue_first in [true, false] {
                let queue = unbounded();
                let (gate, drops) = (Gate::new(), Arc::new(AtomicUsize::new(0)));
                let mut handle = Some(queue.try_submit(1, gate.task(Token::new(&drops))).unwrap());
                let mut worker = worker(&queue);
                let mut queue = Some(queue);
                if queue_first {
                    queue = None;
                }
                handle = handle.filter(|_| leave != Leave::BeforeItRuns);
                assert!(worker.waits());
                handle = handle.filter(|_| leave != Leave::WhileItRuns);
                assert_eq!((gate.drops(), drops.load(Ordering::SeqCst)), (0, 0), "{leave:?}");
                if finishes {
                    gate.open();
                    assert!(worker.waits());
                    let kept = usize::from(handle.is_some());
                    assert_eq!((gate.drops(), drops.load(Ordering::SeqCst)), (1, 1 - kept), "{leave:?}");
                }
                drop((worker, queue));
                assert_eq!(gate.drops(), 1, "{leave:?}");
                if let Some(handle) = handle {
                    assert_eq!(drops.load(Ordering::SeqCst), usize::from(!finishes), "{leave:?}");
                    if leave == Leave::WithTheResult {
                        assert_eq!(outcome(handle).is_ok(), finishes);
                    }
                }
                assert_eq!((gate.drops(), drops.load(Ordering::SeqCst)), (1, 1), "{leave:?}");
            }
        }
    }
}

#[test]
fn a_handle_dropped_as_its_task_ends_drops_the_result_once() {
    const ROUNDS: usize = 1_000;
    let queue = unbounded();
    let workers = [(); 2].map(|()| queue.clone().run()).map(|run| thread::spawn(|| blocking::wait(run)));
    let (made, dropped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    for round in 0..ROUNDS {
        let (made, dropped) = (made.clone(), dropped.clone());
        let (begun, begins) = mpsc::channel();
        let handle = queue.try_submit(1, async move {
            let _ = begun.send(());
            made.fetch_add(1, Ordering::SeqCst);
            Token::new(&dropped)
        });
        if round % 3 > 0 {
            begins.recv().unwrap();
        }
        if round % 3 > 1 {
            thread::yield_now();
        }
        drop(handle.unwrap());
    }
    blocking::wait(queue.idle());
    queue.close();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    assert_eq!((made.load(Ordering::SeqCst), dropped.load(Ordering::SeqCst)), (ROUNDS, ROUNDS));
}
