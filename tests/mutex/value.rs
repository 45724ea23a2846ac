//! The value: dropped once, of any type, sized or not.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use stanchion::{Mutex, MutexGuard, OwnedMappedMutexGuard, OwnedMutexGuard, blocking};

use crate::common::Task;
use crate::{Dropped, is_free, shared};

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
