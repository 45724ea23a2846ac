//! The primitives on one page: `cargo run --example quickstart`.
//!
//! Eight workers, four tasks and four plain threads, share three permits, two connections, one lookup and one total.

use stanchion::{LruCache, Manager, Mutex, Pool, PriorityQueue, Semaphore, blocking};
use std::convert::Infallible;
use std::sync::LazyLock;
use std::thread;

static ADMISSION: Semaphore = Semaphore::new(3);
static CONNECTIONS: LazyLock<Pool<Connect>> = LazyLock::new(|| Pool::builder(Connect).max_size(2).build());
static RATES: LazyLock<LruCache<String, u64>> = LazyLock::new(|| LruCache::new(100));
static TOTAL: Mutex<u64> = Mutex::new(0);

/// Creates the objects of the pool.
struct Connect;

impl Manager for Connect {
    type Object = String;
    type Error = Infallible;

    async fn create(&self) -> Result<String, Infallible> {
        Ok("a connection that takes a while to open".into())
    }
}

async fn work(amount: u64) {
    // Three at a time, in the order of their first polls.
    let _permit = ADMISSION.acquire().await.expect("the semaphore is never closed");
    // Created once, and then reused.
    let _connection = CONNECTIONS.get().await.expect("the pool is never closed");
    // The first caller loads the rate. Callers that ask meanwhile wait for that load, later ones find it in the cache.
    let rate = RATES.get_or_load("EUR", async || 2).await;
    *TOTAL.lock().await += amount * rate;
}

fn main() {
    thread::scope(|scope| {
        for amount in 1..=4 {
            // A thread without a runtime waits in the same queue as a task of an executor.
            scope.spawn(move || blocking::wait(work(amount)));
            scope.spawn(move || futures::executor::block_on(work(amount)));
        }
    });
    assert_eq!(*TOTAL.blocking_lock(), 40);
    let (created, loads) = (CONNECTIONS.stats().created, RATES.stats().loads);
    println!("for eight workers: connections created: {created}, loads of the rate: {loads}");
    assert!(created <= 2 && loads == 1);

    // Under overload: refuse at once,
    let _all = ADMISSION.try_acquire_many(3).expect("all permits are free");
    println!("refused: {}", ADMISSION.try_acquire().expect_err("no permit is free"));

    // or serve the most urgent first.
    let queue = PriorityQueue::unbounded();
    for (priority, request) in [(1, "free"), (9, "health check")] {
        queue.try_push(priority, request).expect("the queue is neither full nor closed");
    }
    let first = blocking::wait(queue.pop());
    println!("served first: {first:?}");
    assert_eq!(first, Some((9, "health check")));
}
