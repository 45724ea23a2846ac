//! A value that must stay on its thread keeps its mutex, the futures and the guards there.

use std::rc::Rc;
use std::sync::Arc;

use stanchion::{Mutex, OwnedMutexGuard};

fn send<T: Send>(_: T) {}
fn share<T: Sync>(_: &T) {}

fn main() {
    let mutex = Arc::new(Mutex::new(Rc::new(1)));
    share(&*mutex); //~ E0277
    send(mutex.lock()); //~ E0277
    send(mutex.clone().lock_owned()); //~ E0277
    send(mutex.try_lock().unwrap()); //~ E0277
    let guard = mutex.clone().try_lock_owned().unwrap();
    send(OwnedMutexGuard::map(guard, |value| value)); //~ E0277
}
