//! The facade over locks, atomics and cells: parking_lot's and std's, or loom's under `--cfg loom`.
//!
//! No other file names parking_lot, `std::sync::atomic`, `std::cell` or loom, so the code that ships is the code that
//! loom explores. `Arc` stays std's in both builds, since it is part of the public signatures (`self: Arc<Self>`).

use std::sync::PoisonError;

pub(crate) use event_listener::EventListener;

pub(crate) use imp::*;

/// Declares a constructor that is `const`, except under loom, where types are created at run time.
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

/// A value that only its owner reaches, through `&mut`: `Sync` if `T` is `Send`, even if `T` is not `Sync`. The lock is
/// never taken.
pub(crate) struct Exclusive<T>(std::sync::Mutex<T>);

impl<T> Exclusive<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(std::sync::Mutex::new(value))
    }

    #[inline]
    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn into_inner(self) -> T {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(not(loom))]
mod imp {
    use event_listener::{EventListener, IntoNotification};
    pub(crate) use parking_lot::{Mutex, MutexGuard};
    pub(crate) use std::cell::UnsafeCell;
    use std::sync::OnceLock;
    pub(crate) use std::sync::atomic::{AtomicUsize, Ordering};
    pub(crate) use std::thread::{ThreadId, current as current_thread};
    use std::time::{Duration, Instant};

    /// Returns the deadline of a wait that begins now, or `None` if it lies beyond the clock's range.
    pub(crate) fn deadline_after(timeout: Duration) -> Option<Instant> {
        Instant::now().checked_add(timeout)
    }

    /// Returns the deadline of a wait until `deadline`.
    pub(crate) fn deadline_at(deadline: Instant) -> Option<Instant> {
        Some(deadline)
    }

    /// A box that is allocated by its first user.
    pub(crate) struct LazyBox<T>(OnceLock<Box<T>>);

    impl<T: Default> LazyBox<T> {
        pub(crate) const fn new() -> Self {
            Self(OnceLock::new())
        }

        /// Returns the value, if it has been created.
        #[inline]
        pub(crate) fn get(&self) -> Option<&T> {
            self.0.get().map(|value| &**value)
        }

        #[inline]
        pub(crate) fn get_or_create(&self) -> &T {
            self.0.get_or_init(Box::default)
        }
    }

    /// parking_lot's condition variable with std's signatures: the guard goes in and is returned.
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

    /// A broadcast that wakes all its listeners, in no order.
    #[derive(Default)]
    pub(crate) struct Event(event_listener::Event);

    impl Event {
        pub(crate) fn listen(&self) -> EventListener {
            self.0.listen()
        }

        /// Announces a change that was made under a lock. A listener takes that lock after it has begun to listen, and
        /// so sees the change or is notified: no fence is needed.
        pub(crate) fn notify_all(&self) {
            self.0.notify(usize::MAX.relaxed());
        }
    }

    /// Reports accesses to an [`UnsafeCell`] to loom; without loom it does nothing.
    pub(crate) struct AccessTracker(());

    impl AccessTracker {
        pub(crate) const fn new() -> Self {
            Self(())
        }

        #[inline]
        pub(crate) fn read(&self) {}

        #[inline]
        pub(crate) fn write(&self) {}
    }
}

#[cfg(loom)]
mod imp {
    use event_listener::{EventListener, IntoNotification};
    pub(crate) use loom::sync::MutexGuard;
    pub(crate) use loom::sync::atomic::Ordering;
    pub(crate) use loom::thread::{ThreadId, current as current_thread};
    pub(crate) use std::cell::UnsafeCell;
    use std::sync::PoisonError;
    use std::time::{Duration, Instant};

    /// loom's atomic, with loads that race visibly.
    ///
    /// loom 0.7 remembers one last access of each atomic. If a thread loads a word and then swaps it, its own load
    /// hides an earlier load by another thread, and loom never explores the swap before that earlier load: an observing
    /// call would be explored with the outcome before a racing operation only. So each load increments a twin first.
    /// Two increments always conflict, which makes loom explore both orders of the loads; they are relaxed, so they
    /// order nothing else.
    pub(crate) struct AtomicUsize {
        value: loom::sync::atomic::AtomicUsize,
        loads: loom::sync::atomic::AtomicUsize,
    }

    impl AtomicUsize {
        pub(crate) fn new(value: usize) -> Self {
            Self { value: loom::sync::atomic::AtomicUsize::new(value), loads: loom::sync::atomic::AtomicUsize::new(0) }
        }

        pub(crate) fn load(&self, ordering: Ordering) -> usize {
            self.loads.fetch_add(1, Ordering::Relaxed);
            self.value.load(ordering)
        }

        pub(crate) fn store(&self, value: usize, ordering: Ordering) {
            self.value.store(value, ordering);
        }

        pub(crate) fn fetch_or(&self, bits: usize, ordering: Ordering) -> usize {
            self.value.fetch_or(bits, ordering)
        }

        pub(crate) fn compare_exchange(
            &self,
            current: usize,
            new: usize,
            success: Ordering,
            failure: Ordering,
        ) -> Result<usize, usize> {
            self.value.compare_exchange(current, new, success, failure)
        }

        pub(crate) fn compare_exchange_weak(
            &self,
            current: usize,
            new: usize,
            success: Ordering,
            failure: Ordering,
        ) -> Result<usize, usize> {
            self.value.compare_exchange_weak(current, new, success, failure)
        }
    }

    /// loom's lock with parking_lot's signatures: no poisoning.
    #[derive(Default)]
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

    /// Returns the deadline of a wait that ends at once if `timeout` is zero, and never otherwise: a model has no
    /// clock.
    pub(crate) fn deadline_after(timeout: Duration) -> Option<Instant> {
        timeout.is_zero().then(Instant::now)
    }

    /// Returns the deadline of a wait that ends at once if `deadline` has passed when the wait begins, and never
    /// otherwise. This reads the machine's clock, so a model's deadline is long past or far off.
    pub(crate) fn deadline_at(deadline: Instant) -> Option<Instant> {
        Some(deadline).filter(|&deadline| deadline <= Instant::now())
    }

    /// A box that is there from the beginning: which thread would allocate it is not explored.
    pub(crate) struct LazyBox<T>(Box<T>);

    impl<T: Default> LazyBox<T> {
        pub(crate) fn new() -> Self {
            Self(Box::default())
        }

        pub(crate) fn get(&self) -> Option<&T> {
            Some(&self.0)
        }

        pub(crate) fn get_or_create(&self) -> &T {
            &self.0
        }
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

    /// event-listener's event. Its drop is an access that loom orders after the others; the std `Arc` around it orders
    /// nothing for loom. So each access holds a reference that loom knows.
    #[derive(Default)]
    pub(crate) struct Event(loom::sync::Arc<event_listener::Event>);

    impl Event {
        pub(crate) fn listen(&self) -> EventListener {
            self.0.clone().listen()
        }

        pub(crate) fn notify_all(&self) {
            self.0.clone().notify(usize::MAX.relaxed());
        }
    }

    /// Reports accesses to an [`UnsafeCell`] to loom, which fails the model if two of them race.
    pub(crate) struct AccessTracker(loom::cell::UnsafeCell<()>);

    impl AccessTracker {
        pub(crate) fn new() -> Self {
            Self(loom::cell::UnsafeCell::new(()))
        }

        pub(crate) fn read(&self) {
            self.0.with(|_| ());
        }

        pub(crate) fn write(&self) {
            self.0.with_mut(|_| ());
        }
    }
}
