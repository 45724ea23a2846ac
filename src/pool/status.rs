//! Snapshots and counts of a pool.

/// A snapshot of what a [`Pool`](crate::Pool) holds: `size` = `idle` + `in_use` + `creating`.
///
/// # Examples
///
/// ```
/// # stanchion::blocking::wait(async {
/// let pool = stanchion::Pool::from_objects([1, 2]);
/// let lent = pool.get().await?;
/// let stanchion::Status { size, idle, in_use, .. } = pool.status();
/// assert_eq!((size, idle, in_use), (2, 1, 1));
/// # drop(lent);
/// # Ok::<(), stanchion::GetError<std::convert::Infallible>>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The number of objects that there may be.
    pub max_size: usize,
    /// The number of slots that are taken; above `max_size` only while the pool shrinks.
    pub size: usize,
    /// Objects that are ready to be taken.
    pub idle: usize,
    /// Objects that users hold, that are granted or being dropped, and those that are recycled, pending recyclings
    /// included.
    pub in_use: usize,
    /// Objects that are created, or about to be, pending creations included.
    pub creating: usize,
    /// Getters that wait and have neither a creation nor a recycling.
    pub waiting: usize,
}

/// Counts of what has happened to a [`Pool`](crate::Pool) since it was built.
///
/// # Examples
///
/// ```
/// # stanchion::blocking::wait(async {
/// let pool = stanchion::Pool::from_objects([7]);
/// drop(pool.get().await);
/// drop(pool.get().await);
/// assert_eq!((pool.stats().gets, pool.stats().waits), (2, 0));
/// # });
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Getters that were polled, and each successful `try_get`.
    pub gets: u64,
    /// Getters that were not ready at their first poll.
    pub waits: u64,
    /// Those of them that were dropped before they were served.
    pub abandoned: u64,
    /// Objects created by the manager.
    pub created: u64,
    /// Creations that failed or panicked.
    pub create_failures: u64,
    /// Objects recycled with success, those that [`maintenance`](crate::Pool::maintenance) checks included.
    pub recycled: u64,
    /// Recyclings that failed or panicked; each costs its object.
    pub recycle_failures: u64,
    /// Objects discarded at the end of their lifetime or idle timeout.
    pub expired: u64,
    /// Objects discarded because of [`is_broken`](crate::Manager::is_broken), [`discard`](crate::Object::discard) or
    /// [`clear`](crate::Pool::clear).
    pub discarded: u64,
}
