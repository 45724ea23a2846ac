//! Pools of real things: connections to a SQLite database, and to a server on the loopback that kills and refuses some.

#[path = "../../common/mod.rs"]
mod common;

use std::collections::HashMap;
use std::future::Future;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex as StdMutex};
use std::thread;
use std::time::Duration;

use common::{Counted, Gauge, watched, within};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rusqlite::TransactionBehavior;
use smol::io::{AsyncReadExt as _, AsyncWriteExt as _};
use stanchion::{GetError, Manager, Metrics, Object, Pool, blocking};

// ---------------------------------------------------------------------------------------------------------------------
// A database
// ---------------------------------------------------------------------------------------------------------------------

/// A folder that is gone at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Of no consequence to any test.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Sqlite {
    path: PathBuf,
    connections: Arc<Gauge>,
}

struct Database {
    sql: rusqlite::Connection,
    _counted: Counted,
}

impl Manager for Sqlite {
    type Object = Database;
    type Error = rusqlite::Error;

    async fn create(&self) -> rusqlite::Result<Database> {
        let (path, counted) = (self.path.clone(), self.connections.count());
        let open = move || {
            let sql = rusqlite::Connection::open(path)?;
            sql.busy_timeout(Duration::from_secs(60))?;
            sql.pragma_update(None, "journal_mode", "WAL")?;
            // It need not survive the machine.
            sql.pragma_update(None, "synchronous", "OFF")?;
            Ok(Database { sql, _counted: counted })
        };
        tokio::task::spawn_blocking(open).await.expect("opening does not panic")
    }

    async fn recycle(&self, database: &mut Database, _: &Metrics) -> rusqlite::Result<()> {
        assert!(database.sql.is_autocommit(), "an earlier user left a transaction open");
        database.sql.query_row("SELECT 1", (), |_| Ok(()))
    }

    /// A transaction that was left open blocks all others: its connection is closed, and it is rolled back.
    fn is_broken(&self, database: &mut Database) -> bool {
        !database.sql.is_autocommit()
    }
}

/// Writes an entry and adds it to the total, and reads both; or leaves the transaction open half-way.
fn book(sql: &mut rusqlite::Connection, entry: i64, abandon: bool) -> rusqlite::Result<()> {
    if abandon {
        sql.execute_batch("BEGIN IMMEDIATE; UPDATE total SET sum = sum + 1000000")?;
        return Ok(());
    }
    let transaction = sql.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let before: i64 = transaction.query_row("SELECT sum FROM total", (), |row| row.get(0))?;
    transaction.execute("INSERT INTO entry VALUES (?1)", [entry])?;
    transaction.execute("UPDATE total SET sum = ?1", [before + entry])?;
    transaction.commit()?;
    let (sum, entries): (i64, i64) =
        sql.query_row("SELECT (SELECT sum FROM total), (SELECT sum(amount) FROM entry)", (), |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    assert_eq!(sum, entries, "one snapshot");
    Ok(())
}

#[test]
fn many_tasks_share_few_connections_to_a_database() {
    const LIMIT: usize = 4;
    const TASKS: usize = 32;
    const ROUNDS: usize = 10;
    let folder = Folder::new("database");
    let path = folder.0.join("entries.db");
    let connections = Arc::new(Gauge::default());
    let manager = Sqlite { path: path.clone(), connections: connections.clone() };
    let pool = Arc::new(Pool::builder(manager).max_size(LIMIT).build());
    let progress = Arc::new(AtomicUsize::new(0));
    let abandon = |entry: usize| entry.is_multiple_of(8);
    watched(&progress, &pool, || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        runtime.block_on(async {
            let tables =
                "CREATE TABLE entry (amount INTEGER); CREATE TABLE total (sum INTEGER); INSERT INTO total VALUES (0)";
            pool.get().await.unwrap().sql.execute_batch(tables).unwrap();
            let tasks: Vec<_> = (0..TASKS)
                .map(|task| {
                    let (pool, progress) = (pool.clone(), progress.clone());
                    tokio::spawn(async move {
                        for entry in task * ROUNDS..(task + 1) * ROUNDS {
                            let mut database = pool.clone().get_owned().await.unwrap();
                            // It goes back to the pool on a thread that blocks.
                            let work = move || book(&mut database.sql, entry as i64, abandon(entry)).unwrap();
                            tokio::task::spawn_blocking(work).await.unwrap();
                            progress.fetch_add(1, Ordering::Relaxed);
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
            let (now, most, made) = connections.read();
            let abandoned = (0..TASKS * ROUNDS).filter(|&entry| abandon(entry)).count();
            assert_eq!(made - now, abandoned, "only those were closed");
            assert!(most <= LIMIT, "{most} at a time");
            let status = pool.status();
            assert_eq!((status.in_use, status.waiting, status.size), (0, 0, now), "{status:?}");
            pool.close();
            pool.closed().await;
        });
    });
    assert_eq!(connections.read().0, 0);
    let sql = rusqlite::Connection::open(path).unwrap();
    let (sum, count): (i64, i64) = sql
        .query_row("SELECT sum, (SELECT count(*) FROM entry) FROM total", (), |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    let booked = (0..TASKS * ROUNDS).filter(|&entry| !abandon(entry));
    assert_eq!((sum as usize, count as usize), (booked.clone().sum(), booked.count()));
}

// ---------------------------------------------------------------------------------------------------------------------
// A server
// ---------------------------------------------------------------------------------------------------------------------

/// A request, or its answer. The first one on a connection logs in, and a recycled connection sends a `PING`.
type Message = [u8; 8];

const LOGIN: Message = [1; 8];
const PING: Message = [2; 8];

fn answer(request: Message) -> Message {
    request.map(|byte| !byte)
}

/// Answers requests, a thread for each connection, and makes trouble while it is told to.
///
/// It closes a connection only after it has ceased to count it, and the clients wait for that. So its count is exact:
/// too many, were it for a moment, are seen.
#[derive(Debug)]
struct Server {
    address: SocketAddr,
    makes_trouble: AtomicBool,
    books: StdMutex<Books>,
}

#[derive(Debug)]
struct Books {
    open: HashMap<usize, Arc<TcpStream>>,
    most: usize,
    accepted: usize,
    requests: usize,
    trouble: HashMap<Trouble, usize>,
    random: StdRng,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Trouble {
    Refused,
    Unanswered,
    HalfAnswered,
    KilledAfterwards,
    Restarted,
}

impl Server {
    fn start(seed: u64) -> Arc<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let random = StdRng::seed_from_u64(seed);
        let books = Books { open: HashMap::new(), most: 0, accepted: 0, requests: 0, trouble: HashMap::new(), random };
        let address = listener.local_addr().unwrap();
        let server = Arc::new(Self { address, makes_trouble: AtomicBool::new(true), books: StdMutex::new(books) });
        let accepting = server.clone();
        // Until the process ends.
        thread::spawn(move || listener.incoming().for_each(|socket| accepting.clone().accept(socket.unwrap())));
        server
    }

    fn accept(self: Arc<Self>, socket: TcpStream) {
        let socket = Arc::new(socket);
        let mut books = self.books.lock().unwrap();
        books.accepted += 1;
        let number = books.accepted;
        books.open.insert(number, socket.clone());
        books.most = books.most.max(books.open.len());
        drop(books);
        thread::spawn(move || {
            // That a client hangs up is no error.
            let _ = self.converse(&socket);
            self.books.lock().unwrap().open.remove(&number);
            let _ = socket.shutdown(Shutdown::Both);
        });
    }

    fn converse(&self, mut socket: &TcpStream) -> io::Result<()> {
        let mut request = Message::default();
        loop {
            socket.read_exact(&mut request)?;
            let trouble = self.trouble(request);
            let answer = answer(request);
            match trouble {
                None => socket.write_all(&answer)?,
                Some(Trouble::Refused | Trouble::Unanswered) => return Ok(()),
                Some(Trouble::HalfAnswered) => return socket.write_all(&answer[..4]),
                Some(Trouble::KilledAfterwards) => return socket.write_all(&answer),
                Some(Trouble::Restarted) => drop(self.restart()),
            }
        }
    }

    /// The fault of this request, if it has one.
    fn trouble(&self, request: Message) -> Option<Trouble> {
        if !self.makes_trouble.load(Ordering::SeqCst) {
            return None;
        }
        let mut books = self.books.lock().unwrap();
        books.requests += 1;
        let trouble = match (books.requests % 500, books.random.random_range(0..100)) {
            (0, _) => Trouble::Restarted,
            (_, 0..15) if request == LOGIN => Trouble::Refused,
            (_, 0..3) => Trouble::Unanswered,
            (_, 3..6) => Trouble::HalfAnswered,
            (_, 6..10) => Trouble::KilledAfterwards,
            _ => return None,
        };
        *books.trouble.entry(trouble).or_default() += 1;
        Some(trouble)
    }

    /// Kills all connections at once; how many there were.
    fn restart(&self) -> usize {
        let mut books = self.books.lock().unwrap();
        let open = std::mem::take(&mut books.open);
        // An error says that the client was faster.
        open.values().for_each(|socket| drop(socket.shutdown(Shutdown::Both)));
        open.len()
    }

    fn open(&self) -> usize {
        self.books.lock().unwrap().open.len()
    }
}

/// A socket of some runtime.
trait Wire: Sized + Send + 'static {
    fn new(socket: TcpStream) -> io::Result<Self>;
    fn exchange(&mut self, request: Message) -> impl Future<Output = io::Result<Message>> + Send;
}

impl Wire for TcpStream {
    fn new(socket: TcpStream) -> io::Result<Self> {
        Ok(socket)
    }

    async fn exchange(&mut self, request: Message) -> io::Result<Message> {
        self.write_all(&request)?;
        let mut answer = Message::default();
        self.read_exact(&mut answer)?;
        Ok(answer)
    }
}

impl Wire for smol::Async<TcpStream> {
    fn new(socket: TcpStream) -> io::Result<Self> {
        Self::new(socket)
    }

    async fn exchange(&mut self, request: Message) -> io::Result<Message> {
        self.write_all(&request).await?;
        let mut answer = Message::default();
        self.read_exact(&mut answer).await?;
        Ok(answer)
    }
}

impl Wire for tokio::net::TcpStream {
    fn new(socket: TcpStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Self::from_std(socket)
    }

    async fn exchange(&mut self, request: Message) -> io::Result<Message> {
        tokio::io::AsyncWriteExt::write_all(self, &request).await?;
        let mut answer = Message::default();
        tokio::io::AsyncReadExt::read_exact(self, &mut answer).await?;
        Ok(answer)
    }
}

struct Connection<W> {
    wire: W,
    /// The same socket.
    socket: TcpStream,
    /// An exchange has begun and not come to its end: it failed, or was given up.
    is_busy: bool,
}

impl<W: Wire> Connection<W> {
    async fn exchange(&mut self, request: Message) -> io::Result<Message> {
        self.is_busy = true;
        let answer = self.wire.exchange(request).await?;
        self.is_busy = false;
        Ok(answer)
    }
}

impl<W> Drop for Connection<W> {
    /// Hangs up, and waits for the server to do so.
    fn drop(&mut self) {
        // An error says that it did so before.
        let _ = self.socket.set_nonblocking(false);
        let _ = self.socket.shutdown(Shutdown::Write);
        let _ = io::copy(&mut self.socket, &mut io::sink());
    }
}

struct Dial<W> {
    server: SocketAddr,
    found_dead: AtomicUsize,
    wire: std::marker::PhantomData<fn() -> W>,
}

impl<W: Wire> Manager for Dial<W> {
    type Object = Connection<W>;
    type Error = io::Error;

    async fn create(&self) -> io::Result<Connection<W>> {
        // At once, on the loopback: a connection that is given up while it is made is one that hangs up.
        let socket = TcpStream::connect(self.server)?;
        let wire = W::new(socket.try_clone()?)?;
        let mut connection = Connection { wire, socket, is_busy: false };
        connection.exchange(LOGIN).await?;
        Ok(connection)
    }

    async fn recycle(&self, connection: &mut Connection<W>, _: &Metrics) -> io::Result<()> {
        // A recycling that failed while no getter drove it is begun again: the answer would be that of another request.
        if connection.is_busy {
            return Err(io::Error::other("an exchange was not completed"));
        }
        let pong = connection.exchange(PING).await.inspect_err(|_| {
            self.found_dead.fetch_add(1, Ordering::SeqCst);
        })?;
        assert_eq!(pong, answer(PING));
        Ok(())
    }

    fn is_broken(&self, connection: &mut Connection<W>) -> bool {
        connection.is_busy
    }
}

const LIMIT: usize = 6;
const CLIENTS: usize = 24;
const ROUNDS: usize = 60;

/// Tries to have one request answered; whether it was. The impatient give up in the midst of something now and then.
async fn ask<W: Wire>(pool: &Pool<Dial<W>>, request: Message, random: &mut StdRng, impatient: bool) -> bool {
    let mut patience = || (impatient && random.random_bool(0.1)).then(|| random.random_range(0..6));
    let mut connection = match within(pool.get(), patience()).await {
        Some(Ok(connection)) => connection,
        Some(Err(GetError::Create(_))) | None => return false,
        Some(Err(error)) => panic!("{error:?}"),
    };
    let outcome = within(Box::pin(connection.exchange(request)), patience()).await;
    if let Some(Ok(got)) = outcome {
        assert_eq!(got, answer(request));
        return true;
    }
    // The pool finds that out by itself, too.
    if random.random_bool(0.5) {
        Object::discard(connection);
    }
    false
}

type Task = Pin<Box<dyn Future<Output = usize> + Send>>;

/// Has clients ask until each of their requests is answered; how many attempts failed.
fn clients<W: Wire>(
    pool: &Arc<Pool<Dial<W>>>,
    progress: &Arc<AtomicUsize>,
    count: usize,
    impatient: bool,
) -> Vec<Task> {
    let client = |number: usize| -> Task {
        let (pool, progress) = (pool.clone(), progress.clone());
        Box::pin(async move {
            let mut random = StdRng::seed_from_u64(number as u64);
            let mut failures = 0;
            for request in number * ROUNDS..(number + 1) * ROUNDS {
                for attempt in 0.. {
                    if ask(&pool, (request as u64).to_be_bytes(), &mut random, impatient).await {
                        break;
                    }
                    assert!(attempt < 1_000, "request {request} is never answered");
                    failures += 1;
                }
                progress.fetch_add(1, Ordering::Relaxed);
            }
            failures
        })
    };
    (0..count).map(client).collect()
}

/// Has clients of this kind of socket outlast whatever the server does. `run` runs tasks side by side, and adds up what
/// they return.
fn every_request_is_answered<W: Wire>(run: impl Fn(Vec<Task>) -> usize) {
    let server = Server::start(7);
    let manager = Dial::<W> { server: server.address, found_dead: AtomicUsize::new(0), wire: std::marker::PhantomData };
    let pool = Arc::new(Pool::builder(manager).max_size(LIMIT).build());
    let found_dead = || pool.manager().found_dead.load(Ordering::SeqCst);
    let progress = Arc::new(AtomicUsize::new(0));
    watched(&progress, &server, || {
        let failures = run(clients(&pool, &progress, CLIENTS, true));
        assert!(failures > 0 && found_dead() > 0);
        server.makes_trouble.store(false, Ordering::SeqCst);

        // As many as there may be: all idle, all of them alive. And then none is.
        pool.clear();
        let all = pool.clone();
        run(vec![Box::pin(async move {
            let mut connections = Vec::new();
            for _ in 0..LIMIT {
                connections.push(all.get().await.unwrap());
            }
            0
        })]);
        let status = pool.status();
        assert_eq!((status.idle, status.size, server.open()), (LIMIT, LIMIT, LIMIT), "{status:?}");
        let before = found_dead();
        assert_eq!(server.restart(), LIMIT);
        assert_eq!(run(clients(&pool, &progress, 1, false)), 0, "the first one to come notices nothing");
        assert!(found_dead() > before);
        assert_eq!(run(clients(&pool, &progress, CLIENTS, false)), 0, "everything works again");
        assert!(found_dead() <= before + LIMIT);

        pool.close();
        let closing = pool.clone();
        run(vec![Box::pin(async move {
            closing.closed().await;
            0
        })]);
    });
    let books = server.books.lock().unwrap();
    assert_eq!((books.open.len(), books.most), (0, LIMIT), "now, and at the most");
    assert_eq!(books.trouble.len(), 5, "{:?}", books.trouble);
    assert_eq!(progress.load(Ordering::Relaxed), (2 * CLIENTS + 1) * ROUNDS);
    assert_eq!(Arc::strong_count(&pool), 1);
}

#[test]
fn tokio_tasks_outlive_a_server_that_kills_connections() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_io().build().unwrap();
    every_request_is_answered::<tokio::net::TcpStream>(|tasks| {
        runtime.block_on(async {
            let mut sum = 0;
            for task in tasks.into_iter().map(tokio::spawn).collect::<Vec<_>>() {
                sum += task.await.unwrap();
            }
            sum
        })
    });
}

#[test]
fn smol_tasks_outlive_a_server_that_kills_connections() {
    every_request_is_answered::<smol::Async<TcpStream>>(|tasks| {
        smol::block_on(async {
            let mut sum = 0;
            for task in tasks.into_iter().map(smol::spawn).collect::<Vec<_>>() {
                sum += task.await;
            }
            sum
        })
    });
}

#[test]
fn threads_outlive_a_server_that_kills_connections() {
    every_request_is_answered::<TcpStream>(|tasks| {
        let threads: Vec<_> = tasks.into_iter().map(|task| thread::spawn(|| blocking::wait(task))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
}
