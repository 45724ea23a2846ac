//! A fair async mutex: a semaphore with one permit around a cell.
//!
//! All waiting is the semaphore's. This file adds the data: the sole permit is the right to it, and a guard is that
//! permit. Every guard owns a [`Held`], which returns the permit when it is dropped; mapping a guard moves the `Held`
//! on, so the mutex is unlocked exactly once, whatever panics in between.
//!
//! # Soundness
//!
//! This is the one file with `unsafe`. Its argument has three parts.
//!
//! **Exclusion.** *While a `Held` exists, its owner alone may access the cell.* A `Held` is created only where the sole
//! permit was acquired (a guard's `new` is called when a lock future is ready, or when `try_take_sole` or `take_sole`
//! has succeeded), no permit is ever added, and `Held` is not `Clone`. The semaphore's orderings make what one owner
//! wrote visible to the next. A reference into the cell borrows the guard that owns the `Held`, so it ends before the
//! unlock.
//!
//! **Lifetime of the pointer.** A mapped guard has a raw pointer to a part of the value. The value outlives it: a
//! borrowed guard keeps the lifetime `'a` of the mutex's borrow in its type, an owned one keeps the `Arc`. The value
//! does not move, since nothing moves it out while the mutex is borrowed or shared, and the part is not moved or
//! dropped, since only the guard's owner could change the value, and the guard gives no access but to the part.
//!
//! **Types of the part.** The closure of `map` is `for<'x> FnOnce(&'x mut T) -> &'x mut U`, so what it returns must be
//! valid for *each* lifetime `'x` at which `&'x mut T` is well-formed: for as long as all borrows within `T` last. It
//! may borrow from the value, or from data that `T` itself borrows, or be leaked. So the pointer is valid as long as
//! the type of the guard keeps `T` (or an upper bound for its borrows) alive:
//!
//! - `MutexGuard<'a, T>` to `MappedMutexGuard<'a, U>`, and `MappedMutexGuard<'a, U>` to `MappedMutexGuard<'a, V>`: the
//!   type dropped from the result was well-formed with `&'a mut` (see the markers), so its borrows outlast `'a`, which
//!   stays.
//! - `OwnedMutexGuard<T>` to `OwnedMappedMutexGuard<T, U>`: `T` stays, and is invariant.
//! - `OwnedMappedMutexGuard<T, U>` to `OwnedMappedMutexGuard<T, V>`: **`U` is dropped from the type, and no lifetime
//!   bounds it.** If it were `&'b mut V`, the closure could return a reborrow that lasts as long as `'b`, which the new
//!   type does not mention. So `map` and `try_map` require `U: 'static` there. (`tests/compile_fail` has both
//!   exploits.)

#![allow(unsafe_code)]

mod error;

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

pub use self::error::TryLockError;
use crate::blocking;
use crate::semaphore::{Acquiring, AsSemaphore, Semaphore};
use crate::sync::{AccessTracker, UnsafeCell, const_fn};

/// A fair async mutex.
///
/// The guard may be held across an `.await`. When it never is, and the critical sections are short, a blocking mutex
/// such as std's is the better choice. There is no poisoning: a panic while the guard is held unlocks.
///
/// # Fairness
///
/// The lock is handed over directly, in the order in which the futures were first polled: while one waits,
/// [`try_lock`](Self::try_lock) fails.
///
/// # Memory ordering
///
/// What happened before an unlock happens before the next lock, and before a [`waiters`](Self::waiters) that observes
/// it.
///
/// # Examples
///
/// ```
/// use stanchion::Mutex;
///
/// static TOTAL: Mutex<u64> = Mutex::new(0);
///
/// # stanchion::blocking::wait(async {
/// *TOTAL.lock().await += 2;
/// assert_eq!(*TOTAL.lock().await, 2);
/// # });
/// ```
///
/// With a time limit, by your runtime's timeout. A future that is dropped loses its place in the queue, and nothing
/// else.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// use tokio::time::{Duration, timeout};
///
/// let mutex = stanchion::Mutex::new(1);
/// let guard = mutex.lock().await;
/// assert!(timeout(Duration::from_secs(1), mutex.lock()).await.is_err());
/// # });
/// ```
pub struct Mutex<T: ?Sized> {
    lock: RawLock,
    value: UnsafeCell<T>,
}

/// The part of a mutex that does not depend on the type of the value.
struct RawLock {
    /// Holds one permit: the right to the value.
    semaphore: Semaphore,
    /// Lets loom see each access to the value, through mapped guards too.
    accesses: AccessTracker,
}

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
            let lock = RawLock { semaphore: Semaphore::new(1), accesses: AccessTracker::new() };
            Self { lock, value: UnsafeCell::new(value) }
        }
    }

    /// Consumes the mutex and returns the value.
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
    /// Locks the mutex, waiting for it if necessary.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up its place in the queue; a lock that it had been granted goes to the next waiter.
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

    /// Locks the mutex with a guard that keeps it alive, waiting for it if necessary.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up its place in the queue; a lock that it had been granted goes to the next waiter.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    /// use stanchion::Mutex;
    ///
    /// # stanchion::blocking::wait(async {
    /// let mutex = Arc::new(Mutex::new(1));
    /// let mut guard = mutex.clone().lock_owned().await;
    /// std::thread::spawn(move || *guard += 1).join().unwrap();
    /// assert_eq!(*mutex.lock().await, 2);
    /// # });
    /// ```
    #[inline]
    pub fn lock_owned(self: Arc<Self>) -> LockOwned<T> {
        LockOwned(Acquiring::new(self, 1))
    }

    /// Locks the mutex if it is unlocked and no future waits.
    ///
    /// # Errors
    ///
    /// Returns [`TryLockError`] otherwise.
    ///
    /// # Examples
    ///
    /// ```
    /// let mutex = stanchion::Mutex::new(());
    /// let guard = mutex.try_lock().unwrap();
    /// assert!(mutex.try_lock().is_err());
    /// ```
    #[inline]
    pub fn try_lock(&self) -> Result<MutexGuard<'_, T>, TryLockError> {
        if self.lock.semaphore.try_take_sole() { Ok(MutexGuard::new(self)) } else { Err(TryLockError(())) }
    }

    /// Locks the mutex with a guard that keeps it alive, if it is unlocked and no future waits.
    ///
    /// # Errors
    ///
    /// Returns [`TryLockError`] otherwise.
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
        if self.lock.semaphore.try_take_sole() { Ok(OwnedMutexGuard::new(self)) } else { Err(TryLockError(())) }
    }

    /// Locks the mutex, blocking the current thread in the same queue as the tasks.
    ///
    /// # Deadlocks
    ///
    /// Never returns if the lock is held by a task of the runtime thread that it blocks; inside a task write
    /// `mutex.lock().await`. See [`blocking`](blocking#deadlocks).
    ///
    /// # Examples
    ///
    /// ```
    /// let mutex = stanchion::Mutex::new(1);
    /// *mutex.blocking_lock() += 1;
    /// assert_eq!(mutex.into_inner(), 2);
    /// ```
    pub fn blocking_lock(&self) -> MutexGuard<'_, T> {
        blocking::wait_reregistering(self.lock())
    }

    /// Locks the mutex with a guard that keeps it alive, blocking the current thread in the same queue as the tasks.
    ///
    /// # Deadlocks
    ///
    /// Never returns if the lock is held by a task of the runtime thread that it blocks; inside a task write
    /// `mutex.lock_owned().await`. See [`blocking`](blocking#deadlocks).
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
        blocking::wait_reregistering(self.lock_owned())
    }

    /// Returns a reference to the value, without locking: the exclusive borrow proves that no guard is in use.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut mutex = stanchion::Mutex::new(1);
    /// *mutex.get_mut() += 1;
    /// assert_eq!(mutex.into_inner(), 2);
    /// ```
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    /// Returns the number of futures that wait: polled and not yet granted the lock.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(stanchion::Mutex::new(()).waiters(), 0);
    /// ```
    #[must_use]
    pub fn waiters(&self) -> usize {
        self.lock.semaphore.waiters()
    }

    /// Checks every invariant of the state; for tests, and not part of the public interface.
    #[doc(hidden)]
    pub fn validate(&self) {
        self.lock.semaphore.validate();
        assert!(self.lock.semaphore.available_permits() <= 1, "a mutex has one permit");
    }
}

/// Defines the future of a lock, which holds the mutex by `$Handle`, and is ready with `$Guard`.
macro_rules! lock_future {
    ($Lock:ident<$($lifetime:lifetime,)? T>, $Handle:ty, $Guard:ident, $handle:literal, $method:literal) => {
        #[doc = concat!("Future returned by [`Mutex::", $method, "`].")]
        ///
        /// # Cancel safety
        ///
        /// Dropping it gives up its place in the queue; a lock that it had been granted goes to the next waiter.
        /// Forgetting it, or keeping it without polling it, holds up every waiter behind it.
        ///
        /// # Panics
        ///
        /// When it is polled after it was ready.
        ///
        /// # Examples
        ///
        /// ```
        /// # stanchion::blocking::wait(async {
        /// let mutex = std::sync::Arc::new(stanchion::Mutex::new(1));
        /// let guard = mutex.try_lock().unwrap();
        #[doc = concat!("let mut lock = mutex", $handle, ".", $method, "();")]
        /// assert!(futures::poll!(&mut lock).is_pending()); // has its place in the queue
        /// drop(guard);
        /// assert_eq!(*lock.await, 1);
        /// # });
        /// ```
        #[must_use = "futures do nothing unless polled"]
        pub struct $Lock<$($lifetime,)? T: ?Sized>(Acquiring<$Handle>);

        impl<$($lifetime,)? T: ?Sized> Future for $Lock<$($lifetime,)? T> {
            type Output = $Guard<$($lifetime,)? T>;

            #[inline]
            fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
                self.0.poll(cx).map(|mutex| $Guard::new(mutex.expect("a mutex is never closed")))
            }
        }

        impl<$($lifetime,)? T: ?Sized> fmt::Debug for $Lock<$($lifetime,)? T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.debug(stringify!($Lock), f)
            }
        }
    };
}

lock_future!(Lock<'a, T>, &'a Mutex<T>, MutexGuard, "", "lock");
lock_future!(LockOwned<T>, Arc<Mutex<T>>, OwnedMutexGuard, ".clone()", "lock_owned");

/// A guard that gives access to the value of a [`Mutex`], which is unlocked when it is dropped.
///
/// # Examples
///
/// ```
/// # stanchion::blocking::wait(async {
/// let mutex = stanchion::Mutex::new(vec![1]);
/// let mut guard = mutex.lock().await;
/// guard.push(2);
/// drop(guard);
/// assert_eq!(mutex.into_inner(), [1, 2]);
/// # });
/// ```
#[must_use = "dropping a guard unlocks the mutex at once"]
pub struct MutexGuard<'a, T: ?Sized> {
    held: Held<&'a Mutex<T>>,
    /// Variance of the reference that this stands for, and `Sync` only if the value is.
    marker: PhantomData<&'a mut T>,
}

/// A guard that keeps its [`Mutex`] alive and gives access to its value; dropping it unlocks the mutex.
///
/// # Examples
///
/// ```
/// # stanchion::blocking::wait(async {
/// let mutex = std::sync::Arc::new(stanchion::Mutex::new(1));
/// let mut guard = mutex.clone().lock_owned().await;
/// std::thread::spawn(move || *guard += 1);
/// assert_eq!(*mutex.lock().await, 2);
/// # });
/// ```
#[must_use = "dropping a guard unlocks the mutex at once"]
pub struct OwnedMutexGuard<T: ?Sized> {
    held: Held<Arc<Mutex<T>>>,
    /// `Sync` only if the value is, and `Unpin` even if it is not: the value is not in here.
    marker: PhantomData<Box<T>>,
}

/// A guard that gives access to a part of the value of a [`Mutex`], which is unlocked when it is dropped.
///
/// # Examples
///
/// ```
/// use stanchion::{MappedMutexGuard, Mutex, MutexGuard};
///
/// async fn second(pair: &Mutex<(u8, u8)>) -> MappedMutexGuard<'_, u8> {
///     MutexGuard::map(pair.lock().await, |pair| &mut pair.1)
/// }
///
/// # stanchion::blocking::wait(async {
/// let pair = Mutex::new((1, 2));
/// *second(&pair).await += 1;
/// assert_eq!(*pair.lock().await, (1, 3));
/// # });
/// ```
#[must_use = "dropping a guard unlocks the mutex at once"]
pub struct MappedMutexGuard<'a, U: ?Sized> {
    held: Held<&'a RawLock>,
    part: *mut U,
    /// Invariant in `U`, and implies `U: 'a`, without which mapping on would be unsound.
    marker: PhantomData<&'a mut U>,
}

/// A guard that keeps its [`Mutex`] alive and gives access to a part of its value; dropping it unlocks the mutex.
///
/// # Examples
///
/// ```
/// # stanchion::blocking::wait(async {
/// # use stanchion::OwnedMutexGuard;
/// let mutex = std::sync::Arc::new(stanchion::Mutex::new((1, "one")));
/// let number = OwnedMutexGuard::map(mutex.lock_owned().await, |pair| &mut pair.0);
/// assert_eq!(*number, 1);
/// # });
/// ```
#[must_use = "dropping a guard unlocks the mutex at once"]
pub struct OwnedMappedMutexGuard<T: ?Sized, U: ?Sized = T> {
    held: Held<Arc<Mutex<T>>>,
    part: *mut U,
}

impl<'a, T: ?Sized> MutexGuard<'a, T> {
    fn new(mutex: &'a Mutex<T>) -> Self {
        Self { held: Held(mutex), marker: PhantomData }
    }

    /// Returns the mutex that this guard locks.
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

    /// Returns the mutex that this guard locks.
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

impl<'a, U: ?Sized> MappedMutexGuard<'a, U> {
    fn new(held: Held<&'a RawLock>, part: *mut U) -> Self {
        Self { held, part, marker: PhantomData }
    }
}

impl<T: ?Sized, U: ?Sized> OwnedMappedMutexGuard<T, U> {
    fn new(held: Held<Arc<Mutex<T>>>, part: *mut U) -> Self {
        Self { held, part }
    }
}

/// Defines `map` and `try_map`, which are the same for all four guards: a pointer to the part, and the `Held` moved on.
macro_rules! mapping {
    (impl[$($generics:tt)*] $Guard:ident<$($argument:tt),*> over $Value:ident $(: $bound:lifetime)?, $make:literal
        => $Mapped:ty: $move_on:expr) => {
        impl<$($generics)*> $Guard<$($argument),*> {
            /// Maps the guard to a part of the value.
            ///
            /// This is an associated function, so that it hides no method of the value. A panic of `f` unlocks the
            /// mutex.
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
                $($Value: $bound,)?
            {
                let part: *mut V = f(&mut *this);
                $move_on(this.held, part)
            }

            /// Maps the guard to a part of the value, if there is such a part.
            ///
            /// This is an associated function, so that it hides no method of the value. A panic of `f` unlocks the
            /// mutex.
            ///
            /// # Errors
            ///
            /// Returns the guard as it was, when `f` returns `None`.
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
                $($Value: $bound,)?
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
    => MappedMutexGuard<'a, V>: |held: Held<&'a Mutex<T>>, part| MappedMutexGuard::new(held.erase_type(), part));
mapping!(impl['a, U: ?Sized] MappedMutexGuard<'a, U> over U, "MutexGuard::map(mutex.try_lock().unwrap(), |pair| pair)"
    => MappedMutexGuard<'a, V>: MappedMutexGuard::new);
mapping!(impl[T: ?Sized] OwnedMutexGuard<T> over T, "mutex.clone().try_lock_owned().unwrap()"
    => OwnedMappedMutexGuard<T, V>: OwnedMappedMutexGuard::new);
// `U` is dropped from the type: see "Types of the part" above.
mapping!(impl[T: ?Sized, U: ?Sized] OwnedMappedMutexGuard<T, U> over U: 'static,
    "OwnedMutexGuard::map(mutex.clone().try_lock_owned().unwrap(), |pair| pair)"
    => OwnedMappedMutexGuard<T, V>: OwnedMappedMutexGuard::new);

/// The right to a mutex's value: the sole permit, returned when this is dropped.
struct Held<H: Deref<Target: AsRawLock>>(H);

impl<H: Deref<Target: AsRawLock>> Drop for Held<H> {
    #[inline]
    fn drop(&mut self) {
        self.0.as_raw_lock().semaphore.release_sole();
    }
}

impl<'a, T: ?Sized> Held<&'a Mutex<T>> {
    /// Moves the right on, without the type of the whole value.
    fn erase_type(self) -> Held<&'a RawLock> {
        let lock = &self.0.lock;
        std::mem::forget(self);
        Held(lock)
    }
}

/// A mutex, with or without the type of its value.
trait AsRawLock {
    fn as_raw_lock(&self) -> &RawLock;
}

impl AsRawLock for RawLock {
    #[inline]
    fn as_raw_lock(&self) -> &RawLock {
        self
    }
}

impl<T: ?Sized> AsRawLock for Mutex<T> {
    #[inline]
    fn as_raw_lock(&self) -> &RawLock {
        &self.lock
    }
}

impl<T: ?Sized> AsSemaphore for Mutex<T> {
    #[inline]
    fn as_semaphore(&self) -> &Semaphore {
        &self.lock.semaphore
    }

    #[inline]
    fn take_fast(&self, _one: usize) -> bool {
        self.lock.semaphore.take_sole()
    }
}

// SAFETY: a shared mutex gives out `&mut T`, to one thread at a time; the value moves between threads, so `T: Send`,
// and is never shared through the mutex itself.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}

// SAFETY: a mapped guard stands for a `&mut U`, and unlocking works from any thread.
unsafe impl<U: ?Sized + Send> Send for MappedMutexGuard<'_, U> {}
// SAFETY: as above; a shared guard gives only `&U`.
unsafe impl<U: ?Sized + Sync> Sync for MappedMutexGuard<'_, U> {}

// SAFETY: as `OwnedMutexGuard<T>`, which it keeps alive, and `&mut U`, which it gives out.
unsafe impl<T: ?Sized + Send, U: ?Sized + Send> Send for OwnedMappedMutexGuard<T, U> {}
// SAFETY: as above; a shared guard gives only `&U`.
unsafe impl<T: ?Sized + Send + Sync, U: ?Sized + Send + Sync> Sync for OwnedMappedMutexGuard<T, U> {}

/// Defines the access through a guard to what `$pointer` points to, seen by loom.
macro_rules! access {
    ($([$($generics:tt)*] $Guard:ty => $Target:ident: |$this:ident| $pointer:expr;)*) => {$(
        impl<$($generics)*> Deref for $Guard {
            type Target = $Target;

            #[inline]
            fn deref(&self) -> &$Target {
                let $this = self;
                $this.held.0.as_raw_lock().accesses.read();
                // SAFETY: this guard owns the `Held` that gives the right to the value, which the pointer points to (or
                // into), and is borrowed for as long as the reference lives.
                unsafe { &*$pointer }
            }
        }

        impl<$($generics)*> DerefMut for $Guard {
            #[inline]
            fn deref_mut(&mut self) -> &mut $Target {
                let $this = self;
                $this.held.0.as_raw_lock().accesses.write();
                // SAFETY: as in `deref`, and the borrow is exclusive.
                unsafe { &mut *$pointer }
            }
        }

        impl<$($generics)*> fmt::Debug for $Guard where $Target: fmt::Debug {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                (**self).fmt(f)
            }
        }

        impl<$($generics)*> fmt::Display for $Guard where $Target: fmt::Display {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                (**self).fmt(f)
            }
        }
    )*};
}

access! {
    [T: ?Sized] MutexGuard<'_, T> => T: |this| this.held.0.value.get();
    [T: ?Sized] OwnedMutexGuard<T> => T: |this| this.held.0.value.get();
    [U: ?Sized] MappedMutexGuard<'_, U> => U: |this| this.part;
    [T: ?Sized, U: ?Sized] OwnedMappedMutexGuard<T, U> => U: |this| this.part;
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Mutex");
        // Not `try_lock`, which may block for a moment, as unlocking may if a waiter has come meanwhile.
        if self.lock.semaphore.take_sole() {
            debug.field("data", &&*MutexGuard::new(self)).finish()
        } else {
            debug.field("data", &format_args!("<locked>")).finish()
        }
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
