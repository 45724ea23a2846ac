//! Models of `Pool`: which getter gets an object, a creation or a slot, while others return, discard, resize or close.

use loom::sync::Mutex;
use loom::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use loom::thread::{self, JoinHandle};
use stanchion::{Fixed, GetError, GetOwned, Manager, Metrics, OwnedObject, Pool, PoolBuilder, Status, blocking};
use std::array::from_fn;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use self::End::{Badly, Panic, Well};
use self::When::{Gated, Later, Now};
use crate::support::{Count, Data, models, observe, poll, poll_noop};

models![
    2: object_changes_hands,
    2: getter_racing_return,
    3: two_returns_two_getters,
    4: two_returners_two_getters,
    3: granted_getter_dropped_racing_return,
    2: last_getter_dropped_racing_return,
    3: try_get_never_barges,
    2: discard_racing_getter,
    2: detach_racing_getter,
    3: discard_racing_getter_dropped,
    3: granted_creation_racing_return,
    3: granted_creation_dropped_racing_return,
    3: granted_creators_keep_their_order,
    2: unused_slot_goes_to_the_next,
    2: two_getters_racing_for_the_last_slot,
    3: growth_limit_gives_way,
    2: creation_ending_racing_return,
    3: gated_creation_ending_racing_return,
    3: creator_dropped_racing_return,
    3: creator_dropped_racing_newcomer,
    3: served_creator_leaves_its_creation,
    2: failing_creation_racing_getter,
    3: failing_creation_racing_return,
    2: panicking_creation_racing_getter,
    3: panicking_creation_racing_return,
    2: pending_failure_is_begun_afresh,
    3: failing_recycle_racing_return,
    4: recycling_getter_dropped_racing_getter,
    4: recycling_getter_dropped_with_another_waiting,
    4: recycling_getter_dropped_racing_return,
    3: recycling_getter_dropped_racing_close,
    3: recycling_getter_dropped_racing_clear,
    3: recycling_getter_dropped_racing_resize,
    4: recycling_getter_racing_clear,
    3: pending_recycling_racing_resize,
    3: pending_creation_racing_discard,
    4: try_get_racing_getter_and_gate,
    3: maintenance_racing_get,
    2: panicking_recycle_racing_getter,
    3: getter_of_a_dead_object_is_queued_at_the_front,
    3: creation_overtakes_recycling,
    2: failing_creation_beside_recycling,
    3: close_racing_return_and_get,
    3: close_racing_creator_and_return,
    3: close_racing_granted_creation,
    2: close_racing_pending_creation,
    3: close_wakes_more_than_a_batch_holds,
    2: closed_racing_last_return,
    3: closed_racing_close_and_discard,
    3: closed_racing_creation,
    2: closed_dropped_racing_last_return,
    3: last_return_ends_more_than_a_batch_holds,
    3: resize_racing_return_and_get,
    3: resize_down_racing_returns,
    3: resize_to_zero_and_back,
    2: two_resizes_shrink_once,
    2: resize_racing_creation,
    3: growing_serves_more_than_a_batch_holds,
    2: clear_racing_return,
    2: clear_racing_creation,
    2: replenish_racing_get,
    3: replenish_racing_get_and_close,
    2: failing_replenish_racing_get,
    3: replenish_dropped_racing_get,
    3: replenish_racing_creator_dropped,
    2: maintain_racing_get,
    2: retain_and_add_racing_get,
    2: add_racing_close,
];

/// The time at which a creation or recycling ends: in its first poll, in its second, or once the gate is open.
#[derive(Clone, Copy)]
enum When {
    Now,
    Later,
    Gated,
}

#[derive(Clone, Copy)]
enum End {
    Well,
    Badly,
    Panic,
}

/// The ends of creations or recyclings, one after the other, and then `(Now, Well)` for ever.
#[derive(Default)]
struct Script {
    steps: &'static [(When, End)],
    next: AtomicUsize,
}

impl Script {
    fn new(steps: &'static [(When, End)]) -> Self {
        Self { steps, next: AtomicUsize::new(0) }
    }

    /// The number of steps that have begun.
    fn begun(&self) -> usize {
        self.next.load(Relaxed)
    }

    async fn step(&self, gate: &Gate) -> Result<usize, Failed> {
        let number = self.next.fetch_add(1, Relaxed);
        let (when, end) = self.steps.get(number).copied().unwrap_or((Now, Well));
        match when {
            Now => {}
            Later => {
                let mut yielded = false;
                poll_fn(|cx| {
                    cx.waker().wake_by_ref();
                    if std::mem::replace(&mut yielded, true) { Poll::Ready(()) } else { Poll::Pending }
                })
                .await;
            }
            Gated => poll_fn(|cx| gate.poll(cx)).await,
        }
        match end {
            Well => Ok(number),
            Badly => Err(Failed),
            // Without the hook, which would report each of thousands.
            Panic => resume_unwind(Box::new("as the script says")),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Failed;

/// Once it is open, it lets all through, those that wait and those that are polled later.
#[derive(Default)]
struct Gate(Mutex<(bool, Option<Waker>)>);

impl Gate {
    fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        let mut gate = self.0.lock().unwrap();
        if gate.0 {
            return Poll::Ready(());
        }
        gate.1 = Some(cx.waker().clone());
        Poll::Pending
    }

    fn is_open(&self) -> bool {
        self.0.lock().unwrap().0
    }

    fn open(&self) {
        let waker = {
            let mut gate = self.0.lock().unwrap();
            gate.0 = true;
            gate.1.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }
}

/// The number of objects alive, and the limit.
struct Tally {
    alive: AtomicUsize,
    limit: usize,
}

impl Tally {
    fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { alive: AtomicUsize::new(0), limit })
    }
}

/// An object: loom watches its uses, and that it is dropped.
struct Thing {
    number: usize,
    uses: Data,
    tally: Arc<Tally>,
    _alive: loom::alloc::Track<()>,
}

impl Thing {
    fn new(number: usize, tally: &Arc<Tally>) -> Self {
        assert!(tally.alive.fetch_add(1, Relaxed) < tally.limit, "more objects are alive than may be");
        Self { number, uses: Data::default(), tally: tally.clone(), _alive: loom::alloc::Track::new(()) }
    }
}

impl Drop for Thing {
    fn drop(&mut self) {
        self.uses.increment();
        self.tally.alive.fetch_sub(1, Relaxed);
    }
}

struct Maker {
    creates: Script,
    recycles: Script,
    gate: Gate,
    tally: Arc<Tally>,
}

impl Maker {
    fn alive(&self) -> usize {
        self.tally.alive.load(Relaxed)
    }
}

impl Manager for Maker {
    type Object = Thing;
    type Error = Failed;

    async fn create(&self) -> Result<Thing, Failed> {
        let number = self.creates.step(&self.gate).await?;
        Ok(Thing::new(number, &self.tally))
    }

    async fn recycle(&self, thing: &mut Thing, _: &Metrics) -> Result<(), Failed> {
        thing.uses.increment();
        if !self.recycles.steps.is_empty() {
            self.recycles.step(&self.gate).await?;
        }
        Ok(())
    }
}

/// A pool of at most `max_size` objects, with the ends of its creations.
fn creating(max_size: usize, creates: &'static [(When, End)]) -> Arc<Pool<Maker>> {
    recycling(max_size, creates, &[])
}

fn recycling(max_size: usize, creates: &'static [(When, End)], recycles: &'static [(When, End)]) -> Arc<Pool<Maker>> {
    Arc::new(builder(max_size, creates, recycles).build())
}

fn builder(max_size: usize, creates: &'static [(When, End)], recycles: &'static [(When, End)]) -> PoolBuilder<Maker> {
    let [creates, recycles] = [creates, recycles].map(Script::new);
    Pool::builder(Maker { creates, recycles, gate: Gate::default(), tally: Tally::new(max_size) }).max_size(max_size)
}

/// A pool that creates no object and has so many.
fn fixed(objects: usize) -> Arc<Pool<Fixed<Thing>>> {
    let tally = Tally::new(usize::MAX);
    Arc::new(Pool::from_objects((0..objects).map(|number| Thing::new(number, &tally))))
}

fn spawn<M, R>(pool: &Arc<Pool<M>>, body: impl FnOnce(&Arc<Pool<M>>) -> R + 'static) -> JoinHandle<R>
where
    M: Manager,
    R: 'static,
{
    let pool = pool.clone();
    thread::spawn(move || body(&pool))
}

/// Gets an object and uses it: loom checks that the uses by others before are seen.
fn get<M: Manager<Object = Thing>>(pool: &Arc<Pool<M>>) -> Result<OwnedObject<M>, GetError<M::Error>> {
    finish(pool.clone().get_owned())
}

fn finish<M: Manager<Object = Thing>>(get: GetOwned<M>) -> Result<OwnedObject<M>, GetError<M::Error>> {
    let object = blocking::wait(get)?;
    object.uses.increment();
    Ok(object)
}

/// Gets and returns an object. Returns its number.
fn use_one<M: Manager<Object = Thing>>(pool: &Arc<Pool<M>>) -> Result<usize, GetError<M::Error>> {
    get(pool).map(|object| object.number)
}

/// Objects in use.
fn lent<M: Manager<Object = Thing>, const N: usize>(pool: &Arc<Pool<M>>) -> [OwnedObject<M>; N] {
    from_fn(|_| match poll_noop(&mut pool.clone().get_owned()) {
        Poll::Ready(Ok(object)) => object,
        _ => panic!("there is one to be had"),
    })
}

/// Getters that wait, or create, in this order.
fn begun<M: Manager, const N: usize>(pool: &Arc<Pool<M>>) -> [GetOwned<M>; N] {
    from_fn(|_| {
        let mut get = pool.clone().get_owned();
        assert!(poll_noop(&mut get).is_pending());
        get
    })
}

fn join<R, const N: usize>(threads: [JoinHandle<R>; N]) -> [R; N] {
    threads.map(|thread| thread.join().unwrap())
}

/// Checks all invariants. Returns the numbers of objects idle, in use and being created, and of waiting getters.
fn counts<M: Manager>(pool: &Pool<M>) -> [usize; 4] {
    pool.validate();
    let Status { size, idle, in_use, creating, waiting, .. } = pool.status();
    assert_eq!(size, idle + in_use + creating);
    [idle, in_use, creating, waiting]
}

/// No getter uses it, waits or creates.
#[track_caller]
fn assert_idle<M: Manager>(pool: &Pool<M>, idle: usize) {
    assert_eq!(counts(pool), [idle, 0, 0, 0]);
}

/// It is closed and empty.
#[track_caller]
fn assert_over<M: Manager>(pool: &Pool<M>) {
    assert!(pool.is_closed());
    assert_idle(pool, 0);
    assert!(poll_noop(&mut pool.closed()).is_ready());
}

/// Two threads use one object by turns. What was done to it before its return is seen by the next user, and by `recycle`.
fn object_changes_hands() {
    let pool = creating(1, &[]);
    join([0, 1].map(|_| spawn(&pool, |pool| assert_eq!(use_one(pool), Ok(0)))));
    assert_idle(&pool, 1);
}

/// The lost wake-up. Guards the second look at the idle objects in `Getter::begin`, after the waker was cloned, and
/// `is_awaited` in `keep_or_discard`.
fn getter_racing_return() {
    let pool = fixed(1);
    let [object] = lent(&pool);
    let getter = spawn(&pool, |pool| assert_eq!(use_one(pool), Ok(0)));
    let returner = thread::spawn(|| drop(object));
    join([getter, returner]);
    assert_idle(&pool, 1);
}

/// Each of two returns serves one of two getters, which keep what they get. Guards `grant_object` in `keep_or_discard`.
fn two_returns_two_getters() {
    let pool = fixed(2);
    let objects: [_; 2] = lent(&pool);
    let getters = [0, 1].map(|_| spawn(&pool, |pool| get(pool).unwrap()));
    let returner = thread::spawn(|| drop(objects));
    let objects = join(getters);
    returner.join().unwrap();
    assert_eq!(objects.iter().map(|object| object.number).sum::<usize>(), 1);
    assert_eq!(counts(&pool), [0, 2, 0, 0]);
    drop(objects);
    assert_idle(&pool, 2);
}

/// The same with the returns on two threads.
fn two_returners_two_getters() {
    let pool = fixed(2);
    let objects: [_; 2] = lent(&pool);
    let [first] = begun(&pool);
    let getters = [thread::spawn(|| finish(first).unwrap()), spawn(&pool, |pool| get(pool).unwrap())];
    let returners = objects.map(|object| thread::spawn(|| drop(object)));
    let objects = join(getters);
    join(returners);
    assert_eq!(counts(&pool), [0, 2, 0, 0]);
    drop(objects);
    assert_idle(&pool, 2);
}

/// The first getter is dropped while it is granted the object, with another queued. Guards `deliver` of a granted object
/// in `Turn::leave`: without it the object is lost and the second is never woken.
fn granted_getter_dropped_racing_return() {
    let pool = fixed(1);
    let [object] = lent(&pool);
    let [first, second] = begun(&pool);
    let returner = thread::spawn(|| drop(object));
    let canceller = thread::spawn(|| drop(first));
    let getter = thread::spawn(|| assert_eq!(finish(second).unwrap().number, 0));
    join([returner, canceller, getter]);
    assert_idle(&pool, 1);
}

/// The same without another getter: the object is idle then.
fn last_getter_dropped_racing_return() {
    let pool = fixed(1);
    let [object] = lent(&pool);
    let [mut only] = begun(&pool);
    let returner = thread::spawn(|| drop(object));
    let canceller = thread::spawn(move || drop(poll_noop(&mut only)));
    join([returner, canceller]);
    assert_idle(&pool, 1);
}

/// A returned object that a getter waits for is not there for `try_get`. Guards the grant under the lock in
/// `keep_or_discard`.
fn try_get_never_barges() {
    let pool = fixed(1);
    let [object] = lent(&pool);
    let [first] = begun(&pool);
    let returner = thread::spawn(|| drop(object));
    let getter = thread::spawn(|| finish(first).unwrap());
    let barger = spawn(&pool, |pool| {
        assert!(pool.try_get().is_none());
        assert!(poll_noop(&mut pool.get()).is_pending());
    });
    join([returner, barger]);
    drop(getter.join().unwrap());
    assert_idle(&pool, 1);
}

fn leaving_racing_getter(alive: usize, leave: fn(OwnedObject<Maker>)) {
    let pool = creating(alive, &[]);
    pool.resize(1);
    let [object] = lent(&pool);
    let leaver = thread::spawn(move || leave(object));
    let getter = spawn(&pool, |pool| assert_eq!(use_one(pool), Ok(1)));
    join([leaver, getter]);
    assert_idle(&pool, 1);
}

/// A waiting getter creates the successor of a discarded object, once that was dropped. Guards `settle` in
/// `change_and_catch`, and that `drop_and_free` frees the slot last.
fn discard_racing_getter() {
    leaving_racing_getter(1, OwnedObject::discard);
}

/// The same with an object that lives on. Guards the change in `detach`.
fn detach_racing_getter() {
    leaving_racing_getter(2, |object| drop(OwnedObject::detach(object)));
}

/// The first getter is dropped while it is granted the slot. Guards `Grant::Creation` in `Turn::leave`, and `settle`
/// after it.
fn discard_racing_getter_dropped() {
    let pool = creating(1, &[]);
    let [object] = lent(&pool);
    let [first, second] = begun(&pool);
    let discarder = thread::spawn(|| OwnedObject::discard(object));
    let canceller = thread::spawn(|| drop(first));
    let getter = thread::spawn(|| assert_eq!(finish(second).unwrap().number, 1));
    join([discarder, canceller, getter]);
    assert_idle(&pool, 1);
}

/// A getter that was granted a creation and was not polled since is granted an object as well. Guards the second key of
/// such a getter in `grant_creations`, and the loop in `collect`.
fn granted_creation_racing_return() {
    let pool = creating(2, &[]);
    let [first, second] = lent(&pool);
    let [only] = begun(&pool);
    let discarder = thread::spawn(|| OwnedObject::discard(first));
    let returner = thread::spawn(|| drop(second));
    let getter = thread::spawn(|| drop(finish(only).unwrap()));
    join([discarder, returner, getter]);
    let [idle, ..] = counts(&pool);
    assert!(idle == 1 || idle == 2);
    assert_idle(&pool, idle);
    assert_eq!(pool.manager().alive(), idle);
}

/// Such a getter is dropped: its slot is free and the object idle.
fn granted_creation_dropped_racing_return() {
    let pool = creating(2, &[]);
    let [first, second] = lent(&pool);
    let [only] = begun(&pool);
    let discarder = thread::spawn(|| OwnedObject::discard(first));
    let returner = thread::spawn(|| drop(second));
    let canceller = thread::spawn(|| drop(only));
    join([discarder, returner, canceller]);
    assert_idle(&pool, 1);
}

/// Two are granted creations, and only then an object is returned: it is granted to the one that has waited longer.
/// Guards the order of `grant_creations`.
fn granted_creators_keep_their_order() {
    let pool = creating(3, &[(Now, Well), (Now, Well), (Now, Well), (Gated, Well), (Gated, Well)]);
    let [one, other, object] = lent(&pool);
    let [first, mut second] = begun(&pool);
    OwnedObject::discard(one);
    OwnedObject::discard(other);
    let returner = thread::spawn(|| drop(object));
    let getter = thread::spawn(|| finish(first).unwrap());
    let other = thread::spawn(move || {
        assert!(poll_noop(&mut second).is_pending());
        second
    });
    returner.join().unwrap();
    let (object, second) = (getter.join().unwrap(), other.join().unwrap());
    assert_eq!(object.number, 2);
    drop((object, second));
    pool.close();
    assert_over(&pool);
}

/// It takes the object and keeps it: the slot that it was granted goes to the next getter. Guards `give_back_unbegun`.
fn unused_slot_goes_to_the_next() {
    let pool = creating(2, &[]);
    let [first, second] = lent(&pool);
    let [one, other] = begun(&pool);
    OwnedObject::discard(first);
    drop(second);
    let getters = [one, other].map(|get| thread::spawn(|| finish(get).unwrap()));
    let objects = join(getters);
    assert_eq!(objects.each_ref().map(|object| object.number), [1, 2]);
    assert_eq!(counts(&pool), [0, 2, 0, 0]);
    drop(objects);
    assert_idle(&pool, 2);
}

/// One creates, the other waits for the same object. Guards the counts in `claim` and in `created`.
fn two_getters_racing_for_the_last_slot() {
    let pool = creating(1, &[(Later, Well)]);
    join([0, 1].map(|_| spawn(&pool, |pool| assert_eq!(use_one(pool), Ok(0)))));
    assert_idle(&pool, 1);
    assert_eq!(pool.manager().creates.begun(), 1);
}

/// Two may create at a time (under loom); the third waits, though there is room, until one creation has ended. No object
/// is returned meanwhile. Guards the limit in `may_create`, and `settle` in `created`.
fn growth_limit_gives_way() {
    let pool = creating(3, &[(Later, Well), (Later, Well), (Later, Well)]);
    let getters = [0, 1, 2].map(|_| {
        spawn(&pool, |pool| {
            let [get] = begun(pool);
            assert!(pool.status().creating <= 2);
            finish(get).unwrap()
        })
    });
    let objects = join(getters);
    assert_eq!(counts(&pool), [0, 3, 0, 0]);
    drop(objects);
    assert_idle(&pool, 3);
}

/// A creation ends, or its getter is served by a return: then it stays pending, and closing the pool drops it. Guards
/// `Turn::leave` in `serve`.
fn creation_ending_racing_return() {
    let pool = creating(2, &[(Now, Well), (Later, Well)]);
    let [object] = lent(&pool);
    let creator = spawn(&pool, |pool| use_one(pool).unwrap());
    let returner = thread::spawn(|| drop(object));
    returner.join().unwrap();
    let served = creator.join().unwrap();
    let [idle, in_use, creating, waiting] = counts(&pool);
    assert_eq!([in_use, waiting], [0, 0]);
    // Both are idle; or the creator took the one that was returned, when its creation had not begun, or left it behind.
    assert!(idle + creating == 2 || [idle, creating, served] == [1, 0, 0]);
    assert_eq!(pool.manager().alive(), idle);
    pool.close();
    assert_over(&pool);
    assert_eq!(pool.manager().alive(), 0);
}

/// The same, and the end of the creation wakes its getter, if it has one.
fn gated_creation_ending_racing_return() {
    let pool = creating(2, &[(Now, Well), (Gated, Well)]);
    let [object] = lent(&pool);
    let [get] = begun(&pool);
    let creator = thread::spawn(|| drop(finish(get).unwrap()));
    let returner = thread::spawn(|| drop(object));
    let opener = spawn(&pool, |pool| pool.manager().gate.open());
    join([creator, returner, opener]);
    let [idle, in_use, creating, waiting] = counts(&pool);
    assert_eq!([idle + creating, in_use, waiting], [2, 0, 0]);
    pool.close();
    assert_over(&pool);
}

/// A creator is dropped while it is granted an object: that, or the creation, goes to the next getter. Guards `deliver`
/// and `leave` in `Turn::leave`.
fn creator_dropped_racing_return() {
    let pool = creating(2, &[(Now, Well), (Gated, Well)]);
    let [object] = lent(&pool);
    let [creator, waiting] = begun(&pool);
    let returner = thread::spawn(|| drop(object));
    let canceller = thread::spawn(|| drop(creator));
    let getter = thread::spawn(|| assert_eq!(finish(waiting).unwrap().number, 0));
    join([returner, canceller, getter]);
    assert_eq!(counts(&pool), [1, 0, 1, 0], "the creation is pending");
    pool.close();
    assert_over(&pool);
}

/// A creation is pending, or will be soon: a new getter takes it up, and is woken when it ends. Guards `take_pending` in
/// `claim`, `settle` in `Turn::leave`, and the poll of a creation that was granted.
fn creator_dropped_racing_newcomer() {
    let pool = creating(1, &[(Gated, Well)]);
    let [creator] = begun(&pool);
    let canceller = thread::spawn(|| drop(creator));
    let newcomer = spawn(&pool, |pool| assert_eq!(use_one(pool), Ok(0)));
    let opener = spawn(&pool, |pool| pool.manager().gate.open());
    join([canceller, newcomer, opener]);
    assert_idle(&pool, 1);
    assert_eq!(pool.manager().creates.begun(), 1);
}

/// A creator that is served by a return leaves its creation to the next getter. Guards `Turn::leave` in `serve`, and that
/// `Creating` is served first in `grant_object`.
fn served_creator_leaves_its_creation() {
    let pool = creating(2, &[(Now, Well), (Gated, Well)]);
    let [object] = lent(&pool);
    let [creator, waiting] = begun(&pool);
    let returner = spawn(&pool, |pool| {
        drop(object);
        pool.manager().gate.open();
    });
    let getters = [creator, waiting].map(|get| thread::spawn(|| finish(get).unwrap()));
    let objects = join(getters);
    returner.join().unwrap();
    assert_eq!(counts(&pool), [0, 2, 0, 0]);
    assert_eq!(pool.manager().creates.begun(), 2);
    drop(objects);
    assert_idle(&pool, 2);
}

/// The error is reported by one of the two, and the other gets the slot. Guards `failed` and `settle` in `not_created`.
fn failing_creation_racing_getter() {
    let pool = creating(1, &[(Later, Badly)]);
    let outcomes = join([0, 1].map(|_| spawn(&pool, use_one)));
    let failed = outcomes.iter().filter(|outcome| **outcome == Err(GetError::Create(Failed))).count();
    assert!(failed == 1 && outcomes.contains(&Ok(1)));
    assert_idle(&pool, 1);
}

/// A creation fails while its getter is granted an object, which serves it or goes to the next. Guards `is_granted` in
/// `not_created`.
fn failing_creation_racing_return() {
    let pool = creating(2, &[(Now, Well), (Gated, Badly), (Now, Well)]);
    let [object] = lent(&pool);
    let [creator] = begun(&pool);
    let returner = thread::spawn(|| drop(object));
    let opener = spawn(&pool, |pool| pool.manager().gate.open());
    let getter = thread::spawn(|| match finish(creator) {
        Ok(object) => assert_eq!(object.number, 0),
        Err(error) => assert_eq!(error, GetError::Create(Failed)),
    });
    join([returner, opener, getter]);
    let [idle, in_use, creating, waiting] = counts(&pool);
    assert_eq!([idle, in_use, waiting], [1, 0, 0]);
    assert!(creating <= 1, "pending, if anything");
    pool.close();
    assert_over(&pool);
}

/// Returns `true` if it got an object, `false` after the panic of the script.
fn survives(get: impl FnOnce() -> Result<usize, GetError<Failed>>) -> bool {
    catch_unwind(AssertUnwindSafe(get)).is_ok_and(|outcome| outcome.is_ok())
}

/// A creation panics, and the other getter gets the slot. Guards `failed` in `end`, and `settle` after it.
fn panicking_creation_racing_getter() {
    let pool = creating(1, &[(Later, Panic)]);
    let outcomes = join([0, 1].map(|_| spawn(&pool, |pool| survives(|| use_one(pool)))));
    assert!(outcomes == [false, true] || outcomes == [true, false]);
    assert_idle(&pool, 1);
}

/// A creation panics while its getter is granted an object, which must go to the next getter. Guards the drop of `Turn`.
fn panicking_creation_racing_return() {
    let pool = creating(2, &[(Now, Well), (Gated, Panic)]);
    let [object] = lent(&pool);
    let [creator, waiting] = begun(&pool);
    pool.manager().gate.open();
    let returner = thread::spawn(|| drop(object));
    let creator = thread::spawn(|| {
        let mut creator = creator;
        let panicked = catch_unwind(AssertUnwindSafe(|| poll_noop(&mut creator).map_ok(drop).is_pending())).is_err();
        (creator, panicked)
    });
    let getter = thread::spawn(|| survives(|| finish(waiting).map(|object| object.number)));
    returner.join().unwrap();
    // The creator is kept until here, and has nothing.
    let (_creator, panicked) = creator.join().unwrap();
    assert!(getter.join().unwrap() || !panicked, "it may have adopted the creation that panics");
    let [idle, in_use, _, waiting] = counts(&pool);
    assert!(idle >= 1 && [in_use, waiting] == [0, 0]);
    pool.close();
    assert_over(&pool);
}

/// A pending creation fails: the getter that takes it up does not report that, but begins another one. Guards
/// `is_retried`.
fn pending_failure_is_begun_afresh() {
    let pool = creating(1, &[(Gated, Badly)]);
    let [creator] = begun(&pool);
    let canceller = spawn(&pool, |pool| {
        drop(creator);
        pool.manager().gate.open();
    });
    let newcomer = spawn(&pool, |pool| {
        let had_failed = pool.manager().gate.is_open();
        let outcome = use_one(pool);
        assert!(outcome == Ok(1) || !had_failed && outcome == Err(GetError::Create(Failed)));
        outcome.is_ok()
    });
    canceller.join().unwrap();
    let created = newcomer.join().unwrap();
    assert_idle(&pool, usize::from(created));
}

/// An object proves dead, and its getter takes the returned one, or creates. Guards the second look at the idle objects
/// in `claim`, and the slot of the dead object in `advance`.
fn failing_recycle_racing_return() {
    let pool = recycling(2, &[(Now, Well), (Now, Well), (Later, Well)], &[(Later, Badly)]);
    let [dead, object] = lent(&pool);
    drop(dead);
    let getter = spawn(&pool, |pool| drop(get(pool).unwrap()));
    let returner = thread::spawn(|| drop(object));
    join([getter, returner]);
    let [idle, in_use, creating, waiting] = counts(&pool);
    assert_eq!([in_use, waiting], [0, 0]);
    assert!(idle + creating == 2 || idle == 1);
    assert_eq!(pool.manager().alive(), idle);
    pool.close();
    assert_over(&pool);
}

/// A recycling outlives its getter, and the next one takes it up; it ends at any time. Guards `leave` in `Turn::leave`,
/// and `take_pending` in `claim`.
fn recycling_getter_dropped_racing_getter() {
    let pool = recycling(1, &[], &[(Gated, Well)]);
    let [object] = lent(&pool);
    drop(object);
    let [recycler] = begun(&pool);
    let canceller = thread::spawn(|| drop(recycler));
    let opener = spawn(&pool, |pool| pool.manager().gate.open());
    let getter = spawn(&pool, |pool| assert_eq!(use_one(pool), Ok(0)));
    join([canceller, opener, getter]);
    observe("the next getter waits, too", pool.stats().waits == 2);
    assert_idle(&pool, 1);
    assert_eq!((pool.manager().creates.begun(), pool.manager().alive()), (1, 1), "nothing healthy was destroyed");
}

/// The recycling of a dropped getter is granted to the next that waits. Guards the grant in `leave`.
fn recycling_getter_dropped_with_another_waiting() {
    let pool = recycling(1, &[], &[(Gated, Well)]);
    let [object] = lent(&pool);
    drop(object);
    let [recycler, next] = begun(&pool);
    let canceller = thread::spawn(|| drop(recycler));
    let opener = spawn(&pool, |pool| pool.manager().gate.open());
    let getter = spawn(&pool, |pool| {
        observe("the recycling is granted before a poll", pool.status().waiting == 0);
        assert_eq!(finish(next).unwrap().number, 0);
    });
    join([canceller, opener, getter]);
    assert_idle(&pool, 1);
}

/// While another object is returned: the waiting getter is served by that, or by the recycling. Guards the order of the
/// queues in `leave`, and `deliver` of what the getter did not need.
fn recycling_getter_dropped_racing_return() {
    let pool = recycling(2, &[], &[(Gated, Well)]);
    let [object, other] = lent(&pool);
    drop(object);
    let [recycler, next] = begun(&pool);
    pool.manager().gate.open();
    let canceller = thread::spawn(|| drop(recycler));
    let returner = thread::spawn(|| drop(other));
    let getter = thread::spawn(|| finish(next).unwrap().number);
    join([canceller, returner]);
    observe("the returned object serves", getter.join().unwrap() == 1);
    let [idle, in_use, ..] = counts(&pool);
    assert_eq!((idle + in_use, pool.manager().alive()), (2, 2), "nothing healthy was destroyed");
}

/// Its recycling is discarded, whether it becomes pending before the change, or would after it.
fn recycling_getter_dropped_racing(change: fn(&Pool<Maker>)) {
    let pool = recycling(1, &[], &[(Gated, Well)]);
    let [object] = lent(&pool);
    drop(object);
    let [recycler] = begun(&pool);
    let canceller = spawn(&pool, |pool| {
        drop(recycler);
        observe("the object is dropped with its getter", pool.status().in_use == 0);
    });
    let changer = spawn(&pool, move |pool| change(pool));
    join([canceller, changer]);
    assert_idle(&pool, 0);
    assert_eq!(pool.manager().alive(), 0);
}

/// A getter is dropped in mid-recycling while the pool is closed. Guards `keeps` in `leave`.
fn recycling_getter_dropped_racing_close() {
    recycling_getter_dropped_racing(Pool::close);
}

/// The same while the pool is cleared. Guards the generation of a recycling.
fn recycling_getter_dropped_racing_clear() {
    recycling_getter_dropped_racing(Pool::clear);
}

/// The same while the pool shrinks. Guards the size in `keeps`, and the recyclings in `shrink_by`.
fn recycling_getter_dropped_racing_resize() {
    recycling_getter_dropped_racing(|pool| pool.resize(0));
}

/// `clear` discards an object that is recycled: at the end of that, if its getter drives it.
fn recycling_getter_racing_clear() {
    let pool = recycling(1, &[], &[(Gated, Well)]);
    let [object] = lent(&pool);
    drop(object);
    let [recycler] = begun(&pool);
    let clearer = spawn(&pool, |pool| pool.clear());
    let opener = spawn(&pool, |pool| pool.manager().gate.open());
    let getter = thread::spawn(|| finish(recycler).unwrap().number);
    join([clearer, opener]);
    let number = getter.join().unwrap();
    observe("the object was cleared", number == 1);
    assert!(pool.manager().alive() <= 1);
}

/// A pending recycling and a free slot: whichever is ready first serves the getter, and the other is not lost.
fn pending_recycling_racing_resize() {
    let pool = recycling(2, &[], &[(Gated, Well)]);
    pool.resize(1);
    let [object] = lent(&pool);
    drop(object);
    drop(begun::<_, 1>(&pool)); // It hangs from now on.
    let getter = spawn(&pool, |pool| assert_eq!(use_one(pool), Ok(1)));
    let resizer = spawn(&pool, |pool| pool.resize(2));
    join([getter, resizer]);
    observe("the getter waits, too", pool.stats().waits == 2);
    assert_eq!(counts(&pool), [1, 1, 0, 0]);
    pool.close();
    assert_over(&pool);
}

/// The same with a pending creation that hangs, and the slot of a discarded object. Guards `Adopting` in `grant_creations`.
fn pending_creation_racing_discard() {
    let pool = creating(2, &[(Now, Well), (Gated, Well)]);
    let [object] = lent(&pool);
    drop(begun::<_, 1>(&pool)); // It hangs from now on.
    let getter = spawn(&pool, |pool| assert_eq!(use_one(pool), Ok(2)));
    let discarder = thread::spawn(|| OwnedObject::discard(object));
    join([getter, discarder]);
    observe("the getter waits, too", pool.stats().waits == 2);
    assert_eq!(counts(&pool), [1, 0, 1, 0]);
    pool.close();
    assert_over(&pool);
}

/// `try_get` begins a recycling that stays pending, while a getter is polled. Neither loses the object.
fn try_get_racing_getter_and_gate() {
    let pool = recycling(1, &[], &[(Gated, Well)]);
    let [object] = lent(&pool);
    drop(object);
    let trier = spawn(&pool, |pool| observe("try_get", pool.try_get().is_some()));
    let opener = spawn(&pool, |pool| pool.manager().gate.open());
    let getter = spawn(&pool, |pool| assert_eq!(use_one(pool), Ok(0)));
    trier.join().unwrap();
    join([opener, getter]);
    assert_eq!(pool.manager().creates.begun(), 1);
}

/// The maintenance refills after a `get`, whenever that happens; it ends when the pool is closed.
fn maintenance_racing_get() {
    let pool = Arc::new(builder(2, &[], &[]).min_idle(1).build());
    let maintenance = Pool::maintenance(&pool, |_| std::future::pending::<()>());
    let maintainer = thread::spawn(|| blocking::wait(maintenance));
    let getter = spawn(&pool, |pool| {
        let object = get(pool).unwrap();
        pool.close();
        drop(object);
    });
    getter.join().unwrap();
    maintainer.join().unwrap();
    observe("the maintenance creates an object", pool.stats().created == 2);
    assert_over(&pool);
}

/// A recycling panics, and the other getter gets the slot. Guards `failed` in `end`.
fn panicking_recycle_racing_getter() {
    let pool = recycling(1, &[], &[(Later, Panic)]);
    let [object] = lent(&pool);
    drop(object);
    let outcomes = join([0, 1].map(|_| spawn(&pool, |pool| survives(|| use_one(pool)))));
    assert!(outcomes == [false, true] || outcomes == [true, false]);
    assert_idle(&pool, 1);
}

/// An object proves dead, and its slot was taken away meanwhile: its getter waits, before the other, for a return. Guards
/// `enqueue_front` in `wait`, and the clone of the waker before its slot is free in `advance`.
fn getter_of_a_dead_object_is_queued_at_the_front() {
    let pool = recycling(2, &[], &[(Gated, Badly)]);
    let [dead, object] = lent(&pool);
    drop(dead);
    let [unlucky, other] = begun(&pool);
    pool.resize(1);
    pool.manager().gate.open();
    let returner = thread::spawn(|| drop(object));
    let [unlucky, other] = [unlucky, other].map(|get| thread::spawn(|| finish(get).unwrap()));
    returner.join().unwrap();
    drop(unlucky.join().unwrap());
    drop(other.join().unwrap());
    assert_idle(&pool, 1);
}

/// A getter that recycles beside its creation is served by that, and its recycling stays pending.
fn creation_overtakes_recycling() {
    let pool = recycling(3, &[(Now, Well), (Now, Well), (Gated, Well)], &[(Now, Badly), (Gated, Well)]);
    let objects: [_; 2] = lent(&pool);
    drop(objects);
    let [unlucky] = begun(&pool);
    assert_eq!(counts(&pool), [0, 1, 1, 0]);
    let opener = spawn(&pool, |pool| pool.manager().gate.open());
    let getter = thread::spawn(|| drop(finish(unlucky).unwrap()));
    let bystander = spawn(&pool, |pool| drop(poll_noop(&mut pool.get())));
    join([opener, getter, bystander]);
    let [idle, in_use, _, waiting] = counts(&pool);
    assert_eq!(waiting, 0);
    assert_eq!(pool.manager().alive(), idle + in_use, "its recycling is pending");
    pool.close();
    assert_over(&pool);
    assert_eq!(pool.manager().alive(), 0);
}

/// The creation beside it fails: the recycling serves the getter all the same. Guards the look at the queue in
/// `not_created`.
fn failing_creation_beside_recycling() {
    let pool = recycling(3, &[(Now, Well), (Now, Well), (Gated, Badly)], &[(Now, Badly), (Gated, Well)]);
    let objects: [_; 2] = lent(&pool);
    drop(objects);
    let [unlucky] = begun(&pool);
    assert_eq!(counts(&pool), [0, 1, 1, 0]);
    let opener = spawn(&pool, |pool| pool.manager().gate.open());
    let getter = thread::spawn(|| assert_eq!(finish(unlucky).unwrap().number, 0));
    join([opener, getter]);
    let [idle, in_use, creating, waiting] = counts(&pool);
    assert!([idle, in_use, waiting] == [1, 0, 0] && creating <= 1);
    pool.close();
    assert_over(&pool);
}

/// A getter that is granted the object gets it, any other fails, and the object is dropped. Guards the checks of `closed`
/// in `must_wait` and `claim`, and the close of the queues.
fn close_racing_return_and_get() {
    let pool = fixed(1);
    let [object] = lent(&pool);
    let returner = thread::spawn(|| drop(object));
    let getter = spawn(&pool, |pool| assert!(matches!(use_one(pool), Ok(0) | Err(GetError::Closed))));
    let closer = spawn(&pool, |pool| pool.close());
    join([returner, getter, closer]);
    assert_over(&pool);
}

/// The same with a getter that creates: its object is dropped with it. Guards the close of `Creating`, and `closed` in
/// `collect`.
fn close_racing_creator_and_return() {
    let pool = creating(2, &[(Now, Well), (Gated, Well)]);
    let [object] = lent(&pool);
    let [creator] = begun(&pool);
    let returner = thread::spawn(|| drop(object));
    let getter = thread::spawn(|| assert!(!matches!(finish(creator), Err(GetError::Create(_)))));
    let closer = spawn(&pool, |pool| pool.close());
    join([returner, getter, closer]);
    assert_over(&pool);
}

/// The same with a getter that was granted a creation and was not polled since.
fn close_racing_granted_creation() {
    let pool = creating(1, &[]);
    let [object] = lent(&pool);
    let [get] = begun(&pool);
    let discarder = thread::spawn(|| OwnedObject::discard(object));
    let getter = thread::spawn(|| assert!(!matches!(finish(get), Err(GetError::Create(_)))));
    let closer = spawn(&pool, |pool| pool.close());
    join([discarder, getter, closer]);
    assert_over(&pool);
}

/// A creation becomes pending before the close, or would after it; it does not stay. Guards `keeps` in `leave`, and the
/// creations in `shrink_by`.
fn close_racing_pending_creation() {
    let pool = creating(1, &[(Gated, Well)]);
    let canceller = spawn(&pool, |pool| drop(poll_noop(&mut pool.get())));
    let closer = spawn(&pool, |pool| pool.close());
    join([canceller, closer]);
    assert_over(&pool);
}

/// Two create and two wait, and a batch holds two (under loom): of the last two, one sleeps and one is dropped meanwhile.
/// Guards `take_wakers` of the state, and the refill in `Deferred::run`.
fn close_wakes_more_than_a_batch_holds() {
    let pool = creating(2, &[(Gated, Well), (Gated, Well)]);
    let [mut first, mut second, third, fourth] = begun(&pool);
    let counts = [0, 1].map(|_| Count::new());
    assert!(poll(&mut first, &counts[0].1).is_pending() && poll(&mut second, &counts[1].1).is_pending());
    let sleeper = thread::spawn(|| assert!(matches!(finish(third), Err(GetError::Closed))));
    let canceller = thread::spawn(|| drop(fourth));
    let closer = spawn(&pool, |pool| pool.close());
    join([sleeper, canceller, closer]);
    assert_eq!(counts.each_ref().map(|(count, _)| count.get()), [1, 1]);
    assert!(poll_noop(&mut first).is_ready());
    drop(second);
    assert_over(&pool);
}

/// When `closed` resolves, the last object was dropped. Guards the second look in the poll of `PoolClosed`, and
/// `is_drained` in `settle`.
fn closed_racing_last_return() {
    let pool = creating(1, &[]);
    let [object] = lent(&pool);
    pool.close();
    let returner = thread::spawn(|| drop(object));
    let waiter = spawn(&pool, |pool| {
        blocking::wait(pool.closed());
        assert_eq!(pool.manager().alive(), 0);
    });
    join([returner, waiter]);
    assert_over(&pool);
}

/// The same with a close at the same time, and an object that is discarded.
fn closed_racing_close_and_discard() {
    let pool = creating(1, &[]);
    let [object] = lent(&pool);
    let discarder = thread::spawn(|| OwnedObject::discard(object));
    let closer = spawn(&pool, |pool| pool.close());
    let waiter = spawn(&pool, |pool| {
        blocking::wait(pool.closed());
        assert!(pool.is_closed());
        assert_eq!(pool.manager().alive(), 0);
    });
    join([discarder, closer, waiter]);
    assert_over(&pool);
}

/// The same with a creation that ends, or is dropped, at the same time.
fn closed_racing_creation() {
    let pool = creating(1, &[(Later, Well)]);
    let creator = spawn(&pool, |pool| assert!(matches!(use_one(pool), Ok(0) | Err(GetError::Closed))));
    let closer = spawn(&pool, |pool| pool.close());
    let waiter = spawn(&pool, |pool| {
        blocking::wait(pool.closed());
        assert_eq!(pool.manager().alive(), 0);
    });
    join([creator, closer, waiter]);
    assert_over(&pool);
}

/// A `closed` that is dropped at the last return has no effect.
fn closed_dropped_racing_last_return() {
    let pool = fixed(1);
    let [object] = lent(&pool);
    pool.close();
    let returner = thread::spawn(|| drop(object));
    let canceller =
        spawn(&pool, |pool| assert!(poll_noop(&mut pool.closed()) == Poll::Pending || pool.status().size == 0));
    join([returner, canceller]);
    assert_over(&pool);
}

/// Four wait for the same moment: one sleeps, one is dropped meanwhile, and two are woken. Guards the notification in
/// `Deferred::run`.
fn last_return_ends_more_than_a_batch_holds() {
    let pool = fixed(1);
    let [object] = lent(&pool);
    pool.close();
    let mut waits = [0, 1, 2, 3].map(|_| {
        let pool = pool.clone();
        Box::pin(async move { pool.closed().await })
    });
    let wakes = [0, 1, 2, 3].map(|_| Count::new());
    for (wait, (_, waker)) in waits.iter_mut().zip(&wakes) {
        assert!(poll(wait, waker).is_pending());
    }
    let [_first, _second, third, fourth] = waits;
    let returner = thread::spawn(|| drop(object));
    let sleeper = thread::spawn(|| blocking::wait(third));
    let canceller = thread::spawn(|| drop(fourth));
    join([returner, sleeper, canceller]);
    assert_eq!([wakes[0].0.get(), wakes[1].0.get()], [1, 1]);
    assert_over(&pool);
}

/// No more objects are alive than may be, and each waiting getter is served, whether its object is returned, discarded or
/// created. Guards `settle` in `change_and_catch`.
fn resize_racing_return_and_get() {
    let pool = creating(2, &[]);
    let [first, second] = lent(&pool);
    let returner = thread::spawn(|| drop(first));
    let getter = spawn(&pool, |pool| drop(get(pool).unwrap()));
    let resizer = spawn(&pool, |pool| {
        pool.resize(1);
        pool.resize(2);
    });
    join([returner, getter, resizer]);
    drop(second);
    let [idle, ..] = counts(&pool);
    assert!(idle == 1 || idle == 2);
    assert_idle(&pool, idle);
    assert_eq!(pool.manager().alive(), idle);
}

/// An object that is returned while there are too many is discarded, and no more than that. Guards the size in `keeps`.
fn resize_down_racing_returns() {
    let pool = creating(3, &[]);
    let [first, second, third] = lent(&pool);
    let returners = [first, second].map(|object| thread::spawn(|| drop(object)));
    let resizer = spawn(&pool, |pool| pool.resize(1));
    join(returners);
    resizer.join().unwrap();
    drop(third);
    assert_idle(&pool, 1);
    assert_eq!(pool.manager().alive(), 1);
}

/// The same down to zero.
fn resize_to_zero_and_back() {
    let pool = creating(1, &[]);
    let [object] = lent(&pool);
    let returner = thread::spawn(|| drop(object));
    let getter = spawn(&pool, |pool| drop(get(pool).unwrap()));
    let resizer = spawn(&pool, |pool| {
        pool.resize(0);
        pool.resize(1);
    });
    join([returner, getter, resizer]);
    let [idle, ..] = counts(&pool);
    assert!(idle <= 1);
    assert_idle(&pool, idle);
    assert_eq!(pool.manager().alive(), idle);
}

/// An object that one of them has doomed, but not dropped yet, counts for the other. Guards `doomed`.
fn two_resizes_shrink_once() {
    let pool = creating(2, &[]);
    let [first, second] = lent(&pool);
    drop(first);
    let resizer = spawn(&pool, |pool| pool.resize(1));
    let returner = spawn(&pool, |pool| {
        drop(second);
        pool.resize(1);
    });
    join([resizer, returner]);
    assert_idle(&pool, 1);
    assert_eq!(pool.manager().alive(), 1);
    pool.resize(0);
    assert_idle(&pool, 0);
}

/// A driven creation ends, and its object is discarded when it is returned, unless there is room again.
fn resize_racing_creation() {
    let pool = creating(1, &[(Later, Well)]);
    let creator = spawn(&pool, |pool| assert_eq!(use_one(pool), Ok(0)));
    let resizer = spawn(&pool, |pool| {
        pool.resize(0);
        pool.validate();
        pool.resize(1);
    });
    join([creator, resizer]);
    let [idle, ..] = counts(&pool);
    assert_idle(&pool, idle);
    assert_eq!(pool.manager().alive(), idle);
}

/// Four wait when there is room for four, and a batch holds two (under loom): the third sleeps, the fourth is dropped
/// meanwhile. Guards `settle` in `change_and_catch`, and `take_wakers` of the state.
fn growing_serves_more_than_a_batch_holds() {
    let pool = creating(8, &[]);
    pool.resize(4);
    let objects: [_; 4] = lent(&pool);
    let [first, second, third, fourth] = begun(&pool);
    let resizer = spawn(&pool, |pool| pool.resize(8));
    let sleeper = thread::spawn(|| drop(finish(third).unwrap()));
    let canceller = thread::spawn(|| drop(fourth));
    join([resizer, sleeper, canceller]);
    assert_eq!(counts(&pool), [0, 5, 2, 0], "the first is granted what the third returned");
    drop((first, second, objects));
    assert_idle(&pool, 5);
}

/// A getter after the clear gets a new object. Guards `generation` in `keeps`.
fn clear_racing_return() {
    let pool = creating(1, &[]);
    let [object] = lent(&pool);
    let returner = thread::spawn(|| drop(object));
    let clearer = spawn(&pool, |pool| {
        pool.clear();
        assert_eq!(use_one(pool), Ok(1));
    });
    join([returner, clearer]);
    assert_idle(&pool, 1);
}

/// An object begun before the clear is discarded when it is returned. Guards the generation of a job.
fn clear_racing_creation() {
    let pool = creating(1, &[(Later, Well)]);
    let [mut creator] = begun(&pool);
    let creator = thread::spawn(move || assert!(matches!(poll_noop(&mut creator), Poll::Ready(Ok(_)))));
    let clearer = spawn(&pool, |pool| {
        pool.clear();
        assert_eq!(use_one(pool), Ok(1));
    });
    join([creator, clearer]);
    assert_idle(&pool, 1);
}

/// An object created in advance goes to the getter that waits for it. Guards `deliver` in `finish_creation`.
fn replenish_racing_get() {
    let pool = Arc::new(builder(1, &[(Later, Well)], &[]).min_idle(1).build());
    let filler = spawn(&pool, |pool| assert_eq!(blocking::wait(pool.replenish()), Ok(())));
    let getter = spawn(&pool, |pool| assert_eq!(use_one(pool), Ok(0)));
    join([filler, getter]);
    assert_idle(&pool, 1);
    assert_eq!(pool.manager().creates.begun(), 1);
}

/// The same while the pool is closed.
fn replenish_racing_get_and_close() {
    let pool = Arc::new(builder(1, &[(Later, Well)], &[]).min_idle(1).build());
    let filler = spawn(&pool, |pool| assert_eq!(blocking::wait(pool.replenish()), Ok(())));
    let getter = spawn(&pool, |pool| assert!(matches!(use_one(pool), Ok(0) | Err(GetError::Closed))));
    let closer = spawn(&pool, |pool| pool.close());
    join([filler, getter, closer]);
    assert_over(&pool);
}

/// The first to create fails, and the slot is for the other. Guards `failed` in `finish_creation`.
fn failing_replenish_racing_get() {
    let pool = Arc::new(builder(1, &[(Later, Badly)], &[]).min_idle(1).build());
    let filler = spawn(&pool, |pool| blocking::wait(pool.replenish()).is_ok());
    let getter = spawn(&pool, |pool| use_one(pool).is_ok());
    let [filled, got] = join([filler, getter]);
    assert!(filled || got);
    // While the getter drives its creation, there is nothing to do for the other.
    assert!(got || counts(&pool) == [usize::from(pool.manager().creates.begun() > 1), 0, 0, 0]);
    counts(&pool);
}

/// The creation of a `replenish` that is dropped goes to the waiting getter. Guards the drop of `Replenishing`.
fn replenish_dropped_racing_get() {
    let pool = Arc::new(builder(1, &[(Gated, Well)], &[]).min_idle(1).build());
    let filler = spawn(&pool, |pool| assert_ne!(poll_noop(&mut Box::pin(pool.replenish())), Poll::Ready(Err(Failed))));
    let getter = spawn(&pool, |pool| assert_eq!(use_one(pool), Ok(0)));
    let opener = spawn(&pool, |pool| pool.manager().gate.open());
    join([filler, getter, opener]);
    assert_idle(&pool, 1);
    assert_eq!(pool.manager().creates.begun(), 1);
}

/// A creation is pending, or will be soon: it is not begun a second time. Guards the pending creations in `claim_spare`.
fn replenish_racing_creator_dropped() {
    let pool = Arc::new(builder(1, &[(Gated, Well)], &[]).min_idle(1).build());
    let [creator] = begun(&pool);
    let canceller = thread::spawn(|| drop(creator));
    let filler = spawn(&pool, |pool| assert_eq!(blocking::wait(pool.replenish()), Ok(())));
    let opener = spawn(&pool, |pool| pool.manager().gate.open());
    join([canceller, filler, opener]);
    // As long as the creator had it in its hand, there was nothing to do.
    assert_eq!(blocking::wait(pool.replenish()), Ok(()));
    assert_idle(&pool, 1);
    assert_eq!(pool.manager().creates.begun(), 1);
}

/// An expired object is discarded or got. Guards the count of what `maintain` takes out.
fn maintain_racing_get() {
    let start = Instant::now();
    let pool = Arc::new(builder(1, &[], &[]).idle_timeout(Duration::from_secs(1)).clock(move || start).build());
    let [object] = lent(&pool);
    drop(object);
    let maintainer = spawn(&pool, move |pool| {
        let _ = pool.maintain(start + Duration::from_secs(1));
    });
    let getter = spawn(&pool, |pool| assert!(use_one(pool).unwrap() <= 1));
    join([maintainer, getter]);
    let [idle, ..] = counts(&pool);
    assert!(idle <= 1);
    assert_idle(&pool, idle);
    assert_eq!(pool.manager().alive(), idle);
}

/// An object is taken out, or got; when it is added again it is for the waiting getter. Guards `deliver` in `add`.
fn retain_and_add_racing_get() {
    let pool = fixed(1);
    let keeper = spawn(&pool, |pool| {
        for thing in pool.retain(|_, _| false) {
            assert!(pool.add(thing).is_ok());
        }
    });
    let getter = spawn(&pool, |pool| assert_eq!(use_one(pool), Ok(0)));
    join([keeper, getter]);
    assert_idle(&pool, 1);
}

/// An object that is added is in the pool or given back, and does not outlive the close. Guards the check of `closed` in
/// `add`.
fn add_racing_close() {
    let pool = fixed(1);
    let [object] = lent(&pool);
    let thing = OwnedObject::detach(object);
    let adder = spawn(&pool, |pool| {
        let was_closed = pool.is_closed();
        assert!(pool.add(thing).is_err() || !was_closed);
    });
    let closer = spawn(&pool, |pool| pool.close());
    join([adder, closer]);
    assert_over(&pool);
}
