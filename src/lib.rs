//! Fair, runtime-agnostic concurrency primitives for async Rust.
//!
//! A stanchion is the post that holds the rope of an orderly queue: whatever waits here is served in order.
//!
//! | to | use |
//! |---|---|
//! | limit concurrency | [`Semaphore`] |
//! | give one task at a time access to a value | [`Mutex`] |
//! | process by priority | [`PriorityQueue`], and [`TaskQueue`], which runs futures |
//! | reuse expensive objects | [`Pool`] |
//! | remember the results of expensive lookups | [`LruCache`] |
//! | wait on a plain thread | [`blocking`] |
//!
//! # Guarantees
//!
//! - **Runtime-agnostic.** No executor, no timer, no spawned task or thread. One value serves any executors and plain threads
//!   at the same time, in one queue. They do not take part in tokio's cooperative budget: a task that loops over locks that
//!   are always free yields by `tokio::task::consume_budget().await`, after it has dropped the guard.
//! - **Fair.** Strict FIFO by first poll, within a priority. Nothing barges, `try_*` included.
//! - **Cancel-safe.** Every future may be dropped at any point: no permit, object, item or wake-up is lost. What it had been
//!   granted goes to the next waiter.
//! - **Prepared for user code that panics or re-enters.** No waker, destructor or manager runs under an internal lock. When a
//!   waker panics, the others are woken first, and then the call that woke it panics; but a call that has a permit, an item,
//!   an object or a value to return returns it, and discards the panic.
//! - **Safe.** Waiters are linked by index. `unsafe` stands in one place: the data cell of the mutex.
//! - **Model-checked.** [loom](https://docs.rs/loom) explores the code that ships, within the bounds that the repository's
//!   `tests/loom` states. Built with `--cfg loom` the primitives take part in the models of crates that depend on this one.
//!
//! # Guides
//!
//! - [Models of your own](_guide::loom): finding races in code that uses these primitives.
//! - [Tasks](_guide::tasks): scaling workers, retries, tasks that await tasks, limits by class, deadlines.
//! - Coming from another crate: its names and ours, the differences, and tested code before and after:
//!   - [tokio::sync](_guide::from_tokio): a changed `use` for semaphore and mutex; a priority queue for mpsc;
//!   - [async-lock](_guide::from_async_lock): the same locks, but nothing barges;
//!   - [deadpool](_guide::from_deadpool): managed and unmanaged pools, and its managers as they are;
//!   - [bb8](_guide::from_bb8): a pool without tasks of its own;
//!   - [moka](_guide::from_moka): one cache for threads and tasks, exact LRU instead of TinyLFU;
//!   - [quick_cache](_guide::from_quick_cache): exact LRU, entries that expire, loads that are never stale;
//!   - [lru](_guide::from_lru): the cache that was behind a mutex;
//!   - [async-priority-channel](_guide::from_async_priority_channel): order among equals.
//!
//! # Configurations
//!
//! There are no cargo features.
//!
//! | built with | differs in |
//! |---|---|
//! | the default | nothing: parking_lot's locks, std's atomics |
//! | `--cfg loom` | locks, atomics and cells are loom's; constructors are not `const`; a timeout of zero and a deadline that has passed end at once, any other never |
//! | debug assertions | invariants are checked as work is done |
//!
//! The minimum supported Rust version is 1.85; raising it is a minor change. `unsafe` code is denied outside one file.

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
