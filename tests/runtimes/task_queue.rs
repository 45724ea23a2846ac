//! One task queue, with workers and submitters on every runtime.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use stanchion::TaskQueue;

use crate::common::{watched, yield_now};
use crate::{ALL, on_every_runtime};

#[test]
fn every_runtime_shares_one_task_queue() {
    const ROUNDS: usize = 100;
    for queue in [TaskQueue::unbounded(), TaskQueue::bounded(2)] {
        let queue = Arc::new(queue);
        let progress = Arc::new(AtomicUsize::new(0));
        let left = Arc::new(AtomicUsize::new(ALL / 2));
        watched(&progress, &queue, || {
            on_every_runtime(|number, _| {
                let (queue, progress, left) = (queue.clone(), progress.clone(), left.clone());
                async move {
                    if number % 2 == 0 {
                        return TaskQueue::clone(&queue).run().await;
                    }
                    for round in 0..ROUNDS {
                        let task = async move {
                            yield_now().await;
                            round * number
                        };
                        let handle = queue.submit(round % 3, task).await.unwrap();
                        assert_eq!(handle.await.unwrap(), round * number);
                        progress.fetch_add(1, Ordering::Relaxed);
                    }
                    if left.fetch_sub(1, Ordering::SeqCst) == 1 {
                        queue.close();
                    }
                }
            });
        });
        assert_eq!((queue.len(), queue.running(), progress.load(Ordering::Relaxed)), (0, 0, ALL / 2 * ROUNDS));
    }
}
