//! A gate that admits a limited number of visitors at once, and counts those inside, never more than there are places.

use crate::sync::{AtomicUsize, Ordering};

/// Counts one visitor, until it is dropped.
struct Count<'a>(&'a AtomicUsize);

impl<'a> Count<'a> {
    fn one_of(inside: &'a AtomicUsize) -> Self {
        inside.fetch_add(1, Ordering::Relaxed);
        Self(inside)
    }
}

impl Drop for Count<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

pub mod broken {
    use super::{AtomicUsize, Count, Ordering};
    use stanchion::{Semaphore, SemaphorePermit};

    pub struct Gate {
        places: Semaphore,
        inside: AtomicUsize,
    }

    /// Returns its place before it stops counting: fields are dropped from top to bottom.
    pub struct Visit<'a> {
        _place: SemaphorePermit<'a>,
        _count: Count<'a>,
    }

    impl Gate {
        pub fn new(places: usize) -> Self {
            Self { places: Semaphore::new(places), inside: AtomicUsize::new(0) }
        }

        /// Waits for a place.
        pub async fn enter(&self) -> Visit<'_> {
            let place = self.places.acquire().await.expect("the gate is never closed");
            Visit { _place: place, _count: Count::one_of(&self.inside) }
        }

        /// Enters if there is a place, which another visitor may take between the check and the acquisition.
        pub fn try_enter(&self) -> Option<Visit<'_>> {
            if self.places.available_permits() == 0 {
                return None;
            }
            let place = self.places.try_acquire().expect("there was a place");
            Some(Visit { _place: place, _count: Count::one_of(&self.inside) })
        }

        pub fn inside(&self) -> usize {
            self.inside.load(Ordering::Relaxed)
        }
    }
}

pub mod right {
    use super::{AtomicUsize, Count, Ordering};
    use stanchion::{Semaphore, SemaphorePermit};

    pub struct Gate {
        places: Semaphore,
        inside: AtomicUsize,
    }

    /// Stops counting before it returns its place: fields are dropped from top to bottom.
    pub struct Visit<'a> {
        _count: Count<'a>,
        _place: SemaphorePermit<'a>,
    }

    impl Gate {
        pub fn new(places: usize) -> Self {
            Self { places: Semaphore::new(places), inside: AtomicUsize::new(0) }
        }

        /// Waits for a place.
        pub async fn enter(&self) -> Visit<'_> {
            let place = self.places.acquire().await.expect("the gate is never closed");
            Visit { _count: Count::one_of(&self.inside), _place: place }
        }

        /// Enters if there is a place, in one step.
        pub fn try_enter(&self) -> Option<Visit<'_>> {
            let place = self.places.try_acquire().ok()?;
            Some(Visit { _count: Count::one_of(&self.inside), _place: place })
        }

        pub fn inside(&self) -> usize {
            self.inside.load(Ordering::Relaxed)
        }
    }
}
