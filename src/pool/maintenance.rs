//! Keeping a pool filled, fresh and awake beside its users: [`Pool::replenish`] and [`Pool::maintenance`].
//!
//! The maintenance is one future without a timer of its own. It waits for three things at a time: the signal that idle
//! objects run short or the pool is closed, its own jobs, and two sleeps. `due` ends when an object expires or is to be
//! recycled in place. `pause` ends a wait after a failure, or the patience with jobs that make no progress:
//!
//! | pause | begins | until it ends | then |
//! |---|---|---|---|
//! | `Failed` | when a creation has failed, for 100 ms, doubling to 30 s | no creation begins | try again |
//! | `Unfinished` | when a job is not ready, for 3 s, doubling to 30 s | it counts as an idle object | if it ran all the time it is *stuck*, and no longer counts |
//!
//! Stuck creations are driven on as long as idle objects are short, beside others. Stuck recyclings are left to the
//! getters.
//!
//! It holds the pool weakly between its polls, so it does not keep the pool alive, and the drop of the pool notifies it
//! to end.

use std::future::{Future, poll_fn};
use std::panic::resume_unwind;
use std::pin::{Pin, pin};
use std::sync::Weak;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;

use super::job::{End, Failure, Job, begin_recycling};
use super::object::Pooled;
use super::{Manager, Pool};
use crate::panic::{Panics, drop_quietly, quiet};
use crate::sync::{EventListener, Exclusive};

const FIRST_RETRY: Duration = Duration::from_millis(100);
const FIRST_PATIENCE: Duration = Duration::from_secs(3);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Settings may ask for work at any rate; this is the highest.
const SHORTEST_SLEEP: Duration = Duration::from_millis(100);

/// The future of [`Pool::replenish`].
pub(super) struct Replenishing<'a, M: Manager> {
    pool: &'a Pool<M>,
    creations: Exclusive<Creations<M>>,
}

/// Creations for the sake of `min_idle`. They move between getters and maintenance in their boxes.
#[allow(clippy::vec_box)]
struct Creations<M: Manager> {
    /// Each counts as an idle object.
    running: Vec<Box<Job<M>>>,
    /// So many of these, from the front, ran already when the present wait for progress began.
    early: usize,
    /// Taken up and not ready, or out of patience.
    stuck: Vec<Box<Job<M>>>,
    /// An object was created since this was last looked at.
    has_created: bool,
}

impl<M: Manager> Creations<M> {
    const fn new() -> Self {
        Self { running: Vec::new(), early: 0, stuck: Vec::new(), has_created: false }
    }

    fn is_empty(&self) -> bool {
        self.running.is_empty() && self.stuck.is_empty()
    }

    /// Drives all of them, and returns the first failure of this poll.
    fn drive(&mut self, pool: &Pool<M>, cx: &mut Context<'_>) -> Result<(), Failure<M::Error>> {
        let now = pool.now(); // May panic, but not when there is something to lose.
        let mut first = None;
        for (jobs, are_stuck) in [(&mut self.running, false), (&mut self.stuck, true)] {
            let mut index = 0;
            // Also after a failure: the wake that led here may be the only one of the others, too.
            while let Some(job) = jobs.get_mut(index) {
                match job.poll(pool, cx) {
                    Poll::Pending => index += 1,
                    Poll::Ready(end) => {
                        drop_quietly([jobs.remove(index)]);
                        self.early -= usize::from(!are_stuck && index < self.early);
                        pool.state.lock().stuck -= usize::from(are_stuck);
                        let failure = finish_creation(pool, end, now).err();
                        self.has_created |= failure.is_none();
                        if first.is_none() {
                            first = failure;
                        } else {
                            drop_quietly(failure);
                        }
                    }
                }
            }
        }
        first.map_or(Ok(()), Err)
    }

    /// Counts those that have run for the whole wait as stuck from now on.
    fn lose_patience(&mut self, pool: &Pool<M>) {
        pool.change_quietly(|state, _| state.stuck += self.early);
        self.stuck.extend(self.running.drain(..std::mem::take(&mut self.early)));
    }

    /// Begins one more, if that is needed and possible.
    fn begin(&mut self, pool: &Pool<M>, cx: &mut Context<'_>) -> Result<bool, Failure<M::Error>> {
        let now = pool.now();
        let Some(mut job) = pool.state.lock().claim_spare(&pool.settings) else { return Ok(false) };
        match job.poll(pool, cx) {
            Poll::Pending if job.is_own() => self.running.push(job),
            Poll::Pending => {
                pool.state.lock().stuck += 1;
                self.stuck.push(job);
            }
            Poll::Ready(end) => {
                finish_creation(pool, end, now)?;
                self.has_created = true;
            }
        }
        Ok(true)
    }

    /// Leaves those that are stuck to the getters, unless more objects are needed.
    fn leave_stuck(&mut self, pool: &Pool<M>) {
        if !self.stuck.is_empty() && pool.state.lock().wants_stuck(&pool.settings) {
            self.leave(pool, false).discard();
        }
    }

    fn leave(&mut self, pool: &Pool<M>, all: bool) -> Panics {
        let stuck = std::mem::take(&mut self.stuck);
        pool.state.lock().stuck -= stuck.len();
        let running = if all { std::mem::take(&mut self.running) } else { Vec::new() };
        leave(pool, running.into_iter().chain(stuck))
    }
}

fn leave<M: Manager>(pool: &Pool<M>, jobs: impl IntoIterator<Item = Box<Job<M>>>) -> Panics {
    pool.change_and_catch(|state, deferred| jobs.into_iter().for_each(|job| state.leave(job, deferred))).1
}

fn finish_creation<M: Manager>(pool: &Pool<M>, end: End<M>, now: Option<Instant>) -> Result<(), Failure<M::Error>> {
    match end {
        End::Created { object, generation, may_be_old } => {
            let mut pooled = Box::new(Pooled::new(object, generation, now));
            (pooled.idle_since, pooled.is_new) = if may_be_old { (None, false) } else { (now, true) };
            pool.change_quietly(|state, deferred| {
                state.created(&mut pooled, &pool.settings);
                state.deliver(pooled, deferred);
            });
            Ok(())
        }
        End::Failed(failure, _) => {
            pool.change_quietly(|state, _| state.failed(true));
            Err(failure)
        }
        End::Recycled(_) => unreachable!("a creation recycles nothing"),
    }
}

impl<'a, M: Manager> Replenishing<'a, M> {
    pub(super) fn new(pool: &'a Pool<M>) -> Self {
        Self { pool, creations: Exclusive::new(Creations::new()) }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), M::Error>> {
        let (pool, creations) = (self.pool, self.creations.get_mut());
        if !creations.is_empty() && pool.is_closed() {
            // A job that another runtime has ruined would be begun afresh for nothing.
            creations.leave(pool, true).discard();
        }
        let mut replenish = || {
            creations.drive(pool, cx)?;
            while creations.running.is_empty() && creations.begin(pool, cx)? {}
            creations.leave_stuck(pool);
            Ok(creations.is_empty())
        };
        match replenish() {
            Ok(true) => Poll::Ready(Ok(())),
            Ok(false) => Poll::Pending,
            Err(Failure::Error(error)) => Poll::Ready(Err(error)),
            Err(Failure::Panic(payload)) => resume_unwind(payload),
        }
    }
}

impl<M: Manager> Drop for Replenishing<'_, M> {
    fn drop(&mut self) {
        self.creations.get_mut().leave(self.pool, true).resume();
    }
}

/// The future of [`Pool::maintenance`].
pub(super) async fn maintain<M, S, F>(pool: Weak<Pool<M>>, mut sleep: S)
where
    M: Manager,
    S: FnMut(Duration) -> F,
    F: Future,
{
    let mut maintenance = Maintenance::new(pool);
    let (mut due, mut pause) = (pin!(Sleep::new()), pin!(Sleep::new()));
    poll_fn(|cx| {
        let Some(wanted) = maintenance.poll(cx) else { return Poll::Ready(()) };
        // Without the pool from here on: this waits, in a thread it even blocks.
        for (timer, wanted) in [(&mut due, wanted.due), (&mut pause, wanted.pause)] {
            match wanted {
                Want::Same => {}
                Want::None => timer.as_mut().stop(),
                Want::Sleep(length) => timer.as_mut().start(length, maintenance.now(), &mut sleep),
            }
        }
        let [due, pause] = [&mut due, &mut pause].map(|timer| timer.as_mut().poll(cx, || maintenance.now()));
        if maintenance.wake_up(due, pause) {
            cx.waker().wake_by_ref(); // Let others run first, in case that sleeps are short.
        }
        Poll::Pending
    })
    .await;
}

struct Maintenance<M: Manager> {
    pool: Weak<Pool<M>>,
    signal: Option<EventListener>,
    creations: Creations<M>,
    /// An idle object that is recycled in place.
    check: Option<Box<Job<M>>>,
    /// It ran already when the present wait for progress began.
    is_check_early: bool,
    /// Objects may have expired, or be in need of a check.
    is_due: bool,
    pause: Option<Pause>,
    retry: Duration,
    patience: Duration,
    /// A sleep took no time: only the signal tells when to go on.
    is_sleepless: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pause {
    Failed,
    Unfinished,
}

/// The fate of the two sleeps.
struct Wanted {
    due: Want,
    pause: Want,
}

enum Want {
    Same,
    None,
    Sleep(Duration),
}

impl<M: Manager> Maintenance<M> {
    fn new(pool: Weak<Pool<M>>) -> Self {
        Self {
            pool,
            signal: None,
            creations: Creations::new(),
            check: None,
            is_check_early: false,
            is_due: true,
            pause: None,
            retry: FIRST_RETRY,
            patience: FIRST_PATIENCE,
            is_sleepless: false,
        }
    }

    /// Does what can be done now. `None`: the pool is closed or dropped.
    fn poll(&mut self, cx: &mut Context<'_>) -> Option<Wanted> {
        let pool = self.pool.upgrade()?;
        // Before it looks at the state: a change from now on is notified.
        self.listen(&pool, cx);
        if pool.is_closed() {
            return None;
        }
        let (mut due, mut failed) = (Want::Same, false);
        let mut panics = Panics::default();
        let survived = panics.catch(|| {
            if let Some(next) = self.look_after_idle(&pool, cx) {
                due = next.map_or(Want::None, Want::Sleep);
            }
            failed = self.refill(&pool, cx).is_err();
        });
        panics.discard();
        let pause = self.pause(failed || !survived);
        if self.is_sleepless {
            // Its own changes are no reason to go on.
            self.signal = None;
            self.listen(&pool, cx);
        }
        Some(Wanted { due, pause })
    }

    fn listen(&mut self, pool: &Pool<M>, cx: &mut Context<'_>) {
        let waker = quiet(cx.waker());
        let mut cx = Context::from_waker(&waker);
        while self.signal.as_mut().is_none_or(|signal| Pin::new(signal).poll(&mut cx).is_ready()) {
            if self.signal.is_some() && self.is_sleepless {
                (self.is_due, self.pause) = (true, None);
            }
            self.signal = Some(pool.upkeep.listen());
        }
    }

    /// Discards expired objects, and recycles those that are due, one after the other. Returns when more will be, if it
    /// looked for that.
    fn look_after_idle(&mut self, pool: &Pool<M>, cx: &mut Context<'_>) -> Option<Option<Duration>> {
        if self.check.is_none() && !self.is_due {
            return None;
        }
        let Some(now) = pool.now() else { return Some(None) };
        if let Some(Poll::Ready(end)) = self.check.as_mut().map(|job| job.poll(pool, cx)) {
            drop_quietly(self.check.take());
            finish_check(pool, end, now);
            (self.is_check_early, self.is_due) = (false, true);
        }
        if !std::mem::take(&mut self.is_due) {
            return None;
        }
        // A panic of an object's drop must cost neither the next sleep nor the creations.
        let mut next = pool.change_quietly(|state, deferred| state.maintain(now, &pool.settings, deferred));
        while self.check.is_none() {
            let unchecked = pool.state.lock().take_unchecked(&pool.settings, now);
            match unchecked.map(|pooled| begin_recycling(pooled, pool, Some(now), cx)) {
                Ok(Ok(end)) => finish_check(pool, end, now),
                Ok(Err(job)) => self.check = Some(job),
                Err(due) => {
                    next = next.into_iter().chain(due).min();
                    break;
                }
            }
        }
        Some(next.map(|next| next.saturating_duration_since(now).max(SHORTEST_SLEEP)))
    }

    /// Creates what `min_idle` asks for, unless the last attempt has just failed.
    fn refill(&mut self, pool: &Pool<M>, cx: &mut Context<'_>) -> Result<(), Failure<M::Error>> {
        self.creations.drive(pool, cx)?;
        while self.pause != Some(Pause::Failed) && self.creations.begin(pool, cx)? {}
        self.creations.leave_stuck(pool);
        Ok(())
    }

    /// Decides what to wait for besides the signal.
    fn pause(&mut self, has_failed: bool) -> Want {
        let is_busy = self.check.is_some() || !self.creations.running.is_empty();
        if std::mem::take(&mut self.creations.has_created) {
            self.retry = FIRST_RETRY;
        }
        // Several that fail one after the other in one pause are one attempt.
        if has_failed && self.pause != Some(Pause::Failed) {
            self.pause = Some(Pause::Failed);
            return Want::Sleep(longer(&mut self.retry));
        }
        match self.pause {
            None if is_busy => {
                self.pause = Some(Pause::Unfinished);
                self.creations.early = self.creations.running.len();
                self.is_check_early = self.check.is_some();
                Want::Sleep(longer(&mut self.patience))
            }
            Some(Pause::Failed) => Want::Same,
            Some(Pause::Unfinished) if is_busy => Want::Same,
            None | Some(Pause::Unfinished) => {
                (self.pause, self.retry, self.patience) = (None, FIRST_RETRY, FIRST_PATIENCE);
                Want::None
            }
        }
    }

    /// Takes note of what a sleep has ended. Returns `true` if there is something to do now.
    fn wake_up(&mut self, due: Slept, pause: Slept) -> bool {
        self.is_due |= due == Slept::Enough;
        if pause == Slept::Enough && self.pause.take() == Some(Pause::Unfinished) {
            self.lose_patience();
        }
        self.is_sleepless |= due == Slept::AtOnce || pause == Slept::AtOnce;
        due == Slept::Enough || pause == Slept::Enough
    }

    /// Gives up the jobs that have run for the whole wait.
    fn lose_patience(&mut self) {
        let Some(pool) = self.pool.upgrade() else { return };
        if self.creations.early == 0 && !self.is_check_early {
            self.patience = FIRST_PATIENCE; // All that ran have ended: there is progress.
        }
        self.creations.lose_patience(&pool);
        if std::mem::take(&mut self.is_check_early) {
            self.leave_check(&pool).discard();
            self.is_due = true; // The next one.
        }
    }

    fn leave_check(&mut self, pool: &Pool<M>) -> Panics {
        let Some(check) = self.check.take() else { return Panics::default() };
        let ((), panics) = pool.change_and_catch(|state, deferred| {
            state.checking -= 1;
            state.leave(check, deferred);
        });
        panics
    }

    /// Reads the clock of the pool.
    fn now(&self) -> Option<Instant> {
        let pool = self.pool.upgrade()?;
        let mut now = None;
        let mut panics = Panics::default();
        panics.catch(|| now = pool.now());
        panics.discard();
        now
    }
}

/// Returns how long to wait, and doubles that for the next time.
fn longer(pause: &mut Duration) -> Duration {
    std::mem::replace(pause, LONGEST_PAUSE.min(*pause * 2))
}

fn finish_check<M: Manager>(pool: &Pool<M>, end: End<M>, now: Instant) {
    match end {
        End::Recycled(mut pooled) => {
            pooled.metrics.recycled = Some(now);
            pool.change_quietly(|state, deferred| {
                state.checking -= 1;
                state.stats.recycled += 1;
                state.put_back(pooled, deferred);
            });
        }
        End::Failed(..) => {
            drop_quietly([end]);
            pool.change_quietly(|state, _| {
                state.checking -= 1;
                state.failed(false);
            });
        }
        End::Created { .. } => unreachable!("a recycling creates nothing"),
    }
}

impl<M: Manager> Drop for Maintenance<M> {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.upgrade() {
            self.leave_check(&pool).discard();
            self.creations.leave(&pool, true).resume();
        }
    }
}

pin_project! {
    /// A sleep of the user's.
    struct Sleep<F> {
        #[pin]
        future: Option<F>,
        length: Duration,
        // By the real time, and by the clock of the pool.
        began: (Instant, Option<Instant>),
        is_new: bool,
    }
}

/// The state of a sleep after a poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slept {
    NotYet,
    Enough,
    /// It took no time. To rely on such sleeps would be to spin.
    AtOnce,
}

impl<F: Future> Sleep<F> {
    fn new() -> Self {
        Self { future: None, length: Duration::ZERO, began: (Instant::now(), None), is_new: false }
    }

    fn start(self: Pin<&mut Self>, length: Duration, now: Option<Instant>, sleep: &mut impl FnMut(Duration) -> F) {
        let mut this = self.project();
        (*this.length, *this.began, *this.is_new) = (length, (Instant::now(), now), true);
        this.future.set(Some(sleep(length)));
    }

    fn stop(self: Pin<&mut Self>) {
        self.project().future.set(None);
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>, now: impl Fn() -> Option<Instant>) -> Slept {
        let mut this = self.project();
        let Some(future) = this.future.as_mut().as_pin_mut() else { return Slept::NotYet };
        let is_new = std::mem::take(this.is_new);
        if future.poll(cx).is_pending() {
            return Slept::NotYet;
        }
        this.future.set(None);
        // A thread blocks in the first poll, and a test advances its clock there.
        let by_pool = || now().zip(this.began.1).is_some_and(|(now, began)| now.duration_since(began) >= *this.length);
        if is_new && this.began.0.elapsed() < *this.length && !by_pool() { Slept::AtOnce } else { Slept::Enough }
    }
}
