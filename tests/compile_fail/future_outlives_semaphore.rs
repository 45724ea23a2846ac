//! A future leaves the queue of its semaphore, which must be there.

use stanchion::{Acquire, Semaphore};

fn main() {
    let future: Acquire<'_> = {
        let semaphore = Semaphore::new(1);
        semaphore.acquire() //~ E0597
    };
    drop(future);
}
