//! Closing a pool: which getters are still served, and when the last object was dropped.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex as StdMutex};
use std::task::Poll;

use stanchion::{GetError, Object, Pool};

use crate::common::{Task, poll, ready};
use crate::manager::{CALL, Event, Factory, Failed};
use crate::recycling::creating_beside_a_dead_object;
use crate::{Getter, MANY, all_is_dropped, counts, filled, served, take, waiting, woken};

#[track_caller]
fn is_refused<T>(outcome: Result<T, GetError<Failed>>) {
    assert!(matches!(outcome.map(drop), Err(GetError::Closed)));
}

#[test]
fn close_fails_all_getters() {
    let factory = Factory::default();
    let pool = filled(&factory, 4, 4);
    let objects = [take(&pool), take(&pool)];
    assert!(!pool.is_closed());
    pool.close();
    assert!(pool.is_closed());
    assert_eq!(
        (factory.dropped(), counts(&pool)),
        (vec![0, 1], (0, 2, 0, 0)),
        "idle objects are dropped, the oldest first"
    );
    is_refused(ready(&mut pool.get()));
    assert!(pool.try_get().is_none());
    assert_eq!(pool.add(factory.thing(100)).map_err(|thing| thing.id), Err(100));
    assert!(pool.retain(|_, _| panic!("nothing is idle")).is_empty());
    pool.clear();
    pool.close();
    pool.resize(9);
    assert!(ready(&mut Box::pin(pool.replenish())).is_ok());
    assert_eq!(pool.maintain(std::time::Instant::now()), None);
    assert_eq!((pool.status().max_size, counts(&pool), factory.creates.begun()), (4, (0, 2, 0, 0), 4));
    drop(objects);
    assert_eq!((factory.alive(), counts(&pool)), (0, (0, 0, 0, 0)), "none is kept");
    assert_eq!(factory.recycles.begun(), 2);
    all_is_dropped(pool, &factory);
}

#[test]
fn close_wakes_waiting_and_creating_getters() {
    let factory = Factory::default();
    let pool = filled(&factory, 3, 1);
    factory.creates.hold(1);
    let object = take(&pool);
    let mut getters: Vec<_> = (0..MANY).map(|_| waiting(&pool)).collect();
    assert_eq!(counts(&pool), (0, 1, 2, MANY - 2));
    pool.close();
    assert!(getters.iter().all(|getter| getter.wakes() == 1));
    assert_eq!(counts(&pool), (0, 1, 2, 0), "creations are their getters' to drop");
    // One is polled, the other is dropped.
    is_refused(getters[0].ready());
    assert_eq!((counts(&pool), factory.creates.cancelled()), ((0, 1, 1, 0), 1));
    drop(getters.swap_remove(1));
    assert_eq!((counts(&pool), factory.creates.cancelled()), ((0, 1, 0, 0), 2), "no creation is pending");
    getters.drain(1..).for_each(|mut getter| is_refused(getter.ready()));
    drop((object, getters));
    assert_eq!(counts(&pool), (0, 0, 0, 0));
    all_is_dropped(pool, &factory);
}

#[test]
fn a_creation_that_ends_after_close_serves_no_getter() {
    let factory = Factory::default();
    factory.creates.hold(1);
    let pool = factory.pool(2);
    let mut getters = [(); 2].map(|()| waiting(&pool));
    factory.creates.finish(0);
    pool.close();
    factory.creates.finish(1);
    let closed = Task::waiting(pool.closed());
    getters.iter_mut().for_each(|getter| is_refused(getter.ready()));
    assert_eq!([factory.creates.polls(0), factory.creates.polls(1)], [1, 1], "no getter polls it");
    assert_eq!((closed.wakes(), factory.alive()), (1, 0));
    drop((getters, closed));
    all_is_dropped(pool, &factory);
}

#[test]
fn a_right_to_create_ends_with_close() {
    let factory = Factory::default();
    let pool = factory.pool(1);
    let object = take(&pool);
    let mut getter = waiting(&pool);
    Object::discard(object);
    assert_eq!(counts(&pool), (0, 0, 1, 0));
    pool.close();
    is_refused(getter.ready());
    assert_eq!((counts(&pool), factory.creates.begun()), ((0, 0, 0, 0), 1));
    assert!(poll(&mut pool.closed()).is_ready());
    drop(getter);
    all_is_dropped(pool, &factory);
}

#[test]
fn an_object_granted_before_close_is_collected_after_it() {
    let factory = Factory::default();
    let pool = filled(&factory, 3, 2);
    factory.creates.hold(1);
    factory.recycles.hold(1);
    // One recycles, one creates and has been granted, one waits and has been granted.
    let mut recycles = waiting(&pool);
    factory.recycles.hold(0);
    let object = take(&pool);
    let [mut creates, mut waits, mut late] = [(); 3].map(|()| waiting(&pool));
    drop(object);
    let objects = [served(&mut creates)];
    // Its creation is the next one's; now an object for that one, too.
    assert!(waits.is_pending());
    drop(objects);
    assert_eq!(counts(&pool), (0, 2, 1, 1));
    factory.recycles.hold(1);
    pool.close();
    woken(&late);
    is_refused(late.ready());
    assert!(recycles.is_pending() && waits.is_pending(), "they make their objects fit for use");
    let closed = Task::waiting(pool.closed());
    factory.recycles.open();
    let objects = [served(&mut recycles), served(&mut waits)];
    assert_eq!(counts(&pool), (0, 2, 0, 0), "no getter will use its creation");
    assert_eq!(closed.wakes(), 0);
    drop(objects);
    assert_eq!((closed.wakes(), factory.alive()), (1, 0));
    drop((recycles, creates, waits, late, closed));
    all_is_dropped(pool, &factory);
}

#[test]
fn a_dead_object_after_close_is_the_end_of_its_getter() {
    let factory = Factory::default();
    let pool = filled(&factory, 2, 2);
    factory.recycles.hold(1);
    factory.kill(1);
    let mut getter = waiting(&pool);
    pool.close();
    factory.recycles.finish(0);
    is_refused(getter.ready());
    assert_eq!((counts(&pool), factory.creates.begun(), factory.alive()), ((0, 0, 0, 0), 2, 0));
    drop(getter);
    all_is_dropped(pool, &factory);
}

#[test]
fn close_fails_a_getter_that_creates_beside_a_dead_object() {
    let factory = Factory::default();
    let pool = filled(&factory, 2, 2);
    let mut getter = creating_beside_a_dead_object(&factory, &pool);
    pool.close();
    factory.recycles.finish(1);
    is_refused(getter.ready());
    assert_eq!((counts(&pool), factory.live()), ((0, 0, 0, 0), 0), "whether it is dropped or not");
    drop(getter);
    all_is_dropped(pool, &factory);
}

#[test]
fn a_recycling_beside_a_creation_may_serve_after_close() {
    let factory = Factory::default();
    let pool = filled(&factory, 2, 2);
    let mut getter = creating_beside_a_dead_object(&factory, &pool);
    pool.close();
    factory.creates.finish(2);
    let object = served(&mut getter);
    assert_eq!((object.id, counts(&pool)), (2, (0, 1, 0, 0)), "it was granted an object before");
    drop((object, getter));
    all_is_dropped(pool, &factory);
}

#[test]
fn a_creation_that_ends_in_the_poll_after_close_is_dropped() {
    for is_adopted in [false, true] {
        let factory = Factory::default();
        factory.creates.hold(1);
        let pool = Arc::new(factory.pool(1));
        let mut getter = waiting(&pool);
        if is_adopted {
            getter = Task::new(pool.get());
        }
        factory.creates.finish(0);
        let weak = Arc::downgrade(&pool);
        factory.hook(move |event| {
            if event == Event::Create(0, 1) {
                weak.upgrade().unwrap().close();
            }
        });
        is_refused(getter.ready());
        assert_eq!((counts(&pool), factory.creates.begun(), factory.dropped()), ((0, 0, 0, 0), 1, vec![0]));
        drop(getter);
        factory.unhook();
        all_is_dropped(Arc::into_inner(pool).expect("this is the only handle"), &factory);
    }
}

#[test]
fn a_creation_may_end_beside_an_object_granted_before_close() {
    let factory = Factory::default();
    let pool = Arc::new(factory.pool(2));
    let object = StdMutex::new(ready(&mut pool.clone().get_owned()).ok());
    factory.creates.hold(1);
    let mut getter = waiting(&pool);
    let weak = Arc::downgrade(&pool);
    // All in the poll that ends the creation.
    factory.hook(move |event| {
        if event == Event::Create(1, 1) {
            drop(object.lock().unwrap().take());
            weak.upgrade().unwrap().close();
        }
    });
    factory.creates.finish(1);
    let created = served(&mut getter);
    factory.unhook();
    assert_eq!((created.id, counts(&pool), factory.dropped()), (1, (0, 1, 0, 0), vec![0]));
    drop((created, getter));
    all_is_dropped(Arc::into_inner(pool).expect("this is the only handle"), &factory);
}

#[test]
fn an_object_granted_before_close_dies_with_its_getter() {
    let factory = Factory::default();
    let pool = filled(&factory, 1, 1);
    let object = take(&pool);
    let getter = waiting(&pool);
    drop(object);
    pool.close();
    let closed = Task::waiting(pool.closed());
    drop(getter);
    assert_eq!((factory.dropped(), closed.wakes()), (vec![0], 1));
    drop(closed);
    all_is_dropped(pool, &factory);
}

// ---------------------------------------------------------------------------------------------------------------------
// Closed and empty
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn closed_is_ready_when_the_last_object_was_dropped() {
    let factory = Factory::default();
    let pool = Arc::new(filled(&factory, 5, 3));
    let mut objects = [(); 3].map(|()| Some(take(&pool)));
    let mut closers: Vec<_> = (0..MANY).map(|_| Task::waiting(pool.closed())).collect();
    drop(closers.pop());
    pool.close();
    assert!(closers.iter_mut().all(|closed| closed.is_pending() && closed.wakes() == 0));
    drop(objects[0].take());
    Object::discard(objects[1].take().unwrap());
    assert!(closers.iter().all(|closed| closed.wakes() == 0));
    let weak = Arc::downgrade(&pool);
    let ran = Arc::new(AtomicBool::new(false));
    let runs = ran.clone();
    factory.hook(move |event| {
        if let Event::Drop(_) = event {
            let pool = weak.upgrade().unwrap();
            assert!(poll(&mut pool.closed()).is_pending(), "the last one was not dropped yet");
            assert_eq!(counts(&pool), (0, 1, 0, 0));
            runs.store(true, Ordering::SeqCst);
        }
    });
    drop(objects[2].take());
    assert!(ran.load(Ordering::SeqCst));
    assert!(closers.iter().all(|closed| closed.wakes() == 1));
    closers.iter_mut().for_each(Task::ready);
    ready(&mut pool.closed());
    factory.unhook();
    drop((closers, objects));
    all_is_dropped(Arc::into_inner(pool).expect("this is the only handle"), &factory);
}

#[test]
fn a_pool_that_is_empty_is_not_closed() {
    let factory = Factory::default();
    let pool = factory.pool(1);
    let mut closed = Task::waiting(pool.closed());
    Object::discard(take(&pool));
    pool.resize(0);
    assert!(closed.is_pending() && closed.wakes() == 0);
    pool.close();
    assert_eq!(closed.wakes(), 1);
    closed.ready();
    drop(closed);
    all_is_dropped(pool, &factory);
}

#[test]
fn closed_waits_for_driven_creations_and_not_for_pending_ones() {
    let factory = Factory::default();
    factory.creates.hold(1);
    let pool = Arc::new(factory.pool(3));
    let [first, second] = [(); 2].map(|()| waiting(&pool));
    drop(waiting(&pool));
    assert_eq!(counts(&pool), (0, 0, 3, 0));
    let mut closed = Task::waiting(pool.closed());
    pool.close();
    assert_eq!((counts(&pool), factory.creates.cancelled()), ((0, 0, 2, 0), 1));
    drop(first);
    assert!(closed.is_pending() && closed.wakes() == 0);
    let weak = Arc::downgrade(&pool);
    factory.hook(move |event| {
        if let Event::CreateDropped(_) = event {
            assert!(poll(&mut weak.upgrade().unwrap().closed()).is_pending(), "it was not dropped yet");
        }
    });
    drop(second);
    assert_eq!(closed.wakes(), 1);
    closed.ready();
    factory.unhook();
    drop(closed);
    all_is_dropped(Arc::into_inner(pool).expect("this is the only handle"), &factory);
}

#[test]
fn closed_waits_for_no_object_that_was_detached() {
    let factory = Factory::default();
    let pool = factory.pool(1);
    let object = take(&pool);
    pool.close();
    let closed = Task::waiting(pool.closed());
    let thing = Object::detach(object);
    assert_eq!((closed.wakes(), counts(&pool), factory.alive()), (1, (0, 0, 0, 0), 1));
    drop((thing, closed));
    all_is_dropped(pool, &factory);
}

#[test]
fn a_fixed_set_is_closed_like_any_other() {
    let pool = Pool::from_objects([1, 2]);
    let object = take(&pool);
    pool.close();
    assert_eq!((pool.add(3), counts(&pool)), (Err(3), (0, 1, 0, 0)));
    assert!(matches!(ready(&mut pool.get()), Err(GetError::Closed)));
    let closed = Task::waiting(pool.closed());
    drop(object);
    assert_eq!(closed.wakes(), 1);
}

#[test]
fn a_pool_that_is_dropped_drops_what_it_has() {
    let factory = Factory::default();
    let pool = filled(&factory, 4, 3);
    factory.creates.hold(1);
    let [first, second, third] = [(); 3].map(|()| take(&pool));
    drop(waiting(&pool));
    drop((first, second));
    let detached = Object::detach(third);
    assert_eq!((factory.alive(), factory.live()), (3, 4));
    drop(pool);
    assert_eq!((factory.alive(), factory.live(), factory.creates.cancelled()), (1, 1, 1));
    drop(detached);
    assert_eq!(factory.alive(), 0);
}

// ---------------------------------------------------------------------------------------------------------------------
// Closed in the midst of something
// ---------------------------------------------------------------------------------------------------------------------

/// All that happens to a pool of two. Each waiting getter is served, or fails.
fn live_through<'p>(factory: &Factory, pool: &'p Pool<Factory>) {
    let through = |mut getter: Getter<'p>| {
        for _ in 0..20 {
            if let Poll::Ready(object) = getter.poll() {
                counts(pool);
                return object.ok();
            }
            factory.step();
        }
        panic!("it waits for ever");
    };
    factory.creates.hold(2);
    factory.recycles.hold(2);
    // 0 is created, used, recycled, and handed over while 1 is created.
    drop(through(Task::new(pool.get())));
    let object = through(Task::new(pool.get()));
    let mut creates = Task::new(pool.get());
    let mut waits = Task::new(pool.get());
    let before = [creates.poll(), waits.poll()];
    drop(object);
    if before[0].is_pending() {
        drop(through(creates));
    }
    if before[1].is_pending() {
        drop(through(waits));
    }
    // A creation and a recycle are dropped half-way, another one fails.
    let mut recycles = Task::new(pool.get());
    let mut creates = Task::new(pool.get());
    let _ = [recycles.poll(), creates.poll()];
    drop((recycles, creates));
    drop(through(Task::new(pool.get())));
    [0, 1].into_iter().for_each(|id| factory.kill(id));
    if let Some(object) = through(Task::new(pool.get())) {
        Object::discard(object);
    }
    pool.clear(); // With the recycling that is pending.
}

#[test]
fn close_may_happen_at_any_moment() {
    let factory = Factory::default();
    let seen: Arc<StdMutex<Vec<Event>>> = Arc::default();
    let events = seen.clone();
    factory.hook(move |event| events.lock().unwrap().push(event));
    live_through(&factory, &factory.pool(2));
    factory.unhook();
    let seen = Arc::into_inner(seen).expect("the hook is gone").into_inner().unwrap();
    let kinds: [fn(&Event) -> bool; 10] = [
        |event| matches!(event, Event::Create(_, CALL)),
        |event| matches!(event, Event::Create(_, 1)),
        |event| matches!(event, Event::Create(_, 2)),
        |event| matches!(event, Event::Recycle(_, CALL)),
        |event| matches!(event, Event::Recycle(_, 2)),
        |event| matches!(event, Event::CreateDropped(_)),
        |event| matches!(event, Event::RecycleDropped(_)),
        |event| matches!(event, Event::IsBroken(_)),
        |event| matches!(event, Event::Drop(_)),
        |event| matches!(event, Event::ErrorDropped(_)),
    ];
    assert!(kinds.iter().all(|kind| seen.iter().any(kind)), "{seen:?}");

    for (moment, event) in seen.iter().enumerate() {
        let factory = Factory::default();
        let pool = Arc::new(factory.pool(2));
        let (weak, events) = (Arc::downgrade(&pool), AtomicUsize::new(0));
        factory.hook(move |_| {
            let pool = weak.upgrade().expect("it is in use");
            counts(&pool);
            if events.fetch_add(1, Ordering::SeqCst) == moment {
                pool.close();
                counts(&pool);
            }
        });
        let mut closed = Task::new(pool.closed());
        live_through(&factory, &pool);
        assert!(pool.is_closed(), "at event {moment}, {event:?}");
        assert_eq!((counts(&pool), factory.alive()), ((0, 0, 0, 0), 0), "at event {moment}, {event:?}");
        closed.ready();
        factory.unhook();
        drop(closed);
        all_is_dropped(Arc::into_inner(pool).expect("this is the only handle"), &factory);
    }
}
