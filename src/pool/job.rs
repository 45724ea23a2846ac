//! Work on a slot: creating its object, or recycling it.
//!
//! A job is a boxed future that owns what it works with, so it belongs to the slot and not to the getter that began it. The
//! getter *drives* it: polls it with its own waker. A getter that is dropped, or served otherwise, leaves it pending in the
//! pool; another getter *takes it up* and drives it on from where it stands.
//!
//! | a job is | driven by | next |
//! |---|---|---|
//! | not begun (a creation that was granted) | no one | begun by its getter; its slot is freed |
//! | own | the getter that began it | ends; pending |
//! | pending | no one | taken up; discarded by `clear`, `close`, `resize`, expiry |
//! | found | a getter that has taken it up and not polled it yet | ends; adopted; begun afresh |
//! | adopted | a getter that has polled it at least once | ends; pending; begun afresh |
//!
//! How a job ends is the affair of its driver, with one exception: the remains of another runtime. Its timers and sockets
//! fail or panic once that runtime has ended, and no one reported it when it happened. So a found job that fails or panics
//! is *begun afresh*, and so is an adopted one that panics, since its runtime may have ended meanwhile. An adopted job that
//! returns an error has failed: otherwise a dead object could be checked by one impatient getter after the other for ever.
//! What is begun afresh is the driver's own.
//!
//! An object that a found creation yields may be old, for all that is known: it is recycled before it is handed out.
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

type Payload = Box<dyn Any + Send>;

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

/// How the driver of a job came by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Driver {
    Own,
    Found,
    Adopted,
}

/// The end of a job. Its slot is still counted as it was.
pub(super) enum End<M: Manager> {
    /// `found`: perhaps a long time ago.
    Created {
        object: M::Object,
        generation: u64,
        found: bool,
    },
    NotCreated(M::Error),
    Recycled(Box<Pooled<M>>),
    Unfit(Box<Pooled<M>>, M::Error),
    /// With the object, unless it was lost in the panic.
    Panicked(Payload, Option<Box<Pooled<M>>>),
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

    /// Makes another getter its driver.
    pub(super) fn taken_up(mut self: Box<Self>) -> Box<Self> {
        if self.has_begun() {
            self.driver = Driver::Found;
        }
        if self.is_creation() {
            self.expires_at = None; // It counts from when no getter wants it.
        }
        self
    }

    /// Drives it on. User code that panics is an [`End`], too.
    pub(super) fn poll(&mut self, pool: &Pool<M>, cx: &mut Context<'_>) -> Poll<End<M>> {
        loop {
            if !self.has_begun() {
                // Only now: the pool may have been cleared since this was granted.
                self.generation = pool.state.lock().generation;
            }
            let polled = catch(|| self.work.poll(pool, cx));
            let end = match polled.unwrap_or_else(|payload| Poll::Ready(End::Panicked(payload, None))) {
                Poll::Ready(end) => end,
                Poll::Pending => {
                    if self.driver == Driver::Found {
                        self.driver = Driver::Adopted;
                    }
                    return Poll::Pending;
                }
            };
            match (self.driver, end) {
                (driver, End::Created { object, .. }) => {
                    let found = driver == Driver::Found;
                    return Poll::Ready(End::Created { object, generation: self.generation, found });
                }
                (Driver::Found, End::NotCreated(error)) => {
                    drop_quietly([error]);
                    self.begin_afresh(pool, None);
                }
                (Driver::Found, End::Unfit(pooled, error)) => {
                    drop_quietly([error]);
                    self.begin_afresh(pool, Some(pooled));
                }
                (Driver::Found | Driver::Adopted, End::Panicked(payload, pooled))
                    if pooled.is_some() || self.is_creation() =>
                {
                    drop_quietly([payload]);
                    self.begin_afresh(pool, pooled);
                }
                (_, End::Recycled(mut pooled)) => {
                    if let Work::Recycle(memory) = std::mem::replace(&mut self.work, Work::Create(None)) {
                        pooled.memory = Some(memory);
                    }
                    return Poll::Ready(End::Recycled(pooled));
                }
                (_, end) => return Poll::Ready(end),
            }
        }
    }

    fn begin_afresh(&mut self, pool: &Pool<M>, pooled: Option<Box<Pooled<M>>>) {
        self.driver = Driver::Own;
        let work = pooled.map_or(Work::Create(None), |pooled| Work::Recycle(Memory::with(pooled, pool)));
        drop_quietly([std::mem::replace(&mut self.work, work)]);
    }
}

impl<M: Manager> Work<M> {
    fn poll(&mut self, pool: &Pool<M>, cx: &mut Context<'_>) -> Poll<End<M>> {
        match self {
            Self::Create(creation) => {
                let creation = creation.get_or_insert_with(|| {
                    let manager = Arc::clone(&pool.manager);
                    Exclusive::new(Box::pin(async move { manager.create().await }))
                });
                Poll::Ready(match ready!(creation.get_mut().as_mut().poll(cx)) {
                    Ok(object) => End::Created { object, generation: 0, found: false },
                    Err(error) => End::NotCreated(error),
                })
            }
            Self::Recycle(memory) => memory.poll(cx),
        }
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
            Ok(Ok(())) => End::Recycled(pooled),
            Ok(Err(error)) => End::Unfit(pooled, error),
            Err(payload) => End::Panicked(payload, Some(pooled)),
        })
    }
}

/// Begins to recycle an object, which may end that at once; else returns the job, which is the caller's own.
#[inline]
pub(super) fn begin_recycling<M: Manager>(
    pooled: Box<Pooled<M>>,
    pool: &Pool<M>,
    cx: &mut Context<'_>,
) -> Result<End<M>, Box<Job<M>>> {
    let (generation, expires_at) = (pooled.generation, pool.settings.ends(&pooled));
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
        Err(payload) => Ok(End::Panicked(payload, None)),
    }
}

fn catch<R>(user_code: impl FnOnce() -> R) -> Result<R, Payload> {
    catch_unwind(AssertUnwindSafe(user_code))
}

/// The object, and how its recycling ended.
struct Recycled<M: Manager> {
    pooled: Box<Pooled<M>>,
    verdict: Result<Result<(), M::Error>, Payload>,
}

async fn recycle<M: Manager>(manager: Arc<M>, pooled: Box<Pooled<M>>) -> (Arc<M>, Recycled<M>) {
    // An unwinding that gets here, from a drop, may drop the object.
    let mut guarded = Guarded(Some(pooled));
    let Pooled { object, metrics, .. } = guarded.0.as_deref_mut().expect("the object is here while it is recycled");
    let verdict = {
        let manager: &M = &manager;
        match catch(move || manager.recycle(object, metrics)) {
            Err(payload) => Err(payload),
            Ok(future) => {
                let mut future = pin!(future);
                // Caught here, where the object outlives it.
                poll_fn(|cx| {
                    let polled = catch(|| future.as_mut().poll(cx));
                    polled.map_or_else(|payload| Poll::Ready(Err(payload)), |polled| polled.map(Ok))
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
