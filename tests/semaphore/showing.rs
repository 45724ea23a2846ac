//! `Debug`, `Display` and errors.

use stanchion::{Semaphore, TryAcquireError};

use crate::common::{Task, ready};
use crate::shared;

#[test]
fn debug_shows_the_state_of_a_semaphore() {
    let semaphore = Semaphore::new(3);
    assert_eq!(format!("{semaphore:?}"), "Semaphore { available_permits: 3, closed: false, waiters: 0 }");
    let task = Task::waiting(semaphore.acquire_many(4));
    assert_eq!(format!("{semaphore:?}"), "Semaphore { available_permits: 3, closed: false, waiters: 1 }");
    semaphore.close();
    assert_eq!(format!("{semaphore:?}"), "Semaphore { available_permits: 3, closed: true, waiters: 0 }");
    drop(task);
}

#[test]
fn debug_names_futures_and_permits() {
    let semaphore = shared(5);
    assert!(format!("{:?}", semaphore.acquire_many(3)).starts_with("Acquire"));
    assert!(format!("{:?}", semaphore.clone().acquire_owned()).starts_with("AcquireOwned"));
    let borrowed = format!("{:?}", semaphore.try_acquire_many(2).unwrap());
    assert!(borrowed.starts_with("SemaphorePermit") && borrowed.contains('2'), "{borrowed}");
    let owned = format!("{:?}", semaphore.try_acquire_many_owned(4).unwrap());
    assert!(owned.starts_with("OwnedSemaphorePermit") && owned.contains('4'), "{owned}");
}

#[test]
fn errors_say_what_happened() {
    fn is_error<E: std::error::Error + Clone + Copy + PartialEq + Eq + Send + Sync + 'static>(error: E) -> String {
        assert!(error.source().is_none());
        assert_eq!(error, Clone::clone(&error));
        error.to_string()
    }
    let semaphore = Semaphore::new(0);
    assert_ne!(TryAcquireError::Closed, TryAcquireError::NoPermits);
    assert!(is_error(semaphore.try_acquire().unwrap_err()).contains("permits"));
    semaphore.close();
    assert!(is_error(semaphore.try_acquire().unwrap_err()).contains("closed"));
    let error = ready(&mut semaphore.acquire()).unwrap_err();
    assert!(is_error(error).contains("closed"));
    assert!(format!("{error:?}").contains("AcquireError"));
}
