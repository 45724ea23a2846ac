//! The service: a page about a product, from the database. Each of its five parts does one job and can be left out.
//!
//! | part | what it does | without it |
//! |---|---|---|
//! | [`Semaphore`] | *admits*: a few threads serve at a time, and cores are left to read requests with | each request has a thread at once, and they slow each other down |
//! | [`PriorityQueue`] | *orders*: health checks, then paying customers, then free ones; when it is full, it *sheds* the newest of the least urgent (503) | first come, first served; no request is shed, however late its answer will be |
//! | [`Pool`] | *lends* connections, which are opened once and used again unless they fail | each query opens a connection |
//! | [`Mutex`] | *guards* the counts that all threads write | the standard library's does, which is as good for a lock that is not awaited |
//! | [`LruCache`] | *remembers* products; of all requests for the same product one asks the database | each request asks |
//!
//! Two parts are of more use after the first. Without the semaphore the queue empties as fast as it fills, so that there
//! is little to order or to shed. The pool still limits the queries at a time then, but whole threads wait for it.
//!
//! [`peers`](crate::peers) is the same service on other crates; [`http`](crate::http) serves either.

use std::sync::{self, Arc, PoisonError};
use std::time::Instant;

use stanchion::{LruCache, Manager, Mutex, OwnedSemaphorePermit, Pool, PriorityQueue, Semaphore, Stats, blocking};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::database::{Connection, Database, Product};
use crate::parts::{Part, Parts};
use crate::request::{Class, Counts, Lookup, Refusal, Request, Service, Sizes};

pub struct With {
    database: Database,
    admission: Option<Arc<Semaphore>>,
    queue: Option<PriorityQueue<Class, Request>>,
    connections: Option<Arc<Pool<Database>>>,
    counts: Counter,
    /// Products, and that there is no such product. One shard is enough: its lock is held for a thousandth of the time
    /// that a request takes.
    products: Option<LruCache<u32, Option<Arc<Product>>>>,
}

enum Counter {
    Stanchion(Mutex<Counts>),
    Std(sync::Mutex<Counts>),
}

impl Counter {
    /// Blocks the thread while others count.
    fn count<R>(&self, count: impl FnOnce(&mut Counts) -> R) -> R {
        match self {
            Self::Stanchion(counts) => count(&mut counts.blocking_lock()),
            Self::Std(counts) => count(&mut counts.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }
}

/// A file does not hang up, so connections are used again without a check.
impl Manager for Database {
    type Object = Connection;
    type Error = anyhow::Error;

    /// Blocks the thread for a fraction of a millisecond. A thread of its own might never come: all of them may be waiting
    /// for connections.
    async fn create(&self) -> anyhow::Result<Connection> {
        Ok(self.connect()?)
    }

    fn is_broken(&self, connection: &mut Connection) -> bool {
        connection.has_failed()
    }
}

impl With {
    pub fn new(database: &Database, parts: Parts, sizes: Sizes) -> Self {
        let Sizes { permits, max_waiting, remembered } = sizes;
        let pool = || Pool::builder(database.clone()).max_size(permits).min_idle(permits).build();
        Self {
            database: database.clone(),
            admission: parts.has(Part::Semaphore).then(|| Arc::new(Semaphore::new(permits))),
            queue: parts.has(Part::Queue).then(|| PriorityQueue::bounded(max_waiting)),
            connections: parts.has(Part::Pool).then(|| Arc::new(pool())),
            counts: match parts.has(Part::Mutex) {
                true => Counter::Stanchion(Mutex::default()),
                false => Counter::Std(sync::Mutex::default()),
            },
            products: parts.has(Part::Cache).then(|| LruCache::new(remembered)),
        }
    }

    /// Asks the database once this request is admitted.
    async fn ask(self: &Arc<Self>, class: Class, id: u32) -> Lookup {
        let (reply, answer) = oneshot::channel();
        let request = Request { class, id, reply };
        match &self.queue {
            // A full queue gives up its least urgent request, be it this one.
            Some(queue) => {
                if let Ok((_, Some((class, shed)))) = queue.force_push(class, request) {
                    let _ = shed.reply.send(Err(Refusal::Busy(class)));
                }
            }
            None => self.start(self.admit().await, request),
        }
        answer.await?
    }

    /// Waits until fewer threads serve than there are permits.
    async fn admit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(self.admission.as_ref()?).acquire_owned().await.ok() // It is never closed.
    }

    /// Takes requests from the queue as they are admitted.
    async fn serve_queue(self: &Arc<Self>) {
        let Some(queue) = &self.queue else { return };
        loop {
            // The permit first: the request is the most urgent one by then.
            let permit = self.admit().await;
            let Some((_, first)) = queue.pop().await else { return };
            self.start(permit, first);
        }
    }

    /// Has a thread serve `first` and, with a permit, whatever is in the queue after that.
    fn start(self: &Arc<Self>, permit: Option<OwnedSemaphorePermit>, first: Request) {
        let service = Arc::clone(self);
        spawn_blocking(move || {
            let mut next = Some(first);
            while let Some(request) = next {
                let class = request.class;
                service.answer(request);
                let Some(queue) = service.queue.as_ref().filter(|_| permit.is_some()) else { return };
                if class == Class::Free {
                    // The thread that reads urgent requests may be waiting for this core.
                    std::thread::yield_now();
                }
                next = queue.try_pop().ok().map(|(_, request)| request);
            }
        });
    }

    /// Blocks the thread.
    fn answer(&self, Request { id, reply, .. }: Request) {
        // Nothing is asked for a client that has hung up: a follower of its load has a request of its own.
        if !reply.is_closed() {
            self.counts.count(Counts::begin);
            let answer = self.look_up(id);
            self.counts.count(Counts::end);
            let _ = reply.send(answer);
        }
    }

    /// Blocks the thread.
    fn look_up(&self, id: u32) -> Lookup {
        let start = Instant::now();
        let (mut lent, mut opened);
        let connection: &mut Connection = match &self.connections {
            Some(pool) => {
                lent = blocking::wait(pool.get())?;
                &mut lent
            }
            None => {
                opened = self.database.connect()?;
                &mut opened
            }
        };
        self.counts.count(|counts| counts.connected(start.elapsed()));
        Ok(connection.product(id)?.map(Arc::new))
    }
}

impl Service for With {
    async fn product(self: &Arc<Self>, class: Class, id: u32) -> Lookup {
        let Some(products) = &self.products else { return self.ask(class, id).await };
        loop {
            // Of the requests that miss the same product, the first is the leader and asks for all. If its client hangs
            // up, the follower that has waited longest asks instead.
            let answer = products.try_get_or_load(&id, || self.ask(class, id)).await;
            match answer.map_err(Arc::unwrap_or_clone) {
                // The leader was less urgent: its answer is not for this request.
                Err(Refusal::Busy(shed)) if shed < class => {}
                answer => return answer,
            }
        }
    }

    async fn run(self: &Arc<Self>) {
        let keep_connections = async {
            if let Some(pool) = &self.connections {
                Pool::maintenance(pool, sleep).await;
            }
        };
        tokio::join!(keep_connections, self.serve_queue());
    }

    fn counts(&self) -> Counts {
        self.counts.count(|counts| *counts)
    }

    fn hit_ratio(&self) -> Option<f64> {
        let Stats { hits, misses, .. } = self.products.as_ref()?.stats();
        (hits + misses > 0).then(|| hits as f64 / (hits + misses) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    type Asked<'a> = Pin<Box<dyn Future<Output = Lookup> + 'a>>;

    /// With all parts, one permit, and a queue for so many.
    fn with_all(database: &Database, max_waiting: usize) -> Arc<With> {
        Arc::new(With::new(database, Parts::ALL, Sizes { permits: 1, max_waiting, remembered: 9 }))
    }

    /// The requests in the queue, the most urgent first.
    fn queued(service: &With) -> Vec<(Class, u32)> {
        let requests = service.queue.iter().flat_map(PriorityQueue::drain);
        requests.map(|(class, request)| (class, request.id)).collect()
    }

    fn ask<'a>(service: &'a Arc<With>, requests: &[(Class, u32)]) -> Vec<Option<Asked<'a>>> {
        let ask = |&(class, id): &(Class, u32)| Some(Box::pin(service.product(class, id)) as Asked);
        requests.iter().map(ask).collect()
    }

    /// Serves until all that have not hung up are answered, and none with a refusal.
    fn serve_all(service: &Arc<With>, asked: &mut [Option<Asked>]) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let mut answers = Vec::new();
        runtime.block_on(async {
            let mut serving = Box::pin(service.run());
            while asked.iter().any(Option::is_some) {
                let step = std::future::poll_fn(|context| Poll::Ready(serving.as_mut().poll(context)));
                assert!(step.await.is_pending());
                answers.extend(look(asked));
                std::thread::yield_now();
            }
        });
        assert!(answers.iter().all(|(_, answer)| matches!(answer, Ok(Some(_)))), "{answers:?}");
        Ok(())
    }

    /// What has been answered by now, once each.
    fn look(asked: &mut [Option<Asked>]) -> Vec<(usize, Lookup)> {
        let mut context = Context::from_waker(Waker::noop());
        let mut answers = Vec::new();
        for (number, place) in (1..).zip(asked) {
            let Some(Poll::Ready(answer)) = place.as_mut().map(|asked| asked.as_mut().poll(&mut context)) else {
                continue;
            };
            *place = None;
            answers.push((number, answer));
        }
        answers
    }

    #[test]
    fn every_combination_serves_all_within_its_limits() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("catalogue.sqlite");
        Database::prepare(&path)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build()?;
        let lock = rusqlite::Connection::open(&path)?;
        for parts in Parts::every() {
            let database = Database::at(&path);
            let sizes = Sizes { permits: 2, max_waiting: 12, remembered: 9 };
            let service = Arc::new(With::new(&database, parts, sizes));
            // Queries wait until as many threads as may query do.
            lock.execute_batch("BEGIN EXCLUSIVE")?;
            let serving = Arc::clone(&service);
            let serving = runtime.spawn(async move { serving.run().await });
            // Three requests for each of four products.
            let ask = |number: u32| {
                let (service, class, id) = (Arc::clone(&service), Class::ALL[number as usize % 3], 1 + number / 3);
                (id, runtime.spawn(async move { service.product(class, id).await }))
            };
            let asked: Vec<_> = (0..12).map(ask).collect();
            let queries = if parts.has(Part::Cache) { 4 } else { 12 };
            let at_once = if parts.has(Part::Semaphore) { 2 } else { queries };
            while service.counts().serving < at_once {
                std::thread::yield_now();
            }
            lock.execute_batch("COMMIT")?;
            for (id, asked) in asked {
                let product = runtime.block_on(asked)?;
                assert!(matches!(&product, Ok(Some(product)) if product.id == id), "{parts}: {product:?}");
            }
            serving.abort();

            let (asked, opened) = (database.queries(), database.connections_opened());
            let made = if parts.has(Part::Pool) { 2 } else { queries };
            assert_eq!((asked, opened), (queries.into(), made.into()), "{parts}");
            let counts = service.counts();
            assert_eq!((counts.most_serving, counts.connections), (at_once, queries), "{parts}");
            assert_eq!(service.hit_ratio().is_some(), parts.has(Part::Cache), "{parts}");
        }
        Ok(())
    }

    #[test]
    fn every_combination_serves_in_order() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("catalogue.sqlite");
        Database::prepare(&path)?;
        for parts in Parts::every() {
            let database = Database::at(&path);
            let service = Arc::new(With::new(&database, parts, Sizes { permits: 1, max_waiting: 9, remembered: 9 }));
            // On one thread requests are served in the order in which they are begun.
            let runtime =
                tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).enable_time().build()?;
            let served = Arc::new(sync::Mutex::new(Vec::new()));
            runtime.block_on(async {
                // The thread is busy until all have asked.
                let (go, wait) = std::sync::mpsc::channel::<()>();
                spawn_blocking(move || wait.recv().is_err());
                let ask = |id| {
                    let (service, served) = (Arc::clone(&service), Arc::clone(&served));
                    tokio::spawn(async move {
                        let answer = service.product(Class::ALL[id as usize % 3], id).await;
                        served.lock().expect("no holder panics").push(id);
                        answer
                    })
                };
                let mut asked: Vec<_> = (1..=9).map(ask).collect();
                tokio::task::yield_now().await;
                asked.remove(4).abort();
                let serving = Arc::clone(&service);
                tokio::spawn(async move { serving.run().await });
                tokio::task::yield_now().await;
                drop(go);
                for asked in asked {
                    let answer = asked.await?;
                    assert!(matches!(answer, Ok(Some(_))), "{parts}: {answer:?}");
                }
                anyhow::Ok(())
            })?;
            let order = if parts.has(Part::Queue) { [2, 8, 1, 4, 7, 3, 6, 9] } else { [1, 2, 3, 4, 6, 7, 8, 9] };
            assert_eq!(*served.lock().expect("no holder panics"), order, "{parts}");
            assert_eq!(database.queries(), 8, "{parts}");
        }
        Ok(())
    }

    #[test]
    fn a_full_queue_sheds_the_newest_of_the_least_urgent() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let service = with_all(&Database::at(&directory.path().join("unused")), 3);
        let classes = [
            // Each for a product of its own.
            Class::Free,   // 1
            Class::Free,   // 2
            Class::Paying, // 3
            Class::Health, // 4: sheds 2
            Class::Free,   // 5: is shed
            Class::Paying, // 6: sheds 1
            Class::Health, // 7: sheds 6
            Class::Free,   // 8: is shed
        ];
        let mut asked = ask(&service, &classes.into_iter().zip(1..).collect::<Vec<_>>());
        let mut refused = look(&mut asked);
        refused.extend(look(&mut asked)); // those that were in the queue before they were shed
        assert!(refused.iter().all(|(_, answer)| matches!(answer, Err(Refusal::Busy(_)))), "{refused:?}");
        let numbers: Vec<_> = refused.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [5, 8, 1, 2, 6]);

        assert_eq!(queued(&service), [(Class::Health, 4), (Class::Health, 7), (Class::Paying, 3)]);
        Ok(())
    }

    #[test]
    fn no_query_is_made_for_a_client_that_hung_up() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let database = Database::prepare(&directory.path().join("catalogue.sqlite"))?;
        let service = with_all(&database, 3);
        let mut asked = ask(&service, &[(Class::Paying, 1), (Class::Paying, 2), (Class::Paying, 3)]);
        assert!(look(&mut asked).is_empty());
        asked[1] = None;
        serve_all(&service, &mut asked)?;
        assert_eq!(database.queries(), 2);
        Ok(())
    }

    #[test]
    fn requests_for_the_same_product_share_a_query() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let database = Database::prepare(&directory.path().join("catalogue.sqlite"))?;
        let service = with_all(&database, 3);
        let mut asked = ask(&service, &[(Class::Free, 7), (Class::Health, 7), (Class::Paying, 7)]);
        assert!(look(&mut asked).is_empty());
        assert_eq!(service.queue.as_ref().map(PriorityQueue::len), Some(1));
        serve_all(&service, &mut asked)?;

        // Nothing serves any more; the cache answers.
        let answers = look(&mut ask(&service, &[(Class::Free, 7)]));
        assert!(matches!(answers[..], [(1, Ok(Some(_)))]), "{answers:?}");
        assert_eq!((database.queries(), database.queries_for(7)), (1, 1));
        assert_eq!(service.counts().connections, 1);
        assert_eq!(service.hit_ratio(), Some(0.25));
        Ok(())
    }

    #[test]
    fn a_leader_that_hangs_up_leaves_the_query_to_a_follower() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let database = Database::prepare(&directory.path().join("catalogue.sqlite"))?;
        let service = with_all(&database, 3);
        let mut asked = ask(&service, &[(Class::Health, 7), (Class::Free, 7), (Class::Paying, 7)]);
        assert!(look(&mut asked).is_empty());
        asked[0] = None;
        assert!(look(&mut asked).is_empty());
        assert_eq!(service.queue.as_ref().map(PriorityQueue::len), Some(2)); // with the request of the leader
        serve_all(&service, &mut asked)?;
        assert_eq!(database.queries(), 1);
        Ok(())
    }

    #[test]
    fn an_urgent_follower_is_not_shed_with_its_leader() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let service = with_all(&Database::at(&directory.path().join("unused")), 1);
        // The second follows the first, which the third sheds.
        let mut asked = ask(&service, &[(Class::Free, 7), (Class::Health, 7), (Class::Paying, 8)]);
        let mut refused = look(&mut asked);
        refused.extend(look(&mut asked));
        refused.extend(look(&mut asked));
        assert!(
            matches!(refused[..], [(1, Err(Refusal::Busy(Class::Free))), (3, Err(Refusal::Busy(Class::Paying)))]),
            "{refused:?}"
        );
        assert_eq!(queued(&service), [(Class::Health, 7)]);
        Ok(())
    }

    #[test]
    fn a_connection_is_used_again_unless_it_failed() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let (good, empty) = (directory.path().join("catalogue.sqlite"), directory.path().join("empty"));
        Database::prepare(&good)?;
        std::fs::write(&empty, "")?;
        for (path, opened) in [(good, 1), (empty, 3)] {
            let database = Database::at(&path);
            let service = with_all(&database, 3);
            let answers = [1, 2, 3].map(|id| service.look_up(id).is_ok());
            assert_eq!(answers, [opened == 1; 3]);
            assert_eq!((database.connections_opened(), database.queries()), (opened, 3));
            assert_eq!(service.counts().connections, 3);
        }
        Ok(())
    }

    #[test]
    fn a_database_that_is_not_there_is_told() {
        let service = with_all(&Database::at("missing/file".as_ref()), 3);
        for _ in 0..2 {
            assert!(matches!(service.look_up(1), Err(Refusal::Broken(why)) if why.contains("open")));
        }
        assert_eq!(service.connections.as_ref().map(|pool| pool.status().size), Some(0));
    }
}
