//! The order in which getters are served, and what they get.

use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use stanchion::{GetError, Metrics, Object, Order, OwnedObject, Pool, Status, blocking};

use crate::common::hooks::Hooks;
use crate::common::{Check, Clock, Counter, Log, Task, panic_of, poll, poll_with, ready, until};
use crate::manager::Factory;
use crate::user_code::is_locked_inside;
use crate::{FEW, MANY, all_is_dropped, counts, fill, filled, served, take, waiting, woken};

// ---------------------------------------------------------------------------------------------------------------------
// Order
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn getters_are_served_in_the_order_of_their_first_polls() {
    let pool = Pool::from_objects([7]);
    let object = take(&pool);
    let log = Arc::new(Log::default());
    let mut getters: Vec<_> = (0..MANY).map(|_| pool.get()).collect();
    // 37 and 100 have no common factor: all in another order than that of the calls.
    let order: Vec<_> = (0..MANY).map(|i| (i * 37 + 5) % MANY).collect();
    for &i in &order {
        assert!(poll_with(&mut getters[i], &log.waker(i)).is_pending());
    }
    for (i, getter) in getters.iter_mut().enumerate() {
        assert!(poll_with(getter, &log.waker(i)).is_pending(), "polling again is no new arrival");
    }
    assert_eq!(counts(&pool), (0, 1, 0, MANY));
    drop(object);
    for (place, &i) in order.iter().enumerate() {
        assert_eq!(log.take(), [i], "one object wakes one getter");
        assert_eq!(counts(&pool), (0, 1, 0, MANY - 1 - place));
        assert_eq!(*ready(&mut getters[i]).unwrap(), 7);
    }
    assert_eq!((log.take(), counts(&pool)), (vec![], (1, 0, 0, 0)));
}

#[test]
fn no_getter_barges() {
    let pool = Arc::new(Pool::from_objects([1]));
    let object = take(&pool);
    let mut first = Task::waiting(pool.get());
    drop(object);
    assert_eq!(first.wakes(), 1);
    // It is the first one's, whether it has come for it or not.
    assert!(pool.try_get().is_none() && pool.clone().try_get_owned().is_none());
    let mut second = Task::waiting(pool.get());
    assert_eq!(counts(&pool), (0, 1, 0, 1));
    drop(first.ready());
    assert_eq!(second.wakes(), 1);
    assert!(pool.try_get().is_none());
    drop(second.ready());
    assert_eq!(counts(&pool), (1, 0, 0, 0));
    assert_eq!(*pool.try_get().unwrap(), 1);
    assert_eq!(*pool.clone().try_get_owned().unwrap(), 1);
    assert_eq!((first.wakes(), second.wakes()), (1, 1));
}

#[test]
fn two_returns_serve_two_waiters() {
    let pool = Pool::from_objects(['a', 'b']);
    let (a, b) = (take(&pool), take(&pool));
    let names = [*a, *b];
    let mut getters = [(); 3].map(|()| Task::waiting(pool.get()));
    drop(a);
    drop(b);
    assert_eq!(getters.each_ref().map(Task::wakes), [1, 1, 0]);
    assert_eq!(counts(&pool), (0, 2, 0, 1));
    // The second comes before the first: each has its own.
    let second = getters[1].ready().unwrap();
    let first = getters[0].ready().unwrap();
    assert_eq!([*first, *second], names, "the first that was returned is granted to the first getter");
    assert!(getters[2].is_pending());
    drop(second);
    assert_eq!(*getters[2].ready().unwrap(), names[1]);
}

#[test]
fn a_served_getter_that_is_dropped_passes_its_object_on() {
    let factory = Factory::default();
    let pool = filled(&factory, 1, 1);
    let asked = Arc::new(AtomicUsize::new(0));
    let object = take(&pool);
    let uses = Object::metrics(&object).uses;
    let recycles = factory.recycles.begun();
    let [mut first, second, mut third] = [(); 3].map(|()| waiting(&pool));
    drop(object);
    let count = asked.clone();
    factory.hook(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    assert_eq!((first.wakes(), second.wakes()), (1, 0));
    drop(std::mem::replace(&mut first, Task::new(pool.get())));
    assert_eq!((second.wakes(), third.wakes()), (1, 0));
    assert_eq!(counts(&pool), (0, 1, 0, 1));
    drop(second);
    assert_eq!(third.wakes(), 1);
    assert_eq!((asked.load(Ordering::SeqCst), factory.recycles.begun()), (0, recycles), "it was never in their hands");
    let object = served(&mut third);
    assert_eq!((object.id, Object::metrics(&object).uses), (0, uses + 1));
    drop(object);
    drop((first, third));
    factory.unhook();
    all_is_dropped(pool, &factory);
}

#[test]
fn the_last_waiter_that_is_dropped_leaves_its_object_idle() {
    let factory = Factory::default();
    let pool = filled(&factory, 2, 2);
    let objects = [take(&pool), take(&pool)];
    let getters = [(); 2].map(|()| waiting(&pool));
    drop(objects);
    assert_eq!(counts(&pool), (0, 2, 0, 0));
    drop(getters);
    assert_eq!(counts(&pool), (2, 0, 0, 0));
    assert_eq!((factory.creates.begun(), factory.dropped()), (2, vec![]));
    drop(take(&pool));
    all_is_dropped(pool, &factory);
}

#[test]
fn a_waiter_that_is_dropped_delays_no_other() {
    let pool = Pool::from_objects([1]);
    let object = take(&pool);
    let mut getters: Vec<_> = (0..5).map(|_| Task::waiting(pool.get())).collect();
    for leaving in [2, 0] {
        drop(getters.remove(leaving));
        assert_eq!(counts(&pool), (0, 1, 0, getters.len()));
    }
    drop(getters.pop());
    drop(object);
    for mut getter in getters {
        assert_eq!(getter.wakes(), 1);
        drop(getter.ready());
    }
    assert_eq!(counts(&pool), (1, 0, 0, 0));
}

#[test]
fn the_waker_of_the_last_poll_is_the_one_that_is_woken() {
    let pool = Pool::from_objects([1]);
    let object = take(&pool);
    let log = Arc::new(Log::default());
    let (mut first, mut second) = (pool.get(), pool.get());
    for (entry, getter) in [(0, &mut first), (1, &mut second)] {
        assert!(poll_with(getter, &log.waker(entry)).is_pending());
        assert!(poll_with(getter, &log.waker(entry + 10)).is_pending());
    }
    drop(object);
    assert_eq!(log.take(), [10]);
    drop(ready(&mut first));
    assert_eq!(log.take(), [11]);
}

#[test]
fn an_object_granted_while_the_waker_is_cloned_is_not_missed() {
    let pool = Pool::from_objects([1]);
    let object = Arc::new(std::sync::Mutex::new(None));
    // For a hook, which must be 'static.
    let pool: &'static Pool<_> = Box::leak(Box::new(pool));
    for polls_before in [0, 1] {
        *object.lock().unwrap() = Some(take(pool));
        let mut getter = pool.get();
        (0..polls_before).for_each(|_| assert!(poll(&mut getter).is_pending()));
        let returned = object.clone();
        let waker = Hooks::new().on_clone(move || drop(returned.lock().unwrap().take())).waker();
        let got = poll_with(&mut getter, &waker);
        assert!(got.is_ready(), "after {polls_before} polls");
        drop(got);
        assert_eq!(counts(pool), (1, 0, 0, 0));
    }
}

#[test]
fn idle_objects_are_taken_in_the_order_that_was_set() {
    for (order, wanted) in [(Order::Lifo, [2, 1, 0]), (Order::Fifo, [0, 1, 2])] {
        let factory = Factory::default();
        let pool = factory.builder().max_size(3).order(order).recycle_after(Duration::from_secs(3600)).build();
        fill(&pool, 3);
        let objects = [take(&pool), pool.try_get().unwrap(), take(&pool)];
        assert_eq!(objects.each_ref().map(|object| object.id), wanted, "{order:?}");
        drop(objects);
        let objects = [pool.try_get().unwrap(), take(&pool), pool.try_get().unwrap()];
        assert_eq!(
            objects.map(|object| object.id),
            [0, 1, 2],
            "{order:?}: the last one is the one that came last, or first"
        );
        all_is_dropped(pool, &factory);
    }
    let factory = Factory::default();
    let pool = filled(&factory, 2, 2);
    assert_eq!(take(&pool).id, 1, "the last one by default");
    all_is_dropped(pool, &factory);
}

// ---------------------------------------------------------------------------------------------------------------------
// Too many waiting getters
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn a_getter_beyond_max_waiting_fails() {
    let factory = Factory::default();
    let pool = factory.builder().max_size(1).max_waiting(2).build();
    let object = take(&pool);
    let [mut first, second] = [(); 2].map(|()| waiting(&pool));
    let mut late = pool.get();
    for _ in 0..2 {
        assert!(matches!(ready(&mut pool.get()), Err(GetError::TooManyWaiting)));
        assert_eq!(counts(&pool), (0, 1, 0, 2), "it leaves no trace");
    }
    assert!(first.is_pending(), "a queued getter does not fail");
    drop(second);
    assert!(poll(&mut late).is_pending(), "one more may wait again");
    assert!(matches!(ready(&mut pool.get()), Err(GetError::TooManyWaiting)));
    drop(object);
    let mut later = waiting(&pool);
    assert_eq!(counts(&pool), (0, 1, 0, 2), "a granted getter does not count as waiting");
    drop(served(&mut first));
    drop(ready(&mut late).unwrap());
    drop(served(&mut later));
    drop((first, late, later));
    all_is_dropped(pool, &factory);
}

#[test]
fn a_pool_that_lets_no_getter_wait_grows_to_its_size() {
    const SIZE: usize = 20;
    let factory = Factory::default();
    factory.creates.hold(1);
    let pool = factory.builder().max_size(SIZE).max_waiting(0).build();
    let mut getters: Vec<_> = (0..SIZE).map(|_| waiting(&pool)).collect();
    assert_eq!(counts(&pool), (0, 0, FEW, SIZE - FEW));
    assert!(matches!(ready(&mut pool.get()), Err(GetError::TooManyWaiting)));
    factory.creates.hold(0);
    (0..FEW).for_each(|call| factory.creates.finish(call));
    let objects: Vec<_> = getters.iter_mut().map(served).collect();
    assert!(matches!(ready(&mut pool.get()), Err(GetError::TooManyWaiting)));
    assert_eq!(counts(&pool), (0, SIZE, 0, 0));
    drop(objects);
    drop(take(&pool));
    drop(getters);
    all_is_dropped(pool, &factory);
}

#[test]
fn max_waiting_does_not_fail_a_getter_that_was_queued() {
    let factory = Factory::default();
    let pool = factory.builder().max_size(2).max_waiting(0).build();
    let [object, other] = [take(&pool), take(&pool)];
    drop(other);
    factory.recycles.hold(1);
    factory.kill(1);
    let mut getter = waiting(&pool);
    pool.resize(1);
    factory.recycles.finish(0);
    assert!(getter.is_pending(), "its object was dead, and now there is no room for another one");
    assert!(matches!(ready(&mut pool.get()), Err(GetError::TooManyWaiting)));
    factory.recycles.open();
    drop(object);
    assert_eq!(served(&mut getter).id, 0);
    drop(getter);
    all_is_dropped(pool, &factory);
}

#[test]
fn any_number_of_getters_may_wait_by_default() {
    let pool = Pool::from_objects([(); 0]);
    let getters: Vec<_> = (0..10_000).map(|_| Task::waiting(pool.get())).collect();
    assert_eq!(counts(&pool), (0, 0, 0, 10_000));
    drop(getters);
    assert_eq!(counts(&pool), (0, 0, 0, 0));
}

#[test]
fn a_closed_pool_fails_with_closed_however_many_wait() {
    let factory = Factory::default();
    let pool = factory.builder().max_size(1).max_waiting(0).build();
    let object = take(&pool);
    assert!(matches!(ready(&mut pool.get()), Err(GetError::TooManyWaiting)));
    pool.close();
    assert!(matches!(ready(&mut pool.get()), Err(GetError::Closed)));
    drop(object);
    all_is_dropped(pool, &factory);
}

// ---------------------------------------------------------------------------------------------------------------------
// Objects
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn an_object_knows_how_often_it_was_handed_out() {
    let factory = Factory::default();
    let clock = Clock::new();
    let pool = factory.builder().max_size(1).clock(clock.source()).build();
    for uses in 1..=3 {
        let object = take(&pool);
        assert_eq!(Object::metrics(&object), Metrics { created: None, recycled: None, uses });
    }
    let object = take(&pool);
    let mut getter = waiting(&pool);
    drop(object);
    assert_eq!(Object::metrics(&served(&mut getter)).uses, 5, "handed over is handed out");
    pool.retain(|_, metrics| metrics.uses == 5);
    assert_eq!(pool.status().idle, 1);
    assert_eq!(clock.reads(), 0, "the time is not needed");
    drop(getter);
    all_is_dropped(pool, &factory);
}

#[test]
fn an_object_knows_when_it_was_created_and_recycled() {
    let factory = Factory::default();
    let clock = Clock::new();
    let second = Duration::from_secs(1);
    let pool = factory.builder().max_size(2).recycle_after(second).clock(clock.source()).build();
    factory.creates.hold(1);
    factory.recycles.hold(1);
    let start = clock.now();
    let mut getter = waiting(&pool);
    clock.advance(second);
    factory.creates.finish(0);
    let object = served(&mut getter);
    let born = Metrics { created: Some(start + second), recycled: None, uses: 1 };
    assert_eq!(Object::metrics(&object), born, "the end of the creation counts");
    drop(object);
    assert_eq!(Object::metrics(&take(&pool)), Metrics { uses: 2, ..born }, "it was idle for no time");
    clock.advance(second);
    getter = waiting(&pool);
    clock.advance(second);
    factory.recycles.finish(0);
    let recycled = Some(start + 3 * second);
    assert_eq!(Object::metrics(&served(&mut getter)), Metrics { recycled, uses: 3, ..born });
    pool.add(factory.thing(100)).unwrap();
    let mut created = Vec::new();
    pool.retain(|thing, metrics| {
        created.push((thing.id, metrics.created, metrics.uses));
        true
    });
    assert_eq!(created, [(0, born.created, 3), (100, Some(start + 3 * second), 0)]);
    drop(getter);
    all_is_dropped(pool, &factory);
}

#[test]
fn an_object_dereferences_to_its_value() {
    let pool = Arc::new(Pool::from_objects([String::from("a")]));
    let mut object = take(&pool);
    object.push('b');
    assert!(std::ptr::eq(Object::pool(&object), &*pool));
    drop(object);
    let mut owned = ready(&mut pool.clone().get_owned()).unwrap();
    owned.push('c');
    assert_eq!((owned.as_str(), OwnedObject::metrics(&owned).uses), ("abc", 2));
    assert!(Arc::ptr_eq(OwnedObject::pool(&owned), &pool));
    assert_eq!(OwnedObject::detach(owned), "abc");
    assert_eq!(counts(&pool), (0, 0, 0, 0));
    pool.add(String::from("d")).unwrap();
    OwnedObject::discard(pool.clone().try_get_owned().unwrap());
    assert_eq!((counts(&pool), Arc::strong_count(&pool)), ((0, 0, 0, 0), 1));
}

#[test]
fn owned_and_borrowed_getters_share_one_queue() {
    let pool = Arc::new(Pool::from_objects([1]));
    let object = ready(&mut pool.clone().get_owned()).unwrap();
    let mut first = Task::waiting(pool.get());
    let mut second = Task::waiting(pool.clone().get_owned());
    let mut third = Task::waiting(pool.get());
    drop(object);
    drop(first.ready());
    assert_eq!((second.wakes(), third.wakes()), (1, 0));
    let object = thread::scope(|scope| scope.spawn(|| second.ready().unwrap()).join().unwrap());
    assert!(third.is_pending());
    drop(object);
    drop(third.ready());
    drop(second);
    assert_eq!((counts(&pool), Arc::strong_count(&pool)), ((1, 0, 0, 0), 1));
}

#[test]
fn an_owned_object_may_be_the_last_owner_of_the_pool() {
    let factory = Factory::default();
    let pool = Arc::new(factory.pool(2));
    let object = ready(&mut pool.clone().get_owned()).unwrap();
    factory.creates.hold(1);
    let getter = Task::waiting(pool.clone().get_owned());
    drop(pool);
    drop(getter);
    assert_eq!((factory.alive(), factory.live(), factory.creates.cancelled()), (1, 2, 0), "pending in the pool");
    drop(object);
    assert_eq!((factory.alive(), factory.live(), factory.creates.cancelled()), (0, 0, 1));
}

#[test]
fn a_thread_waits_as_well_as_a_task() {
    let pool = Pool::from_objects([5]);
    let object = take(&pool);
    thread::scope(|scope| {
        let thread = scope.spawn(|| *blocking::wait(pool.get()).unwrap());
        until(|| pool.status().waiting == 1);
        drop(object);
        assert_eq!(thread.join().unwrap(), 5);
    });
    let object = take(&pool);
    assert!(blocking::wait_timeout(pool.get(), Duration::ZERO).is_err());
    assert_eq!(counts(&pool), (0, 1, 0, 0));
    drop(object);
}

// ---------------------------------------------------------------------------------------------------------------------
// A fixed set
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn a_fixed_set_is_never_added_to_by_the_pool() {
    let pool = Pool::from_objects(["a", "b"]);
    assert_eq!(pool.status(), Status { max_size: 2, size: 2, idle: 2, in_use: 0, creating: 0, waiting: 0 });
    let (a, b) = (take(&pool), take(&pool));
    let [mut first, mut second] = [(); 2].map(|()| Task::waiting(pool.get()));
    let detached = Object::detach(a);
    Object::discard(b);
    assert_eq!(counts(&pool), (0, 0, 0, 2));
    assert!(first.is_pending() && second.is_pending(), "there is room, but nothing to fill it");
    assert_eq!(first.wakes() + second.wakes(), 0);
    assert!(ready(&mut Box::pin(pool.replenish())).is_ok());
    pool.add(detached).unwrap();
    assert_eq!((first.wakes(), second.wakes(), counts(&pool)), (1, 0, (0, 1, 0, 1)));
    pool.add("c").unwrap();
    assert_eq!(pool.add("d"), Err("d"));
    let objects = [first.ready().unwrap(), second.ready().unwrap()];
    assert_eq!(objects.each_ref().map(|object| **object), [detached, "c"]);
    pool.resize(1);
    drop(objects);
    assert_eq!(counts(&pool), (1, 0, 0, 0), "the other retired");
    assert_eq!(*pool.try_get().unwrap(), "c");
}

#[test]
fn a_fixed_set_may_be_empty() {
    let pool = Pool::from_objects(Vec::<u8>::new());
    assert_eq!(pool.status(), Status::default());
    assert!(pool.try_get().is_none());
    assert_eq!(pool.add(1), Err(1));
    let mut getter = Task::waiting(pool.get());
    pool.resize(1);
    assert!(getter.is_pending());
    pool.add(1).unwrap();
    assert_eq!(*getter.ready().unwrap(), 1);
}

// ---------------------------------------------------------------------------------------------------------------------
// Futures
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn futures_that_are_never_polled_have_no_effect() {
    let factory = Factory::default();
    let pool = Arc::new(filled(&factory, 2, 1));
    drop((pool.get(), pool.clone().get_owned(), pool.closed(), pool.replenish()));
    assert_eq!((counts(&pool), factory.creates.begun(), factory.recycles.begun()), ((1, 0, 0, 0), 1, 0));
    let objects = [take(&pool), take(&pool)];
    let (early, mut late) = (pool.get(), waiting(&pool));
    assert_eq!(counts(&pool), (0, 2, 0, 1));
    drop(objects);
    woken(&late);
    drop(early);
    drop(served(&mut late));
    assert_eq!(counts(&pool), (2, 0, 0, 0));
    drop(late);
    all_is_dropped(Arc::into_inner(pool).expect("this is the only handle"), &factory);
}

#[test]
fn futures_that_were_ready_panic_when_they_are_polled_again() {
    let factory = Factory::default();
    let pool = Arc::new(factory.builder().max_size(1).max_waiting(0).build());
    let message = "a future is not polled after it was ready";
    let (mut get, mut owned) = (pool.get(), pool.clone().get_owned());
    drop(ready(&mut get));
    drop(ready(&mut owned));
    let object = take(&pool);
    let mut refused = pool.get();
    assert!(ready(&mut refused).is_err());
    assert_eq!(panic_of(|| poll(&mut refused)), message);
    assert_eq!(panic_of(|| poll(&mut get)), message);
    assert_eq!(panic_of(|| poll(&mut owned)), message);
    drop(object);
    assert_eq!(counts(&pool), (1, 0, 0, 0));
    pool.close();
    let mut get = pool.get();
    assert!(ready(&mut get).is_err());
    assert_eq!(panic_of(|| poll(&mut get)), message);
    let mut closed = pool.closed();
    ready(&mut closed);
    assert_eq!(panic_of(|| poll(&mut closed)), message);
    pool.check();
}

// ---------------------------------------------------------------------------------------------------------------------
// What is shown
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn debug_shows_everything_and_needs_nothing_of_the_manager() {
    struct Opaque;
    let pool = Arc::new(Pool::from_objects([Opaque]));
    assert!(format!("{pool:?}").starts_with("Pool"));
    assert!(format!("{:?}", pool.get()).starts_with("Get"));
    assert!(format!("{:?}", pool.clone().get_owned()).starts_with("GetOwned"));
    assert!(format!("{:?}", pool.closed()).starts_with("PoolClosed"));
    assert!(!format!("{:?}", pool.manager()).is_empty());

    let factory = Factory::default();
    assert!(format!("{:?}", factory.builder()).starts_with("PoolBuilder"));
    let pool = Arc::new(factory.builder().max_size(11).build());
    let shown = format!("{pool:?}");
    assert!(shown.contains("max_size: 11"), "{shown}");
    pool.close();
    assert_ne!(format!("{pool:?}"), shown, "it tells that it is closed");

    let pool = Arc::new(Pool::from_objects([Opaque, Opaque]));
    assert!(format!("{:?}", take(&pool)).starts_with("Object"));
    assert!(format!("{:?}", ready(&mut pool.clone().get_owned()).unwrap()).starts_with("OwnedObject"));
    assert_eq!(format!("{:?} {:?}", Order::Lifo, Order::default()), "Lifo Lifo");
    assert!(format!("{:?}", pool.status()).contains("idle: 2"));
}

#[test]
fn debug_never_waits() {
    let factory = Factory::default();
    let pool = filled(&factory, 2, 2);
    let object = take(&pool);
    factory.creates.hold(1);
    let free = format!("{pool:?}");
    let shown = |pool: &Pool<Factory>| {
        format!("{pool:?} {:?} {:?} {:?} {:?}", pool.get(), pool.closed(), object, Task::new(pool.get()))
    };
    pool.retain(|_, _| {
        assert!(is_locked_inside(&pool) && format!("{pool:?}") != free);
        assert!(!shown(&pool).is_empty());
        true
    });
    assert!(!is_locked_inside(&pool));
    drop(object);
    all_is_dropped(pool, &factory);
}

#[test]
fn a_pool_may_be_used_while_it_is_formatted() {
    struct Looks<'a>(&'a Pool<Factory>, usize);
    impl std::fmt::Write for Looks<'_> {
        fn write_str(&mut self, _: &str) -> std::fmt::Result {
            self.1 += self.0.status().idle;
            Ok(())
        }
    }
    let factory = Factory::default();
    let pool = filled(&factory, 1, 1);
    let (done, end) = mpsc::channel();
    // A thread of its own, so that a lock that is held fails the test and does not hang it.
    thread::spawn(move || {
        let mut looks = Looks(&pool, 0);
        std::fmt::Write::write_fmt(&mut looks, format_args!("{pool:?}")).unwrap();
        done.send(looks.1).unwrap();
    });
    assert!(end.recv_timeout(Duration::from_secs(60)).expect("it is shown under the lock") > 0);
}

#[test]
fn errors_say_what_happened() {
    let factory = Factory::default();
    factory.creates.fail_at(0, 0);
    let pool = factory.pool(1);
    let error = ready(&mut pool.get()).map(drop).unwrap_err();
    assert!(error.to_string().contains("call 0 failed"), "it shows the cause: {error}");
    assert_eq!(error.source().map(ToString::to_string), Some("call 0 failed".to_owned()));
    let closed = GetError::<std::io::Error>::Closed;
    assert!(closed.to_string().contains("closed") && closed.source().is_none());
    let too_many = GetError::<std::io::Error>::TooManyWaiting;
    assert!(too_many.to_string().contains("wait") && too_many.source().is_none());
    assert_eq!(GetError::Create(1).clone(), GetError::Create(1));
    assert_ne!(GetError::Create(1), GetError::Closed);
    assert!(format!("{:?}", GetError::Create(1)).contains("Create"));
}

#[test]
fn the_manager_can_be_reached() {
    let factory = Factory::default();
    let pool = factory.pool(1);
    drop(take(&pool));
    assert_eq!(pool.manager().creates.begun(), 1);
}

#[test]
fn a_waker_is_dropped_with_its_getter() {
    let pool = Pool::from_objects([1]);
    let counter = Arc::new(Counter::default());
    let object = take(&pool);
    let mut getter = pool.get();
    assert!(poll_with(&mut getter, &counter.clone().into()).is_pending());
    assert_eq!(Arc::strong_count(&counter), 2);
    drop(getter);
    assert_eq!(Arc::strong_count(&counter), 1);
    let mut getter = pool.get();
    assert!(poll_with(&mut getter, &counter.clone().into()).is_pending());
    drop(object);
    assert_eq!((Arc::strong_count(&counter), counter.count()), (1, 1));
    drop(ready(&mut getter));
}

#[test]
fn each_way_to_get_an_object_is_a_use() {
    let pool = Arc::new(Pool::from_objects([7]));
    assert_eq!(Object::metrics(&take(&pool)).uses, 1);
    assert_eq!(Object::metrics(&pool.try_get().unwrap()).uses, 2);
    assert_eq!(OwnedObject::metrics(&ready(&mut pool.clone().get_owned()).unwrap()).uses, 3);
    assert_eq!(OwnedObject::metrics(&pool.clone().try_get_owned().unwrap()).uses, 4);
}

#[test]
fn an_object_goes_to_the_oldest_getter_whatever_others_drive() {
    let factory = Factory::default();
    let pool = factory.builder().max_size(3).max_creating(1).build();
    fill(&pool, 2);
    let held = take(&pool);
    factory.recycles.hold(1);
    let mut recycles = waiting(&pool);
    factory.creates.hold(1);
    let mut creates = waiting(&pool);
    factory.kill(0);
    factory.recycles.open();
    assert!(recycles.is_pending(), "its object is dead, and no other creation may begin");
    drop(held);
    assert!(creates.is_pending());
    assert_eq!(served(&mut recycles).id, 1);
}

#[test]
fn a_pending_creation_takes_its_getter_past_no_older_one() {
    let factory = Factory::default();
    let pool = factory.builder().max_size(3).min_idle(1).build();
    fill(&pool, 2);
    let held = take(&pool);
    factory.recycles.hold(1);
    let recycles = waiting(&pool);
    factory.creates.hold(1);
    let mut replenish = Box::pin(pool.replenish());
    assert!(poll(&mut replenish).is_pending());
    drop(recycles);
    let mut adopts = waiting(&pool);
    let mut waits = waiting(&pool);
    drop(replenish); // The creation goes to the one that has nothing to drive.
    factory.recycles.hold(0);
    drop(held);
    assert!(waits.is_pending());
    assert_eq!(served(&mut adopts).id, 1);
}

#[test]
fn a_slot_goes_to_the_oldest_getter_that_can_use_it() {
    let factory = Factory::default();
    let pool = filled(&factory, 2, 2);
    let held = take(&pool);
    factory.recycles.hold(1);
    drop(waiting(&pool));
    factory.creates.hold(1);
    let mut adopts = waiting(&pool);
    let mut waits = waiting(&pool);
    Object::discard(held);
    assert!(adopts.is_pending() && waits.is_pending());
    factory.creates.open();
    assert!(waits.is_pending());
    assert_eq!(served(&mut adopts).id, 2);
}
