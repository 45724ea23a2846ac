//! Work that outlives its getter: on one runtime, across runtimes, and when it hangs.

use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex as StdMutex};
use std::task::Poll;
use std::time::Duration;

use stanchion::{GetError, Manager, Metrics, Object, Pool, PoolStats, blocking};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{sleep, timeout};

use super::common::{Clock, Task, panic_of, poll, ready};
use super::manager::{Event, Factory};
use super::{Getter, TestPool, all_is_dropped, counts, fill, filled, served, take, waiting};

const AWAITS: usize = 3;

#[test]
fn a_recycling_survives_its_getter_at_every_await() {
    for awaits in 0..AWAITS {
        let factory = Factory::default();
        let pool = filled(&factory, 1, 1);
        factory.recycles.hold(AWAITS);
        let mut first = waiting(&pool);
        for _ in 0..awaits {
            factory.recycles.release(0);
            assert!(first.is_pending());
        }
        drop(first);
        assert_eq!((counts(&pool), factory.recycles.cancelled()), ((0, 1, 0, 0), 0), "await {awaits}");
        let mut second = waiting(&pool);
        factory.recycles.finish(0);
        assert_eq!((served(&mut second).id, factory.recycles.begun()), (0, 1), "await {awaits}");
        assert_eq!((factory.creates.begun(), factory.dropped()), (1, vec![]));
        drop(second);
        all_is_dropped(pool, &factory);
    }
}

#[test]
fn a_creation_survives_its_getter_at_every_await() {
    for awaits in 0..AWAITS {
        let factory = Factory::default();
        let pool = factory.pool(1);
        factory.creates.hold(AWAITS);
        let mut first = waiting(&pool);
        for _ in 0..awaits {
            factory.creates.release(0);
            assert!(first.is_pending());
        }
        drop(first);
        let mut second = waiting(&pool);
        factory.creates.finish(0);
        assert_eq!((served(&mut second).id, factory.creates.begun(), factory.creates.cancelled()), (0, 1, 0));
        drop(second);
        all_is_dropped(pool, &factory);
    }
}

#[test]
fn a_pending_recycling_goes_to_the_first_getter() {
    let factory = Factory::default();
    let pool = filled(&factory, 1, 1);
    factory.recycles.hold(1);
    let first = waiting(&pool);
    let [mut second, mut third] = [(); 2].map(|()| waiting(&pool));
    drop(first);
    assert_eq!((second.wakes(), third.wakes()), (1, 0));
    assert!(second.is_pending());
    factory.recycles.finish(0);
    let object = served(&mut second);
    factory.recycles.open();
    drop(object);
    assert_eq!((served(&mut third).id, factory.creates.begun()), (0, 1));
    drop((second, third));
    all_is_dropped(pool, &factory);
}

#[test]
fn idle_objects_come_before_pending_recyclings() {
    let factory = Factory::default();
    let pool = filled(&factory, 2, 2);
    factory.recycles.hold(1);
    drop(waiting(&pool)); // of object 1
    factory.recycles.open();
    factory.recycles.hold(1);
    let mut getter = waiting(&pool);
    factory.recycles.finish(1);
    assert_eq!(served(&mut getter).id, 0);
    factory.recycles.open();
    let object = take(&pool);
    assert_eq!((take(&pool).id, factory.recycles.begun()), (1, 3), "it was taken up, and not begun a second time");
    drop((object, getter));
    all_is_dropped(pool, &factory);
}

#[test]
fn clear_close_and_resize_discard_pending_recyclings() {
    let ways: [fn(&Pool<Factory>); 3] = [Pool::clear, Pool::close, |pool| pool.resize(0)];
    for way in ways {
        let factory = Factory::default();
        let pool = filled(&factory, 1, 1);
        factory.recycles.hold(1);
        drop(waiting(&pool));
        way(&pool);
        assert_eq!((counts(&pool), factory.dropped()), ((0, 0, 0, 0), vec![0]));
        all_is_dropped(pool, &factory);
    }
}

#[test]
fn try_get_takes_an_object_recycled_at_once() {
    let factory = Factory::default();
    let pool = filled(&factory, 2, 2);
    assert_eq!(pool.try_get().map(|object| object.id), Some(1));
    factory.recycles.hold(1);
    assert!(pool.try_get().is_none(), "it stays pending");
    assert_eq!((counts(&pool), factory.dropped()), ((1, 1, 0, 0), vec![]));
    factory.recycles.open();
    let objects = [pool.try_get().unwrap(), pool.try_get().unwrap()];
    assert_eq!(objects.each_ref().map(|object| object.id), [0, 1], "the idle one first, then the pending one");
    assert!(pool.try_get().is_none());
    assert_eq!(pool.stats().gets, 5, "each success is a get, and two were made by filling");
    drop(objects);
    factory.recycles.panic_at(factory.recycles.begun(), 0);
    assert!(panic_of(|| drop(pool.try_get())).contains("panics"));
    assert_eq!((counts(&pool), factory.dropped().len()), ((1, 0, 0, 0), 1));
    all_is_dropped(pool, &factory);
}

#[test]
fn a_taken_up_recycling_that_fails_is_begun_afresh_once() {
    for panics in [false, true] {
        let factory = Factory::default();
        let pool = filled(&factory, 1, 1);
        factory.recycles.hold(1);
        if panics {
            factory.recycles.panic_at(0, 1);
        } else {
            factory.recycles.fail_at(0, 1);
        }
        drop(waiting(&pool));
        factory.recycles.open();
        let object = take(&pool);
        assert_eq!((object.id, factory.recycles.begun(), factory.dropped()), (0, 2, vec![]), "panics: {panics}");
        drop(object);
        all_is_dropped(pool, &factory);
    }
}

#[test]
fn an_adopted_recycling_that_fails_costs_the_object() {
    let factory = Factory::default();
    let pool = filled(&factory, 1, 1);
    factory.recycles.hold(1);
    factory.recycles.fail_at(0, 1);
    drop(waiting(&pool));
    let mut second = waiting(&pool);
    factory.recycles.finish(0);
    assert_eq!((served(&mut second).id, factory.dropped()), (1, vec![0]));
    assert_eq!(pool.stats().recycle_failures, 1);
    drop(second);
    all_is_dropped(pool, &factory);
}

#[test]
fn an_adopted_creation_that_fails_is_reported() {
    let factory = Factory::default();
    let pool = factory.pool(1);
    factory.creates.hold(1);
    factory.creates.fail_at(0, 1);
    drop(waiting(&pool));
    let mut second = waiting(&pool);
    factory.creates.finish(0);
    assert!(matches!(second.ready(), Err(GetError::Create(_))));
    drop(second);
    all_is_dropped(pool, &factory);
}

#[test]
fn a_hung_recycling_costs_its_slot_only() {
    let factory = Factory::default();
    let pool = filled(&factory, 2, 2);
    let other = take(&pool);
    factory.recycles.hold(1);
    drop(waiting(&pool)); // It hangs from now on.
    factory.recycles.hold(0);
    for _ in 0..3 {
        let mut getter = waiting(&pool);
        assert_eq!(counts(&pool), (0, 2, 0, 0), "there is no room");
        drop(getter.poll());
        drop(getter);
    }
    let mut stuck = waiting(&pool);
    drop(other);
    assert_eq!(served(&mut stuck).id, 1, "a returned object serves it all the same");
    pool.resize(3);
    let objects = [take(&pool), take(&pool)];
    assert_eq!(objects.each_ref().map(|object| object.id), [1, 2], "a free slot, too");
    drop((objects, stuck));
    pool.close();
    all_is_dropped(pool, &factory);
}

#[test]
fn a_slot_that_becomes_free_goes_to_a_getter_with_hung_work() {
    let factory = Factory::default();
    let pool = factory.pool(2);
    let object = take(&pool);
    factory.creates.hold(1);
    drop(waiting(&pool));
    let mut stuck = waiting(&pool);
    assert_eq!((counts(&pool), factory.creates.begun()), ((0, 1, 1, 0), 2));
    factory.creates.hold(0);
    Object::discard(object);
    assert_eq!(served(&mut stuck).id, 2);
    drop(stuck);
    all_is_dropped(pool, &factory);
}

#[test]
fn max_creating_limits_creations_that_are_driven() {
    let factory = Factory::default();
    let pool = factory.builder().max_size(9).max_creating(2).build();
    factory.creates.hold(1);
    let mut getters: Vec<_> = (0..4).map(|_| waiting(&pool)).collect();
    assert_eq!(counts(&pool), (0, 0, 2, 2));
    drop(getters.remove(0)); // Its creation is granted to the third.
    assert_eq!(counts(&pool), (0, 0, 2, 1));
    factory.creates.open();
    let objects: Vec<_> = getters.iter_mut().map(served).collect();
    assert_eq!(factory.creates.max_in_flight(), 2);
    drop((objects, getters));
    all_is_dropped(pool, &factory);
    assert!(panic_of(|| drop(Factory::default().builder().max_creating(0))).contains("never serve"));
}

#[test]
fn stats_count_what_happens() {
    let factory = Factory::default();
    let pool = filled(&factory, 2, 2);
    let (first, second) = (take(&pool), take(&pool));
    drop(waiting(&pool));
    factory.break_thing(first.id);
    drop(first);
    Object::discard(second);
    fill(&pool, 2);
    pool.clear();
    factory.creates.fail_at(factory.creates.begun(), 0);
    assert!(ready(&mut pool.get()).is_err());
    let object = take(&pool);
    factory.kill(object.id);
    drop(object);
    drop(take(&pool));
    // Cleared while it is recycled, by a getter that is dropped then.
    factory.recycles.hold(1);
    let recycler = waiting(&pool);
    pool.clear();
    drop(recycler);
    assert_eq!(
        pool.stats(),
        PoolStats {
            gets: 11,
            waits: 2,
            abandoned: 2,
            created: 6,
            create_failures: 1,
            recycled: 2,
            recycle_failures: 1,
            expired: 0,
            discarded: 5,
        }
    );
    all_is_dropped(pool, &factory);
}

#[test]
fn pools_share_a_manager_by_arc() {
    let factory = Arc::new(Factory::default());
    let pools = [(); 2].map(|()| Pool::builder(factory.clone()).max_size(1).build());
    let objects = pools.each_ref().map(|pool| ready(&mut pool.get()).unwrap());
    assert_eq!(objects.each_ref().map(|object| object.id), [0, 1]);
    factory.break_thing(0);
    drop(objects);
    assert_eq!(factory.dropped(), [0]);
    drop(ready(&mut pools[1].get()));
    assert_eq!(factory.recycles.begun(), 1);
}

// ---------------------------------------------------------------------------------------------------------------------
// Runtimes

/// Sleeps so often in `create` or `recycle`, and so long.
struct Sleepy {
    creates: AtomicUsize,
    recycles: AtomicUsize,
    millis: u64,
}

impl Sleepy {
    fn new(creates: usize, recycles: usize, millis: u64) -> Self {
        Self { creates: creates.into(), recycles: recycles.into(), millis }
    }

    async fn maybe_sleep(&self, times: &AtomicUsize) {
        while times.fetch_update(Relaxed, Relaxed, |times| times.checked_sub(1)).is_ok() {
            sleep(Duration::from_millis(self.millis)).await;
        }
    }
}

impl Manager for Sleepy {
    type Object = ();
    type Error = ();

    async fn create(&self) -> Result<(), ()> {
        self.maybe_sleep(&self.creates).await;
        Ok(())
    }

    async fn recycle(&self, (): &mut (), _: &Metrics) -> Result<(), ()> {
        self.maybe_sleep(&self.recycles).await;
        Ok(())
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

fn soon<F: Future>(runtime: &Runtime, future: F) -> F::Output {
    runtime.block_on(async { timeout(Duration::from_secs(9), future).await.expect("it does not hang") })
}

/// Polls a getter once, and drops it.
fn begin_on<M: Manager>(runtime: &Runtime, pool: &Pool<M>) {
    let mut get = pool.get();
    let poll = runtime.block_on(poll_fn(|cx| Poll::Ready(pin!(&mut get).poll(cx).is_pending())));
    assert!(poll, "the work is not ready at once");
}

/// A pool with work pending that was begun on this runtime, a creation or a recycling.
fn with_pending(runtime: &Runtime, recycles: bool, max_size: usize) -> Pool<Sleepy> {
    let manager = if recycles { Sleepy::new(0, 1, 5) } else { Sleepy::new(1, 0, 5) };
    let pool = Pool::builder(manager).max_size(max_size).build();
    if recycles {
        drop(runtime.block_on(pool.get()));
    }
    begin_on(runtime, &pool);
    pool
}

#[test]
fn work_of_a_runtime_that_has_ended_is_begun_afresh() {
    for recycles in [false, true] {
        let first = runtime();
        let pool = with_pending(&first, recycles, 1);
        drop(first);
        assert!(soon(&runtime(), pool.get()).is_ok());
        let stats = pool.stats();
        assert_eq!((stats.created, stats.create_failures, stats.recycle_failures), (1, 0, 0), "recycles: {recycles}");
    }
}

#[test]
fn a_thread_finishes_work_of_a_runtime_that_has_ended() {
    for recycles in [false, true] {
        let first = runtime();
        let pool = with_pending(&first, recycles, 1);
        drop(first);
        // What is begun afresh does not sleep.
        assert!(blocking::wait(pool.get()).is_ok());
    }
}

#[test]
fn a_runtime_that_is_not_driven_costs_a_slot_only() {
    for recycles in [false, true] {
        let first = runtime();
        let pool = with_pending(&first, recycles, 2);
        let object = soon(&runtime(), pool.get()).unwrap();
        assert_eq!(pool.status().size, 2, "recycles: {recycles}");
        drop(object);
        drop(first);
    }
}

#[test]
fn a_runtime_that_ends_while_another_drives_costs_a_retry() {
    for recycles in [false, true] {
        let first = runtime();
        let pool = with_pending(&first, recycles, 1);
        let second = runtime();
        let mut get = pool.get();
        assert!(second.block_on(poll_fn(|cx| Poll::Ready(pin!(&mut get).poll(cx).is_pending()))));
        drop(first);
        assert!(soon(&second, get).is_ok(), "recycles: {recycles}");
        assert_eq!(pool.stats().created, 1);
    }
}

#[test]
fn replenish_begins_work_of_an_ended_runtime_afresh() {
    let first = runtime();
    let pool = Pool::builder(Sleepy::new(1, 0, 5)).max_size(1).min_idle(1).build();
    begin_on(&first, &pool);
    drop(first);
    runtime().block_on(pool.replenish()).unwrap();
    assert_eq!((pool.status().idle, pool.stats().create_failures), (1, 0));
}

struct FirstHangs(AtomicBool);

impl Manager for FirstHangs {
    type Object = ();
    type Error = ();

    async fn create(&self) -> Result<(), ()> {
        if self.0.swap(false, Relaxed) { pending().await } else { Ok(()) }
    }
}

#[test]
fn a_hung_creation_does_not_stop_getters_or_replenish() {
    let pool = Pool::builder(FirstHangs(true.into())).max_size(4).min_idle(2).build();
    assert!(Task::new(pool.get()).is_pending());
    assert!(ready(&mut pool.get()).is_ok());
    assert!(ready(&mut Box::pin(pool.replenish())).is_ok());
    assert_eq!(counts(&pool), (2, 0, 1, 0));
}

#[test]
fn a_recycling_pending_after_its_object_expired_is_discarded() {
    let minute = Duration::from_secs(60);
    for sets_lifetime in [true, false] {
        let (factory, clock) = (Factory::default(), Clock::new());
        let builder = factory.builder().max_size(4).clock(clock.source());
        let builder = if sets_lifetime { builder.max_lifetime(minute) } else { builder.idle_timeout(minute) };
        let pool = builder.build();
        drop(take(&pool));
        factory.recycles.hold(1);
        drop(waiting(&pool));
        factory.recycles.finish(0);
        clock.advance(100 * minute);
        assert!(pool.try_get().is_none());
        assert_eq!((take(&pool).id, pool.stats().expired), (1, 1));
    }
}

#[test]
fn a_getter_takes_up_a_recycling_that_has_not_expired() {
    let (factory, clock) = (Factory::default(), Clock::new());
    let minute = Duration::from_secs(60);
    // Idle for longer than the timeout, from which `min_idle` protects it.
    let pool = factory.builder().min_idle(1).idle_timeout(minute).clock(clock.source()).build();
    drop(take(&pool));
    clock.advance(100 * minute);
    factory.recycles.hold(1);
    drop(waiting(&pool));
    pool.maintain(clock.now());
    factory.recycles.finish(0);
    assert_eq!((take(&pool).id, pool.stats().expired), (0, 0));
}

#[test]
fn impatient_getters_are_served_if_nothing_is_used_twice() {
    for sets_lifetime in [true, false] {
        let (factory, clock) = (Factory::default(), Clock::new());
        let builder = factory.builder().max_size(1).clock(clock.source());
        let zero = Duration::ZERO;
        let pool = if sets_lifetime { builder.max_lifetime(zero) } else { builder.idle_timeout(zero) }.build();
        factory.creates.hold(1);
        drop(waiting(&pool));
        factory.creates.finish(0);
        assert_eq!(take(&pool).id, 0);
    }
}

#[test]
fn a_getter_that_is_granted_a_recycling_keeps_its_place() {
    let factory = Factory::default();
    let pool = filled(&factory, 4, 2);
    let held = take(&pool);
    factory.recycles.hold(1);
    factory.creates.hold(1);
    let recycles = waiting(&pool);
    let mut getters = [(); 2].map(|()| waiting(&pool)); // both create
    drop(recycles);
    assert!(getters[0].is_pending()); // takes the recycling up
    factory.recycles.open();
    factory.recycles.hold(0);
    drop(held);
    assert!(getters[1].is_pending(), "the object that was returned is not for the second");
    assert!(!getters[0].is_pending());
}

#[test]
fn only_recyclings_given_up_after_a_clear_count_as_discarded() {
    for (creates, resizes, discarded) in [(true, false, 0), (false, true, 0), (false, false, 1)] {
        let factory = Factory::default();
        let pool = filled(&factory, 2, usize::from(!creates));
        factory.creates.hold(1);
        factory.recycles.hold(1);
        let getter = waiting(&pool);
        if resizes {
            pool.resize(0)
        } else {
            pool.clear()
        }
        drop(getter);
        assert_eq!((pool.stats().discarded, factory.alive()), (discarded, 0), "{creates} {resizes}");
    }
}

#[test]
fn pending_work_expires_and_objects_are_counted() {
    for (recycles, expired) in [(true, 1), (false, 0)] {
        let (factory, clock) = (Factory::default(), Clock::new());
        let minute = Duration::from_secs(60);
        let pool = factory.builder().idle_timeout(minute).clock(clock.source()).build();
        fill(&pool, usize::from(recycles));
        factory.recycles.hold(1);
        factory.creates.hold(1);
        drop(waiting(&pool));
        pool.maintain(clock.now());
        assert_eq!(pool.status().size, 1);
        clock.advance(minute);
        pool.maintain(clock.now());
        assert_eq!((pool.status().size, pool.stats().expired), (0, expired));
    }
}

#[test]
fn an_adopted_recycling_is_counted() {
    let factory = Factory::default();
    let pool = filled(&factory, 1, 1);
    factory.recycles.hold(1);
    drop(waiting(&pool));
    assert_eq!(pool.stats().recycled, 0);
    factory.recycles.finish(0);
    drop(take(&pool));
    assert_eq!(pool.stats().recycled, 1);
}

#[test]
fn an_expired_pending_recycling_leaves_its_slot_to_the_getter() {
    let (factory, clock) = (Factory::default(), Clock::new());
    let minute = Duration::from_secs(60);
    let builder = factory.builder().max_size(1).max_waiting(0).max_lifetime(minute);
    let pool = builder.clock(clock.source()).build();
    drop(take(&pool));
    factory.recycles.hold(1);
    drop(waiting(&pool));
    clock.advance(minute);
    let mut getter = Task::new(pool.get());
    assert!(getter.is_pending(), "it waits until the object was dropped");
    assert_eq!(served(&mut getter).id, 1);
}

#[test]
fn a_getter_that_takes_work_up_comes_after_those_that_did() {
    let factory = Factory::default();
    let pool = filled(&factory, 3, 3);
    let held = take(&pool);
    factory.recycles.hold(1);
    let recycling = [waiting(&pool), waiting(&pool)];
    let (mut first, mut second) = take_up(&pool, &factory, recycling);
    factory.recycles.hold(0);
    drop(held);
    assert!(second.is_pending(), "the first comes first");
    assert_eq!(served(&mut first).id, 2);
}

#[test]
fn getters_that_are_granted_creations_keep_their_order() {
    for (creations, polled) in [(1, [0, 1]), (2, [0, 1]), (2, [1, 0])] {
        let factory = Factory::default();
        let pool = factory.builder().max_size(3 + creations).min_idle(creations).build();
        fill(&pool, 3);
        let held = take(&pool);
        factory.creates.hold(1);
        let mut replenishing: Vec<_> = (0..creations).map(|_| Box::pin(pool.replenish())).collect();
        factory.recycles.hold(1);
        let recycling = [waiting(&pool), waiting(&pool)];
        assert!(replenishing.iter_mut().all(|replenish| poll(replenish).is_pending()));
        let mut getters = <[_; 2]>::from(take_up(&pool, &factory, recycling));
        drop(replenishing);
        polled.into_iter().take(creations).for_each(|which| assert!(getters[which].is_pending()));
        assert!((3..3 + creations).all(|call| factory.creates.polls(call) == 2), "they drive the creations");
        factory.recycles.hold(0);
        drop(held);
        assert!(getters[1].is_pending(), "the first comes first");
        assert_eq!(served(&mut getters[0]).id, 2);
    }
}

#[test]
fn getters_whose_recyclings_fail_wait_in_their_order() {
    for (adopts, polled) in [(false, [0, 1]), (false, [1, 0]), (true, [0, 1]), (true, [1, 0])] {
        let factory = Factory::default();
        let pool = filled(&factory, 3, 3);
        let held = take(&pool);
        factory.recycles.hold(1);
        let mut getters = [waiting(&pool), waiting(&pool)];
        if adopts {
            getters = take_up(&pool, &factory, getters).into();
        }
        pool.resize(1);
        (0..2).for_each(|id| factory.kill(id));
        factory.recycles.open();
        polled.into_iter().for_each(|which| assert!(getters[which].is_pending(), "there is no room"));
        drop(held);
        assert!(getters[1].is_pending(), "the first comes first");
        assert_eq!(served(&mut getters[0]).id, 2);
    }
}

/// Two getters that have taken up the recyclings, which hang, of two others.
fn take_up<'p>(pool: &'p TestPool, factory: &Factory, recycling: [Getter<'p>; 2]) -> (Getter<'p>, Getter<'p>) {
    let call = factory.recycles.begun() - 1;
    let [one, other] = recycling;
    drop(one);
    let (first, mut second) = (waiting(pool), waiting(pool));
    drop(other);
    assert!(second.is_pending());
    assert_eq!(factory.recycles.polls(call), 2, "the second getter drives the second recycling");
    (first, second)
}

#[test]
fn a_getter_whose_recycling_begins_afresh_leaves_its_queue() {
    let factory = Factory::default();
    let pool = filled(&factory, 2, 2);
    let held = take(&pool);
    factory.recycles.hold(1);
    drop(waiting(&pool));
    let mut first = waiting(&pool);
    factory.recycles.panic_at(1, 1);
    factory.recycles.finish(1);
    assert!(first.is_pending());
    assert_eq!(factory.recycles.begun(), 3, "begun afresh");
    let mut second = waiting(&pool);
    factory.recycles.hold(0);
    drop(held);
    assert_eq!(served(&mut second).id, 1, "the first has an object of its own to wait for");
}

#[test]
fn a_getter_that_drives_work_does_not_count_as_waiting() {
    let factory = Factory::default();
    let pool = factory.builder().max_size(1).max_waiting(0).build();
    fill(&pool, 1);
    factory.recycles.hold(1);
    drop(waiting(&pool));
    let mut getter = waiting(&pool);
    factory.recycles.open();
    assert_eq!(served(&mut getter).id, 0);
}

#[test]
fn an_old_creation_that_is_left_idle_is_recycled_before_its_use() {
    let (factory, clock) = (Factory::default(), Clock::new());
    let builder = factory.builder().max_size(2).recycle_after(Duration::from_secs(60));
    let pool = Arc::new(builder.clock(clock.source()).build());
    let held = StdMutex::new(Some(ready(&mut pool.clone().get_owned()).unwrap()));
    factory.creates.hold(1);
    let creates = waiting(&pool);
    let mut getter = waiting(&pool);
    drop(creates); // The getter is granted the creation, and the object while it drives that on.
    factory.hook(move |event| {
        if event == Event::Create(1, 1) {
            drop(held.lock().unwrap().take());
        }
    });
    factory.creates.finish(1);
    assert_eq!((served(&mut getter).id, factory.recycles.begun()), (0, 0));
    factory.unhook();
    let [first, second] = [take(&pool), take(&pool)];
    assert_eq!((first.id, second.id, factory.recycles.objects()), (0, 1, vec![1]));
}
