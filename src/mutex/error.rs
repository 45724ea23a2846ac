//! The error of the mutex.

#![deny(unsafe_code)]

use std::fmt;

/// The error of a `try_lock`: the mutex is locked, or a future waits for it.
///
/// # Examples
///
/// ```
/// let mutex = stanchion::Mutex::new(1);
/// let guard = mutex.try_lock().unwrap();
/// assert_eq!(mutex.try_lock().unwrap_err().to_string(), "the mutex is locked, or a future waits for it");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TryLockError(pub(super) ());

impl fmt::Display for TryLockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the mutex is locked, or a future waits for it")
    }
}

impl std::error::Error for TryLockError {}
