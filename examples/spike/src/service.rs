//! The service: a page about a product, out of the database. It exists twice.
//!
//! **Bare** does what is easily written: every request opens its own connection on the blocking thread
//! pool. Nothing says how many may do so at once, so when load rises the requests slow each other down, and
//! every one of them is late, whoever sent it.
//!
//! **Stanchion** adds five primitives, each with one job:
//! - an [`LruCache`] *remembers* what was asked for lately, and of those who ask for the same product at once has one
//!   ask the database for all. What follows is for what it does not know;
//! - a [`PriorityQueue`] is the *line*: health checks go before paying customers, and those before free ones.
//!   It is bounded, and when it is full the least urgent request, the newest of those, is turned away at once
//!   (503 with `Retry-After`) instead of being served when it is too late;
//! - a [`Semaphore`] *admits*: so many threads serve at once, and cores are left to read requests with;
//! - a [`Pool`] *lends* them connections, which are opened once, ahead of the first request, and used again
//!   unless they fail;
//! - a [`Mutex`] keeps the *books* that all threads write in: how long they waited for a connection.
//!
//! Everything else is the same code for both: the file beside this one, which speaks HTTP.

use std::fmt::Display;
use std::sync::{self, Arc};
use std::time::{Duration, Instant};

use stanchion::{LruCache, Manager, Mutex, Pool, PriorityQueue, Semaphore, Stats, blocking};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use crate::database::{Connection, Database, Product};

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

/// How long threads waited until they had a connection, each time that they needed one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Waits {
    pub count: u32,
    pub total: Duration,
    pub longest: Duration,
}

impl Waits {
    fn add(&mut self, wait: Duration) {
        self.count += 1;
        self.total += wait;
        self.longest = self.longest.max(wait);
    }

    pub fn mean(&self) -> Duration {
        self.total / self.count.max(1)
    }
}

/// The service without primitives.
pub struct Bare {
    database: Database,
    waits: Arc<sync::Mutex<Waits>>,
}

impl Bare {
    pub fn new(database: &Database) -> Self {
        Self { database: database.clone(), waits: Arc::default() }
    }

    async fn product(&self, id: u32) -> Lookup {
        let (database, waits) = (self.database.clone(), Arc::clone(&self.waits));
        spawn_blocking(move || {
            let start = Instant::now();
            let mut connection = database.connect()?;
            waits.lock()?.add(start.elapsed());
            Ok(connection.product(id)?.map(Arc::new))
        })
        .await?
    }
}

/// The service with primitives.
pub struct Stanchion {
    /// What products are, or that there is no such product. One shard will do: its lock is held for a thousandth of
    /// the time that a request takes.
    products: LruCache<u32, Option<Arc<Product>>>,
    line: PriorityQueue<Class, Ticket>,
    admission: Arc<Semaphore>,
    connections: Pool<Database>,
    waits: Mutex<Waits>,
}

/// What the pool needs to know of connections. A file does not hang up, so they are used again unasked.
impl Manager for Database {
    type Object = Connection;
    type Error = anyhow::Error;

    async fn create(&self) -> anyhow::Result<Connection> {
        let database = self.clone();
        Ok(spawn_blocking(move || database.connect()).await??)
    }

    fn is_broken(&self, connection: &mut Connection) -> bool {
        connection.has_failed()
    }
}

/// A request in line.
struct Ticket {
    id: u32,
    reply: oneshot::Sender<Lookup>,
}

impl Stanchion {
    /// Of `permits` threads, each on a connection of its own, while at most `max_waiting` requests wait. Remembers
    /// so many products.
    pub fn new(database: &Database, permits: usize, max_waiting: usize, remembered: usize) -> Self {
        let connections = Pool::builder(database.clone()).max_size(permits).min_idle(permits);
        Self {
            products: LruCache::new(remembered),
            line: PriorityQueue::bounded(max_waiting),
            admission: Arc::new(Semaphore::new(permits)),
            // Only who has been admitted asks for a connection.
            connections: connections.max_waiting(permits).build(),
            waits: Mutex::default(),
        }
    }

    async fn product(&self, class: Class, id: u32) -> Lookup {
        loop {
            // Remember: who finds it is done, and of those who miss the same product the first asks for all. When its
            // client hangs up, its ticket is worth nothing any more, and the one that has waited longest for the
            // product takes over with a ticket of its own. So nobody waits for a client that has gone. (Who is more
            // urgent than the first waits as long as the first, all the same.)
            let answer = self.products.try_get_or_load(&id, || self.ask(class, id)).await;
            match answer.map_err(Arc::unwrap_or_clone) {
                // Whoever asked for it was less urgent: that answer is not for this one.
                Err(Refusal::Busy(turned_away)) if turned_away < class => {}
                answer => return answer,
            }
        }
    }

    /// Asks the database when it is this request's turn.
    async fn ask(&self, class: Class, id: u32) -> Lookup {
        let (reply, answer) = oneshot::channel();
        // Order, and shed: whoever is the least urgent of a full line leaves it, be it this one.
        if let Ok((_, Some((class, turned_away)))) = self.line.force_push(class, Ticket { id, reply }) {
            let _ = turned_away.reply.send(Err(Refusal::Busy(class)));
        }
        answer.await.unwrap_or_else(|_| Err(Refusal::Broken("nobody is left to ask the database".into())))
    }

    /// Serves those in line for as long as it is polled.
    async fn serve(self: &Arc<Self>) {
        // A failure here would be met again, and told, by whoever needs the connection.
        let _ = self.connections.replenish().await;
        loop {
            // Admit: first a place, then whoever is the most urgent by then.
            let Ok(permit) = Arc::clone(&self.admission).acquire_owned().await else { return };
            let Some(first) = self.line.pop().await else { return };
            let service = Arc::clone(self);
            spawn_blocking(move || {
                let _admitted = permit;
                // A thread that has been admitted goes on while anybody waits.
                let mut next = Some(first);
                while let Some((class, ticket)) = next {
                    service.answer(ticket);
                    if class == Class::Free {
                        // Whoever reads what the urgent ask may be waiting for this core.
                        std::thread::yield_now();
                    }
                    next = service.line.try_pop().ok();
                }
            });
        }
    }

    /// Blocks the thread.
    fn answer(&self, Ticket { id, reply }: Ticket) {
        // Nothing is asked for a client that has hung up: if others wait for the same, one of them has a ticket.
        if !reply.is_closed() {
            let _ = reply.send(self.look_up(id));
        }
    }

    /// Asks the database. Blocks the thread.
    fn look_up(&self, id: u32) -> Lookup {
        let start = Instant::now();
        // Lend: the connection goes back when we return.
        let mut connection = blocking::wait(self.connections.get())?;
        self.waits.blocking_lock().add(start.elapsed());
        Ok(connection.product(id)?.map(Arc::new))
    }
}

/// Either service.
pub enum Service {
    Bare(Bare),
    Stanchion(Arc<Stanchion>),
}

impl Service {
    /// What a request is answered with.
    pub async fn product(&self, class: Class, id: u32) -> Lookup {
        match self {
            Self::Bare(service) => service.product(id).await,
            Self::Stanchion(service) => service.product(class, id).await,
        }
    }

    /// The work of the service that is no request's own. To be polled for as long as there are requests.
    pub async fn run(&self) {
        match self {
            Self::Bare(_) => {}
            Self::Stanchion(service) => service.serve().await,
        }
    }

    /// How it went so far. Blocks the thread.
    pub fn waits(&self) -> Waits {
        match self {
            Self::Bare(service) => *service.waits.lock().unwrap_or_else(sync::PoisonError::into_inner),
            Self::Stanchion(service) => *service.waits.blocking_lock(),
        }
    }

    /// The share of look-ups, if there were any, that needed no database and no waiting.
    pub fn hit_ratio(&self) -> Option<f64> {
        let Self::Stanchion(service) = self else { return None };
        let Stats { hits, misses, .. } = service.products.stats();
        (hits + misses > 0).then(|| hits as f64 / (hits + misses) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    type Asked<'a> = Pin<Box<dyn Future<Output = Lookup> + 'a>>;

    fn ask<'a>(service: &'a Stanchion, requests: &[(Class, u32)]) -> Vec<Option<Asked<'a>>> {
        let ask = |&(class, id): &(Class, u32)| Some(Box::pin(service.product(class, id)) as Asked);
        requests.iter().map(ask).collect()
    }

    /// Serves until all who have not hung up are answered, and none with a refusal.
    fn serve_all(service: &Arc<Stanchion>, asked: &mut [Option<Asked>]) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let mut answers = Vec::new();
        runtime.block_on(async {
            let mut serving = Box::pin(service.serve());
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
    fn of_a_full_line_the_newest_of_the_least_urgent_is_turned_away() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let service = Stanchion::new(&Database::at(&directory.path().join("unused")), 1, 3, 9);
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

        let in_line: Vec<_> = service.line.drain().into_iter().map(|(_, ticket)| ticket.id).collect();
        assert_eq!(in_line, [4, 7, 3]);
        Ok(())
    }

    #[test]
    fn who_hangs_up_is_not_looked_up() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let database = Database::prepare(&directory.path().join("catalogue.sqlite"))?;
        let service = Arc::new(Stanchion::new(&database, 1, 3, 9));
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
        let service = Arc::new(Stanchion::new(&database, 1, 3, 9));
        let mut asked = ask(&service, &[(Class::Free, 7), (Class::Health, 7), (Class::Paying, 7)]);
        assert!(look(&mut asked).is_empty());
        assert_eq!(service.line.len(), 1);
        serve_all(&service, &mut asked)?;

        // Nobody serves any more, nor need they.
        let answers = look(&mut ask(&service, &[(Class::Free, 7)]));
        assert!(matches!(answers[..], [(1, Ok(Some(_)))]), "{answers:?}");
        assert_eq!((database.queries(), database.queries_for(7)), (1, 1));
        assert_eq!(service.waits.blocking_lock().count, 1);
        assert_eq!(Service::Stanchion(Arc::clone(&service)).hit_ratio(), Some(0.25));
        Ok(())
    }

    #[test]
    fn who_hangs_up_leaves_the_query_to_whoever_waits_for_it() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let database = Database::prepare(&directory.path().join("catalogue.sqlite"))?;
        let service = Arc::new(Stanchion::new(&database, 1, 3, 9));
        let mut asked = ask(&service, &[(Class::Health, 7), (Class::Free, 7), (Class::Paying, 7)]);
        assert!(look(&mut asked).is_empty());
        asked[0] = None;
        assert!(look(&mut asked).is_empty());
        assert_eq!(service.line.len(), 2); // with the ticket that is worth nothing
        serve_all(&service, &mut asked)?;
        assert_eq!(database.queries(), 1);
        Ok(())
    }

    #[test]
    fn the_urgent_are_not_turned_away_with_those_they_waited_for() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let service = Stanchion::new(&Database::at(&directory.path().join("unused")), 1, 1, 9);
        // The second waits for the first, which the third turns away.
        let mut asked = ask(&service, &[(Class::Free, 7), (Class::Health, 7), (Class::Paying, 8)]);
        let mut refused = look(&mut asked);
        refused.extend(look(&mut asked));
        refused.extend(look(&mut asked));
        assert!(
            matches!(refused[..], [(1, Err(Refusal::Busy(Class::Free))), (3, Err(Refusal::Busy(Class::Paying)))]),
            "{refused:?}"
        );
        let in_line: Vec<_> = service.line.drain().into_iter().map(|(class, ticket)| (class, ticket.id)).collect();
        assert_eq!(in_line, [(Class::Health, 7)]);
        Ok(())
    }

    #[test]
    fn a_connection_is_used_again_unless_it_failed() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let (good, empty) = (directory.path().join("catalogue.sqlite"), directory.path().join("empty"));
        Database::prepare(&good)?;
        std::fs::write(&empty, "")?;
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let _inside = runtime.enter(); // connections are opened there
        for (path, opened) in [(good, 1), (empty, 3)] {
            let database = Database::at(&path);
            let service = Stanchion::new(&database, 2, 3, 9);
            let answers = [1, 2, 3].map(|id| service.look_up(id).is_ok());
            assert_eq!(answers, [opened == 1; 3]);
            assert_eq!((database.connections_opened(), database.queries()), (opened, 3));
            assert_eq!(service.waits.blocking_lock().count, 3);
        }
        Ok(())
    }

    #[test]
    fn a_database_that_is_not_there_is_told() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let service = Stanchion::new(&Database::at("missing/file".as_ref()), 1, 3, 9);
        let _inside = runtime.enter();
        for _ in 0..2 {
            assert!(matches!(service.look_up(1), Err(Refusal::Broken(why)) if why.contains("open")));
        }
        assert_eq!(service.connections.status().size, 0);
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
