//! Control of a task for others than the one that awaits it, and tasks without a handle.

use super::*;

#[test]
fn a_control_cancels_and_moves_a_task_as_its_handle_does() {
    let queue = unbounded();
    let log = Arc::new(Log::default());
    let task = |number: usize| {
        let log = log.clone();
        async move { log.push(number) }
    };
    let first = queue.try_submit(3, task(1)).unwrap();
    let second = queue.try_submit(2, task(2)).unwrap();
    let (moves, cancels) = (first.control(), second.control().clone());
    queue.try_submit(2, task(3)).unwrap().detach();
    assert!(moves.set_priority(1) && !moves.is_finished());
    cancels.cancel();
    assert!(cancels.is_finished() && !cancels.set_priority(9));
    assert!(worker(&queue).waits());
    assert_numbers(&log.take(), [3, 1]);
    assert!(moves.is_finished() && outcome(first).is_ok());
    assert_cancelled(outcome(second));
}

#[test]
fn a_control_cancels_a_running_task_through_its_worker() {
    let queue = unbounded();
    let gate = Gate::new();
    let mut handle = Driven::new(queue.try_submit(1, gate.task(())).unwrap());
    let control = handle.get().control();
    let mut worker = waiting_worker(&queue);
    assert!(handle.waits());
    control.cancel();
    assert!(!control.is_finished() && worker.is_woken());
    assert!(worker.waits());
    assert_eq!((control.is_finished(), gate.polls(), gate.drops()), (true, 1, 1));
    assert_cancelled(handle.output());
}

#[test]
fn a_control_follows_a_detached_task_to_its_end() {
    let queue = unbounded();
    let gate = Gate::new();
    let drops = Arc::new(AtomicUsize::new(0));
    let handle = queue.try_submit(1, gate.task(Token::new(&drops))).unwrap();
    let control = handle.control();
    handle.detach();
    assert!(!control.is_finished() && control.set_priority(2));
    let mut worker = waiting_worker(&queue);
    assert!(!control.is_finished() && !control.set_priority(3));
    gate.open();
    assert!(worker.waits());
    assert!(control.is_finished());
    assert_eq!(drops.load(Ordering::SeqCst), 1, "a result without a handle is dropped");
    control.cancel();
    assert_eq!((gate.polls(), gate.drops()), (2, 1));
}

#[test]
fn a_detached_task_is_cancelled_by_its_control() {
    for begun in [false, true] {
        let queue = unbounded();
        let gate = Gate::new();
        let handle = queue.try_submit(1, gate.task(())).unwrap();
        let control = handle.control();
        handle.detach();
        let mut worker = worker(&queue);
        if begun {
            assert!(worker.waits());
        }
        control.cancel();
        assert!(worker.waits() && control.is_finished());
        assert_eq!((gate.polls(), gate.drops(), state(&queue)), (usize::from(begun), 1, (0, 0)));
    }
}

#[test]
fn a_control_knows_that_a_collected_task_has_finished() {
    let queue = unbounded();
    let handle = queue.try_submit(1, async { 7 }).unwrap();
    let control = handle.control();
    assert!(worker(&queue).waits() && control.is_finished());
    assert_eq!(outcome(handle).unwrap(), 7);
    assert!(control.is_finished() && !control.set_priority(2));
    control.cancel();
}

#[test]
fn a_control_keeps_neither_the_queue_nor_the_result() {
    let queue = unbounded();
    let drops = Arc::new(AtomicUsize::new(0));
    let (token, result) = (Token::new(&drops), Token::new(&drops));
    let queued = queue.try_submit(1, async move { drop(token) }).unwrap();
    let finished = queue.try_submit(2, async move { result }).unwrap();
    assert!(blocking::wait(queue.run_one()));
    let controls = [queued.control(), finished.control()];
    drop((queue, queued, finished));
    assert_eq!(drops.load(Ordering::SeqCst), 2);
    for control in controls {
        assert!(control.is_finished() && !control.set_priority(2));
        control.cancel();
    }
}

#[test]
fn controls_of_every_result_have_one_type() {
    let queue = unbounded();
    let number = queue.try_submit(1, async { 7 }).unwrap();
    let text = queue.try_submit(1, async { "seven" }).unwrap();
    let controls: Vec<TaskControl<u32>> = vec![number.control(), text.control()];
    controls.iter().for_each(TaskControl::cancel);
    assert_cancelled(outcome(number));
    assert_cancelled(outcome(text));
}
