//! Objects: as the pool keeps them, and as their users hold them.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Instant;

use super::recycling::Recycling;
use super::{Manager, Pool};
use crate::sync::Exclusive;

/// What the pool knows about an object.
///
/// The instants are `None` as long as no setting of the pool asks for a clock: a lifetime, an idle timeout, `recycle_after`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// When its creation ended, or was found to have ended, or it was added.
    pub created: Option<Instant>,
    /// When it was last recycled successfully.
    pub recycled: Option<Instant>,
    /// How often it was handed out.
    pub uses: u64,
}

/// An object and what the pool needs to know about it.
pub(super) struct Pooled<M: Manager> {
    pub(super) object: M::Object,
    pub(super) metrics: Metrics,
    pub(super) generation: u64,
    /// When its life is over, if it is limited.
    pub(super) ends: Option<Instant>,
    /// When it was last returned, created or added, if there is a clock and it is known.
    pub(super) idle_since: Option<Instant>,
    /// The memory in which it is recycled, once it has been.
    pub(super) recycling: Exclusive<Option<Recycling<M>>>,
}

impl<M: Manager> Pooled<M> {
    pub(super) fn new(object: M::Object, generation: u64, now: Option<Instant>) -> Self {
        let metrics = Metrics { created: now, recycled: None, uses: 0 };
        Self { object, metrics, generation, ends: None, idle_since: now, recycling: Exclusive::new(None) }
    }
}

/// An object of a [`Pool`] in use; goes back to the pool when it is dropped.
///
/// # Panics
///
/// Dropping it panics when [`is_broken`](Manager::is_broken), the clock, the drop of an object that is discarded, or a
/// waker does, after its slot was taken care of; never while the thread is panicking already.
#[must_use = "an object that is not held goes back to its pool at once"]
pub struct Object<'a, M: Manager>(Held<&'a Pool<M>, M>);

/// An object of a [`Pool`] in use that keeps the pool alive; goes back to the pool when it is dropped.
///
/// # Panics
///
/// Dropping it panics when [`is_broken`](Manager::is_broken), the clock, the drop of an object that is discarded, or a
/// waker does, after its slot was taken care of; never while the thread is panicking already (unless the pool goes with it,
/// whose last owner it was, and something in that panics).
#[must_use = "an object that is not held goes back to its pool at once"]
pub struct OwnedObject<M: Manager>(Held<Arc<Pool<M>>, M>);

/// The body of both.
pub(super) struct Held<H: Deref<Target = Pool<M>>, M: Manager> {
    pool: H,
    /// `None` only while it is being taken apart.
    pooled: Option<Box<Pooled<M>>>,
}

impl<'a, M: Manager> Object<'a, M> {
    pub(super) fn new(pool: &'a Pool<M>, pooled: Box<Pooled<M>>) -> Self {
        Self(Held { pool, pooled: Some(pooled) })
    }

    /// The pool that it goes back to.
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
    pub(super) fn new(pool: Arc<Pool<M>>, pooled: Box<Pooled<M>>) -> Self {
        Self(Held { pool, pooled: Some(pooled) })
    }

    /// The pool that it goes back to.
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
        self.pooled.as_ref().expect("it is there until it is taken apart")
    }

    fn take(&mut self) -> Box<Pooled<M>> {
        self.pooled.take().expect("it is there until it is taken apart")
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

/// What an object in use can do, borrowed or owned.
macro_rules! object {
    ($short:ident, [$($generics:tt)*] $name:ty) => {
        impl<$($generics)*> $name {
            /// Takes the object out of the pool for good, which has room for another one then.
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
                this.0.pool.release(1, 0).discard();
                pooled.object
            }

            /// Drops the object instead of returning it, and makes room for another one.
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
                this.0.pool.discard(pooled, (1, 0));
            }

            /// What the pool knows about the object.
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
                &mut self.0.pooled.as_mut().expect("it is there until it is taken apart").object
            }
        }

        // Not the object's own: then `unwrap_err` of a `get` would work with few objects only.
        impl<$($generics)*> fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($short)).field("metrics", &self.0.pooled().metrics).finish_non_exhaustive()
            }
        }
    };
}

object!(Object, ['a, M: Manager] Object<'a, M>);
object!(OwnedObject, [M: Manager] OwnedObject<M>);
