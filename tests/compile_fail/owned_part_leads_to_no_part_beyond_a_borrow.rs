//! An owned guard of a part forgets the type of the part before, and a borrow that ends with it: a second `map` must
//! not lead through a reference to what the reference only borrows.

use std::sync::Arc;

use stanchion::{Mutex, OwnedMappedMutexGuard, OwnedMutexGuard};

fn dangling() -> OwnedMappedMutexGuard<(), String> {
    let mut local = String::from("dropped when this returns");
    let borrow: &mut String = &mut local; //~ E0597
    let guard: OwnedMutexGuard<()> = Arc::new(Mutex::new(())).try_lock_owned().unwrap();
    let part: OwnedMappedMutexGuard<(), &mut String> = OwnedMutexGuard::map(guard, move |_| Box::leak(Box::new(borrow)));
    OwnedMappedMutexGuard::map(part, |part| &mut **part)
}

fn main() {
    assert_eq!(*dangling(), "read after it was freed");
}
