use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex as StdMutex};
use std::thread;
use std::time::{Duration, Instant};

use futures::FutureExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use stanchion::{GetError, Manager, Metrics, Object, Order, OwnedObject, Pool, PoolBuilder, blocking};

use super::{Clock, Failure, OPERATIONS, Part, add_one, after_a_change_of_waker, count_panic, panic_on_purpose, read};
use crate::common::{Check, Counted, Gauge, within, yield_now};

/// A manager. Its calls take a random number of polls, and then may fail or panic.
struct FlakyManager {
    alive: Arc<Gauge>,
    random: StdMutex<StdRng>,
}

/// An object that was created, or added.
#[derive(Default)]
struct TestObject {
    /// Counts a created object, from the first poll of its creation until it leaves the pool.
    counted: Cell<Option<Counted>>,
    is_in_use: bool,
    uses: u64,
}

impl FlakyManager {
    async fn work(&self) -> Result<(), Failure> {
        let (steps, fate) = {
            let mut random = self.random.lock().unwrap();
            (random.random_range(0..4), random.random_range(0..16))
        };
        for _ in 0..steps {
            yield_now().await;
        }
        match fate {
            0 => Err(Failure),
            1 => panic_on_purpose(),
            _ => Ok(()),
        }
    }
}

impl Manager for FlakyManager {
    type Object = TestObject;
    type Error = Failure;

    async fn create(&self) -> Result<TestObject, Failure> {
        let counted = self.alive.count();
        self.work().await?;
        Ok(TestObject { counted: Cell::new(Some(counted)), is_in_use: false, uses: 0 })
    }

    async fn recycle(&self, object: &mut TestObject, metrics: &Metrics) -> Result<(), Failure> {
        assert_eq!((object.is_in_use, object.uses), (false, metrics.uses));
        self.work().await
    }

    fn is_broken(&self, object: &mut TestObject) -> bool {
        assert!(std::mem::take(&mut object.is_in_use), "`is_broken` is called once for each use");
        let fate = self.random.lock().unwrap().random_range(0..16);
        match fate {
            0 => true,
            1 => panic_on_purpose(),
            _ => false,
        }
    }
}

impl TestObject {
    fn take(&mut self, metrics: Metrics) {
        self.uses += 1;
        assert_eq!((self.is_in_use, self.uses), (false, metrics.uses));
        self.is_in_use = true;
    }
}

/// The outcomes of all gets.
#[derive(Debug, Default)]
struct Counts {
    /// The largest size of the pool.
    largest: usize,
    served: AtomicUsize,
    failed: AtomicUsize,
    refused: AtomicUsize,
    cancelled: AtomicUsize,
    panicked: AtomicUsize,
}

/// Returns the clock of a pool, which panics at one read of 256.
fn flaky(clock: &Arc<Clock>) -> impl Fn() -> Instant + Send + Sync + 'static {
    let clock = clock.clone();
    move || {
        let now = clock.read();
        if now.duration_since(clock.start).as_millis() % 256 == 0 { panic_on_purpose() } else { now }
    }
}

impl Counts {
    /// Counts the outcome of a get, which is `None` if it was cancelled.
    fn add<T>(&self, outcome: Option<Result<T, GetError<Failure>>>) -> Option<T> {
        let (count, object) = match outcome {
            Some(Ok(object)) => (&self.served, Some(object)),
            Some(Err(GetError::Create(Failure))) => (&self.failed, None),
            Some(Err(GetError::TooManyWaiting)) => (&self.refused, None),
            Some(Err(GetError::Closed)) => return None,
            None => (&self.cancelled, None),
        };
        add_one(count);
        object
    }
}

fn taken<'a>(mut object: Object<'a, FlakyManager>) -> Object<'a, FlakyManager> {
    let metrics = Object::metrics(&object);
    object.take(metrics);
    object
}

fn taken_owned(mut object: OwnedObject<FlakyManager>) -> OwnedObject<FlakyManager> {
    let metrics = OwnedObject::metrics(&object);
    object.take(metrics);
    object
}

/// A random operation on a pool. Tasks that must not wait keep the others from waiting for ever.
async fn operate(
    pool: &Arc<Pool<FlakyManager>>,
    counts: &Counts,
    clock: &Clock,
    kept: &mut Option<OwnedObject<FlakyManager>>,
    random: &mut StdRng,
    may_wait: bool,
    may_block: bool,
) {
    if random.random_bool(0.5) {
        drop(kept.take());
    }
    let largest = counts.largest;
    // A task that waits for the object that it holds would wait for ever.
    let may_wait = may_wait && kept.is_none();
    let patience = (!may_wait || random.random_bool(0.4)).then(|| random.random_range(0..8));
    match random.random_range(0..24) {
        0..=3 => {
            if let Some(object) = counts.add(within(pool.get(), patience).await) {
                let _object = taken(object);
                for _ in 0..random.random_range(0..3) {
                    yield_now().await;
                }
            }
        }
        4 | 5 => *kept = counts.add(within(pool.clone().get_owned(), patience).await).map(taken_owned),
        6 if may_wait => drop(counts.add(Some(after_a_change_of_waker(pool.get()).await)).map(taken)),
        7 => drop(pool.try_get().map(taken)),
        8 => *kept = pool.clone().try_get_owned().map(taken_owned),
        9 => {
            // The first of two; the other is dropped at any stage.
            let either = within(futures::future::select(pool.get(), pool.get()), patience).await;
            drop(counts.add(either.map(|either| either.factor_first().0)).map(taken));
        }
        10 => counts.add(within(pool.get(), patience).await).map(taken).into_iter().for_each(Object::discard),
        11 => {
            if let Some(object) = counts.add(within(pool.get(), patience).await) {
                drop(object.counted.take());
                let mut object = Object::detach(taken(object));
                yield_now().await;
                (object.is_in_use, object.uses) = (false, 0);
                drop(pool.add(object));
            }
        }
        12 => drop(pool.add(TestObject::default())),
        13 if random.random_bool(0.1) => pool.clear(),
        14 if random.random_bool(0.3) => {
            let mut removed = 0;
            let objects = pool.retain(|object, metrics| {
                assert_eq!((object.is_in_use, object.uses), (false, metrics.uses));
                let keep = metrics.uses % 3 > 0;
                if !keep {
                    drop(object.counted.take());
                    removed += 1;
                }
                keep
            });
            assert_eq!(objects.len(), removed);
        }
        15 if random.random_bool(0.3) => drop(pool.retain(|_, _| panic_on_purpose())),
        16 => {
            let now = clock.read();
            assert!(pool.maintain(now).is_none_or(|next| next > now));
        }
        17 | 18 => {
            if let Some(Err(Failure)) = within(Box::pin(pool.replenish()), patience.or(Some(20))).await {
                add_one(&counts.failed);
            }
        }
        19 if !may_wait => {
            pool.resize(if random.random_bool(0.5) { largest } else { random.random_range(0..=largest) })
        }
        20 => {
            let status = pool.status();
            assert_eq!(status.size, status.idle + status.in_use + status.creating, "{status:?}");
            assert!(status.size <= largest && status.max_size <= largest, "{status:?}");
            pool.check();
        }
        21 => assert!(within(pool.closed(), Some(2)).await.is_none() || pool.is_closed()),
        22 if may_block => {
            let patience = Duration::from_micros(random.random_range(0..100));
            drop(counts.add(blocking::wait_timeout(pool.get(), patience).ok()).map(taken));
        }
        _ => drop(kept.take()),
    }
    yield_now().await;
}

/// Returns pools of objects without a lifetime, with a short one, and that are rarely recycled; and their largest sizes.
fn pools(manager: impl Fn() -> FlakyManager, clock: &Arc<Clock>) -> [(usize, PoolBuilder<FlakyManager>); 3] {
    let [short_lived, idle_for_long, idle_for_short] = [20_000, 2_000, 500].map(Duration::from_millis);
    let short = Pool::builder(manager()).max_size(5).min_idle(2).max_waiting(28).order(Order::Fifo);
    let rarely = Pool::builder(manager()).max_size(20).min_idle(8).idle_timeout(idle_for_long);
    [
        (1, Pool::builder(manager()).max_size(1)),
        (5, short.max_lifetime(short_lived).idle_timeout(idle_for_long).clock(flaky(clock))),
        (20, rarely.recycle_after(idle_for_short).clock(flaky(clock))),
    ]
}

#[test]
fn every_object_and_slot_is_accounted_for() {
    let alive = Arc::new(Gauge::default());
    let manager = || FlakyManager { alive: alive.clone(), random: StdMutex::new(StdRng::seed_from_u64(1)) };
    let clock = Clock::new();
    for (largest, builder) in pools(manager, &clock) {
        let pool = Arc::new(builder.build());
        let counts = Arc::new(Counts { largest, ..Counts::default() });
        // Gets that are served are counted: most others are cancelled first.
        let part = Part::one_of(3, OPERATIONS / 20);
        part.run(&pool, |number, may_block| {
            let (pool, counts, clock, part) = (pool.clone(), counts.clone(), clock.clone(), part.clone());
            async move {
                let mut random = StdRng::seed_from_u64(number as u64);
                let mut kept = None;
                let may_wait = number % 6 > 0;
                while !pool.is_closed() {
                    let operation = operate(&pool, &counts, &clock, &mut kept, &mut random, may_wait, may_block);
                    count_panic(AssertUnwindSafe(operation).catch_unwind().await, &counts.panicked);
                    if !may_wait {
                        // The object that the others wait for may be on a thread that does not run.
                        thread::yield_now();
                    }
                    part.operations.store(read(&counts.served), Ordering::Relaxed);
                    if part.is_over() {
                        // While other operations are running.
                        pool.close();
                    }
                }
                count_panic(catch_unwind(AssertUnwindSafe(|| drop(kept))), &counts.panicked);
                pool.closed().await;
            }
        });
        pool.check();
        let status = pool.status();
        assert_eq!((status.size, status.waiting, Arc::strong_count(&pool)), (0, 0, 1), "{status:?}");
        let (now, most, made) = alive.read();
        assert_eq!(now, 0, "each of {made} is dropped");
        assert!(most <= largest, "{most} at a time");
        // Each outcome is frequent enough.
        let kinds = [&counts.failed, &counts.cancelled, &counts.panicked].map(read);
        assert!(kinds.iter().all(|count| *count >= part.operations() / 200), "{counts:?}");
        assert_eq!(read(&counts.refused) > 0, largest == 5, "{counts:?}");
    }
}
