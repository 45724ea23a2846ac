//! The pool and its model, step by step, with a manager whose creations and recycles end when an operation says so.
//!
//! The model is lists: of objects and where each is, of getters and what each has in hand, of creations that nobody looks
//! after. Every count is found by counting. Time is in whole seconds and the longest life at most nine of them, so that
//! 90 % of it and all of it are over at the same second.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::panic::panic_any;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use arbitrary::{Arbitrary, Unstructured};
use stanchion::{Get, GetError, GetOwned, Manager, Metrics, Object, Order, OwnedObject, Pool, PoolClosed, Status};

use super::alarm::{Alarmed, Alarms, Woken, allow_expected_panics, must_panic, survive};

/// Waiting at once, at most: enough for several batches of wakers.
const CROWD: usize = 24;

/// As many may be created at once however few objects there are.
const FEW: usize = if cfg!(fuzzing) { 2 } else { 8 };

const THROUGH: &str = "not polled after it was ready";

#[derive(Debug, Arbitrary)]
enum Op {
    Get { owned: bool, waker: bool, later: u8 },
    Crowd { count: u8, waker: bool },
    Poll { which: u8, waker: bool },
    PollAll { waker: bool },
    Leave { which: u8 },
    TryGet { owned: bool },
    Return { which: u8 },
    ReturnAll,
    Discard { which: u8 },
    Detach { which: u8 },
    Break { which: u8, panics: u8 },
    Add,
    Resize { to: u8 },
    Retain { mask: u8, panics: u8 },
    Clear { sure: u8 },
    Maintain { ahead: u8 },
    Wait { seconds: u8 },
    Replenish { waker: bool, later: u8 },
    Finish { which: u8, how: Ending },
    FinishAll { how: Ending },
    Foretell { how: Ending },
    Close { sure: u8 },
    Closed { waker: bool, later: u8 },
}

#[derive(Clone, Copy, Debug, PartialEq, Arbitrary)]
enum Ending {
    Good,
    Failure,
    Panic,
}

/// What a game is played with.
#[derive(Clone, Debug, Default, Arbitrary)]
struct Rules {
    size: u8,
    fixed: u8,
    min_idle: u8,
    max_waiting: u8,
    fifo: bool,
    max_lifetime: u8,
    idle_timeout: u8,
    recycle_after: u8,
    /// Whether creations, or recycles, go well at once unless an operation says otherwise.
    at_once: u8,
}

/// What the manager was told to do.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Call {
    Create,
    Recycle(usize, Metrics),
    IsBroken(usize),
}

/// A creation or a recycle.
#[derive(Debug, Default)]
struct Job {
    ending: Option<Ending>,
    waker: Option<Waker>,
    /// Neither ended nor dropped.
    lives: bool,
}

/// What the manager, its objects and the game know together.
struct Site {
    calls: Vec<Call>,
    jobs: Vec<Job>,
    foretold: VecDeque<Ending>,
    /// How creations, and recycles, end of themselves.
    at_once: [Option<Ending>; 2],
    dropped: Vec<usize>,
    /// Objects that the pool answers for.
    kept: usize,
    status: Option<Arc<dyn Fn() -> Option<Status> + Send + Sync>>,
    start: Instant,
    seconds: u64,
    reads_clock: bool,
    /// So many objects were there while the pool said this.
    faults: Vec<(usize, Status)>,
}

type Shared = Arc<Mutex<Site>>;

fn lock(site: &Shared) -> MutexGuard<'_, Site> {
    // What is left of a failed game is dropped.
    site.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Site {
    fn begin(&mut self, call: Call) -> usize {
        let ending = self.foretold.pop_front().or(self.at_once[usize::from(call != Call::Create)]);
        self.calls.push(call);
        self.jobs.push(Job { ending, waker: None, lives: true });
        self.jobs.len() - 1
    }
}

/// The manager.
struct Hands(Shared);

/// The creation or recycle of this number has failed.
#[derive(Debug, PartialEq)]
struct Failed(usize);

impl Manager for Hands {
    type Object = Token;
    type Error = Failed;

    fn create(&self) -> impl Future<Output = Result<Token, Failed>> + Send {
        let work = Work::begin(&self.0, Call::Create);
        async move {
            let (id, site) = work.await?;
            Ok(Token::new(id, &site))
        }
    }

    fn recycle(&self, object: &mut Token, metrics: &Metrics) -> impl Future<Output = Result<(), Failed>> + Send {
        let work = Work::begin(&self.0, Call::Recycle(object.id, *metrics));
        async move { work.await.map(drop) }
    }

    fn is_broken(&self, object: &mut Token) -> bool {
        lock(&self.0).calls.push(Call::IsBroken(object.id));
        match object.breaks {
            Some(Ending::Panic) => panic_any(Alarmed),
            breaks => breaks.is_some(),
        }
    }
}

/// A creation or a recycle in the hands of the pool.
struct Work {
    number: usize,
    site: Shared,
}

impl Work {
    fn begin(site: &Shared, call: Call) -> Self {
        Self { number: lock(site).begin(call), site: site.clone() }
    }
}

impl Future for Work {
    type Output = Result<(usize, Shared), Failed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut site = lock(&self.site);
        let job = &mut site.jobs[self.number];
        let Some(ending) = job.ending else {
            job.waker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        (job.lives, job.waker) = (false, None);
        drop(site);
        match ending {
            Ending::Good => Poll::Ready(Ok((self.number, self.site.clone()))),
            Ending::Failure => Poll::Ready(Err(Failed(self.number))),
            Ending::Panic => panic_any(Alarmed),
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let job = &mut lock(&self.site).jobs[self.number];
        (job.lives, job.waker) = (false, None);
    }
}

/// An object. What was created has the number of its creation.
struct Token {
    id: usize,
    /// How `is_broken` ends, if not well.
    breaks: Option<Ending>,
    /// The pool does not answer for it.
    is_out: bool,
    site: Shared,
}

impl Token {
    fn new(id: usize, site: &Shared) -> Self {
        lock(site).kept += 1;
        Self { id, breaks: None, is_out: false, site: site.clone() }
    }

    /// It is the game's now.
    fn take_out(&mut self) -> usize {
        lock(&self.site).kept -= usize::from(!self.is_out);
        self.is_out = true;
        self.id
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.id)
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        let mut site = lock(&self.site);
        site.dropped.push(self.id);
        if self.is_out {
            return;
        }
        let (kept, status) = (site.kept, site.status.clone());
        drop(site);
        let status = status.and_then(|status| status());
        let holds =
            |status: &Status| status.size == status.idle + status.in_use + status.creating && kept <= status.size;
        let fault = status.filter(|status| !holds(status)).map(|status| (kept, status));
        let mut site = lock(&self.site);
        site.kept -= 1;
        site.faults.extend(fault);
    }
}

/// What a getter is told.
type Told = Result<usize, GetError<usize>>;

/// A creation, of this generation once it was begun.
#[derive(Clone, Copy, Debug)]
struct Creation {
    begun: Option<(usize, usize)>,
    /// Not polled since it was left behind.
    adopted: bool,
    /// When `maintain` first saw that nobody looks after it.
    rests_since: Option<u64>,
}

impl Creation {
    const NEW: Self = Self { begun: None, adopted: false, rests_since: None };

    fn adopted(self) -> Self {
        Self { adopted: true, rests_since: None, ..self }
    }
}

/// Where an object is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Idle,
    /// Granted to a getter that has not looked yet, or being recycled by it.
    Getter,
    Out,
    /// About to be dropped.
    Leaving,
}

#[derive(Clone, Debug)]
struct Thing {
    place: Place,
    generation: usize,
    created: u64,
    recycled: Option<u64>,
    /// `None` if nobody knows: it may have been made long ago.
    idle_since: Option<u64>,
    uses: u64,
    breaks: Option<Ending>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    New,
    /// Has been polled and is not through.
    Here,
    Gone,
    /// Has panicked.
    Dead,
}

#[derive(Debug)]
struct Getter {
    stage: Stage,
    creation: Option<Creation>,
    /// An object, and its recycle once that has begun.
    object: Option<(usize, Option<usize>)>,
    /// Its creation, which has failed while it recycles.
    failed: Option<usize>,
    /// That of its wakers which the pool has.
    waker: Option<usize>,
}

/// A job, in the model: how it will end, and whom it wakes then.
#[derive(Debug)]
struct Task {
    ending: Option<Ending>,
    waker: Option<(usize, usize)>,
    lives: bool,
}

/// How a poll ends.
#[derive(Debug, PartialEq)]
enum Outcome<T> {
    Pending,
    Ready(T),
    Panic,
}

/// What a pool is.
#[derive(Debug)]
struct Model {
    creates: bool,
    max_size: usize,
    min_idle: usize,
    max_waiting: usize,
    order: Order,
    max_lifetime: Option<u64>,
    idle_timeout: Option<u64>,
    recycle_after: Option<u64>,
    start: Instant,
    now: u64,
    closed: bool,
    generation: usize,
    things: BTreeMap<usize, Thing>,
    /// The longest idle first.
    idle: Vec<usize>,
    /// Getters, replenishers, and those who wait for the end, by name.
    getters: BTreeMap<usize, Getter>,
    /// Getters that have a creation and no object, in the order in which they are served.
    creators: Vec<usize>,
    /// Getters that have neither.
    waiting: Vec<usize>,
    /// Those who wait for the pool to be closed and empty.
    closers: Vec<usize>,
    /// The longest left behind first.
    orphans: Vec<Creation>,
    /// About to be dropped.
    abandoned: Vec<Creation>,
    tasks: Vec<Task>,
    foretold: VecDeque<Ending>,
    at_once: [Option<Ending>; 2],
    calls: Vec<Call>,
    dropped: Vec<usize>,
    woken: Woken,
}

impl Model {
    fn reads_clock(&self) -> bool {
        self.max_lifetime.is_some() || self.idle_timeout.is_some() || self.recycle_after.is_some()
    }

    fn at(&self, second: u64) -> Instant {
        self.start + Duration::from_secs(second)
    }

    fn metrics(&self, id: usize) -> Metrics {
        let thing = &self.things[&id];
        let clocked = |second| self.reads_clock().then(|| self.at(second));
        Metrics { created: clocked(thing.created), recycled: thing.recycled.and_then(clocked), uses: thing.uses }
    }

    fn status(&self) -> Status {
        let idle = self.idle.len();
        let in_use = self.things.values().filter(|thing| thing.place != Place::Idle).count();
        let in_hand = self.getters.values().filter(|getter| getter.creation.is_some()).count();
        let creating = in_hand + self.orphans.len() + self.abandoned.len();
        let size = idle + in_use + creating;
        Status { max_size: self.max_size, size, idle, in_use, creating, waiting: self.waiting.len() }
    }

    fn getter(&mut self, name: usize) -> &mut Getter {
        self.getters.get_mut(&name).expect("it is known")
    }

    fn thing(&mut self, id: usize) -> &mut Thing {
        self.things.get_mut(&id).expect("it is there")
    }

    fn wake(&mut self, name: usize) {
        if let Some(waker) = self.getter(name).waker.take() {
            self.woken.push((name, waker));
        }
    }

    fn begin(&mut self, call: Call) -> usize {
        let ending = self.foretold.pop_front().or(self.at_once[usize::from(call != Call::Create)]);
        self.calls.push(call);
        self.tasks.push(Task { ending, waker: None, lives: true });
        self.tasks.len() - 1
    }

    /// `None`: it goes on.
    fn poll_task(&mut self, task: usize, name: usize, waker: usize) -> Option<Ending> {
        let task = &mut self.tasks[task];
        (task.lives, task.waker) = (task.ending.is_none(), task.ending.is_none().then_some((name, waker)));
        task.ending
    }

    fn drop_task(&mut self, task: usize) {
        (self.tasks[task].lives, self.tasks[task].waker) = (false, None);
    }

    fn finish_task(&mut self, task: usize, ending: Ending) {
        self.tasks[task].ending = Some(ending);
        self.woken.extend(self.tasks[task].waker.take());
    }

    fn idle_end(&self, thing: &Thing) -> Option<u64> {
        let since = thing.idle_since.unwrap_or(thing.created);
        self.idle_timeout.map(|longest| since + longest)
    }

    fn has_expired(&self, id: usize, now: u64) -> bool {
        let thing = &self.things[&id];
        self.max_lifetime.is_some_and(|life| now >= thing.created + life)
            || thing.place != Place::Out && self.idle_end(thing).is_some_and(|end| now >= end)
    }

    fn needs_recycle(&self, id: usize) -> bool {
        let fresh = |(since, after)| self.now - since < after;
        self.creates && !self.things[&id].idle_since.zip(self.recycle_after).is_some_and(fresh)
    }

    /// The idle ones, the next first.
    fn idle_in_order(&self) -> Vec<usize> {
        let mut idle = self.idle.clone();
        if self.order == Order::Lifo {
            idle.reverse();
        }
        idle
    }

    fn take_idle(&mut self, id: usize, place: Place) {
        self.idle.retain(|&idle| idle != id);
        self.thing(id).place = place;
    }

    fn next_idle(&mut self) -> Option<usize> {
        let id = *self.idle_in_order().first()?;
        self.take_idle(id, Place::Getter);
        Some(id)
    }

    /// Drops an object. What becomes of its slot is for the caller to say.
    fn destroy(&mut self, id: usize) {
        self.idle.retain(|&idle| idle != id);
        self.things.remove(&id).expect("it is there");
        self.dropped.push(id);
    }

    fn leaving(&self) -> Vec<usize> {
        self.things.iter().filter(|(_, thing)| thing.place == Place::Leaving).map(|(&id, _)| id).collect()
    }

    fn discard(&mut self, id: usize) {
        self.destroy(id);
        self.settle();
    }

    fn keeps(&self, generation: usize) -> bool {
        let leaving = self.leaving().len() + self.abandoned.len();
        !self.closed && generation == self.generation && self.status().size - leaving <= self.max_size
    }

    /// An object that nobody has goes to the first in line, or leaves.
    fn hand_on(&mut self, id: usize) {
        if !self.keeps(self.things[&id].generation) {
            self.thing(id).place = Place::Leaving;
            return;
        }
        let line = if self.creators.is_empty() { &mut self.waiting } else { &mut self.creators };
        if line.is_empty() {
            self.thing(id).place = Place::Idle;
            self.idle.push(id);
        } else {
            let first = line.remove(0);
            self.thing(id).place = Place::Getter;
            self.getter(first).object = Some((id, None));
            self.wake(first);
        }
    }

    fn deliver(&mut self, id: usize) {
        self.hand_on(id);
        self.drop_leaving();
    }

    /// A slot is free when its object is gone.
    fn drop_leaving(&mut self) {
        self.settle();
        for id in self.leaving() {
            self.destroy(id);
        }
        for creation in mem::take(&mut self.abandoned) {
            self.drop_task(creation.begun.expect("the others are nothing").0);
        }
        self.settle();
    }

    fn put_back(&mut self, id: usize) {
        self.calls.extend(self.creates.then_some(Call::IsBroken(id)));
        self.thing(id).idle_since = Some(self.now);
        if self.things[&id].breaks.is_some() && self.creates || self.has_expired(id, self.now) {
            self.discard(id);
        } else {
            self.deliver(id);
        }
    }

    /// A creation for who has none.
    fn claim(&mut self) -> Option<Creation> {
        if !self.orphans.is_empty() {
            return Some(self.orphans.remove(0).adopted());
        }
        self.claim_new()
    }

    fn claim_new(&mut self) -> Option<Creation> {
        let Status { size, creating, idle, in_use, .. } = self.status();
        let in_hand = creating - self.orphans.len();
        let may_grow = self.creates && !self.closed && size < self.max_size && in_hand < FEW.max(idle + in_use);
        may_grow.then_some(Creation::NEW)
    }

    /// Whoever waits and can be given a creation is given one.
    fn settle(&mut self) {
        while !self.waiting.is_empty() {
            let Some(creation) = self.claim() else { break };
            let first = self.waiting.remove(0);
            self.creators.push(first);
            self.getter(first).creation = Some(creation);
            self.wake(first);
        }
        if self.closed && self.status().size == 0 {
            for closer in mem::take(&mut self.closers) {
                self.wake(closer);
            }
        }
    }

    /// Takes the creation out of somebody's hand. If it does not stay, its slot is free when it is gone.
    fn leave_behind(&mut self, name: usize) {
        let begun = self.getters[&name].creation.and_then(|creation| creation.begun);
        let place = if begun.is_some_and(|(_, generation)| self.keeps(generation)) {
            &mut self.orphans
        } else {
            &mut self.abandoned
        };
        let creation = self.getters.get_mut(&name).and_then(|getter| getter.creation.take());
        place.extend(creation.filter(|creation| creation.begun.is_some()));
    }

    fn drop_creation(&mut self, name: usize) {
        if let Some((task, _)) = self.getter(name).creation.take().and_then(|creation| creation.begun) {
            self.drop_task(task);
        }
    }

    fn leave_line(&mut self, name: usize) {
        for line in [&mut self.creators, &mut self.waiting, &mut self.closers] {
            line.retain(|&other| other != name);
        }
        self.getter(name).waker = None;
    }

    /// Polls the creation in somebody's hand. What comes of it may be old if it went well while nobody looked.
    fn poll_creation(&mut self, name: usize, waker: usize) -> Outcome<Result<(usize, bool), usize>> {
        let mut creation = self.getter(name).creation.expect("it has one");
        loop {
            let begins = creation.begun.is_none();
            let (task, generation) = creation.begun.unwrap_or_else(|| (self.begin(Call::Create), self.generation));
            creation.begun = Some((task, generation));
            let ending = self.poll_task(task, name, waker);
            match ending {
                Some(Ending::Failure) if creation.adopted && !begins => creation = Creation::NEW,
                None => {
                    self.getter(name).creation = Some(Creation { adopted: false, ..creation });
                    return Outcome::Pending;
                }
                Some(ending) => {
                    self.getter(name).creation = None;
                    return match ending {
                        Ending::Good => {
                            self.make(task, generation);
                            self.thing(task).idle_since = (!creation.adopted).then_some(self.now);
                            Outcome::Ready(Ok((task, creation.adopted)))
                        }
                        Ending::Failure => Outcome::Ready(Err(task)),
                        Ending::Panic => Outcome::Panic,
                    };
                }
            }
        }
    }

    fn make(&mut self, id: usize, generation: usize) {
        let thing = Thing {
            place: Place::Getter,
            generation,
            created: self.now,
            recycled: None,
            idle_since: Some(self.now),
            uses: 0,
            breaks: None,
        };
        self.things.insert(id, thing);
    }

    /// A getter is through: what it has in hand goes where it belongs.
    fn end(&mut self, name: usize, outcome: Outcome<Told>) -> Outcome<Told> {
        self.leave_line(name);
        let stage = if outcome == Outcome::Panic { Stage::Dead } else { Stage::Gone };
        self.getter(name).stage = stage;
        if let Outcome::Ready(Ok(id)) = outcome {
            let thing = self.thing(id);
            (thing.place, thing.uses) = (Place::Out, thing.uses + 1);
        }
        if let Some((id, None)) = self.getter(name).object {
            self.getter(name).object = None;
            self.hand_on(id);
        }
        self.leave_behind(name);
        self.stop_recycling(name);
        self.drop_leaving();
        outcome
    }

    fn stop_recycling(&mut self, name: usize) {
        if let Some((id, Some(task))) = self.getter(name).object.take() {
            self.drop_task(task);
            self.thing(id).place = Place::Leaving;
        }
    }

    fn poll_getter(&mut self, name: usize, waker: usize) -> Outcome<Told> {
        let is_new = mem::replace(&mut self.getter(name).stage, Stage::Here) == Stage::New;
        if is_new {
            if self.closed {
                return self.end(name, Outcome::Ready(Err(GetError::Closed)));
            }
            if let Some(id) = self.next_idle() {
                self.getter(name).object = Some((id, None));
            } else if let Some(creation) = self.waiting.is_empty().then(|| self.claim()).flatten() {
                self.getter(name).creation = Some(creation);
                self.creators.push(name);
            } else {
                let Status { size, max_size, waiting, .. } = self.status();
                // One more, less those for whom there is room to grow.
                if waiting + 1 > self.max_waiting.saturating_add(max_size.saturating_sub(size)) {
                    return self.end(name, Outcome::Ready(Err(GetError::TooManyWaiting)));
                }
                self.waiting.push(name);
            }
        }
        // A creation that was not begun is not, any more, for who has been granted an object.
        if let Getter { object: Some((_, None)), creation: Some(Creation { begun: None, .. }), .. } =
            self.getters[&name]
        {
            self.leave_behind(name);
            self.settle();
        }
        loop {
            match self.getters[&name].object {
                None if self.closed => {
                    self.drop_creation(name);
                    return self.end(name, Outcome::Ready(Err(GetError::Closed)));
                }
                None => {}
                Some((id, None)) if self.has_expired(id, self.now) => {
                    self.go_on(name, id, false);
                    continue;
                }
                Some((id, None)) if self.needs_recycle(id) => {
                    let recycle = Call::Recycle(id, self.metrics(id));
                    let task = self.begin(recycle);
                    self.getter(name).object = Some((id, Some(task)));
                    continue;
                }
                Some((id, None)) => {
                    self.getter(name).object = None;
                    return self.end(name, Outcome::Ready(Ok(id)));
                }
                Some((id, Some(task))) => match self.poll_task(task, name, waker) {
                    None => {}
                    Some(Ending::Good) => {
                        self.thing(id).recycled = Some(self.now);
                        self.getter(name).object = None;
                        return self.end(name, Outcome::Ready(Ok(id)));
                    }
                    Some(Ending::Failure) => {
                        if let Some(error) = self.getter(name).failed {
                            self.getter(name).object = None;
                            self.discard(id);
                            return self.end(name, Outcome::Ready(Err(GetError::Create(error))));
                        }
                        self.go_on(name, id, true);
                        continue;
                    }
                    Some(Ending::Panic) => {
                        self.getter(name).object = None;
                        self.discard(id);
                        return self.end(name, Outcome::Panic);
                    }
                },
            }
            let outcome = match self.getter(name).creation {
                None => Outcome::Pending,
                Some(_) => self.poll_creation(name, waker),
            };
            match outcome {
                Outcome::Pending => {
                    let waits = self.creators.contains(&name) || self.waiting.contains(&name);
                    self.getter(name).waker = waits.then_some(waker);
                    return Outcome::Pending;
                }
                Outcome::Ready(Ok((id, false))) => return self.end(name, Outcome::Ready(Ok(id))),
                Outcome::Ready(Ok((id, true))) if self.getter(name).object.is_some() => {
                    self.deliver(id);
                    return Outcome::Pending;
                }
                Outcome::Ready(Ok((id, true))) => {
                    self.leave_line(name);
                    self.settle();
                    self.getter(name).object = Some((id, None));
                }
                Outcome::Ready(Err(task)) if self.getter(name).object.is_some() => {
                    self.getter(name).failed = Some(task);
                    self.settle();
                    return Outcome::Pending;
                }
                Outcome::Ready(Err(task)) => return self.end(name, Outcome::Ready(Err(GetError::Create(task)))),
                Outcome::Panic => return self.end(name, Outcome::Panic),
            }
        }
    }

    /// An object was of no use, so the getter is the first in line. If a recycle has failed it creates in any case.
    fn go_on(&mut self, name: usize, id: usize, failed: bool) {
        self.destroy(id);
        self.getter(name).object = None;
        if self.closed {
            return self.settle();
        }
        if self.getter(name).creation.is_none() && (failed || self.idle.is_empty()) {
            // Nobody knows what one that was left behind is worth.
            let new = if failed { self.claim_new() } else { None };
            self.getter(name).creation = new.or_else(|| if self.idle.is_empty() { self.claim() } else { None });
        }
        if let Some(next) = self.next_idle() {
            self.getter(name).object = Some((next, None));
        } else if self.getter(name).creation.is_some() {
            self.creators.insert(0, name);
        } else {
            self.waiting.insert(0, name);
        }
        self.settle();
    }

    fn leave(&mut self, name: usize) {
        self.end(name, Outcome::Pending);
        self.getters.remove(&name);
    }

    fn poll_replenisher(&mut self, name: usize, waker: usize) -> Outcome<Result<(), usize>> {
        self.getter(name).stage = Stage::Here;
        loop {
            if self.getter(name).creation.is_none() {
                let Status { idle, creating, size, max_size, waiting, .. } = self.status();
                let wanted = !self.closed && waiting == 0 && idle + creating - self.orphans.len() < self.min_idle;
                if !wanted || self.orphans.is_empty() && size >= max_size {
                    return self.end_replenisher(name, Outcome::Ready(Ok(())));
                }
                let creation = match self.orphans.is_empty() {
                    true => Creation::NEW,
                    false => self.orphans.remove(0).adopted(),
                };
                self.getter(name).creation = Some(creation);
            }
            match self.poll_creation(name, waker) {
                Outcome::Pending => return Outcome::Pending,
                Outcome::Ready(Ok((id, _))) => self.deliver(id),
                Outcome::Ready(Err(task)) => return self.end_replenisher(name, Outcome::Ready(Err(task))),
                Outcome::Panic => return self.end_replenisher(name, Outcome::Panic),
            }
        }
    }

    fn end_replenisher(&mut self, name: usize, outcome: Outcome<Result<(), usize>>) -> Outcome<Result<(), usize>> {
        self.getter(name).stage = Stage::Dead;
        self.leave_behind(name);
        self.drop_leaving();
        outcome
    }

    fn poll_closer(&mut self, name: usize, waker: usize) -> Outcome<()> {
        let over = self.closed && self.status().size == 0;
        if !over && self.getter(name).stage == Stage::New {
            self.closers.push(name);
        }
        let stage = if over { Stage::Gone } else { Stage::Here };
        (self.getter(name).stage, self.getter(name).waker) = (stage, (!over).then_some(waker));
        if over { Outcome::Ready(()) } else { Outcome::Pending }
    }

    fn try_get(&mut self) -> Option<usize> {
        if self.closed || !self.waiting.is_empty() {
            return None;
        }
        let fits = |&id: &usize| !self.needs_recycle(id) && !self.has_expired(id, self.now);
        let id = self.idle_in_order().into_iter().find(fits)?;
        self.take_idle(id, Place::Out);
        self.thing(id).uses += 1;
        Some(id)
    }

    /// Whether there is room for it.
    fn add(&mut self, id: usize) -> bool {
        let Status { size, max_size, .. } = self.status();
        let fits = !self.closed && size < max_size;
        if fits {
            self.make(id, self.generation);
            self.deliver(id);
        }
        fits
    }

    /// What is not in use goes, until there is no surplus.
    fn shrink(&mut self, surplus: usize) {
        for _ in 0..surplus {
            if !self.orphans.is_empty() {
                let (task, _) = self.orphans.remove(0).begun.expect("only those are left behind");
                self.drop_task(task);
            } else if let Some(&id) = self.idle.first() {
                self.destroy(id);
            }
        }
        self.settle();
    }

    fn resize(&mut self, to: usize) {
        self.max_size = to;
        self.shrink(self.status().size.saturating_sub(to));
    }

    fn clear(&mut self) {
        self.generation += 1;
        self.shrink(self.status().size);
    }

    fn close(&mut self) {
        self.closed = true;
        for line in [mem::take(&mut self.creators), mem::take(&mut self.waiting)] {
            line.into_iter().for_each(|name| self.wake(name));
        }
        self.clear();
    }

    /// When it is due next, at the earliest and at the latest, in tenths of a second.
    fn maintain(&mut self, now: u64) -> Option<(u64, u64)> {
        if self.closed {
            return None;
        }
        for id in self.idle.clone() {
            if self.has_expired(id, now) {
                self.destroy(id);
            }
        }
        if let Some(longest) = self.idle_timeout {
            for mut orphan in mem::take(&mut self.orphans) {
                let since = *orphan.rests_since.get_or_insert(now);
                if now.saturating_sub(since) < longest {
                    self.orphans.push(orphan);
                } else {
                    self.drop_task(orphan.begun.expect("only those are left behind").0);
                }
            }
        }
        self.settle();
        let shortest = self.max_lifetime.into_iter().chain(self.idle_timeout).min()?;
        let due = |tenths: u64| {
            let ends = self.idle.iter().map(|id| {
                let thing = &self.things[id];
                let life = self.max_lifetime.map(|life| 10 * thing.created + tenths * life);
                life.into_iter().chain(self.idle_end(thing).map(|end| 10 * end)).min()
            });
            ends.flatten().min().unwrap_or(u64::MAX).min(10 * (now + shortest))
        };
        Some((due(9), due(10)))
    }
}

/// The pools that are played with differ in their error.
trait Failure: Send + 'static + fmt::Debug {
    fn number(self) -> usize;
}

impl Failure for Failed {
    fn number(self) -> usize {
        self.0
    }
}

impl Failure for Infallible {
    fn number(self) -> usize {
        match self {}
    }
}

enum Held<'a, M: Manager> {
    Borrowed(Object<'a, M>),
    Owned(OwnedObject<M>),
}

impl<M: Manager<Object = Token>> Held<'_, M> {
    fn metrics(&self) -> Metrics {
        match self {
            Self::Borrowed(object) => Object::metrics(object),
            Self::Owned(object) => OwnedObject::metrics(object),
        }
    }

    fn discard(self) {
        match self {
            Self::Borrowed(object) => Object::discard(object),
            Self::Owned(object) => OwnedObject::discard(object),
        }
    }

    fn detach(self) -> Token {
        match self {
            Self::Borrowed(object) => Object::detach(object),
            Self::Owned(object) => OwnedObject::detach(object),
        }
    }
}

impl<M: Manager> Deref for Held<'_, M> {
    type Target = M::Object;

    fn deref(&self) -> &M::Object {
        match self {
            Self::Borrowed(object) => object,
            Self::Owned(object) => object,
        }
    }
}

impl<M: Manager> DerefMut for Held<'_, M> {
    fn deref_mut(&mut self) -> &mut M::Object {
        match self {
            Self::Borrowed(object) => object,
            Self::Owned(object) => object,
        }
    }
}

enum Waiting<'a, M: Manager> {
    Get(Get<'a, M>),
    GetOwned(GetOwned<M>),
    Replenish(Pin<Box<dyn Future<Output = Result<(), M::Error>> + 'a>>),
    Closed(PoolClosed<'a, M>),
}

struct Waiter<'a, M: Manager> {
    name: usize,
    future: Waiting<'a, M>,
}

struct Game<'a, M: Manager> {
    pool: &'a Arc<Pool<M>>,
    model: Model,
    site: Shared,
    waiters: Vec<Waiter<'a, M>>,
    held: Vec<Held<'a, M>>,
    alarms: BTreeMap<usize, Alarms>,
    log: Arc<Mutex<Woken>>,
    names: usize,
    added: usize,
}

/// Plays the sequence that `data` stands for.
pub(crate) fn run(data: &[u8]) {
    allow_expected_panics();
    let mut data = Unstructured::new(data);
    let Ok(rules) = data.arbitrary::<Rules>() else { return };
    start(&rules, std::iter::from_fn(|| if data.is_empty() { None } else { data.arbitrary().ok() }));
}

fn start(rules: &Rules, ops: impl Iterator<Item = Op>) {
    let site = Arc::new(Mutex::new(Site {
        calls: Vec::new(),
        jobs: Vec::new(),
        foretold: VecDeque::new(),
        at_once: [1, 2].map(|bit| (rules.at_once & bit != 0).then_some(Ending::Good)),
        dropped: Vec::new(),
        kept: 0,
        status: None,
        start: Instant::now(),
        seconds: 0,
        reads_clock: false,
        faults: Vec::new(),
    }));
    if rules.fixed % 4 == 0 {
        fixed(rules, &site, ops);
    } else {
        managed(rules, &site, ops);
    }
    assert_eq!(lock(&site).kept, 0, "objects outlive the pool");
    assert!(lock(&site).jobs.iter().all(|job| !job.lives), "a creation or recycle outlives the pool");
}

fn fixed(rules: &Rules, site: &Shared, ops: impl Iterator<Item = Op>) {
    let tokens: Vec<_> = (0..usize::from(rules.size % 6)).map(|n| Token::new(ADDED + n, site)).collect();
    let mut model = model(site, tokens.len(), None);
    for token in &tokens {
        model.make(token.id, 0);
        model.deliver(token.id);
    }
    let added = tokens.len();
    play(Pool::from_objects(tokens), model, site, added, ops);
}

fn managed(rules: &Rules, site: &Shared, ops: impl Iterator<Item = Op>) {
    let max_size = usize::from(if rules.size < 224 { rules.size % 7 } else { rules.size % 32 });
    let builder = Pool::builder(Hands(site.clone()));
    if max_size == 0 {
        return must_panic("a pool without room", || builder.max_size(0));
    }
    let mut model = model(site, max_size, Some(rules));
    let clock = site.clone();
    let mut builder =
        builder.max_size(max_size).min_idle(model.min_idle).max_waiting(model.max_waiting).order(model.order).clock(
            move || {
                let site = lock(&clock);
                assert!(site.reads_clock, "a clock is read for nothing");
                site.start + Duration::from_secs(site.seconds)
            },
        );
    if let Some(life) = model.max_lifetime {
        builder = builder.max_lifetime(Duration::from_secs(life));
    }
    if let Some(idle) = model.idle_timeout {
        builder = builder.idle_timeout(Duration::from_secs(idle));
    }
    if let Some(after) = model.recycle_after {
        builder = builder.recycle_after(Duration::from_secs(after));
    }
    lock(site).reads_clock = model.reads_clock();
    model.at_once = lock(site).at_once;
    play(builder.build(), model, site, 0, ops);
}

/// The model of a pool of objects that are given, or of one with these rules.
fn model(site: &Shared, max_size: usize, rules: Option<&Rules>) -> Model {
    let seconds = |setting: fn(&Rules) -> u8, least: u8, most: u8| {
        let drawn = rules.map_or(0, |rules| setting(rules) % 32);
        (least + 1..=most + 1).contains(&drawn).then(|| u64::from(drawn - 1))
    };
    Model {
        creates: rules.is_some(),
        max_size,
        min_idle: rules.map_or(0, |rules| usize::from(rules.min_idle % 5)),
        max_waiting: rules.map_or(usize::MAX, |rules| match rules.max_waiting % 16 {
            few @ 0..8 => usize::from(few),
            _ => usize::MAX,
        }),
        order: rules.map_or(Order::Lifo, |rules| if rules.fifo { Order::Fifo } else { Order::Lifo }),
        max_lifetime: seconds(|rules| rules.max_lifetime, 1, 9),
        idle_timeout: seconds(|rules| rules.idle_timeout, 1, 9),
        recycle_after: seconds(|rules| rules.recycle_after, 0, 9),
        start: lock(site).start,
        now: 0,
        closed: false,
        generation: 0,
        things: BTreeMap::new(),
        idle: Vec::new(),
        getters: BTreeMap::new(),
        creators: Vec::new(),
        waiting: Vec::new(),
        closers: Vec::new(),
        orphans: Vec::new(),
        abandoned: Vec::new(),
        tasks: Vec::new(),
        foretold: VecDeque::new(),
        at_once: [None; 2],
        calls: Vec::new(),
        dropped: Vec::new(),
        woken: Vec::new(),
    }
}

/// Objects that were not created are numbered from here.
const ADDED: usize = 1_000_000;

fn play<M>(pool: Pool<M>, model: Model, site: &Shared, added: usize, ops: impl Iterator<Item = Op>)
where
    M: Manager<Object = Token, Error: Failure>,
{
    let pool = Arc::new(pool);
    let weak = Arc::downgrade(&pool);
    lock(site).status = Some(Arc::new(move || weak.upgrade().map(|pool| pool.status())));
    let mut game = Game {
        pool: &pool,
        model,
        site: site.clone(),
        waiters: Vec::new(),
        held: Vec::new(),
        alarms: BTreeMap::new(),
        log: Arc::default(),
        names: 0,
        added,
    };
    game.check();
    for op in ops {
        game.step(&op);
        game.check();
    }
    game.end();
    lock(site).status = None;
    let idle = pool.status().idle;
    drop(pool);
    assert_eq!(lock(site).dropped.len(), idle, "a pool takes its idle objects along");
}

/// Runs what may panic because foreign code does, and says how it ended.
fn outcome<R>(f: impl FnOnce() -> R) -> Outcome<R> {
    survive(f).map_or(Outcome::Panic, Outcome::Ready)
}

fn survive_poll<R>(f: impl FnOnce() -> Poll<R>) -> Outcome<R> {
    match outcome(f) {
        Outcome::Ready(Poll::Ready(result)) => Outcome::Ready(result),
        Outcome::Ready(Poll::Pending) | Outcome::Pending => Outcome::Pending,
        Outcome::Panic => Outcome::Panic,
    }
}

fn told<R, E: Failure>(got: Result<R, GetError<E>>) -> Result<R, GetError<usize>> {
    got.map_err(|error| match error {
        GetError::Closed => GetError::Closed,
        GetError::TooManyWaiting => GetError::TooManyWaiting,
        GetError::Create(error) => GetError::Create(error.number()),
    })
}

impl<'a, M> Game<'a, M>
where
    M: Manager<Object = Token, Error: Failure>,
{
    fn step(&mut self, op: &Op) {
        let pool = self.pool;
        match *op {
            Op::Get { owned, waker, later } => self.join(
                if owned { Waiting::GetOwned(pool.clone().get_owned()) } else { Waiting::Get(pool.get()) },
                (later % 8 != 0).then_some(waker),
            ),
            Op::Crowd { count, waker } => {
                (0..count % 8).for_each(|_| self.join(Waiting::Get(pool.get()), Some(waker)));
            }
            Op::Poll { which, waker } => {
                if let Some(at) = pick(which, &self.waiters) {
                    self.poll(at, waker);
                }
            }
            Op::PollAll { waker } => (0..self.waiters.len()).rev().for_each(|at| self.poll(at, waker)),
            Op::Leave { which } => {
                if let Some(at) = pick(which, &self.waiters) {
                    self.leave(at);
                }
            }
            Op::TryGet { owned } => self.try_get(owned),
            Op::Return { which } => {
                if let Some(at) = pick(which, &self.held) {
                    self.put_back(at);
                }
            }
            Op::ReturnAll => (0..self.held.len()).rev().for_each(|at| self.put_back(at)),
            Op::Discard { which } => {
                if let Some(at) = pick(which, &self.held) {
                    let object = self.held.remove(at);
                    self.model.discard(object.id);
                    object.discard();
                }
            }
            Op::Detach { which } => {
                if let Some(at) = pick(which, &self.held) {
                    let mut token = self.held.remove(at).detach();
                    self.model.discard(token.take_out());
                }
            }
            Op::Break { which, panics } => {
                if let Some(at) = pick(which, &self.held) {
                    let how = if panics % 4 == 0 { Ending::Panic } else { Ending::Failure };
                    let object = &mut self.held[at];
                    object.breaks = Some(how);
                    self.model.thing(object.id).breaks = Some(how);
                }
            }
            Op::Add => self.add(),
            Op::Resize { to } => {
                let to = if to == 255 { usize::MAX } else { usize::from(if to < 224 { to % 7 } else { to % 32 }) };
                pool.resize(to);
                self.model.resize(to);
            }
            Op::Retain { mask, panics } => self.retain(mask, panics),
            Op::Clear { sure } if sure % 2 == 0 => {
                pool.clear();
                self.model.clear();
            }
            Op::Maintain { ahead } => self.maintain(self.model.now + u64::from(ahead % 4)),
            Op::Wait { seconds } => {
                self.model.now += u64::from(seconds % 5);
                lock(&self.site).seconds = self.model.now;
            }
            Op::Replenish { waker, later } => {
                self.join(Waiting::Replenish(Box::pin(pool.replenish())), (later % 8 != 0).then_some(waker));
            }
            Op::Finish { which, how } => {
                let going = self.going();
                if let Some(at) = pick(which, &going) {
                    self.finish(going[at], how);
                }
            }
            Op::FinishAll { how } => self.going().into_iter().for_each(|job| self.finish(job, how)),
            Op::Foretell { how } => {
                lock(&self.site).foretold.push_back(how);
                self.model.foretold.push_back(how);
            }
            Op::Close { sure } if sure % 16 == 0 => {
                pool.close();
                self.model.close();
            }
            Op::Closed { waker, later } => {
                self.join(Waiting::Closed(pool.closed()), (later % 8 != 0).then_some(waker));
            }
            Op::Clear { .. } | Op::Close { .. } => {}
        }
    }

    /// A new future, to be polled at once with this waker, or later.
    fn join(&mut self, future: Waiting<'a, M>, waker: Option<bool>) {
        if self.waiters.len() == CROWD {
            return;
        }
        let name = self.names;
        self.names += 1;
        let getter = Getter { stage: Stage::New, creation: None, object: None, failed: None, waker: None };
        self.model.getters.insert(name, getter);
        self.alarms.insert(name, Alarms::new(name, &self.log));
        self.waiters.push(Waiter { name, future });
        if let Some(waker) = waker {
            self.poll(self.waiters.len() - 1, waker);
        }
    }

    fn poll(&mut self, at: usize, waker: bool) {
        let Waiter { name, ref mut future } = self.waiters[at];
        let alarm = self.alarms[&name].waker(waker.into());
        let cx = &mut Context::from_waker(&alarm);
        let which = waker.into();
        let stage = self.model.getters[&name].stage;
        let got = match future {
            Waiting::Get(get) if stage == Stage::Gone => return must_panic(THROUGH, || Pin::new(get).poll(cx)),
            Waiting::GetOwned(get) if stage == Stage::Gone => return must_panic(THROUGH, || Pin::new(get).poll(cx)),
            Waiting::Closed(closed) if stage == Stage::Gone => {
                return must_panic(THROUGH, || Pin::new(closed).poll(cx));
            }
            // What becomes of a future that has panicked is nobody's business.
            _ if stage == Stage::Dead => return,
            Waiting::Get(get) => survive_poll(|| Pin::new(get).poll(cx).map_ok(Held::Borrowed)),
            Waiting::GetOwned(get) => survive_poll(|| Pin::new(get).poll(cx).map_ok(Held::Owned)),
            Waiting::Replenish(replenish) => {
                let got = survive_poll(|| replenish.as_mut().poll(cx).map_err(Failure::number));
                return assert_eq!(got, self.model.poll_replenisher(name, which), "what replenish says");
            }
            Waiting::Closed(closed) => {
                let got = survive_poll(|| Pin::new(closed).poll(cx));
                return assert_eq!(got, self.model.poll_closer(name, which), "whether it is closed and empty");
            }
        };
        let seen = match got {
            Outcome::Pending => Outcome::Pending,
            Outcome::Panic => Outcome::Panic,
            Outcome::Ready(got) => Outcome::Ready(told(got).map(|held| {
                self.held.push(held);
                self.held.last().expect("it was pushed").id
            })),
        };
        assert_eq!(seen, self.model.poll_getter(name, which), "what getter {name} gets");
    }

    fn leave(&mut self, at: usize) {
        let Waiter { name, future } = self.waiters.remove(at);
        drop(future);
        self.model.leave(name);
    }

    fn try_get(&mut self, owned: bool) {
        let got = match owned {
            true => self.pool.clone().try_get_owned().map(Held::Owned),
            false => self.pool.try_get().map(Held::Borrowed),
        };
        assert_eq!(got.as_ref().map(|object| object.id), self.model.try_get(), "what try_get gets");
        self.held.extend(got);
    }

    fn put_back(&mut self, at: usize) {
        let object = self.held.remove(at);
        let panics = object.breaks == Some(Ending::Panic) && self.model.creates;
        self.model.put_back(object.id);
        let outcome = outcome(|| drop(object));
        assert_eq!(outcome, if panics { Outcome::Panic } else { Outcome::Ready(()) }, "how a return ends");
    }

    fn add(&mut self) {
        let id = ADDED + self.added;
        self.added += 1;
        let back = self.pool.add(Token::new(id, &self.site)).err();
        assert_eq!(back.is_none(), self.model.add(id), "whether there is room for another one");
        self.take_out(back);
    }

    fn retain(&mut self, mask: u8, panics: u8) {
        let stays = |id: usize| mask >> (id % 8) & 1 != 0;
        let panics = panics < 64 && !self.model.idle.is_empty();
        let mut seen = Vec::new();
        let idle = self.model.idle.len();
        let out = outcome(|| {
            self.pool.retain(|token, &metrics| {
                seen.push((token.id, metrics));
                if panics && seen.len() == idle {
                    panic_any(Alarmed);
                }
                stays(token.id)
            })
        });
        let expected: Vec<_> = self.model.idle.iter().map(|&id| (id, self.model.metrics(id))).collect();
        assert_eq!(seen, expected, "what is idle");
        let Outcome::Ready(out) = out else { return assert!(panics, "somebody panicked who should not") };
        let leaves: Vec<_> = self.model.idle.iter().copied().filter(|&id| !stays(id)).collect();
        assert!(out.iter().map(|token| token.id).eq(leaves.iter().copied()), "what does not stay");
        for id in leaves {
            self.model.destroy(id);
            self.model.dropped.pop();
        }
        self.model.settle();
        self.take_out(out);
    }

    /// What the pool gave away is dropped by the game.
    fn take_out(&mut self, tokens: impl IntoIterator<Item = Token>) {
        for mut token in tokens {
            self.model.dropped.push(token.take_out());
        }
    }

    fn maintain(&mut self, now: u64) {
        let due = self.pool.maintain(self.model.at(now));
        let start = self.model.start;
        let tenths = |tenths| start + Duration::from_millis(100 * tenths);
        let expected = self.model.maintain(now);
        let expected = expected.map(|(least, most)| tenths(least)..=tenths(most));
        match (due, &expected) {
            (None, None) => {}
            (Some(due), Some(expected)) if expected.contains(&due) => {}
            _ => panic!("maintain is due at {due:?} instead of {expected:?}"),
        }
    }

    /// The creations and recycles that have been polled and have not ended.
    fn going(&self) -> Vec<usize> {
        let going = |&at: &usize| self.model.tasks[at].lives && self.model.tasks[at].ending.is_none();
        (0..self.model.tasks.len()).filter(going).collect()
    }

    fn finish(&mut self, job: usize, how: Ending) {
        let mut site = lock(&self.site);
        site.jobs[job].ending = Some(how);
        let waker = site.jobs[job].waker.take();
        drop(site);
        if let Some(waker) = waker {
            waker.wake();
        }
        self.model.finish_task(job, how);
    }

    fn check(&mut self) {
        #[cfg(any(debug_assertions, fuzzing))]
        self.pool.validate();
        let status = self.pool.status();
        assert_eq!(status, self.model.status(), "status");
        assert_eq!(self.pool.is_closed(), self.model.closed, "closed");
        let woken = mem::take(&mut *self.log.lock().expect("nothing panics under this lock"));
        assert_eq!(woken, mem::take(&mut self.model.woken), "who was woken");
        let mut site = lock(&self.site);
        assert_eq!(mem::take(&mut site.calls), mem::take(&mut self.model.calls), "what the manager was told");
        assert_eq!(mem::take(&mut site.dropped), mem::take(&mut self.model.dropped), "what was dropped");
        assert_eq!(site.kept, status.idle + status.in_use, "how many objects there are");
        assert_eq!(site.faults, [], "a slot is free before its object is gone");
        let lives: Vec<_> = site.jobs.iter().map(|job| job.lives).collect();
        assert!(lives.into_iter().eq(self.model.tasks.iter().map(|task| task.lives)), "what goes on");
        drop(site);
        for object in &self.held {
            assert_eq!(object.metrics(), self.model.metrics(object.id), "the metrics of {:?}", **object);
        }
        let in_line = self.model.getters.iter().filter_map(|(&name, getter)| Some((name, getter.waker?)));
        let held: Vec<_> = in_line.chain(self.model.tasks.iter().filter_map(|task| task.waker)).collect();
        for (&name, alarms) in &self.alarms {
            let expected = [0, 1].map(|which| held.iter().filter(|&&held| held == (name, which)).count());
            assert_eq!(alarms.clones(), expected, "a waker is kept while somebody waits, and no longer");
        }
        let known = &self.model.getters;
        self.alarms.retain(|name, alarms| known.contains_key(name) || alarms.clones() != [0, 0]);
    }

    /// Everybody goes home.
    fn end(mut self) {
        while !self.waiters.is_empty() {
            self.leave(self.waiters.len() / 2);
            self.check();
        }
        while !self.held.is_empty() {
            self.put_back(self.held.len() / 2);
            self.check();
        }
        lock(&self.site).dropped.clear();
    }
}

fn pick<T>(which: u8, among: &[T]) -> Option<usize> {
    (!among.is_empty()).then(|| usize::from(which) % among.len())
}

/// What was found once.
#[cfg(test)]
mod found {
    use super::*;

    const NOW: Op = Op::Maintain { ahead: 0 };
    const GET: Op = Op::Get { owned: false, waker: false, later: 1 };
    const POLL: Op = Op::Poll { which: 0, waker: false };
    const LEAVE: Op = Op::Leave { which: 0 };

    fn seconds(seconds: u8) -> Op {
        Op::Wait { seconds }
    }

    fn finish(how: Ending) -> Op {
        Op::Finish { which: 0, how }
    }

    /// Played with one object that is created, and these settings.
    fn one<const N: usize>(rules: Rules, ops: [Op; N]) {
        allow_expected_panics();
        start(&Rules { size: 1, fixed: 1, ..rules }, ops.into_iter());
    }

    #[test]
    fn a_getter_whose_creation_panics_leaves_the_line() {
        one(Rules::default(), [GET, finish(Ending::Panic), POLL, Op::Add]);
    }

    #[test]
    fn a_recycle_may_take_several_polls() {
        one(Rules::default(), [Op::Add, GET, POLL, finish(Ending::Good), POLL]);
    }

    #[test]
    fn what_was_made_long_ago_gives_way_to_what_is_being_recycled() {
        let rules = Rules { max_waiting: 8, ..Rules::default() };
        let good = || finish(Ending::Good);
        one(rules, [GET, GET, LEAVE, good(), Op::Resize { to: 2 }, Op::Add, POLL, good(), POLL]);
    }

    #[test]
    fn who_waits_for_the_pool_to_grow_is_not_refused() {
        let crowd = || Op::Crowd { count: 7, waker: false };
        one(Rules { max_waiting: 0, ..Rules::default() }, [Op::Resize { to: 245 }, crowd(), crowd()]);
    }

    #[test]
    fn a_creation_begun_afresh_after_a_clear_is_kept() {
        let rules = Rules { max_waiting: 8, ..Rules::default() };
        let (clear, back) = (Op::Clear { sure: 0 }, Op::Return { which: 0 });
        let (failure, good) = (finish(Ending::Failure), finish(Ending::Good));
        one(rules, [GET, GET, LEAVE, failure, clear, POLL, good, POLL, back]);
    }

    #[test]
    fn a_creation_rests_for_the_idle_timeout_and_no_longer() {
        one(Rules { idle_timeout: 3, ..Rules::default() }, [GET, LEAVE, NOW, seconds(1), NOW, seconds(1), NOW]);
    }

    #[test]
    fn a_creation_that_was_adopted_rests_anew() {
        let rules = Rules { idle_timeout: 3, ..Rules::default() };
        one(rules, [GET, LEAVE, NOW, seconds(1), GET, LEAVE, NOW, seconds(1), NOW, seconds(1), NOW]);
    }
}
