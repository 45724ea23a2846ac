//! The primitives in one page: `cargo run --example quickstart`.
//!
//! Eight workers, some of them tasks and some plain threads, share three permits, two connections, one look-up and one
//! total.

use stanchion::{LruCache, Manager, Mutex, Pool, PriorityQueue, Semaphore, blocking};
use std::convert::Infallible;
use std::sync::LazyLock;
use std::thread;

static ADMISSION: Semaphore = Semaphore::new(3);
static CONNECTIONS: LazyLock<Pool<Connect>> = LazyLock::new(|| Pool::builder(Connect).max_size(2).build());
static RATES: LazyLock<LruCache<String, u64>> = LazyLock::new(|| LruCache::new(100));
static TOTAL: Mutex<u64> = Mutex::new(0);

/// How the pool comes by what it lends.
struct Connect;

impl Manager for Connect {
    type Object = String;
    type Error = Infallible;

    async fn create(&self) -> Result<String, Infallible> {
        Ok("a connection, which takes a while to open".into())
    }
}

/// What every worker does; any executor can run it.
async fn work(amount: u64) {
    // Three at a time, in the order in which they asked.
    let _permit = ADMISSION.acquire().await.expect("nobody closes the semaphore");
    // Opened once, used again by whoever asked first.
    let _connection = CONNECTIONS.get().await.expect("nobody closes the pool");
    // Looked up by whoever asks first; who asks meanwhile waits for the same answer, and the others find it here.
    let rate = RATES.get_or_load("EUR", async || 2).await;
    *TOTAL.lock().await += amount * rate;
}

fn main() {
    thread::scope(|scope| {
        for amount in 1..=4 {
            // A thread without a runtime stands in the same line as the tasks.
            scope.spawn(move || blocking::wait(work(amount)));
            scope.spawn(move || futures::executor::block_on(work(amount)));
        }
    });
    assert_eq!(*TOTAL.blocking_lock(), 40);
    println!("connections opened for eight workers: {}", CONNECTIONS.status().size);
    println!("look-ups for eight workers: {}", RATES.stats().loads);

    // Under overload, say no while it is still early.
    let _all = ADMISSION.try_acquire_many(3).expect("all workers are done");
    match ADMISSION.try_acquire() {
        Ok(_) => println!("admitted"),
        Err(reason) => println!("shed: {reason}"),
    }

    // Or serve the urgent first.
    let line = PriorityQueue::unbounded();
    for (priority, who) in [(1, "a free customer"), (9, "the health check")] {
        line.try_push(priority, who).expect("nobody closes the line");
    }
    let (_, next) = blocking::wait(line.pop()).expect("nobody closes the line");
    println!("first: {next}");
}
