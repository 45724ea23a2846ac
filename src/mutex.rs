//! A fair async mutex: a semaphore of one around a cell.
//!
//! All waiting is the semaphore's. What is added here is the data: the sole permit is the right to it, and a guard is
//! that permit. Every guard owns a [`Held`], whose drop returns the permit; mapping a guard moves the `Held` on, so the
//! mutex is unlocked exactly once whatever panics in between.
//!
//! This is the one file with `unsafe`, and all of it rests on one sentence: **while a `Held` exists, its owner alone
//! may touch the cell.** That holds because a `Held` is made only where the sole permit was acquired (a guard's `new` is
//! called when a lock future is ready, or `try_take` or `take_sole` has succeeded), no permit is ever added, and it is not
//! `Clone`. The semaphore's ordering makes what one owner wrote visible to the next.

#![allow(unsafe_code)]

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::blocking;
use crate::semaphore::{Acquiring, Host, Semaphore};
use crate::sync::{UnsafeCell, const_fn};

/// Lets one in at a time, first come, first served.
///
/// The guard may be held across an `.await`. When it never is, and waiting is short, a blocking mutex such as std's is
/// the better choice. There is no poisoning: a panic while the guard is held unlocks.
///
/// # Fairness
///
/// The lock is handed over in the order in which the futures were first polled, directly: while somebody waits,
/// [`try_lock`](Self::try_lock) fails.
///
/// # Memory ordering
///
/// What happened before an unlock happens before the next lock.
///
/// # Examples
///
/// ```
/// use stanchion::{Mutex, blocking};
///
/// static TOTAL: Mutex<u64> = Mutex::new(0);
///
/// blocking::wait(async {
///     *TOTAL.lock().await += 2;
/// });
/// assert_eq!(*TOTAL.blocking_lock(), 2);
/// ```
pub struct Mutex<T: ?Sized> {
    /// Holds one permit: the right to `value`.
    semaphore: Semaphore,
    value: UnsafeCell<T>,
}

/// A future of [`Mutex::lock`].
///
/// # Cancel safety
///
/// Dropping it gives up the place in the queue; a lock that it had been handed goes to the next in line.
/// Forgetting it, or keeping it without polling it on, holds up everybody behind it.
///
/// # Panics
///
/// When it is polled after it was ready.
#[must_use = "futures do nothing unless polled"]
pub struct Lock<'a, T: ?Sized>(Acquiring<&'a Mutex<T>>);

/// A future of [`Mutex::lock_owned`].
///
/// # Cancel safety
///
/// Dropping it gives up the place in the queue; a lock that it had been handed goes to the next in line.
/// Forgetting it, or keeping it without polling it on, holds up everybody behind it.
///
/// # Panics
///
/// When it is polled after it was ready.
#[must_use = "futures do nothing unless polled"]
pub struct LockOwned<T: ?Sized>(Acquiring<Arc<Mutex<T>>>);

/// Access to the value of a [`Mutex`], which is unlocked when this is dropped.
#[must_use = "dropping a guard unlocks the mutex at once"]
pub struct MutexGuard<'a, T: ?Sized> {
    held: Held<&'a Mutex<T>>,
    /// `Send` and `Sync` as the reference that this stands for.
    marker: PhantomData<&'a mut T>,
}

/// Access to the value of a shared [`Mutex`], which is unlocked when this is dropped.
#[must_use = "dropping a guard unlocks the mutex at once"]
pub struct OwnedMutexGuard<T: ?Sized> {
    held: Held<Arc<Mutex<T>>>,
    /// `Sync` only if the value is, and `Unpin` though it may not be: the value is not in here.
    marker: PhantomData<Box<T>>,
}

/// Access to a part of the value of a [`Mutex`], which is unlocked when this is dropped.
#[must_use = "dropping a guard unlocks the mutex at once"]
pub struct MappedMutexGuard<'a, U: ?Sized> {
    // Held for its drop.
    held: Held<&'a Semaphore>,
    part: *mut U,
    marker: PhantomData<&'a mut U>,
}

/// Access to a part of the value of a shared [`Mutex`], which is unlocked when this is dropped.
#[must_use = "dropping a guard unlocks the mutex at once"]
pub struct OwnedMappedMutexGuard<T: ?Sized, U: ?Sized = T> {
    // Held for its drop, and to keep the value alive.
    held: Held<Arc<Mutex<T>>>,
    part: *mut U,
}

/// The mutex is locked, or somebody else is first in line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TryLockError(());

impl<T> Mutex<T> {
    const_fn! {
        /// Creates an unlocked mutex.
        ///
        /// # Examples
        ///
        /// ```
        /// let mutex = stanchion::Mutex::new(5);
        /// assert_eq!(*mutex.try_lock().unwrap(), 5);
        /// ```
        #[must_use]
        pub const fn new(value: T) -> Self {
            Self { semaphore: Semaphore::new(1), value: UnsafeCell::new(value) }
        }
    }

    /// Returns the value.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(stanchion::Mutex::new(5).into_inner(), 5);
    /// ```
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Locks the mutex, waiting in line for it if need be.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the place in the queue and loses nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// # stanchion::blocking::wait(async {
    /// let mutex = stanchion::Mutex::new(1);
    /// *mutex.lock().await += 1;
    /// assert_eq!(mutex.into_inner(), 2);
    /// # });
    /// ```
    #[inline]
    pub fn lock(&self) -> Lock<'_, T> {
        Lock(Acquiring::new(self, 1))
    }

    /// Locks the mutex with a guard that keeps it alive, waiting in line for it if need be.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the place in the queue and loses nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    /// use stanchion::{Mutex, blocking};
    ///
    /// let mutex = Arc::new(Mutex::new(1));
    /// let mut guard = blocking::wait(mutex.clone().lock_owned());
    /// std::thread::spawn(move || *guard += 1).join().unwrap();
    /// assert_eq!(*mutex.try_lock().unwrap(), 2);
    /// ```
    #[inline]
    pub fn lock_owned(self: Arc<Self>) -> LockOwned<T> {
        LockOwned(Acquiring::new(self, 1))
    }

    /// Locks the mutex if it is free and nobody waits.
    ///
    /// # Errors
    ///
    /// [`TryLockError`] otherwise.
    ///
    /// # Examples
    ///
    /// ```
    /// let mutex = stanchion::Mutex::new(());
    /// let guard = mutex.try_lock().unwrap();
    /// assert!(mutex.try_lock().is_err());
    /// # drop(guard);
    /// ```
    #[inline]
    pub fn try_lock(&self) -> Result<MutexGuard<'_, T>, TryLockError> {
        self.semaphore.try_take(1).map_err(|_| TryLockError(()))?;
        Ok(MutexGuard::new(self))
    }

    /// Locks the mutex with a guard that keeps it alive, if it is free and nobody waits.
    ///
    /// # Errors
    ///
    /// [`TryLockError`] otherwise.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// let guard = Arc::new(stanchion::Mutex::new(7)).try_lock_owned().unwrap();
    /// assert_eq!(*guard, 7);
    /// ```
    #[inline]
    pub fn try_lock_owned(self: Arc<Self>) -> Result<OwnedMutexGuard<T>, TryLockError> {
        self.semaphore.try_take(1).map_err(|_| TryLockError(()))?;
        Ok(OwnedMutexGuard::new(self))
    }

    /// Locks the mutex, blocking the current thread in the same line as the tasks.
    ///
    /// Not for threads that an async runtime runs its tasks on; see [`blocking`].
    ///
    /// # Examples
    ///
    /// ```
    /// let mutex = stanchion::Mutex::new(1);
    /// *mutex.blocking_lock() += 1;
    /// assert_eq!(mutex.into_inner(), 2);
    /// ```
    pub fn blocking_lock(&self) -> MutexGuard<'_, T> {
        blocking::wait(self.lock())
    }

    /// Locks the mutex with a guard that keeps it alive, blocking the current thread in the same line as the tasks.
    ///
    /// Not for threads that an async runtime runs its tasks on; see [`blocking`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// let mutex = Arc::new(stanchion::Mutex::new(1));
    /// *mutex.clone().blocking_lock_owned() += 1;
    /// assert_eq!(*mutex.try_lock().unwrap(), 2);
    /// ```
    pub fn blocking_lock_owned(self: Arc<Self>) -> OwnedMutexGuard<T> {
        blocking::wait(self.lock_owned())
    }

    /// The value, without locking: the borrow proves that nobody else can.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut mutex = stanchion::Mutex::new(1);
    /// *mutex.get_mut() += 1;
    /// assert_eq!(mutex.into_inner(), 2);
    /// ```
    pub fn get_mut(&mut self) -> &mut T {
        // SAFETY: `&mut self` excludes every guard but a forgotten one, which can do nothing.
        self.value.with_mut(|value| unsafe { &mut *value })
    }

    /// How many wait: polled and not yet handed the lock.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(stanchion::Mutex::new(()).waiters(), 0);
    /// ```
    #[must_use]
    pub fn waiters(&self) -> usize {
        self.semaphore.waiters()
    }

    #[cfg(any(test, fuzzing, loom, debug_assertions))]
    #[doc(hidden)]
    pub fn validate(&self) {
        self.semaphore.validate();
        assert!(self.semaphore.available_permits() <= 1, "a mutex has one permit");
    }
}

impl<'a, T: ?Sized> Future for Lock<'a, T> {
    type Output = MutexGuard<'a, T>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(cx).map(|mutex| MutexGuard::new(mutex.expect("a mutex is never closed")))
    }
}

impl<T: ?Sized> Future for LockOwned<T> {
    type Output = OwnedMutexGuard<T>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(cx).map(|mutex| OwnedMutexGuard::new(mutex.expect("a mutex is never closed")))
    }
}

impl<'a, T: ?Sized> MutexGuard<'a, T> {
    fn new(mutex: &'a Mutex<T>) -> Self {
        Self { held: Held(mutex), marker: PhantomData }
    }

    /// The mutex that this guard locks.
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::{Mutex, MutexGuard};
    ///
    /// let mutex = Mutex::new(5);
    /// let guard = mutex.try_lock().unwrap();
    /// assert!(std::ptr::eq(MutexGuard::mutex(&guard), &mutex));
    /// ```
    #[must_use]
    pub fn mutex(this: &Self) -> &'a Mutex<T> {
        this.held.0
    }
}

impl<T: ?Sized> OwnedMutexGuard<T> {
    fn new(mutex: Arc<Mutex<T>>) -> Self {
        Self { held: Held(mutex), marker: PhantomData }
    }

    /// The mutex that this guard locks.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    /// use stanchion::{Mutex, OwnedMutexGuard};
    ///
    /// let mutex = Arc::new(Mutex::new(5));
    /// let guard = mutex.clone().try_lock_owned().unwrap();
    /// assert!(Arc::ptr_eq(OwnedMutexGuard::mutex(&guard), &mutex));
    /// ```
    #[must_use]
    pub fn mutex(this: &Self) -> &Arc<Mutex<T>> {
        &this.held.0
    }
}

/// `map` and `try_map`, the same for all four guards: a pointer to the part, and the `Held` moved on.
macro_rules! mapping {
    (impl[$($generics:tt)*] $Guard:ident<$($argument:tt),*> over $Value:ident, $make:literal => $Mapped:ty: $move_on:expr) => {
        impl<$($generics)*> $Guard<$($argument),*> {
            /// Narrows the access to a part of the value.
            ///
            /// An associated function, so that it hides no method of the value. A panic in `f` unlocks the mutex.
            ///
            /// # Examples
            ///
            /// ```
            /// use stanchion::*;
            ///
            /// let mutex = std::sync::Arc::new(Mutex::new((1, 2)));
            #[doc = concat!("let guard = ", $make, ";")]
            #[doc = concat!("let mut second = ", stringify!($Guard), "::map(guard, |pair| &mut pair.1);")]
            /// *second = 3;
            /// drop(second);
            /// assert_eq!(*mutex.try_lock().unwrap(), (1, 3));
            /// ```
            pub fn map<V: ?Sized, F>(mut this: Self, f: F) -> $Mapped
            where
                F: FnOnce(&mut $Value) -> &mut V,
            {
                let part: *mut V = f(&mut *this);
                $move_on(this.held, part)
            }

            /// Narrows the access to a part of the value, if there is such a part.
            ///
            /// An associated function, so that it hides no method of the value. A panic in `f` unlocks the mutex.
            ///
            /// # Errors
            ///
            /// The guard as it was, when `f` returns `None`.
            ///
            /// # Examples
            ///
            /// ```
            /// use stanchion::*;
            ///
            /// let mutex = std::sync::Arc::new(Mutex::new((1, 2)));
            #[doc = concat!("let guard = ", $make, ";")]
            #[doc = concat!("let guard = ", stringify!($Guard), "::try_map(guard, |_| None::<&mut i32>).unwrap_err();")]
            /// assert_eq!(*guard, (1, 2));
            /// ```
            pub fn try_map<V: ?Sized, F>(mut this: Self, f: F) -> Result<$Mapped, Self>
            where
                F: FnOnce(&mut $Value) -> Option<&mut V>,
            {
                match f(&mut *this).map(|part| part as *mut V) {
                    Some(part) => Ok($move_on(this.held, part)),
                    None => Err(this),
                }
            }
        }
    };
}

mapping!(impl['a, T: ?Sized] MutexGuard<'a, T> over T, "mutex.try_lock().unwrap()"
    => MappedMutexGuard<'a, V>: |held: Held<&'a Mutex<T>>, part| MappedMutexGuard::new(held.forget_type(), part));
mapping!(impl['a, U: ?Sized] MappedMutexGuard<'a, U> over U, "MutexGuard::map(mutex.try_lock().unwrap(), |pair| pair)"
    => MappedMutexGuard<'a, V>: MappedMutexGuard::new);
mapping!(impl[T: ?Sized] OwnedMutexGuard<T> over T, "mutex.clone().try_lock_owned().unwrap()"
    => OwnedMappedMutexGuard<T, V>: OwnedMappedMutexGuard::new);
mapping!(impl[T: ?Sized, U: ?Sized] OwnedMappedMutexGuard<T, U> over U,
    "OwnedMutexGuard::map(mutex.clone().try_lock_owned().unwrap(), |pair| pair)"
    => OwnedMappedMutexGuard<T, V>: OwnedMappedMutexGuard::new);

impl<'a, U: ?Sized> MappedMutexGuard<'a, U> {
    fn new(held: Held<&'a Semaphore>, part: *mut U) -> Self {
        Self { held, part, marker: PhantomData }
    }
}

impl<T: ?Sized, U: ?Sized> OwnedMappedMutexGuard<T, U> {
    fn new(held: Held<Arc<Mutex<T>>>, part: *mut U) -> Self {
        Self { held, part }
    }
}

/// The right to a mutex's value: its sole permit, returned when this is dropped.
struct Held<H: Deref<Target: Host>>(H);

impl<H: Deref<Target: Host>> Drop for Held<H> {
    #[inline]
    fn drop(&mut self) {
        self.0.semaphore().release_sole();
    }
}

impl<'a, T: ?Sized> Held<&'a Mutex<T>> {
    /// The same right, when the type of the whole no longer matters.
    fn forget_type(self) -> Held<&'a Semaphore> {
        let semaphore = &self.0.semaphore;
        std::mem::forget(self);
        Held(semaphore)
    }
}

impl<T: ?Sized> Host for Mutex<T> {
    #[inline]
    fn semaphore(&self) -> &Semaphore {
        &self.semaphore
    }

    #[inline]
    fn take_fast(&self, _one: usize) -> bool {
        self.semaphore.take_sole()
    }
}

// SAFETY: a shared mutex hands out `&mut T`, to one thread at a time; the value moves between threads, so `T: Send`, and
// is never shared through the mutex itself.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}

// SAFETY: a mapped guard stands for a `&mut U`, and unlocking works from any thread.
unsafe impl<U: ?Sized + Send> Send for MappedMutexGuard<'_, U> {}
// SAFETY: as above; a shared guard gives only `&U`.
unsafe impl<U: ?Sized + Sync> Sync for MappedMutexGuard<'_, U> {}

// SAFETY: as `OwnedMutexGuard<T>`, which is what it keeps, and `&mut U`, which is what it gives.
unsafe impl<T: ?Sized + Send, U: ?Sized + Send> Send for OwnedMappedMutexGuard<T, U> {}
// SAFETY: as above; a shared guard gives only `&U`.
unsafe impl<T: ?Sized + Send + Sync, U: ?Sized + Send + Sync> Sync for OwnedMappedMutexGuard<T, U> {}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this guard owns the `Held`, and is borrowed for as long as the reference lives.
        self.held.0.value.with(|value| unsafe { &*value })
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`, and the borrow is exclusive.
        self.held.0.value.with_mut(|value| unsafe { &mut *value })
    }
}

impl<T: ?Sized> Deref for OwnedMutexGuard<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this guard owns the `Held`, and is borrowed for as long as the reference lives.
        self.held.0.value.with(|value| unsafe { &*value })
    }
}

impl<T: ?Sized> DerefMut for OwnedMutexGuard<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`, and the borrow is exclusive.
        self.held.0.value.with_mut(|value| unsafe { &mut *value })
    }
}

impl<U: ?Sized> Deref for MappedMutexGuard<'_, U> {
    type Target = U;

    #[inline]
    fn deref(&self) -> &U {
        // SAFETY: `part` is of the value that this guard's `Held` gives the right to.
        unsafe { &*self.part }
    }
}

impl<U: ?Sized> DerefMut for MappedMutexGuard<'_, U> {
    #[inline]
    fn deref_mut(&mut self) -> &mut U {
        // SAFETY: as in `deref`, and the borrow is exclusive.
        unsafe { &mut *self.part }
    }
}

impl<T: ?Sized, U: ?Sized> Deref for OwnedMappedMutexGuard<T, U> {
    type Target = U;

    #[inline]
    fn deref(&self) -> &U {
        // SAFETY: `part` is of the value that this guard's `Held` keeps alive and gives the right to.
        unsafe { &*self.part }
    }
}

impl<T: ?Sized, U: ?Sized> DerefMut for OwnedMappedMutexGuard<T, U> {
    #[inline]
    fn deref_mut(&mut self) -> &mut U {
        // SAFETY: as in `deref`, and the borrow is exclusive.
        unsafe { &mut *self.part }
    }
}

/// A guard shows what it guards.
macro_rules! show {
    ($([$($generics:tt)*] $Guard:ty;)*) => {$(
        impl<$($generics)* + fmt::Debug> fmt::Debug for $Guard {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                (**self).fmt(f)
            }
        }

        impl<$($generics)* + fmt::Display> fmt::Display for $Guard {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                (**self).fmt(f)
            }
        }
    )*};
}

show! {
    [T: ?Sized] MutexGuard<'_, T>;
    [T: ?Sized] OwnedMutexGuard<T>;
    [U: ?Sized] MappedMutexGuard<'_, U>;
    [T: ?Sized, U: ?Sized] OwnedMappedMutexGuard<T, U>;
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Mutex");
        // Not `try_lock`, which may have to wait for somebody who decides.
        if self.semaphore.take_sole() {
            debug.field("value", &&*MutexGuard::new(self)).finish()
        } else {
            debug.field("value", &format_args!("<locked>")).finish()
        }
    }
}

impl<T: ?Sized> fmt::Debug for Lock<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.debug("Lock", f)
    }
}

impl<T: ?Sized> fmt::Debug for LockOwned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.debug("LockOwned", f)
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> From<T> for Mutex<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl fmt::Display for TryLockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the mutex is locked, or somebody else is first in line")
    }
}

impl std::error::Error for TryLockError {}
