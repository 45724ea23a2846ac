//! Model tests: random operations on a primitive and on a model in plain data.
//!
//! The operations are decoded from bytes, so that a fuzzer can write them (see `fuzz/`) and a test can draw them at
//! random. The model consists of integers and lists. After every step all that can be observed must agree with it:
//! results, counts, and which wakers were woken, how often and in which order.

pub(crate) mod alarm;
pub(crate) mod arena;
#[path = "../common/hooks.rs"]
pub(crate) mod hooks;
pub(crate) mod lru_cache;
pub(crate) mod mutex;
pub(crate) mod order;
pub(crate) mod pool;
pub(crate) mod priority_queue;
pub(crate) mod priority_queue_reentrant;
pub(crate) mod semaphore;
pub(crate) mod semaphore_reentrant;
pub(crate) mod shard;
