//! The one door to locks, atomics and cells: parking_lot and std, or loom under `--cfg loom`.
//!
//! Nothing else in the crate names parking_lot, `std::sync::atomic` or loom, so what ships is what
//! loom explores. `Arc` stays std's in both builds: it is part of the public signatures (`self: Arc<Self>`), which
//! loom's cannot be.

use std::sync::PoisonError;

pub(crate) use imp::*;

/// Declares a constructor that is `const`, except under loom, whose types are made at run time.
macro_rules! const_fn {
    ($(#[$attribute:meta])* $visibility:vis const fn $($rest:tt)*) => {
        #[cfg(not(loom))]
        $(#[$attribute])*
        $visibility const fn $($rest)*

        #[cfg(loom)]
        $(#[$attribute])*
        $visibility fn $($rest)*
    };
}
pub(crate) use const_fn;

/// Reached by nobody but its owner, through `&mut`: `Sync` whatever is inside. The lock is never taken.
pub(crate) struct Exclusive<T>(std::sync::Mutex<T>);

impl<T> Exclusive<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(std::sync::Mutex::new(value))
    }

    #[inline(always)]
    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn into_inner(self) -> T {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(not(loom))]
mod imp {
    pub(crate) use parking_lot::{Mutex, MutexGuard};
    pub(crate) use std::sync::atomic::{AtomicUsize, Ordering};
    pub(crate) use std::thread::{ThreadId, current as current_thread};
    use std::time::{Duration, Instant};

    /// When a wait is over that begins now, if ever.
    pub(crate) fn after(timeout: Duration) -> Option<Instant> {
        Instant::now().checked_add(timeout)
    }

    /// When a wait until `deadline` is over, if ever.
    pub(crate) fn at(deadline: Instant) -> Option<Instant> {
        Some(deadline)
    }

    /// parking_lot's condition variable with std's signatures: the guard goes in and comes back.
    #[derive(Default)]
    pub(crate) struct Condvar(parking_lot::Condvar);

    impl Condvar {
        pub(crate) fn wait<'a, T>(&self, mut guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
            self.0.wait(&mut guard);
            guard
        }

        pub(crate) fn wait_until<'a, T>(&self, mut guard: MutexGuard<'a, T>, deadline: Instant) -> MutexGuard<'a, T> {
            self.0.wait_until(&mut guard, deadline);
            guard
        }

        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }
    }

    /// std's cell with loom's way in: a pointer that is used only inside the closure.
    pub(crate) struct UnsafeCell<T: ?Sized>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }

        pub(crate) fn into_inner(self) -> T {
            self.0.into_inner()
        }
    }

    impl<T: ?Sized> UnsafeCell<T> {
        #[inline]
        pub(crate) fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
            f(self.0.get())
        }

        #[inline]
        pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            f(self.0.get())
        }
    }
}

#[cfg(loom)]
mod imp {
    pub(crate) use loom::cell::UnsafeCell;
    pub(crate) use loom::sync::MutexGuard;
    pub(crate) use loom::sync::atomic::{AtomicUsize, Ordering};
    pub(crate) use loom::thread::{ThreadId, current as current_thread};
    use std::sync::PoisonError;
    use std::time::{Duration, Instant};

    /// loom's lock with parking_lot's signatures: no poisoning.
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }

        pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            self.0.try_lock().ok()
        }
    }

    /// When a wait is over: at once or never. A model has no clock, and must not depend on ours.
    pub(crate) fn after(timeout: Duration) -> Option<Instant> {
        timeout.is_zero().then(Instant::now)
    }

    /// Likewise: at once if the deadline has passed when the wait begins. Our clock is read for that, so a model's deadline
    /// is long past or far off.
    pub(crate) fn at(deadline: Instant) -> Option<Instant> {
        Some(deadline).filter(|&deadline| deadline <= Instant::now())
    }

    /// loom's condition variable.
    #[derive(Default)]
    pub(crate) struct Condvar(loom::sync::Condvar);

    impl Condvar {
        pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
            self.0.wait(guard).unwrap_or_else(PoisonError::into_inner)
        }

        pub(crate) fn wait_until<'a, T>(&self, guard: MutexGuard<'a, T>, _deadline: Instant) -> MutexGuard<'a, T> {
            self.wait(guard)
        }

        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }
    }
}
