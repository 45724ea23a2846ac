//! `Pool` beside deadpool, bb8, mobc, and what applications write themselves: tokio's semaphore and a `Vec` behind a mutex.
//! `Pool<Fixed<_>>`, which makes nothing, beside deadpool's unmanaged pool.
//!
//! Managers make a connection at once and find it well at once, unless the work says otherwise. Every peer is set up to
//! do as little as it can: no timeouts, no lifetimes, room for all idle objects. bb8's timeout cannot be switched off.

mod common;
#[path = "pool/overload.rs"]
mod overload;

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::hint::black_box;
use std::ops::Deref;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use common::figures::{Figure, figures};
use common::gate::{Crowd, Gate, cancel, claim, counting_waker, crowd, free, free_try, hand_off, two_workers, wait};
use common::threads::{COUNTS, enough_for_all};
use common::{Group, compare, testing};
use criterion::{SamplingMode, Throughput};
use overload::{Scene, Slow};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{AcquireError, Notify, Semaphore, SemaphorePermit};
use tokio::task::yield_now;
use tokio::time::sleep;

/// The work, put to every pool that makes its objects; mobc, which returns them in a task that it spawns, needs a
/// runtime that runs it.
macro_rules! compare_managed {
    ($criterion:expr, $name:expr, by hand, $($work:tt)+) => {
        compare!($criterion, $name, [Managed, Deadpool, Bb8, HandMade], $($work)+)
    };
    ($criterion:expr, $name:expr, $($work:tt)+) => {
        compare!($criterion, $name, [Managed, Deadpool, Bb8, Mobc, HandMade], $($work)+)
    };
}

/// The work, put to every pool that can do with the objects that it was given.
macro_rules! compare_fixed {
    ($criterion:expr, $name:expr, $($work:tt)+) => {
        compare!($criterion, $name, [Fixed, Unmanaged, HandMade], $($work)+)
    };
}

fn main() {
    let criterion = &mut common::criterion();
    let current_thread = &Builder::new_current_thread().enable_time().build().expect("the runtime starts");
    let two_workers = &two_workers().enable_time().build().expect("the runtime starts");

    {
        // bb8's timeout asks for a timer even where no getter waits.
        let _timer = current_thread.enter();
        compare_managed!(criterion, "pool/free/get", by hand, |group, P| free::<P>(group));
        compare!(criterion, "pool/free/get, own recycle", [Checked, Deadpool, Bb8], |group, P| free::<P>(group));
        compare!(criterion, "pool/free/get, with lifetimes", [Aging<Managed>, Deadpool, Aging<Bb8>], |group, P| {
            free::<P>(group)
        });
        compare_fixed!(criterion, "pool/free/get, fixed", |group, P| free::<P>(group));
        compare_fixed!(criterion, "pool/free/try_get, fixed", |group, P| free_try::<P>(group));

        let waker = &counting_waker();
        compare_managed!(criterion, "pool/queue/hand-off", by hand, |group, P| hand_off::<P>(group, waker));
        compare_managed!(criterion, "pool/queue/wait + cancel", by hand, |group, P| cancel::<P>(group, waker));
        compare_fixed!(criterion, "pool/queue/hand-off, fixed", |group, P| hand_off::<P>(group, waker));
        compare_fixed!(criterion, "pool/queue/wait + cancel, fixed", |group, P| cancel::<P>(group, waker));

        let crowds = [("10", 10), ("100", 100), ("1,000", 1_000)];
        let storms = [("10,000", 10_000), ("100,000", 100_000), ("1,000,000", 1_000_000)];
        for (count, waiters) in crowds.into_iter().chain(storms) {
            let waiters = if testing() { waiters.min(1_000) } else { waiters };
            compare_managed!(criterion, format!("pool/storm/{count} give up"), by hand, |group, P| {
                storm::<P>(group, waiters)
            });
        }
    }

    compare_managed!(criterion, "pool/runtime/current thread, no yield, 1 task, 1 object", |group, P| {
        crowd::<P>(group, current_thread, 1, Crowd { tasks: 1, across_a_yield: false })
    });
    for (yields, across_a_yield) in [("held across a yield", true), ("no yield", false)] {
        for (tasks, objects) in [(8, 2), (16, 4), (16, 16), (32, 8), (32, 32), (100, 10)] {
            let name = format!("pool/runtime/two workers, {yields}, {tasks} tasks, {objects} objects");
            let crowd_of = Crowd { tasks, across_a_yield };
            compare_managed!(criterion, name, |group, P| crowd::<P>(group, two_workers, objects, crowd_of));
        }
    }
    for (tasks, objects) in [(8, 2), (32, 8), (100, 10)] {
        let name = format!("pool/runtime/two workers, held across a yield, {tasks} tasks, {objects} objects, fixed");
        let crowd_of = Crowd { tasks, across_a_yield: true };
        compare_fixed!(criterion, name, |group, P| crowd::<P>(group, two_workers, objects, crowd_of));
    }
    for (tasks, objects) in [(8, 2), (32, 8), (100, 10)] {
        let name = format!("pool/runtime/two workers, every other get given up, {tasks} tasks, {objects} objects");
        compare_managed!(criterion, name, |group, P| impatient_crowd::<P>(group, two_workers, tasks, objects));
    }

    for (count, threads) in COUNTS {
        let name = format!("pool/threads/as many objects, {count}");
        compare!(criterion, name, [Managed, Deadpool, HandMade], |group, P| enough_for_all::<P>(group, threads));
    }

    for (name, idle) in [("pool/spike/of 50, none idle", 0), ("pool/spike/of 50, 5 idle", 5)] {
        figures!(name, [Managed, Deadpool, Bb8, Mobc, HandMade], |P| two_workers.block_on(spike::<P>(idle)));
    }
    figures!("pool/wait/100 tasks, 10 objects, held for 1 ms", [Managed, Deadpool, Bb8, Mobc, HandMade], |P| {
        two_workers.block_on(waits::<P>())
    });

    for scene in Scene::all() {
        let name = scene.name();
        figures!(&name, [stanchion::Pool<Slow>, deadpool::managed::Pool<Slow>, bb8::Pool<Slow>], |P| {
            scene.figures::<P>()
        });
    }

    criterion.final_summary();
}

/// A contender. What it lends goes back when it is dropped.
trait Lender: Send + Sync + Sized + 'static {
    const NAME: &'static str;

    /// A pool of that many objects; one that makes them itself gets them from the server.
    fn new(size: usize, server: &Arc<Server>) -> Self;
    /// One that can serve as many at their first poll.
    fn ready(size: usize) -> Self {
        Self::new(size, &Arc::default())
    }
    fn get(&self) -> impl Future<Output = Result<impl Deref<Target = Connection> + Send, impl Send>> + Send;
    /// Not all pools have this.
    fn try_get(&self) -> Option<impl Sized> {
        None::<()>
    }
}

impl<P: Lender> Gate for P {
    const NAME: &'static str = P::NAME;

    fn new(permits: usize) -> Self {
        P::ready(permits)
    }

    fn acquire(&self) -> impl Future<Output = impl Send> + Send {
        self.get()
    }

    fn try_acquire(&self) -> Option<impl Sized> {
        self.try_get()
    }
}

/// So many begin to wait, then all give up, the longest waiter first. Their futures are made and dropped in boxes that
/// are there before and after.
fn storm<P: Lender>(group: &mut Group<'_>, waiters: usize) {
    group.throughput(Throughput::Elements(waiters as u64)).sampling_mode(SamplingMode::Flat).sample_size(10);
    group.bench_function(<P as Lender>::NAME, |bencher| {
        bencher.iter_custom(|storms| (0..storms).map(|_| one_storm::<P>(waiters)).sum());
    });
}

fn one_storm<P: Lender>(waiters: usize) -> Duration {
    let pool = black_box(P::ready(1));
    let cx = &mut Context::from_waker(Waker::noop());
    let held = claim(pin!(pool.get()), cx);
    let mut futures: Vec<_> = (0..waiters).map(|_| Box::pin(Some(pool.get()))).collect();

    let start = Instant::now();
    for future in &mut futures {
        wait(future.as_mut().as_pin_mut().expect("it is there"), cx);
    }
    for future in &mut futures {
        future.set(None);
    }
    let time = start.elapsed();
    drop(held);
    time
}

/// Like `crowd`, held across a yield; but before each get that lasts there is one that is given up, if it is not served
/// within a yield. So waiters leave while objects circulate, some with an object granted to them.
fn impatient_crowd<P: Lender>(group: &mut Group<'_>, runtime: &Runtime, tasks: usize, objects: usize) {
    group.throughput(Throughput::Elements(tasks as u64)).sampling_mode(SamplingMode::Flat);
    group.bench_function(<P as Lender>::NAME, |bencher| {
        bencher.iter_custom(|rounds| {
            let pool = Arc::new(P::ready(objects));
            runtime.block_on(async {
                let start = Instant::now();
                join((0..tasks).map(|_| impatient(Arc::clone(&pool), rounds))).await;
                start.elapsed()
            })
        });
    });
}

async fn impatient<P: Lender>(pool: Arc<P>, rounds: u64) {
    for _ in 0..rounds {
        {
            let mut get = pin!(pool.get());
            if !is_ready(get.as_mut()).await {
                yield_now().await;
            }
        }
        let lent = pool.get().await;
        yield_now().await;
        drop(lent);
    }
}

/// Polls once.
async fn is_ready(mut future: Pin<&mut impl Future>) -> bool {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_ready())).await
}

/// Runs them side by side, all to their end.
async fn join<T: Send + 'static>(tasks: impl Iterator<Item = impl Future<Output = T> + Send + 'static>) -> Vec<T> {
    let tasks: Vec<_> = tasks.map(tokio::spawn).collect();
    let mut results = Vec::with_capacity(tasks.len());
    for task in tasks {
        results.push(task.await.expect("a task panicked"));
    }
    results
}

/// As many want a connection at once as there may be, for less time than it takes to open one; `idle` ones are open.
async fn spike<P: Lender>(idle: usize) -> [Figure; 4] {
    const GETTERS: usize = 50;
    const OPENING: Duration = Duration::from_millis(150);
    const USE: Duration = Duration::from_millis(2);

    let server = &Arc::new(Server::default());
    let pool = Arc::new(P::new(GETTERS, server));
    let used = |time| {
        let pool = Arc::clone(&pool);
        async move {
            let lent = pool.get().await.ok().expect("it is served");
            sleep(time).await;
            drop(lent);
        }
    };
    while server.opened() < idle as u64 {
        join((0..idle).map(|_| used(USE))).await;
    }
    // mobc takes them back in a task.
    sleep(USE).await;
    let (begun, opened) = (server.begun(), server.opened());
    server.take_time(OPENING, Duration::ZERO);

    let start = Instant::now();
    join((0..GETTERS).map(|_| used(USE))).await;
    let time = start.elapsed();
    let (begun, opened_meanwhile) = (server.begun() - begun, server.opened() - opened);
    sleep(OPENING * 2).await;
    [
        ("ms until all are done", milliseconds(time)),
        ("connections begun", begun as f64),
        ("opened by then", opened_meanwhile as f64),
        ("opened 300 ms later", (server.opened() - opened) as f64),
    ]
}

const TASKS: usize = 100;
const OBJECTS: usize = 10;
const HOLD: Duration = Duration::from_millis(1);

/// Tasks take turns; how long does each wait? Beside it, on the same runtime and at the same time, as many tasks take
/// turns in a fixed order, which is as even as it can be: whatever delays the timer delays both.
async fn waits<P: Lender>() -> [Figure; 5] {
    let rounds = if testing() { 5 } else { 100 };
    let pool = Arc::new(P::ready(OBJECTS));
    let (waits, ideal) = tokio::join!(
        tokio::spawn(join((0..TASKS).map(move |_| take_turns(Arc::clone(&pool), rounds)))),
        tokio::spawn(round_robin(rounds)),
    );
    let [waits, ideal] = [waits, ideal].map(|waits| {
        let waits = waits.expect("a task panicked").into_iter();
        let mut waits: Vec<f64> = waits.flatten().map(milliseconds).collect();
        waits.sort_by(f64::total_cmp);
        waits
    });
    let (median, max) = (waits[waits.len() / 2], waits[waits.len() - 1]);
    let (ideal_median, ideal_max) = (ideal[ideal.len() / 2], ideal[ideal.len() - 1]);
    [
        ("median ms", median),
        ("longest ms", max),
        ("round robin's median ms", ideal_median),
        ("round robin's longest ms", ideal_max),
        ("longest / round robin's", max / ideal_max),
    ]
}

/// How long each turn was waited for.
async fn take_turns<P: Lender>(pool: Arc<P>, rounds: usize) -> Vec<Duration> {
    let mut waits = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let start = Instant::now();
        let lent = pool.get().await.ok().expect("it is served");
        waits.push(start.elapsed());
        sleep(HOLD).await;
        drop(lent);
    }
    waits
}

/// The same for tasks that pass each object round in a ring.
async fn round_robin(rounds: usize) -> Vec<Vec<Duration>> {
    let turn: Arc<[Notify]> = (0..TASKS).map(|_| Notify::new()).collect();
    turn[..OBJECTS].iter().for_each(Notify::notify_one);
    join((0..TASKS).map(move |task| {
        let turn = Arc::clone(&turn);
        async move {
            let mut waits = Vec::with_capacity(rounds);
            for _ in 0..rounds {
                let start = Instant::now();
                turn[task].notified().await;
                waits.push(start.elapsed());
                sleep(HOLD).await;
                turn[(task + OBJECTS) % TASKS].notify_one();
            }
            waits
        }
    }))
    .await
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// What is lent.
#[derive(Debug)]
struct Connection {
    _number: u64,
}

/// Where connections lead to. Opening and checking one takes no time by default.
#[derive(Default)]
struct Server {
    opening: AtomicU64,
    checking: AtomicU64,
    begun: AtomicU64,
    opened: AtomicU64,
}

impl Server {
    fn take_time(&self, opening: Duration, checking: Duration) {
        self.opening.store(opening.as_millis() as u64, Relaxed);
        self.checking.store(checking.as_millis() as u64, Relaxed);
    }

    fn begun(&self) -> u64 {
        self.begun.load(Relaxed)
    }

    fn opened(&self) -> u64 {
        self.opened.load(Relaxed)
    }

    async fn open(&self) -> Connection {
        let number = self.begun.fetch_add(1, Relaxed);
        let milliseconds = self.opening.load(Relaxed);
        if milliseconds > 0 {
            sleep(Duration::from_millis(milliseconds)).await;
        }
        self.opened.fetch_add(1, Relaxed);
        Connection { _number: number }
    }

    async fn check(&self) {
        sleep(Duration::from_millis(self.checking.load(Relaxed))).await;
    }
}

/// A manager of connections to a server.
trait Connects: Send + Sync + Sized + 'static {
    fn to(server: &Arc<Server>) -> Self;
}

/// Opens connections for every pool that asks for some.
struct Connector(Arc<Server>);

type Managed = stanchion::Pool<Connector>;

impl stanchion::Manager for Connector {
    type Object = Connection;
    type Error = Infallible;

    async fn create(&self) -> Result<Connection, Infallible> {
        Ok(self.0.open().await)
    }
}

impl Connects for Connector {
    fn to(server: &Arc<Server>) -> Self {
        Self(Arc::clone(server))
    }
}

impl<M: stanchion::Manager<Object = Connection> + Connects> Lender for stanchion::Pool<M> {
    const NAME: &'static str = "stanchion";

    fn new(size: usize, server: &Arc<Server>) -> Self {
        Self::builder(M::to(server)).max_size(size).build()
    }

    fn get(&self) -> impl Future<Output = Result<impl Deref<Target = Connection> + Send, impl Send>> + Send {
        self.get()
    }
}

/// Has a look at each connection before it is used again. For the peers a `Connector` does so already, as far as they
/// can tell; our pool can tell a manager that has no `recycle` of its own.
struct Checker(Connector);

type Checked = stanchion::Pool<Checker>;

impl stanchion::Manager for Checker {
    type Object = Connection;
    type Error = Infallible;

    async fn create(&self) -> Result<Connection, Infallible> {
        Ok(self.0.0.open().await)
    }

    async fn recycle(&self, connection: &mut Connection, _: &stanchion::Metrics) -> Result<(), Infallible> {
        black_box(connection);
        Ok(())
    }
}

impl Connects for Checker {
    fn to(server: &Arc<Server>) -> Self {
        Self(Connector::to(server))
    }
}

type Fixed = stanchion::Pool<stanchion::Fixed<Connection>>;

impl Lender for Fixed {
    const NAME: &'static str = "stanchion";

    fn new(size: usize, _: &Arc<Server>) -> Self {
        stanchion::Pool::from_objects(connections(size))
    }

    fn get(&self) -> impl Future<Output = Result<impl Deref<Target = Connection> + Send, impl Send>> + Send {
        self.get()
    }

    fn try_get(&self) -> Option<impl Sized> {
        self.try_get()
    }
}

fn connections(size: usize) -> impl Iterator<Item = Connection> {
    (0..size as u64).map(|number| Connection { _number: number })
}

type Deadpool = deadpool::managed::Pool<Connector>;

impl deadpool::managed::Manager for Connector {
    type Type = Connection;
    type Error = Infallible;

    async fn create(&self) -> Result<Connection, Infallible> {
        Ok(self.0.open().await)
    }

    async fn recycle(
        &self,
        _: &mut Connection,
        _: &deadpool::managed::Metrics,
    ) -> deadpool::managed::RecycleResult<Infallible> {
        Ok(())
    }
}

impl<M> Lender for deadpool::managed::Pool<M>
where
    M: deadpool::managed::Manager<Type = Connection, Error = Infallible> + Connects,
{
    const NAME: &'static str = "deadpool";

    fn new(size: usize, server: &Arc<Server>) -> Self {
        Self::builder(M::to(server)).max_size(size).build().expect("no runtime is needed")
    }

    fn get(&self) -> impl Future<Output = Result<impl Deref<Target = Connection> + Send, impl Send>> + Send {
        self.get()
    }
}

type Unmanaged = deadpool::unmanaged::Pool<Connection>;

impl Lender for Unmanaged {
    const NAME: &'static str = "deadpool unmanaged";

    fn new(size: usize, _: &Arc<Server>) -> Self {
        connections(size).collect::<Vec<_>>().into()
    }

    fn get(&self) -> impl Future<Output = Result<impl Deref<Target = Connection> + Send, impl Send>> + Send {
        self.get()
    }

    fn try_get(&self) -> Option<impl Sized> {
        self.try_get().ok()
    }
}

type Bb8 = bb8::Pool<Connector>;

impl bb8::ManageConnection for Connector {
    type Connection = Connection;
    type Error = Infallible;

    async fn connect(&self) -> Result<Connection, Infallible> {
        Ok(self.0.open().await)
    }

    async fn is_valid(&self, _: &mut Connection) -> Result<(), Infallible> {
        Ok(())
    }

    fn has_broken(&self, _: &mut Connection) -> bool {
        false
    }
}

impl<M: bb8::ManageConnection<Connection = Connection> + Connects> Lender for bb8::Pool<M> {
    const NAME: &'static str = "bb8";

    fn new(size: usize, server: &Arc<Server>) -> Self {
        let builder = Self::builder().max_size(size as u32).max_lifetime(None).idle_timeout(None);
        builder.build_unchecked(M::to(server))
    }

    /// It would open connections in tasks of its own.
    fn ready(size: usize) -> Self {
        filled(Lender::new(size, &Arc::default()), size)
    }

    fn get(&self) -> impl Future<Output = Result<impl Deref<Target = Connection> + Send, impl Send>> + Send {
        self.get()
    }
}

fn filled<M: bb8::ManageConnection<Connection = Connection>>(pool: bb8::Pool<M>, size: usize) -> bb8::Pool<M> {
    connections(size).for_each(|connection| pool.add(connection).expect("there is room"));
    pool
}

type Mobc = mobc::Pool<Connector>;

#[mobc::async_trait]
impl mobc::Manager for Connector {
    type Connection = Connection;
    type Error = Infallible;

    async fn connect(&self) -> Result<Connection, Infallible> {
        Ok(self.0.open().await)
    }

    async fn check(&self, connection: Connection) -> Result<Connection, Infallible> {
        Ok(connection)
    }
}

impl Lender for Mobc {
    const NAME: &'static str = "mobc";

    fn new(size: usize, server: &Arc<Server>) -> Self {
        let builder = Self::builder().max_open(size as u64).max_idle(size as u64).get_timeout(None);
        builder.build(Connector(Arc::clone(server)))
    }

    fn get(&self) -> impl Future<Output = Result<impl Deref<Target = Connection> + Send, impl Send>> + Send {
        self.get()
    }
}

/// A pool of objects with a lifetime and an idle timeout, for which it reads a clock. (deadpool, which has neither,
/// looks at one all the same.)
struct Aging<P>(P);

/// Longer than any measurement.
const LIFETIME: Duration = Duration::from_secs(3_600);

impl Lender for Aging<Managed> {
    const NAME: &'static str = <Managed as Lender>::NAME;

    fn new(size: usize, server: &Arc<Server>) -> Self {
        let builder = Managed::builder(Connector(Arc::clone(server))).max_size(size);
        Self(builder.max_lifetime(LIFETIME).idle_timeout(LIFETIME).build())
    }

    fn get(&self) -> impl Future<Output = Result<impl Deref<Target = Connection> + Send, impl Send>> + Send {
        self.0.get()
    }
}

impl Lender for Aging<Bb8> {
    const NAME: &'static str = <Bb8 as Lender>::NAME;

    fn new(size: usize, server: &Arc<Server>) -> Self {
        let builder = Bb8::builder().max_size(size as u32).max_lifetime(LIFETIME).idle_timeout(LIFETIME);
        Self(filled(builder.build_unchecked(Connector(Arc::clone(server))), size))
    }

    fn get(&self) -> impl Future<Output = Result<impl Deref<Target = Connection> + Send, impl Send>> + Send {
        self.0.get()
    }
}

/// What applications write that need no more than this.
struct HandMade {
    idle: parking_lot::Mutex<Vec<Connection>>,
    permits: Semaphore,
    server: Arc<Server>,
}

struct Lent<'a> {
    connection: Option<Connection>,
    pool: &'a HandMade,
    _permit: SemaphorePermit<'a>,
}

impl Lender for HandMade {
    const NAME: &'static str = "tokio Semaphore + Vec";

    fn new(size: usize, server: &Arc<Server>) -> Self {
        Self { idle: parking_lot::Mutex::default(), permits: Semaphore::new(size), server: Arc::clone(server) }
    }

    fn ready(size: usize) -> Self {
        let pool: Self = Lender::new(size, &Arc::default());
        pool.idle.lock().extend(connections(size));
        pool
    }

    async fn get(&self) -> Result<impl Deref<Target = Connection> + Send, impl Send> {
        let _permit = self.permits.acquire().await?;
        let idle = self.idle.lock().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.server.open().await,
        };
        Ok::<_, AcquireError>(Lent { connection: Some(connection), pool: self, _permit })
    }

    fn try_get(&self) -> Option<impl Sized> {
        let _permit = self.permits.try_acquire().ok()?;
        let connection = self.idle.lock().pop()?;
        Some(Lent { connection: Some(connection), pool: self, _permit })
    }
}

impl Deref for Lent<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection.as_ref().expect("it is there until the drop")
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        // The permit follows it.
        self.pool.idle.lock().extend(self.connection.take());
    }
}
