//! What makes a pool larger or smaller: its size, and objects that come and go.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex as StdMutex};
use std::task::Poll;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use stanchion::{Object, Order};

use crate::common::{Task, panic_of, ready};
use crate::manager::{Event, Factory};
use crate::{FEW, Getter, Held, MANY, all_is_dropped, counts, filled, served, take, waiting, woken};

#[test]
fn a_pool_has_room_for_something() {
    let factory = Factory::default();
    assert!(panic_of(|| factory.builder().max_size(0)).contains("room"));
    assert_eq!(factory.builder().build().status().max_size, 10);
}

#[test]
fn shrinking_an_empty_pool_limits_its_creations() {
    let factory = Factory::default();
    let pool = factory.pool(5);
    pool.resize(2);
    assert_eq!((pool.status().max_size, counts(&pool)), (2, (0, 0, 0, 0)));
    let objects = [take(&pool), take(&pool)];
    let mut getter = waiting(&pool);
    pool.resize(3);
    assert_eq!(getter.wakes(), 1);
    let object = served(&mut getter);
    let other = waiting(&pool);
    assert_eq!((counts(&pool), factory.max_live()), ((0, 3, 0, 1), 3));
    drop((objects, object, getter, other));
    all_is_dropped(pool, &factory);
}

#[test]
fn shrinking_discards_objects_in_use_when_they_are_returned() {
    let factory = Factory::default();
    let pool = factory.pool(4);
    let mut objects: Vec<_> = (0..4).map(|_| take(&pool)).collect();
    let mut getter = waiting(&pool);
    pool.resize(2);
    assert_eq!(counts(&pool), (0, 4, 0, 1));
    for retired in 0..2 {
        drop(objects.remove(0));
        assert_eq!((factory.dropped(), getter.wakes(), counts(&pool)), (vec![retired], 0, (0, 3 - retired, 0, 1)));
    }
    drop(objects.remove(0));
    assert_eq!((getter.wakes(), served(&mut getter).id), (1, 2), "this one fits");
    assert_eq!((factory.creates.begun(), counts(&pool)), (4, (1, 1, 0, 0)));
    drop((objects, getter));
    assert_eq!(counts(&pool), (2, 0, 0, 0));
    all_is_dropped(pool, &factory);
}

#[test]
fn a_pool_of_size_zero_serves_no_getter_until_it_grows() {
    let factory = Factory::default();
    let pool = filled(&factory, 2, 2);
    let object = take(&pool);
    pool.resize(0);
    assert_eq!((factory.dropped(), counts(&pool)), (vec![0], (0, 1, 0, 0)));
    let mut getters: Vec<_> = (0..3).map(|_| waiting(&pool)).collect();
    drop(object);
    assert_eq!((factory.dropped(), counts(&pool)), (vec![1], (0, 0, 0, 3)));
    assert!(pool.try_get().is_none());
    assert_eq!(pool.add(factory.thing(100)).map_err(|thing| thing.id), Err(100));
    pool.resize(2);
    assert_eq!((getters.iter().map(Task::wakes).collect::<Vec<_>>(), counts(&pool)), (vec![1, 1, 0], (0, 0, 2, 1)));
    let object = served(&mut getters[0]);
    // Granted creations that have not begun count, too.
    let second = served(&mut getters[1]);
    assert!(getters[2].is_pending());
    drop((object, second));
    drop(served(&mut getters[2]));
    drop(getters);
    assert_eq!((counts(&pool), factory.creates.begun()), ((2, 0, 0, 0), 4));
    all_is_dropped(pool, &factory);
}

#[test]
fn growing_serves_as_many_getters_as_there_is_room_for() {
    let factory = Factory::default();
    let pool = factory.pool(1);
    pool.resize(0);
    let mut getters: Vec<_> = (0..MANY).map(|_| waiting(&pool)).collect();
    pool.resize(MANY);
    let woken = |getters: &[Getter<'_>]| getters.iter().filter(|getter| getter.wakes() > 0).count();
    assert_eq!((woken(&getters), counts(&pool)), (FEW, (0, 0, FEW, MANY - FEW)), "within the limit of growth");
    let objects: Vec<_> = getters.iter_mut().map(served).collect();
    assert_eq!(objects.iter().map(|object| object.id).collect::<Vec<_>>(), (0..MANY).collect::<Vec<_>>());
    drop((objects, getters));
    all_is_dropped(pool, &factory);
}

#[test]
fn shrinking_drops_pending_creations_and_then_idle_objects() {
    for order in [Order::Lifo, Order::Fifo] {
        let factory = Factory::default();
        let pool = factory.builder().max_size(5).order(order).build();
        let objects = [(); 3].map(|()| take(&pool));
        factory.creates.hold(1);
        let getters = [(); 2].map(|()| waiting(&pool));
        drop(getters);
        drop(objects);
        assert_eq!(counts(&pool), (3, 0, 2, 0));
        for (size, cancelled, dropped) in
            [(5, 0, vec![]), (4, 1, vec![]), (3, 2, vec![]), (2, 2, vec![0]), (0, 2, vec![1, 2])]
        {
            pool.resize(size);
            assert_eq!((factory.creates.cancelled(), factory.dropped()), (cancelled, dropped), "{order:?}");
            assert_eq!(pool.status().size, size);
            counts(&pool);
        }
        all_is_dropped(pool, &factory);
    }
}

#[test]
fn doomed_objects_count_once_when_a_pool_shrinks_again() {
    let factory = Factory::default();
    let pool = Arc::new(factory.pool(3));
    let [first, second, third] = [(); 3].map(|()| ready(&mut pool.clone().get_owned()).unwrap());
    let (second, weak) = (StdMutex::new(Some(second)), Arc::downgrade(&pool));
    factory.hook(move |event| {
        if event == Event::Drop(2) {
            let pool = weak.upgrade().unwrap();
            drop(second.lock().unwrap().take());
            assert_eq!(counts(&pool), (1, 2, 0, 0), "this one may stay");
            pool.resize(2);
            assert_eq!(counts(&pool), (1, 2, 0, 0), "still");
        }
    });
    pool.resize(2);
    drop(third);
    factory.unhook();
    assert_eq!((factory.dropped(), counts(&pool)), (vec![2], (1, 1, 0, 0)));
    drop(first);
    all_is_dropped(Arc::into_inner(pool).expect("this is the only handle"), &factory);
}

#[test]
fn driven_creations_are_finished_when_a_pool_shrinks() {
    let factory = Factory::default();
    factory.creates.hold(1);
    let pool = factory.pool(2);
    let mut getters = [(); 3].map(|()| waiting(&pool));
    pool.resize(1);
    assert_eq!(counts(&pool), (0, 0, 2, 1));
    factory.creates.open();
    let [first, second] = [served(&mut getters[0]), served(&mut getters[1])];
    drop(first);
    assert_eq!((factory.dropped(), getters[2].wakes(), counts(&pool)), (vec![0], 0, (0, 1, 0, 1)));
    drop(second);
    assert_eq!(served(&mut getters[2]).id, 1);
    drop(getters);
    assert_eq!((counts(&pool), factory.creates.begun()), ((1, 0, 0, 0), 2));
    all_is_dropped(pool, &factory);
}

#[test]
fn an_abandoned_creation_is_dropped_if_the_pool_is_too_small() {
    let factory = Factory::default();
    factory.creates.hold(1);
    let pool = factory.pool(2);
    let [first, second] = [(); 2].map(|()| waiting(&pool));
    let third = waiting(&pool);
    pool.resize(1);
    drop(first);
    assert_eq!((counts(&pool), factory.creates.cancelled(), third.wakes()), ((0, 0, 1, 1), 1, 0));
    drop(second);
    assert_eq!((counts(&pool), factory.creates.cancelled(), third.wakes()), ((0, 0, 1, 0), 1, 1), "this one fits");
    drop(third);
    all_is_dropped(pool, &factory);
}

#[test]
fn a_resized_pool_never_holds_more_and_loses_no_slot() {
    for seed in 0..40 {
        let random = &mut StdRng::seed_from_u64(seed);
        let factory = Factory::default();
        let pool = factory.pool(4);
        factory.creates.hold(1);
        factory.recycles.hold(seed as usize % 2);
        let (mut getters, mut objects): (Vec<Getter<'_>>, Vec<Held<'_>>) = (Vec::new(), Vec::new());
        for _ in 0..300 {
            let before = pool.status().size;
            match random.random_range(0..8) {
                0 | 1 if getters.len() < 20 => getters.push(Task::new(pool.get())),
                2 => pool.resize(random.random_range(0..7)),
                3 if !objects.is_empty() => drop(objects.swap_remove(random.random_range(0..objects.len()))),
                4 if !objects.is_empty() => Object::discard(objects.swap_remove(random.random_range(0..objects.len()))),
                5 if !getters.is_empty() => drop(getters.remove(random.random_range(0..getters.len()))),
                6 => factory.step(),
                _ if !getters.is_empty() => {
                    let i = random.random_range(0..getters.len());
                    if let Poll::Ready(object) = getters[i].poll() {
                        objects.push(object.unwrap());
                        drop(getters.remove(i));
                    }
                }
                _ => {}
            }
            counts(&pool);
            let now = pool.status();
            assert!(now.size <= before.max(now.max_size), "seed {seed}");
            assert!(factory.live() <= now.size, "seed {seed}");
        }
        drop((objects, getters));
        pool.resize(6);
        factory.creates.open();
        factory.recycles.open();
        let objects = [(); 6].map(|()| take(&pool));
        let seventh = waiting(&pool);
        assert_eq!((counts(&pool), factory.live()), ((0, 6, 0, 1), 6), "seed {seed}");
        drop((objects, seventh));
        all_is_dropped(pool, &factory);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Objects that come and go
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn an_object_is_added_where_there_is_room() {
    let factory = Factory::default();
    let pool = factory.pool(2);
    pool.clear();
    pool.add(factory.thing(100)).unwrap();
    drop(take(&pool));
    let object = take(&pool);
    assert_eq!((object.id, Object::metrics(&object).uses), (100, 2));
    factory.creates.hold(1);
    let creates = waiting(&pool);
    assert_eq!(pool.add(factory.thing(101)).map_err(|thing| thing.id), Err(101), "a creation has its slot");
    drop(creates);
    assert_eq!(pool.add(factory.thing(102)).map_err(|thing| thing.id), Err(102), "so has a pending one");
    drop(object);
    all_is_dropped(pool, &factory);
}

#[test]
fn an_added_object_is_for_the_first_getter() {
    let factory = Factory::default();
    factory.creates.hold(1);
    let pool = factory.pool(MANY);
    let mut getters: Vec<_> = (0..FEW + 2).map(|_| waiting(&pool)).collect();
    assert_eq!(counts(&pool), (0, 0, FEW, 2));
    for (n, getter) in getters.iter_mut().enumerate() {
        assert_eq!(getter.wakes(), usize::from(n >= FEW), "they are granted the pending creations of the first ones");
        pool.add(factory.thing(100 + n)).unwrap();
        woken(getter);
        let object = served(getter);
        assert_eq!(object.id, 100 + n);
        Object::discard(object);
    }
    assert_eq!((factory.creates.begun(), counts(&pool)), (FEW, (0, 0, FEW, 0)));
    drop(getters);
    all_is_dropped(pool, &factory);
}

#[test]
fn retain_returns_objects_that_are_not_kept() {
    let factory = Factory::default();
    let pool = filled(&factory, 4, 4);
    let object = take(&pool);
    let mut seen = Vec::new();
    let mut out = pool.retain(|thing, metrics| {
        seen.push((thing.id, metrics.uses));
        thing.id != 1
    });
    seen.sort_unstable();
    assert_eq!(seen, [(0, 1), (1, 1), (2, 1)], "those in use are not asked about");
    assert_eq!((counts(&pool), factory.alive(), factory.dropped()), ((2, 1, 0, 0), 4, vec![]), "it is the caller's");
    assert_eq!(out.pop().map(|thing| thing.id), Some(1));
    let others = [take(&pool), take(&pool)];
    assert_eq!(others.each_ref().map(|object| object.id), [2, 0], "the others keep their order");
    drop((object, others));
    let message = panic_of(|| {
        pool.retain(|thing, _| {
            assert_ne!(thing.id, 0, "not this one");
            false
        })
    });
    assert!(message.contains("not this one"));
    assert_eq!((counts(&pool), factory.alive()), ((3, 0, 0, 0), 3), "nothing has changed");
    assert_eq!(pool.retain(|_, _| false).len(), 3);
    assert_eq!((counts(&pool), take(&pool).id), ((0, 0, 0, 0), 4));
    all_is_dropped(pool, &factory);
}

#[test]
fn a_detached_object_makes_room_at_once() {
    let factory = Factory::default();
    let pool = factory.pool(1);
    let object = take(&pool);
    let mut getter = waiting(&pool);
    factory.break_thing(0);
    let thing = Object::detach(object);
    assert_eq!((getter.wakes(), counts(&pool)), (1, (0, 0, 1, 0)));
    assert_eq!(served(&mut getter).id, 1);
    assert_eq!((thing.id, factory.alive()), (0, 2), "it is no affair of the pool");
    drop((thing, getter));
    all_is_dropped(pool, &factory);
}

#[test]
fn the_slot_of_a_discarded_object_is_free_when_it_is_dropped() {
    // Discarded by its user, found broken, and returned to a pool that was cleared.
    for how in 0..3 {
        let factory = Factory::default();
        let pool = Arc::new(factory.pool(1));
        let object = take(&pool);
        let mut getter = waiting(&pool);
        let (weak, runs) = (Arc::downgrade(&pool), Arc::new(AtomicUsize::new(0)));
        let ran = runs.clone();
        factory.hook(move |event| {
            if event == Event::Drop(0) {
                assert_eq!(counts(&weak.upgrade().unwrap()), (0, 1, 0, 1));
                ran.fetch_add(1, Ordering::SeqCst);
            }
        });
        match how {
            0 => Object::discard(object),
            1 => {
                factory.break_thing(0);
                drop(object);
            }
            _ => {
                pool.clear();
                drop(object);
            }
        }
        assert_eq!((runs.load(Ordering::SeqCst), getter.wakes(), counts(&pool)), (1, 1, (0, 0, 1, 0)));
        assert_eq!(served(&mut getter).id, 1);
        assert_eq!((factory.max_live(), factory.dropped()), (1, vec![0]));
        factory.unhook();
        drop(getter);
        all_is_dropped(Arc::into_inner(pool).expect("this is the only handle"), &factory);
    }
}

#[test]
fn clear_discards_objects_created_before() {
    let factory = Factory::default();
    let pool = filled(&factory, 5, 4);
    let out = take(&pool);
    factory.recycles.hold(1);
    let mut recycles = waiting(&pool);
    factory.recycles.hold(0);
    let others = [take(&pool), take(&pool)];
    factory.creates.hold(1);
    drop(waiting(&pool));
    drop(others);
    assert_eq!(counts(&pool), (2, 2, 1, 0));
    pool.clear();
    assert_eq!(
        (factory.dropped(), factory.creates.cancelled()),
        (vec![1, 0], 1),
        "the idle object and the pending creation"
    );
    assert_eq!(counts(&pool), (0, 2, 0, 0));
    factory.recycles.finish(1);
    assert!(recycles.is_pending());
    assert_eq!(factory.dropped(), [2], "it was recycled in vain");
    drop(out);
    assert_eq!(factory.dropped(), [3]);
    factory.creates.open();
    drop(served(&mut recycles));
    assert_eq!(counts(&pool), (1, 0, 0, 0), "what came after is kept");
    drop(recycles);
    all_is_dropped(pool, &factory);
}

#[test]
fn clear_discards_creations_begun_before() {
    let factory = Factory::default();
    let pool = factory.pool(2);
    let object = take(&pool);
    factory.creates.hold(1);
    let [mut begun, mut granted] = [(); 2].map(|()| waiting(&pool));
    Object::discard(object);
    pool.clear();
    factory.creates.open();
    drop(served(&mut begun));
    assert_eq!((factory.dropped(), counts(&pool)), (vec![0, 1], (0, 0, 1, 0)));
    drop(served(&mut granted));
    assert_eq!((factory.dropped(), counts(&pool)), (vec![], (1, 0, 0, 0)), "this one was begun after it");
    drop((begun, granted));
    all_is_dropped(pool, &factory);
}

#[test]
fn clear_leaves_a_granted_object_to_its_getter_alone() {
    for collects in [true, false] {
        let factory = Factory::default();
        let pool = factory.pool(1);
        let object = take(&pool);
        let [mut first, mut second] = [(); 2].map(|()| waiting(&pool));
        drop(object);
        pool.clear();
        assert_eq!(counts(&pool), (0, 1, 0, 1));
        if collects {
            let object = served(&mut first);
            assert_eq!((object.id, second.wakes()), (0, 0));
        } else {
            drop(std::mem::replace(&mut first, Task::new(pool.get())));
        }
        assert_eq!((factory.dropped(), second.wakes(), served(&mut second).id), (vec![0], 1, 1));
        drop((first, second));
        all_is_dropped(pool, &factory);
    }
}
