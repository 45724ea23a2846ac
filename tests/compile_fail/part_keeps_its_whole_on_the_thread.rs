//! The owned guard of a part keeps the whole alive, and may be the one to drop it.

use std::rc::Rc;
use std::sync::Arc;

use stanchion::{Mutex, OwnedMutexGuard};

fn send<T: Send>(_: T) {}

fn main() {
    let guard = Arc::new(Mutex::new((1_u8, Rc::new(2)))).try_lock_owned().unwrap();
    send(OwnedMutexGuard::map(guard, |pair| &mut pair.0)); //~ E0277
}
