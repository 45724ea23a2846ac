//! `Pool::maintenance`: on paused time, by hand, and with sleeps that take no time.

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, ready};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use stanchion::{Manager, Metrics, Object, Pool, PoolBuilder};
use tokio::time::{Instant, sleep};

use crate::common::Clock;
use crate::manager::{Event, Factory};
use crate::{served, take, waiting};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Server {
    created: AtomicUsize,
    attempts: AtomicUsize,
    alive: Arc<()>,
    is_down: AtomicBool,
    panics: AtomicBool,
    hangs: AtomicUsize,
    /// So many creations fail at the end of a second, and all take one.
    slow_failures: AtomicUsize,
    recycle_hangs: AtomicBool,
    /// The duration of each check, and of the creations that fail one after the other, in ms.
    check_takes: AtomicUsize,
    staggered_failures: AtomicUsize,
}

struct Link(#[allow(dead_code)] Arc<()>);

impl Manager for Server {
    type Object = Link;
    type Error = ();

    async fn create(&self) -> Result<Link, ()> {
        self.attempts.fetch_add(1, Relaxed);
        assert!(!self.panics.load(Relaxed), "the server");
        if self.hangs.fetch_update(Relaxed, Relaxed, |hangs| hangs.checked_sub(1)).is_ok() {
            pending::<()>().await;
        }
        let attempt = self.attempts.load(Relaxed);
        if attempt <= self.staggered_failures.load(Relaxed) {
            sleep(SECOND + attempt as u32 * Duration::from_millis(20)).await;
            return Err(());
        }
        if self.slow_failures.load(Relaxed) > 0 {
            let fails = self.attempts.load(Relaxed) <= self.slow_failures.load(Relaxed);
            sleep(SECOND).await;
            if fails {
                return Err(());
            }
        }
        if self.is_down.load(Relaxed) {
            return Err(());
        }
        self.created.fetch_add(1, Relaxed);
        Ok(Link(self.alive.clone()))
    }

    async fn recycle(&self, _: &mut Link, _: &Metrics) -> Result<(), ()> {
        if self.recycle_hangs.swap(false, Relaxed) {
            pending::<()>().await;
        }
        sleep(Duration::from_millis(self.check_takes.load(Relaxed) as u64)).await;
        if self.is_down.load(Relaxed) { Err(()) } else { Ok(()) }
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

/// A pool that is maintained on paused time.
fn maintained(set: impl FnOnce(PoolBuilder<Server>) -> PoolBuilder<Server>) -> Arc<Pool<Server>> {
    let pool = Arc::new(set(Pool::builder(Server::default()).min_idle(3).clock(now)).build());
    tokio::spawn(Pool::maintenance(&pool, sleep));
    pool
}

fn created(pool: &Pool<Server>) -> usize {
    pool.manager().created.load(Relaxed)
}

#[tokio::test(start_paused = true)]
async fn min_idle_is_kept_while_objects_are_taken() {
    let pool = maintained(|builder| builder);
    let mut held = Vec::new();
    for taken in 0..=7 {
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        assert_eq!(pool.status().idle, 3.min(10 - taken), "{taken} taken");
        held.push(pool.get().await.unwrap());
    }
    // A slot that becomes free is filled, too.
    Object::discard(held.pop().unwrap());
    sleep(SECOND).await;
    assert_eq!((pool.status().idle, pool.status().size), (3, 10));
    pool.validate();
}

#[tokio::test(start_paused = true)]
async fn failures_are_retried_with_backoff() {
    let pool = maintained(|builder| builder);
    pool.manager().is_down.store(true, Relaxed);
    sleep(10 * MINUTE).await;
    let attempts = pool.manager().attempts.load(Relaxed);
    assert!((20..=32).contains(&attempts), "{attempts} in ten minutes: 100 ms, 200 ms, and so on up to 30 s");
    pool.manager().is_down.store(false, Relaxed);
    sleep(30 * SECOND).await;
    assert_eq!((pool.status().idle, created(&pool)), (3, 3));
    // It begins at 100 ms again.
    pool.manager().is_down.store(true, Relaxed);
    pool.clear();
    sleep(SECOND / 100).await;
    pool.manager().is_down.store(false, Relaxed);
    sleep(SECOND / 10).await;
    assert_eq!(pool.status().idle, 3);
}

#[tokio::test(start_paused = true)]
async fn a_failure_does_not_delay_creations_that_end_with_it() {
    let pool = maintained(|builder| builder.max_size(3));
    pool.manager().slow_failures.store(1, Relaxed);
    tokio::task::yield_now().await;
    let getters = [(); 2].map(|()| tokio::spawn(pool.clone().get_owned()));
    sleep(SECOND + SECOND / 20).await;
    assert_eq!(pool.stats().create_failures, 1);
    assert!(getters.iter().all(tokio::task::JoinHandle::is_finished), "{:?}", pool.status());
}

/// Panics in each drop.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("the drop of an object");
    }
}

/// Creates bombs, and counts them.
struct Bombs(AtomicUsize);

impl Manager for Bombs {
    type Object = Bomb;
    type Error = ();

    async fn create(&self) -> Result<Bomb, ()> {
        self.0.fetch_add(1, Relaxed);
        Ok(Bomb)
    }
}

#[tokio::test(start_paused = true)]
async fn objects_that_panic_in_their_drops_expire_and_are_replaced() {
    let pool = Pool::builder(Bombs(AtomicUsize::new(0))).min_idle(1).max_lifetime(MINUTE);
    let pool = Arc::new(pool.clock(|| Instant::now().into_std()).build());
    let maintenance = tokio::spawn(Pool::maintenance(&pool, sleep));
    for minutes in 1..=4 {
        sleep(MINUTE).await;
        assert!(pool.manager().0.load(Relaxed) > minutes, "in {minutes} minutes");
    }
    assert_eq!((pool.status().size, pool.stats().expired > 3), (1, true));
    maintenance.abort();
    pool.retain(|_, _| false).into_iter().for_each(std::mem::forget);
}

/// A waker that panics when it is woken.
struct PanickingWaker;

impl Wake for PanickingWaker {
    fn wake(self: Arc<Self>) {
        panic!("a waker of the maintenance");
    }
}

#[test]
fn a_waker_that_panics_costs_neither_objects_nor_the_others() {
    let pool = Arc::new(Pool::builder(Server::default()).min_idle(1).build());
    let mut first = pin!(Pool::maintenance(&pool, |_| pending::<()>()));
    let mut second = pin!(Pool::maintenance(&pool, |_| pending::<()>()));
    for round in 1..=3 {
        assert!(first.as_mut().poll(&mut Context::from_waker(&Arc::new(PanickingWaker).into())).is_pending());
        let woken = Arc::new(Flag::default());
        assert!(second.as_mut().poll(&mut Context::from_waker(&woken.clone().into())).is_pending());
        assert_eq!(pool.retain(|_, _| false).len(), 1);
        assert!(woken.0.load(Relaxed), "round {round}");
    }
    pool.close();
    assert!(first.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
}

/// A waker that remembers a wake.
#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_panicking_manager_costs_the_attempt() {
    let pool = maintained(|builder| builder);
    pool.manager().panics.store(true, Relaxed);
    sleep(SECOND).await;
    pool.manager().panics.store(false, Relaxed);
    sleep(2 * SECOND).await;
    assert_eq!(pool.status().idle, 3);
    assert!(pool.stats().create_failures > 0);
}

#[tokio::test(start_paused = true)]
async fn hung_creations_do_not_stop_it() {
    let pool = maintained(|builder| builder.max_creating(4));
    pool.manager().hangs.store(2, Relaxed);
    sleep(10 * SECOND).await;
    assert_eq!((pool.status().idle, pool.status().creating), (3, 2));
    let held = [pool.get().await.unwrap(), pool.get().await.unwrap()];
    sleep(10 * SECOND).await;
    assert_eq!(pool.status().idle, 3);
    drop(held);
    pool.validate();
}

#[tokio::test(start_paused = true)]
async fn a_hung_creation_in_a_full_pool_does_not_make_it_spin() {
    let pool = Arc::new(Pool::builder(Server::default()).max_size(1).min_idle(1).build());
    pool.manager().hangs.store(1, Relaxed);
    let flag = Arc::new(Wakes::default());
    let waker = Waker::from(flag.clone());
    let mut maintenances = [(); 2].map(|()| Box::pin(Pool::maintenance(&pool, |_| pending::<()>())));
    for _ in 0..100 {
        let before = flag.0.load(Relaxed);
        for maintenance in &mut maintenances {
            assert!(maintenance.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        }
        if flag.0.load(Relaxed) == before {
            return;
        }
    }
    panic!("they wake each other for ever");
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl std::task::Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn the_idle_timeout_spares_min_idle() {
    let pool = maintained(|builder| builder.idle_timeout(MINUTE));
    let held = [pool.get().await, pool.get().await, pool.get().await, pool.get().await];
    sleep(SECOND).await;
    drop(held);
    assert_eq!(pool.status().idle, 7);
    sleep(60 * MINUTE).await;
    assert_eq!((pool.status().idle, created(&pool)), (3, 7));
    assert_eq!(pool.stats().expired, 4);
    drop(pool.get().await.unwrap());
    assert_eq!(created(&pool), 7, "objects that the timeout spares are used");
}

#[tokio::test(start_paused = true)]
async fn lifetimes_end_and_are_replaced() {
    let pool = maintained(|builder| builder.max_lifetime(10 * MINUTE));
    sleep(60 * MINUTE + SECOND).await;
    let created = created(&pool);
    assert!((3 * 6..=3 * 7).contains(&created), "{created}");
    assert_eq!(pool.status().idle, 3);
}

#[tokio::test(start_paused = true)]
async fn keepalive_recycles_in_place() {
    let pool = maintained(|builder| builder.keepalive(MINUTE).max_lifetime(30 * MINUTE));
    sleep(10 * MINUTE + SECOND).await;
    assert_eq!((pool.stats().recycled, created(&pool)), (3 * 10, 3));
    let object = pool.get().await.unwrap();
    let metrics = Object::metrics(&object);
    assert!(metrics.created.unwrap() + 10 * MINUTE <= now(), "it became no younger");
    assert_eq!(metrics.uses, 1);
    drop(object);
    sleep(30 * MINUTE).await;
    assert!(created(&pool) > 3, "nor does it live for ever");
}

#[tokio::test(start_paused = true)]
async fn keepalive_keeps_the_place_of_an_object() {
    let pool = Arc::new(Pool::builder(Server::default()).keepalive(MINUTE).clock(now).build());
    tokio::spawn(Pool::maintenance(&pool, sleep));
    let [first, second] = [pool.get().await.unwrap(), pool.get().await.unwrap()];
    drop(first);
    sleep(MINUTE / 2).await;
    let last: *const Link = &*second;
    drop(second);
    sleep(MINUTE * 3 / 4).await; // The first one was recycled meanwhile, and alone.
    assert_eq!(pool.stats().recycled, 1);
    assert!(std::ptr::eq(&*pool.get().await.unwrap(), last), "the one that was returned last comes first");
}

#[tokio::test(start_paused = true)]
async fn keepalive_finds_dead_objects_and_replaces_them() {
    let pool = maintained(|builder| builder.keepalive(MINUTE));
    sleep(SECOND).await;
    pool.manager().is_down.store(true, Relaxed);
    sleep(2 * MINUTE).await;
    assert_eq!((pool.status().size, pool.stats().recycle_failures), (0, 3));
    pool.manager().is_down.store(false, Relaxed);
    sleep(MINUTE).await;
    assert_eq!((pool.status().idle, created(&pool)), (3, 6));
}

#[tokio::test(start_paused = true)]
async fn a_hung_check_does_not_stop_it() {
    let pool = maintained(|builder| builder.keepalive(MINUTE));
    pool.manager().recycle_hangs.store(true, Relaxed);
    sleep(2 * MINUTE).await;
    assert_eq!((pool.status().idle, pool.status().in_use), (3, 1), "the reserve is full beside it");
    assert!(pool.stats().recycled >= 2);
    pool.validate();
}

#[tokio::test(start_paused = true)]
async fn it_ends_with_the_pool() {
    let pool = maintained(|builder| builder.idle_timeout(MINUTE));
    sleep(SECOND).await;
    let alive = pool.manager().alive.clone();
    assert_eq!(Arc::strong_count(&alive), 5);
    drop(pool);
    assert_eq!(Arc::strong_count(&alive), 1, "it does not keep the pool");
    let pool = Arc::new(Pool::builder(Server::default()).min_idle(1).build());
    let maintenance = tokio::spawn(Pool::maintenance(&pool, sleep));
    sleep(SECOND).await;
    pool.close();
    maintenance.await.unwrap();
    let pool = Arc::new(Pool::builder(Server::default()).min_idle(1).build());
    let maintenance = tokio::spawn(Pool::maintenance(&pool, sleep));
    sleep(SECOND).await;
    drop(pool);
    maintenance.await.unwrap();
}

#[test]
fn dropping_it_leaves_its_work_pending() {
    let pool = Arc::new(Pool::builder(Server::default()).min_idle(1).build());
    pool.manager().hangs.store(1, Relaxed);
    let mut maintenance = Box::pin(Pool::maintenance(&pool, |_| pending::<()>()));
    assert!(maintenance.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    drop(maintenance);
    assert_eq!((pool.status().creating, pool.manager().attempts.load(Relaxed)), (1, 1));
    pool.validate();
}

#[test]
fn sleeps_that_take_no_time_do_not_make_it_spin() {
    let pool = Arc::new(Pool::builder(Server::default()).min_idle(1).idle_timeout(Duration::ZERO).build());
    pool.manager().is_down.store(true, Relaxed);
    let sleeps = Cell::new(0);
    let mut maintenance = pin!(Pool::maintenance(&pool, |_| {
        sleeps.set(sleeps.get() + 1);
        ready(())
    }));
    for _ in 0..100 {
        assert!(maintenance.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    assert!(sleeps.get() < 10 && pool.manager().attempts.load(Relaxed) < 10, "{} sleeps", sleeps.get());
    // A change of the pool makes it look again.
    pool.manager().is_down.store(false, Relaxed);
    drop(pool.try_get());
    pool.resize(5);
    assert!(maintenance.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    assert_eq!(pool.status().idle, 1);
}

#[test]
fn a_thread_can_run_it() {
    let pool = Arc::new(Pool::builder(Server::default()).min_idle(2).build());
    pool.manager().is_down.store(true, Relaxed);
    let maintenance = Pool::maintenance(&pool, |time| async move { std::thread::sleep(time) });
    std::thread::scope(|scope| {
        scope.spawn(|| stanchion::blocking::wait(maintenance));
        while pool.manager().attempts.load(Relaxed) < 3 {
            std::thread::yield_now();
        }
        pool.manager().is_down.store(false, Relaxed);
        while pool.status().idle < 2 {
            std::thread::yield_now();
        }
        pool.close();
    });
}

#[tokio::test(start_paused = true)]
async fn creations_that_fail_one_after_the_other_are_one_attempt() {
    let pool = maintained(|builder| builder.min_idle(8));
    pool.manager().staggered_failures.store(8, Relaxed);
    sleep(2 * SECOND).await;
    assert_eq!(pool.status().idle, 8);
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_checked_counts_as_idle() {
    let pool = maintained(|builder| builder.min_idle(1).keepalive(MINUTE / 2).idle_timeout(MINUTE));
    pool.manager().check_takes.store(5, Relaxed);
    sleep(60 * MINUTE).await;
    assert_eq!((created(&pool), pool.stats().expired), (1, 0));
    assert!(pool.stats().recycled > 100);
}

#[tokio::test(start_paused = true)]
async fn many_slow_checks_strand_no_object() {
    let pool = maintained(|builder| builder.min_idle(0).max_size(100).keepalive(MINUTE));
    pool.manager().check_takes.store(50, Relaxed);
    for _ in 0..100 {
        assert!(pool.add(Link(pool.manager().alive.clone())).is_ok());
    }
    for _ in 0..60 {
        sleep(MINUTE - SECOND).await;
    }
    sleep(30 * SECOND).await;
    assert_eq!((pool.status().idle, pool.status().in_use), (100, 0));
}

#[tokio::test(start_paused = true)]
async fn a_creation_that_has_just_begun_is_not_stuck() {
    let pool = maintained(|builder| builder.min_idle(2));
    pool.manager().hangs.store(1, Relaxed);
    sleep(SECOND * 29 / 10).await;
    assert_eq!((pool.status().idle, pool.status().creating), (1, 1), "one hangs");
    pool.manager().slow_failures.store(1, Relaxed); // From now on a creation takes a second.
    let _object = pool.get().await.unwrap();
    sleep(SECOND / 5).await;
    // The one that hangs is stuck, and one is created in its place; the one for the getter is not.
    assert_eq!(pool.status().creating, 3);
    sleep(SECOND).await;
    assert_eq!((pool.status().idle, pool.status().creating), (2, 1));
}

#[test]
fn a_checked_object_that_min_idle_protects_serves_a_getter() {
    let (factory, clock) = (Factory::default(), Clock::new());
    let builder = factory.builder().max_size(1).min_idle(1).idle_timeout(MINUTE).keepalive(10 * MINUTE);
    let pool = Arc::new(builder.clock(clock.source()).build());
    drop(take(&pool));
    factory.recycles.hold(1);
    clock.advance(10 * MINUTE);
    let mut maintenance = pin!(Pool::maintenance(&pool, |_| pending::<()>()));
    let mut maintain = || assert!(maintenance.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    maintain();
    let mut getter = waiting(&pool);
    factory.recycles.open();
    maintain();
    assert_eq!((served(&mut getter).id, pool.stats().expired), (0, 0));
}

#[test]
fn an_object_that_is_checked_during_a_clear_is_discarded() {
    let (factory, clock) = (Factory::default(), Clock::new());
    let pool = Arc::new(factory.builder().keepalive(MINUTE).clock(clock.source()).build());
    drop(take(&pool));
    factory.recycles.hold(1);
    clock.advance(MINUTE);
    let mut maintenance = pin!(Pool::maintenance(&pool, |_| pending::<()>()));
    let mut maintain = || assert!(maintenance.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    maintain();
    pool.clear();
    assert_eq!((pool.status().in_use, factory.alive()), (1, 1));
    factory.recycles.open();
    maintain();
    assert_eq!((pool.status().size, pool.stats().discarded, factory.alive()), (0, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_stuck_creation_is_left_to_a_waiting_getter() {
    // With a time limit, it looks at the pool every 30 seconds.
    let pool = maintained(|builder| builder.min_idle(1).max_size(1).idle_timeout(10 * MINUTE));
    pool.manager().hangs.store(1, Relaxed);
    sleep(4 * SECOND).await;
    let getter = tokio::spawn(pool.clone().get_owned());
    sleep(MINUTE).await;
    assert_eq!((pool.status().waiting, pool.status().creating), (0, 1), "the getter drives it");
    getter.abort();
}

#[test]
fn an_object_at_the_end_of_its_life_spares_no_idle_one() {
    let (factory, clock) = (Factory::default(), Clock::new());
    let builder = factory.builder().max_lifetime(10 * MINUTE).idle_timeout(MINUTE);
    let pool = builder.clock(clock.source()).build();
    let old = take(&pool);
    clock.advance(5 * MINUTE);
    let young = take(&pool);
    drop(old);
    drop(young);
    clock.advance(5 * MINUTE);
    pool.maintain(clock.now());
    assert_eq!((pool.status().idle, pool.stats().expired), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn a_creation_that_hangs_is_stuck_though_another_ends_first() {
    let pool = maintained(|builder| builder.min_idle(2));
    pool.manager().hangs.store(1, Relaxed);
    pool.manager().slow_failures.store(1, Relaxed); // All but the first succeed, after a second.
    sleep(2 * SECOND).await;
    assert_eq!((pool.status().idle, pool.status().creating), (1, 1));
    sleep(3 * SECOND).await;
    assert_eq!((pool.status().idle, pool.status().creating), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_success_resets_the_backoff_though_another_fails() {
    let pool = maintained(|builder| builder.min_idle(2));
    let server = pool.manager();
    server.is_down.store(true, Relaxed);
    sleep(10 * MINUTE).await;
    server.is_down.store(false, Relaxed);
    // The next one fails and the one after it succeeds, both after a second. The attempts are 30 seconds apart by now,
    // and the next is due in 21.
    server.slow_failures.store(server.attempts.load(Relaxed) + 1, Relaxed);
    sleep(25 * SECOND).await;
    assert_eq!(pool.status().idle, 2);
}

#[test]
fn errors_that_panic_when_dropped_keep_no_creation_from_ending() {
    let factory = Factory::default();
    let pool = Arc::new(factory.builder().min_idle(3).build());
    factory.creates.hold(1);
    (0..2).for_each(|call| factory.creates.fail_at(call, 1));
    let mut maintenance = pin!(Pool::maintenance(&pool, |_| pending::<()>()));
    let mut maintain = || assert!(maintenance.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    maintain();
    factory.hook(|event| assert!(!matches!(event, Event::ErrorDropped(_)), "the error"));
    factory.creates.open();
    maintain();
    assert_eq!(pool.status().idle, 1);
}

#[test]
fn checks_follow_one_another_without_a_sleep() {
    let (factory, clock) = (Factory::default(), Clock::new());
    let pool = Arc::new(factory.builder().keepalive(MINUTE).clock(clock.source()).build());
    let objects = [(); 3].map(|()| take(&pool));
    drop(objects);
    factory.recycles.hold(1);
    clock.advance(MINUTE);
    let mut maintenance = pin!(Pool::maintenance(&pool, |_| pending::<()>()));
    let mut maintain = || assert!(maintenance.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    for begun in 1..=3 {
        maintain();
        assert_eq!(factory.recycles.begun(), begun);
        factory.recycles.finish(begun - 1);
    }
}

#[test]
fn after_a_panic_of_the_clock_it_tries_again() {
    let panics = Arc::new(AtomicBool::new(false));
    let (sees, start) = (panics.clone(), std::time::Instant::now());
    let clock = move || {
        assert!(!sees.load(Relaxed), "the clock");
        start
    };
    let pool = Arc::new(Pool::builder(Server::default()).min_idle(1).keepalive(MINUTE).clock(clock).build());
    let sleeps = RefCell::new(Vec::new());
    let mut maintenance = pin!(Pool::maintenance(&pool, |length| {
        sleeps.borrow_mut().push(length);
        pending::<()>()
    }));
    let mut maintain = || assert!(maintenance.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    panics.store(true, Relaxed);
    maintain();
    assert_eq!(sleeps.take(), [SECOND / 10]);
}
