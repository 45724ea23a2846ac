//! The way of a getter to its object.
//!
//! A getter has up to three things in hand, each of which it owns until it passes it on: a place in the line, a creation,
//! and an object that is being recycled. Whichever comes first serves it.
//!
//! | place | creation | object | the getter |
//! |---|---|---|---|
//! | - | - | - | has not been polled, or is done |
//! | waiting | - | - | waits for an object or a creation |
//! | creator | one | - | creates, and takes an object that is returned before |
//! | - | - | one | recycles it |
//! | - | one | one | recycles while it creates: it was creating when it was granted the object, or the one before was of no use |

use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::task::{Context, Poll};
use std::time::Instant;

use super::creation::{Creation, Progress};
use super::object::Pooled;
use super::recycling::{Recycled, Recycling, recycle_at_once};
use super::state::{Aftermath, Grant, State};
use super::{GetError, Leaving, Manager, Pool};
use crate::arena::Key;
use crate::panic::{Panics, drop_quietly};
use crate::sync::Exclusive;
use crate::wait_list::TaskWaker;

/// The body of `Get` and `GetOwned`.
pub(super) struct Getting<H: Deref<Target = Pool<M>>, M: Manager> {
    /// `None` once it was ready.
    pool: Option<H>,
    getter: Getter<M>,
}

/// What a getter has in hand.
struct Getter<M: Manager> {
    place: Place,
    creation: Exclusive<Option<Creation<M>>>,
    recycling: Exclusive<Option<Recycling<M>>>,
    /// Why its creation failed, as long as there is an object that may serve it all the same.
    failure: Exclusive<Option<Box<M::Error>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Nowhere,
    Waiting(Key),
    Creator(Key),
}

/// What a getter knows about an object that it was given.
enum Fitness<M: Manager> {
    Fit(Box<Pooled<M>>),
    /// It is over its time, or could not be recycled.
    Unfit(Recycled<M>),
    /// It is being recycled; or there is none.
    Unknown,
}

impl<M: Manager> Fitness<M> {
    #[inline(always)]
    fn of((mut pooled, outcome): Recycled<M>, now: Option<Instant>) -> Self {
        if outcome.is_err() {
            return Self::Unfit((pooled, outcome));
        }
        pooled.metrics.recycled = now;
        Self::Fit(pooled)
    }
}

type Served<M> = Result<Box<Pooled<M>>, GetError<<M as Manager>::Error>>;

/// An object, if there is one already.
type MaybeServed<M> = Result<Option<Box<Pooled<M>>>, GetError<<M as Manager>::Error>>;

impl<H: Deref<Target = Pool<M>>, M: Manager> Getting<H, M> {
    pub(super) fn new(pool: H) -> Self {
        Self {
            pool: Some(pool),
            getter: Getter {
                place: Place::Nowhere,
                creation: Exclusive::new(None),
                recycling: Exclusive::new(None),
                failure: Exclusive::new(None),
            },
        }
    }

    #[inline(always)]
    pub(super) fn poll<O>(
        &mut self,
        cx: &mut Context<'_>,
        hand_out: impl FnOnce(H, Box<Pooled<M>>) -> O,
    ) -> Poll<Result<O, GetError<M::Error>>> {
        let pool = self.pool.as_ref().expect("a future is not polled after it was ready");
        self.getter.poll(pool, cx).map(|served| {
            let pool = self.pool.take().expect("it was there");
            served.map(|pooled| hand_out(pool, pooled))
        })
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.getter.place != Place::Nowhere
    }
}

impl<H: Deref<Target = Pool<M>>, M: Manager> Drop for Getting<H, M> {
    #[inline]
    fn drop(&mut self) {
        if let Some(pool) = &self.pool {
            if !self.getter.is_empty_handed() {
                self.getter.leave_all(pool).resume();
            }
        }
    }
}

impl<M: Manager> Getter<M> {
    #[inline(always)]
    fn is_empty_handed(&mut self) -> bool {
        self.place == Place::Nowhere && self.creation.get_mut().is_none() && self.recycling.get_mut().is_none()
    }

    #[inline(always)]
    fn poll(&mut self, pool: &Pool<M>, cx: &mut Context<'_>) -> Poll<Served<M>> {
        let now = pool.now();
        if !self.is_empty_handed() {
            return self.go_on(pool, cx, now);
        }
        let idle = pool.state.lock().take_idle(pool.settings.order);
        let served = match idle.map(|pooled| self.examine(pool, cx, now, pooled)) {
            Some(Fitness::Fit(pooled)) => return Poll::Ready(Ok(self.finish(pool, pooled))),
            Some(Fitness::Unfit(lost)) => self.come_back(pool, cx, lost)?,
            Some(Fitness::Unknown) => return Poll::Pending,
            None => self.line_up(pool, cx)?,
        };
        if served.is_none() && self.creation.get_mut().is_none() {
            return Poll::Pending; // the most frequent way to wait
        }
        self.proceed(pool, cx, now, served)
    }

    /// Is polled again.
    #[inline(never)]
    fn go_on(&mut self, pool: &Pool<M>, cx: &mut Context<'_>, now: Option<Instant>) -> Poll<Served<M>> {
        match self.look(pool, cx)? {
            Some(pooled) if pool.settings.is_ready(&pooled, now) => Poll::Ready(Ok(self.finish(pool, pooled))),
            served => self.proceed(pool, cx, now, served),
        }
    }

    /// Works on what it has in hand. If it has a place in the line, its waker is there.
    #[inline(never)]
    fn proceed(
        &mut self,
        pool: &Pool<M>,
        cx: &mut Context<'_>,
        now: Option<Instant>,
        mut served: Option<Box<Pooled<M>>>,
    ) -> Poll<Served<M>> {
        loop {
            let recycling = self.recycling.get_mut().take();
            let fitness = match (served.take(), recycling) {
                (Some(pooled), _) if pool.settings.is_ready(&pooled, now) => Fitness::Fit(pooled),
                (Some(pooled), _) => self.or_leave_all(pool, |this| this.examine(pool, cx, now, pooled)),
                (None, Some(recycling)) => self.or_leave_all(pool, |this| this.recycled(recycling.run(pool, cx), now)),
                (None, None) => Fitness::Unknown,
            };
            match fitness {
                Fitness::Fit(pooled) => {
                    drop_quietly(self.failure.get_mut().take());
                    return Poll::Ready(Ok(self.finish(pool, pooled)));
                }
                Fitness::Unfit(lost) => {
                    if let Some(error) = self.failure.get_mut().take() {
                        drop_lost(lost).discard();
                        pool.release(1, 0).discard();
                        return Poll::Ready(Err(GetError::Create(*error)));
                    }
                    served = self.or_leave_all(pool, |this| this.come_back(pool, cx, lost))?;
                    continue;
                }
                Fitness::Unknown => {}
            }
            let Some(creation) = self.creation.get_mut().take() else { return Poll::Pending };
            match self.or_leave_all(pool, |_| creation.run(pool, cx)) {
                Progress::Created(pooled) => {
                    let pooled = self.created(pool, pooled)?;
                    return Poll::Ready(Ok(self.finish(pool, pooled)));
                }
                Progress::Found(pooled) => served = self.found(pool, pooled)?,
                Progress::Failed(error) => served = self.not_created(pool, error)?,
                Progress::Pending(creation) => *self.creation.get_mut() = Some(creation),
            }
            if served.is_none() {
                return Poll::Pending; // what is being recycled was polled above
            }
        }
    }

    /// Runs what is the user's. After a panic this getter has nothing in hand, and nothing is granted to it any more.
    fn or_leave_all<R>(&mut self, pool: &Pool<M>, run: impl FnOnce(&mut Self) -> R) -> R {
        catch_unwind(AssertUnwindSafe(|| run(self))).unwrap_or_else(|payload| {
            self.leave_all(pool).discard();
            resume_unwind(payload)
        })
    }

    /// Finds out whether an object is fit to be handed out.
    #[inline(always)]
    fn examine(
        &mut self,
        pool: &Pool<M>,
        cx: &mut Context<'_>,
        now: Option<Instant>,
        pooled: Box<Pooled<M>>,
    ) -> Fitness<M> {
        if pool.settings.is_ready(&pooled, now) {
            return Fitness::Fit(pooled);
        }
        if pool.settings.is_over(&pooled, now) {
            return Fitness::Unfit((pooled, Ok(())));
        }
        match recycle_at_once(pooled, pool, cx) {
            Ok(recycled) => Fitness::of(recycled, now),
            Err(pooled) => self.recycled(Recycling::begin(pooled, pool, cx), now),
        }
    }

    #[inline(always)]
    fn recycled(&mut self, progress: Result<Recycled<M>, Recycling<M>>, now: Option<Instant>) -> Fitness<M> {
        match progress {
            Ok(recycled) => Fitness::of(recycled, now),
            Err(pending) => {
                *self.recycling.get_mut() = Some(pending);
                Fitness::Unknown
            }
        }
    }

    /// Takes a place in the line, unless there is an object to be had at once.
    #[inline(never)]
    fn line_up(&mut self, pool: &Pool<M>, cx: &mut Context<'_>) -> MaybeServed<M> {
        let mut waker = Some(cx.waker().clone());
        let outcome = {
            let mut state = pool.state.lock();
            let idle = state.take_idle(pool.settings.order);
            if idle.is_none() && state.waiting.is_empty() {
                *self.creation.get_mut() = state.claim(&pool.settings);
            }
            let creates = self.creation.get_mut().is_some();
            if idle.is_some() {
                Ok(idle)
            } else if state.closed {
                Err(GetError::Closed)
            } else if !creates && !state.may_wait(pool.settings.max_waiting) {
                Err(GetError::TooManyWaiting)
            } else {
                let waker = waker.take().expect("who comes to wait brings a waker");
                self.place = if creates {
                    Place::Creator(state.creators.enqueue((), waker))
                } else {
                    Place::Waiting(state.waiting.enqueue((), waker))
                };
                Ok(None)
            }
        };
        drop_quietly(waker);
        outcome
    }

    /// It was given an object that was of no use. Its slot is this getter's still, and it goes on ahead of those who wait.
    ///
    /// If recycling has failed, it creates beside the next attempt: it shall not pay for one dead object after the other.
    #[inline(never)]
    fn come_back(&mut self, pool: &Pool<M>, cx: &mut Context<'_>, lost: Recycled<M>) -> MaybeServed<M> {
        let failed = lost.1.is_err();
        let leaving = Leaving::in_use(pool, ());
        drop_lost(lost).resume();
        let waker = cx.waker().clone();
        leaving.stays();
        pool.change_quietly(|state, after| {
            state.free(1, 0);
            let idle = state.take_idle(pool.settings.order);
            let creation = self.creation.get_mut();
            if creation.is_none() && (failed || idle.is_none()) {
                // Rather not one that was left behind: that might prove dead, too, and so on.
                let new = if failed { state.claim_new(&pool.settings) } else { None };
                *creation = new.or_else(|| if idle.is_none() { state.claim(&pool.settings) } else { None });
            }
            if idle.is_some() {
                after.wakers[0] = Some(waker);
                return Ok(idle);
            }
            if state.closed {
                after.wakers[0] = Some(waker);
                creation.take().into_iter().for_each(|creation| state.abandon(creation, after));
                return Err(GetError::Closed);
            }
            self.place = if creation.is_some() {
                Place::Creator(state.creators.enqueue_front((), waker))
            } else {
                Place::Waiting(state.waiting.enqueue_front((), waker))
            };
            Ok(None)
        })
    }

    /// Looks whether its turn has come. If not, its waker is in the line.
    #[inline(always)]
    fn look(&mut self, pool: &Pool<M>, cx: &mut Context<'_>) -> MaybeServed<M> {
        if self.place == Place::Nowhere {
            return Ok(None);
        }
        // Beside that of the creation.
        let mut left_waker = None;
        let left = TaskWaker::new(cx.waker()).poll_with(|waker| {
            let mut state = pool.state.lock();
            if let Place::Waiting(key) = self.place {
                let Poll::Ready(left) = state.waiting.poll(key, waker)? else { return Ok(None) };
                left_waker = waker.reclaim();
                self.place = Place::Nowhere;
                match left.grant {
                    None => return Ok(Some(None)),
                    Some(Grant::Object(pooled)) => return Ok(Some(Some(pooled))),
                    Some(Grant::Creation(place, creation)) => {
                        self.place = Place::Creator(place);
                        *self.creation.get_mut() = Some(creation);
                    }
                }
            }
            let Place::Creator(key) = self.place else { return Ok(None) };
            let Poll::Ready(left) = state.creators.poll(key, waker)? else { return Ok(None) };
            self.place = Place::Nowhere;
            Ok(Some(left.grant))
        });
        drop_quietly(left_waker);
        let Some(grant) = left else { return Ok(None) };
        // A creation that has begun goes on until this one has its object for sure.
        let turned_away = grant.is_none();
        if let Some(creation) = self.creation.get_mut().take_if(|creation| turned_away || !creation.has_begun()) {
            pool.change_quietly(|state, after| state.leave_behind(creation, after));
        }
        grant.map(Some).ok_or(GetError::Closed)
    }

    /// Its creation has succeeded.
    #[inline(never)]
    fn created(&mut self, pool: &Pool<M>, mut pooled: Box<Pooled<M>>) -> Served<M> {
        pool.change_quietly(|state, after| {
            state.register(&mut pooled, &pool.settings);
            let (granted, turned_away) = self.end_creation(state, after);
            granted.into_iter().for_each(|granted| state.deliver(granted, after));
            self.recycling.get_mut().take().into_iter().for_each(|recycling| state.interrupt(recycling, after));
            if turned_away {
                state.retire(pooled, after);
                return Err(GetError::Closed);
            }
            Ok(pooled)
        })
    }

    /// Its creation has succeeded while nobody looked. An object that it was granted in the meantime, or recycles, is of
    /// later date.
    #[inline(never)]
    fn found(&mut self, pool: &Pool<M>, mut pooled: Box<Pooled<M>>) -> MaybeServed<M> {
        pool.change_quietly(|state, after| {
            state.register(&mut pooled, &pool.settings);
            let (granted, turned_away) = self.end_creation(state, after);
            if granted.is_some() || self.recycling.get_mut().is_some() {
                state.deliver(pooled, after);
                return Ok(granted);
            }
            if turned_away {
                state.retire(pooled, after);
                return Err(GetError::Closed);
            }
            Ok(Some(pooled))
        })
    }

    /// Its creation has failed. There may be an object that serves it all the same: it was granted one in the meantime,
    /// or recycles one.
    #[inline(never)]
    fn not_created(&mut self, pool: &Pool<M>, error: M::Error) -> MaybeServed<M> {
        let (granted, _) = pool.change_quietly(|state, after| self.end_creation(state, after));
        if granted.is_none() && self.recycling.get_mut().is_none() {
            return Err(GetError::Create(error));
        }
        *self.failure.get_mut() = Some(Box::new(error));
        Ok(granted)
    }

    /// A creation has ended. Returns an object that its getter was granted in the meantime, and whether it was turned away.
    fn end_creation(&mut self, state: &mut State<M>, after: &mut Aftermath<M>) -> (Option<Box<Pooled<M>>>, bool) {
        state.free(0, 1);
        let waited = self.place != Place::Nowhere;
        let granted = self.leave(state, after);
        let turned_away = waited && granted.is_none() && state.closed;
        (granted, turned_away)
    }

    /// Has its object for sure.
    #[inline(always)]
    fn finish(&mut self, pool: &Pool<M>, mut pooled: Box<Pooled<M>>) -> Box<Pooled<M>> {
        pooled.metrics.uses += 1;
        if self.creation.get_mut().is_some() {
            // As in `drop_quietly`.
            self.leave_all(pool).discard();
        }
        pooled
    }

    /// Passes on whatever it has in hand.
    #[inline(never)]
    fn leave_all(&mut self, pool: &Pool<M>) -> Panics {
        let mut after = Aftermath::default();
        {
            let mut state = pool.state.lock();
            if let Place::Waiting(key) = self.place {
                if !state.waiting.is_granted(key) {
                    // Nobody is served because this one leaves.
                    self.place = Place::Nowhere;
                    let left = state.waiting.remove(key);
                    drop(state);
                    return Panics::of_drops(left);
                }
            }
            let granted = self.leave(&mut state, &mut after);
            granted.into_iter().for_each(|granted| state.deliver(granted, &mut after));
            self.creation.get_mut().take().into_iter().for_each(|creation| state.leave_behind(creation, &mut after));
            self.recycling.get_mut().take().into_iter().for_each(|recycling| state.interrupt(recycling, &mut after));
            state.settle(&pool.settings, &mut after.batch);
        }
        let mut panics = after.happen(pool);
        panics.catch(|| drop(self.failure.get_mut().take()));
        panics
    }

    /// Leaves the line. What it was granted and has not collected is an object, which is returned, or a creation.
    fn leave(&mut self, state: &mut State<M>, after: &mut Aftermath<M>) -> Option<Box<Pooled<M>>> {
        let place = match std::mem::replace(&mut self.place, Place::Nowhere) {
            Place::Nowhere => return None,
            Place::Creator(place) => place,
            Place::Waiting(key) => {
                let left = state.waiting.remove(key)?;
                after.wakers[0] = left.waker;
                match left.grant? {
                    Grant::Object(pooled) => return Some(pooled),
                    Grant::Creation(place, creation) => {
                        *self.creation.get_mut() = Some(creation);
                        place
                    }
                }
            }
        };
        let left = state.creators.remove(place)?;
        after.wakers[1] = left.waker;
        left.grant
    }
}

fn drop_lost<M: Manager>((pooled, outcome): Recycled<M>) -> Panics {
    let mut panics = Panics::of_drops([pooled]);
    panics.catch(|| drop(outcome));
    panics
}
