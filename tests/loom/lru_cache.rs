//! Models of `LruCache`: who loads and what everybody gets, whoever else inserts, removes, fails, leaves or resizes.

use loom::thread::{self, JoinHandle};
use stanchion::{Cause, LruCache, LruCacheBuilder, blocking};
use std::future::{Future, pending};
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind, set_hook, take_hook};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Once, OnceLock, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};

use self::When::{Later, Never, Now};
use crate::support::{Count, Data, Item, models, observe, poll, poll_noop};

models![
    2: leader_dropped_racing_joiner,
    3: leader_dropped_racing_joiner_and_remove,
    3: leader_dropped_racing_joiner_and_clear,
    3: leader_dropped_racing_joiner_and_insert,
    3: leader_dropped_racing_remove_and_newcomer,
    2: panicking_leader_racing_joiner,
    2: own_key_racing_joiner,
    2: own_key_racing_leader_dropped,
    2: task_of_the_leader_racing_visitor,
    2: publish_racing_joiner,
    2: publish_racing_insert,
    3: publish_racing_insert_and_waiter,
    3: two_inserts_racing_waiter,
    3: insert_and_remove_racing_waiter,
    3: publish_racing_remove,
    3: publish_racing_clear,
    3: publish_racing_retain,
    2: publish_racing_update,
    2: publish_racing_remove_if,
    3: publish_racing_pop_lru,
    3: publish_racing_set_capacity,
    3: finished_flight_beside_its_successor,
    3: dropped_flight_beside_its_successor,
    3: failed_flight_beside_its_successor,
    2: chosen_racing_newcomer,
    2: chosen_dropped_racing_newcomer,
    3: chosen_dropped_racing_next_and_newcomer,
    3: leader_and_chosen_dropped_racing_next,
    3: leader_dropped_racing_both_waiters,
    3: chosen_racing_insert,
    3: chosen_dropped_racing_insert,
    2: last_chosen_dropped_racing_insert,
    2: chosen_racing_insert_that_is_not_stored,
    3: chosen_racing_remove,
    3: chosen_racing_clear,
    3: last_one_out_racing_joiner,
    2: two_keys_in_one_shard,
    2: two_keys_in_two_shards,
    2: sync_and_async_in_one_flight,
    2: two_threads_block_on_one_flight,
    4: four_callers_one_load,
    3: sync_and_async_waiters_take_over,
    2: sync_load_within_a_load,
    2: async_load_within_a_load,
    3: error_shared_by_two_waiters,
    2: leader_fails_racing_joiner,
    2: leader_fails_racing_joiner_of_another_type,
    3: error_of_another_type_is_taken_over,
    3: next_after_error_dropped,
    3: taking_over_fails_in_turn,
    3: leader_fails_racing_remove,
    2: leader_fails_racing_waiter_dropped,
    2: waiter_dropped_racing_publish,
    3: waiter_dropped_racing_publish_and_waiter,
    2: repolled_waiter_racing_publish,
    2: repolled_waiter_racing_leader_dropped,
    3: publish_wakes_more_than_a_batch_holds,
    3: error_wakes_more_than_a_batch_holds,
    3: insert_wakes_more_than_a_batch_holds,
    3: starting_afresh_wakes_more_than_a_batch_holds,
    2: loads_that_are_not_stored,
    2: set_capacity_racing_insert,
    2: growing_racing_insert,
    2: two_set_capacities_over_two_shards,
    2: insert_evicting_racing_get,
    2: hit_sees_what_its_loader_wrote,
    2: listeners_use_the_cache,
    2: drops_use_the_cache,
    2: drops_of_a_flight_use_the_cache,
    2: expiry_racing_get,
    2: expiry_racing_insert,
    2: expiry_racing_remove,
    2: expired_entry_is_loaded_once,
    2: late_clock_racing_insert,
    2: idle_end_racing_get,
    2: idle_end_racing_update,
    2: update_racing_remove_if,
    2: update_racing_update,
    2: update_racing_eviction,
    2: bad_value_is_replaced_once,
];

const A: u8 = 1;
const B: u8 = 2;
const C: u8 = 3;

/// When a load ends: in its first poll, in its second, or not at all.
#[derive(Clone, Copy)]
enum When {
    Now,
    Later,
    Never,
}

impl When {
    async fn come(self) {
        match self {
            Now => {}
            Later => {
                let mut yielded = false;
                std::future::poll_fn(|cx| {
                    cx.waker().wake_by_ref();
                    if std::mem::replace(&mut yielded, true) { Poll::Ready(()) } else { Poll::Pending }
                })
                .await;
            }
            Never => pending().await,
        }
    }
}

/// Errors of as many types as there are letters.
struct Failed<const TYPE: char>(Item);

/// The error's number, when that is what came.
fn numbers<const TYPE: char>(outcome: &Outcome<TYPE>) -> Result<u8, u8> {
    outcome.as_ref().copied().map_err(|error| error.0.get())
}

type Outcome<const TYPE: char> = Result<u8, Arc<Failed<TYPE>>>;
type Load<R = u8> = Pin<Box<dyn Future<Output = R>>>;
/// The hasher has no seed: runs are alike.
type Hasher = BuildHasherDefault<DefaultHasher>;
type Cache = LruCache<u8, Arc<Item>, Hasher>;

/// A cache that is watched: what its statistics must say in the end, and that no key is loaded twice at a time.
struct World {
    cache: Cache,
    seen: Seen,
}

#[derive(Default)]
struct Seen {
    callers: AtomicUsize,
    begun: AtomicUsize,
    failed: AtomicUsize,
    removed: AtomicUsize,
    cleared: AtomicBool,
    /// Written when a load of a key begins and when it is over: loom sees whether loads take turns, while they must.
    loading: [Data; 4],
    may_overlap: AtomicBool,
}

fn world(capacity: usize) -> Arc<World> {
    around(LruCache::with_hasher(capacity, Hasher::default()))
}

fn around(cache: Cache) -> Arc<World> {
    Arc::new(World { cache, seen: Seen::default() })
}

/// A load while it runs.
struct Loading<'a>(&'a Seen, u8);

impl<'a> Loading<'a> {
    fn begin(seen: &'a Seen, key: u8) -> Self {
        seen.begun.fetch_add(1, Relaxed);
        seen.touch(key);
        Self(seen, key)
    }
}

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        self.0.touch(self.1);
    }
}

impl Seen {
    fn touch(&self, key: u8) {
        if !self.may_overlap.load(Relaxed) {
            self.loading[usize::from(key)].increment();
        }
    }

    fn call(&self) {
        self.callers.fetch_add(1, Relaxed);
    }

    /// What a load brings that may fail.
    fn end<const TYPE: char>(&self, end: Result<u8, u8>) -> Result<Arc<Item>, Failed<TYPE>> {
        end.map(|number| Arc::new(Item::new(number))).map_err(|number| {
            self.failed.fetch_add(1, Relaxed);
            Failed(Item::new(number))
        })
    }
}

impl World {
    /// An asynchronous caller, whose load brings `number`.
    fn load(self: &Arc<Self>, key: u8, when: When, number: u8) -> Load {
        self.load_with(key, move || async move {
            when.come().await;
            number
        })
    }

    fn load_with<F: Future<Output = u8> + 'static>(
        self: &Arc<Self>,
        key: u8,
        load: impl FnOnce() -> F + 'static,
    ) -> Load {
        let world = self.clone();
        Box::pin(async move {
            world.seen.call();
            let load = || {
                let loading = Loading::begin(&world.seen, key);
                let future = load();
                async move {
                    let _loading = loading;
                    Arc::new(Item::new(future.await))
                }
            };
            world.cache.get_or_load(&key, load).await.get()
        })
    }

    /// One whose load may fail.
    fn try_load<const TYPE: char>(self: &Arc<Self>, key: u8, when: When, end: Result<u8, u8>) -> Load<Outcome<TYPE>> {
        let world = self.clone();
        Box::pin(async move {
            world.seen.call();
            let load = || {
                let loading = Loading::begin(&world.seen, key);
                let seen = &world.seen;
                async move {
                    let _loading = loading;
                    when.come().await;
                    seen.end::<TYPE>(end)
                }
            };
            world.cache.try_get_or_load(&key, load).await.map(|value| value.get())
        })
    }

    /// A caller that blocks its thread.
    fn block(&self, key: u8, number: u8) -> u8 {
        self.block_with(key, || number)
    }

    fn block_with(&self, key: u8, load: impl FnOnce() -> u8) -> u8 {
        self.seen.call();
        let load = || {
            let _loading = Loading::begin(&self.seen, key);
            Arc::new(Item::new(load()))
        };
        self.cache.get_or_insert_with(&key, load).get()
    }

    fn try_block<const TYPE: char>(&self, key: u8, end: Result<u8, u8>) -> Outcome<TYPE> {
        self.seen.call();
        let load = || {
            let _loading = Loading::begin(&self.seen, key);
            self.seen.end(end)
        };
        self.cache.try_get_or_insert_with(&key, load).map(|value| value.get())
    }

    fn get(&self, key: u8) -> Option<u8> {
        self.seen.call();
        self.cache.get(&key).map(|value| value.get())
    }

    fn peek(&self, key: u8) -> Option<u8> {
        self.cache.peek(&key).map(|value| value.get())
    }

    fn insert(&self, key: u8, number: u8) -> Option<u8> {
        self.cache.insert(key, Arc::new(Item::new(number))).map(|old| old.get())
    }

    fn remove(&self, key: u8) -> Option<u8> {
        self.seen.may_overlap.store(true, Relaxed);
        let removed = self.cache.remove(&key)?;
        self.seen.removed.fetch_add(1, Relaxed);
        Some(removed.get())
    }

    fn clear(&self) {
        self.seen.may_overlap.store(true, Relaxed);
        self.seen.cleared.store(true, Relaxed);
        self.cache.clear();
    }

    fn retain_nothing(&self) {
        self.seen.may_overlap.store(true, Relaxed);
        self.seen.cleared.store(true, Relaxed);
        self.cache.retain(|_, _| false);
    }

    /// Removes the key if it has this number.
    fn remove_if(&self, key: u8, number: u8) -> Option<u8> {
        let removed = self.cache.remove_if(&key, |_, value| value.get() == number)?;
        self.seen.removed.fetch_add(1, Relaxed);
        Some(removed.get())
    }

    /// Adds to the number, and returns what it was.
    fn add(&self, key: u8, more: u8) -> Option<u8> {
        self.seen.call();
        self.cache.update(&key, |value| {
            let number = value.get();
            *value = Arc::new(Item::new(number + more));
            number
        })
    }

    /// How many loads have begun.
    fn begun(&self) -> usize {
        self.seen.begun.load(Relaxed)
    }

    /// Nobody calls any more, and so many loads were begun.
    #[track_caller]
    fn assert_over(&self, loads: RangeInclusive<usize>) {
        let Self { cache, seen } = self;
        cache.validate();
        assert_eq!(cache.flights(), 0);
        assert!(cache.len() <= cache.capacity());
        let count = |of: &AtomicUsize| of.load(Relaxed) as u64;
        let stats = cache.stats();
        assert_eq!(stats.hits + stats.misses, count(&seen.callers));
        assert_eq!([stats.loads, stats.load_failures], [&seen.begun, &seen.failed].map(count));
        assert!(loads.contains(&self.begun()), "{} loads", self.begun());
        let left = stats.evictions + stats.expirations + count(&seen.removed);
        assert!(stats.insertions == cache.len() as u64 + left || seen.cleared.load(Relaxed));
    }
}

fn spawn<R: 'static>(world: &Arc<World>, body: impl FnOnce(&Arc<World>) -> R + 'static) -> JoinHandle<R> {
    let world = world.clone();
    thread::spawn(move || body(&world))
}

/// A load that has begun, or waits for another one.
fn begun<R>(mut load: Load<R>) -> Load<R> {
    assert!(poll_noop(&mut load).is_pending());
    load
}

/// A thread that waits for the end.
fn finish<R: 'static>(load: Load<R>) -> JoinHandle<R> {
    thread::spawn(|| blocking::wait(load))
}

/// A thread in which somebody leaves.
fn leave<R: 'static>(load: Load<R>) -> JoinHandle<()> {
    thread::spawn(|| drop(load))
}

fn join<R, const N: usize>(threads: [JoinHandle<R>; N]) -> [R; N] {
    threads.map(|thread| thread.join().unwrap())
}

/// Those who wait for a flight whose leader is gone: the first is chosen, and has not run yet. They load 2, 3, ...
fn leaderless<const N: usize>(world: &Arc<World>) -> [Load; N] {
    let leader = begun(world.load(A, Never, 1));
    let mut number = 1;
    let waiters = std::array::from_fn(|_| {
        number += 1;
        begun(world.load(A, Now, number))
    });
    drop(leader);
    waiters
}

/// The lost leader. Whoever comes while it leaves loads in its place. Guards `hand_over` in the drop of a `Seat`, and
/// `leave`.
fn leader_dropped_racing_joiner() {
    let world = world(2);
    let leader = leave(begun(world.load(A, Never, 1)));
    let joiner = finish(world.load(A, Now, 2));
    leader.join().unwrap();
    assert_eq!(joiner.join().unwrap(), 2);
    assert_eq!(world.peek(A), Some(2));
    world.assert_over(2..=2);
}

/// The same, and the key is invalidated: nobody is stranded either way. Guards `invalidate`, and `end` in `hand_over`.
fn leader_dropped_racing_joiner_and(invalidate: fn(&World)) {
    let world = world(2);
    let leader = leave(begun(world.load(A, Never, 1)));
    let joiner = finish(world.load(A, Now, 2));
    let other = spawn(&world, move |world| invalidate(world));
    join([leader, other]);
    assert_eq!(joiner.join().unwrap(), 2);
    assert_ne!(world.peek(A), Some(1));
    world.assert_over(2..=2);
}

fn leader_dropped_racing_joiner_and_remove() {
    leader_dropped_racing_joiner_and(|world| assert_ne!(world.remove(A), Some(1)));
}

fn leader_dropped_racing_joiner_and_clear() {
    leader_dropped_racing_joiner_and(World::clear);
}

/// The same with a value that comes instead: it is there in the end, and who waited for it, or came later, has it.
/// Guards `is_awaited` and `end` in `overtake`.
fn leader_dropped_racing_joiner_and_insert() {
    let world = world(2);
    let leader = leave(begun(world.load(A, Never, 1)));
    let joiner = finish(world.load(A, Now, 2));
    let inserter = spawn(&world, |world| world.insert(A, 9));
    leader.join().unwrap();
    let (replaced, got) = (inserter.join().unwrap(), joiner.join().unwrap());
    assert!(got == 2 || replaced.is_none() && got == 9);
    assert_eq!(world.peek(A), Some(9));
    world.assert_over(1..=2);
}

/// What was being loaded before the key was removed does not reach who comes after, whoever loads it. Guards
/// `invalidate`, and that the flight is left with `take_lead`.
fn leader_dropped_racing_remove_and_newcomer() {
    let world = world(2);
    let leader = begun(world.load(A, Never, 1));
    let waiter = begun(world.load(A, Now, 2));
    let leader = leave(leader);
    let waiter = finish(waiter);
    let newcomer = spawn(&world, remove_and_load);
    join([leader, newcomer]);
    assert!([2, 3].contains(&waiter.join().unwrap()));
    world.assert_over(2..=3);
}

/// Removes the key and loads 3, unless there is a later load than those from before.
fn remove_and_load(world: &Arc<World>) {
    let before = world.begun();
    world.remove(A);
    let number = blocking::wait(world.load(A, Now, 3));
    assert!(usize::from(number) > before, "stale");
}

/// What comes back, or the panic of a load.
fn survived<R>(call: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(call)).ok()
}

/// A load that panics is like one that is dropped. Guards the `Seat` that `load` holds.
fn panicking_leader_racing_joiner() {
    let world = world(2);
    let panicking = spawn(&world, |world| {
        // Without the hook, which would report each of thousands.
        survived(|| world.block_with(A, || resume_unwind(Box::new("as the model says"))))
    });
    let joiner = finish(world.load(A, Now, 2));
    assert_ne!(panicking.join().unwrap(), Some(1));
    assert_eq!(joiner.join().unwrap(), 2);
    world.assert_over(1..=2);
}

/// A load that loads its own key panics, and that is the end of it: its waiters go on. Guards `leading_thread`.
fn own_key_racing_joiner() {
    let world = world(2);
    let nesting = spawn(&world, nest);
    let joiner = finish(world.load(A, Now, 2));
    assert!([None, Some(2)].contains(&nesting.join().unwrap()));
    assert_eq!(joiner.join().unwrap(), 2);
    world.assert_over(1..=2);
}

/// The same if it takes the lead over. Guards the thread that `take_lead` notes.
fn own_key_racing_leader_dropped() {
    let world = world(2);
    let leader = leave(begun(world.load(A, Never, 1)));
    let nesting = spawn(&world, nest);
    leader.join().unwrap();
    assert_eq!(nesting.join().unwrap(), None);
    world.assert_over(2..=2);
}

/// Loads a key within its own load, if it leads.
fn nest(world: &Arc<World>) -> Option<u8> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let report = take_hook();
        set_hook(Box::new(move |panic| {
            if !panic.to_string().contains("its own key") {
                report(panic);
            }
        }));
    });
    let inner = || world.cache.get_or_insert_with(&A, || unreachable!("it is being loaded")).get();
    survived(|| world.block_with(A, inner))
}

/// A task on the thread of a leader that blocks it waits as any other does. Guards that `take_seat` asks only who
/// blocks.
fn task_of_the_leader_racing_visitor() {
    let world = world(2);
    let leader = spawn(&world, |world| {
        let mut waiter = world.load(A, Now, 2);
        let led = world.block_with(A, || {
            assert!(poll_noop(&mut waiter).is_pending());
            1
        });
        assert_eq!(poll_noop(&mut waiter), Poll::Ready(led));
        led
    });
    let visitor = spawn(&world, |world| poll_noop(&mut world.load(A, Now, 3)));
    let (led, visited) = (leader.join().unwrap(), visitor.join().unwrap());
    assert!([Poll::Pending, Poll::Ready(led)].contains(&visited));
    world.assert_over(1..=1);
}

/// The lost wake-up: who joins while the value is published gets it, and once it is published there is a hit. Guards
/// `end` in `land`, and the look again in `take_seat` once there is a key, or a waker.
fn publish_racing_joiner() {
    let world = world(2);
    let leader = finish(begun(world.load(A, Later, 1)));
    let joiner = finish(world.load(A, Now, 2));
    assert_eq!(join([leader, joiner]), [1, 1]);
    world.assert_over(1..=1);
}

/// What is inserted during a load stays. Guards `overtake` in `insert`, and that both are done under one lock.
fn publish_racing_insert() {
    let world = world(2);
    let leader = spawn(&world, |world| world.block(A, 1));
    let inserter = spawn(&world, |world| world.insert(A, 9));
    let (got, replaced) = (leader.join().unwrap(), inserter.join().unwrap());
    assert!(got == 1 || replaced.is_none() && got == 9);
    assert_eq!(world.peek(A), Some(9));
    world.assert_over(0..=1);
}

/// The waiter gets what comes first, the leader always its own. Guards `unregister` in `overtake`, and the check of the
/// registration in `land`.
fn publish_racing_insert_and_waiter() {
    let world = world(2);
    let leader = begun(world.load(A, Later, 1));
    let waiter = begun(world.load(A, Now, 2));
    let inserter = spawn(&world, |world| world.insert(A, 9));
    let [led, got] = join([leader, waiter].map(finish));
    assert_eq!((led, got), (1, inserter.join().unwrap().unwrap_or(9)));
    assert_eq!(world.peek(A), Some(9));
    world.assert_over(1..=1);
}

/// The waiter gets the first, the second stays. Guards the look at the stage in `end`.
fn two_inserts_racing_waiter() {
    let world = world(2);
    let leader = begun(world.load(A, Later, 1));
    let waiter = begun(world.load(A, Now, 2));
    let inserters = [8, 9].map(|number| spawn(&world, move |world| world.insert(A, number)));
    let got = finish(waiter).join().unwrap();
    let (first, last) = match join(inserters) {
        [None, Some(8)] => (8, 9),
        [Some(9), None] => (9, 8),
        _ => panic!("one replaces the other"),
    };
    assert_eq!(got, first);
    assert_eq!(blocking::wait(leader), 1);
    assert_eq!(world.peek(A), Some(last));
    world.assert_over(1..=1);
}

/// An insertion after the removal is not for those who waited before it; nor is the load's value for who comes later.
/// Guards the value that a flight keeps for its waiters: there is no other.
fn insert_and_remove_racing_waiter() {
    let world = world(2);
    let leader = begun(world.load(A, Later, 1));
    let waiter = begun(world.load(A, Now, 2));
    let inserter = spawn(&world, |world| {
        assert_eq!(world.insert(A, 9), None);
        assert_eq!(blocking::wait(leader), 1);
    });
    let remover = spawn(&world, |world| world.remove(A));
    let got = finish(waiter).join().unwrap();
    inserter.join().unwrap();
    match remover.join().unwrap() {
        Some(9) => assert_eq!((got, world.peek(A)), (9, None)),
        None => assert_eq!((got, world.peek(A)), (1, Some(9))),
        Some(_) => panic!("nothing else was stored"),
    }
    world.assert_over(1..=1);
}

/// What was begun before the key was invalidated is for those who wait for it, and for nobody who comes later. Guards
/// `invalidate` in `remove_entry` and `clear`, and that both are done under one lock.
fn publish_racing(invalidate: fn(&World)) {
    let world = world(2);
    let leader = begun(world.load(A, Later, 1));
    let waiter = begun(world.load(A, Now, 2));
    let other = spawn(&world, move |world| {
        invalidate(world);
        assert_eq!(world.get(A), None);
        blocking::wait(world.load(A, Now, 3))
    });
    let [led, got] = join([leader, waiter].map(finish));
    assert_eq!([led, got, other.join().unwrap()], [1, 1, 3]);
    assert_eq!(world.peek(A), Some(3));
    world.assert_over(2..=2);
}

fn publish_racing_remove() {
    publish_racing(|world| assert!([None, Some(1)].contains(&world.remove(A))));
}

fn publish_racing_clear() {
    publish_racing(World::clear);
}

fn publish_racing_retain() {
    publish_racing(World::retain_nothing);
}

/// A change in place finds what was published, or nothing, and leaves the load alone.
fn publish_racing_update() {
    let world = world(2);
    let leader = begun(world.load(A, Later, 1));
    let updater = spawn(&world, |world| world.add(A, 4));
    assert_eq!(finish(leader).join().unwrap(), 1);
    let found = observe("update finds what was published", updater.join().unwrap() == Some(1));
    assert_eq!(world.peek(A), Some(if found { 5 } else { 1 }));
    world.assert_over(1..=1);
}

/// A removal on a condition that finds nothing does not keep the value from being stored.
fn publish_racing_remove_if() {
    let world = world(2);
    let leader = begun(world.load(A, Later, 1));
    let remover = spawn(&world, |world| world.remove_if(A, 1));
    assert_eq!(finish(leader).join().unwrap(), 1);
    let found = observe("remove_if finds what was published", remover.join().unwrap() == Some(1));
    assert_eq!(world.peek(A), if found { None } else { Some(1) });
    world.assert_over(1..=1);
}

/// What makes room leaves the flight alone: its waiter gets the value even if its entry is gone. Guards `for_waiters`
/// in `land`.
fn publish_racing_room(make_room: fn(&World) -> bool) {
    let world = world(2);
    let leader = begun(world.load(A, Later, 1));
    let waiter = begun(world.load(A, Now, 2));
    let other = spawn(&world, move |world| make_room(world));
    assert_eq!(join([leader, waiter].map(finish)), [1, 1]);
    let gone = other.join().unwrap();
    assert_eq!(world.peek(A), if gone { None } else { Some(1) });
    world.assert_over(1..=1);
}

fn publish_racing_pop_lru() {
    publish_racing_room(|world| {
        let popped = world.cache.pop_lru().is_some();
        world.seen.removed.fetch_add(popped.into(), Relaxed);
        popped
    });
}

fn publish_racing_set_capacity() {
    publish_racing_room(|world| {
        world.cache.set_capacity(0);
        true
    });
}

/// Two flights of one key: the first was invalidated, and ends as it may; its end does not touch the second. Guards
/// that `unregister` and `hand_over` look whether it is registered.
fn flight_beside_its_successor(leader: fn(&Arc<World>) -> Load<()>, end: fn(Load<()>), waits: RangeInclusive<u8>) {
    let world = world(2);
    let leader = begun(leader(&world));
    let waiter = begun(world.load(A, Now, 2));
    assert_eq!(world.remove(A), None);
    let successor = begun(world.load(A, Later, 3));
    let joined = begun(world.load(A, Now, 4));
    let leader = thread::spawn(move || end(leader));
    let [led, got] = join([successor, waiter].map(finish));
    leader.join().unwrap();
    assert_eq!(led, 3);
    assert!(waits.contains(&got));
    assert_eq!((blocking::wait(joined), world.peek(A)), (3, Some(3)));
    world.assert_over(2..=2);
}

fn finished_flight_beside_its_successor() {
    let leader = |world: &Arc<World>| {
        let load = world.load(A, Later, 1);
        Box::pin(async { assert_eq!(load.await, 1) }) as Load<()>
    };
    flight_beside_its_successor(leader, blocking::wait, 1..=1);
}

fn dropped_flight_beside_its_successor() {
    let leader = |world: &Arc<World>| {
        let load = world.load(A, Never, 1);
        Box::pin(async { assert_eq!(load.await, 1) }) as Load<()>
    };
    flight_beside_its_successor(leader, drop, 3..=3);
}

fn failed_flight_beside_its_successor() {
    let leader = |world: &Arc<World>| {
        let load = world.try_load::<'a'>(A, Later, Err(1));
        Box::pin(async { assert_eq!(numbers(&load.await), Err(1)) }) as Load<()>
    };
    flight_beside_its_successor(leader, blocking::wait, 3..=3);
}

/// Who is chosen has a place that nobody takes who comes later. Guards `join` of a leaderless flight.
fn chosen_racing_newcomer() {
    let world = world(2);
    let [chosen] = leaderless(&world);
    assert_eq!(join([chosen, world.load(A, Now, 3)].map(finish)), [2, 2]);
    world.assert_over(2..=2);
}

/// The lost choice: who is chosen leaves, and whoever comes meanwhile loads. Guards `hand_over` in the drop of who was
/// chosen.
fn chosen_dropped_racing_newcomer() {
    let world = world(2);
    let [chosen] = leaderless(&world);
    let chosen = leave(chosen);
    let newcomer = finish(world.load(A, Now, 3));
    chosen.join().unwrap();
    assert_eq!(newcomer.join().unwrap(), 3);
    world.assert_over(2..=2);
}

/// The same with another one behind, who is before the newcomer. Guards the look at the grant in the drop of a `Seat`.
fn chosen_dropped_racing_next_and_newcomer() {
    let world = world(2);
    let [chosen, next] = leaderless(&world);
    let chosen = leave(chosen);
    let others = [next, world.load(A, Now, 4)].map(finish);
    chosen.join().unwrap();
    assert_eq!(join(others), [3, 3]);
    world.assert_over(2..=2);
}

/// The same while it is being chosen. Guards that who is dropped leaves the line before the lead is passed on.
fn leader_and_chosen_dropped_racing_next() {
    let world = world(2);
    let leader = begun(world.load(A, Never, 1));
    let [first, second] = [2, 3].map(|number| begun(world.load(A, Now, number)));
    let leaving = [leader, first].map(leave);
    let next = finish(second);
    join(leaving);
    assert_eq!(next.join().unwrap(), 3);
    world.assert_over(2..=2);
}

/// The longest waiting takes over, and the other gets what it loads. Guards `grant_front` in `hand_over`, and the stage
/// in `take_lead`.
fn leader_dropped_racing_both_waiters() {
    let world = world(2);
    let leader = begun(world.load(A, Never, 1));
    let waiters = [2, 3].map(|number| begun(world.load(A, Now, number)));
    let leader = leave(leader);
    let waiters = waiters.map(finish);
    leader.join().unwrap();
    assert_eq!(join(waiters), [2, 2]);
    world.assert_over(2..=2);
}

/// Who is chosen takes what is inserted before it runs, and returns its own once it loads. Who waits behind gets what
/// is inserted before the end. Guards the look at the stage in `take_lead`.
fn chosen_racing_insert() {
    let world = world(2);
    let [chosen, next] = leaderless(&world);
    let inserter = spawn(&world, |world| {
        let before = world.begun();
        (before, world.insert(A, 9))
    });
    let [led, got] = join([chosen, next].map(finish));
    match inserter.join().unwrap() {
        (_, Some(2)) => assert_eq!((led, got), (2, 2)),
        (1, None) => assert!([(9, 9), (2, 9)].contains(&(led, got))),
        (2, None) => assert_eq!((led, got), (2, 9)),
        _ => panic!("nothing else was stored"),
    }
    assert_eq!(world.peek(A), Some(9));
    world.assert_over(1..=2);
}

/// The same with one that leaves. Guards `Leaderless` in `is_awaited` and in `end`.
fn chosen_dropped_racing_insert() {
    let world = world(2);
    let [chosen, next] = leaderless(&world);
    let chosen = leave(chosen);
    let inserter = spawn(&world, |world| world.insert(A, 9));
    let next = finish(next);
    chosen.join().unwrap();
    let (replaced, got) = (inserter.join().unwrap(), next.join().unwrap());
    assert!(got == 3 || replaced.is_none() && got == 9);
    assert_eq!(world.peek(A), Some(9));
    world.assert_over(1..=2);
}

/// The same with nobody behind it: the flight goes, and the value that it carries. Guards `leave`.
fn last_chosen_dropped_racing_insert() {
    let world = world(2);
    let [chosen] = leaderless(&world);
    let chosen = leave(chosen);
    let inserter = spawn(&world, |world| {
        assert_eq!(world.insert(A, 9), None);
        assert_eq!(world.get(A), Some(9));
    });
    join([chosen, inserter]);
    world.assert_over(1..=1);
}

/// A value that does not fit is for who waits, even so. Guards `Leaderless` in `is_awaited`.
fn chosen_racing_insert_that_is_not_stored() {
    let world = world(0);
    let [chosen] = leaderless(&world);
    let inserter = spawn(&world, |world| {
        assert_eq!(world.insert(A, 9), None);
        world.cache.stats().loads == 1
    });
    let got = finish(chosen).join().unwrap();
    assert_eq!(got, if inserter.join().unwrap() { 9 } else { 2 });
    world.assert_over(1..=2);
}

/// A load that begins after the key was invalidated is not stale, one that began before is. Guards the stage in
/// `invalidate`.
fn chosen_racing(invalidate: fn(&World)) {
    let world = world(2);
    let [chosen, next] = leaderless(&world);
    let other = spawn(&world, move |world| {
        let before = world.begun();
        invalidate(world);
        let is_later = world.cache.stats().loads == 1;
        assert!(before == 1 || world.get(A).is_none(), "stale");
        is_later
    });
    assert_eq!(join([chosen, next].map(finish)), [2, 2]);
    assert!(!other.join().unwrap() || world.peek(A) == Some(2), "it was to be stored");
    world.assert_over(2..=2);
}

fn chosen_racing_remove() {
    chosen_racing(|world| assert!([None, Some(2)].contains(&world.remove(A))));
}

fn chosen_racing_clear() {
    chosen_racing(World::clear);
}

/// Nobody is left to wait, and the flight goes; who comes meanwhile has another one, or this one. Guards `unregister`
/// in `hand_over`, and the count of callers.
fn last_one_out_racing_joiner() {
    let world = world(2);
    let leader = leave(begun(world.load(A, Never, 1)));
    let visitor = spawn(&world, |world| poll_noop(&mut world.load(A, Later, 2)).is_ready());
    let joiner = finish(world.load(A, Now, 3));
    leader.join().unwrap();
    visitor.join().unwrap();
    assert_eq!(joiner.join().unwrap(), 3);
    assert_eq!(world.peek(A), Some(3));
    world.assert_over(2..=3);
}

/// Two keys are loaded side by side. Guards the index.
fn two_keys(world: Arc<World>, keys: [u8; 2]) {
    let one = spawn(&world, move |world| {
        assert_ne!(world.get(keys[1]), Some(1));
        world.block(keys[0], 1)
    });
    let other = spawn(&world, move |world| {
        assert_ne!(world.get(keys[0]), Some(2));
        blocking::wait(world.load(keys[1], Later, 2))
    });
    assert_eq!(join([one, other]), [1, 2]);
    assert_eq!(keys.map(|key| world.get(key)), [Some(1), Some(2)]);
    world.assert_over(2..=2);
}

fn two_keys_in_one_shard() {
    two_keys(world(2), [A, B]);
}

fn two_keys_in_two_shards() {
    let cache = LruCache::<u8, _>::builder(2).hasher(Hasher::default()).shards(2).build();
    two_keys(around(cache), [A, B]);
}

/// Whoever comes first loads for both. Guards the wakes of `land`.
fn sync_and_async_in_one_flight() {
    let world = world(2);
    let one = spawn(&world, |world| world.block(A, 1));
    let other = finish(world.load(A, Later, 2));
    let [one, other] = join([one, other]);
    assert_eq!(one, other);
    world.assert_over(1..=1);
}

/// They are two threads, so that none of them loads its own key. Guards the comparison with `leading_thread`.
fn two_threads_block_on_one_flight() {
    let world = world(2);
    let [one, other] = join([1, 2].map(|number| spawn(&world, move |world| world.block(A, number))));
    assert_eq!(one, other);
    world.assert_over(1..=1);
}

fn four_callers_one_load() {
    let world = world(2);
    let [one, two] = [1, 2].map(|number| spawn(&world, move |world| world.block(A, number)));
    let [three, four] = [3, 4].map(|number| finish(world.load(A, Now, number)));
    let numbers = join([one, two, three, four]);
    assert!(numbers.windows(2).all(|pair| pair[0] == pair[1]));
    world.assert_over(1..=1);
}

/// Whoever joins first loads for both. A thread that waits is chosen as a task is. Guards the stage that `take_lead`
/// notes.
fn sync_and_async_waiters_take_over() {
    let world = world(2);
    let leader = leave(begun(world.load(A, Never, 1)));
    let one = spawn(&world, |world| world.block(A, 2));
    let other = finish(world.load(A, Now, 3));
    leader.join().unwrap();
    let [one, other] = join([one, other]);
    assert_eq!(one, other);
    world.assert_over(2..=2);
}

/// A load of another key within a load, beside a load of that key.
fn sync_load_within_a_load() {
    let world = world(2);
    let outer = spawn(&world, |world| world.block_with(A, || world.block(B, 1)));
    let inner = spawn(&world, |world| world.block(B, 2));
    let [outer, inner] = join([outer, inner]);
    assert_eq!(outer, inner);
    world.assert_over(2..=2);
}

fn async_load_within_a_load() {
    let world = world(2);
    let inner = world.load(B, Later, 1);
    let outer = world.load_with(A, || inner);
    let [outer, inner] = join([outer, world.load(B, Later, 2)].map(finish));
    assert_eq!(outer, inner);
    world.assert_over(2..=2);
}

/// The very same error.
fn is_shared<const TYPE: char>(one: &Outcome<TYPE>, other: &Outcome<TYPE>) -> bool {
    matches!((one, other), (Err(one), Err(other)) if Arc::ptr_eq(one, other))
}

/// One load fails for all who wait, and nothing is remembered. Guards `share`, and its wakes.
fn error_shared_by_two_waiters() {
    let world = world(2);
    let ends = [(Later, Err(1)), (Now, Ok(2)), (Now, Ok(3))];
    let [led, one, other] = join(ends.map(|(when, end)| begun(world.try_load::<'a'>(A, when, end))).map(finish));
    assert_eq!(numbers(&led), Err(1));
    assert!(is_shared(&led, &one) && is_shared(&led, &other));
    assert_eq!(world.get(A), None);
    world.assert_over(1..=1);
}

/// Who joins in time gets the error, and who comes later loads. Guards `hand_over` in `fail`: with nobody left the
/// flight goes.
fn leader_fails_racing_joiner() {
    let world = world(2);
    let leader = finish(begun(world.try_load::<'a'>(A, Later, Err(1))));
    let joiner = spawn(&world, |world| world.try_block::<'a'>(A, Ok(2)));
    let [led, got] = join([leader, joiner]);
    assert_eq!(numbers(&led), Err(1));
    let loads = if is_shared(&led, &got) { 1 } else { 2 };
    assert!(loads == 1 || numbers(&got) == Ok(2));
    world.assert_over(loads..=loads);
}

/// Who cannot fail, or not so, loads in any case. Guards the type in `share`.
fn leader_fails_racing_joiner_of_another_type() {
    let world = world(2);
    let leader = finish(begun(world.try_load::<'a'>(A, Later, Err(1))));
    let joiner = finish(world.load(A, Now, 2));
    assert_eq!(numbers(&leader.join().unwrap()), Err(1));
    assert_eq!(joiner.join().unwrap(), 2);
    world.assert_over(2..=2);
}

/// The error is for those whose it can be; of the others one takes over, and the rest wait for it. Guards `hand_over`
/// after `share`, and what `grant_each` leaves in the line.
fn error_of_another_type_is_taken_over() {
    let world = world(2);
    let leader = begun(world.try_load::<'a'>(A, Later, Err(1)));
    let next = begun(world.load(A, Now, 2));
    let alike = begun(world.try_load::<'a'>(A, Now, Ok(3)));
    let last = begun(world.try_load::<'b'>(A, Now, Ok(4)));
    let next = finish(next);
    let [led, alike] = join([leader, alike].map(finish));
    assert_eq!(numbers(&led), Err(1));
    assert!(is_shared(&led, &alike));
    assert_eq!(next.join().unwrap(), 2);
    assert_eq!(numbers(&blocking::wait(last)), Ok(2));
    world.assert_over(2..=2);
}

/// Who would take over leaves. Guards `hand_over` after `share`, and in the drop of who was chosen.
fn next_after_error_dropped() {
    let world = world(2);
    let leader = begun(world.try_load::<'a'>(A, Later, Err(1)));
    let [next, last] = [2, 3].map(|number| begun(world.load(A, Now, number)));
    let leader = finish(leader);
    let next = leave(next);
    let last = finish(last);
    next.join().unwrap();
    assert_eq!(numbers(&leader.join().unwrap()), Err(1));
    assert_eq!(last.join().unwrap(), 3);
    world.assert_over(2..=2);
}

/// Who takes over fails as well: its error is for those whose it can be. Guards the order that `grant_each` leaves.
fn taking_over_fails_in_turn() {
    let world = world(2);
    let leader = begun(world.try_load::<'a'>(A, Later, Err(1)));
    let next = begun(world.try_load::<'b'>(A, Now, Err(2)));
    let alike = begun(world.try_load::<'b'>(A, Now, Ok(3)));
    let last = begun(world.load(A, Now, 4));
    let leader = finish(leader);
    let [led, alike] = join([next, alike].map(finish));
    assert_eq!((numbers(&leader.join().unwrap()), numbers(&led)), (Err(1), Err(2)));
    assert!(is_shared(&led, &alike));
    assert_eq!(blocking::wait(last), 4);
    world.assert_over(3..=3);
}

/// Who cannot take the error takes over, or starts afresh; what was begun before the removal is for nobody who comes
/// later. Guards `end` in `hand_over`.
fn leader_fails_racing_remove() {
    let world = world(2);
    let leader = begun(world.try_load::<'a'>(A, Later, Err(1)));
    let waiter = begun(world.load(A, Now, 2));
    let leader = finish(leader);
    let waiter = finish(waiter);
    spawn(&world, remove_and_load).join().unwrap();
    assert_eq!(numbers(&leader.join().unwrap()), Err(1));
    assert!([2, 3].contains(&waiter.join().unwrap()));
    world.assert_over(2..=3);
}

/// An error that nobody collects is dropped.
fn leader_fails_racing_waiter_dropped() {
    let world = world(2);
    let leader = begun(world.try_load::<'a'>(A, Later, Err(1)));
    let waiter = leave(begun(world.try_load::<'a'>(A, Now, Ok(2))));
    let leader = spawn(&world, |world| {
        assert_eq!(numbers(&blocking::wait(leader)), Err(1));
        assert_eq!(world.get(A), None);
    });
    join([leader, waiter]);
    world.assert_over(1..=1);
}

/// A value that nobody collects is dropped, and its flight goes. Guards `leave`.
fn waiter_dropped_racing_publish() {
    let world = world(2);
    let leader = begun(world.load(A, Later, 1));
    let waiter = leave(begun(world.load(A, Now, 2)));
    let leader = spawn(&world, |world| {
        assert_eq!(blocking::wait(leader), 1);
        assert_eq!(world.get(A), Some(1));
    });
    join([leader, waiter]);
    world.assert_over(1..=1);
}

/// The same beside one that stays.
fn waiter_dropped_racing_publish_and_waiter() {
    let world = world(2);
    let leader = begun(world.load(A, Later, 1));
    let [leaving, staying] = [2, 3].map(|number| begun(world.load(A, Now, number)));
    let leaving = leave(leaving);
    assert_eq!(join([leader, staying].map(finish)), [1, 1]);
    leaving.join().unwrap();
    world.assert_over(1..=1);
}

/// A waiter that comes with a new waker at the same time.
fn repolled_waiter_racing(end: fn(Load), gets: u8, loads: usize) {
    let world = world(2);
    let leader = begun(world.load(A, Later, 1));
    let mut waiter = world.load(A, Now, 2);
    let (_, first) = Count::new();
    assert!(poll(&mut waiter, &first).is_pending());
    let leader = thread::spawn(move || end(leader));
    // The wait brings wakers of its own; were the first one kept, nobody would end it.
    assert_eq!(finish(waiter).join().unwrap(), gets);
    leader.join().unwrap();
    world.assert_over(loads..=loads);
}

fn repolled_waiter_racing_publish() {
    repolled_waiter_racing(|leader| assert_eq!(blocking::wait(leader), 1), 1, 1);
}

fn repolled_waiter_racing_leader_dropped() {
    repolled_waiter_racing(drop, 2, 2);
}

/// Four wait and a batch holds two (under loom): the third sleeps, the fourth leaves meanwhile. What all get, if it is
/// the same, and how many loads it takes. Guards the refill in `wake`, and `to_wake` in `grant_each`.
fn more_than_a_batch_holds<const TYPE: char>(
    leader: Result<u8, u8>,
    end: fn(&Arc<World>, Load<Outcome<TYPE>>),
    gets: Result<u8, u8>,
    loads: usize,
) {
    let world = world(2);
    let leader = begun(world.try_load::<TYPE>(A, Later, leader));
    let [mut first, mut second, third, fourth] = [2, 3, 4, 5].map(|number| world.try_load::<TYPE>(A, Now, Ok(number)));
    let counts = [0, 1].map(|_| Count::new());
    assert!(poll(&mut first, &counts[0].1).is_pending() && poll(&mut second, &counts[1].1).is_pending());
    let [third, fourth] = [third, fourth].map(begun);
    let third = finish(third);
    let fourth = leave(fourth);
    let leader = spawn(&world, move |world| end(world, leader));
    join([fourth, leader]);
    let outcomes = [third.join().unwrap(), blocking::wait(first), blocking::wait(second)];
    assert_eq!(outcomes.each_ref().map(numbers), [gets; 3]);
    assert_eq!(counts.map(|(count, _)| count.get()), [1, 1]);
    world.assert_over(loads..=loads);
}

fn publish_wakes_more_than_a_batch_holds() {
    more_than_a_batch_holds::<'a'>(Ok(1), |_, leader| drop(blocking::wait(leader)), Ok(1), 1);
}

fn error_wakes_more_than_a_batch_holds() {
    more_than_a_batch_holds::<'a'>(Err(1), |_, leader| drop(blocking::wait(leader)), Err(1), 1);
}

fn insert_wakes_more_than_a_batch_holds() {
    let end = |world: &Arc<World>, leader| {
        assert_eq!(world.insert(A, 9), None);
        drop(leader);
    };
    more_than_a_batch_holds::<'a'>(Ok(1), end, Ok(9), 1);
}

fn starting_afresh_wakes_more_than_a_batch_holds() {
    let end = |world: &Arc<World>, leader| {
        assert_eq!(world.remove(A), None);
        drop(leader);
    };
    // The third is the first to run.
    more_than_a_batch_holds::<'a'>(Ok(1), end, Ok(4), 2);
}

/// A value that does not fit reaches whoever waits for it.
fn loads_that_are_not_stored() {
    let world = world(0);
    let [one, other] = join([1, 2].map(|number| finish(world.load(A, Now, number))));
    let loads = if one == other { 1 } else { 2 };
    assert_eq!((one, other, world.cache.len()), if loads == 1 { (one, one, 0) } else { (1, 2, 0) });
    world.assert_over(loads..=loads);
}

fn filled(cache: Cache, keys: RangeInclusive<u8>) -> Arc<World> {
    let world = around(cache);
    keys.for_each(|key| assert_eq!(world.insert(key, key), None));
    world
}

/// There are never more entries than may be. Guards the eviction under the lock.
fn set_capacity_racing_insert() {
    let world = filled(LruCache::with_hasher(2, Hasher::default()), A..=B);
    let shrinker = spawn(&world, |world| {
        world.cache.set_capacity(1);
        assert_eq!(world.cache.capacity(), 1);
        assert!(world.cache.len() <= 1);
    });
    let inserter = spawn(&world, |world| assert_eq!(world.insert(C, 3), None));
    join([shrinker, inserter]);
    assert_eq!([A, B, C].map(|key| world.peek(key)), [None, None, Some(3)]);
    world.assert_over(0..=0);
}

/// Whoever counts the entries first, and then asks how many may be, sees no more than that. Guards the lock around the
/// capacity: it is read when all shards have theirs.
fn growing_racing_insert() {
    let cache = LruCache::<u8, _>::builder(2).hasher(Hasher::default()).shards(2).build();
    let world = filled(cache, A..=B);
    let grower = spawn(&world, |world| world.cache.set_capacity(4));
    let inserter = spawn(&world, |world| {
        world.insert(C, 3);
        let len = world.cache.len();
        assert!(len <= world.cache.capacity());
    });
    join([grower, inserter]);
    assert_eq!(world.cache.capacity(), 4);
    world.assert_over(0..=0);
}

/// The shards agree on which came last. Guards the same lock.
fn two_set_capacities_over_two_shards() {
    let cache = LruCache::<u8, _>::builder(2).hasher(Hasher::default()).shards(2).build();
    let world = filled(cache, A..=B);
    join([1, 4].map(|capacity| spawn(&world, move |world| world.cache.set_capacity(capacity))));
    let capacity = world.cache.capacity();
    assert!([1, 4].contains(&capacity));
    world.cache.validate();
    // Enough for both shards.
    (10..20).for_each(|key| assert_eq!(world.insert(key, key), None));
    assert_eq!(world.cache.len(), capacity);
    world.assert_over(0..=0);
}

/// Who is looked up before the insertion stays, and the other one goes. Guards `move_to_front` in `get`.
fn insert_evicting_racing_get() {
    let world = filled(LruCache::with_hasher(2, Hasher::default()), A..=B);
    let getter = spawn(&world, |world| {
        let got = world.get(A);
        assert_eq!(world.cache.len(), 2);
        got
    });
    let inserter = spawn(&world, |world| assert_eq!(world.insert(C, 3), None));
    inserter.join().unwrap();
    let stays = match getter.join().unwrap() {
        Some(1) => A,
        None => B,
        Some(_) => panic!("another key's"),
    };
    assert_eq!([A, B, C].map(|key| world.peek(key).is_some()), [stays == A, stays == B, true]);
    world.assert_over(0..=0);
}

/// Loom watches what a value holds: it is written before it is read. Guards the lock of the shard, and nothing else.
fn hit_sees_what_its_loader_wrote() {
    let world = world(2);
    let loader = spawn(&world, |world| world.block(A, 1));
    let getter = spawn(&world, |world| (world.get(A), world.peek(A)));
    assert_eq!(loader.join().unwrap(), 1);
    let (got, peeked) = getter.join().unwrap();
    assert!([None, Some(1)].contains(&got) && [got, Some(1)].contains(&peeked));
    world.assert_over(1..=1);
}

/// A cache with one entry, whose listener uses it, and how often it was told of what left.
fn listening(builder: LruCacheBuilder<u8, Arc<Item>, Hasher>, cause: Cause) -> (Arc<World>, Arc<AtomicUsize>) {
    let (whole, reports) = (Arc::new(OnceLock::<Weak<World>>::new()), Arc::new(AtomicUsize::new(0)));
    let listener = {
        let (whole, reports) = (whole.clone(), reports.clone());
        move |key, value: Arc<Item>, told| {
            assert_eq!(told, cause);
            let world = whole.get().and_then(Weak::upgrade).expect("somebody uses it");
            assert_ne!(world.peek(key), Some(value.get()));
            reports.fetch_add(1, Relaxed);
        }
    };
    let world = filled(builder.on_evict(listener).build(), A..=A);
    assert!(whole.set(Arc::downgrade(&world)).is_ok());
    (world, reports)
}

/// What is evicted is reported when nothing is locked. Guards `settle` and `settle_and_wake` after the unlock.
fn listeners_use_the_cache() {
    let (world, reports) = listening(LruCache::<u8, _>::builder(1).hasher(Hasher::default()), Cause::Capacity);
    let inserter = spawn(&world, |world| assert_eq!(world.insert(B, B), None));
    let loader = spawn(&world, |world| assert_eq!(world.block(C, C), C));
    join([inserter, loader]);
    assert_eq!((reports.load(Relaxed), world.cache.stats().evictions), (2, 2));
    world.assert_over(1..=1);
}

/// Looks into its cache when it is dropped.
#[derive(Clone)]
struct Curious(Weak<LruCache<u8, Curious, Hasher>>, Arc<Item>);

impl Curious {
    fn about(cache: &Arc<LruCache<u8, Curious, Hasher>>) -> Self {
        Self(Arc::downgrade(cache), Arc::new(Item::new(0)))
    }
}

impl Drop for Curious {
    fn drop(&mut self) {
        if let Some(cache) = self.0.upgrade() {
            assert!(!cache.contains_key(&9));
        }
        assert_eq!(self.1.get(), 0);
    }
}

/// What is evicted, cleared or refused is dropped when nothing is locked. Guards the same.
fn drops_use_the_cache() {
    let cache = Arc::new(LruCache::with_hasher(1, Hasher::default()));
    drop(cache.insert(A, Curious::about(&cache)));
    let inserter = thread::spawn({
        let cache = cache.clone();
        move || drop(cache.insert(B, Curious::about(&cache)))
    });
    let clearer = thread::spawn({
        let cache = cache.clone();
        move || {
            cache.clear();
            drop(cache.get_or_insert_with(&C, || Curious::about(&cache)));
        }
    });
    join([inserter, clearer]);
    cache.validate();
    assert_eq!((cache.len(), cache.flights()), (1, 0));
}

/// So is what nobody takes out of a flight, by the last one who leaves, and what is not stored. Guards `bury` after the
/// unlock in the drop of a `Seat`, and the value that `leave` puts into `Gone`.
fn drops_of_a_flight_use_the_cache() {
    let cache = Arc::new(LruCache::with_hasher(0, Hasher::default()));
    let [leader, waiter] = [(); 2].map(|()| {
        let cache = cache.clone();
        begun(Box::pin(async move { drop(cache.get_or_load(&A, pending).await) }) as Load<()>)
    });
    let inserter = thread::spawn({
        let cache = cache.clone();
        move || {
            assert!(cache.insert(A, Curious::about(&cache)).is_none());
            drop(leader);
            drop(cache.get_or_insert_with(&A, || Curious::about(&cache)));
        }
    });
    let waiter = leave(waiter);
    join([inserter, waiter]);
    cache.validate();
    assert_eq!((cache.len(), cache.flights()), (0, 0));
}

/// Seconds that pass when a model says so.
#[derive(Clone)]
struct Seconds(Arc<AtomicU64>);

impl Seconds {
    fn pass(&self, seconds: u64) {
        self.0.fetch_add(seconds, Relaxed);
    }
}

/// A cache whose entries live for a second, with one in it, and how many were reported to have expired.
fn mortal() -> (Arc<World>, Seconds, Arc<AtomicUsize>) {
    let (start, seconds) = (Instant::now(), Seconds(Arc::new(AtomicU64::new(0))));
    let clock = {
        let seconds = seconds.clone();
        move || start + Duration::from_secs(seconds.0.load(Relaxed))
    };
    let builder = LruCache::<u8, _>::builder(2).hasher(Hasher::default()).clock(clock);
    let (world, reports) = listening(builder.time_to_live(Duration::from_secs(1)), Cause::Expired);
    (world, seconds, reports)
}

#[track_caller]
fn assert_expired_once(world: &World, reports: &AtomicUsize) {
    assert_eq!((world.cache.stats().expirations, reports.load(Relaxed)), (1, 1));
}

/// Whoever meets it first reports it; nobody gets it when its time is over. Guards `live` in `get`.
fn expiry_racing_get() {
    let (world, seconds, reports) = mortal();
    let timer = spawn(&world, move |world| {
        seconds.pass(1);
        assert_eq!(world.get(A), None);
    });
    let getter = spawn(&world, |world| {
        let [first, second] = [(); 2].map(|()| world.get(A));
        assert!([first, None].contains(&second) && [None, Some(1)].contains(&first));
    });
    join([timer, getter]);
    assert_expired_once(&world, &reports);
    world.assert_over(0..=0);
}

/// What takes its place is not taken for it. Guards the end that comes with a stored entry.
fn expiry_racing_insert() {
    let (world, seconds, reports) = mortal();
    seconds.pass(1);
    let inserter = spawn(&world, |world| assert_eq!(world.insert(A, 9), None));
    let getter = spawn(&world, |world| {
        let [first, second] = [(); 2].map(|()| world.get(A));
        assert!([first, Some(9)].contains(&second) && [None, Some(9)].contains(&first));
    });
    join([inserter, getter]);
    assert_eq!(world.peek(A), Some(9));
    assert_expired_once(&world, &reports);
    world.assert_over(0..=0);
}

/// Whoever meets it first reports it; the other one finds nothing. Guards `live` in `remove_entry`.
fn expiry_racing_remove() {
    let (world, seconds, reports) = mortal();
    seconds.pass(1);
    let remover = spawn(&world, |world| assert_eq!(world.remove(A), None));
    let other = spawn(&world, |world| {
        assert_eq!(world.peek(A), None);
        assert!(world.cache.entries().is_empty());
    });
    join([remover, other]);
    assert_expired_once(&world, &reports);
    world.assert_over(0..=0);
}

/// Nobody gets it, and one load replaces it. Guards `live` in `take_seat`.
fn expired_entry_is_loaded_once() {
    let (world, seconds, reports) = mortal();
    seconds.pass(1);
    let [one, other] = join([2, 3].map(|number| finish(world.load(A, Now, number))));
    assert!(one == other && one != 1);
    assert_expired_once(&world, &reports);
    world.assert_over(1..=1);
}

/// The clock is read before the lock: one entry may seem to come from the future.
fn late_clock_racing_insert() {
    let (world, seconds, reports) = mortal();
    let inserter = spawn(&world, move |world| {
        seconds.pass(9);
        world.insert(A, 9);
    });
    let getter = spawn(&world, |world| {
        let [first, second] = [(); 2].map(|()| world.get(A));
        assert!(first != Some(9) || second == Some(9));
    });
    join([inserter, getter]);
    assert_eq!(world.peek(A), Some(9));
    assert_expired_once(&world, &reports);
    world.assert_over(0..=0);
}

/// A cache whose entries live for two seconds after their last use, with one in it that is a second old. Loom watches the
/// clock.
fn idling() -> (Arc<World>, Arc<loom::sync::atomic::AtomicU64>, Arc<AtomicUsize>) {
    let (start, seconds) = (Instant::now(), Arc::new(loom::sync::atomic::AtomicU64::new(0)));
    let clock = {
        let seconds = seconds.clone();
        move || start + Duration::from_secs(seconds.load(Relaxed))
    };
    let builder = LruCache::<u8, _>::builder(2).hasher(Hasher::default()).clock(clock);
    let (world, reports) = listening(builder.time_to_idle(Duration::from_secs(2)), Cause::Expired);
    seconds.store(1, Relaxed);
    (world, seconds, reports)
}

/// A use comes before the end of the idle time, and puts it off, or it finds nothing.
fn idle_end_racing(call: &'static str, is_used: fn(&World) -> bool) {
    let (world, seconds, reports) = idling();
    let timer = thread::spawn(move || seconds.store(2, Relaxed));
    let user = spawn(&world, move |world| is_used(world));
    timer.join().unwrap();
    let is_used = observe(call, user.join().unwrap());
    assert_eq!(world.peek(A).is_some(), is_used);
    assert_eq!(reports.load(Relaxed), usize::from(!is_used));
    world.assert_over(0..=0);
}

fn idle_end_racing_get() {
    idle_end_racing("get", |world| world.get(A).is_some());
}

fn idle_end_racing_update() {
    idle_end_racing("update", |world| world.add(A, 1).is_some());
}

/// One comes after the other: the condition is asked about the old number or the new one.
fn update_racing_remove_if() {
    let world = filled(LruCache::with_hasher(2, Hasher::default()), A..=A);
    let updater = spawn(&world, |world| world.add(A, 4));
    let remover = spawn(&world, |world| world.remove_if(A, 1));
    let (updated, removed) = (updater.join().unwrap(), remover.join().unwrap());
    let is_first = observe("update comes first", updated.is_some());
    let expected = if is_first { (Some(1), None, Some(5)) } else { (None, Some(1), None) };
    assert_eq!((updated, removed, world.peek(A)), expected);
    world.assert_over(0..=0);
}

/// No change is lost.
fn update_racing_update() {
    let world = filled(LruCache::with_hasher(2, Hasher::default()), A..=A);
    let mut found = join([2, 4].map(|more| spawn(&world, move |world| world.add(A, more).unwrap())));
    found.sort_unstable();
    assert!(observe("the smaller is added first", found == [1, 3]) || found == [1, 5]);
    assert_eq!(world.peek(A), Some(7));
    world.assert_over(0..=0);
}

/// A change is a use: the other entry is evicted, unless the insertion came first.
fn update_racing_eviction() {
    let world = filled(LruCache::with_hasher(2, Hasher::default()), A..=B);
    let updater = spawn(&world, |world| world.add(A, 4));
    let inserter = spawn(&world, |world| assert_eq!(world.insert(C, 3), None));
    inserter.join().unwrap();
    let is_first = observe("update comes first", updater.join().unwrap().is_some());
    assert_eq!([A, B].map(|key| world.peek(key).is_some()), [is_first, !is_first]);
    world.assert_over(0..=0);
}

/// Of two callers that met a bad value one loads another, and neither removes that.
fn bad_value_is_replaced_once() {
    let world = filled(LruCache::with_hasher(2, Hasher::default()), A..=A);
    let [one, other] = join([2, 3].map(|number| {
        spawn(&world, move |world| {
            world.remove_if(A, 1);
            world.block(A, number)
        })
    }));
    assert!(one == other && one != 1);
    world.assert_over(1..=1);
}
