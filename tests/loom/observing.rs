//! Every observing call beside each operation that changes its outcome.
//!
//! loom must explore the outcome before and the outcome after: a model of a dependent that saw only one of them would pass
//! silently. And a call that observes the change must see what its thread did before the change, unless the change only
//! takes something (a permit, the lock), which publishes nothing.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex as StdMutex};
use std::task::Poll;

use loom::thread;
use stanchion::{
    AcquireOwned, Fixed, Key, LruCache, Mutex, OwnedMutexGuard, OwnedSemaphorePermit, Pool, PriorityQueue, Semaphore,
    TaskHandle, TaskQueue, blocking,
};

use crate::support::{Data, poll_noop, tables};

tables![
    observing_semaphore,
    observing_mutex,
    observing_priority_queue,
    observing_task_queue,
    observing_pool,
    observing_lru_cache,
];

/// A call with two outcomes, one before the change and one after it.
type Look<W> = (&'static str, fn(&W) -> bool);

/// Explores each of `looks` beside `change`, which another thread makes after it has written some data.
fn race<W: Send + Sync + 'static>(name: &str, change: fn(&W), world: fn() -> W, looks: &[Look<W>]) {
    looks.iter().for_each(|&look| explore(name, change, true, world, look));
}

/// Explores each of `looks` beside `change`, which publishes nothing.
fn race_with_taking<W: Send + Sync + 'static>(name: &str, change: fn(&W), world: fn() -> W, looks: &[Look<W>]) {
    looks.iter().for_each(|&look| explore(name, change, false, world, look));
}

fn explore<W: Send + Sync + 'static>(
    change_name: &str,
    change: fn(&W),
    publishes: bool,
    world: fn() -> W,
    (look_name, look): Look<W>,
) {
    let after = in_model(move || {
        let world = world();
        change(&world);
        look(&world)
    });
    let [after] = after.into_keys().collect::<Vec<_>>()[..] else { panic!("{look_name} has two outcomes afterwards") };
    let outcomes = in_model(move || {
        let (world, data) = (Arc::new(world()), Data::new());
        let other = thread::spawn({
            let (world, data) = (world.clone(), data.clone());
            move || {
                data.increment();
                change(&world);
            }
        });
        let outcome = look(&world);
        if publishes && outcome == after {
            // loom fails the model here if the increment does not happen before this.
            assert_eq!(data.get(), 1);
        }
        other.join().unwrap();
        outcome
    });
    let [no, yes] = [false, true].map(|outcome| outcomes.get(&outcome).copied().unwrap_or(0));
    println!("{look_name} beside {change_name}: false in {no} interleavings, true in {yes}");
    assert!(no > 0 && yes > 0, "{look_name} beside {change_name}: false in {no} interleavings, true in {yes}");
}

/// Explores `body`, and returns how often it had which outcome.
fn in_model(body: impl Fn() -> bool + Send + Sync + 'static) -> BTreeMap<bool, usize> {
    let outcomes = Arc::new(StdMutex::new(BTreeMap::new()));
    let seen = outcomes.clone();
    loom::model(move || {
        let outcome = body();
        let kept = std::mem::take(&mut *KEPT.lock().unwrap());
        drop(kept);
        *seen.lock().unwrap().entry(outcome).or_default() += 1;
    });
    std::mem::take(&mut *outcomes.lock().unwrap())
}

/// Keeps a value until the end of this interleaving: loom would report a forgotten one as a leak.
fn keep(value: impl Any + Send) {
    KEPT.lock().unwrap().push(Box::new(value));
}

static KEPT: StdMutex<Vec<Box<dyn Any + Send>>> = StdMutex::new(Vec::new());

/// A value that the change uses up.
struct Slot<T>(StdMutex<Option<T>>);

impl<T> Slot<T> {
    fn new(value: T) -> Self {
        Self(StdMutex::new(Some(value)))
    }

    fn take(&self) -> T {
        self.0.lock().unwrap().take().expect("it is taken once")
    }
}

struct Permits {
    semaphore: Arc<Semaphore>,
    permit: Slot<OwnedSemaphorePermit>,
    waiter: Slot<AcquireOwned>,
}

/// A permit is out, `free` ones are left, and a future for `need` was polled if it is more than that.
fn permits(free: usize, need: usize) -> Permits {
    let semaphore = Arc::new(Semaphore::new(free + 1));
    let permit = semaphore.clone().try_acquire_owned().unwrap();
    let mut waiter = semaphore.clone().acquire_many_owned(need);
    if need > free {
        assert!(poll_noop(&mut waiter).is_pending());
    }
    Permits { semaphore, permit: Slot::new(permit), waiter: Slot::new(waiter) }
}

fn observing_semaphore() {
    const AVAILABLE: Look<Permits> = ("available_permits", |w| w.semaphore.available_permits() == 0);
    const TRY: Look<Permits> = ("try_acquire", |w| w.semaphore.try_acquire().is_ok());
    const TRY_NONE: Look<Permits> = ("try_acquire_many(0)", |w| w.semaphore.try_acquire_many(0).is_ok());
    const FIRST_POLL: Look<Permits> = ("a first poll", |w| poll_noop(&mut w.semaphore.acquire()).is_ready());
    const WAITERS: Look<Permits> = ("waiters", |w| w.semaphore.waiters() == 0);
    const OWED: Look<Permits> = ("permits_owed", |w| w.semaphore.permits_owed() == 0);
    const CLOSED: Look<Permits> = ("is_closed", |w| w.semaphore.is_closed());
    const FORGET: Look<Permits> = ("forget_permits", |w| w.semaphore.forget_permits(1) == 1);

    race("a return", |w: &Permits| drop(w.permit.take()), || permits(0, 0), &[AVAILABLE, TRY, FIRST_POLL, FORGET]);
    race("a return", |w: &Permits| drop(w.permit.take()), || permits(0, 1), &[WAITERS, TRY_NONE]);
    let owing = || {
        let world = permits(0, 0);
        world.semaphore.reduce_permits(1);
        world
    };
    race("a return", |w: &Permits| drop(w.permit.take()), owing, &[OWED]);
    race("add_permits", |w| w.semaphore.add_permits(1), || permits(0, 0), &[AVAILABLE, TRY, FIRST_POLL, FORGET]);
    race("add_permits", |w| w.semaphore.add_permits(1), || permits(0, 1), &[WAITERS, TRY_NONE]);
    race_with_taking(
        "try_acquire",
        |w: &Permits| w.semaphore.try_acquire().unwrap().forget(),
        || permits(1, 0),
        &[AVAILABLE],
    );
    race_with_taking(
        "acquire",
        |w: &Permits| blocking::wait(w.semaphore.acquire()).unwrap().forget(),
        || permits(1, 0),
        &[AVAILABLE],
    );
    race("forget_permits", |w| _ = w.semaphore.forget_permits(1), || permits(1, 0), &[AVAILABLE, TRY, FIRST_POLL]);
    race("reduce_permits", |w| w.semaphore.reduce_permits(1), || permits(1, 0), &[AVAILABLE, TRY, FIRST_POLL]);
    race("reduce_permits", |w| w.semaphore.reduce_permits(1), || permits(0, 0), &[OWED]);
    race(
        "an enqueue",
        |w: &Permits| {
            let mut waiter = w.semaphore.clone().acquire_many_owned(2);
            assert!(poll_noop(&mut waiter).is_pending());
            std::mem::forget(waiter);
        },
        || permits(1, 0),
        &[WAITERS, TRY, TRY_NONE, FIRST_POLL],
    );
    race(
        "a cancellation",
        |w: &Permits| drop(w.waiter.take()),
        || permits(1, 2),
        &[WAITERS, TRY, TRY_NONE, FIRST_POLL],
    );
    race("close", |w| w.semaphore.close(), || permits(1, 0), &[CLOSED, TRY, TRY_NONE]);
    race("close", |w| w.semaphore.close(), || permits(0, 1), &[CLOSED, WAITERS]);
}

struct Locking {
    mutex: Arc<Mutex<u8>>,
    guard: Slot<Option<OwnedMutexGuard<u8>>>,
}

fn locking(locked: bool) -> Locking {
    let mutex = Arc::new(Mutex::new(0));
    let guard = locked.then(|| mutex.clone().try_lock_owned().unwrap());
    Locking { mutex, guard: Slot::new(guard) }
}

fn observing_mutex() {
    const TRY: Look<Locking> = ("try_lock", |w| w.mutex.try_lock().is_ok());
    const FIRST_POLL: Look<Locking> = ("a first poll", |w| poll_noop(&mut w.mutex.lock()).is_ready());
    const WAITERS: Look<Locking> = ("waiters", |w| w.mutex.waiters() == 0);

    race("an unlock", |w| drop(w.guard.take()), || locking(true), &[TRY, FIRST_POLL]);
    race_with_taking(
        "a lock that stays",
        |w: &Locking| {
            // The look may hold the lock for a moment.
            if let Ok(guard) = w.mutex.clone().try_lock_owned() {
                std::mem::forget(guard);
            }
        },
        || locking(false),
        &[TRY, FIRST_POLL],
    );
    race(
        "an enqueue",
        |w: &Locking| {
            let mut waiter = w.mutex.clone().lock_owned();
            assert!(poll_noop(&mut waiter).is_pending());
            std::mem::forget(waiter);
        },
        || locking(true),
        &[WAITERS],
    );
}

struct Items {
    queue: PriorityQueue<u8, u8>,
    key: Option<Key>,
}

/// A queue for one item, which is there or not.
fn items(full: bool) -> Items {
    let queue = PriorityQueue::bounded(1);
    let key = full.then(|| queue.try_push(1, 1).unwrap());
    Items { queue, key }
}

fn observing_priority_queue() {
    const LEN: Look<Items> = ("len", |w| matches!(w.queue.len(), 0));
    const EMPTY: Look<Items> = ("is_empty", |w| w.queue.is_empty());
    const TRY_POP: Look<Items> = ("try_pop", |w| w.queue.try_pop().is_ok());
    const TRY_PUSH: Look<Items> = ("try_push", |w| w.queue.try_push(1, 1).is_ok());
    const PEEK: Look<Items> = ("peek_priority", |w| w.queue.peek_priority() == Some(1));
    const PRIORITY: Look<Items> = ("priority", |w| w.queue.priority(w.key.unwrap()) == Some(1));
    const POPS: Look<Items> = ("waiting_pops", |w| w.queue.waiting_pops() == 0);
    const PUSHES: Look<Items> = ("waiting_pushes", |w| w.queue.waiting_pushes() == 0);
    const CLOSED: Look<Items> = ("is_closed", |w| w.queue.is_closed());

    race("try_push", |w: &Items| _ = w.queue.try_push(1, 1), || items(false), &[LEN, EMPTY, TRY_POP, TRY_PUSH, PEEK]);
    race(
        "try_pop",
        |w: &Items| _ = w.queue.try_pop(),
        || items(true),
        &[LEN, EMPTY, TRY_POP, TRY_PUSH, PEEK, PRIORITY],
    );
    race("remove", |w| _ = w.queue.remove(w.key.unwrap()), || items(true), &[LEN, TRY_POP, TRY_PUSH, PRIORITY]);
    race("drain", |w| drop(w.queue.drain()), || items(true), &[LEN, TRY_POP, TRY_PUSH, PEEK]);
    race("set_priority", |w| _ = w.queue.set_priority(w.key.unwrap(), 2), || items(true), &[PEEK, PRIORITY]);
    race(
        "a parked push",
        |w: &Items| {
            let mut push = w.queue.push(2, 2);
            assert!(poll_noop(&mut push).is_pending());
            std::mem::forget(push);
        },
        || items(true),
        &[PUSHES, PEEK],
    );
    race(
        "a waiting pop",
        |w: &Items| {
            let mut pop = w.queue.pop();
            assert!(poll_noop(&mut pop).is_pending());
            std::mem::forget(pop);
        },
        || items(false),
        &[POPS],
    );
    race("close", |w| w.queue.close(), || items(false), &[CLOSED, TRY_PUSH]);
}

struct Tasks {
    queue: TaskQueue<u8>,
    task: Arc<TaskHandle<u8, ()>>,
}

fn tasks() -> Tasks {
    let queue = TaskQueue::bounded(1);
    let task = queue.try_submit(1, async {}).unwrap();
    Tasks { queue, task: Arc::new(task) }
}

fn observing_task_queue() {
    const LEN: Look<Tasks> = ("len", |w| matches!(w.queue.len(), 0));
    const EMPTY: Look<Tasks> = ("is_empty", |w| w.queue.is_empty());
    const FINISHED: Look<Tasks> = ("is_finished", |w| w.task.is_finished());
    const CLOSED: Look<Tasks> = ("is_closed", |w| w.queue.is_closed());
    const TRY_SUBMIT: Look<Tasks> = ("try_submit", |w| w.queue.try_submit(1, async {}).is_ok());

    race(
        "a run",
        |w: &Tasks| assert!(poll_noop(&mut w.queue.clone().run()).is_pending()),
        tasks,
        &[LEN, EMPTY, FINISHED, TRY_SUBMIT],
    );
    race("cancel", |w| w.task.cancel(), tasks, &[LEN, FINISHED, TRY_SUBMIT]);
    race("close", |w| w.queue.close(), tasks, &[CLOSED]);

    const RUNNING: Look<TaskQueue<u8>> = ("running", |queue| queue.running() == 0);
    const SUBMITS: Look<TaskQueue<u8>> = ("waiting_submits", |queue| queue.waiting_submits() == 0);
    let full = || {
        let queue = TaskQueue::bounded(1);
        queue.try_submit(1, std::future::pending::<()>()).unwrap().detach();
        queue
    };
    race(
        "a task that goes on",
        |queue| {
            let mut worker = queue.clone().run();
            assert!(poll_noop(&mut worker).is_pending());
            keep(worker);
        },
        full,
        &[RUNNING],
    );
    race(
        "a waiting submit",
        |queue| {
            let mut submit = queue.submit(1, std::future::ready(()));
            assert!(poll_noop(&mut submit).is_pending());
            keep(submit);
        },
        full,
        &[SUBMITS],
    );
}

struct Objects {
    pool: Arc<Pool<Fixed<u8>>>,
}

fn objects() -> Objects {
    Objects { pool: Arc::new(Pool::from_objects([1])) }
}

fn observing_pool() {
    const IDLE: Look<Objects> = ("status().idle", |w| w.pool.status().idle == 0);
    const IN_USE: Look<Objects> = ("status().in_use", |w| w.pool.status().in_use == 0);
    const SIZE: Look<Objects> = ("status().size", |w| w.pool.status().size == 0);
    const TRY_GET: Look<Objects> = ("try_get", |w| w.pool.try_get().is_some());
    const CLOSED: Look<Objects> = ("is_closed", |w| w.pool.is_closed());

    race("try_get", |w: &Objects| keep(w.pool.clone().try_get_owned()), objects, &[IDLE, IN_USE, TRY_GET]);
    const GETS: Look<Objects> = ("stats().gets", |w| w.pool.stats().gets == 0);
    race("try_get", |w: &Objects| keep(w.pool.clone().try_get_owned()), objects, &[GETS]);
    const WAITING: Look<Objects> = ("status().waiting", |w| w.pool.status().waiting == 0);
    let taken = || {
        let world = objects();
        keep(world.pool.clone().try_get_owned());
        world
    };
    race(
        "a waiting get",
        |w| {
            let mut get = w.pool.clone().get_owned();
            assert!(poll_noop(&mut get).is_pending());
            keep(get);
        },
        taken,
        &[WAITING],
    );
    race("clear", |w| w.pool.clear(), objects, &[SIZE, TRY_GET]);
    race("close", |w| w.pool.close(), objects, &[CLOSED, SIZE, TRY_GET]);
}

struct Cache {
    cache: LruCache<u8, u8>,
}

fn cache(filled: bool) -> Cache {
    let cache = LruCache::new(2);
    if filled {
        cache.insert(1, 1);
    }
    Cache { cache }
}

fn observing_lru_cache() {
    const GET: Look<Cache> = ("get", |w| w.cache.get(&1).is_some());
    const PEEK: Look<Cache> = ("peek", |w| w.cache.peek(&1).is_some());
    const CONTAINS: Look<Cache> = ("contains_key", |w| w.cache.contains_key(&1));
    const LEN: Look<Cache> = ("len", |w| matches!(w.cache.len(), 0));
    const WEIGHT: Look<Cache> = ("weight", |w| w.cache.weight() == 0);
    const INSERTIONS: Look<Cache> = ("stats", |w| w.cache.stats().insertions == 0);
    const LOAD: Look<Cache> = ("a load", |w| {
        let mut load = Box::pin(w.cache.get_or_load(&1, async || 2));
        matches!(poll_noop(&mut load), Poll::Ready(2))
    });

    let all = [GET, PEEK, CONTAINS, LEN, WEIGHT, LOAD];
    race("insert", |w| _ = w.cache.insert(1, 1), || cache(false), &[&all[..], &[INSERTIONS]].concat());
    race("remove", |w| _ = w.cache.remove(&1), || cache(true), &all);
    race("clear", |w| w.cache.clear(), || cache(true), &all);
}
