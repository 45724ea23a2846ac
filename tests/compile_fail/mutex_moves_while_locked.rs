//! While a guard lives its mutex can neither be moved, nor opened, nor borrowed exclusively.

use stanchion::Mutex;

fn main() {
    let mut mutex = Mutex::new(1);
    let guard = mutex.try_lock().unwrap();
    mutex.get_mut(); //~ E0502
    mutex.into_inner(); //~ E0505
    drop(guard);
}
