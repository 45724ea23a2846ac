//! Any future of this crate, or of yours, from a thread without a runtime.
//!
//! A thread that waits here stands in the same queue as the tasks: its place is that of its first poll.
//!
//! ```
//! use stanchion::{Semaphore, blocking};
//!
//! let semaphore = Semaphore::new(1);
//! let permit = blocking::wait(semaphore.acquire()).unwrap();
//! assert_eq!(permit.num_permits(), 1);
//! ```
//!
//! Do not block a thread that an async runtime runs its tasks on: the task that would end your wait may be one of them.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use crate::sync::{self, Condvar, Mutex};

/// Blocks the current thread until `future` is ready.
///
/// # Panics
///
/// When the future does, polled or dropped.
///
/// # Examples
///
/// ```
/// use stanchion::{Mutex, blocking};
///
/// let mutex = Mutex::new(1);
/// *blocking::wait(mutex.lock()) += 1;
/// assert_eq!(mutex.into_inner(), 2);
/// ```
pub fn wait<F: Future>(future: F) -> F::Output {
    match poll_until(future, None) {
        Ok(output) => output,
        Err(Elapsed) => unreachable!("a wait without a deadline does not elapse"),
    }
}

/// Blocks the current thread until `future` is ready, for at most `timeout`.
///
/// The future is polled at least once, also when `timeout` is zero. A timeout too long for the clock waits for ever.
///
/// # Errors
///
/// [`Elapsed`] when the time is over. The future has been dropped then.
///
/// # Panics
///
/// When the future does, polled or dropped.
///
/// # Examples
///
/// ```
/// use stanchion::{Semaphore, blocking};
/// use std::time::Duration;
///
/// let semaphore = Semaphore::new(0);
/// let outcome = blocking::wait_timeout(semaphore.acquire(), Duration::from_millis(1));
/// assert_eq!(outcome.err(), Some(blocking::Elapsed));
/// ```
pub fn wait_timeout<F: Future>(future: F, timeout: Duration) -> Result<F::Output, Elapsed> {
    poll_until(future, sync::after(timeout))
}

/// Blocks the current thread until `future` is ready, at most until `deadline`.
///
/// The future is polled at least once, also when `deadline` has passed.
///
/// # Errors
///
/// [`Elapsed`] when the deadline has passed. The future has been dropped then.
///
/// # Panics
///
/// When the future does, polled or dropped.
///
/// # Examples
///
/// ```
/// use stanchion::blocking;
/// use std::time::Instant;
///
/// assert_eq!(blocking::wait_until(async { 7 }, Instant::now()), Ok(7));
/// ```
pub fn wait_until<F: Future>(future: F, deadline: Instant) -> Result<F::Output, Elapsed> {
    poll_until(future, sync::at(deadline))
}

/// The time was over before the future was ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time was over before the future was ready")
    }
}

impl std::error::Error for Elapsed {}

fn poll_until<F: Future>(future: F, deadline: Option<Instant>) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    // Most waits are over before they begin, and need nowhere to sleep.
    if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        return Ok(output);
    }
    // As if just woken: the first poll with a waker comes at once.
    let parker = Arc::new(Parker { notified: Mutex::new(true), condvar: Condvar::default() });
    let waker = Waker::from(parker.clone());
    // Looked at after every poll: a future that is woken all the time does not outlast the deadline, and one that was
    // woken while it slept is polled once more.
    while deadline.is_none_or(|deadline| Instant::now() < deadline) {
        parker.park(deadline);
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Ok(output);
        }
    }
    Err(Elapsed)
}

/// Where one wait sleeps. Its flag is its own, so that nothing else that parks or unparks the thread can eat a wake.
struct Parker {
    notified: Mutex<bool>,
    condvar: Condvar,
}

impl Parker {
    /// Sleeps until woken since the last return, or until the deadline.
    fn park(&self, deadline: Option<Instant>) {
        let mut notified = self.notified.lock();
        while !*notified {
            notified = match deadline {
                None => self.condvar.wait(notified),
                Some(deadline) if Instant::now() < deadline => self.condvar.wait_until(notified, deadline),
                Some(_) => break,
            };
        }
        *notified = false;
    }
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Set under the lock: the sleeper is either before its check and sees it, or asleep and is notified.
        *self.notified.lock() = true;
        self.condvar.notify_one();
    }
}
