//! The primitives in one page: `cargo run --example quickstart`.
//!
//! Eight workers, some of them tasks and some plain threads, share two permits and one total.

use stanchion::{Mutex, Semaphore, blocking};
use std::thread;

static ADMISSION: Semaphore = Semaphore::new(2);
static TOTAL: Mutex<u64> = Mutex::new(0);

/// What every worker does; any executor can run it.
async fn work(amount: u64) {
    // Two at a time, in the order in which they asked.
    let _permit = ADMISSION.acquire().await.expect("nobody closes the semaphore");
    *TOTAL.lock().await += amount;
}

fn main() {
    thread::scope(|scope| {
        for amount in 1..=4 {
            // A thread without a runtime stands in the same line as the tasks.
            scope.spawn(move || blocking::wait(work(amount)));
            scope.spawn(move || smol::block_on(work(amount)));
        }
    });
    assert_eq!(*TOTAL.blocking_lock(), 20);

    // Under overload, say no while it is still early.
    let _both = ADMISSION.try_acquire_many(2).expect("all workers are done");
    match ADMISSION.try_acquire() {
        Ok(_) => println!("admitted"),
        Err(reason) => println!("shed: {reason}"),
    }
}
