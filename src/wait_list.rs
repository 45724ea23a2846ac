//! The one waiting algorithm: a FIFO of waiters that are granted what they need, in order.
//!
//! A primitive keeps a [`WaitList`] under its lock. A future that must wait is *enqueued* with its waker and what it
//! needs, and keeps the key. A call that has something to give *grants* it to the head, or to the waiter that it is
//! meant for; the waiter is out of the queue at that moment, and no later waiter can take the grant from it. The future
//! *collects* the grant when it is polled next. If it is dropped first, it *cancels*: the call that drops it gets back
//! what the waiter had been granted, and passes it on.
//!
//! | a waiter is | `grant` | in list | its waker is | next |
//! |---|---|---|---|---|
//! | queued | none | `queue` | here | granted, closed, cancelled |
//! | granted, to be woken | some | `to_wake` | here | woken, collected, cancelled, revoked |
//! | granted, woken | some | none | taken | collected, cancelled, revoked |
//! | revoked after it was woken | none | `queue` | taken | registers its waker when polled; or as queued |
//! | queued without a waker | none | `queue` | none | registers its waker when polled; or as queued |
//! | closed, to be woken | none | `to_wake` | here | woken, collected (nothing), cancelled |
//! | closed, woken | none | none | taken | collected (nothing), cancelled |
//!
//! A grant that was not collected can be *revoked*: the waiter is at the front of the queue again. If it had been
//! woken, it will be polled, and registers its waker then; if it is granted again before that poll, it needs no second
//! wake. The same holds for a waiter that is enqueued without a waker, since its owner wakes it by other means. The
//! queue of a closed list is empty.
//!
//! **Wakers are user code.** None is cloned, woken or dropped in this file while a lock is held: a [`TaskWaker`] brings
//! them in, and they go out with it, with the [`Removed`] waiter or in a [`WakeBatch`], for the caller to handle after
//! it has unlocked. A batch has room for a few; the waiters granted beyond that stay in `to_wake` until the caller
//! refills the batch. So a million waiters are granted in one uninterrupted step, and waking them needs no allocation.

use std::task::{Poll, Waker};

use crate::arena::{Arena, Key, List, Surplus};
use crate::panic::{Panics, drop_quietly};

/// The wakers taken out per locking, at least two: [`WakeBatch::wake`] expects no more to come after a single waker.
/// Few under loom, so that models reach the second round.
const BATCH: usize = if cfg!(loom) { 2 } else { 4 };

/// The waiters of one primitive, each of which needs an `N` and may be granted a `G`.
#[derive(Debug)]
pub(crate) struct WaitList<N, G> {
    waiters: Arena<Waiter<N, G>>,
    /// Not granted yet, the longest waiting first.
    queue: List,
    /// Granted or closed, with a waker that found no room in a batch yet.
    to_wake: List,
    closed: bool,
}

#[derive(Debug)]
struct Waiter<N, G> {
    need: N,
    grant: Option<G>,
    waker: Option<Waker>,
    membership: Membership,
}

/// The list that a waiter is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Membership {
    Queue,
    ToWake,
    None,
}

/// A waiter that was removed, to be dropped after unlocking.
#[derive(Debug)]
pub(crate) struct Removed<N, G> {
    pub(crate) need: N,
    /// Set if it was granted and did not collect.
    pub(crate) grant: Option<G>,
    pub(crate) waker: Option<Waker>,
    /// The memory of the list, if this was its last waiter after a storm.
    _surplus: Option<Box<Surplus<Waiter<N, G>>>>,
}

impl<N, G> Waiter<N, G> {
    fn queued(need: N, waker: Option<Waker>) -> Self {
        Self { need, grant: None, waker, membership: Membership::Queue }
    }

    /// Sets the grant, moves the waker into `batch` if it has room, and returns the list that the waiter belongs to
    /// now.
    #[inline]
    fn set_granted(&mut self, grant: G, batch: &mut WakeBatch) -> Membership {
        self.grant = Some(grant);
        self.membership = if batch.has_room() {
            batch.push(self.waker.take());
            Membership::None
        } else {
            Membership::ToWake
        };
        self.membership
    }
}

impl<N, G> WaitList<N, G> {
    pub(crate) const fn new() -> Self {
        const { assert!(BATCH > 1) };
        Self { waiters: Arena::new(), queue: List::new(), to_wake: List::new(), closed: false }
    }

    /// Returns the number of queued waiters: neither granted nor closed.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Returns the key of the head of the queue.
    #[inline]
    pub(crate) fn front_key(&self) -> Option<Key> {
        self.waiters.front(&self.queue)
    }

    /// Returns what the head of the queue needs.
    #[inline]
    pub(crate) fn front_need(&self) -> Option<&N> {
        self.needs().next()
    }

    /// Returns what the queued waiters need, from the head.
    #[inline]
    pub(crate) fn needs(&self) -> impl Iterator<Item = &N> {
        self.waiters.iter(&self.queue).map(|waiter| &waiter.need)
    }

    /// Adds a waiter at the end of the queue.
    #[inline]
    pub(crate) fn enqueue(&mut self, need: N, waker: Waker) -> Key {
        debug_assert!(!self.closed, "a closed list has no queue");
        self.waiters.push_back(&mut self.queue, Waiter::queued(need, Some(waker)))
    }

    /// Adds a waiter behind the leading waiters for which `is_before` holds. Without a waker it is woken by other means,
    /// and registers one when it is polled.
    ///
    /// Searches from both ends at once, so it takes twice the way to the nearer one.
    #[inline(always)]
    pub(crate) fn enqueue_after(&mut self, is_before: impl Fn(&N) -> bool, need: N, waker: Option<Waker>) -> Key {
        debug_assert!(!self.closed, "a closed list has no queue");
        if self.waiters.tail(&self.queue).is_none_or(|last| is_before(&last.need)) {
            return self.waiters.push_back(&mut self.queue, Waiter::queued(need, waker));
        }
        self.enqueue_between(is_before, need, waker)
    }

    #[inline(never)]
    fn enqueue_between(&mut self, is_before: impl Fn(&N) -> bool, need: N, waker: Option<Waker>) -> Key {
        let before = self.last_before(is_before);
        let key = self.waiters.insert(Waiter::queued(need, waker));
        self.waiters.link_after(&mut self.queue, before, key);
        key
    }

    fn last_before(&self, is_before: impl Fn(&N) -> bool) -> Option<Key> {
        let mut before = None;
        let ends = self.waiters.entries(&self.queue).zip(self.waiters.entries_back(&self.queue));
        for ((from_front, first), (from_back, last)) in ends {
            if is_before(&last.need) {
                return Some(from_back);
            }
            if !is_before(&first.need) {
                break;
            }
            before = Some(from_front);
        }
        before
    }

    /// Grants to the head of the queue, which must not be empty. Its waker goes into `batch`, or waits for the next
    /// batch.
    pub(crate) fn grant_front(&mut self, grant: G, batch: &mut WakeBatch) {
        let mut grant = Some(grant);
        self.grant_while(|_| grant.take(), batch);
        debug_assert!(grant.is_none(), "the queue has a head");
    }

    /// Grants to the head of the queue as long as `grant` returns something for its need.
    #[inline(always)] // A call costs a hand-off 4 instructions and a cancellation 16, of some 500 and 330.
    pub(crate) fn grant_while(&mut self, mut grant: impl FnMut(&N) -> Option<G>, batch: &mut WakeBatch) {
        while let Some((key, waiter)) = self.waiters.front_mut(&self.queue) {
            let Some(granted) = grant(&waiter.need) else { break };
            let membership = waiter.set_granted(granted, batch);
            self.waiters.unlink(&mut self.queue, key);
            if membership == Membership::ToWake {
                self.waiters.link_back(&mut self.to_wake, key);
            }
        }
    }

    /// Grants to the queued waiter `key`, wherever it stands. Its waker goes into `batch`, or waits for the next batch.
    #[inline]
    pub(crate) fn grant(&mut self, key: Key, grant: G, batch: &mut WakeBatch) {
        self.waiters.unlink(&mut self.queue, key);
        let waiter = self.waiters.get_mut(key).expect("key refers to a queued waiter");
        if waiter.set_granted(grant, batch) == Membership::ToWake {
            self.waiters.link_back(&mut self.to_wake, key);
        }
    }

    /// Grants to each queued waiter for which `grant` returns something, the longest waiting first.
    pub(crate) fn grant_each(&mut self, mut grant: impl FnMut(&N) -> Option<G>, batch: &mut WakeBatch) {
        let mut still_queued = List::new();
        while let Some((key, waiter)) = self.waiters.pop_front(&mut self.queue) {
            match grant(&waiter.need).map(|grant| waiter.set_granted(grant, batch)) {
                None => self.waiters.link_back(&mut still_queued, key),
                Some(Membership::ToWake) => self.waiters.link_back(&mut self.to_wake, key),
                Some(_) => {}
            }
        }
        self.queue = still_queued;
    }

    /// Takes back what `key` was granted and has not collected. The waiter is at the front of the queue again.
    pub(crate) fn revoke(&mut self, key: Key) -> Option<G> {
        debug_assert!(!self.closed, "a closed list has no queue");
        let waiter = self.waiters.get_mut(key)?;
        let grant = waiter.grant.take()?;
        if std::mem::replace(&mut waiter.membership, Membership::Queue) == Membership::ToWake {
            self.waiters.unlink(&mut self.to_wake, key);
        }
        self.waiters.link_after(&mut self.queue, None, key);
        Some(grant)
    }

    /// Closes the list: each queued waiter is to be woken and will collect nothing.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        // In one step, without a visit to each waiter: see `remove`.
        self.waiters.append(&mut self.to_wake, &mut self.queue);
    }

    /// Removes the waiter `key` if it was granted or closed; makes it wake the task of `waker` otherwise.
    #[inline]
    pub(crate) fn poll(&mut self, key: Key, waker: &mut TaskWaker<'_>) -> Result<Poll<Removed<N, G>>, NeedsClone> {
        let waiter = self.waiters.get_mut(key).expect("key refers to a waiter that was not removed");
        if waiter.grant.is_none() && !self.closed {
            waker.register(&mut waiter.waker)?;
            return Ok(Poll::Pending);
        }
        let mut removed = self.remove(key).expect("the waiter was just found");
        waker.discard(removed.waker.take());
        Ok(Poll::Ready(removed))
    }

    /// Returns `true` if `key` was granted something and has not collected it.
    #[inline]
    pub(crate) fn is_granted(&self, key: Key) -> bool {
        self.granted(key).is_some()
    }

    /// Returns what `key` was granted and has not collected.
    #[inline]
    pub(crate) fn granted(&self, key: Key) -> Option<&G> {
        self.waiters.get(key)?.grant.as_ref()
    }

    /// Removes a waiter in any state, if it is still there. The caller passes on what it had been granted.
    #[inline(always)] // Likewise 37 and 17: the removed waiter is passed through memory.
    pub(crate) fn remove(&mut self, key: Key) -> Option<Removed<N, G>> {
        let Self { waiters, queue, to_wake, closed } = self;
        let waiter = waiters.remove(key, |waiter| match waiter.membership {
            // `close` moved the whole queue at once.
            Membership::Queue if !*closed => Some(queue),
            Membership::Queue | Membership::ToWake => Some(to_wake),
            Membership::None => None,
        })?;
        let Waiter { need, grant, waker, .. } = waiter;
        Some(Removed { need, grant, waker, _surplus: waiters.take_surplus() })
    }

    /// Moves wakers that are to be woken into `batch`, as many as it has room for.
    pub(crate) fn take_wakers(&mut self, batch: &mut WakeBatch) {
        while batch.has_room() {
            let Some((_, waiter)) = self.waiters.pop_front(&mut self.to_wake) else { return };
            waiter.membership = Membership::None;
            batch.push(waiter.waker.take());
        }
    }

    /// Checks every invariant of the list.
    pub(crate) fn validate(&self) {
        self.waiters.validate(&[&self.queue, &self.to_wake]);
        for waiter in self.waiters.iter(&self.queue) {
            assert!(waiter.membership == Membership::Queue, "a waiter knows the list that it is in");
            assert!(waiter.grant.is_none(), "a queued waiter is not granted");
        }
        for waiter in self.waiters.iter(&self.to_wake) {
            assert!(waiter.membership != Membership::None, "a waiter knows the list that it is in");
            assert!(waiter.grant.is_some() || self.closed, "a waiter to be woken is granted or closed");
        }
        assert!(!self.closed || self.queue.is_empty(), "a closed list has no queue");
    }
}

impl<N, G> Drop for WaitList<N, G> {
    /// Drops the wakers of forgotten futures one by one: two that panic must not abort.
    fn drop(&mut self) {
        let waiters = std::mem::replace(&mut self.waiters, Arena::new());
        Panics::of_drops(waiters.into_values()).resume();
    }
}

/// The waker of the task that polls a future, cloned only if it is needed, and never under a lock.
///
/// This is the one loop by which a future registers its waker and checks its state again:
/// [`poll_with`](Self::poll_with).
pub(crate) struct TaskWaker<'a> {
    current: &'a Waker,
    clone: Option<Waker>,
    /// Replaced by the clone, or left over by a waiter that has collected.
    discarded: Option<Waker>,
}

/// A step cannot be completed under the lock before the waker has been cloned without it.
#[derive(Debug)]
pub(crate) struct NeedsClone;

impl<'a> TaskWaker<'a> {
    /// Clones `current` if a step asks for it.
    #[inline]
    pub(crate) fn new(current: &'a Waker) -> Self {
        Self { current, clone: None, discarded: None }
    }

    /// Clones `current` now: a wait is likely, and the first attempt should be the last.
    #[inline]
    pub(crate) fn cloned(current: &'a Waker) -> Self {
        Self { current, clone: Some(current.clone()), discarded: None }
    }

    /// Runs `attempt`, which takes a lock and decides under it, until no clone of the waker is missing.
    ///
    /// Between two attempts, without the lock, the waker is cloned: the state may change there, so each attempt decides
    /// afresh. Wakers that are not needed are dropped in the end, without the lock. Panics of their drops are
    /// discarded, since the caller has an outcome in hand that must not be lost.
    #[inline]
    pub(crate) fn poll_with<R>(mut self, mut attempt: impl FnMut(&mut Self) -> Result<R, NeedsClone>) -> R {
        loop {
            match attempt(&mut self) {
                Ok(outcome) => return outcome,
                Err(NeedsClone) => self.clone = Some(self.current.clone()),
            }
        }
    }

    /// Returns a waker of the task, to enqueue it.
    #[inline]
    pub(crate) fn take(&mut self) -> Result<Waker, NeedsClone> {
        self.clone.take().ok_or(NeedsClone)
    }

    /// Makes `slot` wake the task, unless it already does.
    #[inline]
    pub(crate) fn register(&mut self, slot: &mut Option<Waker>) -> Result<(), NeedsClone> {
        if slot.as_ref().is_none_or(|held| !held.will_wake(self.current)) {
            let replaced = slot.replace(self.take()?);
            self.discard(replaced);
        }
        Ok(())
    }

    /// Takes charge of a waker that is to be dropped without the lock. At most one per poll.
    #[inline]
    pub(crate) fn discard(&mut self, waker: Option<Waker>) {
        debug_assert!(self.discarded.is_none(), "a poll discards at most one waker");
        self.discarded = waker;
    }
}

impl Drop for TaskWaker<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.clone.is_some() || self.discarded.is_some() {
            drop_quietly([self.clone.take(), self.discarded.take()]);
        }
    }
}

/// A few wakers, taken out under a lock to be woken without it.
#[derive(Default)]
pub(crate) struct WakeBatch {
    wakers: [Option<Waker>; BATCH],
    len: usize,
}

impl WakeBatch {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline]
    fn has_room(&self) -> bool {
        self.len < BATCH
    }

    #[inline]
    fn push(&mut self, waker: Option<Waker>) {
        self.wakers[self.len] = waker;
        self.len += 1;
    }

    /// Wakes all, and calls `refill` for more as long as the batch was full. To be called without a lock, as the last
    /// step.
    ///
    /// # Panics
    ///
    /// With the first panic of a waker, after all the others were woken; never if the thread is panicking already.
    #[inline]
    pub(crate) fn wake(&mut self, refill: impl FnMut(&mut Self)) {
        // A single waker has no others to protect from its panic; but a panic during a panic would abort.
        if self.len <= 1 && !std::thread::panicking() {
            self.len = 0;
            if let Some(waker) = self.wakers[0].take() {
                waker.wake();
            }
        } else {
            self.wake_many(refill);
        }
    }

    #[inline(never)]
    fn wake_many(&mut self, mut refill: impl FnMut(&mut Self)) {
        let mut panics = Panics::default();
        loop {
            let was_full = !self.has_room();
            let mut wakers = self.wakers[..self.len].iter_mut().filter_map(Option::take);
            self.len = 0;
            while !panics.catch(|| wakers.by_ref().for_each(Waker::wake)) {}
            if !was_full {
                break;
            }
            refill(self);
        }
        panics.resume();
    }
}
