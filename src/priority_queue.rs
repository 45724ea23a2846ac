//! The public interface of the priority queue: locks its [core], which decides, and acts after unlocking.

mod core;
mod error;
mod future;
mod items;
mod order;
mod unlock;

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

use self::core::{Core, Refusal};
pub use self::error::{Closed, TryPopError, TryPushError};
pub use self::future::{Pop, PopMany, PopOwned, Push, PushOwned};
use self::future::{Popping, Pushing};
use self::unlock::unlock;
use crate::panic::{Guarded, Panics};
use crate::sync::{self, const_fn};
use crate::wait_list::WakeBatch;

type Waiter = crate::arena::Key;

/// A fair async priority queue: the most urgent item first, equals in the order of arrival.
///
/// Greater priorities are more urgent; [`Reverse`](std::cmp::Reverse) turns that round. Both ends are async, each with
/// a form that does not wait. A [bounded](Self::bounded) queue holds pushes back; their items compete from the start.
/// An item in the queue can be [removed](Self::remove) and [re-prioritised](Self::set_priority) by its [`Key`].
///
/// A push costs the logarithm of the number of *distinct* priorities. A pop or a removal costs no comparison, unless
/// pushes wait: it then admits the next parked item. With a fixed set of up to 128 priorities of at most 56 bytes
/// nothing is allocated in the steady state.
///
/// # Fairness
///
/// Items of equal priority leave in the order in which they arrived: in which their `push` was first polled, or their
/// priority last changed. Pops are served in the order in which they were first polled. Nothing barges: an item that a
/// pop has waited for is *reserved*, and [`try_pop`](Self::try_pop) does not see it. A reservation is for the item that
/// is the most urgent when it is collected, so an urgent one that arrives in between leaves first.
///
/// **Starvation.** As long as more urgent items arrive faster than they are popped, the less urgent ones wait, for ever
/// if need be. If they must not, make the priority a [deadline](#recipes).
///
/// # A full queue
///
/// `push` waits for room while its item competes already: if it is the most urgent of all, it is the next to be popped,
/// even before it was admitted; until it is admitted, the item is *parked*. `try_push` fails.
/// [`force_push`](Self::force_push) makes room by evicting the least urgent item, the newest among equals: under
/// overload the urgent is accepted and the rest is shed.
///
/// # Shutting down
///
/// [`close`](Self::close) fails the pushes and gives them their items back; pops get the remaining items and then
/// `None`. [`drain`](Self::drain) takes out the remaining items at once.
///
/// # Panics of `Ord`
///
/// Comparisons run under the lock of the queue and must not use it; the same holds for `Clone` of a priority, in
/// [`priority`](Self::priority) and [`peek_priority`](Self::peek_priority). One that panics leaves the queue as it was,
/// and usable; [`pop_many`](Self::pop_many) keeps the items that it had taken before. No future compares anything when
/// it is dropped. An order that is inconsistent, or that changes while an item is in the queue, makes the order of
/// service inconsistent, and does no other harm.
///
/// When a comparison panics in [`try_push`](Self::try_push) or [`force_push`](Self::force_push), the unwinding drops
/// the priority and the item that were to be pushed: if that panics, too, the process aborts.
///
/// # Memory ordering
///
/// Everything that happened before an item was pushed happens before the end of the pop, removal or drain that returns
/// it. All calls that observe the queue, `len()` and `is_closed()` included, see what happened before every earlier
/// call.
///
/// # Examples
///
/// ```
/// # async fn example() {
/// use stanchion::PriorityQueue;
///
/// let queue = PriorityQueue::bounded(100);
/// queue.push(1, "free").await.unwrap();
/// let key = queue.push(1, "also free").await.unwrap();
/// queue.push(2, "paying").await.unwrap();
/// queue.set_priority(key, 3); // has just paid
/// assert_eq!(queue.pop().await, Some((3, "also free")));
/// assert_eq!(queue.pop().await, Some((2, "paying")));
/// # }
/// # stanchion::blocking::wait(example());
/// ```
///
#[doc = include_str!("priority_queue/recipes.md")]
pub struct PriorityQueue<P, T> {
    core: sync::Mutex<Core<P, T>>,
}

/// A name for one item of one [`PriorityQueue`].
///
/// It carries 64 bits that start at a random point in each queue and count its items. So a key that is used on another
/// queue, or outlives its item, finds nothing, whatever is pushed later.
///
/// # Examples
///
/// ```
/// # stanchion::blocking::wait(async {
/// let queue = stanchion::PriorityQueue::unbounded();
/// let key = queue.push(1, "job").await?;
/// assert!(queue.set_priority(key, 2));
/// assert_eq!(queue.pop().await, Some((2, "job")));
/// assert_eq!(queue.remove(key), None);
/// # Ok::<(), stanchion::Closed<(i32, &str)>>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The slot of the item.
    index: u32,
    id: u64,
}

/// The methods that compare priorities.
impl<P: Ord, T> PriorityQueue<P, T> {
    const_fn! {
        /// Creates a queue that is never full.
        ///
        /// # Examples
        ///
        /// ```
        /// use stanchion::PriorityQueue;
        ///
        /// static JOBS: PriorityQueue<u8, &str> = PriorityQueue::unbounded();
        /// assert_eq!(JOBS.capacity(), None);
        /// ```
        pub const fn unbounded() -> Self {
            Self { core: sync::Mutex::new(Core::new(usize::MAX)) }
        }
    }

    const_fn! {
        /// Creates a queue that admits at most `capacity` items at a time.
        ///
        /// # Panics
        ///
        /// When `capacity` is 0.
        ///
        /// # Examples
        ///
        /// ```
        /// use stanchion::{PriorityQueue, TryPushError};
        ///
        /// let queue = PriorityQueue::bounded(1);
        /// queue.try_push(0, "in").unwrap();
        /// assert!(matches!(queue.try_push(9, "out"), Err(TryPushError::Full((9, "out")))));
        /// ```
        pub const fn bounded(capacity: usize) -> Self {
            assert!(capacity > 0, "a queue without room would never admit an item");
            Self { core: sync::Mutex::new(Core::new(capacity)) }
        }
    }

    /// Pushes an item, and waits for room if the queue is full.
    ///
    /// The item is in the queue from the first poll on: if it is the most urgent of all it is popped even while the
    /// push waits. Then the key is stale by the time it is returned.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops an item that was not admitted yet. [`Push::into_inner`] gives it back instead.
    ///
    /// # Errors
    ///
    /// [`Closed`], with priority and item, when the queue is closed before the item is admitted.
    ///
    /// # Examples
    ///
    /// ```
    /// # async fn example() {
    /// use stanchion::PriorityQueue;
    ///
    /// let queue = PriorityQueue::unbounded();
    /// let key = queue.push(1, "job").await.unwrap();
    /// assert_eq!(queue.remove(key), Some((1, "job")));
    /// # }
    /// # stanchion::blocking::wait(example());
    /// ```
    ///
    /// A push that gives up keeps its item, for a timeout as well as in a `select!`:
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use stanchion::PriorityQueue;
    /// use std::time::Duration;
    ///
    /// let queue = PriorityQueue::bounded(1);
    /// queue.push(1, "in").await.unwrap();
    ///
    /// let mut push = queue.push(1, "order");
    /// let outcome = tokio::time::timeout(Duration::from_millis(5), &mut push).await;
    /// assert!(outcome.is_err());
    /// assert_eq!(push.into_inner(), Some((1, "order")));
    ///
    /// let (mut push, shutdown) = (queue.push(1, "order"), std::future::ready(()));
    /// tokio::select! {
    ///     outcome = &mut push => assert!(outcome.is_ok()),
    ///     () = shutdown => assert_eq!(push.into_inner(), Some((1, "order"))),
    /// }
    /// # }
    /// ```
    pub fn push(&self, priority: P, item: T) -> Push<'_, P, T> {
        Push(Pushing::new(self, priority, item))
    }

    /// Pushes an item like [`push`](Self::push), with a future that owns a handle to the queue.
    ///
    /// # Cancel safety
    ///
    /// As that of `push`.
    ///
    /// # Examples
    ///
    /// ```
    /// # async fn example() {
    /// use stanchion::{PriorityQueue, PushOwned};
    /// use std::sync::Arc;
    ///
    /// let queue = Arc::new(PriorityQueue::unbounded());
    /// let push: PushOwned<u8, &str> = queue.clone().push_owned(1, "job"); // fits into a struct
    /// push.await.unwrap();
    /// assert_eq!(queue.len(), 1);
    /// # }
    /// # stanchion::blocking::wait(example());
    /// ```
    pub fn push_owned(self: Arc<Self>, priority: P, item: T) -> PushOwned<P, T> {
        PushOwned(Pushing::new(self, priority, item))
    }

    /// Pushes an item if there is room now.
    ///
    /// # Errors
    ///
    /// [`TryPushError`], with priority and item, when the queue is full or closed.
    ///
    /// # Panics
    ///
    /// When the queue holds about 2^32 items, parked ones included; so do the other ways to push.
    ///
    /// # Examples
    ///
    /// ```
    /// let queue = stanchion::PriorityQueue::bounded(1);
    /// assert!(queue.try_push(1, "job").is_ok());
    /// assert!(queue.try_push(2, "another").is_err());
    /// ```
    pub fn try_push(&self, priority: P, item: T) -> Result<Key, TryPushError<(P, T)>> {
        let mut core = self.core.lock();
        match core.find_room(&priority) {
            Ok(vacancy) => {
                let key = core.admit(vacancy, (priority, item));
                self.serve(core);
                Ok(key)
            }
            Err(Refusal::Full) => Err(TryPushError::Full((priority, item))),
            Err(Refusal::Closed) => Err(TryPushError::Closed((priority, item))),
        }
    }

    /// Pushes an item without waiting; a full queue evicts its least urgent one, the newest among equals.
    ///
    /// The evicted item may be this one. It is returned beside the key, which is stale then. Parked items, those of
    /// waiting pushes, are not compared, and stay.
    ///
    /// # Errors
    ///
    /// [`Closed`], with priority and item, when the queue is closed.
    ///
    /// # Panics
    ///
    /// As [`try_push`](Self::try_push) does.
    ///
    /// # Examples
    ///
    /// ```
    /// let queue = stanchion::PriorityQueue::bounded(1);
    /// assert_eq!(queue.force_push(1, "free").unwrap().1, None);
    /// assert_eq!(queue.force_push(2, "paying").unwrap().1, Some((1, "free")));
    /// assert_eq!(queue.force_push(2, "too late").unwrap().1, Some((2, "too late")));
    /// ```
    #[expect(clippy::type_complexity, reason = "plain to read, and a name for it would have to be looked up")]
    pub fn force_push(&self, priority: P, item: T) -> Result<(Key, Option<(P, T)>), Closed<(P, T)>> {
        let mut core = self.core.lock();
        match core.find_room(&priority) {
            Ok(vacancy) => {
                let key = core.admit(vacancy, (priority, item));
                self.serve(core);
                Ok((key, None))
            }
            Err(Refusal::Full) => {
                let Some((vacancy, victim)) = core.find_victim(&priority) else {
                    return Ok((core.stale_key(), Some((priority, item))));
                };
                let (key, evicted) = core.replace(vacancy, victim, (priority, item));
                unlock(core);
                Ok((key, Some(evicted)))
            }
            Err(Refusal::Closed) => Err(Closed((priority, item))),
        }
    }

    /// Pops the most urgent item, and waits for one if there is none; `None` once the queue is closed and drained.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future takes no item, and passes a reservation on to the next waiting pop.
    ///
    /// # Examples
    ///
    /// ```
    /// # async fn example() {
    /// use stanchion::PriorityQueue;
    ///
    /// let queue = PriorityQueue::unbounded();
    /// queue.try_push(1, "job").unwrap();
    /// queue.close();
    /// assert_eq!(queue.pop().await, Some((1, "job")));
    /// assert_eq!(queue.pop().await, None);
    /// # }
    /// # stanchion::blocking::wait(example());
    /// ```
    pub fn pop(&self) -> Pop<'_, P, T> {
        Pop(Popping::new(self))
    }

    /// Pops the most urgent item like [`pop`](Self::pop), with a future that owns a handle to the queue.
    ///
    /// # Cancel safety
    ///
    /// As that of `pop`.
    ///
    /// # Examples
    ///
    /// ```
    /// # async fn example() {
    /// use stanchion::{PopOwned, PriorityQueue};
    /// use std::sync::Arc;
    ///
    /// let queue = Arc::new(PriorityQueue::unbounded());
    /// let pop: PopOwned<u8, &str> = queue.clone().pop_owned(); // fits into a struct
    /// queue.try_push(1, "job").unwrap();
    /// assert_eq!(pop.await, Some((1, "job")));
    /// # }
    /// # stanchion::blocking::wait(example());
    /// ```
    pub fn pop_owned(self: Arc<Self>) -> PopOwned<P, T> {
        PopOwned(Popping::new(self))
    }

    /// Pops at least one item and at most `limit`, most urgent first, to the end of `into`; returns their number.
    ///
    /// It waits as [`pop`](Self::pop) does, for one item, and takes along the items that no other pop has waited for,
    /// all in one locking. 0 means that the queue is closed and drained, or that `limit` is 0.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future takes no item, and passes a reservation on to the next waiting pop.
    ///
    /// # Panics
    ///
    /// When a comparison does; the items that had been taken by then are in `into`.
    ///
    /// # Examples
    ///
    /// ```
    /// # async fn example() {
    /// use stanchion::PriorityQueue;
    ///
    /// let queue = PriorityQueue::unbounded();
    /// (0..5).for_each(|job| drop(queue.try_push(job, ())));
    /// let mut jobs = Vec::new();
    /// assert_eq!(queue.pop_many(&mut jobs, 3).await, 3);
    /// assert_eq!(jobs, [(4, ()), (3, ()), (2, ())]);
    /// # }
    /// # stanchion::blocking::wait(example());
    /// ```
    pub fn pop_many<'a>(&'a self, into: &'a mut Vec<(P, T)>, limit: usize) -> PopMany<'a, P, T> {
        PopMany { popping: Popping::new(self), into, limit }
    }

    /// Pops the most urgent item, unless all are reserved for pops that waited.
    ///
    /// # Errors
    ///
    /// [`TryPopError::Closed`] once the queue is closed and drained, else [`TryPopError::Empty`].
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::{PriorityQueue, TryPopError};
    ///
    /// let queue = PriorityQueue::unbounded();
    /// queue.try_push(1, "job").unwrap();
    /// assert_eq!(queue.try_pop(), Ok((1, "job")));
    /// assert_eq!(queue.try_pop(), Err(TryPopError::Empty));
    /// ```
    pub fn try_pop(&self) -> Result<(P, T), TryPopError> {
        let mut core = self.core.lock();
        if let Some(popped) = core.pop_alone() {
            unlock(core);
            return Ok(popped);
        }
        if !core.has_unreserved() {
            return Err(if core.is_drained() { TryPopError::Closed } else { TryPopError::Empty });
        }
        let plan = core.plan_pop();
        Ok(self.take(core, plan))
    }

    /// Removes the item that `key` names and returns it; `None` if it has left already.
    ///
    /// If the item was reserved for a waiting pop and no other is left for it, the pop that was granted last waits
    /// again, at the head of the queue.
    ///
    /// # Examples
    ///
    /// ```
    /// let queue = stanchion::PriorityQueue::unbounded();
    /// let key = queue.try_push(1, "job").unwrap();
    /// assert_eq!(queue.remove(key), Some((1, "job")));
    /// assert_eq!(queue.remove(key), None);
    /// ```
    pub fn remove(&self, key: Key) -> Option<(P, T)> {
        let core = self.core.lock();
        let plan = core.plan_removal(core.resolve(key)?);
        Some(self.take(core, plan))
    }

    /// Gives the item that `key` names another priority; `false` if it has left already.
    ///
    /// The item goes behind those of its new priority, as if it had arrived just now. An equal priority changes
    /// nothing: the item keeps its place and the priority that it had.
    ///
    /// # Examples
    ///
    /// ```
    /// let queue = stanchion::PriorityQueue::unbounded();
    /// let key = queue.try_push(1, "a").unwrap();
    /// queue.try_push(2, "b").unwrap();
    /// assert!(queue.set_priority(key, 3));
    /// assert_eq!(queue.try_pop(), Ok((3, "a")));
    /// ```
    pub fn set_priority(&self, key: Key, priority: P) -> bool {
        // The priority that is not needed is dropped after unlocking.
        let mut priority = Guarded(Some(priority));
        let mut core = self.core.lock();
        let item = core.resolve(key);
        item.map(|item| core.set_priority(item, &mut priority.0)).is_some()
    }

    /// Returns the priority of the item that `key` names; `None` if it has left already.
    ///
    /// # Examples
    ///
    /// ```
    /// let queue = stanchion::PriorityQueue::unbounded();
    /// let key = queue.try_push(1, "job").unwrap();
    /// assert_eq!(queue.priority(key), Some(1));
    /// ```
    pub fn priority(&self, key: Key) -> Option<P>
    where
        P: Clone,
    {
        let core = self.core.lock();
        core.resolve(key).map(|item| core.priority(item).clone())
    }

    /// Returns the priority of the item that a pop would take now; `None` if there is none.
    ///
    /// Parked items, those of waiting pushes, are looked at, too: a pop may take one of those.
    ///
    /// # Examples
    ///
    /// ```
    /// let queue = stanchion::PriorityQueue::unbounded();
    /// queue.try_push(1, "a").unwrap();
    /// queue.try_push(2, "b").unwrap();
    /// assert_eq!(queue.peek_priority(), Some(2));
    /// ```
    pub fn peek_priority(&self) -> Option<P>
    where
        P: Clone,
    {
        self.core.lock().most_urgent().map(|(priority, _)| priority.clone())
    }

    /// Keeps the admitted items for which `keep` returns `true`; returns the others, most urgent first.
    ///
    /// Reserved items are among them. Parked items, those of waiting pushes, are not asked about; they are admitted to
    /// the room that this makes. O(n), under the lock: `keep` must not use the queue.
    ///
    /// # Panics
    ///
    /// When `keep` does. Nothing has changed then.
    ///
    /// # Examples
    ///
    /// ```
    /// let queue = stanchion::PriorityQueue::unbounded();
    /// (0..5).for_each(|job| drop(queue.try_push(job, ())));
    /// assert_eq!(queue.retain(|job, _| job % 2 == 0), [(3, ()), (1, ())]);
    /// assert_eq!(queue.len(), 3);
    /// ```
    pub fn retain(&self, keep: impl FnMut(&P, &T) -> bool) -> Vec<(P, T)> {
        let mut keep = Guarded(Some(keep));
        let mut batch = WakeBatch::default();
        let mut core = self.core.lock();
        let removed = core.retain(keep.0.as_mut().expect("the predicate is in hand until the end"), &mut batch);
        unlock(core);
        let panics = Panics::of_drops([keep]);
        // As in `take`.
        self.wake(None, &mut batch).discard();
        panics.resume_or(removed)
    }

    /// Removes all admitted items and returns them, most urgent first, the reserved ones included.
    ///
    /// Parked items, those of waiting pushes, are admitted then, as many as there is room for. O(n), under the lock.
    ///
    /// # Examples
    ///
    /// ```
    /// let queue = stanchion::PriorityQueue::unbounded();
    /// (0..3).for_each(|job| drop(queue.try_push(job, ())));
    /// assert_eq!(queue.drain(), [(2, ()), (1, ()), (0, ())]);
    /// ```
    pub fn drain(&self) -> Vec<(P, T)> {
        self.retain(|_, _| false)
    }
}

impl<P, T> PriorityQueue<P, T> {
    /// Visits the admitted items, most urgent first.
    ///
    /// O(n), under the lock: `visit` must not use the queue.
    ///
    /// # Panics
    ///
    /// When `visit` does.
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::PriorityQueue;
    ///
    /// let queue = PriorityQueue::unbounded();
    /// (0..3).for_each(|job| drop(queue.try_push(job, ())));
    /// let mut jobs = Vec::new();
    /// queue.for_each(|_, &job, _| jobs.push(job));
    /// assert_eq!(jobs, [2, 1, 0]);
    /// ```
    pub fn for_each(&self, visit: impl FnMut(Key, &P, &T)) {
        let mut visit = Guarded(Some(visit));
        let visit = visit.0.as_mut().expect("the visitor is in hand until the end");
        self.core.lock().iter().for_each(|(key, priority, item)| visit(key, priority, item));
    }

    /// Returns the number of admitted items; parked ones, those of waiting pushes, are not among them.
    ///
    /// # Examples
    ///
    /// ```
    /// let queue = stanchion::PriorityQueue::unbounded();
    /// queue.try_push(1, "job").unwrap();
    /// assert_eq!(queue.len(), 1);
    /// ```
    pub fn len(&self) -> usize {
        self.core.lock().len()
    }

    /// Returns `true` if no item is admitted.
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(stanchion::PriorityQueue::<u8, ()>::unbounded().is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the maximum number of admitted items; `None` if there is no limit.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(stanchion::PriorityQueue::<u8, ()>::bounded(7).capacity(), Some(7));
    /// ```
    pub fn capacity(&self) -> Option<usize> {
        Some(self.core.lock().capacity).filter(|&capacity| capacity < usize::MAX)
    }

    /// Returns the number of waiting pops: polled, and without a reservation.
    ///
    /// # Examples
    ///
    /// ```
    /// # async fn example() {
    /// let queue = stanchion::PriorityQueue::<u8, ()>::unbounded();
    /// let mut pop = queue.pop();
    /// assert!(futures::poll!(&mut pop).is_pending());
    /// assert_eq!(queue.waiting_pops(), 1);
    /// # }
    /// # stanchion::blocking::wait(example());
    /// ```
    pub fn waiting_pops(&self) -> usize {
        self.core.lock().waiting_pops()
    }

    /// Returns the number of pushes that wait for room.
    ///
    /// # Examples
    ///
    /// ```
    /// # async fn example() {
    /// let queue = stanchion::PriorityQueue::bounded(1);
    /// queue.try_push(1, "in").unwrap();
    /// let mut push = queue.push(1, "parked");
    /// assert!(futures::poll!(&mut push).is_pending());
    /// assert_eq!(queue.waiting_pushes(), 1);
    /// # }
    /// # stanchion::blocking::wait(example());
    /// ```
    pub fn waiting_pushes(&self) -> usize {
        self.core.lock().waiting_pushes()
    }

    /// Closes the queue: no further item is admitted, and the admitted ones can still be popped.
    ///
    /// Waiting pushes fail and get their items back. Pops get the remaining items, and `None` when there are none.
    /// Takes time in proportion to the waiting pushes and pops.
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::{PriorityQueue, TryPushError};
    ///
    /// let queue = PriorityQueue::unbounded();
    /// queue.try_push(1, "in time").unwrap();
    /// queue.close();
    /// assert!(matches!(queue.try_push(2, "late"), Err(TryPushError::Closed((2, "late")))));
    /// assert_eq!(queue.try_pop(), Ok((1, "in time")));
    /// ```
    pub fn close(&self) {
        let mut batch = WakeBatch::default();
        self.core.lock().close(&mut batch);
        self.wake(None, &mut batch).resume();
    }

    /// Returns `true` if the queue was closed.
    ///
    /// # Examples
    ///
    /// ```
    /// let queue = stanchion::PriorityQueue::<u8, ()>::unbounded();
    /// queue.close();
    /// assert!(queue.is_closed());
    /// ```
    pub fn is_closed(&self) -> bool {
        self.core.lock().is_closed()
    }
}

impl<P: Ord, T> Default for PriorityQueue<P, T> {
    /// Creates a queue that is never full.
    fn default() -> Self {
        Self::unbounded()
    }
}

impl<P, T> fmt::Debug for PriorityQueue<P, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("PriorityQueue");
        // Formatting must not block, and the formatter is user code, which must not run under the lock.
        let seen = self
            .core
            .try_lock()
            .map(|core| (core.capacity, core.len(), core.waiting_pops(), core.waiting_pushes(), core.is_closed()));
        let Some((capacity, len, pops, pushes, closed)) = seen else { return debug.finish_non_exhaustive() };
        debug
            .field("capacity", &Some(capacity).filter(|&capacity| capacity < usize::MAX))
            .field("len", &len)
            .field("waiting_pops", &pops)
            .field("waiting_pushes", &pushes)
            .field("closed", &closed)
            .finish()
    }
}

// No user code runs while the state is inconsistent, so a panic cannot be observed in it.
impl<P, T> UnwindSafe for PriorityQueue<P, T> {}
impl<P, T> RefUnwindSafe for PriorityQueue<P, T> {}
