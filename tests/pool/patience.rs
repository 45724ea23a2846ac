//! The waits of the maintenance: for jobs without progress, after failures, and with sleeps of every kind.

use std::collections::VecDeque;
use std::future::{Future, pending, ready};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::Mutex as StdMutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Waker};
use std::time::Duration;

use stanchion::{Manager, Metrics, Object, Pool, PoolBuilder};
use tokio::time::{Instant, sleep};

use crate::common::Clock;
use crate::manager::{Event, Factory};
use crate::take;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Creations and checks go by these plans, and succeed at once when there are no more.
#[derive(Default)]
struct Server {
    creations: StdMutex<VecDeque<Plan>>,
    checks: StdMutex<VecDeque<Plan>>,
    begun: AtomicUsize,
}

#[derive(Clone, Copy)]
enum Plan {
    Hangs,
    Takes(Duration),
    FailsAfter(Duration),
}

impl Server {
    fn plans(creations: impl IntoIterator<Item = Plan>) -> Self {
        Self { creations: StdMutex::new(creations.into_iter().collect()), ..Self::default() }
    }

    fn begun(&self) -> usize {
        self.begun.load(Relaxed)
    }
}

async fn follow(plans: &StdMutex<VecDeque<Plan>>) -> Result<(), ()> {
    let plan = plans.lock().unwrap().pop_front().unwrap_or(Plan::Takes(Duration::ZERO));
    let (time, outcome) = match plan {
        Plan::Hangs => pending().await,
        Plan::Takes(time) => (time, Ok(())),
        Plan::FailsAfter(time) => (time, Err(())),
    };
    if !time.is_zero() {
        sleep(time).await;
    }
    outcome
}

impl Manager for Server {
    type Object = ();
    type Error = ();

    async fn create(&self) -> Result<(), ()> {
        self.begun.fetch_add(1, Relaxed);
        follow(&self.creations).await
    }

    async fn recycle(&self, (): &mut (), _: &Metrics) -> Result<(), ()> {
        follow(&self.checks).await
    }
}

/// A pool that is maintained on paused time.
fn maintained(server: Server, set: impl FnOnce(PoolBuilder<Server>) -> PoolBuilder<Server>) -> Arc<Pool<Server>> {
    let pool = Arc::new(set(Pool::builder(server).clock(|| Instant::now().into_std())).build());
    tokio::spawn(Pool::maintenance(&pool, sleep));
    pool
}

/// Goes on until so many milliseconds after `start`.
async fn at(start: Instant, millis: u64) {
    tokio::time::sleep_until(start + Duration::from_millis(millis)).await;
}

fn poll_once(maintenance: Pin<&mut impl Future>) {
    assert!(maintenance.poll(&mut Context::from_waker(Waker::noop())).is_pending());
}

#[tokio::test(start_paused = true)]
async fn a_hang_is_noticed_after_a_quiet_time() {
    let pool = maintained(Server::plans([Plan::Takes(SECOND)]), |builder| builder.min_idle(1));
    sleep(10 * SECOND).await;
    pool.manager().creations.lock().unwrap().push_back(Plan::Hangs);
    let _object = pool.get().await.unwrap();
    sleep(4 * SECOND).await;
    assert_eq!((pool.status().idle, pool.status().creating), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn patience_doubles_while_creations_hang() {
    let start = Instant::now();
    let pool = maintained(Server::plans([Plan::Hangs; 8]), |builder| builder.min_idle(1));
    for (begun, millis) in [(1, 0), (2, 3_000), (3, 9_000), (4, 21_000), (5, 45_000), (6, 75_000), (7, 105_000)] {
        at(start, (millis - 50_u64.min(millis)).max(1)).await;
        assert_eq!(pool.manager().begun(), begun - usize::from(millis > 0), "before {millis} ms");
        at(start, millis + 50).await;
        assert_eq!(pool.manager().begun(), begun, "after {millis} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn patience_doubles_while_checks_hang() {
    let start = Instant::now();
    let pool = maintained(Server::default(), |builder| builder.keepalive(MINUTE));
    pool.manager().checks.lock().unwrap().extend([Plan::Hangs; 4]);
    (0..4).for_each(|_| pool.add(()).unwrap());
    for (begun, seconds) in [(1, 60), (2, 63), (3, 69), (4, 81)] {
        at(start, seconds * 1_000 - 50).await;
        assert_eq!(pool.status().in_use, begun - 1, "before {seconds} s");
        at(start, seconds * 1_000 + 50).await;
        assert_eq!(pool.status().in_use, begun, "after {seconds} s");
    }
}

#[tokio::test(start_paused = true)]
async fn progress_ends_the_doubling_of_patience() {
    // Two at a time take two and a half seconds each; the ninth hangs from the tenth second on, and is given up at the
    // fifteenth.
    let slow = [Plan::Takes(SECOND * 5 / 2); 8];
    let server = Server::plans(slow.into_iter().chain([Plan::Hangs]).chain(slow));
    let pool = maintained(server, |builder| builder.min_idle(10).max_size(20).max_creating(2));
    sleep(SECOND * 149 / 10).await;
    assert_eq!((pool.status().idle, pool.manager().begun()), (9, 10));
    sleep(3 * SECOND).await;
    assert_eq!((pool.status().idle, pool.manager().begun()), (10, 11));
}

#[tokio::test(start_paused = true)]
async fn a_failure_does_not_shorten_the_patience_with_others() {
    let plans = [Plan::Takes(2 * SECOND), Plan::FailsAfter(SECOND)];
    let pool = maintained(Server::plans(plans), |builder| builder.min_idle(2));
    sleep(5 * SECOND).await;
    assert_eq!((pool.status().idle, pool.manager().begun()), (2, 3));
}

#[test]
fn after_a_failure_without_sleeps_a_change_makes_it_try_again() {
    let pool = Arc::new(Pool::builder(Server::plans([Plan::FailsAfter(Duration::ZERO); 2])).min_idle(1).build());
    let mut maintenance = pin!(Pool::maintenance(&pool, |_| ready(())));
    (0..5).for_each(|_| poll_once(maintenance.as_mut()));
    // The slot of the first failure became free before it knew that sleeps take no time.
    assert_eq!((pool.manager().begun(), pool.status().idle), (2, 0));
    pool.resize(5);
    poll_once(maintenance.as_mut());
    assert_eq!(pool.status().idle, 1);
}

#[test]
fn without_sleeps_a_change_makes_it_check_objects() {
    let clock = Clock::new();
    let builder = Pool::builder(Server::default()).min_idle(2).keepalive(MINUTE);
    let pool = Arc::new(builder.clock(clock.source()).build());
    let mut maintenance = pin!(Pool::maintenance(&pool, |_| ready(())));
    (0..5).for_each(|_| poll_once(maintenance.as_mut()));
    clock.advance(MINUTE);
    (0..5).for_each(|_| poll_once(maintenance.as_mut()));
    assert_eq!((pool.status().idle, pool.stats().recycled), (2, 0));
    let mut first = true;
    assert_eq!(pool.retain(|_, _| !std::mem::take(&mut first)).len(), 1);
    poll_once(maintenance.as_mut());
    assert_eq!((pool.status().idle, pool.stats().recycled), (2, 1));
}

#[test]
fn a_sleep_that_moves_the_clock_of_the_pool_has_taken_its_time() {
    let clock = Clock::new();
    let pool = Arc::new(Pool::builder(Server::default()).keepalive(MINUTE).clock(clock.source()).build());
    pool.add(()).unwrap();
    let mut maintenance = pin!(Pool::maintenance(&pool, |length| {
        clock.advance(length);
        ready(())
    }));
    for polls in 1..=10 {
        poll_once(maintenance.as_mut());
        assert_eq!(pool.stats().recycled, polls - 1);
    }
}

#[test]
fn an_error_that_panics_when_dropped_delays_no_other_check() {
    let (factory, clock) = (Factory::default(), Clock::new());
    let pool = Arc::new(factory.builder().keepalive(MINUTE).clock(clock.source()).build());
    let objects = [take(&pool), take(&pool)];
    drop(objects);
    clock.advance(MINUTE);
    factory.recycles.fail_at(0, 0);
    factory.hook(|event| assert!(!matches!(event, Event::ErrorDropped(_)), "the error"));
    let mut maintenance = pin!(Pool::maintenance(&pool, |_| pending::<()>()));
    poll_once(maintenance.as_mut());
    factory.unhook();
    assert_eq!((factory.recycles.begun(), pool.status().size, pool.stats().recycled), (2, 1, 1));
    Object::discard(take(&pool));
}

#[tokio::test(start_paused = true)]
async fn a_success_ends_the_backoff_though_the_next_one_fails() {
    // The second and third come after 100 and 300 ms; then one succeeds and the next fails, 100 ms before the last.
    let [fails, succeeds] = [Plan::FailsAfter(Duration::ZERO), Plan::Takes(Duration::ZERO)];
    let plans = [fails, fails, fails, succeeds, fails];
    let pool = maintained(Server::plans(plans), |builder| builder.min_idle(2));
    sleep(SECOND * 75 / 100).await;
    assert_eq!((pool.status().idle, pool.manager().begun()), (1, 5));
    sleep(SECOND / 10).await;
    assert_eq!((pool.status().idle, pool.manager().begun()), (2, 6));
}

#[tokio::test(start_paused = true)]
async fn the_backoff_doubles_while_slow_creations_fail() {
    let pool = maintained(Server::plans([Plan::FailsAfter(SECOND); 40]), |builder| builder.min_idle(1));
    sleep(30 * SECOND).await;
    // A second each, and pauses of 0.1, 0.2, 0.4, 0.8, 1.6, 3.2 and 6.4 seconds.
    assert_eq!(pool.manager().begun(), 8);
}

#[tokio::test(start_paused = true)]
async fn stuck_creations_that_end_spare_no_others() {
    // Two are stuck after three seconds, when the third begins, which hangs. The first two end, and it is no younger.
    let plans = [Plan::Takes(4 * SECOND), Plan::Takes(4 * SECOND), Plan::Hangs, Plan::Hangs];
    let pool = maintained(Server::plans(plans), |builder| builder.min_idle(2).max_creating(3));
    sleep(SECOND * 9 / 2).await;
    assert_eq!((pool.status().idle, pool.manager().begun()), (2, 3));
    let _objects = [pool.get().await.unwrap(), pool.get().await.unwrap()];
    sleep(SECOND * 43 / 10).await;
    assert_eq!((pool.status().idle, pool.manager().begun()), (0, 4));
    sleep(SECOND).await;
    assert_eq!((pool.status().idle, pool.manager().begun()), (1, 5));
}
