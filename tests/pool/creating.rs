//! Objects that are made: by whom, how many at a time, and what becomes of a creation whose getter has gone.

use std::sync::{Arc, Mutex as StdMutex};
use std::task::Poll;

use stanchion::{GetError, Object, Pool};

use crate::common::{Log, Task, panic_of, poll, poll_with, ready};
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
// Whose creation it is
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn a_getter_creates_what_is_not_there() {
    let factory = Factory::default();
    let pool = factory.pool(2);
    assert_eq!((counts(&pool), factory.creates.begun()), ((0, 0, 0, 0), 0), "nothing is made before it is needed");
    factory.creates.hold(1);
    let [mut first, mut second, mut third] = [(); 3].map(|()| waiting(&pool));
    assert_eq!(counts(&pool), (0, 0, 2, 1), "who creates is not waiting");
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
    // The one object that there is goes from one to the next, whether they create or not.
    for getter in 0..5 {
        drop(object);
        object = served(&mut getters[getter]);
        assert_eq!(object.id, 0);
        if getter < 3 {
            // What it left behind, or was to have begun, goes to the first who had none.
            woken(&getters[getter + 2]);
        }
        assert_eq!(counts(&pool), (0, 1, 2, 3_usize.saturating_sub(getter + 1)));
        assert!(getters.iter_mut().skip(getter + 1).all(|getter| getter.is_pending()));
    }
    assert_eq!(
        (factory.creates.begun(), factory.creates.in_flight()),
        (3, 2),
        "the two are kept for whoever comes next"
    );
    factory.creates.open();
    let others = [take(&pool), take(&pool)];
    assert_eq!(others.each_ref().map(|object| object.id), [1, 2], "in the order in which they were left");
    drop((object, others, getters));
    assert_eq!(factory.creates.begun(), 3);
    all_is_dropped(pool, &factory);
}

#[test]
fn a_creation_wakes_whoever_holds_it() {
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
fn a_right_that_was_not_used_goes_to_the_next() {
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
fn a_right_that_nobody_wants_is_room_again() {
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
fn a_creation_left_behind_is_adopted_by_the_next_who_would_create() {
    let factory = Factory::default();
    factory.creates.hold(2);
    let pool = factory.pool(2);
    drop(waiting(&pool));
    assert_eq!((counts(&pool), factory.creates.in_flight()), ((0, 0, 1, 0), 1), "it is kept");
    factory.creates.release(0);
    assert_eq!(factory.creates.polls(0), 1, "nobody polls it");
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
fn creations_left_behind_are_for_those_who_wait() {
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
fn who_is_granted_an_object_and_leaves_gives_back_both_that_and_its_creation() {
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
fn callers_without_patience_get_the_pool_filled_all_the_same() {
    const AWAITS: usize = 10;
    const PATIENCE: usize = 3;
    let factory = Factory::default();
    factory.creates.hold(AWAITS);
    let pool = factory.pool(2);
    let mut rounds = 0;
    let mut got: Vec<Held<'_>> = Vec::new();
    // Two at a time, each of whom waits for so many awaits and then goes.
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
fn a_creation_that_ends_badly_holds_nobody_up() {
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
        // What was dropped is adopted, what is over is begun anew.
        let next = if end == End::Dropped { 1 } else { 2 };
        if point < AWAITS || end != End::Dropped {
            assert!(second.is_pending(), "{context}");
            factory.creates.finish(next);
        }
        assert_eq!(served(&mut second).id, next, "{context}");
        assert_eq!((counts(&pool), factory.max_live()), ((1, 0, 0, 0), 1), "{context}: who panicked is in no line");
        drop((first, second));
        all_is_dropped(pool, &factory);
    }
}

#[test]
fn a_creation_that_ends_badly_with_nobody_waiting_is_room_again() {
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
fn a_creation_that_failed_while_nobody_looked_is_not_the_adopters_failure() {
    for (late, waits) in [(false, false), (false, true), (true, false), (true, true)] {
        let factory = Factory::default();
        factory.creates.hold(1);
        factory.creates.fail_at(0, 1);
        let pool = factory.pool(1);
        let first = waiting(&pool);
        // Who waits is handed it; who comes later finds it.
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
fn what_was_made_while_nobody_looked_is_recycled_like_what_was_idle() {
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
fn what_was_made_while_nobody_looked_is_the_next_ones_if_there_is_another_object() {
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
fn the_adopters_own_creation_fails_for_the_adopter() {
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
fn a_creation_that_ends_with_an_object_granted_leaves_one_for_the_next() {
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
fn a_creation_that_fails_with_an_object_granted_fails_nobody() {
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
    // Its slot, or its creation that nobody has seen fail, is the next one's.
    woken(&second);
    assert!(second.is_pending());
    assert_eq!((factory.creates.begun(), counts(&pool)), (3, (0, 1, 1, 0)));
    factory.creates.finish(2);
    assert_eq!(served(&mut second).id, 2);
    drop((object, first, second));
    all_is_dropped(pool, &factory);
}

#[test]
fn a_creation_that_fails_beside_a_recycle_is_told_if_that_fails_too() {
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
            assert_eq!(served(&mut second).id, 0, "it was returned to who is to create");
        }
        drop((first, second));
        assert_eq!(factory.creates.begun(), 2);
        all_is_dropped(pool, &factory);
    }
}

#[test]
fn an_object_granted_in_the_last_moment_of_a_creation_goes_on_to_the_next() {
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
        all_is_dropped(Arc::into_inner(pool).expect("nobody else has it"), &factory);
    }
}

#[test]
fn an_object_granted_in_the_last_moment_outweighs_what_was_made_while_nobody_looked() {
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
    all_is_dropped(Arc::into_inner(pool).expect("nobody else has it"), &factory);
}

#[test]
fn a_creation_goes_on_beside_a_recycle_and_what_ends_first_serves() {
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
// How many at a time
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn a_pool_at_most_doubles_while_an_object_is_made() {
    let factory = Factory::default();
    let pool = factory.pool(MANY);
    factory.creates.hold(1);
    let mut getters: Vec<_> = (0..MANY).map(|_| waiting(&pool)).collect();
    let mut objects = Vec::new();
    assert_eq!(counts(&pool), (0, 0, FEW, MANY - FEW));
    for n in 0..MANY {
        assert!(getters[n..].iter_mut().all(|getter| getter.is_pending()), "who may create begins");
        factory.creates.finish(n);
        objects.push(served(&mut getters[n]));
        let creating = (n + 1).max(FEW).min(MANY - n - 1);
        assert_eq!(counts(&pool), (0, n + 1, creating, MANY - n - 1 - creating));
        let last = n + creating;
        assert!(getters[last].wakes() > 0 || last < FEW, "the longest waiting is told that it may create");
    }
    assert_eq!(factory.creates.max_in_flight(), MANY / 2);
    drop((objects, getters));
    assert_eq!(counts(&pool), (MANY, 0, 0, 0));
    all_is_dropped(pool, &factory);
}

#[test]
fn who_is_over_the_limit_of_growth_waits_behind_those_who_do() {
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

/// A burst of 50, who each use an object for 2 ms where it takes 150 ms to create one: how many creations it begins,
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
        // Nobody is polled who was not woken.
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
    // Eight at first, and eight more when those are there; two milliseconds later they are back and go round. Two getters
    // take up creations that those leave, and begin one of their own beside that.
    assert_eq!(burst(0), (2 * FEW + 2, 164));
}

#[test]
fn a_burst_opens_few_connections_where_there_are_some() {
    // Five go round and are done with fifty before the first creation ends.
    assert_eq!(burst(5), (FEW, 20));
}

// ---------------------------------------------------------------------------------------------------------------------
// Ahead of need
// ---------------------------------------------------------------------------------------------------------------------

/// A pool of at most 5 that should have 3 idle, whose creations take one await.
fn warmed() -> (Factory, Pool<Factory>) {
    let factory = Factory::default();
    factory.creates.hold(1);
    let pool = factory.builder().max_size(5).min_idle(3).build();
    (factory, pool)
}

#[test]
fn replenish_creates_what_is_missing_one_after_another() {
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
    // Those in use are no reserve.
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
fn replenish_has_nothing_to_do_unless_asked_for() {
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
fn replenish_leaves_its_creation_behind_and_adopts_what_it_finds() {
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
fn replenish_serves_those_who_wait_before_the_reserve() {
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
    assert!(ready(&mut Box::pin(pool.replenish())).is_ok(), "it is not for it to create while somebody waits");
    assert_eq!(factory.creates.begun(), 1);
    drop((object, getter, other, replenish));
    all_is_dropped(pool, &factory);
}

#[test]
fn replenish_makes_nothing_while_somebody_waits_to_create() {
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
fn replenish_hands_its_creation_to_who_would_wait_for_one_when_it_is_dropped() {
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
fn a_failure_of_replenish_lets_those_who_wait_create() {
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
fn two_who_replenish_make_no_more_than_one() {
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
fn an_error_that_nobody_wants_is_dropped_outside_the_lock() {
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
    all_is_dropped(Arc::into_inner(pool).expect("nobody else has it"), &factory);
}
