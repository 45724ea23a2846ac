//! `Debug`, `Display`, errors, `Send` and `Sync`.

use super::*;

#[test]
fn every_type_implements_debug_whatever_it_holds() {
    struct Plain;
    let queue = TaskQueue::<Urgency>::unbounded();
    let handle = queue.try_submit(Urgency::of(1), async { Plain }).unwrap();
    let (run, idle) = (queue.clone().run(), queue.idle());
    assert!(format!("{queue:?}").contains("TaskQueue"));
    assert!(format!("{handle:?}").contains("TaskHandle"));
    assert!(format!("{run:?}").contains("Run") && format!("{idle:?}").contains("Idle"));
    let (until, one) = (queue.clone().run_until(pending::<()>()), queue.run_one());
    assert!(format!("{until:?}").contains("RunUntil") && format!("{one:?}").contains("RunOne"));
    let (control, weak) = (handle.control(), queue.downgrade());
    assert!(format!("{control:?}").contains("TaskControl") && format!("{weak:?}").contains("WeakTaskQueue"));
    let submit = queue.submit(Urgency::of(1), async { Plain });
    assert!(format!("{submit:?}").contains("Submit"));
    let refused = submit.into_inner().unwrap();
    queue.close();
    let refused = queue.try_submit(refused.0, refused.1).unwrap_err().into_inner();
    assert!(format!("{refused:?}").contains("Refused"));
}

#[test]
fn a_task_may_format_everything_while_it_runs_or_is_dropped() {
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
        format!("{error} {error:?}")
    }
    let queue = bounded(1);
    queue.try_submit(1, async {}).unwrap().detach();
    let full = text(&queue.try_submit(1, async {}).unwrap_err());
    assert!(full.contains("full") && full.contains("Full"), "{full}");
    queue.close();
    for closed in [
        text(&queue.try_submit(1, async {}).unwrap_err()),
        text(&queue.force_submit(1, async {}).unwrap_err()),
        text(&submit(&queue, 1, async {}).output().unwrap_err()),
    ] {
        assert!(closed.contains("closed") && closed.contains("Closed"), "{closed}");
    }
    let cancelled = text(&TaskError::Cancelled);
    assert!(cancelled.contains("cancelled") && cancelled.contains("Cancelled"), "{cancelled}");
}

#[test]
fn errors_convert_with_a_question_mark_in_async_code() {
    async fn boxed(queue: &Queue) -> Result<u32, Box<dyn std::error::Error + Send + Sync>> {
        let task = queue.submit(1, async { 7 }).await?;
        queue.run_one().await;
        let forced = queue.force_submit(1, async { 8 })?;
        queue.run_one().await;
        Ok(task.await? + forced.await?)
    }
    async fn anyhow(queue: &Queue) -> anyhow::Result<u32> {
        let task = queue.try_submit(1, async { 7 })?;
        task.control().cancel();
        Ok(task.await?)
    }
    let queue = unbounded();
    assert_eq!(blocking::wait(boxed(&queue)).unwrap(), 15);
    assert!(blocking::wait(anyhow(&queue)).unwrap_err().is::<TaskError>());
    queue.close();
    assert!(blocking::wait(boxed(&queue)).unwrap_err().to_string().contains("closed"));
    assert!(blocking::wait(anyhow(&queue)).unwrap_err().to_string().contains("closed"));
}

#[test]
fn queues_handles_workers_and_idles_may_be_sent_and_shared() {
    fn sent<T: Send>(_: &T) {}
    fn shared<T: Send + Sync>(_: &T) {}
    fn spawned<T: Send + 'static>(_: &T) {}
    fn moved<T: Unpin>(_: &T) {}
    // A priority and a result that are `Send` and not `Sync` suffice.
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
    moved(&submit);
    shared(&queue.downgrade());
    shared(&handle.control());
    let (run, idle) = (queue.clone().run(), queue.idle());
    spawned(&run);
    moved(&run);
    spawned(&queue.clone().run_until(async { yield_now().await }));
    moved(&queue.clone().run_until(pending::<()>()));
    let one = queue.run_one();
    spawned(&one);
    moved(&one);
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
