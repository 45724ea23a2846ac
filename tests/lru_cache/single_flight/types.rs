//! Keys, values and loaders of many types: borrowed and owned keys, and types that are not `Send` or not `Sync`.

use std::borrow::Borrow;
use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::thread;

use stanchion::{LruCache, blocking};

use super::{End, KEY, Load, Red, assert_in_flight};
use crate::Cache;
use crate::common::{Task, poll, ready};

/// The borrowed form of a key.
#[derive(PartialEq, Eq, Hash)]
struct Borrowed(u32);

/// The owned form.
#[derive(PartialEq, Eq, Hash)]
struct Owned(Borrowed);

thread_local! {
    /// The number of owned keys that were made.
    static MADE: Cell<usize> = const { Cell::new(0) };
    /// Runs when the next owned key is made.
    static MEANWHILE: RefCell<Option<Box<dyn FnOnce()>>> = const { RefCell::new(None) };
}

impl ToOwned for Borrowed {
    type Owned = Owned;

    fn to_owned(&self) -> Owned {
        MADE.set(MADE.get() + 1);
        MEANWHILE.take().into_iter().for_each(|action| action());
        Owned(Borrowed(self.0))
    }
}

impl Borrow<Borrowed> for Owned {
    fn borrow(&self) -> &Borrowed {
        &self.0
    }
}

#[test]
fn only_the_leader_makes_an_owned_key() {
    let cache = LruCache::<Owned, u32>::new(10);
    let key = Borrowed(KEY);
    let load = Load::default();
    let mut leader = Box::pin(cache.try_get_or_load(&key, || load.begin()));
    assert!(poll(&mut leader).is_pending());
    assert_eq!(MADE.get(), 1);
    let mut followers = [(); 3].map(|()| Box::pin(cache.get_or_load(&key, || async { unreachable!() })));
    assert!(followers.iter_mut().all(|follower| poll(follower).is_pending()));
    load.end(End::Value(5));
    assert_eq!(ready(&mut leader), Ok(5));
    followers.iter_mut().for_each(|follower| assert_eq!(ready(follower), 5));
    assert_eq!(MADE.get(), 1, "a follower needs none");
    assert_eq!((cache.get(&key), cache.get_or_insert_with(&key, || unreachable!())), (Some(5), 5));
    assert_eq!(cache.try_get_or_insert_with(&key, || Err(Red(1))), Ok(5));
    assert_eq!(ready(&mut pin!(cache.get_or_load(&key, || async { unreachable!() }))), 5);
    assert_eq!(ready(&mut pin!(cache.try_get_or_load(&key, || async { Err(Red(1)) }))), Ok(5));
    assert_eq!(MADE.get(), 1, "a hit needs none");
    drop((leader, followers));
    assert_in_flight(&cache, 0);
}

#[test]
fn a_change_while_the_owned_key_is_made_is_noticed() {
    let cache = Rc::new(LruCache::<Owned, u32>::new(10));
    let meanwhile = |action: fn(&LruCache<Owned, u32>)| {
        let cache = cache.clone();
        MEANWHILE.set(Some(Box::new(move || action(&cache))));
    };
    let stats = || {
        let stats = cache.stats();
        (stats.hits, stats.misses, stats.loads)
    };
    // The value is inserted.
    meanwhile(|cache| _ = cache.insert(Owned(Borrowed(KEY)), 1));
    assert_eq!(cache.get_or_insert_with(&Borrowed(KEY), || unreachable!("it is stored now")), 1);
    assert_eq!(stats(), (1, 0, 0), "it has neither loaded nor waited");
    assert_in_flight(&cache, 0);
    cache.clear();
    // Another caller begins to load it.
    thread_local!(static OTHER: RefCell<Option<Pin<Box<dyn Future<Output = u32>>>>> = const { RefCell::new(None) });
    let load = Load::default();
    let (shared, loader) = (cache.clone(), load.clone());
    let mut other: Pin<Box<dyn Future<Output = _>>> =
        Box::pin(async move { shared.try_get_or_load(&Borrowed(KEY), || loader.begin()).await.unwrap_or(0) });
    MEANWHILE.set(Some(Box::new(move || {
        assert!(poll(&mut other).is_pending());
        OTHER.set(Some(other));
    })));
    let mut follower =
        Task::waiting(Box::pin(cache.get_or_load(&Borrowed(KEY), || async { unreachable!("another caller loads") })));
    assert_eq!(stats(), (1, 2, 1));
    assert_in_flight(&cache, 1);
    load.end(End::Value(5));
    assert_eq!(ready(&mut OTHER.take().unwrap()), 5);
    assert_eq!((follower.wakes(), follower.ready()), (1, 5));
    assert_in_flight(&cache, 0);
    assert_eq!((cache.len(), cache.peek(&Borrowed(KEY))), (1, Some(5)));
}

#[test]
fn loaders_need_not_be_send() {
    let cache = Cache::new(10);
    let count = Rc::new(Cell::new(0));
    let load = || {
        let count = count.clone();
        async move {
            count.set(count.get() + 1);
            count.get()
        }
    };
    assert_eq!(ready(&mut pin!(cache.get_or_load(&KEY, load))), 1);
    let infallible = || async { Ok::<_, Infallible>(load().await) };
    assert_eq!(ready(&mut pin!(cache.try_get_or_load(&8, infallible))), Ok(2));
    assert_eq!(cache.get_or_insert_with(&9, || count.get() + 1), 3);
}

#[test]
fn a_load_may_move_between_threads() {
    fn send<T: Send>(future: T) -> T {
        future
    }
    let cache = LruCache::<u32, Cell<u32>>::new(10);
    let load = Load::default();
    let loader = load.clone();
    let mut leader = Box::pin(send(cache.try_get_or_load(&KEY, || async { loader.begin().await.map(Cell::new) })));
    let mut follower = Box::pin(send(cache.get_or_load(&KEY, || async { unreachable!("another caller loads") })));
    assert!(poll(&mut leader).is_pending());
    thread::scope(|scope| {
        let follower = scope.spawn(move || {
            assert!(poll(&mut follower).is_pending());
            follower
        });
        let mut follower = follower.join().unwrap();
        scope.spawn(move || {
            load.end(End::Value(5));
            assert_eq!(ready(&mut leader), Ok(Cell::new(5)));
        });
        assert_eq!(blocking::wait(&mut follower), Cell::new(5));
    });
    assert_in_flight(&cache, 0);
}

#[test]
fn values_that_are_not_sync_are_returned_as_copies() {
    const THREADS: u32 = 4;
    let cache = LruCache::<u32, Cell<u32>>::new(10);
    thread::scope(|scope| {
        for number in 0..THREADS {
            let cache = &cache;
            scope.spawn(move || {
                for key in 0..10 {
                    let value = match number % 2 {
                        0 => cache.get_or_insert_with(&key, || Cell::new(key)),
                        _ => blocking::wait(cache.get_or_load(&key, || async { Cell::new(key) })),
                    };
                    assert_eq!(value.replace(99), key);
                    assert_eq!(cache.get(&key).map(|value| value.replace(98)), Some(key));
                }
            });
        }
    });
    assert_in_flight(&cache, 0);
}
