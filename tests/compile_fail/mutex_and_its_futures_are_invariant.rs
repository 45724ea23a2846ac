//! Neither may a mutex, or the way to its guard, be shortened.

use stanchion::{Lock, LockOwned, Mutex};

fn shorten<'a, 's>(mutex: &'a Mutex<&'static str>) -> &'a Mutex<&'s str> {
    mutex //~ lifetime
}

fn shorten_lock<'a, 's>(lock: Lock<'a, &'static str>) -> Lock<'a, &'s str> {
    lock //~ lifetime
}

fn shorten_lock_owned<'s>(lock: LockOwned<&'static str>) -> LockOwned<&'s str> {
    lock //~ lifetime
}

fn main() {}
