//! A bounded pool that lends out objects which are costly to make.
//!
//! This file is the public interface. [`core`] has the state under the lock and every decision about it; [`job`],
//! creations and recyclings, which outlive the getters that drive them; [`get`] and [`turn`], the way of a getter to
//! its object; [`maintenance`], what keeps idle objects ready.
//!
//! **User code** runs without the lock: `create`, `recycle`, `is_broken`, the clock, each drop of an object, an error,
//! a future or a waker. The one exception is the predicate of `retain`, which ends before anything changes. Each call
//! decides under the lock, and then runs its [`Deferred`] work: drops, frees slots, wakes.

mod builder;
mod change;
mod closed;
mod core;
mod deferred;
mod get;
mod job;
mod maintenance;
mod manager;
mod object;
mod status;
mod turn;

use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::builder::Settings;
pub use self::builder::{Order, PoolBuilder};
pub use self::closed::PoolClosed;
use self::core::State;
use self::deferred::Signal;
pub use self::get::{Get, GetError, GetOwned};
use self::maintenance::Replenishing;
use self::manager::AlwaysFit;
pub use self::manager::{Fixed, Manager};
use self::object::Pooled;
pub use self::object::{Metrics, Object, OwnedObject};
pub use self::status::{PoolStats, Status};
use crate::panic::Guarded;
use crate::sync;

/// A fair async object pool.
///
/// [`get`](Self::get) takes an idle object, or creates one, or waits for one; dropping the [`Object`] returns it. The
/// pool needs no runtime, no timer and no task of its own: what it does, it does when it is called.
///
/// # Fairness
///
/// Getters are served in the order of their first polls. An object that is returned is granted to the first getter
/// under the lock, and no later one can take it. A getter that finds its object dead keeps its place.
///
/// # Creation
///
/// A getter that creates an object stays queued: if another object is returned first, it takes that, and its creation
/// stays pending for the next getter. So existing objects serve a short spike, and the pool is filled even if a
/// creation takes longer than any caller waits: each getter continues the creation that the last one left pending. If
/// that is not ready, the getter also begins one of its own, if there is room: a creation that hangs costs its slot and
/// nothing else.
///
/// A creation that fails is the error of the getter that drives it; its slot goes to the next. After a restart of the
/// database all idle objects may be dead. A getter then waits for one failed [`recycle`](Manager::recycle) and one
/// creation, however many are dead, and tries the next idle object at the same time. If an error shows that all
/// connections are lost, [`clear`](Self::clear) spares the others even that.
///
/// # Time
///
/// There is no timer inside. To limit the time of a `get`, use your runtime's timeout, or
/// [`blocking::wait_timeout`](crate::blocking::wait_timeout); giving up destroys nothing: the work that was begun stays
/// pending in its slot, and the next getter continues it. Lifetimes and idle timeouts are judged when an object is
/// taken and when it is returned. To have idle objects discarded sooner, checked, and kept in reserve, run
/// [`maintenance`](Self::maintenance).
///
/// # Memory ordering
///
/// Everything that happened before an object was returned happens before the end of the `get` that it serves next.
///
/// # Examples
///
/// ```
/// # stanchion::blocking::wait(async {
/// let pool = stanchion::Pool::from_objects([String::from("the only one")]);
/// let mut lent = pool.get().await?;
/// lent.push_str(", used");
/// assert!(pool.try_get().is_none());
/// drop(lent);
/// assert_eq!(*pool.get().await?, "the only one, used");
/// # Ok::<(), stanchion::GetError<std::convert::Infallible>>(())
/// # }).unwrap();
/// ```
///
#[doc = include_str!("pool/recipes.md")]
pub struct Pool<M: Manager> {
    manager: Arc<M>,
    settings: Settings,
    state: sync::Mutex<State<M>>,
    /// Notified when idle objects run short, and when the pool is closed or dropped.
    upkeep: Signal,
    /// Notified when the pool is closed and empty.
    drained: Signal,
}

impl<M: Manager> Pool<M> {
    fn new(manager: Arc<M>, settings: Settings, max_size: usize, draw: u64) -> Self {
        let state = sync::Mutex::new(State::new(max_size, draw));
        Self { manager, settings, state, upkeep: Signal::default(), drained: Signal::default() }
    }

    /// Returns a builder of a pool.
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::{GetError, Manager, Pool};
    /// use std::convert::Infallible;
    /// use std::time::Duration;
    ///
    /// struct Buffers;
    ///
    /// impl Manager for Buffers {
    ///     type Object = Vec<u8>;
    ///     type Error = Infallible;
    ///
    ///     async fn create(&self) -> Result<Vec<u8>, Infallible> {
    ///         Ok(Vec::with_capacity(1 << 16))
    ///     }
    /// }
    ///
    /// # stanchion::blocking::wait(async {
    /// let pool = Pool::builder(Buffers).max_size(2).idle_timeout(Duration::from_secs(60)).build();
    /// let buffer = pool.get().await?;
    /// assert_eq!(buffer.capacity(), 1 << 16);
    /// assert_eq!(pool.status().size, 1);
    /// # drop(buffer);
    /// # Ok::<(), GetError<Infallible>>(())
    /// # }).unwrap();
    /// ```
    pub fn builder(manager: M) -> PoolBuilder<M> {
        PoolBuilder::new(manager)
    }

    /// Gets an object: an idle one, one that is returned while this waits, or a new one.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up its place among the waiting getters, and destroys no healthy object; see [`Get`].
    ///
    /// # Errors
    ///
    /// When the pool is closed, when [too many](PoolBuilder::max_waiting) getters wait already, and when the object
    /// that this one was to get could not be created.
    ///
    /// # Examples
    ///
    /// ```
    /// # stanchion::blocking::wait(async {
    /// let pool = stanchion::Pool::from_objects([1, 2]);
    /// let sum = *pool.get().await? + *pool.get().await?;
    /// assert_eq!(sum, 3);
    /// # Ok::<(), stanchion::GetError<std::convert::Infallible>>(())
    /// # }).unwrap();
    /// ```
    #[inline]
    pub fn get(&self) -> Get<'_, M> {
        Get::new(self)
    }

    /// Gets an object that keeps the pool alive and can be moved anywhere; otherwise as [`get`](Self::get).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// # stanchion::blocking::wait(async {
    /// let pool = Arc::new(stanchion::Pool::from_objects([7]));
    /// let lent = Arc::clone(&pool).get_owned().await?;
    /// assert_eq!(std::thread::spawn(move || *lent).join().unwrap(), 7);
    /// assert_eq!(pool.status().idle, 1);
    /// # Ok::<(), stanchion::GetError<std::convert::Infallible>>(())
    /// # }).unwrap();
    /// ```
    #[inline]
    pub fn get_owned(self: Arc<Self>) -> GetOwned<M> {
        GetOwned::new(self)
    }

    /// Gets an idle object that is recycled at once, while no getter waits.
    ///
    /// This never waits or creates, and begins to recycle at most one object. If that is not ready, it stays pending in
    /// the pool, for the next call or getter.
    ///
    /// # Panics
    ///
    /// When [`recycle`](Manager::recycle) does, after the object was discarded.
    ///
    /// # Examples
    ///
    /// ```
    /// let pool = stanchion::Pool::from_objects([7]);
    /// let lent = pool.try_get().unwrap();
    /// assert!(pool.try_get().is_none());
    /// assert_eq!(*lent, 7);
    /// ```
    pub fn try_get(&self) -> Option<Object<'_, M>> {
        self.try_take().map(|pooled| Object::new(self, pooled))
    }

    /// Gets an idle object that keeps the pool alive; otherwise as [`try_get`](Self::try_get).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// let pool = Arc::new(stanchion::Pool::from_objects([7]));
    /// let lent = Arc::clone(&pool).try_get_owned().unwrap();
    /// assert_eq!(std::thread::spawn(move || *lent).join().unwrap(), 7);
    /// ```
    pub fn try_get_owned(self: Arc<Self>) -> Option<OwnedObject<M>> {
        self.try_take().map(|pooled| OwnedObject::new(self, pooled))
    }

    /// Adds an object that was made elsewhere.
    ///
    /// # Errors
    ///
    /// Gives the object back when the pool is closed or full.
    ///
    /// # Panics
    ///
    /// With the first panic of a waker, after the object was added.
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::{Object, Pool};
    ///
    /// let pool = Pool::from_objects(["old"]);
    /// assert_eq!(pool.add("new"), Err("new"));
    /// Object::discard(pool.try_get().unwrap());
    /// assert_eq!(pool.add("new"), Ok(()));
    /// ```
    pub fn add(&self, object: M::Object) -> Result<(), M::Object> {
        // The clock may panic.
        let mut object = Guarded(Some(object));
        let now = self.now();
        let object = object.0.take().expect("the object was not taken yet");
        let mut pooled = Box::new(Pooled::new(object, 0, now));
        let refused = self.change(|state, deferred| {
            if state.closed || state.size() >= state.max_size {
                return Some(pooled);
            }
            pooled.generation = state.generation;
            state.register(&mut pooled, &self.settings);
            state.deliver(pooled, deferred);
            None
        });
        refused.map_or(Ok(()), |pooled| Err(pooled.object))
    }

    /// Sets the number of objects that there may be. On a closed pool this has no effect.
    ///
    /// Growing serves getters that wait. Shrinking discards pending work and idle objects at once, and objects in use
    /// when they are returned. With 0 no getter is served until the pool grows again, except for
    /// those that have been granted an object or are creating one. Takes time in proportion to the
    /// difference.
    ///
    /// # Panics
    ///
    /// With the first panic of an object's drop or of a waker, after everything was done.
    ///
    /// # Examples
    ///
    /// ```
    /// let pool = stanchion::Pool::from_objects([1, 2, 3]);
    /// let lent = pool.try_get().unwrap();
    /// pool.resize(0); // Two are discarded now, ...
    /// assert_eq!((pool.status().idle, pool.status().in_use), (0, 1));
    /// drop(lent); // ... and the third when it is returned.
    /// assert_eq!(pool.status().size, 0);
    /// ```
    pub fn resize(&self, max_size: usize) {
        self.change(|state, deferred| state.resize(max_size, deferred));
    }

    /// Removes the idle objects for which the predicate returns `false` and returns them, which makes room for others.
    ///
    /// The predicate runs under the lock of the pool and must not use it. Takes time in proportion to the idle objects.
    ///
    /// # Panics
    ///
    /// When the predicate does. Then nothing has changed.
    ///
    /// # Examples
    ///
    /// ```
    /// let pool = stanchion::Pool::from_objects(1..=4);
    /// assert_eq!(pool.retain(|object, _| object % 2 == 0), [1, 3]);
    /// assert_eq!(pool.status().size, 2);
    /// ```
    pub fn retain(&self, mut keep: impl FnMut(&M::Object, &Metrics) -> bool) -> Vec<M::Object> {
        let taken = self.change(|state, _| {
            let kept: Vec<bool> = state.idle.iter().map(|pooled| keep(&pooled.object, &pooled.metrics)).collect();
            state.take_idle_unless(|index, _| kept[index])
        });
        taken.into_iter().map(|pooled| pooled.object).collect()
    }

    /// Discards all objects that there are: idle ones and pending work now, others when they are returned.
    ///
    /// An object that is being created, or is recycled in a single poll, is handed out once more and then discarded. If
    /// its recycling takes longer, the object is discarded at the end of that. Creations that begin later are not
    /// affected. Takes time in proportion to the idle objects.
    ///
    /// # Panics
    ///
    /// With the first panic of an object's drop or of a waker, after everything was done.
    ///
    /// # Examples
    ///
    /// ```
    /// let pool = stanchion::Pool::from_objects(["stale", "stale, too"]);
    /// let lent = pool.try_get().unwrap();
    /// pool.clear();
    /// drop(lent);
    /// assert_eq!(pool.status().size, 0);
    /// assert_eq!(pool.add("fresh"), Ok(()));
    /// ```
    pub fn clear(&self) {
        self.change(State::clear);
    }

    /// Discards the idle objects and pending work that have expired at `now`, and returns when to call next.
    ///
    /// For pools that are driven by hand; [`maintenance`](Self::maintenance) does this, too. The idle timeout leaves
    /// [`min_idle`](PoolBuilder::min_idle) objects in the pool, and with that setting the next call is due in 30 s at
    /// the latest, followed by [`replenish`](Self::replenish). A pending creation is dropped when it was pending for an
    /// idle timeout. Takes time in proportion to the idle objects.
    ///
    /// Returns `None` when nothing will ever have to be done: the pool has none of these settings, or is closed. With
    /// an idle timeout or lifetime of zero the returned instant has always passed: do not call this in a loop then.
    ///
    /// # Panics
    ///
    /// With the first panic of an object's drop or of a waker, after everything was done.
    ///
    /// # Examples
    ///
    /// ```
    /// # use stanchion::{Manager, Pool};
    /// # struct Numbers;
    /// # impl Manager for Numbers {
    /// #     type Object = u32;
    /// #     type Error = std::convert::Infallible;
    /// #     async fn create(&self) -> Result<u32, Self::Error> { Ok(0) }
    /// # }
    /// # stanchion::blocking::wait(async {
    /// use std::time::{Duration, Instant};
    ///
    /// let pool = Pool::builder(Numbers).idle_timeout(Duration::from_secs(60)).build();
    /// drop(pool.get().await);
    /// let next = pool.maintain(Instant::now());
    /// assert_eq!((pool.status().idle, next.is_some()), (1, true));
    /// pool.maintain(Instant::now() + Duration::from_secs(61));
    /// assert_eq!(pool.status().idle, 0);
    /// # });
    /// ```
    pub fn maintain(&self, now: Instant) -> Option<Instant> {
        self.change(|state, deferred| state.maintain(now, &self.settings, deferred))
    }

    /// Creates objects, one after another, until [`min_idle`](PoolBuilder::min_idle) are idle or the pool is full or
    /// closed.
    ///
    /// This fills a pool before it is first used. [`close`](Self::close) does not wake it: it ends when its creation
    /// does. It leaves creating to the getters if any wait, and what others create already counts as idle. A pending
    /// creation is taken up first; if that makes no progress, another is begun beside it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves its creation pending in the pool.
    ///
    /// # Errors
    ///
    /// With the first object that cannot be created.
    ///
    /// # Panics
    ///
    /// When [`create`](Manager::create) does; its slot is free then.
    ///
    /// # Examples
    ///
    /// ```
    /// # use stanchion::{Manager, Pool};
    /// # struct Numbers;
    /// # impl Manager for Numbers {
    /// #     type Object = u32;
    /// #     type Error = std::convert::Infallible;
    /// #     async fn create(&self) -> Result<u32, Self::Error> { Ok(0) }
    /// # }
    /// # stanchion::blocking::wait(async {
    /// let pool = Pool::builder(Numbers).min_idle(3).build();
    /// pool.replenish().await?;
    /// assert_eq!(pool.status().idle, 3);
    /// # Ok::<(), std::convert::Infallible>(())
    /// # }).unwrap();
    /// ```
    pub fn replenish(&self) -> impl Future<Output = Result<(), M::Error>> + Send {
        let mut replenishing = Replenishing::new(self);
        poll_fn(move |cx| replenishing.poll(cx))
    }

    /// Returns a future that maintains the pool for as long as it lives. Spawn it, with your runtime's `sleep`.
    ///
    /// - It keeps [`min_idle`](PoolBuilder::min_idle) objects idle: it creates more whenever `get`s or the end of
    ///   lifetimes leave fewer, within [`max_creating`](PoolBuilder::max_creating). A failure is retried after 100 ms,
    ///   then 200 ms, up to 30 s; a creation without progress for 3 s, later up to 30 s, no longer counts, and another
    ///   is begun beside it.
    /// - It discards what has expired, as [`maintain`](Self::maintain) does.
    /// - It recycles objects that were idle for the [`keepalive`](PoolBuilder::keepalive), one at a time and in place.
    ///
    /// It ends when the pool is closed or its last owner is gone: it does not keep the pool alive. A panic of the
    /// manager costs the attempt, not the maintenance. In a thread, run
    /// `blocking::wait(Pool::maintenance(&pool, |time| async move { std::thread::sleep(time) }))`, which reacts after
    /// its sleep. If sleeps take no time, it acts only when the pool changes.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves its creations and recyclings pending in the pool.
    ///
    /// # Deadlocks
    ///
    /// Its waker is woken and dropped under a lock that only the maintenance of this pool shares: it must not use the
    /// pool, nor poll or drop another maintenance of it. A panic of that waker is discarded.
    ///
    /// # Panics
    ///
    /// When `sleep` or its future does.
    ///
    /// # Examples
    ///
    /// ```
    /// # use stanchion::{Manager, Pool};
    /// # struct Numbers;
    /// # impl Manager for Numbers {
    /// #     type Object = u32;
    /// #     type Error = std::convert::Infallible;
    /// #     async fn create(&self) -> Result<u32, Self::Error> { Ok(0) }
    /// # }
    /// use std::sync::Arc;
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let pool = Arc::new(Pool::builder(Numbers).min_idle(3).build());
    /// tokio::spawn(Pool::maintenance(&pool, tokio::time::sleep));
    /// tokio::task::yield_now().await;
    /// assert_eq!(pool.status().idle, 3);
    /// # });
    /// ```
    pub fn maintenance<S, F>(pool: &Arc<Self>, sleep: S) -> impl Future<Output = ()> + use<M, S, F>
    where
        S: FnMut(Duration) -> F,
        F: Future,
    {
        maintenance::maintain(Arc::downgrade(pool), sleep)
    }

    /// Closes the pool: fails waiting and later getters, and discards all objects, those in use when they are returned.
    ///
    /// A getter that was granted an object before still gets it, also if it is recycling that; the creation of any
    /// other is dropped. Takes time in proportion to the idle objects and getters.
    ///
    /// # Panics
    ///
    /// With the first panic of an object's drop or of a waker, after everything was done.
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::{GetError, Pool};
    ///
    /// # stanchion::blocking::wait(async {
    /// let pool = Pool::from_objects([7]);
    /// pool.close();
    /// assert_eq!(pool.get().await.unwrap_err(), GetError::Closed);
    /// assert_eq!(pool.status().size, 0);
    /// # });
    /// ```
    pub fn close(&self) {
        let panics = self.change_and_catch(State::close).1;
        self.upkeep.notify();
        panics.resume();
    }

    /// Returns `true` if the pool was closed.
    ///
    /// # Examples
    ///
    /// ```
    /// let pool = stanchion::Pool::from_objects([7]);
    /// pool.close();
    /// assert!(pool.is_closed());
    /// ```
    pub fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// Waits until the pool is closed and all its objects were returned and dropped.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect on the pool.
    ///
    /// # Examples
    ///
    /// ```
    /// # stanchion::blocking::wait(async {
    /// let pool = stanchion::Pool::from_objects([0]);
    /// let lent = pool.try_get().unwrap();
    /// pool.close();
    /// std::thread::scope(|scope| {
    ///     scope.spawn(|| drop(lent));
    /// });
    /// pool.closed().await;
    /// assert_eq!(pool.status().size, 0);
    /// # });
    /// ```
    pub fn closed(&self) -> PoolClosed<'_, M> {
        PoolClosed::new(self)
    }

    /// Returns a consistent snapshot of what the pool holds.
    ///
    /// # Examples
    ///
    /// ```
    /// let pool = stanchion::Pool::from_objects([1, 2]);
    /// let lent = pool.try_get();
    /// let status = pool.status();
    /// assert_eq!((status.size, status.idle, status.in_use), (2, 1, 1));
    /// # drop(lent);
    /// ```
    pub fn status(&self) -> Status {
        self.state.lock().status()
    }

    /// Returns counts of what has happened since the pool was built.
    ///
    /// # Examples
    ///
    /// ```
    /// let pool = stanchion::Pool::from_objects([7]);
    /// drop(pool.try_get());
    /// assert_eq!(pool.stats().gets, 1);
    /// ```
    pub fn stats(&self) -> PoolStats {
        self.state.lock().stats
    }

    /// Returns the manager of the pool.
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::{Manager, Pool};
    /// use std::sync::atomic::{AtomicU32, Ordering};
    ///
    /// #[derive(Default)]
    /// struct Numbers(AtomicU32);
    ///
    /// impl Manager for Numbers {
    ///     type Object = u32;
    ///     type Error = std::convert::Infallible;
    ///
    ///     async fn create(&self) -> Result<u32, Self::Error> {
    ///         Ok(self.0.fetch_add(1, Ordering::Relaxed))
    ///     }
    /// }
    ///
    /// # stanchion::blocking::wait(async {
    /// let pool = Pool::builder(Numbers::default()).build();
    /// drop(pool.get().await);
    /// assert_eq!(pool.manager().0.load(Ordering::Relaxed), 1);
    /// # });
    /// ```
    pub fn manager(&self) -> &M {
        &self.manager
    }

    /// Checks every invariant of the state; for tests, and not part of the public interface.
    ///
    /// # Panics
    ///
    /// When one does not hold.
    #[doc(hidden)]
    pub fn validate(&self) {
        self.state.lock().validate(&self.settings);
    }
}

impl<T: Send + 'static> Pool<Fixed<T>> {
    /// Creates a pool of these objects, with room for as many and no more. It never creates one.
    ///
    /// An object that is discarded or detached leaves room, to be filled by [`add`](Self::add); getters wait for that.
    ///
    /// # Examples
    ///
    /// ```
    /// # stanchion::blocking::wait(async {
    /// let ports = stanchion::Pool::from_objects(8000..8004);
    /// let port = ports.get().await?;
    /// assert!((8000..8004).contains(&*port));
    /// assert_eq!(ports.status().idle, 3);
    /// # drop(port);
    /// # Ok::<(), stanchion::GetError<std::convert::Infallible>>(())
    /// # }).unwrap();
    /// ```
    #[allow(clippy::missing_panics_doc)] // There is room for each of the objects.
    pub fn from_objects(objects: impl IntoIterator<Item = T>) -> Self {
        let objects: Vec<_> = objects.into_iter().collect();
        let pool = Self::new(Arc::new(Fixed::new()), Settings::new::<Fixed<T>>(false), objects.len(), 0);
        for object in objects {
            assert!(pool.add(object).is_ok(), "the pool is as large as its objects are many");
        }
        pool
    }
}

// No user code runs while the state is inconsistent, so a panic cannot be seen in it.
impl<M: Manager> UnwindSafe for Pool<M> {}
impl<M: Manager> RefUnwindSafe for Pool<M> {}

impl<M: Manager> fmt::Debug for Pool<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Formatting must not block, and what it writes to is user code.
        let seen = self.state.try_lock().map(|state| (state.status(), state.closed));
        let mut debug = f.debug_struct("Pool");
        match seen {
            Some((status, closed)) => debug.field("status", &status).field("closed", &closed).finish_non_exhaustive(),
            None => debug.finish_non_exhaustive(),
        }
    }
}
