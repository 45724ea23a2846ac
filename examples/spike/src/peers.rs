//! The same service on other crates: tokio's `Semaphore` and `Mutex`, async-priority-channel, deadpool and moka.
//!
//! It differs from [`with`](crate::service) where the crates do. A full channel sheds the request that arrives, be it a
//! health check, since it cannot give up a less urgent one. deadpool opens connections when they are first needed.

use std::sync::Arc;
use std::time::Instant;

use async_priority_channel::{Receiver, Sender};
use deadpool::managed;
use moka::future::Cache;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::spawn_blocking;

use crate::database::{Connection, Database, Product};
use crate::request::{Class, Counts, Lookup, Refusal, Request, Service, Sizes};

pub struct Peers {
    admission: Arc<Semaphore>,
    queue: (Sender<Request, Class>, Receiver<Request, Class>),
    connections: managed::Pool<Database>,
    counts: Mutex<Counts>,
    products: Cache<u32, Option<Arc<Product>>>,
}

impl managed::Manager for Database {
    type Type = Connection;
    type Error = rusqlite::Error;

    async fn create(&self) -> rusqlite::Result<Connection> {
        self.connect()
    }

    async fn recycle(&self, connection: &mut Connection, _: &managed::Metrics) -> managed::RecycleResult<Self::Error> {
        if connection.has_failed() { Err(managed::RecycleError::message("a query failed")) } else { Ok(()) }
    }
}

impl Peers {
    /// The crates that do the jobs of the five parts.
    pub const PARTS: [&str; 5] = ["tokio Semaphore", "async-priority-channel", "deadpool", "tokio Mutex", "moka"];

    pub fn new(database: &Database, sizes: Sizes) -> anyhow::Result<Self> {
        Ok(Self {
            admission: Arc::new(Semaphore::new(sizes.permits)),
            queue: async_priority_channel::bounded(sizes.max_waiting as u64),
            connections: managed::Pool::builder(database.clone()).max_size(sizes.permits).build()?,
            counts: Mutex::default(),
            products: Cache::new(sizes.remembered as u64),
        })
    }

    async fn ask(&self, class: Class, id: u32) -> Lookup {
        let (reply, answer) = oneshot::channel();
        if self.queue.0.try_send(Request { class, id, reply }, class).is_err() {
            return Err(Refusal::Busy(class)); // It is never closed, so it is full.
        }
        answer.await?
    }

    /// Has a thread serve `first` and then whatever is in the queue.
    fn start(self: &Arc<Self>, permit: OwnedSemaphorePermit, first: Request) {
        let service = Arc::clone(self);
        spawn_blocking(move || {
            let _permit = permit;
            let mut next = Some(first);
            while let Some(request) = next {
                let class = request.class;
                service.answer(request);
                if class == Class::Free {
                    std::thread::yield_now(); // See `with`.
                }
                next = service.queue.1.try_recv().ok().map(|(request, _)| request);
            }
        });
    }

    fn answer(&self, Request { id, reply, .. }: Request) {
        if !reply.is_closed() {
            self.counts.blocking_lock().begin();
            let answer = self.look_up(id);
            self.counts.blocking_lock().end();
            let _ = reply.send(answer);
        }
    }

    fn look_up(&self, id: u32) -> Lookup {
        let start = Instant::now();
        let mut connection = Handle::current().block_on(self.connections.get())?;
        self.counts.blocking_lock().connected(start.elapsed());
        Ok(connection.product(id)?.map(Arc::new))
    }
}

impl Service for Peers {
    async fn product(self: &Arc<Self>, class: Class, id: u32) -> Lookup {
        loop {
            let answer = self.products.try_get_with(id, self.ask(class, id)).await;
            match answer.map_err(Arc::unwrap_or_clone) {
                // The leader of the load was less urgent: its answer is not for this request.
                Err(Refusal::Busy(shed)) if shed < class => {}
                answer => return answer,
            }
        }
    }

    async fn run(self: &Arc<Self>) {
        // The permit first: the request is the most urgent one by then.
        while let Ok(permit) = Arc::clone(&self.admission).acquire_owned().await {
            let Ok((first, _)) = self.queue.1.recv().await else { return };
            self.start(permit, first);
        }
    }

    fn counts(&self) -> Counts {
        *self.counts.blocking_lock()
    }

    /// moka does not count hits.
    fn hit_ratio(&self) -> Option<f64> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::{Context, Waker};

    const SIZES: Sizes = Sizes { permits: 2, max_waiting: 4, remembered: 9 };

    #[test]
    fn requests_for_the_same_product_share_a_query() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let database = Database::prepare(&directory.path().join("catalogue.sqlite"))?;
        let service = Arc::new(Peers::new(&database, SIZES)?);
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        runtime.block_on(async {
            let ask = |number: u32| {
                let service = Arc::clone(&service);
                tokio::spawn(async move { service.product(Class::ALL[number as usize % 3], 1 + number / 3).await })
            };
            let asked: Vec<_> = (0..12).map(ask).collect();
            tokio::task::yield_now().await;
            let serving = Arc::clone(&service);
            tokio::spawn(async move { serving.run().await });
            for asked in asked {
                let product = asked.await?;
                assert!(matches!(product, Ok(Some(_))), "{product:?}");
            }
            anyhow::Ok(())
        })?;
        assert_eq!((database.queries(), service.counts().connections), (4, 4));
        assert!(database.connections_opened() <= 2);
        Ok(())
    }

    #[test]
    fn a_full_channel_sheds_the_request_that_arrives() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let service = Arc::new(Peers::new(&Database::at(&directory.path().join("unused")), SIZES)?);
        let mut context = Context::from_waker(Waker::noop());
        let mut queued: Vec<_> = (1..=4).map(|id| Box::pin(service.product(Class::Free, id))).collect();
        assert!(queued.iter_mut().all(|asked| asked.as_mut().poll(&mut context).is_pending()));
        let health = pin!(service.product(Class::Health, 5)).poll(&mut context);
        assert!(matches!(health, std::task::Poll::Ready(Err(Refusal::Busy(Class::Health)))), "{health:?}");
        Ok(())
    }
}
