//! A fair async semaphore: a word for everybody, a queue for those who must wait.
//!
//! **The word** is `permits << 2 | CLOSED | SLOW`. While `SLOW` is clear nobody waits and nothing is owed, and the word
//! is all there is: an acquire or a release is a load and a compare-and-swap on it.
//!
//! **The lock** guards the queue of waiters and the debt, and while `SLOW` is set the word as well. Whoever has taken
//! the lock first *freezes* the word by setting `SLOW` (from then on nobody else changes it: every fast path demands
//! that `SLOW` be clear, and compares the whole word), decides with plain arithmetic, and *thaws* it by one store that
//! keeps `SLOW` if somebody waits or permits are owed. Deciding to wait and being seen to wait are thus one step: no
//! release can slip in between the look at the permits and the entry into the queue.
//!
//! **Who wakes whom.** What comes back (a release, `add_permits`, what a dropped waiter had been granted) pays the debt
//! first, then serves the queue from its head while the head's need fits; a need is met whole or not at all, so nobody
//! holds a part. A waiter that leaves the head may let the next one fit, so leaving serves the queue too. The served are
//! woken after the lock is released, and collect what is theirs when they are polled.
//!
//! | `SLOW` | `CLOSED` | permits in the word | means |
//! |---|---|---|---|
//! | - | - | free | nobody waits, nothing is owed |
//! | set | - | fewer than the head needs | somebody waits |
//! | set | any | 0 | permits are owed (and somebody may wait) |
//! | - | set | free | closed: nobody waits, nobody will |
//! | set | any | any | frozen: somebody holds the lock and decides |
//!
//! Invariants: debt > 0 implies no free permits; the head never fits; closed implies an empty queue.
//!
//! **Ordering.** Releases of permits are `Release` on the word and acquisitions `Acquire`. Under the lock the word needs
//! no ordering for the sake of other lock holders; the freeze acquires what earlier fast releases published, and the
//! thaw publishes it, and everything that happened under the lock, to later fast acquires.

use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use crate::arena::Key;
use crate::sync::{self, AtomicUsize, Ordering, const_fn};
use crate::wait_list::{Panics, Turn, WaitList, Waiter, WakeBatch};

/// Somebody waits or permits are owed: the word belongs to the holder of the lock.
const SLOW: usize = 1;
/// Nobody may acquire any more.
const CLOSED: usize = 2;
/// Where the count of free permits begins.
const SHIFT: u32 = 2;

/// Admits only so many at once, first come, first served.
///
/// A semaphore holds permits. [`acquire`](Self::acquire) takes one, or waits until it is this caller's turn; dropping
/// the permit gives it back. Waiting allocates nothing in the steady state, works on any executor, and on a plain
/// thread through [`blocking`](crate::blocking).
///
/// # Fairness
///
/// Permits are given out in the order in which the futures were first polled. A request for many permits at the head of
/// the queue holds back smaller ones behind it until it fits, and nobody overtakes: while somebody waits,
/// [`try_acquire`](Self::try_acquire) fails even if permits are free. Permits owed by
/// [`reduce_permits`](Self::reduce_permits) come before every waiter.
///
/// # Memory ordering
///
/// What happened before a permit was returned, added or passed on happens before the acquire that gets it.
///
/// # Examples
///
/// ```
/// use stanchion::{Semaphore, blocking};
///
/// static CONNECTIONS: Semaphore = Semaphore::new(2);
///
/// let first = blocking::wait(CONNECTIONS.acquire()).unwrap();
/// let second = CONNECTIONS.try_acquire().unwrap();
/// assert!(CONNECTIONS.try_acquire().is_err());
/// drop(first);
/// assert_eq!(CONNECTIONS.available_permits(), 1);
/// # drop(second);
/// ```
///
/// Shedding load when the line is too long:
///
/// ```
/// use stanchion::{Semaphore, SemaphorePermit};
///
/// async fn admit(semaphore: &Semaphore) -> Option<SemaphorePermit<'_>> {
///     if semaphore.waiters() >= 100 { None } else { semaphore.acquire().await.ok() }
/// }
/// # assert!(stanchion::blocking::wait(admit(&Semaphore::new(1))).is_some());
/// ```
pub struct Semaphore {
    word: AtomicUsize,
    /// Made by the first to take the lock, so that a semaphore that nobody ever waited for stays small.
    queue: sync::Mutex<Option<Box<Queue>>>,
}

struct Queue {
    /// Each needs a number of permits and is granted that number.
    waiters: WaitList<usize, ()>,
    /// Permits to take away as they come back.
    debt: usize,
}

/// A future of [`Semaphore::acquire`] and [`Semaphore::acquire_many`].
///
/// # Cancel safety
///
/// Dropping it gives up the place in the queue; permits that it had been granted go to the next in line.
/// Forgetting it, or keeping it without polling it on, holds up everybody behind it.
///
/// # Panics
///
/// When it is polled after it was ready. Dropping it panics where returning its permits would, see
/// [`Semaphore::add_permits`].
#[must_use = "futures do nothing unless polled"]
pub struct Acquire<'a>(Acquiring<&'a Semaphore>);

/// A future of [`Semaphore::acquire_owned`] and [`Semaphore::acquire_many_owned`].
///
/// # Cancel safety
///
/// Dropping it gives up the place in the queue; permits that it had been granted go to the next in line.
/// Forgetting it, or keeping it without polling it on, holds up everybody behind it.
///
/// # Panics
///
/// When it is polled after it was ready. Dropping it panics where returning its permits would, see
/// [`Semaphore::add_permits`].
#[must_use = "futures do nothing unless polled"]
pub struct AcquireOwned(Acquiring<Arc<Semaphore>>);

/// Permits of a [`Semaphore`], returned all at once when dropped.
///
/// # Panics
///
/// Dropping it panics where returning its permits would, see [`Semaphore::add_permits`].
#[must_use = "dropping a permit returns it at once"]
pub struct SemaphorePermit<'a> {
    semaphore: &'a Semaphore,
    permits: usize,
}

/// Permits of a shared [`Semaphore`], returned all at once when dropped.
///
/// # Panics
///
/// Dropping it panics where returning its permits would, see [`Semaphore::add_permits`].
#[must_use = "dropping a permit returns it at once"]
pub struct OwnedSemaphorePermit {
    semaphore: Arc<Semaphore>,
    permits: usize,
}

/// The semaphore was closed before the permits could be acquired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcquireError(());

/// Why a `try_acquire` got nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryAcquireError {
    /// The semaphore is closed.
    Closed,
    /// There are too few free permits, or somebody else is first in line.
    NoPermits,
}

impl Semaphore {
    /// The largest number of permits that can be free, or asked for, at once.
    pub const MAX_PERMITS: usize = usize::MAX >> 3;

    const_fn! {
        /// Creates a semaphore with this many free permits.
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
            Self { word: AtomicUsize::new(permits << SHIFT), queue: sync::Mutex::new(None) }
        }
    }

    /// Acquires one permit, waiting in line for it if need be.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the place in the queue and loses nothing.
    ///
    /// # Errors
    ///
    /// [`AcquireError`] when the semaphore is closed before the permit is granted.
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

    /// Acquires `n` permits together, waiting in line for them if need be.
    ///
    /// A request for no permits waits its turn like any other and takes nothing.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the place in the queue and loses nothing.
    ///
    /// # Errors
    ///
    /// [`AcquireError`] when the semaphore is closed before the permits are granted.
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

    /// Acquires one permit that keeps the semaphore alive, waiting in line for it if need be.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the place in the queue and loses nothing.
    ///
    /// # Errors
    ///
    /// [`AcquireError`] when the semaphore is closed before the permit is granted.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    /// use stanchion::{Semaphore, blocking};
    ///
    /// let semaphore = Arc::new(Semaphore::new(1));
    /// let permit = blocking::wait(semaphore.clone().acquire_owned()).unwrap();
    /// std::thread::spawn(move || drop(permit)).join().unwrap();
    /// assert_eq!(semaphore.available_permits(), 1);
    /// ```
    #[inline]
    pub fn acquire_owned(self: Arc<Self>) -> AcquireOwned {
        self.acquire_many_owned(1)
    }

    /// Acquires `n` permits together that keep the semaphore alive, waiting in line for them if need be.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the place in the queue and loses nothing.
    ///
    /// # Errors
    ///
    /// [`AcquireError`] when the semaphore is closed before the permits are granted.
    ///
    /// # Panics
    ///
    /// At the call, when `n` exceeds [`MAX_PERMITS`](Self::MAX_PERMITS).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    /// use stanchion::{Semaphore, blocking};
    ///
    /// let semaphore = Arc::new(Semaphore::new(5));
    /// let permit = blocking::wait(semaphore.clone().acquire_many_owned(5)).unwrap();
    /// assert_eq!(permit.num_permits(), 5);
    /// ```
    #[inline]
    #[track_caller]
    pub fn acquire_many_owned(self: Arc<Self>, n: usize) -> AcquireOwned {
        AcquireOwned(Acquiring::new(self, n))
    }

    /// Acquires one permit if one is free and nobody waits.
    ///
    /// # Errors
    ///
    /// [`TryAcquireError::NoPermits`] or [`TryAcquireError::Closed`].
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

    /// Acquires `n` permits together if they are free and nobody waits.
    ///
    /// A request for no permits fails only when the semaphore is closed or somebody waits.
    ///
    /// # Errors
    ///
    /// [`TryAcquireError::NoPermits`] or [`TryAcquireError::Closed`].
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

    /// Acquires one permit that keeps the semaphore alive, if one is free and nobody waits.
    ///
    /// # Errors
    ///
    /// [`TryAcquireError::NoPermits`] or [`TryAcquireError::Closed`].
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

    /// Acquires `n` permits together that keep the semaphore alive, if they are free and nobody waits.
    ///
    /// # Errors
    ///
    /// [`TryAcquireError::NoPermits`] or [`TryAcquireError::Closed`].
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

    /// Adds `n` permits, as if somebody returned them.
    ///
    /// # Panics
    ///
    /// When the free permits would exceed [`MAX_PERMITS`](Self::MAX_PERMITS), or `usize::MAX` before the waiters take
    /// theirs. Nothing has changed then. A permit that comes back, from its holder or from a
    /// granted future that is dropped, to a semaphore filled up like that in the meantime panics too (unless the thread
    /// is panicking already), and is lost.
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

    /// Takes away the permits that are free now, at most `n`, and returns how many.
    ///
    /// # Examples
    ///
    /// ```
    /// let semaphore = stanchion::Semaphore::new(2);
    /// assert_eq!(semaphore.forget_permits(5), 2);
    /// assert_eq!(semaphore.available_permits(), 0);
    /// ```
    pub fn forget_permits(&self, n: usize) -> usize {
        self.locked(|state| {
            let taken = state.free.min(n);
            state.free -= taken;
            taken
        })
    }

    /// Takes away exactly `n` permits: those that are free now, and the rest as permits come back.
    ///
    /// What is owed is paid before any waiter is served. No permit that is out is revoked.
    ///
    /// # Panics
    ///
    /// When the permits owed would exceed `usize::MAX`. Nothing has changed then.
    ///
    /// # Examples
    ///
    /// ```
    /// let semaphore = stanchion::Semaphore::new(2);
    /// let permit = semaphore.try_acquire().unwrap();
    /// semaphore.reduce_permits(2);
    /// drop(permit); // pays the one that was owed
    /// assert_eq!(semaphore.available_permits(), 0);
    /// ```
    pub fn reduce_permits(&self, n: usize) {
        let noted = self.locked(|state| {
            let taken = state.free.min(n);
            state.queue.debt = state.queue.debt.checked_add(n - taken)?;
            state.free -= taken;
            Some(())
        });
        noted.expect("a semaphore owes at most usize::MAX permits");
    }

    /// How many permits are free now; it may be more than none while a larger request waits at the head.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(stanchion::Semaphore::new(7).available_permits(), 7);
    /// ```
    #[must_use]
    pub fn available_permits(&self) -> usize {
        self.word.load(Ordering::Relaxed) >> SHIFT
    }

    /// How many wait: polled and not yet granted.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(stanchion::Semaphore::new(0).waiters(), 0);
    /// ```
    #[must_use]
    pub fn waiters(&self) -> usize {
        if self.word.load(Ordering::Relaxed) & SLOW == 0 {
            return 0;
        }
        self.queue.lock().as_ref().map_or(0, |queue| queue.waiters.len())
    }

    /// Closes the semaphore: whoever waits and whoever comes later fails, at once.
    ///
    /// A waiter that was granted its permits before still gets them, and permits can still be returned, added,
    /// forgotten and reduced.
    ///
    /// # Examples
    ///
    /// ```
    /// let semaphore = stanchion::Semaphore::new(1);
    /// semaphore.close();
    /// assert!(stanchion::blocking::wait(semaphore.acquire()).is_err());
    /// ```
    pub fn close(&self) {
        let mut batch = WakeBatch::default();
        self.locked(|state| {
            state.closed = true;
            state.queue.waiters.close();
            state.queue.waiters.take_wakers(&mut batch);
        });
        self.wake(&mut batch);
    }

    /// Whether the semaphore is closed.
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(!stanchion::Semaphore::new(1).is_closed());
    /// ```
    #[must_use]
    pub fn is_closed(&self) -> bool {
        // Partner: the thaw in `locked`, so that what preceded the `close` is visible.
        self.word.load(Ordering::Acquire) & CLOSED != 0
    }
}

impl<'a> Future for Acquire<'a> {
    type Output = Result<SemaphorePermit<'a>, AcquireError>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let permits = self.0.permits;
        self.0.poll(cx).map_ok(|semaphore| SemaphorePermit { semaphore, permits })
    }
}

impl Future for AcquireOwned {
    type Output = Result<OwnedSemaphorePermit, AcquireError>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let permits = self.0.permits;
        self.0.poll(cx).map_ok(|semaphore| OwnedSemaphorePermit { semaphore, permits })
    }
}

impl<'a> SemaphorePermit<'a> {
    /// The semaphore that the permits belong to.
    ///
    /// # Examples
    ///
    /// ```
    /// let semaphore = stanchion::Semaphore::new(1);
    /// let permit = semaphore.try_acquire().unwrap();
    /// assert!(std::ptr::eq(permit.semaphore(), &semaphore));
    /// ```
    #[must_use]
    pub fn semaphore(&self) -> &'a Semaphore {
        self.semaphore
    }
}

impl OwnedSemaphorePermit {
    /// The semaphore that the permits belong to.
    ///
    /// # Examples
    ///
    /// ```
    /// let semaphore = std::sync::Arc::new(stanchion::Semaphore::new(1));
    /// let permit = semaphore.clone().try_acquire_owned().unwrap();
    /// assert!(std::sync::Arc::ptr_eq(permit.semaphore(), &semaphore));
    /// ```
    #[must_use]
    pub fn semaphore(&self) -> &Arc<Semaphore> {
        &self.semaphore
    }
}

/// What borrowed and owned permits have in common.
macro_rules! permit {
    ($Permit:ty) => {
        impl $Permit {
            /// How many permits this is.
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

            /// Keeps the permits from ever coming back.
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

            /// Splits `n` permits off into a permit of their own; `None` if there are fewer.
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

            /// Joins `other` into this permit, to be returned together.
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

        impl Drop for $Permit {
            #[inline]
            fn drop(&mut self) {
                if self.permits > 0 {
                    self.semaphore.release(self.permits);
                }
            }
        }

        impl fmt::Debug for $Permit {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($Permit)).field("permits", &self.permits).finish_non_exhaustive()
            }
        }
    };
}

permit!(SemaphorePermit<'_>);
permit!(OwnedSemaphorePermit);

/// What an acquire may be of: a semaphore, or a mutex around one.
pub(crate) trait Host {
    fn semaphore(&self) -> &Semaphore;

    /// The fast path of acquiring, as this host does it best.
    #[inline]
    fn take_fast(&self, n: usize) -> bool {
        self.semaphore().take_fast(n)
    }
}

impl Host for Semaphore {
    #[inline]
    fn semaphore(&self) -> &Semaphore {
        self
    }
}

/// The future behind all acquires and locks. It holds its host borrowed or owned, and hands it over when it is ready.
pub(crate) struct Acquiring<H: Deref<Target: Host>> {
    /// `None` once it is ready.
    host: Option<H>,
    permits: usize,
    /// `Some` while it is in the queue or granted.
    key: Option<Key>,
}

impl<H: Deref<Target: Host>> Acquiring<H> {
    #[inline]
    #[track_caller]
    pub(crate) fn new(host: H, permits: usize) -> Self {
        assert_askable(permits);
        Self { host: Some(host), permits, key: None }
    }

    #[inline]
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<H, AcquireError>> {
        // Borrowed, not taken: if cloning the waker panics, the drop must still find its way back.
        let host = self.host.as_ref().expect("a future is not polled after it was ready");
        let outcome = match self.key {
            None if host.take_fast(self.permits) => Ok(()),
            None => match host.semaphore().enqueue(self.permits, cx.waker()) {
                Ok(Some(key)) => {
                    self.key = Some(key);
                    return Poll::Pending;
                }
                outcome => outcome.map(|_| ()),
            },
            Some(key) => {
                let outcome = ready!(host.semaphore().collect(key, cx.waker()));
                self.key = None;
                outcome
            }
        };
        let host = self.host.take();
        Poll::Ready(outcome.map(|()| host.expect("it was there")))
    }

    /// Shows it under its public `name`.
    pub(crate) fn debug(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name).field("permits", &self.permits).field("waiting", &self.key.is_some()).finish()
    }
}

impl<H: Deref<Target: Host>> Drop for Acquiring<H> {
    #[inline]
    fn drop(&mut self) {
        if let (Some(host), Some(key)) = (&self.host, self.key) {
            host.semaphore().cancel(key);
        }
    }
}

/// The fast paths: one load and one compare-and-swap on the word.
impl Semaphore {
    #[inline]
    fn take_fast(&self, n: usize) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        while word & (SLOW | CLOSED) == 0 && word >> SHIFT >= n {
            // Partners: the release below and the thaw in `locked`.
            let taken = word - (n << SHIFT);
            match self.word.compare_exchange_weak(word, taken, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    #[inline]
    pub(crate) fn release(&self, n: usize) {
        let mut word = self.word.load(Ordering::Relaxed);
        while word & SLOW == 0 && n <= Self::MAX_PERMITS - (word >> SHIFT) {
            // Partners: the acquire above and the freeze in `locked`.
            let given = word + (n << SHIFT);
            match self.word.compare_exchange_weak(word, given, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => word = now,
            }
        }
        self.release_slow(n);
    }

    /// `take_fast(1)` for a semaphore of one. Its values are constants, so the swap need not wait for the load.
    #[inline]
    pub(crate) fn take_sole(&self) -> bool {
        // Partners as in `take_fast`.
        self.word.load(Ordering::Relaxed) == 1 << SHIFT
            && self.word.compare_exchange(1 << SHIFT, 0, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// `release(1)` for a semaphore of one: guesses that nobody waits, which saves the load.
    #[inline]
    pub(crate) fn release_sole(&self) {
        // Partners as in `release`.
        if self.word.compare_exchange(0, 1 << SHIFT, Ordering::Release, Ordering::Relaxed).is_err() {
            self.release_slow(1);
        }
    }

    #[inline]
    #[track_caller]
    pub(crate) fn try_take(&self, n: usize) -> Result<(), TryAcquireError> {
        assert_askable(n);
        if self.take_fast(n) { Ok(()) } else { self.try_take_slow(n) }
    }
}

/// The slow paths: everything that takes the lock. Wakers are cloned before it, and woken and dropped after it.
impl Semaphore {
    #[inline(never)]
    fn try_take_slow(&self, n: usize) -> Result<(), TryAcquireError> {
        // Partner: the thaw, so that what preceded a `close` is visible to who learns of it.
        let word = self.word.load(Ordering::Acquire);
        if word & CLOSED != 0 {
            return Err(TryAcquireError::Closed);
        }
        // Under overload this answers without touching the lock.
        if word >> SHIFT < n {
            return Err(TryAcquireError::NoPermits);
        }
        self.locked(|state| state.take(n))
    }

    #[inline(never)]
    fn release_slow(&self, n: usize) {
        let mut batch = WakeBatch::default();
        let fits = self.locked(|state| state.give(n, &mut batch));
        assert_fits(fits);
        self.wake(&mut batch);
    }

    /// Takes `n` permits, or joins the queue for them under the key that it returns.
    #[inline(never)]
    fn enqueue(&self, n: usize, waker: &Waker) -> Result<Option<Key>, AcquireError> {
        if self.is_closed() {
            return Err(AcquireError(()));
        }
        let mut waker = Some(waker.clone());
        let taken = self.locked(|state| match state.take(n) {
            Err(TryAcquireError::NoPermits) => Ok(waker.take().map(|waker| state.queue.waiters.enqueue(n, waker))),
            Err(TryAcquireError::Closed) => Err(AcquireError(())),
            Ok(()) => Ok(None),
        });
        self.drop_wakers([waker, None], if taken == Ok(None) { n } else { 0 });
        taken
    }

    /// Leaves the queue with what was granted to `key`, or goes on waiting.
    #[inline(never)]
    fn collect(&self, key: Key, waker: &Waker) -> Poll<Result<(), AcquireError>> {
        let mut spare = None;
        loop {
            let turn = {
                let mut guard = self.queue.lock();
                let queue = guard.as_mut().expect("somebody waits in the queue");
                queue.waiters.poll(key, waker, &mut spare)
            };
            match turn {
                Turn::Left(left) => {
                    self.drop_wakers([left.waker, spare], left.grant.map_or(0, |()| left.need));
                    return Poll::Ready(left.grant.ok_or(AcquireError(())));
                }
                Turn::Waiting => return Poll::Pending,
                Turn::NeedsWaker => spare = Some(waker.clone()),
            }
        }
    }

    /// Leaves the queue and passes on what was granted to `key`.
    #[inline(never)]
    fn cancel(&self, key: Key) {
        let mut batch = WakeBatch::default();
        // Outlives the lock, since it takes a waker along.
        let mut left = None;
        let fits = self.locked(|state| {
            left = state.queue.waiters.leave(key);
            if let Some(Waiter { need, grant: Some(()), .. }) = &left {
                return state.give(*need, &mut batch);
            }
            // The next may need less than the one that left.
            state.serve(&mut batch);
            true
        });
        let mut panics = Panics::default();
        panics.catch(|| assert_fits(fits));
        panics.catch(|| drop(left));
        panics.catch(|| self.wake(&mut batch));
        panics.resume();
    }

    /// Drops wakers that the queue has no use for. Should that panic, `permits` that the caller holds are not lost.
    #[inline(always)]
    fn drop_wakers(&self, wakers: [Option<Waker>; 2], permits: usize) {
        if wakers.iter().any(Option::is_some) {
            let held = SemaphorePermit { semaphore: self, permits };
            Panics::of_drops(wakers.into_iter().flatten()).resume();
            held.forget();
        }
    }

    /// Takes the lock, freezes the word, lets `decide` change the state, thaws the word and unlocks.
    ///
    /// `decide` tells what a caller did wrong by what it returns: a panic hook, which is foreign code, runs without the lock.
    #[inline(always)]
    fn locked<R>(&self, decide: impl FnOnce(&mut State<'_>) -> R) -> R {
        let mut guard = self.queue.lock();
        let queue = guard.get_or_insert_with(|| Box::new(Queue { waiters: WaitList::new(), debt: 0 }));
        let mut word = self.word.load(Ordering::Relaxed);
        if word & SLOW == 0 {
            // Partner: `release`. If `SLOW` was set already, the one who set it did this for all who lock after.
            word = self.word.fetch_or(SLOW, Ordering::Acquire);
        }
        let mut state = State { free: word >> SHIFT, closed: word & CLOSED != 0, queue };
        let decision = decide(&mut state);
        // Partners: the fast acquires. A plain store: nobody else changes a frozen word.
        self.word.store(state.thawed(), Ordering::Release);
        decision
    }

    /// Wakes those who were served. The last thing to do: a waker may do anything.
    #[inline(always)]
    fn wake(&self, batch: &mut WakeBatch) {
        batch.wake(|batch| {
            if let Some(queue) = &mut *self.queue.lock() {
                queue.waiters.take_wakers(batch);
            }
        });
    }
}

/// The whole state of a semaphore, in the hands of the one who holds the lock.
struct State<'a> {
    free: usize,
    closed: bool,
    queue: &'a mut Queue,
}

impl State<'_> {
    /// Takes `n` permits unless that would overtake somebody.
    #[inline]
    fn take(&mut self, n: usize) -> Result<(), TryAcquireError> {
        if self.closed {
            return Err(TryAcquireError::Closed);
        }
        if self.free < n || !self.queue.waiters.is_empty() {
            return Err(TryAcquireError::NoPermits);
        }
        self.free -= n;
        Ok(())
    }

    /// Brings `n` permits back: to the debt, then to the waiters, then to the free ones. Or says that they do not fit.
    #[inline(always)]
    #[must_use]
    fn give(&mut self, n: usize, batch: &mut WakeBatch) -> bool {
        let paid = self.queue.debt.min(n);
        let sum = self.free.checked_add(n - paid);
        let fits =
            sum.is_some_and(|sum| sum <= Semaphore::MAX_PERMITS || self.left_over(sum) <= Semaphore::MAX_PERMITS);
        if fits {
            self.queue.debt -= paid;
            self.free += n - paid;
            self.serve(batch);
        }
        fits
    }

    /// What stays free of `free` permits when the queue has been served.
    #[cold]
    fn left_over(&self, mut free: usize) -> usize {
        for &need in self.queue.waiters.needs() {
            match free.checked_sub(need) {
                Some(rest) => free = rest,
                None => break,
            }
        }
        free
    }

    /// Serves the queue while the head's need fits.
    #[inline(always)]
    fn serve(&mut self, batch: &mut WakeBatch) {
        while let Some(&need) = self.queue.waiters.front() {
            if need > self.free {
                break;
            }
            self.free -= need;
            self.queue.waiters.grant_front((), batch);
        }
    }

    /// The word that says all this.
    #[inline(always)]
    fn thawed(&self) -> usize {
        let slow = !self.queue.waiters.is_empty() || self.queue.debt > 0;
        self.free << SHIFT | if self.closed { CLOSED } else { 0 } | if slow { SLOW } else { 0 }
    }
}

#[track_caller]
#[inline]
fn assert_askable(permits: usize) {
    assert!(permits <= Semaphore::MAX_PERMITS, "at most Semaphore::MAX_PERMITS permits can be acquired at once");
}

/// Without the lock, since a panic hook is foreign code.
#[inline]
fn assert_fits(fits: bool) {
    // Otherwise they are lost without a word: a panic during a panic aborts.
    assert!(fits || std::thread::panicking(), "a semaphore holds at most Semaphore::MAX_PERMITS free permits");
}

#[cfg(any(test, fuzzing, loom, debug_assertions))]
impl Semaphore {
    /// Checks every invariant of the state; for tests, and not part of the public interface.
    ///
    /// # Panics
    ///
    /// When one does not hold.
    #[doc(hidden)]
    pub fn validate(&self) {
        self.locked(|state| {
            let State { free, closed, queue } = state;
            queue.waiters.validate();
            assert!(queue.debt == 0 || *free == 0, "permits are free while permits are owed");
            assert!(!*closed || queue.waiters.is_empty(), "somebody waits on a closed semaphore");
            assert!(queue.waiters.front().is_none_or(|need| need > free), "the head is kept waiting");
        });
    }
}

impl fmt::Debug for Acquire<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.debug("Acquire", f)
    }
}

impl fmt::Debug for AcquireOwned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.debug("AcquireOwned", f)
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Semaphore");
        debug.field("available_permits", &self.available_permits()).field("closed", &self.is_closed());
        // Not `waiters()`: formatting must not block, nor happen under the lock.
        let waiters = self.queue.try_lock().map(|guard| guard.as_ref().map_or(0, |queue| queue.waiters.len()));
        match waiters {
            Some(waiters) => debug.field("waiters", &waiters).finish(),
            None => debug.finish_non_exhaustive(),
        }
    }
}

// No user code runs while the state is inconsistent, so a panic cannot be seen in it.
impl UnwindSafe for Semaphore {}
impl RefUnwindSafe for Semaphore {}

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
            Self::NoPermits => "too few permits are free, or somebody else is first in line",
        })
    }
}

impl std::error::Error for TryAcquireError {}
