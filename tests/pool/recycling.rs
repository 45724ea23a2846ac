//! Objects that were used before: each is made fit for use again, or discarded.

use std::sync::Arc;
use std::time::Duration;

use stanchion::{GetError, Object, Order, OwnedObject, Pool};

use crate::common::{Clock, Task, panic_of, ready, survives};
use crate::creating::failed;
use crate::manager::{CALL, Event, Factory};
use crate::{FEW, Getter, TestPool, all_is_dropped, counts, fill, filled, served, take, waiting, woken};

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Fails,
    Panics,
    /// Its getter is dropped.
    Dropped,
}

/// All ways in which a call with this many awaits may end badly: how, and at which point.
pub(crate) fn bad_ends(awaits: usize) -> impl Iterator<Item = (End, usize)> {
    let points = move || (0..=awaits).chain([CALL]);
    // The call only makes a future; and a getter that is dropped before its first poll makes no call.
    let all = move |end| points().map(move |point| (end, point));
    all(End::Panics).chain(all(End::Fails)).chain(all(End::Dropped)).filter(|&(end, point)| match end {
        End::Panics => true,
        End::Fails => point != CALL,
        End::Dropped => point != CALL && point > 0,
    })
}

#[test]
fn a_used_object_is_recycled_before_it_is_handed_out() {
    let factory = Factory::default();
    let pool = factory.builder().max_size(3).min_idle(1).build();
    let first = take(&pool);
    assert_eq!(factory.recycles.begun(), 0, "it is new");
    drop(first);
    let first = take(&pool);
    assert_eq!(factory.recycles.objects(), [0], "it was idle");
    let mut others = [take(&pool), take(&pool)].map(Some);
    let mut getter = waiting(&pool);
    drop(first);
    let first = served(&mut getter);
    assert_eq!(factory.recycles.objects(), [0, 0], "it was handed over");
    Object::discard(others[0].take().unwrap());
    pool.add(factory.thing(100)).unwrap();
    drop(take(&pool));
    assert_eq!(factory.recycles.objects(), [0, 0, 100], "it came from elsewhere");
    let id = |object: &Object<'_, Factory>| object.id;
    assert_eq!((id(&first), id(others[1].as_ref().unwrap())), (0, 2));
    drop((first, others));
    pool.clear();
    ready(&mut Box::pin(pool.replenish())).unwrap();
    drop(take(&pool));
    assert_eq!(factory.recycles.objects(), [0, 0, 100, 3], "it was created for no getter");
    drop(getter);
    all_is_dropped(pool, &factory);
}

#[test]
fn an_object_that_is_being_recycled_is_in_use() {
    let factory = Factory::default();
    let pool = filled(&factory, 1, 1);
    factory.recycles.hold(3);
    let mut getter = waiting(&pool);
    for wakes in 1..=3 {
        assert_eq!((counts(&pool), pool.status().size), ((0, 1, 0, 0), 1));
        assert!(getter.is_pending());
        factory.recycles.release(0);
        assert_eq!(getter.wakes(), wakes);
        if wakes < 3 {
            assert!(getter.is_pending());
        }
    }
    let object = served(&mut getter);
    assert_eq!((object.id, Object::metrics(&object).uses, factory.recycles.begun()), (0, 2, 1));
    drop((object, getter));
    all_is_dropped(pool, &factory);
}

#[test]
fn a_failed_recycling_costs_its_object_and_no_getter() {
    const AWAITS: usize = 3;
    for (end, point) in bad_ends(AWAITS) {
        let context = format!("{end:?} at {point}");
        let factory = Factory::default();
        let pool = factory.pool(1);
        let object = take(&pool);
        factory.recycles.hold(AWAITS);
        match end {
            End::Fails => factory.recycles.fail_at(0, point),
            End::Panics => factory.recycles.panic_at(0, point),
            End::Dropped => continue, // The recycling is pending then.
        }
        let [mut first, mut second] = [(); 2].map(|()| waiting(&pool));
        drop(object);
        for _ in 0..if point == CALL { 0 } else { point } {
            assert!(first.is_pending(), "{context}");
            assert_eq!((counts(&pool), factory.dropped()), ((0, 1, 0, 1), vec![]), "{context}");
            factory.recycles.release(0);
        }
        match end {
            End::Fails => {
                let object = served(&mut first);
                assert_eq!(object.id, 1, "{context}: it was queued first, so it creates");
                assert_eq!((second.wakes(), counts(&pool)), (0, (0, 1, 0, 1)), "{context}");
                Object::discard(object);
            }
            End::Panics => assert_eq!(panic_of(|| first.poll()), "call 0 panics", "{context}"),
            End::Dropped => unreachable!(),
        }
        assert_eq!(factory.dropped()[0], 0, "{context}");
        assert_eq!((second.wakes(), counts(&pool)), (1, (0, 0, 1, 0)), "{context}");
        let created = factory.creates.begun();
        assert_eq!(served(&mut second).id, created, "{context}");
        assert_eq!(factory.recycles.begun(), 1, "{context}");
        assert_eq!(counts(&pool), (1, 0, 0, 0), "{context}: a getter that panicked is in no queue");
        drop((first, second));
        all_is_dropped(pool, &factory);
    }
}

#[test]
fn a_getter_whose_object_is_dead_is_queued_at_the_front() {
    let factory = Factory::default();
    let pool = filled(&factory, 3, 2);
    let object = take(&pool);
    factory.creates.hold(1);
    factory.recycles.hold(1);
    factory.kill(0);
    let [mut first, second, mut third] = [(); 3].map(|()| waiting(&pool));
    assert_eq!(counts(&pool), (0, 2, 1, 1), "it recycles, it creates, it waits");
    factory.recycles.finish(1);
    assert!(first.is_pending());
    assert_eq!((counts(&pool), factory.creates.begun()), ((0, 1, 2, 1), 4), "it creates instead of the dead one");
    // A returned object is granted to the first one, though the second began to create before.
    factory.recycles.open();
    drop(object);
    assert_eq!((first.wakes(), second.wakes(), third.wakes()), (2, 0, 0));
    let object = served(&mut first);
    assert_eq!(object.id, 1);
    // Its pending creation is granted to the third one.
    woken(&third);
    assert!(third.is_pending());
    factory.creates.finish(3);
    assert_eq!(served(&mut third).id, 3);
    drop((object, first, second, third));
    assert_eq!((factory.creates.begun(), factory.dropped()), (4, vec![0]));
    all_is_dropped(pool, &factory);
}

#[test]
fn a_getter_of_a_dead_object_keeps_to_the_limit_and_its_order() {
    let size = FEW + 1;
    let factory = Factory::default();
    let pool = filled(&factory, size, size);
    (0..size).for_each(|id| factory.kill(id));
    factory.recycles.hold(1);
    factory.creates.hold(1);
    let mut getters: Vec<_> = (0..size).map(|_| waiting(&pool)).collect();
    let mut late = waiting(&pool);
    for recycle in (0..size).rev() {
        factory.recycles.finish(recycle);
        assert!(getters[recycle].is_pending());
    }
    assert_eq!(counts(&pool), (0, 0, FEW, 2));
    factory.creates.finish(size);
    let object = served(&mut getters[FEW]);
    assert!(getters[0].wakes() == 2 && late.wakes() == 0, "it was there before the late one");
    assert_eq!(counts(&pool), (0, 1, FEW, 1));
    assert!(getters[0].is_pending());
    assert_eq!(factory.creates.begun(), 2 * size);
    assert!(late.is_pending());
    drop((object, getters, late));
    all_is_dropped(pool, &factory);
    assert!(factory.max_live() <= size);
}

/// The database was restarted: whatever is idle is dead, and to find out takes long.
fn restarted(idle: usize) -> (Factory, Pool<Factory>) {
    let factory = Factory::default();
    let pool = filled(&factory, idle, idle);
    (0..idle).for_each(|id| factory.kill(id));
    factory.recycles.hold(1);
    factory.creates.hold(1);
    (factory, pool)
}

#[test]
fn a_getter_waits_for_one_dead_object_and_one_creation() {
    const IDLE: usize = 5;
    for found_dead in 1..=IDLE {
        let (factory, pool) = restarted(IDLE);
        let mut getter = waiting(&pool);
        assert_eq!((counts(&pool), factory.creates.begun()), ((IDLE - 1, 1, 0, 0), IDLE));
        // The first one found dead starts the creation; those found dead while it runs prolong nothing.
        for recycle in 0..found_dead {
            factory.recycles.finish(recycle);
            woken(&getter);
            assert!(getter.is_pending());
            let left = IDLE - 1 - recycle;
            assert_eq!(counts(&pool), (left.saturating_sub(1), left.min(1), 1, 0));
            assert_eq!((factory.dropped(), factory.creates.begun()), (vec![left], IDLE + 1));
        }
        let wakes = getter.wakes();
        factory.creates.finish(IDLE);
        assert!(getter.wakes() > wakes);
        assert_eq!(served(&mut getter).id, IDLE);
        let looked_at = (found_dead + 1).min(IDLE);
        assert_eq!(factory.recycles.begun(), looked_at);
        assert_eq!((factory.recycles.cancelled(), factory.dropped().len()), (0, 0));
        let pending = looked_at - found_dead;
        assert_eq!(counts(&pool), (IDLE - looked_at + 1, pending, 0, 0));
        drop(getter);
        all_is_dropped(pool, &factory);
        assert_eq!(factory.max_live(), IDLE);
    }
}

#[test]
fn each_getter_waits_for_one_dead_object_and_one_creation() {
    const IDLE: usize = 5;
    let (factory, pool) = restarted(IDLE);
    let mut getters: Vec<_> = (0..IDLE).map(|_| waiting(&pool)).collect();
    (0..IDLE).for_each(|recycle| factory.recycles.finish(recycle));
    assert!(getters.iter_mut().all(|getter| getter.is_pending()));
    assert_eq!((counts(&pool), factory.creates.begun()), ((0, 0, IDLE, 0), 2 * IDLE));
    (IDLE..2 * IDLE).for_each(|create| factory.creates.finish(create));
    let objects: Vec<_> = getters.iter_mut().map(served).collect();
    assert_eq!((counts(&pool), factory.recycles.begun(), factory.max_live()), ((0, IDLE, 0, 0), IDLE, IDLE));
    drop((objects, getters));
    all_is_dropped(pool, &factory);
}

#[test]
fn a_live_object_after_a_dead_one_serves_before_the_creation() {
    let factory = Factory::default();
    let pool = filled(&factory, 3, 3);
    factory.kill(2);
    factory.recycles.hold(1);
    factory.creates.hold(1);
    let mut getter = waiting(&pool);
    factory.recycles.finish(0);
    assert!(getter.is_pending());
    factory.recycles.finish(1);
    let object = served(&mut getter);
    assert_eq!((object.id, counts(&pool)), (1, (1, 1, 1, 0)), "its creation is left in the pool");
    factory.recycles.open();
    assert_eq!(take(&pool).id, 0, "it is not needed as long as others are idle");
    let kept = take(&pool);
    let mut second = waiting(&pool);
    factory.creates.finish(3);
    assert_eq!((served(&mut second).id, factory.creates.begun()), (3, 4));
    drop((object, kept, getter, second));
    all_is_dropped(pool, &factory);
}

#[test]
fn a_getter_with_an_object_to_try_takes_no_pending_creation() {
    let factory = Factory::default();
    let pool = filled(&factory, 3, 2);
    let objects = [take(&pool), take(&pool)];
    factory.creates.hold(1);
    factory.recycles.hold(1);
    drop(waiting(&pool));
    drop(objects);
    [0, 1].into_iter().for_each(|id| factory.kill(id));
    assert_eq!(counts(&pool), (2, 0, 1, 0));
    let mut getter = waiting(&pool);
    factory.recycles.finish(2);
    assert!(getter.is_pending());
    assert_eq!((counts(&pool), factory.creates.begun()), ((0, 1, 2, 0), 4), "that may be an old one, and dead as well");
    factory.creates.finish(3);
    assert_eq!(served(&mut getter).id, 3);
    assert_eq!((counts(&pool), factory.dropped()), ((1, 1, 1, 0), vec![0]));
    drop(getter);
    all_is_dropped(pool, &factory);
}

#[test]
fn an_expired_object_starts_no_creation_while_others_are_idle() {
    let factory = Factory::default();
    let clock = Clock::new();
    let second = Duration::from_secs(1);
    let builder = factory.builder().max_size(3).order(Order::Fifo).idle_timeout(3 * second).clock(clock.source());
    let pool = builder.build();
    let [first, last] = [take(&pool), take(&pool)];
    drop(first);
    clock.advance(2 * second);
    drop(last);
    clock.advance(second);
    factory.recycles.hold(1);
    let mut getter = waiting(&pool);
    assert_eq!((factory.dropped(), factory.recycles.objects()), (vec![0], vec![1]));
    assert_eq!((counts(&pool), factory.creates.begun()), ((0, 1, 0, 0), 2));
    factory.recycles.finish(0);
    assert_eq!(served(&mut getter).id, 1);
    drop(getter);
    all_is_dropped(pool, &factory);
}

#[test]
fn a_stopped_database_fails_a_getter_after_two_dead_objects() {
    let (factory, pool) = restarted(5);
    let mut getter = waiting(&pool);
    factory.recycles.finish(0);
    assert!(getter.is_pending());
    factory.creates.fail_at(5, 1);
    factory.creates.finish(5);
    assert!(getter.is_pending());
    assert_eq!(counts(&pool), (3, 1, 0, 0), "the next one might be of use");
    factory.recycles.finish(1);
    assert_eq!(failed(getter.ready()), 5, "its error says why nothing was created");
    assert_eq!((counts(&pool), factory.recycles.begun(), factory.creates.begun()), ((3, 0, 0, 0), 2, 6));
    drop(getter);
    all_is_dropped(pool, &factory);
}

#[test]
fn the_slot_of_each_dead_object_is_for_waiting_getters() {
    let factory = Factory::default();
    let pool = filled(&factory, 2, 2);
    [0, 1].into_iter().for_each(|id| factory.kill(id));
    factory.recycles.hold(1);
    factory.creates.hold(1);
    let mut first = waiting(&pool);
    factory.recycles.finish(0);
    assert!(first.is_pending());
    let mut second = waiting(&pool);
    assert_eq!(counts(&pool), (0, 1, 1, 1), "one slot for its creation, one for the second dead object");
    factory.recycles.finish(1);
    assert!(first.is_pending());
    assert_eq!((second.wakes(), counts(&pool)), (1, (0, 0, 2, 0)));
    assert!(second.is_pending());
    factory.creates.open();
    assert_eq!([served(&mut first), served(&mut second)].map(|object| object.id), [2, 3]);
    drop((first, second));
    all_is_dropped(pool, &factory);
}

#[test]
fn a_recycling_that_panics_leaves_its_getters_creation_pending() {
    let (factory, pool) = restarted(2);
    factory.recycles.panic_at(1, 1);
    let mut first = waiting(&pool);
    factory.recycles.finish(0);
    assert!(first.is_pending());
    let mut second = waiting(&pool);
    factory.recycles.finish(1);
    assert_eq!(panic_of(|| first.poll()), "call 1 panics");
    assert_eq!((factory.dropped(), second.wakes(), counts(&pool)), (vec![1, 0], 1, (0, 0, 2, 0)));
    factory.creates.open();
    drop(served(&mut second));
    assert_eq!(counts(&pool), (1, 0, 1, 0), "it is in no queue, and its creation is granted to the next one");
    drop((first, second));
    all_is_dropped(pool, &factory);
}

#[test]
fn clear_spares_other_getters_the_dead_objects() {
    const IDLE: usize = 5;
    let (factory, pool) = restarted(IDLE);
    let pool = Arc::new(pool);
    factory.recycles.fail_at(0, 1);
    let weak = Arc::downgrade(&pool);
    // The manager recognises a failure that is fatal to all objects.
    factory.hook(move |event| {
        if let Event::Recycle(_, 1) = event {
            weak.upgrade().expect("a getter recycles").clear();
        }
    });
    let mut first = Task::waiting(pool.clone().get_owned());
    factory.recycles.finish(0);
    assert!(first.is_pending());
    assert_eq!((counts(&pool), factory.alive()), ((0, 0, 1, 0), 0), "all were dropped");
    let mut others: Vec<_> = (1..IDLE).map(|_| waiting(&pool)).collect();
    assert_eq!((counts(&pool), factory.recycles.begun()), ((0, 0, IDLE, 0), 1));
    factory.creates.open();
    assert_eq!(
        others.iter_mut().map(|other| served(other).id).collect::<Vec<_>>(),
        (IDLE + 1..2 * IDLE).collect::<Vec<_>>()
    );
    let object = first.ready().unwrap();
    assert_eq!(object.id, IDLE);
    OwnedObject::discard(object);
    drop((first, others));
    all_is_dropped(Arc::into_inner(pool).expect("this is the only handle"), &factory);
    assert_eq!(factory.max_live(), IDLE);
}

#[test]
fn a_broken_object_is_discarded_when_it_is_returned() {
    let factory = Factory::default();
    let pool = factory.pool(1);
    let object = take(&pool);
    let mut getter = waiting(&pool);
    factory.break_thing(0);
    drop(object);
    assert_eq!((factory.dropped(), getter.wakes(), counts(&pool)), (vec![0], 1, (0, 0, 1, 0)));
    assert_eq!((served(&mut getter).id, factory.recycles.begun()), (1, 0));
    assert_eq!(counts(&pool), (1, 0, 0, 0));
    drop(getter);
    all_is_dropped(pool, &factory);
}

/// A getter that has found the first of two objects dead, and creates while it recycles the second, which is dead, too.
pub(crate) fn creating_beside_a_dead_object<'p>(factory: &Factory, pool: &'p TestPool) -> Getter<'p> {
    factory.recycles.hold(1);
    factory.creates.hold(1);
    [0, 1].into_iter().for_each(|id| factory.kill(id));
    let mut getter = waiting(pool);
    factory.recycles.finish(0);
    assert!(getter.is_pending());
    assert_eq!(factory.creates.begun(), 3, "it creates beside the next attempt");
    getter
}

#[test]
fn a_dead_object_that_panics_leaves_the_creation_pending() {
    let factory = Factory::default();
    let pool = filled(&factory, 2, 2);
    let mut getter = creating_beside_a_dead_object(&factory, &pool);
    factory.hook(|event| assert_ne!(event, Event::Drop(0), "the drop"));
    factory.recycles.finish(1);
    panic_of(|| getter.is_pending());
    factory.unhook();
    assert_eq!(counts(&pool), (0, 0, 1, 0), "the creation is there, whatever becomes of the getter");
    let mut next = waiting(&pool);
    factory.creates.finish(2);
    drop(served(&mut next));
    assert_eq!(factory.creates.begun(), 4, "the next one has begun its own beside it");
    drop((getter, next));
    all_is_dropped(pool, &factory);
}

#[test]
fn a_dead_object_and_its_error_that_panic_keep_the_create_error() {
    let name = "recycling::a_dead_object_and_its_error_that_panic_keep_the_create_error";
    survives(name, || {
        let factory = Factory::default();
        let pool = filled(&factory, 2, 2);
        let mut getter = creating_beside_a_dead_object(&factory, &pool);
        factory.creates.fail_at(2, 1);
        factory.creates.finish(2);
        assert!(getter.is_pending(), "the other one might be of use");
        factory.hook(|event| assert!(![Event::Drop(0), Event::ErrorDropped(1)].contains(&event), "the drop"));
        factory.recycles.finish(1);
        assert_eq!(failed(getter.ready()), 2);
        factory.unhook();
        assert_eq!((factory.dropped(), counts(&pool)), (vec![1, 0], (0, 0, 0, 0)));
        drop(getter);
        all_is_dropped(pool, &factory);
    });
}

#[test]
fn a_dead_object_and_its_error_that_panic_do_not_abort() {
    survives("recycling::a_dead_object_and_its_error_that_panic_do_not_abort", || {
        let factory = Factory::default();
        let pool = filled(&factory, 1, 1);
        factory.kill(0);
        factory.hook(|event| match event {
            Event::Drop(0) => panic!("the object"),
            Event::ErrorDropped(0) => panic!("its error"),
            _ => {}
        });
        assert_eq!(panic_of(|| ready(&mut pool.get()).is_ok()), "the object");
        factory.unhook();
        assert_eq!((factory.dropped(), counts(&pool)), (vec![0], (0, 0, 0, 0)));
        assert_eq!(take(&pool).id, 1);
        all_is_dropped(pool, &factory);
    });
}

#[test]
fn pending_creations_do_not_delay_a_getter_of_a_dead_object() {
    const IDLE: usize = 5;
    let factory = Factory::default();
    let pool = factory.pool(4 * FEW);
    let objects: Vec<_> = (0..IDLE).map(|_| take(&pool)).collect();
    factory.creates.hold(1);
    drop((0..FEW).map(|_| waiting(&pool)).collect::<Vec<_>>());
    drop(objects);
    (0..IDLE).for_each(|id| factory.kill(id));
    factory.recycles.hold(1);
    assert_eq!((counts(&pool), factory.creates.begun()), ((IDLE, 0, FEW, 0), IDLE + FEW));
    let mut getter = waiting(&pool);
    factory.recycles.finish(0);
    assert!(getter.is_pending());
    assert_eq!((counts(&pool), factory.creates.begun()), ((IDLE - 2, 1, FEW + 1, 0), IDLE + FEW + 1));
    factory.creates.finish(IDLE + FEW);
    assert_eq!((served(&mut getter).id, factory.recycles.begun()), (IDLE + FEW, 2));
    drop(getter);
    all_is_dropped(pool, &factory);
}

#[test]
fn an_object_begun_after_a_clear_stays_though_granted_before() {
    let factory = Factory::default();
    let pool = Arc::new(filled(&factory, 2, 2));
    (0..2).for_each(|id| factory.kill(id));
    let weak = Arc::downgrade(&pool);
    // After the first dead one it may create; the second one, tried in the same poll, shows that all are dead.
    factory.hook(move |event| {
        if let Event::Recycle(1, 0) = event {
            weak.upgrade().expect("a getter recycles").clear();
        }
    });
    drop(take(&pool));
    factory.unhook();
    assert_eq!((counts(&pool), factory.dropped()), ((1, 0, 0, 0), vec![1, 0]));
    assert_eq!(take(&pool).id, 2);
    all_is_dropped(Arc::into_inner(pool).expect("this is the only handle"), &factory);
}

#[test]
fn a_dead_object_starts_no_creation_beyond_max_creating() {
    let factory = Factory::default();
    let pool = factory.builder().max_size(4).max_creating(1).min_idle(3).build();
    let objects = [take(&pool), take(&pool)];
    drop(objects);
    factory.creates.hold(1);
    let mut replenish = Task::waiting(pool.replenish());
    factory.recycles.hold(1);
    factory.recycles.fail_at(0, 0);
    let getter = waiting(&pool);
    assert_eq!((factory.recycles.begun(), factory.creates.begun()), (2, 3), "it recycles the second one");
    factory.recycles.open();
    factory.creates.open();
    drop(getter);
    assert!(!replenish.is_pending());
    drop(replenish);
    all_is_dropped(pool, &factory);
}

#[test]
fn an_object_recycled_over_a_clear_and_close_is_not_used() {
    let factory = Factory::default();
    let pool = filled(&factory, 1, 1);
    factory.recycles.hold(1);
    let mut getter = waiting(&pool);
    pool.clear();
    pool.close();
    factory.recycles.open();
    assert!(matches!(getter.ready(), Err(GetError::Closed)));
    drop(getter);
    assert_eq!(pool.stats().discarded, 0, "closed");
    all_is_dropped(pool, &factory);
}

#[test]
fn try_get_sets_the_time_of_the_recycling() {
    let (factory, clock) = (Factory::default(), Clock::new());
    let pool = factory.builder().max_lifetime(Duration::from_secs(60)).clock(clock.source()).build();
    drop(take(&pool));
    clock.advance(Duration::from_secs(1));
    assert_eq!(Object::metrics(&pool.try_get().unwrap()).recycled, Some(clock.now()));
}

#[test]
fn a_getter_of_a_dead_object_waits_beyond_max_waiting() {
    let factory = Factory::default();
    let pool = factory.builder().max_size(2).max_waiting(0).build();
    fill(&pool, 2);
    let held = take(&pool);
    factory.recycles.hold(1);
    let mut getter = waiting(&pool);
    pool.resize(1);
    factory.kill(0);
    factory.recycles.open();
    assert!(getter.is_pending());
    drop(held);
    assert_eq!(served(&mut getter).id, 1);
}

#[test]
fn a_getter_of_dead_objects_alone_waits_beyond_max_waiting() {
    let factory = Factory::default();
    let pool = Arc::new(factory.builder().max_size(2).max_waiting(0).build());
    fill(&pool, 2);
    let held = take(&pool);
    factory.kill(0);
    let weak = Arc::downgrade(&pool);
    factory.hook(move |event| {
        if event == Event::Recycle(1, 0) {
            weak.upgrade().expect("a getter recycles").resize(1);
        }
    });
    let mut getter = Task::new(pool.get());
    assert!(getter.is_pending(), "its object was dead, and there is no room for another");
    factory.unhook();
    drop(held);
    assert_eq!(served(&mut getter).id, 1);
}
