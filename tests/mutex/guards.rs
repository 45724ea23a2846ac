//! Guards, and guards of parts of the value.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use stanchion::{MappedMutexGuard, Mutex, MutexGuard, OwnedMappedMutexGuard, OwnedMutexGuard};

use crate::common::{Task, panic_of, ready};
use crate::{Dropped, is_free, shared};

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
fn a_mapped_guard_accesses_the_part_and_unlocks_once() {
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
fn an_owned_mapped_guard_accesses_the_part_and_unlocks_once() {
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
fn try_map_returns_the_part_or_the_guard() {
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
fn try_map_of_an_owned_guard_returns_the_part_or_the_guard() {
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
fn a_guard_may_be_mapped_to_a_place_outside_the_value() {
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
fn a_guard_may_be_mapped_to_an_empty_part() {
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

#[test]
fn owned_guards_may_be_mapped_to_a_part_that_borrows() {
    let text = String::from("one two");
    let mutex = shared((text.split(' ').collect::<Vec<&str>>(), 1));
    let mut words = OwnedMutexGuard::map(mutex.clone().try_lock_owned().unwrap(), |pair| &mut pair.0);
    words.push(&text[..3]);
    drop(words);
    let guard = mutex.clone().try_lock_owned().unwrap();
    let guard = OwnedMutexGuard::try_map(guard, |pair| pair.0.get_mut(9)).unwrap_err();
    let mut word = OwnedMutexGuard::try_map(guard, |pair| pair.0.get_mut(1)).unwrap();
    *word = &text;
    drop(word);
    assert!(is_free(&mutex));
    assert_eq!(mutex.try_lock().unwrap().0, ["one", "one two", "one"]);
}

#[test]
fn guards_may_be_mapped_again_through_parts_that_borrow() {
    let text = String::from("one two");
    let mut bytes = *b"three";
    let mutex = Mutex::new((text.split(' ').collect::<Vec<&str>>(), &mut bytes));
    let words = MutexGuard::map(mutex.try_lock().unwrap(), |pair| &mut pair.0);
    let mut word = MappedMutexGuard::map(words, |words| &mut words[0]);
    *word = &text[1..];
    drop(word);
    let borrow = MutexGuard::map(mutex.try_lock().unwrap(), |pair| &mut pair.1);
    let array = MappedMutexGuard::map(borrow, |borrow| &mut **borrow);
    let mut byte = MappedMutexGuard::try_map(array, |array| array.get_mut(4)).unwrap();
    *byte = b'!';
    drop(byte);
    assert!(is_free(&mutex));
    assert_eq!(mutex.into_inner().0, ["ne two", "two"]);
    assert_eq!(bytes, *b"thre!");
}

#[test]
fn owned_guards_may_be_mapped_again_through_static_parts() {
    let mutex = shared((vec!["one", "two"], [String::from("three")]));
    let words = OwnedMutexGuard::map(mutex.clone().try_lock_owned().unwrap(), |pair| &mut pair.0);
    let words: OwnedMappedMutexGuard<_, [&str]> = OwnedMappedMutexGuard::map(words, |words| &mut words[1..]);
    let mut word = OwnedMappedMutexGuard::try_map(words, |words| words.first_mut()).unwrap();
    *word = "four";
    drop(word);
    let texts = OwnedMutexGuard::map(mutex.clone().try_lock_owned().unwrap(), |pair| &mut pair.1);
    let text = OwnedMappedMutexGuard::map(texts, |texts| &mut texts[0]);
    OwnedMappedMutexGuard::map(text, String::as_mut_str).make_ascii_uppercase();
    assert!(is_free(&mutex));
    assert_eq!(*mutex.try_lock().unwrap(), (vec!["one", "four"], [String::from("THREE")]));
}
