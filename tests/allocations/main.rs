//! Allocations: none to acquire, wait or lock in the steady state, and little memory is kept after a storm.
//!
//! The counts are per thread, so neither other tests nor the harness disturb them.

#![cfg(not(loom))]

#[path = "../common/mod.rs"]
mod common;

mod lru_cache;
mod pool;
mod priority_queue;
mod semaphore;

use std::time::Duration;

use allocation_counter::measure;

/// The waiters of a storm.
const MILLION: usize = 1_000_000;

/// The bytes that may be kept after a storm.
const SMALL: i64 = 64 * 1024;

const HOUR: Duration = Duration::from_secs(3600);

/// Counts the allocations of a hundred runs of `action`, after a first run that may allocate.
fn allocations(mut action: impl FnMut()) -> u64 {
    action();
    measure(|| (0..100).for_each(|_| action())).count_total
}

#[test]
fn the_measure_sees_allocations() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1)))), 100);
    let mut kept = Vec::new();
    assert_eq!(measure(|| kept = std::hint::black_box(vec![0_u8; 1000])).bytes_current, 1000);
}
