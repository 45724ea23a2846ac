//! Panics of user code: collected while the remaining steps run, then resumed or discarded.
//!
//! A call that runs several pieces of user code (wakers, drops, callbacks) must run all of them even if one panics, and
//! a second panic must not abort the process. [`Panics`] keeps the first payload and leaks the others, since dropping a
//! payload runs user code, too.

use std::any::Any;
use std::mem::{ManuallyDrop, forget};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::task::{Wake, Waker};

/// The first panic of a sequence of calls to user code.
///
/// Dropping this discards the panic. The payload is leaked: its drop is user code, too.
#[derive(Default)]
pub(crate) struct Panics(Option<ManuallyDrop<Box<dyn Any + Send>>>);

impl Panics {
    /// Drops each value, and collects the panics of that.
    #[inline]
    pub(crate) fn of_drops<T>(values: impl IntoIterator<Item = T>) -> Self {
        let mut panics = Self::default();
        for value in values {
            panics.catch(|| drop(value));
        }
        panics
    }

    /// Runs `user_code`, and returns `true` if it did not panic.
    pub(crate) fn catch(&mut self, user_code: impl FnOnce()) -> bool {
        match catch_unwind(AssertUnwindSafe(user_code)) {
            Ok(()) => return true,
            Err(payload) if self.0.is_none() => self.0 = Some(ManuallyDrop::new(payload)),
            Err(payload) => forget(payload),
        }
        false
    }

    /// Resumes the first panic, if there was one and the thread is not panicking already.
    pub(crate) fn resume(self) {
        match self.0 {
            Some(payload) if !std::thread::panicking() => resume_unwind(ManuallyDrop::into_inner(payload)),
            _ => {}
        }
    }

    /// Returns `output`; or, where [`resume`](Self::resume) would resume a panic, drops it first.
    #[inline]
    pub(crate) fn resume_or<R>(self, output: R) -> R {
        if self.0.is_some() && !std::thread::panicking() {
            drop_quietly([output]);
            self.resume();
            unreachable!("a panic was resumed");
        }
        output
    }

    /// Discards the panics, as a drop of this does.
    pub(crate) fn discard(self) {}
}

/// Drops each value and discards the panics of that, so that they do not cost the caller the value it is about to
/// return.
#[inline]
pub(crate) fn drop_quietly<T>(values: impl IntoIterator<Item = T>) {
    Panics::of_drops(values).discard();
}

/// A value that an unwinding may drop: a panic of its drop does not abort the process.
pub(crate) struct Guarded<T>(pub(crate) Option<T>);

impl<T> Drop for Guarded<T> {
    #[inline]
    fn drop(&mut self) {
        Panics::of_drops(self.0.take()).resume();
    }
}

/// A waker that discards the panics of another.
struct Quiet(Option<Waker>);

/// Returns a waker that wakes `waker` and discards its panics.
///
/// Event-listener needs it: the lock of an event is held while its wakers are cloned, woken and dropped, and a panic
/// there makes its count of listeners wrong.
pub(crate) fn quiet(waker: &Waker) -> Waker {
    Arc::new(Quiet(Some(waker.clone()))).into()
}

impl Wake for Quiet {
    fn wake(self: Arc<Self>) {
        let mut panics = Panics::default();
        panics.catch(|| self.0.iter().for_each(Waker::wake_by_ref));
        panics.discard();
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        drop_quietly(self.0.take());
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Sets its output when it is dropped, where another panic would abort.
    struct InAnUnwinding<'a>(Option<Panics>, &'a mut u8);

    impl Drop for InAnUnwinding<'_> {
        fn drop(&mut self) {
            *self.1 = self.0.take().expect("it is dropped once").resume_or(7);
        }
    }

    #[test]
    fn an_unwinding_gets_the_output_and_leaks_the_payload() {
        let (payload, mut output) = (Arc::new(()), 0);
        let mut panics = Panics::default();
        let theirs = payload.clone();
        assert!(!panics.catch(|| resume_unwind(Box::new(theirs))));
        let outer = catch_unwind(AssertUnwindSafe(|| {
            let _drops = InAnUnwinding(Some(panics), &mut output);
            resume_unwind(Box::new("the first"));
        }));
        assert!(outer.is_err_and(|payload| payload.is::<&str>()));
        assert_eq!((output, Arc::strong_count(&payload)), (7, 2));
    }
}
