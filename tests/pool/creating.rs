//! Creations: which getter begins one, how many run at a time, and what happens to those whose getter is dropped.

use std::sync::{Arc, Mutex as StdMutex};
use std::task::Poll;

use stanchion::{GetError, Object};

use crate::common::{Log, Task, panic_of, poll_with, ready};
use crate::manager::{CALL, Event, Factory, Failed};
use crate::recycling::{End, bad_ends};
use crate::{FEW, Getter, Held, MANY, all_is_dropped, counts, filled, served, take, waiting, woken};

/// The number of the creation that failed.
#[track_caller]
pub(crate) fn failed<T>(outcome: Result<T, GetError<Failed>>) -> usize {
    match outcome.map(drop) {
        Err(GetError::Create(error)) => error.n,
        other => panic!("{other:?}"),
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Which getter drives a creation
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn a_getter_creates_if_no_object_is_idle() {
    let factory = Factory::default();
    let pool = factory.pool(2);
    assert_eq!((counts(&pool), factory.creates.begun()), ((0, 0, 0, 0), 0), "nothing is made before it is needed");
    factory.creates.hold(1);
    let [mut first, mut second, mut third] = [(); 3].map(|()| waiting(&pool));
    assert_eq!(counts(&pool), (0, 0, 2, 1), "a getter that creates is not waiting");
    factory.creates.finish(1);
    assert_eq!([first.wakes(), second.wakes(), third.wakes()], [0, 1, 0]);
    let object = served(&mut second);
    assert_eq!((object.id, counts(&pool)), (1, (0, 1, 1, 1)));
    factory.creates.finish(0);
    drop(served(&mut first));
    assert_eq!(served(&mut third).id, 0);
    assert_eq!((counts(&pool), factory.creates.begun()), ((1, 1, 0, 0), 2));
    drop((object, first, second, third));
    all_is_dropped(pool, &factory);
}

#[test]
fn a_getter_that_creates_keeps_its_place() {
    let factory = Factory::default();
    let pool = filled(&factory, 3, 1);
    factory.creates.hold(1);
    let mut object = take(&pool);
    let mut getters = [(); 5].map(|()| waiting(&pool));
    assert_eq!(counts(&pool), (0, 1, 2, 3));
    // The one object is granted to one after the other, whether they create or not.
    for getter in 0..5 {
        drop(object);
        object = served(&mut getters[getter]);
        assert_eq!(object.id, 0);
        if getter < 3 {
            // Its pending creation, or the slot for it, is granted to the first getter without one.
            woken(&getters[getter + 2]);
        }
        assert_eq!(counts(&pool), (0, 1, 2, 3_usize.saturating_sub(getter + 1)));
        assert!(getters.iter_mut().skip(getter + 1).all(|getter| getter.is_pending()));
    }
    assert_eq!((factory.creates.begun(), factory.creates.in_flight()), (3, 2), "the two stay pending");
    factory.creates.open();
    let others = [take(&pool), take(&pool)];
    assert_eq!(others.each_ref().map(|object| object.id), [1, 2], "in the order in which they were left");
    drop((object, others, getters));
    assert_eq!(factory.creates.begun(), 3);
    all_is_dropped(pool, &factory);
}

#[test]
fn a_creation_wakes_its_driver() {
    let factory = Factory::default();
    factory.creates.hold(3);
    let pool = factory.pool(1);
    let log = Arc::new(Log::default());
    let mut first = pool.get();
    for entry in [1, 2] {
        assert!(poll_with(&mut first, &log.waker(entry)).is_pending());
    }
    factory.creates.release(0);
    assert_eq!(log.take(), [2], "the waker of the last poll");
    assert!(poll_with(&mut first, &log.waker(3)).is_pending());
    let mut second = pool.get();
    assert!(poll_with(&mut second, &log.waker(4)).is_pending());
    drop(first);
    assert_eq!(log.take(), [4]);
    assert!(poll_with(&mut second, &log.waker(5)).is_pending());
    factory.creates.finish(0);
    assert_eq!(log.take(), [5]);
    assert_eq!(ready(&mut second).unwrap().id, 0);
    drop(second);
    all_is_dropped(pool, &factory);
}

#[test]
fn a_granted_creation_that_was_not_begun_goes_to_the_next() {
    let factory = Factory::default();
    let pool = factory.pool(2);
    let [first, second] = [take(&pool), take(&pool)];
    let [early, mut late, mut last] = [(); 3].map(|()| waiting(&pool));
    Object::discard(first);
    assert_eq!(([early.wakes(), late.wakes(), last.wakes()], counts(&pool)), ([1, 0, 0], (0, 1, 1, 2)));
    // It leaves before it begins.
    drop(early);
    assert_eq!(([late.wakes(), last.wakes()], counts(&pool)), ([1, 0], (0, 1, 1, 1)));
    // An object comes before it begins.
    factory.recycles.hold(1);
    drop(second);
    assert!(late.is_pending());
    assert_eq!(factory.creates.begun(), 2, "it needs none");
    assert_eq!((last.wakes(), counts(&pool)), (1, (0, 1, 1, 0)));
    factory.recycles.open();
    let object = served(&mut late);
    assert_eq!((object.id, factory.creates.begun()), (1, 2));
    assert_eq!(served(&mut last).id, 2);
    drop((object, late, last));
    assert_eq!((counts(&pool), factory.creates.begun()), ((2, 0, 0, 0), 3));
    all_is_dropped(pool, &factory);
}

#[test]
fn a_granted_creation_that_no_getter_uses_frees_its_slot() {
    let factory = Factory::default();
    let pool = factory.pool(1);
    let object = take(&pool);
    let getter = waiting(&pool);
    Object::discard(object);
    assert_eq!(counts(&pool), (0, 0, 1, 0));
    drop(getter);
    assert_eq!((counts(&pool), factory.creates.begun()), ((0, 0, 0, 0), 1));
    assert_eq!(take(&pool).id, 1);
    all_is_dropped(pool, &factory);
}

#[test]
fn a_pending_creation_is_taken_up_by_the_next_getter() {
    let factory = Factory::default();
    factory.creates.hold(2);
    let pool = factory.pool(2);
    drop(waiting(&pool));
    assert_eq!((counts(&pool), factory.creates.in_flight()), ((0, 0, 1, 0), 1), "it is kept");
    factory.creates.release(0);
    assert_eq!(factory.creates.polls(0), 1, "no getter polls it");
    let mut first = waiting(&pool);
    assert_eq!((factory.creates.polls(0), factory.creates.begun(), counts(&pool)), (2, 2, (0, 0, 2, 0)));
    let mut second = waiting(&pool);
    assert_eq!((factory.creates.begun(), counts(&pool)), (2, (0, 0, 2, 1)), "the first drives both");
    factory.creates.open();
    let objects = [served(&mut first), served(&mut second)];
    assert_eq!(objects.each_ref().map(|object| object.id), [0, 1]);
    drop((objects, first, second));
    all_is_dropped(pool, &factory);
}

#[test]
fn pending_creations_go_to_waiting_getters() {
    let factory = Factory::default();
    factory.creates.hold(1);
    let pool = factory.pool(2);
    let mut getters: Vec<_> = (0..4).map(|_| waiting(&pool)).collect();
    assert_eq!(counts(&pool), (0, 0, 2, 2));
    for first in [1, 0] {
        drop(getters.remove(first));
        let wakes: Vec<_> = getters.iter().map(Task::wakes).collect();
        assert_eq!((wakes, counts(&pool)), (if first == 1 { vec![0, 1, 0] } else { vec![1, 1] }, (0, 0, 2, first)));
    }
    factory.creates.open();
    let objects: Vec<_> = getters.iter_mut().map(served).collect();
    assert_eq!(objects.iter().map(|object| object.id).collect::<Vec<_>>(), [1, 0]);
    assert_eq!(factory.creates.begun(), 2);
    drop((objects, getters));
    all_is_dropped(pool, &factory);
}

#[test]
fn a_dropped_getter_gives_back_its_object_and_its_creation() {
    let factory = Factory::default();
    let pool = filled(&factory, 2, 1);
    factory.creates.hold(1);
    let object = take(&pool);
    let [first, mut second, mut third] = [(); 3].map(|()| waiting(&pool));
    drop(object);
    assert_eq!([first.wakes(), second.wakes(), third.wakes()], [1, 0, 0]);
    drop(first);
    woken(&second);
    let object = served(&mut second);
    assert_eq!(object.id, 0);
    woken(&third);
    assert!(third.is_pending());
    factory.creates.finish(1);
    assert_eq!(served(&mut third).id, 1);
    drop((object, second, third));
    assert_eq!((factory.creates.begun(), counts(&pool)), (2, (2, 0, 0, 0)));
    all_is_dropped(pool, &factory);
}

#[test]
fn impatient_getters_fill_the_pool_together() {
    const AWAITS: usize = 10;
    const PATIENCE: usize = 3;
    let factory = Factory::default();
    factory.creates.hold(AWAITS);
    let pool = factory.pool(2);
    let mut rounds = 0;
    let mut got: Vec<Held<'_>> = Vec::new();
    // Two at a time, each of which is dropped after so many awaits.
    while got.len() < 2 {
        rounds += 1;
        assert!(rounds <= AWAITS, "they never get one");
        let mut getters: Vec<_> = (0..2 - got.len()).map(|_| waiting(&pool)).collect();
        for _ in 0..PATIENCE {
            factory.step();
            let served = getters.iter_mut().filter_map(|getter| match getter.poll() {
                Poll::Ready(object) => object.ok(),
                Poll::Pending => None,
            });
            got.extend(served);
            if !got.is_empty() {
                break;
            }
        }
        counts(&pool);
    }
    assert_eq!((rounds, factory.creates.begun(), factory.creates.cancelled()), (AWAITS.div_ceil(PATIENCE), 2, 0));
    drop(got);
    all_is_dropped(pool, &factory);
}

// ---------------------------------------------------------------------------------------------------------------------
// How creations end
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn a_failed_creation_delays_no_other_getter() {
    const AWAITS: usize = 3;
    for (end, point) in bad_ends(AWAITS) {
        let context = format!("{end:?} at {point}");
        let factory = Factory::default();
        let pool = factory.pool(1);
        let object = take(&pool);
        factory.creates.hold(AWAITS);
        match end {
            End::Fails => factory.creates.fail_at(1, point),
            End::Panics => factory.creates.panic_at(1, point),
            End::Dropped => {}
        }
        let [mut first, mut second] = [(); 2].map(|()| waiting(&pool));
        Object::discard(object);
        for _ in 0..if point == CALL { 0 } else { point } {
            assert!(first.is_pending(), "{context}");
            assert_eq!((second.wakes(), counts(&pool)), (0, (0, 0, 1, 1)), "{context}");
            factory.creates.release(1);
        }
        match end {
            End::Fails => assert_eq!(failed(first.ready()), 1, "{context}"),
            End::Panics => assert_eq!(panic_of(|| first.poll()), "call 1 panics", "{context}"),
            End::Dropped => drop(std::mem::replace(&mut first, Task::new(pool.get()))),
        }
        assert_eq!((second.wakes(), counts(&pool)), (1, (0, 0, 1, 0)), "{context}");
        // A creation that was not ready is adopted, one that has ended is begun afresh.
        let next = if end == End::Dropped { 1 } else { 2 };
        if point < AWAITS || end != End::Dropped {
            assert!(second.is_pending(), "{context}");
            factory.creates.finish(next);
        }
        assert_eq!(served(&mut second).id, next, "{context}");
        assert_eq!(
            (counts(&pool), factory.max_live()),
            ((1, 0, 0, 0), 1),
            "{context}: a getter that panicked is in no queue"
        );
        drop((first, second));
        all_is_dropped(pool, &factory);
    }
}

#[test]
fn a_failed_creation_without_waiters_frees_its_slot() {
    for (end, point) in bad_ends(1).filter(|&(end, _)| end != End::Dropped) {
        let factory = Factory::default();
        let pool = factory.pool(1);
        factory.creates.hold(1);
        match end {
            End::Fails => factory.creates.fail_at(0, point),
            _ => factory.creates.panic_at(0, point),
        }
        let mut getter = Task::new(pool.get());
        if point == 1 {
            assert!(getter.is_pending());
            factory.creates.finish(0);
        }
        match end {
            End::Fails => assert_eq!(failed(getter.ready()), 0),
            _ => assert_eq!(panic_of(|| getter.poll()), "call 0 panics"),
        }
        assert_eq!(counts(&pool), (0, 0, 0, 0), "{end:?} at {point}");
        drop(getter);
        factory.creates.hold(0);
        assert_eq!(take(&pool).id, 1);
        all_is_dropped(pool, &factory);
    }
}

#[test]
fn a_creation_that_failed_while_pending_is_begun_afresh() {
    for (late, waits) in [(false, false), (false, true), (true, false), (true, true)] {
        let factory = Factory::default();
        factory.creates.hold(1);
        factory.creates.fail_at(0, 1);
        let pool = factory.pool(1);
        let first = waiting(&pool);
        // A waiting getter is granted it; a later one takes it up.
        let mut second = Task::new(pool.get());
        if waits {
            assert!(second.is_pending());
        }
        drop(first);
        if late {
            assert!(second.is_pending());
            factory.creates.finish(0);
            assert_eq!(failed(second.ready()), 0, "this one it has seen fail");
            assert_eq!(counts(&pool), (0, 0, 0, 0));
        } else {
            factory.creates.finish(0);
            assert!(second.is_pending(), "it begins one of its own");
            assert_eq!((factory.creates.begun(), counts(&pool), factory.max_live()), (2, (0, 0, 1, 0), 1));
            factory.creates.finish(1);
            assert_eq!(served(&mut second).id, 1);
        }
        drop(second);
        all_is_dropped(pool, &factory);
    }
}

#[test]
fn an_object_created_while_pending_is_recycled_first() {
    for dead in [false, true] {
        let factory = Factory::default();
        let pool = factory.pool(1);
        factory.creates.hold(1);
        factory.recycles.hold(1);
        drop(waiting(&pool));
        factory.creates.open();
        let mut getter = waiting(&pool);
        assert_eq!((counts(&pool), factory.recycles.objects()), ((0, 1, 0, 0), vec![0]));
        if dead {
            factory.kill(0);
        }
        factory.recycles.finish(0);
        assert_eq!(served(&mut getter).id, usize::from(dead));
        drop(getter);
        assert_eq!((counts(&pool), factory.creates.begun()), ((1, 0, 0, 0), 1 + usize::from(dead)));
        all_is_dropped(pool, &factory);
    }
}

#[test]
fn an_object_created_while_pending_yields_to_a_granted_one() {
    for waits in [false, true] {
        let factory = Factory::default();
        let pool = filled(&factory, 2, 1);
        factory.creates.hold(1);
        let object = take(&pool);
        let [first, mut second] = [(); 2].map(|()| waiting(&pool));
        drop(first);
        factory.creates.open();
        factory.recycles.hold(1);
        drop(object);
        // It was handed the creation, which has ended since, and then an object.
        assert!(second.is_pending());
        let mut third = Task::new(pool.get());
        if waits {
            assert!(third.is_pending());
        }
        factory.recycles.open();
        let [object, other] = [served(&mut second), served(&mut third)];
        assert_eq!([object.id, other.id], [0, 1]);
        assert_eq!((counts(&pool), factory.creates.begun(), factory.dropped()), ((0, 2, 0, 0), 2, vec![]));
        drop((object, other, second, third));
        all_is_dropped(pool, &factory);
    }
}

#[test]
fn a_creation_begun_afresh_reports_its_failure() {
    let factory = Factory::default();
    factory.creates.hold(1);
    factory.creates.fail_at(0, 1);
    factory.creates.fail_at(1, 0);
    let pool = factory.pool(1);
    drop(waiting(&pool));
    factory.creates.finish(0);
    assert_eq!(failed(ready(&mut pool.get())), 1);
    assert_eq!((counts(&pool), factory.creates.begun()), ((0, 0, 0, 0), 2));
    all_is_dropped(pool, &factory);
}

#[test]
fn a_creation_that_ends_beside_a_grant_leaves_one_object() {
    let factory = Factory::default();
    let pool = filled(&factory, 2, 1);
    factory.creates.hold(1);
    let object = take(&pool);
    let [mut first, mut second] = [(); 2].map(|()| waiting(&pool));
    factory.creates.finish(1);
    drop(object);
    let object = served(&mut first);
    woken(&second);
    assert_eq!(served(&mut second).id + object.id, 1, "one was made, the other returned");
    drop((object, first, second));
    assert_eq!((counts(&pool), factory.creates.begun(), factory.dropped()), ((2, 0, 0, 0), 2, vec![]));
    all_is_dropped(pool, &factory);
}

#[test]
fn a_creation_that_fails_beside_a_grant_is_not_reported() {
    let factory = Factory::default();
    let pool = filled(&factory, 2, 1);
    factory.creates.hold(1);
    factory.creates.fail_at(1, 1);
    let object = take(&pool);
    let [mut first, mut second] = [(); 2].map(|()| waiting(&pool));
    factory.creates.finish(1);
    drop(object);
    let object = served(&mut first);
    assert_eq!(object.id, 0);
    // Its slot, or its failed creation that no getter has polled, goes to the next one.
    woken(&second);
    assert!(second.is_pending());
    assert_eq!((factory.creates.begun(), counts(&pool)), (3, (0, 1, 1, 0)));
    factory.creates.finish(2);
    assert_eq!(served(&mut second).id, 2);
    drop((object, first, second));
    all_is_dropped(pool, &factory);
}

#[test]
fn a_creation_error_is_reported_if_the_recycling_fails_too() {
    for dead in [false, true] {
        let factory = Factory::default();
        let pool = filled(&factory, 2, 1);
        factory.creates.hold(1);
        factory.creates.fail_at(1, 1);
        let object = take(&pool);
        factory.recycles.hold(1);
        let [mut first, mut second] = [(); 2].map(|()| waiting(&pool));
        drop(object);
        assert!(first.is_pending());
        factory.creates.finish(1);
        assert!(first.is_pending(), "it has an object still that may be of use");
        assert_eq!((second.wakes(), counts(&pool)), (1, (0, 1, 1, 0)), "the room is the next one's");
        if dead {
            factory.kill(0);
        }
        factory.recycles.finish(1);
        if dead {
            assert_eq!(failed(first.ready()), 1);
            assert_eq!((factory.dropped(), counts(&pool)), (vec![0], (0, 0, 1, 0)));
        } else {
            factory.recycles.open();
            assert_eq!(served(&mut first).id, 0);
            assert_eq!(served(&mut second).id, 0, "it was granted to the getter that may create");
        }
        drop((first, second));
        assert_eq!(factory.creates.begun(), 2);
        all_is_dropped(pool, &factory);
    }
}

#[test]
fn an_object_granted_as_a_creation_ends_goes_to_the_next() {
    for fails in [false, true] {
        let factory = Factory::default();
        let pool = Arc::new(filled(&factory, 2, 1));
        factory.creates.hold(1);
        if fails {
            factory.creates.fail_at(1, 1);
        }
        let object = StdMutex::new(Some(ready(&mut pool.clone().get_owned()).unwrap()));
        let [mut first, mut second] = [(); 2].map(|()| waiting(&pool));
        factory.creates.finish(1);
        factory.hook(move |event| {
            if event == Event::Create(1, 1) {
                drop(object.lock().unwrap().take());
            }
        });
        let served_first = served(&mut first);
        woken(&second);
        if fails {
            assert_eq!((served_first.id, factory.creates.in_flight()), (0, 0));
            assert!(second.is_pending());
            factory.creates.open();
            assert_eq!(served(&mut second).id, 2);
        } else {
            assert_eq!((served_first.id, served(&mut second).id), (1, 0));
        }
        assert_eq!(factory.dropped(), []);
        drop((served_first, first, second));
        factory.unhook();
        all_is_dropped(Arc::into_inner(pool).expect("this is the only handle"), &factory);
    }
}

#[test]
fn an_object_granted_late_is_preferred_to_an_old_creation() {
    let factory = Factory::default();
    let pool = Arc::new(filled(&factory, 2, 1));
    factory.creates.hold(1);
    let object = StdMutex::new(Some(ready(&mut pool.clone().get_owned()).unwrap()));
    let [first, mut second, mut third] = [(); 3].map(|()| waiting(&pool));
    drop(first);
    factory.creates.finish(1);
    factory.hook(move |event| {
        if event == Event::Create(1, 1) {
            drop(object.lock().unwrap().take());
        }
    });
    let object = served(&mut second);
    woken(&third);
    assert_eq!((object.id, served(&mut third).id), (0, 1));
    drop((object, second, third));
    factory.unhook();
    all_is_dropped(Arc::into_inner(pool).expect("this is the only handle"), &factory);
}

#[test]
fn of_a_creation_and_a_recycling_the_first_to_end_serves() {
    for creation_first in [false, true] {
        let factory = Factory::default();
        let pool = filled(&factory, 2, 1);
        factory.creates.hold(2);
        let object = take(&pool);
        factory.recycles.hold(1);
        let mut getter = waiting(&pool);
        drop(object);
        assert!(getter.is_pending());
        assert_eq!((counts(&pool), factory.recycles.in_flight()), ((0, 1, 1, 0), 1));
        let polls = factory.creates.polls(1);
        factory.creates.release(1);
        assert!(getter.is_pending());
        assert_eq!(factory.creates.polls(1), polls + 1);
        if creation_first {
            factory.creates.finish(1);
            assert_eq!(served(&mut getter).id, 1);
            assert_eq!((factory.dropped(), counts(&pool)), (vec![], (1, 1, 0, 0)), "its recycling is pending");
        } else {
            factory.recycles.finish(1);
            assert_eq!(served(&mut getter).id, 0);
            assert_eq!((factory.dropped(), counts(&pool)), (vec![], (1, 0, 1, 0)));
        }
        drop(getter);
        all_is_dropped(pool, &factory);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// The number of creations at a time
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn a_pool_at_most_doubles_per_creation() {
    let factory = Factory::default();
    let pool = factory.pool(MANY);
    factory.creates.hold(1);
    let mut getters: Vec<_> = (0..MANY).map(|_| waiting(&pool)).collect();
    let mut objects = Vec::new();
    assert_eq!(counts(&pool), (0, 0, FEW, MANY - FEW));
    for n in 0..MANY {
        assert!(getters[n..].iter_mut().all(|getter| getter.is_pending()), "each that may create begins");
        factory.creates.finish(n);
        objects.push(served(&mut getters[n]));
        let creating = (n + 1).max(FEW).min(MANY - n - 1);
        assert_eq!(counts(&pool), (0, n + 1, creating, MANY - n - 1 - creating));
        let last = n + creating;
        assert!(getters[last].wakes() > 0 || last < FEW, "the longest waiting is woken to create");
    }
    assert_eq!(factory.creates.max_in_flight(), MANY / 2);
    drop((objects, getters));
    assert_eq!(counts(&pool), (MANY, 0, 0, 0));
    all_is_dropped(pool, &factory);
}

#[test]
fn a_getter_beyond_the_limit_of_creations_waits_in_order() {
    let factory = Factory::default();
    let pool = factory.pool(MANY);
    factory.creates.hold(1);
    let mut getters: Vec<Getter<'_>> = (0..FEW + 2).map(|_| waiting(&pool)).collect();
    drop(getters.pop());
    factory.creates.panic_at(0, 1);
    factory.creates.finish(0);
    assert_eq!(panic_of(|| getters[0].poll()), "call 0 panics");
    woken(&getters[FEW]);
    let late = waiting(&pool);
    assert_eq!((counts(&pool), late.wakes()), ((0, 0, FEW, 1), 0));
    factory.creates.hold(0);
    assert_eq!(served(&mut getters[FEW]).id, FEW);
    drop((getters, late));
    all_is_dropped(pool, &factory);
}

/// A burst of 50, each of which uses an object for 2 ms where it takes 150 ms to create one: the creations that it begins,
/// and when the last one is through.
fn burst(idle: usize) -> (usize, u64) {
    const GETTERS: usize = 50;
    const CREATION: u64 = 150;
    const USE: u64 = 2;
    let factory = Factory::default();
    let pool = filled(&factory, GETTERS, idle);
    factory.creates.hold(1);
    let mut getters: Vec<_> = (0..GETTERS).map(|_| (Task::new(pool.get()), None)).collect();
    let mut created_at = Vec::new();
    let mut uses: Vec<(u64, Held<'_>)> = Vec::new();
    let mut order = Vec::new();
    for now in 0..GETTERS as u64 * (CREATION + USE) {
        uses.retain(|&(end, _)| end > now);
        created_at
            .iter()
            .zip(idle..)
            .filter(|&(&end, _)| end == now)
            .for_each(|(_, creation)| factory.creates.finish(creation));
        // Only getters that were woken are polled.
        let mut quiet = false;
        while !std::mem::replace(&mut quiet, true) {
            for (i, (getter, wakes)) in getters.iter_mut().enumerate() {
                if *wakes != Some(getter.wakes()) && !order.contains(&i) {
                    *wakes = Some(getter.wakes());
                    quiet = false;
                    if let Poll::Ready(object) = getter.poll() {
                        uses.push((now + USE, object.unwrap()));
                        order.push(i);
                    }
                }
            }
        }
        counts(&pool);
        created_at.resize(factory.creates.begun() - idle, now + CREATION);
        if order.len() == GETTERS && uses.is_empty() {
            assert_eq!(order, (0..GETTERS).collect::<Vec<_>>(), "first come, first served");
            drop((getters, uses));
            all_is_dropped(pool, &factory);
            return (created_at.len(), now);
        }
    }
    panic!("some were never served")
}

#[test]
fn a_burst_opens_few_connections_where_there_are_none() {
    // Eight at first, and eight more when those are ready; two milliseconds later they are returned and used by turns. Two
    // getters take up pending creations, and begin one of their own beside that.
    assert_eq!(burst(0), (2 * FEW + 2, 164));
}

#[test]
fn a_burst_opens_few_connections_where_there_are_some() {
    // Five serve fifty getters before the first creation ends.
    assert_eq!(burst(5), (FEW, 20));
}
