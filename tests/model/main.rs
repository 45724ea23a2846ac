//! The model tests of the fuzzers, from fixed seeds: random operations against models in plain data.
//!
//! The environment variable `STANCHION_SEEDS` sets the number of seeds. `REGRESSIONS` come from the fuzzers.

#![cfg(not(loom))]

#[path = "mod.rs"]
mod model;

use model::{
    arena, lru_cache, mutex, order, pool, priority_queue, priority_queue_reentrant, semaphore, semaphore_reentrant,
    shard,
};
use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};

/// Runs the operations that the bytes encode.
type ModelTest = fn(&[u8]);

/// Sequences that found a fault, in the crate or in a mutated one.
const REGRESSIONS: &[(ModelTest, &[u8])] = &[
    // A waiter is polled by the waker of another before its own waker is woken, which panics in its drop.
    (
        semaphore_reentrant::run,
        b"\xee\x46\x20\x67\x20\x67\x00\x00\x00\x00\x00\x1c\x1f\x4c\x02\x4c\xed\x4c\xed\xaa\xaa\x02\x4c\xed\x02\x4c\xed",
    ),
    // Two creations that the maintenance drives end at once, and the first of them fails.
    (
        pool::run,
        b"\xff\xff\x24\xff\xf7\xff\x00\x00\x00\x00\x00\x00\x40\x7a\x00\x00\xff\x00\x2c\xc4\x31\xc4\xc4\xc4\
          \xc8\xc4\x30\xc4\xc4\x1d\x1d\x1d\x1d\x1d\x1d\x1d\x1d\x1d\x1d\x29\x2b\x3a\x00\x0b\x2e\x2e\x00\x00\
          \x00\x9b\x00\xf8\xf0\x00\x10\x35\xc0\xa8\x00\xf8\xf0\xdc\xdc\xdc\xdc\xdc\xdc\xdc\x1d",
    ),
    // Adopted creations panic after the close, and `replenish` begins them afresh.
    (
        pool::run,
        b"\x01\x42\x00\x00\x00\xc8\xc4\x00\x2c\xc4\x31\xc4\xc4\xc4\xfa\x20\x2c\x24\x31\xc4\x00\xbe\xb8\x1d\
          \x00\x00\xe5\xe5\xe5\x1d\x02\x00\x00\x00\x00\xff\xf2\x00\x00\x00\xdc\xdc\x31\xc4\xc4\xc4\xc8\x30\
          \xc4\x1d\xc4",
    ),
];

#[test]
fn regressions() {
    for (run, data) in REGRESSIONS {
        run(data);
    }
}

fn run_seeds(run: ModelTest, seeds: u64) {
    let seeds = std::env::var("STANCHION_SEEDS").map_or(seeds, |seeds| seeds.parse().expect("a number of seeds"));
    for seed in 0..seeds {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut data = vec![0; rng.random_range(0..3_000)];
        rng.fill_bytes(&mut data);
        eprintln!("seed {seed}"); // shown if it fails
        run(&data);
    }
}

#[test]
fn arena() {
    run_seeds(arena::run, 100);
}

#[test]
fn semaphore() {
    run_seeds(semaphore::run, 300);
}

#[test]
fn semaphore_with_reentrant_wakers() {
    run_seeds(semaphore_reentrant::run, 300);
}

#[test]
fn mutex() {
    run_seeds(mutex::run, 300);
}

#[test]
fn pool() {
    run_seeds(pool::run, 500);
}

#[test]
fn priority_queue() {
    run_seeds(priority_queue::run, 200);
}

#[test]
fn priority_queue_with_reentrant_code() {
    run_seeds(priority_queue_reentrant::run, 300);
}

#[test]
fn order_of_the_queue() {
    run_seeds(order::run, 50);
}

#[test]
fn lru_cache() {
    run_seeds(lru_cache::run, 500);
}

#[test]
fn shard_of_the_cache() {
    run_seeds(shard::run, 100);
}
