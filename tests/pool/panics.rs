//! User code that panics: objects, futures, managers, clocks and wakers. What becomes of the pool, case by case.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use stanchion::{GetError, Manager, Metrics, Object, Pool};

use crate::common::hooks::Hooks;
use crate::common::{self, Clock, Log, Task, assert_numbers, panic_of, poll, poll_with, ready};
use crate::manager::{CALL, Event, Factory};
use crate::user_code::{WAYS, timed};
use crate::{Getter, Held, TestPool, all_is_dropped, counts, filled, served, take, waiting, woken};

fn panics_when_cloned() -> Waker {
    Hooks::new().on_clone(|| panic!("the clone")).waker()
}

fn panics_when_woken() -> Waker {
    Hooks::new().on_wake(|| panic!("the wake")).waker()
}

/// A waker that panics in its drop, but only in the drop that `armed` waits for.
fn panics_when_dropped(armed: &Arc<AtomicUsize>) -> Waker {
    let armed = armed.clone();
    Hooks::new().on_drop(move || assert_eq!(armed.swap(0, Ordering::Relaxed), 0, "the drop")).waker()
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
            // A getter that creates is woken by the waker that its creation clones.
            assert_eq!(message, "the clone");
            assert!(creates || counts(&pool) == before, "it is queued as before");
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

/// A way to end the wait of a getter with this waker, in a pool of one; and `true` if a panic of the waker comes
/// out of it. It does not if it would cost an object.
type Site = (&'static str, bool, fn(&TestPool, &Factory, &Waker));

/// A getter that waits with `waker` while `end` runs with the object that it waits for.
fn with_waiting<'p>(pool: &'p TestPool, waker: &Waker, end: impl FnOnce(Held<'p>)) {
    let object = take(pool);
    let mut getter = pool.get();
    assert!(poll_with(&mut getter, waker).is_pending());
    end(object);
}

/// The same, after another getter.
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
    common::survives("panics::wherever_a_waker_panics_the_pool_goes_on", || {
        for (name, passes, site) in WAKES {
            let factory = Factory::default();
            let pool = factory.builder().max_size(1).min_idle(1).build();
            let runs = Arc::new(AtomicUsize::new(0));
            let count = runs.clone();
            let waker = Hooks::new().on_wake(move || {
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
fn all_are_woken_and_the_first_panic_is_resumed() {
    for panicking in [vec![0], vec![2], vec![3], vec![4], vec![2, 7], vec![0, 1, 2, 3, 4], (0..8).collect()] {
        for closes in [false, true] {
            let factory = Factory::default();
            let pool = factory.pool(1);
            let object = take(&pool);
            let log = Arc::new(Log::default());
            let mut line: Vec<_> = (0..8).map(|_| pool.get()).collect();
            for (number, get) in line.iter_mut().enumerate() {
                let (waker, panics) = (log.waker(number), panicking.contains(&number));
                let waker = Hooks::new().on_wake(move || {
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
        // A panic of the waker must not cost the object that the getter may have with it, so it is discarded.
        let _ = catch_unwind(AssertUnwindSafe(|| getter.poll().is_ready()));
        assert_eq!((armed.load(Ordering::Relaxed), counts(&pool)), (0, before));
        drop(object);
        factory.creates.open();
        woken(&getter);
        assert_eq!(served(&mut getter).id, 0);
    }
}

#[test]
fn a_dropped_getters_waker_that_panics_loses_nothing() {
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
fn an_object_that_panics_when_dropped_frees_its_slot() {
    for (name, way) in WAYS {
        for bomb in [0, 1] {
            let (pool, factory, clock) = timed();
            factory.hook(move |event| assert_ne!(event, Event::Drop(bomb), "the drop"));
            let outcome = catch_unwind(AssertUnwindSafe(|| way(&pool, &factory, &clock)));
            factory.unhook();
            factory.recycles.open();
            assert!(outcome.is_err(), "{name}: the panic is resumed");
            assert_eq!(factory.dropped().len(), 2, "{name}: the other one is dropped, too");
            let objects = [take(&pool), take(&pool)];
            let mut next = waiting(&pool);
            drop(objects);
            assert!(served(&mut next).id > 1, "{name}");
        }
    }
}

#[test]
fn an_objects_panic_precedes_that_of_the_next_waker() {
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
fn a_dropped_pool_drops_all_objects_though_one_panics() {
    let factory = Factory::default();
    let pool = filled(&factory, 5, 5);
    factory.hook(|event| assert_ne!(event, Event::Drop(2), "the drop"));
    assert!(panic_of(|| drop(pool)).contains("the drop"));
    assert_eq!(factory.dropped(), [0, 1, 2, 3, 4]);
}

#[test]
fn two_objects_of_a_dropped_pool_that_panic_do_not_abort() {
    common::does_not_abort!(|| {
        let factory = Factory::default();
        let pool = filled(&factory, 5, 5);
        factory.hook(|event| assert!(event != Event::Drop(1) && event != Event::Drop(3), "the drop"));
        assert!(panic_of(|| drop(pool)).contains("the drop"));
        assert_eq!(factory.dropped(), [0, 1, 2, 3, 4]);
    });
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
fn an_object_is_discarded_if_is_broken_panics() {
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
    assert_eq!(factory.dropped(), [0], "it is not known since when it is idle");
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

/// A manager whose recycling is ready at once. The object says how it ends: 1 with a panic, 2 with a failure.
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
fn a_recycling_ready_at_once_may_end_in_any_way() {
    let pool = Pool::builder(Brief::default()).max_size(1).build();
    for way in [0, 1, 0, 2, 2, 1, 1, 0] {
        let mut object = take(&pool);
        let uses = Object::metrics(&object).uses;
        *object = way;
        drop(object);
        let before = pool.manager().recycled.load(Ordering::Relaxed);
        if way == 1 {
            assert!(panic_of(|| ready(&mut pool.get()).is_ok()).contains("the recycle"));
            assert_eq!(counts(&pool), (0, 0, 0, 0), "it was dropped");
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
    common::survives("panics::a_second_panic_does_not_abort", || {
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

#[test]
fn a_clock_and_an_object_that_panic_do_not_abort() {
    common::survives("panics::a_clock_and_an_object_that_panic_do_not_abort", || {
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

#[test]
fn a_creations_panic_precedes_that_of_its_getters_waker() {
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

#[test]
fn a_granted_getter_whose_recycling_panicked_begins_again() {
    let factory = Factory::default();
    let pool = filled(&factory, 1, 1);
    let object = take(&pool);
    let mut getter = waiting(&pool);
    factory.recycles.panic_at(factory.recycles.begun(), CALL);
    drop(object);
    panic_of(|| getter.is_pending());
    assert_eq!(counts(&pool), (0, 0, 0, 0));
    assert_eq!(served(&mut getter).id, 1);
}

#[test]
fn the_error_of_a_creation_begun_afresh_may_panic_when_dropped() {
    let factory = Factory::default();
    let pool = factory.pool(1);
    factory.creates.hold(1);
    factory.creates.fail_at(0, 1);
    drop(waiting(&pool));
    factory.creates.open();
    factory.hook(|event| assert_ne!(event, Event::ErrorDropped(0), "the error"));
    assert_eq!(take(&pool).id, 1);
}

/// Its recyclings end when this is opened, which the first of them closes again with a panic of its drop.
#[derive(Default)]
struct Gate {
    is_open: AtomicBool,
    created: AtomicUsize,
}

struct Recycling<'a>(&'a Gate);

impl Future for Recycling<'_> {
    type Output = Result<(), ()>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), ()>> {
        if self.0.is_open.load(Ordering::Relaxed) { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}

impl Drop for Recycling<'_> {
    fn drop(&mut self) {
        assert!(!self.0.is_open.swap(false, Ordering::Relaxed), "the recycling");
    }
}

impl Manager for Gate {
    type Object = ();
    type Error = ();

    async fn create(&self) -> Result<(), ()> {
        self.created.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn recycle(&self, (): &mut (), _: &Metrics) -> impl Future<Output = Result<(), ()>> + Send {
        Recycling(self)
    }
}

#[test]
fn an_adopted_recycling_that_panics_in_its_drop_has_ended() {
    let pool = Pool::builder(Gate::default()).max_size(1).build();
    drop(take(&pool));
    drop(Task::waiting(pool.get()));
    let mut getter = Task::waiting(pool.get());
    pool.manager().is_open.store(true, Ordering::Relaxed);
    assert_eq!(panic_of(|| getter.is_pending()), "the recycling");
    assert_eq!((counts(&pool), pool.manager().created.load(Ordering::Relaxed)), ((0, 0, 0, 0), 1));
    assert!(!getter.is_pending());
    assert_eq!(pool.manager().created.load(Ordering::Relaxed), 2);
}

#[test]
fn a_waker_that_panics_in_its_second_clone_costs_no_slot() {
    let (factory, clock) = (Factory::default(), Clock::new());
    let minute = Duration::from_secs(60);
    let pool = factory.builder().max_size(1).max_lifetime(minute).clock(clock.source()).build();
    drop(take(&pool));
    factory.recycles.hold(1);
    drop(waiting(&pool));
    clock.advance(minute);
    let clones = AtomicUsize::new(0);
    let waker = Hooks::new().on_clone(move || assert!(clones.fetch_add(1, Ordering::Relaxed) == 0, "the second clone"));
    // The pending recycling has expired: its slot is not free before its object was dropped.
    assert_eq!(panic_of(|| poll_with(&mut pool.get(), &waker.waker()).is_ready()), "the second clone");
    assert_eq!((counts(&pool), factory.dropped()), ((0, 0, 0, 0), vec![0]));
    assert_eq!(take(&pool).id, 1);
    all_is_dropped(pool, &factory);
}
