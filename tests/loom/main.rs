//! The models: every race that a comment in `src` names, explored by loom.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test --release --test loom [NAME]
//! ```
//!
//! Each model runs in a process of its own and prints its number of interleavings, and how often each outcome of a call
//! that it observes was seen: a model that sees one outcome only fails. There is no limit of time or number, since loom
//! passes silently when it is cut off: two threads are explored without bound, three with at most three preemptions, four
//! with two (`LOOM_MAX_PREEMPTIONS` overrides that). A model that explores fewer than ten interleavings and observes no
//! call does not contend, and fails.
//!
//! Loom 0.7 does not explore spurious failures of a weak compare-and-swap, time, and load buffering. TESTING.md names the
//! tests of those.

#[cfg(loom)]
mod lru_cache;
#[cfg(loom)]
mod mutex;
#[cfg(loom)]
mod observing;
#[cfg(loom)]
mod pool;
#[cfg(loom)]
mod priority_queue;
#[cfg(loom)]
mod semaphore;
#[cfg(loom)]
mod support;
#[cfg(loom)]
mod task_queue;

#[cfg(not(loom))]
fn main() {
    println!("models need RUSTFLAGS=\"--cfg loom\"");
}

#[cfg(loom)]
fn main() {
    let models = [
        semaphore::MODELS,
        mutex::MODELS,
        priority_queue::MODELS,
        priority_queue::closing::MODELS,
        task_queue::MODELS,
        task_queue::shutdown::MODELS,
        pool::MODELS,
        lru_cache::MODELS,
        observing::MODELS,
    ];
    support::main(&models.concat());
}
