//! A reference into the value must not outlive the guard, nor get out of the closure that narrows it.

use stanchion::{Mutex, MutexGuard};

fn main() {
    let mutex = Mutex::new(String::from("text"));
    let mut guard = mutex.try_lock().unwrap();
    let text: &mut String = &mut guard;
    drop(guard); //~ E0505
    text.clear();

    let mut escaped: Option<&mut String> = None;
    let part = MutexGuard::map(mutex.try_lock().unwrap(), |text| {
        escaped = Some(text); //~ E0521
        Box::leak(Box::new(0))
    });
    drop(part);
}
