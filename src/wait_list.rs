//! The one waiting algorithm: a FIFO of waiters who are granted what they wait for, in order.
//!
//! A primitive keeps a [`WaitList`] under its lock. A future that must wait *enqueues* a waker and what it needs, and
//! keeps the key. Whoever has something to give *grants* it to the head, or to whom it is meant for; the waiter leaves the
//! queue at that moment, and nobody who comes later can take the grant from it. The future *collects* the grant when it is
//! polled next, or *leaves*: then it gets back what it had been granted, to pass it on.
//!
//! | a waiter is | `grant` | in list | its waker is | comes next |
//! |---|---|---|---|---|
//! | queued | none | `queue` | here | granted, turned away, leaves |
//! | granted, to be woken | some | `to_wake` | here | woken, collects, leaves, put back |
//! | granted, woken | some | none | taken | collects, leaves, put back |
//! | put back, had been woken | none | `queue` | taken | asks, leaving its waker; or as queued |
//! | enrolled, has not asked yet | none | `queue` | none | asks, leaving its waker; or as queued |
//! | turned away (closed), to be woken | none | `to_wake` | here | woken, learns of it, leaves |
//! | turned away, woken | none | none | taken | learns of it, leaves |
//!
//! What has been granted may be *revoked* as long as it was not collected: the waiter is put back at the front. If it had
//! been woken, it will ask, and leaves its waker then; granted or turned away before that, it has none to be woken by, and
//! needs none. So it is with one who is *enrolled* by somebody who wakes it by other means. The queue of a closed list is
//! empty.
//!
//! **Wakers are foreign code.** None is cloned, woken or dropped in here: they come in cloned, and go out with the
//! [`Waiter`] that leaves, through `spare`, or in a [`WakeBatch`], for the caller to handle after it has unlocked. A batch
//! has room for a few; the granted beyond it stay in `to_wake` until the caller comes back for them. So granting a million
//! waiters is one uninterrupted step, and waking them needs no allocation.

use std::any::Any;
use std::mem::forget;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::task::Waker;

use crate::arena::{Arena, Key, List};

/// Wakers taken per locking; small under loom, so that models reach the second round.
const BATCH: usize = if cfg!(loom) { 2 } else { 4 };

/// The waiters of one primitive: each needs an `N` and may be granted a `G`.
#[derive(Debug)]
pub(crate) struct WaitList<N, G> {
    waiters: Arena<Waiter<N, G>>,
    /// Not served yet, the longest waiting first.
    queue: List,
    /// Granted or turned away, and not yet in a batch: there was no room.
    to_wake: List,
    closed: bool,
}

/// A waiter that has left: what it needed, what it had been granted, and its waker, to be dropped after unlocking.
#[derive(Debug)]
pub(crate) struct Waiter<N, G> {
    pub(crate) need: N,
    pub(crate) grant: Option<G>,
    pub(crate) waker: Option<Waker>,
    place: Place,
}

/// The list that a waiter is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Queue,
    ToWake,
    Nowhere,
}

/// What a waiter learns when it asks.
#[derive(Debug)]
pub(crate) enum Turn<N, G> {
    /// It has left the list: with a grant, or turned away because the list was closed before its turn.
    Left(Waiter<N, G>),
    /// Not yet. The waker that the list now holds wakes it.
    Waiting,
    /// Not yet, and the list holds another task's waker: clone the new one *without the lock* and ask again.
    NeedsWaker,
}

impl<N, G> Waiter<N, G> {
    #[inline(always)]
    fn queued(need: N, waker: Option<Waker>) -> Self {
        Self { need, grant: None, waker, place: Place::Queue }
    }

    /// Grants it what it waits for, and says where it belongs then.
    #[inline(always)]
    fn serve(&mut self, grant: G, batch: &mut WakeBatch) -> Place {
        self.grant = Some(grant);
        self.place = if batch.has_room() {
            batch.push(self.waker.take());
            Place::Nowhere
        } else {
            Place::ToWake
        };
        self.place
    }
}

impl<N, G> WaitList<N, G> {
    pub(crate) const fn new() -> Self {
        Self { waiters: Arena::new(), queue: List::new(), to_wake: List::new(), closed: false }
    }

    /// How many are queued: not granted, not turned away.
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The head of the queue.
    #[inline(always)]
    pub(crate) fn first(&self) -> Option<Key> {
        self.waiters.front(&self.queue)
    }

    /// What the head of the queue needs.
    #[inline(always)]
    pub(crate) fn front(&self) -> Option<&N> {
        self.needs().next()
    }

    /// What the queued need, the head first.
    pub(crate) fn needs(&self) -> impl Iterator<Item = &N> {
        self.waiters.iter(&self.queue).map(|waiter| &waiter.need)
    }

    /// Joins the end of the queue.
    #[inline(always)]
    pub(crate) fn enqueue(&mut self, need: N, waker: Waker) -> Key {
        debug_assert!(!self.closed, "nobody may wait on a closed list");
        self.waiters.push_back(&mut self.queue, Waiter::queued(need, Some(waker)))
    }

    /// Joins the queue ahead of all the others: it was served before them, but with something of no use.
    pub(crate) fn enqueue_front(&mut self, need: N, waker: Waker) -> Key {
        debug_assert!(!self.closed, "nobody may wait on a closed list");
        let key = self.waiters.insert(Waiter::queued(need, Some(waker)));
        self.waiters.link_front(&mut self.queue, key);
        key
    }

    /// Puts somebody at the end of the queue who is going to be woken by other means, and leaves its waker then.
    pub(crate) fn enroll(&mut self, need: N) -> Key {
        debug_assert!(!self.closed, "nobody may wait on a closed list");
        self.waiters.push_back(&mut self.queue, Waiter::queued(need, None))
    }

    /// Serves the head of the queue, which must not be empty. Its waker goes into `batch`, or waits for the next one.
    #[inline(always)]
    pub(crate) fn grant_front(&mut self, grant: G, batch: &mut WakeBatch) {
        let (key, waiter) = self.waiters.pop_front(&mut self.queue).expect("somebody is queued");
        if waiter.serve(grant, batch) == Place::ToWake {
            self.waiters.link_back(&mut self.to_wake, key);
        }
    }

    /// Serves `key`, which is queued, out of turn. Its waker goes into `batch`, or waits for the next one.
    #[inline(always)]
    pub(crate) fn grant(&mut self, key: Key, grant: G, batch: &mut WakeBatch) {
        self.waiters.unlink(&mut self.queue, key);
        let waiter = self.waiters.get_mut(key).expect("somebody is queued");
        if waiter.serve(grant, batch) == Place::ToWake {
            self.waiters.link_back(&mut self.to_wake, key);
        }
    }

    /// Serves each of the queued whom `grant` has something for, the longest waiting first.
    pub(crate) fn grant_each(&mut self, mut grant: impl FnMut(&N) -> Option<G>, batch: &mut WakeBatch) {
        let mut unserved = List::new();
        while let Some((key, waiter)) = self.waiters.pop_front(&mut self.queue) {
            match grant(&waiter.need).map(|grant| waiter.serve(grant, batch)) {
                None => self.waiters.link_back(&mut unserved, key),
                Some(Place::ToWake) => self.waiters.link_back(&mut self.to_wake, key),
                Some(_) => {}
            }
        }
        self.queue = unserved;
    }

    /// Takes back what `key` was granted and has not collected. It is the first in the queue again.
    pub(crate) fn revoke(&mut self, key: Key) -> Option<G> {
        debug_assert!(!self.closed, "nobody may wait on a closed list");
        let waiter = self.waiters.get_mut(key)?;
        let grant = waiter.grant.take()?;
        if std::mem::replace(&mut waiter.place, Place::Queue) == Place::ToWake {
            self.waiters.unlink(&mut self.to_wake, key);
        }
        self.waiters.link_front(&mut self.queue, key);
        Some(grant)
    }

    /// Turns everybody away who has not been granted.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        self.waiters.append(&mut self.to_wake, &mut self.queue);
    }

    /// Asks whether the turn of `key` has come, and leaves if so.
    ///
    /// `spare` may bring a clone of `waker`, and takes away the waker that it replaces.
    #[inline(always)]
    pub(crate) fn poll(&mut self, key: Key, waker: &Waker, spare: &mut Option<Waker>) -> Turn<N, G> {
        let waiter = self.waiters.get_mut(key).expect("a waiter stays until it leaves");
        if waiter.grant.is_some() || self.closed {
            return Turn::Left(self.leave(key).expect("it is there"));
        }
        match spare.take() {
            Some(fresh) => *spare = waiter.waker.replace(fresh),
            None if waiter.waker.as_ref().is_some_and(|held| held.will_wake(waker)) => {}
            None => return Turn::NeedsWaker,
        }
        Turn::Waiting
    }

    /// Whether `key` has been granted what it waits for.
    #[inline(always)]
    pub(crate) fn is_granted(&self, key: Key) -> bool {
        self.granted(key).is_some()
    }

    /// What `key` has been granted and has not collected.
    #[inline(always)]
    pub(crate) fn granted(&self, key: Key) -> Option<&G> {
        self.waiters.get(key)?.grant.as_ref()
    }

    /// Leaves, wherever the waiter stands, if it has not left yet. The caller passes on what it had been granted.
    #[inline(always)]
    pub(crate) fn leave(&mut self, key: Key) -> Option<Waiter<N, G>> {
        let Self { waiters, queue, to_wake, closed } = self;
        waiters.remove(key, |waiter| match waiter.place {
            // Those turned away were moved all at once, without a visit to each.
            Place::Queue if !*closed => Some(queue),
            Place::Queue | Place::ToWake => Some(to_wake),
            Place::Nowhere => None,
        })
    }

    /// Moves wakers of those to be woken into `batch`, as many as it has room for.
    pub(crate) fn take_wakers(&mut self, batch: &mut WakeBatch) {
        while batch.has_room() {
            let Some((_, waiter)) = self.waiters.pop_front(&mut self.to_wake) else { return };
            waiter.place = Place::Nowhere;
            batch.push(waiter.waker.take());
        }
    }

    #[cfg(any(test, fuzzing, loom, debug_assertions))]
    pub(crate) fn validate(&self) {
        self.waiters.validate(&[&self.queue, &self.to_wake]);
        for waiter in self.waiters.iter(&self.queue) {
            assert!(waiter.place == Place::Queue && waiter.grant.is_none(), "the queued are ungranted and know it");
        }
        for waiter in self.waiters.iter(&self.to_wake) {
            assert!(waiter.place != Place::Nowhere, "those to be woken know it");
            assert!(waiter.grant.is_some() || self.closed, "only the served are to be woken");
        }
        assert!(!self.closed || self.queue.is_empty(), "nobody queues on a closed list");
    }
}

/// A few wakers on their way out of a lock.
#[derive(Default)]
pub(crate) struct WakeBatch {
    wakers: [Option<Waker>; BATCH],
    len: usize,
}

impl WakeBatch {
    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline(always)]
    fn has_room(&self) -> bool {
        self.len < BATCH
    }

    #[inline(always)]
    fn push(&mut self, waker: Option<Waker>) {
        self.wakers[self.len] = waker;
        self.len += 1;
    }

    /// Wakes all, calling `refill` for more as long as it fills the batch. Call it without a lock, as the last thing.
    ///
    /// # Panics
    ///
    /// With the first panic of a waker, after all the others were woken; silently if the thread is panicking already.
    #[inline(always)]
    pub(crate) fn wake(&mut self, refill: impl FnMut(&mut Self)) {
        // With one waker there are no others to save from its panic; a panic during a panic would abort, though.
        if self.len <= 1 && !std::thread::panicking() {
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
            let full = !self.has_room();
            let mut wakers = self.wakers[..self.len].iter_mut().filter_map(Option::take);
            self.len = 0;
            while !panics.catch(|| wakers.by_ref().for_each(Waker::wake)) {}
            if !full {
                break;
            }
            refill(self);
        }
        panics.resume();
    }
}

/// Runs foreign code that may panic, so that what must come after it does, and panics when all is done.
#[derive(Default)]
pub(crate) struct Panics(Option<Box<dyn Any + Send>>);

impl Panics {
    /// Those of dropping all of these, one by one.
    #[inline(always)]
    pub(crate) fn of_drops<T>(useless: impl IntoIterator<Item = T>) -> Self {
        let mut panics = Self::default();
        for useless in useless {
            panics.catch(|| drop(useless));
        }
        panics
    }

    /// Whether `foreign` went through without a panic.
    pub(crate) fn catch(&mut self, foreign: impl FnOnce()) -> bool {
        match catch_unwind(AssertUnwindSafe(foreign)) {
            Ok(()) => return true,
            Err(payload) if self.0.is_none() => self.0 = Some(payload),
            // Its drop is foreign code too.
            Err(payload) => forget(payload),
        }
        false
    }

    /// Goes on with the first panic, if there was one and the thread is not panicking already.
    pub(crate) fn resume(self) {
        match self.0 {
            Some(payload) if std::thread::panicking() => forget(payload),
            Some(payload) => resume_unwind(payload),
            None => {}
        }
    }

    /// Gives `output` back; or drops it, which may panic as well, and [goes on](Self::resume) with the first panic.
    #[inline(always)]
    pub(crate) fn resume_or<R>(mut self, output: R) -> R {
        if self.0.is_none() || std::thread::panicking() {
            self.forget();
            return output;
        }
        self.catch(|| drop(output));
        resume_unwind(self.0.take().expect("there was a panic"))
    }

    /// Lets the panics be, and the rest of what they carry: its drop is foreign code too.
    pub(crate) fn forget(self) {
        forget(self.0);
    }
}

/// Drops what nobody has a use for. A panic of that shall not cost the caller what it has in hand.
#[inline(always)]
pub(crate) fn drop_quietly<T>(useless: impl IntoIterator<Item = T>) {
    Panics::of_drops(useless).forget();
}

/// Something that an unwinding may drop: if its drop panicked as well, that would abort.
pub(crate) struct Guarded<T>(pub(crate) Option<T>);

impl<T> Drop for Guarded<T> {
    #[inline(always)]
    fn drop(&mut self) {
        Panics::of_drops(self.0.take()).resume();
    }
}
