//! A guard that is shared gives `&T` to several threads.

use std::cell::Cell;
use std::sync::Arc;

use stanchion::{Mutex, MutexGuard, OwnedMutexGuard};

fn share<T: Sync>(_: &T) {}

fn main() {
    let mutex = Arc::new(Mutex::new(Cell::new(1)));
    share(&*mutex);
    share(&mutex.try_lock().unwrap()); //~ E0277
    share(&mutex.clone().try_lock_owned().unwrap()); //~ E0277
    share(&MutexGuard::map(mutex.try_lock().unwrap(), |value| value)); //~ E0277
    share(&OwnedMutexGuard::map(mutex.clone().try_lock_owned().unwrap(), |value| value)); //~ E0277
}
