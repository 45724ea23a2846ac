//! The fuzzers' sequences of operations, from fixed seeds: what the primitives do is what plain models do.
//!
//! The environment variable `STANCHION_SEEDS` says how many. `REGRESSIONS` are kept from the fuzzers.

#![cfg(not(loom))]

#[path = "mod.rs"]
mod model;

use model::{lru_cache, mutex, pool, priority_queue, priority_queue_reentrant, semaphore, semaphore_reentrant};
use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};

/// Plays the sequence that the bytes stand for.
type Game = fn(&[u8]);

/// Sequences that found something, in the crate or in a crate that was broken on purpose.
const REGRESSIONS: &[(Game, &[u8])] = &[
    // A waiter is polled by another's waker while its own is still to be woken; that one panics in its drop.
    (
        semaphore_reentrant::run,
        b"\xee\x46\x20\x67\x20\x67\x00\x00\x00\x00\x00\x1c\x1f\x4c\x02\x4c\xed\x4c\xed\xaa\xaa\x02\x4c\xed\x02\x4c\xed",
    ),
];

#[test]
fn regressions() {
    for (game, data) in REGRESSIONS {
        game(data);
    }
}

fn play(game: Game, seeds: u64) {
    let seeds = std::env::var("STANCHION_SEEDS").map_or(seeds, |seeds| seeds.parse().expect("a number of seeds"));
    for seed in 0..seeds {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut data = vec![0; rng.random_range(0..3_000)];
        rng.fill_bytes(&mut data);
        eprintln!("seed {seed}"); // shown if it fails
        game(&data);
    }
}

#[test]
fn semaphore() {
    play(semaphore::run, 300);
}

#[test]
fn semaphore_with_reentrant_wakers() {
    play(semaphore_reentrant::run, 300);
}

#[test]
fn mutex() {
    play(mutex::run, 300);
}

#[test]
fn pool() {
    play(pool::run, 500);
}

#[test]
fn priority_queue() {
    play(priority_queue::run, 200);
}

#[test]
fn priority_queue_with_reentrant_code() {
    play(priority_queue_reentrant::run, 300);
}

#[test]
fn lru_cache() {
    play(lru_cache::run, 500);
}
