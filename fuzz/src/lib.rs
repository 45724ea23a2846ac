//! The model tests that the fuzz targets run: sequences of operations on a primitive and on a model in plain data.
//!
//! They are tests of the crate: `cargo test` runs them from fixed seeds, and a fuzzer looks for sequences that reach new
//! code. From the top folder:
//!
//! ```text
//! RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer none semaphore -- -max_total_time=600
//! ```
//!
//! A nightly toolchain needs no `RUSTC_BOOTSTRAP`, and has a sanitizer, which finds little to check: the crate has one
//! `unsafe` block. An input that fails is written to `fuzz/artifacts`. Once it is understood it belongs to the
//! `REGRESSIONS` of `tests/model/main.rs` (without its first byte for `semaphore` and `priority_queue`).

#[path = "../../tests/model/mod.rs"]
mod model;

/// The private arena, against queues.
pub fn arena(data: &[u8]) {
    model::arena::run(data);
}

/// The semaphore, against two integers and a queue; the first byte selects wakers that re-enter.
pub fn semaphore(data: &[u8]) {
    match data {
        [first, rest @ ..] if first % 2 == 0 => model::semaphore::run(rest),
        [_, rest @ ..] => model::semaphore_reentrant::run(rest),
        [] => {}
    }
}

/// The mutex, against a flag and a queue.
pub fn mutex(data: &[u8]) {
    model::mutex::run(data);
}

/// The pool, against lists.
pub fn pool(data: &[u8]) {
    model::pool::run(data);
}

/// The priority queue, against a list; the first byte selects user code that re-enters.
pub fn priority_queue(data: &[u8]) {
    match data {
        [first, rest @ ..] if first % 2 == 0 => model::priority_queue::run(rest),
        [_, rest @ ..] => model::priority_queue_reentrant::run(rest),
        [] => {}
    }
}

/// The private orders of the queue, against lists.
pub fn order(data: &[u8]) {
    model::order::run(data);
}

/// The private shard of the cache, against a list.
pub fn shard(data: &[u8]) {
    model::shard::run(data);
}

/// The cache, against a list per shard.
pub fn lru_cache(data: &[u8]) {
    model::lru_cache::run(data);
}
