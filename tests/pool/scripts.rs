//! Scripts of operations on a pool, run again and again: each time user code panics, or uses the pool, at another call of
//! it. Whatever it was, no slot and no wake-up is lost.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex as StdMutex, Weak};
use std::task::{self, Context, Wake, Waker};
use std::time::{Duration, Instant};

use futures::FutureExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use stanchion::{Manager, OwnedObject, Pool, Status};

use crate::common::hooks::Hooks;
use crate::common::{self, Check, Clock, Counter, ends};
use crate::manager::{Event, Factory, Thing};
use crate::user_code::is_locked_inside;

/// Checks the invariants of a snapshot, and returns it.
#[track_caller]
fn status<M: Manager>(pool: &Pool<M>) -> Status {
    pool.check();
    let status = pool.status();
    assert_eq!(status.size, status.idle + status.in_use + status.creating, "{status:?}");
    status
}

/// User code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Site {
    Create,
    CreateDropped,
    Recycle,
    RecycleDropped,
    IsBroken,
    ObjectDropped,
    ErrorDropped,
    Clock,
    /// The predicate of `retain`, which alone runs under the lock.
    Keep,
    WakerCloned,
    Woken,
    WakerDropped,
}

const SITES: [Site; 12] = [
    Site::Create,
    Site::CreateDropped,
    Site::Recycle,
    Site::RecycleDropped,
    Site::IsBroken,
    Site::ObjectDropped,
    Site::ErrorDropped,
    Site::Clock,
    Site::Keep,
    Site::WakerCloned,
    Site::Woken,
    Site::WakerDropped,
];

impl From<Event> for Site {
    fn from(event: Event) -> Self {
        match event {
            Event::Create(..) => Self::Create,
            Event::CreateDropped(_) => Self::CreateDropped,
            Event::Recycle(..) => Self::Recycle,
            Event::RecycleDropped(_) => Self::RecycleDropped,
            Event::IsBroken(_) => Self::IsBroken,
            Event::Drop(_) => Self::ObjectDropped,
            Event::ErrorDropped(_) => Self::ErrorDropped,
        }
    }
}

type Shared = Arc<Pool<Factory>>;

/// What user code does at the planned call.
#[derive(Clone, Copy)]
enum Deed {
    Panic,
    With(fn(&Shared)),
}

/// The panic that was planned.
struct Planned;

/// What all user code of one pool shares.
#[derive(Default)]
struct Stage {
    pool: StdMutex<Weak<Pool<Factory>>>,
    /// What happens where, after so many calls that nothing happens in.
    plan: StdMutex<Option<(Site, usize, Deed)>>,
    /// User code was called under the lock.
    locked: AtomicBool,
}

impl Stage {
    fn plan(&self, site: Site, after: usize, deed: Deed) {
        *self.plan.lock().unwrap() = Some((site, after, deed));
    }

    /// Drops the plan. Returns `true` if it was carried out.
    fn is_over(&self) -> bool {
        self.plan.lock().unwrap().take().is_none()
    }

    /// User code runs.
    fn at(&self, site: Site) {
        let Some(deed) = self.due(site) else { return };
        let pool = self.pool.lock().unwrap().upgrade();
        let locked = pool.as_ref().is_some_and(|pool| is_locked_inside(pool));
        if locked != (site == Site::Keep) && pool.is_some() {
            self.locked.store(true, Ordering::Relaxed);
            return;
        }
        match (deed, pool) {
            // As a panic, but without a message.
            (Deed::Panic, _) => resume_unwind(Box::new(Planned)),
            (Deed::With(act), Some(pool)) => act(&pool),
            (Deed::With(_), None) => {}
        }
    }

    fn due(&self, site: Site) -> Option<Deed> {
        let mut plan = self.plan.lock().unwrap();
        match &mut *plan {
            Some((planned, after, _)) if *planned == site && *after > 0 => {
                *after -= 1;
                None
            }
            Some((planned, _, _)) if *planned == site => plan.take().map(|(_, _, deed)| deed),
            _ => None,
        }
    }
}

/// A step of a script. Getters have the numbers of their `Ask`s, and their objects have those too.
#[derive(Clone, Copy, Debug)]
enum Op {
    /// Gets, and polls once.
    Ask,
    Poll(usize),
    /// Polls with another waker.
    PollAnew(usize),
    /// Drops a getter.
    Leave(usize),
    /// Each creation and recycling may pass one await; getters that are woken are polled, until none is.
    Tick,
    /// Ticks until nothing moves.
    Finish,
    Return(usize),
    Discard(usize),
    Detach(usize),
    /// The next creation fails.
    Fail,
    /// An object fails to be recycled.
    Kill(usize),
    Break(usize),
    TryGet,
    Add,
    Resize(usize),
    Retain,
    Clear,
    Pass(u64),
    Maintain,
    Replenish,
    AwaitClosed,
    Close,
}

use Op::*;

#[rustfmt::skip] // As few lines as possible.
const SCRIPTS: &[&[Op]] = &[
    // Objects are used by turns; getters are dropped when they create, when they recycle, and after a single poll.
    &[Ask, Leave(0), Ask, Tick, Leave(1), Ask, Finish, Return(2), Ask, Leave(3), Ask, Tick, Leave(4), Ask, Finish],
    // Some wait, and leave before and after they were granted an object.
    &[Ask, Ask, Finish, Ask, Ask, Ask, PollAnew(3), Leave(2), Return(0), Leave(3), Return(1), Finish, Ask, Return(4)],
    // A returned object overtakes a creation, which stays pending and is adopted.
    &[Ask, Finish, Ask, Tick, Return(0), Poll(1), Ask, Finish, Return(1), Ask, Ask, Return(2), Finish],
    // The same, but the creation ends, or its getter leaves, before the getter sees the object.
    &[Ask, Finish, Ask, Ask, Tick, Tick, Return(0), Finish, Return(2), Ask, Ask, Return(1), Leave(4), Leave(3), Finish],
    // Creations fail, with others waiting; some while they are pending.
    &[Fail, Ask, Fail, Ask, Ask, Ask, Finish, Return(2), Return(3), Clear, Fail, Ask, Leave(4), Ask, Finish],
    // Recycles fail, with others waiting.
    &[Ask, Ask, Finish, Kill(0), Kill(1), Return(0), Return(1), Ask, Ask, Ask, Finish, Kill(2), Return(2), Finish],
    // A recycling fails, and the creation that follows it is overtaken, or fails too.
    &[Ask, Ask, Finish, Kill(0), Return(0), Ask, Tick, Tick, Tick, Return(1), Finish, Kill(2), Return(2), Fail, Ask, Finish],
    // A creation fails while an object is recycled, which is left to others, serves, or fails too.
    &[Ask, Finish, Fail, Ask, Tick, Return(0), Tick, Leave(1), Ask, Finish],
    &[Ask, Finish, Fail, Ask, Tick, Return(0), Tick, Finish, Return(1), Ask, Finish],
    &[Ask, Finish, Kill(0), Fail, Ask, Ask, Tick, Return(0), Tick, Finish, Ask, Finish],
    // Objects leave in other ways, with others waiting.
    &[Ask, Ask, Finish, Ask, Ask, Ask, Break(0), Return(0), Discard(1), Finish, Detach(2), Discard(3), Finish, Break(4)],
    // The pool shrinks and grows.
    &[Ask, Ask, Finish, Ask, Resize(1), Return(0), Return(1), Finish, Resize(0), Return(2), Ask, Ask, Resize(3), Finish],
    &[Ask, Ask, Finish, Return(0), Return(1), Resize(0), Resize(2), Ask, Leave(2), Resize(0), Resize(1), Ask, Finish],
    // Former generations go.
    &[Ask, Ask, Finish, Return(0), Clear, Ask, Tick, Clear, Return(1), Finish, Return(2), Ask, Leave(3), Clear, Finish],
    // The pool closes: with some in use, idle, waiting, creating, recycling, pending.
    &[Ask, Ask, Finish, AwaitClosed, Ask, Ask, Return(0), Close, Finish, Ask, Return(1), Return(2), Finish],
    &[Ask, Finish, Return(0), Ask, AwaitClosed, Ask, Tick, Ask, Close, Finish, Return(1), Finish],
    &[Ask, Ask, Leave(0), Close, Poll(1), AwaitClosed, Finish],
    // Objects expire: idle, at a return, at a get.
    &[Ask, Ask, Finish, Return(0), Pass(61), Maintain, Ask, Finish, Pass(600), Return(1), Return(2), Ask, Finish],
    &[Ask, Ask, Finish, Return(0), Return(1), Pass(61), Ask, Ask, Ask, Finish, Return(2), Pass(61), Maintain, Finish],
    // The pool is filled, and filled on by another.
    &[Replenish, Finish, Replenish, Clear, Replenish, Ask, Ask, Ask, Finish],
    &[Replenish, Leave(0), Fail, Replenish, Tick, Tick, Ask, Finish, Clear, Fail, Replenish, Finish],
    // By hand.
    &[Add, Ask, Add, Add, Retain, TryGet, Finish, Ask, Ask, Ask, Finish, Add, Resize(4), Add, Finish, Retain],
];

/// A future, with a waker that runs user code.
struct Errand {
    future: Pin<Box<dyn Future<Output = Option<OwnedObject<Factory>>>>>,
    waker: Waker,
    counter: Arc<Counter>,
    seen: usize,
    /// Nothing but a close ends it.
    awaits_close: bool,
}

/// A pool of at first two, all that happens around it, and a plan for one thing to happen at one call.
struct Scene {
    pool: Shared,
    stage: Arc<Stage>,
    factory: Factory,
    clock: Clock,
    errands: Vec<Option<Errand>>,
    held: Vec<Option<OwnedObject<Factory>>>,
    /// The number of the errand that is being polled.
    polled: Option<usize>,
    /// The most that there may ever have been, by the sizes set.
    bound: usize,
    /// The number of objects that the test may have made itself.
    by_hand: usize,
    /// Whatever is dropped is dropped while the thread panics.
    unwinding: bool,
    polls: usize,
    panics: usize,
}

impl Scene {
    fn new(unwinding: bool) -> Self {
        let (factory, clock, stage) = (Factory::default(), Clock::new(), Arc::new(Stage::default()));
        let (source, at_clock, at_event) = (clock.source(), stage.clone(), stage.clone());
        let source = move || {
            at_clock.at(Site::Clock);
            source()
        };
        factory.hook(move |event| at_event.at(event.into()));
        factory.creates.hold(2);
        factory.recycles.hold(2);
        let builder = factory.builder().max_size(2).min_idle(2).clock(source);
        let pool = builder.idle_timeout(Duration::from_secs(60)).max_lifetime(Duration::from_secs(600)).build();
        let pool = Arc::new(pool);
        *stage.pool.lock().unwrap() = Arc::downgrade(&pool);
        let (errands, held) = (Vec::new(), Vec::new());
        Self {
            pool,
            stage,
            factory,
            clock,
            errands,
            held,
            polled: None,
            bound: 2,
            by_hand: 0,
            unwinding,
            polls: 0,
            panics: 0,
        }
    }

    /// Does what may panic as planned.
    fn go(&mut self, op: Op) {
        self.survive(|scene| scene.act(op));
        if let Some(number) = self.polled.take() {
            self.survive(|scene| scene.leave(number));
        }
        self.pool.check();
    }

    fn survive(&mut self, act: impl FnOnce(&mut Self)) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| act(self))) {
            if !payload.is::<Planned>() {
                resume_unwind(payload);
            }
            self.panics += 1;
        }
    }

    fn act(&mut self, op: Op) {
        let pool = self.pool.clone();
        match op {
            Ask => self.begin(false, pool.get_owned().map(Result::ok)),
            Poll(number) => self.poll(number),
            PollAnew(number) => {
                if let Some(Some(errand)) = self.errands.get_mut(number) {
                    let old = std::mem::replace(&mut errand.waker, waker(&self.stage, &errand.counter));
                    self.poll(number);
                    drop(old);
                }
            }
            Leave(number) => self.leave(number),
            Tick => drop(self.tick()),
            Finish => while self.tick() {},
            Return(number) => {
                if let Some(object) = self.take(number) {
                    drop_it(object, self.unwinding);
                }
            }
            Discard(number) => drop(self.take(number).map(OwnedObject::discard)),
            Detach(number) => drop(self.take(number).map(OwnedObject::detach)),
            Fail => self.factory.creates.fail_at(self.factory.creates.begun(), 2),
            Kill(number) => self.held(number).map_or((), |object| self.factory.kill(object.id)),
            Break(number) => self.held(number).map_or((), |object| self.factory.break_thing(object.id)),
            TryGet => drop(pool.try_get()),
            Add => {
                self.by_hand = 1;
                drop(pool.add(self.factory.thing(100)));
            }
            Resize(size) => {
                self.bound = self.bound.max(size);
                pool.resize(size);
            }
            Retain => drop(pool.retain(|_, metrics| {
                self.stage.at(Site::Keep);
                metrics.uses == 0
            })),
            Clear => pool.clear(),
            Pass(seconds) => self.clock.advance(Duration::from_secs(seconds)),
            Maintain => drop(pool.maintain(self.clock.now())),
            Replenish => self.begin(false, async move { pool.replenish().await.err().and(None) }),
            AwaitClosed => self.begin(true, async move {
                pool.closed().await;
                None
            }),
            Close => pool.close(),
        }
    }

    fn begin(&mut self, awaits_close: bool, future: impl Future<Output = Option<OwnedObject<Factory>>> + 'static) {
        let counter = Arc::<Counter>::default();
        let waker = waker(&self.stage, &counter);
        self.errands.push(Some(Errand { future: Box::pin(future), waker, counter, seen: 0, awaits_close }));
        self.held.push(None);
        self.poll(self.errands.len() - 1);
    }

    fn poll(&mut self, number: usize) {
        let Some(Some(errand)) = self.errands.get_mut(number) else { return };
        errand.seen = errand.counter.count();
        self.polls += 1;
        self.polled = Some(number);
        let outcome = errand.future.as_mut().poll(&mut Context::from_waker(&errand.waker));
        if let task::Poll::Ready(object) = outcome {
            self.held[number] = object;
            self.errands[number] = None;
        }
        self.polled = None;
    }

    fn leave(&mut self, number: usize) {
        if let Some(Errand { future, waker, .. }) = self.errands.get_mut(number).and_then(Option::take) {
            drop_it(future, self.unwinding);
            // The clone of the test: the pool cannot catch a panic of its drop.
            drop(waker);
        }
    }

    fn held(&self, number: usize) -> Option<&Thing> {
        self.held.get(number)?.as_deref()
    }

    fn take(&mut self, number: usize) -> Option<OwnedObject<Factory>> {
        self.held.get_mut(number).and_then(Option::take)
    }

    /// Returns `true` if anything was polled.
    fn tick(&mut self) -> bool {
        let polls = self.polls;
        self.factory.step();
        while let Some(number) = self.woken() {
            self.poll(number);
        }
        self.polls > polls
    }

    /// A future that was woken, and has not been polled since.
    fn woken(&self) -> Option<usize> {
        self.errands.iter().position(|errand| errand.as_ref().is_some_and(|it| it.counter.count() > it.seen))
    }

    /// After whatever has happened: no object, slot or wake-up is lost.
    fn end(mut self) -> usize {
        let closed = self.pool.is_closed();
        self.pool.resize(3);
        self.held.iter_mut().for_each(|held| drop(held.take()));
        // Each that is served returns its object for the next.
        for _ in 0..self.errands.len() {
            self.act(Finish);
            self.held.iter_mut().for_each(|held| drop(held.take()));
        }
        let mut left = self.errands.iter().flatten();
        assert!(left.all(|errand| errand.awaits_close && !closed), "a getter is not woken: {:?}", self.pool);
        if closed {
            let max_size = self.pool.status().max_size; // `resize` has no effect on a closed pool.
            assert_eq!(status(&self.pool), Status { max_size, ..Status::default() });
            self.pool.closed().now_or_never().expect("all objects were returned");
        } else {
            self.serves(3);
        }
        self.drop_all()
    }

    /// The pool has room for so many, and no more.
    fn serves(&mut self, size: usize) {
        let first = self.errands.len();
        let held = |scene: &Self| scene.held[first..].iter().flatten().count();
        // Some creations still fail, as planned.
        for _ in 0..20 {
            if held(self) < size && self.errands[first..].iter().flatten().count() == 0 {
                self.act(Ask);
            }
            self.act(Finish);
        }
        let all_in_use = Status { max_size: 3, size, idle: 0, in_use: size, creating: 0, waiting: 0 };
        assert_eq!((held(self), status(&self.pool)), (size, all_in_use));
        self.act(Ask);
        self.act(Finish);
        assert_eq!((held(self), status(&self.pool)), (size, Status { waiting: 1, ..all_in_use }));
        drop(self.take(first));
        self.held[first..].iter_mut().find_map(Option::take);
        self.act(Finish);
        assert!(self.held.last().unwrap().is_some(), "a waiting getter is not served");
        assert_eq!(status(&self.pool).waiting, 0);
    }

    /// Drops all, and the pool last. Returns the number of planned panics.
    fn drop_all(mut self) -> usize {
        (0..self.errands.len()).for_each(|number| self.survive(|scene| scene.leave(number)));
        (0..self.held.len()).for_each(|number| self.survive(|scene| scene.act(Return(number))));
        assert_eq!(Arc::strong_count(&self.pool), 1);
        let (factory, stage) = (self.factory.clone(), self.stage.clone());
        let mut panics = self.panics;
        // As with any collection: while the thread panics, no more may panic in there.
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(self))) {
            assert!(payload.is::<Planned>());
            panics += 1;
        }
        assert!(!stage.locked.load(Ordering::Relaxed), "user code ran under the lock");
        assert_eq!((factory.alive(), factory.creates.in_flight(), factory.recycles.in_flight()), (0, 0, 0));
        let mut dropped = factory.dropped();
        dropped.retain(|&id| id < 100);
        dropped.sort_unstable();
        assert!(dropped.is_sorted_by(|id, next| id < next), "dropped twice: {dropped:?}");
        panics
    }
}

/// Drops something, perhaps while the thread panics already.
fn drop_it<T>(value: T, unwinding: bool) {
    if unwinding {
        let unwound = catch_unwind(AssertUnwindSafe(|| {
            let _value = value;
            resume_unwind(Box::new("the first"));
        }));
        assert_eq!(unwound.unwrap_err().downcast_ref(), Some(&"the first"));
    }
}

fn waker(stage: &Arc<Stage>, counter: &Arc<Counter>) -> Waker {
    let [cloned, woken, dropped] = [stage; 3].map(Arc::clone);
    let counter = counter.clone();
    let hooks = Hooks::new().on_clone(move || cloned.at(Site::WakerCloned));
    let hooks = hooks.on_drop(move || dropped.at(Site::WakerDropped));
    let wake = move || {
        counter.wake_by_ref();
        woken.at(Site::Woken);
    };
    hooks.on_wake(wake).waker()
}

/// What follows a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Each waiting getter is served, and so are others.
    Served,
    /// Everything is dropped.
    Dropped,
}

const ENDINGS: [Ending; 2] = [Ending::Served, Ending::Dropped];

/// Runs one script with one plan. Returns `true` if the plan was carried out, and `true` if a caller saw it panic.
fn play(script: &[Op], plan: (Site, usize, Deed), unwinding: bool, ending: Ending) -> (bool, bool) {
    let mut scene = Scene::new(unwinding);
    let (site, after, deed) = plan;
    scene.stage.plan(site, after, deed);
    script.iter().for_each(|&op| scene.go(op));
    if matches!(deed, Deed::Panic) {
        let live = scene.factory.max_live();
        assert!(live <= scene.bound + scene.by_hand, "there are too many: {live}");
    }
    let stage = scene.stage.clone();
    match ending {
        Ending::Served => {
            let over = stage.is_over();
            (over, scene.end() > 0)
        }
        Ending::Dropped => {
            let panics = scene.drop_all();
            (stage.is_over(), panics > 0)
        }
    }
}

/// Runs all scripts with all plans of this. Counts, for each site, how often that was carried out, and how often a caller saw
/// a panic.
fn play_all(deed: Deed, unwinding: bool) -> Vec<(Site, usize, usize)> {
    let mut tally = Vec::new();
    // Under the lock the pool cannot be used.
    for site in SITES.into_iter().filter(|&site| site != Site::Keep || matches!(deed, Deed::Panic)) {
        let (mut done, mut seen) = (0, 0);
        let endings = if matches!(deed, Deed::Panic) { &ENDINGS[..] } else { &[Ending::Served] };
        for (number, script) in SCRIPTS.iter().enumerate() {
            for &ending in endings {
                for after in 0.. {
                    let outcome =
                        catch_unwind(AssertUnwindSafe(|| play(script, (site, after, deed), unwinding, ending)));
                    let (came, panicked) = outcome.unwrap_or_else(|payload| {
                        eprintln!("script {number}, {site:?} number {after}, unwinding: {unwinding}, {ending:?}");
                        resume_unwind(payload)
                    });
                    if !came {
                        break;
                    }
                    done += 1;
                    seen += usize::from(panicked);
                }
            }
        }
        tally.push((site, done, seen));
    }
    tally
}

#[test]
fn whatever_panics_no_slot_and_no_wake_is_lost() {
    common::survives("scripts::whatever_panics_no_slot_and_no_wake_is_lost", || {
        // Where a panic would cost a caller its object, it is discarded.
        let quiet = [
            // Work that was taken up is begun afresh.
            Site::Create,
            Site::Recycle,
            Site::WakerCloned,
            Site::CreateDropped,
            Site::RecycleDropped,
            Site::ObjectDropped,
            Site::ErrorDropped,
            Site::Woken,
            Site::WakerDropped,
        ];
        for (site, done, seen) in play_all(Deed::Panic, false) {
            assert!(done > 0 && (seen == done || quiet.contains(&site)), "{site:?}: {seen} of {done}");
        }
    });
}

#[test]
fn a_second_panic_at_any_point_does_not_abort() {
    common::survives("scripts::a_second_panic_at_any_point_does_not_abort", || {
        assert!(play_all(Deed::Panic, true).iter().all(|&(_, done, _)| done > 0))
    });
}

fn poll_once(future: impl Future) {
    let _ = future.now_or_never();
}

fn call_everything(pool: &Shared) {
    pool.check();
    let _ = (pool.status(), pool.is_closed(), format!("{pool:?}"));
    drop(pool.try_get());
    drop(pool.clone().try_get_owned());
    poll_once(pool.get());
    poll_once(pool.clone().get_owned());
    drop(pool.add(pool.manager().thing(101)));
    drop(pool.retain(|_, _| true));
    pool.maintain(Instant::now());
    poll_once(pool.replenish());
    poll_once(pool.closed());
    let max_size = pool.status().max_size;
    pool.resize(max_size + 1);
    pool.check();
    pool.resize(max_size);
    pool.check();
}

#[test]
fn user_code_may_use_the_pool_wherever_it_runs() {
    let deeds: [fn(&Shared); 5] = [
        call_everything,
        |pool| pool.clear(),
        |pool| pool.close(),
        |pool| drop(pool.retain(|_, _| false)),
        |pool| {
            pool.resize(0);
            poll_once(pool.get());
            pool.resize(2);
        },
    ];
    for deed in deeds {
        ends(move || {
            let tally = play_all(Deed::With(deed), false);
            assert!(tally.iter().all(|&(_, done, _)| done > 0));
        });
    }
}

/// Steps as they come.
fn random_script(random: &mut StdRng) -> Vec<Op> {
    let mut asked = 0;
    let step = |_| {
        let number = random.random_range(asked.max(6) - 6..asked + 1);
        let once = match random.random_range(0..48) {
            0..10 => Ask,
            10..13 => Poll(number),
            13 => PollAnew(number),
            14..17 => Leave(number),
            17..21 => Tick,
            21..25 => Finish,
            25..33 => Return(number),
            33 => Discard(number),
            34 => Detach(number),
            35..37 => Fail,
            37..39 => Kill(number),
            39 => Break(number),
            40 => *[TryGet, Retain, AwaitClosed].choose(random).unwrap(),
            41 => Add,
            42 => Resize(random.random_range(0..5)),
            43 => Clear,
            44 => Pass(random.random_range(1..100)),
            45 => Maintain,
            46 => Replenish,
            _ => {
                if random.random_ratio(1, 10) {
                    Close
                } else {
                    Ask
                }
            }
        };
        asked += usize::from(matches!(once, Ask | Replenish | AwaitClosed));
        once
    };
    (0..40).map(step).collect()
}

#[test]
fn operations_in_any_order_lose_nothing() {
    common::survives("scripts::operations_in_any_order_lose_nothing", || {
        let mut done = 0;
        for seed in 0..3_000 {
            let mut random = StdRng::seed_from_u64(seed);
            let script = random_script(&mut random);
            let plan = (*SITES.choose(&mut random).unwrap(), random.random_range(0..12), Deed::Panic);
            let (unwinding, ending) = (random.random(), *ENDINGS.choose(&mut random).unwrap());
            let outcome = catch_unwind(AssertUnwindSafe(|| play(&script, plan, unwinding, ending)));
            let (came, _) = outcome.unwrap_or_else(|payload| {
                eprintln!(
                    "seed {seed}: {script:?}, {:?} number {}, unwinding: {unwinding}, {ending:?}",
                    plan.0, plan.1
                );
                resume_unwind(payload)
            });
            done += usize::from(came);
        }
        assert!(done > 1_000, "{done}");
    });
}
