//! A permit is returned, forgotten or merged once.

use stanchion::Semaphore;

fn main() {
    let semaphore = Semaphore::new(3);
    let mut permit = semaphore.try_acquire().unwrap();
    let other = semaphore.try_acquire().unwrap();
    permit.merge(other);
    drop(other); //~ E0382
    permit.forget();
    drop(permit); //~ E0382
}
