//! Loading: the calls that share one load, and the callers' parts in it.
//!
//! A caller looks its key up under the lock and acts outside it, until it has a value, leads a load, or follows one. A
//! [`Leader`] and a [`Follower`] give their part up when they are dropped: a panic anywhere in a loader is as good as
//! that.

use std::any::TypeId;
use std::borrow::Borrow;
use std::convert::Infallible;
use std::future::{Future, poll_fn, ready};
use std::hash::{BuildHasher, Hash};
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use pin_project_lite::pin_project;

use super::builder::Appraisal;
use super::deferred::Deferred;
use super::flight::Outcome;
use super::shard::Part;
use super::{Locked, LruCache, Place, State};
use crate::arena::Key;
use crate::blocking;
use crate::panic::{Guarded, Panics};
use crate::sync::{self, ThreadId};
use crate::wait_list::{NeedsClone, TaskWaker};

impl<K, V, S> LruCache<K, V, S>
where
    K: Hash + Eq,
    S: BuildHasher,
{
    /// Returns the value of a key, which is made and stored if it is absent. Threads that ask for the key meanwhile
    /// wait.
    ///
    /// It is [`get_or_load`](Self::get_or_load) for threads; both wait for each other.
    ///
    /// The key is borrowed, and owned only by the caller that makes the value; for that its type must have an owned
    /// form in [`ToOwned`], as `str` has in `String`. [Other keys](LruCache#keys) can be wrapped.
    ///
    /// # Panics
    ///
    /// When `make` does; another caller that waits makes the value then. When `make` asks for the key that it is called
    /// for by this method or its fallible form.
    ///
    /// # Deadlocks
    ///
    /// On a thread that an async runtime runs its tasks on, this call may wait for ever for a load that is one of these
    /// tasks: use [`get_or_load`](Self::get_or_load) there.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = stanchion::LruCache::<String, usize>::new(100);
    /// assert_eq!(cache.get_or_insert_with("six", || 6), 6);
    /// assert_eq!(cache.get_or_insert_with("six", || unreachable!()), 6);
    /// ```
    pub fn get_or_insert_with<Q>(&self, key: &Q, make: impl FnOnce() -> V) -> V
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
        V: Clone,
    {
        unfailing(self.try_get_or_insert_with(key, || Ok(make())))
    }

    /// Returns the value of a key, which is made and stored if it is absent and `make` succeeds.
    ///
    /// # Errors
    ///
    /// That of `make`, or of the caller that was waited for, if it is of the same type. It is not stored.
    ///
    /// # Panics
    ///
    /// As [`get_or_insert_with`](Self::get_or_insert_with) does.
    ///
    /// # Deadlocks
    ///
    /// As with [`get_or_insert_with`](Self::get_or_insert_with).
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = stanchion::LruCache::<String, u16>::new(100);
    /// let number = |text: &str| cache.try_get_or_insert_with(text, || text.parse::<u16>());
    /// assert_eq!(number("80").unwrap(), 80);
    /// assert!(number("eighty").is_err());
    /// ```
    pub fn try_get_or_insert_with<Q, E>(&self, key: &Q, make: impl FnOnce() -> Result<V, E>) -> Result<V, Arc<E>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
        V: Clone,
        E: Send + Sync + 'static,
    {
        let make = Guarded(Some(make));
        let place = self.locate(key);
        match self.first_look(place, key) {
            Ok(value) => Ok(Panics::of_drops([make]).resume_or(value)),
            Err(missing) => {
                let thread = sync::current_thread().id();
                blocking::wait_reregistering(self.load(place, key, missing, make, |make| ready(make()), Some(thread)))
            }
        }
    }

    /// Returns the value of a key, which is loaded and stored if it is absent. All callers that ask for the key
    /// meanwhile wait for that one load.
    ///
    /// The future that `load` makes is driven by the caller that was first, as part of this future. Inserting the key
    /// meanwhile gives the waiting callers that value instead; [removing](Self::remove) or [clearing](Self::clear) it,
    /// or [`retain`](Self::retain), lets callers that come later load again. In all these cases what this load yields
    /// is returned, and not stored. Neither is a value that is too heavy, or has a time to live of zero.
    ///
    /// The key is borrowed, and owned only by the caller that loads; for that its type must have an owned form in
    /// [`ToOwned`], as `str` has in `String`. [Other keys](LruCache#keys) can be wrapped.
    ///
    /// # Cancel safety
    ///
    /// If this future is dropped while it loads, the longest waiting caller loads in its place, from the beginning and
    /// with its own `load` (see [Fairness](LruCache#fairness)). If it is not polled any more, waiting callers go on
    /// waiting.
    ///
    /// So if all callers time out before a load ends, the cache is never filled: each drops its load, and the next
    /// caller begins again. Where calls have a timeout, spawn the load and put the timeout on the handle, as here with
    /// tokio. Then the load goes on, and a later caller finds its value.
    ///
    /// ```
    /// # use stanchion::LruCache;
    /// # use std::{sync::Arc, time::Duration};
    /// # use tokio::time::{error::Elapsed, sleep, timeout};
    /// # async fn query(id: u32) -> String { sleep(Duration::from_millis(50)).await; format!("product {id}") }
    /// async fn product(cache: &Arc<LruCache<u32, String>>, id: u32) -> Result<String, Elapsed> {
    ///     if let Some(name) = cache.get(&id) {
    ///         return Ok(name);
    ///     }
    ///     let cache = cache.clone();
    ///     let load = tokio::spawn(async move { cache.get_or_load(&id, || query(id)).await });
    ///     Ok(timeout(Duration::from_millis(20), load).await?.expect("the query does not panic"))
    /// }
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let cache = Arc::new(LruCache::new(100));
    /// while product(&cache, 7).await.is_err() {} // some time out
    /// assert_eq!(cache.stats().loads, 1);
    /// # });
    /// ```
    ///
    /// # Panics
    ///
    /// When `load` does; the longest waiting caller loads in its place.
    ///
    /// # Deadlocks
    ///
    /// A loader may load other keys. One that waits for its own key, or for a loader that waits for it, waits for ever.
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::LruCache;
    ///
    /// async fn query(id: u32) -> String {
    ///     format!("product {id}")
    /// }
    ///
    /// # stanchion::blocking::wait(async {
    /// let cache = LruCache::<u32, String>::new(100);
    /// assert_eq!(cache.get_or_load(&7, || query(7)).await, "product 7");
    /// assert_eq!(cache.get_or_load(&7, || query(8)).await, "product 7");
    /// assert_eq!(cache.stats().loads, 1);
    /// # });
    /// ```
    pub async fn get_or_load<Q, F, Fut>(&self, key: &Q, load: F) -> V
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
        V: Clone,
        F: FnOnce() -> Fut,
        Fut: Future<Output = V>,
    {
        unfailing(self.try_get_or_load(key, || Unfailing { future: load() }).await)
    }

    /// Returns the value of a key, which is loaded and stored if it is absent and `load` succeeds.
    ///
    /// Otherwise it works as [`get_or_load`](Self::get_or_load) does.
    ///
    /// # Cancel safety
    ///
    /// As that of [`get_or_load`](Self::get_or_load): if all callers time out before a load ends, the cache is never
    /// filled, unless they spawn the load.
    ///
    /// # Errors
    ///
    /// That of the load, which goes to all callers that wait for it and expect errors of the same type. Of the others
    /// one loads in its place, and the rest wait for that. It is not stored. A load that fails visits each of the
    /// waiting callers under the lock.
    ///
    /// # Panics
    ///
    /// When `load` does; the longest waiting caller loads in its place.
    ///
    /// # Deadlocks
    ///
    /// As with [`get_or_load`](Self::get_or_load).
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::LruCache;
    ///
    /// # stanchion::blocking::wait(async {
    /// let cache = LruCache::<String, u16>::new(100);
    /// let parsed = cache.try_get_or_load("eighty", || async { "eighty".parse::<u16>() }).await;
    /// assert!(parsed.is_err());
    /// assert!(cache.is_empty());
    /// # });
    /// ```
    pub async fn try_get_or_load<Q, F, Fut, E>(&self, key: &Q, load: F) -> Result<V, Arc<E>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
        V: Clone,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<V, E>>,
        E: Send + Sync + 'static,
    {
        let load = Guarded(Some(load));
        let place = self.locate(key);
        match self.first_look(place, key) {
            Ok(value) => Ok(Panics::of_drops([load]).resume_or(value)),
            Err(missing) => self.load(place, key, missing, load, |load| load(), None).await,
        }
    }

    /// The value, or what the caller needs to get it. A miss is not counted yet.
    #[inline(always)]
    fn first_look<Q>(&self, (shard, hash): Place<'_, K, V>, key: &Q) -> Result<V, Missing>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
        V: Clone,
    {
        let now = self.settings.now();
        let mut state = shard.lock();
        let State { shard, flights } = &mut *state;
        let Some(found) = shard.find(hash, key).filter(|&found| !shard.is_expired(found, now)) else {
            return Err(if flights.find(hash, key).is_some() { Missing::Waker } else { Missing::Key });
        };
        let value = shard.get(found, self.settings.idle_expires_at(now));
        shard.stats.hits += 1;
        Ok(value)
    }

    /// The value of a key, by a load if need be: the caller's own or another's. `thread` is the one that the caller
    /// blocks, if it does.
    async fn load<Q, F, Fut, E>(
        &self,
        place: Place<'_, K, V>,
        key: &Q,
        missing: Missing,
        mut load: Guarded<F>,
        begin: impl FnOnce(F) -> Fut,
        thread: Option<ThreadId>,
    ) -> Result<V, Arc<E>>
    where
        K: Borrow<Q>,
        Q: Eq + ToOwned<Owned = K> + ?Sized,
        V: Clone,
        Fut: Future<Output = Result<V, E>>,
        E: Send + Sync + 'static,
    {
        let leader = match self.lead_or_follow(place, key, missing, thread).await {
            Ok(leader) => leader,
            Err(answer) => return Panics::of_drops([load]).resume_or(answer),
        };
        let load = load.0.take().expect("a loader is called once");
        match (Loading { future: Some(begin(load)) }).await {
            Ok(value) => {
                let value = Guarded(Some(value));
                let appraisal = self.appraise_loaded(key, &value);
                Ok(leader.publish(value, appraisal))
            }
            Err(error) => Err(leader.fail(Arc::new(error))),
        }
    }

    /// Asks the callbacks about a value with a key that is made for this: the load's own is behind the lock.
    fn appraise_loaded<Q>(&self, key: &Q, value: &Guarded<V>) -> Appraisal
    where
        Q: ToOwned<Owned = K> + ?Sized,
    {
        if !self.settings.has_appraisers() {
            return Appraisal::DEFAULT;
        }
        let key = Guarded(Some(key.to_owned()));
        let entry = key.0.as_ref().zip(value.0.as_ref()).expect("both are in hand");
        self.settings.appraise(entry.0, entry.1)
    }

    /// A load to lead, unless there is an answer before.
    async fn lead_or_follow<'c, Q, E>(
        &'c self,
        place: Place<'c, K, V>,
        key: &Q,
        mut missing: Missing,
        thread: Option<ThreadId>,
    ) -> Result<Leader<'c, K, V, S>, Result<V, Arc<E>>>
    where
        K: Borrow<Q>,
        Q: Eq + ToOwned<Owned = K> + ?Sized,
        V: Clone,
        E: Send + Sync + 'static,
    {
        let mut call = Call { cache: self, place, key, errors: TypeId::of::<E>(), thread, is_counted: false };
        loop {
            let joined = poll_fn(|cx| Poll::Ready(call.join(missing, cx.waker())));
            let mut follower = match joined.await {
                Joined::Hit(value) => return Err(Ok(value)),
                Joined::Leads(leader) => return Ok(leader),
                Joined::Follows(follower) => follower,
            };
            match poll_fn(|cx| follower.poll(cx.waker(), thread)).await {
                Outcome::Value(value) => return Err(Ok(value)),
                Outcome::Error(error) => return Err(Err(error.downcast().expect("an error of the follower's type"))),
                Outcome::Lead => return Ok(follower.into_leader()),
                // Others do, too, and the first of them leads.
                Outcome::StartOver => missing = Missing::Waker,
            }
        }
    }
}

/// A call that loads if it misses.
struct Call<'c, 'k, K, V, S, Q: ?Sized> {
    cache: &'c LruCache<K, V, S>,
    place: Place<'c, K, V>,
    key: &'k Q,
    /// The type of the errors that it can take.
    errors: TypeId,
    /// The thread that it blocks, if it does.
    thread: Option<ThreadId>,
    /// Once it has been counted as a hit or a miss.
    is_counted: bool,
}

impl<'c, K, V, S, Q> Call<'c, '_, K, V, S, Q>
where
    K: Borrow<Q>,
    Q: Eq + ToOwned<Owned = K> + ?Sized,
    V: Clone,
{
    /// Looks the key up, and brings along what is missing, until the caller has a value or a part in a load.
    fn join(&mut self, mut missing: Missing, waker: &Waker) -> Joined<'c, K, V, S> {
        let mut own_key = Guarded(None);
        loop {
            // What is made without the lock: everything is looked at again then.
            let waker = match missing {
                Missing::Waker => TaskWaker::cloned(waker),
                Missing::Key => {
                    own_key.0 = Some(self.key.to_owned());
                    TaskWaker::new(waker)
                }
            };
            let mut deferred = Deferred::new();
            let found = waker.poll_with(|waker| self.look_up(&mut own_key, waker, &mut deferred));
            if matches!(found, Lookup::Joined(_)) {
                // Made in vain, unless the load has it.
                deferred.removed.extend(own_key.0.take().map(Part::Key));
            }
            match self.cache.finish(deferred, self.place.0, found) {
                Lookup::Joined(joined) => return joined,
                Lookup::MissingKey => missing = Missing::Key,
                Lookup::Expired => {}
                Lookup::OwnKey => panic!("a loader asks for its own key: it would wait for itself for ever"),
            }
        }
    }

    /// Looks at the shard once, under its lock.
    fn look_up(
        &mut self,
        own_key: &mut Guarded<K>,
        waker: &mut TaskWaker<'_>,
        deferred: &mut Deferred<K, V>,
    ) -> Result<Lookup<'c, K, V, S>, NeedsClone> {
        let (locked, hash) = self.place;
        let settings = &self.cache.settings;
        let now = settings.now();
        let mut state = locked.lock();
        let Some(found) = state.shard.find(hash, self.key) else {
            return self.join_load(&mut state, own_key, waker);
        };
        let shard = &mut state.shard;
        if shard.is_expired(found, now) {
            // It is reported before anything else: if that panics, the caller has no part in a load.
            shard.live(Some(found), now, &mut deferred.removed);
            return Ok(Lookup::Expired);
        }
        let value = shard.get(found, settings.idle_expires_at(now));
        shard.stats.hits += self.count();
        Ok(Lookup::Joined(Joined::Hit(value)))
    }

    /// Follows the load in flight, or begins one.
    fn join_load(
        &mut self,
        State { shard, flights }: &mut State<K, V>,
        own_key: &mut Guarded<K>,
        waker: &mut TaskWaker<'_>,
    ) -> Result<Lookup<'c, K, V, S>, NeedsClone> {
        let &mut Call { cache, place: (locked, hash), key, errors, thread, .. } = self;
        let joined = if let Some(load) = flights.find(hash, key) {
            if thread.is_some() && flights.leading_thread(load) == thread {
                return Ok(Lookup::OwnKey);
            }
            let waiter = flights.follow(load, errors, waker.take()?);
            Joined::Follows(Follower { cache, locked, load, waiter, is_member: true })
        } else {
            let Some(key) = own_key.0.take() else { return Ok(Lookup::MissingKey) };
            // First, since it panics at the limit of loads.
            let load = flights.begin(hash, key, thread);
            shard.stats.loads += 1;
            Joined::Leads(Leader { cache, locked, load, is_member: true })
        };
        shard.stats.misses += self.count();
        Ok(Lookup::Joined(joined))
    }

    /// Returns one at first and zero later: a call is one hit or one miss, however often it looks.
    fn count(&mut self) -> u64 {
        u64::from(!mem::replace(&mut self.is_counted, true))
    }
}

/// What a caller that misses must bring along.
#[derive(Clone, Copy)]
enum Missing {
    /// No load is in flight: a key, to lead one.
    Key,
    /// A load is in flight: a waker, to follow it.
    Waker,
}

/// The outcome of a look at the shard.
enum Lookup<'c, K, V, S> {
    Joined(Joined<'c, K, V, S>),
    /// An entry had expired, and was removed.
    Expired,
    /// No load is in flight, and the caller has brought no key to lead one.
    MissingKey,
    /// This thread leads the load already.
    OwnKey,
}

enum Joined<'c, K, V, S> {
    Hit(V),
    Leads(Leader<'c, K, V, S>),
    Follows(Follower<'c, K, V, S>),
}

/// The caller that runs its loader. Dropping it abandons the load.
struct Leader<'c, K, V, S> {
    cache: &'c LruCache<K, V, S>,
    locked: &'c Locked<K, V>,
    load: Key,
    /// Until it has left the load.
    is_member: bool,
}

/// A caller that waits for a leader. Dropping it cancels the wait.
struct Follower<'c, K, V, S> {
    cache: &'c LruCache<K, V, S>,
    locked: &'c Locked<K, V>,
    load: Key,
    waiter: Key,
    /// Until it has left the load, or leads it.
    is_member: bool,
}

impl<K, V, S> Leader<'_, K, V, S> {
    /// Publishes a value, which is stored if nothing has happened to the key since the load began.
    fn publish(mut self, mut value: Guarded<V>, appraisal: Appraisal) -> V
    where
        K: Eq,
        V: Clone,
    {
        let terms = self.cache.settings.terms(appraisal);
        let copy = || value.0.clone().expect("it is in hand until the end");
        let mut to_store = Guarded(Some(copy()));
        let mut deferred = Deferred::new();
        {
            let mut state = self.locked.lock();
            let State { shard, flights } = &mut *state;
            let (hash, key) = flights.registration(self.load);
            let found = key.and_then(|key| shard.find(hash, key));
            let for_followers = flights.is_awaited(self.load).then(copy);
            // No user code from here on.
            self.is_member = false;
            let found = shard.live(found, terms.now, &mut deferred.removed);
            let unused = match (flights.unregister(self.load), to_store.0.take()) {
                (Some(key), Some(value)) => shard.insert(found, hash, (key, value), terms, &mut deferred.removed),
                (_, value) => value,
            };
            deferred.removed.extend(unused.map(Part::Value));
            flights.end(self.load, for_followers, &mut deferred);
            flights.leave(self.load, &mut deferred);
        }
        let value = value.0.take().expect("it is in hand until the end");
        self.cache.finish(deferred, self.locked, value)
    }

    /// Ends the load with an error, which goes to the followers that can take it.
    fn fail<E: Send + Sync + 'static>(mut self, error: Arc<E>) -> Arc<E> {
        self.is_member = false;
        let mut deferred = Deferred::new();
        {
            let mut state = self.locked.lock();
            let State { shard, flights } = &mut *state;
            shard.stats.load_failures += 1;
            flights.fail(self.load, &error, &mut deferred);
            flights.leave(self.load, &mut deferred);
        }
        self.cache.finish(deferred, self.locked, error)
    }
}

impl<K, V, S> Drop for Leader<'_, K, V, S> {
    fn drop(&mut self) {
        if !self.is_member {
            return;
        }
        let mut deferred = Deferred { is_loud: true, ..Deferred::new() };
        {
            let flights = &mut self.locked.lock().flights;
            flights.abandon(self.load, &mut deferred);
            flights.leave(self.load, &mut deferred);
        }
        self.cache.finish(deferred, self.locked, ());
    }
}

impl<'c, K, V, S> Follower<'c, K, V, S> {
    fn poll(&mut self, waker: &Waker, thread: Option<ThreadId>) -> Poll<Outcome<V>>
    where
        V: Clone,
    {
        let mut deferred = Deferred::new();
        let served = TaskWaker::new(waker).poll_with(|waker| {
            let mut state = self.locked.lock();
            let State { shard, flights } = &mut *state;
            let served = flights.poll(self.load, self.waiter, waker, thread, &mut deferred)?;
            if let Poll::Ready((outcome, _)) = &served {
                self.is_member = false;
                shard.stats.loads += u64::from(matches!(outcome, Outcome::Lead));
            }
            Ok(served)
        });
        served.map(|(outcome, _remains)| self.cache.finish(deferred, self.locked, outcome))
    }

    /// A follower that was granted the lead.
    fn into_leader(self) -> Leader<'c, K, V, S> {
        Leader { cache: self.cache, locked: self.locked, load: self.load, is_member: true }
    }
}

impl<K, V, S> Drop for Follower<'_, K, V, S> {
    fn drop(&mut self) {
        if !self.is_member {
            return;
        }
        let mut deferred = Deferred { is_loud: true, ..Deferred::new() };
        let cancelled = self.locked.lock().flights.cancel(self.load, self.waiter, &mut deferred);
        let panics = Panics::of_drops(cancelled);
        self.cache.finish(deferred, self.locked, ());
        panics.resume();
    }
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
    struct Unfailing<F> {
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for Unfailing<F> {
    type Output = Result<F::Output, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().future.poll(cx).map(Ok)
    }
}

fn unfailing<V>(result: Result<V, Arc<Infallible>>) -> V {
    result.unwrap_or_else(|never| match *never {})
}
