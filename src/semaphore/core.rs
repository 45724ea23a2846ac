//! The algorithm of the semaphore: a word for the fast paths, a queue under a lock for everything else.
//!
//! **The word** is `permits << 2 | CLOSED | FROZEN`. While `FROZEN` is clear there are no waiters and no debt, and the
//! word holds the free permits: an acquire or a release is a load and a compare-and-swap on it.
//!
//! **The queue** holds the waiters and the debt; while the word is frozen it holds the free permits, too. It lies in an
//! allocation of its own, which the first slow path makes.
//!
//! **The rule of the frozen word.** A call that decides about permits takes the lock and *freezes* the word: it sets
//! `FROZEN` and moves the free permits into the queue. From then on only a holder of the lock changes the word, since
//! every fast path demands that `FROZEN` be clear and compares the whole word. It decides with plain arithmetic on the
//! queue, and *publishes* the outcome before it unlocks. If there are no waiters and no debt, it thaws the word: the
//! free permits move back. Otherwise the word stays frozen, with no permits in it, and **is not written again**, except
//! by `close`, until there are neither waiters nor debt. So deciding to wait and being seen to wait are one step, and
//! while tasks contend for permits the word's cache line stays shared: each call reads it, takes the lock and touches
//! the lines of the queue.
//!
//! | the word | means |
//! |---|---|
//! | `permits` | no waiters, no debt |
//! | `permits, CLOSED` | closed: no waiters, no debt |
//! | `0, FROZEN` | waiters or debt; the free permits are fewer than the head needs, and are in the queue |
//! | `0, FROZEN, CLOSED` | closed with a debt |
//! | `permits, FROZEN`, perhaps `CLOSED` | a holder of the lock is deciding; `permits` (perhaps 0) were free before |
//!
//! **Wakes.** Permits that are returned (by a release, `add_permits`, or the drop of a granted waiter) first pay the
//! debt, and then serve the queue from its head as long as the head's need fits; a need is granted whole, so no waiter
//! holds a part. Removing the head may let the next waiter fit, so cancelling serves the queue, too. The granted
//! waiters are woken after unlocking, and collect when they are polled.
//!
//! **Invariants** between two lockings: a debt implies no free permits; the head's need exceeds the free permits; a
//! closed semaphore has no queued waiters.
//!
//! **Ordering.** A release of permits is `Release` on the word and an acquisition `Acquire`. The freeze acquires what
//! fast releases published; publishing is `Release`, and hands on what happened under the lock to fast acquires and
//! observing calls. While the word stays frozen the lock itself orders one holder after the other, and observing calls
//! that find `FROZEN` take the lock.

use std::fmt;
use std::ops::Deref;
use std::task::{Context, Poll, Waker, ready};

use super::{AcquireError, Semaphore, TryAcquireError};
use crate::arena::Key;
use crate::panic::Panics;
use crate::sync::{self, AtomicUsize, LazyBox, Ordering, const_fn};
use crate::wait_list::{Removed, TaskWaker, WaitList, WakeBatch};

/// The queue holds the permits, and the word belongs to the holder of the lock.
const FROZEN: usize = 1;
/// No permit can be acquired any more.
const CLOSED: usize = 2;
/// The position of the count of free permits.
const SHIFT: u32 = 2;

pub(super) struct Core {
    word: AtomicUsize,
    queue: LazyBox<Lock>,
}

/// On cache lines of its own: its neighbours in memory are not slowed down by contention, nor do they cause any.
#[derive(Default)]
#[repr(align(64))]
struct Lock(sync::Mutex<Queue>);

/// The state of a semaphore with a frozen word, as plain data.
struct Queue {
    free: usize,
    /// Permits to be taken away as they are returned.
    debt: usize,
    closed: bool,
    /// Each needs a number of permits, and is granted that number.
    waiters: WaitList<usize, ()>,
}

impl Default for Queue {
    fn default() -> Self {
        Self { free: 0, debt: 0, closed: false, waiters: WaitList::new() }
    }
}

/// The fast paths.
impl Core {
    const_fn! {
        pub(super) const fn new(permits: usize) -> Self {
            Self { word: AtomicUsize::new(permits << SHIFT), queue: LazyBox::new() }
        }
    }

    #[inline]
    pub(super) fn take_fast(&self, n: usize) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        while word & (FROZEN | CLOSED) == 0 && word >> SHIFT >= n {
            // Partners: the release below, and the thaw in `locked`.
            let taken = word - (n << SHIFT);
            match self.word.compare_exchange_weak(word, taken, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    #[inline]
    pub(super) fn release(&self, n: usize) {
        let mut word = self.word.load(Ordering::Relaxed);
        while word & FROZEN == 0 && n <= Semaphore::MAX_PERMITS - (word >> SHIFT) {
            // Partners: the acquire above, the freeze in `locked`, and observing calls.
            let returned = word + (n << SHIFT);
            match self.word.compare_exchange_weak(word, returned, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => word = now,
            }
        }
        self.release_slow(n);
    }

    /// `take_fast(1)` for a semaphore of one permit. Its values are constants, so the swap does not wait for the load.
    #[inline]
    pub(super) fn take_sole(&self) -> bool {
        // Partners as in `take_fast`.
        self.word.load(Ordering::Relaxed) == 1 << SHIFT
            && self.word.compare_exchange(1 << SHIFT, 0, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// `release(1)` for a semaphore of one permit: it expects no waiters, which saves the load.
    #[inline]
    pub(super) fn release_sole(&self) {
        // Partners as in `release`.
        if self.word.compare_exchange(0, 1 << SHIFT, Ordering::Release, Ordering::Relaxed).is_err() {
            self.release_slow(1);
        }
    }
}

/// The slow paths, which take the lock. Wakers are cloned before that, and woken and dropped after it.
impl Core {
    #[inline(never)]
    pub(super) fn try_take_slow(&self, n: usize) -> Result<(), TryAcquireError> {
        // Partner: `locked`, so that what preceded a `close` is visible to the caller that observes it.
        let word = self.word.load(Ordering::Acquire);
        if word & CLOSED != 0 {
            return Err(TryAcquireError::Closed);
        }
        // Under overload this answers without the lock: a frozen word has no permits, unless a holder is deciding, and
        // then the answer is that of the moment before.
        if word >> SHIFT < n {
            return Err(TryAcquireError::NoPermits);
        }
        self.locked(|queue| queue.take(n))
    }

    #[inline(never)]
    pub(super) fn release_slow(&self, n: usize) {
        let mut batch = WakeBatch::default();
        let fits = self.locked(|queue| queue.give(n, &mut batch));
        assert_fits(fits);
        self.wake(&mut batch);
    }

    /// Takes `n` permits, or enqueues a waiter for them and returns its key.
    #[inline(never)]
    pub(super) fn enqueue(&self, n: usize, waker: &Waker) -> Result<Option<Key>, AcquireError> {
        if self.is_closed() {
            return Err(AcquireError(()));
        }
        TaskWaker::cloned(waker).poll_with(|waker| {
            self.locked(|queue| match queue.take(n) {
                Ok(()) => Ok(Ok(None)),
                Err(TryAcquireError::Closed) => Ok(Err(AcquireError(()))),
                Err(TryAcquireError::NoPermits) => Ok(Ok(Some(queue.waiters.enqueue(n, waker.take()?)))),
            })
        })
    }

    /// Collects what was granted to `key`, or makes it wake the task of `waker`.
    #[inline(never)]
    pub(super) fn collect(&self, key: Key, waker: &Waker) -> Poll<Result<(), AcquireError>> {
        let polled = TaskWaker::new(waker).poll_with(|waker| {
            // Not `locked`: a granted waiter counts for nothing any more, so the word need not be frozen for it.
            let mut queue = self.queue.get().expect("a waiter is in the queue").0.lock();
            queue.waiters.poll(key, waker)
        });
        polled.map(|removed| removed.grant.ok_or(AcquireError(())))
    }

    /// Removes the waiter `key`, and passes on what it was granted.
    #[inline(never)]
    pub(super) fn cancel(&self, key: Key) {
        let mut batch = WakeBatch::default();
        let mut removed = None;
        let fits = self.locked(|queue| {
            removed = queue.waiters.remove(key);
            if let Some(Removed { need, grant: Some(()), .. }) = removed {
                return queue.give(need, &mut batch);
            }
            // The next waiter may need less than the one that was removed.
            queue.serve(&mut batch);
            true
        });
        let mut panics = Panics::default();
        panics.catch(|| assert_fits(fits));
        panics.catch(|| drop(removed));
        panics.catch(|| self.wake(&mut batch));
        panics.resume();
    }

    /// Takes away the free permits, at most `n`, and returns their number.
    pub(super) fn forget(&self, n: usize) -> usize {
        self.locked(|queue| {
            let taken = queue.free.min(n);
            queue.free -= taken;
            taken
        })
    }

    /// Takes away the free permits, at most `n`, and owes the rest. Returns `false` if the debt would overflow.
    #[must_use]
    pub(super) fn reduce(&self, n: usize) -> bool {
        self.locked(|queue| {
            let taken = queue.free.min(n);
            let Some(debt) = queue.debt.checked_add(n - taken) else { return false };
            queue.debt = debt;
            queue.free -= taken;
            true
        })
    }

    pub(super) fn close(&self) {
        let mut batch = WakeBatch::default();
        self.locked(|queue| {
            queue.closed = true;
            queue.waiters.close();
            queue.waiters.take_wakers(&mut batch);
        });
        self.wake(&mut batch);
    }

    /// Takes the lock, freezes the word, lets `decide` change the queue, publishes the outcome and unlocks.
    ///
    /// `decide` reports misuse by what it returns, since a panic hook is user code and must run without the lock. (The
    /// one exception is the 2^32nd waiter.) If it panics, the word stays frozen, and the next holder publishes the
    /// state.
    #[inline]
    fn locked<R>(&self, decide: impl FnOnce(&mut Queue) -> R) -> R {
        let mut queue = self.queue.get_or_create().0.lock();
        let mut word = self.word.load(Ordering::Relaxed);
        if word & FROZEN == 0 {
            // Partner: `release`. If the word was frozen already, the holder that froze it did this for all after it.
            word = self.word.fetch_or(FROZEN, Ordering::Acquire) | FROZEN;
            queue.free = word >> SHIFT;
        }
        let decision = decide(&mut queue);
        let published = queue.word();
        if published != word {
            // Partners: the fast acquires and observing calls. A plain store, since no other call changes a frozen
            // word.
            self.word.store(published, Ordering::Release);
        }
        decision
    }

    /// Wakes the granted waiters: the last step, without the lock, since a waker may call anything.
    #[inline]
    fn wake(&self, batch: &mut WakeBatch) {
        batch.wake(|batch| {
            if let Some(queue) = self.queue.get() {
                queue.0.lock().waiters.take_wakers(batch);
            }
        });
    }
}

/// The observing calls.
impl Core {
    pub(super) fn available(&self) -> usize {
        // Partner: `release` and `locked`, so that what preceded the return of a permit is visible.
        let word = self.word.load(Ordering::Acquire);
        if word & FROZEN == 0 { word >> SHIFT } else { self.observe(|queue| queue.free) }
    }

    pub(super) fn waiters(&self) -> usize {
        self.unless_thawed(|queue| queue.waiters.len())
    }

    pub(super) fn debt(&self) -> usize {
        self.unless_thawed(|queue| queue.debt)
    }

    pub(super) fn is_closed(&self) -> bool {
        // Partner: `locked`, so that what preceded the `close` is visible.
        self.word.load(Ordering::Acquire) & CLOSED != 0
    }

    /// Returns what a formatter shows of the state: free permits, debt, waiters. `None` if a call is deciding.
    pub(super) fn try_snapshot(&self) -> Option<(usize, usize, usize)> {
        // Orders nothing: the numbers are only printed.
        let word = self.word.load(Ordering::Relaxed);
        if word & FROZEN == 0 {
            return Some((word >> SHIFT, 0, 0));
        }
        // If the word was thawed meanwhile, these are the numbers of that moment.
        let queue = self.queue.get()?.0.try_lock()?;
        Some((queue.free, queue.debt, queue.waiters.len()))
    }

    /// Looks at a number that is 0 while the word is thawed.
    fn unless_thawed(&self, number: impl FnOnce(&Queue) -> usize) -> usize {
        // Partner: `locked`, so that what preceded the end of the waiting is visible.
        if self.word.load(Ordering::Acquire) & FROZEN == 0 { 0 } else { self.observe(number) }
    }

    #[inline(never)]
    fn observe(&self, number: impl FnOnce(&Queue) -> usize) -> usize {
        self.locked(|queue| number(queue))
    }

    pub(super) fn validate(&self) {
        self.locked(|queue| {
            queue.waiters.validate();
            assert!(queue.debt == 0 || queue.free == 0, "a debt implies no free permits");
            assert!(!queue.closed || queue.waiters.is_empty(), "a closed semaphore has no queued waiters");
            let head = queue.waiters.front_need();
            assert!(head.is_none_or(|&need| need > queue.free), "the head's need exceeds the free permits");
        });
    }
}

/// The decisions, on plain data.
impl Queue {
    /// Takes `n` permits, unless that would overtake a waiter.
    #[inline]
    fn take(&mut self, n: usize) -> Result<(), TryAcquireError> {
        if self.closed {
            return Err(TryAcquireError::Closed);
        }
        if self.free < n || !self.waiters.is_empty() {
            return Err(TryAcquireError::NoPermits);
        }
        self.free -= n;
        Ok(())
    }

    /// Takes `n` permits back: for the debt, then for the waiters, then to be free. Returns `false`, and changes
    /// nothing, if more would be free than fit.
    #[inline]
    #[must_use]
    fn give(&mut self, n: usize, batch: &mut WakeBatch) -> bool {
        let paid = self.debt.min(n);
        let sum = self.free.checked_add(n - paid);
        let fits =
            sum.is_some_and(|sum| sum <= Semaphore::MAX_PERMITS || self.left_over(sum) <= Semaphore::MAX_PERMITS);
        if fits {
            self.debt -= paid;
            self.free += n - paid;
            self.serve(batch);
        }
        fits
    }

    /// Returns the rest of `free` permits after the queue has been served.
    #[cold]
    fn left_over(&self, mut free: usize) -> usize {
        for &need in self.waiters.needs() {
            match free.checked_sub(need) {
                Some(rest) => free = rest,
                None => break,
            }
        }
        free
    }

    /// Grants to the head as long as its need fits.
    #[inline]
    fn serve(&mut self, batch: &mut WakeBatch) {
        let free = &mut self.free;
        let grant = |&need: &usize| {
            *free = free.checked_sub(need)?;
            Some(())
        };
        self.waiters.grant_while(grant, batch);
    }

    /// Returns the word that this state is published as.
    #[inline]
    fn word(&self) -> usize {
        let closed = if self.closed { CLOSED } else { 0 };
        if self.waiters.is_empty() && self.debt == 0 { self.free << SHIFT | closed } else { closed | FROZEN }
    }
}

/// A type that waits as a semaphore does: the semaphore itself, or a mutex around one.
pub(crate) trait AsSemaphore {
    fn as_semaphore(&self) -> &Semaphore;

    /// Acquires on the fast path that suits this type best.
    fn take_fast(&self, n: usize) -> bool;
}

/// The future behind all acquires and locks. It holds its handle, borrowed or owned, and is ready with it.
pub(crate) struct Acquiring<H: Deref<Target: AsSemaphore>> {
    /// `None` once it is ready.
    handle: Option<H>,
    permits: usize,
    /// `Some` while it is queued or granted.
    key: Option<Key>,
}

impl<H: Deref<Target: AsSemaphore>> Acquiring<H> {
    #[inline]
    #[track_caller]
    pub(crate) fn new(handle: H, permits: usize) -> Self {
        assert_requestable(permits);
        Self { handle: Some(handle), permits, key: None }
    }

    #[inline]
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<H, AcquireError>> {
        // Borrowed, not taken: if cloning the waker panics, the drop must still find its waiter.
        let handle = self.handle.as_ref().expect("a future is not polled after it was ready");
        let outcome = match self.key {
            None if handle.take_fast(self.permits) => Ok(()),
            None => match handle.as_semaphore().core.enqueue(self.permits, cx.waker()) {
                Ok(Some(key)) => {
                    self.key = Some(key);
                    return Poll::Pending;
                }
                outcome => outcome.map(|_| ()),
            },
            Some(key) => {
                let outcome = ready!(handle.as_semaphore().core.collect(key, cx.waker()));
                self.key = None;
                outcome
            }
        };
        let handle = self.handle.take();
        Poll::Ready(outcome.map(|()| handle.expect("the handle was just borrowed")))
    }

    fn cancel(&mut self, key: Key) {
        let handle = self.handle.take().expect("a waiter's future has its handle");
        // The handle may be the last one to a mutex with a value that panics when it is dropped.
        let mut panics = Panics::default();
        panics.catch(|| handle.as_semaphore().core.cancel(key));
        panics.catch(|| drop(handle));
        panics.resume();
    }

    #[inline]
    pub(crate) fn permits(&self) -> usize {
        self.permits
    }

    /// Formats it as `name`.
    pub(crate) fn debug(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name).field("permits", &self.permits).field("waiting", &self.key.is_some()).finish()
    }
}

impl<H: Deref<Target: AsSemaphore>> Drop for Acquiring<H> {
    #[inline]
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.cancel(key);
        }
    }
}

#[track_caller]
#[inline]
pub(super) fn assert_requestable(permits: usize) {
    assert!(permits <= Semaphore::MAX_PERMITS, "at most Semaphore::MAX_PERMITS permits can be acquired at once");
}

/// Panics without the lock, since a panic hook is user code.
#[inline]
fn assert_fits(fits: bool) {
    // While the thread is panicking they are lost silently: a second panic would abort.
    assert!(fits || std::thread::panicking(), "a semaphore holds at most Semaphore::MAX_PERMITS free permits");
}
