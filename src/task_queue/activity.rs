//! The tasks that there are, counted, and the wait for a moment without any.

use std::fmt;
use std::future::Future;
use std::mem::{replace, take};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use crate::panic::quiet;
use crate::sync::{Event, EventListener, Mutex};

/// The tasks of one queue, and the event of their number becoming zero.
#[derive(Default)]
pub(super) struct Activity {
    counts: Mutex<Counts>,
    rest: Event,
}

#[derive(Default)]
struct Counts {
    tasks: usize,
    running: usize,
    /// Moments without tasks so far, the first one apart. An `Idle` tells by it that one has passed since its first
    /// poll.
    rests: usize,
    /// An `Idle` may be listening: it says so after it has begun to, and asks for a rest in the same step.
    is_awaited: bool,
}

/// Counts a task for as long as it lives.
pub(super) struct Counted {
    activity: Arc<Activity>,
    is_running: bool,
}

/// Future returned by [`TaskQueue::idle`](crate::TaskQueue::idle).
///
/// # Cancel safety
///
/// Dropping it loses nothing.
///
/// # Panics
///
/// When it is polled after it was ready.
///
/// # Examples
///
/// ```
/// # stanchion::blocking::wait(async {
/// let queue = stanchion::TaskQueue::unbounded();
/// queue.submit(1, async {}).await.unwrap().detach();
/// let mut idle = queue.idle();
/// assert!(futures::poll!(&mut idle).is_pending());
/// queue.run_one().await;
/// idle.await;
/// assert_eq!(queue.len() + queue.running(), 0);
/// # });
/// ```
#[must_use = "futures do nothing unless polled"]
pub struct Idle {
    /// `None` once it was ready.
    activity: Option<Arc<Activity>>,
    /// The rests before its first poll.
    before: Option<usize>,
    listener: Option<EventListener>,
}

impl Activity {
    pub(super) fn running(&self) -> usize {
        self.counts.lock().running
    }

    /// Returns `true` if there is no task, or was none at some moment since the call that set `before`.
    fn has_rested(&self, before: &mut Option<usize>) -> bool {
        let mut counts = self.counts.lock();
        let has_rested = counts.tasks == 0 || *before.get_or_insert(counts.rests) != counts.rests;
        counts.is_awaited |= !has_rested;
        has_rested
    }
}

impl Counted {
    pub(super) fn new(activity: Arc<Activity>) -> Self {
        activity.counts.lock().tasks += 1;
        Self { activity, is_running: false }
    }

    /// Counts the task as running from now on.
    pub(super) fn begin(&mut self) {
        if !replace(&mut self.is_running, true) {
            self.activity.counts.lock().running += 1;
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let must_notify = {
            let mut counts = self.activity.counts.lock();
            counts.running -= usize::from(self.is_running);
            counts.tasks -= 1;
            let is_at_rest = counts.tasks == 0;
            // In the same step: a task that is submitted right after this must not hide the moment.
            counts.rests = counts.rests.wrapping_add(usize::from(is_at_rest));
            is_at_rest && take(&mut counts.is_awaited)
        };
        if must_notify {
            self.activity.rest.notify_all();
        }
    }
}

impl Idle {
    pub(super) fn new(activity: Arc<Activity>) -> Self {
        Self { activity: Some(activity), before: None, listener: None }
    }
}

impl Future for Idle {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let activity = this.activity.as_ref().expect("a future is not polled after it was ready");
        let mut waker = None;
        while !activity.has_rested(&mut this.before) {
            match &mut this.listener {
                // And asked again: a rest that was notified before there was a listener shows in its count.
                None => this.listener = Some(activity.rest.listen()),
                Some(listener) => {
                    let waker = waker.get_or_insert_with(|| quiet(cx.waker()));
                    ready!(Pin::new(listener).poll(&mut Context::from_waker(waker)));
                    // A notification may be late, for a rest before the first poll: that one does not count.
                    this.listener = None;
                }
            }
        }
        (this.activity, this.listener) = (None, None);
        Poll::Ready(())
    }
}

impl fmt::Debug for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idle").field("waiting", &self.listener.is_some()).finish_non_exhaustive()
    }
}
