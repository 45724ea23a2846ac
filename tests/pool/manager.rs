//! A manager that the test controls: its objects are numbered and counted, and its futures are held, released, failed
//! and made to panic wherever the test wants it.

use std::collections::HashMap;
use std::fmt;
use std::future::{Future, poll_fn};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex as StdMutex};
use std::task::{Context, Poll, Waker};

use stanchion::{Manager, Metrics, Pool, PoolBuilder};

/// The point of a call before its future exists. The others are 0 (the first poll), 1 (after the first await), and so
/// on.
pub(crate) const CALL: usize = usize::MAX;

/// User code that runs right now: a hook may do anything here, but the user code that it causes runs no hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The creation with this number is at this point.
    Create(usize, usize),
    /// The recycle with this number is at this point.
    Recycle(usize, usize),
    /// The creation with this number has ended or was dropped.
    CreateDropped(usize),
    /// The recycling with this number has ended or was dropped.
    RecycleDropped(usize),
    /// `is_broken` is asked about the object with this number.
    IsBroken(usize),
    /// The object with this number is being dropped. It counts as alive until the hook returns.
    Drop(usize),
    /// The error of the creation or recycle with this number is being dropped.
    ErrorDropped(usize),
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    Fail,
    Panic,
}

type Hook = Arc<dyn Fn(Event) + Send + Sync>;

/// What the objects, the futures and the test share.
#[derive(Default)]
struct World {
    hook: StdMutex<Option<Hook>>,
    /// Held by every object.
    alive: Arc<()>,
    live: AtomicUsize,
    max_live: AtomicUsize,
    dropped: StdMutex<Vec<usize>>,
    dead: StdMutex<Vec<usize>>,
    broken: StdMutex<Vec<usize>>,
}

thread_local! {
    /// `true` while a hook runs.
    static INSIDE: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

impl World {
    fn happens(&self, event: Event) {
        struct Outside;
        impl Drop for Outside {
            fn drop(&mut self) {
                INSIDE.set(false);
            }
        }
        let hook = self.hook.lock().unwrap().clone();
        if let Some(hook) = hook {
            if !INSIDE.replace(true) {
                let _outside = Outside;
                hook(event);
            }
        }
    }
}

/// A connection, or the slot for one: creations count from when they begin.
struct Live(Arc<World>);

impl Live {
    fn new(world: &Arc<World>) -> Self {
        let live = world.live.fetch_add(1, Ordering::SeqCst) + 1;
        world.max_live.fetch_max(live, Ordering::SeqCst);
        Self(world.clone())
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.live.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What a [`Factory`] makes. Its number is that of the creation that made it.
pub(crate) struct Thing {
    pub(crate) id: usize,
    live: Live,
    _alive: Arc<()>,
}

impl Thing {
    fn new(id: usize, live: Live) -> Self {
        let _alive = live.0.alive.clone();
        Self { id, live, _alive }
    }
}

impl Drop for Thing {
    fn drop(&mut self) {
        let world = &self.live.0;
        world.dropped.lock().unwrap().push(self.id);
        world.happens(Event::Drop(self.id));
    }
}

impl fmt::Debug for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Thing").field(&self.id).finish()
    }
}

/// The creation or recycle with this number failed.
pub(crate) struct Failed {
    pub(crate) n: usize,
    world: Arc<World>,
}

impl Drop for Failed {
    fn drop(&mut self) {
        self.world.happens(Event::ErrorDropped(self.n));
    }
}

impl fmt::Debug for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Failed").field(&self.n).finish()
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "call {} failed", self.n)
    }
}

impl std::error::Error for Failed {}

/// The calls of one of the manager's functions, numbered from 0.
#[derive(Default)]
pub(crate) struct Calls(StdMutex<Inner>);

#[derive(Default)]
struct Inner {
    awaits: usize,
    calls: Vec<Call>,
    faults: HashMap<(usize, usize), Fault>,
    in_flight: usize,
    max_in_flight: usize,
    cancelled: usize,
}

struct Call {
    /// The number of the object that it is for.
    object: usize,
    awaits: usize,
    /// The number of its awaits that it may pass.
    released: usize,
    polls: usize,
    waker: Option<Waker>,
    over: bool,
}

impl Calls {
    fn with<R>(&self, body: impl FnOnce(&mut Inner) -> R) -> R {
        body(&mut self.0.lock().unwrap())
    }

    /// From now on each call stops at so many awaits until it is released.
    pub(crate) fn hold(&self, awaits: usize) {
        self.with(|inner| inner.awaits = awaits);
    }

    /// Lets this call pass one await.
    pub(crate) fn release(&self, call: usize) {
        self.release_up_to(call, |call| call.released + 1);
    }

    /// Lets this call pass all its awaits.
    pub(crate) fn finish(&self, call: usize) {
        self.release_up_to(call, |call| call.awaits);
    }

    fn release_up_to(&self, call: usize, released: impl Fn(&Call) -> usize) {
        let waker = self.with(|inner| {
            let call = &mut inner.calls[call];
            call.released = released(call);
            call.waker.take()
        });
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Nothing is held any more, neither those begun nor those to come.
    pub(crate) fn open(&self) {
        self.hold(0);
        (0..self.begun()).for_each(|call| self.finish(call));
    }

    /// Makes a call, the first of which is 0, fail at this point.
    pub(crate) fn fail_at(&self, call: usize, point: usize) {
        self.with(|inner| inner.faults.insert((call, point), Fault::Fail));
    }

    /// Makes a call, the first of which is 0, panic at this point.
    pub(crate) fn panic_at(&self, call: usize, point: usize) {
        self.with(|inner| inner.faults.insert((call, point), Fault::Panic));
    }

    /// The number of calls so far, which is the number of the next one.
    pub(crate) fn begun(&self) -> usize {
        self.with(|inner| inner.calls.len())
    }

    /// The number of calls that have neither ended nor been dropped.
    pub(crate) fn in_flight(&self) -> usize {
        self.with(|inner| inner.in_flight)
    }

    /// The most that were in flight at once.
    pub(crate) fn max_in_flight(&self) -> usize {
        self.with(|inner| inner.max_in_flight)
    }

    /// The number of calls that were dropped before their end.
    pub(crate) fn cancelled(&self) -> usize {
        self.with(|inner| inner.cancelled)
    }

    /// Returns `true` if this call has ended or was dropped.
    pub(crate) fn is_over(&self, call: usize) -> bool {
        self.with(|inner| inner.calls[call].over)
    }

    /// The number of polls of this call.
    pub(crate) fn polls(&self, call: usize) -> usize {
        self.with(|inner| inner.calls[call].polls)
    }

    /// The numbers of the objects that the calls were for, in the order of the calls.
    pub(crate) fn objects(&self) -> Vec<usize> {
        self.with(|inner| inner.calls.iter().map(|call| call.object).collect())
    }

    /// What happens to this call at this point.
    fn fault(&self, call: usize, point: usize) -> Option<Fault> {
        self.with(|inner| inner.faults.get(&(call, point)).copied())
    }

    /// Counts a poll, and returns `true` if the call may pass this await.
    fn gate(&self, call: usize, point: usize, cx: &Context<'_>) -> Poll<()> {
        // Cloned and dropped outside the lock: it is user code.
        let mut waker = Some(cx.waker().clone());
        self.with(|inner| {
            let call = &mut inner.calls[call];
            if call.released > point {
                return Poll::Ready(());
            }
            std::mem::swap(&mut call.waker, &mut waker);
            Poll::Pending
        })
    }
}

/// One call that runs.
struct Run {
    calls: Arc<Calls>,
    n: usize,
    world: Arc<World>,
    event: fn(usize, usize) -> Event,
    dropped: fn(usize) -> Event,
    ended: bool,
}

impl Run {
    fn begin(factory: &Factory, calls: &Arc<Calls>, object: Option<usize>) -> Self {
        let n = calls.with(|inner| {
            let n = inner.calls.len();
            let (awaits, object) = (inner.awaits, object.unwrap_or(n));
            inner.calls.push(Call { object, awaits, released: 0, polls: 0, waker: None, over: false });
            inner.in_flight += 1;
            inner.max_in_flight = inner.max_in_flight.max(inner.in_flight);
            n
        });
        let (event, dropped): (fn(_, _) -> _, fn(_) -> _) = match object {
            None => (Event::Create, Event::CreateDropped),
            Some(_) => (Event::Recycle, Event::RecycleDropped),
        };
        let run = Self { calls: calls.clone(), n, world: factory.world.clone(), event, dropped, ended: false };
        // No getter sees an error of this creation, only its panic.
        drop(run.at(CALL));
        run
    }

    /// Runs the hook and the fault of this point.
    fn at(&self, point: usize) -> Result<(), Failed> {
        self.world.happens((self.event)(self.n, point));
        match self.calls.fault(self.n, point) {
            None => Ok(()),
            Some(Fault::Fail) => Err(Failed { n: self.n, world: self.world.clone() }),
            Some(Fault::Panic) => panic!("call {} panics", self.n),
        }
    }

    /// Runs from the first poll to the end.
    async fn run(&mut self) -> Result<(), Failed> {
        let outcome = self.run_on().await;
        self.ended = true;
        outcome
    }

    async fn run_on(&self) -> Result<(), Failed> {
        let awaits = self.calls.with(|inner| inner.calls[self.n].awaits);
        let mut body = std::pin::pin!(async {
            for point in 0..awaits {
                self.at(point)?;
                poll_fn(|cx| self.calls.gate(self.n, point, cx)).await;
            }
            self.at(awaits)
        });
        poll_fn(|cx| {
            self.calls.with(|inner| inner.calls[self.n].polls += 1);
            body.as_mut().poll(cx)
        })
        .await
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let waker = self.calls.with(|inner| {
            inner.in_flight -= 1;
            inner.cancelled += usize::from(!self.ended && !std::thread::panicking());
            let call = &mut inner.calls[self.n];
            call.over = true;
            call.waker.take()
        });
        drop(waker);
        self.world.happens((self.dropped)(self.n));
    }
}

/// A manager, and the handle by which the test controls it: clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Factory {
    world: Arc<World>,
    pub(crate) creates: Arc<Calls>,
    pub(crate) recycles: Arc<Calls>,
}

impl fmt::Debug for Factory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Factory").finish_non_exhaustive()
    }
}

impl Factory {
    pub(crate) fn builder(&self) -> PoolBuilder<Self> {
        Pool::builder(self.clone())
    }

    /// A pool of at most so many.
    pub(crate) fn pool(&self, max_size: usize) -> Pool<Self> {
        self.builder().max_size(max_size).build()
    }

    /// Lets everything that is held pass one await.
    pub(crate) fn step(&self) {
        for calls in [&self.creates, &self.recycles] {
            (0..calls.begun()).filter(|&call| !calls.is_over(call)).for_each(|call| calls.release(call));
        }
    }

    /// An object from elsewhere. Numbers from 100 on tell it from those created.
    pub(crate) fn thing(&self, id: usize) -> Thing {
        Thing::new(id, Live::new(&self.world))
    }

    /// Runs whenever user code does, instead of the hook before.
    pub(crate) fn hook(&self, hook: impl Fn(Event) + Send + Sync + 'static) {
        self.set_hook(Some(Arc::new(hook)));
    }

    pub(crate) fn unhook(&self) {
        self.set_hook(None);
    }

    fn set_hook(&self, hook: Option<Hook>) {
        // What it has captured is dropped without the lock.
        let replaced = std::mem::replace(&mut *self.world.hook.lock().unwrap(), hook);
        drop(replaced);
    }

    /// Makes the recycles of this object fail at their end.
    pub(crate) fn kill(&self, id: usize) {
        self.world.dead.lock().unwrap().push(id);
    }

    /// Makes `is_broken` true for this object.
    pub(crate) fn break_thing(&self, id: usize) {
        self.world.broken.lock().unwrap().push(id);
    }

    /// The number of objects that were not dropped.
    pub(crate) fn alive(&self) -> usize {
        Arc::strong_count(&self.world.alive) - 1
    }

    /// The number of connections: objects, and creations from their call on.
    pub(crate) fn live(&self) -> usize {
        self.world.live.load(Ordering::SeqCst)
    }

    /// The most there were at once.
    pub(crate) fn max_live(&self) -> usize {
        self.world.max_live.load(Ordering::SeqCst)
    }

    /// The numbers of the objects dropped since the last call, in order.
    pub(crate) fn dropped(&self) -> Vec<usize> {
        std::mem::take(&mut self.world.dropped.lock().unwrap())
    }
}

impl Manager for Factory {
    type Object = Thing;
    type Error = Failed;

    fn create(&self) -> impl Future<Output = Result<Thing, Failed>> + Send {
        let live = Live::new(&self.world);
        let mut run = Run::begin(self, &self.creates, None);
        async move {
            run.run().await?;
            let id = run.n;
            // First: if its drop panicked at the end of the scope, the compiler would leak what is returned.
            drop(run);
            Ok(Thing::new(id, live))
        }
    }

    fn recycle(&self, thing: &mut Thing, _: &Metrics) -> impl Future<Output = Result<(), Failed>> + Send {
        let mut run = Run::begin(self, &self.recycles, Some(thing.id));
        async move {
            run.run().await?;
            match run.world.dead.lock().unwrap().contains(&thing.id) {
                true => Err(Failed { n: run.n, world: run.world.clone() }),
                false => Ok(()),
            }
        }
    }

    fn is_broken(&self, thing: &mut Thing) -> bool {
        self.world.happens(Event::IsBroken(thing.id));
        self.world.broken.lock().unwrap().contains(&thing.id)
    }
}
