//! Blocks a thread on a future of this crate, or on any other.
//!
//! A thread that blocks here waits in the same queue as the tasks: its place is that of its first poll.
//!
//! ```
//! use stanchion::{Semaphore, blocking};
//!
//! let semaphore = Semaphore::new(1);
//! let permit = blocking::wait(semaphore.acquire()).unwrap();
//! assert_eq!(permit.num_permits(), 1);
//! ```
//!
//! # Deadlocks
//!
//! Do not block a thread on which an async runtime runs its tasks: the task that would end the wait may be one of them.
//! On a runtime with one thread the wait then never ends; on a larger one, it never ends once every thread of the
//! runtime blocks like this. The functions cannot detect it, since they know no runtime. Inside a task write `.await`.
//! Run synchronous code that blocks with tokio's `spawn_blocking`; or, where it is called from inside a task of a
//! multi-threaded runtime, wrap the blocking call in `block_in_place`.

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use crate::sync::{self, Condvar, Mutex};

/// Blocks the current thread until `future` is ready.
///
/// # Panics
///
/// When polling or dropping the future panics.
///
/// # Deadlocks
///
/// Never returns if the future waits for a task of the runtime thread that it blocks; see the
/// [module's page](self#deadlocks).
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
    match poll_until(pin!(future), None) {
        Ok(output) => output,
        Err(Elapsed) => unreachable!("a wait without a deadline does not elapse"),
    }
}

/// Blocks the current thread until `future` is ready, for at most `timeout`.
///
/// The future is polled at least once, even if `timeout` is zero. A timeout beyond the clock's range never elapses.
///
/// # Errors
///
/// Returns [`Elapsed`] when the timeout has elapsed. The future has been dropped then.
///
/// # Panics
///
/// When polling or dropping the future panics.
///
/// # Deadlocks
///
/// Blocks for the whole timeout if the future waits for a task of the runtime thread that it blocks; see the
/// [module's page](self#deadlocks).
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
    poll_until(pin!(future), sync::deadline_after(timeout))
}

/// Blocks the current thread until `future` is ready, at most until `deadline`.
///
/// The future is polled at least once, even if `deadline` has passed.
///
/// # Errors
///
/// Returns [`Elapsed`] when the deadline has passed. The future has been dropped then.
///
/// # Panics
///
/// When polling or dropping the future panics.
///
/// # Deadlocks
///
/// Blocks until the deadline if the future waits for a task of the runtime thread that it blocks; see the
/// [module's page](self#deadlocks).
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
    poll_until(pin!(future), sync::deadline_at(deadline))
}

/// The error of a wait that ended before the future was ready.
///
/// # Examples
///
/// ```
/// use stanchion::blocking::{self, Elapsed};
/// use std::time::Duration;
///
/// let queue = stanchion::PriorityQueue::<u8, &str>::unbounded();
/// assert_eq!(blocking::wait_timeout(queue.pop(), Duration::ZERO), Err(Elapsed));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time elapsed before the future was ready")
    }
}

impl std::error::Error for Elapsed {}

/// Like [`wait`], for a future that registers the waker of each poll, as those of this crate do: it allocates nothing
/// if the future is ready at once.
pub(crate) fn wait_reregistering<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => wait(future),
    }
}

/// Polls with a waker of this wait from the first poll on, since a future may keep the waker of its first poll for
/// good.
fn poll_until<F: Future>(mut future: Pin<&mut F>, deadline: Option<Instant>) -> Result<F::Output, Elapsed> {
    let parker = Arc::new(Parker { notified: Mutex::new(false), condvar: Condvar::default() });
    let waker = Waker::from(parker.clone());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Ok(output);
        }
        // Checked after each poll: a future that is woken all the time does not outlast the deadline, and one that was
        // woken while this thread slept is polled once more.
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Err(Elapsed);
        }
        parker.park(deadline);
    }
}

/// Where one wait sleeps. The flag is its own, so that no other user of the thread's parking can consume a wake.
struct Parker {
    notified: Mutex<bool>,
    condvar: Condvar,
}

impl Parker {
    /// Sleeps until it has been woken since the last return, or until the deadline.
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
        // Set under the lock: the sleeper either has not checked yet and sees it, or is asleep and is notified.
        *self.notified.lock() = true;
        self.condvar.notify_one();
    }
}
