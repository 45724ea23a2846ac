//! One poll of a getter that has work to drive.

use std::panic::resume_unwind;
use std::task::{Context, Poll};
use std::time::Instant;

use super::core::{Fitness, Grant, Queue, Queued, State};
use super::deferred::{Deferred, Garbage};
use super::get::{GetError, Getter};
use super::job::{End, Job, begin_recycling};
use super::object::Pooled;
use super::{Manager, Pool};
use crate::panic::{Guarded, Panics, drop_quietly};
use crate::sync::Exclusive;
use crate::wait_list::{NeedsClone, TaskWaker};

pub(super) type Served<M> = Result<Box<Pooled<M>>, GetError<<M as Manager>::Error>>;

/// An object that a getter was given, and what is to be done before it is handed out.
pub(super) type Given<M> = (Box<Pooled<M>>, Fitness);

/// The result of driving the work of a getter.
enum Driven<M: Manager> {
    /// All of it was polled before in this turn.
    Nothing,
    Pending,
    /// A job has ended, perhaps with an object that is to be recycled.
    Ended(Option<Given<M>>),
    Served(Box<Pooled<M>>),
}

/// The work that a getter drives. It goes to other getters in its boxes.
#[allow(clippy::vec_box)]
pub(super) struct Hand<M: Manager> {
    jobs: Vec<Box<Job<M>>>,
    failure: Option<Failure<M::Error>>,
}

/// The creation of a getter has failed, but an object that it was given may serve it all the same.
type Failure<E> = Box<Exclusive<Option<E>>>;

/// One poll of a getter. It owns what the getter has, and leaves it to the pool if it is dropped.
pub(super) struct Turn<'a, M: Manager> {
    pool: &'a Pool<M>,
    now: Option<Instant>,
    is_first: bool,
    queued: Option<Queued>,
    hand: Hand<M>,
    /// The jobs from this index on were not polled in this turn.
    undriven: usize,
    /// Slots in use without an object, since that was dropped; to be freed under the next lock.
    dead: usize,
    /// It was given an object of no use, and goes on ahead of the others.
    came_back: bool,
    /// That object could not be recycled: rather create one than take up more work that may be as bad.
    met_dead: bool,
}

impl<M: Manager> Hand<M> {
    fn new() -> Self {
        Self { jobs: Vec::new(), failure: None }
    }

    fn take(&mut self) -> Self {
        std::mem::replace(self, Self::new())
    }

    /// Returns the queue in which a getter that drives this waits, if it does.
    fn queue(&self) -> Option<Queue> {
        let owns = |creation| self.jobs.iter().any(|job| job.is_own() && job.is_creation() == creation);
        match () {
            () if owns(false) => None,
            () if owns(true) => Some(Queue::Creating),
            () if self.jobs.is_empty() => Some(Queue::Waiting),
            () => Some(Queue::Adopting),
        }
    }
}

impl<'a, M: Manager> Turn<'a, M> {
    pub(super) fn new(pool: &'a Pool<M>, now: Option<Instant>) -> Self {
        Self {
            pool,
            now,
            is_first: true,
            queued: None,
            hand: Hand::new(),
            undriven: 0,
            dead: 0,
            came_back: false,
            met_dead: false,
        }
    }

    /// Begins another poll of a getter.
    pub(super) fn resume(pool: &'a Pool<M>, now: Option<Instant>) -> Self {
        let mut turn = Self::new(pool, now);
        turn.is_first = false;
        turn
    }

    pub(super) fn take_over(&mut self, getter: &mut Getter<M>) {
        match std::mem::replace(getter, Getter::New) {
            Getter::New => {}
            Getter::Waiting(key) => self.queued = Some(Queued { queue: Queue::Waiting, key }),
            Getter::Driving(queued, hand) => (self.queued, self.hand) = (queued, hand),
        }
    }

    /// Goes on until there is an object to hand out, or nothing left to do but wait.
    #[inline(never)]
    pub(super) fn run(
        mut self,
        getter: &mut Getter<M>,
        mut given: Option<Given<M>>,
        cx: &mut Context<'_>,
    ) -> Poll<Served<M>> {
        loop {
            if let Some((pooled, fitness)) = given.take() {
                if let Some(pooled) = self.examine(pooled, fitness, cx)? {
                    return Poll::Ready(Ok(self.serve(pooled)));
                }
            }
            // First: an object that was granted serves sooner than the work that goes on meanwhile.
            given = self.advance(cx)?;
            if given.is_some() {
                continue;
            }
            match self.drive(cx)? {
                Driven::Nothing => return self.suspend(getter),
                // There may be more to claim beside it.
                Driven::Pending => {}
                Driven::Ended(found) => given = found,
                Driven::Served(pooled) => return Poll::Ready(Ok(self.serve(pooled))),
            }
        }
    }

    fn suspend(mut self, getter: &mut Getter<M>) -> Poll<Served<M>> {
        *getter = match self.queued.take() {
            Some(Queued { queue: Queue::Waiting, key }) => Getter::Waiting(key),
            queued => Getter::Driving(queued, self.hand.take()),
        };
        Poll::Pending
    }

    fn serve(mut self, pooled: Box<Pooled<M>>) -> Box<Pooled<M>> {
        self.leave(|_| ()).discard();
        pooled
    }

    /// Finds out whether an object may be handed out, and recycles it for that.
    pub(super) fn examine(
        &mut self,
        mut pooled: Box<Pooled<M>>,
        fitness: Fitness,
        cx: &mut Context<'_>,
    ) -> Result<Option<Box<Pooled<M>>>, GetError<M::Error>> {
        if self.pool.settings.hands_out(&mut pooled, fitness, self.now) {
            return Ok(Some(pooled));
        }
        if fitness == Fitness::Expired {
            self.pool.state.lock().stats.expired += 1;
            self.lose(pooled);
            return Ok(None);
        }
        self.follow(begin_recycling(pooled, self.pool, cx))
    }

    /// Goes on from the first poll of a recycling.
    pub(super) fn follow(
        &mut self,
        recycling: Result<End<M>, Box<Job<M>>>,
    ) -> Result<Option<Box<Pooled<M>>>, GetError<M::Error>> {
        match recycling {
            Ok(End::Recycled(mut pooled)) => {
                pooled.metrics.recycled = self.now;
                Ok(Some(pooled))
            }
            // It was counted as recycled when it was given.
            Ok(end) => {
                self.pool.state.lock().stats.recycled -= 1;
                self.end(end, false).map(|_| None)
            }
            Err(job) => {
                self.pool.state.lock().stats.recycled -= 1;
                self.undriven += 1;
                self.hand.jobs.insert(0, job);
                Ok(None)
            }
        }
    }

    /// Collects what was granted, claims what can be begun, or waits for that. Returns an object that it was given.
    fn advance(&mut self, cx: &mut Context<'_>) -> Result<Option<Given<M>>, GetError<M::Error>> {
        if self.queued.is_none() && self.hand.queue().is_none() && !self.is_first {
            return Ok(None);
        }
        let mut deferred = Deferred::default();
        let pool = self.pool;
        // Once its slot is free, another lock to clone the waker would let others go ahead.
        let waker = if self.dead > 0 { TaskWaker::cloned(cx.waker()) } else { TaskWaker::new(cx.waker()) };
        let outcome = waker.poll_with(|waker| {
            let mut guard = pool.state.lock();
            let state = &mut *guard;
            state.in_use -= std::mem::take(&mut self.dead);
            let outcome = match self.collect(state, &mut deferred) {
                Ok(None) => self.claim_or_wait(state, waker, &mut deferred)?,
                collected => collected,
            };
            if self.is_first && matches!(outcome, Ok(None)) && self.undriven == self.hand.jobs.len() {
                (self.is_first, state.stats.waits) = (false, state.stats.waits + 1);
            }
            state.settle(&pool.settings, &mut deferred);
            Ok(outcome)
        });
        deferred.run(pool).discard();
        outcome
    }

    /// Collects what it was granted, if it is queued.
    fn collect(
        &mut self,
        state: &mut State<M>,
        deferred: &mut Deferred<M>,
    ) -> Result<Option<Given<M>>, GetError<M::Error>> {
        while let Some(queued) = self.queued {
            let Some(mut removed) = state.collect(queued) else { break };
            self.queued = None;
            let grant = removed.grant.take();
            deferred.keep(removed);
            match grant {
                None => return Err(GetError::Closed),
                Some(Grant::Object(pooled)) => {
                    let fitness = state.judge(&pooled, &self.pool.settings, self.now, true);
                    self.give_back_unbegun(state);
                    return Ok(Some((pooled, fitness)));
                }
                Some(grant) => self.accept(grant),
            }
        }
        Ok(None)
    }

    /// Takes work that it was granted.
    pub(super) fn accept(&mut self, grant: Grant<M>) {
        match grant {
            Grant::Object(_) => unreachable!("an object is not work"),
            Grant::Recycling(job) => self.hand.jobs.push(job),
            Grant::Creation(key, job) => {
                self.queued = Some(Queued { queue: Queue::Creating, key });
                self.hand.jobs.push(job);
            }
        }
    }

    /// Gives a slot back that it was granted: it has an object to try.
    fn give_back_unbegun(&mut self, state: &mut State<M>) {
        let jobs = self.hand.jobs.len();
        self.hand.jobs.retain(|job| job.has_begun());
        state.creating -= jobs - self.hand.jobs.len();
    }

    /// Takes an idle object, or claims work, or is queued with its waker, as what it drives demands.
    #[allow(clippy::type_complexity)] // An outcome of the turn, or a second attempt with a clone of the waker.
    fn claim_or_wait(
        &mut self,
        state: &mut State<M>,
        waker: &mut TaskWaker<'_>,
        deferred: &mut Deferred<M>,
    ) -> Result<Result<Option<Given<M>>, GetError<M::Error>>, NeedsClone> {
        let settings = &self.pool.settings;
        let Some(queue) = self.hand.queue() else {
            // It recycles an object of its own again, which it had taken up.
            self.dequeue(state, deferred);
            return Ok(Ok(None));
        };
        if self.queued.is_none() {
            if state.closed {
                return Ok(Err(GetError::Closed));
            }
            if let Some(given) = state.take_idle(settings, self.now) {
                if self.met_dead && queue != Queue::Creating && state.may_create(settings) {
                    self.hand.jobs.push(state.create());
                }
                return Ok(Ok(Some(given)));
            }
        }
        // What it has taken up must have been polled before it begins a creation beside that.
        if self.undriven < self.hand.jobs.len() {
            return Ok(Ok(None));
        }
        if let Some(job) = state.claim(settings, queue, self.met_dead) {
            self.hand.jobs.push(job);
            return Ok(Ok(None));
        }
        match self.queued {
            Some(queued) if queued.queue == queue => {
                let polled = state.queue(queue).poll(queued.key, waker)?;
                debug_assert!(polled.is_pending(), "what was granted is collected");
            }
            _ if queue == Queue::Waiting && !self.came_back && !state.may_wait(settings) => {
                return Ok(Err(GetError::TooManyWaiting));
            }
            _ => {
                let waker = waker.take()?;
                self.dequeue(state, deferred);
                let key = if self.came_back {
                    state.queue(queue).enqueue_front((), waker)
                } else {
                    state.queue(queue).enqueue((), waker)
                };
                self.queued = Some(Queued { queue, key });
            }
        }
        Ok(Ok(None))
    }

    /// Takes an object that can be had at once, recycling one at most.
    pub(super) fn try_take(mut self, cx: &mut Context<'_>) -> Option<Box<Pooled<M>>> {
        let (pool, now) = (self.pool, self.now);
        loop {
            let dead = std::mem::take(&mut self.dead);
            let given = pool.change_quietly(|state, _| {
                state.in_use -= dead;
                let given = state.take_idle(&pool.settings, now);
                if given.is_none() {
                    self.hand.jobs.extend(state.pending_recyclings.pop_front().map(Job::taken_up));
                }
                given
            });
            let served = match given {
                Some((pooled, fitness)) => match self.examine(pooled, fitness, cx) {
                    Ok(None) if fitness == Fitness::Expired => continue,
                    examined => examined.ok()?,
                },
                None => match self.drive(cx) {
                    Ok(Driven::Served(pooled)) => Some(pooled),
                    _ => None,
                },
            };
            pool.state.lock().stats.gets += u64::from(served.is_some());
            return served;
        }
    }

    /// Leaves its queue. Nothing was granted to it.
    fn dequeue(&mut self, state: &mut State<M>, deferred: &mut Deferred<M>) {
        if let Some(Queued { queue, key }) = self.queued.take() {
            state.queue(queue).remove(key).into_iter().for_each(|removed| deferred.keep(removed));
        }
    }

    /// Polls the jobs that were not polled in this turn, until one ends.
    fn drive(&mut self, cx: &mut Context<'_>) -> Result<Driven<M>, GetError<M::Error>> {
        if self.undriven == self.hand.jobs.len() {
            return Ok(Driven::Nothing);
        }
        while let Some(job) = self.hand.jobs.get_mut(self.undriven) {
            let creates = job.is_creation();
            match job.poll(self.pool, cx) {
                Poll::Pending => self.undriven += 1,
                Poll::Ready(end) => {
                    drop_quietly([self.hand.jobs.remove(self.undriven)]);
                    return self.end(end, creates);
                }
            }
        }
        Ok(Driven::Pending)
    }

    /// A job has ended. Its slot is still counted as it was.
    fn end(&mut self, end: End<M>, creates: bool) -> Result<Driven<M>, GetError<M::Error>> {
        let pool = self.pool;
        match end {
            End::Created { object, generation, found } => {
                self.created(Pooled::new(object, generation, self.now), found)
            }
            End::NotCreated(error) => {
                let queued = self.queued;
                let has_more = pool.change_quietly(|state, _| {
                    state.creating -= 1;
                    state.stats.create_failures += 1;
                    queued.is_some_and(|Queued { queue, key }| state.queue(queue).is_granted(key))
                });
                if has_more || self.hand.queue().is_none() {
                    let failure = Box::new(Exclusive::new(Some(error)));
                    drop_quietly(self.hand.failure.replace(failure));
                    return Ok(Driven::Ended(None));
                }
                Err(GetError::Create(error))
            }
            End::Recycled(mut pooled) => {
                pooled.metrics.recycled = self.now;
                let mut state = pool.state.lock();
                state.stats.recycled += 1;
                // `clear` found it in use.
                if state.closed || pooled.generation == state.generation {
                    return Ok(Driven::Served(pooled));
                }
                state.stats.discarded += 1;
                drop(state);
                self.lose(pooled);
                Ok(Driven::Ended(None))
            }
            End::Unfit(pooled, error) => {
                pool.state.lock().stats.recycle_failures += 1;
                if let Some(failure) = self.hand.failure.take().and_then(|mut failure| failure.get_mut().take()) {
                    self.dead += 1;
                    drop_quietly([pooled]);
                    drop_quietly([error]);
                    return Err(GetError::Create(failure));
                }
                self.met_dead = true;
                let _error = Guarded(Some(error));
                self.lose(pooled);
                Ok(Driven::Ended(None))
            }
            End::Panicked(payload, pooled) => {
                drop_quietly(pooled);
                pool.change_quietly(|state, _| {
                    if creates {
                        (state.creating, state.stats.create_failures) =
                            (state.creating - 1, state.stats.create_failures + 1);
                    } else {
                        (state.in_use, state.stats.recycle_failures) =
                            (state.in_use - 1, state.stats.recycle_failures + 1);
                    }
                });
                resume_unwind(payload)
            }
        }
    }

    /// Its creation has succeeded.
    fn created(&mut self, pooled: Pooled<M>, found: bool) -> Result<Driven<M>, GetError<M::Error>> {
        let (pool, now, queued) = (self.pool, self.now, self.queued);
        let recycles = self.hand.queue().is_none();
        let mut pooled = Box::new(pooled);
        pool.change_quietly(|state, deferred| {
            state.creating -= 1;
            state.stats.created += 1;
            state.register(&mut pooled, &pool.settings);
            let is_granted = queued.is_some_and(|Queued { queue, key }| state.queue(queue).is_granted(key));
            if state.closed && !is_granted && !recycles {
                state.doom(Garbage::Object(pooled), deferred);
                Err(GetError::Closed)
            } else if found && (is_granted || recycles) {
                // It may be old, and there is a better one.
                pooled.idle_since = None;
                state.deliver(pooled, deferred);
                Ok(Driven::Ended(None))
            } else if found {
                pooled.idle_since = None;
                let fitness = state.judge(&pooled, &pool.settings, now, true);
                Ok(Driven::Ended(Some((pooled, fitness))))
            } else {
                Ok(Driven::Served(pooled))
            }
        })
    }

    /// Drops an object of no use. Its slot is this getter's until the next lock, so that it goes on ahead of the others.
    fn lose(&mut self, pooled: Box<Pooled<M>>) {
        self.dead += 1;
        self.came_back = true;
        drop(pooled);
    }

    /// Leaves all that it has to the others.
    pub(super) fn leave(&mut self, also: impl FnOnce(&mut State<M>)) -> Panics {
        let pool = self.pool;
        let (queued, jobs) = (self.queued.take(), std::mem::take(&mut self.hand.jobs));
        let dead = std::mem::take(&mut self.dead);
        let mut panics = Panics::of_drops(self.hand.failure.take());
        if queued.is_none() && jobs.is_empty() && dead == 0 {
            return panics;
        }
        let ((), others) = pool.change_and_catch(|state, deferred| {
            also(state);
            state.in_use -= dead;
            let mut queued = queued;
            while let Some(Queued { queue, key }) = queued.take() {
                let Some(mut removed) = state.queue(queue).remove(key) else { break };
                match removed.grant.take() {
                    None => {}
                    Some(Grant::Object(pooled)) => state.deliver(pooled, deferred),
                    Some(Grant::Recycling(job)) => state.leave(job, deferred),
                    Some(Grant::Creation(key, job)) => {
                        state.leave(job, deferred);
                        queued = Some(Queued { queue: Queue::Creating, key });
                    }
                }
                deferred.keep(removed);
            }
            jobs.into_iter().for_each(|job| state.leave(job, deferred));
        });
        panics.catch(|| others.resume());
        panics
    }
}

impl<M: Manager> Drop for Turn<'_, M> {
    #[inline]
    fn drop(&mut self) {
        self.leave(|_| ()).discard();
    }
}
