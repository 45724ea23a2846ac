//! A guard that could be shortened could write a short-lived reference into the value.

use stanchion::{MappedMutexGuard, MutexGuard, OwnedMappedMutexGuard, OwnedMutexGuard};

fn shorten<'a, 's>(guard: MutexGuard<'a, &'static str>) -> MutexGuard<'a, &'s str> {
    guard //~ lifetime
}

fn shorten_owned<'s>(guard: OwnedMutexGuard<&'static str>) -> OwnedMutexGuard<&'s str> {
    guard //~ lifetime
}

fn shorten_mapped<'a, 's>(guard: MappedMutexGuard<'a, &'static str>) -> MappedMutexGuard<'a, &'s str> {
    guard //~ lifetime
}

fn shorten_part<'s, T>(guard: OwnedMappedMutexGuard<T, &'static str>) -> OwnedMappedMutexGuard<T, &'s str> {
    guard //~ lifetime
}

fn shorten_whole<'s, U>(guard: OwnedMappedMutexGuard<&'static str, U>) -> OwnedMappedMutexGuard<&'s str, U> {
    guard //~ lifetime
}

fn main() {}
