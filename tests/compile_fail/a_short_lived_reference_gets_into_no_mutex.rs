//! What variance is about: the value would outlive what it refers to.

use stanchion::{Mutex, MutexGuard};

fn put<'s>(mut guard: MutexGuard<'_, &'s str>, text: &'s str) {
    *guard = text;
}

fn main() {
    static MUTEX: Mutex<&'static str> = Mutex::new("static");
    let text = String::from("gone");
    put(MUTEX.try_lock().unwrap(), &text); //~ E0597
}
