//! Objects, futures, managers and wakers that panic or re-enter the pool: what becomes of it, case by case.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex as StdMutex};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use stanchion::{Get, GetError, Manager, Object, Pool, Status};

use crate::common::hooks::Hooks;
use crate::common::{Check, Clock, Log, Task, assert_numbers, ends, poll, poll_with, ready};
use crate::manager::{Event, Factory};
use crate::{FEW, Held, TestPool, all_is_dropped, counts, filled, served, take, waiting, woken};

/// Returns `true` if the internal lock is taken right now: `Debug` omits the counts then. Nothing hangs if it is.
pub(crate) fn is_locked_inside<M: Manager>(pool: &Pool<M>) -> bool {
    !format!("{pool:?}").contains("in_use")
}

/// A pool that user code can refer to, and its manager.
fn leaked(max_size: usize) -> (&'static TestPool, Factory) {
    let factory = Factory::default();
    (Box::leak(Box::new(factory.pool(max_size))), factory)
}

// ---------------------------------------------------------------------------------------------------------------------
// Re-entering
// ---------------------------------------------------------------------------------------------------------------------

/// A way to make a pool drop its two idle objects.
pub(crate) type Way = (&'static str, fn(&TestPool, &Factory, &Clock));

pub(crate) const WAYS: [Way; 8] = [
    ("broken ones are returned", |pool, factory, _| {
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
    ("a getter takes expired ones", |pool, _, clock| {
        clock.advance(HOUR);
        both(|| drop(poll(&mut pool.get())), || drop(poll(&mut pool.get())));
    }),
    ("expired ones are returned", |pool, _, clock| {
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
pub(crate) fn timed() -> (Arc<TestPool>, Factory, Clock) {
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
fn a_detached_object_does_not_count_when_it_is_dropped() {
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
fn a_returned_object_may_be_the_last_owner_of_its_pool() {
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
fn a_waker_may_drop_its_getter_and_the_last_pool_handle() {
    ends(|| {
        let factory = Factory::default();
        let pool = Arc::new(factory.pool(1));
        let object = ready(&mut pool.clone().get_owned()).ok().unwrap();
        let line = Arc::new(StdMutex::new(Vec::new()));
        let inside = line.clone();
        let waker = Hooks::new().on_wake(move || {
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

/// Twelve wait, of which `act` serves some at once; the waker of the first does `inside`. Returns those that were woken.
fn at_the_first_wake(
    pool: &'static TestPool,
    act: impl FnOnce(),
    inside: impl Fn(&Slots) + Send + Sync + 'static,
) -> (Slots, Vec<usize>) {
    let (slots, log) = (Slots::default(), Arc::new(Log::default()));
    let (slots_of_first, log_of_first) = (slots.clone(), log.clone());
    let first = Hooks::new().on_wake(move || {
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
fn a_getter_granted_a_slot_may_be_polled_before_its_wake() {
    let (pool, _) = leaked(1);
    let object = take(pool);
    let served_early = Arc::new(StdMutex::new(None));
    let early = served_early.clone();
    let (slots, woken) = at_the_first_wake(
        pool,
        || pool.resize(8),
        move |slots| {
            *early.lock().unwrap() = Some(ready(&mut pick(slots, 6)).unwrap());
            // Two slots more for the later ones.
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
fn a_getter_of_a_closed_pool_may_be_polled_before_its_wake() {
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
fn the_pool_may_be_closed_while_creators_are_woken() {
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
fn a_broken_object_may_be_returned_without_a_runtime() {
    let (pool, factory) = leaked(1);
    let object = take(pool);
    factory.break_thing(object.id);
    let mut getter = waiting(pool);
    thread::spawn(move || drop(object)).join().unwrap();
    woken(&getter);
    assert_eq!((served(&mut getter).id, factory.max_live()), (1, 1));
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
    Path { name: "adopts", max_size: 1, before: abandon_creation, after: return_all },
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

fn abandon_creation<'p>(pool: &'p TestPool, factory: &Factory) -> Vec<Held<'p>> {
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
fn a_getter_may_be_dropped_after_any_poll() {
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
            // In their order, each when it is woken, and each returns its object for the next.
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
fn an_owned_getter_may_be_dropped_as_the_last_pool_handle() {
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
fn close_wakes_getters_while_pending_creations_are_dropped() {
    let factory = Factory::default();
    let pool = factory.pool(2);
    factory.creates.hold(1);
    let (seen, creates) = (Arc::new(AtomicUsize::new(0)), factory.creates.clone());
    let of_wake = seen.clone();
    let waker = Hooks::new().on_wake(move || of_wake.store(creates.in_flight(), Ordering::Relaxed)).waker();
    let (leaver, mut stays) = (waiting(&pool), pool.get());
    assert!(poll_with(&mut stays, &waker).is_pending());
    drop(leaver);
    assert_eq!((counts(&pool), factory.creates.in_flight()), ((0, 0, 2, 0), 2));
    pool.close();
    assert_eq!(seen.load(Ordering::Relaxed), 1, "its own is still driven");
    drop(stays);
    all_is_dropped(pool, &factory);
}

#[test]
fn a_creation_begun_afresh_may_close_the_pool() {
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

/// A waker that counts its drops, those under the lock of the pool for a hundred.
fn counts_drops(pool: &'static TestPool) -> (Arc<AtomicUsize>, Hooks) {
    let drops = Arc::new(AtomicUsize::new(0));
    let of_drop = drops.clone();
    let waker = Hooks::new().on_drop(move || {
        of_drop.fetch_add(if is_locked_inside(pool) { 100 } else { 1 }, Ordering::Relaxed);
        assert!(thread::panicking(), "the drop");
    });
    (drops, waker)
}

#[test]
fn an_object_returned_during_a_wakers_clone_is_taken_alone() {
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
    let first = Hooks::new().on_wake(move || {
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
fn a_getter_polled_before_its_wake_drops_its_waker_unlocked() {
    for leaves in [false, true] {
        ends(move || {
            let (pool, _) = leaked(1);
            let _object = take(pool);
            let act = move |mut last: Get<'static, Factory>| assert!(leaves || ready(&mut last).is_ok());
            let (_getters, drops) = as_the_first_is_woken(pool, act);
            assert_eq!(catch_unwind(|| pool.resize(1 + FEW)).is_err(), leaves, "the panic of a dropped getter's waker");
            assert_eq!(drops.load(Ordering::Relaxed), 1);
        });
    }
}

#[test]
fn a_creator_of_a_closed_pool_drops_its_waker_unlocked() {
    ends(|| {
        let (pool, factory) = leaked(FEW);
        factory.creates.hold(1);
        let (_getters, drops) = as_the_first_is_woken(pool, |mut last: Get<_>| assert!(ready(&mut last).is_err()));
        pool.close();
        assert_eq!(drops.load(Ordering::Relaxed), 3, "its creation knew it, too, and it was polled first");
    });
}

#[test]
fn a_getter_granted_twice_drops_its_waker_unlocked() {
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
fn a_getter_that_changes_queues_drops_its_waker_unlocked() {
    ends(|| {
        let (pool, factory) = leaked(1);
        drop(take(pool));
        factory.recycles.hold(1);
        factory.creates.hold(1);
        drop(waiting(pool));
        let drops = Arc::new(AtomicUsize::new(0));
        let counts_drops = drops.clone();
        let waker = Hooks::new().on_drop(move || {
            assert!(!is_locked_inside(pool), "the pool may be used");
            counts_drops.fetch_add(1, Ordering::Relaxed);
        });
        let mut getter = pool.get();
        assert!(poll_with(&mut getter, &waker.waker()).is_pending());
        let before = drops.load(Ordering::Relaxed);
        factory.recycles.fail_at(0, 1);
        factory.recycles.finish(0);
        assert!(poll(&mut getter).is_pending(), "it creates now");
        assert!(drops.load(Ordering::Relaxed) > before);
    });
}
