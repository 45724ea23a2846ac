//! The service: a page about a product, out of the database. It exists twice.
//!
//! **Bare** does what is easily written: every request opens its own connection on the blocking thread
//! pool. Nothing says how many may do so at once, so when load rises the requests slow each other down, and
//! every one of them is late, whoever sent it.
//!
//! **Stanchion** adds three primitives, each with one job:
//! - a [`PriorityQueue`] is the *line*: health checks go before paying customers, and those before free ones.
//!   It is bounded, and when it is full the least urgent request, the newest of those, is turned away at once
//!   (503 with `Retry-After`) instead of being served when it is too late;
//! - a [`Semaphore`] *admits*: so many are served at once, and cores are left to read requests with;
//! - a [`Mutex`] around each of a few connections lets one thread at a time *use* it, so that connections are
//!   opened once and shared.
//!
//! Everything else is the same code for both: the file beside this one, which speaks HTTP.

use std::sync::Arc;

use anyhow::Context;
use stanchion::{Mutex, OwnedMutexGuard, PriorityQueue, Semaphore};
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
#[derive(Debug)]
pub enum Refusal {
    /// Too many are waiting already.
    Busy,
    /// The database did not answer.
    Broken(String),
}

pub type Lookup = Result<Option<Product>, Refusal>;

/// The service without primitives.
pub struct Bare {
    pub database: Database,
}

impl Bare {
    async fn product(&self, id: u32) -> Lookup {
        let database = self.database.clone();
        match spawn_blocking(move || database.connect()?.product(id)).await {
            Ok(product) => product.map_err(|error| Refusal::Broken(error.to_string())),
            Err(error) => Err(Refusal::Broken(error.to_string())),
        }
    }
}

/// The service with primitives.
pub struct Stanchion {
    line: Arc<PriorityQueue<Class, Ticket>>,
    admission: Arc<Semaphore>,
    connections: Vec<Arc<Mutex<Connection>>>,
}

/// A request in line.
struct Ticket {
    id: u32,
    reply: oneshot::Sender<Lookup>,
}

impl Stanchion {
    /// Opens `permits` connections, to be used by as many threads at once while at most `max_waiting`
    /// requests wait.
    pub fn new(database: &Database, permits: usize, max_waiting: usize) -> anyhow::Result<Self> {
        let connections = (0..permits).map(|_| Ok(Arc::new(Mutex::new(database.connect()?))));
        Ok(Self {
            line: Arc::new(PriorityQueue::bounded(max_waiting)),
            admission: Arc::new(Semaphore::new(permits)),
            connections: connections
                .collect::<rusqlite::Result<_>>()
                .context("cannot open the database for the service")?,
        })
    }

    async fn product(&self, class: Class, id: u32) -> Lookup {
        let (reply, answer) = oneshot::channel();
        // Order, and shed: whoever is the least urgent of a full line leaves it, be it this one.
        if let Ok((_, Some((_, turned_away)))) = self.line.force_push(class, Ticket { id, reply }) {
            let _ = turned_away.reply.send(Err(Refusal::Busy));
        }
        answer.await.unwrap_or_else(|_| Err(Refusal::Broken("nobody is left to ask the database".into())))
    }

    /// Serves those in line for as long as it is polled.
    async fn serve(&self) {
        loop {
            // Admit: first a place, then whoever is the most urgent by then.
            let Ok(permit) = Arc::clone(&self.admission).acquire_owned().await else { return };
            let Some(first) = self.line.pop().await else { return };
            // Exclude: this connection is ours until the guard goes.
            let connection = self.free_connection().await;
            let line = Arc::clone(&self.line);
            spawn_blocking(move || {
                // A thread that has been admitted goes on while anybody waits.
                let mut next = Some(first);
                while let Some((class, ticket)) = next {
                    ticket.serve(&connection);
                    if class == Class::Free {
                        // Whoever reads what the urgent ask may be waiting for this core.
                        std::thread::yield_now();
                    }
                    next = line.try_pop().ok();
                }
                // The connection goes first: who is admitted next finds it free.
                drop(connection);
                drop(permit);
            });
        }
    }

    /// Whoever holds a permit finds a free connection, as there are as many of both.
    async fn free_connection(&self) -> OwnedMutexGuard<Connection> {
        let free = self.connections.iter().find_map(|connection| Arc::clone(connection).try_lock_owned().ok());
        match free {
            Some(connection) => connection,
            // The free one changed places while we looked: wait in line at one of them.
            None => Arc::clone(&self.connections[0]).lock_owned().await,
        }
    }
}

impl Ticket {
    /// Asks the database. Blocks the thread.
    fn serve(self, connection: &Connection) {
        // Nothing is asked for a client that has hung up.
        if !self.reply.is_closed() {
            let product = connection.product(self.id).map_err(|error| Refusal::Broken(error.to_string()));
            let _ = self.reply.send(product);
        }
    }
}

/// Either service.
pub enum Service {
    Bare(Bare),
    Stanchion(Stanchion),
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    type Asked<'a> = Pin<Box<dyn Future<Output = Lookup> + 'a>>;

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

    fn service(directory: &tempfile::TempDir, max_waiting: usize) -> anyhow::Result<Stanchion> {
        let database = Database::prepare(&directory.path().join("catalogue.sqlite"))?;
        Stanchion::new(&database, 1, max_waiting)
    }

    #[test]
    fn of_a_full_line_the_newest_of_the_least_urgent_is_turned_away() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let service = service(&directory, 3)?;
        let classes = [
            Class::Free,   // 1
            Class::Free,   // 2
            Class::Paying, // 3
            Class::Health, // 4: turns 2 away
            Class::Free,   // 5: is turned away
            Class::Paying, // 6: turns 1 away
            Class::Health, // 7: turns 6 away
            Class::Free,   // 8: is turned away
        ];
        let mut asked: Vec<Option<Asked>> =
            (1..).zip(classes).map(|(id, class)| Some(Box::pin(service.product(class, id)) as Asked)).collect();
        let mut refused = look(&mut asked);
        refused.extend(look(&mut asked)); // those who were in line before they were turned away
        assert!(refused.iter().all(|(_, answer)| matches!(answer, Err(Refusal::Busy))), "{refused:?}");
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
        let service = Stanchion::new(&database, 1, 3)?;
        let mut asked: Vec<Option<Asked>> =
            (1..=3).map(|id| Some(Box::pin(service.product(Class::Paying, id)) as Asked)).collect();
        assert!(look(&mut asked).is_empty());
        asked[1] = None;

        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let answers = runtime.block_on(async {
            let mut serving = Box::pin(service.serve());
            let mut answers = Vec::new();
            while answers.len() < 2 {
                let step = std::future::poll_fn(|context| Poll::Ready(serving.as_mut().poll(context)));
                assert!(step.await.is_pending());
                answers.extend(look(&mut asked));
                std::thread::yield_now();
            }
            answers
        });
        assert!(answers.iter().all(|(_, answer)| matches!(answer, Ok(Some(_)))), "{answers:?}");
        assert_eq!(database.queries(), 2);
        Ok(())
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
