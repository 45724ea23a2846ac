//! A permit returns to its semaphore, which must be there.

use stanchion::{Semaphore, SemaphorePermit};

fn main() {
    let permit: SemaphorePermit<'_> = {
        let semaphore = Semaphore::new(1);
        semaphore.try_acquire().unwrap() //~ E0597
    };
    drop(permit);
}
