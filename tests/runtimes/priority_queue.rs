//! One priority queue, used from every runtime.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use stanchion::PriorityQueue;

use crate::common::watched;
use crate::{ALL, on_every_runtime};

#[test]
fn every_runtime_shares_one_priority_queue() {
    const ROUNDS: usize = 200;
    for queue in [PriorityQueue::unbounded(), PriorityQueue::bounded(3)] {
        let queue = Arc::new(queue);
        let sum = Arc::new(AtomicUsize::new(0));
        let progress = Arc::new(AtomicUsize::new(0));
        watched(&progress, &queue, || {
            on_every_runtime(|number, _| {
                let (queue, sum, progress) = (queue.clone(), sum.clone(), progress.clone());
                async move {
                    for round in 0..ROUNDS {
                        // On each runtime as many push as pop.
                        if number % 2 == 0 {
                            queue.push(round % 3, number * ROUNDS + round).await.unwrap();
                        } else {
                            let (_, item) = queue.pop().await.unwrap();
                            sum.fetch_add(item, Ordering::SeqCst);
                        }
                        progress.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        });
        let pushed = (0..ALL).step_by(2).flat_map(|number| number * ROUNDS..(number + 1) * ROUNDS);
        assert_eq!(sum.load(Ordering::SeqCst), pushed.sum());
        assert_eq!((queue.len(), queue.waiting_pops(), queue.waiting_pushes()), (0, 0, 0));
    }
}
