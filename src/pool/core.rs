//! The state of a pool: plain data under one lock, and every decision about it.
//!
//! **Slots.** A *slot* is the right to have an object; there are `max_size` of them. Each is counted once:
//!
//! | a slot is | it stands for | next |
//! |---|---|---|
//! | free | nothing | creating |
//! | `creating` | a creation: granted, driven or pending | in use; free; doomed |
//! | `idle` | an object in the pool | in use; free (taken out by `retain`); doomed |
//! | `in_use` | an object that a user holds; that is granted; that is recycled, driven or pending | idle; in use; free; doomed |
//! | doomed (still counted as before) | an object or job that is about to be dropped, without the lock | free |
//!
//! A slot becomes free after its object or job was dropped or taken out of the pool, so there are never more than
//! `max_size` objects alive.
//!
//! **Getters** wait in three FIFO queues, by what they drive (see [`job`](super::job)):
//!
//! | queue | its getters drive | and are granted |
//! |---|---|---|
//! | `Creating` | a creation of their own | objects |
//! | `Adopting` | only work of others, which was not ready when they took it up | objects, slots |
//! | `Waiting` | nothing | objects, slots, pending work |
//!
//! A getter that recycles an object of its own is in no queue: it has been granted that object.
//!
//! A getter's *ticket* is the number of its first poll, as `stats.gets` counts them. Each queue is in the order of
//! tickets, and an object goes to the getter with the lowest one in any queue. A flag per getter in one queue would say
//! the same, but a slot would have to search for the first that can use it.
//!
//! **Grants.** [`deliver`](State::deliver) grants an object that is returned or new. [`leave`](State::leave) grants a
//! recycling that its getter gave up, and keeps a creation for [`settle`](State::settle), which every change ends with:
//! it grants free slots and pending creations to getters that can use them. A getter that is granted a slot or a
//! creation enters `Creating` at that moment, under a second key, so that an object that is returned before the getter
//! is polled can be granted to it, too. A getter that is granted a recycling is in no queue until it is polled.
//!
//! **Invariants** whenever the lock is free: while an object is idle, the queues are empty; while a getter is in
//! `Waiting` or `Adopting`, no job is pending and no creation may begin; idle + in use + creating <= `max_size`, unless
//! that was lowered.
//!
//! No user code runs under the lock: drops and wakes go into a [`Deferred`]. Only the drop of the whole state, which no
//! lock guards any more, drops objects itself.

use std::collections::VecDeque;
use std::task::Waker;
use std::time::{Duration, Instant};

use super::deferred::{Deferred, Garbage};
use super::job::Job;
use super::object::Pooled;
use super::{Manager, Order, PoolStats, Settings, Status};
use crate::arena::Key;
use crate::panic::Panics;
use crate::wait_list::{Removed, WaitList, WakeBatch};

/// The creations that may run at a time however few objects there are. Few in models and fuzzers, which so reach the
/// limit.
const FEW: usize = if cfg!(any(loom, fuzzing)) { 2 } else { 8 };

/// With `min_idle`, `maintain` asks to be called at least so often: idle objects may run short at any time.
const REFILL_PERIOD: Duration = Duration::from_secs(30);

pub(super) struct State<M: Manager> {
    /// In the order of their returns.
    pub(super) idle: VecDeque<Box<Pooled<M>>>,
    pub(super) in_use: usize,
    pub(super) creating: usize,
    doomed: usize,
    /// Creations without progress that are driven for the sake of `min_idle`.
    pub(super) stuck: usize,
    /// Idle objects that are recycled in place; they are in use meanwhile.
    pub(super) checking: usize,
    pub(super) max_size: usize,
    /// The longest pending first.
    pub(super) pending_creations: VecDeque<Box<Job<M>>>,
    pub(super) pending_recyclings: VecDeque<Box<Job<M>>>,
    /// Waiters with their tickets.
    queues: [WaitList<u64, Grant<M>>; 3],
    /// Raised by `clear`: objects of former generations are not kept.
    pub(super) generation: u64,
    pub(super) closed: bool,
    /// It was seen closed and empty.
    has_drained: bool,
    pub(super) stats: PoolStats,
    returns: u64,
    /// Determines how far the next lifetime falls short of the longest.
    draw: u64,
}

/// A queue of getters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queue {
    Creating,
    Adopting,
    Waiting,
}

/// A getter in a queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Queued {
    pub(super) queue: Queue,
    pub(super) key: Key,
}

/// A grant to a getter in a queue.
pub(super) enum Grant<M: Manager> {
    Object(Box<Pooled<M>>),
    Recycling(Box<Job<M>>),
    /// The right to create, or a creation to take up, and the key in `Creating` under which the getter is queued now.
    Creation(Key, Box<Job<M>>),
}

/// The fitness of an object to be handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fitness {
    Fit,
    Unchecked,
    Expired,
}

impl<M: Manager> Drop for State<M> {
    /// Drops each object for itself: if two of them panicked in the drop of a whole list, the process would abort.
    fn drop(&mut self) {
        let jobs = self.pending_creations.drain(..).chain(self.pending_recyclings.drain(..)).map(Garbage::Job);
        Panics::of_drops(self.idle.drain(..).map(Garbage::Object).chain(jobs)).resume();
    }
}

impl<M: Manager> State<M> {
    pub(super) fn new(max_size: usize, draw: u64) -> Self {
        Self {
            idle: VecDeque::new(),
            in_use: 0,
            creating: 0,
            doomed: 0,
            stuck: 0,
            checking: 0,
            max_size,
            pending_creations: VecDeque::new(),
            pending_recyclings: VecDeque::new(),
            queues: [const { WaitList::new() }; 3],
            generation: 0,
            closed: false,
            has_drained: false,
            stats: PoolStats::default(),
            returns: 0,
            draw,
        }
    }

    pub(super) fn status(&self) -> Status {
        let Self { max_size, in_use, creating, .. } = *self;
        let waiting = self.queues[Queue::Waiting as usize].len();
        Status { max_size, size: self.size(), idle: self.idle.len(), in_use, creating, waiting }
    }

    #[inline(always)]
    pub(super) fn size(&self) -> usize {
        self.idle.len() + self.in_use + self.creating
    }

    /// Returns `true` if the pool is closed and all its objects and jobs were dropped.
    pub(super) fn is_drained(&self) -> bool {
        self.closed && self.size() == 0
    }

    /// Returns `true` if an object or job of that generation may stay in the pool.
    #[inline(always)]
    pub(super) fn keeps(&self, generation: u64) -> bool {
        !self.closed && generation == self.generation && self.size() - self.doomed <= self.max_size
    }

    /// Returns `true` if the pool was cleared since that generation, and not closed.
    fn has_cleared(&self, generation: u64) -> bool {
        !self.closed && generation != self.generation
    }

    #[inline(always)]
    pub(super) fn is_awaited(&self) -> bool {
        let [creating, adopting, waiting] = &self.queues;
        !waiting.is_empty() || !creating.is_empty() || !adopting.is_empty()
    }

    fn is_empty(&self, queue: Queue) -> bool {
        self.queues[queue as usize].is_empty()
    }

    // ---- objects ----

    /// Takes the next idle object and judges it at `now`. Its slot is in use then.
    #[inline(always)]
    pub(super) fn take_idle(&mut self, settings: &Settings, now: Option<Instant>) -> Option<(Box<Pooled<M>>, Fitness)> {
        let pooled = match settings.order {
            Order::Lifo => self.idle.pop_back(),
            Order::Fifo => self.idle.pop_front(),
        }?;
        self.in_use += 1;
        let fitness = self.judge(&pooled, settings, now);
        Some((pooled, fitness))
    }

    /// Judges an object that is about to be handed out, and counts it as recycled if it is going to be.
    #[inline(always)]
    pub(super) fn judge(&mut self, pooled: &Pooled<M>, settings: &Settings, now: Option<Instant>) -> Fitness {
        let is_surplus = self.idle.len() >= settings.min_idle;
        let fitness = settings.fitness(pooled, now, is_surplus);
        self.stats.recycled += u64::from(fitness == Fitness::Unchecked);
        fitness
    }

    /// Gives an object to the first getter, or keeps it. Its slot must be in use.
    pub(super) fn deliver(&mut self, pooled: Box<Pooled<M>>, deferred: &mut Deferred<M>) {
        if !self.keeps(pooled.generation) {
            self.stats.discarded += u64::from(self.has_cleared(pooled.generation));
            self.doom(Garbage::Object(pooled), deferred);
        } else if self.is_awaited() {
            self.grant_object(pooled, &mut deferred.batch);
        } else {
            self.put_idle(pooled);
        }
    }

    /// Grants an object to the first getter.
    #[inline(always)]
    pub(super) fn grant_object(&mut self, pooled: Box<Pooled<M>>, batch: &mut WakeBatch) {
        let queue = if self.is_empty(Queue::Creating) && self.is_empty(Queue::Adopting) {
            Queue::Waiting // Most often.
        } else {
            self.first_of([Queue::Creating, Queue::Adopting, Queue::Waiting]).expect("a getter is queued")
        };
        self.queue(queue).grant_front(Grant::Object(pooled), batch);
    }

    /// Returns the queue with the lowest ticket at its head.
    #[inline(never)]
    fn first_of<const N: usize>(&self, queues: [Queue; N]) -> Option<Queue> {
        let heads = queues.into_iter().filter_map(|queue| Some((queue, self.queues[queue as usize].front_need()?)));
        heads.min_by_key(|&(_, ticket)| ticket).map(|(queue, _)| queue)
    }

    #[inline(always)]
    pub(super) fn put_idle(&mut self, mut pooled: Box<Pooled<M>>) {
        self.in_use -= 1;
        self.returns += 1;
        pooled.is_new = false;
        pooled.returned = self.returns;
        self.idle.push_back(pooled);
    }

    /// Gives an object that was recycled in place to the first getter, or puts it where it was among the idle ones.
    pub(super) fn put_back(&mut self, pooled: Box<Pooled<M>>, deferred: &mut Deferred<M>) {
        if self.is_awaited() || !self.keeps(pooled.generation) {
            return self.deliver(pooled, deferred);
        }
        self.in_use -= 1;
        let place = self.idle.partition_point(|other| other.returned < pooled.returned);
        self.idle.insert(place, pooled);
    }

    /// A creation has succeeded.
    pub(super) fn created(&mut self, pooled: &mut Pooled<M>, settings: &Settings) {
        self.creating -= 1;
        self.stats.created += 1;
        self.register(pooled, settings);
    }

    /// A creation or recycling has failed, and nothing is left of it: its slot is free.
    pub(super) fn failed(&mut self, is_creation: bool) {
        if is_creation {
            self.creating -= 1;
            self.stats.create_failures += 1;
        } else {
            self.in_use -= 1;
            self.stats.recycle_failures += 1;
        }
    }

    /// Takes a slot in use for an object, and draws the end of its lifetime.
    pub(super) fn register(&mut self, pooled: &mut Pooled<M>, settings: &Settings) {
        self.in_use += 1;
        let lifetime = settings.max_lifetime.map(|longest| self.draw_lifetime(longest));
        pooled.expires_at =
            pooled.metrics.created.zip(lifetime).and_then(|(created, lifetime)| created.checked_add(lifetime));
    }

    /// 90 to 100 % of `longest`. Steps of the golden ratio spread any number of lifetimes evenly (Knuth, The Art of
    /// Computer Programming 3, 6.4).
    fn draw_lifetime(&mut self, longest: Duration) -> Duration {
        self.draw = self.draw.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let step = (self.draw >> 48) as u32;
        longest - longest / 10 / (1 << 16) * step
    }

    // ---- creations and getters ----

    /// Returns `true` if one more creation may begin in a pool that is open.
    pub(super) fn may_create(&self, settings: &Settings) -> bool {
        let limit = settings.max_creating.unwrap_or_else(|| FEW.max(self.idle.len() + self.in_use));
        let driven = self.creating - self.pending_creations.len();
        settings.creates && self.size() < self.max_size && driven < limit
    }

    pub(super) fn create(&mut self) -> Box<Job<M>> {
        self.creating += 1;
        Job::create()
    }

    /// Takes up the longest pending recycling. Discards those of objects that have expired meanwhile.
    pub(super) fn take_recycling(&mut self, now: Option<Instant>, deferred: &mut Deferred<M>) -> Option<Box<Job<M>>> {
        while let Some(job) = self.pending_recyclings.pop_front() {
            if !now.is_some_and(|now| job.has_expired(now)) {
                return Some(job.taken_up());
            }
            self.stats.expired += 1;
            self.doom(Garbage::Job(job), deferred);
        }
        None
    }

    /// Returns work for a getter that will be queued in `queue`: pending work, or else a new creation. The other way
    /// round if it has taken up work before. In `Creating` it has a creation, and takes up recyclings only.
    pub(super) fn claim(
        &mut self,
        settings: &Settings,
        queue: Queue,
        now: Option<Instant>,
        deferred: &mut Deferred<M>,
    ) -> Option<Box<Job<M>>> {
        if queue == Queue::Adopting && self.may_create(settings) {
            return Some(self.create());
        }
        let recycling = self.take_recycling(now, deferred);
        if queue == Queue::Creating || recycling.is_some() { recycling } else { self.take_creation(settings) }
    }

    /// Takes up the longest pending creation, or else begins one.
    fn take_creation(&mut self, settings: &Settings) -> Option<Box<Job<M>>> {
        let pending = self.pending_creations.pop_front().map(Job::taken_up);
        pending.or_else(|| self.may_create(settings).then(|| self.create()))
    }

    /// Returns a creation for the sake of `min_idle`, unless those that run suffice or a getter needs it more.
    pub(super) fn claim_spare(&mut self, settings: &Settings) -> Option<Box<Job<M>>> {
        if !self.is_short(settings) {
            return None;
        }
        // One that hangs is taken up once, and those behind it when nothing else can be done.
        if self.stuck > 0 && self.may_create(settings) {
            return Some(self.create());
        }
        self.take_creation(settings)
    }

    /// Returns `true` if too few objects are idle or about to be, and there is something to be done about it.
    #[inline(always)]
    pub(super) fn is_short(&self, settings: &Settings) -> bool {
        !self.is_stocked(settings)
            && !self.closed
            && self.is_empty(Queue::Waiting)
            && (!self.pending_creations.is_empty() || self.size() < self.max_size)
    }

    /// Returns `true` if enough objects are idle, checked in place or about to be created. Creations that make no
    /// progress do not count.
    #[inline(always)]
    fn is_stocked(&self, settings: &Settings) -> bool {
        let coming = self.creating - self.pending_creations.len() - self.stuck;
        self.idle.len() + self.checking + coming >= settings.min_idle
    }

    /// Returns `true` if creations that are stuck should be left to the getters.
    pub(super) fn wants_stuck(&self, settings: &Settings) -> bool {
        self.is_stocked(settings) || !self.is_empty(Queue::Waiting)
    }

    /// Returns `true` if a new getter can only wait.
    #[inline]
    pub(super) fn must_wait(&self, settings: &Settings) -> bool {
        let has_pending = !self.pending_creations.is_empty() || !self.pending_recyclings.is_empty();
        let may_go_on = !self.idle.is_empty() || has_pending || self.may_create(settings);
        !self.closed && !may_go_on && self.may_wait(settings)
    }

    /// Returns `true` if one more getter may wait. Those that only wait because of the limit on creations, or for a
    /// drop that frees a slot, do not count.
    pub(super) fn may_wait(&self, settings: &Settings) -> bool {
        let room = self.max_size.saturating_sub(self.size() - self.doomed);
        self.queues[Queue::Waiting as usize].len() < settings.max_waiting.saturating_add(room)
    }

    pub(super) fn queue(&mut self, queue: Queue) -> &mut WaitList<u64, Grant<M>> {
        &mut self.queues[queue as usize]
    }

    /// Puts a getter into a queue. It comes without a waker if it is about to be woken.
    #[inline(always)]
    pub(super) fn enqueue(&mut self, queue: Queue, ticket: u64, waker: Option<Waker>) -> Key {
        self.queue(queue).enqueue_after(|&other| other < ticket, ticket, waker)
    }

    /// Removes a getter that was granted something, and any getter once the pool is closed.
    pub(super) fn collect(&mut self, queued: Queued) -> Option<Removed<u64, Grant<M>>> {
        let closed = self.closed;
        let list = self.queue(queued.queue);
        if closed || list.is_granted(queued.key) { list.remove(queued.key) } else { None }
    }

    /// Leaves a job to the next getter: its driver was dropped, or served otherwise.
    pub(super) fn leave(&mut self, job: Box<Job<M>>, deferred: &mut Deferred<M>) {
        if !job.has_begun() {
            self.creating -= 1;
        } else if !self.keeps(job.generation) {
            self.stats.discarded += u64::from(!job.is_creation() && self.has_cleared(job.generation));
            self.doom(Garbage::Job(job), deferred);
        } else if job.is_creation() {
            self.pending_creations.push_back(job);
        } else {
            // `Adopting` last: its getters drive work already, even if that may hang.
            let queues = [Queue::Creating, Queue::Waiting, Queue::Adopting];
            match queues.into_iter().find(|&queue| !self.is_empty(queue)) {
                Some(queue) => {
                    let grant = Grant::Recycling(job.taken_up());
                    self.queue(queue).grant_front(grant, &mut deferred.batch);
                }
                None => self.pending_recyclings.push_back(job),
            }
        }
    }

    /// Grants slots and pending creations to the getters that can use them. Every change ends with this.
    pub(super) fn settle(&mut self, settings: &Settings, deferred: &mut Deferred<M>) {
        if !self.is_empty(Queue::Waiting) || !self.is_empty(Queue::Adopting) {
            self.grant_creations(settings, &mut deferred.batch);
        }
        deferred.is_short |= settings.min_idle > 0 && self.is_short(settings);
        if self.is_drained() && !self.has_drained {
            // Once: its listeners are notified under a lock of their own, and may use the pool again.
            (self.has_drained, deferred.is_drained) = (true, true);
        }
    }

    fn grant_creations(&mut self, settings: &Settings, batch: &mut WakeBatch) {
        loop {
            // Pending work goes first to those that have none.
            let has_pending = !self.pending_creations.is_empty() && !self.is_empty(Queue::Waiting);
            let first = self.first_of([Queue::Adopting, Queue::Waiting]);
            let Some(queue) = first.map(|first| if has_pending { Queue::Waiting } else { first }) else { return };
            let job = match self.pending_creations.pop_front() {
                Some(job) => job.taken_up(),
                None if self.may_create(settings) => self.create(),
                None => return,
            };
            let ticket = *self.queue(queue).front_need().expect("the queue is not empty");
            let key = self.enqueue(Queue::Creating, ticket, None);
            self.queue(queue).grant_front(Grant::Creation(key, job), batch);
        }
    }

    // ---- the pool as a whole ----

    /// Gives something up, to be dropped without the lock. Its slot is counted until then.
    pub(super) fn doom(&mut self, garbage: Garbage<M>, deferred: &mut Deferred<M>) {
        self.doomed += 1;
        deferred.garbage.push(garbage);
    }

    /// Frees the slots of doomed objects and jobs that were dropped.
    pub(super) fn free_doomed(&mut self, in_use: usize, creating: usize) {
        self.doomed -= in_use + creating;
        self.in_use -= in_use;
        self.creating -= creating;
    }

    /// Takes out idle objects, which are not counted any more then. Asks for each once, by its index.
    pub(super) fn take_idle_unless(&mut self, mut keep: impl FnMut(usize, &Pooled<M>) -> bool) -> Vec<Box<Pooled<M>>> {
        let mut taken = Vec::new();
        for index in 0..self.idle.len() {
            let pooled = self.idle.pop_front().expect("the idle objects were counted");
            if keep(index, &pooled) {
                self.idle.push_back(pooled);
            } else {
                taken.push(pooled);
            }
        }
        taken
    }

    pub(super) fn clear(&mut self, deferred: &mut Deferred<M>) {
        self.generation += 1;
        self.stats.discarded += (self.idle.len() + self.pending_recyclings.len()) as u64;
        self.shrink_by(usize::MAX, deferred);
    }

    pub(super) fn close(&mut self, deferred: &mut Deferred<M>) {
        self.closed = true;
        self.shrink_by(usize::MAX, deferred);
        self.queues.iter_mut().for_each(WaitList::close);
        self.take_wakers(&mut deferred.batch);
    }

    pub(super) fn resize(&mut self, max_size: usize, deferred: &mut Deferred<M>) {
        if !self.closed {
            self.max_size = max_size;
            self.shrink_by((self.size() - self.doomed).saturating_sub(max_size), deferred);
        }
    }

    /// Dooms pending jobs first, and then the objects that were idle for longest.
    fn shrink_by(&mut self, mut surplus: usize, deferred: &mut Deferred<M>) {
        while surplus > 0 {
            let pending = self.pending_creations.pop_front().or_else(|| self.pending_recyclings.pop_front());
            if let Some(job) = pending {
                self.doom(Garbage::Job(job), deferred);
            } else if let Some(pooled) = self.idle.pop_front() {
                self.in_use += 1;
                self.doom(Garbage::Object(pooled), deferred);
            } else {
                break;
            }
            surplus -= 1;
        }
    }

    /// Discards expired objects and jobs, and returns when more will expire.
    pub(super) fn maintain(
        &mut self,
        now: Instant,
        settings: &Settings,
        deferred: &mut Deferred<M>,
    ) -> Option<Instant> {
        let has_passed = |end: Option<Instant>| end.is_some_and(|end| end <= now);
        // `min_idle` protects from the idle timeout, but not from the end of a lifetime.
        let lasting = self.idle.iter().filter(|pooled| !has_passed(pooled.expires_at)).count();
        let mut surplus = lasting.saturating_sub(settings.min_idle);
        let expired = self.take_idle_unless(|_, pooled| {
            let times_out = surplus > 0 && has_passed(settings.times_out(pooled)) && !has_passed(pooled.expires_at);
            surplus -= usize::from(times_out);
            !times_out && !has_passed(pooled.expires_at)
        });
        self.stats.expired += expired.len() as u64;
        for pooled in expired {
            self.in_use += 1;
            self.doom(Garbage::Object(pooled), deferred);
        }
        self.expire_pending(now, settings, deferred);
        if self.closed {
            return None;
        }
        // An object that is returned in the meantime may expire sooner; it is then discarded a little late, but never
        // handed out.
        let surplus = self.idle.len().saturating_sub(settings.min_idle);
        let timeouts = self.idle.iter().take(surplus).filter_map(|pooled| settings.times_out(pooled));
        let expiries = self.idle.iter().filter_map(|pooled| pooled.expires_at);
        let refill = (settings.min_idle > 0).then_some(REFILL_PERIOD);
        let period = [settings.max_lifetime, settings.idle_timeout, refill].into_iter().flatten().min()?;
        timeouts.chain(expiries).chain(now.checked_add(period)).min()
    }

    /// Takes the next idle object that is to be recycled in place, or returns when there will be one.
    pub(super) fn take_unchecked(
        &mut self,
        settings: &Settings,
        now: Instant,
    ) -> Result<Box<Pooled<M>>, Option<Instant>> {
        let Some(keepalive) = settings.keepalive else { return Err(None) };
        let due = |pooled: &Pooled<M>| {
            let last = pooled.idle_since.max(pooled.metrics.recycled).or(pooled.metrics.created);
            last.and_then(|last| last.checked_add(keepalive))
        };
        match self.idle.iter().position(|pooled| due(pooled).is_some_and(|due| due <= now)) {
            Some(index) => {
                self.in_use += 1;
                self.checking += 1;
                Ok(self.idle.remove(index).expect("the index is that of an idle object"))
            }
            None => Err(self.idle.iter().filter_map(|pooled| due(pooled)).chain(now.checked_add(keepalive)).min()),
        }
    }

    fn expire_pending(&mut self, now: Instant, settings: &Settings, deferred: &mut Deferred<M>) {
        for creations in [true, false] {
            for _ in 0..self.pending(creations).len() {
                let mut job = self.pending(creations).pop_front().expect("the pending jobs were counted");
                if job.expires_at.is_none() {
                    job.expires_at = settings.idle_timeout.and_then(|longest| now.checked_add(longest));
                }
                if job.has_expired(now) {
                    self.stats.expired += u64::from(!creations);
                    self.doom(Garbage::Job(job), deferred);
                } else {
                    self.pending(creations).push_back(job);
                }
            }
        }
    }

    fn pending(&mut self, creations: bool) -> &mut VecDeque<Box<Job<M>>> {
        if creations { &mut self.pending_creations } else { &mut self.pending_recyclings }
    }

    pub(super) fn take_wakers(&mut self, batch: &mut WakeBatch) {
        self.queues.iter_mut().for_each(|queue| queue.take_wakers(batch));
    }

    pub(super) fn validate(&self, settings: &Settings) {
        self.queues.iter().for_each(WaitList::validate);
        assert!(self.queues.iter().all(|queue| queue.needs().is_sorted()), "queues are in the order of tickets");
        let adopting = !self.is_empty(Queue::Adopting) || !self.is_empty(Queue::Waiting);
        assert!(self.idle.is_empty() || !self.is_awaited(), "no getter is queued while an object is idle");
        assert!(self.pending_recyclings.is_empty() || !self.is_awaited(), "queued getters drive all recyclings");
        assert!(self.pending_creations.is_empty() || !adopting, "waiting getters drive all creations");
        assert!(!adopting || !self.may_create(settings), "waiting getters use all the room");
        assert!(self.pending_creations.len() + self.stuck <= self.creating, "pending creations are counted");
        let recycling = self.pending_recyclings.len() + self.checking;
        assert!(recycling <= self.in_use, "objects that are recycled are in use");
        let kept = self.idle.len() + self.pending_creations.len() + self.pending_recyclings.len();
        assert!(!self.closed || kept == 0 && !self.is_awaited(), "a closed pool keeps nothing");
        assert!(self.idle.iter().all(|pooled| pooled.generation == self.generation), "`clear` takes all idle objects");
        assert!(self.idle.iter().zip(self.idle.iter().skip(1)).all(|(a, b)| a.returned < b.returned), "idle in order");
    }
}
