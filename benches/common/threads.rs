//! Threads that all do the same at once: the cost of one word, or one lock, under contention.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use criterion::{SamplingMode, Throughput};

use super::Group;
use super::gate::{Gate, now};

/// Numbers of threads, as works name them.
pub(crate) const COUNTS: [(&str, usize); 5] =
    [("1 thread", 1), ("2 threads", 2), ("4 threads", 4), ("8 threads", 8), ("16 threads", 16)];

/// Each thread gets its number, and how often to do its operation; the time is for one operation of all together.
pub(crate) fn contend(group: &mut Group<'_>, name: &str, threads: usize, work: impl Fn(usize, u64) + Sync) {
    group.throughput(Throughput::Elements(threads as u64)).sampling_mode(SamplingMode::Flat);
    // Few samples, each long enough for threads that outnumber the cores to have their turns.
    group.sample_size(10).warm_up_time(Duration::from_millis(100)).measurement_time(Duration::from_millis(300));
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|times| side_by_side(threads, |thread| work(thread, times)));
    });
}

/// Acquires and releases, with a permit for each thread: none waits, but all write to the same places.
pub(crate) fn enough_for_all<G: Gate>(group: &mut Group<'_>, threads: usize) {
    let gate = G::new(threads);
    contend(group, G::NAME, threads, |_, times| {
        for _ in 0..times {
            drop(now(gate.acquire()));
        }
    });
}

/// From the first beginning to the last end.
pub(crate) fn side_by_side(threads: usize, work: impl Fn(usize) + Sync) -> Duration {
    let barrier = Barrier::new(threads);
    let work = |thread| {
        barrier.wait();
        let start = Instant::now();
        work(thread);
        (start, Instant::now())
    };
    thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..threads).map(|thread| scope.spawn(move || work(thread))).collect();
        let times: Vec<_> = threads.into_iter().map(|thread| thread.join().expect("a thread panicked")).collect();
        let (first, last) = (times.iter().map(|time| time.0).min(), times.iter().map(|time| time.1).max());
        last.zip(first).map_or(Duration::ZERO, |(last, first)| last - first)
    })
}
