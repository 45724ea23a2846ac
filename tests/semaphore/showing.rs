//! `Debug`, `Display` and errors.

use stanchion::{Semaphore, TryAcquireError};

use crate::common::{Task, ready};
use crate::shared;

#[test]
fn debug_shows_the_state_of_a_semaphore() {
    let semaphore = Semaphore::new(3);
    let shown = |owed, waiters, closed| {
        format!("Semaphore {{ available_permits: 3, permits_owed: {owed}, waiters: {waiters}, closed: {closed} }}")
    };
    assert_eq!(format!("{semaphore:?}"), shown(0, 0, false));
    let task = Task::waiting(semaphore.acquire_many(4));
    assert_eq!(format!("{semaphore:?}"), shown(0, 1, false));
    semaphore.close();
    assert_eq!(format!("{semaphore:?}"), shown(0, 0, true));
    drop(task);
    semaphore.reduce_permits(5);
    assert_eq!(
        format!("{semaphore:?}"),
        "Semaphore { available_permits: 0, permits_owed: 2, waiters: 0, closed: true }"
    );
}

#[test]
fn debug_names_futures_and_permits() {
    let semaphore = shared(5);
    assert!(format!("{:?}", semaphore.acquire_many(3)).starts_with("Acquire"));
    assert!(format!("{:?}", semaphore.clone().acquire_owned()).starts_with("AcquireOwned"));
    let borrowed = format!("{:?}", semaphore.try_acquire_many(2).unwrap());
    assert_eq!(borrowed, "SemaphorePermit { permits: 2, .. }");
    let owned = format!("{:?}", semaphore.try_acquire_many_owned(4).unwrap());
    assert_eq!(owned, "OwnedSemaphorePermit { permits: 4, .. }");
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
