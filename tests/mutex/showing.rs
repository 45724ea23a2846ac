//! `Debug`, `Display` and errors.

use std::fmt::{Debug, Display};
use std::sync::Arc;

use stanchion::{Mutex, MutexGuard, OwnedMutexGuard, TryLockError};

use crate::common::{Task, panic_of};
use crate::{is_free, shared};

#[test]
fn debug_shows_the_value_when_free_and_says_locked_when_not() {
    let mutex = shared(Some(5));
    assert_eq!(format!("{mutex:?}"), "Mutex { data: Some(5) }");
    let guard = mutex.try_lock().unwrap();
    assert_eq!(format!("{mutex:?}"), "Mutex { data: <locked> }");
    let mut waiting = Task::waiting(mutex.lock());
    drop(guard);
    assert_eq!(format!("{mutex:?}"), "Mutex { data: <locked> }", "granted is locked");
    drop(waiting.ready());
    assert_eq!(format!("{mutex:?}"), "Mutex { data: Some(5) }");
    assert!(is_free(&mutex), "formatting leaves it unlocked");
    let slice: &Mutex<[u8]> = &Mutex::new([1, 2]);
    assert_eq!(format!("{slice:?}"), "Mutex { data: [1, 2] }");
}

#[test]
fn a_value_may_format_its_own_mutex_and_may_panic() {
    struct Recursive(std::sync::Weak<Mutex<Recursive>>);
    impl Debug for Recursive {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            self.0.upgrade().unwrap().fmt(f)
        }
    }
    let mutex = Arc::new_cyclic(|weak| Mutex::new(Recursive(weak.clone())));
    assert_eq!(format!("{mutex:?}"), "Mutex { data: Mutex { data: <locked> } }");
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
fn guards_show_the_value() {
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
fn futures_show_their_names_for_any_value() {
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
