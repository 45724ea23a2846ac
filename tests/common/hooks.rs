//! Wakers that run hooks of a test when they are cloned, woken and dropped.
//!
//! `std::task::Wake` does not control how a waker is cloned, so this one is made by hand: a counted reference to three
//! hooks.

#![allow(unsafe_code)]

use std::fmt;
use std::sync::Arc;
use std::task::{RawWaker, RawWakerVTable, Waker};

type Hook = Option<Box<dyn Fn() + Send + Sync>>;

/// The hooks of a waker; one that is not set does nothing.
#[derive(Default)]
pub(crate) struct Hooks {
    on_clone: Hook,
    on_wake: Hook,
    on_drop: Hook,
}

impl Hooks {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Runs before each clone is made.
    pub(crate) fn on_clone(mut self, hook: impl Fn() + Send + Sync + 'static) -> Self {
        self.on_clone = Some(Box::new(hook));
        self
    }

    /// Runs at each wake.
    pub(crate) fn on_wake(mut self, hook: impl Fn() + Send + Sync + 'static) -> Self {
        self.on_wake = Some(Box::new(hook));
        self
    }

    /// Runs when the waker or a clone is dropped without having been consumed by a wake.
    pub(crate) fn on_drop(mut self, hook: impl Fn() + Send + Sync + 'static) -> Self {
        self.on_drop = Some(Box::new(hook));
        self
    }

    pub(crate) fn waker(self) -> Waker {
        // SAFETY: `raw` makes a waker that owns one count of the `Arc`, as the functions of the table expect.
        unsafe { Waker::from_raw(raw(Arc::new(self))) }
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks").finish_non_exhaustive()
    }
}

fn run(hook: &Hook) {
    if let Some(hook) = hook {
        hook();
    }
}

fn raw(hooks: Arc<Hooks>) -> RawWaker {
    RawWaker::new(Arc::into_raw(hooks).cast(), &TABLE)
}

static TABLE: RawWakerVTable = RawWakerVTable::new(clone, wake, wake_by_ref, drop_waker);

unsafe fn clone(data: *const ()) -> RawWaker {
    let data: *const Hooks = data.cast();
    // SAFETY: `data` came from `raw`, and the waker that is cloned owns a count of it for as long as this runs.
    run(unsafe { &(*data).on_clone });
    // SAFETY: as above; the new count belongs to the new waker.
    unsafe { Arc::increment_strong_count(data) };
    RawWaker::new(data.cast(), &TABLE)
}

unsafe fn wake(data: *const ()) {
    // SAFETY: `data` came from `raw`, and waking by value hands over the count that the waker owned.
    let hooks = unsafe { Arc::from_raw(data.cast::<Hooks>()) };
    run(&hooks.on_wake);
}

unsafe fn wake_by_ref(data: *const ()) {
    // SAFETY: `data` came from `raw`, and the waker owns a count of it for as long as this runs.
    run(unsafe { &(*data.cast::<Hooks>()).on_wake });
}

unsafe fn drop_waker(data: *const ()) {
    // SAFETY: `data` came from `raw`, and dropping hands over the count that the waker owned.
    let hooks = unsafe { Arc::from_raw(data.cast::<Hooks>()) };
    run(&hooks.on_drop);
}
