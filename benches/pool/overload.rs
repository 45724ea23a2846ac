//! Overload: callers arrive at random, more than ten objects can serve, and each gives up after half a second.
//!
//! Time is paused: a minute of it takes a second, and the figures depend on the pools and on the seed alone.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::distr::Distribution;
use rand::rngs::StdRng;
use rand_distr::Exp;
use tokio::runtime::Builder;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::common::figures::Figure;
use super::common::testing;
use super::{Connection, Connects, Lender, Server};

const OBJECTS: usize = 10;
const USE: u64 = 20;
const PATIENCE: Duration = Duration::from_millis(500);

/// A load as a multiple of the capacity, and the milliseconds that it takes to check an object and to create one.
#[derive(Clone, Copy)]
pub(crate) struct Scene {
    load: f64,
    check: u64,
    create: u64,
}

impl Scene {
    /// Every combination.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let of_load = |load| [2, 5, 10].into_iter().map(move |check| (load, check));
        let scenes = [1.3, 2.0, 3.0].into_iter().flat_map(of_load);
        scenes.flat_map(|(load, check)| [100, 200, 1_000].map(|create| Self { load, check, create }))
    }

    pub(crate) fn name(self) -> String {
        let Self { load, check, create } = self;
        format!("pool/overload/{load}x, check {check} ms, create {create} ms")
    }

    /// The milliseconds from one call to the next when all objects are in use all the time.
    fn ideal(self) -> f64 {
        (USE + self.check) as f64 / OBJECTS as f64
    }

    /// A Poisson process: the times of the calls.
    fn calls(self, end: Duration) -> impl Iterator<Item = Duration> {
        let mut random = StdRng::seed_from_u64(4_711);
        let pauses = Exp::new(self.load / self.ideal()).expect("the load is positive");
        let mut at = 0.0;
        std::iter::from_fn(move || {
            at += pauses.sample(&mut random);
            Some(Duration::from_millis(at as u64)).filter(|at| *at < end)
        })
    }

    /// Lets the calls of a minute meet a pool.
    pub(crate) fn figures<P: Lender>(self) -> [Figure; 2] {
        let end = Duration::from_millis(if testing() { 300 } else { 60_000 });
        let server = Arc::new(Server::default());
        server.take_time(Duration::from_millis(self.create), Duration::from_millis(self.check));
        let pool = Arc::new(P::new(OBJECTS, &server));
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        let served = runtime.expect("the runtime starts").block_on(self.serve(pool, end));
        let capacity = end.as_millis() as f64 / self.ideal();
        [("capacity / served", capacity / served.max(1) as f64), ("creations begun", server.begun() as f64)]
    }

    async fn serve<P: Lender>(self, pool: Arc<P>, end: Duration) -> usize {
        let start = Instant::now();
        let mut calls = Vec::new();
        for at in self.calls(end) {
            sleep_until(start + at).await;
            calls.push(tokio::spawn(call(Arc::clone(&pool))));
        }
        let mut served = 0;
        for call in calls {
            served += usize::from(call.await.expect("a task panicked"));
        }
        served
    }
}

/// Returns `true` if an object was used.
async fn call<P: Lender>(pool: Arc<P>) -> bool {
    let Ok(Ok(lent)) = timeout(PATIENCE, pool.get()).await else { return false };
    sleep(Duration::from_millis(USE)).await;
    drop(lent);
    true
}

/// A manager whose connections take time to open and to check.
pub(crate) struct Slow(Arc<Server>);

impl Connects for Slow {
    fn to(server: &Arc<Server>) -> Self {
        Self(Arc::clone(server))
    }
}

impl stanchion::Manager for Slow {
    type Object = Connection;
    type Error = Infallible;

    async fn create(&self) -> Result<Connection, Infallible> {
        Ok(self.0.open().await)
    }

    async fn recycle(&self, _: &mut Connection, _: &stanchion::Metrics) -> Result<(), Infallible> {
        self.0.check().await;
        Ok(())
    }
}

impl deadpool::managed::Manager for Slow {
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
        self.0.check().await;
        Ok(())
    }
}

impl bb8::ManageConnection for Slow {
    type Connection = Connection;
    type Error = Infallible;

    async fn connect(&self) -> Result<Connection, Infallible> {
        Ok(self.0.open().await)
    }

    async fn is_valid(&self, _: &mut Connection) -> Result<(), Infallible> {
        self.0.check().await;
        Ok(())
    }

    fn has_broken(&self, _: &mut Connection) -> bool {
        false
    }
}
