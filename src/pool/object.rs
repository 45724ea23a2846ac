//! Objects: as the pool keeps them, and as their users hold them.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Instant;

use super::job::Memory;
use super::{Manager, Pool};

/// The history of an object of a [`Pool`].
///
/// The instants are `None` while no setting of the pool asks for a clock: a lifetime, an idle timeout, a keepalive or
/// `recycle_after`.
///
/// # Examples
///
/// ```
/// use stanchion::{Object, Pool};
///
/// # stanchion::blocking::wait(async {
/// let pool = Pool::from_objects([7]);
/// drop(pool.get().await);
/// let metrics = Object::metrics(&pool.get().await?);
/// assert_eq!((metrics.uses, metrics.created), (2, None));
/// # Ok::<(), stanchion::GetError<std::convert::Infallible>>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// When it was created, or added.
    pub created: Option<Instant>,
    /// When it was last recycled with success.
    pub recycled: Option<Instant>,
    /// The number of times it was handed out.
    pub uses: u64,
}

/// An object, and what the pool knows about it.
pub(super) struct Pooled<M: Manager> {
    pub(super) object: M::Object,
    pub(super) metrics: Metrics,
    pub(super) generation: u64,
    /// It was created for a getter that waits, and not idle since: it need not be recycled.
    pub(super) is_new: bool,
    /// The end of its lifetime, if that is limited.
    pub(super) expires_at: Option<Instant>,
    /// When it was last returned, created or added. `None` without a clock, and if the pool cannot know.
    pub(super) idle_since: Option<Instant>,
    /// Its place among the idle objects: counts returns.
    pub(super) returned: u64,
    /// The box in which it is recycled, except while it is in there, and before the first time.
    pub(super) memory: Option<Memory<M>>,
}

impl<M: Manager> Pooled<M> {
    pub(super) fn new(object: M::Object, generation: u64, now: Option<Instant>) -> Self {
        let metrics = Metrics { created: now, recycled: None, uses: 0 };
        Self {
            object,
            metrics,
            generation,
            is_new: false,
            expires_at: None,
            idle_since: now,
            returned: 0,
            memory: None,
        }
    }
}

/// An object of a [`Pool`] in use, which is returned to the pool when this is dropped.
///
/// # Panics
///
/// Dropping it panics when [`is_broken`](Manager::is_broken), the clock, the drop of a discarded object or a waker
/// does, after its slot was given to the next getter; never while the thread is panicking already.
///
/// # Examples
///
/// ```
/// # stanchion::blocking::wait(async {
/// let pool = stanchion::Pool::from_objects([vec![1]]);
/// let mut lent = pool.get().await?;
/// lent.push(2);
/// drop(lent); // returns it
/// assert_eq!(*pool.get().await?, [1, 2]);
/// # Ok::<(), stanchion::GetError<std::convert::Infallible>>(())
/// # }).unwrap();
/// ```
#[must_use = "an object that is not held is returned to its pool at once"]
pub struct Object<'a, M: Manager>(Held<&'a Pool<M>, M>);

/// An object of a [`Pool`] in use that keeps the pool alive, and is returned to it when this is dropped.
///
/// # Panics
///
/// Dropping it panics when [`is_broken`](Manager::is_broken), the clock, the drop of a discarded object or a waker
/// does, after its slot was given to the next getter; never while the thread is panicking already, unless it was the
/// last owner of the pool and the drop of the manager panics.
///
/// # Examples
///
/// ```
/// # stanchion::blocking::wait(async {
/// let pool = std::sync::Arc::new(stanchion::Pool::from_objects([7]));
/// let lent = pool.clone().get_owned().await?;
/// std::thread::spawn(move || drop(lent)); // returns it
/// assert_eq!(*pool.get().await?, 7);
/// # Ok::<(), stanchion::GetError<std::convert::Infallible>>(())
/// # }).unwrap();
/// ```
#[must_use = "an object that is not held is returned to its pool at once"]
pub struct OwnedObject<M: Manager>(Held<Arc<Pool<M>>, M>);

/// The body of both.
pub(super) struct Held<H: Deref<Target = Pool<M>>, M: Manager> {
    pool: H,
    /// `None` once it was returned, detached or discarded.
    pooled: Option<Box<Pooled<M>>>,
}

impl<H: Deref<Target = Pool<M>>, M: Manager> Held<H, M> {
    #[inline]
    fn new(pool: H, mut pooled: Box<Pooled<M>>) -> Self {
        pooled.metrics.uses += 1;
        Self { pool, pooled: Some(pooled) }
    }
}

impl<'a, M: Manager> Object<'a, M> {
    #[inline]
    pub(super) fn new(pool: &'a Pool<M>, pooled: Box<Pooled<M>>) -> Self {
        Self(Held::new(pool, pooled))
    }

    /// Returns the pool that the object is returned to.
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::{Object, Pool};
    ///
    /// let pool = Pool::from_objects([7]);
    /// let lent = pool.try_get().unwrap();
    /// assert!(std::ptr::eq(Object::pool(&lent), &pool));
    /// ```
    pub fn pool(this: &Self) -> &'a Pool<M> {
        this.0.pool
    }
}

impl<M: Manager> OwnedObject<M> {
    #[inline]
    pub(super) fn new(pool: Arc<Pool<M>>, pooled: Box<Pooled<M>>) -> Self {
        Self(Held::new(pool, pooled))
    }

    /// Returns the pool that the object is returned to.
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::{OwnedObject, Pool};
    /// use std::sync::Arc;
    ///
    /// let pool = Arc::new(Pool::from_objects([7]));
    /// let lent = Arc::clone(&pool).try_get_owned().unwrap();
    /// assert!(Arc::ptr_eq(OwnedObject::pool(&lent), &pool));
    /// ```
    pub fn pool(this: &Self) -> &Arc<Pool<M>> {
        &this.0.pool
    }
}

impl<H: Deref<Target = Pool<M>>, M: Manager> Held<H, M> {
    #[inline(always)]
    fn pooled(&self) -> &Pooled<M> {
        self.pooled.as_ref().expect("an object is held until it is returned")
    }

    fn take(&mut self) -> Box<Pooled<M>> {
        self.pooled.take().expect("an object is held until it is returned")
    }
}

impl<H: Deref<Target = Pool<M>>, M: Manager> Drop for Held<H, M> {
    #[inline]
    fn drop(&mut self) {
        if let Some(pooled) = self.pooled.take() {
            self.pool.take_back(pooled);
        }
    }
}

/// The methods and traits of both.
macro_rules! object {
    ($short:ident, [$($generics:tt)*] $name:ty) => {
        impl<$($generics)*> $name {
            /// Takes the object out of the pool for good, which makes room for another one.
            ///
            /// # Examples
            ///
            /// ```
            /// use stanchion::{Object, Pool};
            ///
            /// let pool = Pool::from_objects(["kept"]);
            /// assert_eq!(Object::detach(pool.try_get().unwrap()), "kept");
            /// assert_eq!(pool.status().size, 0);
            /// ```
            pub fn detach(mut this: Self) -> M::Object {
                let pooled = this.0.take();
                this.0.pool.change_and_catch(|state, _| state.in_use -= 1).1.discard();
                pooled.object
            }

            /// Drops the object instead of returning it, which makes room for another one.
            ///
            /// # Panics
            ///
            /// With the first panic of the object's drop or of a waker, after the room was made.
            ///
            /// # Examples
            ///
            /// ```
            /// use stanchion::{Object, Pool};
            ///
            /// let pool = Pool::from_objects(["broken"]);
            /// Object::discard(pool.try_get().unwrap());
            /// assert_eq!(pool.status().size, 0);
            /// ```
            pub fn discard(mut this: Self) {
                let pooled = this.0.take();
                this.0.pool.discard(pooled);
            }

            /// Returns the history of the object.
            ///
            /// # Examples
            ///
            /// ```
            /// use stanchion::{Object, Pool};
            ///
            /// let pool = Pool::from_objects([7]);
            /// drop(pool.try_get());
            /// assert_eq!(Object::metrics(&pool.try_get().unwrap()).uses, 2);
            /// ```
            pub fn metrics(this: &Self) -> Metrics {
                this.0.pooled().metrics
            }
        }

        impl<$($generics)*> Deref for $name {
            type Target = M::Object;

            #[inline]
            fn deref(&self) -> &M::Object {
                &self.0.pooled().object
            }
        }

        impl<$($generics)*> DerefMut for $name {
            #[inline]
            fn deref_mut(&mut self) -> &mut M::Object {
                &mut self.0.pooled.as_mut().expect("an object is held until it is returned").object
            }
        }

        // Without the object, which need not implement `Debug`: so `unwrap_err` of a `get` works for all.
        impl<$($generics)*> fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($short)).field("metrics", &self.0.pooled().metrics).finish_non_exhaustive()
            }
        }
    };
}

object!(Object, ['a, M: Manager] Object<'a, M>);
object!(OwnedObject, [M: Manager] OwnedObject<M>);
