//! The auto traits of the public types, type by type: `Send`, `Sync`, `Unpin`, `UnwindSafe` and `RefUnwindSafe`.

#![cfg(not(loom))]

use std::cell::Cell;
use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::future::{Ready, pending};
use std::marker::{PhantomData, PhantomPinned};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::rc::Rc;
use std::sync::MutexGuard as StdMutexGuard;
use std::time::Instant;

use stanchion::blocking::{self, Elapsed};
use stanchion::{
    Acquire, AcquireError, AcquireOwned, Cause, Closed, Fixed, Get, GetError, GetOwned, Idle, Key, Lock, LockOwned,
    LruCache, LruCacheBuilder, Manager, MappedMutexGuard, Metrics, Mutex, MutexGuard, Object, Order,
    OwnedMappedMutexGuard, OwnedMutexGuard, OwnedObject, OwnedSemaphorePermit, Panic, Pool, PoolBuilder, PoolClosed,
    Pop, PopMany, PopOwned, PriorityQueue, Push, PushOwned, Refused, Run, RunOne, RunUntil, Semaphore, SemaphorePermit,
    Stats, Status, Submit, TaskControl, TaskError, TaskHandle, TaskQueue, TryAcquireError, TryLockError, TryPopError,
    TryPushError, WeakTaskQueue,
};

/// `true` if a type implements a trait: the inherent constant is found first, if its bound holds.
macro_rules! implements {
    ($Type:ty: $Trait:path) => {{
        #[allow(dead_code)]
        trait Otherwise {
            const ANSWER: bool = false;
        }
        impl<T: ?Sized> Otherwise for T {}
        struct Probe<T: ?Sized>(PhantomData<T>);
        #[allow(dead_code)]
        impl<T: ?Sized + $Trait> Probe<T> {
            const ANSWER: bool = true;
        }
        <Probe<$Type>>::ANSWER
    }};
}

/// `[Send, Sync]`
macro_rules! send_sync {
    ($Type:ty) => {
        [implements!($Type: Send), implements!($Type: Sync)]
    };
}

/// Asserts that types may be used after a panic was caught.
macro_rules! assert_unwind_safe {
    ($($Type:ty),* $(,)?) => {
        $(assert!(implements!($Type: UnwindSafe) && implements!($Type: RefUnwindSafe), stringify!($Type));)*
    };
}

type Both = u8;
type OnlySend = Cell<u8>;
type OnlySync = StdMutexGuard<'static, u8>;
type Neither = Rc<u8>;

/// `[Send, Sync]` of a generic type over a value that is both, only `Send`, only `Sync`, and neither.
macro_rules! by_value {
    ($($Generic:ident)::+) => {
        [
            send_sync!($($Generic)::+<Both>),
            send_sync!($($Generic)::+<OnlySend>),
            send_sync!($($Generic)::+<OnlySync>),
            send_sync!($($Generic)::+<Neither>),
        ]
    };
}

const BOTH: [bool; 2] = [true, true];
const SEND: [bool; 2] = [true, false];
const SYNC: [bool; 2] = [false, true];
const NEITHER: [bool; 2] = [false, false];

#[test]
fn the_probe_finds_all_four_combinations() {
    assert_eq!(
        [send_sync!(Both), send_sync!(OnlySend), send_sync!(OnlySync), send_sync!(Neither)],
        [BOTH, SEND, SYNC, NEITHER]
    );
    assert!(implements!(u8: Unpin) && !implements!(PhantomPinned: Unpin));
}

#[test]
fn semaphore_types_are_send_and_sync() {
    assert_eq!(send_sync!(Semaphore), BOTH);
    assert_eq!(send_sync!(Acquire<'static>), BOTH);
    assert_eq!(send_sync!(AcquireOwned), BOTH);
    assert_eq!(send_sync!(SemaphorePermit<'static>), BOTH);
    assert_eq!(send_sync!(OwnedSemaphorePermit), BOTH);
}

#[test]
fn errors_are_send_and_sync_with_their_item() {
    assert_eq!(send_sync!(AcquireError), BOTH);
    assert_eq!(send_sync!(TryAcquireError), BOTH);
    assert_eq!(send_sync!(TryLockError), BOTH);
    assert_eq!(send_sync!(Elapsed), BOTH);
    assert_eq!(send_sync!(TryPopError), BOTH);
    // These give the item back.
    assert_eq!(by_value!(Closed), [BOTH, SEND, SYNC, NEITHER]);
    assert_eq!(by_value!(TryPushError), [BOTH, SEND, SYNC, NEITHER]);
}

#[test]
fn every_error_converts_with_a_question_mark() {
    /// Both conversions that applications use, written as they write them.
    fn converts<E: Error + Send + Sync + 'static>(make: impl Fn() -> E) {
        let boxed = || -> Result<(), Box<dyn Error + Send + Sync>> { Ok(Err(make())?) };
        let any = || -> anyhow::Result<()> { Ok(Err(make())?) };
        assert!(boxed().unwrap_err().is::<E>());
        assert!(any().unwrap_err().is::<E>());
    }
    converts(|| blocking::wait_until(pending::<()>(), Instant::now()).unwrap_err());
    let semaphore = Semaphore::new(0);
    converts(|| semaphore.try_acquire().unwrap_err());
    semaphore.close();
    converts(|| blocking::wait(semaphore.acquire()).unwrap_err());
    let mutex = Mutex::new(());
    let guard = mutex.try_lock().unwrap();
    converts(|| mutex.try_lock().unwrap_err());
    drop(guard);
    let queue = PriorityQueue::<u8, u8>::unbounded();
    converts(|| queue.try_pop().unwrap_err());
    queue.close();
    converts(|| blocking::wait(queue.push(1, 2)).unwrap_err());
    converts(|| queue.try_push(1, 2).unwrap_err());
    let pool = Pool::from_objects([1]);
    pool.close();
    converts(|| blocking::wait(pool.get()).unwrap_err());
    let tasks = TaskQueue::<u8>::unbounded();
    converts(|| {
        let task = tasks.try_submit(1, async {}).unwrap();
        task.cancel();
        blocking::wait(task).unwrap_err()
    });
    tasks.close();
    converts(|| tasks.try_submit(1, async {}).unwrap_err());
}

#[test]
fn a_task_queue_needs_only_send() {
    assert_eq!([send_sync!(TaskError), send_sync!(Panic), send_sync!(Idle)], [BOTH; 3]);
    let shared = [by_value!(TaskQueue), by_value!(WeakTaskQueue), by_value!(TaskControl)];
    assert_eq!(shared, [[BOTH, BOTH, NEITHER, NEITHER]; 3]);
    type Task<P> = TaskHandle<P, Both>;
    type Handle<R> = TaskHandle<Both, R>;
    assert_eq!([by_value!(Task), by_value!(Handle)], [[BOTH, BOTH, NEITHER, NEITHER]; 2]);
    // Futures are seldom `Sync`, and errors have to be.
    type OfPriority<P> = Refused<P, Both>;
    type OfFuture<F> = Refused<Both, F>;
    assert_eq!([by_value!(OfPriority), by_value!(OfFuture)], [[BOTH, BOTH, NEITHER, NEITHER]; 2]);
}

#[test]
fn workers_and_submits_are_send_if_their_content_is() {
    assert_eq!(send_sync!(Run), SEND);
    assert_eq!([by_value!(RunUntil), by_value!(RunOne)], [[SEND, SEND, NEITHER, NEITHER]; 2]);
    type OfPriority<P> = Submit<P, Ready<Both>>;
    type OfFuture<R> = Submit<Both, Ready<R>>;
    assert_eq!([by_value!(OfPriority), by_value!(OfFuture)], [[SEND, SEND, NEITHER, NEITHER]; 2]);
    assert!(implements!(Run: Unpin) && implements!(Idle: Unpin) && implements!(RunOne<u8>: Unpin));
    assert!(implements!(RunUntil<u8>: Unpin) && !implements!(RunUntil<PhantomPinned>: Unpin));
    assert!(implements!(Submit<PhantomPinned, Ready<PhantomPinned>>: Unpin), "a task moves into the queue anyway");
    assert!(implements!(TaskHandle<u8, PhantomPinned>: Unpin));
}

/// A priority that is `Sync` and not `Send`.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct OnlySyncPriority(PhantomData<OnlySync>);

/// As `by_value`, of a generic type over a priority and an item, once for either.
macro_rules! by_priority_and_item {
    ($($Generic:ident)::+) => {{
        type ByItem<T> = $($Generic)::+<Both, T>;
        let by_priority = [
            send_sync!($($Generic)::+<Both, Both>),
            send_sync!($($Generic)::+<OnlySend, Both>),
            send_sync!($($Generic)::+<OnlySyncPriority, Both>),
            send_sync!($($Generic)::+<Neither, Both>),
        ];
        [by_priority, by_value!(ByItem)]
    }};
}

#[test]
fn a_queue_and_its_pops_need_only_send() {
    assert_eq!(send_sync!(OnlySyncPriority), SYNC);
    assert_eq!(by_priority_and_item!(PriorityQueue), [[BOTH, BOTH, NEITHER, NEITHER]; 2]);
    type Popping<P, T> = Pop<'static, P, T>;
    assert_eq!(by_priority_and_item!(Popping), [[BOTH, BOTH, NEITHER, NEITHER]; 2]);
    assert_eq!(by_priority_and_item!(PopOwned), [[BOTH, BOTH, NEITHER, NEITHER]; 2]);
    assert_eq!(send_sync!(Key), BOTH);
}

#[test]
fn pushes_and_pop_many_are_send_but_not_sync_with_their_items() {
    type Pushing<P, T> = Push<'static, P, T>;
    assert_eq!(by_priority_and_item!(Pushing), [[BOTH, SEND, NEITHER, NEITHER]; 2]);
    assert_eq!(by_priority_and_item!(PushOwned), [[BOTH, SEND, NEITHER, NEITHER]; 2]);
    type PoppingMany<P, T> = PopMany<'static, P, T>;
    assert_eq!(by_priority_and_item!(PoppingMany), [[BOTH, SEND, NEITHER, NEITHER]; 2]);
}

/// A manager whose objects and errors are `T`.
struct Makes<T>(PhantomData<fn() -> T>);

impl<T: Send + 'static> Manager for Makes<T> {
    type Object = T;
    type Error = T;

    async fn create(&self) -> Result<T, T> {
        unreachable!("nothing is made here")
    }
}

/// As `by_value`, of a generic type over a manager of objects that are both, or only `Send`: others are refused.
macro_rules! by_object {
    ($($Generic:ident)::+) => {
        [send_sync!($($Generic)::+<Makes<Both>>), send_sync!($($Generic)::+<Makes<OnlySend>>)]
    };
}

#[test]
fn a_pool_is_send_and_sync_with_any_objects() {
    type Getting<M> = Get<'static, M>;
    type Closing<M> = PoolClosed<'static, M>;
    assert_eq!(by_object!(Pool), [BOTH; 2]);
    assert_eq!(by_object!(PoolBuilder), [BOTH; 2]);
    assert_eq!(by_object!(Getting), [BOTH; 2]);
    assert_eq!(by_object!(GetOwned), [BOTH; 2]);
    assert_eq!(by_object!(Closing), [BOTH; 2]);
    assert_eq!(by_value!(Fixed), [BOTH; 4]);
    assert_eq!([send_sync!(Metrics), send_sync!(Status), send_sync!(Order)], [BOTH; 3]);
    assert_eq!(by_value!(GetError), [BOTH, SEND, SYNC, NEITHER]);
}

#[test]
fn an_object_is_send_and_sync_if_its_value_is() {
    type Borrowed<M> = Object<'static, M>;
    assert_eq!(by_object!(Borrowed), [BOTH, SEND]);
    assert_eq!(by_object!(OwnedObject), [BOTH, SEND]);
}

#[test]
fn the_future_of_replenish_is_send() {
    fn send<T: Send>(_: &T) {}
    let pool = Pool::builder(Makes::<OnlySend>(PhantomData)).build();
    send(&pool.replenish());
}

#[test]
fn errors_of_a_pool_are_errors_if_the_cause_is_one() {
    assert!(implements!(GetError<fmt::Error>: std::error::Error) && !implements!(GetError<u8>: std::error::Error));
    assert!(implements!(GetError<u8>: fmt::Display) && implements!(GetError<Infallible>: std::error::Error));
    assert!(implements!(GetError<u8>: Eq) && implements!(GetError<u8>: Clone) && !implements!(GetError<f64>: Eq));
}

#[test]
fn a_cache_needs_only_send() {
    // Values are returned as copies, and so not shared.
    type ByKey<K> = LruCache<K, Both>;
    type ByValue<V> = LruCache<Both, V>;
    assert_eq!([by_value!(ByKey), by_value!(ByValue)], [[BOTH, BOTH, NEITHER, NEITHER]; 2]);
    // Threads use the hasher at the same time.
    type ByHasher<S> = LruCache<Both, Both, S>;
    assert_eq!(by_value!(ByHasher), [BOTH, SEND, SYNC, NEITHER]);
    assert_eq!([send_sync!(LruCacheBuilder<Both, Both>), send_sync!(Stats), send_sync!(Cause)], [BOTH; 3]);
}

#[test]
fn a_load_is_send_if_its_captures_are() {
    fn send<T: Send>(_: &T) {}
    let cache = LruCache::<u8, OnlySend>::new(1);
    send(&cache.get_or_load(&1, || async { Cell::new(1) }));
    let held = OnlySend::new(1);
    send(&cache.try_get_or_load(&1, move || async {
        std::future::ready(()).await;
        Ok::<_, u8>(held)
    }));
}

#[test]
fn a_cache_is_unwind_safe() {
    // It gives no reference to a value out, so no panic leaves a value half changed.
    assert_unwind_safe!(LruCache<u8, u8>, LruCache<u8, OnlySend>, LruCache<u8, &'static mut u8>, Stats, Cause);
}

#[test]
fn a_mutex_and_its_futures_need_only_send() {
    assert_eq!(by_value!(Mutex), [BOTH, BOTH, NEITHER, NEITHER]);
    type Borrowed<T> = Lock<'static, T>;
    assert_eq!(by_value!(Borrowed), [BOTH, BOTH, NEITHER, NEITHER]);
    assert_eq!(by_value!(LockOwned), [BOTH, BOTH, NEITHER, NEITHER]);
    assert_eq!(send_sync!(Mutex<dyn Fn() + Send>), BOTH);
    assert_eq!(send_sync!(Mutex<dyn Fn()>), NEITHER);
}

#[test]
fn guards_are_send_with_a_send_value_and_sync_with_both() {
    type Borrowed<T> = MutexGuard<'static, T>;
    assert_eq!(by_value!(Borrowed), [BOTH, SEND, NEITHER, NEITHER]);
    assert_eq!(by_value!(OwnedMutexGuard), [BOTH, SEND, NEITHER, NEITHER]);
    assert_eq!(send_sync!(OwnedMutexGuard<dyn Fn() + Send>), SEND);
    assert_eq!(send_sync!(MutexGuard<'static, dyn Fn() + Send + Sync>), BOTH);
}

#[test]
fn a_mapped_guard_has_the_traits_of_its_reference() {
    type Mapped<U> = MappedMutexGuard<'static, U>;
    assert_eq!(by_value!(Mapped), [BOTH, SEND, SYNC, NEITHER]);
}

#[test]
fn an_owned_mapped_guard_depends_on_the_value_and_the_part() {
    type WithBoth<U> = OwnedMappedMutexGuard<Both, U>;
    type WithOnlySend<U> = OwnedMappedMutexGuard<OnlySend, U>;
    type WithOnlySync<U> = OwnedMappedMutexGuard<OnlySync, U>;
    type WithNeither<U> = OwnedMappedMutexGuard<Neither, U>;
    assert_eq!(by_value!(WithBoth), [BOTH, SEND, NEITHER, NEITHER]);
    assert_eq!(by_value!(WithOnlySend), [SEND, SEND, NEITHER, NEITHER]);
    assert_eq!(by_value!(WithOnlySync), [NEITHER; 4]);
    assert_eq!(by_value!(WithNeither), [NEITHER; 4]);
}

#[test]
fn futures_permits_and_guards_are_unpin_with_any_value() {
    assert!(implements!(Semaphore: Unpin));
    assert!(implements!(Acquire<'static>: Unpin) && implements!(AcquireOwned: Unpin));
    assert!(implements!(SemaphorePermit<'static>: Unpin) && implements!(OwnedSemaphorePermit: Unpin));
    assert!(implements!(Mutex<u8>: Unpin) && !implements!(Mutex<PhantomPinned>: Unpin));
    assert!(implements!(Lock<'static, PhantomPinned>: Unpin));
    assert!(implements!(LockOwned<PhantomPinned>: Unpin));
    assert!(implements!(MutexGuard<'static, PhantomPinned>: Unpin));
    assert!(implements!(MappedMutexGuard<'static, PhantomPinned>: Unpin));
    assert!(implements!(OwnedMappedMutexGuard<PhantomPinned, PhantomPinned>: Unpin));
    assert!(
        implements!(OwnedMutexGuard<PhantomPinned>: Unpin),
        "an owned guard points to its value and has none inside"
    );
    assert!(implements!(Push<'static, u8, PhantomPinned>: Unpin), "an item moves into the queue anyway");
    assert!(implements!(Pop<'static, u8, PhantomPinned>: Unpin));
    assert!(implements!(PopMany<'static, u8, PhantomPinned>: Unpin));
    assert!(implements!(LruCache<PhantomPinned, PhantomPinned>: Unpin));
    // Objects and creations are in boxes, which do not move them.
    assert!(implements!(Pool<Makes<PhantomPinned>>: Unpin));
    assert!(
        implements!(Get<'static, Makes<PhantomPinned>>: Unpin) && implements!(GetOwned<Makes<PhantomPinned>>: Unpin)
    );
    assert!(implements!(PoolClosed<'static, Makes<PhantomPinned>>: Unpin));
    assert!(implements!(Object<'static, Makes<PhantomPinned>>: Unpin));
    assert!(implements!(OwnedObject<Makes<PhantomPinned>>: Unpin));
}

#[test]
fn semaphore_types_are_unwind_safe() {
    assert_unwind_safe!(Semaphore, Acquire<'static>, AcquireOwned, SemaphorePermit<'static>, OwnedSemaphorePermit);
    assert_unwind_safe!(AcquireError, TryAcquireError, TryLockError, Elapsed);
}

#[test]
fn a_queue_is_unwind_safe() {
    // It gives no reference to an item out, so no panic leaves an item half changed.
    assert_unwind_safe!(PriorityQueue<u8, u8>, Push<'static, u8, u8>, Pop<'static, u8, u8>, Key);
    assert_unwind_safe!(Closed<u8>, TryPushError<u8>, TryPopError);
}

#[test]
fn a_pool_is_unwind_safe() {
    assert_unwind_safe!(Pool<Makes<u8>>, Pool<Makes<OnlySend>>, Metrics, Status, Order, GetError<u8>);
}

#[test]
fn a_mutex_is_not_ref_unwind_safe() {
    // There is no poisoning: code that shares it over a caught panic must say so with `AssertUnwindSafe`.
    assert!(implements!(Mutex<u8>: UnwindSafe) && !implements!(Mutex<u8>: RefUnwindSafe));
    assert!(!implements!(MutexGuard<'static, u8>: UnwindSafe));
    assert!(!implements!(Mutex<&'static mut u8>: UnwindSafe));
}
