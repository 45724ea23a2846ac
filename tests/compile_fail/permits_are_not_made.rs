//! A permit comes from a semaphore.

use stanchion::{Semaphore, SemaphorePermit};

fn main() {
    let semaphore = Semaphore::new(1);
    let _ = SemaphorePermit { semaphore: &semaphore, permits: 9 }; //~ E0451
}
