//! A permit is returned once.

use stanchion::Semaphore;

fn main() {
    let semaphore = Semaphore::new(1);
    let permit = semaphore.try_acquire().unwrap();
    let _copy = permit.clone(); //~ E0599
}
