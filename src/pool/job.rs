//! Work on a slot: creating its object, or recycling it.
//!
//! A job is a boxed future that owns its manager and object, so it belongs to the slot and not to the getter that began
//! it. The getter *drives* it: polls it with its own waker. A getter that is dropped, or served otherwise, leaves it
//! pending in the pool; another getter *takes it up* and drives it on from where it stands.
//!
//! | a job is | driven by | next |
//! |---|---|---|
//! | not begun (a creation that was granted) | no getter | begun by its getter; its slot is freed |
//! | own | the getter that began it | ends; pending |
//! | pending | no getter | taken up; discarded by `clear`, `close`, `resize`, expiry |
//! | taken up | a getter that has not polled it yet | ends; adopted; begun afresh |
//! | adopted | another getter than the one that began it, which has polled it | ends; pending; begun afresh |
//!
//! Its driver reports how a job ends, with one exception: a job that another runtime has ruined. Its timers and sockets
//! fail or panic once that runtime has ended, which is seen at the next poll. So a job that fails or panics in the
//! first poll after it was taken up is *begun afresh*, and so is an adopted one that panics, since its runtime may have
//! ended meanwhile. An adopted job that returns an error has failed: otherwise each of many impatient getters would
//! check the same dead object again. What is begun afresh is the driver's own.
//!
//! If a creation is ready in that first poll, its object may have been ready for a long time, unused: it is recycled
//! before it is handed out.
//!
//! **Memory.** The future of `recycle` borrows the object and the manager, so its box owns both. That box would be an
//! allocation per use; instead it stays with the object, and only the future in it is replaced.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use pin_project_lite::pin_project;

use super::object::Pooled;
use super::{Manager, Pool};
use crate::panic::{Guarded, drop_quietly};
use crate::sync::Exclusive;

pub(super) struct Job<M: Manager> {
    work: Work<M>,
    driver: Driver,
    /// The generation of its object, or of the object to be.
    pub(super) generation: u64,
    /// From then on it is discarded if it is pending.
    pub(super) expires_at: Option<Instant>,
}

enum Work<M: Manager> {
    /// `None` until it is begun.
    Create(Option<Exclusive<Pin<Box<Creation<M>>>>>),
    Recycle(Memory<M>),
}

type Creation<M> = dyn Future<Output = Result<<M as Manager>::Object, <M as Manager>::Error>> + Send;

/// The relation of a job to its driver: see the table above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Driver {
    Own,
    TakenUp,
    Adopted,
}

/// The end of a job. Its slot is still counted as it was.
pub(super) enum End<M: Manager> {
    Created {
        object: M::Object,
        generation: u64,
        /// It was ready when it was taken up.
        may_be_old: bool,
    },
    Recycled(Box<Pooled<M>>),
    /// With the object of a recycling, unless it was lost in a panic.
    Failed(Failure<M::Error>, Option<Box<Pooled<M>>>),
}

pub(super) enum Failure<E> {
    Error(E),
    Panic(Box<dyn Any + Send>),
}

impl<M: Manager> Job<M> {
    /// Returns the right to create an object. The creation begins at the first poll.
    pub(super) fn create() -> Box<Self> {
        Box::new(Self { work: Work::Create(None), driver: Driver::Own, generation: 0, expires_at: None })
    }

    pub(super) fn is_creation(&self) -> bool {
        matches!(self.work, Work::Create(_))
    }

    pub(super) fn has_begun(&self) -> bool {
        !matches!(self.work, Work::Create(None))
    }

    /// Returns `true` if its driver began it.
    pub(super) fn is_own(&self) -> bool {
        self.driver == Driver::Own
    }

    pub(super) fn has_expired(&self, now: Instant) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }

    /// Makes another getter its driver.
    pub(super) fn taken_up(mut self: Box<Self>) -> Box<Self> {
        if self.has_begun() {
            self.driver = Driver::TakenUp;
        }
        if self.is_creation() {
            self.expires_at = None; // Counted from the time when it is pending again.
        }
        self
    }

    /// Drives it on. A panic of user code is an [`End`], too.
    pub(super) fn poll(&mut self, pool: &Pool<M>, cx: &mut Context<'_>) -> Poll<End<M>> {
        loop {
            match catch(|| self.poll_work(pool, cx)).unwrap_or_else(|panic| Poll::Ready(End::Failed(panic, None))) {
                Poll::Pending => {
                    if self.driver == Driver::TakenUp {
                        self.driver = Driver::Adopted;
                    }
                    return Poll::Pending;
                }
                Poll::Ready(End::Failed(failure, pooled)) if self.is_retried(&failure, pooled.is_some()) => {
                    drop_quietly([failure]);
                    self.begin_afresh(pool, pooled);
                }
                Poll::Ready(End::Recycled(mut pooled)) => {
                    if let Work::Recycle(memory) = std::mem::replace(&mut self.work, Work::Create(None)) {
                        pooled.memory = Some(memory);
                    }
                    return Poll::Ready(End::Recycled(pooled));
                }
                end => return end,
            }
        }
    }

    fn poll_work(&mut self, pool: &Pool<M>, cx: &mut Context<'_>) -> Poll<End<M>> {
        let creation = match &mut self.work {
            Work::Create(creation) => creation,
            Work::Recycle(memory) => return memory.poll(cx),
        };
        let creation = creation.get_or_insert_with(|| {
            // Only now: the pool may have been cleared since this was granted.
            self.generation = pool.state.lock().generation;
            let manager = Arc::clone(&pool.manager);
            Exclusive::new(Box::pin(async move { manager.create().await }))
        });
        let (generation, may_be_old) = (self.generation, self.driver == Driver::TakenUp);
        Poll::Ready(match ready!(creation.get_mut().as_mut().poll(cx)) {
            Ok(object) => End::Created { object, generation, may_be_old },
            Err(error) => End::Failed(Failure::Error(error), None),
        })
    }

    /// Returns `true` if another runtime may be the cause of a failure, and there is something to begin afresh.
    fn is_retried(&self, failure: &Failure<M::Error>, has_object: bool) -> bool {
        let is_suspect = match failure {
            Failure::Error(_) => self.driver == Driver::TakenUp,
            Failure::Panic(_) => self.driver != Driver::Own,
        };
        is_suspect && (has_object || self.is_creation())
    }

    fn begin_afresh(&mut self, pool: &Pool<M>, pooled: Option<Box<Pooled<M>>>) {
        self.driver = Driver::Own;
        let work = pooled.map_or(Work::Create(None), |pooled| Work::Recycle(Memory::with(pooled, pool)));
        drop_quietly([std::mem::replace(&mut self.work, work)]);
    }
}

/// The box in which one object is recycled, again and again. The object is in there while that runs.
pub(super) struct Memory<M: Manager>(Exclusive<Pin<Box<dyn Recycle<M>>>>);

impl<M: Manager> Memory<M> {
    /// Puts an object into its box, to be recycled.
    #[inline]
    fn with(mut pooled: Box<Pooled<M>>, pool: &Pool<M>) -> Self {
        let mut memory = pooled.memory.take().unwrap_or_else(|| {
            let manager = Some(Arc::clone(&pool.manager));
            Self(Exclusive::new(Box::pin(Reused { recycle: recycle::<M>, manager, running: None })))
        });
        memory.0.get_mut().as_mut().begin(pooled);
        memory
    }

    #[inline]
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End<M>> {
        let Recycled { pooled, verdict } = ready!(self.0.get_mut().as_mut().poll(cx));
        Poll::Ready(match verdict {
            Ok(()) => End::Recycled(pooled),
            Err(failure) => End::Failed(failure, Some(pooled)),
        })
    }
}

/// Begins to recycle an object, which may end that at once; else returns the job, which is the caller's own.
#[inline]
pub(super) fn begin_recycling<M: Manager>(
    pooled: Box<Pooled<M>>,
    pool: &Pool<M>,
    now: Option<Instant>,
    cx: &mut Context<'_>,
) -> Result<End<M>, Box<Job<M>>> {
    // Not the idle time so far: `min_idle` may have protected it, and now it is wanted.
    let idle_end = now.zip(pool.settings.idle_timeout).and_then(|(now, longest)| now.checked_add(longest));
    let expires_at = pooled.expires_at.into_iter().chain(idle_end).min();
    let generation = pooled.generation;
    let mut memory = Memory::with(pooled, pool);
    match catch(|| memory.poll(cx)) {
        Ok(Poll::Ready(End::Recycled(mut pooled))) => {
            pooled.memory = Some(memory);
            Ok(End::Recycled(pooled))
        }
        Ok(Poll::Ready(end)) => Ok(end),
        Ok(Poll::Pending) => {
            Err(Box::new(Job { work: Work::Recycle(memory), driver: Driver::Own, generation, expires_at }))
        }
        Err(panic) => Ok(End::Failed(panic, None)),
    }
}

fn catch<R, E>(user_code: impl FnOnce() -> R) -> Result<R, Failure<E>> {
    catch_unwind(AssertUnwindSafe(user_code)).map_err(Failure::Panic)
}

/// The object, and how its recycling ended.
struct Recycled<M: Manager> {
    pooled: Box<Pooled<M>>,
    verdict: Result<(), Failure<M::Error>>,
}

async fn recycle<M: Manager>(manager: Arc<M>, pooled: Box<Pooled<M>>) -> (Arc<M>, Recycled<M>) {
    // An unwinding that gets here, from a drop, may drop the object.
    let mut guarded = Guarded(Some(pooled));
    let Pooled { object, metrics, .. } = guarded.0.as_deref_mut().expect("the object is here while it is recycled");
    let verdict = {
        let manager: &M = &manager;
        match catch(move || manager.recycle(object, metrics)) {
            Err(panic) => Err(panic),
            Ok(future) => {
                let mut future = pin!(future);
                // Caught here, where the object outlives it.
                poll_fn(|cx| match catch(|| future.as_mut().poll(cx)) {
                    Ok(polled) => polled.map_err(Failure::Error),
                    Err(panic) => Poll::Ready(Err(panic)),
                })
                .await
            }
        }
    };
    let pooled = guarded.0.take().expect("the object is here while it is recycled");
    (manager, Recycled { pooled, verdict })
}

trait Recycle<M: Manager>: Send {
    fn begin(self: Pin<&mut Self>, pooled: Box<Pooled<M>>);

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Recycled<M>>;
}

pin_project! {
    struct Reused<M, R, F> {
        recycle: R,
        // Here while nothing runs.
        manager: Option<Arc<M>>,
        // Stays when it has ended, until it is replaced.
        #[pin]
        running: Option<F>,
    }
}

impl<M, R, F> Recycle<M> for Reused<M, R, F>
where
    M: Manager,
    R: Fn(Arc<M>, Box<Pooled<M>>) -> F + Send,
    F: Future<Output = (Arc<M>, Recycled<M>)> + Send,
{
    fn begin(self: Pin<&mut Self>, pooled: Box<Pooled<M>>) {
        let mut this = self.project();
        let manager = this.manager.take().expect("one recycling ends before the next begins");
        let running = (this.recycle)(manager, pooled);
        this.running.set(Some(running));
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Recycled<M>> {
        let mut this = self.project();
        let running = this.running.as_mut().as_pin_mut().expect("a recycling begins before it is polled");
        let (manager, recycled) = ready!(running.poll(cx));
        *this.manager = Some(manager);
        Poll::Ready(recycled)
    }
}
