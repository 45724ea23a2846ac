//! Models of `Pool`: which getter gets an object, a creation or a slot, while others return, discard, resize or close.

mod changing;
mod closing;
mod creating;
mod recycling;
mod serving;

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
use changing::*;
use closing::*;
use creating::*;
use recycling::*;
use serving::*;

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
fn assert_drained<M: Manager>(pool: &Pool<M>) {
    assert!(pool.is_closed());
    assert_idle(pool, 0);
    assert!(poll_noop(&mut pool.closed()).is_ready());
}
