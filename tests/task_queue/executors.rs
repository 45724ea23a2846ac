//! The same tasks on every executor.

use super::*;

/// Runs the body, and these workers until they end.
type Executor = fn(Vec<Run>, BoxFuture<'static, ()>);

const EXECUTORS: [(&str, Executor); 4] = [
    ("tokio with two workers", |workers, body| {
        on_tokio(tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap(), workers, body);
    }),
    ("tokio on the current thread", |workers, body| {
        on_tokio(tokio::runtime::Builder::new_current_thread().build().unwrap(), workers, body);
    }),
    ("async-executor", |workers, body| {
        let executor = async_executor::Executor::new();
        let workers: Vec<_> = workers.into_iter().map(|run| executor.spawn(run)).collect();
        futures::executor::block_on(executor.run(async {
            executor.spawn(body).await;
            for worker in workers {
                worker.await;
            }
        }));
    }),
    ("threads", |workers, body| {
        let workers: Vec<_> = workers.into_iter().map(|run| thread::spawn(|| blocking::wait(run))).collect();
        blocking::wait(body);
        workers.into_iter().for_each(|worker| worker.join().unwrap());
    }),
];

fn on_tokio(runtime: tokio::runtime::Runtime, workers: Vec<Run>, body: BoxFuture<'static, ()>) {
    runtime.block_on(async {
        let workers: Vec<_> = workers.into_iter().map(tokio::spawn).collect();
        tokio::spawn(body).await.unwrap();
        for worker in workers {
            worker.await.unwrap();
        }
    });
}

/// A task that reports its first poll, and ends when it is told to.
async fn busy(begun: oneshot::Sender<()>, end: oneshot::Receiver<()>) {
    begun.send(()).unwrap();
    end.await.unwrap();
}

/// Occupies a worker; the returned sender frees it.
async fn occupy(queue: &Queue) -> (Handle<()>, oneshot::Sender<()>) {
    let ((begun, begins), (end, ends)) = (oneshot::channel(), oneshot::channel());
    let handle = queue.submit(u32::MAX, busy(begun, ends)).await.unwrap();
    begins.await.unwrap();
    (handle, end)
}

/// Tasks of every kind, on a queue with this many workers.
async fn every_kind(queue: Queue, workers: usize) {
    // Many that finish.
    let mut handles = Vec::new();
    for number in 0..60 {
        let task = async move {
            for _ in 0..number % 3 {
                yield_now().await;
            }
            number * 2
        };
        handles.push(queue.submit(number % 5, task).await.unwrap());
    }
    for (number, handle) in handles.into_iter().enumerate() {
        assert_eq!(handle.await.unwrap() as usize, number * 2);
    }

    // One that panics, one that is cancelled while it runs.
    let panics = queue.submit(1, async { resume_unwind(Box::new("oh")) }).await.unwrap();
    assert_eq!(text_of::<()>(panics.await), "oh");
    let (running, never) = occupy(&queue).await;
    running.cancel();
    assert_cancelled(running.await);
    assert!(never.is_canceled(), "its future was dropped");

    // One that is cancelled while it is queued, and one that is detached there.
    let mut occupied = Vec::new();
    for _ in 0..workers {
        occupied.push(occupy(&queue).await);
    }
    let gate = Gate::opened();
    let queued = queue.submit(1, gate.task(())).await.unwrap();
    assert_eq!(state(&queue), (1, workers));
    queued.cancel();
    assert_eq!((state(&queue), gate.polls(), gate.drops()), ((0, workers), 0, 1));
    assert_cancelled(queued.await);
    let (done, is_done) = oneshot::channel();
    drop(queue.submit(1, async move { done.send(9).unwrap() }).await.unwrap());
    for (handle, end) in occupied {
        end.send(()).unwrap();
        handle.await.unwrap();
    }
    assert_eq!(is_done.await, Ok(9));

    // One that submits others and waits for them.
    let parent = queue.clone();
    let family = async move {
        let mut sum = 0;
        for number in 1..=10 {
            let child = parent.submit(number, async move { number }).await.unwrap();
            sum += child.await.unwrap();
        }
        sum
    };
    assert_eq!(queue.submit(9, family).await.unwrap().await.unwrap(), 55);

    // Idle, and closed.
    for number in 0..20 {
        drop(queue.submit(number, yield_now()).await.unwrap());
    }
    queue.idle().await;
    assert_eq!(state(&queue), (0, 0));
    queue.close();
    assert!(matches!(queue.submit(1, async {}).await, Err(Closed(_))));
}

#[test]
fn the_same_tasks_run_on_every_executor() {
    const WORKERS: usize = 3;
    for (name, executor) in EXECUTORS {
        for queue in [unbounded(), bounded(2), bounded(1)] {
            let workers = (0..WORKERS).map(|_| queue.clone().run()).collect();
            executor(workers, Box::pin(every_kind(queue.clone(), WORKERS)));
            assert_eq!((name, state(&queue)), (name, (0, 0)));
        }
    }
}

#[test]
fn the_order_of_running_is_the_same_on_every_executor() {
    const TASKS: usize = 100;
    for (name, executor) in EXECUTORS {
        let queue = unbounded();
        let log = Arc::new(Log::default());
        let body = {
            let (queue, log) = (queue.clone(), log.clone());
            async move {
                let (first, end) = occupy(&queue).await;
                let mut handles = Vec::new();
                for number in 0..TASKS {
                    let log = log.clone();
                    let task = async move {
                        yield_now().await;
                        log.push(number);
                    };
                    handles.push(queue.submit((number % 4) as u32, task).await.unwrap());
                }
                // The tasks of the lowest priority become the most urgent, the last one first.
                for (number, handle) in handles.iter().enumerate().filter(|(number, _)| number % 4 == 0) {
                    assert!(handle.set_priority(number as u32 + 10));
                }
                end.send(()).unwrap();
                first.await.unwrap();
                queue.idle().await;
                queue.close();
            }
        };
        executor(vec![queue.clone().run()], Box::pin(body));
        let mut wanted: Vec<_> = (0..TASKS).collect();
        wanted.sort_by_key(|number| match number % 4 {
            0 => (0, Reverse(*number)),
            level => (4 - level, Reverse(TASKS - number)),
        });
        assert_eq!((name, log.take()), (name, wanted));
    }
}

#[test]
fn an_aborted_worker_cancels_its_task_only() {
    let queue = unbounded();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let doomed = tokio::spawn(queue.clone().run());
        let (victim, _end) = occupy(&queue).await;
        let queued = queue.submit(1, async { 7 }).await.unwrap();
        doomed.abort();
        assert!(doomed.await.unwrap_err().is_cancelled());
        assert_cancelled(victim.await);
        let other = tokio::spawn(queue.clone().run());
        assert_eq!(queued.await.unwrap(), 7);
        queue.idle().await;
        queue.close();
        other.await.unwrap();
    });
}

#[test]
fn one_queue_serves_all_executors_at_once() {
    const TASKS: usize = 400;
    let queue = unbounded();
    let left = Arc::new(AtomicUsize::new(EXECUTORS.len()));
    let threads = EXECUTORS.map(|(_, executor)| {
        let (workers, queue, left) = (vec![queue.clone().run(), queue.clone().run()], queue.clone(), left.clone());
        let body = async move {
            for number in 0..TASKS {
                let task = async move {
                    yield_now().await;
                    number
                };
                let handle = queue.submit((number % 3) as u32, task).await.unwrap();
                assert_eq!(handle.await.unwrap(), number);
            }
            if left.fetch_sub(1, Ordering::SeqCst) == 1 {
                queue.close();
            }
        };
        thread::spawn(move || executor(workers, Box::pin(body)))
    });
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(state(&queue), (0, 0));
}
