//! The settings of a pool.

use std::any::type_name;
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::core::Fitness;
use super::object::Pooled;
use super::{AlwaysFit, Manager, Metrics, Pool};

/// A builder of a [`Pool`], returned by [`Pool::builder`].
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
/// use std::time::Duration;
///
/// let pool = Pool::builder(Numbers)
///     .max_size(20)
///     .max_waiting(1_000)
///     .max_lifetime(Duration::from_secs(30 * 60))
///     .build();
/// assert_eq!(*pool.get().await?, 0);
/// assert_eq!(pool.status().max_size, 20);
/// # Ok::<(), stanchion::GetError<std::convert::Infallible>>(())
/// # }).unwrap();
/// ```
#[must_use = "a builder does nothing before it builds"]
pub struct PoolBuilder<M> {
    manager: M,
    max_size: usize,
    settings: Settings,
}

/// The order in which idle objects are used.
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
/// use stanchion::Order;
///
/// let pool = Pool::builder(Numbers).order(Order::Fifo).build();
/// pool.add(1).unwrap();
/// pool.add(2).unwrap();
/// assert_eq!(*pool.get().await?, 1); // `Lifo`: 2
/// # Ok::<(), stanchion::GetError<std::convert::Infallible>>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The one that was returned last comes first: a few are used much, and the others may reach their idle timeout.
    #[default]
    Lifo,
    /// The one that was idle for longest comes first: all are used alike.
    Fifo,
}

/// The settings that do not change while the pool lives.
pub(super) struct Settings {
    pub(super) order: Order,
    pub(super) min_idle: usize,
    pub(super) max_waiting: usize,
    pub(super) max_creating: Option<usize>,
    pub(super) max_lifetime: Option<Duration>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) keepalive: Option<Duration>,
    recycle_after: Option<Duration>,
    /// `None` if no setting asks for it.
    pub(super) clock: Option<Clock>,
    /// `false` if the pool has all its objects from elsewhere.
    pub(super) creates: bool,
    /// `false` if the manager keeps the provided `recycle`, which does nothing.
    recycles: bool,
}

pub(super) type Clock = Box<dyn Fn() -> Instant + Send + Sync>;

impl<M: Manager> PoolBuilder<M> {
    pub(super) fn new(manager: M) -> Self {
        Self { manager, max_size: 10, settings: Settings::new::<M>(true) }
    }

    /// Sets the number of objects that there may be; defaults to 10.
    ///
    /// # Panics
    ///
    /// When it is 0.
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
    /// let pool = Pool::builder(Numbers).max_size(20).build();
    /// assert_eq!(pool.status().max_size, 20);
    /// ```
    pub fn max_size(mut self, objects: usize) -> Self {
        assert!(objects > 0, "a pool without room would never serve a getter");
        self.max_size = objects;
        self
    }

    /// Sets the number of idle objects that [`maintenance`](Pool::maintenance) and [`replenish`](Pool::replenish) keep;
    /// defaults to 0.
    ///
    /// The [idle timeout](Self::idle_timeout) discards only objects beyond this number. Objects at the end of their
    /// lifetime are replaced. A number above [`max_size`](Self::max_size) has the effect of that.
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
    /// let pool = Pool::builder(Numbers).min_idle(2).build();
    /// pool.replenish().await?;
    /// assert_eq!(pool.status().idle, 2);
    /// # Ok::<(), std::convert::Infallible>(())
    /// # }).unwrap();
    /// ```
    pub fn min_idle(mut self, objects: usize) -> Self {
        self.settings.min_idle = objects;
        self
    }

    /// Sets the number of getters that may wait for an object to be returned before others are refused; defaults to no
    /// limit.
    ///
    /// # Examples
    ///
    /// ```
    /// # use stanchion::{GetError, Manager, Pool};
    /// # struct Numbers;
    /// # impl Manager for Numbers {
    /// #     type Object = u32;
    /// #     type Error = std::convert::Infallible;
    /// #     async fn create(&self) -> Result<u32, Self::Error> { Ok(0) }
    /// # }
    /// # stanchion::blocking::wait(async {
    /// let pool = Pool::builder(Numbers).max_size(1).max_waiting(0).build();
    /// let only = pool.get().await?;
    /// assert_eq!(pool.get().await.unwrap_err(), GetError::TooManyWaiting);
    /// # drop(only);
    /// # Ok::<(), GetError<std::convert::Infallible>>(())
    /// # }).unwrap();
    /// ```
    pub fn max_waiting(mut self, getters: usize) -> Self {
        self.settings.max_waiting = getters;
        self
    }

    /// Sets the number of objects that may be created at a time; defaults to as many as there are, but at least 8.
    ///
    /// So a pool grows by doubling, and does not overrun a database that has just restarted. A creation begins only
    /// while fewer than so many are driven by getters. Pending ones, which were given up, do not count, and taking them
    /// up is not limited: callers that give up soon may leave up to [`max_size`](Self::max_size) of them.
    ///
    /// # Panics
    ///
    /// When it is 0.
    ///
    /// # Examples
    ///
    /// ```
    /// # use stanchion::{Manager, Pool};
    /// # struct Slow;
    /// # impl Manager for Slow {
    /// #     type Object = u32;
    /// #     type Error = std::convert::Infallible;
    /// #     async fn create(&self) -> Result<u32, Self::Error> { std::future::pending().await }
    /// # }
    /// # stanchion::blocking::wait(async {
    /// let pool = Pool::builder(Slow).max_creating(1).build();
    /// let mut gets = [pool.get(), pool.get()];
    /// for get in &mut gets {
    ///     assert!(futures::poll!(get).is_pending());
    /// }
    /// assert_eq!((pool.status().creating, pool.status().waiting), (1, 1));
    /// # });
    /// ```
    pub fn max_creating(mut self, creations: usize) -> Self {
        assert!(creations > 0, "a pool that may not create would never serve a getter");
        self.settings.max_creating = Some(creations);
        self
    }

    /// Sets how long an object lives at most; defaults to no limit. With zero, each is discarded after one use.
    ///
    /// Each object draws its end once, from 90 to 100 % of this after its creation, so that those created together do
    /// not end together.
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
    /// use std::time::Duration;
    ///
    /// let pool = Pool::builder(Numbers).max_lifetime(Duration::ZERO).build();
    /// drop(pool.get().await);
    /// assert_eq!(pool.status().idle, 0);
    /// # });
    /// ```
    pub fn max_lifetime(mut self, longest: Duration) -> Self {
        self.settings.max_lifetime = Some(longest);
        self
    }

    /// Sets how long an object may be idle before it is discarded; defaults to no limit.
    ///
    /// With zero, each is discarded after one use.
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
    /// pool.maintain(Instant::now() + Duration::from_secs(61));
    /// assert_eq!(pool.stats().expired, 1);
    /// # });
    /// ```
    pub fn idle_timeout(mut self, longest: Duration) -> Self {
        self.settings.idle_timeout = Some(longest);
        self
    }

    /// Sets after which time [`maintenance`](Pool::maintenance) recycles an idle object; defaults to never.
    ///
    /// A server or a firewall may cut a connection that is idle for long; this keeps it in use, or finds out that it is
    /// dead before a caller does. The object is recycled in place, and again after another such time; its age and idle
    /// time go on.
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
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// use std::sync::Arc;
    /// use tokio::time::{Duration, Instant, sleep};
    ///
    /// let clock = || Instant::now().into_std(); // tokio's, which is paused here
    /// let pool = Arc::new(Pool::builder(Numbers).keepalive(Duration::from_secs(60)).clock(clock).build());
    /// tokio::spawn(Pool::maintenance(&pool, sleep));
    /// drop(pool.get().await);
    /// sleep(Duration::from_secs(90)).await;
    /// assert_eq!(pool.stats().recycled, 1);
    /// # }
    /// ```
    pub fn keepalive(mut self, idle: Duration) -> Self {
        // With zero, an object would be in need of the next check right after one.
        self.settings.keepalive = Some(idle.max(Duration::from_millis(1)));
        self
    }

    /// Sets how long an object must have been idle to be recycled before it is used again; defaults to zero: always.
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
    /// use std::time::Duration;
    ///
    /// let pool = Pool::builder(Numbers).recycle_after(Duration::from_secs(30)).build();
    /// drop(pool.get().await);
    /// drop(pool.get().await);
    /// assert_eq!(pool.stats().recycled, 0);
    /// # });
    /// ```
    pub fn recycle_after(mut self, idle: Duration) -> Self {
        self.settings.recycle_after = Some(idle);
        self
    }

    /// Sets the order in which idle objects are used; defaults to [`Order::Lifo`].
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
    /// let pool = Pool::builder(Numbers).order(stanchion::Order::Fifo).build();
    /// pool.add(1).unwrap();
    /// pool.add(2).unwrap();
    /// assert_eq!(*pool.try_get().unwrap(), 1);
    /// ```
    pub fn order(mut self, order: Order) -> Self {
        self.settings.order = order;
        self
    }

    /// Sets the source of the time, for tests that advance it; defaults to [`Instant::now`].
    ///
    /// It is read only if a lifetime, an idle timeout, a keepalive or `recycle_after` is set.
    ///
    /// # Examples
    ///
    /// ```
    /// # use stanchion::{Manager, Object, Pool};
    /// # struct Numbers;
    /// # impl Manager for Numbers {
    /// #     type Object = u32;
    /// #     type Error = std::convert::Infallible;
    /// #     async fn create(&self) -> Result<u32, Self::Error> { Ok(0) }
    /// # }
    /// # stanchion::blocking::wait(async {
    /// use std::sync::atomic::{AtomicU64, Ordering};
    /// use std::time::{Duration, Instant};
    ///
    /// static SECONDS: AtomicU64 = AtomicU64::new(0);
    ///
    /// let start = Instant::now();
    /// let clock = move || start + Duration::from_secs(SECONDS.load(Ordering::Relaxed));
    /// let pool = Pool::builder(Numbers).idle_timeout(Duration::from_secs(60)).clock(clock).build();
    /// drop(pool.get().await?);
    /// SECONDS.store(61, Ordering::Relaxed);
    /// let another = pool.get().await?;
    /// assert_eq!(Object::metrics(&another).uses, 1);
    /// # drop(another);
    /// # Ok::<(), stanchion::GetError<std::convert::Infallible>>(())
    /// # }).unwrap();
    /// ```
    pub fn clock(mut self, now: impl Fn() -> Instant + Send + Sync + 'static) -> Self {
        self.settings.clock = Some(Box::new(now));
        self
    }

    /// Builds the pool, without any object so far.
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
    /// let pool = Pool::builder(Numbers).build();
    /// assert_eq!(pool.status().size, 0);
    /// ```
    pub fn build(self) -> Pool<M> {
        let Self { manager, max_size, mut settings } = self;
        let Settings { max_lifetime, idle_timeout, keepalive, recycle_after, .. } = settings;
        let is_timed = [max_lifetime, idle_timeout, keepalive, recycle_after].iter().any(Option::is_some);
        settings.clock = if is_timed { settings.clock.or_else(|| Some(Box::new(Instant::now))) } else { None };
        let draw = RandomState::new().build_hasher().finish();
        Pool::new(Arc::new(manager), settings, max_size, draw)
    }
}

impl Settings {
    pub(super) fn new<M: Manager>(creates: bool) -> Self {
        Self {
            order: Order::Lifo,
            min_idle: 0,
            max_waiting: usize::MAX,
            max_creating: None,
            max_lifetime: None,
            idle_timeout: None,
            keepalive: None,
            recycle_after: None,
            clock: None,
            creates,
            recycles: has_own_recycle::<M>(),
        }
    }

    /// Judges an object that is about to be handed out. The idle timeout spares those that `min_idle` protects.
    #[inline(always)]
    pub(super) fn fitness<M: Manager>(&self, pooled: &Pooled<M>, now: Option<Instant>, is_surplus: bool) -> Fitness {
        let unless_expired = if pooled.is_new || !self.creates { Fitness::Fit } else { Fitness::Unchecked };
        let Some(now) = now else { return unless_expired };
        let has_passed = |end: Option<Instant>| end.is_some_and(|end| end <= now);
        if has_passed(pooled.expires_at) || is_surplus && has_passed(self.times_out(pooled)) {
            return Fitness::Expired;
        }
        let idle = pooled.idle_since.map(|since| now.saturating_duration_since(since));
        match self.recycle_after.zip(idle) {
            Some((after, idle)) if idle < after => Fitness::Fit,
            _ => unless_expired,
        }
    }

    /// Returns `true` if an object can be handed out as it is. A `recycle` that does nothing is done.
    #[inline(always)]
    pub(super) fn hands_out<M: Manager>(&self, pooled: &mut Pooled<M>, fitness: Fitness, now: Option<Instant>) -> bool {
        match fitness {
            Fitness::Fit => true,
            Fitness::Unchecked if !self.recycles => {
                pooled.metrics.recycled = now;
                true
            }
            Fitness::Unchecked | Fitness::Expired => false,
        }
    }

    /// Returns `true` if an object that is returned has expired.
    #[inline(always)]
    pub(super) fn has_expired<M: Manager>(&self, pooled: &Pooled<M>, now: Instant) -> bool {
        pooled.expires_at.is_some_and(|end| end <= now) || self.idle_timeout.is_some_and(|longest| longest.is_zero())
    }

    /// Returns when the idle timeout of an object ends.
    #[inline(always)]
    pub(super) fn times_out<M: Manager>(&self, pooled: &Pooled<M>) -> Option<Instant> {
        // Without that, it was created in the first poll of a getter that took the creation up, and may be older.
        let since = pooled.idle_since.or(pooled.metrics.created)?;
        since.checked_add(self.idle_timeout?)
    }
}

/// Returns `false` if the manager keeps the provided `recycle`, which need not be run then. This saves an allocation
/// per object and half of the instructions of a `get`.
///
/// It compares the names of types, since nothing else tells the two apart: the future borrows, so that it has no
/// `TypeId`; a function is of the type `M::recycle` in both cases; and a method of the trait that says so could
/// contradict `recycle`.
fn has_own_recycle<M: Manager>() -> bool {
    fn name_of<'a, M: Manager, F>(_: impl FnOnce(&'a M, &'a mut M::Object, &'a Metrics) -> F) -> &'static str {
        type_name::<F>()
    }
    // A name may belong to several types, but all that have this one, in any version of this crate, do nothing.
    name_of(M::recycle) != type_name::<AlwaysFit<M::Error>>()
}

impl<M> fmt::Debug for PoolBuilder<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { order, min_idle, max_waiting, max_creating, .. } = &self.settings;
        let Settings { max_lifetime, idle_timeout, keepalive, recycle_after, .. } = &self.settings;
        f.debug_struct("PoolBuilder")
            .field("max_size", &self.max_size)
            .field("min_idle", min_idle)
            .field("max_waiting", max_waiting)
            .field("max_creating", max_creating)
            .field("max_lifetime", max_lifetime)
            .field("idle_timeout", idle_timeout)
            .field("keepalive", keepalive)
            .field("recycle_after", recycle_after)
            .field("order", order)
            .finish_non_exhaustive()
    }
}
