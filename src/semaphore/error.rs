//! The errors of the semaphore.

use std::fmt;

/// The error of an acquire when the semaphore was closed before the permits were granted.
///
/// # Examples
///
/// ```
/// use stanchion::{AcquireError, Semaphore};
///
/// async fn download(limit: &Semaphore) -> Result<&'static str, AcquireError> {
///     let _permit = limit.acquire().await?;
///     Ok("page")
/// }
///
/// # stanchion::blocking::wait(async {
/// let limit = Semaphore::new(2);
/// assert_eq!(download(&limit).await, Ok("page"));
/// limit.close();
/// assert!(download(&limit).await.is_err());
/// # });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcquireError(pub(super) ());

/// The error of a `try_acquire`.
///
/// # Examples
///
/// ```
/// use stanchion::{Semaphore, TryAcquireError};
///
/// let semaphore = Semaphore::new(0);
/// assert_eq!(semaphore.try_acquire().unwrap_err(), TryAcquireError::NoPermits);
/// semaphore.close();
/// assert_eq!(semaphore.try_acquire().unwrap_err(), TryAcquireError::Closed);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryAcquireError {
    /// The semaphore is closed.
    Closed,
    /// Too few permits are free, or a future waits for permits.
    NoPermits,
}

impl fmt::Display for AcquireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the semaphore is closed")
    }
}

impl std::error::Error for AcquireError {}

impl fmt::Display for TryAcquireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "the semaphore is closed",
            Self::NoPermits => "too few permits are free, or a future waits for permits",
        })
    }
}

impl std::error::Error for TryAcquireError {}
