//! The errors of the priority queue. They say what happened whatever the item is, and give it back.

use std::fmt;

/// The error of a push to a closed queue, with what was to be pushed.
///
/// # Examples
///
/// ```
/// use stanchion::{Closed, PriorityQueue};
///
/// # stanchion::blocking::wait(async {
/// let queue = PriorityQueue::unbounded();
/// queue.close();
/// let Err(Closed((priority, item))) = queue.push(1, "job").await else { unreachable!() };
/// assert_eq!((priority, item), (1, "job"));
/// # });
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Closed<T>(pub T);

/// The error of a `try_push`, with what was to be pushed.
///
/// # Examples
///
/// ```
/// use stanchion::{PriorityQueue, TryPushError};
///
/// let queue = PriorityQueue::bounded(1);
/// queue.try_push(1, "in").unwrap();
/// assert_eq!(queue.try_push(2, "job"), Err(TryPushError::Full((2, "job"))));
/// queue.close();
/// assert_eq!(queue.try_push(2, "job"), Err(TryPushError::Closed((2, "job"))));
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum TryPushError<T> {
    /// The queue is full.
    Full(T),
    /// The queue is closed.
    Closed(T),
}

/// The error of a `try_pop`.
///
/// # Examples
///
/// ```
/// use stanchion::{PriorityQueue, TryPopError};
///
/// let queue = PriorityQueue::<u8, &str>::unbounded();
/// assert_eq!(queue.try_pop(), Err(TryPopError::Empty));
/// queue.close();
/// assert_eq!(queue.try_pop(), Err(TryPopError::Closed));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryPopError {
    /// There is no item that is not reserved for a pop that waited for it.
    Empty,
    /// The queue is closed and drained.
    Closed,
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
            Self::Empty => "the queue is empty, or its items are reserved for pops that waited",
            Self::Closed => "the queue is closed and drained",
        })
    }
}

impl std::error::Error for TryPopError {}
