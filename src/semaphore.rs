//! A fair async semaphore: the public types and their documentation. The algorithm is in `semaphore/core.rs`.

mod core;
mod error;

use std::fmt;
use std::future::Future;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

pub(crate) use self::core::{Acquiring, AsSemaphore};
use self::core::{Core, assert_requestable};
pub use self::error::{AcquireError, TryAcquireError};
use crate::sync::const_fn;

/// A fair async counting semaphore.
///
/// A semaphore holds permits. [`acquire`](Self::acquire) takes one, or waits for it in a queue; dropping the permit
/// returns it. Waiting works on any executor and, through [`blocking`](crate::blocking), on a plain thread. It
/// allocates only when the queue becomes longer than before. When the last waiter is gone, memory above 64 KiB is
/// freed.
///
/// # Fairness
///
/// Permits are granted in the order in which the futures were first polled. A request for many permits at the head of
/// the queue holds back smaller ones behind it until it fits, and nothing overtakes it: while a future waits,
/// [`try_acquire`](Self::try_acquire) fails even if permits are free. Permits owed by
/// [`reduce_permits`](Self::reduce_permits) are taken away before any waiter is served.
///
/// # Memory ordering
///
/// Everything that happened before a permit was returned or added happens before the acquire that gets it, and before a
/// call to [`available_permits`](Self::available_permits) that counts it. What happened before [`close`](Self::close)
/// happens before whatever observes it, [`is_closed`](Self::is_closed) included. The other observing calls are ordered
/// likewise.
///
/// # Examples
///
/// ```
/// use stanchion::Semaphore;
///
/// static CONNECTIONS: Semaphore = Semaphore::new(2);
///
/// # stanchion::blocking::wait(async {
/// let first = CONNECTIONS.acquire().await?;
/// let second = CONNECTIONS.acquire().await?;
/// assert!(CONNECTIONS.try_acquire().is_err());
/// drop(first);
/// assert_eq!(CONNECTIONS.available_permits(), 1);
/// # drop(second);
/// # Ok::<(), stanchion::AcquireError>(())
/// # }).unwrap();
/// ```
///
#[doc = include_str!("semaphore/recipes.md")]
pub struct Semaphore {
    core: Core,
}

impl Semaphore {
    /// The maximum number of permits that can be free, or requested, at once: `usize::MAX >> 3`, as tokio's.
    pub const MAX_PERMITS: usize = usize::MAX >> 3;

    const_fn! {
        /// Creates a semaphore with `permits` free permits.
        ///
        /// # Panics
        ///
        /// When `permits` exceeds [`MAX_PERMITS`](Self::MAX_PERMITS).
        ///
        /// # Examples
        ///
        /// ```
        /// let semaphore = stanchion::Semaphore::new(3);
        /// assert_eq!(semaphore.available_permits(), 3);
        /// ```
        #[must_use]
        pub const fn new(permits: usize) -> Self {
            assert!(permits <= Self::MAX_PERMITS, "a semaphore holds at most Semaphore::MAX_PERMITS permits");
            Self { core: Core::new(permits) }
        }
    }

    /// Acquires one permit, waiting for it if necessary.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up its place in the queue and loses no permit.
    ///
    /// # Errors
    ///
    /// Returns [`AcquireError`] when the semaphore is closed before the permit is granted.
    ///
    /// # Examples
    ///
    /// ```
    /// # stanchion::blocking::wait(async {
    /// let semaphore = stanchion::Semaphore::new(1);
    /// let permit = semaphore.acquire().await?;
    /// assert_eq!(semaphore.available_permits(), 0);
    /// # drop(permit);
    /// # Ok::<(), stanchion::AcquireError>(())
    /// # }).unwrap();
    /// ```
    #[inline]
    pub fn acquire(&self) -> Acquire<'_> {
        self.acquire_many(1)
    }

    /// Acquires `n` permits at once, waiting for them if necessary.
    ///
    /// A request for no permits waits like any other and takes nothing.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up its place in the queue and loses no permit.
    ///
    /// # Errors
    ///
    /// Returns [`AcquireError`] when the semaphore is closed before the permits are granted.
    ///
    /// # Panics
    ///
    /// At the call, when `n` exceeds [`MAX_PERMITS`](Self::MAX_PERMITS).
    ///
    /// # Examples
    ///
    /// ```
    /// # stanchion::blocking::wait(async {
    /// let semaphore = stanchion::Semaphore::new(5);
    /// let permit = semaphore.acquire_many(3).await?;
    /// assert_eq!((permit.num_permits(), semaphore.available_permits()), (3, 2));
    /// # Ok::<(), stanchion::AcquireError>(())
    /// # }).unwrap();
    /// ```
    #[inline]
    #[track_caller]
    pub fn acquire_many(&self, n: usize) -> Acquire<'_> {
        Acquire(Acquiring::new(self, n))
    }

    /// Acquires one permit that keeps the semaphore alive, waiting for it if necessary.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up its place in the queue and loses no permit.
    ///
    /// # Errors
    ///
    /// Returns [`AcquireError`] when the semaphore is closed before the permit is granted.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    /// use stanchion::Semaphore;
    ///
    /// # stanchion::blocking::wait(async {
    /// let semaphore = Arc::new(Semaphore::new(1));
    /// let permit = semaphore.clone().acquire_owned().await?;
    /// std::thread::spawn(move || drop(permit)).join().unwrap();
    /// assert_eq!(semaphore.available_permits(), 1);
    /// # Ok::<(), stanchion::AcquireError>(())
    /// # }).unwrap();
    /// ```
    #[inline]
    pub fn acquire_owned(self: Arc<Self>) -> AcquireOwned {
        self.acquire_many_owned(1)
    }

    /// Acquires `n` permits at once that keep the semaphore alive, waiting for them if necessary.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up its place in the queue and loses no permit.
    ///
    /// # Errors
    ///
    /// Returns [`AcquireError`] when the semaphore is closed before the permits are granted.
    ///
    /// # Panics
    ///
    /// At the call, when `n` exceeds [`MAX_PERMITS`](Self::MAX_PERMITS).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    /// use stanchion::Semaphore;
    ///
    /// # stanchion::blocking::wait(async {
    /// let semaphore = Arc::new(Semaphore::new(5));
    /// let permit = semaphore.acquire_many_owned(5).await?;
    /// assert_eq!(permit.num_permits(), 5);
    /// # Ok::<(), stanchion::AcquireError>(())
    /// # }).unwrap();
    /// ```
    #[inline]
    #[track_caller]
    pub fn acquire_many_owned(self: Arc<Self>, n: usize) -> AcquireOwned {
        AcquireOwned(Acquiring::new(self, n))
    }

    /// Acquires one permit if one is free and no future waits.
    ///
    /// # Errors
    ///
    /// Returns [`TryAcquireError::NoPermits`] or [`TryAcquireError::Closed`].
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::{Semaphore, TryAcquireError};
    ///
    /// let semaphore = Semaphore::new(0);
    /// assert_eq!(semaphore.try_acquire().err(), Some(TryAcquireError::NoPermits));
    /// ```
    #[inline]
    pub fn try_acquire(&self) -> Result<SemaphorePermit<'_>, TryAcquireError> {
        self.try_acquire_many(1)
    }

    /// Acquires `n` permits at once if they are free and no future waits.
    ///
    /// A request for no permits fails only when the semaphore is closed or a future waits. To acquire all free permits,
    /// do not loop over `try_acquire_many(semaphore.available_permits())`, which other callers can make fail again and
    /// again: use [`forget_permits`](Self::forget_permits), and [`add_permits`](Self::add_permits) to return them.
    ///
    /// # Errors
    ///
    /// Returns [`TryAcquireError::NoPermits`] or [`TryAcquireError::Closed`].
    ///
    /// # Panics
    ///
    /// When `n` exceeds [`MAX_PERMITS`](Self::MAX_PERMITS).
    ///
    /// # Examples
    ///
    /// ```
    /// let semaphore = stanchion::Semaphore::new(3);
    /// assert!(semaphore.try_acquire_many(4).is_err());
    /// assert!(semaphore.try_acquire_many(3).is_ok());
    /// ```
    #[inline]
    #[track_caller]
    pub fn try_acquire_many(&self, n: usize) -> Result<SemaphorePermit<'_>, TryAcquireError> {
        self.try_take(n)?;
        Ok(SemaphorePermit { semaphore: self, permits: n })
    }

    /// Acquires one permit that keeps the semaphore alive, if one is free and no future waits.
    ///
    /// # Errors
    ///
    /// Returns [`TryAcquireError::NoPermits`] or [`TryAcquireError::Closed`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    /// use stanchion::Semaphore;
    ///
    /// let semaphore = Arc::new(Semaphore::new(1));
    /// let permit = semaphore.clone().try_acquire_owned().unwrap();
    /// assert!(semaphore.try_acquire_owned().is_err());
    /// # drop(permit);
    /// ```
    #[inline]
    pub fn try_acquire_owned(self: Arc<Self>) -> Result<OwnedSemaphorePermit, TryAcquireError> {
        self.try_acquire_many_owned(1)
    }

    /// Acquires `n` permits at once that keep the semaphore alive, if they are free and no future waits.
    ///
    /// # Errors
    ///
    /// Returns [`TryAcquireError::NoPermits`] or [`TryAcquireError::Closed`].
    ///
    /// # Panics
    ///
    /// When `n` exceeds [`MAX_PERMITS`](Self::MAX_PERMITS).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    /// use stanchion::Semaphore;
    ///
    /// let permit = Arc::new(Semaphore::new(2)).try_acquire_many_owned(2).unwrap();
    /// assert_eq!(permit.semaphore().available_permits(), 0);
    /// ```
    #[inline]
    #[track_caller]
    pub fn try_acquire_many_owned(self: Arc<Self>, n: usize) -> Result<OwnedSemaphorePermit, TryAcquireError> {
        self.try_take(n)?;
        Ok(OwnedSemaphorePermit { semaphore: self, permits: n })
    }

    /// Adds `n` permits, as if they were returned.
    ///
    /// # Panics
    ///
    /// When more than [`MAX_PERMITS`](Self::MAX_PERMITS) would be free after the waiters were served, or their number
    /// would overflow `usize` before that. Nothing has changed then. If so many were added that a held permit does not
    /// fit when it is dropped, that drop panics, unless the thread is panicking already, and the permit is lost.
    ///
    /// # Examples
    ///
    /// ```
    /// let semaphore = stanchion::Semaphore::new(0);
    /// semaphore.add_permits(2);
    /// assert_eq!(semaphore.available_permits(), 2);
    /// ```
    pub fn add_permits(&self, n: usize) {
        self.release(n);
    }

    /// Takes away the permits that are free now, at most `n`, and returns their number.
    ///
    /// # Examples
    ///
    /// ```
    /// let semaphore = stanchion::Semaphore::new(2);
    /// assert_eq!(semaphore.forget_permits(5), 2);
    /// assert_eq!(semaphore.available_permits(), 0);
    /// ```
    pub fn forget_permits(&self, n: usize) -> usize {
        self.core.forget(n)
    }

    /// Takes away exactly `n` permits: those that are free now, and the rest as permits are returned or added.
    ///
    /// The rest is a debt ([`permits_owed`](Self::permits_owed)), which is paid before any waiter is served. Permits
    /// that are held stay valid.
    ///
    /// # Panics
    ///
    /// When the debt would exceed `usize::MAX`. Nothing has changed then.
    ///
    /// # Examples
    ///
    /// ```
    /// let semaphore = stanchion::Semaphore::new(2);
    /// let permit = semaphore.try_acquire().unwrap();
    /// semaphore.reduce_permits(2);
    /// drop(permit); // pays the permit that was owed
    /// assert_eq!(semaphore.available_permits(), 0);
    /// ```
    #[track_caller]
    pub fn reduce_permits(&self, n: usize) {
        assert!(self.core.reduce(n), "a semaphore owes at most usize::MAX permits");
    }

    /// Returns the number of free permits.
    ///
    /// It can be greater than zero while futures wait: the head of the queue may need more.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(stanchion::Semaphore::new(7).available_permits(), 7);
    /// ```
    #[must_use]
    pub fn available_permits(&self) -> usize {
        self.core.available()
    }

    /// Returns the number of futures that wait: polled and not yet granted.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(stanchion::Semaphore::new(0).waiters(), 0);
    /// ```
    #[must_use]
    pub fn waiters(&self) -> usize {
        self.core.waiters()
    }

    /// Returns the number of permits that [`reduce_permits`](Self::reduce_permits) has still to take away.
    ///
    /// # Examples
    ///
    /// ```
    /// let semaphore = stanchion::Semaphore::new(1);
    /// semaphore.reduce_permits(3);
    /// assert_eq!(semaphore.permits_owed(), 2);
    /// semaphore.add_permits(2);
    /// assert_eq!(semaphore.permits_owed(), 0);
    /// ```
    #[must_use]
    pub fn permits_owed(&self) -> usize {
        self.core.debt()
    }

    /// Closes the semaphore: waiting and later acquires fail at once.
    ///
    /// A waiter that was granted its permits before still gets them, and permits can still be returned, added,
    /// forgotten and reduced.
    ///
    /// # Examples
    ///
    /// ```
    /// # stanchion::blocking::wait(async {
    /// let semaphore = stanchion::Semaphore::new(1);
    /// semaphore.close();
    /// assert!(semaphore.acquire().await.is_err());
    /// # });
    /// ```
    pub fn close(&self) {
        self.core.close();
    }

    /// Returns `true` if the semaphore is closed.
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(!stanchion::Semaphore::new(1).is_closed());
    /// ```
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.core.is_closed()
    }

    #[inline]
    #[track_caller]
    fn try_take(&self, n: usize) -> Result<(), TryAcquireError> {
        assert_requestable(n);
        if self.core.take_fast(n) { Ok(()) } else { self.core.try_take_slow(n) }
    }

    #[inline]
    fn release(&self, n: usize) {
        self.core.release(n);
    }

    /// Checks every invariant of the state; for tests, and not part of the public interface.
    #[doc(hidden)]
    pub fn validate(&self) {
        self.core.validate();
    }
}

/// For the mutex: its semaphore has one permit.
impl Semaphore {
    #[inline]
    pub(crate) fn take_sole(&self) -> bool {
        self.core.take_sole()
    }

    #[inline]
    pub(crate) fn try_take_sole(&self) -> bool {
        self.core.take_sole() || self.core.try_take_slow(1).is_ok()
    }

    #[inline]
    pub(crate) fn release_sole(&self) {
        self.core.release_sole();
    }
}

/// Defines the future of an acquire, which holds the semaphore by `$Handle`, and is ready with `$Permit`.
macro_rules! acquire_future {
    ($Acquire:ident $(<$lifetime:lifetime>)?, $Handle:ty, $Permit:ident, $handle:literal, $one:literal, $many:literal) => {
        #[doc = concat!("Future returned by [`Semaphore::", $one, "`] and [`Semaphore::", $many, "`].")]
        ///
        /// # Cancel safety
        ///
        /// Dropping it gives up its place in the queue; permits that it had been granted go to the next waiter.
        /// Forgetting it, or keeping it without polling it, holds up every waiter behind it.
        ///
        /// # Panics
        ///
        /// When it is polled after it was ready. Dropping it panics where returning its permits would, see
        /// [`Semaphore::add_permits`].
        ///
        /// # Examples
        ///
        /// ```
        /// # stanchion::blocking::wait(async {
        /// let semaphore = std::sync::Arc::new(stanchion::Semaphore::new(0));
        #[doc = concat!("let mut acquire = semaphore", $handle, ".", $one, "();")]
        /// assert!(futures::poll!(&mut acquire).is_pending()); // has its place in the queue
        /// semaphore.add_permits(1);
        /// assert_eq!(acquire.await?.num_permits(), 1);
        /// # Ok::<(), stanchion::AcquireError>(())
        /// # }).unwrap();
        /// ```
        #[must_use = "futures do nothing unless polled"]
        pub struct $Acquire $(<$lifetime>)? (Acquiring<$Handle>);

        impl $(<$lifetime>)? Future for $Acquire $(<$lifetime>)? {
            type Output = Result<$Permit $(<$lifetime>)?, AcquireError>;

            #[inline]
            fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
                let permits = self.0.permits();
                self.0.poll(cx).map_ok(|semaphore| $Permit { semaphore, permits })
            }
        }

        impl $(<$lifetime>)? fmt::Debug for $Acquire $(<$lifetime>)? {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.debug(stringify!($Acquire), f)
            }
        }
    };
}

acquire_future!(Acquire<'a>, &'a Semaphore, SemaphorePermit, "", "acquire", "acquire_many");
acquire_future!(AcquireOwned, Arc<Semaphore>, OwnedSemaphorePermit, ".clone()", "acquire_owned", "acquire_many_owned");

/// Defines a permit that holds its semaphore by `$Handle`.
macro_rules! permit {
    ($summary:literal, $acquire:literal, $Permit:ident $(<$lifetime:lifetime>)?, $Handle:ty, $returned:ty, $($borrow:tt)?) => {
        #[doc = $summary]
        ///
        /// # Panics
        ///
        /// Dropping it panics where returning its permits would, see [`Semaphore::add_permits`].
        ///
        /// # Examples
        ///
        /// ```
        /// # stanchion::blocking::wait(async {
        /// let semaphore = std::sync::Arc::new(stanchion::Semaphore::new(2));
        #[doc = concat!("let permit = semaphore", $acquire, "().await?;")]
        /// assert_eq!(semaphore.available_permits(), 1);
        /// drop(permit);
        /// assert_eq!(semaphore.available_permits(), 2);
        /// # Ok::<(), stanchion::AcquireError>(())
        /// # }).unwrap();
        /// ```
        #[must_use = "dropping a permit returns it at once"]
        pub struct $Permit $(<$lifetime>)? {
            semaphore: $Handle,
            permits: usize,
        }

        impl $(<$lifetime>)? $Permit $(<$lifetime>)? {
            /// Returns the semaphore that the permits belong to.
            ///
            /// # Examples
            ///
            /// ```
            /// let semaphore = std::sync::Arc::new(stanchion::Semaphore::new(2));
            /// let borrowed = semaphore.try_acquire().unwrap();
            /// let owned = semaphore.clone().try_acquire_owned().unwrap();
            /// assert!(std::ptr::eq(borrowed.semaphore(), &**owned.semaphore()));
            /// ```
            #[must_use]
            pub fn semaphore(&self) -> $returned {
                $($borrow)? self.semaphore
            }

            /// Returns the number of permits held.
            ///
            /// # Examples
            ///
            /// ```
            /// let semaphore = stanchion::Semaphore::new(3);
            /// assert_eq!(semaphore.try_acquire_many(2).unwrap().num_permits(), 2);
            /// ```
            #[must_use]
            pub fn num_permits(&self) -> usize {
                self.permits
            }

            /// Drops the permits without returning them to the semaphore.
            ///
            /// # Examples
            ///
            /// ```
            /// let semaphore = std::sync::Arc::new(stanchion::Semaphore::new(2));
            /// semaphore.try_acquire().unwrap().forget();
            /// semaphore.clone().try_acquire_owned().unwrap().forget();
            /// assert_eq!(semaphore.available_permits(), 0);
            /// ```
            pub fn forget(mut self) {
                self.permits = 0;
            }

            /// Splits off `n` permits, or returns `None` if this holds fewer.
            ///
            /// # Examples
            ///
            /// ```
            /// let semaphore = stanchion::Semaphore::new(5);
            /// let mut permit = semaphore.try_acquire_many(5).unwrap();
            /// drop(permit.split(2));
            /// assert_eq!((permit.num_permits(), semaphore.available_permits()), (3, 2));
            /// assert!(permit.split(4).is_none());
            /// ```
            pub fn split(&mut self, n: usize) -> Option<Self> {
                self.permits = self.permits.checked_sub(n)?;
                Some(Self { semaphore: self.semaphore.clone(), permits: n })
            }

            /// Merges `other` into this permit, to be returned together.
            ///
            /// # Panics
            ///
            /// When `other` belongs to another semaphore, or both together exceed [`Semaphore::MAX_PERMITS`]. This
            /// permit is unchanged then, and `other` has been returned to its semaphore.
            ///
            /// # Examples
            ///
            /// ```
            /// let semaphore = stanchion::Semaphore::new(5);
            /// let mut permit = semaphore.try_acquire().unwrap();
            /// permit.merge(semaphore.try_acquire_many(2).unwrap());
            /// assert_eq!(permit.num_permits(), 3);
            /// ```
            #[track_caller]
            pub fn merge(&mut self, mut other: Self) {
                let same = std::ptr::eq::<Semaphore>(&*self.semaphore, &*other.semaphore);
                assert!(same, "only permits of the same semaphore can be merged");
                let sum = self.permits.checked_add(other.permits).filter(|&sum| sum <= Semaphore::MAX_PERMITS);
                self.permits = sum.expect("a permit holds at most Semaphore::MAX_PERMITS permits");
                other.permits = 0;
            }
        }

        impl $(<$lifetime>)? Drop for $Permit $(<$lifetime>)? {
            #[inline]
            fn drop(&mut self) {
                if self.permits > 0 {
                    self.semaphore.release(self.permits);
                }
            }
        }

        impl $(<$lifetime>)? fmt::Debug for $Permit $(<$lifetime>)? {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($Permit)).field("permits", &self.permits).finish_non_exhaustive()
            }
        }
    };
}

permit!(
    "Permits of a [`Semaphore`], returned together when this is dropped.",
    ".acquire",
    SemaphorePermit<'a>,
    &'a Semaphore,
    &'a Semaphore,
);
permit!(
    "Permits that keep their [`Semaphore`] alive, returned together when this is dropped.",
    ".clone().acquire_owned",
    OwnedSemaphorePermit, Arc<Semaphore>, &Arc<Semaphore>, &
);

impl AsSemaphore for Semaphore {
    #[inline]
    fn as_semaphore(&self) -> &Semaphore {
        self
    }

    #[inline]
    fn take_fast(&self, n: usize) -> bool {
        self.core.take_fast(n)
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Semaphore");
        // Formatting must not block, and the formatter is user code, which must not run under the lock.
        let snapshot = self.core.try_snapshot();
        if let Some((available, owed, waiters)) = snapshot {
            debug.field("available_permits", &available).field("permits_owed", &owed).field("waiters", &waiters);
        }
        debug.field("closed", &self.is_closed());
        if snapshot.is_some() { debug.finish() } else { debug.finish_non_exhaustive() }
    }
}

// No user code runs while the state is inconsistent, so a panic cannot be observed in it.
impl UnwindSafe for Semaphore {}
impl RefUnwindSafe for Semaphore {}
