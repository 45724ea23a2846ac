//! Allocations: none to acquire, wait or lock in the steady state, and little memory is kept after a storm.
//!
//! The counts are per thread, so neither other tests nor the harness disturb them.

#![cfg(not(loom))]

mod common;

use std::convert::Infallible;
use std::future::{Future, pending};
use std::hash::RandomState;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use allocation_counter::{AllocationInfo, measure};
use common::{Counter, poll, poll_with, ready, yield_now};
use stanchion::{
    Acquire, Get, LruCache, Manager, Metrics, Mutex, MutexGuard, Order, OwnedMutexGuard, Pool, Pop, PriorityQueue,
    Push, Semaphore, blocking,
};

/// The waiters of a storm.
const MILLION: usize = 1_000_000;

/// The bytes that may be kept after a storm.
const SMALL: i64 = 64 * 1024;

/// Counts the allocations of a hundred runs of `action`, after a first run that may allocate.
fn allocations(mut action: impl FnMut()) -> u64 {
    action();
    measure(|| (0..100).for_each(|_| action())).count_total
}

#[test]
fn the_measure_sees_allocations() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1)))), 100);
    let mut kept = Vec::new();
    assert_eq!(measure(|| kept = std::hint::black_box(vec![0_u8; 1000])).bytes_current, 1000);
}

#[test]
fn an_idle_semaphore_allocates_nothing() {
    let info = measure(|| {
        let semaphore = Semaphore::new(3);
        drop(ready(&mut semaphore.acquire_many(2)));
        drop(semaphore.try_acquire());
        semaphore.add_permits(1);
        drop(semaphore.try_acquire_many(9));
        assert!(poll(&mut Semaphore::new(1).acquire()).is_ready());
        assert_eq!((semaphore.available_permits(), semaphore.waiters(), semaphore.is_closed()), (4, 0, false));
        assert!(Mutex::new(1).try_lock().is_ok());
    });
    assert_eq!(info.count_total, 0);
}

#[test]
fn acquiring_and_releasing_free_permits_allocates_nothing() {
    let semaphore = Arc::new(Semaphore::new(5));
    assert_eq!(allocations(|| drop(ready(&mut semaphore.acquire()).unwrap())), 0);
    assert_eq!(allocations(|| drop(ready(&mut semaphore.acquire_many(3)).unwrap())), 0);
    assert_eq!(allocations(|| drop(ready(&mut semaphore.clone().acquire_owned()).unwrap())), 0);
    assert_eq!(allocations(|| drop(semaphore.try_acquire().unwrap())), 0);
    assert_eq!(allocations(|| drop(semaphore.clone().try_acquire_many_owned(2).unwrap())), 0);
    let mutex = Mutex::new(1);
    assert_eq!(allocations(|| drop(mutex.blocking_lock())), 0);
    assert_eq!(allocations(|| drop(blocking::wait(semaphore.acquire()).unwrap())), 100, "the waker of the thread");
    let split_and_merge = || {
        let mut permit = semaphore.try_acquire_many(4).unwrap();
        let part = permit.split(2).unwrap();
        permit.merge(part);
    };
    assert_eq!(allocations(split_and_merge), 0);
    let add_and_take_away = || {
        semaphore.add_permits(3);
        assert_eq!(semaphore.forget_permits(1), 1);
        semaphore.reduce_permits(2);
    };
    assert_eq!(allocations(add_and_take_away), 0);
}

#[test]
fn locking_and_unlocking_a_free_mutex_allocates_nothing() {
    let mutex = Arc::new(Mutex::new((1, 2)));
    assert_eq!(allocations(|| drop(ready(&mut mutex.lock()))), 0);
    assert_eq!(allocations(|| drop(ready(&mut mutex.clone().lock_owned()))), 0);
    assert_eq!(allocations(|| drop(mutex.try_lock().unwrap())), 0);
    assert_eq!(allocations(|| drop(mutex.blocking_lock())), 0);
    assert_eq!(allocations(|| drop(MutexGuard::map(mutex.try_lock().unwrap(), |pair| &mut pair.0))), 0);
    let map_owned = || drop(OwnedMutexGuard::map(mutex.clone().try_lock_owned().unwrap(), |pair| &mut pair.1));
    assert_eq!(allocations(map_owned), 0);
}

#[test]
fn a_wait_allocates_nothing() {
    let semaphore = Arc::new(Semaphore::new(1));
    let wait = || {
        let permit = semaphore.try_acquire().unwrap();
        let mut waiting = semaphore.acquire();
        assert!(poll(&mut waiting).is_pending());
        drop(permit);
        drop(ready(&mut waiting).unwrap());
    };
    assert_eq!(allocations(wait), 0);
    let wait_owned = || {
        let permit = semaphore.clone().try_acquire_owned().unwrap();
        let mut waiting = semaphore.clone().acquire_owned();
        assert!(poll(&mut waiting).is_pending());
        drop(permit);
        drop(ready(&mut waiting).unwrap());
    };
    assert_eq!(allocations(wait_owned), 0);
    let mutex = Mutex::new(());
    let lock = || {
        let guard = mutex.try_lock().unwrap();
        let mut waiting = mutex.lock();
        assert!(poll(&mut waiting).is_pending());
        drop(guard);
        drop(ready(&mut waiting));
    };
    assert_eq!(allocations(lock), 0);
}

#[test]
fn a_cancelled_wait_allocates_nothing() {
    let semaphore = Semaphore::new(0);
    assert_eq!(allocations(|| assert!(poll(&mut semaphore.acquire()).is_pending())), 0);
    let granted_and_given_up = || {
        let mut waiting = semaphore.acquire();
        assert!(poll(&mut waiting).is_pending());
        semaphore.add_permits(1);
        drop(waiting);
        assert_eq!(semaphore.forget_permits(1), 1);
    };
    assert_eq!(allocations(granted_and_given_up), 0);
}

#[test]
fn a_change_of_waker_allocates_nothing() {
    let semaphore = Semaphore::new(0);
    let wakers: [Waker; 2] = [Arc::new(Counter::default()).into(), Arc::new(Counter::default()).into()];
    let mut waiting = semaphore.acquire();
    let change = || wakers.iter().for_each(|waker| assert!(poll_with(&mut waiting, waker).is_pending()));
    assert_eq!(allocations(change), 0);
}

#[test]
fn rounds_of_many_waiters_allocate_nothing() {
    for waiters in [2, 64, 200, 1_000] {
        let semaphore = Semaphore::new(0);
        let counter = Arc::new(Counter::default());
        let waker = Waker::from(counter.clone());
        let mut line: Vec<Acquire<'_>> = Vec::with_capacity(waiters);
        let round = || {
            line.extend((0..waiters).map(|_| semaphore.acquire()));
            assert!(line.iter_mut().all(|waiting| poll_with(waiting, &waker).is_pending()));
            semaphore.add_permits(waiters);
            for mut waiting in line.drain(..) {
                ready(&mut waiting).unwrap().forget();
            }
        };
        assert_eq!(allocations(round), 0);
        assert_eq!(counter.count(), 101 * waiters);
    }
}

#[test]
fn a_chain_of_hand_overs_allocates_nothing() {
    let semaphore = Semaphore::new(1);
    let mut line: Vec<Acquire<'_>> = Vec::with_capacity(64);
    let chain = || {
        let mut permit = Some(semaphore.try_acquire().unwrap());
        line.extend((0..64).map(|_| semaphore.acquire()));
        assert!(line.iter_mut().all(|waiting| poll(waiting).is_pending()));
        for mut waiting in line.drain(..) {
            drop(permit.take());
            permit = Some(ready(&mut waiting).unwrap());
        }
    };
    assert_eq!(allocations(chain), 0);
}

#[test]
fn a_close_with_waiters_allocates_nothing() {
    let semaphores: Vec<Semaphore> = (0..10).map(|_| Semaphore::new(0)).collect();
    let mut lines: Vec<Vec<Acquire<'_>>> = Vec::new();
    for semaphore in &semaphores {
        lines.push((0..64).map(|_| semaphore.acquire()).collect());
        assert!(lines.last_mut().unwrap().iter_mut().all(|waiting| poll(waiting).is_pending()));
    }
    let info = measure(|| {
        for (semaphore, line) in semaphores.iter().zip(&mut lines) {
            semaphore.close();
            assert!(line.iter_mut().all(|waiting| matches!(poll(waiting), Poll::Ready(Err(_)))));
        }
    });
    assert_eq!(info.count_total, 0);
}

/// Enqueues a million waiters, lets `pass` end their waits, and checks the memory that is kept.
#[track_caller]
fn storm(pass: impl for<'a> FnOnce(&'a Semaphore, Vec<Acquire<'a>>)) {
    let semaphore = Semaphore::new(0);
    let mut at_its_height = 0;
    let info: AllocationInfo = measure(|| {
        let mut line: Vec<Acquire<'_>> = (0..MILLION).map(|_| semaphore.acquire()).collect();
        let height = measure(|| assert!(line.iter_mut().all(|waiting| poll(waiting).is_pending())));
        at_its_height = height.bytes_current;
        assert_eq!(semaphore.waiters(), MILLION);
        pass(&semaphore, line);
        assert_eq!(semaphore.waiters(), 0);
    });
    assert!(at_its_height > 100 * SMALL, "a storm of {at_its_height} bytes is none");
    assert!(info.bytes_current < SMALL, "{} of {at_its_height} bytes are kept", info.bytes_current);
    assert!(info.bytes_current >= 0);
    drop(semaphore);
}

#[test]
fn a_granted_storm_leaves_little() {
    storm(|semaphore, line| {
        semaphore.add_permits(MILLION);
        for mut waiting in line {
            ready(&mut waiting).unwrap().forget();
        }
    });
}

#[test]
fn a_storm_granted_one_by_one_leaves_little() {
    storm(|semaphore, line| {
        for mut waiting in line {
            semaphore.add_permits(1);
            ready(&mut waiting).unwrap().forget();
        }
    });
}

#[test]
fn a_cancelled_storm_leaves_little() {
    storm(|_, line| drop(line));
    storm(|_, line| line.into_iter().rev().for_each(drop));
    // Every other one first.
    storm(|_, line| {
        let (odd, even): (Vec<_>, Vec<_>) = line.into_iter().enumerate().partition(|(index, _)| index % 2 == 1);
        drop((even, odd));
    });
}

#[test]
fn a_revoked_storm_leaves_little() {
    storm(|semaphore, line| {
        semaphore.close();
        drop(line);
    });
}

#[test]
fn a_storm_leaves_little_once_its_last_waiter_is_gone() {
    const SURVIVORS: usize = 10;
    // The waiters that stay are the first, the last, or spread over the whole queue.
    for stays in
        [|index| index < SURVIVORS, |index| index >= MILLION - SURVIVORS, |index| index % (MILLION / SURVIVORS) == 7]
    {
        let semaphore = Semaphore::new(0);
        let info = measure(|| {
            let mut storm: Vec<Option<Acquire<'_>>> = (0..MILLION).map(|_| Some(semaphore.acquire())).collect();
            assert!(storm.iter_mut().flatten().all(|waiting| poll(waiting).is_pending()));
            let leaving = storm.iter_mut().enumerate().filter(|(index, _)| !stays(*index));
            leaving.for_each(|(_, waiting)| *waiting = None);
            let survivors: Vec<Acquire<'_>> = storm.into_iter().flatten().collect();
            assert_eq!((survivors.len(), semaphore.waiters()), (SURVIVORS, SURVIVORS));
            semaphore.add_permits(SURVIVORS);
            survivors.into_iter().for_each(|mut waiting| ready(&mut waiting).unwrap().forget());
        });
        assert!(info.bytes_current < SMALL, "{} bytes are kept", info.bytes_current);
    }
}

#[test]
fn a_dropped_semaphore_gives_everything_back() {
    let info = measure(|| {
        let semaphore = Semaphore::new(0);
        let mut line: Vec<Acquire<'_>> = (0..1_000).map(|_| semaphore.acquire()).collect();
        let waker = Waker::from(Arc::new(Counter::default()));
        assert!(line.iter_mut().all(|waiting| poll_with(waiting, &waker).is_pending()));
        semaphore.add_permits(500);
        drop(line.drain(400..600));
    });
    assert_eq!((info.bytes_current, info.count_current), (0, 0));
}

// ---------------------------------------------------------------------------------------------------------------------
// The priority queue
// ---------------------------------------------------------------------------------------------------------------------

type Queue = PriorityQueue<u32, u32>;

/// Priorities that come and go, in no particular order, all of them again and again.
const LEVELS: u32 = 16;

fn priorities() -> impl Iterator<Item = u32> {
    (0..LEVELS).map(|at| at * 7 % LEVELS)
}

/// A queue that holds `depth` items.
fn deep(queue: Queue, depth: u32) -> Queue {
    (0..depth).for_each(|item| {
        queue.try_push(item % LEVELS, item).unwrap();
    });
    queue
}

#[test]
fn an_empty_queue_allocates_nothing() {
    let info = measure(|| {
        let queue = Queue::bounded(3);
        assert_eq!((queue.len(), queue.waiting_pops(), queue.waiting_pushes()), (0, 0, 0));
        assert!(queue.try_pop().is_err() && queue.peek_priority().is_none() && queue.drain().is_empty());
        drop((queue.pop(), queue.push(1, 1)));
        queue.close();
        assert!(poll(&mut queue.pop()).is_ready() && poll(&mut queue.push(1, 1)).is_ready());
    });
    assert_eq!(info.count_total, 0);
}

#[test]
fn pushing_and_popping_allocates_nothing_at_any_depth() {
    for depth in [0, 100, 10_000] {
        let queue = deep(Queue::unbounded(), depth);
        // Priority by priority, so that at depth 0 a level is alone, comes, and goes.
        let one = || {
            for priority in priorities() {
                queue.try_push(priority, 1).unwrap();
                queue.try_pop().unwrap();
            }
        };
        assert_eq!(allocations(one), 0, "{depth}");
        let all = || {
            priorities().for_each(|priority| {
                ready(&mut queue.push(priority, 1)).unwrap();
            });
            (0..LEVELS).for_each(|_| {
                ready(&mut queue.pop()).unwrap();
            });
        };
        assert_eq!(allocations(all), 0, "{depth}");
        let by_key = || {
            let keys: [_; LEVELS as usize] =
                std::array::from_fn(|at| queue.try_push(at as u32 * 7 % LEVELS, 1).unwrap());
            for (key, priority) in keys.into_iter().zip(priorities().skip(3)) {
                assert!(queue.set_priority(key, priority));
            }
            keys.into_iter().for_each(|key| {
                queue.remove(key).unwrap();
            });
        };
        assert_eq!(allocations(by_key), 0, "{depth}");
        assert_eq!(queue.len(), depth as usize);
    }
}

#[test]
fn popping_many_allocates_nothing_when_there_is_room_for_them() {
    let queue = Queue::unbounded();
    let mut into = Vec::with_capacity(LEVELS as usize);
    let many = || {
        priorities().for_each(|priority| {
            queue.try_push(priority, 1).unwrap();
        });
        assert_eq!(ready(&mut queue.pop_many(&mut into, usize::MAX)), LEVELS as usize);
        into.clear();
    };
    assert_eq!(allocations(many), 0);
}

#[test]
fn a_wait_for_an_item_allocates_nothing() {
    let queue = Queue::unbounded();
    let mut into = Vec::with_capacity(1);
    let wait = || {
        for priority in priorities() {
            let mut pop = queue.pop();
            assert!(poll(&mut pop).is_pending());
            queue.try_push(priority, 1).unwrap();
            ready(&mut pop).unwrap();
            let mut many = queue.pop_many(&mut into, 9);
            assert!(poll(&mut many).is_pending());
            queue.try_push(priority, 1).unwrap();
            assert_eq!(ready(&mut many), 1);
            drop(many);
            into.clear();
        }
    };
    assert_eq!(allocations(wait), 0);
    let mut line: Vec<Pop<'_, u32, u32>> = Vec::with_capacity(200);
    let many_wait = || {
        line.extend((0..200).map(|_| queue.pop()));
        assert!(line.iter_mut().all(|pop| poll(pop).is_pending()));
        // Some leave, some reserve an item and leave, some have theirs removed, and wait again.
        drop(line.drain(50..100));
        (0..10).for_each(|_| {
            priorities().for_each(|priority| {
                queue.try_push(priority, 1).unwrap();
            })
        });
        drop(line.drain(..20));
        let key = queue.try_push(1, 1).unwrap();
        queue.remove(key).unwrap();
        line.drain(..).for_each(|mut pop| {
            ready(&mut pop).unwrap();
        });
        while queue.try_pop().is_ok() {}
    };
    assert_eq!(allocations(many_wait), 0);
}

#[test]
fn a_wait_for_room_allocates_nothing() {
    let queue = deep(Queue::bounded(4), 4);
    let wait = || {
        for priority in priorities() {
            let mut push = queue.push(priority, 1);
            assert!(poll(&mut push).is_pending());
            // It is admitted, or popped itself; or it leaves.
            {
                queue.try_pop().unwrap();
            };
            let key = ready(&mut push).unwrap();
            assert!(poll(&mut queue.push(priority, 2)).is_pending());
            queue.set_priority(key, LEVELS - 1 - priority);
        }
    };
    assert_eq!(allocations(wait), 0);
    let mut line: Vec<Push<'_, u32, u32>> = Vec::with_capacity(LEVELS as usize * 10);
    let many_wait = || {
        for _ in 0..10 {
            line.extend(priorities().map(|priority| queue.push(priority, 1)));
        }
        assert!(line.iter_mut().all(|push| poll(push).is_pending()));
        drop(line.drain(50..100));
        (0..line.len()).for_each(|_| {
            queue.try_pop().unwrap();
        });
        line.drain(..).for_each(|mut push| {
            ready(&mut push).unwrap();
        });
    };
    assert_eq!(allocations(many_wait), 0);
    assert_eq!((queue.len(), queue.waiting_pushes()), (4, 0));
}

#[test]
fn pushing_by_force_allocates_nothing() {
    let queue = deep(Queue::bounded(100), 100);
    let force = || {
        for priority in priorities() {
            let (key, victim) = queue.force_push(priority, 1).unwrap();
            assert!(victim.is_some());
            queue.set_priority(key, 0);
        }
    };
    assert_eq!(allocations(force), 0);
}

#[test]
fn a_close_with_those_who_wait_allocates_nothing() {
    let queues: Vec<(Queue, Queue)> = (0..10).map(|_| (Queue::unbounded(), deep(Queue::bounded(1), 1))).collect();
    let mut lines = Vec::new();
    for (empty, full) in &queues {
        let mut pops: Vec<_> = (0..64).map(|_| empty.pop()).collect();
        let mut pushes: Vec<_> = (0..64).map(|item| full.push(item, 1)).collect();
        assert!(pops.iter_mut().all(|pop| poll(pop).is_pending()));
        assert!(pushes.iter_mut().all(|push| poll(push).is_pending()));
        lines.push((pops, pushes));
    }
    let info = measure(|| {
        for ((empty, full), (pops, pushes)) in queues.iter().zip(&mut lines) {
            empty.close();
            full.close();
            assert!(pops.iter_mut().all(|pop| ready(pop).is_none()));
            assert!(pushes.iter_mut().all(|push| ready(push).is_err()));
        }
    });
    assert_eq!(info.count_total, 0);
}

/// What may be left in a queue: a thousand items and levels, so that such a number never meets the allocator.
const LITTLE: i64 = 3 * SMALL;

#[test]
fn a_storm_of_items_leaves_little() {
    for levels in [1, LEVELS, u32::MAX] {
        let queue = Queue::unbounded();
        let mut height = 0;
        let info = measure(|| {
            height = measure(|| {
                (0..60_000).for_each(|item| {
                    queue.try_push(item % levels, item).unwrap();
                })
            })
            .bytes_current;
            (0..60_000).for_each(|_| {
                queue.try_pop().unwrap();
            });
        });
        assert!(height > 10 * LITTLE, "{height}");
        assert!((0..LITTLE).contains(&info.bytes_current), "{} of {height} bytes are kept", info.bytes_current);
    }
}

#[test]
fn a_storm_of_parked_pushes_and_waiting_pops_leaves_little() {
    let (full, empty) = (deep(Queue::bounded(1), 1), Queue::unbounded());
    let mut height = 0;
    let info = measure(|| {
        let mut pushes: Vec<Push<'_, u32, u32>> = (0..60_000).map(|item| full.push(item % LEVELS, item)).collect();
        let mut pops: Vec<Pop<'_, u32, u32>> = (0..60_000).map(|_| empty.pop()).collect();
        let waiting = measure(|| {
            assert!(pushes.iter_mut().all(|push| poll(push).is_pending()));
            assert!(pops.iter_mut().all(|pop| poll(pop).is_pending()));
        });
        height = waiting.bytes_current;
        drop(pushes.drain(..20_000));
        (0..40_000).for_each(|_| {
            full.try_pop().unwrap();
        });
        drop(pops.drain(20_000..));
        (0..20_000).for_each(|item| {
            empty.try_push(1, item).unwrap();
        });
        assert!(pops.iter_mut().all(|pop| ready(pop).is_some()));
        assert!(pushes.iter_mut().all(|push| ready(push).is_ok()));
        full.try_pop().unwrap();
        assert_eq!((full.len(), empty.len()), (0, 0));
    });
    assert!(height > 20 * LITTLE, "{height}");
    assert!(info.bytes_current < 2 * LITTLE, "{} of {height} bytes are kept", info.bytes_current);
}

#[test]
fn removed_priorities_give_their_memory_back_if_a_few_stay() {
    const ALL: u64 = 50_000;
    let queue = PriorityQueue::<u64, ()>::unbounded();
    let keys: Vec<_> = (0..ALL).map(|priority| queue.try_push(priority, ()).unwrap()).collect();
    // One stays of fifty, here and there.
    let left =
        measure(|| keys.iter().enumerate().filter(|(at, _)| at % 50 > 0).for_each(|(_, &key)| _ = queue.remove(key)));
    assert_eq!(queue.len() as u64, ALL / 50);
    let per_priority = -left.bytes_current / ALL as i64;
    assert!(per_priority >= 15, "{per_priority} bytes of 16 are given back for each");
}

/// The most that an empty queue keeps.
const KEPT: i64 = 64 * 1024;

#[test]
fn an_empty_queue_keeps_little_whatever_the_size_of_an_item() {
    fn kept<T>(item: impl Fn() -> T, count: usize) -> i64 {
        let queue = PriorityQueue::unbounded();
        let storm = || {
            (0..count).for_each(|at| drop(queue.try_push(at % 3, item())));
            (0..count).for_each(|_| drop(queue.try_pop().unwrap()));
        };
        let once = measure(storm).bytes_current;
        assert_eq!(measure(storm).bytes_current, 0, "another storm leaves nothing more");
        once
    }
    let kept =
        [kept(|| (), 5_000), kept(|| [7_u8; 200], 5_000), kept(|| [7_u8; 5_000], 500), kept(|| [7_u8; 40_000], 50)];
    assert!(kept.iter().all(|kept| (0..=KEPT).contains(kept)), "{kept:?} bytes are kept");
}

#[test]
fn a_pop_gives_a_bounded_part_of_a_storm_back() {
    for levels in [1, LEVELS, u32::MAX] {
        let queue = Queue::unbounded();
        (0..60_000_u32).for_each(|item| _ = queue.try_push(item.wrapping_mul(0x9E37_79B9) % levels, item));
        let freed = (0..60_000).map(|_| -measure(|| _ = queue.try_pop()).bytes_current);
        let most = freed.max().unwrap();
        assert!((1_000..=2 * KEPT).contains(&most), "a pop gives {most} bytes back");
    }
}

#[test]
fn a_dropped_queue_gives_everything_back() {
    let info = measure(|| {
        let queue = deep(Queue::bounded(1_000), 1_000);
        let mut line: Vec<Push<'_, u32, u32>> = (0..1_000).map(|item| queue.push(item, 1)).collect();
        let waker = Waker::from(Arc::new(Counter::default()));
        assert!(line.iter_mut().all(|push| poll_with(push, &waker).is_pending()));
        (0..500).for_each(|_| {
            queue.try_pop().unwrap();
        });
        drop(line.drain(400..600));
    });
    assert_eq!((info.bytes_current, info.count_current), (0, 0));
}

// ---------------------------------------------------------------------------------------------------------------------
// The pool
// ---------------------------------------------------------------------------------------------------------------------

/// Creates and recycles at once.
struct AtOnce;

impl Manager for AtOnce {
    type Object = u64;
    type Error = Infallible;

    async fn create(&self) -> Result<u64, Infallible> {
        Ok(7)
    }
}

/// Creates at once, and looks at what it recycles.
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

/// Does with a pool what one does with pools, none of which allocates once it has made and recycled all its objects.
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

    // As long as these are out, all others wait.
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
    let give_up = || {
        let object = soon(pool.get()).unwrap();
        let (mut waiting, mut granted) = (pool.get(), pool.get());
        assert!(poll(&mut granted).is_pending() && poll(&mut waiting).is_pending());
        drop(waiting);
        drop(object);
        drop(granted);
    };
    assert_eq!(allocations(give_up), 0, "waits that are given up");
    for waiters in [10, 1_000] {
        let waker = Waker::from(Arc::new(Counter::default()));
        let mut line: Vec<Get<'_, M>> = Vec::with_capacity(waiters);
        let round = || {
            let mut object = Some(soon(pool.get()).unwrap());
            line.extend((0..waiters).map(|_| pool.get()));
            assert!(line.iter_mut().all(|waiting| poll_with(waiting, &waker).is_pending()));
            drop(line.drain(waiters / 3..waiters / 2));
            for waiting in line.drain(..) {
                drop(object.take());
                object = Some(soon(waiting).unwrap());
            }
        };
        assert_eq!(allocations(round), 0, "{waiters} waiters");
    }
    held.clear();
    // All objects change hands at the same time.
    let mut line: Vec<Get<'_, M>> = Vec::with_capacity(size);
    let swap = || {
        held.extend((0..size).map(|_| soon(pool.get()).unwrap()));
        line.extend((0..size).map(|_| pool.get()));
        assert!(line.iter_mut().all(|waiting| poll(waiting).is_pending()));
        held.clear();
        line.drain(..).for_each(|waiting| drop(soon(waiting).unwrap()));
    };
    assert_eq!(allocations(swap), 0, "all objects change hands");
    assert_eq!((pool.status().idle, pool.status().size), (size, size), "none was made or lost on the way");
}

/// How many objects the pools here have.
const SIZE: usize = 3;

const HOUR: Duration = Duration::from_secs(3600);

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
    // Each look at the clock takes an hour.
    let (start, looks) = (Instant::now(), AtomicU32::new(0));
    let clock = move || start + looks.fetch_add(1, Ordering::Relaxed) * HOUR;
    allocates_nothing(Pool::builder(Careful).max_size(SIZE).recycle_after(HOUR / 2).clock(clock).build());
}

// ---------------------------------------------------------------------------------------------------------------------
// The cache
// ---------------------------------------------------------------------------------------------------------------------

type Cache = LruCache<u64, u64>;

/// The measured caches: plain, sharded, and with every option.
fn caches(capacity: usize) -> [Cache; 3] {
    let with_everything = Cache::builder(capacity).weigher(|_, _| 1).time_to_live(HOUR).on_evict(|_, _, _| ());
    [Cache::new(capacity), Cache::builder(capacity).shards(4).build(), with_everything.build()]
}

#[test]
fn a_cache_allocates_nothing_before_it_keeps_something() {
    let info = measure(|| {
        let cache = Cache::new(usize::MAX);
        assert_eq!(
            (cache.get(&1), cache.peek(&1), cache.contains_key(&1), cache.remove(&1)),
            (None, None, false, None)
        );
        assert_eq!((cache.pop_lru(), cache.len(), cache.weight(), cache.capacity()), (None, 0, 0, usize::MAX));
        assert!(cache.is_empty() && cache.entries().is_empty() && cache.stats().misses == 1);
        cache.retain(|_, _| false);
        cache.set_capacity(1_000_000);
        cache.clear();
        drop(LruCache::<u64, u64, _>::with_hasher(usize::MAX, RandomState::new()));
        drop(Cache::builder(usize::MAX).build());
        drop(Cache::builder(usize::MAX).shards(1).hasher(RandomState::new()).time_to_live(HOUR).build());
        drop(cache.get_or_load(&1, pending));
    });
    assert_eq!(info.count_total, 0);
}

#[test]
fn a_hit_allocates_nothing() {
    for cache in caches(100) {
        (0..100).for_each(|key| _ = cache.insert(key, key));
        let mut keys = (0..100).filter(|key| cache.contains_key(key)).cycle();
        let mut key = || keys.next().unwrap();
        assert_eq!(allocations(|| assert!(cache.get(&key()).is_some())), 0, "get");
        assert_eq!(allocations(|| assert!(cache.peek(&key()).is_some() && cache.contains_key(&key()))), 0, "peek");
        let mut get_or_insert = || {
            cache.get_or_insert_with(&key(), || unreachable!());
            cache.try_get_or_insert_with(&key(), || Err(())).unwrap();
        };
        assert_eq!(allocations(&mut get_or_insert), 0, "get_or_insert_with");
        let load = || {
            ready(&mut pin!(cache.get_or_load(&key(), pending)));
            ready(&mut pin!(cache.try_get_or_load(&key(), || async { Err(()) }))).unwrap();
        };
        assert_eq!(allocations(load), 0, "get_or_load");
    }
}

#[test]
fn a_cache_that_is_full_allocates_nothing() {
    for capacity in [1, 10, 1_000] {
        for cache in caches(capacity) {
            let mut next = 0;
            let mut insert = || {
                next += 1;
                cache.insert(next, next)
            };
            // Long enough that nothing is left of how it grew.
            (0..50 * capacity).for_each(|_| _ = insert());
            let churn = measure(|| (0..50 * capacity).for_each(|_| assert_eq!(insert(), None)));
            assert_eq!(churn.count_total, 0, "insert and evict, {capacity}");
            let present = cache.entries()[0].0;
            assert_eq!(allocations(|| assert!(cache.insert(present, 1).is_some())), 0, "replace, {capacity}");
            let remove_and_insert = || {
                assert!(cache.remove(&present).is_some());
                assert_eq!(cache.insert(present, 1), None);
            };
            assert_eq!(allocations(remove_and_insert), 0, "remove and insert, {capacity}");
        }
    }
}

/// How many bytes an entry takes beside key and value, in a cache of so many that was filled and then churned.
#[track_caller]
fn takes_little(entries: u64, churns: u64, leave: impl FnOnce(&Cache)) {
    let cache = Cache::new(entries as usize);
    let insert = |keys: Range<u64>| keys.for_each(|key| _ = cache.insert(key, key));
    let per_entry = |info: &AllocationInfo| info.bytes_current as f64 / entries as f64 - size_of::<[u64; 2]>() as f64;
    let left = measure(|| {
        let churned = measure(|| {
            let fresh = measure(|| insert(0..entries));
            println!("{:.1} bytes beside key and value", per_entry(&fresh));
            assert!(per_entry(&fresh) > 8.0, "they are measured");
            assert!(per_entry(&fresh) <= 32.0, "{} bytes are too many", per_entry(&fresh));
            insert(entries..entries * (1 + churns));
        });
        println!("{:.1} after churning", per_entry(&churned));
        assert!(per_entry(&churned) <= 32.0, "{} bytes are too many after churning", per_entry(&churned));
        assert_eq!(cache.len(), entries as usize);
        leave(&cache);
        assert_eq!(cache.len(), 0);
    });
    assert!(left.bytes_current < SMALL, "{} bytes are kept", left.bytes_current);
}

/// As full as a million makes the table, and faster to fill.
const AS_A_MILLION: u64 = MILLION as u64 / 8;

#[test]
fn a_cache_of_a_million_takes_little_and_gives_it_back() {
    takes_little(if cfg!(debug_assertions) { AS_A_MILLION } else { MILLION as u64 }, 2, Cache::clear);
}

#[test]
fn a_cache_takes_little_however_long_it_is_churned() {
    // It depends on how full the table is, and small ones wear out sooner.
    for entries in [950, 1_100, 1_200, 1_300, 1_400, 4_000] {
        takes_little(entries, 200, Cache::clear);
    }
}

#[test]
fn a_cache_gives_back_what_was_removed() {
    let ways: [fn(&Cache); 4] = [
        |cache| (0..3 * AS_A_MILLION).for_each(|key| _ = cache.remove(&key)),
        |cache| while cache.pop_lru().is_some() {},
        |cache| cache.set_capacity(0),
        |cache| cache.retain(|_, _| false),
    ];
    ways.into_iter().for_each(|leave| takes_little(AS_A_MILLION, 0, leave));
}

#[test]
fn a_cache_gives_memory_back_though_a_few_stay() {
    let ways: [fn(&Cache); 2] =
        [|cache| cache.set_capacity(100), |cache| cache.retain(|&key, _| key >= AS_A_MILLION - 100)];
    for leave in ways {
        let left = measure(|| {
            let cache = Cache::new(AS_A_MILLION as usize);
            (0..AS_A_MILLION).for_each(|key| _ = cache.insert(key, key));
            leave(&cache);
            assert_eq!(cache.len(), 100);
            std::mem::forget(cache);
        });
        // Room for a thousand is kept, each with key and value.
        assert!(left.bytes_current < 3 * SMALL, "{} bytes are kept", left.bytes_current);
    }
}

#[test]
fn a_cache_gives_back_the_memory_of_expired_entries() {
    let (clock, second) = (common::Clock::new(), Duration::from_secs(1));
    let left = measure(|| {
        let builder = LruCache::<u64, u64>::builder(2 * AS_A_MILLION as usize).time_to_live(2 * second);
        let cache = builder.clock(clock.source()).build();
        (0..AS_A_MILLION).for_each(|key| _ = cache.insert(key, key));
        clock.advance(second);
        (0..100).for_each(|key| _ = cache.insert(AS_A_MILLION + key, key));
        clock.advance(second);
        cache.retain(|_, _| true);
        assert_eq!(cache.len(), 100);
        std::mem::forget(cache);
    });
    assert!(left.bytes_current < 3 * SMALL, "{} bytes are kept", left.bytes_current);
}

#[test]
fn waiting_for_a_load_allocates_nothing() {
    let cache = Cache::new(10);
    let mut leader = pin!(cache.get_or_load(&7, pending));
    assert!(poll(&mut leader).is_pending());
    let wait = || {
        let (mut one, mut other) = (pin!(cache.get_or_load(&7, pending)), pin!(cache.get_or_load(&7, pending)));
        assert!(poll(&mut one).is_pending() && poll(&mut other).is_pending());
    };
    assert_eq!(allocations(wait), 0, "a wait that is given up");
    // A line of its own has to be kept somewhere.
    let load = || {
        let mut leader = pin!(cache.get_or_load(&8, || async {
            yield_now().await;
            1
        }));
        let mut waiter = pin!(cache.get_or_load(&8, pending));
        assert!(poll(&mut leader).is_pending() && poll(&mut waiter).is_pending());
        assert_eq!([ready(&mut leader), ready(&mut waiter)], [1, 1]);
        cache.remove(&8);
    };
    assert_eq!(allocations(load), 100, "one for the line");
}

#[test]
fn a_storm_of_loads_leaves_little() {
    for clears in [false, true] {
        let cache = &Cache::new(10);
        let storm = measure(|| {
            let load = |key| {
                let mut load = Box::pin(async move { cache.get_or_load(&key, pending).await });
                assert!(poll(&mut load).is_pending());
                load
            };
            let loads: Vec<_> = (0..100_000).map(load).collect();
            if clears {
                cache.clear();
            }
            drop(loads);
        });
        assert!(storm.bytes_max > 100 * SMALL as u64, "a storm of {} bytes is none", storm.bytes_max);
        // Room for a thousand is kept, each of a few words.
        assert!(storm.bytes_current < 4 * SMALL, "{} of {} bytes are kept", storm.bytes_current, storm.bytes_max);
    }
}

#[test]
fn a_dropped_cache_gives_everything_back() {
    let info = measure(|| {
        for cache in caches(100) {
            (0..1_000).for_each(|key| _ = cache.insert(key, key));
            let mut load = Box::pin(cache.get_or_load(&5_000, pending));
            let mut waiter = Box::pin(cache.get_or_load(&5_000, pending));
            assert!(poll(&mut load).is_pending() && poll(&mut waiter).is_pending());
        }
    });
    assert_eq!((info.bytes_current, info.count_current), (0, 0));
}
