//! `Pool::replenish`: objects that are created in advance.

use std::sync::Arc;

use stanchion::Pool;

use crate::common::{Log, Task, panic_of, poll, ready};
use crate::manager::{Event, Factory};
use crate::recycling::{End, bad_ends};
use crate::{FEW, MANY, all_is_dropped, counts, filled, served, take, waiting, woken};

/// A pool of at most 5 that should have 3 idle, whose creations take one await.
fn warmed() -> (Factory, Pool<Factory>) {
    let factory = Factory::default();
    factory.creates.hold(1);
    let pool = factory.builder().max_size(5).min_idle(3).build();
    (factory, pool)
}

#[test]
fn replenish_creates_missing_objects_one_after_another() {
    let (factory, pool) = warmed();
    let mut replenish = Task::waiting(Box::pin(pool.replenish()));
    for n in 0..3 {
        assert_eq!((counts(&pool), factory.creates.in_flight()), ((n, 0, 1, 0), 1));
        factory.creates.finish(n);
        assert_eq!(replenish.wakes(), n + 1);
        assert_eq!(replenish.poll().is_ready(), n == 2);
    }
    drop(replenish);
    assert!(ready(&mut Box::pin(pool.replenish())).is_ok());
    assert_eq!((counts(&pool), factory.creates.begun(), factory.creates.max_in_flight()), ((3, 0, 0, 0), 3, 1));
    // Objects in use do not count.
    let objects = [take(&pool), take(&pool)];
    factory.creates.hold(0);
    assert!(ready(&mut Box::pin(pool.replenish())).is_ok());
    assert_eq!(counts(&pool), (3, 2, 0, 0));
    let more = take(&pool);
    assert!(ready(&mut Box::pin(pool.replenish())).is_ok());
    assert_eq!(counts(&pool), (2, 3, 0, 0), "there is no room for more");
    drop((objects, more));
    assert_eq!(counts(&pool), (5, 0, 0, 0));
    all_is_dropped(pool, &factory);
}

#[test]
fn replenish_has_nothing_to_do_without_min_idle() {
    let factory = Factory::default();
    let pool = factory.pool(5);
    assert!(ready(&mut Box::pin(pool.replenish())).is_ok());
    assert_eq!(factory.creates.begun(), 0);
    let pool = factory.builder().max_size(2).min_idle(9).build();
    assert!(ready(&mut Box::pin(pool.replenish())).is_ok());
    assert_eq!(counts(&pool), (2, 0, 0, 0), "no more than the pool may hold");
    pool.resize(0);
    assert!(ready(&mut Box::pin(pool.replenish())).is_ok());
    assert_eq!(counts(&pool), (0, 0, 0, 0));
    all_is_dropped(pool, &factory);
}

#[test]
fn a_dropped_replenish_leaves_its_creation_to_the_next() {
    let (factory, pool) = warmed();
    drop(Task::waiting(Box::pin(pool.replenish())));
    assert_eq!((counts(&pool), factory.creates.in_flight()), ((0, 0, 1, 0), 1));
    let mut replenish = Task::waiting(Box::pin(pool.replenish()));
    assert_eq!(
        (counts(&pool), factory.creates.begun()),
        ((0, 0, 2, 0), 2),
        "one that makes no progress does not count"
    );
    factory.creates.finish(0);
    assert!(replenish.is_pending());
    assert_eq!((counts(&pool), factory.creates.begun()), ((1, 0, 1, 0), 2));
    drop(replenish);
    // A getter may have it as well.
    let object = take(&pool);
    let mut getter = waiting(&pool);
    factory.creates.finish(1);
    assert_eq!((served(&mut getter).id, factory.creates.begun()), (1, 3));
    drop((object, getter));
    // And replenish that of a getter.
    pool.clear();
    drop([(); 3].map(|()| waiting(&pool)));
    assert_eq!(counts(&pool), (0, 0, 3, 0));
    factory.creates.open();
    assert!(ready(&mut Box::pin(pool.replenish())).is_ok());
    assert_eq!((counts(&pool), factory.creates.begun(), factory.creates.cancelled()), ((3, 0, 0, 0), 6, 1));
    all_is_dropped(pool, &factory);
}

#[test]
fn replenish_serves_waiting_getters_first() {
    let (factory, pool) = warmed();
    pool.resize(1);
    let mut replenish = Task::waiting(Box::pin(pool.replenish()));
    let mut getter = waiting(&pool);
    assert_eq!(counts(&pool), (0, 0, 1, 1));
    factory.creates.finish(0);
    assert!(replenish.ready().is_ok());
    assert_eq!((getter.wakes(), counts(&pool)), (1, (0, 1, 0, 0)));
    let object = served(&mut getter);
    let other = waiting(&pool);
    assert!(ready(&mut Box::pin(pool.replenish())).is_ok(), "a waiting getter creates instead");
    assert_eq!(factory.creates.begun(), 1);
    drop((object, getter, other, replenish));
    all_is_dropped(pool, &factory);
}

#[test]
fn replenish_leaves_creating_to_waiting_getters() {
    let factory = Factory::default();
    factory.creates.hold(1);
    let pool = factory.builder().max_size(MANY).min_idle(MANY).build();
    let mut getters: Vec<_> = (0..FEW + 1).map(|_| waiting(&pool)).collect();
    assert!(ready(&mut Box::pin(pool.replenish())).is_ok());
    assert_eq!((counts(&pool), factory.creates.begun()), ((0, 0, FEW, 1), FEW));
    // The limit on creations is its limit, too.
    drop(getters.pop());
    assert!(ready(&mut Box::pin(pool.replenish())).is_ok());
    assert_eq!((counts(&pool), factory.creates.begun()), ((0, 0, FEW, 0), FEW));
    drop(getters);
    all_is_dropped(pool, &factory);
}

#[test]
fn a_dropped_replenish_grants_its_creation_to_a_getter() {
    let (factory, pool) = warmed();
    pool.resize(1);
    let replenish = Task::waiting(Box::pin(pool.replenish()));
    let mut getter = waiting(&pool);
    drop(replenish);
    woken(&getter);
    assert!(getter.is_pending());
    factory.creates.finish(0);
    assert_eq!((served(&mut getter).id, factory.creates.begun()), (0, 1));
    drop(getter);
    all_is_dropped(pool, &factory);
}

#[test]
fn replenish_ends_with_the_first_failure() {
    for (end, point) in bad_ends(1).filter(|&(end, _)| end != End::Dropped) {
        let (factory, pool) = warmed();
        pool.resize(2);
        match end {
            End::Fails => factory.creates.fail_at(1, point),
            _ => factory.creates.panic_at(1, point),
        }
        let mut replenish = Task::waiting(Box::pin(pool.replenish()));
        factory.creates.finish(0);
        if point == 1 {
            assert!(replenish.is_pending());
            factory.creates.finish(1);
        }
        match end {
            End::Fails => assert_eq!(replenish.ready().unwrap_err().n, 1),
            _ => assert_eq!(panic_of(|| replenish.poll()), "call 1 panics"),
        }
        drop(replenish);
        assert_eq!((counts(&pool), factory.creates.begun()), ((1, 0, 0, 0), 2), "{end:?} at {point}");
        factory.creates.hold(0);
        assert!(ready(&mut Box::pin(pool.replenish())).is_ok());
        assert_eq!(counts(&pool), (2, 0, 0, 0), "its slot was free");
        all_is_dropped(pool, &factory);
    }
}

#[test]
fn a_failure_of_replenish_lets_waiting_getters_create() {
    let (factory, pool) = warmed();
    pool.resize(1);
    factory.creates.fail_at(0, 1);
    let mut replenish = Task::waiting(Box::pin(pool.replenish()));
    let mut getter = waiting(&pool);
    factory.creates.finish(0);
    assert!(replenish.ready().is_err());
    assert_eq!((getter.wakes(), counts(&pool)), (1, (0, 0, 1, 0)));
    assert!(getter.is_pending());
    factory.creates.finish(1);
    assert_eq!(served(&mut getter).id, 1);
    drop((getter, replenish));
    all_is_dropped(pool, &factory);
}

#[test]
fn two_replenishes_create_no_more_than_one() {
    let (factory, pool) = warmed();
    let mut both = vec![Box::pin(pool.replenish()), Box::pin(pool.replenish())];
    while !both.is_empty() {
        both.retain_mut(|replenish| poll(replenish).is_pending());
        counts(&pool);
        factory.step();
    }
    assert_eq!((counts(&pool), factory.creates.begun()), ((3, 0, 0, 0), 3));
    drop(both);
    all_is_dropped(pool, &factory);
}

#[test]
fn replenish_begins_nothing_afresh_after_close() {
    let (factory, pool) = warmed();
    factory.creates.panic_at(0, 1);
    drop(waiting(&pool));
    let mut replenish = Task::waiting(Box::pin(pool.replenish()));
    factory.creates.finish(0);
    let begun = factory.creates.begun();
    pool.close();
    assert!(replenish.ready().is_ok());
    assert_eq!((factory.creates.begun(), factory.live()), (begun, 0));
    drop(replenish);
    all_is_dropped(pool, &factory);
}

#[test]
fn close_ends_replenish() {
    let (factory, pool) = warmed();
    let mut replenish = Task::waiting(Box::pin(pool.replenish()));
    factory.creates.finish(0);
    assert!(replenish.is_pending());
    assert_eq!(counts(&pool), (1, 0, 1, 0));
    factory.creates.finish(1);
    pool.close();
    assert!(replenish.ready().is_ok());
    assert_eq!((counts(&pool), factory.live(), factory.creates.begun()), ((0, 0, 0, 0), 0, 2));
    assert!(ready(&mut Box::pin(pool.replenish())).is_ok());
    assert!(poll(&mut pool.closed()).is_ready());
    drop(replenish);
    all_is_dropped(pool, &factory);
}

#[test]
fn an_unreported_error_is_dropped_outside_the_lock() {
    let factory = Factory::default();
    let pool = Arc::new(filled(&factory, 2, 1));
    factory.creates.hold(1);
    factory.creates.fail_at(1, 1);
    let object = take(&pool);
    let mut getter = waiting(&pool);
    factory.creates.finish(1);
    drop(object);
    let weak = Arc::downgrade(&pool);
    let seen = Arc::new(Log::default());
    let log = seen.clone();
    factory.hook(move |event| {
        if let Event::ErrorDropped(n) = event {
            log.push(n);
            counts(&weak.upgrade().unwrap());
        }
    });
    assert_eq!(served(&mut getter).id, 0);
    // Dropped now, or when the creation that failed unseen is adopted.
    factory.creates.hold(0);
    drop([take(&pool), take(&pool)]);
    assert_eq!(seen.take(), [1]);
    drop(getter);
    factory.unhook();
    all_is_dropped(Arc::into_inner(pool).expect("this is the only handle"), &factory);
}

#[test]
fn an_object_granted_when_new_is_recycled_after_its_first_use() {
    let factory = Factory::default();
    factory.creates.hold(1);
    let pool = factory.builder().max_size(1).min_idle(1).build();
    let mut replenish = Task::waiting(Box::pin(pool.replenish()));
    let mut first = waiting(&pool);
    factory.creates.finish(0);
    replenish.ready().unwrap();
    let object = served(&mut first);
    assert_eq!(factory.recycles.begun(), 0, "it is new");
    // It is never idle: each getter gets it from the one before.
    let mut second = waiting(&pool);
    drop(object);
    drop(served(&mut second));
    assert_eq!(factory.recycles.begun(), 1);
}

#[test]
fn replenish_waits_for_a_creation_that_it_has_taken_up() {
    let factory = Factory::default();
    let pool = factory.builder().max_size(1).min_idle(1).build();
    factory.creates.hold(2);
    drop(waiting(&pool));
    let mut replenish = Task::waiting(Box::pin(pool.replenish()));
    factory.creates.release(0);
    assert!(replenish.is_pending(), "half of it");
    factory.creates.finish(0);
    replenish.ready().unwrap();
    assert_eq!(counts(&pool), (1, 0, 0, 0));
}
