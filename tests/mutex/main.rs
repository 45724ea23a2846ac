//! How a mutex behaves: who may touch the value and when, whatever its guards, their parts and the waiting go through.

#![cfg(not(loom))]

#[path = "../common/mod.rs"]
mod common;

use std::cell::Cell;
use std::fmt::{Debug, Display};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::Mutex as StdMutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::hostile::Hostile;
use common::{Check, Log, Task, assert_numbers, panic_of, poll, poll_with, ready, until};
use stanchion::{
    LockOwned, MappedMutexGuard, Mutex, MutexGuard, OwnedMappedMutexGuard, OwnedMutexGuard, TryLockError, blocking,
};

fn shared<T>(value: T) -> Arc<Mutex<T>> {
    Arc::new(Mutex::new(value))
}

/// Counts its drops.
#[derive(Debug)]
struct Dropped(Arc<AtomicUsize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Whether the mutex is free: nobody holds it, nobody waits.
fn is_free<T: ?Sized>(mutex: &Mutex<T>) -> bool {
    mutex.check();
    mutex.waiters() == 0 && mutex.try_lock().is_ok()
}

// ---------------------------------------------------------------------------------------------------------------------
// Locking
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn only_one_guard_exists_at_a_time() {
    let mutex = shared(1);
    let mut guard = ready(&mut mutex.lock());
    *guard += 1;
    assert!(mutex.try_lock().is_err() && mutex.clone().try_lock_owned().is_err());
    assert!(poll(&mut mutex.lock()).is_pending() && poll(&mut mutex.clone().lock_owned()).is_pending());
    drop(guard);
    let mut guard = ready(&mut mutex.clone().lock_owned());
    *guard += 1;
    assert!(mutex.try_lock().is_err() && mutex.clone().try_lock_owned().is_err());
    drop(guard);
    let mut guard = mutex.try_lock().unwrap();
    *guard += 1;
    assert!(mutex.try_lock().is_err());
    drop(guard);
    let mut guard = mutex.clone().try_lock_owned().unwrap();
    *guard += 1;
    assert!(mutex.try_lock().is_err());
    drop(guard);
    assert!(is_free(&mutex));
    assert_eq!(*mutex.try_lock().unwrap(), 5);
}

#[test]
fn a_mutex_can_be_made_in_a_static() {
    static MUTEX: Mutex<Vec<u8>> = Mutex::new(Vec::new());
    ready(&mut MUTEX.lock()).push(1);
    MUTEX.blocking_lock().push(2);
    assert_eq!(*MUTEX.try_lock().unwrap(), [1, 2]);
}

#[test]
fn the_lock_is_handed_over_in_the_order_of_the_first_polls() {
    const WAITERS: usize = 100;
    let mutex = Mutex::new(Vec::new());
    let log = Arc::new(Log::default());
    let mut guard = Some(mutex.try_lock().unwrap());
    let mut line: Vec<_> = (0..WAITERS).map(|_| Some(mutex.lock())).collect();
    // First polled from the last made to the first made.
    for (index, future) in line.iter_mut().enumerate().rev() {
        assert!(poll_with(future.as_mut().unwrap(), &log.waker(index)).is_pending());
    }
    for index in (0..WAITERS).rev() {
        assert_eq!(mutex.waiters(), index + 1);
        drop(guard.take());
        assert_numbers(&log.take(), [index]);
        assert!(line[..index].iter_mut().all(|future| poll(future.as_mut().unwrap()).is_pending()));
        for (index, future) in line[..index].iter_mut().enumerate() {
            assert!(poll_with(future.as_mut().unwrap(), &log.waker(index)).is_pending());
        }
        let mut next = ready(&mut line[index].take().unwrap());
        next.push(index);
        guard = Some(next);
    }
    drop((guard, line));
    mutex.check();
    assert_numbers(&mutex.into_inner(), (0..WAITERS).rev());
}

#[test]
fn try_lock_never_barges() {
    let mutex = shared(());
    let guard = mutex.try_lock().unwrap();
    let mut first = Task::waiting(mutex.lock());
    let mut second = Task::waiting(mutex.clone().lock_owned());
    drop(guard);
    // Handed over, though not yet claimed.
    assert!(mutex.try_lock().is_err() && mutex.clone().try_lock_owned().is_err());
    drop(first.ready());
    assert!(mutex.try_lock().is_err());
    drop(second.ready());
    assert!(is_free(&mutex));
}

#[test]
fn lock_never_barges() {
    let mutex = Mutex::new(());
    let guard = mutex.try_lock().unwrap();
    let mut waiting = Task::waiting(mutex.lock());
    drop(guard);
    let mut late = Task::waiting(mutex.lock());
    drop(waiting.ready());
    assert_eq!(late.wakes(), 1);
    drop(late.ready());
    assert!(is_free(&mutex));
}

#[test]
fn waiters_counts_those_polled_and_not_yet_handed_the_lock() {
    let mutex = Mutex::new(());
    let guard = mutex.try_lock().unwrap();
    let never_polled = mutex.lock();
    assert_eq!(mutex.waiters(), 0);
    let first = Task::waiting(mutex.lock());
    let second = Task::waiting(mutex.lock());
    assert_eq!(mutex.waiters(), 2);
    drop(guard);
    assert_eq!(mutex.waiters(), 1);
    drop(second);
    assert_eq!(mutex.waiters(), 0);
    drop((first, never_polled));
    assert!(is_free(&mutex));
}

#[test]
fn a_queued_lock_that_is_dropped_is_skipped() {
    let mutex = Mutex::new(());
    let guard = mutex.try_lock().unwrap();
    let first = Task::waiting(mutex.lock());
    let mut second = Task::waiting(mutex.lock());
    drop(first);
    drop(guard);
    assert_eq!(second.wakes(), 1);
    drop(second.ready());
    assert!(is_free(&mutex));
}

#[test]
fn a_lock_that_is_dropped_when_it_was_handed_over_goes_to_the_next() {
    let mutex = shared(());
    let guard = mutex.try_lock().unwrap();
    let first = Task::waiting(mutex.clone().lock_owned());
    let second = Task::waiting(mutex.lock());
    let mut third = Task::waiting(mutex.lock());
    drop(guard);
    assert_eq!((first.wakes(), second.wakes(), third.wakes()), (1, 0, 0));
    drop(first);
    assert_eq!((second.wakes(), third.wakes()), (1, 0));
    mutex.check();
    drop(second);
    assert_eq!(third.wakes(), 1);
    drop(third.ready());
    assert!(is_free(&mutex));
}

#[test]
fn a_lock_that_was_never_polled_has_no_effect() {
    let mutex = shared(());
    let futures = (mutex.lock(), mutex.clone().lock_owned());
    assert!(is_free(&mutex));
    drop(futures);
    assert!(is_free(&mutex));
    assert_eq!(Arc::strong_count(&mutex), 1);
}

#[test]
fn a_forgotten_guard_keeps_the_mutex_locked_and_the_value_accessible_to_its_owner() {
    let mut mutex = Mutex::new(7);
    std::mem::forget(mutex.try_lock().unwrap());
    assert!(mutex.try_lock().is_err());
    *mutex.get_mut() += 1;
    assert_eq!(mutex.into_inner(), 8);
}

#[test]
fn polling_after_completion_panics_and_locks_nothing() {
    let mutex = shared(());
    let mut borrowed = mutex.lock();
    drop(ready(&mut borrowed));
    assert!(panic_of(|| poll(&mut borrowed).is_ready()).contains("ready"));
    let mut owned = mutex.clone().lock_owned();
    drop(ready(&mut owned));
    assert!(panic_of(|| poll(&mut owned).is_ready()).contains("ready"));
    drop((borrowed, owned));
    assert!(is_free(&mutex));
}

#[test]
fn a_panic_while_locked_unlocks_without_poisoning() {
    let mutex = shared(0);
    assert_eq!(
        panic_of(|| {
            let mut guard = mutex.try_lock().unwrap();
            *guard = 1;
            panic!("while locked");
        }),
        "while locked"
    );
    assert!(is_free(&mutex));
    assert_eq!(
        panic_of(|| {
            let mut guard = mutex.clone().try_lock_owned().unwrap();
            *guard += 1;
            panic!("while locked");
        }),
        "while locked"
    );
    assert!(is_free(&mutex));
    let mut waiting = None;
    assert_eq!(
        panic_of(|| {
            let _guard = mutex.try_lock().unwrap();
            waiting = Some(Task::waiting(mutex.lock()));
            panic!("while locked");
        }),
        "while locked"
    );
    assert_eq!(*waiting.unwrap().ready(), 2, "handed over to the waiting all the same");
    assert!(is_free(&mutex));
}

#[test]
fn wakers_may_use_the_mutex() {
    let mutex = shared(Vec::new());
    let guard = mutex.try_lock().unwrap();
    let slot: Arc<StdMutex<Option<LockOwned<Vec<&str>>>>> = Arc::default();
    let waker = {
        let (mutex, slot) = (mutex.clone(), slot.clone());
        Hostile::new().on_wake(move || {
            assert!(mutex.try_lock().is_err(), "the one to be woken has it");
            assert!(format!("{mutex:?}").contains("<locked>"));
            assert!(poll(&mut mutex.lock()).is_pending());
            let mut future = slot.lock().unwrap().take().unwrap();
            ready(&mut future).push("from the waker");
            mutex.try_lock().unwrap().push("and again");
            mutex.check();
        })
    };
    let mut future = mutex.clone().lock_owned();
    assert!(poll_with(&mut future, &waker.waker()).is_pending());
    *slot.lock().unwrap() = Some(future);
    drop(guard);
    assert_eq!(*mutex.try_lock().unwrap(), ["from the waker", "and again"]);
}

#[test]
fn a_waker_that_panics_leaves_the_lock_handed_over() {
    let mutex = Mutex::new(());
    let guard = mutex.try_lock().unwrap();
    let mut first = mutex.lock();
    assert!(poll_with(&mut first, &Hostile::new().on_wake(|| panic!("the wake")).waker()).is_pending());
    let mut second = Task::waiting(mutex.lock());
    assert_eq!(panic_of(|| drop(guard)), "the wake");
    assert!(second.is_pending());
    drop(ready(&mut first));
    drop(second.ready());
    assert!(is_free(&mutex));
}

// ---------------------------------------------------------------------------------------------------------------------
// Guards and their parts
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn a_guard_knows_its_mutex() {
    let mutex = shared(1);
    let guard = mutex.try_lock().unwrap();
    assert!(std::ptr::eq(MutexGuard::mutex(&guard), &*mutex));
    let of_guard: &Mutex<i32> = MutexGuard::mutex(&guard);
    drop(guard);
    assert!(is_free(of_guard), "the mutex outlives the guard that led to it");
    let guard = mutex.clone().try_lock_owned().unwrap();
    assert!(Arc::ptr_eq(OwnedMutexGuard::mutex(&guard), &mutex));
}

#[test]
fn an_owned_guard_keeps_the_value_alive() {
    let drops = Arc::new(AtomicUsize::new(0));
    let mutex = shared((Dropped(drops.clone()), 5));
    let weak = Arc::downgrade(&mutex);
    let guard = mutex.try_lock_owned().unwrap();
    assert_eq!((guard.1, drops.load(Ordering::Relaxed)), (5, 0));
    let part = OwnedMutexGuard::map(guard, |pair| &mut pair.1);
    assert_eq!((*part, drops.load(Ordering::Relaxed)), (5, 0));
    let part = OwnedMappedMutexGuard::map(part, |number| number);
    assert!(weak.upgrade().unwrap().try_lock().is_err());
    assert_eq!((*part, drops.load(Ordering::Relaxed)), (5, 0));
    drop(part);
    assert!(weak.upgrade().is_none());
    assert_eq!(drops.load(Ordering::Relaxed), 1);
}

#[test]
fn a_mapped_guard_gives_the_part_and_unlocks_once() {
    let mutex = Mutex::new((1, String::from("two")));
    let guard = mutex.try_lock().unwrap();
    let mut part: MappedMutexGuard<'_, String> = MutexGuard::map(guard, |pair| &mut pair.1);
    part.push('!');
    assert!(mutex.try_lock().is_err());
    let mut next = Task::waiting(mutex.lock());
    let mut part: MappedMutexGuard<'_, str> = MappedMutexGuard::map(part, |text| &mut text[1..]);
    part.make_ascii_uppercase();
    assert_eq!((&*part, next.wakes(), mutex.waiters()), ("WO!", 0, 1));
    drop(part);
    assert_eq!(next.wakes(), 1);
    assert_eq!(*next.ready(), (1, String::from("tWO!")));
    assert!(is_free(&mutex));
}

#[test]
fn an_owned_mapped_guard_gives_the_part_and_unlocks_once() {
    let mutex = shared((1, String::from("two")));
    let guard = mutex.clone().try_lock_owned().unwrap();
    let mut part: OwnedMappedMutexGuard<(i32, String), String> = OwnedMutexGuard::map(guard, |pair| &mut pair.1);
    part.push('!');
    assert!(mutex.try_lock().is_err());
    let mut next = Task::waiting(mutex.lock());
    let mut part: OwnedMappedMutexGuard<_, str> = OwnedMappedMutexGuard::map(part, |text| &mut text[1..]);
    part.make_ascii_uppercase();
    assert_eq!((&*part, next.wakes(), mutex.waiters(), Arc::strong_count(&mutex)), ("WO!", 0, 1, 2));
    drop(part);
    assert_eq!((next.wakes(), Arc::strong_count(&mutex)), (1, 1));
    assert_eq!(*next.ready(), (1, String::from("tWO!")));
    assert!(is_free(&mutex));
}

#[test]
fn try_map_gives_the_part_or_the_guard_back() {
    let mutex = Mutex::new(vec![1, 2, 3]);
    let guard = mutex.try_lock().unwrap();
    let mut guard = MutexGuard::try_map(guard, |numbers| numbers.get_mut(3)).unwrap_err();
    assert!(mutex.try_lock().is_err());
    guard.push(4);
    let part: MappedMutexGuard<'_, [i32]> = MutexGuard::try_map(guard, |numbers| numbers.get_mut(1..)).unwrap();
    let part = MappedMutexGuard::try_map(part, |numbers| numbers.get_mut(3)).unwrap_err();
    assert!(mutex.try_lock().is_err());
    let mut part = MappedMutexGuard::try_map(part, |numbers| numbers.get_mut(2)).unwrap();
    *part *= 10;
    assert!(mutex.try_lock().is_err());
    drop(part);
    assert!(is_free(&mutex));
    assert_eq!(mutex.into_inner(), [1, 2, 3, 40]);
}

#[test]
fn try_map_of_an_owned_guard_gives_the_part_or_the_guard_back() {
    let mutex = shared(vec![1, 2, 3]);
    let guard = mutex.clone().try_lock_owned().unwrap();
    let mut guard = OwnedMutexGuard::try_map(guard, |numbers| numbers.get_mut(3)).unwrap_err();
    assert!(mutex.try_lock().is_err());
    guard.push(4);
    let part = OwnedMutexGuard::try_map(guard, |numbers| numbers.get_mut(1..)).unwrap();
    let part = OwnedMappedMutexGuard::try_map(part, |numbers| numbers.get_mut(3)).unwrap_err();
    assert!(mutex.try_lock().is_err());
    let mut part = OwnedMappedMutexGuard::try_map(part, |numbers| numbers.get_mut(2)).unwrap();
    *part *= 10;
    assert!(mutex.try_lock().is_err());
    drop(part);
    assert!(is_free(&mutex));
    assert_eq!(Arc::into_inner(mutex).unwrap().into_inner(), [1, 2, 3, 40]);
}

/// Asserts that `panicking` unlocks `mutex` once: one waiter gets it, and the next only after that one.
#[track_caller]
fn unlocks_once<T: ?Sized>(mutex: &Mutex<T>, panicking: impl FnOnce()) {
    let mut first = Task::waiting(mutex.lock());
    let mut second = Task::waiting(mutex.lock());
    assert_eq!(panic_of(panicking), "in the closure");
    assert_eq!((first.wakes(), second.wakes()), (1, 0));
    let guard = first.ready();
    assert!(second.is_pending());
    drop(guard);
    drop(second.ready());
    assert!(is_free(mutex));
}

#[test]
fn a_panic_in_the_closure_of_a_map_unlocks_once() {
    fn fail<T: ?Sized, V: ?Sized>(_: &mut T) -> &mut V {
        panic!("in the closure")
    }
    fn try_fail<T: ?Sized, V: ?Sized>(_: &mut T) -> Option<&mut V> {
        panic!("in the closure")
    }
    let mutex = shared(1);
    let guard = || ready(&mut mutex.lock());
    let owned = || ready(&mut mutex.clone().lock_owned());

    let held = guard();
    unlocks_once(&mutex, || drop(MutexGuard::map(held, fail::<_, u8>)));
    let held = guard();
    unlocks_once(&mutex, || drop(MutexGuard::try_map(held, try_fail::<_, u8>)));
    let held = MutexGuard::map(guard(), |value| value);
    unlocks_once(&mutex, || drop(MappedMutexGuard::map(held, fail::<_, u8>)));
    let held = MutexGuard::map(guard(), |value| value);
    unlocks_once(&mutex, || drop(MappedMutexGuard::try_map(held, try_fail::<_, u8>)));
    let held = owned();
    unlocks_once(&mutex, || drop(OwnedMutexGuard::map(held, fail::<_, u8>)));
    let held = owned();
    unlocks_once(&mutex, || drop(OwnedMutexGuard::try_map(held, try_fail::<_, u8>)));
    let held = OwnedMutexGuard::map(owned(), |value| value);
    unlocks_once(&mutex, || drop(OwnedMappedMutexGuard::map(held, fail::<_, u8>)));
    let held = OwnedMutexGuard::map(owned(), |value| value);
    unlocks_once(&mutex, || drop(OwnedMappedMutexGuard::try_map(held, try_fail::<_, u8>)));
    assert_eq!(Arc::strong_count(&mutex), 1);
}

#[test]
fn a_guard_may_be_mapped_to_what_lies_outside_the_value() {
    let mutex = Mutex::new(1);
    let mut elsewhere = [5, 6];
    let mut part = MutexGuard::map(mutex.try_lock().unwrap(), |_| Box::leak(Box::new(9)));
    *part += 1;
    assert_eq!(*part, 10);
    drop(part);
    assert!(is_free(&mutex));
    let mutex = Mutex::new(&mut elsewhere);
    let mut part = MutexGuard::map(mutex.try_lock().unwrap(), |array| &mut array[1]);
    *part += 1;
    drop(part);
    assert!(is_free(&mutex));
    assert_eq!(elsewhere, [5, 7]);
}

#[test]
fn a_guard_may_be_mapped_to_a_part_of_no_size() {
    let mutex = Mutex::new([1, 2, 3]);
    let part: MappedMutexGuard<'_, [i32]> = MutexGuard::map(mutex.try_lock().unwrap(), |array| &mut array[..0]);
    assert!(part.is_empty() && mutex.try_lock().is_err());
    drop(part);
    assert!(is_free(&mutex));
}

#[test]
fn guards_may_move_to_another_thread() {
    let mutex = shared((1, 2));
    let owned = mutex.clone().try_lock_owned().unwrap();
    std::thread::spawn(move || drop(owned)).join().unwrap();
    let mapped = OwnedMutexGuard::map(mutex.clone().try_lock_owned().unwrap(), |pair| &mut pair.0);
    std::thread::spawn(move || drop(mapped)).join().unwrap();
    let borrowed = mutex.try_lock().unwrap();
    std::thread::scope(|scope| drop(scope.spawn(move || drop(borrowed)).join()));
    let mut mapped = MutexGuard::map(mutex.try_lock().unwrap(), |pair| &mut pair.1);
    std::thread::scope(|scope| drop(scope.spawn(move || *mapped = 5).join()));
    assert!(is_free(&mutex));
    assert_eq!(*mutex.try_lock().unwrap(), (1, 5));
}

// ---------------------------------------------------------------------------------------------------------------------
// The value
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn the_value_is_dropped_exactly_once() {
    let drops = Arc::new(AtomicUsize::new(0));
    let count = || drops.load(Ordering::Relaxed);
    drop(Mutex::new(Dropped(drops.clone())));
    assert_eq!(count(), 1);
    let value = Mutex::new(Dropped(drops.clone())).into_inner();
    assert_eq!(count(), 1);
    drop(value);
    assert_eq!(count(), 2);
    let mutex = shared(Dropped(drops.clone()));
    let guard = mutex.clone().try_lock_owned().unwrap();
    let waiting = Task::waiting(mutex.clone().lock_owned());
    drop(mutex);
    drop(guard);
    assert_eq!(count(), 2);
    drop(waiting);
    assert_eq!(count(), 3);
    let mutex = Mutex::new(Dropped(drops.clone()));
    *mutex.try_lock().unwrap() = Dropped(drops.clone());
    assert_eq!(count(), 4);
    drop(mutex);
    assert_eq!(count(), 5);
}

#[test]
fn a_value_that_is_not_send_can_be_locked_on_its_own_thread() {
    let mutex = Mutex::new(Rc::new(Cell::new(1)));
    let guard = blocking::wait(mutex.lock());
    guard.set(2);
    drop(guard);
    let part = MutexGuard::map(mutex.blocking_lock(), |shared| shared);
    part.set(part.get() + 1);
    drop(part);
    assert_eq!(mutex.into_inner().get(), 3);
}

#[test]
fn a_mutex_of_an_array_is_a_mutex_of_a_slice() {
    let mutex = Mutex::new([1_u8, 2, 3]);
    let slice: &Mutex<[u8]> = &mutex;
    slice.try_lock().unwrap()[1..].reverse();
    let guard = blocking::wait(slice.lock());
    assert_eq!((&*guard, guard.len()), (&[1, 3, 2][..], 3));
    let mut last = MutexGuard::map(guard, |bytes| &mut bytes[2]);
    *last = 9;
    assert!(mutex.try_lock().is_err());
    drop(last);
    assert!(is_free(slice));
    assert_eq!(mutex.into_inner(), [1, 3, 9]);
}

#[test]
fn a_shared_mutex_of_an_array_is_a_shared_mutex_of_a_slice() {
    let mutex: Arc<Mutex<[String]>> = Arc::new(Mutex::new(["a".to_owned(), "b".to_owned()]));
    let guard = mutex.clone().try_lock_owned().unwrap();
    let mut waiting = Task::waiting(mutex.clone().lock_owned());
    let mut part: OwnedMappedMutexGuard<[String], str> = OwnedMutexGuard::map(guard, |texts| &mut *texts[1]);
    part.make_ascii_uppercase();
    drop(part);
    assert_eq!(*waiting.ready(), ["a", "B"]);
    assert_eq!(*mutex.clone().blocking_lock_owned(), ["a", "B"]);
    assert!(is_free(&mutex));
}

#[test]
fn a_mutex_of_a_type_is_a_mutex_of_its_trait() {
    trait Greet: Send {
        fn greet(&mut self) -> String;
    }
    struct Host(u8);
    impl Greet for Host {
        fn greet(&mut self) -> String {
            self.0 += 1;
            format!("hello {}", self.0)
        }
    }
    let mut mutex = Mutex::new(Host(0));
    let borrowed: &mut Mutex<dyn Greet> = &mut mutex;
    assert_eq!(borrowed.get_mut().greet(), "hello 1");
    assert_eq!(borrowed.try_lock().unwrap().greet(), "hello 2");
    let borrowed: &Mutex<dyn Greet> = &mutex;
    assert_eq!(blocking::wait(borrowed.lock()).greet(), "hello 3");
    let shared: Arc<Mutex<dyn Greet>> = Arc::new(mutex);
    let mut guard = shared.clone().try_lock_owned().unwrap();
    assert_eq!(guard.greet(), "hello 4");
    let mut waiting = Task::waiting(shared.clone().lock_owned());
    let mut part: OwnedMappedMutexGuard<dyn Greet, dyn Greet> = OwnedMutexGuard::map(guard, |greeter| greeter);
    assert_eq!(part.greet(), "hello 5");
    drop(part);
    assert_eq!(waiting.ready().greet(), "hello 6");
    assert_eq!(std::thread::spawn(move || shared.blocking_lock().greet()).join().unwrap(), "hello 7");
    let boxed: Box<Mutex<dyn Greet>> = Box::new(Mutex::new(Host(9)));
    assert_eq!(boxed.blocking_lock().greet(), "hello 10");
}

#[test]
fn get_mut_and_into_inner_need_no_lock() {
    let mut mutex = Mutex::new(vec![1]);
    mutex.get_mut().push(2);
    assert!(is_free(&mutex));
    assert_eq!(mutex.into_inner(), [1, 2]);
}

#[test]
fn default_and_from_make_an_unlocked_mutex() {
    let mutex: Mutex<String> = Mutex::default();
    assert!(is_free(&mutex) && mutex.into_inner().is_empty());
    let mutex: Mutex<&str> = "five".into();
    assert!(is_free(&mutex));
    assert_eq!(mutex.into_inner(), "five");
}

// ---------------------------------------------------------------------------------------------------------------------
// What it shows of itself
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn debug_shows_the_value_when_free_and_says_locked_when_not() {
    let mutex = shared(Some(5));
    assert_eq!(format!("{mutex:?}"), "Mutex { value: Some(5) }");
    let guard = mutex.try_lock().unwrap();
    assert_eq!(format!("{mutex:?}"), "Mutex { value: <locked> }");
    let mut waiting = Task::waiting(mutex.lock());
    drop(guard);
    assert_eq!(format!("{mutex:?}"), "Mutex { value: <locked> }", "handed over is locked");
    drop(waiting.ready());
    assert_eq!(format!("{mutex:?}"), "Mutex { value: Some(5) }");
    assert!(is_free(&mutex), "formatting leaves it unlocked");
    let slice: &Mutex<[u8]> = &Mutex::new([1, 2]);
    assert_eq!(format!("{slice:?}"), "Mutex { value: [1, 2] }");
}

#[test]
fn a_value_may_show_its_own_mutex_and_may_panic() {
    struct Recursive(std::sync::Weak<Mutex<Recursive>>);
    impl Debug for Recursive {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            self.0.upgrade().unwrap().fmt(f)
        }
    }
    let mutex = Arc::new_cyclic(|weak| Mutex::new(Recursive(weak.clone())));
    assert_eq!(format!("{mutex:?}"), "Mutex { value: Mutex { value: <locked> } }");
    assert!(is_free(&mutex));

    struct Panicking;
    impl Debug for Panicking {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic!("in the formatter")
        }
    }
    let mutex = Mutex::new(Panicking);
    assert_eq!(panic_of(|| format!("{mutex:?}")), "in the formatter");
    assert!(is_free(&mutex));
}

#[test]
fn guards_show_what_they_guard() {
    fn shows<G: Debug + Display>(guard: G) -> String {
        format!("{guard:?} {guard}")
    }
    let mutex = shared(String::from("x"));
    assert_eq!(shows(mutex.try_lock().unwrap()), "\"x\" x");
    assert_eq!(shows(mutex.clone().try_lock_owned().unwrap()), "\"x\" x");
    assert_eq!(shows(MutexGuard::map(mutex.try_lock().unwrap(), |text| &mut **text)), "\"x\" x");
    let owned = mutex.clone().try_lock_owned().unwrap();
    assert_eq!(shows(OwnedMutexGuard::map(owned, |text| &mut **text)), "\"x\" x");
}

#[test]
fn futures_show_their_names_whatever_the_value() {
    struct Hidden;
    let mutex = shared(Hidden);
    assert!(format!("{:?}", mutex.lock()).starts_with("Lock"));
    assert!(format!("{:?}", mutex.lock_owned()).starts_with("LockOwned"));
}

#[test]
fn a_failed_try_lock_says_why() {
    let mutex = shared(());
    let _guard = mutex.try_lock().unwrap();
    let error: TryLockError = mutex.try_lock().unwrap_err();
    assert_eq!(error, mutex.clone().try_lock_owned().unwrap_err());
    let error: Box<dyn std::error::Error + Send + Sync> = Box::new(error);
    assert!(error.to_string().contains("locked") && error.source().is_none());
    assert!(format!("{error:?}").contains("TryLockError"));
}

// ---------------------------------------------------------------------------------------------------------------------
// Threads
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn threads_and_tasks_wait_in_one_line() {
    let mutex = shared(Vec::new());
    let guard = mutex.try_lock().unwrap();
    std::thread::scope(|scope| {
        let mut tasks = Vec::new();
        for place in 0..12 {
            let mutex_of_thread = mutex.clone();
            match place % 4 {
                0 => drop(scope.spawn(move || mutex_of_thread.blocking_lock().push(place))),
                1 => drop(scope.spawn(move || mutex_of_thread.blocking_lock_owned().push(place))),
                2 => drop(scope.spawn(move || blocking::wait(mutex_of_thread.lock()).push(place))),
                _ => {
                    let mutex = mutex.clone();
                    tasks.push(Task::waiting(Box::pin(async move { mutex.lock().await.push(place) })));
                }
            }
            // The next comes when this one has taken its place.
            until(|| mutex.waiters() == place + 1);
        }
        drop(guard);
        for task in &mut tasks {
            until(|| task.wakes() == 1);
            task.ready();
        }
    });
    assert!(is_free(&mutex));
    assert_numbers(&mutex.try_lock().unwrap(), 0..12);
}

#[test]
fn threads_exclude_each_other() {
    const ROUNDS: usize = 2_000;
    let mutex = shared((0_usize, 0_usize));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    let mut pair = mutex.blocking_lock();
                    assert_eq!(pair.0, pair.1);
                    pair.0 += 1;
                    std::hint::black_box(&mut *pair);
                    pair.1 += 1;
                }
            });
        }
    });
    assert!(is_free(&mutex));
    assert_eq!(*mutex.try_lock().unwrap(), (4 * ROUNDS, 4 * ROUNDS));
}

#[test]
fn a_thread_that_panics_with_the_lock_hands_it_to_the_next() {
    let mutex = shared(0);
    let guard = mutex.try_lock().unwrap();
    std::thread::scope(|scope| {
        let panicking = scope.spawn(|| {
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                *mutex.blocking_lock() += 1;
                let _guard = mutex.blocking_lock();
                panic!("with the lock");
            }));
            assert!(outcome.is_err());
        });
        until(|| mutex.waiters() == 1);
        let next = scope.spawn(|| *mutex.blocking_lock() += 1);
        until(|| mutex.waiters() == 2);
        drop(guard);
        panicking.join().unwrap();
        next.join().unwrap();
    });
    assert!(is_free(&mutex));
    assert_eq!(*mutex.try_lock().unwrap(), 2);
}
