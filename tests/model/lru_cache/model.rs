//! The model of the cache: for each shard a list of entries, the most recently used first. Counts are found by counting.

use std::collections::BTreeMap;
use std::mem;

use stanchion::{Cause, Stats};

use super::super::alarm::Woken;
use super::loads::{Caller, Load};
use super::operations::{Limits, Settings, after, own_ttl, weight};
use super::user_code::{Report, Seen};

/// The outcome of a call.
#[derive(Debug, PartialEq)]
pub(super) enum Outcome<T> {
    Pending,
    Ready(T),
    Panic,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) key: usize,
    pub(super) serial: u64,
    pub(super) value: usize,
    pub(super) weight: u64,
    pub(super) end: u64,
    pub(super) idle_end: u64,
}

/// The state of a cache and of its callers.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) capacity: usize,
    pub(super) shards: Vec<Vec<Entry>>,
    /// By key.
    pub(super) shard_of: Vec<usize>,
    pub(super) weighs: bool,
    pub(super) listens: bool,
    pub(super) limits: Limits,
    pub(super) now: u64,
    /// Of the last owned key. It comes from the cache, which may make keys in vain.
    pub(super) serial: u64,
    pub(super) stats: Stats,
    /// By name: a caller's name is its number.
    pub(super) callers: BTreeMap<usize, Caller>,
    /// By the caller that began it: each loads once at most.
    pub(super) loads: BTreeMap<usize, Load>,
    pub(super) reports: Vec<Report>,
    pub(super) calls: Vec<usize>,
    pub(super) woken: Woken,
    pub(super) next_clone_panics: bool,
    pub(super) next_report_panics: bool,
    /// User code has panicked in this call.
    pub(super) panics: bool,
}

impl Model {
    /// An empty cache, one second after the earliest time.
    pub(super) fn new(capacity: usize, shard_of: Vec<usize>, shards: usize, settings: &Settings) -> Self {
        Self {
            capacity,
            shards: vec![Vec::new(); shards],
            shard_of,
            weighs: settings.weighs,
            listens: settings.listens,
            limits: settings.limits(),
            now: 1,
            serial: 0,
            stats: Stats::default(),
            callers: BTreeMap::new(),
            loads: BTreeMap::new(),
            reports: Vec::new(),
            calls: Vec::new(),
            woken: Vec::new(),
            next_clone_panics: false,
            next_report_panics: false,
            panics: false,
        }
    }

    /// Returns the outcome of a call that returns this unless user code has panicked.
    pub(super) fn ends<T>(&mut self, with: T) -> Outcome<T> {
        if mem::take(&mut self.panics) { Outcome::Panic } else { Outcome::Ready(with) }
    }

    /// Clones a value, and returns true if that panics.
    pub(super) fn clone_panics(&mut self) -> bool {
        let panics = mem::take(&mut self.next_clone_panics);
        self.panics |= panics;
        panics
    }

    pub(super) fn share(&self, shard: usize) -> u128 {
        let (each, rest) = (self.capacity / self.shards.len(), self.capacity % self.shards.len());
        (each + usize::from(shard < rest)) as u128
    }

    pub(super) fn weight_of_shard(&self, shard: usize) -> u128 {
        self.shards[shard].iter().map(|entry| u128::from(entry.weight)).sum()
    }

    pub(super) fn weight(&self) -> u128 {
        (0..self.shards.len()).map(|shard| self.weight_of_shard(shard)).sum()
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.shards.iter().flatten()
    }

    pub(super) fn is_expired(&self, entry: &Entry) -> bool {
        entry.end.min(entry.idle_end) <= self.now
    }

    pub(super) fn report(&mut self, entry: Entry, cause: Cause) {
        let cause = if self.is_expired(&entry) { Cause::Expired } else { cause };
        match cause {
            Cause::Capacity => self.stats.evictions += 1,
            Cause::Expired => self.stats.expirations += 1,
            Cause::Removed => {}
        }
        if self.listens {
            self.reports.push((entry.key, entry.serial, entry.value, cause));
            self.panics |= mem::take(&mut self.next_report_panics);
        }
    }

    /// Returns the position of a key's entry in its shard. An expired entry is removed.
    pub(super) fn find_live(&mut self, key: usize) -> Option<usize> {
        let shard = self.shard_of[key];
        let at = self.shards[shard].iter().position(|entry| entry.key == key)?;
        if self.is_expired(&self.shards[shard][at]) {
            let entry = self.shards[shard].remove(at);
            self.report(entry, Cause::Expired);
            return None;
        }
        Some(at)
    }

    pub(super) fn take(&mut self, key: usize) -> Option<Entry> {
        let at = self.find_live(key)?;
        Some(self.shards[self.shard_of[key]].remove(at))
    }

    pub(super) fn refresh(&mut self, key: usize, at: usize) {
        let shard = &mut self.shards[self.shard_of[key]];
        let mut entry = shard.remove(at);
        entry.idle_end = after(self.now, self.limits.idle);
        shard.insert(0, entry);
    }

    pub(super) fn get(&mut self, key: usize) -> Outcome<Option<usize>> {
        let Some(at) = self.find_live(key) else {
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

    pub(super) fn peek(&mut self, key: usize) -> Outcome<Option<usize>> {
        let value = self.find_live(key).map(|at| self.shards[self.shard_of[key]][at].value);
        if value.is_some() {
            self.clone_panics();
        }
        self.ends(value)
    }

    pub(super) fn contains(&mut self, key: usize) -> Outcome<bool> {
        let is_found = self.find_live(key).is_some();
        self.ends(is_found)
    }

    /// Returns `None` if the weigher panics.
    pub(super) fn weigh(&mut self, weight: Option<u64>) -> Option<u64> {
        let weight = if self.weighs { weight } else { Some(1) };
        self.panics |= weight.is_none();
        weight
    }

    pub(super) fn is_stored(&self, key: usize, weight: u64, end: u64) -> bool {
        let share = self.share(self.shard_of[key]);
        share > 0 && u128::from(weight) <= share && end > self.now && self.limits.idle != Some(0)
    }

    /// Stores a value, and returns the one that it replaces.
    pub(super) fn store(&mut self, key: usize, serial: u64, value: usize, weight: u64, byte: u8) -> Option<usize> {
        let old = self.take(key);
        let Limits { ttl, idle, expire_after } = self.limits;
        let own_end = after(self.now, own_ttl(byte).filter(|_| expire_after));
        let end = after(self.now, ttl).min(own_end);
        if self.is_stored(key, weight, end) {
            self.make_room(self.shard_of[key], weight);
            let serial = old.map_or(serial, |old| old.serial);
            let idle_end = after(self.now, idle);
            self.shards[self.shard_of[key]].insert(0, Entry { key, serial, value, weight, end, idle_end });
            self.stats.insertions += u64::from(old.is_none());
        }
        old.map(|old| old.value)
    }

    pub(super) fn make_room(&mut self, shard: usize, weight: u64) {
        while self.weight_of_shard(shard) + u128::from(weight) > self.share(shard) {
            let oldest = self.shards[shard].pop().expect("there is room for it alone");
            self.report(oldest, Cause::Capacity);
        }
    }

    pub(super) fn update(&mut self, key: usize, value: usize, byte: u8, panics: bool) -> Outcome<Option<usize>> {
        let Some(at) = self.find_live(key) else {
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

    pub(super) fn remove_if(&mut self, key: usize, answer: Option<bool>) -> Outcome<Option<usize>> {
        let found = self.find_live(key);
        self.panics |= found.is_some() && answer.is_none();
        let removed = found.filter(|_| answer == Some(true)).map(|at| self.shards[self.shard_of[key]].remove(at));
        self.ends(removed.map(|entry| entry.value))
    }

    pub(super) fn insert(&mut self, key: usize, value: usize, byte: u8) -> Outcome<Option<usize>> {
        let serial = self.serial;
        let Some(weight) = self.weigh(weight(byte)) else { return self.ends(None) };
        let load = self.registered(key);
        if let Some(load) = load {
            if !self.unserved(load).is_empty() && self.clone_panics() {
                return self.ends(None);
            }
            self.load(load).registered = false;
            self.publish(load, value);
        }
        let old = self.store(key, serial, value, weight, byte);
        self.ends(old)
    }

    pub(super) fn remove(&mut self, key: usize) -> Outcome<Option<Entry>> {
        if let Some(load) = self.registered(key) {
            self.invalidate(load);
        }
        let entry = self.take(key);
        self.ends(entry)
    }

    pub(super) fn pop_lru(&mut self) -> Outcome<Option<Entry>> {
        let mut popped = None;
        for shard in 0..self.shards.len() {
            while let Some(entry) = self.shards[shard].pop() {
                if !self.is_expired(&entry) {
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

    pub(super) fn clear(&mut self) -> Outcome<()> {
        for shard in 0..self.shards.len() {
            for entry in mem::take(&mut self.shards[shard]) {
                self.report(entry, Cause::Removed);
            }
            self.invalidate_all(shard);
        }
        self.ends(())
    }

    pub(super) fn live_entries(&self, shard: usize) -> Vec<Entry> {
        self.shards[shard].iter().copied().filter(|entry| !self.is_expired(entry)).collect()
    }

    /// Returns the entries that the predicate was called for. It may panic at the last one.
    pub(super) fn retain(
        &mut self,
        keep: impl Fn(usize) -> bool,
        panics_at: Option<usize>,
    ) -> (Vec<Seen>, Outcome<()>) {
        let mut seen = Vec::new();
        for shard in 0..self.shards.len() {
            for entry in self.live_entries(shard) {
                seen.push((entry.key, entry.serial, entry.value));
                if panics_at == Some(seen.len()) {
                    self.panics = true;
                    return (seen, self.ends(()));
                }
            }
            for entry in mem::take(&mut self.shards[shard]) {
                if !self.is_expired(&entry) && keep(entry.key) {
                    self.shards[shard].push(entry);
                } else {
                    self.report(entry, Cause::Removed);
                }
            }
            self.invalidate_all(shard);
        }
        (seen, self.ends(()))
    }

    /// Returns the entries that are visited. The visitor may panic at the last one.
    pub(super) fn visit(&mut self, panics_at: Option<usize>) -> (Vec<Seen>, Outcome<()>) {
        let live = (0..self.shards.len()).flat_map(|shard| self.live_entries(shard));
        let mut seen: Vec<_> = live.map(|entry| (entry.key, entry.serial, entry.value)).collect();
        if let Some(at) = panics_at.filter(|&at| at <= seen.len()) {
            self.panics = true;
            seen.truncate(at);
        }
        (seen, self.ends(()))
    }

    pub(super) fn list(&mut self) -> Outcome<Vec<Seen>> {
        let (seen, _) = self.visit(None);
        if !seen.is_empty() {
            self.clone_panics();
        }
        self.ends(seen)
    }

    pub(super) fn set_capacity(&mut self, capacity: usize) -> Outcome<()> {
        self.capacity = capacity;
        for shard in 0..self.shards.len() {
            while self.weight_of_shard(shard) > self.share(shard) || self.share(shard) == 0 {
                let Some(oldest) = self.shards[shard].pop() else { break };
                self.report(oldest, Cause::Capacity);
            }
        }
        self.ends(())
    }
}
