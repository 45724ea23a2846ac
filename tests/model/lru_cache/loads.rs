//! The in-flight loads of the model: the members of each, and their order.

use super::model::{Model, Outcome};
use super::operations::{Ending, Kind, weight};
use super::user_code::Output;

/// The stage of a load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Stage {
    /// A loader runs.
    Loading,
    /// This follower was granted the lead and has not run yet.
    Leaderless(usize),
    /// The followers take this value.
    Published(usize),
    /// The followers start over.
    Ended,
}

#[derive(Debug)]
pub(super) struct Load {
    pub(super) key: usize,
    pub(super) serial: u64,
    /// Later callers of the key follow it, and its value will be stored.
    pub(super) registered: bool,
    pub(super) stage: Stage,
    /// The caller that runs its loader, even if an insert has superseded that.
    pub(super) leader: Option<usize>,
    /// The followers that have not left, the longest waiting first.
    pub(super) followers: Vec<usize>,
    /// It has a value until its last member leaves: only if there were followers to take it.
    pub(super) carries: bool,
}

/// The part of a caller in a load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Part {
    New,
    Follows(usize),
    /// It was given this error.
    HasError(usize, usize),
    Leads(usize),
    Done,
}

#[derive(Debug)]
pub(super) struct Caller {
    pub(super) key: usize,
    pub(super) kind: Kind,
    /// It is a call that blocks, and not a future.
    pub(super) blocks: bool,
    pub(super) part: Part,
    /// The one of its wakers that the cache has.
    pub(super) waker: Option<usize>,
    /// The end of its loader, once it is known.
    pub(super) ending: Option<Ending>,
    /// The one of its wakers that its loader has.
    pub(super) job_waker: Option<usize>,
}

/// The course of a call that blocks.
#[derive(Debug, PartialEq)]
pub(super) enum BlockingCall {
    Returns(Outcome<Output>),
    Leads,
    /// It panics, since it would wait for itself.
    OwnKey,
    /// It is not made, since it would wait for a future that only this thread polls.
    Deadlock,
}

impl Model {
    pub(super) fn caller(&mut self, name: usize) -> &mut Caller {
        self.callers.get_mut(&name).expect("the caller has not left")
    }

    pub(super) fn load(&mut self, load: usize) -> &mut Load {
        self.loads.get_mut(&load).expect("the load has members")
    }

    pub(super) fn registered(&self, key: usize) -> Option<usize> {
        self.loads.iter().find(|(_, load)| load.registered && load.key == key).map(|(&load, _)| load)
    }

    /// The followers that were not given an error.
    pub(super) fn unserved(&self, load: usize) -> Vec<usize> {
        let is_unserved = |name: &usize| self.callers[name].part == Part::Follows(load);
        self.loads[&load].followers.iter().copied().filter(is_unserved).collect()
    }

    pub(super) fn wake(&mut self, name: usize) {
        if let Some(waker) = self.caller(name).waker.take() {
            self.woken.push((name, waker));
        }
    }

    /// The value of a load that runs will not be stored.
    pub(super) fn invalidate(&mut self, load: usize) {
        let load = self.load(load);
        if load.stage == Stage::Loading {
            load.registered = false;
        }
    }

    pub(super) fn invalidate_all(&mut self, shard: usize) {
        for load in self.loads.keys().copied().collect::<Vec<_>>() {
            if self.shard_of[self.loads[&load].key] == shard {
                self.invalidate(load);
            }
        }
    }

    pub(super) fn publish(&mut self, load: usize, value: usize) {
        let unserved = self.unserved(load);
        let load = self.load(load);
        (load.stage, load.carries) = (Stage::Published(value), !unserved.is_empty());
        unserved.into_iter().for_each(|name| self.wake(name));
    }

    /// The leader, or the follower that was granted the lead, has given the load up.
    pub(super) fn grant_lead(&mut self, load: usize) {
        let unserved = self.unserved(load);
        let next = unserved.first().copied().filter(|_| self.loads[&load].registered);
        let on = self.load(load);
        if let Some(next) = next {
            on.stage = Stage::Leaderless(next);
            return self.wake(next);
        }
        on.registered = false;
        on.stage = Stage::Ended;
        unserved.into_iter().for_each(|name| self.wake(name));
    }

    /// A member has left the load.
    pub(super) fn remove_if_unused(&mut self, load: usize) {
        if self.loads[&load].leader.is_none() && self.loads[&load].followers.is_empty() {
            let removed = self.loads.remove(&load);
            assert!(removed.is_some_and(|removed| !removed.registered), "a load without members is not registered");
        }
    }

    pub(super) fn begin_load(&mut self, name: usize) {
        let (key, serial) = (self.caller(name).key, self.serial);
        let (stage, leader) = (Stage::Loading, Some(name));
        let load = Load { key, serial, registered: true, stage, leader, followers: Vec::new(), carries: false };
        self.loads.insert(name, load);
        self.start_leading(name, name);
    }

    pub(super) fn start_leading(&mut self, name: usize, load: usize) {
        self.caller(name).part = Part::Leads(load);
        self.stats.loads += 1;
        self.calls.push(name);
    }

    /// Returns the outcome of a caller that finds an entry, or whose lookup panics.
    pub(super) fn look_up(&mut self, name: usize) -> Option<Outcome<Output>> {
        let key = self.caller(name).key;
        let at = self.find_live(key);
        let first = self.caller(name).part == Part::New;
        match at {
            Some(_) if self.clone_panics() => {}
            Some(at) => {
                self.stats.hits += u64::from(first);
                self.refresh(key, at);
            }
            None if self.panics => {}
            None => {
                self.stats.misses += u64::from(first);
                return None;
            }
        }
        self.caller(name).part = Part::Done;
        let value = self.shards[self.shard_of[key]].first().map_or(0, |entry| entry.value);
        Some(self.ends(Ok(value)))
    }

    pub(super) fn poll(&mut self, name: usize, waker: usize) -> Outcome<Output> {
        match self.callers[&name].part {
            Part::New => self.join(name, waker),
            Part::Follows(on) => match self.loads[&on].stage {
                Stage::Leaderless(granted) if granted == name => {
                    let load = self.load(on);
                    (load.stage, load.leader) = (Stage::Loading, Some(name));
                    load.followers.retain(|&follower| follower != name);
                    self.start_leading(name, on);
                    self.poll_loader(name, waker)
                }
                Stage::Loading | Stage::Leaderless(_) => {
                    self.caller(name).waker = Some(waker);
                    Outcome::Pending
                }
                Stage::Published(value) => {
                    self.clone_panics();
                    self.stop_following(name, on);
                    self.ends(Ok(value))
                }
                Stage::Ended => {
                    self.stop_following(name, on);
                    self.join(name, waker)
                }
            },
            Part::HasError(on, error) => {
                self.stop_following(name, on);
                Outcome::Ready(Err(error))
            }
            Part::Leads(_) => self.poll_loader(name, waker),
            Part::Done => unreachable!("it is not polled again"),
        }
    }

    /// Looks the key up, and leads or follows a load of it: at first, or when it starts over.
    pub(super) fn join(&mut self, name: usize, waker: usize) -> Outcome<Output> {
        if let Some(outcome) = self.look_up(name) {
            return outcome;
        }
        match self.registered(self.callers[&name].key) {
            Some(load) => {
                self.load(load).followers.push(name);
                let caller = self.caller(name);
                (caller.part, caller.waker) = (Part::Follows(load), Some(waker));
                Outcome::Pending
            }
            None => {
                self.begin_load(name);
                self.poll_loader(name, waker)
            }
        }
    }

    pub(super) fn stop_following(&mut self, name: usize, load: usize) {
        let caller = self.caller(name);
        caller.waker = None;
        if caller.part != Part::New {
            caller.part = Part::Done;
        }
        self.load(load).followers.retain(|&follower| follower != name);
        self.remove_if_unused(load);
    }

    pub(super) fn poll_loader(&mut self, name: usize, waker: usize) -> Outcome<Output> {
        let caller = self.caller(name);
        match caller.ending {
            Some(how) => self.finish(name, how),
            None => {
                caller.job_waker = Some(waker);
                Outcome::Pending
            }
        }
    }

    /// The loader of this caller has ended.
    pub(super) fn finish(&mut self, name: usize, how: Ending) -> Outcome<Output> {
        let caller = self.caller(name);
        let Part::Leads(load) = caller.part else { unreachable!("it leads") };
        caller.job_waker = None;
        let output = match how {
            Ending::Good(byte) => {
                if self.store_loaded(name, load, byte) {
                    self.stop_leading(name, load);
                    return self.ends(Ok(name));
                }
                None
            }
            Ending::Failure => {
                self.stats.load_failures += 1;
                self.fail(name, load);
                Some(Err(name))
            }
            Ending::Panic => None,
        };
        let Some(output) = output else {
            self.panics = false;
            self.abandon(name, load);
            return Outcome::Panic;
        };
        self.stop_leading(name, load);
        self.ends(output)
    }

    /// Publishes and stores a loaded value. Returns false if user code panics.
    pub(super) fn store_loaded(&mut self, name: usize, load: usize, byte: u8) -> bool {
        let Some(weight) = self.weigh(weight(byte)) else { return false };
        if self.clone_panics() {
            return false;
        }
        let &Load { key, serial, registered, stage, .. } = &self.loads[&load];
        if stage == Stage::Loading {
            self.load(load).registered = false;
            self.publish(load, name);
        }
        if registered {
            self.store(key, serial, name, weight, byte);
        }
        true
    }

    /// The loader has failed: followers of the same type are given the error.
    pub(super) fn fail(&mut self, name: usize, load: usize) {
        if self.loads[&load].stage != Stage::Loading {
            return;
        }
        let kind = self.callers[&name].kind;
        for follower in self.unserved(load) {
            if self.callers[&follower].kind == kind {
                self.caller(follower).part = Part::HasError(load, name);
                self.wake(follower);
            }
        }
        self.grant_lead(load);
    }

    pub(super) fn stop_leading(&mut self, name: usize, load: usize) {
        self.caller(name).part = Part::Done;
        self.load(load).leader = None;
        self.remove_if_unused(load);
    }

    /// The leader is dropped, or panics.
    pub(super) fn abandon(&mut self, name: usize, load: usize) {
        if self.loads[&load].stage == Stage::Loading {
            self.grant_lead(load);
        }
        self.stop_leading(name, load);
    }

    /// The future is dropped.
    pub(super) fn cancel(&mut self, name: usize) {
        self.caller(name).job_waker = None;
        match self.callers[&name].part {
            Part::New | Part::Done => {}
            Part::Leads(load) => self.abandon(name, load),
            Part::Follows(load) | Part::HasError(load, _) => {
                let is_granted = self.loads[&load].stage == Stage::Leaderless(name);
                self.caller(name).part = Part::Done;
                if is_granted {
                    self.grant_lead(load);
                }
                self.stop_following(name, load);
            }
        }
        self.callers.remove(&name);
    }

    /// Begins a call that blocks its thread.
    pub(super) fn block(&mut self, name: usize) -> BlockingCall {
        let key = self.callers[&name].key;
        if let Some(load) = self.registered(key) {
            let leader = self.loads[&load].leader;
            let own = leader.is_some_and(|leader| self.callers[&leader].blocks);
            return if own { BlockingCall::OwnKey } else { BlockingCall::Deadlock };
        }
        match self.look_up(name) {
            Some(outcome) => BlockingCall::Returns(outcome),
            None => {
                self.begin_load(name);
                BlockingCall::Leads
            }
        }
    }
}
