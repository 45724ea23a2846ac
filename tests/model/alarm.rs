//! Wakers that record their wakes, and panics that are expected.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, Once};
use std::task::{Wake, Waker};

/// Wakes, in order: the waiter, and which of its wakers.
pub(crate) type Woken = Vec<(usize, usize)>;

/// The wakers of one waiter: two, so that it can be polled by another task than before.
pub(crate) struct Alarms([Arc<Alarm>; 2]);

struct Alarm {
    waiter: usize,
    which: usize,
    log: Arc<Mutex<Woken>>,
}

impl Alarms {
    pub(crate) fn new(waiter: usize, log: &Arc<Mutex<Woken>>) -> Self {
        Self([0, 1].map(|which| Arc::new(Alarm { waiter, which, log: log.clone() })))
    }

    pub(crate) fn waker(&self, which: usize) -> Waker {
        self.0[which].clone().into()
    }

    /// The number of clones of each waker. All of them are in the queue.
    pub(crate) fn clones(&self) -> [usize; 2] {
        self.0.each_ref().map(|alarm| Arc::strong_count(alarm) - 1)
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.log.lock().expect("nothing panics under this lock").push((self.waiter, self.which));
    }
}

/// The payload of a waker that panics.
pub(crate) struct Alarmed;

thread_local! {
    static EXPECTED: Cell<bool> = const { Cell::new(false) };
}

/// Keeps panics that are part of a model test from being reported, or from ending the process under a fuzzer.
pub(crate) fn allow_expected_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !EXPECTED.get() && !info.payload().is::<Alarmed>() {
                report(info);
            }
        }));
    });
}

/// Runs `f`, which must panic with this message.
#[track_caller]
pub(crate) fn must_panic<R>(message: &str, f: impl FnOnce() -> R) {
    EXPECTED.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(f));
    EXPECTED.set(false);
    let payload = outcome.err().expect("this should have panicked");
    assert!(text(&*payload).contains(message), "panicked with {:?} instead of {message:?}", text(&*payload));
}

/// Runs `f`, and returns `None` if a panic of user code ends it.
pub(crate) fn survive<R>(f: impl FnOnce() -> R) -> Option<R> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(result) => Some(result),
        Err(payload) if payload.is::<Alarmed>() => None,
        Err(payload) => resume_unwind(payload),
    }
}

fn text(payload: &(dyn Any + Send)) -> &str {
    match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "something that is not text",
    }
}
