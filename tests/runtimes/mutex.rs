//! A mutex under the budget of a tokio task.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use stanchion::Mutex;

use crate::common::poll;

/// Uses up the budget of the tokio task that calls this, without yielding.
async fn exhaust_the_budget() {
    while tokio::task::coop::has_budget_remaining() {
        tokio::task::consume_budget().await;
    }
}

/// The pages advise `consume_budget`, since `cooperative` does not poll the future that it wraps without budget.
#[test]
fn a_lock_is_enqueued_without_budget_unless_cooperative() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let task = async {
        let mutex = Mutex::new(());
        let guard = mutex.lock().await;
        exhaust_the_budget().await;
        let mut cooperative = Box::pin(tokio::task::coop::cooperative(mutex.lock()));
        assert!(poll(&mut cooperative).is_pending());
        assert_eq!(mutex.waiters(), 0, "it was not polled");
        let mut advised = Box::pin(async {
            drop(mutex.lock().await);
            tokio::task::consume_budget().await;
        });
        assert!(poll(&mut advised).is_pending());
        assert_eq!(mutex.waiters(), 1);
        drop(guard);
        advised.await;
        drop(cooperative.await);
    };
    runtime.block_on(runtime.spawn(task)).unwrap();
}

#[test]
fn a_task_that_consumes_its_budget_after_each_lock_yields() {
    async fn rounds_until(flag: &AtomicUsize, mutex: &Mutex<()>, consume: bool) -> usize {
        let mut rounds = 0;
        while flag.load(Ordering::Relaxed) == 0 && rounds < 1_000 {
            drop(mutex.lock().await);
            if consume {
                tokio::task::consume_budget().await;
            }
            rounds += 1;
        }
        rounds
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for consume in [false, true] {
        let flag = Arc::new(AtomicUsize::new(0));
        let raised = flag.clone();
        let task = async move {
            let other = tokio::spawn(async move { raised.store(1, Ordering::Relaxed) });
            let rounds = rounds_until(&flag, &Mutex::new(()), consume).await;
            other.await.unwrap();
            rounds
        };
        let rounds = runtime.block_on(runtime.spawn(task)).unwrap();
        assert_eq!(rounds < 1_000, consume, "{rounds} rounds before the other task ran");
    }
}
