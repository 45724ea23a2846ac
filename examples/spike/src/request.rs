//! What all services share: requests of three classes, their answers, what is counted, and the trait that HTTP calls.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::database::Product;

/// The class of a request, the least urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// A customer that does not pay, and the default.
    Free,
    /// A customer that pays.
    Paying,
    /// The supervisor, which restarts a service that does not answer.
    Health,
}

impl Class {
    pub const ALL: [Self; 3] = [Self::Free, Self::Paying, Self::Health];

    pub fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Paying => "paying",
            Self::Health => "health",
        }
    }

    pub fn named(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name().as_bytes() == name)
    }
}

/// A request that waits to be admitted.
pub struct Request {
    pub class: Class,
    pub id: u32,
    pub reply: oneshot::Sender<Lookup>,
}

/// A product, or `None` where there is no such product.
pub type Lookup = Result<Option<Arc<Product>>, Refusal>;

/// The reason why a request is not served.
#[derive(Clone, Debug)]
pub enum Refusal {
    /// The queue was full. The class is that of the request that was shed.
    Busy(Class),
    /// The database did not answer.
    Broken(String),
}

impl<E: Display> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::Broken(error.to_string())
    }
}

/// What all threads count.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Threads that query the database, or wait for a connection to it.
    pub serving: u32,
    pub most_serving: u32,
    /// Connections that were lent or opened, and the waits for them.
    pub connections: u32,
    pub waited: Duration,
    pub longest_wait: Duration,
}

impl Counts {
    pub fn begin(&mut self) {
        self.serving += 1;
        self.most_serving = self.most_serving.max(self.serving);
    }

    pub fn end(&mut self) {
        self.serving -= 1;
    }

    pub fn connected(&mut self, wait: Duration) {
        self.connections += 1;
        self.waited += wait;
        self.longest_wait = self.longest_wait.max(wait);
    }

    pub fn mean_wait(&self) -> Duration {
        self.waited / self.connections.max(1)
    }
}

/// The sizes of the parts. Those of parts that are left out have no effect.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Threads that serve at a time, and connections of the pool.
    pub permits: usize,
    /// Requests in the queue.
    pub max_waiting: usize,
    /// Products in the cache.
    pub remembered: usize,
}

/// A service that looks products up.
pub trait Service: Send + Sync + 'static {
    /// Answers a request.
    fn product(self: &Arc<Self>, class: Class, id: u32) -> impl Future<Output = Lookup> + Send;

    /// Does the work that belongs to no request. To be polled as long as there are requests.
    fn run(self: &Arc<Self>) -> impl Future<Output = ()> + Send;

    /// Returns the counts so far. Blocks the thread.
    fn counts(&self) -> Counts;

    /// Returns the share of requests that the cache answered, if there is a cache that counts them.
    fn hit_ratio(&self) -> Option<f64>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_found_by_their_names() {
        for class in Class::ALL {
            assert_eq!(Class::named(class.name().as_bytes()), Some(class));
        }
        assert_eq!(Class::named(b"royal"), None);
        assert!(Class::ALL.is_sorted());
    }
}
