//! One poll of a getter that has work to drive.

use std::panic::resume_unwind;
use std::task::{Context, Poll};
use std::time::Instant;

use super::core::{Fitness, Grant, Queue, Queued, State};
use super::deferred::{Deferred, Garbage};
use super::get::{GetError, Getter};
use super::job::{End, Failure, Job, begin_recycling};
use super::object::Pooled;
use super::{Manager, Pool};
use crate::panic::{Guarded, Panics, drop_quietly};
use crate::sync::Exclusive;
use crate::wait_list::{NeedsClone, TaskWaker};

pub(super) type Served<M> = Result<Box<Pooled<M>>, GetError<<M as Manager>::Error>>;

/// An object that a getter was given, and its fitness to be handed out.
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
    /// The error of its creation: an object that it recycles or was granted may serve it all the same.
    error: Option<Box<Exclusive<M::Error>>>,
}

/// One poll of a getter. It owns the grants and jobs of the getter, and leaves them to the pool if it is dropped.
pub(super) struct Turn<'a, M: Manager> {
    pool: &'a Pool<M>,
    now: Option<Instant>,
    /// The number of the getter's first poll: its place in any queue.
    ticket: u64,
    /// The getter has not waited.
    is_first: bool,
    queued: Option<Queued>,
    hand: Hand<M>,
    /// The jobs from this index on were not polled in this turn.
    undriven: usize,
    /// Slots in use without an object, since that was dropped; to be freed under the next lock.
    dead: usize,
    /// It was given an object that could not be used, so it may wait, however many do.
    has_lost: bool,
    /// That object could not be recycled. Another pending recycling may fail as well, so it creates if there is room.
    has_found_dead: bool,
}

impl<M: Manager> Hand<M> {
    fn new() -> Self {
        Self { jobs: Vec::new(), error: None }
    }

    fn take(&mut self) -> Self {
        std::mem::replace(self, Self::new())
    }

    /// Returns the queue for a getter that drives this. One that recycles an object of its own is in none.
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
    pub(super) fn new(pool: &'a Pool<M>, now: Option<Instant>, ticket: u64, is_first: bool) -> Self {
        Self {
            pool,
            now,
            ticket,
            is_first,
            queued: None,
            hand: Hand::new(),
            undriven: 0,
            dead: 0,
            has_lost: false,
            has_found_dead: false,
        }
    }

    /// Begins another poll of a getter, with all that it has.
    pub(super) fn resume(pool: &'a Pool<M>, now: Option<Instant>, getter: &mut Getter<M>) -> Self {
        let mut turn = Self::new(pool, now, 0, false);
        match std::mem::replace(getter, Getter::New) {
            Getter::New => {}
            Getter::Waiting(key) => turn.queued = Some(Queued { queue: Queue::Waiting, key }),
            Getter::Driving { ticket, queued, hand } => {
                (turn.ticket, turn.queued, turn.hand) = (ticket, queued, hand);
            }
        }
        turn
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
                    return Poll::Ready(Ok(pooled));
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
                Driven::Ended(object) => given = object,
                Driven::Served(pooled) => return Poll::Ready(Ok(pooled)),
            }
        }
    }

    fn suspend(mut self, getter: &mut Getter<M>) -> Poll<Served<M>> {
        *getter = match self.queued.take() {
            Some(Queued { queue: Queue::Waiting, key }) => Getter::Waiting(key),
            queued => Getter::Driving { ticket: self.ticket, queued, hand: self.hand.take() },
        };
        Poll::Pending
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
        self.follow(begin_recycling(pooled, self.pool, self.now, cx))
    }

    /// Goes on from the first poll of a recycling.
    pub(super) fn follow(
        &mut self,
        recycling: Result<End<M>, Box<Job<M>>>,
    ) -> Result<Option<Box<Pooled<M>>>, GetError<M::Error>> {
        if let Ok(End::Recycled(mut pooled)) = recycling {
            pooled.metrics.recycled = self.now;
            return Ok(Some(pooled));
        }
        // It was counted as recycled when it was given.
        self.pool.state.lock().stats.recycled -= 1;
        match recycling {
            Ok(end) => self.end(end, false).map(|_| None),
            Err(job) => {
                self.undriven += 1;
                self.hand.jobs.insert(0, job);
                Ok(None)
            }
        }
    }

    /// Collects a grant, claims work, or waits for them. Returns an object that it was given.
    fn advance(&mut self, cx: &mut Context<'_>) -> Result<Option<Given<M>>, GetError<M::Error>> {
        if self.queued.is_none() && self.hand.queue().is_none() && !self.is_first {
            return Ok(None);
        }
        let mut deferred = Deferred::default();
        let pool = self.pool;
        // Once its slot is free, another lock to clone the waker would let others go ahead.
        let waker = if self.dead > 0 { TaskWaker::cloned(cx.waker()) } else { TaskWaker::new(cx.waker()) };
        let (mut panics, mut outcome) = (Panics::default(), Ok(None));
        let attempt = |waker: &mut TaskWaker<'_>| {
            let mut guard = pool.state.lock();
            let state = &mut *guard;
            state.in_use -= std::mem::take(&mut self.dead);
            let mut outcome = self.collect(state, &mut deferred);
            if matches!(outcome, Ok(None)) {
                outcome = self.claim(state, &mut deferred);
            }
            if matches!(outcome, Ok(None)) && self.has_driven_all() {
                self.wait(state, waker, &mut deferred)?;
                state.stats.waits += u64::from(std::mem::take(&mut self.is_first));
            }
            state.settle(&pool.settings, &mut deferred);
            Ok(outcome)
        };
        // The clone of the waker may panic when there is something to drop already.
        panics.catch(|| outcome = waker.poll_with(attempt));
        deferred.run(pool).discard();
        panics.resume_or(outcome)
    }

    /// Collects its grants, if it is queued.
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
                    let fitness = state.judge(&pooled, &self.pool.settings, self.now);
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

    /// Takes an idle object, or claims work. Fails if there is neither and the getter may not wait.
    fn claim(
        &mut self,
        state: &mut State<M>,
        deferred: &mut Deferred<M>,
    ) -> Result<Option<Given<M>>, GetError<M::Error>> {
        let settings = &self.pool.settings;
        let Some(queue) = self.hand.queue() else { return Ok(None) };
        if self.queued.is_none() {
            if state.closed {
                return Err(GetError::Closed);
            }
            if let Some(given) = state.take_idle(settings, self.now) {
                if self.has_found_dead && queue != Queue::Creating && state.may_create(settings) {
                    self.hand.jobs.push(state.create());
                }
                return Ok(Some(given));
            }
        }
        // The jobs that it has taken up must have been polled before it begins a creation beside them.
        if !self.has_driven_all() {
            return Ok(None);
        }
        if let Some(job) = state.claim(settings, queue, self.now, deferred) {
            self.hand.jobs.push(job);
            return Ok(None);
        }
        let enters = queue == Queue::Waiting && !self.has_lost;
        if enters && !state.may_wait(settings) { Err(GetError::TooManyWaiting) } else { Ok(None) }
    }

    /// Enters the queue for what it drives, or registers its waker there.
    fn wait(
        &mut self,
        state: &mut State<M>,
        waker: &mut TaskWaker<'_>,
        deferred: &mut Deferred<M>,
    ) -> Result<(), NeedsClone> {
        match (self.queued, self.hand.queue()) {
            (Some(queued), Some(queue)) if queued.queue == queue => {
                let polled = state.queue(queue).poll(queued.key, waker)?;
                debug_assert!(polled.is_pending(), "a grant is collected before");
            }
            (_, Some(queue)) => {
                let waker = waker.take()?;
                self.dequeue(state, deferred);
                let key = state.enqueue(queue, self.ticket, Some(waker));
                self.queued = Some(Queued { queue, key });
            }
            // It recycles an object of its own again, which it had taken up.
            (_, None) => self.dequeue(state, deferred),
        }
        Ok(())
    }

    /// Returns `true` if each job was polled in this turn.
    fn has_driven_all(&self) -> bool {
        self.undriven == self.hand.jobs.len()
    }

    /// Takes an object that can be had at once, recycling one at most.
    pub(super) fn try_take(mut self, cx: &mut Context<'_>) -> Option<Box<Pooled<M>>> {
        let (pool, now) = (self.pool, self.now);
        loop {
            let dead = std::mem::take(&mut self.dead);
            let given = pool.change_quietly(|state, deferred| {
                state.in_use -= dead;
                let given = state.take_idle(&pool.settings, now);
                if given.is_none() {
                    self.hand.jobs.extend(state.take_recycling(now, deferred));
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
            if served.is_some() {
                pool.state.lock().stats.gets += 1;
            }
            return served;
        }
    }

    /// Leaves its queue. Nothing was granted to it.
    fn dequeue(&mut self, state: &mut State<M>, deferred: &mut Deferred<M>) {
        if let Some(Queued { queue, key }) = self.queued.take() {
            deferred.keep(state.queue(queue).remove(key).expect("it is queued"));
        }
    }

    /// Polls the jobs that were not polled in this turn, until one ends.
    fn drive(&mut self, cx: &mut Context<'_>) -> Result<Driven<M>, GetError<M::Error>> {
        if self.has_driven_all() {
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
        match end {
            End::Created { object, generation, may_be_old } => {
                self.created(Box::new(Pooled::new(object, generation, self.now)), may_be_old)
            }
            End::Recycled(pooled) => Ok(self.recycled(pooled)),
            End::Failed(Failure::Error(error), None) => self.not_created(error),
            End::Failed(Failure::Error(error), Some(pooled)) => self.unfit(pooled, error),
            End::Failed(Failure::Panic(payload), pooled) => {
                drop_quietly(pooled);
                self.pool.change_quietly(|state, _| state.failed(creates));
                resume_unwind(payload)
            }
        }
    }

    fn created(&mut self, mut pooled: Box<Pooled<M>>, may_be_old: bool) -> Result<Driven<M>, GetError<M::Error>> {
        let pool = self.pool;
        let recycles = self.hand.queue().is_none();
        if may_be_old {
            pooled.idle_since = None;
        }
        pool.change_quietly(|state, deferred| {
            state.created(&mut pooled, &pool.settings);
            let has_better = recycles || self.is_granted(state);
            if state.closed && !has_better {
                state.doom(Garbage::Object(pooled), deferred);
                Err(GetError::Closed)
            } else if !may_be_old {
                Ok(Driven::Served(pooled))
            } else if has_better {
                state.deliver(pooled, deferred);
                Ok(Driven::Ended(None))
            } else {
                // Not judged: its age is unknown, and the next one that is created may be as old.
                state.stats.recycled += 1;
                Ok(Driven::Ended(Some((pooled, Fitness::Unchecked))))
            }
        })
    }

    fn not_created(&mut self, error: M::Error) -> Result<Driven<M>, GetError<M::Error>> {
        let is_granted = self.pool.change_quietly(|state, _| {
            state.failed(true);
            self.is_granted(state)
        });
        if !is_granted && self.hand.queue().is_some() {
            return Err(GetError::Create(error));
        }
        drop_quietly(self.hand.error.replace(Box::new(Exclusive::new(error))));
        Ok(Driven::Ended(None))
    }

    fn recycled(&mut self, mut pooled: Box<Pooled<M>>) -> Driven<M> {
        pooled.metrics.recycled = self.now;
        let mut state = self.pool.state.lock();
        state.stats.recycled += 1;
        // Else it was in use when the pool was cleared.
        if pooled.generation == state.generation {
            return Driven::Served(pooled);
        }
        state.stats.discarded += u64::from(!state.closed);
        drop(state);
        self.lose(pooled);
        Driven::Ended(None)
    }

    fn unfit(&mut self, pooled: Box<Pooled<M>>, error: M::Error) -> Result<Driven<M>, GetError<M::Error>> {
        self.pool.state.lock().stats.recycle_failures += 1;
        if let Some(create_error) = self.hand.error.take() {
            self.dead += 1;
            drop_quietly([pooled]);
            drop_quietly([error]);
            return Err(GetError::Create(create_error.into_inner()));
        }
        self.has_found_dead = true;
        let _error = Guarded(Some(error));
        self.lose(pooled);
        Ok(Driven::Ended(None))
    }

    /// Returns `true` if it was granted something that it has not collected.
    fn is_granted(&self, state: &mut State<M>) -> bool {
        self.queued.is_some_and(|Queued { queue, key }| state.queue(queue).is_granted(key))
    }

    /// Drops an object that cannot be used. Its slot stays in use until the next lock, so that no other getter gets it
    /// first.
    fn lose(&mut self, pooled: Box<Pooled<M>>) {
        self.dead += 1;
        self.has_lost = true;
        drop(pooled);
    }

    /// Leaves all that it has to the others.
    pub(super) fn leave(&mut self, also: impl FnOnce(&mut State<M>)) -> Panics {
        let pool = self.pool;
        let (queued, jobs) = (self.queued.take(), std::mem::take(&mut self.hand.jobs));
        let dead = std::mem::take(&mut self.dead);
        let mut panics = Panics::of_drops(self.hand.error.take());
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
