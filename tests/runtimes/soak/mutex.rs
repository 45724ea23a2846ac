use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use stanchion::{Mutex, MutexGuard, OwnedMutexGuard, blocking};

use super::{ALL, OPERATIONS, Part, add_one, after_a_change_of_waker, read};
use crate::common::{Check, with_patience, yield_now};

/// Adds one to the first of the pair in a random way, and returns true if it did.
async fn operate(mutex: &Arc<Mutex<(usize, String)>>, random: &mut StdRng, may_block: bool) -> bool {
    match random.random_range(0..7) {
        0 => {
            let mut pair = mutex.lock().await;
            let before = pair.0;
            yield_now().await;
            pair.0 = before + 1;
        }
        1 => {
            let patience = random.random_range(0..4);
            let Some(mut pair) = with_patience(mutex.lock(), patience).await else { return false };
            pair.0 += 1;
        }
        2 => {
            let patience = random.random_range(0..4);
            let Some(pair) = with_patience(mutex.clone().lock_owned(), patience).await else { return false };
            let mut first = OwnedMutexGuard::map(pair, |pair| &mut pair.0);
            let before = *first;
            yield_now().await;
            *first = before + 1;
        }
        3 => {
            let mut first = MutexGuard::map(after_a_change_of_waker(mutex.lock()).await, |pair| &mut pair.0);
            *first += 1;
        }
        4 => {
            let Ok(mut pair) = mutex.try_lock() else { return false };
            pair.0 += 1;
        }
        5 if may_block => mutex.blocking_lock().0 += 1,
        6 if may_block => {
            let patience = Duration::from_micros(random.random_range(0..100));
            let Ok(mut pair) = blocking::wait_timeout(mutex.lock(), patience) else { return false };
            pair.0 += 1;
        }
        _ => {
            let (mut pair, other) = futures::future::select(mutex.lock(), mutex.lock()).await.factor_first();
            drop(other);
            pair.0 += 1;
        }
    }
    true
}

#[test]
fn every_increment_is_counted() {
    let mutex = Arc::new(Mutex::new((0, String::new())));
    let counted = Arc::new(AtomicUsize::new(0));
    let part = Part::one_of(1, OPERATIONS);
    part.run(&mutex, |number, may_block| {
        let (mutex, counted, operations) = (mutex.clone(), counted.clone(), part.share_of(ALL));
        async move {
            let mut random = StdRng::seed_from_u64(number as u64);
            for _ in operations {
                if operate(&mutex, &mut random, may_block).await {
                    add_one(&counted);
                }
            }
        }
    });
    mutex.check();
    assert_eq!((mutex.waiters(), Arc::strong_count(&mutex)), (0, 1));
    let (total, _) = Arc::into_inner(mutex).unwrap().into_inner();
    assert_eq!(total, read(&counted));
    assert!(total > part.operations() / 4, "most operations add one");
}
