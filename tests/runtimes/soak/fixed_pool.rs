use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use stanchion::{Fixed, Object, Pool, blocking};

use super::{ALL, OPERATIONS, Part, add_one, after_a_change_of_waker, read};
use crate::common::{within, yield_now};

/// Adds one to a number of a pool in a random way, and returns true if it did.
async fn operate(pool: &Arc<Pool<Fixed<usize>>>, random: &mut StdRng, may_block: bool) -> bool {
    let patience = random.random_bool(0.5).then(|| random.random_range(0..4));
    match random.random_range(0..7) {
        0 => {
            let Some(number) = within(pool.get(), patience).await else { return false };
            let mut number = number.unwrap();
            let before = *number;
            yield_now().await;
            *number = before + 1;
        }
        1 => {
            let Some(number) = within(pool.clone().get_owned(), patience).await else { return false };
            *number.unwrap() += 1;
        }
        2 => *after_a_change_of_waker(pool.get()).await.unwrap() += 1,
        3 => {
            let Some(mut number) = pool.try_get() else { return false };
            *number += 1;
        }
        4 => {
            let Some(number) = within(pool.get(), patience).await else { return false };
            let mut number = Object::detach(number.unwrap());
            yield_now().await;
            number += 1;
            pool.add(number).expect("a detached object leaves its slot free");
        }
        5 if may_block => {
            let patience = Duration::from_micros(random.random_range(0..100));
            let Ok(number) = blocking::wait_timeout(pool.get(), patience) else { return false };
            *number.unwrap() += 1;
        }
        _ => {
            let either = within(futures::future::select(pool.get(), pool.get()), patience).await;
            let Some(either) = either else { return false };
            *either.factor_first().0.unwrap() += 1;
        }
    }
    true
}

#[test]
fn every_increment_is_counted() {
    for size in [1, 5, 30] {
        let pool = Arc::new(Pool::from_objects(vec![0; size]));
        let counted = Arc::new(AtomicUsize::new(0));
        let part = Part::one_of(3, OPERATIONS);
        part.run(&pool, |number, may_block| {
            let (pool, counted, operations) = (pool.clone(), counted.clone(), part.share_of(ALL));
            async move {
                let mut random = StdRng::seed_from_u64(number as u64);
                for _ in operations {
                    if operate(&pool, &mut random, may_block).await {
                        add_one(&counted);
                    }
                }
            }
        });
        let status = pool.status();
        assert_eq!((status.idle, status.size, status.waiting), (size, size, 0), "{status:?}");
        assert_eq!(Arc::strong_count(&pool), 1, "another handle is left");
        let numbers = pool.retain(|_, _| false);
        assert_eq!((numbers.len(), numbers.iter().sum::<usize>()), (size, read(&counted)));
        assert!(read(&counted) > part.operations() / 4, "most operations add one");
    }
}
