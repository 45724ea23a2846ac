//! A guard unlocks its mutex, which must be there; a mapped one too.

use stanchion::{MappedMutexGuard, Mutex, MutexGuard};

fn main() {
    let guard: MutexGuard<'_, u8> = {
        let mutex = Mutex::new(1);
        mutex.try_lock().unwrap() //~ E0597
    };
    drop(guard);
    let part: MappedMutexGuard<'_, u8> = {
        let mutex = Mutex::new((1, 2));
        MutexGuard::map(mutex.try_lock().unwrap(), |pair| &mut pair.0) //~ E0597
    };
    drop(part);
}
