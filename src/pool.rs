//! A bounded pool: objects that are costly to make are lent out, and come back.
//!
//! One lock is around the idle objects, those who wait, and four counts. A *slot* is the right to have an object; there are
//! `max_size` of them. Each is owned by whoever has the object, or the creation, that it stands for, and is counted once:
//!
//! | a slot is | owned by | comes next |
//! |---|---|---|
//! | free | nobody | creating |
//! | `creating` | a [`Creation`], in the hand of a getter or of `replenish`, granted to a getter, or left behind in the pool | in use; free; leaving |
//! | idle | the pool | in use; free (taken out by `retain`); leaving |
//! | `in_use` | a user's `Object`; a getter that recycles it; a grant that was not collected yet | idle; in use by the next; leaving |
//! | leaving (still counted as before) | who drops the object or the creation, without the lock | free |
//!
//! A slot is free only when what it stood for has been dropped, or has left the pool for good; so the pool never has more
//! than `max_size` objects alive. What may panic in between is run with the slot in a guard ([`Leaving`]) that frees it.
//!
//! **The line.** Getters stand in the order of their first polls, in two parts: the *creators*, who have a creation, and
//! behind them those who wait for want of one. An object that comes back goes to the first creator, else to the first who
//! waits, else it is idle. A slot that comes free, and a creation that was left behind, goes to the first who waits, who
//! thereby becomes the last of the creators: so the order is kept (but for those who come back from a dead object). A
//! creator that gets an object leaves its creation behind once it has that object for sure; so does one that is dropped.
//! Nobody polls what was left behind while nobody waits; the next who would create goes on with it.
//!
//! **Who wakes whom.** Whatever frees a slot or leaves a creation behind ends in `settle`, whatever brings an object in
//! `deliver`; if an object is idle, nobody is there to be served. All are woken after the lock is released, after foreign
//! code was dropped.
//!
//! Invariants, whenever the lock is free: if an object is idle, nobody is in the line; if somebody waits, no creation is
//! left behind and none may be begun; size = idle + in use + creating <= `max_size`, unless that was lowered.
//!
//! **Foreign code** runs without the lock: `create`, `recycle`, `is_broken`, the clock, every drop of what is the user's. The
//! one exception is the predicate of `retain`, which is through before anything changes.

mod creation;
mod getting;
mod object;
mod recycling;
mod state;

use std::convert::Infallible;
use std::fmt;
use std::future::{Future, pending, poll_fn};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::marker::PhantomData;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use self::creation::{Creation, Progress};
use self::getting::Getting;
use self::object::Pooled;
pub use self::object::{Metrics, Object, OwnedObject};
use self::state::{Aftermath, State};
use crate::arena::Key;
use crate::panic::{Guarded, Panics};
use crate::sync::{self, Exclusive, MutexGuard};
use crate::wait_list::TaskWaker;

/// Makes the objects of a [`Pool`], and says whether they are still good.
///
/// None of these is called under a lock of the pool. Each may panic: then the object is discarded, and its room given to
/// the next.
///
/// # Examples
///
/// ```
/// use stanchion::{Manager, Metrics, Pool, blocking};
/// use std::net::{TcpListener, TcpStream};
///
/// struct Connect(std::net::SocketAddr);
///
/// impl Manager for Connect {
///     type Object = TcpStream;
///     type Error = std::io::Error;
///
///     async fn create(&self) -> std::io::Result<TcpStream> {
///         TcpStream::connect(self.0)
///     }
///
///     async fn recycle(&self, stream: &mut TcpStream, _: &Metrics) -> std::io::Result<()> {
///         stream.take_error()?.map_or(Ok(()), Err)
///     }
/// }
///
/// let server = TcpListener::bind("127.0.0.1:0")?;
/// let pool = Pool::builder(Connect(server.local_addr()?)).max_size(4).build();
/// let stream = blocking::wait(pool.get()).unwrap();
/// assert_eq!(stream.peer_addr()?, server.local_addr()?);
/// # std::io::Result::Ok(())
/// ```
pub trait Manager: Send + Sync + 'static {
    /// What is pooled.
    type Object: Send + 'static;

    /// Why an object could not be created, or is not to be reused.
    type Error: Send + 'static;

    /// Creates an object.
    ///
    /// A getter that is served by a returned object before, or dropped, leaves its creation behind, and the next one that
    /// would create, or [`replenish`](Pool::replenish), goes on with it. So this future may be moved to another task, rest
    /// for a while without being polled, and be dropped at any await. Limit its time in here: nobody else can tell a slow
    /// creation from one that hangs, which would be handed from getter to getter until the pool is [cleared](Pool::clear).
    /// A creation that is found to have failed while it rested is not reported, but begun again; the object of one that is
    /// found to have succeeded is [recycled](Self::recycle) before it is handed out.
    fn create(&self) -> impl Future<Output = Result<Self::Object, Self::Error>> + Send;

    /// Makes an object fit for its next use, when it has been got out of the pool and before it is handed out.
    ///
    /// If this fails, or is dropped, because its getter was, the object is discarded; the error is dropped. (A future of no
    /// more than a byte that is not ready at its first poll is dropped, and `recycle` called once more: do the work in the
    /// future, as an `async fn` does.) The getter then goes on with another idle object, if there is one, and creates one at
    /// the same time. Limit its time in here, well below what callers wait: one that gives up meanwhile has rid the pool of
    /// one dead object only.
    fn recycle(
        &self,
        object: &mut Self::Object,
        metrics: &Metrics,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send {
        let _ = (object, metrics);
        async { Ok(()) }
    }

    /// Whether an object that is being returned cannot be used again. It is discarded then.
    ///
    /// Runs in the drop of [`Object`], on whichever thread that happens: it should be quick, and needs no runtime.
    fn is_broken(&self, object: &mut Self::Object) -> bool {
        let _ = object;
        false
    }
}

/// Lends objects out, and creates them when they are needed, up to a maximum.
///
/// A [`get`](Self::get) takes an idle object, or creates one, or waits for one; dropping the [`Object`] returns it. The
/// pool needs no runtime, no timer and no task of its own: what it does, it does when it is called.
///
/// # Fairness
///
/// Getters are served in the order in which they were first polled. An object that is returned goes to the first in line,
/// under the lock; nobody who comes later can take it. One who was given an object that proves dead goes to the front of
/// those who create, or, if it may not create yet, of those who wait for that.
///
/// # Creation
///
/// A getter that creates an object keeps its place in the line: if another one is returned before, it takes that, and leaves
/// its creation behind for the next getter that would create. So a short spike is served by the objects that there are, and
/// callers with a timeout that is shorter than a creation still get the pool filled, together. At most 8 objects, or as many
/// as there are already, are created at a time: the pool grows by doubling, and a database that has just come back is not
/// met by all at once. Whoever is over that limit waits, for an object or for the right to create one.
///
/// A creation that fails is its getter's error, and its slot goes to the next. Should all idle objects be dead, because
/// the database was restarted, a getter waits for one failed [`recycle`](Manager::recycle), then for its turn to create,
/// and for one creation, beside which it tries the next object; for no more, however many are dead. (One that proves dead
/// though its creation had only been left behind costs it another.) If an error shows that
/// all connections are lost, [`clear`](Self::clear) spares the others even that.
///
/// # Time
///
/// There is no timer inside. For a limit to the time of a `get`, use your runtime's timeout, or
/// [`blocking::wait_timeout`](crate::blocking::wait_timeout). Lifetimes are judged when an object is got and when it is
/// returned; to have idle objects discarded sooner, and the pool refilled, run this beside it:
///
/// ```
/// # use stanchion::{Manager, Pool};
/// # use std::{sync::Arc, time::Instant};
/// async fn look_after<M: Manager>(pool: Arc<Pool<M>>) {
///     while let Some(due) = pool.maintain(Instant::now()) {
///         let _ = pool.replenish().await; // an error here will be met by a `get` as well
///         tokio::time::sleep_until(due.into()).await;
///     }
/// }
/// ```
///
/// or, in a thread,
///
/// ```
/// # use stanchion::{Manager, Pool, blocking};
/// # use std::{sync::Arc, thread, time::Instant};
/// fn look_after<M: Manager>(pool: Arc<Pool<M>>) {
///     while let Some(due) = pool.maintain(Instant::now()) {
///         let _ = blocking::wait(pool.replenish());
///         thread::sleep(due.saturating_duration_since(Instant::now()));
///     }
/// }
/// ```
///
/// Both end at their next turn after the pool is closed, and at once if it has neither a lifetime nor an idle timeout.
///
/// # Memory ordering
///
/// What happened before an object was returned happens before the end of the `get` that it serves next.
///
/// # Examples
///
/// ```
/// use stanchion::{Pool, blocking};
///
/// let pool = Pool::from_objects([String::from("the only one")]);
/// let mut lent = blocking::wait(pool.get()).unwrap();
/// lent.push_str(", used");
/// assert!(pool.try_get().is_none());
/// drop(lent);
/// assert_eq!(*pool.try_get().unwrap(), "the only one, used");
/// ```
pub struct Pool<M: Manager> {
    manager: Arc<M>,
    settings: Settings,
    state: sync::Mutex<State<M>>,
}

/// What a [`Pool`] is going to be like.
#[must_use = "a builder does nothing before it builds"]
pub struct PoolBuilder<M> {
    manager: M,
    max_size: usize,
    settings: Settings,
}

/// Which idle object is used next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The one that was returned last: a few are used much, the others may reach their idle timeout.
    #[default]
    Lifo,
    /// The one that was idle for longest: all are used alike.
    Fifo,
}

/// What a [`Pool`] holds at one moment: `size` = `idle` + `in_use` + `creating`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// How many objects there may be.
    pub max_size: usize,
    /// How many slots are taken; above `max_size` only while the pool shrinks.
    pub size: usize,
    /// Objects that are ready to be got.
    pub idle: usize,
    /// Objects that are out, being recycled, on their way to who waited for them, or being dropped by the pool.
    pub in_use: usize,
    /// Objects that are being created, or for which somebody has the right; also creations that were left behind.
    pub creating: usize,
    /// Getters that wait and do not create.
    pub waiting: usize,
}

/// Why a `get` got no object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GetError<E> {
    /// The pool is closed.
    Closed,
    /// As many as the pool allows wait already.
    TooManyWaiting,
    /// No object could be created.
    Create(E),
}

/// A future of [`Pool::get`].
///
/// # Cancel safety
///
/// Dropping it gives up the place in the line. An object that it was granted goes to the next; one that was being recycled
/// is discarded; a creation that was begun is left to the pool. Forgetting it, or keeping it without polling it on, may hold
/// an object back, and its creation holds up others who would create.
///
/// # Panics
///
/// When it is polled after it was ready. A panic of the manager, of the clock, or of what the pool drops meanwhile, comes
/// out of the poll; then the getter has given up its place (but for a clock that panics as the poll begins), and may be
/// polled again.
#[must_use = "futures do nothing unless polled"]
pub struct Get<'a, M: Manager>(Getting<&'a Pool<M>, M>);

/// A future of [`Pool::get_owned`].
///
/// # Cancel safety
///
/// As with [`Get`].
///
/// # Panics
///
/// As with [`Get`].
#[must_use = "futures do nothing unless polled"]
pub struct GetOwned<M: Manager>(Getting<Arc<Pool<M>>, M>);

/// A future of [`Pool::closed`].
///
/// # Cancel safety
///
/// Dropping it is safe at any time.
///
/// # Panics
///
/// When it is polled after it was ready.
#[must_use = "futures do nothing unless polled"]
pub struct PoolClosed<'a, M: Manager> {
    pool: &'a Pool<M>,
    waiter: Option<Key>,
    done: bool,
}

/// The manager of a pool that creates nothing: see [`Pool::from_objects`].
pub struct Fixed<T>(PhantomData<fn() -> T>);

/// What does not change while the pool lives.
struct Settings {
    order: Order,
    min_idle: usize,
    max_waiting: usize,
    max_lifetime: Option<Duration>,
    idle_timeout: Option<Duration>,
    recycle_after: Option<Duration>,
    /// `None` unless something asks for it.
    clock: Option<Clock>,
    /// Whether objects are created, and recycled.
    creates: bool,
}

type Clock = Box<dyn Fn() -> Instant + Send + Sync>;

impl<M: Manager> PoolBuilder<M> {
    /// How many objects there may be; 10 unless said otherwise.
    ///
    /// # Panics
    ///
    /// When it is 0.
    pub fn max_size(mut self, objects: usize) -> Self {
        assert!(objects > 0, "a pool without room would never serve anybody");
        self.max_size = objects;
        self
    }

    /// Up to how many idle objects [`Pool::replenish`] creates; 0 unless said otherwise.
    pub fn min_idle(mut self, objects: usize) -> Self {
        self.settings.min_idle = objects;
        self
    }

    /// How many getters may wait for an object to be returned, before others are refused; unlimited unless said otherwise.
    ///
    /// # Examples
    ///
    /// ```
    /// # use stanchion::{GetError, Manager, Pool, blocking};
    /// # struct Numbers;
    /// # impl Manager for Numbers {
    /// #     type Object = u32;
    /// #     type Error = std::convert::Infallible;
    /// #     async fn create(&self) -> Result<u32, Self::Error> { Ok(0) }
    /// # }
    /// let pool = Pool::builder(Numbers).max_size(1).max_waiting(0).build();
    /// let only = blocking::wait(pool.get()).unwrap();
    /// assert_eq!(blocking::wait(pool.get()).unwrap_err(), GetError::TooManyWaiting);
    /// # drop(only);
    /// ```
    pub fn max_waiting(mut self, getters: usize) -> Self {
        self.settings.max_waiting = getters;
        self
    }

    /// How long an object lives at most; for ever unless said otherwise. With zero none is used twice.
    ///
    /// Each object draws its end once, from 90 to 100 % of this after its creation, so that those made together do not
    /// end together.
    ///
    /// # Examples
    ///
    /// ```
    /// # use stanchion::{Manager, Pool, blocking};
    /// # struct Numbers;
    /// # impl Manager for Numbers {
    /// #     type Object = u32;
    /// #     type Error = std::convert::Infallible;
    /// #     async fn create(&self) -> Result<u32, Self::Error> { Ok(0) }
    /// # }
    /// use std::time::Duration;
    ///
    /// let pool = Pool::builder(Numbers).max_lifetime(Duration::ZERO).build();
    /// drop(blocking::wait(pool.get()).unwrap());
    /// assert_eq!(pool.status().idle, 0);
    /// ```
    pub fn max_lifetime(mut self, longest: Duration) -> Self {
        self.settings.max_lifetime = Some(longest);
        self
    }

    /// How long an object may be idle before it is discarded; for ever unless said otherwise. With zero none is used twice.
    pub fn idle_timeout(mut self, longest: Duration) -> Self {
        self.settings.idle_timeout = Some(longest);
        self
    }

    /// How long an object must have been idle to be recycled before it is used again; always unless said otherwise.
    ///
    /// # Examples
    ///
    /// ```
    /// # use stanchion::{Manager, Pool, blocking};
    /// # struct Numbers;
    /// # impl Manager for Numbers {
    /// #     type Object = u32;
    /// #     type Error = std::convert::Infallible;
    /// #     async fn create(&self) -> Result<u32, Self::Error> { Ok(0) }
    /// # }
    /// use std::time::Duration;
    ///
    /// let pool = Pool::builder(Numbers).recycle_after(Duration::from_secs(30)).build();
    /// drop(blocking::wait(pool.get()).unwrap());
    /// assert!(pool.try_get().is_some()); // it is fresh: nothing is to be recycled
    /// ```
    pub fn recycle_after(mut self, idle: Duration) -> Self {
        self.settings.recycle_after = Some(idle);
        self
    }

    /// Which idle object is used next; [`Order::Lifo`] unless said otherwise.
    pub fn order(mut self, order: Order) -> Self {
        self.settings.order = order;
        self
    }

    /// Where the time comes from, for tests that let it pass; [`Instant::now`] unless said otherwise.
    ///
    /// It is read only if a lifetime, an idle timeout or `recycle_after` is set.
    ///
    /// # Examples
    ///
    /// ```
    /// # use stanchion::{Manager, Pool, blocking};
    /// # struct Numbers;
    /// # impl Manager for Numbers {
    /// #     type Object = u32;
    /// #     type Error = std::convert::Infallible;
    /// #     async fn create(&self) -> Result<u32, Self::Error> { Ok(0) }
    /// # }
    /// use std::sync::atomic::{AtomicU64, Ordering};
    /// use std::time::{Duration, Instant};
    ///
    /// static SECONDS: AtomicU64 = AtomicU64::new(0);
    ///
    /// let start = Instant::now();
    /// let clock = move || start + Duration::from_secs(SECONDS.load(Ordering::Relaxed));
    /// let pool = Pool::builder(Numbers).idle_timeout(Duration::from_secs(60)).clock(clock).build();
    /// let first = blocking::wait(pool.get()).unwrap();
    /// assert_eq!(stanchion::Object::metrics(&first).uses, 1);
    /// drop(first);
    /// SECONDS.store(61, Ordering::Relaxed);
    /// let second = blocking::wait(pool.get()).unwrap();
    /// assert_eq!(stanchion::Object::metrics(&second).uses, 1); // it is another one
    /// ```
    pub fn clock(mut self, now: impl Fn() -> Instant + Send + Sync + 'static) -> Self {
        self.settings.clock = Some(Box::new(now));
        self
    }

    /// Makes the pool, without any object so far.
    pub fn build(self) -> Pool<M> {
        let Self { manager, max_size, mut settings } = self;
        let timed = [settings.max_lifetime, settings.idle_timeout, settings.recycle_after].iter().any(Option::is_some);
        settings.clock = if timed { settings.clock.or_else(|| Some(Box::new(Instant::now))) } else { None };
        let draw = RandomState::new().build_hasher().finish();
        Pool { manager: Arc::new(manager), settings, state: sync::Mutex::new(State::new(max_size, draw)) }
    }
}

impl<M: Manager> Pool<M> {
    /// Starts to build a pool.
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::{Manager, Pool, blocking};
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
    /// let pool = Pool::builder(Buffers).max_size(2).idle_timeout(Duration::from_secs(60)).build();
    /// let buffer = blocking::wait(pool.get()).unwrap();
    /// assert_eq!(buffer.capacity(), 1 << 16);
    /// assert_eq!(pool.status().size, 1);
    /// ```
    pub fn builder(manager: M) -> PoolBuilder<M> {
        PoolBuilder { manager, max_size: 10, settings: Settings::new(true) }
    }

    /// Gets an object: an idle one, one that is returned while this waits, or a new one.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the place in the line; see [`Get`].
    ///
    /// # Errors
    ///
    /// When the pool is closed, when [too many](PoolBuilder::max_waiting) wait already, and when the object that this one was
    /// to get could not be created.
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::{Pool, blocking};
    ///
    /// let pool = Pool::from_objects([1, 2]);
    /// let sum = blocking::wait(async { *pool.get().await.unwrap() + *pool.get().await.unwrap() });
    /// assert_eq!(sum, 3);
    /// ```
    #[inline]
    pub fn get(&self) -> Get<'_, M> {
        Get(Getting::new(self))
    }

    /// [`get`](Self::get), with an object that keeps the pool alive and can be moved anywhere.
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::{Pool, blocking};
    /// use std::sync::Arc;
    ///
    /// let pool = Arc::new(Pool::from_objects([7]));
    /// let lent = blocking::wait(Arc::clone(&pool).get_owned()).unwrap();
    /// assert_eq!(std::thread::spawn(move || *lent).join().unwrap(), 7);
    /// assert_eq!(pool.status().idle, 1);
    /// ```
    #[inline]
    pub fn get_owned(self: Arc<Self>) -> GetOwned<M> {
        GetOwned(Getting::new(self))
    }

    /// Gets an idle object that need not be recycled, if there is one.
    ///
    /// Never waits, creates or recycles. A pool that creates recycles all its objects, so there is none, unless
    /// [`recycle_after`](PoolBuilder::recycle_after) is set. To get whatever can be had without waiting, poll a
    /// [`get`](Self::get) once; a creation that it began is left to the pool.
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
        self.take_ready().map(|pooled| Object::new(self, pooled))
    }

    /// [`try_get`](Self::try_get), with an object that keeps the pool alive.
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
        self.take_ready().map(|pooled| OwnedObject::new(self, pooled))
    }

    /// Puts an object into the pool that was made elsewhere.
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
        let mut pooled = self.boxed(object, 0);
        let refused = self.change(|state, after| {
            if state.closed || state.size() >= state.max_size {
                return Some(pooled);
            }
            pooled.generation = state.generation;
            state.register(&mut pooled, &self.settings);
            state.deliver(pooled, after);
            None
        });
        refused.map_or(Ok(()), |pooled| Err(pooled.object))
    }

    /// Sets how many objects there may be.
    ///
    /// Growing serves those who wait. Shrinking discards idle objects at once, those that are in use when they come
    /// back, and the objects of those who may create already after one use. With 0 nobody else is served until the pool
    /// grows again.
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
    /// pool.resize(0); // two go now, ...
    /// assert_eq!((pool.status().idle, pool.status().in_use), (0, 1));
    /// drop(lent); // ... and the third when it comes back
    /// assert_eq!(pool.status().size, 0);
    /// ```
    pub fn resize(&self, max_size: usize) {
        self.change(|state, after| state.resize(max_size, after));
    }

    /// Takes out the idle objects that the predicate does not want to keep, and returns them. They leave room for others.
    ///
    /// The predicate runs under the lock of the pool and must not use it.
    ///
    /// # Panics
    ///
    /// When the predicate does. Then nothing has changed.
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::Pool;
    ///
    /// let pool = Pool::from_objects(1..=4);
    /// assert_eq!(pool.retain(|object, _| object % 2 == 0), [1, 3]);
    /// assert_eq!(pool.status().size, 2);
    /// ```
    pub fn retain(&self, mut keep: impl FnMut(&M::Object, &Metrics) -> bool) -> Vec<M::Object> {
        let taken = {
            let mut state = self.state.lock();
            let kept: Vec<bool> = state.idle.iter().map(|pooled| keep(&pooled.object, &pooled.metrics)).collect();
            state.take_idle_unless(|place, _| kept[place])
        };
        taken.into_iter().map(|pooled| pooled.object).collect()
    }

    /// Discards all objects that there are: idle ones now, the others when they come back.
    ///
    /// So, too, those whose creation has begun. What is created from now on stays.
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

    /// Discards the idle objects that are over their time at `now`, and says when to call next.
    ///
    /// A creation that was left behind is dropped, too, when it has been seen resting for an idle timeout.
    ///
    /// The answer is `None` when nothing will ever have to be discarded: the pool has neither a lifetime nor an idle timeout,
    /// or is closed. If one of these is zero, more is always due at once: do not loop then.
    ///
    /// # Panics
    ///
    /// With the first panic of an object's drop or of a waker, after everything was done.
    ///
    /// # Examples
    ///
    /// ```
    /// # use stanchion::{Manager, Pool, blocking};
    /// # struct Numbers;
    /// # impl Manager for Numbers {
    /// #     type Object = u32;
    /// #     type Error = std::convert::Infallible;
    /// #     async fn create(&self) -> Result<u32, Self::Error> { Ok(0) }
    /// # }
    /// use std::time::{Duration, Instant};
    ///
    /// let pool = Pool::builder(Numbers).idle_timeout(Duration::from_secs(60)).build();
    /// drop(blocking::wait(pool.get()).unwrap());
    /// let next = pool.maintain(Instant::now());
    /// assert_eq!((pool.status().idle, next.is_some()), (1, true));
    /// pool.maintain(Instant::now() + Duration::from_secs(61));
    /// assert_eq!(pool.status().idle, 0);
    /// ```
    pub fn maintain(&self, now: Instant) -> Option<Instant> {
        self.change(|state, after| state.maintain(now, &self.settings, after))
    }

    /// Creates objects, one after another, until [`min_idle`](PoolBuilder::min_idle) are idle or the pool is full.
    ///
    /// Also the way to fill the pool before it is first used. It leaves creating to those who wait, if there are any, and
    /// what others create already counts as idle. Each call creates one at a time, whatever getters create beside it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves its creation to the pool.
    ///
    /// # Errors
    ///
    /// With the first object that cannot be created.
    ///
    /// # Panics
    ///
    /// When [`create`](Manager::create) does; its slot is free then. With the first panic of a waker, after the object was
    /// added.
    ///
    /// # Examples
    ///
    /// ```
    /// # use stanchion::{Manager, Pool, blocking};
    /// # struct Numbers;
    /// # impl Manager for Numbers {
    /// #     type Object = u32;
    /// #     type Error = std::convert::Infallible;
    /// #     async fn create(&self) -> Result<u32, Self::Error> { Ok(0) }
    /// # }
    /// let pool = Pool::builder(Numbers).min_idle(3).build();
    /// blocking::wait(pool.replenish())?;
    /// assert_eq!(pool.status().idle, 3);
    /// # Ok::<(), std::convert::Infallible>(())
    /// ```
    pub fn replenish(&self) -> impl Future<Output = Result<(), M::Error>> + Send {
        let mut replenishing = Replenishing { pool: self, creation: Exclusive::new(None) };
        poll_fn(move |cx| replenishing.poll(cx))
    }

    /// Fails those who wait, and who come later, and discards all objects: idle ones now, the others when they come back.
    ///
    /// A getter that was granted an object before still gets it.
    ///
    /// # Panics
    ///
    /// With the first panic of an object's drop or of a waker, after everything was done.
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::{GetError, Pool, blocking};
    ///
    /// let pool = Pool::from_objects([7]);
    /// pool.close();
    /// assert_eq!(blocking::wait(pool.get()).unwrap_err(), GetError::Closed);
    /// assert_eq!(pool.status().size, 0);
    /// ```
    pub fn close(&self) {
        self.change(|state, after| {
            state.close(after);
            state.take_wakers(&mut after.batch);
        });
    }

    /// Whether the pool was closed.
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

    /// Waits until the pool is closed and every object of it is back and dropped.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future is safe at any time.
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::{Pool, blocking};
    ///
    /// let pool = Pool::from_objects([0]);
    /// let lent = pool.try_get().unwrap();
    /// pool.close();
    /// std::thread::scope(|scope| {
    ///     scope.spawn(|| drop(lent));
    ///     blocking::wait(pool.closed());
    /// });
    /// assert_eq!(pool.status().size, 0);
    /// ```
    pub fn closed(&self) -> PoolClosed<'_, M> {
        PoolClosed { pool: self, waiter: None, done: false }
    }

    /// What the pool holds right now: one consistent snapshot.
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

    /// The manager of the pool.
    ///
    /// # Examples
    ///
    /// ```
    /// # use stanchion::{Manager, Pool};
    /// struct Numbers {
    ///     next: std::sync::atomic::AtomicU32,
    /// }
    /// # impl Manager for Numbers {
    /// #     type Object = u32;
    /// #     type Error = std::convert::Infallible;
    /// #     async fn create(&self) -> Result<u32, Self::Error> { Ok(self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) }
    /// # }
    ///
    /// let pool = Pool::builder(Numbers { next: 1.into() }).build();
    /// let first = stanchion::blocking::wait(pool.get()).unwrap();
    /// assert_eq!(pool.manager().next.load(std::sync::atomic::Ordering::Relaxed), 2);
    /// # drop(first);
    /// ```
    pub fn manager(&self) -> &M {
        &self.manager
    }

    fn take_ready(&self) -> Option<Box<Pooled<M>>> {
        let now = self.now();
        let mut state = self.state.lock();
        let mut pooled = state.take_idle_if(self.settings.order, |pooled| self.settings.is_ready(pooled, now))?;
        pooled.metrics.uses += 1;
        Some(pooled)
    }

    /// An object is returned.
    #[inline]
    fn take_back(&self, pooled: Box<Pooled<M>>) {
        if std::thread::panicking() {
            // A second panic that got out of here would abort.
            let mut panics = Panics::default();
            panics.catch(|| self.judge(pooled));
            panics.discard();
        } else {
            self.judge(pooled);
        }
    }

    /// Keeps an object that is returned, or discards it.
    #[inline(always)]
    fn judge(&self, pooled: Box<Pooled<M>>) {
        let mut leaving = Leaving::in_use(self, pooled);
        let pooled = leaving.what();
        if self.manager.is_broken(&mut pooled.object) {
            return;
        }
        pooled.idle_since = self.now();
        if self.settings.is_over(pooled, pooled.idle_since) {
            return;
        }
        let pooled = leaving.stays();
        let mut state = self.state.lock();
        if state.keeps(pooled.generation) && !state.is_awaited() {
            state.put_idle(pooled);
        } else {
            self.hand_over(state, pooled);
        }
    }

    /// An object comes back that somebody waits for, or that is not kept.
    #[inline(never)]
    fn hand_over(&self, mut state: MutexGuard<'_, State<M>>, pooled: Box<Pooled<M>>) {
        let mut after = Aftermath::default();
        state.deliver(pooled, &mut after);
        drop(state);
        after.happen(self).resume();
    }

    /// Drops something, and then frees its slot.
    #[inline(never)]
    fn discard<T>(&self, what: T, (in_use, creating): (usize, usize)) {
        let mut panics = Panics::of_drops([what]);
        panics.catch(|| self.release(in_use, creating).resume());
        panics.resume();
    }

    /// Frees slots.
    #[inline(never)]
    fn release(&self, in_use: usize, creating: usize) -> Panics {
        self.change_and_catch(|state, _| state.free(in_use, creating)).1
    }

    /// Changes the state, serves those who can be served then, and does what follows from that.
    fn change<R>(&self, change: impl FnOnce(&mut State<M>, &mut Aftermath<M>) -> R) -> R {
        let (result, panics) = self.change_and_catch(change);
        panics.resume();
        result
    }

    /// [`change`](Self::change), on behalf of somebody who must not lose what it has in hand.
    fn change_quietly<R>(&self, change: impl FnOnce(&mut State<M>, &mut Aftermath<M>) -> R) -> R {
        let (result, panics) = self.change_and_catch(change);
        panics.discard();
        result
    }

    fn change_and_catch<R>(&self, change: impl FnOnce(&mut State<M>, &mut Aftermath<M>) -> R) -> (R, Panics) {
        let mut after = Aftermath::default();
        let result = {
            let mut state = self.state.lock();
            let result = change(&mut state, &mut after);
            state.settle(&self.settings, &mut after.batch);
            result
        };
        (result, after.happen(self))
    }

    /// An object that is new here.
    fn boxed(&self, object: M::Object, generation: u64) -> Box<Pooled<M>> {
        // The clock may panic.
        let mut object = Guarded(Some(object));
        let now = self.now();
        Box::new(Pooled::new(object.0.take().expect("it was just put there"), generation, now))
    }

    #[inline(always)]
    fn now(&self) -> Option<Instant> {
        self.settings.clock.as_ref().map(|now| now())
    }
}

impl<T: Send + 'static> Pool<Fixed<T>> {
    /// Makes a pool of these objects, as large as they are many. It creates nothing.
    ///
    /// An object that is discarded or detached leaves room, to be filled by [`add`](Self::add); who waits, waits for that.
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::{Pool, blocking};
    ///
    /// let ports = Pool::from_objects(8000..8004);
    /// let port = blocking::wait(ports.get()).unwrap();
    /// assert!((8000..8004).contains(&*port));
    /// assert_eq!(ports.status().idle, 3);
    /// ```
    pub fn from_objects(objects: impl IntoIterator<Item = T>) -> Self {
        let mut state = State::new(0, 0);
        state.idle = objects.into_iter().map(|object| Box::new(Pooled::new(object, 0, None))).collect();
        state.max_size = state.idle.len();
        Self { manager: Arc::new(Fixed(PhantomData)), settings: Settings::new(false), state: sync::Mutex::new(state) }
    }
}

impl<T: Send + 'static> Manager for Fixed<T> {
    type Object = T;
    type Error = Infallible;

    async fn create(&self) -> Result<T, Infallible> {
        pending().await
    }
}

impl Settings {
    fn new(creates: bool) -> Self {
        Self {
            order: Order::Lifo,
            min_idle: 0,
            max_waiting: usize::MAX,
            max_lifetime: None,
            idle_timeout: None,
            recycle_after: None,
            clock: None,
            creates,
        }
    }

    /// Whether an object may be handed out as it is.
    #[inline(always)]
    fn is_ready<M: Manager>(&self, pooled: &Pooled<M>, now: Option<Instant>) -> bool {
        !self.creates || self.is_fresh(pooled, now) && !self.is_over(pooled, now)
    }

    /// Whether an object was idle too shortly to be recycled.
    #[inline(always)]
    fn is_fresh<M: Manager>(&self, pooled: &Pooled<M>, now: Option<Instant>) -> bool {
        let Some(after) = self.recycle_after else { return false };
        idle_for(pooled, now).is_some_and(|idle| idle < after)
    }

    /// Whether an object is over its time.
    #[inline(always)]
    fn is_over<M: Manager>(&self, pooled: &Pooled<M>, now: Option<Instant>) -> bool {
        let Some(now) = now else { return false };
        self.ends(pooled).is_some_and(|end| end <= now)
    }

    /// When an object that is idle is over its time.
    #[inline(always)]
    fn ends<M: Manager>(&self, pooled: &Pooled<M>) -> Option<Instant> {
        // What was found made is idle since then, for all that is known.
        let since = pooled.idle_since.or(pooled.metrics.created);
        let times_out = since.zip(self.idle_timeout).and_then(|(since, longest)| since.checked_add(longest));
        pooled.ends.into_iter().chain(times_out).min()
    }
}

fn idle_for<M: Manager>(pooled: &Pooled<M>, now: Option<Instant>) -> Option<Duration> {
    now.zip(pooled.idle_since).map(|(now, since)| now.saturating_duration_since(since))
}

/// Something on its way out, and the slot that is freed when it has been dropped. Foreign code that may panic runs while
/// what it works on is in here.
struct Leaving<'a, M: Manager, T> {
    pool: &'a Pool<M>,
    /// How many slots are in use, or creating: one in all.
    counts: (usize, usize),
    what: Option<T>,
}

impl<'a, M: Manager, T> Leaving<'a, M, T> {
    #[inline(always)]
    fn in_use(pool: &'a Pool<M>, what: T) -> Self {
        Self { pool, counts: (1, 0), what: Some(what) }
    }

    #[inline(always)]
    fn creating(pool: &'a Pool<M>, what: T) -> Self {
        Self { pool, counts: (0, 1), what: Some(what) }
    }

    #[inline(always)]
    fn what(&mut self) -> &mut T {
        self.what.as_mut().expect("it is there until it stays")
    }

    /// All went well: it does not leave, or its slot is taken care of otherwise.
    #[inline(always)]
    fn stays(mut self) -> T {
        self.what.take().expect("it is there until it stays")
    }
}

impl<M: Manager, T> Drop for Leaving<'_, M, T> {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(what) = self.what.take() {
            self.pool.discard(what, self.counts);
        }
    }
}

/// The future of [`Pool::replenish`].
struct Replenishing<'a, M: Manager> {
    pool: &'a Pool<M>,
    creation: Exclusive<Option<Creation<M>>>,
}

impl<M: Manager> Replenishing<'_, M> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), M::Error>> {
        let pool = self.pool;
        loop {
            let creation = self.creation.get_mut().take().or_else(|| pool.state.lock().claim_spare(&pool.settings));
            let Some(creation) = creation else { return Poll::Ready(Ok(())) };
            match creation.run(pool, cx) {
                Progress::Pending(creation) => {
                    *self.creation.get_mut() = Some(creation);
                    return Poll::Pending;
                }
                Progress::Created(mut pooled) | Progress::Found(mut pooled) => pool.change(|state, after| {
                    state.free(0, 1);
                    state.register(&mut pooled, &pool.settings);
                    state.deliver(pooled, after);
                }),
                Progress::Failed(error) => {
                    // Somebody's panic shall not cost the error.
                    pool.release(0, 1).discard();
                    return Poll::Ready(Err(error));
                }
            }
        }
    }
}

impl<M: Manager> Drop for Replenishing<'_, M> {
    fn drop(&mut self) {
        if let Some(creation) = self.creation.get_mut().take() {
            self.pool.change(|state, after| state.leave_behind(creation, after));
        }
    }
}

impl<'a, M: Manager> Future for Get<'a, M> {
    type Output = Result<Object<'a, M>, GetError<M::Error>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.get_mut().0.poll(cx, Object::new)
    }
}

impl<M: Manager> Future for GetOwned<M> {
    type Output = Result<OwnedObject<M>, GetError<M::Error>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.get_mut().0.poll(cx, OwnedObject::new)
    }
}

impl<M: Manager> Future for PoolClosed<'_, M> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        assert!(!self.done, "a future is not polled after it was ready");
        let pool = self.pool;
        let closed = TaskWaker::new(cx.waker()).poll_with(|waker| {
            let mut state = pool.state.lock();
            let Some(waiter) = self.waiter else {
                if state.is_over() {
                    return Ok(Poll::Ready(()));
                }
                self.waiter = Some(state.closers.enqueue((), waker.take()?));
                return Ok(Poll::Pending);
            };
            Ok(state.closers.poll(waiter, waker)?.map(|_| self.waiter = None))
        });
        self.done = closed.is_ready();
        closed
    }
}

impl<M: Manager> Drop for PoolClosed<'_, M> {
    fn drop(&mut self) {
        if let Some(waiter) = self.waiter {
            let left = self.pool.state.lock().closers.remove(waiter);
            Panics::of_drops(left).resume();
        }
    }
}

#[cfg(any(test, fuzzing, loom, debug_assertions))]
impl<M: Manager> Pool<M> {
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

// No user code runs while the state is inconsistent, so a panic cannot be seen in it.
impl<M: Manager> UnwindSafe for Pool<M> {}
impl<M: Manager> RefUnwindSafe for Pool<M> {}

impl<M: Manager> fmt::Debug for Pool<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Formatting must not block, and what it writes to is foreign code.
        let seen = self.state.try_lock().map(|state| (state.status(), state.closed));
        let mut debug = f.debug_struct("Pool");
        match seen {
            Some((status, closed)) => debug.field("status", &status).field("closed", &closed).finish_non_exhaustive(),
            None => debug.finish_non_exhaustive(),
        }
    }
}

impl<M> fmt::Debug for PoolBuilder<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { order, min_idle, max_waiting, max_lifetime, idle_timeout, recycle_after, .. } = &self.settings;
        f.debug_struct("PoolBuilder")
            .field("max_size", &self.max_size)
            .field("min_idle", min_idle)
            .field("max_waiting", max_waiting)
            .field("max_lifetime", max_lifetime)
            .field("idle_timeout", idle_timeout)
            .field("recycle_after", recycle_after)
            .field("order", order)
            .finish_non_exhaustive()
    }
}

impl<M: Manager> fmt::Debug for Get<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Get").field("waiting", &self.0.is_waiting()).finish_non_exhaustive()
    }
}

impl<M: Manager> fmt::Debug for GetOwned<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GetOwned").field("waiting", &self.0.is_waiting()).finish_non_exhaustive()
    }
}

impl<M: Manager> fmt::Debug for PoolClosed<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolClosed").field("waiting", &self.waiter.is_some()).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Fixed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fixed")
    }
}

impl<E: fmt::Display> fmt::Display for GetError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the pool is closed"),
            Self::TooManyWaiting => f.write_str("too many are waiting for the pool already"),
            Self::Create(error) => write!(f, "the pool could not create an object: {error}"),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for GetError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Create(error) => Some(error),
            Self::Closed | Self::TooManyWaiting => None,
        }
    }
}
