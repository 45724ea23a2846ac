//! Sizes of the public types, on 64-bit machines.

#![cfg(all(not(loom), target_pointer_width = "64"))]

use std::mem::size_of;

use stanchion::blocking::Elapsed;
use stanchion::{
    Acquire, AcquireError, AcquireOwned, Cause, Closed, Fixed, GetError, Key, Lock, LockOwned, LruCache,
    MappedMutexGuard, Mutex, MutexGuard, Object, Order, OwnedMappedMutexGuard, OwnedMutexGuard, OwnedObject,
    OwnedSemaphorePermit, Pop, PopMany, Push, Semaphore, SemaphorePermit, Stats, Status, TryAcquireError, TryLockError,
    TryPopError, TryPushError,
};

#[test]
fn a_semaphore_fits_into_three_words() {
    assert!(size_of::<Semaphore>() <= 24, "{}", size_of::<Semaphore>());
}

#[test]
fn a_mutex_adds_nothing_to_its_semaphore_and_its_value() {
    assert_eq!(size_of::<Mutex<()>>(), size_of::<Semaphore>());
    assert_eq!(size_of::<Mutex<[u64; 5]>>(), size_of::<Semaphore>() + 40);
    assert!(size_of::<Mutex<()>>() <= 24, "{}", size_of::<Mutex<()>>());
}

#[test]
fn a_permit_is_a_pointer_and_a_count() {
    assert_eq!(size_of::<SemaphorePermit<'_>>(), 16);
    assert_eq!(size_of::<OwnedSemaphorePermit>(), 16);
    assert_eq!(size_of::<Option<SemaphorePermit<'_>>>(), 16);
    assert_eq!(size_of::<Option<OwnedSemaphorePermit>>(), 16);
}

#[test]
fn a_guard_is_a_pointer_and_a_mapped_one_two() {
    assert_eq!(size_of::<MutexGuard<'_, [u64; 5]>>(), 8);
    assert_eq!(size_of::<OwnedMutexGuard<[u64; 5]>>(), 8);
    assert_eq!(size_of::<Option<MutexGuard<'_, u64>>>(), 8);
    assert_eq!(size_of::<MappedMutexGuard<'_, u64>>(), 16);
    assert_eq!(size_of::<OwnedMappedMutexGuard<[u64; 5], u64>>(), 16);
    // One word more for the length of a slice.
    assert_eq!(size_of::<MutexGuard<'_, [u64]>>(), 16);
    assert_eq!(size_of::<MappedMutexGuard<'_, [u64]>>(), 24);
}

#[test]
fn a_future_is_at_most_four_words() {
    assert!(size_of::<Acquire<'_>>() <= 32, "{}", size_of::<Acquire<'_>>());
    assert!(size_of::<AcquireOwned>() <= 32, "{}", size_of::<AcquireOwned>());
    assert!(size_of::<Lock<'_, [u64; 5]>>() <= 32, "{}", size_of::<Lock<'_, [u64; 5]>>());
    assert!(size_of::<LockOwned<[u64; 5]>>() <= 32, "{}", size_of::<LockOwned<[u64; 5]>>());
    assert!(size_of::<Pop<'_, u64, [u64; 5]>>() <= 32, "{}", size_of::<Pop<'_, u64, [u64; 5]>>());
    // And a pointer and a limit.
    assert!(size_of::<PopMany<'_, u64, [u64; 5]>>() <= 48, "{}", size_of::<PopMany<'_, u64, [u64; 5]>>());
}

#[test]
fn a_push_is_its_pair_and_at_most_four_words() {
    assert!(size_of::<Push<'_, u64, [u64; 5]>>() <= 48 + 32, "{}", size_of::<Push<'_, u64, [u64; 5]>>());
}

#[test]
fn a_key_is_a_slot_and_an_id() {
    assert_eq!(size_of::<Key>(), 16);
}

#[test]
fn an_object_is_a_pointer_to_its_pool_and_a_box() {
    assert_eq!([size_of::<Object<'_, Fixed<[u64; 5]>>>(), size_of::<OwnedObject<Fixed<[u64; 5]>>>()], [16; 2]);
    assert_eq!(size_of::<Option<Object<'_, Fixed<u64>>>>(), 16);
    assert_eq!(size_of::<Option<OwnedObject<Fixed<u64>>>>(), 16);
    assert_eq!([size_of::<Status>(), size_of::<Order>()], [48, 1]);
}

#[test]
fn a_cache_is_one_shard_and_what_all_of_them_share() {
    assert!(size_of::<LruCache<u64, u64>>() <= 640, "{}", size_of::<LruCache<u64, u64>>());
    assert_eq!(size_of::<LruCache<u64, u64>>(), size_of::<LruCache<[u64; 5], String>>(), "nothing is kept inside");
    assert_eq!([size_of::<Option<Cause>>(), size_of::<Stats>()], [1, 7 * 8]);
}

#[test]
fn errors_are_at_most_a_byte() {
    assert_eq!([size_of::<AcquireError>(), size_of::<TryLockError>(), size_of::<Elapsed>()], [0; 3]);
    assert_eq!([size_of::<TryAcquireError>(), size_of::<TryPopError>()], [1, 1]);
    assert_eq!([size_of::<Closed<u64>>(), size_of::<TryPushError<u64>>()], [8, 16], "besides the item");
    assert_eq!([size_of::<GetError<()>>(), size_of::<GetError<u64>>()], [1, 16], "besides the cause");
    assert_eq!(size_of::<Result<SemaphorePermit<'_>, AcquireError>>(), 16);
}
