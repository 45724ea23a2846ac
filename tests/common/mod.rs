//! Helpers of the tests: futures polled by hand, and wakers that count, log, or run user code.

// Each test crate uses a part of this.
#![allow(dead_code, unused_imports, unused_macros)]

pub(crate) mod hooks;

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::process::Command;
use std::sync::Mutex as StdMutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use stanchion::{LruCache, Manager, Mutex, Pool, Semaphore, Status};

/// Checks the invariants, in builds that can.
pub(crate) trait Check {
    fn check(&self);
}

impl Check for Semaphore {
    fn check(&self) {
        self.validate();
    }
}

impl<T: ?Sized> Check for Mutex<T> {
    fn check(&self) {
        self.validate();
    }
}

impl<M: Manager> Check for Pool<M> {
    /// One snapshot adds up, too.
    fn check(&self) {
        self.validate();
        let Status { size, idle, in_use, creating, waiting, .. } = self.status();
        assert_eq!(size, idle + in_use + creating, "a snapshot that does not add up");
        assert!(waiting == 0 || idle == 0, "a getter waits beside an idle object");
        assert!(!self.is_closed() || (waiting, idle) == (0, 0), "it is closed");
    }
}

impl<K, V, S> Check for LruCache<K, V, S> {
    /// The weight is within the capacity; without a weigher it is the number of entries.
    fn check(&self) {
        self.validate();
        let weight = self.weight();
        assert!(weight <= self.capacity() as u64, "its weight is {weight}");
    }
}

/// Checks the invariants and returns (free permits, waiters).
pub(crate) fn state(semaphore: &Semaphore) -> (usize, usize) {
    semaphore.check();
    (semaphore.available_permits(), semaphore.waiters())
}

/// Returns true if the internal lock of this semaphore or mutex is taken right now: its `Debug` omits the waiters then.
///
/// For user code that must never run under that lock, in tests without another thread at work: if it does run under it,
/// nothing hangs.
pub(crate) fn is_locked_inside(semaphore: &Semaphore) -> bool {
    !format!("{semaphore:?}").contains("waiters")
}

/// Counts its wakes.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicUsize);

impl Counter {
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// The numbers of the waiters that were woken, in order.
#[derive(Debug, Default)]
pub(crate) struct Log(StdMutex<Vec<usize>>);

impl Log {
    pub(crate) fn push(&self, entry: usize) {
        self.0.lock().unwrap().push(entry);
    }

    /// The entries since the last call.
    pub(crate) fn take(&self) -> Vec<usize> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    /// A waker that writes `entry`.
    pub(crate) fn waker(self: &Arc<Self>, entry: usize) -> Waker {
        struct Line(Arc<Log>, usize);
        impl Wake for Line {
            fn wake(self: Arc<Self>) {
                self.0.push(self.1);
            }
        }
        Waker::from(Arc::new(Line(self.clone(), entry)))
    }

    /// A waker that writes `entry` and then panics with it.
    pub(crate) fn panicking_waker(self: &Arc<Self>, entry: usize) -> Waker {
        let log = self.clone();
        let waker = hooks::Hooks::new().on_wake(move || {
            log.push(entry);
            panic!("waker {entry}");
        });
        waker.waker()
    }
}

/// Polls once, with this waker.
pub(crate) fn poll_with<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(waker))
}

/// Polls once, with a waker that does nothing.
pub(crate) fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll_with(future, Waker::noop())
}

/// The output of a future that is ready.
#[track_caller]
pub(crate) fn ready<F: Future + Unpin>(future: &mut F) -> F::Output {
    match poll(future) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("not ready"),
    }
}

/// A future in the hands of the test, with a waker that counts.
#[derive(Debug)]
pub(crate) struct Task<F> {
    future: F,
    counter: Arc<Counter>,
}

impl<F: Future + Unpin> Task<F> {
    /// Polls nothing yet.
    pub(crate) fn new(future: F) -> Self {
        Self { future, counter: Arc::default() }
    }

    /// Polls once, which must leave it waiting.
    #[track_caller]
    pub(crate) fn waiting(future: F) -> Self {
        let mut task = Self::new(future);
        assert!(task.poll().is_pending(), "ready at the first poll");
        task
    }

    pub(crate) fn poll(&mut self) -> Poll<F::Output> {
        poll_with(&mut self.future, &Waker::from(self.counter.clone()))
    }

    pub(crate) fn is_pending(&mut self) -> bool {
        self.poll().is_pending()
    }

    /// Polls, which must complete it.
    #[track_caller]
    pub(crate) fn ready(&mut self) -> F::Output {
        match self.poll() {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("not ready"),
        }
    }

    /// The future, to be polled with another waker.
    pub(crate) fn future_mut(&mut self) -> &mut F {
        &mut self.future
    }

    /// The number of wakes so far.
    pub(crate) fn wakes(&self) -> usize {
        self.counter.count()
    }
}

/// The message with which `action` panics.
#[track_caller]
pub(crate) fn panic_of<R>(action: impl FnOnce() -> R) -> String {
    match catch_unwind(AssertUnwindSafe(action)) {
        Ok(_) => panic!("it should have panicked"),
        Err(payload) => message(&*payload),
    }
}

fn message(payload: &(dyn Any + Send)) -> String {
    match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "a payload that is no text".to_owned(),
    }
}

/// Lets other threads run until `condition` holds.
pub(crate) fn until(mut condition: impl FnMut() -> bool) {
    // Not a measurement: a condition that never holds must fail and not hang. A panic would wait for threads that hang.
    let patience = Instant::now() + Duration::from_secs(120);
    while !condition() {
        if Instant::now() > patience {
            eprintln!("{:?}: the awaited condition never came true", std::thread::current().name());
            std::process::abort();
        }
        std::thread::yield_now();
    }
}

/// Runs `body` on a thread of its own, and fails instead of hanging if it never ends.
#[track_caller]
pub(crate) fn ends(body: impl FnOnce() + Send + 'static) {
    let (done, end) = mpsc::channel();
    thread::spawn(move || drop(done.send(catch_unwind(AssertUnwindSafe(body)))));
    match end.recv_timeout(Duration::from_secs(120)) {
        Ok(Ok(())) => {}
        Ok(Err(payload)) => resume_unwind(payload),
        Err(_) => panic!("it hangs: a wake-up is lost, or user code runs under the lock"),
    }
}

/// Runs `body` in a process of its own, so that an abort is a failure of the test `name` and not of all.
#[track_caller]
pub(crate) fn survives(name: &str, body: impl FnOnce()) {
    const VARIABLE: &str = "STANCHION_TEST_ALONE";
    if std::env::var_os(VARIABLE).is_some_and(|alone| alone == name) {
        return body();
    }
    let program = std::env::current_exe().unwrap();
    let child = Command::new(program).args([name, "--exact", "--nocapture"]).env(VARIABLE, name).output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&child.stdout), String::from_utf8_lossy(&child.stderr));
    assert!(child.status.success(), "{}\n{stdout}\n{stderr}", child.status);
    assert!(stdout.contains("1 passed"), "no test has this name: {name}");
}

/// The name of the function that calls this, as libtest calls it: with its modules, without its crate.
macro_rules! name_of_test {
    () => {{
        fn here() {}
        let path = std::any::type_name_of_val(&here).trim_end_matches("::here");
        path.split_once("::").expect("a crate and a function").1
    }};
}
pub(crate) use name_of_test;

/// Runs the rest of a test in a process of its own, so that an abort fails this test only.
macro_rules! does_not_abort {
    ($body:expr) => {
        $crate::common::survives($crate::common::name_of_test!(), $body)
    };
}
pub(crate) use does_not_abort;

/// The last poll of a future that has two wakers to drop, both of which panic then: the one of its poll before, since it
/// has been served and was not woken yet, and a clone that was not needed.
///
/// `wait` makes futures that wait for what `serve` does.
pub(crate) fn poll_with_two_wakers<F: Future + Unpin>(
    wait: impl Fn() -> F,
    serve: impl FnOnce() + Send + 'static,
) -> thread::Result<Poll<F::Output>> {
    let (begun, armed) = (mpsc::channel(), Arc::new(AtomicUsize::new(0)));
    let (first_is_woken, polled) = (StdMutex::new(begun.0), Arc::new(Barrier::new(2)));
    let waits = polled.clone();
    // Those beyond the first batch are not woken as long as the first is.
    let first = hooks::Hooks::new().on_wake(move || {
        first_is_woken.lock().unwrap().send(()).unwrap();
        waits.wait();
    });
    let mut others: Vec<F> = (0..20).map(|_| wait()).collect();
    assert!(poll_with(&mut others[0], &first.waker()).is_pending());
    assert!(others[1..].iter_mut().all(|future| poll(future).is_pending()));

    let panics_when_dropped = || {
        let armed = armed.clone();
        hooks::Hooks::new().on_drop(move || assert_eq!(armed.load(Ordering::SeqCst), 0, "the drop"))
    };
    let mut last = wait();
    assert!(poll_with(&mut last, &panics_when_dropped().waker()).is_pending());
    let (server, is_served) = (StdMutex::new(Some(serve)), StdMutex::new(begun.1));
    let thread = Arc::new(StdMutex::new(None));
    let serves = thread.clone();
    let waker = panics_when_dropped().on_clone(move || {
        if let Some(serve) = server.lock().unwrap().take() {
            *serves.lock().unwrap() = Some(thread::spawn(serve));
            is_served.lock().unwrap().recv().unwrap();
        }
    });
    let waker = waker.waker();
    armed.store(1, Ordering::SeqCst);
    let outcome = catch_unwind(AssertUnwindSafe(|| poll_with(&mut last, &waker)));
    armed.store(0, Ordering::SeqCst);
    polled.wait();
    let serves = thread.lock().unwrap().take().expect("it was cloned");
    serves.join().unwrap();
    outcome
}

/// Runs `body`, and aborts with the state of `shared` if nothing moves for a long time: a lost wake-up is silent.
pub(crate) fn watched<T: std::fmt::Debug + Send + Sync + 'static>(
    progress: &Arc<AtomicUsize>,
    shared: &Arc<T>,
    body: impl FnOnce(),
) {
    let (done, is_done) = mpsc::channel::<()>();
    let (progress, shared) = (progress.clone(), shared.clone());
    let watch = thread::spawn(move || {
        let mut before = usize::MAX;
        while is_done.recv_timeout(Duration::from_secs(60)) == Err(mpsc::RecvTimeoutError::Timeout) {
            let now = progress.load(Ordering::Relaxed);
            if now == before {
                eprintln!("nothing has moved for a minute, after {now} operations: {shared:?}");
                std::process::abort();
            }
            before = now;
        }
    });
    let outcome = catch_unwind(AssertUnwindSafe(body));
    drop(done);
    watch.join().unwrap();
    outcome.unwrap_or_else(|payload| resume_unwind(payload));
}

/// Lets other tasks run, on any executor.
pub(crate) async fn yield_now() {
    let mut yielded = false;
    poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Polls at most `polls` times, lets other tasks run in between, and then gives up.
pub(crate) async fn with_patience<F: Future + Unpin>(mut future: F, polls: usize) -> Option<F::Output> {
    for _ in 0..polls {
        let outcome = poll_fn(|context| Poll::Ready(Pin::new(&mut future).poll(context))).await;
        if let Poll::Ready(output) = outcome {
            return Some(output);
        }
        yield_now().await;
    }
    None
}

/// Polls until it is ready, or at most so many times.
pub(crate) async fn within<F: Future + Unpin>(future: F, polls: Option<usize>) -> Option<F::Output> {
    match polls {
        Some(polls) => with_patience(future, polls).await,
        None => Some(future.await),
    }
}

/// Counts the living of something: now, at most, and ever made.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    now: AtomicUsize,
    most: AtomicUsize,
    made: AtomicUsize,
}

/// One of those that a gauge counts.
#[derive(Debug)]
pub(crate) struct Counted(Arc<Gauge>);

impl Gauge {
    pub(crate) fn count(self: &Arc<Self>) -> Counted {
        self.made.fetch_add(1, Ordering::SeqCst);
        self.most.fetch_max(self.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        Counted(self.clone())
    }

    /// Now, at the most, and ever.
    pub(crate) fn read(&self) -> (usize, usize, usize) {
        let [now, most, made] = [&self.now, &self.most, &self.made].map(|count| count.load(Ordering::SeqCst));
        (now, most, made)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Asserts that these are the numbers, in this order.
#[track_caller]
pub(crate) fn assert_numbers(got: &[usize], wanted: impl IntoIterator<Item = usize>) {
    assert_eq!(got, wanted.into_iter().collect::<Vec<_>>());
}

/// Time that passes when the test says so.
#[derive(Clone, Debug)]
pub(crate) struct Clock(Arc<StdMutex<(Instant, usize)>>);

impl Clock {
    pub(crate) fn new() -> Self {
        Self(Arc::new(StdMutex::new((Instant::now(), 0))))
    }

    pub(crate) fn now(&self) -> Instant {
        self.0.lock().unwrap().0
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.0.lock().unwrap().0 += by;
    }

    /// The number of reads through `source`.
    pub(crate) fn reads(&self) -> usize {
        self.0.lock().unwrap().1
    }

    /// The clock of a builder.
    pub(crate) fn source(&self) -> impl Fn() -> Instant + Send + Sync + 'static {
        let clock = self.clone();
        move || {
            let mut state = clock.0.lock().unwrap();
            state.1 += 1;
            state.0
        }
    }
}
