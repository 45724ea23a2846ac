//! A priority queue with both ends async: the most urgent leaves first, equals in the order of their arrival.
//!
//! **Items** live in an arena and stand in a [line], in the order of their priority and arrival. There are two lines:
//! the *admitted* items, at most as many as the capacity, and the *parked* ones, whose pushes wait for room. Whoever pops
//! takes the most urgent of both.
//!
//! | an item is | its `push` is | it is in | comes next |
//! |---|---|---|---|
//! | admitted | none | `admitted` | popped, removed, forced out, drained |
//! | parked | the waiter of its push | `parked` | admitted or popped (its push completes); taken out by its push: dropped, or failed by `close` |
//!
//! **Reservations.** A waiting pop is granted no item but the right to one. It takes the most urgent item at the moment
//! it runs, so an item that becomes urgent in the meantime is not overtaken. A reservation is for no particular item; that
//! is why a pop without one succeeds only while there are more items than reservations, and why reservations are
//! revoked, the newest first, when items are taken away from under them. Parked items count: they can be popped.
//!
//! **Who wakes whom.** Whatever changes the number of items ends in `settle`, unless there is no pop to serve:
//! more items than reservations serve the longest waiting pops, fewer put the newest reserved ones back at the front. A
//! dropped pop settles too, since its reservation is free again. Whatever makes room admits the most urgent parked item,
//! whose push it thereby completes. All are woken after the lock is released.
//!
//! Invariants, whenever the lock is free: reservations <= items, admitted and parked; admitted items <= capacity; if a pop
//! waits, every item is reserved; if a push waits, the queue is full; once it is closed no push waits, and no pop once it
//! is empty as well.
//!
//! **Comparisons are foreign code.** `Ord` is asked when an item takes its place in a line, which includes a parked item
//! that is admitted, and when the heads of both lines are compared. All that is done, in a `Plan`, before
//! anything is changed; so a panic leaves everything as it was. Dropping a future compares nothing.

mod line;
mod owned;

use std::cmp::Ordering;
use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use self::line::{Item, Line, Place};
pub(crate) use self::owned::{PopOwned, PushOwned};
use crate::arena::{self, Arena, List};
use crate::panic::Panics;
use crate::sync::{self, MutexGuard, const_fn};
use crate::wait_list::{NeedsClone, TaskWaker, WaitList, WakeBatch};

/// Serves the most urgent first, and equals in the order of their arrival.
///
/// Greater priorities are more urgent; [`Reverse`](std::cmp::Reverse) turns that round. Both ends are async, each with
/// a form that does not wait. A [bounded](Self::bounded) queue holds back those who push; what they push competes from
/// the start. An item that waits can be [removed](Self::remove) and [re-prioritised](Self::set_priority) by its [`Key`].
///
/// The cost of a push grows with the logarithm of the number of *distinct* priorities; that of a pop does not, unless
/// pushes wait: then it finds a place for one of them, too, between equals that were forced in or re-prioritised while it
/// waited. With a fixed set of up to 128 priorities nothing is allocated in the steady state, whoever waits.
///
/// # Fairness
///
/// Items of equal priority leave in the order in which they arrived: in which their `push` was first polled, or their
/// priority was last set. Those who pop are served in the order in which they were first polled. Nobody barges: an item
/// that somebody has waited for is reserved, and [`try_pop`](Self::try_pop) does not see it. The reservation is for the
/// most urgent item at the moment it is collected, so something urgent that arrives in between leaves first.
///
/// **Starvation.** As long as something more urgent arrives faster than it is popped, the less urgent wait, for ever if
/// need be. If they must not, make the priority a *deadline*: what waits becomes the most urgent in the end, because only
/// what is due sooner can overtake it, and of that there is only so much.
///
/// ```
/// use stanchion::{PriorityQueue, blocking};
/// use std::cmp::Reverse;
/// use std::time::{Duration, Instant};
///
/// let queue = PriorityQueue::unbounded(); // the earliest deadline leaves first
/// let now = Instant::now();
/// let (urgent, patient) = (Duration::from_millis(10), Duration::from_millis(500));
/// queue.try_push(Reverse(now + patient), "report").unwrap();
/// for second in 0..10 {
///     // Urgent work arrives without end ...
///     queue.try_push(Reverse(now + Duration::from_secs(second) + urgent), "health check").unwrap();
/// }
/// // ... but only the one that is due before the report comes before it.
/// let served: Vec<_> = (0..2).map(|_| blocking::wait(queue.pop()).unwrap().1).collect();
/// assert_eq!(served, ["health check", "report"]);
/// ```
///
/// # A full queue
///
/// `push` waits for room, with its item already in the race: if it is the most urgent of all, it is the next to be
/// popped, before it was ever admitted. `try_push` fails. [`force_push`](Self::force_push) makes room by throwing out the
/// least urgent item, the newest among equals: under overload the urgent is accepted and the rest is shed.
///
/// # Shutting down
///
/// [`close`](Self::close) fails those who push and gives them their items back; those who pop get what is left and then
/// `None`. [`drain`](Self::drain) takes out what is left at once.
///
/// # Panics of `Ord`
///
/// Comparisons run under the lock of the queue and must not use it. One that panics leaves the queue as it was, and
/// usable. An order that is not one, or that changes while an item waits, makes for an order of service that is not one,
/// and for nothing worse.
///
/// # Memory ordering
///
/// What happened before an item was pushed happens before the end of the pop, removal or drain that gets it.
///
/// # Examples
///
/// ```
/// use stanchion::{PriorityQueue, blocking};
///
/// let queue = PriorityQueue::bounded(100);
/// queue.try_push(1, "free").unwrap();
/// let key = queue.try_push(1, "also free").unwrap();
/// queue.try_push(2, "paying").unwrap();
/// queue.set_priority(key, 3); // has just paid
/// queue.close();
///
/// let mut served = Vec::new();
/// while let Some((_, who)) = blocking::wait(queue.pop()) {
///     served.push(who);
/// }
/// assert_eq!(served, ["also free", "paying", "free"]);
/// ```
pub struct PriorityQueue<P, T> {
    capacity: usize,
    state: sync::Mutex<State<P, T>>,
}

/// A name for one item of one [`PriorityQueue`].
///
/// It carries 64 bits that start at a random point in each queue and count its items. So a key whose item has left, or
/// that is used on another queue, finds nothing, whatever is pushed later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The slot of the item.
    index: u32,
    id: u64,
}

struct State<P, T> {
    items: Arena<Item<P, T>>,
    admitted: Line<P>,
    /// When the queue is closed, what is left in here belongs to the pushes that have failed.
    parked: Line<P>,
    arrivals: u64,
    /// The id of an item is the number of its first arrival, counted on from here. Drawn at the first arrival.
    first_id: u64,
    /// Each needs an item and is granted its entry in `reservations`.
    pops: WaitList<(), arena::Key>,
    /// The waiters in `pops` that have a reservation, the oldest first.
    reservations: Arena<arena::Key>,
    reserved: List,
    /// Each needs room for its item, and is granted the item's key once that is admitted or popped.
    pushes: WaitList<arena::Key, Key>,
    closed: bool,
}

/// What a removal is going to change, found out beforehand.
struct Plan {
    item: arena::Key,
    /// The parked item that gets the room, and its place among the admitted.
    next: Option<(arena::Key, Place)>,
}

/// A future of [`PriorityQueue::push`].
///
/// # Cancel safety
///
/// Dropping it takes out an item that was not admitted yet; one that was stays in the queue. Before the first poll there
/// is nothing to take out.
///
/// # Panics
///
/// When it is polled after it was ready.
#[must_use = "futures do nothing unless polled"]
pub struct Push<'a, P, T> {
    queue: &'a PriorityQueue<P, T>,
    /// `Some` until it is admitted, parked or given back.
    offer: Option<(P, T)>,
    /// The waiter and the item, while it is parked or its completion has not been collected.
    parked: Option<(arena::Key, arena::Key)>,
}

/// A future of [`PriorityQueue::pop`].
///
/// # Cancel safety
///
/// Dropping it gives up the place in the line and takes no item; a reservation goes to the next in line. Forgetting it,
/// or keeping it without polling it on, may hold an item back.
///
/// # Panics
///
/// When it is polled after it was ready.
#[must_use = "futures do nothing unless polled"]
pub struct Pop<'a, P, T>(Popping<'a, P, T>);

/// A future of [`PriorityQueue::pop_many`].
///
/// # Cancel safety
///
/// As with [`Pop`]: until it is ready nothing is in the `Vec` that was not there before.
///
/// # Panics
///
/// When it is polled after it was ready.
#[must_use = "futures do nothing unless polled"]
pub struct PopMany<'a, P, T> {
    popping: Popping<'a, P, T>,
    into: &'a mut Vec<(P, T)>,
    limit: usize,
}

struct Popping<'a, P, T> {
    queue: &'a PriorityQueue<P, T>,
    /// `Some` while it waits or has a reservation.
    waiter: Option<arena::Key>,
    done: bool,
}

/// The queue is closed; here is what was to be pushed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Closed<T>(pub T);

/// Why a `try_push` failed; here is what was to be pushed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum TryPushError<T> {
    /// The queue is full.
    Full(T),
    /// The queue is closed.
    Closed(T),
}

/// Why a `try_pop` got nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryPopError {
    /// There is no item that is not reserved for a pop that waited for it.
    Empty,
    /// The queue is closed and drained.
    Closed,
}

/// What ordering the items needs.
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
            Self::new(usize::MAX)
        }
    }

    const_fn! {
        /// Creates a queue that admits this many items; whoever pushes more waits.
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
            Self::new(capacity)
        }
    }

    const_fn! {
        const fn new(capacity: usize) -> Self {
            Self { capacity, state: sync::Mutex::new(State::new()) }
        }
    }

    /// Pushes an item, waiting for room if need be.
    ///
    /// The item is in the queue from the first poll on: if it is the most urgent of all it is popped even while this
    /// waits. Then the key is stale by the time it is returned.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future takes the item out if it was not admitted yet.
    ///
    /// # Errors
    ///
    /// [`Closed`], with priority and item, when the queue is closed before the item is admitted.
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::{PriorityQueue, blocking};
    ///
    /// let queue = PriorityQueue::unbounded();
    /// let key = blocking::wait(queue.push(1, "job")).unwrap();
    /// assert_eq!(queue.remove(key), Some((1, "job")));
    /// ```
    pub fn push(&self, priority: P, item: T) -> Push<'_, P, T> {
        Push { queue: self, offer: Some((priority, item)), parked: None }
    }

    /// Pushes an item if there is room now.
    ///
    /// # Errors
    ///
    /// [`TryPushError`], with priority and item, when the queue is full or closed.
    ///
    /// # Panics
    ///
    /// When the queue holds 2^32 - 1 items already, parked ones included, as all ways to push do.
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::PriorityQueue;
    ///
    /// let queue = PriorityQueue::bounded(1);
    /// assert!(queue.try_push(1, "job").is_ok());
    /// assert!(queue.try_push(2, "another").is_err());
    /// ```
    pub fn try_push(&self, priority: P, item: T) -> Result<Key, TryPushError<(P, T)>> {
        let mut offer = Some((priority, item));
        let outcome = self.admit(&mut offer);
        outcome.map_err(|refusal| {
            let offer = refused(&mut offer);
            match refusal {
                Refusal::Full => TryPushError::Full(offer),
                Refusal::Closed => TryPushError::Closed(offer),
            }
        })
    }

    /// Pushes an item without waiting; a full queue gives up its least urgent one, the newest among equals, for it.
    ///
    /// The one given up may be this one. It is returned beside the key, which is stale then. Items whose pushes wait are
    /// not in the comparison; they stay where they are.
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
    /// use stanchion::PriorityQueue;
    ///
    /// let queue = PriorityQueue::bounded(1);
    /// assert_eq!(queue.force_push(1, "free").unwrap().1, None);
    /// assert_eq!(queue.force_push(2, "paying").unwrap().1, Some((1, "free")));
    /// assert_eq!(queue.force_push(2, "too late").unwrap().1, Some((2, "too late")));
    /// ```
    #[allow(clippy::type_complexity)] // plain to read, and a name for it would only have to be looked up
    pub fn force_push(&self, priority: P, item: T) -> Result<(Key, Option<(P, T)>), Closed<(P, T)>> {
        let mut offer = Some((priority, item));
        let mut state = self.state.lock();
        match state.admit(&mut offer, self.capacity) {
            Ok(key) => {
                self.serve(state);
                Ok((key, None))
            }
            Err(Refusal::Full) => Ok(state.replace(&mut offer)),
            Err(Refusal::Closed) => Err(Closed(refused(&mut offer))),
        }
    }

    /// Takes the most urgent item, waiting for one if need be; `None` once the queue is closed and drained.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future takes no item, and passes a reservation on to the next in line.
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::{PriorityQueue, blocking};
    ///
    /// let queue = PriorityQueue::unbounded();
    /// queue.try_push(1, "job").unwrap();
    /// queue.close();
    /// assert_eq!(blocking::wait(queue.pop()), Some((1, "job")));
    /// assert_eq!(blocking::wait(queue.pop()), None);
    /// ```
    pub fn pop(&self) -> Pop<'_, P, T> {
        Pop(Popping::new(self))
    }

    /// Moves at least one item, and at most `limit`, to the end of `into`, most urgent first; says how many.
    ///
    /// It waits as [`pop`](Self::pop) does, for one item, and takes along what nobody else has waited for. 0 means that
    /// the queue is closed and drained, or that `limit` is 0.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future takes no item, and passes a reservation on to the next in line.
    ///
    /// # Panics
    ///
    /// When a comparison does; what had been taken by then is in `into`.
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::{PriorityQueue, blocking};
    ///
    /// let queue = PriorityQueue::unbounded();
    /// (0..5).for_each(|job| drop(queue.try_push(job, ())));
    /// let mut jobs = Vec::new();
    /// assert_eq!(blocking::wait(queue.pop_many(&mut jobs, 3)), 3);
    /// assert_eq!(jobs, [(4, ()), (3, ()), (2, ())]);
    /// ```
    pub fn pop_many<'a>(&'a self, into: &'a mut Vec<(P, T)>, limit: usize) -> PopMany<'a, P, T> {
        PopMany { popping: Popping::new(self), into, limit }
    }

    /// Takes the most urgent item, unless all are reserved for those who waited.
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
        let mut state = self.state.lock();
        if let Some(popped) = state.pop_alone() {
            return Ok(popped);
        }
        if state.unreserved() == 0 {
            return Err(if state.is_over() { TryPopError::Closed } else { TryPopError::Empty });
        }
        let plan = state.plan_pop();
        Ok(self.take(state, plan))
    }

    /// Takes the item out that `key` names; `None` if it has left already.
    ///
    /// If that leaves fewer items than reservations, the newest reserved pop is first in line again.
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::PriorityQueue;
    ///
    /// let queue = PriorityQueue::unbounded();
    /// let key = queue.try_push(1, "job").unwrap();
    /// assert_eq!(queue.remove(key), Some((1, "job")));
    /// assert_eq!(queue.remove(key), None);
    /// ```
    pub fn remove(&self, key: Key) -> Option<(P, T)> {
        let state = self.state.lock();
        let plan = state.plan(state.resolve(key)?)?;
        Some(self.take(state, plan))
    }

    /// Gives the item that `key` names another priority; `false` if it has left already.
    ///
    /// It goes behind those that have that priority, as if it had arrived just now; also if the priority is the same.
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::PriorityQueue;
    ///
    /// let queue = PriorityQueue::unbounded();
    /// let key = queue.try_push(1, "a").unwrap();
    /// queue.try_push(2, "b").unwrap();
    /// assert!(queue.set_priority(key, 3));
    /// assert_eq!(queue.try_pop(), Ok((3, "a")));
    /// ```
    pub fn set_priority(&self, key: Key, priority: P) -> bool {
        // Dropped after the lock: the new priority if nobody wants it, or the old one.
        let mut priority = Some(priority);
        let mut state = self.state.lock();
        let item = state.resolve(key);
        item.is_some_and(|item| state.set_priority(item, &mut priority))
    }

    /// Returns the priority of the item that `key` names; `None` if it has left already.
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::PriorityQueue;
    ///
    /// let queue = PriorityQueue::unbounded();
    /// let key = queue.try_push(1, "job").unwrap();
    /// assert_eq!(queue.priority(key), Some(1));
    /// queue.set_priority(key, 2);
    /// assert_eq!(queue.priority(key), Some(2));
    /// ```
    pub fn priority(&self, key: Key) -> Option<P>
    where
        P: Clone,
    {
        let state = self.state.lock();
        let item = state.resolve(key)?;
        Some(state.admitted.priority(&state.items, item).clone())
    }

    /// Returns the priority of the item that a pop would take now; `None` if there is none.
    ///
    /// Items whose pushes wait are looked at, too: a pop may take one of those.
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::PriorityQueue;
    ///
    /// let queue = PriorityQueue::unbounded();
    /// queue.try_push(1, "a").unwrap();
    /// queue.try_push(2, "b").unwrap();
    /// assert_eq!(queue.peek_priority(), Some(2));
    /// ```
    pub fn peek_priority(&self) -> Option<P>
    where
        P: Clone,
    {
        self.state.lock().most_urgent().map(|(priority, _)| priority.clone())
    }

    /// Takes out all admitted items, most urgent first, the reserved ones included.
    ///
    /// Those whose pushes wait are admitted then, as many as there is room for.
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::PriorityQueue;
    ///
    /// let queue = PriorityQueue::unbounded();
    /// queue.try_push(1, "a").unwrap();
    /// queue.try_push(2, "b").unwrap();
    /// assert_eq!(queue.drain(), [(2, "b"), (1, "a")]);
    /// ```
    pub fn drain(&self) -> Vec<(P, T)> {
        let mut batch = WakeBatch::default();
        let drained = self.state.lock().drain(self.capacity, &mut batch);
        // As in `take`.
        self.wake(None, &mut batch).discard();
        drained
    }
}

impl<P, T> PriorityQueue<P, T> {
    /// How many items are admitted; those whose pushes wait are not among them.
    ///
    /// # Examples
    ///
    /// ```
    /// let queue = stanchion::PriorityQueue::unbounded();
    /// queue.try_push(1, "job").unwrap();
    /// assert_eq!(queue.len(), 1);
    /// ```
    pub fn len(&self) -> usize {
        self.state.lock().admitted.len()
    }

    /// Whether no item is admitted.
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(stanchion::PriorityQueue::<u8, ()>::unbounded().is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many items are admitted at most; `None` if there is no limit.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(stanchion::PriorityQueue::<u8, ()>::bounded(7).capacity(), Some(7));
    /// ```
    pub fn capacity(&self) -> Option<usize> {
        Some(self.capacity).filter(|&capacity| capacity < usize::MAX)
    }

    /// How many pops wait: polled, and without a reservation.
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::PriorityQueue;
    /// use std::task::{Context, Waker};
    ///
    /// let queue = PriorityQueue::<u8, ()>::unbounded();
    /// let mut pop = std::pin::pin!(queue.pop());
    /// assert!(pop.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    /// assert_eq!(queue.waiting_pops(), 1);
    /// ```
    pub fn waiting_pops(&self) -> usize {
        self.state.lock().pops.len()
    }

    /// How many pushes wait for room.
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::PriorityQueue;
    /// use std::task::{Context, Waker};
    ///
    /// let queue = PriorityQueue::bounded(1);
    /// queue.try_push(1, "in").unwrap();
    /// let mut push = std::pin::pin!(queue.push(1, "parked"));
    /// assert!(push.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    /// assert_eq!(queue.waiting_pushes(), 1);
    /// ```
    pub fn waiting_pushes(&self) -> usize {
        self.state.lock().pushes.len()
    }

    /// Closes the queue: no item is admitted any more, and what is admitted can still be taken.
    ///
    /// Pushes that wait fail and get their items back. Pops get what is left, and `None` when nothing is.
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
        self.state.lock().close(&mut batch);
        self.wake(None, &mut batch).resume();
    }

    /// Whether the queue was closed.
    ///
    /// # Examples
    ///
    /// ```
    /// let queue = stanchion::PriorityQueue::<u8, ()>::unbounded();
    /// queue.close();
    /// assert!(queue.is_closed());
    /// ```
    pub fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    #[inline(always)]
    fn admit(&self, offer: &mut Option<(P, T)>) -> Result<Key, Refusal>
    where
        P: Ord,
    {
        let mut state = self.state.lock();
        let key = state.admit(offer, self.capacity)?;
        if !state.pops.is_empty() {
            self.serve(state);
        }
        Ok(key)
    }

    /// Serves those who wait for an item that has come.
    #[inline(never)]
    fn serve(&self, mut state: MutexGuard<'_, State<P, T>>) {
        let mut batch = WakeBatch::default();
        state.settle(&mut batch);
        drop(state);
        self.wake(None, &mut batch).resume();
    }

    /// Removes an item as planned.
    #[inline(never)]
    fn take(&self, mut state: MutexGuard<'_, State<P, T>>, plan: Plan) -> (P, T) {
        let mut batch = WakeBatch::default();
        let taken = state.take(plan, &mut batch);
        drop(state);
        // A panic of somebody's waker is not passed on: what was taken would be lost with it.
        self.wake(None, &mut batch).discard();
        taken
    }

    /// A push is dropped: takes its item out if that is still parked.
    #[inline(never)]
    fn abandon(&self, waiter: arena::Key, item: arena::Key) {
        let mut batch = WakeBatch::default();
        let (left, taken) = {
            let mut state = self.state.lock();
            let left = state.pushes.remove(waiter);
            let parked = left.as_ref().is_some_and(|left| left.grant.is_none());
            let taken = parked.then(|| state.extract(item));
            // A pop may have a reservation for it.
            state.settle(&mut batch);
            (left, taken)
        };
        let mut panics = Panics::of_drops(left);
        panics.catch(|| drop(taken));
        panics.catch(|| self.wake(None, &mut batch).resume());
        panics.resume();
    }

    /// A pop is dropped: passes its reservation on, if it has one.
    #[inline(never)]
    fn pass_on(&self, waiter: arena::Key) {
        let mut batch = WakeBatch::default();
        let left = {
            let mut state = self.state.lock();
            let left = state.leave(waiter);
            state.settle(&mut batch);
            left
        };
        self.wake(left, &mut batch).resume();
    }

    /// Drops wakers that nobody has a use for, then wakes those who were served: the last thing to do, without the lock,
    /// since wakers may do anything. If some panic, the others are woken all the same.
    #[inline(always)]
    fn wake(&self, spare: Option<Waker>, batch: &mut WakeBatch) -> Panics {
        let mut panics = Panics::of_drops(spare);
        if !batch.is_empty() {
            panics.catch(|| batch.wake(|batch| self.state.lock().take_wakers(batch)));
        }
        panics
    }
}

impl<P: Ord, T> Future for Push<'_, P, T> {
    type Output = Result<Key, Closed<(P, T)>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if this.parked.is_none() {
            assert!(this.offer.is_some(), "a future is not polled after it was ready");
            match this.queue.admit(&mut this.offer) {
                Ok(key) => return Poll::Ready(Ok(key)),
                Err(Refusal::Closed) => return Poll::Ready(Err(Closed(refused(&mut this.offer)))),
                Err(Refusal::Full) => {}
            }
        }
        this.wait(cx)
    }
}

impl<P: Ord, T> Push<'_, P, T> {
    #[inline(never)]
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Result<Key, Closed<(P, T)>>> {
        let mut batch = WakeBatch::default();
        let waker = if self.parked.is_none() { TaskWaker::cloned(cx.waker()) } else { TaskWaker::new(cx.waker()) };
        let outcome = waker.poll_with(|waker| self.attempt(waker, &mut batch));
        let panics = self.queue.wake(None, &mut batch);
        // As in `take`, if the item is given back.
        if matches!(outcome, Poll::Ready(Err(_))) {
            panics.discard();
        } else {
            panics.resume();
        }
        outcome
    }

    #[allow(clippy::type_complexity)]
    fn attempt(
        &mut self,
        waker: &mut TaskWaker<'_>,
        batch: &mut WakeBatch,
    ) -> Result<Poll<Result<Key, Closed<(P, T)>>>, NeedsClone> {
        let mut state = self.queue.state.lock();
        let Some((waiter, item)) = self.parked else {
            return Ok(match state.admit(&mut self.offer, self.queue.capacity) {
                Ok(key) => {
                    state.settle(batch);
                    Poll::Ready(Ok(key))
                }
                Err(Refusal::Closed) => Poll::Ready(Err(Closed(refused(&mut self.offer)))),
                Err(Refusal::Full) => {
                    self.parked = Some(state.park(&mut self.offer, waker)?);
                    // A pop that waits is entitled to what has parked.
                    state.settle(batch);
                    Poll::Pending
                }
            });
        };
        Ok(state.pushes.poll(waiter, waker)?.map(|removed| {
            self.parked = None;
            match removed.grant {
                Some(key) => Ok(key),
                None => Err(Closed(state.extract(item))),
            }
        }))
    }
}

impl<P, T> Drop for Push<'_, P, T> {
    #[inline]
    fn drop(&mut self) {
        if let Some((waiter, item)) = self.parked {
            self.queue.abandon(waiter, item);
        }
    }
}

impl<P: Ord, T> Future for Pop<'_, P, T> {
    type Output = Option<(P, T)>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut popped = None;
        self.0.poll(cx, 1, |item| popped = Some(item)).map(|_| popped)
    }
}

impl<P: Ord, T> Future for PopMany<'_, P, T> {
    type Output = usize;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<usize> {
        let Self { popping, into, limit } = self.get_mut();
        popping.poll(cx, *limit, |item| into.push(item))
    }
}

impl<'a, P, T> Popping<'a, P, T> {
    fn new(queue: &'a PriorityQueue<P, T>) -> Self {
        Self { queue, waiter: None, done: false }
    }

    /// Takes at least one item and at most `limit`, and says how many; none once the queue is closed and drained.
    #[inline(always)]
    fn poll(&mut self, cx: &mut Context<'_>, limit: usize, mut sink: impl FnMut((P, T))) -> Poll<usize>
    where
        P: Ord,
    {
        assert!(!self.done, "a future is not polled after it was ready");
        let (mut taken, mut over, mut needs_waker) = (0, limit == 0, false);
        if self.waiter.is_none() {
            let mut state = self.queue.state.lock();
            while taken < limit {
                let Some(popped) = state.pop_alone() else { break };
                sink(popped);
                taken += 1;
            }
            over |= state.is_over();
            needs_waker = state.unreserved() == 0;
        }
        if taken > 0 || over {
            self.done = true;
            return Poll::Ready(taken);
        }
        self.wait(cx, needs_waker, limit, sink)
    }

    #[inline(never)]
    fn wait(
        &mut self,
        cx: &mut Context<'_>,
        needs_waker: bool,
        limit: usize,
        mut sink: impl FnMut((P, T)),
    ) -> Poll<usize>
    where
        P: Ord,
    {
        let mut batch = WakeBatch::default();
        let mut panics = Panics::default();
        let waker = if needs_waker { TaskWaker::cloned(cx.waker()) } else { TaskWaker::new(cx.waker()) };
        let taken = waker.poll_with(|waker| self.attempt(waker, limit, &mut sink, &mut batch, &mut panics));
        self.done = taken.is_ready();
        // As in `take`.
        self.queue.wake(None, &mut batch).discard();
        panics.resume();
        taken
    }

    fn attempt(
        &mut self,
        waker: &mut TaskWaker<'_>,
        limit: usize,
        sink: &mut impl FnMut((P, T)),
        batch: &mut WakeBatch,
        panics: &mut Panics,
    ) -> Result<Poll<usize>, NeedsClone>
    where
        P: Ord,
    {
        let mut state = self.queue.state.lock();
        let entitled = match self.waiter {
            Some(waiter) => state.pops.is_granted(waiter),
            None => state.unreserved() > 0,
        };
        if entitled {
            let plan = state.plan_pop();
            if let Some(waiter) = self.waiter.take() {
                waker.discard(state.leave(waiter));
            }
            sink(state.take(plan, batch));
            let mut taken = 1;
            while taken < limit && state.unreserved() > 0 {
                // Caught, since there are others to wake for what has been taken already.
                let mut plan = None;
                panics.catch(|| plan = Some(state.plan_pop()));
                let Some(plan) = plan else { break };
                sink(state.take(plan, batch));
                taken += 1;
            }
            return Ok(Poll::Ready(taken));
        }
        match self.waiter {
            None if state.is_over() => Ok(Poll::Ready(0)),
            None => {
                self.waiter = Some(state.pops.enqueue((), waker.take()?));
                Ok(Poll::Pending)
            }
            Some(waiter) => Ok(state.pops.poll(waiter, waker)?.map(|_| {
                self.waiter = None;
                0
            })),
        }
    }
}

impl<P, T> Drop for Popping<'_, P, T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(waiter) = self.waiter {
            self.queue.pass_on(waiter);
        }
    }
}

/// Why an item is not admitted.
enum Refusal {
    Full,
    Closed,
}

/// What compares priorities. Nothing has changed when a comparison panics.
impl<P: Ord, T> State<P, T> {
    /// Admits what is offered, if there is room; then whoever waits for it must be served.
    #[inline(always)]
    fn admit(&mut self, offer: &mut Option<(P, T)>, capacity: usize) -> Result<Key, Refusal> {
        if self.closed {
            return Err(Refusal::Closed);
        }
        if self.admitted.len() == capacity {
            return Err(Refusal::Full);
        }
        let place = self.admitted.find(offered(offer));
        let item = self.enlist(false, place, offer);
        Ok(self.key(item))
    }

    /// Keeps what is offered until there is room; `waker` is taken, to be woken then.
    fn park(
        &mut self,
        offer: &mut Option<(P, T)>,
        waker: &mut TaskWaker<'_>,
    ) -> Result<(arena::Key, arena::Key), NeedsClone> {
        let place = self.parked.find(offered(offer));
        let waker = waker.take()?;
        let key = self.enlist(true, place, offer);
        let waiter = self.pushes.enqueue(key, waker);
        self.items.get_mut(key).expect("it was just made").push = Some(waiter);
        Ok((waiter, key))
    }

    /// Admits what is offered to a full queue in exchange for the least urgent, newest item, which may be this one.
    fn replace(&mut self, offer: &mut Option<(P, T)>) -> (Key, Option<(P, T)>) {
        let (least, victim) = self.admitted.last().expect("a full queue is not empty");
        if offered(offer).cmp(least).is_le() {
            // A key is due all the same: one that is stale.
            self.arrive();
            return (Key { index: victim.index(), id: self.next_id() }, Some(refused(offer)));
        }
        let place = self.admitted.find(offered(offer));
        let item = self.enlist(false, place, offer);
        (self.key(item), Some(self.extract(victim)))
    }

    /// Gives the item `key` another priority, which is exchanged for its former one, and the last place among its equals.
    /// It is admitted: the key of a parked one is not known yet.
    fn set_priority(&mut self, key: arena::Key, priority: &mut Option<P>) -> bool {
        debug_assert!(self.item(key).push.is_none());
        let line = &mut self.admitted;
        let Some(place) = priority.as_ref().map(|priority| line.find(priority)) else { return false };
        self.arrive();
        let line = &mut self.admitted;
        *priority = priority.take().map(|new| line.reprioritise(&mut self.items, key, place, new, self.arrivals));
        true
    }

    /// What a pop is going to take. There must be an item.
    #[inline(always)]
    fn plan_pop(&self) -> Plan {
        let (_, item) = self.most_urgent().expect("a pop is entitled to an item");
        self.plan(item).expect("it was found")
    }

    /// What the removal of `item` is going to change.
    #[inline(always)]
    fn plan(&self, item: arena::Key) -> Option<Plan> {
        let next = match (self.items.get(item)?.push, self.first_parked()) {
            (None, Some((priority, parked))) => Some((parked, self.admitted.find(priority))),
            _ => None,
        };
        Some(Plan { item, next })
    }

    /// The most urgent item of all; among equals, the one that came first.
    fn most_urgent(&self) -> Option<(&P, arena::Key)> {
        let (admitted, parked) = (self.admitted.first(&self.items), self.first_parked());
        let (Some(admitted), Some(parked)) = (admitted, parked) else { return admitted.or(parked) };
        let parked_first = match parked.0.cmp(admitted.0) {
            Ordering::Greater => true,
            Ordering::Equal => self.item(parked.1).arrival < self.item(admitted.1).arrival,
            Ordering::Less => false,
        };
        Some(if parked_first { parked } else { admitted })
    }
}

/// What compares nothing, calls nobody and cannot fail.
impl<P, T> State<P, T> {
    const fn new() -> Self {
        Self {
            items: Arena::new(),
            admitted: Line::new(),
            parked: Line::new(),
            arrivals: 0,
            first_id: 0,
            pops: WaitList::new(),
            reservations: Arena::new(),
            reserved: List::new(),
            pushes: WaitList::new(),
            closed: false,
        }
    }

    /// Counts an arrival: of an item, or of one at its new priority.
    #[inline(always)]
    fn arrive(&mut self) {
        if self.arrivals == 0 {
            self.first_id = random();
        }
        self.arrivals += 1;
    }

    /// The id of an item that has just arrived.
    #[inline(always)]
    fn next_id(&self) -> u64 {
        self.first_id.wrapping_add(self.arrivals)
    }

    /// The public key of an item.
    #[inline(always)]
    fn key(&self, item: arena::Key) -> Key {
        Key { index: item.index(), id: self.item(item).id }
    }

    /// The item that `key` names, if it is here still, and of this queue.
    fn resolve(&self, key: Key) -> Option<arena::Key> {
        let item = arena::Key::new(key.index, self.items.stamp_at(key.index)?);
        Some(item).filter(|&item| self.item(item).id == key.id)
    }

    /// How many items there are for pops: the admitted, and the parked while the queue is open.
    #[inline(always)]
    fn available(&self) -> usize {
        self.admitted.len() + self.pushes.len()
    }

    /// How many items may be popped without overtaking a pop that has a reservation.
    #[inline(always)]
    fn unreserved(&self) -> usize {
        self.available() - self.reserved.len()
    }

    /// Whether there is no item and will be none.
    fn is_over(&self) -> bool {
        self.closed && self.admitted.is_empty()
    }

    #[inline(always)]
    fn first_parked(&self) -> Option<(&P, arena::Key)> {
        if self.closed { None } else { self.parked.first(&self.items) }
    }

    #[inline(always)]
    fn item(&self, key: arena::Key) -> &Item<P, T> {
        self.items.get(key).expect("an item stays until it is taken out")
    }

    /// Makes an item of what is offered, the last one at `place` among the parked or the admitted.
    #[inline(always)]
    fn enlist(&mut self, parked: bool, place: Place, offer: &mut Option<(P, T)>) -> arena::Key {
        let (priority, value) = refused(offer);
        self.arrive();
        let key = self.items.insert(Item::new(value, self.arrivals, self.next_id()));
        let line = if parked { &mut self.parked } else { &mut self.admitted };
        line.put(&mut self.items, key, self.arrivals, place, priority);
        key
    }

    /// Takes an item out of its line and out of the queue.
    #[inline(always)]
    fn extract(&mut self, key: arena::Key) -> (P, T) {
        let line = if self.item(key).push.is_some() { &mut self.parked } else { &mut self.admitted };
        let priority = line.take(&mut self.items, key);
        (priority, self.expel(key))
    }

    /// Takes an item that is in no line out of the queue.
    #[inline(always)]
    fn expel(&mut self, key: arena::Key) -> T {
        let item = self.items.remove(key, |_| None).expect("an item stays until it is taken out");
        drop(self.items.take_surplus());
        item.value
    }

    /// Admits a parked item, and completes its push.
    fn admit_parked(&mut self, key: arena::Key, place: Place, batch: &mut WakeBatch) {
        let priority = self.parked.take(&mut self.items, key);
        let item = self.items.get_mut(key).expect("an item stays until it is taken out");
        let (arrival, push) = (item.arrival, item.push.take());
        self.admitted.put(&mut self.items, key, arrival, place, priority);
        self.pushes.grant(push.expect("a parked item has a push"), self.key(key), batch);
    }

    /// Pops the most urgent item if that is all there is to do: nobody is parked. (No pop waits while an item is unreserved.)
    #[inline(always)]
    fn pop_alone(&mut self) -> Option<(P, T)> {
        if self.unreserved() == 0 || !self.pushes.is_empty() {
            return None;
        }
        let (priority, first) = self.admitted.take_first(&mut self.items)?;
        Some((priority, self.expel(first)))
    }

    /// Removes an item as planned.
    #[inline(always)]
    fn take(&mut self, plan: Plan, batch: &mut WakeBatch) -> (P, T) {
        if let Some((parked, place)) = plan.next {
            self.admit_parked(parked, place, batch);
        }
        if let Some(push) = self.item(plan.item).push {
            self.pushes.grant(push, self.key(plan.item), batch);
        }
        let taken = self.extract(plan.item);
        self.settle(batch);
        taken
    }

    fn drain(&mut self, capacity: usize, batch: &mut WakeBatch) -> Vec<(P, T)> {
        let mut drained = Vec::with_capacity(self.admitted.len());
        while let Some((priority, first)) = self.admitted.take_first(&mut self.items) {
            drained.push((priority, self.expel(first)));
        }
        // The parked follow most urgent first, so each goes to the end, beside its equals or below: no comparison.
        let mut beside = false;
        while self.admitted.len() < capacity {
            let Some((_, first)) = self.first_parked() else { break };
            let equals_follow = !self.parked.is_tail(&self.items, first);
            self.admit_parked(first, Line::<P>::end(beside), batch);
            beside = equals_follow;
        }
        self.settle(batch);
        drained
    }

    fn close(&mut self, batch: &mut WakeBatch) {
        self.closed = true;
        self.pushes.close();
        self.settle(batch);
        self.pushes.take_wakers(batch);
    }

    /// Brings the reservations in line with the number of items.
    #[inline(always)]
    fn settle(&mut self, batch: &mut WakeBatch) {
        while self.reserved.len() < self.available() {
            let Some(waiter) = self.pops.front_key() else { break };
            let reservation = self.reservations.push_back(&mut self.reserved, waiter);
            self.pops.grant(waiter, reservation, batch);
        }
        while self.reserved.len() > self.available() {
            let newest = self.reservations.back(&self.reserved).expect("there are some");
            let waiter = self.reservations.remove(newest, |_| Some(&mut self.reserved)).expect("it was there");
            drop(self.reservations.take_surplus());
            self.pops.revoke(waiter);
        }
        if self.is_over() {
            self.pops.close();
            self.pops.take_wakers(batch);
        }
    }

    /// A waiting pop leaves, with its reservation if it has one. Its waker is to be dropped after unlocking.
    fn leave(&mut self, waiter: arena::Key) -> Option<Waker> {
        let left = self.pops.remove(waiter)?;
        if let Some(reservation) = left.grant {
            self.reservations.remove(reservation, |_| Some(&mut self.reserved));
            drop(self.reservations.take_surplus());
        }
        left.waker
    }

    fn take_wakers(&mut self, batch: &mut WakeBatch) {
        self.pops.take_wakers(batch);
        self.pushes.take_wakers(batch);
    }
}

/// A number that no other queue is likely to draw.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

fn refused<P, T>(offer: &mut Option<(P, T)>) -> (P, T) {
    offer.take().expect("an offer is there until it is taken")
}

fn offered<P, T>(offer: &Option<(P, T)>) -> &P {
    &offer.as_ref().expect("an offer is there until it is taken").0
}

#[cfg(any(test, fuzzing, loom, debug_assertions))]
impl<P: Ord, T> PriorityQueue<P, T> {
    /// Checks every invariant of the state; for tests, and not part of the public interface.
    ///
    /// # Panics
    ///
    /// When one does not hold.
    #[doc(hidden)]
    pub fn validate(&self) {
        let state = self.state.lock();
        let (admitted, parked) = (&state.admitted, &state.parked);
        let tails = [admitted.validate(&state.items), parked.validate(&state.items)];
        state.items.validate_with_rings(&[], &tails.concat());
        state.reservations.validate(&[&state.reserved]);
        state.pops.validate();
        state.pushes.validate();
        assert!(state.reserved.len() <= state.available(), "more is reserved than there is");
        assert!(admitted.len() <= self.capacity, "more is admitted than there is room for");
        assert!(state.pops.is_empty() || state.unreserved() == 0, "a pop is kept waiting");
        assert!(state.pushes.is_empty() || admitted.len() == self.capacity, "a push is kept waiting");
        assert!(!state.closed || state.pushes.is_empty(), "a push waits on a closed queue");
        assert!(!state.is_over() || state.pops.is_empty(), "a pop waits on a queue that is closed and drained");
        assert!(state.closed || state.pushes.len() == parked.len(), "a parked item has no push");
        assert_eq!(state.items.len(), admitted.len() + parked.len(), "an item is lost");
        for (tails, is_parked) in tails.iter().zip([false, true]) {
            let mut pushes = tails.iter().map(|&tail| state.item(tail).push);
            assert!(pushes.all(|push| push.is_some() == is_parked), "an item is in the wrong line");
        }
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
        // Formatting must not block, and what it writes to is foreign code.
        let seen = self.state.try_lock().map(|state| {
            let State { admitted, pops, pushes, closed, .. } = &*state;
            (admitted.len(), pops.len(), pushes.len(), *closed)
        });
        let mut debug = f.debug_struct("PriorityQueue");
        debug.field("capacity", &self.capacity());
        match seen {
            Some((len, pops, pushes, closed)) => debug
                .field("len", &len)
                .field("waiting_pops", &pops)
                .field("waiting_pushes", &pushes)
                .field("closed", &closed)
                .finish(),
            None => debug.finish_non_exhaustive(),
        }
    }
}

// No user code runs while the state is inconsistent, so a panic cannot be seen in it.
impl<P, T> UnwindSafe for PriorityQueue<P, T> {}
impl<P, T> RefUnwindSafe for PriorityQueue<P, T> {}

// Priorities and items are moved out of the futures that hold them, never pinned.
impl<P, T> Unpin for Push<'_, P, T> {}

impl<P, T> fmt::Debug for Push<'_, P, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Push").field("waiting", &self.parked.is_some()).finish_non_exhaustive()
    }
}

impl<P, T> fmt::Debug for Pop<'_, P, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pop").field("waiting", &self.0.waiter.is_some()).finish_non_exhaustive()
    }
}

impl<P, T> fmt::Debug for PopMany<'_, P, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.popping.waiter.is_some();
        f.debug_struct("PopMany").field("limit", &self.limit).field("waiting", &waiting).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Closed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Closed").finish_non_exhaustive()
    }
}

impl<T> fmt::Display for Closed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the queue is closed")
    }
}

impl<T> std::error::Error for Closed<T> {}

impl<T> fmt::Debug for TryPushError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Full(_) => "Full",
            Self::Closed(_) => "Closed",
        };
        f.debug_tuple(name).finish_non_exhaustive()
    }
}

impl<T> fmt::Display for TryPushError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "the queue is full",
            Self::Closed(_) => "the queue is closed",
        })
    }
}

impl<T> std::error::Error for TryPushError<T> {}

impl fmt::Display for TryPopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the queue is empty, or what it holds is reserved for others who waited",
            Self::Closed => "the queue is closed and drained",
        })
    }
}

impl std::error::Error for TryPopError {}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::PriorityQueue;

    #[test]
    fn ids_go_on_beyond_the_end_of_their_range() {
        let queue = PriorityQueue::unbounded();
        let stale = queue.try_push(1, 0).unwrap();
        assert_eq!(queue.remove(stale), Some((1, 0)));
        // Four more, and they are at zero.
        queue.state.lock().first_id = u64::MAX - 5;
        for item in 1..9 {
            let key = queue.try_push(1, item).unwrap();
            assert_eq!((key.index, key.id), (stale.index, (u64::MAX - 4).wrapping_add(item)));
            assert_eq!((queue.priority(stale), queue.remove(stale)), (None, None));
            assert_eq!(queue.remove(key), Some((1, item)));
        }
    }
}
