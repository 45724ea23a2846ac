//! The plain data under the lock of a pool, and every decision about it. None of it calls foreign code or drops any: that
//! is left to the [`Aftermath`], without the lock.

use std::collections::VecDeque;
use std::mem::{forget, take};
use std::task::Waker;
use std::time::{Duration, Instant};

use super::creation::Creation;
use super::object::Pooled;
use super::recycling::Recycling;
use super::{Manager, Order, Pool, Settings, Status};
use crate::arena::Key;
use crate::panic::Panics;
use crate::wait_list::{WaitList, WakeBatch};

/// As many may be created at a time however few there are; small under loom and fuzzing, so that they reach the limit.
pub(super) const FEW: usize = if cfg!(any(loom, fuzzing)) { 2 } else { 8 };

pub(super) struct State<M: Manager> {
    /// In the order in which they came back.
    pub(super) idle: VecDeque<Box<Pooled<M>>>,
    pub(super) in_use: usize,
    pub(super) creating: usize,
    /// Those of them which the pool has given up, but not dropped yet.
    leaving: usize,
    pub(super) max_size: usize,
    /// Begun, and left behind by those who began them. The oldest first.
    pub(super) left_behind: VecDeque<Creation<M>>,
    /// The getters that have a creation, in the order of their arrival. All of them came before those in `waiting`, except
    /// for those who came back from a dead object.
    pub(super) creators: WaitList<(), Box<Pooled<M>>>,
    /// The getters that have none.
    pub(super) waiting: WaitList<(), Grant<M>>,
    /// Those who wait until the pool is closed and empty.
    pub(super) closers: WaitList<(), ()>,
    /// Objects of former generations are not reused.
    pub(super) generation: u64,
    pub(super) closed: bool,
    /// Says how far the next object's life falls short of the longest one.
    draw: u64,
}

/// What a getter that waits is granted.
pub(super) enum Grant<M: Manager> {
    Object(Box<Pooled<M>>),
    /// A creation, and its place among the creators, where it goes on waiting.
    Creation(Key, Creation<M>),
}

/// What is to be done when the lock is released: drop what nobody has a use for, and wake those who were served.
pub(super) struct Aftermath<M: Manager> {
    pub(super) wakers: [Option<Waker>; 2],
    /// To be dropped; their slots are counted until then.
    refuse: Vec<Refuse<M>>,
    pub(super) batch: WakeBatch,
}

/// What the pool has given up.
enum Refuse<M: Manager> {
    Object(Box<Pooled<M>>),
    Recycling(Recycling<M>),
    Creation(Creation<M>),
}

impl<M: Manager> Default for Aftermath<M> {
    #[inline(always)]
    fn default() -> Self {
        Self { wakers: [None, None], refuse: Vec::new(), batch: WakeBatch::default() }
    }
}

impl<M: Manager> Aftermath<M> {
    /// Call it without the lock, as the last thing. Foreign code that panics is survived.
    #[inline(always)]
    pub(super) fn happen(mut self, pool: &Pool<M>) -> Panics {
        let mut panics = Panics::of_drops(self.wakers.iter_mut().filter_map(Option::take));
        if !self.refuse.is_empty() {
            self.dispose(pool, &mut panics);
        }
        if !self.batch.is_empty() {
            panics.catch(|| self.batch.wake(|batch| pool.state.lock().take_wakers(batch)));
        }
        forget(self); // nothing is left in it, and looking for that once more takes its time
        panics
    }

    /// Drops what the pool has given up, and frees the slots.
    #[inline(never)]
    fn dispose(&mut self, pool: &Pool<M>, panics: &mut Panics) {
        let given_up = self.refuse.len();
        let creating = self.refuse.iter().filter(|refuse| matches!(refuse, Refuse::Creation(_))).count();
        for refuse in take(&mut self.refuse) {
            panics.catch(|| match refuse {
                Refuse::Object(pooled) => drop(pooled),
                Refuse::Recycling(recycling) => drop(recycling),
                Refuse::Creation(creation) => drop(creation),
            });
        }
        let mut state = pool.state.lock();
        state.leaving -= given_up;
        state.free(given_up - creating, creating);
        state.settle(&pool.settings, &mut self.batch);
    }
}

impl<M: Manager> State<M> {
    pub(super) fn new(max_size: usize, draw: u64) -> Self {
        Self {
            idle: VecDeque::new(),
            in_use: 0,
            creating: 0,
            leaving: 0,
            max_size,
            left_behind: VecDeque::new(),
            creators: WaitList::new(),
            waiting: WaitList::new(),
            closers: WaitList::new(),
            generation: 0,
            closed: false,
            draw,
        }
    }

    #[inline(always)]
    pub(super) fn size(&self) -> usize {
        self.idle.len() + self.in_use + self.creating
    }

    pub(super) fn status(&self) -> Status {
        let Self { max_size, in_use, creating, .. } = *self;
        Status { max_size, size: self.size(), idle: self.idle.len(), in_use, creating, waiting: self.waiting.len() }
    }

    /// Whether it is closed and everything is back and dropped.
    pub(super) fn is_over(&self) -> bool {
        self.closed && self.size() == 0
    }

    /// Whether one more may wait. Those who wait for the pool to grow do not count.
    pub(super) fn may_wait(&self, max_waiting: usize) -> bool {
        let room = self.max_size.saturating_sub(self.size());
        self.waiting.len() < max_waiting.saturating_add(room)
    }

    #[inline(always)]
    pub(super) fn take_idle(&mut self, order: Order) -> Option<Box<Pooled<M>>> {
        let pooled = match order {
            Order::Lifo => self.idle.pop_back(),
            Order::Fifo => self.idle.pop_front(),
        }?;
        self.in_use += 1;
        Some(pooled)
    }

    /// The next idle object that is as asked for.
    pub(super) fn take_idle_if(
        &mut self,
        order: Order,
        mut wanted: impl FnMut(&Pooled<M>) -> bool,
    ) -> Option<Box<Pooled<M>>> {
        let place = match order {
            Order::Lifo => self.idle.iter().rposition(|pooled| wanted(pooled)),
            Order::Fifo => self.idle.iter().position(|pooled| wanted(pooled)),
        }?;
        self.in_use += 1;
        self.idle.remove(place)
    }

    /// A creation for who has none: one that was left behind, or the right to begin one.
    pub(super) fn claim(&mut self, settings: &Settings) -> Option<Creation<M>> {
        match self.left_behind.pop_front() {
            Some(creation) => Some(creation.adopted()),
            None => self.claim_new(settings),
        }
    }

    /// The right to begin a creation.
    pub(super) fn claim_new(&mut self, settings: &Settings) -> Option<Creation<M>> {
        // Nobody works on those left behind: they hold up no one who must not wait for them.
        let few = self.creating - self.left_behind.len() < FEW.max(self.idle.len() + self.in_use);
        if few { self.grow(settings) } else { None }
    }

    fn grow(&mut self, settings: &Settings) -> Option<Creation<M>> {
        if !settings.creates || self.closed || self.size() >= self.max_size {
            return None;
        }
        self.creating += 1;
        Some(Creation::new())
    }

    /// A creation for the sake of `min_idle`, if nobody waits who would be better served.
    pub(super) fn claim_spare(&mut self, settings: &Settings) -> Option<Creation<M>> {
        let wanted = self.idle.len() + self.creating - self.left_behind.len() < settings.min_idle;
        if !wanted || !self.waiting.is_empty() {
            return None;
        }
        match self.left_behind.pop_front() {
            Some(creation) => Some(creation.adopted()),
            None => self.grow(settings),
        }
    }

    /// Somebody has no more use for its creation.
    pub(super) fn leave_behind(&mut self, creation: Creation<M>, after: &mut Aftermath<M>) {
        if !creation.has_begun() {
            self.creating -= 1;
        } else if !self.keeps(creation.generation) {
            self.abandon(creation, after);
        } else {
            self.left_behind.push_back(creation);
        }
    }

    /// Whether an object or creation of that generation stays when it comes back.
    #[inline(always)]
    pub(super) fn keeps(&self, generation: u64) -> bool {
        !self.closed && generation == self.generation && self.size() - self.leaving <= self.max_size
    }

    pub(super) fn retire(&mut self, pooled: Box<Pooled<M>>, after: &mut Aftermath<M>) {
        self.give_up(Refuse::Object(pooled), after);
    }

    pub(super) fn interrupt(&mut self, recycling: Recycling<M>, after: &mut Aftermath<M>) {
        self.give_up(Refuse::Recycling(recycling), after);
    }

    pub(super) fn abandon(&mut self, creation: Creation<M>, after: &mut Aftermath<M>) {
        self.give_up(Refuse::Creation(creation), after);
    }

    fn give_up(&mut self, refuse: Refuse<M>, after: &mut Aftermath<M>) {
        self.leaving += 1;
        after.refuse.push(refuse);
    }

    /// Takes idle objects out, which are not counted any more then. Asks about each once, by its place.
    pub(super) fn take_idle_unless(&mut self, stays: impl Fn(usize, &Pooled<M>) -> bool) -> Vec<Box<Pooled<M>>> {
        let mut taken = Vec::new();
        for place in 0..self.idle.len() {
            let pooled = self.idle.pop_front().expect("it was counted");
            if stays(place, &pooled) {
                self.idle.push_back(pooled);
            } else {
                taken.push(pooled);
            }
        }
        taken
    }

    /// Gives an object, which is counted as in use, to the first in line.
    pub(super) fn deliver(&mut self, pooled: Box<Pooled<M>>, after: &mut Aftermath<M>) {
        if !self.keeps(pooled.generation) {
            self.retire(pooled, after);
        } else if !self.creators.is_empty() {
            self.creators.grant_front(pooled, &mut after.batch);
        } else if !self.waiting.is_empty() {
            self.waiting.grant_front(Grant::Object(pooled), &mut after.batch);
        } else {
            self.put_idle(pooled);
        }
    }

    /// Whether somebody is in the line.
    #[inline(always)]
    pub(super) fn is_awaited(&self) -> bool {
        !self.waiting.is_empty() || !self.creators.is_empty()
    }

    #[inline(always)]
    pub(super) fn put_idle(&mut self, pooled: Box<Pooled<M>>) {
        self.in_use -= 1;
        self.idle.push_back(pooled);
    }

    /// Gives creations to those who wait for want of one. Whatever frees a slot, or leaves a creation behind, ends here.
    #[inline(always)]
    pub(super) fn settle(&mut self, settings: &Settings, batch: &mut WakeBatch) {
        while !self.waiting.is_empty() {
            let Some(creation) = self.claim(settings) else { break };
            let place = self.creators.enqueue_unregistered(());
            self.waiting.grant_front(Grant::Creation(place, creation), batch);
        }
        if self.is_over() {
            self.closers.close();
            self.closers.take_wakers(batch);
        }
    }

    /// Counts an object that is new to the pool as in use, and draws the end of its life.
    pub(super) fn register(&mut self, pooled: &mut Pooled<M>, settings: &Settings) {
        self.in_use += 1;
        let life = settings.max_lifetime.map(|longest| self.draw_life(longest));
        pooled.ends = pooled.metrics.created.zip(life).and_then(|(created, life)| created.checked_add(life));
    }

    /// 90 to 100 % of `longest`. Steps of the golden ratio spread any number of lives evenly (Knuth, The Art of Computer
    /// Programming 3, 6.4).
    fn draw_life(&mut self, longest: Duration) -> Duration {
        self.draw = self.draw.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let step = (self.draw >> 48) as u32;
        longest - longest / 10 / (1 << 16) * step
    }

    /// Empties the pool of what is not in use.
    pub(super) fn clear(&mut self, after: &mut Aftermath<M>) {
        self.generation += 1;
        self.shrink_by(usize::MAX, after);
    }

    pub(super) fn close(&mut self, after: &mut Aftermath<M>) {
        self.closed = true;
        self.clear(after);
        self.creators.close();
        self.waiting.close();
    }

    pub(super) fn resize(&mut self, max_size: usize, after: &mut Aftermath<M>) {
        self.max_size = max_size;
        self.shrink_by((self.size() - self.leaving).saturating_sub(max_size), after);
    }

    /// Gives up what is not in use: creations first, then the objects that were idle for longest.
    fn shrink_by(&mut self, mut surplus: usize, after: &mut Aftermath<M>) {
        while surplus > 0 {
            if let Some(creation) = self.left_behind.pop_front() {
                self.abandon(creation, after);
            } else if let Some(pooled) = self.take_idle(Order::Fifo) {
                self.retire(pooled, after);
            } else {
                break;
            }
            surplus -= 1;
        }
    }

    /// Gives up what is over its time, and says when there will be more of that.
    pub(super) fn maintain(&mut self, now: Instant, settings: &Settings, after: &mut Aftermath<M>) -> Option<Instant> {
        for pooled in self.take_idle_unless(|_, pooled| !settings.is_over(pooled, Some(now))) {
            self.in_use += 1;
            self.retire(pooled, after);
        }
        if let Some(longest) = settings.idle_timeout {
            for _ in 0..self.left_behind.len() {
                let mut creation = self.left_behind.pop_front().expect("it was counted");
                let since = *creation.rests_since.get_or_insert(now);
                if now.saturating_duration_since(since) < longest {
                    self.left_behind.push_back(creation);
                } else {
                    self.abandon(creation, after);
                }
            }
        }
        if self.closed {
            return None;
        }
        // What is returned in the meantime may end sooner; it is then discarded a little late, but never handed out.
        let longest = [settings.max_lifetime, settings.idle_timeout].into_iter().flatten().min()?;
        let ends = self.idle.iter().filter_map(|pooled| settings.ends(pooled));
        ends.chain(now.checked_add(longest)).min()
    }

    pub(super) fn take_wakers(&mut self, batch: &mut WakeBatch) {
        self.creators.take_wakers(batch);
        self.waiting.take_wakers(batch);
        self.closers.take_wakers(batch);
    }

    /// Frees the slots of what was dropped.
    pub(super) fn free(&mut self, in_use: usize, creating: usize) {
        self.in_use -= in_use;
        self.creating -= creating;
    }

    #[cfg(any(test, fuzzing, loom, debug_assertions))]
    pub(super) fn validate(&mut self, settings: &Settings) {
        self.creators.validate();
        self.waiting.validate();
        self.closers.validate();
        let (creators, waiting) = (self.creators.len(), self.waiting.len());
        assert!(self.idle.is_empty() || creators + waiting == 0, "somebody waits while an object is idle");
        assert!(self.left_behind.is_empty() || waiting == 0, "somebody waits while nobody looks after a creation");
        assert!(self.left_behind.len() <= self.creating, "a creation is not counted");
        assert!(!self.closed || self.idle.is_empty() && self.left_behind.is_empty(), "a closed pool keeps something");
        assert!(!self.closed || creators + waiting == 0, "somebody waits on a closed pool");
        assert!(!self.is_over() || self.closers.is_empty(), "somebody waits for a pool that is closed and empty");
        assert!(self.idle.iter().all(|pooled| pooled.generation == self.generation), "an object outlived a clear");
        if waiting > 0 {
            let may_create = self.claim(settings);
            assert!(may_create.is_none(), "somebody waits while there is room for an object");
        }
    }
}
