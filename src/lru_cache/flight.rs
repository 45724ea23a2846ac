//! One load for all who ask: the first to miss leads, the others wait, and what comes of it is for all of them.
//!
//! A flight is *registered* as long as its key finds it; then others join it, and what is loaded will be stored. Who
//! inserts, removes or clears takes the registration away: the load goes on for those who asked before, and nothing
//! stale is stored. There is no other way to store what was loaded than through the registration of this very flight.
//!
//! | a flight is | its leader | its waiters | and ends |
//! |---|---|---|---|
//! | loading | runs its loader | are queued | landed, failed, or handed over |
//! | leaderless | left; the first in line was chosen, and has not run yet | are queued, but one | loading, when the chosen runs |
//! | landed | left, or was overtaken | were turned away, and take the value | with the last caller |
//! | over | left | were turned away, and start afresh | with the last caller |
//!
//! **Who wakes whom.** A value wakes all waiters, an error those who can take it. A leader that leaves without either,
//! or with an error that somebody cannot take, wakes the longest waiting of those who are left, to load in its place;
//! if the flight is not registered any more it wakes them all, to look again from the beginning. A chosen one that
//! leaves before it ran passes the lead on. Each caller counts, whichever part it has, and the last one out removes the
//! flight.
//!
//! **Foreign code.** Keys are compared and values cloned under the lock, before anything is changed. Loaders run, keys
//! are made, wakers cloned, woken and dropped without it. A panic anywhere in a leader's part is as good as its drop.

use std::any::{Any, TypeId};
use std::borrow::Borrow;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, Hash};
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use hashbrown::HashTable;
use pin_project_lite::pin_project;

use super::shard::{Gone, Piece, spread, trim};
use super::{Locked, LruCache, Place, Section};
use crate::arena::{Arena, Key};
use crate::panic::{Guarded, Panics, drop_quietly};
use crate::sync::ThreadId;
use crate::wait_list::{TaskWaker, WaitList, WakeBatch};

/// The flights of a shard.
pub(super) struct Flights<K, V> {
    flights: Arena<Flight<K, V>>,
    /// The registered ones, and the hashes of their keys.
    index: HashTable<(NonZeroU32, Key)>,
}

struct Flight<K, V> {
    /// As long as it is registered.
    key: Option<K>,
    hash: NonZeroU32,
    stage: Stage<V>,
    /// Who has not left: the leader, if there is one, and the waiters, served or not.
    callers: usize,
    /// Each with the type of the errors that it can take.
    waiters: WaitList<TypeId, Grant>,
}

enum Stage<V> {
    /// Its leader blocks this thread, if it does.
    Loading(Option<ThreadId>),
    Leaderless,
    Landed(V),
    Over,
}

/// What a waiter is woken for, unless the flight has ended.
enum Grant {
    Lead,
    Error(AnyError),
}

type AnyError = Arc<dyn Any + Send + Sync>;

/// A caller's part in a flight: it leads or waits. Dropping it gives it up.
struct Seat<'c, K, V, S> {
    cache: &'c LruCache<K, V, S>,
    section: &'c Locked<K, V>,
    /// Until it has left.
    flight: Option<Key>,
    /// Unless it leads.
    waiter: Option<Key>,
}

pin_project! {
    /// The future of a loader. If its poll panics and its drop does, too, nothing aborts.
    struct Loading<F> {
        #[pin]
        future: Option<F>,
    }

    impl<F> PinnedDrop for Loading<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut panics = Panics::default();
            panics.catch(|| this.project().future.set(None));
            panics.resume();
        }
    }
}

impl<F: Future> Future for Loading<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.project().future.as_pin_mut().expect("it is there until it is dropped").poll(cx)
    }
}

pin_project! {
    /// A loader that cannot fail, as one that can.
    pub(super) struct Unfailing<F> {
        #[pin]
        future: F,
    }
}

impl<F> Unfailing<F> {
    pub(super) fn new(future: F) -> Self {
        Self { future }
    }
}

impl<F: Future> Future for Unfailing<F> {
    type Output = Result<F::Output, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().future.poll(cx).map(Ok)
    }
}

/// What a caller meets.
enum Seating<'c, K, V, S> {
    Hit(V),
    Seat(Seat<'c, K, V, S>),
    /// Nothing yet: look again, with what is missing.
    Again(Needs),
    /// This thread loads already.
    OwnKey,
}

/// What a caller that misses must bring; each is made without the lock, and then everything is looked at again.
#[derive(Clone, Copy)]
pub(super) enum Needs {
    /// Somebody loads: a waker, to join.
    Waker,
    /// Nobody loads: a key, to lead.
    Key,
}

/// What a waiter gets.
enum Outcome<V> {
    Value(V),
    Error(AnyError),
    Lead,
    Afresh,
}

impl<K, V, S> LruCache<K, V, S>
where
    K: Hash + Eq,
    S: BuildHasher,
{
    /// The value of a key, by a load if need be: one's own or somebody else's. A first look has found nothing. `thread` is
    /// what the caller blocks, if it does.
    pub(super) async fn load<Q, F, Fut, E>(
        &self,
        place: Place<'_, K, V>,
        key: &Q,
        mut load: Guarded<F>,
        begin: impl FnOnce(F) -> Fut,
        needs: Needs,
        thread: Option<ThreadId>,
    ) -> Result<V, Arc<E>>
    where
        K: Borrow<Q>,
        Q: Eq + ToOwned<Owned = K> + ?Sized,
        V: Clone,
        Fut: Future<Output = Result<V, E>>,
        E: Send + Sync + 'static,
    {
        let seat = match self.wait_for_lead(place, key, needs, thread).await {
            Ok(seat) => seat,
            Err(answer) => return Panics::of_drops([load]).resume_or(answer),
        };
        let load = load.0.take().expect("a loader is called once");
        match (Loading { future: Some(begin(load)) }).await {
            Ok(value) => {
                let value = Guarded(Some(value));
                let weight = self.weigh(|| key.to_owned(), value.0.as_ref().expect("it was just made"));
                Ok(seat.land(value, weight))
            }
            Err(error) => Err(seat.fail(Arc::new(error))),
        }
    }

    /// A flight to lead, unless there is an answer before.
    async fn wait_for_lead<'c, Q, E>(
        &'c self,
        place: Place<'c, K, V>,
        key: &Q,
        mut needs: Needs,
        thread: Option<ThreadId>,
    ) -> Result<Seat<'c, K, V, S>, Result<V, Arc<E>>>
    where
        K: Borrow<Q>,
        Q: Eq + ToOwned<Owned = K> + ?Sized,
        V: Clone,
        E: Send + Sync + 'static,
    {
        let mut counted = false;
        loop {
            let seated = poll_fn(|cx| {
                let waker = cx.waker();
                Poll::Ready(self.take_seat::<Q, E>(place, key, waker, needs, thread, &mut counted))
            });
            let mut seat = seated.await.map_err(Ok)?;
            if seat.waiter.is_none() {
                return Ok(seat);
            }
            match poll_fn(|cx| seat.poll(cx.waker(), thread)).await {
                Outcome::Value(value) => return Err(Ok(value)),
                Outcome::Error(error) => return Err(Err(error.downcast().expect("only who can take it is given it"))),
                Outcome::Lead => return Ok(seat),
                // Others do, too, and the first of them leads.
                Outcome::Afresh => needs = Needs::Waker,
            }
        }
    }

    /// Finds the value, joins the flight of the key, or begins one.
    fn take_seat<'c, Q, E>(
        &'c self,
        (section, hash): Place<'c, K, V>,
        key: &Q,
        waker: &Waker,
        mut needs: Needs,
        thread: Option<ThreadId>,
        counted: &mut bool,
    ) -> Result<Seat<'c, K, V, S>, V>
    where
        K: Borrow<Q>,
        Q: Eq + ToOwned<Owned = K> + ?Sized,
        V: Clone,
        E: 'static,
    {
        let (mut own_key, mut own_waker) = (Guarded(None), Guarded(None));
        loop {
            match needs {
                Needs::Waker => own_waker.0 = Some(waker.clone()),
                Needs::Key => own_key.0 = Some(key.to_owned()),
            }
            let now = self.now();
            let mut gone = Gone::new();
            let seating = {
                let mut section_guard = section.lock();
                let Section { shard, flights } = &mut *section_guard;
                let flight = flights.find(hash, key);
                let found = shard.find(hash, key);
                let found = shard.live(found, now, &mut gone);
                let seat = |flight, waiter| Seat { cache: self, section, flight: Some(flight), waiter };
                let seating = if let Some(found) = found {
                    Seating::Hit(shard.get(found))
                } else if !gone.is_empty() {
                    // What is over is reported first: if that panics, nobody has taken a seat.
                    Seating::Again(needs)
                } else if let Some(flight) = flight {
                    if thread.is_some() && flights.leading_thread(flight) == thread {
                        Seating::OwnKey
                    } else if let Some(waker) = own_waker.0.take() {
                        Seating::Seat(seat(flight, Some(flights.join(flight, TypeId::of::<E>(), waker))))
                    } else {
                        Seating::Again(Needs::Waker)
                    }
                } else if let Some(key) = own_key.0.take() {
                    shard.stats.loads += 1;
                    Seating::Seat(seat(flights.begin(hash, key, thread), None))
                } else {
                    Seating::Again(Needs::Key)
                };
                let count = match &seating {
                    Seating::Hit(_) => Some(&mut shard.stats.hits),
                    Seating::Seat(_) => Some(&mut shard.stats.misses),
                    Seating::Again(_) | Seating::OwnKey => None,
                };
                if let Some(count) = count.filter(|_| !*counted) {
                    *count += 1;
                    *counted = true;
                }
                seating
            };
            if !gone.is_empty() || matches!(seating, Seating::Hit(_) | Seating::Seat(_)) {
                // Made in vain, or about to be dropped beside a panic of a report.
                gone.extend(own_key.0.take().map(Piece::Key));
                drop_quietly(own_waker.0.take());
            }
            match self.settle(gone, seating) {
                Seating::Hit(value) => return Err(value),
                Seating::Seat(seat) => return Ok(seat),
                Seating::Again(missing) => needs = missing,
                Seating::OwnKey => panic!("a loader asks for its own key: it would wait for itself for ever"),
            }
        }
    }
}

impl<K, V, S> Seat<'_, K, V, S> {
    /// Whether the turn of this waiter has come, and what for.
    fn poll(&mut self, waker: &Waker, thread: Option<ThreadId>) -> Poll<Outcome<V>>
    where
        V: Clone,
    {
        let (flight, waiter) = (self.flight.expect("it has not left"), self.waiter.expect("it waits"));
        let mut gone = Gone::new();
        let outcome = TaskWaker::new(waker).poll_with(|waker| {
            let mut section = self.section.lock();
            let Section { shard, flights } = &mut *section;
            let failed = matches!(flights.waiters(flight).granted(waiter), Some(Grant::Error(_)));
            let value = if failed { None } else { flights.landed(flight).cloned() };
            Ok(flights.waiters(flight).poll(waiter, waker)?.map(|removed| {
                if matches!(removed.grant, Some(Grant::Lead)) && flights.take_lead(flight, thread) {
                    shard.stats.loads += 1;
                    self.waiter = None;
                } else {
                    self.flight = None;
                    flights.leave(flight, &mut gone);
                }
                match (removed.grant, value) {
                    (Some(Grant::Error(error)), _) => Outcome::Error(error),
                    (_, Some(value)) => Outcome::Value(value),
                    (_, None) if self.flight.is_some() => Outcome::Lead,
                    (_, None) => Outcome::Afresh,
                }
            }))
        });
        outcome.map(|outcome| self.cache.settle(gone, outcome))
    }

    /// Ends the flight with a value, which is stored if nothing has happened to the key since the load began.
    fn land(mut self, mut value: Guarded<V>, weight: Option<u64>) -> V
    where
        K: Eq,
        V: Clone,
    {
        let flight = self.flight.expect("it has not left");
        let terms = self.cache.terms(weight);
        let copy = || value.0.clone().expect("it is taken in the end");
        let mut to_store = Guarded(Some(copy()));
        let for_waiters;
        let mut gone = Gone::new();
        let mut batch = WakeBatch::default();
        {
            let mut section = self.section.lock();
            let Section { shard, flights } = &mut *section;
            let (hash, key) = flights.registration(flight);
            let found = key.and_then(|key| shard.find(hash, key));
            for_waiters = flights.is_awaited(flight).then(copy);
            // No foreign code from here on.
            self.flight = None;
            let found = shard.live(found, terms.now, &mut gone);
            let replaced = match (flights.unregister(flight), to_store.0.take()) {
                (Some(key), Some(value)) => shard.insert(found, hash, (key, value), terms, &mut gone),
                (_, unused) => unused,
            };
            gone.extend(replaced.map(Piece::Value));
            flights.end(flight, for_waiters, &mut batch);
            flights.leave(flight, &mut gone);
        }
        let value = value.0.take().expect("it is taken in the end");
        self.cache.settle_and_wake(gone, self.section, flight, batch, value)
    }

    /// Ends the load with an error, which goes to those who can take it.
    fn fail<E: Send + Sync + 'static>(mut self, error: Arc<E>) -> Arc<E> {
        let flight = self.flight.take().expect("it has not left");
        let mut gone = Gone::new();
        let mut batch = WakeBatch::default();
        {
            let mut section = self.section.lock();
            let Section { shard, flights } = &mut *section;
            shard.stats.load_failures += 1;
            flights.share(flight, &error, &mut batch);
            flights.hand_over(flight, &mut gone, &mut batch);
            flights.leave(flight, &mut gone);
        }
        self.cache.settle_and_wake(gone, self.section, flight, batch, error)
    }
}

impl<K, V, S> Drop for Seat<'_, K, V, S> {
    fn drop(&mut self) {
        let Some(flight) = self.flight else { return };
        let mut gone = Gone::new();
        let mut batch = WakeBatch::default();
        let left = {
            let mut section = self.section.lock();
            let flights = &mut section.flights;
            let left = self.waiter.and_then(|waiter| flights.waiters(flight).remove(waiter));
            // It led, or was chosen to.
            if left.as_ref().is_none_or(|left| matches!(left.grant, Some(Grant::Lead))) {
                flights.hand_over(flight, &mut gone, &mut batch);
            }
            flights.leave(flight, &mut gone);
            left
        };
        let mut panics = Panics::of_drops(left);
        self.cache.bury(gone, &mut panics);
        wake(self.section, flight, batch, &mut panics);
        panics.resume();
    }
}

/// Wakes those who are to be woken of a flight.
pub(super) fn wake<K, V>(section: &Locked<K, V>, flight: Key, mut batch: WakeBatch, panics: &mut Panics) {
    if !batch.is_empty() {
        panics.catch(|| batch.wake(|batch| section.lock().flights.take_wakers(flight, batch)));
    }
}

impl<K, V> Flights<K, V> {
    pub(super) const fn new() -> Self {
        Self { flights: Arena::new(), index: HashTable::new() }
    }

    /// The registered flight of a key.
    #[inline(always)]
    pub(super) fn find<Q>(&self, hash: NonZeroU32, key: &Q) -> Option<Key>
    where
        Q: Eq + ?Sized,
        K: Borrow<Q>,
    {
        let of_key = |&(held, flight): &(NonZeroU32, Key)| {
            held == hash && self.registration(flight).1.is_some_and(|registered| registered.borrow() == key)
        };
        self.index.find(spread(hash), of_key).map(|&(_, flight)| flight)
    }

    /// Registers a flight whose leader begins to load.
    fn begin(&mut self, hash: NonZeroU32, key: K, thread: Option<ThreadId>) -> Key {
        let flight =
            Flight { key: Some(key), hash, stage: Stage::Loading(thread), callers: 1, waiters: WaitList::new() };
        let flight = self.flights.insert(flight);
        self.index.insert_unique(spread(hash), (hash, flight), |&(hash, _)| spread(hash));
        flight
    }

    fn join(&mut self, flight: Key, errors: TypeId, waker: Waker) -> Key {
        let flight = self.get(flight);
        flight.callers += 1;
        flight.waiters.enqueue(errors, waker)
    }

    /// The thread that its leader blocks, if it does.
    fn leading_thread(&mut self, flight: Key) -> Option<ThreadId> {
        match self.get(flight).stage {
            Stage::Loading(thread) => thread,
            Stage::Leaderless | Stage::Landed(_) | Stage::Over => None,
        }
    }

    fn take_lead(&mut self, flight: Key, thread: Option<ThreadId>) -> bool {
        let stage = &mut self.get(flight).stage;
        let free = matches!(stage, Stage::Leaderless);
        if free {
            *stage = Stage::Loading(thread);
        }
        free
    }

    /// Whether somebody would take a value.
    pub(super) fn is_awaited(&mut self, flight: Key) -> bool {
        let flight = self.get(flight);
        match flight.stage {
            Stage::Loading(_) => !flight.waiters.is_empty(),
            Stage::Leaderless => true,
            Stage::Landed(_) | Stage::Over => false,
        }
    }

    fn landed(&mut self, flight: Key) -> Option<&V> {
        match &self.get(flight).stage {
            Stage::Landed(value) => Some(value),
            Stage::Loading(_) | Stage::Leaderless | Stage::Over => None,
        }
    }

    fn registration(&self, flight: Key) -> (NonZeroU32, Option<&K>) {
        let flight = self.flights.get(flight).expect("a flight stays until the last caller has left");
        (flight.hash, flight.key.as_ref())
    }

    /// Lets nobody find the flight any more; so nothing is stored that is loaded by it.
    fn unregister(&mut self, flight: Key) -> Option<K> {
        let Flight { key, hash, .. } = self.get(flight);
        let (key, hash) = (key.take()?, *hash);
        let in_index = self.index.find_entry(spread(hash), |&(_, held)| held == flight);
        in_index.expect("who is registered is in the index").remove();
        trim(&mut self.index, |&(hash, _)| spread(hash));
        Some(key)
    }

    /// What is being loaded may be stale: it will not be stored. A load that has not begun will not be.
    pub(super) fn invalidate(&mut self, flight: Key) -> Option<K> {
        match self.get(flight).stage {
            Stage::Loading(_) => self.unregister(flight),
            Stage::Leaderless | Stage::Landed(_) | Stage::Over => None,
        }
    }

    /// [Invalidates](Self::invalidate) all.
    pub(super) fn invalidate_all(&mut self, gone: &mut Gone<K, V>) {
        let Self { flights, index } = self;
        index.retain(|&mut (_, flight)| {
            let flight = flights.get_mut(flight).expect("who is in the index is there");
            let loading = matches!(flight.stage, Stage::Loading(_));
            if loading {
                gone.extend(flight.key.take().map(Piece::Key));
            }
            !loading
        });
        trim(index, |&(hash, _)| spread(hash));
    }

    /// Ends the flight for the sake of a value that was inserted: it goes to the waiters, and what is loaded is not
    /// stored.
    #[cold]
    pub(super) fn overtake(&mut self, flight: Key, value: Option<V>) -> (Option<K>, WakeBatch) {
        let mut batch = WakeBatch::default();
        let key = self.unregister(flight);
        self.end(flight, value, &mut batch);
        (key, batch)
    }

    /// Ends the flight, unless it has ended, and sends its waiters off with a value, or to start afresh.
    fn end(&mut self, flight: Key, value: Option<V>, batch: &mut WakeBatch) {
        let flight = self.get(flight);
        if matches!(flight.stage, Stage::Loading(_) | Stage::Leaderless) {
            flight.stage = value.map_or(Stage::Over, Stage::Landed);
            flight.waiters.close();
            flight.waiters.take_wakers(batch);
        }
    }

    /// Gives the waiters who can take it an error.
    fn share<E: Send + Sync + 'static>(&mut self, flight: Key, error: &Arc<E>, batch: &mut WakeBatch) {
        let grant = |errors: &TypeId| (*errors == TypeId::of::<E>()).then(|| Grant::Error(error.clone()));
        self.get(flight).waiters.grant_each(grant, batch);
    }

    /// Nobody leads any more: chooses the longest waiting, unless the flight has ended. It ends if nothing would be
    /// stored, or nobody waits.
    fn hand_over(&mut self, at: Key, gone: &mut Gone<K, V>, batch: &mut WakeBatch) {
        let flight = self.get(at);
        if flight.key.is_some() && !flight.waiters.is_empty() {
            flight.stage = Stage::Leaderless;
            flight.waiters.grant_front(Grant::Lead, batch);
        } else {
            self.end(at, None, batch);
            gone.extend(self.unregister(at).map(Piece::Key));
        }
    }

    /// One of the callers leaves, the last one with what is left.
    fn leave(&mut self, flight: Key, gone: &mut Gone<K, V>) {
        let callers = &mut self.get(flight).callers;
        *callers -= 1;
        if *callers == 0 {
            let flight = self.flights.remove(flight, |_| None).expect("it was there");
            drop(self.flights.take_surplus());
            if let Stage::Landed(value) = flight.stage {
                gone.push(Piece::Value(value));
            }
        }
    }

    fn waiters(&mut self, flight: Key) -> &mut WaitList<TypeId, Grant> {
        &mut self.get(flight).waiters
    }

    /// Moves wakers of those to be woken into `batch`, if the flight is still there.
    fn take_wakers(&mut self, flight: Key, batch: &mut WakeBatch) {
        if let Some(flight) = self.flights.get_mut(flight) {
            flight.waiters.take_wakers(batch);
        }
    }

    fn get(&mut self, flight: Key) -> &mut Flight<K, V> {
        self.flights.get_mut(flight).expect("a flight stays until the last caller has left")
    }
}

#[cfg(any(test, fuzzing, loom, debug_assertions))]
impl<K, V> Flights<K, V> {
    pub(super) fn len(&self) -> usize {
        self.flights.len()
    }

    /// Checks every invariant.
    ///
    /// # Panics
    ///
    /// When one does not hold.
    pub(super) fn validate(&self) {
        self.flights.validate(&[]);
        let mut registered = 0;
        for flight in self.flights.values() {
            flight.waiters.validate();
            let ended = matches!(flight.stage, Stage::Landed(_) | Stage::Over);
            assert!(
                flight.callers > flight.waiters.len() || !matches!(flight.stage, Stage::Loading(_)),
                "somebody leads"
            );
            assert!(flight.callers > 0, "a flight without callers is gone");
            assert!(!ended || flight.waiters.is_empty(), "nobody waits for what has ended");
            assert!(!ended || flight.key.is_none(), "what has ended is not found");
            assert!(flight.key.is_some() || !matches!(flight.stage, Stage::Leaderless), "who was chosen will store");
            registered += usize::from(flight.key.is_some());
        }
        assert_eq!(self.index.len(), registered, "the index has the registered flights");
        for &(hash, flight) in &self.index {
            let (held, key) = self.registration(flight);
            assert!(held == hash && key.is_some(), "the index has the registered flights");
        }
    }
}
