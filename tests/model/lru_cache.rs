//! The cache and its model, step by step, with loaders that end when an operation says so.
//!
//! The model is a list of entries per shard, and of each flight who is in it, in what order, and what they wait for. Every
//! count is found by counting. Which shard a key belongs to is asked of a cache beforehand: a small capacity leaves the
//! last shards without room. Time is in whole seconds, and it is turned back to look at what is over and not yet gone.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::hash::{BuildHasher, Hash, Hasher};
use std::mem;
use std::panic::panic_any;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use arbitrary::{Arbitrary, Unstructured};
use stanchion::{Cause, LruCache, Stats};

use super::alarm::{Alarmed, Alarms, Woken, allow_expected_panics, must_panic, survive};

const KEYS: u8 = 12;

/// Futures at once, at most: enough for several batches of wakers.
const CROWD: usize = 24;

/// Loads within loads, at most.
const DEPTH: usize = 3;

/// What is loaded has the number of its caller, what is inserted one beyond this.
const INSERTED: usize = 1_000_000;

#[derive(Debug, Arbitrary)]
enum Op {
    Get { key: u8 },
    Peek { key: u8 },
    Contains { key: u8 },
    Insert { key: u8, weight: u8 },
    Remove { key: u8 },
    RemoveEntry { key: u8 },
    PopLru,
    Clear { sure: u8 },
    Retain { mask: u16, panics: u8 },
    RemoveIf { key: u8, answer: u8 },
    Update { key: u8, byte: u8, panics: u8 },
    ForEach { panics: u8 },
    SetCapacity { to: u8 },
    Entries,
    Wait { seconds: u8 },
    Load { key: u8, kind: Kind, waker: bool, later: u8 },
    Crowd { key: u8, kinds: [Kind; 4], waker: bool },
    Poll { which: u8, waker: bool },
    PollAll { waker: bool },
    Leave { which: u8 },
    Finish { which: u8, how: Ending },
    FinishAll { how: Ending },
    Block { key: u8, kind: Kind, how: Ending, inside: u8 },
    Print,
    CloneFails,
    ReportFails,
}

/// With which errors a caller loads.
#[derive(Clone, Copy, Debug, PartialEq, Arbitrary)]
enum Kind {
    Never,
    A,
    B,
}

/// How a loader ends.
#[derive(Clone, Copy, Debug, PartialEq, Arbitrary)]
enum Ending {
    Good(u8),
    Failure,
    Panic,
}

impl Ending {
    fn of(self, kind: Kind) -> Self {
        if (self, kind) == (Self::Failure, Kind::Never) { Self::Good(1) } else { self }
    }
}

/// `None`: the weigher panics.
fn weight(byte: u8) -> Option<u64> {
    match byte {
        0..224 => Some(u64::from(byte % 6)),
        224..248 => Some(u64::MAX - u64::from(byte % 2)),
        248.. => None,
    }
}

/// The time to live of a value's own, if it has one, in seconds.
fn own_life(byte: u8) -> Option<u64> {
    Some(u64::from(byte / 6 % 5)).filter(|&life| life < 4)
}

/// What a game is played with.
#[derive(Clone, Debug, Default, Arbitrary)]
struct Rules {
    capacity: u8,
    shards: u8,
    weighs: bool,
    listens: bool,
    /// In seconds, if they are limited.
    life: u8,
    idle: u8,
    /// Values say how long they live.
    expire_after: bool,
    mix: Mix,
}

/// The limits of an entry's life, in seconds.
#[derive(Clone, Copy, Debug)]
struct Limits {
    life: Option<u64>,
    idle: Option<u64>,
    expire_after: bool,
}

impl Rules {
    fn limits(&self) -> Limits {
        let limit = |byte| match byte {
            255 => Some(u64::MAX / 2),
            byte => Some(u64::from(byte % 12)).filter(|&limit| limit < 5),
        };
        Limits { life: limit(self.life), idle: limit(self.idle), expire_after: self.expire_after }
    }
}

impl Limits {
    fn need_a_clock(self) -> bool {
        self.life.is_some() || self.idle.is_some() || self.expire_after
    }
}

fn after(now: u64, limit: Option<u64>) -> u64 {
    limit.map_or(u64::MAX, |limit| now + limit)
}

fn capacity(byte: u8) -> usize {
    if byte == 255 { usize::MAX } else { usize::from(byte % 9) }
}

/// How keys are hashed.
#[derive(Clone, Copy, Debug, Default, Arbitrary)]
enum Mix {
    #[default]
    Well,
    /// To three values.
    Few,
    /// Not at all.
    Plain,
}

struct Mixed(Mix, u64);

impl BuildHasher for Mix {
    type Hasher = Mixed;

    fn build_hasher(&self) -> Mixed {
        Mixed(*self, 0)
    }
}

impl Hasher for Mixed {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.1 = match self.0 {
                Mix::Well => (self.1 ^ u64::from(byte)).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15),
                Mix::Few => u64::from(byte % 3).wrapping_mul(0x9E37_79B9_7F4A_7C15),
                Mix::Plain => byte.into(),
            }
        }
    }

    fn finish(&self) -> u64 {
        self.1
    }
}

/// An entry that has left: its key, that key's serial number, its value and why.
type Report = (usize, u64, usize, Cause);

/// A loader.
#[derive(Debug)]
struct Job {
    ending: Option<Ending>,
    waker: Option<Waker>,
    /// Neither ended nor dropped.
    lives: bool,
}

/// What the callbacks, the loaders and the game know together.
struct Site {
    /// By caller.
    jobs: BTreeMap<usize, Job>,
    /// The callers whose loaders were begun.
    calls: Vec<usize>,
    reports: Vec<Report>,
    /// Of the last key.
    serial: u64,
    alive: [usize; 3],
    start: Instant,
    seconds: u64,
    clock_reads: usize,
    /// The next clone of a value panics.
    clone_fails: bool,
    /// The next report panics.
    report_fails: bool,
}

type Shared = Arc<Mutex<Site>>;

fn lock(site: &Shared) -> MutexGuard<'_, Site> {
    // What is left of a failed game is dropped.
    site.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The fields of [`Site::alive`].
#[derive(Clone, Copy)]
enum What {
    Key,
    Value,
    Error,
}

/// One of those that are counted.
struct Alive(What, Shared);

impl Alive {
    fn new(what: What, site: &Shared) -> Self {
        lock(site).alive[what as usize] += 1;
        Self(what, site.clone())
    }
}

impl Clone for Alive {
    fn clone(&self) -> Self {
        Self::new(self.0, &self.1)
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        lock(&self.1).alive[self.0 as usize] -= 1;
    }
}

/// A borrowed key.
struct Name {
    key: u8,
    site: Shared,
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Name {}

impl ToOwned for Name {
    type Owned = Key;

    fn to_owned(&self) -> Key {
        let mut site = lock(&self.site);
        site.serial += 1;
        let serial = site.serial;
        drop(site);
        let name = Self { key: self.key, site: self.site.clone() };
        Key { name, serial, alive: Alive::new(What::Key, &self.site) }
    }
}

struct Key {
    name: Name,
    serial: u64,
    alive: Alive,
}

impl Key {
    fn id(&self) -> (usize, u64) {
        (self.name.key.into(), self.serial)
    }
}

impl Clone for Key {
    fn clone(&self) -> Self {
        let name = Name { key: self.name.key, site: self.name.site.clone() };
        Self { name, serial: self.serial, alive: self.alive.clone() }
    }
}

impl Borrow<Name> for Key {
    fn borrow(&self) -> &Name {
        &self.name
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Key {}

struct Value {
    id: usize,
    weight: Option<u64>,
    life: Option<u64>,
    alive: Alive,
}

impl Value {
    fn new(id: usize, byte: u8, site: &Shared) -> Self {
        Self { id, weight: weight(byte), life: own_life(byte), alive: Alive::new(What::Value, site) }
    }
}

impl Clone for Value {
    fn clone(&self) -> Self {
        if mem::take(&mut lock(&self.alive.1).clone_fails) {
            panic_any(Alarmed);
        }
        Self { id: self.id, weight: self.weight, life: self.life, alive: self.alive.clone() }
    }
}

/// The loader of this caller has failed.
struct Failed {
    caller: usize,
    _alive: Alive,
}

struct A(Failed);

struct B(Failed);

/// What a loader may fail with.
trait Failure: Sized + Send + Sync + 'static {
    fn new(failed: Failed) -> Self;
    fn caller(&self) -> usize;
}

impl Failure for Infallible {
    fn new(_: Failed) -> Self {
        unreachable!("it never fails")
    }

    fn caller(&self) -> usize {
        match *self {}
    }
}

impl Failure for A {
    fn new(failed: Failed) -> Self {
        Self(failed)
    }

    fn caller(&self) -> usize {
        self.0.caller
    }
}

impl Failure for B {
    fn new(failed: Failed) -> Self {
        Self(failed)
    }

    fn caller(&self) -> usize {
        self.0.caller
    }
}

/// What a caller is told: the number of the value, or of the loader that has failed.
type Told = Result<usize, usize>;

fn told<E: Failure>(got: Result<Value, Arc<E>>) -> Told {
    got.map(|value| value.id).map_err(|error| error.caller())
}

fn end<E: Failure>(caller: usize, how: Ending, site: &Shared) -> Result<Value, E> {
    match how {
        Ending::Good(weight) => Ok(Value::new(caller, weight, site)),
        Ending::Failure => Err(E::new(Failed { caller, _alive: Alive::new(What::Error, site) })),
        Ending::Panic => panic_any(Alarmed),
    }
}

/// What a loader does.
struct Work {
    caller: usize,
    site: Shared,
}

impl Work {
    /// Called when the loader begins.
    fn begin(caller: usize, site: Shared) -> Self {
        let mut locked = lock(&site);
        locked.calls.push(caller);
        let job = locked.jobs.get_mut(&caller).expect("it is known");
        assert!(!mem::replace(&mut job.lives, true), "it has begun before");
        drop(locked);
        Self { caller, site }
    }

    async fn result<E: Failure>(self) -> Result<Value, E> {
        let (caller, site) = (self.caller, self.site.clone());
        let how = self.await;
        end(caller, how, &site)
    }
}

impl Future for Work {
    type Output = Ending;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ending> {
        let mut site = lock(&self.site);
        let job = site.jobs.get_mut(&self.caller).expect("it is known");
        match job.ending {
            Some(how) => Poll::Ready(how),
            None => {
                job.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let mut site = lock(&self.site);
        let job = site.jobs.get_mut(&self.caller).expect("it is known");
        (job.lives, job.waker) = (false, None);
    }
}

/// How something ends.
#[derive(Debug, PartialEq)]
enum Outcome<T> {
    Pending,
    Ready(T),
    Panic,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Entry {
    key: usize,
    serial: u64,
    value: usize,
    weight: u64,
    end: u64,
    idle_end: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// A loader runs.
    Loading,
    /// This caller was chosen to load and has not run yet.
    Leaderless(usize),
    /// This value is there for those who wait.
    Landed(usize),
    /// Those who wait begin afresh.
    Over,
}

#[derive(Debug)]
struct Flight {
    key: usize,
    serial: u64,
    /// Who comes for this key finds it, and what it loads is stored.
    registered: bool,
    state: State,
    /// Who runs a loader, overtaken or not.
    leader: Option<usize>,
    /// Who has waited, the longest first, and not run since.
    line: Vec<usize>,
    /// Whether it keeps a value until the last one has left: not if there was nobody to take it.
    carries: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    New,
    Waits(usize),
    /// Has been given this error.
    Fails(usize, usize),
    Leads(usize),
    Gone,
}

#[derive(Debug)]
struct Caller {
    key: usize,
    kind: Kind,
    /// Whether it is on the stack, rather than a future.
    blocks: bool,
    stage: Stage,
    /// That of its wakers which the cache has.
    waker: Option<usize>,
    /// How its loader ends.
    ending: Option<Ending>,
    /// That of its wakers which its loader has.
    job_waker: Option<usize>,
}

/// What becomes of a caller on the stack.
#[derive(Debug, PartialEq)]
enum Entrance {
    Through(Outcome<Told>),
    Leads,
    /// It would wait for itself.
    Recursion,
    /// It would wait for others on this thread.
    Forever,
}

/// What a cache is.
#[derive(Debug)]
struct Model {
    capacity: usize,
    shards: Vec<Vec<Entry>>,
    /// By key.
    shard_of: Vec<usize>,
    weighs: bool,
    listens: bool,
    limits: Limits,
    now: u64,
    /// Of the last key. How many are made in vain is for the cache to say.
    serial: u64,
    stats: Stats,
    /// By name.
    callers: BTreeMap<usize, Caller>,
    /// By the caller who began it: nobody loads twice.
    flights: BTreeMap<usize, Flight>,
    reports: Vec<Report>,
    calls: Vec<usize>,
    woken: Woken,
    clone_fails: bool,
    report_fails: bool,
    /// Something has panicked on the way.
    panics: bool,
}

impl Model {
    /// What the end is, given what was to be returned.
    fn ends<T>(&mut self, with: T) -> Outcome<T> {
        if mem::take(&mut self.panics) { Outcome::Panic } else { Outcome::Ready(with) }
    }

    /// A value is cloned.
    fn clone_panics(&mut self) -> bool {
        let fails = mem::take(&mut self.clone_fails);
        self.panics |= fails;
        fails
    }

    fn share(&self, shard: usize) -> u128 {
        let (each, rest) = (self.capacity / self.shards.len(), self.capacity % self.shards.len());
        (each + usize::from(shard < rest)) as u128
    }

    fn load_of(&self, shard: usize) -> u128 {
        self.shards[shard].iter().map(|entry| u128::from(entry.weight)).sum()
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.shards.iter().flatten()
    }

    fn is_over(&self, entry: &Entry) -> bool {
        entry.end.min(entry.idle_end) <= self.now
    }

    fn report(&mut self, entry: Entry, cause: Cause) {
        let cause = if self.is_over(&entry) { Cause::Expired } else { cause };
        match cause {
            Cause::Capacity => self.stats.evictions += 1,
            Cause::Expired => self.stats.expirations += 1,
            Cause::Removed => {}
        }
        if self.listens {
            self.reports.push((entry.key, entry.serial, entry.value, cause));
            self.panics |= mem::take(&mut self.report_fails);
        }
    }

    /// Where the entry of this key is in its shard. One that is over leaves.
    fn meet(&mut self, key: usize) -> Option<usize> {
        let shard = self.shard_of[key];
        let at = self.shards[shard].iter().position(|entry| entry.key == key)?;
        if self.is_over(&self.shards[shard][at]) {
            let entry = self.shards[shard].remove(at);
            self.report(entry, Cause::Expired);
            return None;
        }
        Some(at)
    }

    fn take(&mut self, key: usize) -> Option<Entry> {
        let at = self.meet(key)?;
        Some(self.shards[self.shard_of[key]].remove(at))
    }

    fn refresh(&mut self, key: usize, at: usize) {
        let shard = &mut self.shards[self.shard_of[key]];
        let mut entry = shard.remove(at);
        entry.idle_end = after(self.now, self.limits.idle);
        shard.insert(0, entry);
    }

    fn get(&mut self, key: usize) -> Outcome<Option<usize>> {
        let Some(at) = self.meet(key) else {
            self.stats.misses += 1;
            return self.ends(None);
        };
        if self.clone_panics() {
            return self.ends(None);
        }
        self.stats.hits += 1;
        self.refresh(key, at);
        let value = self.shards[self.shard_of[key]][0].value;
        self.ends(Some(value))
    }

    fn peek(&mut self, key: usize) -> Outcome<Option<usize>> {
        let value = self.meet(key).map(|at| self.shards[self.shard_of[key]][at].value);
        if value.is_some() {
            self.clone_panics();
        }
        self.ends(value)
    }

    fn contains(&mut self, key: usize) -> Outcome<bool> {
        let is_there = self.meet(key).is_some();
        self.ends(is_there)
    }

    /// `None`: the weigher panics.
    fn weigh(&mut self, weight: Option<u64>) -> Option<u64> {
        let weight = if self.weighs { weight } else { Some(1) };
        self.panics |= weight.is_none();
        weight
    }

    fn is_stored(&self, key: usize, weight: u64, end: u64) -> bool {
        let share = self.share(self.shard_of[key]);
        share > 0 && u128::from(weight) <= share && end > self.now && self.limits.idle != Some(0)
    }

    /// Returns the value that was there.
    fn store(&mut self, key: usize, serial: u64, value: usize, weight: u64, byte: u8) -> Option<usize> {
        let old = self.take(key);
        let Limits { life, idle, expire_after } = self.limits;
        let own_end = after(self.now, own_life(byte).filter(|_| expire_after));
        let end = after(self.now, life).min(own_end);
        if self.is_stored(key, weight, end) {
            self.make_room(self.shard_of[key], weight);
            let serial = old.map_or(serial, |old| old.serial);
            let idle_end = after(self.now, idle);
            self.shards[self.shard_of[key]].insert(0, Entry { key, serial, value, weight, end, idle_end });
            self.stats.insertions += u64::from(old.is_none());
        }
        old.map(|old| old.value)
    }

    fn make_room(&mut self, shard: usize, weight: u64) {
        while self.load_of(shard) + u128::from(weight) > self.share(shard) {
            let oldest = self.shards[shard].pop().expect("there is room for it alone");
            self.report(oldest, Cause::Capacity);
        }
    }

    fn update(&mut self, key: usize, value: usize, byte: u8, panics: bool) -> Outcome<Option<usize>> {
        let Some(at) = self.meet(key) else {
            self.stats.misses += 1;
            return self.ends(None);
        };
        let shard = self.shard_of[key];
        let old = std::mem::replace(&mut self.shards[shard][at].value, value);
        self.panics |= panics;
        let Some(weight) = self.weigh(weight(byte)).filter(|_| !panics) else { return self.ends(None) };
        self.stats.hits += 1;
        self.refresh(key, at);
        if self.weighs && u128::from(weight) > self.share(shard) {
            let entry = self.shards[shard].remove(0);
            self.report(entry, Cause::Capacity);
        } else if self.weighs {
            self.shards[shard][0].weight = 0;
            self.make_room(shard, weight);
            self.shards[shard][0].weight = weight;
        }
        self.ends(Some(old))
    }

    fn remove_if(&mut self, key: usize, answer: Option<bool>) -> Outcome<Option<usize>> {
        let met = self.meet(key);
        self.panics |= met.is_some() && answer.is_none();
        let removed = met.filter(|_| answer == Some(true)).map(|at| self.shards[self.shard_of[key]].remove(at));
        self.ends(removed.map(|entry| entry.value))
    }

    fn insert(&mut self, key: usize, value: usize, byte: u8) -> Outcome<Option<usize>> {
        let serial = self.serial;
        let Some(weight) = self.weigh(weight(byte)) else { return self.ends(None) };
        let flight = self.registered(key);
        if let Some(flight) = flight {
            if !self.waiting(flight).is_empty() && self.clone_panics() {
                return self.ends(None);
            }
            self.flight(flight).registered = false;
            self.land(flight, value);
        }
        let old = self.store(key, serial, value, weight, byte);
        self.ends(old)
    }

    fn remove(&mut self, key: usize) -> Outcome<Option<Entry>> {
        if let Some(flight) = self.registered(key) {
            self.invalidate(flight);
        }
        let entry = self.take(key);
        self.ends(entry)
    }

    fn pop_lru(&mut self) -> Outcome<Option<Entry>> {
        let mut popped = None;
        for shard in 0..self.shards.len() {
            while let Some(entry) = self.shards[shard].pop() {
                if !self.is_over(&entry) {
                    popped = Some(entry);
                    break;
                }
                self.report(entry, Cause::Expired);
            }
            if popped.is_some() || self.panics {
                break;
            }
        }
        self.ends(popped)
    }

    fn clear(&mut self) -> Outcome<()> {
        for shard in 0..self.shards.len() {
            for entry in mem::take(&mut self.shards[shard]) {
                self.report(entry, Cause::Removed);
            }
            self.invalidate_all(shard);
        }
        self.ends(())
    }

    fn invalidate_all(&mut self, shard: usize) {
        for flight in self.flights.keys().copied().collect::<Vec<_>>() {
            if self.shard_of[self.flights[&flight].key] == shard {
                self.invalidate(flight);
            }
        }
    }

    fn live(&self, shard: usize) -> Vec<Entry> {
        self.shards[shard].iter().copied().filter(|entry| !self.is_over(entry)).collect()
    }

    /// Returns what the predicate was asked about. The last one may have been too much for it.
    fn retain(&mut self, stays: impl Fn(usize) -> bool, panics_at: Option<usize>) -> (Vec<Seen>, Outcome<()>) {
        let mut seen = Vec::new();
        for shard in 0..self.shards.len() {
            for entry in self.live(shard) {
                seen.push((entry.key, entry.serial, entry.value));
                if panics_at == Some(seen.len()) {
                    self.panics = true;
                    return (seen, self.ends(()));
                }
            }
            for entry in mem::take(&mut self.shards[shard]) {
                if !self.is_over(&entry) && stays(entry.key) {
                    self.shards[shard].push(entry);
                } else {
                    self.report(entry, Cause::Removed);
                }
            }
            self.invalidate_all(shard);
        }
        (seen, self.ends(()))
    }

    /// Returns what is visited. The last one may be too much for the visitor.
    fn visit(&mut self, panics_at: Option<usize>) -> (Vec<Seen>, Outcome<()>) {
        let live = (0..self.shards.len()).flat_map(|shard| self.live(shard));
        let mut seen: Vec<_> = live.map(|entry| (entry.key, entry.serial, entry.value)).collect();
        if let Some(at) = panics_at.filter(|&at| at <= seen.len()) {
            self.panics = true;
            seen.truncate(at);
        }
        (seen, self.ends(()))
    }

    fn list(&mut self) -> Outcome<Vec<Seen>> {
        let (seen, _) = self.visit(None);
        if !seen.is_empty() {
            self.clone_panics();
        }
        self.ends(seen)
    }

    fn set_capacity(&mut self, capacity: usize) -> Outcome<()> {
        self.capacity = capacity;
        for shard in 0..self.shards.len() {
            while self.load_of(shard) > self.share(shard) || self.share(shard) == 0 {
                let Some(oldest) = self.shards[shard].pop() else { break };
                self.report(oldest, Cause::Capacity);
            }
        }
        self.ends(())
    }

    fn caller(&mut self, name: usize) -> &mut Caller {
        self.callers.get_mut(&name).expect("it is known")
    }

    fn flight(&mut self, flight: usize) -> &mut Flight {
        self.flights.get_mut(&flight).expect("it is on")
    }

    fn registered(&self, key: usize) -> Option<usize> {
        self.flights.iter().find(|(_, flight)| flight.registered && flight.key == key).map(|(&flight, _)| flight)
    }

    /// Those in line who have not been given an error.
    fn waiting(&self, flight: usize) -> Vec<usize> {
        let waits = |name: &usize| self.callers[name].stage == Stage::Waits(flight);
        self.flights[&flight].line.iter().copied().filter(waits).collect()
    }

    fn wake(&mut self, name: usize) {
        if let Some(waker) = self.caller(name).waker.take() {
            self.woken.push((name, waker));
        }
    }

    /// What is loaded for those who wait is not stored.
    fn invalidate(&mut self, flight: usize) {
        let flight = self.flight(flight);
        if flight.state == State::Loading {
            flight.registered = false;
        }
    }

    fn land(&mut self, flight: usize, value: usize) {
        let waiting = self.waiting(flight);
        let landed = self.flight(flight);
        (landed.state, landed.carries) = (State::Landed(value), !waiting.is_empty());
        waiting.into_iter().for_each(|name| self.wake(name));
    }

    /// Somebody who was to load does not.
    fn pass_on(&mut self, flight: usize) {
        let waiting = self.waiting(flight);
        let next = waiting.first().copied().filter(|_| self.flights[&flight].registered);
        let on = self.flight(flight);
        if let Some(next) = next {
            on.state = State::Leaderless(next);
            return self.wake(next);
        }
        on.registered = false;
        on.state = State::Over;
        waiting.into_iter().for_each(|name| self.wake(name));
    }

    /// Somebody has left it.
    fn tidy(&mut self, flight: usize) {
        if self.flights[&flight].leader.is_none() && self.flights[&flight].line.is_empty() {
            let gone = self.flights.remove(&flight);
            assert!(gone.is_some_and(|gone| !gone.registered), "the model keeps a flight for nobody");
        }
    }

    fn begin_flight(&mut self, name: usize) {
        let (key, serial) = (self.caller(name).key, self.serial);
        let (state, leader) = (State::Loading, Some(name));
        let flight = Flight { key, serial, registered: true, state, leader, line: Vec::new(), carries: false };
        self.flights.insert(name, flight);
        self.lead(name, name);
    }

    fn lead(&mut self, name: usize, flight: usize) {
        self.caller(name).stage = Stage::Leads(flight);
        self.stats.loads += 1;
        self.calls.push(name);
    }

    /// What a caller finds in the cache.
    fn look(&mut self, name: usize) -> Option<Outcome<Told>> {
        let key = self.caller(name).key;
        let at = self.meet(key);
        let first = self.caller(name).stage == Stage::New;
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
        self.caller(name).stage = Stage::Gone;
        let value = self.shards[self.shard_of[key]].first().map_or(0, |entry| entry.value);
        Some(self.ends(Ok(value)))
    }

    fn poll(&mut self, name: usize, waker: usize) -> Outcome<Told> {
        match self.callers[&name].stage {
            Stage::New => self.arrive(name, waker),
            Stage::Waits(on) => match self.flights[&on].state {
                State::Leaderless(chosen) if chosen == name => {
                    let flight = self.flight(on);
                    (flight.state, flight.leader) = (State::Loading, Some(name));
                    flight.line.retain(|&waits| waits != name);
                    self.lead(name, on);
                    self.work(name, waker)
                }
                State::Loading | State::Leaderless(_) => {
                    self.caller(name).waker = Some(waker);
                    Outcome::Pending
                }
                State::Landed(value) => {
                    self.clone_panics();
                    self.leave_line(name, on);
                    self.ends(Ok(value))
                }
                State::Over => {
                    self.leave_line(name, on);
                    self.arrive(name, waker)
                }
            },
            Stage::Fails(on, error) => {
                self.leave_line(name, on);
                Outcome::Ready(Err(error))
            }
            Stage::Leads(_) => self.work(name, waker),
            Stage::Gone => unreachable!("it is not polled again"),
        }
    }

    /// Comes for the first time, or afresh.
    fn arrive(&mut self, name: usize, waker: usize) -> Outcome<Told> {
        if let Some(through) = self.look(name) {
            return through;
        }
        match self.registered(self.callers[&name].key) {
            Some(flight) => {
                self.flight(flight).line.push(name);
                let caller = self.caller(name);
                (caller.stage, caller.waker) = (Stage::Waits(flight), Some(waker));
                Outcome::Pending
            }
            None => {
                self.begin_flight(name);
                self.work(name, waker)
            }
        }
    }

    fn leave_line(&mut self, name: usize, flight: usize) {
        let caller = self.caller(name);
        caller.waker = None;
        if caller.stage != Stage::New {
            caller.stage = Stage::Gone;
        }
        self.flight(flight).line.retain(|&waits| waits != name);
        self.tidy(flight);
    }

    fn work(&mut self, name: usize, waker: usize) -> Outcome<Told> {
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
    fn finish(&mut self, name: usize, how: Ending) -> Outcome<Told> {
        let caller = self.caller(name);
        let Stage::Leads(flight) = caller.stage else { unreachable!("it leads") };
        caller.job_waker = None;
        let told = match how {
            Ending::Good(byte) => {
                if self.publish(name, flight, byte) {
                    self.leave_lead(name, flight);
                    return self.ends(Ok(name));
                }
                None
            }
            Ending::Failure => {
                self.stats.load_failures += 1;
                self.fail(name, flight);
                Some(Err(name))
            }
            Ending::Panic => None,
        };
        let Some(told) = told else {
            self.panics = false;
            self.abandon(name, flight);
            return Outcome::Panic;
        };
        self.leave_lead(name, flight);
        self.ends(told)
    }

    /// Whether nothing panicked on the way there.
    fn publish(&mut self, name: usize, flight: usize, byte: u8) -> bool {
        let Some(weight) = self.weigh(weight(byte)) else { return false };
        if self.clone_panics() {
            return false;
        }
        let &Flight { key, serial, registered, state, .. } = &self.flights[&flight];
        if state == State::Loading {
            self.flight(flight).registered = false;
            self.land(flight, name);
        }
        if registered {
            self.store(key, serial, name, weight, byte);
        }
        true
    }

    fn fail(&mut self, name: usize, flight: usize) {
        if self.flights[&flight].state != State::Loading {
            return;
        }
        let kind = self.callers[&name].kind;
        for waits in self.waiting(flight) {
            if self.callers[&waits].kind == kind {
                self.caller(waits).stage = Stage::Fails(flight, name);
                self.wake(waits);
            }
        }
        self.pass_on(flight);
    }

    fn leave_lead(&mut self, name: usize, flight: usize) {
        self.caller(name).stage = Stage::Gone;
        self.flight(flight).leader = None;
        self.tidy(flight);
    }

    /// The leader is dropped, or panics.
    fn abandon(&mut self, name: usize, flight: usize) {
        if self.flights[&flight].state == State::Loading {
            self.pass_on(flight);
        }
        self.leave_lead(name, flight);
    }

    /// The future is dropped.
    fn leave(&mut self, name: usize) {
        self.caller(name).job_waker = None;
        match self.callers[&name].stage {
            Stage::New | Stage::Gone => {}
            Stage::Leads(flight) => self.abandon(name, flight),
            Stage::Waits(flight) | Stage::Fails(flight, _) => {
                let chosen = self.flights[&flight].state == State::Leaderless(name);
                self.caller(name).stage = Stage::Gone;
                if chosen {
                    self.pass_on(flight);
                }
                self.leave_line(name, flight);
            }
        }
        self.callers.remove(&name);
    }

    /// Comes, as one who can only wait by blocking the thread.
    fn enter(&mut self, name: usize) -> Entrance {
        let key = self.callers[&name].key;
        if let Some(flight) = self.registered(key) {
            let leader = self.flights[&flight].leader;
            let own = leader.is_some_and(|leader| self.callers[&leader].blocks);
            return if own { Entrance::Recursion } else { Entrance::Forever };
        }
        match self.look(name) {
            Some(through) => Entrance::Through(through),
            None => {
                self.begin_flight(name);
                Entrance::Leads
            }
        }
    }
}

/// An entry, as it is seen from outside: its key, that key's serial number, and its value.
type Seen = (usize, u64, usize);

type Cache = LruCache<Key, Value, Mix>;

struct Waiter<'a> {
    name: usize,
    future: Pin<Box<dyn Future<Output = Told> + 'a>>,
}

struct Game<'a, I> {
    cache: &'a Cache,
    names: &'a [Name],
    ops: I,
    model: Model,
    /// How many loads are on the stack.
    depth: usize,
    waiters: Vec<Waiter<'a>>,
    /// By the waiter's name.
    alarms: BTreeMap<usize, Alarms>,
    callers: usize,
    inserted: usize,
    log: Arc<Mutex<Woken>>,
    site: Shared,
}

/// Plays the sequence that `data` stands for.
pub(crate) fn run(data: &[u8]) {
    allow_expected_panics();
    let mut data = Unstructured::new(data);
    let Ok(rules) = data.arbitrary::<Rules>() else { return };
    start(&rules, std::iter::from_fn(|| if data.is_empty() { None } else { data.arbitrary().ok() }));
}

fn start(rules: &Rules, ops: impl Iterator<Item = Op>) {
    let site = Arc::new(Mutex::new(Site {
        jobs: BTreeMap::new(),
        calls: Vec::new(),
        reports: Vec::new(),
        serial: 0,
        alive: [0; 3],
        start: Instant::now(),
        seconds: 0,
        clock_reads: 0,
        clone_fails: false,
        report_fails: false,
    }));
    let capacity = capacity(rules.capacity);
    let shards = (1 + usize::from(rules.shards % 4)).min(capacity.max(1));
    let names: Vec<_> = (0..KEYS).map(|key| Name { key, site: site.clone() }).collect();
    // Built before anything is stored.
    let cache = cache(rules, &site);
    lock(&site).seconds = 1;
    let model = Model {
        capacity,
        shards: vec![Vec::new(); shards],
        shard_of: shards_of(shards, rules.mix),
        weighs: rules.weighs,
        listens: rules.listens,
        limits: rules.limits(),
        now: 1,
        serial: 0,
        stats: Stats::default(),
        callers: BTreeMap::new(),
        flights: BTreeMap::new(),
        reports: Vec::new(),
        calls: Vec::new(),
        woken: Vec::new(),
        clone_fails: false,
        report_fails: false,
        panics: false,
    };
    let mut game = Game {
        cache: &cache,
        names: &names,
        ops,
        model,
        depth: 0,
        waiters: Vec::new(),
        alarms: BTreeMap::new(),
        callers: 0,
        inserted: INSERTED,
        log: Arc::default(),
        site: site.clone(),
    };
    game.check();
    while game.next_step() {}
    game.end();
    drop(cache);
    assert_eq!(lock(&site).alive, [0; 3], "keys, values or errors outlive the cache");
}

fn cache(rules: &Rules, site: &Shared) -> Cache {
    let mut builder = LruCache::builder(capacity(rules.capacity)).shards(1 + usize::from(rules.shards % 4));
    if rules.weighs {
        builder = builder.weigher(|_: &Key, value: &Value| value.weight.unwrap_or_else(|| panic_any(Alarmed)));
    }
    if rules.listens {
        let site = site.clone();
        builder = builder.on_evict(move |key: Key, value: Value, cause| {
            let mut site = lock(&site);
            let (id, serial) = key.id();
            site.reports.push((id, serial, value.id, cause));
            let fails = mem::take(&mut site.report_fails);
            drop(site);
            if fails {
                panic_any(Alarmed);
            }
        });
    }
    let Limits { life, idle, expire_after } = rules.limits();
    if let Some(life) = life {
        builder = builder.time_to_live(Duration::from_secs(life));
    }
    if let Some(idle) = idle {
        builder = builder.time_to_idle(Duration::from_secs(idle));
    }
    if expire_after {
        builder = builder.expire_after(|_: &Key, value: &Value| value.life.map(Duration::from_secs));
    }
    let site = site.clone();
    let clock = move || {
        let mut site = lock(&site);
        site.clock_reads += 1;
        site.start + Duration::from_secs(site.seconds)
    };
    builder.clock(clock).hasher(rules.mix).build()
}

/// Which shard each key belongs to: the first `n` have room for one entry each while the capacity is `n`.
fn shards_of(shards: usize, mix: Mix) -> Vec<usize> {
    let probe = LruCache::builder(shards).shards(shards).hasher(mix).build();
    let holds = |key, capacity| {
        probe.set_capacity(capacity);
        probe.insert(key, ());
        probe.contains_key(&key)
    };
    (0..KEYS).map(|key| (0..shards).find(|&shard| holds(key, shard + 1)).expect("it has a shard")).collect()
}

/// Runs `f`, which may be ended by the panic of foreign code.
fn outcome<R>(f: impl FnOnce() -> R) -> Outcome<R> {
    survive(f).map_or(Outcome::Panic, Outcome::Ready)
}

fn seen(key: &Key, value: &Value) -> Seen {
    let (id, serial) = key.id();
    (id, serial, value.id)
}

impl<'a, I: Iterator<Item = Op>> Game<'a, I> {
    /// Whether there was one.
    fn next_step(&mut self) -> bool {
        let Some(op) = self.ops.next() else { return false };
        self.step(&op);
        self.check();
        true
    }

    fn name(&self, key: u8) -> (usize, &'a Name) {
        let key = usize::from(key % KEYS);
        (key, &self.names[key])
    }

    fn step(&mut self, op: &Op) {
        let cache = self.cache;
        match *op {
            Op::Get { key } => {
                let (key, name) = self.name(key);
                let got = outcome(|| cache.get(name).map(|value| value.id));
                assert_eq!(got, self.model.get(key), "what get({key}) gets");
            }
            Op::Peek { key } => {
                let (key, name) = self.name(key);
                let got = outcome(|| cache.peek(name).map(|value| value.id));
                assert_eq!(got, self.model.peek(key), "what peek({key}) gets");
            }
            Op::Contains { key } => {
                let (key, name) = self.name(key);
                let got = outcome(|| cache.contains_key(name));
                assert_eq!(got, self.model.contains(key), "whether {key} is there");
            }
            Op::Insert { key, weight } => self.insert(key, weight),
            Op::Remove { key } => {
                let (key, name) = self.name(key);
                let got = outcome(|| cache.remove(name).map(|value| value.id));
                let expected = match self.model.remove(key) {
                    Outcome::Ready(entry) => Outcome::Ready(entry.map(|entry| entry.value)),
                    _ => Outcome::Panic,
                };
                assert_eq!(got, expected, "what remove({key}) gets");
            }
            Op::RemoveEntry { key } => {
                let (key, name) = self.name(key);
                let got = outcome(|| cache.remove_entry(name));
                let expected = self.model.remove(key);
                assert_entry(got, expected);
            }
            Op::PopLru => {
                let got = outcome(|| cache.pop_lru());
                let expected = self.model.pop_lru();
                assert_entry(got, expected);
            }
            Op::Clear { sure } if sure % 2 == 0 => {
                assert_eq!(outcome(|| cache.clear()), self.model.clear(), "clear");
                // Reported in no order.
                lock(&self.site).reports.sort_unstable_by_key(|report| report.1);
                self.model.reports.sort_unstable_by_key(|report| report.1);
            }
            Op::RemoveIf { key, answer } => {
                let (key, name) = self.name(key);
                let answer = [Some(true), Some(true), Some(false), None][usize::from(answer % 4)];
                let got = outcome(|| {
                    let removed = cache.remove_if(name, |found, _| {
                        assert_eq!(found.id().0, key);
                        answer.unwrap_or_else(|| panic_any(Alarmed))
                    });
                    removed.map(|value| value.id)
                });
                assert_eq!(got, self.model.remove_if(key, answer), "what remove_if({key}) gets");
            }
            Op::Update { key, byte, panics } => self.update(key, byte, panics % 4 == 0),
            Op::ForEach { panics } => {
                let panics_at = Some(usize::from(panics)).filter(|at| (1..8).contains(at));
                let mut visited = Vec::new();
                let got = outcome(|| {
                    cache.for_each(|key, value| {
                        visited.push(seen(key, value));
                        if panics_at == Some(visited.len()) {
                            panic_any(Alarmed);
                        }
                    });
                });
                assert_eq!((visited, got), self.model.visit(panics_at), "what for_each visits");
            }
            Op::Retain { mask, panics } => {
                self.retain(mask, Some(usize::from(panics)).filter(|at| (1..8).contains(at)))
            }
            Op::SetCapacity { to } => {
                let to = capacity(to);
                assert_eq!(outcome(|| cache.set_capacity(to)), self.model.set_capacity(to), "set_capacity({to})");
            }
            Op::Entries => {
                let got = outcome(|| cache.entries().iter().map(|(key, value)| seen(key, value)).collect::<Vec<_>>());
                assert_eq!(got, self.model.list(), "entries");
            }
            Op::Wait { seconds } => {
                self.model.now += u64::from(seconds % 4);
                lock(&self.site).seconds = self.model.now;
            }
            Op::Load { key, kind, waker, later } => self.join(key, kind, (later % 8 != 0).then_some(waker)),
            Op::Crowd { key, kinds, waker } => kinds.into_iter().for_each(|kind| self.join(key, kind, Some(waker))),
            Op::Poll { which, waker } => {
                if let Some(at) = pick(which, &self.waiters) {
                    self.poll(at, waker);
                }
            }
            Op::PollAll { waker } => (0..self.waiters.len()).rev().for_each(|at| self.poll(at, waker)),
            Op::Leave { which } => {
                if let Some(at) = pick(which, &self.waiters) {
                    self.leave(at);
                }
            }
            Op::Finish { which, how } => {
                let going = self.going();
                if let Some(at) = pick(which, &going) {
                    self.finish(going[at], how);
                }
            }
            Op::FinishAll { how } => self.going().into_iter().for_each(|name| self.finish(name, how)),
            Op::Block { key, kind, how, inside } => self.block(key, kind, how.of(kind), inside),
            Op::Print => {
                let Model { capacity, shards, .. } = &self.model;
                let weight: u128 = (0..shards.len()).map(|shard| self.model.load_of(shard)).sum();
                let (len, shards) = (self.model.entries().count(), shards.len());
                let expected =
                    format!("LruCache {{ capacity: {capacity}, len: {len}, weight: {weight}, shards: {shards}, .. }}");
                assert_eq!(format!("{cache:?}"), expected);
            }
            Op::CloneFails => {
                // In the next step, or not at all.
                lock(&self.site).clone_fails = true;
                self.model.clone_fails = true;
                if let Some(op) = self.ops.next() {
                    self.step(&op);
                }
                let left = mem::take(&mut lock(&self.site).clone_fails);
                assert_eq!(left, mem::take(&mut self.model.clone_fails), "whether nothing was cloned");
            }
            Op::ReportFails => {
                lock(&self.site).report_fails = true;
                self.model.report_fails = true;
            }
            Op::Clear { .. } => {}
        }
    }

    fn insert(&mut self, key: u8, byte: u8) {
        let (key, name) = self.name(key);
        let value = Value::new(self.inserted, byte, &self.site);
        let got = outcome(|| self.cache.insert(name.to_owned(), value).map(|value| value.id));
        self.model.serial = lock(&self.site).serial;
        assert_eq!(got, self.model.insert(key, self.inserted, byte), "what insert({key}) gets");
        self.inserted += 1;
    }

    fn update(&mut self, key: u8, byte: u8, panics: bool) {
        let (key, name) = self.name(key);
        let new = self.inserted;
        self.inserted += 1;
        let got = outcome(|| {
            self.cache.update(name, |value| {
                value.weight = weight(byte);
                let old = mem::replace(&mut value.id, new);
                if panics { panic_any(Alarmed) } else { old }
            })
        });
        assert_eq!(got, self.model.update(key, new, byte, panics), "what update({key}) gets");
    }

    fn retain(&mut self, mask: u16, panics_at: Option<usize>) {
        let stays = |key: usize| mask >> key & 1 != 0;
        let mut asked = Vec::new();
        let got = outcome(|| {
            self.cache.retain(|key, value| {
                asked.push(seen(key, value));
                if panics_at == Some(asked.len()) {
                    panic_any(Alarmed);
                }
                stays(key.id().0)
            });
        });
        assert_eq!((asked, got), self.model.retain(stays, panics_at), "what retain asks about");
    }

    fn new_caller(&mut self, key: usize, kind: Kind, blocks: bool) -> usize {
        let name = self.callers;
        self.callers += 1;
        let (stage, waker, ending, job_waker) = (Stage::New, None, None, None);
        self.model.callers.insert(name, Caller { key, kind, blocks, stage, waker, ending, job_waker });
        name
    }

    /// A new future, to be polled at once with this waker, or later.
    fn join(&mut self, key: u8, kind: Kind, waker: Option<bool>) {
        if self.waiters.len() == CROWD {
            return;
        }
        let (key, borrowed) = self.name(key);
        let name = self.new_caller(key, kind, false);
        lock(&self.site).jobs.insert(name, Job { ending: None, waker: None, lives: false });
        let (cache, site) = (self.cache, self.site.clone());
        let begin = move || Work::begin(name, site);
        let future: Pin<Box<dyn Future<Output = Told> + 'a>> = match kind {
            Kind::Never => Box::pin(async move {
                let loader = || async { begin().result().await.unwrap_or_else(|never: Infallible| match never {}) };
                Ok(cache.get_or_load(borrowed, loader).await.id)
            }),
            Kind::A => Box::pin(async move { told::<A>(cache.try_get_or_load(borrowed, || begin().result()).await) }),
            Kind::B => Box::pin(async move { told::<B>(cache.try_get_or_load(borrowed, || begin().result()).await) }),
        };
        self.alarms.insert(name, Alarms::new(name, &self.log));
        self.waiters.push(Waiter { name, future });
        if let Some(waker) = waker {
            self.poll(self.waiters.len() - 1, waker);
        }
    }

    fn poll(&mut self, at: usize, waker: bool) {
        let Waiter { name, ref mut future } = self.waiters[at];
        let alarm = self.alarms[&name].waker(waker.into());
        let got = match outcome(|| future.as_mut().poll(&mut Context::from_waker(&alarm))) {
            Outcome::Ready(Poll::Ready(told)) => Outcome::Ready(told),
            Outcome::Ready(Poll::Pending) | Outcome::Pending => Outcome::Pending,
            Outcome::Panic => Outcome::Panic,
        };
        self.model.serial = lock(&self.site).serial;
        assert_eq!(got, self.model.poll(name, waker.into()), "what caller {name} gets");
        if got != Outcome::Pending {
            self.leave(at);
        }
    }

    fn leave(&mut self, at: usize) {
        let Waiter { name, future } = self.waiters.remove(at);
        drop(future);
        self.model.leave(name);
    }

    /// The loaders that have begun and not ended.
    fn going(&self) -> Vec<usize> {
        let leads = |caller: &Caller| matches!(caller.stage, Stage::Leads(_)) && !caller.blocks;
        let going = self.model.callers.iter().filter(|(_, caller)| leads(caller) && caller.ending.is_none());
        going.map(|(&name, _)| name).collect()
    }

    fn finish(&mut self, name: usize, how: Ending) {
        let caller = self.model.caller(name);
        let how = how.of(caller.kind);
        caller.ending = Some(how);
        if let Some(waker) = caller.job_waker.take() {
            self.model.woken.push((name, waker));
        }
        let mut site = lock(&self.site);
        let job = site.jobs.get_mut(&name).expect("it is known");
        job.ending = Some(how);
        let waker = job.waker.take();
        drop(site);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Loads on this thread. The next few steps are played inside.
    fn block(&mut self, key: u8, kind: Kind, how: Ending, inside: u8) {
        let (key, borrowed) = self.name(key);
        let name = self.new_caller(key, kind, true);
        let entrance = self.model.enter(name);
        match entrance {
            Entrance::Through(outcome) => assert_eq!(self.call(borrowed, name, kind, None), outcome, "caller {name}"),
            Entrance::Recursion => must_panic("its own key", || self.call(borrowed, name, kind, None)),
            Entrance::Leads => {
                let got = self.call(borrowed, name, kind, Some((how, inside)));
                assert_eq!(got, self.model.finish(name, how), "what caller {name} gets");
            }
            Entrance::Forever => {}
        }
        self.model.callers.remove(&name);
    }

    /// `load`: how the loader ends, if it is to be called, and how many steps before.
    fn call(&mut self, key: &Name, name: usize, kind: Kind, load: Option<(Ending, u8)>) -> Outcome<Told> {
        fn load_with<I: Iterator<Item = Op>, E: Failure>(
            game: &mut Game<'_, I>,
            name: usize,
            load: Option<(Ending, u8)>,
        ) -> Result<Value, E> {
            let (how, inside) = load.expect("it does not load");
            game.inside(name, inside);
            end(name, how, &game.site)
        }
        let cache = self.cache;
        outcome(|| match kind {
            Kind::Never => {
                let loader = || load_with(self, name, load).unwrap_or_else(|never: Infallible| match never {});
                Ok(cache.get_or_insert_with(key, loader).id)
            }
            Kind::A => told::<A>(cache.try_get_or_insert_with(key, || load_with(self, name, load))),
            Kind::B => told::<B>(cache.try_get_or_insert_with(key, || load_with(self, name, load))),
        })
    }

    fn inside(&mut self, name: usize, steps: u8) {
        let mut site = lock(&self.site);
        site.calls.push(name);
        self.model.flight(name).serial = site.serial;
        drop(site);
        self.depth += 1;
        self.check();
        if self.depth <= DEPTH {
            let _ = (0..steps % 8).all(|_| self.next_step());
        }
        self.depth -= 1;
    }

    fn check(&mut self) {
        {
            self.cache.validate();
            assert_eq!(self.cache.flights(), self.model.flights.len(), "how many flights there are");
        }
        let mut site = lock(&self.site);
        assert!(self.model.limits.need_a_clock() || site.clock_reads == 0, "the clock is read for nothing");
        // Before anything was stored nothing was over.
        site.seconds = 0;
        drop(site);
        let mut contents = Vec::new();
        self.cache.for_each(|key, value| contents.push(seen(key, value)));
        let expected = self.model.entries().map(|entry| (entry.key, entry.serial, entry.value));
        assert_eq!(contents, expected.collect::<Vec<_>>(), "what is in it, in order");
        assert_eq!(self.cache.len(), contents.len(), "len");
        assert_eq!(self.cache.is_empty(), contents.is_empty(), "is_empty");
        let weight: u128 = (0..self.model.shards.len()).map(|shard| self.model.load_of(shard)).sum();
        assert_eq!(u128::from(self.cache.weight()), weight, "weight");
        assert_eq!(self.cache.capacity(), self.model.capacity, "capacity");
        assert_eq!(self.cache.stats(), self.model.stats, "stats");
        let woken = mem::take(&mut *self.log.lock().expect("nothing panics under this lock"));
        assert_eq!(woken, mem::take(&mut self.model.woken), "who was woken");

        let mut site = lock(&self.site);
        site.seconds = self.model.now;
        assert_eq!(mem::take(&mut site.reports), mem::take(&mut self.model.reports), "what was reported");
        assert_eq!(mem::take(&mut site.calls), mem::take(&mut self.model.calls), "whose loaders were begun");
        let known = &self.model.callers;
        let leads = |name: &usize| known.get(name).is_some_and(|caller| matches!(caller.stage, Stage::Leads(_)));
        for (name, job) in &site.jobs {
            assert_eq!(job.lives, leads(name), "whether the loader of caller {name} lives");
        }
        site.jobs.retain(|name, _| known.contains_key(name));
        let flights = self.model.flights.values();
        let mut alive = [contents.len(); 3];
        alive[What::Key as usize] += flights.clone().filter(|flight| flight.registered).count();
        alive[What::Value as usize] += flights.filter(|flight| flight.carries).count();
        let error = |caller: &Caller| if let Stage::Fails(_, error) = caller.stage { Some(error) } else { None };
        let mut errors: Vec<_> = known.values().filter_map(error).collect();
        errors.sort_unstable();
        errors.dedup();
        alive[What::Error as usize] = errors.len();
        assert_eq!(site.alive, alive, "how many keys, values and errors there are");
        drop(site);

        for (name, alarms) in &self.alarms {
            let caller = known.get(name);
            let held = caller.map_or([None; 2], |caller| [caller.waker, caller.job_waker]);
            let expected = [0, 1].map(|which| held.iter().filter(|&&held| held == Some(which)).count());
            assert_eq!(alarms.clones(), expected, "a waker is kept while somebody waits, and no longer");
        }
        self.alarms.retain(|name, _| known.contains_key(name));
    }

    /// Everybody goes home.
    fn end(mut self) {
        while !self.waiters.is_empty() {
            self.leave(self.waiters.len() / 2);
            self.check();
        }
        assert!(self.model.flights.is_empty());
    }
}

#[track_caller]
fn assert_entry(got: Outcome<Option<(Key, Value)>>, expected: Outcome<Option<Entry>>) {
    match (&got, expected) {
        (Outcome::Ready(None), Outcome::Ready(None)) | (Outcome::Panic, Outcome::Panic) => {}
        (Outcome::Ready(Some((key, value))), Outcome::Ready(Some(entry))) => {
            assert_eq!(seen(key, value), (entry.key, entry.serial, entry.value));
        }
        (_, expected) => panic!("the model says {expected:?}"),
    }
}

fn pick<T>(which: u8, among: &[T]) -> Option<usize> {
    (!among.is_empty()).then(|| usize::from(which) % among.len())
}

/// What was found once.
#[cfg(test)]
mod found {
    use super::*;

    const POLL: Op = Op::Poll { which: 0, waker: false };

    fn load(kind: Kind) -> Op {
        Op::Load { key: 0, kind, waker: false, later: 1 }
    }

    fn finish(how: Ending) -> Op {
        Op::Finish { which: 0, how }
    }

    /// Played with room for one entry.
    fn one<const N: usize>(ops: [Op; N]) {
        allow_expected_panics();
        start(&Rules { capacity: 1, listens: true, life: 9, idle: 9, ..Rules::default() }, ops.into_iter());
    }

    #[test]
    fn a_follower_given_an_error_clones_no_later_value() {
        let take_over = || Op::Poll { which: 1, waker: false };
        one([
            load(Kind::A),
            load(Kind::A),
            load(Kind::B),
            finish(Ending::Failure),
            POLL,
            take_over(),
            finish(Ending::Good(0)),
            take_over(),
            Op::CloneFails,
            POLL,
        ]);
    }
}
