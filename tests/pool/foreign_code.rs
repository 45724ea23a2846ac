//! Objects, futures, managers and wakers that panic or re-enter the pool: what becomes of it, case by case.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex as StdMutex};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use stanchion::{Get, GetError, Manager, Metrics, Object, Pool, Status};

use crate::common::hostile::Hostile;
use crate::common::{self, Check, Clock, Log, Task, assert_numbers, ends, panic_of, poll, poll_with, ready};
use crate::manager::{CALL, Event, Factory};
use crate::{FEW, Getter, Held, TestPool, all_is_dropped, counts, filled, served, take, waiting, woken};

/// Whether the internal lock is taken right now: `Debug` omits the counts then. Nothing hangs if it is.
pub(crate) fn is_locked_inside<M: Manager>(pool: &Pool<M>) -> bool {
    !format!("{pool:?}").contains("in_use")
}

/// A pool that foreign code can refer to, and its manager.
fn leaked(max_size: usize) -> (&'static TestPool, Factory) {
    let factory = Factory::default();
    (Box::leak(Box::new(factory.pool(max_size))), factory)
}

// ---------------------------------------------------------------------------------------------------------------------
// Re-entering
// ---------------------------------------------------------------------------------------------------------------------

/// A way to make a pool drop its two idle objects.
type Way = (&'static str, fn(&TestPool, &Factory, &Clock));

const WAYS: [Way; 8] = [
    ("broken ones come back", |pool, factory, _| {
        let [one, other] = [take(pool), take(pool)];
        kill_all(Factory::break_thing, factory);
        both(|| drop(one), || drop(other));
    }),
    ("discard", |pool, _, _| {
        let [one, other] = [take(pool), take(pool)];
        both(|| Object::discard(one), || Object::discard(other));
    }),
    ("clear", |pool, _, _| pool.clear()),
    ("resize", |pool, _, _| both(|| pool.resize(0), || pool.resize(2))),
    ("maintain", |pool, _, clock| {
        pool.maintain(clock.now() + HOUR);
    }),
    ("a getter meets what is over its time", |pool, _, clock| {
        clock.advance(HOUR);
        both(|| drop(poll(&mut pool.get())), || drop(poll(&mut pool.get())));
    }),
    ("what is over its time comes back", |pool, _, clock| {
        let [one, other] = [take(pool), take(pool)];
        clock.advance(10 * HOUR);
        both(|| drop(one), || drop(other));
    }),
    ("recycles fail", |pool, factory, _| {
        kill_all(Factory::kill, factory);
        both(|| drop(poll(&mut pool.get())), || drop(poll(&mut pool.get())));
    }),
];

const HOUR: Duration = Duration::from_secs(3_600);

fn kill_all(kill: fn(&Factory, usize), factory: &Factory) {
    (0..2).for_each(|id| kill(factory, id));
}

/// Does both, and panics with the first panic then.
fn both(one: impl FnOnce(), other: impl FnOnce()) {
    let [one, other] = [catch_unwind(AssertUnwindSafe(one)), catch_unwind(AssertUnwindSafe(other))];
    one.and(other).unwrap_or_else(|payload| resume_unwind(payload));
}

/// A pool of two that are idle, whose time passes when the test says so.
fn timed() -> (Arc<TestPool>, Factory, Clock) {
    let (factory, clock) = (Factory::default(), Clock::new());
    let builder = factory.builder().max_size(2).clock(clock.source());
    let pool = Arc::new(builder.idle_timeout(HOUR).max_lifetime(10 * HOUR).build());
    drop([take(&pool), take(&pool)]);
    (pool, factory, clock)
}

#[test]
fn an_object_counts_until_its_drop_is_over() {
    for (name, way) in WAYS {
        ends(move || {
            let (pool, factory, clock) = timed();
            let line = Arc::new(StdMutex::new(Vec::new()));
            let (inside, seen) = (Arc::downgrade(&pool), line.clone());
            let events = factory.clone();
            factory.hook(move |event| {
                let (Event::Drop(id), Some(pool)) = (event, inside.upgrade()) else { return };
                if id > 1 {
                    return;
                }
                let Status { size, in_use, .. } = pool.status();
                assert!(in_use > 0 && size <= 2, "{name}: {:?}", pool.status());
                let mut get = Task::new(pool.clone().get_owned());
                let _ = get.poll().is_ready();
                seen.lock().unwrap().push(get);
                assert!(events.live() <= 2, "{name}");
            });
            way(&pool, &factory, &clock);
            factory.unhook();
            factory.recycles.open();
            let mut line = std::mem::take(&mut *line.lock().unwrap());
            assert!(!line.is_empty(), "{name}: nothing was dropped");
            for get in &mut line {
                if get.wakes() > 0 {
                    assert!(get.poll().is_ready(), "{name}: the slot is free");
                }
            }
            drop(line);
            pool.check();
            assert_eq!(factory.max_live(), 2, "{name}");
        });
    }
}

#[test]
fn an_object_that_left_counts_no_more_when_it_is_dropped() {
    ends(|| {
        let factory = Factory::default();
        let pool = Arc::new(filled(&factory, 3, 2));
        let inside = pool.clone();
        factory.hook(move |event| {
            if let Event::Drop(id) = event {
                assert_eq!(inside.status().size, if id == 1 { 1 } else { 0 });
            }
        });
        drop(Object::detach(take(&pool)));
        drop(pool.retain(|_, _| false));
        assert_eq!((factory.dropped(), counts(&pool)), (vec![1, 0], (0, 0, 0, 0)));
        pool.resize(0);
        assert!(pool.add(factory.thing(100)).is_err_and(|thing| thing.id == 100));
        factory.unhook();
    });
}

#[test]
fn an_object_that_comes_back_may_find_itself_the_last_that_keeps_the_pool() {
    ends(|| {
        for broken in [false, true] {
            let factory = Factory::default();
            let pool = Arc::new(filled(&factory, 2, 2));
            let object = ready(&mut pool.clone().get_owned()).ok().unwrap();
            if broken {
                factory.break_thing(object.id);
            }
            let last = StdMutex::new(Some(pool));
            factory.hook(move |event| {
                if let Event::IsBroken(_) = event {
                    drop(last.lock().unwrap().take());
                }
            });
            drop(object);
            assert_eq!((factory.alive(), factory.live()), (0, 0));
            assert_eq!(factory.dropped(), if broken { [1, 0] } else { [0, 1] });
        }
    });
}

#[test]
fn a_waker_may_drop_its_getter_and_the_last_that_keeps_the_pool() {
    ends(|| {
        let factory = Factory::default();
        let pool = Arc::new(factory.pool(1));
        let object = ready(&mut pool.clone().get_owned()).ok().unwrap();
        let line = Arc::new(StdMutex::new(Vec::new()));
        let inside = line.clone();
        let waker = Hostile::new().on_wake(move || {
            let getters = std::mem::take(&mut *inside.lock().unwrap());
            drop(getters);
        });
        let mut get = pool.get_owned();
        assert!(poll_with(&mut get, &waker.waker()).is_pending());
        line.lock().unwrap().push(get);
        drop(object);
        assert!(line.lock().unwrap().is_empty());
        assert_eq!((factory.alive(), factory.live()), (0, 0));
    });
}

/// Getters that wakers can get at.
type Slots = Arc<StdMutex<Vec<Option<Get<'static, Factory>>>>>;

fn pick(slots: &Slots, number: usize) -> Get<'static, Factory> {
    slots.lock().unwrap()[number].take().unwrap()
}

/// Twelve wait, of whom `act` serves some at once; the waker of the first does `inside`. Returns who was woken.
fn at_the_first_wake(
    pool: &'static TestPool,
    act: impl FnOnce(),
    inside: impl Fn(&Slots) + Send + Sync + 'static,
) -> (Slots, Vec<usize>) {
    let (slots, log) = (Slots::default(), Arc::new(Log::default()));
    let (slots_of_first, log_of_first) = (slots.clone(), log.clone());
    let first = Hostile::new().on_wake(move || {
        log_of_first.push(0);
        pool.check();
        inside(&slots_of_first);
        pool.check();
    });
    let first = first.waker();
    for number in 0..12 {
        let mut get = pool.get();
        assert!(poll_with(&mut get, &if number == 0 { first.clone() } else { log.waker(number) }).is_pending());
        slots.lock().unwrap().push(Some(get));
    }
    act();
    let mut woken = log.take();
    woken.sort_unstable();
    (slots, woken)
}

#[test]
fn who_may_create_may_be_polled_or_dropped_before_it_is_woken() {
    let (pool, _) = leaked(1);
    let object = take(pool);
    let served_early = Arc::new(StdMutex::new(None));
    let early = served_early.clone();
    let (slots, woken) = at_the_first_wake(
        pool,
        || pool.resize(8),
        move |slots| {
            *early.lock().unwrap() = Some(ready(&mut pick(slots, 6)).unwrap());
            // Two rights more for those behind.
            drop(pick(slots, 5));
            drop(pick(slots, 4));
            drop(pick(slots, 9));
        },
    );
    // Some wakers may have been on their way already.
    let needed: Vec<_> = woken.into_iter().filter(|number| ![4, 5, 6].contains(number)).collect();
    assert_numbers(&needed, [0, 1, 2, 3, 7, 8]);
    assert_eq!(counts(pool), (0, 2, 6, 2));
    let objects: Vec<_> = [0, 1, 2, 3, 7, 8].map(|number| ready(&mut pick(&slots, number)).unwrap()).into();
    drop((objects, object));
    assert!([10, 11].map(|number| ready(&mut pick(&slots, number)).is_ok()).iter().all(|&is_ok| is_ok));
    drop(served_early.lock().unwrap().take());
    assert_eq!(counts(pool), (8, 0, 0, 0));
}

#[test]
fn one_turned_away_may_be_polled_or_dropped_before_it_is_woken() {
    let (pool, _) = leaked(1);
    let object = take(pool);
    let (slots, mut woken) = at_the_first_wake(
        pool,
        || pool.close(),
        |slots| {
            assert!(matches!(ready(&mut pick(slots, 7)), Err(GetError::Closed)));
            drop(pick(slots, 8));
        },
    );
    woken.retain(|number| ![7, 8].contains(number));
    assert_numbers(&woken, [0, 1, 2, 3, 4, 5, 6, 9, 10, 11]);
    assert!(woken.iter().all(|&number| matches!(ready(&mut pick(&slots, number)), Err(GetError::Closed))));
    drop(object);
    assert_eq!(counts(pool), (0, 0, 0, 0));
}

#[test]
fn the_pool_may_be_closed_while_those_are_woken_who_may_create() {
    let (pool, factory) = leaked(1);
    let object = take(pool);
    let (slots, woken) = at_the_first_wake(pool, || pool.resize(8), |_| pool.close());
    assert_numbers(&woken, 0..12);
    drop(object);
    for number in 0..12 {
        assert!(matches!(ready(&mut pick(&slots, number)), Err(GetError::Closed)));
    }
    assert_eq!((counts(pool), factory.creates.begun()), ((0, 0, 0, 0), 1));
}

#[test]
fn a_broken_object_comes_back_on_a_thread_without_a_runtime() {
    let (pool, factory) = leaked(1);
    let object = take(pool);
    factory.break_thing(object.id);
    let mut getter = waiting(pool);
    thread::spawn(move || drop(object)).join().unwrap();
    woken(&getter);
    assert_eq!((served(&mut getter).id, factory.max_live()), (1, 1));
}

// ---------------------------------------------------------------------------------------------------------------------
// Panicking
// ---------------------------------------------------------------------------------------------------------------------

fn panics_when_cloned() -> Waker {
    Hostile::new().on_clone(|| panic!("the clone")).waker()
}

fn panics_when_woken() -> Waker {
    Hostile::new().on_wake(|| panic!("the wake")).waker()
}

/// A waker that panics in its drop, but only in the drop that `armed` waits for.
fn panics_when_dropped(armed: &Arc<AtomicUsize>) -> Waker {
    let armed = armed.clone();
    Hostile::new().on_drop(move || assert_eq!(armed.swap(0, Ordering::Relaxed), 0, "the drop")).waker()
}

#[test]
fn a_waker_that_panics_when_cloned_loses_nothing() {
    for waits_already in [false, true] {
        for creates in [false, true] {
            let factory = Factory::default();
            let pool = factory.pool(1);
            factory.creates.hold(usize::from(creates));
            let object = (!creates).then(|| take(&pool));
            let mut getter = Task::new(pool.get());
            assert!(!waits_already || getter.is_pending());
            let before = counts(&pool);
            let message = panic_of(|| poll_with(getter.future_mut(), &panics_when_cloned()).is_ready());
            // Who creates goes by the waker that its creation clones.
            assert_eq!(message, "the clone");
            assert!(creates || counts(&pool) == before, "its place is as before");
            assert!(!creates || getter.is_pending());
            drop(object);
            factory.creates.open();
            assert_eq!(
                served(&mut getter).id,
                usize::from(creates && waits_already),
                "a creation is lost with its waker"
            );
        }
    }
}

/// A way to end the wait of one who waits with this waker, in a pool of one; and whether a panic of the waker comes out
/// of it. It does not if there is something to be lost.
type Site = (&'static str, bool, fn(&TestPool, &Factory, &Waker));

/// A getter that waits with `waker` while `end` runs with the object that it waits for.
fn with_waiting<'p>(pool: &'p TestPool, waker: &Waker, end: impl FnOnce(Held<'p>)) {
    let object = take(pool);
    let mut getter = pool.get();
    assert!(poll_with(&mut getter, waker).is_pending());
    end(object);
}

/// The same, behind another getter.
fn with_second<'p>(pool: &'p TestPool, waker: &Waker, end: impl FnOnce(Held<'p>, Getter<'p>)) {
    let object = take(pool);
    let first = waiting(pool);
    let mut getter = pool.get();
    assert!(poll_with(&mut getter, waker).is_pending());
    end(object, first);
}

/// All places where a waker is woken.
const WAKES: [Site; 17] = [
    ("a return", true, |pool, _, waker| with_waiting(pool, waker, drop)),
    ("the return of a broken one", true, |pool, factory, waker| {
        with_waiting(pool, waker, |object| {
            factory.break_thing(object.id);
            drop(object);
        });
    }),
    ("discard", true, |pool, _, waker| with_waiting(pool, waker, Object::discard)),
    ("detach", false, |pool, _, waker| with_waiting(pool, waker, |object| drop(Object::detach(object)))),
    ("close", true, |pool, _, waker| with_waiting(pool, waker, |_object| pool.close())),
    ("resize", true, |pool, _, waker| with_waiting(pool, waker, |_object| pool.resize(2))),
    ("add", true, |pool, factory, waker| {
        pool.resize(0);
        let mut getter = pool.get();
        assert!(poll_with(&mut getter, waker).is_pending());
        factory.creates.hold(1);
        pool.resize(1);
    }),
    ("the end of a served getter", true, |pool, _, waker| {
        with_second(pool, waker, |object, first| {
            drop(object);
            drop(first);
        });
    }),
    ("the end of a getter that may create", true, |pool, _, waker| {
        with_second(pool, waker, |object, first| {
            Object::discard(object);
            drop(first);
        });
    }),
    ("the end of a getter that creates", true, |pool, factory, waker| {
        factory.creates.hold(1);
        let first = waiting(pool);
        let mut getter = pool.get();
        assert!(poll_with(&mut getter, waker).is_pending());
        drop(first);
        factory.creates.open();
    }),
    ("the end of a getter that recycles", true, |pool, factory, waker| {
        drop(take(pool));
        factory.recycles.hold(1);
        let first = waiting(pool);
        let mut getter = pool.get();
        assert!(poll_with(&mut getter, waker).is_pending());
        drop(first);
    }),
    ("a failed creation", false, |pool, factory, waker| {
        factory.creates.hold(1);
        factory.creates.fail_at(factory.creates.begun(), 1);
        let mut first = waiting(pool);
        let mut getter = pool.get();
        assert!(poll_with(&mut getter, waker).is_pending());
        factory.creates.open();
        assert!(matches!(first.ready(), Err(GetError::Create(_))));
    }),
    ("a creation that ends with an object granted", false, |pool, factory, waker| {
        pool.resize(2);
        let object = take(pool);
        factory.creates.hold(1);
        let mut first = waiting(pool);
        let mut getter = pool.get();
        assert!(poll_with(&mut getter, waker).is_pending());
        factory.creates.open();
        drop(object);
        drop(served(&mut first));
    }),
    ("replenish", false, |pool, factory, waker| {
        pool.resize(2);
        let _busy = take(pool);
        factory.creates.hold(1);
        let mut replenish = Task::waiting(Box::pin(pool.replenish()));
        let mut getter = pool.get();
        assert!(poll_with(&mut getter, waker).is_pending());
        factory.creates.open();
        let _ = replenish.poll();
    }),
    ("a replenishing that fails", false, |pool, factory, waker| {
        factory.creates.hold(1);
        factory.creates.fail_at(factory.creates.begun(), 1);
        let mut replenish = Task::waiting(Box::pin(pool.replenish()));
        let mut getter = pool.get();
        assert!(poll_with(&mut getter, waker).is_pending());
        factory.creates.open();
        assert!(replenish.ready().is_err());
    }),
    ("a closed pool's last return", false, |pool, _, waker| {
        let object = take(pool);
        let mut closed = pool.closed();
        assert!(poll_with(&mut closed, waker).is_pending());
        pool.close();
        drop(object);
    }),
    ("a closed pool's last creation", false, |pool, factory, waker| {
        factory.creates.hold(1);
        let getter = waiting(pool);
        let mut closed = pool.closed();
        assert!(poll_with(&mut closed, waker).is_pending());
        pool.close();
        drop(getter);
    }),
];

#[test]
fn wherever_a_waker_panics_the_pool_goes_on() {
    common::survives("foreign_code::wherever_a_waker_panics_the_pool_goes_on", || {
        for (name, passes, site) in WAKES {
            let factory = Factory::default();
            let pool = factory.builder().max_size(1).min_idle(1).build();
            let runs = Arc::new(AtomicUsize::new(0));
            let count = runs.clone();
            let waker = Hostile::new().on_wake(move || {
                count.fetch_add(1, Ordering::Relaxed);
                panic!("the wake");
            });
            let waker = waker.waker();
            let outcome = catch_unwind(AssertUnwindSafe(|| site(&pool, &factory, &waker)));
            assert_eq!((outcome.is_err(), runs.load(Ordering::Relaxed)), (passes, 1), "{name}");
            factory.creates.open();
            factory.recycles.open();
            if !pool.is_closed() {
                pool.resize(1);
                let object = take(&pool);
                let mut next = waiting(&pool);
                drop(object);
                woken(&next);
                drop(served(&mut next));
            }
            drop(waker);
            all_is_dropped(pool, &factory);
        }
    });
}

#[test]
fn the_others_are_woken_though_some_wakers_panic_and_the_first_panic_goes_on() {
    for panicking in [vec![0], vec![2], vec![3], vec![4], vec![2, 7], vec![0, 1, 2, 3, 4], (0..8).collect()] {
        for closes in [false, true] {
            let factory = Factory::default();
            let pool = factory.pool(1);
            let object = take(&pool);
            let log = Arc::new(Log::default());
            let mut line: Vec<_> = (0..8).map(|_| pool.get()).collect();
            for (number, get) in line.iter_mut().enumerate() {
                let (waker, panics) = (log.waker(number), panicking.contains(&number));
                let waker = Hostile::new().on_wake(move || {
                    waker.wake_by_ref();
                    assert!(!panics, "waker {number}");
                });
                assert!(poll_with(get, &waker.waker()).is_pending());
            }
            let message = panic_of(|| if closes { pool.close() } else { pool.resize(9) });
            assert_eq!(message, format!("waker {}", panicking[0]));
            let mut woken = log.take();
            woken.sort_unstable();
            assert_numbers(&woken, 0..8);
            assert!(line.iter_mut().all(|get| ready(get).is_ok() != closes));
            drop((line, object));
            all_is_dropped(pool, &factory);
        }
    }
}

#[test]
fn a_replaced_waker_that_panics_when_dropped_loses_nothing() {
    for _ in 0..1 {
        let factory = Factory::default();
        let pool = factory.pool(1);
        let object = take(&pool);
        let armed = Arc::new(AtomicUsize::new(0));
        let old = panics_when_dropped(&armed);
        let mut getter = Task::new(pool.get());
        assert!(poll_with(getter.future_mut(), &old).is_pending());
        let before = counts(&pool);
        armed.store(1, Ordering::Relaxed);
        // The waker is not worth the object that the getter may have got with it: whether it panics is nobody's business.
        let _ = catch_unwind(AssertUnwindSafe(|| getter.poll().is_ready()));
        assert_eq!((armed.load(Ordering::Relaxed), counts(&pool)), (0, before));
        drop(object);
        factory.creates.open();
        woken(&getter);
        assert_eq!(served(&mut getter).id, 0);
    }
}

#[test]
fn the_waker_of_one_who_leaves_that_panics_when_dropped_loses_nothing() {
    for creates in [false, true] {
        let factory = Factory::default();
        let pool = factory.pool(1);
        factory.creates.hold(usize::from(creates));
        let object = (!creates).then(|| take(&pool));
        let armed = Arc::new(AtomicUsize::new(0));
        let mut leaver = pool.get();
        assert!(poll_with(&mut leaver, &panics_when_dropped(&armed)).is_pending());
        let mut next = waiting(&pool);
        armed.store(1, Ordering::Relaxed);
        assert!(panic_of(|| drop(leaver)).contains("the drop"));
        drop(object);
        factory.creates.open();
        woken(&next);
        assert_eq!(served(&mut next).id, 0);
    }
}

#[test]
fn an_object_that_panics_when_dropped_leaves_the_pool_as_it_should_be() {
    for (name, way) in WAYS {
        for bomb in [0, 1] {
            let (pool, factory, clock) = timed();
            factory.hook(move |event| assert_ne!(event, Event::Drop(bomb), "the drop"));
            let outcome = catch_unwind(AssertUnwindSafe(|| way(&pool, &factory, &clock)));
            factory.unhook();
            factory.recycles.open();
            assert!(outcome.is_err(), "{name}: the panic goes on");
            assert_eq!(factory.dropped().len(), 2, "{name}: the other one is dropped, too");
            let objects = [take(&pool), take(&pool)];
            let mut next = waiting(&pool);
            drop(objects);
            assert!(served(&mut next).id > 1, "{name}");
        }
    }
}

#[test]
fn the_panic_of_an_object_comes_before_that_of_the_waker_of_who_is_next() {
    let factory = Factory::default();
    let pool = factory.pool(1);
    let object = take(&pool);
    let mut next = pool.get();
    assert!(poll_with(&mut next, &panics_when_woken()).is_pending());
    factory.hook(|event| assert_ne!(event, Event::Drop(0), "the drop"));
    assert!(panic_of(|| Object::discard(object)).contains("the drop"));
    assert_eq!(ready(&mut next).unwrap().id, 1);
}

#[test]
fn the_others_are_dropped_though_one_panics_when_the_pool_is() {
    let factory = Factory::default();
    let pool = filled(&factory, 5, 5);
    factory.hook(|event| assert_ne!(event, Event::Drop(2), "the drop"));
    assert!(panic_of(|| drop(pool)).contains("the drop"));
    assert_eq!(factory.dropped(), [0, 1, 2, 3, 4]);
}

#[test]
fn a_predicate_that_panics_leaves_all_as_it_was() {
    for at in 0..3 {
        let factory = Factory::default();
        let pool = filled(&factory, 3, 3);
        let mut asked = Vec::new();
        let message = panic_of(|| {
            pool.retain(|thing, _| {
                asked.push(thing.id);
                assert_ne!(thing.id, at, "the predicate");
                false
            })
        });
        assert!(message.contains("the predicate") && asked.len() == at + 1);
        assert_eq!((counts(&pool), factory.dropped()), ((3, 0, 0, 0), vec![]));
        let objects = [take(&pool), take(&pool), take(&pool)];
        assert_eq!(objects.map(|object| object.id), [2, 1, 0]);
    }
}

#[test]
fn an_object_whose_check_panics_is_discarded_and_the_panic_goes_on() {
    let factory = Factory::default();
    let pool = factory.pool(1);
    let object = take(&pool);
    let mut next = waiting(&pool);
    factory.hook(|event| assert_ne!(event, Event::IsBroken(0), "the check"));
    assert!(panic_of(|| drop(object)).contains("the check"));
    woken(&next);
    assert_eq!((factory.dropped(), served(&mut next).id), (vec![0], 1));
}

#[test]
fn a_clock_that_panics_loses_nothing() {
    let factory = Factory::default();
    let (clock, fuse) = (Clock::new(), Arc::new(AtomicUsize::new(usize::MAX)));
    let (source, lit) = (clock.source(), fuse.clone());
    let source = move || {
        assert_ne!(lit.fetch_sub(1, Ordering::Relaxed), 0, "the clock");
        source()
    };
    let pool = factory.builder().max_size(1).idle_timeout(Duration::from_secs(1)).clock(source).build();
    let blows = |at| fuse.store(at, Ordering::Relaxed);

    let object = take(&pool);
    let mut next = waiting(&pool);
    blows(0);
    assert!(panic_of(|| drop(object)).contains("the clock"));
    assert_eq!(factory.dropped(), [0], "nobody knows since when it is idle");
    woken(&next);
    blows(0);
    assert!(panic_of(|| next.poll().is_ready()).contains("the clock"));
    assert_eq!(counts(&pool), (0, 0, 1, 0), "it may still create");
    drop(served(&mut next));
    for act in [|pool: &TestPool| drop(poll(&mut pool.get())), |pool: &TestPool| drop(pool.try_get())] {
        blows(0);
        assert!(panic_of(|| act(&pool)).contains("the clock"));
        assert_eq!(counts(&pool), (1, 0, 0, 0));
    }
    pool.clear();
    blows(0);
    assert!(panic_of(|| pool.add(factory.thing(100)).is_ok()).contains("the clock"));
    assert_eq!((counts(&pool), factory.alive()), ((0, 0, 0, 0), 0));
    blows(1);
    assert!(panic_of(|| drop(poll(&mut pool.get()))).contains("the clock"));
    assert_eq!((counts(&pool), factory.alive()), ((0, 0, 0, 0), 0), "created, but when?");
    blows(usize::MAX);
    drop((take(&pool), next));
    all_is_dropped(pool, &factory);
}

#[test]
fn a_getter_whose_creation_panicked_is_granted_nothing_more() {
    for point in [CALL, 0, 1] {
        let factory = Factory::default();
        let pool = factory.pool(2);
        let object = take(&pool);
        factory.creates.hold(1);
        factory.creates.panic_at(1, point);
        let mut getter = Task::new(pool.get());
        if point == 1 {
            assert!(getter.is_pending());
            factory.creates.open();
        }
        assert_eq!(panic_of(|| getter.poll().is_ready()), "call 1 panics");
        assert_eq!(counts(&pool), (0, 1, 0, 0), "it has left");
        drop(object);
        assert_eq!(counts(&pool), (1, 0, 0, 0));
        assert_eq!(take(&pool).id, 0);
        drop(getter);
    }
}

/// A manager whose recycling is over at once. The object says how it ends: 1 with a panic, 2 with a failure.
#[derive(Default)]
struct Brief {
    recycled: AtomicUsize,
}

impl Manager for Brief {
    type Object = usize;
    type Error = ();

    async fn create(&self) -> Result<usize, ()> {
        Ok(0)
    }

    fn recycle(&self, object: &mut usize, _: &Metrics) -> impl Future<Output = Result<(), ()>> + Send {
        self.recycled.fetch_add(1, Ordering::Relaxed);
        assert_ne!(*object, 1, "the recycle");
        std::future::ready(if *object == 2 { Err(()) } else { Ok(()) })
    }
}

#[test]
fn a_recycle_that_is_over_at_once_may_end_in_any_way() {
    let pool = Pool::builder(Brief::default()).max_size(1).build();
    for way in [0, 1, 0, 2, 2, 1, 1, 0] {
        let mut object = take(&pool);
        let uses = Object::metrics(&object).uses;
        *object = way;
        drop(object);
        let before = pool.manager().recycled.load(Ordering::Relaxed);
        if way == 1 {
            assert!(panic_of(|| ready(&mut pool.get()).is_ok()).contains("the recycle"));
            assert_eq!(counts(&pool), (0, 0, 0, 0), "it is gone");
        } else {
            let object = take(&pool);
            assert_eq!((*object, Object::metrics(&object).uses), (0, if way == 0 { uses + 1 } else { 1 }));
        }
        assert_eq!(pool.manager().recycled.load(Ordering::Relaxed), before + 1);
        pool.clear();
    }
}

#[test]
fn a_second_panic_does_not_abort() {
    common::survives("foreign_code::a_second_panic_does_not_abort", || {
        let sites: [fn(Event) -> bool; 2] = [|event| event == Event::IsBroken(0), |event| event == Event::Drop(0)];
        for site in sites {
            let factory = Factory::default();
            let pool = factory.pool(1);
            let object = take(&pool);
            factory.break_thing(0);
            let mut next = waiting(&pool);
            factory.hook(move |event| assert!(!site(event), "the second"));
            let message = panic_of(|| {
                let _object = object;
                panic!("the first");
            });
            assert_eq!((message.as_str(), factory.dropped()), ("the first", vec![0]));
            woken(&next);
            assert_eq!(served(&mut next).id, 1);
        }
        // And a waker: of the next getter, and of one that is dropped.
        let armed = Arc::new(AtomicUsize::new(0));
        let factory = Factory::default();
        let pool = factory.pool(1);
        let object = take(&pool);
        let mut next = pool.get();
        assert!(poll_with(&mut next, &panics_when_woken()).is_pending());
        let mut leaver = pool.get();
        assert!(poll_with(&mut leaver, &panics_when_dropped(&armed)).is_pending());
        assert_eq!(panic_of(|| unwind_over(object)), "the first");
        assert_eq!(ready(&mut next).unwrap().id, 0);
        let mut next = waiting(&pool);
        assert_eq!(next.wakes(), 0, "the one before is first");
        armed.store(1, Ordering::Relaxed);
        assert_eq!(panic_of(|| unwind_over(leaver)), "the first");
        woken(&next);
        drop(served(&mut next));
    });
}

/// Drops something while the thread panics.
fn unwind_over<T>(value: T) {
    let _value = value;
    panic!("the first");
}

// ---------------------------------------------------------------------------------------------------------------------
// Dropped at any poll
// ---------------------------------------------------------------------------------------------------------------------

/// A way for a getter to its object: what must be so before it, and what must come after its first poll.
struct Path {
    name: &'static str,
    max_size: usize,
    before: for<'p> fn(&'p TestPool, &Factory) -> Vec<Held<'p>>,
    after: fn(Vec<Held<'_>>),
}

const PATHS: [Path; 8] = [
    Path { name: "creates", max_size: 1, before: |_, _| vec![], after: return_all },
    Path { name: "adopts", max_size: 1, before: left_behind, after: return_all },
    Path { name: "recycles", max_size: 1, before: |pool, _| idle(pool, 1), after: return_all },
    Path {
        name: "recycles in vain",
        max_size: 2,
        before: |pool, factory| {
            kill_all(Factory::kill, factory);
            idle(pool, 2)
        },
        after: return_all,
    },
    Path { name: "waits for a return", max_size: 1, before: |pool, _| vec![take(pool)], after: return_all },
    Path { name: "waits for room", max_size: 1, before: |pool, _| vec![take(pool)], after: discard_all },
    Path { name: "creates and is overtaken", max_size: 2, before: |pool, _| vec![take(pool)], after: return_all },
    Path {
        name: "creates and is overtaken by a dead one",
        max_size: 2,
        before: |pool, factory| {
            factory.kill(0);
            vec![take(pool)]
        },
        after: return_all,
    },
];

fn idle(pool: &TestPool, count: usize) -> Vec<Held<'_>> {
    drop((0..count).map(|_| take(pool)).collect::<Vec<_>>());
    vec![]
}

fn left_behind<'p>(pool: &'p TestPool, factory: &Factory) -> Vec<Held<'p>> {
    factory.creates.hold(2);
    drop(waiting(pool));
    factory.step();
    assert_eq!(counts(pool), (0, 0, 1, 0));
    vec![]
}

fn return_all(objects: Vec<Held<'_>>) {
    drop(objects);
}

fn discard_all(objects: Vec<Held<'_>>) {
    objects.into_iter().for_each(Object::discard);
}

#[test]
fn a_getter_may_be_dropped_at_any_poll_and_those_behind_it_are_served() {
    for Path { name, max_size, before, after } in PATHS {
        let mut polls = 0;
        loop {
            let factory = Factory::default();
            let pool = factory.pool(max_size);
            let mut lent = Some(before(&pool, &factory));
            factory.creates.hold(2);
            factory.recycles.hold(2);
            let mut getter = Task::new(pool.get());
            let mut object = None;
            let mut behind = Vec::new();
            for poll in 0..polls {
                match getter.poll() {
                    Poll::Ready(outcome) => object = Some(outcome.expect("nothing fails")),
                    Poll::Pending if poll == 0 => {
                        behind.extend((0..3).map(|_| (0, Task::waiting(pool.get()))));
                        after(lent.take().unwrap_or_default());
                    }
                    Poll::Pending => factory.step(),
                }
                if object.is_some() {
                    break;
                }
            }
            let is_served = object.is_some();
            drop(getter);
            pool.check();
            drop((object, lent));
            if behind.is_empty() {
                behind.extend((0..3).map(|_| (0, Task::new(pool.get()))));
                behind.iter_mut().for_each(|(_, getter)| assert!(getter.poll().is_pending()));
            }
            // In their order, each when it is told, and each makes way for the next.
            let mut order = Vec::new();
            for _ in 0..30 {
                factory.step();
                for (number, (seen, getter)) in behind.iter_mut().enumerate() {
                    if getter.wakes() > *seen && !order.contains(&number) {
                        *seen = getter.wakes();
                        if let Poll::Ready(outcome) = getter.poll() {
                            drop(outcome.expect("nothing fails"));
                            order.push(number);
                        }
                    }
                }
            }
            if max_size > 1 {
                order.sort_unstable();
            }
            assert_eq!(order, [0, 1, 2], "{name}, dropped after poll {polls}: {pool:?}");
            assert!(factory.max_live() <= max_size, "{name}, dropped after poll {polls}");
            drop(behind);
            all_is_dropped(pool, &factory);
            if is_served {
                break;
            }
            polls += 1;
        }
        assert!(polls > 1, "{name}: served at once");
    }
}

#[test]
fn an_owned_getter_may_be_dropped_at_any_poll_with_all_that_keeps_the_pool() {
    for polls in 0..5 {
        let factory = Factory::default();
        let pool = Arc::new(factory.pool(1));
        let mut object = ready(&mut pool.clone().get_owned()).ok();
        factory.recycles.hold(2);
        let mut getter = Task::new(pool.get_owned());
        for poll in 0..polls {
            assert_eq!(getter.poll().is_ready(), poll == 3);
            drop(object.take());
            factory.step();
        }
        drop((getter, object));
        assert_eq!((factory.alive(), factory.live(), factory.recycles.in_flight()), (0, 0, 0));
    }
}

#[test]
fn who_is_turned_away_is_woken_when_what_was_left_behind_is_dropped() {
    let factory = Factory::default();
    let pool = factory.pool(2);
    factory.creates.hold(1);
    let (seen, creates) = (Arc::new(AtomicUsize::new(0)), factory.creates.clone());
    let of_wake = seen.clone();
    let waker = Hostile::new().on_wake(move || of_wake.store(creates.in_flight(), Ordering::Relaxed)).waker();
    let (leaver, mut stays) = (waiting(&pool), pool.get());
    assert!(poll_with(&mut stays, &waker).is_pending());
    drop(leaver);
    assert_eq!((counts(&pool), factory.creates.in_flight()), ((0, 0, 2, 0), 2));
    pool.close();
    assert_eq!(seen.load(Ordering::Relaxed), 1, "its own is still in its hand");
    drop(stays);
    all_is_dropped(pool, &factory);
}

#[test]
fn a_creation_that_closes_the_pool_and_is_begun_again_leaves_nothing_there() {
    ends(|| {
        let factory = Factory::default();
        let pool: &TestPool = Box::leak(Box::new(factory.builder().max_size(1).min_idle(1).build()));
        factory.creates.hold(1);
        factory.creates.fail_at(0, 1);
        drop(waiting(pool));
        factory.creates.open();
        factory.hook(move |event| {
            if event == Event::Create(0, 1) {
                pool.close();
            }
        });
        assert!(ready(&mut Box::pin(pool.replenish())).is_ok());
        assert_eq!((counts(pool), factory.creates.begun(), factory.live()), ((0, 0, 0, 0), 2, 0));
        factory.unhook();
    });
}

#[test]
fn the_panic_of_a_creation_comes_before_that_of_the_waker_which_its_getter_left() {
    let factory = Factory::default();
    let pool = factory.pool(1);
    factory.creates.hold(1);
    factory.creates.panic_at(0, 1);
    let armed = Arc::new(AtomicUsize::new(0));
    let waker = panics_when_dropped(&armed);
    let mut getter = pool.get();
    assert!(poll_with(&mut getter, &waker).is_pending());
    factory.creates.finish(0);
    let arms = armed.clone();
    factory.hook(move |event| {
        if event == Event::Create(0, 1) {
            arms.store(1, Ordering::Relaxed);
        }
    });
    assert_eq!(panic_of(|| poll_with(&mut getter, &waker).is_ready()), "call 0 panics");
    factory.unhook();
    assert_eq!((armed.load(Ordering::Relaxed), counts(&pool)), (0, (0, 0, 0, 0)), "it was dropped");
    drop(getter);
    all_is_dropped(pool, &factory);
}

/// A waker that counts its drops, those under the lock of the pool for a hundred.
fn counts_drops(pool: &'static TestPool) -> (Arc<AtomicUsize>, Hostile) {
    let drops = Arc::new(AtomicUsize::new(0));
    let of_drop = drops.clone();
    let waker = Hostile::new().on_drop(move || {
        of_drop.fetch_add(if is_locked_inside(pool) { 100 } else { 1 }, Ordering::Relaxed);
        assert!(thread::panicking(), "the drop");
    });
    (drops, waker)
}

#[test]
fn an_object_that_is_returned_while_a_waker_is_cloned_is_all_that_its_getter_takes() {
    ends(|| {
        let (pool, factory) = leaked(2);
        let object = StdMutex::new(Some(take(pool)));
        factory.recycles.hold(1);
        let (drops, waker) = counts_drops(pool);
        let waker = waker.on_clone(move || drop(object.lock().unwrap().take())).waker();
        let mut getter = pool.get();
        assert!(poll_with(&mut getter, &waker).is_pending());
        std::mem::forget(waker);
        assert_eq!((drops.load(Ordering::Relaxed), counts(pool), factory.creates.begun()), (1, (0, 1, 0, 0), 1));
        factory.recycles.open();
        assert_eq!(ready(&mut getter).unwrap().id, 0);
    });
}

/// More getters than are woken at once. As the first is woken, `act` is given the last; counted are the drops of the last
/// one's waker, as [`counts_drops`] does.
fn as_the_first_is_woken(
    pool: &'static TestPool,
    act: impl Fn(Get<'static, Factory>) + Send + Sync + 'static,
) -> (Vec<Get<'static, Factory>>, Arc<AtomicUsize>) {
    let last = Arc::new(StdMutex::new(None));
    let taken = last.clone();
    let first = Hostile::new().on_wake(move || {
        let last = taken.lock().unwrap().take().expect("the first is woken once");
        act(last);
    });
    let (drops, waker) = counts_drops(pool);
    let (first, waker) = (first.waker(), waker.waker());
    let mut getters: Vec<_> = (0..FEW).map(|_| pool.get()).collect();
    assert!(poll_with(&mut getters[0], &first).is_pending());
    assert!(getters[1..FEW - 1].iter_mut().all(|getter| poll(getter).is_pending()));
    assert!(poll_with(&mut getters[FEW - 1], &waker).is_pending());
    std::mem::forget(waker);
    *last.lock().unwrap() = getters.pop();
    (getters, drops)
}

#[test]
fn who_is_served_or_leaves_before_it_is_woken_drops_its_waker_without_the_lock() {
    for leaves in [false, true] {
        ends(move || {
            let (pool, _) = leaked(1);
            let _object = take(pool);
            let act = move |mut last: Get<'static, Factory>| assert!(leaves || ready(&mut last).is_ok());
            let (_getters, drops) = as_the_first_is_woken(pool, act);
            assert_eq!(catch_unwind(|| pool.resize(1 + FEW)).is_err(), leaves, "what a leaver's waker panics with");
            assert_eq!(drops.load(Ordering::Relaxed), 1);
        });
    }
}

#[test]
fn a_creator_that_is_turned_away_before_it_is_woken_drops_its_waker_without_the_lock() {
    ends(|| {
        let (pool, factory) = leaked(FEW);
        factory.creates.hold(1);
        let (_getters, drops) = as_the_first_is_woken(pool, |mut last: Get<_>| assert!(ready(&mut last).is_err()));
        pool.close();
        assert_eq!(drops.load(Ordering::Relaxed), 3, "its creation knew it, too, and it was polled first");
    });
}

#[test]
fn who_is_granted_a_creation_and_an_object_before_it_is_woken_drops_its_waker_without_the_lock() {
    ends(|| {
        let (pool, _) = leaked(FEW);
        let objects = StdMutex::new((0..FEW).map(|_| take(pool)).collect::<Vec<_>>());
        let act = move |mut last: Get<'static, Factory>| {
            objects.lock().unwrap().clear();
            assert!(ready(&mut last).is_ok());
        };
        let (_getters, drops) = as_the_first_is_woken(pool, act);
        pool.resize(2 * FEW);
        assert_eq!(drops.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a_clock_and_an_object_that_panic_do_not_abort() {
    common::survives("foreign_code::a_clock_and_an_object_that_panic_do_not_abort", || {
        let factory = Factory::default();
        let (clock, fuse) = (Clock::new(), Arc::new(AtomicUsize::new(usize::MAX)));
        let (source, lit) = (clock.source(), fuse.clone());
        let source = move || {
            assert_ne!(lit.fetch_sub(1, Ordering::Relaxed), 0, "the clock");
            source()
        };
        let pool = factory.builder().max_size(1).idle_timeout(Duration::from_secs(1)).clock(source).build();
        factory.hook(|event| assert!(!matches!(event, Event::Drop(_)), "the drop"));
        // As a `get` begins it is read once.
        fuse.store(1, Ordering::Relaxed);
        assert!(panic_of(|| drop(poll(&mut pool.get()))).contains("the clock"));
        assert_eq!((counts(&pool), factory.dropped()), ((0, 0, 0, 0), vec![0]));
        fuse.store(0, Ordering::Relaxed);
        assert!(panic_of(|| pool.add(factory.thing(100)).is_ok()).contains("the clock"));
        assert_eq!((counts(&pool), factory.dropped()), ((0, 0, 0, 0), vec![100]));
        factory.unhook();
    });
}
