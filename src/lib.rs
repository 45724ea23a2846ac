//! Fair, runtime-agnostic concurrency primitives for async Rust: a semaphore, a mutex, a priority queue and a task
//! queue, an object pool, and an LRU cache with single-flight loading. Tasks of any executor and plain threads wait in
//! one queue, in strict FIFO order.
//!
//! | primitive | what it is |
//! |---|---|
//! | [`Semaphore`] | A counting semaphore: limits concurrency. |
//! | [`Mutex`] | A mutex: exclusive access across `.await`. |
//! | [`PriorityQueue`], [`TaskQueue`] | A queue of items, and one of futures: the most urgent first. |
//! | [`Pool`] | An object pool: reuses connections and other expensive objects. |
//! | [`LruCache`] | A cache: keeps the most recently used entries, and loads each key once. |
//!
//! # Quickstart
//!
//! ```
//! use stanchion::{LruCache, Mutex, Pool, PriorityQueue, Semaphore, blocking};
//!
//! static REQUESTS: Semaphore = Semaphore::new(100);
//! static TOTAL: Mutex<u64> = Mutex::new(0);
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let permit = REQUESTS.acquire().await?; // at most 100 at a time
//!     *TOTAL.lock().await += 1;
//!     drop(permit);
//!
//!     let jobs = PriorityQueue::bounded(1_000);
//!     jobs.push(1, "report").await?;
//!     jobs.push(9, "health check").await?;
//!     assert_eq!(jobs.pop().await, Some((9, "health check")));
//!
//!     let connections = Pool::from_objects(["first", "second"]); // or created by a `Manager`, when needed
//!     let connection = connections.get().await?; // returned when it is dropped
//!     assert!(connection.len() > 4);
//!
//!     let names = LruCache::<u32, String>::new(10_000);
//!     let name = names.get_or_load(&7, async || "plum".to_owned()).await; // callers that miss 7 meanwhile wait for it
//!     assert_eq!(name, "plum");
//!
//!     // On a plain thread, in the same queue as the tasks:
//!     let thread = std::thread::spawn(|| blocking::wait(REQUESTS.acquire()).is_ok());
//!     assert!(thread.join().unwrap());
//!     Ok(())
//! }
//! ```
//!
//! # Guarantees
//!
//! - **Runtime-agnostic.** No executor, timer, spawned task or thread of its own. One value serves several runtimes and
//!   plain threads at the same time.
//! - **Strict FIFO.** Waiters are served in the order of their first polls, within a priority. Nothing barges, `try_*`
//!   included.
//! - **Cancel-safe.** Every future may be dropped at any point: no permit, object, admitted item or wake-up is lost.
//!   Anything it had been granted goes to the next waiter. A push that is dropped before its item is admitted drops it,
//!   unless [`into_inner`](Push::into_inner) takes it out; a worker that is dropped cancels the task that it runs.
//! - **Panic-safe.** No destructor, loader or manager runs under an internal lock, and no waker, except those of
//!   [`Pool::closed`], [`Pool::maintenance`] and [`TaskQueue::idle`], which have a lock of their own. Each may panic.
//!   If a waker panics, the others are woken first. Then the call panics too, unless a permit, object or item would be
//!   lost by that, or its documentation says that such panics are discarded.
//! - **Safe.** Waiters are linked by index. `unsafe` appears in one place: the data cell of the mutex.
//! - **Model-checked with loom.** [loom](https://docs.rs/loom) explores the code that ships, within the bounds stated
//!   in the repository's `tests/loom`. [Models of your own](_guide::loom) can include it.
//!
//! # Closing
//!
//! | primitive | after `close` |
//! |---|---|
//! | [`Semaphore`] | waiting and later acquires fail, except for one that was granted its permits before |
//! | [`PriorityQueue`] | pushes fail and give their items back; pops get the remaining items, then `None` |
//! | [`TaskQueue`] | submits fail and give their tasks back; accepted tasks run, then the workers end |
//! | [`Pool`] | getters fail, except for one that was granted an object before; objects are discarded when they are returned |
//!
//! A mutex and a cache cannot be closed. To shut down within a time limit, see
//! [`TaskQueue`](TaskQueue#shutting-down).
//!
//! # Locks and user code
//!
//! The internal locks are short: one for each primitive, for each shard of a cache, and for each task. The only user
//! code that runs under them, and must not use the primitive, is: `Ord` and `Clone` of priorities; `Eq`, `Borrow` and
//! `Clone` of cached keys and values; the closures of `retain`, `for_each`, `update` and `remove_if`, and a cache's
//! weigher during `update`.
//!
//! # When not to use it
//!
//! - You never hold the lock across an `.await`: a blocking mutex such as std's is smaller and faster.
//! - Throughput counts more than order: an unfair lock moves more permits, since a running task takes what is free.
//! - Your cache is scanned by more keys than it holds: exact LRU then evicts everything, where moka and quick_cache
//!   keep the most used entries. Or all that counts is hits on many threads at once: quick_cache's share a lock.
//! - Your queue is long and its priorities are mostly distinct: a heap behind a lock is twice as fast.
//! - You want a ready-made manager for your database: deadpool and bb8 have many.
//! - Your task loops over locks that are always free, and relies on tokio's cooperative budget to yield. That budget is
//!   not consumed here: call `tokio::task::consume_budget().await` in such a loop.
//! - You need a reader-writer lock, a plain channel, a barrier, or `no_std`: none is here.
//!
//! # All types
//!
//! | primitive | guards and handles | futures | errors | settings and figures |
//! |---|---|---|---|---|
//! | [`Semaphore`] | [`SemaphorePermit`], [`OwnedSemaphorePermit`] | [`Acquire`], [`AcquireOwned`] | [`AcquireError`], [`TryAcquireError`] | |
//! | [`Mutex`] | [`MutexGuard`], [`OwnedMutexGuard`], [`MappedMutexGuard`], [`OwnedMappedMutexGuard`] | [`Lock`], [`LockOwned`] | [`TryLockError`] | |
//! | [`PriorityQueue`] | [`Key`] | [`Push`], [`PushOwned`], [`Pop`], [`PopOwned`], [`PopMany`] | [`Closed`], [`TryPushError`], [`TryPopError`] | |
//! | [`TaskQueue`] | [`WeakTaskQueue`], [`TaskHandle`], [`TaskControl`] | [`Submit`], [`Run`], [`RunOne`], [`RunUntil`], [`Idle`] | [`TrySubmitError`], [`Closed`], [`Refused`], [`TaskError`], [`Panic`] | |
//! | [`Pool`] | [`Object`], [`OwnedObject`] | [`Get`], [`GetOwned`], [`PoolClosed`] | [`GetError`] | [`Manager`], [`Fixed`], [`PoolBuilder`], [`Order`], [`Metrics`], [`Status`], [`PoolStats`] |
//! | [`LruCache`] | | | | [`LruCacheBuilder`], [`Cause`], [`Stats`] |
//! | [`blocking`] | | | [`Elapsed`] | |
//!
//! # Guides
//!
//! Coming from another crate: its names and the ones here, the differences, and tested code before and after.
//!
//! - [Locks](_guide::locks): `tokio::sync`'s and async-lock's semaphore and mutex.
//! - [Queues](_guide::queues): async-priority-channel, tokio's mpsc channel and tasks.
//! - [Pools and caches](_guide::pools_and_caches): deadpool and bb8; moka, quick_cache and lru.
//! - [Models of your own](_guide::loom): finding races in code that uses these primitives.
//!
//! # Configurations
//!
//! There are no cargo features. With `--cfg loom` the locks, atomics and cells are loom's, constructors are not
//! `const`, and a timeout ends at once if it is zero, else never. The minimum supported Rust version is 1.85; raising
//! it is a minor change.

mod arena;
pub mod blocking;
mod lru_cache;
mod mutex;
mod panic;
mod pool;
mod priority_queue;
mod semaphore;
mod sync;
mod task_queue;
mod wait_list;

// Its examples are run by the package `tests/guides`, which has the crates that they compare with.
#[cfg(all(doc, not(doctest)))]
#[path = "guide.rs"]
pub mod _guide;

pub use blocking::Elapsed;
pub use lru_cache::{Cause, LruCache, LruCacheBuilder, Stats};
pub use mutex::{
    Lock, LockOwned, MappedMutexGuard, Mutex, MutexGuard, OwnedMappedMutexGuard, OwnedMutexGuard, TryLockError,
};
pub use pool::{
    Fixed, Get, GetError, GetOwned, Manager, Metrics, Object, Order, OwnedObject, Pool, PoolBuilder, PoolClosed,
    PoolStats, Status,
};
pub use priority_queue::{
    Closed, Key, Pop, PopMany, PopOwned, PriorityQueue, Push, PushOwned, TryPopError, TryPushError,
};
pub use semaphore::{
    Acquire, AcquireError, AcquireOwned, OwnedSemaphorePermit, Semaphore, SemaphorePermit, TryAcquireError,
};
pub use task_queue::{
    Idle, Panic, Refused, Run, RunOne, RunUntil, Submit, TaskControl, TaskError, TaskHandle, TaskQueue, TrySubmitError,
    WeakTaskQueue,
};

#[cfg(any(fuzzing, all(test, not(loom))))]
#[doc(hidden)]
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
