//! The pool.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Poll, Waker};
use std::time::Instant;

use allocation_counter::measure;
use stanchion::{Get, Manager, Metrics, Order, Pool};

use crate::common::{Counter, poll, poll_with};
use crate::{HOUR, allocations};

/// Creates and recycles at once.
struct AtOnce;

impl Manager for AtOnce {
    type Object = u64;
    type Error = Infallible;

    async fn create(&self) -> Result<u64, Infallible> {
        Ok(7)
    }
}

/// Creates at once, and has a recycling of its own.
struct Careful;

impl Manager for Careful {
    type Object = u64;
    type Error = Infallible;

    async fn create(&self) -> Result<u64, Infallible> {
        Ok(7)
    }

    async fn recycle(&self, object: &mut u64, metrics: &Metrics) -> Result<(), Infallible> {
        let before = (*object, metrics.uses);
        std::future::ready(()).await;
        assert_eq!((*object, metrics.uses), before);
        Ok(())
    }
}

/// Polls until it is ready, which does not take long.
fn soon<F: Future + Unpin>(mut future: F) -> F::Output {
    for _ in 0..3 {
        if let Poll::Ready(output) = poll(&mut future) {
            return output;
        }
    }
    panic!("not ready");
}

/// Asserts that the operations of a pool allocate nothing once it has created and recycled all its objects.
#[track_caller]
fn allocates_nothing<M: Manager<Object = u64, Error = Infallible>>(pool: Pool<M>) {
    let pool = Arc::new(pool);
    let size = pool.status().max_size;
    let all_of_them = || drop((0..size).map(|_| soon(pool.get()).unwrap()).collect::<Vec<_>>());
    (0..2).for_each(|_| all_of_them());
    assert_eq!(pool.status().idle, size);

    assert_eq!(allocations(|| *soon(pool.get()).unwrap() += 1), 0, "get and return");
    assert_eq!(allocations(|| *soon(pool.clone().get_owned()).unwrap() += 1), 0, "get_owned and return");
    let is_fit = pool.try_get().is_some();
    let try_get = || {
        assert_eq!((pool.try_get().is_some(), pool.clone().try_get_owned().is_some()), (is_fit, is_fit));
    };
    assert_eq!(allocations(try_get), 0, "try_get");

    // As long as these are in use, all other getters wait.
    let mut held: Vec<_> = (1..size).map(|_| soon(pool.get()).unwrap()).collect();
    let hand_off = || {
        let object = soon(pool.get()).unwrap();
        let mut waiting = pool.get();
        assert!(poll(&mut waiting).is_pending());
        drop(object);
        let object = soon(waiting).unwrap();
        let mut waiting = pool.clone().get_owned();
        assert!(poll(&mut waiting).is_pending());
        drop(object);
        *soon(waiting).unwrap() += 1;
    };
    assert_eq!(allocations(hand_off), 0, "wait and hand-off");
    let cancel = || {
        let object = soon(pool.get()).unwrap();
        let (mut waiting, mut granted) = (pool.get(), pool.get());
        assert!(poll(&mut granted).is_pending() && poll(&mut waiting).is_pending());
        drop(waiting);
        drop(object);
        drop(granted);
    };
    assert_eq!(allocations(cancel), 0, "waits that are cancelled");
    for count in [10, 1_000] {
        let waker = Waker::from(Arc::new(Counter::default()));
        let mut waiters: Vec<Get<'_, M>> = Vec::with_capacity(count);
        let round = || {
            let mut object = Some(soon(pool.get()).unwrap());
            waiters.extend((0..count).map(|_| pool.get()));
            assert!(waiters.iter_mut().all(|waiting| poll_with(waiting, &waker).is_pending()));
            drop(waiters.drain(count / 3..count / 2));
            for waiting in waiters.drain(..) {
                drop(object.take());
                object = Some(soon(waiting).unwrap());
            }
        };
        assert_eq!(allocations(round), 0, "{count} waiters");
    }
    held.clear();
    // All objects are handed over at the same time.
    let mut waiters: Vec<Get<'_, M>> = Vec::with_capacity(size);
    let swap = || {
        held.extend((0..size).map(|_| soon(pool.get()).unwrap()));
        waiters.extend((0..size).map(|_| pool.get()));
        assert!(waiters.iter_mut().all(|waiting| poll(waiting).is_pending()));
        held.clear();
        waiters.drain(..).for_each(|waiting| drop(soon(waiting).unwrap()));
    };
    assert_eq!(allocations(swap), 0, "all objects are handed over");
    assert_eq!((pool.status().idle, pool.status().size), (size, size), "no object was created or lost");
}

/// The number of objects in the pools.
const SIZE: usize = 3;

#[test]
fn a_fixed_pool_allocates_nothing() {
    allocates_nothing(Pool::from_objects([7; SIZE]));
}

#[test]
fn a_pool_without_a_recycle_of_its_own_allocates_nothing() {
    for order in [Order::Lifo, Order::Fifo] {
        allocates_nothing(Pool::builder(AtOnce).max_size(SIZE).order(order).build());
    }
}

/// Only objects that are recycled have memory for it.
#[test]
fn an_object_that_is_not_recycled_has_no_memory_for_that() {
    fn of_first_use_again<M: Manager<Object = u64, Error = Infallible>>(manager: M) -> u64 {
        let pool = Pool::builder(manager).max_size(1).build();
        drop(soon(pool.get()).unwrap());
        measure(|| drop(soon(pool.get()).unwrap())).count_total
    }
    assert_eq!((of_first_use_again(AtOnce), of_first_use_again(Careful)), (0, 1));
}

#[test]
fn a_pool_with_a_recycle_of_its_own_allocates_nothing() {
    for order in [Order::Lifo, Order::Fifo] {
        allocates_nothing(Pool::builder(Careful).max_size(SIZE).order(order).build());
    }
}

#[test]
fn a_pool_with_lifetimes_allocates_nothing() {
    let lasting = || Pool::builder(Careful).max_size(SIZE).order(Order::Fifo).max_lifetime(HOUR).idle_timeout(HOUR);
    allocates_nothing(lasting().build());
    allocates_nothing(lasting().recycle_after(HOUR).build());
}

#[test]
fn a_pool_that_recycles_long_idle_objects_allocates_nothing() {
    // Each read of the clock takes an hour.
    let (start, reads) = (Instant::now(), AtomicU32::new(0));
    let clock = move || start + reads.fetch_add(1, Ordering::Relaxed) * HOUR;
    allocates_nothing(Pool::builder(Careful).max_size(SIZE).recycle_after(HOUR / 2).clock(clock).build());
}
