//! Fair concurrency primitives for async Rust, without a runtime of their own.
//!
//! A stanchion is the post that holds the rope of an orderly queue. Everybody who waits here is served in turn.
//!
//! | you need to | type |
//! |---|---|
//! | admit only so many at once | [`Semaphore`] |
//! | let one in at a time | [`Mutex`] |
//! | serve the urgent first | [`PriorityQueue`], and [`TaskQueue`] that runs futures by priority |
//! | reuse what is costly to make | [`Pool`] |
//! | remember what is costly to look up | [`LruCache`] |
//! | wait from a plain thread | [`blocking`] |
//!
//! # What all of them promise
//!
//! - **Runtime-free.** No executor, no timer, no spawned thread. The same value serves any executors and plain threads,
//!   at the same time and in one queue. (Nor do they take part in tokio's cooperative budget: a loop that might never
//!   have to wait gives way by `tokio::task::coop::cooperative`.)
//! - **Fair.** The order of service is the order of first polls. Nobody barges, `try_*` included.
//! - **Cancellation is normal.** Every future may be dropped at any point; what it had been granted goes to the next.
//! - **Hostile code is expected.** No waker of yours runs under an internal lock: it may re-enter, panic, or drop the
//!   last handle. Its panic comes out of the call that woke it, after all is done and the others are woken; a call that has
//!   an item, an object or a value to return keeps it to itself.
//! - **Safe.** Waiters are linked by index. `unsafe` exists in one place: the data cell behind the mutex guards.
//! - **Proved.** The code that ships is the code that [loom](https://docs.rs/loom) explores; built with `--cfg loom`
//!   the primitives take part in the models of a crate that depends on this one.
//!
//! # Guides
//!
//! - [Models of your own](_guide::loom): looking for races in your code, with these primitives inside.
//! - Coming from elsewhere, their names, ours, what differs, and code before and after, which is run with the tests:
//!   - [tokio::sync](_guide::from_tokio): a changed `use` for semaphore and mutex; a priority queue for mpsc;
//!   - [async-lock](_guide::from_async_lock): the same locks, but nobody barges;
//!   - [deadpool](_guide::from_deadpool): managed and unmanaged pools, and its managers as they are;
//!   - [bb8](_guide::from_bb8): a pool without tasks of its own;
//!   - [moka](_guide::from_moka): one cache for threads and tasks, exact LRU instead of TinyLFU;
//!   - [lru](_guide::from_lru): the cache that was behind a mutex;
//!   - [async-priority-channel](_guide::from_async_priority_channel): order among equals.
//!
//! # Configurations
//!
//! There are no cargo features: everything is always there.
//!
//! | built with | what is different |
//! |---|---|
//! | nothing said | nothing: parking_lot's locks, std's atomics |
//! | `--cfg loom` | locks, atomics and cells are loom's; constructors are not `const`; timeouts end at once if they are zero, deadlines if they have passed, else never |
//! | debug assertions | what must hold is checked as work is done, and hidden `validate()` methods check all of it |
//!
//! The minimum supported Rust version is 1.85; raising it is a minor change. `unsafe` code is denied but for one file.

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
    Fixed, Get, GetError, GetOwned, Manager, Metrics, Object, Order, OwnedObject, Pool, PoolBuilder, PoolClosed, Status,
};
pub use priority_queue::{Closed, Key, Pop, PopMany, PriorityQueue, Push, TryPopError, TryPushError};
pub use semaphore::{
    Acquire, AcquireError, AcquireOwned, OwnedSemaphorePermit, Semaphore, SemaphorePermit, TryAcquireError,
};
pub use task_queue::{Idle, Panic, Run, TaskError, TaskHandle, TaskQueue, TrySubmitError};

#[cfg(any(fuzzing, all(test, not(loom))))]
#[doc(hidden)]
pub use lru_cache::shard_sequence as lru_cache_shard_sequence;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
