//! What the types implement and show.

use super::*;

#[test]
fn everything_can_be_shown_whatever_it_holds() {
    struct Plain;
    let queue = TaskQueue::<Urgency>::unbounded();
    let handle = queue.try_submit(Urgency::of(1), async { Plain }).unwrap();
    let (run, idle) = (queue.clone().run(), queue.idle());
    assert!(format!("{queue:?}").contains("TaskQueue"));
    assert!(format!("{handle:?}").contains("TaskHandle"));
    assert!(format!("{run:?}").contains("Run") && format!("{idle:?}").contains("Idle"));
}

#[test]
fn a_task_may_show_everything_while_it_runs_and_while_it_is_dropped() {
    let queue = unbounded();
    let own: Arc<OnceLock<Handle<()>>> = Arc::default();
    let shown = Arc::new(Counter::default());
    let show = || {
        let (queue, own, shown) = (queue.clone(), own.clone(), shown.clone());
        move || {
            assert!(format!("{queue:?} {:?}", own.get()).contains("TaskHandle"));
            std::task::Wake::wake(shown.clone());
        }
    };
    let (while_polled, while_dropped) = (show(), show());
    let task = script(
        move |_| {
            while_polled();
            Poll::Ready(())
        },
        while_dropped,
    );
    own.set(queue.try_submit(1, task).unwrap()).unwrap();
    assert!(worker(&queue).waits());
    assert_eq!(shown.count(), 2);
}

#[test]
fn errors_say_what_happened() {
    fn text(error: &(dyn std::error::Error + 'static)) -> String {
        error.to_string()
    }
    let texts = [text(&TrySubmitError::Full), text(&TrySubmitError::Closed), text(&TaskError::Cancelled)];
    for (text, word) in texts.iter().zip(["full", "closed", "cancel"]) {
        assert!(text.contains(word), "{text}");
    }
    assert!(format!("{:?}", TaskError::Cancelled).contains("Cancelled"));
    assert!(format!("{:?} {:?}", TrySubmitError::Full, TrySubmitError::Closed).contains("Full Closed"));
}

#[test]
fn queues_handles_workers_and_idles_may_be_sent_and_shared() {
    fn sent<T: Send>(_: &T) {}
    fn shared<T: Send + Sync>(_: &T) {}
    fn spawned<T: Send + 'static>(_: &T) {}
    fn moved<T: Unpin>(_: &T) {}
    // A priority and a result that may be sent and not shared suffice.
    let queue = TaskQueue::<Urgency>::bounded(1);
    shared(&queue);
    spawned(&queue);
    let handle = queue.try_submit(Urgency::of(1), async { Cell::new(7) }).unwrap();
    spawned(&handle);
    moved(&handle);
    let plain = Queue::unbounded().try_submit(1, async { 7 }).unwrap();
    shared(&plain);
    let submit = queue.submit(Urgency::of(1), async { Cell::new(7) });
    sent(&submit);
    let (run, idle) = (queue.clone().run(), queue.idle());
    spawned(&run);
    moved(&run);
    spawned(&idle);
    moved(&idle);
    shared(&idle);
    fn named(_: Run, _: Idle) {}
    named(run, idle);
}

#[test]
fn a_task_need_not_be_shared_nor_moved() {
    let queue = unbounded();
    let handle = queue.try_submit(1, async {
        let cell = Cell::new(1);
        // It refers to a part of itself while it waits.
        let mut yields = pin!(yield_now());
        yields.as_mut().await;
        cell.set(cell.get() + 1);
        cell
    });
    assert!(worker(&queue).waits());
    assert_eq!(outcome(handle.unwrap()).unwrap().get(), 2);
}
