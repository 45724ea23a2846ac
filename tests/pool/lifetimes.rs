//! Time: how long objects live, may be idle, and need no recycling; and what ends a generation.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use stanchion::{Manager, Object, Order, Pool, PoolBuilder};

use crate::common::{Check, Clock, Task, ready};
use crate::manager::Factory;
use crate::{TestPool, counts, served, take, waiting, woken};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const INSTANT: Duration = Duration::from_nanos(1);

/// A pool of four with the settings that `set` makes, its manager and its clock.
fn timed(set: impl FnOnce(PoolBuilder<Factory>) -> PoolBuilder<Factory>) -> (TestPool, Factory, Clock) {
    let (factory, clock) = (Factory::default(), Clock::new());
    let pool = set(factory.builder().max_size(4).clock(clock.source())).build();
    (pool, factory, clock)
}

/// Returns so many new objects, `apart` from each other, the oldest first.
fn fill(pool: &TestPool, clock: &Clock, count: usize, apart: Duration) {
    let mut objects: Vec<_> = (0..count).map(|_| take(pool)).collect();
    while !objects.is_empty() {
        drop(objects.remove(0));
        clock.advance(if objects.is_empty() { Duration::ZERO } else { apart });
    }
    assert_eq!(counts(pool), (count, 0, 0, 0));
}

/// Takes an object and returns it. Its number, and how often it had been used.
fn used(pool: &TestPool) -> (usize, u64) {
    let object = take(pool);
    (object.id, Object::metrics(&object).uses)
}

/// The settings that need a clock.
type Setting = (&'static str, fn(PoolBuilder<Factory>, Duration) -> PoolBuilder<Factory>);

const SETTINGS: [Setting; 3] = [
    ("max_lifetime", PoolBuilder::max_lifetime),
    ("idle_timeout", PoolBuilder::idle_timeout),
    ("recycle_after", PoolBuilder::recycle_after),
];

// ---------------------------------------------------------------------------------------------------------------------
// The clock
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn no_clock_is_read_if_no_setting_needs_one() {
    let factory = Factory::default();
    let builder = factory.builder().max_size(3).min_idle(2).order(Order::Fifo).max_waiting(9);
    let pool = builder.clock(|| panic!("the time is not needed")).build();
    assert!(ready(&mut Box::pin(pool.replenish())).is_ok());
    pool.add(factory.thing(100)).unwrap();
    for uses in 1..4 {
        let objects: Vec<_> = (0..3).map(|_| take(&pool)).collect();
        for object in &objects {
            let metrics = Object::metrics(object);
            assert_eq!((metrics.created, metrics.recycled, metrics.uses), (None, None, uses));
        }
    }
    let [first, second, third] = [(); 3].map(|()| take(&pool));
    let mut next = waiting(&pool);
    drop(first);
    Object::discard(second);
    drop((served(&mut next), Object::detach(third)));
    assert!(pool.try_get().is_some() && pool.maintain(Instant::now()).is_some());
    assert_eq!(pool.retain(|_, metrics| metrics.created.is_some()).len(), 1);
    factory.creates.hold(1);
    let mut creating = waiting(&pool);
    drop(creating.poll());
    drop(creating);
    pool.resize(5);
    pool.clear();
    pool.close();
}

#[test]
fn each_setting_about_time_sets_the_instants_of_metrics() {
    for (name, set) in SETTINGS {
        let (pool, factory, clock) = timed(|builder| set(builder, MINUTE));
        let born = clock.now();
        drop(take(&pool));
        clock.advance(SECOND);
        pool.add(factory.thing(100)).unwrap();
        clock.advance(MINUTE / 2);
        let [newer, older] = [(); 2].map(|()| Object::metrics(&take(&pool)));
        // `take` returned the newer one, so it came twice.
        assert_eq!((newer.created, older.created), (Some(born + SECOND), Some(born + SECOND)), "{name}");
        assert_eq!((newer.uses, older.uses), (1, 2), "{name}");
        let recycled = (name != "recycle_after").then(|| clock.now());
        assert_eq!([newer.recycled, older.recycled], [recycled; 2], "{name}");
        assert!(clock.reads() > 0);
    }
}

#[test]
fn recycled_is_when_the_last_successful_recycling_ended() {
    let (pool, factory, clock) = timed(|builder| builder.idle_timeout(MINUTE));
    drop(take(&pool));
    assert_eq!(Object::metrics(&take(&pool)).recycled, Some(clock.now()));
    factory.recycles.hold(1);
    clock.advance(SECOND);
    let begun = clock.now();
    let mut getter = waiting(&pool);
    clock.advance(SECOND);
    factory.recycles.finish(1);
    let object = served(&mut getter);
    assert_eq!(Object::metrics(&object).recycled, Some(begun + SECOND));
    assert_eq!(Object::metrics(&object).created, Some(begun - SECOND));
    drop(object);
    drop(waiting(&pool));
    assert_eq!((counts(&pool), factory.creates.begun()), ((0, 1, 0, 0), 1), "dropped, and so pending");
}

struct Plain;

impl Manager for Plain {
    type Object = ();
    type Error = ();

    async fn create(&self) -> Result<(), ()> {
        Ok(())
    }
}

#[test]
fn a_recycling_that_does_nothing_counts_too() {
    let clock = Clock::new();
    let pool = Pool::builder(Plain).recycle_after(Duration::ZERO).clock(clock.source()).build();
    for uses in 1..=3 {
        let object = take(&pool);
        assert_eq!(Object::metrics(&object).recycled, (uses > 1).then(|| clock.now()));
        drop(object);
        assert_eq!(pool.stats().recycled, uses - 1);
        clock.advance(SECOND);
    }
    let fixed = Pool::from_objects([7]);
    (0..3).for_each(|_| drop(take(&fixed)));
    assert_eq!(fixed.stats().recycled, 0, "there is no manager to ask");
}

#[test]
fn with_a_time_of_zero_an_object_is_discarded_when_returned() {
    for set in [PoolBuilder::max_lifetime, PoolBuilder::idle_timeout] {
        let (pool, _, _) = timed(|builder| set(builder, Duration::ZERO));
        drop(take(&pool));
        assert_eq!((counts(&pool), pool.stats().expired), ((0, 0, 0, 0), 1));
    }
}

#[test]
fn created_is_when_the_creation_ended() {
    let (pool, factory, clock) = timed(|builder| builder.idle_timeout(MINUTE));
    factory.creates.hold(1);
    let mut getter = waiting(&pool);
    clock.advance(SECOND);
    factory.creates.finish(0);
    assert_eq!(Object::metrics(&served(&mut getter)).created, Some(clock.now()));
}

#[test]
fn a_clock_that_goes_backwards_does_no_harm() {
    for (name, set) in SETTINGS {
        for seconds in [1, 59, 60, 3_600] {
            let (noon, factory) = (Instant::now() + Duration::from_secs(10_000), Factory::default());
            let hand = Arc::new(AtomicU64::new(10_000));
            let source = {
                let hand = hand.clone();
                move || noon + Duration::from_secs(hand.load(Ordering::Relaxed)) - Duration::from_secs(10_000)
            };
            let pool = set(factory.builder(), MINUTE).clock(source).build();
            let object = take(&pool);
            hand.fetch_sub(seconds, Ordering::Relaxed);
            drop(object);
            hand.fetch_sub(seconds, Ordering::Relaxed);
            assert_eq!(used(&pool), (0, 2), "{name}: it is as young as can be");
            assert!(pool.maintain(noon - Duration::from_secs(4 * seconds)).is_some() || name == "recycle_after");
            let object = pool.try_get();
            assert!(object.is_some());
            drop(object);
            assert_eq!(counts(&pool), (1, 0, 0, 0));
        }
    }
}

#[test]
fn the_longest_and_the_shortest_times_are_times_like_others() {
    let spans = [Duration::ZERO, INSTANT, Duration::from_nanos(10), Duration::from_secs(u64::MAX / 2), Duration::MAX];
    for (name, set) in SETTINGS {
        for span in spans {
            for order in [Order::Lifo, Order::Fifo] {
                let (pool, factory, clock) = timed(|builder| set(builder.order(order).min_idle(2), span));
                for _ in 0..3 {
                    let objects = [(); 4].map(|()| take(&pool));
                    let mut next = waiting(&pool);
                    drop(objects);
                    drop(served(&mut next));
                    drop(pool.try_get());
                    pool.add(factory.thing(100)).ok();
                    assert!(ready(&mut Box::pin(pool.replenish())).is_ok());
                    pool.maintain(clock.now());
                    pool.check();
                    clock.advance(INSTANT);
                }
                let ever = span > Duration::from_secs(1_000_000);
                let expires = !ever && name != "recycle_after";
                let due = pool.maintain(clock.now() + SECOND);
                let spared = name == "idle_timeout"; // by `min_idle`
                assert_eq!(counts(&pool).0 == 0, expires && !spared, "{name} {span:?}");
                assert!(due.is_none_or(|due| due >= clock.now()) && (due.is_some() || !expires), "{name} {span:?}");
            }
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// idle_timeout
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn an_object_that_was_idle_for_too_long_is_replaced_at_the_get() {
    let (pool, factory, clock) = timed(|builder| builder.idle_timeout(MINUTE));
    drop(take(&pool));
    clock.advance(MINUTE - INSTANT);
    assert_eq!(used(&pool), (0, 2), "almost");
    clock.advance(MINUTE);
    assert_eq!(used(&pool), (1, 1));
    assert_eq!((factory.dropped(), counts(&pool)), (vec![0], (1, 0, 0, 0)));
    assert_eq!(factory.recycles.begun(), 1, "an expired object is not recycled");
}

#[test]
fn an_object_in_use_is_not_idle() {
    let (pool, factory, clock) = timed(|builder| builder.idle_timeout(MINUTE));
    let object = take(&pool);
    clock.advance(10 * MINUTE);
    drop(object);
    clock.advance(MINUTE / 2);
    assert_eq!((used(&pool), factory.dropped()), ((0, 2), vec![]));
}

#[test]
fn a_get_discards_all_expired_objects_before_it_creates() {
    for order in [Order::Lifo, Order::Fifo] {
        let (pool, factory, clock) = timed(|builder| builder.idle_timeout(MINUTE).order(order));
        // The last one is returned at 30 s.
        fill(&pool, &clock, 4, SECOND * 10);
        clock.advance(SECOND * 45);
        let object = take(&pool);
        assert_eq!((object.id, factory.creates.begun()), (if order == Order::Lifo { 3 } else { 2 }, 4));
        assert_eq!(factory.dropped(), if order == Order::Lifo { vec![] } else { vec![0, 1] });
        drop(object);
        clock.advance(MINUTE);
        assert_eq!(used(&pool), (4, 1));
        assert_eq!((counts(&pool), factory.alive()), ((1, 0, 0, 0), 1), "none of the old ones is left");
        assert_eq!(pool.stats().expired, 4);
    }
}

#[test]
fn an_expired_object_frees_its_slot_for_waiting_getters() {
    let (pool, factory, clock) = timed(|builder| builder.idle_timeout(MINUTE).max_size(2));
    fill(&pool, &clock, 2, Duration::ZERO);
    clock.advance(MINUTE);
    factory.creates.hold(1);
    let mut first = waiting(&pool);
    let mut second = waiting(&pool);
    assert_eq!((counts(&pool), factory.alive()), ((0, 0, 2, 0), 0));
    let third = waiting(&pool);
    factory.creates.open();
    drop((served(&mut first), served(&mut second)));
    woken(&third);
    assert_eq!(factory.max_live(), 2);
}

// ---------------------------------------------------------------------------------------------------------------------
// max_lifetime
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn an_object_lives_at_least_nine_tenths_of_max_lifetime() {
    let (pool, factory, clock) = timed(|builder| builder.max_lifetime(100 * SECOND));
    let mut lives = Vec::new();
    for life in 0..50 {
        let born = clock.now();
        drop(take(&pool));
        clock.advance(90 * SECOND - INSTANT);
        assert_eq!(used(&pool), (life, 2), "not yet");
        let end = pool.maintain(clock.now()).expect("it has an end");
        assert!(end >= born + 90 * SECOND && end <= born + 100 * SECOND);
        clock.advance(end - clock.now() - INSTANT);
        assert_eq!(used(&pool), (life, 3), "not yet");
        // It is noticed at a return, at a get, and by maintenance.
        let object = take(&pool);
        clock.advance(if life % 3 == 0 { INSTANT } else { Duration::ZERO });
        drop(object);
        clock.advance(if life % 3 == 0 { Duration::ZERO } else { INSTANT });
        match life % 3 {
            0 => assert_eq!(counts(&pool), (0, 0, 0, 0)),
            1 => assert_eq!(counts(&pool), (1, 0, 0, 0)),
            _ => assert!(pool.maintain(clock.now()).is_some_and(|due| due > clock.now())),
        }
        assert_eq!((factory.alive(), clock.now()), (usize::from(life % 3 == 1), end));
        lives.push(end - born);
    }
    drop(take(&pool));
    assert_eq!(factory.alive(), 1);
    lives.sort_unstable();
    lives.dedup();
    assert!(lives.len() > 45, "each has its own: {lives:?}");
}

/// The ends of all idle objects, in order, as `maintain` returns them one by one.
fn ends(pool: &TestPool, born: Instant) -> Vec<Duration> {
    let mut ends = Vec::new();
    let mut now = born;
    while counts(pool).0 > 0 {
        let idle = counts(pool).0;
        now = pool.maintain(now).expect("something is idle");
        pool.maintain(now);
        ends.resize(ends.len() + idle - counts(pool).0, now - born);
        assert_eq!(ends.last(), Some(&(now - born)), "it is due when something ends");
    }
    ends
}

#[test]
fn a_cohort_does_not_end_all_at_once_but_evenly() {
    let mut firsts = Vec::new();
    for size in [2_u32, 10, 100, 1_000] {
        let (pool, _, clock) = timed(|builder| builder.max_lifetime(1_000 * SECOND).max_size(size as usize));
        fill(&pool, &clock, size as usize, Duration::ZERO);
        let ends = ends(&pool, clock.now());
        assert!(ends[0] >= 900 * SECOND && *ends.last().unwrap() <= 1_000 * SECOND);
        // Were they as evenly spread as can be, each of these would be one.
        let share = 100 * SECOND / size;
        let gaps = ends.windows(2).map(|pair| (pair[1] - pair[0]).div_duration_f64(share));
        let (least, most) = gaps.fold((f64::MAX, 0.0_f64), |(least, most), gap| (least.min(gap), most.max(gap)));
        assert!(least > 0.3 && most < 2.7, "{size}: {least} {most}");
        firsts.push(ends[0].as_nanos() * u128::from(size));
    }
    for size in 0..8 {
        let (pool, _, clock) = timed(|builder| builder.max_lifetime(1_000 * SECOND));
        fill(&pool, &clock, 1, Duration::ZERO);
        firsts.push(ends(&pool, clock.now())[0].as_nanos() + size - size);
    }
    firsts.sort_unstable();
    firsts.dedup();
    assert!(firsts.len() > 8, "pools that are filled at the same time differ, too");
}

#[test]
fn each_end_is_drawn_once_whatever_the_object_is_used_for() {
    let (pool, _, clock) = timed(|builder| builder.max_lifetime(1_000 * SECOND));
    drop(take(&pool));
    let end = pool.maintain(clock.now());
    for _ in 0..100 {
        clock.advance(8 * SECOND);
        drop(take(&pool));
        pool.resize(5);
        assert_eq!(pool.maintain(clock.now()), end);
    }
}

#[test]
fn an_object_that_expires_in_use_is_discarded_when_returned() {
    let (pool, factory, clock) = timed(|builder| builder.max_lifetime(MINUTE).max_size(1));
    let object = take(&pool);
    let mut next = waiting(&pool);
    clock.advance(MINUTE);
    assert!(pool.maintain(clock.now()).is_some());
    assert_eq!(counts(&pool), (0, 1, 0, 1), "the object in use stays");
    drop(object);
    woken(&next);
    assert_eq!((served(&mut next).id, factory.max_live(), factory.recycles.begun()), (1, 1, 0));
}

#[test]
fn an_object_that_was_added_lives_from_then_on() {
    let (pool, factory, clock) = timed(|builder| builder.max_lifetime(100 * SECOND));
    clock.advance(MINUTE);
    pool.add(factory.thing(100)).unwrap();
    let end = pool.maintain(clock.now()).unwrap();
    assert!(end >= clock.now() + 90 * SECOND && end <= clock.now() + 100 * SECOND);
    clock.advance(end - clock.now());
    assert_eq!(used(&pool), (0, 1));
}

// ---------------------------------------------------------------------------------------------------------------------
// recycle_after
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn only_objects_idle_for_long_are_recycled() {
    let (pool, factory, clock) = timed(|builder| builder.recycle_after(MINUTE));
    for uses in 1..4 {
        assert_eq!(used(&pool), (0, uses));
        clock.advance(MINUTE - INSTANT);
    }
    assert_eq!((used(&pool), factory.recycles.begun()), ((0, 4), 0));
    for recycles in 1..4 {
        clock.advance(MINUTE);
        assert_eq!((used(&pool).0, factory.recycles.begun()), (0, recycles));
    }
    // An object in use is not idle.
    let objects = [(); 4].map(|()| take(&pool));
    let mut next = waiting(&pool);
    clock.advance(10 * MINUTE);
    drop(objects);
    assert_eq!((served(&mut next).id, factory.recycles.begun()), (0, 3));
}

#[test]
fn an_object_is_recycled_at_every_get_by_default() {
    for zero in [false, true] {
        let (pool, factory, _) = timed(|builder| if zero { builder.recycle_after(Duration::ZERO) } else { builder });
        for recycles in 0..3 {
            assert_eq!((used(&pool).0, factory.recycles.begun()), (0, recycles), "zero: {zero}");
        }
        drop(pool.try_get().expect("its recycling is ready at once"));
        let objects = [(); 4].map(|()| take(&pool));
        let mut next = waiting(&pool);
        drop(objects);
        assert_eq!((served(&mut next).id, factory.recycles.objects()), (0, vec![0; 5]), "handed over, zero: {zero}");
    }
}

#[test]
fn created_in_advance_or_added_an_object_is_idle_from_then_on() {
    let (pool, factory, clock) = timed(|builder| builder.recycle_after(MINUTE).min_idle(1));
    assert!(ready(&mut Box::pin(pool.replenish())).is_ok());
    assert!(pool.try_get().is_some_and(|object| object.id == 0));
    pool.clear();
    pool.add(factory.thing(100)).unwrap();
    clock.advance(MINUTE - INSTANT);
    assert!(pool.try_get().is_some_and(|object| object.id == 100));
    clock.advance(MINUTE);
    assert_eq!((used(&pool).0, factory.recycles.objects()), (100, vec![100]));
}

// ---------------------------------------------------------------------------------------------------------------------
// maintain and replenish
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn maintenance_says_when_it_is_next_due() {
    let (pool, _, clock) = timed(|builder| builder.idle_timeout(10 * SECOND).max_lifetime(MINUTE));
    assert_eq!(
        pool.maintain(clock.now()),
        Some(clock.now() + 10 * SECOND),
        "an object created now ends then at the earliest"
    );
    fill(&pool, &clock, 3, SECOND);
    let now = clock.now();
    assert_eq!(pool.maintain(now), Some(now + 8 * SECOND), "the first has been idle for 2 s");
    assert_eq!(pool.maintain(now + 8 * SECOND), Some(now + 9 * SECOND));
    assert_eq!(counts(&pool), (2, 0, 0, 0));
    assert_eq!(pool.maintain(now + 10 * SECOND), Some(now + 20 * SECOND), "both were discarded");
    assert_eq!(counts(&pool), (0, 0, 0, 0));

    let object = take(&pool);
    clock.advance(MINUTE - 7 * SECOND);
    assert_eq!(pool.maintain(clock.now()), Some(clock.now() + 10 * SECOND), "an object in use does not expire");
    let born = Object::metrics(&object).created.unwrap();
    drop(object);
    let due = pool.maintain(clock.now()).unwrap();
    assert!(due >= born + 54 * SECOND && due <= born + MINUTE, "its lifetime ends before the idle timeout");
}

#[test]
fn maintenance_does_not_look_at_the_clock() {
    let (pool, _, clock) = timed(|builder| builder.idle_timeout(10 * SECOND));
    fill(&pool, &clock, 3, SECOND);
    let reads = clock.reads();
    pool.maintain(clock.now());
    pool.maintain(clock.now() + MINUTE);
    assert_eq!((clock.reads(), counts(&pool)), (reads, (0, 0, 0, 0)));
}

#[test]
fn the_loop_of_maintenance_ends_when_there_is_no_more_to_do() {
    let (pool, ..) = timed(|builder| builder.recycle_after(MINUTE));
    assert_eq!(pool.maintain(Instant::now()), None, "nothing ends by itself");
    assert_eq!(Pool::from_objects([1, 2]).maintain(Instant::now()), None);
    let settings = [PoolBuilder::max_lifetime, PoolBuilder::idle_timeout];
    for set in settings {
        let (pool, _, clock) = timed(|builder| set(builder, MINUTE));
        fill(&pool, &clock, 4, SECOND);
        let mut object = Some(take(&pool));
        let mut rounds = 0;
        while let Some(due) = pool.maintain(clock.now()) {
            assert!(due > clock.now(), "it does not spin");
            clock.advance(due - clock.now());
            rounds += 1;
            match rounds {
                10 => drop(object.take()),
                20 => pool.close(),
                _ => {}
            }
        }
        assert_eq!((rounds, counts(&pool)), (20, (0, 0, 0, 0)));
    }
}

#[test]
fn maintenance_and_replenishing_keep_some_ready() {
    let (pool, factory, clock) = timed(|builder| builder.idle_timeout(MINUTE).min_idle(2).max_size(3));
    let busy = take(&pool);
    for round in 1..10 {
        assert!(ready(&mut Box::pin(pool.replenish())).is_ok());
        assert_eq!((counts(&pool), factory.creates.begun()), ((2, 1, 0, 0), 3), "round {round}");
        let due = pool.maintain(clock.now()).unwrap();
        assert_eq!(due, clock.now() + MINUTE / 2, "idle objects may run short at any time");
        clock.advance(MINUTE);
        pool.maintain(due);
        assert_eq!((counts(&pool), factory.alive()), ((2, 1, 0, 0), 3), "the idle timeout spares `min_idle`");
    }
    drop(busy);
    assert!(ready(&mut Box::pin(pool.replenish())).is_ok());
    assert_eq!((counts(&pool), factory.max_live()), ((3, 0, 0, 0), 3));
    clock.advance(MINUTE);
    pool.maintain(clock.now());
    assert_eq!(counts(&pool), (2, 0, 0, 0), "but no more than that");
}

#[test]
fn a_creation_pending_for_an_idle_timeout_is_dropped() {
    let (pool, factory, clock) = timed(|builder| builder.idle_timeout(MINUTE));
    factory.creates.hold(1);
    drop(waiting(&pool));
    clock.advance(10 * MINUTE);
    let now = clock.now();
    assert_eq!(pool.maintain(now), Some(now + MINUTE), "it was not seen before");
    pool.maintain(now + MINUTE - INSTANT);
    assert_eq!(counts(&pool), (0, 0, 1, 0));
    // Wanted again.
    drop(waiting(&pool));
    pool.maintain(now + MINUTE);
    assert_eq!((counts(&pool), factory.creates.begun()), ((0, 0, 2, 0), 2));
    pool.maintain(now + 2 * MINUTE);
    assert_eq!((counts(&pool), factory.creates.in_flight()), ((0, 0, 0, 0), 0));

    let (pool, factory, clock) = timed(|builder| builder.max_lifetime(MINUTE));
    factory.creates.hold(1);
    drop(waiting(&pool));
    for minutes in 0..9 {
        pool.maintain(clock.now() + minutes * MINUTE);
    }
    assert_eq!((counts(&pool), factory.creates.in_flight()), ((0, 0, 1, 0), 1), "nothing was said about idleness");
}

#[test]
fn recycle_after_does_not_spare_a_creation_that_was_pending() {
    for looked in [false, true] {
        let (pool, factory, _) = timed(|builder| builder.recycle_after(MINUTE));
        factory.creates.hold(1);
        drop(waiting(&pool));
        let mut adopter = Task::new(pool.get());
        assert!(!looked || adopter.is_pending());
        factory.creates.open();
        assert_eq!((served(&mut adopter).id, factory.recycles.begun()), (0, usize::from(!looked)));
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Generations
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn clear_discards_objects_in_use_when_they_are_returned() {
    let (pool, factory, clock) = timed(|builder| builder.recycle_after(MINUTE));
    fill(&pool, &clock, 3, Duration::ZERO);
    let old = take(&pool);
    pool.clear();
    assert_eq!((counts(&pool), factory.dropped()), ((0, 1, 0, 0), vec![0, 1]));
    let new = take(&pool);
    drop((old, new));
    assert_eq!((counts(&pool), factory.dropped()), ((1, 0, 0, 0), vec![2]));
    assert_eq!(used(&pool), (3, 2));
    assert_eq!(pool.stats().discarded, 3);
}

#[test]
fn objects_returned_after_close_or_resize_are_not_discarded() {
    let (pool, factory, _) = timed(|builder| builder);
    let objects = [(); 3].map(|()| take(&pool));
    pool.clear();
    let [cleared, surplus, late] = objects;
    drop(cleared);
    assert_eq!(pool.stats().discarded, 1);
    let others = [(); 2].map(|()| take(&pool));
    pool.resize(3);
    drop(others);
    assert_eq!(pool.stats().discarded, 1, "one was surplus");
    pool.close();
    drop((surplus, late));
    assert_eq!((pool.stats().discarded, factory.alive()), (1, 0));
}

#[test]
fn a_cleared_object_frees_its_slot_for_waiting_getters() {
    let (pool, factory, _) = timed(|builder| builder.max_size(1));
    let old = take(&pool);
    let mut next = waiting(&pool);
    pool.clear();
    assert_eq!((next.wakes(), counts(&pool)), (0, (0, 1, 0, 1)));
    drop(old);
    woken(&next);
    assert_eq!((served(&mut next).id, factory.max_live()), (1, 1));
}

#[test]
fn an_object_begun_before_a_clear_is_used_once() {
    let (pool, factory, _) = timed(|builder| builder);
    factory.creates.hold(1);
    let mut getter = waiting(&pool);
    pool.clear();
    assert_eq!(counts(&pool), (0, 0, 1, 0));
    factory.creates.open();
    let object = served(&mut getter);
    drop(object);
    assert_eq!((counts(&pool), factory.dropped()), ((0, 0, 0, 0), vec![0]));
    assert_eq!([used(&pool), used(&pool)], [(1, 1), (1, 2)], "those begun since then stay");
}

#[test]
fn a_creation_begun_before_a_clear_does_not_stay_pending() {
    for overtaken in [false, true] {
        let (pool, factory, _) = timed(|builder| builder);
        let object = take(&pool);
        factory.creates.hold(1);
        let mut getter = waiting(&pool);
        pool.clear();
        let new = overtaken.then(|| pool.add(factory.thing(100)).unwrap());
        assert_eq!(getter.wakes(), usize::from(overtaken));
        drop(new.map(|()| served(&mut getter)));
        drop(getter);
        assert_eq!((counts(&pool), factory.creates.cancelled()), ((usize::from(overtaken), 1, 0, 0), 1));
        drop(object);
    }
}

#[test]
fn a_clear_drops_pending_creations_and_those_of_replenish() {
    let (pool, factory, _) = timed(|builder| builder.min_idle(1));
    factory.creates.hold(1);
    drop(waiting(&pool));
    assert_eq!((counts(&pool), factory.creates.in_flight()), ((0, 0, 1, 0), 1));
    pool.clear();
    assert_eq!((counts(&pool), factory.creates.in_flight()), ((0, 0, 0, 0), 0));

    let mut replenish = Task::waiting(Box::pin(pool.replenish()));
    pool.clear();
    assert_eq!(counts(&pool), (0, 0, 1, 0));
    drop(replenish);
    assert_eq!((counts(&pool), factory.creates.in_flight()), ((0, 0, 0, 0), 0));

    replenish = Task::waiting(Box::pin(pool.replenish()));
    pool.clear();
    factory.creates.open();
    assert!(replenish.ready().is_ok());
    assert_eq!(counts(&pool), (1, 0, 0, 0), "it created another one instead of the expired one");
}

#[test]
fn a_creation_granted_before_a_clear_and_begun_after_it_stays() {
    let (pool, _, _) = timed(|builder| builder.max_size(1));
    let object = take(&pool);
    let mut next = waiting(&pool);
    Object::discard(object);
    woken(&next);
    pool.clear();
    drop(served(&mut next));
    assert_eq!(used(&pool), (1, 2), "it was begun after the clear");
}

#[test]
fn clear_discards_objects_that_are_recycled() {
    let (pool, factory, _) = timed(|builder| builder);
    drop(take(&pool));
    factory.recycles.hold(1);
    let mut getter = waiting(&pool);
    pool.clear();
    factory.recycles.open();
    assert_eq!(served(&mut getter).id, 1);
    assert_eq!((counts(&pool), factory.dropped()), ((1, 0, 0, 0), vec![0]));
    assert_eq!(pool.stats().discarded, 1);
}
