//! The service: a page about a product, out of the database. It is made of up to five parts, each with one job.
//! Any of them may be left out: then its job is done as is easily written, and the others do theirs all the same.
//!
//! - A [`Semaphore`] *admits*: so many threads serve at once, and cores are left to read requests with. *Without it*
//!   every request has a thread at once, as far as the runtime has any, and when load rises they slow each other down.
//! - A [`PriorityQueue`] is the *line* of those who want to be admitted: health checks go before paying customers, and
//!   those before free ones. It is bounded, and when it is full the least urgent request, the newest of those, is
//!   turned away at once (503 with `Retry-After`) instead of being served when it is too late. *Without it* whoever
//!   comes first is admitted first, and nobody is turned away, however late the answer will be.
//! - A [`Pool`] *lends* connections, which are opened once, ahead of the first request, and used again unless they
//!   fail. *Without it* each look-up opens one of its own.
//! - A [`Mutex`] keeps the *books* that all threads write in: how many serve, and how long they waited for a
//!   connection. *Without it* the standard library's does, which is as good for a lock that nobody awaits.
//! - An [`LruCache`] *remembers* what was asked for lately, and of those who ask for the same product at once has one
//!   ask the database for all. What the others do is for what it does not know. *Without it* everybody asks.
//!
//! Two are of more use after the first. Without the semaphore nobody is held back: the line empties as fast as it
//! fills, so that there is little to order, and hardly anybody to turn away. The pool still bounds how many query at
//! once then, but whole threads wait for its connections, in the order in which they came, whoever sent them.
//!
//! The file beside this one, which speaks HTTP, is the same whatever the parts are.

use std::fmt::Display;
use std::sync::{self, Arc, PoisonError};
use std::time::{Duration, Instant};

use stanchion::{LruCache, Manager, Mutex, OwnedSemaphorePermit, Pool, PriorityQueue, Semaphore, Stats, blocking};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use crate::database::{Connection, Database, Product};
use crate::parts::{Part, Parts};

/// Who asks, the least urgent first: this is the order of the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// A customer who does not pay, or anybody who does not say.
    Free,
    /// A customer who pays.
    Paying,
    /// Whoever restarts the service when it does not answer.
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

/// How a request fails to be served.
#[derive(Clone, Debug)]
pub enum Refusal {
    /// Too many are waiting already, all of them at least as urgent as this class.
    Busy(Class),
    /// The database did not answer.
    Broken(String),
}

impl<E: Display> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::Broken(error.to_string())
    }
}

pub type Lookup = Result<Option<Arc<Product>>, Refusal>;

/// How it went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Threads that ask the database or wait to do so.
    pub serving: u32,
    /// As many as there ever were at once.
    pub most_serving: u32,
    /// Connections that were waited for, and for how long.
    pub connections: u32,
    pub waited: Duration,
    pub longest_wait: Duration,
}

impl Counts {
    fn begin(&mut self) {
        self.serving += 1;
        self.most_serving = self.most_serving.max(self.serving);
    }

    fn end(&mut self) {
        self.serving -= 1;
    }

    fn connected(&mut self, wait: Duration) {
        self.connections += 1;
        self.waited += wait;
        self.longest_wait = self.longest_wait.max(wait);
    }

    pub fn mean_wait(&self) -> Duration {
        self.waited / self.connections.max(1)
    }
}

/// What all threads write in.
enum Books {
    Stanchion(Mutex<Counts>),
    Std(sync::Mutex<Counts>),
}

impl Books {
    /// Blocks the thread, for as long as others write.
    fn open<R>(&self, write: impl FnOnce(&mut Counts) -> R) -> R {
        match self {
            Self::Stanchion(counts) => write(&mut counts.blocking_lock()),
            Self::Std(counts) => write(&mut counts.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }
}

/// How much of everything there is. What belongs to a part that is left out does not matter.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Threads that the semaphore admits at once, and connections that the pool has.
    pub permits: usize,
    /// Requests that may wait in line.
    pub max_waiting: usize,
    /// Products that the cache remembers.
    pub remembered: usize,
}

/// A request that waits for its turn.
struct Ticket {
    class: Class,
    id: u32,
    reply: oneshot::Sender<Lookup>,
}

pub struct Service {
    database: Database,
    admission: Option<Arc<Semaphore>>,
    line: Option<PriorityQueue<Class, Ticket>>,
    connections: Option<Pool<Database>>,
    books: Books,
    /// What products are, or that there is no such product. One shard will do: its lock is held for a thousandth of
    /// the time that a request takes.
    products: Option<LruCache<u32, Option<Arc<Product>>>>,
}

/// What the pool needs to know of connections. A file does not hang up, so they are used again unasked.
impl Manager for Database {
    type Object = Connection;
    type Error = anyhow::Error;

    /// Blocks the thread, for all who ask for a connection are on one that may block. Had they to wait for another
    /// thread to open it, it could be that there is none, all of them waiting.
    async fn create(&self) -> anyhow::Result<Connection> {
        Ok(self.connect()?)
    }

    fn is_broken(&self, connection: &mut Connection) -> bool {
        connection.has_failed()
    }
}

impl Service {
    pub fn new(database: &Database, parts: Parts, sizes: Sizes) -> Self {
        let Sizes { permits, max_waiting, remembered } = sizes;
        let pool = || Pool::builder(database.clone()).max_size(permits).min_idle(permits).build();
        Self {
            database: database.clone(),
            admission: parts.has(Part::Semaphore).then(|| Arc::new(Semaphore::new(permits))),
            line: parts.has(Part::Queue).then(|| PriorityQueue::bounded(max_waiting)),
            connections: parts.has(Part::Pool).then(pool),
            books: if parts.has(Part::Mutex) {
                Books::Stanchion(Mutex::default())
            } else {
                Books::Std(sync::Mutex::default())
            },
            products: parts.has(Part::Cache).then(|| LruCache::new(remembered)),
        }
    }

    /// What a request is answered with.
    pub async fn product(self: &Arc<Self>, class: Class, id: u32) -> Lookup {
        let Some(products) = &self.products else { return self.ask(class, id).await };
        loop {
            // Remember: who finds it is done, and of those who miss the same product the first asks for all. When its
            // client hangs up, its ticket is worth nothing any more, and the one that has waited longest for the
            // product takes over with a ticket of its own. So nobody waits for a client that has gone. (Who is more
            // urgent than the first waits as long as the first, all the same.)
            let answer = products.try_get_or_load(&id, || self.ask(class, id)).await;
            match answer.map_err(Arc::unwrap_or_clone) {
                // Whoever asked for it was less urgent: that answer is not for this one.
                Err(Refusal::Busy(turned_away)) if turned_away < class => {}
                answer => return answer,
            }
        }
    }

    /// Asks the database when it is this request's turn.
    async fn ask(self: &Arc<Self>, class: Class, id: u32) -> Lookup {
        let (reply, answer) = oneshot::channel();
        let ticket = Ticket { class, id, reply };
        match &self.line {
            // Order, and shed: whoever is the least urgent of a full line leaves it, be it this one.
            Some(line) => {
                if let Ok((_, Some((class, turned_away)))) = line.force_push(class, ticket) {
                    let _ = turned_away.reply.send(Err(Refusal::Busy(class)));
                }
            }
            None => self.start(self.admit().await, ticket),
        }
        answer.await.unwrap_or_else(|_| Err(Refusal::Broken("nobody is left to ask the database".into())))
    }

    /// The work of the service that is no request's own. To be polled for as long as there are requests.
    pub async fn run(self: &Arc<Self>) {
        let service = Arc::clone(self);
        // A failure here would be met again, and told, by whoever needs the connection.
        let open = move || service.connections.as_ref().map(|pool| blocking::wait(pool.replenish()));
        let _ = spawn_blocking(open).await;

        let Some(line) = &self.line else { return };
        loop {
            // First a place, then whoever is the most urgent by then.
            let permit = self.admit().await;
            let Some((_, first)) = line.pop().await else { return };
            self.start(permit, first);
        }
    }

    /// Admit: the permit is there when fewer than so many threads serve.
    async fn admit(&self) -> Option<OwnedSemaphorePermit> {
        match &self.admission {
            Some(semaphore) => Arc::clone(semaphore).acquire_owned().await.ok(), // it is never closed
            None => None,
        }
    }

    /// Has a thread serve.
    fn start(self: &Arc<Self>, permit: Option<OwnedSemaphorePermit>, first: Ticket) {
        let service = Arc::clone(self);
        spawn_blocking(move || {
            let mut next = Some(first);
            while let Some(ticket) = next {
                let class = ticket.class;
                service.answer(ticket);
                // A thread that has been admitted goes on while anybody waits in line. The others have their own.
                let Some(line) = service.line.as_ref().filter(|_| permit.is_some()) else { return };
                if class == Class::Free {
                    // Whoever reads what the urgent ask may be waiting for this core.
                    std::thread::yield_now();
                }
                next = line.try_pop().ok().map(|(_, ticket)| ticket);
            }
        });
    }

    /// Blocks the thread.
    fn answer(&self, Ticket { id, reply, .. }: Ticket) {
        // Nothing is asked for a client that has hung up: if others wait for the same, one of them has a ticket.
        if !reply.is_closed() {
            self.books.open(Counts::begin);
            let answer = self.look_up(id);
            self.books.open(Counts::end);
            let _ = reply.send(answer);
        }
    }

    /// Asks the database. Blocks the thread.
    fn look_up(&self, id: u32) -> Lookup {
        let start = Instant::now();
        let (mut lent, mut opened);
        let connection: &mut Connection = match &self.connections {
            // Lend: the connection goes back when we return.
            Some(pool) => {
                lent = blocking::wait(pool.get())?;
                &mut lent
            }
            None => {
                opened = self.database.connect()?;
                &mut opened
            }
        };
        self.books.open(|counts| counts.connected(start.elapsed()));
        Ok(connection.product(id)?.map(Arc::new))
    }

    /// How it went so far. Blocks the thread.
    pub fn counts(&self) -> Counts {
        self.books.open(|counts| *counts)
    }

    /// The share of look-ups, if there were any, that needed no database and no waiting.
    pub fn hit_ratio(&self) -> Option<f64> {
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

    /// With all parts, one permit, and room for so many in line.
    fn full(database: &Database, max_waiting: usize) -> Arc<Service> {
        Arc::new(Service::new(database, Parts::ALL, Sizes { permits: 1, max_waiting, remembered: 9 }))
    }

    /// Who is in line, the most urgent first.
    fn in_line(service: &Service) -> Vec<(Class, u32)> {
        let tickets = service.line.iter().flat_map(PriorityQueue::drain);
        tickets.map(|(class, ticket)| (class, ticket.id)).collect()
    }

    fn ask<'a>(service: &'a Arc<Service>, requests: &[(Class, u32)]) -> Vec<Option<Asked<'a>>> {
        let ask = |&(class, id): &(Class, u32)| Some(Box::pin(service.product(class, id)) as Asked);
        requests.iter().map(ask).collect()
    }

    /// Serves until all who have not hung up are answered, and none with a refusal.
    fn serve_all(service: &Arc<Service>, asked: &mut [Option<Asked>]) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
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
    fn every_combination_serves_all_and_no_more_at_once_than_it_may() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("catalogue.sqlite");
        Database::prepare(&path)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build()?;
        let lock = rusqlite::Connection::open(&path)?;
        for parts in Parts::every() {
            let database = Database::at(&path);
            let sizes = Sizes { permits: 2, max_waiting: 12, remembered: 9 };
            let service = Arc::new(Service::new(&database, parts, sizes));
            // Whoever queries waits until all who may query at once do.
            lock.execute_batch("BEGIN EXCLUSIVE")?;
            let serving = Arc::clone(&service);
            let serving = runtime.spawn(async move { serving.run().await });
            // Three ask for each of four products.
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
    fn every_combination_serves_in_order_whoever_has_not_hung_up() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("catalogue.sqlite");
        Database::prepare(&path)?;
        for parts in Parts::every() {
            let database = Database::at(&path);
            let service = Arc::new(Service::new(&database, parts, Sizes { permits: 1, max_waiting: 9, remembered: 9 }));
            // What is begun on one thread one after another is served so, too.
            let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build()?;
            let served = Arc::new(sync::Mutex::new(Vec::new()));
            runtime.block_on(async {
                // It is busy until all have asked.
                let (go, wait) = std::sync::mpsc::channel::<()>();
                spawn_blocking(move || wait.recv().is_err());
                let ask = |id| {
                    let (service, served) = (Arc::clone(&service), Arc::clone(&served));
                    tokio::spawn(async move {
                        let answer = service.product(Class::ALL[id as usize % 3], id).await;
                        served.lock().expect("nobody panics").push(id);
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
            assert_eq!(*served.lock().expect("nobody panics"), order, "{parts}");
            assert_eq!(database.queries(), 8, "{parts}");
        }
        Ok(())
    }

    #[test]
    fn of_a_full_line_the_newest_of_the_least_urgent_is_turned_away() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let service = full(&Database::at(&directory.path().join("unused")), 3);
        let classes = [
            // Each asks for a product of its own.
            Class::Free,   // 1
            Class::Free,   // 2
            Class::Paying, // 3
            Class::Health, // 4: turns 2 away
            Class::Free,   // 5: is turned away
            Class::Paying, // 6: turns 1 away
            Class::Health, // 7: turns 6 away
            Class::Free,   // 8: is turned away
        ];
        let mut asked = ask(&service, &classes.into_iter().zip(1..).collect::<Vec<_>>());
        let mut refused = look(&mut asked);
        refused.extend(look(&mut asked)); // those who were in line before they were turned away
        assert!(refused.iter().all(|(_, answer)| matches!(answer, Err(Refusal::Busy(_)))), "{refused:?}");
        let numbers: Vec<_> = refused.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [5, 8, 1, 2, 6]);

        assert_eq!(in_line(&service), [(Class::Health, 4), (Class::Health, 7), (Class::Paying, 3)]);
        Ok(())
    }

    #[test]
    fn who_hangs_up_is_not_looked_up() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let database = Database::prepare(&directory.path().join("catalogue.sqlite"))?;
        let service = full(&database, 3);
        let mut asked = ask(&service, &[(Class::Paying, 1), (Class::Paying, 2), (Class::Paying, 3)]);
        assert!(look(&mut asked).is_empty());
        asked[1] = None;
        serve_all(&service, &mut asked)?;
        assert_eq!(database.queries(), 2);
        Ok(())
    }

    #[test]
    fn who_asks_for_the_same_is_served_by_one_query() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let database = Database::prepare(&directory.path().join("catalogue.sqlite"))?;
        let service = full(&database, 3);
        let mut asked = ask(&service, &[(Class::Free, 7), (Class::Health, 7), (Class::Paying, 7)]);
        assert!(look(&mut asked).is_empty());
        assert_eq!(service.line.as_ref().map(PriorityQueue::len), Some(1));
        serve_all(&service, &mut asked)?;

        // Nobody serves any more, nor need they.
        let answers = look(&mut ask(&service, &[(Class::Free, 7)]));
        assert!(matches!(answers[..], [(1, Ok(Some(_)))]), "{answers:?}");
        assert_eq!((database.queries(), database.queries_for(7)), (1, 1));
        assert_eq!(service.counts().connections, 1);
        assert_eq!(service.hit_ratio(), Some(0.25));
        Ok(())
    }

    #[test]
    fn who_hangs_up_leaves_the_query_to_whoever_waits_for_it() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let database = Database::prepare(&directory.path().join("catalogue.sqlite"))?;
        let service = full(&database, 3);
        let mut asked = ask(&service, &[(Class::Health, 7), (Class::Free, 7), (Class::Paying, 7)]);
        assert!(look(&mut asked).is_empty());
        asked[0] = None;
        assert!(look(&mut asked).is_empty());
        assert_eq!(service.line.as_ref().map(PriorityQueue::len), Some(2)); // with the ticket that is worth nothing
        serve_all(&service, &mut asked)?;
        assert_eq!(database.queries(), 1);
        Ok(())
    }

    #[test]
    fn the_urgent_are_not_turned_away_with_those_they_waited_for() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let service = full(&Database::at(&directory.path().join("unused")), 1);
        // The second waits for the first, which the third turns away.
        let mut asked = ask(&service, &[(Class::Free, 7), (Class::Health, 7), (Class::Paying, 8)]);
        let mut refused = look(&mut asked);
        refused.extend(look(&mut asked));
        refused.extend(look(&mut asked));
        assert!(
            matches!(refused[..], [(1, Err(Refusal::Busy(Class::Free))), (3, Err(Refusal::Busy(Class::Paying)))]),
            "{refused:?}"
        );
        assert_eq!(in_line(&service), [(Class::Health, 7)]);
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
            let service = full(&database, 3);
            let answers = [1, 2, 3].map(|id| service.look_up(id).is_ok());
            assert_eq!(answers, [opened == 1; 3]);
            assert_eq!((database.connections_opened(), database.queries()), (opened, 3));
            assert_eq!(service.counts().connections, 3);
        }
        Ok(())
    }

    #[test]
    fn a_database_that_is_not_there_is_told() {
        let service = full(&Database::at("missing/file".as_ref()), 3);
        for _ in 0..2 {
            assert!(matches!(service.look_up(1), Err(Refusal::Broken(why)) if why.contains("open")));
        }
        assert_eq!(service.connections.as_ref().map(|pool| pool.status().size), Some(0));
    }

    #[test]
    fn classes_are_found_by_their_names() {
        for class in Class::ALL {
            assert_eq!(Class::named(class.name().as_bytes()), Some(class));
        }
        assert_eq!(Class::named(b"royal"), None);
        assert!(Class::ALL.is_sorted());
    }
}
