use std::sync::Arc;
use std::time::Duration;

use futures::future::Either;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use stanchion::{Semaphore, blocking};

use super::{ALL, OPERATIONS, Part, after_a_change_of_waker};
use crate::common::{state, with_patience, yield_now};

/// A random operation on a semaphore of so many permits, after which it has as many.
async fn operate(semaphore: &Arc<Semaphore>, permits: usize, random: &mut StdRng, may_block: bool) {
    let need = random.random_range(0..=permits);
    match random.random_range(0..12) {
        0..=2 => {
            let permit = semaphore.acquire_many(need).await.unwrap();
            for _ in 0..random.random_range(0..3) {
                yield_now().await;
            }
            assert_eq!(permit.num_permits(), need);
        }
        3 | 4 => {
            let patience = random.random_range(0..4);
            if let Some(permit) = with_patience(semaphore.acquire_many(need), patience).await {
                let _permit = permit.unwrap();
                yield_now().await;
            }
        }
        5 => {
            let patience = random.random_range(0..4);
            if let Some(permit) = with_patience(semaphore.clone().acquire_many_owned(need), patience).await {
                let mut permit = permit.unwrap();
                let part = permit.split(need / 2).unwrap();
                drop(permit);
                yield_now().await;
                assert_eq!(part.num_permits(), need / 2);
            }
        }
        6 => {
            let mut permit = after_a_change_of_waker(semaphore.acquire_many(need)).await.unwrap();
            let part = permit.split(need / 2).unwrap();
            yield_now().await;
            permit.merge(part);
        }
        7 => {
            if let Ok(permit) = semaphore.try_acquire_many(need) {
                yield_now().await;
                permit.forget();
                semaphore.add_permits(need);
            }
        }
        8 => {
            let taken = semaphore.forget_permits(need);
            yield_now().await;
            semaphore.add_permits(taken);
        }
        9 => {
            semaphore.reduce_permits(need);
            yield_now().await;
            semaphore.add_permits(need);
        }
        10 => {
            semaphore.add_permits(need);
            yield_now().await;
            semaphore.reduce_permits(need);
        }
        _ if may_block => {
            let patience = Duration::from_micros(random.random_range(0..100));
            drop(blocking::wait_timeout(semaphore.acquire_many(need), patience));
        }
        _ => {
            // The first of two; the other is dropped at any stage.
            let (one, two) = (semaphore.acquire_many(need), semaphore.clone().acquire_owned());
            match futures::future::select(one, two).await {
                Either::Left((permit, _)) => drop(permit.unwrap()),
                Either::Right((permit, _)) => drop(permit.unwrap()),
            }
        }
    }
}

#[test]
fn every_permit_is_accounted_for() {
    for permits in [1, 5, 40] {
        let semaphore = Arc::new(Semaphore::new(permits));
        let part = Part::one_of(3, OPERATIONS);
        part.run(&semaphore, |number, may_block| {
            let (semaphore, operations) = (semaphore.clone(), part.share_of(ALL));
            async move {
                let mut random = StdRng::seed_from_u64(number as u64);
                for _ in operations {
                    operate(&semaphore, permits, &mut random, may_block).await;
                }
            }
        });
        assert_eq!((semaphore.available_permits(), semaphore.waiters()), (permits, 0));
        assert_eq!(Arc::strong_count(&semaphore), 1, "another handle is left");
        assert_eq!(semaphore.try_acquire_many(permits).unwrap().num_permits(), permits);
        semaphore.add_permits(1);
        assert_eq!(state(&semaphore), (permits + 1, 0), "no permits are owed");
    }
}
