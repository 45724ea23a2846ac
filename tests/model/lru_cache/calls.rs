//! Callers of loads: futures that operations poll and drop, and calls that block this thread.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::super::alarm::{Alarms, must_panic};
use super::loads::{BlockingCall, Caller, Part};
use super::model::Outcome;
use super::operations::{Ending, Kind, Op};
use super::test::{Test, outcome};
use super::user_code::{A, B, Borrowed, Failure, Job, Loader, Output, Value, end, lock, output};

/// Futures at once, at most: enough for several batches of wakers.
const MAX_TASKS: usize = 24;

/// Loads within loads, at most.
const MAX_DEPTH: usize = 3;

pub(super) struct Task<'a> {
    name: usize,
    future: Pin<Box<dyn Future<Output = Output> + 'a>>,
}

impl<'a, I: Iterator<Item = Op>> Test<'a, I> {
    fn new_caller(&mut self, key: usize, kind: Kind, blocks: bool) -> usize {
        let name = self.callers;
        self.callers += 1;
        let (part, waker, ending, job_waker) = (Part::New, None, None, None);
        self.model.callers.insert(name, Caller { key, kind, blocks, part, waker, ending, job_waker });
        name
    }

    /// Makes a future, and polls it at once if it has a waker.
    pub(super) fn load(&mut self, key: u8, kind: Kind, waker: Option<bool>) {
        if self.tasks.len() == MAX_TASKS {
            return;
        }
        let (key, borrowed) = self.key(key);
        let name = self.new_caller(key, kind, false);
        lock(&self.environment).jobs.insert(name, Job { ending: None, waker: None, is_running: false });
        let (cache, environment) = (self.cache, self.environment.clone());
        let begin = move || Loader::begin(name, environment);
        let future: Pin<Box<dyn Future<Output = Output> + 'a>> = match kind {
            Kind::Never => Box::pin(async move {
                let loader = || async { begin().result().await.unwrap_or_else(|never: Infallible| match never {}) };
                Ok(cache.get_or_load(borrowed, loader).await.id)
            }),
            Kind::A => Box::pin(async move { output::<A>(cache.try_get_or_load(borrowed, || begin().result()).await) }),
            Kind::B => Box::pin(async move { output::<B>(cache.try_get_or_load(borrowed, || begin().result()).await) }),
        };
        self.alarms.insert(name, Alarms::new(name, &self.log));
        self.tasks.push(Task { name, future });
        if let Some(waker) = waker {
            self.poll(self.tasks.len() - 1, waker);
        }
    }

    pub(super) fn poll(&mut self, at: usize, waker: bool) {
        let Task { name, ref mut future } = self.tasks[at];
        let alarm = self.alarms[&name].waker(waker.into());
        let got = match outcome(|| future.as_mut().poll(&mut Context::from_waker(&alarm))) {
            Outcome::Ready(Poll::Ready(output)) => Outcome::Ready(output),
            Outcome::Ready(Poll::Pending) | Outcome::Pending => Outcome::Pending,
            Outcome::Panic => Outcome::Panic,
        };
        self.model.serial = lock(&self.environment).serial;
        assert_eq!(got, self.model.poll(name, waker.into()), "the poll of caller {name}");
        if got != Outcome::Pending {
            self.cancel(at);
        }
    }

    pub(super) fn poll_one(&mut self, which: u8, waker: bool) {
        if let Some(at) = pick(which, &self.tasks) {
            self.poll(at, waker);
        }
    }

    pub(super) fn cancel(&mut self, at: usize) {
        let Task { name, future } = self.tasks.remove(at);
        drop(future);
        self.model.cancel(name);
    }

    pub(super) fn cancel_one(&mut self, which: u8) {
        if let Some(at) = pick(which, &self.tasks) {
            self.cancel(at);
        }
    }

    /// The callers whose loaders have begun and not ended.
    pub(super) fn running(&self) -> Vec<usize> {
        let leads = |caller: &Caller| matches!(caller.part, Part::Leads(_)) && !caller.blocks;
        let running = self.model.callers.iter().filter(|(_, caller)| leads(caller) && caller.ending.is_none());
        running.map(|(&name, _)| name).collect()
    }

    /// Lets a loader end at its next poll.
    pub(super) fn finish(&mut self, name: usize, how: Ending) {
        let caller = self.model.caller(name);
        let how = how.of(caller.kind);
        caller.ending = Some(how);
        if let Some(waker) = caller.job_waker.take() {
            self.model.woken.push((name, waker));
        }
        let mut environment = lock(&self.environment);
        let job = environment.jobs.get_mut(&name).expect("the caller has a job");
        job.ending = Some(how);
        let waker = job.waker.take();
        drop(environment);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(super) fn finish_one(&mut self, which: u8, how: Ending) {
        let running = self.running();
        if let Some(at) = pick(which, &running) {
            self.finish(running[at], how);
        }
    }

    /// Loads on this thread. The next `inside` steps run in the loader.
    pub(super) fn block(&mut self, key: u8, kind: Kind, how: Ending, inside: u8) {
        let (key, borrowed) = self.key(key);
        let name = self.new_caller(key, kind, true);
        match self.model.block(name) {
            BlockingCall::Returns(expected) => {
                assert_eq!(self.call(borrowed, name, kind, None), expected, "caller {name}");
            }
            BlockingCall::OwnKey => must_panic("its own key", || self.call(borrowed, name, kind, None)),
            BlockingCall::Leads => {
                let got = self.call(borrowed, name, kind, Some((how, inside)));
                assert_eq!(got, self.model.finish(name, how), "caller {name}");
            }
            BlockingCall::Deadlock => {}
        }
        self.model.callers.remove(&name);
    }

    /// Calls the cache. `load` is the end of the loader and the number of steps in it, if it must be called.
    fn call(&mut self, key: &Borrowed, name: usize, kind: Kind, load: Option<(Ending, u8)>) -> Outcome<Output> {
        let cache = self.cache;
        outcome(|| match kind {
            Kind::Never => {
                let loader = || self.run_loader(name, load).unwrap_or_else(|never: Infallible| match never {});
                Ok(cache.get_or_insert_with(key, loader).id)
            }
            Kind::A => output::<A>(cache.try_get_or_insert_with(key, || self.run_loader(name, load))),
            Kind::B => output::<B>(cache.try_get_or_insert_with(key, || self.run_loader(name, load))),
        })
    }

    fn run_loader<E: Failure>(&mut self, name: usize, load: Option<(Ending, u8)>) -> Result<Value, E> {
        let (how, steps) = load.expect("the model expects a load");
        let mut environment = lock(&self.environment);
        environment.calls.push(name);
        self.model.load(name).serial = environment.serial;
        drop(environment);
        self.depth += 1;
        self.check();
        if self.depth <= MAX_DEPTH {
            let _ = (0..steps % 8).all(|_| self.next_step());
        }
        self.depth -= 1;
        end(name, how, &self.environment)
    }
}

fn pick<T>(which: u8, among: &[T]) -> Option<usize> {
    (!among.is_empty()).then(|| usize::from(which) % among.len())
}
