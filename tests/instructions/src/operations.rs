//! The operations: each is set up once and repeated. Futures are polled by hand, with a waker that does nothing.

use std::convert::Infallible;
use std::future::{Future, ready};
use std::hint::black_box;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use stanchion::{LruCache, Manager, Metrics, Mutex, Pool, PriorityQueue, Semaphore, TaskQueue};

/// A name, and a function that runs the operation so many times.
pub(crate) type Operation = (&'static str, fn(u64));

pub(crate) const OPERATIONS: &[Operation] = &[
    ("semaphore: acquire, release", |times| {
        let semaphore = black_box(Semaphore::new(1));
        repeat(times, || drop(now(semaphore.acquire())));
    }),
    ("semaphore: acquire_owned, release", |times| {
        let semaphore = black_box(Arc::new(Semaphore::new(1)));
        repeat(times, || drop(now(Arc::clone(&semaphore).acquire_owned())));
    }),
    ("semaphore: try_acquire, release", |times| {
        let semaphore = black_box(Semaphore::new(1));
        repeat(times, || drop(semaphore.try_acquire()));
    }),
    ("semaphore: hand-off", |times| {
        let semaphore = black_box(Semaphore::new(1));
        hand_off(times, || semaphore.acquire());
    }),
    ("semaphore: wait, cancel", |times| {
        let semaphore = black_box(Semaphore::new(0));
        repeat(times, || wait(pin!(semaphore.acquire())));
    }),
    ("mutex: lock, unlock", |times| {
        let mutex = black_box(Mutex::new(0));
        repeat(times, || *now(mutex.lock()) += 1);
    }),
    ("mutex: try_lock, unlock", |times| {
        let mutex = black_box(Mutex::new(0));
        repeat(times, || *mutex.try_lock().expect("the mutex is free") += 1);
    }),
    ("mutex: hand-off", |times| {
        let mutex = black_box(Mutex::new(0));
        hand_off(times, || mutex.lock());
    }),
    ("priority_queue: push, pop, 16 priorities, depth 0", |times| push_pop(times, 0, |number| number % 16)),
    ("priority_queue: push, pop, 16 priorities, depth 10,000", |times| {
        push_pop(times, 10_000, |number| scattered(number) % 16)
    }),
    ("priority_queue: push, pop, all distinct, depth 10,000", |times| push_pop(times, 10_000, scattered)),
    ("priority_queue: push, remove, depth 10,000", |times| {
        let queue = filled(10_000, |number| scattered(number) % 16);
        repeat_with(times, |number| {
            let key = queue.try_push(scattered(number) % 16, number).expect("there is room");
            queue.remove(key).expect("the item is there");
        });
    }),
    ("priority_queue: set_priority, depth 10,000", |times| {
        let queue = filled(10_000, |number| scattered(number) % 16);
        let key = queue.try_push(0, 0).expect("there is room");
        repeat_with(times, |number| assert!(queue.set_priority(key, number % 16)));
    }),
    ("priority_queue: a pop waits for a push", |times| {
        let queue = black_box(PriorityQueue::unbounded());
        repeat_with(times, |number| {
            let mut pop = pin!(queue.pop());
            wait(pop.as_mut());
            queue.try_push(number, number).expect("there is room");
            claim(pop).expect("an item was pushed");
        });
    }),
    ("task_queue: submit, run, join", |times| {
        let queue = black_box(TaskQueue::unbounded());
        repeat_with(times, |number| {
            let handle = now(queue.submit(0, async move { number })).expect("the queue is open");
            assert!(now(queue.run_one()));
            assert_eq!(now(handle).ok(), Some(number));
        });
    }),
    ("pool: get, return", |times| {
        let pool = black_box(Pool::builder(Numbers).build());
        repeat(times, || drop(now(pool.get())));
    }),
    ("pool: get, return, with a check", |times| {
        let pool = black_box(Pool::builder(Checked).build());
        repeat(times, || drop(now(pool.get())));
    }),
    ("pool: hand-off", |times| {
        let pool = black_box(Pool::builder(Numbers).max_size(1).build());
        hand_off(times, || pool.get());
    }),
    ("lru_cache: hit", |times| {
        hits(times, &LruCache::new(1_000));
    }),
    ("lru_cache: hit, with a time to live", |times| {
        hits(times, &LruCache::builder(1_000).time_to_live(Duration::from_secs(3_600)).build());
    }),
    ("lru_cache: miss", |times| {
        let cache = LruCache::new(1_000);
        fill(&cache);
        repeat_with(times, |number| assert!(cache.get(&(number + 1_000)).is_none()));
    }),
    ("lru_cache: insert, evict", |times| {
        let cache = LruCache::new(1_000);
        fill(&cache);
        repeat_with(times, |number| assert!(cache.insert(number + 1_000, number).is_none()));
    }),
    ("lru_cache: load, evict", |times| {
        let cache = LruCache::new(1_000);
        fill(&cache);
        repeat_with(times, |number| {
            let key = number + 1_000;
            assert_eq!(now(cache.get_or_load(&key, || ready(number))), number);
        });
    }),
];

fn repeat(times: u64, mut operation: impl FnMut()) {
    repeat_with(times, |_| operation());
}

fn repeat_with(times: u64, operation: impl FnMut(u64)) {
    (0..times).for_each(operation);
}

/// While one permit, guard or object is held, the next one is asked for; it is released, and the waiter collects.
fn hand_off<F: Future>(times: u64, acquire: impl Fn() -> F) {
    let mut held = now(acquire());
    for _ in 0..times {
        let mut next = pin!(acquire());
        wait(next.as_mut());
        drop(held);
        held = claim(next);
    }
}

fn filled(depth: u64, priority: fn(u64) -> u64) -> PriorityQueue<u64, u64> {
    let queue = black_box(PriorityQueue::unbounded());
    for number in 0..depth {
        queue.try_push(priority(number), number).expect("there is room");
    }
    queue
}

fn push_pop(times: u64, depth: u64, priority: fn(u64) -> u64) {
    let queue = filled(depth, priority);
    repeat_with(times, |number| {
        queue.try_push(priority(number), number).expect("there is room");
        queue.try_pop().expect("there is an item");
    });
}

/// Numbers in no order, none of them twice: steps of the golden ratio.
fn scattered(number: u64) -> u64 {
    number.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

fn fill(cache: &LruCache<u64, u64>) {
    black_box(cache);
    (0..1_000).for_each(|key| assert!(cache.insert(key, key).is_none()));
}

fn hits(times: u64, cache: &LruCache<u64, u64>) {
    fill(cache);
    repeat_with(times, |number| assert!(cache.get(&(number * 7 % 1_000)).is_some()));
}

struct Numbers;

impl Manager for Numbers {
    type Object = u64;
    type Error = Infallible;

    async fn create(&self) -> Result<u64, Infallible> {
        Ok(7)
    }
}

struct Checked;

impl Manager for Checked {
    type Object = u64;
    type Error = Infallible;

    async fn create(&self) -> Result<u64, Infallible> {
        Ok(7)
    }

    async fn recycle(&self, object: &mut u64, _: &Metrics) -> Result<(), Infallible> {
        *object += 1;
        Ok(())
    }
}

/// Polls a future that is ready at its first poll.
fn now<F: Future>(future: F) -> F::Output {
    claim(pin!(future))
}

fn claim<F: Future>(future: Pin<&mut F>) -> F::Output {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the future is ready"),
    }
}

/// Polls a future that has to wait.
fn wait<F: Future>(future: Pin<&mut F>) {
    assert!(future.poll(&mut Context::from_waker(Waker::noop())).is_pending(), "there is something to wait for");
}
