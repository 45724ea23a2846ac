//! As in the program beside this one, but the closure returns a borrow that it has captured: the type of the part before
//! only says that the borrow lives as long.

use std::sync::Arc;

use stanchion::{Mutex, OwnedMappedMutexGuard, OwnedMutexGuard};

fn smuggle<'b, V: Send + 'static>(borrow: &'b mut V) -> OwnedMappedMutexGuard<(), V> {
    let unit: &'b () = &();
    let guard = Arc::new(Mutex::new(())).try_lock_owned().unwrap();
    let part: OwnedMappedMutexGuard<(), &'b ()> = OwnedMutexGuard::map(guard, move |_| Box::leak(Box::new(unit)));
    OwnedMappedMutexGuard::try_map(part, move |_: &mut &'b ()| Some(borrow)).unwrap() //~ E0521
}

fn main() {
    let mut number = 1;
    let (mut one, mut other) = (smuggle(&mut number), smuggle(&mut number));
    let (one, other): (&mut i32, &mut i32) = (&mut one, &mut other);
    assert_ne!(std::mem::replace(one, 2), *other);
}
