//! The models: every race that a comment in `src` names, explored by loom.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test --release --test loom [NAME]
//! ```
//!
//! Each model runs in a process of its own and prints how many interleavings it went through. There is no limit of time
//! or number, since loom passes silently when it is cut off: two threads are explored without bound, three with at most
//! three preemptions, four with two (`LOOM_MAX_PREEMPTIONS` overrides that). A model that explores fewer than ten
//! interleavings does not contend, and fails.
//!
//! What loom 0.7 does not explore: spurious failures of a weak compare-and-swap, time, load buffering. TESTING.md says what
//! sees to those.

#[cfg(loom)]
mod lru_cache;
#[cfg(loom)]
mod mutex;
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
    let models: Vec<support::Model> =
        [semaphore::MODELS, mutex::MODELS, priority_queue::MODELS, task_queue::MODELS, pool::MODELS, lru_cache::MODELS]
            .concat();
    support::main(&models);
}
