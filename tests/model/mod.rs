//! Sequences of operations, played on the real thing and on a model that is obviously right.
//!
//! A sequence is decoded from bytes, so that a fuzzer can write it (see `fuzz/`) and a test can draw it at random. The
//! model is integers and plain lists, and after every step everything that can be observed must be what it says: results,
//! counts, and which wakers were woken, how often, in which order.

pub(crate) mod alarm;
#[path = "../common/hooks.rs"]
pub(crate) mod hooks;
/// The former name of [`hooks`].
pub(crate) mod hostile {
    pub(crate) use super::hooks::Hooks as Hostile;
}
pub(crate) mod lru_cache;
pub(crate) mod mutex;
pub(crate) mod pool;
pub(crate) mod priority_queue;
pub(crate) mod priority_queue_reentrant;
pub(crate) mod semaphore;
pub(crate) mod semaphore_reentrant;
