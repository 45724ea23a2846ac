//! Random operations on a pool, with a manager whose creations and recyclings end when an operation says so.
//!
//! The model is bookkeeping, not a second pool: every object and job is known with what has happened to it. What must hold:
//! no object is destroyed without a reason, however getters are dropped; the counts and statistics of the pool are those of
//! the book; if nothing fails and all work is ready at once, getters are served in the order of their first polls; and in
//! the end, when all work ends well and all objects are returned, no getter is left, though only those were polled that
//! were woken.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use arbitrary::{Arbitrary, Unstructured};
use stanchion::{Manager, Metrics, Order, OwnedObject, Pool};

use super::alarm::{Alarmed, allow_expected_panics};

#[derive(Debug, Arbitrary)]
enum Op {
    Get { polls: bool },
    Poll { which: u8 },
    PollWoken,
    Drop { which: u8 },
    TryGet,
    Return { which: u8 },
    Discard { which: u8 },
    Detach { which: u8 },
    Break { which: u8 },
    Add,
    Resize { to: u8 },
    Retain { mask: u8, panics: u8 },
    Clear { sure: u8 },
    Advance { seconds: u8 },
    Maintain,
    Replenish,
    Maintenance,
    Finish { which: u8, how: Ending },
    FinishAll { how: Ending },
    AtOnce { creates: Option<Ending>, recycles: Option<Ending> },
    Close { sure: u8 },
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Arbitrary)]
enum Ending {
    Good,
    Failure,
    Panic,
}

#[derive(Clone, Debug, Arbitrary)]
struct Rules {
    size: u8,
    min_idle: u8,
    max_waiting: Option<u8>,
    max_creating: Option<u8>,
    is_fifo: bool,
    max_lifetime: Option<u8>,
    idle_timeout: Option<u8>,
    recycle_after: Option<u8>,
    keepalive: Option<u8>,
    /// All work is ready at once and succeeds, and no operation changes that.
    is_strict: bool,
}

#[derive(Default)]
struct Book {
    jobs: Vec<Job>,
    at_once: [Option<Ending>; 2],
    objects: BTreeMap<usize, Entry>,
    seconds: u64,
    created: u64,
    /// The objects of creations with smaller numbers may be destroyed.
    excused_jobs: usize,
    /// The pool is larger than it may be: what is created may be destroyed.
    is_shrinking: bool,
    /// Objects that were destroyed without a reason.
    murdered: Vec<usize>,
}

struct Job {
    is_creation: bool,
    ending: Option<Ending>,
    waker: Option<Waker>,
    is_live: bool,
}

/// An object that the pool answers for.
#[derive(Default)]
struct Entry {
    /// It may be destroyed.
    is_excused: bool,
    is_broken: bool,
}

impl Book {
    /// What there is, and what is being created, may be destroyed.
    fn excuse_all(&mut self) {
        self.objects.values_mut().for_each(|entry| entry.is_excused = true);
        self.excused_jobs = self.jobs.len();
    }
}

#[derive(Clone, Default)]
struct Hands(Arc<Mutex<Book>>);

impl Hands {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, is_creation: bool) -> Work {
        let mut book = self.book();
        let ending = book.at_once[usize::from(is_creation)];
        book.jobs.push(Job { is_creation, ending, waker: None, is_live: true });
        Work { number: book.jobs.len() - 1, hands: self.clone() }
    }
}

/// A creation or recycling.
struct Work {
    number: usize,
    hands: Hands,
}

impl Future for Work {
    type Output = Result<usize, ()>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut book = self.hands.book();
        let job = &mut book.jobs[self.number];
        let Some(ending) = job.ending else {
            job.waker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        job.is_live = false;
        drop(book);
        match ending {
            Ending::Good => Poll::Ready(Ok(self.number)),
            Ending::Failure => Poll::Ready(Err(())),
            Ending::Panic => panic_any(Alarmed),
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let waker = {
            let job = &mut self.hands.book().jobs[self.number];
            job.is_live = false;
            job.waker.take()
        };
        drop(waker);
    }
}

struct Token {
    id: usize,
    hands: Hands,
}

impl Token {
    fn new(id: usize, hands: &Hands) -> Self {
        let mut book = hands.book();
        let entry = Entry { is_excused: id < book.excused_jobs || book.is_shrinking, is_broken: false };
        book.objects.insert(id, entry);
        drop(book);
        Self { id, hands: hands.clone() }
    }

    /// The pool no longer answers for it.
    fn take_out(self) {
        self.hands.book().objects.remove(&self.id);
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        let mut book = self.hands.book();
        if book.objects.remove(&self.id).is_some_and(|entry| !entry.is_excused && !entry.is_broken) {
            book.murdered.push(self.id);
        }
    }
}

impl Manager for Hands {
    type Object = Token;
    type Error = ();

    fn create(&self) -> impl Future<Output = Result<Token, ()>> + Send {
        let (work, hands) = (self.begin(true), self.clone());
        async move {
            let id = work.await?;
            hands.book().created += 1;
            Ok(Token::new(id, &hands))
        }
    }

    fn recycle(&self, object: &mut Token, _: &Metrics) -> impl Future<Output = Result<(), ()>> + Send {
        let (work, hands, id) = (self.begin(false), self.clone(), object.id);
        async move {
            struct Unfit<'a>(&'a Hands, usize, bool);
            impl Drop for Unfit<'_> {
                fn drop(&mut self) {
                    if let (true, Some(entry)) = (self.2, self.0.book().objects.get_mut(&self.1)) {
                        entry.is_excused = true;
                    }
                }
            }
            let number = work.number;
            let outcome = {
                let mut unfit = Unfit(&hands, id, false);
                let mut work = std::pin::pin!(work);
                std::future::poll_fn(|cx| {
                    // A panic leaves it as set here.
                    unfit.2 = hands.book().jobs[number].ending.is_some_and(|ending| ending != Ending::Good);
                    work.as_mut().poll(cx)
                })
                .await
            };
            outcome.map(drop)
        }
    }

    fn is_broken(&self, object: &mut Token) -> bool {
        self.book().objects[&object.id].is_broken
    }
}

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

type Waiting<'a> = Pin<Box<dyn Future<Output = Option<OwnedObject<Hands>>> + 'a>>;

struct Waiter<'a> {
    /// The number of its first poll, if it is a getter and was polled.
    arrival: Option<usize>,
    is_getter: bool,
    future: Waiting<'a>,
    woken: Arc<Flag>,
}

struct Run<'a> {
    pool: &'a Arc<Pool<Hands>>,
    hands: Hands,
    is_strict: bool,
    waiters: Vec<Waiter<'a>>,
    held: Vec<OwnedObject<Hands>>,
    arrivals: usize,
    last_served: Option<usize>,
    gets: u64,
    is_closed: bool,
}

/// Runs the operations that the bytes encode.
pub(crate) fn run(data: &[u8]) {
    allow_expected_panics();
    let mut data = Unstructured::new(data);
    let Ok(rules) = data.arbitrary::<Rules>() else { return };
    let hands = Hands::default();
    if rules.is_strict {
        hands.book().at_once = [Some(Ending::Good); 2];
    }
    let (start, clock) = (Instant::now(), hands.clone());
    let seconds = |seconds: u8| Duration::from_secs(u64::from(1 + seconds % 9));
    let mut builder = Pool::builder(hands.clone())
        .max_size(1 + usize::from(rules.size % 6))
        .min_idle(usize::from(rules.min_idle % 4))
        .order(if rules.is_fifo { Order::Fifo } else { Order::Lifo })
        .clock(move || start + Duration::from_secs(clock.book().seconds));
    if let Some(limit) = rules.max_waiting {
        builder = builder.max_waiting(usize::from(limit % 8));
    }
    if let Some(limit) = rules.max_creating {
        builder = builder.max_creating(1 + usize::from(limit % 3));
    }
    for (set, time) in [
        (PoolSetting::max_lifetime as fn(_, _) -> _, rules.max_lifetime),
        (PoolSetting::idle_timeout, rules.idle_timeout),
        (PoolSetting::recycle_after, rules.recycle_after),
        (PoolSetting::keepalive, rules.keepalive),
    ] {
        if let Some(time) = time {
            builder = set(builder, seconds(time));
        }
    }
    let pool = Arc::new(builder.build());
    let mut run = Run {
        pool: &pool,
        hands: hands.clone(),
        is_strict: rules.is_strict,
        waiters: Vec::new(),
        held: Vec::new(),
        arrivals: 0,
        last_served: None,
        gets: 0,
        is_closed: false,
    };
    while let Ok(op) = data.arbitrary::<Op>() {
        if data.is_empty() {
            break;
        }
        run.step(&op, start);
        run.check();
    }
    run.end();
    drop(pool);
    let book = hands.book();
    assert!(book.objects.is_empty() && book.jobs.iter().all(|job| !job.is_live), "nothing outlives the pool");
}

type PoolSetting = stanchion::PoolBuilder<Hands>;

/// Runs what may panic as an operation has told it to.
fn survive<R>(act: impl FnOnce() -> R) -> Option<R> {
    match catch_unwind(AssertUnwindSafe(act)) {
        Ok(result) => Some(result),
        Err(payload) if payload.is::<Alarmed>() => None,
        Err(payload) => resume_unwind(payload),
    }
}

fn pick<T>(which: u8, among: &[T]) -> Option<usize> {
    (!among.is_empty()).then(|| usize::from(which) % among.len())
}

impl<'a> Run<'a> {
    fn step(&mut self, op: &Op, start: Instant) {
        let pool = self.pool;
        match *op {
            Op::Get { polls } => {
                let get = pool.clone().get_owned();
                self.wait(true, Box::pin(async { get.await.ok() }), polls);
            }
            Op::Poll { which } => drop(pick(which, &self.waiters).map(|at| self.poll(at))),
            Op::PollWoken => self.poll_woken(),
            Op::Drop { which } => {
                if let Some(at) = pick(which, &self.waiters) {
                    let waiter = self.waiters.remove(at);
                    survive(|| drop(waiter));
                }
            }
            Op::TryGet => {
                let object = survive(|| pool.clone().try_get_owned()).flatten();
                self.gets += u64::from(object.is_some());
                self.held.extend(object);
            }
            Op::Return { which } => drop(pick(which, &self.held).map(|at| drop(self.held.remove(at)))),
            Op::Discard { which } => {
                if let Some(at) = pick(which, &self.held) {
                    let object = self.held.remove(at);
                    self.hands.book().objects.get_mut(&object.id).expect("it is held").is_excused = true;
                    OwnedObject::discard(object);
                }
            }
            Op::Detach { which } => {
                if let Some(at) = pick(which, &self.held) {
                    OwnedObject::detach(self.held.remove(at)).take_out();
                }
            }
            Op::Break { which } => {
                if let Some(at) = pick(which, &self.held) {
                    self.hands.book().objects.get_mut(&self.held[at].id).expect("it is held").is_broken = true;
                }
            }
            Op::Add => {
                let id = 1_000_000 + self.hands.book().jobs.len() * 1_000 + self.arrivals + self.held.len();
                if !self.hands.book().objects.contains_key(&id) {
                    let _ = pool.add(Token::new(id, &self.hands)).map_err(Token::take_out);
                }
            }
            Op::Resize { to } => {
                self.hands.book().excuse_all();
                self.hands.book().is_shrinking = true;
                pool.resize(usize::from(to % 6));
            }
            Op::Retain { mask, panics } => {
                let mut seen = 0;
                let keep = |object: &Token, _: &Metrics| {
                    seen += 1;
                    if seen == panics {
                        panic_any(Alarmed);
                    }
                    mask >> (object.id % 8) & 1 == 0
                };
                survive(|| pool.retain(keep)).into_iter().flatten().for_each(Token::take_out);
            }
            Op::Clear { sure } if sure % 4 == 0 => {
                self.hands.book().excuse_all();
                pool.clear();
            }
            Op::Clear { .. } => {}
            Op::Advance { seconds } => {
                let mut book = self.hands.book();
                book.seconds += u64::from(seconds % 5);
                book.excuse_all();
            }
            Op::Maintain => {
                let now = start + Duration::from_secs(self.hands.book().seconds);
                pool.maintain(now);
            }
            Op::Replenish => self.wait(false, Box::pin(async { pool.replenish().await.ok().and(None) }), true),
            Op::Maintenance => {
                let maintenance = Pool::maintenance(pool, |_| std::future::pending::<()>());
                self.wait(false, Box::pin(async { (maintenance.await, None).1 }), true);
            }
            Op::Finish { which, how } => self.finish(Some(which), how),
            Op::FinishAll { how } => self.finish(None, how),
            Op::AtOnce { creates, recycles } if !self.is_strict => self.hands.book().at_once = [recycles, creates],
            Op::AtOnce { .. } => {}
            Op::Close { sure } if sure % 32 == 0 => {
                self.hands.book().excuse_all();
                pool.close();
                self.is_closed = true;
            }
            Op::Close { .. } => {}
            Op::Closed => self.wait(false, Box::pin(async { (pool.closed().await, None).1 }), true),
        }
    }

    fn wait(&mut self, is_getter: bool, future: Waiting<'a>, polls: bool) {
        self.waiters.push(Waiter { arrival: None, is_getter, future, woken: Arc::default() });
        if polls {
            self.poll(self.waiters.len() - 1);
        }
    }

    fn poll(&mut self, at: usize) {
        let waiter = &mut self.waiters[at];
        if waiter.is_getter && waiter.arrival.is_none() {
            waiter.arrival = Some(self.arrivals);
            (self.arrivals, self.gets) = (self.arrivals + 1, self.gets + 1);
        }
        waiter.woken.0.store(false, Relaxed);
        let waker = Waker::from(waiter.woken.clone());
        let polled = survive(|| waiter.future.as_mut().poll(&mut Context::from_waker(&waker)));
        if polled.as_ref().is_some_and(Poll::is_pending) {
            return;
        }
        // Served, refused or panicked.
        let waiter = self.waiters.remove(at);
        if let Some(Poll::Ready(Some(object))) = polled {
            self.last_served = self.last_served.max(waiter.arrival);
            self.held.push(object);
        }
    }

    fn poll_woken(&mut self) {
        while let Some(at) = self.waiters.iter().position(|waiter| waiter.woken.0.load(Relaxed)) {
            self.poll(at);
        }
    }

    fn finish(&mut self, which: Option<u8>, how: Ending) {
        let how = if self.is_strict { Ending::Good } else { how };
        let wakers: Vec<_> = {
            let mut book = self.hands.book();
            let mut live: Vec<_> = book.jobs.iter_mut().filter(|job| job.is_live && job.ending.is_none()).collect();
            if let Some(which) = which {
                let at = pick(which, &live);
                live = at.map(|at| live.swap_remove(at)).into_iter().collect();
            }
            live.into_iter()
                .filter_map(|job| {
                    job.ending = Some(how);
                    job.waker.take()
                })
                .collect()
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    fn check(&mut self) {
        self.pool.validate();
        let (status, stats, book) = (self.pool.status(), self.pool.stats(), self.hands.book());
        assert_eq!(book.murdered, [0; 0], "healthy objects were destroyed");
        assert_eq!(status.size, status.idle + status.in_use + status.creating);
        assert_eq!(status.idle + status.in_use, book.objects.len(), "{status:?}");
        let creating = book.jobs.iter().filter(|job| job.is_creation && job.is_live).count();
        assert!(status.creating >= creating, "{status:?}, {creating}");
        assert_eq!(self.pool.is_closed(), self.is_closed);
        assert_eq!((stats.gets, stats.created), (self.gets, book.created));
        assert!(stats.abandoned <= stats.waits && stats.waits <= stats.gets, "{stats:?}");
        drop(book);
        self.hands.book().is_shrinking = status.size > status.max_size;
        if status.size > status.max_size {
            self.hands.book().excuse_all(); // What was being created when the pool shrank.
        }
        if self.is_strict && !self.is_closed {
            self.poll_woken();
            let first = self.waiters.iter().filter(|waiter| waiter.is_getter).filter_map(|waiter| waiter.arrival).min();
            assert!(first.is_none_or(|first| self.last_served < Some(first)), "{first:?} waits");
        }
    }

    /// All work ends well, and all objects are returned: no getter is left.
    fn end(mut self) {
        self.hands.book().at_once = [Some(Ending::Good); 2];
        self.pool.resize(3);
        for _ in 0..2 * self.waiters.len() + 9 {
            for at in (0..self.waiters.len()).rev() {
                if self.waiters[at].is_getter && self.waiters[at].arrival.is_none() {
                    self.poll(at);
                }
            }
            self.finish(None, Ending::Good);
            self.poll_woken();
            self.held.clear();
            self.poll_woken();
            self.pool.validate();
        }
        assert!(!self.waiters.iter().any(|waiter| waiter.is_getter), "a getter is left: {:?}", self.pool);
        self.pool.close();
        self.is_closed = true;
        drop(self.waiters);
        assert_eq!(self.pool.status().size, 0);
    }
}
